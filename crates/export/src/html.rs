// SPDX-License-Identifier: MIT OR Apache-2.0
//! A reading as one self-contained page: chord, tunnel ids, levels, rows.
//!
//! The page is `page/`; the data inside it is the reading as JSON (schema 1). It draws with its own
//! script, from a file as well as from a server, and fetches nothing: its own content security
//! policy forbids it.
use std::{
    cmp::Reverse,
    io::{self, Write},
};

use serde_json::json;

use super::{Excerpt, json};
use model::{colour::Palette, flow::Flow, history, rows::Rows};

const PAGE: &str = include_str!("page/page.html");
const STYLE: &str = include_str!("page/page.css");
const SCRIPT: &str = include_str!("page/page.js");

/// The largest rows that a page contains; the others are summed by host pair and tunnel. A browser
/// draws this many immediately, and the file stays at some ten megabytes.
pub const ROWS: usize = 20_000;
/// How many sums of the others it contains.
const GROUPS: usize = 20_000;

/// The initial state of a page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HtmlOptions {
    /// Light on dark, or dark on light; follows the reader's system if not given.
    pub dark: Option<bool>,
    /// The number of largest ends that the chord shows separately; 24 if not given.
    pub top: Option<usize>,
}

/// Writes the page of a reading.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, reading: &Excerpt<'_>, options: HtmlOptions) -> io::Result<()> {
    let kept = bounded(reading);
    let smaller = reading.flows.len().saturating_sub(ROWS);
    let reading = kept.as_ref().unwrap_or(reading);
    let hexes = |p: Palette| p.colours.iter().map(ToString::to_string).collect::<Vec<_>>();
    let facts = json!({
        "palette": { "dark": hexes(Palette::DARK), "light": hexes(Palette::LIGHT), "base": Palette::DARK.base },
        "filter": reading.filter,
        "smaller": smaller,
        "theme": options.dark.map(|dark| if dark { "dark" } else { "light" }),
        "top": options.top.unwrap_or(24).max(1),
        // how many levels of groups are expanded at first
        "coarsest": (!reading.groups.is_empty()).then(|| reading.groups.coarsest()),
    });
    let mut rest = PAGE;
    for (mark, part) in [
        ("{{STYLE}}", Part::Text(STYLE)),
        ("{{DATA}}", Part::Data),
        ("{{SCRIPT}}", Part::Text(SCRIPT)),
    ] {
        let (before, after) = rest.split_once(mark).unwrap_or((rest, ""));
        out.write_all(before.as_bytes())?;
        match part {
            Part::Text(text) => out.write_all(text.trim_end().as_bytes())?,
            Part::Data => {
                let mut out = Inert(&mut *out);
                // one object: the metadata, with the reading as its last member
                let facts = facts.to_string();
                write!(out, "{},\"reading\":", facts.strip_suffix('}').unwrap_or_default())?;
                json::write(&mut out, reading)?;
                write!(out, "}}")?;
            }
        }
        rest = after;
    }
    out.write_all(rest.as_bytes())
}

enum Part {
    Text(&'static str),
    Data,
}

/// The reading reduced to its largest rows and sums of the others, if it has more rows than a page
/// can contain.
fn bounded<'a>(reading: &Excerpt<'a>) -> Option<Excerpt<'a>> {
    if reading.flows.len() <= ROWS {
        return None;
    }
    let mut flows: Vec<Flow> = reading.flows.iter().collect();
    flows.sort_unstable_by_key(|f| (Reverse(f.counters.total().bytes), f.interface, f.key));
    let sums = history::summed(&flows[ROWS..], GROUPS);
    flows.truncate(ROWS);
    let mut rows = Rows::default();
    (0..).zip(flows.iter().chain(&sums)).for_each(|(place, flow)| rows.push_flow(place, flow));
    Some(Excerpt { flows: rows.sorted(), ..reading.clone() })
}

/// JSON that cannot end a `<script>` element: characters with a meaning in HTML become `\u`
/// escapes, which are equivalent in JSON. In JSON these characters occur in strings only.
struct Inert<'w>(&'w mut dyn Write);

impl Write for Inert<'_> {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        for part in buf.split_inclusive(|b| matches!(b, b'<' | b'>' | b'&')) {
            match part.split_last() {
                Some((last @ (b'<' | b'>' | b'&'), before)) => {
                    self.0.write_all(before)?;
                    write!(self.0, "\\u{last:04x}")?;
                }
                _ => self.0.write_all(part)?,
            }
        }
        Ok(buf.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        net::{IpAddr, Ipv4Addr},
        time::{Duration, SystemTime},
    };

    use super::*;
    use model::{
        filter::Filter,
        flow::{Count, Counters, Flow, HookKind, Inner, Key, Kind, Pair, Tunnel},
        interface::Interface,
        rows::Rows,
        snapshot::Interval,
    };

    fn interval(n: u32, name: &str) -> Interval {
        let v4 = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n));
        let mut rows = Rows::default();
        for i in 0..n {
            let key = Key {
                outer: Some(Pair { first: v4(0), second: v4(1 + i % 9) }),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(i % 4) },
                innermost: None,
                depth: 1,
                inner: Inner::Pair(Pair { first: v4(1000), second: v4(1001 + i) }),
                other: false,
            };
            let c = Count { packets: 1, bytes: u64::from(100 + i) };
            rows.push_flow(
                i,
                &Flow {
                    interface: 0,
                    key,
                    counters: Counters { cells: [[c, c]; 2], ..Default::default() },
                },
            );
        }
        let (since, elapsed) = (SystemTime::UNIX_EPOCH, Duration::from_secs(5));
        let interface = Interface {
            ifindex: 1,
            netns: Some(name.to_owned()),
            hook: HookKind::Tcx,
            span: elapsed,
            ..Interface::new(0, name)
        };
        let mut interval = Interval::new(since, since + elapsed, elapsed, vec![interface], rows);
        interval.origin.host = name.into();
        interval
    }

    fn page(interval: &Interval) -> String {
        let mut out = Vec::new();
        let reading = Excerpt::new("tmon 0", interval, &Filter::default());
        write(&mut out, &reading, HtmlOptions::default()).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn data(page: &str) -> serde_json::Value {
        let (_, rest) = page.split_once(r#"<script type="application/json" id="data">"#).unwrap();
        serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
    }

    #[test]
    fn hostile_names_stay_text() {
        let name = "</script><script>alert(1)</script><!--<script>{{DATA}}&lt;\u{2028}\u{202e}\"'";
        let page = page(&interval(3, name));
        assert_eq!(page.matches("<script").count(), 2, "the page's own, and none of a name");
        assert_eq!(page.matches("</script>").count(), 2);
        let data = data(&page);
        assert_eq!(data["reading"]["host"], name);
        assert_eq!(data["reading"]["interfaces"][0]["netns"], name);
        assert_eq!(data["reading"]["flows"].as_array().unwrap().len(), 3);
    }

    #[test]
    fn nothing_is_fetched() {
        let page = page(&interval(3, "eth0"));
        let own = page.replace("http://www.w3.org/2000/svg", "");
        for word in [
            "http:",
            "https:",
            "src=",
            "href=",
            "url(",
            "@import",
            "fetch(",
            "innerHTML",
            "eval(",
            "{{",
        ] {
            assert!(!own.contains(word), "{word}");
        }
        assert!(page.contains("default-src 'none'"));
    }

    #[test]
    fn a_flood_is_bounded_and_nothing_of_it_is_lost() {
        let interval = interval(ROWS as u32 + 5_000, "eth0");
        let data = data(&page(&interval));
        assert_eq!(data["smaller"], 5_000);
        let flows = data["reading"]["flows"].as_array().unwrap();
        assert!(flows.len() > ROWS && flows.len() < ROWS + 100, "{}", flows.len());
        let sum: u64 = flows
            .iter()
            .map(|f| f["fwd_bytes"].as_u64().unwrap() + f["rev_bytes"].as_u64().unwrap())
            .sum();
        assert_eq!(sum, interval.rows.iter().map(|f| f.counters.total().bytes).sum::<u64>());
    }
}
