// SPDX-License-Identifier: MIT OR Apache-2.0
//! Replaces addresses and names, so that a report can be shared without revealing them. Prefixes
//! are preserved: addresses that shared a prefix still do, and equal ones stay equal. The key is
//! lost when the process ends.
use std::{
    borrow::Cow,
    cell::RefCell,
    fs::{self, File},
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::{Context, Result};
use foldhash::HashMap;
use ipcrypt_rs::IpcryptPfx;

use crate::kernel::origin;
use feed::input;
use model::{alias::Aliases, overlay::Mac};

/// The replacements of addresses and names.
pub(super) struct Mask {
    cipher: IpcryptPfx,
    names: HashMap<String, String>,
    /// The same names by their first character, the longest first: names are also replaced inside
    /// words.
    parts: HashMap<char, Vec<String>>,
    /// Replacements given to hosts and namespaces as they were seen.
    given: RefCell<HashMap<String, String>>,
    /// Addresses seen so far: an address takes as many encryptions as it has bits.
    met: RefCell<HashMap<IpAddr, IpAddr>>,
}

/// Networks with a special meaning, and the lengths of their prefixes. An address in one of them is
/// replaced by one in the same network, and no other address is.
const KNOWN4: [(Ipv4Addr, u32); 4] = [
    (Ipv4Addr::UNSPECIFIED, 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::BROADCAST, 32),
];
const KNOWN6: [(Ipv6Addr, u32); 3] = [
    (Ipv6Addr::LOCALHOST, 128),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xff00, 0, 0, 0, 0, 0, 0, 0), 8),
];

/// Restores the bits of a replacement that must not change. A bit must not change while the bits
/// before it match the prefix of a special network, because it decides whether the address is in
/// that network.
fn kept(address: u128, replaced: u128, known: impl Iterator<Item = (u128, u32)>) -> u128 {
    let same = |(network, prefix): (u128, u32)| prefix.min((address ^ network).leading_zeros() + 1);
    let rest = u128::MAX.checked_shr(known.map(same).max().unwrap_or(0)).unwrap_or(0);
    address & !rest | replaced & rest
}

/// An IPv4 address as the first bits of a longer number.
fn wide(address: Ipv4Addr) -> u128 {
    u128::from(address.to_bits()) << 96
}

/// Limits on the names and addresses remembered.
const MOST_NAMES: usize = 1 << 16;
const MOST_MET: usize = 1 << 18;

impl Mask {
    /// A mask with a random key, which knows the names of this host.
    ///
    /// # Errors
    /// No random numbers can be read.
    pub(super) fn new() -> Result<Mask> {
        let mut key = [0; IpcryptPfx::KEY_BYTES];
        File::open("/dev/urandom")
            .and_then(|mut f| f.read_exact(&mut key))
            .context("make a key")?;
        Ok(Mask::with(key, names()))
    }

    fn with(key: [u8; IpcryptPfx::KEY_BYTES], names: Vec<String>) -> Mask {
        let mut mask = Mask {
            cipher: IpcryptPfx::new(key),
            names: HashMap::default(),
            parts: HashMap::default(),
            given: RefCell::default(),
            met: RefCell::default(),
        };
        mask.learn(names);
        mask
    }

    /// Adds names to replace. A name that is known already keeps its replacement.
    pub(super) fn learn(&mut self, names: impl IntoIterator<Item = String>) {
        let kept = ["localhost", "host", "fleet", ""];
        for name in names.into_iter().filter(|n| !kept.contains(&n.as_str())) {
            let other = match self.names.len() {
                0 => "host".to_owned(),
                n => format!("name{n}"),
            };
            // Also as written in JSON.
            let escaped = serde_json::Value::from(&*name).to_string();
            let escaped = escaped.trim_matches('"').to_owned();
            if escaped != name {
                self.replace(escaped, &other);
            }
            self.replace(name, &other);
        }
    }

    fn replace(&mut self, name: String, other: &str) {
        if !self.names.contains_key(&name) {
            // A number is replaced only as a whole word.
            if name.chars().any(char::is_alphabetic)
                && let Some(first) = name.chars().next()
            {
                let parts = self.parts.entry(first).or_default();
                parts.push(name.clone());
                parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
            }
            self.names.insert(name, other.to_owned());
        }
    }

    /// The replacement of an address. Multicast, loopback and the like stay as they are.
    pub(super) fn address(&self, address: IpAddr) -> IpAddr {
        let is_anybodys = address.is_multicast()
            || address.is_loopback()
            || address.is_unspecified()
            || matches!(address, IpAddr::V4(a) if a.is_broadcast());
        if is_anybodys {
            return address;
        }
        let mut met = self.met.borrow_mut();
        if met.len() >= MOST_MET {
            met.clear();
        }
        *met.entry(address).or_insert_with(|| {
            let other = self.cipher.encrypt_ipaddr(address);
            match (address, address.to_canonical(), other.to_canonical()) {
                (_, IpAddr::V4(a), IpAddr::V4(other)) => {
                    let known = KNOWN4.iter().map(|(network, prefix)| (wide(*network), *prefix));
                    let other = (kept(wide(a), wide(other), known) >> 96) as u32;
                    // An IPv4-mapped address stays in its family.
                    match address {
                        IpAddr::V4(_) => Ipv4Addr::from_bits(other).into(),
                        IpAddr::V6(_) => Ipv4Addr::from_bits(other).to_ipv6_mapped().into(),
                    }
                }
                (IpAddr::V6(a), _, IpAddr::V6(other)) => {
                    let known = KNOWN6.iter().map(|(network, prefix)| (network.to_bits(), *prefix));
                    Ipv6Addr::from_bits(kept(a.to_bits(), other.to_bits(), known)).into()
                }
                (_, _, other) => other,
            }
        })
    }

    /// The replacement of a name: the known one, or else `word` and a number.
    fn name(&self, name: &str, word: &str) -> String {
        let mut given = self.given.borrow_mut();
        if let Some(known) = self.names.get(name).or_else(|| given.get(name)) {
            return known.clone();
        }
        if given.len() >= MOST_NAMES {
            return word.to_owned();
        }
        let other = format!("{word}{}", given.len() + 1);
        given.insert(name.to_owned(), other.clone());
        other
    }

    /// The text with its addresses and names replaced.
    pub(super) fn text(&self, text: &str) -> String {
        let text = self.without_names(text);
        let mut masked = String::with_capacity(text.len());
        let mut rest = &text[..];
        while let Some(c) = rest.chars().next() {
            let end = match is_word(c) {
                true => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
                false => rest.find(is_word).unwrap_or(rest.len()),
            };
            let (part, behind) = rest.split_at(end);
            if is_word(c) {
                self.word(part, &mut masked);
            } else {
                masked.push_str(part);
            }
            rest = behind;
        }
        masked
    }

    /// Replaces known names. A name may have any characters; labels that follow it after a dot
    /// (`node-a.example.com`) belong to it.
    fn without_names(&self, text: &str) -> String {
        let mut masked = String::with_capacity(text.len());
        let (mut rest, mut before) = (text, ' ');
        while let Some(c) = rest.chars().next() {
            let begins = |name: &&String| {
                let behind = rest.strip_prefix(name.as_str());
                behind.is_some_and(|b| !b.starts_with(char::is_alphanumeric))
            };
            let known = if before.is_alphanumeric() { None } else { self.parts.get(&c) };
            let found = known.and_then(|names| names.iter().find(begins));
            let Some((name, other)) = found.and_then(|name| self.names.get_key_value(name)) else {
                masked.push(c);
                (rest, before) = (&rest[c.len_utf8()..], c);
                continue;
            };
            masked.push_str(other);
            (rest, before) = (&rest[name.len()..], 'x');
            while let Some(domain) = rest.strip_prefix('.')
                && domain.starts_with(char::is_alphanumeric)
            {
                let is_label = |c: char| c.is_alphanumeric() || c == '-' || c == '_';
                rest = domain.trim_start_matches(is_label);
            }
        }
        masked
    }

    /// A word, which may be followed by dots and colons that are not part of it.
    fn word(&self, word: &str, to: &mut String) {
        let own = word.trim_end_matches(['.', ':', '-', '@']);
        let (own, behind) = word.split_at(own.len());
        // `::` is an address by itself, and `fe80::` ends with it.
        let whole = self.of(word);
        match (whole, self.of(own)) {
            (Some(other), _) => to.push_str(&other),
            (None, Some(other)) => {
                to.push_str(&other);
                to.push_str(behind);
            }
            (None, None) => {
                to.push_str(&self.parts(own));
                to.push_str(behind);
            }
        }
    }

    /// The replacement of a word, if it is an address or a name.
    fn of(&self, word: &str) -> Option<String> {
        let given = self.given.borrow();
        if let Some(name) = self.names.get(word).or_else(|| given.get(word)) {
            return Some(name.clone());
        }
        if let Ok(address) = word.parse::<IpAddr>() {
            return Some(self.address(address).to_string());
        }
        if let Ok(at) = word.parse::<SocketAddr>() {
            return Some(SocketAddr::new(self.address(at.ip()), at.port()).to_string());
        }
        self.hardware(word)
    }

    /// The replacement of a MAC address.
    fn hardware(&self, word: &str) -> Option<String> {
        let bytes: Vec<u8> = word
            .split(':')
            .map(|b| u8::from_str_radix(b, 16).ok().filter(|_| b.len() == 2))
            .collect::<Option<_>>()?;
        let six = self.mac(bytes.try_into().ok()?).map(|b| format!("{b:02x}"));
        Some(six.join(":"))
    }

    /// Replaces the parts of a compound word: `NETNS/IFACE`, `host:10.0.0.1`,
    /// `172.16.1.1-172.16.1.9`.
    fn parts<'a>(&self, word: &'a str) -> Cow<'a, str> {
        for mark in [':', '-', '@'] {
            for (at, _) in word.match_indices(mark) {
                let (first, second) = (&word[..at], &word[at + 1..]);
                let (a, b) = (self.of(first), self.of(second));
                if a.is_none() && b.is_none() {
                    continue;
                }
                // The rest may be compound as well: `host:10.0.0.1-10.0.0.9`.
                let rest = |other: Option<String>, word: &'a str| {
                    other.map_or_else(|| self.parts(word), Cow::Owned)
                };
                return format!("{}{mark}{}", rest(a, first), rest(b, second)).into();
            }
        }
        word.into()
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | ':' | '-' | '_' | '@')
}

impl Aliases for Mask {
    fn address(&self, address: IpAddr) -> IpAddr {
        Mask::address(self, address)
    }

    fn mac(&self, mac: Mac) -> Mac {
        if mac == [0xff; 6] || mac == [0; 6] {
            return mac;
        }
        let mut address = [0; 16];
        address[10..].copy_from_slice(&mac);
        let other = match self.cipher.encrypt_ipaddr(Ipv6Addr::from(address).into()) {
            IpAddr::V6(other) => other.octets(),
            IpAddr::V4(other) => other.to_ipv6_mapped().octets(),
        };
        let [.., a, b, c, d, e, f] = other;
        // Keep the group bit and the locally administered bit.
        [a & !3 | mac[0] & 3, b, c, d, e, f]
    }

    fn host(&self, name: &str) -> String {
        // The name of a whole fleet identifies nobody.
        if name == "fleet" { name.to_owned() } else { self.name(name, "host") }
    }

    fn netns(&self, name: &str) -> String {
        self.name(name, "netns")
    }

    fn text(&self, text: &str) -> String {
        Mask::text(self, text)
    }
}

/// Names of this host and its namespaces, which must not appear in a report.
fn names() -> Vec<String> {
    const MOST: usize = 4096;
    let spaces = ["/run/netns", "/run/docker/netns"].into_iter().flat_map(|folder| {
        let found = fs::read_dir(folder).into_iter().flatten().take(MOST);
        found.filter_map(|e| e.ok()?.file_name().into_string().ok())
    });
    let hosts = File::open("/etc/hosts").and_then(|f| input::text_of(f, 1 << 20));
    let hosts = hosts.unwrap_or_default();
    let known = hosts.lines().map(|l| l.split('#').next().unwrap_or_default());
    let known = known.flat_map(|l| l.split_whitespace().skip(1)).map(str::to_owned);
    std::iter::once(origin::host()).chain(spaces).chain(known).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_and_namespace_gets_one_replacement() {
        let m = mask(1);
        let [a, b, c] = ["eu.a", "eu.b", "red"].map(|n| m.host(n));
        assert!(a != b && b != c && [&a, &b, &c].iter().all(|n| n.starts_with("host")));
        assert_eq!(
            (m.host("eu.a"), m.host("node-a"), m.host("fleet")),
            (a, "host".into(), "fleet".into())
        );
        assert!(m.netns("x").starts_with("netns") && m.netns("blue") == "name1");
        let mapped: IpAddr = "::ffff:10.0.0.1".parse().expect("one");
        assert!(Mask::address(&m, mapped).is_ipv6());
        for _ in 0..2 {
            assert_eq!(Mask::address(&m, mapped), Mask::address(&m, mapped));
        }
    }

    fn mask(seed: u8) -> Mask {
        let mut key = [seed; IpcryptPfx::KEY_BYTES];
        key[0] ^= 1;
        let names = ["node-a", "blue", "node-a", "blue+green", "kö", "4711", "q\"x"];
        Mask::with(key, names.map(str::to_owned).to_vec())
    }

    fn bits(a: IpAddr, b: IpAddr) -> u32 {
        match (a, b) {
            (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
            _ => panic!("{a} and {b}"),
        }
    }

    #[test]
    fn prefixes_are_preserved_exactly() {
        let m = mask(1);
        let all = ["10.0.0.1", "10.0.0.2", "10.0.1.1", "172.16.9.9", "192.168.0.1"];
        let v6 = ["2001:db8::1", "2001:db8::ffff", "2001:db8:1::1", "fe80::1"];
        for list in [&all[..], &v6] {
            for (a, b) in list.iter().flat_map(|a| list.iter().map(move |b| (a, b))) {
                let (a, b): (IpAddr, IpAddr) = (a.parse().expect("one"), b.parse().expect("one"));
                assert_eq!(bits(a, b), bits(m.address(a), m.address(b)), "{a} and {b}");
            }
        }
        let a: IpAddr = "10.0.0.1".parse().expect("one");
        assert!(
            m.address(a) != a && m.address(a) != mask(2).address(a),
            "each key gives its own addresses"
        );
    }

    #[test]
    fn special_addresses_are_kept() {
        for same in ["239.1.1.1", "127.0.0.1", "0.0.0.0", "255.255.255.255", "::", "::1", "ff02::1"]
        {
            assert_eq!(mask(1).text(same), same);
        }
    }

    #[test]
    fn addresses_keep_their_class() {
        let class = |a: IpAddr| match a {
            IpAddr::V4(a) => (a.octets()[0] == 0, a.is_loopback(), a.is_multicast()),
            IpAddr::V6(a) => (a.is_unicast_link_local(), false, a.is_multicast()),
        };
        for seed in 0..32 {
            let m = mask(seed);
            for first in 0..=255u8 {
                let v4 = IpAddr::from([first, 7, first, 9]);
                let mut octets = [first; 16];
                octets[1] = 0x80;
                let v6 = IpAddr::from(octets);
                for a in [v4, v6] {
                    assert_eq!(class(m.address(a)), class(a), "{a} is {}", m.address(a));
                }
                let other = Aliases::mac(&m, [first, 2, 3, 4, 5, 6]);
                assert_eq!(other[0] & 3, first & 3);
            }
        }
    }

    #[test]
    fn addresses_and_names_are_found_inside_text() {
        let (m, a) = (mask(3), "10.1.2.3");
        let other = m.address(a.parse().expect("one")).to_string();
        for (text, masked) in [
            ("10.1.2.3", "A"),
            ("from 10.1.2.3.", "from A."),
            ("(10.1.2.3:4789)", "(A:4789)"),
            ("10.1.2.3/24", "A/24"),
            ("\"outer_sip\":\"10.1.2.3\",", "\"outer_sip\":\"A\","),
            ("host:10.1.2.3", "host:A"),
            ("host:10.1.2.3-10.1.2.3", "host:A-A"),
            ("vx of node-a", "vx of host"),
            ("node-a.example.com, node-a.", "host, host."),
            ("x node-ab blue+green/eth0 blue", "x node-ab name2/eth0 name1"),
            ("kö/eth0 kön", "name3/eth0 kön"),
            ("4711 4711.5", "name4 4711.5"),
            ("10.1.2.3-10.1.2.3", "A-A"),
            ("node-a/eth0: 10.1.2.3: gone", "host/eth0: A: gone"),
            ("blue/eth0", "name1/eth0"),
            (r#""netns":"q\"x""#, r#""netns":"name5""#),
            (
                "pid:17 5.1 s 12:30:01 2026-11-30T06:30:00Z",
                "pid:17 5.1 s 12:30:01 2026-11-30T06:30:00Z",
            ),
        ] {
            assert_eq!(m.text(text), masked.replace('A', &other), "{text}");
        }
        let six = m.text("[2001:db8::7]:53 and 2001:db8::7");
        assert!(!six.contains("2001:db8::7"), "{six}");
        let own = m.text("02:42:ac:11:00:02 ff:ff:ff:ff:ff:ff");
        assert!(!own.contains("02:42:ac") && own.ends_with(" ff:ff:ff:ff:ff:ff"), "{own}");
    }
}
