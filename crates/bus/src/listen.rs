// SPDX-License-Identifier: MIT OR Apache-2.0
//! The viewer's side: requests reports from hosts, and receives them. Publishers may be anybody
//! with a permission: a host that sends invalid frames, or too much, is reported, and the others
//! continue.
use std::{
    collections::VecDeque,
    fmt::Display,
    hash::{BuildHasher, RandomState},
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, bail};
use async_nats::Client;
use foldhash::{HashMap, HashMapExt};
use futures_util::StreamExt;

use super::{
    login::{Login, Sayings, thread},
    subject::{HostPath, SubjectKind, Subjects},
    want::{LEAST, want},
};
use feed::{
    frame::{Frame, FrameKind},
    remote::{Connect, Focus, Messenger, News},
};
use model::{fleet::MOST_HOSTS, units::sanitize};

/// Whom to listen to.
#[derive(Clone, Debug)]
pub struct Listening {
    /// The subjects of the fleet.
    pub subjects: Subjects,
    /// Only hosts that match this [`super::pattern`].
    pub only: Option<String>,
    /// How often they should report, unless there are too many of them.
    pub every: Duration,
    /// The hosts whose rows are requested in any case.
    pub focus: Focus,
}

/// How often the request is repeated, and how long it lasts.
const ASK: Duration = Duration::from_secs(5);
const LEASE: Duration = Duration::from_secs(15);
/// How long hosts take to announce themselves.
const GREETING: Duration = Duration::from_millis(500);
/// Present hosts have greeted by then: each does so every ten seconds, and on request.
const ANSWER: Duration = Duration::from_secs(12);
/// The maximum rate of reports; above it, inner addresses are not requested.
const MOST_BITS: u64 = 50_000_000;
/// The assumed size of a host's rows before any have been received.
const USUAL: u64 = 10_000;
/// The bytes queued for the reader, and the messages of one host.
const MOST_BYTES: usize = 64 << 20;
const MOST_OF_ONE: u32 = 8;
/// The interval is doubled, at most this many times, if reports are not received in time.
const MOST_SLOW: u32 = 4;
/// After this long without gaps, the interval is shortened again.
const CALM: Duration = Duration::from_secs(60);

/// Makes connections to a bus, for [`feed::Remote`]. Its threads call `enter` first.
pub fn listen(
    login: Login,
    listening: Listening,
    enter: impl Fn() + Clone + Send + 'static,
) -> Connect {
    Box::new(move || {
        let shared = Arc::new(Shared::default());
        let (connected, is_connected) = mpsc::channel();
        let (login, listening) = (login.clone(), listening.clone());
        let (own, subjects) = (Arc::clone(&shared), listening.subjects.clone());
        thread(enter.clone(), move || async move {
            let sayings = own.sayings.clone();
            let said = move |event| sayings.event(&event, "hosts reappear when it is back");
            let client = match login.connect("tmon", said).await {
                Ok(client) => client,
                Err(e) => {
                    _ = connected.send(Err(e));
                    return;
                }
            };
            _ = connected.send(Ok(()));
            let ended = ask(&client, &listening, &own).await;
            own.end(ended.err().map_or_else(|| "the bus has ended".to_owned(), |e| e.to_string()));
        })?;
        is_connected.recv().context("the bus client has ended")??;
        let hosts = Hosts { tellers: HashMap::new() };
        let (begun, in_vain) = (Instant::now(), false);
        Ok(Box::new(Bus { subjects, shared, hosts, begun, in_vain, changed: begun }))
    })
}

/// Shared by the client's thread and the reader.
#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    news: Condvar,
    sayings: Sayings,
    /// Messages for which there was no room.
    missed: AtomicU64,
    /// Whether nobody reads any more.
    over: AtomicBool,
    asking: Mutex<Asking>,
}

/// Subscriptions are not ordered among each other: a host's identity must be read before its
/// reports.
#[derive(Default)]
struct Queue {
    greetings: VecDeque<(async_nats::Message, Instant)>,
    messages: VecDeque<(async_nats::Message, Instant)>,
    bytes: usize,
    by_subject: HashMap<String, u32>,
    ended: Option<String>,
}

/// What determines the requests.
#[derive(Debug, Default)]
struct Asking {
    hosts: Vec<HostPath>,
    /// The average size of a host's rows.
    size: Option<u64>,
    /// Whether inner addresses are not requested.
    sums: bool,
    /// How many times the interval has been doubled.
    slow: u32,
}

impl Asking {
    /// The interval for this many hosts.
    fn every(&self, least: Duration) -> Duration {
        let by_size = match self.hosts.len() {
            ..=2_000 => LEAST,
            2_001..=10_000 => Duration::from_secs(5),
            _ => Duration::from_secs(10),
        };
        by_size.max(least) * 2u32.pow(self.slow)
    }

    /// What to request: inner addresses, unless that is too much.
    fn what(&mut self, every: Duration) -> FrameKind {
        let bytes = self.size.unwrap_or(USUAL).saturating_mul(self.hosts.len() as u64);
        let bits = bytes.saturating_mul(8_000) / (every.as_millis() as u64).max(1);
        // Near the limit it stays as it is.
        let most = if self.sums { MOST_BITS / 2 } else { MOST_BITS };
        self.sums = bits > most;
        if self.sums { FrameKind::Sum } else { FrameKind::Rows }
    }

    /// Whether rows of so many hosts can be requested beside the sums of all.
    fn has_room(&self, hosts: usize, every: Duration) -> bool {
        let bytes = self.size.unwrap_or(USUAL).saturating_mul(hosts as u64);
        bytes.saturating_mul(8_000) / (every.as_millis() as u64).max(1) <= MOST_BITS / 2
    }
}

impl Shared {
    fn queue(&self) -> std::sync::MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, topic: SubjectKind, message: async_nats::Message) {
        let mut queue = self.queue();
        let size = message.payload.len() + message.subject.len() + 200;
        let before = queue.by_subject.get(message.subject.as_str()).copied().unwrap_or(0);
        if queue.bytes + size > MOST_BYTES || before >= MOST_OF_ONE {
            drop(queue);
            self.missed.fetch_add(1, Ordering::Relaxed);
            return;
        }
        queue.bytes += size;
        queue.by_subject.insert(message.subject.to_string(), before + 1);
        let came = Instant::now();
        match topic {
            SubjectKind::Hello => queue.greetings.push_back((message, came)),
            _ => queue.messages.push_back((message, came)),
        }
        self.news.notify_one();
    }

    fn end(&self, why: String) {
        self.queue().ended = Some(why);
        self.news.notify_one();
    }

    /// The next message; `None` if there is a notice first.
    fn pop(&self) -> Result<Option<(async_nats::Message, Instant)>> {
        let mut queue = self.queue();
        loop {
            let next = queue.greetings.pop_front().or_else(|| queue.messages.pop_front());
            if let Some((message, came)) = next {
                queue.bytes -= message.payload.len() + message.subject.len() + 200;
                if let Some(n) = queue.by_subject.get_mut(message.subject.as_str()) {
                    *n -= 1;
                    if *n == 0 {
                        queue.by_subject.remove(message.subject.as_str());
                    }
                }
                return Ok(Some((message, came)));
            }
            if let Some(why) = &queue.ended {
                bail!(why.clone());
            }
            let wait = Duration::from_millis(500);
            let (again, timeout) =
                self.news.wait_timeout(queue, wait).unwrap_or_else(PoisonError::into_inner);
            queue = again;
            if timeout.timed_out() {
                return Ok(None);
            }
        }
    }
}

/// Subscribes, and repeats the requests.
async fn ask(client: &Client, listening: &Listening, shared: &Arc<Shared>) -> Result<()> {
    let subjects = &listening.subjects;
    let hosts = listening.only.as_deref().unwrap_or(">");
    for topic in [SubjectKind::Hello, SubjectKind::Sum, SubjectKind::Rows] {
        let mut told = client.subscribe(subjects.subject(topic, &hosts)).await?;
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            while let Some(message) = told.next().await {
                shared.push(topic, message);
            }
        });
    }
    let viewer = RandomState::new().hash_one(0); // its keys are random
    let say = async |to: &dyn Display, what, every| {
        let subject = subjects.subject(SubjectKind::Want, to);
        client.publish(subject, want(viewer, what, every, LEASE).into()).await
    };
    say(&"all", FrameKind::Hello, LEAST).await?;
    client.flush().await?;
    tokio::time::sleep(GREETING).await;
    let connects = || client.statistics().connects.load(Ordering::Relaxed);
    let mut is_too_much = false;
    while !shared.over.load(Ordering::Relaxed) {
        let focus = listening.focus.hosts();
        let (every, what, hosts, fits) = {
            let mut asking = shared.asking.lock().unwrap_or_else(PoisonError::into_inner);
            let every = asking.every(listening.every);
            let hosts = listening.only.as_ref().map(|_| asking.hosts.clone());
            (every, asking.what(every), hosts, asking.has_room(focus.len(), every))
        };
        let is_sums = what == FrameKind::Sum;
        if std::mem::replace(&mut is_too_much, is_sums && !fits) != is_too_much && is_too_much {
            shared.sayings.say(&format!(
                "the rows of {} hosts are too much to receive: look into fewer to see inner addresses",
                focus.len()
            ));
        }
        match hosts {
            None => say(&"all", what, every).await?,
            // No other hosts are requested to do anything.
            Some(hosts) => {
                say(&"all", FrameKind::Hello, every).await?;
                for host in &hosts {
                    say(host, what, every).await?;
                }
            }
        }
        for host in focus.iter().filter(|_| is_sums && fits) {
            say(&HostPath::new(host), FrameKind::Rows, every).await?;
        }
        client.flush().await?;
        let (begun, before) = (Instant::now(), connects());
        let known = || shared.asking.lock().unwrap_or_else(PoisonError::into_inner).hosts.len();
        let hosts = known();
        // After reconnecting, on learning of a new host, or if the user looks elsewhere, it requests
        // at once.
        while begun.elapsed() < ASK
            && connects() == before
            && (listening.only.is_none() || known() == hosts)
            && listening.focus.hosts() == focus
            && !shared.over.load(Ordering::Relaxed)
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}

/// A connection, for the reader.
struct Bus {
    subjects: Subjects,
    shared: Arc<Shared>,
    hosts: Hosts,
    begun: Instant,
    /// Whether the silence of all hosts has been reported.
    in_vain: bool,
    /// When the interval was last changed.
    changed: Instant,
}

impl Messenger for Bus {
    fn next(&mut self) -> Result<Option<News>> {
        loop {
            if let Some(line) = self.line() {
                return Ok(Some(News::Notice(line)));
            }
            let Some((message, came)) = self.shared.pop()? else {
                let nobody = self.hosts.tellers.is_empty() && self.begun.elapsed() > ANSWER;
                if nobody && !std::mem::replace(&mut self.in_vain, true) {
                    return Ok(Some(News::Nobody(format!(
                        "no answer in {} s: no host publishes in this fleet, or this login may not subscribe to it",
                        ANSWER.as_secs()
                    ))));
                }
                continue;
            };
            let Some((topic, host)) = self.subjects.read(&message.subject) else { continue };
            let size = message.payload.len() as u64;
            let heard =
                self.hosts.hear((topic, host), &message.payload, came, &self.shared.sayings);
            let Some(frame) = heard else { continue };
            let mut asking = self.shared.asking.lock().unwrap_or_else(PoisonError::into_inner);
            if frame.kind == FrameKind::Hello && !self.hosts.is_counted(host) {
                asking.hosts.push(HostPath::new(host));
            }
            // Hosts that are looked into say nothing of the others.
            if frame.kind == FrameKind::Rows && !asking.sums {
                asking.size = Some(asking.size.map_or(size, |mean| (mean * 31 + size) / 32));
            }
            drop(asking);
            let came = came.checked_sub(frame.held).unwrap_or(came);
            return Ok(Some(News::Frame(Box::new(frame), came)));
        }
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

impl Bus {
    /// The next notice; also adapts the interval.
    fn line(&mut self) -> Option<String> {
        if let Some(line) = self.shared.sayings.take().into_iter().next() {
            return Some(line);
        }
        let since = self.changed.elapsed();
        if since < ASK {
            return None;
        }
        let missed = self.shared.missed.load(Ordering::Relaxed);
        let gaps = self.hosts.gaps();
        let known = self.hosts.tellers.len();
        let is_slow = missed > 0 || gaps > (known / 100).max(2);
        let mut asking = self.shared.asking.lock().unwrap_or_else(PoisonError::into_inner);
        if is_slow && asking.slow < MOST_SLOW {
            asking.slow += 1;
            let (slow, hosts) = (2u32.pow(asking.slow), if missed > 0 { known } else { gaps });
            drop(asking);
            self.calm();
            return Some(format!(
                "this viewer cannot keep up with {hosts} hosts: it now asks them {slow} times less often"
            ));
        }
        if asking.slow > 0 && !is_slow && since > CALM {
            asking.slow -= 1;
            drop(asking);
            self.calm();
        }
        None
    }

    fn calm(&mut self) {
        self.shared.missed.store(0, Ordering::Relaxed);
        self.hosts.tellers.values_mut().for_each(|t| t.gap = false);
        self.changed = Instant::now();
    }
}

/// The hosts that report.
struct Hosts {
    tellers: HashMap<String, Teller>,
}

#[derive(Debug)]
struct Teller {
    epoch: u64,
    /// When the present start was first seen.
    begun: Instant,
    /// Earlier starts.
    past: Vec<u64>,
    /// The last sequence number of sums, and of rows.
    seqs: [Option<u64>; 2],
    /// The kind of the last report that counted, and the end of its period.
    last: Option<(FrameKind, SystemTime)>,
    /// The number of its reports that counted.
    seq: u64,
    is_garbled: bool,
    is_counted: bool,
    /// Whether any of its reports are missing.
    gap: bool,
}

impl Hosts {
    /// Whether a host is already counted; it is from now on.
    fn is_counted(&mut self, host: &str) -> bool {
        self.tellers.get_mut(host).is_none_or(|t| std::mem::replace(&mut t.is_counted, true))
    }

    fn gaps(&self) -> usize {
        self.tellers.values().filter(|t| t.gap).count()
    }

    /// Takes a message, and returns what is new in it: each of a host's intervals once, in order,
    /// from its one present start.
    fn hear(
        &mut self,
        (topic, host): (SubjectKind, &str),
        bytes: &[u8],
        came: Instant,
        sayings: &Sayings,
    ) -> Option<Frame> {
        let read = Frame::decode(bytes).and_then(|frame| {
            let fits = match frame.kind {
                FrameKind::Hello | FrameKind::End => topic == SubjectKind::Hello,
                FrameKind::Sum => topic == SubjectKind::Sum,
                FrameKind::Rows => topic == SubjectKind::Rows,
            };
            if !fits {
                bail!("the kind of the frame does not match its subject");
            }
            // Permissions are by subject, so a frame must not carry another host's name.
            let own = HostPath::new(&frame.interval.origin.host).to_string();
            if own != host {
                bail!("the frame names another host, {}", sanitize(&own));
            }
            Ok(frame)
        });
        let mut frame = match read {
            Ok(frame) => frame,
            Err(e) => {
                let before =
                    self.tellers.get_mut(host).map(|t| std::mem::replace(&mut t.is_garbled, true));
                if before != Some(true) {
                    sayings.say(&format!("{host} sends invalid frames and is ignored: {e:#}"));
                }
                return None;
            }
        };
        let epoch = frame.interval.origin.epoch;
        if !self.tellers.contains_key(host) {
            if frame.kind != FrameKind::Hello {
                return None; // its identity follows soon
            }
            if self.tellers.len() >= MOST_HOSTS {
                let others = "the others are ignored";
                sayings.say(&format!("there are more than {MOST_HOSTS} hosts: {others}"));
                return None;
            }
            self.tellers.insert(host.to_owned(), Teller::new(epoch, came));
        }
        let t = self.tellers.get_mut(host)?;
        if t.epoch != epoch {
            if t.past.contains(&epoch) {
                // Reports from before its restart may still be in transit.
                if came.saturating_duration_since(t.begun) < LEAST {
                    return None;
                }
                let other =
                    "two hosts publish under this name, and one is ignored: name them with --as";
                sayings.say(&format!("{host}: {other}"));
                return None;
            }
            if frame.kind != FrameKind::Hello {
                return None;
            }
            const PAST: usize = 16;
            let mut past = std::mem::take(&mut t.past);
            past.push(t.epoch);
            past.drain(..past.len().saturating_sub(PAST));
            *t = Teller { past, is_counted: t.is_counted, ..Teller::new(epoch, came) };
        }
        t.is_garbled = false;
        t.counts(&frame).then(|| frame.seq = t.seq)?;
        Some(frame)
    }
}

impl Teller {
    fn new(epoch: u64, begun: Instant) -> Teller {
        Teller {
            epoch,
            begun,
            past: Vec::new(),
            seqs: [None; 2],
            last: None,
            seq: 0,
            is_garbled: false,
            is_counted: false,
            gap: false,
        }
    }

    /// Counts a report. Returns false if its period has been counted already.
    fn counts(&mut self, frame: &Frame) -> bool {
        let kind = match frame.kind {
            FrameKind::Hello | FrameKind::End => return true,
            FrameKind::Sum => 0,
            FrameKind::Rows => 1,
        };
        let missing = match self.seqs[kind] {
            Some(before) if frame.seq <= before => return false,
            Some(before) => frame.seq - before - 1,
            None => 0,
        };
        self.seqs[kind] = Some(frame.seq);
        let is_other = |(last, until)| last != frame.kind && frame.interval.since < until;
        if self.last.is_some_and(is_other) {
            return false; // sums of a period that rows have covered, or vice versa
        }
        let missing = if self.last.is_some_and(|(l, _)| l == frame.kind) { missing } else { 0 };
        self.gap |= missing > 0;
        self.seq = self.seq.saturating_add(1).saturating_add(missing);
        self.last = Some((frame.kind, frame.interval.taken));
        true
    }
}
