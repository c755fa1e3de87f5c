// SPDX-License-Identifier: MIT OR Apache-2.0
//! The terminal while the dashboard has it: taken in one step, given back whatever happens.
use std::{
    io::{self, IsTerminal, Stdout, Write},
    sync::{
        Arc, Once, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use anyhow::{Context, Result, bail};
use crossterm::{
    cursor, event,
    terminal::{
        self, BeginSynchronizedUpdate, EndSynchronizedUpdate, EnterAlternateScreen,
        LeaveAlternateScreen,
    },
};
use ratatui::{
    Frame, Terminal,
    backend::{Backend, CrosstermBackend},
    buffer::Cell,
    layout::{Position, Rect},
};
use signal_hook::{SigId, consts::signal};

/// The terminal is ours now: what the panic hook looks at.
static TAKEN: AtomicBool = AtomicBool::new(false);

/// What takes our pictures away, once there may be some.
static PICTURES: OnceLock<String> = OnceLock::new();

/// Says how pictures are taken away when the terminal is given back.
pub fn leaves_pictures(removed_by: String) {
    _ = PICTURES.set(removed_by);
}

/// Raw mode, the alternate screen, the mouse. Dropping it restores the terminal; so does a panic,
/// before its message is printed. SIGTERM, SIGINT and SIGHUP become [`Session::ended`].
pub struct Session {
    terminal: Terminal<CrosstermBackend<Stdout>>,
    mouse: bool,
    ended: Arc<AtomicBool>,
    signals: Vec<SigId>,
}

impl Session {
    /// Takes the terminal.
    ///
    /// # Errors
    /// Standard output is not a terminal, or the terminal refuses; it is left as it was found.
    pub fn open(mouse: bool) -> Result<Self> {
        if !io::stdout().is_terminal() {
            bail!(
                "standard output is not a terminal; for numbers in a pipe or a file use `tmon dump`"
            );
        }
        let ended = Arc::new(AtomicBool::new(false));
        let mut session = Session {
            terminal: Terminal::new(CrosstermBackend::new(io::stdout()))
                .context("ask the terminal for its size")?,
            mouse,
            ended: Arc::clone(&ended),
            signals: Vec::new(),
        };
        if session.terminal.size().is_ok_and(|s| s.width == 0 || s.height == 0) {
            bail!(
                "the terminal does not say how large it is, as serial consoles do: try `stty rows 24 columns 80`"
            );
        }
        for s in [signal::SIGTERM, signal::SIGINT, signal::SIGHUP] {
            session.signals.push(
                signal_hook::flag::register(s, Arc::clone(&ended)).context("listen for signals")?,
            );
        }
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

    fn take(&mut self) -> io::Result<()> {
        TAKEN.store(true, Ordering::SeqCst);
        terminal::enable_raw_mode()?;
        // a paste is text, not keys: nobody's clipboard presses q
        crossterm::execute!(
            io::stdout(),
            EnterAlternateScreen,
            cursor::Hide,
            event::EnableBracketedPaste
        )?;
        if self.mouse {
            crossterm::execute!(io::stdout(), event::EnableMouseCapture)?;
        }
        self.forget()
    }

    /// Clears the screen as a change of size does. [`Terminal::clear`] would ask the terminal where its
    /// cursor is, and wait two seconds for one that never says.
    fn forget(&mut self) -> io::Result<()> {
        let size = self.terminal.size()?;
        self.terminal.resize(Rect::new(0, 0, size.width, size.height))
    }

    /// A signal asked for the end.
    pub fn ended(&self) -> bool {
        self.ended.load(Ordering::Relaxed)
    }

    /// Draws one frame; the terminal shows it at once and never half of it, where it knows how.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn draw(&mut self, draw: impl FnOnce(&mut Frame)) -> Result<()> {
        crossterm::queue!(io::stdout(), BeginSynchronizedUpdate)?;
        self.terminal.draw(draw).context("draw on the terminal")?;
        crossterm::execute!(io::stdout(), EndSynchronizedUpdate)?;
        Ok(())
    }

    /// Writes cells again, whatever the terminal is thought to show there.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn write(&mut self, cells: &[(Position, Cell)]) -> Result<()> {
        let backend = self.terminal.backend_mut();
        backend
            .draw(cells.iter().map(|(p, cell)| (p.x, p.y, cell)))
            .context("draw on the terminal")?;
        Backend::flush(backend).context("draw on the terminal")
    }

    /// Forgets what is on the screen, so that the next frame draws every cell.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn clear(&mut self) -> Result<()> {
        self.forget().context("clear the terminal")
    }

    /// Gives the terminal back, stops the process as Ctrl-Z does, and takes the terminal again
    /// when it is continued.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn suspend(&mut self) -> Result<()> {
        restore();
        nix::sys::signal::raise(nix::sys::signal::Signal::SIGTSTP).context("stop")?;
        self.take().context("take the terminal again")
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        restore();
        for id in self.signals.drain(..) {
            signal_hook::low_level::unregister(id);
        }
    }
}

/// Undoes [`Session::take`]; does nothing when there is nothing to undo. Never fails: there is
/// nobody left to tell.
fn restore() {
    if TAKEN.swap(false, Ordering::SeqCst) {
        let mut out = io::stdout();
        if let Some(remove) = PICTURES.get() {
            _ = out.write_all(remove.as_bytes());
        }
        _ = crossterm::execute!(
            out,
            EndSynchronizedUpdate,
            event::DisableMouseCapture,
            event::DisableBracketedPaste,
            LeaveAlternateScreen,
            cursor::Show
        );
        _ = terminal::disable_raw_mode();
        _ = out.flush();
    }
}
