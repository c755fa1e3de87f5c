// SPDX-License-Identifier: MIT OR Apache-2.0
//! Appearance: schemes, colour depth, and the styles of everything on the screen.
//!
//! The program uses [`Rgb`] throughout; [`Theme::colour`] is the one place that converts it to what
//! this terminal can show.
use model::colour::{EndColours, Palette, Rgb};
use ratatui::style::{Color, Modifier, Style};
use std::str::FromStr;

/// How many colours the terminal shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Depth {
    /// None: shades and attributes only.
    Mono,
    /// The 16 ANSI colours, however the terminal shows them.
    Ansi16,
    /// xterm's 256.
    Ansi256,
    /// All.
    TrueColor,
}

impl Depth {
    /// All depths, named as in flags.
    pub const ALL: [(Depth, &str); 4] = [
        (Depth::TrueColor, "truecolor"),
        (Depth::Ansi256, "256"),
        (Depth::Ansi16, "16"),
        (Depth::Mono, "mono"),
    ];

    /// What an environment asks for: `NO_COLOR` (<https://no-color.org>), `COLORTERM`, `TERM`.
    pub fn detect(var: impl Fn(&str) -> Option<String>) -> Depth {
        let var = |name| var(name).unwrap_or_default().to_ascii_lowercase();
        let (term, colorterm) = (var("TERM"), var("COLORTERM"));
        let has = |words: &[&str]| words.iter().any(|w| term.contains(w));
        if !var("NO_COLOR").is_empty()
            || has(&["dumb", "vt100", "vt220"])
            || term.ends_with("-m")
            || term.ends_with("-mono")
        {
            Depth::Mono
        } else if matches!(colorterm.as_str(), "truecolor" | "24bit")
            || has(&[
                "direct",
                "truecolor",
                "kitty",
                "ghostty",
                "alacritty",
                "wezterm",
                "foot",
                "iterm",
            ])
        {
            Depth::TrueColor
        } else if has(&["256"]) {
            Depth::Ansi256
        } else {
            Depth::Ansi16
        }
    }

    /// What this process's environment asks for.
    pub fn from_env() -> Depth {
        Depth::detect(|name| std::env::var(name).ok())
    }
}

impl FromStr for Depth {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        match s {
            "truecolor" | "24bit" => Ok(Depth::TrueColor),
            "256" => Ok(Depth::Ansi256),
            "16" => Ok(Depth::Ansi16),
            "mono" | "none" => Ok(Depth::Mono),
            _ => Err(format!("'{s}' is not a colour depth (one of: truecolor, 256, 16, mono)")),
        }
    }
}

/// A colour scheme.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// Light on dark.
    #[default]
    Dark,
    /// Dark on light.
    Light,
    /// Dark, with colours that are distinguishable for everybody.
    Safe,
    /// No colours.
    Mono,
}

impl Scheme {
    /// All schemes with their names, in the order in which a key steps through them.
    pub const ALL: [(Scheme, &str); 4] = [
        (Scheme::Dark, "dark"),
        (Scheme::Light, "light"),
        (Scheme::Safe, "colour-blind"),
        (Scheme::Mono, "mono"),
    ];

    /// Its name, as in flags.
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|s| s.0 == self).map_or("", |s| s.1)
    }

    /// The next one, cyclically.
    #[must_use]
    pub fn next(self) -> Scheme {
        let i = Self::ALL.iter().position(|s| s.0 == self).map_or(0, |i| i + 1);
        Self::ALL[i % Self::ALL.len()].0
    }
}

impl FromStr for Scheme {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let names = || Self::ALL.map(|x| x.1).join(", ");
        let wanted = if s == "color-blind" { "colour-blind" } else { s };
        Self::ALL
            .iter()
            .find(|x| x.1 == wanted)
            .map(|x| x.0)
            .ok_or_else(|| format!("'{s}' is not a theme (one of: {})", names()))
    }
}

/// The appearance of the whole screen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Theme {
    /// The scheme.
    pub scheme: Scheme,
    /// The terminal's colours; [`Depth::Mono`] with [`Scheme::Mono`].
    pub depth: Depth,
    /// The background. Painted with 256 and all colours, the terminal's own with fewer.
    pub ground: Rgb,
    /// Plain text.
    pub ink: Rgb,
    /// Secondary elements: units, rulers, leader lines.
    pub faint: Rgb,
    /// Titles, keys, the active tab.
    pub accent: Rgb,
    /// The background of the selected row or cell.
    pub chosen: Rgb,
    /// Something that needs attention.
    pub warning: Rgb,
    /// Something that failed.
    pub failure: Rgb,
    /// Something in its normal state.
    pub good: Rgb,
    /// The colour of `other`.
    pub other: Rgb,
    /// From zero to maximum, for heat maps and sparklines.
    heat: [Rgb; 5],
}

impl Default for Theme {
    fn default() -> Self {
        Theme::new(Scheme::Dark, Depth::TrueColor)
    }
}

const fn heat(h: [u32; 5]) -> [Rgb; 5] {
    [Rgb::hex(h[0]), Rgb::hex(h[1]), Rgb::hex(h[2]), Rgb::hex(h[3]), Rgb::hex(h[4])]
}

impl Theme {
    /// A scheme on a terminal with this many colours.
    pub fn new(scheme: Scheme, depth: Depth) -> Self {
        let scheme = if depth == Depth::Mono { Scheme::Mono } else { scheme };
        let dark = Theme {
            scheme,
            depth,
            ground: Rgb::hex(0x121218),
            ink: Rgb::hex(0xdcdce4),
            faint: Rgb::hex(0x82828f),
            accent: Rgb::hex(0x8ab8f0),
            chosen: Rgb::hex(0x2e3040),
            warning: Rgb::hex(0xe8b84a),
            failure: Rgb::hex(0xec6a6a),
            good: Rgb::hex(0x74c27c),
            other: Rgb::hex(0x70707c),
            heat: heat([0x23233a, 0x4a3a78, 0xa03f7c, 0xe8695a, 0xfad07a]),
        };
        match scheme {
            Scheme::Dark => dark,
            Scheme::Safe => Theme {
                heat: heat([0x1c2440, 0x2c4a7c, 0x5c7a8c, 0xb0a060, 0xf8e048]),
                good: Rgb::hex(0x56b4e9),
                failure: Rgb::hex(0xe87a30),
                ..dark
            },
            Scheme::Light => Theme {
                ground: Rgb::hex(0xfafaf7),
                ink: Rgb::hex(0x24242c),
                faint: Rgb::hex(0x7c7c86),
                accent: Rgb::hex(0x1a5cb0),
                chosen: Rgb::hex(0xdde4f0),
                warning: Rgb::hex(0x9a6a00),
                failure: Rgb::hex(0xb82a2a),
                good: Rgb::hex(0x2a7c38),
                other: Rgb::hex(0x9a9aa4),
                heat: heat([0xeeeef0, 0xc8d4ec, 0x86a8dc, 0x4468b4, 0x1c2c6c]),
                ..dark
            },
            Scheme::Mono => Theme {
                depth: Depth::Mono,
                ground: Rgb::hex(0x000000),
                ink: Rgb::hex(0xffffff),
                faint: Rgb::hex(0x808080),
                accent: Rgb::hex(0xffffff),
                chosen: Rgb::hex(0x404040),
                warning: Rgb::hex(0xffffff),
                failure: Rgb::hex(0xffffff),
                good: Rgb::hex(0xffffff),
                other: Rgb::hex(0x404040),
                heat: heat([0x000000, 0x404040, 0x808080, 0xc0c0c0, 0xffffff]),
                ..dark
            },
        }
    }

    /// Colours for ends that persist from frame to frame; the same for all views.
    pub fn end_colours(&self) -> EndColours {
        EndColours::new(match (self.depth, self.scheme) {
            (Depth::Mono, _) => Palette::GREYS,
            (Depth::Ansi16, _) => Palette::ANSI,
            (_, Scheme::Light) => Palette::LIGHT,
            (_, Scheme::Safe) => Palette::SAFE,
            _ => Palette::DARK,
        })
    }

    /// A colour as this terminal can show it. If the ground is the terminal's own, text in the
    /// ground's colour is the terminal's default as well; without colours everything is.
    pub fn colour(&self, c: Rgb) -> Color {
        match self.depth {
            Depth::TrueColor => Color::Rgb(c.0, c.1, c.2),
            Depth::Ansi256 => Color::Indexed(c.nearest_256()),
            Depth::Ansi16 if c == self.ground => Color::Reset,
            Depth::Ansi16 => ANSI[usize::from(c.nearest_16()) % 16],
            Depth::Mono => Color::Reset,
        }
    }

    /// Plain text on the ground: paint the whole screen with it first.
    pub fn base(&self) -> Style {
        match self.depth {
            Depth::TrueColor | Depth::Ansi256 => {
                Style::new().fg(self.colour(self.ink)).bg(self.colour(self.ground))
            }
            Depth::Ansi16 | Depth::Mono => Style::reset(),
        }
    }

    /// Text in a colour.
    pub fn text(&self, c: Rgb) -> Style {
        match self.depth {
            // the terminal's own foreground matches its own background
            Depth::Ansi16 if c == self.ink => Style::new().fg(Color::Reset),
            _ => Style::new().fg(self.colour(c)),
        }
    }

    /// Secondary text.
    pub fn faint(&self) -> Style {
        match self.depth {
            Depth::Ansi16 | Depth::Mono => Style::new().add_modifier(Modifier::DIM),
            _ => self.text(self.faint),
        }
    }

    /// Titles and keys.
    pub fn title(&self) -> Style {
        self.text(self.accent).add_modifier(Modifier::BOLD)
    }

    /// Something that needs attention.
    pub fn warning(&self) -> Style {
        self.text(self.warning).add_modifier(Modifier::BOLD)
    }

    /// Something that failed.
    pub fn failure(&self) -> Style {
        let style = self.text(self.failure).add_modifier(Modifier::BOLD);
        if self.depth == Depth::Mono { style.add_modifier(Modifier::REVERSED) } else { style }
    }

    /// Something in its normal state.
    pub fn good(&self) -> Style {
        self.text(self.good)
    }

    /// The selected row or cell, patched over what is there.
    pub fn chosen(&self) -> Style {
        match self.depth {
            Depth::TrueColor | Depth::Ansi256 => {
                Style::new().bg(self.colour(self.chosen)).add_modifier(Modifier::BOLD)
            }
            Depth::Ansi16 | Depth::Mono => Style::new().add_modifier(Modifier::REVERSED),
        }
    }

    /// The heat map colour for a share of the maximum, 0 to 1.
    pub fn heat(&self, share: f64) -> Rgb {
        let at =
            if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) } * (self.heat.len() - 1) as f64;
        let i = (at as usize).min(self.heat.len() - 2);
        self.heat[i].mix(self.heat[i + 1], at - i as f64)
    }

    /// Black or white, whichever is readable on a ground of this colour.
    pub fn on(&self, ground: Rgb) -> Rgb {
        if ground.lightness() > 0.6 { Rgb(0x10, 0x10, 0x14) } else { Rgb(0xf4, 0xf4, 0xf6) }
    }

    /// A colour for text: the nearest one towards the ink that is readable on the ground.
    pub fn readable(&self, c: Rgb) -> Rgb {
        let apart = |c: Rgb| (c.lightness() - self.ground.lightness()).abs();
        (0..=5)
            .map(|k| c.mix(self.ink, f64::from(k) * 0.15))
            .find(|&c| apart(c) >= 0.42)
            .unwrap_or(self.ink)
    }

    /// How a ribbon is filled: its colour, and its opacity over what is behind it. With few colours
    /// nothing is blended: in the palette of 16, each bright colour has a dark counterpart.
    pub fn ribbon(&self, c: Rgb) -> (Rgb, f64) {
        match self.depth {
            Depth::TrueColor | Depth::Ansi256 => (c, RIBBON),
            Depth::Ansi16 => {
                let bright = c.nearest_16();
                (model::colour::xterm(if bright == 15 { 7 } else { bright % 8 }), 1.0)
            }
            Depth::Mono => (c, 1.0),
        }
    }
}

/// The opacity of a ribbon.
const RIBBON: f64 = 0.67;

const ANSI: [Color; 16] = [
    Color::Black,
    Color::Red,
    Color::Green,
    Color::Yellow,
    Color::Blue,
    Color::Magenta,
    Color::Cyan,
    Color::Gray,
    Color::DarkGray,
    Color::LightRed,
    Color::LightGreen,
    Color::LightYellow,
    Color::LightBlue,
    Color::LightMagenta,
    Color::LightCyan,
    Color::White,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_follows_the_environment() {
        for (vars, depth) in [
            (vec![("TERM", "xterm-256color")], Depth::Ansi256),
            (vec![("TERM", "xterm-256color"), ("COLORTERM", "truecolor")], Depth::TrueColor),
            (vec![("TERM", "tmux-direct")], Depth::TrueColor),
            (vec![("TERM", "xterm-kitty")], Depth::TrueColor),
            (vec![("TERM", "xterm-kitty"), ("NO_COLOR", "1")], Depth::Mono),
            (vec![("TERM", "xterm-256color"), ("NO_COLOR", "")], Depth::Ansi256),
            (vec![("TERM", "linux")], Depth::Ansi16),
            (vec![("TERM", "dumb"), ("COLORTERM", "24bit")], Depth::Mono),
            (vec![("TERM", "screen.xterm-256color"), ("COLORTERM", "24bit")], Depth::TrueColor),
            (vec![], Depth::Ansi16),
        ] {
            let got =
                Depth::detect(|name| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned()));
            assert_eq!(got, depth, "{vars:?}");
        }
    }

    #[test]
    fn names_and_values_convert_both_ways() {
        for (scheme, name) in Scheme::ALL {
            assert_eq!(name.parse(), Ok(scheme));
            assert_eq!(scheme.name(), name);
        }
        assert!("pink".parse::<Scheme>().unwrap_err().contains("colour-blind"));
        assert_eq!(Scheme::Mono.next(), Scheme::Dark);
        assert_eq!("256".parse(), Ok(Depth::Ansi256));
        assert!("8k".parse::<Depth>().is_err());
    }

    #[test]
    fn a_colour_is_what_the_terminal_can_show() {
        let red = Rgb::hex(0xfe0000);
        for (depth, colour) in [
            (Depth::TrueColor, Color::Rgb(0xfe, 0, 0)),
            (Depth::Ansi256, Color::Indexed(196)),
            (Depth::Ansi16, Color::LightRed),
            (Depth::Mono, Color::Reset),
        ] {
            assert_eq!(Theme::new(Scheme::Dark, depth).colour(red), colour);
        }
        assert_eq!(
            Theme::new(Scheme::Mono, Depth::TrueColor).colour(red),
            Color::Reset,
            "mono has no colours anywhere"
        );
        let few = Theme::new(Scheme::Light, Depth::Ansi16);
        assert_eq!(few.colour(few.ground), Color::Reset);
    }

    /// WCAG 2: relative luminance, 4.5 for text, 3 for large or secondary text.
    #[test]
    fn text_is_readable_on_every_background() {
        let luminance = |c: Rgb| {
            let l = |c: u8| {
                let c = f64::from(c) / 255.0;
                if c <= 0.03928 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
            };
            0.2126 * l(c.0) + 0.7152 * l(c.1) + 0.0722 * l(c.2)
        };
        let contrast = |a, b| {
            let (a, b) = (luminance(a), luminance(b));
            (f64::max(a, b) + 0.05) / (f64::min(a, b) + 0.05)
        };
        for scheme in [Scheme::Dark, Scheme::Light, Scheme::Safe] {
            let t = Theme::new(scheme, Depth::TrueColor);
            for c in [t.ink, t.accent, t.warning, t.failure, t.good] {
                assert!(contrast(c, t.ground) >= 4.5, "{scheme:?} {c} {}", contrast(c, t.ground));
            }
            assert!(contrast(t.ink, t.chosen) >= 4.5);
            assert!(
                contrast(t.faint, t.ground) >= 3.0,
                "{scheme:?} {}",
                contrast(t.faint, t.ground)
            );
            for step in 0..=20 {
                let ground = t.heat(f64::from(step) / 20.0);
                assert!(
                    contrast(t.on(ground), ground) >= 3.5,
                    "{scheme:?} {ground} {}",
                    contrast(t.on(ground), ground)
                );
            }
        }
    }

    #[test]
    fn heat_rises_monotonically() {
        let t = Theme::default();
        assert_eq!(t.heat(f64::NAN), t.heat(0.0));
        assert_eq!(t.heat(9.0), t.heat(1.0));
        for step in 0..20 {
            let (a, b) = (t.heat(f64::from(step) / 20.0), t.heat(f64::from(step + 1) / 20.0));
            assert!(a.lightness() < b.lightness());
        }
    }
}
