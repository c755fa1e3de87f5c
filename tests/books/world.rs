// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces and namespaces come, change and go, and other programs with them.
use export::Excerpt;
use model::{
    filter::Filter,
    flow::{Count, Hook, HookKind},
    matrix::{Scope, Tally},
    snapshot::Snapshot,
};
use tmon::kernel::{attach::Want, live::Live, netlink::NewLink, netns};

use crate::ground::{
    rival::{self, Rival},
    *,
};

/// The sum of the tunnel's rows on all interfaces.
fn inside(s: &Snapshot) -> Count {
    s.rows
        .iter()
        .filter(|f| f.key.depth == 1 && f.key.outermost.id == Some(VNI))
        .map(|f| f.counters.total())
        .sum()
}

fn counts(packets: u64, each: u64) -> Count {
    Count { packets, bytes: packets * each }
}

#[test]
fn an_interface_that_comes_back_continues_counting() {
    for want in wants() {
        let g = Ground::new();
        let mut live = g.watch(&small(), want);
        let [near, far] = g.sockets(9);
        let each = send(&near, &far, 10);
        let before = live.read().unwrap();
        assert_eq!(inside(&before), counts(10, each));

        g.a.netlink().delete("eth0").unwrap();
        let notices = told(&mut live, "is gone");
        assert!(notices[0].starts_with("eth0 in network namespace tmon-b"), "{notices:?}");
        let gone = live.read().unwrap();
        assert_eq!(
            (inside(&gone), gone.interfaces[0].hook),
            (inside(&before), HookKind::Off),
            "{want:?}"
        );

        // Another interface with the same name and another index, with the same tunnel over it.
        g.a.netlink()
            .create("eth0", None, &NewLink::Veth { peer: "eth0", netns: Some(&g.b.0) })
            .unwrap();
        for (space, own) in g.ends() {
            address(space, "eth0", 1, own, outer);
        }
        told(&mut live, "eth0 in network namespace");
        send(&near, &far, 7);
        let after = live.read().unwrap();
        assert_eq!(inside(&after), counts(17, each), "{want:?}");
        assert_eq!(after.interfaces.len(), 1);
        assert_ne!(after.interfaces[0].ifindex, before.interfaces[0].ifindex);
        let since = after.since(&before);
        assert_eq!(
            since.rows.iter().map(|f| f.counters.total()).sum::<Count>(),
            counts(7, each),
            "an interval is what happened in it"
        );
        closed(&after);
    }
}

#[test]
fn a_new_name_changes_nothing_else() {
    let g = Ground::new();
    let mut live = g.watch(&small(), Want::Best);
    let [near, far] = g.sockets(9);
    let each = send(&near, &far, 5);
    // Terminal escapes pass through netlink, and no further.
    let evil = "\x1b[31mred\x07";
    g.a.try_run("ip", &["link", "set", "eth0", "down"]).unwrap();
    g.a.try_run("ip", &["link", "set", "eth0", "name", evil]).unwrap();
    g.a.try_run("ip", &["link", "set", evil, "up"]).unwrap();
    let notices = told(&mut live, "is now called");
    g.settle();
    assert!(notices.iter().all(|n| !n.contains(char::is_control)), "{notices:?}");
    send(&far, &near, 5);
    let s = live.read().unwrap();
    assert_eq!(
        (inside(&s), s.interfaces[0].name.as_str(), s.interfaces.len()),
        (counts(10, each), evil, 1)
    );

    // The requested name, on another interface: that is watched as well.
    g.a.netlink().create("eth0", None, &NewLink::Bridge).unwrap();
    told(&mut live, "eth0 in network namespace");
    let s = live.read().unwrap();
    assert_eq!(s.interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), [evil, "eth0"]);
    assert_eq!(inside(&s), counts(10, each));
}

#[test]
fn going_down_and_up_is_reported() {
    let g = Ground::new();
    let mut live = g.watch(&small(), Want::Best);
    g.a.netlink().set_down("eth0").unwrap();
    told(&mut live, "is down");
    g.a.netlink().set_up("eth0").unwrap();
    told(&mut live, "is up");
    g.settle();
    g.a.netlink().add_neighbour("eth0", outer(2), mac(1, 2)).unwrap();
    let [near, far] = g.sockets(9);
    let each = send(&near, &far, 3);
    assert_eq!(inside(&live.read().unwrap()), counts(3, each));
}

#[test]
fn an_interface_that_moved_away_is_released() {
    for want in wants() {
        let g = Ground::bare();
        let elsewhere = Space::new("c");
        let mut live = g.watch(&small(), want);
        g.a.netlink().move_to("eth0", &elsewhere.0).unwrap();
        told(&mut live, "is gone");
        assert!(!elsewhere.hooks("eth0").contains("clsact"), "{}", elsewhere.hooks("eth0"));
        assert!(elsewhere.hooks("eth0").contains("tcx: []"), "{}", elsewhere.hooks("eth0"));
        elsewhere.netlink().move_to("eth0", &g.a.0).unwrap();
        told(&mut live, "eth0 in network namespace");
        assert_eq!(live.read().unwrap().interfaces.len(), 1);
        drop(live);
        assert!(!g.a.hooks("eth0").contains("clsact") && g.a.hooks("eth0").contains("tcx: []"));
    }
}

#[test]
fn a_port_that_leaves_its_bridge_is_not_gone() {
    let g = Ground::bare();
    let mut live = g.watch(&small(), Want::Best);
    let mut netlink = g.a.netlink();
    netlink.create("br0", None, &NewLink::Bridge).unwrap();
    netlink.set_master("eth0", "br0").unwrap();
    g.a.run("ip", "link set eth0 nomaster");
    netlink.set_down("eth0").unwrap();
    let notices = told(&mut live, "is down");
    assert!(!notices.iter().any(|n| n.contains("gone")), "{notices:?}");
}

#[test]
fn a_namespace_that_is_deleted_is_not_kept_alive() {
    for want in wants() {
        let g = Ground::bare();
        let names = [format!("{}/eth0", g.a.name()), format!("{}/eth0", g.b.name())];
        let mut live = Live::open(&names, None, &small(), want).unwrap();
        netns::delete(g.a.name()).unwrap();
        let notices = told(&mut live, "is gone");
        assert!(notices[0].contains(g.a.name()), "{notices:?}");
        // The namespace ends when nobody holds it, and so does the veth pair.
        let Ground { a, b } = g;
        drop(a);
        until("the other end of the veth gone", || {
            live.follow();
            b.netlink().link("eth0").unwrap().is_none()
        });
        let s = live.read().unwrap();
        assert_eq!(s.interfaces.iter().map(|i| i.hook).collect::<Vec<_>>(), [HookKind::Off; 2]);
    }
}

#[test]
fn the_same_index_in_two_namespaces_is_two_interfaces() {
    let g = Ground::new();
    assert_eq!(
        g.a.link("eth0").index,
        g.b.link("eth0").index,
        "both are the first of their namespace"
    );
    let names = [format!("{}/eth0", g.a.name()), format!("{}/eth0", g.b.name())];
    let mut live = Live::open(&names, None, &small(), Want::Best).unwrap();
    let [near, far] = g.sockets(9);
    let each = send(&near, &far, 20);
    send(&far, &near, 3);
    let s = live.read().unwrap();
    let books: Vec<[Count; 2]> = s.interfaces.iter().map(|i| i.books.counted).collect();
    // What one sends, the other receives.
    assert_eq!(books, [[counts(3, each), counts(20, each)], [counts(20, each), counts(3, each)]]);
    assert_eq!(
        s.interfaces.iter().map(|i| i.netns.as_deref().unwrap()).collect::<Vec<_>>(),
        [g.a.name(), g.b.name()]
    );
    closed(&s);
    // And rows name the interface.
    let total = s.total();
    let reading = Excerpt::new("tmon", &total, &Filter::default());
    assert_eq!(reading.flows.iter().map(|f| reading.interface(&f)).collect::<Vec<_>>(), names);
}

/// The descriptors of per-CPU BPF arrays in this process that are new: the books.
fn books_of(before: &[i32]) -> Vec<i32> {
    let is_books = |fd: &i32| {
        let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).unwrap_or_default();
        text.lines().any(|l| l == "map_type:\t6")
    };
    descriptors().into_iter().filter(|fd| !before.contains(fd) && is_books(fd)).collect()
}

fn descriptors() -> Vec<i32> {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|e| e.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

/// In a separate process: descriptors belong to the whole process.
#[test]
#[ignore = "run by a_table_that_cannot_be_read_once"]
#[allow(unsafe_code)]
fn with_a_broken_table() {
    let g = Ground::new();
    let before = descriptors();
    let mut live =
        Live::open(&["eth0".to_owned()], Some(g.a.name()), &small(), Want::Best).unwrap();
    let broken = books_of(&before);
    let mut other =
        Live::open(&["eth0".to_owned()], Some(g.b.name()), &small(), Want::Best).unwrap();
    let [near, far] = g.sockets(9);
    let each = send(&near, &far, 5);
    let good = live.read().unwrap();
    assert_eq!(broken.len(), 1, "one table of books");
    // SAFETY: descriptors of this process; the original is restored before anything drops it.
    let kept = unsafe { libc::fcntl(broken[0], libc::F_DUPFD_CLOEXEC, 100) };
    let null = std::fs::File::open("/dev/null").unwrap();
    // SAFETY: as above.
    unsafe { libc::dup2(std::os::fd::AsRawFd::as_raw_fd(&null), broken[0]) };
    send(&near, &far, 5);
    let stale = live.read().unwrap();
    let notices = live.notices();
    assert!(
        notices.len() == 1 && notices[0].contains("cannot read the counters of eth0"),
        "{notices:?}"
    );
    assert_eq!(
        (stale.interfaces[0].books, stale.interfaces[0].stale),
        (good.interfaces[0].books, true),
        "as they were"
    );
    assert_eq!(
        other.read().unwrap().interfaces[0].books.counted[0],
        counts(10, each),
        "the others continue"
    );
    live.read().unwrap();
    assert!(live.notices().is_empty(), "it is reported once");
    // SAFETY: as above.
    unsafe { libc::dup2(kept, broken[0]) };
    let again = live.read().unwrap();
    assert_eq!(
        (again.interfaces[0].books.counted[1], again.interfaces[0].stale),
        (counts(10, each), false),
        "nothing was lost"
    );
    let next = again.since(&stale);
    assert_eq!(
        (next.interfaces[0].books.counted[1], next.interfaces[0].span),
        (counts(5, each), again.at - good.at)
    );
    closed(&again);
}

#[test]
fn a_table_that_cannot_be_read_once_is_read_again() {
    alone("world::with_a_broken_table");
}

#[test]
fn tunnels_are_followed_as_they_come_and_go() {
    let g = Ground::bare();
    let mut live = {
        // There is only a default route yet.
        g.a.run("ip", "route add default dev eth0");
        Live::open(&[], Some(g.a.name()), &small(), Want::Best).unwrap()
    };
    let notices = live.notices();
    assert!(
        notices.len() == 1
            && notices[0].contains("no tunnel device")
            && notices[0].contains("eth0"),
        "{notices:?}"
    );
    // A port that is not a default port of VXLAN.
    for (space, own) in g.ends() {
        let peer = outer(3 - own);
        space.ip(&format!("link add t0 type vxlan id {VNI} dstport 5789 remote {peer} dev eth0\n"));
        address(space, "t0", 2, own, inner);
    }
    told(&mut live, "t0 in network namespace");
    let [near, far] = g.sockets(9);
    let each = send(&near, &far, 10);
    assert_eq!(inside(&live.read().unwrap()), counts(10, each));

    // An underlay that is not watched yet.
    g.a.netlink()
        .create("eth1", None, &NewLink::Veth { peer: "eth1", netns: Some(&g.b.0) })
        .unwrap();
    g.a.netlink().set_up("eth1").unwrap();
    g.a.ip("link add t1 type vxlan id 9 dstport 4789 remote 10.79.0.2 dev eth1\nlink set t1 up\n");
    told(&mut live, "eth1 in network namespace");
    assert_eq!(
        live.read().unwrap().interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(),
        ["eth0", "eth1"]
    );
    g.a.netlink().delete("t1").unwrap();
    let notices = told(&mut live, "is gone");
    assert!(notices.iter().any(|n| n.contains("tunnel device t1")), "{notices:?}");
}

#[test]
fn programs_that_run_before_ours_are_reported() {
    for want in wants() {
        let g = Ground::new();
        let Want::Only(kind) = want else { unreachable!() };
        let mut live = g.watch(&small(), want);
        // On clsact, the newest filter of a priority runs first; on tcx, the one that asks to.
        let rival = Rival::attach(&g.a, "eth0", Hook::Tx, kind, rival::NEXT);
        let notices = told(&mut live, "runs before tmon");
        assert!(notices.len() == 1 && notices[0].contains("egress"), "{notices:?}");
        let [near, far] = g.sockets(9);
        let each = send(&near, &far, 10);
        assert_eq!((inside(&live.read().unwrap()), rival.packets()), (counts(10, each), 10));
        // One that consumes packets hides them from us, and this is reported.
        let thief = Rival::attach(&g.b, "eth0", Hook::Rx, kind, rival::DROP);
        near.send(b"lost").unwrap();
        until("the thief's packet", || thief.packets() == 1);
        drop(rival);
        if kind == HookKind::Clsact {
            g.a.run("tc", "filter del dev eth0 egress prio 1 handle 1 bpf");
        }
        told(&mut live, "no program runs before tmon");
    }
}

#[test]
fn several_tmon_do_not_disturb_each_other() {
    for want in wants() {
        let g = Ground::new();
        let before = g.a.hooks("eth0");
        let mut both = [g.watch(&small(), want), g.watch(&small(), want)];
        let [near, far] = g.sockets(9);
        let each = send(&near, &far, 10);
        let since = std::time::Instant::now();
        until("programs looked after", || since.elapsed().as_millis() > 1200);
        for live in &mut both {
            live.follow();
            assert_eq!(
                (live.notices(), inside(&live.read().unwrap())),
                (vec![], counts(10, each)),
                "{want:?}"
            );
        }
        let [first, mut second] = both;
        drop(first);
        send(&near, &far, 5);
        assert_eq!(inside(&second.read().unwrap()), counts(15, each));
        drop(second);
        assert_eq!(g.a.hooks("eth0"), before, "{want:?}");
    }
}

#[test]
fn detaching_is_reported_and_undone() {
    let g = Ground::new();
    let mut live = g.watch(&small(), Want::Only(HookKind::Clsact));
    let [near, far] = g.sockets(9);
    let each = send(&near, &far, 4);
    // Somebody deletes the qdisc with everything on it.
    g.a.run("tc", "qdisc del dev eth0 clsact");
    let notices = told(&mut live, "is watched again");
    assert!(notices[0].contains("detached tmon's programs"), "{notices:?}");
    send(&near, &far, 6);
    assert_eq!(inside(&live.read().unwrap()), counts(10, each));
    drop(live);

    // The same by another program that replaces one of ours and is then nobody's leftover.
    let before = g.a.hooks("eth0");
    let mut live = g.watch(&small(), Want::Only(HookKind::Clsact));
    let rival = Rival::replace(&g.a, "eth0", Hook::Tx);
    told(&mut live, "is watched again");
    send(&near, &far, 10);
    assert_eq!((inside(&live.read().unwrap()), rival.packets()), (counts(10, each), 10));
    drop(live);
    for _ in 0..2 {
        assert_eq!(g.a.programs("eth0").len(), 1, "{}", g.a.hooks("eth0"));
        drop(g.watch(&small(), Want::Only(HookKind::Clsact)));
    }
    send(&near, &far, 1);
    assert_eq!(rival.packets(), 11, "{}", g.a.hooks("eth0"));
    g.a.run("tc", "filter del dev eth0 egress");
    g.a.run("tc", "qdisc del dev eth0 clsact");
    assert_eq!(g.a.hooks("eth0"), before);

    // The same on tcx: a link can be detached by anybody with the privilege.
    if wants().len() == 2 {
        let mut live = g.watch(&small(), Want::Only(HookKind::Tcx));
        send(&near, &far, 4);
        assert_eq!(detach_links(&g.a.tcx("eth0")), 2);
        told(&mut live, "is watched again");
        send(&near, &far, 6);
        assert_eq!(inside(&live.read().unwrap()), counts(10, each));
    }
}

/// A VXLAN datagram that a program sends itself, over lo.
fn over_loopback(space: &Space, packets: u64) {
    space.run("ip", "link set lo up");
    let socket = space.udp(([127, 0, 0, 1].into(), 0));
    let frame = vxlan(VNI, 0x0a00_0001, 0x0a00_0002);
    let datagram = &frame[14 + 20 + 8..];
    let sink = space.udp(([127, 0, 0, 1].into(), 4789));
    sink.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..packets {
        socket.send_to(datagram, "127.0.0.1:4789").unwrap();
        sink.recv(&mut [0; 2048]).unwrap();
    }
}

#[test]
fn a_packet_over_loopback_counts_once() {
    let space = Space::new("lo");
    let mut live =
        Live::open(&["lo".to_owned()], Some(space.name()), &small(), Want::Best).unwrap();
    let notices = live.notices();
    assert!(notices.iter().any(|n| n.contains("passes both hooks")), "{notices:?}");
    let before = live.read().unwrap();
    over_loopback(&space, 10);
    let now = live.read().unwrap();
    for interval in [now.total(), now.since(&before)] {
        let rows = interval.rows.merged();
        let c = rows[0].counters;
        assert_eq!(
            [c.rx(), c.tx(), c.fwd() + c.rev(), c.total()].map(|c| c.packets),
            [10; 4],
            "{rows:?}"
        );
        let counted = interval.interfaces[0].books.counted;
        assert_eq!([c.rx(), c.tx()], counted, "the books are by hook");
        let tally = Tally::of(&interval, &Scope::default());
        assert_eq!(tally.total, counted[1]);
        assert_eq!(Excerpt::new("tmon", &interval, &Filter::default()).total(), counted[1]);
    }
}

/// In a separate process: descriptors belong to the whole process.
#[test]
#[ignore = "run by interfaces_that_are_gone_keep_sums_and_nothing_else"]
fn with_many_that_come_and_go() {
    const PODS: u64 = 70;
    let g = Ground::bare();
    g.a.ip("link add pod type veth peer name peer\n");
    let mut live =
        Live::open(&["pod*".to_owned()], Some(g.a.name()), &small(), Want::Best).unwrap();
    let raw = g.a.raw();
    let mut before = live.read().unwrap();
    let mut most = 0;
    for n in 1..=PODS {
        let name = format!("pod{n}");
        g.a.ip(&format!(
            "link add {name} type veth peer name peer{n}\nlink set {name} up\nlink set peer{n} up\n"
        ));
        told(&mut live, &format!("{name} in network namespace"));
        // Sent again if the veth was not ready for it: each one passed our hook.
        let frame = vxlan(n as u32, 1, 2);
        let sent = inject(&raw, g.a.link(&name).index, &frame);
        most = most.max(descriptors().len());
        g.a.netlink().delete(&name).unwrap();
        told(&mut live, &format!("{name} in network namespace"));
        until("it is gone", || {
            live.read().unwrap().interfaces.iter().filter(|i| i.hook != HookKind::Off).count() == 1
        });
        let now = live.read().unwrap();
        let between = now.since(&before);
        let rows = between.rows.merged();
        assert_eq!(
            rows.iter()
                .map(|f| (f.key.outermost.id, f.counters.total().packets))
                .collect::<Vec<_>>(),
            [(Some(n as u32), sent)],
            "counts that were moved are not reported again"
        );
        let counted: u64 = between.interfaces.iter().map(|i| i.books.counted[1].packets).sum();
        assert_eq!(counted, sent);
        closed(&now);
        before = now;
    }
    assert!(before.interfaces.len() < PODS as usize, "{} entries", before.interfaces.len());
    assert_eq!(before.rows.merged().len(), PODS as usize, "every tunnel has its sum");
    let start = descriptors().len();
    assert!(most <= start + 32, "{most} descriptors at most, {start} now");
    assert!(!live.notices().iter().any(|n| n.contains("cannot")));
}

#[test]
fn interfaces_that_are_gone_keep_sums_and_nothing_else() {
    alone("world::with_many_that_come_and_go");
}

/// Runs a test in a separate process.
fn alone(test: &str) {
    let out = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", test, "--nocapture"])
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn a_device_that_moved_to_another_namespace_is_decoded() {
    let g = Ground::bare();
    let away = [Space::new("p"), Space::new("q")];
    let mut live = g.watch(&small(), Want::Best);
    for ((space, own), away) in g.ends().into_iter().zip(&away) {
        let peer = outer(3 - own);
        space.ip(&format!("link add t0 type vxlan id {VNI} dstport 7789 remote {peer} dev eth0\n"));
        space.netlink().move_to("t0", &away.0).unwrap();
        address(away, "t0", 2, own, inner);
    }
    let [near, far] = [1, 2].map(|own| {
        let socket = away[usize::from(own) - 1].udp((inner(own), 9));
        socket.connect((inner(3 - own), 9)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    // It came after the start, so it is found at the next look.
    let mut each = 0;
    until("its port is known", || {
        each = send(&near, &far, 1);
        !inside(&live.read().unwrap()).packets.eq(&0)
    });
    let before = inside(&live.read().unwrap());
    send(&near, &far, 10);
    assert_eq!(inside(&live.read().unwrap()), before + counts(10, each));
    // At startup it is known at once, and its underlay is the one to watch.
    let mut second = Live::open(&[], Some(g.a.name()), &small(), Want::Best).unwrap();
    send(&far, &near, 10);
    let s = second.read().unwrap();
    assert_eq!((s.interfaces[0].name.as_str(), inside(&s)), ("eth0", counts(10, each)));
}

#[test]
fn a_namespace_is_named_by_path_or_by_process_too() {
    let g = Ground::new();
    let spawn = || std::process::Command::new("sleep").arg("1000").spawn();
    let mut process = g.a.0.within(spawn).unwrap().unwrap();
    let spaces = [format!("/run/netns/{}", g.a.name()), format!("pid:{}", process.id())];
    let [near, far] = g.sockets(9);
    for space in &spaces {
        let mut live = Live::open(&[format!("{space}/eth0")], None, &small(), Want::Best).unwrap();
        let each = send(&near, &far, 3);
        let s = live.read().unwrap();
        assert_eq!(inside(&s), counts(3, each), "{space}");
        assert_eq!(s.interfaces[0].netns.as_deref(), Some(space.as_str()));
        assert!(Live::open(&["eth0".to_owned()], Some(space), &small(), Want::Best).is_ok());
    }
    // Even after giving up privileges, which are needed for looking at a process.
    let args = ["dump", "--netns", &spaces[1], "eth0", "--for", "2s", "--json"];
    let out = std::process::Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).output().unwrap();
    let (read, said) = [&out.stdout, &out.stderr].map(|b| String::from_utf8_lossy(b)).into();
    assert!(out.status.success() && said.is_empty(), "{said}");
    assert!(read.contains(&format!("\"netns\":\"{}\"", spaces[1])), "{read}");
    // A namespace identified by a process exists for as long as the process.
    let mut live =
        Live::open(&[format!("{}/eth0", spaces[1])], None, &small(), Want::Best).unwrap();
    process.kill().unwrap();
    process.wait().unwrap();
    told(&mut live, "is gone");
}

#[test]
fn an_alternative_name_is_a_name() {
    let g = Ground::bare();
    let name = "underlay-of-rack-17-port-0003";
    g.a.run("ip", &format!("link property add dev eth0 altname {name}"));
    assert_eq!(g.a.link(name).name, "eth0");
    assert_eq!(g.a.link("eth0").altnames, [name]);
    for asked in [name, "underlay-of-*"] {
        let mut live =
            Live::open(&[asked.to_owned()], Some(g.a.name()), &small(), Want::Best).unwrap();
        assert_eq!(live.read().unwrap().interfaces[0].name, "eth0");
    }
    assert!(g.a.netlink().link(&"x".repeat(200)).unwrap().is_none());
}

#[test]
fn descriptors_do_not_run_out_first() {
    let g = Ground::bare();
    for n in 0..4 {
        g.a.ip(&format!("link add d{n} type veth peer name e{n}\n"));
    }
    let dump = |limit: &str| {
        let tmon = env!("CARGO_BIN_EXE_tmon");
        let args = format!("dump --netns {} 'd*' --rows 64 --for 0s --json", g.a.name());
        std::process::Command::new("sh")
            .args(["-c", &format!("ulimit {limit}; exec {tmon} {args}")])
            .output()
            .unwrap()
    };
    let out = dump("-Sn 48");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let out = dump("-n 160");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("4 interfaces match"), "{said}");
    assert!(said.contains("raise `ulimit -n`") && said.lines().count() == 1, "{said}");
    let out = dump("-v 524288");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!out.status.success() && said.contains("allows only 0: raise it"), "{said}");
    assert!(said.lines().count() == 1, "{said}");
    let out = dump("-v 1048576");
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}
