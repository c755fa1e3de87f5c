// SPDX-License-Identifier: MIT OR Apache-2.0
//! The judge of frames of captures: the parser compiled for this host, which needs neither
//! privilege nor kernel, or the loaded BPF programs. Both are `bpf/`, and give the same results.
use std::time::Duration;

use anyhow::{Result, ensure};
use contract::{
    BESIDE_DISPLACED, BESIDE_UNCLAIMED, BESIDE_UNFOLLOWED, BESIDE_UNNUMBERED, MAX_TPIDS,
};
use native::Native;

use crate::{
    beside,
    config::{self, Config},
    packet::{LinkStart, Packet},
    table::Tables,
};
use model::{
    beside::Gathered,
    cells::Cells,
    flow::{Books, Hook},
    interface::Fill,
    rows::Rows,
};

/// The clock by which rows age if frames have their own time: ticks per second.
const TICKS: u128 = 100;
/// Nanoseconds per tick.
pub(crate) const NANOSECONDS_IN_TICK: u64 = 1_000_000_000 / TICKS as u64;

/// A frame to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Given<'a> {
    /// Its direction.
    pub hook: Hook,
    /// The packet.
    pub packet: Packet<'a>,
    /// When it was seen, see [`ticks`].
    pub now: u32,
}

impl<'a> Given<'a> {
    /// A frame from a batch.
    pub fn waited(frame: &native::NativeFrame<'a>) -> Given<'a> {
        let packet = Packet {
            data: frame.data,
            wire_len: frame.length,
            start: LinkStart::from_number(frame.begins),
            link_len: frame.link,
            gso_segs: frame.gso_segs,
            gso_size: frame.gso_size,
            time: frame.time,
        };
        Given { hook: if frame.egress { Hook::Tx } else { Hook::Rx }, packet, now: frame.now }
    }

    /// The same for the native parser.
    pub fn native(&self) -> native::NativeFrame<'a> {
        let packet = &self.packet;
        native::NativeFrame {
            data: &packet.data[..packet.caught()],
            length: packet.wire_len,
            link: packet.link_len,
            begins: packet.start.number(),
            now: self.now,
            time: packet.time,
            gso_segs: packet.gso_segs,
            gso_size: packet.gso_size,
            egress: self.hook == Hook::Tx,
        }
    }
}

/// A judge of frames, with the tables and books of one interface.
pub trait Judge: Send {
    /// Counts a frame with this time (see [`ticks`]).
    ///
    /// # Errors
    /// The kernel cannot run the programs.
    fn run(&mut self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<()>;

    /// The books.
    ///
    /// # Errors
    /// The kernel cannot read them.
    fn books(&self) -> Result<Books>;

    /// Appends every row, with `other` rows and the overflow row last, for interface `interface`.
    ///
    /// # Errors
    /// The kernel cannot read the books.
    fn rows(&self, interface: u16, rows: &mut Rows) -> Result<Fill>;

    /// Adds what is known beside the rows, for the interface with this `id`.
    ///
    /// # Errors
    /// The kernel cannot read it.
    fn beside(&mut self, interface: u64, all: &mut Gathered) -> Result<()>;

    /// Moves the counts of rows that have been idle for `idle` to their tunnels' aged rows, with
    /// `now` on the clock of [`Judge::run`]. Returns the number of these rows.
    ///
    /// # Errors
    /// The kernel cannot wait for the programs.
    fn age(&mut self, now: u32, idle: Duration) -> Result<usize>;

    /// Resets all tables and books to zero and forgets all fragments.
    ///
    /// # Errors
    /// The kernel refuses.
    fn clear(&mut self) -> Result<()>;

    /// The native parser, if that is the judge: it takes many frames at once.
    fn native(&mut self) -> Option<&mut Native> {
        None
    }
}

/// Makes a judge with empty tables.
pub type MakeJudge = fn(&Config) -> Result<Box<dyn Judge>>;

/// The parser compiled for this host.
struct Host {
    native: Native,
    tables: Tables,
}

/// A judge that needs neither privilege nor kernel: the parser compiled for this host.
///
/// # Errors
/// There is not enough memory for its tables.
pub fn host(config: &Config) -> Result<Box<dyn Judge>> {
    let native = Native::new(&native_config(config)?)?;
    let tables = Tables::of(native.memory(), true)?;
    Ok(Box::new(Host { native, tables }))
}

/// The configuration of the native parser.
///
/// # Errors
/// There are too many EtherTypes of VLAN tags, or the system provides no random numbers.
pub fn native_config(config: &Config) -> Result<native::NativeConfig> {
    let mut tpids = [0; MAX_TPIDS as usize];
    ensure!(
        config.tpids.len() <= tpids.len(),
        "{} EtherTypes given for VLAN tags, but at most {} are possible",
        config.tpids.len(),
        tpids.len()
    );
    tpids[..config.tpids.len()].copy_from_slice(&config.tpids);
    let mut ports = Box::new(contract::ports { kind: [0; 1 << 16], parameter: [0; 65792] });
    let contract::ports { kind, parameter } = &mut *ports;
    config::port_kinds(config, kind, parameter);
    Ok(native::NativeConfig {
        groups: config::table_groups(config),
        seed: config.seed.map_or_else(config::random_seed, Ok)?,
        tpids,
        skb: config.skb,
        plain: config.plain,
        states: config.states,
        ports,
    })
}

impl Judge for Host {
    fn run(&mut self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<()> {
        self.native.judge(&Given { hook, packet: *packet, now }.native());
        Ok(())
    }

    fn books(&self) -> Result<Books> {
        Ok(Cells::new(self.native.cells()).books())
    }

    fn rows(&self, interface: u16, rows: &mut Rows) -> Result<Fill> {
        let (fill, place, _) = self.tables.read(interface, rows);
        Cells::new(self.native.cells()).overflow(place, interface, rows);
        Ok(fill)
    }

    fn beside(&mut self, interface: u64, all: &mut Gathered) -> Result<()> {
        let slots = self.native.numbers();
        all.add_streams(slots.map(|s| beside::stream(interface, &s.key, &s.numbers)));
        let claims = self.native.claims();
        all.add_claims(claims.map(|s| beside::claim(interface, &s.key, &s.claims)));
        let now = all.now;
        let handshakes = self.native.handshakes();
        all.add_handshakes(handshakes.map(|s| beside::handshakes(interface, &s.key, &s.n, now)));
        let besides = self.native.beside();
        all.unnumbered += besides[BESIDE_UNNUMBERED as usize];
        all.unclaimed += besides[BESIDE_UNCLAIMED as usize];
        all.unfollowed += besides[BESIDE_UNFOLLOWED as usize];
        all.displaced += besides[BESIDE_DISPLACED as usize];
        Ok(())
    }

    fn age(&mut self, now: u32, idle: Duration) -> Result<usize> {
        self.tables.age(now, idle_ticks(idle))
    }

    fn clear(&mut self) -> Result<()> {
        self.native.clear();
        Ok(())
    }

    fn native(&mut self) -> Option<&mut Native> {
        Some(&mut self.native)
    }
}

/// A time of a capture on the clock by which rows age.
pub fn ticks(time: Duration) -> u32 {
    let seconds = time.as_secs().wrapping_mul(TICKS as u64);
    seconds.wrapping_add(u64::from(time.subsec_nanos()) * TICKS as u64 / 1_000_000_000) as u32
}

/// How long a row may be idle, on that clock; differences of the clock are signed.
pub fn idle_ticks(idle: Duration) -> u32 {
    (idle.as_nanos() * TICKS / 1_000_000_000).min(i32::MAX as u128) as u32
}
