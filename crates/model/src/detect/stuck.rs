// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mtu`, by retransmissions: where round-trip times are measured, the same bytes are sent three times
//! and more in vain, while smaller packets that were sent after them in the same connection arrive, and
//! none as large arrives in any connection of the row.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use super::{Evidence, Severity, Sighting, Subject, Topic};

/// How long the finding stays open after the last retransmission: TCP's pauses between them grow up to
/// two minutes.
const STAYS: Duration = Duration::from_secs(125);

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    for ((interface, key), ways) in look.interval.beside.resent() {
        let (Some(outer), Some(inner)) = (key.outer, key.inner.pair()) else { continue };
        let ends = [
            (outer.first, outer.second, inner.first, inner.second),
            (outer.second, outer.first, inner.second, inner.first),
        ];
        for (n, (from, to, inner_from, inner_to)) in ways.iter().zip(ends) {
            let (Some(too_big), Some(passed)) = (n.too_big, n.passed) else { continue };
            if n.stuck == 0 || key.depth == 0 {
                continue;
            }
            let is_of_fleet = look.interval.once().is_of_fleet();
            let place = Subject {
                interface: look
                    .interval
                    .name_of(*interface)
                    .filter(|_| !is_of_fleet)
                    .map(str::to_owned),
                tunnel: Some(key.outermost),
                outer_from: Some(from),
                outer_to: Some(to),
                inner_from: Some(inner_from),
                inner_to: Some(inner_to),
                reason: Some("retransmitted".to_owned()),
            };
            if !seen.insert(place.clone()) {
                continue; // seen on another hook or host
            }
            all.push(Sighting {
                topic: Topic::Mtu,
                severity: Severity::Bad,
                place,
                since: None,
                text: format!(
                    "{inner_from} retransmits to {inner_to} in {} from {from} to {to} what does not \
                     arrive ({{}}): TCP segments of {too_big} bytes and more are sent again and again, \
                     while smaller ones of the same connection, up to {passed} bytes, arrive",
                    key.outermost
                ),
                counts: BTreeMap::from([
                    ("retransmitted_pkts", n.retransmitted),
                    ("stuck_bytes_in_all", too_big.into()),
                    ("passed_bytes_in_all", passed.into()),
                ]),
                stays: STAYS,
            });
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::super::{
        Severity, Topic,
        stage::{Stage, talk},
    };
    use crate::{
        beside::{Beside, Gathered},
        rtt::{RoundTrips, Timed},
    };

    /// What was measured of the first end of a row until now.
    fn measured(retransmitted: u64, stuck: u64, sizes: [u32; 2]) -> Beside {
        let [too_big, passed] = sizes.map(|size| (size > 0).then_some(size));
        let sent = RoundTrips { retransmitted, stuck, too_big, passed, ..RoundTrips::default() };
        let rows = [((0, talk(2, Some((1, 9)), 1, 1).key), [sent, RoundTrips::default()])].into();
        Beside::new(Gathered::default()).timed(Timed { rows, ..Timed::default() })
    }

    #[test]
    fn large_segments_that_never_arrive_are_found() {
        let flow = talk(2, Some((1, 9)), 5, 5);
        let none = Beside::default();
        let mut stage = Stage::default();
        let first = measured(2, 0, [0, 0]);
        stage.beside = first.since(&none);
        stage.second(&[flow]);
        assert_eq!(stage.open(), [], "perhaps nothing arrives");
        let second = measured(3, 1, [1398, 536]);
        stage.beside = second.since(&first);
        stage.second(&[flow]);
        let text = "192.168.0.1 retransmits to 192.168.0.9 in vxlan 7 from 172.16.1.1 to 172.16.1.2 \
                    what does not arrive (1 packet): TCP segments of 1398 bytes and more are sent again \
                    and again, while smaller ones of the same connection, up to 536 bytes, arrive";
        assert_eq!(stage.open(), [(Topic::Mtu, Severity::Bad, text)]);
        // Nothing is retransmitted any more.
        stage.beside = second.since(&second);
        assert!(stage.beside.is_empty());
        stage.seconds(126, &[flow]);
        assert_eq!(stage.open(), []);
    }

    #[test]
    fn plain_loss_is_not_an_mtu_problem() {
        let flow = talk(2, Some((1, 9)), 5, 5);
        // Nothing is stuck; or something was, and as much has arrived since.
        for (retransmitted, stuck, sizes) in [(9, 0, [0, 0]), (9, 3, [0, 0]), (9, 0, [1398, 536])] {
            let beside = measured(retransmitted, stuck, sizes).since(&Beside::default());
            let mut stage = Stage { beside, ..Stage::default() };
            stage.seconds(5, &[flow]);
            assert_eq!(stage.open(), [], "{stuck} {sizes:?}");
        }
    }
}
