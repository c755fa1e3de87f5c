// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program as built by `--no-default-features`: captures, completions, manual pages. The same
//! must hold for the full program, so this also runs there.
#![allow(clippy::unwrap_used)] // a test's panic is its report
use std::process::{Command, Output};

use testkit::frames::pkt;

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).output().unwrap()
}

/// A capture of these frames, a second apart.
fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
        bytes.extend(word.to_le_bytes());
    }
    for (second, frame) in (1_700_000_000_u32..).zip(frames) {
        for word in [second, 0, frame.len() as u32, frame.len() as u32] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(frame);
    }
    bytes
}

#[test]
fn a_capture_is_replayed_without_bpf() {
    let frame = pkt()
        .eth()
        .ip("172.16.1.100 > 172.16.1.101")
        .udp(54321, 4789)
        .vxlan(7)
        .eth()
        .ip("192.168.0.1 > 192.168.0.2")
        .udp(1, 2)
        .data(10)
        .bytes();
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), pcap(&[frame.clone(), frame])).unwrap();
    let out = tmon(&["replay", "--json", file.path().to_str().unwrap()]);
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let json: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    let flow = &json["flows"][0];
    assert_eq!((&flow["tunnel"], &flow["vni"]), (&"vxlan".into(), &7.into()), "{json}");
    assert_eq!(flow["inner_sip"], "192.168.0.1", "{json}");
}

#[test]
fn completions_and_pages_are_there() {
    for args in [&["completions", "bash"][..], &["man"]] {
        let out = tmon(args);
        assert!(out.status.success() && !out.stdout.is_empty(), "{args:?}");
    }
}

#[cfg(not(feature = "live"))]
#[test]
fn interfaces_are_refused_in_one_line() {
    let out = tmon(&["top", "eth0"]);
    assert_eq!(out.status.code(), Some(1));
    assert_eq!(
        String::from_utf8_lossy(&out.stderr),
        "tmon: this tmon is built without the feature `live` and can only show captures (--read FILE)\n"
    );
}
