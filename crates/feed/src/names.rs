// SPDX-License-Identifier: MIT OR Apache-2.0
//! What people call addresses and tunnel ids: a file of names, /etc/hosts, the interfaces of this
//! host's network namespaces and, only when asked, reverse DNS.
//!
//! The file is hosts(5), in which an address may also be a network or a tunnel id:
//!
//! ```text
//! 172.16.1.100     node-a  node-a.example   # the first name is shown, filters take all
//! 192.168.0.0/24   blue-clients              # shown as blue-clients.7
//! vni:10000        blue
//! ```
//!
//! A name never replaces what was measured: JSON and CSV keep the addresses beside the names, and an
//! address that two interfaces have is nobody's.
use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};
use foldhash::{HashMap, HashSet};
use ipnet::IpNet;

use crate::{dns::Resolver, input};
use model::{
    filter::{Filter, FilterError, Ids, Meanings, PacketFilter},
    fleet::MOST_HOSTS,
    flow::{Kind, Tunnel},
    groups::{Groups, network},
    overlay::{Overlay, Segment},
    units::sanitize,
};

/// Where the system's own names are.
pub const HOSTS: &str = "/etc/hosts";
/// Where the names of ports are.
const SERVICES: &str = "/etc/services";
/// A longer file is no file of names.
const MOST_BYTES: u64 = 64 << 20;
/// And names in all of them: a name takes far more memory than bytes of a file.
const MOST_NAMES: usize = 1_000_000;
/// And ids that other hosts may name.
const MOST_IDS: usize = 65_536;
/// Limit on what all hosts of a fleet together say about ids.
const MOST_TOLD: usize = 1 << 18;
/// Characters of a name; those of DNS have at most 253.
const MOST_CHARS: usize = 255;

/// Where a name comes from, who knows best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameSource {
    /// The file of `--names`.
    File,
    /// [`HOSTS`].
    Hosts,
    /// What a container runtime keeps of the addresses it gave.
    Cni,
    /// What CNI's host-local plugin keeps.
    HostLocal,
    /// The folders of pods' logs: what the pod of a process or a container is called.
    Pods,
    /// A container runtime: containerd, CRI-O.
    Cri,
    /// Cilium: the pods of a cluster, and its nodes.
    Cilium,
    /// OVN: the ports of all its hosts, the hosts, and what its ids stand for.
    Ovn,
    /// Open vSwitch, and who writes there: OVN, Kube-OVN, Antrea.
    Ovs,
    /// Docker.
    Docker,
    /// The control group of a process that has the address: the beginning of a container's id.
    Cgroup,
    /// An interface of this host that has the address, or that an id is of.
    Interface,
    /// A host of the fleet.
    Fleet,
    /// FRR: its peers, and the VRFs of its ids.
    Frr,
    /// DNS.
    Dns,
}

impl NameSource {
    /// Its name in JSON and in lists.
    pub fn name(self) -> &'static str {
        match self {
            NameSource::File => "--names",
            NameSource::Hosts => HOSTS,
            NameSource::Cni => "cni",
            NameSource::HostLocal => "host-local",
            NameSource::Pods => "/var/log/pods",
            NameSource::Cri => "cri",
            NameSource::Cilium => "cilium",
            NameSource::Ovn => "ovn",
            NameSource::Ovs => "ovs",
            NameSource::Docker => "docker",
            NameSource::Cgroup => "cgroup",
            NameSource::Interface => "interface",
            NameSource::Fleet => "fleet",
            NameSource::Frr => "frr",
            NameSource::Dns => "dns",
        }
    }
}

/// A name, and where it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostName {
    /// Safe for a terminal.
    pub name: String,
    /// Who says so.
    pub from: NameSource,
}

/// What services of this host say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceNames {
    /// Inner addresses.
    pub inner: HashMap<IpAddr, HostName>,
    /// Outer addresses.
    pub outer: HashMap<IpAddr, HostName>,
    /// What tunnel ids stand for, and who says so.
    pub ids: HashMap<Tunnel, (Segment, NameSource)>,
    /// Who was asked and said nothing, and why: a line each.
    pub silent: Vec<String>,
}

/// Names, and where to ask for more. Clones share what is found later.
#[derive(Clone, Debug, Default)]
pub struct Names {
    book: Arc<Book>,
    /// Inner addresses of this host's own interfaces, when they have been found.
    local: Arc<Mutex<HashMap<IpAddr, HostName>>>,
    /// What tunnel ids stand for on this host, when that has been found; nothing for those of which
    /// there are several.
    segments: Arc<Mutex<HashMap<Tunnel, Option<Segment>>>>,
    /// The same of each host that was recorded or tells it.
    told: Arc<Mutex<ToldIds>>,
    /// What services of this host say, when they have.
    asked: Arc<Mutex<ServiceNames>>,
    /// What the hosts of a fleet call themselves.
    hosts: Arc<Mutex<Arc<HashMap<IpAddr, String>>>>,
    resolver: Option<Arc<Resolver>>,
}

/// The meaning of tunnel ids on several hosts.
#[derive(Debug, Default)]
struct ToldIds {
    hosts: HashMap<Arc<str>, HostIds>,
    /// The different meanings of an id, and how many hosts have each.
    meanings: HashMap<Tunnel, Vec<(Segment, usize)>>,
    /// How many there are in `hosts`.
    size: usize,
}

/// The meaning of tunnel ids on one host.
#[derive(Debug, Default)]
struct HostIds {
    /// The configuration that says so: readings repeat it.
    of: Weak<Overlay>,
    ids: Vec<(Tunnel, Segment)>,
}

impl ToldIds {
    /// Replaces what a host said before. Returns the ids that this may change.
    fn tell(&mut self, host: &Arc<str>, overlay: &Arc<Overlay>) -> HashSet<Tunnel> {
        let mut changed = HashSet::default();
        match self.hosts.get(host) {
            Some(known) if known.of.as_ptr() == Arc::as_ptr(overlay) => return changed,
            None if self.hosts.len() >= MOST_HOSTS => return changed,
            _ => {}
        }
        for (id, segment) in self.hosts.remove(host).unwrap_or_default().ids {
            self.size -= 1;
            changed.insert(id);
            let Some(meanings) = self.meanings.get_mut(&id) else { continue };
            for (_, hosts) in meanings.iter_mut().filter(|(known, _)| *known == segment) {
                *hosts -= 1;
            }
            meanings.retain(|(_, hosts)| *hosts > 0);
            if meanings.is_empty() {
                self.meanings.remove(&id);
            }
        }
        let ids = overlay.segments.iter().take(MOST_TOLD.saturating_sub(self.size));
        let ids: Vec<_> = ids.map(|(id, segment)| (*id, segment.clone())).collect();
        self.size += ids.len();
        for (id, segment) in &ids {
            changed.insert(*id);
            let meanings = self.meanings.entry(*id).or_default();
            match meanings.iter_mut().find(|(known, _)| known == segment) {
                Some((_, hosts)) => *hosts += 1,
                None => meanings.push((segment.clone(), 1)),
            }
        }
        self.hosts.insert(Arc::clone(host), HostIds { of: Arc::downgrade(overlay), ids });
        changed
    }
}

/// What files say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Book {
    hosts: HashMap<IpAddr, String>,
    /// Those of them that only the system's own file says.
    system: HashSet<IpAddr>,
    /// Longest prefix first.
    nets: Vec<(IpNet, String)>,
    ids: HashMap<u32, String>,
    /// Every name and alias, in lower case, to what it means.
    meanings: HashMap<String, Vec<Meaning>>,
    /// How many meanings there are.
    said: usize,
    /// What ports are called, by IP protocol.
    services: HashMap<(u8, u16), String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Net(IpNet),
    Id(u32),
}

impl Names {
    /// Reads `file`, if there is one, and then [`HOSTS`] for what it does not say.
    ///
    /// # Errors
    /// The file cannot be read or a line of it means nothing: which, and why.
    pub fn read(file: Option<&Path>) -> Result<Names> {
        let mut book = Book::default();
        if let Some(path) = file {
            let shown = sanitize(&path.to_string_lossy()).into_owned();
            let text = input::lossy_text(path, MOST_BYTES);
            book.add(&text.with_context(|| format!("read {shown}"))?, false)
                .map_err(|e| anyhow!("{shown}, {e}"))?;
        }
        // The system's own may hold what we do not understand; it is not ours to complain about.
        let system = input::read(Path::new(HOSTS), MOST_BYTES).unwrap_or_default();
        let _ = book.add(&String::from_utf8_lossy(&system), true);
        let services = input::read(Path::new(SERVICES), MOST_BYTES).unwrap_or_default();
        book.services = services_of(&String::from_utf8_lossy(&services));
        book.nets.sort_by_key(|(net, _)| std::cmp::Reverse(net.prefix_len()));
        Ok(Names { book: Arc::new(book), ..Names::default() })
    }

    /// Inner addresses of this host's own interfaces, and what those are called.
    pub fn learn_local(&self, found: HashMap<IpAddr, HostName>) {
        *self.local.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// The present meaning of tunnel ids on a host that was recorded or reports it. An id has no
    /// name while it means different things on different hosts.
    pub fn learn_recorded(&self, host: &Arc<str>, overlay: &Arc<Overlay>) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let mut segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        for id in told.tell(host, overlay) {
            let meaning = told.meanings.get(&id).map(|meanings| match &meanings[..] {
                [(only, _)] => Some(only.clone()),
                _ => None,
            });
            match meaning {
                Some(meaning) if segments.len() < MOST_IDS || segments.contains_key(&id) => {
                    segments.insert(id, meaning);
                }
                Some(_) => {}
                None => _ = segments.remove(&id),
            }
        }
    }

    /// What tunnel ids stand for on this host.
    pub fn learn_segments(&self, found: HashMap<Tunnel, Option<Segment>>) {
        *self.segments.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// What services of this host say.
    pub fn learn_asked(&self, mut found: ServiceNames) {
        for name in found.inner.values_mut().chain(found.outer.values_mut()) {
            if let Cow::Owned(short) = cut(&name.name) {
                name.name = short;
            }
        }
        *self.asked() = found;
    }

    fn asked(&self) -> MutexGuard<'_, ServiceNames> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a service says of an address that was seen in a tunnel, or outside.
    fn asked_of(&self, address: IpAddr, inner: bool) -> Option<HostName> {
        let asked = self.asked();
        if inner { &asked.inner } else { &asked.outer }.get(&address).cloned()
    }

    /// What this host's files, interfaces and services say of an inner address, who knows best first.
    fn here(&self, address: IpAddr) -> impl Iterator<Item = HostName> {
        let local =
            self.local.lock().unwrap_or_else(PoisonError::into_inner).get(&address).cloned();
        let mut both = [local, self.asked_of(address, true)];
        both.sort_by_key(|name| name.as_ref().map(|name| name.from));
        both.into_iter().flatten()
    }

    /// Services of this host that were asked and said nothing, and why: a line each.
    pub fn silent(&self) -> Vec<String> {
        self.asked().silent.clone()
    }

    /// Outer addresses, and the hosts of a fleet that have them.
    pub fn learn_hosts(&self, found: HashMap<IpAddr, String>) {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        if **hosts != found {
            *hosts = Arc::new(found);
        }
    }

    /// The same again; the same map while nothing changes.
    pub fn hosts(&self) -> Arc<HashMap<IpAddr, String>> {
        Arc::clone(&self.hosts.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks for the names of these addresses and waits for answers, but no longer than this.
    pub fn settle(&self, addresses: impl Iterator<Item = (IpAddr, bool)>, most: Duration) {
        let Some(resolver) = &self.resolver else { return };
        addresses.for_each(|(address, inner)| drop(self.address(address, inner)));
        let end = Instant::now() + most;
        while resolver.is_waiting() && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Asks DNS for what is not known otherwise, in the background.
    pub fn resolve(&mut self, resolver: Resolver) {
        self.resolver = Some(Arc::new(resolver));
    }

    /// There is nothing to look up.
    pub fn is_empty(&self) -> bool {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        hosts.is_empty()
            && self.book.hosts.is_empty()
            && self.book.nets.is_empty()
            && local.is_empty()
            && *self.asked() == ServiceNames::default()
            && self.resolver.is_none()
    }

    /// What an address is called, safe for a terminal; never waits. `inner` says that it was seen in
    /// a tunnel, where this host's own interfaces have names, too.
    pub fn address(&self, address: IpAddr, inner: bool) -> Option<String> {
        if let Some(name) = self.book.address(address) {
            return Some(name.to_owned());
        }
        if inner && let Some(name) = self.here(address).next() {
            return Some(name.name);
        }
        if !inner
            && let Some(name) =
                self.hosts.lock().unwrap_or_else(PoisonError::into_inner).get(&address)
        {
            return Some(name.clone());
        }
        if !inner && let Some(name) = self.asked_of(address, false) {
            return Some(name.name);
        }
        self.resolver.as_ref()?.name(address)
    }

    /// The same for people to read: where the name is a network's, also the rest of the address, so
    /// that its addresses can be told apart: `blue-clients.7`, `blue-clients::7`.
    pub fn shown(&self, address: IpAddr, inner: bool) -> Option<String> {
        self.written(address).or_else(|| self.found(address, inner))
    }

    /// What files say of it: nothing is asked.
    pub fn written(&self, address: IpAddr) -> Option<String> {
        let named =
            self.book.net(address).map(|(net, name)| format!("{name}{}", host_part(net, address)));
        named.or_else(|| self.book.address(address).map(str::to_owned))
    }

    /// What else is known of it by now; DNS is asked where nothing is.
    pub fn found(&self, address: IpAddr, inner: bool) -> Option<String> {
        if self.written(address).is_some() {
            return None;
        }
        self.address(address, inner)
    }

    /// The name of a tunnel's id, safe for a terminal: the one in a file, which holds for tunnels of
    /// all kinds, or what the id stands for here.
    pub fn id(&self, tunnel: Tunnel) -> Option<String> {
        let written = self.book.ids.get(&tunnel.id?).cloned();
        written.or_else(|| Some(self.segment(tunnel)?.0))
    }

    /// The same for display: the name in a file, or else the id and what it stands for here.
    pub fn shown_id(&self, tunnel: Tunnel) -> Option<String> {
        let id = tunnel.id?;
        let segment = || Some(format!("{id} ({})", self.segment(tunnel)?.0));
        self.book.ids.get(&id).cloned().or_else(segment)
    }

    /// What a tunnel's id stands for, and who says so.
    fn segment(&self, tunnel: Tunnel) -> Option<(String, NameSource)> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        match segments.get(&tunnel) {
            Some(own) => own.as_ref().map(|own| (own.to_string(), NameSource::Interface)),
            None => {
                let asked = self.asked();
                asked.ids.get(&tunnel).map(|(segment, from)| (segment.to_string(), *from))
            }
        }
    }

    /// The tunnels whose ids stand for something.
    fn tunnels(&self) -> BTreeSet<Tunnel> {
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        segments.keys().chain(self.asked().ids.keys()).copied().collect()
    }

    /// What is known of an address by now, who says it best first.
    pub fn told(&self, address: IpAddr) -> Vec<HostName> {
        let of = |from: NameSource| move |name: String| HostName { name, from };
        let is_system = self.book.system.contains(&address);
        let book = if is_system { NameSource::Hosts } else { NameSource::File };
        let dns = self.resolver.as_ref().and_then(|resolver| resolver.name(address));
        self.written(address)
            .map(of(book))
            .into_iter()
            .chain(self.here(address))
            .chain(self.hosts().get(&address).cloned().map(of(NameSource::Fleet)))
            .chain(self.asked_of(address, false))
            .chain(dns.map(of(NameSource::Dns)))
            .collect()
    }

    /// The addresses that have a name of their own, in their order.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        let hosts = self.hosts();
        let asked = self.asked();
        let asked = asked.inner.keys().chain(asked.outer.keys());
        let all = self.book.hosts.keys().chain(local.keys()).chain(hosts.keys()).chain(asked);
        all.copied().collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The ids that have a name, in their order, and for which kinds of tunnels the name holds: for
    /// all if there are none.
    pub fn named_ids(&self) -> Vec<(u32, Vec<Kind>, HostName)> {
        let mut all: BTreeMap<(u32, NameSource, String), Vec<Kind>> = BTreeMap::new();
        for (id, name) in &self.book.ids {
            all.insert((*id, NameSource::File, name.clone()), Vec::new());
        }
        for tunnel in self.tunnels() {
            if let Some(id) = tunnel.id.filter(|id| !self.book.ids.contains_key(id))
                && let Some((name, from)) = self.segment(tunnel)
            {
                all.entry((id, from, name)).or_default().push(tunnel.kind);
            }
        }
        let named = |((id, from, name), kinds)| (id, kinds, HostName { name, from });
        all.into_iter().map(named).collect()
    }

    /// What the service at a port is called, as /etc/services has it; safe for a terminal.
    pub fn service(&self, l4: u8, port: u16) -> Option<&str> {
        self.book.services.get(&(l4, port)).map(String::as_str)
    }

    /// Reads a filter in which names stand for addresses and ids, of hosts in these groups.
    ///
    /// # Errors
    /// As [`Filter::parse`].
    pub fn filter(&self, text: &str, groups: &Arc<Groups>) -> Result<Filter, FilterError> {
        let (nets, ids) = (|n: &str| self.nets(n), |n: &str| self.ids(n));
        Filter::parse_named(text, &Meanings { nets: &nets, ids: &ids, groups: Some(groups) })
    }

    /// The same of packets.
    ///
    /// # Errors
    /// As [`PacketFilter::parse_named`].
    pub fn packet_filter(
        &self,
        text: &str,
        groups: &Arc<Groups>,
    ) -> Result<PacketFilter, FilterError> {
        let (nets, ids) = (|n: &str| self.nets(n), |n: &str| self.ids(n));
        let meanings = Meanings { nets: &nets, ids: &ids, groups: Some(groups) };
        PacketFilter::parse_named(text, &meanings)
    }

    /// The networks that a name means; filters take them. An address of a named network is known by
    /// what is shown of it, too.
    pub fn nets(&self, name: &str) -> Vec<IpNet> {
        let name = cut(name).to_lowercase();
        let book = self.book.meanings.get(&name).into_iter().flatten();
        let mut found: Vec<IpNet> = book
            .filter_map(|m| if let Meaning::Net(net) = m { Some(*net) } else { None })
            .collect();
        let local = self.local.lock().unwrap_or_else(PoisonError::into_inner);
        found.extend(
            local
                .iter()
                .filter(|(_, n)| n.name.to_lowercase() == name)
                .map(|(a, _)| IpNet::from(*a)),
        );
        let asked = self.asked();
        let all = asked.inner.iter().chain(&asked.outer);
        let called = all.filter(|(_, n)| n.name.to_lowercase() == name);
        found.extend(called.map(|(a, _)| IpNet::from(*a)));
        drop(asked);
        if let Some(resolver) = &self.resolver {
            found.extend(resolver.addresses(&name).into_iter().map(IpNet::from));
        }
        if found.is_empty() {
            found = self.book.shown(&name);
        }
        found
    }

    /// The tunnel ids that a name means.
    pub fn ids(&self, name: &str) -> Vec<Ids> {
        let book = self.book.meanings.get(&cut(name).to_lowercase()).into_iter().flatten();
        let mut found: Vec<(u32, Option<Kind>)> = book
            .filter_map(|m| if let Meaning::Id(id) = m { Some((*id, None)) } else { None })
            .collect();
        let of = |tunnel: &Tunnel| Some((tunnel.id?, Some(tunnel.kind)));
        let segments = self.segments.lock().unwrap_or_else(PoisonError::into_inner);
        let called =
            |segment: &Option<Segment>| segment.as_ref().is_some_and(|s| s.is_called(name));
        found.extend(segments.iter().filter(|(_, s)| called(s)).filter_map(|(t, _)| of(t)));
        let asked = self.asked();
        let others = asked.ids.iter().filter(|(tunnel, _)| !segments.contains_key(tunnel));
        found.extend(others.filter(|(_, (s, _))| s.is_called(name)).filter_map(|(t, _)| of(t)));
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|(id, kind)| Ids { kind, range: id..=id }).collect()
    }
}

impl Book {
    /// Adds what is not said already. `tolerant` passes over what means nothing.
    fn add(&mut self, text: &str, tolerant: bool) -> Result<(), String> {
        let text = text.strip_prefix('\u{feff}').unwrap_or(text); // editors of Windows put it there
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default();
            let mut words = line.split_whitespace();
            let Some(what) = words.next() else { continue };
            let mut names = words.map(|n| sanitize(&cut(n)).into_owned()).peekable();
            let said = match (meaning(what), names.peek()) {
                (Some(meaning), Some(name)) => {
                    self.say(meaning, name, tolerant);
                    names.try_for_each(|name| self.mean(&name, meaning))
                }
                (None, _) => Err(format!(
                    "{} is neither an address, nor a network, nor an id such as vni:10000",
                    sanitize(&cut(what))
                )),
                (_, None) => Err(format!("{} has no name", sanitize(what))),
            };
            if let Err(why) = said
                && !tolerant
            {
                return Err(format!("line {}: {why}", number + 1));
            }
        }
        Ok(())
    }

    /// Notes what else has this name, or alias.
    fn mean(&mut self, name: &str, meaning: Meaning) -> Result<(), String> {
        let all = self.meanings.entry(name.to_lowercase()).or_default();
        if all.last() != Some(&meaning) {
            if self.said == MOST_NAMES {
                return Err(format!("there are more than {MOST_NAMES} names"));
            }
            self.said += 1;
            all.push(meaning);
        }
        Ok(())
    }

    fn say(&mut self, meaning: Meaning, name: &str, is_system: bool) {
        match meaning {
            Meaning::Id(id) => drop(self.ids.entry(id).or_insert_with(|| name.to_owned())),
            Meaning::Net(net) if net.prefix_len() == net.max_prefix_len() => {
                // Every host has the same loopback: that is no name of anything seen on a wire.
                if !net.addr().is_loopback() {
                    if is_system && !self.hosts.contains_key(&net.addr()) {
                        self.system.insert(net.addr());
                    }
                    self.hosts.entry(net.addr()).or_insert_with(|| name.to_owned());
                }
            }
            Meaning::Net(net) => self.nets.push((net, name.to_owned())),
        }
    }

    fn address(&self, address: IpAddr) -> Option<&str> {
        self.hosts.get(&address).map(String::as_str).or_else(|| Some(self.net(address)?.1))
    }

    /// The network that an address has its name from.
    fn net(&self, address: IpAddr) -> Option<(IpNet, &str)> {
        let found = self.nets.iter().find(|(net, _)| net.contains(&address));
        found
            .filter(|_| !self.hosts.contains_key(&address))
            .map(|(net, name)| (*net, name.as_str()))
    }

    /// The addresses that are shown like this, in lower case.
    fn shown(&self, text: &str) -> Vec<IpNet> {
        let of = |(net, name): &(IpNet, String)| {
            let address = with_host_part(*net, text.strip_prefix(&name.to_lowercase())?)?;
            (self.net(address)? == (*net, name)).then_some(IpNet::from(address))
        };
        self.nets.iter().filter_map(of).collect()
    }
}

/// services(5): a name, a port and a protocol a line. What means nothing is passed over.
fn services_of(text: &str) -> HashMap<(u8, u16), String> {
    const MOST: usize = 65_536;
    let mut all = HashMap::default();
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(name), Some((port, l4))) =
            (words.next(), words.next().and_then(|at| at.split_once('/')))
        else {
            continue;
        };
        let l4 = match l4 {
            "tcp" => 6,
            "udp" => 17,
            "dccp" => 33,
            "sctp" => 132,
            _ => continue,
        };
        if let Ok(port) = port.parse()
            && all.len() < MOST
        {
            all.entry((l4, port)).or_insert_with(|| sanitize(&cut(name)).into_owned());
        }
    }
    all
}

/// What an address has beyond its network, in its own notation: whole numbers of it, from the one
/// in which the network ends.
fn host_part(net: IpNet, address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => a.octets()[usize::from(net.prefix_len() / 8)..]
            .iter()
            .map(|o| format!(".{o}"))
            .collect(),
        IpAddr::V6(a) => {
            let groups = a.segments();
            let own = &groups[usize::from(net.prefix_len() / 16)..];
            let own: Vec<_> =
                own.iter().skip_while(|g| **g == 0).map(|g| format!("{g:x}")).collect();
            format!("::{}", own.join(":"))
        }
    }
}

/// The inverse; `None` for what [`host_part`] does not make.
fn with_host_part(net: IpNet, text: &str) -> Option<IpAddr> {
    let address = match net {
        IpNet::V4(n) => {
            let host = format!(
                "{}{}",
                "0.".repeat(usize::from(n.prefix_len() / 8)),
                text.strip_prefix('.')?
            );
            IpAddr::V4(n.network() | host.parse::<Ipv4Addr>().ok()?)
        }
        // With nothing left out in front it is as long as an address, and `::` stands for nothing.
        IpNet::V6(n) => {
            let host = text
                .parse()
                .or_else(|e| text.strip_prefix("::").map_or(Err(e), str::parse::<Ipv6Addr>))
                .ok()?;
            IpAddr::V6(n.network() | host)
        }
    };
    (net.contains(&address) && host_part(net, address) == text).then_some(address)
}

/// A name as long as names may be.
pub fn cut(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(MOST_CHARS) {
        None => name.into(),
        Some(_) => name.chars().take(MOST_CHARS - 1).chain(['…']).collect::<String>().into(),
    }
}

fn meaning(text: &str) -> Option<Meaning> {
    if let Some(id) = text.strip_prefix("vni:").or_else(|| text.strip_prefix("id:")) {
        return id.parse().ok().map(Meaning::Id);
    }
    network(text).ok().map(Meaning::Net)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn vxlan(id: u32) -> Tunnel {
        Tunnel { kind: Kind::Vxlan, id: Some(id) }
    }

    /// The ids that a name means, as in a filter.
    fn ids(names: &Names, name: &str) -> String {
        let all: Vec<_> = names.ids(name).iter().map(Ids::to_string).collect();
        all.join(" ")
    }

    fn names(text: &str) -> Result<Names> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        file.write_all(text.as_bytes()).expect("written");
        Names::read(Some(file.path()))
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn what_has_no_end_is_read_to_a_limit() {
        let e = Names::read(Some(Path::new("/dev/zero"))).expect_err("no names");
        assert_eq!(
            format!("{e:#}"),
            "read /dev/zero: it is larger than the limit of 67108864 bytes"
        );
    }

    #[test]
    fn ports_are_called_as_the_system_says() {
        let all = services_of(
            "# none\n\nssh\t22/tcp\t# shell\nfirst 53/udp\nsecond 53/udp alias\nx 70000/tcp\ny 1/ddp\nz\nw 7\n\
             \u{1b}[2J 9/sctp\n",
        );
        assert_eq!(all.get(&(6, 22)).map(String::as_str), Some("ssh"));
        assert_eq!(all.get(&(17, 53)).map(String::as_str), Some("first"));
        assert_eq!(all.get(&(132, 9)).map(String::as_str), Some("␛[2J"), "nothing for a terminal");
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn a_name_is_cut() {
        let long = "é".repeat(1 << 20);
        let n = names(&format!("10.0.0.1 {long}\n10.0.0.2 {}\n", "y".repeat(255))).expect("names");
        let shown = n.address(ip("10.0.0.1"), false).expect("a name");
        assert!(shown.ends_with("é…") && shown.chars().count() == MOST_CHARS, "{shown}");
        assert_eq!(n.nets(&long), [IpNet::from(ip("10.0.0.1"))], "by the whole name, too");
        assert_eq!(n.nets(&shown), [IpNet::from(ip("10.0.0.1"))]);
        assert_eq!(n.address(ip("10.0.0.2"), false).expect("a name").len(), 255);
    }

    #[test]
    fn addresses_networks_and_ids() {
        let n = names(
            "# a comment\n\n 172.16.1.100\tnode-a node-a.example # and another\n172.16.1.0/24 rack-1\n172.16.0.0/16 site\n\
             2001:db8::1 six\nvni:10000 blue\nid:7 red\n172.16.1.100 twice\n",
        )
        .expect("names");
        assert_eq!(
            n.address(ip("172.16.1.100"), false).as_deref(),
            Some("node-a"),
            "the first says it"
        );
        assert_eq!(
            n.address(ip("172.16.1.101"), false).as_deref(),
            Some("rack-1"),
            "the longest prefix"
        );
        assert_eq!(n.address(ip("172.16.9.9"), false).as_deref(), Some("site"));
        assert_eq!(n.address(ip("2001:db8::1"), true).as_deref(), Some("six"));
        assert_eq!(n.address(ip("10.0.0.1"), false), None);
        let id = |id| n.id(Tunnel { kind: Kind::Gtpu, id: Some(id) });
        assert_eq!(
            (id(10000), id(7), id(1)),
            (Some("blue".to_owned()), Some("red".to_owned()), None)
        );
        assert_eq!(
            n.nets("NODE-A.example"),
            ["172.16.1.100/32".parse::<IpNet>().expect("a net")],
            "by any of its names"
        );
        assert_eq!(n.nets("rack-1"), ["172.16.1.0/24".parse::<IpNet>().expect("a net")]);
        let blue = Ids { kind: None, range: 10000..=10000 };
        assert_eq!((n.ids("blue"), n.ids("nobody")), (vec![blue], vec![]));
    }

    #[test]
    fn addresses_of_a_named_network_can_be_told_apart() {
        let n = names(
            "192.168.0.0/24 Blue\n10.1.16.0/20 hill\n0.0.0.0/0 world\n192.168.0.9 nine\n2001:db8:0:1::/64 six\n2001:db8:9::/52 wide\n\
             fd00::/8 local\n192.168.0.32/29 Blue-few\n",
        )
        .expect("names");
        for (address, plain, shown) in [
            ("192.168.0.7", "Blue", "Blue.7"),
            ("192.168.0.0", "Blue", "Blue.0"),
            ("192.168.0.9", "nine", "nine"),
            ("192.168.0.33", "Blue-few", "Blue-few.33"),
            ("10.1.17.5", "hill", "hill.17.5"),
            ("8.8.4.4", "world", "world.8.8.4.4"),
            ("2001:db8:0:1::7", "six", "six::7"),
            ("2001:db8:0:1::", "six", "six::"),
            ("2001:db8:0:1:a::", "six", "six::a:0:0:0"),
            ("2001:db8:0:1:0:ffff:102:304", "six", "six::ffff:102:304"),
            ("2001:db8:9:123::1", "wide", "wide::123:0:0:0:1"),
            ("fdab:1:2:3:4:5:6:7", "local", "local::fdab:1:2:3:4:5:6:7"),
        ] {
            assert_eq!(n.address(ip(address), true).as_deref(), Some(plain));
            assert_eq!(n.shown(ip(address), true).as_deref(), Some(shown));
            // What is shown can be typed; the plain name is the network.
            assert_eq!(n.nets(shown), [IpNet::from(ip(address))], "{shown}");
            assert!(n.nets(plain).iter().any(|net| net.contains(&ip(address))));
        }
        for none in [
            "Blue.9",
            "Blue.33",
            "Blue.256",
            "Blue.07",
            "Blue.1.7",
            "Blue7",
            "hill.32.1",
            "six::0",
            "six::1:0:0:0:0",
            "nobody.1",
        ] {
            assert_eq!(n.nets(none), [], "{none}");
        }
        assert!(n.filter("host:blue.7,blue inner:six::7", &Arc::default()).is_ok());
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, says) in [
            ("1.2.3.4 a\nnonsense b\n", "line 2: nonsense is neither"),
            ("1.2.3.4\n", "line 1: 1.2.3.4 has no name"),
            ("1.2.3.4/33 a\n", "line 1: 1.2.3.4/33 is neither"),
            ("vni:4294967296 a\n", "line 1: vni:4294967296 is neither"),
            ("\x1b[2J a\n", "line 1: ␛[2J is neither"),
        ] {
            let e = format!("{:#}", names(text).expect_err("a bad line"));
            assert!(e.contains(says), "{e}");
        }
        assert!(
            format!("{:#}", Names::read(Some(Path::new("/nowhere"))).expect_err("no file"))
                .contains("read /nowhere")
        );
    }

    #[test]
    fn names_are_made_safe() {
        let n = names("1.2.3.4 a\x1b[31mb\n127.0.0.1 me\n").expect("names");
        assert_eq!(n.address(ip("1.2.3.4"), false).as_deref(), Some("a␛[31mb"));
        assert_eq!(n.address(ip("127.0.0.1"), false), None, "everybody's");
    }

    #[test]
    fn ids_are_called_by_what_they_stand_for() {
        let n = names("vni:7 blue\n").expect("names");
        let segment = |bridge: &str, vrf: &str, is_routed| {
            let some = |name: &str| Some(name.to_owned()).filter(|name| !name.is_empty());
            Some(Segment { bridge: some(bridge), vrf: some(vrf), is_routed })
        };
        let found = [
            (vxlan(7), segment("br7", "", false)),
            (vxlan(10), segment("br10", "red", false)),
            (vxlan(50), segment("br50", "red", true)),
            (vxlan(60), None),
        ];
        n.learn_segments(found.into_iter().collect());
        let shown = [7, 10, 50, 60].map(|id| n.shown_id(vxlan(id)).unwrap_or_default());
        assert_eq!(shown, ["blue", "10 (br10 in VRF red)", "50 (VRF red)", ""]);
        assert_eq!(n.id(vxlan(50)).as_deref(), Some("VRF red"));
        assert_eq!(
            [ids(&n, "RED"), ids(&n, "br10"), ids(&n, "blue"), ids(&n, "vrf red")],
            ["vxlan/10 vxlan/50", "vxlan/10", "7", "vxlan/50"]
        );
        let from: Vec<_> = n.named_ids().into_iter().map(|(id, k, n)| (id, k, n.from)).collect();
        let (file, here) = (NameSource::File, NameSource::Interface);
        let kind = || vec![Kind::Vxlan];
        assert_eq!(from, [(7, vec![], file), (10, kind(), here), (50, kind(), here)]);
    }

    #[test]
    fn an_id_means_nothing_to_tunnels_of_other_kinds() {
        let n = names("vni:9 nine\n").expect("names");
        let bridge = |name: &str| Segment { bridge: Some(name.to_owned()), ..Segment::default() };
        let geneve = |id| Tunnel { kind: Kind::Geneve, id: Some(id) };
        let gtpu = |id| Tunnel { kind: Kind::Gtpu, id: Some(id) };
        n.learn_segments([(vxlan(77), Some(bridge("black")))].into_iter().collect());
        let ovn = [(geneve(77), "ls1"), (geneve(78), "ls2"), (vxlan(78), "ls2")];
        let ovn = ovn.map(|(tunnel, name)| (tunnel, (bridge(name), NameSource::Ovn)));
        n.learn_asked(ServiceNames { ids: ovn.into_iter().collect(), ..ServiceNames::default() });
        let shown = [vxlan(77), geneve(77), gtpu(77), geneve(78), vxlan(78), gtpu(78), gtpu(9)]
            .map(|tunnel| n.shown_id(tunnel).unwrap_or_default());
        assert_eq!(
            shown,
            [
                "77 (bridge black)",
                "77 (bridge ls1)",
                "",
                "78 (bridge ls2)",
                "78 (bridge ls2)",
                "",
                "nine"
            ]
        );
        assert_eq!([ids(&n, "black"), ids(&n, "ls2")], ["vxlan/77", "vxlan/78 geneve/78"]);
        let kinds: Vec<_> = n.named_ids().into_iter().map(|(id, kinds, _)| (id, kinds)).collect();
        let (black, ls1) = ((77, vec![Kind::Vxlan]), (77, vec![Kind::Geneve]));
        assert_eq!(kinds, [(9, vec![]), ls1, black, (78, vec![Kind::Vxlan, Kind::Geneve])]);
        let filter = n.filter("vni:black", &Arc::default()).expect("a filter");
        assert_eq!(filter.to_string(), "vni:vxlan/77");
    }

    #[test]
    fn services_are_believed_last_and_frr_of_outer_addresses() {
        let n = names("10.0.0.9 file\n").expect("names");
        let name = |name: &str, from| HostName { name: name.to_owned(), from };
        let segment = |vrf: &str, bridge: Option<&str>| Segment {
            bridge: bridge.map(str::to_owned),
            vrf: Some(vrf.to_owned()),
            is_routed: bridge.is_none(),
        };
        n.learn_segments([(vxlan(7), Some(segment("red", Some("br7"))))].into_iter().collect());
        let cart = name("shop/cart", NameSource::Cni);
        let device = name("cni-7f1f/eth0", NameSource::Interface);
        n.learn_local([(ip("10.0.0.2"), cart), (ip("10.0.0.5"), device)].into_iter().collect());
        let long = "x".repeat(1 << 20);
        n.learn_asked(ServiceNames {
            outer: [(ip("10.0.0.1"), name("leaf-1", NameSource::Frr))].into_iter().collect(),
            inner: [
                (ip("10.0.0.2"), name("port", NameSource::Ovs)),
                (ip("10.0.0.3"), name("web", NameSource::Docker)),
                (ip("10.0.0.9"), name("other", NameSource::Docker)),
                (ip("10.0.0.4"), name(&long, NameSource::Ovs)),
                (ip("10.0.0.5"), name("shop/web", NameSource::Cri)),
            ]
            .into_iter()
            .collect(),
            ids: [7, 8]
                .map(|id| (vxlan(id), (segment("blue", None), NameSource::Frr)))
                .into_iter()
                .collect(),
            silent: Vec::new(),
        });
        let called = |address: &str, inner| n.address(ip(address), inner).unwrap_or_default();
        assert_eq!([called("10.0.0.1", false), called("10.0.0.1", true)], ["leaf-1", ""]);
        assert_eq!([called("10.0.0.3", false), called("10.0.0.3", true)], ["", "web"]);
        assert_eq!([called("10.0.0.2", true), called("10.0.0.9", true)], ["shop/cart", "file"]);
        assert_eq!(called("10.0.0.4", true).chars().count(), MOST_CHARS);
        let from: Vec<_> = n.told(ip("10.0.0.2")).into_iter().map(|n| n.from).collect();
        assert_eq!(from, [NameSource::Cni, NameSource::Ovs]);
        assert_eq!(called("10.0.0.5", true), "shop/web", "a device says less than a service");
        assert_eq!(n.nets("WEB"), [IpNet::from(ip("10.0.0.3"))]);
        let named: Vec<_> =
            n.named_ids().into_iter().map(|(id, _, n)| (id, n.name, n.from.name())).collect();
        let (seven, eight) = ("br7 in VRF red".to_owned(), "VRF blue".to_owned());
        assert_eq!(named, [(7, seven, "interface"), (8, eight, "frr")]);
        assert_eq!([ids(&n, "blue"), ids(&n, "red")], ["vxlan/8", "vxlan/7"]);
    }

    #[test]
    fn ids_of_recordings_have_the_names_that_they_had() {
        let n = Names::default();
        let overlay = |id: u32, vrf: &str| {
            let mut overlay = Overlay::default();
            let segment = Segment { bridge: None, vrf: Some(vrf.to_owned()), is_routed: true };
            overlay.segments.insert(vxlan(id), segment);
            overlay
        };
        let tells =
            |host: &str, id, vrf| n.learn_recorded(&host.into(), &Arc::new(overlay(id, vrf)));
        for (host, id, vrf) in [("a", 7, "red"), ("b", 7, "red"), ("c", 8, "red"), ("d", 8, "blue")]
        {
            tells(host, id, vrf);
        }
        assert_eq!((n.id(vxlan(7)).as_deref(), n.id(vxlan(8))), (Some("VRF red"), None));
        // One host at a time gives its VRF another name.
        tells("d", 8, "red");
        assert_eq!(n.id(vxlan(8)).as_deref(), Some("VRF red"));
        tells("c", 8, "green");
        assert_eq!(n.id(vxlan(8)), None);
        tells("d", 8, "green");
        assert_eq!(n.id(vxlan(8)).as_deref(), Some("VRF green"));
        tells("d", 9, "green");
        tells("c", 9, "green");
        assert_eq!((n.id(vxlan(8)), n.id(vxlan(9)).as_deref()), (None, Some("VRF green")));
        let mut many = Overlay::default();
        for id in 0..MOST_IDS as u32 + 100 {
            many.segments.extend(overlay(1000 + id, "many").segments);
        }
        let many = Arc::new(many);
        (0..3).for_each(|_| n.learn_recorded(&"many".into(), &many));
        assert_eq!(n.named_ids().len(), MOST_IDS);
        let told = n.told.lock().expect("nobody panicked");
        assert_eq!(told.size, told.hosts.values().map(|host| host.ids.len()).sum::<usize>());
    }

    #[test]
    fn own_interfaces_are_inner_names_only() {
        let n = Names::default();
        assert!(n.is_empty());
        let name = HostName { name: "tenant/veth0".to_owned(), from: NameSource::Interface };
        n.learn_local([(ip("192.168.0.1"), name.clone())].into_iter().collect());
        assert_eq!(n.told(ip("192.168.0.1")), [name]);
        assert_eq!(n.addresses(), [ip("192.168.0.1")]);
        assert_eq!(n.address(ip("192.168.0.1"), true).as_deref(), Some("tenant/veth0"));
        assert_eq!(n.address(ip("192.168.0.1"), false), None);
        assert_eq!(n.nets("tenant/veth0"), ["192.168.0.1/32".parse::<IpNet>().expect("a net")]);
    }
}
