// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnel devices: found, and made.
use std::net::IpAddr;

use anyhow::{Result, bail};
use netlink_packet_route::link::{
    GreEncapType, GreIOFlags, InfoBareUdp, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoGtp, InfoIpTunnel, InfoKind, InfoVxlan,
    TunnelEncapType,
};

use super::{Link, Netlink};
use crate::flow::Kind;

/// A tunnel device of this host, and how its packets look on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelDevice {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The kernel's name for its type: `vxlan`, `ip6gretap`, `sit` ...
    pub device: String,
    /// What its packets are on the wire. A device that wraps its packets in UDP as FOU or GUE is [`Kind::Gue`].
    pub kind: Kind,
    /// The id that it sends with (VNI, key, session); `None` where it has none or takes it from each packet.
    pub id: Option<u32>,
    /// The UDP port that its packets are sent to, where it is known.
    pub port: Option<u16>,
    /// The outer address that it sends from; `None` when the route decides.
    pub local: Option<IpAddr>,
    /// The other end, or the group of ends where it is a multicast address.
    pub remote: Option<IpAddr>,
    /// The interface that it was bound to, an index.
    pub underlay: Option<u32>,
    /// The namespace that `underlay` is an index in, when it is not this one.
    pub underlay_netnsid: Option<i32>,
    /// Id and ends come with each packet (`external`, as Cilium and Open vSwitch use it).
    pub collect_metadata: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// It is administratively up. Loading a tunnel module makes devices (`gre0`, `tunl0`, `sit0` ...) that are down.
    pub up: bool,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
}

impl TunnelDevice {
    /// The tunnel that an interface is; `None` for every other interface.
    pub fn of(link: &Link) -> Option<TunnelDevice> {
        let device = link.kind.clone()?;
        let kind = match device.as_str() {
            "vxlan" => Kind::Vxlan,
            "geneve" => Kind::Geneve,
            "gre" | "ip6gre" => Kind::Gre,
            "gretap" | "ip6gretap" => Kind::Gretap,
            "erspan" | "ip6erspan" => Kind::Erspan,
            "ipip" => Kind::Ipip,
            "sit" => Kind::SixInFour,
            "ip6tnl" => Kind::SixInSix,
            "gtp" => Kind::Gtpu,
            "bareudp" => Kind::Gue,
            "wireguard" => Kind::Wireguard,
            _ => return None,
        };
        let mut t = TunnelDevice {
            ifindex: link.index,
            name: link.name.clone(),
            device,
            kind,
            id: None,
            port: None,
            local: None,
            remote: None,
            underlay: None,
            underlay_netnsid: link.lower_netnsid,
            collect_metadata: false,
            mtu: link.mtu,
            up: link.up,
            master: link.master,
        };
        match &link.info {
            Some(InfoData::Vxlan(infos)) => t.vxlan(infos),
            Some(InfoData::Geneve(infos)) => t.geneve(infos),
            Some(InfoData::GreTun(infos) | InfoData::GreTap(infos) | InfoData::ErSpan(infos)) => t.gre(infos),
            Some(InfoData::GreTun6(infos) | InfoData::GreTap6(infos) | InfoData::Ip6ErSpan(infos)) => t.gre6(infos),
            Some(InfoData::IpTunnel(infos)) => t.ip(infos),
            Some(InfoData::Gtp(infos)) => t.gtp(infos),
            Some(InfoData::BareUdp(infos)) => t.bareudp(infos),
            _ => {}
        }
        // The kernel reports "not set" as the unspecified address, and as interface 0.
        let set = |a: Option<IpAddr>| a.filter(|a| !a.is_unspecified());
        (t.local, t.remote) = (set(t.local), set(t.remote));
        t.underlay = t.underlay.filter(|index| *index != 0);
        if t.collect_metadata {
            t.id = None;
        }
        Some(t)
    }

    fn vxlan(&mut self, infos: &[InfoVxlan]) {
        for info in infos {
            match info {
                InfoVxlan::Id(id) => self.id = Some(*id),
                InfoVxlan::Group(a) => self.remote = Some((*a).into()),
                InfoVxlan::Group6(a) => self.remote = Some((*a).into()),
                InfoVxlan::Local(a) => self.local = Some((*a).into()),
                InfoVxlan::Local6(a) => self.local = Some((*a).into()),
                InfoVxlan::Link(index) => self.underlay = Some(*index),
                InfoVxlan::Port(port) => self.port = Some(*port),
                InfoVxlan::CollectMetadata(on) => self.collect_metadata = *on,
                InfoVxlan::Gpe => self.kind = Kind::VxlanGpe,
                _ => {}
            }
        }
    }

    fn geneve(&mut self, infos: &[InfoGeneve]) {
        for info in infos {
            match info {
                InfoGeneve::Id(id) => self.id = Some(*id),
                InfoGeneve::Remote(a) => self.remote = Some((*a).into()),
                InfoGeneve::Remote6(a) => self.remote = Some((*a).into()),
                InfoGeneve::Local(a) => self.local = Some((*a).into()),
                InfoGeneve::Local6(a) => self.local = Some((*a).into()),
                InfoGeneve::Port(port) => self.port = Some(*port),
                InfoGeneve::CollectMetadata => self.collect_metadata = true,
                _ => {}
            }
        }
    }

    fn gre(&mut self, infos: &[InfoGre]) {
        let (mut keyed, mut key) = (false, 0);
        for info in infos {
            match info {
                InfoGre::OFlags(flags) => keyed = flags.contains(GreIOFlags::Key),
                InfoGre::OKey(k) => key = *k,
                InfoGre::Local(a) => self.local = Some((*a).into()),
                InfoGre::Remote(a) => self.remote = Some((*a).into()),
                InfoGre::Link(index) => self.underlay = Some(*index),
                InfoGre::CollectMetadata => self.collect_metadata = true,
                InfoGre::EncapType(GreEncapType::Fou | GreEncapType::Gue) => self.kind = Kind::Gue,
                InfoGre::DestinationPort(port) => self.port = Some(*port),
                _ => {}
            }
        }
        self.id = keyed.then_some(key);
        self.port = self.port.filter(|_| self.kind == Kind::Gue);
    }

    fn gre6(&mut self, infos: &[InfoGre6]) {
        let (mut keyed, mut key) = (false, 0);
        for info in infos {
            match info {
                InfoGre6::OFlags(flags) => keyed = flags.contains(GreIOFlags::Key),
                InfoGre6::OKey(k) => key = *k,
                InfoGre6::Local(a) => self.local = Some((*a).into()),
                InfoGre6::Remote(a) => self.remote = Some((*a).into()),
                InfoGre6::Link(index) => self.underlay = Some(*index),
                InfoGre6::CollectMetadata => self.collect_metadata = true,
                InfoGre6::EncapType(GreEncapType::Fou | GreEncapType::Gue) => self.kind = Kind::Gue,
                InfoGre6::DestinationPort(port) => self.port = Some(*port),
                _ => {}
            }
        }
        self.id = keyed.then_some(key);
        self.port = self.port.filter(|_| self.kind == Kind::Gue);
    }

    fn ip(&mut self, infos: &[InfoIpTunnel]) {
        for info in infos {
            match info {
                InfoIpTunnel::Local(a) => self.local = Some(*a),
                InfoIpTunnel::Remote(a) => self.remote = Some(*a),
                InfoIpTunnel::Link(index) => self.underlay = Some(*index),
                InfoIpTunnel::CollectMetadata => self.collect_metadata = true,
                // IPv4 only; "any" (0) is left at what the device is mostly used for.
                InfoIpTunnel::Protocol(p) if self.device == "ip6tnl" && u8::from(*p) == 4 => self.kind = Kind::FourInSix,
                InfoIpTunnel::EncapType(TunnelEncapType::Fou | TunnelEncapType::Gue) => self.kind = Kind::Gue,
                InfoIpTunnel::EncapDPort(port) => self.port = Some(*port),
                _ => {}
            }
        }
        self.port = self.port.filter(|_| self.kind == Kind::Gue);
    }

    fn gtp(&mut self, infos: &[InfoGtp]) {
        // The kernel's GTP-U socket is always on the registered port (3GPP TS 29.281, 4.4.2).
        self.port = Some(2152);
        for info in infos {
            match info {
                InfoGtp::Local(a) => self.local = Some((*a).into()),
                InfoGtp::Local6(a) => self.local = Some((*a).into()),
                _ => {}
            }
        }
    }

    fn bareudp(&mut self, infos: &[InfoBareUdp]) {
        // The other end always comes with each packet.
        self.collect_metadata = true;
        for info in infos {
            match info {
                InfoBareUdp::Port(port) => self.port = Some(*port),
                InfoBareUdp::Ethertype(ethertype) if matches!(u16::from(*ethertype), 0x8847 | 0x8848) => self.kind = Kind::MplsUdp,
                _ => {}
            }
        }
    }
}

impl Netlink {
    /// Every tunnel device of this network namespace, by index.
    pub fn tunnels(&mut self) -> Result<Vec<TunnelDevice>> {
        let mut tunnels: Vec<TunnelDevice> = self.links()?.iter().filter_map(TunnelDevice::of).collect();
        for t in tunnels.iter_mut().filter(|t| t.kind == Kind::Wireguard) {
            // Its link says nothing; without the privilege to ask, the port stays unknown.
            t.port = self.wireguard_port(t.ifindex).unwrap_or(None);
        }
        Ok(tunnels)
    }

    /// The interface that a tunnel's packets leave by, as an index: the one it is bound to, else the way
    /// to its other end, else the owner of its local address. `None` when nothing decides it
    /// beforehand, or when it is in another namespace.
    pub fn underlay_of(&mut self, tunnel: &TunnelDevice) -> Result<Option<u32>> {
        if tunnel.underlay.is_some() || tunnel.underlay_netnsid.is_some() {
            return Ok(tunnel.underlay.filter(|_| tunnel.underlay_netnsid.is_none()));
        }
        if let Some(remote) = tunnel.remote
            && let Some(index) = self.route_to(remote)?
        {
            return Ok(Some(index));
        }
        match tunnel.local {
            Some(local) => Ok(self.addresses()?.into_iter().find(|(_, ip, _)| *ip == local).map(|(index, ..)| index)),
            None => Ok(None),
        }
    }
}

/// A tunnel device to make. The family of `local` and `remote` is that of the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTunnel {
    /// Vxlan, Geneve, Gre, Gretap, Ipip, SixInFour, FourInSix or SixInSix.
    pub kind: Kind,
    /// VNI or key.
    pub id: Option<u32>,
    /// UDP port, for the kinds that have one.
    pub port: Option<u16>,
    /// The outer address to send from.
    pub local: Option<IpAddr>,
    /// The other end, or the group (VXLAN).
    pub remote: Option<IpAddr>,
    /// The interface to bind to, an index; needed for a group.
    pub underlay: Option<u32>,
    /// Learn the other ends from what arrives (VXLAN).
    pub learning: bool,
}

impl NewTunnel {
    /// Its type and attributes in the kernel's words.
    pub(super) fn info(&self) -> Result<(InfoKind, Option<InfoData>)> {
        let v6 = match (self.local, self.remote) {
            (Some(a), Some(b)) if a.is_ipv6() != b.is_ipv6() => bail!("a tunnel from {a} to {b} would need one address family"),
            (Some(a), _) | (_, Some(a)) => a.is_ipv6(),
            (None, None) => false,
        };
        let made = match self.kind {
            Kind::Vxlan => (InfoKind::Vxlan, InfoData::Vxlan(self.vxlan())),
            Kind::Geneve => (InfoKind::Geneve, InfoData::Geneve(self.geneve())),
            Kind::Gre if v6 => (InfoKind::GreTun6, InfoData::GreTun6(self.gre6())),
            Kind::Gre => (InfoKind::GreTun, InfoData::GreTun(self.gre())),
            Kind::Gretap if v6 => (InfoKind::GreTap6, InfoData::GreTap6(self.gre6())),
            Kind::Gretap => (InfoKind::GreTap, InfoData::GreTap(self.gre())),
            Kind::Ipip if !v6 => (InfoKind::IpIp, InfoData::IpTunnel(self.ip())),
            Kind::SixInFour if !v6 => (InfoKind::SitTun, InfoData::IpTunnel(self.ip())),
            Kind::FourInSix if v6 => (InfoKind::Ip6Tnl, InfoData::IpTunnel(self.ip_protocol(4))),
            Kind::SixInSix if v6 => (InfoKind::Ip6Tnl, InfoData::IpTunnel(self.ip_protocol(41))),
            kind => bail!("a {kind} device over IPv{} is not one that can be made here", if v6 { 6 } else { 4 }),
        };
        Ok((made.0, Some(made.1)))
    }

    fn vxlan(&self) -> Vec<InfoVxlan> {
        let mut infos = vec![InfoVxlan::Learning(self.learning)];
        infos.extend(self.id.map(InfoVxlan::Id));
        infos.extend(self.port.map(InfoVxlan::Port));
        infos.extend(self.underlay.map(InfoVxlan::Link));
        infos.extend(self.local.map(|a| match a {
            IpAddr::V4(a) => InfoVxlan::Local(a),
            IpAddr::V6(a) => InfoVxlan::Local6(a),
        }));
        infos.extend(self.remote.map(|a| match a {
            IpAddr::V4(a) => InfoVxlan::Group(a),
            IpAddr::V6(a) => InfoVxlan::Group6(a),
        }));
        infos
    }

    fn geneve(&self) -> Vec<InfoGeneve> {
        let mut infos: Vec<InfoGeneve> = self.id.map(InfoGeneve::Id).into_iter().collect();
        infos.extend(self.port.map(InfoGeneve::Port));
        infos.extend(self.remote.map(|a| match a {
            IpAddr::V4(a) => InfoGeneve::Remote(a),
            IpAddr::V6(a) => InfoGeneve::Remote6(a),
        }));
        infos
    }

    fn gre(&self) -> Vec<InfoGre> {
        let mut infos: Vec<InfoGre> = self.underlay.map(InfoGre::Link).into_iter().collect();
        if let Some(key) = self.id {
            infos.extend([InfoGre::IFlags(GreIOFlags::Key), InfoGre::OFlags(GreIOFlags::Key), InfoGre::IKey(key), InfoGre::OKey(key)]);
        }
        if let Some(IpAddr::V4(a)) = self.local {
            infos.push(InfoGre::Local(a));
        }
        if let Some(IpAddr::V4(a)) = self.remote {
            infos.push(InfoGre::Remote(a));
        }
        infos.extend([InfoGre::Ttl(64), InfoGre::PathMTUDiscovery(true)]);
        infos
    }

    fn gre6(&self) -> Vec<InfoGre6> {
        let mut infos: Vec<InfoGre6> = self.underlay.map(InfoGre6::Link).into_iter().collect();
        if let Some(key) = self.id {
            infos.extend([InfoGre6::IFlags(GreIOFlags::Key), InfoGre6::OFlags(GreIOFlags::Key), InfoGre6::IKey(key), InfoGre6::OKey(key)]);
        }
        if let Some(IpAddr::V6(a)) = self.local {
            infos.push(InfoGre6::Local(a));
        }
        if let Some(IpAddr::V6(a)) = self.remote {
            infos.push(InfoGre6::Remote(a));
        }
        infos.extend([InfoGre6::Ttl(64), InfoGre6::EncapLimit(0)]);
        infos
    }

    fn ip(&self) -> Vec<InfoIpTunnel> {
        let mut infos: Vec<InfoIpTunnel> = self.underlay.map(InfoIpTunnel::Link).into_iter().collect();
        infos.extend(self.local.map(InfoIpTunnel::Local));
        infos.extend(self.remote.map(InfoIpTunnel::Remote));
        infos.push(InfoIpTunnel::Ttl(64));
        infos
    }

    fn ip_protocol(&self, protocol: u8) -> Vec<InfoIpTunnel> {
        let mut infos = self.ip();
        infos.push(InfoIpTunnel::Protocol(protocol.into()));
        infos
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use netlink_packet_core::Nla;

    use super::*;

    fn link(kind: &str, info: InfoData) -> Link {
        Link { index: 7, name: "t0".to_owned(), kind: Some(kind.to_owned()), up: true, mtu: 1450, info: Some(info), ..Link::default() }
    }

    #[test]
    fn vxlan_devices() {
        let a = Ipv4Addr::new(239, 1, 1, 1);
        let infos =
            vec![InfoVxlan::Id(10000), InfoVxlan::Group(a), InfoVxlan::Link(2), InfoVxlan::Port(4789), InfoVxlan::CollectMetadata(false)];
        let t = TunnelDevice::of(&link("vxlan", InfoData::Vxlan(infos))).expect("a tunnel");
        assert_eq!(
            (t.kind, t.id, t.port, t.remote, t.local, t.underlay),
            (Kind::Vxlan, Some(10000), Some(4789), Some(a.into()), None, Some(2))
        );
        assert!(t.up && !t.collect_metadata);

        let external = vec![InfoVxlan::Id(0), InfoVxlan::Link(0), InfoVxlan::Port(8472), InfoVxlan::CollectMetadata(true)];
        let t = TunnelDevice::of(&link("vxlan", InfoData::Vxlan(external))).expect("a tunnel");
        assert_eq!((t.id, t.port, t.underlay, t.collect_metadata), (None, Some(8472), None, true));

        let t = TunnelDevice::of(&link("vxlan", InfoData::Vxlan(vec![InfoVxlan::Gpe]))).expect("a tunnel");
        assert_eq!(t.kind, Kind::VxlanGpe);
    }

    #[test]
    fn gre_keys_count_only_when_flagged() {
        let unkeyed = vec![
            InfoGre::OKey(5),
            InfoGre::OFlags(GreIOFlags::empty()),
            InfoGre::Local(Ipv4Addr::UNSPECIFIED),
            InfoGre::DestinationPort(0),
        ];
        let t = TunnelDevice::of(&link("gre", InfoData::GreTun(unkeyed))).expect("a tunnel");
        assert_eq!((t.kind, t.id, t.local, t.port), (Kind::Gre, None, None, None));
        let keyed = vec![InfoGre::OKey(5), InfoGre::OFlags(GreIOFlags::Key | GreIOFlags::Checksum)];
        assert_eq!(TunnelDevice::of(&link("gretap", InfoData::GreTap(keyed))).expect("a tunnel").id, Some(5));
        let fou = vec![InfoGre::EncapType(GreEncapType::Fou), InfoGre::DestinationPort(5555)];
        let t = TunnelDevice::of(&link("gre", InfoData::GreTun(fou))).expect("a tunnel");
        assert_eq!((t.kind, t.port), (Kind::Gue, Some(5555)));
    }

    #[test]
    fn only_tunnels_are_tunnels() {
        for kind in ["veth", "bridge", "dummy", "vlan", "bond", "vti", "", "something new"] {
            assert_eq!(TunnelDevice::of(&link(kind, InfoData::Other(vec![1, 2, 3]))), None, "{kind}");
        }
        assert_eq!(TunnelDevice::of(&Link::default()), None);
    }

    #[test]
    fn a_tunnel_has_one_family() {
        let mut new = NewTunnel {
            kind: Kind::Vxlan,
            id: Some(1),
            port: None,
            local: Some([127, 0, 0, 1].into()),
            remote: Some(std::net::Ipv6Addr::LOCALHOST.into()),
            underlay: None,
            learning: true,
        };
        assert!(new.info().is_err());
        new.local = None;
        let (kind, data) = new.info().expect("fine");
        let Some(InfoData::Vxlan(infos)) = data else { panic!("{data:?}") };
        assert_eq!(kind, InfoKind::Vxlan);
        // IFLA_VXLAN_GROUP6
        assert!(infos.iter().any(|i| i.kind() == 16), "{infos:?}");
        assert!(NewTunnel { kind: Kind::Ipip, ..new.clone() }.info().is_err(), "IPIP is IPv4");
    }
}
