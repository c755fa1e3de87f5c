// SPDX-License-Identifier: MIT OR Apache-2.0
//! How packets are counted: what the BPF programs and the parser compiled for the host are set up
//! with.
use std::{io, time::Duration};

use anyhow::{Context, Result};
use contract::{
    GROUP, PARAMETER_COOKIE, PARAMETER_KNOWN, PARAMETER_SUBLAYER, PORT_EITHER, PORT_FOU,
};

use crate::flow::Kind;

/// How many EtherTypes can be made VLAN tags.
pub const MAX_TPIDS: usize = contract::MAX_TPIDS as usize;

/// A UDP port's meaning, as `--port KIND=PORT` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Port {
    /// The tunnel whose header is behind it.
    pub kind: Kind,
    /// With [`Kind::Gue`]: foo-over-UDP, no header of its own.
    pub fou: bool,
    /// The port number.
    pub port: u16,
    /// With [`Kind::L2tpv3`]: what its headers do not say of themselves, if it is known.
    pub l2tp: Option<L2tp>,
}

/// What the headers of L2TP version 3 do not say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct L2tp {
    /// Bytes of the cookie: 0, 4 or 8.
    pub cookie: u8,
    /// There is a sublayer header of four bytes.
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

    /// Its parameter, as the programs' table has it.
    pub fn parameter(self) -> u8 {
        self.l2tp.map_or(0, L2tp::parameter)
    }

    /// Where it is in the programs' table, which has ports as they are on the wire.
    pub fn place(self) -> usize {
        self.port.to_be().into()
    }

    /// Its entry there.
    pub fn entry(self) -> u8 {
        self.kind.number()
            | if self.kind.answers_from_its_port() { PORT_EITHER } else { 0 }
            | if self.fou { PORT_FOU } else { 0 }
    }
}

/// How the programs are loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Rows that each of the two tables (IPv4, and everything else) is made for.
    pub rows: u32,
    /// Make rows of packets without a tunnel.
    pub plain: bool,
    /// Count skbs, not the packets on the wire.
    pub skb: bool,
    /// The interface has no Ethernet header.
    pub l3: bool,
    /// For frames of a capture and of tests: they carry their own length and time.
    pub replay: bool,
    /// With `replay`: leave out the programs' fast path. The result is the same, which tests hold.
    pub states: bool,
    /// UDP ports beside or instead of [`Kind::default_ports`].
    pub ports: Vec<Port>,
    /// What L2TP version 3 has in its headers where it is in IP itself.
    pub l2tpv3: Option<L2tp>,
    /// EtherTypes of VLAN tags beside 0x8100, 0x88a8 and 0x9100; at most [`MAX_TPIDS`].
    pub tpids: Vec<u16>,
    /// How long a row may be idle before its counts go to its tunnel's aged row; zero for ever.
    pub age: Duration,
    /// Of the tables' hash: random unless given, so that nobody can choose keys that collide.
    pub seed: Option<[u64; 12]>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            rows: 65_536,
            plain: false,
            skb: false,
            l3: false,
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
    /// The UDP ports that have been given a meaning here.
    pub fn chosen(&self) -> Vec<u16> {
        self.ports.iter().map(|p| p.port).collect()
    }
}

/// Groups of 8 slots for a table of this many rows, at most half full.
fn groups(rows: u32) -> u32 {
    rows.clamp(8, 1 << 26).next_power_of_two().saturating_mul(2) / GROUP as u32
}

/// What each UDP port means, at the place of its number as on the wire, and the parameters of ports
/// and, behind them, of IP protocols: `struct ports` of `bpf/tmon.h`.
pub fn port_kinds(config: &Config, kinds: &mut [u8; 1 << 16], parameters: &mut [u8]) {
    let default = Kind::default_ports().map(|(kind, port)| Port::of(kind, port));
    for port in default.chain(config.ports.iter().copied()) {
        kinds[port.place()] = port.entry();
        parameters[port.place()] = port.parameter();
    }
    if let (Some(l2tp), Some(facts)) = (config.l2tpv3, Kind::L2tpv3.facts()) {
        for protocol in facts.protocols.unwrap_or_default() {
            parameters[kinds.len() + usize::from(*protocol)] = l2tp.parameter();
        }
    }
}

/// The groups of a table of rows and of `others`.
pub fn table_groups(config: &Config) -> [u32; 2] {
    [groups(config.rows), groups((config.rows / 16).max(256))]
}

/// A seed that nobody can guess.
///
/// # Errors
/// The kernel has no random numbers.
#[allow(unsafe_code)]
pub fn random_seed() -> Result<[u64; 12]> {
    let mut seed = [0u64; 12];
    // SAFETY: the buffer is as long as is said.
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
    fn a_table_is_at_most_half_full() {
        for rows in [1, 64, 65, 1000, 65_536, 1_000_000] {
            assert!(
                groups(rows) as usize * GROUP >= 2 * rows as usize
                    && groups(rows).is_power_of_two()
            );
        }
    }
}
