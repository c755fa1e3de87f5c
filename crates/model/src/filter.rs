// SPDX-License-Identifier: MIT OR Apache-2.0
//! The filter language of `--filter` and `/` (DESIGN section 5). Pure functions.
//!
//! `key:value` terms separated by spaces, all of which must match; a comma between values means
//! "or", a leading `!` means "not":
//!
//! ```text
//! host:172.16.1.0/24 vni:10000-10003,20000 !proto:arp
//! ```
//!
//! `vni:vxlan/77` matches ids of tunnels of one kind.
//!
//! `group:eu/zone-a` matches hosts in this group or below it.
//!
//! Filters for packets have more keys: `port:443 l4:tcp flags:syn+ack,rst dscp:ef`.
use std::{borrow::Cow, error, fmt, net::IpAddr, ops::RangeInclusive, str::FromStr, sync::Arc};

use contract::{
    PROBE_TESTS, TEST_ID, TEST_INNER, TEST_IPV4, TEST_IPV6, TEST_KIND, TEST_LAST, TEST_NOT,
    TEST_OUTER, TEST_PROTO, TEST_V6, probe_test,
};
use glob::Pattern;
use ipnet::IpNet;

use crate::{
    flow::{Flow, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    groups::{Group, Groups},
    units::sanitize,
};

/// Which rows match. The empty filter, which is the default, matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    terms: Vec<Term>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Term {
    not: bool,
    test: Test,
}

/// A key and its values, any of which may match.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    Host(Vec<IpNet>),
    Inner(Vec<IpNet>),
    Vni(Vec<Ids>),
    Kind(Vec<Kind>),
    Iface(Vec<Interface>),
    Proto(Vec<Proto>),
    Group(AnyGroup),
}

/// Tunnel ids, and the kind of their tunnels if others do not count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// The kind of the tunnels; `None` for all.
    pub kind: Option<Kind>,
    /// Their ids.
    pub range: RangeInclusive<u32>,
}

impl Ids {
    fn has(&self, tunnel: Tunnel) -> bool {
        self.kind.is_none_or(|kind| kind == tunnel.kind)
            && tunnel.id.is_some_and(|id| self.range.contains(&id))
    }
}

/// As in an expression: `77`, `vxlan/77-79`.
impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(kind) = self.kind {
            write!(f, "{kind}/")?;
        }
        write_range(f, &self.range)
    }
}

/// Some groups of hosts, and where to look up their members.
#[derive(Clone, Debug, PartialEq, Eq)]
struct AnyGroup {
    /// Their paths, and the groups that exist.
    named: Vec<(String, Option<Group>)>,
    groups: Arc<Groups>,
}

impl AnyGroup {
    fn has(&self, host: IpAddr) -> bool {
        self.wanted().any(|group| self.groups.is_in(host, group))
    }

    fn wanted(&self) -> impl Iterator<Item = Group> {
        self.named.iter().filter_map(|(_, group)| *group)
    }

    /// Their networks, if these determine all members.
    fn nets(&self) -> Option<Vec<IpNet>> {
        let nets: Option<Vec<_>> = self.wanted().map(|group| self.groups.nets(group)).collect();
        Some(nets?.concat())
    }
}

/// The name of an interface, or a pattern. The name is compared first: an interface may be called
/// `a*`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    name: String,
    pattern: Option<Pattern>,
}

impl Interface {
    fn new(name: &str) -> Self {
        Interface { name: name.to_owned(), pattern: Pattern::new(name).ok() }
    }

    fn is(&self, name: &str) -> bool {
        self.name == name || self.pattern.as_ref().is_some_and(|p| p.matches(name))
    }
}

/// A value of [`Inner::proto`], compared without printing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proto {
    Ipv4,
    Ipv6,
    Other(InnerProto),
}

const KEYS: &str = "host, inner, vni (or id), kind, iface, proto, group";
const ALL_KEYS: &str = "host, inner, vni (or id), kind, iface, proto, group, port, l4, flags, dscp";

/// A filter for packets. What is not part of a row is matched against the packet itself: its
/// innermost IP header and what follows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PacketFilter {
    /// Which rows match.
    pub rows: Filter,
    /// Which of their packets match.
    terms: Vec<PacketTerm>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PacketTerm {
    not: bool,
    test: PacketTest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum PacketTest {
    Port(Vec<RangeInclusive<u32>>),
    L4(Vec<u8>),
    /// Any of these masks, all bits of which must be set.
    Flags(Vec<u8>),
    Dscp(Vec<RangeInclusive<u32>>),
}

/// What a packet filter is matched against; `None` for what a packet does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct InnerPacket {
    /// The DSCP of the innermost IP header.
    pub dscp: Option<u8>,
    /// The IP protocol of its payload.
    pub l4: Option<u8>,
    /// Source and destination port of TCP, UDP, SCTP and similar protocols.
    pub ports: Option<[u16; 2]>,
    /// The TCP flags.
    pub tcp_flags: Option<u8>,
}

/// The TCP flags, from the lowest bit.
pub const TCP_FLAGS: [&str; 8] = ["fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr"];

/// The IP protocols that have names here.
const L4: [(u8, &str); 13] = [
    (1, "icmp"),
    (2, "igmp"),
    (6, "tcp"),
    (17, "udp"),
    (33, "dccp"),
    (47, "gre"),
    (50, "esp"),
    (51, "ah"),
    (58, "icmpv6"),
    (89, "ospf"),
    (103, "pim"),
    (112, "vrrp"),
    (132, "sctp"),
];

/// An IP protocol by name, or else by number.
pub fn l4_name(number: u8) -> Cow<'static, str> {
    let named = L4.iter().find(|(n, _)| *n == number);
    named.map_or_else(|| number.to_string().into(), |(_, name)| (*name).into())
}

/// Resolves names; the results are empty for unknown ones.
pub struct Meanings<'a> {
    /// The networks with a name.
    pub nets: &'a dyn Fn(&str) -> Vec<IpNet>,
    /// The tunnel ids with a name.
    pub ids: &'a dyn Fn(&str) -> Vec<Ids>,
    /// The groups of hosts; `None` if they are not known yet, so that any path is accepted.
    pub groups: Option<&'a Arc<Groups>>,
}

impl Meanings<'_> {
    fn net(&self, v: &str) -> Result<Vec<IpNet>, String> {
        net(v).map(|n| vec![n]).or_else(|e| Some((self.nets)(v)).filter(|n| !n.is_empty()).ok_or(e))
    }

    fn id(&self, v: &str) -> Result<Vec<Ids>, String> {
        if let Some((of, ids)) = v.split_once('/')
            && let Ok(kind) = kind(of)
        {
            return Ok(vec![Ids { kind: Some(kind), range: range(ids)? }]);
        }
        let named = |e| Some((self.ids)(v)).filter(|n| !n.is_empty()).ok_or(e);
        range(v).map(|range| vec![Ids { kind: None, range }]).or_else(named)
    }

    fn any_group(&self, values: &Values<'_>) -> Result<AnyGroup, FilterError> {
        const SHOWN: usize = 8;
        let Some(groups) = self.groups else {
            let named = values.each("group:eu/zone-a", |v| Ok((v.to_owned(), None)))?;
            return Ok(AnyGroup { named, groups: Arc::default() });
        };
        let hint = match groups.all_paths().take(SHOWN).collect::<Vec<_>>() {
            none if none.is_empty() => "`--groups FILE`, a file of them".to_owned(),
            some if groups.all_paths().nth(SHOWN).is_none() => {
                format!("one of {}", some.join(", "))
            }
            some => format!("one such as {}", some.join(", ")),
        };
        let named = values.each(&hint, |v| match groups.at(v) {
            Some(group) => Ok((groups.path(group).to_owned(), Some(group))),
            None if groups.is_empty() => Err("there are no groups of hosts".to_owned()),
            None => Err(format!("{} is not a group of hosts", quote(v))),
        })?;
        Ok(AnyGroup { named, groups: groups.clone() })
    }
}

/// Why a text is not a filter: the position, what is wrong there, and what to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FilterError {
    /// The position, as a byte offset into the text.
    pub at: usize,
    /// What is wrong, safe for a terminal.
    pub what: String,
    /// What to try instead.
    pub hint: String,
}

impl fmt::Display for FilterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "filter, column {}: {}; try {}", self.at + 1, self.what, self.hint)
    }
}

impl error::Error for FilterError {}

impl Filter {
    /// Parses a filter; blank text is the empty filter.
    ///
    /// # Errors
    /// The first invalid term, see [`FilterError`].
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        let none = Arc::default();
        let meanings =
            Meanings { nets: &|_| Vec::new(), ids: &|_| Vec::new(), groups: Some(&none) };
        Self::parse_named(text, &meanings)
    }

    /// Parses a filter in which addresses and ids may be written as names.
    ///
    /// # Errors
    /// See [`Filter::parse`].
    pub fn parse_named(text: &str, names: &Meanings<'_>) -> Result<Self, FilterError> {
        words(text)
            .map(|(word, at)| Word::new(word, at, KEYS)?.row_term(names))
            .collect::<Result<_, _>>()
            .map(|terms| Filter { terms })
    }

    /// Whether a row matches. `interface` is the name of its interface.
    pub fn matches(&self, flow: &Flow, interface: &str) -> bool {
        self.terms.iter().all(|t| t.test.holds(flow, interface) != t.not)
    }

    /// The filter as tests that the programs apply to the keys of one interface's rows; `None` if
    /// it matches none of them.
    ///
    /// # Errors
    /// It has more values than the programs can compare.
    pub fn tests(&self, interface: &str) -> Result<Option<Vec<probe_test>>, String> {
        let mut tests = Vec::new();
        for term in &self.terms {
            if let Test::Iface(names) = &term.test {
                if names.iter().any(|n| n.is(interface)) == term.not {
                    return Ok(None);
                }
                continue;
            }
            let begin = tests.len();
            term.test.compile(&mut tests)?;
            if tests.len() == begin {
                // Groups without members.
                match term.not {
                    true => continue,
                    false => return Ok(None),
                }
            }
            let not = if term.not { TEST_NOT as u8 } else { 0 };
            tests[begin..].iter_mut().for_each(|test| test.flags |= not);
            if let Some(last) = tests.last_mut() {
                last.flags |= TEST_LAST as u8;
            }
        }
        let most = PROBE_TESTS as usize;
        if tests.len() > most {
            return Err(format!(
                "the expression compares {} values, but at most {most} are possible: try networks and ranges",
                tests.len()
            ));
        }
        Ok(Some(tests))
    }

    fn of(test: Test) -> Filter {
        Filter { terms: vec![Term { not: false, test }] }
    }

    /// Matches rows with one of these addresses as an outer end.
    pub fn of_hosts(addresses: impl IntoIterator<Item = IpAddr>) -> Filter {
        Filter::of(Test::Host(addresses.into_iter().map(|a| a.to_canonical().into()).collect()))
    }

    /// Matches rows with an outer end in one of these groups, or below it.
    pub fn of_groups(groups: &Arc<Groups>, wanted: impl IntoIterator<Item = Group>) -> Filter {
        let named = wanted.into_iter().map(|group| (groups.path(group).to_owned(), Some(group)));
        Filter::of(Test::Group(AnyGroup { named: named.collect(), groups: groups.clone() }))
    }

    /// Matches rows with one of these addresses as an inner end.
    pub fn of_inner(addresses: impl IntoIterator<Item = IpAddr>) -> Filter {
        Filter::of(Test::Inner(addresses.into_iter().map(|a| a.to_canonical().into()).collect()))
    }

    /// Matches rows with this tunnel.
    pub fn of_tunnel(tunnel: Tunnel) -> Filter {
        let kind = Filter::of(Test::Kind(vec![tunnel.kind]));
        let ids = |id| vec![Ids { kind: None, range: id..=id }];
        tunnel.id.map_or(kind.clone(), |id| kind.and(Filter::of(Test::Vni(ids(id)))))
    }

    /// Matches rows with this protocol instead of inner addresses.
    pub fn of_proto(proto: InnerProto) -> Filter {
        Filter::of(Test::Proto(vec![Proto::Other(proto)]))
    }

    /// Matches rows of the interface with this name.
    pub fn of_interface(name: &str) -> Filter {
        Filter::of(Test::Iface(vec![Interface { name: name.to_owned(), pattern: None }]))
    }

    /// Matches what an expression can say of a row's key; together with the interface, it
    /// identifies the row.
    pub fn of_row(key: &Key) -> Filter {
        let tunnels = [Some(key.outermost).filter(|_| key.depth > 0), key.innermost];
        let tunnels = tunnels.into_iter().flatten().map(Filter::of_tunnel);
        let outer = key.outer.into_iter().flat_map(|p| [p.first, p.second]);
        let outer = outer.map(|a| Filter::of_hosts([a]));
        let inner = match key.inner {
            Inner::Pair(p) => vec![Filter::of_inner([p.first]), Filter::of_inner([p.second])],
            Inner::Proto(proto) => vec![Filter::of_proto(proto)],
        };
        tunnels.chain(outer).chain(inner).fold(Filter::default(), Filter::and)
    }

    /// Matches rows that match both.
    #[must_use]
    pub fn and(mut self, other: Filter) -> Filter {
        for term in other.terms {
            if !self.terms.contains(&term) {
                self.terms.push(term);
            }
        }
        self
    }

    /// Whether it selects interfaces by name, so that each of them counts for itself.
    pub fn names_interfaces(&self) -> bool {
        self.terms.iter().any(|t| !t.not && matches!(t.test, Test::Iface(_)))
    }

    /// Whether it matches everything.
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether it refers to groups whose members depend on names: see [`Filter::learn`].
    pub fn takes_names(&self) -> bool {
        let takes_names = |t: &Term| matches!(&t.test, Test::Group(any) if any.groups.take_names());
        self.terms.iter().any(takes_names)
    }

    /// Updates the members of groups.
    pub fn learn(&mut self, groups: &Arc<Groups>) {
        for term in &mut self.terms {
            if let Test::Group(any) = &mut term.test
                && !Arc::ptr_eq(&any.groups, groups)
            {
                any.groups = groups.clone();
                any.named.iter_mut().for_each(|(path, group)| *group = groups.at(path));
            }
        }
    }
}

impl FromStr for Filter {
    type Err = FilterError;
    fn from_str(text: &str) -> Result<Self, FilterError> {
        Filter::parse(text)
    }
}

impl PacketFilter {
    /// Parses a filter for packets, in which addresses and ids may be written as names.
    ///
    /// # Errors
    /// See [`Filter::parse`].
    pub fn parse_named(text: &str, names: &Meanings<'_>) -> Result<Self, FilterError> {
        let mut filter = PacketFilter::default();
        for (word, at) in words(text) {
            let word = Word::new(word, at, ALL_KEYS)?;
            match word.packet_term()? {
                Some(term) => filter.terms.push(term),
                None => filter.rows.terms.push(word.row_term(names)?),
            }
        }
        Ok(filter)
    }

    /// Whether it depends only on rows, so that no packet has to be examined.
    pub fn is_of_rows(&self) -> bool {
        self.terms.is_empty()
    }

    /// Whether a packet matches, given that its row does.
    pub fn keeps(&self, packet: &InnerPacket) -> bool {
        self.terms.iter().all(|t| t.test.holds(packet) != t.not)
    }
}

/// The words of a text and their positions.
fn words(text: &str) -> impl Iterator<Item = (&str, usize)> {
    text.split_whitespace().map(|word| (word, word.as_ptr().addr() - text.as_ptr().addr()))
}

/// A term in the text.
struct Word<'a> {
    not: bool,
    key: String,
    at_key: usize,
    /// The term after the `!`.
    rest: &'a str,
    values: Values<'a>,
    /// The keys that are possible here.
    keys: &'static str,
}

impl<'a> Word<'a> {
    /// `at` is the position of `word` in the filter.
    fn new(word: &'a str, at: usize, keys: &'static str) -> Result<Self, FilterError> {
        let (not, rest) = word.strip_prefix('!').map_or((false, word), |rest| (true, rest));
        let at_key = at + usize::from(not);
        let (key, values) = match rest.split_once(':') {
            // An IPv6 address without a key looks like a term with an unknown key.
            Some((key, values)) if net(rest).is_err() => (key, values),
            _ => return Err(error(at, format!("{} has no key", quote(word)), guess(rest, keys))),
        };
        let values = Values { text: values, at: at_key + key.len() + 1 };
        Ok(Word { not, key: key.to_ascii_lowercase(), at_key, rest, values, keys })
    }

    /// The term, if it is one for packets.
    fn packet_term(&self) -> Result<Option<PacketTerm>, FilterError> {
        let values = &self.values;
        let test = match self.key.as_str() {
            "port" => PacketTest::Port(values.each("port:443 or port:8000-8100", |v| {
                within(range(v)?, u16::MAX.into(), "a port")
            })?),
            "l4" => PacketTest::L4(values.each("l4:tcp, l4:udp, l4:icmp or l4:47", l4)?),
            "flags" => PacketTest::Flags(values.each(
                "flags:rst or flags:syn+ack; of fin, syn, rst, psh, ack, urg, ece, cwr",
                flags,
            )?),
            "dscp" => {
                PacketTest::Dscp(values.each("dscp:46, dscp:ef, dscp:af41 or dscp:8-14", dscp)?)
            }
            _ => return Ok(None),
        };
        Ok(Some(PacketTerm { not: self.not, test }))
    }

    /// The term, which must be one for rows.
    fn row_term(&self, names: &Meanings<'_>) -> Result<Term, FilterError> {
        let Word { not, key, at_key, values, keys, .. } = self;
        let test = match key.as_str() {
            "host" => Test::Host(
                values.each("host:172.16.1.100 or host:172.16.0.0/16", |v| names.net(v))?.concat(),
            ),
            "inner" => Test::Inner(
                values
                    .each("inner:192.168.0.1 or inner:192.168.0.0/24", |v| names.net(v))?
                    .concat(),
            ),
            "vni" | "id" => {
                let hint = "vni:10000, vni:10000-10003 or vni:vxlan/10000";
                Test::Vni(values.each(hint, |v| names.id(v))?.concat())
            }
            "kind" => Test::Kind(values.each(&format!("one of {}", Kind::names()), kind)?),
            "iface" => {
                Test::Iface(values.each("iface:eth0 or iface:veth*", |v| Ok(Interface::new(v)))?)
            }
            "proto" => Test::Proto(values.each(
                "proto:ipv4, proto:ipv6, proto:arp, proto:0x88cc or proto:truncated",
                proto,
            )?),
            "group" => Test::Group(names.any_group(values)?),
            "" => {
                return Err(error(
                    *at_key,
                    "a key is missing before ':'".to_owned(),
                    format!("one of {keys}"),
                ));
            }
            "port" | "l4" | "flags" | "dscp" => {
                let what = format!("{} matches packets, but only rows are known here", quote(key));
                let hint = format!("`tmon capture '{}'`", sanitize(self.rest));
                return Err(error(*at_key, what, hint));
            }
            _ => {
                return Err(error(
                    *at_key,
                    format!("there is no key {}", quote(key)),
                    format!("one of {keys}"),
                ));
            }
        };
        Ok(Term { not: *not, test })
    }
}

/// The comma-separated values of a term.
struct Values<'a> {
    text: &'a str,
    at: usize,
}

impl Values<'_> {
    fn each<T>(
        &self,
        hint: &str,
        parse: impl Fn(&str) -> Result<T, String>,
    ) -> Result<Vec<T>, FilterError> {
        let mut at = self.at;
        self.text
            .split(',')
            .map(|value| {
                let here = at;
                at += value.len() + 1;
                if value.is_empty() {
                    return Err(error(here, "a value is missing".to_owned(), hint.to_owned()));
                }
                if value.starts_with('!') {
                    let hint = "it before the key, as in !vni:10000".to_owned();
                    return Err(error(
                        here,
                        "'!' negates a whole term, not one value".to_owned(),
                        hint,
                    ));
                }
                parse(value).map_err(|what| error(here, what, hint.to_owned()))
            })
            .collect()
    }
}

fn error(at: usize, what: String, hint: String) -> FilterError {
    FilterError { at, what, hint }
}

/// Text from the user for display in an error: short, and safe for a terminal.
fn quote(text: &str) -> String {
    let mut short: String = text.chars().take(40).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    format!("'{}'", sanitize(&short))
}

/// What a word without a key was probably meant to be.
fn guess(word: &str, keys: &str) -> String {
    if net(word).is_ok() {
        format!("host:{word} or inner:{word}")
    } else if range(word).is_ok() {
        format!("vni:{word}")
    } else if kind(word).is_ok() {
        format!("kind:{word}")
    } else if proto(word).is_ok() {
        format!("proto:{word}")
    } else {
        format!("key:value, where key is one of {keys}")
    }
}

fn net(v: &str) -> Result<IpNet, String> {
    if let Ok(address) = v.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    v.parse::<IpNet>()
        .map(|n| canonical(n.trunc()))
        .map_err(|_| format!("{} is neither an address nor a CIDR", quote(v)))
}

/// Converts a network of IPv4-mapped IPv6 addresses (`::ffff:0:0/96`) to IPv4.
fn canonical(net: IpNet) -> IpNet {
    let v4 = |n: &ipnet::Ipv6Net| {
        let address = n.addr().to_ipv4_mapped()?;
        ipnet::Ipv4Net::new(address, n.prefix_len().checked_sub(96)?).ok()
    };
    match &net {
        IpNet::V6(n) => v4(n).map_or(net, IpNet::V4),
        IpNet::V4(_) => net,
    }
}

fn number(v: &str) -> Option<u32> {
    match v.strip_prefix("0x").or_else(|| v.strip_prefix("0X")) {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => {
            u32::from_str_radix(hex, 16).ok()
        }
        None if v.bytes().all(|b| b.is_ascii_digit()) => v.parse().ok(),
        _ => None,
    }
}

fn range(v: &str) -> Result<RangeInclusive<u32>, String> {
    let (low, high) = v.split_once('-').unwrap_or((v, v));
    match (number(low), number(high)) {
        (Some(low), Some(high)) if low <= high => Ok(low..=high),
        (Some(_), Some(_)) => Err(format!("the range {} ends before it begins", quote(v))),
        _ => Err(format!("{} is neither a number (0 to {}) nor a range", quote(v), u32::MAX)),
    }
}

fn within(
    range: RangeInclusive<u32>,
    most: u32,
    what: &str,
) -> Result<RangeInclusive<u32>, String> {
    if *range.end() <= most { Ok(range) } else { Err(format!("{what} is at most {most}")) }
}

fn l4(v: &str) -> Result<u8, String> {
    let named = L4.iter().find(|(_, name)| name.eq_ignore_ascii_case(v)).map(|(n, _)| *n);
    let numbered = || number(v).and_then(|n| n.try_into().ok());
    named.or_else(numbered).ok_or_else(|| format!("{} is not an IP protocol", quote(v)))
}

/// Flags that must all be set.
fn flags(v: &str) -> Result<u8, String> {
    let flag = |name: &str| {
        let place = TCP_FLAGS.iter().position(|f| f.eq_ignore_ascii_case(name));
        place.map(|n| 1 << n).ok_or_else(|| format!("{} is not a flag of TCP", quote(name)))
    };
    v.split('+').try_fold(0, |all, name| Ok(all | flag(name)?))
}

/// A range of DSCPs, or the name of one (RFC 2474, 2597, 3246, 5865, 8622).
fn dscp(v: &str) -> Result<RangeInclusive<u32>, String> {
    let named = match v.to_ascii_lowercase().as_bytes() {
        [b'c', b's', class @ b'0'..=b'7'] => Some((class - b'0') * 8),
        [b'a', b'f', class @ b'1'..=b'4', drop @ b'1'..=b'3'] => {
            Some((class - b'0') * 8 + (drop - b'0') * 2)
        }
        b"ef" => Some(46),
        b"va" => Some(44),
        b"le" => Some(1),
        _ => None,
    };
    match named {
        Some(n) => Ok(n.into()..=n.into()),
        None => within(range(v)?, 63, "a DSCP"),
    }
}

fn kind(v: &str) -> Result<Kind, String> {
    // A kind added by a newer BPF object has no name here, but its rows print one: accept that,
    // too.
    let unknown = || v.strip_prefix("kind-")?.parse().ok().map(Kind::from_number);
    v.parse().ok().or_else(unknown).ok_or_else(|| format!("{} is not a tunnel kind", quote(v)))
}

/// The inverse of [`Inner::proto`].
fn proto(v: &str) -> Result<Proto, String> {
    let v = v.to_ascii_lowercase();
    let space = |prefix: &str, base: u32| {
        number(v.strip_prefix(prefix)?).filter(|n| *n <= 0xffff).map(|n| base | n)
    };
    let found = match v.as_str() {
        "ipv4" => return Ok(Proto::Ipv4),
        "ipv6" => return Ok(Proto::Ipv6),
        "arp" => Some(0x0806),
        text => match InnerProto::REASONS.iter().position(|r| *r == text) {
            Some(n) => Some(InnerProto::REASON | n as u32),
            None => space("reason-", InnerProto::REASON)
                .or_else(|| space("ppp-", InnerProto::PPP))
                .or_else(|| space("ip-", InnerProto::IP_PROTO))
                .or_else(|| number(text).filter(|_| text.starts_with("0x"))),
        },
    };
    found
        .map(|n| Proto::Other(InnerProto(n)))
        .ok_or_else(|| format!("{} is not an inner protocol", quote(&v)))
}

fn ends(pair: Option<Pair>, nets: &[IpNet]) -> bool {
    let holds = |address: IpAddr| {
        // Programs with dual-stack sockets log IPv4 addresses as IPv4-mapped IPv6 ones.
        let v4 = address.to_canonical();
        nets.iter().any(|n| n.contains(&address) || n.contains(&v4))
    };
    pair.is_some_and(|p| holds(p.first) || holds(p.second))
}

impl Test {
    fn holds(&self, flow: &Flow, interface: &str) -> bool {
        let key = &flow.key;
        let tunnel = |holds: &dyn Fn(Tunnel) -> bool| {
            holds(key.outermost) || key.innermost.is_some_and(holds)
        };
        match self {
            Test::Host(nets) => ends(key.outer, nets),
            Test::Inner(nets) => ends(key.inner.pair(), nets),
            Test::Vni(ids) => tunnel(&|t| ids.iter().any(|ids| ids.has(t))),
            Test::Kind(kinds) => tunnel(&|t| kinds.contains(&t.kind)),
            Test::Iface(names) => names.iter().any(|n| n.is(interface)),
            Test::Proto(protos) => {
                let this = match key.inner {
                    Inner::Pair(Pair { first: IpAddr::V4(_), .. }) => Proto::Ipv4,
                    Inner::Pair(_) => Proto::Ipv6,
                    Inner::Proto(p) => Proto::Other(p),
                };
                protos.contains(&this)
            }
            Test::Group(any) => key.outer.is_some_and(|p| any.has(p.first) || any.has(p.second)),
        }
    }
}

impl Test {
    /// Appends the tests for the programs, any of which must succeed.
    ///
    /// # Errors
    /// The programs cannot compare these values.
    fn compile(&self, tests: &mut Vec<probe_test>) -> Result<(), String> {
        let of = |what, range: &RangeInclusive<u32>| probe_test {
            what: what as u8,
            low: *range.start(),
            high: *range.end(),
            ..probe_test::default()
        };
        let number = |n: u32| of(TEST_PROTO, &(n..=n));
        match self {
            Test::Host(nets) => nets.iter().for_each(|n| compile_net(TEST_OUTER, n, tests)),
            Test::Inner(nets) => nets.iter().for_each(|n| compile_net(TEST_INNER, n, tests)),
            Test::Vni(all) => tests.extend(all.iter().map(|ids| probe_test {
                kind: ids.kind.map_or(0, |kind| u16::from(kind.number()) + 1),
                ..of(TEST_ID, &ids.range)
            })),
            Test::Kind(kinds) => tests.extend(kinds.iter().map(|kind| {
                let kind = u32::from(kind.number());
                of(TEST_KIND, &(kind..=kind))
            })),
            Test::Proto(protos) => tests.extend(protos.iter().map(|proto| match proto {
                Proto::Ipv4 => number(TEST_IPV4),
                Proto::Ipv6 => number(TEST_IPV6),
                Proto::Other(proto) => number(proto.0),
            })),
            Test::Iface(_) => {} // decided by the caller
            Test::Group(any) => match any.nets() {
                Some(nets) => nets.iter().for_each(|n| compile_net(TEST_OUTER, n, tests)),
                None => {
                    let why = "membership in this group depends on names, which cannot be \
                               matched against packets: try `host:` and networks";
                    return Err(why.to_owned());
                }
            },
        }
        Ok(())
    }
}

/// Appends a test for a network; one of IPv4 addresses also covers their IPv4-mapped form.
fn compile_net(what: contract::test, net: &IpNet, tests: &mut Vec<probe_test>) {
    let words = |bytes: [u8; 16]| -> [u32; 4] {
        std::array::from_fn(|i| {
            u32::from_ne_bytes(std::array::from_fn(|b| bytes[4 * i + b])) // as in memory
        })
    };
    let mut push = |flags: u32, net: [u8; 16], mask: [u8; 16]| {
        tests.push(probe_test {
            what: what as u8,
            flags: flags as u8,
            net: words(net),
            mask: words(mask),
            ..probe_test::default()
        });
    };
    match net {
        IpNet::V6(n) => push(TEST_V6, n.network().octets(), n.netmask().octets()),
        IpNet::V4(n) => {
            let front = |bytes: [u8; 4]| std::array::from_fn(|i| *bytes.get(i).unwrap_or(&0));
            push(0, front(n.network().octets()), front(n.netmask().octets()));
            let mut mask = [0xff; 16];
            mask[12..].copy_from_slice(&n.netmask().octets());
            push(TEST_V6, n.network().to_ipv6_mapped().octets(), mask);
        }
    }
}

impl PacketTest {
    fn holds(&self, packet: &InnerPacket) -> bool {
        let within = |ranges: &[RangeInclusive<u32>], n: u32| ranges.iter().any(|r| r.contains(&n));
        match self {
            PacketTest::Port(ranges) => {
                packet.ports.is_some_and(|ports| ports.iter().any(|p| within(ranges, (*p).into())))
            }
            PacketTest::L4(protocols) => packet.l4.is_some_and(|n| protocols.contains(&n)),
            PacketTest::Flags(masks) => {
                packet.tcp_flags.is_some_and(|f| masks.iter().any(|mask| f & mask == *mask))
            }
            PacketTest::Dscp(ranges) => packet.dscp.is_some_and(|n| within(ranges, n.into())),
        }
    }
}

/// The canonical text: parsing it gives the same filter.
impl fmt::Display for PacketFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.rows.fmt(f)?;
        for (i, term) in self.terms.iter().enumerate() {
            f.write_str(if i > 0 || !self.rows.is_empty() { " " } else { "" })?;
            f.write_str(if term.not { "!" } else { "" })?;
            match &term.test {
                PacketTest::Port(ranges) => list(f, "port", ranges, write_range)?,
                PacketTest::L4(protocols) => {
                    list(f, "l4", protocols, |f, n| f.write_str(&l4_name(*n)))?;
                }
                PacketTest::Flags(masks) => list(f, "flags", masks, |f, mask| {
                    let set = TCP_FLAGS.iter().enumerate().filter(|(n, _)| mask >> n & 1 != 0);
                    let names: Vec<_> = set.map(|(_, name)| *name).collect();
                    f.write_str(&names.join("+"))
                })?,
                PacketTest::Dscp(ranges) => list(f, "dscp", ranges, write_range)?,
            }
        }
        Ok(())
    }
}

/// The canonical text: parsing it gives the same filter.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, term) in self.terms.iter().enumerate() {
            f.write_str(if i > 0 { " " } else { "" })?;
            f.write_str(if term.not { "!" } else { "" })?;
            match &term.test {
                Test::Host(nets) => list(f, "host", nets, write_net)?,
                Test::Inner(nets) => list(f, "inner", nets, write_net)?,
                Test::Vni(ids) => list(f, "vni", ids, |f, ids| ids.fmt(f))?,
                Test::Kind(kinds) => list(f, "kind", kinds, |f, k| write!(f, "{k}"))?,
                Test::Iface(names) => list(f, "iface", names, |f, n| f.write_str(&n.name))?,
                Test::Proto(protos) => list(f, "proto", protos, |f, p| match p {
                    Proto::Ipv4 => f.write_str("ipv4"),
                    Proto::Ipv6 => f.write_str("ipv6"),
                    Proto::Other(p) => write!(f, "{p}"),
                })?,
                Test::Group(any) => list(f, "group", &any.named, |f, (path, _)| f.write_str(path))?,
            }
        }
        Ok(())
    }
}

fn list<T>(
    f: &mut fmt::Formatter<'_>,
    key: &str,
    values: &[T],
    write: impl Fn(&mut fmt::Formatter<'_>, &T) -> fmt::Result,
) -> fmt::Result {
    write!(f, "{key}")?;
    for (i, v) in values.iter().enumerate() {
        f.write_str(if i > 0 { "," } else { ":" })?;
        write(f, v)?;
    }
    Ok(())
}

fn write_range(f: &mut fmt::Formatter<'_>, r: &RangeInclusive<u32>) -> fmt::Result {
    match (r.start(), r.end()) {
        (low, high) if low == high => write!(f, "{low}"),
        (low, high) => write!(f, "{low}-{high}"),
    }
}

fn write_net(f: &mut fmt::Formatter<'_>, n: &IpNet) -> fmt::Result {
    if n.prefix_len() == n.max_prefix_len() { write!(f, "{}", n.addr()) } else { write!(f, "{n}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::flow::{Counters, Key};

    fn ip(s: &str) -> IpAddr {
        s.parse().unwrap()
    }

    fn pair(a: &str, b: &str) -> Pair {
        Pair { first: ip(a), second: ip(b) }
    }

    fn vxlan() -> Flow {
        Flow {
            interface: 0,
            key: Key {
                outer: Some(pair("172.16.1.100", "172.16.1.101")),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(10000) },
                innermost: None,
                depth: 1,
                inner: Inner::Pair(pair("192.168.0.1", "192.168.0.2")),
                other: false,
            },
            counters: Counters::default(),
        }
    }

    fn nested() -> Flow {
        let mut f = vxlan();
        f.key.outer = Some(pair("2001:db8::1", "2001:db8::2"));
        f.key.innermost = Some(Tunnel { kind: Kind::Gtpu, id: Some(7) });
        f.key.depth = 2;
        f.key.inner = Inner::Pair(pair("fe80::1", "fe80::2"));
        f
    }

    fn arp() -> Flow {
        let mut f = vxlan();
        f.key.outermost = Tunnel { kind: Kind::Gre, id: None };
        f.key.inner = Inner::Proto(InnerProto(0x0806));
        f
    }

    fn overflow() -> Flow {
        let mut f = arp();
        f.key.outer = None;
        f.key.outermost.kind = Kind::None;
        f.key.inner = Inner::Proto(InnerProto::OVERFLOW);
        f
    }

    /// Which of the rows vxlan, nested, arp and overflow match a filter.
    fn kept(text: &str) -> String {
        let filter = Filter::parse(text).unwrap();
        let rows = [('v', vxlan()), ('n', nested()), ('a', arp()), ('o', overflow())];
        rows.iter().filter(|(_, f)| filter.matches(f, "eth0")).map(|(c, _)| *c).collect()
    }

    #[test]
    fn names_stand_for_addresses_and_ids() {
        let nets = |n: &str| {
            if n == "rack" {
                vec![net("172.16.1.0/24").unwrap(), net("2001:db8::/32").unwrap()]
            } else {
                vec![]
            }
        };
        let names = Meanings {
            nets: &nets,
            ids: &|n| match n {
                "blue" => vec![Ids { kind: None, range: 10000..=10000 }],
                "black" => vec![Ids { kind: Some(Kind::Gtpu), range: 10000..=10000 }],
                _ => vec![],
            },
            groups: None,
        };
        let f = Filter::parse_named("host:rack,10.0.0.1 vni:blue", &names).unwrap();
        assert!(f.matches(&vxlan(), "eth0"));
        assert_eq!(
            f.to_string(),
            "host:172.16.1.0/24,2001:db8::/32,10.0.0.1 vni:10000",
            "what it means, without names"
        );
        // A name may mean ids of some kinds of tunnels only.
        for (text, holds) in [("vni:black", false), ("vni:black,blue", true), ("!vni:black", true)]
        {
            let f = Filter::parse_named(text, &names).unwrap();
            assert_eq!(f.matches(&vxlan(), "eth0"), holds, "{text}");
            assert_eq!(Filter::parse(&f.to_string()), Ok(f), "{text}");
        }
        let f: Filter = "vni:vxlan/10000-10001 !vni:geneve/10000".parse().unwrap();
        assert!(f.matches(&vxlan(), "eth0"));
        let tests = f.tests("eth0").unwrap().unwrap();
        let number = |kind: Kind| u16::from(kind.number()) + 1;
        assert_eq!(
            tests.iter().map(|t| (t.kind, t.low, t.high)).collect::<Vec<_>>(),
            [(number(Kind::Vxlan), 10000, 10001), (number(Kind::Geneve), 10000, 10000)]
        );
        for (text, says) in [("vni:vxlan/x", "'x'"), ("vni:nothing/7", "'nothing/7'")] {
            assert!(Filter::parse(text).unwrap_err().what.contains(says), "{text}");
        }
        let e = Filter::parse_named("host:rack vni:green", &names).unwrap_err();
        assert!(e.at == 14 && e.what.contains("'green'"), "{e}");
        assert!(Filter::parse("host:rack").is_err());
    }

    #[test]
    fn a_group_matches_outer_addresses_in_it_and_below_it() {
        let file = "172.16.0.0/16 eu\n172.16.1.100 eu/a\n172.16.1.101 us\n2001:db8::1 eu/b\n";
        let mut groups = Arc::new(Groups::parse(file).unwrap());
        let parse = |text: &str, groups: &Arc<Groups>| {
            let (nets, ids) = (|_: &str| Vec::new(), |_: &str| Vec::new());
            let meanings = Meanings { nets: &nets, ids: &ids, groups: Some(groups) };
            Filter::parse_named(text, &meanings)
        };
        let rows = [('v', vxlan()), ('n', nested()), ('a', arp()), ('o', overflow())];
        for (text, kept) in [
            ("group:eu", "vna"),
            ("group:/eu/a/", "va"),
            ("group:eu/b", "n"),
            ("group:us", "va"),
            ("group:us,eu/b", "vna"),
            ("!group:us", "no"),
            ("group:eu/a group:us", "va"),
        ] {
            let filter = parse(text, &groups).unwrap();
            let keeps: String =
                rows.iter().filter(|(_, f)| filter.matches(f, "")).map(|(c, _)| *c).collect();
            assert_eq!(keeps, kept, "{text}");
            assert_eq!(parse(&filter.to_string(), &groups), Ok(filter), "{text}");
        }
        // The programs compare their networks: all of eu except for us.
        let nets = |path| groups.nets(groups.at(path).unwrap()).unwrap();
        let all = |net: &str, nets: &[IpNet]| nets.iter().any(|n| n.contains(&ip(net)));
        let eu = nets("eu");
        for (host, is_in) in
            [("172.16.1.100", true), ("172.16.1.101", false), ("172.16.1.102", true)]
        {
            assert_eq!(all(host, &eu), is_in, "{host} in {eu:?}");
        }
        assert_eq!(nets("us"), [net("172.16.1.101").unwrap()]);
        let tests = |text: &str, groups| parse(text, groups).unwrap().tests("eth0");
        assert_eq!(tests("group:us", &groups), tests("host:172.16.1.101", &groups));
        // Unknown groups, and no groups at all.
        let e = parse("vni:1 group:asia", &groups).unwrap_err();
        assert!(e.at == 12 && e.hint == "one of eu, eu/a, us, eu/b", "{e}");
        let e = Filter::parse("group:eu").unwrap_err();
        assert!(e.what == "there are no groups of hosts" && e.hint.contains("--groups"), "{e}");
        // Members by name are learned.
        groups = Arc::new(Groups::parse("node-* eu\n10.0.0.1 us\n").unwrap());
        let mut filter = parse("group:eu", &groups).unwrap();
        assert!(filter.takes_names() && !filter.matches(&vxlan(), ""));
        assert!(filter.tests("eth0").unwrap_err().contains("depends on names"));
        groups.learn([ip("172.16.1.100")].into_iter(), |_| Some("node-1".to_owned()));
        filter.learn(&groups);
        assert!(filter.matches(&vxlan(), "") && !filter.matches(&nested(), ""));
    }

    #[test]
    fn each_key_matches_the_field_in_the_contract() {
        for (text, rows) in [
            ("", "vnao"),
            ("   ", "vnao"),
            ("host:172.16.1.100", "va"),
            ("host:172.16.1.101", "va"),
            ("host:172.16.1.102", ""),
            ("host:172.16.0.0/16", "va"),
            ("host:172.16.1.77/16", "va"),
            ("host:2001:db8::/32", "n"),
            ("host:0.0.0.0/0,::/0", "vna"),
            ("!host:0.0.0.0/0,::/0", "o"),
            ("inner:192.168.0.2", "v"),
            ("inner:fe80::/10,192.168.0.1", "vn"),
            ("host:192.168.0.1", ""),
            ("vni:10000", "vn"),
            ("id:7", "n"),
            ("vni:0x2710", "vn"),
            ("vni:0-6,8-9999", ""),
            ("vni:9999-10001", "vn"),
            ("!vni:0-4294967295", "ao"),
            ("kind:gtpu", "n"),
            ("kind:VXLAN", "vn"),
            ("kind:gre,none", "ao"),
            ("iface:eth0", "vnao"),
            ("iface:eth", ""),
            ("iface:eth*", "vnao"),
            ("iface:lo,e[st]h?", "vnao"),
            ("iface:veth*", ""),
            ("iface:[", ""),
            ("proto:ipv4", "v"),
            ("proto:ipv6", "n"),
            ("proto:arp", "a"),
            ("proto:0x0806", "a"),
            ("proto:overflow", "o"),
            ("kind:vxlan !kind:gtpu", "v"),
            ("host:172.16.1.100 host:172.16.1.101", "va"),
            (" HOST:172.16.1.100   proto:ARP ", "a"),
        ] {
            assert_eq!(kept(text), rows, "{text}");
        }
    }

    #[test]
    fn an_ipv4_mapped_address_is_an_ipv4_address() {
        let mut row = vxlan();
        row.key.inner = Inner::Pair(pair("::ffff:192.168.0.1", "::ffff:192.168.0.2"));
        for text in [
            "inner:192.168.0.0/24",
            "inner:192.168.0.2",
            "inner:::ffff:192.168.0.2",
            "inner:::ffff:192.168.0.0/120",
            "inner:::ffff:0:0/96",
            "inner:::/0",
            "host:::ffff:172.16.1.100",
        ] {
            assert!(Filter::parse(text).unwrap().matches(&row, "eth0"), "{text}");
        }
        for text in ["inner:192.168.1.0/24", "inner:::ffff:192.168.0.3", "inner:2001::/16"] {
            assert!(!Filter::parse(text).unwrap().matches(&row, "eth0"), "{text}");
        }
        assert!(Filter::parse("inner:::ffff:192.168.0.1").unwrap().matches(&vxlan(), "eth0"));
    }

    #[test]
    fn errors_say_where_what_and_what_to_try() {
        for (text, at, what, hint) in [
            ("hsot:1.2.3.4", 0, "there is no key 'hsot'", KEYS),
            ("vni:1 !hsot:1.2.3.4", 7, "there is no key 'hsot'", KEYS),
            ("host:1.2.3", 5, "'1.2.3' is neither an address nor a CIDR", "host:172.16.0.0/16"),
            ("inner:10.0.0.0/33", 6, "neither", "inner:192.168.0.0/24"),
            ("vni:1,2,x", 8, "'x' is neither a number", "vni:10000-10003"),
            ("vni:4294967296", 4, "(0 to 4294967295)", "vni:"),
            ("vni:+1", 4, "neither", "vni:"),
            ("vni:1-2-3", 4, "neither", "vni:"),
            ("vni:0x", 4, "neither", "vni:"),
            ("vni:9-3", 4, "ends before it begins", "vni:"),
            ("kind:vlan", 5, "not a tunnel kind", "vxlan-gpe"),
            ("proto:ipv5", 6, "not an inner protocol", "proto:arp"),
            ("host:", 5, "a value is missing", "host:"),
            ("host:1.1.1.1,,", 13, "a value is missing", "host:"),
            (":5", 0, "a key is missing", KEYS),
            ("!", 0, "'!' has no key", "key:value"),
            ("vni:!5", 4, "negates a whole term", "!vni:"),
            ("10.0.0.1", 0, "has no key", "host:10.0.0.1 or inner:10.0.0.1"),
            ("2001:db8::1", 0, "has no key", "host:2001:db8::1"),
            ("fe80::/10", 0, "has no key", "host:fe80::/10"),
            ("10000", 0, "has no key", "vni:10000"),
            ("geneve", 0, "has no key", "kind:geneve"),
            ("arp", 0, "has no key", "proto:arp"),
            ("möbius x:1", 0, "has no key", "key:value"),
        ] {
            let e = Filter::parse(text).unwrap_err();
            assert_eq!(e.at, at, "{e}");
            assert!(e.what.contains(what), "{e}");
            assert!(e.hint.contains(hint), "{e}");
        }
        let e = Filter::parse("kind:\x1b[2Jgre").unwrap_err().to_string();
        assert!(
            e.starts_with(
                "filter, column 6: '␛[2Jgre' is not a tunnel kind; try one of none, vxlan"
            ),
            "{e}"
        );
    }

    fn of_packets(text: &str) -> Result<PacketFilter, FilterError> {
        let names = Meanings { nets: &|_| Vec::new(), ids: &|_| Vec::new(), groups: None };
        PacketFilter::parse_named(text, &names)
    }

    #[test]
    fn packet_filters_match_packet_contents() {
        let syn = InnerPacket {
            dscp: Some(46),
            l4: Some(6),
            ports: Some([40000, 443]),
            tcp_flags: Some(0x02),
        };
        let answer = InnerPacket { tcp_flags: Some(0x12), ports: Some([443, 40000]), ..syn };
        let ping = InnerPacket { dscp: Some(0), l4: Some(1), ..InnerPacket::default() };
        let none = InnerPacket::default();
        for (text, kept) in [
            ("", "sapn"),
            ("vni:1", "sapn"),
            ("port:443", "sa"),
            ("!port:443", "pn"),
            ("port:40000-50000,80", "sa"),
            ("port:1-442", ""),
            ("l4:tcp", "sa"),
            ("l4:ICMP,17", "p"),
            ("l4:6 flags:syn", "sa"),
            ("flags:syn !flags:ack", "s"),
            ("flags:SYN+ack", "a"),
            ("flags:fin,ack", "a"),
            ("dscp:ef", "sa"),
            ("dscp:cs0", "p"),
            ("dscp:0x2c-47", "sa"),
            ("!dscp:0-63", "n"),
        ] {
            let filter = of_packets(text).unwrap();
            let all = [('s', syn), ('a', answer), ('p', ping), ('n', none)];
            let keeps: String =
                all.iter().filter(|(_, p)| filter.keeps(p)).map(|(c, _)| *c).collect();
            assert_eq!(keeps, kept, "{text}");
            assert_eq!(of_packets(&filter.to_string()).unwrap(), filter, "{text}");
        }
        let filter = of_packets("port:53 vni:7 dscp:AF41 !flags:ack+syn l4:17,99").unwrap();
        assert_eq!(filter.to_string(), "vni:7 port:53 dscp:34 !flags:syn+ack l4:udp,99");
        assert_eq!(filter.rows, Filter::parse("vni:7").unwrap());
        assert!(!filter.is_of_rows() && of_packets("vni:7").unwrap().is_of_rows());
    }

    #[test]
    fn errors_in_packet_filters_are_reported() {
        for (text, at, what, hint) in [
            ("port:65536", 5, "a port is at most 65535", "port:443"),
            ("vni:1 port:x", 11, "'x' is neither a number", "port:443"),
            ("l4:quic", 3, "'quic' is not an IP protocol", "l4:tcp"),
            ("l4:256", 3, "'256' is not an IP protocol", "l4:tcp"),
            ("flags:syn+", 6, "'' is not a flag", "flags:syn+ack"),
            ("dscp:64", 5, "a DSCP is at most 63", "dscp:ef"),
            ("dscp:af44", 5, "'af44' is neither", "dscp:ef"),
            ("prot:1", 0, "there is no key 'prot'", ALL_KEYS),
        ] {
            let e = of_packets(text).unwrap_err();
            assert_eq!(e.at, at, "{e}");
            assert!(e.what.contains(what) && e.hint.contains(hint), "{e}");
        }
        let e = Filter::parse("vni:1 !port:443").unwrap_err();
        assert_eq!(e.at, 7);
        assert_eq!(
            e.to_string(),
            "filter, column 8: 'port' matches packets, but only rows are known here; \
             try `tmon capture 'port:443'`"
        );
    }

    #[test]
    fn canonical_text_parses_to_the_same_filter() {
        let text = "id:5,0x10-17  !HOST:10.1.2.3/8,2001:DB8::1 kind:GRE,kind-77 iface:eth0 proto:0x806,PPP-0xc021,ip-89,too_deep";
        let filter = Filter::parse(text).unwrap();
        let canonical = "vni:5,16-17 !host:10.0.0.0/8,2001:db8::1 kind:gre,kind-77 iface:eth0 proto:arp,ppp-0xc021,ip-89,too_deep";
        assert_eq!(filter.to_string(), canonical);
        assert_eq!(Filter::parse(canonical).unwrap(), filter);
    }

    /// Networks in the form that a filter has.
    fn any_net() -> impl Strategy<Value = IpNet> {
        prop_oneof![
            (any::<[u8; 4]>(), 0..=32u8)
                .prop_map(|(a, n)| IpNet::new(a.into(), n).unwrap().trunc()),
            (any::<[u8; 16]>(), 0..=128u8)
                .prop_map(|(a, n)| canonical(IpNet::new(a.into(), n).unwrap().trunc())),
        ]
    }

    fn any_test() -> impl Strategy<Value = Test> {
        fn some<T: fmt::Debug>(s: impl Strategy<Value = T>) -> impl Strategy<Value = Vec<T>> {
            prop::collection::vec(s, 1..4)
        }
        // 0x0806 prints as arp, all others as their number
        let proto = prop_oneof![
            Just(Proto::Ipv4),
            Just(Proto::Ipv6),
            any::<u32>().prop_map(|n| Proto::Other(InnerProto(n)))
        ];
        let kind = prop::option::of(any::<u8>().prop_map(Kind::from_number));
        let ids = (any::<u32>(), any::<u32>(), kind)
            .prop_map(|(a, b, kind)| Ids { kind, range: a.min(b)..=a.max(b) });
        prop_oneof![
            some(any_net()).prop_map(Test::Host),
            some(any_net()).prop_map(Test::Inner),
            some(ids).prop_map(Test::Vni),
            some(any::<u8>().prop_map(Kind::from_number)).prop_map(Test::Kind),
            some("[a-z][a-z0-9@._*?-]{0,14}")
                .prop_map(|n| Test::Iface(n.iter().map(|n| Interface::new(n)).collect())),
            some(proto).prop_map(Test::Proto),
        ]
    }

    proptest! {
        #[test]
        fn display_then_parse_is_identity(terms in prop::collection::vec((any::<bool>(), any_test()), 0..5)) {
            let filter = Filter { terms: terms.into_iter().map(|(not, test)| Term { not, test }).collect() };
            prop_assert_eq!(Filter::parse(&filter.to_string()), Ok(filter));
        }

        #[test]
        fn any_text_is_a_filter_or_an_error_that_points_into_it(text in "[!:,a-z0-9. /\\PC]{0,40}") {
            match Filter::parse(&text) {
                Ok(f) => prop_assert_eq!(Filter::parse(&f.to_string()), Ok(f)),
                Err(e) => prop_assert!(e.at <= text.len() && text.is_char_boundary(e.at)),
            }
        }

        #[test]
        fn negation_matches_exactly_the_other_rows(test in any_test()) {
            for flow in [vxlan(), nested(), arp(), overflow()] {
                let with = |not| Filter { terms: vec![Term { not, test: test.clone() }] }.matches(&flow, "eth0");
                prop_assert_ne!(with(false), with(true));
            }
        }

        #[test]
        fn networks_match_like_ipnet(net in any_net(), a: [u8; 4], b: [u8; 4]) {
            let mut flow = vxlan();
            flow.key.outer = Some(Pair { first: a.into(), second: b.into() });
            let expected = net.contains(&IpAddr::from(a)) || net.contains(&IpAddr::from(b));
            prop_assert_eq!(Filter::parse(&format!("host:{net}")).unwrap().matches(&flow, ""), expected);
        }

        #[test]
        fn every_printed_protocol_is_a_valid_filter(n: u32) {
            let mut flow = arp();
            flow.key.inner = Inner::Proto(InnerProto(n));
            let text = format!("proto:{}", flow.key.inner.proto());
            prop_assert_eq!(Filter::parse(&text).map(|f| f.matches(&flow, "")), Ok(true));
        }
    }
}
