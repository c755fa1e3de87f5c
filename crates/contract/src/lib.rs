// SPDX-License-Identifier: MIT OR Apache-2.0
//! The contract between the BPF programs and their readers: the types and numbers of `bpf/tmon.h`,
//! and the tunnel kinds of `bpf/kinds.h`.
//!
//! All of it is generated from the headers by `make contract` and checked in, so that nothing that
//! depends on this crate needs clang; `make check` regenerates and compares. Names are those of the
//! headers.
#![forbid(unsafe_code)]

mod kinds;

#[expect(missing_docs, non_camel_case_types, reason = "names and comments are the headers'")]
mod generated {
    use super::kinds::{Facts, Whose, kinds, whose};
    include!("generated.rs");
}

pub use generated::*;
pub use kinds::{Facts, Whose};
