// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon names`.
use std::{io::Write, net::IpAddr, path::PathBuf, time::Duration};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::{Naming, TOOL, listing, out, say};
use crate::kernel::{asked::Services, origin, sandbox::Sandbox};
use export::json::{self, DocumentHead};
use feed::names::HostName;
use model::flow::Kind;

#[derive(Args, Debug)]
#[command(
    after_help = "The best source comes first: --names, then /etc/hosts, files of container runtimes \
    (cni, host-local, /var/log/pods), services of this host (cri, cilium, ovn, ovs, docker), its processes (cgroup) \
    and interfaces; for outer addresses the fleet and services (cilium, ovn, frr); DNS."
)]
pub(super) struct NamesOf {
    /// Show only the names of this address, from every source
    #[arg(value_name = "ADDR")]
    address: Option<IpAddr>,
    #[command(flatten)]
    naming: Naming,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    head: DocumentHead<'static>,
    names: Vec<OfAddress>,
    ids: Vec<OfId>,
}

#[derive(Serialize)]
struct OfAddress {
    address: IpAddr,
    name: String,
    from: &'static str,
}

#[derive(Serialize)]
struct OfId {
    id: u32,
    /// For which kinds of tunnels the name holds; none: for all.
    kinds: Vec<String>,
    name: String,
    from: &'static str,
}

impl NamesOf {
    pub(super) fn run(&self) -> Result<()> {
        const RESOLVE: Duration = Duration::from_secs(2);
        let (names, mut looking) = self.naming.read(true)?;
        looking.all();
        names.silent().iter().for_each(|line| say(line));
        let address = self.address.map(|address| address.to_canonical());
        names.settle(address.iter().map(|a| (*a, true)), RESOLVE);
        let of = |address: IpAddr| {
            let line =
                move |HostName { name, from }| OfAddress { address, name, from: from.name() };
            names.told(address).into_iter().map(line)
        };
        let id = |(id, kinds, HostName { name, from }): (u32, Vec<Kind>, HostName)| {
            let kinds = kinds.iter().map(Kind::to_string).collect();
            OfId { id, kinds, name, from: from.name() }
        };
        let (all, ids): (Vec<OfAddress>, Vec<OfId>) = match address {
            Some(address) => (of(address).collect(), Vec::new()),
            None => (
                names.addresses().into_iter().filter_map(|address| of(address).next()).collect(),
                names.named_ids().into_iter().map(id).collect(),
            ),
        };
        if self.json {
            let report = Report { head: DocumentHead::new(TOOL, origin::host()), names: all, ids };
            return Ok(json::line(&mut out::raw(), &report)?);
        }
        match address {
            Some(address) if all.is_empty() => {
                bail!("no name is known for {address}: try --names FILE or --resolve")
            }
            _ => {}
        }
        // As filters take them.
        let shown = |n: &OfId| match &n.kinds[..] {
            [] => format!("vni:{}", n.id),
            kinds => {
                let all: Vec<_> = kinds.iter().map(|kind| format!("{kind}/{}", n.id)).collect();
                format!("vni:{}", all.join(","))
            }
        };
        let ids = ids.into_iter().map(|n| [shown(&n), n.name, n.from.to_owned()]);
        let addresses = all.into_iter().map(|n| [n.address.to_string(), n.name, n.from.to_owned()]);
        let lines: Vec<_> = addresses.chain(ids).collect();
        Ok(listing::write(&mut out::people(), ["ADDRESS", "NAME", "FROM"], &lines)?)
    }
}

/// `tmon ask`: queries services for names, for a process that has given up the privileges to do so.
#[derive(Args, Debug)]
pub(super) struct Ask {
    /// Docker's socket
    #[arg(long, value_name = "SOCKET")]
    docker: Option<PathBuf>,
    /// A container runtime's socket
    #[arg(long, value_name = "SOCKET")]
    cri: Option<PathBuf>,
    /// Read the files of container runtimes in this folder
    #[arg(long, value_name = "FOLDER")]
    files: Vec<PathBuf>,
}

impl Ask {
    pub(super) fn run(self) -> Result<()> {
        let sandbox = Sandbox::new(None);
        let Ask { docker, cri, files } = self;
        let services = Services { docker, cri, files };
        // Do not trust the answers.
        let told = services.ask(|| sandbox.enter_with_nothing())?;
        Ok(out::raw().write_all(&serde_json::to_vec(&told)?)?)
    }
}
