// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which characters can be shown, and replacements for the others. Pure.
use std::borrow::Cow;

use unicode_width::UnicodeWidthChar;

/// The character sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Charset {
    /// ASCII.
    Ascii,
    /// The Linux console's font: Latin letters, and code page 437 of the PC.
    Console,
    /// Everything.
    #[default]
    Unicode,
}

impl Charset {
    /// The characters that text may contain, by the name of the locale. If no locale is set at all,
    /// as in most containers, this is Unicode, as in systemd; only a locale that says otherwise
    /// counts.
    pub fn of_locale(var: impl Fn(&str) -> Option<String>) -> Charset {
        let set =
            ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().filter_map(var).find(|v| !v.is_empty());
        let Some(locale) = set else { return Charset::Unicode };
        let name = locale.split('@').next().unwrap_or_default();
        let codeset = name.split_once('.').map_or("", |n| n.1);
        if ["utf-8", "utf8"].iter().any(|u| codeset.eq_ignore_ascii_case(u)) {
            Charset::Unicode
        } else {
            Charset::Ascii
        }
    }

    /// The characters that a terminal shows, by the locale and `TERM`.
    pub fn of_terminal(var: impl Fn(&str) -> Option<String>) -> Charset {
        let term = var("TERM").unwrap_or_default();
        let of_term = match term.strip_prefix("vt") {
            Some(number) if number.starts_with(|c: char| c.is_ascii_digit()) => Charset::Ascii,
            _ if term == "linux" || term.starts_with("linux-") => Charset::Console,
            _ if term.starts_with("ansi") => Charset::Ascii,
            _ => Charset::Unicode,
        };
        of_term.min(Charset::of_locale(var))
    }

    /// The replacement for a character; one cell wide if the character is.
    pub fn symbol(self, c: char) -> char {
        let known = match self {
            Charset::Unicode => true,
            Charset::Console => c < '\u{250}' || CONSOLE.contains(c),
            Charset::Ascii => c.is_ascii(),
        };
        if known {
            return c;
        }
        INSTEAD
            .iter()
            .find(|i| i.0 == c)
            .map_or('?', |i| if self == Charset::Ascii { i.2 } else { i.1 })
    }

    /// A text in these characters, in the same number of columns.
    pub fn text(self, text: &str) -> Cow<'_, str> {
        if text.chars().all(|c| self.symbol(c) == c) {
            return text.into();
        }
        let instead = |c: char| {
            let symbol = self.symbol(c);
            let cells = if symbol == c { 1 } else { c.width().unwrap_or(1) };
            std::iter::repeat_n(symbol, cells)
        };
        text.chars().flat_map(instead).collect::<String>().into()
    }
}

/// The symbols used here that the Linux console's own font has besides letters.
const CONSOLE: &str = "─│┌┐└┘├┤┬┴┼═▀▄█▌▐░▒▓■○•♦►▲▼←↑→↓↔";

/// A character, its replacement on the console, and its replacement in ASCII.
const INSTEAD: &[(char, char, char)] = &[
    ('\u{a0}', ' ', ' '),
    ('µ', 'µ', 'u'),
    ('·', '·', '.'),
    ('×', '×', 'x'),
    ('…', '~', '~'),
    ('›', '>', '>'),
    ('←', '←', '<'),
    ('↑', '↑', '^'),
    ('→', '→', '>'),
    ('↓', '↓', 'v'),
    ('⇄', '↔', '-'),
    ('─', '─', '-'),
    ('━', '═', '='),
    ('╸', '─', '-'),
    ('│', '│', '|'),
    ('╭', '┌', '.'),
    ('╮', '┐', '.'),
    ('╰', '└', '`'),
    ('╯', '┘', '\''),
    ('▁', '_', '_'),
    ('▂', '_', '_'),
    ('▃', '▄', '='),
    ('▄', '▄', '='),
    ('▅', '▄', '+'),
    ('▆', '█', '+'),
    ('▇', '█', '#'),
    ('█', '█', '#'),
    ('▀', '▀', '"'),
    ('▌', '▌', '|'),
    ('▐', '▐', '|'),
    ('░', '░', '.'),
    ('▒', '▒', ':'),
    ('▓', '▓', '%'),
    ('■', '■', '#'),
    ('▴', '▲', '^'),
    ('▾', '▼', 'v'),
    ('▶', '►', '>'),
    ('◆', '♦', '*'),
    ('○', '○', 'o'),
    ('●', '•', '*'),
    ('◉', '•', '*'),
    ('❚', '│', '|'),
    ('✗', 'x', 'x'),
];

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_width::UnicodeWidthStr;

    fn of(vars: &[(&str, &str)]) -> [Charset; 2] {
        let var = |name: &str| vars.iter().find(|v| v.0 == name).map(|v| v.1.to_owned());
        [Charset::of_locale(var), Charset::of_terminal(var)]
    }

    #[test]
    fn the_charset_follows_locale_and_terminal() {
        use Charset::*;
        for (vars, locale, terminal) in [
            (&[][..], Unicode, Unicode),
            (&[("LANG", "C.UTF-8")], Unicode, Unicode),
            (&[("LANG", "de_DE.utf8@euro")], Unicode, Unicode),
            (&[("LANG", "C")], Ascii, Ascii),
            (&[("LANG", "POSIX")], Ascii, Ascii),
            (&[("LANG", "de_DE.ISO-8859-1")], Ascii, Ascii),
            (&[("LANG", "de_DE@euro")], Ascii, Ascii),
            (&[("LC_ALL", "C"), ("LANG", "C.UTF-8")], Ascii, Ascii),
            (&[("LC_ALL", ""), ("LC_CTYPE", "C.UTF-8"), ("LANG", "C")], Unicode, Unicode),
            (&[("TERM", "vt100"), ("LANG", "C.UTF-8")], Unicode, Ascii),
            (&[("TERM", "vt220")], Unicode, Ascii),
            (&[("TERM", "vte-256color")], Unicode, Unicode),
            (&[("TERM", "linux"), ("LANG", "C.UTF-8")], Unicode, Console),
            (&[("TERM", "linux"), ("LC_ALL", "C")], Ascii, Ascii),
            (&[("TERM", "xterm-256color"), ("LC_ALL", "C")], Ascii, Ascii),
        ] {
            assert_eq!(of(vars), [locale, terminal], "{vars:?}");
        }
    }

    #[test]
    fn replacements_exist_and_are_equally_wide() {
        for &(c, console, ascii) in INSTEAD {
            assert_eq!([c, console, ascii].map(|c| c.width()), [Some(1); 3], "{c}");
            assert!(ascii.is_ascii() && Charset::Console.symbol(console) == console, "{c}");
        }
        for c in CONSOLE.chars() {
            assert!(Charset::Ascii.symbol(c) != '?' || "├┤┬┴┼┌┐└┘═•♦►▲▼↔".contains(c), "{c}");
        }
        for text in ["A→B 15 µs", "日本語 …", "plain", "␛[2J"] {
            let ascii = Charset::Ascii.text(text);
            assert!(ascii.is_ascii());
            assert_eq!(ascii.width(), text.width(), "{ascii}");
            assert_eq!(Charset::Unicode.text(text), text);
        }
        assert_eq!(Charset::Ascii.text("A→B 15 µs"), "A>B 15 us");
        assert_eq!(Charset::Console.text("größe ⇄ ●"), "größe ↔ •");
    }
}
