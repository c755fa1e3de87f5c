// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the BPF programs and their readers agree on: the types and numbers of `bpf/tmon.h`.
//!
//! All of it is generated from the header by `make contract` and checked in, so that nothing that
//! depends on this crate needs clang; `make check` regenerates and compares. Names are those of
//! the header.
#![forbid(unsafe_code)]

#[expect(
    missing_docs,
    non_camel_case_types,
    clippy::pub_underscore_fields,
    reason = "names and comments are the header's"
)]
#[rustfmt::skip]
mod generated;

pub use generated::*;
