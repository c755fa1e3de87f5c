// SPDX-License-Identifier: MIT OR Apache-2.0
//! JSON, schema 1 of DESIGN section 5: one object per reading, one line each.
use std::{
    borrow::Cow,
    collections::BTreeMap,
    io::{self, Write},
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::{Serialize, Serializer};
use serde_json::ser::Formatter;

use super::{Excerpt, tunnels};
use model::{
    beside::{Claim, ClaimMessage, Claimed, Handshakes, Numbered, Stream},
    detect::{Change, Finding},
    drops::{DeviceDrops, DropKey, Dropped, Drops},
    filter::TCP_FLAGS,
    flow::{Books, Count, Flow, Hook, HookKind, Key, Kind, Stop},
    groups::Groups,
    interface,
    lens::{LensEntry, LensRow, TunnelMark},
    rtt::RoundTrips,
    units::{sanitize, timestamp},
};

/// Writes one reading as one line. Rows are written while walking them: no tree is built.
///
/// # Errors
/// Those of `out`.
pub fn write(out: &mut dyn Write, reading: &Excerpt<'_>) -> io::Result<()> {
    let interval = reading.interval;
    let object = Object {
        head: DocumentHead::new(reading.tool, reading.host),
        since: timestamp(interval.since),
        taken: timestamp(interval.taken),
        interval_ns: nanoseconds(interval.elapsed),
        interfaces: interval
            .interfaces
            .iter()
            .map(|i| Interface::new(i, interval.elapsed))
            .collect(),
        hosts: hosts(interval),
        flows: Rows(reading),
        drops: interval
            .drops
            .as_deref()
            .map(|drops| drops.unavailable.is_none().then_some(DropRows { reading, drops })),
        drop_books: interval.drops.as_deref().map(DropBooks::new),
        sequences: interval
            .beside
            .numbers()
            .iter()
            .map(|(stream, n)| Sequence::new(interval, stream, n))
            .collect(),
        seq_untracked_pkts: Some(interval.beside.unnumbered()).filter(|n| *n > 0),
        icmp: said(interval, |claim| match claim.message {
            ClaimMessage::Icmp([kind, code]) => Some((kind, Some(code))),
            ClaimMessage::Gtpu(_) => None,
        }),
        gtpu: said(interval, |claim| match claim.message {
            ClaimMessage::Gtpu(kind) => Some((kind, None)),
            ClaimMessage::Icmp(_) => None,
        }),
        icmp_untracked_pkts: Some(interval.beside.unclaimed()).filter(|n| *n > 0),
        syn_untracked_pkts: Some(interval.beside.unfollowed()).filter(|n| *n > 0),
        syn_displaced_pkts: Some(interval.beside.displaced()).filter(|n| *n > 0),
        rtt: reading
            .interval
            .beside
            .round_trips()
            .iter()
            .map(|(of, n)| Timed::new(interval, of, n))
            .collect(),
        rtt_untracked_pkts: Some(interval.beside.untimed()[0]).filter(|n| *n > 0),
        rtt_displaced: Some(interval.beside.untimed()[1]).filter(|n| *n > 0),
        findings: reading
            .findings
            .as_ref()
            .map(|all| all.iter().map(|f| finding(f, &reading.groups)).collect()),
        lens: reading.lens.map(|lens| lens.rows.iter().map(Seen::new).collect()),
        lens_pkts: reading.lens.map(|lens| lens.looked_at),
        lens_lost_pkts: reading.lens.map(|lens| lens.lost),
    };
    line(out, &object)
}

/// Writes the rows of a reading, one per line, for databases and pipelines. Each has the time of
/// its reading; the fields are those of `flows` in [`write()`].
///
/// # Errors
/// Those of `out`.
pub fn flows(out: &mut dyn Write, reading: &Excerpt<'_>) -> io::Result<()> {
    let interval = reading.interval;
    let (since, taken) = (timestamp(interval.since), timestamp(interval.taken));
    for flow in reading.flows.iter() {
        // An interface that could not be read keeps counts of an earlier time.
        let own = interval.interfaces.get(usize::from(flow.interface));
        let (host, since, taken) = (reading.host, since.as_deref(), taken.as_deref());
        let interval_ns = nanoseconds(own.map_or(interval.elapsed, |i| i.span));
        let row = Row::new(reading, &flow);
        line(out, &FlowLine { schema: 1, host, since, taken, interval_ns, row })?;
    }
    Ok(())
}

#[derive(Serialize)]
struct FlowLine<'a> {
    schema: u32,
    host: &'a str,
    since: Option<&'a str>,
    taken: Option<&'a str>,
    interval_ns: u64,
    #[serde(flatten)]
    row: Row<'a>,
}

fn hosts(interval: &model::snapshot::Interval) -> Vec<FleetHost<'_>> {
    let of = |i: &&interface::Interface| i.hook == HookKind::Fleet;
    interval.interfaces.iter().filter(of).map(FleetHost::new).collect()
}

/// Writes any object as one line that is safe for a terminal.
///
/// # Errors
/// Those of `out`.
pub fn line(out: &mut dyn Write, object: &impl Serialize) -> io::Result<()> {
    object.serialize(&mut serde_json::Serializer::with_formatter(&mut *out, Harmless))?;
    writeln!(out)
}

pub(super) fn nanoseconds(t: Duration) -> u64 {
    u64::try_from(t.as_nanos()).unwrap_or(u64::MAX)
}

/// The first fields of a document: its schema, which program wrote it, and on which host.
#[derive(Serialize)]
pub struct DocumentHead<'a> {
    schema: u32,
    tool: &'a str,
    host: Cow<'a, str>,
}

impl<'a> DocumentHead<'a> {
    /// The head of a document by this program and version, about this host.
    pub fn new(tool: &'a str, host: impl Into<Cow<'a, str>>) -> DocumentHead<'a> {
        DocumentHead { schema: 1, tool, host: host.into() }
    }
}

#[derive(Serialize)]
struct Object<'a> {
    #[serde(flatten)]
    head: DocumentHead<'a>,
    since: Option<String>,
    taken: Option<String>,
    interval_ns: u64,
    interfaces: Vec<Interface<'a>>,
    /// Only for a fleet.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<FleetHost<'a>>,
    flows: Rows<'a>,
    /// Only if drops were requested; null if the kernel does not report them.
    #[serde(skip_serializing_if = "Option::is_none")]
    drops: Option<Option<DropRows<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    drop_books: Option<DropBooks<'a>>,
    /// Only if there are any: streams of numbered packets, and what is missing of them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sequences: Vec<Sequence<'a>>,
    /// Only if nonzero: numbered packets for whose stream there was no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq_untracked_pkts: Option<u64>,
    /// Only if there are any: what ICMP errors report about tunnels' packets.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    icmp: Vec<Said<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gtpu: Vec<Said<'a>>,
    /// Only if nonzero: such errors for which there was no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    icmp_untracked_pkts: Option<u64>,
    /// Only if nonzero: SYNs and RSTs for which there was no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    syn_untracked_pkts: Option<u64>,
    /// Only if nonzero: SYNs that were evicted before they could have been answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    syn_displaced_pkts: Option<u64>,
    /// Only if requested: round-trip times of rows.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rtt: Vec<Timed<'a>>,
    /// Only if nonzero: packets that could not be used for that.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_untracked_pkts: Option<u64>,
    /// Only if nonzero: connections that were evicted while being timed.
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_displaced: Option<u64>,
    /// Only if detectors ran.
    #[serde(skip_serializing_if = "Option::is_none")]
    findings: Option<Vec<Found<'a>>>,
    /// Only with a lens: the contents of some rows' packets, the number of these packets, and how
    /// many of them found no room.
    #[serde(skip_serializing_if = "Option::is_none")]
    lens: Option<Vec<Seen<'a>>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lens_pkts: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lens_lost_pkts: Option<u64>,
}

/// The tunnels and addresses of a row.
#[derive(Default, Serialize)]
struct KeyFields {
    tunnel: Option<Name>,
    vni: Option<u32>,
    tunnels: Tunnels,
    depth: Option<u8>,
    outer_sip: Option<IpAddr>,
    outer_dip: Option<IpAddr>,
    inner_sip: Option<IpAddr>,
    inner_dip: Option<IpAddr>,
}

impl KeyFields {
    fn of_row(key: &Key) -> KeyFields {
        let inner = key.inner.pair();
        let listed = tunnels(key).map(|t| Tunnel { kind: Name(t.kind), id: t.id });
        KeyFields {
            tunnel: key.outer.map(|_| Name(key.outermost.kind)),
            vni: key.outermost.id,
            tunnels: Tunnels(listed.collect()),
            depth: Some(key.depth),
            outer_sip: key.outer.map(|p| p.first),
            outer_dip: key.outer.map(|p| p.second),
            inner_sip: inner.map(|p| p.first),
            inner_dip: inner.map(|p| p.second),
        }
    }

    /// The same for packets that may be outside any tunnel or undetermined, where these are null.
    fn of_packet(key: Option<&Key>) -> KeyFields {
        let known = key.filter(|k| k.depth > 0);
        KeyFields {
            tunnel: known.map(|k| Name(k.outermost.kind)),
            vni: known.and_then(|k| k.outermost.id),
            depth: known.map(|k| k.depth),
            ..key.map(KeyFields::of_row).unwrap_or_default()
        }
    }
}

/// Round-trip times of a row, with its key as in `flows`.
#[derive(Serialize)]
struct Timed<'a> {
    interface: Option<&'a str>,
    #[serde(flatten)]
    key: KeyFields,
    /// What the first end sent.
    fwd: Trips,
    rev: Trips,
}

/// Times are null if nothing was timed.
#[derive(Serialize)]
struct Trips {
    samples: u64,
    min_ns: Option<u64>,
    mean_ns: Option<u64>,
    p50_ns: Option<u64>,
    p90_ns: Option<u64>,
    p99_ns: Option<u64>,
    max_ns: Option<u64>,
    retransmitted: u64,
    /// Retransmissions of bytes that never arrive, while smaller segments behind them do; the smallest
    /// payload of the former, and the largest of the latter.
    stuck: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    stuck_bytes: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    passed_bytes: Option<u32>,
    out_of_order: u64,
    duplicate_acks: u64,
    zero_windows: u64,
}

impl From<&RoundTrips> for Trips {
    fn from(n: &RoundTrips) -> Trips {
        let extremes = n.extremes().map(|all| all.map(nanoseconds));
        let percentile = |p| n.percentile(p).map(nanoseconds);
        Trips {
            samples: n.samples,
            min_ns: extremes.map(|[least, _]| least),
            mean_ns: n.mean().map(nanoseconds),
            p50_ns: percentile(50),
            p90_ns: percentile(90),
            p99_ns: percentile(99),
            max_ns: extremes.map(|[_, most]| most),
            retransmitted: n.retransmitted,
            stuck: n.stuck,
            stuck_bytes: n.too_big,
            passed_bytes: n.passed,
            out_of_order: n.out_of_order,
            duplicate_acks: n.duplicate_acks,
            zero_windows: n.zero_windows,
        }
    }
}

impl<'a> Timed<'a> {
    fn new(
        interval: &'a model::snapshot::Interval,
        (interface, key): &(u64, Key),
        [fwd, rev]: &[RoundTrips; 2],
    ) -> Self {
        let on = interval.interfaces.iter().find(|i| i.id == *interface);
        Timed {
            interface: on.map(|i| &*i.name),
            key: KeyFields::of_row(key),
            fwd: fwd.into(),
            rev: rev.into(),
        }
    }
}

#[derive(Serialize)]
struct Sequence<'a> {
    interface: Option<&'a str>,
    hook: &'static str,
    tunnel: Name,
    id: u32,
    outer_sip: IpAddr,
    outer_dip: IpAddr,
    pkts: u64,
    lost: u64,
    late: u64,
    duplicate: u64,
    restarted: u64,
    /// Current values: the highest number, and how many of the 64 below it may still arrive.
    highest: u64,
    missing: u64,
}

impl<'a> Sequence<'a> {
    fn new(interval: &'a model::snapshot::Interval, stream: &Stream, n: &Numbered) -> Self {
        Sequence {
            interface: interval.name_of(stream.interface),
            hook: match stream.hook {
                Hook::Rx => "rx",
                Hook::Tx => "tx",
            },
            tunnel: Name(stream.kind),
            id: stream.id,
            outer_sip: stream.from,
            outer_dip: stream.to,
            pkts: n.packets,
            lost: n.lost,
            late: n.late,
            duplicate: n.duplicate,
            restarted: n.restarted,
            highest: n.highest,
            missing: n.missing,
        }
    }
}

/// A claim about packets of a tunnel.
#[derive(Serialize)]
struct Said<'a> {
    interface: Option<&'a str>,
    says: &'static str,
    by: IpAddr,
    r#type: u8,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u8>,
    mtu: Option<u32>,
    tunnel: Name,
    vni: Option<u32>,
    outer_sip: IpAddr,
    outer_dip: IpAddr,
    pkts: u64,
    /// Only for echo requests that were answered: the mean time to the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    echo_ns: Option<u64>,
}

/// What messages of this type, and code if they have one, report.
fn said(
    interval: &model::snapshot::Interval,
    message: impl Fn(&Claim) -> Option<(u8, Option<u8>)>,
) -> Vec<Said<'_>> {
    let of = |(claim, n): (&Claim, &Claimed)| {
        let (kind, code) = message(claim)?;
        Some(Said {
            interface: interval.name_of(claim.interface),
            says: claim.saying().name(),
            by: claim.who,
            r#type: kind,
            code,
            mtu: n.mtu,
            tunnel: Name(claim.tunnel.kind),
            vni: claim.tunnel.id,
            outer_sip: claim.from,
            outer_dip: claim.to,
            pkts: n.packets,
            echo_ns: n.echo_time().map(nanoseconds),
        })
    };
    interval.beside.claims().iter().filter_map(of).collect()
}

/// A finding, as `dump`, `watch` and commands of `watch --exec` receive it.
#[derive(Serialize)]
struct Found<'a> {
    kind: &'static str,
    severity: &'static str,
    since: Option<String>,
    until: Option<String>,
    #[serde(rename = "where")]
    place: Where<'a>,
    text: &'a str,
    evidence: Evidence<'a>,
    /// Only if true: `--ignore` lists it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    muted: bool,
}

#[derive(Serialize)]
struct Where<'a> {
    interface: Option<&'a str>,
    tunnel: Option<Name>,
    vni: Option<u32>,
    outer_sip: Option<IpAddr>,
    outer_dip: Option<IpAddr>,
    inner_sip: Option<IpAddr>,
    inner_dip: Option<IpAddr>,
    /// Only if there are any: the groups of the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    outer_sgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outer_dgroup: Option<&'a str>,
    /// Only if one subject can have several.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

#[derive(Serialize)]
struct Evidence<'a> {
    #[serde(flatten)]
    counts: &'a BTreeMap<&'static str, u64>,
    /// Only if there was one: the most recent relevant configuration change before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Event<'a>>,
}

#[derive(Serialize)]
struct Event<'a> {
    at: Option<String>,
    text: &'a str,
}

fn finding<'a>(f: &'a Finding, groups: &'a Groups) -> Found<'a> {
    let p = &f.place;
    Found {
        kind: f.topic.name(),
        severity: f.severity.name(),
        since: timestamp(f.since),
        until: f.until.and_then(timestamp),
        place: Where {
            interface: p.interface.as_deref(),
            tunnel: p.tunnel.map(|t| Name(t.kind)),
            vni: p.tunnel.and_then(|t| t.id),
            outer_sip: p.outer_from,
            outer_dip: p.outer_to,
            inner_sip: p.inner_from,
            inner_dip: p.inner_to,
            outer_sgroup: p.outer_from.and_then(|host| groups.path_of(host)),
            outer_dgroup: p.outer_to.and_then(|host| groups.path_of(host)),
            reason: p.reason.as_deref(),
        },
        text: &f.text,
        evidence: Evidence {
            counts: &f.counts,
            event: f.event.as_ref().map(|e| Event { at: timestamp(e.at), text: &e.text }),
        },
        muted: f.muted,
    }
}

/// What happened to a finding, and its present state.
#[derive(Serialize)]
struct Changed<'a> {
    #[serde(flatten)]
    head: DocumentHead<'a>,
    at: Option<String>,
    change: &'static str,
    #[serde(flatten)]
    finding: Found<'a>,
}

/// Writes what happened to a finding, as one line.
///
/// # Errors
/// Those of `out`.
pub fn change(
    out: &mut dyn Write,
    (tool, host): (&str, &str),
    at: SystemTime,
    change: Change,
    f: &Finding,
    groups: &Groups,
) -> io::Result<()> {
    let (at, change) = (timestamp(at), change.name());
    let head = DocumentHead::new(tool, host);
    line(out, &Changed { head, at, change, finding: finding(f, groups) })
}

#[derive(Serialize)]
struct Interface<'a> {
    name: &'a str,
    ifindex: u32,
    netns: Option<&'a str>,
    hook: Option<&'static str>,
    /// Only if there is one: the other interface that counts these packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_on: Option<&'a str>,
    /// Only if true: what follows is from an earlier reading.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    stale: bool,
    /// Only if it differs from the reading's: the time span of what follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    interval_ns: Option<u64>,
    /// Only if `tmon attach` attached the programs: when.
    #[serde(skip_serializing_if = "Option::is_none")]
    attached: Option<String>,
    seen: Counts,
    counted: Counts,
    stops: Stops,
    suspect: Counts,
    /// Only if there are any: fragments of outer packets, also in `counted`.
    #[serde(skip_serializing_if = "Option::is_none")]
    fragments: Option<Counts>,
}

impl<'a> Interface<'a> {
    fn new(i: &'a interface::Interface, elapsed: Duration) -> Self {
        Interface {
            name: &i.name,
            ifindex: i.ifindex,
            netns: i.netns.as_deref(),
            hook: (i.hook != HookKind::Off).then(|| i.hook.name()),
            counted_on: i.counted_on.as_deref(),
            stale: i.stale,
            interval_ns: (i.span != elapsed).then(|| nanoseconds(i.span)),
            attached: i.attached.and_then(timestamp),
            seen: i.books.seen().into(),
            counted: i.books.counted.into(),
            stops: Stops(i.books),
            suspect: i.books.suspect.into(),
            fragments: i
                .books
                .fragments
                .iter()
                .any(|n| !n.is_zero())
                .then(|| i.books.fragments.into()),
        }
    }
}

/// Counts by hook.
#[derive(Serialize)]
struct Counts {
    rx_pkts: u64,
    rx_bytes: u64,
    tx_pkts: u64,
    tx_bytes: u64,
}

impl From<[Count; 2]> for Counts {
    fn from([rx, tx]: [Count; 2]) -> Self {
        Counts { rx_pkts: rx.packets, rx_bytes: rx.bytes, tx_pkts: tx.packets, tx_bytes: tx.bytes }
    }
}

struct Stops(Books);

impl Serialize for Stops {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_map(Stop::ALL.map(|stop| (stop.name(), Counts::from(self.0.stop(stop)))))
    }
}

struct Rows<'a>(&'a Excerpt<'a>);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_seq(self.0.flows.iter().map(|f| Row::new(self.0, &f)))
    }
}

#[derive(Serialize)]
struct Row<'a> {
    interface: &'a str,
    #[serde(flatten)]
    key: KeyFields,
    /// Only if the other direction is in other rows, as in GTP-U: their ids.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    return_vnis: Vec<u32>,
    /// Names, only if there are any: those of the addresses and, with its id, of the outermost
    /// tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    outer_sname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outer_dname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_sname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    inner_dname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    vni_name: Option<String>,
    /// Only if there are any: the groups of the hosts.
    #[serde(skip_serializing_if = "Option::is_none")]
    outer_sgroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outer_dgroup: Option<&'a str>,
    /// Only if the row contributes nothing to totals: the interface that counts the same packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    counted_on: Option<&'a str>,
    inner_proto: String,
    other: bool,
    rx_pkts: u64,
    rx_bytes: u64,
    tx_pkts: u64,
    tx_bytes: u64,
    fwd_pkts: u64,
    fwd_bytes: u64,
    rev_pkts: u64,
    rev_bytes: u64,
    /// Only if there are any: the part that arrived in fragments of outer packets.
    #[serde(skip_serializing_if = "Option::is_none")]
    fragments: Option<Ways>,
    /// Only if drops were requested; null if the kernel does not report them.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_pkts: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped_bytes: Option<Option<u64>>,
    /// Only if the tunnel's packets have sequence numbers: the missing ones, over all its rows.
    #[serde(skip_serializing_if = "Option::is_none")]
    seq_lost_pkts: Option<u64>,
    /// Only if TCP connections were opened or reset.
    #[serde(flatten)]
    tcp: Option<Tcp>,
    /// Only for a fleet.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    ends: Option<Ends>,
}

/// TCP handshakes and resets of a row.
#[derive(Serialize)]
struct Tcp {
    syn_pkts: u64,
    syn_unanswered: u64,
    syn_retries: u64,
    rst_fwd: u64,
    rst_rev: u64,
    /// The mean time from a SYN to its answer as seen here. Null if none was answered by a SYN.
    handshake_ns: Option<u64>,
}

impl From<Handshakes> for Tcp {
    fn from(n: Handshakes) -> Tcp {
        let [rst_fwd, rst_rev] = n.resets;
        Tcp {
            syn_pkts: n.syns,
            syn_unanswered: n.unanswered,
            syn_retries: n.retries,
            rst_fwd,
            rst_rev,
            handshake_ns: n.time(),
        }
    }
}

/// What both ends counted; null if one of them is not in the fleet.
#[derive(Default, Serialize)]
struct Ends {
    sent_pkts: Option<u64>,
    received_pkts: Option<u64>,
    lost_pkts: Option<u64>,
    surplus_pkts: Option<u64>,
    lost_bound_pkts: Option<u64>,
    sent_bytes: Option<u64>,
    received_bytes: Option<u64>,
}

impl Ends {
    fn new(reading: &Excerpt<'_>, flow: &Flow) -> Ends {
        let Some(n) = reading.interval.both_ends(flow) else { return Ends::default() };
        Ends {
            sent_pkts: Some(n.sent.packets),
            received_pkts: Some(n.received.packets),
            lost_pkts: Some(n.lost),
            surplus_pkts: Some(n.surplus),
            lost_bound_pkts: Some(n.bound),
            sent_bytes: Some(n.sent.bytes),
            received_bytes: Some(n.received.bytes),
        }
    }
}

/// A host of a fleet.
#[derive(Serialize)]
struct FleetHost<'a> {
    name: &'a str,
    /// `live`, `silent` or `left`.
    state: &'static str,
    since: Option<String>,
    taken: Option<String>,
    cadence_ns: Option<u64>,
    /// The uncertainty of its clock and its readings, in time.
    error_ns: Option<u64>,
    synchronised: Option<bool>,
    /// How far its clock is off from most others', if that is too much to measure loss.
    clock_off_ns: Option<u64>,
    /// How much of the period it does not cover.
    missing_ns: Option<u64>,
    /// The share of the packets it saw that are in rows; null if it saw none.
    coverage: Option<f64>,
    table_used: u64,
    table_size: u64,
    tool: Option<&'a str>,
    addresses: &'a [IpAddr],
}

/// Writes the hosts of a fleet, one per line.
///
/// # Errors
/// Those of `out`.
pub fn fleet(out: &mut dyn Write, interval: &model::snapshot::Interval) -> io::Result<()> {
    hosts(interval).iter().try_for_each(|host| line(out, host))
}

impl<'a> FleetHost<'a> {
    fn new(i: &'a interface::Interface) -> Self {
        let host = i.host.as_deref();
        let both = |c: [Count; 2]| c[0].packets.saturating_add(c[1].packets);
        let (counted, seen) = (both(i.books.counted), both(i.books.seen()));
        FleetHost {
            name: &i.name,
            state: host.map_or("left", |h| h.state.name()),
            since: host.and_then(|h| h.since).and_then(timestamp),
            taken: host.and_then(|h| h.taken).and_then(timestamp),
            cadence_ns: host.map(|h| nanoseconds(h.cadence)),
            error_ns: host.map(|h| nanoseconds(h.error)),
            synchronised: host.map(|h| h.synchronised),
            clock_off_ns: host.and_then(|h| h.off).map(nanoseconds),
            missing_ns: host.map(|h| nanoseconds(h.missing)),
            coverage: (seen > 0).then(|| counted as f64 / seen as f64),
            table_used: i.fill.used,
            table_size: i.fill.size,
            tool: host.map(|h| h.tool.as_str()),
            addresses: host.map_or(&[], |h| &h.local),
        }
    }
}

/// Counts by direction in the row.
#[derive(Serialize)]
struct Ways {
    fwd_pkts: u64,
    fwd_bytes: u64,
    rev_pkts: u64,
    rev_bytes: u64,
}

impl Ways {
    fn any(fwd: Count, rev: Count) -> Option<Ways> {
        let ways = Ways {
            fwd_pkts: fwd.packets,
            fwd_bytes: fwd.bytes,
            rev_pkts: rev.packets,
            rev_bytes: rev.bytes,
        };
        (!(fwd + rev).is_zero()).then_some(ways)
    }
}

impl<'a> Row<'a> {
    fn new(reading: &'a Excerpt<'_>, flow: &Flow) -> Self {
        let (interface, names) = (reading.interface(flow), &reading.names);
        let (key, c) = (&flow.key, &flow.counters);
        let inner = key.inner.pair();
        let dropped = reading.interval.drops.as_ref().map(|_| reading.interval.dropped(flow));
        let [rx, tx, fwd, rev] = [c.rx(), c.tx(), c.fwd(), c.rev()];
        let [outer_sgroup, outer_dgroup] = reading.groups(flow);
        Row {
            interface,
            key: KeyFields::of_row(key),
            return_vnis: reading.returns.ids(flow).collect(),
            outer_sname: key.outer.and_then(|p| names.address(p.first, false)),
            outer_dname: key.outer.and_then(|p| names.address(p.second, false)),
            inner_sname: inner.and_then(|p| names.address(p.first, true)),
            inner_dname: inner.and_then(|p| names.address(p.second, true)),
            vni_name: names.id(key.outermost),
            outer_sgroup,
            outer_dgroup,
            counted_on: reading.counted_on(flow),
            inner_proto: key.inner.proto(),
            other: key.other,
            rx_pkts: rx.packets,
            rx_bytes: rx.bytes,
            tx_pkts: tx.packets,
            tx_bytes: tx.bytes,
            fwd_pkts: fwd.packets,
            fwd_bytes: fwd.bytes,
            rev_pkts: rev.packets,
            rev_bytes: rev.bytes,
            fragments: Ways::any(c.in_fragments().fwd(), c.in_fragments().rev()),
            dropped_pkts: dropped.map(|n| n.map(|n| n.packets)),
            dropped_bytes: dropped.map(|n| n.map(|n| n.bytes)),
            seq_lost_pkts: reading.interval.numbered(flow).map(|n| n.lost),
            tcp: reading.interval.handshakes(flow).map(Tcp::from),
            ends: reading.interval.once().is_of_fleet().then(|| Ends::new(reading, flow)),
        }
    }
}

/// What the kernel dropped: the rows that match the filter.
struct DropRows<'a> {
    reading: &'a Excerpt<'a>,
    drops: &'a Drops,
}

impl Serialize for DropRows<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        let kept = self.drops.rows.iter().filter(|(key, _)| self.reading.keeps(key));
        s.collect_seq(kept.map(|(key, dropped)| DropRow::new(key, dropped)))
    }
}

#[derive(Serialize)]
struct DropRow<'a> {
    reason: &'a str,
    device: Option<&'a str>,
    netns: Option<&'a str>,
    /// Only if true.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    elsewhere: bool,
    /// What was dropped: a tunnel's packet, a packet outside any tunnel, or undetermined.
    of: &'static str,
    pkts: u64,
    bytes: u64,
    fwd_pkts: u64,
    rev_pkts: u64,
    first: Option<String>,
    last: Option<String>,
    #[serde(flatten)]
    key: KeyFields,
    inner_proto: Option<String>,
}

impl<'a> DropRow<'a> {
    fn new(key: &'a DropKey, dropped: &Dropped) -> Self {
        let (of, total) = (key.victim.key(), dropped.total());
        DropRow {
            reason: &key.reason,
            device: key.device.as_deref(),
            netns: key.netns.as_deref(),
            elsewhere: key.elsewhere,
            of: key.victim.name(),
            pkts: total.packets,
            bytes: total.bytes,
            fwd_pkts: dropped.counts[0].packets,
            rev_pkts: dropped.counts[1].packets,
            first: timestamp(dropped.first),
            last: timestamp(dropped.last),
            key: KeyFields::of_packet(of),
            inner_proto: of.map(|k| k.inner.proto()),
        }
    }
}

/// A row examined by a lens.
#[derive(Serialize)]
struct Seen<'a> {
    interface: &'a str,
    #[serde(flatten)]
    key: KeyFields,
    inner_proto: Option<String>,
    entries: Vec<SeenEntry>,
}

/// The packets of the row with the same contents.
#[derive(Serialize)]
struct SeenEntry {
    dir: &'static str,
    l4: Option<u8>,
    /// The lower port, and the higher one.
    port: Option<u16>,
    other_port: Option<u16>,
    outer_dscp: Option<u8>,
    outer_ecn: Option<u8>,
    outer_ttl: Option<u8>,
    inner_dscp: Option<u8>,
    inner_ecn: Option<u8>,
    inner_ttl: Option<u8>,
    /// Longer than this, and at most `size_max`.
    size_over: u32,
    size_max: Option<u32>,
    tcp_flags: Vec<&'static str>,
    /// What the outermost tunnel's header says beside its id: GTP-U, VXLAN-GBP, Geneve of OVN.
    qfi: Option<u8>,
    group_policy: Option<u16>,
    logical_in: Option<u16>,
    logical_out: Option<u16>,
    pkts: u64,
    bytes: u64,
}

impl<'a> Seen<'a> {
    fn new(row: &'a LensRow) -> Self {
        let key = row.key.as_ref();
        Seen {
            interface: &row.interface,
            key: KeyFields::of_packet(key),
            inner_proto: key.map(|k| k.inner.proto()),
            entries: row.entries.iter().map(SeenEntry::new).collect(),
        }
    }
}

impl SeenEntry {
    fn new(e: &LensEntry) -> Self {
        let set = TCP_FLAGS.iter().enumerate().filter(|(n, _)| e.tcp >> n & 1 != 0);
        let [outer, inner] = e.tos;
        let (qfi, group_policy, logical) = match e.mark {
            Some(TunnelMark::Qfi(flow)) => (Some(flow), None, None),
            Some(TunnelMark::Group(group)) => (None, Some(group), None),
            Some(TunnelMark::Logical(from, to)) => (None, None, Some((from, to))),
            None => (None, None, None),
        };
        SeenEntry {
            dir: if e.reverse { "rev" } else { "fwd" },
            l4: e.l4,
            port: e.ports.map(|p| p[0]),
            other_port: e.ports.map(|p| p[1]),
            outer_dscp: outer.map(|t| t >> 2),
            outer_ecn: outer.map(|t| t & 3),
            outer_ttl: e.ttl[0],
            inner_dscp: inner.map(|t| t >> 2),
            inner_ecn: inner.map(|t| t & 3),
            inner_ttl: e.ttl[1],
            size_over: e.size.0,
            size_max: e.size.1,
            tcp_flags: set.map(|(_, name)| *name).collect(),
            qfi,
            group_policy,
            logical_in: logical.map(|l| l.0),
            logical_out: logical.map(|l| l.1),
            pkts: e.count.packets,
            bytes: e.count.bytes,
        }
    }
}

/// `seen = attributed + plain + unknown`, over all reasons; and what is not attributed to any.
#[derive(Serialize)]
struct DropBooks<'a> {
    unavailable: Option<&'a str>,
    seen: Pkts,
    attributed: Pkts,
    plain: Pkts,
    unknown: Pkts,
    elsewhere_pkts: u64,
    missed_pkts: u64,
    devices: Vec<Device<'a>>,
}

#[derive(Serialize)]
struct Pkts {
    pkts: u64,
    bytes: u64,
}

/// A device's own counters.
#[derive(Serialize)]
struct Device<'a> {
    device: &'a str,
    netns: Option<&'a str>,
    rx_dropped: u64,
    rx_missed: u64,
    tx_dropped: u64,
    qdisc_dropped: u64,
}

impl<'a> DropBooks<'a> {
    fn new(drops: &'a Drops) -> Self {
        let pkts = |n: Count| Pkts { pkts: n.packets, bytes: n.bytes };
        let total = drops.total();
        let device = |((netns, device), n): (&'a (_, Arc<str>), &DeviceDrops)| {
            let netns: &Option<Arc<str>> = netns;
            Device {
                device,
                netns: netns.as_deref(),
                rx_dropped: n.rx_dropped,
                rx_missed: n.rx_missed,
                tx_dropped: n.tx_dropped,
                qdisc_dropped: n.qdisc,
            }
        };
        DropBooks {
            unavailable: drops.unavailable.as_deref(),
            seen: pkts(total.seen()),
            attributed: pkts(total.attributed),
            plain: pkts(total.plain),
            unknown: pkts(total.unknown),
            elsewhere_pkts: drops.elsewhere,
            missed_pkts: drops.missed,
            devices: drops.devices.iter().map(device).collect(),
        }
    }
}

#[derive(Default, Serialize)]
struct Tunnels(Vec<Tunnel>);

#[derive(Serialize)]
struct Tunnel {
    kind: Name,
    id: Option<u32>,
}

struct Name(Kind);

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&self.0)
    }
}

/// Compact JSON that is safe for a terminal: what would harm one and JSON itself permits (C1,
/// bidirectional overrides, invisible characters) is written as `\u` escapes. The values stay the
/// same.
struct Harmless;

impl Formatter for Harmless {
    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_ascii() && !fragment.contains('\x7f') {
            return out.write_all(fragment.as_bytes());
        }
        for c in fragment.chars() {
            let mut utf8 = [0; 4];
            let text = c.encode_utf8(&mut utf8);
            if sanitize(text) == *text {
                out.write_all(text.as_bytes())?;
            } else {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }
}
