// SPDX-License-Identifier: MIT OR Apache-2.0
//! The results of a lens as text: one table per row.
use std::io::{self, Write};

use feed::names::Names;
use model::{
    filter::{TCP_FLAGS, l4_name},
    flow::Count,
    lens::{Lens, LensEntry},
    units::{self, Base, sanitize},
};

/// The maximum number of lines per row.
const MOST: usize = 40;
/// The columns of a mark.
const MARK: usize = 20;
/// The columns of the bar.
const BAR: u64 = 20;

/// Writes the tables.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, lens: &Lens, names: &Names, base: Base) -> io::Result<()> {
    let filter = if lens.filter.is_empty() { "all rows" } else { &lens.filter };
    writeln!(
        out,
        "\nlens {}: {} rows, {} packets, {} lens-lost",
        sanitize(filter),
        lens.rows.len(),
        lens.looked_at,
        lens.lost
    )?;
    for row in &lens.rows {
        let key = row
            .key
            .as_ref()
            .map_or("rows that could not be kept apart".to_owned(), |k| k.to_string());
        writeln!(out, "\n{}: {key}", sanitize(&row.interface))?;
        // Columns that are empty for this tunnel are left out.
        let marked = row.entries.iter().any(|e| e.mark.is_some());
        let (mark, width) = if marked { ("mark", MARK) } else { ("", 0) };
        writeln!(
            out,
            "{:<4}{:<8}{:>6}{:>7} {:<9}{:<9}{:<12}{:<20}{mark:<width$}{:>10}{:>10}  service",
            "way", "l4", "port", "other", "dscp.ecn", "ttl", "size", "flags", "packets", "bytes"
        )?;
        let all: Count = row.entries.iter().map(|e| e.count).sum();
        for e in row.entries.iter().take(MOST) {
            let mark = e.mark.filter(|_| width > 0).map_or(String::new(), |mark| mark.to_string());
            let service = e
                .l4
                .zip(e.ports)
                .and_then(|(l4, ports)| ports.into_iter().find_map(|port| names.service(l4, port)));
            let bar = (e.count.packets * BAR).div_ceil(all.packets.max(1)) as usize;
            writeln!(
                out,
                "{:<4}{:<8}{:>6}{:>7} {:<9}{:<9}{:<12}{:<20}{mark:<width$}{:>10}{:>10}  {:<12} {}",
                if e.reverse { "rev" } else { "fwd" },
                e.l4.map_or("-".into(), l4_name),
                e.ports.map_or("-".to_owned(), |p| p[0].to_string()),
                e.ports.map_or("-".to_owned(), |p| p[1].to_string()),
                outer_inner(e.tos.map(|tos| tos.map(|t| format!("{}.{}", t >> 2, t & 3)))),
                outer_inner(e.ttl.map(|ttl| ttl.map(|t| t.to_string()))),
                size(e),
                flags(e.tcp),
                e.count.packets,
                units::bytes(e.count.bytes, base).to_string(),
                service.unwrap_or("-"),
                "#".repeat(bar),
            )?;
        }
        if let Some(rest) = row.entries.get(MOST..).filter(|rest| !rest.is_empty()) {
            let count: Count = rest.iter().map(|e| e.count).sum();
            writeln!(out, "and {} more with {} packets", rest.len(), count.packets)?;
        }
    }
    Ok(())
}

/// An outer and an inner value as text.
pub fn outer_inner(values: [Option<String>; 2]) -> String {
    let [outer, inner] = values.map(|v| v.unwrap_or_else(|| "-".to_owned()));
    format!("{outer}/{inner}")
}

fn size(e: &LensEntry) -> String {
    match e.size {
        (least, Some(most)) => format!("{}-{most}", least + 1),
        (least, None) => format!(">{least}"),
    }
}

/// Names of TCP flags, joined.
pub fn flags(tcp: u8) -> String {
    let set = TCP_FLAGS.iter().enumerate().filter(|(n, _)| tcp >> n & 1 != 0);
    let names: Vec<_> = set.map(|(_, name)| *name).collect();
    if names.is_empty() { "-".to_owned() } else { names.join("+") }
}
