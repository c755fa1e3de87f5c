// SPDX-License-Identifier: MIT OR Apache-2.0
//! The program as started by users: the time until there is an answer, and what the dashboard uses.
use std::{
    fs::{self, File},
    io::{self, Read, Write},
    os::{
        fd::{FromRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    bench::Varied,
    frames::pkt,
    path::ends,
    report::{Line, Report, Stat},
};

const TMON: &str = env!("CARGO_BIN_EXE_tmon");
/// The number of live rows, each with one packet per second.
const LIVE: u32 = 10_000;
/// How long the dashboard is observed.
const WATCHED: Duration = Duration::from_secs(12);

pub(crate) fn run(report: &mut Report) -> Result<()> {
    report.heading("The process");
    let mut times = Vec::new();
    for _ in 0..15 {
        let begun = Instant::now();
        let out = Command::new(TMON)
            .args(["dump", "lo", "--for", "0s", "--json"])
            .output()
            .context("run tmon")?;
        times.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(out.status.success(), "tmon dump: {}", String::from_utf8_lossy(&out.stderr));
    }
    report.add(Line::cost("tmon dump lo --for 0s", "ms", Stat::of(times)).at_most(150.0));
    top(report)
}

/// A packet socket on an end's veth: for frames that need no answer.
fn packet_socket(ifindex: u32) -> io::Result<OwnedFd> {
    // SAFETY: plain system calls; the address has the stated length.
    unsafe {
        let fd = libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        let fd = OwnedFd::from_raw_fd(fd);
        let mut address: libc::sockaddr_ll = std::mem::zeroed();
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_ifindex = ifindex as i32;
        let size = size_of_val(&address) as u32;
        match libc::bind(std::os::fd::AsRawFd::as_raw_fd(&fd), (&raw const address).cast(), size) {
            0 => Ok(fd),
            _ => Err(io::Error::last_os_error()),
        }
    }
}

/// 10,000 conversations of 100 pairs of hosts, one frame each.
fn conversations() -> Vec<Vec<u8>> {
    let frame = |row: u32| {
        let (a, b) = (row % 10, row / 10 % 10);
        let outer = pkt()
            .eth()
            .ip(&format!("172.16.0.{a} > 172.16.1.{b}"))
            .udp(54321, 4789)
            .vxlan(10_000 + row % 4);
        let inner =
            outer.eth().ip("10.0.0.1 > 10.1.0.0").udp(1, 2).data(64 + (row % 1000) as usize);
        let mut varied = Varied::new(inner, 72 + (row % 1000) as usize);
        varied.bytes[varied.at + 4..varied.at + 8]
            .copy_from_slice(&(0x0a01_0000 + row).to_be_bytes());
        varied.bytes
    };
    (0..LIVE).map(frame).collect()
}

/// `tmon top` on a terminal of 120x40 cells.
struct Dashboard {
    child: Child,
    _reader: thread::JoinHandle<()>,
}

impl Dashboard {
    fn start(netns: &str) -> Result<Dashboard> {
        let (mut master, mut slave) = (0, 0);
        let size = libc::winsize { ws_row: 40, ws_col: 120, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: both descriptors are written; no name, no settings.
        let e = unsafe {
            libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size)
        };
        ensure!(e == 0, "make a terminal: {}", io::Error::last_os_error());
        // SAFETY: nobody else owns them.
        let (mut master, slave) =
            unsafe { (File::from_raw_fd(master), OwnedFd::from_raw_fd(slave)) };
        let stdio = || slave.try_clone().map(Stdio::from);
        let mut command = Command::new(TMON);
        command
            .args(["top", "eth0", "--netns", netns])
            .env("TERM", "xterm-256color")
            .env("COLORTERM", "truecolor");
        command.stdin(stdio()?).stdout(stdio()?).stderr(stdio()?);
        // SAFETY: only async-signal-safe calls between fork and exec.
        unsafe {
            command.pre_exec(|| {
                match libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 {
                    true => Ok(()),
                    false => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().context("run tmon top")?;
        let reader = thread::spawn(move || {
            let mut buffer = vec![0; 1 << 16];
            while let Ok(n @ 1..) = master.read(&mut buffer) {
                // It asks for the cursor position, like any terminal program.
                if buffer[..n].windows(4).any(|w| w == b"\x1b[6n")
                    && master.write_all(b"\x1b[1;1R").is_err()
                {
                    break;
                }
            }
        });
        Ok(Dashboard { child, _reader: reader })
    }

    /// Its CPU time so far and its present memory in MiB: in total, and without mapped tables.
    fn uses(&self) -> Result<(Duration, f64, f64)> {
        let file = |name: &str| {
            fs::read_to_string(format!("/proc/{}/{name}", self.child.id()))
                .context("tmon top has ended")
        };
        let nanos: u64 = file("schedstat")?.split(' ').next().context("schedstat")?.parse()?;
        let status = file("status")?;
        let mib = |name: &str| -> Result<f64> {
            let line = status.lines().find_map(|l| l.strip_prefix(name)).context("status")?;
            Ok(line.trim().trim_end_matches(" kB").parse::<f64>()? / 1024.0)
        };
        Ok((Duration::from_nanos(nanos), mib("VmRSS:")?, mib("RssAnon:")?))
    }
}

impl Drop for Dashboard {
    fn drop(&mut self) {
        // SAFETY: our own child, which has not been waited for.
        unsafe { libc::kill(self.child.id() as i32, libc::SIGTERM) };
        let _ = self.child.wait();
    }
}

fn top(report: &mut Report) -> Result<()> {
    let ends = ends()?;
    let index = tmon::kernel::netlink::Netlink::open_in(&ends[0].netns)?
        .link("eth0")?
        .context("the veth")?
        .index;
    let socket = ends[0].netns.within(|| packet_socket(index))??;
    let frames = conversations();
    let over = AtomicBool::new(false);
    thread::scope(|s| {
        s.spawn(|| {
            let begun = Instant::now();
            for (n, frame) in (0u32..).zip(frames.iter().cycle()) {
                if over.load(Relaxed) {
                    break;
                }
                // SAFETY: the frame has the stated length.
                unsafe {
                    libc::send(
                        std::os::fd::AsRawFd::as_raw_fd(&socket),
                        frame.as_ptr().cast(),
                        frame.len(),
                        0,
                    )
                };
                if n % 100 == 99 {
                    let due = Duration::from_secs(1) * (n + 1) / LIVE;
                    thread::sleep(due.saturating_sub(begun.elapsed()));
                }
            }
        });
        let mut watch = || -> Result<()> {
            let dashboard = Dashboard::start(ends[0].netns.name())?;
            thread::sleep(Duration::from_secs(3)); // wait for all rows
            let (begun, before) = (Instant::now(), dashboard.uses()?.0);
            thread::sleep(WATCHED);
            let (cpu, all, own) = dashboard.uses()?;
            let share = (cpu - before).as_secs_f64() / begun.elapsed().as_secs_f64() * 100.0;
            report.add(
                Line::cost("tmon top, 10,000 live rows, 120x40, CPU", "%", Stat::exactly(share))
                    .at_most(2.0),
            );
            report.add(Line::cost("tmon top, resident", "MiB", Stat::exactly(all)).at_most(60.0));
            report.add(Line::cost(
                "tmon top, resident without mapped tables",
                "MiB",
                Stat::exactly(own),
            ));
            Ok(())
        };
        let watched = watch();
        over.store(true, Relaxed);
        watched
    })
}
