// SPDX-License-Identifier: MIT OR Apache-2.0
//! The data that `tmon export` gives to other tools, compared with `tmon dump`. Needs root.
//!
//! Ignored tests use the real programs, which `make test-tools` unpacks below target/tools.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::unix::fs::{FileTypeExt, PermissionsExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
};

use frames::{Gre, pkt};
use ground::{Ground, Space, VNI, inject, mac, own_bpffs, send, until};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;
use testkit::{frames, ground};

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn done(args: &[&str]) -> String {
    let out = tmon(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// A test bed on which `tmon attach` counts; its bpffs belongs to this thread and disappears with
/// it.
fn attached() -> Ground {
    let g = Ground::new();
    own_bpffs();
    done(&["attach", "eth0", "--netns", g.a.name(), "--rows", "1024"]);
    g
}

/// A program that runs until the test is done.
struct Running(Child);

impl Running {
    fn tmon(args: &[&str]) -> Running {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        Running(command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }

    /// The address that an exporter reports to listen on.
    fn address(&mut self) -> SocketAddr {
        let mut line = String::new();
        BufReader::new(self.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let at = line
            .trim()
            .strip_prefix("metrics are at http://")
            .and_then(|l| l.strip_suffix("/metrics"));
        at.unwrap_or_else(|| panic!("{line:?} {}", self.said())).parse().unwrap()
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        let _ = self.0.kill();
        self.0.stderr.as_mut().unwrap().read_to_string(&mut text).unwrap();
        text
    }

    /// Ends it like systemd does.
    fn end(mut self) {
        kill(Pid::from_raw(self.0.id() as i32), Signal::SIGTERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn scrape(at: SocketAddr) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: tmon\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, body) = all.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"), "{head}");
    body.to_owned()
}

/// Series and values.
fn series(text: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter(|l| !l.starts_with('#'));
    lines
        .map(|l| l.rsplit_once(' ').map(|(n, v)| (n.to_owned(), v.parse().unwrap())).unwrap())
        .collect()
}

/// Packets and bytes by direction that `tmon dump` has for the test bed's tunnel since attach.
fn dumped(g: &Ground) -> [[u64; 2]; 2] {
    let json: Value =
        serde_json::from_str(&done(&["dump", "eth0", "--netns", g.a.name(), "--json"])).unwrap();
    ["rx", "tx"].map(|way| {
        ["pkts", "bytes"].map(|unit| {
            let flows = json["flows"].as_array().unwrap().iter();
            let own = flows.filter(|f| f["vni"] == VNI);
            own.map(|f| f[format!("{way}_{unit}")].as_u64().unwrap()).sum()
        })
    })
}

/// The same from an exporter's series of the tunnel.
fn exported(all: &BTreeMap<String, u64>, g: &Ground) -> [[u64; 2]; 2] {
    ["rx", "tx"].map(|way| {
        ["packets", "bytes"].map(|unit| {
            let name = format!(
                "tmon_tunnel_{unit}_total{{interface=\"eth0\",netns=\"{}\",kind=\"vxlan\",\
                 id=\"{VNI}\",direction=\"{way}\"}}",
                g.a.name()
            );
            all.get(&name).copied().unwrap_or_default()
        })
    })
}

#[test]
fn metrics_match_dump() {
    let g = attached();
    let [a, b] = g.sockets(7000);
    send(&a, &b, 20);
    let export =
        ["export", "prometheus", "eth0", "--netns", g.a.name(), "--listen", "0", "--peers", "9"];
    let mut exporter = Running::tmon(&export);
    let at = exporter.address();
    assert!(at.ip().is_loopback());
    assert_eq!(exported(&series(&scrape(at)), &g), dumped(&g), "earlier counts are included");

    // A silent client does not delay others.
    let silent = TcpStream::connect(at).unwrap();
    send(&b, &a, 30);
    let wanted = dumped(&g);
    assert_eq!([wanted[0][0], wanted[1][0]], [30, 20]);
    until("the exporter has read", || exported(&series(&scrape(at)), &g) == wanted);
    drop(silent);
    let text = scrape(at);
    let all = series(&text);
    let peer = |way: &str| {
        format!(
            "tmon_peer_packets_total{{interface=\"eth0\",netns=\"{}\",kind=\"vxlan\",id=\"{VNI}\",\
             local=\"10.77.0.1\",remote=\"10.77.0.2\",direction=\"{way}\"}}",
            g.a.name()
        )
    };
    assert_eq!([all[&peer("rx")], all[&peer("tx")]], [30, 20]);
    assert!(!text.contains("10.78.0."), "no inner address");

    // Confined like other readers, and threads that talk to clients have no privilege at all.
    let tasks = fs::read_dir(format!("/proc/{}/task", exporter.0.id())).unwrap();
    let tasks = tasks.map(|t| fs::read_to_string(t.unwrap().path().join("status")).unwrap());
    let tasks: Vec<String> = tasks.collect();
    assert!(tasks.iter().all(|t| t.contains("Seccomp:\t2") && t.contains("NoNewPrivs:\t1")));
    let server = tasks.iter().find(|t| t.contains("Name:\ttmon-scrapes")).unwrap();
    assert!(server.contains("CapPrm:\t0000000000000000"), "{server}");
    exporter.end();

    // After a restart it continues with the kernel's counts.
    let mut exporter = Running::tmon(&export);
    assert_eq!(exported(&series(&scrape(exporter.address())), &g), wanted);
    exporter.end();
}

#[test]
fn the_text_file_is_complete_and_readable_by_all() {
    let g = Ground::new();
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("tmon.prom");
    let path = file.to_str().unwrap();
    let exporter = Running::tmon(&[
        "export",
        "prometheus",
        "eth0",
        "--netns",
        g.a.name(),
        "--textfile",
        path,
        "--every",
        "1s",
    ]);
    let [a, b] = g.sockets(7000);
    let has = |n: u64| {
        let text = fs::read_to_string(&file).unwrap_or_default();
        exported(&series(&text), &g)[1][0] == n
    };
    until("the file is there", || fs::read_to_string(&file).is_ok_and(|t| !t.is_empty()));
    send(&a, &b, 10);
    until("the file has what was sent", || has(10));
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o644);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 1, "nothing is left beside it");
    exporter.end();
    assert!(!file.exists(), "nobody counts any more");
}

#[test]
fn errors_are_one_line() {
    let refused = |args: &[&str]| {
        let out = tmon(&[&["export", "prometheus", "lo"], args].concat());
        let said = String::from_utf8(out.stderr).unwrap();
        assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
        said
    };
    let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = refused(&["--listen", &port]);
    assert!(said.contains("in use") && said.contains("try --listen"), "{said}");
    assert!(refused(&["--listen", "nowhere\x1b.invalid:1"]).contains("listen on nowhere"));
    assert!(refused(&["--textfile", "/nowhere/tmon.prom"]).contains("its folder"));
    assert!(refused(&["--textfile", "/tmp"]).contains("this is a folder"));
    // Another exporter's file stays until there is something better.
    let there = tempfile::Builder::new().suffix(".prom").tempfile().unwrap();
    std::fs::write(&there, "tmon_up 1\n").unwrap();
    let nowhere = ["no-such-interface", "--textfile", there.path().to_str().unwrap()];
    assert!(refused(&nowhere).contains("there is no interface"));
    assert_eq!(std::fs::read_to_string(&there).unwrap(), "tmon_up 1\n");
    let dir = tempfile::tempdir().unwrap();
    let pipe = dir.path().join("pipe.prom");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refused(&["--textfile", pipe.to_str().unwrap()]).contains("not a regular file"));
    assert!(fs::symlink_metadata(&pipe).unwrap().file_type().is_fifo(), "it is as it was");
    for wrong in [
        &["--textfile", "x.prom", "--listen", "1"][..],
        &["--every", "5s"],
        &["--series", "0"],
        &["--peers", "10001"],
    ] {
        let out = tmon(&[&["export", "prometheus", "lo"], wrong].concat());
        assert_eq!(out.status.code(), Some(2), "{wrong:?}: {out:?}");
    }
}

#[test]
fn addresses_other_than_loopback_are_warned_about_once() {
    let g = Ground::new();
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["export", "prometheus", "eth0", "--listen", "10.77.0.1:9469"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let mut exporter = Running(g.a.0.within(run).unwrap().unwrap());
    let at = exporter.address();
    assert!(g.b.0.within(|| scrape(at)).unwrap().contains("tmon_build_info"));
    let said = exporter.said();
    assert_eq!(said.matches("not encrypted").count(), 1, "{said}");
}

/// The JSON of real traffic, with drops and findings, matches docs/schema.
#[test]
fn json_matches_its_schemas() {
    let g = attached();
    let sent = traffic(&g);
    until("all is counted", || counted(&g) == sent);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
    let cases: [(&[&str], &str); 3] = [
        (&["--json", "--drops", "--watch", "1s", "--for", "2s"], "reading.json"),
        (&["--json"], "reading.json"),
        (&["--json=flows", "--drops"], "flow.json"),
    ];
    for (how, schema) in cases {
        let mut schemas = boon::Schemas::new();
        let path = folder.join(schema);
        let schema = boon::Compiler::new().compile(path.to_str().unwrap(), &mut schemas).unwrap();
        let lines = done(&[&["dump", "eth0", "--netns", g.a.name()], how].concat());
        assert!(!lines.is_empty());
        for line in lines.lines() {
            let value: Value = serde_json::from_str(line).unwrap();
            schemas.validate(&value, schema).unwrap_or_else(|e| panic!("{line}: {e:#}"));
        }
    }
}

/// The example in docs/EXPORTS.md.
#[test]
#[ignore = "needs jq: make test-tools"]
fn jq_reads_lines_of_json() {
    let g = attached();
    let sent = traffic(&g);
    until("all is counted", || counted(&g) == sent);
    let line =
        "jq -r '[.taken, .tunnel, .vni, .outer_sip, .outer_dip, .rx_bytes, .tx_bytes] | @csv'";
    let documented =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EXPORTS.md"));
    assert!(documented.unwrap().contains(line));
    let program = env!("CARGO_BIN_EXE_tmon");
    let command = format!("{program} dump eth0 --netns {} --json=flows | {line}", g.a.name());
    let out = Command::new("sh").args(["-c", &command]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let text = String::from_utf8(out.stdout).unwrap();
    let bytes: u64 = text
        .lines()
        .flat_map(|l| l.rsplit(',').take(2).map(|n| n.parse::<u64>().unwrap()).collect::<Vec<_>>())
        .sum();
    assert_eq!(bytes, rows(&g).iter().map(|r| r.7).sum::<u64>(), "{text}");
}

/// A program of the Python environment that `tests/tools.sh` creates.
fn python() -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/python/bin/python"))
}

/// The query in docs/EXPORTS.md.
#[test]
#[ignore = "needs duckdb: make test-tools"]
fn duckdb_reads_lines_of_json() {
    let g = attached();
    let sent = traffic(&g);
    until("all is counted", || counted(&g) == sent);
    let query = "SELECT vni, sum(rx_bytes) + sum(tx_bytes) FROM read_json('flows.jsonl', columns = \
                 {vni: 'UINTEGER', rx_bytes: 'UBIGINT', tx_bytes: 'UBIGINT', counted_on: 'VARCHAR'}) \
                 WHERE counted_on IS NULL GROUP BY vni";
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EXPORTS.md");
    assert!(fs::read_to_string(manual).unwrap().contains(query));
    let folder = tempfile::tempdir().unwrap();
    let lines = done(&["dump", "eth0", "--netns", g.a.name(), "--json=flows"]);
    fs::write(folder.path().join("flows.jsonl"), lines).unwrap();
    let script = "import duckdb, sys; print(*duckdb.sql(sys.argv[1]).fetchall())";
    let out = python().current_dir(folder.path()).args(["-c", script, query]).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let mut sums = BTreeMap::new();
    for row in rows(&g) {
        *sums.entry(row.4).or_insert(0) += row.7;
    }
    let said = String::from_utf8(out.stdout).unwrap();
    assert!(!sums.is_empty());
    for (id, bytes) in &sums {
        assert!(said.contains(&format!("({id}, {bytes})")), "{said}: {sums:?}");
    }
}

/// The models drop whatever they do not know.
#[test]
#[ignore = "needs the models of grafana-foundation-sdk: make test-tools"]
fn grafanas_models_read_the_dashboard_back() {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/grafana.py");
    let out = python().arg(script).arg(packaged("grafana/tmon.json")).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stdout));
}

/// A row's packets in one direction, as collectors have them: inner source and destination, outer
/// ones, id, whether they leave, packets, bytes.
type Record = (String, String, String, String, u64, bool, u64, u64);

/// What `tmon dump` reports, in the same form. The test bed's first end has the lower addresses.
fn rows(g: &Ground) -> Vec<Record> {
    let json: Value =
        serde_json::from_str(&done(&["dump", "eth0", "--netns", g.a.name(), "--json"])).unwrap();
    let mut rows = Vec::new();
    for flow in json["flows"].as_array().unwrap() {
        let n = |name: &str| flow[name].as_u64().unwrap_or_default();
        let text = |name: &str| flow[name].as_str().unwrap_or_default().to_owned();
        let [a, b] = ["inner_sip", "inner_dip"].map(text);
        let [from, to] = ["outer_sip", "outer_dip"].map(text);
        assert_eq!((n("fwd_pkts"), n("rev_pkts")), (n("tx_pkts"), n("rx_pkts")), "{flow}");
        if n("tx_pkts") > 0 {
            let (a, b, from, to) = (a.clone(), b.clone(), from.clone(), to.clone());
            rows.push((a, b, from, to, n("vni"), true, n("tx_pkts"), n("tx_bytes")));
        }
        if n("rx_pkts") > 0 {
            rows.push((b, a, to, from, n("vni"), false, n("rx_pkts"), n("rx_bytes")));
        }
    }
    rows.sort();
    rows
}

/// Sends packets of all families and several kinds both ways; returns how many.
fn traffic(g: &Ground) -> u64 {
    let mut sent = 0;
    for (space, own) in g.ends() {
        let (raw, index) = (space.raw(), space.link("eth0").index);
        for (v6_out, v6_in) in [(false, false), (false, true), (true, false), (true, true)] {
            let ends = |v6: bool, net: u8| {
                let of = |n: u8| match v6 {
                    true => format!("fd{net}::{n}"),
                    false => format!("10.{net}.0.{n}"),
                };
                format!("{} > {}", of(own), of(3 - own))
            };
            let eth = || pkt().eth().set(0, &mac(1, 3 - own)).set(6, &mac(1, own));
            let outside = || eth().ip(&ends(v6_out, 77));
            let inside = || eth().ip(&ends(v6_in, 78)).udp(1, 2).data(40);
            let vxlan = outside().udp(50_000, 4789).vxlan(10_003).then(inside());
            let geneve = outside().udp(50_000, 6081).geneve(77).then(inside());
            let gretap = outside().gre(Gre { key: Some(5), ..Gre::default() }).then(inside());
            for (n, frame) in [(3, vxlan), (2, geneve), (1, gretap)] {
                for _ in 0..n * u64::from(own) {
                    assert_eq!(inject(&raw, index, &frame.bytes()), 1, "the veth has room");
                    sent += 1;
                }
            }
        }
    }
    sent
}

/// The packets that the hooks have counted.
fn counted(g: &Ground) -> u64 {
    rows(g).iter().map(|r| r.6).sum()
}

/// Exports what `traffic` sends, and returns the messages.
fn messages(g: &Ground, more: &[&str]) -> Vec<Vec<u8>> {
    g.a.run("ip", "link set lo up");
    let bind = || {
        let udp = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        (udp, TcpListener::bind(("127.0.0.1", 0)).unwrap())
    };
    let (udp, tcp) = g.a.0.within(bind).unwrap();
    let by_tcp = more.contains(&"--tcp");
    let at = if by_tcp { tcp.local_addr() } else { udp.local_addr() }.unwrap().to_string();
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["export", "ipfix", &at, "eth0", "--every", "1s", "--netns", g.a.name()]);
        command.args(more).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()
    };
    let mut exporter = Running(g.a.0.within(start).unwrap().unwrap());
    let mut line = String::new();
    BufReader::new(exporter.0.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("records go to 127.0.0.1"), "{line} {}", exporter.said());
    let before = counted(g);
    let connection = by_tcp.then(|| tcp.accept().unwrap().0);
    let sent = traffic(g);
    until("all is counted", || counted(g) == before + sent);
    exporter.end(); // with the last interval
    let mut messages = Vec::new();
    if let Some(mut stream) = connection {
        let mut all = Vec::new();
        stream.read_to_end(&mut all).unwrap();
        let mut rest = &all[..];
        while !rest.is_empty() {
            let (one, more) = rest.split_at(usize::from(u16::from_be_bytes([rest[2], rest[3]])));
            messages.push(one.to_vec());
            rest = more;
        }
        return messages;
    }
    udp.set_nonblocking(true).unwrap(); // loopback has delivered what was sent
    let mut bytes = [0; 2000];
    while let Ok(n) = udp.recv(&mut bytes) {
        assert!(n <= 1400, "{n} bytes are fragmented on the way");
        messages.push(bytes[..n].to_vec());
    }
    messages
}

/// A capture of messages as they were sent, without a link header.
fn capture(messages: &[Vec<u8>], tcp: bool) -> tempfile::NamedTempFile {
    let mut file = Vec::from(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 101, 0, 0, 0]);
    let mut sequence = 1u32;
    for message in messages {
        let mut segment = [4739u16, 4739].map(u16::to_be_bytes).concat();
        if tcp {
            segment.extend(sequence.to_be_bytes());
            segment.extend([0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
        } else {
            segment.extend((8 + message.len() as u16).to_be_bytes());
            segment.extend([0; 2]);
        }
        segment.extend(message);
        sequence += message.len() as u32;
        let mut packet = vec![0x45, 0];
        packet.extend((20 + segment.len() as u16).to_be_bytes());
        packet.extend([0, 0, 0, 0, 64, if tcp { 6 } else { 17 }, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
        packet.extend(segment);
        file.extend([0; 8]);
        file.extend([packet.len() as u32; 2].map(u32::to_le_bytes).concat());
        file.extend(packet);
    }
    let made = tempfile::NamedTempFile::new().unwrap();
    fs::write(made.path(), file).unwrap();
    made
}

/// A program that `make test-tools` has unpacked.
fn tool(name: &str) -> PathBuf {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr");
    let at = ["bin", "sbin"].map(|d| tools.join(d).join(name)).into_iter().find(|p| p.exists());
    at.unwrap_or_else(|| panic!("{name} is not below target/tools: run `make test-tools`"))
}

fn packaged(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name)
}

fn promtool(args: &[&str], input: &str) -> String {
    let mut command = Command::new(tool("promtool"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let out = child.wait_with_output().unwrap();
    let said = [out.stdout, out.stderr].map(|o| String::from_utf8(o).unwrap()).concat();
    assert!(out.status.success(), "promtool {args:?}: {said}");
    said
}

/// The answer of a Prometheus in this namespace.
fn query(space: &Space, path: &str) -> Value {
    let url = format!("http://127.0.0.1:9090/api/v1/{path}");
    match space.try_run("curl", &["-sS", "-g", "-m", "20", &url]) {
        Ok(answer) => serde_json::from_str(&answer).unwrap_or(Value::Null),
        Err(_) => Value::Null, // not yet
    }
}

#[test]
#[ignore = "needs Prometheus: make test-tools"]
fn a_real_prometheus_agrees_with_dump() {
    let g = attached();
    g.a.run("ip", "link set lo up");
    let [a, b] = g.sockets(7000);
    send(&a, &b, 20);
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("prometheus.yml");
    let rules = packaged("prometheus/rules.yml");
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs:\n- job_name: tmon\n  static_configs: [{{targets: ['127.0.0.1:9469']}}]\n"
        ),
    )
    .unwrap();
    promtool(&["check", "config", config.to_str().unwrap()], "");
    let start = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.args(["export", "prometheus", "eth0", "--netns", g.a.name(), "--peers", "9"]);
        let exporter = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut command = Command::new(tool("prometheus"));
        command
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join("data").display()))
            .args(["--web.listen-address=127.0.0.1:9090"])
            .stdout(Stdio::null())
            .stderr(fs::File::create(dir.path().join("log"))?);
        Ok::<_, std::io::Error>((Running(exporter), Running(command.spawn()?)))
    };
    let (mut exporter, _prometheus) = g.a.0.within(start).unwrap().unwrap();
    let at = exporter.address();
    send(&b, &a, 30);
    let wanted = dumped(&g);
    let answered = || {
        ["rx", "tx"].map(|way| {
            ["packets", "bytes"].map(|unit| {
                let expr = format!(
                    "query?query=sum(tmon_tunnel_{unit}_total{{id=\"{VNI}\",direction=\"{way}\"}})"
                );
                let answer = query(&g.a, &expr);
                let value = answer["data"]["result"][0]["value"][1].as_str();
                value.map_or(0, |v| v.parse().unwrap())
            })
        })
    };
    until("Prometheus answers what dump says", || answered() == wanted);
    // It has every series, and the books close in its own terms.
    let all = g.a.0.within(|| scrape(at)).unwrap();
    let names = query(&g.a, "query?query=count({__name__=~\"tmon_.*\"})");
    let known = names["data"]["result"][0]["value"][1].as_str().map(str::to_owned);
    let recorded = query(&g.a, "query?query=count({__name__=~\"tmon:.*\"})");
    assert_eq!(recorded["status"], "success");
    assert_eq!(known.unwrap().parse::<usize>().unwrap(), series(&all).len());
    let books = "query?query=sum(tmon_interface_packets_total{state=\"counted\"})\
                 -sum(tmon_tunnel_packets_total)";
    assert_eq!(query(&g.a, books)["data"]["result"][0]["value"][1], "0");
    // All rules are evaluated, and none fails.
    until("rules are evaluated", || {
        let rules = query(&g.a, "rules");
        let groups = rules["data"]["groups"].as_array().cloned().unwrap_or_default();
        let rules: Vec<Value> =
            groups.iter().flat_map(|g| g["rules"].as_array().cloned().unwrap()).collect();
        assert!(rules.iter().all(|r| r["health"] != "err"), "{rules:#?}");
        !rules.is_empty() && rules.iter().all(|r| r["health"] == "ok")
    });
    assert_eq!(promtool(&["check", "metrics"], &all), "", "promtool has nothing to say");
}

#[test]
#[ignore = "needs Prometheus: make test-tools"]
fn alert_rules_work() {
    let rules = packaged("prometheus/rules.yml");
    promtool(&["check", "rules", rules.to_str().unwrap()], "");
    let tests = packaged("prometheus/rules_test.yml");
    promtool(&["test", "rules", tests.to_str().unwrap()], "");
    // So are the dashboard's expressions.
    let mut rules = String::from("groups:\n- name: dashboard\n  rules:\n");
    for (n, expr) in expressions().iter().enumerate() {
        let expr = expr.replace("$__rate_interval", "5m").replace("$__range", "1h");
        rules +=
            &format!("  - record: tmon:dashboard:{n}\n    expr: {}\n", serde_json::json!(expr));
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "");
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(packaged("grafana/tmon.json")).unwrap()).unwrap()
}

fn expressions() -> Vec<String> {
    let board = dashboard();
    let panels = board["panels"].as_array().unwrap().iter();
    let targets = panels.flat_map(|p| p["targets"].as_array().cloned().unwrap_or_default());
    targets.map(|t| t["expr"].as_str().unwrap().to_owned()).collect()
}

/// What Wireshark reads, over all records.
fn shark(messages: &[Vec<u8>], tcp: bool) -> Vec<serde_json::Map<String, Value>> {
    let file = capture(messages, tcp);
    let port = if tcp { "tcp.port==4739,cflow" } else { "udp.port==4739,cflow" };
    let out = Command::new("tshark")
        .args(["-d", port, "-T", "json", "--no-duplicate-keys", "-r"])
        .arg(file.path())
        .output()
        .unwrap();
    assert!(out.status.success(), "{out:?}");
    let all: Value = serde_json::from_slice(&out.stdout).unwrap();
    let mut records = Vec::new();
    fn find(value: &Value, records: &mut Vec<serde_json::Map<String, Value>>) {
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    match value {
                        Value::Object(flow) if key.starts_with("Flow ") => {
                            records.push(flow.clone())
                        }
                        value => find(value, records),
                    }
                }
            }
            Value::Array(all) => all.iter().for_each(|v| find(v, records)),
            _ => {}
        }
    }
    let text = all.to_string();
    assert!(!text.contains("_ws.malformed") && !text.contains("expert.severity"), "{text}");
    find(&all, &mut records);
    records
}

/// An address as hexadecimal bytes: how Wireshark shows elements that it does not know.
fn address(bytes: &str) -> String {
    let bytes: Vec<u8> =
        bytes.split(':').map(|b| u8::from_str_radix(b, 16).unwrap_or_default()).collect();
    let v4 = <[u8; 4]>::try_from(&bytes[..]).map(|b| Ipv4Addr::from(b).to_string());
    v4.or_else(|_| <[u8; 16]>::try_from(&bytes[..]).map(|b| Ipv6Addr::from(b).to_string()))
        .unwrap_or_default()
}

/// The records in a flow as shown by Wireshark: one, or the two of a biflow.
fn shark_records(flow: &serde_json::Map<String, Value>) -> Vec<Record> {
    let all = |name: &str| match flow.get(name) {
        Some(Value::Array(all)) => all.iter().filter_map(Value::as_str).collect(),
        Some(Value::String(one)) => vec![one.as_str()],
        _ => Vec::new(),
    };
    let one = |names: [&str; 2]| names.map(|n| all(n).join(" ")).concat();
    let number = |text: &str| text.parse::<u64>().unwrap();
    // Type, key, outer source, outer destination, protocol.
    let tunnel = all("cflow.enterprise_private_entry");
    let [from, to] = [address(tunnel[2]), address(tunnel[3])];
    assert_eq!(one(["cflow.bgpnexthop", "cflow.bgpnexthopv6"]), to);
    let a = one(["cflow.srcaddr", "cflow.srcaddrv6"]);
    let b = one(["cflow.dstaddr", "cflow.dstaddrv6"]);
    let id = number(&one(["cflow.ingress_vrfid", ""]));
    let (packets, bytes) = (all("cflow.packets"), all("cflow.octets"));
    let counts: Vec<_> =
        packets.into_iter().map(number).zip(bytes.into_iter().map(number)).collect();
    match counts[..] {
        [(packets, bytes)] => {
            vec![(a, b, from, to, id, one(["cflow.direction", ""]) == "1", packets, bytes)]
        }
        [(packets, bytes), back] => vec![
            (a.clone(), b.clone(), from.clone(), to.clone(), id, true, packets, bytes),
            (b, a, to, from, id, false, back.0, back.1),
        ],
        _ => panic!("{flow:#?}"),
    }
}

#[test]
#[ignore = "needs tshark: make test-tools"]
fn wireshark_reads_every_row() {
    for more in [&[][..], &["--tcp"], &["--biflow"]] {
        let g = attached();
        let messages = messages(&g, more);
        let flows = shark(&messages, more.contains(&"--tcp"));
        let mut found: Vec<Record> = flows.iter().flat_map(shark_records).collect();
        found.sort();
        assert_eq!(found, rows(&g), "{more:?}");
        assert_eq!(found.len(), 24, "three kinds, four families, both ways");
    }
}

/// Sends messages to a collector in a namespace until it has received them all.
fn give(g: &Ground, port: u16, messages: &[Vec<u8>]) {
    let send = || {
        let socket = UdpSocket::bind(("127.0.0.1", 0)).unwrap();
        for message in messages {
            socket.send_to(message, ("127.0.0.1", port)).unwrap();
        }
    };
    // Wait until it listens before sending.
    let wanted = format!(":{port:04X} ");
    let listens =
        || g.a.0.within(|| fs::read_to_string("/proc/thread-self/net/udp")).unwrap().unwrap();
    until("the collector listens", || listens().contains(&wanted));
    g.a.0.within(send).unwrap();
}

#[test]
#[ignore = "needs nfdump: make test-tools"]
fn nfdump_reads_every_row() {
    for biflow in [false, true] {
        let g = attached();
        let messages = messages(&g, if biflow { &["--biflow"] } else { &[] });
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_str().unwrap();
        let start = || {
            let mut command = Command::new("nfcapd");
            command.args(["-b", "127.0.0.1", "-p", "9995", "-w", path, "-T", "all"]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
        };
        let collector = Running(g.a.0.within(start).unwrap().unwrap());
        give(&g, 9995, &messages);
        // It reads its socket before it ends, and then names its file.
        let queue =
            || g.a.0.within(|| fs::read_to_string("/proc/thread-self/net/udp")).unwrap().unwrap();
        until("the collector has read", || {
            let queue = queue();
            let line = queue.lines().find(|l| l.contains(":270B ")).unwrap();
            line.split_whitespace().nth(4).is_some_and(|q| q.ends_with(":00000000"))
        });
        collector.end();
        let format = "fmt:%sa;%da;%nhb;%ivrf;%in;%out;%pkt;%byt;%opkt;%obyt";
        let out =
            Command::new("nfdump").args(["-R", path, "-N", "-6", "-q", "-o", format]).output();
        let out = String::from_utf8(out.unwrap().stdout).unwrap();
        let mut found = Vec::new();
        for line in out.lines().filter(|l| l.contains(';')) {
            let words: Vec<&str> = line.split(';').map(str::trim).collect();
            let n = |at: usize| words[at].parse::<u64>().unwrap_or_else(|_| panic!("{out}"));
            let (a, b, to) = (words[0].to_owned(), words[1].to_owned(), words[2].to_owned());
            let leaves = biflow || n(5) > 0;
            found.push((a.clone(), b.clone(), String::new(), to, n(3), leaves, n(6), n(7)));
            if biflow {
                found.push((b, a, String::new(), String::new(), n(3), false, n(8), n(9)));
            }
        }
        // What nfdump has no field for: the outer source, and that of the reverse direction.
        let wanted = rows(&g).into_iter().map(|mut r| {
            r.2.clear();
            if biflow && !r.5 {
                r.3.clear();
            }
            r
        });
        let mut wanted: Vec<Record> = wanted.collect();
        wanted.sort();
        found.sort();
        assert_eq!(found, wanted, "{out}");
    }
}

/// A program with children of its own, which it ends when it is interrupted.
struct Parent(Running);

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = kill(Pid::from_raw(self.0.0.id() as i32), Signal::SIGINT);
        let _ = self.0.0.wait();
    }
}

/// What nfacctd makes of messages, with these primitives, once it has this many packets.
fn pmacct(g: &Ground, messages: &[Vec<u8>], primitives: &str, packets: u64) -> Vec<Record> {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name).display().to_string();
    fs::write(
        at("nfacctd.conf"),
        format!(
            "daemonize: false\nnfacctd_ip: 127.0.0.1\nnfacctd_port: 9996\nplugins: print\n\
             aggregate_primitives: {}\n\
             aggregate: src_host, dst_host, peer_dst_ip, in_iface, out_iface, tunnel_id, tunnel_type, \
             tunnel_key, tunnel_src, tunnel_dst\n\
             print_output: json\nprint_output_file: {}\nprint_output_file_append: true\n\
             print_refresh_time: 1\n",
            packaged(primitives).display(),
            at("out.json")
        ),
    )
    .unwrap();
    let start = || {
        let mut command = Command::new(tool("nfacctd"));
        let libraries = tool("nfacctd").with_file_name("../lib/x86_64-linux-gnu");
        command.env("LD_LIBRARY_PATH", libraries).args(["-f", &at("nfacctd.conf")]);
        command.stdout(Stdio::null()).stderr(fs::File::create(at("log"))?).spawn()
    };
    let _collector = Parent(Running(g.a.0.within(start).unwrap().unwrap()));
    // Messages that its core reads before the plugin is ready are lost.
    let log = || fs::read_to_string(at("log")).unwrap_or_default();
    until("its plugin is there", || log().contains("setting object handlers"));
    give(g, 9996, messages);
    let read = || {
        let text = fs::read_to_string(at("out.json")).unwrap_or_default();
        let lines = text.lines().filter_map(|l| serde_json::from_str::<Value>(l).ok());
        let record = |v: Value| -> Record {
            let text = |name: &str| v[name].as_str().unwrap_or_default().to_owned();
            let n = |name: &str| {
                let number = v[name].as_u64();
                number.or_else(|| v[name].as_str().and_then(|t| t.parse().ok())).unwrap()
            };
            let (from, to) = (text("tunnel_src"), text("tunnel_dst"));
            assert_eq!(n("tunnel_id"), n("tunnel_key"), "{v}");
            // Beside inner IPv6 it is mapped, and beside inner IPv4 an IPv6 one is not read.
            let peer = text("peer_ip_dst");
            let peer = peer.strip_prefix("::ffff:").unwrap_or(&peer);
            assert!(peer.is_empty() || peer == to || ["::", "0.0.0.0"].contains(&&*to), "{v}");
            let leaves = n("iface_out") > 0;
            let (a, b) = (text("ip_src"), text("ip_dst"));
            (a, b, from, to, n("tunnel_id"), leaves, n("packets"), n("bytes"))
        };
        let mut all: Vec<Record> = lines.map(record).collect();
        all.sort();
        all
    };
    until("pmacct has written all", || read().iter().map(|r| r.6).sum::<u64>() >= packets);
    read()
}

#[test]
#[ignore = "needs pmacct: make test-tools"]
fn pmacct_reads_every_row() {
    let g = attached();
    let messages = messages(&g, &[]);
    let all = rows(&g);
    let packets = all.iter().map(|r| r.6).sum();
    for (primitives, v6) in [("pmacct/primitives.lst", false), ("pmacct/primitives6.lst", true)] {
        let of_family = |r: &&Record| r.2.contains(':') == v6;
        let wanted: Vec<&Record> = all.iter().filter(of_family).collect();
        let found = pmacct(&g, &messages, primitives, packets);
        let none = if v6 { "::" } else { "0.0.0.0" };
        let found: Vec<&Record> = found.iter().filter(|r| r.2 != none).collect();
        assert_eq!(found, wanted, "{primitives}");
        assert_eq!(found.len(), 12);
    }
}

/// The dashboard and the rules use only metrics that the exporter has.
#[test]
fn dashboard_and_rules_ask_for_metrics_that_exist() {
    let known =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/EXPORTS.md")).unwrap();
    let rules = fs::read_to_string(packaged("prometheus/rules.yml")).unwrap();
    let mut asked = 0;
    for text in expressions().iter().chain([&rules]) {
        for name in text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':') {
            if name.starts_with("tmon_") {
                assert!(known.contains(&format!("`{name}`")), "{name} is not in docs/EXPORTS.md");
                asked += 1;
            }
        }
    }
    assert!(asked > 10);
    // Each panel has a place of its own and the unit that its legend needs.
    let board = dashboard();
    let mut ids: Vec<u64> =
        board["panels"].as_array().unwrap().iter().map(|p| p["id"].as_u64().unwrap()).collect();
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    for panel in board["panels"].as_array().unwrap() {
        let place = &panel["gridPos"];
        let [x, w] = ["x", "w"].map(|k| place[k].as_u64().unwrap());
        assert!(x + w <= 24 && !panel["title"].as_str().unwrap().is_empty(), "{panel}");
        assert!(panel["type"].is_string() && panel["datasource"]["uid"] == "${datasource}");
    }
}
