// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon replay` and `tmon capture -r` as people run them: as nobody, where BPF is forbidden, from
//! pipes and compressed files, and in little memory, whatever the file.
use std::{
    fs,
    io::Write,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use nix::{sys::stat::Mode, unistd};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};
use serde_json::Value;
use tempfile::TempDir;
use testkit::frames::pkt;

const TMON: &str = env!("CARGO_BIN_EXE_tmon");

fn frame() -> Vec<u8> {
    let inside = pkt().eth().ip("192.168.0.1 > 192.168.0.2").udp(1000, 2000).data(14);
    pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(54321, 4789).vxlan(42).then(inside).bytes()
}

const HEADER: [u32; 6] = [0xa1b2_c3d4, 4 << 16 | 2, 0, 0, 65_535, 1];

fn record(frame: &[u8]) -> Vec<u8> {
    let length = frame.len() as u32;
    let mut bytes = [1_700_000_000, 0, length, length].map(u32::to_le_bytes).concat();
    bytes.extend(frame);
    bytes
}

/// A classic capture of this many copies of the frame.
fn capture(frames: usize) -> Vec<u8> {
    [HEADER.map(u32::to_le_bytes).concat(), record(&frame()).repeat(frames)].concat()
}

/// A folder that everybody can enter.
fn folder() -> TempDir {
    let dir = TempDir::new().expect("a scratch folder");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).expect("for all");
    dir
}

fn write(dir: &TempDir, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.path().join(name);
    fs::write(&path, bytes).expect("write a capture");
    path
}

/// The packets of the only row.
fn packets(output: &Output) -> u64 {
    let why = String::from_utf8_lossy(&output.stderr);
    let json: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {why}"));
    let seen = &json["interfaces"][0]["counted"]["rx_pkts"];
    seen.as_u64().unwrap_or_else(|| panic!("{json:#}"))
}

fn replay(path: &Path) -> Output {
    Command::new(TMON).args(["replay", "--json"]).arg(path).output().expect("run tmon")
}

/// A filter that ends a process when it calls bpf(2).
fn no_bpf() -> BpfProgram {
    let rules = [(nix::libc::SYS_bpf, Vec::new())].into_iter().collect();
    let arch = std::env::consts::ARCH.try_into().expect("an architecture that seccomp knows");
    SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::KillProcess, arch)
        .and_then(TryInto::try_into)
        .expect("a filter")
}

#[test]
#[allow(unsafe_code)]
fn it_runs_unprivileged_and_without_bpf() {
    let dir = folder();
    let capture = write(&dir, "a.pcap", &capture(5));
    // nobody cannot reach the original program.
    let tmon = dir.path().join("tmon");
    fs::copy(TMON, &tmon).expect("copy the program");
    for threads in ["1", "3"] {
        let filter = no_bpf();
        let mut command = Command::new(&tmon);
        command.args(["replay", "--json", "--threads", threads]).arg(&capture).env_clear();
        command.current_dir("/");
        if unistd::geteuid().is_root() {
            command.uid(65_534).gid(65_534);
        }
        let confine = move || {
            nix::sys::prctl::set_no_new_privs()?;
            seccompiler::apply_filter(&filter).map_err(std::io::Error::other)
        };
        // SAFETY: between fork and exec only system calls are made.
        unsafe { command.pre_exec(confine) };
        let output = command.output().expect("run tmon");
        assert!(output.status.success(), "{output:?}");
        assert_eq!(packets(&output), 5);
    }
}

#[test]
fn compressed_files_and_pipes_are_read() {
    let dir = folder();
    let plain = capture(20_000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).expect("a vector takes everything");
    let gzip = gzip.finish().expect("a vector takes everything");
    let zst = zstd::encode_all(&plain[..], 1).expect("a vector takes everything");
    for (name, bytes) in [("a.pcap", &plain), ("a.pcap.gz", &gzip), ("a.pcap.zst", &zst)] {
        assert_eq!(packets(&replay(&write(&dir, name, bytes))), 20_000, "{name}");

        let mut child = Command::new(TMON)
            .args(["replay", "--json", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("run tmon");
        let mut stdin = child.stdin.take().expect("a pipe");
        thread::scope(|scope| {
            scope.spawn(move || stdin.write_all(bytes).expect("tmon reads all"));
        });
        assert_eq!(packets(&child.wait_with_output().expect("tmon ends")), 20_000, "{name} by -");

        let fifo = dir.path().join("fifo");
        unistd::mkfifo(&fifo, Mode::S_IRWXU).expect("a FIFO");
        let output = thread::scope(|scope| {
            scope.spawn(|| fs::write(&fifo, bytes).expect("tmon reads all"));
            replay(&fifo)
        });
        assert_eq!(packets(&output), 20_000, "{name} by a FIFO");
        fs::remove_file(&fifo).expect("remove the FIFO");
    }
    let limited = Command::new(TMON)
        .args(["replay", "--json", "--max-size", "1MB"])
        .arg(dir.path().join("a.pcap.gz"))
        .output()
        .expect("run tmon");
    assert_eq!(limited.status.code(), Some(1));
    let said = String::from_utf8_lossy(&limited.stderr);
    assert!(said.lines().count() == 1 && said.contains("unpack to more than 1000000;"), "{said}");
    assert!(packets(&limited) > 5000, "what was read before is counted");
}

#[test]
fn a_truncated_file_is_counted_as_far_as_it_goes() {
    let dir = folder();
    let mut bytes = capture(3);
    let at = bytes.len() - record(&frame()).len();
    bytes.truncate(bytes.len() - 20);
    let output = replay(&write(&dir, "cut.pcap", &bytes));
    assert_eq!((output.status.code(), packets(&output)), (Some(1), 2));
    let said = String::from_utf8_lossy(&output.stderr);
    let expected = format!("cut.pcap: at byte {at}: the capture ends inside a record: ");
    assert!(said.lines().count() == 1 && said.contains(&expected), "{said}");
}

#[test]
fn memory_is_bounded_for_any_input() {
    // Table memory beyond the rows in use is never touched. The rest is 64 MB at most.
    const MOST: u64 = 64 << 10; // kB
    for threads in ["1", "4"] {
        let mut child = Command::new(TMON)
            .args(["replay", "--json", "--threads", threads, "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("run tmon");
        let mut stdin = child.stdin.take().expect("a pipe");
        let mut large = frame();
        large.resize(9000, 0);
        let some = record(&large).repeat(1000);
        stdin.write_all(&HEADER.map(u32::to_le_bytes).concat()).expect("tmon reads");
        for _ in 0..20 {
            stdin.write_all(&some).expect("tmon reads"); // 180 MB in all
        }
        let status = format!("/proc/{}/status", child.id());
        let status = fs::read_to_string(status).expect("it waits for more");
        let most = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).expect("VmHWM");
        let most: u64 = most.trim().trim_end_matches(" kB").parse().expect("a number");
        assert!(most < MOST, "{threads} threads: {most} kB");
        drop(stdin);
        assert_eq!(packets(&child.wait_with_output().expect("tmon ends")), 20_000);
    }
}

#[test]
fn a_hundred_thousand_interfaces_or_a_record_of_gigabytes_end_with_one_line() {
    let dir = folder();
    let block = |kind: u32, body: &[u8]| {
        let length = 12 + body.len() as u32;
        let mut bytes = [kind, length].map(u32::to_le_bytes).concat();
        bytes.extend(body);
        bytes.extend(length.to_le_bytes());
        bytes
    };
    let section = block(
        0x0a0d_0d0a,
        &[&0x1a2b_3c4du32.to_le_bytes()[..], &[1, 0, 0, 0], &[0xff; 8]].concat(),
    );
    let interfaces = block(1, &[1, 0, 0, 0, 0, 0, 0, 0]).repeat(100_000);
    let record = [0, 0, 1 << 31, 1 << 31].map(u32::to_le_bytes).concat();
    for (name, bytes, said) in [
        ("many.pcapng", [section, interfaces].concat(), "more than 65536 interfaces"),
        ("long.pcap", [capture(1), record].concat(), "is implausible"),
    ] {
        let begun = Instant::now();
        let output = replay(&write(&dir, name, &bytes));
        let why = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{why}");
        assert!(why.lines().count() == 1 && why.contains(said), "{why}");
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}

/// Runs a capture command; returns its exit status, its messages, and its output.
fn take(args: &[&str], dir: &TempDir) -> (Option<i32>, String, Vec<u8>) {
    let output =
        Command::new(TMON).arg("capture").args(args).current_dir(dir.path()).output().expect("run");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.lines().count(), 1, "{said}");
    (output.status.code(), said, output.stdout)
}

#[test]
fn packets_are_extracted_into_a_private_file_or_a_pipe() {
    let dir = folder();
    write(&dir, "in.pcap", &capture(9));
    let all = ["-r", "in.pcap", "vni:42", "-w"];
    let of = |out| take(&[&all[..], &[out]].concat(), &dir);
    let (status, said, _) = of("out.pcapng");
    assert_eq!(status, Some(0));
    assert_eq!(said, "tmon: 9 packets read, 9 matched, 9 written to out.pcapng\n");
    let out = dir.path().join("out.pcapng");
    let mode = fs::metadata(&out).expect("it was made").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(packets(&replay(&out)), 9);

    let (status, said, _) = of("out.pcapng");
    assert_eq!(status, Some(1));
    assert!(said.contains("create out.pcapng: it already exists"), "{said}");
    std::os::unix::fs::symlink("elsewhere", dir.path().join("link")).expect("a link");
    assert_eq!(of("link").0, Some(1));
    assert!(!dir.path().join("elsewhere").exists());

    write(&dir, "groups", b"10.0.0.0/8 eu/a\n");
    let of_groups = |text| take(&["-r", "in.pcap", text, "--groups", "groups", "-w", "-"], &dir).1;
    assert_eq!(of_groups("group:eu"), "tmon: 9 packets read, 9 matched, 9 written\n");
    assert!(of_groups("group:us").contains("is not a group of hosts"));
    write(&dir, "groups", b"node-* eu\n");
    assert!(of_groups("group:eu").contains("by addresses and networks alone"));

    let (status, said, bytes) = of("-");
    assert_eq!((status, &said[..]), (Some(0), "tmon: 9 packets read, 9 matched, 9 written\n"));
    assert_eq!(bytes.len() as u64, fs::metadata(&out).expect("it is there").len());

    for (args, said) in [
        (&["-r", "in.pcap", "-w", "x"][..], "no packets are selected"),
        (&["-r", "in.pcap", "port:x", "-w", "x"], "filter, column 6"),
        (&["-r", "in.pcap", "host:nobody", "-w", "x"], "'nobody' is neither an address"),
    ] {
        let output = Command::new(TMON).arg("capture").args(args).current_dir(dir.path()).output();
        let output = output.expect("run tmon");
        assert_eq!(output.status.code(), Some(2), "{args:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{args:?}: {output:?}");
    }
    assert!(!dir.path().join("x").exists(), "no file is created without packets");
}

#[test]
#[allow(unsafe_code)]
fn a_full_disk_keeps_whole_packets() {
    const ROOM: u64 = 1_000_000;
    let dir = folder();
    write(&dir, "in.pcap", &capture(20_000));
    let mut command = Command::new(TMON);
    command.args(["capture", "-r", "in.pcap", "", "-w", "out.pcapng"]).current_dir(dir.path());
    let limit = || {
        // A write beyond the limit fails, like on a full disk, if the signal is ignored.
        let ignore = nix::sys::signal::SigHandler::SigIgn;
        // SAFETY: no handler is run.
        unsafe { nix::sys::signal::signal(nix::sys::signal::Signal::SIGXFSZ, ignore)? };
        let size = nix::sys::resource::Resource::RLIMIT_FSIZE;
        Ok(nix::sys::resource::setrlimit(size, ROOM, ROOM)?)
    };
    // SAFETY: between fork and exec only system calls are made.
    unsafe { command.pre_exec(limit) };
    let output = command.output().expect("run tmon");
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.lines().count() == 1 && said.contains("out.pcapng ends after a complete packet"),
        "{said}"
    );
    let out = dir.path().join("out.pcapng");
    let length = fs::metadata(&out).expect("it was made").len();
    assert!(length <= ROOM && length > ROOM - 1000, "{length}");
    let whole = replay(&out);
    assert!(whole.status.success() && packets(&whole) > 5_000, "{whole:?}");
}

#[test]
fn json_includes_round_trip_times_and_packet_contents() {
    let dir = folder();
    let segment = |back: bool| {
        let (outer, inner) = match back {
            false => ("10.0.0.1 > 10.0.0.2", "192.168.0.1 > 192.168.0.2"),
            true => ("10.0.0.2 > 10.0.0.1", "192.168.0.2 > 192.168.0.1"),
        };
        let (ports, numbers) = if back { ([2u16, 1], [0u32, 110]) } else { ([1, 2], [100, 0]) };
        let mut bytes = ports.map(u16::to_be_bytes).concat();
        bytes.extend(numbers.map(u32::to_be_bytes).concat());
        bytes.extend([0x50, 0x10, 0, 9, 0, 0, 0, 0]);
        bytes.extend(if back { &[][..] } else { &[7; 10] });
        let tunnel = pkt().eth().ip(outer).udp(54321, 4789).vxlan(42).eth();
        tunnel.ip(inner).proto(6).payload(&bytes).bytes()
    };
    let mut file = HEADER.map(u32::to_le_bytes).concat();
    for (back, microseconds) in [(false, 1u32), (true, 1501)] {
        let mut record = record(&segment(back));
        record[4..8].copy_from_slice(&microseconds.to_le_bytes());
        file.extend(record);
    }
    let path = write(&dir, "a.pcap", &file);
    let run = |args: &[&str]| {
        let output = Command::new(TMON).arg("replay").arg(&path).args(args).output().expect("run");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("text")
    };
    let table = run(&["--rtt", "vni:42"]);
    let line = table.lines().last().expect("a line");
    let cells: Vec<_> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
    let time = "1.50 ms";
    let expected = [
        "vxlan 42",
        "192.168.0.1 > 192.168.0.2",
        "1",
        time,
        time,
        time,
        time,
        time,
        "0",
        "0",
        "0",
        "0",
    ];
    assert_eq!(cells, expected, "{table}");
    let json: Value = serde_json::from_str(&run(&["--lens", "", "--json"])).expect("JSON");
    let entries = json["lens"][0]["entries"].as_array().expect("entries");
    let ports = entries.iter().map(|e| [&e["port"], &e["other_port"]]);
    assert!(ports.eq([[&Value::from(1), &Value::from(2)]; 2]), "{json:#}");
    assert_eq!(json["lens_pkts"], 2);
    let json: Value = serde_json::from_str(&run(&["--rtt", "", "--json"])).expect("JSON");
    let [row] = &json["rtt"].as_array().expect("an array")[..] else { panic!("{json:#}") };
    assert_eq!((&row["vni"], &row["inner_sip"]), (&42.into(), &"192.168.0.1".into()));
    assert_eq!((&row["fwd"]["p99_ns"], &row["rev"]["p99_ns"]), (&1_500_000.into(), &Value::Null));
    assert!(
        serde_json::from_str::<Value>(&run(&["--rtt", "vni:7", "--json"])).expect("JSON")["rtt"]
            .is_null()
    );
}
