// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text cut to a width in cells.
use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text in at most `width` cells; an ellipsis replaces what was cut off.
pub fn fit(text: &str, width: usize) -> Cow<'_, str> {
    if text.width() <= width {
        return Cow::Borrowed(text);
    }
    if width == 0 {
        return Cow::Borrowed("");
    }
    let mut used = 0;
    let kept = text.chars().take_while(|c| {
        used += c.width().unwrap_or(0);
        used < width
    });
    Cow::Owned(kept.chain(['…']).collect())
}

/// A text in at most this many columns, with the middle left out: both ends of an address are the
/// most telling parts.
pub fn shorten(text: &str, columns: usize) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.width() <= columns {
        return text;
    }
    if columns == 0 {
        return String::new();
    }
    let room = columns - 1;
    let take = |chars: &mut dyn Iterator<Item = char>, room: usize| {
        let mut used = 0;
        let mut out = vec![];
        for c in chars {
            used += c.width().unwrap_or(0);
            if used > room {
                break;
            }
            out.push(c);
        }
        out
    };
    let head = take(&mut text.chars(), room.div_ceil(2));
    let mut tail = take(&mut text.chars().rev(), room / 2);
    tail.reverse();
    head.into_iter().chain(['…']).chain(tail).collect()
}

/// The labels of a list in at most `columns` cells each, such that they can be told apart: in those
/// that are wider, first the common prefix is left out, and then the middle.
pub fn apart(labels: &[String], columns: usize) -> Vec<String> {
    let wide: Vec<String> = labels.iter().filter(|l| l.width() > columns).cloned().collect();
    let cut = shared_prefix(&wide);
    labels
        .iter()
        .map(|l| shorten(if l.width() > columns { &l[cut..] } else { l }, columns))
        .collect()
}

/// The common prefix of these, up to a separator: how many bytes of each can be left out in a
/// narrow place. The separator of an address stays, so that the rest does not look complete. 0 if
/// there is nothing worth leaving out.
pub fn shared_prefix(labels: &[String]) -> usize {
    let Some((first, rest)) = labels.split_first() else { return 0 };
    if rest.is_empty() {
        return 0;
    }
    let common = rest.iter().fold(first.len(), |n, l| {
        first.bytes().zip(l.bytes()).take(n).take_while(|(a, b)| a == b).count()
    });
    let Some(shared) = first.get(..common) else { return 0 };
    // in the common prefix
    let at = shared.rfind(['.', ':', '-', '/']).unwrap_or(0);
    at + usize::from(shared[at..].starts_with(['-', '/']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_to_a_width() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("abcdef", 1), "…");
        assert_eq!(fit("abcdef", 0), "");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
    }

    #[test]
    fn long_texts_keep_both_ends() {
        assert_eq!(shorten("2001:db8::1234", 9), "2001…1234");
        assert_eq!(shorten("short", 9), "short");
        assert_eq!(shorten("日本語の名前", 7), "日…名前".replace("名前", "前"));
        assert_eq!((shorten("abc", 0), shorten("abc", 1)), (String::new(), "…".to_owned()));
        assert_eq!(shorten("a\u{1b}b", 9), "a\u{fffd}b");
    }

    #[test]
    fn labels_in_a_list_stay_distinguishable() {
        let of = |l: &[&str], n| apart(&l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>(), n);
        assert_eq!(
            of(&["tmon-host0/client0", "tmon-host3/client1", "15 others"], 13),
            ["host0/client0", "host3/client1", "15 others"]
        );
        assert_eq!(
            of(&["tmon-host0/client0", "tmon-host3/client1"], 18),
            ["tmon-host0/client0", "tmon-host3/client1"]
        );
        assert_eq!(of(&["172.16.1.100", "172.16.1.101"], 6), [".100", ".101"]);
        assert_eq!(of(&["2001:db8::1234", "10.0.0.1"], 9), ["2001…1234", "10.0.0.1"]);
        assert_eq!(of(&["-é-long", "-è-long"], 4), ["-é…g", "-è…g"]);
        assert_eq!(of(&[], 9), [""; 0]);
    }

    #[test]
    fn a_shared_prefix_ends_at_a_separator() {
        let of = |l: &[&str]| shared_prefix(&l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>());
        assert_eq!(of(&["172.16.1.100", "172.16.1.101"]), "172.16.1".len());
        assert_eq!(of(&["172.16.1.100", "172.16.2.101"]), "172.16".len());
        assert_eq!(of(&["10.0.0.1", "fd00::1"]), 0);
        assert_eq!(of(&["10.0.0.1"]), 0);
        assert_eq!(of(&["fd00::1", "fd00::2"]), "fd00:".len());
    }
}
