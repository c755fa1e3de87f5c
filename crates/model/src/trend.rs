// SPDX-License-Identifier: MIT OR Apache-2.0
//! The traffic in scope over time: the sum of every interval kept, and for the most recent ones
//! also sums by end, pair and tunnel, for sparklines beside their names.
use std::time::Duration;

use foldhash::{HashMap, HashMapExt};

use crate::{
    flow::{Count, Key, Tunnel},
    history::{History, PastInterval},
    lines::Line,
    matrix::{End, Measure, Pick, Scope, Tally},
};

/// An interval of the timeline: its number, its length, and the count in scope.
pub type Moment = (u64, Duration, Count);

/// How many intervals before the one shown are kept in detail.
pub const REACH: usize = 60;

/// For how many of them rows of the table are known.
pub const ROWS: usize = 30;

/// Sums of one interval.
#[derive(Clone, Debug, Default)]
struct Detail {
    tally: Tally,
    ends: HashMap<End, Count>,
}

impl Detail {
    fn of(frame: &PastInterval, scope: &Scope) -> Self {
        let tally = Tally::of(&frame.interval, scope);
        let mut ends: HashMap<End, Count> = HashMap::new();
        for ((a, b), [fwd, rev]) in &tally.pairs {
            *ends.entry(*a).or_default() += *fwd + *rev;
            if a != b {
                *ends.entry(*b).or_default() += *fwd + *rev;
            }
        }
        Detail { tally, ends }
    }
}

/// The past of a scope. Only new intervals are computed, unless the scope changes.
#[derive(Clone, Debug, Default)]
pub struct Trends {
    scope: Scope,
    moments: Vec<Moment>,
    details: Vec<(u64, Detail)>, // oldest first
}

impl Trends {
    /// Brings everything up to date; `shown` is the interval that is drawn.
    pub fn update(&mut self, scope: &Scope, history: &History, shown: Option<u64>) {
        if self.scope != *scope {
            *self = Trends { scope: scope.clone(), ..Trends::default() };
        }
        let oldest = history.oldest().map_or(0, |f| f.number);
        self.moments.retain(|m| m.0 >= oldest);
        let next = self.moments.last().map_or(0, |m| m.0 + 1);
        let sum = |f: &PastInterval| scope.sum(&f.interval);
        self.moments.extend(history.since(next).map(|f| (f.number, f.interval.elapsed, sum(f))));

        let mut known = std::mem::take(&mut self.details).into_iter().peekable();
        for frame in shown.into_iter().flat_map(|n| history.until(n, REACH)) {
            while known.next_if(|k| k.0 < frame.number).is_some() {}
            let detail = known
                .next_if(|k| k.0 == frame.number)
                .map_or_else(|| Detail::of(frame, scope), |k| k.1);
            self.details.push((frame.number, detail));
        }
    }

    /// What was counted in scope in every interval of the history, oldest first.
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }

    fn last(&self, n: usize) -> impl Iterator<Item = &Detail> {
        self.details[self.details.len().saturating_sub(n)..].iter().map(|d| &d.1)
    }

    /// An end or a pair in the last `n` intervals up to the one shown, oldest first; at most
    /// [`REACH`].
    pub fn of(&self, pick: Pick, n: usize, measure: Measure) -> Vec<u64> {
        let count = |d: &Detail| match pick {
            Pick::End(e) => d.ends.get(&e).copied().unwrap_or_default(),
            Pick::Pair(a, b) if a == b => d.tally.sent(a, a),
            Pick::Pair(a, b) => d.tally.sent(a, b) + d.tally.sent(b, a),
        };
        self.last(n).map(|d| measure.of(count(d))).collect()
    }

    /// A tunnel in the last `n` intervals, regardless of the tunnel of the scope; all tunnels for
    /// `None`.
    pub fn of_tunnel(&self, tunnel: Option<Tunnel>, n: usize, measure: Measure) -> Vec<u64> {
        let count = |d: &Detail| match tunnel {
            Some(t) => d.tally.tunnels.get(&t).copied().unwrap_or_default(),
            None => d.tally.everything,
        };
        self.last(n).map(|d| measure.of(count(d))).collect()
    }
}

/// Rows of a table in the last `n` intervals up to one, oldest first.
pub fn of_rows(
    lines: &[Line],
    history: &History,
    number: u64,
    n: usize,
    measure: Measure,
) -> HashMap<(u16, Key), Vec<u64>> {
    let mut trends: HashMap<(u16, Key), Vec<u64>> =
        lines.iter().map(|l| ((l.interface, l.key), vec![])).collect();
    for (i, f) in history.until(number, n).enumerate() {
        for row in f.interval.rows.iter() {
            if let Some(values) = trends.get_mut(&(row.interface, row.key)) {
                values.resize(i + 1, 0);
                values[i] = values[i].saturating_add(measure.of(row.counters.total()));
            }
        }
        for values in trends.values_mut() {
            values.resize(i + 1, 0);
        }
    }
    trends
}
