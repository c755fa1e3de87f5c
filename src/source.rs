// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where snapshots come from: live or a capture.
mod capture;
mod live;
mod recording;
mod replay;
mod space;

pub use self::{
    capture::Capture,
    live::Live,
    recording::Recording,
    replay::{Replay, Span},
};
