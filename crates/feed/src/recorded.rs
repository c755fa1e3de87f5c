// SPDX-License-Identifier: MIT OR Apache-2.0
//! Recordings made by `tmon record`, as intervals in order of time.
//!
//! A file truncated by a crash is read up to its last complete reading; damaged blocks are skipped.
//! Several files of one host form one recording; files of several hosts form a fleet, as does one
//! file of several hosts.
use std::{
    fs::File,
    mem,
    net::IpAddr,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, bail, ensure};
use foldhash::{HashMap, HashSet};

use crate::{
    frame::{Frame, FrameFile, FrameKind, block_after, has_frames},
    source::Reading,
};
use model::{
    beside::Beside,
    fleet::{Fleet, MOST_HOSTS},
    history,
    interface::Origin,
    overlay::Overlay,
    snapshot::{Interval, Snapshot},
    units::sanitize,
};

/// Limit on the intervals that are kept separate, however small they are.
const MOST: usize = 7200;

/// A range of time; unlimited by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Between {
    /// Excludes everything that ended before.
    pub from: Option<SystemTime>,
    /// Excludes everything that began after.
    pub until: Option<SystemTime>,
}

impl Between {
    fn holds(&self, interval: &Interval) -> bool {
        self.from.is_none_or(|from| interval.taken > from)
            && self.until.is_none_or(|until| interval.since < until)
    }
}

/// Recordings, with their intervals in order of time.
pub struct Recordings {
    files: Vec<Tape>,
    between: Between,
    /// Interfaces by namespace and name, in the order of their numbers in all files.
    known: Vec<(Option<String>, String)>,
    size: u64,
    notes: Vec<String>,
    /// How far each start of each host has been read, and from which file.
    covered: HashMap<Origin, Covered>,
    /// The file that is being read, if all are of one host.
    current: Option<usize>,
    /// Whether overlapping recordings of one host were reported.
    overlap_is_said: bool,
    /// The state of merging, if there are several hosts.
    merge: Option<Merge>,
}

/// Merges the readings of several hosts by moment.
struct Merge {
    fleet: Fleet,
    before: Option<Snapshot>,
    /// The moment that is being merged, and the tolerance for times that belong to it.
    moment: Option<(SystemTime, Duration)>,
    /// The frames of that moment: counted once all their hosts and addresses are known.
    told: Vec<(u16, Frame)>,
    /// Which hosts have reported it: the second reading of a host belongs to another moment,
    /// whatever its time.
    hosts: HashSet<Arc<str>>,
    /// When the last of them arrived.
    heard: Duration,
}

/// The latest reading of one start.
struct Covered {
    file: usize,
    taken: SystemTime,
    seq: u64,
    cadence: Duration,
}

/// A file.
struct Tape {
    name: String,
    reader: FrameFile,
    /// How many of its readings are also in other files.
    copies: u64,
    next: Option<Frame>,
    /// What hosts have said about themselves.
    said: Said,
    /// Whether it is a recording of a fleet, with greetings of hosts.
    several: bool,
}

/// Limit on what all hosts together say about themselves: addresses, and the parts of overlays.
pub(crate) const MOST_SAID: usize = 1 << 20;

/// What hosts report only once.
#[derive(Default)]
pub(crate) struct Said {
    hosts: HashMap<Arc<str>, SaidOnce>,
    size: usize,
}

#[derive(Default)]
struct SaidOnce {
    overlay: Option<Arc<Overlay>>,
    local: Vec<IpAddr>,
}

/// Whether a file is a recording, by its first bytes. Files that cannot be examined without
/// consuming them, such as pipes, are not.
pub fn is_recording(path: &Path) -> bool {
    let is_named_so = path.extension().is_some_and(|e| e == "tmon");
    // Opening a pipe would wait for a writer.
    path.is_file()
        && File::open(path).is_ok_and(|f| has_frames(&f, is_named_so).unwrap_or_default())
}

impl Recordings {
    /// Opens recordings.
    ///
    /// # Errors
    /// A file cannot be opened, is not a recording, or is named twice.
    pub fn open(paths: &[PathBuf], between: Between) -> Result<Recordings> {
        let (mut size, mut same) = (0, HashMap::default());
        let mut files = Vec::with_capacity(paths.len());
        for path in paths {
            let name = sanitize(&path.to_string_lossy()).into_owned();
            let why = || format!("read {name}");
            let file = File::open(path).with_context(why)?;
            let there = file.metadata().with_context(why)?;
            if let Some(first) = same.insert((there.dev(), there.ino()), name.clone()) {
                bail!("{first} and {name} are the same file: it would count twice");
            }
            let length = there.len();
            let begin = match between.from {
                Some(from) => block_after(&file, from).with_context(why)?,
                None => 0,
            };
            if begin >= length && length > 0 {
                continue; // it ended before
            }
            size += length - begin;
            let reader = FrameFile::new(file, begin);
            let said = Said::default();
            files.push(Tape { name, reader, copies: 0, next: None, said, several: false });
        }
        let mut all = Recordings {
            files,
            between,
            known: Vec::new(),
            size,
            notes: Vec::new(),
            covered: HashMap::default(),
            current: None,
            overlap_is_said: false,
            merge: None,
        };
        for i in 0..all.files.len() {
            all.advance(i)?;
        }
        let mut hosts =
            all.files.iter().filter_map(|f| Some(&f.next.as_ref()?.interval.origin.host));
        let differ = hosts.next().is_some_and(|first| hosts.any(|host| host != first));
        if differ || all.files.iter().any(|f| f.several) {
            let fleet = Fleet::new(Origin { host: "fleet".into(), ..Origin::default() });
            all.merge = Some(Merge {
                fleet,
                before: None,
                moment: None,
                told: Vec::new(),
                hosts: HashSet::default(),
                heard: Duration::ZERO,
            });
        }
        Ok(all)
    }

    /// The next interval.
    ///
    /// # Errors
    /// A file cannot be read, or has invalid contents.
    pub fn next_interval(&mut self) -> Result<Option<Interval>> {
        if self.merge.is_none() {
            return Ok(self.next_frame()?.map(|mut frame| {
                number(&mut self.known, &mut frame.interval);
                frame.interval
            }));
        }
        loop {
            let next = self.next_taken();
            let host =
                next.and_then(|(_, i)| Some(&self.files[i].next.as_ref()?.interval.origin.host));
            let Some(merge) = &mut self.merge else { return Ok(None) };
            let has_reported = host.is_some_and(|host| merge.hosts.contains(host));
            match (merge.moment, next) {
                (Some((at, near)), next)
                    if has_reported || next.is_none_or(|(t, _)| t > at + near) =>
                {
                    merge.moment = None;
                    merge.hosts.clear();
                    merge.fleet.look(merge.heard);
                    for (host, frame) in merge.told.drain(..) {
                        merge.fleet.count_all(host, &frame.interval);
                    }
                    // A late host reports a moment that has already been merged.
                    let taken = merge.before.as_ref().map(|before| before.taken);
                    if next.is_some() && taken == Some(merge.fleet.taken()) {
                        continue;
                    }
                    let now = merge.fleet.snapshot();
                    let interval = match &merge.before {
                        Some(before) => now.since(before),
                        None => now.total(),
                    };
                    merge.before = Some(now);
                    self.notes.extend(merge.fleet.notices());
                    return Ok(Some(interval));
                }
                (None, None) => return Ok(None),
                _ => {}
            }
            let Some(frame) = self.next_frame()? else { continue };
            let Some(merge) = &mut self.merge else { return Ok(None) };
            let (taken, near) = (frame.interval.taken, frame.cadence / 2);
            let (_, least) = merge.moment.get_or_insert((taken, near));
            *least = near.min(*least);
            merge.hosts.insert(Arc::clone(&frame.interval.origin.host));
            let heard = frame.heard.unwrap_or(taken);
            let now = heard.duration_since(UNIX_EPOCH).unwrap_or_default();
            merge.heard = now;
            if let Some(host) = merge.fleet.follow(&frame.told(), now) {
                merge.told.push((host, frame));
            }
        }
    }

    /// The names of hosts, if there are several.
    pub fn names(&self) -> HashMap<IpAddr, String> {
        self.merge.as_ref().map(|m| m.fleet.names()).unwrap_or_default()
    }

    /// The earliest reading of all files; with one host, the next of the current file.
    fn next_taken(&self) -> Option<(SystemTime, usize)> {
        let taken = |i: usize| Some((self.files.get(i)?.next.as_ref()?.interval.taken, i));
        let earliest = || (0..self.files.len()).filter_map(taken).min();
        self.current.filter(|_| self.merge.is_none()).and_then(taken).or_else(earliest)
    }

    fn next_frame(&mut self) -> Result<Option<Frame>> {
        while let Some((_, i)) = self.next_taken() {
            let frame = self.files[i].next.take();
            self.advance(i)?;
            self.current = Some(i);
            let Some(frame) = frame else { continue };
            if self.is_new(i, &frame) {
                return Ok(Some(frame));
            }
            self.files[i].copies += 1;
        }
        for tape in self.files.iter_mut().filter(|tape| tape.copies > 0) {
            let (name, n) = (&tape.name, mem::take(&mut tape.copies));
            let s = if n == 1 { "" } else { "s" };
            self.notes
                .push(format!("{name}: skipped {n} reading{s} that are also in another file"));
        }
        Ok(None)
    }

    /// Whether no other file has this reading, by itself or in a sum. Records how far each start
    /// has been read.
    fn is_new(&mut self, file: usize, frame: &Frame) -> bool {
        let (origin, taken) = (&frame.interval.origin, frame.interval.taken);
        let read = self.covered.get(origin).filter(|read| read.file != file);
        let is_copy = read.is_some_and(|read| {
            // The sequence continues even if the clock was set back.
            let is_one = frame.seq <= read.seq || frame.cadence != read.cadence;
            is_one && frame.interval.since + frame.cadence / 2 < read.taken
        });
        if is_copy {
            return false;
        }
        let is_other = |(of, read): (&Origin, &Covered)| {
            of.host == origin.host
                && of != origin
                && read.file != file
                && frame.interval.since + frame.cadence < read.taken
        };
        let may_overlap = self.files.len() > 1 && !self.overlap_is_said;
        if may_overlap && self.covered.iter().any(is_other) {
            self.overlap_is_said = true;
            self.notes.push(format!(
                "{} made two recordings at the same time: what both saw is counted twice",
                sanitize(&origin.host)
            ));
        }
        let (seq, cadence) = (frame.seq, frame.cadence);
        let latest =
            self.covered.get(origin).filter(|read| read.file == file && read.taken > taken);
        let taken = latest.map_or(taken, |read| read.taken);
        self.covered.insert(origin.clone(), Covered { file, taken, seq, cadence });
        true
    }

    /// The bytes read so far, and the total.
    pub fn position(&self) -> (u64, u64) {
        (self.files.iter().map(|tape| tape.reader.position()).sum(), self.size)
    }

    /// Returns errors; to be called at the end.
    ///
    /// # Errors
    /// Parts that could not be read: which, and where.
    pub fn end(&self) -> Result<()> {
        const SAID: usize = 3;
        let damage = |tape: &Tape| {
            let name = tape.name.clone();
            tape.reader.damage().iter().map(move |d| format!("{name}: {d}")).collect::<Vec<_>>()
        };
        let mut lines: Vec<String> = self.files.iter().flat_map(damage).collect();
        let more = lines.len().saturating_sub(SAID);
        lines.truncate(SAID);
        if more > 0 {
            lines.push(format!("{more} more places are damaged"));
        }
        ensure!(lines.is_empty(), "{}", lines.join("; "));
        Ok(())
    }

    /// Remarks about the files, one per line.
    pub fn notes(&mut self) -> Vec<String> {
        mem::take(&mut self.notes)
    }

    fn advance(&mut self, file: usize) -> Result<()> {
        let tape = &mut self.files[file];
        loop {
            let frame = tape.reader.next_frame().with_context(|| format!("read {}", tape.name))?;
            let Some(frame) = frame else {
                if !tape.reader.is_whole() {
                    self.notes.push(format!("{} is truncated after its last reading", tape.name));
                }
                return Ok(());
            };
            let Some(frame) = tape.take(frame) else { continue };
            if self.between.holds(&frame.interval) {
                tape.next = Some(frame);
                return Ok(());
            }
        }
    }
}

impl Tape {
    /// Processes a frame: completes it with what the host said before.
    fn take(&mut self, mut frame: Frame) -> Option<Frame> {
        self.several |= frame.kind == FrameKind::Hello;
        self.said.complete(&mut frame);
        let leaves = self.several && frame.kind == FrameKind::End;
        (leaves || matches!(frame.kind, FrameKind::Rows | FrameKind::Sum)).then_some(frame)
    }
}

impl Said {
    /// Fills in what a frame leaves out because it has not changed. Returns false if there are too
    /// many hosts.
    pub(crate) fn complete(&mut self, frame: &mut Frame) -> bool {
        let host = &frame.interval.origin.host;
        if !self.hosts.contains_key(host) && self.hosts.len() >= MOST_HOSTS {
            return false;
        }
        let known = self.hosts.entry(Arc::clone(host)).or_default();
        let overlay = &mut frame.interval.overlay;
        match overlay {
            Some(overlay) => {
                self.size -= known.overlay.take().map_or(0, |before| before.size());
                if self.size + overlay.size() <= MOST_SAID {
                    self.size += overlay.size();
                    known.overlay = Some(Arc::clone(overlay));
                }
            }
            None => overlay.clone_from(&known.overlay),
        }
        match frame.local.is_empty() {
            false => {
                self.size -= std::mem::take(&mut known.local).len();
                if self.size + frame.local.len() <= MOST_SAID {
                    self.size += frame.local.len();
                    known.local.clone_from(&frame.local);
                }
            }
            true => frame.local.clone_from(&known.local),
        }
        true
    }
}

/// Gives interfaces the same number in all files; in each file they count from zero.
fn number(known: &mut Vec<(Option<String>, String)>, interval: &mut Interval) {
    let mut changed = Vec::new();
    for i in interval.interfaces.iter_mut().filter(|i| i.id != model::interface::GONE) {
        let same = |(netns, name): &(Option<String>, String)| *netns == i.netns && *name == i.name;
        let place = known.iter().position(same).unwrap_or_else(|| {
            known.push((i.netns.clone(), i.name.clone()));
            known.len() - 1
        }) as u64;
        if place != i.id {
            changed.push((i.id, place));
            i.id = place;
        }
    }
    if changed.is_empty() || interval.beside.is_empty() {
        return;
    }
    let now = |id: u64| changed.iter().find(|(before, _)| *before == id).map_or(id, |c| c.1);
    interval.beside = Arc::new(Beside::new(interval.beside.read().clone().renumbered(now)));
}

/// Intervals in bounded memory: if they take too much, neighbours are merged.
pub(crate) struct Past {
    intervals: Vec<Interval>,
    /// How many recorded intervals each one has, except for the last.
    each: usize,
    in_last: usize,
    bytes: usize,
    most: usize,
    /// How many intervals were dropped for lack of room.
    lost: usize,
}

impl Past {
    pub(crate) fn within(bytes: usize) -> Past {
        Past { intervals: Vec::new(), each: 1, in_last: 0, bytes: 0, most: bytes, lost: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    pub(crate) fn push(&mut self, interval: Interval) {
        // Only neighbours from the same start are merged.
        let joins = |last: &Interval| last.origin == interval.origin;
        match self.intervals.last_mut() {
            Some(last) if self.in_last < self.each && joins(last) => {
                self.bytes -= history::bytes(last);
                if let Some(sum) = Interval::sum([&*last, &interval]) {
                    *last = sum;
                }
                self.bytes += history::bytes(last);
                self.in_last += 1;
            }
            _ => {
                self.bytes += history::bytes(&interval);
                self.intervals.push(interval);
                self.in_last = 1;
            }
        }
        while self.intervals.len() > 1 && (self.bytes > self.most || self.intervals.len() > MOST) {
            let before = self.intervals.len();
            self.halve();
            if self.intervals.len() == before {
                self.intervals.remove(0);
                self.lost += 1;
                self.bytes = self.intervals.iter().map(history::bytes).sum();
            }
        }
    }

    fn halve(&mut self) {
        let mut halved: Vec<Interval> = Vec::with_capacity(self.intervals.len() / 2 + 1);
        let mut all = mem::take(&mut self.intervals).into_iter().peekable();
        while let Some(first) = all.next() {
            let second = all.next_if(|second| second.origin == first.origin);
            let both = second.and_then(|second| Interval::sum([&first, &second]));
            halved.push(both.unwrap_or(first));
        }
        self.intervals = halved;
        self.each = self.each.saturating_mul(2);
        self.bytes = self.intervals.iter().map(history::bytes).sum();
    }

    /// Everything so far, with the totals.
    pub(crate) fn reading(&self, mut notices: Vec<String>) -> Reading {
        if self.lost > 0 {
            notices.push(format!(
                "the oldest {} starts do not fit and are left out: read a part with --between, or raise --history",
                self.lost
            ));
        }
        let all = Interval::sum(&self.intervals).unwrap_or_else(|| {
            let never = SystemTime::UNIX_EPOCH;
            Interval::new(never, never, Default::default(), vec![], Default::default())
        });
        Reading { past: self.intervals.clone(), notices, ..Reading::from(all.snapshot()) }
    }
}

/// Parses a time: `2026-11-30T06:30:00Z`; without an offset it is UTC.
///
/// # Errors
/// It is not a time.
pub fn time(text: &str) -> Result<SystemTime> {
    let timestamp = text.parse::<jiff::Timestamp>().ok();
    let civil = || {
        let civil: jiff::civil::DateTime = text.parse().ok()?;
        civil.to_zoned(jiff::tz::TimeZone::UTC).ok().map(|z| z.timestamp())
    };
    let time = timestamp.or_else(civil).context("expected a time such as 2026-11-30T06:30:00Z")?;
    Ok(time.into())
}

impl std::str::FromStr for Between {
    type Err = anyhow::Error;

    /// Parses `FROM..UNTIL`, either of which may be omitted.
    fn from_str(text: &str) -> Result<Between> {
        let (from, until) =
            text.split_once("..").context("expected two times with `..` between them")?;
        let of = |t: &str| if t.is_empty() { Ok(None) } else { time(t).map(Some) };
        let between = Between { from: of(from)?, until: of(until)? };
        ensure!(between != Between::default(), "expected two times with `..` between them");
        let backwards = between.from.zip(between.until).is_some_and(|(from, until)| from >= until);
        ensure!(!backwards, "the first time is not before the second");
        Ok(between)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{frame::FrameWriter, roll::Roll, sample};
    use model::{
        beside::{Claim, ClaimMessage, Claimed, Gathered, Handshakes, Opener},
        flow::{Count, Flow, Hook, Inner, Key, Pair},
        interface::Interface,
        rows::{Part, Rows},
    };

    fn t(n: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(1000 + n)
    }

    fn frame(host: &str, epoch: u64, at: u64, rows: u32) -> Frame {
        let mut all = Rows::default();
        for id in 0..rows {
            let one = Count { packets: 1, bytes: 100 };
            all.push(id, 0, &sample::key(id), [one; 2], Part { swapped: false, fragments: false });
        }
        let second = Duration::from_secs(1);
        let interfaces = vec![Interface::new(epoch, "eth0")];
        let mut interval = Interval::new(t(at), t(at + 1), second, interfaces, all);
        interval.origin = Origin { host: host.into(), netns: 1, epoch };
        Frame {
            kind: FrameKind::Rows,
            seq: at,
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

    fn file(frames: &[Frame]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = FrameWriter::new(&mut file);
        frames.iter().for_each(|f| writer.write(f).expect("it is written"));
        writer.end_block().expect("it is written");
        file
    }

    fn read(files: &[&tempfile::NamedTempFile], between: Between) -> Result<Vec<Interval>> {
        let paths: Vec<_> = files.iter().map(|f| f.path().to_owned()).collect();
        let mut all = Recordings::open(&paths, between)?;
        let mut intervals = Vec::new();
        while let Some(interval) = all.next_interval()? {
            intervals.push(interval);
        }
        Ok(intervals)
    }

    #[test]
    fn files_of_one_host_are_read_in_order_of_time() {
        let late = file(&[frame("a", 3, 20, 1), frame("a", 3, 21, 2)]);
        let early = file(&[frame("a", 9, 5, 3)]);
        let all = read(&[&late, &early], Between::default()).expect("they are read");
        let rows: Vec<_> = all.iter().map(|i| i.rows.len()).collect();
        assert_eq!(rows, [3, 1, 2]);
        assert!(all.iter().all(|i| i.interfaces[0].id == 0), "it is the same interface");
        assert!(is_recording(late.path()));
    }

    #[test]
    fn data_beside_the_rows_moves_with_its_interface() {
        let mut one = frame("a", 3, 20, 1);
        let key = one.interval.rows.iter().next().expect("a row").key;
        let opener = Opener { interface: 3, key, hook: Hook::Rx };
        let claim = Claim {
            interface: 3,
            tunnel: key.outermost,
            from: [10, 0, 0, 1].into(),
            to: [10, 0, 0, 2].into(),
            who: [10, 0, 0, 3].into(),
            message: ClaimMessage::Icmp([3, 4]),
            hook: Hook::Tx,
        };
        let mut known = Gathered { unfollowed: 1, displaced: 2, ..Gathered::default() };
        known.add_handshakes([(opener, Handshakes { syns: 9, ..Handshakes::default() })]);
        known.add_claims([(claim, Claimed { packets: 1, ..Claimed::default() })]);
        one.interval.beside = Arc::new(Beside::new(known));
        let all = read(&[&file(&[one])], Between::default()).expect("it is read");
        let flow = all[0].rows.iter().next().expect("a row");
        assert_eq!(all[0].handshakes(&flow).map(|n| n.syns), Some(9));
        assert!(all[0].beside.claims().keys().all(|c| c.interface == 0));
        assert_eq!((all[0].beside.unfollowed(), all[0].beside.displaced()), (1, 2));
    }

    #[test]
    fn a_clock_set_back_hides_nothing() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = FrameWriter::new(&mut file);
        for at in [20, 21, 90_020, 90_021, 22, 23] {
            writer.write(&frame("a", 1, at, 1)).expect("it is written");
            writer.end_block().expect("it is written");
        }
        drop(writer);
        let t = |n: u64| Some(UNIX_EPOCH + Duration::from_secs(1000 + n));
        let count = |from, until| {
            read(&[&file], Between { from: t(from), until: t(until) }).expect("it is read").len()
        };
        assert_eq!([count(90_000, 91_000), count(22, 100), count(0, 100_000)], [2, 2, 6]);
    }

    #[test]
    fn files_of_several_hosts_are_a_fleet() {
        let a = file(&[frame("a", 1, 5, 1), frame("a", 1, 6, 1), frame("a", 1, 7, 1)]);
        let b = file(&[frame("b", 2, 6, 3), frame("b", 2, 7, 3)]);
        let all = read(&[&a, &b], Between::default()).expect("they are read");
        let names = |i: &Interval| i.interfaces.iter().map(|i| i.name.clone()).collect::<Vec<_>>();
        let told: Vec<_> = all.iter().map(|i| (names(i).join(" "), i.elapsed.as_secs())).collect();
        let expected = [("a", 1), ("a b", 1), ("a b", 1)];
        assert_eq!(told, expected.map(|(names, n)| (names.to_owned(), n)));
        let packets = |i: &Interval| i.rows.iter().map(|f| f.counters.total().packets).sum::<u64>();
        assert_eq!(all.iter().map(packets).collect::<Vec<_>>(), [2, 8, 8]);
    }

    /// A frame of one of two hosts that send each other ten packets a second.
    fn talks(own: u8, at: u64, every: u64) -> Frame {
        let host = |n: u8| IpAddr::from([10, 0, 0, n]);
        let outer = Some(Pair { first: host(1), second: host(2) });
        let inner = Inner::Pair(Pair { first: host(101), second: host(102) });
        let key = Key { outer, inner, ..sample::key(7) };
        let count = Count { packets: 10 * every, bytes: 1000 * every };
        let mut rows = Rows::default();
        rows.push(0, 0, &key, [count; 2], Part { swapped: own == 1, fragments: false });
        let cadence = Duration::from_secs(every);
        let mut frame = frame(if own == 1 { "a" } else { "b" }, u64::from(own), at, 0);
        let interfaces = frame.interval.interfaces.clone();
        let origin = frame.interval.origin.clone();
        frame.interval = Interval::new(t(at), t(at + every), cadence, interfaces, rows);
        frame.interval.origin = origin;
        Frame { cadence, seq: at / every, local: vec![host(own)], ..frame }
    }

    #[test]
    fn a_host_that_reports_seldom_is_not_taken_for_silent() {
        for every in [1, 5, 30, 120] {
            let seldom: Vec<_> = (0..600 / every).map(|n| talks(2, n * every, every)).collect();
            let often: Vec<_> = (0..600).map(|n| talks(1, n, 1)).collect();
            let all = read(&[&file(&often), &file(&seldom)], Between::default()).expect("read");
            let mut series = crate::series::Series::new(0);
            series.look_for_findings(model::detect::Known::default());
            all.into_iter().for_each(|interval| series.step(interval));
            let found: Vec<_> = series.findings().map(|f| f.text.clone()).collect();
            assert!(found.is_empty(), "every {every} s: {found:?}");
        }
    }

    /// A recording of these moments of several hosts, as a listener would write it.
    fn several(moments: &[Vec<Frame>]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        let mut writer = FrameWriter::new(&mut file);
        let mut roll = Roll::default();
        for told in moments {
            let told: Vec<_> = told.iter().filter(|frame| roll.take(frame)).collect();
            let called = if writer.is_between() { roll.call() } else { vec![] };
            writer.write_all(called.into_iter().chain(told)).expect("it is written");
        }
        writer.end_block().expect("it is written");
        file
    }

    #[test]
    fn a_file_of_several_hosts_is_a_fleet_from_any_start() {
        let own = |host: &str| -> Vec<IpAddr> { vec![[10, 0, 0, host.len() as u8].into()] };
        let tells = |host: &str, at, rows| {
            let local = if at == 0 { own(host) } else { vec![] };
            Frame {
                heard: Some(t(at + 1) + Duration::from_millis(300)),
                local,
                ..frame(host, 1, at, rows)
            }
        };
        let moments: Vec<_> = (0..130)
            .map(|at| match at {
                0..100 => vec![tells("a", at, 1), tells("bb", at, 3)],
                100 => {
                    vec![tells("a", at, 1), Frame { kind: FrameKind::End, ..tells("bb", at, 0) }]
                }
                _ => vec![tells("a", at, 1)],
            })
            .collect();
        let recording = several(&moments);
        let all = read(&[&recording], Between::default()).expect("they are read");
        assert_eq!(all.len(), 130);
        let packets = |i: &Interval| i.rows.iter().map(|f| f.counters.total().packets).sum::<u64>();
        let expected: Vec<_> = (0..130).map(|at| if at < 100 { 8 } else { 2 }).collect();
        assert_eq!(all.iter().map(packets).collect::<Vec<_>>(), expected);
        let states = |i: &Interval| i.interfaces.iter().filter(|i| i.live().is_some()).count();
        assert_eq!((states(&all[99]), states(&all[100])), (2, 1), "one has left");
        for from in [65, 125] {
            let paths = [recording.path().to_owned()];
            let late = Between { from: Some(t(from)), until: None };
            let mut all = Recordings::open(&paths, late).expect("a recording");
            let first = all.next_interval().expect("an interval").expect("there is one");
            assert_eq!((first.since, first.once().is_of_fleet()), (t(from), true));
            let names = all.names();
            let is_there = |host| names.get(&own(host)[0]).is_some_and(|name| name == host);
            assert_eq!([is_there("a"), is_there("bb")], [true, from < 100]);
        }
        // A single host that was listened to is a fleet of one.
        let alone = several(&[vec![tells("a", 0, 1)]]);
        assert!(read(&[&alone], Between::default()).expect("it is read")[0].once().is_of_fleet());
    }

    #[test]
    fn a_late_reading_belongs_to_the_moment_it_arrives_in() {
        let (a, b) = (|at| frame("a", 1, at, 1), |at| frame("b", 1, at, 1));
        let file =
            several(&[vec![a(5), b(5)], vec![a(6)], vec![b(6), a(7), b(7)], vec![b(8), a(8)]]);
        let all = read(&[&file], Between::default()).expect("they are read");
        let packets = |i: &Interval| i.rows.iter().map(|f| f.counters.total().packets).sum::<u64>();
        let told: Vec<_> = all.iter().map(|i| (i.elapsed.as_secs(), packets(i))).collect();
        assert_eq!(told.iter().map(|t| t.1).sum::<u64>(), 16);
        assert!(told.iter().all(|t| t.0 == 1), "{told:?}");
    }

    #[test]
    fn a_part_of_the_time_can_be_read() {
        let all: Vec<_> = (0..100).map(|at| frame("a", 0, at, 1)).collect();
        let all = file(&all);
        let between = "1970-01-01T00:17:00Z..1970-01-01T00:17:10".parse().expect("times");
        let some = read(&[&all], between).expect("they are read");
        assert_eq!((some.len(), some[0].since), (10, UNIX_EPOCH + Duration::from_secs(1020)));
        for wrong in ["", "..", "x..", "2026-01-02T00:00:00Z..2026-01-01T00:00:00Z", "12:00"] {
            assert!(wrong.parse::<Between>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_truncated_file_is_read_as_far_as_it_goes() {
        let whole = file(&[frame("a", 0, 0, 5), frame("a", 0, 1, 5)]);
        let bytes = std::fs::read(whole.path()).expect("it is there");
        let mut cut = tempfile::NamedTempFile::new().expect("a file");
        cut.write_all(&bytes[..bytes.len() - 50]).expect("it is written");
        let mut all = Recordings::open(&[cut.path().to_owned()], Between::default()).expect("open");
        assert!(all.next_interval().expect("a reading").is_some());
        while all.next_interval().expect("no error").is_some() {}
        assert_eq!(all.notes().len(), 1);
    }

    fn bytes_of(frames: std::ops::Range<u64>) -> Vec<u8> {
        let frames: Vec<_> = frames.map(|at| frame("a", 1, at, 3)).collect();
        std::fs::read(file(&frames).path()).expect("it is there")
    }

    /// Its intervals, and the errors and remarks at the end.
    fn heard(bytes: &[u8]) -> (Vec<Interval>, Result<(), String>, Vec<String>) {
        let mut file = tempfile::NamedTempFile::with_suffix(".tmon").expect("a file");
        file.write_all(bytes).expect("it is written");
        if !is_recording(file.path()) {
            return (vec![], Err("it is none".to_owned()), vec![]);
        }
        let mut all = match Recordings::open(&[file.path().to_owned()], Between::default()) {
            Ok(all) => all,
            Err(e) => return (vec![], Err(format!("{e:#}")), vec![]),
        };
        let mut intervals = Vec::new();
        let end = loop {
            match all.next_interval() {
                Ok(Some(interval)) => intervals.push(interval),
                Ok(None) => break all.end(),
                Err(e) => break Err(e),
            }
        };
        (intervals, end.map_err(|e| format!("{e:#}")), all.notes())
    }

    #[test]
    fn a_damaged_block_is_skipped_and_reported() {
        let all = bytes_of(0..180);
        assert_eq!(heard(&all).1, Ok(()));
        let places: Vec<usize> = all
            .windows(8)
            .enumerate()
            .filter_map(|(at, w)| (w == [0x50, 0x2a, 0x4d, 0x18, 32, 0, 0, 0]).then_some(at + 40))
            .collect();
        assert_eq!((places.len(), places.last()), (3, Some(&all.len())));
        for (block, begin) in [0, places[0], places[1]].into_iter().enumerate() {
            let mut damaged = all.clone();
            damaged[begin + 300] ^= 0x10;
            let (read, end, _) = heard(&damaged);
            let since =
                |i: &Interval| i.since.duration_since(UNIX_EPOCH).map(|d| d.as_secs() - 1000);
            let expected = (0..180).filter(|at| at / 60 != block as u64).collect::<Vec<_>>();
            assert_eq!(read.iter().filter_map(|i| since(i).ok()).collect::<Vec<_>>(), expected);
            let said = end.expect_err("something is missing");
            assert!(
                said.contains(&format!(".tmon: bytes {begin} to {} ", places[block])),
                "{said}"
            );
            assert!(
                said.ends_with("): 60 readings are lost") && said.lines().count() == 1,
                "{said}"
            );
        }
        // A hole across the end of one block and the beginning of the next.
        let mut hole = all.clone();
        hole[places[0] - 100..places[0] + 100].fill(0);
        let (read, end, _) = heard(&hole);
        assert_eq!(read.len(), 60);
        assert!(end.is_err_and(|e| e.contains("bytes 0 to") && e.contains("an unknown number")));
        // An incomplete block followed by zeros, as a crash may leave it.
        let torn = [&all[..places[1] + 500], &[0; 4096]].concat();
        let (read, end, notes) = heard(&torn);
        assert!(read.len() > 120 && (end.is_err() || !notes.is_empty()), "{end:?} {notes:?}");
    }

    /// Whatever byte is changed: everything read is as written, and everything missing is reported.
    #[test]
    fn a_changed_byte_never_changes_a_number() {
        let all = bytes_of(0..70);
        let whole = heard(&all).0;
        let frame = |i: &Interval| (i.since, i.taken, i.rows.merged());
        let written: Vec<_> = whole.iter().map(frame).collect();
        for (at, bit) in (0..all.len()).step_by(3).zip((0..8).cycle()) {
            let mut changed = all.clone();
            changed[at] ^= 1 << bit;
            let (read, end, notes) = heard(&changed);
            let missing = read.len() < written.len();
            assert!(!missing || end.is_err() || !notes.is_empty(), "byte {at}: {}", read.len());
            for interval in &read {
                assert!(written.contains(&frame(interval)), "byte {at}, bit {bit}");
            }
        }
    }

    /// The same for a block that was never ended because the recorder was killed.
    #[test]
    fn a_changed_byte_in_an_open_block_never_changes_a_number() {
        let whole = bytes_of(0..7);
        let open = &whole[..whole.len() - 40 - 4 - 3];
        let frame = |i: &Interval| (i.since, i.taken, i.rows.merged());
        let written: Vec<_> = heard(open).0.iter().map(frame).collect();
        assert_eq!(written.len(), 7, "only the end of the block is missing");
        for (at, bit) in (0..open.len()).flat_map(|at| (0..8).map(move |bit| (at, bit))) {
            let mut changed = open.to_vec();
            changed[at] ^= 1 << bit;
            for interval in &heard(&changed).0 {
                assert!(written.contains(&frame(interval)), "byte {at}, bit {bit}");
            }
        }
    }

    #[test]
    fn a_host_that_reports_rarely_does_not_merge_readings_of_others() {
        let slow = |at: u64| {
            let mut rare = frame("slow", 2, at, 1);
            rare.cadence = Duration::from_secs(10);
            rare
        };
        // Readings of one moment: the slow host comes first.
        let moments: Vec<Vec<Frame>> = (0..30)
            .map(|at| {
                let rare = (at % 10 == 9).then(|| slow(at));
                rare.into_iter().chain([frame("fast", 1, at, 1)]).collect()
            })
            .collect();
        let all = read(&[&several(&moments)], Between::default()).expect("it is read");
        assert_eq!(all.len(), 30);
        // A host whose clock is far ahead takes no memory: each moment ends.
        let ahead = |at| frame("ahead", 3, 100_000 + at, 1);
        let moments: Vec<_> = (0..30).map(|at| vec![frame("fast", 1, at, 1), ahead(at)]).collect();
        let mut all = {
            let file = several(&moments);
            Recordings::open(&[file.path().to_owned()], Between::default()).expect("it is opened")
        };
        let mut packets = 0;
        while let Some(i) = all.next_interval().expect("it is read") {
            packets += i.rows.iter().map(|f| f.counters.total().packets).sum::<u64>();
            let held = all.merge.as_ref().map_or(0, |merge| merge.told.len());
            assert!(held <= 2, "{held}");
        }
        assert_eq!(packets, 30 * 4);
    }

    #[test]
    fn all_hosts_of_a_moment_are_known_before_it_is_counted() {
        let own = |n: u8| IpAddr::from([10, 0, 0, n]);
        let tells = |host: &str, n: u8, at, rx| {
            let mut told = frame(host, n.into(), at, 0);
            let outer = Some(Pair { first: own(1), second: own(2) });
            let key = Key { outer, ..sample::key(7) };
            let counts = [Count { packets: rx, bytes: 100 * rx }, Count::default()];
            let part = Part { swapped: false, fragments: false };
            let mut rows = Rows::default();
            rows.push(0, 0, &key, counts, part);
            let i = &told.interval;
            let (origin, interfaces) = (i.origin.clone(), i.interfaces.clone());
            told.interval = Interval::new(i.since, i.taken, i.elapsed, interfaces, rows);
            (told.interval.origin, told.local) = (origin, vec![own(n)]);
            told
        };
        // 10.0.0.2 receives what 10.0.0.3 forwards.
        let file_of = |host, n| file(&[0, 1, 2].map(|at| tells(host, n, at, 100)));
        let (end, way) = (file_of("end", 2), file_of("way", 3));
        for files in [[&end, &way], [&way, &end]] {
            let all = read(&files, Between::default()).expect("they are read");
            let packets = |i: &Interval| {
                i.rows.merged().iter().map(|f| i.once().share(f).total().packets).sum::<u64>()
            };
            assert_eq!(all.iter().map(packets).collect::<Vec<_>>(), [100; 3]);
        }
    }

    #[test]
    fn rows_beyond_the_limit_of_a_frame_are_added_up() {
        let rows = crate::frame::MOST_ROWS as u32 + 1;
        let big = frame("a", 1, 5, rows);
        let bytes = big.encode();
        let read = Frame::decode(&bytes).expect("as much as is read");
        assert!(read.interval.rows.len() < rows as usize);
        let packets = |i: &Interval| i.rows.walk().map(|r| r.counts()[0].packets).sum::<u64>();
        assert_eq!(packets(&read.interval), u64::from(rows));
    }

    #[test]
    fn readings_in_two_files_count_once() {
        let frames: Vec<_> = (0..10).map(|at| frame("a", 1, at, 1)).collect();
        let (one, copy, part) = (file(&frames), file(&frames), file(&frames[3..6]));
        let later = file(&(8..14).map(|at| frame("a", 1, at, 1)).collect::<Vec<_>>());
        let times = |files: &[&tempfile::NamedTempFile]| -> Vec<u64> {
            let all = read(files, Between::default()).expect("they are read");
            all.iter()
                .filter_map(|i| i.since.duration_since(UNIX_EPOCH).ok())
                .map(|d| d.as_secs())
                .collect()
        };
        let expected: Vec<u64> = (1000..1014).collect();
        assert_eq!(times(&[&one, &copy]), expected[..10]);
        assert_eq!(times(&[&part, &one, &later, &copy]), expected);
        // Sums of the same time count as the same readings.
        let mut thinned = Vec::new();
        let from = std::fs::File::open(one.path()).expect("a file");
        let from = FrameFile::new(from, 0);
        crate::keep::thin(from, &mut thinned, Duration::from_secs(5)).expect("it is thinned");
        let mut sums = tempfile::NamedTempFile::new().expect("a file");
        sums.write_all(&thinned).expect("it is written");
        for files in [[&one, &sums], [&sums, &one]] {
            let all = read(&files, Between::default()).expect("they are read");
            assert_eq!(all.iter().map(|i| i.elapsed.as_secs()).sum::<u64>(), 10);
        }
        let same = [one.path().to_owned(), one.path().to_owned()];
        let refused = Recordings::open(&same, Between::default()).err().expect("it is the same");
        assert!(refused.to_string().ends_with("are the same file: it would count twice"));
    }

    #[test]
    fn two_recordings_of_one_host_are_read_in_turn() {
        let of = |epoch| file(&(0..5).map(|at| frame("a", epoch, at, 1)).collect::<Vec<_>>());
        let (one, other) = (of(1), of(2));
        let paths = [one.path().to_owned(), other.path().to_owned()];
        let mut all = Recordings::open(&paths, Between::default()).expect("they are opened");
        let mut starts = Vec::new();
        while let Some(interval) = all.next_interval().expect("a reading") {
            starts.push(interval.origin.epoch);
        }
        assert_eq!(starts, [1, 1, 1, 1, 1, 2, 2, 2, 2, 2]);
        let notes = all.notes();
        assert!(notes.len() == 1 && notes[0].contains("a made two recordings"), "{notes:?}");
    }

    #[test]
    fn a_late_range_is_found_without_reading_the_whole_file() {
        let frames: Vec<_> = (0..400).map(|at| frame("a", 1, at, 300)).collect();
        let file = file(&frames);
        let t = |n: u64| UNIX_EPOCH + Duration::from_secs(1000 + n);
        for (from, until, expected) in [(390, 400, 10), (60, 61, 1), (59, 62, 3), (0, 2, 2)] {
            let between = Between { from: Some(t(from)), until: Some(t(until)) };
            let paths = [file.path().to_owned()];
            let mut all = Recordings::open(&paths, between).expect("a recording");
            let mut taken = Vec::new();
            while let Some(interval) = all.next_interval().expect("an interval") {
                taken.push(interval.taken);
            }
            assert_eq!(taken.len(), expected, "{from}..{until}");
            assert_eq!(taken.first(), Some(&t(from + 1)));
            let size = file.as_file().metadata().expect("a file").len();
            assert!(from < 300 || all.position().1 < size / 2, "{:?} of {size}", all.position());
        }
        // A file that is being written or was truncated: its last block has no trailer.
        let cut = file.as_file().metadata().expect("a file").len() - 60;
        file.as_file().set_len(cut).expect("it is shorter");
        let between = Between { from: Some(t(390)), until: None };
        assert!(!read(&[&file], between).expect("intervals").is_empty());
        let between = Between { from: Some(t(350)), until: Some(t(355)) };
        assert_eq!(read(&[&file], between).expect("intervals").len(), 5);
    }

    #[test]
    fn intervals_that_exceed_memory_are_merged_without_loss() {
        let mut past = Past::within(100_000);
        let n = 500;
        for at in 0..n {
            past.push(frame("a", 0, at, 20).interval);
        }
        assert!(past.intervals.len() > 10 && past.bytes <= 100_000);
        let reading = past.reading(Vec::new());
        let total: Count = reading.snapshot.rows.iter().map(|f: Flow| f.counters.total()).sum();
        assert_eq!(total.packets, n * 20 * 2);
        let elapsed: Duration = reading.past.iter().map(|i| i.elapsed).sum();
        assert_eq!(elapsed, Duration::from_secs(n));
        let longest = reading.past.iter().map(|i| i.elapsed).max();
        assert!(longest <= Some(Duration::from_secs(past.each as u64)), "{longest:?}");
    }
}
