// SPDX-License-Identifier: MIT OR Apache-2.0
//! Changes in a network namespace as they happen: interfaces, and on request neighbours, forwarding
//! entries, addresses, routes, and IPsec.
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Context, Result};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage},
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::{
    Link, Neighbour, decode, messages, oif, own_address, receive,
    xfrm::{self, XfrmChange},
};
use crate::kernel::netns::{Netns, NetnsHandle};

/// The multicast group of links (rtnetlink(7)), and those of neighbours, addresses and routes of both
/// families.
const LINKS: u32 = 1;
const OTHERS: [u32; 5] = [3, 5, 7, 9, 11];

/// A change in a network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetnsChange {
    /// A neighbour or forwarding entry was added, was changed, or (`true`) is gone.
    Neighbour(Neighbour, bool),
    /// An address was added to an interface, or (`true`) removed.
    Address(u32, IpAddr, bool),
    /// A route to a network by an interface was added, or (`true`) removed.
    Route(IpAddr, u8, Option<u32>, bool),
    /// An interface was added, was changed, or (`true`) is gone; with its present state, or its
    /// last one.
    Link(Box<Link>, bool),
    /// A change of IPsec's configuration.
    Xfrm(XfrmChange),
    /// Changes were lost because they were not read in time: everything has to be listed again.
    Lost,
}

/// Listens to changes in one network namespace.
#[derive(Debug)]
pub struct Changes {
    socket: Socket,
    /// IPsec's socket, if the kernel has IPsec and permits it.
    xfrm: Option<Socket>,
}

impl Changes {
    /// Listens to changes of interfaces in the calling thread's network namespace, from now on.
    ///
    /// # Errors
    /// No such socket can be opened.
    pub fn open() -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.add_membership(LINKS)?;
            Ok::<_, io::Error>(Changes { socket, xfrm: None })
        };
        open().context("listen to changes of interfaces")
    }

    /// Listens in another network namespace.
    ///
    /// # Errors
    /// Those of [`Changes::open`].
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.within(Self::open)?
    }

    /// Also listens to all other changes from now on, in the same namespace, which is `place`.
    ///
    /// # Errors
    /// The kernel refuses.
    pub fn follow_all(&mut self, place: &NetnsHandle) -> Result<()> {
        let joined = OTHERS.iter().try_for_each(|group| self.socket.add_membership(*group));
        joined.context("listen to changes of neighbours, addresses and routes")?;
        self.xfrm = place.run(xfrm::listen)?.ok();
        Ok(())
    }

    /// What has changed since the last call, at most `most` changes; never waits.
    ///
    /// # Errors
    /// A socket fails.
    pub fn poll(&mut self, most: usize) -> Result<Vec<NetnsChange>> {
        let mut changes = drained(&self.socket, most, change)?;
        if let Some(xfrm) = &self.xfrm {
            let said = |message: &[u8]| xfrm::change(message).map(NetnsChange::Xfrm);
            changes.extend(drained(xfrm, most, said)?);
        }
        Ok(changes)
    }
}

fn drained(
    socket: &Socket,
    most: usize,
    change: impl Fn(&[u8]) -> Option<NetnsChange>,
) -> Result<Vec<NetnsChange>> {
    let mut changes = Vec::new();
    while changes.len() < most {
        match receive(socket) {
            Ok(datagram) => changes.extend(messages(&datagram).filter_map(&change)),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
            Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                changes.push(NetnsChange::Lost);
            }
            Err(e) => return Err(e).context("read what changes"),
        }
    }
    Ok(changes)
}

fn change(message: &[u8]) -> Option<NetnsChange> {
    // A bridge reports its ports in a family of its own: a port that leaves it is not gone.
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

/// A route of the main table; local ones come with their addresses.
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
