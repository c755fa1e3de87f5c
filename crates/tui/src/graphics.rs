// SPDX-License-Identifier: MIT OR Apache-2.0
//! Real pixels for the chord, if the terminal supports them: the protocol that it speaks, and what
//! its screen currently shows of the picture.
//!
//! Terminals whose environment identifies their protocol are trusted. Others get a query that every
//! terminal since the VT100 answers, with a short timeout; what the user types meanwhile is kept.
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use crossterm::{cursor::MoveTo, event::Event, queue, style::Print};
use ratatui::{
    buffer::{Buffer, Cell},
    layout::{Position, Rect},
};
use tiny_skia::Pixmap;

use crate::{
    input::Input,
    pixels::Protocol,
    session::{Session, leaves_pictures},
};

/// What the user wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Pixels if the terminal is known to support them.
    #[default]
    Auto,
    /// This protocol, whatever the terminal reports.
    Use(Protocol),
    /// Characters.
    Off,
}

impl Choice {
    /// All choices, named as in flags.
    pub const ALL: [(Choice, &str); 5] = [
        (Choice::Auto, "auto"),
        (Choice::Use(Protocol::Kitty), "kitty"),
        (Choice::Use(Protocol::Iterm), "iterm"),
        (Choice::Use(Protocol::Sixel), "sixel"),
        (Choice::Off, "off"),
    ];
}

/// What the environment says about graphics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hint {
    /// There are none, or something sits between us and the terminal.
    None,
    /// The terminal speaks this protocol.
    Speaks(Protocol),
    /// It may support sixels: query it.
    Ask,
}

/// Evaluates the environment.
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

/// What a terminal answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Answer {
    /// Whether it supports sixels.
    sixel: bool,
    /// Width and height of a cell in pixels.
    cell: Option<(u16, u16)>,
}

/// The longest time to wait for an answer; after that the terminal is taken not to answer.
const PATIENCE: Duration = Duration::from_millis(200);

/// Queries the size of the terminal's cells and its attributes. Everything that is not an answer
/// was typed meanwhile.
fn ask(session: &mut Session, patience: Duration) -> (Answer, Vec<Event>) {
    let (mut answer, mut typed) = (Answer::default(), vec![]);
    // the attributes come last: once they are here, everything is
    if queue!(session.writer(), Print("\x1b[16t\x1b[c")).is_err() {
        return (answer, typed);
    }
    let begun = Instant::now();
    let mut done = false;
    while !done && !session.ended() && begun.elapsed() < patience {
        for input in session.wait(patience.saturating_sub(begun.elapsed())) {
            match input {
                Input::Event(event) => typed.push(event),
                Input::CellSize(width, height) => answer.cell = Some((width, height)),
                Input::Attributes(list) => {
                    answer.sixel = list.contains(&4);
                    done = true;
                }
            }
        }
    }
    (answer, typed)
}

/// A picture that should be on the screen.
#[derive(Clone, Copy, Debug)]
pub struct Image<'a> {
    /// Counts up with every new picture.
    pub version: u64,
    /// The cells it covers.
    pub area: Rect,
    /// Its pixels.
    pub picture: &'a Pixmap,
}

/// The terminal's pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pixels {
    /// The protocol for sending them.
    pub protocol: Protocol,
    /// Width and height of a cell in pixels.
    pub cell: (u16, u16),
}

impl Pixels {
    /// The number of picture pixels per cell: fewer than the terminal has if it scales pictures and
    /// so many would cost more time than they are worth.
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
    /// The terminal's pixels.
    pub pixels: Pixels,
    shown: Option<(u64, Rect)>,
}

/// The size of a cell if the terminal does not report it.
const USUAL: (u16, u16) = (10, 20);

impl Graphics {
    /// The result of the user's choice and the terminal's capabilities, and the keys pressed
    /// meanwhile. The terminal must be ours and in raw mode.
    pub fn open(choice: Choice, session: &mut Session) -> (Option<Self>, Vec<Event>) {
        let hint = hint(|name| std::env::var(name).ok());
        let cell = session.cell();
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
                let (answer, typed) = ask(session, PATIENCE);
                // sixels have the size of their pixels: without the size of a cell they cannot be
                // made to fit
                let cell = cell.or(answer.cell).filter(|_| answer.sixel);
                (cell.and_then(|cell| with(Protocol::Sixel, cell)), typed)
            }
        }
    }

    /// The contents of the screen are no longer known.
    pub fn forget(&mut self) {
        self.shown = None;
    }

    /// The texts that a new picture would hide: the cells of its area, and of the previous one's,
    /// that contain text.
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

    /// Brings the screen up to date. Returns true if every cell has to be redrawn.
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
        let mut out = session.writer();
        match (image, self.pixels.protocol.remove()) {
            (Some(image), _) => {
                if let Some((_, old)) =
                    before.filter(|b| !self.pixels.protocol.is_below_text() && b.1 != image.area)
                {
                    // pixels outside the new picture disappear when text is written there
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
                session.write(hidden)?;
                Ok(false)
            }
            (None, Some(remove)) => {
                queue!(out, Print(remove)).context("draw on the terminal")?;
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
    fn graphics_are_detected_from_the_environment() {
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
}
