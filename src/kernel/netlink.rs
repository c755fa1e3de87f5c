// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces, addresses, neighbours and tunnel devices, by rtnetlink (rtnetlink(7)).
//!
//! One [`Netlink`] is one blocking socket in one network namespace: that of the thread that opened
//! it, for as long as the socket lives. Every error says what was requested, of which object, and
//! where.
mod change;
mod generic;
mod l2tp;
mod link;
mod neighbour;
mod tc;
mod tunnel;
mod xfrm;

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_ACK_TLVS, NLM_F_CREATE, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_EXCL,
    NLM_F_REPLACE, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLMSG_OVERRUN,
    NetlinkBuffer, NetlinkMessage, NlasIterator, parse_i32, parse_string,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
    nsid::{NsidAttribute, NsidMessage},
    route::{
        RouteAttribute, RouteHeader, RouteMessage, RouteMetric, RouteProtocol, RouteScope,
        RouteType,
    },
};
use netlink_sys::{
    Socket, SocketAddr,
    protocols::{NETLINK_GENERIC, NETLINK_ROUTE},
};
use nix::errno::Errno;

pub use self::{
    change::{Changes, NetnsChange},
    generic::FouPort,
    link::{Link, NewLink},
    neighbour::Neighbour,
    tc::TcFilter,
    tunnel::{NewTunnel, TunnelDevice},
    xfrm::XfrmChange,
};
use crate::kernel::netns::{Netns, NetnsHandle};

/// Room for the kernel's largest answer: it builds none above 32 KiB for a reader with this much
/// room.
const ROOM: usize = 64 << 10;
/// linux/sockios.h: a descriptor of the namespace that a socket is in.
const SIOCGSKNS: libc::Ioctl = 0x894c;

/// How packets leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The interface, an index.
    pub out: u32,
    /// The MTU of the route itself, if it has one.
    pub mtu: Option<u32>,
}

/// The kernel's refusal. The root of this module's errors, for callers that distinguish them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The error number.
    pub errno: Errno,
    /// The kernel's own words (extended ack), if any.
    pub said: Option<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.errno.desc())?;
        if let Some(said) = &self.said {
            write!(f, " ({said})")?;
        }
        match self.errno {
            Errno::EPERM | Errno::EACCES => write!(f, "; it needs CAP_NET_ADMIN: try as root"),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for Refused {}

/// The error number at the root of an error of this module, if the kernel gave one.
pub fn errno(error: &anyhow::Error) -> Option<Errno> {
    error.downcast_ref::<Refused>().map(|r| r.errno)
}

/// The kernel's network configuration, in one network namespace.
#[derive(Debug)]
pub struct Netlink {
    route: Conversation,
    /// Generic netlink, for what rtnetlink does not provide; `None` if the kernel does not have it.
    generic: Option<Conversation>,
    /// "" or " in network namespace 'x'", for errors.
    place: String,
}

impl Netlink {
    /// Opens it in the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Self::open_at(String::new())
    }

    /// Opens it in another network namespace; the caller stays in its own.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.within(|| Self::open_at(format!(" in network namespace '{}'", netns.name())))?
    }

    /// Opens it in a namespace that was entered before.
    pub fn open_inside(place: &NetnsHandle) -> Result<Self> {
        let words =
            place.name().map_or(String::new(), |name| format!(" in network namespace '{name}'"));
        place.run(|| Self::open_at(words))?
    }

    fn open_at(place: String) -> Result<Self> {
        let route = Conversation::open(NETLINK_ROUTE)
            .with_context(|| format!("open a netlink socket{place}"))?;
        Ok(Netlink { route, generic: Conversation::open(NETLINK_GENERIC).ok(), place })
    }

    /// Adds an address to an interface. No duplicate address detection: the caller chose the
    /// address.
    pub fn add_address(&mut self, link: &str, address: IpAddr, prefix: u8) -> Result<()> {
        let mut m = AddressMessage::default();
        m.header.family = family(address);
        m.header.prefix_len = prefix;
        m.header.index = self.index_of(link)?;
        if address.is_ipv6() {
            m.header.flags = netlink_packet_route::address::AddressHeaderFlags::Nodad;
        }
        m.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
        self.change(RouteNetlinkMessage::NewAddress(m), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("give {address}/{prefix} to '{link}'")
        })
    }

    /// Every address of every interface: (ifindex, address, prefix length), in the kernel's order.
    pub fn addresses(&mut self) -> Result<Vec<(u32, IpAddr, u8)>> {
        let mut found = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetAddress(AddressMessage::default()),
            || "list the addresses".to_owned(),
            |payload| {
                if let Some(RouteNetlinkMessage::NewAddress(m)) = decode(payload) {
                    let own = own_address(&m.attributes);
                    found.extend(own.map(|ip| (m.header.index, ip, m.header.prefix_len)));
                }
            },
        )?;
        Ok(found)
    }

    /// Adds a route to `destination`/`prefix` through an interface, by way of `gateway` if there is
    /// one.
    pub fn add_route(
        &mut self,
        destination: IpAddr,
        prefix: u8,
        link: &str,
        gateway: Option<IpAddr>,
    ) -> Result<()> {
        let mut m = RouteMessage::default();
        m.header = RouteHeader {
            address_family: family(destination),
            destination_prefix_length: prefix,
            table: RouteHeader::RT_TABLE_MAIN,
            protocol: RouteProtocol::Static,
            scope: if gateway.is_some() || destination.is_ipv6() {
                RouteScope::Universe
            } else {
                RouteScope::Link
            },
            kind: RouteType::Unicast,
            ..RouteHeader::default()
        };
        m.attributes = vec![
            RouteAttribute::Destination(destination.into()),
            RouteAttribute::Oif(self.index_of(link)?),
        ];
        m.attributes.extend(gateway.map(|g| RouteAttribute::Gateway(g.into())));
        self.change(RouteNetlinkMessage::NewRoute(m), NLM_F_CREATE | NLM_F_EXCL, || {
            format!("route {destination}/{prefix} to '{link}'")
        })
    }

    /// Adds a neighbour that needs no resolution: `address` has the link-layer address `mac` on
    /// this interface.
    pub fn add_neighbour(&mut self, link: &str, address: IpAddr, mac: [u8; 6]) -> Result<()> {
        let mut m = NeighbourMessage::default();
        m.header.family = family(address);
        m.header.ifindex = self.index_of(link)?;
        m.header.state = NeighbourState::Permanent;
        let to = match address {
            IpAddr::V4(a) => NeighbourAddress::Inet(a),
            IpAddr::V6(a) => NeighbourAddress::Inet6(a),
        };
        m.attributes = vec![
            NeighbourAttribute::Destination(to),
            NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        ];
        self.change(RouteNetlinkMessage::NewNeighbour(m), NLM_F_CREATE | NLM_F_REPLACE, || {
            format!("make {address} a neighbour on '{link}'")
        })
    }

    /// The interface by which packets to `destination` leave; `None` if there is no route.
    pub fn route_to(&mut self, destination: IpAddr) -> Result<Option<u32>> {
        Ok(self.way_to(destination)?.map(|way| way.out))
    }

    /// How packets to `destination` leave; `None` if there is no route.
    pub fn way_to(&mut self, destination: IpAddr) -> Result<Option<Exit>> {
        let mut m = RouteMessage::default();
        m.header.address_family = family(destination);
        m.header.destination_prefix_length = if destination.is_ipv4() { 32 } else { 128 };
        m.attributes = vec![RouteAttribute::Destination(destination.into())];
        let mut out = None;
        let asked = self.request(
            RouteNetlinkMessage::GetRoute(m),
            NLM_F_ACK,
            || format!("ask for the route to {destination}"),
            |payload| {
                if let Some(RouteNetlinkMessage::NewRoute(m)) = decode(payload) {
                    out = oif(&m).map(|out| Exit { out, mtu: mtu(&m) });
                }
            },
        );
        match asked {
            Err(e)
                if matches!(
                    errno(&e),
                    Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH | Errno::EACCES | Errno::EINVAL)
                ) =>
            {
                Ok(None)
            }
            asked => asked.map(|()| out),
        }
    }

    /// The interface of the default route (the lowest metric; IPv4 before IPv6), as an ifindex.
    pub fn default_route_interface(&mut self) -> Result<Option<u32>> {
        let mut best: Option<(bool, u32, u32)> = None;
        for any in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
            let mut m = RouteMessage::default();
            m.header.address_family = family(any);
            self.dump(
                RouteNetlinkMessage::GetRoute(m),
                || "list the routes".to_owned(),
                |payload| {
                    let Some(RouteNetlinkMessage::NewRoute(m)) = decode(payload) else { return };
                    let main = m.header.table == RouteHeader::RT_TABLE_MAIN
                        && m.header.kind == RouteType::Unicast;
                    if !main
                        || m.header.destination_prefix_length != 0
                        || m.header.address_family != family(any)
                    {
                        return;
                    }
                    let metric = m.attributes.iter().find_map(|a| {
                        if let RouteAttribute::Priority(p) = a { Some(*p) } else { None }
                    });
                    if let Some(out) = oif(&m) {
                        let this = (any.is_ipv6(), metric.unwrap_or(0), out);
                        best = Some(best.map_or(this, |b| b.min(this)));
                    }
                },
            )?;
            if best.is_some() {
                break;
            }
        }
        Ok(best.map(|b| b.2))
    }

    /// The numbers by which this namespace knows others (`ip netns list-id`).
    fn known_namespaces(&mut self) -> Result<Vec<i32>> {
        let mut known = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetNsId(NsidMessage::default()),
            || "list the numbers of network namespaces".to_owned(),
            |payload| known.extend(decode(payload).as_ref().and_then(number)),
        )?;
        Ok(known)
    }

    /// The number by which it knows itself, if one has been assigned.
    #[allow(unsafe_code)]
    fn own_number(&mut self) -> Result<Option<i32>> {
        // The calling thread may be in another namespace than the socket.
        // SAFETY: the request takes no argument.
        let fd = unsafe { libc::ioctl(self.route.socket.as_raw_fd(), SIOCGSKNS) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("open the network namespace");
        }
        // SAFETY: a descriptor that the kernel has just made for us.
        let own = unsafe { OwnedFd::from_raw_fd(fd) };
        self.number_of(own.as_fd())
    }

    /// The number by which it knows another one, if any.
    ///
    /// # Errors
    /// Netlink gives no answer.
    pub fn number_of(&mut self, netns: BorrowedFd<'_>) -> Result<Option<i32>> {
        let mut m = NsidMessage::default();
        m.attributes = vec![NsidAttribute::Fd(netns.as_raw_fd() as u32)];
        let mut found = None;
        self.request(
            RouteNetlinkMessage::GetNsId(m),
            NLM_F_ACK,
            || "ask for the number of a network namespace".to_owned(),
            |payload| found = decode(payload).as_ref().and_then(number),
        )?;
        Ok(found)
    }

    /// Requests a change and waits until it is made.
    fn change(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl Fn() -> String,
    ) -> Result<()> {
        self.request(message, NLM_F_ACK | flags, what, |_| ())
    }

    /// Requests all objects of a kind; repeats the request if the kernel calls the answer
    /// inconsistent.
    fn dump(
        &mut self,
        message: RouteNetlinkMessage,
        what: impl Fn() -> String,
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        for _ in 0..8 {
            let mut objects = Vec::new();
            let mut interrupted = false;
            self.request(message.clone(), NLM_F_DUMP, &what, |one| {
                interrupted |= NetlinkBuffer::new(&one).flags() & NLM_F_DUMP_INTR != 0;
                objects.push(one.to_vec());
            })?;
            if !interrupted {
                objects.iter().for_each(|one| each(one));
                return Ok(());
            }
        }
        bail!("{}{}: it changes faster than it can be read", what(), self.place)
    }

    /// One exchange: sends, hands every object of the answer (header included) to `each`, ends at the ack.
    fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
        what: impl Fn() -> String,
        mut each: impl FnMut(&[u8]),
    ) -> Result<()> {
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.route.exchange(bytes, &mut each).with_context(|| format!("{}{}", what(), self.place))
    }
}

/// A socket to one part of the kernel for requests with answers.
#[derive(Debug)]
struct Conversation {
    socket: Socket,
    sequence: u32,
}

impl Conversation {
    fn open(protocol: isize) -> std::io::Result<Self> {
        let mut socket = Socket::new(protocol)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Only better error messages depend on these two, and old kernels lack them.
        let _ = socket.set_ext_ack(true);
        let _ = socket.set_cap_ack(true);
        Ok(Conversation { socket, sequence: 0 })
    }

    /// Sends a whole message, numbered here, and hands every object of the answer to `each`.
    fn exchange(&mut self, mut request: Vec<u8>, each: &mut dyn FnMut(&[u8])) -> Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        NetlinkBuffer::new(&mut request).set_sequence_number(self.sequence);
        self.socket.send(&request, 0).context("send to the kernel")?;
        loop {
            let datagram = receive(&self.socket)?;
            for one in messages(&datagram) {
                let head = NetlinkBuffer::new(&one);
                if head.sequence_number() != self.sequence {
                    continue;
                }
                match head.message_type() {
                    NLMSG_NOOP => {}
                    NLMSG_OVERRUN => bail!("the kernel's answer was cut off"),
                    NLMSG_ERROR | NLMSG_DONE => {
                        return outcome(one).map_or(Ok(()), |refused| Err(refused.into()));
                    }
                    _ => each(one),
                }
            }
        }
    }
}

/// Receives one whole datagram from the kernel.
fn receive(socket: &Socket) -> std::io::Result<Vec<u8>> {
    loop {
        let mut bytes = Vec::with_capacity(ROOM);
        match socket.recv(&mut bytes, libc::MSG_TRUNC) {
            Ok(length) if length > bytes.len() => {
                return Err(std::io::Error::other("the kernel's answer is larger than expected"));
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            done => return done.map(|_| bytes),
        }
    }
}

/// The messages of a datagram, each with its header, checked to be complete.
fn messages(datagram: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = datagram;
    std::iter::from_fn(move || {
        let length = NetlinkBuffer::new_checked(&rest).ok()?.length() as usize;
        let one = &rest[..length];
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(one)
    })
}

/// The result in an error or done message; `None` is success.
fn outcome(message: &[u8]) -> Option<Refused> {
    let head = NetlinkBuffer::new(&message);
    let payload = head.payload();
    let code = payload.get(..4).and_then(|b| parse_i32(b).ok()).unwrap_or(0);
    if code == 0 {
        return None;
    }
    // struct nlmsgerr: the code, then the header of the request (capped), then attributes; 1 is the
    // text.
    let tlvs = if head.flags() & NLM_F_ACK_TLVS != 0 {
        payload.get(20..).unwrap_or_default()
    } else {
        &[]
    };
    let said = NlasIterator::new(tlvs)
        .map_while(|a| a.ok())
        .find(|a| a.kind() == 1)
        .and_then(|a| parse_string(a.value()).ok());
    Some(Refused { errno: Errno::from_raw(code.saturating_neg()), said })
}

/// Decodes a whole message with the library's types; `None` if it does not understand the message.
fn decode(message: &[u8]) -> Option<RouteNetlinkMessage> {
    match NetlinkMessage::<RouteNetlinkMessage>::deserialize(message).ok()?.payload {
        netlink_packet_core::NetlinkPayload::InnerMessage(m) => Some(m),
        _ => None,
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

/// The number of a namespace in an answer.
fn number(m: &RouteNetlinkMessage) -> Option<i32> {
    let RouteNetlinkMessage::NewNsId(m) = m else { return None };
    let id = |a: &NsidAttribute| if let NsidAttribute::Id(id) = a { Some(*id) } else { None };
    m.attributes.iter().find_map(id).filter(|id| *id >= 0)
}

/// An interface's own address: on a point-to-point interface `Address` is the other end and `Local`
/// this one.
fn own_address(attributes: &[AddressAttribute]) -> Option<IpAddr> {
    let of = |a: &AddressAttribute| match a {
        AddressAttribute::Local(ip) => Some((0, *ip)),
        AddressAttribute::Address(ip) => Some((1, *ip)),
        _ => None,
    };
    attributes.iter().filter_map(of).min_by_key(|(rank, _)| *rank).map(|(_, ip)| ip)
}

/// The interface of a route, or that of its first next hop.
fn oif(m: &RouteMessage) -> Option<u32> {
    m.attributes.iter().find_map(|a| match a {
        RouteAttribute::Oif(index) => Some(*index),
        RouteAttribute::MultiPath(hops) => hops.first().map(|h| h.interface_index),
        _ => None,
    })
}

/// The MTU of a route itself: as configured, or as learnt by path MTU discovery.
fn mtu(m: &RouteMessage) -> Option<u32> {
    let metrics = m.attributes.iter().find_map(|a| match a {
        RouteAttribute::Metrics(metrics) => Some(metrics),
        _ => None,
    });
    metrics?.iter().find_map(|m| match m {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}
