// SPDX-License-Identifier: MIT OR Apache-2.0
//! What only generic netlink provides: the ports and peers of WireGuard, the ports of FOU and GUE,
//! and the features of interfaces.
use std::{collections::BTreeSet, net::IpAddr};

use anyhow::{Context, Result};
use netlink_packet_core::{
    DefaultNla, Emitable, NLM_F_DUMP, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader, NlaBuffer,
    NlasIterator, parse_ip, parse_string, parse_u8, parse_u16, parse_u16_be, parse_u32,
};

use super::Netlink;

/// The controller's own family (linux/genetlink.h), and requests to it.
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// linux/wireguard.h
const WG_CMD_GET_DEVICE: u8 = 0;
const WGDEVICE_A_IFINDEX: u16 = 1;
const WGDEVICE_A_LISTEN_PORT: u16 = 6;
const WGDEVICE_A_PEERS: u16 = 8;
const WGPEER_A_ENDPOINT: u16 = 4;
/// linux/fou.h
const FOU_CMD_GET: u8 = 3;
const FOU_ATTR_PORT: u16 = 1;
const FOU_ATTR_IPPROTO: u16 = 3;
const FOU_ATTR_TYPE: u16 = 4;
const FOU_ENCAP_GUE: u8 = 2;

/// linux/ethtool_netlink.h
const NLA_F_NESTED: u16 = 0x8000;
const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;
const ETHTOOL_A_BITSET_BITS: u16 = 3;
const ETHTOOL_A_BITSET_BIT_NAME: u16 = 2;

/// The attributes in an attribute.
pub(super) fn inside(value: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(value).map_while(|a| a.ok())
}

/// The address in a struct sockaddr_in or sockaddr_in6.
fn endpoint(sockaddr: &[u8]) -> Option<IpAddr> {
    match i32::from(parse_u16(sockaddr.get(..2)?).ok()?) {
        libc::AF_INET => parse_ip(sockaddr.get(4..8)?).ok(),
        libc::AF_INET6 => parse_ip(sockaddr.get(8..24)?).ok(),
        _ => None,
    }
}

/// A UDP port on which the kernel accepts foo-over-UDP. It belongs to no device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FouPort {
    /// The port.
    pub port: u16,
    /// The IP protocol that follows the UDP header; `None` if a GUE header names it.
    pub protocol: Option<u8>,
}

impl Netlink {
    /// Whether the kernel has a generic netlink family now; this does not load its module.
    pub(crate) fn knows(&mut self, family: &str) -> Result<bool> {
        Ok(self.family(family)?.is_some())
    }

    /// The port that a WireGuard device listens on, and the addresses of its peers; needs
    /// CAP_NET_ADMIN.
    pub(super) fn wireguard(&mut self, ifindex: u32) -> Result<(Option<u16>, Vec<IpAddr>)> {
        let (mut port, mut ends) = (None, Vec::new());
        let device = DefaultNla::new(WGDEVICE_A_IFINDEX, ifindex.to_ne_bytes().to_vec());
        self.ask("wireguard", WG_CMD_GET_DEVICE, Some(device), |kind, value| match kind {
            // 0 is a device that was never brought up.
            WGDEVICE_A_LISTEN_PORT => port = parse_u16(value).ok().filter(|p| *p != 0),
            WGDEVICE_A_PEERS => {
                ends.extend(inside(value).filter_map(|peer| {
                    endpoint(inside(peer.value()).find(|a| a.kind() == WGPEER_A_ENDPOINT)?.value())
                }));
            }
            _ => {}
        })?;
        Ok((port, ends))
    }

    /// The enabled features (offloads) of an interface, by the kernel's names: `rx-gro`,
    /// `hw-tc-offload` ...
    pub fn features(&mut self, ifindex: u32) -> Result<BTreeSet<String>> {
        let (mut on, mut this) = (BTreeSet::new(), false);
        // The interface does not matter when all are listed, but older kernels require a header.
        let header = DefaultNla::new(ETHTOOL_A_FEATURES_HEADER | NLA_F_NESTED, Vec::new());
        self.ask("ethtool", ETHTOOL_MSG_FEATURES_GET, Some(header), |kind, value| match kind {
            // The interface comes first in every object.
            ETHTOOL_A_FEATURES_HEADER => {
                let index = inside(value).find(|a| a.kind() == ETHTOOL_A_HEADER_DEV_INDEX);
                this = index.is_some_and(|a| parse_u32(a.value()).is_ok_and(|i| i == ifindex));
            }
            ETHTOOL_A_FEATURES_ACTIVE if this => {
                for bits in inside(value).filter(|a| a.kind() == ETHTOOL_A_BITSET_BITS) {
                    for bit in inside(bits.value()) {
                        let name =
                            inside(bit.value()).find(|a| a.kind() == ETHTOOL_A_BITSET_BIT_NAME);
                        on.extend(name.and_then(|a| parse_string(a.value()).ok()));
                    }
                }
            }
            _ => {}
        })?;
        Ok(on)
    }

    /// The ports for foo-over-UDP in this network namespace, sorted; none if the kernel does not
    /// have it loaded.
    pub fn fou_ports(&mut self) -> Result<Vec<FouPort>> {
        let mut ports: Vec<FouPort> = Vec::new();
        self.ask("fou", FOU_CMD_GET, None, |kind, value| match kind {
            // The port comes before the others in every object.
            FOU_ATTR_PORT => ports
                .extend(parse_u16_be(value).ok().map(|port| FouPort { port, protocol: Some(0) })),
            FOU_ATTR_IPPROTO => {
                if let (Some(p), Ok(protocol)) = (ports.last_mut(), parse_u8(value)) {
                    p.protocol = p.protocol.map(|_| protocol);
                }
            }
            FOU_ATTR_TYPE if parse_u8(value).is_ok_and(|t| t == FOU_ENCAP_GUE) => {
                if let Some(p) = ports.last_mut() {
                    p.protocol = None;
                }
            }
            _ => {}
        })?;
        ports.sort_unstable();
        Ok(ports)
    }

    /// Requests everything from a family and passes on every attribute; nothing if the family does
    /// not exist.
    pub(super) fn ask(
        &mut self,
        family: &str,
        command: u8,
        attribute: Option<DefaultNla>,
        mut each: impl FnMut(u16, &[u8]),
    ) -> Result<()> {
        let Some(id) = self.family(family)? else { return Ok(()) };
        self.generic_dump(id, command, attribute, &mut each)
            .with_context(|| format!("ask the kernel's {family}{}", self.place))
    }

    /// A family's number. All families are listed, because asking for one by name would load its
    /// module.
    fn family(&mut self, name: &str) -> Result<Option<u16>> {
        let (mut found, mut id) = (None, None);
        self.generic_dump(CONTROLLER, CTRL_CMD_GETFAMILY, None, &mut |kind, value| match kind {
            // The name comes first in every object.
            CTRL_ATTR_FAMILY_NAME => id = parse_string(value).ok().filter(|n| n == name),
            CTRL_ATTR_FAMILY_ID if id.is_some() => found = parse_u16(value).ok(),
            _ => {}
        })
        .with_context(|| format!("list the kernel's generic netlink families{}", self.place))?;
        Ok(found)
    }

    fn generic_dump(
        &mut self,
        family: u16,
        command: u8,
        attribute: Option<DefaultNla>,
        each: &mut dyn FnMut(u16, &[u8]),
    ) -> Result<()> {
        let Some(generic) = &mut self.generic else { return Ok(()) };
        let attributes: Vec<DefaultNla> = attribute.into_iter().collect();
        // struct nlmsghdr, struct genlmsghdr (command, version, 2 reserved), attributes
        let mut request = vec![0; 20 + attributes.as_slice().buffer_len()];
        let mut header = NetlinkHeader::default();
        header.length = request.len() as u32;
        header.message_type = family;
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        header.emit(&mut request);
        request[16..18].copy_from_slice(&[command, 1]);
        attributes.as_slice().emit(&mut request[20..]);
        generic.exchange(request, &mut |message| {
            let body = NetlinkBuffer::new(&message).payload();
            for attribute in inside(body.get(4..).unwrap_or_default()) {
                each(attribute.kind(), attribute.value());
            }
        })
    }
}
