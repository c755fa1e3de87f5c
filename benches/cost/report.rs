// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table: one line per thing measured, its target and whether it holds; the same as JSON.
use std::fmt;

use serde::Serialize;

/// Median and quartiles of what was measured.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Stat {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Stat {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Stat {
        let mut v: Vec<f64> = values.into_iter().collect();
        v.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| v.get(v.len() * part / 4).copied().unwrap_or(f64::NAN);
        Stat { median: at(2), low: at(1), high: at(3) }
    }

    pub(crate) fn exactly(value: f64) -> Stat {
        Stat { median: value, low: value, high: value }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// Of `ours`, `ancestor` and `floor`.
    pub(crate) unit: &'static str,
    /// The empty program (or nothing at all), gross.
    pub(crate) floor: Option<Stat>,
    /// The ancestor's method, without the floor.
    pub(crate) ancestor: Option<Stat>,
    /// tmon, without the floor.
    pub(crate) ours: Stat,
    /// The median of the rounds' ratios, where there is something to compare with.
    pub(crate) ratio: Option<Stat>,
    /// What is asked for: the most that the ratio may be, or `ours` where there is no ratio.
    pub(crate) target: Option<f64>,
    /// Whether it is so.
    pub(crate) met: Option<bool>,
}

impl Line {
    /// A cost by itself.
    pub(crate) fn cost(what: impl Into<String>, unit: &'static str, ours: Stat) -> Line {
        Line {
            what: what.into(),
            unit,
            floor: None,
            ancestor: None,
            ours,
            ratio: None,
            target: None,
            met: None,
        }
    }

    /// At most this much: the ratio, or the cost where there is none.
    pub(crate) fn at_most(mut self, target: f64) -> Line {
        self.target = Some(target);
        self.met = Some(self.ratio.unwrap_or(self.ours).median <= target);
        self
    }

    /// At least this much of what there is without us.
    pub(crate) fn at_least(mut self, target: f64) -> Line {
        self.target = Some(target);
        self.met = Some(self.ratio.unwrap_or(self.ours).median >= target);
        self
    }
}

/// Prints lines as they come and keeps them.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
}

fn number(n: f64) -> String {
    match n.abs() {
        x if x >= 1000.0 => format!("{n:.0}"),
        x if x >= 100.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |s: Option<Stat>| s.map_or("-".to_owned(), |s| number(s.median));
        let ratio = self
            .ratio
            .map_or("-".to_owned(), |r| format!("{:.3} ({:.3}-{:.3})", r.median, r.low, r.high));
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let target = self.target.map_or(String::new(), number);
        let (floor, ancestor, ours) =
            (optional(self.floor), optional(self.ancestor), number(self.ours.median));
        write!(
            f,
            "{:<44} {floor:>8} {ancestor:>9} {ours:>9} {:<7} {ratio:>22} {target:>8} {verdict}",
            self.what, self.unit
        )
    }
}

impl Report {
    pub(crate) fn heading(&self, title: &str) {
        println!(
            "\n{title}\n{:<44} {:>8} {:>9} {:>9} {:<7} {:>22} {:>8}",
            "", "floor", "ancestor", "tmon", "", "ratio (quartiles)", "target"
        );
    }

    pub(crate) fn add(&mut self, line: Line) {
        println!("{line}");
        self.lines.push(line);
    }
}
