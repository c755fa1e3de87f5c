// SPDX-License-Identifier: MIT OR Apache-2.0
//! Text cut to a width in cells.
use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

/// The text in at most `width` cells; what was cut off is an ellipsis.
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

/// Whether there is an address whose beginning all of these share, up to a separator: how many
/// bytes of each can be left out in a narrow place. 0 when there is nothing worth leaving out.
pub fn shared_prefix(labels: &[String]) -> usize {
    let Some((first, rest)) = labels.split_first() else { return 0 };
    if rest.is_empty() {
        return 0;
    }
    let common = rest.iter().fold(first.len(), |n, l| first.bytes().zip(l.bytes()).take(n).take_while(|(a, b)| a == b).count());
    // up to, not including, the last separator in what they share
    first.get(..common).and_then(|s| s.rfind(['.', ':'])).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_at_its_width() {
        assert_eq!(fit("abcdef", 6), "abcdef");
        assert_eq!(fit("abcdef", 5), "abcd…");
        assert_eq!(fit("abcdef", 1), "…");
        assert_eq!(fit("abcdef", 0), "");
        assert_eq!(fit("日本語", 5), "日本…");
        assert_eq!(fit("日本語", 4), "日…");
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
