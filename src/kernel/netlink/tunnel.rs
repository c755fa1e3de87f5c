// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnel devices: finding and creating them.
use std::net::IpAddr;

use anyhow::{Result, bail};
use netlink_packet_core::{
    NlasIterator, parse_ip, parse_u16, parse_u16_be, parse_u32, parse_u32_be,
};
use netlink_packet_route::link::{
    GreIOFlags, InfoData, InfoGeneve, InfoGre, InfoGre6, InfoIpTunnel, InfoKind, InfoVxlan,
};

use super::{Link, Netlink};
use model::flow::Kind;

/// A tunnel device of this host, and the wire format of its packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunnelDevice {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// The kernel's name for its type: `vxlan`, `ip6gretap`, `sit` ...
    pub device: String,
    /// The encapsulation of its packets. For a device that wraps its packets in UDP as FOU or GUE
    /// it is [`Kind::Gue`].
    pub kind: Kind,
    /// The id that it sends with (VNI, key, session); `None` where it has none or takes it from each packet.
    pub id: Option<u32>,
    /// The UDP port that its packets are sent to, if known.
    pub port: Option<u16>,
    /// With [`Kind::Gue`]: foo-over-UDP, without a header of its own on that port.
    pub fou: bool,
    /// The outer address that it sends from; `None` if the route decides.
    pub local: Option<IpAddr>,
    /// The other end (for WireGuard, the first of them), or the group if it is a multicast address.
    pub remote: Option<IpAddr>,
    /// The interface that it is bound to, an index.
    pub underlay: Option<u32>,
    /// The namespace in which `underlay` is an index, if not this one.
    pub underlay_netnsid: Option<i32>,
    /// The namespace that it is in, by its number in the namespace that was queried; `None` for
    /// that one itself.
    pub netnsid: Option<i32>,
    /// Bytes of optional headers in its packets: GRE checksum, key and sequence number, the IPv6
    /// option of RFC 2473.
    pub optional: u32,
    /// Whether id and ends come with each packet (`external`, as used by Cilium and Open vSwitch).
    pub collect_metadata: bool,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Whether it is administratively up. Loading a tunnel module creates devices (`gre0`, `tunl0`,
    /// `sit0` ...) that are down.
    pub up: bool,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
}

/// The meaning of an attribute of a device.
#[derive(Clone, Copy)]
enum Field {
    Id,
    /// In network byte order, and only if the flags say that there is one.
    Key,
    GreFlags,
    Ip6Flags,
    Local,
    Remote,
    Underlay,
    Port,
    /// If present or nonzero: ids and ends come with each packet.
    External,
    Gpe,
    Protocol,
    Encap,
    EncapPort,
    EtherType,
}

/// Limit on the namespaces queried for tunnel devices.
const MOST_NAMESPACES: usize = 512;

type Fields = &'static [(u16, Field)];

/// `IFLA_VXLAN_*`, `IFLA_GENEVE_*` (linux/if_link.h), `IFLA_GRE_*`, `IFLA_IPTUN_*` (linux/if_tunnel.h) ...
const VXLAN: Fields = &[
    (1, Field::Id),
    (2, Field::Remote),
    (3, Field::Underlay),
    (4, Field::Local),
    (15, Field::Port),
    (16, Field::Remote),
    (17, Field::Local),
    (25, Field::External),
    (27, Field::Gpe),
];
const GENEVE: Fields = &[
    (1, Field::Id),
    (2, Field::Remote),
    (5, Field::Port),
    (6, Field::External),
    (7, Field::Remote),
    (17, Field::Local),
    (18, Field::Local),
];
const GRE: Fields = &[
    (1, Field::Underlay),
    (3, Field::GreFlags),
    (5, Field::Key),
    (6, Field::Local),
    (7, Field::Remote),
    (13, Field::Ip6Flags),
    (14, Field::Encap),
    (17, Field::EncapPort),
    (18, Field::External),
];
const IP: Fields = &[
    (1, Field::Underlay),
    (2, Field::Local),
    (3, Field::Remote),
    (8, Field::Ip6Flags),
    (9, Field::Protocol),
    (15, Field::Encap),
    (18, Field::EncapPort),
    (19, Field::External),
];
const GTP: Fields = &[(7, Field::Local), (8, Field::Local)];
const BAREUDP: Fields = &[(1, Field::Port), (2, Field::EtherType)];

/// The kernel's device types, their encapsulations, and their attributes.
const DEVICES: &[(&str, Kind, Fields)] = &[
    ("vxlan", Kind::Vxlan, VXLAN),
    ("geneve", Kind::Geneve, GENEVE),
    ("gre", Kind::Gre, GRE),
    ("ip6gre", Kind::Gre, GRE),
    ("gretap", Kind::Gretap, GRE),
    ("ip6gretap", Kind::Gretap, GRE),
    ("erspan", Kind::Erspan, GRE),
    ("ip6erspan", Kind::Erspan, GRE),
    ("ipip", Kind::Ipip, IP),
    ("sit", Kind::SixInFour, IP),
    ("ip6tnl", Kind::SixInSix, IP),
    ("gtp", Kind::Gtpu, GTP),
    ("bareudp", Kind::Gue, BAREUDP),
    ("wireguard", Kind::Wireguard, &[]),
];

const GRE_CHECKSUM: u16 = 0x8000;
const GRE_KEY: u16 = 0x2000;
const GRE_NUMBER: u16 = 0x1000;
/// linux/ip6_tunnel.h: no option that limits further encapsulation.
const IGNORE_ENCAP_LIMIT: u32 = 1;
const ENCAP_FOU: u16 = 1;
const ENCAP_GUE: u16 = 2;
/// The kernel's GTP-U socket is always on the registered port (3GPP TS 29.281, 4.4.2).
const GTPU_PORT: u16 = 2152;

impl TunnelDevice {
    /// The tunnel of an interface; `None` if it is not a tunnel device.
    pub fn of(link: &Link) -> Option<TunnelDevice> {
        let (device, kind, fields) = DEVICES.iter().find(|d| link.kind.as_deref() == Some(d.0))?;
        let mut t = TunnelDevice {
            ifindex: link.index,
            name: link.name.clone(),
            device: (*device).to_owned(),
            kind: *kind,
            id: None,
            port: (*kind == Kind::Gtpu).then_some(GTPU_PORT),
            fou: false,
            local: None,
            remote: None,
            underlay: None,
            underlay_netnsid: link.lower_netnsid,
            netnsid: None,
            optional: 0,
            // The other end of a bareudp device always comes with each packet.
            collect_metadata: *device == "bareudp",
            mtu: link.mtu,
            up: link.up,
            master: link.master,
        };
        let (mut keyed, mut encap_port) = (None, None);
        for a in NlasIterator::new(&link.info).map_while(|a| a.ok()) {
            if let Some((_, field)) = fields.iter().find(|f| f.0 == a.kind()) {
                t.take(*field, a.value(), &mut keyed, &mut encap_port);
            }
        }
        t.id = t.id.filter(|_| keyed != Some(false));
        if t.kind == Kind::Gue && *device != "bareudp" {
            t.port = encap_port;
        }
        if t.collect_metadata {
            t.id = None;
        }
        Some(t)
    }

    /// How many bytes longer its packets are on the underlay than on the device, excluding link
    /// headers; for Geneve without options. If the outer family is unknown, IPv6 is assumed for
    /// WireGuard (as its own MTU does), otherwise IPv4.
    pub fn overhead(&self) -> u32 {
        const ETHERNET: u32 = 14;
        const UDP: u32 = 8;
        let v6 = match self.local.or(self.remote) {
            Some(address) => address.is_ipv6(),
            None => self.device.starts_with("ip6") || self.device == "wireguard",
        };
        let own = match self.device.as_str() {
            "vxlan" if self.kind == Kind::VxlanGpe => UDP + 8,
            "vxlan" | "geneve" => UDP + 8 + ETHERNET,
            "gre" | "ip6gre" => 4 + self.optional,
            "gretap" | "ip6gretap" => 4 + self.optional + ETHERNET,
            // GRE with a sequence number, and the header of version 1 (version 2 has 4 bytes more).
            "erspan" | "ip6erspan" => 8 + 8 + ETHERNET,
            "gtp" => UDP + 8,
            "bareudp" => UDP,
            "wireguard" => UDP + 32,
            _ => self.optional,
        };
        let wrapped = match self.kind {
            Kind::Gue if self.device != "bareudp" => UDP + if self.fou { 0 } else { 4 },
            _ => 0,
        };
        (if v6 { 40 } else { 20 }) + wrapped + own
    }

    /// Applies one attribute. One that is too short is ignored.
    fn take(
        &mut self,
        field: Field,
        value: &[u8],
        keyed: &mut Option<bool>,
        encap_port: &mut Option<u16>,
    ) {
        // The kernel reports "not set" as 0, the unspecified address and interface 0.
        let port = || parse_u16_be(value).ok().filter(|p| *p != 0);
        match field {
            Field::Id => self.id = parse_u32(value).ok(),
            Field::Key => self.id = parse_u32_be(value).ok(),
            Field::GreFlags => {
                let flags = parse_u16_be(value).unwrap_or(0);
                *keyed = Some(flags & GRE_KEY != 0);
                self.optional += 4 * (flags & (GRE_CHECKSUM | GRE_KEY | GRE_NUMBER)).count_ones();
            }
            // For a device over IPv4 these flags have another meaning.
            Field::Ip6Flags if self.device.starts_with("ip6") => {
                self.optional +=
                    if parse_u32(value).is_ok_and(|f| f & IGNORE_ENCAP_LIMIT == 0) { 8 } else { 0 };
            }
            Field::Ip6Flags => {}
            Field::Local => self.local = address(value).or(self.local),
            Field::Remote => self.remote = address(value).or(self.remote),
            Field::Underlay => self.underlay = parse_u32(value).ok().filter(|i| *i != 0),
            Field::Port => self.port = port(),
            Field::External => self.collect_metadata |= value.first().is_none_or(|on| *on != 0),
            Field::Gpe => self.kind = Kind::VxlanGpe,
            // IPv4 only; "any" (0) is left at the device's usual payload.
            Field::Protocol if self.device == "ip6tnl" && value == [4] => {
                self.kind = Kind::FourInSix
            }
            Field::Protocol => {}
            Field::Encap => {
                if let Ok(encap @ (ENCAP_FOU | ENCAP_GUE)) = parse_u16(value) {
                    (self.kind, self.fou) = (Kind::Gue, encap == ENCAP_FOU);
                }
            }
            Field::EncapPort => *encap_port = port(),
            Field::EtherType if parse_u16_be(value).is_ok_and(|e| matches!(e, 0x8847 | 0x8848)) => {
                self.kind = Kind::MplsUdp
            }
            // IP directly after the UDP header.
            Field::EtherType => self.fou = true,
        }
    }
}

impl Link {
    /// Whether a tunnel device sends, and accepts, UDP over IPv6 without checksums (RFC 6936);
    /// `None` for other devices.
    pub fn zero_checksums(&self) -> Option<[bool; 2]> {
        let numbers = match self.kind.as_deref() {
            Some("vxlan") => [19, 20],
            Some("geneve") => [9, 10],
            _ => return None,
        };
        let on = |number| {
            let mut all = NlasIterator::new(&self.info).map_while(|a| a.ok());
            all.any(|a| a.kind() == number && a.value().first().is_none_or(|on| *on != 0))
        };
        Some(numbers.map(on))
    }
}

fn address(value: &[u8]) -> Option<IpAddr> {
    parse_ip(value).ok().filter(|a| !a.is_unspecified())
}

impl Netlink {
    /// Every tunnel device of this network namespace, by index.
    pub fn tunnels(&mut self) -> Result<Vec<TunnelDevice>> {
        let links = self.links()?;
        Ok(self.tunnels_among(&links))
    }

    /// The tunnel devices among these interfaces of this network namespace.
    pub fn tunnels_among(&mut self, links: &[Link]) -> Vec<TunnelDevice> {
        let mut tunnels: Vec<TunnelDevice> = links.iter().filter_map(TunnelDevice::of).collect();
        for t in tunnels.iter_mut().filter(|t| t.kind == Kind::Wireguard) {
            // Its link does not contain them; without the privilege to ask, port and peers stay
            // unknown.
            let (port, ends) = self.wireguard(t.ifindex).unwrap_or_default();
            t.port = port;
            t.remote = ends.first().copied();
        }
        tunnels
    }

    /// The tunnel devices in other namespaces that were created in this one and moved: their
    /// packets travel here, on ports of this namespace. They are queried by the numbers that this
    /// namespace has for others, so no namespace has to be entered. (WireGuard devices do the same,
    /// but cannot be found this way: see [`crate::kernel::discover::NetnsView::read_with_moved`].)
    pub fn tunnels_elsewhere(&mut self) -> Result<Vec<TunnelDevice>> {
        let mut tunnels = Vec::new();
        for number in self.known_namespaces()?.into_iter().take(MOST_NAMESPACES) {
            // A namespace that has just ended must not hide the others.
            let links = self.links_in(number).unwrap_or_default();
            let found = links.iter().filter_map(TunnelDevice::of);
            tunnels.extend(found.map(|t| TunnelDevice { netnsid: Some(number), ..t }));
        }
        tunnels.retain(|t| t.underlay_netnsid.is_some());
        if tunnels.is_empty() {
            return Ok(tunnels);
        }
        let own = self.own_number()?;
        tunnels.retain(|t| t.underlay_netnsid == own);
        tunnels.iter_mut().for_each(|t| t.underlay_netnsid = None);
        Ok(tunnels)
    }

    /// The interface that a tunnel's packets leave by, as an index: the one it is bound to, or else
    /// the route to its other end, or else the owner of its local address. `None` if nothing
    /// determines it in advance, or if it is in another namespace.
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
            Some(local) => Ok(self
                .addresses()?
                .into_iter()
                .find(|(_, ip, _)| *ip == local)
                .map(|(index, ..)| index)),
            None => Ok(None),
        }
    }
}

/// A tunnel device to create. The family of `local` and `remote` is that of the underlay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewTunnel {
    /// Vxlan, Geneve, Gre, Gretap, Ipip, SixInFour, FourInSix or SixInSix.
    pub kind: Kind,
    /// VNI or key.
    pub id: Option<u32>,
    /// UDP port, for the kinds that have one.
    pub port: Option<u16>,
    /// The outer source address.
    pub local: Option<IpAddr>,
    /// The other end, or the group (VXLAN).
    pub remote: Option<IpAddr>,
    /// The interface to bind to, an index; required for a group.
    pub underlay: Option<u32>,
    /// Whether to learn the other ends from received packets (VXLAN).
    pub learning: bool,
}

impl NewTunnel {
    /// Its type and attributes in the kernel's terms.
    pub(super) fn info(&self) -> Result<(InfoKind, Option<InfoData>)> {
        let v6 = match (self.local, self.remote) {
            (Some(a), Some(b)) if a.is_ipv6() != b.is_ipv6() => {
                bail!("a tunnel from {a} to {b} would need one address family")
            }
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
            kind => bail!(
                "a {kind} device over IPv{} is not one that can be made here",
                if v6 { 6 } else { 4 }
            ),
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
            infos.extend([
                InfoGre::IFlags(GreIOFlags::Key),
                InfoGre::OFlags(GreIOFlags::Key),
                InfoGre::IKey(key),
                InfoGre::OKey(key),
            ]);
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
            infos.extend([
                InfoGre6::IFlags(GreIOFlags::Key),
                InfoGre6::OFlags(GreIOFlags::Key),
                InfoGre6::IKey(key),
                InfoGre6::OKey(key),
            ]);
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
        let mut infos: Vec<InfoIpTunnel> =
            self.underlay.map(InfoIpTunnel::Link).into_iter().collect();
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

    use netlink_packet_core::{DefaultNla, Emitable, Nla};

    use super::*;

    /// Attributes as the kernel writes them: number and value.
    fn link(kind: &str, attributes: &[(u16, &[u8])]) -> Link {
        let nlas: Vec<DefaultNla> =
            attributes.iter().map(|(n, value)| DefaultNla::new(*n, value.to_vec())).collect();
        let mut info = vec![0; nlas.as_slice().buffer_len()];
        nlas.as_slice().emit(&mut info);
        Link {
            index: 7,
            name: "t0".to_owned(),
            kind: Some(kind.to_owned()),
            up: true,
            mtu: 1450,
            info,
            ..Link::default()
        }
    }

    fn tunnel(kind: &str, attributes: &[(u16, &[u8])]) -> TunnelDevice {
        TunnelDevice::of(&link(kind, attributes)).expect("a tunnel")
    }

    #[test]
    fn vxlan_attributes_are_decoded() {
        let a = Ipv4Addr::new(239, 1, 1, 1);
        let id = 10_000u32.to_ne_bytes();
        let (port, lower) = (4789u16.to_be_bytes(), 2u32.to_ne_bytes());
        let t =
            tunnel("vxlan", &[(1, &id), (2, &a.octets()), (3, &lower), (15, &port), (25, &[0])]);
        assert_eq!(
            (t.kind, t.id, t.port, t.remote, t.local, t.underlay),
            (Kind::Vxlan, Some(10000), Some(4789), Some(a.into()), None, Some(2))
        );
        assert!(t.up && !t.collect_metadata);

        let t = tunnel(
            "vxlan",
            &[(1, &[0; 4]), (3, &[0; 4]), (15, &8472u16.to_be_bytes()), (25, &[1])],
        );
        assert_eq!((t.id, t.port, t.underlay, t.collect_metadata), (None, Some(8472), None, true));
        assert_eq!(tunnel("vxlan", &[(27, &[])]).kind, Kind::VxlanGpe);
        // Attributes that are too short or unknown are ignored.
        assert_eq!(
            tunnel("vxlan", &[(1, &[1, 2]), (2, &[1]), (15, &[]), (99, &[1])]),
            tunnel("vxlan", &[])
        );
    }

    #[test]
    fn every_device_type_has_its_endpoints() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), std::net::Ipv6Addr::LOCALHOST);
        let t = tunnel(
            "geneve",
            &[(1, &9u32.to_ne_bytes()), (7, &b.octets()), (5, &6081u16.to_be_bytes())],
        );
        assert_eq!((t.id, t.port, t.remote), (Some(9), Some(6081), Some(b.into())));
        assert!(
            tunnel("geneve", &[(6, &[])]).collect_metadata
                && tunnel("gretap", &[(18, &[])]).collect_metadata
        );
        assert!(tunnel("ipip", &[(19, &[])]).collect_metadata);
        let t = tunnel("ip6tnl", &[(2, &b.octets()), (9, &[4])]);
        assert_eq!((t.kind, t.local), (Kind::FourInSix, Some(b.into())));
        let t = tunnel("sit", &[(2, &a.octets()), (3, &[0; 4]), (9, &[4])]);
        assert_eq!((t.kind, t.local, t.remote), (Kind::SixInFour, Some(a.into()), None));
        let t = tunnel("gtp", &[(7, &a.octets())]);
        assert_eq!((t.kind, t.port, t.local), (Kind::Gtpu, Some(2152), Some(a.into())));
        let t = tunnel("bareudp", &[(1, &6635u16.to_be_bytes()), (2, &0x8847u16.to_be_bytes())]);
        assert_eq!(
            (t.kind, t.port, t.fou, t.collect_metadata),
            (Kind::MplsUdp, Some(6635), false, true)
        );
        let t = tunnel("bareudp", &[(1, &9292u16.to_be_bytes()), (2, &0x0800u16.to_be_bytes())]);
        assert_eq!((t.kind, t.port, t.fou), (Kind::Gue, Some(9292), true));
    }

    #[test]
    fn gre_keys_count_only_when_flagged() {
        let (key, port) = (5u32.to_be_bytes(), 5555u16.to_be_bytes());
        let t = tunnel("gre", &[(5, &key), (3, &[0, 0]), (6, &[0; 4]), (17, &[0, 0])]);
        assert_eq!((t.kind, t.id, t.local, t.port), (Kind::Gre, None, None, None));
        assert_eq!(tunnel("ip6gretap", &[(3, &[0x20 | 0x80, 0]), (5, &key)]).id, Some(5));
        // The port belongs to the UDP encapsulation, and is only valid if there is one.
        assert_eq!(tunnel("gre", &[(14, &[0, 0]), (17, &port)]).port, None);
        for (encap, fou) in [(1u16, true), (2, false)] {
            let t = tunnel("gre", &[(14, &encap.to_ne_bytes()), (17, &port)]);
            assert_eq!((t.kind, t.port, t.fou), (Kind::Gue, Some(5555), fou));
        }
    }

    /// As computed by the kernel itself when it sets a device's MTU on an underlay of 1500.
    #[test]
    fn overhead_is_what_the_headers_take() {
        let (v4, v6) = ([10, 0, 0, 1], std::net::Ipv6Addr::LOCALHOST.octets());
        let keyed: &[u8] = &[0x20, 0];
        for (kind, attributes, mtu) in [
            ("vxlan", &[(4u16, &v4[..])][..], 1450),
            ("vxlan", &[(17, &v6)], 1430),
            ("geneve", &[(2, &v4)], 1450),
            ("gre", &[(7, &v4), (3, &[0, 0])], 1476),
            ("gre", &[(7, &v4), (3, keyed)], 1472),
            ("gretap", &[(7, &v4), (3, keyed)], 1458),
            ("ip6gretap", &[(7, &v6), (3, &[0, 0]), (13, &[0; 4])], 1434),
            ("ipip", &[(3, &v4)], 1480),
            ("ip6tnl", &[(3, &v6), (8, &[0; 4])], 1452),
            ("ip6tnl", &[(3, &v6), (8, &1u32.to_ne_bytes())], 1460),
            ("wireguard", &[], 1420),
            ("gtp", &[], 1464),
            ("ipip", &[(3, &v4), (15, &2u16.to_ne_bytes())], 1468),
        ] {
            assert_eq!(1500 - tunnel(kind, attributes).overhead(), mtu, "{kind} {attributes:?}");
        }
    }

    #[test]
    fn other_devices_are_not_tunnels() {
        for kind in ["veth", "bridge", "dummy", "vlan", "bond", "vti", "", "something new"] {
            assert_eq!(TunnelDevice::of(&link(kind, &[(1, &[1, 2, 3])])), None, "{kind}");
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
