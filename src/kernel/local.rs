// SPDX-License-Identifier: MIT OR Apache-2.0
//! This host's names for addresses and tunnel ids: from the interfaces in its network namespaces,
//! and from the files of container runtimes.
use std::{
    net::IpAddr,
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::kernel::{
    asked::Asker,
    discover::{FoundTunnel, NetnsView},
    hosted,
    netlink::Netlink,
    netns::{self, Netns},
    pods::{self, Containers},
    sandbox::Sandbox,
};
use feed::names::{HostName, NameSource, Names};
use model::{flow::Tunnel, overlay::Segment, units::sanitize};

/// Limit on the namespaces searched for local addresses.
const MOST_NAMESPACES: usize = 512;

/// How soon files are read again after a change, and while there are none.
const SETTLED: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_secs(60);

/// Looks for names on a separate thread, which can be joined if they are needed at once. Files of
/// container runtimes are followed from then on, until the program ends.
pub fn look_around(names: &Names) -> Option<JoinHandle<()>> {
    let names = names.clone();
    let sandbox = Sandbox::new(None);
    let look = move || {
        // Namespaces of other processes are out of reach afterwards.
        let named: Vec<(String, Netns)> = netns::others()
            .into_iter()
            .filter_map(|(name, netns)| Some((name, netns.ok()?)))
            .take(MOST_NAMESPACES)
            .collect();
        let containers =
            pods::containers(&named.iter().filter_map(|(_, n)| n.inode().ok()).collect());
        // It keeps the privilege to enter namespaces, and ends soon.
        sandbox.confine();
        let (own, segments) = own_names(named, containers);
        names.learn_segments(segments);
        names.learn_local(own.clone().into_iter().chain(hosted_names()).collect());
        start(move || {
            sandbox.confine_strictly();
            follow(&names, &own);
        });
    };
    start(look)
}

/// Queries services on a separate thread, which can be joined after the first round of answers;
/// they are queried again and again from then on.
pub fn ask_around(names: &Names, asker: Asker) -> Option<JoinHandle<()>> {
    let names = names.clone();
    let sandbox = Sandbox::new(None);
    start(move || {
        sandbox.confine_strictly();
        names.learn_asked(asker.ask().unwrap_or_default());
        start(move || {
            sandbox.confine_strictly();
            asker.follow(&names);
        });
    })
}

/// Without a thread there are only fewer names.
fn start(run: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    thread::Builder::new().name("tmon-names".to_owned()).spawn(run).ok()
}

/// The names in files of container runtimes.
fn hosted_names() -> HashMap<IpAddr, HostName> {
    hosted::names(hosted::FOLDERS.iter().map(Path::new), || {
        pods::containers(&HashSet::new()).by_container(Path::new(pods::LOGS))
    })
}

/// Reads files again whenever they change.
fn follow(names: &Names, own: &HashMap<IpAddr, HostName>) {
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF;
    loop {
        let watched = hosted::watched(hosted::FOLDERS.iter().map(Path::new));
        let Ok(inotify) = Inotify::init(InitFlags::IN_CLOEXEC) else { return };
        let any = watched.iter().filter(|path| inotify.add_watch(*path, what).is_ok()).count() > 0;
        // After the watches have been added, so that nothing is missed.
        names.learn_local(own.clone().into_iter().chain(hosted_names()).collect());
        if !any {
            thread::sleep(LATER);
        } else if inotify.read_events().is_err() {
            return;
        }
        thread::sleep(SETTLED);
    }
}

/// The names of addresses, and what ids stand for.
type OwnNames = (HashMap<IpAddr, HostName>, HashMap<Tunnel, Option<Segment>>);

/// The addresses of interfaces here and in other namespaces, with the names of pods and containers,
/// or else of the interfaces: `eth0`, `tenant-a/veth0`. And what the ids of tunnel devices stand
/// for; `None` for those that stand for several things.
fn own_names(named: Vec<(String, Netns)>, containers: Containers) -> OwnNames {
    let mut found: HashMap<IpAddr, Option<HostName>> = HashMap::new();
    let mut segments: HashMap<Tunnel, Option<Segment>> = HashMap::new();
    let mut add = |netns: Option<&str>, called: Option<&HostName>, netlink: Result<Netlink>| {
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
                // For a path, its last component.
                Some(netns) => {
                    let netns = netns.rsplit('/').next().unwrap_or(netns);
                    format!("{}/{}", sanitize(netns), sanitize(&link.name))
                }
                None => sanitize(&link.name).into_owned(),
            };
            let device = HostName { name, from: NameSource::Interface };
            let name = called.cloned().unwrap_or(device);
            // If two names differ, the address is ambiguous.
            let known = found.entry(address).or_insert_with(|| Some(name.clone()));
            known.take_if(|known| *known != name);
        }
        let with = |device| FoundTunnel { device, underlay: None };
        let tunnels = netlink.tunnels_among(&links).into_iter().map(with).collect();
        for (tunnel, segment) in (NetnsView { links, tunnels, ..NetnsView::default() }).segments() {
            let known = segments.entry(tunnel).or_insert_with(|| Some(segment.clone()));
            known.take_if(|known| *known != segment);
        }
    };
    add(None, None, Netlink::open());
    let called = containers.by_space(Path::new(pods::LOGS));
    let others = containers.into_spaces().into_iter().map(|netns| (netns.name().to_owned(), netns));
    for (name, netns) in named.into_iter().chain(others) {
        let called = netns.inode().ok().and_then(|inode| called.get(&inode));
        add(Some(&name), called, Netlink::open_in(&netns));
    }
    let own = found.into_iter().filter_map(|(address, name)| Some((address, name?)));
    (own.collect(), segments)
}
