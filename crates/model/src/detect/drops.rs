// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of tunnels that the kernel dropped here: `dropped` or, if the reason is more specific,
//! `no_device`, `wrong_vtep`, `checksum` or `mtu`.
use std::{
    cell::LazyCell,
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use foldhash::HashMap;

use super::{
    Evidence, Severity, Sighting, Subject, Topic,
    lost::is_much,
    past::{Party, Talk, is_for_many},
};
use crate::{
    drops::{DropKey, Drops, Victim},
    flow::{Count, Inner, Pair, Tunnel},
    overlay::Narrow,
};

/// How long the finding stays open after the last drop.
const STAYS: Duration = Duration::from_secs(15);

/// The next hop's address did not resolve.
const NEIGH_FAILED: &str = "NEIGH_FAILED";

/// Drops that are normal in a network: copies flooded to everybody, packets that a socket filter
/// rejects, ports on which nothing listens, data that a program left unread, fragments that arrived
/// twice. Data that TCP already has or cannot use is also normal, see [`is_usual`].
const USUAL: [&str; 8] = [
    "SOCKET_FILTER",
    "QUEUE_PURGE",
    "DUP_FRAG",
    "OTHERHOST",
    "IPV6DISABLED",
    "UNHANDLED_PROTO",
    "NO_SOCKET",
    "UNICAST_IN_L2_MULTICAST",
];

/// Drops by TCP that are losses, for lack of memory; [`is_usual`] knows those for wrong keys.
const LOST_BY_TCP: [&str; 2] = ["TCP_OFO_QUEUE_PRUNE", "TCP_BACKLOG"];

fn is_usual(name: &str) -> bool {
    let is_of_keys = || name.starts_with("TCP_MD5") || name.starts_with("TCP_AO");
    USUAL.contains(&name)
        || (name.starts_with("TCP_") && !LOST_BY_TCP.contains(&name) && !is_of_keys())
}

/// Reasons that the kernel also counts in a device's `rx_dropped`.
const COUNTED: [&str; 3] = ["UNHANDLED_PROTO", "CPU_BACKLOG", "UNHANDLED_PROTO_L3"];

/// The packets of one finding, and whether they were dropped at a watched interface, where they
/// look as they do on the wire.
#[derive(Default)]
struct Lost {
    count: Count,
    outside: bool,
    /// There are few of them and no reason is given, so they do not matter.
    stray: bool,
}

/// The reason for drops without a specific one, such as the last acknowledgements of a closed TCP
/// connection.
const UNSPECIFIED: &str = "NOT_SPECIFIED";

/// One direction of a conversation inside a tunnel.
type Direction = (Option<Tunnel>, IpAddr, IpAddr);

/// How many packets of each direction were counted in this interval.
fn counted(look: &Evidence<'_>) -> HashMap<Direction, u64> {
    let mut all: HashMap<Direction, u64> = HashMap::default();
    for flow in look.interval.rows.iter() {
        let Some(Pair { first, second }) = flow.key.inner.pair() else { continue };
        let tunnel = Some(flow.key.outermost);
        let (fwd, rev) = (flow.counters.fwd().packets, flow.counters.rev().packets);
        *all.entry((tunnel, first, second)).or_default() += fwd;
        *all.entry((tunnel, second, first)).or_default() += rev;
    }
    all
}

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let Some(drops) = look.interval.drops.as_deref() else { return Vec::new() };
    let mut found: BTreeMap<(Topic, Subject), Lost> = BTreeMap::new();
    let mut heard: Option<BTreeSet<IpAddr>> = None;
    for (key, dropped) in drops.rows.iter().filter(|(key, _)| !key.elsewhere) {
        let Victim::Tunnel(of) = key.victim else { continue };
        for (way, n) in dropped.counts.into_iter().enumerate().filter(|(_, n)| !n.is_zero()) {
            let turn = |p: Pair| if way == 0 { (p.first, p.second) } else { (p.second, p.first) };
            let (outer, inner) = (of.outer.map(turn), of.inner.pair().map(turn));
            // An address from which nothing was ever received has no host; one that was heard is
            // down or unreachable.
            let nobody = &*key.reason == NEIGH_FAILED
                && outer
                    .is_some_and(|o| !heard.get_or_insert_with(|| senders(look)).contains(&o.1));
            let topic = if nobody { Topic::WrongVtep } else { topic(&key.reason) };
            // A missing device concerns the tunnel, whoever sends; a wrong checksum concerns the
            // sender.
            let inner =
                inner.filter(|_| matches!(topic, Topic::Dropped | Topic::WrongVtep | Topic::Mtu));
            let by_id = topic == Topic::NoDevice;
            let place = Subject {
                interface: device(look, key),
                tunnel: (of.depth > 0).then_some(of.outermost),
                outer_from: outer.map(|o| o.0).filter(|_| !by_id),
                outer_to: outer.map(|o| o.1),
                inner_from: inner.map(|i| i.0),
                inner_to: inner.map(|i| i.1),
                reason: (!by_id).then(|| reason(key, of.inner)),
            };
            let lost = found.entry((topic, place)).or_default();
            lost.count += n;
            let here = |name: &str, netns: Option<&str>| {
                key.device.as_deref() == Some(name) && key.netns.as_deref() == netns
            };
            // At a tunnel device, packets are as they are inside the tunnel.
            let devices = look.overlay.map_or(&[][..], |overlay| &overlay.devices);
            lost.outside |= look.interval.interfaces.iter().any(|i| {
                here(&i.name, i.netns.as_deref())
                    && !devices.iter().any(|d| here(&d.name, d.netns.as_deref()))
            });
        }
    }
    let all = LazyCell::new(|| counted(look));
    let dropped = found.into_iter().map(|((topic, place), mut n)| {
        let ends = place.inner_from.zip(place.inner_to);
        if let Some((from, to)) = ends.filter(|_| place.reason.as_deref() == Some(UNSPECIFIED)) {
            let of = all.get(&(place.tunnel, from, to)).copied().unwrap_or_default();
            n.stray = !is_much(n.count.packets, of);
        }
        sighting(look, topic, place, &n)
    });
    dropped.chain(too_narrow(look, drops)).collect()
}

/// The device at which packets were dropped, in a fleet with its host.
fn device(look: &Evidence<'_>, key: &DropKey) -> Option<String> {
    let of_fleet = look.interval.once().is_of_fleet();
    match (key.device.as_deref(), key.netns.as_deref().filter(|_| of_fleet)) {
        (Some(device), Some(host)) => Some(format!("{device} of {host}")),
        (None, Some(host)) => Some(host.to_owned()),
        (device, None) => device.map(str::to_owned),
    }
}

/// Endpoints from which packets arrived.
fn senders(look: &Evidence<'_>) -> BTreeSet<IpAddr> {
    let ends = |(party, talk): (&Party, &Talk)| {
        let [first, second] = [0, 1].map(|way| talk.ways[way].last.is_some());
        [first.then_some(party.outer.first), second.then_some(party.outer.second)]
    };
    look.past.talks.iter().flat_map(ends).flatten().collect()
}

/// Packets that a device dropped before a reason could be recorded, if its MTU is too small for a
/// tunnel over it.
fn too_narrow(look: &Evidence<'_>, drops: &Drops) -> Vec<Sighting> {
    let narrow = look.overlay.map_or(&[][..], |overlay| &overlay.narrow);
    let sighting = |n: &Narrow| {
        let here = |netns: &Option<Arc<str>>, device: Option<&str>| {
            netns.as_deref() == n.netns.as_deref() && device == Some(&n.device)
        };
        let own = drops.devices.iter().find(|((netns, device), _)| here(netns, Some(device)))?.1;
        let told = drops.rows.iter().filter(|(key, _)| {
            here(&key.netns, key.device.as_deref()) && COUNTED.contains(&&*key.reason)
        });
        let told: u64 = told.map(|(_, dropped)| dropped.total().packets).sum();
        let lost = own.rx_dropped.checked_sub(told).filter(|lost| *lost > 0)?;
        Some(Sighting {
            topic: Topic::Mtu,
            severity: Severity::Bad,
            place: Subject { interface: Some(n.device.clone()), ..Subject::default() },
            since: None,
            text: format!(
                "{} dropped {{}} as they arrived (rx_dropped): its MTU is {}, and full packets of {} take {}",
                n.device, n.mtu, n.tunnel, n.needs
            ),
            counts: BTreeMap::from([("dropped_pkts", lost)]),
            stays: STAYS,
        })
    };
    narrow.iter().filter_map(sighting).collect()
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

/// What a reason means, in plain words.
fn meaning(reason: &str, outside: bool) -> &'static str {
    match reason.split(' ').next().unwrap_or_default() {
        "NETFILTER_DROP" => ", by a firewall rule",
        "IP_RPFILTER" => ", no route leads back to the sender by this interface",
        "NO_SOCKET" if outside => ", no socket is bound to the tunnel's port",
        NEIGH_FAILED => ", the next hop's address does not resolve",
        "QDISC_DROP" => ", the interface's queue was full",
        _ => "",
    }
}

/// The reason, with the inner protocol if there is no inner pair.
fn reason(key: &DropKey, inner: Inner) -> String {
    match inner {
        Inner::Proto(proto) if topic(&key.reason) == Topic::Dropped => {
            format!("{} ({proto})", key.reason)
        }
        _ => key.reason.to_string(),
    }
}

fn sighting(look: &Evidence<'_>, topic: Topic, place: Subject, lost: &Lost) -> Sighting {
    let many = "{}";
    let tunnel = place.tunnel.map_or_else(|| "a tunnel".to_owned(), |t| t.to_string());
    let from = place.outer_from.map_or_else(|| "an unknown endpoint".to_owned(), |a| a.to_string());
    let reason = place.reason.as_deref().unwrap_or_default();
    let device = place.interface.as_ref().map_or_else(String::new, |d| format!(" at {d}"));
    let inner = match (place.inner_from, place.inner_to) {
        (Some(a), Some(b)) => format!(" for {a} to {b}"),
        _ => String::new(),
    };
    let text = match (topic, place.outer_to) {
        (Topic::NoDevice, _) => {
            format!(
                "{tunnel} arrives and no device {} accepts it: the kernel dropped {many}{device}",
                if look.interval.once().is_of_fleet() { "there" } else { "here" }
            )
        }
        (Topic::WrongVtep, Some(to)) if reason.starts_with(NEIGH_FAILED) => {
            let entries = place.inner_to.zip(look.overlay).map(|(a, o)| o.entries_of(a));
            let entry = entries.unwrap_or_default().iter().find(|e| e.endpoint == to);
            let says = entry.map_or_else(String::new, |e| {
                let fixed = if e.fixed { "a fixed" } else { "the" };
                format!("; {fixed} forwarding entry of {} says so", e.device)
            });
            format!(
                "{many} of {tunnel}{inner} went to {to}, whose address does not resolve ({NEIGH_FAILED}){says}"
            )
        }
        (Topic::WrongVtep, _) => {
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
        (Topic::Mtu, _) => {
            format!("{many} of {tunnel} from {from}{inner} were too big{device} ({reason})")
        }
        (Topic::Checksum, _) => {
            format!(
                "{many} of {tunnel} from {from} had a wrong checksum and were dropped{device} ({reason})"
            )
        }
        _ => format!(
            "the kernel dropped {many} of {tunnel} from {from}{inner}{device}: {reason}{}",
            meaning(reason, lost.outside)
        ),
    };
    Sighting {
        topic,
        severity: severity(topic, &place, lost),
        since: None,
        text,
        counts: BTreeMap::from([
            ("dropped_bytes", lost.count.bytes),
            ("dropped_pkts", lost.count.packets),
        ]),
        stays: STAYS,
        place,
    }
}

fn severity(topic: Topic, place: &Subject, lost: &Lost) -> Severity {
    let many = |a: Option<IpAddr>| a.is_some_and(is_for_many);
    let reason = place.reason.as_deref().unwrap_or_default();
    let name = reason.split(' ').next().unwrap_or_default();
    // A host that receives a broadcast request for an address that it does not have drops it
    // without a reason. But if nothing listens on the tunnel's own port, nothing gets out of the
    // tunnel.
    let usual = (is_usual(name) && !(name == "NO_SOCKET" && lost.outside))
        || reason == "NOT_SPECIFIED (arp)"
        || lost.stray;
    // Broadcast and multicast packets are not intended for every receiver.
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
            stage::{Stage, leads, talk},
        },
        Severity, Topic,
    };
    use crate::{
        drops::{DropKey, Dropped, Drops, Victim},
        flow::{Count, Flow, Kind},
        overlay::{Device, Overlay},
    };

    /// Drops of packets in the reverse direction of a row.
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

    #[test]
    fn packets_rejected_by_a_socket_are_not_tunnel_loss() {
        for usual in [
            "SOCKET_FILTER",
            "QUEUE_PURGE",
            "DUP_FRAG",
            "TCP_OLD_DATA",
            "TCP_OLD_SEQUENCE",
            "TCP_OFOMERGE",
            "TCP_RFC7323_PAWS",
        ] {
            assert_eq!(said(usual, 5).1, Severity::Note, "{usual}");
        }
        for bad in [
            "SOCKET_RCVBUFF",
            "TCP_OFO_QUEUE_PRUNE",
            "TCP_MD5FAILURE",
            "TCP_AOFAILURE",
            "CPU_BACKLOG",
        ] {
            assert_eq!(said(bad, 5).1, Severity::Bad, "{bad}");
        }
    }

    #[test]
    fn a_few_drops_without_a_reason_are_not_loss() {
        let severity = |lost, of| {
            let flow = talk(2, Some((1, 9)), 0, of);
            let drops = Some(Drops::new([dropped("NOT_SPECIFIED", &flow, lost)]));
            let mut stage = Stage { drops, ..Stage::default() };
            stage.second(&[flow]);
            stage.open()[0].1
        };
        assert_eq!(severity(9, 9), Severity::Note, "nine");
        assert_eq!(severity(10, 10), Severity::Bad, "all of them");
        assert_eq!(severity(10, 1000), Severity::Bad, "1 %");
        assert_eq!(severity(10, 1001), Severity::Note, "less than that");
    }

    #[test]
    fn no_socket_at_a_tunnel_device_is_about_the_inner_packet() {
        let flow = talk(2, Some((1, 9)), 0, 5);
        let severity = |devices: Vec<Device>| {
            let drops = Some(Drops::new([dropped("NO_SOCKET", &flow, 5)]));
            let overlay = Some(Overlay { devices, ..Overlay::default() });
            let mut stage = Stage { drops, overlay, ..Stage::default() };
            stage.second(&[flow]);
            stage.open()[0].1
        };
        let (name, kind) = ("eth0".to_owned(), Kind::Vxlan);
        let device = Device { netns: None, name, kind, id: None, port: None, up: true };
        assert_eq!((severity(vec![]), severity(vec![device])), (Severity::Bad, Severity::Note));
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
                "the kernel dropped 5 packets of vxlan 7 from 172.16.1.2 for 192.168.0.9 to 192.168.0.1 at eth0: NETFILTER_DROP, by a firewall rule",
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
                "vxlan 7 arrives and no device here accepts it: the kernel dropped 5 packets at eth0",
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

    #[test]
    fn who_is_not_there_and_who_is_down() {
        let overlay = leads(9, 5);
        let mut lost = dropped("NEIGH_FAILED", &talk(5, Some((1, 9)), 0, 0), 3);
        lost.1.counts.swap(0, 1); // sent by this host
        let mut stage = Stage {
            overlay: Some(overlay),
            drops: Some(Drops::new([lost.clone()])),
            ..Stage::default()
        };
        stage.second(&[]);
        assert_eq!(
            stage.open(),
            [(
                Topic::WrongVtep,
                Severity::Bad,
                "3 packets of vxlan 7 for 192.168.0.1 to 192.168.0.9 went to 172.16.1.5, whose address does not resolve (NEIGH_FAILED); a fixed forwarding entry of vxlan0 says so"
            )]
        );
        let mut stage = Stage::default();
        stage.second(&[talk(5, Some((1, 9)), 1, 1)]);
        stage.drops = Some(Drops::new([lost]));
        stage.second(&[]);
        let open: Vec<_> = stage.open().into_iter().map(|f| (f.0, f.1)).collect();
        assert_eq!(open, [(Topic::Dropped, Severity::Bad)], "it was there before");
    }

    #[test]
    fn a_tunnel_without_a_listener_is_bad_and_a_port_inside_without_one_is_not() {
        let at = |device: &str| {
            let flow = talk(2, Some((1, 9)), 0, 1);
            let mut lost = dropped("NO_SOCKET", &flow, 1);
            lost.0.device = Some(Arc::from(device));
            let mut stage = Stage { drops: Some(Drops::new([lost])), ..Stage::default() };
            stage.second(&[flow]);
            stage.open()[0].1
        };
        assert_eq!([at("eth0"), at("client0")], [Severity::Bad, Severity::Note]);
    }

    #[test]
    fn a_device_that_is_too_narrow_and_drops_is_found() {
        use crate::{
            drops::DeviceDrops,
            overlay::{Narrow, Overlay},
        };
        let narrow = Narrow {
            netns: None,
            device: "eth0".to_owned(),
            mtu: 700,
            tunnel: "vxlan0".to_owned(),
            needs: 1500,
        };
        let said = |narrow: Vec<Narrow>, rx_dropped, unhandled| {
            let mut other = dropped("UNHANDLED_PROTO", &talk(2, Some((1, 9)), 0, 1), unhandled);
            other.0.victim = Victim::Plain;
            let mut drops = Drops::new([other]);
            let own = DeviceDrops { rx_dropped, ..DeviceDrops::default() };
            drops.devices.insert((None, "eth0".into()), own);
            let overlay = Overlay { narrow, ..Overlay::default() };
            let mut stage =
                Stage { overlay: Some(overlay), drops: Some(drops), ..Stage::default() };
            stage.second(&[]);
            stage.open().iter().map(|f| f.2.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(
            said(vec![narrow.clone()], 5, 1),
            [
                "eth0 dropped 4 packets as they arrived (rx_dropped): its MTU is 700, and full packets of vxlan0 take 1500"
            ]
        );
        assert!(said(vec![narrow], 3, 3).is_empty(), "the kernel said why");
        assert!(said(Vec::new(), 5, 0).is_empty(), "whatever it is, it is not the MTU");
    }
}
