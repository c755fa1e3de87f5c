// SPDX-License-Identifier: MIT OR Apache-2.0
//! `no_device`: an id arrives at this host, and no device in any namespace accepts it, although the
//! kernel has devices of that kind.
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Evidence, Severity, Sighting, Subject, Topic};
use crate::flow::{Count, Kind, Tunnel};

/// How long the finding stays open after the last packet.
const STAYS: Duration = Duration::from_secs(15);

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let Some(overlay) = look.overlay else { return Vec::new() };
    let mut found: BTreeMap<Subject, (IpAddr, Count)> = BTreeMap::new();
    for row in look.interval.rows.walk() {
        // Most rows are skipped here, before any of them is decoded.
        let Tunnel { kind: kind @ (Kind::Vxlan | Kind::Geneve), id: Some(id) } = row.outermost()
        else {
            continue;
        };
        let netns = look.netns(row.interface());
        if overlay.takes(netns, kind, id) {
            continue;
        }
        let flow = row.flow();
        let Some(outer) = flow.key.outer else { continue };
        // Packets that arrived and are for this host itself.
        for (way, from, to) in [(0, outer.first, outer.second), (1, outer.second, outer.first)] {
            let arrived = flow.counters.cells[0][way];
            // Multicast concerns only hosts that joined the group.
            let here = overlay.is_own_in(netns, to) && !to.is_multicast();
            if arrived.is_zero() || !here || overlay.is_own(from) {
                continue;
            }
            let place = Subject {
                interface: look.interface(flow.interface),
                tunnel: Some(flow.key.outermost),
                outer_to: Some(to),
                ..Subject::default()
            };
            found.entry(place).or_insert((from, Count::default())).1 += arrived;
        }
    }
    let sighting = |(place, (from, n)): (Subject, (IpAddr, Count))| {
        let text = format!(
            "{} arrives, from {from} and perhaps others, and no device here accepts it: {{}}",
            place.tunnel?
        );
        Some(Sighting {
            topic: Topic::NoDevice,
            severity: Severity::Bad,
            place,
            since: None,
            text,
            counts: BTreeMap::from([("pkts", n.packets), ("bytes", n.bytes)]),
            stays: STAYS,
        })
    };
    found.into_iter().filter_map(sighting).collect()
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{
        super::stage::{Stage, host, talk},
        Severity, Topic,
    };
    use crate::{
        flow::{Kind, Tunnel},
        overlay::{Device, Overlay, Segment},
    };

    fn staged(devices: Vec<Device>, address: IpAddr) -> Stage {
        let addresses = [(address, vec![None])].into_iter().collect();
        let overlay = Overlay { devices, addresses, ..Overlay::default() };
        let mut stage = Stage { overlay: Some(overlay), ..Stage::default() };
        stage.second(&[talk(2, Some((1, 2)), 3, 5)]);
        stage
    }

    fn device(id: Option<u32>, up: bool) -> Device {
        let (name, netns) = ("vxlan0".to_owned(), None);
        Device { name, netns, kind: Kind::Vxlan, id, port: Some(4789), up }
    }

    #[test]
    fn an_id_without_a_device_is_found() {
        let stage = staged(vec![device(Some(8), true), device(Some(7), false)], host(1));
        assert_eq!(
            stage.open(),
            [(
                Topic::NoDevice,
                Severity::Bad,
                "vxlan 7 arrives, from 172.16.1.2 and perhaps others, and no device here accepts it: 5 packets"
            )]
        );
    }

    #[test]
    fn findings_name_what_an_id_stands_for() {
        let red = Segment { vrf: Some("red".to_owned()), is_routed: true, ..Segment::default() };
        let tunnel = |id| Tunnel { kind: Kind::Vxlan, id: Some(id) };
        let segments = [(tunnel(7), red), (tunnel(70), Segment::default())].into_iter().collect();
        let addresses = [(host(1), vec![None])].into_iter().collect();
        let devices = vec![device(Some(8), true)];
        let overlay = Overlay { devices, addresses, segments, ..Overlay::default() };
        let mut stage = Stage { overlay: Some(overlay), ..Stage::default() };
        stage.second(&[talk(2, Some((1, 2)), 3, 5)]);
        let text = stage.open()[0].2;
        assert!(text.starts_with("vxlan 7 (VRF red) arrives, from "), "{text}");
    }

    #[test]
    fn ids_that_a_device_or_program_may_accept_are_not_found() {
        let both = vec![device(Some(8), true), device(Some(7), true)];
        assert_eq!(staged(both, host(1)).open(), []);
        let all = vec![device(Some(8), true), device(None, true)];
        assert_eq!(staged(all, host(1)).open(), [], "one that accepts all ids");
        assert_eq!(staged(vec![], host(1)).open(), [], "no device: another program may");
        let passes = staged(vec![device(Some(8), true)], host(9));
        assert_eq!(passes.open(), [], "not addressed to this host");
    }
}
