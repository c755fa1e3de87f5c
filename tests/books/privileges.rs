// SPDX-License-Identifier: MIT OR Apache-2.0
//! The privileges that tmon needs, that no others are needed, and that it gives up the rest.
use std::{
    ffi::CString,
    fs,
    io::{BufRead, BufReader},
    os::unix::{ffi::OsStrExt, fs::PermissionsExt},
    path::PathBuf,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tmon::kernel::netlink::NewLink;

use crate::ground::*;

const NEEDED: [&str; 3] = ["bpf", "perfmon", "net_admin"];
/// The user nobody.
const USER: &str = "65534";

/// A copy of the program that everybody can run.
fn copy() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let path = dir.path().join("tmon");
    fs::copy(env!("CARGO_BIN_EXE_tmon"), &path).unwrap();
    (dir, path)
}

/// Runs a short `tmon dump` as nobody with these capabilities. Returns its output and its errors.
fn dump(g: &Ground, program: &PathBuf, capabilities: &[&str]) -> (bool, String, String) {
    let set = capabilities.iter().fold("-all".to_owned(), |set, c| set + ",+" + c);
    let run = || {
        Command::new("setpriv")
            .args([
                "--reuid",
                USER,
                "--regid",
                USER,
                "--clear-groups",
                "--inh-caps",
                &set,
                "--ambient-caps",
                &set,
            ])
            .arg(program)
            .args(["dump", "eth0", "--for", "50ms", "--rows", "64", "--json"])
            .output()
    };
    let out = g.a.0.within(run).unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    (out.status.success(), text(&out.stdout), text(&out.stderr))
}

#[test]
fn the_user_nobody_needs_three_capabilities() {
    let (_dir, program) = copy();
    let g = Ground::new();
    let (done, json, said) = dump(&g, &program, &NEEDED);
    assert!(done && said.is_empty(), "{said}");
    let v: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(v["interfaces"][0]["name"], "eth0");
    // Each of them is needed, and the error names it.
    for missing in NEEDED {
        let rest: Vec<&str> = NEEDED.into_iter().filter(|c| *c != missing).collect();
        let (done, _, said) = dump(&g, &program, &rest);
        let wanted = format!("give tmon CAP_{}", missing.to_uppercase());
        assert!(!done && said.ends_with(&wanted) && said.lines().count() == 1, "{missing}: {said}");
    }
    let (_, _, said) = dump(&g, &program, &[]);
    assert!(said.ends_with("CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN"), "{said}");
}

#[test]
#[allow(unsafe_code)]
fn capabilities_of_the_file_are_enough() {
    let (_dir, program) = copy();
    // struct vfs_cap_data, revision 2, effective: net_admin 12, perfmon 38, bpf 39
    let words: [u32; 5] = [0x0200_0001, 1 << 12, 0, 1 << (38 - 32) | 1 << (39 - 32), 0];
    let value: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
    let path = CString::new(program.as_os_str().as_bytes()).unwrap();
    // SAFETY: a path, and a value of the stated length.
    let e = unsafe {
        libc::setxattr(
            path.as_ptr(),
            c"security.capability".as_ptr(),
            value.as_ptr().cast(),
            value.len(),
            0,
        )
    };
    assert_eq!(e, 0, "set the file's capabilities: {}", std::io::Error::last_os_error());
    let g = Ground::new();
    let (done, _, said) = dump(&g, &program, &[]);
    assert!(done, "{said}");
}

/// One line of a thread's status, by its name.
fn status(pid: u32, name: &str) -> Vec<String> {
    let threads = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    threads
        .map(|t| {
            let text = fs::read_to_string(t.unwrap().path().join("status")).unwrap();
            text.lines()
                .find_map(|l| l.strip_prefix(name))
                .unwrap_or_else(|| panic!("no {name}"))
                .trim_start_matches(':')
                .trim()
                .to_owned()
        })
        .collect()
}

#[test]
fn other_privileges_are_dropped_and_watching_continues() {
    let g = Ground::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args([
            "dump",
            "eth0",
            "--netns",
            g.a.name(),
            "--rows",
            "64",
            "--watch",
            "100ms",
            "--for",
            "10m",
            "--json",
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    out.read_line(&mut line).unwrap();

    // Two threads have what they need: the main one, and the one that entered the namespace. A
    // thread that looks up names needs nothing.
    let kept = format!("{:016x}", 1u64 << 12 | 1 << 38 | 1 << 39);
    let none = format!("{:016x}", 0);
    for (name, value) in [
        ("CapEff", &kept),
        ("CapPrm", &kept),
        ("CapBnd", &kept),
        ("CapInh", &none),
        ("CapAmb", &none),
    ] {
        until(name, || {
            let (with, without): (Vec<_>, Vec<_>) =
                status(child.id(), name).into_iter().partition(|v| v == value);
            with.len() >= 2 && without.iter().all(|v| *v == none)
        });
    }
    assert!(status(child.id(), "NoNewPrivs").iter().all(|v| v == "1"));

    // This suffices to find the interface again when it comes back.
    g.a.netlink().delete("eth0").unwrap();
    g.a.netlink()
        .create("eth0", None, &NewLink::Veth { peer: "eth0", netns: Some(&g.b.0) })
        .unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap()).lines();
    let back = said
        .find(|l| l.as_ref().is_ok_and(|l| l.contains("is back")))
        .expect("it says so")
        .unwrap();
    assert!(back.contains("counting continues"), "{back}");
    child.kill().unwrap();
    child.wait().unwrap();
}
