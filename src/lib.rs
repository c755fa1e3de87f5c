// SPDX-License-Identifier: MIT OR Apache-2.0
//! tmon: what travels inside the tunnels of a Linux host.
//!
//! Data flows one way: packets → BPF tables → [`snapshot::Snapshot`] → [`snapshot::Interval`] →
//! (export | matrix → chord → screen). `crates/` has what needs neither BPF nor clang; here are the
//! kernel, the lab and the command line.

pub mod cli;
pub mod kernel;
#[cfg(feature = "live")]
pub mod lab;

pub use export;
pub use feed::{self, config, dns, input, judge, names, packet, pcap, series, table};
pub(crate) use kernel::owned;
#[cfg(feature = "live")]
pub use kernel::{
    attach, bpf, check, discover, drop_watch, live, loaded, local, netlink, netns, pin, version,
};
#[cfg(feature = "live")]
pub(crate) use kernel::{lock, owner};
pub use kernel::{privilege, runner, sandbox};
pub use model::{
    cells, charset, chord, colour, detect, drops, filter, flow, fragments, history, labels, lines,
    matrix, once, overlay, picture, raster, rows, shapes, snapshot, text, trend, units,
};
pub use tui::{self, pixels};
