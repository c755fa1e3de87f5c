// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon record` and `tmon stream`: write readings as frames to a file or to standard output.
use std::{
    fs::{DirBuilder, File},
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use nix::{
    fcntl::{Flock, FlockArg},
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use feed::{
    frame::{Frame, FrameKind, FrameWriter},
    keep::{self, Days, Keep, Recorded},
    names::Names,
    roll::Roll,
    series::Series,
};
use model::{overlay::Overlay, snapshot::Interval, units::sanitize};

use super::{
    Configured, Dropping, TOOL, Usage, Watch,
    anonymous::Mask,
    dump, duration, interrupted, out,
    remote::{Ready, Remotes, patience},
    say,
};
use crate::kernel::{clock, live::Live, lock, sandbox::Sandbox};

#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "Each reading is written to the file as soon as it is taken: a crash loses at most the last one. \
    `tmon top --read FILE` scrubs through it, `tmon watch --read FILE` finds the problems in it. \
    With --from, --ssh or --nats the file holds all of these hosts, and is read as a fleet."
)]
pub(super) struct Record {
    #[command(flatten)]
    _configured: Configured,
    /// The file to create, such as `night.tmon`; an existing file is not overwritten. With --keep,
    /// a folder
    #[arg(value_name = "FILE")]
    file: PathBuf,
    /// Keep a folder with one file per day, thinned out by age: 1s:1d,60s:90d keeps readings of 1 s
    /// for a day, then sums of 60 s for 90 days
    #[arg(long, value_name = "EVERY:AGE,..", conflicts_with = "every")]
    keep: Option<Keep>,
    #[command(flatten)]
    reading: Recorder,
    #[command(flatten)]
    remotes: Remotes,
    /// Replace addresses and names of hosts and namespaces: equal ones stay equal, and addresses
    /// that share a prefix still do; each run uses a new key
    #[arg(long)]
    anonymize: bool,
}

#[derive(Args, Debug)]
#[command(
    after_help = "It ends when its output is closed, or when its standard input, if a pipe or a socket, is closed."
)]
pub(super) struct StreamOut {
    #[command(flatten)]
    reading: Recorder,
}

/// Readings are taken at multiples of the interval by the wall clock, so that those of several
/// hosts coincide.
#[derive(Args, Debug)]
struct Recorder {
    #[command(flatten)]
    watch: Watch,
    /// Interval between readings, which are aligned to the wall clock: 100ms to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = cadence)]
    every: Duration,
    /// Stop after this long
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
    /// Name of this host in the output [default: its host name]
    #[arg(long = "as", value_name = "NAME", value_parser = host_name)]
    name: Option<String>,
    #[command(flatten)]
    drops: Dropping,
}

/// Parses the name of a host: a word that any terminal can show.
pub(super) fn host_name(text: &str) -> Result<String, String> {
    let fits = !text.is_empty()
        && text.len() <= 64
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "-_.:".contains(c));
    if fits {
        Ok(text.to_owned())
    } else {
        Err("expected at most 64 letters, digits, and - _ . :".to_owned())
    }
}

fn cadence(text: &str) -> Result<Duration, String> {
    let every = duration(text)?;
    let allowed = Duration::from_millis(100)..=Duration::from_secs(3600);
    if allowed.contains(&every) { Ok(every) } else { Err("expected 100ms to 1h".to_owned()) }
}

impl Record {
    /// The command listens to remote hosts.
    pub(super) fn listens(&self) -> bool {
        self.remotes.any()
    }

    pub(super) fn run(mut self) -> Result<()> {
        let mask = self.anonymize.then(Mask::new).transpose()?;
        if let Some(keep) = &self.keep {
            self.reading.every = keep.every();
        }
        let shown = sanitize(&self.file.to_string_lossy()).into_owned();
        // Before any threads are started and any privileges dropped.
        let ready = self.listens().then(|| self.reading.prepare(&mut self.remotes)).transpose()?;
        let flag = interrupted()?;
        if let Some(keep) = self.keep {
            let why = || format!("keep recordings in {shown}");
            let folder = folder(&self.file).with_context(why)?;
            let _lock = only_keeper(&folder).with_context(why)?;
            let (from, sandbox) = (self.reading.open(ready)?, Sandbox::keeping(&folder));
            let mut days = Days::new(folder.clone());
            let from = from.enter(sandbox)?;
            look_after(folder, keep)?;
            return self
                .reading
                .write(from, &mut days, mask.as_ref(), &flag, &|| false)
                .with_context(|| format!("record to {shown}"));
        }
        let file = out::make(&self.file).with_context(|| format!("create {shown}"))?;
        let nothing = |_: &_| _ = std::fs::remove_file(&self.file); // there is nothing in it
        let from = self.reading.open(ready).inspect_err(nothing)?.enter(Sandbox::new(None))?;
        let mut file = Recorded::new(self.file, file);
        self.reading
            .write(from, &mut file, mask.as_ref(), &flag, &|| false)
            .with_context(|| format!("record to {shown}"))
    }
}

/// The source of the readings.
enum RecordSource {
    Here(Box<Live>),
    Others(Ready),
}

impl RecordSource {
    /// Confines this process to what the source needs.
    fn enter(self, sandbox: Sandbox) -> Result<RecordSource> {
        match self {
            RecordSource::Here(live) => live.enter(&sandbox).map(|()| RecordSource::Here(live)),
            RecordSource::Others(ready) => {
                ready.enter(sandbox).map(|()| RecordSource::Others(ready))
            }
        }
    }
}

/// The folder for recordings, created if it does not exist. Files in it are replaced and deleted,
/// so nobody else may have write access.
fn folder(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    match DirBuilder::new().mode(0o700).create(&path) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => return Err(e.into()),
        _ => {}
    }
    let there = path.symlink_metadata()?;
    if there.is_symlink() {
        let to = path.canonicalize().map(|to| to.to_string_lossy().into_owned());
        let to = to.map_or_else(|_| "nothing".to_owned(), |to| sanitize(&to).into_owned());
        bail!("it is a symbolic link to {to}, which is not followed: name the folder itself");
    }
    ensure!(there.is_dir(), "it is not a folder, which --keep needs");
    let ours = there.uid() == nix::unistd::geteuid().as_raw() && there.mode() & 0o022 == 0;
    ensure!(ours, "others may write to it: use a folder of your own");
    Ok(path)
}

/// Locks the folder: two processes that keep it would delete each other's files.
fn only_keeper(folder: &Path) -> Result<Flock<File>> {
    let open = File::open(folder)?;
    let locked = lock::take(open.try_clone()?, FlockArg::LockExclusiveNonblock, Duration::ZERO)?;
    locked.with_context(|| format!("{} already keeps recordings there", lock::holder(&open)))
}

/// The destination of the readings.
trait Readings {
    /// Prepares for a reading taken at `time`. Returns whether the configuration must be written
    /// again.
    fn turn(&mut self, time: SystemTime) -> io::Result<bool>;
    /// Writes a reading of one host, or of several at the same moment.
    fn write(&mut self, reading: &[&Frame]) -> io::Result<()>;
    fn end(&mut self) -> io::Result<()>;
    /// Fails if what was written has been removed.
    fn is_there(&self) -> io::Result<()> {
        Ok(())
    }
}

impl<W: Write> Readings for FrameWriter<W> {
    fn turn(&mut self, _: SystemTime) -> io::Result<bool> {
        Ok(self.is_between())
    }
    fn write(&mut self, reading: &[&Frame]) -> io::Result<()> {
        self.write_all(reading.iter().copied())
    }
    fn end(&mut self) -> io::Result<()> {
        self.end_block()
    }
}

impl Readings for Recorded {
    fn turn(&mut self, _: SystemTime) -> io::Result<bool> {
        Ok(self.is_between())
    }
    fn write(&mut self, reading: &[&Frame]) -> io::Result<()> {
        self.write_all(reading.iter().copied())
    }
    fn end(&mut self) -> io::Result<()> {
        Recorded::end(self)
    }
    fn is_there(&self) -> io::Result<()> {
        Recorded::is_there(self)
    }
}

impl Readings for Days {
    fn is_there(&self) -> io::Result<()> {
        Days::is_there(self)
    }

    fn turn(&mut self, time: SystemTime) -> io::Result<bool> {
        Days::turn(self, time)
    }
    fn write(&mut self, reading: &[&Frame]) -> io::Result<()> {
        self.write_all(reading.iter().copied())
    }
    fn end(&mut self) -> io::Result<()> {
        Days::end(self)
    }
}

/// Maintains a folder of recordings in a thread that ends with the process.
fn look_after(folder: PathBuf, keep: Keep) -> Result<()> {
    const HOUR: Duration = Duration::from_secs(3600);
    let (newest, begun) = (keep::newest(&folder), Instant::now());
    let mut is_said = false;
    let look = move || {
        loop {
            let (now, passed) = (SystemTime::now(), begun.elapsed());
            let newest = newest.filter(|_| clock::error().is_none());
            let time = |end| keep::time_for(end, newest, passed, now);
            if newest.is_some_and(|newest| time(newest) < now) && !is_said {
                is_said = true;
                say(
                    "this host's clock is not synchronised: older recordings age from the time of the last one",
                );
            }
            keep::tidy(&folder, &keep, time).iter().for_each(|line| say(line));
            thread::sleep(HOUR);
        }
    };
    thread::Builder::new().name("keep".to_owned()).spawn(look).context("start a thread")?;
    Ok(())
}

impl StreamOut {
    pub(super) fn run(self) -> Result<()> {
        ensure!(
            !io::stdout().is_terminal(),
            "a stream cannot be written to a terminal: use `tmon top --from 'tmon stream'`, or write it to a file"
        );
        let flag = interrupted()?;
        let from = self.reading.open(None)?.enter(Sandbox::new(None))?;
        let end = self.reading.span.and_then(|span| Instant::now().checked_add(span));
        out::until_it_is(move || is_over() || end.is_some_and(|end| Instant::now() > end));
        self.reading.write(from, &mut FrameWriter::new(out::raw()), None, &flag, &is_over)
    }
}

/// The output is no longer read, or the process that started this one has gone.
fn is_over() -> bool {
    let is = |file: &dyn AsFd, asked: PollFlags, wanted: PollFlags| {
        let mut fds = [PollFd::new(file.as_fd(), asked)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|n| n > 0)
            && fds[0].revents().is_some_and(|r| r.intersects(wanted))
    };
    if is(&io::stdout(), PollFlags::empty(), PollFlags::POLLERR | PollFlags::POLLNVAL) {
        return true;
    }
    use nix::sys::stat::{SFlag, fstat};
    let talks = fstat(io::stdin()).is_ok_and(|s| {
        let kind = s.st_mode & SFlag::S_IFMT.bits();
        kind == SFlag::S_IFIFO.bits() || kind == SFlag::S_IFSOCK.bits()
    });
    // Input is ignored; only its end matters.
    talks
        && is(&io::stdin(), PollFlags::POLLIN, PollFlags::POLLIN | PollFlags::POLLHUP)
        && matches!(io::stdin().read(&mut [0; 4096]), Ok(0) | Err(_))
}

impl Recorder {
    /// Prepares the remote hosts to listen to.
    fn prepare(&self, remotes: &mut Remotes) -> Result<Ready> {
        self.watch.is_unused()?;
        if self.name.is_some() {
            return Err(Usage("remote hosts choose their own names".to_owned()).into());
        }
        remotes.tell_every(self.every);
        remotes.prepare(self.every)
    }

    fn open(&self, ready: Option<Ready>) -> Result<RecordSource> {
        if let Some(ready) = ready {
            return Ok(RecordSource::Others(ready));
        }
        let mut live = self.watch.open()?;
        self.drops.begin_or_say(&mut live);
        live.follow_configuration()?;
        Ok(RecordSource::Here(Box::new(live)))
    }

    /// Reads and writes until the flag is raised or `is_over`.
    fn write(
        &self,
        from: RecordSource,
        to: &mut dyn Readings,
        mask: Option<&Mask>,
        flag: &Arc<AtomicBool>,
        is_over: &dyn Fn() -> bool,
    ) -> Result<()> {
        match from {
            RecordSource::Here(live) => self.write_own(*live, to, mask, flag, is_over),
            RecordSource::Others(ready) => self.write_others(ready, to, mask, flag),
        }
    }

    fn write_own(
        &self,
        mut live: Live,
        to: &mut dyn Readings,
        mask: Option<&Mask>,
        flag: &AtomicBool,
        is_over: &dyn Fn() -> bool,
    ) -> Result<()> {
        let mut series = Series::new(0);
        let mut framing = Framing::new(self.every, self.name.as_deref());
        let end = self.span.map(|span| Instant::now() + span);
        series.push(dump::read(&mut live)?);
        loop {
            let is_gone = || to.is_there().is_err();
            let last = !self.rest(&mut live, end, flag, &|| is_over() || is_gone());
            to.is_there()?;
            let begun = Instant::now();
            let reading = dump::read(&mut live)?;
            let took = begun.elapsed();
            let overlay = reading.overlay.clone();
            let Some(interval) = series.push(reading) else { continue };
            let again = to.turn(interval.taken)?;
            let frame = framing.frame(interval.clone(), overlay, again, took);
            to.write(&[&masked(mask, frame)])?;
            if last {
                break;
            }
        }
        Ok(to.end()?)
    }

    /// Writes the frames of remote hosts as they arrive.
    fn write_others(
        &self,
        ready: Ready,
        to: &mut dyn Readings,
        mask: Option<&Mask>,
        flag: &Arc<AtomicBool>,
    ) -> Result<()> {
        let end = self.span.map(|span| Instant::now() + span);
        let remote = ready.listen(Names::default())?.until(flag).patient(patience(self.span));
        let mut remote = remote.ending(end).kept();
        let mut roll = Roll::default();
        let (mut heard, mut silent) = (false, false);
        let is_over =
            || flag.load(Ordering::Relaxed) || end.is_some_and(|end| Instant::now() >= end);
        loop {
            // Check before listening: frames that arrive until then are recorded as well.
            let last = is_over();
            let told = remote.frames(&|| to.is_there().is_err());
            to.is_there()?;
            match told {
                Ok((mut frames, notices)) => {
                    notices.iter().for_each(|notice| say(notice));
                    frames.retain(|frame| roll.take(frame));
                    if roll.overflows() {
                        say(
                            "the hosts have more addresses and devices than a recording repeats: a later part \
                             of it may not know all of them",
                        );
                    }
                    let again = !frames.is_empty() && to.turn(SystemTime::now())?;
                    let called = if again { roll.call() } else { Vec::new() };
                    let called: Vec<_> = called.into_iter().cloned().collect();
                    let all = called.into_iter().chain(frames);
                    let all: Vec<_> = all.map(|frame| masked(mask, frame)).collect();
                    let reading: Vec<_> = all.iter().collect();
                    if !reading.is_empty() {
                        to.write(&reading)?;
                        (heard, silent) = (true, false);
                    }
                }
                Err(e) if !heard && !flag.load(Ordering::Relaxed) => return Err(e),
                // Hosts that are silent for a while do not end the command.
                Err(e) if !is_over() && !std::mem::replace(&mut silent, true) => {
                    say(&format!("{e:#}"));
                }
                Err(_) => {}
            }
            if last {
                return Ok(to.end()?);
            }
        }
    }

    /// Waits for the next reading on the grid. Returns false if it is the last one.
    fn rest(
        &self,
        live: &mut Live,
        end: Option<Instant>,
        flag: &AtomicBool,
        is_over: &dyn Fn() -> bool,
    ) -> bool {
        const STEP: Duration = Duration::from_millis(250);
        let due = Instant::now() + until_next(SystemTime::now(), self.every);
        let until = end.map_or(due, |end| end.min(due));
        while Instant::now() < until {
            if dump::rest(live, until.min(Instant::now() + STEP), flag) || is_over() {
                return false;
            }
        }
        end.is_none_or(|end| due < end)
    }
}

/// The frame, with addresses and names replaced if there is a mask.
fn masked(mask: Option<&Mask>, frame: Frame) -> Frame {
    let Some(mask) = mask else { return frame };
    let local = frame.local.iter().map(|a| mask.address(*a)).collect();
    Frame { local, interval: frame.interval.under(mask), ..frame }
}

/// Makes frames of a sequence of readings.
pub(super) struct Framing {
    seq: u64,
    every: Duration,
    name: Option<Arc<str>>,
    /// The configuration of the host as last written.
    written: Option<Arc<Overlay>>,
}

impl Framing {
    /// For readings at this interval, by a host of this name, or its own name if `None`.
    pub(super) fn new(every: Duration, name: Option<&str>) -> Framing {
        Framing { seq: 0, every, name: name.map(Into::into), written: None }
    }

    /// Changes the interval between readings.
    #[cfg(feature = "nats")]
    pub(super) fn every(&mut self, every: Duration) {
        self.every = every;
    }

    /// Makes the next frame. The configuration is part of it if it has changed, or if `again`.
    pub(super) fn frame(
        &mut self,
        mut interval: Interval,
        overlay: Option<Arc<Overlay>>,
        again: bool,
        took: Duration,
    ) -> Frame {
        if again || overlay != self.written {
            interval.overlay.clone_from(&overlay);
        }
        self.written = overlay;
        if let Some(name) = &self.name {
            interval.origin.host = Arc::clone(name);
        }
        let local = interval.overlay.iter().flat_map(|o| own(o)).collect();
        let seq = self.seq;
        self.seq += 1;
        Frame {
            kind: FrameKind::Rows,
            seq,
            reading: took,
            held: Duration::ZERO,
            heard: None,
            clock: clock::error(),
            cadence: self.every,
            local,
            tool: TOOL.to_owned(),
            interval,
        }
    }
}

/// The host's own addresses by which other hosts may know it.
pub(super) fn own(overlay: &Overlay) -> Vec<std::net::IpAddr> {
    use std::net::IpAddr;
    let is_known = |a: &IpAddr| match a {
        IpAddr::V4(a) => !a.is_loopback(),
        IpAddr::V6(a) => !a.is_loopback() && !a.is_unicast_link_local(),
    };
    let mut own: Vec<_> = overlay.addresses.keys().copied().filter(is_known).collect();
    own.sort_unstable();
    own.truncate(4096);
    own
}

/// How long it is until the wall clock shows a multiple of the interval.
pub(super) fn until_next(now: SystemTime, every: Duration) -> Duration {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    dump::next_tick(since, every) - since
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readings_are_aligned_to_the_wall_clock() {
        let second = Duration::from_secs(1);
        let at = |ms| UNIX_EPOCH + Duration::from_millis(ms);
        assert_eq!(until_next(at(1_700_000_000_250), second), Duration::from_millis(750));
        assert_eq!(until_next(at(1_700_000_000_000), second), second);
        assert_eq!(until_next(at(1_700_000_001_000), 5 * second), 4 * second);
    }

    #[test]
    fn cadences_have_limits() {
        assert_eq!(cadence("5s"), Ok(Duration::from_secs(5)));
        for wrong in ["0s", "50ms", "2h", "-1s", "x"] {
            assert!(cadence(wrong).is_err(), "{wrong}");
        }
    }
}
