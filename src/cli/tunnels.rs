// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon tunnels`.
use std::{
    io::{self, Write},
    net::IpAddr,
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{TOOL, listing, out, say};
use crate::kernel::{
    discover::{FoundTunnel, NetnsView},
    netlink::Netlink,
    netns::{self, Netns},
    origin,
};
use export::json::{self, DocumentHead};
use model::units::{UNKNOWN, sanitize};

#[derive(Args, Debug)]
pub(super) struct Tunnels {
    /// Look in this network namespace: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS", add = clap_complete::engine::ArgValueCandidates::new(super::values::namespaces), conflicts_with = "all_netns")]
    netns: Option<String>,
    /// Look in this network namespace, all named ones, and those that Docker keeps
    #[arg(long)]
    all_netns: bool,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints. Missing values are null; interface indexes are those of the device's
/// namespace.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    head: DocumentHead<'static>,
    tunnels: Vec<Device>,
    /// UDP ports on which the kernel receives foo-over-UDP, for any device.
    ports: Vec<FouPort>,
}

#[derive(Serialize)]
struct Device {
    name: String,
    /// Null if the kernel has no device: in Open vSwitch's userspace datapath.
    ifindex: Option<u32>,
    /// The name by which the namespace was opened; null is the caller's own.
    netns: Option<String>,
    /// The kernel's name for the type of device.
    device: String,
    /// The encapsulation of its packets, as in the rows.
    kind: String,
    id: Option<u32>,
    port: Option<u16>,
    local: Option<IpAddr>,
    remote: Option<IpAddr>,
    underlay: Option<String>,
    underlay_mtu: Option<u32>,
    /// The id, in this namespace, of the other namespace that the underlay is in.
    underlay_netnsid: Option<i32>,
    bridge: Option<String>,
    vrf: Option<String>,
    /// What the tunnel id belongs to: a VRF for an L3VNI, a bridge for an L2VNI.
    stands_for: Option<String>,
    mtu: Option<u32>,
    up: bool,
    /// Each packet carries its tunnel id and remote end (collect metadata).
    external: bool,
    #[serde(skip)]
    open: bool,
    #[serde(skip)]
    fallback: bool,
}

#[derive(Serialize)]
struct FouPort {
    netns: Option<String>,
    port: u16,
    /// The IP protocol that follows the UDP header; null if a GUE header follows.
    protocol: Option<u8>,
}

impl Device {
    fn new(tunnel: &FoundTunnel, scene: &NetnsView, netns: Option<&str>) -> Device {
        let t = &tunnel.device;
        let underlay = tunnel.underlay.and_then(|i| scene.link(i));
        let (bridge, vrf) = scene.link(t.ifindex).map_or((None, None), |l| scene.masters(l));
        Device {
            name: t.name.clone(),
            ifindex: Some(t.ifindex).filter(|index| *index > 0),
            netns: netns.map(str::to_owned),
            device: t.device.clone(),
            kind: t.kind.to_string(),
            id: t.id,
            port: t.port,
            local: t.local,
            remote: t.remote,
            underlay: underlay.map(|l| l.name.clone()),
            underlay_mtu: underlay.map(|l| l.mtu),
            underlay_netnsid: t.underlay_netnsid,
            bridge: bridge.map(str::to_owned),
            vrf: vrf.map(str::to_owned),
            stands_for: scene.segment(tunnel).map(|segment| segment.to_string()),
            mtu: Some(t.mtu).filter(|mtu| *mtu > 0),
            up: t.up,
            external: t.collect_metadata,
            open: tunnel.is_open(),
            fallback: tunnel.is_fallback(),
        }
    }

    fn row(&self) -> [String; 12] {
        let text = |t: &Option<String>| {
            t.as_deref().map_or_else(|| UNKNOWN.to_owned(), |t| sanitize(t).into_owned())
        };
        let or = |t: Option<String>, none: &str| t.unwrap_or_else(|| none.to_owned());
        let each = if self.external { "each packet" } else { UNKNOWN };
        [
            sanitize(&self.name).into_owned(),
            self.netns.as_deref().map_or_else(String::new, |n| sanitize(n).into_owned()),
            self.device.clone(),
            or(self.id.map(|i| i.to_string()), each),
            or(self.port.map(|p| p.to_string()), UNKNOWN),
            or(self.local.map(|a| a.to_string()), UNKNOWN),
            or(self.remote.map(|a| a.to_string()), each),
            match self.underlay_netnsid {
                Some(id) => format!("in netns {id}"),
                None if self.open => "by route".to_owned(),
                None => text(&self.underlay),
            },
            text(&self.bridge),
            text(&self.vrf),
            or(self.mtu.map(|mtu| mtu.to_string()), UNKNOWN),
            if self.up { "up" } else { "down" }.to_owned(),
        ]
    }
}

const TITLES: [&str; 12] = [
    "NAME", "NETNS", "TYPE", "ID", "PORT", "LOCAL", "REMOTE", "UNDERLAY", "BRIDGE", "VRF", "MTU",
    "STATE",
];

impl Tunnels {
    pub(super) fn run(&self) -> Result<()> {
        let mut report = Report {
            head: DocumentHead::new(TOOL, origin::host()),
            tunnels: Vec::new(),
            ports: Vec::new(),
        };
        let others = match &self.netns {
            Some(name) => vec![(name.clone(), Netns::open(name))],
            None => {
                let mut netlink = Netlink::open()?;
                let scene = NetnsView::read(&mut netlink)?;
                report.add(&scene, None);
                let asked = scene.userspace_tunnels(&mut netlink);
                report.tunnels.extend(asked.iter().map(|t| Device::new(t, &scene, None)));
                if self.all_netns { netns::others() } else { Vec::new() }
            }
        };
        for (name, netns) in others {
            let opened =
                netns.and_then(|n| Netlink::open_in(&n)).and_then(|mut n| NetnsView::read(&mut n));
            match opened {
                Ok(scene) => report.add(&scene, Some(&name)),
                // A namespace that disappears, or a stale name, does not hide the others.
                Err(e) if self.all_netns => say(&format!("{e:#}")),
                Err(e) => return Err(e),
            }
        }
        if self.json {
            return Ok(json::line(&mut out::raw(), &report)?);
        }
        Ok(report.table(&mut out::people())?)
    }
}

impl Report {
    fn add(&mut self, scene: &NetnsView, netns: Option<&str>) {
        self.tunnels.extend(scene.tunnels.iter().map(|t| Device::new(t, scene, netns)));
        self.ports.extend(scene.fou.iter().map(|f| FouPort {
            netns: netns.map(str::to_owned),
            port: f.port,
            protocol: f.protocol,
        }));
    }

    fn table(&self, out: &mut dyn Write) -> io::Result<()> {
        let rows: Vec<_> = self.tunnels.iter().filter(|t| !t.fallback).map(Device::row).collect();
        if rows.is_empty() {
            writeln!(out, "no tunnel devices")?;
        } else {
            listing::write(out, TITLES, &rows)?;
        }
        for f in &self.ports {
            let what =
                f.protocol.map_or_else(|| "GUE".to_owned(), |p| format!("FOU, IP protocol {p}"));
            let place =
                f.netns.as_deref().map_or_else(String::new, |n| format!(" in {}", sanitize(n)));
            writeln!(out, "UDP port {}{place} receives {what}", f.port)?;
        }
        let left_out = self.tunnels.len() - rows.len();
        if left_out > 0 {
            writeln!(
                out,
                "{left_out} unused devices that kernel modules created are not shown: --json lists them"
            )?;
        }
        Ok(())
    }
}
