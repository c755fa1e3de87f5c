// SPDX-License-Identifier: MIT OR Apache-2.0
//! The list of findings and the cursor in it.
use std::{net::IpAddr, time::SystemTime};

use foldhash::HashSet;
use model::{
    detect::{Finding, FindingGroup, Severity, grouped},
    flow::{Key, Pair},
    matrix::{End, Level, Scope},
};

/// The findings as listed, and which one is selected.
#[derive(Clone, Debug, Default)]
pub struct FindingsList {
    lines: Vec<FindingGroup>,
    open: [usize; 2],
    chosen: Option<u64>,
    /// Pairs of hosts, and of inner addresses, with an open bad finding between them, the lower
    /// first.
    pairs: [HashSet<(IpAddr, IpAddr)>; 2],
    /// The hosts as they are shown, which may be as groups.
    shown: HashSet<(End, End)>,
}

impl FindingsList {
    /// Rebuilds the list: as of now, or as of a past time.
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

    /// The numbers of open findings: bad ones, and notes.
    pub fn open(&self) -> [usize; 2] {
        self.open
    }

    /// Whether there is an open bad finding between two hosts, or between two inner addresses.
    pub fn concerns(&self, level: Level, a: End, b: End) -> bool {
        match (level, a, b) {
            (Level::Hosts, ..) => self.shown.contains(&(a.min(b), a.max(b))),
            (Level::Inner, End::Addr(a), End::Addr(b)) => {
                self.pairs[1].contains(&(a.min(b), a.max(b)))
            }
            (Level::Inner, ..) => false,
        }
    }

    /// All such pairs, the lower end first.
    pub fn pairs(&self, level: Level) -> impl Iterator<Item = (End, End)> {
        let inner = self.pairs[1].iter().filter(move |_| level == Level::Inner);
        let hosts = self.shown.iter().filter(move |_| level == Level::Hosts);
        hosts.copied().chain(inner.map(|(a, b)| (End::Addr(*a), End::Addr(*b))))
    }

    /// Whether there is an open bad finding about a row: between its inner addresses, or, if it has
    /// none, between its hosts.
    pub fn concerns_row(&self, key: &Key) -> bool {
        let pair = |p: Pair| (p.first.min(p.second), p.first.max(p.second));
        match key.inner.pair() {
            Some(inner) => self.pairs[1].contains(&pair(inner)),
            None => key.outer.is_some_and(|outer| self.pairs[0].contains(&pair(outer))),
        }
    }

    /// The selected line.
    pub fn chosen(&self) -> Option<&FindingGroup> {
        self.lines.get(self.cursor())
    }

    /// Whether the selected line is this finding's.
    pub fn is_chosen(&self, number: u64) -> bool {
        self.chosen().is_some_and(|group| group.first.number == number)
    }

    /// Selects a finding's line.
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

    /// The index of the selected line.
    pub fn cursor(&self) -> usize {
        let of = |n| self.lines.iter().position(|group| group.first.number == n);
        self.chosen.and_then(of).unwrap_or(0)
    }
}
