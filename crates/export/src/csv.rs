// SPDX-License-Identifier: MIT OR Apache-2.0
//! CSV (RFC 4180): one line per row, with the time of its reading and the columns of the JSON rows; or
//! one per interface, with its books. An absent value is an empty field.
use std::{
    borrow::Cow,
    io::{self, Write},
    net::IpAddr,
};

use csv::{ErrorKind, WriterBuilder};
use serde::Serialize;

use super::{Excerpt, json::nanoseconds, tunnels};
use model::{
    flow::{Flow, HookKind, Pair, Stop},
    units::{rfc3339, sanitize},
};

/// Whether the line with the column names comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// For the first reading.
    Yes,
    /// For the readings that follow it.
    No,
}

const COLUMNS: [&str; 41] = [
    "since",
    "taken",
    "interval_ns",
    "interface",
    "tunnel",
    "vni",
    "tunnels",
    "depth",
    "outer_sip",
    "outer_dip",
    "inner_sip",
    "inner_dip",
    "outer_sname",
    "outer_dname",
    "inner_sname",
    "inner_dname",
    "vni_name",
    "counted_on",
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
    "fragments_fwd_pkts",
    "fragments_fwd_bytes",
    "fragments_rev_pkts",
    "fragments_rev_bytes",
    "dropped_pkts",
    "dropped_bytes",
    "seq_lost_pkts",
    "syn_pkts",
    "syn_unanswered",
    "syn_retries",
    "rst_fwd",
    "rst_rev",
    "handshake_ns",
];

/// The columns after these if there are groups.
const GROUPS: [&str; 2] = ["outer_sgroup", "outer_dgroup"];

/// Writes one reading. Nested tunnels share a field, outermost first: `vxlan:10000/gtpu:7`.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, reading: &Excerpt<'_>, header: Header) -> io::Result<()> {
    let mut csv = WriterBuilder::new().has_headers(false).from_writer(out);
    let groups = !reading.groups.is_empty();
    if header == Header::Yes {
        let more = GROUPS.iter().filter(|_| groups);
        csv.write_record(COLUMNS.iter().chain(more)).map_err(stream_error)?;
    }
    let (since, taken) = (rfc3339(reading.interval.since), rfc3339(reading.interval.taken));
    for flow in reading.flows.iter() {
        let row = Row::new(reading, [&since, &taken], &flow);
        match groups {
            true => csv.serialize((row, reading.groups(&flow))),
            false => csv.serialize(row),
        }
        .map_err(stream_error)?;
    }
    csv.flush()
}

/// An interface's columns before its counts.
const INTERFACE: [&str; 9] = [
    "since",
    "taken",
    "interval_ns",
    "interface",
    "netns",
    "ifindex",
    "hook",
    "counted_on",
    "stale",
];
/// The columns of each of its counts.
const WAYS: [&str; 4] = ["rx_pkts", "rx_bytes", "tx_pkts", "tx_bytes"];

/// Writes the books of a reading's interfaces: what was seen, which is the sum of what was counted
/// and of all stops. A filter applies to rows only, so it does not change them.
///
/// # Errors
/// Those of `out`.
pub fn interfaces(out: &mut dyn Write, reading: &Excerpt<'_>, header: Header) -> io::Result<()> {
    let mut csv = WriterBuilder::new().has_headers(false).from_writer(out);
    if header == Header::Yes {
        let stops = Stop::ALL.map(|stop| format!("stop_{}", stop.name()));
        let counts = ["seen", "counted"].into_iter().chain(stops.iter().map(String::as_str));
        let counts = counts.chain(["suspect", "fragments"]);
        let counts = counts.flat_map(|what| WAYS.map(|way| format!("{what}_{way}")));
        let columns = INTERFACE.into_iter().map(str::to_owned).chain(counts);
        csv.write_record(columns).map_err(stream_error)?;
    }
    let interval = reading.interval;
    let (since, taken) = (rfc3339(interval.since), rfc3339(interval.taken));
    for interface in &interval.interfaces {
        let books = &interface.books;
        let safe =
            |text: &Option<String>| text.as_deref().map(sanitize).unwrap_or_default().into_owned();
        let what = [
            since.clone(),
            taken.clone(),
            nanoseconds(interface.span).to_string(),
            sanitize(&interface.name).into_owned(),
            safe(&interface.netns),
            interface.ifindex.to_string(),
            if interface.hook == HookKind::Off { "" } else { interface.hook.name() }.to_owned(),
            safe(&interface.counted_on),
            interface.stale.to_string(),
        ];
        let stops = Stop::ALL.map(|stop| books.stop(stop));
        let counts = [books.seen(), books.counted].into_iter().chain(stops);
        let counts = counts.chain([books.suspect, books.fragments]).flatten();
        let counts = counts.flat_map(|n| [n.packets, n.bytes]).map(|n| n.to_string());
        csv.write_record(what.into_iter().chain(counts)).map_err(stream_error)?;
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
    times: [&'a str; 2],
    interval_ns: u64,
    interface: Cow<'a, str>,
    tunnel: Option<String>,
    vni: Option<u32>,
    tunnels: String,
    depth: u8,
    outer: [Option<IpAddr>; 2],
    inner: [Option<IpAddr>; 2],
    outer_names: [Option<String>; 2],
    inner_names: [Option<String>; 2],
    vni_name: Option<String>,
    counted_on: Option<Cow<'a, str>>,
    inner_proto: String,
    other: bool,
    counts: [u64; 8],
    /// Empty if there are none, as in JSON.
    fragments: [Option<u64>; 4],
    /// Empty if unknown.
    dropped: [Option<u64>; 2],
    /// Empty if the tunnel's packets have no sequence numbers.
    seq_lost: Option<u64>,
    /// Empty if no TCP connections were opened or reset.
    tcp: [Option<u64>; 6],
}

impl<'a> Row<'a> {
    fn new(reading: &'a Excerpt<'_>, times: [&'a str; 2], flow: &Flow) -> Self {
        let (key, c, names) = (&flow.key, &flow.counters, &reading.names);
        let interval = reading.interval;
        // An interface that could not be read keeps counts of an earlier time: see the JSON.
        let own = interval.interfaces.get(usize::from(flow.interface));
        let span = own.map_or(interval.elapsed, |i| i.span);
        let ends = |pair: Option<Pair>| [pair.map(|p| p.first), pair.map(|p| p.second)];
        let (outer, inner) = (ends(key.outer), ends(key.inner.pair()));
        let called =
            |ends: [Option<IpAddr>; 2], inner| ends.map(|address| names.address(address?, inner));
        let [rx, tx, fwd, rev] = [c.rx(), c.tx(), c.fwd(), c.rev()];
        let [fwd_cut, rev_cut] = [c.in_fragments().fwd(), c.in_fragments().rev()];
        let dropped = interval.dropped(flow);
        let tcp = interval.handshakes(flow);
        let fragmented = !(fwd_cut + rev_cut).is_zero();
        let named = tunnels(key)
            .map(|t| t.id.map_or_else(|| t.kind.to_string(), |id| format!("{}:{id}", t.kind)));
        Row {
            times,
            interval_ns: nanoseconds(span),
            interface: sanitize(reading.interface(flow)),
            tunnel: key.outer.map(|_| key.outermost.kind.to_string()),
            vni: key.outermost.id,
            tunnels: named.collect::<Vec<_>>().join("/"),
            depth: key.depth,
            outer,
            inner,
            outer_names: called(outer, false),
            inner_names: called(inner, true),
            vni_name: names.id(key.outermost),
            counted_on: reading.counted_on(flow).map(sanitize),
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
            fragments: [fwd_cut.packets, fwd_cut.bytes, rev_cut.packets, rev_cut.bytes]
                .map(|n| fragmented.then_some(n)),
            dropped: [dropped.map(|n| n.packets), dropped.map(|n| n.bytes)],
            seq_lost: interval.numbered(flow).map(|n| n.lost),
            tcp: [
                tcp.map(|n| n.syns),
                tcp.map(|n| n.unanswered),
                tcp.map(|n| n.retries),
                tcp.map(|n| n.resets[0]),
                tcp.map(|n| n.resets[1]),
                tcp.and_then(|n| n.time()),
            ],
        }
    }
}
