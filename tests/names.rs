// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names known to the host: of pods by the files of container runtimes, of ids by bridges. Needs
//! root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    path::Path,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use ground::{Ground, Space, inner, own_bpffs, send, until};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};
use testkit::ground;

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).stdin(Stdio::null()).output().unwrap()
}

fn valid(schema: &str, output: &[u8]) -> Value {
    let value: Value = serde_json::from_slice(output).unwrap();
    let path = format!("{}/docs/schema/{schema}.json", env!("CARGO_MANIFEST_DIR"));
    let mut schemas = boon::Schemas::new();
    let schema = boon::Compiler::new().compile(&path, &mut schemas).unwrap();
    schemas.validate(&value, schema).unwrap_or_else(|e| panic!("{e:#}"));
    value
}

const RESULTS: &str = "/var/lib/cni/results";

/// Folders of a separate host, for this thread and the processes that it starts.
fn own_host() {
    own_bpffs();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("tmpfs"), "/var/lib", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir_all(RESULTS).unwrap();
    fs::create_dir_all("/var/lib/cni/networks/cbr0").unwrap();
}

/// As libcni's cache has it.
fn give(pod: &str, address: &str) {
    let result = json!({
        "kind": "cniCacheV1", "containerId": format!("{pod}0123456789abcdef"), "ifName": "eth0",
        "networkName": "cbr0",
        "cniArgs": [["K8S_POD_NAMESPACE", "shop"], ["K8S_POD_NAME", pod]],
        "result": { "cniVersion": "1.0.0", "ips": [{ "address": format!("{address}/24") }] },
    });
    fs::write(format!("{RESULTS}/cbr0-{pod}-eth0"), result.to_string()).unwrap();
}

#[test]
fn pods_have_the_names_of_their_runtime() {
    own_host();
    give("cart-0", "10.244.0.5");
    fs::write("/var/lib/cni/networks/cbr0/10.244.0.6", "feedfacefeedfacefeed\r\neth0").unwrap();
    fs::write(format!("{RESULTS}/half"), "{\"containerId\":\"x").unwrap();
    let out = tmon(&["names", "--json"]);
    assert!(out.status.success(), "{out:?}");
    let all = valid("names", &out.stdout);
    let of = |address: &str| {
        let names = all["names"].as_array().unwrap();
        names.iter().find(|n| n["address"] == address).cloned()
    };
    let name = |address: &str, name: &str, from: &str| {
        Some(json!({ "address": address, "name": name, "from": from }))
    };
    assert_eq!(of("10.244.0.5"), name("10.244.0.5", "shop/cart-0", "cni"));
    assert_eq!(of("10.244.0.6"), name("10.244.0.6", "feedfacefeed", "host-local"));

    // A file that the user names takes precedence, and is named as the source.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "10.244.0.5 basket\n").unwrap();
    let out = tmon(&["names", "10.244.0.5", "--names", file.path().to_str().unwrap()]);
    let text = String::from_utf8(out.stdout).unwrap();
    let lines: Vec<Vec<&str>> = text.lines().map(|l| l.split_whitespace().collect()).collect();
    assert_eq!(
        lines,
        [
            ["ADDRESS", "NAME", "FROM"],
            ["10.244.0.5", "basket", "--names"],
            ["10.244.0.5", "shop/cart-0", "cni"]
        ]
    );
    let out = tmon(&["names", "10.244.0.5", "--no-host-names"]);
    let said = String::from_utf8(out.stderr).unwrap();
    assert_eq!((out.status.code(), said.lines().count()), (Some(1), 1), "{said}");
    assert!(said.contains("no name is known for 10.244.0.5"), "{said}");
}

#[test]
fn later_pods_have_names_as_well() {
    own_host();
    let g = Ground::new();
    let [a, b] = g.sockets(7000);
    let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["dump", "eth0", "--netns", g.a.name(), "--rows", "64", "--json"])
        .args(["--watch", "100ms", "--for", "10m"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut names = || -> Vec<Value> {
        send(&a, &b, 1);
        let reading: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        let flows = reading["flows"].as_array().unwrap();
        flows.iter().map(|f| f["inner_dname"].clone()).collect()
    };
    names();
    give("late", &inner(2).to_string());
    until("it has a name", || names().contains(&"shop/late".into()));
    fs::remove_file(format!("{RESULTS}/cbr0-late-eth0")).unwrap();
    until("it has none any more", || {
        let names = names();
        !names.is_empty() && !names.contains(&"shop/late".into())
    });
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A service of this host: it answers each question, and closes the connection if such services do.
fn serve(path: &str, answer: impl Fn(&str) -> String + Send + 'static, hangs_up: bool) {
    fs::create_dir_all(Path::new(path).parent().unwrap()).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    thread::spawn(move || {
        for mut line in listener.incoming().map_while(Result::ok) {
            let mut question = [0; 4096];
            let n = line.read(&mut question).unwrap_or(0);
            let _ = line.write_all(answer(&String::from_utf8_lossy(&question[..n])).as_bytes());
            if !hangs_up {
                let _ = line.read(&mut question); // until the other side closes
            }
        }
    });
}

/// A /run of this test's own, for the sockets of services.
struct OwnRun;

impl OwnRun {
    fn new() -> OwnRun {
        mount(Some("tmpfs"), "/run", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
        OwnRun
    }
}

impl Drop for OwnRun {
    fn drop(&mut self) {
        let _ = umount2("/run", MntFlags::MNT_DETACH);
    }
}

const OVSDB: &str = "/run/openvswitch/db.sock";

#[test]
fn services_of_this_host_have_names() {
    own_host();
    let _run = OwnRun::new();
    give("cart-0", "10.244.0.5");
    let ovs = |question: &str| {
        let question: Value = serde_json::from_str(question).unwrap();
        assert_eq!(question["params"][0], "Open_vSwitch");
        let row = |id: &str, ip: &str| json!({ "external_ids": ["map", [["iface-id", id], ["ip_addresses", ip]]] });
        let rows = [row("shop_cart-0", "10.244.0.5/24"), row("shop_web-0", "10.244.0.6/24")];
        json!({ "id": question["id"], "result": [{ "rows": rows }], "error": null }).to_string()
    };
    serve(OVSDB, ovs, false);
    let vty = |text: &str| {
        let answer = format!("{text}\0\0\0\0");
        move |question: &str| {
            assert!(question.starts_with("show ") && question.ends_with(" json\0"), "{question:?}");
            answer.clone()
        }
    };
    let vni = |id: u32, kind: &str| json!({ "vni": id, "type": kind, "tenantVrf": "red" });
    let vnis = json!({ "50": vni(50, "L3"), "100": vni(100, "L2") }).to_string();
    serve("/run/frr/zebra.vty", vty(&vnis), false);
    serve("/run/frr/bgpd.vty", vty(r#"{"peers":{"198.51.100.2":{"hostname":"leaf-2"}}}"#), false);
    let networks = json!({ "blue": { "IPAddress": "10.0.1.7", "GlobalIPv6Address": "" } });
    let container = json!([{ "Names": ["/db"], "NetworkSettings": { "Networks": networks } }]);
    serve("/run/docker.sock", move |_| format!("HTTP/1.0 200 OK\r\n\r\n{container}"), true);

    let all = valid("names", &tmon(&["names", "--json", "--docker"]).stdout);
    let names = all["names"].as_array().unwrap();
    for (address, name, from) in [
        ("10.244.0.5", "shop/cart-0", "cni"), // who knows it best
        ("10.244.0.6", "shop_web-0", "ovs"),
        ("198.51.100.2", "leaf-2", "frr"),
        ("10.0.1.7", "db", "docker"),
    ] {
        let name = json!({ "address": address, "name": name, "from": from });
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let id = |id: u32, name: &str| json!({ "id": id, "name": name, "from": "frr" });
    assert_eq!(all["ids"], json!([id(50, "VRF red"), id(100, "L2VNI in VRF red")]));
    // Docker is not queried unless requested, and no service at all if that is turned off.
    let plain = valid("names", &tmon(&["names", "--json"]).stdout).to_string();
    assert!(plain.contains("ovs") && !plain.contains("docker"), "{plain}");
    let none = valid("names", &tmon(&["names", "--json", "--no-host-names"]).stdout).to_string();
    assert!(!none.contains("ovs") && !none.contains("frr"), "{none}");

    // One that accepts a question and never answers costs its time limit, but not the names of
    // others.
    fs::remove_file(OVSDB).unwrap();
    let silent = UnixListener::bind(OVSDB).unwrap();
    let begun = Instant::now();
    let others = valid("names", &tmon(&["names", "--json"]).stdout).to_string();
    assert!(others.contains("leaf-2") && !others.contains("ovs"), "{others}");
    assert!(begun.elapsed() > Duration::from_secs(1), "it was asked");
    drop(silent);
}

/// Its userspace datapath has no devices; what they leave by is in a bridge of its own.
#[test]
fn tunnels_of_open_vswitch_are_found() {
    own_host();
    let space = Space::new("ovs");
    space.ip("link add eth0 type veth peer name x0\nlink set eth0 up\nlink set x0 up\n\
         link add br-phy type bridge\nlink set br-phy up\naddr add 192.0.2.1/24 dev br-phy");
    let _run = OwnRun::new(); // after `space`, whose name is below the other one
    let id = |id: &str| json!(["uuid", id]);
    let options = json!(["map", [["dst_port", "5789"], ["key", "42"], ["remote_ip", "192.0.2.7"]]]);
    let none = json!(["map", []]);
    let answer = json!({ "id": 0, "error": null, "result": [
        { "rows": [{ "_uuid": id("b"), "name": "br-phy", "ports": id("p") }] },
        { "rows": [{ "_uuid": id("p"), "name": "eth0", "interfaces": id("i") }] },
        { "rows": [
            { "_uuid": id("i"), "name": "eth0", "type": "", "options": none },
            { "_uuid": id("v"), "name": "vx1", "type": "vxlan", "options": options },
        ] },
    ] });
    serve(OVSDB, move |_| answer.to_string(), false);
    let run = |args: &[&str]| space.0.within(|| tmon(args)).unwrap();
    let tunnels = valid("tunnels", &run(&["tunnels", "--json"]).stdout);
    let vx1 = tunnels["tunnels"].as_array().unwrap().iter().find(|t| t["name"] == "vx1").unwrap();
    for (field, value) in [
        ("device", json!("ovs vxlan")),
        ("kind", json!("vxlan")),
        ("id", json!(42)),
        ("port", json!(5789)),
        ("remote", json!("192.0.2.7")),
        ("underlay", json!("eth0")),
        ("ifindex", Value::Null),
        ("mtu", Value::Null),
    ] {
        assert_eq!(vx1[field], value, "{field}: {vx1}");
    }
    let table = String::from_utf8(run(&["tunnels"]).stdout).unwrap();
    assert!(table.lines().any(|l| l.starts_with("vx1") && l.contains("ovs vxlan")), "{table}");
    // Without a name of an interface it is what is watched.
    let out = run(&["dump", "--for", "0s", "--rows", "64", "--json"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let reading: Value = serde_json::from_slice(&out.stdout).expect(&said);
    assert_eq!(reading["interfaces"][0]["name"], "eth0", "{reading}");
}

/// What `tests/tools.sh` has unpacked.
fn unpacked(program: &str) -> Command {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let libraries = ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"];
    let mut command = Command::new(tools.join(program));
    command
        .env("LD_LIBRARY_PATH", libraries.map(|l| tools.join(l).display().to_string()).join(":"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

/// A daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs openvswitch-switch: make test-tools unpacks it"]
fn the_real_open_vswitch_is_understood() {
    own_host();
    let _run = OwnRun::new();
    fs::create_dir_all("/run/openvswitch").unwrap();
    let schema = format!(
        "{}/target/tools/usr/share/openvswitch/vswitch.ovsschema",
        env!("CARGO_MANIFEST_DIR")
    );
    assert!(
        unpacked("usr/bin/ovsdb-tool")
            .args(["create", "/run/conf.db", &schema])
            .status()
            .unwrap()
            .success()
    );
    let _ovsdb = Daemon(
        unpacked("usr/sbin/ovsdb-server")
            .args([&format!("--remote=punix:{OVSDB}"), "--unixctl=/run/o.ctl", "/run/conf.db"])
            .spawn()
            .unwrap(),
    );
    until("the database is there", || Path::new(OVSDB).exists());
    let vsctl = |words: &str| {
        let args = ["--no-wait", "--timeout=20", &format!("--db=unix:{OVSDB}")];
        let done =
            unpacked("usr/bin/ovs-vsctl").args(args).args(words.split(' ')).status().unwrap();
        assert!(done.success(), "{words}");
    };
    vsctl("init");
    vsctl("add-br br-int -- set bridge br-int datapath_type=netdev");
    vsctl(
        "add-port br-int p1 -- set interface p1 external_ids:iface-id=shop_web-0 \
         external_ids:ip_addresses=10.244.0.6/24",
    );
    let names = valid("names", &tmon(&["names", "--json"]).stdout);
    let web = json!({ "address": "10.244.0.6", "name": "shop_web-0", "from": "ovs" });
    assert!(names["names"].as_array().unwrap().contains(&web), "{names}");
    vsctl(
        "add-port br-int vx1 -- set interface vx1 type=vxlan options:remote_ip=192.0.2.7 \
         options:key=42 options:dst_port=5789",
    );
    let tunnels = valid("tunnels", &tmon(&["tunnels", "--json"]).stdout);
    let vx1 = tunnels["tunnels"].as_array().unwrap().iter().find(|t| t["name"] == "vx1").unwrap();
    assert_eq!([&vx1["id"], &vx1["port"]], [&json!(42), &json!(5789)], "{vx1}");
}

#[test]
fn ids_are_named_by_their_bridges() {
    let space = Space::new("bridge");
    space.ip("link add br7 type bridge\nlink add vx7 type vxlan id 4711 dstport 4789\n\
         link set vx7 master br7");
    let run = |args: &[&str]| space.0.within(|| tmon(args)).unwrap();
    let names = valid("names", &run(&["names", "--json"]).stdout);
    let id = json!({ "id": 4711, "name": "bridge br7", "from": "interface" });
    assert!(names["ids"].as_array().unwrap().contains(&id), "{names}");
    let tunnels = valid("tunnels", &run(&["tunnels", "--json"]).stdout);
    assert_eq!(tunnels["tunnels"][0]["stands_for"], "bridge br7", "{tunnels}");
    let table = String::from_utf8(run(&["names"]).stdout).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(
        table.lines().any(|l| words(l) == ["vni:4711", "bridge", "br7", "interface"]),
        "{table}"
    );
}

#[test]
fn output_of_other_commands_matches_its_schemas() {
    own_host();
    let g = Ground::new();
    let netns = g.a.name();
    let done = |args: &[&str]| {
        let out = tmon(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    };
    valid("status", &done(&["status", "--json"]));
    done(&["attach", "eth0", "--netns", netns, "--rows", "64"]);
    let status = valid("status", &done(&["status", "--json"]));
    assert_eq!(status["attached"][0]["state"], "counting", "{status}");
    done(&["detach", "--all"]);
    let tunnels = valid("tunnels", &done(&["tunnels", "--json", "--netns", netns]));
    assert_eq!(tunnels["tunnels"][0]["name"], "t0", "{tunnels}");
    valid("check", &tmon(&["check", "--json", "eth0", "--netns", netns]).stdout);
    let capture = concat!(env!("CARGO_MANIFEST_DIR"), "/crates/feed/tests/captures/table.pcap");
    let watch = tmon(&["watch", "--read", capture, "--json"]).stdout;
    let lines: Vec<&[u8]> = watch.split(|b| *b == b'\n').filter(|line| !line.is_empty()).collect();
    assert!(lines.len() > 1);
    lines.iter().for_each(|line| drop(valid("watch", line)));
}
