// SPDX-License-Identifier: MIT OR Apache-2.0
//! A network namespace's configuration of tunnels, kept up to date: addresses, neighbours,
//! forwarding entries, and a log of changes.
use std::{
    collections::VecDeque,
    net::IpAddr,
    time::{Duration, Instant, SystemTime},
};

use anyhow::Result;
use foldhash::HashMap;

use crate::kernel::{
    discover::NetnsView,
    netlink::{Link, Neighbour, Netlink, NetnsChange},
    netns::NetnsHandle,
};
use model::{
    overlay::{Device, Entry, Event, Mac, Narrow, Overlay},
    units::sanitize,
};

/// Changes are kept for as long as findings are, up to this number.
const EVENTS: usize = 1000;
/// Limit on the neighbours and entries; with more of them they are ignored.
const MOST_NEIGHBOURS: usize = 1 << 16;
/// How soon neighbours are listed again after a change, and how often without one.
const SOON: Duration = Duration::from_secs(1);
const LATE: Duration = Duration::from_secs(30);

/// One namespace's part of an [`Overlay`].
#[derive(Debug, Default)]
pub(super) struct Survey {
    neighbours: Vec<Neighbour>,
    addresses: Vec<IpAddr>,
    events: VecDeque<Event>,
    /// The last known state of interfaces: name, up, MTU.
    links: HashMap<u32, (String, bool, u32)>,
    /// The last known hardware addresses: by interface, forwarding or not, and address.
    known: HashMap<(u32, bool, IpAddr), Option<Mac>>,
    /// Whether something has changed that is not listed yet.
    stale: bool,
    /// Whether there are events that have not been passed on.
    news: bool,
    listed: Option<Instant>,
}

impl Survey {
    /// Lists again what has changed. Returns whether anything is new.
    ///
    /// # Errors
    /// The kernel gives no answer.
    pub(super) fn update(&mut self, netlink: &mut Netlink) -> Result<bool> {
        let age = self.listed.map(|at| at.elapsed());
        let due = age.is_none_or(|age| age >= if self.stale { SOON } else { LATE });
        if due {
            self.list(netlink)?;
        }
        Ok(std::mem::take(&mut self.news) || due)
    }

    fn list(&mut self, netlink: &mut Netlink) -> Result<()> {
        let first = self.listed.replace(Instant::now()).is_none();
        self.stale = false;
        self.addresses = netlink.addresses()?.into_iter().map(|(_, address, _)| address).collect();
        let neighbours = netlink.neighbours()?;
        self.neighbours = if neighbours.len() > MOST_NEIGHBOURS { Vec::new() } else { neighbours };
        if first || self.known.len() > MOST_NEIGHBOURS {
            self.known = self
                .neighbours
                .iter()
                .map(|n| ((n.ifindex, n.forwarding, n.address), n.mac))
                .collect();
        }
        Ok(())
    }

    /// Records the existing interfaces, so that changes of them are recognised.
    pub(super) fn know(&mut self, links: &[Link]) {
        for link in links {
            let now = || (link.name.clone(), link.up, link.mtu);
            self.links.entry(link.index).or_insert_with(now);
        }
    }

    /// Records a change.
    pub(super) fn hear(&mut self, change: NetnsChange) {
        self.stale = true;
        let name = |index: u32| self.links.get(&index).map(|l| l.0.clone());
        let shown = |index: u32| {
            name(index).map_or_else(|| format!("interface {index}"), |n| sanitize(&n).into_owned())
        };
        let (text, address, index) = match change {
            NetnsChange::Neighbour(n, gone) => {
                let key = (n.ifindex, n.forwarding, n.address);
                let device = shown(n.ifindex);
                let mac = n.mac.map_or_else(|| "?".to_owned(), hardware);
                let was = if gone || n.failed {
                    self.known.remove(&key).flatten()
                } else {
                    self.known.insert(key, n.mac).flatten()
                };
                let text = match (n.forwarding, gone || n.failed) {
                    // Confirmed, or about to be resolved again: not a change that anybody made.
                    (_, false) if was == n.mac => return,
                    (false, true) if was.is_none() => return,
                    (true, false) => format!("{device} forwards {mac} to {}", n.address),
                    (true, true) => format!("{device} no longer forwards {mac} to {}", n.address),
                    (false, false) => format!("{} is at {mac} on {device}", n.address),
                    (false, true) => format!("{} is not known on {device} any more", n.address),
                };
                (text, Some(n.address), n.ifindex)
            }
            NetnsChange::Address(index, address, gone) => {
                let device = shown(index);
                let verb = if gone { "has lost" } else { "has" };
                (format!("{device} {verb} {address}"), Some(address), index)
            }
            NetnsChange::Route(to, prefix, out, gone) => {
                let by = out.map_or_else(String::new, |i| format!(" by {}", shown(i)));
                let what = if gone { "there is no route" } else { "there is a route" };
                (format!("{what} to {to}/{prefix}{by}"), Some(to), out.unwrap_or(0))
            }
            NetnsChange::Link(link, gone) => match self.link(&link, gone) {
                Some(text) => (text, None, link.index),
                None => return,
            },
            NetnsChange::Xfrm(change) => (change.text, change.address, 0),
            NetnsChange::Lost => {
                ("changes came faster than they could be read".to_owned(), None, 0)
            }
        };
        let device = self.links.get(&index).map(|l| l.0.clone());
        if self.events.len() >= EVENTS {
            self.events.pop_front();
        }
        self.news = true;
        self.events.push_back(Event { at: SystemTime::now(), text, address, device });
    }

    /// What is new about an interface, if anything.
    fn link(&mut self, link: &Link, gone: bool) -> Option<String> {
        let name = sanitize(&link.name).into_owned();
        let now = (link.name.clone(), link.up, link.mtu);
        if gone {
            // Its name is kept for further events.
            return Some(format!("{name} is gone"));
        }
        match self.links.insert(link.index, now) {
            None => Some(format!("{name} is new")),
            Some((was, ..)) if was != link.name => {
                Some(format!("{} is now {name}", sanitize(&was)))
            }
            Some((_, was, _)) if was != link.up => {
                Some(format!("{name} is {}", if link.up { "up" } else { "down" }))
            }
            Some((.., was)) if was != link.mtu => {
                Some(format!("the MTU of {name} is {}, not {was}", link.mtu))
            }
            Some(_) => None,
        }
    }

    /// Adds this namespace's part.
    pub(super) fn add(&self, place: &NetnsHandle, scene: &NetnsView, overlay: &mut Overlay) {
        let netns = place.name().map(str::to_owned);
        for tunnel in scene.tunnels.iter().chain(&scene.elsewhere) {
            let d = &tunnel.device;
            // A device whose packets travel in another namespace accepts none here.
            if d.underlay_netnsid.is_none() {
                overlay.devices.push(Device {
                    netns: netns.clone(),
                    name: d.name.clone(),
                    kind: d.kind,
                    id: d.id.filter(|_| !d.collect_metadata),
                    port: d.port,
                    up: d.up,
                });
            }
        }
        overlay.segments.extend(scene.segments());
        for link in &scene.links {
            let over = scene.tunnels.iter().filter(|t| t.underlay == Some(link.index));
            let widest = over.map(|t| (t.device.mtu + t.device.overhead(), &t.device.name)).max();
            if let Some((needs, tunnel)) = widest.filter(|(needs, _)| *needs > link.mtu) {
                overlay.narrow.push(Narrow {
                    netns: netns.clone(),
                    device: link.name.clone(),
                    mtu: link.mtu,
                    tunnel: tunnel.clone(),
                    needs,
                });
            }
        }
        for address in &self.addresses {
            overlay.addresses.entry(*address).or_default().push(netns.clone());
        }
        for n in &self.neighbours {
            let Some(mac) = n.mac else { continue };
            if n.forwarding {
                let device = scene.tunnels.iter().find(|t| t.device.ifindex == n.ifindex);
                let Some(device) = device.map(|t| &t.device) else { continue };
                overlay.entries.entry(mac).or_default().push(Entry {
                    device: device.name.clone(),
                    id: device.id,
                    endpoint: n.address,
                    fixed: n.fixed,
                });
            } else {
                overlay.neighbours.insert(n.address, mac);
            }
        }
        overlay.events.extend(self.events.iter().cloned());
    }
}

fn hardware(mac: Mac) -> String {
    mac.map(|b| format!("{b:02x}")).join(":")
}
