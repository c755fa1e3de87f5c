// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a reader can still do, and what it cannot. Needs root.
//!
//! Without the test harness: the process that runs commands has to be forked before there are
//! threads, and code that confines itself needs a process of its own.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![allow(clippy::unwrap_used, unsafe_code)] // a test's panic is its report

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::ToSocketAddrs,
    os::{
        fd::AsRawFd,
        unix::{
            fs::{MetadataExt, PermissionsExt},
            process::{CommandExt, ExitStatusExt},
        },
    },
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
};

use feed::dns::Resolver;
use ground::{Ground, own_bpffs, send, until};
use nix::{
    pty::{Winsize, openpty},
    sys::{
        signal::{Signal, kill, raise},
        wait::{WaitStatus, waitpid},
    },
    unistd::{ForkResult, Pid, fork},
};
use testkit::ground;
use tmon::kernel::{
    netns,
    runner::Runner,
    sandbox::{Force, Sandbox},
};
use tui::files::Files;

fn main() {
    assert!(nix::unistd::geteuid().is_root(), "these tests need root: run them with sudo");
    let all: [(&str, fn()); 11] = [
        ("only_commands_that_were_named_run", only_commands_that_were_named_run),
        ("a_confined_process_cannot_reach_out", a_confined_process_cannot_reach_out),
        ("commands_end_with_who_asked", commands_end_with_who_asked),
        ("who_was_stopped_ends_with_who_asked", who_was_stopped_ends_with_who_asked),
        ("only_new_files_of_ours_are_made", only_new_files_of_ours_are_made),
        ("trying_it_confines_nobody", trying_it_confines_nobody),
        // From here on there are threads.
        ("dump_follows_and_joins_when_confined", dump_follows_and_joins_when_confined),
        ("captures_are_read_when_confined", captures_are_read_when_confined),
        ("new_interfaces_do_not_delay_readings", new_interfaces_do_not_delay_readings),
        ("top_saves_when_confined", top_saves_when_confined),
        ("the_demonstration_is_confined_too", the_demonstration_is_confined_too),
    ];
    let chosen: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    for (name, test) in all {
        if chosen.is_empty() || chosen.iter().any(|c| name.contains(c.as_str())) {
            test();
            println!("test {name} ... ok");
        }
    }
}

/// Runs this in a separate process, and fails with it.
fn forked(f: impl FnOnce()) -> WaitStatus {
    // SAFETY: there is one thread.
    match unsafe { fork() }.unwrap() {
        ForkResult::Parent { child } => waitpid(child, None).unwrap(),
        ForkResult::Child => {
            let done = catch_unwind(AssertUnwindSafe(f));
            // SAFETY: cleanup is up to the parent.
            unsafe { libc::_exit(i32::from(done.is_err())) }
        }
    }
}

fn succeeds(f: impl FnOnce()) {
    let status = forked(f);
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
}

fn commands(lines: &[&[&str]]) -> Vec<Vec<OsString>> {
    lines.iter().map(|words| words.iter().map(OsString::from).collect()).collect()
}

fn text(mut from: impl Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

fn only_commands_that_were_named_run() {
    // A descriptor that commands would inherit if nobody closed it.
    let stray = File::open("/dev/null").unwrap();
    // SAFETY: an open descriptor.
    unsafe { libc::fcntl(stray.as_raw_fd(), libc::F_SETFD, 0) };
    let runner = Runner::start(commands(&[
        &["cat"],
        &["sh", "-c", "echo out; echo err >&2; exit 3"],
        &["/nonexistent/program\n\x1b"],
        &["sh", "-c", "ls /proc/$$/fd; grep -E 'CapAmb|CapEff|NoNewPrivs' /proc/self/status"],
        &["sh", "-c", "kill -9 $$"],
        &["cat"],
    ]))
    .unwrap();
    assert_eq!(unsafe { libc::fcntl(stray.as_raw_fd(), libc::F_GETFD) }, 0);

    let mut cat = runner.run(0).unwrap();
    let mut other = runner.run(5).unwrap();
    cat.stdin.as_mut().unwrap().write_all(b"to and fro").unwrap();
    cat.stdin = None;
    assert_eq!(text(&cat.stdout), "to and fro");
    assert!(cat.wait().unwrap().success());
    assert!(other.wait().unwrap().success(), "several at a time");

    let mut three = runner.run(1).unwrap();
    assert_eq!((text(&three.stdout), text(&three.stderr)), ("out\n".into(), "err\n".into()));
    assert_eq!(three.wait().unwrap().code(), Some(3));
    assert_eq!(runner.run(4).unwrap().wait().unwrap().signal(), Some(9));

    let mut state = runner.run(3).unwrap();
    let said = text(&state.stdout);
    let own = fs::read_to_string("/proc/self/status").unwrap();
    for name in ["CapAmb", "CapEff", "NoNewPrivs"] {
        let line = own.lines().find(|l| l.starts_with(name)).unwrap();
        assert!(said.contains(line), "{line}: {said}");
    }
    let fds: Vec<&str> = said.lines().take_while(|l| l.parse::<u32>().is_ok()).collect();
    assert_eq!(fds, ["0", "1", "2"], "nothing else is open in a command");
    state.wait().unwrap();

    let refused = runner.run(2).unwrap_err().to_string();
    assert!(refused.starts_with("start /nonexistent/program"), "{refused}");
    assert!(!refused.contains(['\n', '\x1b']), "{refused:?}");
    for none in [6, 7, usize::MAX] {
        assert_eq!(runner.run(none).unwrap_err().to_string(), "there is no such command");
    }
    let mut more: Vec<_> = (0..64).map(|_| runner.run(0).unwrap()).collect();
    assert_eq!(runner.run(0).unwrap_err().to_string(), "64 commands are already running");
    // Dropped commands are terminated, and make room.
    more.truncate(32);
    until("there is room again", || runner.run(0).is_ok());
    drop(more);

    // The location of programs is fixed at startup, whatever is placed before them later.
    let folder = tempfile::tempdir().unwrap();
    let status = forked(|| {
        let tool = |text: &str| {
            let path = folder.path().join("tool");
            fs::write(&path, format!("#!/bin/sh\necho {text}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        };
        tool("relative");
        std::env::set_current_dir(folder.path()).unwrap();
        let path = format!("{}/early:/usr/bin:/bin:", folder.path().display());
        // SAFETY: there is one thread.
        unsafe { std::env::set_var("PATH", path) };
        let runner = Runner::start(commands(&[&["./tool"], &["tool"], &["cat", "/dev/null"]]));
        let runner = runner.unwrap();
        // SAFETY: as above.
        unsafe { std::env::set_var("PATH", "/nowhere") };
        std::env::set_current_dir("/").unwrap();
        fs::create_dir(folder.path().join("early")).unwrap();
        for name in ["tool", "cat"] {
            fs::copy(folder.path().join("tool"), folder.path().join("early").join(name)).unwrap();
        }
        for command in [0, 1] {
            let mut running = runner.run(command).unwrap();
            assert_eq!(text(&running.stdout), "relative\n");
            assert!(running.wait().unwrap().success());
        }
        assert_eq!(text(&runner.run(2).unwrap().stdout), "", "the cat that was there");
        let e = Runner::start(commands(&[&["no-such\x1b-program"]])).unwrap_err().to_string();
        assert!(e.starts_with("there is no program no-such") && !e.contains('\x1b'), "{e:?}");
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");

    let threaded = thread::scope(|s| s.spawn(|| Runner::start(Vec::new())).join().unwrap());
    assert!(threaded.unwrap_err().to_string().contains("before there are threads"));
}

fn errno(done: libc::c_long) -> Option<i32> {
    (done < 0).then(|| io::Error::last_os_error().raw_os_error().unwrap())
}

fn refused<T>(done: io::Result<T>) -> bool {
    done.is_err_and(|e| e.raw_os_error() == Some(libc::EACCES))
}

fn a_confined_process_cannot_reach_out() {
    let runner = Runner::start(commands(&[&["cat", "/proc/self/status"], &["true"]])).unwrap();
    let (own, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(other.path().join("secret"), "").unwrap();
    let mut early = File::open(other.path().join("secret")).unwrap();
    succeeds(|| {
        // A thread that exists already, like those for DNS queries.
        let (go, gone) = channel::<()>();
        let earlier = thread::spawn(move || {
            gone.recv().unwrap();
            Command::new("true").status()
        });
        Sandbox::new(Some(own.path())).enter_all().unwrap();
        go.send(()).unwrap();

        assert!(refused(File::open("/etc/shadow")), "/etc/shadow");
        assert!(refused(File::open(other.path().join("secret"))));
        assert!(refused(fs::read_dir("/etc")) && refused(fs::read_dir("/root")));
        assert!(refused(fs::write(other.path().join("new"), "")));
        assert!(refused(fs::write("/etc/hosts", "")), "read, not written");
        assert!(refused(fs::create_dir(own.path().join("folder"))), "files only");

        // What was open stays open, and what is needed is accessible.
        early.read_to_end(&mut Vec::new()).unwrap();
        for needed in ["/etc/hosts", "/proc/self/status", "/proc/sys/kernel/osrelease"] {
            fs::read(needed).unwrap();
        }
        for folder in ["/proc", "/run/netns", "/sys/fs/bpf"] {
            let read = fs::read_dir(folder);
            assert!(read.is_ok() || read.is_err_and(|e| e.raw_os_error() == Some(libc::ENOENT)));
        }
        fs::write(own.path().join("beside"), "a").unwrap();
        assert!(refused(fs::read(own.path().join("beside"))), "written, not read");
        fs::rename(own.path().join("beside"), own.path().join("saved")).unwrap();
        File::options().write(true).open("/dev/null").unwrap();
        assert!("localhost:53".to_socket_addrs().unwrap().next().is_some(), "nsswitch.conf");
        let dns = Sandbox::new(None);
        let resolver = Resolver::new(move || dns.confine_strictly()).unwrap();
        resolver.name([127, 0, 0, 1].into());
        until("the resolver has answered", || !resolver.is_waiting());
        let hosts = fs::read_to_string("/etc/hosts").unwrap();
        assert!(
            resolver.name([127, 0, 0, 1].into()).is_some() || !hosts.contains("127.0.0.1"),
            "a confined thread asks the system's resolver"
        );

        // No thread can start a program or inspect other processes.
        let exec = Command::new("true").exec();
        assert_eq!(exec.raw_os_error(), Some(libc::EPERM), "{exec}");
        let exec = earlier.join().unwrap().unwrap_err();
        assert_eq!(exec.raw_os_error(), Some(libc::EPERM), "{exec}");
        let me = std::process::id();
        // SAFETY: numbers only, or empty lists.
        unsafe {
            assert_eq!(errno(libc::ptrace(libc::PTRACE_TRACEME)), Some(libc::EPERM));
            let vm = libc::syscall(libc::SYS_process_vm_readv, me, 0, 0, 0, 0, 0);
            assert_eq!(errno(vm), Some(libc::EPERM));
            let io = libc::syscall(libc::SYS_io_uring_setup, 0, 0);
            assert_eq!(errno(io), Some(libc::EPERM));
            // Nor change files by their owner's rights, signal others, or talk to services.
            let (path, file) = (c"/proc/self/exe", early.as_raw_fd());
            let parent = libc::getppid();
            for (what, done) in [
                ("chmod", i64::from(libc::chmod(path.as_ptr(), 0o4755))),
                ("fchmod", i64::from(libc::fchmod(file, 0o4755))),
                ("chown", i64::from(libc::chown(path.as_ptr(), 0, 0))),
                ("kill", i64::from(libc::kill(parent, 0))),
                ("tgkill", libc::syscall(libc::SYS_tgkill, parent, parent, 0)),
                ("unshare", i64::from(libc::unshare(libc::CLONE_NEWUSER))),
                ("socket", i64::from(libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0))),
            ] {
                assert_eq!(errno(done), Some(libc::EPERM), "{what}");
            }
            assert_eq!(libc::kill(me as i32, 0), 0, "as a panic signals itself");
            assert_eq!(libc::fchmod(file, 0o644), 0, "the mode for node_exporter's files");
            #[cfg(target_arch = "x86_64")]
            for x32 in [520, 521, libc::SYS_mount] {
                let done = libc::syscall(x32 | 0x4000_0000, 0, 0, 0, 0, 0);
                assert_eq!(errno(done), Some(libc::EPERM), "x32 call {x32}");
            }
        }

        // Only commands named before, with the caller's rights.
        let mut status = runner.run(0).unwrap();
        let said = text(&status.stdout);
        assert!(said.contains("NoNewPrivs:\t0") && said.contains("Seccomp:\t0"), "{said}");
        assert!(status.wait().unwrap().success());
        assert!(runner.run(2).is_err());
    });
    drop(runner);
}

/// By the process that creates files for confined readers.
fn only_new_files_of_ours_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let names = || {
        let mut all: Vec<_> =
            fs::read_dir(&folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        all.sort();
        all
    };
    let before = std::env::current_dir().unwrap();
    std::env::set_current_dir(&folder).unwrap();
    fs::write("tmon-there.svg", "theirs").unwrap();
    succeeds(|| {
        let runner = Runner::start(Vec::new()).unwrap();
        Sandbox::new(None).enter_all().unwrap();
        assert!(refused(fs::write("tmon-x.svg", "")), "not by a confined thread");
        runner.begin().unwrap().write_all(b"picture").unwrap();
        for name in
            ["", "x.svg", ".tmon-x", "tmon-/../x", "/tmon-x", "tmon-\n", "tmon-\0", "tmon-ä"]
        {
            let made = runner.keep(name);
            assert!(made.is_err_and(|e| e.kind() != io::ErrorKind::AlreadyExists), "{name:?}");
        }
        assert!(runner.keep(&format!("tmon-{}", "x".repeat(300))).is_err());
        let there = runner.keep("tmon-there.svg").unwrap_err();
        assert_eq!(there.kind(), io::ErrorKind::AlreadyExists);
        runner.keep("tmon-kept.svg").unwrap();
        assert!(runner.keep("tmon-again.svg").is_err(), "there is no other new file");
        runner.begin().unwrap().write_all(b"half").unwrap();
        runner.discard();
        runner.begin().unwrap().write_all(b"half").unwrap();
    });
    until("what was not kept is gone", || names() == ["tmon-kept.svg", "tmon-there.svg"]);
    assert_eq!(fs::read_to_string("tmon-kept.svg").unwrap(), "picture");
    assert_eq!(fs::metadata("tmon-kept.svg").unwrap().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string("tmon-there.svg").unwrap(), "theirs");
    std::env::set_current_dir(before).unwrap();
}

fn commands_end_with_who_asked() {
    let (read, mut write) = io::pipe().unwrap();
    let status = forked(|| {
        // The killed process is not the first of its group, which ends by the first signal.
        let script = "sh -c 'trap \"\" TERM; echo $$; sleep 600; true' | cat";
        let runner = Runner::start(commands(&[&["sh", "-c", script]])).unwrap();
        let running = runner.run(0).unwrap();
        let mut line = String::new();
        BufReader::new(&running.stdout).read_line(&mut line).unwrap();
        write.write_all(line.as_bytes()).unwrap();
        raise(Signal::SIGKILL).unwrap();
    });
    assert!(matches!(status, WaitStatus::Signaled(_, Signal::SIGKILL, _)), "{status:?}");
    drop(write);
    let command: u32 = text(read).trim().parse().unwrap();
    let lives = || {
        fs::read_to_string(format!("/proc/{command}/stat"))
            .is_ok_and(|s| !s.rsplit(')').next().unwrap_or_default().starts_with(" Z"))
    };
    until("the command ends", || !lives());
}

fn who_was_stopped_ends_with_who_asked() {
    let (read, mut write) = io::pipe().unwrap();
    let status = forked(|| {
        let runner =
            Runner::start(commands(&[&["sh", "-c", "read go; echo $PPID; kill -STOP $PPID"]]))
                .unwrap();
        let mut running = runner.run(0).unwrap();
        // Not before it has answered.
        running.stdin.take().unwrap().write_all(b"\n").unwrap();
        let mut line = String::new();
        BufReader::new(&running.stdout).read_line(&mut line).unwrap();
        until("it is stopped", || state(line.trim()) == Some('T'));
        write.write_all(line.as_bytes()).unwrap();
    });
    assert!(matches!(status, WaitStatus::Exited(_, 0)), "{status:?}");
    drop(write);
    let process = text(read).trim().to_owned();
    until("it ends", || state(&process).is_none_or(|state| state == 'Z'));
}

/// The state of a process: `T` if it is stopped.
fn state(process: &str) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(')').next()?.trim().chars().next()
}

fn trying_it_confines_nobody() {
    let force = Force::tried().unwrap();
    assert!(force.landlock.is_some_and(|abi| abi >= 1) && force.seccomp, "{force:?}");
    File::open("/etc/shadow").unwrap();
    assert!(Command::new("true").status().unwrap().success());
}

/// A field of each thread of a process in /proc/PID/task/TID/status.
fn threads(pid: u32, name: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    let status = tasks.filter_map(|t| fs::read_to_string(t.unwrap().path().join("status")).ok());
    status
        .map(|s| s.lines().find_map(|l| l.strip_prefix(name)).unwrap().trim().to_owned())
        .collect()
}

fn are_confined(pid: u32) {
    let of = |name| threads(pid, name);
    assert!(of("Seccomp:").iter().all(|mode| mode == "2"), "{:?}", of("Seccomp:"));
    assert!(of("NoNewPrivs:").iter().all(|on| on == "1"), "{:?}", of("NoNewPrivs:"));
}

fn dump_follows_and_joins_when_confined() {
    let g = Ground::new();
    own_bpffs();
    let names = tempfile::NamedTempFile::new().unwrap();
    fs::write(&names, "10.77.0.1 here\n").unwrap();
    let tmon = || Command::new(env!("CARGO_BIN_EXE_tmon"));
    let mut child = tmon()
        .args(["dump", "eth*", "--netns", g.a.name(), "--rows", "64", "--resolve"])
        .args(["--watch", "100ms", "--for", "10m", "--json", "--names"])
        .arg(names.path())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut reading =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    reading();
    are_confined(child.id());
    assert!(threads(child.id(), "Name:").iter().any(|n| n == "tmon-dns"), "DNS is asked");

    // An interface on which another process already counts appears with a wanted name.
    g.a.ip("link add other0 type veth peer other1");
    let attach = ["attach", "other0", "--netns", g.a.name(), "--rows", "64"];
    assert!(tmon().args(attach).stdout(Stdio::null()).status().unwrap().success());
    g.a.ip("link set other0 name eth8\nlink add eth7 type veth peer peer7");
    let [a, b] = g.sockets(7000);
    let interface = |r: &serde_json::Value, name: &str| {
        r["interfaces"].as_array().unwrap().iter().find(|i| i["name"] == name).cloned()
    };
    until("it joins the one and watches the other", || {
        let r = reading();
        interface(&r, "eth8").is_some_and(|i| i["attached"].is_string())
            && interface(&r, "eth7").is_some_and(|i| i["attached"].is_null())
    });
    until("names arrive", || {
        send(&a, &b, 1);
        reading()["flows"].as_array().unwrap().iter().any(|f| f["outer_sname"] == "here")
    });
    are_confined(child.id());
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(tmon().args(["detach", "--all"]).stdout(Stdio::null()).status().unwrap().success());
}

/// The program on a terminal of its own: the process, the keyboard, and its output, piece by piece
/// until it has ended.
fn on_a_terminal(args: &[&str], folder: &Path) -> (Child, File, Receiver<Vec<u8>>) {
    let size = Winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
    let pty = openpty(Some(&size), None).unwrap();
    let end = || Stdio::from(pty.slave.try_clone().unwrap());
    let child = Command::new("setsid")
        .arg("--ctty")
        .arg(env!("CARGO_BIN_EXE_tmon"))
        .args(args)
        .env("TERM", "xterm-256color")
        .env("HOME", "/nonexistent")
        .current_dir(folder)
        .stdin(end())
        .stdout(end())
        .stderr(end())
        .spawn()
        .unwrap();
    let mut screen = File::from(pty.master.try_clone().unwrap());
    let (seen, output) = channel();
    thread::spawn(move || {
        let mut some = [0; 65536];
        // EIO once the other end is closed.
        while let Ok(n @ 1..) = screen.read(&mut some) {
            if seen.send(some[..n].to_vec()).is_err() {
                break;
            }
        }
    });
    (child, File::from(pty.master), output)
}

/// Not a byte of a capture is read before confinement: a reader waits for the first byte and is
/// confined.
fn captures_are_read_when_confined() {
    let capabilities = |pid, set: &str| {
        let all = threads(pid, set).into_iter();
        all.map(|caps| u64::from_str_radix(&caps, 16).unwrap()).fold(0, |all, caps| all | caps)
    };
    // CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF.
    let loading = 1 << 12 | 1 << 38 | 1 << 39;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("capture");
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let file = path.to_str().unwrap();
    for (args, kept) in [
        (&["replay", "--json", file][..], 0),
        (&["replay", "--json", "--kernel", "--rows", "64", file], loading),
        (&["watch", "--read", file], 0),
        (&["top", "--graphics", "off", "--read", file], 0),
    ] {
        let (mut child, mut keys, output) = on_a_terminal(args, folder.path());
        let mut capture = File::options().write(true).open(&path).unwrap();
        let is_dashboard = args[0] == "top";
        until(&format!("{args:?} is confined"), || {
            assert_eq!(child.try_wait().unwrap(), None, "{args:?} has ended");
            threads(child.id(), "Seccomp:").iter().all(|mode| mode == "2")
        });
        are_confined(child.id());
        for set in ["CapEff:", "CapPrm:", "CapInh:", "CapAmb:"] {
            let held = capabilities(child.id(), set);
            assert_eq!(held & !kept, 0, "{args:?} has {held:x} in {set}");
        }
        for word in [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1] {
            capture.write_all(&word.to_le_bytes()).unwrap();
        }
        // A reader that waits for more ends on a key or a signal.
        if is_dashboard {
            let shown = output.recv_timeout(std::time::Duration::from_secs(60));
            assert!(shown.is_ok(), "a picture before there is a packet");
            until("it ends by a key while the pipe is open", || {
                keys.write_all(b"q").unwrap();
                child.try_wait().unwrap().is_some()
            });
        } else {
            until("the header is read", || {
                let mut left = 0;
                // SAFETY: an open descriptor, and a number that lives as long as the call.
                let done = unsafe { libc::ioctl(capture.as_raw_fd(), libc::FIONREAD, &mut left) };
                done == 0 && left == 0
            });
            kill(Pid::from_raw(child.id() as i32), Signal::SIGTERM).unwrap();
            until("it ends when it is told to", || child.try_wait().unwrap().is_some());
        }
        assert!(child.wait().unwrap().success(), "{args:?}");
        let said: Vec<u8> = output.iter().flatten().collect();
        let said = String::from_utf8_lossy(&said);
        assert!(!said.contains("tmon:"), "{args:?}: {said}");
    }
}

fn new_interfaces_do_not_delay_readings() {
    let g = Ground::new();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tmon"))
        .args(["dump", "eth*", "--netns", g.a.name(), "--rows", "64"])
        .args(["--watch", "100ms", "--for", "10m", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut reading =
        || -> serde_json::Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    reading();
    let links: Vec<String> =
        (10..60).map(|i| format!("link add eth{i} type veth peer peer{i}")).collect();
    g.a.ip(&links.join("\n"));
    // A single attachment may take any time on a busy machine; the shutdown does not wait for two
    // or more.
    let (mut before, mut most) = (1, 0);
    until("all of them are watched", || {
        let now = reading()["interfaces"].as_array().unwrap().len();
        most = most.max(now - before);
        before = now;
        now == 51
    });
    assert!(most < 25, "{most} were attached to between two readings");
    child.kill().unwrap();
    child.wait().unwrap();
}

fn top_saves_when_confined() {
    let g = Ground::new();
    let folder = tempfile::tempdir().unwrap();
    let args = ["--rows", "64", "--interval", "200ms", "--graphics", "off", "--resolve"];
    let args = [&["top", "eth0", "--netns", g.a.name()][..], &args].concat();
    let (mut child, mut keys, output) = on_a_terminal(&args, folder.path());
    let [a, b] = g.sockets(7000);
    let saved = |ending: &str| {
        fs::read_dir(&folder).unwrap().map(|e| e.unwrap()).any(|e| {
            e.file_name().to_string_lossy().ends_with(ending) && e.metadata().unwrap().len() > 0
        })
    };
    until("the picture and the page are saved", || {
        send(&a, &b, 1);
        thread::sleep(std::time::Duration::from_millis(200)); // like a human would
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended: {status:?}");
        }
        keys.write_all(b"eE").unwrap();
        saved(".svg") && saved(".html")
    });
    are_confined(child.id());
    keys.write_all(b"q").unwrap();
    assert!(child.wait().unwrap().success());
    output.iter().for_each(drop);
    for file in fs::read_dir(&folder).unwrap().map(|e| e.unwrap().path()) {
        let text = fs::read_to_string(&file).unwrap();
        let end = text.trim_end();
        assert!(
            end.ends_with("</svg>") || end.ends_with("</script>") || end.ends_with("</html>"),
            "{}: {}",
            file.display(),
            &end[end.len().saturating_sub(200)..]
        );
    }
}

/// Its dashboard is confined like any other, and a helper process removes the lab, which it could
/// not.
fn the_demonstration_is_confined_too() {
    let prefix = format!("tmon-d{}", std::process::id());
    let args = ["demo", "--graphics", "off", "--interval", "200ms", "--prefix", &prefix];
    let (mut child, mut keys, output) = on_a_terminal(&args, Path::new("/"));
    let mut text = Vec::new();
    until("traffic of the lab on the screen", || {
        text.extend(output.try_iter().flatten());
        if let Some(status) = child.try_wait().unwrap() {
            panic!("it ended: {status:?}: {}", String::from_utf8_lossy(&text));
        }
        String::from_utf8_lossy(&text).contains("172.16.1.10")
    });
    are_confined(child.id());
    let left = || {
        let all = netns::list().unwrap().into_iter();
        all.filter(|name| name.starts_with(&prefix)).collect::<Vec<_>>()
    };
    assert_eq!(left().len(), 10);
    keys.write_all(b"q").unwrap();
    let status = child.wait().unwrap();
    text.extend(output.iter().flatten());
    assert!(status.success(), "{status:?}: {}", String::from_utf8_lossy(&text));
    assert_eq!(left(), Vec::<String>::new());
}
