// SPDX-License-Identifier: MIT OR Apache-2.0
//! Very many hosts in one process, without a network: what a viewer of them costs, and recordings of
//! them to look at.
//!
//! `cargo run --release --example swarm` prints a table: 2,000 hosts with a reading each second, and
//! 10,000 with one each 5 s. With `HOSTS TUNNELS SECONDS READINGS` it measures that one.
//! `record FILE HOSTS TUNNELS SECONDS READINGS [TELLING]` writes a recording, of the first TELLING hosts only
//! where that is given: `record day.tmon 61 1000 1 86400 1` is a day of one host with 1,000 rows.
//!
//! Frames are made and packed as a publisher does it, and these bytes are what is measured: the decoder,
//! the fleet, the series with its detectors, and a frame of the dashboard, all by this thread's CPU time. How
//! old the picture is follows from these times and from when hosts send.
#![allow(clippy::print_stdout)] // its output is its report
use std::{
    fs::File,
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    process::Command,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};
use feed::{
    Reading,
    frame::{Frame, FrameKind, FrameWriter, sums},
    names::Names,
    roll::Roll,
};
use model::{
    fleet::Fleet,
    flow::{Count, Inner, Key, Kind, Pair, Tunnel},
    interface::{Fill, Interface, Origin},
    rows::{Part, Rows},
    snapshot::Interval,
};
use nix::time::{ClockId, clock_gettime};
use ratatui::{buffer::Buffer, layout::Rect};
use tui::{
    app::App,
    compose,
    look::Look,
    stage::{Manner, Stage},
    start::Start,
    theme::{Depth, Scheme, Theme},
    update::{Msg, update},
};

/// Hosts that each host talks with.
const PEERS: u32 = 60;
/// What a message costs beside its payload: headers of NATS, TCP and IP.
const HEADERS: usize = 80;
/// When it begins.
const BEGIN: u64 = 1_767_225_600; // 2026-01-01
/// What the viewer may cost.
const GOALS: &str = "goals: at most 50 Mb/s, 0.3 of a core, 500 MB, a picture of two cadences";

/// A number that looks random, and is always the same.
fn hash(parts: [u32; 4]) -> u64 {
    let mix = |h: u64, v: u32| {
        let h = (h ^ u64::from(v)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        h ^ h >> 29
    };
    parts.into_iter().fold(0x2545_f491_4f6c_dd1d, mix)
}

struct Swarm {
    hosts: u32,
    tunnels: u32,
    every: Duration,
    /// The distances to the peers on one side.
    distances: Vec<u32>,
}

impl Swarm {
    fn new(hosts: u32, tunnels: u32, every: Duration) -> Swarm {
        // Half of the peers are neighbours, the others far away.
        let most = hosts.saturating_sub(1) / 2;
        let half = (PEERS / 2).min(most);
        let far = |i: u32| if i < half / 2 { i + 1 } else { most - (half - 1 - i) * (most / half) };
        let mut distances: Vec<u32> = (0..half).map(far).collect();
        distances.sort_unstable();
        distances.dedup();
        Swarm { hosts, tunnels, every, distances }
    }

    fn address(n: u32) -> IpAddr {
        Ipv4Addr::from_bits(0x0a00_0001 + n).into()
    }

    /// From the outside in: 40 hosts in a rack, 12 racks in a place.
    fn name(&self, n: u32) -> String {
        const PLACES: [&str; 6] = ["eu", "us", "asia", "africa", "brazil", "india"];
        match self.hosts {
            ..=12 => format!("node-{}", n + 1),
            _ => {
                let (rack, place) = (n / 40, n as usize / 480);
                let round = place / PLACES.len() + 1;
                format!("{}{round}.rack{}.node-{n}", PLACES[place % PLACES.len()], rack % 12 + 1)
            }
        }
    }

    /// How much of its traffic there is at a time: by day, and in some minutes much.
    fn activity(second: u64) -> f64 {
        let minute = (second / 60) as u32;
        let day = (second % 86_400) as f64 / 86_400.0 * std::f64::consts::TAU;
        let burst = if hash([minute, 7, 7, 7]).is_multiple_of(97) { 4.0 } else { 1.0 };
        (1.2 - day.cos()) * burst
    }

    /// What a host tells of the reading with this number.
    fn frame(&self, host: u32, reading: u32) -> Frame {
        let mut rows = Rows::default();
        let seconds = self.every.as_secs() * u64::from(reading);
        let activity = Swarm::activity(BEGIN + seconds) * self.every.as_secs_f64();
        let sides = 2 * self.distances.len() as u32;
        let mut left = self.tunnels % sides.max(1);
        for (distance, way) in self.distances.iter().flat_map(|d| [(d, 0), (d, 1)]) {
            let peer =
                (host + if way == 0 { *distance } else { self.hosts - distance }) % self.hosts;
            let (first, second) = (host.min(peer), host.max(peer));
            let ids = self.tunnels / sides + u32::from(left > 0);
            left = left.saturating_sub(u32::from(way == 1) * 2);
            let base = hash([first, second, 0, 1]) as u32 % 40;
            for n in 0..ids {
                let of = hash([first, second, n, 0]);
                // Log-normal, by the sum of many; busier and less busy.
                let spread: f64 = (0..8).map(|i| (of >> (i * 8) & 0xff) as f64 / 256.0).sum();
                let now = 0.5 + (hash([first, second, n, reading]) % 1000) as f64 / 1000.0;
                let packets = ((1.5 + 1.9 * (spread - 4.0)).exp() * activity * now).ceil() as u64;
                let size = 90 + of % 1400;
                let lost = if of.is_multiple_of(4001) { packets / 30 } else { 0 };
                let count = |n: u64| Count { packets: n, bytes: n * size };
                let (there, back) = (packets, packets / 2 + 1);
                let [rx, tx] = match host == first {
                    true => [back, there],
                    false => [there - lost, back],
                };
                // In each network, a host has one address inside.
                let id = (base + n) % 40;
                let inner =
                    |host: u32| IpAddr::from(Ipv4Addr::from_bits(0x6440_0000 + (id << 16) + host));
                let key = Key {
                    outer: Some(Pair {
                        first: Swarm::address(first),
                        second: Swarm::address(second),
                    }),
                    outermost: Tunnel { kind: Kind::Vxlan, id: Some(10_000 + id) },
                    innermost: None,
                    depth: 1,
                    inner: Inner::Pair(Pair { first: inner(first), second: inner(second) }),
                    other: false,
                };
                let part = Part { swapped: host == first, fragments: false };
                rows.push(rows.len() as u32, 0, &key, [count(rx), count(tx)], part);
            }
        }
        let taken = UNIX_EPOCH + Duration::from_secs(BEGIN + seconds);
        let mut eth0 = Interface::new(0, "eth0");
        eth0.fill = Fill { used: rows.len() as u64, size: 65_536 };
        for row in rows.walk() {
            let counts = row.counts();
            eth0.books.counted.iter_mut().zip(counts).for_each(|(sum, n)| *sum += n);
        }
        let mut interval = Interval::new(taken - self.every, taken, self.every, vec![eth0], rows);
        let epoch = u64::from(host) + 1;
        interval.origin = Origin { host: self.name(host).into(), netns: 1, epoch };
        Frame {
            kind: FrameKind::Rows,
            seq: u64::from(reading),
            reading: Duration::from_millis(1),
            held: Duration::ZERO,
            heard: None,
            clock: Some(Duration::from_millis(1)),
            cadence: self.every,
            local: if reading == 0 { vec![Swarm::address(host)] } else { vec![] },
            tool: "swarm".to_owned(),
            interval,
        }
    }

    /// The same without inner addresses, as it goes over a bus.
    fn packed(&self, host: u32, reading: u32) -> Vec<u8> {
        let frame = self.frame(host, reading);
        Frame { kind: FrameKind::Sum, interval: sums(&frame.interval), ..frame }.packed()
    }

    /// When a host sends, after its reading.
    fn sends(&self, host: u32) -> Duration {
        self.every.mul_f64((hash([host, 1, 2, 3]) % 1000) as f64 / 2000.0)
    }
}

/// This thread's CPU time.
fn cpu() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}

/// Runs something, and adds what it took.
fn timed<T>(sum: &mut Duration, run: impl FnOnce() -> T) -> T {
    let begun = cpu();
    let result = run();
    *sum += cpu() - begun;
    result
}

/// The memory that this process takes at most, in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"));
    let kilobytes = line.and_then(|l| l.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

/// What a viewer spends on one reading of all hosts.
#[derive(Clone, Copy, Default)]
struct Spent {
    bytes: usize,
    decoding: Duration,
    merging: Duration,
    reading: Duration,
    picture: Duration,
    drawing: Duration,
    /// How old the picture is before the next one is there.
    age: Duration,
}

impl Spent {
    fn all(&self) -> Duration {
        self.decoding + self.merging + self.reading + self.picture + self.drawing
    }
}

fn measure(swarm: &Swarm, readings: u32) -> Result<()> {
    let area = Rect::new(0, 0, 120, 40);
    let names = Names::default();
    let mut app = App::new(Start { names: names.clone(), ..Start::default() })?;
    update(&mut app, Msg::Resize(area.width, area.height), Duration::ZERO);
    let mut look = Look::new(Theme::new(Scheme::Dark, Depth::TrueColor));
    let (mut stage, manner) = (Stage::default(), Manner { animate: false, ..Manner::default() });
    let mut fleet = Fleet::new(Origin { host: "fleet".into(), ..Origin::default() });
    let mut order: Vec<u32> = (0..swarm.hosts).collect();
    order.sort_by_key(|host| swarm.sends(*host));
    let mut all = Vec::new();
    for reading in 0..readings {
        let now = swarm.every * reading;
        let mut spent = Spent::default();
        let mut done = Duration::ZERO; // since the moment of the reading
        for host in &order {
            let bytes = swarm.packed(*host, reading);
            let before = spent.all();
            let frame = timed(&mut spent.decoding, || Frame::decode(&bytes))?;
            let sends = swarm.sends(*host);
            timed(&mut spent.merging, || {
                fleet.hear(&frame.told(), now + sends);
                drop(frame);
            });
            spent.bytes += bytes.len() + HEADERS;
            done = done.max(sends) + (spent.all() - before);
        }
        let snapshot = timed(&mut spent.reading, || {
            fleet.look(now + swarm.every / 2);
            names.learn_hosts(fleet.names());
            fleet.snapshot()
        });
        let rows = snapshot.rows.len();
        let told = Reading { notices: fleet.notices(), ..Reading::from(snapshot) };
        timed(&mut spent.picture, || update(&mut app, Msg::Reading(Box::new(told), now), now));
        timed(&mut spent.drawing, || {
            let mut buf = Buffer::empty(area);
            black_box(compose(&app, &mut look, &mut stage, manner, now, area, &mut buf));
        });
        spent.age = done + spent.reading + spent.picture + spent.drawing + swarm.every;
        ensure!(rows > 0 || reading == 0, "nothing is counted");
        all.push((spent, rows));
    }
    // What is new at first costs more, and once only.
    let steady = all.get(all.len() / 2..).context("no readings")?;
    let n = steady.len().max(1) as u32;
    let mean = |of: fn(&Spent) -> Duration| {
        steady.iter().map(|(s, _)| of(s)).sum::<Duration>().as_secs_f64() * 1e3 / f64::from(n)
    };
    let bytes = steady.iter().map(|(s, _)| s.bytes).sum::<usize>() as f64 / f64::from(n);
    let age = steady.iter().map(|(s, _)| s.age).max().unwrap_or_default();
    let seconds = swarm.every.as_secs_f64();
    println!(
        "{:>6} {:>8} {:>6} {:>9} {:>6.1} {:>8.0} {:>8.0} {:>8.0} {:>8.0} {:>8.1} {:>6.2} {:>8.0} {:>6.1}",
        swarm.hosts,
        swarm.tunnels,
        swarm.every.as_secs(),
        steady.last().map_or(0, |(_, rows)| *rows),
        bytes * 8.0 / seconds / 1e6,
        mean(|s| s.decoding),
        mean(|s| s.merging),
        mean(|s| s.reading),
        mean(|s| s.picture),
        mean(|s| s.drawing),
        mean(Spent::all) / 1e3 / seconds,
        peak() as f64 / 1e6,
        age.as_secs_f64(),
    );
    Ok(())
}

fn record(swarm: &Swarm, path: &str, readings: u32, telling: u32) -> Result<()> {
    let mut file = File::create_new(path).with_context(|| format!("make {path}"))?;
    let mut writer = FrameWriter::new(&mut file);
    let mut roll = Roll::default();
    for reading in 0..readings {
        let heard = |frame: &Frame, host| -> Option<SystemTime> {
            (telling > 1).then(|| frame.interval.taken + swarm.sends(host))
        };
        let frames = (0..telling).map(|host| {
            let frame = swarm.frame(host, reading);
            Frame { heard: heard(&frame, host), ..frame }
        });
        let frames: Vec<Frame> = frames.collect();
        frames.iter().for_each(|frame| _ = roll.take(frame));
        let called = if writer.is_between() && telling > 1 { roll.call() } else { Vec::new() };
        writer.write_all(called.into_iter().chain(&frames))?;
    }
    Ok(writer.end_block()?)
}

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let number = |text: &str| text.parse::<u32>().with_context(|| format!("{text} is no number"));
    let swarm = |hosts: &str, tunnels: &str, seconds: &str| -> Result<Swarm> {
        let (hosts, tunnels, seconds) = (number(hosts)?, number(tunnels)?, number(seconds)?);
        ensure!((3..=65_000).contains(&hosts) && tunnels > 0 && seconds > 0, "at least 3 hosts");
        Ok(Swarm::new(hosts, tunnels, Duration::from_secs(seconds.into())))
    };
    match words[..] {
        ["record", file, hosts, tunnels, seconds, readings] => {
            record(&swarm(hosts, tunnels, seconds)?, file, number(readings)?, number(hosts)?)
        }
        ["record", file, hosts, tunnels, seconds, readings, telling] => {
            let telling = number(telling)?.min(number(hosts)?);
            record(&swarm(hosts, tunnels, seconds)?, file, number(readings)?, telling)
        }
        [hosts, tunnels, seconds, readings] => {
            measure(&swarm(hosts, tunnels, seconds)?, number(readings)?)
        }
        _ => {
            let cpus = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
            let name = cpus.lines().find_map(|line| line.strip_prefix("model name\t: "));
            println!("{}", name.unwrap_or("a CPU without a name"));
            println!(
                "{:>6} {:>8} {:>6} {:>9} {:>6} {:>8} {:>8} {:>8} {:>8} {:>8} {:>6} {:>8} {:>6}",
                "hosts",
                "tunnels",
                "s",
                "rows",
                "Mb/s",
                "decode",
                "merge",
                "reading",
                "picture",
                "frame",
                "cores",
                "peak MB",
                "age s"
            );
            for (hosts, seconds, readings) in [("2000", "1", "30"), ("10000", "5", "10")] {
                // Each in a process of its own, for its memory.
                let own = std::env::current_exe()?;
                let ended = Command::new(own).args([hosts, "250", seconds, readings]).status()?;
                ensure!(ended.success(), "it has failed");
            }
            println!("milliseconds of CPU time of one reading of all hosts; {GOALS}");
            Ok(())
        }
    }
}
