// SPDX-License-Identifier: MIT OR Apache-2.0
//! The key table. What a key does and what the help says about it are one line here.
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

/// What a key (or a click on its hint) asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Leave.
    Quit,
    /// Stop the process until the shell's `fg`.
    Suspend,
    /// Show or hide the keys.
    Help,
    /// The next view.
    NextView,
    /// The view before.
    PreviousView,
    /// The chord.
    Chord,
    /// The matrix.
    Matrix,
    /// The table.
    Table,
    /// The books and the health of the measurement.
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
    /// Into what is selected.
    Enter,
    /// Unselect, else one level up.
    Back,
    /// Mark what is selected.
    Mark,
    /// Forget all marks.
    ClearMarks,
    /// The next tunnel id.
    NextTunnel,
    /// The tunnel id before.
    PreviousTunnel,
    /// Write a filter.
    Filter,
    /// Rates or totals.
    Rate,
    /// Bits, bytes, packets.
    Unit,
    /// Names or addresses.
    Names,
    /// Sort by the next column.
    Sort,
    /// Sort the other way round.
    Reverse,
    /// More ends before the rest is called "other".
    More,
    /// Fewer ends.
    Fewer,
    /// Hold the picture, or let it go on.
    Pause,
    /// One interval back.
    Older,
    /// One interval forward, at last to now.
    Newer,
    /// Ten intervals back.
    MuchOlder,
    /// Ten intervals forward.
    MuchNewer,
    /// To the interval with the most traffic.
    Peak,
    /// Save the picture as SVG.
    SavePicture,
    /// Save the rows as a page.
    SavePage,
    /// The next colours.
    Theme,
    /// Draw everything again.
    Redraw,
}

/// What the help puts together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
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

impl Group {
    /// All groups, in the help's order.
    pub const ALL: [Group; 5] =
        [Group::Explore, Group::Show, Group::Time, Group::Views, Group::Program];

    /// Its headline.
    pub fn title(self) -> &'static str {
        match self {
            Group::Views => "Views",
            Group::Explore => "Explore",
            Group::Show => "Show",
            Group::Time => "Time",
            Group::Program => "Program",
        }
    }
}

/// A key: a code, and whether Control is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key(pub KeyCode, pub bool);

/// One line of the key table.
#[derive(Clone, Copy, Debug)]
pub struct Binding {
    /// The keys that do it.
    pub keys: &'static [Key],
    /// How they are written in the help.
    pub label: &'static str,
    /// What they do.
    pub action: Action,
    /// Where the help lists it.
    pub group: Group,
    /// What the help says.
    pub help: &'static str,
    /// The word beside the key in the bottom line; empty if it is not there.
    pub hint: &'static str,
}

const fn c(ch: char) -> Key {
    Key(KeyCode::Char(ch), false)
}
const fn ctrl(ch: char) -> Key {
    Key(KeyCode::Char(ch), true)
}
const fn k(code: KeyCode) -> Key {
    Key(code, false)
}
const fn bind(
    keys: &'static [Key],
    label: &'static str,
    action: Action,
    group: Group,
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
        Group::Explore,
        "previous host, line or row",
    ),
    bind(
        &[k(KeyCode::Down), c('j')],
        "↓ j",
        Action::Down,
        Group::Explore,
        "next host, line or row",
    ),
    bind(
        &[k(KeyCode::Left), c('h')],
        "← h",
        Action::Left,
        Group::Explore,
        "previous ribbon or column",
    ),
    bind(
        &[k(KeyCode::Right), c('l')],
        "→ l",
        Action::Right,
        Group::Explore,
        "next ribbon or column",
    ),
    bind(&[k(KeyCode::PageUp), ctrl('b')], "PgUp", Action::PageUp, Group::Explore, "a page up"),
    bind(
        &[k(KeyCode::PageDown), ctrl('f')],
        "PgDn",
        Action::PageDown,
        Group::Explore,
        "a page down",
    ),
    bind(&[c('g'), k(KeyCode::Home)], "g", Action::First, Group::Explore, "first"),
    bind(&[c('G'), k(KeyCode::End)], "G", Action::Last, Group::Explore, "last"),
    hinted(
        bind(
            &[k(KeyCode::Enter)],
            "Enter",
            Action::Enter,
            Group::Explore,
            "into what is selected or marked",
        ),
        "enter",
    ),
    hinted(
        bind(
            &[k(KeyCode::Esc), k(KeyCode::Backspace)],
            "Esc",
            Action::Back,
            Group::Explore,
            "unselect, then one level back",
        ),
        "back",
    ),
    hinted(
        bind(&[c('m')], "m", Action::Mark, Group::Explore, "mark or unmark the selected host"),
        "mark",
    ),
    bind(&[c('c')], "c", Action::ClearMarks, Group::Explore, "clear the marks"),
    hinted(bind(&[c('i')], "i", Action::NextTunnel, Group::Show, "next tunnel id"), "id"),
    bind(&[c('I')], "I", Action::PreviousTunnel, Group::Show, "previous tunnel id"),
    hinted(bind(&[c('/')], "/", Action::Filter, Group::Show, "filter, as in --filter"), "filter"),
    hinted(bind(&[c('t')], "t", Action::Rate, Group::Show, "rates or totals"), "total"),
    hinted(bind(&[c('b')], "b", Action::Unit, Group::Show, "bits, bytes or packets"), "unit"),
    bind(&[c('n')], "n", Action::Names, Group::Show, "names or addresses"),
    hinted(
        bind(&[c('s')], "s", Action::Sort, Group::Show, "sort by the next column, or by name"),
        "sort",
    ),
    bind(&[c('S')], "S", Action::Reverse, Group::Show, "reverse the order"),
    bind(&[c('+'), c('=')], "+", Action::More, Group::Show, "more hosts before \"other\""),
    bind(&[c('-')], "-", Action::Fewer, Group::Show, "fewer hosts"),
    hinted(
        bind(&[c(' ')], "Space", Action::Pause, Group::Time, "hold the picture; back to now"),
        "hold",
    ),
    hinted(bind(&[c('[')], "[", Action::Older, Group::Time, "one interval back"), "back in time"),
    bind(&[c(']')], "]", Action::Newer, Group::Time, "one interval forward, at last to now"),
    bind(&[c('{')], "{", Action::MuchOlder, Group::Time, "ten intervals back"),
    bind(&[c('}')], "}", Action::MuchNewer, Group::Time, "ten intervals forward"),
    bind(&[c('p')], "p", Action::Peak, Group::Time, "to the peak"),
    hinted(bind(&[k(KeyCode::Tab)], "Tab", Action::NextView, Group::Views, "next view"), "view"),
    bind(&[k(KeyCode::BackTab)], "Shift-Tab", Action::PreviousView, Group::Views, "previous view"),
    bind(&[c('1')], "1", Action::Chord, Group::Views, "chord"),
    bind(&[c('2')], "2", Action::Matrix, Group::Views, "matrix"),
    bind(&[c('3')], "3", Action::Table, Group::Views, "table"),
    bind(&[c('4'), c('H')], "4 H", Action::Health, Group::Views, "health: books, coverage, errors"),
    bind(
        &[c('5'), c('F')],
        "5 F",
        Action::Findings,
        Group::Views,
        "findings: what is wrong, and why",
    ),
    bind(&[c('e')], "e", Action::SavePicture, Group::Program, "save the chord as SVG"),
    bind(&[c('E')], "E", Action::SavePage, Group::Program, "save a page of chord and rows (HTML)"),
    hinted(
        bind(&[c('?'), k(KeyCode::F(1))], "?", Action::Help, Group::Program, "these keys"),
        "keys",
    ),
    bind(
        &[c('T')],
        "T",
        Action::Theme,
        Group::Program,
        "other colours: dark, light, colour-blind, mono",
    ),
    bind(&[ctrl('l')], "Ctrl-L", Action::Redraw, Group::Program, "draw everything again"),
    bind(&[ctrl('z')], "Ctrl-Z", Action::Suspend, Group::Program, "suspend"),
    hinted(bind(&[c('q'), ctrl('c')], "q", Action::Quit, Group::Program, "quit"), "quit"),
];

/// What a key event asks for.
pub fn action(event: &KeyEvent) -> Option<Action> {
    let control = event.modifiers.contains(KeyModifiers::CONTROL);
    if event.modifiers.intersects(KeyModifiers::ALT | KeyModifiers::SUPER) {
        return None;
    }
    let key = Key(event.code, control);
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
        for g in Group::ALL {
            assert!(BINDINGS.iter().any(|b| b.group == g));
        }
    }

    #[test]
    fn a_label_names_a_key_of_its_line() {
        let name = |k: &Key| match (k.0, k.1) {
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
