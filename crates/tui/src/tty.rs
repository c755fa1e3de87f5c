// SPDX-License-Identifier: MIT OR Apache-2.0
//! A terminal with non-blocking reads and writes.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd},
        unix::fs::OpenOptionsExt,
    },
    sync::Arc,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::termios::{self, OptionalActions, QueueSelector, Termios};

/// Our terminal: reading and writing do what can be done without blocking.
#[derive(Clone, Debug)]
pub struct Tty {
    file: Arc<File>,
    /// The file description is shared with the shell, so it blocks.
    shared: bool,
}

/// How much to write at once to a terminal that blocks, when it reports that it is writable.
const LITTLE: usize = 64;

impl Tty {
    /// Opens the terminal behind a descriptor again: `O_NONBLOCK` would affect everybody who shares
    /// a file description. If it cannot be opened (it is another user's, after su), the controlling
    /// terminal may be; otherwise the descriptor is used as it is.
    ///
    /// # Errors
    /// There are no descriptors left.
    pub fn open(fd: BorrowedFd<'_>) -> io::Result<Self> {
        let anew = |path: &str| {
            OpenOptions::new()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY)
                .open(path)
        };
        // only a controlling terminal has a session that its processes can query
        let controlling = || termios::tcgetsid(fd).is_ok();
        let opened = anew(&format!("/proc/self/fd/{}", fd.as_raw_fd()))
            .or_else(|e| if controlling() { anew("/dev/tty") } else { Err(e) });
        let shared = opened.is_err();
        let file = opened.or_else(|_| fd.try_clone_to_owned().map(File::from))?;
        Ok(Tty { file: Arc::new(file), shared })
    }

    /// Columns and rows, and the width and height of the window in pixels, which may be 0.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn size(&self) -> io::Result<[u16; 4]> {
        let size = termios::tcgetwinsize(&*self.file)?;
        Ok([size.ws_col, size.ws_row, size.ws_xpixel, size.ws_ypixel])
    }

    /// Enters raw mode: keys arrive as they are pressed. Returns the previous settings.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn make_raw(&self) -> io::Result<Termios> {
        let before = termios::tcgetattr(&*self.file)?;
        let mut raw = before.clone();
        raw.make_raw();
        termios::tcsetattr(&*self.file, OptionalActions::Now, &raw)?;
        Ok(before)
    }

    /// Restores the previous settings.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn make(&self, before: &Termios) -> io::Result<()> {
        Ok(termios::tcsetattr(&*self.file, OptionalActions::Now, before)?)
    }

    /// Discards output that has not been transmitted yet.
    pub fn forget_output(&self) {
        _ = termios::tcflush(&*self.file, QueueSelector::OFlush);
    }

    /// Reads what is available; `None` if nothing is, 0 at end of file.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn read(&self, some: &mut [u8]) -> io::Result<Option<usize>> {
        if self.shared && !ready(self, PollFlags::POLLIN, Duration::ZERO) {
            return Ok(None);
        }
        now((&*self.file).read(some))
    }

    /// Writes what the terminal accepts; `None` if it accepts nothing.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn write(&self, bytes: &[u8]) -> io::Result<Option<usize>> {
        if !self.shared {
            return now((&*self.file).write(bytes));
        }
        if !ready(self, PollFlags::POLLOUT, Duration::ZERO) {
            return Ok(None);
        }
        now((&*self.file).write(&bytes[..bytes.len().min(LITTLE)]))
    }

    /// Writes everything if that is possible in this time, and returns whether it was.
    pub fn write_within(&self, mut bytes: &[u8], patience: Duration) -> bool {
        let end = Instant::now() + patience;
        while !bytes.is_empty() {
            match self.write(bytes) {
                Ok(Some(n)) => bytes = &bytes[n..],
                Ok(None) => {
                    let left = end.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return false;
                    }
                    ready(self, PollFlags::POLLOUT, left);
                }
                Err(_) => return false,
            }
        }
        true
    }
}

impl AsFd for Tty {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn now(done: io::Result<usize>) -> io::Result<Option<usize>> {
    match done {
        Ok(n) => Ok(Some(n)),
        Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

fn ready(fd: &impl AsFd, wanted: PollFlags, patience: Duration) -> bool {
    let mut fds = [PollFd::new(fd.as_fd(), wanted)];
    matches!(poll(&mut fds, timeout(patience)), Ok(1..))
}

/// A timeout for poll(2), never shorter than the time.
pub fn timeout(time: Duration) -> PollTimeout {
    let millis = time.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
