// SPDX-License-Identifier: MIT OR Apache-2.0
//! `fragments`: who sends a tunnel's packets in fragments, and what share of them.
use std::{collections::BTreeMap, time::Duration};

use super::{Evidence, Severity, Sighting, Subject, Topic};
use crate::{
    fragments::fragmented,
    matrix::{End, Scope},
    units::percent,
};

/// Fewer are not worth reporting.
const LEAST: u64 = 10;
/// How long the finding stays open after the last fragment.
const STAYS: Duration = Duration::from_secs(30);

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let list = fragmented(look.interval, &Scope::default());
    let sighting = |f: crate::fragments::Fragmented| {
        let (End::Addr(from), End::Addr(to)) = (f.from, f.to) else { return None };
        let share = percent(f.fragments.packets, f.all.packets);
        let text = format!(
            "{from} sends {} to {to} in fragments ({{}}, recently {share}): the underlay's MTU leaves no room for the tunnel",
            f.tunnel
        );
        (f.fragments.packets >= LEAST).then(|| Sighting {
            topic: Topic::Fragments,
            severity: Severity::Note,
            place: Subject {
                tunnel: Some(f.tunnel),
                outer_from: Some(from),
                outer_to: Some(to),
                ..Subject::default()
            },
            since: None,
            text,
            counts: BTreeMap::from([("fragments_pkts", f.fragments.packets)]),
            stays: STAYS,
        })
    };
    list.into_iter().filter_map(sighting).collect()
}
