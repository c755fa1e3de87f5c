// SPDX-License-Identifier: MIT OR Apache-2.0
//! A folder with one recording per day in UTC. Older ones are thinned and finally deleted:
//! `1s:1d,60s:90d` keeps readings of every second for a day, and sums of a minute for ninety days.
//!
//! The thinned copy is written to a separate file that then replaces the original, so that one of
//! the two always exists. Files that are not named as days are never touched.
use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    net::IpAddr,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use foldhash::HashMap;
use jiff::{Timestamp, civil::Date, tz::TimeZone};

use crate::{
    frame::{Frame, FrameFile, FrameKind, FrameWriter},
    recorded::{Between, Said},
    roll::Roll,
};
use model::{
    fleet::{MOST_HOSTS, is_repeated},
    overlay::Overlay,
    snapshot::Interval,
    units::sanitize,
};

/// How long readings are kept, and at which interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keep(Vec<Step>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Step {
    every: Duration,
    until: Duration,
}

/// What happens to a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Stays,
    /// Its readings are replaced by sums of this length.
    Thinned(Duration),
    Deleted,
}

/// Limit on the steps.
const STEPS: usize = 4;
/// Limit on the recordings of a day, one for each start.
const STARTS: u32 = 10_000;
const DAY: Duration = Duration::from_secs(86_400);

impl Keep {
    /// Steps of an interval and the age up to which it applies.
    ///
    /// # Errors
    /// There are no steps, or they do not ascend.
    pub fn new(steps: &[(Duration, Duration)]) -> Result<Keep> {
        ensure!(
            (1..=STEPS).contains(&steps.len()),
            "expected one to {STEPS} steps, such as 1s:1d,60s:90d"
        );
        let ascend = steps.windows(2).all(|w| w[0].0 < w[1].0 && w[0].1 < w[1].1);
        ensure!(
            ascend,
            "the steps do not ascend: interval and age must both grow, as in 1s:1d,60s:90d"
        );
        ensure!(steps.iter().all(|s| s.0 < s.1), "each age must be longer than its interval");
        let all = Duration::from_millis(100)..=Duration::from_secs(3600);
        ensure!(steps.iter().all(|s| all.contains(&s.0)), "intervals must be 100ms to 1h");
        Ok(Keep(steps.iter().map(|s| Step { every: s.0, until: s.1 }).collect()))
    }

    /// The interval between readings.
    pub fn every(&self) -> Duration {
        self.0.first().map_or(Duration::from_secs(1), |step| step.every)
    }

    /// What happens to a file whose day ended at `end`, with readings this far apart.
    fn fate(&self, end: SystemTime, cadence: Duration, now: SystemTime) -> Fate {
        let age = now.duration_since(end).unwrap_or_default();
        match self.0.iter().find(|step| age < step.until) {
            None => Fate::Deleted,
            Some(step) if step.every > cadence => Fate::Thinned(step.every),
            Some(_) => Fate::Stays,
        }
    }
}

/// The day of a recording, from its name: `2026-11-30.tmon`, or `2026-11-30.2.tmon` after a
/// restart.
fn day_of(path: &Path) -> Option<Date> {
    let name = path.file_name()?.to_str()?.strip_suffix(".tmon")?;
    let (day, number) = name.split_once('.').unwrap_or((name, "2"));
    let is_number = !number.is_empty() && number.chars().all(|c| c.is_ascii_digit());
    (day.len() == 10 && is_number).then(|| day.parse().ok()).flatten()
}

/// The day of a time.
fn day_at(time: SystemTime) -> Date {
    let time = Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH);
    time.to_zoned(TimeZone::UTC).date()
}

/// The beginning of a day.
fn begin(day: Date) -> SystemTime {
    day.to_zoned(TimeZone::UTC).map_or(UNIX_EPOCH, |t| t.timestamp().into())
}

/// The recordings in a folder by name, limited to those that may have readings of a time.
///
/// # Errors
/// The folder cannot be read.
pub fn files(folder: &Path, between: Between) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let Some(day) = day_of(&path) else { continue };
        // The last reading of a day may have begun before it.
        let (from, until) = (begin(day), begin(day) + DAY);
        if between.from.is_none_or(|t| t < until) && between.until.is_none_or(|t| t + DAY > from) {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Creates a file that nobody else can read. Never overwrites an existing file or follows a link.
///
/// # Errors
/// The file exists, or cannot be created.
pub fn make(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW;
    File::options().write(true).create_new(true).mode(0o600).custom_flags(flags).open(path)
}

/// Writes readings to a separate file for each day.
pub struct Days {
    folder: PathBuf,
    day: Option<Date>,
    writer: Option<Recorded>,
}

/// A file that is being recorded to.
pub struct Recorded {
    path: PathBuf,
    file: Arc<File>,
    writer: FrameWriter<Shared>,
    is_empty: bool,
}

/// A file shared with others.
struct Shared(Arc<File>);

impl Write for Shared {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self.0).write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Recorded {
    /// A file that was created at this path.
    pub fn new(path: PathBuf, file: File) -> Recorded {
        let file = Arc::new(file);
        let writer = FrameWriter::new(Shared(Arc::clone(&file)));
        Recorded { path, file, writer, is_empty: true }
    }

    /// Whether the next reading must repeat the configuration.
    pub fn is_between(&self) -> bool {
        self.writer.is_between()
    }

    /// Writes a reading, of one host or of several. If the first one fails, the file is removed.
    ///
    /// # Errors
    /// Writing fails, or the file has been deleted.
    pub fn write_all<'a>(
        &mut self,
        reading: impl IntoIterator<Item = &'a Frame>,
    ) -> io::Result<()> {
        self.is_there()?;
        let written = self.writer.write_all(reading);
        if written.is_err() && self.is_empty {
            let _ = fs::remove_file(&self.path); // it is empty
        }
        self.is_empty = false;
        written
    }

    /// # Errors
    /// The file has been deleted.
    pub fn is_there(&self) -> io::Result<()> {
        match self.file.metadata()?.nlink() {
            0 => Err(io::Error::other("it was deleted, so nothing would be kept")),
            _ => Ok(()),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// Writing fails.
    pub fn end(&mut self) -> io::Result<()> {
        self.writer.end_block()
    }
}

impl Days {
    /// Writes to this folder.
    pub fn new(folder: PathBuf) -> Days {
        Days { folder, day: None, writer: None }
    }

    /// Prepares for a reading taken at `time`. Returns whether it must repeat the configuration.
    ///
    /// # Errors
    /// A file cannot be created.
    pub fn turn(&mut self, time: SystemTime) -> io::Result<bool> {
        let day = day_at(time);
        if self.day != Some(day) {
            self.end()?;
            self.writer = Some(self.make(day)?);
            self.day = Some(day);
        }
        Ok(self.writer.as_ref().is_none_or(Recorded::is_between))
    }

    fn make(&self, day: Date) -> io::Result<Recorded> {
        let names = (2..STARTS).map(|n| format!("{day}.{n}.tmon"));
        for name in std::iter::once(format!("{day}.tmon")).chain(names) {
            let path = self.folder.join(name);
            match make(&path) {
                Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                made => return made.map(|file| Recorded::new(path, file)),
            }
        }
        Err(io::Error::other(format!("{day} has {STARTS} recordings already")))
    }

    /// Writes a reading, of one host or of several.
    ///
    /// # Errors
    /// Writing fails.
    pub fn write_all<'a>(
        &mut self,
        reading: impl IntoIterator<Item = &'a Frame>,
    ) -> io::Result<()> {
        match &mut self.writer {
            Some(writer) => writer.write_all(reading),
            None => Err(io::Error::other("no file is open")),
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// Writing fails.
    pub fn end(&mut self) -> io::Result<()> {
        self.day = None;
        self.writer.take().map_or(Ok(()), |mut writer| writer.end())
    }

    /// # Errors
    /// The file of this day has been deleted.
    pub fn is_there(&self) -> io::Result<()> {
        self.writer.as_ref().map_or(Ok(()), Recorded::is_there)
    }
}

/// The end of the last day in a folder.
pub fn newest(folder: &Path) -> Option<SystemTime> {
    let files = files(folder, Between::default()).ok()?;
    files.iter().filter_map(|path| Some(begin(day_of(path)?) + DAY)).max()
}

/// The time by which a recording that ended at `end` ages. A host that boots with a wrong clock
/// must not delete everything: while the clock is not synchronised, recordings made before are aged
/// from the `newest` of them and the time `passed` since then.
pub fn time_for(
    end: SystemTime,
    newest: Option<SystemTime>,
    passed: Duration,
    now: SystemTime,
) -> SystemTime {
    match newest.filter(|newest| end <= *newest) {
        Some(newest) => newest.checked_add(passed).map_or(now, |then| then.min(now)),
        None => now,
    }
}

/// Thins and deletes old recordings in a folder; `now` gives the time by which a recording ages.
/// Returns what was done, one line each; failures are lines as well, and do not affect other files.
pub fn tidy(folder: &Path, keep: &Keep, now: impl Fn(SystemTime) -> SystemTime) -> Vec<String> {
    let mut said = Vec::new();
    let files = match files(folder, Between::default()) {
        Ok(files) => files,
        Err(e) => {
            return vec![format!("cannot read {}: {e}", sanitize(&folder.to_string_lossy()))];
        }
    };
    for path in files {
        let name = path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned());
        match tidy_one(&path, keep, &now) {
            Ok(None) => {}
            Ok(Some(done)) => said.push(format!("{} {done}", sanitize(&name))),
            Err(e) => said.push(format!("{} is not thinned: {e:#}", sanitize(&name))),
        }
    }
    said
}

fn tidy_one(
    path: &Path,
    keep: &Keep,
    now: &impl Fn(SystemTime) -> SystemTime,
) -> Result<Option<String>> {
    let Some(day) = day_of(path) else { return Ok(None) };
    let end = begin(day) + DAY;
    let now = now(end);
    if keep.fate(end, Duration::ZERO, now) == Fate::Deleted {
        fs::remove_file(path)?;
        return Ok(Some("deleted".to_owned()));
    }
    // A day that is not over may still be written to.
    if now <= end || keep.fate(end, Duration::ZERO, now) == Fate::Stays {
        return Ok(None);
    }
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let open = || File::options().read(true).custom_flags(flags).open(path);
    let mut frames = FrameFile::new(open()?, 0);
    let first = loop {
        match frames.next_frame()? {
            None => return Ok(None),
            Some(frame) if frame.told().counts => break frame,
            Some(_) => {}
        }
    };
    let Fate::Thinned(every) = keep.fate(end, first.cadence, now) else { return Ok(None) };
    let Some(name) = path.file_name() else { bail!("it has no name") };
    let mut beside = OsString::from(".");
    beside.push(name);
    beside.push(".new");
    let new = path.with_file_name(beside);
    match fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {} // an incomplete copy
    }
    let file = make(&new)?;
    let thinned =
        thin(FrameFile::new(open()?, 0), &file, every).and_then(|()| Ok(file.sync_all()?));
    if let Err(e) = thinned.and_then(|()| Ok(fs::rename(&new, path)?)) {
        let _ = fs::remove_file(&new);
        return Err(e.context("thin it"));
    }
    Ok(Some(format!("has a reading every {} s now", every.as_secs_f64())))
}

/// Writes readings as sums of this length, aligned to the wall clock.
///
/// # Errors
/// They cannot all be read, or writing fails.
pub fn thin(mut from: FrameFile, to: impl Write, every: Duration) -> Result<()> {
    let mut thinned = Thinned::new(to, every);
    let mut said = Said::default();
    // The sum of the current step for each host.
    let mut together: HashMap<Arc<str>, Frame> = HashMap::default();
    let mut newest = 0;
    // The last frame of each host: its start, number and time.
    let mut last: HashMap<Arc<str>, (u64, u64, SystemTime)> = HashMap::default();
    while let Some(mut frame) = from.next_frame()? {
        let host = Arc::clone(&frame.interval.origin.host);
        thinned.is_of_several |= frame.kind == FrameKind::Hello;
        ensure!(said.complete(&mut frame), "more than {MOST_HOSTS} hosts");
        if !matches!(frame.kind, FrameKind::Rows | FrameKind::Sum) {
            if frame.kind == FrameKind::End && thinned.is_of_several {
                together.remove(&host).map_or(Ok(()), |sum| thinned.write(sum))?;
                thinned.write(frame)?;
            }
            continue;
        }
        let (epoch, taken) = (frame.interval.origin.epoch, frame.interval.taken);
        if let Some((before, seq, taken)) = last.get(&host)
            && *before == epoch
            && is_repeated(&frame.told(), *seq, *taken)
        {
            continue; // a reader does not count it either
        }
        last.insert(Arc::clone(&host), (epoch, frame.seq, taken));
        // Sums of hosts that have fallen silent are written now, in the order of time.
        let now = slot(&frame, every);
        if now > newest {
            newest = now;
            let is_late = |_: &Arc<str>, sum: &mut Frame| slot(sum, every) + 1 < now;
            let late: Vec<_> = together.extract_if(is_late).map(|(_, sum)| sum).collect();
            thinned.write_all(late)?;
        }
        let same = |sum: &Frame| {
            sum.interval.origin == frame.interval.origin && slot(sum, every) == slot(&frame, every)
        };
        match together.remove(&host) {
            Some(sum) if same(&sum) => _ = together.insert(host, joined(&sum, frame)?),
            before => {
                together.insert(host, frame);
                before.map_or(Ok(()), |sum| thinned.write(sum))?;
            }
        }
    }
    // Readings lost now would be lost forever.
    if let Some(damage) = from.damage().first() {
        bail!("{damage}");
    }
    thinned.write_all(together.into_values().collect())?;
    thinned.end()
}

/// The step in which a reading ends; a reading at the end of a step is its last one.
fn slot(frame: &Frame, every: Duration) -> u128 {
    let since = frame.interval.taken.duration_since(UNIX_EPOCH).unwrap_or_default();
    // Aligned readings are a little late.
    (since + every).saturating_sub(frame.cadence / 2).as_nanos() / every.as_nanos().max(1)
}

/// The sum of two consecutive frames.
fn joined(sum: &Frame, next: Frame) -> Result<Frame> {
    let interval = Interval::sum([&sum.interval, &next.interval]).context("add two intervals")?;
    let clock = sum.clock.zip(next.clock).map(|(a, b)| a.max(b));
    Ok(Frame { interval, clock, reading: sum.reading.max(next.reading), ..next })
}

/// What was written for a host: the number of frames, and what it reports about itself.
#[derive(Default)]
struct Written {
    seq: u64,
    overlay: Option<Arc<Overlay>>,
    local: Vec<IpAddr>,
}

struct Thinned<W: Write> {
    writer: FrameWriter<W>,
    every: Duration,
    written: HashMap<Arc<str>, Written>,
    is_of_several: bool,
    roll: Roll,
    /// The frames of one step.
    reading: Vec<Frame>,
}

impl<W: Write> Thinned<W> {
    fn new(to: W, every: Duration) -> Thinned<W> {
        Thinned {
            writer: FrameWriter::new(to),
            every,
            written: HashMap::default(),
            is_of_several: false,
            roll: Roll::default(),
            reading: Vec::new(),
        }
    }

    /// Writes sums of several hosts in the order of time.
    fn write_all(&mut self, mut frames: Vec<Frame>) -> Result<()> {
        frames.sort_by(|a, b| {
            let of = |f: &Frame| (f.interval.taken, Arc::clone(&f.interval.origin.host));
            of(a).cmp(&of(b))
        });
        frames.into_iter().try_for_each(|frame| self.write(frame))
    }

    fn write(&mut self, frame: Frame) -> Result<()> {
        let next = slot(&frame, self.every);
        if self.reading.last().is_some_and(|last| slot(last, self.every) != next) {
            self.flush()?;
        }
        self.reading.push(frame);
        Ok(())
    }

    /// Writes the frames of one step.
    fn flush(&mut self) -> Result<()> {
        let mut reading = std::mem::take(&mut self.reading);
        let again = self.writer.is_between();
        for frame in &mut reading {
            let host = Arc::clone(&frame.interval.origin.host);
            let written = self.written.entry(host).or_default();
            (frame.seq, frame.cadence) = (written.seq, self.every);
            written.seq += 1;
            if self.is_of_several {
                self.roll.take(frame);
            }
            let known = (&written.overlay, &written.local);
            let is_said = (&frame.interval.overlay, &frame.local) == known;
            if is_said && (!again || self.is_of_several) {
                (frame.interval.overlay, frame.local) = (None, Vec::new());
            } else {
                written.overlay.clone_from(&frame.interval.overlay);
                written.local.clone_from(&frame.local);
            }
        }
        let called = if again && self.is_of_several { self.roll.call() } else { Vec::new() };
        self.writer
            .write_all(called.into_iter().chain(&reading))
            .context("write the thinned recording")
    }

    fn end(mut self) -> Result<()> {
        if !self.reading.is_empty() {
            self.flush()?;
        }
        Ok(self.writer.end_block()?)
    }
}

impl FromStr for Keep {
    type Err = anyhow::Error;

    /// Parses `EVERY:AGE` pairs, with times such as `1s`, `60s`, `1d`.
    fn from_str(text: &str) -> Result<Keep> {
        let time = |text: &str| -> Result<Duration> {
            let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
            let (number, unit) = text.split_at(at);
            let number: u64 = number.parse().context("expected a time such as 60s or 90d")?;
            let unit = match unit {
                "ms" => return Ok(Duration::from_millis(number)),
                "s" => 1,
                "m" | "min" => 60,
                "h" => 3600,
                "d" => 86_400,
                _ => bail!("expected a time such as 60s or 90d"),
            };
            let seconds = number.checked_mul(unit).filter(|s| *s <= 100 * 366 * 86_400);
            seconds.map(Duration::from_secs).context("expected at most a hundred years")
        };
        let step = |step: &str| -> Result<(Duration, Duration)> {
            let (every, until) =
                step.split_once(':').context("expected steps such as 1s:1d,60s:90d")?;
            Ok((time(every)?, time(until)?))
        };
        Keep::new(&text.split(',').map(step).collect::<Result<Vec<_>>>()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{frame::FrameReader, sample};
    use model::{
        flow::Count,
        interface::{Interface, Origin},
        rows::{Part, Rows},
    };

    fn at(day: &str, seconds: u64) -> SystemTime {
        begin(day.parse().expect("a day")) + Duration::from_secs(seconds)
    }

    fn frame(taken: SystemTime, packets: u64) -> Frame {
        let mut rows = Rows::default();
        let counts = [Count { packets, bytes: 100 * packets }; 2];
        rows.push(0, 0, &sample::key(7), counts, Part { swapped: false, fragments: false });
        let second = Duration::from_secs(1);
        let eth0 = vec![Interface::new(0, "eth0")];
        let mut interval = Interval::new(taken - second, taken, second, eth0, rows);
        interval.origin = Origin { host: "a".into(), netns: 1, epoch: 1 };
        Frame {
            kind: FrameKind::Rows,
            seq: 0,
            reading: Duration::ZERO,
            held: Duration::ZERO,
            heard: None,
            clock: None,
            cadence: second,
            local: vec![],
            tool: String::new(),
            interval,
        }
    }

    fn read(path: &Path) -> Vec<(u64, u64)> {
        let mut reader = FrameReader::new(File::open(path).expect("it is there")).expect("frames");
        let mut all = Vec::new();
        while let Some(f) = reader.next_frame().expect("a frame") {
            let packets = f.interval.rows.walk().map(|r| r.counts()[0].packets).sum();
            all.push((f.interval.elapsed.as_secs(), packets));
        }
        all
    }

    #[test]
    fn steps_of_keep_must_ascend() {
        let keep: Keep = "1s:1d,60s:90d".parse().expect("steps");
        assert_eq!(keep.every(), Duration::from_secs(1));
        for wrong in [
            "",
            "1s",
            "60s:90d,1s:1d",
            "1s:1d,60s:1h",
            "1s:x",
            "2h:90d",
            "10s:5s",
            "1s:99999999999d",
        ] {
            assert!(wrong.parse::<Keep>().is_err(), "{wrong}");
        }
        let end = at("2026-11-30", 0);
        let second = Duration::from_secs(1);
        let fate = |age, cadence| keep.fate(end, cadence, end + Duration::from_secs(age));
        assert_eq!(fate(3600, second), Fate::Stays);
        assert_eq!(fate(86_400, second), Fate::Thinned(60 * second));
        assert_eq!(fate(86_400, 60 * second), Fate::Stays);
        assert_eq!(fate(90 * 86_400, 60 * second), Fate::Deleted);
    }

    #[test]
    fn only_files_named_after_days_are_recordings() {
        let day = |name: &str| day_of(Path::new(name)).map(|d| d.to_string());
        assert_eq!(day("/x/2026-11-30.tmon").as_deref(), Some("2026-11-30"));
        assert_eq!(day("2026-11-30.12.tmon").as_deref(), Some("2026-11-30"));
        for other in [
            "night.tmon",
            "2026-11-31.tmon",
            ".2026-11-30.tmon.new",
            "2026-11-30.x.tmon",
            "2026-11-30",
        ] {
            assert_eq!(day(other), None, "{other}");
        }
    }

    #[test]
    fn each_day_and_each_start_has_a_file_of_its_own() {
        let folder = tempfile::tempdir().expect("a folder");
        for start in 0..2 {
            let mut days = Days::new(folder.path().to_owned());
            for time in [at("2026-11-29", 86_399), at("2026-11-30", 1), at("2026-11-30", 2)] {
                let again = days.turn(time).expect("a file");
                assert_eq!(again, time != at("2026-11-30", 2), "start {start}");
                days.write_all([&frame(time, 1)]).expect("it is written");
            }
            days.end().expect("it is written");
        }
        let all = files(folder.path(), Between::default()).expect("files");
        let names: Vec<_> = all.iter().filter_map(|f| f.file_name()?.to_str()).collect();
        let expected =
            ["2026-11-29.2.tmon", "2026-11-29.tmon", "2026-11-30.2.tmon", "2026-11-30.tmon"];
        assert_eq!(names, expected);
        let late = Between { from: Some(at("2026-11-30", 0)), until: None };
        assert_eq!(files(folder.path(), late).expect("files").len(), 2);
        assert_eq!(read(&all[3]), [(1, 1), (1, 1)]);
    }

    #[test]
    fn a_recording_of_several_hosts_is_thinned_by_host() {
        let mut raw = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = FrameWriter::new(&mut raw);
        let mut roll = Roll::default();
        let tells = |host: &str, n| {
            let mut told = Frame { seq: n, ..frame(at("2026-11-30", n), n) };
            told.interval.origin.host = host.into();
            told.local = if n == 1 { vec![[10, 0, 0, 1].into()] } else { vec![] };
            told
        };
        for n in 1..=150 {
            let both = [tells("a", n), tells("b", n)];
            let told: Vec<_> = both.iter().filter(|frame| roll.take(frame)).collect();
            let called = if writer.is_between() { roll.call() } else { vec![] };
            writer.write_all(called.into_iter().chain(told)).expect("it is written");
        }
        writer.end_block().expect("it is written");
        let mut thinned = Vec::new();
        let from = FrameFile::new(raw.reopen().expect("it is there"), 0);
        thin(from, &mut thinned, Duration::from_secs(60)).expect("it is thinned");
        let mut reader = FrameReader::new(io::Cursor::new(thinned)).expect("frames");
        let mut all = Vec::new();
        while let Some(f) = reader.next_frame().expect("a frame") {
            let packets: u64 = f.interval.rows.walk().map(|r| r.counts()[0].packets).sum();
            all.push((f.kind, f.interval.origin.host.to_string(), f.seq, packets));
        }
        let greets = |host: &str| (FrameKind::Hello, host.to_owned());
        let of = |all: &[(FrameKind, String, u64, u64)]| {
            all.iter().map(|f| (f.0, f.1.clone())).collect::<Vec<_>>()
        };
        assert_eq!(of(&all[..2]), [greets("a"), greets("b")], "greetings come first");
        for host in ["a", "b"] {
            let own: Vec<_> = all[2..].iter().filter(|f| f.1 == host).map(|f| (f.2, f.3)).collect();
            assert_eq!(own, [(0, 1830), (1, 5430), (2, 4065)], "{host}");
        }
    }

    #[test]
    fn a_host_that_falls_silent_is_thinned_at_its_own_time() {
        let mut raw = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = FrameWriter::new(&mut raw);
        let tells = |host: &str, n| {
            let mut told = Frame { seq: n, ..frame(at("2026-11-30", n), 1) };
            told.interval.origin.host = host.into();
            told
        };
        for n in 1..=600 {
            writer.write(&tells("a", n)).expect("it is written");
            if n <= 90 || n > 500 {
                writer.write(&tells("b", n)).expect("it is written");
            }
        }
        writer.end_block().expect("it is written");
        let mut thinned = Vec::new();
        let from = FrameFile::new(raw.reopen().expect("it is there"), 0);
        thin(from, &mut thinned, Duration::from_secs(60)).expect("it is thinned");
        let mut reader = FrameReader::new(io::Cursor::new(thinned)).expect("frames");
        let (mut latest, mut packets) = (UNIX_EPOCH, [0; 2]);
        while let Some(f) = reader.next_frame().expect("a frame") {
            let taken = f.interval.taken;
            assert!(taken + Duration::from_secs(60) > latest, "{taken:?} comes behind {latest:?}");
            latest = latest.max(taken);
            let own = usize::from(&*f.interval.origin.host == "b");
            packets[own] += f.interval.rows.walk().map(|r| r.counts()[0].packets).sum::<u64>();
        }
        assert_eq!(packets, [600, 190]);
    }

    #[test]
    fn a_clock_far_ahead_ages_no_recording() {
        let folder = tempfile::tempdir().expect("a folder");
        let before = folder.path().join("2026-11-29.tmon");
        fs::write(&before, "what was recorded").expect("a file");
        let newest = newest(folder.path());
        assert_eq!(newest, Some(at("2026-11-30", 0)));
        let keep: Keep = "1s:1d,60s:90d".parse().expect("steps");
        let (now, hour) = (at("2027-11-30", 7), Duration::from_secs(3600));
        let tidied =
            |newest, passed| tidy(folder.path(), &keep, |end| time_for(end, newest, passed, now));
        assert_eq!((tidied(newest, Duration::ZERO).len(), before.exists()), (0, true));
        // Recordings made meanwhile age by the current clock, and a synchronised clock is trusted.
        assert_eq!(time_for(at("2027-11-30", 0), newest, hour, now), now);
        assert_eq!(
            time_for(at("2026-11-29", 0), newest, hour, at("2026-11-30", 60)),
            at("2026-11-30", 60)
        );
        assert_eq!((tidied(None, hour).len(), before.exists()), (1, false));
    }

    #[test]
    fn deleting_a_file_while_recording_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("night.tmon");
        let mut file = Recorded::new(path.clone(), make(&path).expect("a file"));
        file.write_all([&frame(at("2026-11-29", 1), 1)]).expect("it is written");
        fs::remove_file(&path).expect("it is there");
        let e = file.write_all([&frame(at("2026-11-29", 2), 1)]).expect_err("it is gone");
        assert!(e.to_string().contains("deleted"), "{e}");
    }

    #[test]
    fn no_empty_file_is_left_if_writing_fails() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("night.tmon");
        make(&path).expect("a file");
        let unwritable = File::open(&path).expect("for reading only");
        let mut file = Recorded::new(path.clone(), unwritable);
        file.write_all([&frame(at("2026-11-29", 1), 1)]).expect_err("it cannot be written");
        assert!(!path.exists());
    }

    #[test]
    fn old_days_are_thinned_and_older_ones_deleted_and_nothing_else_is_touched() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut days = Days::new(folder.path().to_owned());
        for day in ["2026-11-01", "2026-11-20", "2026-11-30"] {
            for n in 1..=150 {
                days.turn(at(day, n)).expect("a file");
                days.write_all([&frame(at(day, n), n)]).expect("it is written");
            }
        }
        days.end().expect("it is written");
        let of = |name: &str| folder.path().join(name);
        fs::write(of("2026-10-01.tmon"), "no recording").expect("a file");
        fs::write(of("2026-11-19.tmon"), "no recording").expect("a file");
        // Damage must not become permanent.
        let mut damaged = fs::read(of("2026-11-20.tmon")).expect("it is there");
        damaged[500] ^= 1;
        fs::write(of("2026-11-18.tmon"), &damaged).expect("a file");
        fs::write(of("mine.tmon"), "mine").expect("a file");
        let keep: Keep = "1s:1d,60s:20d".parse().expect("steps");
        let now = at("2026-11-30", 200);
        let said = tidy(folder.path(), &keep, |_| now).join("\n");
        assert!(
            said.contains("2026-10-01.tmon deleted") && said.contains("2026-11-01.tmon deleted"),
            "{said}"
        );
        assert!(said.contains("2026-11-20.tmon has a reading every 60 s now"), "{said}");
        assert!(said.contains("2026-11-19.tmon is not thinned"), "{said}");
        assert!(said.contains("2026-11-18.tmon is not thinned: thin it: bytes 0 to "), "{said}");
        assert_eq!(fs::read(of("2026-11-18.tmon")).expect("it is there"), damaged);
        assert_eq!(read(&of("2026-11-20.tmon")), [(60, 1830), (60, 5430), (30, 4065)]);
        assert_eq!(read(&of("2026-11-30.tmon")).len(), 150, "today is not over");
        assert_eq!(fs::read(of("mine.tmon")).expect("it is there"), b"mine");
        assert_eq!(
            tidy(folder.path(), &keep, |_| now).len(),
            2,
            "only unreadable files are reported again"
        );
        assert_eq!(fs::read_dir(folder.path()).expect("files").count(), 5);
    }
}
