// SPDX-License-Identifier: MIT OR Apache-2.0
//! Readings for people and machines: table, JSON, CSV, a picture, a page.
//!
//! One writer per format, each a leaf. All of them return the stream's error unchanged: a closed
//! pipe is `BrokenPipe`.
use std::{
    io::{self, BufWriter, Write},
    sync::Arc,
};

use feed::names::Names;
use model::{
    detect::Finding,
    drops::DropKey,
    filter::Filter,
    flow::{Count, Counters, Flow, Key, Tunnel},
    groups::Groups,
    lens::Lens,
    returns::Returns,
    rows::SortedRows,
    snapshot::Interval,
};

pub mod csv;
pub mod html;
pub mod ipfix;
pub mod json;
pub mod lens;
pub mod openmetrics;
pub mod scrapes;
mod sticky;
pub mod svg;
pub mod table;

/// What to show of one reading: an interval, and those of its rows that match the filter.
#[derive(Clone, Debug)]
pub struct Excerpt<'a> {
    /// The tool and its version: `tmon 0.1.0`.
    pub tool: &'a str,
    /// The host that was read, or the location of the capture.
    pub host: &'a str,
    /// The interval.
    pub interval: &'a Interval,
    /// The rows that match, each once, sorted by interface and key.
    pub flows: SortedRows,
    /// The filter, as canonical text; empty without a filter.
    pub filter: String,
    /// The number of rows before filtering.
    pub rows: usize,
    kept: Filter,
    /// Whether the filter asks for interfaces by name: then each contributes what it saw.
    named: bool,
    /// The interfaces' names as shown in rows.
    interfaces: Vec<String>,
    /// The names of addresses and ids.
    names: Names,
    /// Groups of hosts.
    groups: Arc<Groups>,
    /// The findings; `None` if detectors did not run.
    findings: Option<Vec<&'a Finding>>,
    /// The contents of some rows' packets; `None` without a lens.
    lens: Option<&'a Lens>,
    /// The ids of rows' other directions.
    returns: Returns,
}

impl<'a> Excerpt<'a> {
    /// The rows of `interval` that match `filter`.
    pub fn new(tool: &'a str, interval: &'a Interval, filter: &Filter) -> Self {
        let mut flows = interval.rows.sorted();
        let (rows, returns) = (flows.len(), Returns::of(flows.iter()));
        if !filter.is_empty() {
            flows.retain(|f| filter.matches(f, name_of(interval, f)));
        }
        let interfaces = interface_names(interval);
        let named = filter.names_interfaces();
        Excerpt {
            tool,
            host: &interval.origin.host,
            interval,
            flows,
            filter: filter.to_string(),
            rows,
            named,
            kept: filter.clone(),
            interfaces,
            names: Names::default(),
            groups: Arc::default(),
            findings: None,
            lens: None,
            returns,
        }
    }

    /// Adds findings.
    #[must_use]
    pub fn with(mut self, findings: impl Iterator<Item = &'a Finding>) -> Self {
        self.findings = Some(findings.collect());
        self
    }

    /// Adds the contents of some rows' packets.
    #[must_use]
    pub fn looking(self, lens: Option<&'a Lens>) -> Self {
        Excerpt { lens, ..self }
    }

    /// Adds names, beside the addresses or, in formats for people, in their place.
    #[must_use]
    pub fn called(mut self, names: &Names) -> Self {
        self.names = names.clone();
        self
    }

    /// Adds the groups that hosts are in.
    #[must_use]
    pub fn grouped(mut self, groups: Arc<Groups>) -> Self {
        self.groups = groups;
        self
    }

    /// The groups of a row's hosts.
    fn groups(&self, flow: &Flow) -> [Option<&str>; 2] {
        let hosts = [flow.key.outer.map(|p| p.first), flow.key.outer.map(|p| p.second)];
        hosts.map(|host| self.groups.path_of(host?))
    }

    /// The name of the interface that a row belongs to: `netns/name` if two interfaces share the
    /// name.
    pub fn interface(&self, flow: &Flow) -> &str {
        self.interfaces.get(usize::from(flow.interface)).map_or("", String::as_str)
    }

    /// Whether a row of drops matches the filter: drops outside of flows match only without a
    /// filter.
    pub fn keeps(&self, drops: &DropKey) -> bool {
        let Some(key) = drops.victim.key() else { return self.filter.is_empty() };
        let device = drops.device.as_deref().unwrap_or_default();
        self.kept.matches(&Flow { interface: 0, key: *key, counters: Counters::default() }, device)
    }

    /// The interface that counts the packets of a row which contributes nothing to totals.
    pub fn counted_on(&self, flow: &Flow) -> Option<&str> {
        if self.named {
            return None;
        }
        let own = self.interval.interfaces.get(usize::from(flow.interface));
        own.and_then(|i| i.counted_on.as_deref()).or_else(|| self.passed_on(flow))
    }

    /// The same for rows of interfaces that count other packets.
    fn passed_on(&self, flow: &Flow) -> Option<&str> {
        let on = self.interval.once().passed_on(flow).filter(|_| !self.named)?;
        self.interfaces.get(usize::from(on)).map(String::as_str)
    }

    /// What a row contributes to totals: not what another interface counts.
    pub fn once(&self, flow: &Flow) -> Counters {
        if self.named { flow.counters } else { self.interval.once().share(flow) }
    }

    /// The sum of all rows that match, each packet once.
    pub fn total(&self) -> Count {
        self.flows.iter().map(|f| self.once(&f).total()).sum()
    }
}

/// A unique name for each interface.
fn interface_names(interval: &Interval) -> Vec<String> {
    let all = &interval.interfaces;
    let shared = |name: &str| all.iter().filter(|i| i.name == name).count() > 1;
    all.iter()
        .map(|i| match &i.netns {
            Some(netns) if shared(&i.name) => format!("{netns}/{}", i.name),
            _ => i.name.clone(),
        })
        .collect()
}

fn name_of<'a>(interval: &'a Interval, flow: &Flow) -> &'a str {
    interval.interfaces.get(usize::from(flow.interface)).map_or("", |i| &i.name)
}

/// A row's tunnels as listed: outermost first, none if there is no tunnel.
fn tunnels(key: &Key) -> impl Iterator<Item = Tunnel> + use<> {
    (key.depth > 0).then_some(key.outermost).into_iter().chain(key.innermost)
}

/// The output formats.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people; see [`table`].
    #[default]
    Table,
    /// One object per line; see [`json`].
    Json,
    /// One object per row and line; see [`json::flows`].
    JsonFlows,
    /// One line per row; see [`csv`].
    Csv,
    /// One line per interface; see [`csv::interfaces`].
    CsvInterfaces,
    /// The chord; see [`svg`].
    Svg(svg::SvgOptions),
    /// A self-contained page; see [`html`].
    Html(html::HtmlOptions),
}

/// Writes one reading after another to a stream.
pub struct Writer<'w> {
    out: &'w mut dyn Write,
    format: Format,
    table: table::TableOptions,
    readings: u64,
}

impl<'w> Writer<'w> {
    /// A writer to `out`, which need not be buffered. `table` matters for [`Format::Table`] only.
    pub fn new(out: &'w mut dyn Write, format: Format, table: table::TableOptions) -> Self {
        Writer { out, format, table, readings: 0 }
    }

    /// Writes a reading and flushes, so that a reader at the other end of a pipe receives it at
    /// once.
    ///
    /// # Errors
    /// Those of the stream.
    pub fn write(&mut self, reading: &Excerpt<'_>) -> io::Result<()> {
        let first = self.readings == 0;
        self.readings += 1;
        let header = if first { csv::Header::Yes } else { csv::Header::No };
        let mut out = BufWriter::with_capacity(64 << 10, &mut *self.out);
        match self.format {
            Format::Json => json::write(&mut out, reading)?,
            Format::JsonFlows => json::flows(&mut out, reading)?,
            Format::Csv => csv::write(&mut out, reading, header)?,
            Format::CsvInterfaces => csv::interfaces(&mut out, reading, header)?,
            Format::Table => {
                if !first {
                    writeln!(out)?;
                }
                table::write(&mut out, reading, &self.table)?;
                if let Some(lens) = reading.lens {
                    lens::write(&mut out, lens, &reading.names, self.table.base)?;
                }
            }
            Format::Svg(options) => svg::reading(&mut out, reading, options, self.table.base)?,
            Format::Html(options) => html::write(&mut out, reading, options)?,
        }
        out.flush()
    }
}
