// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows whose counts grow in place, for the sums of what many hosts report.
//!
//! They are stored as in a reading, so that taking a reading copies memory, which is shared as long
//! as nothing is added. Rows keep their places and none is removed: two readings are compared by
//! walking both once.
use std::{hash::BuildHasher, sync::Arc};

use contract::{ROW_DIR, key4, key6};
use foldhash::fast::RandomState;
use hashbrown::HashTable;

use crate::{
    flow::Key,
    rows::{Counts, Kept, Part, Row, Rows, SlotKey, encoded, narrow},
};

/// The key of a row, or of a part of one, as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    V4(key4),
    V6(key6),
}

impl Slot {
    /// Encodes a key.
    pub(crate) fn new(key: &Key, part: Part) -> Slot {
        Slot::narrowed(encoded(key, part))
    }

    /// The key of a row that was read.
    pub(crate) fn of(row: &Row<'_>) -> Slot {
        match row.kept_key() {
            Ok(key) => Slot::V4(key.of_all_cpus()),
            Err(key) => Slot::narrowed(key.of_all_cpus()),
        }
    }

    fn narrowed(key: key6) -> Slot {
        narrow(&key).map_or(Slot::V6(key), Slot::V4)
    }

    /// The same part of another row.
    pub(crate) fn with(self, other: impl Fn(Key) -> Key) -> Slot {
        let (key, part) = match self {
            Slot::V4(key) => (key.key(), key.part()),
            Slot::V6(key) => (key.key(), key.part()),
        };
        Slot::new(&other(key), part)
    }

    /// The part of the same row for the other direction.
    #[must_use]
    pub(crate) fn reverse(self) -> Slot {
        match self {
            Slot::V4(key) => Slot::V4(key4 { flags: key.flags ^ ROW_DIR, ..key }),
            Slot::V6(key) => Slot::V6(key6 { flags: key.flags ^ ROW_DIR, ..key }),
        }
    }
}

/// Rows of one table, and the place of each key.
#[derive(Debug)]
struct Pages<K> {
    rows: Arc<Vec<Kept<K>>>,
    places: HashTable<u32>,
    hasher: RandomState,
    /// The place of the last key: a host mostly reports its rows in the same order.
    last: usize,
}

impl<K> Default for Pages<K> {
    fn default() -> Self {
        let (places, hasher) = (HashTable::new(), RandomState::default());
        Pages { rows: Arc::default(), places, hasher, last: 0 }
    }
}

impl<K: SlotKey> Pages<K> {
    fn find(&mut self, key: &K) -> Option<usize> {
        let is_there = |at: &usize| self.rows.get(*at).is_some_and(|row| row.key == *key);
        let near = [self.last + 1, self.last].into_iter().find(is_there);
        let at = near.or_else(|| {
            let is_it = |at: &u32| self.rows.get(*at as usize).is_some_and(|row| row.key == *key);
            self.places.find(self.hasher.hash_one(key), is_it).map(|at| *at as usize)
        });
        self.last = at.unwrap_or(self.last);
        at
    }

    fn add(&mut self, key: &K, counts: Counts) -> bool {
        let Some(at) = self.find(key) else { return false };
        let Some(row) = Arc::make_mut(&mut self.rows).get_mut(at) else { return false };
        row.counts.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        true
    }

    fn insert(&mut self, key: K, interface: u16, counts: Counts) {
        let rows = Arc::make_mut(&mut self.rows);
        let place = rows.len() as u32;
        rows.push(Kept { key, place, interface, egress_only: false, counts });
        let hash =
            |at: &u32| self.hasher.hash_one(rows.get(*at as usize).map_or(&key, |row| &row.key));
        self.places.insert_unique(self.hasher.hash_one(key), place, hash);
        self.last = place as usize;
    }
}

/// Rows whose counts grow in place.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    v4: Pages<key4>,
    v6: Pages<key6>,
}

impl Ledger {
    /// How many rows and parts of rows there are.
    pub(crate) fn len(&self) -> usize {
        self.v4.rows.len() + self.v6.rows.len()
    }

    /// Adds to a row. Returns false if there is no such row.
    pub(crate) fn add(&mut self, slot: &Slot, counts: Counts) -> bool {
        match slot {
            Slot::V4(key) => self.v4.add(key, counts),
            Slot::V6(key) => self.v6.add(key, counts),
        }
    }

    /// The interface of a row.
    pub(crate) fn interface(&mut self, slot: &Slot) -> Option<u16> {
        match slot {
            Slot::V4(key) => self.v4.find(key).map(|at| self.v4.rows[at].interface),
            Slot::V6(key) => self.v6.find(key).map(|at| self.v6.rows[at].interface),
        }
    }

    /// Appends a new row.
    pub(crate) fn insert(&mut self, slot: Slot, interface: u16, counts: Counts) {
        match slot {
            Slot::V4(key) => self.v4.insert(key, interface, counts),
            Slot::V6(key) => self.v6.insert(key, interface, counts),
        }
    }

    /// All rows.
    pub(crate) fn rows(&self) -> Rows {
        Rows::of(&self.v4.rows, &self.v6.rows)
    }
}
