// SPDX-License-Identifier: MIT OR Apache-2.0
//! `dropped`, `checksum`, `mtu`, and what the kernel's drop reasons say of devices and endpoints.
use super::{Look, Sighting};

pub(super) fn find(_look: &Look<'_>) -> Vec<Sighting> {
    Vec::new()
}
