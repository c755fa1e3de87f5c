// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces that this process watches itself, as they come, change and go.
//!
//! What an interface counted stays in the totals: one that comes back under its name continues
//! where it was. One that is gone releases its tables and descriptors and keeps sums (see
//! [`Sums`]), and those that have been gone for longest share one entry, so that memory depends on
//! what exists and not on how much has come and gone. Nothing that happens to one interface ends
//! the watch on another; it is reported by [`Live::notices`].
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    mem,
    os::fd::AsFd,
    path::Path,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{Resource, getrlimit};

use super::space::{Space, View};
use crate::kernel::{
    attach::{Attachment, Standing, Want},
    bpf::{Cells, Config, Port, Program},
    clock::host,
    discover::{FoundTunnel, NetnsView, not_chosen},
    drop_watch::{self, DropRing, DropWatch},
    netlink::Link,
    netns::{self, NetnsHandle},
    origin, owner,
    pin::{BPFFS, Pins},
    probe::{Prober, Wish},
    sandbox::Sandbox,
};
use feed::{
    Reading, Source,
    config::{address_space, interface_memory},
};
use model::{
    beside::{Beside, Gathered},
    drops::{DeviceDrops, Drops},
    filter::Filter,
    flow::{Books, Hook, HookKind, Key, Kind},
    interface::{Fill, GONE, Interface, Origin},
    lens::{Lens, LensEntry, LensRow},
    overlay::Overlay,
    rows::{Rows, Sums},
    snapshot::Snapshot,
    units::{self, Base, sanitize},
};

/// How often to check that our programs are still attached.
const CHECK: Duration = Duration::from_secs(1);
/// How long interfaces are attached to between two readings; at least one always is. Others wait
/// for the next time, so that the watched ones are read on schedule.
const ATTACHING: Duration = Duration::from_millis(100);
/// Limit on the interfaces watched at once, unless more are named individually: each has tables and
/// programs of its own.
const MOST_WATCHED: usize = 512;
/// Limit on interfaces that are gone and still have an entry of their own.
const MOST_GONE: usize = 64;
/// The descriptors of one interface: programs, maps, links.
const DESCRIPTORS: u64 = 22;
/// The descriptors of everything else.
const OTHER_DESCRIPTORS: u64 = 128;

/// The counts of tables that no longer exist.
#[derive(Clone, Default)]
struct Kept {
    books: Books,
    sums: Sums,
}

/// What tables that `tmon attach` pinned had counted when they were joined.
struct Before {
    books: Books,
    rows: Rows,
    beside: Beside,
}

impl Before {
    /// Reads it. The tables go on counting, so the books may be ahead of the rows, or behind them;
    /// on a quiet interface they are not.
    fn of(program: &mut Program, id: u64) -> Result<Before> {
        const TRIES: usize = 8;
        let mut all = Gathered::default();
        program.beside(id, &mut all)?;
        let beside = Beside::new(all);
        let mut cells = program.cells()?;
        let mut rows = Rows::default();
        for _ in 0..TRIES {
            rows = Rows::default();
            program.rows_beside(&cells, 0, &mut rows);
            let now = program.cells()?;
            if now.books() == mem::replace(&mut cells, now).books() {
                break;
            }
        }
        Ok(Before { books: cells.books(), rows, beside })
    }
}

/// When programs were attached by `tmon attach`.
#[derive(Clone, Copy)]
struct AttachTime {
    /// On the clock that runs while the machine sleeps, which is the same for all who join.
    since_ns: u64,
    since: SystemTime,
}

/// An interface that is or was watched.
struct Watched {
    id: u64,
    space: usize,
    netns: Option<String>,
    name: String,
    ifindex: u32,
    up: bool,
    l3: bool,
    /// Whether both hooks see each packet.
    loopback: bool,
    /// `None` if the interface is gone.
    program: Option<Program>,
    kept: Kept,
    /// What was kept of tables before these; `None` if these are pinned and are counted only since
    /// they were joined.
    earlier: Option<Kept>,
    /// What the tables had counted when they were joined, which is not counted here (again).
    before: Option<Box<Before>>,
    /// When it last went away.
    gone: Option<Instant>,
    attachment: Option<Attachment>,
    hook: HookKind,
    /// The last successful reading of its books, and its time.
    cells: Cells,
    read: Duration,
    /// The programs that run before ours, as last reported.
    rivals: Vec<String>,
    /// Another watched interface that its packets also pass.
    counted_on: Option<String>,
    /// When `tmon attach` attached the programs, if it did.
    attached: Option<AttachTime>,
    /// UDP ports whose meaning was given by whoever attached the programs, and stays.
    chosen: Vec<u16>,
}

/// An interface with probed rows.
pub struct ProbedInterface<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its namespace, if not the caller's.
    pub netns: Option<&'a str>,
    /// Whether its packets have no link header.
    pub l3: bool,
    /// The programs, while the interface exists.
    pub program: Option<&'a Program>,
}

/// The namespaces and devices whose drops count, and the tunnel that each device is an end of.
type Scopes = BTreeMap<drop_watch::Scope, Option<(Kind, Option<u32>)>>;

/// The counting of the kernel's drops, if requested.
struct Dropping {
    /// Or why there is none.
    watch: Result<DropWatch, Arc<str>>,
    /// By space: what is counted there, as of [`Live::apply`].
    scopes: Vec<Scopes>,
    /// Namespaces by inode number.
    namespaces: BTreeMap<u32, drop_watch::Space>,
    /// By space: indexes and names of the devices whose own counters are shown.
    devices: Vec<BTreeMap<u32, Arc<str>>>,
    /// When the name of an unknown namespace was last looked up.
    searched: Option<Instant>,
}

/// The interfaces that this process watches itself. Dropping it detaches the programs.
pub struct Live {
    config: Config,
    want: Want,
    pins: Pins,
    watched: Vec<Watched>,
    /// Namespaces; `None` once its name has been removed.
    spaces: Vec<Option<Space>>,
    /// The deadline for attaching to interfaces now, and how many have been attached.
    attaching: (Option<Instant>, usize),
    /// Limit on the interfaces watched at once.
    most: usize,
    /// The number of the next interface.
    next: u64,
    notices: Vec<String>,
    /// Problems already reported, by namespace and name, so that each is reported once.
    troubles: BTreeMap<(usize, String), String>,
    checked: Instant,
    detached: bool,
    drops: Option<Dropping>,
    origin: Origin,
    since: SystemTime,
    /// The same as [`AttachTime::since_ns`].
    since_ns: u64,
    start: Instant,
    /// The namespaces' configuration of tunnels, if it is followed.
    overlay: Option<Arc<Overlay>>,
}

/// The names of interfaces by their namespace, which may precede a name and a slash.
///
/// # Errors
/// One of them is empty.
pub(crate) fn by_namespace<'a>(
    names: &'a [String],
    netns: Option<&'a str>,
) -> Result<BTreeMap<Option<&'a str>, Vec<String>>> {
    let mut asked: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for name in names {
        // An interface has no slash in its name; the path of a namespace does.
        let (space, name) = name
            .rsplit_once('/')
            .map_or((netns, name.as_str()), |(space, name)| (Some(space), name));
        ensure!(!name.is_empty(), "'{}/' names no interface", sanitize(space.unwrap_or_default()));
        asked.entry(space).or_default().push(name.to_owned());
    }
    if names.is_empty() {
        asked.insert(netns, Vec::new());
    }
    Ok(asked)
}

/// The interfaces to watch in a namespace, by name or pattern, and its name.
type Asked<'a> = (Option<&'a str>, BTreeSet<String>);

impl Live {
    /// Merges namespaces that have several names, such as those of two processes of a container:
    /// their packets must not count twice.
    fn merged<'a>(
        &mut self,
        asked: BTreeMap<Option<&'a str>, Vec<String>>,
    ) -> Result<Vec<Asked<'a>>> {
        let mut all: Vec<(Option<u32>, Asked<'a>)> = Vec::new();
        let several = asked.len() > 1;
        for (netns, names) in asked {
            let inode = several.then(|| NetnsHandle::open(netns)?.inode()).transpose()?;
            match all.iter_mut().find(|(known, _)| several && *known == inode) {
                None => all.push((inode, (netns, names.into_iter().collect()))),
                Some((_, (first, known))) => {
                    let shown = |name: &Option<&str>| match name {
                        Some(name) => sanitize(name).into_owned(),
                        None => "the caller's".to_owned(),
                    };
                    self.notices.push(format!(
                        "{} and {} are the same network namespace: packets count once",
                        shown(first),
                        shown(&netns)
                    ));
                    known.extend(names);
                }
            }
        }
        Ok(all.into_iter().map(|(_, asked)| asked).collect())
    }

    /// Loads and attaches to every interface named, in the named network namespace or the caller's,
    /// or as `netns/interface` in another one; with none named, to those that carry tunnels now or
    /// later, or else to the default route's.
    ///
    /// # Errors
    /// One of them does not exist or cannot be watched: nothing stays attached.
    pub fn open(
        names: &[String],
        netns: Option<&str>,
        config: &Config,
        want: Want,
    ) -> Result<Live> {
        let asked = by_namespace(names, netns)?;
        let named: BTreeSet<String> = asked.values().flatten().cloned().collect();
        let now = Instant::now();
        let mut live = Live {
            config: config.clone(),
            want,
            pins: Pins::at(Path::new(BPFFS)),
            watched: Vec::new(),
            spaces: Vec::new(),
            attaching: (None, 0),
            most: MOST_WATCHED.max(names.len()),
            next: 0,
            notices: Vec::new(),
            troubles: BTreeMap::new(),
            checked: now,
            detached: false,
            drops: None,
            origin: origin::here(),
            since: SystemTime::now(),
            since_ns: host::boot(),
            start: now,
            overlay: None,
        };
        let mut views = Vec::new();
        for (netns, names) in live.merged(asked)? {
            let mut space = Space::open(netns, names)?;
            views.push(space.look(&mut live.notices)?);
            live.spaces.push(Some(space));
        }
        live.most = enough(views.iter().map(|v| v.wanted.len()).sum(), live.most, config)?;
        for (space, view) in views.iter().enumerate() {
            live.apply(space, view, true);
            for ((_, what), why) in std::mem::take(&mut live.troubles) {
                let link = what.strip_prefix("watch ");
                let space = live.spaces[space].as_mut();
                let gone = link.zip(space).is_some_and(|(name, space)| {
                    !named.contains(name) && matches!(space.netlink.link(name), Ok(None))
                });
                // If an interface matched a pattern and is gone by now, this is not a problem.
                if !gone {
                    bail!("{why}");
                }
            }
        }
        // While the programs' names may still be queried, and before a reading that may be the only
        // one.
        live.check_all();
        if live.is_attached() {
            live.since = live
                .watched
                .iter()
                .filter_map(|w| Some(w.attached?.since))
                .min()
                .unwrap_or(live.since);
        }
        Ok(live)
    }

    /// Counts what the kernel drops from now on, in the watched namespaces and in those that
    /// contain their tunnel devices; `all`: in all. Returns why that is impossible, if it is.
    pub fn watch_drops(&mut self, all: bool) -> Option<Arc<str>> {
        let watch = DropWatch::open(all, &self.config).map_err(|e| format!("{e:#}").into());
        let why = watch.as_ref().err().cloned();
        self.follow_drops(watch);
        why
    }

    /// The same, but also captures some of the packets.
    ///
    /// # Errors
    /// Why that cannot be done.
    pub(super) fn catch_drops(&mut self, wish: &Wish) -> Result<DropRing> {
        let (watch, ring) = DropWatch::catching(&self.config, wish)?;
        self.follow_drops(Ok(watch));
        Ok(ring)
    }

    fn follow_drops(&mut self, watch: Result<DropWatch, Arc<str>>) {
        let spaces = self.spaces.len();
        self.drops = Some(Dropping {
            watch,
            scopes: vec![BTreeMap::new(); spaces],
            namespaces: BTreeMap::new(),
            devices: vec![BTreeMap::new(); spaces],
            searched: None,
        });
        for space in 0..spaces {
            let trouble = self
                .look(space)
                .err()
                .map(|e| format!("cannot follow changes of the interfaces: {e:#}"));
            self.trouble(space, "follow ", "", trouble);
        }
    }

    /// The name of a namespace whose drops are watched, by its inode number; `None` for the
    /// caller's.
    pub(super) fn dropped_in(&self, netns: u32) -> Option<&str> {
        self.drops.as_ref()?.namespaces.get(&netns)?.name.as_deref()
    }

    /// Copies the meaning of UDP ports for dropped packets.
    pub(super) fn read_dropped_ports(&self, to: &mut contract::ports) {
        if let Some(Ok(watch)) = self.drops.as_ref().map(|d| &d.watch) {
            watch.read_ports(to);
        }
    }

    /// Whether everything watched was attached by `tmon attach`: totals are since then.
    pub fn is_attached(&self) -> bool {
        !self.watched.is_empty() && self.watched.iter().all(|w| w.attached.is_some())
    }

    /// Whether anything was.
    pub fn joins(&self) -> bool {
        self.watched.iter().any(|w| w.attached.is_some())
    }

    /// Totals now, of everything that is or was watched.
    ///
    /// # Errors
    /// None at present: what cannot be read keeps its last values, and is reported.
    pub fn read(&mut self) -> Result<Snapshot> {
        self.follow_within(None);
        let snapshot = self.read_now();
        // New interfaces do not hold up existing ones.
        if self.is_behind() {
            self.follow();
        }
        Ok(snapshot)
    }

    fn read_now(&mut self) -> Snapshot {
        let (taken, at) = (SystemTime::now(), self.start.elapsed());
        // Before the rows, so that whatever was dropped after it was counted has its row.
        let dropped = self.read_drops();
        let mut interfaces = Vec::with_capacity(self.watched.len());
        let mut rows = Rows::default();
        for i in 0..self.watched.len() {
            let swept = self.watched[i].program.as_mut().map_or(Ok(()), Program::sweep);
            if let Err(e) = swept {
                self.notices.push(format!("{}: {e:#}", self.watched[i].shown()));
            }
            let cells = self.watched[i].program.as_ref().map(Program::cells).transpose();
            let trouble = match cells {
                Ok(cells) => {
                    self.watched[i].cells = cells.unwrap_or_default();
                    self.watched[i].read = at;
                    None
                }
                Err(e) => Some(format!(
                    "cannot read the counters of {}; showing the last values read: {e:#}",
                    self.watched[i].shown()
                )),
            };
            let unread = trouble.is_some();
            self.trouble(self.watched[i].space, "", &self.watched[i].name.clone(), trouble);
            let w = &self.watched[i];
            let (fill, whole) = w.rows(i as u16, &mut rows);
            let held = w.program.as_ref().and_then(Program::held_by).map(|who| {
                format!(
                    "{}: {who} holds the lock of its tables: reading without it, and no rows age",
                    w.shown()
                )
            });
            self.trouble(self.watched[i].space, "lock ", &self.watched[i].name.clone(), held);
            let w = &self.watched[i];
            let mut books = w.kept.books;
            books.add(&w.books());
            interfaces.push(Interface {
                loopback: w.loopback,
                id: w.id,
                name: w.name.clone(),
                ifindex: w.ifindex,
                netns: w.netns.clone(),
                hook: w.hook,
                counted_on: w.counted_on.clone(),
                stale: unread || !whole,
                attached: w.attached.map(|a| a.since),
                books,
                span: w.read,
                fill,
                host: None,
            });
        }
        let drops = self.tell_drops(dropped, &rows);
        let beside = self.beside(&interfaces);
        Snapshot {
            origin: self.origin.clone(),
            since: self.since,
            taken,
            at,
            interfaces,
            rows,
            drops,
            beside,
        }
    }

    /// What is known beside the rows.
    fn beside(&mut self, interfaces: &[Interface]) -> Arc<Beside> {
        let now = host::packets();
        let mut all = Gathered { now, ..Gathered::default() };
        for (i, interface) in interfaces.iter().enumerate() {
            let w = &mut self.watched[i];
            let Some(program) = &mut w.program else { continue };
            let mut own = Gathered { now, ..Gathered::default() };
            let trouble = program.beside(w.id, &mut own).err();
            if let Some(before) = &w.before {
                own = Beside::new(own).since(&before.beside).read().clone();
            }
            if interface.loopback {
                own.of_hook(Hook::Rx);
            }
            all.append(own);
            let (space, name) = (w.space, w.name.clone());
            let trouble = trouble.map(|e| format!("{}: {e:#}", w.shown()));
            self.trouble(space, "numbers ", &name, trouble);
        }
        Arc::new(Beside::new(all))
    }

    fn read_drops(&mut self) -> Option<drop_watch::Counted> {
        let read = self.drops.as_mut()?.watch.as_mut().ok()?.read();
        let trouble = read.as_ref().err().map(|e| format!("drops of the kernel: {e:#}"));
        self.trouble(usize::MAX, "drops ", "", trouble);
        read.ok().flatten()
    }

    fn tell_drops(
        &mut self,
        counted: Option<drop_watch::Counted>,
        rows: &Rows,
    ) -> Option<Arc<Drops>> {
        let devices = self.device_drops()?;
        let dropping = self.drops.as_mut()?;
        if let Some(counted) = &counted {
            dropping.search(counted.namespaces());
        }
        let Dropping { watch, namespaces, .. } = dropping;
        Some(match watch {
            Err(why) => {
                let mut drops = Drops::default();
                (drops.unavailable, drops.devices) = (Some(Arc::clone(why)), devices);
                Arc::new(drops)
            }
            Ok(watch) => watch.told(counted, rows, devices, |inode| {
                namespaces.get(&inode).cloned().unwrap_or_else(|| drop_watch::Space::unnamed(inode))
            }),
        })
    }

    /// The devices' own counters; `None` if drops were not requested.
    fn device_drops(&mut self) -> Option<BTreeMap<drop_watch::Device, DeviceDrops>> {
        let dropping = self.drops.as_ref()?;
        let mut counters = BTreeMap::new();
        for (s, devices) in self.spaces.iter_mut().zip(&dropping.devices) {
            let Some(s) = s.as_mut().filter(|_| !devices.is_empty()) else { continue };
            // What cannot be read is left out.
            let links = s.netlink.links().unwrap_or_default();
            let qdiscs = s.netlink.qdisc_drops().unwrap_or_default();
            let netns: Option<Arc<str>> = s.place.name().map(Arc::from);
            for link in links {
                let Some(name) = devices.get(&link.index) else { continue };
                let drops = DeviceDrops {
                    rx_dropped: link.stats.rx_dropped,
                    rx_missed: link.stats.rx_missed_errors,
                    tx_dropped: link.stats.tx_dropped,
                    qdisc: qdiscs.get(&link.index).copied().unwrap_or_default(),
                };
                counters.insert((netns.clone(), Arc::clone(name)), drops);
            }
        }
        Some(counters)
    }

    /// Determines whose drops count: those of this namespace and of those that contain its tunnel
    /// devices.
    fn scope(&mut self, space: usize, scene: &NetnsView) -> Result<()> {
        let (Some(dropping), Some(Some(s))) = (&mut self.drops, self.spaces.get_mut(space)) else {
            return Ok(());
        };
        let inode = s.place.inode()?;
        let named =
            |name: Option<&str>| drop_watch::Space { name: name.map(Arc::from), elsewhere: false };
        let mut scope = BTreeMap::from([((inode, 0), None)]);
        dropping.namespaces.insert(inode, named(s.place.name()));
        let of = |t: &FoundTunnel| Some((t.device.kind, t.device.id));
        for t in scene.tunnels.iter().filter(|t| t.device.up) {
            scope.insert((inode, t.device.ifindex), of(t));
        }
        if !scene.elsewhere.is_empty() {
            for (name, netns) in netns::others() {
                let Ok(netns) = netns else { continue };
                let Ok(Some(number)) = s.netlink.number_of(netns.as_fd()) else { continue };
                let inode = netns.inode()?;
                for t in scene.elsewhere.iter().filter(|t| t.device.netnsid == Some(number)) {
                    scope.insert((inode, 0), None);
                    scope.insert((inode, t.device.ifindex), of(t));
                    dropping.namespaces.insert(inode, named(Some(&name)));
                }
            }
        }
        let devices = self.watched.iter().filter(|w| w.space == space && w.attachment.is_some());
        let devices = devices.map(|w| (w.ifindex, w.name.as_str()));
        let tunnels = scene.tunnels.iter().filter(|t| t.device.up);
        let devices = devices.chain(tunnels.map(|t| (t.device.ifindex, t.device.name.as_str())));
        dropping.devices[space] = devices.map(|(i, name)| (i, Arc::from(name))).collect();
        dropping.scopes[space] = scope;
        let Ok(watch) = &mut dropping.watch else { return Ok(()) };
        not_chosen(&scene.ports(), &self.config.chosen()).for_each(|p| watch.set_port(p));
        watch.look_at(dropping.scopes.iter().flatten().map(|(at, of)| (*at, *of)).collect())
    }

    /// Confines this process, for good, to what following and reading need; see [`Sandbox`]. A
    /// namespace that comes back under its name cannot be entered any more.
    ///
    /// # Errors
    /// The kernel refuses to drop privileges.
    pub fn enter(&self, sandbox: &Sandbox) -> Result<()> {
        for space in self.spaces.iter().flatten() {
            let own = sandbox.clone();
            space.place.run(move || own.enter())??;
        }
        // There are this thread and the namespaces' own threads.
        sandbox.enter_all()
    }

    /// Lets a prober examine rows of everything that is watched. To be called again now and then,
    /// for interfaces that have come since. Where this fails, there is a notice.
    ///
    /// # Errors
    /// It fails everywhere.
    pub fn probe(&mut self, prober: &mut Prober) -> Result<()> {
        let mut failed = None;
        for i in 0..self.watched.len() {
            let w = &mut self.watched[i];
            let Some(program) = &mut w.program else { continue };
            let looked = prober
                .look_at(w.id as u32, &w.name, w.l3, program)
                .and_then(|_| program.free_probes())
                .with_context(|| format!("probe {}", sanitize(&w.name)));
            let (space, name) = (w.space, w.name.clone());
            let trouble = looked.as_ref().err().map(|e| format!("cannot {e:#}"));
            self.trouble(space, "probe ", &name, trouble);
            failed = failed.or(looked.err());
        }
        match failed {
            Some(e) if prober.interfaces().is_empty() => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether the programs can compare an expression.
    ///
    /// # Errors
    /// It has too many values.
    pub fn check_probe(&self, filter: &Filter) -> Result<()> {
        let names = self.watched.iter().filter(|w| w.program.is_some()).map(|w| w.name.as_str());
        names.map(|name| filter.tests(name)).find_map(Result::err).map_or(Ok(()), |e| bail!(e))
    }

    /// Ends a prober.
    pub fn end_probe(&self, prober: &mut Prober) {
        for w in &self.watched {
            if let Some(program) = &w.program {
                prober.leave(w.id as u32, program);
            }
        }
    }

    /// What a prober has found in packets so far.
    ///
    /// # Errors
    /// The kernel cannot read it.
    pub fn lens(&self, prober: &Prober) -> Result<Lens> {
        let (filter, timed) = (prober.filter().to_string(), prober.timed()?);
        let mut lens = Lens { filter, timed, ..Lens::default() };
        for interface in prober.interfaces() {
            let caught = prober.caught(interface);
            lens.looked_at += caught.looked_at;
            lens.lost += caught.lens_lost;
        }
        let mut rows: BTreeMap<(String, Option<Key>), Vec<LensEntry>> = BTreeMap::new();
        let mut known = BTreeMap::new();
        for (interface, row, entry) in prober.sums()? {
            let (name, key) = known.entry((interface, row)).or_insert_with(|| {
                let at = self.probed_interface(interface);
                let name = at.as_ref().map_or("?", |i| i.name).to_owned();
                (name, at.and_then(|i| i.program).and_then(|p| p.probed_row(row)))
            });
            rows.entry((name.clone(), *key)).or_default().push(entry);
        }
        for ((interface, key), mut entries) in rows {
            entries.sort_by_key(|e| (Reverse(e.count.packets), e.reverse, e.ports, e.size));
            lens.rows.push(LensRow { interface, key, entries });
        }
        Ok(lens)
    }

    /// The watched interfaces, safe for display.
    pub fn shown_interfaces(&self) -> String {
        let there = self.watched.iter().filter(|w| w.program.is_some());
        there.map(Watched::shown).collect::<Vec<_>>().join(", ")
    }

    /// The interface with this number in what a prober caught.
    pub fn probed_interface(&self, number: u32) -> Option<ProbedInterface<'_>> {
        let w = self.watched.iter().find(|w| w.id as u32 == number)?;
        let (name, netns) = (&w.name, w.netns.as_deref());
        Some(ProbedInterface { name, netns, l3: w.l3, program: w.program.as_ref() })
    }

    /// What has happened since the last call, one line each.
    pub fn notices(&mut self) -> Vec<String> {
        self.notices.extend(owner::holder());
        mem::take(&mut self.notices)
    }

    /// Detaches the programs for good; what was counted can still be read.
    pub fn detach(&mut self) {
        self.detached = true;
        for w in &mut self.watched {
            w.attachment = None;
        }
    }

    /// Follows changes of the interfaces. Cheap if nothing has changed: to be called a few times a
    /// second; every reading does so.
    pub fn follow(&mut self) {
        self.follow_within(Instant::now().checked_add(ATTACHING));
    }

    /// Whether some interfaces still have to be attached to, so that it should follow again soon.
    pub fn is_behind(&self) -> bool {
        !self.detached && self.spaces.iter().flatten().any(|s| s.behind)
    }

    /// The same, attaching to interfaces until the deadline.
    fn follow_within(&mut self, until: Option<Instant>) {
        if self.detached {
            return;
        }
        self.attaching = (until, 0);
        for space in 0..self.spaces.len() {
            let trouble = self
                .follow_space(space)
                .err()
                .map(|e| format!("cannot follow changes of the interfaces: {e:#}"));
            self.trouble(space, "follow ", "", trouble);
        }
        if self.checked.elapsed() >= CHECK {
            self.check_all();
        }
    }

    fn check_all(&mut self) {
        self.checked = Instant::now();
        for i in 0..self.watched.len() {
            let trouble = self.check(i).err().map(|e| {
                format!("cannot tell whether {} is still watched: {e:#}", self.watched[i].shown())
            });
            let (space, name) = (self.watched[i].space, self.watched[i].name.clone());
            self.trouble(space, "check ", &name, trouble);
        }
    }

    fn follow_space(&mut self, space: usize) -> Result<()> {
        let Some(s) = &mut self.spaces[space] else { return Ok(()) };
        if !s.place.is_there() {
            self.leave(space);
            return Ok(());
        }
        let (removed, due) = s.listen()?;
        for w in
            self.watched.iter_mut().filter(|w| w.space == space && removed.contains(&w.ifindex))
        {
            w.is_gone(&mut self.notices);
        }
        self.fold();
        if due { self.look(space) } else { Ok(()) }
    }

    /// The name of a namespace is gone: we must not keep the namespace alive.
    fn leave(&mut self, space: usize) {
        for w in self.watched.iter_mut().filter(|w| w.space == space) {
            (w.attachment, w.hook) = (None, HookKind::Off);
            w.retire();
        }
        self.fold();
        if let Some(s) = self.spaces[space].take() {
            let name = s.place.name().unwrap_or_default();
            if let Some(dropping) = &mut self.drops {
                dropping.scopes[space].clear();
                dropping.devices[space].clear();
            }
            self.notices.push(format!(
                "network namespace {} is gone, and with it its interfaces",
                sanitize(name)
            ));
        }
    }

    /// Follows the namespaces' configuration of tunnels from now on: readings carry it.
    ///
    /// # Errors
    /// The kernel provides no socket to listen on.
    pub fn follow_configuration(&mut self) -> Result<()> {
        for space in self.spaces.iter_mut().flatten() {
            space.survey()?;
        }
        self.overlay = Some(Arc::default());
        (0..self.spaces.len()).try_for_each(|space| self.look(space))
    }

    /// Updates it, and rebuilds it only if something has changed.
    fn survey(&mut self) {
        if self.overlay.is_none() {
            return;
        }
        let mut changed = false;
        for i in 0..self.spaces.len() {
            let Some(space) = &mut self.spaces[i] else { continue };
            let result = space.has_changed();
            changed |= *result.as_ref().unwrap_or(&false);
            let words = space.words();
            let trouble = result.err().map(|e| format!("cannot follow changes{words}: {e:#}"));
            self.trouble(i, "follow ", "", trouble);
        }
        if changed {
            let mut overlay = Overlay::default();
            self.spaces.iter().flatten().for_each(|space| space.add_to(&mut overlay));
            overlay.events.sort_by_key(|e| e.at);
            self.overlay = Some(Arc::new(overlay));
        }
    }

    /// Compares what is watched in a namespace with what exists and what is wanted.
    fn look(&mut self, space: usize) -> Result<()> {
        let Some(s) = &mut self.spaces[space] else { return Ok(()) };
        let view = s.look(&mut self.notices)?;
        self.apply(space, &view, false);
        self.fold();
        Ok(())
    }

    fn apply(&mut self, space: usize, View { scene, wanted }: &View, first: bool) {
        let ports = scene.ports();
        let links = &scene.links;
        for w in self.watched.iter_mut().filter(|w| w.space == space) {
            if let Some(program) = &w.program {
                not_chosen(&ports, &w.chosen).for_each(|p| program.set_port(p));
            }
            if w.attachment.is_some() {
                match links.iter().find(|l| l.index == w.ifindex) {
                    Some(link) => w.changed(link, &mut self.notices),
                    None => w.is_gone(&mut self.notices),
                }
            }
        }
        for link in links {
            let here = || self.watched.iter().filter(|w| w.space == space);
            let is_wanted = wanted.contains(&link.index) || here().any(|w| w.name == link.name);
            if is_wanted && !here().any(|w| w.ifindex == link.index && w.attachment.is_some()) {
                let (until, attached) = self.attaching;
                let may = until.is_some_and(|until| attached == 0 || Instant::now() < until);
                if !first && !may {
                    if let Some(s) = &mut self.spaces[space] {
                        s.behind = true;
                    }
                    continue;
                }
                self.attaching.1 += 1;
                let trouble = self
                    .watch(space, link, &ports, first)
                    .err()
                    .map(|e| format!("cannot watch {}: {e:#}", self.shown(space, link)));
                self.trouble(space, "watch ", &link.name, trouble);
            }
        }
        // An interface that could not be watched and is gone is no longer a problem.
        self.troubles.retain(|(of, what), _| {
            let name = what.strip_prefix("watch ").filter(|_| *of == space);
            name.is_none_or(|name| links.iter().any(|l| l.name == name))
        });
        self.overlap(space, scene);
        let trouble = self.scope(space, scene).err().map(|e| format!("drops of the kernel: {e:#}"));
        self.trouble(space, "scope ", "", trouble);
    }

    /// Merges those that have been gone for longest into one entry, if there are too many.
    fn fold(&mut self) {
        let is_gone = |w: &Watched| w.program.is_none() && w.id != GONE;
        while self.watched.iter().filter(|w| is_gone(w)).count() > MOST_GONE {
            let gone = self.watched.iter().enumerate().filter(|(_, w)| is_gone(w));
            let Some((oldest, _)) = gone.min_by_key(|(_, w)| w.gone) else { return };
            let w = self.watched.remove(oldest);
            self.troubles.retain(|(space, what), _| {
                *space != w.space || what.split_once(' ').is_none_or(|(_, name)| name != w.name)
            });
            if let Some(heir) = self.watched.iter_mut().find(|w| w.id == GONE) {
                let mut rows = Rows::default();
                w.kept.sums.push(0, &mut rows);
                heir.kept.books.add(&w.kept.books);
                heir.kept.sums.add(&rows);
            } else {
                self.watched.push(Watched {
                    id: GONE,
                    space: usize::MAX,
                    netns: None,
                    name: "(gone)".to_owned(),
                    ifindex: 0,
                    loopback: false,
                    earlier: None,
                    before: None,
                    attached: None,
                    counted_on: None,
                    ..w
                });
            }
        }
    }

    /// Finds the interfaces watched in a namespace that see the same packets.
    fn overlap(&mut self, space: usize, scene: &NetnsView) {
        let there = |w: &&mut Watched| w.space == space && w.attachment.is_some();
        let watched: Vec<u32> = self.watched.iter_mut().filter(there).map(|w| w.ifindex).collect();
        let overlaps = scene.overlaps(&watched);
        for w in self.watched.iter_mut().filter(there) {
            let on = overlaps
                .iter()
                .find(|o| o.index == w.ifindex)
                .and_then(|o| scene.link(o.counted_on))
                .map(|l| l.name.clone());
            if let Some(on) = on.as_ref().filter(|on| w.counted_on.as_ref() != Some(on)) {
                let (upper, on) = (w.shown(), sanitize(on));
                self.notices.push(format!(
                    "{upper} sees packets that {on} also sees, so it is left out of totals"
                ));
            }
            w.counted_on = on;
        }
        if let Some(s) = &mut self.spaces[space] {
            let bridged = scene.bridged(&watched);
            self.notices.extend(bridged.iter().filter(|b| !s.bridged.contains(b)).cloned());
            s.bridged = bridged;
        }
    }

    /// Watches an interface, in its former place if it was watched before.
    fn watch(&mut self, space: usize, link: &Link, ports: &[Port], first: bool) -> Result<()> {
        let Some(s) = &self.spaces[space] else { return Ok(()) };
        let l3 = !link.is_ethernet();
        let before = self.watched.iter().position(|w| {
            w.space == space && w.attachment.is_none() && w.l3 == l3 && w.name == link.name
        });
        if let Some(w) = before.map(|i| &mut self.watched[i])
            && let Some(program) = &w.program
        {
            let attachment = Attachment::new(program, link.index, &s.place, self.want)?;
            w.is_back(link, attachment, &mut self.notices);
            return Ok(());
        }
        if self.watched.iter().filter(|w| w.program.is_some()).count() >= self.most {
            bail!("{} interfaces are already watched: name the ones that matter", self.most);
        }
        let (mut program, attachment, attached, chosen) = match self.pins.join(&s.place, link.index)
        {
            Ok(Some((program, attachment, about))) => {
                if let Some(differs) = about.differs(&self.config, self.want) {
                    self.notices.push(format!(
                        "{} keeps the options given to `tmon attach`: {differs}",
                        sanitize(&link.name)
                    ));
                }
                // The settings of `tmon attach` hold for all who join; devices may have been added
                // since.
                let chosen = about.config.chosen();
                not_chosen(ports, &chosen).for_each(|p| program.set_port(p));
                let attached = AttachTime { since_ns: about.since_ns, since: about.since() };
                (program, attachment, Some(attached), chosen)
            }
            joined => {
                // Failing to join does not prevent watching it ourselves.
                self.notices.extend(
                    joined
                        .err()
                        .map(|e| format!("{e:#}; watching {} from now on", sanitize(&link.name))),
                );
                let program = Program::load(&Config {
                    l3,
                    loopback: link.is_loopback(),
                    ..self.config.clone()
                })?;
                let chosen = self.config.chosen();
                not_chosen(ports, &chosen).for_each(|p| program.set_port(p));
                let attachment = Attachment::new(&program, link.index, &s.place, self.want)?;
                (program, attachment, None, chosen)
            }
        };
        // Those that were attached before this watch bring counts from before. At the start these
        // are what is asked for; later they would be of the interval in which they were joined.
        let older = attached.is_some_and(|a| !first && a.since_ns < self.since_ns);
        let mut joined = |id| Before::of(&mut program, id).map(Box::new);
        if let Some(w) = before.map(|i| &mut self.watched[i]) {
            let again = w.attached.zip(attached).is_some_and(|(a, b)| a.since_ns == b.since_ns);
            w.before = (again || older).then(|| joined(w.id)).transpose()?;
            match (&w.before, &w.earlier) {
                // The same tables: they counted on in the meantime.
                (Some(before), Some(earlier)) if again => {
                    w.kept = earlier.clone();
                    w.kept.books.add(&before.books);
                    w.kept.sums.add(&before.rows);
                }
                _ => w.earlier = (!older).then(|| w.kept.clone()),
            }
            if !again {
                w.attached = attached;
            }
            (w.program, w.chosen) = (Some(program), chosen);
            w.is_back(link, attachment, &mut self.notices);
            return Ok(());
        }
        let before = older.then(|| joined(self.next)).transpose()?;
        let w = Watched {
            id: self.next,
            space,
            netns: s.place.name().map(str::to_owned),
            name: link.name.clone(),
            ifindex: link.index,
            up: link.up,
            l3,
            loopback: link.is_loopback(),
            program: Some(program),
            kept: Kept::default(),
            earlier: (!older).then(Kept::default),
            before,
            gone: None,
            hook: attachment.kind(),
            attachment: Some(attachment),
            cells: Cells::default(),
            read: self.start.elapsed(),
            rivals: Vec::new(),
            counted_on: None,
            attached,
            chosen,
        };
        if !first {
            self.notices.push(format!("{} is watched from now on", w.shown()));
        }
        if w.loopback {
            self.notices.push(format!(
                "every packet of {} passes both hooks: totals count it once",
                w.shown()
            ));
        }
        self.next += 1;
        self.watched.push(w);
        Ok(())
    }

    /// Checks whether the programs are still attached to an interface, and run first.
    fn check(&mut self, i: usize) -> Result<()> {
        let w = &mut self.watched[i];
        let space = self.spaces.get_mut(w.space).and_then(Option::as_mut);
        let (Some(attachment), Some(s)) = (&w.attachment, space) else { return Ok(()) };
        let rivals = match attachment.standing(&mut s.netlink)? {
            Standing::There(rivals) => rivals,
            Standing::Gone => {
                if s.netlink.link_by_index(w.ifindex)?.is_none() {
                    w.is_gone(&mut self.notices);
                    return Ok(());
                }
                self.notices
                    .push(format!("another process detached tmon's programs from {}", w.shown()));
                (w.attachment, w.hook) = (None, HookKind::Off);
                return self.look(self.watched[i].space);
            }
        };
        for rival in rivals.iter().filter(|r| !w.rivals.contains(r)) {
            self.notices.push(format!(
                "{}: {rival} runs before tmon: packets that it drops or redirects are not counted",
                w.shown()
            ));
        }
        if rivals.is_empty() && !w.rivals.is_empty() {
            self.notices.push(format!("{}: no program runs before tmon any more", w.shown()));
        }
        w.rivals = rivals;
        Ok(())
    }

    fn shown(&self, space: usize, link: &Link) -> String {
        let place = self.spaces[space].as_ref().map_or(String::new(), Space::words);
        format!("{}{place}", sanitize(&link.name))
    }

    /// Reports a problem once; `None` means that it is over.
    fn trouble(&mut self, space: usize, what: &str, name: &str, now: Option<String>) {
        let key = (space, format!("{what}{name}"));
        match now {
            None => drop(self.troubles.remove(&key)),
            Some(text) => {
                if self.troubles.get(&key) != Some(&text) {
                    self.notices.push(text.clone());
                    self.troubles.insert(key, text);
                }
            }
        }
    }
}

impl Dropping {
    /// Looks for the names of unnamed namespaces, now and then.
    fn search(&mut self, inodes: BTreeSet<u32>) {
        const PAUSE: Duration = Duration::from_secs(5);
        let known = inodes.iter().all(|inode| self.namespaces.contains_key(inode));
        if known || self.searched.is_some_and(|at| at.elapsed() < PAUSE) {
            return;
        }
        self.searched = Some(Instant::now());
        for (name, netns) in netns::others() {
            let Some(inode) = netns.ok().and_then(|netns| netns.inode().ok()) else { continue };
            let space = || drop_watch::Space { name: Some(name.into()), elsewhere: true };
            self.namespaces.entry(inode).or_insert_with(space);
        }
    }
}

/// The number of interfaces that may be watched when this many match; an error if that is too few.
fn enough(meant: usize, most: usize, config: &Config) -> Result<usize> {
    if meant > most {
        bail!("{meant} interfaces match, but at most {most} can be watched at once: name fewer");
    }
    let (descriptors, _) =
        getrlimit(Resource::RLIMIT_NOFILE).context("ask for the limit on descriptors")?;
    let room = descriptors.saturating_sub(OTHER_DESCRIPTORS) / DESCRIPTORS;
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    if meant > room {
        bail!(
            "{meant} interfaces match, but {descriptors} file descriptors suffice only for {room}: raise `ulimit -n`, or name fewer"
        );
    }
    let memory = interface_memory(config);
    Ok(most.min(room).min(fitting(meant, memory, address_space())?))
}

/// How many interfaces fit into the address space if it is limited: otherwise tables that fill up
/// would end the program in the middle of a reading.
fn fitting(meant: usize, memory: u64, space: Option<u64>) -> Result<usize> {
    let Some(space) = space else { return Ok(usize::MAX) };
    let room = usize::try_from(space / memory.max(1)).unwrap_or(usize::MAX);
    if meant > room {
        bail!(
            "{meant} interfaces match, each of which may take {} with full tables, but `ulimit -v` allows only {room}: raise it, use fewer --rows, or name fewer",
            units::bytes(memory, Base::Si)
        );
    }
    Ok(room)
}

impl Source for Live {
    fn read(&mut self) -> Result<Reading> {
        let snapshot = Live::read(self)?;
        self.survey();
        let overlay = self.overlay.clone();
        Ok(Reading { notices: self.notices(), overlay, ..Reading::from(snapshot) })
    }

    fn follow(&mut self) -> Vec<String> {
        Live::follow(self);
        self.notices()
    }
}

impl Watched {
    /// Its name, safe for display.
    fn shown(&self) -> String {
        let place = self
            .netns
            .as_ref()
            .map_or(String::new(), |n| format!(" in network namespace {}", sanitize(n)));
        format!("{}{place}", sanitize(&self.name))
    }

    fn is_gone(&mut self, notices: &mut Vec<String>) {
        if let Some(attachment) = self.attachment.take() {
            attachment.forget();
            self.hook = HookKind::Off;
            self.retire();
            notices.push(format!("{} is gone: its counts are kept", self.shown()));
        }
    }

    /// Keeps the sums of its counts and releases the rest: the interface is gone.
    fn retire(&mut self) {
        let Some(program) = &self.program else { return };
        // What cannot be read any more keeps its last values.
        self.cells = program.cells().unwrap_or(mem::take(&mut self.cells));
        let mut rows = Rows::default();
        self.table_rows(0, &mut rows);
        let books = self.books();
        self.kept.books.add(&books);
        self.kept.sums.add(&rows);
        (self.program, self.before, self.cells) = (None, None, Cells::default());
        self.gone = Some(Instant::now());
    }

    /// Appends its rows: those of its tables, and the kept ones of former tables. Returns whether
    /// they are complete as well.
    fn rows(&self, interface: u16, rows: &mut Rows) -> (Fill, bool) {
        let read = self.table_rows(interface, rows);
        self.kept.sums.push(interface, rows);
        read
    }

    /// Appends the rows of its tables, without what these had counted when they were joined.
    fn table_rows(&self, interface: u16, rows: &mut Rows) -> (Fill, bool) {
        let Some(program) = &self.program else { return (Fill::default(), true) };
        let Some(before) = &self.before else {
            return program.rows_beside(&self.cells, interface, rows);
        };
        let mut all = Rows::default();
        let read = program.rows_beside(&self.cells, interface, &mut all);
        rows.append(&all.beyond(&before.rows, &[Some(interface)], interface));
        read
    }

    /// The books of its tables, without those from before they were joined.
    fn books(&self) -> Books {
        let books = self.cells.books();
        self.before.as_ref().map_or(books, |before| books.since(&before.books))
    }

    fn is_back(&mut self, link: &Link, attachment: Attachment, notices: &mut Vec<String>) {
        let again = if self.ifindex == link.index {
            "is watched again"
        } else {
            "is back as another interface of that name"
        };
        notices.push(format!("{} {again}: counting continues", self.shown()));
        (self.ifindex, self.up, self.hook) = (link.index, link.up, attachment.kind());
        self.attachment = Some(attachment);
        self.rivals.clear();
    }

    /// Applies changes of an interface that still exists.
    fn changed(&mut self, link: &Link, notices: &mut Vec<String>) {
        if self.name != link.name {
            let before = self.shown();
            self.name.clone_from(&link.name);
            notices.push(format!("{before} is now called {}", sanitize(&link.name)));
        }
        if self.up != link.up {
            self.up = link.up;
            notices.push(format!("{} is {}", self.shown(), if link.up { "up" } else { "down" }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_many_interfaces_are_refused_before_any_is_watched() {
        let config = Config::default();
        let refused = |meant, most| enough(meant, most, &config).expect_err("too many").to_string();
        assert_eq!(
            refused(513, 512),
            "513 interfaces match, but at most 512 can be watched at once: name fewer"
        );
        let (soft, _) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
        let many = usize::try_from(soft).expect("a number");
        assert!(refused(many, many).contains("raise `ulimit -n`"), "{}", refused(many, many));
        assert!(enough(3, 512, &config).expect("few") >= 3);
        assert_eq!(fitting(64, 100, None).expect("no limit"), usize::MAX);
        assert_eq!(fitting(4, 100, Some(450)).expect("enough"), 4);
        let said = fitting(5, 100, Some(450)).expect_err("too many").to_string();
        assert!(said.contains("allows only 4: raise it"), "{said}");
    }
}
