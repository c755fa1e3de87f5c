// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is wrong, and why: findings (DESIGN section 10).
//!
//! A detector is a pure function of what happened in an interval, of what is remembered of earlier
//! ones ([`Past`]), and of how the host is configured ([`Overlay`]). It reports what is wrong now.
//! [`Detectors`] records since when, and keeps ended findings for a while.
mod addresses;
mod between;
mod books;
mod claims;
mod device;
mod drops;
mod endpoint;
mod flood;
mod fragments;
mod group;
mod gtpu;
mod known;
mod lost;
mod past;
#[cfg(test)]
mod quiet;
mod silent;
#[cfg(test)]
mod stage;
mod stuck;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use foldhash::HashMap;

pub use self::{
    group::{FindingGroup, grouped},
    known::Known,
    past::Past,
};
use crate::{
    flow::Tunnel,
    overlay::{Event, Overlay},
    snapshot::Interval,
};

/// The kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Topic {
    /// The kernel dropped a tunnel's packets here.
    Dropped,
    /// Packets go out and nothing comes back any more.
    Silent,
    /// An id arrives that no device accepts.
    NoDevice,
    /// Traffic and forwarding entries name different endpoints.
    WrongVtep,
    /// One inner address is behind two endpoints.
    Duplicate,
    /// An inner address moved to another endpoint.
    Moved,
    /// Packets are too big for the path.
    Mtu,
    /// An ICMP error reports that packets do not arrive.
    Unreachable,
    /// Packets are missing according to their sender's sequence numbers.
    Lost,
    /// The counts of two ends of a fleet disagree.
    LostBetween,
    /// Packets travel in fragments.
    Fragments,
    /// Packets arrive with a wrong checksum.
    Checksum,
    /// Broadcast, unknown unicast and multicast far above the usual rate.
    Flood,
    /// GTP-U reports an error, or a peer does not answer.
    GtpuError,
    /// Not everything could be counted where it belongs.
    Books,
}

impl Topic {
    /// Its name in JSON and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Topic::Dropped => "dropped",
            Topic::Silent => "silent",
            Topic::NoDevice => "no_device",
            Topic::WrongVtep => "wrong_vtep",
            Topic::Duplicate => "duplicate",
            Topic::Moved => "moved",
            Topic::Mtu => "mtu",
            Topic::Unreachable => "unreachable",
            Topic::Lost => "lost",
            Topic::LostBetween => "lost_between",
            Topic::Fragments => "fragments",
            Topic::Checksum => "checksum",
            Topic::Flood => "flood",
            Topic::GtpuError => "gtpu_error",
            Topic::Books => "books",
        }
    }

    /// All of them.
    pub const ALL: [Topic; 15] = [
        Topic::Dropped,
        Topic::Silent,
        Topic::NoDevice,
        Topic::WrongVtep,
        Topic::Duplicate,
        Topic::Moved,
        Topic::Mtu,
        Topic::Unreachable,
        Topic::Lost,
        Topic::LostBetween,
        Topic::Fragments,
        Topic::Checksum,
        Topic::Flood,
        Topic::GtpuError,
        Topic::Books,
    ];
}

/// How severe a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Severity {
    /// For information.
    Note,
    /// Packets do not arrive, or soon will not.
    Bad,
}

impl Severity {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Bad => "bad",
        }
    }
}

/// What a finding is about. Addresses follow the direction of the packets: the sender first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Subject {
    /// The interface, by name.
    pub interface: Option<String>,
    /// The outermost tunnel.
    pub tunnel: Option<Tunnel>,
    /// The outer sender.
    pub outer_from: Option<IpAddr>,
    /// The outer receiver.
    pub outer_to: Option<IpAddr>,
    /// The inner sender.
    pub inner_from: Option<IpAddr>,
    /// The inner receiver.
    pub inner_to: Option<IpAddr>,
    /// The reason, if one subject can have several: a drop reason, a kind of stop.
    pub reason: Option<String>,
}

impl Subject {
    /// Every address in it.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        [self.outer_from, self.outer_to, self.inner_from, self.inner_to].into_iter().flatten()
    }
}

/// What a detector reports now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// The kind of finding.
    pub topic: Topic,
    /// Its severity.
    pub severity: Severity,
    /// Its subject.
    pub place: Subject,
    /// When it began, if that is known to be before this interval.
    pub since: Option<SystemTime>,
    /// One sentence. `{}` in it stands for the packets since the finding began.
    pub text: String,
    /// The counts behind the sentence, of this interval or as their names say.
    pub counts: BTreeMap<&'static str, u64>,
    /// How long it stays open after it was last seen.
    pub stays: Duration,
}

/// A finding: one sentence with its evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Its number: counts up by one, never used again.
    pub number: u64,
    /// The kind of finding.
    pub topic: Topic,
    /// Its severity.
    pub severity: Severity,
    /// Its subject.
    pub place: Subject,
    /// When it began.
    pub since: SystemTime,
    /// When it ended; `None` while it is open.
    pub until: Option<SystemTime>,
    /// One sentence, as of when it was last seen.
    pub text: String,
    /// The counts behind it, added up since it began.
    pub counts: BTreeMap<&'static str, u64>,
    /// The most recent relevant configuration change before it.
    pub event: Option<Event>,
    /// It is known, so it raises no alarm.
    pub muted: bool,
    /// Until when it is known.
    known: Option<SystemTime>,
    seen: Duration,
    stays: Duration,
}

/// What happened to a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is new.
    Begun,
    /// It continues with another severity.
    Severity,
    /// It has ended.
    Ended,
}

impl Change {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Change::Begun => "begun",
            Change::Severity => "severity",
            Change::Ended => "ended",
        }
    }
}

/// The input of a detector.
#[derive(Clone, Copy, Debug)]
pub struct Evidence<'a> {
    /// The most recent interval.
    pub interval: &'a Interval,
    /// What is remembered, including this interval.
    pub past: &'a Past,
    /// How the host is configured; `None` if that is unknown, as for a capture.
    pub overlay: Option<&'a Overlay>,
}

impl Evidence<'_> {
    /// The name of an interface.
    fn interface(&self, index: u16) -> Option<String> {
        self.interval.interfaces.get(usize::from(index)).map(|i| i.name.clone())
    }

    /// `here`, or the name of a fleet's host.
    fn here(&self, interface: Option<&str>) -> String {
        match interface.filter(|_| self.interval.once().is_of_fleet()) {
            Some(host) => format!("to {host}"),
            None => "here".to_owned(),
        }
    }

    /// The namespace of an interface.
    fn netns(&self, index: u16) -> Option<&str> {
        self.interval.interfaces.get(usize::from(index)).and_then(|i| i.netns.as_deref())
    }
}

/// The detectors, each a pure function.
const DETECTORS: [fn(&Evidence<'_>) -> Vec<Sighting>; 13] = [
    drops::find,
    silent::find,
    device::find,
    endpoint::find,
    addresses::find,
    claims::find,
    lost::find,
    between::find,
    fragments::find,
    flood::find,
    gtpu::find,
    stuck::find,
    books::find,
];

/// Limit on the findings kept; the oldest of those that have ended go first.
pub const MOST: usize = 4096;

/// The detectors, their memory, and their findings.
#[derive(Clone, Debug)]
pub struct Detectors {
    past: Past,
    /// How long a finding is kept after it has ended.
    kept: Duration,
    known: Known,
    findings: BTreeMap<u64, Finding>,
    /// Open findings by kind and subject.
    open: HashMap<(Topic, Subject), u64>,
    next: u64,
    unsaid: u64,
}

impl Default for Detectors {
    fn default() -> Self {
        Detectors::keeping(Detectors::KEPT)
    }
}

impl Detectors {
    /// Ended findings are kept for as long as the history reaches back, unless all of them are
    /// kept.
    pub const KEPT: Duration = Duration::from_secs(600);

    /// Detectors that keep ended findings for this long.
    pub fn keeping(kept: Duration) -> Detectors {
        Detectors {
            past: Past::default(),
            kept,
            known: Known::default(),
            findings: BTreeMap::new(),
            open: HashMap::default(),
            next: 0,
            unsaid: 0,
        }
    }

    /// With a list of known findings.
    #[must_use]
    pub fn knowing(self, known: Known) -> Detectors {
        Detectors { known, ..self }
    }

    /// Takes the next interval, and returns what began, changed or ended with it, by number.
    pub fn step(&mut self, interval: &Interval, overlay: Option<&Overlay>) -> Vec<(u64, Change)> {
        self.past.take(interval);
        let look = Evidence { interval, past: &self.past, overlay };
        let sightings = explained(DETECTORS.iter().flat_map(|find| find(&look)).collect());
        let mut changes = Vec::new();
        for mut sighting in sightings {
            name_id(&mut sighting, overlay);
            let of = (sighting.topic, sighting.place.clone());
            if let Some(f) = self.open.get(&of).and_then(|n| self.findings.get_mut(n)) {
                if f.severity != sighting.severity {
                    changes.push((f.number, Change::Severity));
                }
                f.see(sighting, self.past.clock());
                f.muted = f.known.is_some_and(|until| interval.taken < until);
            } else if let Some(finding) = self.begin(sighting, interval, overlay) {
                changes.push((finding.number, Change::Begun));
                self.open.insert(of, finding.number);
                self.findings.insert(finding.number, finding);
            }
        }
        let clock = self.past.clock();
        for f in self.findings.values_mut().filter(|f| f.until.is_none()) {
            if clock.saturating_sub(f.seen) > f.stays {
                f.until = Some(interval.taken);
                self.open.remove(&(f.topic, f.place.clone()));
                changes.push((f.number, Change::Ended));
            }
        }
        self.findings.retain(|_, f| f.until.is_none() || clock.saturating_sub(f.seen) <= self.kept);
        changes
    }

    fn begin(
        &mut self,
        sighting: Sighting,
        interval: &Interval,
        overlay: Option<&Overlay>,
    ) -> Option<Finding> {
        if self.findings.len() >= MOST {
            let Some(oldest) = self.findings.values().find(|f| f.until.is_some()) else {
                self.unsaid += 1;
                return None;
            };
            let oldest = oldest.number;
            self.findings.remove(&oldest);
        }
        let since = sighting.since.unwrap_or(interval.since);
        let addresses: Vec<IpAddr> = sighting.place.addresses().collect();
        let device = sighting.place.interface.as_deref();
        let mut finding = Finding {
            number: self.next,
            topic: sighting.topic,
            severity: sighting.severity,
            place: sighting.place.clone(),
            since,
            until: None,
            text: String::new(),
            counts: BTreeMap::new(),
            event: overlay.and_then(|o| o.before(since, &addresses, device)).cloned(),
            muted: false,
            known: None,
            seen: Duration::ZERO,
            stays: Duration::ZERO,
        };
        finding.see(sighting, self.past.clock());
        finding.known = self.known.until(&finding);
        finding.muted = finding.known.is_some_and(|until| interval.taken < until);
        self.next += 1;
        Some(finding)
    }

    /// The findings, in the order in which they began.
    pub fn findings(&self) -> impl DoubleEndedIterator<Item = &Finding> + ExactSizeIterator {
        self.findings.values()
    }

    /// The finding with this number, if it is still kept.
    pub fn get(&self, number: u64) -> Option<&Finding> {
        self.findings.get(&number)
    }

    /// How many findings were discarded for want of room.
    pub fn unsaid(&self) -> u64 {
        self.unsaid
    }
}

impl Finding {
    fn see(&mut self, sighting: Sighting, clock: Duration) {
        self.severity = sighting.severity;
        (self.seen, self.stays) = (clock, sighting.stays);
        for (name, n) in sighting.counts {
            let sum = self.counts.entry(name).or_default();
            *sum = if is_total(name) { n } else { sum.saturating_add(n) };
        }
        let main = self.counts.iter().find(|(name, _)| name.ends_with("pkts"));
        self.text = match main {
            Some((_, n)) => sighting.text.replacen("{}", &packets(*n), 1),
            None => sighting.text,
        };
    }

    /// Whether the finding was open at a time.
    pub fn was_at(&self, time: SystemTime) -> bool {
        self.since <= time && self.until.is_none_or(|until| time < until)
    }
}

/// Whether a count is a running total: the latest value replaces earlier ones.
fn is_total(name: &str) -> bool {
    name == "mtu"
        || name.ends_with("_in_all")
        || name.ends_with("_seconds")
        || name.ends_with("_percent")
}

/// Drops sightings that another one explains better: a missing device if the kernel itself reports
/// it, and a silent peer whose packets go to the wrong endpoint.
fn explained(mut sightings: Vec<Sighting>) -> Vec<Sighting> {
    let mut without = BTreeSet::new();
    sightings.retain(|s| s.topic != Topic::NoDevice || without.insert(s.place.clone()));
    let without: BTreeSet<_> = without.into_iter().map(|place| place.tunnel).collect();
    let explains = |s: &&Sighting| {
        s.topic == Topic::WrongVtep || s.topic == Topic::LostBetween && s.severity == Severity::Bad
    };
    let astray: BTreeSet<_> =
        sightings.iter().filter(explains).map(|s| (s.place.tunnel, ends(&s.place))).collect();
    sightings.retain(|s| {
        let known =
            without.contains(&s.place.tunnel) || astray.contains(&(s.place.tunnel, ends(&s.place)));
        s.topic != Topic::Silent || !known
    });
    sightings
}

/// Adds the name of a tunnel's id at its first mention: `vxlan 10 (VRF red)`.
fn name_id(sighting: &mut Sighting, overlay: Option<&Overlay>) {
    let Some(tunnel) = sighting.place.tunnel else { return };
    let Some(segment) = overlay.and_then(|overlay| overlay.segments.get(&tunnel)) else { return };
    let id = tunnel.to_string();
    let is_digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
    let mut places = sighting.text.match_indices(&id).map(|(at, _)| at + id.len());
    if let Some(end) = places.find(|end| !sighting.text.get(*end..).is_some_and(is_digit)) {
        sighting.text.insert_str(end, &format!(" ({segment})"));
    }
}

fn ends(place: &Subject) -> [Option<IpAddr>; 2] {
    let mut ends = [place.outer_from, place.outer_to];
    ends.sort_unstable();
    ends
}

/// "10.0.0.1 → 10.0.0.2" for sentences.
struct Way(IpAddr, IpAddr);

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} to {}", self.0, self.1)
    }
}

/// A number of packets in words.
fn packets(n: u64) -> String {
    format!("{n} {}", if n == 1 { "packet" } else { "packets" })
}
