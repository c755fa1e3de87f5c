// SPDX-License-Identifier: MIT OR Apache-2.0
//! What addresses and tunnel ids are called on this host: by the interfaces in its network namespaces,
//! and by the files that container runtimes leave.
use std::{
    net::IpAddr,
    path::Path,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::Result;
use foldhash::{HashMap, HashMapExt};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use crate::kernel::{
    asked::Asker,
    discover::{FoundTunnel, NetnsView},
    hosted,
    netlink::Netlink,
    netns,
    sandbox::Sandbox,
};
use feed::names::{HostName, NameSource, Names};
use model::{overlay::Segment, units::sanitize};

/// Limit on the namespaces searched for local addresses.
const MOST_NAMESPACES: usize = 512;

/// After a change of files, and while there are none: how soon they are read again.
const SETTLED: Duration = Duration::from_millis(300);
const LATER: Duration = Duration::from_secs(60);

/// Looks for names on a thread of its own, which is there to be waited for where they are wanted at
/// once. Files of container runtimes are followed from then on, until the program ends.
pub fn look_around(names: &Names) -> Option<JoinHandle<()>> {
    let names = names.clone();
    let sandbox = Sandbox::new(None);
    let look = move || {
        // It keeps the privilege to enter namespaces; it is soon over.
        sandbox.confine();
        let (own, segments) = own_names();
        names.learn_segments(segments);
        let folders = || hosted::FOLDERS.iter().map(Path::new);
        names.learn_local(own.clone().into_iter().chain(hosted::names(folders())).collect());
        start(move || {
            sandbox.confine_strictly();
            follow(&names, &own);
        });
    };
    start(look)
}

/// Asks services on a thread of its own, which is there to be waited for until they have answered once,
/// or not, and are asked again and again from then on.
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

/// Without a thread there are fewer names, and nothing else is wrong.
fn start(run: impl FnOnce() + Send + 'static) -> Option<JoinHandle<()>> {
    thread::Builder::new().name("tmon-names".to_owned()).spawn(run).ok()
}

/// Reads files again whenever there are others.
fn follow(names: &Names, own: &HashMap<IpAddr, HostName>) {
    let folders = || hosted::FOLDERS.iter().map(Path::new);
    let what = AddWatchFlags::IN_CLOSE_WRITE
        | AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_DELETE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF;
    loop {
        let watched = hosted::watched(folders());
        let Ok(inotify) = Inotify::init(InitFlags::IN_CLOEXEC) else { return };
        let any = watched.iter().filter(|path| inotify.add_watch(*path, what).is_ok()).count() > 0;
        // After the watches are there, so that nothing is missed.
        let found = hosted::names(folders());
        names.learn_local(own.clone().into_iter().chain(found).collect());
        if !any {
            thread::sleep(LATER);
        } else if inotify.read_events().is_err() {
            return;
        }
        thread::sleep(SETTLED);
    }
}

/// The names of addresses, and what ids stand for.
type OwnNames = (HashMap<IpAddr, HostName>, HashMap<u32, Option<Segment>>);

/// The addresses of the interfaces here and in the named namespaces: `eth0`, `tenant-a/veth0`. And
/// what the ids of tunnel devices stand for; nothing where they stand for several things.
fn own_names() -> OwnNames {
    let mut found: HashMap<IpAddr, Option<String>> = HashMap::new();
    let mut segments: HashMap<u32, Option<Segment>> = HashMap::new();
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
        let with = |device| FoundTunnel { device, underlay: None };
        let tunnels = netlink.tunnels_among(&links).into_iter().map(with).collect();
        for (tunnel, segment) in (NetnsView { links, tunnels, ..NetnsView::default() }).segments() {
            let Some(id) = tunnel.id else { continue };
            let known = segments.entry(id).or_insert_with(|| Some(segment.clone()));
            known.take_if(|known| *known != segment);
        }
    };
    add(None, Netlink::open());
    for (name, netns) in netns::others().into_iter().take(MOST_NAMESPACES) {
        add(Some(&name), netns.and_then(|n| Netlink::open_in(&n)));
    }
    let own = |(address, name): (IpAddr, Option<String>)| {
        Some((address, HostName { name: name?, from: NameSource::Interface }))
    };
    (found.into_iter().filter_map(own).collect(), segments)
}
