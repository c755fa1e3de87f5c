// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends intervals to a collector from a separate thread, so that nothing waits for the network.
use std::{
    fmt,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use model::{
    overlay::Overlay,
    snapshot::Interval,
    units::{rfc3339, sanitize},
};

use super::{Encoder, IpfixOptions};

/// Limit on the size of a message: over UDP it must not be fragmented on the path.
const UDP_MOST: usize = 1400;
const TCP_MOST: usize = 16_000;
/// How often templates are sent again: a collector that was started later waits for them.
const TEMPLATES: Duration = Duration::from_secs(60);
/// How often a connection is checked.
const LOOK: Duration = Duration::from_secs(1);
/// How long connecting and writing may take, and the longest pause between two attempts.
const PATIENCE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// How many messages go out at once over UDP before a pause: collectors have small socket buffers.
const BURST: u32 = 16;
const BREATH: Duration = Duration::from_millis(2);

/// A collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name or address.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Whether to use TCP instead of UDP.
    pub tcp: bool,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = sanitize(&self.host);
        let way = if self.tcp { "tcp" } else { "udp" };
        if host.contains(':') {
            write!(f, "[{host}]:{} ({way})", self.port)
        } else {
            write!(f, "{host}:{} ({way})", self.port)
        }
    }
}

impl Target {
    /// Its addresses.
    ///
    /// # Errors
    /// The name has none, or it cannot be resolved.
    pub fn addresses(&self) -> io::Result<Vec<SocketAddr>> {
        let found: Vec<SocketAddr> = (self.host.as_str(), self.port).to_socket_addrs()?.collect();
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "it has no address"));
        }
        Ok(found)
    }
}

/// What to send next.
type Order = (Interval, Option<Arc<Overlay>>);

/// The sender for one collector.
#[derive(Debug)]
pub struct IpfixSender {
    orders: SyncSender<Order>,
    /// Whether it is connected and idle.
    ready: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl IpfixSender {
    /// Starts its thread, which first calls `confine` and reports, one line each, when the
    /// collector goes away and comes back, and what may be lost.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        target: Target,
        options: IpfixOptions,
        confine: impl FnOnce() + Send + 'static,
        tell: impl Fn(&str) + Send + 'static,
    ) -> io::Result<IpfixSender> {
        let (orders, waiting) = sync_channel(1);
        let ready = Arc::new(AtomicBool::new(false));
        let own = Arc::clone(&ready);
        let run = move || {
            confine();
            let most = if target.tcp { TCP_MOST } else { UDP_MOST };
            let encoder = Encoder::new(options, most);
            let link = None;
            Session { target, encoder, link, ready: own, tell: Box::new(tell), away: None }
                .run(&waiting);
        };
        let thread = thread::Builder::new().name("tmon-ipfix".to_owned()).spawn(run)?;
        Ok(IpfixSender { orders, ready, thread })
    }

    /// Whether an interval would be sent at once. If not, holding intervals back loses nothing: the
    /// next one is longer.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Acquire)
    }

    /// Sends an interval. `overlay` contains the addresses of this host.
    pub fn send(&self, interval: Interval, overlay: Option<Arc<Overlay>>) {
        self.ready.store(false, Ordering::Release);
        // Without the thread nothing can be sent, and it never becomes ready again.
        let _ = self.orders.try_send((interval, overlay));
    }

    /// Waits for a while until everything is sent, and returns whether it is.
    pub fn finish(self) -> bool {
        drop(self.orders);
        let end = Instant::now() + PATIENCE;
        while !self.thread.is_finished() && Instant::now() < end {
            thread::sleep(Duration::from_millis(10));
        }
        self.thread.is_finished()
    }
}

/// A connection to the collector.
enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

struct Session {
    target: Target,
    encoder: Encoder,
    link: Option<Link>,
    ready: Arc<AtomicBool>,
    tell: Box<dyn Fn(&str) + Send>,
    /// Since when the collector has been unreachable, and how long to wait before the next attempt.
    away: Option<(Instant, Duration)>,
}

impl Session {
    fn run(mut self, orders: &Receiver<Order>) {
        let (mut attempt, mut templates) = (Instant::now(), Instant::now());
        loop {
            let now = Instant::now();
            if self.link.as_ref().is_some_and(Link::is_closed) {
                self.lose(&io::Error::other("it closed the connection"));
            }
            if self.link.is_none() && now >= attempt {
                match self.connect() {
                    Ok(link) => {
                        self.found(link);
                        templates = now;
                    }
                    Err(e) => self.lose(&e),
                }
                attempt = Instant::now() + self.away.map_or(Duration::ZERO, |(_, pause)| pause);
            }
            if self.link.is_some() && now >= templates {
                templates = now + TEMPLATES;
                let message = self.encoder.templates(SystemTime::now());
                if let Err(e) = self.put(&message) {
                    self.lose(&e);
                }
            }
            self.ready.store(self.link.is_some(), Ordering::Release);
            match orders.recv_timeout(LOOK) {
                Ok((interval, overlay)) => self.send(&interval, overlay.as_deref()),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn send(&mut self, interval: &Interval, overlay: Option<&Overlay>) {
        let mut encoder = self.encoder.clone();
        let mut burst = 0;
        let udp = matches!(self.link, Some(Link::Udp(_)));
        let sent = encoder.interval(interval, overlay, &mut |message| {
            if udp && burst == BURST {
                thread::sleep(BREATH);
                burst = 0;
            }
            burst += 1;
            self.put(message)
        });
        self.encoder = encoder;
        if let Err(e) = sent {
            self.lose(&e);
            let (since, taken) = (rfc3339(interval.since), rfc3339(interval.taken));
            let rows = interval.rows.len();
            (self.tell)(&format!(
                "{}: some of {rows} rows from {since} to {taken} may be lost",
                self.target
            ));
        }
    }

    /// Sends one message.
    fn put(&mut self, message: &[u8]) -> io::Result<()> {
        match &mut self.link {
            None => Err(io::ErrorKind::NotConnected.into()),
            Some(Link::Tcp(stream)) => stream.write_all(message),
            Some(Link::Udp(socket)) => match socket.send(message) {
                // This refers to an earlier message, and the present one was not sent.
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    match socket.send(message) {
                        Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
                        sent => sent.map(|_| ()),
                    }
                }
                sent => sent.map(|_| ()),
            },
        }
    }

    fn connect(&self) -> io::Result<Link> {
        let mut last = io::Error::from(io::ErrorKind::NotFound);
        for address in self.target.addresses()? {
            let link = match self.target.tcp {
                true => TcpStream::connect_timeout(&address, PATIENCE).and_then(|stream| {
                    stream.set_write_timeout(Some(PATIENCE))?;
                    stream.set_nodelay(true)?;
                    Ok(Link::Tcp(stream))
                }),
                false => {
                    let own: IpAddr = match address {
                        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                    };
                    UdpSocket::bind((own, 0)).and_then(|socket| {
                        socket.connect(address)?;
                        Ok(Link::Udp(socket))
                    })
                }
            };
            match link {
                Ok(link) => return Ok(link),
                Err(e) => last = e,
            }
        }
        Err(last)
    }

    fn found(&mut self, link: Link) {
        if let Link::Tcp(_) = link {
            self.encoder.sequence = 0; // it counts per session
        }
        self.link = Some(link);
        if let Some((since, _)) = self.away.take() {
            let away = since.elapsed().as_secs();
            (self.tell)(&format!("{} is back after {away} s", self.target));
        }
    }

    fn lose(&mut self, e: &io::Error) {
        self.ready.store(false, Ordering::Release);
        self.link = None;
        self.away = match self.away {
            None => {
                (self.tell)(&format!(
                    "{} is unreachable: {e}; the next interval will include this time",
                    self.target
                ));
                Some((Instant::now(), LOOK))
            }
            Some((since, pause)) => Some((since, (2 * pause).min(LONGEST_PAUSE))),
        };
    }
}

impl Link {
    /// Whether the collector has closed the connection. Collectors send nothing.
    fn is_closed(&self) -> bool {
        let Link::Tcp(stream) = self else { return false };
        let looked = stream.set_nonblocking(true).and_then(|()| stream.peek(&mut [0; 1]));
        let restored = stream.set_nonblocking(false);
        let closed = match looked {
            Ok(n) => n == 0,
            Err(e) => e.kind() != io::ErrorKind::WouldBlock,
        };
        closed || restored.is_err()
    }
}
