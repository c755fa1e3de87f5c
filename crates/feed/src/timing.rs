// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round-trip times in selected rows of captures.
use anyhow::Result;
use contract::key6;
use model::{
    beside::Gathered,
    filter::Filter,
    flow::{Counters, Flow},
    rows,
    rtt::{RoundTrips, Timed, Times},
};
use native::{
    Answer, Frames, Guide, NativeConfig, RTT_LEAST, RTT_PARTS_BITS, RTT_ROWS, RttLost, RttRow,
    RttTables, Rtts,
};

/// The programs that measure round-trip times, and their results.
pub(crate) struct Timing {
    filter: Filter,
    config: NativeConfig,
    /// One for each interface.
    guides: Vec<Guide>,
    tables: RttTables,
}

impl Timing {
    pub(crate) fn new(filter: Filter, config: NativeConfig) -> Timing {
        Timing { filter, config, guides: Vec::new(), tables: RttTables::default() }
    }

    /// Measures frames of an interface, in order of time.
    pub(crate) fn look(&mut self, interface: usize, name: &str, frames: Frames<'_>) -> Result<()> {
        while self.guides.len() <= interface {
            self.guides.push(Guide::new(&self.config)?);
        }
        let (guide, filter) = (&mut self.guides[interface], &self.filter);
        let mut decide = |key: &key6| {
            let flow =
                Flow { interface: 0, key: rows::decoded(key), counters: Counters::default() };
            filter.matches(&flow, name).into()
        };
        for frame in frames.iter() {
            if let Answer::Row(1) = guide.choose(&frame, &mut decide) {
                guide.time(&frame, interface as u16, &mut self.tables);
            }
        }
        Ok(())
    }

    /// Adds the results so far to `all`.
    pub(crate) fn tell(&self, all: &mut Gathered) {
        for (interface, key, ways) in self.tables.rows() {
            let trips = [&ways[0], &ways[1]].map(trips);
            if trips.iter().any(|t| !t.is_empty()) {
                all.round_trips.insert((interface.into(), rows::decoded(&key)), trips);
            }
        }
        let lost = self.tables.lost();
        all.untimed += lost.unread + lost.no_row;
        all.untracked += lost.displaced;
    }
}

/// A row as the programs measure it: a slot of their table.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct TimedSlot(RttRow);

impl TimedSlot {
    /// The number of slots.
    pub const MOST: u32 = RTT_ROWS as u32;

    /// Whether the slot holds a row.
    pub fn is_used(&self) -> bool {
        self.0.tag != 0
    }

    /// Adds the results to `all`, as those of the interface with this number.
    pub fn tell(&self, interface: u64, all: &mut Timed) {
        let trips = [&self.0.way[0], &self.0.way[1]].map(trips);
        if trips.iter().any(|t| !t.is_empty()) {
            all.rows.insert((interface, rows::decoded(&self.0.key)), trips);
        }
    }
}

/// Packets and connections that the programs could not measure.
#[derive(Clone, Copy, Default)]
#[repr(transparent)]
pub struct TimedNot(RttLost);

impl TimedNot {
    /// Adds them to `all`.
    pub fn tell(&self, all: &mut Timed) {
        all.untimed += self.0.unread + self.0.no_row;
        all.untracked += self.0.displaced;
    }
}

fn trips(n: &Rtts) -> RoundTrips {
    RoundTrips {
        samples: n.samples,
        nanoseconds: n.nanoseconds,
        least: n.least,
        most: n.most,
        retransmitted: n.retransmitted,
        out_of_order: n.out_of_order,
        duplicate_acks: n.duplicate_acks,
        zero_windows: n.zero_windows,
        stuck: n.stuck,
        too_big: (n.too_big > 0).then_some(n.too_big),
        passed: (n.passed > 0).then_some(n.passed),
        times: Times { buckets: n.bucket.into(), least: RTT_LEAST, parts_bits: RTT_PARTS_BITS },
    }
}
