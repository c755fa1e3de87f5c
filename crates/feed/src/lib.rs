// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sources of readings and what keeps them: the trait [`Source`], captures and recordings,
//! reading of tables, [`series::Series`], and names of addresses. Sources that need BPF programs
//! are in the program itself (`src/kernel`).
mod allowance;
pub mod beside;
pub mod capture;
pub mod config;
mod crew;
pub mod cutting;
pub mod dns;
mod extract;
pub mod frame;
mod innermost;
pub mod input;
mod inputs;
pub mod judge;
pub mod keep;
mod look;
mod looking;
pub mod names;
mod packed;
pub mod packet;
pub mod pcap;
pub mod pcapng;
pub mod recorded;
pub mod recording;
pub mod remote;
pub mod replay;
pub mod roll;
#[cfg(test)]
mod sample;
mod seen;
pub mod series;
pub mod source;
pub mod table;
pub mod timing;

pub use capture::Capture;
pub use crew::MOST_THREADS;
pub use extract::{Extract, Extracted, Selection};
pub use inputs::Captures;
pub use looking::Again;
pub use recorded::Recordings;
pub use recording::Recording;
pub use remote::Remote;
pub use replay::{Replay, Span};
pub use source::{CatchNews, Closer, Due, Reading, Source};
