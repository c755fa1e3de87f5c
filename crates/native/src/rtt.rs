// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round-trip times, as measured by bpf/rtt.h.
use std::{ffi::c_void, ptr};

use contract::key6;

/// The number of buckets of times: each power of two of nanoseconds from `2^RTT_LEAST` on has
/// `2^RTT_PARTS_BITS` of them. Shorter times are in the first, longer ones in the last.
pub const RTT_BUCKETS: usize = 224;
/// See [`RTT_BUCKETS`].
pub const RTT_LEAST: u32 = 10;
/// See [`RTT_BUCKETS`].
pub const RTT_PARTS_BITS: u32 = 3;

/// The maximum number of rows.
pub const RTT_ROWS: usize = 1024;

// rtt.h
/// The measurements of one direction of a row.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rtts {
    /// Segments and echo requests whose answer was timed.
    pub samples: u64,
    /// The sum of these times.
    pub nanoseconds: u64,
    /// The shortest time.
    pub least: u64,
    /// The longest time.
    pub most: u64,
    /// Retransmitted segments.
    pub retransmitted: u64,
    /// Segments that arrived out of order.
    pub out_of_order: u64,
    /// Duplicate acknowledgements.
    pub duplicate_acks: u64,
    /// Segments that advertise a zero window.
    pub zero_windows: u64,
    /// Retransmissions of bytes that never arrive, while smaller segments sent after them do.
    pub stuck: u64,
    /// When the last one was.
    pub stuck_at: u64,
    /// The minute in which something was last acknowledged.
    pub minute: u64,
    /// Of these bytes, the smallest payload in one packet; 0 if there are none.
    pub too_big: u32,
    /// The largest payload of those that arrived; 0 if there are none.
    pub passed: u32,
    /// The largest payload that was acknowledged in that minute, and in the one before.
    pub arrived: [u32; 2],
    /// The number of times per bucket.
    pub bucket: [u32; RTT_BUCKETS],
}

impl Default for Rtts {
    fn default() -> Rtts {
        Rtts {
            samples: 0,
            nanoseconds: 0,
            least: 0,
            most: 0,
            retransmitted: 0,
            out_of_order: 0,
            duplicate_acks: 0,
            zero_windows: 0,
            stuck: 0,
            stuck_at: 0,
            minute: 0,
            too_big: 0,
            passed: 0,
            arrived: [0; 2],
            bucket: [0; RTT_BUCKETS],
        }
    }
}

/// The measurements of one row.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub struct RttRow {
    lock: u32,
    /// Zero if the slot is free.
    pub tag: u32,
    /// The row's key.
    pub key: key6,
    /// For what its first and its second end sent.
    pub way: [Rtts; 2],
}

/// What could not be measured.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RttLost {
    /// Packets with truncated headers.
    pub unread: u64,
    /// Connections that were evicted for others.
    pub displaced: u64,
    /// Packets of rows for which there was no room.
    pub no_row: u64,
}

unsafe extern "C" {
    static tmon_native_rtt: [u64; 7];
}

/// The connections that are followed, and the measurements of rows.
pub struct RttTables {
    flows: Box<[u64]>,
    rows: Box<[RttRow]>,
    lost: Box<RttLost>,
}

impl Default for RttTables {
    fn default() -> RttTables {
        // SAFETY: constants.
        let [flows, row, rows, rtts, buckets, least, parts] = unsafe { tmon_native_rtt };
        let own = [size_of::<RttRow>(), RTT_ROWS, size_of::<Rtts>(), RTT_BUCKETS].map(|n| n as u64);
        assert_eq!([row, rows, rtts, buckets], own);
        assert_eq!([least, parts], [RTT_LEAST, RTT_PARTS_BITS].map(u64::from));
        RttTables {
            flows: vec![0; (flows as usize).div_ceil(8)].into_boxed_slice(),
            rows: vec![RttRow::default(); RTT_ROWS].into_boxed_slice(),
            lost: Box::default(),
        }
    }
}

impl RttTables {
    /// Pointers to the tables.
    pub(crate) fn pointers(&mut self) -> (*mut c_void, *mut c_void, *mut c_void) {
        (
            self.flows.as_mut_ptr().cast(),
            self.rows.as_mut_ptr().cast(),
            ptr::from_mut(&mut *self.lost).cast(),
        )
    }

    /// The measurements of each row, by its key and the place where its packets were seen: for what
    /// its first and its second end sent.
    pub fn rows(&self) -> impl Iterator<Item = (u16, key6, &[Rtts; 2])> {
        let used = self.rows.iter().filter(|row| row.tag != 0);
        used.map(|row| (row.key.shard, key6 { shard: 0, ..row.key }, &row.way))
    }

    /// What could not be measured.
    pub fn lost(&self) -> RttLost {
        *self.lost
    }
}
