// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real pixels for the chord, where the terminal has them: which protocol it speaks, and what of the
//! picture is on its screen now.
//!
//! Terminals that say by their names what they speak are believed. Others are asked what every
//! terminal since the VT100 answers, and only for a moment; what the user typed meanwhile is kept.
use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Write},
    os::fd::AsFd,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use crossterm::{
    cursor::MoveTo,
    event::{Event, KeyCode, KeyEvent, KeyModifiers},
    queue,
    style::Print,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ratatui::{
    buffer::{Buffer, Cell},
    layout::{Position, Rect},
};
use tiny_skia::Pixmap;

use crate::{
    pixels::Protocol,
    tui::session::{Session, leaves_pictures},
};

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Pixels where the terminal is known to have them.
    #[default]
    Auto,
    /// This protocol, whatever the terminal says.
    Use(Protocol),
    /// Characters.
    Off,
}

impl Choice {
    /// All choices with their names in flags.
    pub const ALL: [(Choice, &str); 5] = [
        (Choice::Auto, "auto"),
        (Choice::Use(Protocol::Kitty), "kitty"),
        (Choice::Use(Protocol::Iterm), "iterm"),
        (Choice::Use(Protocol::Sixel), "sixel"),
        (Choice::Off, "off"),
    ];
}

/// What an environment says about graphics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// There are none, or something is between us and the terminal.
    None,
    /// The terminal speaks this.
    Speaks(Protocol),
    /// It may have sixels: ask.
    Ask,
}

/// What an environment says.
pub fn hint(var: impl Fn(&str) -> Option<String>) -> Hint {
    let var = |name| var(name).unwrap_or_default();
    let has = |name| !var(name).is_empty();
    let term = var("TERM").to_ascii_lowercase();
    let starts = |words: &[&str]| words.iter().any(|w| term.starts_with(w));
    if has("TMUX")
        || has("STY")
        || has("CI")
        || has("ZELLIJ")
        || starts(&["tmux", "screen", "dumb", "linux", "vt"])
        || term.is_empty()
    {
        return Hint::None;
    }
    match var("TERM_PROGRAM").as_str() {
        "iTerm.app" | "WezTerm" | "mintty" => return Hint::Speaks(Protocol::Iterm),
        "ghostty" => return Hint::Speaks(Protocol::Kitty),
        _ => {}
    }
    if term.contains("kitty") || term.contains("ghostty") || has("KITTY_WINDOW_ID") {
        Hint::Speaks(Protocol::Kitty)
    } else if var("LC_TERMINAL") == "iTerm2" {
        Hint::Speaks(Protocol::Iterm)
    } else {
        Hint::Ask
    }
}

/// What a terminal answered, and what was typed before it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// It has sixels.
    pub sixel: bool,
    /// Width and height of a cell in pixels.
    pub cell: Option<(u16, u16)>,
    /// Everything that was no answer.
    pub typed: Vec<u8>,
    done: bool,
}

impl Answer {
    /// Takes bytes apart; `rest` keeps a sequence that has not ended.
    fn take(&mut self, rest: &mut Vec<u8>) {
        while let Some(start) = rest.windows(2).position(|w| w == b"\x1b[") {
            self.typed.extend(rest.drain(..start));
            let Some(end) =
                rest.iter().skip(2).position(|b| (0x40..0x7f).contains(b)).map(|i| i + 2)
            else {
                return;
            };
            let sequence: Vec<u8> = rest.drain(..=end).collect();
            let body = std::str::from_utf8(&sequence[2..end]).unwrap_or_default();
            let numbers: Vec<u16> =
                body.trim_start_matches('?').split(';').filter_map(|n| n.parse().ok()).collect();
            match (sequence[end], body.starts_with('?'), numbers.as_slice()) {
                (b'c', true, attributes) => {
                    self.sixel = attributes.contains(&4);
                    self.done = true;
                }
                (b't', false, &[6, height, width]) => self.cell = Some((width, height)),
                _ => self.typed.extend(sequence),
            }
        }
        // an escape at the end may begin a sequence
        let keep = usize::from(rest.last() == Some(&0x1b));
        self.typed.extend(rest.drain(..rest.len() - keep));
    }
}

/// The longest that a terminal may take to answer; after that it is one that does not.
const PATIENCE: Duration = Duration::from_millis(200);

/// Asks the terminal for the size of its cells and for its attributes. It must be in raw mode.
///
/// # Errors
/// There is no terminal.
pub fn ask(terminal: &mut File, patience: Duration) -> io::Result<Answer> {
    // the attributes come last: when they are here, everything is
    terminal.write_all(b"\x1b[16t\x1b[c")?;
    terminal.flush()?;
    let (mut answer, mut rest) = (Answer::default(), Vec::new());
    let begun = Instant::now();
    while !answer.done {
        let left = patience.saturating_sub(begun.elapsed());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO);
        let ready = poll(&mut [PollFd::new(terminal.as_fd(), PollFlags::POLLIN)], wait);
        if left.is_zero() || !matches!(ready, Ok(n) if n > 0) {
            break;
        }
        let mut some = [0; 256];
        match terminal.read(&mut some)? {
            0 => break,
            n => rest.extend(&some[..n]),
        }
        answer.take(&mut rest);
    }
    answer.typed.extend(rest);
    Ok(answer)
}

/// Keys that were typed while nobody read keys: letters, Enter, Tab, Escape, arrows.
pub fn keys(typed: &[u8]) -> Vec<Event> {
    let text = String::from_utf8_lossy(typed).replace("\x1bO", "\x1b[");
    let mut rest = text.as_str();
    let mut events = Vec::new();
    while let Some(c) = rest.chars().next() {
        let arrows = [
            ("\x1b[A", KeyCode::Up),
            ("\x1b[B", KeyCode::Down),
            ("\x1b[C", KeyCode::Right),
            ("\x1b[D", KeyCode::Left),
        ];
        let (code, modifiers, length) = match (arrows.iter().find(|a| rest.starts_with(a.0)), c) {
            (Some((sequence, code)), _) => (*code, KeyModifiers::NONE, sequence.len()),
            (None, '\r' | '\n') => (KeyCode::Enter, KeyModifiers::NONE, 1),
            (None, '\t') => (KeyCode::Tab, KeyModifiers::NONE, 1),
            (None, '\x7f') => (KeyCode::Backspace, KeyModifiers::NONE, 1),
            (None, '\x1b') => (KeyCode::Esc, KeyModifiers::NONE, 1),
            (None, c @ '\x01'..='\x1a') => {
                (KeyCode::Char(char::from(c as u8 + b'a' - 1)), KeyModifiers::CONTROL, 1)
            }
            (None, c) => (KeyCode::Char(c), KeyModifiers::NONE, c.len_utf8()),
        };
        events.push(Event::Key(KeyEvent::new(code, modifiers)));
        rest = &rest[length..];
    }
    events
}

/// A picture that is to be on the screen.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Counts up with every new picture.
    pub version: u64,
    /// The cells it covers.
    pub area: Rect,
    /// Its pixels.
    pub picture: &'a Pixmap,
}

/// A terminal's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// How it is told them.
    pub protocol: Protocol,
    /// Width and height of a cell in pixels.
    pub cell: (u16, u16),
}

impl Pixels {
    /// How many pixels of a picture a cell is: fewer than it has where the terminal enlarges pictures
    /// and so many cost more time than they are worth.
    pub fn scale(&self, cells: Rect) -> (u16, u16) {
        const ENOUGH: f64 = 1.2e6;
        let all = f64::from(cells.width)
            * f64::from(cells.height)
            * f64::from(self.cell.0)
            * f64::from(self.cell.1);
        if self.protocol == Protocol::Sixel || all <= ENOUGH {
            return self.cell;
        }
        let less = (ENOUGH / all).sqrt();
        let part = |n: u16| ((f64::from(n) * less) as u16).max(2);
        (part(self.cell.0), part(self.cell.1))
    }
}

/// Pixels on the screen.
#[derive(Debug)]
pub struct Graphics {
    /// The terminal's.
    pub pixels: Pixels,
    shown: Option<(u64, Rect)>,
}

/// A cell where nobody says what it measures.
const USUAL: (u16, u16) = (10, 20);

impl Graphics {
    /// What the user and the terminal agree on, and the keys that were pressed meanwhile. The
    /// terminal must be ours and in raw mode.
    pub fn open(choice: Choice) -> (Option<Self>, Vec<Event>) {
        let hint = hint(|name| std::env::var(name).ok());
        let size = crossterm::terminal::window_size()
            .ok()
            .filter(|s| s.width >= s.columns && s.height >= s.rows && s.columns * s.rows > 0);
        let cell =
            size.map(|s| (s.width / s.columns, s.height / s.rows)).filter(|c| c.0 > 1 && c.1 > 1);
        let with = |protocol: Protocol, cell| {
            protocol.remove().into_iter().for_each(leaves_pictures);
            Some(Graphics { pixels: Pixels { protocol, cell }, shown: None })
        };
        match (choice, hint) {
            (Choice::Off, _) | (Choice::Auto, Hint::None) => (None, vec![]),
            (Choice::Auto, Hint::Speaks(protocol)) => {
                (with(protocol, cell.unwrap_or(USUAL)), vec![])
            }
            (Choice::Use(protocol), _) => (with(protocol, cell.unwrap_or(USUAL)), vec![]),
            (Choice::Auto, Hint::Ask) => {
                let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
                let Ok(answer) = terminal.and_then(|mut t| ask(&mut t, PATIENCE)) else {
                    return (None, vec![]);
                };
                // sixels are as large as their pixels: without the size of a cell they fit nowhere
                let cell = cell.or(answer.cell).filter(|_| answer.sixel);
                (cell.and_then(|cell| with(Protocol::Sixel, cell)), keys(&answer.typed))
            }
        }
    }

    /// What is on the screen is no longer known.
    pub fn forget(&mut self) {
        self.shown = None;
    }

    /// The texts that a new picture would hide: the cells of its area, and of the last one's, where something is written.
    pub fn hidden(&self, image: Option<Image>, buf: &Buffer) -> Vec<(Position, Cell)> {
        let Some(image) = image.filter(|i| {
            !self.pixels.protocol.is_below_text() && self.shown != Some((i.version, i.area))
        }) else {
            return vec![];
        };
        let area = self.shown.map_or(image.area, |s| s.1.union(image.area)).intersection(buf.area);
        area.positions()
            .filter_map(|p| Some((p, buf.cell(p)?.clone())))
            .filter(|(_, c)| c.symbol() != " ")
            .collect()
    }

    /// Brings the screen up to date. True if every cell has to be drawn again.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn show(
        &mut self,
        image: Option<Image>,
        hidden: &[(Position, Cell)],
        session: &mut Session,
    ) -> Result<bool> {
        let wanted = image.map(|i| (i.version, i.area));
        if self.shown == wanted {
            return Ok(false);
        }
        let before = std::mem::replace(&mut self.shown, wanted);
        let mut out = io::stdout().lock();
        match (image, self.pixels.protocol.remove()) {
            (Some(image), _) => {
                if let Some((_, old)) =
                    before.filter(|b| !self.pixels.protocol.is_below_text() && b.1 != image.area)
                {
                    // pixels outside the new picture go when text is written there
                    let blank = " ".repeat(usize::from(old.width));
                    for y in old.rows() {
                        queue!(out, MoveTo(y.x, y.y), Print(&blank))
                            .context("draw on the terminal")?;
                    }
                }
                let text = self.pixels.protocol.show(
                    image.picture,
                    image.area.width,
                    image.area.height,
                )?;
                queue!(out, MoveTo(image.area.x, image.area.y), Print(text))
                    .context("draw on the terminal")?;
                out.flush().context("draw on the terminal")?;
                drop(out);
                session.write(hidden)?;
                Ok(false)
            }
            (None, Some(remove)) => {
                queue!(out, Print(remove)).context("draw on the terminal")?;
                out.flush().context("draw on the terminal")?;
                Ok(false)
            }
            (None, None) => Ok(true),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_says_what_it_can() {
        let of = |vars: &[(&str, &str)]| {
            hint(|name| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned()))
        };
        assert_eq!(of(&[("TERM", "xterm-kitty")]), Hint::Speaks(Protocol::Kitty));
        assert_eq!(of(&[("TERM", "xterm-ghostty")]), Hint::Speaks(Protocol::Kitty));
        assert_eq!(
            of(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "iTerm.app")]),
            Hint::Speaks(Protocol::Iterm)
        );
        assert_eq!(
            of(&[("TERM", "xterm-256color"), ("TERM_PROGRAM", "WezTerm")]),
            Hint::Speaks(Protocol::Iterm)
        );
        assert_eq!(of(&[("TERM", "foot")]), Hint::Ask);
        assert_eq!(of(&[("TERM", "xterm-256color")]), Hint::Ask);
        for none in [("TMUX", "/tmp/tmux-0/default,1,0"), ("CI", "true"), ("STY", "1.x")] {
            assert_eq!(of(&[("TERM", "xterm-kitty"), none]), Hint::None, "{none:?}");
        }
        for term in ["tmux-256color", "screen", "linux", "dumb", "vt100", ""] {
            assert_eq!(of(&[("TERM", term)]), Hint::None, "{term}");
        }
    }

    fn read(chunks: &[&str]) -> (Answer, Vec<u8>) {
        let (mut answer, mut rest) = (Answer::default(), Vec::new());
        for chunk in chunks {
            rest.extend(chunk.as_bytes());
            answer.take(&mut rest);
        }
        (answer, rest)
    }

    #[test]
    fn answers_are_told_from_keys() {
        let (a, _) = read(&["\x1b[6;20;10t\x1b[?62;4;22c"]);
        assert!(a.done && a.sixel && a.cell == Some((10, 20)) && a.typed.is_empty());
        let (a, _) = read(&["j\x1b[6;", "20;10tk\x1b", "[?1;2", "cq\r"]);
        assert!(a.done && !a.sixel && a.cell == Some((10, 20)));
        assert_eq!(a.typed, b"jkq\r");
        let (a, rest) = read(&["\x1b[A\x1b[?6"]);
        assert!(!a.done && a.typed == b"\x1b[A" && rest == b"\x1b[?6");
        let (a, rest) = read(&["\x1b"]);
        assert!(a.typed.is_empty() && rest == b"\x1b");
        for garbage in ["\x1b[;;;t", "\x1b[?;c", "\x1b[6;99999;1t", "\u{fffd}\x1b[\x1b["] {
            read(&[garbage]);
        }
    }

    #[test]
    fn typed_bytes_are_keys() {
        let of = |text: &str| -> Vec<KeyCode> {
            keys(text.as_bytes())
                .into_iter()
                .filter_map(|e| match e {
                    Event::Key(k) => Some(k.code),
                    _ => None,
                })
                .collect()
        };
        assert_eq!(
            of("jü\r\x1b[A\x1bOB\x1b"),
            [
                KeyCode::Char('j'),
                KeyCode::Char('ü'),
                KeyCode::Enter,
                KeyCode::Up,
                KeyCode::Down,
                KeyCode::Esc
            ]
        );
        assert_eq!(
            keys(b"\x03"),
            [Event::Key(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL))]
        );
    }
}
