// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon attach`, `tmon detach` and `tmon status`.
use std::{
    io::{self, Write},
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::{Configured, TOOL, Watch, listing, out, say};
use crate::kernel::{
    discover::{NetnsView, not_chosen},
    live::by_namespace,
    netlink::Netlink,
    netns::NetnsHandle,
    origin, owner,
    pin::{BPFFS, Cost, Located, Lock, Pin, Pins, State, Whereabouts},
};
use export::json::{self, DocumentHead};
use feed::config::{Config, Port};
use model::{
    rows::Rows,
    units::{UNKNOWN, packets, percent, sanitize, timestamp},
};

/// Where the pinned objects are.
#[derive(Args, Debug)]
pub(super) struct Kept {
    /// Mount point of the bpffs
    #[arg(long, value_name = "FOLDER", default_value = BPFFS, hide = true)]
    bpffs: PathBuf,
}

impl Kept {
    fn pins(&self) -> Pins {
        Pins::at(&self.bpffs)
    }
}

#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub(super) struct Attach {
    #[command(flatten)]
    _configured: Configured,
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Args, Debug)]
pub(super) struct Detach {
    /// Interfaces to detach
    #[arg(value_name = "IFACE", required_unless_present = "all", add = clap_complete::engine::ArgValueCandidates::new(super::values::attached))]
    interfaces: Vec<String>,
    /// Detach everything that is attached, in all network namespaces
    #[arg(long, conflicts_with_all = ["interfaces", "netns"])]
    all: bool,
    /// Network namespace of the interfaces: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS", add = clap_complete::engine::ArgValueCandidates::new(super::values::namespaces))]
    netns: Option<String>,
    #[command(flatten)]
    kept: Kept,
}

#[derive(Args, Debug)]
pub(super) struct Status {
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    kept: Kept,
}

impl Attach {
    pub(super) fn run(&self) -> Result<()> {
        let pins = self.kept.pins();
        pins.check()?;
        let spaces = by_namespace(&self.watch.interfaces, self.watch.netns.as_deref())?;
        let lock = pins.lock()?;
        // Attach everywhere before printing anything: standard output may be closed.
        let mut done = Done::default();
        for (netns, names) in &spaces {
            if let Err(e) = self.attach_in(*netns, names, &pins, &lock, &mut done) {
                done.add(Err(e));
            }
        }
        if let Some(passing) = done.is_new.then(|| pins.passing()).flatten() {
            say(&passing);
        }
        done.report()
    }

    /// Attaches in one namespace.
    fn attach_in(
        &self,
        netns: Option<&str>,
        names: &[String],
        pins: &Pins,
        lock: &Lock,
        done: &mut Done,
    ) -> Result<()> {
        let place = NetnsHandle::open(netns)?;
        let words = place
            .name()
            .map_or(String::new(), |n| format!(" in network namespace {}", sanitize(n)));
        let scene = NetnsView::read_with_moved(&place, &mut Netlink::open_inside(&place)?)?;
        let choice = scene.choose(names, &words)?;
        choice.notices.iter().for_each(|n| say(n));
        let indexes: Vec<u32> = choice.links.iter().map(|l| l.index).collect();
        for o in scene.overlaps(&indexes) {
            let name = |i| scene.link(i).map_or("", |l| &l.name);
            say(&format!(
                "{} sees packets that {} also sees, so it is left out of totals",
                name(o.index),
                name(o.counted_on)
            ));
        }
        scene.bridged(&indexes).iter().for_each(|n| say(n));
        let config = self.watch.count.config();
        let found: Vec<Port> = not_chosen(&scene.ports(), &config.chosen()).collect();
        for link in &choice.links {
            let name = sanitize(&link.name);
            let (l3, loopback) = (!link.is_ethernet(), link.is_loopback());
            let config = Config { l3, loopback, ..config.clone() };
            let made = pins.attach(lock, &place, link, &config, &found, self.watch.want());
            done.is_new |= matches!(made, Ok(Some(_)));
            done.add(
                made.map(|hook| match hook {
                    Some(hook) => format!(
                        "{name}{words} is attached ({}) and counts without a running process; `tmon top` and `tmon dump` join it, `tmon detach` removes it",
                        hook.name()
                    ),
                    None => {
                        let about = pins.about(&place, link.index).ok().flatten();
                        let other = about.and_then(|a| a.differs(&config, self.watch.want()));
                        format!(
                            "{name}{words} is already attached; `tmon status` shows since when{}",
                            other.map_or(String::new(), |other| format!(
                                "; it keeps the options it was attached with: {other}"
                            ))
                        )
                    }
                })
                .with_context(|| format!("cannot attach to {name}{words}")),
            );
        }
        Ok(())
    }
}

/// What was done to several interfaces, and the first failure.
#[derive(Default)]
struct Done {
    lines: Vec<String>,
    failed: Option<anyhow::Error>,
    /// Something was attached.
    is_new: bool,
}

impl Done {
    fn add(&mut self, done: Result<String>) {
        match done {
            Ok(line) => self.lines.push(line),
            Err(e) if self.failed.is_none() => self.failed = Some(e),
            Err(e) => say(&format!("{e:#}")),
        }
    }

    fn report(self) -> Result<()> {
        let printed = self.lines.iter().try_for_each(|line| out::line(line));
        // A failure to attach or detach matters more than one to print.
        self.failed.map_or(Ok(printed?), Err)
    }
}

impl Detach {
    pub(super) fn run(&self) -> Result<()> {
        let pins = self.kept.pins();
        pins.check()?;
        if pins.list()?.is_empty() {
            if self.all {
                return Ok(out::line("nothing was attached")?);
            }
            anyhow::bail!("nothing is attached");
        }
        let lock = pins.lock()?;
        let all = pins.list()?;
        let mut wanted: Vec<Pin> = Vec::new();
        let spaces = by_namespace(&self.interfaces, self.netns.as_deref())?;
        let names = spaces.iter().flat_map(|(netns, names)| names.iter().map(|n| (*netns, n)));
        for (netns, name) in names {
            let place = NetnsHandle::open(netns);
            let found = called(&pins, &all, netns, place.as_ref().ok(), name)?;
            if found.is_empty() {
                place?;
                anyhow::bail!("{} is not attached: `tmon status` lists what is", sanitize(name));
            }
            let is_new = |pin: &Pin| wanted.iter().all(|w| !w.is(pin));
            let found: Vec<Pin> = found.into_iter().filter(is_new).collect();
            wanted.extend(found);
        }
        if self.all {
            wanted = all;
        }
        let mut done = Done::default();
        for pin in wanted {
            let name = pin.called();
            let name = sanitize(&name);
            // If one fails, the others are still detached.
            done.add(
                pins.detach(&lock, &pin)
                    .map(|()| format!("{name} is detached"))
                    .with_context(|| format!("cannot detach {name}")),
            );
        }
        owner::tidy();
        done.report()
    }
}

/// What a name in a namespace refers to: the attachments on the interface that has this name now,
/// and what is left of interfaces that had it and are gone. If there are none, and no interface has
/// this name, it refers to the attachment that was made under it and whose interface now has
/// another name or is elsewhere.
fn called(
    pins: &Pins,
    all: &[Pin],
    netns: Option<&str>,
    place: Option<&NetnsHandle>,
    name: &str,
) -> Result<Vec<Pin>> {
    let (mut found, mut exists, mut cookie) = (Vec::new(), false, None);
    if let Some(place) = place {
        cookie = Some(place.cookie()?);
        if let Some(link) = Netlink::open_inside(place)?.link(name)? {
            found = pins.of(place, link.index)?;
            exists = true;
        }
    }
    let mut others = Vec::new();
    // Pins of a namespace that is gone are found by the name it had.
    let was_here = |p: &&Pin| Some(p.cookie) == cookie || netns.is_some_and(|n| p.survives(n));
    for pin in all.iter().filter(|p| p.name == name).filter(was_here) {
        match pin.whereabouts()? {
            Whereabouts::Gone | Whereabouts::Hidden => found.push(pin.clone()),
            Whereabouts::On(_) | Whereabouts::Away { .. } => others.push(pin.clone()),
        }
    }
    if found.is_empty() && !exists {
        anyhow::ensure!(
            others.len() < 2,
            "{} is what {} interfaces were called when they were attached: `tmon status` lists their names now",
            sanitize(name),
            others.len()
        );
        found = others;
    }
    Ok(found)
}

/// What `--json` prints. Missing values are null.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    head: DocumentHead<'static>,
    attached: Vec<Attached>,
}

#[derive(Serialize)]
struct Attached {
    interface: String,
    ifindex: u32,
    netns: Option<String>,
    netns_cookie: u64,
    /// The name and the namespace in which it was attached; null if both are unchanged.
    was: Option<Was>,
    /// Whether it left the network namespace in which it was attached. If `was` is null as well, its
    /// present place is unknown, and the fields above give the original one.
    moved: bool,
    /// `counting`, `off`, `unfinished` or `other-layout`; null if privileges do not allow to find
    /// out.
    state: Option<&'static str>,
    hook: Option<String>,
    since: Option<String>,
    /// The version of tmon that attached it.
    tool: Option<String>,
    layout: u32,
    seen_pkts: Option<u64>,
    counted_pkts: Option<u64>,
    /// Shards of rows in the tables.
    rows: Option<usize>,
    /// Slots in use in the fuller table, and its size.
    slots_used: Option<u64>,
    slots: Option<u64>,
    /// Nanoseconds per packet since the kernel's BPF statistics were enabled; null if they are not.
    cost_ns: Option<f64>,
    /// Programs that run before it and can hide packets from it.
    before: Vec<String>,
    /// What prevents reading it.
    trouble: Option<String>,
    /// What to do about its state.
    advice: Option<String>,
}

/// Where an interface was attached.
#[derive(Serialize)]
struct Was {
    interface: String,
    ifindex: u32,
    netns: Option<String>,
    netns_cookie: u64,
}

impl Attached {
    fn new(pin: &Pin) -> Attached {
        let mut a = Attached {
            interface: pin.name.clone(),
            ifindex: pin.ifindex,
            netns: None,
            netns_cookie: pin.cookie,
            was: None,
            moved: false,
            state: None,
            hook: None,
            since: None,
            tool: None,
            layout: pin.layout,
            seen_pkts: None,
            counted_pkts: None,
            rows: None,
            slots_used: None,
            slots: None,
            cost_ns: None,
            before: Vec::new(),
            trouble: None,
            advice: None,
        };
        if let Err(e) = a.look(pin) {
            a.trouble = Some(format!("{e:#}"));
        }
        a
    }

    fn look(&mut self, pin: &Pin) -> Result<()> {
        let about = pin.about();
        if let Ok(Some(about)) = &about {
            self.hook = Some(about.hook.clone());
            self.since = timestamp(about.since());
            self.tool = Some(about.tool.clone());
            self.netns.clone_from(&about.netns);
        }
        let at = pin.whereabouts()?;
        match &at {
            Whereabouts::On(here) => self.settle(here)?,
            Whereabouts::Away { .. } | Whereabouts::Gone | Whereabouts::Hidden => {
                self.moved = matches!(at, Whereabouts::Away { moved: true });
                let home = NetnsHandle::by_cookie(pin.cookie);
                if let Some(name) = home.as_ref().and_then(NetnsHandle::name) {
                    self.netns = Some(name.to_owned()); // as it is called now
                }
            }
        }
        let state = pin.state(&at)?;
        self.state = Some(state.name());
        let detach = || pin.command("detach");
        self.advice = match state {
            State::Counting if self.moved && self.was.is_none() => Some(format!(
                "it is not in {} any more, and still counts in a network namespace that has no name here or may not be entered: {} removes it",
                self.space(),
                detach()
            )),
            State::Counting => None,
            State::Off if matches!(at, Whereabouts::Gone) => Some(format!(
                "its interface is not in {} any more: {} removes the rest",
                self.space(),
                detach()
            )),
            State::Off => Some(format!(
                "its interface is gone, or another process detached the programs: {} removes the rest",
                detach()
            )),
            State::Unfinished => Some(format!(
                "`attach` was interrupted: {} completes it, {} removes the rest",
                pin.command("attach"),
                detach()
            )),
            State::OtherLayout => Some(format!(
                "it was attached by another version of tmon, whose tables this version cannot read: run {}, then {}",
                detach(),
                pin.command("attach")
            )),
        };
        if matches!(state, State::OtherLayout | State::Unfinished) {
            return Ok(());
        }
        if let (State::Counting, Whereabouts::On(here)) = (state, &at) {
            self.before = pin.before(here)?.unwrap_or_default();
        }
        let program = pin.program()?;
        let books = program.books()?;
        let mut rows = Rows::default();
        let fill = program.rows(0, &mut rows)?;
        let both = |c: [model::flow::Count; 2]| c[0].packets.saturating_add(c[1].packets);
        (self.seen_pkts, self.counted_pkts) = (Some(both(books.seen())), Some(both(books.counted)));
        (self.rows, self.slots_used, self.slots) =
            (Some(rows.len()), Some(fill.used), Some(fill.size));
        self.cost_ns = pin.cost()?.map(|Cost { time, runs }| time.as_nanos() as f64 / runs as f64);
        Ok(())
    }

    /// Replaces its former name and place by the present ones.
    fn settle(&mut self, here: &Located) -> Result<()> {
        let cookie = here.place.cookie()?;
        let netns = here.place.name().map(str::to_owned);
        self.moved = cookie != self.netns_cookie;
        let netns = if self.moved { netns } else { netns.or_else(|| self.netns.clone()) };
        if self.moved || here.ifindex != self.ifindex || here.name != self.interface {
            self.was = Some(Was {
                interface: self.interface.clone(),
                ifindex: self.ifindex,
                netns: self.netns.clone(),
                netns_cookie: self.netns_cookie,
            });
        }
        (self.netns, self.netns_cookie) = (netns, cookie);
        (self.interface, self.ifindex) = (here.name.clone(), here.ifindex);
        Ok(())
    }

    /// Its namespace, for messages.
    fn space(&self) -> String {
        space(self.netns.as_deref())
    }

    /// Where it was moved from and to, if that is known.
    fn moved(&self) -> Option<String> {
        let was = self.was.as_ref().filter(|_| self.moved)?;
        Some(format!(
            "it was attached as {} in {} and moved to {}",
            sanitize(&was.interface),
            space(was.netns.as_deref()),
            self.space()
        ))
    }

    fn row(&self) -> [String; 10] {
        let or = |t: Option<String>| t.unwrap_or_else(|| UNKNOWN.to_owned());
        let clean = |t: &Option<String>| t.as_deref().map(|t| sanitize(t).into_owned());
        let part = |a: Option<u64>, b: Option<u64>| or(a.zip(b).map(|(a, b)| percent(a, b)));
        let was = self.was.as_ref().map(|w| &w.interface).filter(|w| **w != self.interface);
        let was = was.map_or(String::new(), |w| format!(" (was {})", sanitize(w)));
        [
            format!("{}{was}", sanitize(&self.interface)),
            self.netns.as_deref().map_or_else(String::new, |n| sanitize(n).into_owned()),
            self.state.unwrap_or("unknown").to_owned(),
            or(clean(&self.hook)),
            or(clean(&self.since)),
            or(clean(&self.tool)),
            packets(self.seen_pkts).to_string(),
            part(self.counted_pkts, self.seen_pkts),
            part(self.slots_used, self.slots),
            or(self.cost_ns.map(|ns| format!("{ns:.0} ns"))),
        ]
    }
}

/// A network namespace, for messages.
fn space(netns: Option<&str>) -> String {
    netns.map_or_else(
        || "this network namespace".to_owned(),
        |n| format!("network namespace {}", sanitize(n)),
    )
}

const TITLES: [&str; 10] =
    ["IFACE", "NETNS", "STATE", "HOOK", "SINCE", "BY", "SEEN", "COUNTED", "TABLE", "PER PACKET"];

impl Status {
    pub(super) fn run(&self) -> Result<()> {
        let pins = self.kept.pins();
        pins.can_tell()?;
        let attached: Vec<Attached> = pins.list()?.iter().map(Attached::new).collect();
        let report = Report { head: DocumentHead::new(TOOL, origin::host()), attached };
        if self.json {
            return Ok(json::line(&mut out::raw(), &report)?);
        }
        Ok(report.table(&mut out::people())?)
    }
}

impl Report {
    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        if self.attached.is_empty() {
            return writeln!(out, "nothing is attached");
        }
        let rows: Vec<_> = self.attached.iter().map(Attached::row).collect();
        listing::write(out, TITLES, &rows)?;
        for a in &self.attached {
            let name = sanitize(&a.interface);
            for rival in &a.before {
                writeln!(
                    out,
                    "{name}: {rival} runs before tmon; packets that it drops or redirects are not counted"
                )?;
            }
            for text in a.moved().iter().chain(&a.trouble).chain(&a.advice) {
                writeln!(out, "{name}: {}", sanitize(text))?;
            }
        }
        if self.attached.iter().all(|a| a.cost_ns.is_none())
            && self.attached.iter().any(|a| a.state == Some("counting"))
        {
            writeln!(
                out,
                "`sysctl kernel.bpf_stats_enabled=1` enables measuring the cost per packet, at a small cost of its own"
            )?;
        }
        Ok(())
    }
}
