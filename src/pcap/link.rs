// SPDX-License-Identifier: MIT OR Apache-2.0
//! Link-layer headers of captures: where the packet that the parser understands begins. Pure.
//!
//! Numbers and layouts: <https://www.tcpdump.org/linktypes.html>.
use std::fmt;

/// How the frames of a capture begin: its link-layer header type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LinkType {
    /// BSD loopback (0): an address family in the capturing host's byte order.
    Null,
    /// Ethernet (1).
    Ethernet,
    /// PPP (9), with or without HDLC address and control bytes.
    Ppp,
    /// PPP in HDLC-like framing (50), also with Cisco's header.
    PppSerial,
    /// PPP over Ethernet (51), from its session header on.
    PppEther,
    /// IPv4 or IPv6 (101; 12 and 14 in files of some BSDs): the version nibble says which.
    Raw,
    /// Cisco HDLC (104).
    CiscoHdlc,
    /// OpenBSD loopback (108): an address family in network byte order.
    Loop,
    /// Linux "any" (113).
    LinuxSll,
    /// IPv4 (228).
    Ipv4,
    /// IPv6 (229).
    Ipv6,
    /// Linux "any", version 2 (276).
    LinuxSll2,
    /// A header that tmon does not read; its frames are [`Body::NonIp`].
    Unknown(u16),
}

const IPV4: u16 = 0x0800; // EtherTypes
const IPV6: u16 = 0x86dd;
const PPPOE_SESSION: u16 = 0x8864;
const LEAST_ETHERTYPE: u16 = 0x0600; // below it the field is a length or a number of another kind

impl LinkType {
    /// The type with this number in a capture file.
    pub fn from_number(n: u16) -> Self {
        match n {
            0 => LinkType::Null,
            1 => LinkType::Ethernet,
            9 => LinkType::Ppp,
            12 | 14 | 101 => LinkType::Raw,
            50 => LinkType::PppSerial,
            51 => LinkType::PppEther,
            104 => LinkType::CiscoHdlc,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            228 => LinkType::Ipv4,
            229 => LinkType::Ipv6,
            276 => LinkType::LinuxSll2,
            n => LinkType::Unknown(n),
        }
    }

    /// What a frame of this type carries. Reads only the link header; whatever `data` holds, this
    /// neither fails nor looks further.
    pub fn body(self, data: &[u8]) -> Body<'_> {
        match self {
            LinkType::Ethernet if data.len() < 14 => Body::Truncated,
            LinkType::Ethernet => Body::Ethernet(data),
            LinkType::Raw if data.is_empty() => Body::Truncated,
            LinkType::Raw => Body::Ip(data),
            LinkType::Ipv4 => Body::Typed { ethertype: IPV4, payload: data },
            LinkType::Ipv6 => Body::Typed { ethertype: IPV6, payload: data },
            LinkType::PppEther => Body::Typed { ethertype: PPPOE_SESSION, payload: data },
            LinkType::Null | LinkType::Loop => loopback(data),
            LinkType::LinuxSll => sll(data),
            LinkType::LinuxSll2 => sll2(data),
            LinkType::Ppp => ppp(data),
            LinkType::PppSerial => match data.first() {
                // RFC 1662's "all stations" means PPP; else it is Cisco's address byte
                Some(0xff) | None => ppp(data),
                Some(_) => typed(data, 2, 4),
            },
            LinkType::CiscoHdlc => typed(data, 2, 4),
            LinkType::Unknown(_) => Body::NonIp,
        }
    }
}

impl fmt::Display for LinkType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LinkType::Null => f.pad("NULL"),
            LinkType::Ethernet => f.pad("Ethernet"),
            LinkType::Ppp => f.pad("PPP"),
            LinkType::PppSerial => f.pad("PPP_HDLC"),
            LinkType::PppEther => f.pad("PPP_ETHER"),
            LinkType::Raw => f.pad("RAW"),
            LinkType::CiscoHdlc => f.pad("C_HDLC"),
            LinkType::Loop => f.pad("LOOP"),
            LinkType::LinuxSll => f.pad("LINUX_SLL"),
            LinkType::Ipv4 => f.pad("IPV4"),
            LinkType::Ipv6 => f.pad("IPV6"),
            LinkType::LinuxSll2 => f.pad("LINUX_SLL2"),
            LinkType::Unknown(n) => f.pad(&format!("link type {n}")),
        }
    }
}

/// What a frame carries, in the forms the parser has an entry for. The slice is always the rest of
/// the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A whole Ethernet frame, at least its header.
    Ethernet(&'a [u8]),
    /// An IP packet, of the version that its first nibble says.
    Ip(&'a [u8]),
    /// What the link header says follows it, as an EtherType (IPv4 and IPv6, tags, MPLS, PPPoE ...).
    Typed {
        /// An EtherType: 0x0600 or more.
        ethertype: u16,
        /// What follows the link header; may be empty.
        payload: &'a [u8],
    },
    /// Nothing that could be IP.
    NonIp,
    /// The capture ends inside the link header.
    Truncated,
}

impl<'a> Body<'a> {
    /// The bytes that the parser is to see, if there are any.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Body::Ethernet(b) | Body::Ip(b) | Body::Typed { payload: b, .. } => b,
            Body::NonIp | Body::Truncated => &[],
        }
    }
}

fn be16(data: &[u8], at: usize) -> Option<u16> {
    data.get(at..)?.first_chunk().map(|b| u16::from_be_bytes(*b))
}

/// A header of `len` bytes with an EtherType at `at`.
fn typed(data: &[u8], at: usize, len: usize) -> Body<'_> {
    match (be16(data, at), data.get(len..)) {
        (Some(ethertype), Some(payload)) if ethertype >= LEAST_ETHERTYPE => {
            Body::Typed { ethertype, payload }
        }
        (Some(_), Some(_)) => Body::NonIp,
        _ => Body::Truncated,
    }
}

fn loopback(data: &[u8]) -> Body<'_> {
    let Some((family, payload)) = data.split_first_chunk() else { return Body::Truncated };
    // No family is above 0xffff, so a number that is tells the other byte order.
    let family = match u32::from_be_bytes(*family) {
        n if n > 0xffff => n.swap_bytes(),
        n => n,
    };
    match family {
        2 => Body::Typed { ethertype: IPV4, payload },
        // NetBSD and OpenBSD, FreeBSD, Darwin; Linux where a capture was converted
        24 | 28 | 30 | 10 => Body::Typed { ethertype: IPV6, payload },
        _ => Body::NonIp,
    }
}

/// Whether frames of this Linux device type carry an EtherType in the cooked header: not netlink,
/// frame relay or 802.11.
fn has_ethertype(arphrd: u16) -> bool {
    !matches!(arphrd, 824 | 770 | 801..=803)
}

fn sll(data: &[u8]) -> Body<'_> {
    match be16(data, 2) {
        Some(arphrd) if data.len() >= 16 && !has_ethertype(arphrd) => Body::NonIp,
        _ => typed(data, 14, 16),
    }
}

fn sll2(data: &[u8]) -> Body<'_> {
    match be16(data, 8) {
        Some(arphrd) if data.len() >= 20 && !has_ethertype(arphrd) => Body::NonIp,
        _ => typed(data, 0, 20),
    }
}

fn ppp(data: &[u8]) -> Body<'_> {
    let data = data.strip_prefix(&[0xff, 0x03]).unwrap_or(data);
    let (protocol, payload) = match data {
        // RFC 1661 section 6.5: an odd first byte is a compressed protocol field.
        [p, payload @ ..] if p & 1 == 1 => (u16::from(*p), payload),
        [high, low, payload @ ..] => (u16::from_be_bytes([*high, *low]), payload),
        _ => return Body::Truncated,
    };
    let ethertype = match protocol {
        0x0021 => IPV4,
        0x0057 => IPV6,
        0x0281 => 0x8847, // MPLS unicast
        0x0283 => 0x8848, // MPLS multicast
        _ => return Body::NonIp,
    };
    Body::Typed { ethertype, payload }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: [u8; 3] = [0x45, 0, 0];

    fn with(header: &[u8]) -> Vec<u8> {
        [header, &P].concat()
    }

    fn sll_header(arphrd: u16, protocol: u16) -> Vec<u8> {
        let mut h = vec![0, 0];
        h.extend(arphrd.to_be_bytes());
        h.extend([0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
        h.extend(protocol.to_be_bytes());
        h
    }

    fn sll2_header(arphrd: u16, protocol: u16) -> Vec<u8> {
        let mut h = protocol.to_be_bytes().to_vec();
        h.extend([0, 0, 0, 0, 0, 3]);
        h.extend(arphrd.to_be_bytes());
        h.extend([0, 6, 2, 0, 0, 0, 0, 1, 0, 0]);
        h
    }

    /// Link number, header, what follows it (`None`: not IP).
    fn table() -> Vec<(u16, Vec<u8>, Option<u16>)> {
        vec![
            (228, vec![], Some(IPV4)),
            (229, vec![], Some(IPV6)),
            (51, vec![], Some(0x8864)),
            (0, vec![2, 0, 0, 0], Some(IPV4)),
            (0, vec![0, 0, 0, 2], Some(IPV4)),
            (0, vec![30, 0, 0, 0], Some(IPV6)),
            (0, vec![7, 0, 0, 0], None),
            (108, vec![0, 0, 0, 24], Some(IPV6)),
            (108, vec![0, 0, 0, 28], Some(IPV6)),
            (113, sll_header(1, 0x0800), Some(IPV4)),
            (113, sll_header(1, 0x8100), Some(0x8100)),
            (113, sll_header(1, 0x0004), None),
            (113, sll_header(824, 0x0800), None),
            (276, sll2_header(1, 0x86dd), Some(IPV6)),
            (276, sll2_header(803, 0x0800), None),
            (276, sll2_header(1, 0x0001), None),
            (9, vec![0xff, 0x03, 0x00, 0x21], Some(IPV4)),
            (9, vec![0x00, 0x57], Some(IPV6)),
            (9, vec![0x21], Some(IPV4)),
            (9, vec![0x02, 0x81], Some(0x8847)),
            (9, vec![0xc0, 0x21], None),
            (50, vec![0xff, 0x03, 0x00, 0x57], Some(IPV6)),
            (50, vec![0x0f, 0x00, 0x08, 0x00], Some(IPV4)),
            (104, vec![0x8f, 0x00, 0x88, 0x47], Some(0x8847)),
            (104, vec![0x0f, 0x00, 0x00, 0x05], None),
        ]
    }

    #[test]
    fn each_link_type_says_what_follows() {
        for (link, header, ethertype) in table() {
            let frame = with(&header);
            let expected =
                ethertype.map_or(Body::NonIp, |ethertype| Body::Typed { ethertype, payload: &P });
            assert_eq!(
                LinkType::from_number(link).body(&frame),
                expected,
                "link {link}, header {header:02x?}"
            );
        }
        let eth = [0; 14];
        assert_eq!(LinkType::Ethernet.body(&eth), Body::Ethernet(&eth));
        for raw in [12, 14, 101] {
            assert_eq!(LinkType::from_number(raw).body(&P), Body::Ip(&P));
        }
        assert_eq!(LinkType::from_number(105).body(&eth), Body::NonIp);
        assert_eq!(LinkType::from_number(105).to_string(), "link type 105");
    }

    #[test]
    fn a_cut_link_header_is_truncated_and_never_something_else() {
        for (link, header, _) in table() {
            for n in 0..header.len() {
                // PPP's two forms may be prefixes of each other: then the shorter one is not IP.
                let body = LinkType::from_number(link).body(&header[..n]);
                assert!(
                    matches!(body, Body::Truncated | Body::NonIp),
                    "link {link}, {:02x?}: {body:?}",
                    &header[..n]
                );
                assert!(
                    matches!(link, 9 | 50) || body == Body::Truncated,
                    "link {link}, {n} bytes: {body:?}"
                );
            }
        }
        for n in 0..14 {
            assert_eq!(LinkType::Ethernet.body(&[0; 14][..n]), Body::Truncated);
        }
        assert_eq!(LinkType::Raw.body(&[]), Body::Truncated);
    }
}
