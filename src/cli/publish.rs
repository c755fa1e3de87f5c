// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon publish`: readings for viewers that ask for them over a bus.
use std::{
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::AtomicBool},
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result};
use clap::Args;
use foldhash::HashMap;

use bus::{Asked, HostPath, LEAST, Publisher, SubjectKind, Subjects};
use export::{Excerpt, Format, Writer};
use feed::{
    Reading,
    frame::{self, Frame, FrameKind},
};
use model::{
    filter::Filter,
    interface::Origin,
    overlay::Overlay,
    rows::Rows,
    snapshot::{Interval, Snapshot},
};

use super::{
    Configured, Dropping, TOOL, Watch, dump, duration, interrupted,
    nats::LoginArgs,
    record::{Framing, host_name, own, until_next},
    say,
};
use crate::kernel::{live::Live, origin, sandbox::Sandbox};

#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "While nobody is watching, only a greeting is sent every ten seconds; `tmon top --nats URL` \
    watches. tmon opens no port and takes no commands: the most that a viewer can request is one reading a \
    second, for half a minute per request."
)]
pub(super) struct Publish {
    #[command(flatten)]
    _configured: Configured,
    #[command(flatten)]
    watch: Watch,
    /// NATS server: nats://SERVER:4222 or tls://SERVER:4222, several separated by commas; @FILE
    /// reads the URL from a file, which keeps a password off the command line [default: NATS_URL]
    #[arg(long, value_name = "URL", default_value = "env", hide_default_value = true)]
    nats: String,
    /// Name of the fleet on the server
    #[arg(long, value_name = "NAME", default_value = "prod")]
    fleet: String,
    /// Name of this host, from the general to the specific, such as eu.rack4.node-57 [default: its
    /// host name]
    #[arg(long = "as", value_name = "NAME", value_parser = host_name)]
    name: Option<String>,
    /// Shortest interval between readings, whatever viewers request: 1s to 1h
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = seconds)]
    min_every: Duration,
    /// Publish sums per tunnel at this interval without being asked, for storage such as JetStream
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    always: Option<Duration>,
    /// Also publish rows as JSON lines at the --always interval, for other programs
    #[arg(long, requires = "always")]
    json: bool,
    /// Publish only sums per tunnel, and no inner addresses
    #[arg(long)]
    no_rows: bool,
    #[command(flatten)]
    login: LoginArgs,
    #[command(flatten)]
    drops: Dropping,
}

/// How often a host announces itself.
const GREETING: Duration = Duration::from_secs(10);
/// How often to check for requests.
const STEP: Duration = Duration::from_millis(100);
/// Limit on a message of JSON lines.
const LINES: usize = 256 << 10;
/// Room for what a message has besides its frame.
const HEAD: usize = 1024;

fn seconds(text: &str) -> Result<Duration, String> {
    let every = duration(text)?;
    let allowed = LEAST..=Duration::from_secs(3600);
    if allowed.contains(&every) { Ok(every) } else { Err("expected 1s to 1h".to_owned()) }
}

impl Publish {
    pub(super) fn run(self) -> Result<()> {
        let login = self.login.login(&self.nats).with_context(|| match self.nats.as_str() {
            "env" => "name a NATS server with --nats nats://SERVER:4222 or NATS_URL",
            _ => "use the NATS server given with --nats",
        })?;
        let subjects = Subjects::of(&self.fleet)?;
        let name = self.name.clone().unwrap_or_else(origin::host);
        let host = HostPath::new(&name);
        let flag = interrupted()?;
        let mut live = self.watch.open()?;
        self.drops.begin_or_say(&mut live);
        live.follow_configuration()?;
        let sandbox = Sandbox::new(None);
        live.enter(&sandbox)?;
        let bounds = (self.min_every, self.no_rows);
        let enter = move || sandbox.confine_strictly();
        let bus = Publisher::start(login, subjects.clone(), &host, bounds, enter)?;
        let first = dump::read(&mut live)?;
        let told = Told::new(&self, subjects, host, &name, first);
        told.run(live, bus, &flag)
    }
}

/// Limit on the ids whose meaning is part of a greeting.
const MOST_IDS: usize = 4096;

/// What a host publishes, and what it has published so far.
struct Told<'a> {
    args: &'a Publish,
    subjects: Subjects,
    host: HostPath,
    name: Arc<str>,
    origin: Origin,
    overlay: Option<Arc<Overlay>>,
    /// Rows before sums: a viewer that receives both counts what comes first.
    channels: [Channel; 3],
    greetings: u64,
    /// By which share of the interval readings are held back, so that not all hosts send at the
    /// same time.
    share: f64,
}

/// One kind of message: a sequence of intervals.
struct Channel {
    topic: SubjectKind,
    framing: Framing,
    every: Option<Duration>,
    /// The last snapshot that was published.
    before: Option<Snapshot>,
    due: Instant,
    /// A reading that will be sent in a moment.
    held: Option<Held>,
}

struct Held {
    at: Instant,
    read: Instant,
    took: Duration,
    now: Snapshot,
}

impl Channel {
    fn new(topic: SubjectKind, name: &str) -> Channel {
        Channel {
            topic,
            framing: Framing::new(Duration::ZERO, Some(name)),
            every: None,
            before: None,
            due: Instant::now(),
            held: None,
        }
    }

    /// Sets how often this is requested now. A channel that was not requested starts over.
    fn is_wanted(&mut self, every: Option<Duration>) {
        if every.is_none() {
            (self.before, self.held) = (None, None);
        }
        if let (Some(every), true) = (every, every != self.every) {
            self.due = Instant::now() + until_next(SystemTime::now(), every);
            self.framing.every(every);
        }
        self.every = every;
    }
}

impl<'a> Told<'a> {
    fn new(
        args: &'a Publish,
        subjects: Subjects,
        host: HostPath,
        name: &str,
        first: Reading,
    ) -> Told<'a> {
        let mut hasher = DefaultHasher::new();
        host.to_string().hash(&mut hasher);
        Told {
            args,
            subjects,
            host,
            name: name.into(),
            origin: first.snapshot.origin,
            overlay: first.overlay,
            channels: [SubjectKind::Rows, SubjectKind::Sum, SubjectKind::Json]
                .map(|t| Channel::new(t, name)),
            greetings: 0,
            share: (hasher.finish() >> 11) as f64 / (1u64 << 53) as f64 / 2.0,
        }
    }

    fn run(mut self, mut live: Live, mut bus: Publisher, flag: &AtomicBool) -> Result<()> {
        let mut greeting = Instant::now();
        loop {
            let events = self.channels.iter().filter(|c| c.every.is_some());
            let next = events.map(|c| c.held.as_ref().map_or(c.due, |h| h.at)).min();
            let step = Instant::now() + STEP;
            if dump::rest(&mut live, next.map_or(step, |next| next.min(step)), flag) {
                let end = self.frame(FrameKind::End, GREETING);
                bus.leave(self.subjects.subject(SubjectKind::Hello, &self.host), end.packed());
                return Ok(());
            }
            bus.notices().iter().for_each(|line| say(line));
            let asked = bus.asked(Instant::now())?;
            let always = self.args.always;
            let sums = asked.sums.into_iter().chain(always).min();
            let json = always.filter(|_| self.args.json);
            // Rows are at least as frequent as sums, so that they cover the same periods.
            let rows = asked.rows.map(|rows| sums.map_or(rows, |sums| rows.min(sums)));
            for (channel, every) in self.channels.iter_mut().zip([rows, sums, json]) {
                channel.is_wanted(every);
            }
            self.keep_step();
            if asked.is_greeted {
                greeting = Instant::now();
            }
            if Instant::now() >= greeting && asked.is_free {
                greeting = Instant::now() + GREETING;
                self.see(&dump::read(&mut live)?);
                let often = self.channels.iter().filter_map(|c| c.every).min();
                let hello = self.frame(FrameKind::Hello, often.unwrap_or(GREETING));
                bus.send(self.subjects.subject(SubjectKind::Hello, &self.host), hello.packed());
            }
            self.read(&mut live, asked)?;
            self.send(&bus, asked)?;
        }
    }

    /// Channels with the same interval share each reading.
    fn keep_step(&mut self) {
        let due = self.channels.each_ref().map(|c| (c.every, c.due));
        for c in &mut self.channels {
            let same = due.iter().filter(|(every, _)| *every == c.every);
            c.due = same.map(|(_, due)| *due).max().unwrap_or(c.due);
        }
    }

    /// Remembers the host's current configuration.
    fn see(&mut self, reading: &Reading) {
        if reading.overlay.is_some() {
            self.overlay.clone_from(&reading.overlay);
        }
    }

    /// Takes the readings that are due, if they can be sent. If not, the next interval is longer.
    fn read(&mut self, live: &mut Live, asked: Asked) -> Result<()> {
        let now = Instant::now();
        let begins = |c: &Channel| c.every.is_some() && c.before.is_none();
        let is_due = |c: &Channel| c.every.is_some() && now >= c.due;
        if !self.channels.iter().any(|c| begins(c) || is_due(c)) {
            return Ok(());
        }
        let reading = dump::read(live)?;
        let took = now.elapsed();
        self.see(&reading);
        // A new channel continues from what another channel published last.
        let told = self.channels.iter().find_map(|c| c.before.clone());
        for channel in &mut self.channels {
            let Some(every) = channel.every else { continue };
            let is_due = now >= channel.due;
            if is_due {
                channel.due = now + until_next(SystemTime::now(), every);
            }
            match &channel.before {
                None => {
                    let first = told.as_ref().unwrap_or(&reading.snapshot);
                    channel.before = Some(first.clone());
                }
                Some(before) if is_due && asked.is_heard && asked.is_free => {
                    let mut snapshot = reading.snapshot.clone();
                    snapshot.keep_stale(before);
                    let at = now + every.mul_f64(self.share);
                    channel.held = Some(Held { at, read: now, took, now: snapshot });
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// Sends the readings that were held back long enough, unless they can no longer be sent.
    fn send(&mut self, bus: &Publisher, asked: Asked) -> Result<()> {
        let now = Instant::now();
        for channel in &mut self.channels {
            let Some(held) = channel.held.take_if(|h| now >= h.at) else { continue };
            let Some(before) = &channel.before else { continue };
            if !asked.is_heard || !asked.is_free {
                continue;
            }
            let subject = self.subjects.subject(channel.topic, &self.host);
            let mut interval = held.now.since(before);
            interval.origin.host = Arc::clone(&self.name);
            if channel.topic == SubjectKind::Sum || self.args.no_rows {
                interval = frame::sums(&interval);
            }
            if channel.topic == SubjectKind::Json {
                let most = LINES.min(asked.room.saturating_sub(HEAD));
                for lines in lines(&interval, most)? {
                    bus.send(subject.clone(), lines);
                }
            } else {
                let mut frame =
                    channel.framing.frame(frame::bounded(interval), None, false, held.took);
                frame.held = held.read.elapsed();
                if channel.topic == SubjectKind::Sum {
                    frame.kind = FrameKind::Sum;
                }
                let mut bytes = frame.packed();
                if bytes.len() + HEAD > asked.room {
                    frame.interval = frame::sums(&frame.interval);
                    bytes = frame.packed();
                    say(
                        "a reading exceeds the message size limit of the bus and is sent without inner addresses",
                    );
                }
                bus.send(subject, bytes);
            }
            channel.before = Some(held.now);
        }
        Ok(())
    }

    /// A frame that announces this host, or says that it leaves.
    fn frame(&mut self, kind: FrameKind, cadence: Duration) -> Frame {
        let now = SystemTime::now();
        let mut interval = Interval::new(now, now, Duration::ZERO, Vec::new(), Rows::default());
        interval.origin = Origin { host: Arc::clone(&self.name), ..self.origin.clone() };
        // A greeting carries the meaning of ids; the rest of the configuration stays on this host.
        let segments = self.overlay.iter().flat_map(|o| &o.segments).take(MOST_IDS);
        let segments: HashMap<_, _> = segments.map(|(t, s)| (*t, s.clone())).collect();
        if kind == FrameKind::Hello && !segments.is_empty() {
            interval.overlay = Some(Arc::new(Overlay { segments, ..Overlay::default() }));
        }
        self.greetings += 1;
        Frame {
            kind,
            seq: self.greetings,
            reading: Duration::ZERO,
            held: Duration::ZERO,
            heard: None,
            clock: crate::kernel::clock::error(),
            cadence,
            local: self.overlay.iter().flat_map(|o| own(o)).collect(),
            tool: TOOL.to_owned(),
            interval,
        }
    }
}

/// Rows as JSON lines, in messages of at most `most` bytes.
fn lines(interval: &Interval, most: usize) -> Result<Vec<Vec<u8>>> {
    let (mut bytes, every) = (Vec::new(), Filter::default());
    let excerpt = Excerpt::new(TOOL, interval, &every);
    Writer::new(&mut bytes, Format::JsonFlows, Default::default()).write(&excerpt)?;
    let mut messages = vec![Vec::new()];
    for line in bytes.split_inclusive(|b| *b == b'\n') {
        if messages.last().is_some_and(|m| !m.is_empty() && m.len() + line.len() > most) {
            messages.push(Vec::new());
        }
        if let Some(last) = messages.last_mut() {
            last.extend_from_slice(line);
        }
    }
    messages.retain(|m| !m.is_empty());
    Ok(messages)
}
