// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dashboard on a terminal that is a pseudo-terminal of the test: what it gives back, and what it
//! survives. A terminal that answers nothing, like this one, is the hardest there is.
#![allow(clippy::unwrap_used)] // a panic is this program's report
use std::{
    fs::File,
    io::{Read, Write},
    os::fd::OwnedFd,
    process::{Child, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::{Duration, Instant, SystemTime},
};

use nix::{
    pty::{Winsize, openpty},
    sys::termios::{LocalFlags, tcgetattr},
};
use tmon::{
    flow::{Count, Counters, Flow, Inner, Key, Kind, Pair, Tunnel},
    snapshot::{Rows, Snapshot},
    tui::{self, Options, Reading, graphics::Choice},
};

/// Not a test of its own: what the others run in a terminal, as the environment says.
#[test]
#[ignore = "the others run it"]
fn child() {
    let Ok(what) = std::env::var("TMON_TEST_CHILD") else { return };
    let mut t = 0;
    let graphics = if what == "kitty" { Choice::ALL[1].0 } else { Choice::default() };
    let opts = Options { interval: Duration::from_millis(50), graphics, ..Options::default() };
    let done = tui::run(
        opts,
        &mut || {
            t += 1;
            assert!(what != "panic" || t < 4, "a bug in the dashboard");
            Ok(Reading { snapshot: snapshot(t), notices: vec![] })
        },
        &mut Vec::new,
    );
    done.unwrap();
    eprintln!("left in order");
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
        since: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH + at,
        at,
        interfaces: vec![],
        rows,
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
}

/// How long anything may take on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

impl Screen {
    fn open(what: &str) -> Self {
        let size = Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 800, ws_ypixel: 480 };
        let pty = openpty(Some(&size), None).unwrap();
        let end = || Stdio::from(pty.slave.try_clone().unwrap());
        // a session of its own, whose terminal this is
        let child = Command::new("setsid")
            .args(["--ctty", "--wait"])
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
        let mut out = File::from(pty.master.try_clone().unwrap());
        thread::spawn(move || {
            let mut some = [0; 65536];
            while let Ok(n @ 1..) = out.read(&mut some) {
                if send.send(some[..n].to_vec()).is_err() {
                    return;
                }
            }
        });
        let keys = File::from(pty.master.try_clone().unwrap());
        Screen { child, master: pty.master, slave: pty.slave, keys, output, seen: Vec::new() }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.seen).into_owned()
    }

    /// Waits until something new of the output holds this text; forgets what came before it.
    fn wait_for(&mut self, text: &str) {
        let begun = Instant::now();
        loop {
            if let Some(at) = self.seen.windows(text.len()).position(|w| w == text.as_bytes()) {
                self.seen.drain(..at);
                return;
            }
            match self.output.recv_timeout(PATIENCE.saturating_sub(begun.elapsed())) {
                Ok(more) => self.seen.extend(more),
                Err(_) => panic!("{text:?} never came; there is {:?}", self.text()),
            }
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    fn resize(&self, columns: u16, rows: u16) {
        let stdin = Stdio::from(self.slave.try_clone().unwrap());
        let done = Command::new("stty")
            .args(["cols", &columns.to_string(), "rows", &rows.to_string()])
            .stdin(stdin)
            .status()
            .unwrap();
        assert!(done.success());
    }

    /// Everything that a shell needs is as it was.
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
            assert!(begun.elapsed() < PATIENCE, "it does not end; there is {:?}", self.text());
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
fn a_panic_gives_the_terminal_back_before_it_speaks() {
    let mut s = Screen::open("panic");
    s.wait_for_end();
    let text = s.text();
    let (left, spoken) = (text.find("\x1b[?1049l"), text.find("a bug in the dashboard"));
    assert!(left.is_some() && left < spoken, "nobody reads the alternate screen: {text:?}");
    s.is_given_back();
}

#[test]
fn leaving_gives_the_terminal_back() {
    let mut s = Screen::open("run");
    s.wait_for("10.0.0.9");
    s.press("q");
    s.wait_for_end();
    s.is_given_back();
    assert!(s.text().contains("left in order"));
}

#[test]
fn it_lives_in_any_window_and_with_any_input() {
    let mut s = Screen::open("run");
    s.wait_for("10.0.0.9");
    // two escapes are one: alone it could be the beginning of a sequence
    for size in [(1, 1), (300, 90), (2, 1), (1, 40), (500, 3), (80, 24)] {
        s.resize(size.0, size.1);
        s.press("jl2j3jH\t?\x1b\x1b");
    }
    // a cat on the keyboard, the mouse everywhere, sequences that mean nothing
    let every = "jklhgGmc+-sStbiI[]{}p \t1234H?\x1b[A\x1b[B\x1b[5~\r\x1b/host:1\x1b\x1b";
    s.press(&every.repeat(10));
    s.press(
        "\x1b[<0;40;12M\x1b[<0;40;12m\x1b[<35;9;9M\x1b[<64;9;9M\x1b[<0;65535;65535M\x1b[?62;4c\x1b[6;20;10t\x1b[999;999R\x1bP1$r\x1b\\",
    );
    // a paste is text: its q does not leave
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
