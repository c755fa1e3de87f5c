// SPDX-License-Identifier: MIT OR Apache-2.0
//! Open vSwitch: what is connected to its ports, as recorded there by Kube-OVN, Antrea and OVN, and
//! the tunnels of its userspace datapath, which has no devices.
use std::{io, net::IpAddr, path::Path};

use foldhash::HashMap;
use serde::Deserialize;
use serde_json::Value;

use super::{
    line::{Line, reach},
    ovsdb::{OvsMap, ids, select},
    said::Said,
};
use crate::kernel::netlink::TunnelDevice;
use model::flow::Kind;

/// The socket and the name of its database.
pub(super) const SOCKET: &str = "/run/openvswitch/db.sock";
const DATABASE: &str = "Open_vSwitch";

/// The part of an interface that contains names.
#[derive(Deserialize)]
struct OvsInterface {
    external_ids: OvsMap,
}

impl OvsInterface {
    fn id(&self, keys: [&str; 2]) -> Option<&str> {
        self.external_ids.get(keys)
    }

    /// `NAMESPACE/POD`, or else the name of the port.
    fn name(&self) -> Option<String> {
        let pod = self.id(["pod_name", "pod-name"]); // Kube-OVN, Antrea
        match (self.id(["pod_namespace", "pod-namespace"]), pod) {
            (Some(namespace), Some(pod)) => Some(format!("{namespace}/{pod}")),
            (None, Some(pod)) => Some(pod.to_owned()),
            (_, None) => self.id(["iface-id", "vm-id"]).map(str::to_owned),
        }
    }

    /// Its addresses, under whichever key they were recorded.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        const KEYS: [[&str; 2]; 2] = [["ip_addresses", "ip-address"], ["ip", "ip_address"]];
        let lists = KEYS.into_iter().filter_map(|keys| self.id(keys)).take(1);
        let words = lists.flat_map(|list| list.split([',', ' ']));
        words.filter_map(|word| word.split('/').next()?.parse().ok())
    }
}

/// The names of what is connected to its ports.
pub(super) fn ports(line: Line) -> io::Result<Said> {
    let tables: &[(&str, &[&str])] = &[("Interface", &["external_ids"])];
    let rows: Vec<OvsInterface> = select(line, DATABASE, tables)?;
    let named = rows.iter().filter_map(|row| Some((row.name()?, row)));
    Ok(Said::inner(named.flat_map(|(name, row)| {
        row.addresses().map(move |address| (address, name.clone())).collect::<Vec<_>>()
    })))
}

/// OVS's names for types of tunnels, their encapsulations, and their default ports.
const OVS_TUNNELS: [(&str, Kind, Option<u16>); 6] = [
    ("vxlan", Kind::Vxlan, Some(4789)),
    ("geneve", Kind::Geneve, Some(6081)),
    ("gre", Kind::Gretap, None),
    ("ip6gre", Kind::Gretap, None),
    ("erspan", Kind::Erspan, None),
    ("gtpu", Kind::Gtpu, Some(2152)),
];
/// The device type that is shown for such a tunnel, which has no device in the kernel.
pub(crate) const OVS: &str = "ovs";

/// A row of any of the tables that describe tunnels.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "_uuid")]
    uuid: Value,
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    options: OvsMap,
    /// The ports of a bridge.
    ports: Option<Value>,
    /// The interfaces of a port.
    interfaces: Option<Value>,
}

/// The tunnels of Open vSwitch.
#[derive(Debug, Default)]
pub(crate) struct OvsTunnels {
    /// Its tunnels, as devices that are up.
    pub(crate) tunnels: Vec<TunnelDevice>,
    /// Its bridges, which have the addresses that these tunnels send from, each with the interfaces
    /// by which their packets leave.
    pub(crate) bridges: HashMap<String, Vec<String>>,
}

/// Queries Open vSwitch.
///
/// # Errors
/// Nobody answers in time, or the answer is not understood.
pub(crate) fn ovs_tunnels() -> io::Result<OvsTunnels> {
    tunnels(reach(Path::new(SOCKET))?)
}

pub(super) fn tunnels(line: Line) -> io::Result<OvsTunnels> {
    const MOST_TUNNELS: usize = 1000;
    let parts: Vec<Part> = select(
        line,
        DATABASE,
        &[
            ("Bridge", &["_uuid", "name", "ports"]),
            ("Port", &["_uuid", "name", "interfaces"]),
            ("Interface", &["_uuid", "name", "type", "options"]),
        ],
    )?;
    let by_id: HashMap<&str, &Part> =
        parts.iter().filter_map(|p| Some((*ids(&p.uuid).first()?, p))).collect();
    let within = |of: Option<&Value>| {
        let all = of.map(ids).unwrap_or_default();
        all.into_iter().filter_map(|id| by_id.get(id).copied()).collect::<Vec<_>>()
    };
    let bridges = parts.iter().filter(|p| p.ports.is_some()).map(|bridge| {
        let ports = within(bridge.ports.as_ref());
        let interfaces = ports.into_iter().flat_map(|port| within(port.interfaces.as_ref()));
        let outside = interfaces.filter(|i| matches!(i.kind.as_str(), "" | "system" | "afxdp"));
        (bridge.name.clone(), outside.map(|i| i.name.clone()).collect())
    });
    let tunnel = |part: &Part| {
        let (name, kind, port) = *OVS_TUNNELS.iter().find(|known| known.0 == part.kind)?;
        let says = |keys| part.options.get(keys);
        // Without this option GRE packets have no key; the other kinds send 0.
        let none = if kind == Kind::Gretap { "" } else { "0" };
        let key = says(["out_key", "key"]).unwrap_or(none);
        let id =
            key.strip_prefix("0x").map_or_else(|| key.parse(), |hex| u32::from_str_radix(hex, 16));
        let remote = says(["remote_ip", "remote_ip"]);
        Some(TunnelDevice {
            ifindex: 0,
            name: part.name.clone(),
            device: format!("{OVS} {name}"),
            kind,
            id: id.ok(),
            port: says(["dst_port", "dst_port"]).and_then(|p| p.parse().ok()).or(port),
            fou: false,
            local: says(["local_ip", "local_ip"]).and_then(|a| a.parse().ok()),
            remote: remote.and_then(|a| a.parse().ok()),
            underlay: None,
            underlay_netnsid: None,
            netnsid: None,
            optional: 0,
            collect_metadata: key == "flow" || remote == Some("flow"),
            mtu: 0,
            up: true,
            master: None,
        })
    };
    let tunnels = parts.iter().filter_map(tunnel).take(MOST_TUNNELS).collect();
    Ok(OvsTunnels { tunnels, bridges: bridges.collect() })
}
