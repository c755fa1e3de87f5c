// SPDX-License-Identifier: MIT OR Apache-2.0
//! Metrics for Prometheus, OpenMetrics and node_exporter; docs/EXPORTS.md lists them.
//!
//! Values are our own running sums over intervals, so that a counter does not decrease when rows
//! age, tables are recreated or a reading fails. The number of series is bounded whatever arrives
//! (see `Sticky`), and no inner address is ever in a label.
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use foldhash::{HashMap, HashMapExt};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, prometheus_text, text},
    metrics::{MetricType, exemplar::Exemplar},
    registry::{Registry, Unit},
};

use crate::sticky::Sticky;
use model::{
    detect::{Finding, Severity, Topic},
    flow::{Count, Kind, Stop, Tunnel},
    groups::{Group, Groups, OTHER},
    interface::Fill,
    rows::Row,
    snapshot::Interval,
    units::sanitize,
};

/// Limits on what gets series of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// The number of tunnel ids with series of their own.
    pub tunnels: usize,
    /// The number of peers with series of their own per tunnel id; 0 for none.
    pub peers: usize,
    /// How long an idle one keeps its place while others want it; zero means forever.
    pub age: Duration,
}

/// The maximum number of interfaces with series of their own, and of drop reasons.
const INTERFACES: usize = 640;
const REASONS: usize = 128;
/// The stops of an interface; the others occur in captures only.
const STOPS: [Stop; 6] =
    [Stop::Plain, Stop::NonIp, Stop::Fragment, Stop::Truncated, Stop::Malformed, Stop::TooDeep];
const DIRECTIONS: [&str; 2] = ["rx", "tx"];

/// The text format of metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exposition {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// Prometheus's own text format 0.0.4, which node_exporter and promtool read.
    Classic,
}

impl Exposition {
    /// The format that a scraper prefers, by its `Accept` header.
    pub fn accepted(accept: &str) -> Exposition {
        match accept.to_ascii_lowercase().contains("application/openmetrics-text") {
            true => Exposition::OpenMetrics,
            false => Exposition::Classic,
        }
    }

    /// The `Content-Type` header.
    pub fn content_type(self) -> &'static str {
        match self {
            Exposition::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Exposition::Classic => prometheus_text::CONTENT_TYPE,
        }
    }
}

/// Where something was counted: network namespace and interface; without an interface, at one that
/// has no series of its own.
type Place = (Option<Arc<str>>, Option<Arc<str>>);
/// Two outer ends: the near one, which sends what leaves and receives what arrives, and the far
/// one.
type Ends = (IpAddr, IpAddr);
/// Sums by hook.
type Ways = [Count; 2];

/// The sums of one interface.
#[derive(Clone, Debug, Default)]
struct Sums {
    seen: Ways,
    counted: Ways,
    stops: [Ways; STOPS.len()],
}

/// Sums since the start, and current values.
#[derive(Debug)]
struct Metrics {
    version: &'static str,
    limits: SeriesLimits,
    now: Duration,
    interfaces: Sticky<Place, Sums>,
    /// The sums of interfaces without series of their own.
    rest: Sums,
    tunnels: Sticky<(Place, Tunnel), Ways>,
    peers: Sticky<(Place, Tunnel, Ends), Ways>,
    /// The traffic between groups of hosts, with a common sum for groups without series of their
    /// own.
    groups: Sticky<[Arc<str>; 2], Count>,
    other_groups: Count,
    /// By interface, the sums of tunnels and peers without series of their own.
    others: BTreeMap<Place, [Ways; 2]>,
    fills: BTreeMap<Place, Fill>,
    drops: Option<Sticky<Arc<str>, u64>>,
    other_drops: u64,
    findings: BTreeMap<(Topic, Severity), u64>,
    failed: u64,
}

/// Metrics that one thread updates and others read. Clones share them.
#[derive(Clone, Debug)]
pub struct Metering(Arc<Mutex<Metrics>>);

impl Metering {
    /// Metrics with nothing counted. `version` is the program's.
    pub fn new(version: &'static str, limits: SeriesLimits) -> Metering {
        Metering(Arc::new(Mutex::new(Metrics {
            version,
            limits,
            now: Duration::ZERO,
            interfaces: Sticky::new(INTERFACES, limits.age),
            rest: Sums::default(),
            tunnels: Sticky::new(limits.tunnels, limits.age),
            peers: Sticky::new(limits.peers, limits.age),
            groups: Sticky::new(limits.tunnels, limits.age),
            other_groups: Count::default(),
            others: BTreeMap::new(),
            fills: BTreeMap::new(),
            drops: None,
            other_drops: 0,
            findings: BTreeMap::new(),
            failed: 0,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, Metrics> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an interval; `findings` are all current ones, including earlier ones.
    pub fn add<'a>(&self, interval: &Interval, findings: impl IntoIterator<Item = &'a Finding>) {
        let mut metrics = self.lock();
        metrics.add(interval);
        metrics.findings.clear();
        for finding in findings.into_iter().filter(|f| f.until.is_none() && !f.muted) {
            *metrics.findings.entry((finding.topic, finding.severity)).or_default() += 1;
        }
    }

    /// Adds the traffic between groups of hosts in the same interval.
    pub fn add_groups(&self, interval: &Interval, groups: &Groups) {
        self.lock().add_groups(interval, groups);
    }

    /// All metrics as text.
    pub fn text(&self, exposition: Exposition) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self.clone()));
        let mut out = String::new();
        let written = match exposition {
            Exposition::OpenMetrics => text::encode(&mut out, &registry),
            Exposition::Classic => prometheus_text::encode(&mut out, &registry),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
        out
    }
}

fn add(sum: &mut Ways, more: &Ways) {
    sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += *more);
}

/// What a row counted, by hook, each packet once: the interval has decided which interface counts
/// it.
fn ways(row: &Row<'_>) -> Ways {
    let c = row.counters();
    let arrived = (0..2).filter(|way| !c.egress_only[*way]).map(|way| c.cells[0][way]);
    [arrived.sum(), c.tx()]
}

/// The same for either choice of the row's near end.
fn by_end(row: &Row<'_>) -> [Ways; 2] {
    let c = row.counters();
    let mut ends = [Ways::default(); 2];
    for (hook, cells) in c.cells.iter().enumerate() {
        for (direction, n) in cells.iter().enumerate() {
            if hook == 1 || !c.egress_only[direction] {
                // What arrives is for the near end, and what leaves comes from it.
                ends[usize::from((hook == 0) == (direction == 0))][hook] += *n;
            }
        }
    }
    ends
}

/// The keys of sums, the largest sum first, so that it gets a place first.
fn largest<K: Ord + Clone>(sums: &HashMap<K, Ways>) -> Vec<K> {
    let mut all: Vec<_> = sums.iter().map(|(k, n)| (n[0].bytes + n[1].bytes, k)).collect();
    all.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    all.into_iter().map(|(_, key)| key.clone()).collect()
}

impl Metrics {
    fn add(&mut self, interval: &Interval) {
        self.now += interval.elapsed;
        let places = self.add_books(interval);
        let place = |i: u16| places.get(usize::from(i)).cloned().unwrap_or_default();
        let mut tunnels: HashMap<(Place, Tunnel), Ways> = HashMap::new();
        let mut peers: HashMap<(Place, Tunnel, Ends), Ways> = HashMap::new();
        for row in interval.rows.walk().filter(|r| interval.once().counts(r)) {
            let (at, tunnel) = (place(row.interface()), row.outermost());
            let Some(pair) = row.outer() else {
                // Rows of no particular tunnel: the overflow row, and the row of what aged with it.
                let others = self.others.entry(at).or_default();
                others.iter_mut().for_each(|sum| add(sum, &ways(&row)));
                continue;
            };
            add(tunnels.entry((at.clone(), tunnel)).or_default(), &ways(&row));
            if self.limits.peers > 0 {
                let ends = [(pair.first, pair.second), (pair.second, pair.first)];
                for (ends, n) in ends.into_iter().zip(by_end(&row)) {
                    if n.iter().any(|n| !n.is_zero()) {
                        add(peers.entry((at.clone(), tunnel, ends)).or_default(), &n);
                    }
                }
            }
        }
        self.tunnels.seat(largest(&tunnels), self.now);
        for (key, n) in tunnels {
            match self.tunnels.get_mut(&key) {
                Some(sum) => add(sum, &n),
                None => add(&mut self.others.entry(key.0).or_default()[0], &n),
            }
        }
        self.peers.seat(largest(&peers), self.now);
        for (key, n) in peers {
            match self.peers.get_mut(&key) {
                Some(sum) => add(sum, &n),
                None => add(&mut self.others.entry(key.0).or_default()[1], &n),
            }
        }
        self.add_drops(interval);
    }

    fn add_groups(&mut self, interval: &Interval, groups: &Groups) {
        let mut sums: HashMap<[Option<Group>; 2], Ways> = HashMap::new();
        for row in interval.rows.walk().filter(|r| interval.once().counts(r)) {
            let Some(pair) = row.outer() else {
                row.sent().into_iter().for_each(|n| self.other_groups += n);
                continue;
            };
            let [a, b] = [pair.first, pair.second].map(|host| groups.of(host));
            for (ends, n) in [[a, b], [b, a]].into_iter().zip(row.sent()) {
                if !n.is_zero() {
                    sums.entry(ends).or_default()[0] += n;
                }
            }
        }
        // Without a group: an empty label.
        let path = |group: Option<Group>| Arc::from(group.map_or("", |group| groups.path(group)));
        let sums: HashMap<[Arc<str>; 2], Ways> =
            sums.into_iter().map(|(ends, n)| (ends.map(path), n)).collect();
        self.groups.seat(largest(&sums), self.now);
        for (key, [n, _]) in sums {
            *self.groups.get_mut(&key).unwrap_or(&mut self.other_groups) += n;
        }
    }

    /// Adds the interfaces' books. Returns where each of them is counted.
    fn add_books(&mut self, interval: &Interval) -> Vec<Place> {
        let shown = |name: &str| Arc::from(sanitize(name).as_ref());
        let own =
            |i: &model::interface::Interface| (i.netns.as_deref().map(shown), Some(shown(&i.name)));
        let mut places: Vec<Place> = interval.interfaces.iter().map(own).collect();
        self.interfaces.seat(places.iter().cloned(), self.now);
        self.fills.clear();
        for (i, place) in interval.interfaces.iter().zip(&mut places) {
            let sums = match self.interfaces.get_mut(place) {
                Some(sums) => {
                    let fill = self.fills.entry(place.clone()).or_default();
                    fill.used = fill.used.saturating_add(i.fill.used);
                    fill.size = fill.size.saturating_add(i.fill.size);
                    sums
                }
                None => {
                    *place = Place::default();
                    &mut self.rest
                }
            };
            add(&mut sums.seen, &i.books.seen());
            add(&mut sums.counted, &i.books.counted);
            for (sum, stop) in sums.stops.iter_mut().zip(STOPS) {
                add(sum, &i.books.stop(stop));
            }
        }
        self.failed += u64::from(interval.interfaces.iter().any(|i| i.stale));
        let interfaces = &self.interfaces;
        self.others.retain(|place, _| place.1.is_none() || interfaces.has(place));
        places
    }

    fn add_drops(&mut self, interval: &Interval) {
        let Some(drops) = interval.drops.as_deref().filter(|d| d.unavailable.is_none()) else {
            return;
        };
        let sums = self.drops.get_or_insert_with(|| Sticky::new(REASONS, Duration::ZERO));
        let reasons: BTreeSet<Arc<str>> = drops.rows.keys().map(|k| k.reason.clone()).collect();
        sums.seat(reasons, self.now);
        for (key, dropped) in &drops.rows {
            let sum = sums.get_mut(&key.reason).unwrap_or(&mut self.other_drops);
            *sum = sum.saturating_add(dropped.total().packets);
        }
    }

    /// The sums of interfaces: those with series of their own, then the rest if there is any.
    fn sums(&self) -> impl Iterator<Item = (Labels, &Sums)> {
        let rest = self.rest.seen.iter().any(|n| !n.is_zero());
        let rest = rest.then(|| (at(&Place::default()), &self.rest));
        self.interfaces.iter().map(|(place, sums)| (at(place), sums)).chain(rest)
    }

    fn write(&self, out: &mut Families<'_>) -> fmt::Result {
        let by_way = |labels: &Labels, n: &Ways| {
            let with = |(way, n): (&'static str, Count)| (labels.and("direction", way), n);
            DIRECTIONS.into_iter().zip(*n).map(with).collect::<Vec<_>>()
        };
        let books = self.sums().flat_map(|(labels, sums)| {
            let seen = by_way(&labels.and("state", "seen"), &sums.seen);
            seen.into_iter().chain(by_way(&labels.and("state", "counted"), &sums.counted))
        });
        out.counts(
            "tmon_interface",
            "that reached the hooks (seen), and that are in a row (counted)",
            books,
        )?;
        let stops = self.sums().flat_map(|(labels, sums)| {
            let of = |(stop, n): (Stop, &Ways)| by_way(&labels.and("reason", stop.name()), n);
            STOPS.into_iter().zip(&sums.stops).flat_map(of).collect::<Vec<_>>()
        });
        out.counts("tmon_stops", "that are in no row, and why", stops)?;
        let others = |which: usize| {
            let some = move |n: &&[Ways; 2]| n[which].iter().any(|n| !n.is_zero());
            let all = self.others.iter().filter(move |(_, n)| some(n));
            all.map(move |(place, n)| (at(place).and("kind", OTHER).and("id", OTHER), &n[which]))
        };
        let own = |(place, tunnel): &(Place, Tunnel)| of_tunnel(place, *tunnel);
        let tunnels = self.tunnels.iter().map(|(key, n)| (own(key), n)).chain(others(0));
        out.counts(
            "tmon_tunnel",
            "of a tunnel, each once",
            tunnels.flat_map(|(labels, n)| by_way(&labels, n)),
        )?;
        let ends = |labels: Labels, (near, far): (&dyn fmt::Display, &dyn fmt::Display)| {
            labels.and("local", near).and("remote", far)
        };
        let peers = self.peers.iter().map(|((place, tunnel, (near, far)), n)| {
            (ends(of_tunnel(place, *tunnel), (near, far)), n)
        });
        let rest = others(1).map(|(labels, n)| (ends(labels, (&OTHER, &OTHER)), n));
        if self.limits.peers > 0 {
            out.counts(
                "tmon_peer",
                "between two tunnel endpoints, each once",
                peers.chain(rest).flat_map(|(labels, n)| by_way(&labels, n)),
            )?;
        }
        let between = |[from, to]: [&str; 2]| Labels::default().and("from", from).and("to", to);
        let groups = self.groups.iter().map(|([from, to], n)| (between([from, to]), *n));
        let rest = (!self.other_groups.is_zero()).then(|| (between([OTHER; 2]), self.other_groups));
        let help = "that hosts of one group sent to those of another, each once";
        out.counts("tmon_group", help, groups.chain(rest))?;
        if let Some(drops) = &self.drops {
            let reason = |reason: &str| Labels::default().and("reason", sanitize(reason));
            let own = drops.iter().map(|(r, n)| (reason(r), *n));
            let rest = (self.other_drops > 0).then(|| (reason(OTHER), self.other_drops));
            let help = "Packets that the kernel dropped, by its reason";
            out.family("tmon_drops_packets", help, None, MetricType::Counter, own.chain(rest))?;
        }
        let findings = Topic::ALL.into_iter().flat_map(|topic| {
            [Severity::Note, Severity::Bad].map(|severity| {
                let labels = Labels::default().and("kind", topic.name());
                let n = self.findings.get(&(topic, severity)).copied().unwrap_or_default();
                (labels.and("severity", severity.name()), n)
            })
        });
        let help = "Problems present now, as reported by tmon watch";
        out.family("tmon_findings", help, None, MetricType::Gauge, findings)?;
        let fills = self.fills.iter().flat_map(|(place, fill)| {
            let state = |state| at(place).and("state", state);
            [(state("used"), fill.used), (state("size"), fill.size)]
        });
        let help =
            "Slots in the fuller of an interface's two tables; it is designed to be half full";
        out.family("tmon_table_slots", help, None, MetricType::Gauge, fills)?;
        let failed = [(Labels::default(), self.failed)];
        let help = "Readings in which an interface could not be read";
        out.family("tmon_readings_failed", help, None, MetricType::Counter, failed)?;
        out.info("tmon_build", "The program", &Labels::default().and("version", self.version))
    }
}

impl Collector for Metering {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.lock().write(&mut Families(encoder))
    }
}

/// Labels of a series.
#[derive(Clone, Debug, Default)]
struct Labels(Vec<(&'static str, String)>);

impl Labels {
    fn and(&self, name: &'static str, value: impl fmt::Display) -> Labels {
        let mut labels = self.clone();
        labels.0.push((name, value.to_string()));
        labels
    }
}

/// The labels of an interface. In the caller's namespace there is no namespace label, which is the
/// same as an empty one.
fn at((netns, interface): &Place) -> Labels {
    let labels = Labels::default().and("interface", interface.as_deref().unwrap_or(OTHER));
    match netns {
        Some(netns) => labels.and("netns", netns),
        None => labels,
    }
}

fn of_tunnel(place: &Place, tunnel: Tunnel) -> Labels {
    let kind = match tunnel.kind {
        Kind::None => "none".to_owned(),
        kind => kind.to_string(),
    };
    let id = tunnel.id.map_or_else(String::new, |id| id.to_string());
    at(place).and("kind", kind).and("id", id)
}

/// Writes families of series.
struct Families<'a>(DescriptorEncoder<'a>);

impl Families<'_> {
    /// Two families: packets and bytes.
    fn counts(
        &mut self,
        name: &str,
        what: &str,
        series: impl Iterator<Item = (Labels, Count)>,
    ) -> fmt::Result {
        let (packets, bytes): (Vec<_>, Vec<_>) =
            series.map(|(l, n)| ((l.clone(), n.packets), (l, n.bytes))).unzip();
        let full = format!("{name}_packets");
        let help = format!("Packets {what}");
        self.family(&full, &help, None, MetricType::Counter, packets)?;
        let help = format!("Bytes {what}, as frames on the wire");
        self.family(name, &help, Some(Unit::Bytes), MetricType::Counter, bytes)
    }

    /// Writes a family, if it has any series.
    fn family(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        kind: MetricType,
        series: impl IntoIterator<Item = (Labels, u64)>,
    ) -> fmt::Result {
        let mut series = series.into_iter().peekable();
        if series.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), kind)?;
        for (labels, value) in series {
            let mut one = metric.encode_family(&labels.0)?;
            match kind {
                MetricType::Counter => {
                    one.encode_counter(&value, None::<&Exemplar<[(&str, &str); 0], u64>>)?;
                }
                _ => one.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn info(&mut self, name: &str, help: &str, labels: &Labels) -> fmt::Result {
        self.0.encode_descriptor(name, help, None, MetricType::Info)?.encode_info(&labels.0)
    }
}

#[cfg(test)]
mod tests;
