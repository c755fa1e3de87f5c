// SPDX-License-Identifier: MIT OR Apache-2.0
//! The books close under difficult conditions: offloads, floods, both CPUs at once, and changes
//! underneath the programs. Real packets in network namespaces; needs root, and fails with a
//! message without it.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use testkit::ground;

#[path = "books/harmless.rs"]
mod harmless;
#[path = "books/hostile.rs"]
mod hostile;
#[path = "books/load.rs"]
mod load;
#[path = "books/offloads.rs"]
mod offloads;
#[path = "books/privileges.rs"]
mod privileges;
#[path = "books/soak.rs"]
mod soak;
#[path = "books/world.rs"]
mod world;
