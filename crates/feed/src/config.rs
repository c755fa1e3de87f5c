// SPDX-License-Identifier: MIT OR Apache-2.0
//! How packets are counted: the configuration of the BPF programs and of the parser compiled for
//! the host.
use std::{fmt, io, str::FromStr, time::Duration};

use anyhow::{Context, Result};
use contract::{
    GROUP, PARAMETER_COOKIE, PARAMETER_KNOWN, PARAMETER_SUBLAYER, PORT_EITHER, PORT_FOU, more,
    slot4, slot6,
};
use serde::{Deserialize, Serialize};

use model::{flow::Kind, rows::Rows};

/// The maximum number of EtherTypes that can be declared VLAN tags.
pub const MAX_TPIDS: usize = contract::MAX_TPIDS as usize;

/// The meaning of a UDP port, as given by `--port KIND=PORT`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Port {
    /// The tunnel that it carries.
    pub kind: Kind,
    /// With [`Kind::Gue`]: foo-over-UDP, without a header of its own.
    pub fou: bool,
    /// The port number; 0 for IP protocol 115, see [`Port::l2tp_over_ip`].
    pub port: u16,
    /// With [`Kind::L2tpv3`]: what its headers do not contain about themselves, if known.
    pub l2tp: Option<L2tp>,
}

/// What L2TP version 3 headers do not contain about themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct L2tp {
    /// Bytes of the cookie: 0, 4 or 8.
    pub cookie: u8,
    /// Whether there is a sublayer header of four bytes.
    pub sublayer: bool,
}

impl L2tp {
    fn parameter(self) -> u8 {
        PARAMETER_KNOWN
            | self.cookie & PARAMETER_COOKIE
            | if self.sublayer { PARAMETER_SUBLAYER } else { 0 }
    }
}

impl Port {
    /// A UDP port that leads to this kind.
    pub fn of(kind: Kind, port: u16) -> Self {
        Port { kind, fou: false, port, l2tp: None }
    }

    /// The parameters of L2TP version 3 directly over IP, where there is no port.
    pub fn l2tp_over_ip(l2tp: L2tp) -> Self {
        Port { l2tp: Some(l2tp), ..Port::of(Kind::L2tpv3, 0) }
    }

    /// Its parameter in the programs' table.
    pub fn parameter(self) -> u8 {
        self.l2tp.map_or(0, L2tp::parameter)
    }

    /// Its index in the programs' table, whose ports are in network byte order; `None` if there is
    /// no port.
    pub fn place(self) -> Option<usize> {
        (self.port != 0).then(|| self.port.to_be().into())
    }

    /// The indexes of its parameter: those of IP protocols come after those of the ports.
    pub fn places_of_parameter(self) -> impl Iterator<Item = usize> {
        let protocols = self.kind.facts().and_then(|f| f.protocols).unwrap_or_default();
        let protocols = protocols.iter().map(|p| (1 << 16) + usize::from(*p));
        let protocols = protocols.filter(move |_| self.port == 0);
        self.place().into_iter().chain(protocols)
    }

    /// Its entry in the programs' table.
    pub fn entry(self) -> u8 {
        self.kind.number()
            | if self.kind.answers_from_its_port() { PORT_EITHER } else { 0 }
            | if self.fou { PORT_FOU } else { 0 }
    }
}

impl fmt::Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.fou {
            true => write!(f, "fou={}", self.port)?,
            false => write!(f, "{}={}", self.kind, self.port)?,
        }
        self.l2tp.map_or(Ok(()), |l2tp| write!(f, ",{l2tp}"))
    }
}

impl FromStr for Port {
    type Err = String;

    fn from_str(text: &str) -> Result<Port, String> {
        let in_udp = |kind: Kind| kind.in_udp() || kind == Kind::None;
        let names = || {
            let kinds = Kind::ALL.iter().filter(|kind| in_udp(**kind));
            kinds.map(Kind::to_string).collect::<Vec<_>>().join(", ")
        };
        let (kind, number) =
            text.split_once('=').ok_or("expected a kind, '=' and a UDP port: vxlan=5789")?;
        let fou = kind.eq_ignore_ascii_case("fou");
        let kind = if fou { Kind::Gue } else { kind.parse()? };
        if !in_udp(kind) {
            return Err(format!("{kind} does not run over UDP: use one of {}, fou", names()));
        }
        let (number, rest) = number.split_once(',').map_or((number, None), |(n, r)| (n, Some(r)));
        let l2tp = rest.map(L2tp::from_str).transpose()?;
        if l2tp.is_some() && kind != Kind::L2tpv3 {
            return Err(format!("{kind} has no parameters: cookie and sublayer belong to l2tpv3"));
        }
        let port = number
            .parse()
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| format!("'{number}' is not a UDP port (1 to 65535)"))?;
        Ok(Port { fou, l2tp, ..Port::of(kind, port) })
    }
}

impl fmt::Display for L2tp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cookie={},sublayer={}", self.cookie, if self.sublayer { 4 } else { 0 })
    }
}

impl FromStr for L2tp {
    type Err = String;

    /// `cookie=8,sublayer=4`: each may be omitted, which means 0.
    fn from_str(text: &str) -> Result<L2tp, String> {
        let mut l2tp = L2tp { cookie: 0, sublayer: false };
        for part in text.split(',') {
            match part.split_once('=') {
                Some(("cookie", "0")) => l2tp.cookie = 0,
                Some(("cookie", "4")) => l2tp.cookie = 4,
                Some(("cookie", "8")) => l2tp.cookie = 8,
                Some(("sublayer", "0")) => l2tp.sublayer = false,
                Some(("sublayer", "4")) => l2tp.sublayer = true,
                _ => {
                    return Err(format!(
                        "'{part}' is neither cookie=0, 4 or 8 nor sublayer=0 or 4: cookie=8,sublayer=4"
                    ));
                }
            }
        }
        Ok(l2tp)
    }
}

/// Types that are written as text are serialized as text.
macro_rules! as_text {
    ($($what:ty),*) => {$(
        impl From<$what> for String {
            fn from(what: $what) -> String {
                what.to_string()
            }
        }

        impl TryFrom<String> for $what {
            type Error = String;

            fn try_from(text: String) -> Result<$what, String> {
                text.parse()
            }
        }
    )*};
}
as_text!(Port, L2tp);

/// EtherTypes as on the command line.
mod tpids {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(types: &[u16], to: S) -> Result<S::Ok, S::Error> {
        to.collect_seq(types.iter().map(|t| format!("{t:#06x}")))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u16>, D::Error> {
        let texts = Vec::<String>::deserialize(from)?;
        texts.iter().map(|t| super::tpid(t).map_err(D::Error::custom)).collect()
    }
}

/// A duration as on the command line: `10m`.
mod age {
    use std::time::Duration;

    use jiff::SignedDuration;
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _, ser::Error as _};

    pub(super) fn serialize<S: Serializer>(age: &Duration, to: S) -> Result<S::Ok, S::Error> {
        let age = SignedDuration::try_from(*age).map_err(S::Error::custom)?;
        to.collect_str(&format_args!("{age:#}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        let age: SignedDuration = String::deserialize(from)?.parse().map_err(D::Error::custom)?;
        age.try_into().map_err(D::Error::custom)
    }
}

/// EtherTypes with another meaning: IPv4, ARP, Ethernet bridging, IPv6, MPLS, PPPoE.
const OTHERS: [u16; 8] = [0x0800, 0x0806, 0x6558, 0x86dd, 0x8847, 0x8848, 0x8863, 0x8864];

/// The EtherType of a VLAN tag, as given by `--tpid`.
///
/// # Errors
/// It is not an EtherType.
pub fn tpid(text: &str) -> Result<u16, String> {
    let hex = text.strip_prefix("0x").or(text.strip_prefix("0X"));
    hex.map_or_else(|| text.parse(), |digits| u16::from_str_radix(digits, 16))
        .ok()
        .filter(|n| *n >= 0x600 && !OTHERS.contains(n))
        .ok_or_else(|| {
            format!("'{text}' is not an EtherType for VLAN tags (0x600 to 0xffff, such as 0x9200)")
        })
}

/// How the programs are loaded. The serialized fields are those that `tmon attach` stores and
/// compares: every field with a flag, by the flag's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// The number of rows that each of the two tables (IPv4, and everything else) is sized for.
    pub rows: u32,
    /// Whether to create rows for packets without a tunnel.
    pub plain: bool,
    /// Whether to count skbs instead of packets on the wire.
    pub skb: bool,
    /// Whether the interface has no Ethernet header.
    #[serde(skip)]
    pub l3: bool,
    /// Whether every packet passes both hooks: it is probed on egress only.
    #[serde(skip)]
    pub loopback: bool,
    /// For frames of captures and tests: they carry their own length and time.
    #[serde(skip)]
    pub replay: bool,
    /// With `replay`: skip the programs' fast path. The result is the same, which tests verify.
    #[serde(skip)]
    pub states: bool,
    /// UDP ports in addition to or instead of [`Kind::default_ports`].
    #[serde(rename = "port")]
    pub ports: Vec<Port>,
    /// The header parameters of L2TP version 3 directly over IP.
    pub l2tpv3: Option<L2tp>,
    /// EtherTypes of VLAN tags in addition to 0x8100, 0x88a8 and 0x9100; at most [`MAX_TPIDS`].
    #[serde(rename = "tpid", with = "tpids")]
    pub tpids: Vec<u16>,
    /// How long a row may be idle before its counts move to its tunnel's aged row; zero means
    /// forever.
    #[serde(with = "age")]
    pub age: Duration,
    /// The seed of the tables' hash: random unless given, so that nobody can construct keys that
    /// collide.
    #[serde(skip)]
    pub seed: Option<[u64; 12]>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rows: 65_536,
            plain: false,
            skb: false,
            l3: false,
            loopback: false,
            replay: false,
            states: false,
            ports: Vec::new(),
            l2tpv3: None,
            tpids: Vec::new(),
            age: Duration::from_secs(600),
            seed: None,
        }
    }
}

impl Config {
    /// The UDP ports whose meaning is set here, and 0 for IP protocol 115.
    pub fn chosen(&self) -> Vec<u16> {
        let over_ip = self.l2tpv3.map(|_| 0);
        self.ports.iter().map(|p| p.port).chain(over_ip).collect()
    }
}

/// Groups of 8 slots for a table of this many rows, at most half full.
fn groups(rows: u32) -> u32 {
    rows.clamp(8, 1 << 26).next_power_of_two().saturating_mul(2) / GROUP as u32
}

/// The meaning of each UDP port, indexed by its number in network byte order, and the parameters of
/// ports and, after them, of IP protocols: `struct ports` of `bpf/tmon.h`.
pub fn port_kinds(config: &Config, kinds: &mut [u8; 1 << 16], parameters: &mut [u8]) {
    let default = Kind::default_ports().map(|(kind, port)| Port::of(kind, port));
    let over_ip = config.l2tpv3.map(Port::l2tp_over_ip);
    for port in default.chain(config.ports.iter().copied()).chain(over_ip) {
        if let Some(place) = port.place() {
            kinds[place] = port.entry();
        }
        port.places_of_parameter().for_each(|place| parameters[place] = port.parameter());
    }
}

/// The groups of a table of rows and of `others`.
pub fn table_groups(config: &Config) -> [u32; 2] {
    [groups(config.rows), groups((config.rows / 16).max(256))]
}

/// The maximum memory of an interface: its tables, and the rows of several readings if all slots
/// are in use (the previous one, the present one, their difference and what is derived from it).
pub fn interface_memory(config: &Config) -> u64 {
    const READINGS: u64 = 5;
    let slots = table_groups(config).map(|groups| u64::from(groups) * GROUP as u64);
    let slot = |size: usize| (size + size_of::<more>() + 1) as u64;
    let (four, six) = (slot(size_of::<slot4>()), slot(size_of::<slot6>()));
    let [bytes4, bytes6] = Rows::ROW_BYTES.map(|bytes| READINGS * bytes as u64);
    slots[0] * (four + bytes4 + six + bytes6) + slots[1] * (six + bytes6)
}

/// The address space available to this process, if that is limited, minus what it needs for
/// everything else.
#[allow(unsafe_code)]
pub fn address_space() -> Option<u64> {
    /// For the program, its threads and what is drawn.
    const ELSE: u64 = 512 << 20;
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the call only writes to it.
    let done = unsafe { libc::getrlimit(libc::RLIMIT_AS, &mut limit) };
    (done == 0 && limit.rlim_cur != libc::RLIM_INFINITY)
        .then(|| limit.rlim_cur.saturating_sub(ELSE))
}

/// An unpredictable seed.
///
/// # Errors
/// The kernel provides no random numbers.
#[allow(unsafe_code)]
pub fn random_seed() -> Result<[u64; 12]> {
    let mut seed = [0u64; 12];
    // SAFETY: the buffer has the stated length.
    let got = unsafe { libc::getrandom(seed.as_mut_ptr().cast(), size_of_val(&seed), 0) };
    if got != size_of_val(&seed) as isize {
        return Err(io::Error::last_os_error())
            .context("get random numbers for the hash of the flow table");
    }
    Ok(seed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn l2tpv3_parameters_give_the_header_layout() {
        let port = |text: &str| text.parse::<Port>();
        let read = port("l2tpv3=1701,cookie=8,sublayer=4").map(|p| (p.kind, p.port, p.l2tp));
        assert_eq!(read, Ok((Kind::L2tpv3, 1701, Some(L2tp { cookie: 8, sublayer: true }))));
        assert_eq!(port("l2tpv3=5000").map(|p| p.l2tp), Ok(None));
        assert_eq!("cookie=4".parse(), Ok(L2tp { cookie: 4, sublayer: false }));
        for wrong in
            ["l2tpv3=1701,", "l2tpv3=1701,cookie=5", "vxlan=5,cookie=8", "l2tpv3=,cookie=8"]
        {
            assert!(port(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn only_ethertypes_for_tags_are_accepted() {
        assert_eq!(tpid("0x9200"), Ok(0x9200));
        for wrong in ["0x800", "2048", "0x86dd", "0x8847", "0x5ff", "0x10000", "tag", ""] {
            let why = tpid(wrong).expect_err(wrong);
            assert!(why.contains("is not an EtherType for VLAN tags"), "{why}");
        }
    }

    #[test]
    fn a_configuration_survives_json() {
        let all = Config {
            rows: 1024,
            plain: true,
            skb: true,
            ports: ["vxlan=7777", "fou=5555", "none=4789", "l2tpv3=1701,cookie=8,sublayer=4"]
                .map(|p| p.parse().expect("a port"))
                .to_vec(),
            l2tpv3: Some("cookie=4,sublayer=0".parse().expect("parameters")),
            tpids: vec![0x9200, 0x0700],
            age: Duration::from_millis(90_500),
            ..Config::default()
        };
        let kept = serde_json::to_string(&all).expect("JSON");
        assert_eq!(
            kept,
            r#"{"rows":1024,"plain":true,"skb":true,"port":["vxlan=7777","fou=5555","none=4789","#
                .to_owned()
                + r#""l2tpv3=1701,cookie=8,sublayer=4"],"l2tpv3":"cookie=4,sublayer=0","#
                + r#""tpid":["0x9200","0x0700"],"age":"1m 30s 500ms"}"#
        );
        assert_eq!(serde_json::from_str::<Config>(&kept).expect("a configuration"), all);
        assert_eq!(serde_json::from_str::<Config>("{}").expect("all left out"), Config::default());
    }

    #[test]
    fn tables_are_at_most_half_full() {
        for rows in [1, 64, 65, 1000, 65_536, 1_000_000] {
            assert!(
                groups(rows) as usize * GROUP >= 2 * rows as usize
                    && groups(rows).is_power_of_two()
            );
        }
    }
}
