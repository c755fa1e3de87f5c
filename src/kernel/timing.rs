// SPDX-License-Identifier: MIT OR Apache-2.0
//! Round-trip times of probed rows: the program that measures them (`bpf/rtt.bpf.c`) and its
//! tables, which exist only while somebody wants the results.
#![allow(unsafe_code)]
use std::{
    io,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    ptr,
};

use anyhow::{Result, ensure};
use contract::RTT_STATE;

use crate::kernel::locked::{Locked, Slot};
use feed::timing::{TimedNot, TimedSlot};
use model::rtt::Timed;

impl Slot for TimedSlot {
    const MOST: u32 = TimedSlot::MOST;
    fn is_used(&self) -> bool {
        TimedSlot::is_used(self)
    }
    fn seen(&self) -> u32 {
        0
    }
}

/// The measurement on one interface. It ends on drop.
pub(super) struct Timer {
    rows: Locked<TimedSlot>,
    lost: OwnedFd,
    /// The jump table.
    states: OwnedFd,
}

impl Timer {
    pub(super) fn of(rows: OwnedFd, lost: OwnedFd, states: OwnedFd) -> Timer {
        Timer { rows: Locked::of(rows), lost, states }
    }

    /// Adds the measurements so far, for the interface with this number.
    pub(super) fn tell(&self, interface: u64, all: &mut Timed) -> Result<()> {
        self.rows.all()?.iter().for_each(|row| row.tell(interface, all));
        let (key, mut lost) = (0u32, TimedNot::default());
        // SAFETY: key and value have the sizes of the map's.
        let e = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.lost.as_fd().as_raw_fd(),
                ptr::from_ref(&key).cast(),
                ptr::from_mut(&mut lost).cast(),
            )
        };
        ensure!(e == 0, "read what was not timed: {}", io::Error::from_raw_os_error(-e));
        lost.tell(all);
        Ok(())
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // SAFETY: the key has the size of the map's. A missing entry is not an error.
        unsafe {
            let key = RTT_STATE;
            libbpf_sys::bpf_map_delete_elem(self.states.as_raw_fd(), ptr::from_ref(&key).cast());
        }
    }
}
