// SPDX-License-Identifier: MIT OR Apache-2.0
//! How right this host's clock is, by its own account.
#![allow(unsafe_code)]
use std::{mem, time::Duration};

/// The clock's estimated error; `None` where nothing synchronises it, adjtimex(2).
pub fn error() -> Option<Duration> {
    // SAFETY: a struct of integers, of which all may be 0; with no mode set nothing is changed.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    let is_synchronised = state >= 0 && timex.status & libc::STA_UNSYNC == 0;
    let micros = u64::try_from(timex.esterror).ok().filter(|_| is_synchronised)?;
    Some(Duration::from_micros(micros))
}

/// The programs' clock, in nanoseconds.
#[cfg(feature = "live")]
pub(crate) fn packets_clock() -> u64 {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_MONOTONIC)
        .map_or(0, |t| Duration::from(t).as_nanos() as u64)
}
