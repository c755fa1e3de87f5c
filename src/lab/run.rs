// SPDX-License-Identifier: MIT OR Apache-2.0
//! Carries out a plan, undoes it, and lists what exists. By netlink, in the lab's own namespaces.
use std::{
    collections::HashMap,
    fs, io,
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;

use super::plan::{
    Interrupt, LabOptions, Plan, PlanAction, PlanStep, SWITCH, UNDERLAY, check_prefix, fabric,
    owns, read_note,
};
use crate::kernel::{
    netlink::{Netlink, NewLink, errno},
    netns::{self, Netns},
};

/// Creates the lab. Returns true if it was created, false if this very lab existed already and
/// nothing was done.
///
/// Remains of an interrupted attempt are removed first. A failing step undoes everything.
pub fn up(options: &LabOptions) -> Result<bool> {
    let plan = Plan::new(options)?;
    let _lock = Lock::take(&options.prefix)?;
    match standing(&options.prefix)? {
        Some(old) if old.note() == plan.note() && missing(&old)?.is_empty() => return Ok(false),
        Some(old) if old.note() != plan.note() => {
            bail!(
                "another lab is up ({}): take it down first with `tmon lab down`",
                old.note().trim_start_matches("tmon lab ")
            )
        }
        _ => remove(&options.prefix)?,
    };
    let mut ground = Ground::default();
    for (n, step) in plan.steps().into_iter().enumerate() {
        let done = match options.interrupt {
            Some(Interrupt::Crash(at)) if at == n => {
                bail!("crashed at step {n}, as asked, before '{step}'")
            }
            Some(Interrupt::Fail(at)) if at == n => Err(anyhow!("failed at step {n}, as asked")),
            _ => ground.carry_out(&step),
        };
        if let Err(e) = done {
            match remove(&options.prefix) {
                Ok(_) => bail!("lab up failed at '{step}' and was undone: {e:#}"),
                Err(left) => bail!(
                    "lab up failed at '{step}': {e:#}; undoing it failed too: {left:#}; try `tmon lab down`"
                ),
            }
        }
    }
    Ok(true)
}

/// Removes every trace of the lab, complete or not. Returns the number of its namespaces.
pub fn down(prefix: &str) -> Result<usize> {
    check_prefix(prefix)?;
    let _lock = Lock::take(prefix)?;
    remove(prefix)
}

/// The plan of a complete lab; `None` if there is none or only part of one.
pub fn standing(prefix: &str) -> Result<Option<Plan>> {
    let name = fabric(prefix);
    if !netns::list()?.contains(&name) {
        return Ok(None);
    }
    // A mere remainder of a namespace is part of a lab.
    let Ok(netns) = Netns::open(&name) else { return Ok(None) };
    let switch = Netlink::open_in(&netns)?.link(SWITCH)?;
    Ok(switch.and_then(|s| s.alias).and_then(|note| read_note(prefix, &note)))
}

/// The complete lab, or an error that says what to do.
pub(super) fn standing_or_explain(prefix: &str) -> Result<Plan> {
    match standing(prefix)? {
        Some(plan) => Ok(plan),
        None if traces(prefix)?.is_empty() => {
            bail!("there is no lab: create one with `tmon lab up`")
        }
        None => {
            bail!("the lab is incomplete (`tmon lab up` was interrupted): run `tmon lab up` again")
        }
    }
}

/// The names of the namespaces of this lab that exist.
pub(super) fn traces(prefix: &str) -> Result<Vec<String>> {
    Ok(netns::list()?.into_iter().filter(|name| owns(prefix, name)).collect())
}

/// Namespaces of a complete lab that have been removed.
fn missing(plan: &Plan) -> Result<Vec<String>> {
    let there = traces(&plan.options().prefix)?;
    Ok((0..plan.options().hosts)
        .map(|k| plan.host(k))
        .filter(|name| !there.contains(name))
        .collect())
}

fn remove(prefix: &str) -> Result<usize> {
    let names = traces(prefix)?;
    // The underlay goes first, and with it the tunnels on it: a process that is still inside a
    // namespace keeps that alive, but disconnected.
    if let Ok(netns) = Netns::open(&fabric(prefix)) {
        let mut netlink = Netlink::open_in(&netns)?;
        for link in netlink.links()?.iter().filter(|l| l.kind.is_some()) {
            netlink.delete(&link.name)?;
        }
    }
    let mut failed = Ok(names.len());
    for name in &names {
        if let Err(e) = netns::delete(name) {
            failed = Err(e);
        }
    }
    failed
}

/// Namespaces and sockets opened so far.
#[derive(Default)]
struct Ground {
    places: HashMap<String, (Netns, Netlink)>,
}

impl Ground {
    fn carry_out(&mut self, step: &PlanStep) -> Result<()> {
        if step.action == PlanAction::Namespace {
            let netns = Netns::create(&step.netns)?;
            let netlink = Netlink::open_in(&netns)?;
            self.places.insert(step.netns.clone(), (netns, netlink));
            return Ok(());
        }
        let (netns, netlink) =
            self.places.get_mut(&step.netns).context("its namespace has not been made")?;
        match &step.action {
            PlanAction::Namespace => Ok(()),
            PlanAction::Setting { key, value, optional } => set(netns, key, value, *optional),
            PlanAction::Bridge(link) => netlink.create(link, None, &NewLink::Bridge),
            PlanAction::Veth { link, peer, peer_netns, mtu } => {
                let there = peer_netns.as_deref().map(Netns::open).transpose()?;
                netlink.create(link, Some(*mtu), &NewLink::Veth { peer, netns: there.as_ref() })
            }
            PlanAction::Tunnel { link, tunnel, mtu } => {
                let underlay = netlink.link(UNDERLAY)?.map(|l| l.index);
                let made = netlink.create(
                    link,
                    Some(*mtu),
                    &NewLink::Tunnel(crate::kernel::netlink::NewTunnel {
                        underlay,
                        ..tunnel.clone()
                    }),
                );
                match made {
                    Err(e) if errno(&e) == Some(Errno::EOPNOTSUPP) => Err(e.context(format!(
                        "this kernel cannot make {} tunnels (try `modprobe {}`, or --kind vxlan)",
                        tunnel.kind,
                        module(tunnel.kind)
                    ))),
                    made => made,
                }
            }
            PlanAction::Port { link, bridge, isolated } => {
                netlink.set_master(link, bridge)?;
                if *isolated { netlink.set_isolated(link, true) } else { Ok(()) }
            }
            PlanAction::Address { link, address, prefix } => {
                netlink.add_address(link, *address, *prefix)
            }
            PlanAction::Route { to, link } => {
                netlink.add_route(*to, if to.is_ipv4() { 32 } else { 128 }, link, None)
            }
            PlanAction::Up(link) => netlink.set_up(link),
            PlanAction::Promiscuous(link) => netlink.set_promiscuous(link),
            PlanAction::Note { link, text } => netlink.set_alias(link, text),
        }
    }
}

/// The kernel module of a kind of tunnel.
fn module(kind: model::flow::Kind) -> &'static str {
    match kind {
        model::flow::Kind::Geneve => "geneve",
        model::flow::Kind::Gre | model::flow::Kind::Gretap => "ip_gre",
        model::flow::Kind::Ipip => "ipip",
        _ => "vxlan",
    }
}

/// Writes a sysctl of a namespace. `/proc/sys/net` is that of the thread that opens it.
fn set(netns: &Netns, key: &str, value: &str, optional: bool) -> Result<()> {
    let path = format!("/proc/sys/net/{key}");
    match netns.within(|| fs::write(&path, value))? {
        Err(e) if optional && e.kind() == io::ErrorKind::NotFound => Ok(()),
        written => written.with_context(|| format!("write '{value}' to {path}")),
    }
}

/// Allows one `up` or `down` of a lab at a time. Held by the process; a crash releases it and
/// leaves nothing.
struct Lock {
    _socket: UnixDatagram,
}

impl Lock {
    fn take(prefix: &str) -> Result<Self> {
        let name = SocketAddr::from_abstract_name(format!("tmon-lab-{prefix}"))
            .context("name the lab's lock")?;
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match UnixDatagram::bind_addr(&name) {
                Ok(socket) => return Ok(Lock { _socket: socket }),
                Err(e) if e.kind() == io::ErrorKind::AddrInUse && Instant::now() < deadline => {
                    thread::sleep(Duration::from_millis(50))
                }
                Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                    bail!("another tmon is working on this lab; try again when it is done")
                }
                Err(e) => return Err(e).context("lock the lab"),
            }
        }
    }
}
