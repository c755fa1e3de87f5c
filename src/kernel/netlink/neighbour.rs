// SPDX-License-Identifier: MIT OR Apache-2.0
//! Neighbours, and forwarding entries of VXLAN devices.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
};

use super::{Netlink, decode};

/// A neighbour, or a forwarding entry of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface, an index.
    pub ifindex: u32,
    /// Whether it is a forwarding entry: `address` is the tunnel endpoint.
    pub forwarding: bool,
    /// The hardware address, if known.
    pub mac: Option<[u8; 6]>,
    /// The neighbour's address, or the endpoint behind which the hardware address is.
    pub address: IpAddr,
    /// Whether it is static: traffic does not change it.
    pub fixed: bool,
    /// Whether resolution failed.
    pub failed: bool,
}

impl Neighbour {
    pub(super) fn of(m: &NeighbourMessage) -> Option<Neighbour> {
        let forwarding = m.header.family == AddressFamily::Bridge;
        let mut mac = None;
        let mut address = None;
        for attribute in &m.attributes {
            match attribute {
                NeighbourAttribute::LinkLayerAddress(bytes) => {
                    mac = bytes.as_slice().try_into().ok();
                }
                NeighbourAttribute::Destination(to) => address = ip(to),
                _ => {}
            }
        }
        let state = m.header.state;
        // A static entry of `bridge fdb` is also reachable.
        let has = |bit: NeighbourState| u16::from(state) & u16::from(bit) != 0;
        let fixed = has(NeighbourState::Permanent)
            || has(NeighbourState::Noarp)
            || m.header.flags.contains(NeighbourFlags::ExtLearned);
        Some(Neighbour {
            ifindex: m.header.ifindex,
            forwarding,
            mac,
            address: address?,
            fixed,
            failed: state == NeighbourState::Failed,
        })
    }
}

/// A bridge entry does not contain the family of an endpoint: the length of the address reveals it.
fn ip(address: &NeighbourAddress) -> Option<IpAddr> {
    match address {
        NeighbourAddress::Inet(a) => Some((*a).into()),
        NeighbourAddress::Inet6(a) => Some((*a).into()),
        NeighbourAddress::Other(bytes) => {
            let v4 = <[u8; 4]>::try_from(bytes.as_slice()).map(|b| Ipv4Addr::from(b).into());
            let v6 = <[u8; 16]>::try_from(bytes.as_slice()).map(|b| Ipv6Addr::from(b).into());
            v4.or(v6).ok()
        }
        _ => None,
    }
}

impl Netlink {
    /// Every neighbour whose hardware address is known, and every forwarding entry of a VXLAN
    /// device.
    ///
    /// # Errors
    /// The kernel does not list them.
    pub fn neighbours(&mut self) -> Result<Vec<Neighbour>> {
        let mut found = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6, AddressFamily::Bridge] {
            let mut m = NeighbourMessage::default();
            m.header.family = family;
            self.dump(
                RouteNetlinkMessage::GetNeighbour(m),
                || "list the neighbours".to_owned(),
                |payload| {
                    if let Some(RouteNetlinkMessage::NewNeighbour(m)) = decode(payload) {
                        found.extend(Neighbour::of(&m).filter(|n| n.mac.is_some()));
                    }
                },
            )?;
        }
        Ok(found)
    }
}
