// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the programs keep beside the rows, as the model has it.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use contract::{number_key, numbers};
use model::{
    beside::{Numbered, Stream},
    flow::{Hook, Kind},
};
pub use native::NumberSlot;

/// The pair of a key, as on the wire: sender first.
fn ends(pair: &[u64; 4], v6: bool) -> (IpAddr, IpAddr) {
    let words = pair.map(u64::to_ne_bytes);
    let bytes: [u8; 32] = std::array::from_fn(|i| words[i / 8][i % 8]);
    let at = |from: usize| -> IpAddr {
        if v6 {
            Ipv6Addr::from(std::array::from_fn::<u8, 16, _>(|i| bytes[from * 16 + i])).into()
        } else {
            Ipv4Addr::from(std::array::from_fn::<u8, 4, _>(|i| bytes[from * 4 + i])).into()
        }
    };
    (at(0), at(1))
}

/// A stream of numbered packets of an interface.
pub fn stream(interface: u64, key: &number_key, n: &numbers) -> (Stream, Numbered) {
    let (from, to) = ends(&key.pair, key.v6 != 0);
    let hook = if key.hook == 0 { Hook::Rx } else { Hook::Tx };
    let kind = Kind::from_number(key.kind);
    let numbered = Numbered {
        packets: n.packets,
        lost: n.lost,
        late: n.late,
        duplicate: n.duplicate,
        restarted: n.restarted.into(),
        highest: n.highest,
        missing: n.window.count_zeros().into(),
    };
    (Stream { interface, kind, from, to, id: key.id, hook }, numbered)
}
