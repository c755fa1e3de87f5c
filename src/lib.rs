// SPDX-License-Identifier: MIT OR Apache-2.0
//! tmon: what travels inside the tunnels of a Linux host.
//!
//! Data flows one way: packets → BPF tables → [`snapshot::Snapshot`] → [`snapshot::Interval`] →
//! (export | matrix → chord → screen). The modules are the rooms of that flow, lowest first.

pub use export;
pub use feed::{self, config, dns, input, judge, names, packet, pcap, series, table};
pub use model::{
    cells, charset, chord, colour, detect, drops, filter, flow, fragments, history, labels, lines,
    matrix, once, overlay, picture, raster, rows, shapes, snapshot, text, trend, units,
};
pub use tui::{self, pixels};

pub mod attach;
pub mod bpf;
pub mod check;
pub mod discover;
pub mod kernel;
pub mod loaded;
pub mod local;
mod lock;
pub mod netlink;
pub mod netns;
mod owned;
mod owner;
pub mod pin;
pub mod privilege;
pub mod runner;
pub mod sandbox;

pub mod source;

pub mod cli;
pub mod lab;
pub mod settings;
