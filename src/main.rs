// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `tmon` command; see the library for everything it does.
fn main() {}
