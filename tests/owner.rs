// SPDX-License-Identifier: MIT OR Apache-2.0
//! Several tmon on one interface, killed, racing and impersonated: each is distinguished from the
//! others, and what one leaves the next one removes. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]

use std::{
    fs,
    io::{BufRead, BufReader, Read},
    os::{
        linux::net::SocketAddrExt,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use ground::{Ground, address, outer, small, until, wants};
use model::flow::HookKind;
use serde_json::Value;
use testkit::ground;
use tmon::kernel::{
    attach::{Attachment, Want},
    bpf::Program,
    live::Live,
    netlink::NewLink,
    netns::NetnsHandle,
};

const CLSACT: Want = Want::Only(HookKind::Clsact);

fn watch(g: &Ground, want: Want) -> Live {
    Live::open(&["eth0".to_owned()], Some(g.a.name()), &small(), want).unwrap()
}

/// A reader in a separate process: the process, the lines that it prints, and all its errors.
fn reader(g: &Ground, want: Want) -> (Child, mpsc::Receiver<String>, thread::JoinHandle<String>) {
    let hook = if want == CLSACT { "clsact" } else { "tcx" };
    let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["dump", "eth0", "--netns", g.a.name(), "--rows", "1024", "--hook", hook])
        .args(["--watch", "500ms", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, lines) = mpsc::channel();
    let out = child.stdout.take().unwrap();
    thread::spawn(move || {
        for line in BufReader::new(out).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    });
    let mut err = child.stderr.take().unwrap();
    let said = thread::spawn(move || {
        let mut text = String::new();
        err.read_to_string(&mut text).unwrap();
        text
    });
    (child, lines, said)
}

/// The files of living and of interrupted owners on the first interface.
fn signs(g: &Ground) -> Vec<PathBuf> {
    let cookie = NetnsHandle::open(Some(g.a.name())).unwrap().cookie().unwrap();
    let start = format!("{cookie}-{}-", g.a.link("eth0").index);
    let all = fs::read_dir("/run/tmon").unwrap().map(|e| e.unwrap());
    all.filter(|e| e.file_name().to_string_lossy().starts_with(&start)).map(|e| e.path()).collect()
}

/// Readers come and go on one hook, all at once: none of them is refused, none leaves anything.
#[test]
fn starting_while_others_end_is_not_an_error() {
    for want in wants() {
        let g = Ground::bare();
        let (before, ifindex) = (g.a.hooks("eth0"), g.a.link("eth0").index);
        let place = NetnsHandle::open(Some(g.a.name())).unwrap();
        thread::scope(|scope| {
            for _ in 0..4 {
                let place = &place;
                scope.spawn(move || {
                    // A place of its own: they must run at the same time.
                    let place = NetnsHandle::open(place.name()).unwrap();
                    let program = Program::load(&small()).unwrap();
                    for round in 0..100 {
                        let made = Attachment::new(&program, ifindex, &place, want);
                        drop(made.unwrap_or_else(|e| panic!("{want:?} {round}: {e:#}")));
                    }
                });
            }
        });
        assert_eq!(g.a.hooks("eth0"), before, "{want:?}");
        assert!(signs(&g).is_empty());
    }
}

/// A stranger who takes names neither locks tmon out nor preserves what a killed one left.
#[test]
fn a_stranger_cannot_pretend_to_be_an_owner() {
    let g = Ground::bare();
    let before = g.a.hooks("eth0");
    let (mut child, lines, _said) = reader(&g, CLSACT);
    lines.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(g.a.programs("eth0").len(), 2, "a kill leaves filters");
    let index = g.a.link("eth0").index;
    let taken: Vec<_> = (0..256)
        .map(|n| {
            let name = SocketAddr::from_abstract_name(format!("tmon-clsact-{index}-{n}")).unwrap();
            g.a.0.within(|| UnixDatagram::bind_addr(&name)).unwrap()
        })
        .collect();
    let live = watch(&g, CLSACT);
    assert_eq!(g.a.programs("eth0").len(), 2, "leftovers are gone and the new programs are there");
    drop(live);
    assert_eq!(g.a.hooks("eth0"), before);
    assert!(signs(&g).is_empty());
    drop(taken);
    // The folder of these files is accessible to its owner only.
    let out = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups", "ls", "/run/tmon"])
        .output()
        .unwrap();
    assert!(!out.status.success(), "{out:?}");
}

/// Records of programs do not outlive them, wherever they were.
#[test]
fn records_of_programs_do_not_outlive_them() {
    let g = Ground::bare();
    watch(&g, Want::Best); // makes the folder
    let cookie = NetnsHandle::open(Some(g.a.name())).unwrap().cookie().unwrap();
    // Like those of a namespace that is gone: no programs have these ids.
    let stale = [format!("{cookie}9-7-2147483646-2147483647"), format!("{cookie}9-7-0-0-kept")]
        .map(|name| PathBuf::from("/run/tmon").join(name));
    stale.iter().for_each(|path| fs::write(path, "").unwrap());
    watch(&g, Want::Best);
    assert!(stale.iter().all(|path| !path.exists()), "{stale:?}");
}

/// Killed between creating a qdisc and adding its first filter: the next one removes the qdisc, or
/// detach does. An administrator's empty qdisc stays.
#[test]
fn an_interrupted_qdisc_is_removed() {
    let g = Ground::bare();
    let before = g.a.hooks("eth0");
    watch(&g, CLSACT); // makes the folder
    let cookie = NetnsHandle::open(Some(g.a.name())).unwrap().cookie().unwrap();
    let begun = format!("/run/tmon/{cookie}-{}-qdisc", g.a.link("eth0").index);
    let with = || g.a.hooks("eth0").contains("clsact");
    for killed in [true, false] {
        for start in [true, false] {
            g.a.run("tc", "qdisc add dev eth0 clsact");
            if killed {
                fs::write(&begun, "").unwrap();
            }
            if start {
                drop(watch(&g, CLSACT));
            } else {
                let (place, index) =
                    (NetnsHandle::open(Some(g.a.name())).unwrap(), g.a.link("eth0").index);
                place.run(move || tmon::kernel::attach::remove_lasting(index)).unwrap().unwrap();
            }
            assert_eq!(with(), !killed, "killed: {killed}, start: {start}");
            assert!(!fs::exists(&begun).unwrap());
            if !killed {
                g.a.run("tc", "qdisc del dev eth0 clsact");
            }
        }
    }
    assert_eq!(g.a.hooks("eth0"), before);
}

/// The qdisc that preceded clsact has no egress: filters for that would run on ingress.
#[test]
fn an_ingress_qdisc_is_refused_and_left_alone() {
    let g = Ground::bare();
    g.a.run("tc", "qdisc add dev eth0 ingress");
    let before = g.a.hooks("eth0");
    let opened = Live::open(&["eth0".to_owned()], Some(g.a.name()), &small(), CLSACT);
    let said = format!("{:#}", opened.err().expect("there is no room for egress"));
    assert!(said.contains("it has an `ingress` qdisc"), "{said}");
    assert_eq!(g.a.hooks("eth0"), before);
}

/// The record of an interrupted qdisc does not outlive it, wherever it was.
#[test]
fn records_of_qdiscs_do_not_outlive_them() {
    let g = Ground::bare();
    watch(&g, CLSACT); // makes the folder
    g.a.ip("link add d1 type veth peer e1");
    g.a.run("tc", "qdisc add dev d1 clsact");
    let cookie = NetnsHandle::open(Some(g.a.name())).unwrap().cookie().unwrap();
    let mark = |cookie: u64, index: u32| {
        let path = PathBuf::from(format!("/run/tmon/{cookie}-{index}-qdisc"));
        fs::write(&path, "").unwrap();
        path
    };
    let (here, eth0) = (mark(cookie, g.a.link("d1").index), g.a.link("eth0").index);
    let unknown = mark(u64::MAX - u64::from(std::process::id()), 7);
    let gone = [mark(u64::MAX - u64::from(std::process::id()), 8), mark(cookie, eth0)];
    let then = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    fs::File::open(&gone[0]).unwrap().set_modified(then).unwrap();
    let (mut child, lines, _said) = reader(&g, CLSACT);
    lines.recv().unwrap();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(gone.iter().all(|path| !path.exists()), "{gone:?}");
    assert!(unknown.exists(), "a namespace without a name may still exist");
    fs::remove_file(unknown).unwrap();
    assert!(here.exists(), "the next attach there takes over the qdisc");
    drop(Live::open(&["d1".to_owned()], Some(g.a.name()), &small(), CLSACT).unwrap());
    assert!(!here.exists() && !g.a.hooks("d1").contains("clsact"));
    drop(watch(&g, CLSACT)); // what the kill left
}

/// Two that watch an interface which comes back recognise each other, although neither may query
/// the other's name any more.
#[test]
fn two_readers_recognise_each_other() {
    for want in wants() {
        let g = Ground::bare();
        let mut both = [reader(&g, want), reader(&g, want)];
        let attached = |line: &str| {
            let v: Value = serde_json::from_str(line).unwrap();
            v["interfaces"][0]["hook"].as_str().is_some_and(|h| h == "tcx" || h == "clsact")
        };
        for (_, lines, _) in &both {
            until("the reader to watch", || attached(&lines.recv().unwrap()));
        }
        for round in 0..3 {
            g.a.ip("link del eth0");
            for (_, lines, _) in &both {
                until("it to be gone", || !attached(&lines.recv().unwrap()));
            }
            let veth = NewLink::Veth { peer: "eth0", netns: Some(&g.b.0) };
            g.a.netlink().create("eth0", None, &veth).unwrap();
            for (space, own) in g.ends() {
                address(space, "eth0", 1, own, outer);
            }
            for (_, lines, _) in &both {
                until("it to be back", || attached(&lines.recv().unwrap()));
            }
            // Twice the interval at which each checks who else is there.
            for (_, lines, _) in &both {
                (0..4).for_each(|_| assert!(attached(&lines.recv().unwrap()), "round {round}"));
            }
        }
        for (child, ..) in &mut both {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        for (_, _, said) in both {
            let said = said.join().unwrap();
            assert!(said.contains("is back") && !said.contains("runs before"), "{said}");
        }
    }
}
