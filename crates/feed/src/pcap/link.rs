// SPDX-License-Identifier: MIT OR Apache-2.0
//! Link-layer headers of captures: where the packet that the parser understands begins. No I/O.
//!
//! Numbers and layouts: <https://www.tcpdump.org/linktypes.html>.
use std::fmt;

use super::{OUTGOING, u16_at, u32_at};
use model::flow::Hook;

/// The link-layer header type of a capture's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
    /// IPv4 or IPv6 (101; 12 and 14 in files of some BSDs), told apart by the version nibble.
    Raw,
    /// Cisco HDLC (104).
    CiscoHdlc,
    /// IEEE 802.11 (105).
    Wifi,
    /// OpenBSD loopback (108): an address family in network byte order.
    Loop,
    /// Linux cooked capture, as on the "any" device (113).
    LinuxSll,
    /// IEEE 802.11 after a Prism header (119) or an AVS header (163; also seen as 119).
    WifiPrism,
    /// IEEE 802.11 after a radiotap header (127).
    WifiRadiotap,
    /// PPP after a byte with the direction (204).
    PppWithDirection,
    /// MPLS (219).
    Mpls,
    /// Solaris IP observability (226).
    Ipnet,
    /// IPv4 (228).
    Ipv4,
    /// IPv6 (229).
    Ipv6,
    /// Netfilter log messages (239).
    Nflog,
    /// Linux cooked capture, version 2 (276).
    LinuxSll2,
    /// A type that tmon does not support; its frames are [`Body::Unread`].
    Unknown(u16),
}

const IPV4: u16 = 0x0800; // EtherTypes
const IPV6: u16 = 0x86dd;
const PPPOE_SESSION: u16 = 0x8864;
const MPLS: u16 = 0x8847;
const LEAST_ETHERTYPE: u16 = 0x0600; // smaller values are lengths or numbers of other kinds

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
            105 => LinkType::Wifi,
            108 => LinkType::Loop,
            113 => LinkType::LinuxSll,
            119 | 163 => LinkType::WifiPrism,
            127 => LinkType::WifiRadiotap,
            204 => LinkType::PppWithDirection,
            219 => LinkType::Mpls,
            226 => LinkType::Ipnet,
            228 => LinkType::Ipv4,
            229 => LinkType::Ipv6,
            239 => LinkType::Nflog,
            276 => LinkType::LinuxSll2,
            n => LinkType::Unknown(n),
        }
    }

    /// The payload of a frame of this type. Parses only the link header; accepts any `data` and
    /// never fails.
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
                // RFC 1662's "all stations" address means PPP; otherwise it is Cisco's address byte
                Some(0xff) | None => ppp(data),
                Some(_) => typed(data, 2, 4),
            },
            LinkType::CiscoHdlc => typed(data, 2, 4),
            LinkType::PppWithDirection => data.get(1..).map_or(Body::Truncated, ppp),
            LinkType::Mpls => Body::Typed { ethertype: MPLS, payload: data },
            LinkType::Ipnet => ipnet(data),
            LinkType::Nflog => nflog(data).0,
            LinkType::Wifi => wifi(data, false),
            LinkType::WifiPrism => prism(data),
            LinkType::WifiRadiotap => radiotap(data),
            LinkType::Unknown(_) => Body::Unread,
        }
    }

    /// The interface (its index on the capturing host) and the direction, if the link header of
    /// this type has them.
    pub fn origin(self, data: &[u8]) -> (Option<u32>, Option<Hook>) {
        let way = |outgoing| Some(if outgoing { Hook::Tx } else { Hook::Rx });
        match (self, data) {
            (LinkType::LinuxSll, [0, packet, ..]) => (None, way(*packet == OUTGOING)),
            (LinkType::LinuxSll2, [_, _, _, _, a, b, c, d, _, _, packet, ..]) => {
                (Some(u32::from_be_bytes([*a, *b, *c, *d])), way(*packet == OUTGOING))
            }
            (LinkType::PppWithDirection, [sent, ..]) => (None, way(*sent != 0)),
            (LinkType::Ipnet, [_, _, 0, kind, _, _, _, _, a, b, c, d, ..]) => {
                (Some(u32::from_be_bytes([*a, *b, *c, *d])), way(*kind == 1))
            }
            (LinkType::Nflog, data) => nflog(data).1,
            _ => (None, None),
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
            LinkType::Wifi => f.pad("IEEE802_11"),
            LinkType::WifiPrism => f.pad("IEEE802_11_PRISM"),
            LinkType::WifiRadiotap => f.pad("IEEE802_11_RADIOTAP"),
            LinkType::PppWithDirection => f.pad("PPP_WITH_DIR"),
            LinkType::Mpls => f.pad("MPLS"),
            LinkType::Ipnet => f.pad("IPNET"),
            LinkType::Nflog => f.pad("NFLOG"),
            LinkType::Unknown(n) => match UNREAD.iter().find(|u| u.0 == *n) {
                Some((_, name)) => f.pad(&format!("link type {n} ({name})")),
                None => f.pad(&format!("link type {n}")),
            },
        }
    }
}

/// Link types that are captured in practice but not supported here.
const UNREAD: &[(u16, &str)] = &[
    (107, "Frame Relay"),
    (143, "DOCSIS"),
    (187, "Bluetooth"),
    (189, "USB"),
    (195, "IEEE 802.15.4"),
    (197, "ERF"),
    (201, "Bluetooth"),
    (220, "USB"),
    (227, "CAN"),
    (230, "IEEE 802.15.4"),
    (249, "USB"),
    (253, "netlink"),
    (254, "Bluetooth"),
    (258, "PKTAP"),
];

/// The payload of a frame, in the forms that the parser can start from. The slice always extends to
/// the end of the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// A whole Ethernet frame, at least its header.
    Ethernet(&'a [u8]),
    /// An IP packet; its first nibble is the version.
    Ip(&'a [u8]),
    /// A payload whose EtherType the link header gives (IPv4, IPv6, tags, MPLS, PPPoE ...).
    Typed {
        /// An EtherType: 0x0600 or more.
        ethertype: u16,
        /// What follows the link header; may be empty.
        payload: &'a [u8],
    },
    /// Nothing that could be IP.
    NonIp,
    /// Possibly IP, but in a form that tmon cannot read: an unknown link type, encrypted or
    /// aggregated 802.11, compressed headers.
    Unread,
    /// The capture ends inside the link header.
    Truncated,
}

impl<'a> Body<'a> {
    /// The bytes for the parser, if there are any.
    pub fn bytes(&self) -> &'a [u8] {
        match *self {
            Body::Ethernet(b) | Body::Ip(b) | Body::Typed { payload: b, .. } => b,
            Body::NonIp | Body::Unread | Body::Truncated => &[],
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
    if data.starts_with(&[0xff, 0x03]) {
        return ppp(data);
    }
    let Some((family, payload)) = data.split_first_chunk() else { return Body::Truncated };
    // No family exceeds 0xffff, so a larger number means the other byte order.
    let family = match u32::from_be_bytes(*family) {
        n if n > 0xffff => n.swap_bytes(),
        n => n,
    };
    match family {
        2 => Body::Typed { ethertype: IPV4, payload },
        // NetBSD and OpenBSD, FreeBSD, Darwin; Linux and Windows, if a capture was converted
        24 | 28 | 30 | 10 | 23 => Body::Typed { ethertype: IPV6, payload },
        // Some writers put an EtherType here.
        n => match u16::try_from(n) {
            Ok(ethertype @ LEAST_ETHERTYPE..) => Body::Typed { ethertype, payload },
            _ => Body::NonIp,
        },
    }
}

/// The payload after a Linux cooked header of a device of this ARPHRD type, by the EtherType at
/// `at`.
fn cooked(data: &[u8], arphrd: Option<u16>, at: usize, length: usize) -> Body<'_> {
    let Some(rest) = data.get(length..) else { return Body::Truncated };
    match arphrd {
        Some(824) => Body::NonIp,  // netlink
        Some(770) => Body::Unread, // frame relay
        Some(801) => wifi(rest, false),
        Some(802) => prism(rest),
        Some(803) => radiotap(rest),
        _ => typed(data, at, length),
    }
}

fn sll(data: &[u8]) -> Body<'_> {
    cooked(data, be16(data, 2), 14, 16)
}

fn sll2(data: &[u8]) -> Body<'_> {
    cooked(data, be16(data, 8), 0, 20)
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
        0x0281 => MPLS,
        0x0283 => 0x8848,                                         // MPLS multicast
        0x002d | 0x002f | 0x0061..=0x0069 => return Body::Unread, // compressed headers of TCP or IP
        _ => return Body::NonIp,
    };
    Body::Typed { ethertype, payload }
}

/// <https://www.tcpdump.org/linktypes/LINKTYPE_IPNET.html>
fn ipnet(data: &[u8]) -> Body<'_> {
    match (data.get(1), data.get(24..)) {
        (Some(2), Some(payload)) => Body::Typed { ethertype: IPV4, payload },
        (Some(26), Some(payload)) => Body::Typed { ethertype: IPV6, payload },
        (Some(_), Some(_)) => Body::NonIp,
        _ => Body::Truncated,
    }
}

/// Family, version and resource id, then attributes: length and type in the byte order of the
/// capturing host, values of <linux/netfilter/nfnetlink_log.h>. The payload is followed by padding
/// and, in some files, by more attributes; the IP length excludes them.
fn nflog(data: &[u8]) -> (Body<'_>, (Option<u32>, Option<Hook>)) {
    const HEADER: u16 = 1;
    const INDEV: u16 = 4;
    const OUTDEV: u16 = 5;
    const PAYLOAD: u16 = 9;
    let mut best = Body::Truncated;
    for big_endian in [false, true] {
        let (mut at, mut hook, mut indev, mut outdev) = (4, None, None, None);
        while let Some(head) = data.get(at..at + 4) {
            let [length, kind] = [0, 2].map(|at| u16_at(head, at, big_endian));
            if length < 4 {
                best = Body::NonIp;
                break;
            }
            let value = &data[at + 4..];
            match kind {
                HEADER => hook = value.get(2).copied(),
                INDEV if value.len() >= 4 => indev = Some(u32_at(value, 0, true)),
                OUTDEV if value.len() >= 4 => outdev = Some(u32_at(value, 0, true)),
                PAYLOAD => {
                    let body = match data[0] {
                        2 => Body::Typed { ethertype: IPV4, payload: value },
                        10 => Body::Typed { ethertype: IPV6, payload: value },
                        _ => Body::Unread,
                    };
                    // enum nf_inet_hooks: these hooks are on the outgoing path.
                    let out = matches!(hook, Some(3 | 4));
                    let direction = hook.map(|_| if out { Hook::Tx } else { Hook::Rx });
                    return (body, (if out { outdev } else { indev.or(outdev) }, direction));
                }
                _ => {}
            }
            at += usize::from(length).next_multiple_of(4);
        }
    }
    (best, (None, None))
}

/// An 802.11 frame (IEEE 802.11-2020 section 9.2.4): an unencrypted data frame with an LLC/SNAP
/// header.
fn wifi(data: &[u8], padded: bool) -> Body<'_> {
    if data.len() < 2 {
        return Body::Truncated;
    }
    let control = u16_at(data, 0, false);
    let (kind, subtype) = (control >> 2 & 3, control >> 4 & 15);
    if kind != 2 || subtype & 4 != 0 {
        return Body::NonIp; // management, control, or no data in it
    }
    let mut length = if control >> 8 & 3 == 3 { 30 } else { 24 };
    let mut aggregated = false;
    if subtype & 8 != 0 {
        let Some(qos) = data.get(length) else { return Body::Truncated };
        aggregated = qos & 0x80 != 0;
        length += if control & 0x8000 == 0 { 2 } else { 6 };
    }
    if padded {
        length = length.next_multiple_of(4);
    }
    let Some(sequence) = data.get(22) else { return Body::Truncated };
    if control & 0x4000 != 0 || aggregated || sequence & 15 != 0 {
        return Body::Unread; // encrypted, aggregated, or a later fragment
    }
    match data.get(length..length + 8) {
        // RFC 1042, and bridge-tunnel encapsulation (IEEE 802.1H)
        Some([0xaa, 0xaa, 3, 0, 0, 0 | 0xf8, ..]) => typed(data, length + 6, length + 8),
        Some(_) => Body::NonIp,
        None => Body::Truncated,
    }
}

/// <https://www.radiotap.org>. The flags field, if present, says whether the 802.11 header is
/// padded.
fn radiotap(data: &[u8]) -> Body<'_> {
    const TSFT: u32 = 1;
    const FLAGS: u32 = 2;
    const MORE: u32 = 1 << 31;
    if data.len() < 8 {
        return Body::Truncated;
    }
    let length = usize::from(u16_at(data, 2, false));
    let Some(frame) = data.get(length..) else { return Body::Truncated };
    let header = &data[..length];
    let mut at = 4;
    let present = u32_at(header, at, false);
    while at + 4 <= length && u32_at(header, at, false) & MORE != 0 {
        at += 4;
    }
    at += 4;
    if present & TSFT != 0 {
        at = at.next_multiple_of(8) + 8;
    }
    let flags = if present & FLAGS != 0 { header.get(at).copied().unwrap_or(0) } else { 0 };
    wifi(frame, flags & 0x20 != 0)
}

fn prism(data: &[u8]) -> Body<'_> {
    if data.len() < 8 {
        return Body::Truncated;
    }
    let length = if u32_at(data, 0, true) & 0xffff_f000 == 0x8021_1000 {
        u32_at(data, 4, true) // AVS
    } else {
        match u32_at(data, 4, false) {
            n if n > 0xffff => n.swap_bytes(), // of a big-endian host
            n => n,
        }
    };
    data.get(length as usize..).map_or(Body::Truncated, |frame| wifi(frame, false))
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

    /// An 802.11 header with this frame control and length, then LLC.
    fn wifi_header(control: u16, length: usize, ethertype: u16) -> Vec<u8> {
        let mut h = control.to_le_bytes().to_vec();
        h.resize(length, 0);
        h.extend([0xaa, 0xaa, 3, 0, 0, 0]);
        h.extend(ethertype.to_be_bytes());
        h
    }

    fn data() -> Vec<u8> {
        wifi_header(0x0108, 24, 0x0800)
    }

    /// Link type number, header, EtherType of the payload (`None`: not IP).
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
            (276, [&sll2_header(801, 0x0019)[..], &data()].concat(), Some(IPV4)),
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
            (0, vec![0x00, 0x08, 0x00, 0x00], Some(IPV4)), // an EtherType, in either byte order
            (0, vec![0x00, 0x00, 0x08, 0x00], Some(IPV4)),
            (0, vec![0xdd, 0x86, 0x00, 0x00], Some(IPV6)),
            (0, vec![0x00, 0x00, 0x86, 0xdd], Some(IPV6)),
            (0, vec![23, 0, 0, 0], Some(IPV6)),
            (204, vec![1, 0xff, 0x03, 0x00, 0x21], Some(IPV4)),
            (219, vec![], Some(0x8847)),
            (226, [&[1, 2][..], &[0; 22]].concat(), Some(IPV4)),
            (226, [&[1, 26][..], &[0; 22]].concat(), Some(IPV6)),
            (226, [&[1, 7][..], &[0; 22]].concat(), None),
            (239, vec![2, 0, 0, 5, 5, 0, 10, 0, b'x', 0, 0, 0, 7, 0, 9, 0], Some(IPV4)),
            (239, vec![10, 0, 0, 5, 0, 8, 0, 1, 0x86, 0xdd, 0, 0, 0, 7, 0, 9], Some(IPV6)),
            (105, wifi_header(0x0108, 24, 0x0800), Some(IPV4)),
            (105, wifi_header(0x0188, 26, 0x86dd), Some(IPV6)), // with QoS
            (105, wifi_header(0x8388, 36, 0x0800), Some(IPV4)), // four addresses, QoS, HT control
            (105, wifi_header(0x0080, 24, 0x0800), None),       // a beacon
            (105, wifi_header(0x0148, 24, 0x0800), None),       // null data
            (119, [&[0x44, 0, 0, 0, 144, 0, 0, 0][..], &[0; 136], &data()].concat(), Some(IPV4)),
            (
                163,
                [&[0x80, 0x21, 0x10, 1, 0, 0, 0, 64][..], &[0; 56], &data()].concat(),
                Some(IPV4),
            ),
            (127, [&[0, 0, 8, 0, 0, 0, 0, 0][..], &data()].concat(), Some(IPV4)),
            (
                127,
                // TSFT, flags and a second presence word; padding after the 802.11 header
                [
                    &[0, 0, 25, 0, 3, 0, 0, 0x80, 0, 0, 0, 0, 0, 0, 0, 0][..],
                    &[1, 2, 3, 4, 5, 6, 7, 8, 0x20],
                    &wifi_header(0x0188, 28, 0x0800),
                ]
                .concat(),
                Some(IPV4),
            ),
        ]
    }

    #[test]
    fn each_link_type_gives_the_network_protocol() {
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
        assert_eq!(LinkType::from_number(197).body(&eth), Body::Unread);
        assert_eq!(LinkType::from_number(197).to_string(), "link type 197 (ERF)");
        assert_eq!(LinkType::from_number(147).to_string(), "link type 147");
    }

    #[test]
    fn frames_that_may_hold_unreadable_ip_are_a_stop() {
        let encrypted = wifi_header(0x4108, 24, 0x0800);
        let mut aggregated = wifi_header(0x0188, 26, 0x0800);
        aggregated[24] = 0x80;
        let mut fragment = data();
        fragment[22] = 1;
        for (link, frame) in [
            (105, &encrypted[..]),
            (105, &aggregated),
            (105, &fragment),
            (9, &[0x00, 0x2d, 1, 2]),
            (239, &[7, 0, 0, 0, 4, 0, 9, 0]),
            (189, &[0; 64]),
        ] {
            assert_eq!(LinkType::from_number(link).body(frame), Body::Unread, "{link} {frame:x?}");
        }
    }

    #[test]
    fn interface_and_direction_come_from_the_link_header() {
        let sll = |packet| [&[0, packet][..], &sll_header(1, 0x0800)[2..]].concat();
        let mut sll2 = sll2_header(1, 0x0800);
        sll2[10] = OUTGOING;
        let nflog = |hook| {
            let mut frame = vec![2, 0, 0, 5, 8, 0, 1, 0, 8, 0, hook, 0];
            frame.extend([8, 0, 4, 0, 0, 0, 0, 2, 8, 0, 5, 0, 0, 0, 0, 3, 7, 0, 9, 0]);
            frame.extend(P);
            frame
        };
        let ipnet = |kind| [&[1, 2, 0, kind, 0, 0, 0, 0, 0, 0, 0, 5][..], &[0; 16]].concat();
        let (rx, tx) = (Some(Hook::Rx), Some(Hook::Tx));
        for (link, frame, origin) in [
            (113, sll(0), (None, rx)),
            (113, sll(2), (None, rx)),
            (113, sll(OUTGOING), (None, tx)),
            (276, sll2_header(1, 0x0800), (Some(3), rx)),
            (276, sll2, (Some(3), tx)),
            (204, vec![0, 0x21], (None, rx)),
            (204, vec![1, 0x21], (None, tx)),
            (226, ipnet(2), (Some(5), rx)),
            (226, ipnet(1), (Some(5), tx)),
            (239, nflog(1), (Some(2), rx)),
            (239, nflog(3), (Some(3), tx)),
            (1, vec![0; 14], (None, None)),
            (276, vec![8, 0], (None, None)),
        ] {
            assert_eq!(LinkType::from_number(link).origin(&frame), origin, "{link} {frame:x?}");
        }
    }

    #[test]
    fn a_truncated_link_header_is_only_ever_truncated() {
        for (link, header, follows) in table() {
            for n in 0..header.len() {
                // One form of PPP may be a prefix of the other: then the shorter one is not IP.
                let body = LinkType::from_number(link).body(&header[..n]);
                assert!(
                    matches!(body, Body::Truncated | Body::NonIp),
                    "link {link}, {:02x?}: {body:?}",
                    &header[..n]
                );
                assert!(
                    matches!(link, 9 | 50 | 204) || follows.is_none() || body == Body::Truncated,
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
