// SPDX-License-Identifier: MIT OR Apache-2.0
//! Styles by purpose: the theme's colours as styles, and the colours of ends.
use foldhash::{HashMap, HashMapExt};
use ratatui::style::{Modifier, Style};

use model::{
    colour::{EndColours, Rgb},
    matrix::End,
};

use crate::theme::{Depth, Theme};

/// Styles by purpose, and the lasting colours of ends.
#[derive(Clone, Debug)]
pub struct Look {
    /// The underlying theme.
    pub theme: Theme,
    /// Normal text.
    pub text: Style,
    /// Numbers that matter.
    pub strong: Style,
    /// Secondary text.
    pub dim: Style,
    /// Lines, and what is not selected.
    pub faint: Style,
    /// The selection, and keys.
    pub accent: Style,
    /// The program's name and the active tab.
    pub tab: Style,
    /// The background of the screen's header.
    pub bar: Style,
    /// The line of the cursor.
    pub cursor: Style,
    /// The cell of the cursor.
    pub cell: Style,
    /// Sparklines.
    pub spark: Style,
    /// Normal state.
    pub good: Style,
    /// Needs attention.
    pub warn: Style,
    /// An error.
    pub bad: Style,
    colours: EndColours,
    ends: HashMap<End, Rgb>,
}

impl Look {
    /// The styles of a theme.
    pub fn new(theme: Theme) -> Self {
        let few = matches!(theme.depth, Depth::Ansi16 | Depth::Mono);
        let colourful = |c: Rgb| theme.text(c);
        let inverse = match few {
            true => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
            false => {
                colourful(theme.ground).bg(theme.colour(theme.accent)).add_modifier(Modifier::BOLD)
            }
        };
        let chosen = match few {
            true => Style::new().add_modifier(Modifier::BOLD),
            false => Style::new().bg(theme.colour(theme.chosen)),
        };
        Look {
            text: colourful(theme.ink),
            strong: colourful(theme.ink).add_modifier(Modifier::BOLD),
            dim: if few { theme.faint() } else { colourful(theme.faint.mix(theme.ink, 0.25)) },
            faint: if few { theme.faint() } else { colourful(theme.faint.mix(theme.ground, 0.5)) },
            accent: theme.title(),
            tab: inverse,
            bar: if few {
                Style::new()
            } else {
                Style::new().bg(theme.colour(theme.chosen.mix(theme.ground, 0.4)))
            },
            cursor: chosen,
            cell: match few {
                true => Style::new().add_modifier(Modifier::REVERSED | Modifier::BOLD),
                false => {
                    colourful(theme.ground).bg(theme.colour(theme.ink)).add_modifier(Modifier::BOLD)
                }
            },
            spark: colourful(theme.accent.mix(theme.ground, if few { 0.0 } else { 0.35 })),
            good: theme.good(),
            warn: theme.warning(),
            bad: theme.failure(),
            colours: theme.end_colours(),
            ends: HashMap::new(),
            theme,
        }
    }

    /// Assigns colours to the ends that are shown; those that stay keep theirs.
    pub fn learn(&mut self, ends: &[End]) {
        let known: Vec<End> =
            ends.iter().copied().filter(|e| !matches!(e, End::Other | End::Unknown)).collect();
        let names: Vec<String> = known.iter().map(End::to_string).collect();
        self.ends = known.into_iter().zip(self.colours.assign(&names)).collect();
    }

    /// An end's colour; sums of several have the theme's.
    pub fn colour(&self, end: End) -> Rgb {
        self.ends.get(&end).copied().unwrap_or(self.theme.other)
    }

    /// Text in an end's colour.
    pub fn end(&self, end: End) -> Style {
        self.end_if_known(end).unwrap_or(self.text)
    }

    /// Text in an end's colour, if it has one.
    pub fn end_if_known(&self, end: End) -> Option<Style> {
        match end {
            End::Other | End::Unknown => Some(self.dim),
            end => self.ends.get(&end).map(|c| self.theme.text(*c)),
        }
    }

    /// A cell of the heat map: `heat` from 0 (nothing) to 1 (the maximum).
    pub fn heat(&self, heat: f64) -> Style {
        match self.theme.depth {
            Depth::Mono => match heat {
                h if h > 0.8 => Style::new().add_modifier(Modifier::REVERSED),
                h if h > 0.5 => Style::new().add_modifier(Modifier::BOLD),
                h if h < 0.25 => Style::new().add_modifier(Modifier::DIM),
                _ => Style::new(),
            },
            _ => self.on(self.theme.heat(heat)),
        }
    }

    /// The same cell while something else is selected.
    pub fn heat_dim(&self, heat: f64) -> Style {
        match self.theme.depth {
            Depth::Mono | Depth::Ansi16 => self.theme.faint(),
            _ => self.dim.bg(self.theme.colour(self.theme.heat(heat).mix(self.theme.ground, 0.8))),
        }
    }

    fn on(&self, ground: Rgb) -> Style {
        Style::new().fg(self.theme.colour(self.theme.on(ground))).bg(self.theme.colour(ground))
    }
}
