// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reads capture files and counts their packets.
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use contract::GROUP;
use foldhash::{HashMap, HashMapExt};
use model::beside::{Beside, Gathered};
use native::{Batch, Buffer, NativeFrame};

use crate::{
    allowance::{self, Allowance},
    config::{self, Config},
    crew::{Crew, STEP},
    inputs::{Captures, Inputs},
    judge::{Given, MakeJudge, NANOSECONDS_IN_TICK, native_config, ticks},
    look::Look,
    packet::{LONGEST_FRAME, LinkStart, Packet},
    pcap::{Body, CapturedFrame, LinkType, Next, Reader},
    seen::Seen,
    timing::Timing,
};
use model::{
    filter::Filter,
    flow::{Books, Count, Hook, HookKind},
    interface::{Fill, Interface, Origin},
    lens::Lens,
    rows::Rows,
    snapshot::{Snapshot, unknown_time},
    units,
};

/// How many interfaces have tables of their own; all further ones share the last.
const MOST_INTERFACES: usize = 64;
/// Timestamps below this are counted from the beginning of the capture, so that they may be zero;
/// otherwise zero means that a time is unknown.
const RELATIVE: Duration = Duration::from_secs(365 * 86_400);

/// The number of frames judged in one batch.
const BATCH: usize = 1024;

/// Capture files, with their frames merged in order of time.
pub struct Replay {
    origin: Origin,
    config: Config,
    make: MakeJudge,
    threads: usize,
    /// Frames that have been read but not judged yet, and their maximum number.
    batch: Batch,
    most: usize,
    crew: Option<Crew>,
    timing: Option<Timing>,
    look: Option<Look>,
    inputs: Inputs,
    interfaces: Vec<Seen>,
    known: HashMap<Place, usize>,
    /// The origin of the previous frame, usually also that of the next.
    last: Option<(usize, u32, Option<u32>, usize)>,
    /// The interface of the waiting frames, if round-trip times are measured.
    at: usize,
    /// Limit on the interfaces, given by the available memory.
    most_interfaces: usize,
    beyond: u64,
    clock: Clock,
    /// The clock for ageing: the latest timestamp so far.
    now: u32,
    /// When rows were last aged, by the same clock.
    swept: u32,
    /// How often rows may be aged.
    allowance: Allowance,
    frames: u64,
    /// Frames of unsupported link types.
    unread: BTreeMap<LinkType, u64>,
}

/// An interface of a file: the file, its name or number there, and its index if the frames have it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Place(usize, Option<Box<str>>, u32, Option<u32>);

/// The time from the earliest to the latest packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// The earliest timestamp.
    pub first: Duration,
    /// The latest timestamp.
    pub last: Duration,
}

/// The clock given by the packets.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    span: Option<Span>,
    zero: bool,
}

impl Clock {
    /// Advances the clock. Returns whether this time is later than all before.
    #[inline]
    fn see(&mut self, time: Option<Duration>) -> bool {
        match (time, &mut self.span) {
            (None, _) => false,
            (Some(Duration::ZERO), _) => {
                self.zero = true;
                false
            }
            (Some(t), Some(span)) => {
                span.first = span.first.min(t);
                let later = t > span.last;
                span.last = span.last.max(t);
                later
            }
            (Some(t), none) => {
                *none = Some(Span { first: t, last: t });
                true
            }
        }
    }

    fn span(&self) -> Option<Span> {
        match self.span {
            Some(Span { last, .. }) if self.zero && last < RELATIVE => {
                Some(Span { first: Duration::ZERO, last })
            }
            span => span,
        }
    }
}

impl Replay {
    /// Opens captures and reads their headers; `-` is standard input.
    ///
    /// # Errors
    /// A file is missing or not a capture, or the judge cannot be created.
    pub fn open(paths: &[PathBuf], config: &Config, make: MakeJudge) -> Result<Replay> {
        Replay::of(Captures::open(paths)?, config, make, None)
    }

    /// Reads the headers of open captures. `most` limits the size of compressed ones, see
    /// [`crate::pcap::Opened::reader`].
    ///
    /// # Errors
    /// A file is not a capture, or the judge cannot be created.
    pub fn of(
        captures: Captures,
        config: &Config,
        make: MakeJudge,
        most: Option<u64>,
    ) -> Result<Replay> {
        let config = config.clone();
        let room = config::address_space().map(|space| space / config::interface_memory(&config));
        let room = room.and_then(|room| usize::try_from(room).ok()).unwrap_or(usize::MAX);
        let most_interfaces = MOST_INTERFACES.min(room);
        ensure!(
            most_interfaces > 0,
            "tables of {} rows may take {}, more than `ulimit -v` allows: raise it, or use fewer --rows",
            config.rows,
            units::bytes(config::interface_memory(&config), units::Base::Si)
        );
        // The judge of the first interface is created before any byte of a file is read.
        let interfaces = vec![Seen::new(&config, make)?];
        let inputs = Inputs::of(captures, most)?;
        Ok(Replay {
            inputs,
            interfaces,
            origin: Origin::default(),
            config,
            make,
            threads: 1,
            batch: Batch::default(),
            most: BATCH,
            crew: None,
            timing: None,
            look: None,
            known: HashMap::new(),
            last: None,
            at: 0,
            most_interfaces,
            beyond: 0,
            clock: Clock::default(),
            now: 0,
            swept: 0,
            allowance: Allowance::default(),
            frames: 0,
            unread: BTreeMap::new(),
        })
    }

    /// Uses this many threads to judge frames, including the calling one. The result is the same.
    /// If rows age, or with the kernel's programs, there is only one.
    pub fn set_threads(&mut self, threads: usize) {
        let alone = !self.config.age.is_zero() || self.interfaces[0].judge.native().is_none();
        self.threads = if alone { 1 } else { threads };
        if self.threads > 1 {
            self.most = usize::MAX; // a buffer
            self.inputs.readers_mut().for_each(|r| r.set_step(STEP));
        }
    }

    /// Also measures round-trip times in rows that match this filter.
    ///
    /// # Errors
    /// Memory cannot be allocated.
    pub fn time(&mut self, filter: Filter) -> Result<()> {
        self.timing = Some(Timing::new(filter, native_config(&self.config)?));
        Ok(())
    }

    /// Also examines the packets of rows that match this filter: see [`Replay::lens`].
    ///
    /// # Errors
    /// Memory cannot be allocated.
    pub fn look(&mut self, filter: Filter) -> Result<()> {
        self.look = Some(Look::new(filter, native_config(&self.config)?));
        Ok(())
    }

    /// What the examined packets contained so far, if there is a lens.
    pub fn lens(&self) -> Option<Lens> {
        let name = |i: usize| self.interfaces.get(i).map(|i| i.name.clone()).unwrap_or_default();
        self.look.as_ref().map(|look| look.lens(name))
    }

    /// Limits the frames of a batch, which is also the job of a thread.
    pub fn set_batch(&mut self, frames: usize) {
        self.most = frames.max(1);
    }

    /// From now on pipes are not waited for: see [`Replay::waits`].
    pub fn hurry(&mut self) {
        self.inputs.hurry();
    }

    /// No next frame is available now, but one may be later.
    pub fn waits(&self) -> bool {
        self.inputs.waits()
    }

    /// Checks whether a next frame is available now.
    pub fn look_again(&mut self) {
        self.inputs.look_again();
    }

    /// How often data was read from the files.
    pub fn reads(&self) -> u64 {
        self.inputs.readers().map(Reader::reads).sum()
    }

    /// The next frame, if there is one.
    pub fn peek(&self) -> Option<CapturedFrame<'_>> {
        self.inputs.peek()
    }

    /// Takes the next frame. It is counted before any counters are read.
    ///
    /// # Errors
    /// The programs cannot be run.
    #[inline]
    pub fn step(&mut self) -> Result<()> {
        let Some(i) = self.inputs.next() else { return Ok(()) };
        let Some(frame) = self.inputs.all[i].reader.frame() else { return Ok(()) };
        let interface = match self.last {
            Some((file, interface, ifindex, at))
                if (file, interface, ifindex) == (i, frame.interface, frame.ifindex) =>
            {
                at
            }
            _ => self.interface(i)?,
        };
        if self.timing.is_some() && self.at != interface {
            self.flush()?; // round-trip times depend on the order of frames
            self.at = interface;
        }
        let Some(frame) = self.inputs.all[i].reader.frame() else { return Ok(()) };
        if self.clock.see(frame.time) {
            self.now = self.clock.span.map_or(0, |s| ticks(s.last));
            if !self.config.age.is_zero() {
                self.sweep()?;
            }
        }
        let reader = &self.inputs.all[i].reader;
        let Some(frame) = reader.frame() else { return Ok(()) };
        let hook = frame.direction.unwrap_or(Hook::Rx);
        match packet(&frame) {
            Some(packet) => {
                let given = Given { hook, packet, now: self.now };
                self.batch.of(interface, reader.buffer()).push(&given.native());
            }
            None => {
                self.interfaces[interface].unread[hook as usize] +=
                    Count { packets: 1, bytes: frame.orig_len.into() };
                *self.unread.entry(frame.link).or_default() += 1;
            }
        }
        self.frames += 1;
        self.allowance.earn(1);
        self.inputs.pass(i);
        self.flush_if_full()
    }

    /// Takes up to this many frames. Returns whether there are more.
    ///
    /// # Errors
    /// See [`Replay::step`].
    pub fn advance(&mut self, most: u64) -> Result<bool> {
        let until = self.frames.saturating_add(most);
        while self.inputs.next().is_some() && self.frames < until {
            self.run(until - self.frames)?;
            if self.frames < until {
                self.step()?;
            }
        }
        Ok(self.inputs.next().is_some())
    }

    /// Takes frames like the previous one as long as they are plain: a fast version of
    /// [`Replay::step`] for most frames of most files.
    fn run(&mut self, most: u64) -> Result<()> {
        let ([input], Some((0, interface, ifindex, at))) = (&mut self.inputs.all[..], self.last)
        else {
            return Ok(());
        };
        if !self.config.age.is_zero() {
            return Ok(());
        }
        let (clock, now) = (&mut self.clock, &mut self.now);
        let before = self.batch.len();
        let until = self.most.min(before.saturating_add(most.try_into().unwrap_or(usize::MAX)));
        let mut left = until.saturating_sub(before);
        // The buffer stays the same while frames are taken from it.
        let buffer = Buffer::clone(input.reader.buffer());
        let mut batch = self.batch.of(at, &buffer);
        let usual = ifindex.is_none().then_some(interface);
        let all = input.reader.each(usual, |next| {
            if left == 0 {
                return false;
            }
            match next {
                Next::Plain(frame) => {
                    if clock.see(Some(Duration::from_nanos(frame.time))) {
                        *now = (frame.time / NANOSECONDS_IN_TICK) as u32;
                    }
                    batch.push(&NativeFrame {
                        data: &frame.data[..frame.data.len().min(LONGEST_FRAME)],
                        length: frame.orig_len,
                        link: 0,
                        begins: LinkStart::Ethernet.number(),
                        now: *now,
                        time: frame.time,
                        gso_segs: 0,
                        gso_size: 0,
                        egress: false,
                    });
                }
                Next::Any(frame) => {
                    let Some(packet) = packet(&frame) else { return false };
                    if (frame.interface, frame.ifindex) != (interface, ifindex) {
                        return false;
                    }
                    if clock.see(frame.time) {
                        *now = clock.span.map_or(0, |s| ticks(s.last));
                    }
                    let hook = frame.direction.unwrap_or(Hook::Rx);
                    batch.push(&Given { hook, packet, now: *now }.native());
                }
            }
            left -= 1;
            true
        });
        self.frames += (self.batch.len() - before) as u64;
        if all {
            self.inputs.pass(0);
        }
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> Result<()> {
        if self.batch.len() >= self.most || self.batch.buffers() > self.inputs.all.len() {
            self.flush()?;
        }
        Ok(())
    }

    /// The number of the interface of an input's current frame.
    #[cold]
    fn interface(&mut self, i: usize) -> Result<usize> {
        let Some(frame) = self.inputs.all[i].reader.frame() else { return Ok(0) };
        let place = place(i, &frame);
        let (ifindex, from) = (frame.ifindex, (i, frame.interface, frame.ifindex));
        let at = match self.known.get(&place) {
            Some(at) => *at,
            None => {
                let name = self.inputs.label(i, &frame);
                let at = self.begin(name, ifindex)?;
                self.known.insert(place, at);
                at
            }
        };
        self.last = Some((from.0, from.1, from.2, at));
        Ok(at)
    }

    /// Judges the frames that have been read.
    fn flush(&mut self) -> Result<()> {
        if self.batch.is_empty() {
            return Ok(());
        }
        if let Some(timing) = &mut self.timing {
            for (interface, frames) in self.batch.by_interface() {
                timing.look(interface, &self.interfaces[interface].name, frames)?;
            }
        }
        if let Some(look) = &mut self.look {
            for (interface, frames) in self.batch.by_interface() {
                look.look(interface, &self.interfaces[interface].name, frames)?;
            }
        }
        if self.threads > 1 {
            let batch = std::mem::take(&mut self.batch);
            if self.crew.is_none() {
                self.crew = Some(Crew::new(native_config(&self.config)?, self.threads)?);
            }
            let interfaces = &mut self.interfaces;
            if let Some(crew) = &mut self.crew {
                self.batch = crew.give(batch, interfaces)?;
            }
            return Ok(());
        }
        for (interface, frames) in self.batch.by_interface() {
            let judge = &mut self.interfaces[interface].judge;
            if let Some(native) = judge.native() {
                native.judge_all(frames);
                continue;
            }
            for frame in frames.iter().map(|f| Given::waited(&f)) {
                judge
                    .run(frame.hook, &frame.packet, frame.now)
                    .with_context(|| format!("one of the {} frames so far", self.frames))?;
            }
        }
        self.batch.clear();
        Ok(())
    }

    /// Waits until all frames that were read have been counted, by whichever thread.
    fn settle(&mut self) -> Result<()> {
        self.flush()?;
        match self.crew.take() {
            Some(crew) => crew.finish(&mut self.interfaces),
            None => Ok(()),
        }
    }

    /// Ages rows by the packets' clock, as often as a live source would.
    fn sweep(&mut self) -> Result<()> {
        let (now, age) = (self.now, self.config.age);
        let pause = (age / 16).clamp(Duration::from_millis(500), Duration::from_secs(10));
        if self.swept == 0 {
            self.swept = now; // the first packet's
        }
        if now.wrapping_sub(self.swept) < ticks(pause) || !self.allowance.lasts() {
            return Ok(());
        }
        self.flush()?;
        let slots = u64::from(config::table_groups(&self.config)[0]) * GROUP as u64;
        let looked_at = allowance::search(slots) + slots.min(self.frames) / 8;
        self.allowance.spend(looked_at * self.interfaces.len() as u64);
        self.swept = now;
        self.interfaces.iter_mut().try_for_each(|i| i.judge.age(now, age).map(drop))
    }

    /// Adds an interface that was not seen before.
    fn begin(&mut self, name: String, ifindex: Option<u32>) -> Result<usize> {
        if self.known.is_empty() {
            (self.interfaces[0].name, self.interfaces[0].ifindex) = (name, ifindex.unwrap_or(0));
            return Ok(0);
        }
        if self.interfaces.len() < self.most_interfaces {
            let seen = Seen::new(&self.config, self.make)?;
            self.interfaces.push(Seen { name, ifindex: ifindex.unwrap_or(0), ..seen });
        } else {
            self.beyond += 1;
        }
        Ok(self.interfaces.len() - 1)
    }

    /// Remarks about the captures, one per line.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> = self
            .unread
            .iter()
            .map(|(link, n)| match link {
                LinkType::Unknown(_) => {
                    format!("frames of {link}, which tmon does not read, are counted as unread: {n}")
                }
                _ => format!(
                    "frames of {link} that are encrypted, compressed or in pieces are counted as unread: {n}"
                ),
            })
            .collect();
        notes.extend(self.inputs.contradictions());
        if self.interfaces.len() > 1 {
            notes.push(format!(
                "packets of {} interfaces are added up, so one that passed two of them counts twice; filter with `iface:NAME`",
                self.interfaces.len()
            ));
        }
        if self.beyond > 0 {
            notes.push(format!(
                "{} more interfaces than {} are added up in the last",
                self.beyond, self.most_interfaces
            ));
        }
        notes
    }

    /// Returns the errors of reading, after the end.
    ///
    /// # Errors
    /// The first error, followed by the others.
    pub fn end(&mut self) -> Result<()> {
        self.inputs.end()
    }

    /// Sets the origin of its readings; none by default.
    pub fn set_origin(&mut self, origin: Origin) {
        self.origin = origin;
    }

    /// The number of frames counted so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// The number of bytes read so far, and the size of the files if known.
    pub fn position(&self) -> (u64, Option<u64>) {
        self.inputs.position()
    }

    /// The time from the earliest packet so far to the latest, if the captures have timestamps.
    pub fn span(&self) -> Option<Span> {
        self.clock.span()
    }

    /// The totals so far, in the time of the captures.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn read(&mut self) -> Result<Snapshot> {
        self.settle()?;
        let span = self.span();
        let elapsed = span.map_or(Duration::ZERO, |s| s.last - s.first);
        let time = |t: Option<Duration>| t.map_or_else(unknown_time, at);
        let mut rows = Rows::default();
        let mut interfaces = Vec::with_capacity(self.interfaces.len());
        for (i, seen) in (0u16..).zip(&self.interfaces) {
            let fill = seen.judge.rows(i, &mut rows)?;
            let name = match (seen.name.as_str(), self.inputs.all.first()) {
                ("", Some(input)) => input.name.clone(), // a capture without frames
                _ => seen.name.clone(),
            };
            let interface = interface(name, seen.ifindex, seen.books()?, elapsed, fill);
            interfaces.push(Interface { id: i.into(), ..interface });
        }
        let now = nanoseconds(span.map(|s| s.last));
        let mut beside = Gathered { now, ..Gathered::default() };
        for (i, seen) in (0u64..).zip(&mut self.interfaces) {
            seen.judge.beside(i, &mut beside)?;
        }
        if let Some(timing) = &self.timing {
            timing.tell(&mut beside);
        }
        Ok(Snapshot {
            origin: self.origin.clone(),
            since: time(span.map(|s| s.first)),
            taken: time(span.map(|s| s.last)),
            at: elapsed,
            interfaces,
            rows,
            drops: None,
            beside: Beside::new(beside).into(),
        })
    }
}

/// The snapshot before anything has been read.
pub(crate) fn nothing() -> Snapshot {
    Snapshot {
        origin: Origin::default(),
        since: unknown_time(),
        taken: unknown_time(),
        at: Duration::ZERO,
        interfaces: Vec::new(),
        rows: Rows::default(),
        drops: None,
        beside: Beside::new(Gathered::default()).into(),
    }
}

fn interface(name: String, ifindex: u32, books: Books, span: Duration, fill: Fill) -> Interface {
    Interface { ifindex, hook: HookKind::Replay, books, span, fill, ..Interface::new(0, &name) }
}

/// A frame's time for measurements between two frames.
pub(crate) fn nanoseconds(time: Option<Duration>) -> u64 {
    time.map_or(0, |t| t.as_nanos() as u64)
}

/// A capture's timestamp as wall-clock time.
pub(crate) fn at(t: Duration) -> SystemTime {
    SystemTime::UNIX_EPOCH.checked_add(t).unwrap_or_else(unknown_time)
}

/// The origin of a frame. An interface has the same name in all sections of a file, if it has one.
fn place(file: usize, frame: &CapturedFrame<'_>) -> Place {
    match frame.name {
        "" => Place(file, None, frame.interface, frame.ifindex),
        name => Place(file, Some(name.into()), 0, frame.ifindex),
    }
}

/// A frame in the form that the programs take, if its link type is supported.
#[inline]
pub(crate) fn packet<'a>(frame: &CapturedFrame<'a>) -> Option<Packet<'a>> {
    let (data, start) = match frame.body() {
        Body::Ethernet(b) => (b, LinkStart::Ethernet),
        Body::Ip(b) => (b, LinkStart::Ip),
        Body::Typed { ethertype, payload } => (payload, LinkStart::EtherType(ethertype)),
        Body::NonIp => (frame.data, LinkStart::EtherType(0)),
        Body::Truncated => (&frame.data[..0], LinkStart::Ethernet),
        Body::Unread => return None,
    };
    let link_len = match frame.body() {
        Body::NonIp | Body::Truncated => 0,
        _ => (frame.data.len() - data.len()) as u32,
    };
    Some(Packet {
        data,
        wire_len: frame.orig_len.saturating_sub(link_len),
        start,
        link_len,
        gso_segs: 0,
        gso_size: 0,
        time: nanoseconds(frame.time),
    })
}
