// SPDX-License-Identifier: MIT OR Apache-2.0
//! CSV (RFC 4180): one line per row, the columns of the JSON rows. Absent is an empty field.
use std::{
    io::{self, Write},
    net::IpAddr,
};

use csv::{ErrorKind, WriterBuilder};
use serde::Serialize;

use super::{Reading, tunnels};
use crate::{flow::Flow, units::sanitize};

/// Whether the line with the names of the columns comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// As in the first reading.
    Yes,
    /// As in those that follow it.
    No,
}

const COLUMNS: [&str; 20] = [
    "interface",
    "tunnel",
    "vni",
    "tunnels",
    "depth",
    "outer_sip",
    "outer_dip",
    "inner_sip",
    "inner_dip",
    "inner_proto",
    "other",
    "rx_pkts",
    "rx_bytes",
    "tx_pkts",
    "tx_bytes",
    "fwd_pkts",
    "fwd_bytes",
    "rev_pkts",
    "rev_bytes",
    "counted_on",
];

/// Writes one reading. Nested tunnels are one field, outermost first: `vxlan:10000/gtpu:7`.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, reading: &Reading<'_>, header: Header) -> io::Result<()> {
    let mut csv = WriterBuilder::new().has_headers(false).from_writer(out);
    if header == Header::Yes {
        csv.write_record(COLUMNS).map_err(stream_error)?;
    }
    for flow in &reading.flows {
        let counted_on = reading.counted_on(flow).map(sanitize);
        csv.serialize(Row::new(&sanitize(reading.interface(flow)), flow, counted_on.as_deref()))
            .map_err(stream_error)?;
    }
    csv.flush()
}

/// The stream's own error: the `csv` crate's conversion would hide a closed pipe.
fn stream_error(e: csv::Error) -> io::Error {
    match e.into_kind() {
        ErrorKind::Io(e) => e,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// In the order of [`COLUMNS`].
#[derive(Serialize)]
struct Row<'a> {
    interface: &'a str,
    tunnel: Option<String>,
    vni: Option<u32>,
    tunnels: String,
    depth: u8,
    outer: [Option<IpAddr>; 2],
    inner: [Option<IpAddr>; 2],
    inner_proto: String,
    other: bool,
    counts: [u64; 8],
    counted_on: Option<&'a str>,
}

impl<'a> Row<'a> {
    fn new(interface: &'a str, flow: &Flow, counted_on: Option<&'a str>) -> Self {
        let (key, c) = (&flow.key, &flow.counters);
        let ends =
            |pair: Option<crate::flow::Pair>| [pair.map(|p| p.first), pair.map(|p| p.second)];
        let [rx, tx, fwd, rev] = [c.rx(), c.tx(), c.fwd(), c.rev()];
        let named = tunnels(key)
            .map(|t| t.id.map_or_else(|| t.kind.to_string(), |id| format!("{}:{id}", t.kind)));
        Row {
            interface,
            tunnel: key.outer.map(|_| key.outermost.kind.to_string()),
            vni: key.outermost.id,
            tunnels: named.collect::<Vec<_>>().join("/"),
            depth: key.depth,
            outer: ends(key.outer),
            inner: ends(key.inner.pair()),
            inner_proto: key.inner.proto(),
            other: key.other,
            counts: [
                rx.packets,
                rx.bytes,
                tx.packets,
                tx.bytes,
                fwd.packets,
                fwd.bytes,
                rev.packets,
                rev.bytes,
            ],
            counted_on,
        }
    }
}
