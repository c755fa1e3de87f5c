// SPDX-License-Identifier: MIT OR Apache-2.0
//! The picture as a file for a ticket.
use std::{fs::File, io::BufWriter, io::Write};

use anyhow::{Context, Result, bail};

use crate::{
    export::svg::{self, SvgEnd, SvgStyle},
    flow::Count,
    tui::{
        app::App,
        look::Look,
        stage::label,
        table_view::tunnel_name,
        theme::{Depth, Scheme},
    },
    units::{duration, rfc3339},
};

/// Writes the chord of what is shown into `out` as SVG, in the colours of the screen.
///
/// # Errors
/// Those of `out`.
pub fn write(app: &App, look: &Look, out: &mut impl Write) -> std::io::Result<()> {
    let p = &app.picture;
    let m = &p.matrix;
    let n = m.len();
    let ends: Vec<SvgEnd> = m.ends.iter().map(|e| SvgEnd { label: label(*e, m.folded), colour: look.colour(*e) }).collect();
    let square: Vec<Vec<u64>> = (0..n).map(|i| (0..n).map(|j| app.measure(m.get(i, j))).collect()).collect();
    let mut title = vec!["hosts".to_owned()];
    title.extend(app.crumbs.iter().map(|c| c.label.clone()));
    let mut title = title.join(" › ");
    if let Some(t) = app.tunnel {
        title = format!("{title} · {}", tunnel_name(t));
    }
    if !app.filter.is_empty() {
        title = format!("{title} · {}", app.filter_text);
    }
    let names: Vec<&str> = p.interfaces.iter().map(|i| i.name.as_str()).collect();
    let note =
        format!("{} · {} to {} ({}) · {}", names.join(" "), rfc3339(p.since), rfc3339(p.taken), duration(p.elapsed), app.unit_name());
    let light = look.theme.scheme == Scheme::Light && look.theme.depth != Depth::Mono;
    let style = if light { SvgStyle::light(title, note) } else { SvgStyle::dark(title, note) };
    // an amount is in the measure, bytes or packets: the text says it in the unit
    svg::write(out, &ends, &square, |v| app.quantity(Count { packets: v, bytes: v }).to_string(), &style)
}

/// Saves the chord in the current directory under a name that says when it is of, and returns
/// that name. No file is ever overwritten.
///
/// # Errors
/// There is nothing to draw, or the file cannot be made.
pub fn save(app: &App, look: &Look) -> Result<String> {
    if app.picture.matrix.is_empty() {
        bail!("there is nothing to save");
    }
    let when: String = rfc3339(app.picture.taken).chars().take(19).filter(|c| !matches!(c, '-' | ':')).collect();
    for n in 1..100 {
        let name = if n == 1 { format!("tmon-{when}.svg") } else { format!("tmon-{when}-{n}.svg") };
        match File::create_new(&name) {
            Ok(file) => {
                let mut out = BufWriter::new(file);
                write(app, look, &mut out).and_then(|()| out.flush()).with_context(|| format!("write {name}"))?;
                return Ok(name);
            }
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e).with_context(|| format!("make {name} in the current directory")),
        }
    }
    bail!("there are already many pictures of {when} here")
}
