// SPDX-License-Identifier: MIT OR Apache-2.0
//! Numbers as people read them: packets, bytes, bits, rates, shares, durations, times. Pure.
//!
//! Everything here has a stated maximum width, never shows a nonzero value as zero, and shows
//! unknown values as [`UNKNOWN`]. [`sanitize`] makes untrusted text safe for a terminal.
use std::{
    borrow::Cow,
    fmt,
    time::{Duration, SystemTime},
};

use unicode_width::UnicodeWidthChar;

/// A count per second. Nothing else in the program divides by time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate(Option<f64>);

impl Rate {
    /// A count spread over a period; unknown if the period is zero.
    pub fn of(count: u64, span: Duration) -> Rate {
        let seconds = span.as_secs_f64();
        Rate((seconds > 0.0).then(|| count as f64 / seconds))
    }
}

impl From<Rate> for Option<f64> {
    fn from(rate: Rate) -> Self {
        rate.0
    }
}

/// Placeholder for an unknown number; unknown is not zero.
pub const UNKNOWN: &str = "-";

/// The step between prefixes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Base {
    /// 1000: k, M, G ...
    #[default]
    Si,
    /// 1024: Ki, Mi, Gi ...
    Iec,
}

const SI: [&str; 11] = ["", "k", "M", "G", "T", "P", "E", "Z", "Y", "R", "Q"];
const IEC: [&str; 9] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "Zi", "Yi"];

impl Base {
    fn step(self) -> f64 {
        match self {
            Base::Si => 1000.0,
            Base::Iec => 1024.0,
        }
    }

    fn prefixes(self) -> &'static [&'static str] {
        match self {
            Base::Si => &SI,
            Base::Iec => &IEC,
        }
    }
}

/// A number scaled to at most four columns, its prefix and its unit. Prints as `1.2 kB` (and obeys
/// width and alignment); [`Quantity::cell`] is the same in a fixed width.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quantity {
    value: Option<f64>, // never negative or NaN
    fraction: bool,     // tenths even without a prefix
    base: Base,
    unit: &'static str,
}

impl Quantity {
    fn total(n: Option<u64>, base: Base, unit: &'static str) -> Self {
        Quantity { value: n.map(|n| n as f64), fraction: false, base, unit }
    }

    fn rate(n: Option<f64>, base: Base, unit: &'static str) -> Self {
        Quantity { value: n.filter(|n| *n >= 0.0), fraction: true, base, unit }
    }

    /// The width of [`Quantity::cell`], and the maximum width of the plain text: four for the
    /// number, a space, the prefix and the unit.
    pub fn columns(&self) -> usize {
        4 + self.unit_columns() + usize::from(self.unit_columns() > 0)
    }

    fn unit_columns(&self) -> usize {
        self.unit.len() + if self.base == Base::Si { 1 } else { 2 }
    }

    /// Text of exactly [`Quantity::columns`] columns: numbers end in one column and units in
    /// another, so that cells below each other line up.
    pub fn cell(&self) -> String {
        let (number, prefix) = self.parts();
        let unit =
            if self.value.is_some() { format!("{prefix}{}", self.unit) } else { String::new() };
        format!("{number:>4} {unit:>width$}", width = self.unit_columns())
    }

    fn parts(&self) -> (String, &'static str) {
        let Some(mut v) = self.value else { return (UNKNOWN.to_owned(), "") };
        if v > 0.0 && v < 0.05 {
            return ("<0.1".to_owned(), "");
        }
        let (step, prefixes) = (self.base.step(), self.base.prefixes());
        let mut i = 0;
        // The next prefix begins where rounding would yield the step itself: 999 950 is 1.0 M.
        while v >= step - 0.5 && i + 1 < prefixes.len() {
            v /= step;
            i += 1;
        }
        let tenths = v > 0.0 && v < 99.95 && (i > 0 || self.fraction);
        (if tenths { format!("{v:.1}") } else { format!("{:.0}", v.min(step - 1.0)) }, prefixes[i])
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (number, prefix) = self.parts();
        match (self.value, prefix, self.unit) {
            (None, ..) | (_, "", "") => f.pad(&number),
            // A rate of packets has no unit name: `12.0/s` but `1.2 k/s`.
            (_, "", unit) if unit.starts_with('/') => f.pad(&format!("{number}{unit}")),
            (_, prefix, unit) => f.pad(&format!("{number} {prefix}{unit}")),
        }
    }
}

/// Packets: `999`, `1.2 k`, `18.4 E`; at most 6 columns.
pub fn packets(n: impl Into<Option<u64>>) -> Quantity {
    Quantity::total(n.into(), Base::Si, "")
}

/// Packets per second: `0.2/s`, `12.0/s`, `1.2 k/s`; at most 8 columns.
pub fn packet_rate(per_second: impl Into<Option<f64>>) -> Quantity {
    Quantity::rate(per_second.into(), Base::Si, "/s")
}

/// Bytes: `999 B`, `1.2 kB` or `1.2 KiB`; at most 7 columns, 8 with [`Base::Iec`].
pub fn bytes(n: impl Into<Option<u64>>, base: Base) -> Quantity {
    Quantity::total(n.into(), base, "B")
}

/// Bytes per second: `1.2 kB/s`; at most 9 columns, 10 with [`Base::Iec`].
pub fn byte_rate(per_second: impl Into<Option<f64>>, base: Base) -> Quantity {
    Quantity::rate(per_second.into(), base, "B/s")
}

/// Bits, from *bytes*: 125 is `1.0 kb`; at most 7 columns.
pub fn bits(bytes: impl Into<Option<u64>>) -> Quantity {
    let mut q = Quantity::total(bytes.into(), Base::Si, "b");
    q.value = q.value.map(|v| v * 8.0); // not in u64: eight times the maximum must not overflow
    q
}

/// Bits per second, from *bytes* per second: 125 000 is `1.0 Mb/s`; at most 9 columns.
pub fn bit_rate(bytes_per_second: impl Into<Option<f64>>) -> Quantity {
    Quantity::rate(bytes_per_second.into().map(|v| v * 8.0), Base::Si, "b/s")
}

/// `part` of `whole`: `99.1 %`, at most 6 columns. `100 %` means all and `0 %` means nothing, never
/// almost; unknown if the whole is zero.
pub fn percent(part: u64, whole: u64) -> String {
    if whole == 0 {
        return UNKNOWN.to_owned();
    }
    match part {
        0 => "0 %".to_owned(),
        p if p == whole => "100 %".to_owned(),
        p => {
            let (p, whole) = (u128::from(p), u128::from(whole));
            match (p * 2000 + whole) / (2 * whole) {
                1000 if p < whole => "99.9 %".to_owned(),
                0 => "<0.1 %".to_owned(),
                t if t > 9999 => ">999 %".to_owned(),
                t if t >= 1000 => format!("{} %", t / 10),
                t => format!("{}.{} %", t / 10, t % 10),
            }
        }
    }
}

/// A duration in its two largest units: `0 s`, `12 ms`, `5 s`, `2 m 03 s`, `3 h 04 m`, `3 d 4 h`,
/// `123 d`, `27 y`; rounded down, at most 9 columns.
pub fn duration(d: Duration) -> String {
    let s = d.as_secs();
    match s {
        0 => match d.as_nanos() {
            0 => "0 s".to_owned(),
            ns @ 1..1_000 => format!("{ns} ns"),
            ns @ 1_000..1_000_000 => format!("{} µs", ns / 1_000),
            ns => format!("{} ms", ns / 1_000_000),
        },
        // Below ten seconds, tenths still matter, unless they are zero.
        1..10 if d.subsec_millis() >= 100 => format!("{s}.{} s", d.subsec_millis() / 100),
        1..60 => format!("{s} s"),
        60..3_600 => format!("{} m {:02} s", s / 60, s % 60),
        3_600..86_400 => format!("{} h {:02} m", s / 3_600, s / 60 % 60),
        86_400..8_640_000 => format!("{} d {} h", s / 86_400, s / 3_600 % 24),
        8_640_000..315_576_000 => format!("{} d", s / 86_400),
        _ => {
            let years = s / 31_557_600; // 365.25 days
            let (number, prefix) = Quantity::total(Some(years), Base::Si, "").parts();
            format!("{number} {prefix}y")
        }
    }
}

/// An instant as RFC 3339 in UTC with microseconds: `2026-11-22T17:05:00.000000Z`; `None` before
/// the year 0 or after 9999, which captures may claim.
pub fn timestamp(t: SystemTime) -> Option<String> {
    const YEAR_0: i64 = -62_167_219_200;
    let t = jiff::Timestamp::try_from(t).ok().filter(|t| t.as_second() >= YEAR_0)?;
    Some(format!("{t:.6}"))
}

/// The same for people: [`UNKNOWN`] if there is none.
pub fn rfc3339(t: SystemTime) -> String {
    timestamp(t).unwrap_or_else(|| UNKNOWN.to_owned())
}

/// Makes untrusted text (interface and file names, namespaces, comments of captures) safe for a
/// terminal: nothing in the result moves the cursor, starts an escape sequence, reverses the
/// reading direction or hides. Control characters become their pictures (ESC is `␛`), everything
/// else that is harmful becomes `�`; each takes one cell.
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if text.chars().all(|c| visible(c) == c) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().map(visible).collect())
    }
}

fn visible(c: char) -> char {
    match c {
        '\0'..='\x1f' => char::from_u32(0x2400 + u32::from(c)).unwrap_or('\u{fffd}'),
        '\x7f' => '\u{2421}',
        // C1, soft hyphen, line and paragraph separators, invisible fillers
        '\u{80}'..='\u{9f}'
        | '\u{ad}'
        | '\u{2028}'
        | '\u{2029}'
        | '\u{115f}'
        | '\u{3164}'
        | '\u{ffa0}' => '\u{fffd}',
        // Bidirectional marks, embeddings, overrides and isolates (UAX #9)
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
            '\u{fffd}'
        }
        // Interlinear annotations, and tag characters, which can hide whole sentences
        '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}' => '\u{fffd}',
        // Everything that takes no cell: zero-width spaces and joiners, combining marks, variation
        // selectors
        c if c.width().unwrap_or(0) == 0 => '\u{fffd}',
        c => c,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_width::UnicodeWidthStr;

    use super::*;

    #[test]
    fn a_rate_is_divided_by_the_measured_time() {
        let two = Duration::from_secs(2);
        assert_eq!(Option::<f64>::from(Rate::of(10, two)), Some(5.0));
        assert_eq!(packet_rate(Rate::of(10, two)).to_string(), "5.0/s");
        assert_eq!(packet_rate(Rate::of(3, Duration::ZERO)).to_string(), "-");
        assert_eq!(bit_rate(Rate::of(u64::MAX, Duration::from_nanos(1))).to_string(), "148 Rb/s");
    }

    #[test]
    fn packets_are_exact_below_a_thousand_and_scaled_above() {
        for (n, text) in [
            (0, "0"),
            (7, "7"),
            (999, "999"),
            (1000, "1.0 k"),
            (1234, "1.2 k"),
            (12_345, "12.3 k"),
            (99_949, "99.9 k"),
            (99_951, "100 k"),
            (999_499, "999 k"),
            (999_500, "1.0 M"),
            (3_400_000, "3.4 M"),
            (u64::MAX, "18.4 E"),
        ] {
            assert_eq!(packets(n).to_string(), text, "{n}");
        }
        assert_eq!(packets(None::<u64>).to_string(), "-");
    }

    #[test]
    fn bytes_scale_by_either_base() {
        assert_eq!(bytes(0, Base::Si).to_string(), "0 B");
        assert_eq!(bytes(6352, Base::Si).to_string(), "6.4 kB");
        assert_eq!(bytes(6352, Base::Iec).to_string(), "6.2 KiB");
        assert_eq!(bytes(1023, Base::Iec).to_string(), "1023 B");
        assert_eq!(bytes(1023 * 1024, Base::Iec).to_string(), "1023 KiB");
        assert_eq!(bytes(1024 * 1024 - 1, Base::Iec).to_string(), "1.0 MiB");
        assert_eq!(bytes(u64::MAX, Base::Si).to_string(), "18.4 EB");
        assert_eq!(bytes(u64::MAX, Base::Iec).to_string(), "16.0 EiB");
        assert_eq!(bits(125).to_string(), "1.0 kb");
        assert_eq!(bits(u64::MAX).to_string(), "148 Eb");
    }

    #[test]
    fn rates_keep_tenths_and_never_hide_a_trickle() {
        assert_eq!(packet_rate(0.0).to_string(), "0/s");
        assert_eq!(packet_rate(0.001).to_string(), "<0.1/s");
        assert_eq!(packet_rate(0.2).to_string(), "0.2/s");
        assert_eq!(packet_rate(12.0).to_string(), "12.0/s");
        assert_eq!(packet_rate(1234.5).to_string(), "1.2 k/s");
        assert_eq!(bit_rate(125_000.0).to_string(), "1.0 Mb/s");
        assert_eq!(bit_rate(0.125).to_string(), "1.0 b/s");
        assert_eq!(byte_rate(1e6, Base::Si).to_string(), "1.0 MB/s");
        assert_eq!(byte_rate(u64::MAX as f64 * 1e9, Base::Si).to_string(), "18.4 RB/s");
        assert_eq!(byte_rate(f64::MAX, Base::Si).to_string(), "999 QB/s");
        for odd in [f64::NAN, -1.0, f64::NEG_INFINITY] {
            assert_eq!(packet_rate(odd).to_string(), "-");
        }
        assert_eq!(packet_rate(None::<f64>).cell().trim_end(), "   -");
    }

    #[test]
    fn cells_line_up() {
        let cells: Vec<String> = [0, 5, 999, 1000, 12_345, 123_456, u64::MAX]
            .iter()
            .map(|n| bytes(*n, Base::Si).cell())
            .collect();
        assert_eq!(
            cells,
            ["   0  B", "   5  B", " 999  B", " 1.0 kB", "12.3 kB", " 123 kB", "18.4 EB"]
        );
        assert_eq!(bytes(None::<u64>, Base::Si).cell(), "   -   ");
        assert_eq!(packets(1234).cell(), " 1.2 k");
        assert_eq!(format!("[{:>9}]", bytes(1234, Base::Si)), "[   1.2 kB]");
    }

    #[test]
    fn shares_are_0_or_100_percent_only_when_exact() {
        for (part, whole, text) in [
            (0, 0, "-"),
            (3, 0, "-"),
            (0, 7, "0 %"),
            (7, 7, "100 %"),
            (991, 1000, "99.1 %"),
            (12_200, 12_311, "99.1 %"),
            (2, 3, "66.7 %"),
            (999_999, 1_000_000, "99.9 %"),
            (1, 1_000_000, "<0.1 %"),
            (u64::MAX - 1, u64::MAX, "99.9 %"),
            (u64::MAX, u64::MAX, "100 %"),
            (3, 2, "150 %"),
            (u64::MAX, 1, ">999 %"),
        ] {
            assert_eq!(percent(part, whole), text);
        }
    }

    #[test]
    fn durations_show_two_units() {
        for (d, text) in [
            (Duration::ZERO, "0 s"),
            (Duration::from_nanos(15), "15 ns"),
            (Duration::from_micros(15), "15 µs"),
            (Duration::from_millis(999), "999 ms"),
            (Duration::from_millis(1500), "1.5 s"),
            (Duration::from_millis(5001), "5 s"),
            (Duration::from_secs(5), "5 s"),
            (Duration::from_secs(123), "2 m 03 s"),
            (Duration::from_secs(3 * 3600 + 245), "3 h 04 m"),
            (Duration::from_secs(3 * 86_400 + 4 * 3600 + 59), "3 d 4 h"),
            (Duration::from_secs(123 * 86_400), "123 d"),
            (Duration::from_secs(27 * 31_557_600), "27 y"),
            (Duration::MAX, "585 Gy"),
        ] {
            assert_eq!(duration(d), text);
        }
    }

    #[test]
    fn times_are_rfc_3339() {
        assert_eq!(rfc3339(SystemTime::UNIX_EPOCH), "1970-01-01T00:00:00.000000Z");
        assert_eq!(
            rfc3339(SystemTime::UNIX_EPOCH + Duration::new(1_700_000_000, 120_000_999)),
            "2023-11-14T22:13:20.120000Z"
        );
        for none in [
            SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 50),
            SystemTime::UNIX_EPOCH - Duration::from_secs(62_167_219_201),
        ] {
            assert_eq!((rfc3339(none).as_str(), timestamp(none)), ("-", None));
        }
    }

    #[test]
    fn untrusted_text_is_made_safe_for_the_terminal() {
        assert!(matches!(sanitize("eth0.100@größe 网卡"), Cow::Borrowed(_)));
        assert_eq!(sanitize("a\x1b[31mb\n\t\0\x7f"), "a␛[31mb␊␉␀␡");
        assert_eq!(sanitize("c\u{9b}31m\u{85}"), "c\u{fffd}31m\u{fffd}");
        assert_eq!(
            sanitize("abc\u{202e}fdp.exe\u{2066}\u{200f}"),
            "abc\u{fffd}fdp.exe\u{fffd}\u{fffd}"
        );
        assert_eq!(
            sanitize("a\u{200b}b\u{feff}c\u{2060}\u{ad}\u{e0041}e\u{301}"),
            "a\u{fffd}b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}e\u{fffd}"
        );
    }

    proptest! {
        #[test]
        fn no_total_exceeds_its_stated_width(n: u64, shift in 0..64u32) {
            let n = n >> shift;
            for q in [packets(n), bytes(n, Base::Si), bytes(n, Base::Iec), bits(n)] {
                prop_assert!(q.to_string().width() <= q.columns(), "{q}");
                prop_assert_eq!(q.cell().width(), q.columns());
                prop_assert_eq!(q.to_string().starts_with('0'), n == 0);
            }
        }

        #[test]
        fn no_rate_exceeds_its_stated_width(v: f64) {
            for q in [packet_rate(v), byte_rate(v, Base::Si), byte_rate(v, Base::Iec), bit_rate(v)] {
                prop_assert!(q.to_string().width() <= q.columns(), "{q}");
                prop_assert_eq!(q.cell().width(), q.columns());
            }
        }

        #[test]
        fn no_share_or_duration_exceeds_its_stated_width(a: u64, b: u64, shift in 0..64u32) {
            prop_assert!(percent(a, b).width() <= 6);
            prop_assert!(percent(a >> shift, b).width() <= 6);
            let d = Duration::from_nanos(a >> shift);
            prop_assert!(duration(d).width() <= 9, "{}", duration(d));
            prop_assert!(duration(Duration::from_secs(a >> shift)).width() <= 9);
        }

        #[test]
        fn sanitized_characters_take_one_or_two_cells(s in any::<String>()) {
            let clean = sanitize(&s);
            prop_assert_eq!(clean.chars().count(), s.chars().count());
            prop_assert!(clean.chars().all(|c| !c.is_control() && c.width().unwrap_or(0) > 0));
            let again = sanitize(&clean);
            prop_assert_eq!(&again, &clean);
        }
    }
}
