// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces that come, change and go, as it happens.
use std::{
    io,
    os::fd::{AsRawFd, RawFd},
};

use anyhow::{Context, Result};
use netlink_packet_core::NetlinkBuffer;
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::errno::Errno;

use super::{Link, messages, receive};
use crate::kernel::netns::Netns;

/// The multicast group of link changes (rtnetlink(7)).
const RTNLGRP_LINK: u32 = 1;
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;

/// What happened to an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent {
    /// It is new, or something about it changed; its state now.
    Changed(Box<Link>),
    /// It is gone; its last state.
    Removed(Box<Link>),
    /// Events were lost because they were not read in time: list the interfaces again.
    Lost,
}

/// Listens to changes of interfaces in one network namespace.
#[derive(Debug)]
pub struct LinkEvents {
    socket: Socket,
}

impl LinkEvents {
    /// Listens in the calling thread's network namespace, from now on.
    pub fn open() -> Result<Self> {
        let open = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.set_non_blocking(true)?;
            socket.add_membership(RTNLGRP_LINK)?;
            Ok::<_, io::Error>(LinkEvents { socket })
        };
        open().context("listen to changes of interfaces")
    }

    /// Listens in another network namespace.
    pub fn open_in(netns: &Netns) -> Result<Self> {
        netns.within(Self::open)?
    }

    /// What has happened since the last call; never waits.
    pub fn poll(&mut self) -> Result<Vec<LinkEvent>> {
        let mut events = Vec::new();
        loop {
            match receive(&self.socket) {
                Ok(datagram) => events.extend(messages(&datagram).filter_map(|m| {
                    let head = NetlinkBuffer::new(&m);
                    // A bridge tells about its ports in a family of its own: one that leaves it is not gone.
                    if head.payload().first() != Some(&(libc::AF_UNSPEC as u8)) {
                        return None;
                    }
                    match head.message_type() {
                        RTM_NEWLINK => Link::parse(m).map(|l| LinkEvent::Changed(Box::new(l))),
                        RTM_DELLINK => Link::parse(m).map(|l| LinkEvent::Removed(Box::new(l))),
                        _ => None,
                    }
                })),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(events),
                Err(e) if e.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    events.push(LinkEvent::Lost)
                }
                Err(e) => return Err(e).context("read changes of interfaces"),
            }
        }
    }
}

impl AsRawFd for LinkEvents {
    /// Readable when [`LinkEvents::poll`] has something to say.
    fn as_raw_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}
