// SPDX-License-Identifier: MIT OR Apache-2.0
//! The faults that the lab stages: each is reported under its name within ten seconds of the moment
//! that its definition is met, with exact counts, and nothing else is reported.
//!
//! Times are those of the readings and of the kernel's counters, so that a busy machine does not
//! affect the result.
#![allow(clippy::unwrap_used)] // a test's panic is its report

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use feed::{Source, series::Series};
use model::{
    detect::{Change, Finding, Known, Severity, Topic},
    drops::Drops,
    flow::{Count, Flow, Inner},
    snapshot::{Interval, Snapshot},
};
use serde_json::Value;
use testkit::ground::{small, until};
use tmon::{
    kernel::{attach::Want, live::Live},
    lab::{
        Lab, LabOptions, Scenario, Traffic,
        fault::{self, FAULTS, Fault, HOST},
        sender, traffic,
    },
};

/// How soon a fault must be reported.
const SOON: Duration = Duration::from_secs(10);
/// How long to wait for anything, in wall-clock time.
const PATIENCE: Duration = Duration::from_secs(180);

fn lab() -> Lab {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests need root (BPF, network namespaces): run them with sudo"
    );
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let prefix = format!("tmon-f{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    Lab::up(&LabOptions { prefix, hosts: 3, networks: 3, ..LabOptions::default() }).unwrap()
}

/// Something that runs beside the test until stopped.
struct Beside<T> {
    stop: Arc<AtomicBool>,
    done: JoinHandle<T>,
}

impl<T: Send + 'static> Beside<T> {
    fn start(run: impl FnOnce(&AtomicBool) -> T + Send + 'static) -> Beside<T> {
        let stop = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&stop);
        Beside { stop, done: thread::spawn(move || run(&flag)) }
    }

    fn end(self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.done.join().unwrap()
    }
}

fn prefix(lab: &Lab) -> String {
    lab.plan().options().prefix.clone()
}

fn talking(lab: &Lab, scenario: Scenario) -> Beside<()> {
    let prefix = prefix(lab);
    Beside::start(move |stop| {
        traffic(&prefix, &Traffic::new(scenario), stop).unwrap();
    })
}

fn sending(lab: &Lab, fault: Fault) -> Beside<u64> {
    let prefix = prefix(lab);
    Beside::start(move |stop| sender::send(&prefix, fault, stop).unwrap())
}

/// The faulty host, watched from now on, and its findings.
struct Watching {
    live: Live,
    series: Series,
    first: Snapshot,
    last: Snapshot,
    /// When each reading was taken whose interval began a finding, and the finding.
    begun: Vec<(SystemTime, Finding)>,
}

impl Watching {
    fn new(lab: &Lab) -> Watching {
        let host = lab.plan().host(HOST);
        let mut live = Live::open(&["eth0".to_owned()], Some(&host), &small(), Want::Best).unwrap();
        assert_eq!(live.watch_drops(false), None);
        live.follow_configuration().unwrap();
        let mut series = Series::new(0);
        series.look_for_findings(Known::default());
        let reading = Source::read(&mut live).unwrap();
        let first = reading.snapshot.clone();
        series.push(reading);
        Watching { live, series, last: first.clone(), first, begun: Vec::new() }
    }

    /// Takes the next reading, a moment later.
    fn step(&mut self) -> &Interval {
        thread::sleep(Duration::from_millis(300));
        let reading = Source::read(&mut self.live).unwrap();
        self.last = reading.snapshot.clone();
        self.series.push(reading);
        let begun = self.series.changes().filter(|(_, change)| *change != Change::Ended);
        self.begun.extend(begun.map(|(finding, _)| (self.last.taken, finding.clone())));
        self.series.newest().unwrap()
    }

    /// Reads until a condition holds. Returns when the reading that showed it was taken.
    fn until(&mut self, what: &str, mut holds: impl FnMut(&Interval) -> bool) -> SystemTime {
        let deadline = Instant::now() + PATIENCE;
        while !holds(self.step()) {
            assert!(Instant::now() < deadline, "waited in vain for: {what}; {:#?}", self.begun);
        }
        self.last.taken
    }

    /// Reads until nothing is in flight any more.
    fn settle(&mut self) {
        let seen = |s: &Snapshot| s.rows.iter().map(|f| f.counters.total()).sum::<Count>();
        let state = |s: &Snapshot| (seen(s), s.drops.as_ref().map(|d| d.rows.clone()));
        let mut same = 0;
        while same < 3 {
            let before = state(&self.last);
            self.step();
            same = if before == state(&self.last) { same + 1 } else { 0 };
        }
    }

    /// Everything since it began, as one interval.
    fn interval(&self) -> Interval {
        self.last.since(&self.first)
    }

    /// When a bad finding of a kind began; panics if there was none, or if there was any other that
    /// does not belong to it.
    fn found(&self, name: &str, topic: Topic, belongs: &[(Topic, &str)]) -> (SystemTime, &Finding) {
        for (_, f) in &self.begun {
            let own = f.topic == topic && f.severity == Severity::Bad;
            let ok = own || belongs.iter().any(|(t, text)| f.topic == *t && f.text.contains(text));
            assert!(ok, "{name}: {f:#?}");
        }
        let is = |(_, f): &&(SystemTime, Finding)| f.topic == topic && f.severity == Severity::Bad;
        let (at, finding) = self.begun.iter().find(is).expect(name);
        (*at, finding)
    }

    /// The counts of all findings of a kind.
    fn counted(&self, topic: Topic, count: &str) -> u64 {
        let of = self.series.findings().filter(|f| f.topic == topic);
        of.filter_map(|f| f.counts.get(count)).sum()
    }
}

fn assert_soon(name: &str, met: SystemTime, found: SystemTime) {
    let after = found.duration_since(met).unwrap_or_default();
    assert!(after <= SOON, "{name} was found {after:?} after it was so");
}

/// The reasons for which tunnels' packets were dropped, with counts.
fn reasons(drops: &Drops) -> BTreeMap<String, u64> {
    let tunnels = drops.rows.iter().filter(|(key, _)| key.victim.key().is_some());
    let mut reasons = BTreeMap::new();
    for (key, dropped) in tunnels {
        *reasons.entry(key.reason.to_string()).or_default() += dropped.total().packets;
    }
    reasons
}

/// When the first packet of a tunnel was dropped for a reason.
fn first_drop(drops: &Drops, reason: &str) -> SystemTime {
    let rows = drops.rows.iter().filter(|(k, _)| &*k.reason == reason && k.victim.key().is_some());
    rows.map(|(_, dropped)| dropped.first).min().unwrap()
}

/// Asserts that all received packets of the affected rows were dropped: (reason, count).
fn dropped(interval: &Interval, concerned: impl Fn(&Flow) -> bool) -> (String, u64) {
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

/// The count of the fault's own nft rule.
fn by_nft(lab: &Lab, host: u8, fault: Fault) -> u64 {
    let table = format!("tmon-{fault}").replace('-', "_");
    let nft = || Command::new("nft").args(["-j", "list", "table", "ip", &table]).output();
    let out = lab.host(host).unwrap().within(nft).unwrap().unwrap();
    let said: Value = serde_json::from_slice(&out.stdout).unwrap();
    let rules = said["nftables"].as_array().unwrap().iter();
    let parts = rules.filter_map(|o| o["rule"]["expr"].as_array()).flatten();
    parts.filter_map(|part| part["counter"]["packets"].as_u64()).sum()
}

#[test]
fn drops_by_the_kernel_are_found() {
    let lab = lab();
    let prefix = prefix(&lab);
    let ends = |f: &Flow, a, b| {
        let pair = f.key.outer.unwrap();
        (pair.first == a && pair.second == b) || (pair.first == b && pair.second == a)
    };
    let (zero, one) = (lab.plan().endpoint(0), lab.plan().endpoint(HOST));
    for (fault, topic) in [
        (Fault::NoDevice, Topic::NoDevice),
        (Fault::WrongVtep, Topic::WrongVtep),
        (Fault::OuterFirewall, Topic::Dropped),
        (Fault::InnerFirewall, Topic::Dropped),
        (Fault::Checksum, Topic::Checksum),
        (Fault::NoListener, Topic::Dropped),
        (Fault::RpFilter, Topic::Dropped),
    ] {
        let name = &fault.to_string();
        let says = FAULTS.iter().find(|f| f.0 == fault).unwrap().2;
        let mut watch = Watching::new(&lab);
        let talk = talking(&lab, Scenario::Ancestor);
        let answering = lab.plan().client(2, HOST);
        watch.until("all is well", |i| {
            let answers = |f: &Flow| f.key.inner.pair().is_some_and(|p| p.second == answering);
            i.rows.merged().iter().any(|f| answers(f) && f.counters.tx().packets > 1)
        });
        assert!(watch.begun.is_empty(), "before {name}: {:#?}", watch.begun);
        talk.end();
        watch.settle();
        assert_eq!(reasons(watch.interval().drops.as_deref().unwrap()), BTreeMap::new(), "{name}");
        let mut watch = Watching::new(&lab);
        assert!(fault::stage(&prefix, fault).unwrap());
        assert!(!fault::stage(&prefix, fault).unwrap(), "twice is fine");
        assert_eq!(fault::staged(&prefix).unwrap(), [fault]);
        if fault == Fault::NoListener {
            // Its devices are replaced one after another: the kernel's own probes of neighbours that
            // arrive meanwhile find the socket, but their device no longer, which is another reason.
            watch = Watching::new(&lab);
        }
        let talk = talking(&lab, Scenario::Ancestor);
        let mut packets = 0;
        watch.until(name, |i| {
            packets += reasons(i.drops.as_deref().unwrap()).values().sum::<u64>();
            packets >= 3
        });
        talk.end();
        watch.settle();
        let inner = |f: &Flow, network: u8| {
            let pair = f.key.inner.pair();
            pair.is_some_and(|p| {
                p.first == lab.plan().client(network, 0)
                    && p.second == lab.plan().client(network, HOST)
            })
        };
        let interval = watch.interval();
        let (reason, packets) = dropped(&interval, |f| match fault {
            Fault::NoDevice => f.key.outermost.id == Some(lab.plan().id(2)),
            Fault::InnerFirewall => inner(f, 0),
            Fault::WrongVtep => {
                f.key.outermost.id == Some(lab.plan().id(0))
                    && f.key.outer.is_some_and(|p| p.first == zero)
            }
            // Packets for all hosts go to a group.
            Fault::OuterFirewall | Fault::RpFilter => f.key.outer.is_some_and(|p| p.first == zero),
            _ => ends(f, zero, one),
        });
        assert!(says.contains(&reason), "{name}: {packets} by {reason}");
        // The host without a socket for them also reports it.
        let said = [(Topic::Unreachable, "arrived at a port on which nothing listens")];
        let belongs = if fault == Fault::NoListener { &said[..] } else { &[] };
        let (at, _) = watch.found(name, topic, belongs);
        assert_soon(name, first_drop(interval.drops.as_deref().unwrap(), &reason), at);
        assert_eq!(watch.counted(topic, "dropped_pkts"), packets, "{name}");
        match fault {
            Fault::OuterFirewall | Fault::InnerFirewall => {
                assert_eq!(by_nft(&lab, HOST, fault), packets, "{name}");
            }
            Fault::Checksum => assert_eq!(by_nft(&lab, 0, fault), packets, "{name}"),
            _ => {}
        }
        assert_eq!(fault::clear(&prefix).unwrap(), [fault]);
        assert!(fault::clear(&prefix).unwrap().is_empty());
        // A neighbour that does not answer is given up seconds later; what waits for it is dropped then.
        for host in 0..3 {
            let ip = || Command::new("ip").args(["neigh", "show", "nud", "incomplete"]).output();
            let asked = || lab.host(host).unwrap().within(ip).unwrap().unwrap().stdout;
            until("no neighbour is being looked for", || asked().is_empty());
        }
    }
}

#[test]
fn a_too_small_mtu_is_found() {
    let lab = lab();
    let mut watch = Watching::new(&lab);
    let ping = |size: u32, times: u32| {
        let ping = format!("-c {times} -i 0.2 -W 1 -s {size} {}", lab.plan().client(0, HOST));
        let ping = || Command::new("ping").args(ping.split(' ')).output();
        lab.host(0).unwrap().within(ping).unwrap().unwrap();
    };
    ping(900, 2);
    watch.settle();
    assert!(watch.begun.is_empty(), "{:#?}", watch.begun);
    fault::stage(&prefix(&lab), Fault::Mtu).unwrap();
    ping(900, 4);
    ping(100, 4);
    let eth0 = |i: &Interval| {
        let devices = &i.drops.as_ref().unwrap().devices;
        devices[&(Some(lab.plan().host(HOST).into()), "eth0".into())].rx_dropped
    };
    let mut lost = 0;
    let met = watch.until("the device to count them", |i| {
        lost += eth0(i);
        lost > 0
    });
    watch.settle();
    let (at, finding) = watch.found("mtu", Topic::Mtu, &[]);
    assert_soon("mtu", met, at);
    assert!(finding.text.contains("its MTU is 700, and full packets of vxlan"), "{finding:?}");
    assert_eq!(eth0(&watch.interval()), 4);
    assert_eq!(watch.counted(Topic::Mtu, "dropped_pkts"), 4);
    assert_eq!(reasons(watch.interval().drops.as_deref().unwrap()), BTreeMap::new());
    fault::clear(&prefix(&lab)).unwrap();
}

#[test]
fn a_duplicate_address_is_found() {
    let lab = lab();
    let prefix = prefix(&lab);
    let address = lab.plan().client(0, 0);
    let mut watch = Watching::new(&lab);
    fault::stage(&prefix, Fault::Duplicate).unwrap();
    let sender = sending(&lab, Fault::Duplicate);
    // The endpoints behind which it was, according to the readings.
    let asks = |i: &Interval, host: u8| -> u64 {
        let endpoint = lab.plan().endpoint(host);
        let rows = i.rows.merged();
        let from = rows.iter().filter_map(|f| {
            let (outer, inner) = (f.key.outer?, f.key.inner.pair()?);
            let of = |o, i| o == endpoint && i == address;
            let fwd = of(outer.first, inner.first).then(|| f.counters.fwd().packets);
            let rev = of(outer.second, inner.second).then(|| f.counters.rev().packets);
            fwd.or(rev)
        });
        from.sum()
    };
    let mut changes = 0;
    let mut behind = None;
    let met = watch.until("five changes", |i| {
        for host in [0, 2] {
            if asks(i, host) > 0 && behind.replace(host).is_some_and(|before| before != host) {
                changes += 1;
            }
        }
        changes >= 5
    });
    watch.until("duplicate", |i| i.elapsed > Duration::ZERO);
    let mut steps = 0;
    while !watch.begun.iter().any(|(_, f)| f.topic == Topic::Duplicate) && steps < 60 {
        watch.step();
        steps += 1;
    }
    let sent = sender.end();
    watch.settle();
    let belongs = [(Topic::Moved, "192.168.0.1 of vxlan 10000 (bridge br0) moved")];
    let (at, finding) = watch.found("duplicate", Topic::Duplicate, &belongs);
    assert_soon("duplicate", met, at);
    for host in [0, 2] {
        assert!(finding.text.contains(&lab.plan().endpoint(host).to_string()), "{finding:?}");
    }
    // Every request is counted, wherever it was sent from.
    assert_eq!(asks(&watch.interval(), 0) + asks(&watch.interval(), 2), sent);
    let changes = watch.counted(Topic::Duplicate, "changes_in_all");
    assert!((5..sent).contains(&changes), "{changes} of {sent}");
    assert_eq!(fault::clear(&prefix).unwrap(), [Fault::Duplicate]);
}

#[test]
fn an_unknown_endpoint_is_found() {
    let lab = lab();
    let prefix = prefix(&lab);
    let mut watch = Watching::new(&lab);
    let talk = talking(&lab, Scenario::Ancestor);
    fault::stage(&prefix, Fault::UnknownVtep).unwrap();
    let sender = sending(&lab, Fault::UnknownVtep);
    let failed = |drops: &Drops| reasons(drops).get("NEIGH_FAILED").copied().unwrap_or(0);
    let mut lost = 0;
    watch.until("the address not to resolve", |i| {
        lost += failed(i.drops.as_deref().unwrap());
        lost >= 3
    });
    talk.end();
    let sent = sender.end();
    // The kernel tries three times before it gives up on the last of them.
    watch.until("the kernel gives up", |i| {
        lost += failed(i.drops.as_deref().unwrap());
        lost >= sent
    });
    watch.settle();
    let interval = watch.interval();
    let drops = interval.drops.as_deref().unwrap();
    assert_eq!(reasons(drops), BTreeMap::from([("NEIGH_FAILED".to_owned(), sent)]));
    let (at, finding) = watch.found("unknown-vtep", Topic::WrongVtep, &[]);
    assert_soon("unknown-vtep", first_drop(drops, "NEIGH_FAILED"), at);
    assert_eq!(watch.counted(Topic::WrongVtep, "dropped_pkts"), sent);
    let text = &finding.text;
    assert!(text.contains("went to 172.16.1.250, whose address does not resolve"), "{text}");
    assert!(text.ends_with("; a fixed forwarding entry of vxlan0 says so"), "{text}");
    assert_eq!(fault::clear(&prefix).unwrap(), [Fault::UnknownVtep]);
}

#[test]
fn a_storm_is_found() {
    let lab = lab();
    let prefix = prefix(&lab);
    let mut watch = Watching::new(&lab);
    let talk = talking(&lab, Scenario::Ancestor);
    let start = watch.last.taken;
    // A baseline, for the flood to stand out from.
    watch.until("a past", |i| i.taken.duration_since(start).unwrap() > Fault::ArpStorm.after());
    assert!(watch.begun.is_empty(), "{:#?}", watch.begun);
    talk.end();
    watch.settle();
    let before = watch.last.clone();
    fault::stage(&prefix, Fault::ArpStorm).unwrap();
    let sender = sending(&lab, Fault::ArpStorm);
    let requests = |i: &Interval| -> u64 {
        let rows = i.rows.merged();
        let arp = rows.iter().filter(|f| matches!(f.key.inner, Inner::Proto(p) if p.0 == 0x0806));
        let (zero, group) = (lab.plan().endpoint(0), lab.plan().group(0));
        let to_all =
            arp.filter(|f| f.key.outer.is_some_and(|o| (o.first, o.second) == (zero, group)));
        to_all.map(|f| f.counters.rx().packets).sum()
    };
    // It has to be far above the usual rate for eight seconds, minus those in which it was not.
    let mut above = Duration::ZERO;
    let met = watch.until("the storm", |i| {
        let rate = requests(i) as f64 / i.elapsed.as_secs_f64();
        above = if rate >= 100.0 { above + i.elapsed } else { above.saturating_sub(i.elapsed) };
        above >= Duration::from_secs(8)
    });
    let mut steps = 0;
    while !watch.begun.iter().any(|(_, f)| f.topic == Topic::Flood) && steps < 60 {
        watch.step();
        steps += 1;
    }
    watch.until("a last reading", |_| true);
    let sent = sender.end();
    watch.settle();
    // A host without the requested address drops the request without giving a reason.
    let belongs = [(Topic::Dropped, "NOT_SPECIFIED (arp)"), (Topic::Flood, "broadcast")];
    let (at, finding) = watch.found("arp-storm", Topic::Flood, &belongs);
    assert_soon("arp-storm", met, at);
    let zero = lab.plan().endpoint(0);
    assert!(finding.text.ends_with(&format!("100 % come from {zero}")), "{finding:?}");
    assert_eq!(requests(&watch.last.since(&before)), sent);
    assert_eq!(fault::clear(&prefix).unwrap(), [Fault::ArpStorm]);
}

#[test]
fn a_peer_that_falls_silent_is_found() {
    let lab = lab();
    let prefix = prefix(&lab);
    let peer = lab.plan().endpoint(2);
    let mut watch = Watching::new(&lab);
    let talk = talking(&lab, Scenario::Demo);
    let with = |f: &Flow| f.key.outer.is_some_and(|o| o.first == peer || o.second == peer);
    let heard = |i: &Interval| -> u64 {
        i.rows.merged().iter().filter(|f| with(f)).map(|f| f.counters.rx().packets).sum()
    };
    let start = watch.last.taken;
    let (mut last, mut pause) = (start, Duration::ZERO);
    let mut hear = |i: &Interval| {
        if heard(i) > 0 {
            pause = pause.max(i.taken.duration_since(last).unwrap_or_default());
            last = i.taken;
        }
        (last, pause)
    };
    watch.until("a conversation", |i| {
        hear(i).0.duration_since(start).unwrap() > Fault::Silent.after()
    });
    assert!(watch.begun.is_empty(), "{:#?}", watch.begun);
    fault::stage(&prefix, Fault::Silent).unwrap();
    // It may pause for three times its longest pause, and ten seconds.
    let met = watch.until("silence", |i| {
        let (last, pause) = hear(i);
        i.taken.duration_since(last).unwrap_or_default() >= (3 * pause).max(SOON)
    });
    let mut steps = 0;
    while !watch.begun.iter().any(|(_, f)| f.topic == Topic::Silent) && steps < 60 {
        watch.step();
        steps += 1;
    }
    let (at, finding) = watch.found("silent", Topic::Silent, &[]);
    assert_soon("silent", met, at);
    assert_eq!(finding.place.outer_to, Some(peer), "{finding:?}");
    let since = finding.since;
    assert!(since <= met && since >= start, "{finding:?}");
    talk.end();
    watch.settle();
    // The rule dropped everything that the peer sent; nothing of it arrived.
    let eaten = by_nft(&lab, 2, Fault::Silent);
    assert!(eaten > 0 && heard(&watch.last.since(&watch.first)) > 0);
    assert_eq!(fault::clear(&prefix).unwrap(), [Fault::Silent]);
}

#[test]
fn the_sender_of_a_fault_ends_with_it() {
    let lab = lab();
    let prefix = prefix(&lab);
    let tmon = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["lab", "fault"]).args(args).args(["--prefix", &prefix]);
        let out = command.output().unwrap();
        assert!(out.status.success(), "{out:?}");
        String::from_utf8(out.stdout).unwrap()
    };
    let senders = || {
        let all = Command::new("ps").args(["-eo", "args"]).output().unwrap();
        let all = String::from_utf8(all.stdout).unwrap();
        all.lines().filter(|l| l.contains("--send") && l.contains(&prefix)).count()
    };
    assert!(tmon(&[]).contains("unknown-vtep"));
    assert!(tmon(&["duplicate"]).contains("is staged"));
    assert!(tmon(&["duplicate"]).contains("is staged"));
    until("one that sends", || senders() == 1);
    assert!(tmon(&["--reveal"]).contains("duplicate: host1 sees 192.168.0.1"));
    assert!(tmon(&["--clear"]).contains("cleared: duplicate"));
    until("it ends", || senders() == 0);
    // A random one.
    let told = tmon(&["--surprise"]);
    let staged = fault::staged(&prefix).unwrap();
    assert_eq!(staged.len(), 1);
    assert!(!told.contains(&staged[0].to_string()), "{told}");
    let list = tmon(&[]);
    assert!(list.contains("1 staged"), "{list}");
    assert!(tmon(&["--reveal"]).starts_with(&format!("{}: ", staged[0])));
    tmon(&["--clear"]);
    until("it ends", || senders() == 0);
    assert!(tmon(&["--reveal"]).contains("nothing is wrong in the lab"));
}

#[test]
fn faults_need_a_lab_and_a_name() {
    let none = "tmon-none";
    assert_eq!(fault::staged(none).unwrap(), []);
    let error = fault::stage(none, Fault::NoDevice).unwrap_err().to_string();
    assert!(error.contains("there is no lab"), "{error}");
    let names: BTreeSet<_> = FAULTS.iter().map(|f| f.1).collect();
    assert_eq!(names.len(), 12);
}
