// SPDX-License-Identifier: MIT OR Apache-2.0
//! How the kernel of this host is configured for tunnels: devices, forwarding entries, neighbours,
//! addresses, and a log of changes. Detectors compare it with the traffic.
use std::{fmt, net::IpAddr, time::SystemTime};

use foldhash::HashMap;

use crate::flow::{Kind, Tunnel};

/// A hardware address.
pub type Mac = [u8; 6];

/// A tunnel device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The watched namespace in which its packets travel, wherever the device itself is; `None` is
    /// the caller's.
    pub netns: Option<String>,
    /// Its name.
    pub name: String,
    /// The encapsulation of its packets.
    pub kind: Kind,
    /// The id that it accepts; `None` if it accepts any (`external`), or has none.
    pub id: Option<u32>,
    /// The UDP port that it listens on, if known.
    pub port: Option<u16>,
    /// Whether it is administratively up.
    pub up: bool,
}

/// What a tunnel id stands for on this host, by the interfaces above its device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Segment {
    /// The bridge that switches its frames.
    pub bridge: Option<String>,
    /// The VRF that routes its packets.
    pub vrf: Option<String>,
    /// Whether it carries routed traffic, as an L3VNI does: its bridge has no ports but tunnels.
    pub is_routed: bool,
}

impl Segment {
    /// Whether a name refers to it: that of its VRF, of its bridge, or the one shown.
    pub fn is_called(&self, name: &str) -> bool {
        let is = |own: &str| own.eq_ignore_ascii_case(name);
        self.vrf.as_deref().is_some_and(is)
            || self.bridge.as_deref().is_some_and(is)
            || is(&self.to_string())
    }
}

impl fmt::Display for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.bridge, &self.vrf) {
            (Some(bridge), Some(vrf)) if !self.is_routed => write!(f, "{bridge} in VRF {vrf}"),
            (_, Some(vrf)) => write!(f, "VRF {vrf}"),
            (Some(bridge), None) => write!(f, "bridge {bridge}"),
            (None, None) => Ok(()),
        }
    }
}

/// Where a bridge or a VXLAN device sends packets for a hardware address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The VXLAN device, by name.
    pub device: String,
    /// The id that it sends with; `None` if the device has no id of its own.
    pub id: Option<u32>,
    /// The tunnel endpoint.
    pub endpoint: IpAddr,
    /// Whether the entry is static: traffic does not change it.
    pub fixed: bool,
}

/// An interface whose MTU is too small for a tunnel that sends through it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrow {
    /// The watched namespace that it is in; `None` is the caller's.
    pub netns: Option<String>,
    /// Its name.
    pub device: String,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// The tunnel device with the largest packets, by name.
    pub tunnel: String,
    /// The size of its full packets, in bytes.
    pub needs: u32,
}

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When tmon learnt of it.
    pub at: SystemTime,
    /// What happened, in a few words.
    pub text: String,
    /// The endpoint or the address that it concerns.
    pub address: Option<IpAddr>,
    /// The interface that it concerns, by name.
    pub device: Option<String>,
}

/// The configuration at the end of an interval.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Tunnel devices whose packets travel in the namespaces that are watched.
    pub devices: Vec<Device>,
    /// What their ids stand for.
    pub segments: HashMap<Tunnel, Segment>,
    /// Interfaces whose MTU is too small for the tunnels over them.
    pub narrow: Vec<Narrow>,
    /// The host's own addresses, and the watched namespaces in which it has them.
    pub addresses: HashMap<IpAddr, Vec<Option<String>>>,
    /// Forwarding entries of VXLAN devices, by hardware address.
    pub entries: HashMap<Mac, Vec<Entry>>,
    /// Hardware addresses by address, as far as the kernel knows them.
    pub neighbours: HashMap<IpAddr, Mac>,
    /// Changes, oldest first.
    pub events: Vec<Event>,
}

impl Overlay {
    /// The number of all its parts.
    pub fn size(&self) -> usize {
        let lists = [self.devices.len(), self.narrow.len(), self.events.len()];
        let tables = [self.segments.len(), self.addresses.len(), self.neighbours.len()];
        let entries: usize = self.entries.values().map(Vec::len).sum();
        entries + lists.into_iter().chain(tables).sum::<usize>()
    }

    /// The forwarding entries for the hardware address behind an inner address.
    pub fn entries_of(&self, inner: IpAddr) -> &[Entry] {
        self.neighbours.get(&inner).and_then(|mac| self.entries.get(mac)).map_or(&[], Vec::as_slice)
    }

    /// Whether the host itself has an address.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.addresses.contains_key(&address)
    }

    /// Whether the host has an address in this namespace.
    pub fn is_own_in(&self, netns: Option<&str>, address: IpAddr) -> bool {
        let places = self.addresses.get(&address);
        places.is_some_and(|places| places.iter().any(|p| p.as_deref() == netns))
    }

    /// Whether a packet that arrives with this id in a namespace is accepted. If the kernel has no
    /// device of the kind at all, another program may accept it.
    pub fn takes(&self, netns: Option<&str>, kind: Kind, id: u32) -> bool {
        let mut there = self
            .devices
            .iter()
            .filter(|d| d.kind == kind && d.up && d.netns.as_deref() == netns)
            .peekable();
        there.peek().is_none() || there.any(|d| d.id.is_none_or(|own| own == id))
    }

    /// The last change before a time that concerns one of these addresses or devices.
    pub fn before(
        &self,
        time: SystemTime,
        addresses: &[IpAddr],
        device: Option<&str>,
    ) -> Option<&Event> {
        let about = |e: &&Event| {
            e.at <= time
                && (e.address.is_some_and(|a| addresses.contains(&a))
                    || (device.is_some() && e.device.as_deref() == device))
        };
        self.events.iter().rev().find(about)
    }
}
