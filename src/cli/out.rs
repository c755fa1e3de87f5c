// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output and standard error, which may be full, closed, or not ready.
use std::{
    io::{self, LineWriter, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use model::charset::Charset;

/// Standard output. Whoever shares it may have made it non-blocking (ssh and node do): then it is
/// waited for.
pub(super) struct Out(Charset);

/// For programs: bytes as they are.
pub(super) fn raw() -> Out {
    Out(Charset::Unicode)
}

/// For people: what the locale has no characters for is shown by others.
pub(super) fn people() -> LineWriter<Out> {
    LineWriter::with_capacity(1 << 16, table())
}

/// The same without a buffer, for what has one.
pub(super) fn table() -> Out {
    Out(locale())
}

fn locale() -> Charset {
    Charset::of_locale(|name| std::env::var(name).ok())
}

/// One line for people.
pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(people(), "{text}")
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == Charset::Unicode {
            return some(bytes);
        }
        // whole pieces of text, as all that is written here is
        let text = String::from_utf8_lossy(bytes);
        all(self.0.text(&text).as_bytes()).map(|()| bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn all(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        bytes = &bytes[some(bytes)?..];
    }
    Ok(())
}

fn some(bytes: &[u8]) -> io::Result<usize> {
    let out = io::stdout();
    loop {
        match nix::unistd::write(&out, bytes) {
            Ok(n) => return Ok(n),
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => writable(&out, PollTimeout::NONE),
            Err(e) => {
                let e = io::Error::from(e);
                return Err(io::Error::new(e.kind(), format!("write to standard output: {e}")));
            }
        }
    }
}

fn writable(out: &impl AsFd, patience: PollTimeout) {
    _ = poll(&mut [PollFd::new(out.as_fd(), PollFlags::POLLOUT)], patience);
}

/// Writes to standard error what may be lost: nobody reads it, or it is full.
pub(super) fn tell(text: &str) {
    let text = locale().text(text);
    let mut bytes = text.as_bytes();
    let begun = Instant::now();
    while !bytes.is_empty() && begun.elapsed() < Duration::from_secs(1) {
        match nix::unistd::write(io::stderr(), bytes) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR) => {}
            Err(Errno::EAGAIN) => writable(&io::stderr(), PollTimeout::from(100u8)),
            Err(_) => return,
        }
    }
}
