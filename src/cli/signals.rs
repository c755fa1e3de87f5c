// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that end a command, or would.
#![allow(unsafe_code)]
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, Result};
use nix::time::{ClockId, clock_gettime};
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ},
    flag, low_level,
};

use super::out;

/// What comes so soon after a signal is the same one: timeout(1) sends it to a process and to its group,
/// a terminal that closes lets a shell send it once more.
const AT_ONCE: Duration = Duration::from_millis(500);

/// A flag that SIGINT, SIGTERM and SIGHUP raise; a second one ends the process at once. To be called when
/// the files that the user named are open: one may be a pipe that nobody writes to, which is waited for
/// until the process is ended.
pub(super) fn interrupted() -> Result<Arc<AtomicBool>> {
    let raised = Arc::new(AtomicBool::new(false));
    let first = Arc::new(AtomicU64::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        let (raised, first) = (Arc::clone(&raised), Arc::clone(&first));
        let take = move || {
            let now = milliseconds();
            let before = first.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
            raised.store(true, Ordering::Relaxed);
            if before.is_err_and(|at| now.saturating_sub(at) > AT_ONCE.as_millis() as u64) {
                let _ = low_level::emulate_default_handler(signal);
            }
        };
        // SAFETY: it adds to atomics, reads a clock and may end the process: all of that a handler may do.
        unsafe { low_level::register(signal, take) }.context("handle signals")?;
    }
    out::until(&raised);
    Ok(raised)
}

/// Since some moment, and never 0.
fn milliseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| Duration::from(t).as_millis());
    (now as u64).max(1)
}

/// A file that may not grow any more (ulimit -f) is an error of the write, not the end of the process.
pub(super) fn outgrow() {
    let _ = flag::register(SIGXFSZ, Arc::default()); // then it ends as it always did
}
