// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets from one host to another, and the comparison of two counts of them.
use std::net::IpAddr;

use crate::flow::Tunnel;

/// Packets of a tunnel in one direction, identified by their outer addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lane {
    /// The outermost tunnel.
    pub tunnel: Tunnel,
    /// The sender.
    pub from: IpAddr,
    /// The receiver.
    pub to: IpAddr,
}

/// What two counts of the same packets show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Balance {
    /// They agree within the error bound.
    Even,
    /// This many packets were sent and not received.
    Lost(u64),
    /// This many more were received than sent: copies, or fragments made on the path. This is not a
    /// negative loss.
    Surplus(u64),
}

impl Balance {
    /// Differences below this many packets are ignored.
    const FEW: u64 = 3;

    /// Compares what was sent with what was received, where either may be wrong by `bound`.
    pub fn of(sent: u64, received: u64, bound: u64) -> Balance {
        let tells = |n: u64| n > bound && n >= Balance::FEW;
        match (sent.saturating_sub(received), received.saturating_sub(sent)) {
            (lost, _) if tells(lost) => Balance::Lost(lost),
            (_, surplus) if tells(surplus) => Balance::Surplus(surplus),
            _ => Balance::Even,
        }
    }
}
