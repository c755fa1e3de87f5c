// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tables that the programs keep beside the rows. Their values contain locks, so they are not
//! mapped into memory: they are read when something has happened.
#![allow(unsafe_code)]
use std::{
    ffi::c_void,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use contract::{CLAIMS, HANDSHAKES, NUMBERS, PROBES, WAITING, key6, probe};
use feed::beside::{ClaimSlot, HandshakeSlot, NumberSlot, WaitingSlot};

/// Once half of the slots are in use, those that have been idle for this long are freed.
const QUIET: Duration = Duration::from_secs(300);
/// Nothing has been read yet.
const NEVER: u64 = u64::MAX;

/// A slot of such a table: integers, zero if it is free.
pub(super) trait Slot: Copy + Default {
    /// The number of slots.
    const MOST: u32;
    fn is_used(&self) -> bool;
    /// When it was last updated, in jiffies.
    fn seen(&self) -> u32;
}

impl Slot for NumberSlot {
    const MOST: u32 = NUMBERS;
    fn is_used(&self) -> bool {
        self.tag != 0
    }
    fn seen(&self) -> u32 {
        self.numbers.seen
    }
}

impl Slot for ClaimSlot {
    const MOST: u32 = CLAIMS;
    fn is_used(&self) -> bool {
        self.tag != 0
    }
    fn seen(&self) -> u32 {
        self.claims.seen
    }
}

impl Slot for HandshakeSlot {
    const MOST: u32 = HANDSHAKES;
    fn is_used(&self) -> bool {
        self.tag != 0
    }
    fn seen(&self) -> u32 {
        self.n.seen
    }
}

/// It is never read, only cleared: the programs make room themselves.
impl Slot for WaitingSlot {
    const MOST: u32 = WAITING;
    fn is_used(&self) -> bool {
        self.used != 0
    }
    fn seen(&self) -> u32 {
        0
    }
}

/// A probed row.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(super) struct ProbeSlot {
    lock: u32,
    tag: u32,
    /// The row's key, without its direction.
    pub(super) key: key6,
    probe: probe,
}

impl Slot for ProbeSlot {
    const MOST: u32 = PROBES;
    fn is_used(&self) -> bool {
        self.tag != 0
    }
    fn seen(&self) -> u32 {
        self.probe.seen
    }
}

/// The map, and what was last read from it.
pub(super) struct Locked<S> {
    map: OwnedFd,
    news: AtomicU64,
    pub(super) known: Vec<S>,
}

impl<S: Slot> Locked<S> {
    pub(super) fn of(map: OwnedFd) -> Locked<S> {
        Locked { map, news: AtomicU64::new(NEVER), known: Vec::new() }
    }

    pub(super) fn map(&self) -> BorrowedFd<'_> {
        self.map.as_fd()
    }

    /// Reads all slots if this event count has changed since the last time. Returns those that were
    /// freed. `clock` has the time in jiffies, and the length of one.
    pub(super) fn read(
        &mut self,
        news: u64,
        clock: impl Fn() -> Result<(u32, Duration)>,
    ) -> Result<Vec<S>> {
        if self.news.swap(news, Ordering::Relaxed) == news {
            return Ok(Vec::new());
        }
        let mut used = self.used()?;
        let mut freed = Vec::new();
        if used.len() > S::MOST as usize / 2 {
            let (now, jiffy) = clock()?;
            let is_quiet = |slot: &S| {
                let idle = now.wrapping_sub(slot.seen());
                idle < u32::MAX / 2 && jiffy.saturating_mul(idle) > QUIET
            };
            for (place, slot) in used.extract_if(.., |(_, slot)| is_quiet(slot)) {
                self.free(place)?;
                freed.push(slot);
            }
        }
        self.known = used.into_iter().map(|(_, slot)| slot).collect();
        Ok(freed)
    }

    fn used(&self) -> Result<Vec<(u32, S)>> {
        let most = S::MOST as usize;
        let (mut keys, mut slots) = (vec![0u32; most], vec![S::default(); most]);
        let (mut next, mut count) = (0u32, S::MOST);
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
            "read what is kept beside the rows: {}",
            io::Error::from_raw_os_error(-e)
        );
        slots.truncate(count as usize);
        Ok((0..).zip(slots).filter(|(_, slot)| slot.is_used()).collect())
    }

    /// All slots in use.
    pub(super) fn all(&self) -> Result<Vec<S>> {
        Ok(self.used()?.into_iter().map(|(_, slot)| slot).collect())
    }

    /// The contents of one slot, if it is in use.
    pub(super) fn at(&self, place: u32) -> Option<S> {
        let mut slot = S::default();
        // SAFETY: key and value have the sizes of the map's.
        let e = unsafe {
            libbpf_sys::bpf_map_lookup_elem_flags(
                self.map.as_raw_fd(),
                ptr::from_ref(&place).cast(),
                ptr::from_mut(&mut slot).cast(),
                libbpf_sys::BPF_F_LOCK.into(),
            )
        };
        (e == 0 && slot.is_used()).then_some(slot)
    }

    fn free(&self, place: u32) -> Result<()> {
        let none = S::default();
        // SAFETY: key and value have the sizes of the map's.
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
        Err(io::Error::from_raw_os_error(-e)).context("free a slot beside the rows")
    }

    /// Frees all slots.
    pub(super) fn clear(&self) -> Result<()> {
        self.news.store(NEVER, Ordering::Relaxed);
        self.used()?.iter().try_for_each(|(place, _)| self.free(*place))
    }
}
