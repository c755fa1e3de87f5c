// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames described by their layers: `pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(54321, 4789).vxlan(7)...`
//!
//! A layer consists of its header's bytes and a list of fields to fill in when the layers after it
//! are known: the number of the next layer, lengths, checksums. [`Frame::bytes`] does that from the
//! last layer to the first. [`Frame::set`] makes a field wrong: it overrides what is filled in, and
//! checksums cover the wrong value, so that exactly one thing is wrong.
use std::net::IpAddr;

mod link;
mod net;
mod tunnel;
pub use tunnel::{
    CAPWAP_FRAGMENT, CAPWAP_KEEPALIVE, CAPWAP_MAC, CAPWAP_NATIVE, CAPWAP_WIRELESS, Gre, Gtp, L2tp,
};

/// The names that tshark gives to the layers that this builder makes.
pub const SHARK: &[&str] = &[
    "eth",
    "ieee8021ad",
    "vlan",
    "vntag",
    "etag",
    "ieee8021cb",
    "cmd",
    "hsr",
    "cfp",
    "llc",
    "arp",
    "mpls",
    "pppoes",
    "ppp",
    "ieee8021ah",
    "nsh",
    "ip",
    "ipv6",
    "ipv6.hopopts",
    "ipv6.dstopts",
    "ipv6.routing",
    "ipv6.fraghdr",
    "ah",
    "esp",
    "udp",
    "tcp",
    "icmp",
    "icmpv6",
    "sctp",
    "vxlan",
    "vxlan_gpe",
    "geneve",
    "gre",
    "erspan",
    "gtp",
    "teredo",
    "l2tp",
    "lisp-data",
    "etherip",
    "ayiya",
    "wg",
    "capwap.data",
    "wlan",
];

/// Source and destination.
pub type Ends = (IpAddr, IpAddr);

/// `"172.16.1.100 > 172.16.1.101"` as addresses.
pub fn ends(text: &str) -> Ends {
    let (a, b) =
        text.split_once(" > ").unwrap_or_else(|| panic!("'{text}' is not 'source > destination'"));
    let ip = |s: &str| s.trim().parse().unwrap_or_else(|e| panic!("'{s}' in '{text}': {e}"));
    (ip(a), ip(b))
}

/// The number spaces by which a header identifies the next one.
#[derive(Clone, Copy, Debug)]
enum Space {
    Ether,
    Ip,
    Ppp,
    /// VXLAN-GPE and NSH use the same numbers: 1 IPv4, 2 IPv6, 3 Ethernet, 4 NSH, 5 MPLS.
    Gpe,
}

/// How the layer below identifies a layer.
#[derive(Clone, Copy, Debug, Default)]
struct Name {
    ether: Option<u16>,
    ip: Option<u8>,
    ppp: Option<u16>,
    gpe: Option<u8>,
    /// 802.2: the Ethernet type field is a length.
    llc: bool,
}

/// A field to fill in when the rest of the frame is known.
#[derive(Clone, Copy, Debug)]
enum Fix {
    /// The next layer's number, at this offset.
    Next(usize, Space),
    /// Two bytes: the length from offset `from` of this layer to the end of the payload.
    Len { at: usize, from: usize },
    /// Internet checksum over this header alone.
    HeaderSum(usize),
    /// Internet checksum over this header and its payload.
    Sum(usize),
    /// Like `Sum`, with the pseudo header of the IP header below for this protocol.
    PseudoSum(usize, u8),
}

/// One header (or a payload).
#[derive(Clone, Debug, Default)]
struct Layer {
    /// Its name in tshark's `frame.protocols`; empty if tshark does not list it, `!` if it stops
    /// parsing here.
    shark: &'static str,
    bytes: Vec<u8>,
    name: Name,
    fixes: Vec<Fix>,
    /// Overrides: offset and bytes.
    set: Vec<(usize, Vec<u8>)>,
    /// An IP header's addresses.
    ends: Option<Ends>,
    /// A routing header's last segment, while there are segments left: checksums are for it.
    destination: Option<IpAddr>,
    /// TCP or UDP: segmentation repeats all headers up to and including the last of these.
    transport: bool,
}

/// A description of a packet.
#[derive(Clone, Debug, Default)]
pub struct Frame {
    layers: Vec<Layer>,
    /// Bytes after the packet that no length field covers: Ethernet padding.
    tail: Vec<u8>,
}

/// A packet without any layers yet.
pub fn pkt() -> Frame {
    Frame::default()
}

impl Frame {
    fn push(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    fn last(&mut self) -> &mut Layer {
        self.layers.last_mut().expect("a layer to change")
    }

    /// Overrides bytes of the last layer's header, instead of what would be filled in there.
    pub fn set(mut self, at: usize, bytes: &[u8]) -> Self {
        self.last().set.push((at, bytes.to_vec()));
        self
    }

    /// Any bytes: a payload, or an unknown header.
    pub fn payload(self, bytes: &[u8]) -> Self {
        self.push(Layer { bytes: bytes.to_vec(), ..Layer::default() })
    }

    /// `n` bytes of payload.
    pub fn data(self, n: usize) -> Self {
        let bytes: Vec<u8> = (0..n).map(|i| b'a' + (i % 23) as u8).collect();
        self.payload(&bytes)
    }

    /// `n` zero bytes at the end of the frame that no length field covers (Ethernet padding).
    pub fn pad(mut self, n: usize) -> Self {
        self.tail.extend(std::iter::repeat_n(0, n));
        self
    }

    /// This frame's layers, then those of `inside`.
    pub fn then(mut self, inside: Frame) -> Self {
        self.layers.extend(inside.layers);
        self.tail.extend(inside.tail);
        self
    }

    /// The reply: the source and destination of every IP header are swapped.
    pub fn reversed(&self) -> Self {
        let mut answer = self.clone();
        for layer in &mut answer.layers {
            if let Some((src, dst)) = layer.ends {
                layer.ends = Some((dst, src));
                net::write_ends(&mut layer.bytes, (dst, src));
            }
        }
        answer
    }

    /// The frame on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut all = self.from(0);
        all.extend(&self.tail);
        all
    }

    /// The length of all headers up to and including the last TCP or UDP header: what each segment
    /// repeats.
    pub fn headers(&self) -> usize {
        let last = self.layers.iter().rposition(|l| l.transport).expect("a transport header");
        self.layers[..=last].iter().map(|l| l.bytes.len()).sum()
    }

    /// The names that tshark gives these layers, outermost first, and whether it reads all of them.
    pub fn shark(&self) -> (Vec<&'static str>, bool) {
        let names = self.layers.iter().flat_map(|l| l.shark.split(':')).filter(|s| !s.is_empty());
        let all = names.clone().all(|s| s != "!");
        (names.take_while(|s| *s != "!").collect(), all)
    }

    /// Cuts the payload of the `nth` IP header (0: the outermost) into fragments of `size` bytes.
    pub fn fragments(&self, nth: usize, size: usize, id: u32) -> Vec<Frame> {
        assert_eq!(size % 8, 0, "a fragment's size is a multiple of 8");
        let at = self
            .layers
            .iter()
            .enumerate()
            .filter(|(_, l)| l.ends.is_some())
            .nth(nth)
            .expect("such an IP header")
            .0;
        let proto = self.layers.get(at + 1).and_then(|l| l.name.ip).unwrap_or(net::NOTHING);
        let body = self.from(at + 1);
        let mut frames = Vec::new();
        for (i, part) in body.chunks(size).enumerate() {
            let more = (i + 1) * size < body.len();
            let head = Frame { layers: self.layers[..=at].to_vec(), tail: self.tail.clone() };
            let offset = (i * size / 8) as u16;
            frames.push(if self.layers[at].ends.is_some_and(|e| e.0.is_ipv4()) {
                head.proto(proto).frag(id as u16, offset, more).payload(part)
            } else {
                head.frag6(proto, id, offset, more).payload(part)
            });
        }
        frames
    }

    /// The source and the last destination of the packet that layer `i` is in.
    fn ends_of(&self, i: usize) -> Option<Ends> {
        let mut destination = None;
        for layer in self.layers[..i].iter().rev() {
            destination = destination.or(layer.destination);
            if let Some((src, dst)) = layer.ends {
                return Some((src, destination.unwrap_or(dst)));
            }
        }
        None
    }

    /// The layers from `first` on, with everything filled in.
    fn from(&self, first: usize) -> Vec<u8> {
        let mut rest: Vec<u8> = Vec::new();
        for i in (first..self.layers.len()).rev() {
            let layer = &self.layers[i];
            let next = self.layers.get(i + 1).map_or(Name::default(), |l| l.name);
            let mut bytes = layer.bytes.clone();
            let header = bytes.len();
            bytes.append(&mut rest);
            for fix in &layer.fixes {
                match *fix {
                    Fix::Next(at, space) => put_next(&mut bytes, at, space, next, header),
                    Fix::Len { at, from } => {
                        let len = bytes.len() - from;
                        bytes[at..at + 2].copy_from_slice(&(len as u16).to_be_bytes());
                    }
                    Fix::HeaderSum(_) | Fix::Sum(_) | Fix::PseudoSum(..) => {}
                }
            }
            put_all(&mut bytes, &layer.set);
            for fix in &layer.fixes {
                let (at, sum) = match *fix {
                    Fix::HeaderSum(at) => (at, checksum(&bytes[..header], 0)),
                    Fix::Sum(at) => (at, checksum(&bytes, 0)),
                    Fix::PseudoSum(at, proto) => (
                        at,
                        checksum(
                            &bytes,
                            self.ends_of(i).map_or(0, |e| net::pseudo(e, proto, bytes.len())),
                        ),
                    ),
                    Fix::Next(..) | Fix::Len { .. } => continue,
                };
                // a UDP checksum of zero would mean that there is none
                let sum = if sum == 0 && matches!(fix, Fix::PseudoSum(..)) { 0xffff } else { sum };
                bytes[at..at + 2].copy_from_slice(&sum.to_be_bytes());
            }
            put_all(&mut bytes, &layer.set);
            rest = bytes;
        }
        rest
    }
}

fn put_all(bytes: &mut [u8], set: &[(usize, Vec<u8>)]) {
    for (at, field) in set {
        bytes[*at..at + field.len()].copy_from_slice(field);
    }
}

fn put_next(bytes: &mut [u8], at: usize, space: Space, next: Name, header: usize) {
    match space {
        Space::Ether => {
            let length = (bytes.len() - header) as u16;
            let number = if next.llc { Some(length) } else { next.ether };
            if let Some(n) = number {
                bytes[at..at + 2].copy_from_slice(&n.to_be_bytes());
            }
        }
        Space::Ppp => {
            if let Some(n) = next.ppp {
                bytes[at..at + 2].copy_from_slice(&n.to_be_bytes());
            }
        }
        Space::Ip => bytes[at] = next.ip.unwrap_or(bytes[at]),
        Space::Gpe => bytes[at] = next.gpe.unwrap_or(bytes[at]),
    }
}

/// Internet checksum (RFC 1071) over `bytes`, beginning with `sum`. The field itself must be zero.
fn checksum(bytes: &[u8], sum: u32) -> u16 {
    let mut sum = sum;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
