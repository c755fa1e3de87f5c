// SPDX-License-Identifier: MIT OR Apache-2.0
//! What can be watched in a network namespace without being named: tunnel devices, the interfaces
//! below them, their UDP ports; and which of the chosen interfaces see the same packets.
use std::{collections::BTreeSet, fs};

use anyhow::{Result, bail};
use glob::Pattern;

use crate::kernel::{
    asked,
    bpf::Port,
    netlink::{FouPort, Link, Netlink, TunnelDevice},
    netns::{self, NetnsHandle},
};
use model::{
    flow::{Kind, Tunnel},
    overlay::Segment,
    units::sanitize,
};

/// A tunnel device and its surroundings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundTunnel {
    /// The device.
    pub device: TunnelDevice,
    /// The interface that its packets leave by, an index; `None` if the route of each packet
    /// decides.
    pub underlay: Option<u32>,
}

impl FoundTunnel {
    /// Whether it is one of the devices that loading a tunnel module creates in every namespace
    /// (`gre0`, `tunl0` ...), and unused.
    pub fn is_fallback(&self) -> bool {
        const FALLBACK: [&str; 9] = [
            "gre0", "gretap0", "erspan0", "tunl0", "sit0", "ip6tnl0", "ip6gre0", "ip6_vti0",
            "ip_vti0",
        ];
        !self.device.up && FALLBACK.contains(&self.device.name.as_str())
    }

    /// Whether it takes the other end from each packet, and sends by any route.
    pub fn is_open(&self) -> bool {
        self.underlay.is_none() && self.device.underlay_netnsid.is_none()
    }

    /// The meaning of its packets' port, if they travel in UDP.
    pub fn port(&self) -> Option<Port> {
        self.device
            .port
            .map(|port| Port { fou: self.device.fou, ..Port::of(self.device.kind, port) })
    }
}

/// The interfaces and tunnels of a network namespace at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetnsView {
    /// Every interface, by index.
    pub links: Vec<Link>,
    /// Every tunnel device, by index.
    pub tunnels: Vec<FoundTunnel>,
    /// Tunnel devices in other namespaces whose packets travel in this one: their underlays are
    /// indexes in this namespace, everything else is in theirs.
    pub elsewhere: Vec<FoundTunnel>,
    /// UDP ports on which the kernel accepts foo-over-UDP; they belong to no device.
    pub fou: Vec<FouPort>,
    /// Where the kernel has L2TP version 3 sessions, and the parameters of their headers.
    pub l2tp: Vec<Port>,
    /// The interface of the default route, an index.
    pub default_route: Option<u32>,
}

/// The interfaces to watch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ChosenLinks {
    /// The interfaces, by index.
    pub links: Vec<Link>,
    /// Notices about the choice, one line each.
    pub notices: Vec<String>,
}

/// An interface whose packets another chosen interface also counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// The interface that totals leave out, an index.
    pub index: u32,
    /// An interface that its packets also pass, an index; if several share them, the first.
    pub counted_on: u32,
}

/// The relation of an interface to one below it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lower {
    /// Every packet of the upper interface passes this one.
    All,
    /// Every packet of the upper interface passes this one or one beside it, and this one's pass
    /// the upper one.
    Share,
    /// Like `Share`, but this one also has packets that do not pass the upper one.
    Some,
}

impl NetnsView {
    /// Reads the present state.
    ///
    /// # Errors
    /// Netlink gives no answer.
    pub fn read(netlink: &mut Netlink) -> Result<NetnsView> {
        let links = netlink.links()?;
        let with_underlay = |netlink: &mut Netlink, devices: Vec<TunnelDevice>| {
            let with = |device| {
                let underlay = netlink.underlay_of(&device)?;
                Ok(FoundTunnel { device, underlay })
            };
            devices.into_iter().map(with).collect::<Result<Vec<_>>>()
        };
        let here = netlink.tunnels_among(&links);
        let tunnels = with_underlay(netlink, here)?;
        // These are helpful, but not required.
        let moved = netlink.tunnels_elsewhere().unwrap_or_default();
        let elsewhere = with_underlay(netlink, moved).unwrap_or_default();
        let fou = netlink.fou_ports().unwrap_or_default();
        let l2tp = netlink.l2tp_ports().unwrap_or_default();
        let default_route = netlink.default_route_interface()?;
        Ok(NetnsView { links, tunnels, elsewhere, fou, l2tp, default_route })
    }

    /// Reads the state of a namespace with all privileges: this also finds the WireGuard devices of
    /// other namespaces whose packets travel in this one. As these cannot be queried from here, all
    /// named namespaces are entered.
    ///
    /// # Errors
    /// Those of [`NetnsView::read`].
    pub fn read_with_moved(place: &NetnsHandle, netlink: &mut Netlink) -> Result<NetnsView> {
        let mut scene = NetnsView::read(netlink)?;
        if netlink.knows("wireguard").unwrap_or(false) {
            for device in moved_wireguard(place).unwrap_or_default() {
                let underlay = netlink.underlay_of(&device).unwrap_or_default();
                scene.elsewhere.push(FoundTunnel { device, underlay });
            }
        }
        if matches!(place, NetnsHandle::Here) {
            let tunnels = scene.userspace_tunnels(netlink);
            scene.elsewhere.extend(tunnels);
        }
        Ok(scene)
    }

    /// The tunnels of Open vSwitch's userspace datapath, which has no devices for them; none if it
    /// does not answer. Tunnels of its kernel datapath are left out: they have a device of the same
    /// kind and port. If a route leads to one of its bridges, the underlay is the interface in that
    /// bridge.
    pub fn userspace_tunnels(&self, netlink: &mut Netlink) -> Vec<FoundTunnel> {
        let asked::OvsTunnels { tunnels, bridges } = asked::ovs_tunnels().unwrap_or_default();
        let is_here = |d: &TunnelDevice| {
            let same = |t: &FoundTunnel| t.device.kind == d.kind && t.device.port == d.port;
            self.tunnels.iter().any(|t| t.device.up && same(t))
        };
        let outside = |route: u32| {
            let inside = bridges.get(&self.link(route)?.name)?;
            Some(self.links.iter().find(|l| inside.contains(&l.name))?.index)
        };
        let found = |device: TunnelDevice| {
            let route = netlink.underlay_of(&device).unwrap_or_default();
            let underlay = route.map(|route| outside(route).unwrap_or(route));
            FoundTunnel { device, underlay }
        };
        tunnels.into_iter().filter(|device| !is_here(device)).map(found).collect()
    }

    /// What [`NetnsView::read_with_moved`] found beyond [`NetnsView::read`].
    pub fn moved(&self) -> impl Iterator<Item = &FoundTunnel> {
        let is_asked = |t: &FoundTunnel| t.device.device.starts_with(asked::OVS);
        self.elsewhere.iter().filter(move |t| t.device.kind == Kind::Wireguard || is_asked(t))
    }

    /// The same state, with these devices elsewhere.
    #[must_use]
    pub fn with(mut self, elsewhere: &[FoundTunnel]) -> NetnsView {
        self.elsewhere.extend_from_slice(elsewhere);
        self
    }

    /// The interface with this index.
    pub fn link(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|l| l.index == index)
    }

    /// The names of the bridge (or switch, bond, team) and of the VRF that an interface belongs to.
    pub fn masters(&self, link: &Link) -> (Option<&str>, Option<&str>) {
        let (mut bridge, mut vrf) = (None, None);
        let mut above = link.master;
        for _ in 0..8 {
            let Some(master) = above.and_then(|i| self.link(i)) else { break };
            let place = if master.kind.as_deref() == Some("vrf") { &mut vrf } else { &mut bridge };
            place.get_or_insert(master.name.as_str());
            above = master.master;
        }
        (bridge, vrf)
    }

    /// What the ids of tunnel devices stand for.
    pub fn segments(&self) -> impl Iterator<Item = (Tunnel, Segment)> {
        self.tunnels.iter().filter_map(|t| {
            let tunnel = Tunnel { kind: t.device.kind, id: Some(t.device.id?) };
            Some((tunnel, self.segment(t)?))
        })
    }

    /// The purpose of a tunnel device. A bridge in a VRF whose only ports are tunnels is for
    /// routing: the id is an L3VNI. The VRF of a bridge is its own, or that of the interfaces over
    /// it if these are all in the same one.
    pub fn segment(&self, tunnel: &FoundTunnel) -> Option<Segment> {
        let link = self.link(tunnel.device.ifindex)?;
        let (bridge, vrf) = self.masters(link);
        let master = link.master.and_then(|i| self.link(i));
        let switch = master.filter(|l| l.kind.as_deref() != Some("vrf"));
        let over = |switch: &Link| {
            let mut over = self.links.iter().filter(|l| l.lower == Some(switch.index));
            let first = over.find_map(|l| self.masters(l).1)?;
            let is_same = |l: &Link| self.masters(l).1.is_none_or(|other| other == first);
            over.all(is_same).then_some(first)
        };
        let vrf = vrf.or_else(|| over(switch?));
        let is_tunnel = |l: &Link| self.tunnels.iter().any(|t| t.device.ifindex == l.index);
        let ports = |switch: &Link| {
            let mut ports = self.links.iter().filter(|l| l.master == Some(switch.index));
            ports.all(is_tunnel)
        };
        let is_routed = vrf.is_some() && switch.is_none_or(ports);
        if bridge.is_none() && vrf.is_none() {
            return None;
        }
        let [bridge, vrf] = [bridge, vrf].map(|n| n.map(|name| sanitize(name).into_owned()));
        Some(Segment { bridge, vrf, is_routed })
    }

    /// The ports of the tunnels found, for [`crate::kernel::bpf::Program::set_port`].
    pub fn ports(&self) -> Vec<Port> {
        let fou = self
            .fou
            .iter()
            .map(|f| Port { fou: f.protocol.is_some(), ..Port::of(Kind::Gue, f.port) });
        self.up()
            .filter_map(FoundTunnel::port)
            .chain(fou)
            .chain(self.l2tp.iter().copied())
            .collect()
    }

    /// The interfaces that these names and patterns (`eth*`) match; without any, those below the
    /// tunnel devices that are up, or else the default route's.
    ///
    /// # Errors
    /// A name or a pattern matches nothing; or nothing is asked for and nothing is found.
    pub fn choose(&self, wanted: &[String], place: &str) -> Result<ChosenLinks> {
        if wanted.is_empty() {
            return self.underlays(place);
        }
        if let Some(name) = wanted.iter().find(|name| self.named(name).is_empty()) {
            let what = if name.contains(['*', '?', '[']) {
                "no interface matches"
            } else {
                "there is no interface"
            };
            let known: Vec<_> = self.links.iter().map(|l| sanitize(&l.name).into_owned()).collect();
            bail!("{what} {}{place}: try one of {}", sanitize(name), known.join(", "));
        }
        Ok(ChosenLinks { links: self.of(&self.wanted(wanted)), notices: Vec::new() })
    }

    /// The indexes of what [`NetnsView::choose`] would choose at present.
    pub fn wanted(&self, wanted: &[String]) -> BTreeSet<u32> {
        if wanted.is_empty() {
            let mut found: BTreeSet<u32> = self.up().filter_map(|t| t.underlay).collect();
            if self.open().is_some() {
                found.extend(self.default_route);
            }
            return found;
        }
        wanted.iter().flat_map(|name| self.named(name)).collect()
    }

    fn of(&self, indexes: &BTreeSet<u32>) -> Vec<Link> {
        self.links.iter().filter(|l| indexes.contains(&l.index)).cloned().collect()
    }

    /// The interfaces that a name or a pattern matches. Names take precedence: an interface may be
    /// called `a*`.
    fn named(&self, name: &str) -> Vec<u32> {
        let any = |of: &dyn Fn(&str) -> bool| {
            let is = |l: &&Link| of(&l.name) || l.altnames.iter().any(|n| of(n));
            self.links.iter().filter(is).map(|l| l.index).collect::<Vec<_>>()
        };
        let named = any(&|n| n == name);
        match Pattern::new(name) {
            Ok(pattern) if named.is_empty() => any(&|n| pattern.matches(n)),
            _ => named,
        }
    }

    fn up(&self) -> impl Iterator<Item = &FoundTunnel> {
        self.tunnels.iter().chain(&self.elsewhere).filter(|t| t.device.up)
    }

    fn open(&self) -> Option<&FoundTunnel> {
        self.up().find(|t| t.is_open())
    }

    fn underlays(&self, place: &str) -> Result<ChosenLinks> {
        let mut found = self.wanted(&[]);
        if found.is_empty() {
            found.extend(self.default_route);
        }
        let mut notices = Vec::new();
        let name =
            |i: &u32| self.link(*i).map_or_else(String::new, |l| sanitize(&l.name).into_owned());
        let names = found.iter().map(name).collect::<Vec<_>>().join(", ");
        match (found.is_empty(), self.up().next(), self.open()) {
            (true, ..) => bail!("there is no tunnel device and no default route{place}: name the interface to watch"),
            (_, None, _) => notices.push(format!("no tunnel device found{place}: watching {names}, where the default route leads")),
            (_, _, Some(t)) if self.default_route.is_some() => notices.push(format!(
                "{} sends each packet by its own route: watching {names}; name other interfaces that it may use",
                sanitize(&t.device.name)
            )),
            _ => {}
        }
        Ok(ChosenLinks { links: self.of(&found), notices })
    }

    /// The interfaces below one, and how.
    fn lowers(&self, upper: &Link) -> Vec<(u32, Lower)> {
        let ports = |how| {
            self.links
                .iter()
                .filter(|l| l.master == Some(upper.index))
                .map(move |l| (l.index, how))
                .collect()
        };
        let here = upper.lower.filter(|_| upper.lower_netnsid.is_none());
        match upper.kind.as_deref() {
            // Received packets pass only the ports' hooks, and so do sent ones unless the VRF has a
            // queueing discipline. What remains are packets between its own addresses.
            Some("vrf") if upper.qdisc == "noqueue" => Vec::new(),
            Some("bond" | "team" | "vrf") => ports(Lower::Share),
            Some("bridge") => ports(Lower::Some),
            // Its ports belong to the datapath, as do the other internal ones.
            Some("openvswitch") => {
                let is_datapath =
                    |i| self.link(i).is_some_and(|l| l.kind.as_deref() == Some("openvswitch"));
                self.links
                    .iter()
                    .filter(|l| l.master.is_some_and(is_datapath))
                    .map(|l| (l.index, Lower::Some))
                    .collect()
            }
            // Both ends see all packets; the one created first serves as the lower one.
            Some("veth" | "netkit") => here
                .filter(|peer| *peer < upper.index)
                .map(|peer| (peer, Lower::All))
                .into_iter()
                .collect(),
            // Not macsec: below it nobody can read its packets.
            Some(
                "vlan" | "macvlan" | "macvtap" | "ipvlan" | "ipvtap" | "vti" | "vti6" | "xfrm",
            ) => here.map(|l| (l, Lower::All)).into_iter().collect(),
            _ => {
                let tunnel = self.tunnels.iter().find(|t| t.device.ifindex == upper.index);
                tunnel.and_then(|t| t.underlay).map(|l| (l, Lower::All)).into_iter().collect()
            }
        }
    }

    /// The interfaces to leave out of totals, because others among the chosen ones count the same
    /// packets. If everything below an interface is chosen as well, the lower ones count, since
    /// they see the outermost headers. A bond of which only some ports are chosen counts instead of
    /// these ports; a bridge never does, because it does not see what it forwards from port to
    /// port.
    pub fn overlaps(&self, chosen: &[u32]) -> Vec<Overlap> {
        let mut found = Vec::new();
        for link in chosen.iter().filter_map(|i| self.link(*i)) {
            let index = link.index;
            if let Some(counted_on) = self.below(link, chosen, 0) {
                found.push(Overlap { index, counted_on });
            } else if let Some(master) =
                link.master.filter(|m| chosen.contains(m)).and_then(|m| self.link(m))
                && self.lowers(master).contains(&(index, Lower::Share))
                && self.below(master, chosen, 0).is_none()
            {
                found.push(Overlap { index, counted_on: master.index });
            }
        }
        found
    }

    /// The first of the chosen interfaces below an interface that all of its packets pass.
    fn below(&self, link: &Link, chosen: &[u32], depth: u8) -> Option<u32> {
        if depth > 8 {
            return None; // the kernel allows no deeper stack, but links change during a read
        }
        let lowers = self.lowers(link);
        let seen = |i: u32| {
            if chosen.contains(&i) { Some(i) } else { self.below(self.link(i)?, chosen, depth + 1) }
        };
        let mut found = lowers.iter().map(|(i, how)| (seen(*i), *how));
        match lowers.first()?.1 {
            Lower::All | Lower::Share => {
                let all: Vec<u32> = found.map(|f| f.0).collect::<Option<_>>()?;
                all.first().copied()
            }
            Lower::Some => found.find_map(|f| f.0),
        }
    }

    /// The notice when two ports of one bridge are chosen.
    pub fn bridged(&self, chosen: &[u32]) -> Vec<String> {
        let bridges = self
            .links
            .iter()
            .filter(|l| matches!(l.kind.as_deref(), Some("bridge" | "openvswitch")));
        bridges
            .filter_map(|bridge| {
                let ports: Vec<_> = self.links.iter().filter(|l| l.master == Some(bridge.index) && chosen.contains(&l.index)).collect();
                let names: Vec<_> = ports.iter().map(|l| sanitize(&l.name).into_owned()).collect();
                let bridge = sanitize(&bridge.name);
                (ports.len() > 1)
                    .then(|| format!("packets that {bridge} forwards between {} appear on each of them and count once in totals", names.join(", ")))
            })
            .collect()
    }
}

/// What may have been moved out of a namespace: another one's WireGuard devices, and the UDP ports
/// in use there.
struct Elsewhere {
    cookie: u64,
    devices: Vec<TunnelDevice>,
    ports: BTreeSet<u16>,
}

impl Elsewhere {
    /// Of the calling thread's namespace.
    fn look() -> Result<Elsewhere> {
        let mut netlink = Netlink::open()?;
        let links = netlink.links()?;
        let is_wireguard = |link: &&Link| link.kind.as_deref() == Some("wireguard");
        let links: Vec<Link> = links.iter().filter(is_wireguard).cloned().collect();
        Ok(Elsewhere {
            cookie: netns::cookie()?,
            devices: netlink.tunnels_among(&links),
            ports: udp_ports()?,
        })
    }

    /// Those whose socket is not there, while these ports are in use here.
    fn moved_from(self, ports: &BTreeSet<u16>) -> impl Iterator<Item = TunnelDevice> {
        let away = move |port| ports.contains(&port) && !self.ports.contains(&port);
        let moved = self.devices.into_iter().filter(move |d| d.port.is_some_and(&away));
        // Indexes of that namespace are meaningless here.
        moved.map(|d| TunnelDevice { underlay: None, master: None, ..d })
    }
}

/// The WireGuard devices of other namespaces that were created in this one. A device's socket, and
/// so its packets, stay where it was created, and its port is in use there, not where the device is
/// now.
fn moved_wireguard(place: &NetnsHandle) -> Result<Vec<TunnelDevice>> {
    let (own, ports) = (place.cookie()?, place.run(udp_ports)??);
    let named = netns::others().into_iter().filter_map(|(_, netns)| netns.ok());
    let there = named.map_while(|netns| netns.within(Elsewhere::look).ok()); // stop where privilege ends
    let all = std::iter::once(Elsewhere::look()).chain(there);
    let others = all.filter_map(Result::ok).filter(|there| there.cookie != own);
    Ok(others.flat_map(|there| there.moved_from(&ports)).collect())
}

/// The UDP ports in use in the calling thread's namespace, including the kernel's own sockets.
fn udp_ports() -> Result<BTreeSet<u16>> {
    let mut ports = BTreeSet::new();
    for file in ["udp", "udp6"] {
        // There is no udp6 without IPv6.
        let text = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        ports.extend(text.lines().filter_map(udp_port));
    }
    Ok(ports)
}

/// The local port in a line of /proc/net/udp: `  12: 0100007F:14E9 00000000:0000 07 ...`
fn udp_port(line: &str) -> Option<u16> {
    let (_, port) = line.split_whitespace().nth(1)?.rsplit_once(':')?;
    u16::from_str_radix(port, 16).ok()
}

/// The ports to which the user has not given a meaning.
pub fn not_chosen<'a>(ports: &'a [Port], chosen: &'a [u16]) -> impl Iterator<Item = Port> + 'a {
    ports.iter().copied().filter(|p| !chosen.contains(&p.port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, name: &str, kind: &str) -> Link {
        Link {
            index,
            name: name.to_owned(),
            kind: (!kind.is_empty()).then(|| kind.to_owned()),
            up: true,
            ..Link::default()
        }
    }

    fn over(upper: Link, lower: u32) -> Link {
        Link { lower: Some(lower), ..upper }
    }

    fn port(of: u32, link: Link) -> Link {
        Link { master: Some(of), ..link }
    }

    /// eth0 and eth1 in bond0, bond0.5 on it, vx1 on that; br0 with vx1 and a veth; v0-v1 a pair.
    fn scene() -> NetnsView {
        let vxlan = over(port(6, link(5, "vx1", "vxlan")), 4);
        let links = vec![
            port(3, link(1, "eth0", "")),
            port(3, link(2, "eth1", "")),
            link(3, "bond0", "bond"),
            over(link(4, "bond0.5", "vlan"), 3),
            vxlan.clone(),
            link(6, "br0", "bridge"),
            port(6, link(7, "tap[0]", "tun")),
            over(link(8, "v0", "veth"), 9),
            over(link(9, "v1", "veth"), 8),
            link(10, "wan", ""),
        ];
        let device = TunnelDevice::of(&vxlan).expect("a tunnel");
        NetnsView {
            links,
            tunnels: vec![FoundTunnel { device, underlay: Some(4) }],
            elsewhere: vec![],
            fou: vec![],
            l2tp: vec![],
            default_route: Some(10),
        }
    }

    fn overlaps(chosen: &[u32]) -> Vec<(u32, u32)> {
        scene().overlaps(chosen).iter().map(|o| (o.index, o.counted_on)).collect()
    }

    #[test]
    fn the_same_packet_is_counted_once() {
        assert_eq!(overlaps(&[1, 2, 10]), []);
        assert_eq!(overlaps(&[1, 2, 3]), [(3, 1)], "all ports: the bond is left out");
        assert_eq!(overlaps(&[1, 3]), [(1, 3)], "one port: the bond sees more");
        assert_eq!(overlaps(&[3, 4]), [(4, 3)], "a VLAN and its interface");
        assert_eq!(overlaps(&[4, 5]), [(5, 4)], "a tunnel and its underlay");
        assert_eq!(overlaps(&[1, 2, 5]), [(5, 1)], "through three floors");
        assert_eq!(overlaps(&[1, 5]), [], "eth1 is not watched, so half of it is not");
        assert_eq!(overlaps(&[1, 3, 4, 5]), [(1, 3), (4, 3), (5, 4)]);
        assert_eq!(overlaps(&[6, 7]), [(6, 7)], "a bridge and a port");
        assert_eq!(overlaps(&[8, 9]), [(9, 8)], "both ends of a pair");
        assert_eq!(overlaps(&[1, 99]), [], "one that is gone");
    }

    #[test]
    fn interfaces_that_only_look_stacked_count_for_themselves() {
        let red = |qdisc: &str| Link { qdisc: qdisc.to_owned(), ..link(1, "red", "vrf") };
        let of = |links: Vec<Link>, chosen: &[u32]| {
            let found = NetnsView { links, ..NetnsView::default() }.overlaps(chosen);
            found.iter().map(|o| (o.index, o.counted_on)).collect::<Vec<_>>()
        };
        let p = port(1, link(2, "p", ""));
        assert_eq!(of(vec![red("noqueue"), p.clone()], &[1, 2]), [], "local packets only");
        assert_eq!(of(vec![red("fq"), p], &[1, 2]), [(1, 2)], "sent packets pass both");
        // A datapath and its internal port, which no other interface counts.
        let ovs = vec![
            link(1, "ovs-system", "openvswitch"),
            link(2, "br-int", "openvswitch"),
            port(1, link(3, "eth0", "")),
            link(4, "br0", "bridge"),
            port(4, link(5, "eth1", "")),
        ];
        assert_eq!(of(ovs.clone(), &[2, 3]), [(2, 3)]);
        assert_eq!(of(ovs, &[2, 5]), [], "another bridge's port");
        let upper = |kind: &str| vec![link(1, "eth0", ""), over(link(2, "up", kind), 1)];
        assert_eq!(of(upper("macsec"), &[1, 2]), [], "what is encrypted below is read above");
        assert_eq!(of(upper("xfrm"), &[1, 2]), [(2, 1)], "ESP is a tunnel");
        assert_eq!(of(upper("netkit"), &[1, 2]), [(2, 1)]);
    }

    #[test]
    fn a_wireguard_device_that_moved_away_is_known_by_its_port() {
        let text = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when\n\
                    1: 00000000:CA6C 00000000:0000 07 00000000:00000000 00:00000000\n\
                    2: 00000000000000000000000000000000:1F90 0:0 07\nodd";
        assert_eq!(text.lines().filter_map(udp_port).collect::<Vec<_>>(), [51820, 8080]);
        let device = |index, port| TunnelDevice {
            port: Some(port),
            master: Some(9),
            ..TunnelDevice::of(&link(index, "wg0", "wireguard")).expect("a tunnel")
        };
        let there = Elsewhere {
            cookie: 7,
            devices: vec![device(1, 51820), device(2, 51821), device(3, 51822)],
            ports: [51821].into(),
        };
        let here = [51820, 51821].into();
        let moved: Vec<_> = there.moved_from(&here).map(|d| (d.ifindex, d.master)).collect();
        assert_eq!(
            moved,
            [(1, None)],
            "the second is in its own namespace, the third's socket is elsewhere"
        );
    }

    #[test]
    fn circular_stacks_end() {
        let links = vec![over(link(1, "a", "macvlan"), 2), over(link(2, "b", "macvlan"), 1)];
        let ring = NetnsView { links, ..NetnsView::default() };
        assert_eq!(ring.overlaps(&[1]).len(), 1, "it is above itself, and the search ends");
    }

    fn names(wanted: &[&str]) -> Result<Vec<String>> {
        let wanted: Vec<String> = wanted.iter().map(|s| (*s).to_owned()).collect();
        Ok(scene().choose(&wanted, "")?.links.into_iter().map(|l| l.name).collect())
    }

    #[test]
    fn names_and_patterns_select_interfaces() {
        assert_eq!(names(&["eth*"]).expect("two"), ["eth0", "eth1"]);
        assert_eq!(names(&["bond?", "eth0", "eth*"]).expect("three"), ["eth0", "eth1", "bond0"]);
        assert_eq!(
            names(&["tap[0]"]).expect("by its name, although it is also a pattern"),
            ["tap[0]"]
        );
        assert_eq!(
            names(&["v[01]", "v*"]).expect("two"),
            ["vx1", "v0", "v1"].map(String::from)[..].to_vec()
        );
        for (bad, says) in [
            ("eth9", "there is no interface eth9: try one of eth0"),
            ("x*", "no interface matches x*"),
            ("[", "no interface"),
        ] {
            let e = names(&[bad]).expect_err("nothing").to_string();
            assert!(e.contains(says), "{e}");
        }
    }

    #[test]
    fn alternative_names_are_names() {
        let mut s = scene();
        s.links[9].altnames = vec!["uplink-of-rack-17".to_owned(), "enp3s0".to_owned()];
        let of = |name: &str| s.wanted(&[name.to_owned()]).into_iter().collect::<Vec<_>>();
        assert_eq!(
            (of("uplink-of-rack-17"), of("enp*"), of("wan")),
            (vec![10], vec![10], vec![10])
        );
        assert!(of("uplink").is_empty());
    }

    #[test]
    fn devices_moved_to_other_namespaces_keep_port_and_underlay_here() {
        let mut s = scene();
        let mut moved = s.tunnels.pop().expect("a tunnel");
        moved.device.port = Some(7789);
        s.elsewhere = vec![FoundTunnel { underlay: Some(10), ..moved }];
        assert_eq!(s.ports().iter().map(|p| p.port).collect::<Vec<_>>(), [7789]);
        assert_eq!(s.choose(&[], "").expect("its underlay").links[0].name, "wan");
        assert_eq!(s.overlaps(&[5, 10]), [], "its index is another namespace's");
    }

    #[test]
    fn without_names_underlays_are_chosen() {
        assert_eq!(names(&[]).expect("the underlay"), ["bond0.5"]);
        let mut s = scene();
        s.tunnels[0].device.up = false;
        let c = s.choose(&[], "").expect("the default route");
        assert_eq!((c.links[0].name.as_str(), c.notices.len()), ("wan", 1));
        assert!(
            c.notices[0].contains("no tunnel device found: watching wan, where"),
            "{:?}",
            c.notices
        );
        s.default_route = None;
        assert!(
            s.choose(&[], " in network namespace x")
                .expect_err("nothing")
                .to_string()
                .contains("in network namespace x: name")
        );
        // One device is bound, another takes its ends from each packet.
        let mut s = scene();
        let mut external = s.tunnels[0].clone();
        external.underlay = None;
        external.device.collect_metadata = true;
        s.tunnels.push(external);
        let c = s.choose(&[], "").expect("both");
        assert_eq!(c.links.iter().map(|l| l.name.as_str()).collect::<Vec<_>>(), ["bond0.5", "wan"]);
        assert!(c.notices[0].contains("each packet by its own route"), "{:?}", c.notices);
    }

    #[test]
    fn two_ports_of_a_bridge_are_reported() {
        let said = scene().bridged(&[5, 7, 10]);
        assert!(
            said.len() == 1 && said[0].contains("packets that br0 forwards between vx1, tap[0]"),
            "{said:?}"
        );
    }

    #[test]
    fn ids_stand_for_bridges_and_vrfs() {
        let mut s = scene();
        let called = |s: &NetnsView| {
            s.segments().map(|(tunnel, s)| format!("{tunnel}: {s}")).collect::<Vec<_>>()
        };
        let id = 7;
        s.tunnels[0].device.id = Some(id);
        let index = s.tunnels[0].device.ifindex;
        assert_eq!(s.link(index).expect("vx1").name, "vx1");
        assert_eq!(called(&s), [format!("vxlan {id}: bridge br0")]);
        // Its bridge routes in a VRF, and has other ports.
        s.links.push(link(50, "red", "vrf"));
        let bridge = s.link(index).and_then(|l| l.master).expect("br0");
        for l in &mut s.links {
            l.master = if l.index == bridge { Some(50) } else { l.master };
        }
        assert_eq!(called(&s), [format!("vxlan {id}: br0 in VRF red")]);
        // The tunnel is its only port.
        s.links.iter_mut().filter(|l| l.index != index && l.master == Some(bridge)).for_each(|l| {
            l.master = None;
        });
        assert_eq!(called(&s), [format!("vxlan {id}: VRF red")]);
        // By the interfaces over it.
        for l in &mut s.links {
            l.master = if l.index == bridge { None } else { l.master };
        }
        let mut vlan = link(51, "br0.10", "vlan");
        (vlan.lower, vlan.master) = (Some(bridge), Some(50));
        s.links.push(vlan);
        assert_eq!(called(&s), [format!("vxlan {id}: VRF red")]);
        s.links.push(link(52, "blue", "vrf"));
        let mut other = link(53, "br0.20", "vlan");
        (other.lower, other.master) = (Some(bridge), Some(52));
        s.links.push(other);
        assert_eq!(called(&s), [format!("vxlan {id}: bridge br0")], "ambiguous");
    }

    #[test]
    fn masters_are_named() {
        let mut s = scene();
        s.links[5].master = Some(11);
        s.links.push(link(11, "red", "vrf"));
        let vx1 = s.link(5).expect("vx1");
        assert_eq!(s.masters(vx1), (Some("br0"), Some("red")));
        assert_eq!(s.masters(s.link(10).expect("wan")), (None, None));
    }
}
