// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss between two ends: what a sender of the fleet counted minus what the receiver counted, in
//! packets (bytes may legitimately change on the path), over ten seconds and over a minute.
//!
//! Pure: intervals are fed in one by one. The ends are not read at the same moment, so each window
//! has an error bound: the rate times the greatest possible time difference. Deviations within it
//! are not reported. The error arises only at the start and end of a window, so a longer window
//! detects smaller losses.
use std::{
    cmp::Reverse,
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::{
    flow::{Count, Inner, Kind, Pair},
    lane::{Balance, Lane},
    rows::Row,
    snapshot::Interval,
};

/// What both ends counted over some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How long it is.
    pub span: Duration,
    /// Packets sent.
    pub sent: u64,
    /// Packets received.
    pub received: u64,
    /// By how many packets either count may be wrong.
    pub bound: u64,
}

impl Window {
    /// What the two counts show.
    pub fn balance(&self) -> Balance {
        Balance::of(self.sent, self.received, self.bound)
    }
}

/// Why the counts of only one end are available.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneEnd {
    /// The other end is not in the fleet.
    Nobody,
    /// One of the two ends is silent.
    Silent,
    /// A clock is off.
    Clock,
    /// They have not reported for long enough without a gap.
    Young,
    /// The sender does not count what arrives; perhaps it does not watch the interface.
    Unseen,
}

/// The verdict on a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// None: there is only one end.
    OneEnd(OneEnd),
    /// What both ends show.
    Both(Balance),
    /// Packets are sent, and the receiver, which reports, sees none of them. `known` is whether it
    /// sees, or has seen, anything that arrives at that address.
    BlackHole {
        /// It would see them.
        known: bool,
    },
    /// They arrive with other addresses.
    Translated(Lane, Balance),
    /// They are for a group: what each receiving member shows, by host.
    Group(Vec<(u16, Window)>),
}

/// What two ends, and the hosts between them, show.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// The lane.
    pub lane: Lane,
    /// The senders: hosts, by their interfaces.
    pub from: Vec<u16>,
    /// The receivers.
    pub to: Vec<u16>,
    /// The verdict.
    pub verdict: Verdict,
    /// The last ten seconds.
    pub short: Window,
    /// The last minute, once there is one.
    pub long: Option<Window>,
    /// What hosts on the path saw in the last ten seconds.
    pub passed: Vec<(u16, u64)>,
    /// What the sender's devices dropped in that time on transmit, and the receiver's on receive;
    /// of all traffic.
    pub dropped: [u64; 2],
    /// Since it has been watched: sent and received.
    pub in_all: [u64; 2],
}

/// Where lost packets were lost: those that never left the sender's queue, those for which the
/// receiver had no room, and the rest, on the path. Devices count all traffic, so the first two are
/// upper bounds.
pub fn split(lost: u64, [left, arrived]: [u64; 2]) -> [u64; 3] {
    let left = left.min(lost);
    let arrived = arrived.min(lost - left);
    [left, arrived, lost - left - arrived]
}

/// What both ends of a lane counted over the whole of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSum {
    /// The lane.
    pub lane: Lane,
    /// The sender: a host, by its interface.
    pub from: u16,
    /// The receiver.
    pub to: u16,
    /// What the sender counted.
    pub sent: Count,
    /// What the receiver counted.
    pub received: Count,
    /// By how many packets either count may be wrong.
    pub bound: u64,
    /// Nothing of it arrives, and nothing else arrives at that address: the receiver may watch
    /// another interface.
    pub unseen: bool,
}

impl LaneSum {
    /// What the two counts show.
    pub fn balance(&self) -> Balance {
        Balance::of(self.sent.packets, self.received.packets, self.bound)
    }
}

/// All lanes with both ends in the fleet, the one that loses most first; and the number of lanes
/// with only one end in it. The error of the counts arises at the start and the end, which `edges`
/// contain.
pub fn lanes(interval: &Interval, edges: &[Interval]) -> (Vec<LaneSum>, usize) {
    let mut owners: HashMap<IpAddr, u16> = HashMap::new();
    for (i, place) in interval.interfaces.iter().zip(0..) {
        for address in i.live().iter().flat_map(|h| &h.local) {
            owners.entry(*address).or_insert(place);
        }
    }
    let mut rates: HashMap<Lane, f64> = HashMap::new();
    for edge in edges {
        let seconds = edge.elapsed.as_secs_f64().max(1e-3);
        for (lane, [sent, received]) in lane_counts(edge) {
            let rate = sent.packets.max(received.packets) as f64 / seconds;
            let most = rates.entry(lane).or_default();
            *most = most.max(rate);
        }
    }
    let host = |place: u16| interval.interfaces.get(usize::from(place))?.live();
    let (mut list, mut one_end) = (Vec::new(), 0);
    for (lane, [sent, received]) in lane_counts(interval) {
        let ends = owners.get(&lane.from).copied().zip(owners.get(&lane.to).copied());
        let apart = ends.and_then(|(a, b)| host(a)?.apart(host(b)?));
        let (Some((from, to)), Some(apart)) = (ends, apart) else {
            one_end += 1;
            continue;
        };
        let rate = rates.get(&lane).copied().unwrap_or_default();
        let bound = (rate * apart.as_secs_f64()).ceil() as u64;
        list.push(LaneSum { lane, from, to, sent, received, bound, unseen: false });
    }
    list.sort_by_key(|l| (Reverse(l.sent.packets.abs_diff(l.received.packets)), l.lane));
    mark_unseen(&mut list);
    (list, one_end)
}

/// If a host receives anything on an address, it would see everything.
fn mark_unseen(list: &mut [LaneSum]) {
    let arrives = list.iter().filter(|l| !l.received.is_zero());
    let seen: HashSet<IpAddr> = arrives.map(|l| l.lane.to).collect();
    for l in list {
        l.unseen = l.received.is_zero() && !l.sent.is_zero() && !seen.contains(&l.lane.to);
    }
}

/// What senders and receivers counted, by lane.
fn lane_counts(interval: &Interval) -> HashMap<Lane, [Count; 2]> {
    let mut sums: HashMap<Lane, [Count; 2]> = HashMap::new();
    for (lane, counts) in interval.rows.walk().flat_map(|row| ways(&row)) {
        let sum = sums.entry(lane).or_default();
        sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
    }
    sums
}

/// What the sender and the receiver counted of a row, or of a part of one, by lane.
fn ways(row: &Row<'_>) -> impl Iterator<Item = (Lane, [Count; 2])> + use<> {
    let (tunnel, cells) = (row.outermost(), row.counters().cells);
    let lane = move |pair: Pair, way: usize| match way {
        0 => Lane { tunnel, from: pair.first, to: pair.second },
        _ => Lane { tunnel, from: pair.second, to: pair.first },
    };
    let both = row
        .outer()
        .into_iter()
        .flat_map(move |pair| [0, 1].map(|way| (lane(pair, way), [cells[1][way], cells[0][way]])));
    both.filter(|(_, counts)| counts.iter().any(|n| !n.is_zero()))
}

/// The granularity of windows.
const SLOT: Duration = Duration::from_secs(5);
/// The slots in the short window, in two short windows, and in the long one.
const SHORT: u64 = 2;
const TWICE: u64 = 4;
const LONG: u64 = 12;
/// Limit on the lanes; further ones are not judged.
const MOST: usize = 1 << 17;
/// Limit on the lanes that are searched for under other addresses.
const MOST_OPEN: usize = 256;
/// Fewer missing packets than this are not searched for.
const LEAST: u64 = 10;

/// What was counted in one slot.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    slot: u64,
    sent: u64,
    received: u64,
    /// The highest rate of an interval, in packets a second.
    peak: f64,
}

/// What one host saw of a lane, by slot.
type Seen = VecDeque<(u64, u64)>;

#[derive(Clone, Debug, Default)]
struct Run {
    parts: VecDeque<Part>,
    /// What hosts on the path, or members of the group, saw.
    others: Vec<(u16, Seen)>,
    /// Whether it has been received.
    arrives: bool,
    /// The addresses under which it arrives.
    translated: Option<Lane>,
    in_all: [u64; 2],
    /// Sent and received in the interval that is being taken.
    now: [u64; 2],
}

/// A host's record of reporting.
#[derive(Clone, Debug, Default)]
struct Attendance {
    name: Arc<str>,
    live: bool,
    off: bool,
    error: Duration,
    /// The last slot in which part of it was missing.
    broken: u64,
    /// When its last reading was taken, at the ends of slots.
    taken: VecDeque<(u64, SystemTime)>,
    now: Option<SystemTime>,
    /// What its devices dropped, by slot: on transmit, and on receive.
    dropped: VecDeque<(u64, [u64; 2])>,
}

/// What both ends counted recently.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The slot that is being filled; the first is 1.
    slot: u64,
    /// Its length so far, and the lengths of those before it, oldest first.
    filled: Duration,
    spans: VecDeque<Duration>,
    has_closed: bool,
    hosts: Vec<Attendance>,
    owners: HashMap<IpAddr, Vec<u16>>,
    lanes: HashMap<Lane, Run>,
}

impl Ends {
    /// Takes the next interval of a fleet.
    pub fn take(&mut self, interval: &Interval) {
        self.has_closed = false;
        self.slot = self.slot.max(1);
        self.attend(interval);
        self.count(interval);
        self.filled = self.filled.saturating_add(interval.elapsed);
        if self.filled >= SLOT {
            self.close();
            self.find_translated(interval);
        }
    }

    /// Whether a slot has just ended, so that there are new verdicts.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// The time between new verdicts.
    pub fn pace(&self) -> Duration {
        self.spans.back().copied().unwrap_or(SLOT)
    }

    fn attend(&mut self, interval: &Interval) {
        self.owners.clear();
        self.hosts.resize_with(interval.interfaces.len(), Attendance::default);
        for ((i, host), place) in interval.interfaces.iter().zip(&mut self.hosts).zip(0..) {
            if *host.name != *i.name {
                *host = Attendance { name: i.name.as_str().into(), ..Attendance::default() };
            }
            let known = i.live();
            let is_new = !host.live;
            host.live = known.is_some();
            let Some(known) = known else { continue };
            host.off = known.off.is_some();
            host.error = known.error;
            if is_new || known.missing > Duration::ZERO {
                host.broken = self.slot;
            }
            host.now = known.taken;
            for address in &known.local {
                self.owners.entry(*address).or_default().push(place);
            }
        }
        let Some(drops) = interval.drops.as_deref() else { return };
        let named: HashMap<Arc<str>, usize> =
            self.hosts.iter().enumerate().map(|(i, h)| (Arc::clone(&h.name), i)).collect();
        for ((netns, _), n) in &drops.devices {
            let name = netns.as_deref().and_then(|n| n.split(' ').next());
            let place = name.and_then(|name| named.get(name));
            let Some(host) = place.and_then(|i| self.hosts.get_mut(*i)) else { continue };
            let counts =
                [n.tx_dropped.saturating_add(n.qdisc), n.rx_dropped.saturating_add(n.rx_missed)];
            match host.dropped.back_mut() {
                Some((slot, sums)) if *slot == self.slot => {
                    sums.iter_mut().zip(counts).for_each(|(sum, n)| *sum = sum.saturating_add(n));
                }
                _ if counts == [0; 2] => {}
                _ => host.dropped.push_back((self.slot, counts)),
            }
        }
    }

    fn count(&mut self, interval: &Interval) {
        // Rows of the same hosts mostly come one after another.
        let mut last: Option<(Pair, bool)> = None;
        for row in interval.rows.walk() {
            let Some(pair) = row.outer() else { continue };
            let (_, is_ours) = *match &mut last {
                Some(known) if known.0 == pair => known,
                last => {
                    let has = |end| self.owners.contains_key(end);
                    last.insert((pair, has(&pair.first) || has(&pair.second)))
                }
            };
            if !is_ours || row.outermost().kind == Kind::None {
                continue;
            }
            for (lane, counts) in ways(&row) {
                let Some(run) = self.run(lane) else { continue };
                for (sum, n) in run.now.iter_mut().zip(counts) {
                    *sum = sum.saturating_add(n.packets);
                }
            }
        }
        let (seconds, slot) = (interval.elapsed.as_secs_f64().max(1e-3), self.slot);
        for run in self.lanes.values_mut() {
            let [sent, received] = std::mem::take(&mut run.now);
            if [sent, received] == [0; 2] {
                continue;
            }
            run.arrives |= received > 0;
            run.in_all[0] = run.in_all[0].saturating_add(sent);
            run.in_all[1] = run.in_all[1].saturating_add(received);
            if run.parts.back().is_none_or(|part| part.slot != slot) {
                run.parts.push_back(Part { slot, ..Part::default() });
            }
            let Some(part) = run.parts.back_mut() else { continue };
            part.sent = part.sent.saturating_add(sent);
            part.received = part.received.saturating_add(received);
            part.peak = part.peak.max(sent.max(received) as f64 / seconds);
        }
        for (passage, n) in &interval.beside.read().passages {
            let Some(run) = self.run(passage.lane) else { continue };
            let host = passage.host as u16;
            let place = run.others.iter().position(|(h, _)| *h == host).unwrap_or_else(|| {
                run.others.push((host, Seen::new()));
                run.others.len() - 1
            });
            let seen = &mut run.others[place].1;
            match seen.back_mut() {
                Some((s, sum)) if *s == slot => *sum = sum.saturating_add(*n),
                _ => seen.push_back((slot, *n)),
            }
        }
    }

    fn run(&mut self, lane: Lane) -> Option<&mut Run> {
        if self.lanes.len() >= MOST && !self.lanes.contains_key(&lane) {
            return None;
        }
        Some(self.lanes.entry(lane).or_default())
    }

    fn close(&mut self) {
        self.has_closed = true;
        self.spans.push_back(std::mem::take(&mut self.filled));
        if self.spans.len() as u64 > LONG {
            self.spans.pop_front();
        }
        let slot = self.slot;
        self.slot += 1;
        let oldest = self.slot.saturating_sub(LONG);
        for host in &mut self.hosts {
            if let Some(now) = host.now {
                host.taken.push_back((slot, now));
            }
            // The first slot begins where the one before it ended.
            while host.taken.front().is_some_and(|(s, _)| s + 1 < oldest) {
                host.taken.pop_front();
            }
            while host.dropped.front().is_some_and(|(s, _)| *s < oldest) {
                host.dropped.pop_front();
            }
        }
        self.lanes.retain(|_, run| {
            while run.parts.front().is_some_and(|p| p.slot < oldest) {
                run.parts.pop_front();
            }
            run.others.retain_mut(|(_, seen)| {
                while seen.front().is_some_and(|(s, _)| *s < oldest) {
                    seen.pop_front();
                }
                !seen.is_empty()
            });
            !run.parts.is_empty()
        });
    }

    /// The first of the last complete slots.
    fn first(&self, slots: u64) -> Option<u64> {
        self.slot.checked_sub(slots).filter(|first| *first > 0)
    }

    /// The greatest time difference between the readings of hosts over the last slots; `None` if
    /// one of them did not report throughout.
    fn apart(&self, hosts: &[u16], slots: u64) -> Option<Duration> {
        let first = self.first(slots)?;
        let mut apart = Duration::ZERO;
        let mut ends = [[None; 2]; 2];
        for host in hosts {
            let host = self.hosts.get(usize::from(*host))?;
            if !host.live || host.off || host.broken >= first {
                return None;
            }
            apart = apart.saturating_add(host.error);
            for (end, slot) in ends.iter_mut().zip([first - 1, self.slot - 1]) {
                let taken = host.taken.iter().find(|(s, _)| *s == slot)?.1;
                end[0] = Some(end[0].map_or(taken, |t: SystemTime| t.min(taken)));
                end[1] = Some(end[1].map_or(taken, |t: SystemTime| t.max(taken)));
            }
        }
        for [least, most] in ends {
            apart = apart.saturating_add(most?.duration_since(least?).unwrap_or_default());
        }
        Some(apart)
    }

    fn span(&self, slots: u64) -> Duration {
        self.spans.iter().rev().take(slots as usize).sum()
    }

    /// What the ends counted of a lane in the last slots, with the error bound.
    fn window(&self, sent: &Run, received: &Run, hosts: &[u16], slots: u64) -> Option<Window> {
        let (apart, first) = (self.apart(hosts, slots)?, self.first(slots)?);
        let mut window = Window { span: self.span(slots), ..Window::default() };
        let mut peak = 0.0f64;
        for part in sent.parts.iter().filter(|p| (first..self.slot).contains(&p.slot)) {
            window.sent = window.sent.saturating_add(part.sent);
            peak = peak.max(part.peak);
        }
        for part in received.parts.iter().filter(|p| (first..self.slot).contains(&p.slot)) {
            window.received = window.received.saturating_add(part.received);
            peak = peak.max(part.peak);
        }
        window.bound = (peak * apart.as_secs_f64()).ceil() as u64;
        Some(window)
    }

    fn owners(&self, address: IpAddr) -> Vec<u16> {
        self.owners.get(&address).cloned().unwrap_or_default()
    }

    /// The verdicts on all lanes, the one that loses most first.
    pub fn judge(&self) -> Vec<Judged> {
        // If a host receives anything on an address, it would see everything.
        let arrives = self.lanes.iter().filter(|(_, run)| run.arrives);
        let seen: HashSet<IpAddr> = arrives.map(|(lane, _)| lane.to).collect();
        let mut all: Vec<Judged> =
            self.lanes.iter().map(|(lane, run)| self.judge_one(*lane, run, &seen)).collect();
        all.sort_by_key(|j| (Reverse(j.short.sent.saturating_sub(j.short.received)), j.lane));
        all
    }

    fn judge_one(&self, lane: Lane, run: &Run, seen: &HashSet<IpAddr>) -> Judged {
        let (from, to) = (self.owners(lane.from), self.owners(lane.to));
        let mut judged = Judged {
            lane,
            from,
            to,
            verdict: Verdict::OneEnd(OneEnd::Nobody),
            short: Window::default(),
            long: None,
            passed: Vec::new(),
            dropped: [0; 2],
            in_all: run.in_all,
        };
        if lane.to.is_multicast() {
            self.judge_group(&mut judged, run);
            return judged;
        }
        let arrives = run.translated.and_then(|t| Some((t, self.lanes.get(&t)?)));
        if let Some((translated, other)) = arrives {
            judged.to = self.owners(translated.to);
            judged.in_all[1] = other.in_all[1];
        }
        let received = arrives.map_or(run, |(_, other)| other);
        if judged.from.is_empty() || judged.to.is_empty() {
            return judged;
        }
        let hosts = [judged.from.as_slice(), &judged.to].concat();
        let any = |is: fn(&Attendance) -> bool| {
            hosts.iter().filter_map(|h| self.hosts.get(usize::from(*h))).any(is)
        };
        let why = match () {
            () if any(|h| !h.live) => Some(OneEnd::Silent),
            () if any(|h| h.off) => Some(OneEnd::Clock),
            () => None,
        };
        let window = |slots| self.window(run, received, &hosts, slots);
        let (None, Some(short)) = (why, window(SHORT)) else {
            judged.verdict = Verdict::OneEnd(why.unwrap_or(OneEnd::Young));
            return judged;
        };
        (judged.short, judged.long) = (short, window(LONG));
        if let Some(first) = self.first(SHORT) {
            judged.passed = seen_since(&run.others, first);
            let dropped = |hosts: &[u16], way: usize| {
                let of = hosts.iter().filter_map(|h| self.hosts.get(usize::from(*h)));
                let late =
                    of.flat_map(|h| &h.dropped).filter(|(s, _)| (first..self.slot).contains(s));
                late.fold(0u64, |sum, (_, n)| sum.saturating_add(n[way]))
            };
            judged.dropped = [dropped(&judged.from, 0), dropped(&judged.to, 1)];
        }
        let balance = match short.balance() {
            Balance::Even => judged.long.map_or(Balance::Even, |long| long.balance()),
            balance => balance,
        };
        let unsent = run.parts.iter().all(|part| part.sent == 0);
        let hole = window(TWICE).is_some_and(|twice| {
            twice.received == 0 && short.sent > 0 && twice.sent > short.sent && twice.sent >= LEAST
        });
        judged.verdict = match (arrives, balance) {
            (Some((translated, _)), balance) => Verdict::Translated(translated, balance),
            _ if unsent => Verdict::OneEnd(OneEnd::Unseen),
            (None, Balance::Lost(_)) if hole => {
                Verdict::BlackHole { known: seen.contains(&lane.to) }
            }
            (None, Balance::Lost(_)) if !run.arrives && short.received == 0 => {
                Verdict::OneEnd(OneEnd::Young) // it may not watch that interface: wait for more
            }
            (None, balance) => Verdict::Both(balance),
        };
        judged
    }

    fn judge_group(&self, judged: &mut Judged, run: &Run) {
        let Some(first) = self.first(SHORT) else { return };
        if judged.from.is_empty() {
            return;
        }
        let late = run.parts.iter().filter(|p| (first..self.slot).contains(&p.slot));
        let (sent, peak) = late.fold((0u64, 0.0f64), |(sent, peak), part| {
            (sent.saturating_add(part.sent), peak.max(part.peak))
        });
        judged.short = Window { span: self.span(SHORT), sent, ..Window::default() };
        let mut members = Vec::new();
        for (host, seen) in &run.others {
            let hosts = [judged.from.as_slice(), &[*host]].concat();
            let Some(apart) = self.apart(&hosts, SHORT) else { continue };
            let received = seen.iter().filter(|(s, _)| (first..self.slot).contains(s));
            let received = received.fold(0u64, |sum, (_, n)| sum.saturating_add(*n));
            let bound = (peak * apart.as_secs_f64()).ceil() as u64;
            members.push((*host, Window { received, bound, ..judged.short }));
        }
        members.sort_by_key(|(host, _)| *host);
        judged.verdict = match members.is_empty() {
            true => Verdict::OneEnd(OneEnd::Young),
            false => Verdict::Group(members),
        };
    }

    /// Matches packets that are sent and do not arrive with packets that arrive and nobody sent: if
    /// both are equally many packets of the same tunnel with the same inner addresses, and there is
    /// no other candidate, they are the same.
    fn find_translated(&mut self, interval: &Interval) {
        let Some(first) = self.first(TWICE) else { return };
        let late = |run: &Run| {
            let parts = run.parts.iter().filter(|p| (first..self.slot).contains(&p.slot));
            parts.fold([0u64; 2], |[s, r], p| {
                [s.saturating_add(p.sent), r.saturating_add(p.received)]
            })
        };
        let (mut gone, mut come) = (Vec::new(), Vec::new());
        for (lane, run) in self.lanes.iter().filter(|(lane, _)| !lane.to.is_multicast()) {
            match late(run) {
                [sent, 0] if sent >= LEAST => gone.push((*lane, sent)),
                [0, received] if received >= LEAST => come.push((*lane, received)),
                _ => {}
            }
        }
        let still: HashSet<Lane> = gone.iter().map(|(lane, _)| *lane).collect();
        for (lane, run) in &mut self.lanes {
            run.translated = run.translated.filter(|_| still.contains(lane));
        }
        let taken: HashSet<Lane> = self.lanes.values().filter_map(|run| run.translated).collect();
        gone.retain(|(lane, _)| self.lanes.get(lane).is_some_and(|r| r.translated.is_none()));
        come.retain(|(lane, _)| !taken.contains(lane));
        if gone.is_empty() || come.is_empty() || gone.len().max(come.len()) > MOST_OPEN {
            return;
        }
        let inside =
            inner_pairs(interval, gone.iter().chain(&come).map(|(lane, _)| *lane).collect());
        let same = |a: &(Lane, u64), b: &(Lane, u64)| {
            let share =
                inside.get(&a.0).zip(inside.get(&b.0)).is_some_and(|(a, b)| !a.is_disjoint(b));
            a.0.tunnel == b.0.tunnel && share && a.1.abs_diff(b.1).saturating_mul(10) <= a.1
        };
        for a in &gone {
            let mut matches = come.iter().filter(|b| same(a, b));
            let (Some(b), None) = (matches.next(), matches.next()) else { continue };
            if gone.iter().filter(|a| same(a, b)).count() == 1
                && let Some(run) = self.lanes.get_mut(&a.0)
            {
                run.translated = Some(b.0);
            }
        }
    }
}

/// What others saw since a slot.
fn seen_since(others: &[(u16, Seen)], first: u64) -> Vec<(u16, u64)> {
    let sum = |seen: &Seen| {
        let late = seen.iter().filter(|(s, _)| *s >= first);
        late.fold(0u64, |sum, (_, n)| sum.saturating_add(*n))
    };
    others.iter().map(|(host, seen)| (*host, sum(seen))).filter(|(_, n)| *n > 0).collect()
}

/// The inner addresses of lanes, in the direction of their packets.
fn inner_pairs(interval: &Interval, of: HashSet<Lane>) -> HashMap<Lane, HashSet<[IpAddr; 2]>> {
    let mut inside: HashMap<Lane, HashSet<[IpAddr; 2]>> = HashMap::new();
    for row in interval.rows.walk() {
        let flow = row.flow();
        let (Some(outer), Inner::Pair(inner)) = (flow.key.outer, flow.key.inner) else { continue };
        for (way, (from, to), pair) in [
            (0, (outer.first, outer.second), [inner.first, inner.second]),
            (1, (outer.second, outer.first), [inner.second, inner.first]),
        ] {
            let lane = Lane { tunnel: flow.key.outermost, from, to };
            let happened = flow.counters.cells.iter().any(|hook| hook[way].packets > 0);
            if happened && of.contains(&lane) {
                inside.entry(lane).or_default().insert(pair);
            }
        }
    }
    inside
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::{Kind, Tunnel};

    #[test]
    fn packets_to_an_unwatched_address_are_unseen() {
        let lane = |to: u8, sent, received| {
            let [from, to] = [1, to].map(|host| IpAddr::from([10, 0, 0, host]));
            let count = |packets| Count { packets, bytes: packets * 100 };
            LaneSum {
                lane: Lane { tunnel: Tunnel { kind: Kind::Vxlan, id: Some(7) }, from, to },
                from: 0,
                to: 1,
                sent: count(sent),
                received: count(received),
                bound: 0,
                unseen: false,
            }
        };
        // At .2 other packets arrive, at .3 none do, and to .4 none are sent.
        let mut list = [lane(2, 9, 0), lane(2, 9, 8), lane(3, 9, 0), lane(4, 0, 0)];
        mark_unseen(&mut list);
        assert_eq!(list.map(|l| l.unseen), [false, false, true, false]);
    }
}
