// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon record` and reading its files, in network namespaces. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::{fd::OwnedFd, unix::fs::PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::{frames::pkt, ground::*};

fn tmon() -> Command {
    Command::new(env!("CARGO_BIN_EXE_tmon"))
}

/// A process that ends with its test.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Started {
    fn end(&mut self, signal: Signal) -> Option<i32> {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
        self.0.wait().unwrap().code()
    }
}

fn recording(space: &Space, file: &Path) -> Started {
    let child = tmon()
        .args(["record", "--every", "200ms", "--netns", space.name()])
        .args([file.as_os_str(), "eth0".as_ref()])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    Started(child)
}

fn text(out: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (text(&out.stdout), text(&out.stderr))
}

/// The output of `dump --read`, one reading per line.
fn dumped(file: &Path, more: &[&str]) -> Vec<Value> {
    let out = tmon().args(["dump", "--json", "--read"]).arg(file).args(more).output().unwrap();
    let (said, errors) = text(&out);
    assert_eq!(out.status.code(), Some(0), "{errors}");
    said.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The packets of an id in a reading.
fn packets(reading: &Value, vni: u64) -> u64 {
    let flows = reading["flows"].as_array().unwrap().iter().filter(|f| f["vni"] == vni);
    flows.map(|f| f["rx_pkts"].as_u64().unwrap()).sum()
}

/// A packet with an id that the other end has no device for.
fn stray() -> Vec<u8> {
    let ends = format!("{} > {}", outer(1), outer(2));
    let eth = || pkt().eth().set(0, &mac(1, 2)).set(6, &mac(1, 1));
    let inside = pkt().eth().ip("10.9.0.1 > 10.9.0.2").udp(1, 2).data(40);
    eth().ip(&ends).udp(50_000, 4789).vxlan(99).then(inside).bytes()
}

fn strays(raw: &OwnedFd, index: u32, n: u64) {
    (0..n).for_each(|_| _ = inject(raw, index, &stray()));
}

#[test]
fn a_recording_has_every_packet_and_the_same_findings() {
    let ground = Ground::new();
    ground.settle();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("night.tmon");
    let mut record = recording(&ground.b, &file);
    let watch = tmon()
        .args(["watch", "eth0", "--json", "--every", "200ms", "--netns", ground.b.name()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn();
    let mut watch = Started(watch.unwrap());
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    until("both count", || ground.b.programs("eth0").len() >= 4);
    until("the file is there", || file.metadata().is_ok_and(|m| m.len() > 0));
    strays(&raw, index, 30);
    until("it is recorded", || dumped(&file, &[]).iter().any(|r| packets(r, 99) == 30));
    strays(&raw, index, 12);
    until("it is recorded", || dumped(&file, &[]).iter().any(|r| packets(r, 99) == 42));
    // The watch reads at its own times.
    let mut told = BufReader::new(watch.0.stdout.take().unwrap());
    let mut live = String::new();
    while !live.contains("no_device") {
        assert!(told.read_line(&mut live).unwrap() > 0, "it ended without a finding: {live}");
    }
    assert_eq!(record.end(Signal::SIGTERM), Some(0));
    assert_eq!(watch.end(Signal::SIGTERM), Some(3));
    told.read_to_string(&mut live).unwrap();

    let mode = file.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let all = dumped(&file, &[]);
    assert_eq!((all.len(), packets(&all[0], 99)), (1, 42));
    let each = dumped(&file, &["--watch", "100ms"]);
    assert!(each.len() > 2, "{}", each.len());
    assert_eq!(each.iter().map(|r| packets(r, 99)).sum::<u64>(), 42);
    let until_then = format!("..{}", each[each.len() / 2]["taken"].as_str().unwrap());
    let some = dumped(&file, &["--watch", "100ms", "--between", &until_then]);
    assert!(some.len() < each.len() && some[..] == each[..some.len()], "{}", some.len());

    let out = tmon().args(["watch", "--json", "--read"]).arg(&file).output().unwrap();
    let (again, errors) = text(&out);
    assert_eq!(out.status.code(), Some(3), "{errors}");
    let found = |lines: &str| -> BTreeMap<String, Value> {
        let lines = lines.lines().map(|l| serde_json::from_str::<Value>(l).unwrap());
        lines.map(|l| (format!("{} {}", l["change"], l["kind"]), l["where"].clone())).collect()
    };
    assert!(found(&live).contains_key("\"begun\" \"no_device\""), "{live}");
    assert_eq!(found(&again), found(&live));
}

#[test]
fn a_killed_recorder_leaves_its_readings_and_its_file_is_not_overwritten() {
    let ground = Ground::new();
    ground.settle();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("night.tmon");
    let mut record = recording(&ground.b, &file);
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    until("it counts", || ground.b.programs("eth0").len() >= 2);
    until("the file is there", || file.metadata().is_ok_and(|m| m.len() > 0));
    strays(&raw, index, 30);
    until("it is recorded", || dumped(&file, &[]).iter().any(|r| packets(r, 99) == 30));
    record.end(Signal::SIGKILL);
    let before = fs::read(&file).unwrap();
    assert_eq!(packets(&dumped(&file, &[])[0], 99), 30);
    let mut again = recording(&ground.b, &file);
    assert_eq!(again.0.wait().unwrap().code(), Some(1));
    let mut errors = String::new();
    again.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("not overwritten"), "{errors}");
    assert_eq!(fs::read(&file).unwrap(), before);
}

#[test]
fn the_time_around_a_bad_finding_is_saved() {
    let ground = Ground::new();
    ground.settle();
    let folder = tempfile::tempdir().unwrap();
    let watch = tmon()
        .args(["watch", "eth0", "--every", "200ms", "--netns", ground.b.name(), "--save"])
        .arg(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut watch = Started(watch.unwrap());
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    until("it counts", || ground.b.programs("eth0").len() >= 2);
    let saved = || -> Vec<PathBuf> {
        fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect()
    };
    until("it is saved", || {
        strays(&raw, index, 5);
        saved().iter().any(|f| f.metadata().is_ok_and(|m| m.len() > 0))
    });
    let before = dumped(&saved()[0], &[]).iter().map(|r| packets(r, 99)).sum::<u64>();
    assert!(before > 0, "the time before the finding is included");
    strays(&raw, index, 7);
    until("it continues", || dumped(&saved()[0], &[]).iter().any(|r| packets(r, 99) >= before + 7));
    assert_eq!(watch.end(Signal::SIGTERM), Some(3));
    let saved = saved();
    assert_eq!(saved.len(), 1, "{saved:?}");
    let name = saved[0].file_name().unwrap().to_str().unwrap();
    assert!(name.starts_with("tmon-bad-") && name.ends_with(".tmon"), "{name}");
    assert_eq!(saved[0].metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let out = tmon().args(["watch", "--read"]).arg(&saved[0]).output().unwrap();
    assert!(text(&out).0.contains("no_device"), "{out:?}");
    let out = tmon().args(["watch", "--save", "/nowhere", "--netns", ground.b.name()]).output();
    assert!(text(&out.unwrap()).1.contains("there is no such folder"));
}

#[test]
fn a_folder_has_a_file_per_day_and_old_ones_are_thinned_and_deleted() {
    let ground = Ground::new();
    ground.settle();
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old.tmon");
    let mut record = recording(&ground.b, &old);
    until("there are readings", || {
        old.exists()
            && tmon()
                .args(["dump", "--json", "--watch", "1ms", "--read"])
                .arg(&old)
                .output()
                .is_ok_and(|out| out.stdout.iter().filter(|b| **b == b'\n').count() > 3)
    });
    record.end(Signal::SIGTERM);
    let kept = folder.path().join("kept");
    fs::create_dir(&kept).unwrap();
    let ago = |days: &str| {
        let out = Command::new("date").args(["-u", "+%F", "-d", days]).output().unwrap();
        kept.join(format!("{}.tmon", text(&out).0.trim()))
    };
    let (thinned, deleted, newest) = (ago("3 days ago"), ago("100 days ago"), ago("1 day ago"));
    for file in [&thinned, &deleted, &newest] {
        fs::copy(&old, file).unwrap();
    }
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o700)).unwrap();
    let keep = |space: &Space| {
        let child = tmon()
            .args(["record", "--keep", "200ms:1d,60s:90d", "--netns", space.name()])
            .args([kept.as_os_str(), "eth0".as_ref()])
            .stderr(Stdio::piped())
            .spawn();
        Started(child.unwrap())
    };
    let mut record = keep(&ground.b);
    let mut said = BufReader::new(record.0.stderr.take().unwrap());
    let mut lines = String::new();
    while !(lines.contains("deleted") && lines.contains("has a reading every 60 s now")) {
        assert!(said.read_line(&mut lines).unwrap() > 0, "it ended: {lines}");
    }
    assert!(thinned.exists() && !deleted.exists());
    let each = dumped(&thinned, &["--watch", "1ms"]);
    assert!(each.len() < 4, "each reading covers a minute: {}", each.len());
    let (raw, index) = (ground.a.raw(), ground.a.link("eth0").index);
    until("it counts", || ground.b.programs("eth0").len() >= 2);
    let today = || {
        let all = fs::read_dir(&kept).unwrap().map(|e| e.unwrap().path());
        all.filter(|f| *f != thinned && *f != newest).collect::<Vec<_>>()
    };
    until("today has a file", || today().iter().any(|f| f.metadata().is_ok_and(|m| m.len() > 0)));
    // Nobody else may record into the same folder meanwhile.
    let mut second = keep(&ground.b);
    assert_eq!(second.0.wait().unwrap().code(), Some(1));
    let mut errors = String::new();
    second.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let holder = format!("PID {} (tmon) already keeps recordings there", record.0.id());
    assert!(errors.contains(&holder) && errors.lines().count() == 1, "{errors}");
    strays(&raw, index, 30);
    until("it is recorded", || {
        dumped(&kept, &[]).iter().map(|r| packets(r, 99)).sum::<u64>() == 30
    });
    assert_eq!(record.end(Signal::SIGTERM), Some(0));
    let before = today().len();
    // Another start creates another file; both together are one recording.
    let mut again = keep(&ground.b);
    until("it has one of its own", || today().len() > before);
    until("it counts", || ground.b.programs("eth0").len() >= 2);
    strays(&raw, index, 5);
    until("it is recorded", || {
        dumped(&kept, &[]).iter().map(|r| packets(r, 99)).sum::<u64>() == 35
    });
    assert_eq!(again.end(Signal::SIGTERM), Some(0));
    // If the recording could not be found any more, it reports that and ends.
    let others = today();
    let mut last = keep(&ground.b);
    until("it has one of its own", || today().len() > others.len());
    today().iter().filter(|f| !others.contains(f)).for_each(|f| fs::remove_file(f).unwrap());
    assert_eq!(last.0.wait().unwrap().code(), Some(1));
    let mut errors = String::new();
    last.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("it was deleted, so"), "{errors}");
    let modes = today().iter().map(|f| f.metadata().unwrap().permissions().mode() & 0o777).max();
    assert_eq!(modes, Some(0o600));
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o777)).unwrap();
    let mut refused = keep(&ground.b);
    assert_eq!(refused.0.wait().unwrap().code(), Some(1));
    let mut errors = String::new();
    refused.0.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    assert!(errors.contains("a folder of your own"), "{errors}");
}

/// A stalled reader behind a full pipe delays nothing.
#[test]
fn an_unread_stream_ends_with_its_input_or_its_time() {
    use nix::fcntl::{FcntlArg, fcntl};
    for limit in ["600s", "2s"] {
        let (_unread, full) = std::io::pipe().unwrap();
        fcntl(&full, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        (&full).write_all(&[b'\n'; 4096]).unwrap();
        let mut child = Started(
            Command::new("unshare")
                .args(["-n", env!("CARGO_BIN_EXE_tmon"), "stream", "lo"])
                .args(["--every", "100ms", "--for", limit])
                .stdin(Stdio::piped())
                .stdout(full)
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        if limit == "600s" {
            drop(child.0.stdin.take());
        }
        let begun = Instant::now();
        while child.0.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

#[test]
fn invalid_recordings_are_refused_with_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let there = |name: &str, content: &[u8]| -> PathBuf {
        let file = folder.path().join(name);
        fs::write(&file, content).unwrap();
        file
    };
    let taken = there("taken.tmon", b"");
    let junk = there("junk.tmon", &[b"\x28\xb5\x2f\xfd".as_slice(), &[7; 100]].concat());
    let refused = |args: &[&str], file: &Path, status: i32, why: &str| {
        let out = tmon().args(args).arg(file).output().unwrap();
        let (_, errors) = text(&out);
        assert_eq!(out.status.code(), Some(status), "{args:?}: {errors}");
        assert!(errors.contains(why), "{args:?}: {errors}");
        assert!(status == 2 || errors.lines().count() == 1, "{errors}");
    };
    refused(&["record", "--every", "1ms"], &taken, 2, "expected 100ms to 1h");
    refused(&["record"], &taken, 1, "not overwritten");
    refused(&["record", "--keep", "60s:1d,1s:90d"], &taken, 2, "do not ascend");
    refused(&["record", "--keep", "1s:1d"], &taken, 1, "it is not a folder");
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(folder.path(), &link).unwrap();
    refused(&["record", "--keep", "1s:1d"], &link, 1, "it is a symbolic link to ");
    refused(&["dump", "--read"], Path::new("-"), 1, "--from 'cat FILE'");
    refused(&["diff", "no-such-file"], Path::new("b.tmon"), 1, "read no-such-file: No such file");
    refused(&["dump", "--read"], folder.path(), 1, "no recording of that time");
    refused(&["dump", "--read"], &taken, 1, "taken.tmon is not a recording");
    refused(&["dump", "--read"], &junk, 1, "junk.tmon is not a recording");
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let nowhere = folder.path().join("nowhere");
    for reader in
        [&["dump", "--read"][..], &["fleet", "--read"], &["diff", taken.to_str().unwrap()]]
    {
        refused(reader, &pipe, 1, "is not a recording"); // without waiting for a writer
        refused(
            reader,
            &nowhere,
            1,
            if reader[0] == "diff" { "not a recording" } else { "No such file" },
        );
    }
    refused(&["dump", "--between", "yesterday..", "--read"], &taken, 2, "a time such as");
    refused(&["watch", "--between", "2026-01-01T00:00:00Z..", "--read"], &taken, 1, "--between");
}
