// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is drawn of an interval: who sent how much to whom in scope, by end, pair, tunnel and row.
use std::{
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashMapExt};

use crate::{
    drops::Drops,
    flow::{Books, Count, Tunnel},
    fragments::Fragmented,
    interface::Interface,
    lines::Lines,
    matrix::{End, Matrix, Measure, Scope, Tally},
    snapshot::Interval,
};

/// What is drawn: rebuilt whenever something it depends on changes.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The number of its interval, if it shows one.
    pub number: Option<u64>,
    /// When it begins.
    pub since: SystemTime,
    /// When it ends.
    pub taken: SystemTime,
    /// How long it is.
    pub elapsed: Duration,
    /// The interfaces; their books cover the interval or the time since counting began, as the
    /// numbers do.
    pub interfaces: Rc<Vec<Interface>>,
    /// The books of all interfaces together, each packet once.
    pub books: Books,
    /// In a fleet, the bytes that both ends counted, and all bytes.
    pub with_both_ends: [u64; 2],
    /// The rows in scope by pair and by tunnel.
    pub tally: Tally,
    /// The largest ends.
    pub matrix: Matrix,
    /// The tunnels in scope, largest first.
    pub tunnels: Vec<(Tunnel, Count)>,
    /// The rows themselves; only filled for the table.
    pub lines: Lines,
    /// Who in scope sends fragments; only filled for the health view.
    pub fragmented: Vec<Fragmented>,
    /// What the kernel dropped, regardless of scope; `None` if drops are not counted.
    pub drops: Option<Arc<Drops>>,
    /// The same in scope, by ends, the lower first.
    pub dropped: HashMap<(End, End), [Count; 2]>,
}

impl Default for Picture {
    fn default() -> Self {
        Picture {
            number: None,
            since: SystemTime::UNIX_EPOCH,
            taken: SystemTime::UNIX_EPOCH,
            elapsed: Duration::ZERO,
            interfaces: Rc::default(),
            books: Books::default(),
            with_both_ends: [0; 2],
            tally: Tally::default(),
            matrix: Matrix::default(),
            tunnels: Vec::new(),
            lines: Lines::default(),
            fragmented: Vec::new(),
            drops: None,
            dropped: HashMap::new(),
        }
    }
}

impl Picture {
    /// Makes it of the part of an interval in scope: the `top` largest ends, by a measure or by
    /// name.
    pub fn of(
        interval: &Interval,
        scope: &Scope,
        measure: Measure,
        top: usize,
        by_name: bool,
    ) -> Picture {
        let tally = Tally::of(interval, scope);
        let mut matrix = Matrix::new(&tally, measure, top);
        if by_name {
            let mut order: Vec<usize> = (0..matrix.len()).collect();
            order.sort_by_key(|&i| matrix.ends[i]);
            matrix = matrix.reordered(&order);
        }
        Picture {
            since: interval.since,
            taken: interval.taken,
            elapsed: interval.elapsed,
            books: interval.books(),
            with_both_ends: interval.once().bytes_with_both(&interval.rows),
            interfaces: Rc::new(interval.interfaces.clone()),
            tunnels: tally.tunnels_by_size(measure),
            tally,
            matrix,
            drops: interval.drops.clone(),
            dropped: scope.dropped(interval),
            ..Picture::default()
        }
    }

    /// What an end sent and received, even if it is not among the largest.
    pub fn sums(&self, end: End) -> (Count, Count) {
        if let Some(i) = self.matrix.index(end) {
            return (self.matrix.sent(i), self.matrix.received(i));
        }
        let mut sums = (Count::default(), Count::default());
        for ((a, b), [fwd, rev]) in &self.tally.pairs {
            if *a == end {
                sums.0 += *fwd;
                sums.1 += *rev;
            }
            if *b == end {
                sums.0 += *rev;
                sums.1 += *fwd;
            }
        }
        sums
    }

    /// What the kernel dropped of the traffic from one end to another.
    pub fn dropped(&self, from: End, to: End) -> Count {
        let pair = (from.min(to), from.max(to));
        self.dropped.get(&pair).map_or_else(Count::default, |both| both[usize::from(from > to)])
    }

    /// What one end sent to another, even if they are not among the largest.
    pub fn sent(&self, from: End, to: End) -> Count {
        match (self.matrix.index(from), self.matrix.index(to)) {
            (Some(i), Some(j)) => self.matrix.get(i, j),
            _ => self.tally.sent(from, to),
        }
    }
}
