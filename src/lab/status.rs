// SPDX-License-Identifier: MIT OR Apache-2.0
//! The status of a lab.
use std::{fmt, net::IpAddr};

use anyhow::Result;
use serde::Serialize;

use super::{
    plan::{UNDERLAY, check_prefix},
    run::{standing, traces},
};
use crate::kernel::{
    netlink::{Netlink, TunnelDevice},
    netns::Netns,
};

/// A lab, or what is left of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct LabStatus {
    /// The prefix of its namespaces.
    pub prefix: String,
    /// Whether the lab was created completely and every host exists.
    pub complete: bool,
    /// The encapsulation of a complete lab.
    pub kind: Option<String>,
    /// The existing hosts, by number.
    pub hosts: Vec<HostStatus>,
    /// All its existing namespaces.
    pub namespaces: Vec<String>,
}

/// One host of a lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HostStatus {
    /// `host0`, as `tmon lab exec` takes it.
    pub name: String,
    /// Its namespace, as `--netns` takes it.
    pub netns: String,
    /// Its addresses on the underlay.
    pub underlay: Vec<IpAddr>,
    /// Its clients' addresses.
    pub clients: Vec<IpAddr>,
    /// Its tunnel devices.
    pub tunnels: Vec<String>,
    /// Packets received by its underlay interface.
    pub rx_pkts: u64,
    /// Packets sent by it.
    pub tx_pkts: u64,
}

/// Examines a lab. It is not an error if there is none: then there are no namespaces.
pub fn status(prefix: &str) -> Result<LabStatus> {
    check_prefix(prefix)?;
    let plan = standing(prefix)?;
    let namespaces = traces(prefix)?;
    let mut hosts = Vec::new();
    for netns in &namespaces {
        let Some(name) = netns
            .strip_prefix(prefix)
            .and_then(|n| n.strip_prefix('-'))
            .filter(|n| n.starts_with("host"))
        else {
            continue;
        };
        let mut host = HostStatus {
            name: name.to_owned(),
            netns: netns.clone(),
            underlay: Vec::new(),
            clients: Vec::new(),
            tunnels: Vec::new(),
            rx_pkts: 0,
            tx_pkts: 0,
        };
        // A namespace that cannot be opened is the remainder of an interrupted `up`: listed, and
        // empty.
        if let Ok(open) = Netns::open(netns) {
            let mut netlink = Netlink::open_in(&open)?;
            let links = netlink.links()?;
            for (index, address, _) in netlink.addresses()? {
                match links.iter().find(|l| l.index == index).map(|l| l.name.as_str()) {
                    Some(UNDERLAY) => host.underlay.push(address),
                    Some(name) if name.starts_with("client") => host.clients.push(address),
                    _ => {}
                }
            }
            host.clients.sort_unstable();
            host.tunnels = links
                .iter()
                .filter_map(TunnelDevice::of)
                .filter(|t| t.up)
                .map(|t| t.name)
                .collect();
            if let Some(underlay) = links.iter().find(|l| l.name == UNDERLAY) {
                (host.rx_pkts, host.tx_pkts) =
                    (underlay.stats.rx_packets, underlay.stats.tx_packets);
            }
        }
        hosts.push(host);
    }
    hosts.sort_by_key(|h| (h.name.len(), h.name.clone()));
    Ok(LabStatus {
        prefix: prefix.to_owned(),
        complete: plan.as_ref().is_some_and(|p| hosts.len() == usize::from(p.options().hosts)),
        kind: plan.map(|p| p.options().kind.to_string()),
        hosts,
        namespaces,
    })
}

impl fmt::Display for LabStatus {
    /// A table of the hosts below a line with the state of the lab.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespaces.is_empty() {
            return write!(f, "lab '{}': down", self.prefix);
        }
        match (&self.kind, self.complete) {
            (Some(kind), true) => {
                write!(f, "lab '{}': up, {} hosts, {kind}", self.prefix, self.hosts.len())?
            }
            _ => write!(
                f,
                "lab '{}': incomplete ({} namespaces): run `tmon lab up` again, or `tmon lab down`",
                self.prefix,
                self.namespaces.len()
            )?,
        }
        let list = |a: &[IpAddr]| a.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" ");
        let widths = self.hosts.iter().fold((4, 9, 8), |w, h| {
            (w.0.max(h.name.len()), w.1.max(h.netns.len()), w.2.max(list(&h.underlay).len()))
        });
        write!(
            f,
            "\n{:<a$}  {:<b$}  {:<c$}  {:>9}  {:>9}  CLIENTS",
            "HOST",
            "NAMESPACE",
            "UNDERLAY",
            "RX PKTS",
            "TX PKTS",
            a = widths.0,
            b = widths.1,
            c = widths.2
        )?;
        for h in &self.hosts {
            let (underlay, clients) = (list(&h.underlay), list(&h.clients));
            write!(
                f,
                "\n{:<a$}  {:<b$}  {underlay:<c$}  {:>9}  {:>9}  {clients}",
                h.name,
                h.netns,
                h.rx_pkts,
                h.tx_pkts,
                a = widths.0,
                b = widths.1,
                c = widths.2
            )?;
        }
        Ok(())
    }
}
