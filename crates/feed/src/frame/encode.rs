// SPDX-License-Identifier: MIT OR Apache-2.0
//! Encodes intervals as frames.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use foldhash::HashMap;
use prost::Message;

use super::{
    Frame, FrameKind, SCHEMA, micros, millis, nanos, nanoseconds,
    wire::{
        self, BesideMessage, CHECKSUM, DeviceDropsMessage, DeviceMessage, DropMessage,
        DropsMessage, EntryMessage, EventMessage, FrameMessage, HandshakesMessage,
        InterfaceMessage, NarrowMessage, NeighbourMessage, NumbersMessage, OverlayMessage,
        OwnMessage, SaidMessage, SegmentMessage,
    },
};
use model::{
    beside::{Beside, ClaimMessage},
    drops::{Drops, Victim},
    flow::{Count, Hook, HookKind, Inner, Key, Kind, Pair, Tunnel},
    interface::Interface,
    overlay::{Mac, Overlay},
    rows::{Counts, Part},
};

/// Limit on the rows of drops in a frame.
const MOST_DROPS: usize = 4096;

/// The table of addresses.
#[derive(Default)]
struct Addresses {
    v4: Vec<Ipv4Addr>,
    v6: Vec<Ipv6Addr>,
    place: HashMap<IpAddr, u32>,
}

impl Addresses {
    fn add(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(a) => self.v4.push(a),
            IpAddr::V6(a) => self.v6.push(a),
        }
    }

    fn add_pair(&mut self, pair: Pair) {
        self.add(pair.first);
        self.add(pair.second);
    }

    fn add_key(&mut self, key: &Key) {
        key.outer.into_iter().chain(key.inner.pair()).for_each(|p| self.add_pair(p));
    }

    fn add_beside(&mut self, beside: &Beside) {
        for stream in beside.numbers().keys() {
            self.add(stream.from);
            self.add(stream.to);
        }
        beside.claims().keys().flat_map(|c| [c.from, c.to, c.who]).for_each(|a| self.add(a));
        beside.handshakes().keys().for_each(|opener| self.add_key(&opener.key));
    }

    fn add_overlay(&mut self, overlay: &Overlay) {
        let entries = overlay.entries.values().flatten().map(|e| e.endpoint);
        let events = overlay.events.iter().filter_map(|e| e.address);
        let own = overlay.addresses.keys().chain(overlay.neighbours.keys()).copied();
        own.chain(entries).chain(events).for_each(|a| self.add(a));
    }

    fn sort(&mut self) {
        self.v4.sort_unstable();
        self.v4.dedup();
        self.v6.sort_unstable();
        self.v6.dedup();
        let all = self.v4.iter().map(|a| IpAddr::V4(*a)).chain(self.v6.iter().map(|a| (*a).into()));
        self.place = all.zip(0..).collect();
    }

    fn of(&self, address: IpAddr) -> u32 {
        self.place.get(&address).copied().unwrap_or(0)
    }
}

/// A tunnel between two hosts, in sorting order. `first` and `second` are indices plus one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Place {
    interface: u16,
    first: u32,
    second: u32,
    tunnel: Tunnel,
    innermost: Option<Tunnel>,
    depth: u8,
}

impl Place {
    fn of(key: &Key, interface: u16, addresses: &Addresses) -> Place {
        let (first, second) = match key.outer {
            Some(p) => (addresses.of(p.first) + 1, addresses.of(p.second) + 1),
            None => (0, 0),
        };
        Place {
            interface,
            first,
            second,
            tunnel: key.outermost,
            innermost: key.innermost,
            depth: key.depth,
        }
    }
}

/// The inner part: the indices of two addresses, or the protocol plus one.
fn inside(inner: Inner, addresses: &Addresses) -> (u32, u32, u64) {
    match inner {
        Inner::Pair(p) => (addresses.of(p.first), addresses.of(p.second), 0),
        Inner::Proto(p) => (0, 0, u64::from(p.0) + 1),
    }
}

struct Line {
    tunnel: u32,
    inner: (u32, u32, u64),
    part: u32,
    counts: Counts,
}

fn part_bits(part: Part, other: bool) -> u32 {
    u32::from(part.swapped) | u32::from(part.fragments) << 1 | u32::from(other) << 2
}

fn id(tunnel: Option<Tunnel>) -> u64 {
    tunnel.and_then(|t| t.id).map_or(0, |id| u64::from(id) + 1)
}

fn kind(tunnel: Option<Tunnel>) -> u32 {
    tunnel.map_or(0, |t| t.kind.number().into())
}

fn four([rx, tx]: [Count; 2]) -> [u64; 4] {
    [rx.packets, rx.bytes, tx.packets, tx.bytes]
}

/// Leaves out a column of zeros.
fn unless_zero<T: PartialEq + Default>(column: Vec<T>) -> Vec<T> {
    let zero = T::default();
    if column.iter().all(|n| *n == zero) { Vec::new() } else { column }
}

/// The differences of consecutive indices.
fn differences(column: impl Iterator<Item = u32>) -> Vec<i32> {
    let mut before = 0;
    column.map(|n| (n as i32).wrapping_sub(std::mem::replace(&mut before, n as i32))).collect()
}

pub(super) fn frame(frame: &Frame) -> Vec<u8> {
    let interval = &frame.interval;
    let mut addresses = Addresses::default();
    let drops = interval.drops.as_ref().map(|d| match d.rows.len() > MOST_DROPS {
        true => Arc::new(d.reduced(MOST_DROPS)),
        false => Arc::clone(d),
    });
    let keys: Vec<(u16, Key, Part, Counts)> = interval
        .rows
        .walk()
        .map(|row| (row.interface(), row.flow().key, row.part(), row.counts()))
        .collect();
    keys.iter().for_each(|(_, key, ..)| addresses.add_key(key));
    let victims = || drops.iter().flat_map(|d| d.rows.keys()).filter_map(|d| d.victim.key());
    victims().for_each(|key| addresses.add_key(key));
    addresses.add_beside(&interval.beside);
    interval.overlay.iter().for_each(|o| addresses.add_overlay(o));
    frame.local.iter().for_each(|a| addresses.add(*a));
    addresses.sort();

    let of_rows = keys.iter().map(|(interface, key, ..)| (*interface, key));
    let openers = interval.beside.handshakes().keys().map(|opener| &opener.key);
    let places = of_rows.chain(victims().chain(openers).map(|key| (0, key)));
    let mut tunnels: Vec<_> = places.map(|(i, key)| Place::of(key, i, &addresses)).collect();
    tunnels.sort_unstable();
    tunnels.dedup();
    let place: HashMap<Place, u32> = tunnels.iter().copied().zip(0..).collect();
    let tunnel = |key: &Key, interface: u16| {
        place.get(&Place::of(key, interface, &addresses)).copied().unwrap_or(0)
    };
    let mut lines: Vec<Line> = keys
        .iter()
        .map(|(interface, key, part, counts)| Line {
            tunnel: tunnel(key, *interface),
            inner: inside(key.inner, &addresses),
            part: part_bits(*part, key.other),
            counts: *counts,
        })
        .collect();
    lines.sort_unstable_by_key(|l| (l.tunnel, l.inner.2, l.inner.0, l.inner.1, l.part));

    let column = |of: fn(&Place) -> u32| tunnels.iter().map(of).collect::<Vec<u32>>();
    let counted = |of: fn(&Counts) -> u64| {
        unless_zero(lines.iter().map(|l| of(&l.counts)).collect::<Vec<_>>())
    };
    let octets = addresses.v6.iter().flat_map(|a| a.octets()).collect();
    let mut v4 = Vec::with_capacity(addresses.v4.len());
    addresses.v4.iter().fold(0, |before, a| {
        v4.push(a.to_bits() - before);
        a.to_bits()
    });
    let mut before = 0;
    let row_tunnel =
        lines.iter().map(|l| l.tunnel - std::mem::replace(&mut before, l.tunnel)).collect();
    let message = FrameMessage {
        schema: SCHEMA,
        kind: match frame.kind {
            FrameKind::Hello => 1,
            FrameKind::Sum => 2,
            FrameKind::Rows => 3,
            FrameKind::End => 4,
        },
        host: interval.origin.host.to_string(),
        epoch: interval.origin.epoch,
        seq: frame.seq,
        since_ns: nanoseconds(interval.since),
        taken_ns: nanoseconds(interval.taken),
        elapsed_ns: nanos(interval.elapsed),
        read_us: micros(frame.reading),
        held_ms: millis(frame.held),
        heard_ns: frame.heard.map_or(0, nanoseconds),
        clock_us: frame.clock.map(micros),
        cadence_ms: millis(frame.cadence),
        realm: String::new(),
        interfaces: interval.interfaces.iter().map(interface).collect(),
        local: frame.local.iter().map(|a| addresses.of(*a)).collect(),
        checksum: None, // appended after all other fields
        netns: interval.origin.netns,
        tool: frame.tool.clone(),
        v4,
        v6: octets,
        tunnel_interface: unless_zero(column(|t| t.interface.into())),
        tunnel_first: unless_zero(differences(tunnels.iter().map(|t| t.first))),
        tunnel_second: unless_zero(differences(tunnels.iter().map(|t| t.second))),
        tunnel_kind: column(|t| kind(Some(t.tunnel))),
        tunnel_id: unless_zero(tunnels.iter().map(|t| id(Some(t.tunnel))).collect()),
        tunnel_inner_kind: unless_zero(column(|t| kind(t.innermost))),
        tunnel_inner_id: unless_zero(tunnels.iter().map(|t| id(t.innermost)).collect()),
        tunnel_depth: unless_zero(column(|t| t.depth.into())),
        row_tunnel,
        row_inner_a: unless_zero(differences(lines.iter().map(|l| l.inner.0))),
        row_inner_b: unless_zero(differences(lines.iter().map(|l| l.inner.1))),
        row_proto: unless_zero(lines.iter().map(|l| l.inner.2).collect()),
        row_part: unless_zero(lines.iter().map(|l| l.part).collect()),
        row_rx_pkts: counted(|c| c[0].packets),
        row_rx_bytes: counted(|c| c[0].bytes),
        row_tx_pkts: counted(|c| c[1].packets),
        row_tx_bytes: counted(|c| c[1].bytes),
        drops: drops.as_ref().map(|d| dropped(d, &addresses, &tunnel)),
        beside: (!interval.beside.is_empty())
            .then(|| beside(&interval.beside, &addresses, &tunnel)),
        overlay: interval.overlay.as_ref().map(|o| overlay(o, &addresses)),
    };
    let mut bytes = message.encode_to_vec();
    let checksum = crc32fast::hash(&bytes);
    prost::encoding::fixed32::encode(CHECKSUM, &checksum, &mut bytes);
    bytes
}

fn interface(i: &Interface) -> InterfaceMessage {
    let zero = |counts: &[u64]| counts.iter().all(|n| *n == 0);
    let list = |counts: Vec<u64>| if zero(&counts) { Vec::new() } else { counts };
    InterfaceMessage {
        name: i.name.clone(),
        id: i.id,
        ifindex: i.ifindex,
        netns: i.netns.clone(),
        hook: match i.hook {
            HookKind::Off => 0,
            HookKind::Tcx => 1,
            HookKind::Clsact => 2,
            HookKind::Replay => 3,
            HookKind::Fleet => 4,
        },
        loopback: i.loopback,
        stale: i.stale,
        counted_on: i.counted_on.clone(),
        attached_ns: i.attached.map_or(0, nanoseconds),
        counted: list(four(i.books.counted).to_vec()),
        stops: list(i.books.stops.iter().flat_map(|s| four(*s)).collect()),
        suspect: list(four(i.books.suspect).to_vec()),
        fragments: list(four(i.books.fragments).to_vec()),
        span_ns: nanos(i.span),
        used: i.fill.used,
        size: i.fill.size,
    }
}

fn dropped(
    drops: &Drops,
    addresses: &Addresses,
    tunnel: &dyn Fn(&Key, u16) -> u32,
) -> DropsMessage {
    let text = |t: &Option<Arc<str>>| t.as_deref().map(str::to_owned);
    let row = |(key, n): (&model::drops::DropKey, &model::drops::Dropped)| {
        let of = key.victim.key();
        let (inner_a, inner_b, proto) = of.map_or((0, 0, 0), |key| inside(key.inner, addresses));
        DropMessage {
            reason: key.reason.to_string(),
            netns: text(&key.netns),
            elsewhere: key.elsewhere,
            device: text(&key.device),
            victim: match key.victim {
                Victim::Unknown => 0,
                Victim::Plain => 1,
                Victim::Tunnel(_) => 2,
            },
            tunnel: of.map_or(0, |key| tunnel(key, 0)),
            inner_a,
            inner_b,
            proto,
            other: of.is_some_and(|key| key.other),
            counts: four(n.counts).to_vec(),
            first_ns: nanoseconds(n.first),
            last_ns: nanoseconds(n.last),
        }
    };
    let device = |((netns, name), n): (&(Option<Arc<str>>, Arc<str>), _)| {
        let n: &model::drops::DeviceDrops = n;
        DeviceDropsMessage {
            netns: text(netns),
            device: name.to_string(),
            counts: vec![n.rx_dropped, n.rx_missed, n.tx_dropped, n.qdisc],
        }
    };
    DropsMessage {
        unavailable: text(&drops.unavailable),
        rows: drops.rows.iter().map(row).collect(),
        elsewhere: drops.elsewhere,
        missed: drops.missed,
        devices: drops.devices.iter().map(device).collect(),
    }
}

fn beside(
    beside: &Beside,
    addresses: &Addresses,
    tunnel: &dyn Fn(&Key, u16) -> u32,
) -> BesideMessage {
    let numbers = beside.numbers().iter().map(|(s, n)| NumbersMessage {
        interface: s.interface,
        kind: s.kind.number().into(),
        from: addresses.of(s.from),
        to: addresses.of(s.to),
        id: s.id,
        tx: s.hook == Hook::Tx,
        counts: vec![n.packets, n.lost, n.late, n.duplicate, n.restarted, n.highest, n.missing],
    });
    let claims = beside.claims().iter().map(|(c, n)| SaidMessage {
        interface: c.interface,
        kind: kind(Some(c.tunnel)),
        id: id(Some(c.tunnel)),
        from: addresses.of(c.from),
        to: addresses.of(c.to),
        who: addresses.of(c.who),
        error: match c.message {
            ClaimMessage::Icmp([kind, code]) => u32::from(kind) << 8 | u32::from(code),
            ClaimMessage::Gtpu(kind) => wire::GTPU | u32::from(kind),
        },
        tx: c.hook == Hook::Tx,
        packets: n.packets,
        mtu: n.mtu,
        timed: n.timed,
        nanoseconds: n.nanoseconds,
    });
    let handshakes = beside.handshakes().iter().map(|(opener, n)| {
        let (inner_a, inner_b, proto) = inside(opener.key.inner, addresses);
        let [fwd, rev] = n.resets;
        HandshakesMessage {
            interface: opener.interface,
            tunnel: tunnel(&opener.key, 0),
            inner_a,
            inner_b,
            proto,
            other: opener.key.other,
            tx: opener.hook == Hook::Tx,
            counts: vec![n.syns, n.retries, n.unanswered, fwd, rev, n.timed, n.nanoseconds],
        }
    });
    BesideMessage {
        numbers: numbers.collect(),
        unnumbered: beside.unnumbered(),
        claims: claims.collect(),
        unclaimed: beside.unclaimed(),
        handshakes: handshakes.collect(),
        unfollowed: beside.unfollowed(),
        displaced: beside.displaced(),
        now_ns: beside.now(),
    }
}

fn mac(mac: &Mac) -> u64 {
    mac.iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn number(kind: Kind) -> u32 {
    kind.number().into()
}

fn overlay(overlay: &Overlay, addresses: &Addresses) -> OverlayMessage {
    let plus_one = |id: Option<u32>| id.map_or(0, |id| u64::from(id) + 1);
    let mut own: Vec<_> = overlay
        .addresses
        .iter()
        .flat_map(|(a, places)| places.iter().map(|netns| (addresses.of(*a), netns.clone())))
        .map(|(address, netns)| OwnMessage { address, netns })
        .collect();
    own.sort_by(|a, b| (a.address, &a.netns).cmp(&(b.address, &b.netns)));
    let mut macs: Vec<_> = overlay.entries.iter().collect();
    macs.sort_by_key(|(mac, _)| **mac);
    let entries = macs.into_iter().flat_map(|(at, entries)| {
        entries.iter().map(|e| EntryMessage {
            mac: mac(at),
            device: e.device.clone(),
            id: plus_one(e.id),
            endpoint: addresses.of(e.endpoint),
            fixed: e.fixed,
        })
    });
    let mut neighbours: Vec<_> = overlay
        .neighbours
        .iter()
        .map(|(a, at)| NeighbourMessage { address: addresses.of(*a), mac: mac(at) })
        .collect();
    neighbours.sort_by_key(|n| n.address);
    let mut segments: Vec<_> = overlay
        .segments
        .iter()
        .map(|(tunnel, segment)| SegmentMessage {
            kind: number(tunnel.kind),
            id: plus_one(tunnel.id),
            bridge: segment.bridge.clone(),
            vrf: segment.vrf.clone(),
            routed: segment.is_routed,
        })
        .collect();
    segments.sort_by_key(|s| (s.kind, s.id));
    OverlayMessage {
        devices: overlay
            .devices
            .iter()
            .map(|d| DeviceMessage {
                netns: d.netns.clone(),
                name: d.name.clone(),
                kind: number(d.kind),
                id: plus_one(d.id),
                port: d.port.map(u32::from),
                up: d.up,
            })
            .collect(),
        narrow: overlay
            .narrow
            .iter()
            .map(|n| NarrowMessage {
                netns: n.netns.clone(),
                device: n.device.clone(),
                mtu: n.mtu,
                tunnel: n.tunnel.clone(),
                needs: n.needs,
            })
            .collect(),
        addresses: own,
        entries: entries.collect(),
        neighbours,
        events: overlay
            .events
            .iter()
            .map(|e| EventMessage {
                at_ns: nanoseconds(e.at),
                text: e.text.clone(),
                address: e.address.map_or(0, |a| addresses.of(a) + 1),
                device: e.device.clone(),
            })
            .collect(),
        segments,
    }
}
