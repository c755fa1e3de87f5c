// SPDX-License-Identifier: MIT OR Apache-2.0
//! The streams of packets that their senders number, as the programs keep them. The map has locks in
//! its values, so it is not mapped into memory: it is read where something has happened.
#![allow(unsafe_code)]
use std::{
    collections::BTreeMap,
    ffi::c_void,
    io,
    os::fd::{AsRawFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context, Result, ensure};
use contract::NUMBERS;
use model::beside::{Numbered, Stream};

use feed::beside::{self, NumberSlot};

/// From so many streams on those are forgotten that have been quiet for so many seconds.
const MANY: usize = NUMBERS as usize / 2;
const QUIET: u32 = 300;
/// Nothing was read yet.
const NEVER: u64 = u64::MAX;

/// The map, and what was read of it last.
pub(super) struct Streams {
    pub(super) map: OwnedFd,
    seen: AtomicU64,
    pub(super) known: Vec<(Stream, Numbered)>,
    /// What those had that are forgotten, by tunnel.
    pub(super) earlier: BTreeMap<Stream, Numbered>,
}

impl Streams {
    pub(super) fn of(map: OwnedFd) -> Streams {
        Streams { map, seen: AtomicU64::new(NEVER), known: Vec::new(), earlier: BTreeMap::new() }
    }

    /// Whether there is something to read, by how many packets were numbered so far.
    pub(super) fn is_news(&self, numbered: u64) -> bool {
        self.seen.swap(numbered, Ordering::Relaxed) != numbered
    }

    /// Reads all of them, as of the interface with this `id`.
    pub(super) fn read(&mut self, interface: u64, now: impl Fn() -> Result<u32>) -> Result<()> {
        let slots = self.slots()?;
        let used = slots.iter().zip(0u32..).filter(|(slot, _)| slot.tag != 0);
        let mut used: Vec<_> = used.map(|(slot, place)| (*slot, place)).collect();
        if used.len() > MANY {
            let now = now()?;
            let second = jiffies_in_a_second();
            let (quiet, rest) = used.into_iter().partition(|(slot, _)| {
                let idle = now.wrapping_sub(slot.numbers.seen);
                idle < u32::MAX / 2 && idle / second > QUIET
            });
            used = rest;
            let quiet: Vec<(NumberSlot, u32)> = quiet;
            for (slot, place) in quiet {
                self.free(place)?;
                let (stream, n) = beside::stream(interface, &slot.key, &slot.numbers);
                let tunnel = Stream { id: stream.tunnel_id(), ..stream };
                self.earlier.entry(tunnel).or_default().add(&Numbered { missing: 0, ..n });
            }
        }
        let stream =
            |(slot, _): &(NumberSlot, u32)| beside::stream(interface, &slot.key, &slot.numbers);
        self.known = used.iter().map(stream).collect();
        Ok(())
    }

    fn slots(&self) -> Result<Vec<NumberSlot>> {
        let most = NUMBERS as usize;
        let (mut keys, mut slots) = (vec![0u32; most], vec![NumberSlot::default(); most]);
        let (mut next, mut count) = (0u32, NUMBERS);
        let opts = libbpf_sys::bpf_map_batch_opts {
            sz: size_of::<libbpf_sys::bpf_map_batch_opts>() as _,
            elem_flags: libbpf_sys::BPF_F_LOCK.into(),
            ..Default::default()
        };
        // SAFETY: both arrays have room for all elements, which are integers.
        let e = unsafe {
            libbpf_sys::bpf_map_lookup_batch(
                self.map.as_raw_fd(),
                ptr::null_mut(),
                ptr::from_mut(&mut next).cast(),
                keys.as_mut_ptr().cast(),
                slots.as_mut_ptr().cast::<c_void>(),
                &mut count,
                &opts,
            )
        };
        ensure!(
            e == 0 || e == -libc::ENOENT,
            "read the numbers of packets: {}",
            io::Error::from_raw_os_error(-e)
        );
        slots.truncate(count as usize);
        Ok(slots)
    }

    fn free(&self, place: u32) -> Result<()> {
        let none = NumberSlot::default();
        // SAFETY: key and value are as long as the map's.
        let e = unsafe {
            libbpf_sys::bpf_map_update_elem(
                self.map.as_raw_fd(),
                ptr::from_ref(&place).cast(),
                ptr::from_ref(&none).cast(),
                libbpf_sys::BPF_F_LOCK.into(),
            )
        };
        if e == 0 {
            return Ok(());
        }
        Err(io::Error::from_raw_os_error(-e)).context("forget a stream of numbered packets")
    }

    /// Forgets all.
    pub(super) fn clear(&self) -> Result<()> {
        self.seen.store(NEVER, Ordering::Relaxed);
        for (slot, place) in self.slots()?.iter().zip(0..) {
            if slot.tag != 0 {
                self.free(place)?;
            }
        }
        Ok(())
    }
}

/// As the kernel shows its clock ticks.
fn jiffies_in_a_second() -> u32 {
    use nix::{
        sys::time::TimeValLike,
        time::{ClockId, clock_getres},
    };
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(0, |t| t.num_nanoseconds());
    u32::try_from(1_000_000_000 / tick.max(1_000_000)).unwrap_or(1000)
}
