// SPDX-License-Identifier: MIT OR Apache-2.0
//! Signals that end a command, or would without a handler.
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

/// A signal that follows another this soon is a repetition: timeout(1) sends one to a process and
/// to its group, and a shell repeats the one that a closing terminal sends.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Returns a flag that SIGINT, SIGTERM and SIGHUP raise; a second signal ends the process at once.
/// To be called after the files that the user named are open: opening a pipe without a writer
/// blocks, and must remain interruptible.
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
        // SAFETY: the handler writes atomics, reads a clock and may end the process, all of which
        // is allowed.
        unsafe { low_level::register(signal, take) }.context("handle signals")?;
    }
    out::until(&raised);
    Ok(raised)
}

/// Monotonic time, never 0.
fn milliseconds() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(0, |t| Duration::from(t).as_millis());
    (now as u64).max(1)
}

/// Makes writes beyond the file size limit (ulimit -f) fail with an error instead of ending the
/// process.
pub(super) fn outgrow() {
    let _ = flag::register(SIGXFSZ, Arc::default()); // otherwise the default applies
}
