// SPDX-License-Identifier: MIT OR Apache-2.0
//! Ring buffers that programs write packets to.
#![allow(unsafe_code)]
use std::{
    ops::ControlFlow,
    os::fd::{AsRawFd, BorrowedFd},
    sync::atomic::{AtomicU32, AtomicU64, Ordering},
};

use anyhow::{Context, Result};
use memmap2::{MmapOptions, MmapRaw};

/// A ring buffer, mapped into memory.
pub(super) struct Ring {
    /// The position of the next packet to read.
    consumer: MmapRaw,
    /// The position of the next packet to write; one page later the data, mapped twice in a row, so
    /// that no packet is split.
    producer: MmapRaw,
    size: usize,
    page: usize,
}

impl Ring {
    /// A ring of `size` bytes.
    pub(super) fn of(map: BorrowedFd<'_>, size: usize) -> Result<Ring> {
        // SAFETY: takes a number only.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) } as usize;
        let shown = "map a ring into memory";
        let consumer = MmapOptions::new().len(page).map_raw(map.as_raw_fd()).context(shown)?;
        let producer = MmapOptions::new()
            .offset(page as u64)
            .len(page + 2 * size)
            .map_raw_read_only(map.as_raw_fd())
            .context(shown)?;
        Ok(Ring { consumer, producer, size, page })
    }

    /// The positions of the next packet to read and to write.
    fn positions(&self) -> [&AtomicU64; 2] {
        // SAFETY: both mappings begin with a position; shared with the kernel, so atomics only.
        [&self.consumer, &self.producer]
            .map(|memory| unsafe { AtomicU64::from_ptr(memory.as_mut_ptr().cast()) })
    }

    /// Whether the ring is empty.
    pub(super) fn is_empty(&self) -> bool {
        let [next, end] = self.positions().map(|at| at.load(Ordering::Acquire));
        next >= end
    }

    /// Takes the records in the ring until `take` breaks off; that record counts as taken. Returns
    /// how many were taken.
    pub(super) fn drain(&mut self, mut take: impl FnMut(&[u8]) -> ControlFlow<()>) -> u64 {
        const FRONT: usize = 8; // the header of each record, used by the kernel
        let mut taken = 0;
        let [next, end] = self.positions();
        let mut at = next.load(Ordering::Acquire);
        while at < end.load(Ordering::Acquire) {
            let place = at as usize & (self.size - 1);
            // SAFETY: inside the mapping, where the data is mapped twice; the kernel aligns
            // records.
            let (state, record) = unsafe {
                let record = self.producer.as_mut_ptr().add(self.page + place);
                (AtomicU32::from_ptr(record.cast()).load(Ordering::Acquire), record.add(FRONT))
            };
            if state & libbpf_sys::BPF_RINGBUF_BUSY_BIT != 0 {
                break;
            }
            let is_there = state & libbpf_sys::BPF_RINGBUF_DISCARD_BIT == 0;
            let length = (state & !libbpf_sys::BPF_RINGBUF_DISCARD_BIT) as usize;
            let mut over = false;
            if is_there {
                // SAFETY: the record is as long as its header says, and nothing writes to it until
                // the position has passed it.
                let record = unsafe { std::slice::from_raw_parts(record, length) };
                taken += 1;
                over = take(record).is_break();
            }
            at += (length + FRONT).next_multiple_of(8) as u64;
            next.store(at, Ordering::Release);
            if over {
                break;
            }
        }
        taken
    }
}
