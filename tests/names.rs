// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names known to the host: of pods by the files of container runtimes, of ids by bridges. Needs
//! root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixListener,
    path::{Path, PathBuf},
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

/// A result as in libcni's cache.
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

/// A service of this host: it answers each question, and closes the connection if the real one
/// does.
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
    let entry = json!({ "cidr": "10.0.9.5/32", "identity": 7, "metadata": { "name": "far-0", "namespace": "shop" } });
    let node = json!({ "name": "node-9", "primary-address": { "ipv4": { "ip": "198.51.100.9" } } });
    let cilium = move |question: &str| {
        let answer = match question.split(' ').nth(1) {
            Some("/v1/ip") => json!([entry]),
            Some("/v1/cluster/nodes") => json!({ "nodes-added": [node] }),
            _ => panic!("{question}"),
        };
        format!("HTTP/1.0 200 OK\r\n\r\n{answer}")
    };
    serve("/run/cilium/cilium.sock", cilium, true);
    let southbound = |question: &str| {
        let question: Value = serde_json::from_str(question).unwrap();
        assert_eq!(question["params"][0], "OVN_Southbound");
        let ids = json!(["map", [["pod", "shop/web-7"]]]);
        let port = json!({ "logical_port": "web-7.shop", "mac": "0a:00:00:00:00:01 10.16.0.7", "external_ids": ids });
        let ids = json!(["map", [["logical-switch", "x"], ["name", "blue"]]]);
        let datapath = json!({ "tunnel_key": 7, "external_ids": ids });
        json!({ "id": 0, "error": null, "result": [{ "rows": [port] }, { "rows": [datapath] }] })
            .to_string()
    };
    serve("/run/ovn/ovnsb_db.sock", southbound, false);
    let networks = json!({ "blue": { "IPAddress": "10.0.1.7", "GlobalIPv6Address": "" } });
    let container = json!([{ "Names": ["/db"], "NetworkSettings": { "Networks": networks } }]);
    serve("/run/docker.sock", move |_| format!("HTTP/1.0 200 OK\r\n\r\n{container}"), true);

    let all = valid("names", &tmon(&["names", "--json", "--docker"]).stdout);
    let names = all["names"].as_array().unwrap();
    for (address, name, from) in [
        ("10.244.0.5", "shop/cart-0", "cni"), // the most reliable source
        ("10.244.0.6", "shop_web-0", "ovs"),
        ("198.51.100.2", "leaf-2", "frr"),
        ("10.0.1.7", "db", "docker"),
        ("10.0.9.5", "shop/far-0", "cilium"),
        ("198.51.100.9", "node-9", "cilium"),
        ("10.16.0.7", "shop/web-7", "ovn"),
    ] {
        let name = json!({ "address": address, "name": name, "from": from });
        assert!(names.contains(&name), "{name} in {names:?}");
    }
    let id = |id: u32, name: &str, from: &str| {
        let other = if from == "ovn" { "geneve" } else { "vxlan-gpe" };
        json!({ "id": id, "kinds": ["vxlan", other], "name": name, "from": from })
    };
    let blue = id(7, "bridge blue", "ovn");
    assert_eq!(
        all["ids"],
        json!([blue, id(50, "VRF red", "frr"), id(100, "L2VNI in VRF red", "frr")])
    );
    // Docker is not queried unless requested, and no service at all if that is turned off.
    let plain = valid("names", &tmon(&["names", "--json"]).stdout).to_string();
    assert!(plain.contains("ovs") && !plain.contains("docker"), "{plain}");
    let none = valid("names", &tmon(&["names", "--json", "--no-host-names"]).stdout).to_string();
    assert!(!none.contains("ovs") && !none.contains("frr"), "{none}");

    // A service that accepts a question and never answers costs its time limit, but not the names
    // of others.
    // others.
    fs::remove_file(OVSDB).unwrap();
    let silent = UnixListener::bind(OVSDB).unwrap();
    let begun = Instant::now();
    let out = tmon(&["names", "--json", "--cri=/run/nobody.sock"]);
    let others = valid("names", &out.stdout).to_string();
    assert!(others.contains("leaf-2") && !others.contains("ovs"), "{others}");
    assert!(begun.elapsed() > Duration::from_secs(1), "it was asked");
    let said = String::from_utf8(out.stderr).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    let ovs = "tmon: ovs has no names: /run/openvswitch/db.sock: no answer in 2 s";
    let cri = "tmon: cri has no names: /run/nobody.sock: No such file or directory";
    assert!(lines.len() == 2 && lines[0] == ovs && lines[1].starts_with(cri), "{said}");
    drop(silent);
}

/// The services and the folder of a container runtime appear only after tmon has confined itself.
#[test]
fn services_that_come_later_have_names_as_well() {
    own_host();
    let g = Ground::new();
    let _run = OwnRun::new(); // after `g`, whose names are below the other one
    let [a, b] = g.sockets(7000);
    fs::remove_dir_all("/var/lib/cni").unwrap();
    let mut child = g
        .a
        .0
        .within(|| {
            Command::new(env!("CARGO_BIN_EXE_tmon"))
                .args([
                    "dump", "eth0", "--rows", "64", "--json", "--watch", "100ms", "--for", "10m",
                ])
                .stdout(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut names = |which: &str| -> Vec<Value> {
        send(&a, &b, 1);
        let reading: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
        reading["flows"].as_array().unwrap().iter().map(|f| f[which].clone()).collect()
    };
    names("inner_dname");
    fs::create_dir_all(RESULTS).unwrap();
    give("late", &inner(2).to_string());
    until("its file is read", || names("inner_dname").contains(&"shop/late".into()));
    let source = inner(1).to_string();
    let ids = json!(["map", [["iface-id", "port-1"], ["ip_addresses", source]]]);
    let answer =
        json!({ "id": 0, "result": [{ "rows": [{ "external_ids": ids }] }], "error": null });
    serve(OVSDB, move |_| answer.to_string(), false);
    until("it is asked", || names("inner_sname").contains(&"port-1".into()));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// A process in the control group and the network namespace of a pod, as a kubelet lays it out.
#[test]
fn processes_of_pods_have_their_names() {
    own_host();
    mount(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    const UID: &str = "8f0d2c3e-6a1b-4c5d-9e7f-0123456789ab";
    let id = "0123456789abcdef".repeat(4);
    fs::create_dir_all(format!("/var/log/pods/shop_cart-0_{UID}/cart")).unwrap();
    let Some(group) = OwnGroup::new(UID, &id) else {
        eprintln!("not run: this system has no control groups that can be made");
        return;
    };
    let space = Space::new("pod");
    space.ip(
        "link add eth0 type veth peer name x0\nlink set eth0 up\naddr add 10.244.0.77/24 dev eth0",
    );
    fs::write("/var/lib/cni/networks/cbr0/10.244.0.78", format!("{id}\r\neth0")).unwrap();
    let mut sleeper = space.0.within(|| Command::new("sleep").arg("600").spawn().unwrap()).unwrap();
    fs::write(group.0.join("cgroup.procs"), sleeper.id().to_string()).unwrap();
    let names = valid("names", &tmon(&["names", "--json"]).stdout);
    for (address, from) in [("10.244.0.77", "/var/log/pods"), ("10.244.0.78", "host-local")] {
        let name = json!({ "address": address, "name": "shop/cart-0", "from": from });
        assert!(names["names"].as_array().unwrap().contains(&name), "{name} in {names}");
    }
    // Without a folder of logs, the container's name is used.
    fs::remove_dir_all("/var/log/pods").unwrap();
    let names = valid("names", &tmon(&["names", "--json"]).stdout);
    let name = json!({ "address": "10.244.0.77", "name": &id[..12], "from": "cgroup" });
    assert!(names["names"].as_array().unwrap().contains(&name), "{name} in {names}");
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
}

/// A control group named like a pod's, below this test's own.
struct OwnGroup(PathBuf);

impl OwnGroup {
    fn new(uid: &str, container: &str) -> Option<OwnGroup> {
        let text = fs::read_to_string("/proc/self/cgroup").ok()?;
        let own = text.lines().find_map(|line| line.strip_prefix("0::"))?.trim_start_matches('/');
        let mounted = ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"].map(PathBuf::from);
        let root = mounted.into_iter().find(|path| path.join("cgroup.procs").exists())?.join(own);
        let group = root.join(format!("tmon-{}-pod{uid}", std::process::id())).join(container);
        fs::create_dir_all(&group).ok()?;
        Some(OwnGroup(group))
    }
}

impl Drop for OwnGroup {
    fn drop(&mut self) {
        until("its processes are gone", || fs::remove_dir(&self.0).is_ok());
        let _ = self.0.parent().map(fs::remove_dir);
    }
}

/// The userspace datapath has no devices; its tunnels' underlay is in a bridge of its own.
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
    // Without a name of an interface, the underlay is watched.
    let out = run(&["dump", "--for", "0s", "--rows", "64", "--json"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    let reading: Value = serde_json::from_slice(&out.stdout).expect(&said);
    assert_eq!(reading["interfaces"][0]["name"], "eth0", "{reading}");
}

/// A program that `tests/tools.sh` has unpacked.
fn unpacked(program: &str) -> Command {
    let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/tools");
    let folders =
        ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu/frr"];
    let mut command = Command::new(tools.join(program));
    command
        .env("LD_LIBRARY_PATH", folders.map(|f| tools.join(f).display().to_string()).join(":"))
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
#[ignore = "needs ovn: make test-tools unpacks it"]
fn the_real_ovn_is_understood() {
    own_host();
    let _run = OwnRun::new();
    fs::create_dir_all("/run/ovn").unwrap();
    let tools = format!("{}/target/tools", env!("CARGO_MANIFEST_DIR"));
    let run = |program: &str, words: &[&str]| {
        let done = unpacked(program).args(words).status().unwrap();
        assert!(done.success(), "{program} {words:?}");
    };
    let database = |name: &str| {
        let (file, schema) =
            (format!("/run/ovn/{name}.db"), format!("{tools}/usr/share/ovn/ovn-{name}.ovsschema"));
        run("usr/bin/ovsdb-tool", &["create", &file, &schema]);
        let socket = format!("/run/ovn/ovn{name}_db.sock");
        let server = unpacked("usr/sbin/ovsdb-server")
            .args([
                &format!("--remote=punix:{socket}"),
                &format!("--unixctl=/run/ovn/{name}.ctl"),
                &file,
            ])
            .spawn()
            .unwrap();
        let server = Daemon(server);
        until("the database is there", || Path::new(&socket).exists());
        server
    };
    let _databases = [database("nb"), database("sb")];
    let _northd = Daemon(
        unpacked("usr/bin/ovn-northd")
            .args([
                "--ovnnb-db=unix:/run/ovn/ovnnb_db.sock",
                "--ovnsb-db=unix:/run/ovn/ovnsb_db.sock",
            ])
            .arg("--unixctl=/run/ovn/northd.ctl")
            .spawn()
            .unwrap(),
    );
    let nbctl = "--db=unix:/run/ovn/ovnnb_db.sock --timeout=60 --wait=sb ls-add blue \
                 -- lsp-add blue web-7.shop -- lsp-set-addresses web-7.shop 0a:00:00:00:00:07|10.16.0.7 \
                 -- set logical_switch_port web-7.shop external_ids:pod=shop/web-7 \
                 -- lsp-add blue shop_cart-0 -- lsp-set-addresses shop_cart-0 0a:00:00:00:00:08|10.16.0.8|fd00::8 \
                 -- set logical_switch_port shop_cart-0 external_ids:namespace=shop external_ids:pod=true \
                 -- lr-add edge -- lrp-add edge edge-blue 0a:00:00:00:00:01 10.16.0.1/24";
    let words: Vec<String> = nbctl.split_whitespace().map(|word| word.replace('|', " ")).collect();
    run("usr/bin/ovn-nbctl", &words.iter().map(String::as_str).collect::<Vec<_>>());
    let sbctl = "--db=unix:/run/ovn/ovnsb_db.sock --timeout=60 chassis-add 0a1b geneve 192.0.2.11 \
                 -- set chassis 0a1b hostname=compute-1";
    run("usr/bin/ovn-sbctl", &sbctl.split_whitespace().collect::<Vec<_>>());
    let all = valid("names", &tmon(&["names", "--json"]).stdout);
    for (address, name) in [
        ("10.16.0.7", "shop/web-7"),
        ("10.16.0.8", "shop/cart-0"),
        ("fd00::8", "shop/cart-0"),
        ("10.16.0.1", "edge-blue"),
        ("192.0.2.11", "compute-1"),
    ] {
        let name = json!({ "address": address, "name": name, "from": "ovn" });
        assert!(all["names"].as_array().unwrap().contains(&name), "{name} in {all}");
    }
    let ids: Vec<&str> =
        all["ids"].as_array().unwrap().iter().map(|id| id["name"].as_str().unwrap()).collect();
    assert!(ids.contains(&"bridge blue") && ids.contains(&"VRF edge"), "{all}");
}

/// Its ids are in no VRF, which some kernels lack: what matters is that the answers of both daemons
/// are understood.
#[test]
#[ignore = "needs frr: make test-tools unpacks it"]
fn the_real_frr_is_understood() {
    own_host();
    let space = Space::new("frr");
    space.ip("link add br50 type bridge\nlink set br50 up\n\
         link add vx50 type vxlan id 50 local 192.0.2.1 dstport 4789 nolearning\n\
         link set vx50 master br50\nlink set vx50 up");
    let _run = OwnRun::new(); // after `space`, whose name is below the other one
    fs::create_dir_all("/run/frr").unwrap();
    fs::write("/run/zebra.conf", "").unwrap();
    // The group that vtysh belongs to, which the package would create.
    fs::write("/run/group", fs::read_to_string("/etc/group").unwrap() + "frrvty:x:990:root\n")
        .unwrap();
    let bind = MsFlags::MS_BIND;
    mount(Some("/run/group"), "/etc/group", None::<&str>, bind, None::<&str>).unwrap();
    let bgp = "router bgp 65000\n bgp router-id 192.0.2.1\n neighbor 192.0.2.2 remote-as 65000\n \
               address-family l2vpn evpn\n  neighbor 192.0.2.2 activate\n  advertise-all-vni\n exit-address-family\n";
    fs::write("/run/bgpd.conf", bgp).unwrap();
    let daemon = |name: &str| {
        let mut command = unpacked(&format!("usr/lib/frr/{name}"));
        command.args(["-u", "root", "-g", "root", "-A", "127.0.0.1", "-z", "/run/frr/zserv.api"]);
        command.args(["-f", &format!("/run/{name}.conf"), "-i", &format!("/run/frr/{name}.pid")]);
        let child = space.0.within(|| command.args(["--vty_socket", "/run/frr"]).spawn()).unwrap();
        let daemon = Daemon(child.unwrap());
        until("it answers", || Path::new(&format!("/run/frr/{name}.vty")).exists());
        daemon
    };
    let _daemons = [daemon("zebra"), daemon("bgpd")];
    until("both are understood", || {
        let out = tmon(&["names", "--json"]);
        valid("names", &out.stdout);
        out.stderr.is_empty()
    });
}

/// A pod that containerd runs as on a kubelet's request, with CNI's own plugins.
#[test]
#[ignore = "needs containerd, runc, CNI's plugins and grpcio: make test-tools unpacks them"]
fn the_real_containerd_is_understood() {
    own_host();
    fs::remove_dir_all("/var/lib/cni").unwrap();
    mount(Some("tmpfs"), "/var/log", Some("tmpfs"), MsFlags::empty(), None::<&str>).unwrap();
    fs::create_dir_all("/var/log/pods/shop_cart-0_8f0d2c3e-6a1b-4c5d-9e7f-0123456789ab").unwrap();
    let space = Space::new("containerd");
    let _run = OwnRun::new(); // after `space`, whose name is below the other one
    let top = env!("CARGO_MANIFEST_DIR");
    let tools = format!("{top}/target/tools");
    let config = format!(
        r#"version = 2
        root = "/var/lib/containerd"
        state = "/run/containerd"
        [plugins."io.containerd.grpc.v1.cri"]
        sandbox_image = "pause:1"
        disable_apparmor = true
        restrict_oom_score_adj = true
        [plugins."io.containerd.grpc.v1.cri".cni]
        bin_dir = "{tools}/usr/lib/cni"
        conf_dir = "/run/net.d"
        [plugins."io.containerd.grpc.v1.cri".containerd]
        snapshotter = "native""#
    );
    let network = r#"{"cniVersion":"1.0.0","name":"cbr0","plugins":[{"type":"ptp","ipam":{"type":"host-local",
        "ranges":[[{"subnet":"10.244.7.0/24"}]]}}]}"#;
    fs::create_dir_all("/run/net.d").unwrap();
    fs::create_dir_all("/run/containerd").unwrap();
    fs::write("/run/config.toml", config).unwrap();
    fs::write("/run/net.d/10-cbr0.conflist", network).unwrap();
    let mut cc = Command::new("cc")
        .args(["-static", "-xc", "-", "-o", "/run/pause"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    cc.stdin
        .take()
        .unwrap()
        .write_all(b"int pause(void); int main(void) { return pause(); }")
        .unwrap();
    assert!(cc.wait().unwrap().success());
    let path = format!("{tools}/usr/bin:{tools}/usr/sbin:{}", std::env::var("PATH").unwrap());
    let _containerd = Daemon(
        space
            .0
            .within(|| {
                unpacked("usr/bin/containerd")
                    .args(["-c", "/run/config.toml"])
                    .env("PATH", &path)
                    .spawn()
            })
            .unwrap()
            .unwrap(),
    );
    let socket = "/run/containerd/containerd.sock";
    until("containerd answers", || Path::new(socket).exists());
    let pod = |words: &[&str]| {
        let out = Command::new(format!("{tools}/python/bin/python"))
            .arg(format!("{top}/tests/pod.py"))
            .args(words)
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    };
    pod(&["image", "/run/pause", "/run/pause.tar"]);
    let ctr = |words: &[&str]| {
        assert!(
            unpacked("usr/bin/ctr").args(["-n", "k8s.io"]).args(words).status().unwrap().success(),
            "{words:?}"
        );
    };
    ctr(&["images", "import", "/run/pause.tar"]);
    ctr(&["images", "tag", "docker.io/library/pause:1", "pause:1"]);
    let id = pod(&["start", socket]);
    let from = |args: &[&str]| -> Vec<String> {
        let all =
            valid("names", &tmon(&[&["names", "10.244.7.2", "--json"], args].concat()).stdout);
        let names = all["names"].as_array().unwrap();
        assert!(names.iter().all(|name| name["name"] == "shop/cart-0"), "{all}");
        names.iter().map(|name| name["from"].as_str().unwrap().to_owned()).collect()
    };
    let found = [from(&["--cri"]), from(&[])];
    // Without libcni's cache, host-local has only the id, which the pod's process resolves.
    fs::remove_dir_all(RESULTS).unwrap();
    let by_id = from(&[]);
    fs::remove_dir_all("/var/lib/cni").unwrap();
    let by_space = from(&["--cri"]);
    pod(&["stop", socket, &id]);
    assert_eq!(found, [vec!["cni", "cri"], vec!["cni"]]);
    assert_eq!(
        (by_id, by_space),
        (vec!["host-local".to_owned()], vec!["/var/log/pods".to_owned(), "cri".to_owned()])
    );
}

#[test]
fn ids_are_named_by_their_bridges() {
    let space = Space::new("bridge");
    space.ip("link add br7 type bridge\nlink add vx7 type vxlan id 4711 dstport 4789\n\
         link set vx7 master br7");
    let run = |args: &[&str]| space.0.within(|| tmon(args)).unwrap();
    let names = valid("names", &run(&["names", "--json"]).stdout);
    let id = json!({ "id": 4711, "kinds": ["vxlan"], "name": "bridge br7", "from": "interface" });
    assert!(names["ids"].as_array().unwrap().contains(&id), "{names}");
    let tunnels = valid("tunnels", &run(&["tunnels", "--json"]).stdout);
    assert_eq!(tunnels["tunnels"][0]["stands_for"], "bridge br7", "{tunnels}");
    let table = String::from_utf8(run(&["names"]).stdout).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    assert!(
        table.lines().any(|l| words(l) == ["vni:vxlan/4711", "bridge", "br7", "interface"]),
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
