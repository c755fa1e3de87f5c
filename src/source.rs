// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where snapshots come from: live or a capture.
mod live;
mod space;
mod survey;

pub use self::live::Live;
pub use feed::{Capture, Recording, Replay, Span};
