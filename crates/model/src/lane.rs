// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets from one host to another, and two counts of them.
use std::net::IpAddr;

use crate::flow::Tunnel;

/// Packets of a tunnel in one direction, by the outer addresses that they have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The outermost tunnel.
    pub tunnel: Tunnel,
    /// Who sends them.
    pub from: IpAddr,
    /// Whom they are for.
    pub to: IpAddr,
}

/// What two counts of the same packets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// They agree, as far as they can be compared.
    Even,
    /// So many were sent and not received.
    Lost(u64),
    /// So many more were received than sent: copies, or fragments made on the way. It is no negative
    /// loss.
    Surplus(u64),
}

impl Balance {
    /// Below this many packets nothing is said.
    const FEW: u64 = 3;

    /// What was sent and what was received, where either may be wrong by so many.
    pub fn of(sent: u64, received: u64, bound: u64) -> Balance {
        let tells = |n: u64| n > bound && n >= Balance::FEW;
        match (sent.saturating_sub(received), received.saturating_sub(sent)) {
            (lost, _) if tells(lost) => Balance::Lost(lost),
            (_, surplus) if tells(surplus) => Balance::Surplus(surplus),
            _ => Balance::Even,
        }
    }
}
