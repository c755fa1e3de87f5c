// SPDX-License-Identifier: MIT OR Apache-2.0
//! What judges the frames of captures: the parser compiled for this host, which needs neither
//! privilege nor kernel, or the loaded BPF programs. Both are `bpf/`, and give the same answers.
use std::time::Duration;

use anyhow::{Result, ensure};
use contract::MAX_TPIDS;
use native::Native;

use crate::{
    cells::Cells,
    config::{self, Config},
    flow::{Books, Hook},
    packet::Packet,
    rows::Rows,
    snapshot::Fill,
    table::Tables,
};

/// The clock that rows age by where frames have their own time: ticks in a second.
const TICKS: u128 = 100;

/// What judges frames, and the tables and books of one interface.
pub trait Judge {
    /// Counts a frame of this time (see [`ticks`]).
    ///
    /// # Errors
    /// The kernel does not run the programs.
    fn run(&mut self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<()>;

    /// The books.
    ///
    /// # Errors
    /// The kernel does not give them.
    fn books(&self) -> Result<Books>;

    /// Appends every row, `other` rows and the overflow row last, as of interface `interface`.
    ///
    /// # Errors
    /// The kernel does not give the books.
    fn rows(&self, interface: u16, rows: &mut Rows) -> Result<Fill>;

    /// Moves the counts of rows that nothing was counted in for `idle` to their tunnels' aged rows,
    /// `now` on the clock of [`Judge::run`]. Returns how many rows that were.
    ///
    /// # Errors
    /// The kernel cannot wait for the programs.
    fn age(&mut self, now: u32, idle: Duration) -> Result<usize>;

    /// All tables and books to zero, fragments forgotten.
    ///
    /// # Errors
    /// The kernel does not take that.
    fn clear(&mut self) -> Result<()>;
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
/// There is no memory for its tables.
pub fn host(config: &Config) -> Result<Box<dyn Judge>> {
    let mut tpids = [0; MAX_TPIDS as usize];
    ensure!(
        config.tpids.len() <= tpids.len(),
        "{} EtherTypes of VLAN tags: {} can be added",
        config.tpids.len(),
        tpids.len()
    );
    tpids[..config.tpids.len()].copy_from_slice(&config.tpids);
    let mut ports = Box::new(contract::ports { kind: [0; 1 << 16], parameter: [0; 65792] });
    let contract::ports { kind, parameter } = &mut *ports;
    config::port_kinds(config, kind, parameter);
    let native = Native::new(&native::Config {
        groups: config::table_groups(config),
        seed: config.seed.map_or_else(config::random_seed, Ok)?,
        tpids,
        skb: config.skb,
        plain: config.plain,
        states: config.states,
        ports,
    })?;
    let tables = Tables::of(native.memory(), true)?;
    Ok(Box::new(Host { native, tables }))
}

impl Judge for Host {
    fn run(&mut self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<()> {
        self.native.judge(&native::Frame {
            data: &packet.data[..packet.caught()],
            length: packet.wire_len,
            link: packet.link_len,
            begins: packet.start.number(),
            now,
            gso_segs: packet.gso_segs,
            gso_size: packet.gso_size,
            egress: hook == Hook::Tx,
        });
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

    fn age(&mut self, now: u32, idle: Duration) -> Result<usize> {
        self.tables.age(now, idle_ticks(idle))
    }

    fn clear(&mut self) -> Result<()> {
        self.native.clear();
        Ok(())
    }
}

/// A time of a capture on the clock that rows age by.
pub fn ticks(time: Duration) -> u32 {
    (time.as_nanos() * TICKS / 1_000_000_000) as u32
}

/// How long a row is idle on that clock; the clock's differences have a sign.
pub fn idle_ticks(idle: Duration) -> u32 {
    (idle.as_nanos() * TICKS / 1_000_000_000).min(i32::MAX as u128) as u32
}
