// SPDX-License-Identifier: MIT OR Apache-2.0
//! Live readings of remote hosts, over connections: a command (usually ssh) connects to one host, a
//! bus to all of them. Each connection has a thread, which reconnects with increasing delays. At
//! most eight connect at the same time, because sshd rejects more (MaxStartups).
use std::{
    collections::BTreeSet,
    io::Read,
    net::IpAddr,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    frame::{Frame, FrameKind, FrameReader},
    names::Names,
    source::{Due, Reading, Source},
};
use model::{fleet::Fleet, interface::Origin, snapshot::Snapshot, units::duration};

/// Opens a connection.
pub type Connect = Box<dyn FnMut() -> Result<Box<dyn Messenger>> + Send>;

/// A connection that delivers frames.
pub trait Messenger: Send {
    /// The next item; `None` at the end.
    ///
    /// # Errors
    /// Nothing can come any more, and why.
    fn next(&mut self) -> Result<Option<News>>;
}

/// An item from a connection.
#[derive(Debug)]
pub enum News {
    /// A frame of a host, and when it arrived, less the time for which it was held back.
    Frame(Box<Frame>, Instant),
    /// A line for the user.
    Notice(String),
    /// No host has answered yet, and the reason, if known.
    Nobody(String),
}

/// The stream of a single host.
struct Stream(FrameReader);

impl Messenger for Stream {
    fn next(&mut self) -> Result<Option<News>> {
        // The time of arrival is used to judge the host's clock, so take it now, not when the frame
        // is processed.
        let frame = self.0.next_frame()?;
        Ok(frame.map(|frame| News::Frame(Box::new(frame), Instant::now())))
    }
}

/// A connection that reads the stream of a single host.
///
/// # Errors
/// It does not begin as one.
pub fn stream(from: impl Read + Send + 'static) -> Result<Box<dyn Messenger>> {
    Ok(Box::new(Stream(FrameReader::new(from)?)))
}

/// The names of the hosts that the user looks into, as shared with connections.
#[derive(Clone, Debug, Default)]
pub struct Focus(Arc<Mutex<BTreeSet<Arc<str>>>>);

impl Focus {
    /// Looks into these hosts from now on, and into no others.
    pub fn set(&self, hosts: impl IntoIterator<Item = Arc<str>>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = hosts.into_iter().collect();
    }

    /// The hosts, by name.
    pub fn hosts(&self) -> BTreeSet<Arc<str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// How many connections are opened at the same time, and how long each may take before another one
/// gets its turn.
const AT_ONCE: usize = 8;
const TURN: Duration = Duration::from_secs(3);
/// How long to wait before reconnecting: at first, and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(60)];
/// How long the first reading waits for all hosts, and how long for any host.
const ALL: Duration = Duration::from_secs(3);
const ANY: Duration = Duration::from_secs(60);
/// How often to check whether to stop waiting.
const STEP: Duration = Duration::from_millis(100);
/// How long a reading waits for hosts that are late.
const LATE: Duration = Duration::from_millis(700);
/// The maximum of that, however long the interval of the hosts is.
const LATEST: Duration = Duration::from_secs(15);

/// How long to wait for a further frame that has already been sent.
const NEXT: Duration = Duration::from_millis(20);

/// A message of a connection's thread.
enum Message {
    News(usize, News),
    /// It has ended, and why.
    Ended(usize, String),
}

/// A source that listens to remote hosts.
pub struct Remote {
    news: Receiver<Message>,
    connections: Vec<Connection>,
    fleet: Fleet,
    names: Names,
    begun: Instant,
    /// How long the first reading waits for any host.
    patience: Duration,
    /// Raised to stop waiting.
    over: Arc<AtomicBool>,
    /// When to stop waiting.
    end: Option<Instant>,
    /// Frames not taken yet, if frames rather than sums are wanted.
    frames: Option<Vec<Frame>>,
    /// The latest moment of the previous reading.
    taken: Option<SystemTime>,
    /// When something newer first arrived.
    newer: Option<Instant>,
    /// When the previous reading was taken, or attempted.
    read: Instant,
    /// How many more frames must arrive before all hosts have reported.
    missing: usize,
    notices: Vec<String>,
    focus: Focus,
}

/// The state of a connection.
struct Connection {
    name: String,
    /// When it last delivered something.
    told: Option<Instant>,
    /// Why it last ended.
    trouble: Option<String>,
}

impl Connection {
    fn silence(&self) -> String {
        match (&self.trouble, self.told) {
            (Some(why), _) => format!("{}: {why}", self.name),
            (None, Some(told)) => {
                format!("{}: nothing for {}", self.name, duration(told.elapsed()))
            }
            (None, None) => format!("{}: no answer", self.name),
        }
    }
}

/// The turns for connecting, by when they began.
#[derive(Default)]
struct Turns(Mutex<Vec<Instant>>, Condvar);

impl Turns {
    fn wait(self: &Arc<Turns>) -> Turn {
        let mut begun = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            begun.retain(|begun| begun.elapsed() < TURN);
            let oldest = begun.iter().min().filter(|_| begun.len() >= AT_ONCE).copied();
            let Some(oldest) = oldest else { break };
            let left = TURN.saturating_sub(oldest.elapsed());
            begun = self.1.wait_timeout(begun, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let now = Instant::now();
        begun.push(now);
        Turn(Arc::clone(self), now)
    }
}

/// A turn for connecting, which expires after [`TURN`] and is given back on drop.
struct Turn(Arc<Turns>, Instant);

impl Drop for Turn {
    fn drop(&mut self) {
        let mut begun = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = begun.iter().position(|begun| *begun == self.1) {
            begun.swap_remove(own);
        }
        self.0.1.notify_one();
    }
}

impl Remote {
    /// Opens all connections, given with their names. Names that hosts report become `names` of
    /// their addresses. At most one frame per connection is queued; faster hosts wait.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn new(
        connections: Vec<(String, Connect)>,
        origin: Origin,
        names: Names,
    ) -> Result<Remote> {
        let (send, news) = mpsc::sync_channel(connections.len());
        let turns = Arc::<Turns>::default();
        let mut known = Vec::with_capacity(connections.len());
        for (place, (name, mut connect)) in connections.into_iter().enumerate() {
            let (send, turns) = (send.clone(), Arc::clone(&turns));
            let read = move || keep_reading(place, &mut connect, &turns, &send);
            thread::Builder::new()
                .name("remote".to_owned())
                .spawn(read)
                .context("start a thread")?;
            known.push(Connection { name, told: None, trouble: None });
        }
        Ok(Remote {
            news,
            connections: known,
            fleet: Fleet::new(origin),
            names,
            begun: Instant::now(),
            patience: ANY,
            over: Arc::default(),
            end: None,
            frames: None,
            taken: None,
            newer: None,
            read: Instant::now(),
            missing: 0,
            notices: Vec::new(),
            focus: Focus::default(),
        })
    }

    /// Stops waiting once this flag is raised.
    pub fn until(mut self, flag: &Arc<AtomicBool>) -> Remote {
        self.over = Arc::clone(flag);
        self
    }

    /// Limits how long the first reading waits for any host; the default is a minute.
    pub fn patient(mut self, patience: Duration) -> Remote {
        self.patience = patience;
        self
    }

    /// Says by this which hosts the user looks into.
    pub fn focusing(mut self, focus: Focus) -> Remote {
        self.focus = focus;
        self
    }

    /// Stops waiting at this time.
    pub fn ending(mut self, end: Option<Instant>) -> Remote {
        self.end = end;
        self
    }

    /// Keeps the frames as they arrive, for [`Remote::frames`], instead of adding them up.
    pub fn kept(mut self) -> Remote {
        self.frames = Some(Vec::new());
        self
    }

    /// What hosts have reported since the last time, of those that report in time, and lines for
    /// the user. Does not wait once `is_over` is true.
    ///
    /// # Errors
    /// No host has reported anything new.
    pub fn frames(&mut self, is_over: &dyn Fn() -> bool) -> Result<(Vec<Frame>, Vec<String>)> {
        let heard = self.listen(is_over);
        let frames = self.frames.as_mut().map(std::mem::take).unwrap_or_default();
        // A host that leaves or sends a greeting reports no interval.
        match heard {
            Err(e) if frames.is_empty() => Err(e),
            _ => Ok((frames, self.notices())),
        }
    }

    fn notices(&mut self) -> Vec<String> {
        let mut notices = std::mem::take(&mut self.notices);
        notices.extend(self.fleet.notices());
        notices
    }

    /// The current state of all hosts, including silent ones.
    pub fn known(&mut self) -> Snapshot {
        self.fleet.look(self.begun.elapsed());
        self.fleet.snapshot()
    }

    /// Whether all connections have failed before any host sent anything.
    pub fn has_failed(&self) -> bool {
        self.connections.iter().all(|c| c.told.is_none() && c.trouble.is_some())
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::News(place, News::Frame(frame, came)) => {
                let now = came.saturating_duration_since(self.begun);
                if let Some(overlay) = &frame.interval.overlay {
                    self.names.learn_recorded(&frame.interval.origin.host, overlay);
                }
                if let Some(frames) = &mut self.frames {
                    // Repeated frames, and those in the name of another host, are not kept.
                    let is_heard = self.fleet.follow(&frame.told(), now).is_some();
                    if is_heard || frame.kind == FrameKind::End {
                        let heard = SystemTime::now().checked_sub(came.elapsed());
                        frames.push(Frame { heard, ..*frame });
                    }
                } else {
                    self.fleet.hear(&frame.told(), now);
                }
                self.missing = self.missing.saturating_sub(1);
                if self.newer.is_none() && self.taken.is_some_and(|t| self.fleet.taken() != t) {
                    self.newer = Some(Instant::now());
                }
                if let Some(c) = self.connections.get_mut(place) {
                    (c.told, c.trouble) = (Some(came), None);
                }
            }
            Message::News(_, News::Notice(text)) => self.notices.push(text),
            Message::Ended(place, why) | Message::News(place, News::Nobody(why)) => {
                let Some(c) = self.connections.get_mut(place) else { return };
                if c.trouble.as_ref() != Some(&why) {
                    self.notices.push(format!("{}: {why}", c.name));
                    c.trouble = Some(why);
                }
            }
        }
    }

    /// Whether all hosts that are due have sent something new.
    fn is_complete(&mut self) -> bool {
        let begun = match self.taken {
            Some(_) => self.newer.is_some(),
            None => self.connections.iter().all(|c| c.told.is_some()),
        };
        if begun && self.missing == 0 {
            self.missing = self.fleet.behind();
        }
        begun && self.missing == 0
    }

    /// How long a reading waits for late hosts: those with long intervals spread their messages
    /// more.
    fn late(&self) -> Duration {
        LATE.max(self.fleet.cadence() * 3 / 2).min(LATEST)
    }

    fn wait(&mut self, until: Instant, is_over: &dyn Fn() -> bool) {
        let until = self.end.map_or(until, |end| end.min(until));
        let is_over = |r: &Remote| r.over.load(Ordering::Relaxed) || is_over();
        while !self.is_complete() && Instant::now() < until && !is_over(self) {
            match self.news.recv_timeout(until.saturating_duration_since(Instant::now()).min(STEP))
            {
                Ok(message) => self.take(message),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Why there is nothing new on some connections: failed ones come first.
    fn silence(&self) -> String {
        const SAID: usize = 3;
        let mut all: Vec<&Connection> = self.connections.iter().collect();
        all.sort_by_key(|c| (c.trouble.is_none(), c.told));
        let mut said: Vec<String> = all.iter().take(SAID).map(|c| c.silence()).collect();
        if all.len() > SAID {
            said.push(format!("and {} more", all.len() - SAID));
        }
        said.join("; ")
    }

    /// Connections without any message so far, and the reason if it is known.
    pub fn unheard(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let mute = self.connections.iter().filter(|c| c.told.is_none());
        mute.map(|c| (c.name.as_str(), c.trouble.as_deref()))
    }
}

impl Remote {
    /// Waits for something new from all hosts, within limits, and takes everything that has
    /// arrived.
    fn listen(&mut self, is_over: &dyn Fn() -> bool) -> Result<()> {
        if self.taken.is_none() {
            self.wait(self.begun + ALL.min(self.patience), is_over);
            let is_late = |r: &Remote| {
                r.begun.elapsed() >= r.patience
                    || r.over.load(Ordering::Relaxed)
                    || r.end.is_some_and(|end| Instant::now() >= end)
                    || r.has_failed()
            };
            while !self.fleet.has_begun() && !is_late(self) && !is_over() {
                self.wait(Instant::now() + LATE, is_over);
            }
        } else {
            self.wait(self.newer.unwrap_or(self.read) + self.late(), is_over);
        }
        self.read = Instant::now();
        // Take everything since the last reading, which may be long ago, but do not let a flooding
        // host delay this.
        let end = Instant::now() + LATE;
        while let Ok(message) = self.news.recv_timeout(NEXT) {
            self.take(message);
            if Instant::now() > end {
                break;
            }
        }
        self.fleet.look(self.begun.elapsed());
        if !self.fleet.has_begun() || self.taken == Some(self.fleet.taken()) {
            let silence = self.silence();
            // Messages of a bus concern no host, and may be the reason.
            let mut why = std::mem::take(&mut self.notices);
            why.retain(|notice| !silence.contains(notice));
            why.push(silence);
            return Err(anyhow!("no host sends anything: {}", why.join("; ")));
        }
        (self.taken, self.newer, self.missing) = (Some(self.fleet.taken()), None, 0);
        Ok(())
    }
}

impl Source for Remote {
    fn read(&mut self) -> Result<Reading> {
        self.listen(&|| false)?;
        self.names.learn_hosts(self.fleet.names());
        let notices = self.notices();
        Ok(Reading { notices, ..Reading::from(self.fleet.snapshot()) })
    }

    fn progress(&self) -> Option<String> {
        let (heard, known) = self.fleet.heard();
        let all = known.max(self.connections.len());
        (heard < all).then(|| format!("{heard} of {all} hosts"))
    }

    fn follow(&mut self) -> Vec<String> {
        let end = Instant::now() + NEXT;
        while Instant::now() < end
            && let Ok(message) = self.news.try_recv()
        {
            self.take(message);
        }
        self.is_complete();
        Vec::new()
    }

    fn look_into(&mut self, hosts: &[IpAddr]) {
        self.focus.set(self.fleet.hosts_of(hosts.iter().copied()));
    }

    /// Do not wait for hosts while the user may press a key.
    fn due(&self) -> Due {
        let is_early = |since: Instant| since.elapsed() < self.late();
        match (self.taken, self.newer) {
            (Some(_), None) if is_early(self.read) => Due::Later,
            (Some(_), Some(since)) if self.missing > 0 && is_early(since) => Due::Later,
            _ => Due::Always,
        }
    }
}

/// Reads until the receiver is gone.
fn keep_reading(
    place: usize,
    connect: &mut Connect,
    turns: &Arc<Turns>,
    news: &SyncSender<Message>,
) {
    let [mut pause, longest] = BACK_OFF;
    loop {
        let begun = Instant::now();
        let why = match read(place, connect, turns, news) {
            Ok(true) => "the connection has ended".to_owned(),
            Ok(false) => return,
            Err(e) => format!("{e:#}"),
        };
        if news.send(Message::Ended(place, why)).is_err() {
            return;
        }
        if begun.elapsed() > longest {
            pause = BACK_OFF[0];
        }
        // Spreads reconnects after an outage.
        let spread = Duration::from_millis(place as u64 * 7919 % 1000);
        thread::sleep(pause + spread);
        pause = (pause * 2).min(longest);
    }
}

/// Reads a connection to its end. Returns false if the receiver is gone.
fn read(
    place: usize,
    connect: &mut Connect,
    turns: &Arc<Turns>,
    news: &SyncSender<Message>,
) -> Result<bool> {
    let mut turn = Some(turns.wait());
    let mut messenger = connect()?;
    while let Some(next) = messenger.next()? {
        turn = None; // it is connected
        if news.send(Message::News(place, next)).is_err() {
            return Ok(false);
        }
    }
    drop(turn);
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::{
        io::Cursor,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use anyhow::bail;

    use super::*;
    use crate::frame::{FrameKind, FrameWriter};
    use model::{interface::Interface, rows::Rows, snapshot::Interval};

    /// The stream of a host that reports seconds from `from` on.
    fn stream(host: &str, from: u64, seconds: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = FrameWriter::new(&mut bytes);
        for at in from..from + seconds {
            let t = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(1000 + n);
            let (second, eth0) = (Duration::from_secs(1), Interface::new(0, "eth0"));
            let mut interval = Interval::new(t(at), t(at + 1), second, vec![eth0], Rows::default());
            interval.origin.host = host.into();
            let frame = Frame {
                kind: FrameKind::Rows,
                seq: at,
                reading: Duration::ZERO,
                held: Duration::ZERO,
                heard: None,
                clock: None,
                cadence: second,
                local: vec![[10, 0, 0, host.len() as u8].into()],
                tool: String::new(),
                interval,
            };
            writer.write(&frame).expect("memory");
        }
        bytes
    }

    fn remote(connections: Vec<(&str, Connect)>) -> Remote {
        let named = connections.into_iter().map(|(name, c)| (name.to_owned(), c)).collect();
        Remote::new(named, Origin::default(), Names::default()).expect("threads")
    }

    #[test]
    fn a_failed_host_is_reported_and_retried_while_others_continue() {
        let tries = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&tries);
        let broken: Connect = Box::new(move || match counted.fetch_add(1, Ordering::Relaxed) {
            0 => bail!("no route"),
            1 => super::stream(Cursor::new(b"Welcome!\n# no tmon here\n".to_vec())),
            _ => super::stream(Cursor::new(stream("bb", 5, 1))),
        });
        let works: Connect = Box::new(|| super::stream(Cursor::new(stream("a", 5, 1))));
        let mut all = remote(vec![("a", works), ("b", broken)]);
        let mut notices = Vec::new();
        let mut hosts = 0;
        let begun = Instant::now();
        while hosts < 2 {
            assert!(begun.elapsed() < Duration::from_secs(60), "{notices:?}");
            if let Ok(reading) = all.read() {
                notices.extend(reading.notices);
                hosts = reading.snapshot.interfaces.len();
            }
            all.taken = all.taken.map(|_| SystemTime::UNIX_EPOCH); // the same moment again
        }
        let said = notices.join("\n");
        assert!(said.contains("b: no route") && said.contains("# no tmon here"), "{said}");
        assert_eq!(all.names.address([10, 0, 0, 2].into(), false).as_deref(), Some("bb"));
    }

    #[test]
    fn a_silent_connection_locks_nobody_out() {
        let (hold, silence) = mpsc::channel::<()>();
        let silence = Arc::new(Mutex::new(silence));
        let mut all: Vec<(String, Connect)> = Vec::new();
        for n in 0..AT_ONCE {
            let silence = Arc::clone(&silence);
            let mute: Connect = Box::new(move || {
                // The first holds the lock, and the others wait for it.
                let _ = silence.lock().unwrap_or_else(PoisonError::into_inner).recv();
                bail!("it has ended")
            });
            all.push((format!("mute-{n}"), mute));
        }
        all.push(("good".to_owned(), Box::new(|| super::stream(Cursor::new(stream("a", 5, 1))))));
        let mut all = Remote::new(all, Origin::default(), Names::default()).expect("threads");
        let begun = Instant::now();
        while !all.read().is_ok_and(|r| r.snapshot.interfaces.len() == 1) {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is heard");
        }
        let said = all.silence();
        assert!(said.contains("mute-0: no answer; mute-1: no answer; and 6 more"), "{said}");
        drop(hold);
    }

    /// A connection that only delivers this.
    struct Refused(Option<News>);

    impl Messenger for Refused {
        fn next(&mut self) -> Result<Option<News>> {
            self.0.take().map_or_else(
                || loop {
                    thread::park()
                },
                |news| Ok(Some(news)),
            )
        }
    }

    #[test]
    fn a_refusal_by_the_bus_is_the_reason_given() {
        let refused: Connect = Box::new(|| {
            Ok(Box::new(Refused(Some(News::Notice("the bus says: not you".to_owned())))))
        });
        let mut all = remote(vec![("nats://a", refused)]).patient(Duration::from_secs(1));
        let begun = Instant::now();
        let mut said = String::new();
        while !said.contains("not you") && begun.elapsed() < Duration::from_secs(30) {
            said = all.read().expect_err("nobody").to_string();
        }
        assert_eq!(said, "no host sends anything: the bus says: not you; nats://a: no answer");
    }

    #[test]
    fn a_slow_reader_receives_everything() {
        let host: Connect = Box::new(|| super::stream(Cursor::new(stream("a", 0, 100))));
        let mut all = remote(vec![("a", host)]);
        let begun = Instant::now();
        let (mut taken, mut readings) = (None, 0);
        while taken != Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1100)) {
            assert!(begun.elapsed() < Duration::from_secs(60), "{taken:?}");
            readings += 1;
            if let Ok(reading) = all.read() {
                taken = Some(reading.snapshot.taken);
            }
        }
        assert!(readings < 30, "seconds that have already arrived are taken together: {readings}");
    }

    /// An endless stream, as fast as it is read.
    struct Flood(Cursor<Vec<u8>>, Arc<AtomicUsize>);

    impl Read for Flood {
        fn read(&mut self, to: &mut [u8]) -> std::io::Result<usize> {
            let n = self.0.read(to)?;
            if n > 0 {
                return Ok(n);
            }
            self.1.fetch_add(1, Ordering::Relaxed);
            self.0.set_position(0);
            self.0.read(to)
        }
    }

    #[test]
    fn a_flooding_host_waits_and_delays_nobody() {
        let rounds = Arc::new(AtomicUsize::new(0));
        let (bytes, counted) = (stream("fast", 5, 60), Arc::clone(&rounds));
        let fast: Connect = Box::new(move || {
            super::stream(Flood(Cursor::new(bytes.clone()), Arc::clone(&counted)))
        });
        let works: Connect = Box::new(|| super::stream(Cursor::new(stream("a", 500, 1))));
        let mut all = remote(vec![("fast", fast), ("a", works)]);
        let begun = Instant::now();
        while all.read().is_ok_and(|r| r.snapshot.interfaces.len() < 2) {
            assert!(begun.elapsed() < Duration::from_secs(60), "both are heard");
        }
        // Buffers on the way are filled; after that nothing is read until frames are taken.
        let settled = || {
            let before = rounds.load(Ordering::Relaxed);
            thread::sleep(Duration::from_millis(300));
            rounds.load(Ordering::Relaxed) == before
        };
        while !settled() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it waits");
        }
    }

    #[test]
    fn silence_of_all_hosts_is_explained() {
        let broken: Connect = Box::new(|| bail!("no route"));
        let mut all = remote(vec![("node-a", broken)]);
        all.begun = Instant::now().checked_sub(ANY).expect("it runs for longer");
        let begun = Instant::now();
        let mut said = String::new();
        while !said.contains("no route") && begun.elapsed() < Duration::from_secs(30) {
            said = all.read().expect_err("nobody").to_string();
        }
        assert_eq!(said, "no host sends anything: node-a: no route");
    }
}
