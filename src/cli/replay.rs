// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon replay`.
use std::{
    io::{self, IsTerminal},
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Args;

use super::{
    Counting, Print, Unpack, Written, filter, interrupted, listing, out, printer::Printer, say,
};
#[cfg(feature = "live")]
use crate::kernel::loaded;
use crate::kernel::{origin, sandbox::Sandbox};
use feed::{
    judge, {self, Captures, MOST_THREADS},
};
use model::{
    beside::Beside,
    rtt::three_digits,
    units::{self, Base},
};

#[derive(Args, Debug)]
pub(super) struct Replay {
    /// Capture files, pcap or pcapng, merged in order of time; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    count: Counting,
    /// Run the frames through the BPF programs (needs root) instead of the same parser compiled for
    /// this host
    #[cfg(feature = "live")]
    #[arg(long)]
    kernel: bool,
    /// Number of parsing threads, which does not change the result [default: one per CPU]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=16))]
    threads: Option<usize>,
    /// Also show round-trip times and retransmissions of TCP, and round-trip times of echo
    /// requests, in matching rows: for each end, from a packet it sent until the answer reached the
    /// capture point
    #[arg(long, value_name = "EXPR", value_parser = filter)]
    #[cfg_attr(feature = "live", arg(conflicts_with = "kernel"))]
    rtt: Option<Written>,
    /// Also show what the packets of matching rows contain: protocols, ports, DSCP and ECN, TTL,
    /// TCP flags, sizes (`vni:10003 inner:192.168.3.8`)
    #[arg(long, value_name = "EXPR", value_parser = filter, conflicts_with_all = ["csv", "svg", "html"])]
    #[cfg_attr(feature = "live", arg(conflicts_with = "kernel"))]
    lens: Option<Written>,
    #[command(flatten)]
    unpack: Unpack,
    #[command(flatten)]
    print: Print,
}

impl Replay {
    /// The command loads BPF programs.
    pub(super) fn loads(&self) -> bool {
        #[cfg(feature = "live")]
        return self.kernel;
        #[cfg(not(feature = "live"))]
        false
    }

    pub(super) fn run(self) -> Result<()> {
        let mut out = self.print.out();
        let mut printer = Printer::new(&mut out, &self.print, false)?;
        #[cfg(feature = "live")]
        let judge = if self.kernel { loaded::kernel } else { judge::host };
        #[cfg(not(feature = "live"))]
        let judge = judge::host;
        let timed = self.rtt.as_ref().map(|expr| printer.filter(expr)).transpose()?;
        let seen = self.lens.as_ref().map(|expr| printer.filter(expr)).transpose()?;
        let (count, most) = (self.count.of_capture(), self.unpack.max_size);
        let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        let origin = origin::here();
        // Files are opened with all privileges, and read with none but those needed to load
        // programs.
        let captures = Captures::open(&self.files)?;
        let flag = interrupted()?;
        let captures = captures.until(&flag);
        let sandbox = Sandbox::new(None).resolving(self.print.naming.resolve);
        if self.loads() {
            sandbox.enter_all()?
        } else {
            sandbox.enter_with_nothing()?
        }
        let mut replay = feed::Replay::of(captures, &count, judge, most)?;
        replay.set_origin(origin);
        if let Some(filter) = timed {
            replay.time(filter)?;
        }
        if let Some(filter) = seen {
            replay.look(filter)?;
        }
        replay.set_threads(self.threads.unwrap_or(cpus));
        let mut progress = io::stderr().is_terminal().then(Progress::new);
        while replay.advance(4096)? && !flag.load(Ordering::Relaxed) {
            if let Some(progress) = &mut progress {
                progress.show(replay.frames(), replay.position());
            }
        }
        if progress.is_some() {
            out::tell("\r\x1b[K");
        }
        let reading = replay.read()?.total();
        printer.print_lens(&reading, None, replay.lens().as_ref())?;
        if self.rtt.is_some() && self.print.format() == export::Format::Table {
            round_trips(&mut out::people(), &reading.beside)?;
        }
        for note in replay.notes() {
            say(&note);
        }
        replay.end()
    }
}

/// Prints a line for each end of a row with round-trip times or retransmissions.
pub(super) fn round_trips(out: &mut dyn io::Write, beside: &Beside) -> io::Result<()> {
    let mut rows = Vec::new();
    for ((_, key), ways) in beside.round_trips() {
        for (reverse, n) in [false, true].into_iter().zip(ways).filter(|(_, n)| !n.is_empty()) {
            let pair = key
                .inner
                .pair()
                .map(|p| if reverse { (p.second, p.first) } else { (p.first, p.second) });
            let time = |t: Option<Duration>| t.map_or_else(|| "-".to_owned(), three_digits);
            let (least, most) = (n.extremes().map(|t| t[0]), n.extremes().map(|t| t[1]));
            rows.push([
                key.to_string().split(',').next().unwrap_or_default().to_owned(),
                pair.map(|(from, to)| format!("{from} > {to}")).unwrap_or_default(),
                n.samples.to_string(),
                time(least),
                time(n.percentile(50)),
                time(n.percentile(90)),
                time(n.percentile(99)),
                time(most),
                n.retransmitted.to_string(),
                n.out_of_order.to_string(),
                n.duplicate_acks.to_string(),
                n.zero_windows.to_string(),
            ]);
        }
    }
    let titles = [
        "TUNNEL",
        "SENT",
        "SAMPLES",
        "MIN",
        "P50",
        "P90",
        "P99",
        "MAX",
        "RETRANSMITTED",
        "OUT OF ORDER",
        "DUP ACKS",
        "ZERO WINDOWS",
    ];
    writeln!(out)?;
    listing::write(out, titles, &rows)?;
    let [untimed, untracked] = beside.untimed();
    if untimed > 0 {
        writeln!(
            out,
            "{untimed} packets are not included: their headers are truncated, or there was no room"
        )?;
    }
    if untracked > 0 {
        writeln!(out, "{untracked} connections were dropped for lack of room")?;
    }
    Ok(())
}

/// Progress on standard error, for a user who is waiting.
pub(super) struct Progress {
    begun: Instant,
    shown: Instant,
}

impl Progress {
    pub(super) fn new() -> Progress {
        let now = Instant::now();
        Progress { begun: now, shown: now }
    }

    /// Shows the progress, a few times a second.
    pub(super) fn show(&mut self, frames: u64, (at, size): (u64, Option<u64>)) {
        let now = Instant::now();
        if now - self.shown > Duration::from_millis(200) {
            self.shown = now;
            let line = progress(frames, at, size, now - self.begun);
            out::tell(&format!("\r{line}\x1b[K"));
        }
    }
}

/// Frames, the share of the files or the bytes read, frames per second, and the time remaining.
fn progress(frames: u64, at: u64, size: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate: Option<f64> = units::Rate::of(frames, elapsed).into();
    let read = match size {
        Some(size) => units::percent(at, size),
        None => units::bytes(at, Base::Si).to_string(),
    };
    let mut line = format!("{frames} frames, {read}, {:.1} M/s", rate.unwrap_or(0.0) / 1e6);
    if let Some(size) = size
        && at > 0
    {
        let left = seconds * size.saturating_sub(at) as f64 / at as f64;
        let left = Duration::try_from_secs_f64(left.ceil()).unwrap_or(Duration::MAX);
        line += &format!(", {} left", units::duration(left));
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_shows_amount_speed_and_time_left() {
        let second = Duration::from_secs(1);
        assert_eq!(
            progress(12_500_000, 1 << 30, Some(4 << 30), second),
            "12500000 frames, 25.0 %, 12.5 M/s, 3 s left"
        );
        assert_eq!(progress(5, 2_000, None, second), "5 frames, 2.0 kB, 0.0 M/s");
        assert_eq!(progress(0, 0, Some(9), Duration::ZERO), "0 frames, 0 %, 0.0 M/s");
    }
}
