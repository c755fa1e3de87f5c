// SPDX-License-Identifier: MIT OR Apache-2.0
//! Standard output and standard error, which may be full, closed or not ready.
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

/// Standard output. Another process that shares it (ssh and node do) may have made it non-blocking,
/// so writes wait until it is ready.
pub(super) struct Out(Charset);

/// Output for programs: the bytes as they are.
pub(super) fn raw() -> Out {
    Out(Charset::Unicode)
}

/// Output for people: characters that the locale lacks are replaced.
pub(super) fn people() -> LineWriter<Out> {
    LineWriter::with_capacity(1 << 16, table())
}

/// The same without a buffer, for writers that have their own.
pub(super) fn table() -> Out {
    Out(locale())
}

fn locale() -> Charset {
    Charset::of_locale(|name| std::env::var(name).ok())
}

/// Writes one line for people.
pub(super) fn line(text: &str) -> io::Result<()> {
    writeln!(people(), "{text}")
}

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.0 == Charset::Unicode {
            return some(bytes);
        }
        // only whole pieces of text are written here
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

/// How much is written at once if nobody may be reading: a pipe that is ready takes this much
/// without blocking (pipe(7)).
const PIECE: usize = 4096;

/// The flag that is raised when the program is asked to end.
static ENDS: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on, writes do not block once this flag is raised.
pub(super) fn until(flag: &Arc<AtomicBool>) {
    _ = ENDS.set(Arc::clone(flag)); // there is only one command
}

/// Another condition that ends the program, checked while nobody reads its output.
static GIVES_UP: OnceLock<Box<dyn Fn() -> bool + Send + Sync>> = OnceLock::new();

/// From now on, writes do not block once this condition holds.
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
                // Fail as if the reader had closed the pipe.
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

/// Whether writing makes progress or fails, rather than blocks, within so many milliseconds.
fn writable(out: &impl AsFd, patience: u8) -> bool {
    let mut ready = [PollFd::new(out.as_fd(), PollFlags::POLLOUT)];
    match poll(&mut ready, PollTimeout::from(patience)) {
        Ok(n) => n > 0,
        Err(e) => e != Errno::EINTR, // the write will report the error
    }
}

/// Writes to standard error. The text may be lost, if nobody reads it or the disk is full.
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

/// Creates a file that nobody else can read. Never overwrites an existing file or follows a link.
pub(super) fn make(path: &Path) -> Result<File> {
    feed::keep::make(path).map_err(|e| match e.kind() {
        io::ErrorKind::AlreadyExists => {
            anyhow::anyhow!("it already exists and is not overwritten: choose another name")
        }
        _ => e.into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_private_and_never_overwritten() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let (file, link) = (dir.path().join("a.tmon"), dir.path().join("link"));
        let mode = make(&file).expect("it is new").metadata().expect("it is there").permissions();
        assert_eq!(mode.mode() & 0o777, 0o600);
        assert!(make(&file).expect_err("it is there").to_string().contains("not overwritten"));
        std::os::unix::fs::symlink(dir.path().join("elsewhere"), &link).expect("a link");
        assert!(make(&link).is_err() && !dir.path().join("elsewhere").exists());
    }
}
