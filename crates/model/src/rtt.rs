// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round-trip times inside tunnels, from the point of measurement to the other end and back.
use std::{collections::BTreeMap, time::Duration};

use crate::flow::Key;

/// The measurements, by row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Timed {
    /// By the interface's `id` and row: of what the first and the second end sent.
    pub rows: BTreeMap<(u64, Key), [RoundTrips; 2]>,
    /// Packets that could not be used: truncated, or of rows for which there was no room.
    pub untimed: u64,
    /// Connections that were evicted while they were being timed.
    pub untracked: u64,
}

/// A sentence that says on which side of the point of measurement most of the time is spent.
pub fn where_time_goes(key: &Key, ways: &[RoundTrips; 2]) -> Option<String> {
    const MOST: u128 = 80;
    let [to_second, to_first] = [&ways[0], &ways[1]].map(|way| way.percentile(50));
    let (to_second, to_first) = (to_second?.as_nanos(), to_first?.as_nanos());
    let both = (to_second + to_first).max(1);
    let pair = key.outer?;
    let share = |part: u128| part * 100 / both;
    match (share(to_second), share(to_first)) {
        (share, _) if share >= MOST => {
            Some(format!("{share} % of the time is spent on the side of {}", pair.second))
        }
        (_, share) if share >= MOST => {
            Some(format!("{share} % of the time is spent on the side of {}", pair.first))
        }
        _ => None,
    }
}

/// The round-trip time from one end of a row to the other and back: the sum of both medians, or the one
/// that is known.
pub fn there_and_back(ways: &[RoundTrips; 2]) -> Option<Duration> {
    ways.iter().filter_map(|way| way.percentile(50)).reduce(|a, b| a + b)
}

/// A time in three digits.
pub fn three_digits(t: Duration) -> String {
    let ns = t.as_nanos() as f64;
    let (n, unit) = match ns {
        _ if ns < 1e3 => (ns, "ns"),
        _ if ns < 1e6 => (ns / 1e3, "µs"),
        _ if ns < 1e9 => (ns / 1e6, "ms"),
        _ => (ns / 1e9, "s"),
    };
    let decimals = if n < 9.995 { 2 } else { usize::from(n < 99.95) };
    format!("{n:.decimals$} {unit}")
}

/// What one end of a row sent: how long the answers took, and what was retransmitted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RoundTrips {
    /// TCP segments and ICMP echo requests whose answer was timed.
    pub samples: u64,
    /// The sum of these times, in nanoseconds.
    pub nanoseconds: u64,
    /// The shortest time.
    pub least: u64,
    /// The longest time.
    pub most: u64,
    /// Retransmitted segments.
    pub retransmitted: u64,
    /// Segments that arrived out of order.
    pub out_of_order: u64,
    /// Duplicate acknowledgements.
    pub duplicate_acks: u64,
    /// Segments that advertise a zero window.
    pub zero_windows: u64,
    /// Retransmissions of bytes that never arrive, while smaller segments sent after them in the same
    /// connection do.
    pub stuck: u64,
    /// Of these bytes, the smallest payload in one packet; `None` if one as large has arrived since.
    pub too_big: Option<u32>,
    /// The largest payload of those that arrived.
    pub passed: Option<u32>,
    /// The distribution of the times.
    pub times: Times,
}

impl RoundTrips {
    /// What was retransmitted since an earlier measurement; everything if it began anew meanwhile.
    pub fn resent_since(&self, older: &RoundTrips) -> Resent {
        let is_anew = older.retransmitted > self.retransmitted || older.stuck > self.stuck;
        let [retransmitted, stuck] =
            if is_anew { [0, 0] } else { [older.retransmitted, older.stuck] };
        Resent {
            retransmitted: self.retransmitted - retransmitted,
            stuck: self.stuck - stuck,
            too_big: self.too_big,
            passed: self.passed,
        }
    }
}

/// What one end of a row retransmitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resent {
    /// Segments.
    pub retransmitted: u64,
    /// Those of them that never arrive, see [`RoundTrips::stuck`].
    pub stuck: u64,
    /// Of the latter, the smallest payload in one packet.
    pub too_big: Option<u32>,
    /// The largest payload that arrived.
    pub passed: Option<u32>,
}

impl Resent {
    /// Adds what happened later.
    pub fn add(&mut self, later: &Resent) {
        self.retransmitted = self.retransmitted.saturating_add(later.retransmitted);
        self.stuck = self.stuck.saturating_add(later.stuck);
        (self.too_big, self.passed) = (later.too_big, later.passed);
    }
}

/// A histogram of times in buckets, each at most an eighth longer than the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Times {
    /// The number of times in each.
    pub buckets: Box<[u32]>,
    /// Where they begin: at this power of two, in nanoseconds.
    pub least: u32,
    /// Each power of two is divided into `2^parts_bits` buckets.
    pub parts_bits: u32,
}

impl Times {
    /// The bounds of a bucket, in nanoseconds.
    fn bounds(&self, bucket: usize) -> (u64, u64) {
        let (bucket, parts) = (bucket as u32, 1 << self.parts_bits);
        let (power, part) = (self.least + bucket / parts, bucket % parts);
        let step = 1u64.checked_shl(power.saturating_sub(self.parts_bits)).unwrap_or(u64::MAX);
        let begin = step.saturating_mul(u64::from(parts + part));
        (begin, begin.saturating_add(step))
    }
}

impl RoundTrips {
    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        let seen = self.stuck
            | self.retransmitted
            | self.out_of_order
            | self.duplicate_acks
            | self.zero_windows;
        self.samples | seen == 0
    }

    /// The mean.
    pub fn mean(&self) -> Option<Duration> {
        self.nanoseconds.checked_div(self.samples).map(Duration::from_nanos)
    }

    /// The shortest and the longest time.
    pub fn extremes(&self) -> Option<[Duration; 2]> {
        (self.samples > 0).then(|| [self.least, self.most].map(Duration::from_nanos))
    }

    /// The time that this percentage did not exceed; accurate within 6.3 %, the width of its
    /// bucket.
    pub fn percentile(&self, percent: u64) -> Option<Duration> {
        let rank = self.samples.saturating_mul(percent).div_ceil(100).max(1);
        let mut below = 0;
        let bucket = self.times.buckets.iter().position(|n| {
            below += u64::from(*n);
            below >= rank
        })?;
        let (begin, end) = self.times.bounds(bucket);
        let middle = begin.midpoint(end);
        Some(Duration::from_nanos(middle.clamp(self.least, self.most.max(self.least))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_three_digits() {
        for (ns, text) in [
            (0, "0.00 ns"),
            (999, "999 ns"),
            (1_234, "1.23 µs"),
            (56_789, "56.8 µs"),
            (123_456_789, "123 ms"),
            (9_999_000_000, "10.0 s"),
        ] {
            assert_eq!(three_digits(Duration::from_nanos(ns)), text);
        }
    }

    #[test]
    fn the_side_that_takes_nearly_all_of_the_time_is_named() {
        let way = |ns: u64| RoundTrips {
            samples: 1,
            least: ns,
            most: ns,
            times: Times { buckets: vec![1].into(), least: 10, parts_bits: 3 },
            ..RoundTrips::default()
        };
        let outer = crate::flow::Pair { first: [10, 0, 0, 1].into(), second: [10, 0, 0, 2].into() };
        let key = Key { outer: Some(outer), ..Key::AGED };
        let told = |a, b| where_time_goes(&key, &[way(a), way(b)]);
        assert_eq!(
            told(900, 100).as_deref(),
            Some("90 % of the time is spent on the side of 10.0.0.2")
        );
        assert!(told(100, 1_000).is_some_and(|text| text.ends_with("10.0.0.1")));
        assert_eq!(told(500, 400), None, "spent on both sides");
        let both = |a, b| there_and_back(&[way(a), way(b)]);
        assert_eq!(both(900, 100), Some(Duration::from_nanos(1_000)));
        assert_eq!(there_and_back(&[RoundTrips::default(), way(7)]).map(|t| t.as_nanos()), Some(7));
        assert_eq!(there_and_back(&[RoundTrips::default(), RoundTrips::default()]), None);
        assert_eq!(where_time_goes(&key, &[way(900), RoundTrips::default()]), None);
        assert_eq!(told(0, 0), None, "no time was measured");
    }

    #[test]
    fn percentiles_are_accurate_to_a_bucket() {
        let mut times = Times { buckets: vec![0; 224].into(), least: 10, parts_bits: 3 };
        let mut trips = RoundTrips { least: u64::MAX, ..RoundTrips::default() };
        let all: Vec<u64> = (1..=1000).map(|n| n * n * 1_000).collect();
        for ns in &all {
            let bucket = (0..224).rev().find(|b| times.bounds(*b).0 <= *ns).unwrap_or(0);
            assert!(bucket == 0 || times.bounds(bucket).1 > *ns);
            times.buckets[bucket] += 1;
            trips.samples += 1;
            (trips.least, trips.most) = (trips.least.min(*ns), trips.most.max(*ns));
        }
        trips.times = times;
        for percent in [1, 50, 90, 99, 100] {
            let exact = all[percent * 10 - 1] as f64;
            let found = trips.percentile(percent as u64).unwrap().as_nanos() as f64;
            assert!((found / exact - 1.0).abs() < 0.063, "{percent}: {found} is not {exact}");
        }
        assert_eq!(RoundTrips::default().percentile(50), None);
        assert_eq!(RoundTrips::default().mean(), None);
        assert!(RoundTrips::default().is_empty());
    }
}
