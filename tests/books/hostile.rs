// SPDX-License-Identifier: MIT OR Apache-2.0
//! Untrusted text - names of interfaces and namespaces, of files, of hosts, comments in captures,
//! and mistyped arguments - is shown by every command in every format, and never affects a
//! terminal.
use std::{
    fs,
    process::{Command, Stdio},
};

use tempfile::TempDir;
use tmon::kernel::netlink::NewLink;
use unicode_width::UnicodeWidthChar;

use crate::ground::*;

/// Escape sequences of both kinds, a bell, and a bidirectional override.
const EVIL: &str = "\x1b[2J\u{9b}31m\x07\u{202e}";
/// As much of it as fits into an interface name.
const EVIL_IF: &str = "\x1b[2J\u{9b}\x07\u{202e}";

/// Options of a pcapng block: a comment and others, all of them evil.
fn options(codes: &[u16]) -> Vec<u8> {
    let mut out = Vec::new();
    for code in codes {
        out.extend([*code, EVIL.len() as u16].map(u16::to_le_bytes).concat());
        out.extend(EVIL.as_bytes());
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out.extend([0; 4]);
    out
}

fn block(kind: u32, body: &[u8]) -> Vec<u8> {
    let length = (12 + body.len() as u32).to_le_bytes();
    [&kind.to_le_bytes()[..], &length, body, &length].concat()
}

/// A capture of one packet, in which every text is evil.
fn capture() -> Vec<u8> {
    let words = |w: &[u32]| w.iter().flat_map(|w| w.to_le_bytes()).collect::<Vec<u8>>();
    let mut frame = vxlan(7, 1, 2);
    let header = words(&[0, 0, 0, frame.len() as u32, frame.len() as u32]);
    frame.resize(frame.len().next_multiple_of(4), 0);
    [
        block(
            0x0a0d_0d0a,
            &[words(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]), options(&[1, 2, 3, 4])].concat(),
        ),
        block(1, &[words(&[1, 65535]), options(&[1, 2, 3, 12, 15])].concat()),
        block(6, &[header, frame, options(&[1])].concat()),
    ]
    .concat()
}

/// Files with evil names: for names, and captures.
struct Files {
    dir: TempDir,
}

impl Files {
    fn new() -> Files {
        let files = Files { dir: tempfile::tempdir().unwrap() };
        fs::write(files.path("capture"), capture()).unwrap();
        fs::write(files.path("broken"), EVIL).unwrap();
        fs::write(
            files.path("names"),
            format!("10.77.0.1 {EVIL}a\n10.77.0.2 {EVIL}b\n0.0.0.0/0 {EVIL}c\nvni:7 {EVIL}d\n"),
        )
        .unwrap();
        fs::write(files.path("nonsense"), format!("{EVIL} a\n")).unwrap();
        files
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(format!("{name}{EVIL}")).to_str().unwrap().to_owned()
    }
}

/// Neither control characters nor characters that reverse, hide or join; pages and pictures have
/// line breaks.
fn harmless(text: &str) -> bool {
    text.chars().all(|c| {
        c == '\n'
            || c.width().is_some_and(|w| w > 0)
                && !('\u{80}'..'\u{a0}').contains(&c)
                && c != '\u{202e}'
    })
}

/// Runs a command; returns everything that it prints.
fn tmon(args: &[&str]) -> (Option<i32>, String) {
    let out =
        Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).stdin(Stdio::null()).output().unwrap();
    let [said, complained] = [out.stdout, out.stderr]
        .map(|bytes| String::from_utf8(bytes).unwrap_or_else(|e| panic!("{args:?}: {e}")));
    for text in [&said, &complained] {
        assert!(harmless(text), "{args:?} says {text:?}");
    }
    assert!(
        out.status.code() != Some(1) || complained.lines().count() == 1,
        "{args:?} fails in one line, not {complained:?}"
    );
    (out.status.code(), said + &complained)
}

#[test]
fn untrusted_text_reaches_no_terminal_raw() {
    let files = Files::new();
    let g = Ground { a: Space::new(EVIL), b: Space::new("b") };
    let ns = g.a.name();
    g.a.netlink()
        .create(EVIL_IF, None, &NewLink::Veth { peer: "eth0", netns: Some(&g.b.0) })
        .unwrap();
    address(&g.a, EVIL_IF, 1, 1, outer);
    g.a.run("ip", "link add t0 type vxlan id 7 dstport 4789 remote 10.77.0.2");
    g.a.try_run("ip", &["link", "set", "t0", "name", &format!("v{EVIL_IF}")]).unwrap();
    g.a.try_run("ip", &["link", "set", EVIL_IF, "alias", EVIL]).unwrap();
    let [capture, broken, names, nonsense] =
        ["capture", "broken", "names", "nonsense"].map(|n| files.path(n));

    // What it shows, in every format; `shown` contains the replacement pictures.
    let shown = "\u{241b}[2J";
    for format in [&[][..], &["--json"], &["--csv"], &["--html"], &["--svg"]] {
        let live =
            [&["dump", "--netns", ns, EVIL_IF, "--for", "0s", "--rows", "64"], format].concat();
        let file = [&["replay", &capture], format].concat();
        let named = [&["replay", &capture, "--names", &names], format].concat();
        for args in [live, file, named] {
            let (code, text) = tmon(&args);
            assert_eq!(code, Some(0), "{args:?}: {text}");
            let has_names = matches!(format, [] | ["--html"]);
            assert!(
                !has_names || text.contains(shown) || text.contains("\\u001b[2J"),
                "{args:?}: {text}"
            );
        }
    }
    for args in [&["check", "--netns", ns, EVIL_IF][..], &["tunnels", "--netns", ns]] {
        let (code, text) = tmon(args);
        assert!(code == Some(0) && text.contains(shown), "{args:?}: {text}");
        assert_eq!(tmon(&[args, &["--json"]].concat()).0, Some(0), "{args:?}");
    }

    // Its error messages.
    let [filter, port, dir, pattern] = [
        format!("host:{EVIL}"),
        format!("vxlan={EVIL}"),
        format!("/proc/{EVIL}"),
        format!("*{EVIL}"),
    ];
    for (args, code) in [
        (&["dump", "--netns", EVIL, "--for", "0s"][..], 1),
        (&["dump", "--netns", ns, &pattern, "--for", "0s"], 1),
        (&["dump", EVIL, "--for", "0s"], 1),
        (&["check", EVIL], 1),
        (&["detach", EVIL], 1),
        (&["replay", &broken], 1),
        (&["replay", &dir], 1),
        (&["replay", &capture, "--names", &nonsense], 1),
        (&["replay", &capture, "--names", &dir], 1),
        (&["replay", &capture, "--filter", &filter], 2),
        (&["replay", &capture, "--port", &port], 2),
        (&["top", "--read", &broken], 1),
        (&["man", "--dir", &dir], 1),
        (&["lab", "exec", EVIL, "--", "true"], 1),
        (&["lab", "traffic", EVIL], 2),
        (&["dump", "--age", EVIL], 2),
        (&[EVIL], 2),
    ] {
        let (said, text) = tmon(args);
        assert_eq!(said, Some(code), "{args:?}: {text}");
    }
}
