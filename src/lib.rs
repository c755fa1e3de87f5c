// SPDX-License-Identifier: MIT OR Apache-2.0
//! tmon: what travels inside the tunnels of a Linux host.
//!
//! Data flows one way: packets → BPF tables → [`model::snapshot::Snapshot`] →
//! [`model::snapshot::Interval`] → (export | matrix → chord → screen). What needs neither BPF nor
//! clang is in `crates/`; the kernel, the lab and the command line are here.

pub mod cli;
pub mod kernel;
#[cfg(feature = "live")]
pub mod lab;
