// SPDX-License-Identifier: MIT OR Apache-2.0
//! The rows of a reading: the kernel's own keys with what was counted, in the order of their slots.
//!
//! A row is kept as in the tables (64 bytes for IPv4 in IPv4, 120 for all others) and decoded only
//! where it is used, so that a million of them cost 64 MB and a copy. Each has the number of the
//! slot it was read from: a key never moves, so two readings are compared by walking both once.
use std::{
    borrow::Cow,
    cmp::Ordering,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use contract::{
    ROW_DIR, ROW_ID, ROW_ID1, ROW_INNER6, ROW_NO_OUTER, ROW_NO_PAIR, ROW_OTHER, ROW_OUTER6,
    SHARD_CPU, SHARD_FRAGMENT, key4, key6,
};
use foldhash::HashMap;

use crate::flow::{Count, Counters, Flow, Inner, InnerProto, Key, Kind, Pair, Tunnel};

/// Counts, by hook.
pub type Counts = [Count; 2];

/// Which part of its row a slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part {
    /// Packets seen on ingress went from the second end to the first, and those seen on egress from
    /// the first to the second; the reverse if this is not set.
    pub swapped: bool,
    /// Whether it arrived in fragments of outer packets.
    pub fragments: bool,
}

impl Part {
    /// The direction (0 is first to second) of the packets counted at a hook.
    #[inline]
    fn direction(self, hook: usize) -> usize {
        usize::from(self.swapped) ^ hook
    }
}

/// A slot of a table as stored here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept<K> {
    pub(crate) key: K,
    pub(crate) place: u32,
    pub(crate) interface: u16,
    pub(crate) egress_only: bool,
    pub(crate) counts: Counts,
}

const _: () = assert!(size_of::<Kept<key4>>() == 64);
const _: () = assert!(size_of::<Kept<key6>>() == 120);

/// A key of the tables.
pub(crate) trait SlotKey: Copy + Eq + std::hash::Hash {
    /// `ROW_*`.
    fn flags(&self) -> u8;
    /// `SHARD_*`.
    fn shard(&self) -> u16;
    /// The key of the whole row, of which this may be one CPU's part.
    #[must_use]
    fn of_all_cpus(self) -> Self;
    /// The decoded key.
    fn key(&self) -> Key;
    /// The part of the row that it is of.
    #[inline]
    fn part(&self) -> Part {
        Part { swapped: self.flags() & ROW_DIR != 0, fragments: self.shard() & SHARD_FRAGMENT != 0 }
    }
}

fn v4(word: u32) -> IpAddr {
    Ipv4Addr::from_bits(u32::from_be(word)).into()
}

fn address(words: [u32; 4], v6: bool) -> IpAddr {
    if !v6 {
        return v4(words[0]);
    }
    let mut octets = [0; 16];
    for (to, from) in octets.chunks_exact_mut(4).zip(words) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    Ipv6Addr::from(octets).into()
}

fn words(address: IpAddr) -> [u32; 4] {
    match address {
        IpAddr::V4(a) => [a.to_bits().to_be(), 0, 0, 0],
        IpAddr::V6(a) => {
            let o = a.octets();
            [0, 4, 8, 12].map(|i| u32::from_ne_bytes([o[i], o[i + 1], o[i + 2], o[i + 3]]))
        }
    }
}

fn tunnel(kind: u8, id: u32, has_id: bool) -> Tunnel {
    Tunnel { kind: Kind::from_number(kind), id: has_id.then_some(id) }
}

impl SlotKey for key4 {
    #[inline]
    fn flags(&self) -> u8 {
        self.flags
    }
    #[inline]
    fn shard(&self) -> u16 {
        self.shard
    }
    fn of_all_cpus(self) -> Self {
        key4 { shard: self.shard & !SHARD_CPU, ..self }
    }
    fn key(&self) -> Key {
        let pair = |[a, b]: [u32; 2]| Pair { first: v4(a), second: v4(b) };
        Key {
            outer: Some(pair(self.outer)),
            outermost: tunnel(self.kind, self.id, self.flags & ROW_ID != 0),
            innermost: None,
            depth: 1,
            inner: match self.flags & ROW_NO_PAIR {
                0 => Inner::Pair(pair(self.inner)),
                _ => Inner::Proto(InnerProto(self.inner[0])),
            },
            other: self.flags & ROW_OTHER != 0,
        }
    }
}

impl SlotKey for key6 {
    #[inline]
    fn flags(&self) -> u8 {
        self.flags
    }
    #[inline]
    fn shard(&self) -> u16 {
        self.shard
    }
    fn of_all_cpus(self) -> Self {
        key6 { shard: self.shard & !SHARD_CPU, ..self }
    }
    fn key(&self) -> Key {
        let has = |flag| self.flags & flag != 0;
        let pair =
            |[a, b]: [[u32; 4]; 2], v6| Pair { first: address(a, v6), second: address(b, v6) };
        Key {
            outer: (!has(ROW_NO_OUTER)).then(|| pair(self.outer, has(ROW_OUTER6))),
            outermost: tunnel(self.kind[0], self.id[0], has(ROW_ID)),
            innermost: (self.depth > 1).then(|| tunnel(self.kind[1], self.id[1], has(ROW_ID1))),
            depth: self.depth,
            inner: match has(ROW_NO_PAIR) {
                false => Inner::Pair(pair(self.inner, has(ROW_INNER6))),
                true => Inner::Proto(InnerProto(self.inner[0][0])),
            },
            other: has(ROW_OTHER),
        }
    }
}

/// What orders IPv4 rows as [`Key`] orders them.
fn order_of(k: &key4) -> impl Ord + use<> {
    let [outer, inner] = [k.outer, k.inner].map(|pair| pair.map(u32::from_be));
    let has_pair = k.flags & ROW_NO_PAIR == 0;
    let inner = if has_pair { inner } else { [k.inner[0], 0] };
    let outermost = tunnel(k.kind, k.id, k.flags & ROW_ID != 0);
    (outer, outermost, !has_pair, inner, k.flags & ROW_OTHER != 0)
}

/// Decodes a key of the tables.
pub fn decoded(key: &key6) -> Key {
    key.key()
}

/// Encodes a key as in the tables.
pub(crate) fn encoded(key: &Key, part: Part) -> key6 {
    let flag = |on: bool, flag: u8| if on { flag } else { 0 };
    let pair = |p: Pair| [words(p.first), words(p.second)];
    let (inner, inner_flags) = match key.inner {
        Inner::Pair(p) => (pair(p), flag(p.first.is_ipv6(), ROW_INNER6)),
        Inner::Proto(p) => ([[p.0, 0, 0, 0], [0; 4]], ROW_NO_PAIR),
    };
    let innermost = key.innermost.unwrap_or(Tunnel { kind: Kind::None, id: None });
    key6 {
        id: [key.outermost.id.unwrap_or(0), innermost.id.unwrap_or(0)],
        kind: [key.outermost.kind.number(), innermost.kind.number()],
        flags: flag(part.swapped, ROW_DIR)
            | flag(key.outermost.id.is_some(), ROW_ID)
            | flag(innermost.id.is_some(), ROW_ID1)
            | flag(key.outer.is_some_and(|p| p.first.is_ipv6()), ROW_OUTER6)
            | flag(key.outer.is_none(), ROW_NO_OUTER)
            | flag(key.other, ROW_OTHER)
            | inner_flags,
        depth: key.depth,
        shard: if part.fragments { SHARD_FRAGMENT } else { 0 },
        zero: 0,
        outer: key.outer.map_or([[0; 4]; 2], pair),
        inner,
    }
}

/// The same key for the smaller table, if it belongs there.
pub(crate) fn narrow(k: &key6) -> Option<key4> {
    let wide = ROW_OUTER6 | ROW_INNER6 | ROW_NO_OUTER;
    (k.depth == 1 && k.flags & wide == 0).then(|| key4 {
        id: k.id[0],
        kind: k.kind[0],
        flags: k.flags,
        shard: k.shard,
        outer: k.outer.map(|a| a[0]),
        inner: k.inner.map(|a| a[0]),
    })
}

impl<K: SlotKey> Kept<K> {
    #[inline]
    fn place(&self) -> (u16, u32) {
        (self.interface, self.place)
    }

    #[inline]
    fn part(&self) -> Part {
        self.key.part()
    }

    #[inline]
    fn counters(&self) -> Counters {
        let part = self.part();
        let mut c = Counters::default();
        c.egress_only[part.direction(0)] = self.egress_only;
        for (hook, n) in self.counts.into_iter().enumerate() {
            c.cells[hook][part.direction(hook)] = n;
        }
        if part.fragments {
            c.fragments = c.cells;
        }
        c
    }

    fn flow(&self) -> Flow {
        Flow { interface: self.interface, key: self.key.key(), counters: self.counters() }
    }

    #[inline]
    fn happened(&self) -> bool {
        self.counts.iter().any(|c| !c.is_zero())
    }

    fn gone(&self) -> Gone {
        Gone {
            interface: self.interface,
            key: self.key.key(),
            part: self.part(),
            counts: self.counts,
        }
    }
}

/// A row, or a part of one. Only the fields that are asked for are decoded, for walks over very
/// many rows.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a>(Of<'a>);

#[derive(Clone, Copy, Debug)]
enum Of<'a> {
    V4(&'a Kept<key4>),
    V6(&'a Kept<key6>),
}

/// Calls the same method on a row of either table.
macro_rules! either {
    ($row:expr, $r:ident => $answer:expr) => {
        match $row.0 {
            Of::V4($r) => $answer,
            Of::V6($r) => $answer,
        }
    };
}

impl Row<'_> {
    /// Its interface's index.
    #[inline]
    pub fn interface(&self) -> u16 {
        either!(self, r => r.interface)
    }

    #[inline]
    fn flags(&self) -> u8 {
        either!(self, r => r.key.flags)
    }

    /// Which part of its row it is.
    #[inline]
    pub fn part(&self) -> Part {
        either!(self, r => r.part())
    }

    /// What was counted, by hook.
    #[inline]
    pub fn counts(&self) -> Counts {
        either!(self, r => r.counts)
    }

    /// The part of that which counts, by hook.
    #[inline]
    pub(crate) fn at_hooks(&self) -> Counts {
        let [rx, tx] = self.counts();
        [if either!(self, r => r.egress_only) { Count::default() } else { rx }, tx]
    }

    /// The key as stored, of the smaller table or of the larger one.
    #[inline]
    pub(crate) fn kept_key(&self) -> Result<key4, key6> {
        match self.0 {
            Of::V4(r) => Ok(r.key),
            Of::V6(r) => Err(r.key),
        }
    }

    /// The outermost tunnel.
    #[inline]
    pub fn outermost(&self) -> Tunnel {
        let has_id = self.flags() & ROW_ID != 0;
        match self.0 {
            Of::V4(r) => tunnel(r.key.kind, r.key.id, has_id),
            Of::V6(r) => tunnel(r.key.kind[0], r.key.id[0], has_id),
        }
    }

    /// Whether it holds packets for whose own row a full table had no room.
    #[inline]
    pub fn other(&self) -> bool {
        self.flags() & ROW_OTHER != 0
    }

    /// The outer addresses as numbers, if both are IPv4.
    #[inline]
    pub fn outer_v4(&self) -> Option<[u32; 2]> {
        match self.0 {
            Of::V4(r) => Some(r.key.outer.map(u32::from_be)),
            Of::V6(r) => (r.key.flags & (ROW_OUTER6 | ROW_NO_OUTER) == 0)
                .then(|| r.key.outer.map(|a| u32::from_be(a[0]))),
        }
    }

    /// The outer addresses.
    pub fn outer(&self) -> Option<Pair> {
        match self.0 {
            Of::V4(r) => Some(Pair { first: v4(r.key.outer[0]), second: v4(r.key.outer[1]) }),
            Of::V6(r) => (r.key.flags & ROW_NO_OUTER == 0).then(|| {
                let [first, second] =
                    r.key.outer.map(|a| address(a, r.key.flags & ROW_OUTER6 != 0));
                Pair { first, second }
            }),
        }
    }

    /// Which outer address sent the packets counted on ingress (0 the first, 1 the second), and how
    /// many there were.
    #[inline]
    pub fn arrived(&self) -> (usize, u64) {
        (self.part().direction(0), self.counts()[0].packets)
    }

    /// The inner addresses as numbers, if there are any and both are IPv4.
    #[inline]
    pub fn inner_v4(&self) -> Option<[u32; 2]> {
        match self.0 {
            Of::V4(r) => (r.key.flags & ROW_NO_PAIR == 0).then(|| r.key.inner.map(u32::from_be)),
            Of::V6(r) => (r.key.flags & (ROW_INNER6 | ROW_NO_PAIR) == 0)
                .then(|| r.key.inner.map(|a| u32::from_be(a[0]))),
        }
    }

    /// Whether it arrived in fragments of outer packets.
    #[inline]
    pub fn fragments(&self) -> bool {
        self.part().fragments
    }

    /// Its counters by hook and direction.
    #[inline]
    pub fn counters(&self) -> Counters {
        either!(self, r => r.counters())
    }

    /// What the first end sent, and what the second end sent.
    #[inline]
    pub fn sent(&self) -> [Count; 2] {
        let [rx, tx] = self.at_hooks();
        if self.part().swapped { [tx, rx] } else { [rx, tx] }
    }

    /// Both directions.
    #[inline]
    pub fn total(&self) -> Count {
        let [rx, tx] = self.counts();
        if either!(self, r => r.egress_only) { tx } else { rx + tx }
    }

    /// A hash: equal for equal keys, and seldom for others.
    #[inline]
    pub fn print(&self) -> u64 {
        let mix =
            |h: u64, v: u32| (h ^ u64::from(v)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        match self.0 {
            Of::V4(r) => {
                let k = &r.key;
                [k.outer[0], k.outer[1], k.inner[0], k.inner[1]]
                    .into_iter()
                    .fold(u64::from(k.id), mix)
            }
            Of::V6(r) => {
                let words = r.key.outer.iter().chain(&r.key.inner).flatten().copied();
                words.fold(u64::from(r.key.id[0]), mix)
            }
        }
    }

    /// The whole row, decoded.
    pub fn flow(&self) -> Flow {
        either!(self, r => r.flow())
    }

    /// The order of interfaces and keys; parts of the same row are equal.
    fn order(&self, o: &Row<'_>) -> Ordering {
        self.interface().cmp(&o.interface()).then_with(|| match (self.0, o.0) {
            (Of::V4(a), Of::V4(b)) => order_of(&a.key).cmp(&order_of(&b.key)),
            _ => {
                let outer = self.outer().cmp(&o.outer());
                outer.then_with(|| self.key().cmp(&o.key()))
            }
        })
    }

    fn key(&self) -> Key {
        either!(self, r => r.key.key())
    }
}

/// Rows in the order of interfaces and keys, each once: an index of four bytes per part, beside the
/// rows that it shares with the reading. They are decoded one by one, when they are asked for.
#[derive(Clone, Debug, Default)]
pub struct SortedRows {
    rows: Rows,
    order: Vec<u32>,
    len: usize,
}

impl SortedRows {
    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// There is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rows, decoded, parts added up.
    pub fn iter(&self) -> impl Iterator<Item = Flow> {
        self.parts().filter_map(|parts| self.flow(parts))
    }

    /// Leaves out the other rows.
    pub fn retain(&mut self, keep: impl Fn(&Flow) -> bool) {
        let mut order = Vec::new();
        let mut len = 0;
        for parts in self.parts().filter(|parts| self.flow(parts).is_some_and(|f| keep(&f))) {
            order.extend_from_slice(parts);
            len += 1;
        }
        (self.order, self.len) = (order, len);
    }

    /// The indices of each row's parts.
    fn parts(&self) -> impl Iterator<Item = &[u32]> {
        let is_one = |a: &u32, b: &u32| match (self.rows.part(*a), self.rows.part(*b)) {
            (Some(a), Some(b)) => a.order(&b).is_eq(),
            _ => false,
        };
        self.order.chunk_by(is_one)
    }

    fn flow(&self, parts: &[u32]) -> Option<Flow> {
        let mut parts = parts.iter().filter_map(|n| self.rows.part(*n));
        let mut flow = parts.next()?.flow();
        parts.for_each(|part| flow.counters.add(&part.counters()));
        Some(flow)
    }
}

/// Rows in the order of their places. A clone shares them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rows {
    v4: Arc<Vec<Kept<key4>>>,
    v6: Arc<Vec<Kept<key6>>>,
}

impl Rows {
    /// Those of both tables, which it shares.
    pub(crate) fn of(v4: &Arc<Vec<Kept<key4>>>, v6: &Arc<Vec<Kept<key6>>>) -> Rows {
        Rows { v4: Arc::clone(v4), v6: Arc::clone(v6) }
    }

    /// Where the next row will be, for [`Rows::rewind`].
    pub fn position(&self) -> [usize; 2] {
        [self.v4.len(), self.v6.len()]
    }

    /// Removes what was appended since then.
    pub fn rewind(&mut self, [v4, v6]: [usize; 2]) {
        Arc::make_mut(&mut self.v4).truncate(v4);
        Arc::make_mut(&mut self.v6).truncate(v6);
    }

    /// Makes rows of these interfaces count what egress saw.
    #[must_use]
    pub(crate) fn egress_only(mut self, of: impl Fn(u16) -> bool) -> Rows {
        fn mark<K: SlotKey>(rows: &mut Arc<Vec<Kept<K>>>, of: impl Fn(u16) -> bool) {
            // What does not change stays shared.
            if rows.iter().any(|r| !r.egress_only && of(r.interface)) {
                Arc::make_mut(rows).iter_mut().for_each(|r| r.egress_only |= of(r.interface));
            }
        }
        mark(&mut self.v4, &of);
        mark(&mut self.v6, &of);
        self
    }

    /// Makes rows count what egress saw of the packets that these hosts sent.
    #[must_use]
    pub(crate) fn counted_at_senders(mut self, is_sender: impl Fn(IpAddr) -> bool) -> Rows {
        let sender = |key: Key, part: Part| {
            let pair = key.outer?;
            Some(if part.direction(0) == 0 { pair.first } else { pair.second })
        };
        let of = |key: Key, part: Part| sender(key, part).is_some_and(&is_sender);
        for r in Arc::make_mut(&mut self.v4) {
            r.egress_only |= of(r.key.key(), r.part());
        }
        for r in Arc::make_mut(&mut self.v6) {
            r.egress_only |= of(r.key.key(), r.part());
        }
        self
    }

    /// Appends slots of an interface's IPv4 table as they were read: place, key and counts by hook.
    /// Places are unique within the interface and ascending; the same key keeps its place.
    pub fn extend4(&mut self, interface: u16, slots: impl Iterator<Item = (u32, key4, Counts)>) {
        let kept =
            |(place, key, counts)| Kept { key, place, interface, egress_only: false, counts };
        Arc::make_mut(&mut self.v4).extend(slots.map(kept));
    }

    /// The same for the other tables.
    pub fn extend6(&mut self, interface: u16, slots: impl Iterator<Item = (u32, key6, Counts)>) {
        let kept =
            |(place, key, counts)| Kept { key, place, interface, egress_only: false, counts };
        Arc::make_mut(&mut self.v6).extend(slots.map(kept));
    }

    /// Appends the contents of one slot of a row, by hook; see [`Rows::extend4`].
    pub fn push(&mut self, place: u32, interface: u16, key: &Key, counts: Counts, part: Part) {
        self.keep_one(place, interface, key, counts, part, false);
    }

    fn keep_one(
        &mut self,
        place: u32,
        interface: u16,
        key: &Key,
        counts: Counts,
        part: Part,
        egress_only: bool,
    ) {
        let key = encoded(key, part);
        match narrow(&key) {
            Some(key) => Arc::make_mut(&mut self.v4).push(Kept {
                key,
                place,
                interface,
                egress_only,
                counts,
            }),
            None => Arc::make_mut(&mut self.v6).push(Kept {
                key,
                place,
                interface,
                egress_only,
                counts,
            }),
        }
    }

    /// Adds a whole decoded row, in as many parts as it needs; for sources that do not read slots.
    pub fn push_flow(&mut self, place: u32, flow: &Flow) {
        let (all, pieces) = (&flow.counters.cells, &flow.counters.fragments);
        // An end host fills one direction per hook. A router or a mirror fills both.
        let parts = [(false, true), (false, false), (true, true), (true, false)];
        for (n, (fragments, swapped)) in (0..).zip(parts) {
            let part = Part { swapped, fragments };
            let counts = [0, 1].map(|hook| {
                let way = part.direction(hook);
                if fragments { pieces[hook][way] } else { all[hook][way].since(pieces[hook][way]) }
            });
            let is_empty = n == 0 && (flow.counters.rx() + flow.counters.tx()).is_zero();
            if is_empty || counts.iter().any(|c| !c.is_zero()) {
                let egress_only = flow.counters.egress_only[part.direction(0)];
                let place = place * 4 + n;
                self.keep_one(place, flow.interface, &flow.key, counts, part, egress_only);
            }
        }
    }

    /// Every row, decoded, in no particular order. A row that was counted in two directions at one
    /// hook, in fragments, or by several CPUs comes in parts: add up equal keys (see
    /// [`Rows::merged`]).
    pub fn iter(&self) -> impl Iterator<Item = Flow> + '_ {
        self.walk().map(|r| r.flow())
    }

    /// The same without decoding.
    pub fn walk(&self) -> impl Iterator<Item = Row<'_>> {
        let (v4, v6) = (self.v4.iter(), self.v6.iter());
        v4.map(|r| Row(Of::V4(r))).chain(v6.map(|r| Row(Of::V6(r))))
    }

    /// Every row once: parts added up, sorted by interface and key.
    pub fn merged(&self) -> Vec<Flow> {
        self.sorted().iter().collect()
    }

    /// The same, decoded when they are asked for: for very many rows.
    pub fn sorted(&self) -> SortedRows {
        let mut order: Vec<u32> = (0..).take(self.len()).collect();
        order.sort_unstable_by(|a, b| match (self.part(*a), self.part(*b)) {
            (Some(a), Some(b)) => a.order(&b),
            _ => Ordering::Equal,
        });
        let mut sorted = SortedRows { rows: self.clone(), order, len: 0 };
        sorted.len = sorted.parts().count();
        sorted
    }

    /// A part by its number in [`Rows::walk`].
    #[inline]
    fn part(&self, n: u32) -> Option<Row<'_>> {
        let n = n as usize;
        match n.checked_sub(self.v4.len()) {
            None => self.v4.get(n).map(|r| Row(Of::V4(r))),
            Some(n) => self.v6.get(n).map(|r| Row(Of::V6(r))),
        }
    }

    /// How many parts of rows there are.
    pub fn len(&self) -> usize {
        self.v4.len() + self.v6.len()
    }

    /// There is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of a row in bytes: of IPv4 in IPv4, and of any other.
    pub const ROW_BYTES: [usize; 2] = [size_of::<Kept<key4>>(), size_of::<Kept<key6>>()];

    /// The memory that they take, in bytes.
    pub fn bytes(&self) -> usize {
        self.v4.len() * size_of::<Kept<key4>>() + self.v6.len() * size_of::<Kept<key6>>()
    }

    /// The same rows with other addresses, each of the same family; every row keeps its place.
    pub(crate) fn with_addresses(&self, of: &dyn Fn(IpAddr) -> IpAddr) -> Rows {
        fn other<K: SlotKey>(row: &Kept<K>, of: &dyn Fn(IpAddr) -> IpAddr) -> key6 {
            let (key, is_swapped) = row.key.key().with_addresses(of);
            let Part { swapped, fragments } = row.part();
            let part = Part { swapped: swapped != is_swapped, fragments };
            key6 { shard: row.key.shard(), ..encoded(&key, part) }
        }
        let v4 = self.v4.iter().map(|row| {
            let key = other(row, of);
            // Never fall back to the original address.
            let none = key4 { outer: [0; 2], inner: [0; 2], ..row.key };
            Kept { key: narrow(&key).unwrap_or(none), ..*row }
        });
        let v6 = self.v6.iter().map(|row| Kept { key: other(row, of), ..*row });
        Rows { v4: Arc::new(v4.collect()), v6: Arc::new(v6.collect()) }
    }

    /// Appends the rows of another interface.
    pub fn append(&mut self, o: &Rows) {
        Arc::make_mut(&mut self.v4).extend_from_slice(&o.v4);
        Arc::make_mut(&mut self.v6).extend_from_slice(&o.v6);
    }

    /// Replaces the rows of some interfaces by older ones: `to` says which interfaces, and their
    /// indices.
    pub(crate) fn keep(&mut self, older: &Rows, to: &[Option<u16>]) {
        replace(Arc::make_mut(&mut self.v4), &older.v4, to);
        replace(Arc::make_mut(&mut self.v6), &older.v6, to);
    }

    /// Adds what single CPUs counted in a row to that row.
    #[must_use]
    pub fn folded(mut self) -> Rows {
        fold(&mut self.v4);
        fold(&mut self.v6);
        self
    }

    /// What happened in each row since an older reading of the same tables. `to` gives the present
    /// indices of its interfaces; rows of those that no longer exist have moved to the interface
    /// `heir`.
    pub fn since(&self, older: &Rows, to: &[Option<u16>], heir: u16) -> Rows {
        self.beyond(older, to, heir).folded()
    }

    /// The same, in parts at the places of the newer reading.
    pub fn beyond(&self, older: &Rows, to: &[Option<u16>], heir: u16) -> Rows {
        let mut gone = Vec::new();
        let mut v4 = subtract(&self.v4, &moved(&older.v4, to, heir, &mut gone), &mut gone);
        let mut v6 = subtract(&self.v6, &moved(&older.v6, to, heir, &mut gone), &mut gone);
        settle(&mut v4, &mut v6, gone);
        Rows { v4: Arc::new(v4), v6: Arc::new(v6) }
    }
}

/// See [`Rows::keep`].
fn replace<K: SlotKey>(now: &mut Vec<Kept<K>>, older: &[Kept<K>], to: &[Option<u16>]) {
    now.retain(|row| !to.contains(&Some(row.interface)));
    now.extend(older.iter().filter_map(|row| {
        let interface = (*to.get(usize::from(row.interface))?)?;
        Some(Kept { interface, ..*row })
    }));
    now.sort_by_key(Kept::place); // those at the same place keep their order
}

/// Counts of rows whose tables no longer exist: a sum for each pair of hosts, tunnel and part.
#[derive(Clone, Debug, Default)]
pub struct Sums(Vec<(Key, Part, Counts)>);

impl Sums {
    /// Limit on the sums kept apart.
    const MOST: usize = 1024;
    /// Their places come after those of any table.
    const PLACE: u32 = 1 << 31;

    /// Adds all rows.
    pub fn add(&mut self, rows: &Rows) {
        let mut known: HashMap<(Key, Part), usize> =
            self.0.iter().enumerate().map(|(i, (key, part, _))| ((*key, *part), i)).collect();
        for row in rows.walk() {
            let (counts, part) = (row.counts(), row.part());
            let mut key = row.flow().key.aged();
            if self.0.len() >= Sums::MOST && !known.contains_key(&(key, part)) {
                key = Key::AGED;
            }
            let i = *known.entry((key, part)).or_insert_with(|| {
                self.0.push((key, part, Counts::default()));
                self.0.len() - 1
            });
            for (sum, n) in self.0[i].2.iter_mut().zip(counts) {
                *sum += n;
            }
        }
    }

    /// Appends them as rows of an interface, after those of its tables.
    pub fn push(&self, interface: u16, rows: &mut Rows) {
        for (place, (key, part, counts)) in (Sums::PLACE..).zip(&self.0) {
            rows.push(place, interface, key, *counts, *part);
        }
    }
}

/// A row of the older reading that is missing in the newer one.
struct Gone {
    interface: u16,
    key: Key,
    part: Part,
    counts: Counts,
}

/// The same rows with new interface indices, in the same order. Rows of interfaces that have none
/// go to `gone`.
fn moved<'a, K: SlotKey>(
    rows: &'a [Kept<K>],
    to: &[Option<u16>],
    heir: u16,
    gone: &mut Vec<Gone>,
) -> Cow<'a, [Kept<K>]> {
    if to.iter().zip(0..).all(|(to, i)| *to == Some(i)) {
        return Cow::Borrowed(rows);
    }
    let there = |r: &Kept<K>| match to.get(usize::from(r.interface)).copied().flatten() {
        Some(interface) => Some(Kept { interface, ..*r }),
        None => {
            gone.push(Gone { interface: heir, ..r.gone() });
            None
        }
    };
    rows.iter().filter_map(there).collect()
}

/// Newer minus older, row by row; rows without changes are left out.
fn subtract<K: SlotKey>(
    newer: &[Kept<K>],
    older: &[Kept<K>],
    gone: &mut Vec<Gone>,
) -> Vec<Kept<K>> {
    let mut old = older.iter().peekable();
    let mut rows = Vec::with_capacity(newer.len()); // pages never written are never resident
    for row in newer {
        let mut row = *row;
        while let Some(before) = old.next_if(|o| o.place() < row.place()) {
            gone.push(before.gone());
        }
        if let Some(before) = old.next_if(|o| o.place() == row.place()) {
            let [then, now] = [before.counts, row.counts];
            let went_back =
                (0..2).any(|i| now[i].packets < then[i].packets || now[i].bytes < then[i].bytes);
            if before.key == row.key && !went_back {
                row.counts = [now[0].since(then[0]), now[1].since(then[1])];
            } else {
                gone.push(before.gone());
            }
        }
        if row.happened() {
            rows.push(row);
        }
    }
    gone.extend(old.map(Kept::gone));
    rows
}

/// Counts of a row in the older reading that is missing in the newer one have moved to an aged row:
/// they did not happen in between.
fn settle(v4: &mut Vec<Kept<key4>>, v6: &mut Vec<Kept<key6>>, gone: Vec<Gone>) {
    if gone.is_empty() {
        return;
    }
    // Aged rows are few.
    let mut aged: HashMap<(u16, Key, Part), &mut Counts> = HashMap::default();
    fn find<'a, K: SlotKey>(
        rows: &'a mut [Kept<K>],
        aged: &mut HashMap<(u16, Key, Part), &'a mut Counts>,
    ) {
        for row in rows.iter_mut().filter(|r| r.key.flags() & ROW_OTHER != 0) {
            let key = row.key.key();
            if key.is_aged() {
                aged.insert((row.interface, key, row.part()), &mut row.counts);
            }
        }
    }
    find(v4, &mut aged);
    find(v6, &mut aged);
    for mut g in gone {
        for key in [g.key.aged(), Key::AGED] {
            let Some(home) = aged.get_mut(&(g.interface, key, g.part)) else { continue };
            for (home, gone) in home.iter_mut().zip(&mut g.counts) {
                let moved = Count {
                    packets: home.packets.min(gone.packets),
                    bytes: home.bytes.min(gone.bytes),
                };
                *home = home.since(moved);
                *gone = gone.since(moved);
            }
        }
    }
    drop(aged);
    v4.retain(Kept::happened);
    v6.retain(Kept::happened);
}

/// Adds what single CPUs counted to the rows of all CPUs. Few rows are counted by several CPUs.
fn fold<K: SlotKey>(rows: &mut Arc<Vec<Kept<K>>>) {
    let is_part = |r: &Kept<K>| r.key.shard() & SHARD_CPU != 0;
    if !rows.iter().any(is_part) {
        return;
    }
    let row = |r: &Kept<K>| (r.interface, r.key.of_all_cpus());
    let mut sums: HashMap<(u16, K), Counts> = HashMap::default();
    for part in rows.iter().filter(|r| is_part(r)) {
        let sum = sums.entry(row(part)).or_default();
        (0..2).for_each(|hook| sum[hook] += part.counts[hook]);
    }
    let rows = Arc::make_mut(rows);
    for shared in rows.iter_mut().filter(|r| !is_part(r)) {
        if sums.is_empty() {
            break;
        }
        let sum = sums.remove(&row(shared)).unwrap_or_default();
        (0..2).for_each(|hook| shared.counts[hook] += sum[hook]);
    }
    // If there is no slot shared by all CPUs, the row takes the place of its first part.
    rows.retain_mut(|r| {
        !is_part(r)
            || sums.remove(&row(r)).is_some_and(|sum| {
                (r.key, r.counts) = (r.key.of_all_cpus(), sum);
                true
            })
    });
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

    fn rows(flows: &[Flow]) -> Rows {
        let mut rows = Rows::default();
        flows.iter().zip(0..).for_each(|(f, place)| rows.push_flow(place, f));
        rows
    }

    #[test]
    fn rows_survive_encoding() {
        let mut nested = flow(101, 7, 3);
        nested.key.innermost = Some(Tunnel { kind: Kind::Gtpu, id: None });
        nested.key.depth = 2;
        nested.key.inner = Inner::Pair(Pair {
            first: Ipv6Addr::LOCALHOST.into(),
            second: Ipv6Addr::from_bits(1 << 64).into(),
        });
        nested.counters.cells[0][0] = Count { packets: 1, bytes: u64::MAX };
        let mut far = flow(9, 7, 1);
        far.key.outer = Some(Pair {
            first: Ipv6Addr::from_bits(0x2001_0db8 << 96 | 1).into(),
            second: Ipv6Addr::from_bits(0x2001_0db8 << 96 | 2).into(),
        });
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
        let aged = Flow { key: nested.key.aged(), ..nested };
        let mut pieces = flow(101, 10000, 5);
        pieces.counters.fragments[1][0] = Count { packets: 2, bytes: 200 };
        let mut both_ways = nested;
        both_ways.counters.fragments = both_ways.counters.cells;
        for f in [flow(101, 10000, 5), nested, far, arp, overflow, aged, pieces, both_ways] {
            assert_eq!(rows(&[f]).merged(), [f]);
        }
        let of =
            |f| rows(&[f]).walk().map(|r| (r.fragments(), r.total().packets)).collect::<Vec<_>>();
        assert_eq!(of(pieces), [(false, 5 + 3), (true, 2)]);
        assert_eq!(of(both_ways).iter().filter(|p| !p.0).count(), 0);
    }

    #[test]
    fn rows_of_both_tables_are_sorted_like_their_keys() {
        let mut flows = Vec::new();
        for n in 0..4096u32 {
            let bit = |i: u32| n >> i & 1 != 0;
            let mut f = flow(if bit(0) { 3 } else { 200 }, if bit(1) { 256 } else { 1 }, 1);
            f.interface = u16::from(bit(2));
            f.key.outermost.kind = if bit(3) { Kind::Geneve } else { Kind::Gtpu };
            if bit(4) {
                f.key.outermost.id = None;
            }
            if bit(5) {
                f.key.inner = Inner::Proto(InnerProto(if bit(6) { 0x0806 } else { 0x8847 }));
            }
            if bit(7) {
                f.key.outer = Some(Pair {
                    first: Ipv6Addr::from_bits(n.into()).into(),
                    second: Ipv6Addr::LOCALHOST.into(),
                });
            }
            if bit(8) {
                (f.key.depth, f.key.innermost) = (2, Some(f.key.outermost));
            }
            f.key.other = bit(9);
            if bit(10) && bit(9) {
                f.key = f.key.aged();
            }
            flows.push(f);
        }
        let merged = rows(&flows).merged();
        let keys = |flows: &[Flow]| flows.iter().map(|f| (f.interface, f.key)).collect::<Vec<_>>();
        let mut expected = keys(&flows);
        expected.sort_unstable();
        expected.dedup();
        assert_eq!(keys(&merged), expected);
        assert_eq!(merged.iter().map(|f| f.counters.total().packets).sum::<u64>(), 2 * 4096);
        let mut sorted = rows(&flows).sorted();
        assert_eq!(sorted.len(), expected.len());
        sorted.retain(|f| f.interface == 1);
        expected.retain(|(interface, _)| *interface == 1);
        assert_eq!(keys(&sorted.iter().collect::<Vec<_>>()), expected);
        assert_eq!(sorted.len(), expected.len());
    }

    #[test]
    fn addresses_and_directions_are_read_without_decoding() {
        for f in [flow(101, 7, 3), Flow { key: flow(101, 7, 3).key.aged(), ..flow(101, 7, 3) }] {
            for row in rows(&[f]).walk() {
                assert_eq!(row.outer_v4(), Some([0xac10_0164, 0xac10_0165]));
                assert_eq!((row.outer(), row.outermost()), (f.key.outer, f.key.outermost));
                assert_eq!(row.inner_v4().is_some(), f.key.inner.pair().is_some());
                assert_eq!(row.sent(), [f.counters.fwd(), f.counters.rev()]);
                assert_eq!(row.arrived(), (1, 3));
                assert_eq!(row.other(), f.key.other);
            }
        }
    }

    #[test]
    fn parts_from_all_cpus_are_one_row() {
        let part = |last: u8, cpu: u16, n: u64| {
            let key = encoded(&flow(last, 7, 0).key, Part { swapped: true, fragments: false });
            let key = narrow(&key).map(|k| key4 { shard: cpu, ..k });
            (key.expect("IPv4 in IPv4"), [Count { packets: n, bytes: n * 100 }; 2])
        };
        let read = |slots: &[(key4, Counts)]| {
            let mut rows = Rows::default();
            rows.extend4(0, slots.iter().zip(0..).map(|((key, counts), i)| (i, *key, *counts)));
            rows
        };
        let older = read(&[part(1, 3, 5), part(1, 0, 10), part(2, 0, 1), part(3, 2, 7)]);
        let newer = read(&[
            part(1, 3, 6),
            part(1, 0, 10),
            part(2, 0, 4),
            part(3, 2, 9),
            part(3, 1, 1),
            part(1, 1, 2),
        ]);
        // The shared slot of row 1 did not change, and row 3 has none.
        assert_eq!(
            newer.since(&older, &[], 0).merged(),
            [flow(1, 7, 3), flow(2, 7, 3), flow(3, 7, 3)]
        );
        let total = newer.clone().folded();
        assert_eq!(total.merged(), [flow(1, 7, 18), flow(2, 7, 4), flow(3, 7, 10)]);
        assert_eq!((total.len(), newer.len()), (3, 6));
        assert_eq!(total.clone().folded(), total);
    }

    #[test]
    fn any_number_of_sums_keeps_every_count() {
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
    fn a_packet_seen_by_both_hooks_is_sent_once() {
        let mut f = flow(101, 7, 5);
        f.counters.cells = [[Count { packets: 5, bytes: 500 }, Count::default()]; 2];
        let mut rows = Rows::default();
        rows.push_flow(0, &flow(101, 7, 1));
        rows.push_flow(1, &Flow { interface: 1, ..f });
        let rows = rows.egress_only(|interface| interface == 1);
        let sent: Vec<_> = rows.walk().map(|r| (r.sent(), r.total())).collect();
        let c = |n| Count { packets: n, bytes: n * 100 };
        assert_eq!(sent[0], ([c(1), c(1)], c(2)), "the other interface keeps both");
        let both =
            sent[1..].iter().fold([Count::default(); 2], |s, (w, _)| [s[0] + w[0], s[1] + w[1]]);
        assert_eq!(both, [c(5), Count::default()]);
        let of_lo = rows.walk().skip(1).map(|r| r.flow().counters.fwd()).sum::<Count>();
        assert_eq!(of_lo, c(5));
    }
}
