// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parts of the lab: hosts, networks, addresses, and the steps that create it. Pure.
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use anyhow::{Result, bail};

use crate::kernel::netlink::NewTunnel;
use model::flow::Kind;

/// The prefix of the lab's namespaces, unless another one is given.
pub const PREFIX: &str = "tmon";
/// The first network's tunnel id; network `i` has this plus `i`.
pub const FIRST_ID: u32 = 10000;
/// The underlay interface of every host.
pub const UNDERLAY: &str = "eth0";
/// The switch between the hosts, in the fabric namespace. It sees every frame once, on ingress.
pub const SWITCH: &str = "switch";
/// MTU of the underlay, bytes.
const UNDERLAY_MTU: u32 = 1500;

/// The parameters of a lab.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabOptions {
    /// The prefix of its namespaces: `PREFIX-host0`, `PREFIX-fabric`.
    pub prefix: String,
    /// The number of hosts, 2 to 99.
    pub hosts: u8,
    /// The number of networks, 1 to 99. Every host has a client in each.
    pub networks: u8,
    /// The encapsulation: vxlan, geneve, gretap, gre or ipip, if the kernel has it.
    pub kind: Kind,
    /// Whether the hosts reach each other over IPv6.
    pub ipv6_underlay: bool,
    /// Whether the clients have IPv6 addresses in addition to the IPv4 ones.
    pub ipv6_clients: bool,
    /// For tests of failures while creating it.
    #[doc(hidden)]
    pub interrupt: Option<Interrupt>,
}

/// When creating it fails, as a number of steps.
#[doc(hidden)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The step after this many fails.
    Fail(usize),
    /// Stop after this many steps, as if killed.
    Crash(usize),
}

impl Default for LabOptions {
    fn default() -> Self {
        LabOptions {
            prefix: PREFIX.to_owned(),
            hosts: 9,
            networks: 4,
            kind: Kind::Vxlan,
            ipv6_underlay: false,
            ipv6_clients: false,
            interrupt: None,
        }
    }
}

/// The only place that knows the lab's names and addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    options: LabOptions,
}

/// One change to the machine, in one namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlanStep {
    /// The namespace it happens in.
    pub netns: String,
    /// What happens.
    pub action: PlanAction,
}

/// What a step does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanAction {
    /// Make the namespace.
    Namespace,
    /// Write a sysctl, a path below `/proc/sys/net`.
    Setting {
        /// The path.
        key: String,
        /// What is written.
        value: &'static str,
        /// Whether a kernel may lack it: then what it would silence is missing as well.
        optional: bool,
    },
    /// Make a bridge.
    Bridge(String),
    /// Make a pair of interfaces.
    Veth {
        /// The end in this namespace.
        link: String,
        /// The other end.
        peer: String,
        /// The namespace of the other end; `None` is this one.
        peer_netns: Option<String>,
        /// MTU of both, bytes.
        mtu: u32,
    },
    /// Make a tunnel device on [`UNDERLAY`].
    Tunnel {
        /// Its name.
        link: String,
        /// What it is; its `underlay` is filled in when the step is carried out.
        tunnel: NewTunnel,
        /// MTU, bytes.
        mtu: u32,
    },
    /// Make an interface a port of a bridge.
    Port {
        /// The interface.
        link: String,
        /// The bridge.
        bridge: String,
        /// Whether it is isolated from the other isolated ports.
        isolated: bool,
    },
    /// Give an interface an address.
    Address {
        /// The interface.
        link: String,
        /// The address.
        address: IpAddr,
        /// Its prefix length.
        prefix: u8,
    },
    /// Route one address to an interface.
    Route {
        /// The address.
        to: IpAddr,
        /// The interface.
        link: String,
    },
    /// Bring an interface up.
    Up(String),
    /// Make an interface promiscuous.
    Promiscuous(String),
    /// Note the lab's parameters on an interface: the last step.
    Note {
        /// The interface.
        link: String,
        /// The text.
        text: String,
    },
}

impl fmt::Display for PlanStep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.netns)?;
        match &self.action {
            PlanAction::Namespace => f.write_str("create the namespace"),
            PlanAction::Setting { key, value, .. } => write!(f, "set {key} to {value}"),
            PlanAction::Bridge(link) => write!(f, "make bridge {link}"),
            PlanAction::Veth { link, peer, peer_netns: Some(netns), .. } => {
                write!(f, "connect {link} to {peer} of {netns}")
            }
            PlanAction::Veth { link, peer, .. } => write!(f, "connect {link} to {peer}"),
            PlanAction::Tunnel { link, tunnel, .. } => {
                write!(f, "make {} device {link}", tunnel.kind)
            }
            PlanAction::Port { link, bridge, .. } => write!(f, "put {link} into {bridge}"),
            PlanAction::Address { link, address, prefix } => {
                write!(f, "give {link} the address {address}/{prefix}")
            }
            PlanAction::Route { to, link } => write!(f, "route {to} to {link}"),
            PlanAction::Up(link) => write!(f, "bring up {link}"),
            PlanAction::Promiscuous(link) => write!(f, "make {link} promiscuous"),
            PlanAction::Note { link, .. } => write!(f, "note on {link} that the lab is complete"),
        }
    }
}

impl Plan {
    /// The plan for these options, or what is wrong with them.
    pub fn new(options: &LabOptions) -> Result<Self> {
        check_prefix(&options.prefix)?;
        if !(2..=99).contains(&options.hosts) || !(1..=99).contains(&options.networks) {
            bail!(
                "a lab has 2 to 99 hosts and 1 to 99 networks, not {} and {}",
                options.hosts,
                options.networks
            );
        }
        match options.kind {
            Kind::Vxlan | Kind::Geneve | Kind::Gretap | Kind::Gre => {}
            Kind::Ipip if !options.ipv6_underlay && !options.ipv6_clients => {}
            Kind::Ipip => {
                bail!("IPIP is IPv4 in IPv4 and cannot carry an IPv6 lab (try --kind gre)")
            }
            kind => bail!(
                "the lab cannot be made of '{kind}' (one of: vxlan, geneve, gretap, gre, ipip)"
            ),
        }
        Ok(Plan { options: options.clone() })
    }

    /// The options it was made from.
    pub fn options(&self) -> &LabOptions {
        &self.options
    }

    /// The namespace of host `k`.
    pub fn host(&self, k: u8) -> String {
        format!("{}-host{k}", self.options.prefix)
    }

    /// The namespace of the switch.
    pub fn fabric(&self) -> String {
        fabric(&self.options.prefix)
    }

    /// Host `k`'s addresses on the underlay; the tunnels use the last one.
    pub fn underlay(&self, k: u8) -> Vec<(IpAddr, u8)> {
        let mut addresses = vec![(IpAddr::from([172, 16, 1, 100 + k]), 24)];
        if self.options.ipv6_underlay {
            // Reads like the IPv4 one: fd00:172:16:1::100.
            addresses.push((v6([0xfd00, 0x172, 0x16, 0x1, 0, 0, 0, digits(100 + k)]), 64));
        }
        addresses
    }

    /// The address that host `k`'s tunnels use.
    pub fn endpoint(&self, k: u8) -> IpAddr {
        let underlay = self.underlay(k);
        underlay[underlay.len() - 1].0
    }

    /// The address to which network `i` sends packets for every host.
    pub fn group(&self, i: u8) -> IpAddr {
        match self.options.ipv6_underlay {
            false => Ipv4Addr::new(239, 1, 1, 1 + i).into(),
            true => v6([0xff05, 0x239, 0x1, 0x1, 0, 0, 0, digits(1 + i)]),
        }
    }

    /// The tunnel id of network `i`.
    pub fn id(&self, i: u8) -> u32 {
        FIRST_ID + u32::from(i)
    }

    /// The IPv4 address of host `k`'s client in network `i`.
    pub fn client(&self, i: u8, k: u8) -> IpAddr {
        [192, 168, i, k + 1].into()
    }

    /// The IPv6 address of host `k`'s client in network `i`, if the lab has them.
    pub fn client6(&self, i: u8, k: u8) -> Option<IpAddr> {
        self.options
            .ipv6_clients
            .then(|| v6([0xfd00, 0x192, 0x168, digits(i), 0, 0, 0, digits(k + 1)]))
    }

    /// MTU of the clients: what the underlay leaves them.
    pub fn client_mtu(&self) -> u32 {
        // IPv6's header is 20 bytes longer; 50 bytes are Ethernet, VXLAN, UDP and IPv4, the longest
        // of the kinds.
        UNDERLAY_MTU - if self.options.ipv6_underlay { 70 } else { 50 }
    }

    /// All steps, in order.
    pub fn steps(&self) -> Vec<PlanStep> {
        let mut steps = Steps { steps: Vec::new(), netns: self.fabric() };
        steps.namespace(false);
        steps.push(PlanAction::Bridge(SWITCH.to_owned()));
        // When watched, the switch shows every frame of the lab exactly once.
        steps.push(PlanAction::Promiscuous(SWITCH.to_owned()));
        steps.up(SWITCH);
        for k in 0..self.options.hosts {
            steps.netns = self.host(k);
            steps.namespace(self.options.ipv6_underlay || self.options.ipv6_clients);
            steps.netns = self.fabric();
            let port = format!("host{k}");
            steps.push(PlanAction::Veth {
                link: port.clone(),
                peer: UNDERLAY.to_owned(),
                peer_netns: Some(self.host(k)),
                mtu: UNDERLAY_MTU,
            });
            steps.port(&port, SWITCH);
            steps.netns = self.host(k);
            if self.options.ipv6_underlay {
                steps.ipv6(UNDERLAY);
            }
            for (address, prefix) in self.underlay(k) {
                steps.push(PlanAction::Address { link: UNDERLAY.to_owned(), address, prefix });
            }
            steps.up(UNDERLAY);
            match self.options.kind {
                Kind::Gre | Kind::Ipip => self.routed(k, &mut steps),
                _ => (0..self.options.networks).for_each(|i| self.switched(k, i, &mut steps)),
            }
        }
        steps.netns = self.fabric();
        steps.push(PlanAction::Note { link: SWITCH.to_owned(), text: self.note() });
        steps.steps
    }

    /// Host `k`'s part of network `i` if the tunnel carries Ethernet: a bridge of tunnel and
    /// client.
    fn switched(&self, k: u8, i: u8, steps: &mut Steps) {
        let (bridge, client, port) = (format!("br{i}"), format!("client{i}"), format!("port{i}"));
        steps.push(PlanAction::Bridge(bridge.clone()));
        let mtu = self.client_mtu();
        if self.options.kind == Kind::Vxlan {
            let link = format!("vxlan{i}");
            let tunnel = NewTunnel {
                local: Some(self.endpoint(k)),
                remote: Some(self.group(i)),
                port: Some(4789),
                ..self.tunnel(i)
            };
            steps.push(PlanAction::Tunnel { link: link.clone(), tunnel, mtu });
            steps.port(&link, &bridge);
        } else {
            // No groups here: a full mesh, and packets from one host are not forwarded to another.
            for p in (0..self.options.hosts).filter(|p| *p != k) {
                let link = format!("{}{i}-{p}", self.options.kind);
                steps.push(PlanAction::Tunnel {
                    link: link.clone(),
                    tunnel: self.tunnel_to(k, p, i),
                    mtu,
                });
                steps.push(PlanAction::Port {
                    link: link.clone(),
                    bridge: bridge.clone(),
                    isolated: true,
                });
                steps.up(&link);
            }
        }
        steps.push(PlanAction::Veth {
            link: client.clone(),
            peer: port.clone(),
            peer_netns: None,
            mtu,
        });
        steps.port(&port, &bridge);
        steps.up(&bridge);
        self.addresses(k, i, &client, steps);
    }

    /// Host `k`'s networks if the tunnel carries IP: a route to every other client.
    fn routed(&self, k: u8, steps: &mut Steps) {
        for i in 0..self.options.networks {
            // A veth pair that leads nowhere, which holds the address.
            let (client, peer) = (format!("client{i}"), format!("port{i}"));
            steps.push(PlanAction::Veth {
                link: client.clone(),
                peer: peer.clone(),
                peer_netns: None,
                mtu: self.client_mtu(),
            });
            steps.up(&peer);
            self.addresses(k, i, &client, steps);
        }
        for p in (0..self.options.hosts).filter(|p| *p != k) {
            // IPIP has no id, so one tunnel carries all networks.
            let tunnels = if self.options.kind == Kind::Ipip { 1 } else { self.options.networks };
            let name = |i: u8| format!("{}{}-{p}", self.options.kind, i.min(tunnels - 1));
            for i in 0..tunnels {
                let mut tunnel = self.tunnel_to(k, p, i);
                tunnel.id = tunnel.id.filter(|_| self.options.kind != Kind::Ipip);
                steps.push(PlanAction::Tunnel { link: name(i), tunnel, mtu: self.client_mtu() });
                if self.options.ipv6_clients {
                    steps.ipv6(&name(i));
                }
                steps.up(&name(i));
            }
            for i in 0..self.options.networks {
                for to in [Some(self.client(i, p)), self.client6(i, p)].into_iter().flatten() {
                    steps.push(PlanAction::Route { to, link: name(i) });
                }
            }
        }
    }

    fn addresses(&self, k: u8, i: u8, client: &str, steps: &mut Steps) {
        steps.push(PlanAction::Address {
            link: client.to_owned(),
            address: self.client(i, k),
            prefix: 24,
        });
        if let Some(address) = self.client6(i, k) {
            steps.ipv6(client);
            steps.push(PlanAction::Address { link: client.to_owned(), address, prefix: 64 });
        }
        steps.up(client);
    }

    fn tunnel(&self, i: u8) -> NewTunnel {
        NewTunnel {
            kind: self.options.kind,
            id: Some(self.id(i)),
            port: None,
            local: None,
            remote: None,
            underlay: None,
            learning: true,
        }
    }

    fn tunnel_to(&self, k: u8, p: u8, i: u8) -> NewTunnel {
        let port = (self.options.kind == Kind::Geneve).then_some(6081);
        NewTunnel {
            local: Some(self.endpoint(k)),
            remote: Some(self.endpoint(p)),
            port,
            ..self.tunnel(i)
        }
    }

    /// The text that the last step notes, for [`read_note`].
    pub fn note(&self) -> String {
        let o = &self.options;
        format!(
            "tmon lab kind={} hosts={} networks={} ipv6-underlay={} ipv6-clients={}",
            o.kind, o.hosts, o.networks, o.ipv6_underlay, o.ipv6_clients
        )
    }
}

/// The plan of a complete lab, from its note; `None` if this is not such a note.
pub fn read_note(prefix: &str, note: &str) -> Option<Plan> {
    let mut options = LabOptions { prefix: prefix.to_owned(), ..LabOptions::default() };
    for word in note.strip_prefix("tmon lab ")?.split(' ') {
        let (key, value) = word.split_once('=')?;
        match key {
            "kind" => options.kind = value.parse().ok()?,
            "hosts" => options.hosts = value.parse().ok()?,
            "networks" => options.networks = value.parse().ok()?,
            "ipv6-underlay" => options.ipv6_underlay = value.parse().ok()?,
            "ipv6-clients" => options.ipv6_clients = value.parse().ok()?,
            _ => return None,
        }
    }
    Plan::new(&options).ok()
}

/// The namespace of the switch of the lab with this prefix.
pub fn fabric(prefix: &str) -> String {
    format!("{prefix}-fabric")
}

/// Whether a namespace belongs to the lab with this prefix.
pub fn owns(prefix: &str, netns: &str) -> bool {
    let Some(rest) = netns.strip_prefix(prefix).and_then(|r| r.strip_prefix('-')) else {
        return false;
    };
    let number = rest
        .strip_prefix("host")
        .filter(|n| !n.is_empty() && n.len() <= 2 && n.bytes().all(|b| b.is_ascii_digit()));
    rest == "fabric" || number.is_some()
}

/// Whether a prefix is valid.
pub fn check_prefix(prefix: &str) -> Result<()> {
    let fine = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if prefix.is_empty() || prefix.len() > 100 || !prefix.chars().all(fine) {
        bail!("a lab's prefix is 1 to 100 letters, digits, '-' and '_'");
    }
    Ok(())
}

/// The steps so far; `netns` is the namespace of the next one.
struct Steps {
    steps: Vec<PlanStep>,
    netns: String,
}

impl Steps {
    fn push(&mut self, action: PlanAction) {
        self.steps.push(PlanStep { netns: self.netns.clone(), action });
    }

    fn up(&mut self, link: &str) {
        self.push(PlanAction::Up(link.to_owned()));
    }

    fn port(&mut self, link: &str, bridge: &str) {
        self.push(PlanAction::Port {
            link: link.to_owned(),
            bridge: bridge.to_owned(),
            isolated: false,
        });
        self.up(link);
    }

    fn set(&mut self, key: impl Into<String>, value: &'static str) {
        self.push(PlanAction::Setting { key: key.into(), value, optional: false });
    }

    fn set_if_there(&mut self, key: &str, value: &'static str) {
        self.push(PlanAction::Setting { key: key.to_owned(), value, optional: true });
    }

    /// A namespace in which nothing sends packets on its own.
    fn namespace(&mut self, ipv6: bool) {
        self.push(PlanAction::Namespace);
        // Interfaces start without IPv6; in an IPv6 lab those that need it get it one by one.
        self.set_if_there("ipv6/conf/default/disable_ipv6", "1");
        if ipv6 {
            // No router solicitation, no autoconfiguration, no address probes; a group is joined
            // with one report.
            for (key, value) in [
                ("router_solicitations", "0"),
                ("accept_ra", "0"),
                ("addr_gen_mode", "1"),
                ("accept_dad", "0"),
                ("dad_transmits", "0"),
            ] {
                self.set(format!("ipv6/conf/default/{key}"), value);
            }
            self.set_if_there("ipv6/mld_qrv", "1");
            self.set_if_there("ipv6/neigh/default/base_reachable_time_ms", "3600000");
        } else {
            self.set_if_there("ipv6/conf/all/disable_ipv6", "1");
        }
        // Otherwise a host's bridge also answers for its client's address.
        self.set("ipv4/conf/all/arp_ignore", "1");
        // These are inherited from the machine, where they may have any value.
        self.set("ipv4/conf/all/rp_filter", "0");
        self.set("ipv4/conf/default/rp_filter", "0");
        self.set_if_there("ipv4/igmp_qrv", "1");
        // ARP entries stay valid for an hour, so that there are no requests amid the traffic.
        self.set_if_there("ipv4/neigh/default/base_reachable_time_ms", "3600000");
        // Echo without raw sockets, for everybody.
        self.set("ipv4/ping_group_range", "0 2147483647");
    }

    /// Enables IPv6 on an interface.
    fn ipv6(&mut self, link: &str) {
        self.set(format!("ipv6/conf/{link}/disable_ipv6"), "0");
    }
}

fn v6(segments: [u16; 8]) -> IpAddr {
    Ipv6Addr::from(segments).into()
}

/// The number whose hexadecimal digits are the decimal digits of `n`, so that 100 is written `100`.
fn digits(n: u8) -> u16 {
    let n = u16::from(n);
    ((n / 100) << 8) | ((n / 10 % 10) << 4) | (n % 10)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn plan(change: impl Fn(&mut LabOptions)) -> Plan {
        let mut options = LabOptions::default();
        change(&mut options);
        Plan::new(&options).expect("a plan")
    }

    #[test]
    fn addresses_match_the_design() {
        let p = plan(|_| ());
        assert_eq!((p.host(8), p.fabric()), ("tmon-host8".to_owned(), "tmon-fabric".to_owned()));
        assert_eq!(p.underlay(8), [("172.16.1.108".parse().expect("ip"), 24)]);
        assert_eq!(p.group(3).to_string(), "239.1.1.4");
        assert_eq!((p.id(0), p.id(3)), (10000, 10003));
        assert_eq!(p.client(3, 8).to_string(), "192.168.3.9");
        assert_eq!((p.client_mtu(), p.client6(0, 0)), (1450, None));
        let p = plan(|o| (o.ipv6_underlay, o.ipv6_clients) = (true, true));
        assert_eq!(p.underlay(8)[1].0.to_string(), "fd00:172:16:1::108");
        assert_eq!(p.group(3).to_string(), "ff05:239:1:1::4");
        assert_eq!(p.client6(3, 8).map(|a| a.to_string()).as_deref(), Some("fd00:192:168:3::9"));
        assert_eq!(p.client_mtu(), 1430);
    }

    #[test]
    fn a_plan_survives_its_note() {
        for p in [
            plan(|_| ()),
            plan(|o| (o.kind, o.hosts, o.ipv6_clients) = (Kind::Gretap, 3, true)),
            plan(|o| o.ipv6_underlay = true),
        ] {
            assert!(p.note().len() < 256, "an alias holds 255 bytes");
            assert_eq!(read_note("tmon", &p.note()), Some(p));
        }
        for bad in [
            "",
            "tmon lab",
            "tmon lab kind=none",
            "tmon lab hosts=1",
            "tmon lab hosts=9 colour=red",
            "eth0 to the switch",
        ] {
            assert_eq!(read_note("tmon", bad), None, "{bad}");
        }
    }

    #[test]
    fn options_are_checked() {
        let bad = |change: &dyn Fn(&mut LabOptions)| {
            let mut o = LabOptions::default();
            change(&mut o);
            Plan::new(&o).is_err()
        };
        assert!(bad(&|o| o.hosts = 1) && bad(&|o| o.hosts = 100) && bad(&|o| o.networks = 0));
        assert!(
            bad(&|o| o.prefix = "../x".into())
                && bad(&|o| o.prefix = String::new())
                && bad(&|o| o.prefix = "x".repeat(101))
        );
        assert!(
            bad(&|o| o.kind = Kind::Teredo)
                && bad(&|o| (o.kind, o.ipv6_clients) = (Kind::Ipip, true))
        );
    }

    #[test]
    fn only_its_own_namespaces_are_its_own() {
        assert!(
            owns("tmon", "tmon-host0")
                && owns("tmon", "tmon-host98")
                && owns("tmon", "tmon-fabric")
        );
        for other in [
            "tmon",
            "tmon-",
            "tmon-host",
            "tmon-hostess",
            "tmon-host0-c0",
            "tmon-host123",
            "tmon-t1-host0",
            "xtmon-host0",
            "tmonhost0",
        ] {
            assert!(!owns("tmon", other), "{other}");
        }
    }

    /// For every plan: a step refers only to what an earlier step created, names fit, and nothing
    /// is created twice.
    #[test]
    fn steps_are_in_order() {
        for kind in [Kind::Vxlan, Kind::Geneve, Kind::Gretap, Kind::Gre, Kind::Ipip] {
            for v6 in [false, true] {
                if kind == Kind::Ipip && v6 {
                    continue;
                }
                let p = plan(|o| {
                    (o.kind, o.ipv6_underlay, o.ipv6_clients, o.hosts, o.networks) =
                        (kind, v6, v6, 12, 11)
                });
                check(&p.steps());
            }
        }
        check(&plan(|o| (o.hosts, o.networks) = (99, 99)).steps());
    }

    fn check(steps: &[PlanStep]) {
        let (mut netns, mut links, mut ups) = (HashSet::new(), HashSet::new(), HashSet::new());
        for step in steps {
            let ns = &step.netns;
            let mut made = |ns: &str, link: &str| {
                assert!(link.len() <= 15, "{step}");
                assert!(links.insert((ns.to_owned(), link.to_owned())), "twice: {step}");
            };
            match &step.action {
                PlanAction::Namespace => assert!(netns.insert(ns.clone()), "twice: {step}"),
                PlanAction::Bridge(l) | PlanAction::Tunnel { link: l, .. } => made(ns, l),
                PlanAction::Veth { link, peer, peer_netns, .. } => {
                    let there = peer_netns.as_ref().unwrap_or(ns);
                    assert!(netns.contains(there), "too early: {step}");
                    made(ns, link);
                    made(there, peer);
                }
                PlanAction::Port { link, bridge, .. } => {
                    for l in [link, bridge] {
                        assert!(links.contains(&(ns.clone(), l.clone())), "too early: {step}");
                    }
                }
                PlanAction::Address { link, .. }
                | PlanAction::Promiscuous(link)
                | PlanAction::Note { link, .. } => {
                    assert!(links.contains(&(ns.clone(), link.clone())), "too early: {step}");
                }
                PlanAction::Route { link, .. } => {
                    assert!(ups.contains(&(ns.clone(), link.clone())), "too early: {step}")
                }
                PlanAction::Up(link) => {
                    assert!(links.contains(&(ns.clone(), link.clone())), "too early: {step}");
                    ups.insert((ns.clone(), link.clone()));
                }
                PlanAction::Setting { key, .. } => {
                    if let Some(link) =
                        key.strip_suffix("/disable_ipv6").and_then(|k| k.rsplit('/').next())
                        && !matches!(link, "all" | "default")
                    {
                        assert!(
                            links.contains(&(ns.clone(), link.to_owned())),
                            "too early: {step}"
                        );
                    }
                }
            }
            assert!(netns.contains(ns), "too early: {step}");
        }
        let everything: HashSet<_> =
            links.iter().filter(|(_, l)| !l.starts_with("lo")).cloned().collect();
        assert_eq!(ups, everything, "every interface is brought up");
        assert!(
            matches!(steps.last().map(|s| &s.action), Some(PlanAction::Note { .. })),
            "the note comes last"
        );
    }
}
