// SPDX-License-Identifier: MIT OR Apache-2.0
//! The line editor for the filter.
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use model::filter::{Filter, FilterError};

/// A filter being edited.
#[derive(Clone, Debug)]
pub struct Editing {
    /// The text.
    pub text: String,
    /// The cursor position, as a byte offset at a character boundary.
    pub cursor: usize,
    /// Why the text is not a valid filter (the last valid one stays in force).
    pub error: Option<FilterError>,
    /// The filter that was in force before, and its text.
    pub before: (String, Filter),
}

/// What a key did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edit {
    /// Nothing, or moved the cursor.
    Nothing,
    /// Changed the text.
    Changed,
    /// Accepted the text.
    Kept,
    /// Discarded it.
    Dropped,
}

impl Editing {
    /// Starts with the filter in force.
    pub fn new(text: String, filter: Filter) -> Editing {
        let before = (text.clone(), filter);
        Editing { cursor: text.len(), text, error: None, before }
    }

    fn before(&self) -> usize {
        self.text[..self.cursor].chars().next_back().map_or(0, char::len_utf8)
    }

    fn after(&self) -> usize {
        self.text[self.cursor..].chars().next().map_or(0, char::len_utf8)
    }

    /// Handles a key.
    pub fn key(&mut self, key: &KeyEvent) -> Edit {
        let control = key.modifiers.contains(KeyModifiers::CONTROL);
        match key.code {
            KeyCode::Esc => return Edit::Dropped,
            KeyCode::Char('c') if control => return Edit::Dropped,
            KeyCode::Enter if self.error.is_none() => return Edit::Kept,
            KeyCode::Left => self.cursor -= self.before(),
            KeyCode::Right => self.cursor += self.after(),
            KeyCode::Home => self.cursor = 0,
            KeyCode::End => self.cursor = self.text.len(),
            KeyCode::Char('a') if control => self.cursor = 0,
            KeyCode::Char('e') if control => self.cursor = self.text.len(),
            KeyCode::Char('u') if control => return self.cut(0),
            KeyCode::Char('w') if control => {
                let head = self.text[..self.cursor].trim_end();
                return self.cut(head.rfind(char::is_whitespace).map_or(0, |i| i + 1));
            }
            KeyCode::Backspace => return self.cut(self.cursor - self.before()),
            KeyCode::Delete => {
                self.text.drain(self.cursor..self.cursor + self.after());
                return Edit::Changed;
            }
            KeyCode::Char(c) if !control => return self.insert(c.encode_utf8(&mut [0; 4])),
            _ => {}
        }
        Edit::Nothing
    }

    /// Removes the text between a position and the cursor.
    fn cut(&mut self, from: usize) -> Edit {
        self.text.drain(from..self.cursor);
        self.cursor = from;
        Edit::Changed
    }

    /// Inserts text at the cursor and moves the cursor behind it. Text beyond the maximum length of
    /// a filter is left out: every change is parsed as a whole.
    pub fn insert(&mut self, text: &str) -> Edit {
        const MOST: usize = 1000;
        let room = MOST.saturating_sub(self.text.len());
        let fits = text.char_indices().map(|(at, c)| at + c.len_utf8()).take_while(|n| *n <= room);
        let text = &text[..fits.last().unwrap_or(0)];
        if text.is_empty() {
            return Edit::Nothing;
        }
        self.text.insert_str(self.cursor, text);
        self.cursor += text.len();
        Edit::Changed
    }
}

#[cfg(test)]
mod tests {
    use model::filter::Filter;

    use super::{Edit, Editing};

    #[test]
    fn a_filter_has_a_maximum_length() {
        let mut line = Editing::new(String::new(), Filter::default());
        assert_eq!(line.insert(&"ä".repeat(10_000)), Edit::Changed);
        assert_eq!((line.text.len(), line.cursor), (1000, 1000));
        assert_eq!(line.insert("x"), Edit::Nothing, "nothing to read again");
    }
}
