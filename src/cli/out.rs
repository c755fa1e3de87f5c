// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output and standard error, which may be full, closed, or not ready.
use std::{
    fs::File,
    io::{self, ErrorKind, LineWriter, Write},
    os::fd::AsFd,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::Result;
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

/// What is written at once to where nobody may read: a pipe that has room takes as much without
/// waiting (pipe(7)).
const PIECE: usize = 4096;

/// The flag that is raised when the program is told to end.
static ENDS: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on nothing is waited for once this flag is raised.
pub(super) fn until(flag: &Arc<AtomicBool>) {
    _ = ENDS.set(Arc::clone(flag)); // there is one command
}

/// What else ends the program: asked while nobody reads what it prints.
static GIVES_UP: OnceLock<Box<dyn Fn() -> bool + Send + Sync>> = OnceLock::new();

/// From now on nobody is waited for once this is so.
#[cfg(feature = "live")]
pub(super) fn until_it_is(over: impl Fn() -> bool + Send + Sync + 'static) {
    _ = GIVES_UP.set(Box::new(over));
}

fn is_over() -> bool {
    ENDS.get().is_some_and(|ends| ends.load(Ordering::Relaxed))
        || GIVES_UP.get().is_some_and(|over| over())
}

fn some(bytes: &[u8]) -> io::Result<usize> {
    const STEP: u8 = 100; // milliseconds
    let out = io::stdout();
    loop {
        if !writable(&out, STEP) {
            if is_over() {
                // As if the reader had gone, who does not read either.
                return Err(ErrorKind::BrokenPipe.into());
            }
            continue;
        }
        match nix::unistd::write(&out, &bytes[..bytes.len().min(PIECE)]) {
            Ok(n) => return Ok(n),
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(e) => {
                let e = io::Error::from(e);
                return Err(io::Error::new(e.kind(), format!("write to standard output: {e}")));
            }
        }
    }
}

/// Whether it takes something, or never will, within so many milliseconds.
fn writable(out: &impl AsFd, patience: u8) -> bool {
    let mut ready = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut ready, PollTimeout::from(patience)) {
        Ok(n) => n > 0,
        Err(e) => e != Errno::EINTR, // it is the write that says what is wrong
    }
}

/// Writes to standard error what may be lost: nobody reads it, or it is full.
pub(super) fn tell(text: &str) {
    let text = locale().text(text);
    let mut bytes = text.as_bytes();
    let begun = Instant::now();
    while !bytes.is_empty() && begun.elapsed() < Duration::from_secs(1) {
        if !writable(&io::stderr(), 100) {
            continue;
        }
        match nix::unistd::write(io::stderr(), &bytes[..bytes.len().min(PIECE)]) {
            Ok(n) => bytes = &bytes[n..],
            Err(Errno::EINTR | Errno::EAGAIN) => {}
            Err(_) => return,
        }
    }
}

/// Makes a file that nobody else can read. Nothing that is there is written to or followed.
pub(super) fn make(path: &Path) -> Result<File> {
    feed::keep::make(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("it is there already, and is not written over: name another")
        }
        _ => e.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_never_written_over() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("a.tmon"), dir.path().join("link"));
        let mode = make(&file).expect("it is new").metadata().expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(make(&file).expect_err("it is there").to_string().contains("not written over"));
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).expect("a link");
        assert!(make(&link).is_err() && !dir.path().join("elsewhere").exists());
    }
}
