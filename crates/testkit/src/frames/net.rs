// SPDX-License-Identifier: MIT OR Apache-2.0
//! IP, its extension headers, and upper layers other than tunnels.
use std::net::{IpAddr, Ipv6Addr};

use super::{Ends, Fix, Frame, Layer, Name, Space, ends};

/// An unassigned protocol number (RFC 3692 experimental), for an IP header without a next layer.
pub(super) const NOTHING: u8 = 253;

/// Writes the addresses of an IP header in place.
pub(super) fn write_ends(bytes: &mut [u8], e: Ends) {
    match e {
        (IpAddr::V4(s), IpAddr::V4(d)) => {
            bytes[12..20].copy_from_slice(&[s.octets(), d.octets()].concat())
        }
        (IpAddr::V6(s), IpAddr::V6(d)) => {
            bytes[8..40].copy_from_slice(&[s.octets(), d.octets()].concat())
        }
        _ => panic!("{} and {} are not of one family", e.0, e.1),
    }
}

/// The sum of the pseudo header's words, RFC 793 and RFC 8200 section 8.1.
pub(super) fn pseudo(e: Ends, proto: u8, len: usize) -> u32 {
    let octets = |a: IpAddr| match a {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    let words = [octets(e.0), octets(e.1)].concat();
    words.chunks(2).map(|w| u32::from(u16::from_be_bytes([w[0], w[1]]))).sum::<u32>()
        + u32::from(proto)
        + len as u32
}

impl Frame {
    /// An IP header of the version of these addresses: `"source > destination"`.
    pub fn ip(self, text: &str) -> Self {
        self.ip_ends(ends(text))
    }

    /// An IP header between these addresses.
    pub fn ip_ends(self, e: Ends) -> Self {
        let layer = if e.0.is_ipv4() {
            Layer {
                shark: "ip",
                // version and ihl, tos, length, id, DF, ttl, protocol, checksum, addresses
                bytes: [&[0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, NOTHING, 0, 0][..], &[0; 8]].concat(),
                name: Name {
                    ether: Some(0x0800),
                    ip: Some(4),
                    ppp: Some(0x0021),
                    gpe: Some(1),
                    ..Name::default()
                },
                fixes: vec![
                    Fix::Next(9, Space::Ip),
                    Fix::Len { at: 2, from: 0 },
                    Fix::HeaderSum(10),
                ],
                ..Layer::default()
            }
        } else {
            Layer {
                shark: "ipv6",
                bytes: [&[0x60, 0, 0, 0, 0, 0, NOTHING, 64][..], &[0; 32]].concat(),
                name: Name {
                    ether: Some(0x86dd),
                    ip: Some(41),
                    ppp: Some(0x0057),
                    gpe: Some(2),
                    ..Name::default()
                },
                fixes: vec![Fix::Next(6, Space::Ip), Fix::Len { at: 4, from: 40 }],
                ..Layer::default()
            }
        };
        let mut layer = Layer { ends: Some(e), ..layer };
        write_ends(&mut layer.bytes, e);
        self.push(layer)
    }

    /// Appends IPv4 options to the last layer, an IPv4 header; a multiple of 4 bytes.
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        let layer = self.last();
        layer.bytes.extend(options);
        layer.bytes[0] = 0x40 | (layer.bytes.len() / 4) as u8;
        self
    }

    /// The protocol field of the last layer, an IP or extension header.
    pub fn proto(mut self, proto: u8) -> Self {
        let at = match self.last().bytes[0] >> 4 {
            _ if self.last().ends.is_none() => 0,
            4 => 9,
            _ => 6,
        };
        self.set(at, &[proto])
    }

    /// Makes the last layer, an IPv4 header, a fragment; the offset is in units of 8 bytes.
    pub fn frag(self, id: u16, offset: u16, more: bool) -> Self {
        self.set(4, &id.to_be_bytes()).set(6, &(u16::from(more) << 13 | offset).to_be_bytes())
    }

    /// The total length field of the last layer, an IPv4 header.
    pub fn total_length(self, n: u16) -> Self {
        self.set(2, &n.to_be_bytes())
    }

    fn extension(self, shark: &'static str, number: u8, body: &[u8]) -> Self {
        assert_eq!(body.len() % 8, 6, "an extension header is a multiple of 8 bytes");
        let bytes = [&[NOTHING, (body.len() / 8) as u8][..], body].concat();
        let name = Name { ip: Some(number), ..Name::default() };
        self.push(Layer {
            shark,
            bytes,
            name,
            fixes: vec![Fix::Next(0, Space::Ip)],
            ..Layer::default()
        })
    }

    /// Hop-by-hop options: `units` more than 8 bytes of padding.
    pub fn hopopts(self, units: usize) -> Self {
        self.extension("ipv6.hopopts", 0, &padding(6 + 8 * units))
    }

    /// Destination options: `units` more than 8 bytes of padding.
    pub fn dstopts(self, units: usize) -> Self {
        self.extension("ipv6.dstopts", 60, &padding(6 + 8 * units))
    }

    /// A routing header of any type with one address.
    pub fn routing(self, kind: u8, left: u8) -> Self {
        let body = [&[kind, left, 0, 0, 0, 0][..], &Ipv6Addr::LOCALHOST.octets()].concat();
        self.extension("ipv6.routing", 43, &body).by_way_of(left, Ipv6Addr::LOCALHOST)
    }

    fn by_way_of(mut self, left: u8, last: Ipv6Addr) -> Self {
        self.last().destination = (left > 0).then_some(IpAddr::V6(last));
        self
    }

    /// A segment routing header, RFC 8754, of `n` segments.
    pub fn srh(self, n: u8, left: u8) -> Self {
        let mut body = vec![4, left, n - 1, 0, 0, 0];
        let segment = |i: u8| Ipv6Addr::new(0x2001, 0xdb8, 0xfff, 0, 0, 0, 0, u16::from(i) + 1);
        for i in 0..n {
            body.extend(segment(i).octets());
        }
        self.extension("ipv6.routing", 43, &body).by_way_of(left, segment(0))
    }

    /// An IPv6 fragment header. `proto` is the protocol of the fragmented packet.
    pub fn frag6(self, proto: u8, id: u32, offset: u16, more: bool) -> Self {
        let bytes =
            [&[proto, 0][..], &(offset << 3 | u16::from(more)).to_be_bytes(), &id.to_be_bytes()]
                .concat();
        let name = Name { ip: Some(44), ..Name::default() };
        self.push(Layer { shark: "ipv6.fraghdr", bytes, name, ..Layer::default() })
    }

    /// An IPv6 fragment header that fragments nothing (RFC 6946).
    pub fn atomic(self, id: u32) -> Self {
        let mut frame = self.frag6(NOTHING, id, 0, false);
        frame.last().fixes = vec![Fix::Next(0, Space::Ip)];
        frame
    }

    /// An authentication header with 12 bytes of integrity value, RFC 4302.
    pub fn ah(self, spi: u32) -> Self {
        let bytes = [&[NOTHING, 4, 0, 0][..], &spi.to_be_bytes(), &1u32.to_be_bytes(), &[0xa5; 12]]
            .concat();
        let name = Name { ip: Some(51), ..Name::default() };
        self.push(Layer {
            shark: "ah",
            bytes,
            name,
            fixes: vec![Fix::Next(0, Space::Ip)],
            ..Layer::default()
        })
    }

    /// ESP with an encrypted body of `n` bytes.
    pub fn esp(self, spi: u32, n: usize) -> Self {
        let bytes = [&spi.to_be_bytes()[..], &1u32.to_be_bytes()].concat();
        let name = Name { ip: Some(50), ..Name::default() };
        self.push(Layer { shark: "esp", bytes, name, ..Layer::default() }).payload(&vec![0xe5; n])
    }

    /// UDP. The ports determine the tunnel inside.
    pub fn udp(self, source: u16, destination: u16) -> Self {
        let bytes = [source.to_be_bytes(), destination.to_be_bytes(), [0; 2], [0; 2]].concat();
        let fixes = vec![Fix::Len { at: 4, from: 0 }, Fix::PseudoSum(6, 17)];
        self.push(Layer {
            shark: "udp",
            bytes,
            name: Name { ip: Some(17), ..Name::default() },
            fixes,
            transport: true,
            ..Layer::default()
        })
    }

    /// A TCP segment without options.
    pub fn tcp(self) -> Self {
        let bytes = [
            &[0xc0, 0x02, 0x1f, 0x90, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff][..],
            &[0; 4],
        ]
        .concat();
        let fixes = vec![Fix::PseudoSum(16, 6)];
        self.push(Layer {
            shark: "tcp",
            bytes,
            name: Name { ip: Some(6), ..Name::default() },
            fixes,
            transport: true,
            ..Layer::default()
        })
    }

    /// Appends TCP options to the last layer, a TCP header; a multiple of 4 bytes.
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        let layer = self.last();
        layer.bytes.extend(options);
        layer.bytes[12] = ((layer.bytes.len() / 4) << 4) as u8;
        self
    }

    /// An ICMP echo request, of the version of the IP header below.
    pub fn echo(self) -> Self {
        let (v4, v6) = ([8, 0], [128, 0]);
        self.icmp_header(v4, v6, [0, 1, 0, 1])
    }

    /// An ICMP destination unreachable; the quoted packet's layers follow.
    pub fn icmp_error(self) -> Self {
        self.icmp_header([3, 4], [2, 0], [0, 0, 5, 0xdc])
    }

    fn icmp_header(self, v4: [u8; 2], v6: [u8; 2], rest: [u8; 4]) -> Self {
        let below = self.layers.iter().rev().find_map(|l| l.ends);
        let (shark, number, [kind, code], sum) = match below {
            Some((IpAddr::V6(_), _)) => ("icmpv6", 58, v6, Fix::PseudoSum(2, 58)),
            _ => ("icmp", 1, v4, Fix::Sum(2)),
        };
        let bytes = [&[kind, code, 0, 0][..], &rest].concat();
        self.push(Layer {
            shark,
            bytes,
            name: Name { ip: Some(number), ..Name::default() },
            fixes: vec![sum],
            ..Layer::default()
        })
    }

    /// SCTP with a heartbeat chunk (the CRC32c is left zero: nothing here reads it).
    pub fn sctp(self) -> Self {
        let bytes =
            [&[0x0b, 0x59, 0x0b, 0x59, 0, 0, 0, 1, 0, 0, 0, 0][..], &[4, 0, 0, 8, 0, 1, 0, 4]]
                .concat();
        self.push(Layer {
            shark: "sctp",
            bytes,
            name: Name { ip: Some(132), ..Name::default() },
            ..Layer::default()
        })
    }
}

/// A PadN option of `n` bytes.
fn padding(n: usize) -> Vec<u8> {
    [&[1, (n - 2) as u8][..], &vec![0; n - 2]].concat()
}
