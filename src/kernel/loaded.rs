// SPDX-License-Identifier: MIT OR Apache-2.0
//! Judges frames of captures with loaded BPF programs.
use std::time::Duration;

use anyhow::{Context, Result};

use crate::kernel::bpf::{Config, Packet, Program};
use feed::judge::{Judge, idle_ticks};
use model::{
    beside::Gathered,
    flow::{Books, Hook},
    interface::Fill,
    rows::Rows,
};

struct Loaded(Program);

/// A judge that runs the BPF programs, loaded into this kernel.
///
/// # Errors
/// They cannot be loaded.
pub fn kernel(config: &Config) -> Result<Box<dyn Judge>> {
    let program = Program::load(&Config { replay: true, ..config.clone() })?;
    Ok(Box::new(Loaded(program)))
}

impl Judge for Loaded {
    fn run(&mut self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<()> {
        self.0.run_at(hook, packet, now).map(drop)
    }

    fn books(&self) -> Result<Books> {
        self.0.books()
    }

    fn rows(&self, interface: u16, rows: &mut Rows) -> Result<Fill> {
        self.0.rows(interface, rows)
    }

    fn beside(&mut self, interface: u64, all: &mut Gathered) -> Result<()> {
        self.0.beside(interface, all)
    }

    fn age(&mut self, now: u32, idle: Duration) -> Result<usize> {
        self.0.age_at(now, idle_ticks(idle))
    }

    fn clear(&mut self) -> Result<()> {
        self.0.clear().context("empty the tables")
    }
}
