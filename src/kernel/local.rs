// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this host's own interfaces are called, found in its network namespaces.
use std::{net::IpAddr, thread::JoinHandle};

use anyhow::Result;
use foldhash::{HashMap, HashMapExt};

use crate::kernel::{netlink::Netlink, netns, sandbox::Sandbox};
use feed::names::Names;
use model::units::sanitize;

/// Limit on the namespaces searched for local addresses.
const MOST_NAMESPACES: usize = 512;

/// Looks for this host's own addresses in its network namespaces, on a thread of its own, which is
/// there to be waited for where names are wanted at once.
pub fn look_around(names: &Names) -> Option<JoinHandle<()>> {
    let names = names.clone();
    let sandbox = Sandbox::new(None);
    let look = move || {
        // It keeps the privilege to enter namespaces; it is soon over.
        sandbox.confine();
        names.learn_local(local_names());
    };
    // Without a thread there are fewer names, and nothing else is wrong.
    std::thread::Builder::new().name("tmon-names".to_owned()).spawn(look).ok()
}

/// The addresses of the interfaces here and in the named namespaces: `eth0`, `tenant-a/veth0`.
fn local_names() -> HashMap<IpAddr, String> {
    let mut found: HashMap<IpAddr, Option<String>> = HashMap::new();
    let mut add = |netns: Option<&str>, netlink: Result<Netlink>| {
        let Ok(mut netlink) = netlink else { return };
        let (Ok(links), Ok(addresses)) = (netlink.links(), netlink.addresses()) else { return };
        for (index, address, _) in addresses {
            let Some(link) = links.iter().find(|l| l.index == index) else { continue };
            if address.is_loopback()
                || matches!(address, IpAddr::V6(a) if a.is_unicast_link_local())
            {
                continue;
            }
            let name = match netns {
                // Of a path the last part.
                Some(netns) => {
                    let netns = netns.rsplit('/').next().unwrap_or(netns);
                    format!("{}/{}", sanitize(netns), sanitize(&link.name))
                }
                None => sanitize(&link.name).into_owned(),
            };
            // Two interfaces have it: it is ambiguous.
            found.entry(address).and_modify(|known| *known = None).or_insert(Some(name));
        }
    };
    add(None, Netlink::open());
    for (name, netns) in netns::others().into_iter().take(MOST_NAMESPACES) {
        add(Some(&name), netns.and_then(|n| Netlink::open_in(&n)));
    }
    found.into_iter().filter_map(|(address, name)| Some((address, name?))).collect()
}
