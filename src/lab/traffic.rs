// SPDX-License-Identifier: MIT OR Apache-2.0
//! Sends a scenario's requests, answers them, and counts. One thread with a socket in every
//! namespace involved: nothing is spawned there.
use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, VecDeque, hash_map::Entry},
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, ppoll},
    sys::{
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, SockaddrStorage, bind, socket},
        time::TimeSpec,
    },
};
use serde::Serialize;

use super::{
    plan::{Plan, fabric},
    run::standing_or_explain,
    scenario::{Carrier, Scenario, Talk, culprit, talks},
};
use crate::kernel::netns::{self, Netns};

/// The UDP port on which the lab's clients receive requests.
pub const PORT: u16 = 47474;
/// How long an answer may take once nothing more is sent.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often to check that the lab is still there, and the longest sleep.
const CHECK: Duration = Duration::from_millis(200);
/// Limit on the unanswered requests of one talk; older ones are lost.
const OUTSTANDING: usize = 4096;
/// The size of the head of every payload: a magic number, the type, the talk, the number, the size
/// of the answer.
const HEAD: usize = 16;
const MAGIC: &[u8; 4] = b"tmon";

/// The traffic to generate in a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The scenario.
    pub scenario: Scenario,
    /// How long; `None` is until stopped. A steady once-a-second talk sends exactly that many
    /// requests.
    pub duration: Option<Duration>,
    /// Determines the culprit.
    pub seed: u64,
    /// Whether it is between the clients' IPv6 addresses.
    pub ipv6: bool,
}

impl Traffic {
    /// A scenario, until stopped, with a random seed.
    pub fn new(scenario: Scenario) -> Self {
        Traffic {
            scenario,
            duration: None,
            seed: RandomState::new().hash_one("culprit"),
            ipv6: false,
        }
    }

    /// The culprit's inner and outer address in the existing lab; `None` in the other scenarios.
    pub fn culprit(&self, prefix: &str) -> Result<Option<(IpAddr, IpAddr)>> {
        if self.scenario != Scenario::Culprit {
            return Ok(None);
        }
        let plan = standing_or_explain(prefix)?;
        let (i, k) = culprit(&plan, self.seed);
        Ok(Some((self.client(&plan, i, k)?, plan.endpoint(k))))
    }

    fn client(&self, plan: &Plan, i: u8, k: u8) -> Result<IpAddr> {
        match self.ipv6 {
            false => Ok(plan.client(i, k)),
            true => plan.client6(i, k).context(
                "the clients of this lab have no IPv6 addresses: create it with `tmon lab up --ipv6`",
            ),
        }
    }
}

/// The results of the requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Summary {
    /// The scenario's name.
    pub scenario: String,
    /// How long it ran, milliseconds.
    pub milliseconds: u64,
    /// Requests sent.
    pub sent: u64,
    /// Requests answered, with the right answer.
    pub answered: u64,
    /// Requests without an answer.
    pub lost: u64,
    /// Packets that arrived but were not what was sent.
    pub wrong: u64,
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Summary { scenario, milliseconds, sent, answered, lost, wrong } = self;
        write!(
            f,
            "{scenario}: {sent} requests sent, {answered} answered, {lost} lost, {wrong} wrong, in {:.1} s",
            *milliseconds as f64 / 1e3
        )
    }
}

/// Generates traffic in the existing lab, until its time is over or `stop` becomes true.
///
/// Fails if there is no lab, if it goes away, or if other UDP traffic of tmon is already running in it.
pub fn traffic(prefix: &str, traffic: &Traffic, stop: &AtomicBool) -> Result<Summary> {
    let plan = standing_or_explain(prefix)?;
    let talks = talks(traffic.scenario, &plan, traffic.seed);
    let mut stage = Stage::set(&plan, traffic, talks)?;
    let start = Instant::now();
    let end = traffic.duration.map(|d| start + d);
    let mut due: BinaryHeap<Reverse<(Instant, usize)>> =
        (0..stage.talks.len()).map(|t| Reverse((start, t))).collect();
    let mut check = start;
    let mut last_call = None;
    loop {
        let now = Instant::now();
        let mut wake = now + CHECK;
        match last_call {
            Some(last) if now >= last || stage.outstanding() == 0 => break,
            Some(last) => wake = wake.min(last),
            None => {
                while let Some(Reverse((at, t))) = due.peek().copied().filter(|d| d.0.0 <= now) {
                    due.pop();
                    if end.is_none_or(|end| at < end) {
                        stage.ask(t)?;
                        // Deadlines follow from deadlines, so delays do not accumulate. Lateness is
                        // made up for, but after a suspend it continues from now.
                        let next = at + stage.talks[t].pace.gap(at - start);
                        let earliest =
                            now.checked_sub(PATIENCE).filter(|_| end.is_none()).unwrap_or(next);
                        due.push(Reverse((next.max(earliest), t)));
                    }
                }
                if let Some(Reverse((at, _))) = due.peek() {
                    wake = wake.min(*at);
                }
                if stop.load(Ordering::Relaxed) || end.is_some_and(|end| now >= end) {
                    last_call = Some(now + PATIENCE);
                }
            }
        }
        if now >= check {
            check = now + CHECK;
            if !netns::list()?.contains(&fabric(prefix)) {
                bail!(
                    "the lab was taken down while traffic was running ({})",
                    stage.summary(traffic.scenario, start)
                );
            }
        }
        stage.listen(wake.saturating_duration_since(Instant::now()))?;
    }
    Ok(stage.summary(traffic.scenario, start))
}

/// The sockets and the counts.
struct Stage {
    talks: Vec<Talk>,
    /// Each talk's socket (an index) and the destination of its requests.
    ways: Vec<(usize, SocketAddr)>,
    /// Unanswered requests, by talk, oldest first.
    open: Vec<VecDeque<u32>>,
    numbers: Vec<u32>,
    sockets: Vec<(UdpSocket, Carrier)>,
    sent: u64,
    answered: u64,
    wrong: u64,
    buffer: Vec<u8>,
}

impl Stage {
    fn set(plan: &Plan, traffic: &Traffic, talks: Vec<Talk>) -> Result<Self> {
        let mut stage = Stage {
            ways: Vec::new(),
            open: vec![VecDeque::new(); talks.len()],
            numbers: vec![0; talks.len()],
            sockets: Vec::new(),
            sent: 0,
            answered: 0,
            wrong: 0,
            buffer: vec![0; 65536],
            talks: Vec::new(),
        };
        let mut places: HashMap<u8, Netns> = HashMap::new();
        let mut listening: HashMap<(u8, u8), usize> = HashMap::new();
        for talk in &talks {
            for host in [talk.from, talk.to] {
                if let Entry::Vacant(place) = places.entry(host) {
                    place.insert(Netns::open(&plan.host(host))?);
                }
            }
            let to = traffic.client(plan, talk.network, talk.to)?;
            let way = match talk.carrier {
                Carrier::Echo => {
                    let from = traffic.client(plan, talk.network, talk.from)?;
                    let to = SocketAddr::new(to, 0);
                    let socket = places[&talk.from].within(|| echo_socket(from))?;
                    stage.sockets.push((
                        socket.with_context(|| format!("open an echo socket at {from}"))?,
                        Carrier::Echo,
                    ));
                    (stage.sockets.len() - 1, to)
                }
                Carrier::Udp => {
                    for host in [talk.from, talk.to] {
                        let at = SocketAddr::new(traffic.client(plan, talk.network, host)?, PORT);
                        if let Entry::Vacant(slot) = listening.entry((talk.network, host)) {
                            let socket = match places[&host].within(|| UdpSocket::bind(at))? {
                                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                                    bail!(
                                        "{at} is taken: other lab traffic is already running (stop that first)"
                                    )
                                }
                                bound => {
                                    bound.with_context(|| format!("open a UDP socket at {at}"))?
                                }
                            };
                            socket.set_nonblocking(true)?;
                            stage.sockets.push((socket, Carrier::Udp));
                            slot.insert(stage.sockets.len() - 1);
                        }
                    }
                    (listening[&(talk.network, talk.from)], SocketAddr::new(to, PORT))
                }
            };
            stage.ways.push(way);
        }
        stage.talks = talks;
        Ok(stage)
    }

    fn outstanding(&self) -> usize {
        self.open.iter().map(VecDeque::len).sum()
    }

    fn summary(&self, scenario: Scenario, start: Instant) -> Summary {
        Summary {
            scenario: scenario.to_string(),
            milliseconds: start.elapsed().as_millis() as u64,
            sent: self.sent,
            answered: self.answered,
            lost: self.sent - self.answered,
            wrong: self.wrong,
        }
    }

    /// Sends one request of talk `t`.
    fn ask(&mut self, t: usize) -> Result<()> {
        let (talk, (socket, to)) = (self.talks[t], self.ways[t]);
        let number = self.numbers[t];
        self.numbers[t] = number.wrapping_add(1);
        let payload = payload(false, t as u16, number, talk.answer, talk.request);
        let bytes = match talk.carrier {
            Carrier::Udp => payload,
            // Type, code, checksum and id (filled in by the kernel), sequence number.
            Carrier::Echo => {
                let mut echo = vec![if to.is_ipv4() { 8 } else { 128 }, 0, 0, 0, 0, 0];
                echo.extend((number as u16).to_be_bytes());
                echo.extend(payload);
                echo
            }
        };
        self.sent += 1;
        self.open[t].push_back(number);
        if self.open[t].len() > OUTSTANDING {
            self.open[t].pop_front();
        }
        send(&self.sockets[socket].0, &bytes, to)
            .with_context(|| format!("send to {to} (is the lab still there?)"))
    }

    /// Waits at most `time` for packets, answers requests and counts answers.
    fn listen(&mut self, time: Duration) -> Result<()> {
        let mut fds: Vec<PollFd> =
            self.sockets.iter().map(|(s, _)| PollFd::new(s.as_fd(), PollFlags::POLLIN)).collect();
        match ppoll(&mut fds, Some(TimeSpec::from_duration(time)), None) {
            Ok(0) | Err(Errno::EINTR) => return Ok(()),
            Err(e) => return Err(e).context("wait for packets"),
            Ok(_) => {}
        }
        let ready: Vec<usize> = (0..fds.len()).filter(|i| fds[*i].any().unwrap_or(false)).collect();
        for s in ready {
            loop {
                let (socket, carrier) = &self.sockets[s];
                match socket.recv_from(&mut self.buffer) {
                    Ok((length, from)) => match carrier {
                        Carrier::Echo => self.book(s, length, 8),
                        Carrier::Udp => match read(&self.buffer[..length]) {
                            Some(head) if !head.answer => {
                                let answer =
                                    payload(true, head.talk, head.number, 0, head.answer_size);
                                send(&self.sockets[s].0, &answer, from)
                                    .with_context(|| format!("answer {from}"))?;
                            }
                            _ => self.book(s, length, 0),
                        },
                    },
                    Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                    // An error about a packet sent earlier; the request stays unanswered.
                    Err(_) => {}
                }
            }
        }
        Ok(())
    }

    /// Counts what arrived at socket `s` as an answer, or as wrong; the payload begins at `skip`.
    fn book(&mut self, s: usize, length: usize, skip: usize) {
        let bytes = self.buffer.get(skip..length).unwrap_or_default();
        let echo = skip > 0;
        let right = read(bytes).and_then(|head| {
            let t = usize::from(head.talk);
            let talk = self.talks.get(t).filter(|_| self.ways[t].0 == s && head.answer != echo)?;
            let expected = if echo {
                payload(false, head.talk, head.number, talk.answer, talk.request)
            } else {
                payload(true, head.talk, head.number, 0, talk.answer)
            };
            if bytes != expected {
                return None;
            }
            let at = self.open[t].iter().position(|n| *n == head.number)?;
            self.open[t].remove(at)
        });
        match right {
            Some(_) => self.answered += 1,
            None => self.wrong += 1,
        }
    }
}

/// A socket for ICMP echo, which needs no privilege in the lab (its `ping_group_range` is open).
pub(super) fn echo_socket(from: IpAddr) -> io::Result<UdpSocket> {
    let (family, protocol) = if from.is_ipv4() {
        (AddressFamily::Inet, SockProtocol::Icmp)
    } else {
        (AddressFamily::Inet6, SockProtocol::IcmpV6)
    };
    let fd = socket(
        family,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        protocol,
    )?;
    bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(from, 0)))?;
    Ok(UdpSocket::from(fd))
}

/// Sends, or counts as lost if the network refuses: full buffers, no such neighbour, an error about
/// an earlier packet.
fn send(socket: &UdpSocket, bytes: &[u8], to: SocketAddr) -> io::Result<()> {
    match socket.send_to(bytes, to) {
        Ok(_) => Ok(()),
        Err(e) => match e.raw_os_error().map(Errno::from_raw) {
            Some(
                Errno::EAGAIN
                | Errno::ENOBUFS
                | Errno::EHOSTUNREACH
                | Errno::ECONNREFUSED
                | Errno::EINTR,
            ) => Ok(()),
            _ => Err(e),
        },
    }
}

/// The contents of a payload's head.
struct Head {
    answer: bool,
    talk: u16,
    number: u32,
    answer_size: u16,
}

/// A payload of `size` bytes, all of them determined by the arguments so that every byte can be
/// verified.
fn payload(answer: bool, talk: u16, number: u32, answer_size: u16, size: u16) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(usize::from(size).max(HEAD));
    bytes.extend(MAGIC);
    bytes.extend([u8::from(answer), 0]);
    bytes.extend(talk.to_be_bytes());
    bytes.extend(number.to_be_bytes());
    bytes.extend(answer_size.to_be_bytes());
    bytes.extend([0, 0]);
    bytes.extend((HEAD..usize::from(size)).map(|i| (i as u8).wrapping_add(number as u8)));
    bytes
}

fn read(bytes: &[u8]) -> Option<Head> {
    let head = bytes.get(..HEAD).filter(|h| &h[..4] == MAGIC)?;
    Some(Head {
        answer: head[4] != 0,
        talk: u16::from_be_bytes([head[6], head[7]]),
        number: u32::from_be_bytes([head[8], head[9], head[10], head[11]]),
        answer_size: u16::from_be_bytes([head[12], head[13]]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn payloads_have_their_size_and_identify_themselves() {
        for size in [16, 17, 128, 1024, 1340] {
            let p = payload(true, 300, 70_000, 777, size);
            assert_eq!(p.len(), usize::from(size));
            let head = read(&p).expect("a head");
            assert_eq!(
                (head.answer, head.talk, head.number, head.answer_size),
                (true, 300, 70_000, 777)
            );
        }
        assert!(read(b"tmon").is_none() && read(&[0; 64]).is_none() && read(&[]).is_none());
    }
}
