// SPDX-License-Identifier: MIT OR Apache-2.0
//! The vocabulary: tunnel kinds, keys of rows, counters and stop reasons.
//!
//! Pure values with standard names. Numbers that cross the kernel boundary are those of the
//! contract.
use std::{fmt, net::IpAddr};

pub use contract::Kind;

/// One tunnel header: what it is and its id (VNI, key, TEID, session, label ...), if it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tunnel {
    /// The encapsulation.
    pub kind: Kind,
    /// The tunnel id, host byte order; `None` where the header carries none.
    pub id: Option<u32>,
}

impl fmt::Display for Tunnel {
    /// `vxlan 10000`, `ipip`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.id {
            Some(id) => f.pad(&format!("{} {id}", self.kind)),
            None => self.kind.fmt(f),
        }
    }
}

/// Two addresses in the row's order: the lower outer address first (IPv4 before IPv6, then
/// numerically); an inner pair follows the order of its outer pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Pair {
    /// The row's first end: `fwd` is what it sent.
    pub first: IpAddr,
    /// The row's second end: `rev` is what it sent.
    pub second: IpAddr,
}

/// What a tunnel carries instead of an address pair, or why it has none. The numbers are those of
/// `bpf/tmon.h`: an EtherType, or a value of another number space shifted above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InnerProto(pub u32);

impl InnerProto {
    /// A reason (not a protocol number): see [`InnerProto::REASONS`].
    pub const REASON: u32 = contract::INNER_REASON;
    /// A PPP protocol number.
    pub const PPP: u32 = contract::INNER_PPP;
    /// An IP protocol number.
    pub const IP_PROTO: u32 = contract::INNER_IP;
    /// The row of packets for whose own row the full table had no room.
    pub const OTHER: Self = InnerProto(Self::REASON | contract::REASON_OTHER);
    /// Packets of any tunnel that were counted in no row for want of room.
    pub const OVERFLOW: Self = InnerProto(Self::REASON | contract::REASON_OVERFLOW);
    /// Counts of idle rows that were removed.
    pub const AGED: Self = InnerProto(Self::REASON | contract::REASON_AGED);
    /// The reasons by number, as printed.
    pub const REASONS: &[&str] = &contract::REASON_NAMES;
}

impl fmt::Display for InnerProto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let low = self.0 & 0xffff;
        let text = match (self.0 & !0xffff, low) {
            (0, 0x0806) => "arp".to_owned(),
            (0, n) => format!("0x{n:04x}"),
            (Self::REASON, n) => match Self::REASONS.get(n as usize) {
                Some(reason) => (*reason).to_owned(),
                None => format!("reason-{n}"),
            },
            (Self::PPP, n) => format!("ppp-0x{n:04x}"),
            (Self::IP_PROTO, n) => format!("ip-{n}"),
            (space, n) => format!("0x{:08x}", space | n),
        };
        f.pad(&text)
    }
}

/// What a row's innermost tunnel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Inner {
    /// The innermost IP header's addresses.
    Pair(Pair),
    /// No address pair: the protocol, or the reason.
    Proto(InnerProto),
}

impl Inner {
    /// The address pair, if there is one.
    pub fn pair(&self) -> Option<Pair> {
        match self {
            Inner::Pair(p) => Some(*p),
            Inner::Proto(_) => None,
        }
    }

    /// `ipv4`, `ipv6`, or the protocol or reason instead of a pair.
    pub fn proto(&self) -> String {
        match self {
            Inner::Pair(Pair { first: IpAddr::V4(_), .. }) => "ipv4".to_owned(),
            Inner::Pair(_) => "ipv6".to_owned(),
            Inner::Proto(p) => p.to_string(),
        }
    }
}

/// The identity of a row (DESIGN section 3), apart from its interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The outermost IP pair; `None` only in an interface's overflow row and its aged row.
    pub outer: Option<Pair>,
    /// The outermost tunnel.
    pub outermost: Tunnel,
    /// The innermost tunnel, when there is more than one.
    pub innermost: Option<Tunnel>,
    /// How many tunnels the packet carries, 0 (only with `--plain`, or overflow) to 4.
    pub depth: u8,
    /// The innermost IP pair, or what is there instead.
    pub inner: Inner,
    /// Whether this row holds what found no room in the full table, or the counts of aged rows.
    pub other: bool,
}

impl Key {
    /// The key with other addresses, and whether its ends have changed places: the lower address is the
    /// first.
    pub(crate) fn with_addresses(&self, of: &dyn Fn(IpAddr) -> IpAddr) -> (Key, bool) {
        let pair = |p: Pair| Pair { first: of(p.first), second: of(p.second) };
        let swap = |p: Pair| Pair { first: p.second, second: p.first };
        let (mut outer, mut inner) = (self.outer.map(pair), self.inner.pair().map(pair));
        let is_swapped = match (outer, inner) {
            (Some(outer), _) if outer.first != outer.second => outer.first > outer.second,
            (_, inner) => inner.is_some_and(|p| p.first > p.second),
        };
        if is_swapped {
            (outer, inner) = (outer.map(swap), inner.map(swap));
        }
        let inner = inner.map_or(self.inner, Inner::Pair);
        (Key { outer, inner, ..*self }, is_swapped)
    }
}

/// `vxlan 10000, 172.16.1.100 <> 172.16.1.101, 192.168.0.1 <> 192.168.0.2`; with more tunnels
/// `vxlan 10000 > gtpu 7`, and with further ones between them `vxlan 10000 > .. > gtpu 7`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.outermost)?;
        if let Some(innermost) = self.innermost {
            write!(f, "{} > {innermost}", if self.depth > 2 { " > .." } else { "" })?;
        }
        let pairs = [self.outer, self.inner.pair()];
        for Pair { first, second } in pairs.into_iter().flatten() {
            write!(f, ", {first} <> {second}")?;
        }
        match self.inner {
            Inner::Pair(_) => Ok(()),
            Inner::Proto(proto) => write!(f, ", {proto}"),
        }
    }
}

impl Key {
    /// An interface's row for the counts of aged rows of any tunnel.
    pub const AGED: Key = Key {
        outer: None,
        outermost: Tunnel { kind: Kind::None, id: None },
        innermost: None,
        depth: 0,
        inner: Inner::Proto(InnerProto::AGED),
        other: true,
    };

    /// The row that takes this row's counts when it has been idle for too long: its tunnel's aged
    /// row.
    #[must_use]
    pub fn aged(self) -> Key {
        Key { inner: Inner::Proto(InnerProto::AGED), other: true, ..self }
    }

    /// Whether this is an aged row: counts of rows that no longer exist.
    pub fn is_aged(&self) -> bool {
        self.inner == Inner::Proto(InnerProto::AGED)
    }
}

/// Packets and wire bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Count {
    /// Packets, as segments on the wire.
    pub packets: u64,
    /// Bytes of the outer frames: Ethernet header included, FCS not.
    pub bytes: u64,
}

impl std::ops::AddAssign for Count {
    fn add_assign(&mut self, o: Self) {
        self.packets = self.packets.saturating_add(o.packets);
        self.bytes = self.bytes.saturating_add(o.bytes);
    }
}

impl std::ops::Add for Count {
    type Output = Self;
    fn add(mut self, o: Self) -> Self {
        self += o;
        self
    }
}

impl std::iter::Sum for Count {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |a, b| a + b)
    }
}

impl Count {
    /// `self - older`; a counter that went backwards was restarted, so its new value is the
    /// difference.
    #[must_use]
    pub fn since(self, older: Self) -> Self {
        let d = |new: u64, old: u64| new.checked_sub(old).unwrap_or(new);
        Count { packets: d(self.packets, older.packets), bytes: d(self.bytes, older.bytes) }
    }

    /// No packet and no byte.
    pub fn is_zero(self) -> bool {
        self == Self::default()
    }
}

/// The hook that saw a packet; `as usize` is its index in the kernel's arrays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Hook {
    /// Ingress of the interface.
    Rx = 0,
    /// Egress of the interface.
    Tx = 1,
}

/// How an interface's packets reach the parser.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum HookKind {
    /// A tcx link (Linux 6.6 and newer).
    Tcx,
    /// A filter on a clsact qdisc.
    Clsact,
    /// Frames of a capture file, through BPF_PROG_TEST_RUN.
    Replay,
    /// None: a host of a fleet, with the counts of all its interfaces.
    Fleet,
    /// None at present: the interface is gone, or our programs are detached from it. Its books
    /// remain.
    Off,
}

impl HookKind {
    /// Its name in JSON and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            HookKind::Tcx => "tcx",
            HookKind::Clsact => "clsact",
            HookKind::Replay => "replay",
            HookKind::Fleet => "fleet",
            HookKind::Off => "off",
        }
    }
}

/// A row's counters: every packet by the hook that saw it and by its direction in the row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// `cells[hook][direction]`; direction 0 is first to second (`fwd`), 1 is `rev`.
    pub cells: [[Count; 2]; 2],
    /// The part of these that arrived in fragments of outer packets.
    pub fragments: [[Count; 2]; 2],
    /// By direction: each packet passed both hooks, here or at both ends, so the packets sent are
    /// those that egress saw. [`crate::once::Once`] decides that.
    pub egress_only: [bool; 2],
}

impl Counters {
    /// Seen on ingress.
    pub fn rx(&self) -> Count {
        self.cells[0][0] + self.cells[0][1]
    }
    /// Seen on egress.
    pub fn tx(&self) -> Count {
        self.cells[1][0] + self.cells[1][1]
    }
    /// Sent by the row's first end.
    pub fn fwd(&self) -> Count {
        self.sent(0)
    }
    /// Sent by the row's second end.
    pub fn rev(&self) -> Count {
        self.sent(1)
    }
    fn sent(&self, direction: usize) -> Count {
        let [rx, tx] = self.cells.map(|hook| hook[direction]);
        if self.egress_only[direction] { tx } else { rx + tx }
    }
    /// Both directions, each packet once.
    pub fn total(&self) -> Count {
        self.fwd() + self.rev()
    }
    /// The part that arrived in fragments of outer packets, as counters.
    #[must_use]
    pub fn in_fragments(&self) -> Self {
        Counters { cells: self.fragments, ..*self }
    }
    /// Adds another row's counters.
    pub fn add(&mut self, o: &Self) {
        let own = self.cells.iter_mut().chain(&mut self.fragments).flatten();
        for (sum, n) in own.zip(o.cells.iter().chain(&o.fragments).flatten()) {
            *sum += *n;
        }
        for (sum, o) in self.egress_only.iter_mut().zip(o.egress_only) {
            *sum |= o;
        }
    }
}

/// One row, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Index into the interfaces of the snapshot or interval that contains this row.
    pub interface: u16,
    /// What the row is.
    pub key: Key,
    /// What was counted.
    pub counters: Counters,
}

/// Why a packet was not counted into a row (DESIGN section 4). `as usize` is its index in [`Books::stops`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stop {
    /// An IP packet with no tunnel in it.
    Plain,
    /// The frame carries no IP at the outer level.
    NonIp,
    /// A later fragment that could not be attributed to its row.
    Fragment,
    /// A header before any recognised tunnel runs past the end of the packet.
    Truncated,
    /// Such a header is inconsistent.
    Malformed,
    /// More tags or extension headers before any recognised tunnel than the parser's limits allow.
    TooDeep,
    /// A frame of a capture whose link type tmon does not read. The BPF programs never see one.
    Unread,
}

impl Stop {
    /// All stops, in the kernel's and JSON's order.
    pub const ALL: [Stop; 7] = [
        Stop::Plain,
        Stop::NonIp,
        Stop::Fragment,
        Stop::Truncated,
        Stop::Malformed,
        Stop::TooDeep,
        Stop::Unread,
    ];

    /// Its name in JSON and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Stop::Unread => "unread",
            counted => contract::STOP_NAMES[counted as usize],
        }
    }
}

/// An interface's books: `seen() = counted + sum(stops)` per hook, in packets and bytes. Arrays are by [`Hook`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Books {
    /// Counted into a row.
    pub counted: [Count; 2],
    /// Not counted into a row, by [`Stop`].
    pub stops: [[Count; 2]; Stop::ALL.len()],
    /// Packets with a tunnel's port but without its header (also in `plain`).
    pub suspect: [Count; 2],
    /// Packets that arrived in fragments of outer packets and were counted all the same (also in
    /// `counted`).
    pub fragments: [Count; 2],
}

impl Books {
    /// Every packet that reached the hook: it is in exactly one of `counted` and `stops`.
    pub fn seen(&self) -> [Count; 2] {
        [0, 1].map(|hook| self.counted[hook] + self.stops.iter().map(|s| s[hook]).sum())
    }

    /// One stop's counts, by hook.
    pub fn stop(&self, s: Stop) -> [Count; 2] {
        self.stops[s as usize]
    }

    /// `self - older`, counter by counter.
    #[must_use]
    pub fn since(&self, older: &Self) -> Self {
        let d = |n: [Count; 2], o: [Count; 2]| [n[0].since(o[0]), n[1].since(o[1])];
        let mut stops = self.stops;
        for (s, o) in stops.iter_mut().zip(older.stops) {
            *s = d(*s, o);
        }
        let [counted, suspect, fragments] = [
            (self.counted, older.counted),
            (self.suspect, older.suspect),
            (self.fragments, older.fragments),
        ]
        .map(|(n, o)| d(n, o));
        Books { counted, stops, suspect, fragments }
    }

    /// Adds other books.
    pub fn add(&mut self, o: &Self) {
        let own = self.stops.iter_mut().chain([
            &mut self.counted,
            &mut self.suspect,
            &mut self.fragments,
        ]);
        for (sum, n) in own.zip(o.stops.iter().chain([&o.counted, &o.suspect, &o.fragments])) {
            sum[0] += n[0];
            sum[1] += n[1];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stops_match_the_bpf_programs() {
        let numbers = [
            contract::STOP_PLAIN,
            contract::STOP_NON_IP,
            contract::STOP_FRAGMENT,
            contract::STOP_TRUNCATED,
            contract::STOP_MALFORMED,
            contract::STOP_TOO_DEEP,
        ];
        assert_eq!(Stop::ALL.map(|stop| stop as u32)[..numbers.len()], numbers);
        assert_eq!(contract::STOPS as usize, numbers.len());
        assert_eq!(Stop::ALL[numbers.len()..], [Stop::Unread], "the reader's own");
        assert_eq!(Stop::NonIp.name(), "non_ip");
    }

    #[test]
    fn a_restarted_counter_counts_from_zero() {
        let old = Count { packets: 10, bytes: 1000 };
        let new = Count { packets: 3, bytes: 300 };
        assert_eq!(new.since(old), new);
        assert_eq!(old.since(new), Count { packets: 7, bytes: 700 });
    }

    #[test]
    fn counters_have_the_same_sum_by_hook_and_by_direction() {
        let c = |n| Count { packets: n, bytes: n * 100 };
        let k = Counters { cells: [[c(1), c(2)], [c(4), c(8)]], ..Default::default() };
        assert_eq!((k.rx(), k.tx()), (c(3), c(12)));
        assert_eq!((k.fwd(), k.rev()), (c(5), c(10)));
        assert_eq!(k.total(), c(15));
        let lo = Counters { egress_only: [true; 2], ..k };
        assert_eq!((lo.rx(), lo.tx()), (c(3), c(12)), "sums by hook");
        assert_eq!((lo.fwd(), lo.rev(), lo.total()), (c(4), c(8), c(12)));
    }

    #[test]
    fn inner_protocols_print_as_in_the_contract() {
        assert_eq!(InnerProto(0x0806).to_string(), "arp");
        assert_eq!(InnerProto(0x88cc).to_string(), "0x88cc");
        assert_eq!(InnerProto(InnerProto::REASON | 3).to_string(), "too_deep");
        assert_eq!(InnerProto(InnerProto::PPP | 0xc021).to_string(), "ppp-0xc021");
    }
}
