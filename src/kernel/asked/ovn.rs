// SPDX-License-Identifier: MIT OR Apache-2.0
//! OVN's southbound database, if this host has it: the ports of all hosts, what the tunnel ids
//! stand for, and the hosts.
use std::{io, net::IpAddr};

use foldhash::HashMap;
use serde::Deserialize;
use serde_json::Value;

use super::{
    line::Line,
    ovsdb::{OvsMap, select, texts},
    said::{Called, Said, pod},
};

const DATABASE: &str = "OVN_Southbound";
/// What to query: the columns that are present tell which table a row is from.
const TABLES: &[(&str, &[&str])] = &[
    ("Port_Binding", &["logical_port", "mac", "external_ids"]),
    ("Datapath_Binding", &["tunnel_key", "external_ids"]),
    ("Chassis", &["name", "hostname"]),
    ("Encap", &["chassis_name", "ip"]),
];

#[derive(Deserialize)]
struct Row {
    #[serde(default)]
    external_ids: OvsMap,
    // Port_Binding.
    logical_port: Option<String>,
    #[serde(default)]
    mac: Value,
    // Datapath_Binding.
    tunnel_key: Option<u32>,
    // Chassis.
    #[serde(default)]
    name: String,
    hostname: Option<String>,
    // Encap.
    chassis_name: Option<String>,
    #[serde(default)]
    ip: String,
}

impl Row {
    /// `NAMESPACE/POD`, the name in Neutron, or else the name of the port.
    fn port_name(&self) -> Option<String> {
        let port = self.logical_port.as_deref()?;
        let says = |key| self.external_ids.get([key, key]);
        if let Some(pod) = says("pod").filter(|pod| pod.contains('/')) {
            return Some(pod.to_owned()); // Kube-OVN
        }
        let of_pod = |namespace: &str| {
            pod(namespace, port.strip_prefix(namespace)?.strip_prefix('_')?) // OVN-Kubernetes
        };
        let own = || says("name").or(says("neutron:port_name")).unwrap_or(port).to_owned();
        says("namespace").and_then(of_pod).or_else(|| Some(own()))
    }

    /// Each text is a hardware address followed by its addresses.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let words = texts(&self.mac).into_iter().flat_map(|text| text.split(' ').skip(1));
        words.filter_map(|word| word.split('/').next()?.parse().ok())
    }

    /// What its id stands for: a switch is a bridge, a router is a VRF.
    fn called(&self) -> Option<(u32, Called)> {
        let id = self.tunnel_key?;
        let name = Some(self.external_ids.get(["name2", "name"])?.to_owned());
        let is_routed = self.external_ids.get(["logical-router", "logical-router"]).is_some();
        let (bridge, vrf) = if is_routed { (None, name) } else { (name, None) };
        Some((id, Called { bridge, vrf, is_routed }))
    }
}

/// Queries ports, datapaths and hosts.
pub(super) fn southbound(line: Line) -> io::Result<Said> {
    let rows: Vec<Row> = select(line, DATABASE, TABLES)?;
    let ports = rows.iter().filter_map(|row| Some((row, row.port_name()?)));
    let inner = Said::inner(ports.flat_map(|(row, name)| {
        row.addresses().map(move |address| (address, name.clone())).collect::<Vec<_>>()
    }));
    let hosts: HashMap<&str, &str> = rows
        .iter()
        .filter_map(|row| Some((row.name.as_str(), row.hostname.as_deref()?)))
        .filter(|(_, hostname)| !hostname.is_empty())
        .collect();
    let outer = Said::outer(rows.iter().filter_map(|row| {
        let chassis = row.chassis_name.as_deref()?;
        let name = hosts.get(chassis).copied().unwrap_or(chassis);
        Some((row.ip.parse().ok()?, name.to_owned()))
    }));
    Ok(inner.and(outer).and(Said::ids(rows.iter().filter_map(Row::called))))
}
