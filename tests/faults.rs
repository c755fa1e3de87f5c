// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faults that the lab stages: each is found by its name, with counts that are those of the
//! rows concerned, and no other tunnel's packet is dropped.
#![allow(clippy::unwrap_used)] // a test's panic is its report

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use model::{
    drops::Drops,
    flow::{Count, Flow},
    snapshot::{Interval, Snapshot},
};
use testkit::ground::{small, until};
use tmon::{
    kernel::{attach::Want, live::Live},
    lab::{
        Lab, LabOptions, Scenario, Traffic,
        fault::{self, FAULTS, Fault, HOST},
        traffic,
    },
};

fn lab() -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests need root (BPF, network namespaces): run them with sudo"
    );
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("tmon-f{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Lab::up(&LabOptions { prefix, hosts: 3, networks: 3, ..LabOptions::default() }).unwrap()
}

/// The host that goes wrong, watched from now on.
fn watch(lab: &Lab) -> Live {
    let host = lab.plan().host(HOST);
    let mut live = Live::open(&["eth0".to_owned()], Some(&host), &small(), Want::Best).unwrap();
    assert_eq!(live.watch_drops(false), None);
    live
}

/// Runs the ancestor's traffic, which is host0's, until `enough` of what happened meanwhile; and then
/// until nothing is on its way any more.
fn run(lab: &Lab, live: &mut Live, what: &str, enough: impl Fn(&Interval) -> bool) -> Interval {
    let prefix = lab.plan().options().prefix.clone();
    let before = live.read().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let asked = {
        let stop = Arc::clone(&stop);
        thread::spawn(move || traffic(&prefix, &Traffic::new(Scenario::Ancestor), &stop).map(drop))
    };
    until(what, || enough(&live.read().unwrap().since(&before)));
    stop.store(true, Ordering::Relaxed);
    asked.join().unwrap().unwrap();
    let mut last = live.read().unwrap();
    loop {
        thread::sleep(Duration::from_millis(300));
        let next = live.read().unwrap();
        let seen = |s: &Snapshot| s.rows.iter().map(|f| f.counters.total()).sum::<Count>();
        if seen(&next) == seen(&last) && next.drops == last.drops {
            return next.since(&before);
        }
        last = next;
    }
}

/// Reasons for which tunnels' packets were dropped, and how many of each.
fn reasons(drops: &Drops) -> BTreeMap<String, u64> {
    let tunnels = drops.rows.iter().filter(|(key, _)| key.victim.key().is_some());
    let mut reasons = BTreeMap::new();
    for (key, dropped) in tunnels {
        *reasons.entry(key.reason.to_string()).or_default() += dropped.total().packets;
    }
    reasons
}

/// What was dropped is what came in of the rows concerned: (reason, how many).
fn found(interval: &Interval, concerned: impl Fn(&Flow) -> bool) -> (String, u64) {
    let drops = interval.drops.as_deref().unwrap();
    let all = reasons(drops);
    assert_eq!(all.len(), 1, "one fault has one reason: {all:?}");
    let (reason, packets) = all.into_iter().next().unwrap();
    let came: u64 = interval
        .rows
        .merged()
        .iter()
        .filter(|f| concerned(f))
        .map(|f| f.counters.rx().packets)
        .sum();
    assert_eq!(packets, came, "{:#?}", drops.rows);
    for flow in interval.rows.merged() {
        let dropped = interval.dropped(&flow).unwrap().packets;
        let expected = if concerned(&flow) { flow.counters.rx().packets } else { 0 };
        assert_eq!(dropped, expected, "{:?}", flow.key);
    }
    (reason, packets)
}

#[test]
fn every_fault_is_found_by_its_name() {
    let lab = lab();
    let prefix = &lab.plan().options().prefix;
    let ends = |f: &Flow, a, b| {
        let pair = f.key.outer.unwrap();
        (pair.first == a && pair.second == b) || (pair.first == b && pair.second == a)
    };
    let (zero, one) = (lab.plan().endpoint(0), lab.plan().endpoint(HOST));
    let well = |before: &str| {
        let mut live = watch(&lab);
        let host = lab.plan().client(2, HOST);
        let quiet = run(&lab, &mut live, before, |i| {
            let answers = |f: &Flow| f.key.inner.pair().is_some_and(|p| p.second == host);
            i.rows.merged().iter().any(|f| answers(f) && f.counters.tx().packets > 2)
        });
        assert_eq!(reasons(quiet.drops.as_deref().unwrap()), BTreeMap::new(), "{before}");
    };
    for (fault, name, says) in FAULTS.iter().filter(|f| f.0 != Fault::Mtu) {
        well(&format!("before {name}"));
        let mut live = watch(&lab);
        fault::stage(prefix, *fault).unwrap();
        fault::stage(prefix, *fault).unwrap(); // twice is fine
        assert_eq!(fault::staged(prefix).unwrap(), [*fault]);
        let interval = run(&lab, &mut live, name, |i| {
            reasons(i.drops.as_deref().unwrap()).values().sum::<u64>() >= 3
        });
        let inner = |f: &Flow, network: u8| {
            let pair = f.key.inner.pair();
            pair.is_some_and(|p| {
                p.first == lab.plan().client(network, 0)
                    && p.second == lab.plan().client(network, HOST)
            })
        };
        let (reason, packets) = found(&interval, |f| match fault {
            Fault::NoDevice => f.key.outermost.id == Some(lab.plan().id(2)),
            Fault::InnerFirewall => inner(f, 0),
            Fault::WrongVtep => {
                f.key.outermost.id == Some(lab.plan().id(0))
                    && f.key.outer.is_some_and(|p| p.first == zero)
            }
            // What is sent to all goes to a group.
            Fault::OuterFirewall | Fault::RpFilter => f.key.outer.is_some_and(|p| p.first == zero),
            _ => ends(f, zero, one),
        });
        assert!(says.contains(&reason), "{name}: {packets} by {reason}");
        assert_eq!(fault::clear(prefix).unwrap(), [*fault]);
        assert!(fault::clear(prefix).unwrap().is_empty());
    }
    well("at the end");
}

#[test]
fn what_no_socket_buffer_tells_the_devices_own_counters_do() {
    let lab = lab();
    let prefix = &lab.plan().options().prefix;
    let mut live = watch(&lab);
    fault::stage(prefix, Fault::Mtu).unwrap();
    let eth0 = |i: &Interval| {
        let devices = &i.drops.as_ref().unwrap().devices;
        devices[&(Some(lab.plan().host(HOST).into()), "eth0".into())]
    };
    let before = live.read().unwrap();
    let ping = format!("-c 4 -i 0.2 -W 1 -s 900 {}", lab.plan().client(0, HOST));
    let ping = || Command::new("ping").args(ping.split(' ')).output();
    lab.host(0).unwrap().within(ping).unwrap().unwrap();
    until("the device to count them", || {
        eth0(&live.read().unwrap().since(&before)).rx_dropped == 4
    });
    let interval = live.read().unwrap().since(&before);
    assert_eq!(reasons(interval.drops.as_deref().unwrap()), BTreeMap::new());
    fault::clear(prefix).unwrap();
}

#[test]
fn faults_need_a_lab_and_a_name() {
    let none = "tmon-none";
    assert_eq!(fault::staged(none).unwrap(), []);
    let error = fault::stage(none, Fault::NoDevice).unwrap_err().to_string();
    assert!(error.contains("there is no lab"), "{error}");
    let names: BTreeSet<_> = FAULTS.iter().map(|f| f.1).collect();
    assert_eq!(names.len(), FAULTS.len());
}
