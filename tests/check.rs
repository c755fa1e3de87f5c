// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon check` and `tmon tunnels` on interfaces made for it. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]

use std::process::{Command, Output};

use ground::{
    Ground,
    rival::{NEXT, Rival},
};
use model::flow::{Hook, HookKind};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use serde_json::Value;
use testkit::ground;
use tmon::kernel::pin::BPFFS;

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).output().unwrap()
}

fn json(args: &[&str]) -> Value {
    let out = tmon(args);
    serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|e| panic!("{args:?}: {e}: {}", String::from_utf8_lossy(&out.stderr)))
}

/// (about, status, what) of an interface; of the host for null.
fn lines(report: &Value, interface: Option<&str>) -> Vec<(String, String, String)> {
    let of = |v: &Value, key: &str| v[key].as_str().unwrap_or_default().to_owned();
    let checks = report["checks"].as_array().unwrap().iter();
    checks
        .filter(|c| c["interface"].as_str() == interface)
        .map(|c| (of(c, "about"), of(c, "status"), of(c, "what")))
        .collect()
}

fn has(lines: &[(String, String, String)], about: &str, status: &str, what: &str) -> bool {
    lines.iter().any(|l| l.0 == about && l.1 == status && l.2.contains(what))
}

#[test]
fn this_host_passes() {
    let g = Ground::new();
    g.a.ip("link set t0 mtu 1450");
    let report = json(&["check", "--netns", g.a.name(), "--json"]);
    let host = lines(&report, None);
    for about in ["kernel", "privileges", "load", "clsact"] {
        assert!(has(&host, about, "ok", ""), "{about}: {host:?}");
    }
    for (about, status, what) in &host {
        assert!(status != "fail", "{about}: {what}");
    }
    // The underlay of the tunnel, found.
    let eth0 = lines(&report, Some("eth0"));
    assert!(
        has(&eth0, "mtu", "ok", "t0 (vxlan, MTU 1450) and 50 bytes of headers in 1500: 0 to spare"),
        "{eth0:?}"
    );
    assert!(has(&eth0, "others", "ok", "no other programs"), "{eth0:?}");
    assert_eq!(report["schema"], 1);
    assert_eq!(tmon(&["check", "--netns", g.a.name()]).status.code(), Some(0));
}

#[test]
fn obstacles_are_reported() {
    let g = Ground::new();
    g.a.ip("link set t0 mtu 1500\nlink set eth0 mtu 1400");
    let _rival = Rival::attach(&g.a, "eth0", Hook::Rx, HookKind::Clsact, NEXT);
    let report = json(&["check", "eth*", "--netns", g.a.name(), "--json"]);
    let eth0 = lines(&report, Some("eth0"));
    assert!(has(&eth0, "mtu", "warn", "full-sized packets do not fit"), "{eth0:?}");
    let tcx = has(&lines(&report, None), "tcx", "ok", "links");
    let (status, what) =
        if tcx { ("ok", "runs after tmon's tcx") } else { ("warn", "runs before tmon's") };
    assert!(has(&eth0, "clsact", status, what), "{eth0:?}");
    let text = String::from_utf8(tmon(&["check", "eth0", "--netns", g.a.name()]).stdout).unwrap();
    assert!(text.contains("try: `ip link set t0 mtu 1350`"), "{text}");
    g.a.ip("link set eth0 down");
    assert!(has(
        &lines(&json(&["check", "eth0", "--netns", g.a.name(), "--json"]), Some("eth0")),
        "link",
        "warn",
        "down"
    ));
}

#[test]
fn mismatches_are_reported_without_a_packet() {
    let g = Ground::new();
    let (one, two) = (ground::outer(1), ground::outer(2));
    let told = || {
        let report = json(&["check", "eth0", "--netns", g.a.name(), "--json"]);
        let warns = |name: &str| {
            let all = lines(&report, Some(name)).into_iter().filter(|l| l.1 == "warn");
            all.map(|l| (l.0, l.2)).collect::<Vec<_>>()
        };
        ["t0", "t1"].map(warns).concat()
    };
    let says = |about: &str, what: &str| {
        let all = told();
        assert!(all.iter().any(|l| l.0 == about && l.1.contains(what)), "{about}: {all:?}");
    };
    g.a.ip("link set t0 mtu 1450");
    assert_eq!(told(), [], "all is well");
    // The route's MTU is smaller than its interface's.
    g.a.ip(&format!("route add {two}/32 dev eth0 mtu 1300"));
    says(
        "mtu",
        &format!("full-sized packets take 1500 bytes, but the route to {two} by eth0 has 1300"),
    );
    g.a.ip(&format!("route del {two}/32 dev eth0"));
    // An entry that leads back to this host.
    g.a.run("bridge", &format!("fdb add 02:00:00:00:00:07 dev t0 dst {one} self permanent"));
    says("fdb", &format!("a forwarding entry leads to {one}, an address of this host itself"));
    g.a.run("bridge", &format!("fdb del 02:00:00:00:00:07 dev t0 dst {one} self"));
    assert_eq!(told(), []);
    // The same id twice.
    let vni = ground::VNI;
    g.a.ip(&format!(
        "link add t1 mtu 1450 type vxlan id {vni} remote {two} dev eth0 dstport 8472\nlink set t1 up"
    ));
    says("id", &format!("(port 8472) both have id {vni}"));
    says("port", "it sends to port 8472");
    g.a.ip("link del t1");
    // Another port, and another id, at the other end.
    let anew = |id: u32, port: u16| {
        g.b.ip(&format!(
            "link del t0\nlink add t0 type vxlan id {id} remote {one} dev eth0 dstport {port}\nlink set t0 up"
        ));
    };
    anew(vni, 8472);
    let words =
        format!("of {two} in network namespace {}, but t0 there listens on 8472", g.b.name());
    says("port", &words);
    anew(vni + 1, 4789);
    says("id", &format!("its id is {vni}, but no device at {two}"));
    anew(vni, 4789);
    assert_eq!(told(), []);
    // Over IPv6, checksums may be omitted only if both ends agree.
    for (space, _) in g.ends() {
        space.set("net/ipv6/conf/all/disable_ipv6", "0");
        space.set("net/ipv6/conf/eth0/disable_ipv6", "0");
    }
    g.a.ip("addr add fd00::1/64 dev eth0 nodad");
    g.b.ip("addr add fd00::2/64 dev eth0 nodad");
    g.a.ip("link add t1 mtu 1400 type vxlan id 77 remote fd00::2 dev eth0 dstport 4790 udp6zerocsumtx\nlink set t1 up");
    g.b.ip("link add t1 mtu 1400 type vxlan id 77 remote fd00::1 dev eth0 dstport 4790 udp6zerocsumtx\nlink set t1 up");
    says("checksum", "it sends without UDP checksums, but the endpoint at fd00::2");
    says("checksum", "does not accept such packets itself");
}

#[test]
fn without_privileges_it_fails_and_names_them() {
    let g = Ground::bare();
    // As nobody, in the same namespaces.
    let out = Command::new("setpriv")
        .args([
            "--bounding-set=-all",
            "--inh-caps=-all",
            env!("CARGO_BIN_EXE_tmon"),
            "check",
            "lo",
            "--json",
        ])
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    let host = lines(&serde_json::from_slice(&out.stdout).unwrap(), None);
    assert!(
        has(&host, "privileges", "fail", "CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN missing"),
        "{host:?}"
    );
    assert!(has(&host, "load", "fail", "not allowed"), "{host:?}");
    drop(g);
}

/// All capabilities, but in a user namespace: rootless containers, unprivileged LXC.
#[test]
fn in_a_user_namespace_capabilities_do_not_count() {
    let (_dir, program) = copy();
    let nobody = |what: &[&str]| {
        Command::new("setpriv")
            .args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "unshare", "-Urn"])
            .arg(&program)
            .args(what)
            .output()
            .unwrap()
    };
    let host =
        lines(&serde_json::from_slice(&nobody(&["check", "lo", "--json"]).stdout).unwrap(), None);
    assert!(has(&host, "privileges", "fail", "in a user namespace"), "{host:?}");
    assert!(has(&host, "load", "fail", "this is a user namespace"), "{host:?}");
    let out = nobody(&["dump", "lo", "--for", "10ms"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains("user namespace") && said.lines().count() == 1, "{said}");
    // The bpffs belongs to root, who has no mapping in this namespace: nothing to remove.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/sys", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), Some("mode=0755")).unwrap();
    let report = nobody(&["check", "lo", "--json"]).stdout;
    let host = lines(&serde_json::from_slice(&report).unwrap(), None);
    assert!(has(&host, "bpffs", "warn", "a user unknown in this user namespace"), "{host:?}");
    for command in ["attach lo", "detach --all", "status"] {
        let out = nobody(&command.split(' ').collect::<Vec<_>>());
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.contains("run tmon outside of it") && !said.contains("65534"), "{said}");
    }
}

/// A copy of the program that everybody can run.
fn copy() -> (tempfile::TempDir, std::path::PathBuf) {
    use std::{fs, os::unix::fs::PermissionsExt};
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("tmon");
    fs::copy(env!("CARGO_BIN_EXE_tmon"), &path).unwrap();
    (dir, path)
}

/// A container's filter that refuses bpf(2) is reported, whatever the capabilities are.
#[test]
#[allow(unsafe_code)]
fn a_system_call_filter_is_reported() {
    use std::os::unix::process::CommandExt;

    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
    let filter = |call: i64| -> BpfProgram {
        let rules = [(call, Vec::new())].into();
        let deny = SeccompAction::Errno(libc::EPERM as u32);
        let arch = std::env::consts::ARCH.try_into().unwrap();
        SeccompFilter::new(rules, SeccompAction::Allow, deny, arch).unwrap().try_into().unwrap()
    };
    let check = |call: i64| {
        let filter = filter(call);
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["check", "lo", "--json"]);
        // SAFETY: two system calls.
        unsafe {
            command.pre_exec(move || apply_filter(&filter).map_err(std::io::Error::other));
        }
        lines(&serde_json::from_slice(&command.output().unwrap().stdout).unwrap(), None)
    };
    let host = check(libc::SYS_bpf);
    assert!(has(&host, "seccomp", "fail", "bpf(2) is refused"), "{host:?}");
    assert!(has(&host, "load", "fail", ""), "{host:?}");
    let host = check(libc::SYS_kexec_load);
    assert!(has(&host, "seccomp", "ok", "allows bpf(2)"), "{host:?}");
    assert!(has(&host, "load", "ok", ""), "{host:?}");
}

/// CAP_SYS_ADMIN alone is what kernels before 5.8 required; it still suffices, with tcx.
#[test]
fn one_capability_suffices() {
    let (_dir, program) = copy();
    let g = Ground::bare();
    let run = |what: &[&str]| {
        let set = "-all,+sys_admin";
        let mut args = vec!["--reuid", "65534", "--regid", "65534", "--clear-groups"];
        args.extend(["--inh-caps", set, "--ambient-caps", set]);
        let mut command = Command::new("setpriv");
        command.args(args).arg(&program).args(what);
        g.a.0.within(|| command.output()).unwrap().unwrap()
    };
    let out = run(&["check", "lo", "--json"]);
    let host = lines(&serde_json::from_slice(&out.stdout).unwrap(), None);
    assert!(has(&host, "privileges", "ok", "CAP_SYS_ADMIN, which is enough"), "{host:?}");
    let tcx = has(&host, "tcx", "ok", "links");
    let dumped = run(&["dump", "lo", "--for", "10ms", "--rows", "64"]);
    assert_eq!(dumped.status.success(), tcx, "{dumped:?}");
    assert_eq!(out.status.success(), tcx, "{host:?}");
}

#[test]
fn wrong_names() {
    let out = tmon(&["check", "no-such-one"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).contains("there is no interface no-such-one"));
    assert_eq!(tmon(&["check", "--netns", "no-such-one"]).status.code(), Some(1));
}

#[test]
fn tunnels_and_their_surroundings() {
    let g = Ground::new();
    g.a.ip("link add br0 type bridge\nlink set t0 master br0\nlink add ext type vxlan external dstport 4799\nlink set ext up");
    // Not every kernel has these.
    let vrf = g.a.try_run("ip", &["link", "add", "red", "type", "vrf", "table", "10"]).is_ok();
    if vrf {
        g.a.ip("link set br0 master red");
    }
    let report = json(&["tunnels", "--netns", g.a.name(), "--json"]);
    let of = |name: &str| {
        report["tunnels"].as_array().unwrap().iter().find(|t| t["name"] == name).cloned().unwrap()
    };
    let t0 = of("t0");
    assert_eq!(
        (&t0["kind"], &t0["id"], &t0["port"], &t0["external"]),
        (&"vxlan".into(), &7700.into(), &4789.into(), &false.into())
    );
    assert_eq!((&t0["local"], &t0["remote"]), (&"10.77.0.1".into(), &"10.77.0.2".into()));
    assert_eq!(
        (&t0["underlay"], &t0["underlay_mtu"], &t0["bridge"], &t0["vrf"]),
        (
            &"eth0".into(),
            &1500.into(),
            &"br0".into(),
            &if vrf { "red".into() } else { Value::Null }
        )
    );
    let ext = of("ext");
    assert_eq!(
        (&ext["id"], &ext["port"], &ext["external"], &ext["remote"]),
        (&Value::Null, &4799.into(), &true.into(), &Value::Null)
    );
    let text = String::from_utf8(tmon(&["tunnels", "--all-netns"]).stdout).unwrap();
    assert!(
        text.lines()
            .any(|l| l.starts_with("t0 ") && l.contains(g.b.name()) && l.contains("10.77.0.2")),
        "{text}"
    );
}

/// Two interfaces that see the same packets: each shows its rows, totals hold every packet once.
#[test]
fn totals_never_count_a_packet_twice() {
    use ground::{send, small, until};
    use model::{
        filter::Filter,
        matrix::{Scope, Tally},
    };
    use tmon::kernel::{attach::Want, live::Live};

    let g = Ground::bare();
    // A bridge between tunnel and underlay, so that two interfaces see its outer headers.
    for (space, own) in g.ends() {
        space.ip("link add br0 type bridge mcast_snooping 0\nlink set eth0 master br0\naddr flush dev eth0");
        ground::address(space, "br0", 1, own, ground::outer);
    }
    g.tunnel("t0", ground::VNI);
    let [a, b] = g.sockets(7000);
    let mut live = Live::open(
        &["eth?", "br*", "t0"].map(str::to_owned),
        Some(g.a.name()),
        &small(),
        Want::Best,
    )
    .unwrap();
    let said = live.notices().join("\n");
    assert!(
        said.contains("br0 in network namespace") && said.contains("left out of totals"),
        "{said}"
    );
    send(&a, &b, 10);
    let s = live.read().unwrap();
    let mut by: Vec<_> = s
        .interfaces
        .iter()
        .map(|i| (i.name.as_str(), i.counted_on.as_deref(), i.books.counted[1].packets))
        .collect();
    by.sort_unstable();
    assert_eq!(by, [("br0", Some("eth0"), 10), ("eth0", None, 10), ("t0", Some("br0"), 0)]);
    let total = |filter: &str| {
        let scope = Scope { filter: filter.parse::<Filter>().unwrap(), ..Scope::default() };
        Tally::of(&s.total(), &scope).total.packets
    };
    assert_eq!(
        (total(""), total("kind:vxlan"), total("iface:br0"), total("iface:eth0,br0")),
        (10, 10, 10, 20)
    );

    // This holds from the moment that there are two, and no longer.
    g.a.ip("link set eth0 nomaster");
    until("the bridge to count for itself", || {
        live.read().unwrap().interfaces.iter().all(|i| i.name != "br0" || i.counted_on.is_none())
    });
}

/// A machine between two others: what it bridges or routes is on both of its interfaces, but is one
/// packet.
#[test]
fn forwarded_packets_are_counted_once() {
    use ground::{Space, address, outer, send, small};
    use model::{
        filter::Filter,
        matrix::{Scope, Tally},
    };
    use tmon::kernel::{attach::Want, live::Live, netlink::NewLink};

    for routed in [false, true] {
        // The other end of a veth is moved to a machine in between.
        let (g, middle) = (Ground::bare(), Space::new("m"));
        for ((space, own), port) in g.ends().into_iter().zip(["p1", "p2"]) {
            if own == 1 {
                space.netlink().delete("eth0").unwrap();
            }
            space
                .netlink()
                .create("eth0", None, &NewLink::Veth { peer: port, netns: Some(&middle.0) })
                .unwrap();
            middle.netlink().set_up(port).unwrap();
            if routed {
                // Each believes that the other is on its link, and reaches the machine's link-layer
                // address.
                let mac = [2, 0, 0, 0, 9, own];
                middle.netlink().set_mac(port, mac).unwrap();
                address(space, "eth0", 1, own, outer);
                space.ip(&format!(
                    "neigh replace {} lladdr 02:00:00:00:09:0{own} dev eth0",
                    outer(3 - own)
                ));
                middle.ip(&format!(
                    "route add {}/32 dev {port}\nneigh add {} lladdr 02:00:00:00:01:0{own} dev {port}",
                    outer(own),
                    outer(own)
                ));
            } else {
                address(space, "eth0", 1, own, outer);
            }
        }
        match routed {
            true => middle.set("net/ipv4/ip_forward", "1"),
            false => {
                middle.ip("link add br0 type bridge mcast_snooping 0\nlink set p1 master br0\nlink set p2 master br0\nlink set br0 up")
            }
        }
        g.tunnel("t0", ground::VNI);
        let [a, b] = g.sockets(7000);
        middle.settle();
        let mut live =
            Live::open(&["p?".to_owned()], Some(middle.name()), &small(), Want::Best).unwrap();
        let said = live.notices().join("\n");
        assert_eq!(
            said.contains(
                "packets that br0 forwards between p1, p2 appear on each of them and count once in totals"
            ),
            !routed,
            "{said}"
        );
        send(&a, &b, 10);
        send(&b, &a, 3);
        let s = live.read().unwrap();
        let books: Vec<_> =
            s.interfaces.iter().map(|i| i.books.counted.map(|c| c.packets)).collect();
        assert_eq!(books, [[10, 3], [3, 10]], "each saw all of them");
        let total = |filter: &str| {
            let scope = Scope { filter: filter.parse::<Filter>().unwrap(), ..Scope::default() };
            Tally::of(&s.total(), &scope).total.packets
        };
        assert_eq!(
            (total(""), total("iface:p1"), total("iface:p1,p2")),
            (13, 13, 26),
            "routed: {routed}"
        );
    }
}

/// Devices as created by Open vSwitch and Cilium: id and other end come with each packet, and so
/// does the underlay. Found at startup and when they are created; by their port, which no other
/// device uses.
#[test]
fn devices_in_metadata_mode_are_found() {
    use ground::{address, inner, mac, outer, send, small, told};
    use tmon::kernel::{attach::Want, live::Live};

    let g = Ground::bare();
    for (space, _) in g.ends() {
        space.run("ip", "route add default dev eth0");
    }
    let mut first = Live::open(&[], Some(g.a.name()), &small(), Want::Best).unwrap();
    assert!(first.notices()[0].contains("no tunnel device found"));
    let mut tried = 0;
    for (name, device, kind) in [
        ("vxlan_sys_5789", "vxlan external dstport 5789 nolearning", "vxlan"),
        ("genev_sys_5790", "geneve external dstport 5790", "geneve"),
    ] {
        // Not every kernel has both; in the machines of `make test-kernels` a missing one is a
        // failure.
        let makes = g.a.try_run(
            "ip",
            &[&["link", "add", name, "type"][..], &device.split(' ').collect::<Vec<_>>()].concat(),
        );
        if kind == "geneve" && std::env::var_os("TMON_TUNNELS").is_none() && makes.is_err() {
            continue;
        }
        makes.unwrap();
        g.b.run("ip", &format!("link add {name} type {device}"));
        for (space, own) in g.ends() {
            address(space, name, 2, own, inner);
            let (there, by) = (inner(3 - own), outer(3 - own));
            space.run(
                "ip",
                &format!("route add {there}/32 encap ip id {} dst {by} dev {name}", ground::VNI),
            );
            space.ip(&format!(
                "neigh replace {there} lladdr {} dev {name}",
                mac(2, 3 - own).map(|b| format!("{b:02x}")).join(":")
            ));
        }
        // One that existed before, and one that came later.
        assert!(
            told(&mut first, &format!("tunnel device {name}"))
                .iter()
                .any(|n| n.contains(&format!("is new: {kind}, port 57")))
        );
        let mut second = Live::open(&[], Some(g.a.name()), &small(), Want::Best).unwrap();
        assert!(
            second
                .notices()
                .iter()
                .any(|n| n.contains("sends each packet by its own route: watching eth0"))
        );
        let older = first.read().unwrap();
        let [a, b] = g.sockets(7000 + tried);
        send(&a, &b, 10);
        for s in [first.read().unwrap().since(&older), second.read().unwrap().total()] {
            let rows: Vec<_> = s.rows.merged();
            assert_eq!(
                rows.iter()
                    .map(|f| (
                        f.key.outermost.kind.to_string(),
                        f.key.outermost.id,
                        f.counters.tx().packets
                    ))
                    .collect::<Vec<_>>(),
                [(kind.to_owned(), Some(ground::VNI), 10)]
            );
        }
        let text = String::from_utf8(tmon(&["tunnels", "--netns", g.a.name()]).stdout).unwrap();
        assert!(
            text.lines().any(|l| l.starts_with(name)
                && l.matches("each packet").count() == 2
                && l.contains("by route")),
            "{text}"
        );
        let eth0 = lines(&json(&["check", "--netns", g.a.name(), "--json"]), Some("eth0"));
        assert!(
            has(
                &eth0,
                "mtu",
                "ok",
                &format!(
                    "{name} ({kind}) adds 50 bytes of headers: packets sent through eth0 have 1450 of 1500"
                )
            ),
            "{eth0:?}"
        );
        for (space, _) in g.ends() {
            space.run("ip", &format!("link del {name}"));
        }
        assert!(
            told(&mut first, &format!("tunnel device {name}"))
                .iter()
                .any(|n| n.contains("is gone"))
        );
        tried += 1;
    }
}
