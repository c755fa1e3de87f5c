// SPDX-License-Identifier: MIT OR Apache-2.0
//! What is known besides the rows: packets missing according to the sequence numbers of tunnels,
//! what ICMP errors report about tunnels' packets, and whether TCP connections are answered.
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use foldhash::HashMap;

use crate::{
    flow::{Flow, Hook, HookKind, Key, Kind, Tunnel},
    interface::Interface,
    lane::Lane,
    rtt::{Resent, RoundTrips, Timed},
};

/// A stream of packets that one sender numbers consecutively.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stream {
    /// The interface's `id`.
    pub interface: u64,
    /// The tunnel's kind.
    pub kind: Kind,
    /// The sender, which numbers them.
    pub from: IpAddr,
    /// The receiver.
    pub to: IpAddr,
    /// The tunnel's id; ESP's SPI, WireGuard's receiver. 0 where it has none.
    pub id: u32,
    /// The hook that sees them.
    pub hook: Hook,
}

impl Stream {
    /// Whether streams of this kind come and go while the tunnel stays: their id is not the
    /// tunnel's.
    pub fn is_rekeyed(kind: Kind) -> bool {
        matches!(kind, Kind::Esp | Kind::Wireguard)
    }

    /// The tunnel's own id, if it has one.
    pub fn tunnel_id(&self) -> u32 {
        if Stream::is_rekeyed(self.kind) { 0 } else { self.id }
    }
}

/// What became of the packets of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbered {
    /// Packets with a number.
    pub packets: u64,
    /// Numbers that had not arrived when 64 higher ones had.
    pub lost: u64,
    /// Packets that arrived after a higher number.
    pub late: u64,
    /// Packets whose number had been seen before.
    pub duplicate: u64,
    /// How often the sender restarted its numbering.
    pub restarted: u64,
    /// The highest number so far.
    pub highest: u64,
    /// Numbers below it that may still arrive.
    pub missing: u64,
}

impl Numbered {
    /// Adds the counts of another stream of the same tunnel. The sum has no highest number.
    pub fn add(&mut self, other: &Numbered) {
        self.packets = self.packets.saturating_add(other.packets);
        self.lost = self.lost.saturating_add(other.lost);
        self.late = self.late.saturating_add(other.late);
        self.duplicate = self.duplicate.saturating_add(other.duplicate);
        self.restarted = self.restarted.saturating_add(other.restarted);
        self.highest = self.highest.max(other.highest);
        self.missing = self.missing.saturating_add(other.missing);
    }

    /// What happened since.
    #[must_use]
    pub fn since(&self, older: &Numbered) -> Numbered {
        Numbered {
            packets: self.packets.saturating_sub(older.packets),
            lost: self.lost.saturating_sub(older.lost),
            late: self.late.saturating_sub(older.late),
            duplicate: self.duplicate.saturating_sub(older.duplicate),
            restarted: self.restarted.saturating_sub(older.restarted),
            ..*self
        }
    }
}

/// A report about a tunnel: an ICMP error about its packets, or a message of the tunnel protocol
/// itself. Nothing authenticates it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Claim {
    /// The interface's `id`.
    pub interface: u64,
    /// The packets' tunnel; without an id if the quote is too short to contain it, or if the report
    /// is about all tunnels between the two hosts.
    pub tunnel: Tunnel,
    /// The packets' sender.
    pub from: IpAddr,
    /// The packets' receiver.
    pub to: IpAddr,
    /// Who reports it.
    pub who: IpAddr,
    /// The message that reports it.
    pub message: ClaimMessage,
    /// The hook that saw it.
    pub hook: Hook,
}

/// A message that reports something about a tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClaimMessage {
    /// Type and code, of ICMP, or of ICMPv6 if the addresses are IPv6.
    Icmp([u8; 2]),
    /// The GTP-U message type.
    Gtpu(u8),
}

/// What such a message reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Saying {
    /// The packets are too big.
    TooBig,
    /// The packets are administratively prohibited.
    Prohibited,
    /// No socket listens on their port.
    NoPort,
    /// There is no route to their destination.
    Unreachable,
    /// Their TTL or hop limit ran out.
    TimeExceeded,
    /// Not all of their fragments arrived.
    Incomplete,
    /// The receiver does not know the tunnel.
    ErrorIndication,
    /// The tunnel moves: no more packets will follow on it.
    EndMarker,
    /// The other end is asked whether it is alive.
    EchoRequest,
    /// It is alive.
    EchoResponse,
    /// The extension headers that are supported.
    ExtensionHeaders,
}

impl Saying {
    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Saying::TooBig => "too_big",
            Saying::Prohibited => "prohibited",
            Saying::NoPort => "no_port",
            Saying::Unreachable => "unreachable",
            Saying::TimeExceeded => "time_exceeded",
            Saying::Incomplete => "incomplete",
            Saying::ErrorIndication => "error_indication",
            Saying::EndMarker => "end_marker",
            Saying::EchoRequest => "echo_request",
            Saying::EchoResponse => "echo_response",
            Saying::ExtensionHeaders => "extension_headers",
        }
    }
}

impl Claim {
    /// What it reports (RFC 792, 1122, 1812, 4443; 3GPP TS 29.281).
    pub fn saying(&self) -> Saying {
        let error = match self.message {
            ClaimMessage::Icmp(error) => error,
            ClaimMessage::Gtpu(message) => {
                return match message.into() {
                    contract::GTPU_ECHO_REQUEST => Saying::EchoRequest,
                    contract::GTPU_ECHO_RESPONSE => Saying::EchoResponse,
                    contract::GTPU_END => Saying::EndMarker,
                    contract::GTPU_EXTENSIONS => Saying::ExtensionHeaders,
                    _ => Saying::ErrorIndication,
                };
            }
        };
        match (self.from.is_ipv6(), error) {
            (false, [3, 4]) | (true, [2, _]) => Saying::TooBig,
            (false, [3, 9 | 10 | 13..=15]) | (true, [1, 1 | 5 | 6]) => Saying::Prohibited,
            (false, [3, 3]) | (true, [1, 4]) => Saying::NoPort,
            (false, [11, 1]) | (true, [3, 1]) => Saying::Incomplete,
            (false, [11, _]) | (true, [3, _]) => Saying::TimeExceeded,
            _ => Saying::Unreachable,
        }
    }
}

/// How often it was reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claimed {
    /// Messages.
    pub packets: u64,
    /// The MTU reported last, if any.
    pub mtu: Option<u32>,
    /// Echo requests that were sent once and answered.
    pub timed: u64,
    /// The sum of the times from these to their answers, in nanoseconds.
    pub nanoseconds: u64,
}

impl Claimed {
    /// The mean time from an echo request to its answer as seen here.
    pub fn echo_time(&self) -> Option<Duration> {
        self.nanoseconds.checked_div(self.timed).map(Duration::from_nanos)
    }

    /// Adds what was reported elsewhere or later.
    fn add(&mut self, later: &Claimed) {
        self.packets = self.packets.saturating_add(later.packets);
        self.mtu = later.mtu.or(self.mtu);
        self.timed = self.timed.saturating_add(later.timed);
        self.nanoseconds = self.nanoseconds.saturating_add(later.nanoseconds);
    }

    /// What happened since; everything if the counters restarted at zero meanwhile.
    fn since(&self, older: &Claimed) -> Claimed {
        if older.packets > self.packets || older.timed > self.timed {
            return *self;
        }
        Claimed {
            packets: self.packets - older.packets,
            mtu: self.mtu,
            timed: self.timed - older.timed,
            nanoseconds: self.nanoseconds.saturating_sub(older.nanoseconds),
        }
    }
}

/// A row, and the hook that saw its TCP handshakes and resets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opener {
    /// The interface's `id`.
    pub interface: u64,
    /// The row.
    pub key: Key,
    /// The hook that sees its packets.
    pub hook: Hook,
}

/// Packets of a tunnel that a host of a fleet saw although it is neither their sender nor their
/// receiver: it is on their path, or a member of the multicast group that they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Passage {
    /// The host, as an interface's `id`.
    pub host: u64,
    /// Which packets.
    pub lane: Lane,
}

/// How TCP connections are opened and reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Handshakes {
    /// SYNs that request a connection.
    pub syns: u64,
    /// How many of them were retransmissions.
    pub retries: u64,
    /// Requested connections that nobody has answered, except those of the last second.
    pub unanswered: u64,
    /// RSTs, by direction in the row.
    pub resets: [u64; 2],
    /// Connections whose SYN was sent once and answered by a SYN.
    pub timed: u64,
    /// The sum of the times from their SYNs to the answers.
    pub nanoseconds: u64,
}

impl Handshakes {
    /// The mean time from a SYN to its answer as seen here, in nanoseconds.
    pub fn time(&self) -> Option<u64> {
        self.nanoseconds.checked_div(self.timed)
    }

    /// Adds the counts of another hook or interval.
    pub fn add(&mut self, other: &Handshakes) {
        self.syns = self.syns.saturating_add(other.syns);
        self.retries = self.retries.saturating_add(other.retries);
        self.unanswered = self.unanswered.saturating_add(other.unanswered);
        for (sum, n) in self.resets.iter_mut().zip(other.resets) {
            *sum = sum.saturating_add(n);
        }
        self.timed = self.timed.saturating_add(other.timed);
        self.nanoseconds = self.nanoseconds.saturating_add(other.nanoseconds);
    }

    /// What happened since.
    #[must_use]
    pub fn since(&self, older: &Handshakes) -> Handshakes {
        let resets = [0, 1].map(|way| self.resets[way].saturating_sub(older.resets[way]));
        Handshakes {
            syns: self.syns.saturating_sub(older.syns),
            retries: self.retries.saturating_sub(older.retries),
            unanswered: self.unanswered.saturating_sub(older.unanswered),
            resets,
            timed: self.timed.saturating_sub(older.timed),
            nanoseconds: self.nanoseconds.saturating_sub(older.nanoseconds),
        }
    }

    /// Whether the counters restarted at zero because the row was forgotten meanwhile.
    fn is_anew(&self, older: &Handshakes) -> bool {
        self.syns < older.syns
            || self.resets[0] < older.resets[0]
            || self.resets[1] < older.resets[1]
    }
}

/// A tunnel of an interface: the interface, kind, id, and ends, the lower first.
type Place = (u64, Kind, u32, [IpAddr; 2]);

/// What has been read of all this, from one interface after another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Gathered {
    /// Streams of numbered packets.
    pub numbers: BTreeMap<Stream, Numbered>,
    /// Forgotten streams, summed by tunnel; totals only.
    pub earlier: BTreeMap<Stream, Numbered>,
    /// Numbered packets for whose stream there was no room.
    pub unnumbered: u64,
    /// ICMP errors about tunnels' packets.
    pub claims: BTreeMap<Claim, Claimed>,
    /// Errors for which there was no room.
    pub unclaimed: u64,
    /// TCP handshakes by row.
    pub handshakes: BTreeMap<Opener, Handshakes>,
    /// SYNs and RSTs for which there was no room.
    pub unfollowed: u64,
    /// SYNs that were evicted before they could have been answered.
    pub displaced: u64,
    /// When it was read, in nanoseconds on the clock of the packets.
    pub now: u64,
    /// Packets that hosts of a fleet saw in transit.
    pub passages: BTreeMap<Passage, u64>,
    /// Round-trip times by the interface's `id` and row: for what the first and the second end
    /// sent. Totals only, and only if they were requested.
    pub round_trips: BTreeMap<(u64, Key), [RoundTrips; 2]>,
    /// Retransmissions, with the same keys; in intervals only.
    pub resent: BTreeMap<(u64, Key), [Resent; 2]>,
    /// Packets that could not be used for these: truncated, or of rows for which there was no room.
    pub untimed: u64,
    /// Connections that were evicted while they were being timed.
    pub untracked: u64,
}

impl Gathered {
    /// Adds TCP handshakes; a row that occurs twice in the tables is added up.
    pub fn add_handshakes(&mut self, all: impl IntoIterator<Item = (Opener, Handshakes)>) {
        for (opener, n) in all {
            self.handshakes.entry(opener).or_default().add(&n);
        }
    }

    /// Adds claims; one that occurs twice in the tables is added up.
    pub fn add_claims(&mut self, claims: impl IntoIterator<Item = (Claim, Claimed)>) {
        for (claim, n) in claims {
            self.claims.entry(claim).or_default().add(&n);
        }
    }

    /// Adds streams; one that occurs twice in the tables is added up.
    pub fn add_streams(&mut self, streams: impl IntoIterator<Item = (Stream, Numbered)>) {
        for (stream, n) in streams {
            self.numbers.entry(stream).or_default().add(&n);
        }
    }

    /// Adds what was read from another interface.
    pub fn append(&mut self, mut other: Gathered) {
        self.numbers.append(&mut other.numbers);
        self.earlier.append(&mut other.earlier);
        self.unnumbered = self.unnumbered.saturating_add(other.unnumbered);
        self.claims.append(&mut other.claims);
        self.unclaimed = self.unclaimed.saturating_add(other.unclaimed);
        self.handshakes.append(&mut other.handshakes);
        self.unfollowed = self.unfollowed.saturating_add(other.unfollowed);
        self.displaced = self.displaced.saturating_add(other.displaced);
    }

    /// Adds what happened later.
    pub fn add(&mut self, later: &Gathered) {
        for (stream, n) in &later.numbers {
            let sum = self.numbers.entry(*stream).or_default();
            sum.add(n);
            (sum.highest, sum.missing) = (n.highest, n.missing);
        }
        self.unnumbered = self.unnumbered.saturating_add(later.unnumbered);
        self.add_claims(later.claims.iter().map(|(claim, n)| (*claim, *n)));
        self.unclaimed = self.unclaimed.saturating_add(later.unclaimed);
        self.add_handshakes(later.handshakes.iter().map(|(opener, n)| (*opener, *n)));
        self.unfollowed = self.unfollowed.saturating_add(later.unfollowed);
        self.displaced = self.displaced.saturating_add(later.displaced);
        for (passage, n) in &later.passages {
            let sum = self.passages.entry(*passage).or_default();
            *sum = sum.saturating_add(*n);
        }
        for (row, ways) in &later.resent {
            let sums = self.resent.entry(*row).or_default();
            sums.iter_mut().zip(ways).for_each(|(sum, n)| sum.add(n));
        }
        self.now = later.now;
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.numbers.len() + self.claims.len() + self.handshakes.len() + self.passages.len()
    }

    /// There are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Replaces the interfaces' ids.
    #[must_use]
    pub fn renumbered(self, number: impl Fn(u64) -> u64) -> Gathered {
        let stream =
            |(s, n): (Stream, Numbered)| (Stream { interface: number(s.interface), ..s }, n);
        let claim = |(c, n): (Claim, Claimed)| (Claim { interface: number(c.interface), ..c }, n);
        let opener =
            |(o, n): (Opener, Handshakes)| (Opener { interface: number(o.interface), ..o }, n);
        let passage = |(p, n): (Passage, u64)| (Passage { host: number(p.host), ..p }, n);
        let resent = self.resent.into_iter();
        Gathered {
            resent: resent.map(|((interface, key), n)| ((number(interface), key), n)).collect(),
            numbers: self.numbers.into_iter().map(stream).collect(),
            earlier: self.earlier.into_iter().map(stream).collect(),
            claims: self.claims.into_iter().map(claim).collect(),
            handshakes: self.handshakes.into_iter().map(opener).collect(),
            passages: self.passages.into_iter().map(passage).collect(),
            ..self
        }
    }

    /// Keeps what one hook saw, for interfaces whose packets all pass both.
    pub fn of_hook(&mut self, hook: Hook) {
        self.numbers.retain(|stream, _| stream.hook == hook);
        self.earlier.retain(|stream, _| stream.hook == hook);
        self.claims.retain(|claim, _| claim.hook == hook);
        self.handshakes.retain(|opener, _| opener.hook == hook);
    }
}

/// What is known besides the rows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Beside {
    read: Gathered,
    tunnels: BTreeMap<Place, Numbered>,
    rows: HashMap<(u64, Key), Handshakes>,
}

impl Beside {
    /// Makes it of everything that was read.
    pub fn new(read: Gathered) -> Beside {
        let mut tunnels: BTreeMap<Place, Numbered> = BTreeMap::new();
        for (stream, n) in read.numbers.iter().chain(&read.earlier) {
            let (a, b) = (stream.from.min(stream.to), stream.from.max(stream.to));
            let place = (stream.interface, stream.kind, stream.tunnel_id(), [a, b]);
            tunnels.entry(place).or_default().add(n);
        }
        let mut rows: HashMap<_, Handshakes> = HashMap::default();
        for (opener, n) in &read.handshakes {
            rows.entry((opener.interface, opener.key)).or_default().add(n);
        }
        Beside { read, tunnels, rows }
    }

    /// Everything that was read.
    pub fn read(&self) -> &Gathered {
        &self.read
    }

    /// Streams of numbered packets.
    pub fn numbers(&self) -> &BTreeMap<Stream, Numbered> {
        &self.read.numbers
    }

    /// Numbered packets for whose stream there was no room.
    pub fn unnumbered(&self) -> u64 {
        self.read.unnumbered
    }

    /// What ICMP errors report about tunnels' packets.
    pub fn claims(&self) -> &BTreeMap<Claim, Claimed> {
        &self.read.claims
    }

    /// How long the echo requests of one GTP-U endpoint took to be answered by another: the mean.
    /// If several interfaces or hosts saw them, the one nearest to the sender, which sees all of it.
    pub fn echo_time(&self, from: IpAddr, to: IpAddr) -> Option<Duration> {
        let asked = |claim: &Claim| {
            claim.saying() == Saying::EchoRequest && (claim.from, claim.to) == (from, to)
        };
        let all = self.read.claims.iter().filter(|(claim, _)| asked(claim));
        all.filter_map(|(_, n)| n.echo_time()).max()
    }

    /// ICMP errors about tunnels' packets for which there was no room.
    pub fn unclaimed(&self) -> u64 {
        self.read.unclaimed
    }

    /// Adds round-trip times.
    #[must_use]
    pub fn timed(&self, timed: Timed) -> Beside {
        let Timed { rows, untimed, untracked } = timed;
        let read = self.read.clone();
        Beside::new(Gathered { round_trips: rows, untimed, untracked, ..read })
    }

    /// Round-trip times, if they were requested.
    pub fn round_trips(&self) -> &BTreeMap<(u64, Key), [RoundTrips; 2]> {
        &self.read.round_trips
    }

    /// What was retransmitted in an interval, where round-trip times were measured.
    pub fn resent(&self) -> &BTreeMap<(u64, Key), [Resent; 2]> {
        &self.read.resent
    }

    /// Packets not used for round-trip times, and connections evicted while being timed.
    pub fn untimed(&self) -> [u64; 2] {
        [self.read.untimed, self.read.untracked]
    }

    /// TCP handshakes by row.
    pub fn handshakes(&self) -> &BTreeMap<Opener, Handshakes> {
        &self.read.handshakes
    }

    /// SYNs and RSTs for which there was no room.
    pub fn unfollowed(&self) -> u64 {
        self.read.unfollowed
    }

    /// SYNs that were evicted before they could have been answered.
    pub fn displaced(&self) -> u64 {
        self.read.displaced
    }

    /// When it was read, in nanoseconds on the clock of the packets.
    pub fn now(&self) -> u64 {
        self.read.now
    }

    /// TCP handshakes and resets of a row; `None` if they were not seen.
    pub fn handshakes_of(&self, flow: &Flow, interfaces: &[Interface]) -> Option<Handshakes> {
        if self.rows.is_empty() {
            return None;
        }
        let at = |i: &Interface| self.rows.get(&(i.id, flow.key)).copied();
        let own = interfaces.get(usize::from(flow.interface))?;
        match own.hook {
            // Several hosts see the same connections: use the one that sees most of them.
            HookKind::Fleet => interfaces.iter().filter_map(at).max_by_key(|n| n.syns),
            _ => at(own),
        }
    }

    /// Nothing is known.
    pub fn is_empty(&self) -> bool {
        self.read == Gathered { now: self.read.now, ..Gathered::default() }
    }

    /// What happened since an older reading.
    #[must_use]
    pub fn since(&self, older: &Beside) -> Beside {
        let none = Numbered::default();
        let changed = self.read.numbers.iter().filter_map(|(stream, n)| {
            let before = older.read.numbers.get(stream).unwrap_or(&none);
            // A stream that was forgotten and came back counts from zero.
            let before = if before.packets > n.packets { &none } else { before };
            (n.packets > before.packets).then(|| (*stream, n.since(before)))
        });
        let said = self.read.claims.iter().filter_map(|(claim, n)| {
            let n = older.read.claims.get(claim).map_or(*n, |before| n.since(before));
            (n.packets > 0 || n.timed > 0).then_some((*claim, n))
        });
        let opened = self.read.handshakes.iter().filter_map(|(opener, n)| {
            let before = older.read.handshakes.get(opener).filter(|before| !n.is_anew(before));
            let n = before.map_or(*n, |before| n.since(before));
            (n != Handshakes::default()).then_some((*opener, n))
        });
        let passed = self.read.passages.iter().filter_map(|(passage, n)| {
            let before = older.read.passages.get(passage).copied().unwrap_or(0);
            let n = n.checked_sub(before).unwrap_or(*n);
            (n > 0).then_some((*passage, n))
        });
        let none = <[RoundTrips; 2]>::default();
        let resent = self.read.round_trips.iter().filter_map(|(row, ways)| {
            let older = older.read.round_trips.get(row).unwrap_or(&none);
            let n = [0, 1].map(|way| ways[way].resent_since(&older[way]));
            n.iter().any(|n| n.retransmitted > 0).then_some((*row, n))
        });
        Beside::new(Gathered {
            resent: resent.collect(),
            passages: passed.collect(),
            handshakes: opened.collect(),
            unfollowed: self.read.unfollowed.saturating_sub(older.read.unfollowed),
            displaced: self.read.displaced.saturating_sub(older.read.displaced),
            now: self.read.now,
            claims: said.collect(),
            unclaimed: self.read.unclaimed.saturating_sub(older.read.unclaimed),
            numbers: changed.collect(),
            earlier: BTreeMap::new(),
            unnumbered: self.read.unnumbered.saturating_sub(older.read.unnumbered),
            ..Gathered::default()
        })
    }

    /// Adds what happened later.
    #[must_use]
    pub fn with(&self, later: &Beside) -> Beside {
        let mut read = self.read.clone();
        read.add(&later.read);
        Beside::new(read)
    }

    /// What became of the numbered packets of a row's outermost tunnel, in both directions and over
    /// all its rows; `None` if its packets have no sequence numbers.
    pub fn numbered(&self, flow: &Flow, interfaces: &[Interface]) -> Option<Numbered> {
        if self.tunnels.is_empty() {
            return None;
        }
        let (key, own) = (&flow.key, interfaces.get(usize::from(flow.interface))?);
        let (ends, kind) = (key.outer?, key.outermost.kind);
        let (a, b) = (ends.first.min(ends.second), ends.first.max(ends.second));
        let id = key.outermost.id.unwrap_or_default();
        let at = |i: &Interface| self.tunnels.get(&(i.id, kind, id, [a, b])).copied();
        match own.hook {
            // The sender itself sees no loss in what it sends.
            HookKind::Fleet => interfaces.iter().filter_map(at).max_by_key(|n| (n.lost, n.packets)),
            _ => at(own),
        }
    }

    /// The memory that it takes.
    pub fn bytes(&self) -> usize {
        let streams = self.read.numbers.len() + self.read.earlier.len();
        streams * (size_of::<Stream>() + size_of::<Numbered>())
            + self.read.claims.len() * (size_of::<Claim>() + size_of::<Claimed>())
            + self.tunnels.len() * (size_of::<Place>() + size_of::<Numbered>())
            + (self.read.handshakes.len() + self.rows.len())
                * (size_of::<Opener>() + size_of::<Handshakes>())
            + self.read.passages.len() * (size_of::<Passage>() + size_of::<u64>())
            + self.read.resent.len() * (size_of::<(u64, Key)>() + 2 * size_of::<Resent>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(id: u32) -> Stream {
        let (from, to) = ([10, 0, 0, 1].into(), [10, 0, 0, 2].into());
        Stream { interface: 0, kind: Kind::Esp, from, to, id, hook: Hook::Rx }
    }

    fn beside(streams: &[(u32, u64, u64)]) -> Beside {
        let of = |(id, packets, lost): &(u32, u64, u64)| {
            (stream(*id), Numbered { packets: *packets, lost: *lost, ..Numbered::default() })
        };
        Beside::new(Gathered { numbers: streams.iter().map(of).collect(), ..Gathered::default() })
    }

    #[test]
    fn an_interval_has_its_own_counts() {
        // 1 went on, 2 stood still, 3 is new, 4 is gone.
        let older = beside(&[(1, 10, 1), (2, 5, 5), (4, 7, 7)]);
        let newer = beside(&[(1, 15, 3), (2, 5, 5), (3, 2, 1)]);
        let happened = newer.since(&older);
        let counts: Vec<_> =
            happened.numbers().iter().map(|(s, n)| (s.id, n.packets, n.lost)).collect();
        assert_eq!(counts, [(1, 5, 2), (3, 2, 1)]);
    }

    #[test]
    fn a_tunnel_sums_all_its_streams() {
        let all = beside(&[(1, 10, 1), (2, 5, 2)]);
        let sum: Vec<_> = all.tunnels.values().map(|n| (n.packets, n.lost)).collect();
        assert_eq!(sum, [(15, 3)], "a rekeyed tunnel is one");
        let place = all.tunnels.keys().next().expect("one");
        assert_eq!(place.2, 0);
    }
}
