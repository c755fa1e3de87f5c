// SPDX-License-Identifier: MIT OR Apache-2.0
//! The maps shared between programs and probers.
#![allow(unsafe_code)]
use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    sync::Arc,
};

use anyhow::{Context, Result, ensure};
use contract::probing;
use memmap2::{MmapOptions, MmapRaw};

use crate::kernel::locked::{Locked, ProbeSlot};

/// For one interface's programs: the probed rows, and their probers.
pub(super) struct Probes {
    pub(super) places: Locked<ProbeSlot>,
    /// The ring buffer of each prober.
    pub(super) rings: OwnedFd,
    /// The contents of packets seen by each prober.
    pub(super) lenses: OwnedFd,
    pub(super) map: OwnedFd,
    pub(super) memory: Arc<MmapRaw>,
}

impl Probes {
    pub(super) fn of([places, rings, lenses, map]: [OwnedFd; 4]) -> Result<Probes> {
        let memory = map_array(map.as_fd(), size_of::<probing>())?;
        Ok(Probes { places: Locked::of(places), rings, lenses, map, memory })
    }
}

/// Maps an array with elements of this size into memory.
pub(super) fn map_array(map: BorrowedFd<'_>, size: usize) -> Result<Arc<MmapRaw>> {
    let mut info = libbpf_sys::bpf_map_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `len` bytes of plain numbers.
    let e = unsafe { libbpf_sys::bpf_map_get_info_by_fd(map.as_raw_fd(), &mut info, &mut len) };
    ensure!(e == 0, "ask for the size of a flow table: {}", io::Error::from_raw_os_error(-e));
    ensure!(
        info.value_size as usize == size,
        "a flow table has elements of {} bytes, not {size}",
        info.value_size
    );
    let memory = MmapOptions::new()
        .len(info.max_entries as usize * size)
        .map_raw(map.as_raw_fd())
        .context("map a flow table into memory")?;
    Ok(Arc::new(memory))
}
