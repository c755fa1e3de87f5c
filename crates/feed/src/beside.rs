// SPDX-License-Identifier: MIT OR Apache-2.0
//! Converts what the programs keep beside the rows for the model.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use contract::{
    CLAIM_GTPU, CLAIM_ID, CLAIM_TX, CLAIM_V6, EPOCH_BITS, claim_key, claims, key6, number_key,
    numbers,
};
use model::{
    beside::{Claim, ClaimMessage, Claimed, Handshakes, Numbered, Opener, Stream},
    flow::{Hook, Kind, Tunnel},
    rows,
};
pub use native::{ClaimSlot, HandshakeSlot, NumberSlot, WaitingSlot};

/// The pair of a key in network byte order: sender first.
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

/// A claim about packets of an interface.
pub fn claim(interface: u64, key: &claim_key, n: &claims) -> (Claim, Claimed) {
    let is = |flag: u32| u32::from(key.flags) & flag != 0;
    let v6 = is(CLAIM_V6);
    let (from, to) = ends(&key.pair, v6);
    let (who, _) = ends(&[key.who[0], key.who[1], 0, 0], v6);
    let id = is(CLAIM_ID).then_some(key.id);
    let claim = Claim {
        interface,
        tunnel: Tunnel { kind: Kind::from_number(key.kind), id },
        from,
        to,
        who,
        message: if is(CLAIM_GTPU) {
            ClaimMessage::Gtpu(key.type_)
        } else {
            ClaimMessage::Icmp([key.type_, key.code])
        },
        hook: if is(CLAIM_TX) { Hook::Tx } else { Hook::Rx },
    };
    let claimed = Claimed {
        packets: n.packets,
        mtu: (n.mtu > 0).then_some(n.mtu),
        timed: n.timed.into(),
        nanoseconds: n.nanoseconds,
    };
    (claim, claimed)
}

/// TCP handshakes and resets of an interface's row, with `now` on the clock of its packets, in
/// nanoseconds.
pub fn handshakes(
    interface: u64,
    key: &key6,
    n: &contract::handshakes,
    now: u64,
) -> (Opener, Handshakes) {
    let hook = if key.shard == 0 { Hook::Rx } else { Hook::Tx };
    let older = ((now >> EPOCH_BITS) as u32).wrapping_sub(n.epoch) as i32;
    let [this, before] = [0, 1].map(|ago| u64::from(n.young[(n.epoch as usize ^ ago) & 1]));
    // Recent requests may still be answered.
    let young = match older {
        ..=0 => this + before,
        1 => this,
        _ => 0,
    };
    let settled = n.answered.saturating_add(n.displaced).saturating_add(young);
    let handshakes = Handshakes {
        syns: n.syns,
        retries: n.retries,
        unanswered: n.opened.saturating_sub(settled),
        resets: n.resets,
        timed: n.timed,
        nanoseconds: n.nanoseconds,
    };
    (Opener { interface, key: rows::decoded(key), hook }, handshakes)
}
