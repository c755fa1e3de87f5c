// SPDX-License-Identifier: MIT OR Apache-2.0
//! The findings of `tmon watch`, in network namespaces where faults are staged. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
use std::{
    fs,
    io::{BufRead, BufReader, Read},
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::{frames::pkt, ground::*};
use tmon::lab::{self, Lab, LabOptions, Scenario, Traffic};

/// `tmon watch` in a namespace, with the lines that it has printed.
struct Watching {
    child: Child,
    lines: Arc<Mutex<Vec<Value>>>,
}

impl Watching {
    fn new(space: &Space, more: &[&str]) -> Watching {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(["watch", "eth0", "--json", "--every", "250ms", "--netns", space.name()])
            .args(more)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let (out, kept) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&lines));
        thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                kept.lock().unwrap().push(serde_json::from_str(&line).unwrap());
            }
        });
        until("the watch is on", || !space.programs("eth0").is_empty());
        Watching { child, lines }
    }

    fn all(&self) -> Vec<Value> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a line.
    fn told(&self, change: &str, kind: &str) -> Value {
        let is = |v: &Value| v["change"] == change && v["kind"] == kind;
        until(&format!("{kind} has {change}: {:?}", self.all()), || self.all().iter().any(is));
        self.all().into_iter().find(is).unwrap()
    }

    /// Asks it to end; returns its exit status and its errors.
    fn end(&mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(self.child.id() as i32), Signal::SIGINT).unwrap();
        let mut errors = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
        (self.child.wait().unwrap().code(), errors)
    }
}

/// A packet with an id that the other end has no device for.
fn stray() -> Vec<u8> {
    let ends = format!("{} > {}", outer(1), outer(2));
    let eth = || pkt().eth().set(0, &mac(1, 2)).set(6, &mac(1, 1));
    let inside = pkt().eth().ip("10.9.0.1 > 10.9.0.2").udp(1, 2).data(40);
    eth().ip(&ends).udp(50_000, 4789).vxlan(99).then(inside).bytes()
}

#[test]
fn an_id_without_a_device_is_found_and_passed_to_a_command() {
    let ground = Ground::new();
    ground.settle();
    let folder = tempfile::tempdir().unwrap();
    let told = folder.path().join("told");
    let command = format!("cat >>{}; echo said >&2", told.display());
    let mut watch = Watching::new(&ground.b, &["--exec", &command]);
    let frame = stray();
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    until("the finding is reported", || {
        inject(&raw, index, &frame);
        !watch.all().is_empty()
    });
    let finding = watch.told("begun", "no_device");
    assert_eq!(finding["severity"], "bad");
    let place = &finding["where"];
    assert_eq!((&place["tunnel"], &place["vni"]), (&"vxlan".into(), &99.into()));
    assert_eq!(place["outer_dip"], outer(2).to_string());
    until("the command received it", || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        serde_json::from_str::<Value>(text.trim()).is_ok_and(|v| v == finding)
    });
    assert_eq!(watch.all().len(), 1, "nothing else is wrong: {:?}", watch.all());
    let (status, errors) = watch.end();
    assert_eq!(status, Some(3), "{errors}");
    assert!(errors.contains("--exec: said"), "{errors}");
}

#[test]
fn a_command_that_prints_endlessly_delays_nobody() {
    let ground = Ground::new();
    ground.settle();
    let mut watch = Watching::new(&ground.b, &["--exec", "yes; sleep 1000"]);
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    let frame = stray();
    until("the finding is reported", || {
        inject(&raw, index, &frame);
        !watch.all().is_empty()
    });
    let asked = Instant::now();
    let (status, errors) = watch.end();
    assert_eq!(status, Some(3), "{errors}");
    assert!(asked.elapsed() < Duration::from_secs(5), "it ends on request");
    assert!(errors.lines().count() < 40, "{errors}");
}

#[test]
fn a_known_finding_raises_no_alarm() {
    let ground = Ground::new();
    ground.settle();
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().join("known");
    fs::write(&known, "no_device vni:99 until 2999-01-01 # being worked on\n").unwrap();
    let mut watch = Watching::new(&ground.b, &["--ignore", known.to_str().unwrap()]);
    let frame = stray();
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    until("the finding is reported", || {
        inject(&raw, index, &frame);
        !watch.all().is_empty()
    });
    let (lines, (status, errors)) = (watch.all(), watch.end());
    assert!(lines.iter().all(|l| l["kind"] == "no_device" && l["muted"] == true), "{lines:?}");
    assert_eq!(status, Some(0), "{errors}");
}

impl Drop for Watching {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn errors_in_a_file_of_known_findings_name_the_line() {
    let folder = tempfile::tempdir().unwrap();
    let known = folder.path().join("known");
    fs::write(&known, "# mine\nsilence host:10.0.0.1\n").unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["watch", "lo", "--ignore"])
        .arg(&known)
        .output()
        .unwrap();
    let errors = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1));
    assert!(errors.contains("line 2: there is no finding `silence`"), "{errors}");
    assert_eq!(errors.lines().count(), 1);
}

#[test]
fn a_peer_that_stops_answering_is_silent() {
    let ground = Ground::new();
    ground.settle();
    let [a, b] = ground.sockets(7777);
    reach(&a, &b);
    let mut watch = Watching::new(&ground.a, &[]);
    let (stop, answering) = (AtomicBool::new(false), AtomicBool::new(true));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                insist(&a, &b, 1);
                if answering.load(Ordering::Relaxed) {
                    insist(&b, &a, 1);
                }
                thread::sleep(Duration::from_millis(100));
            }
        });
        let seen = || ground.a.counted("eth0")[0].packets;
        let before = seen();
        until("both talk", || seen() > before + 20);
        assert_eq!(watch.all(), [Value::Null; 0]);
        answering.store(false, Ordering::Relaxed);
        let finding = watch.told("begun", "silent");
        stop.store(true, Ordering::Relaxed);
        assert_eq!(finding["severity"], "bad");
        assert_eq!(finding["where"]["outer_dip"], outer(2).to_string());
        let seconds = finding["evidence"]["silent_seconds"].as_u64().unwrap();
        assert!((9..=15).contains(&seconds), "{finding}");
    });
    assert_eq!(watch.all().len(), 1, "nothing else is wrong: {:?}", watch.all());
    assert_eq!(watch.end().0, Some(3));
}

#[test]
fn nothing_is_wrong_in_the_lab() {
    let prefix = format!("tmon-q{}", std::process::id());
    let lab = Lab::up(&LabOptions { prefix: prefix.clone(), ..LabOptions::default() }).unwrap();
    let stop = AtomicBool::new(false);
    let out = thread::scope(|scope| {
        scope.spawn(|| lab::traffic(&prefix, &Traffic::new(Scenario::Demo), &stop));
        let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(["watch", "eth0", "--for", "20s", "--every", "500ms", "--netns"])
            .arg(lab.plan().host(0))
            .output()
            .unwrap();
        stop.store(true, Ordering::Relaxed);
        out
    });
    let [said, errors] = [out.stdout, out.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!(out.status.code(), Some(0), "{said}{errors}");
    assert!(!said.contains(" bad "), "{said}");
}
