// SPDX-License-Identifier: MIT OR Apache-2.0
//! Groups of hosts by location: a zone, a rack in it, a cluster, as paths such as
//! `eu/zone-a/rack-3`. The outer address of a host determines its group.
//!
//! A line of a file lists the members of a group, and ends with the group:
//!
//! ```text
//! 172.16.1.100               eu/zone-a/rack-3   # addresses take precedence,
//! node-*.eu.example          eu/zone-b          # then names of hosts: the first match,
//! 172.16.0.0/16 2001:db8::/32 eu                # then networks: the longest prefix
//! ```
//!
//! Without a file, groups are made from the host names of a fleet: see [`Groups::of_hosts`].
use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    sync::Arc,
};

use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use glob::{MatchOptions, Pattern};
use ipnet::{AddrParseError, IpNet, Ipv4Net, Ipv4Subnets, Ipv6Subnets};

use crate::units::sanitize;

/// Limits on a file: lines, groups, levels of a path, characters of a level.
const MOST_LINES: usize = 1_000_000;
const MOST_GROUPS: usize = 100_000;
const MOST_LEVELS: usize = 8;
const MOST_CHARS: usize = 64;
/// Limit on the patterns of names: each host is compared with all of them.
const MOST_PATTERNS: usize = 1000;
/// Limit on the bytes of a pattern: the maximum length of a DNS name.
const MOST_PATTERN: usize = 253;

/// What exporters call everything that has no series of its own.
pub const OTHER: &str = "other";

/// A group in its [`Groups`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Group(u32);

impl Group {
    /// Its number, in the order in which groups were defined.
    pub fn number(self) -> u32 {
        self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    path: Arc<str>,
    parent: Option<Group>,
    /// The number of groups above it.
    depth: usize,
}

/// Groups and their members.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Groups {
    places: Vec<Place>,
    paths: HashMap<Arc<str>, Group>,
    /// The networks of IPv4 and of IPv6.
    ranges: Arc<[Ranges; 2]>,
    patterns: Arc<Vec<(Pattern, Group)>>,
    /// Hosts that are members by name.
    named: HashMap<IpAddr, Group>,
    deepest: usize,
}

impl Groups {
    /// Parses the text of a file.
    ///
    /// # Errors
    /// Which line is invalid, and why.
    pub fn parse(text: &str) -> Result<Groups, String> {
        let mut groups = Groups::default();
        let mut nets = Vec::new();
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        for (number, line) in text.lines().enumerate() {
            let words = line.split('#').next().unwrap_or_default().split_whitespace();
            groups.line(words, &mut nets).map_err(|why| format!("line {}: {why}", number + 1))?;
        }
        groups.ranges = Arc::new(Ranges::of(nets));
        Ok(groups)
    }

    fn line<'a>(
        &mut self,
        mut words: impl DoubleEndedIterator<Item = &'a str>,
        nets: &mut Vec<(IpNet, Group)>,
    ) -> Result<(), String> {
        let Some(path) = words.next_back() else { return Ok(()) };
        let mut words = words.peekable();
        if words.peek().is_none() {
            return Err(format!(
                "{} is in no group: write an address, a network or a name, then its group",
                shown(path)
            ));
        }
        let group = self.named(path)?;
        for what in words {
            match network(what) {
                Ok(_) if nets.len() == MOST_LINES => {
                    return Err(format!("there are more than {MOST_LINES} networks"));
                }
                Ok(net) => nets.push((net, group)),
                // A word that looks like a network is not taken for a name.
                Err(_) if what.contains(['/', ':']) => {
                    return Err(format!(
                        "{} is neither an address, nor a network, nor a name such as node-*",
                        shown(what)
                    ));
                }
                Err(_) if self.patterns.len() == MOST_PATTERNS => {
                    return Err(format!(
                        "there are more than {MOST_PATTERNS} patterns of names: use networks"
                    ));
                }
                Err(_) if what.len() > MOST_PATTERN => {
                    return Err(format!(
                        "{} is longer than {MOST_PATTERN} characters",
                        shown(what)
                    ));
                }
                Err(_) => {
                    let pattern = Pattern::new(&what.to_lowercase()).map_err(|e| {
                        format!("{} is not a pattern of names: {}", shown(what), e.msg)
                    })?;
                    Arc::make_mut(&mut self.patterns).push((pattern, group));
                }
            }
        }
        Ok(())
    }

    /// The group with this path; creates it and those above it if necessary.
    fn named(&mut self, path: &str) -> Result<Group, String> {
        if let Some(known) = self.paths.get(path) {
            return Ok(*known);
        }
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if parts.is_empty() {
            return Err(format!("{} names no group", shown(path)));
        }
        if parts == [OTHER] {
            return Err(format!(
                "in metrics `{OTHER}` is everything without series of its own: choose another name"
            ));
        }
        if parts.len() > MOST_LEVELS {
            return Err(format!("{} has more than {MOST_LEVELS} levels", shown(path)));
        }
        if let Some(long) = parts.iter().find(|part| part.chars().count() > MOST_CHARS) {
            return Err(format!("{} is longer than {MOST_CHARS} characters", shown(long)));
        }
        self.group(&parts).ok_or_else(|| format!("there are more than {MOST_GROUPS} groups"))
    }

    fn group(&mut self, parts: &[&str]) -> Option<Group> {
        let (mut parent, mut path) = (None, String::new());
        for (depth, part) in parts.iter().enumerate() {
            if depth > 0 {
                path.push('/');
            }
            path.push_str(&sanitize(part));
            let known = self.paths.get(path.as_str()).copied();
            let group = match known {
                Some(group) => group,
                None if self.places.len() == MOST_GROUPS => return None,
                None => {
                    let group = Group(self.places.len() as u32);
                    let path: Arc<str> = path.as_str().into();
                    self.places.push(Place { path: path.clone(), parent, depth });
                    self.paths.insert(path, group);
                    self.deepest = self.deepest.max(depth + 1);
                    group
                }
            };
            parent = Some(group);
        }
        parent
    }

    /// Whether there are no groups.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The number of levels of the deepest group.
    pub fn levels(&self) -> usize {
        self.deepest
    }

    /// How many levels must be expanded so that there is more than one group; 0 if there never is.
    pub fn coarsest(&self) -> usize {
        let several = |depth: &usize| {
            self.places.iter().filter(|place| place.depth == *depth).nth(1).is_some()
        };
        (0..self.deepest).find(several).unwrap_or(0)
    }

    /// The group with this path, which may be written as in a file.
    pub fn at(&self, path: &str) -> Option<Group> {
        let path = sanitize(path);
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        self.paths.get(parts.join("/").as_str()).copied()
    }

    /// All paths, in the order in which they were defined.
    pub fn all_paths(&self) -> impl Iterator<Item = &str> {
        self.places.iter().map(|place| &*place.path)
    }

    /// The networks of a group and of the groups below it; `None` if membership also depends on
    /// names.
    pub fn nets(&self, group: Group) -> Option<Vec<IpNet>> {
        if self.take_names() || !self.named.is_empty() {
            return None;
        }
        let [v4, v6] = self.ranges.each_ref().map(|ranges| {
            ranges.spans().filter(|(own, ..)| self.up(*own).any(|above| above == group))
        });
        let v4 = v4.flat_map(|(_, from, to)| {
            let [from, to] = [from, to].map(|n| Ipv4Addr::from_bits(n as u32));
            Ipv4Subnets::new(from, to, 0).map(IpNet::V4)
        });
        let v6 = v6.flat_map(|(_, from, to)| {
            let [from, to] = [from, to].map(Ipv6Addr::from_bits);
            Ipv6Subnets::new(from, to, 0).map(IpNet::V6)
        });
        Some(v4.chain(v6).collect())
    }

    /// Whether membership in any group depends on names.
    pub fn take_names(&self) -> bool {
        !self.patterns.is_empty()
    }

    /// Assigns hosts to groups by their names.
    pub fn learn(
        self: &mut Arc<Self>,
        hosts: impl Iterator<Item = IpAddr>,
        called: impl Fn(IpAddr) -> Option<String>,
    ) {
        if !self.take_names() {
            return;
        }
        let options = MatchOptions { case_sensitive: true, ..MatchOptions::default() };
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        for host in hosts {
            // Hosts keep their group: a name disappears only when its host is gone.
            if self.named.contains_key(&host) || !seen.insert(host) {
                continue;
            }
            let Some(name) = called(host).map(|name| name.to_lowercase()) else { continue };
            let fits = |(pattern, _): &&(Pattern, Group)| pattern.matches_with(&name, options);
            found.extend(self.patterns.iter().find(fits).map(|(_, group)| (host, *group)));
        }
        if !found.is_empty() {
            Arc::make_mut(self).named.extend(found);
        }
    }

    /// Makes groups from the host names of a fleet, if these have several labels:
    /// `eu.rack-4.node-57` is in `eu/rack-4`, and so is `node-57.rack-4.example.com` in `rack-4`,
    /// following the usual order of such names. Names with a single label are grouped by what
    /// precedes their number. Labels that all names share are ignored. Existing groups keep their
    /// numbers.
    pub fn of_hosts(&mut self, hosts: &HashMap<IpAddr, String>) {
        self.named.clear();
        let dotted = hosts.values().any(|name| name.contains('.'));
        let mut tokens: Vec<(IpAddr, Vec<&str>)> = hosts
            .iter()
            .map(|(host, name)| match dotted {
                true => (*host, name.split('.').filter(|token| !token.is_empty()).collect()),
                false => {
                    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
                    (*host, vec![stem.trim_end_matches(['-', '_']), name])
                }
            })
            .collect();
        // The end at which most names are equal is the general one.
        let distinct = |of: fn(&[&'_ str]) -> Option<String>| {
            tokens.iter().filter_map(|(_, t)| of(t)).collect::<HashSet<String>>().len()
        };
        let first = distinct(|t| t.first().map(|t| (*t).to_owned()));
        let last = distinct(|t| t.last().map(|t| (*t).to_owned()));
        if dotted && last < first {
            tokens.iter_mut().for_each(|(_, t)| t.reverse());
        }
        let mut paths: Vec<(IpAddr, &[&str])> =
            tokens.iter().map(|(host, t)| (*host, &t[..t.len().saturating_sub(1)])).collect();
        while let Some(one) = paths.first().and_then(|(_, path)| path.first().copied())
            && paths.iter().all(|(_, path)| path.first() == Some(&one))
        {
            paths.iter_mut().for_each(|(_, path)| *path = &path[1..]);
        }
        paths.sort_unstable();
        for (host, path) in paths {
            let path: Vec<&str> =
                path.iter().copied().filter(|t| !t.is_empty()).take(MOST_LEVELS).collect();
            if let Some(group) = self.group(&path) {
                self.named.insert(host, group);
            }
        }
    }

    /// The deepest group that a host is in.
    pub fn of(&self, host: IpAddr) -> Option<Group> {
        let host = host.to_canonical();
        let ranges = &self.ranges[usize::from(host.is_ipv6())];
        match ranges.find(host) {
            Some((group, true)) => Some(group),
            by_net => self.named.get(&host).copied().or(by_net.map(|(group, _)| group)),
        }
    }

    /// The path of a group.
    pub fn path(&self, group: Group) -> &str {
        self.place(group).map_or("", |place| &place.path)
    }

    /// The path of a host's group.
    pub fn path_of(&self, host: IpAddr) -> Option<&str> {
        self.of(host).map(|group| self.path(group))
    }

    fn place(&self, group: Group) -> Option<&Place> {
        self.places.get(group.0 as usize)
    }

    /// A group and those above it, from the deepest.
    fn up(&self, group: Group) -> impl Iterator<Item = Group> {
        std::iter::successors(Some(group), |g| self.place(*g)?.parent)
    }

    /// Whether a host is in a group or in one below it.
    pub fn is_in(&self, host: IpAddr, group: Group) -> bool {
        self.of(host).is_some_and(|own| self.up(own).any(|g| g == group))
    }

    /// Whether a group has groups below it.
    pub fn has_groups(&self, group: Group) -> bool {
        self.places.iter().any(|place| place.parent == Some(group))
    }
}

/// A word of a file, for display in an error.
fn shown(word: &str) -> String {
    sanitize(&word.chars().take(MOST_CHARS).collect::<String>()).into_owned()
}

/// Where a range begins: the address, its group, and whether it consists of this one address.
type Bound = (u128, Option<(Group, bool)>);

/// Nested networks as adjacent ranges, so that one search finds the longest prefix, however many
/// prefix lengths there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Ranges(Vec<Bound>);

impl Ranges {
    /// The ranges of IPv4 and of IPv6. For equal networks, the first definition counts.
    fn of(mut nets: Vec<(IpNet, Group)>) -> [Ranges; 2] {
        nets.sort_by_key(|(net, _)| *net); // stable
        nets.dedup_by_key(|(net, _)| *net);
        let mut ranges = <[Ranges; 2]>::default();
        let mut v6: Vec<(IpNet, Group)> = Vec::new();
        nets.retain(|one| {
            let is_v4 = one.0.addr().is_ipv4();
            if !is_v4 {
                v6.push(*one);
            }
            is_v4
        });
        for (ranges, mut nets) in ranges.iter_mut().zip([nets, v6]) {
            nets.sort_by_key(|(net, _)| (number(net.network()), net.prefix_len()));
            ranges.fill(&nets);
        }
        ranges
    }

    fn fill(&mut self, nets: &[(IpNet, Group)]) {
        let mut open: Vec<(u128, (Group, bool))> = Vec::new(); // ends of the open networks, the innermost last
        for (net, group) in nets {
            let from = number(net.network());
            self.close(&mut open, Some(from));
            let is_one = net.prefix_len() == net.max_prefix_len();
            self.begin(from, Some((*group, is_one)));
            open.push((number(net.broadcast()), (*group, is_one)));
        }
        self.close(&mut open, None);
    }

    /// Closes the networks that end before an address, or all.
    fn close(&mut self, open: &mut Vec<(u128, (Group, bool))>, before: Option<u128>) {
        while let Some((to, _)) = open.pop_if(|(to, _)| before.is_none_or(|before| *to < before)) {
            if let Some(next) = to.checked_add(1) {
                self.begin(next, open.last().map(|(_, group)| *group));
            }
        }
    }

    fn begin(&mut self, from: u128, group: Option<(Group, bool)>) {
        match self.0.last_mut() {
            Some(last) if last.0 == from => last.1 = group,
            _ => self.0.push((from, group)),
        }
    }

    /// Each group with the first and last address of a range.
    fn spans(&self) -> impl Iterator<Item = (Group, u128, u128)> {
        let ends = self.0.iter().skip(1).map(|(next, _)| next.saturating_sub(1));
        let spans = self.0.iter().zip(ends.chain([u128::MAX]));
        spans.filter_map(|((from, of), to)| Some((of.as_ref()?.0, *from, to)))
    }

    fn find(&self, host: IpAddr) -> Option<(Group, bool)> {
        let host = number(host);
        let after = self.0.partition_point(|(from, _)| *from <= host);
        self.0.get(after.checked_sub(1)?)?.1
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(a) => a.to_bits().into(),
        IpAddr::V6(a) => a.to_bits(),
    }
}

/// How a group is shown: collapsed in itself or in one above it, as its subgroups, or as hosts.
#[derive(Clone, Copy)]
enum State {
    Shown(Group),
    Parts,
    Hosts,
}

/// Which groups are shown in place of their hosts, and which of them are expanded. By default there
/// are none, and all hosts are shown as hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grouping {
    groups: Arc<Groups>,
    /// For each group, how its own hosts are shown: as this group, or as hosts (`None`).
    shown: Vec<Option<Group>>,
}

impl Grouping {
    /// Expands this many levels of groups; if these are all, hosts are shown as hosts. The groups in
    /// `entered` are expanded as well: to their subgroups, or to their hosts if so given.
    pub fn new(groups: Arc<Groups>, levels: usize, entered: &[(Group, bool)]) -> Grouping {
        let mut open: HashMap<Group, bool> = HashMap::new();
        for (group, whole) in entered {
            *open.entry(*group).or_default() |= whole;
        }
        let mut parts = vec![0_u32; groups.places.len()];
        for parent in groups.places.iter().filter_map(|place| place.parent) {
            parts.get_mut(parent.0 as usize).into_iter().for_each(|n| *n += 1);
        }
        // Groups come after those above them.
        let mut states: Vec<State> = Vec::with_capacity(groups.places.len());
        for (i, place) in groups.places.iter().enumerate() {
            let group = Group(i as u32);
            let above = place.parent.and_then(|parent| states.get(parent.0 as usize).copied());
            // Entering a group with a single subgroup enters that one.
            let is_only = |parent: &Group| {
                open.get(parent) == Some(&false) && parts.get(parent.0 as usize) == Some(&1)
            };
            if place.parent.as_ref().is_some_and(is_only) {
                open.entry(group).or_default();
            }
            states.push(match (above, open.get(&group)) {
                (Some(State::Shown(_) | State::Hosts), _) => above.unwrap_or(State::Hosts),
                (_, Some(true)) => State::Hosts,
                (_, Some(false)) => State::Parts,
                (_, None) if place.depth < levels => State::Parts,
                (_, None) => State::Shown(group),
            });
        }
        let shown = |state: State| if let State::Shown(group) = state { Some(group) } else { None };
        let shown = states.into_iter().map(shown).collect();
        Grouping { groups, shown }
    }

    /// Whether any hosts are shown as groups.
    pub fn groups_hosts(&self) -> bool {
        self.shown.iter().any(Option::is_some)
    }

    /// The group as which a host is shown; `None`: as itself.
    pub fn shown(&self, host: IpAddr) -> Option<Group> {
        self.groups.of(host).and_then(|group| *self.shown.get(group.0 as usize)?)
    }

    /// The groups.
    pub fn groups(&self) -> &Arc<Groups> {
        &self.groups
    }
}

/// Parses an address or a network; an IPv4-mapped address is converted to IPv4.
///
/// # Errors
/// It is neither.
pub fn network(text: &str) -> Result<IpNet, AddrParseError> {
    let address = text.parse::<IpAddr>().map(|address| address.to_canonical().into());
    address.or_else(|_| {
        let net = text.parse::<IpNet>()?.trunc();
        let v4 = match net.addr().to_canonical() {
            IpAddr::V4(v4) if net.max_prefix_len() == 128 => {
                net.prefix_len().checked_sub(96).and_then(|len| Ipv4Net::new(v4, len).ok())
            }
            _ => None,
        };
        Ok(v4.map_or(net, IpNet::from))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    const FILE: &str = "\u{feff}# racks\n\
        172.16.1.100 fd00::64 eu/zone-a/rack-3\n\
        node-*.EU.example eu/zone-b # by name\n\
        172.16.0.0/16 eu\n172.16.1.0/24 /eu//zone-a/\n 172.16.1.0/24 us\n0.0.0.0/0 rest\nfd00::/8 lab\n";

    #[test]
    fn addresses_precede_names_and_names_precede_the_longest_prefix() {
        let mut groups = Arc::new(Groups::parse(FILE).expect("groups"));
        let named = |host: IpAddr| match host {
            h if h == ip("172.16.1.7") => Some("Node-7.eu.Example".to_owned()),
            h if h == ip("172.16.1.100") => Some("node-100.eu.example".to_owned()),
            _ => Some("somebody".to_owned()),
        };
        let hosts = ["172.16.1.7", "172.16.1.100", "172.16.1.8"].map(ip);
        groups.learn(hosts.into_iter(), named);
        for (host, path) in [
            ("172.16.1.100", "eu/zone-a/rack-3"),
            ("172.16.1.7", "eu/zone-b"),
            ("172.16.1.8", "eu/zone-a"),
            ("172.16.1.0", "eu/zone-a"),
            ("172.16.1.255", "eu/zone-a"),
            ("172.16.2.0", "eu"),
            ("172.16.255.255", "eu"),
            ("172.17.0.0", "rest"),
            ("255.255.255.255", "rest"),
            ("0.0.0.0", "rest"),
            ("fd00::64", "eu/zone-a/rack-3"),
            ("fd00::65", "lab"),
            ("fdff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "lab"),
        ] {
            assert_eq!(groups.path_of(ip(host)), Some(path), "{host}");
        }
        assert_eq!(groups.path_of(ip("fe00::1")), None);
        assert_eq!(groups.path_of(ip("fc00::1")), None);
        assert_eq!(groups.levels(), 3);
    }

    #[test]
    fn the_longest_prefix_matches_a_linear_search() {
        let mut state = 7u64;
        let mut random = |below: u32| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (state >> 33) as u32 % below
        };
        for _ in 0..200 {
            let nets: Vec<(IpNet, Group)> = (0..random(20))
                .map(|i| {
                    let address: IpAddr = [10, 0, random(4) as u8, random(256) as u8].into();
                    let net = IpNet::new(address, 20 + random(13) as u8).expect("a network");
                    (net.trunc(), Group(i))
                })
                .collect();
            let [ranges, _] = Ranges::of(nets.clone());
            for _ in 0..200 {
                let host: IpAddr = [10, 0, random(5) as u8, random(256) as u8].into();
                let all = nets.iter().filter(|(net, _)| net.contains(&host));
                let most = all.clone().map(|(net, _)| net.prefix_len()).max();
                let first = all.clone().find(|(net, _)| Some(net.prefix_len()) == most);
                assert_eq!(ranges.find(host).map(|r| r.0), first.map(|f| f.1), "{host} {nets:?}");
            }
        }
    }

    #[test]
    fn a_bad_line_is_named() {
        for (text, says) in [
            ("10.0.0.1 a\n10.0.0.2\n", "line 2: 10.0.0.2 is in no group"),
            ("10.0.0.1 /\n", "line 1: / names no group"),
            ("10.0.0.1 /other\n", "line 1: in metrics `other` is everything"),
            ("10.0.0.0/33 a\n", "line 1: 10.0.0.0/33 is neither"),
            ("fd00:::1 a\n", "line 1: fd00:::1 is neither"),
            ("10.0.0.1 a/b/c/d/e/f/g/h/i\n", "has more than 8 levels"),
            ("node-[ a\n", "line 1: node-[ is not a pattern"),
            ("\x1b[2J/ a\n", "line 1: ␛[2J/ is neither"),
        ] {
            let e = Groups::parse(text).expect_err("a bad line");
            assert!(e.contains(says), "{e}");
        }
        let long = format!("10.0.0.1 {}\n", "x".repeat(1 << 20));
        let e = Groups::parse(&long).expect_err("too long");
        assert!(e.contains("longer than 64") && e.len() < 200, "{e}");
        let long = format!("{}* a\n", "n".repeat(MOST_PATTERN));
        let e = Groups::parse(&long).expect_err("too long");
        assert!(e.contains("longer than 253") && e.len() < 200, "{e}");
        let many: String = (0..=MOST_PATTERNS).map(|i| format!("n{i}* a\n")).collect();
        assert!(Groups::parse(&many).expect_err("too many").contains("line 1001"));
    }

    #[test]
    fn an_expanded_group_is_shown_as_its_parts() {
        let groups = Arc::new(
            Groups::parse(
                "10.1.0.0/24 eu/a/r1\n10.1.1.0/24 eu/a/r2\n10.2.0.0/24 eu/b\n10.3.0.0/24 us\n",
            )
            .expect("groups"),
        );
        let of = |levels, entered: &[(Group, bool)]| {
            let grouping = Grouping::new(groups.clone(), levels, entered);
            let path = |host| grouping.shown(ip(host)).map_or(host, |group| groups.path(group));
            ["10.1.0.1", "10.1.1.1", "10.2.0.1", "10.3.0.1", "10.4.0.1"].map(path)
        };
        let [eu, a, us] = ["eu", "eu/a", "us"].map(|path| groups.paths[path]);
        assert_eq!(of(0, &[]), ["eu", "eu", "eu", "us", "10.4.0.1"]);
        assert_eq!(of(1, &[]), ["eu/a", "eu/a", "eu/b", "10.3.0.1", "10.4.0.1"]);
        assert_eq!(of(3, &[]), ["10.1.0.1", "10.1.1.1", "10.2.0.1", "10.3.0.1", "10.4.0.1"]);
        assert_eq!(of(0, &[(eu, false)]), ["eu/a", "eu/a", "eu/b", "us", "10.4.0.1"]);
        assert_eq!(of(0, &[(eu, true)]), ["10.1.0.1", "10.1.1.1", "10.2.0.1", "us", "10.4.0.1"]);
        let deeper = [(eu, false), (a, false)];
        assert_eq!(of(0, &deeper), ["eu/a/r1", "eu/a/r2", "eu/b", "us", "10.4.0.1"]);
        assert!(groups.is_in(ip("10.1.1.1"), a) && groups.is_in(ip("10.1.1.1"), eu));
        assert!(!groups.is_in(ip("10.2.0.1"), a) && !groups.is_in(ip("10.4.0.1"), us));
        // All members are in one subgroup: its subgroups are shown.
        let one =
            Arc::new(Groups::parse("10.1.0.0/24 eu/a/r1\n10.1.1.0/24 eu/a/r2\n").expect("ok"));
        let grouping = Grouping::new(one.clone(), 0, &[(one.paths["eu"], false)]);
        assert_eq!(grouping.shown(ip("10.1.1.1")).map(|g| one.path(g)), Some("eu/a/r2"));
    }

    #[test]
    fn groups_are_made_from_host_names() {
        let of = |names: &[&str]| {
            let hosts: HashMap<IpAddr, String> = names
                .iter()
                .enumerate()
                .map(|(i, name)| ([10, 0, 0, i as u8].into(), (*name).to_owned()))
                .collect();
            let mut groups = Groups::default();
            groups.of_hosts(&hosts);
            let path = |i| groups.path_of([10, 0, 0, i as u8].into()).unwrap_or("-").to_owned();
            (0..names.len()).map(path).collect::<Vec<_>>()
        };
        assert_eq!(
            of(&["eu.r1.n1", "eu.r2.n1", "us.r1.n1", "us.r1.n2"]),
            ["eu/r1", "eu/r2", "us/r1", "us/r1"]
        );
        assert_eq!(
            of(&["n1.r1.eu.example.com", "n2.r1.eu.example.com", "n3.us.example.com"]),
            ["eu/r1", "eu/r1", "us"]
        );
        assert_eq!(of(&["web-1", "web-2", "db7"]), ["web", "web", "db"]);
        assert_eq!(of(&["node-1", "node-2"]), ["-", "-"], "the same for all");
        assert_eq!(of(&["..", "", "7", "."]), ["-"; 4]);
    }

    #[test]
    fn an_ipv4_mapped_network_is_an_ipv4_network() {
        let is = |text: &str| network(text).map(|net| net.to_string()).ok();
        for (text, net) in [
            ("::ffff:172.16.9.1", Some("172.16.9.1/32")),
            ("::ffff:172.16.9.7/120", Some("172.16.9.0/24")),
            ("::ffff:0:0/95", Some("::fffe:0:0/95")),
            ("fd00::1/64", Some("fd00::/64")),
            ("10.0.0.1/8", Some("10.0.0.0/8")),
            ("10.0.0.1/33", None),
        ] {
            assert_eq!(is(text).as_deref(), net, "{text}");
        }
    }
}
