// SPDX-License-Identifier: MIT OR Apache-2.0
//! Running sums for a bounded number of keys, for consumers that remember a series for as long as
//! it exists (OpenMetrics): a key with a place keeps it, and keys without one are summed together.
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A bounded number of keys with a sum each. A key keeps its place until it has been idle for `age`
/// and another key needs it; a sum never decreases and never takes over another key's sum.
#[derive(Clone, Debug)]
pub(crate) struct Sticky<K, V> {
    most: usize,
    /// Zero means forever.
    age: Duration,
    known: BTreeMap<K, (V, Duration)>,
}

impl<K: Ord + Clone, V: Default> Sticky<K, V> {
    pub(crate) fn new(most: usize, age: Duration) -> Sticky<K, V> {
        Sticky { most, age, known: BTreeMap::new() }
    }

    /// Makes room for the keys of one interval, in their order: those that have a place are marked
    /// busy before any key loses its place.
    pub(crate) fn seat(&mut self, keys: impl IntoIterator<Item = K>, now: Duration) {
        let mut new = Vec::new();
        let mut asked = BTreeSet::new();
        for key in keys {
            match self.known.get_mut(&key) {
                Some((_, last)) => *last = now,
                None if asked.insert(key.clone()) => new.push(key),
                None => {}
            }
        }
        let mut idle: Vec<(Duration, K)> = Vec::new();
        if self.known.len() + new.len() > self.most && !self.age.is_zero() {
            let long = |last: Duration| now.saturating_sub(last) >= self.age;
            idle = self.known.iter().filter(|(_, (_, last))| long(*last)).map(of).collect();
            idle.sort_unstable_by(|a, b| b.cmp(a)); // the longest idle last
        }
        for key in new {
            if self.known.len() >= self.most {
                let Some((_, leaves)) = idle.pop() else { return };
                self.known.remove(&leaves);
            }
            self.known.insert(key, (V::default(), now));
        }
    }

    /// The sum of a key, if it has a place.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.known.get_mut(key).map(|(sum, _)| sum)
    }

    pub(crate) fn has(&self, key: &K) -> bool {
        self.known.contains_key(key)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.known.iter().map(|(key, (sum, _))| (key, sum))
    }
}

fn of<K: Clone, V>((key, (_, last)): (&K, &(V, Duration))) -> (Duration, K) {
    (*last, key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(s: &Sticky<u32, u64>) -> Vec<u32> {
        s.iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn a_place_is_kept_until_it_is_idle_and_needed() {
        let second = Duration::from_secs(1);
        let mut s: Sticky<u32, u64> = Sticky::new(2, 10 * second);
        s.seat([1, 2, 3, 3], Duration::ZERO);
        assert_eq!(keys(&s), [1, 2], "the first come first");
        s.seat([2, 3], 9 * second);
        assert_eq!(keys(&s), [1, 2], "1 is not idle for long enough");
        s.seat([], 60 * second);
        assert_eq!(keys(&s), [1, 2], "no other key needs its place");
        // All have been idle for long, but 1 is busy again in this very interval.
        s.seat([4, 5, 1], 60 * second);
        assert_eq!(keys(&s), [1, 4]);
    }

    #[test]
    fn without_an_age_a_place_is_kept_forever() {
        let mut s: Sticky<u32, u64> = Sticky::new(1, Duration::ZERO);
        s.seat([1], Duration::ZERO);
        s.seat([2], Duration::from_secs(1 << 40));
        assert_eq!(keys(&s), [1]);
    }
}
