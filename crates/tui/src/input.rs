// SPDX-License-Identifier: MIT OR Apache-2.0
//! Parses the bytes that a terminal sends into events.
//!
//! crossterm's own readers are not used: one blocks in read(2) while a sequence is incomplete, the
//! other spins on a terminal that has hung up. This one neither reads nor waits. Every byte belongs
//! to a sequence, is an event or is dropped; a sequence that stays incomplete is completed by
//! [`Parser::settle`]. It follows ECMA-48, with the exceptions of xterm, rxvt and the Linux
//! console.
use std::time::Duration;

use crossterm::event::{
    Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers, MouseButton, MouseEvent, MouseEventKind,
};

/// What a terminal has sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A key, the mouse, a paste; a resize comes from the kernel instead.
    Event(Event),
    /// Its primary device attributes (DA1).
    Attributes(Vec<u16>),
    /// The width and height of a cell in pixels.
    CellSize(u16, u16),
}

/// How long to wait for the rest of a key: an Esc with nothing after it is the Esc key.
const KEY: Duration = Duration::from_millis(50);
/// How long to wait for the rest of a paste or a string.
const STRING: Duration = Duration::from_millis(300);
/// The longest paste that is kept; a filter is one line.
const MOST: usize = 1 << 16;

const PASTE: &[u8] = b"\x1b[200~";
const PASTE_END: &[u8] = b"\x1b[201~";

/// Splits a stream of bytes into events.
#[derive(Debug, Default)]
pub struct Parser {
    bytes: Vec<u8>,
}

/// The meaning of the beginning of the buffer.
enum Step {
    /// The number of bytes consumed, and their meaning.
    Take(usize, Option<Input>),
    /// An incomplete sequence.
    More,
}

use Step::{More, Take};

impl Parser {
    /// Takes bytes, and appends the events to `out`.
    pub fn feed(&mut self, bytes: &[u8], out: &mut Vec<Input>) {
        self.bytes.extend_from_slice(bytes);
        let mut at = 0;
        while at < self.bytes.len() {
            match step(&self.bytes[at..]) {
                Take(n, input) => {
                    at += n;
                    out.extend(input);
                }
                More => break,
            }
        }
        self.bytes.drain(..at);
        if self.bytes.len() > MOST {
            // keep how it begins and a possible beginning of its end
            let from = if self.bytes.starts_with(PASTE) { MOST / 2 } else { 2 };
            self.bytes.drain(from..self.bytes.len() - PASTE_END.len());
        }
    }

    /// How long to wait for the rest of an incomplete sequence; `None` if there is none.
    pub fn patience(&self) -> Option<Duration> {
        match self.bytes.as_slice() {
            [] => None,
            [0x1b, b']' | b'P' | b'X' | b'^' | b'_', _, ..] => Some(STRING),
            b if b.starts_with(PASTE) => Some(STRING),
            _ => Some(KEY),
        }
    }

    /// Nothing has arrived for that long: treat what is here as complete.
    pub fn settle(&mut self, out: &mut Vec<Input>) {
        let bytes = std::mem::take(&mut self.bytes);
        out.extend(match bytes.as_slice() {
            [0x1b] | [0x1b, 0x1b] => Some(key(KeyCode::Esc, KeyModifiers::NONE)),
            [0x1b, c @ (b'[' | b'O' | b']' | b'P' | b'X' | b'^' | b'_')] => {
                Some(character(char::from(*c), KeyModifiers::ALT))
            }
            [0x1b, b'[', digits @ .., b'$'] => rxvt(digits, b'$'),
            b if b.starts_with(PASTE) => Some(paste(&b[PASTE.len()..])),
            _ => None,
        });
    }
}

fn key(code: KeyCode, modifiers: KeyModifiers) -> Input {
    Input::Event(Event::Key(KeyEvent::new(code, modifiers)))
}

fn character(c: char, modifiers: KeyModifiers) -> Input {
    let shift = if c.is_uppercase() { KeyModifiers::SHIFT } else { KeyModifiers::NONE };
    key(KeyCode::Char(c), modifiers | shift)
}

fn paste(text: &[u8]) -> Input {
    Input::Event(Event::Paste(String::from_utf8_lossy(text).into_owned()))
}

fn step(b: &[u8]) -> Step {
    match b {
        [0x1b] | [0x1b, 0x1b] => More,
        [0x1b, 0x1b, b'[' | b'O', ..] => alt(step(&b[1..])), // rxvt
        [0x1b, 0x1b, ..] => Take(2, Some(key(KeyCode::Esc, KeyModifiers::NONE))),
        [0x1b, b'[', ..] => csi(b),
        [0x1b, b'O', ..] => ss3(b),
        [0x1b, b']' | b'P' | b'X' | b'^' | b'_', ..] => string(b),
        [0x1b, ..] => alt(plain(&b[1..])),
        _ => plain(b),
    }
}

/// A key with an Esc before it, which means Alt.
fn alt(step: Step) -> Step {
    match step {
        Take(n, Some(Input::Event(Event::Key(mut k)))) => {
            k.modifiers |= KeyModifiers::ALT;
            Take(n + 1, Some(Input::Event(Event::Key(k))))
        }
        Take(n, input) => Take(n + 1, input),
        More => More,
    }
}

/// A control character or a printable character.
fn plain(b: &[u8]) -> Step {
    let code = match b[0] {
        b'\r' | b'\n' => KeyCode::Enter,
        b'\t' => KeyCode::Tab,
        0x7f | 0x08 => KeyCode::Backspace,
        0 => return Take(1, Some(key(KeyCode::Char(' '), KeyModifiers::CONTROL))),
        c @ 1..=0x1a => {
            let letter = KeyCode::Char(char::from(c - 1 + b'a'));
            return Take(1, Some(key(letter, KeyModifiers::CONTROL)));
        }
        c @ 0x1b..=0x1f => {
            let digit = KeyCode::Char(char::from(c - 0x1b + b'3'));
            return Take(1, Some(key(digit, KeyModifiers::CONTROL)));
        }
        c @ 0x20..=0x7e => {
            return Take(1, Some(character(char::from(c), KeyModifiers::NONE)));
        }
        _ => {
            let some = &b[..b.len().min(4)];
            let (good, more) = match std::str::from_utf8(some) {
                Ok(text) => (text, false),
                Err(e) => (
                    std::str::from_utf8(&some[..e.valid_up_to()]).unwrap_or_default(),
                    e.error_len().is_none(),
                ),
            };
            return match good.chars().next() {
                Some(c) => Take(c.len_utf8(), Some(character(c, KeyModifiers::NONE))),
                None if more => More,
                None => Take(1, None), // a lone byte of another charset
            };
        }
    };
    Take(1, Some(key(code, KeyModifiers::NONE)))
}

/// OSC, DCS, SOS, PM, APC: replies to queries that we did not send, up to ST or BEL.
fn string(b: &[u8]) -> Step {
    let end = (2..b.len()).find_map(|i| match b[i] {
        0x07 | 0x18 | 0x1a => Some(i + 1),
        0x1b if b.get(i + 1) == Some(&b'\\') => Some(i + 2),
        // another sequence begins: this one was truncated
        0x1b if i + 1 < b.len() => Some(i),
        _ => None,
    });
    end.map_or(More, |n| Take(n, None))
}

fn ss3(b: &[u8]) -> Step {
    let Some(&c) = b.get(2) else { return More };
    let none = KeyModifiers::NONE;
    let input = match c {
        b'A'..=b'F' | b'H' | b'P'..=b'S' => named(c).map(|code| key(code, none)),
        b'M' => Some(key(KeyCode::Enter, none)),
        b'I' => Some(key(KeyCode::Tab, none)),
        b'X' => Some(character('=', none)),
        b' ' => Some(character(' ', none)),
        b'a'..=b'd' => named(c - 32).map(|code| key(code, KeyModifiers::CONTROL)), // rxvt
        b'j'..=b'y' => Some(character(char::from(c - b'j' + b'*'), none)),         // the keypad
        0x21..=0x7e => None,
        // not a sequence: Alt-O, and the next key
        _ => return Take(2, Some(character('O', KeyModifiers::ALT))),
    };
    Take(3, input)
}

/// Keys whose sequence ends with a letter.
fn named(c: u8) -> Option<KeyCode> {
    Some(match c {
        b'A' => KeyCode::Up,
        b'B' => KeyCode::Down,
        b'C' => KeyCode::Right,
        b'D' => KeyCode::Left,
        b'E' => KeyCode::KeypadBegin,
        b'F' => KeyCode::End,
        b'H' => KeyCode::Home,
        b'P'..=b'S' => KeyCode::F(c - b'P' + 1),
        _ => return None,
    })
}

/// Keys whose sequence has a number.
fn numbered(n: u16) -> Option<KeyCode> {
    Some(match n {
        1 | 7 => KeyCode::Home,
        2 => KeyCode::Insert,
        3 => KeyCode::Delete,
        4 | 8 => KeyCode::End,
        5 => KeyCode::PageUp,
        6 => KeyCode::PageDown,
        11..=15 => KeyCode::F(n as u8 - 10),
        17..=21 => KeyCode::F(n as u8 - 11),
        23..=26 => KeyCode::F(n as u8 - 12),
        28 | 29 => KeyCode::F(n as u8 - 13),
        31..=34 => KeyCode::F(n as u8 - 14),
        _ => return None,
    })
}

/// A key whose last character is its modifier.
fn rxvt(number: &[u8], last: u8) -> Option<Input> {
    let code = numbered(std::str::from_utf8(number).ok()?.parse().ok()?)?;
    Some(key(
        code,
        match last {
            b'$' => KeyModifiers::SHIFT,
            b'^' => KeyModifiers::CONTROL,
            _ => KeyModifiers::CONTROL | KeyModifiers::SHIFT,
        },
    ))
}

fn csi(b: &[u8]) -> Step {
    if b.starts_with(PASTE) {
        let text = &b[PASTE.len()..];
        let end = text.windows(PASTE_END.len()).position(|w| w == PASTE_END);
        return end
            .map_or(More, |n| Take(PASTE.len() + n + PASTE_END.len(), Some(paste(&text[..n]))));
    }
    let Some(end) = (2..b.len()).find(|&i| !(0x20..=0x3f).contains(&b[i])) else { return More };
    let (body, last) = (&b[2..end], b[end]);
    let digits = |b: &[u8]| !b.is_empty() && b.iter().all(u8::is_ascii_digit);
    // rxvt ends its shifted keys with a byte that is not a final byte; a report would end with `y`
    if let Some(dollar) = body.iter().position(|c| *c == b'$')
        && digits(&body[..dollar])
        && (last != b'y' || dollar + 1 < body.len())
    {
        return Take(2 + dollar + 1, rxvt(&body[..dollar], b'$'));
    }
    if !(0x40..=0x7e).contains(&last) {
        return Take(end, None); // interrupted by something else
    }
    let whole = end + 1;
    if last == b'[' && body.is_empty() {
        // the Linux console's F1 to F5
        return match b.get(whole) {
            None => More,
            Some(c @ b'A'..=b'E') => {
                Take(whole + 1, Some(key(KeyCode::F(c - b'A' + 1), KeyModifiers::NONE)))
            }
            Some(_) => Take(whole, None),
        };
    }
    if last == b'M' && body.is_empty() {
        // mouse reports in the oldest protocol
        let three = &b[whole..];
        return match three.iter().take(3).position(|c| *c < 0x20) {
            Some(_) => Take(whole, None),
            None if three.len() < 3 => More,
            None => {
                let [button, x, y] = [three[0], three[1], three[2]].map(|c| u16::from(c) - 32);
                Take(whole + 3, mouse(button, x, y, button & 0x43 == 3))
            }
        };
    }
    Take(whole, report(body, last))
}

/// A complete sequence.
fn report(body: &[u8], last: u8) -> Option<Input> {
    let text = std::str::from_utf8(body).ok()?;
    let numbers = |text: &str| -> Vec<u16> {
        text.split(';')
            .map(|n| n.split(':').next().and_then(|n| n.parse().ok()).unwrap_or(0))
            .collect()
    };
    if let Some(text) = text.strip_prefix('?') {
        return (last == b'c').then(|| Input::Attributes(numbers(text)));
    }
    if let Some(text) = text.strip_prefix('<') {
        return match (numbers(text).as_slice(), last) {
            (&[button, x, y], b'M' | b'm') => mouse(button, x, y, last == b'm'),
            _ => None,
        };
    }
    if !text.bytes().all(|c| c.is_ascii_digit() || matches!(c, b';' | b':')) {
        return None; // not for us
    }
    let list = numbers(text);
    let first = list.first().copied().unwrap_or(0);
    let (modifiers, kind) = modified(text.split(';').nth(1).unwrap_or_default());
    let code = match (last, list.as_slice()) {
        (b't', &[6, height, width]) => return Some(Input::CellSize(width, height)),
        (b'M', &[button, x, y]) => {
            return mouse(button.checked_sub(32)?, x, y, button & 0x43 == 3);
        }
        (b'Z', _) => return Some(key(KeyCode::BackTab, KeyModifiers::SHIFT)),
        (b'a'..=b'd', [0]) => return Some(key(named(last - 32)?, KeyModifiers::SHIFT)), // rxvt
        (b'^' | b'@', [_]) => return rxvt(body, last),
        (b'~', &[27, _, c]) => unicode(c)?, // xterm's modifyOtherKeys
        (b'~', _) => numbered(first)?,
        (b'u', _) => unicode(first)?,
        // not R, which reports the cursor position
        (b'A'..=b'F' | b'H' | b'P' | b'Q' | b'S', _) => named(last)?,
        _ => return None,
    };
    let code = match code {
        KeyCode::Char(c) if modifiers.contains(KeyModifiers::SHIFT) => {
            KeyCode::Char(c.to_ascii_uppercase())
        }
        code => code,
    };
    Some(Input::Event(Event::Key(KeyEvent::new_with_kind(code, modifiers, kind))))
}

/// A key by its code point, as kitty and xterm send it.
fn unicode(c: u16) -> Option<KeyCode> {
    Some(match c {
        8 | 127 => KeyCode::Backspace,
        9 => KeyCode::Tab,
        13 | 57414 => KeyCode::Enter,
        27 => KeyCode::Esc,
        0..=31 | 57344..=63743 => return None,
        c => KeyCode::Char(char::from_u32(u32::from(c))?),
    })
}

/// `5` or `5:3`: modifiers, and whether it is a key release.
fn modified(text: &str) -> (KeyModifiers, KeyEventKind) {
    let (bits, kind) = text.split_once(':').unwrap_or((text, "1"));
    let bits = bits.parse::<u8>().unwrap_or(1).saturating_sub(1);
    let all = [
        (1, KeyModifiers::SHIFT),
        (2 | 32, KeyModifiers::ALT),
        (4, KeyModifiers::CONTROL),
        (8, KeyModifiers::SUPER),
    ];
    let modifiers = all.iter().filter(|m| bits & m.0 != 0).map(|m| m.1).collect();
    let kind = if kind == "3" { KeyEventKind::Release } else { KeyEventKind::Press };
    (modifiers, kind)
}

fn mouse(bits: u16, x: u16, y: u16, up: bool) -> Option<Input> {
    let button = match bits & 3 {
        0 => Some(MouseButton::Left),
        1 => Some(MouseButton::Middle),
        2 => Some(MouseButton::Right),
        _ => None,
    };
    let kind = match (bits & 0xc0, bits & 32 != 0, button) {
        (0, true, None) => MouseEventKind::Moved,
        (0, true, Some(b)) => MouseEventKind::Drag(b),
        (0, false, b) if up => MouseEventKind::Up(b.unwrap_or(MouseButton::Left)),
        (0, false, Some(b)) => MouseEventKind::Down(b),
        (64, ..) => match bits & 3 {
            0 => MouseEventKind::ScrollUp,
            1 => MouseEventKind::ScrollDown,
            2 => MouseEventKind::ScrollLeft,
            _ => MouseEventKind::ScrollRight,
        },
        _ => return None,
    };
    let held = [(4, KeyModifiers::SHIFT), (8, KeyModifiers::ALT), (16, KeyModifiers::CONTROL)];
    Some(Input::Event(Event::Mouse(MouseEvent {
        kind,
        column: x.saturating_sub(1),
        row: y.saturating_sub(1),
        modifiers: held.iter().filter(|m| bits & m.0 != 0).map(|m| m.1).collect(),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use KeyModifiers as M;

    fn read(chunks: &[&[u8]]) -> (Vec<Input>, Parser) {
        let (mut out, mut parser) = (vec![], Parser::default());
        chunks.iter().for_each(|c| parser.feed(c, &mut out));
        (out, parser)
    }

    /// What bytes mean once no more arrive.
    fn settled(bytes: &[u8]) -> Vec<Input> {
        let (mut out, mut parser) = read(&[bytes]);
        if parser.patience().is_some() {
            parser.settle(&mut out);
        }
        assert!(parser.patience().is_none());
        out
    }

    #[test]
    fn keys_of_known_terminals_are_decoded() {
        for (bytes, code, modifiers) in [
            (&b"j"[..], KeyCode::Char('j'), M::NONE),
            (b"G", KeyCode::Char('G'), M::SHIFT),
            ("ü".as_bytes(), KeyCode::Char('ü'), M::NONE),
            (b"\x03", KeyCode::Char('c'), M::CONTROL),
            (b"\r", KeyCode::Enter, M::NONE),
            (b"\x7f", KeyCode::Backspace, M::NONE),
            (b"\x1b", KeyCode::Esc, M::NONE),
            (b"\x1b\x1b", KeyCode::Esc, M::NONE),
            (b"\x1bx", KeyCode::Char('x'), M::ALT),
            (b"\x1b[", KeyCode::Char('['), M::ALT),
            (b"\x1bO", KeyCode::Char('O'), M::ALT.union(M::SHIFT)),
            (b"\x1b]", KeyCode::Char(']'), M::ALT),
            (b"\x1b[A", KeyCode::Up, M::NONE),
            (b"\x1bOB", KeyCode::Down, M::NONE),
            (b"\x1b\x1b[A", KeyCode::Up, M::ALT),
            (b"\x1b[1;5C", KeyCode::Right, M::CONTROL),
            (b"\x1b[Z", KeyCode::BackTab, M::SHIFT),
            (b"\x1b[E", KeyCode::KeypadBegin, M::NONE),
            (b"\x1bOE", KeyCode::KeypadBegin, M::NONE),
            (b"\x1bOM", KeyCode::Enter, M::NONE),
            (b"\x1bOk", KeyCode::Char('+'), M::NONE),
            (b"\x1bOq", KeyCode::Char('1'), M::NONE),
            (b"\x1b[a", KeyCode::Up, M::SHIFT),
            (b"\x1bOa", KeyCode::Up, M::CONTROL),
            (b"\x1b[3^", KeyCode::Delete, M::CONTROL),
            (b"\x1b[7$", KeyCode::Home, M::SHIFT),
            (b"\x1b[7@", KeyCode::Home, M::CONTROL.union(M::SHIFT)),
            (b"\x1b[[A", KeyCode::F(1), M::NONE),
            (b"\x1bOP", KeyCode::F(1), M::NONE),
            (b"\x1b[11~", KeyCode::F(1), M::NONE),
            (b"\x1b[24~", KeyCode::F(12), M::NONE),
            (b"\x1b[97;5u", KeyCode::Char('a'), M::CONTROL),
            (b"\x1b[97:65;2u", KeyCode::Char('A'), M::SHIFT),
            (b"\x1b[27;5;99~", KeyCode::Char('c'), M::CONTROL),
        ] {
            assert_eq!(settled(bytes), [key(code, modifiers)], "{:?}", bytes.escape_ascii());
        }
    }

    #[test]
    fn unsolicited_reports_are_not_keys() {
        for report in [
            "\x1b[>1;4600;0c",
            "\x1b[?2026;2$y",
            "\x1b[4;2$y",
            "\x1b[8;24;80t",
            "\x1b[12;40R",
            "\x1b[?12;40R",
            "\x1b[I",
            "\x1b[O",
            "\x1b[0n",
            "\x1b[?997;1n",
            "\x1b[?1u",
            "\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
            "\x1b]11;rgb:0000/0000/0000\x07",
            "\x1bP>|tmux 3.4\x1b\\",
            "\x1bP>|iTerm2 3.5.0\x1b\\",
            "\x1bP!|7E7E5459\x1b\\",
            "\x1b_Gi=31;OK\x1b\\",
            "\x1b[?1;2S",
            "\x1b[1 q",
        ] {
            let (out, parser) = read(&[report.as_bytes(), b"q"]);
            assert_eq!(out, [character('q', M::NONE)], "{report:?}");
            assert!(parser.patience().is_none());
        }
        assert_eq!(
            settled(b"\x1b[6;20;10t\x1b[?62;4;22c"),
            [Input::CellSize(10, 20), Input::Attributes(vec![62, 4, 22])]
        );
        // kitty reports key releases
        let up = KeyEvent::new_with_kind(KeyCode::Char('a'), M::NONE, KeyEventKind::Release);
        assert_eq!(settled(b"\x1b[97;1:3u"), [Input::Event(Event::Key(up))]);
    }

    #[test]
    fn the_mouse_speaks_three_protocols() {
        let at = |kind, column, row| {
            [Input::Event(Event::Mouse(MouseEvent { kind, column, row, modifiers: M::NONE }))]
        };
        let left = MouseButton::Left;
        for down in [&b"\x1b[<0;40;12M"[..], b"\x1b[32;40;12M", b"\x1b[M \x48\x2c"] {
            assert_eq!(settled(down), at(MouseEventKind::Down(left), 39, 11));
        }
        assert_eq!(settled(b"\x1b[<0;40;12m"), at(MouseEventKind::Up(left), 39, 11));
        assert_eq!(settled(b"\x1b[M#\x48\x2c"), at(MouseEventKind::Up(left), 39, 11));
        assert_eq!(settled(b"\x1b[<64;9;9M"), at(MouseEventKind::ScrollUp, 8, 8));
        assert_eq!(settled(b"\x1b[<35;9;9M"), at(MouseEventKind::Moved, 8, 8));
        assert_eq!(settled(b"\x1b[<32;65535;0M"), at(MouseEventKind::Drag(left), 65534, 0));
    }

    #[test]
    fn a_paste_is_text_and_bounded() {
        assert_eq!(settled(b"\x1b[200~q\x1b[A\r\x1b[201~"), [paste(b"q\x1b[A\r")]);
        assert_eq!(settled(b"\x1b[200~half of it"), [paste(b"half of it")]);
        let (mut out, mut parser) = read(&[PASTE]);
        for _ in 0..1000 {
            parser.feed(&[b'x'; 1000], &mut out);
            assert!(parser.bytes.len() <= MOST);
        }
        parser.feed(b"\x1b[201~q", &mut out);
        assert!(
            matches!(out.as_slice(), [Input::Event(Event::Paste(_)), q] if *q == character('q', M::NONE))
        );
    }

    /// Whatever came before, and however it was truncated: once it has settled, a key is a key.
    #[test]
    fn no_sequence_swallows_the_next_key() {
        let mut all: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
        for introducer in ["\x1b[", "\x1bO", "\x1b[1;5", "\x1b[?1;2", "\x1b[1$", "\x1b[>", "\x1b"] {
            all.extend((0..=255).map(|b| [introducer.as_bytes(), &[b]].concat()));
        }
        all.extend([b"\x1b]0;title".to_vec(), b"\x1bPdata".to_vec(), b"\x1b[200~x".to_vec()]);
        all.push([b"\x1b]".as_slice(), &[b'x'; 2 * MOST]].concat());
        for bytes in all {
            for cut in 0..=bytes.len().min(4) {
                let (mut out, mut parser) = read(&[&bytes[..cut], &bytes[cut..]]);
                if parser.patience().is_some() {
                    parser.settle(&mut out);
                }
                let before = out.len();
                parser.feed(b"q", &mut out);
                assert_eq!(out[before..], [character('q', M::NONE)], "{:?}", bytes.escape_ascii());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn bytes_mean_the_same_however_they_are_split(
            bytes in proptest::collection::vec(0u8.., 0..200), cut in 0usize..200
        ) {
            let cut = cut.min(bytes.len());
            let (whole, _) = read(&[&bytes]);
            let (parts, _) = read(&[&bytes[..cut], &bytes[cut..]]);
            proptest::prop_assert_eq!(whole, parts);
        }
    }
}
