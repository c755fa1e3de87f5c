// SPDX-License-Identifier: MIT OR Apache-2.0
//! The key table. One line holds both what a key does and what the help says about it.
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key (or a click on its hint) requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Leave.
    Quit,
    /// Suspend the process until the shell's `fg`.
    Suspend,
    /// Show or hide the keys.
    Help,
    /// The next view.
    NextView,
    /// The previous view.
    PreviousView,
    /// The chord.
    Chord,
    /// The matrix.
    Matrix,
    /// The table.
    Table,
    /// The books and the state of the measurement.
    Health,
    /// What is wrong, and why.
    Findings,
    /// Move the cursor.
    Up,
    /// Move the cursor.
    Down,
    /// Move the cursor.
    Left,
    /// Move the cursor.
    Right,
    /// A page up.
    PageUp,
    /// A page down.
    PageDown,
    /// The first.
    First,
    /// The last.
    Last,
    /// Go into the selection.
    Enter,
    /// Clear the selection, or else go one level up.
    Back,
    /// Mark the selection.
    Mark,
    /// Clear all marks.
    ClearMarks,
    /// Start or stop examining the packets of the selection.
    Lens,
    /// Start or stop writing packets of the selection to a file.
    Capture,
    /// The next tunnel id.
    NextTunnel,
    /// The previous tunnel id.
    PreviousTunnel,
    /// Edit the filter.
    Filter,
    /// Rates or totals.
    Rate,
    /// Bits, bytes, packets.
    Unit,
    /// Finer groups of hosts, then single hosts, then the coarsest groups again.
    Groups,
    /// Names or addresses.
    Names,
    /// Sort by the next column.
    Sort,
    /// Reverse the sort order.
    Reverse,
    /// Show more ends before the rest is summed as "other".
    More,
    /// Show fewer ends.
    Fewer,
    /// Freeze the picture, or let it continue.
    Pause,
    /// One interval back.
    Older,
    /// One interval forward, up to now.
    Newer,
    /// Ten intervals back.
    MuchOlder,
    /// Ten intervals forward.
    MuchNewer,
    /// To the interval with the most traffic.
    Peak,
    /// To the previous peak or finding.
    PlaceBefore,
    /// To the next peak or finding.
    PlaceAfter,
    /// To the interval of the most recent configuration change.
    Event,
    /// Play a capture faster.
    Faster,
    /// Play a capture more slowly.
    Slower,
    /// Save the picture as SVG.
    SavePicture,
    /// Save the rows as a page.
    SavePage,
    /// The next colour scheme.
    Theme,
    /// Redraw everything.
    Redraw,
}

/// Groups of keys in the help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyGroup {
    /// Choose a view.
    Views,
    /// Move and go deeper.
    Explore,
    /// Choose what is shown.
    Show,
    /// Move in time.
    Time,
    /// Everything else.
    Program,
}

impl KeyGroup {
    /// All groups, in the help's order.
    pub const ALL: [KeyGroup; 5] =
        [KeyGroup::Explore, KeyGroup::Show, KeyGroup::Time, KeyGroup::Views, KeyGroup::Program];

    /// Its heading.
    pub fn title(self) -> &'static str {
        match self {
            KeyGroup::Views => "Views",
            KeyGroup::Explore => "Explore",
            KeyGroup::Show => "Show",
            KeyGroup::Time => "Time",
            KeyGroup::Program => "Program",
        }
    }
}

/// A key: a code, and whether Control is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyPress(pub KeyCode, pub bool);

/// One line of the key table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The keys that do it.
    pub keys: &'static [KeyPress],
    /// How the help writes them.
    pub label: &'static str,
    /// What they do.
    pub action: Action,
    /// The group that lists it in the help.
    pub group: KeyGroup,
    /// What the help says.
    pub help: &'static str,
    /// The word beside the key in the bottom line; empty if the key is not there.
    pub hint: &'static str,
}

const fn c(ch: char) -> KeyPress {
    KeyPress(KeyCode::Char(ch), false)
}
const fn ctrl(ch: char) -> KeyPress {
    KeyPress(KeyCode::Char(ch), true)
}
const fn k(code: KeyCode) -> KeyPress {
    KeyPress(code, false)
}
const fn bind(
    keys: &'static [KeyPress],
    label: &'static str,
    action: Action,
    group: KeyGroup,
    help: &'static str,
) -> Binding {
    Binding { keys, label, action, group, help, hint: "" }
}
const fn hinted(mut b: Binding, hint: &'static str) -> Binding {
    b.hint = hint;
    b
}

/// Every key of the dashboard.
pub const BINDINGS: &[Binding] = &[
    bind(
        &[k(KeyCode::Up), c('k')],
        "↑ k",
        Action::Up,
        KeyGroup::Explore,
        "previous host, line or row",
    ),
    bind(
        &[k(KeyCode::Down), c('j')],
        "↓ j",
        Action::Down,
        KeyGroup::Explore,
        "next host, line or row",
    ),
    bind(
        &[k(KeyCode::Left), c('h')],
        "← h",
        Action::Left,
        KeyGroup::Explore,
        "previous ribbon or column",
    ),
    bind(
        &[k(KeyCode::Right), c('l')],
        "→ l",
        Action::Right,
        KeyGroup::Explore,
        "next ribbon or column",
    ),
    bind(&[k(KeyCode::PageUp), ctrl('b')], "PgUp", Action::PageUp, KeyGroup::Explore, "a page up"),
    bind(
        &[k(KeyCode::PageDown), ctrl('f')],
        "PgDn",
        Action::PageDown,
        KeyGroup::Explore,
        "a page down",
    ),
    bind(&[c('g'), k(KeyCode::Home)], "g", Action::First, KeyGroup::Explore, "first"),
    bind(&[c('G'), k(KeyCode::End)], "G", Action::Last, KeyGroup::Explore, "last"),
    hinted(
        bind(
            &[k(KeyCode::Enter)],
            "Enter",
            Action::Enter,
            KeyGroup::Explore,
            "enter the selected or marked hosts",
        ),
        "enter",
    ),
    hinted(
        bind(
            &[k(KeyCode::Esc), k(KeyCode::Backspace)],
            "Esc",
            Action::Back,
            KeyGroup::Explore,
            "unselect, then one level back",
        ),
        "back",
    ),
    hinted(
        bind(&[c('m')], "m", Action::Mark, KeyGroup::Explore, "mark or unmark the selected host"),
        "mark",
    ),
    bind(&[c('c')], "c", Action::ClearMarks, KeyGroup::Explore, "clear the marks"),
    hinted(
        bind(&[c('L')], "L", Action::Lens, KeyGroup::Explore, "what the selected packets contain"),
        "lens",
    ),
    bind(
        &[c('w')],
        "w",
        Action::Capture,
        KeyGroup::Explore,
        "capture these packets to a file; again to stop",
    ),
    hinted(bind(&[c('i')], "i", Action::NextTunnel, KeyGroup::Show, "next tunnel id"), "id"),
    bind(&[c('I')], "I", Action::PreviousTunnel, KeyGroup::Show, "previous tunnel id"),
    hinted(
        bind(&[c('/')], "/", Action::Filter, KeyGroup::Show, "filter, as in --filter"),
        "filter",
    ),
    hinted(bind(&[c('t')], "t", Action::Rate, KeyGroup::Show, "rates or totals"), "total"),
    hinted(bind(&[c('b')], "b", Action::Unit, KeyGroup::Show, "bits, bytes or packets"), "unit"),
    bind(&[c('z')], "z", Action::Groups, KeyGroup::Show, "finer groups, hosts, groups again"),
    bind(&[c('n')], "n", Action::Names, KeyGroup::Show, "names or addresses"),
    hinted(
        bind(&[c('s')], "s", Action::Sort, KeyGroup::Show, "sort by the next column, or by name"),
        "sort",
    ),
    bind(&[c('S')], "S", Action::Reverse, KeyGroup::Show, "reverse the order"),
    bind(&[c('+'), c('=')], "+", Action::More, KeyGroup::Show, "more hosts before \"other\""),
    bind(&[c('-')], "-", Action::Fewer, KeyGroup::Show, "fewer hosts"),
    hinted(
        bind(&[c(' ')], "Space", Action::Pause, KeyGroup::Time, "freeze the picture; back to now"),
        "hold",
    ),
    hinted(
        bind(&[c('[')], "[", Action::Older, KeyGroup::Time, "one interval back"),
        "back in time",
    ),
    bind(&[c(']')], "]", Action::Newer, KeyGroup::Time, "one interval forward, finally to now"),
    bind(&[c('{')], "{", Action::MuchOlder, KeyGroup::Time, "ten intervals back"),
    bind(&[c('}')], "}", Action::MuchNewer, KeyGroup::Time, "ten intervals forward"),
    bind(&[c('p')], "p", Action::Peak, KeyGroup::Time, "to the peak"),
    bind(&[c('(')], "(", Action::PlaceBefore, KeyGroup::Time, "to the peak or finding before this"),
    bind(&[c(')')], ")", Action::PlaceAfter, KeyGroup::Time, "to the peak or finding after this"),
    bind(&[c('x')], "x", Action::Event, KeyGroup::Time, "to the previous change on the host"),
    bind(&[c('>')], ">", Action::Faster, KeyGroup::Time, "play a capture 10, 100 times as fast"),
    bind(&[c('<')], "<", Action::Slower, KeyGroup::Time, "play it more slowly"),
    hinted(bind(&[k(KeyCode::Tab)], "Tab", Action::NextView, KeyGroup::Views, "next view"), "view"),
    bind(
        &[k(KeyCode::BackTab)],
        "Shift-Tab",
        Action::PreviousView,
        KeyGroup::Views,
        "previous view",
    ),
    bind(&[c('1')], "1", Action::Chord, KeyGroup::Views, "chord"),
    bind(&[c('2')], "2", Action::Matrix, KeyGroup::Views, "matrix"),
    bind(&[c('3')], "3", Action::Table, KeyGroup::Views, "table"),
    bind(
        &[c('4'), c('H')],
        "4 H",
        Action::Health,
        KeyGroup::Views,
        "health: books, coverage, errors",
    ),
    bind(
        &[c('5'), c('F')],
        "5 F",
        Action::Findings,
        KeyGroup::Views,
        "findings: what is wrong, and why",
    ),
    bind(&[c('e')], "e", Action::SavePicture, KeyGroup::Program, "save the chord as SVG"),
    bind(
        &[c('E')],
        "E",
        Action::SavePage,
        KeyGroup::Program,
        "save a page of chord and rows (HTML)",
    ),
    hinted(
        bind(&[c('?'), k(KeyCode::F(1))], "?", Action::Help, KeyGroup::Program, "these keys"),
        "keys",
    ),
    bind(
        &[c('T')],
        "T",
        Action::Theme,
        KeyGroup::Program,
        "next theme: dark, light, colour-blind, mono",
    ),
    bind(&[ctrl('l')], "Ctrl-L", Action::Redraw, KeyGroup::Program, "redraw the screen"),
    bind(&[ctrl('z')], "Ctrl-Z", Action::Suspend, KeyGroup::Program, "suspend"),
    hinted(bind(&[c('q'), ctrl('c')], "q", Action::Quit, KeyGroup::Program, "quit"), "quit"),
];

/// The action for a key event.
pub fn action(event: &KeyEvent) -> Option<Action> {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER) {
        return None;
    }
    let key = KeyPress(event.code, control);
    BINDINGS.iter().find(|b| b.keys.contains(&key)).map(|b| b.action)
}

/// The line of the table for an action.
pub fn binding(action: Action) -> Option<&'static Binding> {
    BINDINGS.iter().find(|b| b.action == action)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_key_does_one_thing_and_the_help_lists_it_once() {
        let mut keys = HashSet::new();
        let mut actions = HashSet::new();
        for b in BINDINGS {
            assert!(actions.insert(b.action), "{:?} is listed twice", b.action);
            assert!(!b.keys.is_empty() && !b.help.is_empty() && !b.label.is_empty());
            for k in b.keys {
                assert!(keys.insert(format!("{k:?}")), "{k:?} is bound twice");
                let mods = if k.1 { KeyModifiers::CONTROL } else { KeyModifiers::NONE };
                assert_eq!(action(&KeyEvent::new(k.0, mods)), Some(b.action));
            }
        }
        for g in KeyGroup::ALL {
            assert!(BINDINGS.iter().any(|b| b.group == g));
        }
    }

    #[test]
    fn labels_name_a_key_of_their_line() {
        let name = |k: &KeyPress| match (k.0, k.1) {
            (KeyCode::Char(' '), false) => "Space".to_owned(),
            (KeyCode::Char(ch), false) => ch.to_string(),
            (KeyCode::Char(ch), true) => format!("Ctrl-{}", ch.to_ascii_uppercase()),
            (KeyCode::Up, _) => "↑".to_owned(),
            (KeyCode::Down, _) => "↓".to_owned(),
            (KeyCode::Left, _) => "←".to_owned(),
            (KeyCode::Right, _) => "→".to_owned(),
            (KeyCode::PageUp, _) => "PgUp".to_owned(),
            (KeyCode::PageDown, _) => "PgDn".to_owned(),
            (KeyCode::BackTab, _) => "Shift-Tab".to_owned(),
            (code, _) => format!("{code:?}"),
        };
        for b in BINDINGS {
            let names: Vec<String> = b.keys.iter().map(name).collect();
            for word in b.label.split(' ') {
                assert!(
                    names.iter().any(|n| n == word),
                    "{word} is not a key of {:?}: {names:?}",
                    b.action
                );
            }
        }
    }

    #[test]
    fn shifted_letters_arrive_with_or_without_their_modifier() {
        assert_eq!(
            action(&KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT)),
            Some(Action::Last)
        );
        assert_eq!(
            action(&KeyEvent::new(KeyCode::Char('g'), KeyModifiers::NONE)),
            Some(Action::First)
        );
        assert_eq!(action(&KeyEvent::new(KeyCode::Char('q'), KeyModifiers::ALT)), None);
    }
}
