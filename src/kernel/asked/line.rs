// SPDX-License-Identifier: MIT OR Apache-2.0
//! A connection to a service of this host, with limits on the time and the bytes of an answer.
use std::{
    cell::Cell,
    fmt,
    io::{self, Read, Write},
    marker::PhantomData,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, SeqAccess, Visitor},
};

/// Limits on one answer: its time and its bytes.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
pub(super) const MOST_BYTES: usize = 32 << 20;
/// Limit on the elements of all lists of an answer: a few bytes of JSON may become hundreds in
/// memory.
const MOST_ELEMENTS: usize = 200_000;

thread_local! {
    /// The elements of the answer being read so far. Each answer has a thread of its own.
    static ELEMENTS: Cell<usize> = const { Cell::new(0) };
}

/// A connection to a service, with a deadline.
pub(super) struct Line {
    pub(super) socket: UnixStream,
    until: Option<Instant>,
}

/// Connects, without waiting for a service whose queue is full.
pub(super) fn reach(path: &Path) -> io::Result<Line> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(made.as_raw_fd(), &UnixAddr::new(path)?)?;
    Ok(Line::over(UnixStream::from(made)))
}

impl Line {
    /// Over a connection that does not block.
    pub(super) fn over(socket: UnixStream) -> Line {
        Line { socket, until: None }
    }

    /// Sends a question, and starts the time limit for its answer.
    pub(super) fn ask(&mut self, question: &[u8]) -> io::Result<()> {
        self.until = Some(Instant::now() + PATIENCE);
        self.write_all(question)
    }

    /// Waits until it is ready.
    fn ready(&self, what: PollFlags) -> io::Result<()> {
        let until = self.until.unwrap_or_else(Instant::now);
        wait(&self.socket, what, until)
    }

    /// Reads until `ends` recognises the end of the answer, or the service hangs up.
    pub(super) fn answer(&mut self, ends: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        let (mut all, mut some) = (Vec::new(), [0; 1 << 16]);
        while !ends(&all) {
            match self.read(&mut some)? {
                0 => break,
                n if all.len() + n > MOST_BYTES => return Err(endless()),
                n => all.extend_from_slice(&some[..n]),
            }
        }
        Ok(all)
    }

    /// The JSON at a path of an HTTP service.
    pub(super) fn get<T: DeserializeOwned>(mut self, path: &str) -> io::Result<T> {
        // HTTP/1.0, so that the service closes the connection after an unchunked answer.
        self.ask(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n").as_bytes())?;
        let answer = self.answer(|_| false)?;
        let head = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let (head, body) = head.map_or((&[][..], &[][..]), |end| answer.split_at(end + 4));
        let line = head.split(|b| *b == b'\r').next().unwrap_or_default();
        let status = line.splitn(2, |b| *b == b' ').nth(1).unwrap_or_default();
        if !status.is_empty() && !status.starts_with(b"200") {
            return Err(io::Error::other(String::from_utf8_lossy(status).into_owned()));
        }
        json(body)
    }
}

/// The error for an answer that is too long.
pub(super) fn endless() -> io::Error {
    io::Error::other("an answer without end")
}

/// Waits until a descriptor is ready, but no longer than the deadline.
pub(super) fn wait(file: &impl AsFd, what: PollFlags, until: Instant) -> io::Result<()> {
    let mut ready = [PollFd::new(file.as_fd(), what)];
    let left = until.saturating_duration_since(Instant::now());
    match poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Err(e) if e != nix::errno::Errno::EINTR => Err(e.into()),
        _ => Ok(()),
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready(PollFlags::POLLIN)?;
            match self.socket.read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        loop {
            self.ready(PollFlags::POLLOUT)?;
            match self.socket.write(from) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A list, which together with the others of its answer has a limited number of elements.
pub(super) fn few<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    from: D,
) -> Result<Vec<T>, D::Error> {
    struct Few<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Few<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {MOST_ELEMENTS} elements of lists")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            let mut all = Vec::new();
            while let Some(element) = list.next_element()? {
                let so_far = ELEMENTS.get() + 1;
                if so_far > MOST_ELEMENTS {
                    return Err(Error::invalid_length(so_far, &self));
                }
                ELEMENTS.set(so_far);
                all.push(element);
            }
            Ok(all)
        }
    }
    from.deserialize_seq(Few(PhantomData))
}

pub(super) fn json<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(io::Error::from)
}
