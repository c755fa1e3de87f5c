// SPDX-License-Identifier: MIT OR Apache-2.0
//! What Cilium's agent knows about a whole cluster, by its HTTP interface: the pods in its ipcache,
//! as in `cilium-dbg ip list`, and the nodes, as in `cilium-dbg node list`.
use std::{io, net::IpAddr};

use ipnet::IpNet;
use serde::Deserialize;

use super::{
    line::{Line, few},
    said::{Said, pod},
};

/// An entry of `/v1/ip`.
#[derive(Deserialize)]
struct IpEntry {
    cidr: String,
    metadata: Option<Metadata>,
}

#[derive(Deserialize)]
struct IpEntries(#[serde(deserialize_with = "few")] Vec<IpEntry>);

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
}

impl IpEntry {
    /// The name of a single address: a prefix has none.
    fn named(self) -> Option<(IpAddr, String)> {
        let net: IpNet = self.cidr.parse().ok()?;
        let Metadata { namespace, name } = self.metadata?;
        (net.prefix_len() == net.max_prefix_len()).then_some((net.addr(), pod(&namespace, &name)?))
    }
}

/// `/v1/cluster/nodes`.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Cluster {
    nodes_added: Option<Nodes>,
}

#[derive(Deserialize)]
struct Nodes(#[serde(deserialize_with = "few")] Vec<Node>);

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Node {
    #[serde(default)]
    name: String,
    primary_address: Option<Addressing>,
    secondary_addresses: Option<Elements>,
}

#[derive(Deserialize)]
struct Elements(#[serde(deserialize_with = "few")] Vec<Element>);

#[derive(Default, Deserialize)]
struct Addressing {
    ipv4: Option<Element>,
    ipv6: Option<Element>,
}

#[derive(Deserialize)]
struct Element {
    #[serde(default)]
    ip: String,
}

impl Node {
    fn named(self) -> impl Iterator<Item = (IpAddr, String)> {
        let Addressing { ipv4, ipv6 } = self.primary_address.unwrap_or_default();
        let others = self.secondary_addresses.into_iter().flat_map(|Elements(all)| all);
        let name = Some(self.name).filter(|name| !name.is_empty());
        let all = ipv4.into_iter().chain(ipv6).chain(others);
        all.filter_map(move |at| Some((at.ip.parse().ok()?, name.clone()?)))
    }
}

/// The pods of all nodes.
pub(super) fn pods(line: Line) -> io::Result<Said> {
    let IpEntries(all) = line.get("/v1/ip")?;
    Ok(Said::inner(all.into_iter().filter_map(IpEntry::named)))
}

/// The nodes.
pub(super) fn nodes(line: Line) -> io::Result<Said> {
    let all: Cluster = line.get("/v1/cluster/nodes")?;
    let nodes = all.nodes_added.into_iter().flat_map(|Nodes(all)| all);
    Ok(Said::outer(nodes.flat_map(Node::named)))
}
