// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dashboard on a pseudo-terminal of the test: what it restores, and what it survives. A
//! terminal that answers nothing, like this one, is the hardest case.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![allow(clippy::unwrap_used)] // a panic is this program's report
use std::{
    fs::{File, OpenOptions},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::{OpenOptionsExt, PermissionsExt},
    },
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use feed::{CatchNews, Closer, Reading, Source};
use model::{
    charset::Charset,
    filter::Filter,
    flow::{Count, Counters, Flow, Inner, Key, Kind, Pair, Tunnel},
    lens::Lens,
    rows::Rows,
    snapshot::Snapshot,
};
use nix::{
    fcntl::OFlag,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    pty::{grantpt, posix_openpt, ptsname_r, unlockpt},
    sys::{
        signal::{Signal, kill},
        termios::{FlowArg, LocalFlags, tcflow, tcgetattr},
    },
    unistd::Pid,
};
use rustix::termios::{Winsize, tcsetwinsize};
use tui::{self, TuiOptions, graphics::Choice};

/// Not a test: the dashboard that the other tests run in a terminal, configured by the environment.
#[test]
#[ignore = "run by the other tests"]
fn child() {
    let Ok(what) = std::env::var("TMON_TEST_CHILD") else { return };
    let mut t = 0;
    let graphics = if what == "kitty" { Choice::ALL[1].0 } else { Choice::default() };
    let opts =
        TuiOptions { interval: Duration::from_millis(20), graphics, ..TuiOptions::default() };
    // hours between readings: nothing is drawn, so nothing reveals that the terminal is gone
    let interval = if what == "idle" { Duration::from_secs(3600) } else { opts.interval };
    if what == "packets" {
        tui::run(opts, None, &mut Packets::default()).unwrap();
        return eprintln!("left in order");
    }
    let done =
        tui::run(TuiOptions { interval, ..opts }, None, &mut || -> anyhow::Result<Reading> {
            t += 1;
            assert!(what != "panic" || t < 4, "a bug in the dashboard");
            Ok(Reading::from(snapshot(t)))
        });
    done.unwrap();
    eprintln!("left in order");
}

/// A source that also has packets: three of each.
#[derive(Default)]
struct Packets {
    t: u64,
    rows: Option<Filter>,
    capture: Option<(File, String)>,
}

impl Source for Packets {
    fn read(&mut self) -> anyhow::Result<Reading> {
        self.t += 1;
        Ok(Reading::from(snapshot(self.t)))
    }

    fn closer(&mut self) -> anyhow::Result<&mut dyn Closer> {
        Ok(self)
    }
}

impl Closer for Packets {
    fn look(&mut self, rows: Option<&Filter>) -> anyhow::Result<()> {
        self.rows = rows.cloned();
        Ok(())
    }

    fn seen(&mut self) -> anyhow::Result<Option<Lens>> {
        let of = |rows: &Filter| Lens { filter: rows.to_string(), looked_at: 3, ..Lens::default() };
        Ok(self.rows.as_ref().map(of))
    }

    fn catch(
        &mut self,
        _: &Filter,
        to: File,
        keep: &dyn Fn() -> anyhow::Result<String>,
    ) -> anyhow::Result<String> {
        let name = keep()?;
        self.capture = Some((to, name.clone()));
        Ok(name)
    }

    fn caught(&mut self, over: bool) -> Option<CatchNews> {
        let (mut file, name) = self.capture.take_if(|_| over).or_else(|| {
            let (file, name) = self.capture.as_ref()?;
            Some((file.try_clone().unwrap(), name.clone()))
        })?;
        let end = over.then(|| {
            file.write_all(b"three packets").unwrap();
            Ok(format!("{name}: so many packets"))
        });
        Some(CatchNews { packets: 3, bytes: 100, lost: 0, end })
    }
}

fn snapshot(t: u64) -> Snapshot {
    let mut rows = Rows::default();
    for n in 1..9u8 {
        let pair = |a: [u8; 3]| Pair {
            first: [a[0], a[1], a[2], 1].into(),
            second: [a[0], a[1], a[2], 1 + n].into(),
        };
        let key = Key {
            outer: Some(pair([10, 0, 0])),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(u32::from(n % 3)) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(pair([192, 168, 0])),
            other: false,
        };
        let c = Count { packets: t, bytes: t * 100 * u64::from(n) };
        let counters = Counters {
            cells: [[Count::default(), c], [c, Count::default()]],
            ..Default::default()
        };
        rows.push_flow(u32::from(n), &Flow { interface: 0, key, counters });
    }
    let at = Duration::from_millis(50 * t);
    Snapshot {
        origin: Default::default(),
        since: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH + at,
        at,
        interfaces: vec![],
        rows,
        drops: None,
        beside: Default::default(),
    }
}

/// A dashboard in a terminal.
struct Screen {
    child: Child,
    master: OwnedFd,
    slave: OwnedFd,
    keys: File,
    output: Receiver<Vec<u8>>,
    seen: Vec<u8>,
    reader: Option<thread::JoinHandle<()>>,
    /// Whether reading what the dashboard draws is paused.
    paused: Arc<AtomicBool>,
    closed: Arc<AtomicBool>,
}

/// How long anything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Screen {
    fn open(what: &str) -> Self {
        Screen::open_in(what, std::path::Path::new("."), "")
    }

    /// Starts it in a folder, after a shell command.
    fn open_in(what: &str, folder: &std::path::Path, first: &str) -> Self {
        // close on exec: other tests start programs at the same time
        let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
        let pty = posix_openpt(flags).unwrap();
        grantpt(&pty).unwrap();
        unlockpt(&pty).unwrap();
        let slave = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(OFlag::O_NOCTTY.bits())
            .open(ptsname_r(&pty).unwrap())
            .unwrap();
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 800, ws_ypixel: 480 };
        tcsetwinsize(&slave, size).unwrap();
        let (master, slave) = (pty.as_fd().try_clone_to_owned().unwrap(), OwnedFd::from(slave));
        drop(pty);
        let end = || Stdio::from(slave.try_clone().unwrap());
        // a session of its own, whose terminal this is
        // whose leader, the shell, is told when it goes away, and does not pass that on
        let child = Command::new("setsid")
            .args(["--ctty", "--wait", "sh", "-c"])
            .args([&format!("trap '' HUP; {first} \"$@\"; exit $?"), "sh"])
            .current_dir(folder)
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env_clear()
            .envs([
                ("TMON_TEST_CHILD", what),
                ("TERM", "xterm-256color"),
                ("RUST_BACKTRACE", "0"),
                ("PATH", "/usr/bin:/bin"),
            ])
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let (send, output) = channel();
        let mut out = File::from(master.try_clone().unwrap());
        let (paused, closed) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let [pause, close] = [&paused, &closed].map(Arc::clone);
        let reader = thread::spawn(move || {
            let mut some = [0; 65536];
            while !close.load(Ordering::Relaxed) {
                let wanted = if pause.load(Ordering::Relaxed) {
                    PollFlags::empty()
                } else {
                    PollFlags::POLLIN
                };
                let mut fds = [PollFd::new(out.as_fd(), wanted)];
                if poll(&mut fds, 20u8).unwrap_or(0) == 0 {
                    continue;
                }
                match out.read(&mut some) {
                    Ok(n @ 1..) if send.send(some[..n].to_vec()).is_ok() => {}
                    _ => return,
                }
            }
        });
        let keys = File::from(master.try_clone().unwrap());
        Screen {
            child,
            master,
            slave,
            keys,
            output,
            seen: Vec::new(),
            reader: Some(reader),
            paused,
            closed,
        }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// The end of the output.
    fn last(&self) -> String {
        String::from_utf8_lossy(&self.seen[self.seen.len().saturating_sub(2000)..]).into_owned()
    }

    /// Waits until new output contains this text; forgets what came before it.
    fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|w| w == text.as_bytes()) {
                self.seen.drain(..at);
                return;
            }
            match self.output.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(more) => self.seen.extend(more),
                Err(_) => panic!("{text:?} never came; there is {:?}", self.last()),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.send(keys.as_bytes());
    }

    fn send(&mut self, bytes: &[u8]) {
        self.keys.write_all(bytes).unwrap();
    }

    /// Waits until another frame is on the screen; it may have begun earlier.
    fn wait_for_frame(&mut self) {
        while let Ok(more) = self.output.try_recv() {
            self.seen.extend(more);
        }
        self.seen.clear();
        self.wait_for("\x1b[?2026l");
    }

    /// Closes the window.
    fn hang_up(&mut self) {
        self.closed.store(true, Ordering::Relaxed);
        self.reader.take().unwrap().join().unwrap();
        self.keys = File::open("/dev/null").unwrap();
        self.master = File::open("/dev/null").unwrap().into();
    }

    /// The dashboard's own process, a child of the shell.
    fn process(&self) -> Pid {
        let path = format!("/proc/{0}/task/{0}/children", self.child.id());
        let child = std::fs::read_to_string(path).unwrap();
        Pid::from_raw(child.trim().parse().unwrap())
    }

    /// Ends it with SIGTERM; this must take less than a second of its own time, however busy the
    /// machine is.
    fn terminate(&mut self) {
        kill(self.process(), Signal::SIGTERM).unwrap();
        let begun = Instant::now();
        self.wait_for_end();
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }

    fn resize(&self, columns: u16, rows: u16) {
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.slave, size).unwrap();
    }

    /// Everything that a shell needs has been restored.
    fn is_given_back(&mut self) {
        for sequence in ["\x1b[?1006l", "\x1b[?2004l", "\x1b[?1049l", "\x1b[?25h"] {
            assert!(
                self.text().contains(sequence),
                "{sequence:?} is missing at the end: {:?}",
                self.text()
            );
        }
        let lines = tcgetattr(&self.master).unwrap().local_flags;
        assert!(
            lines.contains(LocalFlags::ECHO | LocalFlags::ICANON | LocalFlags::ISIG),
            "{lines:?}"
        );
    }

    fn wait_for_end(&mut self) {
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not end; there is {:?}", self.last());
            if let Ok(more) = self.output.recv_timeout(Duration::from_millis(20)) {
                self.seen.extend(more);
            }
        }
        while let Ok(more) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.seen.extend(more);
        }
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[test]
fn a_panic_restores_the_terminal_before_its_message() {
    let mut s = Screen::open("panic");
    s.wait_for_end();
    let text = s.text();
    let (left, spoken) = (text.find("\x1b[?1049l"), text.find("a bug in the dashboard"));
    assert!(left.is_some() && left < spoken, "nobody reads the alternate screen: {text:?}");
    s.is_given_back();
}

#[test]
fn quitting_restores_the_terminal() {
    let mut s = Screen::open("run");
    s.wait_for("10.0.0.9");
    s.press("q");
    s.wait_for_end();
    s.is_given_back();
    assert!(s.text().contains("left in order"));
}

#[test]
fn it_survives_any_window_and_any_input() {
    let mut s = Screen::open("run");
    s.wait_for("10.0.0.9");
    // escape is pressed twice: a single one could begin a sequence
    for size in [(1, 1), (300, 90), (2, 1), (1, 40), (500, 3), (65535, 65535), (80, 24)] {
        s.resize(size.0, size.1);
        s.press("jl2j3jH\t?\x1b\x1b");
    }
    // random keys, the mouse everywhere, meaningless sequences
    let every = "jklhgGmc+-sStbiI[]{}p \t1234H?\x1b[A\x1b[B\x1b[5~\r\x1b/host:1\x1b\x1b";
    s.press(&every.repeat(10));
    s.press(
        "\x1b[<0;40;12M\x1b[<0;40;12m\x1b[<35;9;9M\x1b[<64;9;9M\x1b[<0;65535;65535M\x1b[?62;4c\x1b[6;20;10t\x1b[999;999R\x1bP1$r\x1b\\",
    );
    // a paste is text: its q does not quit
    s.press("\x1b[200~qqq\x1b[201~\x1b\x1b/");
    s.wait_for("host:172.16.1.0/24");
    s.press("\x1b[200~vni:1\x07\x1b[201~");
    s.wait_for("vni:1");
    s.press("\x1b\x1bq");
    s.wait_for_end();
    s.is_given_back();
    assert!(s.text().contains("left in order"));
}

#[test]
fn pictures_come_and_go() {
    let mut s = Screen::open("kitty");
    s.wait_for("\x1b_Ga=T,f=100,t=d,");
    s.press("2");
    s.wait_for("\x1b_Ga=d,d=I,");
    s.press("1");
    s.wait_for("\x1b_Ga=T,f=100,t=d,");
    s.press("q");
    s.wait_for_end();
    s.is_given_back();
    let (gone, left) = (s.text().rfind("\x1b_Ga=d"), s.text().find("\x1b[?1049l"));
    assert!(gone.is_some() && gone < left, "the last picture goes with the dashboard");
}

/// Sequences that no key sends, half of a key, and answers to no query.
fn odd_input() -> Vec<Vec<u8>> {
    let mut all: Vec<Vec<u8>> = [
        "\x1b[200~half a paste",
        "\x1b[8;24;80t",
        "\x1b[?62;22c",
        "\x1b[>0;276;0c",
        "\x1b[>41;354;0c",
        "\x1b[?2026;2$y",
        "\x1b[?1u",
        "\x1b[97;1:3u",
        "\x1b[12;40R",
        "\x1b[I",
        "\x1b[O",
        "\x1b]10;rgb:ffff/ffff/ffff\x1b\\",
        "\x1b]11;rgb:0000/0000/0000\x07",
        "\x1b]11;rgb:0000/",
        "\x1bP>|tmux 3.4\x1b\\",
        "\x1bP>|iTerm2 3.5",
        "\x1b_Gi=31;OK\x1b\\",
        "\x1b[3^",
        "\x1b[7$",
        "\x1b[[",
        "\x1b[M",
        "\x1b[<0;1",
    ]
    .map(|s| s.as_bytes().to_vec())
    .into();
    all.extend((0x80..=0xff).map(|b| vec![b]));
    for introducer in ["\x1b[", "\x1bO", "\x1b[1;5", "\x1b[?1"] {
        all.extend((0x20..0x7f).map(|b| [introducer.as_bytes(), &[b]].concat()));
    }
    // the rest are keys, except those that quit, suspend or ask
    all.extend((0..0x20).filter(|b| ![0x03, 0x1a].contains(b)).map(|b| vec![b]));
    all
}

#[test]
fn no_input_stops_drawing() {
    let mut s = Screen::open("run");
    s.wait_for("10.0.0.9");
    for bytes in odd_input() {
        s.send(&bytes);
        s.wait_for_frame();
        // what arrives at once belongs to the paste
        let begun = Instant::now();
        while bytes.starts_with(b"\x1b[200~") && begun.elapsed() < Duration::from_secs(2) {
            s.wait_for_frame();
        }
    }
    // leave whatever was opened
    for _ in 0..3 {
        s.press("\x1b\x1b");
        s.wait_for_frame();
    }
    s.press("q");
    s.wait_for_end();
    s.is_given_back();
    assert!(s.text().contains("left in order"));
}

#[test]
fn a_signal_ends_it_at_any_time() {
    for bytes in ["\x1b[E", "\x1b[200~half a paste", "\x1b", "\x1b]11;rgb:"] {
        let mut s = Screen::open("run");
        s.wait_for("10.0.0.9");
        s.press(bytes);
        s.terminate();
        s.is_given_back();
    }
    let mut s = Screen::open("run");
    s.wait_for("10.0.0.9");
    s.send(b"\xfc");
    s.terminate();
    s.is_given_back();
}

/// Nobody reads its output: it continues, handles keys and signals, and restores what it can.
#[test]
fn a_stalled_terminal_delays_nothing() {
    for (signal, stopped) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut s = Screen::open("run");
        s.wait_for("10.0.0.9");
        if stopped {
            tcflow(&s.slave, FlowArg::TCOOFF).unwrap(); // Ctrl-S
        } else {
            s.paused.store(true, Ordering::Relaxed);
        }
        let full = || {
            let mut room = [PollFd::new(s.slave.as_fd(), PollFlags::POLLOUT)];
            poll(&mut room, PollTimeout::ZERO).unwrap() == 0
        };
        let begun = Instant::now();
        while !full() {
            assert!(begun.elapsed() < PATIENCE, "it draws nothing");
            thread::sleep(Duration::from_millis(10));
        }
        let begun = Instant::now();
        if signal {
            kill(s.process(), Signal::SIGTERM).unwrap();
        } else {
            s.press("q");
        }
        while !tcgetattr(&s.master).unwrap().local_flags.contains(LocalFlags::ICANON) {
            assert!(begun.elapsed() < Duration::from_secs(10), "it waits for the terminal");
            thread::sleep(Duration::from_millis(10));
        }
        if stopped {
            // what had not been written by then is never written
            tcflow(&s.slave, FlowArg::TCOON).unwrap();
            s.wait_for_end();
        } else {
            s.paused.store(false, Ordering::Relaxed);
            s.wait_for_end();
            s.is_given_back();
        }
    }
}

/// The terminal goes away without a signal.
#[test]
fn it_ends_when_the_terminal_is_gone() {
    for what in ["run", "idle"] {
        let mut s = Screen::open(what);
        s.wait_for_frame();
        let process = s.process();
        s.hang_up();
        let begun = Instant::now();
        while kill(process, None).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(10), "{what}: it does not end");
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// The files in a folder, with their contents.
fn files(folder: &std::path::Path) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .map(|e| {
            let name = e.file_name().into_string().unwrap();
            (name, std::fs::read_to_string(e.path()).unwrap())
        })
        .collect()
}

#[test]
fn saved_files_are_complete_or_absent() {
    for (key, ending, last) in [("e", ".svg", "</svg>"), ("E", ".html", "</html>")] {
        let folder = tempfile::tempdir().unwrap();
        let mut s = Screen::open_in("run", folder.path(), "");
        s.wait_for("10.0.0.9");
        s.press(key);
        s.press("\x0c");
        s.wait_for("saved tmon-");
        let saved = files(folder.path());
        let [(name, text)] = saved.as_slice() else { panic!("{saved:?}") };
        assert!(name.starts_with("tmon-") && name.ends_with(ending), "{name}");
        assert!(text.trim_end().ends_with(last), "{name} has an end");
        drop(s);

        // no file may exceed one block, as on a full disk
        let folder = tempfile::tempdir().unwrap();
        let mut s = Screen::open_in("run", folder.path(), "trap '' XFSZ; ulimit -f 1;");
        s.wait_for("10.0.0.9");
        s.press(key);
        s.press("\x0c");
        s.wait_for("not saved");
        assert_eq!(files(folder.path()), []);
        s.press("q");
        s.wait_for_end();
        s.is_given_back();
    }
}

#[test]
fn packets_of_the_selection_are_examined_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let mut s = Screen::open_in("packets", folder.path(), "");
    s.wait_for("10.0.0.9");
    s.press("jL");
    s.wait_for("lens-lost");
    s.press("w");
    s.wait_for("3 packets, 100 B, 0 lost");
    s.press("\x0c");
    s.wait_for("w stops it");
    s.press("w");
    s.press("\x0c");
    s.wait_for("so many packets");
    let saved = files(folder.path());
    let [(name, text)] = saved.as_slice() else { panic!("{saved:?}") };
    assert!(name.starts_with("tmon-") && name.ends_with("-10.0.0.1.pcapng"), "{name}");
    assert_eq!(text, "three packets");
    let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "only its owner may read it");
    s.press("q");
    s.wait_for_end();
    drop(s);

    // a source with counts only says so, and no file is created
    let folder = tempfile::tempdir().unwrap();
    let mut s = Screen::open_in("run", folder.path(), "");
    s.wait_for("10.0.0.9");
    s.press("jw");
    s.press("\x0c");
    s.wait_for("no capture: only counts are available here");
    assert_eq!(files(folder.path()), []);
}

/// Checks the screen byte by byte if the locale or the terminal supports only a subset.
#[test]
fn the_terminal_gets_only_characters_it_can_show() {
    for (env, ascii) in [
        ("TERM=vt100", true),
        ("TERM=xterm-256color LC_ALL=C", true),
        ("TERM=linux LC_ALL=C.UTF-8", false),
    ] {
        let mut s = Screen::open_in("run", std::path::Path::new("."), &format!("export {env};"));
        let mut all = String::new();
        for key in ["1", "2", "3", "4", "?"] {
            s.wait_for_frame();
            all += &s.text();
            s.press(key);
            s.press("\x0c");
            s.wait_for_frame();
            s.wait_for_frame();
            all += &s.text();
        }
        if !ascii {
            // Most frames are a few digits: a rule is in one that is redrawn.
            s.press("1\x0c");
            s.wait_for("─");
            all += &s.text();
        }
        // The output read may end within a character.
        let whole = all.chars().filter(|c| *c != char::REPLACEMENT_CHARACTER);
        let strange: String = whole.filter(|c| Charset::Console.symbol(*c) != *c).collect();
        assert_eq!(strange, "", "{env}");
        assert_eq!(all.is_ascii(), ascii, "{env}");
    }
}

#[test]
fn a_dumb_terminal_is_refused_with_one_line() {
    let mut s = Screen::open_in("run", std::path::Path::new("."), "export TERM=dumb;");
    s.wait_for("that the terminal is dumb");
    s.wait_for_end();
    assert!(!s.text().contains("\x1b["), "{}", s.text());
}
