// SPDX-License-Identifier: MIT OR Apache-2.0
//! Many hosts over a message bus: NATS, its core alone. Hosts publish, but send only greetings
//! until somebody asks; viewers repeat their requests (`want.rs`), and count what is missing by the
//! sequence numbers of frames. docs/FLEET.md lists the subjects.
//!
//! On each side the client runs on a thread of its own; nothing else here is asynchronous.
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
