// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many hosts over a message bus: NATS, its core alone. Hosts publish, and are silent but for a
//! greeting until somebody asks; viewers ask again and again (`want.rs`), and count what is missing by
//! the numbers of frames. docs/FLEET.md has the subjects.
//!
//! The client runs on one thread of its own, for each side; nothing else here is asynchronous.
mod listen;
mod login;
mod publish;
mod subject;
mod want;

pub use self::{
    listen::{Listening, listen},
    login::Login,
    publish::{Asked, Publisher},
    subject::{HostPath, SubjectKind, Subjects, pattern},
    want::{LEAST, LONGEST},
};
