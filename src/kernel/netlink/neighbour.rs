// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who is where: neighbours, forwarding entries of VXLAN devices; and what changes about these,
//! about addresses and routes, as it happens.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    neighbour::{
        NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
    },
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage},
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::{Link, Netlink, decode, messages, oif, own_address, receive};

/// Multicast groups of rtnetlink(7): links, neighbours, addresses and routes of both families.
const GROUPS: [u32; 6] = [1, 3, 5, 7, 9, 11];

/// A neighbour, or a forwarding entry of a VXLAN device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// The interface, an index.
    pub ifindex: u32,
    /// It is a forwarding entry: `address` is the tunnel endpoint.
    pub forwarding: bool,
    /// The hardware address, where it is known.
    pub mac: Option<[u8; 6]>,
    /// The neighbour's address, or the endpoint behind which the hardware address is.
    pub address: IpAddr,
    /// Somebody wrote it: traffic does not change it.
    pub fixed: bool,
    /// Nobody answers for it.
    pub failed: bool,
}

/// A change in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsChange {
    /// A neighbour or forwarding entry is new, is another, or (`true`) is gone.
    Neighbour(Neighbour, bool),
    /// An interface has an address, or (`true`) has it no more.
    Address(u32, IpAddr, bool),
    /// There is a route to a network by an interface, or (`true`) there is none any more.
    Route(IpAddr, u8, Option<u32>, bool),
    /// An interface is new, or is another than it was, or (`true`) is gone.
    Link(Box<Link>, bool),
    /// Changes were lost because they were not read in time.
    Lost,
}

impl Neighbour {
    fn of(m: &NeighbourMessage) -> Option<Neighbour> {
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
        // A static entry of `bridge fdb` is reachable, too.
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

/// A bridge's family does not say of which family an endpoint is: its length does.
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

/// Listens to changes in one network namespace.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
}

impl Changes {
    /// Listens in the calling thread's network namespace, from now on.
    ///
    /// # Errors
    /// No such socket can be opened.
    pub fn open() -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            GROUPS.iter().try_for_each(|group| socket.add_membership(*group))?;
            Ok::<_, io::Error>(Changes { socket })
        };
        open().context("listen to changes of neighbours, addresses and routes")
    }

    /// What has changed since the last call, at most so many; never waits.
    ///
    /// # Errors
    /// The socket fails.
    pub fn poll(&mut self, most: usize) -> Result<Vec<NetnsChange>> {
        let mut changes = Vec::new();
        while changes.len() < most {
            match receive(&self.socket) {
                Ok(datagram) => changes.extend(messages(&datagram).filter_map(change)),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    changes.push(NetnsChange::Lost);
                }
                Err(e) => return Err(e).context("read changes of neighbours"),
            }
        }
        Ok(changes)
    }
}

fn change(message: &[u8]) -> Option<NetnsChange> {
    let link = |gone| Link::parse(message).map(|l| NetnsChange::Link(Box::new(l), gone));
    match decode(message)? {
        RouteNetlinkMessage::NewNeighbour(m) => {
            Neighbour::of(&m).map(|n| NetnsChange::Neighbour(n, false))
        }
        RouteNetlinkMessage::DelNeighbour(m) => {
            Neighbour::of(&m).map(|n| NetnsChange::Neighbour(n, true))
        }
        RouteNetlinkMessage::NewLink(m) if m.header.interface_family == AddressFamily::Unspec => {
            link(false)
        }
        RouteNetlinkMessage::DelLink(m) if m.header.interface_family == AddressFamily::Unspec => {
            link(true)
        }
        RouteNetlinkMessage::NewAddress(m) => {
            own_address(&m.attributes).map(|a| NetnsChange::Address(m.header.index, a, false))
        }
        RouteNetlinkMessage::DelAddress(m) => {
            own_address(&m.attributes).map(|a| NetnsChange::Address(m.header.index, a, true))
        }
        RouteNetlinkMessage::NewRoute(m) => route(&m, false),
        RouteNetlinkMessage::DelRoute(m) => route(&m, true),
        _ => None,
    }
}

/// Routes of the main table; the local ones come with their addresses.
fn route(m: &RouteMessage, gone: bool) -> Option<NetnsChange> {
    if m.header.table != RouteHeader::RT_TABLE_MAIN {
        return None;
    }
    let to = m.attributes.iter().find_map(|a| match a {
        RouteAttribute::Destination(RouteAddress::Inet(a)) => Some(IpAddr::from(*a)),
        RouteAttribute::Destination(RouteAddress::Inet6(a)) => Some(IpAddr::from(*a)),
        _ => None,
    });
    let any = match m.header.address_family {
        AddressFamily::Inet => IpAddr::from(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::from(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    let prefix = m.header.destination_prefix_length;
    Some(NetnsChange::Route(to.unwrap_or(any), prefix, oif(m), gone))
}
