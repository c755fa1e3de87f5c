// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many hosts as one picture. A row has the counts of both ends: `tx` is the sender's, `rx` the
//! receiver's. [`crate::once::Once`] counts each packet at its sender, if that host is in the
//! fleet, or else at its receiver. Hosts on the way count only if neither end is in the fleet.
//!
//! Pure: time is an argument. Each host reports consecutive intervals; those of different hosts
//! arrive in any order. They are added up, so totals never decrease when a host is restarted.
use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::{
    beside::{Beside, Gathered, Passage},
    drops::Drops,
    flow::{Books, Count, HookKind, Key, Pair, Tunnel},
    interface::{Detail, Fill, Host, HostState, Interface, Origin},
    lane::Lane,
    ledger::{Ledger, Slot},
    rows::{Counts, Row},
    snapshot::{Interval, Snapshot},
};

/// Limit on the hosts; further ones are ignored, with a notice.
pub const MOST_HOSTS: usize = 10_000;
/// Limit on the rows that one host may add. Further ones are added up by tunnel; beyond twice as many,
/// by pair of hosts; beyond three times as many, in one row.
const MOST_ROWS: u32 = 65_536;
/// Limit on the hosts' own addresses, all together.
const MOST_ADDRESSES: usize = 1 << 20;
/// How many earlier starts of a host are remembered.
const MOST_STARTS: usize = 16;
/// Limit on the rows of all hosts together, where each is what one end counts: the tunnels of 2,000
/// hosts with 250 each. Beyond it, new rows are added up by tunnel, then by pair of hosts, then in
/// one row. A row takes 64 or 120 bytes in each of the fleet, the latest totals and the last interval.
const MOST_ROWS_OF_ALL: usize = 600_000;
/// Limit on the pairs of hosts outside the fleet; further ones are added up in one row of each host
/// that sees them.
const MOST_PAIRS: usize = 1 << 20;
/// Limit on the data beside the rows, and on the rows of drops.
const MOST_BESIDE: usize = 1 << 16;
/// The least difference from other clocks at which a clock is off, however short the interval.
const OFF: Duration = Duration::from_millis(50);
/// The window in which the shortest delay of a host's messages is determined, in two parts.
const WAYS: Duration = Duration::from_secs(30);
/// A host is silent after this many missing readings.
const SILENT: u32 = 3;
/// The part of a clock's error due to the delay between hosts and other unknowns.
const WAY: Duration = Duration::from_millis(1);
/// The assumed error of a clock that is not synchronised.
const LOOSE: Duration = Duration::from_millis(100);

/// A message of a host.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The interval that it reports.
    pub interval: &'a Interval,
    /// Whether it reports an interval, rather than only that the host is there.
    pub counts: bool,
    /// The host's own addresses; empty if they are unchanged.
    pub local: &'a [IpAddr],
    /// The sequence number of the message.
    pub seq: u64,
    /// The interval between its readings.
    pub cadence: Duration,
    /// The error of its clock, if it is synchronised.
    pub clock: Option<Duration>,
    /// How long the reading took.
    pub reading: Duration,
    /// The program and version of the host.
    pub tool: &'a str,
    /// Whether the host is leaving.
    pub leaves: bool,
}

/// A host.
#[derive(Debug)]
struct Member {
    name: Arc<str>,
    epoch: u64,
    /// The epochs of earlier starts.
    past: Vec<u64>,
    /// Whether two hosts report under this name.
    is_two: bool,
    /// Whether it has repeated frames.
    is_again: bool,
    seq: u64,
    cadence: Duration,
    /// When it was last heard; `None` if it has left.
    heard: Option<Duration>,
    is_silent: bool,
    host: Arc<Host>,
    /// Its own addresses.
    own: HashSet<IpAddr>,
    /// The smallest delay between the time of a reading by its clock and its arrival, in
    /// nanoseconds with an unknown offset: in the current window, and in the previous one.
    ways: [Option<i64>; 2],
    /// When the current window began.
    way_since: Duration,
    books: Books,
    span: Duration,
    fill: Fill,
    /// The number of rows that it added.
    rows: u32,
}

/// The row to which another row's counts are added.
type ToSum = fn(Key) -> Key;

/// What is known about the last pair of hosts, which is usually that of the next row as well.
#[derive(Clone, Copy, Debug)]
struct LastPair {
    pair: Pair,
    /// Which of them are addresses of the reporting host.
    own: [bool; 2],
    /// Which of them are addresses of any host.
    known: [bool; 2],
}

/// The hosts, and what they have reported.
#[derive(Debug)]
pub struct Fleet {
    origin: Origin,
    members: Vec<Member>,
    /// The host with each name.
    places: HashMap<Arc<str>, u16>,
    /// The host with each address.
    owners: HashMap<IpAddr, u16>,
    /// The host that counts each pair outside the fleet.
    transit: HashMap<Pair, u16>,
    /// Rows: a part of them for each direction, and those of packets in fragments apart.
    rows: Ledger,
    /// What kernels dropped; `None` if no host reports it.
    drops: Option<Drops>,
    beside: Gathered,
    since: Option<SystemTime>,
    taken: SystemTime,
    notices: Vec<String>,
    is_full: bool,
    is_crowded: bool,
    is_overfull: bool,
    most_rows: usize,
    /// The number of all hosts' own addresses, and whether some were left out.
    addresses: usize,
    has_more_addresses: bool,
}

impl Fleet {
    /// A fleet without hosts.
    pub fn new(origin: Origin) -> Fleet {
        Fleet {
            origin,
            members: Vec::new(),
            places: HashMap::new(),
            owners: HashMap::new(),
            transit: HashMap::new(),
            rows: Ledger::default(),
            drops: None,
            beside: Gathered::default(),
            since: None,
            taken: SystemTime::UNIX_EPOCH,
            notices: Vec::new(),
            is_full: false,
            is_crowded: false,
            is_overfull: false,
            most_rows: MOST_ROWS_OF_ALL,
            addresses: 0,
            has_more_addresses: false,
        }
    }

    /// The names of the hosts that have these addresses.
    pub fn hosts_of(&self, addresses: impl IntoIterator<Item = IpAddr>) -> HashSet<Arc<str>> {
        let host = |address| self.members.get(usize::from(*self.owners.get(&address)?));
        addresses.into_iter().filter_map(host).map(|m| Arc::clone(&m.name)).collect()
    }

    /// Takes a message of a host.
    pub fn hear(&mut self, told: &Told<'_>, now: Duration) {
        if let Some(at) = self.follow(told, now) {
            self.count_all(at, told.interval);
        }
    }

    /// Adds what a host counted; [`Fleet::follow`] returned its number. For several hosts at one
    /// moment, follow all of them before counting: which host counts a packet depends on whose
    /// addresses are known.
    pub fn count_all(&mut self, at: u16, interval: &Interval) {
        let mut last = None;
        for row in interval.rows.walk().filter(|r| interval.once().counts(r)) {
            self.count(at, &row, &mut last);
        }
        if let Some(told) = interval.drops.as_deref() {
            let drops = self.drops.get_or_insert_with(|| {
                let mut none = Drops::default();
                none.unavailable.clone_from(&told.unavailable);
                none
            });
            if told.unavailable.is_none() {
                drops.unavailable = None;
            }
            drops.add_host(&self.members[usize::from(at)].name, told, MOST_BESIDE);
        }
        if !interval.beside.is_empty() {
            // Without room, everything is forgotten and counting restarts at zero.
            if self.beside.len() >= MOST_BESIDE {
                self.beside = Gathered::default();
            }
            let told = interval.beside.read().clone();
            self.beside.add(&told.renumbered(|_| at.into()));
        }
    }

    /// Notes that a host has sent a message, without its counts. Returns the host's number if the
    /// message continues its sequence.
    pub fn follow(&mut self, told: &Told<'_>, now: Duration) -> Option<u16> {
        let at = self.member(told, now)?;
        let (interval, m) = (told.interval, &mut self.members[usize::from(at)]);
        if told.counts {
            self.since = Some(self.since.map_or(interval.since, |s| s.min(interval.since)));
        }
        if told.counts && m.host.off.is_none() {
            self.taken = self.taken.max(interval.taken);
        }
        if told.leaves {
            m.heard = None;
            self.notices.push(format!("{} has left", m.name));
            return None;
        }
        Some(at)
    }

    /// Finds or adds the host, and updates what it says about itself.
    fn member(&mut self, told: &Told<'_>, now: Duration) -> Option<u16> {
        let origin = &told.interval.origin;
        let at = match self.places.get(&origin.host) {
            Some(at) => usize::from(*at),
            None if self.members.len() >= MOST_HOSTS => {
                if !std::mem::replace(&mut self.is_full, true) {
                    self.notices.push(format!("there are more than {MOST_HOSTS} hosts"));
                }
                return None;
            }
            None => {
                self.members.push(Member {
                    name: Arc::clone(&origin.host),
                    epoch: origin.epoch,
                    past: Vec::new(),
                    is_two: false,
                    is_again: false,
                    seq: told.seq.wrapping_sub(1),
                    cadence: told.cadence,
                    heard: Some(now),
                    is_silent: false,
                    host: Arc::default(),
                    own: HashSet::default(),
                    ways: [None; 2],
                    way_since: now,
                    books: Books::default(),
                    span: Duration::ZERO,
                    fill: Fill::default(),
                    rows: 0,
                });
                let at = self.members.len() - 1;
                self.places.insert(Arc::clone(&origin.host), at as u16);
                at
            }
        };
        let place = at as u16;
        let m = &mut self.members[at];
        if m.epoch != origin.epoch {
            // A restarted host sends nothing more from an earlier start, so this must be another
            // host.
            if m.past.contains(&origin.epoch) {
                if !std::mem::replace(&mut m.is_two, true) {
                    self.notices.push(format!(
                        "two hosts report under the name {}, and one is ignored: name them with --as",
                        m.name
                    ));
                }
                return None;
            }
            self.notices.push(format!("{} was started again", m.name));
            m.past.truncate(MOST_STARTS - 1);
            m.past.insert(0, m.epoch);
            m.epoch = origin.epoch;
        } else if told.counts && m.host.taken.is_some_and(|taken| is_repeated(told, m.seq, taken)) {
            // After a reconnect a sender may start with frames that it has sent before.
            if !std::mem::replace(&mut m.is_again, true) {
                self.notices.push(format!(
                    "{} repeats frames that it has sent before: they are not counted",
                    m.name
                ));
            }
            return None;
        } else if told.seq > m.seq.wrapping_add(1) {
            let missing = told.seq - m.seq - 1;
            self.notices.push(format!("{}: {missing} intervals are missing", m.name));
        }
        if std::mem::take(&mut m.is_silent) || m.heard.is_none() {
            self.notices.push(format!("{} is heard again", m.name));
        }
        (m.seq, m.heard, m.cadence) = (told.seq, Some(now), told.cadence);
        m.is_heard_after(told.interval.taken, now);
        let room = MOST_ADDRESSES - (self.addresses - m.host.local.len());
        let local = told.local.get(..room).unwrap_or(told.local);
        if local.len() < told.local.len() && !std::mem::replace(&mut self.has_more_addresses, true)
        {
            let more = "the owners of the rest are unknown, so packets may be counted at both ends";
            self.notices.push(format!("hosts have more than {MOST_ADDRESSES} addresses: {more}"));
        }
        let is_new = !local.is_empty() && *local != m.host.local;
        let host = Arc::make_mut(&mut m.host);
        if is_new {
            self.addresses = self.addresses - host.local.len() + local.len();
            host.local = local.to_vec();
            m.own = local.iter().copied().collect();
        }
        host.error = told.clock.unwrap_or(LOOSE) + told.reading + WAY;
        host.synchronised = told.clock.is_some();
        host.cadence = told.cadence;
        if host.tool != told.tool {
            told.tool.clone_into(&mut host.tool);
        }
        if !told.counts {
            return Some(place);
        }
        if let Some(before) = host.taken {
            let gap = told.interval.since.duration_since(before).unwrap_or_default();
            host.missing = host.missing.saturating_add(gap);
        }
        host.since = host.since.or(Some(told.interval.since));
        host.taken = Some(told.interval.taken);
        let rows = &told.interval.rows;
        if !rows.is_empty() {
            let inner = rows.walk().any(|row| !row.other());
            host.detail = match host.detail.since {
                None => Detail { inner, since: host.since },
                Some(_) if host.detail.inner == inner => host.detail,
                Some(_) => Detail { inner, since: Some(told.interval.since) },
            };
        }
        m.books.add(&told.interval.books());
        m.span += told.interval.elapsed;
        let fills = told.interval.interfaces.iter().map(|i| i.fill);
        m.fill = fills.max_by_key(|f| f.used * 1000 / f.size.max(1)).unwrap_or_default();
        if is_new {
            let local = self.members[at].host.local.clone();
            let mut left: Vec<IpAddr> = Vec::new();
            self.owners.retain(|address, owner| {
                left.extend((*owner == place).then_some(*address));
                *owner != place
            });
            for address in local {
                self.owners.entry(address).or_insert(place);
            }
            // Another host may have taken it before this one released it.
            left.retain(|address| !self.owners.contains_key(address));
            let left: HashSet<IpAddr> = left.into_iter().collect();
            for (heir, m) in (0u16..).zip(&self.members).take_while(|_| !left.is_empty()) {
                // `intersection` iterates over the smaller set: a host may have any number of
                // addresses.
                for address in m.own.intersection(&left) {
                    self.owners.entry(*address).or_insert(heir);
                }
            }
        }
        Some(place)
    }

    /// Adds what a host counted of a row.
    fn count(&mut self, at: u16, row: &Row<'_>, last: &mut Option<LastPair>) {
        let [rx, tx] = row.at_hooks();
        if rx.is_zero() && tx.is_zero() {
            return;
        }
        let (slot, part) = (Slot::of(row), row.part());
        let Some(pair) = row.outer() else { return self.add(at, slot, [rx, tx]) };
        let ends = [pair.first, pair.second];
        let known = match last {
            Some(last) if last.pair == pair => *last,
            last => {
                let own = &self.members[usize::from(at)].own;
                let (own, all) = (ends.map(|e| own.contains(&e)), &self.owners);
                *last.insert(LastPair { pair, own, known: ends.map(|e| all.contains_key(&e)) })
            }
        };
        // Within one part of a row, arriving packets come from the end to which leaving ones go.
        let here = 1 - usize::from(part.swapped);
        let tunnel = row.outermost();
        let mut counted = Counts::default();
        for (hook, n) in [rx, tx].into_iter().enumerate().filter(|(_, n)| !n.is_zero()) {
            let (from, to) = if hook == 0 { (1 - here, here) } else { (here, 1 - here) };
            let lane = Lane { tunnel, from: ends[from], to: ends[to] };
            let (is_from, is_for_many) = (known.own[from], lane.to.is_multicast());
            if is_from || known.own[to] || (is_for_many && known.known[from]) {
                if hook == 0 && is_for_many && !is_from {
                    self.passes(at, lane, n.packets);
                }
                let counts = if hook == 0 { known.own[to] || is_for_many } else { is_from };
                counted[hook] = if counts { n } else { Count::default() };
            } else if known.known != [false; 2] {
                self.passes(at, lane, n.packets); // the sender or receiver counts them
            } else {
                let slot = if hook == 0 { slot } else { slot.reverse() };
                self.transit(at, pair, slot, n);
            }
        }
        self.add(at, slot, counted);
    }

    /// Adds what one host saw of a pair of which neither end is in the fleet.
    fn transit(&mut self, at: u16, pair: Pair, slot: Slot, n: Count) {
        let slot = match self.transit.get(&pair) {
            Some(first) if *first != at => return,
            None if self.transit.len() >= MOST_PAIRS => {
                if !std::mem::replace(&mut self.is_crowded, true) {
                    let others = "pairs of hosts outside the fleet";
                    self.notices.push(format!(
                        "more than {MOST_PAIRS} {others}: packets of further pairs count at every host they pass"
                    ));
                }
                slot.with(|_| Key::AGED)
            }
            _ => {
                self.transit.insert(pair, at);
                slot
            }
        };
        self.add(at, slot, [n, Count::default()]);
    }

    /// Adds packets in transit, which other hosts send and receive.
    fn passes(&mut self, at: u16, lane: Lane, packets: u64) {
        let passage = Passage { host: at.into(), lane };
        let passages = &mut self.beside.passages;
        if packets > 0 && (passages.len() < MOST_BESIDE || passages.contains_key(&passage)) {
            let sum = passages.entry(passage).or_default();
            *sum = sum.saturating_add(packets);
        }
    }

    /// Adds to a row, or to the sum that it belongs to where there is no room.
    fn add(&mut self, at: u16, told: Slot, counts: Counts) {
        if counts.iter().all(|n| n.is_zero()) || self.rows.add(&told, counts) {
            return;
        }
        let by_pair = |key: Key| {
            let outermost = Tunnel { id: None, ..key.outermost };
            Key { outermost, innermost: None, depth: 1, ..key.aged() }
        };
        let (most, all) = (self.most_rows, self.rows.len());
        let choices: [(ToSum, u32, usize); 3] = [
            (|key| key, MOST_ROWS, most),
            (Key::aged, 2 * MOST_ROWS, most / 4 * 5),
            (by_pair, 3 * MOST_ROWS, most * 3),
        ];
        for (sum, most, most_of_all) in choices {
            let slot = told.with(sum);
            if self.rows.add(&slot, counts) {
                return self.is_summed(told, slot);
            }
            // Both directions are in one row.
            let there = self.rows.interface(&slot.reverse());
            let m = &mut self.members[usize::from(at)];
            if there.is_some() || (m.rows < most && all < most_of_all) {
                m.rows += u32::from(there.is_none());
                self.rows.insert(slot, there.unwrap_or(at), counts);
                return self.is_summed(told, slot);
            }
        }
        let slot = told.with(|_| Key::AGED);
        if !self.rows.add(&slot, counts) {
            self.rows.insert(slot, at, counts);
        }
        self.is_summed(told, slot);
    }

    /// Says once that there are too many rows.
    fn is_summed(&mut self, told: Slot, slot: Slot) {
        let most = self.most_rows;
        let is_so = told != slot && self.rows.len() >= most;
        if is_so && !std::mem::replace(&mut self.is_overfull, true) {
            self.notices.push(format!(
                "there are {most} rows: all further ones are added up by tunnel, or by pair of hosts"
            ));
        }
    }

    /// Marks hosts that have not been heard for too long as silent, and clocks that differ as off.
    pub fn look(&mut self, now: Duration) {
        let heard = |m: &&mut Member| m.heard.is_some() && !m.is_silent;
        let mut ways: Vec<i64> = self.members.iter().filter_map(Member::way).collect();
        ways.sort_unstable();
        let usual = ways.get(ways.len().saturating_sub(1) / 2).copied().unwrap_or(0);
        for m in self.members.iter_mut().filter(heard) {
            let off = m.way().map_or(0, |way| way.abs_diff(usual));
            let off = Some(Duration::from_nanos(off)).filter(|off| *off > OFF.max(m.cadence / 4));
            if let (Some(off), None) = (off, m.host.off) {
                let ms = off.as_millis();
                self.notices
                    .push(format!("{}'s clock is {ms} ms off: no loss is reported", m.name));
            }
            if off != m.host.off {
                Arc::make_mut(&mut m.host).off = off;
            }
        }
        // A host whose clock is ahead does not determine the time.
        if self.members.iter().any(|m| m.host.off.is_some()) {
            self.taken = self.timely().filter_map(|m| m.host.taken).max().unwrap_or(self.taken);
        }
        for m in self.members.iter_mut().filter(|m| !m.is_silent) {
            let Some(heard) = m.heard else { continue };
            if now.saturating_sub(heard) > SILENT * m.cadence.max(Duration::from_secs(1)) {
                m.is_silent = true;
                self.notices.push(format!("{} is silent", m.name));
            }
        }
    }

    /// How many of the hosts that are heard have not sent their latest reading yet, given that
    /// readings are aligned.
    pub fn behind(&self) -> usize {
        if self.since.is_none() {
            return self.members.len().max(1);
        }
        let shortest = self.timely().map(|m| m.cadence).min().unwrap_or_default();
        let is_due = |m: &&Member| {
            let next = m.host.taken.and_then(|t| t.checked_add(m.cadence));
            next.is_some_and(|next| next <= self.taken + shortest / 2)
        };
        self.timely().filter(is_due).count()
    }

    /// The longest interval between the readings of a host.
    pub fn cadence(&self) -> Duration {
        self.timely().map(|m| m.cadence).max().unwrap_or_default()
    }

    /// The hosts that are heard and whose clocks agree with most others.
    fn timely(&self) -> impl Iterator<Item = &Member> {
        let is_heard = |m: &&Member| m.heard.is_some() && !m.is_silent && m.host.off.is_none();
        self.members.iter().filter(is_heard)
    }

    /// Messages for the user, one line each.
    pub fn notices(&mut self) -> Vec<String> {
        std::mem::take(&mut self.notices)
    }

    /// Whether any interval has been reported.
    pub fn has_begun(&self) -> bool {
        self.since.is_some()
    }

    /// The time of the latest reading.
    pub fn taken(&self) -> SystemTime {
        self.taken
    }

    /// The number of hosts that are heard, and of those that have not left.
    pub fn heard(&self) -> (usize, usize) {
        let there = self.members.iter().filter(|m| m.heard.is_some());
        (there.clone().filter(|m| !m.is_silent).count(), there.count())
    }

    /// The names of hosts by their addresses, except addresses that several hosts have.
    pub fn names(&self) -> HashMap<IpAddr, String> {
        let mut names: HashMap<IpAddr, Option<String>> = HashMap::new();
        for m in &self.members {
            for address in &m.host.local {
                let name = names.entry(*address);
                name.and_modify(|n| *n = None).or_insert_with(|| Some(m.name.to_string()));
            }
        }
        names.into_iter().filter_map(|(address, name)| Some((address, name?))).collect()
    }

    /// Everything reported so far, as totals; each host is an interface.
    pub fn snapshot(&self) -> Snapshot {
        let since = self.since.unwrap_or(self.taken);
        let at = self.taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let interfaces = self.members.iter().zip(0..).map(|(m, id)| Interface {
            hook: HookKind::Fleet,
            books: m.books,
            span: at,
            fill: m.fill,
            host: Some(m.host()),
            ..Interface::new(id, &m.name)
        });
        Snapshot {
            origin: self.origin.clone(),
            since,
            taken: self.taken,
            at,
            interfaces: interfaces.collect(),
            rows: self.rows.rows(),
            drops: self.drops.clone().map(|drops| Arc::new(drops.indexed())),
            beside: Arc::new(Beside::new(self.beside.clone())),
        }
    }
}

/// Whether a sender is repeating itself: its last frame had this number and was taken at this time.
pub fn is_repeated(told: &Told<'_>, seq: u64, taken: SystemTime) -> bool {
    told.seq <= seq && told.interval.since + told.cadence / 2 < taken
}

impl Member {
    /// Updates the smallest delay with the arrival of a reading.
    fn is_heard_after(&mut self, taken: SystemTime, now: Duration) {
        let nanos = |d: Duration| i64::try_from(d.as_nanos()).unwrap_or(i64::MAX);
        let taken = taken.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let way = nanos(now).saturating_sub(nanos(taken));
        if now.saturating_sub(self.way_since) >= WAYS {
            (self.ways, self.way_since) = ([None, self.ways[0]], now);
        }
        self.ways[0] = Some(self.ways[0].map_or(way, |least| least.min(way)));
    }

    fn way(&self) -> Option<i64> {
        self.ways.into_iter().flatten().min()
    }

    /// What is known about the host now.
    fn host(&self) -> Arc<Host> {
        let state = match self.heard {
            None => HostState::Left,
            Some(_) if self.is_silent => HostState::Silent,
            Some(_) => HostState::Live,
        };
        match state == self.host.state {
            true => Arc::clone(&self.host),
            false => Arc::new(Host { state, ..self.host.as_ref().clone() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        beside::{Numbered, Stream},
        flow::{Counters, Flow, Hook, Inner, InnerProto, Kind},
        matrix::{Scope, Tally},
        once::BothEnds,
        rows::{Part, Rows},
    };

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    /// A host's counts between two hosts: packets by hook and direction.
    fn row(first: u8, second: IpAddr, cells: [[u64; 2]; 2]) -> Flow {
        let count = |packets| Count { packets, bytes: packets * 100 };
        let key = Key {
            outer: Some(Pair { first: address(first), second }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(7) },
            innermost: None,
            depth: 1,
            inner: Inner::Proto(InnerProto(0x0806)),
            other: false,
        };
        let cells = cells.map(|c| c.map(count));
        Flow { interface: 0, key, counters: Counters { cells, ..Counters::default() } }
    }

    struct Stage {
        fleet: Fleet,
        seq: u64,
        beside: Gathered,
        /// Hosts with addresses other than the default.
        locals: HashMap<u8, Vec<IpAddr>>,
        epoch: u64,
    }

    impl Stage {
        fn new() -> Stage {
            let (fleet, locals) = (Fleet::new(Origin::default()), HashMap::new());
            Stage { fleet, seq: 0, beside: Gathered::default(), locals, epoch: 0 }
        }

        /// A host, given by the last byte of its address, reports a second.
        fn tells(&mut self, host: u8, at: u64, flows: &[Flow]) {
            let mut rows = Rows::default();
            flows.iter().zip(0..).for_each(|(f, place)| rows.push_flow(place, f));
            self.hears(host, at, rows);
        }

        fn hears(&mut self, host: u8, at: u64, rows: Rows) {
            let t = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
            let second = Duration::from_secs(1);
            let eth0 = vec![Interface::new(0, "eth0")];
            let mut interval = Interval::new(t(at - 1), t(at), second, eth0, rows);
            interval.origin.host = format!("node-{host}").into();
            interval.origin.epoch = self.epoch;
            interval.beside = Arc::new(Beside::new(self.beside.clone()));
            let own = [address(host)];
            let told = Told {
                interval: &interval,
                counts: true,
                local: self.locals.get(&host).map_or(&own, |local| local),
                seq: at,
                cadence: second,
                clock: Some(Duration::from_millis(1)),
                reading: Duration::ZERO,
                tool: "",
                leaves: false,
            };
            self.fleet.hear(&told, Duration::from_secs(at));
            self.seq += 1;
        }

        fn total(&self) -> (u64, Vec<Option<BothEnds>>) {
            let total = self.fleet.snapshot().total();
            let sum = Scope::default().sum(&total);
            assert_eq!(Tally::of(&total, &Scope::default()).total, sum);
            let flows = total.rows.merged();
            let shared: Count = flows.iter().map(|f| total.once().share(f).total()).sum();
            assert_eq!(shared, sum, "by rows as by parts of rows");
            let ends = |f| total.both_ends(f);
            (sum.packets, flows.iter().map(ends).collect())
        }
    }

    /// The hosts' counts: of 1 -> 2, 100 sent and 97 received; of 2 -> 1, 50 and 50.
    const AT_1: [[u64; 2]; 2] = [[0, 50], [100, 0]];
    const AT_2: [[u64; 2]; 2] = [[97, 0], [0, 50]];

    #[test]
    fn a_row_is_not_compared_with_a_sum() {
        let sum = |f: Flow| Flow { key: f.key.aged(), ..f };
        let (at_1, at_2) = (row(1, address(2), AT_1), row(1, address(2), AT_2));
        let ends = |all: &[[Flow; 2]]| {
            let mut stage = Stage::new();
            for (second, [a, b]) in (10..).zip(all) {
                stage.tells(1, second, &[*a]);
                stage.tells(2, second, &[*b]);
            }
            stage.total().1
        };
        let lost = |ends: Vec<Option<BothEnds>>| ends.iter().flatten().map(|n| n.lost).sum::<u64>();
        assert_eq!(lost(ends(&[[sum(at_1), sum(at_2)]; 2])), 6);
        assert_eq!(ends(&[[at_1, sum(at_2)]]), [None, None], "the other end does not say of which");
        assert_eq!(ends(&[[sum(at_1), at_2], [at_1, at_2]]), [None, None], "nor did it always");
        // A receiver that has seen nothing at all is no reason for doubt.
        let mut stage = Stage::new();
        stage.tells(1, 10, &[at_1]);
        stage.tells(2, 10, &[]);
        assert_eq!(lost(stage.total().1), 100);
        let names = stage.fleet.hosts_of([address(2), address(9)]);
        assert_eq!(names.into_iter().collect::<Vec<_>>(), ["node-2".into()]);
    }

    #[test]
    fn each_packet_counts_at_its_sender_or_else_at_its_receiver() {
        let both = |first: u8| {
            let mut stage = Stage::new();
            for host in [first, 3 - first] {
                stage.tells(host, 10, &[row(1, address(2), [AT_1, AT_2][usize::from(host) - 1])]);
            }
            stage.total()
        };
        for (packets, ends) in [both(1), both(2)] {
            let end = ends[0].expect("both ends are in the fleet");
            assert_eq!((packets, end.lost, end.surplus), (150, 3, 0));
            assert_eq!((end.sent.packets, end.received.packets), (150, 147));
        }
        let alone = |host: u8, cells| {
            let mut stage = Stage::new();
            stage.tells(host, 10, &[row(1, address(2), cells)]);
            stage.total()
        };
        assert_eq!(alone(1, AT_1), (150, vec![None]));
        assert_eq!(alone(2, AT_2), (147, vec![None]));
    }

    #[test]
    fn transit_counts_only_if_neither_end_is_in_the_fleet() {
        let on_the_way = [[100, 0], [0, 50]];
        let mut stage = Stage::new();
        stage.tells(8, 10, &[row(1, address(2), on_the_way)]);
        stage.tells(9, 10, &[row(1, address(2), on_the_way)]);
        assert_eq!(stage.total().0, 150, "two saw it, and it counts once");
        let mut stage = Stage::new();
        stage.tells(1, 10, &[row(1, address(2), AT_1)]);
        stage.tells(8, 10, &[row(1, address(2), on_the_way)]);
        assert_eq!(stage.total().0, 150);
    }

    #[test]
    fn repeated_frames_are_not_counted_again() {
        let mut stage = Stage::new();
        for _ in 0..3 {
            for at in 10..15 {
                stage.tells(1, at, &[row(1, address(2), AT_1)]);
            }
        }
        assert_eq!(stage.total().0, 5 * 150);
        let said = stage.fleet.notices();
        assert!(said.len() == 1 && said[0].contains("repeats frames"), "{said:?}");
        // New frames count again.
        stage.tells(1, 15, &[row(1, address(2), AT_1)]);
        assert_eq!((stage.total().0, stage.fleet.notices().len()), (6 * 150, 0));
    }

    #[test]
    fn a_multicast_packet_counts_once_and_is_not_loss() {
        let group: IpAddr = [239, 1, 1, 1].into();
        let mut stage = Stage::new();
        stage.tells(1, 10, &[row(1, group, [[0, 0], [100, 0]])]);
        stage.tells(2, 10, &[row(1, group, [[100, 0], [0, 0]])]);
        stage.tells(3, 10, &[row(1, group, [[98, 0], [0, 0]])]);
        assert_eq!(stage.total(), (100, vec![None]));
    }

    #[test]
    fn surplus_is_not_negative_loss() {
        let mut stage = Stage::new();
        stage.tells(1, 10, &[row(1, address(2), [[0, 0], [100, 0]])]);
        stage.tells(2, 10, &[row(1, address(2), [[130, 0], [0, 0]])]);
        let end = stage.total().1[0].expect("both ends are in the fleet");
        assert_eq!((end.lost, end.surplus, end.sent.packets), (0, 30, 100));
    }

    /// The host to which a row belongs, and what it counts.
    type PlainSum = (u16, [[Count; 2]; 2]);

    /// What a fleet should count, in the plainest form: by whole row and direction, without limits.
    #[derive(Default)]
    struct Plain {
        sums: HashMap<(Key, bool), PlainSum>,
        transit: HashMap<Pair, u16>,
    }

    impl Plain {
        fn hear(&mut self, fleet: &Fleet, at: u16, rows: &Rows) {
            for row in rows.walk() {
                let (flow, fragments) = (row.flow(), row.fragments());
                for direction in 0..2 {
                    self.count(fleet, at, &flow, direction, fragments);
                }
            }
        }

        fn count(&mut self, fleet: &Fleet, at: u16, flow: &Flow, way: usize, fragments: bool) {
            let [rx, tx] = flow.counters.cells.map(|hook| hook[way]);
            let none = Count::default();
            if rx.is_zero() && tx.is_zero() {
                return;
            }
            let counted = match flow.key.outer {
                None => [rx, tx],
                Some(pair) => {
                    let ends = [pair.first, pair.second];
                    let (from, to) = (ends[way], ends[1 - way]);
                    let own = |a| fleet.members[usize::from(at)].own.contains(a);
                    let known = |a| fleet.owners.contains_key(a);
                    let many = to.is_multicast();
                    if own(&from) || own(&to) || (many && known(&from)) {
                        let received = if own(&to) || many { rx } else { none };
                        [received, if own(&from) { tx } else { none }]
                    } else if known(&from)
                        || known(&to)
                        || *self.transit.entry(pair).or_insert(at) != at
                    {
                        [none; 2]
                    } else {
                        [rx + tx, none]
                    }
                }
            };
            if counted == [none; 2] {
                return;
            }
            let new = (at, Default::default());
            let (_, cells) = self.sums.entry((flow.key, fragments)).or_insert(new);
            for (hook, n) in counted.into_iter().enumerate() {
                cells[hook][way] += n;
            }
        }

        fn merged(&self) -> Vec<Flow> {
            let mut rows = Rows::default();
            for (((key, fragments), (interface, cells)), place) in self.sums.iter().zip(0..) {
                let mut counters = Counters { cells: *cells, ..Counters::default() };
                if *fragments {
                    counters.fragments = *cells;
                }
                rows.push_flow(place, &Flow { interface: *interface, key: *key, counters });
            }
            rows.merged()
        }
    }

    #[test]
    fn rows_counted_in_place_match_a_plain_count() {
        let mut seed = 7u64;
        let mut random = move |below: u64| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        let (mut stage, mut plain) = (Stage::new(), Plain::default());
        let mut before: Option<Snapshot> = None;
        for at in 1..=60 {
            // The hosts have the addresses 1 to 4, and one of them moves.
            for host in 1..=4u8 {
                let mut own = vec![address(host)];
                own.extend((at / 15 % 4 + 1 == u64::from(host)).then(|| address(9)));
                stage.locals.insert(host, own);
                let mut flows = Rows::default();
                for place in 0..40 {
                    let mut flow = row(1, address(2), [[0; 2]; 2]);
                    let mut end = || match random(11) {
                        10 => IpAddr::from([239, 1, 1, 1]),
                        n => address(n as u8),
                    };
                    let (first, second) = (end(), end());
                    flow.key.outer = match random(12) {
                        0 => None,
                        1 => Some(Pair {
                            first: [0xfd, 0, 0, 0, 0, 0, 0, random(3) as u16].into(),
                            second: [0xfd, 0, 0, 0, 0, 0, 0, 9].into(),
                        }),
                        _ => Some(Pair { first, second }),
                    };
                    flow.key.outermost.id = Some(random(3) as u32);
                    flow.key = if random(5) == 0 { flow.key.aged() } else { flow.key };
                    let mut count = || match random(3) {
                        0 => Count::default(),
                        n => Count { packets: n, bytes: n * 90 },
                    };
                    let counts = [count(), count()];
                    let part = Part { swapped: random(2) == 0, fragments: random(6) == 0 };
                    flows.push(place, 0, &flow.key, counts, part);
                }
                stage.hears(host, at, flows.clone());
                plain.hear(&stage.fleet, stage.fleet.places[&*format!("node-{host}")], &flows);
            }
            let now = stage.fleet.snapshot();
            assert_eq!(now.rows.merged(), plain.merged(), "at {at}");
            if let Some(before) = before.replace(now.clone()) {
                let [then, new] = [&before, &now].map(|s| Scope::default().sum(&s.total()));
                let between = Scope::default().sum(&now.since(&before));
                assert_eq!(then + between, new, "at {at}");
            }
        }
    }

    #[test]
    fn intervals_hold_what_was_reported_meanwhile_in_any_order() {
        let mut stage = Stage::new();
        stage.tells(1, 10, &[row(1, address(2), AT_1)]);
        stage.tells(2, 10, &[row(1, address(2), AT_2)]);
        let before = stage.fleet.snapshot();
        stage.tells(2, 11, &[row(1, address(2), AT_2)]);
        stage.tells(1, 11, &[row(1, address(2), AT_1)]);
        let interval = stage.fleet.snapshot().since(&before);
        assert_eq!(interval.elapsed, Duration::from_secs(1));
        assert_eq!(Scope::default().sum(&interval).packets, 150);
        assert_eq!(interval.interfaces[0].name, "node-1");
    }

    #[test]
    fn made_up_rows_take_bounded_memory_and_lose_no_packet() {
        let mut stage = Stage::new();
        let one = |n: u32| {
            let mut flow = row(1, address(2), [[0; 2], [1, 0]]);
            flow.key.outermost.id = Some(n);
            flow
        };
        let flows: Vec<_> = (0..3 * MOST_ROWS).map(one).collect();
        stage.tells(1, 1, &flows);
        let (packets, rows) = stage.total();
        assert_eq!(packets, u64::from(3 * MOST_ROWS));
        // By row, then by tunnel, and everything else by pair of hosts.
        assert_eq!(rows.len(), 2 * MOST_ROWS as usize + 1);
        assert_eq!(stage.fleet.rows.len(), rows.len());
    }

    #[test]
    fn made_up_hosts_take_bounded_memory_and_lose_no_packet() {
        let mut stage = Stage::new();
        stage.fleet.most_rows = 1000;
        let rows_of = |host: u8| {
            (0..100u32).map(move |n| {
                let mut flow = row(host, address(200), [[0; 2], [1, 0]]);
                flow.key.outermost.id = Some(n);
                flow
            })
        };
        for host in 1..=50 {
            stage.tells(host, 1, &rows_of(host).collect::<Vec<_>>());
        }
        assert_eq!(stage.total().0, 5000);
        // Beyond that, there is a row for each pair of hosts.
        assert!(stage.fleet.rows.len() <= 1000 / 4 * 5 + 50, "{}", stage.fleet.rows.len());
        stage.fleet.most_rows = 200;
        stage.tells(60, 1, &rows_of(60).collect::<Vec<_>>());
        assert_eq!(stage.total().0, 5100);
        assert!(stage.fleet.rows.len() <= 1000 / 4 * 5 + 51, "finally one row for all of them");
        let said = stage.fleet.notices();
        assert_eq!(
            said.iter().filter(|n| n.contains("there are 1000 rows")).count(),
            1,
            "{said:?}"
        );
    }

    #[test]
    fn an_address_taken_over_counts_at_its_new_host() {
        let mut stage = Stage::new();
        stage.tells(2, 1, &[]);
        stage.tells(1, 1, &[]);
        let mut says = |at: u64, host: u8, own: &[u8]| {
            stage.locals.insert(host, own.iter().map(|n| address(*n)).collect());
            stage.tells(host, at, &[]);
        };
        // Host 2 takes address 9 before host 1 releases it.
        says(2, 1, &[1, 9]);
        says(3, 2, &[2, 9]);
        says(4, 1, &[1]);
        assert_eq!(stage.fleet.owners[&address(9)], stage.fleet.places["node-2"]);
        assert_eq!(stage.fleet.owners[&address(1)], stage.fleet.places["node-1"]);
    }

    #[test]
    fn only_one_of_two_hosts_with_the_same_name_is_counted() {
        let mut stage = Stage::new();
        for at in 1..=10 {
            for epoch in [5, 6] {
                stage.epoch = epoch;
                stage.tells(1, at, &[row(1, address(2), [[0, 0], [1, 0]])]);
            }
        }
        // One more, before it is clear that the other host continues.
        assert_eq!(stage.total().0, 11);
        let said = stage.fleet.notices();
        assert_eq!(
            said.iter().filter(|n| n.contains("two hosts report under the name")).count(),
            1
        );
        assert!(said.len() <= 2, "{said:?}");
    }

    #[test]
    fn data_beside_rows_is_kept_for_the_busiest_in_bounded_memory() {
        let mut stage = Stage::new();
        let flow = row(1, address(2), AT_1);
        let (from, to, kind) = (address(1), address(2), Kind::Gre);
        let numbered = |interface, hook, id, lost| {
            let stream = Stream { interface, kind, from, to, id, hook };
            (stream, Numbered { packets: 100, lost, ..Numbered::default() })
        };
        let mut gre = flow;
        gre.key.outermost = Tunnel { kind, id: Some(7) };
        for at in 1..=200 {
            for (host, hook, lost) in [(1, Hook::Tx, 0), (2, Hook::Rx, 3)] {
                // Many short-lived streams as well.
                let many = (0..1000).map(|n| numbered(0, hook, 1000 * (at as u32) + n, 0));
                let numbers = many.chain([numbered(0, hook, 7, lost)]).collect();
                stage.beside = Gathered { numbers, ..Gathered::default() };
                stage.tells(host, at, &[row(1, address(2), [AT_1, AT_2][usize::from(host) - 1])]);
            }
        }
        let now = stage.fleet.snapshot();
        assert!(now.beside.numbers().len() <= MOST_BESIDE + 1001, "{}", now.beside.numbers().len());
        let lost = now.total().numbered(&gre).map(|n| n.lost);
        assert!(lost.is_some_and(|n| n > 0 && n % 3 == 0), "as counted by the receiver: {lost:?}");
    }

    #[test]
    fn packets_of_a_silent_host_count_at_their_receivers() {
        let mut stage = Stage::new();
        stage.tells(1, 10, &[row(1, address(2), AT_1)]);
        stage.tells(2, 10, &[row(1, address(2), AT_2)]);
        for at in 11..=14 {
            stage.tells(2, at, &[]);
            stage.fleet.look(Duration::from_secs(at));
        }
        assert_eq!(
            (stage.fleet.notices(), stage.fleet.heard()),
            (vec!["node-1 is silent".to_owned()], (1, 2))
        );
        let before = stage.fleet.snapshot();
        stage.tells(2, 15, &[row(1, address(2), AT_2)]);
        let interval = stage.fleet.snapshot().since(&before);
        assert_eq!(Scope::default().sum(&interval).packets, 147);
        stage.tells(1, 16, &[]);
        let said = ["node-1: 5 intervals are missing", "node-1 is heard again"];
        assert_eq!(stage.fleet.notices(), said);
    }
}
