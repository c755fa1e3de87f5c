// SPDX-License-Identifier: MIT OR Apache-2.0
//! Half an hour in which nothing is wrong, though it looks as if something were.
use std::time::{Duration, SystemTime};

use super::{
    Detectors, Severity,
    stage::{Stage, client, host, talk, talk_in},
};
use crate::{
    fleet::{Fleet, Told},
    flow::{Flow, Inner, InnerProto, Kind, Tunnel},
    interface::{Interface, Origin},
    overlay::{Device, Overlay},
    rows::Rows,
    snapshot::{Interval, Snapshot},
};

/// Second `n` of a host: what it sends and receives.
fn second(n: u64) -> Vec<Flow> {
    let peer = |p: u8| 2 + p % 20;
    let mut flows = Vec::new();
    // Requests and as many answers; some conversations pause, some end for good.
    for p in 0..10 {
        let busy = !(n / (7 + u64::from(p))).is_multiple_of(3);
        if busy {
            flows.push(talk(peer(p), Some((1, 100 + p)), 20, 18));
        }
    }
    if n < 600 {
        flows.push(talk(peer(3), Some((1, 140)), 50, 50));
    }
    // Logs and metrics in one direction, and media that stops in one direction.
    flows.push(talk(peer(11), Some((1, 150)), 200, 0));
    flows.push(talk(peer(12), Some((2, 151)), 0, 300));
    flows.push(talk(peer(13), Some((1, 152)), 50, u64::from(n.is_multiple_of(60))));
    // Address resolution for everybody; most do not answer.
    for p in 0..20 {
        flows.push(talk(
            peer(p),
            None,
            u64::from(n.is_multiple_of(4)),
            u64::from(n % 37 == u64::from(p)),
        ));
    }
    // Multicast.
    flows.push(talk(239, Some((1, 239)), 5, 0));
    // A gateway address that every leaf has, seen from all of them in turn.
    flows.push(talk(peer((n % 6) as u8), Some((1, 254)), 1, 1));
    // A router's address that moves twice in the half hour, together with its hardware address.
    flows.push(talk(peer(if (n / 700).is_multiple_of(2) { 14 } else { 15 }), Some((1, 253)), 3, 3));
    // A virtual machine that migrates while it works, and is away for three seconds.
    match n {
        0..900 => flows.push(talk(peer(16), Some((1, 160)), 30, 30)),
        900..903 => flows.push(talk(peer(16), Some((1, 160)), 8, 0)),
        _ => flows.push(talk(peer(17), Some((1, 160)), 30, 30)),
    }
    // All hosts boot after a power cut.
    if (1200..1204).contains(&n) {
        flows.push(talk(peer(18), None, 900, 900));
    }
    // WireGuard rekeys every two minutes and is silent for a second; an idle peer sends keepalives.
    let wireguard = Tunnel { kind: Kind::Wireguard, id: None };
    let encrypted = |peer, sent, received| {
        let mut flow = talk_in(wireguard, peer, None, sent, received);
        flow.key.inner = Inner::Proto(InnerProto(InnerProto::REASON | 1));
        flow
    };
    if !n.is_multiple_of(120) {
        flows.push(encrypted(40, 100, 90));
    }
    if n.is_multiple_of(25) {
        flows.push(encrypted(41, 1, 0));
    }
    if n % 25 == 12 {
        flows.push(encrypted(41, 0, 1));
    }
    flows
}

#[test]
fn half_an_hour_without_faults_has_no_bad_finding() {
    let device = Device {
        netns: None,
        name: "vxlan0".to_owned(),
        kind: Kind::Vxlan,
        id: Some(7),
        port: Some(4789),
        up: true,
    };
    let overlay = Overlay {
        devices: vec![device],
        addresses: [(host(1), vec![None]), (client(1), vec![None])].into_iter().collect(),
        neighbours: [(client(253), [0, 0, 0x5e, 0, 1, 53])].into_iter().collect(),
        ..Overlay::default()
    };
    let mut stage = Stage { overlay: Some(overlay), ..Stage::default() };
    for n in 0..1800 {
        stage.second(&second(n));
        let bad: Vec<_> = stage
            .open()
            .into_iter()
            .filter(|(_, severity, _)| *severity == Severity::Bad)
            .collect();
        assert!(bad.is_empty(), "second {n}: {bad:?}");
    }
    let all: Vec<_> = stage.detectors.findings().map(|f| f.text.clone()).collect();
    assert!(all.len() <= 6, "notes are few: {all:#?}");
}

/// The same flow as the other end counts it.
fn mirrored(flow: &Flow) -> Flow {
    let mut flow = *flow;
    flow.counters.cells.reverse();
    flow
}

#[test]
fn ten_minutes_without_faults_in_a_fleet_have_no_bad_finding() {
    let at = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + n);
    let mut fleet = Fleet::new(Origin::default());
    let (mut detectors, mut before) = (Detectors::default(), None::<Snapshot>);
    for n in 0..600 {
        let flows = second(n);
        // Half of the other hosts are in the fleet as well.
        for who in std::iter::once(1).chain((2..22).step_by(2)) {
            let own = flows.iter().filter_map(|f| match who {
                1 => Some(*f),
                peer => f.key.outer.filter(|p| p.second == host(peer)).map(|_| mirrored(f)),
            });
            let mut rows = Rows::default();
            own.zip(0..).for_each(|(f, place)| rows.push_flow(place, &f));
            let (span, eth0) = (Duration::from_secs(1), vec![Interface::new(0, "eth0")]);
            let mut interval = Interval::new(at(n), at(n + 1), span, eth0, rows);
            interval.origin.host = format!("node-{who}").into();
            let told = Told {
                interval: &interval,
                counts: true,
                local: &[host(who)],
                seq: n,
                cadence: span,
                clock: Some(Duration::from_millis(1)),
                reading: Duration::ZERO,
                tool: "",
                leaves: false,
            };
            fleet.hear(&told, Duration::from_secs(n));
        }
        fleet.look(Duration::from_secs(n));
        let now = fleet.snapshot();
        if let Some(before) = before.replace(now.clone()) {
            detectors.step(&now.since(&before), None);
        }
        let bad = detectors.findings().filter(|f| f.severity == Severity::Bad);
        let bad: Vec<_> = bad.map(|f| f.text.as_str()).collect();
        assert!(bad.is_empty(), "second {n}: {bad:?}");
    }
    assert_eq!(fleet.notices(), Vec::<String>::new());
}
