// SPDX-License-Identifier: MIT OR Apache-2.0
//! `duplicate` and `moved`: an inner address that alternates between two endpoints or changes once
//! (RFC 7432, section 15.1: five changes in 180 seconds are a duplicate).
use std::{collections::BTreeMap, net::IpAddr};

use super::{
    Evidence, Severity, Sighting, Subject, Topic,
    past::{Home, MOVES, Moment},
};
use crate::flow::Tunnel;

/// This many changes within [`MOVES`] mean that two hosts have the address.
const CHANGES: usize = 5;
/// An address behind this many endpoints at a time is so by design: an anycast gateway.
const ANYCAST: usize = 4;
/// If this many addresses alternate between the same two endpoints, these are two paths to them,
/// such as two routers, and the addresses are not assigned twice.
const ROUTED: usize = 3;

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let own = |a: IpAddr| look.overlay.is_some_and(|o| o.is_own(a));
    let homes = &look.past.homes;
    // Several routers may lead to a routed network: each of their endpoints sends for it.
    let is_routed = |tunnel| {
        let segment = look.overlay.and_then(|o| o.segments.get(tunnel));
        segment.is_some_and(|segment| segment.is_routed)
    };
    let mut together = BTreeMap::<_, usize>::new();
    for ((tunnel, _), home) in homes.iter().filter(|(_, home)| recent(look, home).1 >= CHANGES) {
        *together.entry((*tunnel, ends(home))).or_default() += 1;
    }
    let mut found: Vec<Sighting> = homes
        .iter()
        .filter(|((tunnel, _), _)| !is_routed(tunnel))
        .filter(|(_, home)| !home.changes.is_empty() && home.endpoints.len() < ANYCAST)
        // An address that this host has in common with others is a gateway's; and all outer
        // addresses of one host are the same endpoint.
        .filter(|((_, address), home)| {
            !own(*address) && !home.endpoints.iter().all(|(e, _)| own(*e))
        })
        .filter(|((_, address), _)| !is_virtual(look, *address))
        .filter_map(|((tunnel, address), home)| {
            let together = together.get(&(*tunnel, ends(home))).copied().unwrap_or(0);
            sighting(look, *tunnel, *address, home, together)
        })
        .collect();
    found.sort_unstable_by(|a, b| a.place.cmp(&b.place));
    found
}

/// Whether the MAC address of an inner address belongs to a virtual router (RFC 5798, section 7.3),
/// which moves by design.
fn is_virtual(look: &Evidence<'_>, address: IpAddr) -> bool {
    let mac = look.overlay.and_then(|o| o.neighbours.get(&address));
    matches!(mac, Some([0, 0, 0x5e, 0, 1 | 2, _]))
}

/// The last two endpoints of an address, in order.
fn ends(home: &Home) -> [Option<IpAddr>; 2] {
    let mut ends = [Some(home.endpoint), home.before.map(|(endpoint, _)| endpoint)];
    ends.sort_unstable();
    ends
}

/// The first of the recent changes, and how many there are.
fn recent(look: &Evidence<'_>, home: &Home) -> (Option<Moment>, usize) {
    let changes = home.changes.iter().filter(|m| look.past.ago(**m) <= MOVES);
    (changes.clone().next().copied(), changes.count())
}

/// Makes the sighting. `together` is the number of addresses that alternate between these
/// endpoints.
fn sighting(
    look: &Evidence<'_>,
    tunnel: Tunnel,
    address: IpAddr,
    home: &Home,
    together: usize,
) -> Option<Sighting> {
    let (first, changes) = recent(look, home);
    let first = first?;
    let (before, last) = home.before?;
    let seconds = look.past.ago(first).as_secs().max(1);
    let place = Subject { tunnel: Some(tunnel), inner_from: Some(address), ..Subject::default() };
    let now = home.endpoint;
    let (topic, severity, text, counts) = if changes >= CHANGES {
        let mut text = format!(
            "{address} of {tunnel} alternates between {now} and {before}: {changes} changes in {seconds} s"
        );
        let severity = if together >= ROUTED {
            text += &format!(", like {} other addresses: both may be routers", together - 1);
            Severity::Note
        } else {
            Severity::Bad
        };
        let counts = BTreeMap::from([("changes_in_all", changes as u64)]);
        (Topic::Duplicate, severity, text, counts)
    } else {
        let dark = first.clock.saturating_sub(last.clock);
        let text = format!(
            "{address} of {tunnel} moved from {before} to {now}; it was not seen for {:.1} s",
            dark.as_secs_f64()
        );
        let counts =
            BTreeMap::from([("changes_in_all", changes as u64), ("dark_seconds", dark.as_secs())]);
        (Topic::Moved, Severity::Note, text, counts)
    };
    Some(Sighting {
        topic,
        severity,
        place,
        since: Some(first.time),
        text,
        counts,
        stays: std::time::Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::{
        super::stage::{Stage, client, host, talk},
        Severity, Topic,
    };
    use crate::{
        flow::{Flow, Kind, Tunnel},
        overlay::{Overlay, Segment},
    };

    fn behind(peer: u8) -> Flow {
        talk(peer, Some((1, 9)), 0, 1)
    }

    #[test]
    fn an_address_that_alternates_between_endpoints_is_a_duplicate() {
        let mut stage = Stage::default();
        for second in 0..6 {
            stage.second(&[behind(2 + second % 2)]);
        }
        assert_eq!(
            stage.open(),
            [(
                Topic::Duplicate,
                Severity::Bad,
                "192.168.0.9 of vxlan 7 alternates between 172.16.1.3 and 172.16.1.2: 5 changes in 4 s"
            )]
        );
        // The address is behind both in every interval.
        let mut stage = Stage::default();
        stage.seconds(6, &[behind(2), behind(3)]);
        assert!(stage.open().iter().any(|f| f.0 == Topic::Duplicate), "{:?}", stage.open());
        // RFC 7432: it ends once there have been fewer than five changes within 180 seconds.
        stage.seconds(190, &[behind(2)]);
        assert_eq!(stage.open(), []);
    }

    #[test]
    fn addresses_behind_two_routers_are_not_duplicates() {
        let through = |gateway: u8| [9, 10, 11].map(|from| talk(gateway, Some((1, from)), 0, 1));
        let turns = |overlay| {
            let mut stage = Stage { overlay, ..Stage::default() };
            for second in 0..6 {
                stage.second(&through(2 + second % 2));
            }
            stage.open().into_iter().map(|(t, s, text)| (t, s, text.to_owned())).collect::<Vec<_>>()
        };
        let open = turns(None);
        assert_eq!(open.len(), 3);
        assert!(open.iter().all(|f| (f.0, f.1) == (Topic::Duplicate, Severity::Note)), "{open:?}");
        assert!(open[0].2.ends_with("in 4 s, like 2 other addresses: both may be routers"));
        // Nothing is reported on a host that knows that the id is routed.
        let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(7) };
        let red = Segment { vrf: Some("red".to_owned()), is_routed: true, ..Segment::default() };
        let segments = [(tunnel, red)].into_iter().collect();
        assert_eq!(turns(Some(Overlay { segments, ..Overlay::default() })), []);
    }

    #[test]
    fn a_move_reports_how_long_the_address_was_unseen() {
        let mut stage = Stage::default();
        stage.seconds(3, &[behind(2)]);
        stage.seconds(21, &[]);
        stage.second(&[behind(3)]);
        assert_eq!(
            stage.open(),
            [(
                Topic::Moved,
                Severity::Note,
                "192.168.0.9 of vxlan 7 moved from 172.16.1.2 to 172.16.1.3; it was not seen for 22.0 s"
            )]
        );
    }

    #[test]
    fn gateways_and_virtual_routers_are_not_duplicates() {
        let turns = |overlay: Overlay, endpoints: u8| {
            let mut stage = Stage { overlay: Some(overlay), ..Stage::default() };
            for second in 0..60 {
                stage.second(&[behind(2 + second % endpoints)]);
            }
            stage.open().iter().filter(|f| f.1 == Severity::Bad).count()
        };
        assert_eq!(turns(Overlay::default(), 2), 1);
        assert_eq!(turns(Overlay::default(), 4), 0, "anycast");
        let has = |own: &[IpAddr]| Overlay {
            addresses: own.iter().map(|a| (*a, vec![None])).collect(),
            ..Overlay::default()
        };
        assert_eq!(turns(has(&[client(9)]), 2), 0, "this host has it as well");
        let vrrp = [(client(9), [0, 0, 0x5e, 0, 1, 20])].into_iter().collect();
        assert_eq!(turns(Overlay { neighbours: vrrp, ..Overlay::default() }, 2), 0, "VRRP");
        assert_eq!(turns(has(&[host(2), host(3)]), 2), 0, "two outer addresses of this host");
    }
}
