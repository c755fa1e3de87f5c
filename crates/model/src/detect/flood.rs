// SPDX-License-Identifier: MIT OR Apache-2.0
//! `flood`: broadcast, unknown unicast and multicast of an id far above its usual rate.
use std::{collections::BTreeMap, time::Duration};

use super::{Evidence, Severity, Sighting, Subject, Topic};

/// From this many packets a second on, hosts have to work for it.
const BAD: f64 = 500.0;
/// A burst ends before that.
const BURST: Duration = Duration::from_secs(8);
/// How long the finding stays open after it was last seen.
const STAYS: Duration = Duration::from_secs(5);

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let mut found: Vec<Sighting> = Vec::new();
    for (tunnel, flood) in &look.past.floods {
        if flood.above < BURST {
            continue;
        }
        let [rate, usual] = [flood.recent, flood.usual].map(|r| r.round() as u64);
        let from = flood.loudest.map_or_else(String::new, |(from, n)| {
            let share = u128::from(n) * 100 / u128::from(flood.now.max(1));
            format!("; {share} % come from {from}")
        });
        found.push(Sighting {
            topic: Topic::Flood,
            severity: if flood.recent >= BAD { Severity::Bad } else { Severity::Note },
            place: Subject { tunnel: Some(*tunnel), ..Subject::default() },
            since: look.interval.taken.checked_sub(flood.above),
            text: format!(
                "{rate} broadcast and multicast packets a second in {tunnel}, where {usual} are usual{from}"
            ),
            counts: BTreeMap::from([("flooded_pkts", flood.now)]),
            stays: STAYS,
        });
    }
    found.sort_unstable_by(|a, b| a.place.cmp(&b.place));
    found
}

#[cfg(test)]
mod tests {
    use super::{
        super::stage::{Stage, talk},
        Severity, Topic,
    };

    #[test]
    fn a_storm_is_found_within_ten_seconds() {
        let mut stage = Stage::default();
        stage.seconds(60, &[talk(2, None, 2, 1), talk(2, Some((1, 2)), 5000, 5000)]);
        assert_eq!(stage.open(), []);
        stage.seconds(10, &[talk(2, None, 2000, 0)]);
        let open = stage.open();
        assert_eq!(open.len(), 1, "{open:?}");
        assert_eq!((open[0].0, open[0].1), (Topic::Flood, Severity::Bad));
        let text = open[0].2;
        assert!(
            text.ends_with("in vxlan 7, where 3 are usual; 100 % come from 172.16.1.1"),
            "{text}"
        );
        stage.seconds(30, &[talk(2, None, 2, 1)]);
        assert_eq!(stage.open(), []);
    }

    #[test]
    fn bursts_and_steady_floods_are_not() {
        let mut stage = Stage::default();
        stage.seconds(30, &[talk(2, None, 1, 1)]);
        stage.seconds(3, &[talk(2, None, 400, 0)]); // everybody boots
        stage.seconds(60, &[talk(2, None, 5, 1)]);
        assert_eq!(stage.open(), []);
        for second in 0..200 {
            stage.second(&[talk(2, None, 5 + second * 2, 0)]); // it grows with the network
            assert_eq!(stage.open(), [], "second {second}");
        }
    }
}
