// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's L2TP version 3 sessions: the lengths of their headers, which packets do not
//! contain.
use std::collections::BTreeMap;

use anyhow::Result;
use netlink_packet_core::{parse_u8, parse_u16, parse_u32};

use super::Netlink;
use feed::config::{L2tp, Port};
use model::flow::Kind;

/// linux/l2tp.h
const L2TP_CMD_TUNNEL_GET: u8 = 4;
const L2TP_CMD_SESSION_GET: u8 = 8;
const L2TP_ATTR_PW_TYPE: u16 = 1;
const L2TP_ATTR_ENCAP_TYPE: u16 = 2;
const L2TP_ATTR_PROTO_VERSION: u16 = 7;
const L2TP_ATTR_CONN_ID: u16 = 9;
const L2TP_ATTR_COOKIE: u16 = 15;
const L2TP_ATTR_PEER_COOKIE: u16 = 16;
const L2TP_ATTR_UDP_SPORT: u16 = 26;
const L2TP_PWTYPE_ETH_VLAN: u16 = 4;
const L2TP_PWTYPE_ETH: u16 = 5;
const L2TP_ENCAPTYPE_IP: u16 = 1;

#[derive(Clone, Copy, Debug, Default)]
struct Tunnel {
    version: u8,
    connection: u32,
    over_ip: bool,
    port: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct Session {
    connection: u32,
    ethernet: bool,
    /// The length of the cookie in received packets, and in sent ones.
    cookies: [u8; 2],
}

/// What the kernel lists.
#[derive(Clone, Debug, Default)]
struct Listed {
    tunnels: Vec<Tunnel>,
    sessions: Vec<Session>,
}

impl Listed {
    /// An attribute of a tunnel. The version comes before the others in every object.
    fn tunnel(&mut self, kind: u16, value: &[u8]) {
        if kind == L2TP_ATTR_PROTO_VERSION {
            let version = parse_u8(value).unwrap_or(0);
            self.tunnels.push(Tunnel { version, ..Tunnel::default() });
        }
        let Some(tunnel) = self.tunnels.last_mut() else { return };
        match kind {
            L2TP_ATTR_CONN_ID => tunnel.connection = parse_u32(value).unwrap_or(0),
            L2TP_ATTR_ENCAP_TYPE => {
                tunnel.over_ip = parse_u16(value).is_ok_and(|e| e == L2TP_ENCAPTYPE_IP)
            }
            L2TP_ATTR_UDP_SPORT => tunnel.port = parse_u16(value).unwrap_or(0),
            _ => {}
        }
    }

    /// An attribute of a session. The connection comes before the others in every object; a session
    /// without a cookie has no attribute for it.
    fn session(&mut self, kind: u16, value: &[u8]) {
        if kind == L2TP_ATTR_CONN_ID {
            let connection = parse_u32(value).unwrap_or(0);
            self.sessions.push(Session { connection, ..Session::default() });
        }
        let Some(session) = self.sessions.last_mut() else { return };
        match kind {
            L2TP_ATTR_PW_TYPE => {
                let ethernet = [L2TP_PWTYPE_ETH, L2TP_PWTYPE_ETH_VLAN];
                session.ethernet = parse_u16(value).is_ok_and(|kind| ethernet.contains(&kind));
            }
            L2TP_ATTR_COOKIE => session.cookies[0] = value.len() as u8,
            L2TP_ATTR_PEER_COOKIE => session.cookies[1] = value.len() as u8,
            _ => {}
        }
    }

    /// The ports whose sessions all have the same headers in both directions. The table of ports
    /// has one answer for each port and for IP protocol 115; if sessions differ, none is right. The
    /// kernel does not list the sublayer, so it is assumed to be present, as it is by default.
    fn ports(&self) -> Vec<Port> {
        let mut cookies: BTreeMap<Option<u16>, Option<u8>> = BTreeMap::new();
        for session in &self.sessions {
            let own = |t: &&Tunnel| t.version == 3 && t.connection == session.connection;
            let Some(tunnel) = self.tunnels.iter().find(own) else { continue };
            let [received, sent] = session.cookies;
            let cookie =
                Some(received).filter(|c| session.ethernet && *c == sent && [0, 4, 8].contains(c));
            let port = (!tunnel.over_ip).then_some(tunnel.port);
            let known = cookies.entry(port).or_insert(cookie);
            *known = known.filter(|known| Some(*known) == cookie);
        }
        let port = |(port, cookie): (Option<u16>, Option<u8>)| {
            let l2tp = L2tp { cookie: cookie?, sublayer: true };
            match port {
                Some(0) => None, // its socket is gone
                Some(port) => Some(Port { l2tp: Some(l2tp), ..Port::of(Kind::L2tpv3, port) }),
                None => Some(Port::l2tp_over_ip(l2tp)),
            }
        };
        cookies.into_iter().filter_map(port).collect()
    }
}

impl Netlink {
    /// The UDP ports, with port 0 for IP protocol 115, on which the kernel has L2TP version 3
    /// sessions, and the parameters of their headers; none if the kernel does not have it loaded.
    /// Needs CAP_NET_ADMIN.
    pub fn l2tp_ports(&mut self) -> Result<Vec<Port>> {
        let mut listed = Listed::default();
        self.ask("l2tp", L2TP_CMD_TUNNEL_GET, None, |kind, value| listed.tunnel(kind, value))?;
        if !listed.tunnels.is_empty() {
            self.ask("l2tp", L2TP_CMD_SESSION_GET, None, |kind, value| {
                listed.session(kind, value);
            })?;
        }
        Ok(listed.ports())
    }
}

#[cfg(test)]
mod tests {
    use super::{super::generic::inside, *};

    /// An attribute as the kernel lays it out: length, type, value, padding to four bytes.
    fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut bytes = (4 + value.len() as u16).to_ne_bytes().to_vec();
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    /// A tunnel as `l2tp_nl_tunnel_send` writes it: over UDP from a port, or over IP.
    fn tunnel(version: u8, connection: u32, port: Option<u16>) -> Vec<u8> {
        let encapsulation = u16::from(port.is_none());
        let mut bytes = [
            attribute(L2TP_ATTR_PROTO_VERSION, &[version]),
            attribute(L2TP_ATTR_CONN_ID, &connection.to_ne_bytes()),
            attribute(10, &77u32.to_ne_bytes()), // the peer's connection
            attribute(17, &0u32.to_ne_bytes()),  // debug
            attribute(L2TP_ATTR_ENCAP_TYPE, &encapsulation.to_ne_bytes()),
            attribute(30 | 0x8000, &attribute(1, &[0; 8])), // statistics
        ]
        .concat();
        if let Some(port) = port {
            bytes.extend(attribute(13, &[1])); // checksums
            bytes.extend(attribute(L2TP_ATTR_UDP_SPORT, &port.to_ne_bytes()));
            bytes.extend(attribute(27, &1701u16.to_ne_bytes()));
        }
        bytes.extend(attribute(24, &[192, 0, 2, 1]));
        bytes
    }

    /// A session as `l2tp_nl_session_send` writes it.
    fn session(connection: u32, kind: u16, cookies: [usize; 2]) -> Vec<u8> {
        let mut bytes = [
            attribute(L2TP_ATTR_CONN_ID, &connection.to_ne_bytes()),
            attribute(11, &5u32.to_ne_bytes()), // the session
            attribute(10, &77u32.to_ne_bytes()),
            attribute(12, &6u32.to_ne_bytes()),
            attribute(17, &0u32.to_ne_bytes()),
            attribute(L2TP_ATTR_PW_TYPE, &kind.to_ne_bytes()),
            attribute(8, b"l2tpeth0\0"),
        ]
        .concat();
        for (kind, length) in [L2TP_ATTR_COOKIE, L2TP_ATTR_PEER_COOKIE].into_iter().zip(cookies) {
            if length > 0 {
                bytes.extend(attribute(kind, &[0xc0; 8][..length]));
            }
        }
        bytes.extend(attribute(18, &[0])); // sequence numbers on receipt
        bytes
    }

    fn ports(tunnels: &[Vec<u8>], sessions: &[Vec<u8>]) -> Vec<String> {
        let mut listed = Listed::default();
        inside(&tunnels.concat()).for_each(|a| listed.tunnel(a.kind(), a.value()));
        inside(&sessions.concat()).for_each(|a| listed.session(a.kind(), a.value()));
        listed.ports().iter().map(Port::to_string).collect()
    }

    #[test]
    fn sessions_reveal_the_length_of_their_cookies() {
        let tunnels = [tunnel(3, 1, Some(5000)), tunnel(3, 2, None), tunnel(3, 3, Some(1701))];
        let sessions = [session(1, 5, [8, 8]), session(2, 5, [4, 4]), session(3, 4, [0, 0])];
        assert_eq!(
            ports(&tunnels, &sessions),
            [
                "l2tpv3=0,cookie=4,sublayer=4",
                "l2tpv3=1701,cookie=0,sublayer=4",
                "l2tpv3=5000,cookie=8,sublayer=4"
            ]
        );
    }

    #[test]
    fn sessions_that_differ_on_a_port_yield_nothing() {
        let udp = || [tunnel(3, 1, Some(5000)), tunnel(3, 2, Some(5000))];
        let of = |sessions: &[Vec<u8>]| ports(&udp(), sessions).len();
        assert_eq!(of(&[session(1, 5, [4, 4]), session(2, 5, [4, 4])]), 1, "they agree");
        assert_eq!(of(&[session(1, 5, [4, 4]), session(2, 5, [8, 8])]), 0, "two lengths");
        assert_eq!(of(&[session(1, 5, [4, 8])]), 0, "one length each way");
        assert_eq!(of(&[session(1, 7, [4, 4])]), 0, "PPP inside");
        assert_eq!(of(&[session(9, 5, [4, 4])]), 0, "of no tunnel that is listed");
        assert_eq!(ports(&[tunnel(2, 1, Some(5000))], &[session(1, 5, [0, 0])]).len(), 0);
        assert_eq!(ports(&[], &[]).len(), 0);
    }

    #[test]
    fn an_incomplete_session_is_ignored() {
        let (whole, session) = (tunnel(3, 1, Some(5000)), [session(1, 5, [8, 8])]);
        let all = ports(std::slice::from_ref(&whole), &session);
        assert_eq!(all.len(), 1);
        for end in 0..whole.len() {
            let cut = ports(&[whole[..end].to_vec()], &session);
            assert!(cut.is_empty() || cut == all, "{end}: {cut:?}");
        }
    }
}
