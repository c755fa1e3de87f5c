// SPDX-License-Identifier: MIT OR Apache-2.0
//! Intervals reduced to sums, for when inner addresses must stay on their host or there are too
//! many rows.
use std::sync::Arc;

use model::{
    beside::{Beside, Gathered},
    drops::{Drops, Victim},
    flow::Flow,
    history,
    rows::Rows,
    snapshot::Interval,
};

/// How many tunnels have rows of their own; smaller ones share a row of their interface.
const TUNNELS: usize = 1024;
/// The number of rows from which small ones are added up by tunnel.
const ROWS: usize = 20_000;

/// The interval without inner addresses: a row for each tunnel between two hosts. Rows that count
/// elsewhere are left out. Of the data beside rows, it keeps what concerns tunnels.
pub fn sums(interval: &Interval) -> Interval {
    let once = interval.once();
    let flows: Vec<Flow> =
        interval.rows.walk().filter(|r| once.counts(r)).map(|r| r.flow()).collect();
    let mut rows = Rows::default();
    let sums = history::summed(&flows, TUNNELS);
    sums.iter().zip(0..).for_each(|(flow, place)| rows.push_flow(place, flow));
    let read = interval.beside.read();
    let of_tunnels = Gathered {
        numbers: read.numbers.clone(),
        unnumbered: read.unnumbered,
        now: read.now,
        ..Gathered::default()
    };
    let drops = interval.drops.as_deref().map(|d| {
        let outer = d.rows.iter().map(|(key, dropped)| {
            let mut key = key.clone();
            if let Victim::Tunnel(of) = &mut key.victim {
                *of = of.aged();
            }
            (key, *dropped)
        });
        let mut sums = Drops::new(outer);
        (sums.unavailable, sums.devices) = (d.unavailable.clone(), d.devices.clone());
        (sums.elsewhere, sums.missed) = (d.elsewhere, d.missed);
        Arc::new(sums)
    });
    let mut sums = interval.reduced(rows);
    (sums.drops, sums.beside) = (drops, Arc::new(Beside::new(of_tunnels)));
    sums.overlay = None;
    sums
}

/// The interval with as many rows as a message can hold, at most.
pub fn bounded(interval: Interval) -> Interval {
    within(interval, ROWS)
}

/// The interval with at most this many rows.
pub(super) fn within(interval: Interval, most: usize) -> Interval {
    if interval.rows.len() <= most {
        return interval;
    }
    let rows = history::reduce(&interval.rows, most, TUNNELS);
    interval.reduced(rows)
}
