// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures as a source: readings of what has been read so far, with everything before as
//! intervals.
//!
//! A separate thread reads them, so that a large file, or one that comes through a pipe, can be
//! shown while it is read. Readings come a few times a second at most, and less often if they take
//! long: they cost a fixed share of the time.
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender, TryRecvError, TrySendError},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use crate::{
    looking::Again,
    names::Names,
    recorded::{Past, Recordings},
    recording::Recording,
    replay::{self, Replay},
    source::{Closer, Due, Reading, Source},
};
use model::{
    snapshot::Snapshot,
    units::{self, Base},
};

/// The time from one reading to the next, and before the first.
const PAUSE: Duration = Duration::from_millis(300);
/// A reading is followed by a pause of this many times its duration.
const SHARE: u32 = 20;

/// A message of the thread.
enum News {
    /// A reading of what has been read so far.
    Some(Reading),
    /// The last reading, and why a file could not be read to its end, if so.
    All(Reading, Result<()>),
}

/// Captures that are being read.
pub struct Capture {
    news: Receiver<Result<News>>,
    next: Option<Result<Reading>>,
    /// The snapshot before there is any reading.
    nothing: Option<Snapshot>,
    progress: Arc<Mutex<String>>,
    end: Option<Result<()>>,
    is_read: bool,
    again: Option<Again>,
}

impl Capture {
    /// Captures in intervals of length `step`, or longer ones if these take more than `bytes`. The
    /// thread also opens them, which may wait for a pipe.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        open: impl FnOnce() -> Result<Replay> + Send + 'static,
        step: Duration,
        bytes: usize,
    ) -> Result<Capture> {
        Capture::reading(move |teller| read(open()?, step, bytes, teller))
    }

    /// Recordings in their own intervals, or longer ones if these take more than `bytes`. Names of
    /// hosts in a fleet are added to `names`.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn of_recordings(recordings: Recordings, names: Names, bytes: usize) -> Result<Capture> {
        Capture::reading(move |teller| read_recordings(recordings, &names, bytes, teller))
    }

    fn reading(read: impl FnOnce(Teller<'_>) -> Result<()> + Send + 'static) -> Result<Capture> {
        let (send, news) = mpsc::sync_channel(1);
        let progress = Arc::<Mutex<String>>::default();
        let shown = Arc::clone(&progress);
        let read = move || {
            let teller = Teller { news: &send, progress: &shown, due: Instant::now() + PAUSE };
            if let Err(e) = read(teller) {
                _ = send.send(Err(e)); // if the receiver is gone, nobody needs it
            }
        };
        thread::Builder::new().name("capture".to_owned()).spawn(read).context("start a thread")?;
        let nothing = Some(replay::nothing());
        Ok(Capture { news, next: None, nothing, progress, end: None, is_read: false, again: None })
    }

    /// Makes it possible to examine packets, by reading the captures again.
    pub fn set_again(&mut self, again: Option<Again>) {
        self.again = again;
    }

    /// Why a capture could not be read to its end, if so.
    ///
    /// # Errors
    /// The error that ended reading.
    pub fn end(&mut self) -> Result<()> {
        self.end.take().unwrap_or(Ok(()))
    }

    /// Waits until everything has been read; `None` if `stop` was raised.
    ///
    /// # Errors
    /// See [`Source::read`].
    pub fn read_all(&mut self, stop: &AtomicBool) -> Result<Option<Reading>> {
        const STEP: Duration = Duration::from_millis(50);
        while !stop.load(Ordering::Relaxed) {
            match self.news.recv_timeout(STEP) {
                Ok(news) => {
                    let reading = self.take(news)?;
                    if self.is_read {
                        return Ok(Some(reading));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => bail!("the captures have been read"),
            }
        }
        Ok(None)
    }

    fn take(&mut self, news: Result<News>) -> Result<Reading> {
        match news {
            Ok(News::Some(reading)) => Ok(reading),
            Ok(News::All(reading, end)) => {
                (self.is_read, self.end) = (true, Some(end));
                Ok(reading)
            }
            Err(e) => {
                self.is_read = true;
                Err(e)
            }
        }
    }
}

impl Source for Capture {
    /// Waits if there is nothing new yet, but not long for the first reading.
    fn read(&mut self) -> Result<Reading> {
        if let Some(nothing) = self.nothing.take() {
            return match self.news.recv_timeout(2 * PAUSE) {
                Ok(news) => self.take(news),
                Err(RecvTimeoutError::Timeout) => Ok(Reading::from(nothing)),
                Err(RecvTimeoutError::Disconnected) => bail!("the captures have been read"),
            };
        }
        match self.next.take() {
            Some(reading) => reading,
            None => match self.news.recv() {
                Ok(news) => self.take(news),
                Err(_) => bail!("the captures have been read"),
            },
        }
    }

    fn follow(&mut self) -> Vec<String> {
        while !self.is_read {
            match self.news.try_recv() {
                Ok(news) => self.next = Some(self.take(news)), // it includes everything in the previous one
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => self.is_read = true,
            }
        }
        Vec::new()
    }

    fn progress(&self) -> Option<String> {
        let progress = self.progress.lock().unwrap_or_else(PoisonError::into_inner);
        (!self.is_read && !progress.is_empty()).then(|| progress.clone())
    }

    fn closer(&mut self) -> Result<&mut dyn Closer> {
        match &mut self.again {
            Some(again) => Ok(again),
            None => bail!(
                "only counts are available here, or the packets came through a pipe: use `tmon top --read` with capture files"
            ),
        }
    }

    fn is_recorded(&self) -> bool {
        true
    }

    fn due(&self) -> Due {
        match (&self.next, self.is_read) {
            (Some(_), _) => Due::Always,
            (None, true) => Due::Never,
            (None, false) => Due::Later,
        }
    }
}

/// Passes on what has been read so far, while there is more to read.
struct Teller<'a> {
    news: &'a SyncSender<Result<News>>,
    progress: &'a Mutex<String>,
    due: Instant,
}

impl Teller<'_> {
    /// Sets how many bytes have been read, and of how many.
    fn is_at(&self, at: u64, size: Option<u64>) {
        *self.progress.lock().unwrap_or_else(PoisonError::into_inner) = match size {
            Some(size) => units::percent(at, size),
            None => units::bytes(at, Base::Si).to_string(),
        };
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.due
    }

    /// Passes on the result of `make`, unless the previous one has not been taken yet. Returns
    /// whether it did; `None` if the receiver is gone.
    fn tell(&mut self, make: impl FnOnce() -> Result<Reading>) -> Result<Option<bool>> {
        let begun = Instant::now();
        let told = match self.news.try_send(Ok(News::Some(make()?))) {
            Ok(()) => Some(true),
            Err(TrySendError::Full(_)) => Some(false),
            Err(TrySendError::Disconnected(_)) => None,
        };
        self.due = Instant::now() + PAUSE.max(SHARE * begun.elapsed());
        Ok(told)
    }

    /// Passes on the last reading.
    fn end(self, reading: Reading, end: Result<()>) {
        _ = self.news.send(Ok(News::All(reading, end)));
    }
}

/// Reads to the end, or until the receiver is gone.
fn read(mut replay: Replay, step: Duration, bytes: usize, mut teller: Teller<'_>) -> Result<()> {
    replay.hurry();
    let mut recording = Recording::new(step, bytes, replay.read()?);
    let (mut reads, mut told) = (0, 0);
    loop {
        match replay.peek().map(|f| f.time) {
            Some(time) => {
                if recording.turns(time)
                    && let Some(time) = time
                {
                    recording.turn(replay.read()?, time);
                }
                replay.step()?;
                if replay.reads() == reads {
                    continue;
                }
            }
            None if replay.waits() => replay.look_again(),
            None => break,
        }
        reads = replay.reads();
        let (at, size) = replay.position();
        teller.is_at(at, size);
        if teller.is_due() && replay.frames() > told {
            match teller.tell(|| so_far(recording.clone(), &mut replay, Vec::new()))? {
                Some(true) => told = replay.frames(),
                Some(false) => {}
                None => return Ok(()),
            }
        }
    }
    let notes = replay.notes();
    let reading = so_far(recording, &mut replay, notes)?;
    teller.end(reading, replay.end());
    Ok(())
}

/// Reads recordings in the same way.
fn read_recordings(
    mut recordings: Recordings,
    names: &Names,
    bytes: usize,
    mut teller: Teller<'_>,
) -> Result<()> {
    let mut past = Past::within(bytes);
    let end = loop {
        match recordings.next_interval() {
            Ok(Some(interval)) => {
                if let Some(overlay) = &interval.overlay {
                    names.learn_recorded(&interval.origin.host, overlay);
                }
                past.push(interval);
            }
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        }
        if teller.is_due() && !past.is_empty() {
            names.learn_hosts(recordings.names());
            let (at, size) = recordings.position();
            teller.is_at(at, Some(size));
            if teller.tell(|| Ok(past.reading(Vec::new())))?.is_none() {
                return Ok(());
            }
        }
    };
    if past.is_empty() {
        end?;
        bail!("the recordings contain no reading");
    }
    names.learn_hosts(recordings.names());
    teller.end(past.reading(recordings.notes()), end.and_then(|()| recordings.end()));
    Ok(())
}

fn so_far(recording: Recording, replay: &mut Replay, notices: Vec<String>) -> Result<Reading> {
    let (past, snapshot) = recording.finish(replay.read()?, replay.span());
    Ok(Reading { past, notices, ..Reading::from(snapshot) })
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Write, os::fd::AsRawFd, path::PathBuf};

    use super::*;
    use crate::{config::Config, inputs::Captures, judge};

    fn packets(reading: &Reading) -> u64 {
        let of = |i: &model::interface::Interface| -> u64 {
            i.books.seen().iter().map(|c| c.packets).sum()
        };
        reading.snapshot.interfaces.iter().map(of).sum()
    }

    #[test]
    fn a_capture_can_be_shown_while_it_is_still_being_read() {
        let (from, to) = std::io::pipe().expect("a pipe");
        let path = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
        let enough = AtomicBool::new(false);
        thread::scope(|scope| {
            let writer = scope.spawn(|| {
                let mut to = to;
                let words = |words: &[u32]| -> Vec<u8> {
                    words.iter().flat_map(|w| w.to_le_bytes()).collect()
                };
                let head = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1]);
                to.write_all(&head).expect("somebody reads");
                let (mut written, mut second) = (0, 1_700_000_000);
                while !enough.load(Ordering::Relaxed) {
                    let record = [words(&[second, 0, 20, 20]), vec![0; 20]].concat();
                    to.write_all(&record.repeat(5000)).expect("somebody reads");
                    written += 5000;
                    second += 1;
                }
                written
            });
            let replay = Replay::open(&[path], &Config::default(), judge::host).expect("a capture");
            drop(File::from(std::os::fd::OwnedFd::from(from)));
            let mut capture =
                Capture::new(|| Ok(replay), Duration::from_secs(1), 1 << 27).expect("a thread");
            let first = capture.read().expect("a reading");
            assert!(!first.past.is_empty() && packets(&first) > 0);
            let begun = Instant::now();
            while capture.progress().is_none() {
                assert!(begun.elapsed() < Duration::from_secs(60), "it is being read");
                thread::yield_now();
            }
            assert_ne!(capture.due(), Due::Never, "there is more");
            enough.store(true, Ordering::Relaxed);
            let written = writer.join().expect("a number");
            let mut last = first;
            while capture.due() != Due::Never {
                last = capture.read().expect("a reading");
            }
            assert_eq!(packets(&last), written);
            assert_eq!((last.past.len() as u64, capture.progress()), (written / 5000, None));
            capture.end().expect("it ends well");
        });
    }

    #[test]
    fn a_slow_pipe_is_shown_as_far_as_it_was_read() {
        let (from, mut to) = std::io::pipe().expect("a pipe");
        let path = PathBuf::from(format!("/proc/self/fd/{}", from.as_raw_fd()));
        let captures = Captures::open(&[path]).expect("a pipe");
        drop(from);
        let open = || Replay::of(captures, &Config::default(), judge::host, None);
        let mut capture = Capture::new(open, Duration::from_secs(1), 1 << 27).expect("a thread");
        let first = capture.read().expect("a reading");
        assert_eq!(packets(&first), 0, "before there is a header");
        let words =
            |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|w| w.to_le_bytes()).collect() };
        let head = words(&[0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1]);
        to.write_all(&head).expect("somebody reads");
        let record = [words(&[1_700_000_000, 0, 20, 20]), vec![0; 20]].concat();
        for n in 1..=3 {
            // In two pieces, with a reading in between.
            to.write_all(&record[..17]).expect("somebody reads");
            thread::sleep(Duration::from_millis(150));
            to.write_all(&record[17..]).expect("somebody reads");
            let begun = Instant::now();
            while packets(&capture.read().expect("a reading")) < n {
                assert!(begun.elapsed() < Duration::from_secs(60), "it is shown");
            }
        }
        assert_ne!(capture.due(), Due::Never, "there may be more");
        drop(to);
        assert_eq!(packets(&capture.read().expect("a reading")), 3);
        assert_eq!(capture.due(), Due::Never);
        capture.end().expect("it ends well");
    }
}
