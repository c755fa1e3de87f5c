// SPDX-License-Identifier: MIT OR Apache-2.0
//! Saves what is shown as a file for a ticket: a picture or a page.
use std::{
    io::{self, BufWriter, Write},
    time::SystemTime,
};

use anyhow::{Context, Result, bail};

use export::{
    Excerpt, html,
    svg::{self, SvgEnd, SvgStyle},
};
use model::{
    filter::Filter,
    flow::Count,
    units::{duration, rfc3339},
};

use crate::{
    app::App,
    files::Files,
    look::Look,
    theme::{Depth, Scheme},
    words::Form,
};

/// Writes the chord as shown into `out` as SVG, in the colours of the screen.
///
/// # Errors
/// Those of `out`.
pub fn write(app: &App, look: &Look, out: &mut impl Write) -> io::Result<()> {
    let p = &app.picture;
    let m = &p.matrix;
    let ends: Vec<SvgEnd> =
        m.ends.iter().map(|e| SvgEnd { label: app.called(*e), colour: look.colour(*e) }).collect();
    let mut title = vec!["hosts".to_owned()];
    title.extend((0..app.crumbs.len()).map(|i| app.crumb(i)));
    let mut title = title.join(" › ");
    if let Some(t) = app.tunnel {
        title = format!("{title} · {t}");
    }
    if !app.filter.is_empty() {
        title = format!("{title} · {}", app.filter_text);
    }
    let names: Vec<&str> = p.interfaces.iter().map(|i| i.name.as_str()).collect();
    let note = format!(
        "{} · {} to {} ({}) · {}",
        names.join(" "),
        rfc3339(p.since),
        rfc3339(p.taken),
        duration(p.elapsed),
        app.unit_name()
    );
    let style =
        if light(look) { SvgStyle::light(title, note) } else { SvgStyle::dark(title, note) };
    // an amount is in the measure, bytes or packets: the text gives it in the unit
    svg::write(
        out,
        &ends,
        |i, j| app.measure(m.get(i, j)),
        |v| app.quantity(Count { packets: v, bytes: v }).to_string(),
        &style,
    )
}

/// Writes the rows as shown into `out` as a page; `tool` is the program and its version.
///
/// # Errors
/// There is nothing to show; those of `out`.
pub fn write_page(app: &App, look: &Look, tool: &str, out: &mut impl Write) -> Result<()> {
    let interval = app.interval().context("there is nothing to save")?;
    let reading = Excerpt::new(tool, &interval, &app.filter);
    Ok(html::write(out, &reading, html::HtmlOptions { dark: Some(!light(look)), top: app.top })?)
}

fn light(look: &Look) -> bool {
    look.theme.scheme == Scheme::Light && look.theme.depth != Depth::Mono
}

/// Saves what is shown in the current directory under a name with its time, and returns that name.
/// No file is ever overwritten.
///
/// # Errors
/// There is nothing to save, or the file cannot be created.
pub fn save(app: &App, look: &Look, form: Form, tool: &str, files: &dyn Files) -> Result<String> {
    if app.picture.matrix.is_empty() {
        bail!("there is nothing to save");
    }
    let when: String =
        rfc3339(app.picture.taken).chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    let ending = match form {
        Form::Picture => "svg",
        Form::Page => "html",
    };
    // The file appears only when complete, and a full disk leaves none behind.
    let file = files.begin().context("make a file in the current directory")?;
    let mut out = BufWriter::new(file);
    let written = match form {
        Form::Picture => write(app, look, &mut out).map_err(Into::into),
        Form::Page => write_page(app, look, tool, &mut out),
    };
    let kept = written
        .and_then(|()| Ok(out.flush()?))
        .context("write in the current directory")
        .and_then(|()| keep(files, &format!("tmon-{when}"), ending));
    if kept.is_err() {
        files.discard();
    }
    kept
}

/// The file name, without its extension, of a capture of these rows that starts at this time.
pub fn capture_stem(rows: &Filter, now: SystemTime) -> String {
    const LONGEST: usize = 56;
    let time: String = rfc3339(now).chars().take(19).filter(char::is_ascii_digit).collect();
    let (day, time) = time.split_at_checked(8).unwrap_or((&time, ""));
    let mut stem = format!("tmon-{day}-{time}");
    let rows = rows.to_string();
    for term in rows.split(' ') {
        let (key, values) = term.split_once(':').unwrap_or((term, ""));
        let not = if key.starts_with('!') { "not-" } else { "" };
        let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' };
        let values: String = values.chars().map(plain).collect();
        if stem.len() + values.len() + 5 > LONGEST {
            break;
        }
        stem += &format!("-{not}{values}");
    }
    stem
}

/// Keeps a new file under the first free name of this pattern, and returns that name.
///
/// # Errors
/// There are too many files of this name, or the operation fails.
pub fn keep(files: &dyn Files, stem: &str, ending: &str) -> Result<String> {
    for n in 1..100 {
        let name = if n == 1 { format!("{stem}.{ending}") } else { format!("{stem}-{n}.{ending}") };
        match files.keep(&name) {
            Ok(()) => return Ok(name),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => {
                return Err(e).with_context(|| format!("make {name} in the current directory"));
            }
        }
    }
    bail!("there are already many files called {stem} here")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_capture_is_named_by_time_and_filter() {
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_796_048_102);
        let stem = |rows: &str| capture_stem(&rows.parse().expect("a filter"), then);
        assert_eq!(stem("kind:vxlan vni:42"), "tmon-20261130-141502-vxlan-42");
        assert_eq!(
            stem("!host:10.0.0.0/8,2001:db8::1"),
            "tmon-20261130-141502-not-10.0.0.0-8-2001-db8--1"
        );
        assert_eq!(stem("iface:../../x"), "tmon-20261130-141502-..-..-x", "a name in this folder");
        let long = stem(&format!("vni:7 host:{}", ["10.0.0.1"; 99].join(",")));
        assert_eq!(long, "tmon-20261130-141502-7", "what is too long is left out");
    }
}
