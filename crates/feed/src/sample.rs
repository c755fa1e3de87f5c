// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows for tests of this crate.
use model::flow::{Inner, InnerProto, Key, Kind, Tunnel};

/// The row of ARP in VXLAN with this id, without an outer pair.
pub(crate) fn key(id: u32) -> Key {
    Key {
        outer: None,
        outermost: Tunnel { kind: Kind::Vxlan, id: Some(id) },
        innermost: None,
        depth: 1,
        inner: Inner::Proto(InnerProto(0x0806)),
        other: false,
    }
}
