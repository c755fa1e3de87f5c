// SPDX-License-Identifier: MIT OR Apache-2.0
//! The lens on captures that are shown: the captures are read again, by a separate thread, for the
//! selected rows.
use std::{
    fs::File,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    config::Config,
    inputs::Captures,
    judge,
    replay::Replay,
    source::{CatchNews, Closer},
};
use model::{filter::Filter, lens::Lens, rtt::Timed};

/// The number of frames between checks of the clock, and the time between results: each result
/// costs reading all rows.
const AT_ONCE: u64 = 1 << 16;
const PAUSE: Duration = Duration::from_millis(250);

/// Captures that can be read again.
pub struct Again {
    captures: Captures,
    config: Config,
    /// Limit on the size of compressed ones.
    most: Option<u64>,
    looking: Option<Looking>,
}

impl Again {
    /// Will read these captures as `config` says; nothing is read yet.
    pub fn new(captures: Captures, config: &Config, most: Option<u64>) -> Again {
        Again { captures, config: config.clone(), most, looking: None }
    }
}

/// The thread, and its results. The thread ends when this is dropped.
struct Looking {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Lens>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Drop for Looking {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            _ = thread.join(); // its errors no longer matter
        }
    }
}

fn read(mut replay: Replay, stop: &AtomicBool, seen: &Mutex<Lens>) -> Result<()> {
    let (mut goes_on, mut shown) = (true, None::<Instant>);
    while goes_on && !stop.load(Ordering::Relaxed) {
        goes_on = replay.advance(AT_ONCE)?;
        if goes_on && shown.is_some_and(|shown| shown.elapsed() < PAUSE) {
            continue;
        }
        // Before the lens, which depends on what has been counted.
        let beside = replay.read()?.beside;
        let [untimed, untracked] = beside.untimed();
        let timed = Timed { rows: beside.round_trips().clone(), untimed, untracked };
        let lens = replay.lens().unwrap_or_default();
        *seen.lock().unwrap_or_else(PoisonError::into_inner) = Lens { timed: Some(timed), ..lens };
        shown = Some(Instant::now());
    }
    // Errors of reading were reported when the file was read first.
    Ok(())
}

impl Closer for Again {
    fn look(&mut self, rows: Option<&Filter>) -> Result<()> {
        self.looking = None; // two threads would share the position in a file
        let Some(rows) = rows else { return Ok(()) };
        let stop = Arc::<AtomicBool>::default();
        let captures = self.captures.rewound()?.until(&stop);
        let seen = Lens { filter: rows.to_string(), ..Lens::default() };
        let seen = Arc::new(Mutex::new(seen));
        let (rows, config, most) = (rows.clone(), self.config.clone(), self.most);
        let (told, found) = (Arc::clone(&stop), Arc::clone(&seen));
        let run = move || {
            let mut replay = Replay::of(captures, &config, judge::host, most)?;
            replay.look(rows.clone())?;
            replay.time(rows)?;
            read(replay, &told, &found)
        };
        let thread = thread::Builder::new().name("lens".to_owned()).spawn(run);
        let thread = Some(thread.context("start a thread")?);
        self.looking = Some(Looking { stop, seen, thread });
        Ok(())
    }

    fn seen(&mut self) -> Result<Option<Lens>> {
        let Some(looking) = &mut self.looking else { return Ok(None) };
        if let Some(thread) = looking.thread.take_if(|thread| thread.is_finished()) {
            let end = thread.join().unwrap_or_else(|_| Err(anyhow!("the lens thread has died")));
            if let Err(e) = end {
                self.looking = None;
                return Err(e.context("examine the packets of the captures"));
            }
        }
        Ok(Some(looking.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()))
    }

    fn catch(&mut self, _: &Filter, _: File, _: &dyn Fn() -> Result<String>) -> Result<String> {
        bail!("these packets are already in a file: extract them with `tmon capture -r`")
    }

    fn caught(&mut self, _: bool) -> Option<CatchNews> {
        None
    }
}
