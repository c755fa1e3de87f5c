// SPDX-License-Identifier: MIT OR Apache-2.0
//! Decodes frames to intervals. The sender is not trusted: everything is checked before it is used.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use foldhash::HashSet;
use prost::{
    Message,
    encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field},
};

use super::{
    Frame, FrameKind, MOST_BYTES, MOST_CHARACTERS, MOST_INTERFACES, MOST_LOCAL, MOST_MESSAGES,
    MOST_ROWS, SCHEMA, time,
    wire::{
        self, BesideMessage, CHECKSUM_BYTES, DropMessage, DropsMessage, FrameMessage,
        InterfaceMessage, OverlayMessage,
    },
};
use model::{
    beside::{
        Beside, Claim, ClaimMessage, Claimed, Gathered, Handshakes, Numbered, Opener, Stream,
    },
    drops::{DeviceDrops, DropKey, Dropped, Drops, Victim},
    flow::{Books, Count, Hook, HookKind, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    interface::{Fill, Interface, Origin},
    overlay::{Device, Entry, Event, Mac, Narrow, Overlay, Segment},
    rows::{Part, Rows},
    snapshot::Interval,
    units::sanitize,
};

/// The fields of a frame that are messages, and those whose messages contain messages themselves.
const INTERFACES: u32 = 13;
const WITH_MESSAGES: std::ops::RangeInclusive<u32> = 40..=42;

/// The number of messages, texts and columns within messages, counted before memory is allocated
/// for them: two bytes can encode a message that takes a hundred.
fn messages(mut bytes: &[u8], inside: bool) -> Result<usize> {
    let mut count = 0;
    while !bytes.is_empty() {
        let (field, kind) = decode_key(&mut bytes)?;
        if kind != WireType::LengthDelimited {
            skip_field(kind, field, &mut bytes, DecodeContext::default())?;
            continue;
        }
        let length = usize::try_from(decode_varint(&mut bytes)?)?;
        ensure!(length <= bytes.len(), "a field ends beyond the frame");
        let (content, rest) = bytes.split_at(length);
        bytes = rest;
        if inside || field == INTERFACES {
            count += 1;
        } else if WITH_MESSAGES.contains(&field) {
            count += messages(content, true)?;
        }
        ensure!(count <= MOST_MESSAGES, "it has more than {MOST_MESSAGES} messages");
    }
    Ok(count)
}

/// Whether a reader would accept a frame of these bytes.
pub(super) fn is_read(bytes: &[u8]) -> bool {
    bytes.len() <= MOST_BYTES && messages(bytes, false).is_ok()
}

/// A text that is safe to show, cut to a limit.
fn text(text: &str) -> String {
    match text.char_indices().nth(MOST_CHARACTERS) {
        Some((end, _)) => sanitize(&text[..end]).into_owned(),
        None => sanitize(text).into_owned(),
    }
}

fn shared(t: &Option<String>) -> Option<Arc<str>> {
    t.as_deref().map(|t| text(t).into())
}

fn optional(t: &Option<String>) -> Option<String> {
    t.as_deref().map(text)
}

/// Decodes a number stored as +1, with 0 for none.
fn id(n: u64) -> Result<Option<u32>> {
    n.checked_sub(1).map(u32::try_from).transpose().context("an id of more than 32 bits")
}

fn kind(n: u32) -> Result<Kind> {
    u8::try_from(n).map(Kind::from_number).context("a kind beyond 255")
}

fn two(counts: &[u64]) -> Result<[Count; 2]> {
    match *counts {
        [] => Ok(<[Count; 2]>::default()),
        [a, b, c, d] => Ok([Count { packets: a, bytes: b }, Count { packets: c, bytes: d }]),
        _ => bail!("{} counts where there are four", counts.len()),
    }
}

struct Addresses(Vec<IpAddr>);

impl Addresses {
    fn new(v4: &[u32], v6: &[u8]) -> Result<Addresses> {
        ensure!(v6.len().is_multiple_of(16), "IPv6 addresses in {} bytes", v6.len());
        let mut all = Vec::with_capacity(v4.len() + v6.len() / 16);
        let mut bits = 0u32;
        for difference in v4 {
            bits = bits.checked_add(*difference).context("an IPv4 address beyond the last")?;
            all.push(Ipv4Addr::from_bits(bits).into());
        }
        for octets in v6.chunks_exact(16) {
            let octets: [u8; 16] = octets.try_into()?;
            all.push(Ipv6Addr::from(octets).into());
        }
        Ok(Addresses(all))
    }

    fn of(&self, index: u32) -> Result<IpAddr> {
        self.0.get(index as usize).copied().context("an address that is not in the table")
    }

    fn pair(&self, first: u32, second: u32) -> Result<Pair> {
        let pair = Pair { first: self.of(first)?, second: self.of(second)? };
        ensure!(pair.first.is_ipv4() == pair.second.is_ipv4(), "a pair of IPv4 and IPv6");
        Ok(pair)
    }

    fn inner(&self, a: u32, b: u32, proto: u64) -> Result<Inner> {
        Ok(match id(proto)? {
            Some(proto) => Inner::Proto(InnerProto(proto)),
            None => Inner::Pair(self.pair(a, b)?),
        })
    }
}

/// A column, or zeros if it is absent.
struct Column<'a, T>(&'a [T]);

impl<'a, T: Copy + Default> Column<'a, T> {
    fn new(column: &'a [T], length: usize, what: &str) -> Result<Column<'a, T>> {
        let fits = column.is_empty() || column.len() == length;
        ensure!(fits, "{} values of {what} for {length}", column.len());
        Ok(Column(column))
    }

    fn at(&self, i: usize) -> T {
        self.0.get(i).copied().unwrap_or_default()
    }
}

/// Adds a difference to an index.
fn step(sum: &mut u32, difference: i32) -> Result<u32> {
    *sum = sum.checked_add_signed(difference).context("an index below zero")?;
    Ok(*sum)
}

/// A row's key without its inner part, and its interface.
struct Row {
    interface: u16,
    outer: Option<Pair>,
    outermost: Tunnel,
    innermost: Option<Tunnel>,
    depth: u8,
}

impl Row {
    fn key(&self, inner: Inner, other: bool) -> Key {
        Key {
            outer: self.outer,
            outermost: self.outermost,
            innermost: self.innermost,
            depth: self.depth,
            inner,
            other,
        }
    }
}

fn tunnels(m: &FrameMessage, addresses: &Addresses) -> Result<Vec<Row>> {
    let n = m.tunnel_kind.len();
    let interface = Column::new(&m.tunnel_interface, n, "interface")?;
    let first = Column::new(&m.tunnel_first, n, "first")?;
    let second = Column::new(&m.tunnel_second, n, "second")?;
    let ids = Column::new(&m.tunnel_id, n, "id")?;
    let inner_kind = Column::new(&m.tunnel_inner_kind, n, "inner kind")?;
    let inner_id = Column::new(&m.tunnel_inner_id, n, "inner id")?;
    let depth = Column::new(&m.tunnel_depth, n, "depth")?;
    let (mut a, mut b) = (0, 0);
    let tunnel = |i: usize| {
        let ends = [step(&mut a, first.at(i))?, step(&mut b, second.at(i))?];
        let outer = match ends {
            [0, 0] => None,
            [a, b] => {
                let out = "a tunnel with one end";
                Some(
                    addresses
                        .pair(a.checked_sub(1).context(out)?, b.checked_sub(1).context(out)?)?,
                )
            }
        };
        let depth =
            u8::try_from(depth.at(i)).ok().filter(|d| *d <= 4).context("a depth above 4")?;
        let inner = Tunnel { kind: kind(inner_kind.at(i))?, id: id(inner_id.at(i))? };
        Ok(Row {
            interface: u16::try_from(interface.at(i)).context("an interface beyond the last")?,
            outer,
            outermost: Tunnel { kind: kind(m.tunnel_kind[i])?, id: id(ids.at(i))? },
            innermost: (depth > 1).then_some(inner),
            depth,
        })
    };
    (0..n).map(tunnel).collect()
}

fn rows(m: &FrameMessage, addresses: &Addresses, tunnels: &[Row]) -> Result<Rows> {
    let n = m.row_tunnel.len();
    ensure!(n <= MOST_ROWS, "{n} rows, but at most {MOST_ROWS} are read");
    let inner_a = Column::new(&m.row_inner_a, n, "inner a")?;
    let inner_b = Column::new(&m.row_inner_b, n, "inner b")?;
    let proto = Column::new(&m.row_proto, n, "protocol")?;
    let part = Column::new(&m.row_part, n, "part")?;
    let rx_pkts = Column::new(&m.row_rx_pkts, n, "rx packets")?;
    let rx_bytes = Column::new(&m.row_rx_bytes, n, "rx bytes")?;
    let tx_pkts = Column::new(&m.row_tx_pkts, n, "tx packets")?;
    let tx_bytes = Column::new(&m.row_tx_bytes, n, "tx bytes")?;
    let (mut at, mut a, mut b) = (0u32, 0, 0);
    let mut rows = Rows::default();
    for (i, place) in (0..n).zip(0..) {
        at = at.checked_add(m.row_tunnel[i]).context("a tunnel beyond the last")?;
        let tunnel = tunnels.get(at as usize).context("a tunnel beyond the last")?;
        ensure!(usize::from(tunnel.interface) < m.interfaces.len(), "a row of no interface");
        let (a, b) = (step(&mut a, inner_a.at(i))?, step(&mut b, inner_b.at(i))?);
        let bits = part.at(i);
        ensure!(bits < 8, "a part of {bits}");
        let key = tunnel.key(addresses.inner(a, b, proto.at(i))?, bits & 4 != 0);
        let part = Part { swapped: bits & 1 != 0, fragments: bits & 2 != 0 };
        let counts = [
            Count { packets: rx_pkts.at(i), bytes: rx_bytes.at(i) },
            Count { packets: tx_pkts.at(i), bytes: tx_bytes.at(i) },
        ];
        rows.push(place, tunnel.interface, &key, counts, part);
    }
    Ok(rows)
}

fn interface(m: &InterfaceMessage) -> Result<Interface> {
    let mut books = Books {
        counted: two(&m.counted)?,
        suspect: two(&m.suspect)?,
        fragments: two(&m.fragments)?,
        ..Books::default()
    };
    // Newer versions may append stops that are not known here.
    ensure!(
        m.stops.len().is_multiple_of(4) && m.stops.len() <= 256,
        "stops without four counts each"
    );
    for (stop, counts) in books.stops.iter_mut().zip(m.stops.chunks_exact(4)) {
        *stop = two(counts)?;
    }
    Ok(Interface {
        ifindex: m.ifindex,
        netns: optional(&m.netns),
        hook: match m.hook {
            1 => HookKind::Tcx,
            2 => HookKind::Clsact,
            3 => HookKind::Replay,
            4 => HookKind::Fleet,
            _ => HookKind::Off,
        },
        loopback: m.loopback,
        counted_on: optional(&m.counted_on),
        stale: m.stale,
        attached: (m.attached_ns != 0).then(|| time(m.attached_ns)),
        books,
        span: Duration::from_nanos(m.span_ns),
        fill: Fill { used: m.used, size: m.size },
        ..Interface::new(m.id, &text(&m.name))
    })
}

fn dropped(m: &DropsMessage, addresses: &Addresses, tunnels: &[Row]) -> Result<Drops> {
    let row = |d: &DropMessage| {
        let victim = match d.victim {
            2 => {
                let tunnel = tunnels.get(d.tunnel as usize).context("a tunnel beyond the last")?;
                let inner = addresses.inner(d.inner_a, d.inner_b, d.proto)?;
                Victim::Tunnel(tunnel.key(inner, d.other))
            }
            1 => Victim::Plain,
            _ => Victim::Unknown,
        };
        let key = DropKey {
            reason: text(&d.reason).into(),
            netns: shared(&d.netns),
            elsewhere: d.elsewhere,
            device: shared(&d.device),
            victim,
        };
        let counts = two(&d.counts)?;
        Ok((key, Dropped { counts, first: time(d.first_ns), last: time(d.last_ns) }))
    };
    let rows: Vec<_> = m.rows.iter().map(row).collect::<Result<_>>()?;
    let device = |d: &super::wire::DeviceDropsMessage| {
        let [rx_dropped, rx_missed, tx_dropped, qdisc] =
            <[u64; 4]>::try_from(&*d.counts).context("a device without four drop counts")?;
        let counts = DeviceDrops { rx_dropped, rx_missed, tx_dropped, qdisc };
        Ok(((shared(&d.netns), text(&d.device).into()), counts))
    };
    let mut drops = Drops::new(rows);
    drops.unavailable = shared(&m.unavailable);
    (drops.elsewhere, drops.missed) = (m.elsewhere, m.missed);
    drops.devices = m.devices.iter().map(device).collect::<Result<_>>()?;
    Ok(drops)
}

fn hook(tx: bool) -> Hook {
    if tx { Hook::Tx } else { Hook::Rx }
}

fn beside(m: &BesideMessage, addresses: &Addresses, tunnels: &[Row]) -> Result<Beside> {
    let mut read = Gathered {
        unnumbered: m.unnumbered,
        unclaimed: m.unclaimed,
        unfollowed: m.unfollowed,
        displaced: m.displaced,
        now: m.now_ns,
        ..Gathered::default()
    };
    for n in &m.numbers {
        let stream = Stream {
            interface: n.interface,
            kind: kind(n.kind)?,
            from: addresses.of(n.from)?,
            to: addresses.of(n.to)?,
            id: n.id,
            hook: hook(n.tx),
        };
        let [packets, lost, late, duplicate, restarted, highest, missing] =
            <[u64; 7]>::try_from(&*n.counts).context("a stream without seven counts")?;
        let counts = Numbered { packets, lost, late, duplicate, restarted, highest, missing };
        read.add_streams([(stream, counts)]);
    }
    for c in &m.claims {
        let claim = Claim {
            interface: c.interface,
            tunnel: Tunnel { kind: kind(c.kind)?, id: id(c.id)? },
            from: addresses.of(c.from)?,
            to: addresses.of(c.to)?,
            who: addresses.of(c.who)?,
            message: match (u16::try_from(c.error), u8::try_from(c.error ^ wire::GTPU)) {
                (Ok(error), _) => ClaimMessage::Icmp(error.to_be_bytes()),
                (_, Ok(kind)) => ClaimMessage::Gtpu(kind),
                _ => bail!("a message about a tunnel that is neither ICMP nor GTP-U"),
            },
            hook: hook(c.tx),
        };
        let (timed, nanoseconds) = (c.timed, c.nanoseconds);
        read.add_claims([(claim, Claimed { packets: c.packets, mtu: c.mtu, timed, nanoseconds })]);
    }
    for h in &m.handshakes {
        let tunnel = tunnels.get(h.tunnel as usize).context("a tunnel beyond the last")?;
        let opener = Opener {
            interface: h.interface,
            key: tunnel.key(addresses.inner(h.inner_a, h.inner_b, h.proto)?, h.other),
            hook: hook(h.tx),
        };
        let [syns, retries, unanswered, fwd, rev, timed, nanoseconds] =
            <[u64; 7]>::try_from(&*h.counts).context("a row without seven handshake counts")?;
        let resets = [fwd, rev];
        let counts = Handshakes { syns, retries, unanswered, resets, timed, nanoseconds };
        read.add_handshakes([(opener, counts)]);
    }
    Ok(Beside::new(read))
}

fn mac(n: u64) -> Result<Mac> {
    let [0, 0, mac @ ..] = n.to_be_bytes() else { bail!("a hardware address beyond 48 bits") };
    Ok(mac)
}

fn overlay(m: &OverlayMessage, addresses: &Addresses) -> Result<Overlay> {
    let mut overlay = Overlay::default();
    for d in &m.devices {
        overlay.devices.push(Device {
            netns: optional(&d.netns),
            name: text(&d.name),
            kind: kind(d.kind)?,
            id: id(d.id)?,
            port: d.port.map(u16::try_from).transpose().context("a port beyond 65535")?,
            up: d.up,
        });
    }
    for n in &m.narrow {
        overlay.narrow.push(Narrow {
            netns: optional(&n.netns),
            device: text(&n.device),
            mtu: n.mtu,
            tunnel: text(&n.tunnel),
            needs: n.needs,
        });
    }
    for own in &m.addresses {
        let places = overlay.addresses.entry(addresses.of(own.address)?).or_default();
        places.push(optional(&own.netns));
    }
    for e in &m.entries {
        let entry = Entry {
            device: text(&e.device),
            id: id(e.id)?,
            endpoint: addresses.of(e.endpoint)?,
            fixed: e.fixed,
        };
        overlay.entries.entry(mac(e.mac)?).or_default().push(entry);
    }
    for n in &m.neighbours {
        overlay.neighbours.insert(addresses.of(n.address)?, mac(n.mac)?);
    }
    for e in &m.events {
        overlay.events.push(Event {
            at: time(e.at_ns),
            text: text(&e.text),
            address: e.address.checked_sub(1).map(|a| addresses.of(a)).transpose()?,
            device: optional(&e.device),
        });
    }
    for s in &m.segments {
        let tunnel = Tunnel { kind: kind(s.kind)?, id: id(s.id)? };
        let (bridge, vrf) = (optional(&s.bridge), optional(&s.vrf));
        overlay.segments.insert(tunnel, Segment { bridge, vrf, is_routed: s.routed });
    }
    Ok(overlay)
}

/// The host's own addresses, without duplicates.
fn local(told: &[u32], addresses: &Addresses) -> Result<Vec<IpAddr>> {
    let mut known = HashSet::default();
    let mut own = Vec::new();
    for address in told {
        let address = addresses.of(*address)?;
        if own.len() < MOST_LOCAL && known.insert(address) {
            own.push(address);
        }
    }
    Ok(own)
}

pub(super) fn frame(bytes: &[u8]) -> Result<Frame> {
    ensure!(bytes.len() <= MOST_BYTES, "a frame of more than {MOST_BYTES} bytes");
    messages(bytes, false).context("not a frame")?;
    let m = FrameMessage::decode(bytes).context("not a frame")?;
    if let Some(checksum) = m.checksum {
        let before = bytes.len().checked_sub(CHECKSUM_BYTES).and_then(|n| bytes.get(..n));
        ensure!(before.map(crc32fast::hash) == Some(checksum), "its checksum is wrong");
    }
    ensure!(m.schema == SCHEMA, "a frame of schema {}, but only {SCHEMA} is supported", m.schema);
    let n = m.interfaces.len();
    ensure!(n <= MOST_INTERFACES, "{n} interfaces, but at most {MOST_INTERFACES} are read");
    let kind = match m.kind {
        1 => FrameKind::Hello,
        2 => FrameKind::Sum,
        3 => FrameKind::Rows,
        4 => FrameKind::End,
        unknown => bail!("a frame of unknown kind {unknown}"),
    };
    let addresses = Addresses::new(&m.v4, &m.v6)?;
    let tunnels = tunnels(&m, &addresses)?;
    let rows = rows(&m, &addresses, &tunnels)?;
    let interfaces = m.interfaces.iter().map(interface).collect::<Result<_>>()?;
    let elapsed = Duration::from_nanos(m.elapsed_ns);
    let mut interval = Interval::new(time(m.since_ns), time(m.taken_ns), elapsed, interfaces, rows);
    interval.origin = Origin { host: text(&m.host).into(), netns: m.netns, epoch: m.epoch };
    let drops = m.drops.as_ref().map(|d| dropped(d, &addresses, &tunnels));
    interval.drops = drops.transpose()?.map(Arc::new);
    if let Some(m) = &m.beside {
        interval.beside = Arc::new(beside(m, &addresses, &tunnels)?);
    }
    interval.overlay =
        m.overlay.as_ref().map(|o| overlay(o, &addresses)).transpose()?.map(Arc::new);
    Ok(Frame {
        kind,
        seq: m.seq,
        reading: Duration::from_micros(m.read_us.into()),
        held: Duration::from_millis(m.held_ms.into()),
        heard: (m.heard_ns > 0).then(|| time(m.heard_ns)),
        clock: m.clock_us.map(|us| Duration::from_micros(us.into())),
        cadence: Duration::from_millis(m.cadence_ms.into()),
        local: local(&m.local, &addresses)?,
        tool: text(&m.tool),
        interval,
    })
}
