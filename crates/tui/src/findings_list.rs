// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings as they are listed, and which of them is chosen.
use std::{net::IpAddr, time::SystemTime};

use foldhash::HashSet;
use model::{
    detect::{Finding, FindingGroup, Severity, grouped},
    flow::{Key, Pair},
    matrix::{End, Level, Scope},
};

/// What was found, as it is listed, and what of it is chosen.
#[derive(Clone, Debug, Default)]
pub struct FindingsList {
    lines: Vec<FindingGroup>,
    open: [usize; 2],
    chosen: Option<u64>,
    /// Hosts, and inner addresses, between which something is bad now, the lower first.
    pairs: [HashSet<(IpAddr, IpAddr)>; 2],
    /// The hosts as they are shown, which may be groups.
    shown: HashSet<(End, End)>,
}

impl FindingsList {
    /// Makes the list anew: of now, or as it was at a time.
    pub fn list<'a>(
        &mut self,
        findings: impl Iterator<Item = &'a Finding>,
        then: Option<SystemTime>,
        scope: &Scope,
    ) {
        self.lines = match then {
            None => grouped(findings),
            Some(then) => {
                let as_then = |f: &'a Finding| {
                    let mut f = f.clone();
                    f.until = f.until.filter(|until| *until <= then);
                    f
                };
                let known: Vec<Finding> =
                    findings.filter(|f| f.since <= then).map(as_then).collect();
                grouped(known.iter())
            }
        };
        self.pairs = <[HashSet<_>; 2]>::default();
        let bad = |g: &&FindingGroup| {
            let f = &g.first;
            f.until.is_none() && !f.muted && f.severity == Severity::Bad
        };
        for place in self.lines.iter().filter(bad).map(|g| &g.first.place) {
            let ends = [(place.outer_from, place.outer_to), (place.inner_from, place.inner_to)];
            for (pairs, (from, to)) in self.pairs.iter_mut().zip(ends) {
                if let (Some(a), Some(b)) = (from, to) {
                    pairs.insert((a.min(b), a.max(b)));
                }
            }
        }
        let shown = |host: &IpAddr| scope.together(End::Addr(*host));
        let hosts = self.pairs[0].iter().map(|(a, b)| (shown(a), shown(b)));
        self.shown = hosts.map(|(a, b)| (a.min(b), a.max(b))).collect();
        let open = |severity| {
            let is = |g: &&FindingGroup| {
                g.first.until.is_none() && !g.first.muted && g.first.severity == severity
            };
            self.lines.iter().filter(is).map(|g| g.size).sum()
        };
        self.open = [open(Severity::Bad), open(Severity::Note)];
    }

    /// How many there are now: bad ones, and ones to note.
    pub fn open(&self) -> [usize; 2] {
        self.open
    }

    /// Whether something is bad now between two hosts, or between two inner addresses.
    pub fn concerns(&self, level: Level, a: End, b: End) -> bool {
        match (level, a, b) {
            (Level::Hosts, ..) => self.shown.contains(&(a.min(b), a.max(b))),
            (Level::Inner, End::Addr(a), End::Addr(b)) => {
                self.pairs[1].contains(&(a.min(b), a.max(b)))
            }
            (Level::Inner, ..) => false,
        }
    }

    /// All of these, the lower first.
    pub fn pairs(&self, level: Level) -> impl Iterator<Item = (End, End)> {
        let inner = self.pairs[1].iter().filter(move |_| level == Level::Inner);
        let hosts = self.shown.iter().filter(move |_| level == Level::Hosts);
        hosts.copied().chain(inner.map(|(a, b)| (End::Addr(*a), End::Addr(*b))))
    }

    /// Whether something is bad now with a row: between its inner addresses, or where it has none,
    /// between its hosts.
    pub fn concerns_row(&self, key: &Key) -> bool {
        let pair = |p: Pair| (p.first.min(p.second), p.first.max(p.second));
        match key.inner.pair() {
            Some(inner) => self.pairs[1].contains(&pair(inner)),
            None => key.outer.is_some_and(|outer| self.pairs[0].contains(&pair(outer))),
        }
    }

    /// The chosen line.
    pub fn chosen(&self) -> Option<&FindingGroup> {
        self.lines.get(self.cursor())
    }

    /// Whether it is this finding's.
    pub fn is_chosen(&self, number: u64) -> bool {
        self.chosen().is_some_and(|group| group.first.number == number)
    }

    /// Chooses a finding's line.
    pub fn choose(&mut self, number: u64) {
        self.chosen = Some(number);
    }

    /// Moves the cursor.
    pub fn step(&mut self, by: isize) {
        let last = self.lines.len().saturating_sub(1);
        let to = self.cursor().saturating_add_signed(by).min(last);
        self.chosen = self.lines.get(to).map(|group| group.first.number);
    }

    /// All lines.
    pub fn lines(&self) -> &[FindingGroup] {
        &self.lines
    }

    /// Which of them is chosen.
    pub fn cursor(&self) -> usize {
        let of = |n| self.lines.iter().position(|group| group.first.number == n);
        self.chosen.and_then(of).unwrap_or(0)
    }
}
