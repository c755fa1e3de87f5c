// SPDX-License-Identifier: MIT OR Apache-2.0
//! A capture as intervals of its own clock, in bounded memory: what `top --read` scrubs through.
//!
//! A packet belongs to the interval given by its timestamp, whatever the order of the file. If the
//! intervals take more memory than allowed, pairs of them are merged.
use std::{
    collections::BTreeMap,
    mem,
    time::{Duration, SystemTime},
};

use crate::{
    allowance::{self, Allowance},
    replay::{Span, at},
};
use model::{
    flow::Books,
    history,
    rows::Rows,
    snapshot::{Interval, Snapshot},
};

/// The maximum number of intervals, however small they are.
const MOST: usize = 600;
/// How often the packets' clock may go back to an earlier interval. Each time costs a reading, and
/// a file could force one per packet; beyond this limit, packets count in the current interval.
const MOST_RETURNS: u32 = 10_000;

/// The intervals so far.
#[derive(Clone)]
pub struct Recording {
    /// The length of an interval, in nanoseconds.
    step: i128,
    budget: usize,
    /// The time at which interval 0 begins, in nanoseconds: the first packet's or earlier.
    origin: Option<i128>,
    intervals: BTreeMap<i128, Interval>,
    here: i128,
    returns: u32,
    allowance: Allowance,
    /// The totals at the end of the previous interval.
    before: Snapshot,
}

impl Recording {
    /// A recording with intervals of `step`, or twice that and so on, within `budget` bytes;
    /// `empty` is the reading before the first packet.
    pub fn new(step: Duration, budget: usize, empty: Snapshot) -> Recording {
        Recording {
            step: nanoseconds(step.max(Duration::from_millis(1))),
            budget,
            origin: None,
            intervals: BTreeMap::new(),
            here: 0,
            returns: 0,
            allowance: Allowance::default(),
            before: empty,
        }
    }

    /// Whether the next packet, with this timestamp, belongs to another interval than those before
    /// it, whose reading must then be given to [`Recording::turn`]. Doubles the intervals if there
    /// have been too many for so few packets.
    pub fn turns(&mut self, time: Option<Duration>) -> bool {
        self.allowance.earn(1);
        let Some(time) = time else { return false };
        if self.origin.is_none() {
            self.origin = Some(nanoseconds(time));
        }
        if self.place(time) < self.here {
            return self.returns < MOST_RETURNS && self.allowance.lasts();
        }
        while self.place(time) > self.here && !self.allowance.lasts() {
            self.double();
        }
        self.place(time) > self.here
    }

    /// Ends the current interval with `reading`, which has all packets before this time.
    pub fn turn(&mut self, reading: Snapshot, time: Duration) {
        self.add(reading);
        let there = self.place(time);
        self.returns += u32::from(there < self.here);
        self.here = there;
        self.thin();
    }

    fn place(&self, time: Duration) -> i128 {
        let time = nanoseconds(time);
        (time - self.origin.unwrap_or(time)).div_euclid(self.step)
    }

    fn add(&mut self, reading: Snapshot) {
        self.allowance.spend(allowance::reading(&reading));
        let happened = reading.since(&self.before);
        self.before = reading;
        match self.intervals.get_mut(&self.here) {
            Some(interval) => self.allowance.spend(join(interval, &happened)),
            None => drop(self.intervals.insert(self.here, happened)),
        }
    }

    fn thin(&mut self) {
        while self.intervals.len() > 1
            && (self.intervals.len() > MOST || self.bytes() > self.budget)
        {
            self.double();
        }
    }

    /// Merges pairs of intervals.
    fn double(&mut self) {
        // Around zero, the two intervals on either side would never be merged.
        let first = self.intervals.first_key_value().map_or(self.here, |(place, _)| *place);
        let first = first.min(self.here).min(0);
        let place = |place: i128| (place - first).div_euclid(2);
        self.origin = self.origin.map(|origin| origin + first * self.step);
        self.step *= 2;
        self.here = place(self.here);
        for (before, interval) in mem::take(&mut self.intervals) {
            match self.intervals.get_mut(&place(before)) {
                Some(earlier) => self.allowance.spend(join(earlier, &interval)),
                None => drop(self.intervals.insert(place(before), interval)),
            }
        }
    }

    fn bytes(&self) -> usize {
        self.intervals.values().map(history::bytes).sum()
    }

    /// The intervals in order of time, with gaps as one interval each, and the totals, which are
    /// those of `reading`. All intervals are whole steps, so no rate is overestimated.
    pub fn finish(mut self, reading: Snapshot, span: Option<Span>) -> (Vec<Interval>, Snapshot) {
        self.add(reading);
        self.thin();
        let mut intervals: Vec<Interval> = Vec::with_capacity(self.intervals.len());
        let alone = self.intervals.len() == 1;
        let mut next = None;
        for (place, interval) in mem::take(&mut self.intervals) {
            let (begin, end) = match span {
                Some(span) if alone => (Some(span.first), Some(span.last)),
                Some(_) => (self.begin(place), self.begin(place + 1)),
                None => (None, None),
            };
            if let (Some(next), Some(last)) = (next, intervals.last())
                && next < place
            {
                let mut quiet = last.reduced(Rows::default());
                quiet.interfaces.iter_mut().for_each(|i| i.books = Books::default());
                quiet.beside = Default::default();
                intervals.push(timed(quiet, self.begin(next), begin));
            }
            intervals.push(timed(interval, begin, end));
            next = Some(place + 1);
        }
        (intervals, self.before)
    }

    /// The time at which an interval begins.
    fn begin(&self, place: i128) -> Option<Duration> {
        const SECOND: i128 = 1_000_000_000;
        let t = self.origin?.saturating_add(place.saturating_mul(self.step)).max(0);
        let seconds = u64::try_from(t / SECOND).unwrap_or(u64::MAX);
        Some(Duration::new(seconds, (t % SECOND) as u32))
    }
}

fn timed(mut interval: Interval, begin: Option<Duration>, end: Option<Duration>) -> Interval {
    interval.elapsed = end.unwrap_or_default().saturating_sub(begin.unwrap_or_default());
    let time = |t: Option<Duration>| t.map_or_else(model::snapshot::unknown_time, at);
    let times: [SystemTime; 2] = [time(begin), time(end)];
    [interval.since, interval.taken] = times;
    for i in &mut interval.interfaces {
        i.span = interval.elapsed;
    }
    interval
}

/// A time in nanoseconds, far below the range of i128.
fn nanoseconds(time: Duration) -> i128 {
    time.as_nanos() as i128
}

/// Adds a later interval to this one. Returns how many rows were processed.
fn join(interval: &mut Interval, later: &Interval) -> u64 {
    let both = interval.rows.len() + later.rows.len();
    if let Some(sum) = Interval::sum([&*interval, later]) {
        *interval = sum;
    }
    both as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample;
    use model::flow::{Count, Counters, Flow};

    fn flow(id: u32, packets: u64) -> Flow {
        Flow {
            interface: 0,
            key: sample::key(id),
            counters: Counters {
                cells: [[Count { packets, bytes: 100 * packets }, Count::default()]; 2],
                ..Counters::default()
            },
        }
    }

    fn reading(flows: &[Flow]) -> Snapshot {
        let mut rows = Rows::default();
        for (place, f) in flows.iter().enumerate() {
            rows.push_flow(place as u32, f);
        }
        let (since, at) = (SystemTime::UNIX_EPOCH, Duration::ZERO);
        Snapshot {
            origin: Default::default(),
            since,
            taken: since,
            at,
            interfaces: vec![],
            rows,
            drops: None,
            beside: Default::default(),
        }
    }

    /// Records packets of row 7 at these seconds (`None`: no timestamp), with a reading in between
    /// whenever one is requested; returns the intervals as seconds since the epoch and packets.
    fn record(times: &[Option<u64>], budget: usize) -> Vec<([u64; 2], u64)> {
        let mut recording = Recording::new(Duration::from_secs(1), budget, reading(&[]));
        let mut packets = 0;
        for time in times.iter().map(|t| t.map(Duration::from_secs)) {
            if recording.turns(time) {
                recording.turn(reading(&[flow(7, packets)]), time.unwrap());
            }
            packets += 1;
        }
        let known = || times.iter().flatten().map(|t| Duration::from_secs(*t));
        let span = known().min().zip(known().max()).map(|(first, last)| Span { first, last });
        let (intervals, total) = recording.finish(reading(&[flow(7, packets)]), span);
        assert_eq!(total.rows.merged(), [flow(7, packets)]);
        let seconds = |t: SystemTime| t.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        intervals
            .iter()
            .map(|i| {
                let n: u64 = i.rows.iter().map(|f| f.counters.total().packets).sum();
                if span.is_some() {
                    assert_eq!(i.elapsed.as_secs(), seconds(i.taken) - seconds(i.since));
                }
                ([seconds(i.since), seconds(i.taken)], n / 2)
            })
            .collect()
    }

    fn at_seconds(times: impl IntoIterator<Item = u64>) -> Vec<Option<u64>> {
        times.into_iter().map(Some).collect()
    }

    #[test]
    fn packets_go_to_the_interval_of_their_time_in_any_order() {
        let expected = [([10, 11], 2), ([11, 12], 1), ([12, 14], 0), ([14, 15], 3)];
        for times in [[10, 10, 11, 14, 14, 14], [14, 14, 14, 11, 10, 10], [14, 10, 14, 11, 10, 14]]
        {
            assert_eq!(record(&at_seconds(times), 1 << 20), expected, "{times:?}");
        }
        let mut unknown = at_seconds([10, 10, 11, 14, 14]);
        unknown.insert(4, None); // counts in the current interval
        assert_eq!(record(&unknown, 1 << 20), expected);
    }

    #[test]
    fn a_capture_within_one_step_has_its_real_length() {
        assert_eq!(record(&at_seconds([5]), 1 << 20), [([5, 5], 1)]);
        let unknown = model::snapshot::unknown_time();
        let unknown = unknown.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(record(&[None, None], 1 << 20), [([unknown; 2], 2)]);
    }

    #[test]
    fn exceeding_memory_gives_fewer_intervals_and_loses_nothing() {
        let times = at_seconds(0..64);
        let all = record(&times, 1 << 20);
        assert_eq!(all.len(), 64);
        // Room for ten rows of two shards each, one per direction.
        let few = record(&times, 10 * 2 * 128);
        assert_eq!(few.iter().map(|i| i.1).collect::<Vec<_>>(), [8; 8]);
        assert_eq!(record(&times, 0).len(), 1);
        assert!(record(&at_seconds(0..100_000), 1 << 30).len() <= MOST);
    }

    #[test]
    fn extreme_times_are_intervals() {
        let intervals = record(&at_seconds([0, 1_700_000_000, (1 << 60) - 1]), 1 << 20);
        assert_eq!(intervals.iter().map(|i| i.1).sum::<u64>(), 3);
        let mut recording = Recording::new(Duration::from_secs(1), 1 << 20, reading(&[]));
        for time in [Duration::MAX, Duration::ZERO, Duration::MAX] {
            if recording.turns(Some(time)) {
                recording.turn(reading(&[]), time);
            }
        }
        let span = Span { first: Duration::ZERO, last: Duration::MAX };
        assert_eq!(recording.finish(reading(&[]), Some(span)).0.len(), 3);
    }

    #[test]
    fn intervals_before_and_after_the_first_packet_are_merged() {
        for budget in [0, 10 * 2 * 128] {
            let times = (0..64).map(|i| 1000 + i).chain((0..64).map(|i| 999 - i));
            let few = record(&at_seconds(times), budget);
            assert_eq!(few.iter().map(|i| i.1).sum::<u64>(), 128);
            assert!(few.len() <= 16, "{few:?}");
        }
        let mut recording = Recording::new(Duration::from_secs(1), 0, reading(&[]));
        for (i, time) in (0..).zip([Duration::MAX / 2, Duration::MAX, Duration::ZERO].repeat(9)) {
            if recording.turns(Some(time)) {
                recording.turn(reading(&[flow(7, i)]), time);
            }
        }
        assert_eq!(recording.finish(reading(&[flow(7, 27)]), None).0.len(), 1);
    }

    #[test]
    fn cost_depends_on_packets_and_not_on_their_times() {
        let rows = 50_000;
        let many: Vec<Flow> = (0..rows).map(|id| flow(id, 1)).collect();
        let many = reading(&many);
        let clocks: [fn(u64) -> u64; 4] = [
            |i| i * 3600,
            |i| i * 365 * 86_400,
            |i| 1 << (i % 63),
            |i| i % 2 * 5, // and back
        ];
        for (n, clock) in clocks.iter().enumerate() {
            let mut recording = Recording::new(Duration::from_secs(1), 1 << 27, reading(&[]));
            let (mut spent, packets) = (0, 20_000);
            for i in 0..packets {
                let time = Duration::from_secs(clock(i));
                if recording.turns(Some(time)) {
                    spent += u64::from(rows);
                    // Only the cost of a reading matters here.
                    recording.allowance.spend(u64::from(rows));
                    recording.turn(reading(&[]), time);
                }
            }
            let most = allowance::FREE + allowance::PER_FRAME * packets + 2 * u64::from(rows);
            assert!(spent <= most && spent > 0, "clock {n}: {spent} rows read, not {most}");
            let total = recording.finish(many.clone(), None).1;
            assert_eq!(total.rows.len(), many.rows.len());
        }
    }

    #[test]
    fn a_clock_that_keeps_going_back_costs_bounded_readings() {
        let mut recording = Recording::new(Duration::from_secs(1), 1 << 20, reading(&[]));
        let mut readings = 0;
        for i in 0..100_000 {
            let time = Duration::from_secs(i % 2 * 5);
            if recording.turns(Some(time)) {
                readings += 1;
                recording.turn(reading(&[]), time);
            }
        }
        assert!(readings <= 2 * MOST_RETURNS + 1, "{readings} readings");
    }
}
