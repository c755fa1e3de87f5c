// SPDX-License-Identifier: MIT OR Apache-2.0
//! What installs with tmon: completions and manual pages, generated from the command line itself.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

fn tmon(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon")).args(args).env_remove("COLUMNS").output().unwrap()
}

fn stdout(args: &[&str]) -> String {
    let out = tmon(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

/// Replaces the version; nothing else may change without review.
fn steady(text: &str) -> String {
    text.replace(env!("CARGO_PKG_VERSION"), "VERSION")
}

#[test]
fn completions_match_their_snapshots() {
    for shell in ["bash", "zsh", "fish"] {
        insta::assert_snapshot!(format!("completions-{shell}"), stdout(&["completions", shell]));
    }
}

#[test]
fn manual_pages_match_their_snapshots() {
    insta::assert_snapshot!("man", steady(&stdout(&["man"])));
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(stdout(&["man", "--dir", dir.path().to_str().unwrap()]), "");
    let mut pages: Vec<String> = std::fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    pages.sort();
    insta::assert_snapshot!("man-pages", pages.join("\n"));
    insta::assert_snapshot!(
        "man-dump",
        steady(&std::fs::read_to_string(dir.path().join("tmon-dump.1")).unwrap())
    );
}

/// The date of the pages is that of the changelog, so that the output does not depend on the time
/// of the build.
#[test]
fn manual_pages_have_a_date_and_please_mandoc() {
    let dir = tempfile::tempdir().unwrap();
    stdout(&["man", "--dir", dir.path().to_str().unwrap()]);
    let heading = include_str!("../CHANGELOG.md").lines().find(|l| l.starts_with("## ")).unwrap();
    for page in std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().path()) {
        let text = std::fs::read_to_string(&page).unwrap();
        let title = text.lines().find(|l| l.starts_with(".TH")).unwrap();
        let date = title.split(' ').nth(3).unwrap();
        assert!(date.len() == 10 && heading.contains(date), "{title}");
        match Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&page).output() {
            Ok(out) => assert_eq!(String::from_utf8_lossy(&out.stdout), "", "{out:?}"),
            Err(e) => assert_eq!(e.kind(), std::io::ErrorKind::NotFound, "mandoc: {e}"),
        }
    }
}

#[test]
fn an_unreadable_home_is_only_reported() {
    let dir = tempfile::tempdir().unwrap();
    let top = |config: Option<&str>| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tmon"));
        command.env_remove("XDG_CONFIG_HOME").env("HOME", dir.path());
        command.args(["top", "--print-config"]).args(config).output().unwrap()
    };
    // Root may read it whatever its mode: a file in place of the folder affects everybody.
    std::fs::write(dir.path().join(".config"), "").unwrap();
    let out = top(None);
    assert!(out.status.success(), "{out:?}");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(said.contains(".config/tmon/config.toml, so the defaults apply: "), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    // A file that was requested has to exist.
    let named = format!("--config={}", dir.path().join(".config/x").display());
    assert_eq!(top(Some(&named)).status.code(), Some(1));
}

#[test]
fn user_files_may_begin_with_a_byte_order_mark() {
    let (capture, names) = (capture(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(names.path(), "\u{feff}172.16.1.100 node-a\r\n172.16.1.101 node-b\r\n").unwrap();
    let [capture, names] = [capture.path(), names.path()].map(|p| p.to_str().unwrap());
    let table = stdout(&["replay", capture, "--names", names]);
    assert!(table.contains("node-a") && table.contains("node-b"), "{table}");
    let config = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(config.path(), "\u{feff}theme = \"light\"\n").unwrap();
    let said = stdout(&["top", "--print-config", "--config", config.path().to_str().unwrap()]);
    assert!(said.contains("\ntheme = \"light\"\n"), "{said}");
}

#[test]
fn groups_of_hosts_are_in_every_format() {
    let (capture, groups) = (capture(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(groups.path(), "172.16.1.100 eu/zone-a\nnode-* eu/zone-b # by name\n").unwrap();
    let names = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(names.path(), "172.16.1.101 node-b\n").unwrap();
    let [capture, file, names] =
        [capture.path(), groups.path(), names.path()].map(|p| p.to_str().unwrap());
    let of = |more: &[&str]| {
        stdout(&[&["replay", capture, "--groups", file, "--names", names], more].concat())
    };
    let table = of(&[]);
    let lines: Vec<&str> = table.lines().skip_while(|l| !l.starts_with("GROUP A")).collect();
    assert!(lines[1].starts_with("eu/zone-a  eu/zone-b "), "{table}");
    assert!(lines[1].contains(" 100 % "), "{table}");
    let json: serde_json::Value = serde_json::from_str(&of(&["--json"])).unwrap();
    let flow = &json["flows"][0];
    assert_eq!(
        [&flow["outer_sgroup"], &flow["outer_dgroup"]],
        [&serde_json::Value::from("eu/zone-a"), &"eu/zone-b".into()]
    );
    let csv = of(&["--csv"]);
    assert!(csv.lines().next().unwrap().ends_with(",outer_sgroup,outer_dgroup"), "{csv}");
    assert!(csv.lines().nth(1).unwrap().ends_with(",eu/zone-a,eu/zone-b"), "{csv}");
    let svg = of(&["--svg"]);
    assert!(svg.contains(">eu/zone-a<"), "the picture shows the coarsest level with two groups");
    assert!(of(&["--html"]).contains("\"coarsest\":1,"), "and so does the page");
    // Rows can also be selected by a host's name.
    for (filter, rows) in [("group:eu/zone-b", 1), ("!group:eu", 0), ("group:eu/zone-b/", 1)] {
        let json = of(&["--json", "--filter", filter]);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["flows"].as_array().unwrap().len(), rows, "{filter}");
    }
    let of_asia = ["--groups", file, "--filter", "group:asia"];
    for (more, says) in [
        (&of_asia[..], "'asia' is not a group of hosts; try one of eu, eu/zone-a, eu/zone-b"),
        (&of_asia[2..], "there are no groups of hosts; try `--groups FILE`, a file of them"),
    ] {
        let out = tmon(&[&["replay", capture], more].concat());
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.code() == Some(2) && said.contains(says), "{said}");
    }
    // Without a file there is no trace of groups.
    let plain = stdout(&["replay", capture, "--csv"]) + &stdout(&["replay", capture, "--json"]);
    assert!(!plain.contains("group"), "{plain}");

    std::fs::write(groups.path(), "172.16.1.100 eu\n172.16.1.101\n").unwrap();
    let out = tmon(&["replay", capture, "--groups", file]);
    let said = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("{file}, line 2: 172.16.1.101 is in no group")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    let out = tmon(&["replay", capture, "--groups", "/dev/zero"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("/dev/zero: it is larger than"));
}

#[test]
fn durations_beyond_any_clock_are_usage_errors() {
    for args in [
        &["dump", "lo", "--for"][..],
        &["dump", "lo", "--watch"],
        &["dump", "lo", "--age"],
        &["replay", "-", "--age"],
        &["attach", "lo", "--age"],
        &["top", "lo", "--interval"],
        &["demo", "--interval"],
        &["lab", "traffic", "demo", "--for"],
    ] {
        for long in ["9223372036854775807s", "876001h", "9999999999999999999999h", "36501d"] {
            let out = tmon(&[args, &[long]].concat());
            assert_eq!(out.status.code(), Some(2), "{args:?} {long}: {out:?}");
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(said.contains("invalid value") && said.contains("at most 100 years"), "{said}");
        }
    }
    for wrong in ["", "d", "5", "5x", "-1d", "1.5d", "d5", "5\u{a0}s"] {
        let out = tmon(&["dump", "lo", "--for", wrong]);
        assert_eq!(out.status.code(), Some(2), "{wrong}: {out:?}");
    }
    let out = tmon(&["top", "--print-config", "--interval", "7d"]);
    assert!(out.status.success(), "{out:?}");
}

/// The contents of a package: everything is below DESTDIR, and nothing names another prefix.
#[test]
fn it_is_installed_below_a_folder_and_uninstalled() {
    let dir = tempfile::tempdir().unwrap();
    let make = |target: &str| {
        let out = Command::new("make")
            .args(["-s", target, "PREFIX=/opt/tmon"])
            .arg(format!("TMON={}", env!("CARGO_BIN_EXE_tmon")))
            .arg(format!("DESTDIR={}", dir.path().display()))
            .arg(format!("INSTALLED={}/built", dir.path().display()))
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    };
    make("install");
    let at = |path: &str| dir.path().join("opt/tmon").join(path);
    for path in [
        "share/man/man1/tmon-watch.1",
        "share/bash-completion/completions/tmon",
        "share/zsh/site-functions/_tmon",
        "share/fish/vendor_completions.d/tmon.fish",
        "share/tmon/kubernetes/daemonset.yaml",
        "share/tmon/schema/reading.json",
    ] {
        assert!(std::fs::metadata(at(path)).is_ok_and(|m| m.len() > 0), "{path}");
    }
    for entry in std::fs::read_dir("packaging").unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        if name.ends_with(".service") {
            let unit = std::fs::read_to_string(at("lib/systemd/system").join(&name)).unwrap();
            assert!(unit.contains("ExecStart=/opt/tmon/bin/tmon "), "{name}: {unit}");
            assert!(!unit.contains("/usr/bin/tmon"), "{name}: {unit}");
        }
    }
    let out = Command::new(at("bin/tmon")).arg("--version").output().unwrap();
    assert!(out.status.success(), "{out:?}");
    let settings = dir.path().join("etc/tmon/watch.toml");
    std::fs::write(&settings, "exec = 'true'\n").unwrap();
    make("install");
    assert_eq!(std::fs::read_to_string(&settings).unwrap(), "exec = 'true'\n", "it is kept");
    make("uninstall");
    let kept: Vec<_> = walk(&dir.path().join("etc"));
    assert_eq!(kept, [settings], "but what nobody has changed goes");
    let left: Vec<_> = walk(&at("")).into_iter().filter(|p| p.is_file()).collect();
    assert_eq!(left, [] as [std::path::PathBuf; 0]);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let all = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path());
    all.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

/// A variable of a script that is not set.
#[test]
fn nothing_has_an_empty_name() {
    for args in [
        &["top", ""][..],
        &["dump", "lo", ""],
        &["check", ""],
        &["attach", ""],
        &["detach", ""],
        &["dump", "lo", "--netns", ""],
        &["dump", "lo", "--names="],
        &["top", "--from", ""],
        &["top", "--ssh", "node-a,"],
        &["export", "prometheus", "--listen", ""],
        &["stream", "--as", ""],
        &["lab", "up", "--prefix", ""],
        &["replay", ""],
    ] {
        let out = tmon(args);
        assert_eq!(out.status.code(), Some(2), "{args:?}: {out:?}");
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(said.starts_with("error: ") && said.contains("value"), "{args:?}: {said}");
    }
    assert!(tmon(&["top", "--filter", "", "--print-config"]).status.success());
}

/// The shells themselves accept their scripts, where they are installed.
#[test]
fn shells_read_their_completions() {
    for (shell, name) in [("bash", "bash"), ("zsh", "zsh"), ("fish", "fish")] {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("tmon");
        std::fs::write(&file, stdout(&["completions", shell])).unwrap();
        match Command::new(name).arg("-n").arg(&file).output() {
            Ok(out) => {
                assert!(out.status.success(), "{shell}: {}", String::from_utf8_lossy(&out.stderr))
            }
            Err(e) if e.kind() == std::io::ErrorKind::NotFound && shell != "bash" => {}
            Err(e) => panic!("{shell}: {e}"),
        }
    }
}

/// What a shell's script requests when a key is pressed.
#[test]
fn values_are_completed() {
    let ask = |words: &[&str]| {
        let index = words.len() - 1;
        let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .env("TMON_COMPLETE", "bash")
            .env("_CLAP_IFS", "\n")
            .env("_CLAP_COMPLETE_INDEX", index.to_string())
            .env("_CLAP_COMPLETE_COMP_TYPE", "9")
            .env("_CLAP_COMPLETE_SPACE", "true")
            .env("HOME", "/nonexistent")
            .arg("--")
            .args(words)
            .output()
            .unwrap();
        assert!(out.status.success(), "{words:?}: {out:?}");
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(|l| l.trim_end().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ask(&["tmon", "du"]), ["dump"]);
    assert_eq!(ask(&["tmon", "dump", "l"]), ["lo"]);
    assert!(ask(&["tmon", "top", "--filter", "vn"]).contains(&"vni:".to_owned()));
    assert_eq!(ask(&["tmon", "top", "--ssh", ""]), [] as [&str; 0], "no home, no hosts");
    assert!(ask(&["tmon", "dump", "--js"]).contains(&"--json".to_owned()));
    // Another shell is not supported, and nothing happens.
    let out = Command::new(env!("CARGO_BIN_EXE_tmon")).env("TMON_COMPLETE", "x").output().unwrap();
    assert!(out.stdout.is_empty() && out.status.success(), "{out:?}");
}

#[test]
fn a_closed_pipe_is_not_a_failure() {
    for args in [&["completions", "bash"][..], &["man"], &["tunnels"], &["tunnels", "--json"]] {
        let (read, write) = std::io::pipe().unwrap();
        drop(read);
        let status = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(args)
            .stdout(write)
            .stderr(Stdio::piped())
            .output()
            .unwrap();
        assert!(status.status.success(), "{args:?}: {}", String::from_utf8_lossy(&status.stderr));
        assert_eq!(String::from_utf8_lossy(&status.stderr), "", "{args:?}");
    }
}

#[test]
fn a_missing_folder() {
    let out = tmon(&["man", "--dir", "/nowhere/at/all"]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&out.stderr).starts_with("tmon: write /nowhere/at/all/tmon.1: "),
        "{out:?}"
    );
}

/// A capture of one packet that tmon itself can read: VXLAN 10000 from 172.16.1.100 to .101.
fn capture() -> tempfile::NamedTempFile {
    let mut inner = vec![0x02; 12];
    inner.extend([
        0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 168, 0, 1, 192, 168, 0, 2, 0, 1,
        0, 2, 0, 8, 0, 0,
    ]);
    let mut frame = vec![0x02; 12];
    let udp = 8 + 8 + inner.len() as u16;
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend((20 + udp).to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 172, 16, 1, 100, 172, 16, 1, 101, 0x80, 0, 0x12, 0xb5]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0, 8, 0, 0, 0, 0, 0x27, 0x10, 0]);
    frame.extend(inner);
    let mut file = Vec::from(0xa1b2_c3d4_u32.to_le_bytes());
    file.extend([2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 1, 0, 0, 0]);
    file.extend([0; 8]);
    file.extend([frame.len() as u32; 2].map(u32::to_le_bytes).concat());
    file.extend(frame);
    let made = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(made.path(), file).unwrap();
    made
}

#[test]
fn names_are_shown_beside_the_addresses() {
    let (capture, names) = (capture(), tempfile::NamedTempFile::new().unwrap());
    std::fs::write(names.path(), "172.16.1.100 node-a\n192.168.0.0/24 clients\nvni:10000 blue\n")
        .unwrap();
    let [capture, names] = [capture.path(), names.path()].map(|p| p.to_str().unwrap().to_owned());
    let table = stdout(&["replay", &capture, "--names", &names]);
    assert!(
        table.contains("vxlan blue") && table.contains("node-a") && table.contains("172.16.1.101"),
        "{table}"
    );
    assert_eq!(table.matches("clients").count(), 2, "{table}");
    let plain = stdout(&["replay", &capture, "--names", &names, "-n"]);
    assert!(
        plain.contains("vxlan 10000") && plain.contains("192.168.0.2") && !plain.contains("node-a"),
        "{plain}"
    );

    let json: serde_json::Value =
        serde_json::from_str(&stdout(&["replay", &capture, "--names", &names, "--json"])).unwrap();
    let flow = &json["flows"][0];
    assert_eq!(
        (flow["outer_sip"].as_str(), flow["outer_sname"].as_str()),
        (Some("172.16.1.100"), Some("node-a"))
    );
    assert_eq!(
        (flow["outer_dname"].as_str(), flow["inner_dname"].as_str()),
        (None, Some("clients"))
    );
    assert_eq!((flow["vni"].as_u64(), flow["vni_name"].as_str()), (Some(10000), Some("blue")));

    // Filters accept names; an unknown name is a usage error.
    assert!(
        stdout(&[
            "replay",
            &capture,
            "--names",
            &names,
            "--filter",
            "host:node-a vni:blue inner:clients"
        ])
        .contains("node-a")
    );
    assert!(
        stdout(&["replay", &capture, "--names", &names, "--filter", "!host:node-a"])
            .contains("no tunnel traffic that matches the filter")
    );
    for bad in ["host:node-b", "vni:green", "host:", "nonsense"] {
        let out = tmon(&["replay", &capture, "--names", &names, "--filter", bad]);
        assert_eq!(out.status.code(), Some(2), "{bad}: {out:?}");
        assert!(String::from_utf8_lossy(&out.stderr).contains("filter, column"), "{out:?}");
    }
    std::fs::write(&names, "172.16.1.100 a\nnonsense b\n").unwrap();
    let out = tmon(&["replay", &capture, "--names", &names]);
    assert_eq!(out.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("line 2: nonsense is neither"),
        "{out:?}"
    );
}

/// A serial console does not report its size.
#[test]
fn a_terminal_of_no_size_shows_rows() {
    let size = nix::pty::Winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let capture = capture();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .arg("replay")
        .arg(capture.path())
        .stdout(pty.slave)
        .spawn()
        .unwrap();
    assert!(child.wait().unwrap().success());
    let mut shown = [0; 4096]; // a terminal keeps more than the one row there is
    let n = nix::unistd::read(&pty.master, &mut shown).unwrap();
    let text = String::from_utf8_lossy(&shown[..n]);
    assert!(text.contains("vxlan 10000") && text.contains("172.16.1.100"), "{text}");
    // If nothing can be drawn, there is a message.
    let pty = nix::pty::openpty(Some(&size), None).unwrap();
    let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["top", "--read"])
        .arg(capture.path())
        .stdout(pty.slave)
        .output()
        .unwrap();
    assert_eq!(out.status.code(), Some(1), "{out:?}");
    assert!(
        String::from_utf8_lossy(&out.stderr).contains("try `stty rows 24 columns 80`"),
        "{out:?}"
    );
}

fn with(args: &[&str], stdout: Stdio, stderr: Stdio) -> Output {
    Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(args)
        .stdin(Stdio::null())
        .stdout(stdout)
        .stderr(stderr)
        .output()
        .unwrap()
}

fn full() -> Stdio {
    std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

fn closed() -> Stdio {
    let (read, write) = std::io::pipe().unwrap();
    drop(read);
    write.into()
}

/// Whatever happens to the messages, the exit status is that of the work done.
#[test]
fn standard_error_may_be_full_or_closed() {
    for stderr in [full, closed] {
        for (args, status) in [
            (&["replay", "/nonexistent"][..], 1),
            (&["nonsense"], 2),
            (&["top", "--interval", "x"], 2),
            (&["man"], 0),
        ] {
            let out = with(args, Stdio::piped(), stderr());
            assert_eq!(out.status.code(), Some(status), "{args:?}");
        }
    }
    let capture = capture();
    let out = with(&["replay", capture.path().to_str().unwrap()], Stdio::piped(), closed());
    assert!(out.status.success() && !out.stdout.is_empty());
}

#[test]
fn a_full_disk_is_one_line_and_a_closed_pipe_none() {
    let capture = capture();
    let file = capture.path().to_str().unwrap();
    for args in [
        &["replay", file][..],
        &["replay", file, "--json"],
        &["replay", file, "--html"],
        &["tunnels"],
        &["check", "--json"],
        &["man"],
        &["completions", "bash"],
        &["--help"],
        &["top", "--print-config"],
    ] {
        let out = with(args, full(), Stdio::piped());
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(1), "{args:?}: {said}");
        assert!(
            said.starts_with("tmon: write to standard output: No space")
                && said.lines().count() == 1,
            "{args:?}: {said}"
        );
        let out = with(args, closed(), Stdio::piped());
        assert_eq!(String::from_utf8_lossy(&out.stderr), "", "{args:?}");
    }
}

/// ssh and node leave a pipe non-blocking: a slow reader still receives everything.
#[test]
fn a_non_blocking_pipe_is_waited_for() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::Read;
    let want = stdout(&["man"]);
    let (mut read, write) = std::io::pipe().unwrap();
    fcntl(&write, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
    fcntl(&write, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
    let mut child =
        Command::new(env!("CARGO_BIN_EXE_tmon")).args(["man"]).stdout(write).spawn().unwrap();
    let mut got = String::new();
    let mut first = [0; 1];
    read.read_exact(&mut first).unwrap();
    // it has hit the full pipe once it sleeps in poll(2)
    let sleeps = || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit(')').next().is_some_and(|s| s.trim_start().starts_with(['S', 'Z']))
    };
    let begun = std::time::Instant::now();
    while !sleeps() {
        assert!(begun.elapsed().as_secs() < 60);
        std::thread::yield_now();
    }
    read.read_to_string(&mut got).unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(format!("{}{got}", char::from(first[0])), want);
}

/// A hanging supervisor reads neither of them.
#[test]
fn a_signal_ends_it_despite_a_stalled_reader() {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let capture = capture();
    let path = capture.path().to_str().unwrap();
    for (flags, args) in [
        (OFlag::empty(), &["replay", "--json", path][..]),
        (OFlag::O_NONBLOCK, &["replay", "--json", path]),
    ] {
        let (_unread, full) = std::io::pipe().unwrap();
        fcntl(&full, FcntlArg::F_SETPIPE_SZ(4096)).unwrap();
        (&full).write_all(&[b'\n'; 4096]).unwrap();
        fcntl(&full, FcntlArg::F_SETFL(flags)).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(args)
            .stdout(full.try_clone().unwrap())
            .stderr(full)
            .spawn()
            .unwrap();
        let handles = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() & 1 << 14 != 0
        };
        let begun = std::time::Instant::now();
        while !handles() {
            assert!(begun.elapsed().as_secs() < 60, "it handles signals");
            std::thread::yield_now();
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed().as_secs() < 60, "{args:?}, {flags:?}: it does not end");
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// Like timeout(1), which signals both a process and its group: it ends cleanly.
#[test]
fn a_doubled_signal_is_one_and_silent_hosts_delay_nothing() {
    use nix::sys::signal::{Signal, kill};
    for args in [
        &["fleet", "--for", "50s", "--from", "sleep 100"][..],
        &["dump", "--for", "50s", "--from", "sleep 100"],
        &["watch", "--for", "50s", "--from", "sleep 100"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(args)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let handles = || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
            let caught = status.lines().find_map(|l| l.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() & 1 << 1 != 0
        };
        let begun = std::time::Instant::now();
        while !handles() {
            assert!(begun.elapsed().as_secs() < 40, "it handles signals");
            std::thread::yield_now();
        }
        let pid = nix::unistd::Pid::from_raw(child.id() as i32);
        for _ in 0..2 {
            kill(pid, Signal::SIGINT).unwrap();
        }
        let status = loop {
            assert!(begun.elapsed().as_secs() < 45, "{args:?}: it does not end");
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        };
        assert!(status.code().is_some(), "{args:?} ended by the signal: {status}");
    }
}

#[test]
fn hosts_that_fall_silent_are_still_shown() {
    let program = env!("CARGO_BIN_EXE_tmon");
    let stream = format!("unshare -n {program} stream lo --for 4s");
    for more in ["", "; sleep 100"] {
        let from = format!("{stream}{more}");
        let out = tmon(&["dump", "--json", "--for", "8s", "--from", &from]);
        let errors = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success() && !out.stdout.is_empty(), "{from}: {errors}");
    }
}

#[test]
fn invisible_attachments_are_not_reported_as_none() {
    let out = Command::new("unshare")
        .args([
            "-m",
            "sh",
            "-c",
            "while umount /sys/fs/bpf 2>/dev/null; do :; done; exec \"$@\"",
            "sh",
        ])
        .args([env!("CARGO_BIN_EXE_tmon"), "status", "--json"])
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!((out.status.code(), out.stdout.len()), (Some(1), 0), "{errors}");
    assert!(errors.contains("cannot be seen here") && errors.lines().count() == 1, "{errors}");
}

#[test]
fn the_table_follows_the_locale() {
    let capture = capture();
    let names = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(names.path(), "172.16.1.100 größe\n").unwrap();
    let [file, names] = [capture.path(), names.path()].map(|p| p.to_str().unwrap().to_owned());
    let table = |locale: &str, format: &[&str]| {
        let out = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args(["replay", &file, "--names", &names])
            .args(format)
            .env_remove("LC_CTYPE")
            .env("LC_ALL", locale)
            .output()
            .unwrap();
        assert!(out.status.success());
        String::from_utf8(out.stdout).unwrap()
    };
    let (ascii, unicode) = (table("C", &[]), table("C.UTF-8", &[]));
    assert!(ascii.is_ascii() && ascii.contains("A>B") && ascii.contains("gr??e"), "{ascii}");
    assert!(unicode.contains("A→B") && unicode.contains("größe"), "{unicode}");
    assert!(table("C", &["--json"]).contains("größe"), "JSON is UTF-8");
}
