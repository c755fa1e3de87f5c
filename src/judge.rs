// SPDX-License-Identifier: MIT OR Apache-2.0
//! What judges the frames of captures: the parser compiled for this host, which needs neither
//! privilege nor kernel, or the loaded BPF programs. Both are `bpf/`, and give the same answers.
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use contract::MAX_TPIDS;
use native::Native;

use crate::{
    bpf::{self, Cells, Config, Packet, Program},
    flow::{Books, Hook},
    rows::Rows,
    snapshot::Fill,
    table::Tables,
};

/// The clock that rows age by where frames have their own time: ticks in a second.
const TICKS: u128 = 100;

/// What judges frames, and the tables and books of one interface.
pub struct Judge(Way);

enum Way {
    Native { native: Box<Native>, tables: Tables },
    Kernel(Box<Program>),
}

impl Judge {
    /// Empty tables; with `kernel` those of loaded BPF programs.
    ///
    /// # Errors
    /// There is no memory for them; the programs cannot be loaded.
    pub fn new(config: &Config, kernel: bool) -> Result<Judge> {
        if kernel {
            let program = Program::load(&Config { replay: true, ..config.clone() })?;
            return Ok(Judge(Way::Kernel(Box::new(program))));
        }
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
        bpf::port_kinds(config, kind, parameter);
        let native = Native::new(&native::Config {
            groups: bpf::table_groups(config),
            seed: config.seed.map_or_else(bpf::random_seed, Ok)?,
            tpids,
            skb: config.skb,
            plain: config.plain,
            states: config.states,
            ports,
        })?;
        let tables = Tables::in_memory(native.memory())?;
        Ok(Judge(Way::Native { native: Box::new(native), tables }))
    }

    /// Counts a frame of this time (see [`ticks`]).
    ///
    /// # Errors
    /// The kernel does not run the programs.
    pub fn run(&mut self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<()> {
        match &mut self.0 {
            Way::Kernel(program) => program.run_at(hook, packet, now).map(drop),
            Way::Native { native, .. } => {
                native.judge(&native::Frame {
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
        }
    }

    /// The books.
    ///
    /// # Errors
    /// The kernel does not give them.
    pub fn books(&self) -> Result<Books> {
        match &self.0 {
            Way::Kernel(program) => program.books(),
            Way::Native { native, .. } => Ok(Cells::new(native.cells()).books()),
        }
    }

    /// Appends every row, `other` rows and the overflow row last, as of interface `interface`.
    ///
    /// # Errors
    /// The kernel does not give the books.
    pub fn rows(&self, interface: u16, rows: &mut Rows) -> Result<Fill> {
        match &self.0 {
            Way::Kernel(program) => program.rows(interface, rows),
            Way::Native { native, tables } => {
                let (fill, place, _) = tables.read(interface, rows);
                Cells::new(native.cells()).overflow(place, interface, rows);
                Ok(fill)
            }
        }
    }

    /// Moves the counts of rows that nothing was counted in for `idle` to their tunnels' aged rows,
    /// `now` on the clock of [`Judge::run`]. Returns how many rows that were.
    ///
    /// # Errors
    /// The kernel cannot wait for the programs.
    pub fn age(&mut self, now: u32, idle: Duration) -> Result<usize> {
        let idle = (idle.as_nanos() * TICKS / 1_000_000_000).min(i32::MAX as u128) as u32;
        match &self.0 {
            Way::Kernel(program) => program.age_at(now, idle),
            Way::Native { tables, .. } => tables.age(now, idle),
        }
    }

    /// All tables and books to zero, fragments forgotten.
    ///
    /// # Errors
    /// The kernel does not take that.
    pub fn clear(&mut self) -> Result<()> {
        match &mut self.0 {
            Way::Kernel(program) => program.clear(),
            Way::Native { native, .. } => {
                native.clear();
                Ok(())
            }
        }
        .context("empty the tables")
    }
}

/// A time of a capture on the clock that rows age by.
pub fn ticks(time: Duration) -> u32 {
    (time.as_nanos() * TICKS / 1_000_000_000) as u32
}
