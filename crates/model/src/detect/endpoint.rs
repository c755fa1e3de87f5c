// SPDX-License-Identifier: MIT OR Apache-2.0
//! `wrong_vtep`: packets for an inner address go to one endpoint while it answers from another.
//!
//! Both have to be seen at the same time: an address that has moved and is silent does not count,
//! and packets flooded to all endpoints also reach the right one.
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{
    Evidence, Severity, Sighting, Subject, Topic, packets,
    past::{Course, Moment, Party, is_for_many, is_segment},
};
use crate::flow::{Inner, Pair};

/// Packets of both directions have to be this recent.
const RECENT: Duration = Duration::from_secs(10);
/// The least number of unanswered packets to the wrong endpoint.
const LEAST: u64 = 3;
/// How long the finding stays open after it was last seen.
const STAYS: Duration = Duration::from_secs(15);

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let recent = |m: Moment| look.past.ago(m) < RECENT;
    let mut found = Vec::new();
    for (party, talk) in &look.past.talks {
        let Some(Inner::Pair(inner)) = party.inner else { continue };
        if !is_segment(party.tunnel) || is_for_many(party.outer.second) {
            continue;
        }
        for (way, (from, to), (sender, receiver)) in [
            (0, (party.outer.first, party.outer.second), (inner.first, inner.second)),
            (1, (party.outer.second, party.outer.first), (inner.second, inner.first)),
        ] {
            let [goes, comes] = [talk.ways[way], talk.ways[1 - way]];
            let lost = goes.unanswered >= LEAST && goes.last.is_some_and(recent);
            if !lost || comes.last.is_some() || is_for_many(receiver) {
                continue;
            }
            let Some(home) = look.past.homes.get(&(party.tunnel, receiver)) else { continue };
            let single = home.endpoints.len() == 1 && home.endpoint != to;
            if !single
                || !recent(home.last)
                || is_sent_there(look, party, from, home.endpoint, [sender, receiver])
            {
                continue;
            }
            found.push(sighting(look, party, (from, to), (sender, receiver), home.endpoint, goes));
        }
    }
    found.sort_unstable_by(|a, b| a.place.cmp(&b.place));
    found
}

/// Whether the same packets also go to the right endpoint, which means that they are flooded.
fn is_sent_there(
    look: &Evidence<'_>,
    party: &Party,
    from: IpAddr,
    right: IpAddr,
    inner: [IpAddr; 2],
) -> bool {
    let (way, outer, inner) = if from < right {
        (0, Pair { first: from, second: right }, Pair { first: inner[0], second: inner[1] })
    } else {
        (1, Pair { first: right, second: from }, Pair { first: inner[1], second: inner[0] })
    };
    let there = Party { outer, inner: Some(Inner::Pair(inner)), ..*party };
    let last = look.past.talks.get(&there).and_then(|talk| talk.ways[way].last);
    last.is_some_and(|m| look.past.ago(m) < RECENT)
}

fn sighting(
    look: &Evidence<'_>,
    party: &Party,
    (from, to): (IpAddr, IpAddr),
    (sender, receiver): (IpAddr, IpAddr),
    right: IpAddr,
    goes: Course,
) -> Sighting {
    let entry = look.overlay.and_then(|o| o.entries_of(receiver).iter().find(|e| e.endpoint == to));
    let why = entry.map_or(String::new(), |e| {
        let fixed = if e.fixed { "a fixed" } else { "the" };
        format!("; {fixed} forwarding entry of {} says so", e.device)
    });
    Sighting {
        topic: Topic::WrongVtep,
        severity: Severity::Bad,
        place: Subject {
            interface: look.interface(goes.interface),
            tunnel: Some(party.tunnel),
            outer_from: Some(from),
            outer_to: Some(to),
            inner_from: Some(sender),
            inner_to: Some(receiver),
            reason: None,
        },
        since: None,
        text: format!(
            "{} for {receiver} went by {} to {to}, and it is behind {right}{why}",
            packets(goes.unanswered),
            party.tunnel
        ),
        counts: BTreeMap::from([("unanswered_pkts_in_all", goes.unanswered)]),
        stays: STAYS,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::stage::{Stage, leads, talk},
        Severity, Topic,
    };

    #[test]
    fn packets_to_the_wrong_endpoint_are_found() {
        let overlay = leads(9, 5);
        let mut stage = Stage { overlay: Some(overlay), ..Stage::default() };
        stage.seconds(3, &[talk(5, Some((1, 9)), 1, 0), talk(3, Some((2, 9)), 0, 1)]);
        assert_eq!(
            stage.open(),
            [(
                Topic::WrongVtep,
                Severity::Bad,
                "3 packets for 192.168.0.9 went by vxlan 7 to 172.16.1.5, and it is behind 172.16.1.3; a fixed forwarding entry of vxlan0 says so"
            )]
        );
    }

    #[test]
    fn flooding_moves_and_quiet_receivers_are_not() {
        let mut stage = Stage::default();
        // Flooded to every endpoint, before the right one is known.
        let flooded = [talk(5, Some((1, 9)), 1, 0), talk(3, Some((1, 9)), 1, 1)];
        stage.seconds(20, &flooded);
        assert_eq!(stage.open(), []);
        // It moves, and answers from its new place.
        let mut stage = Stage::default();
        stage.seconds(20, &[talk(3, Some((1, 9)), 1, 1)]);
        stage.seconds(20, &[talk(5, Some((1, 9)), 1, 1)]);
        assert!(stage.open().iter().all(|f| f.0 == Topic::Moved), "{:?}", stage.open());
        // It spoke from elsewhere long ago, and is silent now.
        let mut stage = Stage::default();
        stage.seconds(2, &[talk(3, Some((2, 9)), 0, 1)]);
        stage.seconds(10, &[]);
        stage.seconds(20, &[talk(5, Some((1, 9)), 1, 0)]);
        assert_eq!(stage.open(), []);
    }
}
