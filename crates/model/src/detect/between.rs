// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lost_between`: packets that one host of a fleet sends and another does not receive, or receives
//! twice.
use std::{collections::BTreeMap, time::Duration};

use super::{Evidence, Severity, Sighting, Subject, Topic, lost::is_much};
use crate::{
    ends::{Judged, Verdict, Window, split},
    lane::Balance,
    units::percent,
};

/// How long the finding stays open after it was last seen.
const STAYS: Duration = Duration::from_secs(15);
/// How many members of a group are named.
const NAMED: usize = 3;

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let ends = &look.past.ends;
    if !ends.has_closed() {
        return Vec::new();
    }
    let stays = STAYS.max(3 * ends.pace());
    let found = ends.judge().into_iter().filter_map(|judged| {
        let (severity, text) = said(look, &judged)?;
        Some(sighting(&judged, severity, text, stays))
    });
    found.collect()
}

fn sighting(judged: &Judged, severity: Severity, text: String, stays: Duration) -> Sighting {
    let lane = judged.lane;
    let mut counts = BTreeMap::from([("sent_pkts_in_all", judged.in_all[0])]);
    if !lane.to.is_multicast() {
        counts.insert("received_pkts_in_all", judged.in_all[1]);
        counts.insert("lost_pkts_in_all", judged.in_all[0].saturating_sub(judged.in_all[1]));
        counts.insert("bound_pkts_in_all", judged.short.bound);
    }
    for (n, name) in
        judged.dropped.into_iter().zip(["left_dropped_pkts_in_all", "arrived_dropped_pkts_in_all"])
    {
        if n > 0 {
            counts.insert(name, n);
        }
    }
    Sighting {
        topic: Topic::LostBetween,
        severity,
        place: Subject {
            tunnel: Some(lane.tunnel),
            outer_from: Some(lane.from),
            outer_to: Some(lane.to),
            ..Subject::default()
        },
        since: None,
        text,
        counts,
        stays,
    }
}

/// The severity and the sentence, if there is something to report.
fn said(look: &Evidence<'_>, judged: &Judged) -> Option<(Severity, String)> {
    let called = |hosts: &[u16]| {
        let names: Vec<String> = hosts.iter().filter_map(|h| look.interface(*h)).collect();
        names.join(" or ")
    };
    let (from, to, tunnel) = (called(&judged.from), called(&judged.to), judged.lane.tunnel);
    match &judged.verdict {
        Verdict::OneEnd(_) | Verdict::Both(Balance::Even) => None,
        Verdict::Both(Balance::Lost(_)) => {
            let (severity, lost) = loss(judged);
            let parts = parts(judged, &from, &to, &called);
            Some((severity, format!("{tunnel} from {from} to {to}: {lost}{parts}")))
        }
        Verdict::Both(Balance::Surplus(_)) => {
            let w = speaking(judged);
            let text = format!(
                "{to} receives more of {tunnel} than {from} sends: {} packets and {} in {} (± {}): copies, or fragments made on the way",
                w.received,
                w.sent,
                seconds(w),
                w.bound
            );
            Some((Severity::Note, text))
        }
        Verdict::BlackHole { known } => {
            let w = judged.short;
            let sent =
                format!("{from} sends {tunnel} to {to}, {} packets in {}", w.sent, seconds(w));
            Some(match known {
                true => (Severity::Bad, format!("{sent}, and {to} sees none of it")),
                false => {
                    let perhaps = "nor anything else there: it may watch another interface";
                    (Severity::Note, format!("{sent}, and {to} sees none of it, {perhaps}"))
                }
            })
        }
        Verdict::Translated(lane, balance) => {
            let way = if lane.from == judged.lane.from {
                format!(
                    "{tunnel} from {from} to {} arrives at {to} with destination {}",
                    judged.lane.to, lane.to
                )
            } else {
                format!("{tunnel} from {from} arrives at {to} with source {}", lane.from)
            };
            let (severity, lost) = match balance {
                Balance::Lost(_) => loss(judged),
                _ => (Severity::Note, "all of it".to_owned()),
            };
            Some((severity, format!("{way} (address translation): {lost}")))
        }
        Verdict::Group(members) => group(look, judged, &from, members),
    }
}

fn seconds(w: Window) -> String {
    format!("{} s", w.span.as_secs())
}

/// The window to report: the short one, if it shows a loss.
fn speaking(judged: &Judged) -> Window {
    match judged.short.balance() {
        Balance::Even => judged.long.unwrap_or(judged.short),
        _ => judged.short,
    }
}

fn loss(judged: &Judged) -> (Severity, String) {
    let w = speaking(judged);
    let lost = w.sent.saturating_sub(w.received);
    let share = percent(lost, w.sent);
    let text =
        format!("{share} is lost, {lost} of {} packets in {} (± {})", w.sent, seconds(w), w.bound);
    let text = match judged.long.filter(|long| *long != w) {
        Some(long) => {
            let lost = percent(long.sent.saturating_sub(long.received), long.sent);
            format!("{text}, {lost} in {}", seconds(long))
        }
        None => text,
    };
    (severity(lost, w.sent), text)
}

fn severity(lost: u64, sent: u64) -> Severity {
    let bad = is_much(lost, sent);
    if bad { Severity::Bad } else { Severity::Note }
}

/// Where packets are lost, as far as devices and hosts on the path show it.
fn parts(judged: &Judged, from: &str, to: &str, called: &dyn Fn(&[u16]) -> String) -> String {
    let w = judged.short;
    let Balance::Lost(lost) = w.balance() else { return String::new() };
    let mut said = Vec::new();
    if judged.dropped != [0; 2] {
        let [left, arrived, way] = split(lost, judged.dropped);
        let told = [
            (left, format!("dropped by {from} as they left")),
            (arrived, format!("dropped by {to} as they arrived")),
            (way, "lost on the way".to_owned()),
        ];
        let told = told.into_iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} {how}"));
        said.push(told.collect::<Vec<_>>().join(", "));
    }
    for (host, n) in &judged.passed {
        let before = w.sent.saturating_sub(*n);
        let behind = n.saturating_sub(w.received);
        said.push(format!("{before} before {}, {behind} behind it", called(&[*host])));
    }
    if said.is_empty() { String::new() } else { format!("; of these {}", said.join("; ")) }
}

/// The members of a group that do not receive everything that is sent.
fn group(
    look: &Evidence<'_>,
    judged: &Judged,
    from: &str,
    members: &[(u16, Window)],
) -> Option<(Severity, String)> {
    let mut worst: Vec<(u64, u16)> = Vec::new();
    for (host, w) in members {
        if let Balance::Lost(lost) = w.balance() {
            worst.push((lost, *host));
        }
    }
    worst.sort_unstable_by(|a, b| b.cmp(a));
    let (most, _) = *worst.first()?;
    let named = worst.iter().take(NAMED).filter_map(|(lost, host)| {
        Some(format!("{} {} less", look.interface(*host)?, percent(*lost, judged.short.sent)))
    });
    let mut named: Vec<String> = named.collect();
    if worst.len() > NAMED {
        named.push(format!("{} others less", worst.len() - NAMED));
    }
    let (group, tunnel) = (judged.lane.to, judged.lane.tunnel);
    let text = format!(
        "{group} by {tunnel} from {from}: {} of {} receive all of {} packets in {}, {}",
        members.len() - worst.len(),
        members.len(),
        judged.short.sent,
        seconds(judged.short),
        named.join(", ")
    );
    Some((severity(most, judged.short.sent), text))
}

#[cfg(test)]
mod tests {
    use std::{
        net::IpAddr,
        sync::Arc,
        time::{Duration, SystemTime},
    };

    use super::super::{Detectors, Severity, Topic};
    use crate::{
        drops::{DeviceDrops, Drops},
        fleet::{Fleet, Told},
        flow::{Count, Counters, Flow, Inner, Key, Kind, Pair, Tunnel},
        interface::{Interface, Origin},
        rows::Rows,
        snapshot::{Interval, Snapshot},
    };

    fn address(n: u8) -> IpAddr {
        [10, 0, 0, n].into()
    }

    /// What a host reports of one direction of VXLAN 7: packets that it sends, receives, or sees in
    /// transit.
    #[derive(Clone, Copy)]
    enum Saw {
        Sent(IpAddr, IpAddr, u64),
        Received(IpAddr, IpAddr, u64),
    }
    use Saw::{Received, Sent};

    fn flow(saw: Saw) -> Flow {
        let (from, to, packets, hook) = match saw {
            Received(from, to, n) => (from, to, n, 0),
            Sent(from, to, n) => (from, to, n, 1),
        };
        let way = usize::from(from > to);
        let inner = [[192, 168, 0, 1].into(), [192, 168, 0, 2].into()];
        let key = Key {
            outer: Some(Pair { first: from.min(to), second: from.max(to) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(7) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: inner[way], second: inner[1 - way] }),
            other: false,
        };
        let mut counters = Counters::default();
        counters.cells[hook][way] = Count { packets, bytes: packets * 100 };
        Flow { interface: 0, key, counters }
    }

    struct World {
        fleet: Fleet,
        detectors: Detectors,
        before: Option<Snapshot>,
        second: u64,
        /// A host's clock error, and the precision that it claims.
        clock: (u8, i64),
        error: Option<Duration>,
        /// Drops by devices: host, on transmit, on receive.
        dropped: Vec<(u8, u64, u64)>,
    }

    impl World {
        fn new() -> World {
            World {
                fleet: Fleet::new(Origin::default()),
                detectors: Detectors::default(),
                before: None,
                second: 1000,
                clock: (0, 0),
                error: Some(Duration::from_millis(1)),
                dropped: Vec::new(),
            }
        }

        /// Lets this many seconds pass in which hosts (by the last byte of their addresses) report
        /// this.
        fn seconds(&mut self, n: u64, told: &[(u8, &[Saw])]) -> &mut World {
            for _ in 0..n {
                self.second += 1;
                for (host, saw) in told {
                    self.tells(*host, saw);
                }
                self.fleet.look(Duration::from_secs(self.second));
                let now = self.fleet.snapshot();
                if let Some(before) = self.before.replace(now.clone()) {
                    self.detectors.step(&now.since(&before), None);
                }
            }
            self
        }

        fn tells(&mut self, host: u8, saw: &[Saw]) {
            let off = if self.clock.0 == host { self.clock.1 } else { 0 };
            let t = |n: u64| {
                SystemTime::UNIX_EPOCH
                    + Duration::from_millis((n * 1000).saturating_add_signed(off))
            };
            let mut rows = Rows::default();
            saw.iter().zip(0..).for_each(|(saw, place)| rows.push_flow(place, &flow(*saw)));
            let (second, eth0) = (Duration::from_secs(1), vec![Interface::new(0, "eth0")]);
            let mut interval =
                Interval::new(t(self.second - 1), t(self.second), second, eth0, rows);
            interval.origin.host = format!("node-{host}").into();
            if let Some((_, left, arrived)) = self.dropped.iter().find(|d| d.0 == host) {
                let counted =
                    DeviceDrops { qdisc: *left, rx_missed: *arrived, ..DeviceDrops::default() };
                let mut drops = Drops::default();
                drops.devices.insert((None, "eth0".into()), counted);
                interval.drops = Some(Arc::new(drops));
            }
            let told = Told {
                interval: &interval,
                counts: true,
                local: &[address(host)],
                seq: self.second,
                cadence: second,
                clock: self.error,
                reading: Duration::ZERO,
                tool: "",
                leaves: false,
            };
            self.fleet.hear(&told, Duration::from_secs(self.second));
        }

        /// The findings about two ends.
        fn found(&self) -> Vec<(Severity, &str)> {
            let open = self.detectors.findings().filter(|f| f.until.is_none());
            let open = open.filter(|f| f.topic == Topic::LostBetween);
            open.map(|f| (f.severity, f.text.as_str())).collect()
        }
    }

    /// 1 sends this many to 2, and this many arrive.
    fn ends(sent: u64, received: u64) -> [Vec<Saw>; 2] {
        let (a, b) = (address(1), address(2));
        [vec![Sent(a, b, sent)], vec![Received(a, b, received)]]
    }

    fn both(seconds: u64, [a, b]: &[Vec<Saw>; 2]) -> World {
        let mut world = World::new();
        world.seconds(seconds, &[(1, a), (2, b)]);
        world
    }

    #[test]
    fn agreement_within_the_bound_is_not_a_finding() {
        assert_eq!(both(80, &ends(1000, 1000)).found(), []);
        // Four milliseconds at 1,000 packets a second: four packets per window, which hides a loss
        // of one in 2,500.
        assert_eq!(both(30, &ends(1000, 1000)).found(), []);
        let mut world = World::new();
        let [a, b] = ends(1000, 1000);
        let [_, less] = ends(1000, 997);
        world.seconds(20, &[(1, &a), (2, &b)]).seconds(1, &[(1, &a), (2, &less)]);
        world.seconds(14, &[(1, &a), (2, &b)]);
        assert_eq!(world.found(), [], "three packets may be on the way");
    }

    #[test]
    fn loss_is_reported_with_its_bound() {
        let world = both(26, &ends(1000, 985));
        let text =
            "vxlan 7 from node-1 to node-2: 1.5 % is lost, 150 of 10000 packets in 10 s (± 4)";
        assert_eq!(world.found(), [(Severity::Bad, text)]);
        let world = both(26, &ends(1000, 997));
        let text =
            "vxlan 7 from node-1 to node-2: 0.3 % is lost, 30 of 10000 packets in 10 s (± 4)";
        assert_eq!(world.found(), [(Severity::Note, text)]);
    }

    #[test]
    fn the_long_window_detects_small_losses() {
        let mut world = World::new();
        world.error = Some(Duration::from_millis(10));
        let [a, b] = ends(1000, 998);
        world.seconds(40, &[(1, &a), (2, &b)]);
        assert_eq!(world.found(), [], "20 of 10,000 are within 22");
        world.seconds(40, &[(1, &a), (2, &b)]);
        let text =
            "vxlan 7 from node-1 to node-2: 0.2 % is lost, 120 of 60000 packets in 60 s (± 22)";
        assert_eq!(world.found(), [(Severity::Note, text)]);
    }

    #[test]
    fn it_ends_when_everything_arrives_again() {
        let mut world = both(26, &ends(1000, 900));
        assert_eq!(world.found().len(), 1);
        let [a, b] = ends(1000, 1000);
        world.seconds(100, &[(1, &a), (2, &b)]);
        assert_eq!(world.found(), []);
    }

    #[test]
    fn devices_and_hosts_on_the_path_locate_the_loss() {
        let mut world = World::new();
        world.dropped = vec![(1, 9, 0), (2, 0, 3)];
        let [a, b] = ends(1000, 980);
        let way = [Received(address(1), address(2), 990)];
        world.seconds(26, &[(1, &a), (2, &b), (9, &way)]);
        let text = "vxlan 7 from node-1 to node-2: 2.0 % is lost, 200 of 10000 packets in 10 s (± 4); \
                    of these 90 dropped by node-1 as they left, 30 dropped by node-2 as they arrived, \
                    80 lost on the way; 100 before node-9, 100 behind it";
        assert_eq!(world.found(), [(Severity::Bad, text)]);
    }

    #[test]
    fn more_received_than_sent_is_surplus() {
        let text = "node-2 receives more of vxlan 7 than node-1 sends: 11000 packets and 10000 in 10 s (± 5): \
                    copies, or fragments made on the way";
        assert_eq!(both(26, &ends(1000, 1100)).found(), [(Severity::Note, text)]);
    }

    #[test]
    fn a_single_end_yields_no_finding() {
        let [a, b] = ends(1000, 900);
        let alone = |host, saw: &[Saw]| {
            let mut world = World::new();
            world.seconds(30, &[(host, saw)]);
            world.found().len()
        };
        assert_eq!([alone(1, &a), alone(2, &b)], [0, 0]);
        let mut silent = both(20, &ends(1000, 1000));
        silent.seconds(30, &[(1, &a)]);
        assert_eq!(silent.found(), [], "the other is silent");
        // The sender has another uplink, which it does not watch.
        let mut unseen = World::new();
        unseen.seconds(30, &[(1, &[]), (2, &b)]);
        assert_eq!(unseen.found(), []);
    }

    #[test]
    fn missing_readings_are_not_loss() {
        let [a, b] = ends(1000, 1000);
        let mut world = both(30, &ends(1000, 1000));
        world.seconds(1, &[(1, &a)]).seconds(40, &[(1, &a), (2, &b)]);
        assert_eq!(world.found(), [], "2 was started again, or its second was lost");
    }

    #[test]
    fn a_wrong_clock_is_reported_instead_of_loss() {
        let mut world = World::new();
        world.clock = (2, -340);
        let [a, b] = ends(1000, 900);
        world.seconds(30, &[(1, &a), (2, &b), (3, &[])]);
        assert_eq!(world.found(), []);
        let said = world.fleet.notices();
        assert_eq!(said, ["node-2's clock is 340 ms off: no loss is reported"]);
        // A clock that nothing synchronises has a wide bound.
        let mut world = World::new();
        world.error = None;
        world.seconds(30, &[(1, &a), (2, &ends(1000, 985)[1])]);
        assert_eq!(world.found(), [], "150 packets are within 200");
    }

    #[test]
    fn a_black_hole_is_reported_if_the_receiver_would_see_the_packets() {
        let [a, b] = ends(1000, 1000);
        let mut world = both(20, &ends(1000, 1000));
        world.seconds(40, &[(1, &a), (2, &[])]);
        let text =
            "node-1 sends vxlan 7 to node-2, 10000 packets in 10 s, and node-2 sees none of it";
        assert_eq!(world.found(), [(Severity::Bad, text)]);
        world.seconds(80, &[(1, &a), (2, &b)]);
        assert_eq!(world.found(), []);
        let mut world = World::new();
        world.seconds(40, &[(1, &a), (2, &[])]);
        let text = "node-1 sends vxlan 7 to node-2, 10000 packets in 10 s, and node-2 sees none of it, \
                    nor anything else there: it may watch another interface";
        assert_eq!(world.found(), [(Severity::Note, text)]);
    }

    #[test]
    fn translated_addresses_are_matched() {
        let (a, b, nat) = (address(1), address(2), IpAddr::from([198, 51, 100, 4]));
        let mut world = World::new();
        world.seconds(40, &[(1, &[Sent(a, b, 1000)]), (2, &[Received(nat, b, 1000)])]);
        let text = "vxlan 7 from node-1 arrives at node-2 with source 198.51.100.4 (address translation): all of it";
        assert_eq!(world.found(), [(Severity::Note, text)]);
        world.seconds(40, &[(1, &[Sent(a, b, 1000)]), (2, &[Received(nat, b, 950)])]);
        let [(severity, text)] = world.found()[..] else { panic!("{:?}", world.found()) };
        assert_eq!(severity, Severity::Bad);
        assert!(text.contains("(address translation): 5.0 % is lost, 500 of 10000"), "{text}");
        // A service address that a load balancer translates to its own.
        let mut world = World::new();
        let service = IpAddr::from([203, 0, 113, 9]);
        world.seconds(40, &[(1, &[Sent(a, service, 1000)]), (2, &[Received(a, b, 1000)])]);
        let text = "vxlan 7 from node-1 to 203.0.113.9 arrives at node-2 with destination 10.0.0.2 (address translation): all of it";
        assert_eq!(world.found(), [(Severity::Note, text)]);
        // Two candidates: ambiguous.
        let (other, both) = (IpAddr::from([198, 51, 100, 5]), |n| Received(n, b, 1000));
        let mut world = World::new();
        world.seconds(40, &[(1, &[Sent(a, b, 1000)]), (2, &[both(nat), both(other)])]);
        assert!(
            !world.found().iter().any(|(_, t)| t.contains("translation")),
            "{:?}",
            world.found()
        );
    }

    #[test]
    fn each_group_member_is_judged_separately() {
        let (a, group) = (address(1), IpAddr::from([239, 1, 1, 1]));
        let mut world = World::new();
        let [all, less] = [1000, 980].map(|n| [Received(a, group, n)]);
        let sent = [Sent(a, group, 1000)];
        world.seconds(26, &[(1, &sent), (2, &all), (3, &less), (4, &all)]);
        let text = "239.1.1.1 by vxlan 7 from node-1: 2 of 3 receive all of 10000 packets in 10 s, node-3 2.0 % less";
        assert_eq!(world.found(), [(Severity::Bad, text)]);
        let mut world = World::new();
        world.seconds(26, &[(1, &sent), (2, &all), (3, &all)]);
        assert_eq!(world.found(), []);
    }

    #[test]
    fn hosts_that_share_an_address_count_together() {
        let (a, any) = (address(1), address(9));
        let mut world = World::new();
        let local = |world: &mut World, host: u8, saw: &[Saw]| {
            let t = |n: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(n);
            let mut rows = Rows::default();
            saw.iter().zip(0..).for_each(|(saw, place)| rows.push_flow(place, &flow(*saw)));
            let (at, second) = (world.second + 1, Duration::from_secs(1));
            let eth0 = vec![Interface::new(0, "eth0")];
            let mut interval = Interval::new(t(at - 1), t(at), second, eth0, rows);
            interval.origin.host = format!("node-{host}").into();
            let told = Told {
                interval: &interval,
                counts: true,
                local: &[address(host), any],
                seq: at,
                cadence: second,
                clock: world.error,
                reading: Duration::ZERO,
                tool: "",
                leaves: false,
            };
            world.fleet.hear(&told, Duration::from_secs(at));
        };
        for (halves, found) in [([500, 500], 0), ([500, 480], 1)] {
            for _ in 0..26 {
                local(&mut world, 2, &[Received(a, any, halves[0])]);
                local(&mut world, 3, &[Received(a, any, halves[1])]);
                world.seconds(1, &[(1, &[Sent(a, any, 1000)])]);
            }
            assert_eq!(world.found().len(), found, "{:?}", world.found());
        }
        assert!(world.found()[0].1.contains("to node-2 or node-3: 2.0 % is lost"));
    }
}
