// SPDX-License-Identifier: MIT OR Apache-2.0
//! The books' counters as the BPF programs keep them, and their meaning.
use contract::{
    CELL_COUNTED, CELL_FRAGMENT, CELL_OVERFLOW, CELL_STOP, CELL_SUSPECT, STOPS, cell_count,
};

use crate::{
    flow::{Books, Count, Inner, InnerProto, Key, Kind, Tunnel},
    rows::{Part, Rows},
};

const CELLS: usize = contract::CELLS as usize;

/// The books' counters at one instant, summed over all CPUs.
#[derive(Clone, Copy, Debug)]
pub struct Cells([cell_count; 2 * CELLS]);

impl Default for Cells {
    fn default() -> Self {
        Cells([cell_count::default(); 2 * CELLS])
    }
}

fn count(c: &cell_count) -> Count {
    Count { packets: c.packets, bytes: c.bytes }
}

impl Cells {
    /// The cells of both hooks, one after the other.
    pub fn new(cells: [cell_count; 2 * CELLS]) -> Cells {
        Cells(cells)
    }

    /// Appends the overflow row, in at most four parts.
    pub fn overflow(&self, place: u32, interface: u16, rows: &mut Rows) {
        for (part, n) in (0..4).zip(place..) {
            let swapped = part & 1 != 0;
            let what = Part { swapped, fragments: part & 2 != 0 };
            let counts = [0, 1].map(|hook| {
                // Cells are by direction; a slot's direction is reversed on egress.
                let cell = CELL_OVERFLOW as usize + (part ^ hook);
                count(&self.0[hook * CELLS + cell])
            });
            if counts.iter().any(|n| !n.is_zero()) {
                let key = Key {
                    outer: None,
                    outermost: Tunnel { kind: Kind::None, id: None },
                    innermost: None,
                    depth: 0,
                    inner: Inner::Proto(InnerProto::OVERFLOW),
                    other: true,
                };
                rows.push(n, interface, &key, counts, what);
            }
        }
    }

    /// Decodes them.
    pub fn books(&self) -> Books {
        let both =
            |cell: contract::cell| [0, CELLS].map(|hook| count(&self.0[hook + cell as usize]));
        let mut b = Books {
            counted: both(CELL_COUNTED),
            suspect: both(CELL_SUSPECT),
            fragments: both(CELL_FRAGMENT),
            ..Default::default()
        };
        for (cell, stop) in (CELL_STOP..).zip(&mut b.stops[..STOPS as usize]) {
            *stop = both(cell);
        }
        b
    }
}
