// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures: `tmon replay` beside programs that count frames or read their outer headers, if they
//! are installed.
use std::{
    fs::File,
    io::{BufWriter, ErrorKind, Write},
    mem,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};

use crate::{
    bench::Varied,
    frames::pkt,
    report::{Line, Report, Stat},
};

const TMON: &str = env!("CARGO_BIN_EXE_tmon");
/// The number of frames in the files, and in one for a program that takes hundreds of times longer.
const FRAMES: u32 = 2_000_000;
const FEW: u32 = 100_000;
/// The size of a frame in bytes.
const LENGTH: usize = 140;
const ROUNDS: usize = 7;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    report.heading("Captures of 140-byte VXLAN frames in the page cache: time for a frame");
    let folder = tempfile::tempdir().context("make a folder for captures")?;
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let (file, small, large) = (path("1024.pcap"), path("few.pcap"), path("million.pcap"));
    write(Path::new(&file), FRAMES, 1024)?;
    write(Path::new(&small), FEW, 1024)?;
    write(Path::new(&large), FRAMES, 1 << 20)?;

    let tmon: &[&str] = &[TMON, "replay", "--threads", "1", &file];
    let out = path("");
    let all: [(&str, &[&str], u32); 5] = [
        ("tmon replay --threads 1: tunnels, inner addresses", tmon, FRAMES),
        ("tcpdump --count: nothing", &["tcpdump", "--count", "-r", &file], FRAMES),
        ("capinfos -c: nothing", &["capinfos", "-c", &file], FRAMES),
        ("nfpcapd: outer headers", &["nfpcapd", "-r", &file, "-l", &out], FRAMES),
        ("tshark -q -z conv,ip: everything", &["tshark", "-q", "-z", "conv,ip", "-r", &small], FEW),
    ];
    let mut times = all.map(|_| Vec::new());
    for round in 0..ROUNDS {
        for ((_, command, frames), times) in all.iter().zip(&mut times) {
            if round > 0 && (times.is_empty() || *frames == FEW) {
                continue; // not installed, or measured already
            }
            if let Some([_, cpu]) = took(command)? {
                times.push(cpu.as_nanos() as f64 / f64::from(*frames));
            }
        }
    }
    let ours = times[0].clone();
    for ((what, _, _), times) in all.iter().zip(times) {
        let goal = match *what {
            what if what.starts_with("tcpdump") => Some(2.0),
            what if what.starts_with("nfpcapd") => Some(8.0),
            _ => None,
        };
        if times.is_empty() {
            println!("{what}: not installed");
            continue;
        }
        let ratio = Stat::of(times.iter().zip(&ours).map(|(theirs, ours)| theirs / ours));
        let line = Line::cost(*what, "ns", Stat::of(times));
        let line =
            if what.starts_with("tmon") { line } else { Line { ratio: Some(ratio), ..line } };
        report.add(match goal {
            Some(goal) => line.at_least(goal),
            None => line,
        });
    }

    if thread::available_parallelism().is_ok_and(|n| n.get() > 1) {
        let mut pairs = Vec::new();
        for _ in 0..ROUNDS {
            let [one, _] = took(tmon)?.context("tmon is there")?;
            let [two, _] =
                took(&[TMON, "replay", "--threads", "2", &file])?.context("tmon is there")?;
            pairs.push((one.as_secs_f64(), two.as_secs_f64()));
        }
        let of = |t: f64| t * 1e9 / f64::from(FRAMES);
        let ratio = Stat::of(pairs.iter().map(|(one, two)| one / two));
        let line = Line::cost(
            "tmon replay --threads 2, elapsed; 1 to 2",
            "ns",
            Stat::of(pairs.iter().map(|(_, two)| of(*two))),
        );
        report.add(Line { ratio: Some(ratio), ..line }.at_least(1.7));
    }
    let mut times = Vec::new();
    for _ in 0..3 {
        let rows = ["replay", "--threads", "1", "--rows", "1048576", "--csv"];
        let command = [&[TMON][..], &rows, &[&large]].concat();
        let [_, cpu] = took(&command)?.context("tmon is there")?;
        times.push(cpu.as_nanos() as f64 / f64::from(FRAMES));
    }
    report.add(Line::cost("tmon replay, a million rows, to CSV", "ns", Stat::of(times)));
    Ok(())
}

/// A capture of this many frames of this many conversations, in random order.
fn write(path: &Path, frames: u32, rows: u32) -> Result<()> {
    let frame = pkt()
        .eth()
        .ip("172.16.0.1 > 172.16.1.1")
        .udp(54321, 4789)
        .vxlan(10_000)
        .eth()
        .ip("10.0.0.1 > 10.1.0.0")
        .udp(1, 2)
        .data(LENGTH - 92);
    let mut frame = Varied::new(frame, LENGTH - 84);
    ensure!(frame.bytes.len() == LENGTH, "{} bytes", frame.bytes.len());
    let file = File::create(path).with_context(|| format!("make {}", path.display()))?;
    let mut file = BufWriter::with_capacity(1 << 20, file);
    let mut header = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65_535, 1u32] {
        header.extend(word.to_le_bytes());
    }
    file.write_all(&header)?;
    let mut random = 1u32;
    for n in 0..frames {
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        let address = 0x0a01_0000 + random % rows;
        frame.bytes[frame.at + 4..frame.at + 8].copy_from_slice(&address.to_be_bytes());
        for word in [1_700_000_000 + n / 1_000_000, n % 1_000_000, LENGTH as u32, LENGTH as u32] {
            file.write_all(&word.to_le_bytes())?;
        }
        file.write_all(&frame.bytes)?;
    }
    file.flush().with_context(|| format!("write {}", path.display()))
}

/// The elapsed time of a command and its CPU time (user and system); `None` if it is not installed.
fn took(command: &[&str]) -> Result<Option<[Duration; 2]>> {
    let begun = Instant::now();
    let child = Command::new(command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let child = match child {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        child => child.with_context(|| format!("run {}", command[0]))?,
    };
    let mut status = 0;
    // SAFETY: a struct of integers, and our own child, which nobody else waits for.
    let (pid, used) = unsafe {
        let mut used: libc::rusage = mem::zeroed();
        (libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut used), used)
    };
    let elapsed = begun.elapsed();
    ensure!(pid > 0 && status == 0, "{} has failed: status {status:#x}", command.join(" "));
    let time = |t: libc::timeval| {
        Duration::from_secs(t.tv_sec as u64) + Duration::from_micros(t.tv_usec as u64)
    };
    Ok(Some([elapsed, time(used.ru_utime) + time(used.ru_stime)]))
}
