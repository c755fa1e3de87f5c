// SPDX-License-Identifier: MIT OR Apache-2.0
//! What installs with tmon: completions and manual pages, generated from the command line itself.
#![allow(clippy::unwrap_used)] // a test's panic is its report
use std::process::{Command, Output, Stdio};

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).env_remove("COLUMNS").output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let out = tmon(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// The version changes; nothing else may without being looked at.
fn steady(text: &str) -> String {
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn completions_are_what_was_looked_at() {
    for shell in ["bash", "zsh", "fish"] {
        insta::assert_snapshot!(format!("completions-{shell}"), stdout(&["completions", shell]));
    }
}

#[test]
fn manual_pages_are_what_was_looked_at() {
    insta::assert_snapshot!("man", steady(&stdout(&["man"])));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(stdout(&["man", "--dir", dir.path().to_str().unwrap()]), "");
    let mut pages: Vec<String> = std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    pages.sort();
    insta::assert_snapshot!("man-pages", pages.join("\n"));
    insta::assert_snapshot!("man-dump", steady(&std::fs::read_to_string(dir.path().join("tmon-dump.1")).unwrap()));
}

/// The shells themselves find no fault with their scripts, where they are there.
#[test]
fn shells_read_their_completions() {
    for (shell, name) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tmon");
        std::fs::write(&file, stdout(&["completions", shell])).unwrap();
        match Command::new(name).arg("-n").arg(&file).output() {
            Ok(out) => assert!(out.status.success(), "{shell}: {}", String::from_utf8_lossy(&out.stderr)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && shell != "bash" => {}
            Err(e) => panic!("{shell}: {e}"),
        }
    }
}

#[test]
fn a_closed_pipe_is_no_failure() {
    for args in [&["completions", "bash"][..], &["man"], &["tunnels"], &["tunnels", "--json"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let status = Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).stdout(write).stderr(Stdio::piped()).output().unwrap();
        assert!(status.status.success(), "{args:?}: {}", String::from_utf8_lossy(&status.stderr));
        assert_eq!(String::from_utf8_lossy(&status.stderr), "", "{args:?}");
    }
}

#[test]
fn a_folder_that_is_not_there() {
    let out = tmon(&["man", "--dir", "/nowhere/at/all"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&out.stderr).starts_with("tmon: write /nowhere/at/all/tmon.1: "), "{out:?}");
}
