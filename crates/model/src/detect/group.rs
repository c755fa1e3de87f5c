// SPDX-License-Identifier: MIT OR Apache-2.0
//! Findings as a list: worst first, with those that began together as one line.
use std::{cmp::Reverse, time::Duration};

use foldhash::{HashMap, HashMapExt};

use super::{Finding, Severity, Topic};

/// One line of the list: a finding, and how many others are like it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FindingGroup {
    /// The first of them.
    pub first: Finding,
    /// How many there are.
    pub size: usize,
}

/// Findings of one kind that began within this time may share a line.
const TOGETHER: Duration = Duration::from_secs(5);
/// They do if there are at least this many.
const MANY: usize = 8;

impl FindingGroup {
    /// The sentence.
    pub fn text(&self) -> String {
        match self.size {
            1 => self.first.text.clone(),
            n => format!("{}, and {} more like this", self.first.text, n - 1),
        }
    }
}

/// Findings as lines: open before ended, bad before notes, newest first.
pub fn grouped<'a>(findings: impl Iterator<Item = &'a Finding>) -> Vec<FindingGroup> {
    let mut sorted: Vec<&Finding> = findings.collect();
    sorted.sort_by_key(|f| {
        (
            f.until.is_some(),
            f.muted,
            Reverse(f.severity),
            Reverse(f.until),
            Reverse(f.since),
            f.number,
        )
    });
    let like = |f: &Finding| (f.topic, f.severity, f.until.is_some(), f.muted);
    let mut groups: Vec<Vec<&Finding>> = Vec::new();
    let mut newest: HashMap<(Topic, Severity, bool, bool), usize> = HashMap::new();
    for f in sorted {
        let apart =
            |a: &Finding| a.since.duration_since(f.since).or_else(|e| Ok::<_, ()>(e.duration()));
        match newest.get(&like(f)).map(|group| &mut groups[*group]) {
            Some(group) if apart(group[0]).is_ok_and(|d| d <= TOGETHER) => group.push(f),
            _ => {
                newest.insert(like(f), groups.len());
                groups.push(vec![f]);
            }
        }
    }
    let lines = groups.into_iter().flat_map(|group| {
        let many = group.len() >= MANY;
        let size = if many { group.len() } else { 1 };
        let shown = if many { 1 } else { group.len() };
        group.into_iter().take(shown).map(move |f| FindingGroup { first: f.clone(), size })
    });
    lines.collect()
}

#[cfg(test)]
mod tests {
    use super::{
        super::stage::{Stage, talk},
        grouped,
    };

    #[test]
    fn findings_that_began_together_share_a_line() {
        let mut stage = Stage::default();
        let all = |n: u8, back| {
            (2..2 + n).map(|peer| talk(peer, Some((1, peer)), 1, back)).collect::<Vec<_>>()
        };
        stage.seconds(5, &all(37, 1));
        stage.seconds(12, &all(37, 0));
        let lines = grouped(stage.detectors.findings());
        assert_eq!((lines.len(), lines[0].size), (1, 37));
        assert!(lines[0].text().ends_with(", and 36 more like this"), "{}", lines[0].text());
        let mut stage = Stage::default();
        stage.seconds(5, &all(3, 1));
        stage.seconds(12, &all(3, 0));
        assert_eq!(grouped(stage.detectors.findings()).len(), 3);
    }
}
