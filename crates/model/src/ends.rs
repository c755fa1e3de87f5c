// SPDX-License-Identifier: MIT OR Apache-2.0
//! Loss between two ends: what a sender of the fleet counted, less what the receiver did, in packets
//! (bytes differ lawfully on the way), over ten seconds and a minute.
//!
//! It is pure: what happened is taken interval by interval. The ends do not read at the same moment,
//! so each window has a bound: the rate times how far apart the two may be. Nothing is said that is
//! within it. It is of the begin and the end only, so a longer window sees less loss.
use std::{
    cmp::Reverse,
    collections::VecDeque,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::{
    flow::{Count, Inner, Kind},
    lane::{Balance, Lane},
    snapshot::Interval,
};

/// What both ends counted in some time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Window {
    /// How long it is.
    pub span: Duration,
    /// Packets that left their sender.
    pub sent: u64,
    /// Packets that came to their receiver.
    pub received: u64,
    /// By how many packets either may be wrong.
    pub bound: u64,
}

impl Window {
    /// What that says.
    pub fn balance(&self) -> Balance {
        Balance::of(self.sent, self.received, self.bound)
    }
}

/// Why only one end's counts are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OneEnd {
    /// The other is not in the fleet.
    Nobody,
    /// It is not heard, or this one is not.
    Silent,
    /// A clock is off.
    Clock,
    /// They have not been heard for long enough without a break.
    Young,
    /// The sender does not count what arrives: it does not watch the interface, perhaps.
    Unseen,
}

/// What is said of a lane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing: there is one end.
    OneEnd(OneEnd),
    /// What both ends say.
    Both(Balance),
    /// It is sent, and the receiver, which is heard, sees none of it. `known` is whether it sees, or
    /// has seen, anything that comes to that address.
    BlackHole {
        /// It would see it.
        known: bool,
    },
    /// It arrives with other addresses.
    Translated(Lane, Balance),
    /// It is for a group: what each member that receives says, by hosts.
    Group(Vec<(u16, Window)>),
}

/// What two ends and those between them say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Of what.
    pub lane: Lane,
    /// Who sends: hosts, by their interfaces.
    pub from: Vec<u16>,
    /// Who receives.
    pub to: Vec<u16>,
    /// What it is.
    pub verdict: Verdict,
    /// The last ten seconds.
    pub short: Window,
    /// The last minute, once there is one.
    pub long: Option<Window>,
    /// What hosts on the way saw in the last ten seconds.
    pub passed: Vec<(u16, u64)>,
    /// What the devices of the sender dropped in that time as packets left, and those of the receiver
    /// as they arrived; of all traffic.
    pub dropped: [u64; 2],
    /// Since it is watched: sent and received.
    pub in_all: [u64; 2],
}

/// Where packets were lost, of those that are: what left the sender's queue never, what the receiver
/// had no room for, and the rest, on the way. Devices count all traffic, so it may be less.
pub fn split(lost: u64, [left, arrived]: [u64; 2]) -> [u64; 3] {
    let left = left.min(lost);
    let arrived = arrived.min(lost - left);
    [left, arrived, lost - left - arrived]
}

/// What both ends of a lane counted in all of an interval.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LaneSum {
    /// Of what.
    pub lane: Lane,
    /// Who sends: a host, by its interface.
    pub from: u16,
    /// Who receives.
    pub to: u16,
    /// What the sender counted.
    pub sent: Count,
    /// What the receiver did.
    pub received: Count,
    /// By how many packets either may be wrong.
    pub bound: u64,
}

impl LaneSum {
    /// What that says.
    pub fn balance(&self) -> Balance {
        Balance::of(self.sent.packets, self.received.packets, self.bound)
    }
}

/// All lanes of which both ends are in the fleet, the one that loses most first; and how many have one
/// end there. What either count may be wrong by is of the begin and the end, of which `edges` are.
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
        list.push(LaneSum { lane, from, to, sent, received, bound });
    }
    list.sort_by_key(|l| (Reverse(l.sent.packets.abs_diff(l.received.packets)), l.lane));
    (list, one_end)
}

/// What senders and receivers counted, by lane.
fn lane_counts(interval: &Interval) -> HashMap<Lane, [Count; 2]> {
    let mut sums: HashMap<Lane, [Count; 2]> = HashMap::new();
    for row in interval.rows.walk() {
        let (Some(pair), cells) = (row.outer(), row.counters().cells) else { continue };
        for (way, (from, to)) in
            [(pair.first, pair.second), (pair.second, pair.first)].into_iter().enumerate()
        {
            let counts = [cells[1][way], cells[0][way]];
            if counts.iter().any(|n| !n.is_zero()) {
                let lane = Lane { tunnel: row.outermost(), from, to };
                let sum = sums.entry(lane).or_default();
                sum.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
            }
        }
    }
    sums
}

/// Windows are made of these.
const SLOT: Duration = Duration::from_secs(5);
/// Slots in the short window, in two of them, and in the long one.
const SHORT: u64 = 2;
const TWICE: u64 = 4;
const LONG: u64 = 12;
/// Limit on the lanes; further ones are not judged.
const MOST: usize = 1 << 17;
/// Limit on the lanes that are looked for under other addresses.
const MOST_OPEN: usize = 256;
/// So many packets are to be missing before they are.
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

/// What one host saw of a lane in slots.
type Seen = VecDeque<(u64, u64)>;

#[derive(Clone, Debug, Default)]
struct Run {
    parts: VecDeque<Part>,
    /// What hosts on the way, or members of the group, saw.
    others: Vec<(u16, Seen)>,
    /// It has been received.
    arrives: bool,
    /// Under which addresses it arrives.
    translated: Option<Lane>,
    in_all: [u64; 2],
}

/// How a host is heard.
#[derive(Clone, Debug, Default)]
struct Attendance {
    name: Arc<str>,
    live: bool,
    off: bool,
    error: Duration,
    /// The slot in which something of it was missing last.
    broken: u64,
    /// When its last reading was taken, at the ends of slots.
    taken: VecDeque<(u64, SystemTime)>,
    now: Option<SystemTime>,
    /// What its devices dropped in slots: as packets left, and as they arrived.
    dropped: VecDeque<(u64, [u64; 2])>,
}

/// What both ends counted of late.
#[derive(Clone, Debug, Default)]
pub struct Ends {
    /// The slot that is being filled; the first is 1.
    slot: u64,
    /// How long it is already, and how long those before it are, oldest first.
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

    /// A slot has just ended: there is something new to be said.
    pub fn has_closed(&self) -> bool {
        self.has_closed
    }

    /// How long it takes until there is something new again.
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
        let is_ours = |lane: &Lane| {
            let known = self.owners.contains_key(&lane.from) || self.owners.contains_key(&lane.to);
            known && lane.tunnel.kind != Kind::None
        };
        let mut now = lane_counts(interval);
        now.retain(|lane, _| is_ours(lane));
        let seconds = interval.elapsed.as_secs_f64().max(1e-3);
        for (lane, [sent, received]) in now {
            let [sent, received] = [sent.packets, received.packets];
            let peak = sent.max(received) as f64 / seconds;
            let Some(run) = self.run(lane) else { continue };
            run.arrives |= received > 0;
            run.in_all[0] = run.in_all[0].saturating_add(sent);
            run.in_all[1] = run.in_all[1].saturating_add(received);
            let slot = self.slot;
            let Some(run) = self.lanes.get_mut(&lane) else { continue };
            if run.parts.back().is_none_or(|part| part.slot != slot) {
                run.parts.push_back(Part { slot, ..Part::default() });
            }
            let Some(part) = run.parts.back_mut() else { continue };
            part.sent = part.sent.saturating_add(sent);
            part.received = part.received.saturating_add(received);
            part.peak = part.peak.max(peak);
        }
        let slot = self.slot;
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
            // Where the first slot begins is where the one before it ended.
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

    /// The first slot of the last so many that are complete.
    fn first(&self, slots: u64) -> Option<u64> {
        self.slot.checked_sub(slots).filter(|first| *first > 0)
    }

    /// How far apart the readings of hosts may be, over the last slots; `None` where one was not heard
    /// all of that time.
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

    /// What the ends counted of a lane in the last slots, and what it may be wrong by.
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

    /// What is to be said of all lanes, the one that loses most first.
    pub fn judge(&self) -> Vec<Judged> {
        // Where something arrives, everything would be seen.
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
                Verdict::OneEnd(OneEnd::Young) // it may not watch that interface: more is to come
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

    /// What is sent and does not arrive, and what arrives and nobody sent: where these are as many
    /// packets of the same tunnel for the same inner addresses, and only they, it is the same.
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

/// What others saw from a slot on.
fn seen_since(others: &[(u16, Seen)], first: u64) -> Vec<(u16, u64)> {
    let sum = |seen: &Seen| {
        let late = seen.iter().filter(|(s, _)| *s >= first);
        late.fold(0u64, |sum, (_, n)| sum.saturating_add(*n))
    };
    others.iter().map(|(host, seen)| (*host, sum(seen))).filter(|(_, n)| *n > 0).collect()
}

/// Inner addresses of lanes in the direction of their packets.
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
