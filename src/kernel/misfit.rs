// SPDX-License-Identifier: MIT OR Apache-2.0
//! Configurations that keep packets from getting through, detected without seeing a packet: tunnel
//! devices against routes, forwarding entries and each other, and against other ends in network
//! namespaces of this host.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use anyhow::Result;

use super::{
    check::{CheckLine, Mark},
    discover::{FoundTunnel, NetnsView},
    netlink::{Link, Neighbour, Netlink, TunnelDevice},
    netns::{self, NetnsHandle},
};
use model::units::sanitize;

/// Limit on the endpoints of a device whose routes are looked up.
const MOST_ENDPOINTS: usize = 256;

/// One namespace, as far as the other ends of tunnels are concerned.
struct End {
    /// " in network namespace x".
    words: String,
    scene: NetnsView,
    addresses: BTreeSet<IpAddr>,
}

impl End {
    fn look(words: String, netlink: &mut Netlink) -> Result<End> {
        let addresses = netlink.addresses()?.into_iter().map(|(_, address, _)| address);
        Ok(End { words, addresses: addresses.collect(), scene: NetnsView::read(netlink)? })
    }
}

/// Checks the tunnel devices of a namespace, and the other ends of those that can be entered.
///
/// # Errors
/// Netlink gives no answer about the namespace itself.
pub fn misfits(
    scene: &NetnsView,
    place: &NetnsHandle,
    netlink: &mut Netlink,
) -> Result<Vec<CheckLine>> {
    let own: BTreeSet<IpAddr> = netlink.addresses()?.into_iter().map(|(_, a, _)| a).collect();
    let entries: Vec<Neighbour> =
        netlink.neighbours()?.into_iter().filter(|n| n.forwarding).collect();
    let mut lines = Vec::new();
    let tunnels = || scene.tunnels.iter().filter(|t| !t.is_fallback() && t.device.up);
    let others = ends(place);
    for tunnel in tunnels() {
        let t = &tunnel.device;
        let leads = || entries.iter().filter(|n| n.ifindex == t.ifindex).map(|n| n.address);
        let endpoints: BTreeSet<IpAddr> =
            t.remote.into_iter().chain(leads()).filter(|a| !a.is_multicast()).collect();
        to_itself(&mut lines, t, &own, leads());
        routes(&mut lines, scene, tunnel, &endpoints, netlink)?;
        for end in &others {
            other_end(&mut lines, (scene, t), &endpoints, end);
        }
    }
    twins(&mut lines, tunnels().map(|t| &t.device));
    zero_checksums(&mut lines, scene);
    Ok(lines)
}

fn warn(device: &str, about: &'static str, what: String, advice: String) -> CheckLine {
    let interface = Some(sanitize(device).into_owned());
    CheckLine { interface, about, mark: Mark::Warn, what, advice: Some(advice) }
}

/// The other namespaces that this process may enter.
fn ends(place: &NetnsHandle) -> Vec<End> {
    let inode = place.inode().ok();
    let named = netns::others().into_iter().filter_map(|(name, netns)| {
        let netns = netns.ok().filter(|netns| netns.inode().ok() != inode)?;
        let words = format!(" in network namespace {}", sanitize(&name));
        End::look(words, &mut Netlink::open_in(&netns).ok()?).ok()
    });
    let here = NetnsHandle::Here;
    let caller = (here.inode().ok() != inode).then(|| Netlink::open_inside(&here));
    let caller = caller.and_then(|netlink| End::look(String::new(), &mut netlink.ok()?).ok());
    named.chain(caller).collect()
}

/// Forwarding entries that lead to this host itself.
fn to_itself(
    lines: &mut Vec<CheckLine>,
    t: &TunnelDevice,
    own: &BTreeSet<IpAddr>,
    leads: impl Iterator<Item = IpAddr>,
) {
    let mut wrong: BTreeMap<IpAddr, usize> = BTreeMap::new();
    for address in leads.filter(|a| own.contains(a)) {
        *wrong.entry(address).or_default() += 1;
    }
    let name = sanitize(&t.name);
    for (address, n) in wrong {
        let entries = if n == 1 { "a forwarding entry leads" } else { "forwarding entries lead" };
        lines.push(warn(
            &t.name,
            "fdb",
            format!(
                "{entries} to {address}, an address of this host itself: such packets are lost"
            ),
            format!("`bridge fdb show dev {name}` lists them, `bridge fdb del` removes one"),
        ));
    }
}

/// Whether full-sized packets fit every route that they take.
fn routes(
    lines: &mut Vec<CheckLine>,
    scene: &NetnsView,
    tunnel: &FoundTunnel,
    endpoints: &BTreeSet<IpAddr>,
    netlink: &mut Netlink,
) -> Result<()> {
    let t = &tunnel.device;
    if t.mtu == 0 || t.collect_metadata || t.underlay_netnsid.is_some() {
        return Ok(());
    }
    let needs = t.mtu + t.overhead();
    // A bound device is compared with its interface elsewhere; its routes may not apply.
    let bound = tunnel.underlay.and_then(|i| scene.link(i)).map_or(0, |l| l.mtu);
    for to in endpoints.iter().take(MOST_ENDPOINTS) {
        let Some(way) = netlink.way_to(*to)? else {
            lines.push(warn(
                &t.name,
                "route",
                format!("there is no route to its endpoint {to}"),
                format!("`ip route get {to}`"),
            ));
            continue;
        };
        let by = scene.link(way.out);
        let mtu = by.map_or(u32::MAX, |l| l.mtu).min(way.mtu.unwrap_or(u32::MAX));
        if needs <= mtu || (tunnel.underlay == Some(way.out) && mtu == bound) {
            continue;
        }
        let name = sanitize(&t.name);
        let by = by.map_or_else(String::new, |l| format!(" by {}", sanitize(&l.name)));
        lines.push(warn(
            &t.name,
            "mtu",
            format!(
                "full-sized packets take {needs} bytes, but the route to {to}{by} has {mtu}: they are fragmented or lost"
            ),
            format!("`ip link set {name} mtu {}`", mtu.saturating_sub(t.overhead())),
        ));
    }
    Ok(())
}

/// Devices with the same id that only differ in their port.
fn twins<'a>(lines: &mut Vec<CheckLine>, tunnels: impl Iterator<Item = &'a TunnelDevice>) {
    let mut known: BTreeMap<(String, u32), &TunnelDevice> = BTreeMap::new();
    for t in tunnels {
        let Some(id) = t.id.filter(|_| t.port.is_some()) else { continue };
        let first = *known.entry((t.device.clone(), id)).or_insert(t);
        if first.port != t.port {
            let [a, b] = [first, t].map(|t| (sanitize(&t.name), t.port.unwrap_or_default()));
            lines.push(warn(
                &t.name,
                "id",
                format!(
                    "{} (port {}) and {} (port {}) both have id {id}: tmon counts them as one network",
                    a.0, a.1, b.0, b.1
                ),
                "give each network an id of its own".to_owned(),
            ));
        }
    }
}

/// The same network at its other end: id, port, checksums.
fn other_end(
    lines: &mut Vec<CheckLine>,
    (scene, t): (&NetnsView, &TunnelDevice),
    endpoints: &BTreeSet<IpAddr>,
    end: &End,
) {
    let Some(address) = endpoints.iter().find(|a| end.addresses.contains(a)) else { return };
    let Some(id) = t.id else { return };
    let theirs = || end.scene.tunnels.iter().map(|t| &t.device);
    let alike = || theirs().filter(|o| o.device == t.device && o.up && !o.collect_metadata);
    let name = sanitize(&t.name);
    let at = format!("{address}{}", end.words);
    if let Some(port) = t.port
        && let Some(other) = alike().find(|o| o.id == Some(id))
        && !alike().any(|o| o.id == Some(id) && o.port == Some(port))
    {
        let (theirs, listens) = (sanitize(&other.name), other.port.unwrap_or_default());
        lines.push(warn(
            &t.name,
            "port",
            format!("it sends to port {port} of {at}, but {theirs} there listens on {listens}"),
            format!("recreate {name} or {theirs} with the other one's port"),
        ));
    } else if alike().next().is_some() && !alike().any(|o| o.id == Some(id)) {
        let ids: BTreeSet<String> = alike().filter_map(|o| o.id).map(|id| id.to_string()).collect();
        let ids = ids.into_iter().take(4).collect::<Vec<_>>().join(", ");
        lines.push(warn(
            &t.name,
            "id",
            format!("its id is {id}, but no device at {at} has that id (found: {ids})"),
            format!("`ip -d link show type {}` at both ends", t.device),
        ));
    }
    let sends = scene.link(t.ifindex).and_then(Link::zero_checksums).is_some_and(|z| z[0]);
    let other = alike().find(|o| o.id == Some(id)).and_then(|o| end.scene.link(o.ifindex));
    if sends && address.is_ipv6() && other.and_then(Link::zero_checksums).is_some_and(|z| !z[1]) {
        lines.push(warn(
            &t.name,
            "checksum",
            format!("it sends without UDP checksums, but the endpoint at {at} drops such packets"),
            "`udp6zerocsumrx` there, or `noudp6zerocsumtx` here".to_owned(),
        ));
    }
}

/// A device that sends what it would not accept itself.
fn zero_checksums(lines: &mut Vec<CheckLine>, scene: &NetnsView) {
    for link in scene.links.iter().filter(|l| l.zero_checksums() == Some([true, false])) {
        let outer = scene.tunnels.iter().find(|t| t.device.ifindex == link.index);
        let ends = outer.map(|t| [t.device.local, t.device.remote]).unwrap_or_default();
        if ends.into_iter().flatten().any(|a| a.is_ipv6()) {
            lines.push(warn(
                &link.name,
                "checksum",
                "it sends without UDP checksums over IPv6, but does not accept such packets itself: an endpoint like this one drops them"
                    .to_owned(),
                "`udp6zerocsumrx` at all ends, or `noudp6zerocsumtx`".to_owned(),
            ));
        }
    }
}
