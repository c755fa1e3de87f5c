// SPDX-License-Identifier: MIT OR Apache-2.0
//! The chord diagram as a standalone SVG 1.1 file, for tickets, reports and slides.
//!
//! The same shapes as on the screen, with labels, a tooltip (`<title>`) on every arc and ribbon,
//! and a legend. No script, no font file, no link: it looks the same wherever it is opened.
use super::Excerpt;
use model::{
    chord::{Layout, padding},
    colour::{EndColours, Palette, Rgb},
    groups::Grouping,
    labels::{self, Label, Ring},
    matrix::{self, End, Level, Matrix, Scope, Tally},
    shapes::{PathStep, Proportions, Shape, ShapeOf, Shapes, point},
    text::shorten,
    units::{self, Base, duration, percent, rfc3339, sanitize},
};
use std::{
    borrow::Cow,
    f64::consts::PI,
    fmt,
    io::{self, Write},
};
use unicode_width::UnicodeWidthStr;

/// An end of the diagram, in the order of the matrix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvgEnd {
    /// Its name.
    pub label: String,
    /// Its colour.
    pub colour: Rgb,
}

/// The style of what surrounds the diagram.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SvgStyle {
    /// The background.
    pub ground: Rgb,
    /// Text.
    pub ink: Rgb,
    /// Secondary text, and leader lines.
    pub faint: Rgb,
    /// The heading: what was measured and where.
    pub title: String,
    /// The line below it: when, how long, by which program.
    pub note: String,
}

impl SvgStyle {
    /// For a dark page.
    pub fn dark(title: impl Into<String>, note: impl Into<String>) -> Self {
        let (ground, ink, faint) = (Rgb::hex(0x121218), Rgb::hex(0xdcdce4), Rgb::hex(0x8c8c98));
        SvgStyle { ground, ink, faint, title: title.into(), note: note.into() }
    }

    /// For white paper.
    pub fn light(title: impl Into<String>, note: impl Into<String>) -> Self {
        let (ground, ink, faint) = (Rgb::hex(0xffffff), Rgb::hex(0x24242c), Rgb::hex(0x70707a));
        SvgStyle { ground, ink, faint, title: title.into(), note: note.into() }
    }
}

/// What the picture of a reading shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SvgOptions {
    /// Whether it is dark on light.
    pub light: bool,
    /// Whether it shows the inner addresses instead of the hosts.
    pub inner: bool,
    /// The number of largest ends that are shown separately; 24 if not given.
    pub top: Option<usize>,
}

/// Writes the chord of a reading, in bytes.
///
/// # Errors
/// Those of `out`.
pub fn reading(
    out: &mut impl Write,
    reading: &Excerpt<'_>,
    options: SvgOptions,
    base: Base,
) -> io::Result<()> {
    let interval = reading.interval;
    let level = if options.inner { Level::Inner } else { Level::Hosts };
    let grouping = Grouping::new(reading.groups.clone(), reading.groups.coarsest(), &[]);
    let scope = Scope { level, filter: reading.kept.clone(), grouping, ..Scope::default() };
    let tally = Tally::of(interval, &scope);
    let m = Matrix::new(&tally, matrix::Measure::Bytes, options.top.unwrap_or(24));
    let (palette, other) =
        if options.light { (Palette::LIGHT, 0x9a9aa4) } else { (Palette::DARK, 0x70707c) };
    let known: Vec<End> =
        m.ends.iter().copied().filter(|e| !matches!(e, End::Other | End::Unknown)).collect();
    let colours =
        EndColours::new(palette).assign(&known.iter().map(End::to_string).collect::<Vec<_>>());
    let colour =
        |e: &End| known.iter().position(|k| k == e).map_or(Rgb::hex(other), |i| colours[i]);
    let called = |e: &End| match e {
        End::Addr(a) => reading.names.shown(*a, options.inner),
        End::Group(group) => Some(reading.groups.path(*group).to_owned()),
        _ => None,
    };
    let label = |e: &End| called(e).unwrap_or_else(|| matrix::label(*e, m.folded));
    let ends: Vec<SvgEnd> =
        m.ends.iter().map(|e| SvgEnd { label: label(e), colour: colour(e) }).collect();

    let names: Vec<&str> = interval.interfaces.iter().map(|i| i.name.as_str()).collect();
    let title = format!("{} on {}", names.join(" "), reading.host);
    let mut note = format!(
        "{} to {} ({})",
        rfc3339(interval.since),
        rfc3339(interval.taken),
        duration(interval.elapsed)
    );
    if !reading.filter.is_empty() {
        note = format!("{note} · {}", reading.filter);
    }
    let style =
        if options.light { SvgStyle::light(title, note) } else { SvgStyle::dark(title, note) };
    write(out, &ends, |i, j| m.get(i, j).bytes, |v| units::bytes(v, base).to_string(), &style)
}

// Everything is on a grid of monospaced characters, so that labels are as wide as computed.
const CHAR: f64 = 7.25;
const LINE: f64 = 16.0;
const COLUMNS: usize = 132;
const ROWS: usize = 45;
const RADIUS: f64 = 300.0;
const TOP: f64 = 64.0;
const MARGIN: f64 = 24.0;
const WIDTH: f64 = COLUMNS as f64 * CHAR;
/// The maximum number of columns of a label beside the circle.
const LABEL: usize = 22;

/// Writes the diagram of these ends, where `get(i, j)` is what end `i` sent to end `j`. `unit`
/// formats an amount.
///
/// # Errors
/// Those of `out`.
pub fn write(
    out: &mut impl Write,
    ends: &[SvgEnd],
    get: impl Fn(usize, usize) -> u64,
    unit: impl Fn(u64) -> String,
    style: &SvgStyle,
) -> io::Result<()> {
    let n = ends.len();
    let sum = |values: &mut dyn Iterator<Item = u64>| values.fold(0u64, u64::saturating_add);
    let sent: Vec<u64> = (0..n).map(|i| sum(&mut (0..n).map(|j| get(i, j)))).collect();
    let received: Vec<u64> = (0..n).map(|j| sum(&mut (0..n).map(|i| get(i, j)))).collect();
    let all = sum(&mut sent.iter().copied());
    let shapes = Shapes::new(
        &Layout::new(n, |i, j| get(i, j) as f64, padding(n, 0.04)),
        Proportions { least: 0.003, ..Proportions::default() },
    );

    let mut order: Vec<usize> = (0..n).filter(|&i| shapes.angle(i).is_some()).collect();
    order.sort_by(|&a, &b| sent[b].cmp(&sent[a]).then(a.cmp(&b)));
    let entry = |i: usize| {
        format!(
            "{}  sent {} ({}), received {} ({})",
            ends[i].label,
            unit(sent[i]),
            percent(sent[i], all),
            unit(received[i]),
            percent(received[i], all)
        )
    };
    let widest = order.iter().map(|&i| entry(i).width()).max().unwrap_or(0).max(24);
    let per_line = (((WIDTH - 2.0 * MARGIN) / ((widest + 5) as f64 * CHAR)) as usize).max(1);
    let legend = TOP + ROWS as f64 * LINE + LINE;
    let height = legend + order.len().div_ceil(per_line) as f64 * (LINE + 2.0) + MARGIN;

    writeln!(out, r#"<?xml version="1.0" encoding="UTF-8"?>"#)?;
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH:.0}" height="{height:.0}" viewBox="0 0 {WIDTH:.0} {height:.0}" font-family="ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace" font-size="12">"#
    )?;
    writeln!(out, "<title>{}</title>", Text(&style.title))?;
    writeln!(
        out,
        "<style>.c:hover .r:not(:hover) {{ opacity: .25 }} .r, .a {{ transition: opacity .15s }}</style>"
    )?;
    writeln!(out, r#"<rect width="100%" height="100%" fill="{}"/>"#, style.ground)?;
    writeln!(
        out,
        r#"<text x="{MARGIN}" y="30" font-size="16" font-weight="bold" fill="{}">{}</text>"#,
        style.ink,
        Text(&style.title)
    )?;
    let total = if order.is_empty() {
        "nothing was sent".to_owned()
    } else {
        format!("total {}", unit(all))
    };
    let note = if style.note.is_empty() { total } else { format!("{total} · {}", style.note) };
    writeln!(out, r#"<text x="{MARGIN}" y="50" fill="{}">{}</text>"#, style.faint, Text(&note))?;

    let (cx, cy) = (WIDTH / 2.0, TOP + ROWS as f64 * LINE / 2.0);
    writeln!(out, r#"<g class="c" transform="translate({cx:.1} {cy:.1})">"#)?;
    for shape in &shapes.shapes {
        let Some(end) = ends.get(shape.colour) else { continue };
        // a hairline separates adjacent ribbons of the same colour
        let (class, opacity) = match shape.part {
            ShapeOf::Ribbon(..) => (
                "r",
                format!(r#" fill-opacity="0.67" stroke="{}" stroke-opacity="0.6""#, style.ground),
            ),
            ShapeOf::Arc(_) => ("a", String::new()),
        };
        write!(
            out,
            r#"<path class="{class}" fill="{}"{opacity} d="{}"><title>"#,
            end.colour,
            Outline(shape)
        )?;
        let way = |to: usize, from: usize| {
            let v = get(from, to);
            let (of_to, of_all) = (percent(v, received[to]), percent(v, all));
            let (to, from) = (&ends[to].label, &ends[from].label);
            format!(
                "{to} received from {from}: {} ({of_to} of {to}'s total, {of_all} of all)",
                unit(v)
            )
        };
        match shape.part {
            ShapeOf::Arc(i) => write!(out, "{}", Text(&entry(i)))?,
            ShapeOf::Ribbon(i, j) if i == j => write!(out, "{}", Text(&way(i, i)))?,
            ShapeOf::Ribbon(i, j) => write!(out, "{}\n{}", Text(&way(i, j)), Text(&way(j, i)))?,
        }
        writeln!(out, "</title></path>")?;
    }
    writeln!(out, "</g>")?;

    // the largest that fit have a label; all have a line in the legend
    let ring = Ring {
        size: (COLUMNS, ROWS),
        centre: (COLUMNS as f64 / 2.0, ROWS as f64 / 2.0),
        radius: (RADIUS / CHAR, RADIUS / LINE),
    };
    let mut named: Vec<(usize, String)> = order
        .iter()
        .take(ROWS * 2)
        .map(|&i| (i, shorten(&sanitize(&ends[i].label), LABEL)))
        .collect();
    let spots = loop {
        let wanted: Vec<Label> = named
            .iter()
            .filter_map(|(i, text)| Some(Label { angle: shapes.angle(*i)?, width: text.width() }))
            .collect();
        match labels::place(&ring, &wanted) {
            Some((spots, _)) => break spots,
            None if named.is_empty() => break vec![],
            None => named.truncate(named.len() * 7 / 8),
        }
    };
    writeln!(out, "<g>")?;
    for ((i, text), spot) in named.iter().zip(&spots) {
        let y = TOP + (spot.y as f64 + 0.5) * LINE;
        let x = if spot.right { spot.x as f64 } else { (spot.x + text.width()) as f64 } * CHAR;
        let anchor = if spot.right { "start" } else { "end" };
        if let Some(angle) = shapes.angle(*i) {
            let ([x1, y1], toward) =
                (point(angle, RADIUS + 3.0), if spot.right { -3.0 } else { 3.0 });
            let (x1, y1, x2) = (x1 + cx, y1 + cy, x + toward);
            if (x2 - x1).hypot(y - y1) > 1.5 * LINE {
                writeln!(
                    out,
                    r#"<path d="M{x1:.1} {y1:.1}L{x2:.1} {y:.1}" stroke="{}" stroke-opacity="0.6" fill="none"/>"#,
                    ends[*i].colour
                )?;
            }
        }
        writeln!(
            out,
            r#"<text x="{x:.1}" y="{:.1}" text-anchor="{anchor}" fill="{}">{}</text>"#,
            y + 4.0,
            style.ink,
            Text(text)
        )?;
    }
    writeln!(out, "</g>")?;

    writeln!(out, r#"<g fill="{}">"#, style.ink)?;
    let column = (WIDTH - 2.0 * MARGIN) / per_line as f64;
    for (k, &i) in order.iter().enumerate() {
        let (x, y) = (
            MARGIN + (k % per_line) as f64 * column,
            legend + (k / per_line) as f64 * (LINE + 2.0),
        );
        writeln!(
            out,
            r#"<rect x="{x:.1}" y="{:.1}" width="11" height="11" fill="{}"/>"#,
            y - 10.0,
            ends[i].colour
        )?;
        writeln!(out, r#"<text x="{:.1}" y="{y:.1}">{}</text>"#, x + 18.0, Text(&entry(i)))?;
    }
    writeln!(out, "</g>\n</svg>")
}

/// Text made safe for XML: forbidden characters are replaced, special ones are escaped.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let clean: Cow<str> = sanitize(self.0);
        for c in clean.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\u{fffe}' | '\u{ffff}' => f.write_str("\u{fffd}")?,
                c if c.is_control() => f.write_str("\u{fffd}")?,
                c => write!(f, "{c}")?,
            }
        }
        Ok(())
    }
}

/// A shape's outline as the `d` of a `<path>`.
struct Outline<'a>(&'a Shape);

impl fmt::Display for Outline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |p: [f64; 2]| (p[0] * RADIUS, p[1] * RADIUS);
        for step in &self.0.path {
            match *step {
                PathStep::Move(p) => write!(f, "M{:.2} {:.2}", at(p).0, at(p).1)?,
                PathStep::Line(p) => write!(f, "L{:.2} {:.2}", at(p).0, at(p).1)?,
                PathStep::Bow(p) => write!(f, "Q0 0 {:.2} {:.2}", at(p).0, at(p).1)?,
                PathStep::Arc { radius, from, to } => {
                    // two halves: the arc of a full turn has no direction
                    let (r, sweep) = (radius * RADIUS, u8::from(to > from));
                    let stops = if (to - from).abs() > PI * 0.99 {
                        vec![f64::midpoint(from, to), to]
                    } else {
                        vec![to]
                    };
                    for stop in stops {
                        let p = at(point(stop, radius));
                        write!(f, "A{r:.2} {r:.2} 0 0 {sweep} {:.2} {:.2}", p.0, p.1)?;
                    }
                }
                PathStep::Close => f.write_str("Z")?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::units;

    fn draw(ends: &[SvgEnd], matrix: &[Vec<u64>], style: &SvgStyle) -> String {
        let mut out = vec![];
        let get =
            |i: usize, j: usize| matrix.get(i).and_then(|row| row.get(j)).copied().unwrap_or(0);
        write(&mut out, ends, get, |v| format!("{v} B"), style).unwrap();
        String::from_utf8(out).unwrap()
    }

    fn ends(n: usize) -> Vec<SvgEnd> {
        let colours = model::colour::Palette::DARK.colours;
        (0..n)
            .map(|i| SvgEnd {
                label: format!("172.16.1.{}", 100 + i),
                colour: colours[i % colours.len()],
            })
            .collect()
    }

    fn hub() -> Vec<Vec<u64>> {
        let hub = [0, 880, 1116, 1080, 220, 220, 1116, 860, 860];
        (0..9)
            .map(|i| {
                (0..9)
                    .map(|j| {
                        if i == 0 {
                            hub[j]
                        } else if j == 0 {
                            hub[i] / 2
                        } else {
                            0
                        }
                    })
                    .collect()
            })
            .collect()
    }

    #[test]
    fn the_golden_file() {
        let style = SvgStyle::dark("vxlan on eth0", "2026-01-02T03:04:05Z, 10 s");
        insta::assert_snapshot!("hub", draw(&ends(9), &hub(), &style));
    }

    #[test]
    fn tooltips_show_both_directions() {
        let svg = draw(&ends(9), &hub(), &SvgStyle::light("", ""));
        let doc = roxmltree::Document::parse(&svg).unwrap();
        let titles: Vec<&str> = doc
            .descendants()
            .filter(|n| n.has_tag_name("path"))
            .flat_map(|n| n.children())
            .filter_map(|n| n.text())
            .collect();
        let [of_in, of_all] = [percent(1116, 1116), percent(1116, 9528)];
        let forth = format!(
            "172.16.1.102 received from 172.16.1.100: 1116 B ({of_in} of 172.16.1.102's total, {of_all} of all)"
        );
        let back = format!(
            "172.16.1.100 received from 172.16.1.102: 558 B ({} of 172.16.1.100's total, {} of all)",
            percent(558, 3176),
            percent(558, 9528)
        );
        let both = format!("{back}\n{forth}");
        assert!(titles.contains(&both.as_str()), "{both}\n{titles:#?}");
        assert_eq!(titles.len(), 8 + 9, "8 ribbons and 9 arcs");
    }

    #[test]
    fn anything_is_well_formed() {
        let hostile = |label: &str| SvgEnd { label: label.into(), colour: Rgb(1, 2, 3) };
        let bad = [
            hostile("</title><script>alert(1)</script>"),
            hostile("a\u{0}\u{1b}[31m\u{ffff}\u{202e}b"),
            hostile("\"'&<>]]>"),
            hostile(&"x".repeat(5000)),
            hostile("日本語の名前日本語の名前日本語の名前"),
        ];
        let full = |n: usize, v: u64| (0..n).map(|_| vec![v; n]).collect::<Vec<_>>();
        for (ends, matrix) in [
            (bad.to_vec(), full(5, u64::MAX)),
            (vec![], vec![]),
            (ends(1), full(1, 0)),
            (ends(1), full(1, 7)),
            (ends(3), vec![vec![], vec![1, 2]]),
            (ends(300), full(300, 3)),
        ] {
            let style = SvgStyle::light("<&\">", "]]>\u{7}");
            let svg = draw(&ends, &matrix, &style);
            let doc = roxmltree::Document::parse(&svg).unwrap_or_else(|e| panic!("{e}\n{svg}"));
            assert!(doc.descendants().all(|n| !n.has_tag_name("script")));
            assert!(!svg.contains("NaN") && !svg.contains("inf\""));
        }
    }

    #[test]
    fn real_units_fit_in() {
        let mut out = vec![];
        write(
            &mut out,
            &ends(2),
            |i, j| [[0, 1_500_000], [3, 0]][i][j],
            |v| units::bytes(v, units::Base::Si).to_string(),
            &SvgStyle::dark("", ""),
        )
        .unwrap();
        assert!(String::from_utf8(out).unwrap().contains("1.5 MB"));
    }
}
