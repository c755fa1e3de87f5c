// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of captures on their way from the reader to the judge: in batches, and on several
//! threads.
//!
//! Reading, and everything that a file says about its frames, is done by one thread, in order.
//! Judging takes most of the time and is shared; `native::Shard` explains how the results stay
//! those of one thread.
use std::{
    collections::BTreeMap,
    panic,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{self, Receiver, Sender, SyncSender, TrySendError},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context, Result};
use native::{Batch, LogEntry, Shard};

use crate::seen::Seen;

/// More threads than this would only wait for the reader.
pub const MOST_THREADS: usize = 16;

/// The approximate size of a job in bytes.
pub(crate) const STEP: usize = 512 << 10;

/// The counts of one thread, by interface.
struct Parts {
    config: Arc<native::NativeConfig>,
    parts: Vec<Option<Shard>>,
}

type Logs = Vec<(usize, Vec<LogEntry>)>;

impl Parts {
    fn new(config: Arc<native::NativeConfig>) -> Parts {
        Parts { config, parts: Vec::new() }
    }

    /// Counts a batch; returns what the whole must know about it.
    fn judge(&mut self, batch: &Batch) -> Result<Logs> {
        let mut logs = Logs::new();
        for (interface, frames) in batch.by_interface() {
            if self.parts.len() <= interface {
                self.parts.resize_with(interface + 1, || None);
            }
            let part = match &mut self.parts[interface] {
                Some(part) => part,
                none => none.insert(Shard::new(&self.config)?),
            };
            let log = part.judge_all(frames);
            if !log.is_empty() {
                logs.push((interface, log));
            }
        }
        Ok(logs)
    }
}

/// A judged batch, and its sequence number.
type Done = (u64, Batch, Logs);

/// Threads that judge, including this one.
pub(crate) struct Crew {
    own: Parts,
    jobs: SyncSender<(u64, Batch)>,
    done: Receiver<Result<Done>>,
    threads: Vec<JoinHandle<Parts>>,
    /// Batches that were judged before earlier ones.
    waiting: BTreeMap<u64, (Batch, Logs)>,
    given: u64,
    followed: u64,
    most: u64,
    /// Batches to be reused.
    spare: Vec<Batch>,
}

impl Crew {
    /// Starts this many threads, including this one.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(crate) fn new(config: native::NativeConfig, threads: usize) -> Result<Crew> {
        let config = Arc::new(config);
        let others = threads.clamp(2, MOST_THREADS) - 1;
        let (jobs, next) = mpsc::sync_channel::<(u64, Batch)>(others);
        let (finish, done) = mpsc::channel();
        let next = Arc::new(Mutex::new(next));
        let threads = (0..others)
            .map(|_| {
                let (next, finish) = (Arc::clone(&next), Sender::clone(&finish));
                let mut parts = Parts::new(Arc::clone(&config));
                let work = move || {
                    loop {
                        let job = next.lock().unwrap_or_else(PoisonError::into_inner).recv();
                        let Ok((number, batch)) = job else { return parts };
                        let logs = parts.judge(&batch);
                        if finish.send(logs.map(|logs| (number, batch, logs))).is_err() {
                            return parts;
                        }
                    }
                };
                thread::Builder::new()
                    .name("judge".to_owned())
                    .spawn(work)
                    .context("start a thread")
            })
            .collect::<Result<_>>()?;
        Ok(Crew {
            own: Parts::new(config),
            jobs,
            done,
            threads,
            waiting: BTreeMap::new(),
            given: 0,
            followed: 0,
            most: 3 * others as u64 + 2,
            spare: Vec::new(),
        })
    }

    /// Gives a batch to a free thread, and returns an empty one.
    ///
    /// # Errors
    /// There is not enough memory for tables.
    pub(crate) fn give(&mut self, batch: Batch, whole: &mut [Seen]) -> Result<Batch> {
        let number = self.given;
        self.given += 1;
        match self.jobs.try_send((number, batch)) {
            Ok(()) => {}
            Err(TrySendError::Full((_, batch)) | TrySendError::Disconnected((_, batch))) => {
                let logs = self.own.judge(&batch)?;
                self.waiting.insert(number, (batch, logs));
            }
        }
        self.follow(self.most, whole)?;
        Ok(self.spare.pop().unwrap_or_default())
    }

    /// Does in the whole what depends on the order, until at most this many batches are left.
    fn follow(&mut self, left: u64, whole: &mut [Seen]) -> Result<()> {
        loop {
            while let Some((mut batch, logs)) = self.waiting.remove(&self.followed) {
                for (interface, log) in logs {
                    let Some(native) = whole[interface].judge.native() else { continue };
                    native.follow(log, batch.frames(interface));
                }
                self.followed += 1;
                batch.clear();
                self.spare.push(batch);
            }
            let done = if self.given - self.followed > left {
                self.done.recv().context("a parsing thread has died")?
            } else {
                match self.done.try_recv() {
                    Ok(done) => done,
                    Err(_) => return Ok(()),
                }
            };
            let (number, batch, logs) = done?;
            self.waiting.insert(number, (batch, logs));
        }
    }

    /// Adds up the counts of all threads.
    ///
    /// # Errors
    /// A thread has died.
    pub(crate) fn finish(mut self, whole: &mut [Seen]) -> Result<()> {
        self.follow(0, whole)?;
        drop(self.jobs);
        let others = self.threads.into_iter().map(|thread| thread.join());
        for parts in others.chain([Ok(self.own)]) {
            let parts = parts.unwrap_or_else(|panicked| panic::resume_unwind(panicked));
            for (interface, part) in parts.parts.into_iter().enumerate() {
                if let (Some(part), Some(native)) = (part, whole[interface].judge.native()) {
                    native.absorb(&part);
                }
            }
        }
        Ok(())
    }
}
