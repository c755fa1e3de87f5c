// SPDX-License-Identifier: MIT OR Apache-2.0
//! Shared by tests and benchmarks, built once: [`frames`] builds packets, [`table`] lists packets
//! with the parser's expected results, [`mutations`] damages them, [`nats`] is a minimal message
//! bus, and `ground` (a feature, with the program's own netlink) creates network namespaces.
#![allow(missing_docs)] // the layers of a frame are named after their headers
#![allow(clippy::unwrap_used)] // a panic is a test's report
#[cfg(feature = "ground")]
pub mod cpu;
pub mod frames;
#[cfg(feature = "ground")]
pub mod ground;
pub mod mutations;
pub mod nats;
pub mod table;
