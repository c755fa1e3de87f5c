// SPDX-License-Identifier: MIT OR Apache-2.0
//! A host on which tests stage what detectors should find, second by second.
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use super::{Change, Detectors, Severity, Topic};
use crate::{
    beside::Beside,
    drops::Drops,
    flow::{Books, Count, Counters, Flow, HookKind, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    interface::Interface,
    overlay::{Entry, Overlay},
    rows::Rows,
    snapshot::Interval,
};

/// The host under test is number 1.
pub(super) fn host(n: u8) -> IpAddr {
    Ipv4Addr::new(172, 16, 1, n).into()
}

pub(super) fn client(n: u8) -> IpAddr {
    Ipv4Addr::new(192, 168, 0, n).into()
}

/// A conversation in VXLAN 7: packets that leave host 1, and packets that arrive there.
pub(super) fn talk(peer: u8, inner: Option<(u8, u8)>, sent: u64, received: u64) -> Flow {
    talk_in(Tunnel { kind: Kind::Vxlan, id: Some(7) }, peer, inner, sent, received)
}

pub(super) fn talk_in(
    tunnel: Tunnel,
    peer: u8,
    inner: Option<(u8, u8)>,
    sent: u64,
    received: u64,
) -> Flow {
    let count = |packets| Count { packets, bytes: packets * 142 };
    let none = Count::default();
    Flow {
        interface: 0,
        key: Key {
            outer: Some(Pair { first: host(1), second: host(peer) }),
            outermost: tunnel,
            innermost: None,
            depth: 1,
            inner: match inner {
                Some((a, b)) => Inner::Pair(Pair { first: client(a), second: client(b) }),
                None => Inner::Proto(InnerProto(0x0806)),
            },
            other: false,
        },
        counters: Counters {
            cells: [[none, count(received)], [count(sent), none]],
            ..Counters::default()
        },
    }
}

/// A static forwarding entry by which host 1 sends packets for an inner address to a peer.
pub(super) fn leads(inner: u8, peer: u8) -> Overlay {
    let mac = [2, 0, 0, 0, 0, inner];
    let entry =
        Entry { device: "vxlan0".to_owned(), id: Some(7), endpoint: host(peer), fixed: true };
    Overlay {
        entries: [(mac, vec![entry])].into_iter().collect(),
        neighbours: [(client(inner), mac)].into_iter().collect(),
        ..Overlay::default()
    }
}

#[derive(Default)]
pub(super) struct Stage {
    pub(super) detectors: Detectors,
    pub(super) overlay: Option<Overlay>,
    pub(super) books: Books,
    pub(super) drops: Option<Drops>,
    pub(super) beside: Beside,
    pub(super) clock: u64,
}

impl Stage {
    /// Lets one second pass with these rows.
    pub(super) fn second(&mut self, flows: &[Flow]) -> Vec<(Topic, Change)> {
        let mut rows = Rows::default();
        flows.iter().zip(0..).for_each(|(f, place)| rows.push_flow(place, f));
        let interface = Interface {
            ifindex: 2,
            hook: HookKind::Tcx,
            books: self.books,
            span: Duration::from_secs(1),
            ..Interface::new(0, "eth0")
        };
        let (since, second) = (self.now(), Duration::from_secs(1));
        self.clock += 1;
        let mut interval = Interval::new(since, since + second, second, vec![interface], rows);
        interval.beside = Arc::new(self.beside.clone());
        interval.drops = self.drops.clone().map(Arc::new);
        let changes = self.detectors.step(&interval, self.overlay.as_ref());
        let topic = |(n, change)| Some((self.detectors.get(n)?.topic, change));
        changes.into_iter().filter_map(topic).collect()
    }

    pub(super) fn seconds(&mut self, n: u64, flows: &[Flow]) {
        for _ in 0..n {
            self.second(flows);
        }
    }

    pub(super) fn now(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + self.clock)
    }

    /// The open findings.
    pub(super) fn open(&self) -> Vec<(Topic, Severity, &str)> {
        let open = self.detectors.findings().filter(|f| f.until.is_none());
        open.map(|f| (f.topic, f.severity, f.text.as_str())).collect()
    }
}
