// SPDX-License-Identifier: MIT OR Apache-2.0
//! Hosts that publish on a message bus, as one picture. In network namespaces; needs root and nft.
//!
//! Ignored tests use a real nats-server, which `make test-tools` unpacks below target/tools.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(all(feature = "live", feature = "nats"))]
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
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
use testkit::{ground::*, nats::NatsServer};

/// A process that ends with its test, with its output.
struct Started(Child, Arc<Mutex<(Vec<Value>, String)>>);

impl Started {
    fn new(command: &mut Command) -> Started {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::<Mutex<(Vec<Value>, String)>>::default();
        let (out, kept) = (BufReader::new(child.stdout.take().unwrap()), Arc::clone(&said));
        thread::spawn(move || {
            let lines = out.lines().map_while(Result::ok);
            lines.for_each(|l| kept.lock().unwrap().0.extend(serde_json::from_str(&l)));
        });
        let (errors, kept) = (BufReader::new(child.stderr.take().unwrap()), Arc::clone(&said));
        thread::spawn(move || {
            errors
                .lines()
                .map_while(Result::ok)
                .for_each(|l| kept.lock().unwrap().1 += &(l + "\n"));
        });
        Started(child, said)
    }

    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.0.id() as i32), signal).unwrap();
    }

    fn said(&self) -> String {
        self.1.lock().unwrap().1.clone()
    }

    /// The sum of a field over everything that was printed.
    fn sum(&self, field: &str) -> u64 {
        let readings = &self.1.lock().unwrap().0;
        let flows = readings.iter().flat_map(|r| r["flows"].as_array().unwrap());
        flows.filter(|f| f["vni"] == 99).filter_map(|f| f[field].as_u64()).sum()
    }

    /// Waits until both hosts report, so that everything from now on is included.
    fn hears_both(&self) {
        until("both are heard", || {
            let last = self.1.lock().unwrap().0.last().cloned().unwrap_or_default();
            let hosts = last["hosts"].as_array().cloned().unwrap_or_default();
            hosts.iter().filter(|h| h["taken"].is_string()).count() == 2
        });
    }

    fn says(&self, words: &str) {
        let begun = Instant::now();
        while !self.said().contains(words) {
            assert!(begun.elapsed() < PATIENCE, "{words} in {}", self.said());
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.0.id() as i32);
        let _ = kill(pid, Signal::SIGCONT);
        let _ = kill(pid, Signal::SIGTERM);
        let _ = self.0.wait();
    }
}

/// Two hosts with a loss of one packet in ten between them.
fn lossy() -> TwoHosts {
    let world = TwoHosts::new();
    world.drop_some();
    world
}

fn publish(url: &str, space: &Space, name: &str, more: &[&str]) -> Started {
    let own = ["publish", "--nats", url, "--as", name, "--netns", space.name(), "eth0"];
    let started = Started::new(tmon().args(own).args(more));
    until("it counts", || space.programs("eth0").len() >= 2);
    started
}

fn tmon() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
    command.env_remove("NATS_URL");
    command
}

fn watch(url: &str, more: &[&str]) -> Started {
    let own = ["dump", "--json", "--watch", "1s", "--nats", url];
    Started::new(tmon().args(own).args(more))
}

fn told(viewer: &Started, sent: u64, received: u64) {
    let begun = Instant::now();
    let sums = || [viewer.sum("tx_pkts"), viewer.sum("rx_pkts")];
    while sums() != [sent, received] {
        let waited = begun.elapsed();
        assert!(waited < PATIENCE, "{:?}, not {:?}: {}", sums(), [sent, received], viewer.said());
        thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_fleet_on_a_bus_survives_an_outage_with_one_longer_interval() {
    let (world, server) = (lossy(), NatsServer::start());
    let a = publish(&server.url(), &world.a, "eu.a", &[]);
    let b = publish(&server.url(), &world.b, "eu.b", &[]);
    until("both hosts say hello", || server.heard(".hello.eu.") >= 2);
    assert_eq!(server.heard(".rows."), 0, "nothing has been requested");
    let viewer = watch(&server.url(), &[]);
    until("both hosts publish rows", || {
        server.heard(".rows.eu.a") > 1 && server.heard(".rows.eu.b") > 1
    });
    viewer.hears_both();
    let sent = world.send(500);
    told(&viewer, sent, sent - world.dropped());
    server.kill();
    [&a, &b].iter().for_each(|p| p.says("unreachable"));
    let sent = sent + world.send(300);
    let before = server.heard(".rows.eu.a");
    thread::sleep(Duration::from_secs(3)); // the length of the outage
    assert_eq!(server.heard(".rows.eu.a"), before);
    server.start_again();
    told(&viewer, sent, sent - world.dropped());
    let list = tmon().args(["fleet", "--json", "--nats", &server.url()]).output().unwrap();
    let list = String::from_utf8(list.stdout).unwrap();
    for name in ["eu.a", "eu.b"] {
        assert!(list.contains(&format!("\"name\":\"{name}\",\"state\":\"live\"")), "{list}");
    }
    // They wait for at most half of the time between readings before they are sent.
    drop(b);
    viewer.says("eu.b has left");
}

#[test]
fn inner_addresses_stay_local_if_asked_and_json_lines_are_published() {
    let (world, server) = (lossy(), NatsServer::start());
    let listener = TcpStream::connect(server.url().trim_start_matches("nats://")).unwrap();
    (&listener).write_all(b"CONNECT {}\r\nSUB tmon.v1.prod.json.> 1\r\nPING\r\n").unwrap();
    let mut lines = BufReader::new(&listener);
    let _a = publish(&server.url(), &world.a, "a", &["--no-rows", "--always", "1s", "--json"]);
    let viewer = watch(&server.url(), &[]);
    until("sums are published", || server.heard(".sum.a") > 2);
    let sent = world.send(100);
    let begun = Instant::now();
    let row = loop {
        assert!(begun.elapsed() < PATIENCE, "a line is printed");
        let mut line = String::new();
        lines.read_line(&mut line).unwrap();
        let Ok(row) = serde_json::from_str::<Value>(&line) else { continue };
        if row["vni"] == 99 {
            break row;
        }
    };
    assert_eq!(
        (&row["inner_sip"], &row["outer_sip"]),
        (&Value::Null, &outer(1).to_string().into())
    );
    let all = || viewer.sum("fwd_pkts") + viewer.sum("rev_pkts");
    until("sums are exact", || all() == sent);
    assert_eq!(server.heard(".rows."), 0);
    let seen = viewer.1.lock().unwrap().0.iter().map(Value::to_string).collect::<String>();
    assert!(!seen.contains("10.9.0.1"), "an inner address left its host");
}

#[test]
fn errors_are_one_line() {
    let said = |args: &[&str]| {
        let out = tmon().args(args).output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(!out.status.success() && said.lines().count() == 1, "{args:?}: {said}");
        said
    };
    assert!(said(&["publish", "lo"]).contains("NATS_URL"));
    assert!(said(&["dump", "--nats", "nats://me:secret@localhost"]).contains("--nats @FILE"));
    assert!(said(&["dump", "--nats", "nats://localhost", "eth0"]).contains("remote hosts choose"));
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    assert!(said(&["dump", "--nats", &format!("nats://{free}")]).contains(&free.to_string()));
    assert!(said(&["fleet", "--nats", "ftp://x"]).contains("nats://HOST:4222"));
    // A bus without a host reports that well before the minute that logging in may take.
    let (server, begun) = (NatsServer::start(), Instant::now());
    assert!(said(&["dump", "--nats", &server.url()]).contains("no answer in 12 s"));
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    let both = tmon().args(["dump", "--nats", &server.url(), "--rtt", "vni:1"]).output().unwrap();
    assert_eq!(both.status.code(), Some(2), "{both:?}");
    let named = tmon().args(["record", "x.tmon", "--as", "x", "--nats", &server.url()]).output();
    assert_eq!(named.unwrap().status.code(), Some(2));
}

#[test]
fn two_hosts_with_one_address_are_counted_and_recorded_together() {
    let (world, server) = (TwoHosts::new(), NatsServer::start());
    // A third host has the address of the second, and one of the two at a time answers.
    let twin = Space::new("t");
    twin.ip(&format!(
        "link add eth0 type veth peer name p0\nlink set p0 up\nlink set eth0 up\naddress add {}/24 dev eth0",
        outer(2)
    ));
    twin.settle();
    let url = server.url();
    let hosts = [
        publish(&url, &world.a, "a", &[]),
        publish(&url, &world.b, "b", &[]),
        publish(&url, &twin, "c", &[]),
    ];
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("night.tmon");
    let viewer = watch(&url, &[]);
    let record = Started::new(tmon().arg("record").arg(&file).args(["--nats", &url]));
    let told = |reading: &Value| {
        let hosts = reading["hosts"].as_array().cloned().unwrap_or_default();
        hosts.iter().filter(|h| h["taken"].is_string()).count() == 3
    };
    let recorded = || {
        let out = tmon().args(["dump", "--json", "--read"]).arg(&file).output().unwrap();
        serde_json::from_slice::<Value>(&out.stdout).unwrap_or_default()
    };
    until("all are heard", || viewer.1.lock().unwrap().0.last().is_some_and(&told));
    until("all are recorded", || told(&recorded()));
    let sent = world.send(200);
    let sum = |reading: &Value, field: &str| -> u64 {
        let flows = reading["flows"].as_array().cloned().unwrap_or_default();
        flows.iter().filter(|f| f["vni"] == 99).filter_map(|f| f[field].as_u64()).sum()
    };
    let both = ["sent_pkts", "received_pkts"];
    until("all of it is reported", || both.map(|field| viewer.sum(field)) == [sent; 2]);
    until("it is recorded", || both.map(|field| sum(&recorded(), field)) == [sent; 2]);
    assert_eq!(viewer.sum("fwd_pkts") + viewer.sum("rev_pkts"), sent, "each packet counts once");
    drop(record);
    drop(hosts);
    let found = tmon().args(["watch", "--json", "--read"]).arg(&file).output().unwrap();
    let found = String::from_utf8(found.stdout).unwrap();
    assert!(!found.contains("lost_between"), "nothing is lost: {found}");
}

/// A nats-server with a configuration of its own.
struct RealServer {
    child: Child,
    port: u16,
    monitor: u16,
    file: PathBuf,
    _folder: tempfile::TempDir,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl RealServer {
    fn start(configuration: impl FnOnce(&Path) -> String) -> RealServer {
        let folder = tempfile::tempdir().unwrap();
        let (port, monitor, file) = (free_port(), free_port(), folder.path().join("nats.conf"));
        let text = configuration(folder.path());
        let all = format!("listen: 127.0.0.1:{port}\nhttp: 127.0.0.1:{monitor}\n{text}");
        fs::write(&file, all).unwrap();
        let child = RealServer::spawn(&file);
        let server = RealServer { child, port, monitor, file, _folder: folder };
        server.is_up();
        server
    }

    fn spawn(file: &Path) -> Child {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools/usr/sbin/nats-server");
        assert!(tool.exists(), "there is no {}: run `make test-tools`", tool.display());
        let mut command = Command::new(tool);
        command.arg("-c").arg(file).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn is_up(&self) {
        until("the server is up", || TcpStream::connect(("127.0.0.1", self.port)).is_ok());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    fn start_again(&mut self) {
        self.child = RealServer::spawn(&self.file);
        self.is_up();
    }

    /// The URL for a user of this name, who logs in with a file.
    fn url(&self, user: &str) -> String {
        let file = self.file.with_file_name(format!("{user}.url"));
        let url = if user.is_empty() { String::new() } else { format!("{user}:{user}@") };
        fs::write(&file, format!("nats://{url}127.0.0.1:{}\n", self.port)).unwrap();
        format!("@{}", file.display())
    }

    /// The number of messages received.
    fn messages(&self) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.monitor)).unwrap();
        stream.write_all(b"GET /varz HTTP/1.0\r\n\r\n").unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).unwrap();
        let body = &text[text.find('{').unwrap()..];
        serde_json::from_str::<Value>(body).unwrap()["in_msgs"].as_u64().unwrap()
    }
}

impl Drop for RealServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The permissions given in docs/FLEET.md.
fn permissions(_: &Path) -> String {
    let node = |name: &str| {
        format!(
            "{{ user: {name}, password: {name}, permissions: {{
                publish: [\"tmon.v1.prod.*.eu.{name}\"],
                subscribe: [\"tmon.v1.prod.want.all\", \"tmon.v1.prod.want.eu.{name}\"] }} }}"
        )
    };
    let noc = "{ user: noc, password: noc, permissions: { publish: [\"tmon.v1.prod.want.>\"],
        subscribe: [\"tmon.v1.prod.hello.>\", \"tmon.v1.prod.sum.>\", \"tmon.v1.prod.rows.>\"] } }";
    format!("authorization {{ users: [ {}, {}, {noc} ] }}", node("a"), node("b"))
}

#[test]
#[ignore = "needs nats-server: make test-tools"]
fn a_real_servers_permissions_hold_and_it_may_be_killed() {
    let (world, mut server) = (lossy(), RealServer::start(permissions));
    let a = publish(&server.url("a"), &world.a, "eu.a", &[]);
    let _b = publish(&server.url("b"), &world.b, "eu.b", &[]);
    let viewer = watch(&server.url("noc"), &[]);
    viewer.hears_both();
    let sent = world.send(500);
    told(&viewer, sent, sent - world.dropped());
    // With the login of one host, in the name of the other.
    let other = publish(&server.url("a"), &world.a, "eu.b", &[]);
    other.says("Permissions Violation");
    drop(other);
    let stranger = tmon().args(["dump", "--nats", &server.url("nobody")]).output().unwrap();
    let said = String::from_utf8(stranger.stderr).unwrap();
    assert!(said.contains("rejects this login"), "{said}");
    server.kill();
    a.says("unreachable");
    let sent = sent + world.send(300);
    thread::sleep(Duration::from_secs(2)); // the length of the outage
    server.start_again();
    told(&viewer, sent, sent - world.dropped());
    // A killed viewer's requests expire half a minute later.
    viewer.signal(Signal::SIGKILL);
    until("the lease has ended", || {
        let before = server.messages();
        thread::sleep(Duration::from_secs(5));
        server.messages() - before <= 2
    });
}

#[test]
#[ignore = "needs nats-server: make test-tools"]
fn a_real_server_cuts_off_a_stalled_viewer_which_comes_back() {
    let (world, server) = (lossy(), RealServer::start(permissions));
    let _a = publish(&server.url("a"), &world.a, "eu.a", &[]);
    let _b = publish(&server.url("b"), &world.b, "eu.b", &[]);
    let viewer = watch(&server.url("noc"), &[]);
    viewer.hears_both();
    viewer.signal(Signal::SIGSTOP);
    thread::sleep(Duration::from_secs(25)); // longer than its lease lasts
    world.send(50);
    viewer.signal(Signal::SIGCONT);
    let before = viewer.1.lock().unwrap().0.len();
    until("it continues", || viewer.1.lock().unwrap().0.len() > before + 2);
    let sums = || ["tx_pkts", "rx_pkts"].map(|field| viewer.sum(field));
    let ([sent, received], lost) = (sums(), world.dropped());
    let more = world.send(100);
    told(&viewer, sent + more, received + more - (world.dropped() - lost));
}

#[test]
#[ignore = "needs nats-server: make test-tools"]
fn tls_to_a_real_server_requires_trust() {
    let openssl = |folder: &Path, args: &str| {
        let out = Command::new("openssl").args(args.split(' ')).current_dir(folder).output();
        let out = out.unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    let make = |folder: &Path| {
        let new = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2";
        openssl(folder, &format!("{new} -subj /CN=ca -keyout ca.key -out ca.pem"));
        for name in ["server", "client"] {
            let own =
                "-addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
            let by = format!("-CA ca.pem -CAkey ca.key -keyout {name}.key -out {name}.pem");
            openssl(folder, &format!("{new} -subj /CN={name} {own} {by}"));
        }
        let at = folder.display();
        format!(
            "tls {{ cert_file: {at}/server.pem, key_file: {at}/server.key, ca_file: {at}/ca.pem, verify: true }}"
        )
    };
    let (world, server) = (lossy(), RealServer::start(make));
    let file = |name: &str| server.file.with_file_name(name).display().to_string();
    let [ca, cert, key] = ["ca.pem", "client.pem", "client.key"].map(file);
    let tls = ["--tls-ca", &ca, "--tls-cert", &cert, "--tls-key", &key];
    let url = format!("tls://127.0.0.1:{}", server.port);
    let _a = publish(&url, &world.a, "eu.a", &tls);
    let _b = publish(&url, &world.b, "eu.b", &tls);
    let viewer = watch(&url, &tls);
    viewer.hears_both();
    let sent = world.send(200);
    told(&viewer, sent, sent - world.dropped());
    let stranger = tmon().args(["dump", "--nats", &url]).output().unwrap();
    assert!(!stranger.status.success(), "it trusts an unknown server");
}
