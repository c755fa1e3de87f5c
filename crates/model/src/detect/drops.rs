// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel dropped of tunnels here: `dropped`, and where the reason says more, `no_device`,
//! `wrong_vtep`, `checksum` or `mtu`.
use std::{collections::BTreeMap, net::IpAddr, time::Duration};

use super::{Evidence, Severity, Sighting, Subject, Topic, past::is_for_many};
use crate::{
    drops::{DropKey, Victim},
    flow::{Count, Inner, Pair},
};

/// It is said for so long after the last drop.
const STAYS: Duration = Duration::from_secs(15);

/// Drops that belong to how networks work: a copy that was flooded to everybody, a port that nobody
/// listens on, what TCP has already or cannot use.
const USUAL: [&str; 8] = [
    "OTHERHOST",
    "IPV6DISABLED",
    "UNHANDLED_PROTO",
    "NO_SOCKET",
    "UNICAST_IN_L2_MULTICAST",
    "TCP_OLD_DATA",
    "TCP_OFOMERGE",
    "TCP_RFC7323_PAWS",
];

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let Some(drops) = look.interval.drops.as_deref() else { return Vec::new() };
    let mut found: BTreeMap<(Topic, Subject), Count> = BTreeMap::new();
    for (key, dropped) in drops.rows.iter().filter(|(key, _)| !key.elsewhere) {
        let Victim::Tunnel(of) = key.victim else { continue };
        let topic = topic(&key.reason);
        for (way, n) in dropped.counts.into_iter().enumerate().filter(|(_, n)| !n.is_zero()) {
            let turn = |p: Pair| if way == 0 { (p.first, p.second) } else { (p.second, p.first) };
            let (outer, inner) = (of.outer.map(turn), of.inner.pair().map(turn));
            // A missing device is the tunnel's, whoever sends; a checksum is the sender's.
            let inner =
                inner.filter(|_| matches!(topic, Topic::Dropped | Topic::WrongVtep | Topic::Mtu));
            let by_id = topic == Topic::NoDevice;
            let place = Subject {
                interface: key.device.as_deref().map(str::to_owned),
                tunnel: (of.depth > 0).then_some(of.outermost),
                outer_from: outer.map(|o| o.0).filter(|_| !by_id),
                outer_to: outer.map(|o| o.1),
                inner_from: inner.map(|i| i.0),
                inner_to: inner.map(|i| i.1),
                reason: (!by_id).then(|| reason(key, of.inner)),
            };
            *found.entry((topic, place)).or_default() += n;
        }
    }
    found.into_iter().map(|((topic, place), n)| sighting(look, topic, place, n)).collect()
}

fn topic(reason: &str) -> Topic {
    match reason {
        "VXLAN_VNI_NOT_FOUND" => Topic::NoDevice,
        "VXLAN_ENTRY_EXISTS" => Topic::WrongVtep,
        "PKT_TOO_BIG" => Topic::Mtu,
        csum if csum.ends_with("_CSUM") => Topic::Checksum,
        _ => Topic::Dropped,
    }
}

/// The reason, with the protocol where the inside is no pair of addresses.
fn reason(key: &DropKey, inner: Inner) -> String {
    match inner {
        Inner::Proto(proto) if topic(&key.reason) == Topic::Dropped => {
            format!("{} ({proto})", key.reason)
        }
        _ => key.reason.to_string(),
    }
}

fn sighting(look: &Evidence<'_>, topic: Topic, place: Subject, n: Count) -> Sighting {
    let many = "{}";
    let tunnel = place.tunnel.map_or_else(|| "a tunnel".to_owned(), |t| t.to_string());
    let from = place.outer_from.map_or_else(|| "an unknown endpoint".to_owned(), |a| a.to_string());
    let reason = place.reason.as_deref().unwrap_or_default();
    let device = place.interface.as_ref().map_or_else(String::new, |d| format!(" at {d}"));
    let inner = match (place.inner_from, place.inner_to) {
        (Some(a), Some(b)) => format!(" for {a} to {b}"),
        _ => String::new(),
    };
    let text = match topic {
        Topic::NoDevice => {
            format!(
                "{tunnel} arrives and no device here takes it: the kernel dropped {many}{device}"
            )
        }
        Topic::WrongVtep => {
            let entry = place.inner_from.and_then(|a| {
                let entries = look.overlay?.entries_of(a);
                entries.iter().find(|e| Some(e.endpoint) != place.outer_from)
            });
            let says = entry.map_or_else(
                || "a forwarding entry names another endpoint".to_owned(),
                |e| format!("the forwarding entry of {} says {}", e.device, e.endpoint),
            );
            format!("{tunnel} from {from}{inner} is dropped, {many}: {says} ({reason})")
        }
        Topic::Mtu => {
            format!("{many} of {tunnel} from {from}{inner} were too big{device} ({reason})")
        }
        Topic::Checksum => {
            format!(
                "{many} of {tunnel} from {from} had a wrong checksum and were dropped{device} ({reason})"
            )
        }
        _ => format!("the kernel dropped {many} of {tunnel} from {from}{inner}{device}: {reason}"),
    };
    Sighting {
        topic,
        severity: severity(topic, &place),
        since: None,
        text,
        counts: BTreeMap::from([("dropped_bytes", n.bytes), ("dropped_pkts", n.packets)]),
        stays: STAYS,
        place,
    }
}

fn severity(topic: Topic, place: &Subject) -> Severity {
    let many = |a: Option<IpAddr>| a.is_some_and(is_for_many);
    let reason = place.reason.as_deref().unwrap_or_default();
    // Who is asked by broadcast and has not the address says nothing, and gives no reason.
    let usual = USUAL.iter().any(|usual| reason.split(' ').next() == Some(usual))
        || reason == "NOT_SPECIFIED (arp)";
    // What is for many is not meant for each of them.
    let for_many = many(place.outer_to) || many(place.inner_to) || place.inner_to.is_none();
    match topic {
        Topic::Dropped if usual || (for_many && place.inner_to.is_some()) => Severity::Note,
        _ => Severity::Bad,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{
            Change,
            stage::{Stage, talk},
        },
        Severity, Topic,
    };
    use crate::{
        drops::{DropKey, Dropped, Drops, Victim},
        flow::{Count, Flow},
    };

    /// So many of what comes back in a row, dropped for a reason.
    fn dropped(reason: &str, of: &Flow, packets: u64) -> (DropKey, Dropped) {
        let key = DropKey {
            reason: Arc::from(reason),
            netns: None,
            elsewhere: false,
            device: Some(Arc::from("eth0")),
            victim: Victim::Tunnel(of.key),
        };
        let count = Count { packets, bytes: packets * 134 };
        let (first, last) = (std::time::SystemTime::UNIX_EPOCH, std::time::SystemTime::UNIX_EPOCH);
        (key, Dropped { counts: [Count::default(), count], first, last })
    }

    fn said(reason: &str, packets: u64) -> (Topic, Severity, String) {
        let flow = talk(2, Some((1, 9)), 0, packets);
        let mut stage = Stage {
            drops: Some(Drops::new([dropped(reason, &flow, packets)])),
            ..Stage::default()
        };
        stage.second(&[flow]);
        let [(topic, severity, text)] = stage.open()[..] else {
            panic!("one finding: {:?}", stage.open())
        };
        (topic, severity, text.to_owned())
    }

    #[test]
    fn reasons_become_findings() {
        let of = |reason| said(reason, 5);
        for (reason, topic, severity, text) in [
            (
                "NETFILTER_DROP",
                Topic::Dropped,
                Severity::Bad,
                "the kernel dropped 5 packets of vxlan 7 from 172.16.1.2 for 192.168.0.9 to 192.168.0.1 at eth0: NETFILTER_DROP",
            ),
            (
                "OTHERHOST",
                Topic::Dropped,
                Severity::Note,
                "the kernel dropped 5 packets of vxlan 7 from 172.16.1.2 for 192.168.0.9 to 192.168.0.1 at eth0: OTHERHOST",
            ),
            (
                "VXLAN_VNI_NOT_FOUND",
                Topic::NoDevice,
                Severity::Bad,
                "vxlan 7 arrives and no device here takes it: the kernel dropped 5 packets at eth0",
            ),
            (
                "VXLAN_ENTRY_EXISTS",
                Topic::WrongVtep,
                Severity::Bad,
                "vxlan 7 from 172.16.1.2 for 192.168.0.9 to 192.168.0.1 is dropped, 5 packets: a forwarding entry names another endpoint (VXLAN_ENTRY_EXISTS)",
            ),
            (
                "UDP_CSUM",
                Topic::Checksum,
                Severity::Bad,
                "5 packets of vxlan 7 from 172.16.1.2 had a wrong checksum and were dropped at eth0 (UDP_CSUM)",
            ),
            (
                "PKT_TOO_BIG",
                Topic::Mtu,
                Severity::Bad,
                "5 packets of vxlan 7 from 172.16.1.2 for 192.168.0.9 to 192.168.0.1 were too big at eth0 (PKT_TOO_BIG)",
            ),
        ] {
            assert_eq!(of(reason), (topic, severity, text.to_owned()));
        }
    }

    #[test]
    fn drops_are_added_up_until_they_end() {
        let flow = talk(2, Some((1, 9)), 0, 3);
        let some = Drops::new([dropped("NETFILTER_DROP", &flow, 3)]);
        let mut stage = Stage { drops: Some(some), ..Stage::default() };
        assert_eq!(stage.second(&[flow]), [(Topic::Dropped, Change::Begun)]);
        stage.seconds(4, &[flow]);
        let counts = stage.detectors.findings().next().map(|f| f.counts["dropped_pkts"]);
        assert_eq!(counts, Some(15));
        stage.drops = Some(Drops::default());
        stage.seconds(16, &[flow]);
        assert_eq!(stage.open(), []);
    }
}
