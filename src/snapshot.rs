// SPDX-License-Identifier: MIT OR Apache-2.0
//! Totals at an instant, and the one subtraction that makes an interval of two of them.
//!
//! Rows are kept packed (64 bytes for IPv4 in IPv4, 128 else) and decoded as they are walked, so
//! that a million of them cost 64 MB. Each row carries the slot it was read from: a key never
//! moves, so two snapshots are compared by walking both once.
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    time::{Duration, SystemTime},
};

use foldhash::HashMap;

use crate::flow::{
    Books, Count, Counters, Flow, HookKind, Inner, InnerProto, Key, Kind, Pair, Tunnel,
};

/// How full the fuller one of an interface's two tables is, in slots: made for half of them, so
/// that rows are found at once, and full at all of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fill {
    /// Slots in use.
    pub used: u64,
    /// Slots there are.
    pub size: u64,
}

/// One interface: who it is and its books.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Which counters these are: no others of the same source have this number. See [`GONE`].
    pub id: u64,
    /// Its name; for a capture, the file's.
    pub name: String,
    /// Its index in its network namespace; 0 for a capture.
    pub ifindex: u32,
    /// The named network namespace it was opened in, if it was not the caller's.
    pub netns: Option<String>,
    /// How it is watched.
    pub hook: HookKind,
    /// Another of the interfaces, below or beside this one, that the same packets pass. Its rows are
    /// here for who asks for them; totals leave this interface out, so that nothing counts twice.
    pub counted_on: Option<String>,
    /// Its books could not be read: they are those of an earlier reading.
    pub stale: bool,
    /// When `tmon attach` put the programs there; `None` where this process did.
    pub attached: Option<SystemTime>,
    /// Its books.
    pub books: Books,
    /// The time of its books: in a snapshot when they were read, as [`Snapshot::at`]; in an interval
    /// how long they are of, which is more than the interval after a reading that failed.
    pub span: Duration,
    /// Its table.
    pub fill: Fill,
}

/// The [`Interface::id`] of what interfaces counted that went away long ago, all together. Where
/// one is not in a snapshot any more, its counts have moved there.
pub const GONE: u64 = u64::MAX;

const OTHER: u8 = 1; // flags of a packed row
const HAS_ID: u8 = 2;
const HAS_ID1: u8 = 4;
const INNER_PROTO: u8 = 8;
const OUTER_V6: u8 = 16;
const INNER_V6: u8 = 32;
const NO_OUTER: u8 = 64;
const FRAGMENTS: u8 = 128;

/// An IPv4-in-IPv4 row of depth 1 (or one with no inner pair), as kept: counters by hook and a
/// direction bit, as the kernel keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Small {
    place: u32,
    interface: u16,
    kind: u8,
    flags: u8,
    id: u32,
    swapped: [bool; 2], // by hook: packets seen there went second -> first
    twice: bool,
    outer: [u32; 2],
    inner: [u32; 2],
    counts: [Count; 2], // by hook
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Large {
    place: u32,
    interface: u16,
    kinds: [u8; 2],
    flags: u8,
    depth: u8,
    swapped: [bool; 2],
    twice: bool,
    ids: [u32; 2],
    outer: [u128; 2],
    inner: [u128; 2],
    counts: [Count; 2],
}

/// What of a row is in one slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// By hook: in which direction of the row the packets counted there went.
    pub swapped: [bool; 2],
    /// They came in fragments of outer packets.
    pub fragments: bool,
    /// Both hooks saw each packet, see [`Counters::twice`].
    pub twice: bool,
}

/// What the subtraction needs of a packed row.
trait Packed: Copy {
    fn place(&self) -> (u16, u32);
    fn same_key(&self, o: &Self) -> bool;
    fn part(&self) -> Part;
    fn counts(&mut self) -> &mut [Count; 2];
    fn flow(&self) -> Flow;
    fn gone(&self) -> Gone;
}

fn counters(counts: [Count; 2], part: Part) -> Counters {
    let mut c = Counters { twice: part.twice, ..Counters::default() };
    for (hook, n) in counts.into_iter().enumerate() {
        c.cells[hook][usize::from(part.swapped[hook])] = n;
    }
    if part.fragments {
        c.fragments = c.cells;
    }
    c
}

fn ip(bits: u128, v6: bool) -> IpAddr {
    if v6 { Ipv6Addr::from_bits(bits).into() } else { Ipv4Addr::from_bits(bits as u32).into() }
}

fn bits(a: IpAddr) -> (u128, bool) {
    match a {
        IpAddr::V4(a) => (u128::from(a.to_bits()), false),
        IpAddr::V6(a) => (a.to_bits(), true),
    }
}

fn pair(p: [u128; 2], v6: bool) -> Pair {
    Pair { first: ip(p[0], v6), second: ip(p[1], v6) }
}

fn pair_v4([a, b]: [u32; 2]) -> Pair {
    Pair { first: Ipv4Addr::from_bits(a).into(), second: Ipv4Addr::from_bits(b).into() }
}

impl Large {
    fn outer(&self) -> Option<Pair> {
        (self.flags & NO_OUTER == 0).then(|| pair(self.outer, self.flags & OUTER_V6 != 0))
    }
}

impl Packed for Small {
    fn place(&self) -> (u16, u32) {
        (self.interface, self.place)
    }
    fn same_key(&self, o: &Self) -> bool {
        (self.kind, self.flags, self.id, self.swapped, self.outer, self.inner)
            == (o.kind, o.flags, o.id, o.swapped, o.outer, o.inner)
    }
    fn part(&self) -> Part {
        Part { swapped: self.swapped, fragments: self.flags & FRAGMENTS != 0, twice: self.twice }
    }
    fn counts(&mut self) -> &mut [Count; 2] {
        &mut self.counts
    }
    fn gone(&self) -> Gone {
        Gone {
            interface: self.interface,
            key: self.flow().key,
            part: self.part(),
            counts: self.counts,
        }
    }
    fn flow(&self) -> Flow {
        Flow {
            interface: self.interface,
            key: Key {
                outer: Some(pair_v4(self.outer)),
                outermost: Tunnel {
                    kind: Kind::from_number(self.kind),
                    id: (self.flags & HAS_ID != 0).then_some(self.id),
                },
                innermost: None,
                depth: 1,
                inner: match self.flags & INNER_PROTO {
                    0 => Inner::Pair(pair_v4(self.inner)),
                    _ => Inner::Proto(InnerProto(self.inner[0])),
                },
                other: self.flags & OTHER != 0,
            },
            counters: counters(self.counts, self.part()),
        }
    }
}

impl Packed for Large {
    fn place(&self) -> (u16, u32) {
        (self.interface, self.place)
    }
    fn same_key(&self, o: &Self) -> bool {
        (self.kinds, self.flags, self.depth, self.swapped, self.ids, self.outer, self.inner)
            == (o.kinds, o.flags, o.depth, o.swapped, o.ids, o.outer, o.inner)
    }
    fn part(&self) -> Part {
        Part { swapped: self.swapped, fragments: self.flags & FRAGMENTS != 0, twice: self.twice }
    }
    fn counts(&mut self) -> &mut [Count; 2] {
        &mut self.counts
    }
    fn gone(&self) -> Gone {
        Gone {
            interface: self.interface,
            key: self.flow().key,
            part: self.part(),
            counts: self.counts,
        }
    }
    fn flow(&self) -> Flow {
        let tunnel = |i: usize, flag| Tunnel {
            kind: Kind::from_number(self.kinds[i]),
            id: (self.flags & flag != 0).then_some(self.ids[i]),
        };
        Flow {
            interface: self.interface,
            key: Key {
                outer: self.outer(),
                outermost: tunnel(0, HAS_ID),
                innermost: (self.depth > 1).then(|| tunnel(1, HAS_ID1)),
                depth: self.depth,
                inner: match self.flags & INNER_PROTO {
                    0 => Inner::Pair(pair(self.inner, self.flags & INNER_V6 != 0)),
                    _ => Inner::Proto(InnerProto(self.inner[0] as u32)),
                },
                other: self.flags & OTHER != 0,
            },
            counters: counters(self.counts, self.part()),
        }
    }
}

/// A row (or a part of one) as it is kept. What is asked for is decoded, and nothing else: for walks
/// over very many.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a>(Kept<'a>);

#[derive(Clone, Copy, Debug)]
enum Kept<'a> {
    Small(&'a Small),
    Large(&'a Large),
}

impl Row<'_> {
    /// Its interface's index.
    #[inline]
    pub fn interface(&self) -> u16 {
        match self.0 {
            Kept::Small(r) => r.interface,
            Kept::Large(r) => r.interface,
        }
    }

    /// The outermost tunnel.
    #[inline]
    pub fn outermost(&self) -> Tunnel {
        let tunnel = |kind, flags, id| Tunnel {
            kind: Kind::from_number(kind),
            id: (flags & HAS_ID != 0).then_some(id),
        };
        match self.0 {
            Kept::Small(r) => tunnel(r.kind, r.flags, r.id),
            Kept::Large(r) => tunnel(r.kinds[0], r.flags, r.ids[0]),
        }
    }

    /// A full table could not keep apart what is in it.
    #[inline]
    pub fn other(&self) -> bool {
        match self.0 {
            Kept::Small(r) => r.flags & OTHER != 0,
            Kept::Large(r) => r.flags & OTHER != 0,
        }
    }

    /// The outer addresses as numbers, if both are IPv4.
    #[inline]
    pub fn outer_v4(&self) -> Option<[u32; 2]> {
        match self.0 {
            Kept::Small(r) => Some(r.outer),
            Kept::Large(r) => {
                (r.flags & (OUTER_V6 | NO_OUTER) == 0).then(|| r.outer.map(|a| a as u32))
            }
        }
    }

    /// The outer addresses.
    pub fn outer(&self) -> Option<Pair> {
        match self.0 {
            Kept::Small(r) => Some(pair_v4(r.outer)),
            Kept::Large(r) => r.outer(),
        }
    }

    /// Which of the outer addresses the packets came from that were counted on ingress (0 the
    /// first, 1 the second), and how many there were.
    #[inline]
    pub fn arrived(&self) -> (usize, u64) {
        let (counts, part) = self.counted();
        (usize::from(part.swapped[0]), counts[0].packets)
    }

    /// The inner addresses as numbers, if there are any and both are IPv4.
    #[inline]
    pub fn inner_v4(&self) -> Option<[u32; 2]> {
        match self.0 {
            Kept::Small(r) => (r.flags & INNER_PROTO == 0).then_some(r.inner),
            Kept::Large(r) => {
                (r.flags & (INNER_V6 | INNER_PROTO) == 0).then(|| r.inner.map(|a| a as u32))
            }
        }
    }

    #[inline]
    fn counted(&self) -> ([Count; 2], Part) {
        match self.0 {
            Kept::Small(r) => (r.counts, r.part()),
            Kept::Large(r) => (r.counts, r.part()),
        }
    }

    /// It came in fragments of outer packets.
    #[inline]
    pub fn fragments(&self) -> bool {
        self.counted().1.fragments
    }

    /// By hook and direction.
    #[inline]
    pub fn counters(&self) -> Counters {
        let (counts, part) = self.counted();
        counters(counts, part)
    }

    /// What went first -> second, and second -> first.
    #[inline]
    pub fn sent(&self) -> [Count; 2] {
        let (counts, Part { swapped, twice, .. }) = self.counted();
        let mut sent = [Count::default(); 2];
        for hook in usize::from(twice)..2 {
            sent[usize::from(swapped[hook])] += counts[hook];
        }
        sent
    }

    /// Both directions.
    #[inline]
    pub fn total(&self) -> Count {
        match self.counted() {
            (counts, Part { twice: true, .. }) => counts[1],
            (counts, _) => counts[0] + counts[1],
        }
    }

    /// A number that equal keys share, and other keys seldom.
    #[inline]
    pub fn print(&self) -> u64 {
        let mix = |h: u64, v: u64| (h ^ v).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let wide = |h: u64, v: u128| mix(mix(h, v as u64), (v >> 64) as u64);
        match self.0 {
            Kept::Small(r) => [r.id, r.outer[0], r.outer[1], r.inner[0], r.inner[1]]
                .iter()
                .fold(1, |h, v| mix(h, u64::from(*v))),
            Kept::Large(r) => [r.outer[0], r.outer[1], r.inner[0], r.inner[1]]
                .iter()
                .fold(u64::from(r.ids[0]), |h, v| wide(h, *v)),
        }
    }

    /// All of it.
    pub fn flow(&self) -> Flow {
        match self.0 {
            Kept::Small(r) => r.flow(),
            Kept::Large(r) => r.flow(),
        }
    }
}

/// Rows, packed, in the order of their places.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    small: Vec<Small>,
    large: Vec<Large>,
}

impl Rows {
    /// Where [`Rows::rewind`] comes back to.
    pub(crate) fn position(&self) -> [usize; 2] {
        [self.small.len(), self.large.len()]
    }

    /// Takes back what was pushed since then.
    pub(crate) fn rewind(&mut self, [small, large]: [usize; 2]) {
        self.small.truncate(small);
        self.large.truncate(large);
    }

    /// Adds what one slot holds of a row, by hook. `place` is where it was read from: unique within
    /// the interface and ascending from call to call; the same key keeps its place.
    pub fn push(
        &mut self,
        place: u32,
        interface: u16,
        key: &Key,
        counts: [Count; 2],
        Part { swapped, fragments, twice }: Part,
    ) {
        let (inner, inner_flags) = match key.inner {
            Inner::Pair(p) => {
                let ((a, v6), (b, _)) = (bits(p.first), bits(p.second));
                ([a, b], if v6 { INNER_V6 } else { 0 })
            }
            Inner::Proto(p) => ([u128::from(p.0), 0], INNER_PROTO),
        };
        let (outer, outer_flags) = match key.outer {
            Some(p) => {
                let ((a, v6), (b, _)) = (bits(p.first), bits(p.second));
                ([a, b], if v6 { OUTER_V6 } else { 0 })
            }
            None => ([0, 0], NO_OUTER),
        };
        let id1 = key.innermost.and_then(|t| t.id);
        let flags = inner_flags
            | outer_flags
            | if key.other { OTHER } else { 0 }
            | if fragments { FRAGMENTS } else { 0 }
            | if key.outermost.id.is_some() { HAS_ID } else { 0 }
            | if id1.is_some() { HAS_ID1 } else { 0 };
        let id = key.outermost.id.unwrap_or(0);
        if key.depth == 1 && flags & (OUTER_V6 | INNER_V6 | NO_OUTER) == 0 {
            self.small.push(Small {
                place,
                interface,
                kind: key.outermost.kind.number(),
                flags,
                id,
                swapped,
                twice,
                outer: outer.map(|a| a as u32),
                inner: inner.map(|a| a as u32),
                counts,
            });
        } else {
            self.large.push(Large {
                place,
                interface,
                kinds: [key.outermost.kind.number(), key.innermost.map_or(0, |t| t.kind.number())],
                flags,
                depth: key.depth,
                swapped,
                twice,
                ids: [id, id1.unwrap_or(0)],
                outer,
                inner,
                counts,
            });
        }
    }

    /// Adds a whole decoded row, in as many parts as it needs; for sources that do not read slots.
    pub fn push_flow(&mut self, place: u32, flow: &Flow) {
        let (all, pieces) = (&flow.counters.cells, &flow.counters.fragments);
        // An end host fills one direction per hook. A router or a mirror fills both.
        let ways = [[true, false], [false, true]];
        for (n, (fragments, swapped)) in
            [false, true].into_iter().flat_map(|f| ways.map(|w| (f, w))).enumerate()
        {
            let counts = [0, 1].map(|hook| {
                let way = usize::from(swapped[hook]);
                if fragments { pieces[hook][way] } else { all[hook][way].since(pieces[hook][way]) }
            });
            let is_empty = n == 0 && (flow.counters.rx() + flow.counters.tx()).is_zero();
            if is_empty || counts.iter().any(|c| !c.is_zero()) {
                self.push(
                    place * 4 + n as u32,
                    flow.interface,
                    &flow.key,
                    counts,
                    Part { swapped, fragments, twice: flow.counters.twice },
                );
            }
        }
    }

    /// Every row, decoded, in no particular order. A row that was counted in two directions at one
    /// hook or in fragments, or created by two CPUs at once, comes in parts: add up equal keys (see [`Rows::merged`]).
    pub fn iter(&self) -> impl Iterator<Item = Flow> + '_ {
        self.small.iter().map(Packed::flow).chain(self.large.iter().map(Packed::flow))
    }

    /// The same without decoding.
    pub fn walk(&self) -> impl Iterator<Item = Row<'_>> {
        self.small
            .iter()
            .map(|r| Row(Kept::Small(r)))
            .chain(self.large.iter().map(|r| Row(Kept::Large(r))))
    }

    /// Every row once: parts added up, sorted by interface and key.
    pub fn merged(&self) -> Vec<Flow> {
        let mut flows: Vec<Flow> = self.iter().collect();
        flows.sort_unstable_by_key(|f| (f.interface, f.key));
        flows.dedup_by(|next, kept| {
            let same = (next.interface, next.key) == (kept.interface, kept.key);
            if same {
                kept.counters.add(&next.counters);
            }
            same
        });
        flows
    }

    /// How many parts of rows there are.
    pub fn len(&self) -> usize {
        self.small.len() + self.large.len()
    }

    /// The memory that they take.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.small[..]) + size_of_val(&self.large[..])
    }

    /// There is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends the rows of another interface.
    pub fn append(&mut self, mut o: Rows) {
        self.small.append(&mut o.small);
        self.large.append(&mut o.large);
    }

    /// Where the next row will be, for [`Rows::seen_twice`].
    pub fn end(&self) -> [usize; 2] {
        [self.small.len(), self.large.len()]
    }

    /// Both hooks saw each packet of the rows from there on.
    pub fn seen_twice(&mut self, [small, large]: [usize; 2]) {
        self.small[small..].iter_mut().for_each(|r| r.twice = true);
        self.large[large..].iter_mut().for_each(|r| r.twice = true);
    }

    /// The same rows where interfaces are at other places, in the same order. Rows of those that
    /// have none go to `gone`.
    fn moved(&self, to: &[Option<u16>], heir: u16, gone: &mut Vec<Gone>) -> Rows {
        let place = |i: u16| to.get(usize::from(i)).copied().flatten();
        let mut rows = Rows::default();
        for r in &self.small {
            match place(r.interface) {
                Some(interface) => rows.small.push(Small { interface, ..*r }),
                None => gone.push(Gone { interface: heir, ..r.gone() }),
            }
        }
        for r in &self.large {
            match place(r.interface) {
                Some(interface) => rows.large.push(Large { interface, ..*r }),
                None => gone.push(Gone { interface: heir, ..r.gone() }),
            }
        }
        rows
    }

    fn since(&self, older: &Rows, mut gone: Vec<Gone>) -> Rows {
        let mut rows = Rows {
            small: subtract(&self.small, &older.small, &mut gone),
            large: subtract(&self.large, &older.large, &mut gone),
        };
        rows.settle(&gone);
        rows
    }

    /// What a row held in the older snapshot and not in the newer has moved to an aged row
    /// meanwhile: it did not happen in between.
    fn settle(&mut self, gone: &[Gone]) {
        if gone.is_empty() {
            return;
        }
        let flows = |rows: &mut dyn Iterator<Item = (Flow, Part)>, large| {
            rows.enumerate()
                .filter(|(_, (f, _))| f.key.is_aged())
                .map(|(i, (f, part))| ((f.interface, f.key, part), (large, i)))
                .collect::<Vec<_>>()
        };
        let mut aged: HashMap<_, _> =
            flows(&mut self.small.iter().map(|p| (p.flow(), p.part())), false)
                .into_iter()
                .collect();
        aged.extend(flows(&mut self.large.iter().map(|p| (p.flow(), p.part())), true));
        for g in gone {
            let mut counts = g.counts;
            for key in [g.key.aged(), Key::AGED] {
                let home = match aged.get(&(g.interface, key, g.part)) {
                    None => continue,
                    Some((false, i)) => self.small[*i].counts(),
                    Some((true, i)) => self.large[*i].counts(),
                };
                for (home, gone) in home.iter_mut().zip(&mut counts) {
                    let moved = Count {
                        packets: home.packets.min(gone.packets),
                        bytes: home.bytes.min(gone.bytes),
                    };
                    *home = home.since(moved);
                    *gone = gone.since(moved);
                }
            }
        }
        self.small.retain_mut(happened);
        self.large.retain_mut(happened);
    }
}

/// What rows held whose tables are no more: a sum for each pair of hosts, tunnel and part.
#[derive(Clone, Debug, Default)]
pub struct Sums(Vec<(Key, Part, [Count; 2])>);

impl Sums {
    /// As many are kept apart.
    const MOST: usize = 1024;
    /// Their places are behind those of any table.
    const PLACE: u32 = 1 << 31;

    /// Adds all rows.
    pub fn add(&mut self, rows: &Rows) {
        let mut known: HashMap<(Key, Part), usize> =
            self.0.iter().enumerate().map(|(i, (key, part, _))| ((*key, *part), i)).collect();
        for row in rows.walk() {
            let (counts, part) = row.counted();
            let mut key = row.flow().key.aged();
            if self.0.len() >= Sums::MOST && !known.contains_key(&(key, part)) {
                key = Key::AGED;
            }
            let i = *known.entry((key, part)).or_insert_with(|| {
                self.0.push((key, part, [Count::default(); 2]));
                self.0.len() - 1
            });
            for (sum, n) in self.0[i].2.iter_mut().zip(counts) {
                *sum += n;
            }
        }
    }

    /// Appends them as rows of an interface, behind those of its tables.
    pub fn push(&self, interface: u16, rows: &mut Rows) {
        for (place, (key, part, counts)) in (Sums::PLACE..).zip(&self.0) {
            rows.push(place, interface, key, *counts, *part);
        }
    }
}

/// A row of the older snapshot that the newer does not have any more.
struct Gone {
    interface: u16,
    key: Key,
    part: Part,
    counts: [Count; 2],
}

fn happened<P: Packed>(row: &mut P) -> bool {
    row.counts().iter().any(|c| !c.is_zero())
}

/// Newer minus older, row by row; rows in which nothing happened are left out.
fn subtract<P: Packed>(newer: &[P], older: &[P], gone: &mut Vec<Gone>) -> Vec<P> {
    let mut old = older.iter().copied().peekable();
    let mut rows = Vec::with_capacity(newer.len()); // what is never written is never resident
    for row in newer {
        let mut row = *row;
        while let Some(before) = old.next_if(|o| o.place() < row.place()) {
            gone.push(before.gone());
        }
        if let Some(mut before) = old.next_if(|o| o.place() == row.place()) {
            let [then, now] = [*before.counts(), *row.counts()];
            let went_back =
                (0..2).any(|i| now[i].packets < then[i].packets || now[i].bytes < then[i].bytes);
            if before.same_key(&row) && !went_back {
                *row.counts() = [now[0].since(then[0]), now[1].since(then[1])];
            } else {
                gone.push(before.gone());
            }
        }
        if happened(&mut row) {
            rows.push(row);
        }
    }
    gone.extend(old.map(|o| o.gone()));
    rows
}

/// What stands for a time that is not known: one that RFC 3339 has no words for, so that it is
/// nothing in JSON and `-` elsewhere.
pub fn unknown_time() -> SystemTime {
    const LATER_THAN_ANY: Duration = Duration::from_secs(1 << 60);
    SystemTime::UNIX_EPOCH.checked_add(LATER_THAN_ANY).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Totals at an instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// When counting began.
    pub since: SystemTime,
    /// When this was read.
    pub taken: SystemTime,
    /// When this was read, on a clock that only goes forward, from any fixed point.
    pub at: Duration,
    /// The interfaces, as rows refer to them.
    pub interfaces: Vec<Interface>,
    /// The rows, with totals.
    pub rows: Rows,
}

/// What happened between two instants. Interfaces and rows hold differences.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interval {
    /// When it began.
    pub since: SystemTime,
    /// When it ended.
    pub taken: SystemTime,
    /// How long it really was; never assumed.
    pub elapsed: Duration,
    /// The interfaces at its end, books as differences.
    pub interfaces: Vec<Interface>,
    /// Rows in which something happened, counters as differences.
    pub rows: Rows,
}

impl Snapshot {
    /// What happened since an older snapshot. An interface keeps its place for as long as its tables
    /// live, whatever it is called and however often it is made anew; one at a new place counts from
    /// zero.
    pub fn since(&self, older: &Snapshot) -> Interval {
        let to = places(&older.interfaces, &self.interfaces);
        let heir = self.interfaces.iter().position(|i| i.id == GONE).unwrap_or(usize::MAX);
        let mut before = vec![(Books::default(), older.at); self.interfaces.len()];
        for (i, to) in older.interfaces.iter().zip(&to) {
            if let Some(to) = to {
                before[usize::from(*to)].0.add(&i.books);
                before[usize::from(*to)].1 = i.span;
            } else if let Some((books, _)) = before.get_mut(heir) {
                books.add(&i.books); // that much it had before, elsewhere
            }
        }
        let mut interfaces = self.interfaces.clone();
        for (now, (books, span)) in interfaces.iter_mut().zip(before) {
            (now.books, now.span) = (now.books.since(&books), now.span.saturating_sub(span));
        }
        let in_place = to.iter().zip(0..).all(|(to, i)| *to == Some(i));
        let mut gone = Vec::new();
        let moved = (!in_place).then(|| older.rows.moved(&to, heir as u16, &mut gone));
        Interval {
            since: older.taken,
            taken: self.taken,
            elapsed: self.at.saturating_sub(older.at),
            interfaces,
            rows: self.rows.since(moved.as_ref().unwrap_or(&older.rows), gone),
        }
    }

    /// Everything since counting began, as one interval.
    pub fn total(&self) -> Interval {
        let elapsed = self.taken.duration_since(self.since).unwrap_or_default();
        let mut interfaces = self.interfaces.clone();
        for i in &mut interfaces {
            i.span = elapsed.saturating_sub(self.at.saturating_sub(i.span));
        }
        Interval {
            since: self.since,
            taken: self.taken,
            elapsed,
            interfaces,
            rows: self.rows.clone(),
        }
    }
}

/// Where interfaces of an older list are in a newer one, by their ids.
pub fn places(older: &[Interface], newer: &[Interface]) -> Vec<Option<u16>> {
    let place = |(i, id): (usize, u64)| {
        let same = newer.get(i).filter(|n| n.id == id).map(|_| i);
        same.or_else(|| newer.iter().position(|n| n.id == id)).map(|i| i as u16)
    };
    older.iter().map(|i| i.id).enumerate().map(place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(last: u8, id: u32, n: u64) -> Flow {
        let v4 = |d| IpAddr::from([172, 16, 1, d]);
        let c = Count { packets: n, bytes: n * 100 };
        Flow {
            interface: 0,
            key: Key {
                outer: Some(Pair { first: v4(100), second: v4(last) }),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(id) },
                innermost: None,
                depth: 1,
                inner: Inner::Pair(Pair {
                    first: [192, 168, 0, 1].into(),
                    second: [192, 168, 0, last].into(),
                }),
                other: false,
            },
            counters: Counters {
                cells: [[Count::default(), c], [c, Count::default()]],
                ..Default::default()
            },
        }
    }

    fn snapshot(at: u64, flows: &[Flow]) -> Snapshot {
        let mut rows = Rows::default();
        for (i, f) in flows.iter().enumerate() {
            rows.push_flow(i as u32, f);
        }
        let taken = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        Snapshot {
            since: SystemTime::UNIX_EPOCH,
            taken,
            at: Duration::from_secs(at),
            interfaces: vec![],
            rows,
        }
    }

    #[test]
    fn packed_rows_come_back_as_they_were() {
        assert_eq!(size_of::<Small>(), 64);
        assert_eq!(size_of::<Large>(), 128);
        let mut nested = flow(101, 7, 3);
        nested.key.innermost = Some(Tunnel { kind: Kind::Gtpu, id: None });
        nested.key.depth = 2;
        nested.key.inner = Inner::Pair(Pair {
            first: Ipv6Addr::LOCALHOST.into(),
            second: Ipv6Addr::from_bits(1 << 64).into(),
        });
        nested.counters.cells[0][0] = Count { packets: 1, bytes: u64::MAX };
        let mut arp = flow(9, 7, 1);
        arp.key.inner = Inner::Proto(InnerProto(0x0806));
        let mut overflow = flow(9, 7, 1);
        overflow.key = Key {
            outer: None,
            outermost: Tunnel { kind: Kind::None, id: None },
            innermost: None,
            depth: 0,
            inner: Inner::Proto(InnerProto(InnerProto::REASON)),
            other: true,
        };
        let mut pieces = flow(101, 10000, 5);
        pieces.counters.fragments[1][0] = Count { packets: 2, bytes: 200 };
        let mut both_ways = nested;
        both_ways.counters.fragments = both_ways.counters.cells;
        for f in [flow(101, 10000, 5), nested, arp, overflow, pieces, both_ways] {
            assert_eq!(snapshot(0, &[f]).rows.merged(), [f]);
        }
        let of = |f| {
            snapshot(0, &[f])
                .rows
                .walk()
                .map(|r| (r.fragments(), r.total().packets))
                .collect::<Vec<_>>()
        };
        assert_eq!(of(pieces), [(false, 5 + 3), (true, 2)]);
        assert_eq!(of(both_ways).iter().filter(|p| !p.0).count(), 0);
    }

    #[test]
    fn an_interval_is_the_difference() {
        let older = snapshot(10, &[flow(101, 1, 5), flow(102, 1, 5), flow(103, 1, 9)]);
        // 101 went on, 102 stood still, 103 was restarted, 104 is new
        let newer =
            snapshot(12, &[flow(101, 1, 8), flow(102, 1, 5), flow(103, 1, 2), flow(104, 1, 1)]);
        let d = newer.since(&older);
        assert_eq!(d.elapsed, Duration::from_secs(2));
        assert_eq!(d.rows.merged(), [flow(101, 1, 3), flow(103, 1, 2), flow(104, 1, 1)]);
    }

    #[test]
    fn a_place_with_another_key_counts_from_zero() {
        let d = snapshot(2, &[flow(102, 1, 3)]).since(&snapshot(1, &[flow(101, 1, 9)]));
        assert_eq!(d.rows.merged(), [flow(102, 1, 3)]);
    }

    #[test]
    fn what_has_aged_did_not_happen_again() {
        let aged = |f: Flow| Flow { key: f.key.aged(), ..f };
        let of_all = |f: Flow| Flow { key: Key::AGED, ..f };
        let older = snapshot(1, &[flow(101, 1, 5), flow(102, 1, 7), flow(103, 1, 9)]);
        // 101 counted one more and went; 102 had no aged row of its own; 103's slot is another's now.
        let newer = snapshot(
            2,
            &[aged(flow(101, 1, 6)), of_all(flow(0, 0, 7)), flow(104, 1, 2), aged(flow(103, 1, 9))],
        );
        assert_eq!(newer.since(&older).rows.merged(), [aged(flow(101, 1, 1)), flow(104, 1, 2)]);
        // It came back at once, in the same slot.
        let newer = snapshot(
            2,
            &[flow(101, 1, 2), flow(102, 1, 7), flow(103, 1, 9), aged(flow(101, 1, 5))],
        );
        assert_eq!(newer.since(&older).rows.merged(), [flow(101, 1, 2)]);
        // Aged rows count on from where they were.
        let later = snapshot(
            3,
            &[flow(101, 1, 2), aged(flow(102, 1, 7)), flow(103, 1, 9), aged(flow(101, 1, 5))],
        );
        assert_eq!(later.since(&newer).rows.merged(), []);
    }

    #[test]
    fn fragments_are_subtracted_and_age_by_themselves() {
        let with = |f: Flow, fragments| {
            let cells = f.counters.cells.map(|ways| {
                ways.map(|c| {
                    if c.is_zero() { c } else { Count { packets: fragments, bytes: fragments } }
                })
            });
            Flow { counters: Counters { fragments: cells, ..f.counters }, ..f }
        };
        let older = snapshot(1, &[with(flow(101, 1, 5), 2)]);
        let newer = snapshot(2, &[with(flow(101, 1, 9), 3)]);
        let difference = newer.since(&older).rows.merged();
        assert_eq!(
            (
                difference[0].counters.tx().packets,
                difference[0].counters.in_fragments().tx().packets
            ),
            (4, 1)
        );
        let gone =
            snapshot(3, &[Flow { key: flow(101, 1, 0).key.aged(), ..with(flow(101, 1, 9), 3) }]);
        assert_eq!(gone.since(&newer).rows.merged(), []);
    }

    #[test]
    fn books_that_could_not_be_read_are_of_a_longer_time_next() {
        let reading = |at, read, packets| {
            let books =
                Books { counted: [Count { packets, bytes: packets * 100 }; 2], ..Books::default() };
            let interface = Interface {
                id: 0,
                name: "eth0".to_owned(),
                ifindex: 1,
                netns: None,
                hook: HookKind::Tcx,
                counted_on: None,
                stale: read < at,
                attached: None,
                books,
                span: Duration::from_secs(read),
                fill: Fill::default(),
            };
            Snapshot { interfaces: vec![interface], ..snapshot(at, &[]) }
        };
        // Ten packets a second; the third and the fourth reading fail.
        let all = [
            reading(1, 1, 10),
            reading(2, 2, 20),
            reading(3, 2, 20),
            reading(4, 2, 20),
            reading(5, 5, 50),
            reading(6, 6, 60),
        ];
        let of = |i: &Interval| {
            (
                i.elapsed.as_secs(),
                i.interfaces[0].books.counted[0].packets,
                i.interfaces[0].span.as_secs(),
            )
        };
        let intervals: Vec<_> = all.windows(2).map(|w| of(&w[1].since(&w[0]))).collect();
        assert_eq!(intervals, [(1, 10, 1), (1, 0, 0), (1, 0, 0), (1, 30, 3), (1, 10, 1)]);
        assert_eq!(all.each_ref().map(|s| of(&s.total()).2), [1, 2, 2, 2, 5, 6]);
        // One that comes later counts from the reading before.
        assert_eq!(of(&all[5].since(&snapshot(4, &[]))), (2, 60, 2));
    }

    fn interface(id: u64, packets: u64) -> Interface {
        let books =
            Books { counted: [Count { packets, bytes: packets * 100 }; 2], ..Books::default() };
        Interface {
            id,
            name: format!("pod{id}"),
            ifindex: 1,
            netns: None,
            hook: HookKind::Off,
            counted_on: None,
            stale: false,
            attached: None,
            books,
            span: Duration::from_secs(1),
            fill: Fill::default(),
        }
    }

    #[test]
    fn interfaces_that_share_an_entry_later_did_not_count_again() {
        let at = |interface, f: Flow| Flow { interface, ..f };
        let aged = |interface, f: Flow| Flow { interface, key: f.key.aged(), ..f };
        let with = |ids: &[(u64, u64)], rows: &[(u32, Flow)]| {
            let mut s = snapshot(1, &[]);
            s.interfaces = ids.iter().map(|(id, n)| interface(*id, *n)).collect();
            rows.iter().for_each(|(place, row)| s.rows.push_flow(*place, row));
            s
        };
        let older = with(
            &[(7, 5), (8, 6), (9, 1)],
            &[
                (0, aged(0, flow(101, 1, 5))),
                (4, at(1, flow(102, 1, 6))),
                (2, at(2, flow(103, 1, 1))),
            ],
        );
        // 7 shares an entry, and 8, which counted one more before it went, does, too; 10 is new.
        let newer = with(
            &[(9, 3), (GONE, 12), (10, 4)],
            &[
                (2, at(0, flow(103, 1, 3))),
                (0, aged(1, flow(101, 1, 5))),
                (1, aged(1, flow(102, 1, 7))),
                (2, at(2, flow(104, 1, 4))),
            ],
        );
        let between = newer.since(&older);
        assert_eq!(
            between.rows.merged(),
            [at(0, flow(103, 1, 2)), aged(1, flow(102, 1, 1)), at(2, flow(104, 1, 4))]
        );
        let counted: Vec<u64> =
            between.interfaces.iter().map(|i| i.books.counted[0].packets).collect();
        assert_eq!(counted, [2, 1, 4]);
    }

    #[test]
    fn sums_keep_every_count_however_many_there_are() {
        let mut rows = Rows::default();
        for n in 0..2 * Sums::MOST as u32 {
            rows.push_flow(n, &flow(n as u8, n, 1));
        }
        let mut sums = Sums::default();
        sums.add(&rows);
        sums.add(&rows);
        let mut all = Rows::default();
        sums.push(3, &mut all);
        assert!(all.len() <= Sums::MOST + 2, "{}", all.len());
        let total = |rows: &Rows| rows.iter().map(|f| f.counters.total()).sum::<Count>();
        assert_eq!(total(&all), total(&rows) + total(&rows));
        assert!(all.iter().all(|f| f.interface == 3 && f.key.is_aged()));
    }

    #[test]
    fn a_packet_that_both_hooks_saw_is_sent_once() {
        let mut f = flow(101, 7, 5);
        f.counters.cells = [[Count { packets: 5, bytes: 500 }, Count::default()]; 2];
        let mut rows = Rows::default();
        rows.push_flow(0, &flow(101, 7, 1));
        let start = rows.end();
        rows.push_flow(1, &f);
        rows.seen_twice(start);
        let sent: Vec<_> = rows.walk().map(|r| (r.sent(), r.total())).collect();
        let c = |n| Count { packets: n, bytes: n * 100 };
        assert_eq!(sent[0], ([c(1), c(1)], c(2)), "not what was there before");
        let both =
            sent[1..].iter().fold([Count::default(); 2], |s, (w, _)| [s[0] + w[0], s[1] + w[1]]);
        assert_eq!(both, [c(5), Count::default()]);
        let of_lo = rows.walk().skip(1).map(|r| r.flow().counters.fwd()).sum::<Count>();
        assert_eq!(of_lo, c(5));
    }
}
