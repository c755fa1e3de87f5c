// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tests and benchmarks share, built once: [`frames`] builds packets, [`table`] lists packets
//! with what the parser has to make of them, [`mutations`] damages them, [`nats`] is a message bus of
//! a few lines, and `ground` (a feature, with the program's own netlink) makes network namespaces.
#![allow(missing_docs)] // a frame's layers are called as their headers are
#![allow(clippy::unwrap_used)] // a test's panic is its report
#[cfg(feature = "ground")]
pub mod cpu;
pub mod frames;
#[cfg(feature = "ground")]
pub mod ground;
pub mod mutations;
pub mod nats;
pub mod table;
