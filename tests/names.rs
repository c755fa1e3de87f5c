// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names that the host has: of pods by the files of container runtimes, of ids by bridges. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Output, Stdio},
};

use ground::{Ground, Space, inner, own_bpffs, send, until};
use nix::mount::{MsFlags, mount};
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

/// Folders of a host of its own, for this thread and what it starts.
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
fn pods_are_called_as_their_runtime_calls_them() {
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

    // A file that the user names comes before them, and says so.
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
    assert!(said.contains("nobody here has a name for 10.244.0.5"), "{said}");
}

#[test]
fn pods_that_come_later_have_names_too() {
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

#[test]
fn ids_are_called_by_their_bridges() {
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
fn what_other_commands_print_is_what_their_schemas_say() {
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
