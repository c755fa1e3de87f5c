// SPDX-License-Identifier: MIT OR Apache-2.0
//! The terminal while the dashboard owns it: taken in one step, given back whatever happens.
//!
//! Nothing here waits for the terminal. Output is queued until the terminal accepts it; meanwhile
//! there are no new frames, but input, signals and readings continue.
use std::{
    cell::RefCell,
    io::{self, IsTerminal, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixStream,
    },
    rc::Rc,
    sync::{
        Arc, Mutex, Once, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use crossterm::{
    cursor,
    event::{self, Event},
    terminal::{
        BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen, LeaveAlternateScreen,
    },
};
use nix::poll::{PollFd, PollFlags, poll};
use ratatui::{
    Frame, Terminal,
    backend::{Backend, ClearType, CrosstermBackend, WindowSize},
    buffer::Cell,
    layout::{Position, Rect, Size},
};
use rustix::termios::Termios;
use signal_hook::{SigId, consts::signal};

use super::{
    input::{Input, Parser},
    tty::{Tty, timeout},
};

/// The terminal while it is ours, for the panic hook to give back.
static TAKEN: Mutex<Option<Taken>> = Mutex::new(None);

/// Whether the terminal has received only part of a frame.
static BEHIND: AtomicBool = AtomicBool::new(false);

/// The sequence that removes our pictures, once there may be some.
static PICTURES: OnceLock<String> = OnceLock::new();

struct Taken {
    keys: Tty,
    screen: Tty,
    before: Termios,
}

/// Sets the sequence that removes pictures when the terminal is given back.
pub fn leaves_pictures(removed_by: String) {
    _ = PICTURES.set(removed_by);
}

/// How long to wait for the last frame to be sent, and then for the terminal to be given back.
const PARTING: Duration = Duration::from_millis(250);

/// The pending output, and how much of it has been written.
#[derive(Debug, Default)]
struct Queue {
    bytes: Vec<u8>,
    sent: usize,
}

/// The backend's writer: memory, which is never full and never gone.
#[derive(Clone, Debug, Default)]
struct Out(Rc<RefCell<Queue>>);

impl Write for Out {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.borrow_mut().bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Ratatui's backend, which would otherwise query the terminal, and tput(1), for sizes.
struct Screen {
    inner: CrosstermBackend<Out>,
    size: Size,
}

impl Backend for Screen {
    type Error = io::Error;

    fn draw<'a, I>(&mut self, content: I) -> io::Result<()>
    where
        I: Iterator<Item = (u16, u16, &'a Cell)>,
    {
        self.inner.draw(content)
    }

    fn hide_cursor(&mut self) -> io::Result<()> {
        self.inner.hide_cursor()
    }

    fn show_cursor(&mut self) -> io::Result<()> {
        self.inner.show_cursor()
    }

    fn get_cursor_position(&mut self) -> io::Result<Position> {
        Ok(Position::ORIGIN) // nobody would get an answer in time
    }

    fn set_cursor_position<P: Into<Position>>(&mut self, position: P) -> io::Result<()> {
        self.inner.set_cursor_position(position)
    }

    fn clear(&mut self) -> io::Result<()> {
        self.inner.clear()
    }

    fn clear_region(&mut self, region: ClearType) -> io::Result<()> {
        self.inner.clear_region(region)
    }

    fn size(&self) -> io::Result<Size> {
        Ok(self.size)
    }

    fn window_size(&mut self) -> io::Result<WindowSize> {
        Ok(WindowSize { columns_rows: self.size, pixels: Size::ZERO })
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Raw mode, the alternate screen, the mouse. Dropping it restores the terminal; so does a panic,
/// before its message is printed. SIGTERM, SIGINT, SIGHUP and a terminal that is gone set
/// [`Session::ended`].
pub struct Session {
    terminal: Terminal<Screen>,
    out: Out,
    keys: Tty,
    screen: Tty,
    parser: Parser,
    /// When input last arrived.
    heard: Instant,
    mouse: bool,
    ended: Arc<AtomicBool>,
    resized: Arc<AtomicBool>,
    /// Becomes readable after a signal.
    woken: UnixStream,
    signals: Vec<SigId>,
}

/// The size that is drawn on a screen of this size: the other end of a connection may claim any.
fn drawn([width, height, ..]: [u16; 4]) -> Size {
    Size { width: width.min(1000), height: height.min(500) }
}

impl Session {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard output is not a terminal, or the terminal refuses; it is then left as it was found.
    pub fn open(mouse: bool) -> Result<Self> {
        if !io::stdout().is_terminal() {
            bail!(
                "standard output is not a terminal; for numbers in a pipe or a file use `tmon dump`"
            );
        }
        if std::env::var_os("TERM").is_some_and(|t| t == "dumb") {
            bail!(
                "TERM says that the terminal is dumb, so it cannot show a dashboard: try `tmon dump`, or set TERM"
            );
        }
        let tty = |fd: BorrowedFd| Tty::open(fd).context("open the terminal");
        let screen = tty(io::stdout().as_fd())?;
        // standard input may be a capture
        let keys =
            if io::stdin().is_terminal() { tty(io::stdin().as_fd())? } else { screen.clone() };
        let size = drawn(screen.size().context("ask the terminal for its size")?);
        if size.area() == 0 {
            bail!(
                "the terminal does not say how large it is, as serial consoles do: try `stty rows 24 columns 80`"
            );
        }
        let out = Out::default();
        let inner = CrosstermBackend::new(out.clone());
        let (woken, waker) = UnixStream::pair().context("listen for signals")?;
        woken.set_nonblocking(true).context("listen for signals")?;
        let mut session = Session {
            terminal: Terminal::new(Screen { inner, size }).context("prepare the terminal")?,
            out,
            keys,
            screen,
            parser: Parser::default(),
            heard: Instant::now(),
            mouse,
            ended: Arc::default(),
            resized: Arc::default(),
            woken,
            signals: Vec::new(),
        };
        session.listen(&waker).context("listen for signals")?;
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let before = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |info| {
                restore();
                before(info);
            }));
        });
        session.take().context("prepare the terminal")?;
        Ok(session)
    }

    fn listen(&mut self, waker: &UnixStream) -> io::Result<()> {
        let flags = [
            (signal::SIGTERM, &self.ended),
            (signal::SIGINT, &self.ended),
            (signal::SIGHUP, &self.ended),
            (signal::SIGQUIT, &self.ended),
            (signal::SIGUSR1, &self.ended),
            (signal::SIGUSR2, &self.ended),
            (signal::SIGALRM, &self.ended),
            (signal::SIGWINCH, &self.resized),
        ];
        for (signal, flag) in flags {
            self.signals.push(signal_hook::flag::register(signal, Arc::clone(flag))?);
            let waker = waker.try_clone()?;
            self.signals.push(signal_hook::low_level::pipe::register(signal, waker)?);
        }
        Ok(())
    }

    fn take(&mut self) -> io::Result<()> {
        let before = self.keys.make_raw()?;
        *TAKEN.lock().unwrap_or_else(PoisonError::into_inner) =
            Some(Taken { keys: self.keys.clone(), screen: self.screen.clone(), before });
        // a paste is text, not keys: pasted text does not quit
        crossterm::queue!(
            self.out,
            EnterAlternateScreen,
            cursor::Hide,
            event::EnableBracketedPaste
        )?;
        if self.mouse {
            crossterm::queue!(self.out, event::EnableMouseCapture)?;
        }
        self.measure()
    }

    /// Learns the terminal's size and clears the screen, so that the next frame draws every cell.
    fn measure(&mut self) -> io::Result<()> {
        let size = drawn(self.screen.size()?);
        self.terminal.backend_mut().size = size;
        self.terminal.resize(Rect::from((Position::ORIGIN, size)))
    }

    /// Columns and rows.
    pub fn size(&self) -> Size {
        self.terminal.backend().size
    }

    /// The width and height of a cell in pixels, if the terminal reports it.
    pub fn cell(&self) -> Option<(u16, u16)> {
        let [columns, rows, width, height] = self.screen.size().ok()?;
        Some((width.checked_div(columns)?, height.checked_div(rows)?))
            .filter(|cell| cell.0 > 1 && cell.1 > 1)
    }

    /// Whether a signal requested the end, or the terminal is gone.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Whether the terminal has not accepted everything yet: nothing should be drawn then.
    pub fn is_behind(&self) -> bool {
        !self.out.0.borrow().bytes.is_empty()
    }

    /// Waits for input for this long, and meanwhile passes output on to the terminal. The input
    /// includes changes of size.
    pub fn wait(&mut self, patience: Duration) -> Vec<Input> {
        self.send();
        let mut input = Vec::new();
        let out = if self.is_behind() { PollFlags::POLLOUT } else { PollFlags::empty() };
        let rest = self.parser.patience().map(|p| p.saturating_sub(self.heard.elapsed()));
        let patience = rest.map_or(patience, |rest| rest.min(patience));
        let mut fds = [
            PollFd::new(self.keys.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.woken.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.screen.as_fd(), out),
        ];
        // an interruption by a signal is as good as being woken
        _ = poll(&mut fds, timeout(patience));
        let is = |i: usize, flags: PollFlags| {
            fds.get(i).and_then(PollFd::revents).is_some_and(|r| r.intersects(flags))
        };
        let lost = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        let (gone, keys) = (is(0, lost) || is(2, lost), is(0, PollFlags::POLLIN));
        if is(1, PollFlags::POLLIN) {
            while matches!((&self.woken).read(&mut [0; 64]), Ok(1..)) {}
        }
        if self.resized.swap(false, Ordering::Relaxed) {
            match self.measure() {
                Ok(()) => {
                    let Size { width, height } = self.size();
                    input.push(Input::Event(Event::Resize(width, height)));
                }
                Err(_) => self.end(),
            }
        }
        if keys {
            self.read(&mut input);
        } else if self.parser.patience().is_some_and(|p| self.heard.elapsed() >= p) {
            self.parser.settle(&mut input);
        }
        if gone {
            self.end();
        }
        self.send();
        input
    }

    /// Reads what has arrived, at most as much as a paste: then it is time for a frame.
    fn read(&mut self, input: &mut Vec<Input>) {
        self.heard = Instant::now();
        let mut some = [0; 4096];
        for _ in 0..16 {
            match self.keys.read(&mut some) {
                Ok(Some(n @ 1..)) => self.parser.feed(&some[..n], input),
                Ok(None) => return,
                Ok(Some(0)) | Err(_) => return self.end(),
            }
        }
    }

    fn end(&self) {
        self.ended.store(true, Ordering::Relaxed);
    }

    /// Sends the terminal as much as it accepts without blocking.
    fn send(&mut self) {
        let mut queue = self.out.0.borrow_mut();
        while queue.sent < queue.bytes.len() {
            match self.screen.write(&queue.bytes[queue.sent..]) {
                Ok(Some(n)) => queue.sent += n,
                Ok(None) => break,
                Err(_) => {
                    self.end();
                    queue.sent = queue.bytes.len();
                }
            }
        }
        if queue.sent == queue.bytes.len() {
            *queue = Queue::default();
        }
        BEHIND.store(!queue.bytes.is_empty(), Ordering::Relaxed);
    }

    /// Draws one frame; terminals that support it show it at once and never half of it.
    ///
    /// # Errors
    /// A cell cannot be written, which does not happen in memory.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> Result<()> {
        crossterm::queue!(self.out, BeginSynchronizedUpdate)?;
        self.terminal.draw(draw).context("draw on the terminal")?;
        crossterm::queue!(self.out, EndSynchronizedUpdate)?;
        self.send();
        Ok(())
    }

    /// Writes cells again, whatever the terminal is believed to show there.
    ///
    /// # Errors
    /// Those of [`Session::draw`].
    pub fn write(&mut self, cells: &[(Position, Cell)]) -> Result<()> {
        self.terminal
            .backend_mut()
            .draw(cells.iter().map(|(p, cell)| (p.x, p.y, cell)))
            .context("draw on the terminal")?;
        self.send();
        Ok(())
    }

    /// A writer whose output goes to the terminal at the next opportunity.
    pub fn writer(&mut self) -> impl Write + use<> {
        self.out.clone()
    }

    /// Forgets what is on the screen, so that the next frame draws every cell.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> Result<()> {
        self.measure().context("clear the terminal")
    }

    /// Gives the terminal back, suspends the process as Ctrl-Z does, and takes the terminal again
    /// when the process continues.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn suspend(&mut self) -> Result<()> {
        self.give_back();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTSTP).context("stop")?;
        self.resized.store(true, Ordering::Relaxed); // it may have been
        self.take().context("take the terminal back")
    }

    fn give_back(&mut self) {
        self.send();
        {
            let mut queue = self.out.0.borrow_mut();
            if self.screen.write_within(&queue.bytes[queue.sent..], PARTING) {
                BEHIND.store(false, Ordering::Relaxed);
            }
            *queue = Queue::default();
        }
        restore();
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.give_back();
        for id in self.signals.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Undoes [`Session::take`]; does nothing if there is nothing to undo. Never fails, because nobody
/// is left to report to.
fn restore() {
    let taken = TAKEN.lock().unwrap_or_else(PoisonError::into_inner).take();
    let Some(Taken { keys, screen, before }) = taken else { return };
    let mut bytes = Vec::new();
    if BEHIND.swap(false, Ordering::Relaxed) {
        // Pending output is dropped in favour of this, which also ends any sequence that was cut
        // short.
        screen.forget_output();
        bytes.extend(b"\x18\x1b\\");
    }
    if let Some(remove) = PICTURES.get() {
        bytes.extend(remove.as_bytes());
    }
    _ = crossterm::queue!(
        bytes,
        EndSynchronizedUpdate,
        event::DisableMouseCapture,
        event::DisableBracketedPaste,
        LeaveAlternateScreen,
        cursor::Show
    );
    screen.write_within(&bytes, PARTING);
    _ = keys.make(&before);
}
