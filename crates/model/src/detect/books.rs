// SPDX-License-Identifier: MIT OR Apache-2.0
//! `books`: packets that could not be counted where they belong, so that counts are too low.
use std::{collections::BTreeMap, time::Duration};

use super::{Evidence, Severity, Sighting, Subject, Topic};
use crate::{
    flow::{Count, Stop},
    units::percent,
};

/// How long the finding stays open after it was last seen.
const STAYS: Duration = Duration::from_secs(10);
/// A loss of coverage of this fraction or more of what an interface saw is bad: one in a hundred.
const BAD: u64 = 100;

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let mut found = Vec::new();
    let mut say = |interface: &str, reason: &str, severity, text, n: Option<Count>| {
        found.push(Sighting {
            topic: Topic::Books,
            severity,
            place: Subject {
                interface: Some(interface.to_owned()),
                reason: Some(reason.to_owned()),
                ..Subject::default()
            },
            since: None,
            text,
            counts: n.map_or_else(BTreeMap::new, |n| {
                BTreeMap::from([("pkts", n.packets), ("bytes", n.bytes)])
            }),
            stays: STAYS,
        });
    };
    let interfaces = &look.interval.interfaces;
    let mut other = vec![Count::default(); interfaces.len()];
    // A fleet's hosts also report sums by tunnel where no table is full.
    let is_fleet = look.interval.once().is_of_fleet();
    let may_be_full = |i: u16| {
        let fill = interfaces.get(usize::from(i)).map(|i| i.fill).unwrap_or_default();
        !is_fleet || fill.used.saturating_mul(4) >= fill.size.saturating_mul(3).max(1)
    };
    let others = look.interval.rows.walk().filter(|r| r.other() && may_be_full(r.interface()));
    let others = others.map(|row| row.flow());
    for flow in others.filter(|f| !f.key.is_aged()) {
        if let Some(sum) = other.get_mut(usize::from(flow.interface)) {
            *sum += flow.counters.rx() + flow.counters.tx();
        }
    }
    for (i, other) in interfaces.iter().zip(other) {
        let name = &i.name;
        if i.stale {
            let text = format!("the counters of {name} cannot be read: the values shown are old");
            say(name, "stale", Severity::Bad, text, None);
        }
        if other.packets > 0 {
            let text = format!(
                "the table of {name} is full: {{}} are counted by tunnel, not by row; try `--rows`"
            );
            say(name, "full", Severity::Bad, text, Some(other));
        }
        let [rx, tx] = i.books.seen();
        let seen = rx.packets.saturating_add(tx.packets);
        for stop in [Stop::Fragment, Stop::Truncated, Stop::Malformed, Stop::TooDeep] {
            let [rx, tx] = i.books.stop(stop);
            let n = rx + tx;
            if n.packets == 0 {
                continue;
            }
            let bad = n.packets.saturating_mul(BAD) >= seen;
            let text = format!(
                "{{}} on {name} (recently {}) could not be counted into a row: {}",
                percent(n.packets, seen),
                stop.name()
            );
            say(name, stop.name(), if bad { Severity::Bad } else { Severity::Note }, text, Some(n));
        }
        let [rx, tx] = i.books.suspect;
        let suspect = rx + tx;
        if suspect.packets > 0 {
            let text = format!(
                "{{}} on {name} had a tunnel's port but not its header: another protocol, or a port to set with `--port`"
            );
            say(name, "suspect", Severity::Note, text, Some(suspect));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::Detectors,
        super::stage::{Stage, talk},
        Severity, Topic,
    };
    use crate::{
        flow::{Books, Count, HookKind, Stop},
        interface::{Fill, Interface},
        rows::Rows,
        snapshot::Interval,
    };
    use std::time::{Duration, SystemTime};

    #[test]
    fn sums_of_a_fleet_are_not_reported_as_a_full_table() {
        let mut sum = talk(2, None, 0, 40);
        sum.key.other = true;
        let found = |used| {
            let mut rows = Rows::default();
            rows.push_flow(0, &sum);
            let fill = Fill { used, size: 65_536 };
            let host = Interface { hook: HookKind::Fleet, fill, ..Interface::new(0, "node-a") };
            let second = Duration::from_secs(1);
            let until = SystemTime::UNIX_EPOCH + second;
            let interval = Interval::new(SystemTime::UNIX_EPOCH, until, second, vec![host], rows);
            let mut detectors = Detectors::default();
            detectors.step(&interval, None);
            detectors.findings().map(|f| f.text.clone()).collect::<Vec<_>>()
        };
        assert_eq!(found(1000), [""; 0]);
        assert!(found(60_000)[0].contains("the table of node-a is full"));
    }

    #[test]
    fn packets_without_a_row_are_found() {
        let count = |packets| Count { packets, bytes: packets * 100 };
        let mut books = Books { counted: [count(900), count(0)], ..Books::default() };
        books.stops[Stop::Plain as usize][0] = count(95);
        books.stops[Stop::Truncated as usize][0] = count(5);
        let mut stage = Stage { books, ..Stage::default() };
        let mut full = talk(2, None, 0, 40);
        full.key.other = true;
        stage.second(&[full]);
        assert_eq!(
            stage.open(),
            [
                (
                    Topic::Books,
                    Severity::Bad,
                    "the table of eth0 is full: 40 packets are counted by tunnel, not by row; try `--rows`"
                ),
                (
                    Topic::Books,
                    Severity::Note,
                    "5 packets on eth0 (recently 0.5 %) could not be counted into a row: truncated"
                )
            ]
        );
        stage.books = Books { counted: [count(900), count(0)], ..Books::default() };
        stage.seconds(12, &[talk(2, None, 0, 40)]);
        assert_eq!(stage.open(), []);
    }
}
