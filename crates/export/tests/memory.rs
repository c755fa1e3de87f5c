// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a reading of very many rows costs in memory while it is written: it is not decoded as a
//! whole. A program of its own, for the allocator belongs to all of it.
#![allow(unsafe_code)]
use std::{
    alloc::{GlobalAlloc, Layout, System},
    io,
    net::IpAddr,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, SystemTime},
};

use export::{Excerpt, Format, Writer, table::TableOptions};
use model::{
    filter::Filter,
    flow::{Count, Inner, Key, Kind, Pair, Tunnel},
    interface::{Interface, Origin},
    rows::{Part, Rows},
    snapshot::Snapshot,
};

struct Counting;

static NOW: AtomicUsize = AtomicUsize::new(0);
static PEAK: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is left to the system's allocator.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let now = NOW.fetch_add(layout.size(), Ordering::Relaxed) + layout.size();
        PEAK.fetch_max(now, Ordering::Relaxed);
        // SAFETY: the caller's layout.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        NOW.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: allocated above with this layout.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const ROWS: u32 = 40_000;

/// Totals of very many rows, of either table, in an order that is not theirs.
fn reading() -> Snapshot {
    let mut rows = Rows::default();
    for place in 0..ROWS {
        let n = place.wrapping_mul(0x9e37_79b1);
        let v4 = |n: u32| IpAddr::from(n.to_be_bytes());
        let pair = |net: u32, n: u32| Pair { first: v4(net), second: v4(net | n) };
        let key = Key {
            outer: Some(pair(0xac10_0000, 1 + n % 1000)),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(n >> 24) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(pair(0x0a00_0000, 1 + place)),
            other: false,
        };
        let counts = [Count { packets: 3, bytes: 300 }, Count { packets: 1, bytes: 100 }];
        rows.push(place, 0, &key, counts, Part { swapped: false, fragments: false });
    }
    let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(60);
    Snapshot {
        origin: Origin::default(),
        since: SystemTime::UNIX_EPOCH,
        taken,
        at: Duration::from_secs(60),
        interfaces: vec![Interface::new(0, "eth0")],
        rows,
        drops: None,
        beside: std::sync::Arc::default(),
    }
}

/// What runs meanwhile has at most this many bytes at a time, beyond what there was before.
fn peak<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let before = NOW.load(Ordering::Relaxed);
    PEAK.store(before, Ordering::Relaxed);
    let result = run();
    (result, PEAK.load(Ordering::Relaxed).saturating_sub(before))
}

#[test]
fn totals_of_very_many_rows_are_written_in_eight_bytes_a_row() {
    let snapshot = reading();
    let lines = |format, filter: &str| {
        let interval = snapshot.clone();
        let filter = Filter::parse(filter).expect("a filter");
        struct Lines(u64);
        impl io::Write for Lines {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.0 += bytes.iter().filter(|b| **b == b'\n').count() as u64;
                Ok(bytes.len())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (lines, most) = peak(|| {
            let interval = interval.into_total();
            let mut out = Lines(0);
            let excerpt = Excerpt::new("tmon", &interval, &filter);
            Writer::new(&mut out, format, TableOptions::default()).write(&excerpt).expect("write");
            out.0
        });
        let each = most / ROWS as usize;
        assert!(each <= 8, "{each} bytes a row at {format:?}");
        lines
    };
    assert_eq!(lines(Format::Json, ""), 1);
    assert_eq!(lines(Format::JsonFlows, ""), u64::from(ROWS));
    assert_eq!(lines(Format::Csv, ""), 1 + u64::from(ROWS));
    let of_seven = (0..ROWS).filter(|n| n.wrapping_mul(0x9e37_79b1) >> 24 == 7).count() as u64;
    assert_eq!(lines(Format::JsonFlows, "vni:7"), of_seven);
}
