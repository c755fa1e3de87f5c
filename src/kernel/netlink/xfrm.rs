// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes of IPsec's associations and policies (linux/xfrm.h), only as far as needed to describe
//! them in a few words, so that no further crate is needed.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, protocols::NETLINK_XFRM};

/// Multicast groups: expiry, associations, policies.
const GROUPS: [u32; 3] = [2, 3, 4];
const NEWSA: u16 = 0x10;
const DELSA: u16 = 0x11;
const NEWPOLICY: u16 = 0x13;
const DELPOLICY: u16 = 0x14;
const EXPIRE: u16 = 0x18;
const UPDPOLICY: u16 = 0x19;
const UPDSA: u16 = 0x1a;
const FLUSHSA: u16 = 0x1c;
const FLUSHPOLICY: u16 = 0x1d;
/// The size of a selector, which begins a policy, and the offset of the family in it.
const SELECTOR: usize = 56;
const SELECTOR_FAMILY: usize = 40;
/// The offset of an association's family.
const FAMILY: usize = 212;

/// A change of IPsec's configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct XfrmChange {
    /// What happened, in a few words.
    pub text: String,
    /// The endpoint that an association leads to.
    pub address: Option<IpAddr>,
}

/// Listens in the calling thread's network namespace: needs CAP_NET_ADMIN, and a kernel with IPsec.
pub(super) fn listen() -> io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_XFRM)?;
    socket.bind_auto()?;
    socket.set_non_blocking(true)?;
    for group in GROUPS {
        socket.add_membership(group)?;
    }
    Ok(socket)
}

/// The change that a message reports, if it is relevant.
pub(super) fn change(message: &[u8]) -> Option<XfrmChange> {
    let head = NetlinkBuffer::new_checked(&message).ok()?;
    let body = head.payload();
    let all = |text: &str| Some(XfrmChange { text: text.to_owned(), address: None });
    let association = |at: usize, family: usize, what: &str| {
        let to = address(body.get(at..at + 16)?, number(body, family)?)?;
        let spi = u32::from_be_bytes(body.get(at + 16..at + 20)?.try_into().ok()?);
        let protocol = match body.get(if at == 0 { 22 } else { at + 20 })? {
            50 => "ESP",
            51 => "AH",
            108 => "IPComp",
            _ => "IPsec",
        };
        let text = format!("{protocol} {spi:#010x} to {to} {what}");
        Some(XfrmChange { text, address: Some(to) })
    };
    let policy = |what: &str| {
        let family = number(body, SELECTOR_FAMILY)?;
        let [to, from] = [address(body.get(..16)?, family)?, address(body.get(16..32)?, family)?];
        let [to_prefix, from_prefix] = [*body.get(42)?, *body.get(43)?];
        let text = format!("an IPsec policy for {from}/{from_prefix} to {to}/{to_prefix} {what}");
        Some(XfrmChange { text, address: None })
    };
    match head.message_type() {
        NEWSA => association(SELECTOR, FAMILY, "is new"),
        UPDSA => association(SELECTOR, FAMILY, "is another"),
        EXPIRE => association(SELECTOR, FAMILY, "expires"),
        DELSA => association(0, 20, "is gone"),
        NEWPOLICY => policy("is new"),
        UPDPOLICY => policy("is another"),
        DELPOLICY => policy("is gone"),
        FLUSHSA => all("all IPsec associations are gone"),
        FLUSHPOLICY => all("all IPsec policies are gone"),
        _ => None,
    }
}

fn number(body: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(body.get(at..at + 2)?.try_into().ok()?))
}

fn address(bytes: &[u8], family: u16) -> Option<IpAddr> {
    match i32::from(family) {
        libc::AF_INET => Some(Ipv4Addr::from(<[u8; 4]>::try_from(bytes.get(..4)?).ok()?).into()),
        libc::AF_INET6 => Some(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message as the kernel lays it out, with these bytes at these places.
    fn message(kind: u16, size: usize, parts: &[(usize, &[u8])]) -> Vec<u8> {
        let mut bytes = vec![0; 16 + size];
        bytes[..4].copy_from_slice(&(16 + size as u32).to_ne_bytes());
        bytes[4..6].copy_from_slice(&kind.to_ne_bytes());
        for (at, part) in parts {
            bytes[16 + at..16 + at + part.len()].copy_from_slice(part);
        }
        bytes
    }

    #[test]
    fn changes_are_described_in_words() {
        let (v4, v6) = (2u16.to_ne_bytes(), 10u16.to_ne_bytes());
        let (to, from, spi) = ([10, 0, 0, 2], [10, 0, 0, 1], 0xc0deu32.to_be_bytes());
        let own: [(usize, &[u8]); 4] = [(56, &to), (72, &spi), (76, &[50]), (212, &v4)];
        let says = |kind, size, parts: &[(usize, &[u8])]| {
            change(&message(kind, size, parts)).map(|c| c.text)
        };
        let new = change(&message(NEWSA, 224, &own));
        let text = "ESP 0x0000c0de to 10.0.0.2 is new".to_owned();
        assert_eq!(new, Some(XfrmChange { text, address: Some(to.into()) }));
        let over = says(EXPIRE, 232, &own);
        assert_eq!(over.as_deref(), Some("ESP 0x0000c0de to 10.0.0.2 expires"));
        let one = Ipv6Addr::LOCALHOST.octets();
        let gone = says(DELSA, 24, &[(0, &one), (16, &spi), (20, &v6), (22, &[51])]);
        assert_eq!(gone.as_deref(), Some("AH 0x0000c0de to ::1 is gone"));
        let policy = [(0, &to[..]), (16, &from), (40, &v4), (42, &[32, 24])];
        assert_eq!(
            says(DELPOLICY, 64, &policy).as_deref(),
            Some("an IPsec policy for 10.0.0.1/24 to 10.0.0.2/32 is gone")
        );
        assert_eq!(says(0x12, 224, &own), None, "a question");
    }

    #[test]
    fn truncated_messages_are_ignored() {
        for kind in 0x10..0x1f {
            let whole = message(kind, 224, &[(212, &2u16.to_ne_bytes()), (20, &[2, 0])]);
            for length in 0..whole.len() {
                let _ = change(&whole[..length]); // whatever it is, it must not panic
                let mut cut = whole[..length].to_vec();
                if length >= 16 {
                    cut[..4].copy_from_slice(&(length as u32).to_ne_bytes());
                    let said = change(&cut);
                    assert!(
                        said.is_none()
                            || length >= 16 + 20
                            || kind == FLUSHSA
                            || kind == FLUSHPOLICY
                    );
                }
            }
        }
    }
}
