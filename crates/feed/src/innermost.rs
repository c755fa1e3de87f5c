// SPDX-License-Identifier: MIT OR Apache-2.0
//! The innermost headers of a packet.
use model::filter::InnerPacket;
use native::Way;

/// The properties that packet filters use.
pub(crate) fn inner_packet(way: &Way, data: &[u8]) -> InnerPacket {
    let ip = way.levels().last().and_then(|level| data.get(level.ip()?..));
    let dscp = match ip {
        Some([first, tos, ..]) if first >> 4 == 4 => Some(tos >> 2),
        Some([first, second, ..]) => Some(((first & 15) << 4 | second >> 4) >> 2),
        _ => None,
    };
    let transport = way.transport();
    let bytes = transport
        .filter(|t| !t.later)
        .and_then(|t| data.get(t.off..t.end.min(data.len())).map(|bytes| (t.ip_proto, bytes)));
    let ports = match bytes {
        Some((6 | 17 | 33 | 132 | 136, [a, b, c, d, ..])) => {
            Some([u16::from_be_bytes([*a, *b]), u16::from_be_bytes([*c, *d])])
        }
        _ => None,
    };
    let tcp_flags = bytes.filter(|(proto, _)| *proto == 6).and_then(|(_, b)| b.get(13).copied());
    InnerPacket { dscp, l4: transport.map(|t| t.ip_proto), ports, tcp_flags }
}
