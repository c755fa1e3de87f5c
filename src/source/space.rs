// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network namespace that is looked after: which of its interfaces are to be watched, and what
//! its UDP ports lead to.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use crate::{
    bpf::{Config, Port},
    flow::Kind,
    netlink::{Link, LinkEvent, LinkEvents, Netlink, TunnelDevice},
    netns::Place,
    units::sanitize,
};

/// How often is looked although nothing was heard: routes change without a word about interfaces.
const PATROL: Duration = Duration::from_millis(1500);

/// Which interfaces of a namespace are asked for.
#[derive(Debug)]
enum Wanted {
    /// Those of these names.
    Named(BTreeSet<String>),
    /// Those below the tunnel devices, as these come and go.
    Underlays,
}

/// One network namespace.
#[derive(Debug)]
pub(super) struct Space {
    pub(super) place: Place,
    pub(super) netlink: Netlink,
    events: LinkEvents,
    wanted: Wanted,
    /// Tunnel devices that are up, by index.
    tunnels: BTreeMap<u32, String>,
    looked: Option<Instant>,
}

/// What a namespace is like now.
pub(super) struct View {
    /// All its interfaces.
    pub(super) links: Vec<Link>,
    /// Indexes of those to be watched.
    pub(super) wanted: BTreeSet<u32>,
    /// What UDP ports lead to here.
    pub(super) ports: Vec<Port>,
}

impl Space {
    /// Enters a namespace and listens to its changes. No names: the underlays of its tunnels.
    pub(super) fn open(netns: Option<&str>, names: BTreeSet<String>) -> Result<Space> {
        let place = Place::open(netns)?;
        // Events first, so that nothing is missed between looking and listening.
        let events = place.run(LinkEvents::open)??;
        let netlink = Netlink::open_inside(&place)?;
        let wanted = if names.is_empty() { Wanted::Underlays } else { Wanted::Named(names) };
        Ok(Space { place, netlink, events, wanted, tunnels: BTreeMap::new(), looked: None })
    }

    /// Nobody has looked yet.
    pub(super) fn is_new(&self) -> bool {
        self.looked.is_none()
    }

    /// " in network namespace x", for messages.
    pub(super) fn words(&self) -> String {
        self.place.name().map_or(String::new(), |n| format!(" in network namespace {}", sanitize(n)))
    }

    /// Interfaces that went away since the last call, and whether it is time to look again.
    pub(super) fn listen(&mut self) -> Result<(Vec<u32>, bool)> {
        let events = self.events.poll()?;
        let due = !events.is_empty() || self.looked.is_none_or(|at| at.elapsed() >= PATROL);
        let removed = events.iter().filter_map(|e| match e {
            LinkEvent::Removed(link) => Some(link.index),
            _ => None,
        });
        Ok((removed.collect(), due))
    }

    /// Looks around. What is worth telling goes to `notices`.
    ///
    /// # Errors
    /// The kernel does not say; at the first look also: a name that is not there, nothing to watch.
    pub(super) fn look(&mut self, notices: &mut Vec<String>) -> Result<View> {
        let first = self.looked.replace(Instant::now()).is_none();
        let links = self.netlink.links()?;
        let tunnels: Vec<TunnelDevice> = self.netlink.tunnels()?.into_iter().filter(|t| t.up).collect();
        let wanted = match &self.wanted {
            Wanted::Named(names) => {
                if let Some(missing) = names.iter().find(|name| first && !links.iter().any(|l| l.name == **name)) {
                    let known: Vec<_> = links.iter().map(|l| sanitize(&l.name).into_owned()).collect();
                    return Err(anyhow!("there is no interface {}{}: try one of {}", sanitize(missing), self.words(), known.join(", ")));
                }
                links.iter().filter(|l| names.contains(&l.name)).map(|l| l.index).collect()
            }
            Wanted::Underlays => {
                if !first {
                    self.tell_tunnels(&links, &tunnels, notices);
                }
                let found = self.underlays(&tunnels)?;
                match found.is_empty() {
                    true if first => BTreeSet::from([self.fallback(&links, notices)?]),
                    _ => found,
                }
            }
        };
        let ports = self.ports(&tunnels);
        self.tunnels = tunnels.into_iter().map(|t| (t.ifindex, t.name)).collect();
        Ok(View { links, wanted, ports })
    }

    fn underlays(&mut self, tunnels: &[TunnelDevice]) -> Result<BTreeSet<u32>> {
        let mut found = BTreeSet::new();
        for tunnel in tunnels {
            found.extend(self.netlink.underlay_of(tunnel)?);
        }
        Ok(found)
    }

    /// There is no tunnel: the default route's interface, and a line that says so.
    fn fallback(&mut self, links: &[Link], notices: &mut Vec<String>) -> Result<u32> {
        let index = self.netlink.default_route_interface()?;
        let link = index
            .and_then(|i| links.iter().find(|l| l.index == i))
            .ok_or_else(|| anyhow!("there is no tunnel device and no default route{}: name the interface to watch", self.words()))?;
        notices.push(format!("no tunnel device found{}: watching {}, where the default route leads", self.words(), sanitize(&link.name)));
        Ok(link.index)
    }

    fn tell_tunnels(&self, links: &[Link], tunnels: &[TunnelDevice], notices: &mut Vec<String>) {
        let place = self.words();
        for t in tunnels.iter().filter(|t| !self.tunnels.contains_key(&t.ifindex)) {
            let id = t.id.map_or(String::new(), |id| format!(" {id}"));
            let port = t.port.map_or(String::new(), |port| format!(", port {port}"));
            notices.push(format!("tunnel device {}{place} is new: {}{id}{port}", sanitize(&t.name), t.kind));
        }
        for (index, name) in self.tunnels.iter().filter(|(index, _)| !tunnels.iter().any(|t| t.ifindex == **index)) {
            let what = if links.iter().any(|l| l.index == *index) { "is down" } else { "is gone" };
            notices.push(format!("tunnel device {}{place} {what}", sanitize(name)));
        }
    }

    /// What the UDP ports of this namespace's own tunnels lead to.
    fn ports(&mut self, tunnels: &[TunnelDevice]) -> Vec<Port> {
        // Without fou in the kernel, and where it does not tell, there are none.
        let fou = self.netlink.fou_ports().unwrap_or_default();
        let is_fou = |port| fou.iter().any(|f| f.port == port && f.protocol.is_some());
        let devices = tunnels.iter().filter_map(|t| t.port.map(|port| (t.kind, port)));
        devices
            .chain(fou.iter().map(|f| (Kind::Gue, f.port)))
            .map(|(kind, port)| Port { kind, fou: kind == Kind::Gue && is_fou(port), port })
            .collect()
    }
}

/// The ports that the user has not given a meaning.
pub(super) fn not_chosen(ports: Vec<Port>, config: &Config) -> Vec<Port> {
    ports.into_iter().filter(|p| !config.ports.iter().any(|chosen| chosen.port == p.port)).collect()
}
