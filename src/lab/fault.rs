// SPDX-License-Identifier: MIT OR Apache-2.0
//! Faults to be found in the lab: each is a few commands in a host's namespace, and the commands
//! that undo them. Active faults are noted on the switch's ports, in the lab itself.
use std::{
    fmt,
    hash::{BuildHasher, RandomState},
    io,
    net::IpAddr,
    process::{Command, Stdio},
    str::FromStr,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};

use super::{
    plan::{Plan, UNDERLAY},
    run::standing_or_explain,
};
use crate::kernel::{netlink::Netlink, netns::Netns};
use model::flow::Kind;

/// The host where faults are staged.
pub const HOST: u8 = 1;
/// Where wrong FDB entries lead: not a host of the lab.
const NOWHERE: &str = "172.16.1.250";
/// The hardware address of a client that does not exist, and the client's number.
const NOBODY: (&str, u8) = ("02:74:6d:6f:6e:c8", 199);
/// The UDP port of the lab's tunnels.
const PORT: u16 = 4789;
/// The prefix of a note.
const NOTE: &str = "tmon fault:";

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// An id without a device: the device that should have it has another one.
    NoDevice,
    /// A static FDB entry that names another endpoint.
    WrongVtep,
    /// A firewall that drops tunnels' packets.
    OuterFirewall,
    /// A firewall that drops the inner packets of one pair.
    InnerFirewall,
    /// Wrong checksums.
    Checksum,
    /// Nobody listens on the tunnels' port: the devices use another one.
    NoListener,
    /// Reverse path filtering rejects an outer source address.
    RpFilter,
    /// A receiver's MTU that only small packets fit.
    Mtu,
    /// An inner address that two hosts have.
    Duplicate,
    /// A forwarding entry that leads to an unknown endpoint.
    UnknownVtep,
    /// A client that broadcasts ARP requests endlessly.
    ArpStorm,
    /// A peer that no longer sends anything.
    Silent,
}

/// Every fault with its name, and what tmon should say about it.
pub const FAULTS: &[(Fault, &str, &str)] = &[
    (Fault::NoDevice, "no-device", "host1 drops all packets of VXLAN 10002: VXLAN_VNI_NOT_FOUND"),
    (
        Fault::WrongVtep,
        "wrong-vtep",
        "host1 drops packets from 192.168.0.1: VXLAN_ENTRY_EXISTS, its FDB names another endpoint",
    ),
    (
        Fault::OuterFirewall,
        "outer-firewall",
        "host1 drops all tunnel packets from host0: NETFILTER_DROP at eth0",
    ),
    (
        Fault::InnerFirewall,
        "inner-firewall",
        "host1 drops 192.168.0.1 > 192.168.0.2: NETFILTER_DROP after decapsulation",
    ),
    (Fault::Checksum, "checksum", "host1 drops packets from host0: UDP_CSUM"),
    (Fault::NoListener, "no-listener", "host1 drops all tunnel packets: NO_SOCKET"),
    (Fault::RpFilter, "rp-filter", "host1 drops packets from host0: IP_RPFILTER"),
    (Fault::Mtu, "mtu", "host1's eth0 loses packets longer than 700 bytes: its rx_dropped grows"),
    (Fault::Duplicate, "duplicate", "host1 sees 192.168.0.1 alternate between host0 and host2"),
    (
        Fault::UnknownVtep,
        "unknown-vtep",
        "host1 sends packets for 192.168.0.200 to 172.16.1.250, where no host is: NEIGH_FAILED",
    ),
    (
        Fault::ArpStorm,
        "arp-storm",
        "host1 receives 800 ARP requests a second in VXLAN 10000 from host0",
    ),
    (Fault::Silent, "silent", "host1 sends requests to host2, and answers stop coming"),
];

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(FAULTS.iter().find(|fault| fault.0 == *self).map_or("", |fault| fault.1))
    }
}

impl FromStr for Fault {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let names: Vec<&str> = FAULTS.iter().map(|fault| fault.1).collect();
        FAULTS
            .iter()
            .find(|fault| fault.1 == s)
            .map(|fault| fault.0)
            .ok_or_else(|| format!("'{s}' is not a fault (one of: {})", names.join(", ")))
    }
}

/// A command in a host's namespace, and the command that undoes it.
struct Change {
    host: u8,
    set: String,
    undo: String,
}

fn change(host: u8, set: impl Into<String>, undo: impl Into<String>) -> Change {
    Change { host, set: set.into(), undo: undo.into() }
}

/// An nftables table with one rule, which counts.
fn nft(host: u8, fault: Fault, hook: &str, rule: &str) -> Change {
    let table = format!("tmon-{fault}").replace('-', "_");
    change(
        host,
        format!(
            "nft add table ip {table} ; \
             add chain ip {table} c {{ type filter hook {hook} priority 0 ; }} ; \
             add rule ip {table} c {rule}"
        ),
        format!("nft delete table ip {table}"),
    )
}

impl Fault {
    /// The host that stops answering.
    pub(super) fn peer(plan: &Plan) -> u8 {
        (HOST + 1) % plan.options().hosts
    }

    /// The client behind an unknown endpoint.
    pub(super) fn nobody(plan: &Plan) -> IpAddr {
        plan.client(0, NOBODY.1)
    }

    /// How long everything must have been well before it, so that it stands out.
    pub fn after(self) -> Duration {
        Duration::from_secs(if self == Fault::ArpStorm { 35 } else { 4 })
    }

    /// The commands, in order.
    fn changes(self, plan: &Plan) -> Result<Vec<Change>> {
        let (from, asks, answers) = (plan.endpoint(0), plan.client(0, 0), plan.client(0, HOST));
        let networks = plan.options().networks;
        // A network's tunnel device, with another id or port than it should have.
        let instead = |i: u8, id: u32, port: u16| {
            let remove = format!("ip link del vxlan{i}");
            let add = |id, port| {
                format!(
                    "ip link add vxlan{i} mtu {} up master br{i} type vxlan id {id} group {} \
                     local {} dev {UNDERLAY} dstport {port}",
                    plan.client_mtu(),
                    plan.group(i),
                    plan.endpoint(HOST)
                )
            };
            [
                change(HOST, remove.clone(), add(plan.id(i), PORT)),
                change(HOST, add(id, port), remove),
            ]
        };
        Ok(match self {
            Fault::NoDevice => {
                let i = 2.min(networks - 1);
                instead(i, plan.id(i) + 10_000, PORT).into()
            }
            Fault::WrongVtep => {
                let netns = Netns::open(&plan.host(0))?;
                let client = Netlink::open_in(&netns)?
                    .link("client0")?
                    .context("host0 has no client0: recreate the lab")?;
                let mac: Vec<String> = client.mac.iter().map(|b| format!("{b:02x}")).collect();
                let entry = format!("{} dev vxlan0 dst {NOWHERE} self", mac.join(":"));
                vec![change(
                    HOST,
                    format!("bridge fdb replace {entry} static"),
                    format!("bridge fdb del {entry}"),
                )]
            }
            Fault::OuterFirewall => {
                let rule = format!("ip saddr {from} udp dport 4789 counter drop");
                vec![nft(HOST, self, "input", &rule)]
            }
            Fault::InnerFirewall => {
                let rule = format!("ip saddr {asks} ip daddr {answers} counter drop");
                vec![nft(HOST, self, "input", &rule)]
            }
            Fault::Checksum => {
                let rule = format!(
                    "ip daddr {} udp dport 4789 counter @th,48,16 set 0xbad1",
                    plan.endpoint(HOST)
                );
                // Checksums left to the device are not verified.
                let offload = |state| format!("ethtool -K {UNDERLAY} tx {state}");
                vec![change(0, offload("off"), offload("on")), nft(0, self, "postrouting", &rule)]
            }
            Fault::NoListener => {
                (0..networks).flat_map(|i| instead(i, plan.id(i), PORT + 10_000)).collect()
            }
            Fault::RpFilter => {
                let strict =
                    |value| format!("sysctl -qw net.ipv4.conf.{UNDERLAY}.rp_filter={value}");
                let route = format!("{from}/32 dev client0");
                vec![
                    change(HOST, strict(1), strict(0)),
                    change(HOST, format!("ip route add {route}"), format!("ip route del {route}")),
                ]
            }
            Fault::Mtu => {
                let mtu = |bytes| format!("ip link set {UNDERLAY} mtu {bytes}");
                vec![change(HOST, mtu(700), mtu(1500))]
            }
            Fault::Duplicate => {
                ensure!(plan.options().hosts > 2, "`{self}` needs a lab of at least three hosts");
                let has = format!("{asks}/32 dev client0");
                vec![change(2, format!("ip addr add {has}"), format!("ip addr del {has}"))]
            }
            Fault::UnknownVtep => {
                let (mac, client) = (NOBODY.0, Fault::nobody(plan));
                let entry = format!("{mac} dev vxlan0 dst {NOWHERE} self");
                vec![
                    change(
                        HOST,
                        format!("bridge fdb replace {entry} static"),
                        format!("bridge fdb del {entry}"),
                    ),
                    change(
                        HOST,
                        format!("ip neigh replace {client} lladdr {mac} dev client0 nud permanent"),
                        format!("ip neigh del {client} dev client0"),
                    ),
                ]
            }
            // It consists of the packets sent.
            Fault::ArpStorm => Vec::new(),
            Fault::Silent => {
                vec![nft(Fault::peer(plan), self, "output", "udp dport 4789 counter drop")]
            }
        })
    }
}

/// Runs a command in a host's namespace.
fn run(plan: &Plan, host: u8, line: &str) -> Result<()> {
    let mut words = line.split_whitespace();
    let program = words.next().context("a command")?;
    let netns = Netns::open(&plan.host(host))?;
    let done = netns.within(|| {
        Command::new(program).args(words).stdin(Stdio::null()).stdout(Stdio::null()).output()
    })?;
    match done {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let package = match program {
                "nft" => "nftables",
                "sysctl" => "procps",
                "ethtool" => "ethtool",
                _ => "iproute2",
            };
            bail!("this needs `{program}`, which was not found: install {package}")
        }
        Err(e) => Err(e).with_context(|| format!("run `{line}`")),
        Ok(out) if out.status.success() => Ok(()),
        Ok(out) => {
            let said = String::from_utf8_lossy(&out.stderr);
            bail!("`{line}` on host{host}: {}", said.lines().next().unwrap_or("it failed").trim())
        }
    }
}

pub(super) fn lab(prefix: &str) -> Result<Plan> {
    let plan = standing_or_explain(prefix)?;
    let o = plan.options();
    ensure!(
        o.kind == Kind::Vxlan && !o.ipv6_underlay,
        "faults need a lab of VXLAN over IPv4, which is what `tmon lab up` creates"
    );
    Ok(plan)
}

/// The switch's port with the note.
fn port() -> String {
    format!("host{HOST}")
}

pub(super) fn noted(plan: &Plan) -> Result<Vec<Fault>> {
    let note = Netlink::open_in(&Netns::open(&plan.fabric())?)?
        .link(&port())?
        .and_then(|link| link.alias)
        .unwrap_or_default();
    let names = note.strip_prefix(NOTE).unwrap_or_default();
    Ok(names.split_whitespace().filter_map(|name| name.parse().ok()).collect())
}

fn note(plan: &Plan, faults: &[Fault]) -> Result<()> {
    let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
    let text = if names.is_empty() { String::new() } else { format!("{NOTE} {}", names.join(" ")) };
    Netlink::open_in(&Netns::open(&plan.fabric())?)?.set_alias(&port(), &text)
}

/// The active faults of the lab; none if there is no lab.
///
/// # Errors
/// The lab cannot be examined.
pub fn staged(prefix: &str) -> Result<Vec<Fault>> {
    match super::standing(prefix)? {
        Some(plan) => noted(&plan),
        None => Ok(Vec::new()),
    }
}

/// Stages a fault; returns false if it is already active. Packets that belong to it have to be sent
/// by [`super::sender`].
///
/// # Errors
/// There is no lab, or a command failed: then what had been done is undone.
pub fn stage(prefix: &str, fault: Fault) -> Result<bool> {
    let plan = lab(prefix)?;
    let mut faults = noted(&plan)?;
    if faults.contains(&fault) {
        return Ok(false);
    }
    let changes = fault.changes(&plan)?;
    faults.push(fault);
    // First, so that an interrupted fault can be cleared as well.
    note(&plan, &faults)?;
    for (done, c) in changes.iter().enumerate() {
        if let Err(e) = run(&plan, c.host, &c.set) {
            for c in changes[..done].iter().rev() {
                let _ = run(&plan, c.host, &c.undo); // the first error is the one to report
            }
            faults.pop();
            note(&plan, &faults)?;
            return Err(e);
        }
    }
    Ok(true)
}

/// Stages a random fault; do not reveal which.
///
/// # Errors
/// Those of [`stage`]; a fault is already active.
pub fn surprise(prefix: &str) -> Result<Fault> {
    let staged = noted(&lab(prefix)?)?;
    ensure!(staged.is_empty(), "a fault is already staged: `tmon lab fault --clear` clears it");
    let n = RandomState::new().hash_one("fault") as usize % FAULTS.len();
    let fault = FAULTS[n].0;
    stage(prefix, fault)?;
    Ok(fault)
}

/// Ends all faults, and returns them.
///
/// # Errors
/// There is no lab, or something could not be undone: the rest was.
pub fn clear(prefix: &str) -> Result<Vec<Fault>> {
    let plan = lab(prefix)?;
    let faults = noted(&plan)?;
    let mut failed = Ok(());
    for fault in faults.iter().rev() {
        for c in fault.changes(&plan)?.iter().rev() {
            if let Err(e) = run(&plan, c.host, &c.undo) {
                failed = Err(e);
            }
        }
    }
    failed?;
    note(&plan, &[])?;
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::LabOptions;

    #[test]
    fn every_fault_has_a_name_and_can_be_undone() {
        let plan = Plan::new(&LabOptions::default()).expect("a plan");
        for (fault, name, says) in FAULTS {
            assert_eq!((fault.to_string().as_str(), name.parse()), (*name, Ok(*fault)));
            assert!(says.contains("host1"), "{says}");
            // The one that asks the lab for an address is tried in the lab.
            for c in fault.changes(&plan).into_iter().flatten() {
                assert!(c.set != c.undo && !c.undo.is_empty());
            }
        }
        assert!("nothing".parse::<Fault>().is_err_and(|e| e.contains("no-device, wrong-vtep")));
    }
}
