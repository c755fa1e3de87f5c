// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces: reading, creating, changing, removing.
use std::os::fd::{AsFd, AsRawFd};

use anyhow::{Result, bail};
use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NetlinkBuffer, NlasIterator,
    ParseableParametrized, parse_string,
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{
        BridgeStpState, InfoBridge, InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoPortKind,
        InfoVeth, LinkAttribute, LinkFlags, LinkHeader, LinkInfo, LinkMessage, Stats64,
    },
};
use nix::errno::Errno;

use super::{Netlink, NewTunnel, errno};
use crate::kernel::netns::Netns;

/// Attributes that are read here (linux/if_link.h), and the flags in their numbers.
const IFLA_IFNAME: u16 = 3;
const IFLA_QDISC: u16 = 6;
const IFLA_LINKINFO: u16 = 18;
const IFLA_XDP: u16 = 43;
const IFLA_PROP_LIST: u16 = 52;
const IFLA_ALT_IFNAME: u16 = 53;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const NLA_TYPE_MASK: u16 = 0x3fff;

/// The longest name an interface can have, in bytes.
pub(super) const NAME_MAX: usize = 15;
/// The longest alternative name.
const ALTNAME_MAX: usize = 127;

/// An interface as the kernel describes it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Its index in its network namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// Its alternative names, which are equivalent (`ip link property add altname`).
    pub altnames: Vec<String>,
    /// The link-layer type, an `ARPHRD_*` number: 1 is Ethernet.
    pub arphrd: u16,
    /// Whether it is administratively up (`IFF_UP`).
    pub up: bool,
    /// All `IFF_*` flags.
    pub flags: u32,
    /// Its MTU in bytes.
    pub mtu: u32,
    /// Its link-layer address; empty if it has none.
    pub mac: Vec<u8>,
    /// The device type by its name in the kernel (`veth`, `bridge`, `vxlan` ...); `None` for real devices.
    pub kind: Option<String>,
    /// The bridge, bond or VRF that it is a port of.
    pub master: Option<u32>,
    /// The interface below it, or the other end of a pair (`IFLA_LINK`).
    pub lower: Option<u32>,
    /// The namespace in which `lower` is an index, if not this one.
    pub lower_netnsid: Option<i32>,
    /// Its queueing discipline: `noqueue` if packets are not queued.
    pub qdisc: String,
    /// Whether an XDP program is attached, which sees its packets before any other.
    pub xdp: bool,
    /// Its alias, set by an administrator.
    pub alias: Option<String>,
    /// The attributes of its device type (`IFLA_INFO_DATA`), as the kernel wrote them.
    pub info: Vec<u8>,
    /// Its counters, 64 bits wide.
    pub stats: Stats64,
}

/// ARPHRD numbers of interfaces whose frames begin with an Ethernet header: Ethernet and loopback.
const ETHERNET: [u16; 2] = [1, 772];

impl Link {
    /// Whether packets sent to it come back from it.
    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// Whether its frames begin with an Ethernet header.
    pub fn is_ethernet(&self) -> bool {
        ETHERNET.contains(&self.arphrd)
    }

    /// Parses one link message tolerantly: an attribute that is not understood is left out, not the
    /// interface.
    pub(super) fn parse(message: &[u8]) -> Option<Link> {
        let head = NetlinkBuffer::new_checked(&message).ok()?;
        let payload = head.payload();
        let header = LinkHeader::parse(payload).ok()?;
        let mut link = Link {
            index: header.index,
            arphrd: header.link_layer_type.into(),
            up: header.flags.contains(LinkFlags::Up),
            flags: header.flags.bits(),
            ..Link::default()
        };
        // 16 bytes of struct ifinfomsg, then attributes.
        for attribute in NlasIterator::new(payload.get(16..)?).map_while(|a| a.ok()) {
            if attribute.kind() == IFLA_IFNAME {
                link.name = name(attribute.value());
                continue;
            }
            if attribute.kind() == IFLA_QDISC {
                link.qdisc = name(attribute.value());
                continue;
            }
            if attribute.kind() & NLA_TYPE_MASK == IFLA_PROP_LIST {
                let inside = NlasIterator::new(attribute.value()).map_while(|a| a.ok());
                let names = inside.filter(|a| a.kind() == IFLA_ALT_IFNAME);
                link.altnames.extend(names.map(|a| name(a.value())));
                continue;
            }
            if attribute.kind() & NLA_TYPE_MASK == IFLA_XDP {
                let inside = NlasIterator::new(attribute.value()).map_while(|a| a.ok());
                link.xdp =
                    inside.filter(|a| a.kind() == IFLA_XDP_ATTACHED).any(|a| a.value() != [0]);
                continue;
            }
            if attribute.kind() & NLA_TYPE_MASK == IFLA_LINKINFO {
                for info in NlasIterator::new(attribute.value()).map_while(|a| a.ok()) {
                    match info.kind() & NLA_TYPE_MASK {
                        IFLA_INFO_KIND => link.kind = parse_string(info.value()).ok(),
                        IFLA_INFO_DATA => link.info = info.value().to_vec(),
                        _ => {}
                    }
                }
                continue;
            }
            match LinkAttribute::parse_with_param(&attribute, header.interface_family) {
                Ok(LinkAttribute::Mtu(mtu)) => link.mtu = mtu,
                Ok(LinkAttribute::Address(mac)) => link.mac = mac,
                Ok(LinkAttribute::Controller(index)) => link.master = Some(index),
                Ok(LinkAttribute::Link(index)) => link.lower = (index != 0).then_some(index),
                Ok(LinkAttribute::LinkNetNsId(id)) => link.lower_netnsid = (id >= 0).then_some(id),
                Ok(LinkAttribute::IfAlias(alias)) => link.alias = Some(alias),
                Ok(LinkAttribute::Stats64(stats)) => link.stats = stats,
                _ => {}
            }
        }
        (!link.name.is_empty()).then_some(link)
    }
}

/// The kernel accepts any bytes; such an interface must not be lost.
fn name(value: &[u8]) -> String {
    String::from_utf8_lossy(value.strip_suffix(&[0]).unwrap_or(value)).into_owned()
}

/// The kind of interface to create.
#[derive(Debug)]
pub enum NewLink<'a> {
    /// A quiet switch: no spanning tree, no multicast snooping, forwarding at once.
    Bridge,
    /// A pair of interfaces; what goes into one comes out of the other.
    Veth {
        /// The name of the other end.
        peer: &'a str,
        /// The namespace of the other end; `None` is this one.
        netns: Option<&'a Netns>,
    },
    /// A tunnel device.
    Tunnel(NewTunnel),
}

impl Netlink {
    /// Every interface, by index.
    pub fn links(&mut self) -> Result<Vec<Link>> {
        self.links_of(LinkMessage::default())
    }

    /// Every interface of the namespace that this one knows by a number. Namespace numbers in the
    /// result ([`Link::lower_netnsid`]) are those of this one as well.
    pub(super) fn links_in(&mut self, number: i32) -> Result<Vec<Link>> {
        let mut m = LinkMessage::default();
        m.attributes = vec![LinkAttribute::IfNetnsId(number)];
        self.links_of(m)
    }

    fn links_of(&mut self, m: LinkMessage) -> Result<Vec<Link>> {
        let mut links = Vec::new();
        self.dump(
            RouteNetlinkMessage::GetLink(m),
            || "list the interfaces".to_owned(),
            |m| links.extend(Link::parse(m)),
        )?;
        links.sort_unstable_by_key(|l| l.index);
        Ok(links)
    }

    /// The interface with this name or alternative name; `None` if there is none.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>> {
        if name.is_empty() || name.len() > ALTNAME_MAX || name.contains('\0') {
            return Ok(None);
        }
        let mut m = LinkMessage::default();
        m.attributes = vec![if name.len() > NAME_MAX {
            let text = [name.as_bytes(), &[0]].concat();
            LinkAttribute::Other(DefaultNla::new(IFLA_ALT_IFNAME, text))
        } else {
            // The kernel also accepts a short alternative name here.
            LinkAttribute::IfName(name.to_owned())
        }];
        self.get_link(m, || format!("look for interface '{name}'"))
    }

    /// The interface with this index; `None` if there is none.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>> {
        let mut m = LinkMessage::default();
        m.header.index = index;
        self.get_link(m, || format!("look for interface {index}"))
    }

    fn get_link(&mut self, m: LinkMessage, what: impl Fn() -> String) -> Result<Option<Link>> {
        let mut link = None;
        match self
            .request(RouteNetlinkMessage::GetLink(m), NLM_F_ACK, what, |m| link = Link::parse(m))
        {
            // ERANGE and EINVAL: it cannot be a name.
            Err(e) if matches!(errno(&e), Some(Errno::ENODEV | Errno::ERANGE | Errno::EINVAL)) => {
                Ok(None)
            }
            asked => asked.map(|()| link),
        }
    }

    /// The index of an interface that must exist.
    pub(super) fn index_of(&mut self, name: &str) -> Result<u32> {
        match self.link(name)? {
            Some(link) => Ok(link.index),
            None => bail!("there is no interface '{name}'{}", self.place),
        }
    }

    /// Creates an interface, down, with this MTU or its type's default.
    pub fn create(&mut self, name: &str, mtu: Option<u32>, new: &NewLink) -> Result<()> {
        check_name(name)?;
        let mut m = LinkMessage::default();
        m.attributes.push(LinkAttribute::IfName(name.to_owned()));
        m.attributes.extend(mtu.map(LinkAttribute::Mtu));
        let (kind, data) = match new {
            NewLink::Bridge => (
                InfoKind::Bridge,
                Some(InfoData::Bridge(vec![
                    InfoBridge::StpState(BridgeStpState::Disabled),
                    InfoBridge::ForwardDelay(0),
                    InfoBridge::MulticastSnooping(false),
                ])),
            ),
            NewLink::Veth { peer, netns } => {
                check_name(peer)?;
                let mut other = LinkMessage::default();
                other.attributes.push(LinkAttribute::IfName((*peer).to_owned()));
                other.attributes.extend(mtu.map(LinkAttribute::Mtu));
                other
                    .attributes
                    .extend(netns.map(|n| LinkAttribute::NetNsFd(n.as_fd().as_raw_fd())));
                (InfoKind::Veth, Some(InfoData::Veth(InfoVeth::Peer(other))))
            }
            NewLink::Tunnel(tunnel) => tunnel.info()?,
        };
        let what = format!("create {kind} interface '{name}'");
        let mut info = vec![LinkInfo::Kind(kind)];
        info.extend(data.map(LinkInfo::Data));
        m.attributes.push(LinkAttribute::LinkInfo(info));
        self.change(RouteNetlinkMessage::NewLink(m), NLM_F_CREATE | NLM_F_EXCL, || what.clone())
    }

    /// Brings an interface up.
    pub fn set_up(&mut self, name: &str) -> Result<()> {
        self.set_flag(name, LinkFlags::Up, true, "bring up")
    }

    /// Takes an interface down.
    pub fn set_down(&mut self, name: &str) -> Result<()> {
        self.set_flag(name, LinkFlags::Up, false, "take down")
    }

    /// Makes an interface promiscuous; a bridge then receives what it forwards.
    pub fn set_promiscuous(&mut self, name: &str) -> Result<()> {
        self.set_flag(name, LinkFlags::Promisc, true, "make promiscuous")
    }

    fn set_flag(&mut self, name: &str, flag: LinkFlags, on: bool, verb: &str) -> Result<()> {
        let mut m = LinkMessage::default();
        m.header.index = self.index_of(name)?;
        m.header.change_mask = flag;
        m.header.flags = if on { flag } else { LinkFlags::empty() };
        self.change(RouteNetlinkMessage::SetLink(m), 0, || format!("{verb} interface '{name}'"))
    }

    fn set(
        &mut self,
        name: &str,
        attributes: Vec<LinkAttribute>,
        what: impl Fn() -> String,
    ) -> Result<()> {
        let mut m = LinkMessage::default();
        m.header.index = self.index_of(name)?;
        m.attributes = attributes;
        self.change(RouteNetlinkMessage::SetLink(m), 0, what)
    }

    /// Makes an interface a port of a bridge, bond or VRF.
    pub fn set_master(&mut self, name: &str, master: &str) -> Result<()> {
        let index = self.index_of(master)?;
        self.set(name, vec![LinkAttribute::Controller(index)], || {
            format!("make '{name}' a port of '{master}'")
        })
    }

    /// Sets the MTU, in bytes.
    pub fn set_mtu(&mut self, name: &str, mtu: u32) -> Result<()> {
        self.set(name, vec![LinkAttribute::Mtu(mtu)], || {
            format!("set the MTU of '{name}' to {mtu}")
        })
    }

    /// Sets the link-layer address.
    pub fn set_mac(&mut self, name: &str, mac: [u8; 6]) -> Result<()> {
        self.set(name, vec![LinkAttribute::Address(mac.to_vec())], || {
            format!("set the link-layer address of '{name}'")
        })
    }

    /// Sets an interface's alias, up to 255 bytes.
    pub fn set_alias(&mut self, name: &str, alias: &str) -> Result<()> {
        self.set(name, vec![LinkAttribute::IfAlias(alias.to_owned())], || {
            format!("set the alias of '{name}'")
        })
    }

    /// Moves an interface to another network namespace; it arrives there down.
    pub fn move_to(&mut self, name: &str, netns: &Netns) -> Result<()> {
        self.set(name, vec![LinkAttribute::NetNsFd(netns.as_fd().as_raw_fd())], || {
            format!("move '{name}' to network namespace '{}'", netns.name())
        })
    }

    /// Sets whether a port of a bridge is isolated: isolated ports cannot reach each other (split
    /// horizon).
    pub fn set_isolated(&mut self, name: &str, isolated: bool) -> Result<()> {
        let mut m = LinkMessage::default();
        m.header.index = self.index_of(name)?;
        let port = vec![
            LinkInfo::PortKind(InfoPortKind::Bridge),
            LinkInfo::PortData(InfoPortData::BridgePort(vec![InfoBridgePort::Isolated(isolated)])),
        ];
        m.attributes = vec![LinkAttribute::LinkInfo(port)];
        self.change(RouteNetlinkMessage::NewLink(m), 0, || format!("isolate port '{name}'"))
    }

    /// Removes an interface. Returns false if there was none with this name.
    pub fn delete(&mut self, name: &str) -> Result<bool> {
        let Some(link) = self.link(name)? else { return Ok(false) };
        let mut m = LinkMessage::default();
        m.header.index = link.index;
        match self
            .change(RouteNetlinkMessage::DelLink(m), 0, || format!("remove interface '{name}'"))
        {
            Err(e) if errno(&e) == Some(Errno::ENODEV) => Ok(false),
            done => done.map(|()| true),
        }
    }
}

/// The kernel's own rule for names of interfaces, checked before a name is put into a message.
fn check_name(name: &str) -> Result<()> {
    if name.is_empty()
        || name.len() > NAME_MAX
        || name == "."
        || name == ".."
        || name.contains(|c: char| c == '/' || c == ':' || c.is_ascii_whitespace() || c == '\0')
    {
        let shown: String = name.chars().take(40).flat_map(char::escape_debug).collect();
        bail!(
            "'{shown}' cannot be the name of an interface (1 to {NAME_MAX} bytes, no '/', ':' or space)"
        );
    }
    Ok(())
}
