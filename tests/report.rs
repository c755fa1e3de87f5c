// SPDX-License-Identifier: MIT OR Apache-2.0
//! One file for a ticket: its contents, who can read it, and what is left out when it is
//! anonymized. Needs root.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    process::{Command, Output},
    thread,
    time::Duration,
};

use testkit::{frames::pkt, ground::*};

fn report(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).arg("report").args(args).output().unwrap()
}

#[test]
fn a_report_is_complete_private_and_can_be_anonymized() {
    let g = Ground::new();
    let folder = tempfile::tempdir().unwrap();
    let [plain, masked] = ["a.txt", "b.txt"].map(|f| folder.path().join(f));
    let inside = pkt().eth().ip("10.9.0.1 > 10.9.0.2").udp(1, 2).data(40);
    let eth = pkt().eth().set(0, &mac(1, 2)).set(6, &mac(1, 1));
    let ends = format!("{} > {}", outer(1), outer(2));
    let frame = eth.ip(&ends).udp(50_000, 4789).vxlan(99).then(inside).bytes();
    let (raw, index) = (g.a.raw(), g.a.link("eth0").index);
    let looking = |file: &str, more: &[&str]| {
        let own = [file, "--for", "5s", "--netns", g.a.name(), "--iface", "eth0"];
        let before = g.a.programs("eth0").len();
        thread::scope(|scope| {
            let done = scope.spawn(|| report(&[&own[..], more].concat()));
            while !done.is_finished() {
                if g.a.programs("eth0").len() > before {
                    inject(&raw, index, &frame);
                }
                thread::sleep(Duration::from_millis(20)); // any rate
            }
            let done = done.join().unwrap();
            assert!(done.status.success(), "{done:?}");
        });
        fs::read_to_string(file).unwrap()
    };
    let text = looking(plain.to_str().unwrap(), &[]);
    for part in
        ["tmon check", "tmon status", "tmon tunnels", "tmon watch", "tmon dump", "\"schema\":1"]
    {
        assert!(text.contains(part), "{part} in {text}");
    }
    let own = outer(1).to_string();
    assert!(text.contains(&own) && text.contains("10.9.0.1"), "{text}");
    assert_eq!(plain.metadata().unwrap().permissions().mode() & 0o777, 0o600);

    let text = looking(masked.to_str().unwrap(), &["--anonymize"]);
    assert!(text.contains("\"schema\":1") && text.contains("\"vni\":99"), "{text}");
    for word in [&own[..], &outer(2).to_string(), "10.9.0.1", "10.9.0.2", g.a.name()] {
        assert!(!text.contains(word), "{word} in {text}");
    }

    // Also a recording of a host that this one does not know, in a file that is named after its
    // owner.
    let secret = folder.path().join("secretnode.tmon");
    let recorded = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["record", "--as", "secretnode", "--netns", g.a.name(), "--for", "1s"])
        .args([secret.as_os_str(), "eth0".as_ref()])
        .output()
        .unwrap();
    assert!(recorded.status.success(), "{recorded:?}");
    let given = report(&["--anonymize", "--read", secret.to_str().unwrap(), "-"]);
    let text = String::from_utf8(given.stdout).unwrap();
    assert!(text.contains("\"schema\":1") && text.contains("--read=FILE1"), "{text}");
    for word in ["secretnode", g.a.name(), folder.path().to_str().unwrap()] {
        assert!(!text.contains(word), "{word} in {text}");
    }
    fs::remove_file(&secret).unwrap();

    let again = report(&[plain.to_str().unwrap(), "--for", "1s"]);
    let said = String::from_utf8(again.stderr).unwrap();
    assert!(!again.status.success() && said.contains("already exists"), "{said}");
    let link = folder.path().join("link");
    symlink(&masked, &link).unwrap();
    let before = fs::read(&masked).unwrap();
    assert!(!report(&[link.to_str().unwrap(), "--for", "1s"]).status.success());
    looking(link.to_str().unwrap(), &["--replace"]);
    assert!(!link.symlink_metadata().unwrap().is_symlink(), "it is replaced, not followed");
    assert_eq!(fs::read(&masked).unwrap(), before);
    let left = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(left, 3, "nothing else is left");
}
