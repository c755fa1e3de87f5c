// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon attach`, `status`, `detach`: counting without a process, on both hooks. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use ground::{
    Ground, Space, VNI, closed, inject, own_bpffs,
    rival::{NEXT, Rival},
    send, small, told, until, wants,
};
use model::{
    flow::{Count, Hook, HookKind, Kind},
    snapshot::Snapshot,
};
use serde_json::Value;
use testkit::{frames::pkt, ground};
use tmon::kernel::{
    attach::Want,
    bpf::{Config, LAYOUT},
    live::Live,
    netns::{Netns, NetnsHandle},
    pin::{BPFFS, Pins},
};

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn done(args: &[&str]) -> String {
    let out = tmon(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn fails(args: &[&str]) -> String {
    let out = tmon(args);
    assert_eq!(out.status.code(), Some(1), "{args:?}: {}", String::from_utf8_lossy(&out.stdout));
    let text = String::from_utf8(out.stderr).unwrap();
    assert_eq!(text.lines().count(), 1, "one line: {text}");
    text
}

fn hook(want: Want) -> &'static str {
    if want == Want::Only(HookKind::Clsact) { "clsact" } else { "tcx" }
}

/// The entry of an interface of a namespace in `tmon status --json`; null if there is none.
fn status(netns: &str) -> Value {
    let all: Value = serde_json::from_str(&done(&["status", "--json"])).unwrap();
    all["attached"]
        .as_array()
        .unwrap()
        .iter()
        .find(|a| a["netns"] == netns)
        .cloned()
        .unwrap_or(Value::Null)
}

/// The pin folder of a test bed's first interface.
fn folder(g: &Ground) -> PathBuf {
    let cookie = NetnsHandle::open(Some(g.a.name())).unwrap().cookie().unwrap();
    Path::new(BPFFS).join(format!("tmon/v{LAYOUT}/{cookie}-{}-eth0", g.a.link("eth0").index))
}

/// A test bed with nothing attached.
fn ground() -> Ground {
    let g = Ground::new(); // first: it also makes the place of those names one that all share
    own_bpffs();
    g
}

fn vxlan(live: &mut Live) -> Count {
    let s = live.read().unwrap();
    closed(&s);
    s.rows.iter().filter(|f| f.key.outermost.kind == Kind::Vxlan).map(|f| f.counters.total()).sum()
}

fn open(g: &Ground) -> Live {
    Live::open(&["eth0".to_owned()], Some(g.a.name()), &small(), Want::Best).unwrap()
}

#[test]
fn the_kernel_counts_without_a_process() {
    for want in wants() {
        let g = ground();
        let netns = g.a.name();
        let before = g.a.hooks("eth0");
        let [a, b] = g.sockets(7000);

        // An already running reader is not disturbed and does not disturb.
        let mut early = Live::open(&["eth0".to_owned()], Some(netns), &small(), want).unwrap();
        let said =
            done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--hook", hook(want)]);
        assert!(said.contains(hook(want)) && said.contains("without a running process"), "{said}");
        assert!(done(&["attach", &format!("{netns}/eth0")]).contains("already"), "twice is fine");

        let weight = send(&a, &b, 10);
        let s = status(netns);
        assert_eq!(
            (s["state"].as_str(), s["hook"].as_str(), &s["seen_pkts"]),
            (Some("counting"), Some(hook(want)), &Value::from(10))
        );
        assert_eq!(
            (s["layout"].as_u64(), s["tool"].as_str().unwrap().starts_with("tmon ")),
            (Some(u64::from(LAYOUT)), true)
        );
        assert_eq!(vxlan(&mut early), Count { packets: 10, bytes: 10 * weight });
        drop(early);
        send(&a, &b, 5);

        // Two readers join and see totals since attach, including what was counted before they
        // came.
        let (mut one, mut two) = (open(&g), open(&g));
        assert!(one.is_attached() && two.is_attached());
        send(&b, &a, 1);
        for reader in [&mut one, &mut two] {
            assert_eq!(vxlan(reader), Count { packets: 16, bytes: 16 * weight });
        }
        drop(one);
        send(&a, &b, 4);
        assert_eq!(vxlan(&mut two).packets, 20);
        drop(two);
        send(&a, &b, 1);

        let dump: Value =
            serde_json::from_str(&done(&["dump", "eth0", "--netns", netns, "--json"])).unwrap();
        let interface = &dump["interfaces"][0];
        assert_eq!(
            (&interface["counted"]["tx_pkts"], interface["hook"].as_str()),
            (&Value::from(20), Some(hook(want)))
        );
        assert!(interface["attached"].is_string());
        assert_eq!(dump["flows"][0]["tx_bytes"], Value::from(20 * weight));
        // What happens from now on, on request.
        let now: Value = serde_json::from_str(&done(&[
            "dump", "eth0", "--netns", netns, "--json", "--for", "10ms",
        ]))
        .unwrap();
        assert_eq!(
            (&now["flows"].as_array().unwrap().len(), &now["interfaces"][0]["seen"]["tx_pkts"]),
            (&0, &Value::from(0))
        );

        // Nothing is left, even if one is still reading, which then continues by itself.
        let mut reader = open(&g);
        assert!(done(&["detach", &format!("{netns}/eth0")]).contains("eth0 is detached"));
        assert_eq!(status(netns), Value::Null);
        assert!(!folder(&g).exists());
        assert!(
            told(&mut reader, "is watched again")
                .iter()
                .any(|n| n.contains("detached tmon's programs"))
        );
        send(&a, &b, 2);
        assert_eq!(vxlan(&mut reader).packets, 23);
        drop(reader);
        until("the hooks to be as they were", || g.a.hooks("eth0") == before);
    }
}

/// Any reader ages rows for all of them; no count is lost or reported twice.
#[test]
fn readers_let_rows_age_for_each_other() {
    let g = ground();
    let netns = g.a.name();
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--age", "100ms"]);
    let [a, b] = g.sockets(7000);
    let weight = send(&a, &b, 10);
    let (mut keeps, mut ages) = (open(&g), open(&g));
    let named = |s: &Snapshot| {
        s.rows.iter().any(|f| f.key.outermost.kind == Kind::Vxlan && !f.key.is_aged())
    };
    let before = keeps.read().unwrap();
    assert!(named(&before));
    until("the idle row to go", || !named(&ages.read().unwrap()));
    let after = keeps.read().unwrap();
    assert!(!named(&after), "the other reader sees the same table");
    assert_eq!(vxlan(&mut keeps), Count { packets: 10, bytes: 10 * weight });
    assert!(after.since(&before).rows.is_empty(), "nothing happened in between");
    let older = ages.read().unwrap();
    send(&a, &b, 1);
    let interval = ages.read().unwrap().since(&older);
    assert_eq!(interval.rows.merged().iter().map(|f| f.counters.total().packets).sum::<u64>(), 1);
}

/// The attachment determines how long rows are kept, whatever a reader would do with its own
/// tables.
#[test]
fn readers_follow_the_age_of_the_attachment() {
    let g = ground();
    let netns = g.a.name();
    let [a, b] = g.sockets(7000);
    let named =
        |live: &mut Live| live.read().unwrap().rows.iter().filter(|f| !f.key.is_aged()).count();
    for (attached, asked, words) in [("0s", 100, "--age 0s"), ("100ms", 0, "--age 100ms")] {
        done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--age", attached]);
        let config = Config { age: Duration::from_millis(asked), ..small() };
        let mut live = Live::open(&["eth0".to_owned()], Some(netns), &config, Want::Best).unwrap();
        let notices = live.notices();
        assert!(notices.iter().any(|n| n.contains(words)), "{notices:?}");
        send(&a, &b, 3);
        assert!(named(&mut live) > 0);
        let begin = Instant::now();
        if attached == "0s" {
            // Several times as long as an age of 100 ms takes to show.
            while begin.elapsed() < Duration::from_secs(3) {
                assert!(named(&mut live) > 0, "kept for ever");
                std::thread::sleep(Duration::from_millis(50));
            }
        } else {
            until("the row to age", || named(&mut live) == 0);
        }
        drop(live);
        done(&["detach", "eth0", "--netns", netns]);
    }
}

fn nobody(script: &str) -> Output {
    Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-ec", script])
        .output()
        .unwrap()
}

/// In a folder where everybody may create folders, nobody can make root remove anything, or hold
/// its pins.
#[test]
fn folders_of_others_are_refused_and_untouched() {
    let g = ground();
    let netns = g.a.name();
    let before = g.a.hooks("eth0");
    let victim = tempfile::tempdir().unwrap();
    fs::write(victim.path().join("precious"), "").unwrap();
    fs::write(victim.path().join("rows4"), "").unwrap();
    let here = folder(&g);
    let out = nobody(&format!(
        "mkdir -p {}; ln -s {} {}",
        here.parent().unwrap().display(),
        victim.path().display(),
        here.display()
    ));
    assert!(out.status.success(), "{out:?}");
    for args in [
        &["attach", "eth0", "--netns", netns][..],
        &["detach", "eth0", "--netns", netns],
        &["detach", "--all"],
        &["status"],
    ] {
        let e = fails(args);
        assert!(e.contains("/tmon belongs to user 65534"), "{args:?}: {e}");
    }
    let out = tmon(&["dump", "eth0", "--netns", netns, "--for", "10ms", "--rows", "1024"]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("belongs to user 65534"), "{said}");
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 2);
    assert!(here.symlink_metadata().unwrap().is_symlink(), "it is not ours");
    assert_eq!(g.a.hooks("eth0"), before);

    // Below a folder of root's, a link is refused as well; and so is a folder that others may write
    // to.
    fs::rename(Path::new(BPFFS).join("tmon"), Path::new(BPFFS).join("theirs")).unwrap();
    fs::create_dir_all(here.parent().unwrap()).unwrap();
    std::os::unix::fs::symlink(victim.path(), &here).unwrap();
    let e = fails(&["attach", "eth0", "--netns", netns]);
    assert!(e.contains("is a symbolic link"), "{e}");
    assert_eq!(fs::read_dir(victim.path()).unwrap().count(), 2);
    fs::remove_file(&here).unwrap();
    fs::set_permissions(here.parent().unwrap(), fs::Permissions::from_mode(0o777)).unwrap();
    let e = fails(&["attach", "eth0", "--netns", netns]);
    assert!(e.contains("is writable by others") && e.contains("chmod"), "{e}");
    fs::set_permissions(here.parent().unwrap(), fs::Permissions::from_mode(0o755)).unwrap();

    // Our own folders are closed to others, even if an older version left them open.
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    for path in here.ancestors().take(3) {
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o700, "{path:?}");
    }
    assert!(!nobody(&format!("flock -n {} true", here.display())).status.success());
    done(&["detach", "eth0", "--netns", netns]);
    assert!(!here.exists());
}

/// Objects that tmon did not pin are neither removed nor in the way.
#[test]
fn foreign_pins_stay_and_do_no_harm() {
    let g = ground();
    let netns = g.a.name();
    let before = g.a.hooks("eth0");
    let here = folder(&g);
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    fs::create_dir(here.join("mine")).unwrap();
    let e = fails(&["detach", "eth0", "--netns", netns]);
    assert!(e.contains("did not create mine in it"), "{e}");
    assert_eq!(g.a.hooks("eth0"), before, "it is detached all the same");
    assert_eq!(fs::read_dir(&here).unwrap().count(), 1);
    // A failing attach removes what it created, and nothing else.
    fs::create_dir(here.join("about")).unwrap();
    fails(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    assert_eq!(fs::read_dir(&here).unwrap().count(), 2);
    assert_eq!(g.a.hooks("eth0"), before);
    fs::remove_dir(here.join("about")).unwrap();
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    assert_eq!(status(netns)["state"], "counting");
    fails(&["detach", "eth0", "--netns", netns]);
    fs::remove_dir(here.join("mine")).unwrap();
    done(&["detach", "--all"]);
    assert!(!here.exists());
}

/// Whoever holds a lock, readers continue to read exactly, and name the holder; other commands give
/// up.
#[test]
fn a_lock_that_is_never_released_stops_nobody() {
    let g = ground();
    let netns = g.a.name();
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--age", "100ms"]);
    let [a, b] = g.sockets(7000);
    let weight = send(&a, &b, 10);
    let flock = |path: &Path| {
        use nix::fcntl::{Flock, FlockArg};
        Flock::lock(fs::File::open(path).unwrap(), FlockArg::LockExclusive).unwrap()
    };
    let who = format!("PID {} (", std::process::id());
    let held = flock(&folder(&g));
    let out = tmon(&["dump", "eth0", "--netns", netns, "--json"]);
    let dump: Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(dump["flows"][0]["tx_bytes"], Value::from(10 * weight));
    let mut live = open(&g);
    assert_eq!(vxlan(&mut live), Count { packets: 10, bytes: 10 * weight });
    let quickest = (0..20).map(|_| {
        let begin = Instant::now();
        assert!(!live.read().unwrap().interfaces[0].stale);
        begin.elapsed()
    });
    let quickest = quickest.min().unwrap();
    assert!(quickest < Duration::from_millis(100), "waited each time: {quickest:?}");
    let said = live.notices();
    assert_eq!(said.iter().filter(|n| n.contains(&who)).count(), 1, "{said:?}");
    drop(held);
    until("rows to age again", || live.read().unwrap().rows.iter().all(|f| f.key.is_aged()));
    assert_eq!(vxlan(&mut live), Count { packets: 10, bytes: 10 * weight });

    let _held = flock(&Path::new(BPFFS).join("tmon"));
    let e = fails(&["detach", "eth0", "--netns", netns]);
    assert!(e.contains(&who) && e.contains("has held the lock"), "{e}");
}

/// While rows age and another process holds the lock all the time, a reading has every packet once,
/// and none is reported as stale.
#[test]
fn readings_without_the_lock_are_exact_while_rows_age() {
    use nix::fcntl::{Flock, FlockArg};
    let g = ground();
    done(&["attach", "eth0", "--netns", g.a.name(), "--rows", "4096", "--age", "1h"]);
    let (raw, ifindex) = (g.a.raw(), g.a.link("eth0").index);
    let place = NetnsHandle::open(Some(g.a.name())).unwrap();
    let pin = Pins::at(Path::new(BPFFS)).of(&place, ifindex).unwrap().remove(0);
    let ager = pin.program().unwrap();
    let mut reader = open(&g);
    let held = fs::File::open(folder(&g)).unwrap();
    let _held = Flock::lock(held, FlockArg::LockExclusive).unwrap();
    let named = |s: &Snapshot| s.rows.iter().filter(|f| !f.key.is_aged()).count();
    let (mut between, mut last, mut sent) = (0, None::<Snapshot>, 0);
    for round in 0..500u32 {
        // As often as necessary: on a busy machine the ager may be done before anybody reads.
        if round >= 8 && between > 0 {
            break;
        }
        for pair in 0..3000u32 {
            let frame = ground::vxlan(1 + pair % 3, round << 16 | pair, !pair);
            sent += inject(&raw, ifindex, &frame);
        }
        let all = named(&reader.read().unwrap());
        let aged = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                until("all rows to have aged", || {
                    ager.age(Duration::ZERO).unwrap();
                    ager.rows(0, &mut model::rows::Rows::default()).unwrap().used == 0
                });
                aged.store(true, Ordering::Relaxed);
            });
            while !aged.load(Ordering::Relaxed) {
                let s = reader.read().unwrap();
                assert!(!s.interfaces[0].stale);
                closed(&s);
                let books = s.interfaces[0].books;
                assert_eq!(books.counted[1].packets, sent, "round {round}");
                between += u32::from((1..all).contains(&named(&s)));
                // Nothing was sent in between: rows only moved to their aged row.
                if let Some(last) = last.as_ref().filter(|l| l.interfaces[0].books == books) {
                    let i = s.since(last);
                    let more: u64 = i.rows.iter().map(|f| f.counters.total().packets).sum();
                    assert_eq!(more, 0, "round {round}: {:?}", i.rows.merged());
                }
                last = Some(s);
            }
        });
    }
    assert!(between > 0, "no reading was made while rows aged");
}

/// Counting ends with a mount namespace that only this command has.
#[test]
fn a_mount_namespace_that_ends_is_reported() {
    let g = ground();
    let out = tmon(&["attach", "eth0", "--netns", g.a.name(), "--rows", "1024"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    let line = said.lines().filter(|l| l.contains("mount namespace is not that of PID 1")).count();
    assert_eq!(line, 1, "{said}");
    // Like `ip netns exec` does: the advice contains the name.
    let args = ["attach", "eth0", "--bpffs", "/tmp"];
    let inside = g.a.try_run(env!("CARGO_BIN_EXE_tmon"), &args).unwrap_err();
    assert!(inside.contains(&format!("`tmon attach IFACE --netns {}`", g.a.name())), "{inside}");
}

/// Programs that run before an attachment are named by all commands that report on it, whoever came
/// first.
#[test]
fn programs_that_run_before_an_attachment_are_named() {
    let wants = wants();
    if wants.len() < 2 {
        return; // a kernel without tcx, where rivals are filters
    }
    for (want, kind) in wants.into_iter().zip([HookKind::Tcx, HookKind::Clsact]) {
        let g = ground();
        let netns = g.a.name();
        let other = Rival::attach(&g.a, "eth0", Hook::Tx, kind, NEXT);
        done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--hook", hook(want)]);
        let check = || done(&["check", "eth0", "--netns", netns]);
        let dump = || {
            let out = tmon(&["dump", "eth0", "--netns", netns]);
            String::from_utf8(out.stderr).unwrap()
        };
        if kind == HookKind::Tcx {
            assert_eq!(status(netns)["before"], serde_json::json!([]));
            assert!(check().contains("tcx egress runs after tmon's"), "{}", check());
            assert!(!dump().contains("runs before"), "{}", dump());
        }
        drop(other);
        let before = Rival::attach(&g.a, "eth0", Hook::Rx, HookKind::Tcx, NEXT);
        let said = status(netns)["before"].to_string();
        assert!(said.contains("on tcx ingress"), "{said}");
        assert!(done(&["status"]).contains("runs before tmon; packets that it drops"));
        let said = check();
        assert!(said.contains("on tcx ingress runs before tmon's"), "{said}");
        assert!(!said.contains("ingress runs after"), "{said}");
        let said = dump();
        assert!(said.contains("on tcx ingress runs before tmon"), "{said}");
        drop(before);
        assert_eq!(status(netns)["before"], serde_json::json!([]));
        done(&["detach", "eth0", "--netns", netns]);
    }
}

/// Devices created after `attach`: readers teach the tables their ports, except those set by
/// `--port`. A reader that may not write the tables still reads, with programs of its own.
#[test]
fn a_reader_teaches_the_tables_new_ports() {
    let g = Ground::bare();
    own_bpffs();
    let netns = g.a.name();
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--port", "none=7788"]);
    let mut reader = open(&g);
    assert!(reader.is_attached());

    g.tunnel_at("t0", VNI, 7777);
    let [a, b] = g.sockets(7000);
    let weight = send(&a, &b, 1);
    let mut sent = 1;
    until("packets of the new device in rows", || {
        sent += 1;
        send(&a, &b, 1);
        vxlan(&mut reader).packets > 0
    });
    // Packets sent before that are in no row; from then on all are, even when nobody reads.
    let before = vxlan(&mut reader).packets;
    drop(reader);
    send(&a, &b, 5);
    let after = Count { packets: before + 5, bytes: (before + 5) * weight };
    assert_eq!(vxlan(&mut open(&g)), after);

    // Nobody reads when it is created: the next reader reports it. A port that was removed stays
    // removed.
    for (port, more) in [(7788, 0), (7799, 3)] {
        for (space, _) in g.ends() {
            space.ip("link del t0");
        }
        g.tunnel_at("t0", VNI, port);
        let [a, b] = g.sockets(port + 1000);
        send(&a, &b, 3);
        let mut reader = open(&g);
        assert_eq!(vxlan(&mut reader), after, "{port}: not known yet");
        send(&a, &b, 3);
        assert_eq!(vxlan(&mut reader).packets, after.packets + more, "{port}");
    }

    fs::set_permissions(folder(&g).join("ports"), fs::Permissions::from_mode(0o400)).unwrap();
    let out = Command::new("setpriv")
        .args(["--bounding-set=-all,+bpf,+perfmon,+net_admin,+sys_admin", "--inh-caps=-all"])
        .args([
            env!("CARGO_BIN_EXE_tmon"),
            "dump",
            "eth0",
            "--netns",
            netns,
            "--rows",
            "1024",
            "--for",
            "10ms",
        ])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(
        out.status.success()
            && said.contains("ports")
            && said.contains("watching eth0 from now on"),
        "{said}"
    );
}

#[test]
fn a_killed_reader_changes_nothing() {
    for want in wants() {
        let g = ground();
        let netns = g.a.name();
        let [a, b] = g.sockets(7000);
        done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--hook", hook(want)]);
        let hooks = g.a.hooks("eth0");
        let mut top = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(["dump", "eth0", "--netns", netns, "--watch", "10ms", "--json"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines =
            std::io::BufRead::lines(std::io::BufReader::new(top.stdout.take().unwrap()));
        lines.next().unwrap().unwrap();
        send(&a, &b, 3);
        top.kill().unwrap();
        top.wait().unwrap();
        assert_eq!(g.a.hooks("eth0"), hooks);
        send(&a, &b, 3);
        assert_eq!(vxlan(&mut open(&g)).packets, 6);
    }
}

#[test]
fn another_layout_is_reported_and_never_read() {
    let g = ground();
    let netns = g.a.name();
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    // As if an older tmon had created it.
    let (here, old) = (folder(&g), Path::new(BPFFS).join("tmon/v0"));
    let there = old.join(here.file_name().unwrap());
    fs::create_dir_all(&old).unwrap();
    fs::rename(&here, &there).unwrap();

    let s = status(netns);
    assert_eq!(
        (s["state"].as_str(), s["layout"].as_u64(), &s["seen_pkts"]),
        (Some("other-layout"), Some(0), &Value::Null)
    );
    let e = fails(&["attach", "eth0", "--netns", netns]);
    assert!(
        e.contains("another version") && e.contains(&format!("`tmon detach eth0 --netns {netns}`")),
        "{e}"
    );
    // Watching continues with programs of its own, and says why.
    let mut live = open(&g);
    assert!(!live.is_attached());
    assert!(
        live.notices()
            .iter()
            .any(|n| n.contains("another version") && n.contains("tmon detach eth0"))
    );
    let [a, b] = g.sockets(7000);
    send(&a, &b, 2);
    assert_eq!(vxlan(&mut live).packets, 2);
    drop(live);
    done(&["detach", "eth0", "--netns", netns]);
    assert!(!there.exists() && g.a.tcx("eth0").is_empty());
}

#[test]
fn leftovers_of_a_killed_attach_do_not_block() {
    let g = ground();
    let netns = g.a.name();
    done(&["attach", "eth0", "--netns", netns, "--rows", "1024"]);
    fs::remove_file(folder(&g).join("about")).unwrap();
    assert_eq!(status(netns)["state"], "unfinished");
    assert!(!open(&g).is_attached());
    assert!(done(&["attach", "eth0", "--netns", netns, "--rows", "1024"]).contains("is attached"));
    assert_eq!(status(netns)["state"], "counting");
    let programs = g.a.tcx("eth0").len();
    assert!(programs <= 2, "leftovers are gone: {programs}");
}

#[test]
fn an_interface_that_goes_leaves_nothing() {
    for want in wants() {
        let g = ground();
        let netns = g.a.name();
        let [a, b] = g.sockets(7000);
        done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--hook", hook(want)]);
        send(&a, &b, 3);
        let place = folder(&g);
        let index = g.a.link("eth0").index;
        g.a.ip("link del eth0");
        let s = status(netns);
        assert_eq!(
            (s["state"].as_str(), &s["seen_pkts"]),
            (Some("off"), &Value::from(3)),
            "the counts can be read"
        );
        // Another interface of the same index is not mistaken for it.
        g.a.ip(&format!("link add eth0 index {index} type bridge"));
        assert_eq!(status(netns)["state"], "off");
        assert!(!open(&g).is_attached());
        done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--hook", hook(want)]);
        assert_eq!(
            (status(netns)["state"].as_str(), &status(netns)["seen_pkts"]),
            (Some("counting"), &Value::from(0))
        );
        done(&["detach", "eth0", "--netns", netns]);
        assert!(!place.exists());
        assert_eq!(status(netns), Value::Null);
    }
}

/// The namespace is deleted, and another one with its name created: both can be distinguished and
/// cleared.
#[test]
fn a_deleted_namespace_keeps_its_counts() {
    let g = ground();
    let netns = g.a.name().to_owned();
    let on = |args: &[&str]| {
        [args, &["--netns", &netns]].concat().iter().map(|s| (*s).to_owned()).collect::<Vec<_>>()
    };
    let done = |args: &[&str]| done(&on(args).iter().map(String::as_str).collect::<Vec<_>>());
    let state = || tmon(&["status"]).stdout;
    done(&["attach", "eth0", "--rows", "1024"]);
    let Ground { a, b } = g;
    drop(a);
    until("the pair to be gone", || b.netlink().link("eth0").unwrap().is_none());
    let text = String::from_utf8(state()).unwrap();
    assert!(
        text.contains(&format!("`tmon detach eth0 --netns {netns}` removes the rest")),
        "{text}"
    );
    let again = Netns::create(&netns).unwrap();
    let text = String::from_utf8(state()).unwrap();
    assert!(
        text.contains(&format!("`tmon detach eth0 --netns {netns}` removes the rest")),
        "{text}"
    );
    assert!(done(&["detach", "eth0"]).contains("eth0 is detached"));
    assert!(String::from_utf8(state()).unwrap().contains("nothing is attached"));
    tmon::kernel::netns::delete(again.name()).unwrap();
    let gone = on(&["attach", "eth0"]);
    assert!(
        fails(&gone.iter().map(String::as_str).collect::<Vec<_>>())
            .contains("there is no network namespace")
    );
}

/// A user who may watch but not enter network namespaces sees what is known, and nothing false.
#[test]
fn state_is_unknown_without_permission() {
    for want in wants() {
        let g = ground();
        done(&["attach", "eth0", "--netns", g.a.name(), "--rows", "1024", "--hook", hook(want)]);
        let out = Command::new("setpriv")
            .args(["--bounding-set=-all,+bpf,+perfmon,+net_admin", "--inh-caps=-all"])
            .args([env!("CARGO_BIN_EXE_tmon"), "status", "--json"])
            .output()
            .unwrap();
        let report: Value =
            serde_json::from_slice(&out.stdout).unwrap_or_else(|e| panic!("{e}: {out:?}"));
        let one = &report["attached"][0];
        // A link reveals it; filters are in the namespace.
        let linked = hook(want) == "tcx";
        assert_eq!(one["state"].as_str(), linked.then_some("counting"), "{one}");
        assert_eq!(
            one["trouble"].as_str().is_some_and(|t| t.contains("may not be entered")),
            !linked,
            "{one}"
        );
        assert_eq!(one["advice"], Value::Null);
        done(&["detach", "eth0", "--netns", g.a.name()]);
    }
}

#[test]
fn odd_names_and_a_renamed_interface() {
    let g = ground();
    let netns = g.a.name();
    g.a.ip("link add ä.2e-b~ type bridge\nlink set ä.2e-b~ up");
    done(&["attach", "ä.2e-b~", "--netns", netns, "--rows", "1024"]);
    assert_eq!(
        (status(netns)["interface"].as_str(), status(netns)["state"].as_str()),
        (Some("ä.2e-b~"), Some("counting"))
    );
    g.a.ip("link set ä.2e-b~ down\nlink set ä.2e-b~ name new\nlink set new up");
    assert!(
        Live::open(&["new".to_owned()], Some(netns), &small(), Want::Best).unwrap().is_attached()
    );
    assert!(fails(&["detach", "eth0", "--netns", netns]).contains("eth0 is not attached"));
    done(&["detach", "new", "--netns", netns]);
    assert_eq!(status(netns), Value::Null);
}

/// All entries of `tmon status --json`: name, namespace, state, and the name when it was attached
/// if that differs.
fn entries() -> Vec<[String; 4]> {
    let all: Value = serde_json::from_str(&done(&["status", "--json"])).unwrap();
    let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
    all["attached"]
        .as_array()
        .unwrap()
        .iter()
        .map(|a| [&a["interface"], &a["netns"], &a["state"], &a["was"]["interface"]].map(text))
        .collect()
}

/// An interface is renamed, and another one takes its name: each is known by its present name.
#[test]
fn a_name_stands_for_the_interface_that_has_it_now() {
    for want in wants() {
        let g = ground();
        let netns = g.a.name();
        let on = |command, name| done(&[command, name, "--netns", netns]);
        let attach = |name| {
            done(&["attach", name, "--netns", netns, "--rows", "1024", "--hook", hook(want)])
        };
        g.a.ip("link add w0 type bridge");
        attach("w0");
        g.a.ip("link set w0 name w9");
        let entry = |name: &str, was: &str| [name, netns, "counting", was].map(str::to_owned);
        assert_eq!(entries(), [entry("w9", "w0")]);
        assert!(done(&["status"]).contains("w9 (was w0)"), "{}", done(&["status"]));

        g.a.ip("link add w0 type bridge");
        let bare = g.a.hooks("w0");
        assert!(fails(&["detach", "w0", "--netns", netns]).contains("w0 is not attached"));
        attach("w0");
        assert_eq!(entries(), [entry("w9", "w0"), entry("w0", "")]);
        assert_eq!(on("detach", "w0"), "w0 is detached\n");
        assert_eq!(g.a.hooks("w0"), bare);
        assert_eq!(entries(), [entry("w9", "w0")], "the other one stays attached");

        // The old name works if no other interface has it.
        g.a.ip("link del w0");
        assert_eq!(on("detach", "w0"), "w9 is detached\n");
        assert!(entries().is_empty());

        // Two interfaces had that name, so it is ambiguous.
        for now in ["w7", "w8"] {
            g.a.ip("link add w0 type bridge");
            attach("w0");
            g.a.ip(&format!("link set w0 name {now}"));
        }
        let e = fails(&["detach", "w0", "--netns", netns]);
        assert!(e.contains("w0 is what 2 interfaces were called"), "{e}");
        assert_eq!(entries().len(), 2);
        done(&["detach", "--all"]);
    }
}

/// An interface is moved to another namespace, as container runtimes do. Its links move with it,
/// and every command finds them there; filters do not move. Another interface then gets its index
/// and its name.
/// A reader that sees an attached interface leave and come back continues, and counts nothing
/// twice: neither in totals nor in the interval in which it came back.
#[test]
fn an_attached_interface_that_comes_back_counts_nothing_twice() {
    for want in wants().into_iter().filter(|want| hook(*want) == "tcx") {
        let g = ground();
        let (there, netns) = (Space::new("c"), g.a.name());
        let inside = pkt().eth().ip("10.9.0.1 > 10.9.0.2").udp(1, 2).data(40);
        let frame = pkt().eth().ip("10.77.0.1 > 10.77.0.2").udp(50_000, 4789);
        let frame = frame.vxlan(VNI).then(inside).bytes();
        let send = |packets: u64| {
            let (raw, index) = (g.a.raw(), g.a.link("eth0").index);
            for _ in 0..packets {
                inject(&raw, index, &frame);
            }
        };
        done(&["attach", "eth0", "--netns", netns, "--rows", "1024", "--hook", hook(want)]);
        send(10);
        let mut reader = open(&g);
        assert_eq!(vxlan(&mut reader).packets, 10);
        let mut before = reader.read().unwrap();
        for (count, sum) in [(7, 17), (5, 22)] {
            g.a.ip(&format!("link set eth0 netns {}", there.name()));
            told(&mut reader, "is gone");
            there.ip(&format!("link set eth0 netns {netns}"));
            told(&mut reader, "counting continues");
            g.a.ip("link set eth0 up");
            send(count);
            let after = reader.read().unwrap();
            closed(&after);
            let happened = after.since(&before);
            let total: Count = happened.rows.iter().map(|f| f.counters.total()).sum();
            let books = happened.interfaces[0].books.counted;
            assert_eq!((total.packets, books[0].packets + books[1].packets), (count, count));
            assert_eq!(vxlan(&mut reader).packets, sum);
            before = after;
        }
        let mut another = open(&g);
        assert_eq!(vxlan(&mut another), vxlan(&mut reader));
    }
}

#[test]
fn an_interface_that_is_moved_is_found_where_it_is() {
    for want in wants() {
        let g = ground();
        let there = Space::new("c");
        let (from, to) = (g.a.name(), there.name());
        let attach = || {
            g.a.ip("link add w0 type veth peer name w1");
            done(&["attach", "w0", "--netns", from, "--rows", "1024", "--hook", hook(want)]);
            g.a.link("w0").index
        };
        let index = attach();
        g.a.ip(&format!("link set w0 name w9\nlink set w9 netns {to}"));
        if hook(want) == "clsact" {
            assert_eq!(entries(), [["w0", from, "off", ""].map(str::to_owned)]);
            let text = done(&["status"]);
            assert!(text.contains(&format!("not in network namespace {from} any more")), "{text}");
            assert_eq!(done(&["detach", "w0", "--netns", from]), "w0 is detached\n");
            continue;
        }
        let moved = [["w9", to, "counting", "w0"].map(str::to_owned)];
        assert_eq!(entries(), moved);
        let text = done(&["status"]);
        let line = format!("attached as w0 in network namespace {from} and moved to network");
        assert!(text.contains(&line) && text.contains(to), "{text}");
        let live = |name: &str, netns| {
            Live::open(&[name.to_owned()], Some(netns), &small(), Want::Best).unwrap()
        };
        assert!(live("w9", to).is_attached());
        assert!(done(&["attach", "w9", "--netns", to]).contains("already attached"));
        let text = done(&["check", "w9", "--netns", to]);
        assert!(text.contains("by `tmon attach`"), "{text}");

        // The interface that has its name and index now is a different one.
        g.a.ip(&format!("link add w0 index {index} type bridge"));
        assert!(!live("w0", from).is_attached());
        let e = fails(&["detach", "w0", "--netns", from]);
        assert!(e.contains("w0 is not attached"), "{e}");
        let e = fails(&["attach", "w0", "--netns", from]);
        assert!(e.contains(&format!("`tmon detach w9 --netns {to}`")), "{e}");
        assert_eq!(entries(), moved);
        assert_eq!(done(&["detach", "w9", "--netns", to]), "w9 is detached\n");
        assert!(there.tcx("w9").is_empty() && entries().is_empty());
        g.a.ip("link del w0");
        there.ip("link del w9");

        // A move to a namespace without a name: it is known by its old name if nothing else has
        // that.
        attach();
        g.a.ip(&format!("link set w0 netns {to}"));
        tmon::kernel::netns::delete(to).unwrap();
        let all: Value = serde_json::from_str(&done(&["status", "--json"])).unwrap();
        let one = &all["attached"][0];
        assert_eq!((one["moved"].as_bool(), &one["was"]), (Some(true), &Value::Null), "{one}");
        assert_eq!((one["state"].as_str(), one["netns"].as_str()), (Some("counting"), Some(from)));
        let text = done(&["status"]);
        assert!(text.contains(&format!("not in network namespace {from} any more")), "{text}");
        assert_eq!(done(&["detach", "w0", "--netns", from]), "w0 is detached\n");
        assert!(there.tcx("w0").is_empty() && entries().is_empty());
    }
}

#[test]
fn detach_all_detaches_everything() {
    let g = ground();
    assert!(done(&["detach", "--all"]).contains("nothing was attached"));
    let before = [g.a.hooks("eth0"), g.a.hooks("t0"), g.b.hooks("eth0")];
    let out = tmon(&["attach", "eth0", "t[0-9]", "--netns", g.a.name(), "--rows", "1024"]);
    assert!(out.status.success(), "{out:?}");
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("t0 sees packets that eth0 also sees"),
        "{out:?}"
    );
    // With no interface named: the underlay of its tunnel, and the tunnel's port.
    done(&["attach", "--netns", g.b.name(), "--rows", "1024"]);
    let text = done(&["status"]);
    assert_eq!(text.lines().filter(|l| l.contains("counting")).count(), 3, "{text}");
    assert_eq!(done(&["detach", "--all"]).lines().count(), 3);
    assert_eq!([g.a.hooks("eth0"), g.a.hooks("t0"), g.b.hooks("eth0")], before);
    assert_eq!(
        fs::read_dir(BPFFS).unwrap().filter(|e| e.as_ref().unwrap().file_name() == "tmon").count(),
        0
    );
    assert!(done(&["status"]).contains("nothing is attached"));
}

#[test]
fn concurrent_attaches_are_one() {
    let g = ground();
    let args = ["attach", "eth0", "--netns", g.a.name(), "--rows", "1024"];
    let start = || {
        Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).stdout(Stdio::piped()).spawn().unwrap()
    };
    let all: Vec<_> = (0..4).map(|_| start()).collect();
    let said: Vec<String> = all
        .into_iter()
        .map(|c| String::from_utf8(c.wait_with_output().unwrap().stdout).unwrap())
        .collect();
    assert_eq!(said.iter().filter(|s| s.contains("already")).count(), 3, "{said:?}");
    assert_eq!(said.iter().filter(|s| s.contains("is attached (")).count(), 1, "{said:?}");
}

#[test]
fn no_bpffs_no_interface() {
    own_bpffs();
    let dir = tempfile::tempdir().unwrap();
    for command in [&["attach", "lo"][..], &["detach", "lo"]] {
        let e = fails(&[command, &["--bpffs", dir.path().to_str().unwrap()]].concat());
        assert!(e.contains("no bpffs is mounted") && e.contains("mount -t bpf"), "{e}");
    }
    assert!(fails(&["attach", "no-such-one"]).contains("there is no interface no-such-one"));
    assert!(fails(&["attach", "x*?z"]).contains("no interface matches x*?z"));
    assert_eq!(tmon(&["detach"]).status.code(), Some(2));
    assert_eq!(tmon(&["detach", "lo", "--all"]).status.code(), Some(2));
}

/// The kernel's measurement, if it is enabled; a test does not enable it for everybody.
#[test]
fn the_cost_is_shown_or_how_to_measure_it() {
    let g = ground();
    done(&["attach", "eth0", "--netns", g.a.name(), "--rows", "1024"]);
    let [a, b] = g.sockets(7000);
    send(&a, &b, 3);
    let on =
        fs::read_to_string("/proc/sys/kernel/bpf_stats_enabled").is_ok_and(|s| s.trim() == "1");
    assert_eq!(status(g.a.name())["cost_ns"].as_f64().is_some_and(|ns| ns > 0.0), on);
    let pins = Pins::at(Path::new(BPFFS));
    let place = NetnsHandle::open(Some(g.a.name())).unwrap();
    let (_, _, about) = pins.join(&place, g.a.link("eth0").index).unwrap().unwrap();
    assert_eq!(about.config, small());
    assert_eq!(about.differs(&small(), Want::Best), None);
}

/// Readers and attach commands with other flags report which ones are in force, for every flag.
#[test]
fn flags_that_differ_from_the_attachments_are_reported() {
    let g = ground();
    let netns = g.a.name();
    let attached = ["--rows", "1024", "--tpid", "0x9200", "--l2tpv3", "cookie=4"];
    let here = ["eth0", "--netns", netns];
    fn words<'a>(command: &'a str, here: &[&'a str], flags: &[&'a str]) -> Vec<&'a str> {
        [&[command], here, flags].concat()
    }
    done(&words("attach", &here, &attached));
    let kind = status(netns)["hook"].as_str().unwrap().to_owned();
    for (flags, holds) in [
        (&["--tpid", "0x9300"][..], "--tpid 0x9200"),
        (&["--l2tpv3", "cookie=8"], "--l2tpv3 cookie=4,sublayer=0"),
        (&["--port", "vxlan=7777"], "without --port"),
        (&["--rows", "128"], "--rows 1024"),
        (&["--age", "1s"], "--age 10m"),
        (&["--plain"], "without --plain"),
        (&["--skb"], "without --skb"),
        (&["--hook", if kind == "tcx" { "clsact" } else { "tcx" }], &format!("--hook {kind}")),
    ] {
        let out = tmon(&words("dump", &here, flags));
        let said = String::from_utf8(out.stderr).unwrap();
        let line = format!("eth0 keeps the options given to `tmon attach`: {holds}\n");
        assert!(out.status.success() && said.contains(&line), "{flags:?}: {said}");
        let said = done(&words("attach", &here, flags));
        assert!(said.contains("already") && said.contains(holds), "{flags:?}: {said}");
    }
    // The same flags, or none, are not a difference.
    for flags in [&[][..], &attached] {
        let out = tmon(&words("dump", &here, flags));
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{flags:?}");
        assert!(
            !done(&words("attach", &here, flags))
                .contains("keeps the options it was attached with"),
            "{flags:?}"
        );
    }
}

/// A program's output may be lost: its work is done to the end all the same.
#[test]
fn work_does_not_depend_on_lost_output() {
    let g = ground();
    let netns = g.a.name();
    g.a.ip("link add d1 type veth peer e1\nlink add d2 type veth peer e2");
    let before: Vec<_> = ["eth0", "d1", "d2"].map(|name| g.a.hooks(name)).into();
    let full = || Stdio::from(fs::File::options().write(true).open("/dev/full").unwrap());
    // Nobody reads, the disk is full, it is closed; the exit status only reflects lost output.
    for (what, code) in [("a closed pipe", 0), ("a full disk", 1), ("nothing", 0)] {
        for deaf in [false, true] {
            let run = |command: &str| {
                let mut sh = Command::new("sh");
                let closed = if what == "nothing" { ">&-" } else { "" };
                sh.args(["-c", &format!("exec {} {command} {closed}", env!("CARGO_BIN_EXE_tmon"))]);
                sh.stdout(match what {
                    "a closed pipe" => Stdio::from(std::io::pipe().unwrap().1),
                    _ => full(),
                });
                sh.stderr(if deaf { full() } else { Stdio::piped() });
                let out = sh.spawn().unwrap().wait_with_output().unwrap();
                let said = String::from_utf8_lossy(&out.stderr);
                assert_eq!(out.status.code(), Some(code), "{what}, {deaf}: {command}: {said}");
            };
            run(&format!("attach eth0 d1 d2 --netns {netns} --rows 64"));
            let all: Value = serde_json::from_str(&done(&["status", "--json"])).unwrap();
            let states: Vec<_> =
                all["attached"].as_array().unwrap().iter().map(|a| &a["state"]).collect();
            assert_eq!(states, ["counting"; 3], "{what}, {deaf}");
            run("status");
            run("detach --all");
            let after: Vec<_> = ["eth0", "d1", "d2"].map(|name| g.a.hooks(name)).into();
            assert_eq!(after, before, "{what}, {deaf}");
            assert_eq!(done(&["status"]), "nothing is attached\n");
        }
    }
}
