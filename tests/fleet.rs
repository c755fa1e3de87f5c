// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two hosts as a fleet: each packet counts once, and the loss between them is what the dropper
//! between them counted. In network namespaces; needs root and nft.
#![allow(clippy::unwrap_used)] // a test's panic is its report
use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::ground::*;

/// A process that ends with its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

fn tmon() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tmon"))
}

fn sum(reading: &Value, field: &str) -> u64 {
    let flows = reading["flows"].as_array().unwrap().iter().filter(|f| f["vni"] == 99);
    flows.filter_map(|f| f[field].as_u64()).sum()
}

fn dumped(files: &[&Path]) -> Option<Value> {
    let mut dump = tmon();
    dump.args(["dump", "--json"]);
    files.iter().for_each(|f| _ = dump.arg("--read").arg(f));
    let out = dump.output().unwrap();
    serde_json::from_slice(&out.stdout).ok()
}

#[test]
fn loss_between_two_hosts_equals_the_droppers_count() {
    let world = TwoHosts::new();
    world.drop_some();
    let folder = tempfile::tempdir().unwrap();
    let files = [folder.path().join("a.tmon"), folder.path().join("b.tmon")];
    let record = |(space, file): (&Space, &std::path::PathBuf)| {
        let name = space.name().rsplit('-').next().unwrap().trim_start_matches(char::is_numeric);
        let child = tmon()
            .args(["record", "--every", "200ms", "--as", name, "--netns", space.name()])
            .args([file.as_os_str(), "eth0".as_ref()])
            .stderr(Stdio::null())
            .spawn();
        Started(child.unwrap())
    };
    let recorders: Vec<_> = [&world.a, &world.b].into_iter().zip(&files).map(record).collect();
    for (space, file) in [&world.a, &world.b].into_iter().zip(&files) {
        until("it counts", || space.programs("eth0").len() >= 2);
        until("it is recorded", || file.metadata().is_ok_and(|m| m.len() > 0));
    }
    let both = [files[0].as_path(), files[1].as_path()];
    // Traffic happens neither at the beginning nor at the end, where the two may differ.
    let is_long = |n: u64| dumped(&both).is_some_and(|r| r["interval_ns"].as_u64() > Some(n));
    until("both are recorded for a while", || is_long(2_000_000_000));
    let sent = world.send(1000);
    until("all of it is recorded", || {
        dumped(&both).is_some_and(|r| sum(&r, "sent_pkts") == sent && sum(&r, "received_pkts") > 0)
            && dumped(&both[1..]).is_some_and(|r| sum(&r, "rx_pkts") == sent - world.dropped())
    });
    let now = dumped(&both).unwrap()["interval_ns"].as_u64().unwrap();
    until("they continue for a while", || is_long(now + 2_500_000_000));
    drop(recorders);
    let fleet = dumped(&both).unwrap();
    let lost = world.dropped();
    assert!(lost >= sent / 10, "{lost}");
    assert_eq!(sum(&fleet, "sent_pkts"), sent);
    assert_eq!(sum(&fleet, "lost_pkts"), lost);
    assert_eq!(sum(&fleet, "surplus_pkts"), 0);
    let total = sum(&fleet, "fwd_pkts") + sum(&fleet, "rev_pkts");
    assert_eq!(total, sent, "each packet counts once, at its sender");
    let hosts = fleet["hosts"].as_array().unwrap().iter();
    let mut hosts: Vec<_> = hosts.map(|h| h["name"].as_str().unwrap()).collect();
    hosts.sort_unstable();
    assert_eq!(hosts, ["a", "b"]);
    let mut schemas = boon::Schemas::new();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/reading.json");
    let schema = boon::Compiler::new().compile(schema, &mut schemas).unwrap();
    schemas.validate(&fleet, schema).unwrap_or_else(|e| panic!("{e:#}"));
    let diff = tmon().args(["diff", "--json"]).args(&files).output().unwrap();
    assert_eq!(diff.status.code(), Some(3), "they do not agree: {diff:?}");
    let lines = String::from_utf8(diff.stdout).unwrap();
    let lines: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let own = lines.iter().find(|l| l["vni"] == 99).unwrap();
    assert_eq!(
        (&own["from"], &own["to"], &own["verdict"]),
        (&"a".into(), &"b".into(), &"lost".into())
    );
    assert_eq!((own["sent_pkts"].as_u64(), own["lost_pkts"].as_u64()), (Some(sent), Some(lost)));
    let mut schemas = boon::Schemas::new();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/diff.json");
    let schema = boon::Compiler::new().compile(schema, &mut schemas).unwrap();
    lines.iter().for_each(|l| schemas.validate(l, schema).unwrap_or_else(|e| panic!("{e:#}")));
    let diff = tmon().arg("diff").args(&files).output().unwrap();
    let text = String::from_utf8(diff.stdout).unwrap();
    assert!(text.contains(&format!("{lost} ±")), "{text}");
    let one = tmon().arg("diff").args([&files[0], &files[0]]).output().unwrap();
    assert!(String::from_utf8_lossy(&one.stderr).contains("are the same file"), "{one:?}");
    let flow = fleet["flows"].as_array().unwrap().iter().find(|f| f["vni"] == 99).unwrap();
    assert_eq!((&flow["outer_sname"], &flow["outer_dname"]), (&"a".into(), &"b".into()));
}

#[test]
fn hosts_that_do_not_report_equally_often_are_compared() {
    let world = TwoHosts::new();
    let folder = tempfile::tempdir().unwrap();
    let hosts = [("a", &world.a, "500ms"), ("b", &world.b, "2s")];
    let recorders: Vec<_> = hosts
        .iter()
        .map(|(name, space, every)| {
            let mut record = tmon();
            record.args(["record", "--every", every, "--as", name, "--netns", space.name()]);
            record.arg(folder.path().join(name).with_extension("tmon")).arg("eth0");
            Started(record.stderr(Stdio::null()).spawn().unwrap())
        })
        .collect();
    // However late each begins: at some time both have recorded two of the longer intervals.
    until("both are compared", || {
        let diff = tmon().args(["diff", "a.tmon", "b.tmon"]).current_dir(folder.path()).output();
        let diff = diff.unwrap();
        let text = String::from_utf8_lossy(&diff.stdout);
        diff.status.success() && text.starts_with("a and b: ")
    });
    drop(recorders);
}

/// What a process has printed so far, one JSON object per line, and its errors.
type Heard = Arc<Mutex<(Vec<Value>, String)>>;

fn heard(of: &mut Child) -> Heard {
    let heard = Heard::default();
    let (out, kept) = (BufReader::new(of.stdout.take().unwrap()), Arc::clone(&heard));
    thread::spawn(move || {
        let told = out.lines().map_while(Result::ok);
        told.for_each(|l| kept.lock().unwrap().0.push(serde_json::from_str(&l).unwrap()));
    });
    let (errors, kept) = (BufReader::new(of.stderr.take().unwrap()), Arc::clone(&heard));
    thread::spawn(move || {
        errors.lines().map_while(Result::ok).for_each(|l| kept.lock().unwrap().1 += &l);
    });
    heard
}

#[test]
fn streaming_hosts_are_one_picture_and_failures_are_reported() {
    let world = TwoHosts::new();
    world.drop_some();
    let program = env!("CARGO_BIN_EXE_tmon");
    let stream = |name: &str, space: &Space| {
        let own = space.name();
        format!("echo Welcome; exec {program} stream --every 200ms --as {name} --netns {own} eth0")
    };
    let mut dump = tmon()
        .args(["dump", "--json", "--watch", "1s"])
        .args(["--from", &stream("node-a", &world.a), "--from", &stream("node-b", &world.b)])
        .args(["--from", "echo there is no such host >&2; exit 7"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = heard(&mut dump);
    let dump = Started(dump);
    until("both hosts report", || !lines.lock().unwrap().0.is_empty());
    let sent = world.send(500);
    let all = |field| lines.lock().unwrap().0.iter().map(|r| sum(r, field)).sum::<u64>();
    until("everything is reported", || {
        all("sent_pkts") == sent && all("received_pkts") == sent - world.dropped()
    });
    assert_eq!(all("fwd_pkts") + all("rev_pkts"), sent);
    let said = lines.lock().unwrap().1.clone();
    assert!(said.contains("there is no such host"), "{said}");
    drop(dump);
    for space in [&world.a, &world.b] {
        until("the streams end with their reader", || space.programs("eth0").is_empty());
    }
}

#[test]
fn a_recording_of_several_hosts_matches_the_live_view() {
    let world = TwoHosts::new();
    world.drop_some();
    let program = env!("CARGO_BIN_EXE_tmon");
    let folder = tempfile::tempdir().unwrap();
    let (night, days) = (folder.path().join("night.tmon"), folder.path().join("days"));
    let given_away = folder.path().join("given-away.tmon");
    let streams = |(name, space): (&str, &Space)| {
        let own = space.name();
        format!("exec {program} stream --every 200ms --as {name} --netns {own} eth0")
    };
    let from = [("node-a", &world.a), ("node-b", &world.b)].map(streams);
    let tells = |args: &[&str], file: Option<&Path>| {
        let mut child = tmon();
        child.args(args);
        file.map(|f| child.arg(f));
        from.iter().for_each(|command| _ = child.args(["--from", command]));
        child.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let mut dump = tells(&["dump", "--json", "--watch", "1s"], None);
    let live = heard(&mut dump);
    let dump = Started(dump);
    let mut recorders = vec![
        Started(tells(&["record"], Some(&night))),
        Started(tells(&["record", "--keep", "200ms:1d,60s:9d"], Some(&days))),
        Started(tells(&["record", "--anonymize"], Some(&given_away))),
    ];
    let counts = |field| live.lock().unwrap().0.iter().map(|r| sum(r, field)).sum::<u64>();
    for space in [&world.a, &world.b] {
        until("all of them count", || space.programs("eth0").len() >= 8);
    }
    until("all hosts report", || {
        let is_there = |r: &Value| r["hosts"].as_array().is_some_and(|h| h.len() == 2);
        !live.lock().unwrap().0.is_empty()
            && [&night, &days, &given_away]
                .iter()
                .all(|f| dumped(&[f]).is_some_and(|r| is_there(&r)))
    });
    let begun = Instant::now();
    let mut sent = 0;
    while begun.elapsed() < Duration::from_secs(25) {
        sent += world.send(20);
        thread::sleep(Duration::from_millis(100)); // a steady rate, whatever it is
    }
    let is_all = |r: &Value| {
        sum(r, "sent_pkts") == sent && sum(r, "received_pkts") == sent - world.dropped()
    };
    until("everything is reported", || {
        counts("sent_pkts") == sent && counts("received_pkts") == sent - world.dropped()
    });
    for file in [&night, &days, &given_away] {
        until("all of it is recorded", || dumped(&[file]).is_some_and(|r| is_all(&r)));
    }
    drop(dump);
    for recorder in &mut recorders {
        kill(Pid::from_raw(recorder.0.id() as i32), Signal::SIGTERM).unwrap();
        assert_eq!(recorder.0.wait().unwrap().code(), Some(0));
    }
    for field in ["sent_pkts", "received_pkts", "fwd_pkts", "rev_pkts", "fwd_bytes"] {
        let all = [&night, &days].map(|f| sum(&dumped(&[f]).unwrap(), field));
        assert_eq!(all, [counts(field); 2], "{field}");
    }
    let said = |args: &[&str]| {
        let out = tmon().args(args).arg(&night).output().unwrap();
        (out.status.code(), String::from_utf8(out.stdout).unwrap())
    };
    // An anonymized recording has the same counts and no identifying names or addresses.
    let masked = dumped(&[&given_away]).unwrap();
    let own: Value =
        serde_json::from_str(&said(&["dump", "--json", "--anonymize", "--read"]).1).unwrap();
    let text = |args: &[&str]| said(&[&["dump", "--anonymize"], args, &["--read"]].concat()).1;
    for told in [&masked, &own] {
        assert!(is_all(told), "{told}");
        assert!(told["findings"].to_string().contains("lost_between"), "{told}");
    }
    let told = [masked.to_string(), own.to_string(), text(&[]), text(&["--csv"])].concat();
    for word in [outer(1).to_string(), outer(2).to_string(), "10.9.0.".into(), "node-a".into()] {
        assert!(!told.contains(&word), "{word} in {told}");
    }
    let (status, found) = said(&["watch", "--json", "--read"]);
    assert_eq!(status, Some(3), "{found}");
    let lost = found.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
    let lost = lost.filter(|f| f["kind"] == "lost_between").collect::<Vec<_>>();
    let text = lost[0]["text"].as_str().unwrap();
    assert!(text.starts_with("vxlan 99 from node-a to node-b: "), "{text}");
    let (status, hosts) = said(&["fleet", "--read"]);
    assert_eq!(status, Some(0));
    assert!(hosts.contains("node-a") && hosts.contains("node-b"), "{hosts}");
    let (status, differ) = said(&["diff", "--json"]);
    assert_eq!(status, Some(3), "{differ}");
    let lane: Value = serde_json::from_str(differ.lines().next().unwrap()).unwrap();
    assert_eq!((&lane["from"], &lane["verdict"]), (&"node-a".into(), &"lost".into()));
    assert_eq!(lane["sent_pkts"].as_u64(), Some(sent));
}

#[test]
fn watch_reports_loss_between_two_hosts_while_it_lasts() {
    let world = TwoHosts::new();
    world.drop_some();
    let program = env!("CARGO_BIN_EXE_tmon");
    let stream = |name: &str, space: &Space| {
        let own = space.name();
        format!("exec {program} stream --as {name} --netns {own} eth0")
    };
    let mut watch = tmon()
        .args(["watch", "--json"])
        .args(["--from", &stream("node-a", &world.a), "--from", &stream("node-b", &world.b)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let told = heard(&mut watch);
    let watch = Started(watch);
    for space in [&world.a, &world.b] {
        until("it counts", || space.programs("eth0").len() >= 2);
    }
    let about = || {
        let told = told.lock().unwrap();
        told.0.iter().find(|f| f["kind"] == "lost_between").cloned()
    };
    let begun = Instant::now();
    while about().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(90), "{:?}", told.lock().unwrap());
        world.send(20);
        thread::sleep(Duration::from_millis(100)); // a steady rate, whatever it is
    }
    drop(watch);
    let finding = about().unwrap();
    let text = finding["text"].as_str().unwrap();
    assert_eq!((&finding["severity"], &finding["where"]["vni"]), (&"bad".into(), &99.into()));
    assert!(text.starts_with("vxlan 99 from node-a to node-b: "), "{text}");
    let share: f64 = text.split(' ').nth(6).unwrap().parse().unwrap();
    assert!((8.0..12.0).contains(&share), "one in ten: {text}");
}

/// The process that streams under a name in a namespace.
fn streams(name: &str, space: &Space) -> Option<Pid> {
    let words = [b"--as".as_slice(), name.as_bytes(), b"--netns", space.name().as_bytes()];
    let wanted = words.join(&0);
    let of = |entry: std::fs::DirEntry| {
        let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
        let words = std::fs::read(entry.path().join("cmdline")).ok()?;
        let own = std::fs::read_link(entry.path().join("exe")).ok()?.ends_with("tmon");
        (own && words.windows(wanted.len()).any(|w| w == wanted)).then_some(Pid::from_raw(pid))
    };
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).find_map(of)
}

#[test]
fn a_killed_stream_and_a_stalled_viewer_lose_no_packet() {
    let world = TwoHosts::new();
    let program = env!("CARGO_BIN_EXE_tmon");
    let stream = |name: &str, space: &Space| {
        let own = space.name();
        format!("exec {program} stream --every 200ms --as {name} --netns {own} eth0")
    };
    let mut dump = tmon()
        .args(["dump", "--json", "--watch", "1s"])
        .args(["--from", &stream("node-a", &world.a), "--from", &stream("node-b", &world.b)])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = heard(&mut dump);
    let dump = Started(dump);
    let viewer = Pid::from_raw(dump.0.id() as i32);
    until("both hosts report", || !lines.lock().unwrap().0.is_empty());
    let all = |field| lines.lock().unwrap().0.iter().map(|r| sum(r, field)).sum::<u64>();
    let mut sent = world.send(200);
    until("everything is reported", || all("sent_pkts") == sent && all("received_pkts") == sent);
    // The viewer is stopped: what happens meanwhile is reported when it continues.
    kill(viewer, Signal::SIGSTOP).unwrap();
    sent += world.send(300);
    thread::sleep(Duration::from_secs(2)); // the duration is what is tested
    sent += world.send(300);
    kill(viewer, Signal::SIGCONT).unwrap();
    until("everything is reported", || all("sent_pkts") == sent && all("received_pkts") == sent);
    let killed = streams("node-b", &world.b).expect("it streams");
    kill(killed, Signal::SIGKILL).unwrap();
    until("it is started again", || {
        lines.lock().unwrap().1.contains("node-b was started again")
            && streams("node-b", &world.b).is_some_and(|pid| pid != killed)
    });
    sent += world.send(100);
    until("both continue", || all("sent_pkts") == sent && all("received_pkts") == sent);
}

#[test]
fn hosts_are_listed_with_their_state() {
    let world = TwoHosts::new();
    let program = env!("CARGO_BIN_EXE_tmon");
    let stream = |name: &str, space: &Space| {
        let own = space.name();
        format!("exec {program} stream --every 200ms --as {name} --netns {own} eth0")
    };
    let fleet = |more: &[&str]| {
        let (a, b) = (stream("node-a", &world.a), stream("node-b", &world.b));
        tmon()
            .args(["fleet", "--for", "5s", "--from", &a, "--from", &b])
            .args(more)
            .output()
            .unwrap()
    };
    let out = fleet(&["--json"]);
    assert_eq!(out.status.code(), Some(0), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    let hosts: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    let mut names: Vec<_> = hosts.iter().map(|h| h["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(names, ["node-a", "node-b"]);
    let mut schemas = boon::Schemas::new();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/schema/host.json");
    let schema = boon::Compiler::new().compile(schema, &mut schemas).unwrap();
    hosts.iter().for_each(|h| schemas.validate(h, schema).unwrap_or_else(|e| panic!("{e:#}")));
    let out = fleet(&["--from", "echo no route >&2; exit 7"]);
    assert_eq!(out.status.code(), Some(3), "one is not heard");
    let text = String::from_utf8(out.stdout).unwrap();
    assert!(text.contains("not heard") && text.contains("no route"), "{text}");
    let version = concat!("tmon ", env!("CARGO_PKG_VERSION"));
    assert_eq!(text.matches(version).count(), 2, "{text}");
}

#[test]
fn silence_of_all_hosts_is_one_line() {
    let out = tmon().args(["dump", "--from", "echo no route >&2; exit 3"]).output().unwrap();
    let errors = String::from_utf8(out.stderr).unwrap();
    assert_eq!(out.status.code(), Some(1), "{errors}");
    assert!(errors.contains("no host sends anything") && errors.contains("no route"), "{errors}");
    for (args, why) in [
        (&["top", "--ssh=-oProxyCommand=x"][..], "is not a host name"),
        (&["top", "--from", "true", "eth0"], "cannot be used"),
        (&["stream", "--as", "a b"], "letters, digits"),
        (&["dump", "--from", "true", "--rtt", ""], "--rtt needs packets"),
        (&["dump", "--read", "x.tmon", "--lens", ""], "--lens needs packets"),
    ] {
        let out = tmon().args(args).output().unwrap();
        let errors = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && errors.contains(why), "{args:?}: {errors}");
    }
}

#[test]
fn a_deleted_recording_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    // The host is there and sends nothing.
    let there = folder.path().join("there.tmon");
    let mut recorder = tmon();
    recorder.arg("record").arg(&there).args(["--from", "sleep 1000"]);
    let mut recorder = Started(recorder.stderr(Stdio::piped()).spawn().unwrap());
    while !there.exists() {
        thread::sleep(Duration::from_millis(20));
    }
    std::fs::remove_file(&there).unwrap();
    let mut errors = String::new();
    let mut stderr = recorder.0.stderr.take().unwrap();
    std::io::Read::read_to_string(&mut stderr, &mut errors).unwrap();
    assert!(errors.contains("it was deleted"), "{errors}");
    assert_eq!(recorder.0.wait().unwrap().code(), Some(1), "{errors}");
}
