// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon dump` and `tmon replay`.
use super::*;
use crate::{
    export::{Reading, Writer, table},
    feed::{self, MOST_THREADS},
    judge,
    sandbox::Sandbox,
    series::Series,
    snapshot::Interval,
    units::{self, Base},
};
#[cfg(feature = "live")]
use crate::{feed::Source, live::Live, loaded};

#[cfg(feature = "live")]
#[derive(Args, Debug)]
pub(super) struct Dump {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    print: Print,
    /// Also what the kernel drops meanwhile, and why: of each row, and (with --json) by reason
    #[arg(long)]
    drops: bool,
    #[command(flatten)]
    scope: DropScope,
    /// Count this long, then print [default: 5s; all there is where `tmon attach` counts]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
    /// Print what happened every TIME, until interrupted or --for has passed
    #[arg(long = "watch", value_name = "TIME", value_parser = duration, conflicts_with_all = ["svg", "html"])]
    every: Option<Duration>,
}

#[derive(Args, Debug)]
pub(super) struct Replay {
    /// The captures, pcap or pcapng, put in the order of time; `-` is standard input
    #[arg(value_name = "FILE", required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    count: Counting,
    /// Send the frames through the loaded BPF programs, which takes root, instead of the same parser compiled for this host
    #[cfg(feature = "live")]
    #[arg(long)]
    kernel: bool,
    /// Threads that work at it, whatever their number with the same result [default: one for each CPU]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=16))]
    threads: Option<usize>,
    #[command(flatten)]
    print: Print,
}

/// How often findings are looked for.
#[cfg(feature = "live")]
const SECOND: Duration = Duration::from_secs(1);

/// So long a reading waits for names that are asked for.
const RESOLVE: Duration = Duration::from_secs(2);

/// Prints readings to standard output.
pub(super) struct Printer<'a> {
    writer: Writer<'a>,
    print: &'a Print,
    host: String,
    filter: Filter,
    names: Names,
    looking: Option<JoinHandle<()>>,
}

impl<'a> Printer<'a> {
    fn new(out: &'a mut dyn io::Write, print: &'a Print, local: bool) -> Result<Self> {
        // A serial console says that it has no columns.
        let columns = || {
            crossterm::terminal::size()
                .ok()
                .map(|s| usize::from(s.0))
                .filter(|w| *w > 0)
                .unwrap_or(80)
        };
        let width = io::stdout().is_terminal().then(columns);
        let options = table::Options { width, base: if print.iec { Base::Iec } else { Base::Si } };
        let (names, mut looking) = print.naming.read(local)?;
        let filter = print.filter.filter(&names, &mut looking)?;
        Ok(Printer {
            writer: Writer::new(out, print.format(), options),
            print,
            host: host(),
            filter,
            names,
            looking,
        })
    }

    fn print(&mut self, interval: &Interval, findings: Option<&Series>) -> Result<()> {
        let mut reading = Reading::new(TOOL, &self.host, interval, &self.filter);
        if let Some(series) = findings {
            reading = reading.with(series.findings());
        }
        if !self.print.naming.numeric {
            if let Some(looking) = self.looking.take() {
                let _ = looking.join(); // what it did not find has no name
            }
            let outer = reading
                .flows
                .iter()
                .filter_map(|f| f.key.outer)
                .flat_map(|p| [(p.first, false), (p.second, false)]);
            let inner = reading
                .flows
                .iter()
                .filter_map(|f| f.key.inner.pair())
                .flat_map(|p| [(p.first, true), (p.second, true)]);
            self.names.settle(outer.chain(inner), RESOLVE);
            reading = reading.called(&self.names);
        }
        Ok(self.writer.write(&reading)?)
    }
}

#[cfg(feature = "live")]
impl Dump {
    pub(super) fn run(self) -> Result<()> {
        let flag = interrupted()?;
        let mut out = self.print.out();
        let mut printer = Printer::new(&mut out, &self.print, true)?;
        let mut live = Live::open(
            &self.watch.interfaces,
            self.watch.netns.as_deref(),
            &self.watch.count.config(),
            self.watch.want(),
        )?;
        if self.drops
            && let Some(why) = live.watch_drops(self.scope.all_netns)
        {
            say(&format!("drops are not shown: {why}"));
        }
        let findings = self.print.json;
        if findings {
            live.follow_configuration()?;
        }
        live.enter(&Sandbox::new(None))?;
        let start = Instant::now();
        let mut series = Series::new(0);
        if findings {
            series.look_for_findings(Known::default());
        }
        let Some(every) = self.every else {
            if live.is_attached() && self.span.is_none() {
                tell(&mut live);
                return printer.print(&live.read()?.total(), None);
            }
            // What others have counted before is not what happens now.
            let before = if live.joins() { Some(live.read()?) } else { None };
            let end = start + self.span.unwrap_or(Duration::from_secs(5));
            if findings {
                series.push(read(&mut live)?);
            }
            // Findings are of what happens second by second.
            let next = || if findings { end.min(Instant::now() + SECOND) } else { end };
            while !rest(&mut live, next(), &flag) && Instant::now() < end {
                series.push(read(&mut live)?);
            }
            live.detach();
            let last = read(&mut live)?;
            let interval =
                before.map_or_else(|| last.snapshot.total(), |b| last.snapshot.since(&b));
            series.push(last);
            return printer.print(&interval, findings.then_some(&series));
        };
        let every = every.max(Duration::from_millis(10));
        let end = self.span.map(|s| start + s);
        series.push(read(&mut live)?);
        loop {
            let next = start + next_tick(start.elapsed(), every);
            let over = end.is_some_and(|end| next > end);
            if over || rest(&mut live, next, &flag) {
                break;
            }
            series.push(read(&mut live)?);
            if let Some(interval) = series.newest() {
                printer.print(interval, findings.then_some(&series))?;
            }
        }
        Ok(())
    }
}

#[cfg(feature = "live")]
/// Reads, and says what has happened to the interfaces meanwhile.
pub(super) fn read(live: &mut Live) -> Result<feed::Reading> {
    let reading = Source::read(live)?;
    reading.notices.iter().for_each(|notice| say(notice));
    Ok(reading)
}

#[cfg(feature = "live")]
/// When the next reading is due, after so long. Those that were missed, because we were stopped or
/// the machine was busy, are not made up for: the interval is the longer.
pub(super) fn next_tick(elapsed: Duration, every: Duration) -> Duration {
    let into = elapsed.as_nanos() % every.as_nanos().max(1);
    elapsed + every - Duration::from_nanos(into as u64) // `every` fits LONGEST
}

#[cfg(feature = "live")]
/// Waits until then, or until the flag is raised, and follows the interfaces meanwhile. Whether it was.
pub(super) fn rest(live: &mut Live, until: Instant, flag: &AtomicBool) -> bool {
    const STEP: Duration = Duration::from_millis(250);
    loop {
        live.follow();
        tell(live);
        let now = Instant::now();
        if wait(until.min(now + STEP), flag) {
            return true;
        }
        if now + STEP >= until {
            return false;
        }
    }
}

#[cfg(feature = "live")]
/// What has happened to the interfaces goes to standard error, so that readings stay what they are.
fn tell(live: &mut Live) {
    for notice in live.notices() {
        say(&notice);
    }
}

impl Replay {
    /// It takes BPF programs.
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
        let mut replay = feed::Replay::open(&self.files, &self.count.of_capture(), judge)?;
        let cpus = std::thread::available_parallelism().map_or(1, usize::from).min(MOST_THREADS);
        replay.set_threads(self.threads.unwrap_or(cpus));
        let sandbox = Sandbox::new(None);
        if self.loads() {
            sandbox.confine(); // programs of interfaces that come later are loaded then
        } else {
            sandbox.enter_all()?;
        }
        let flag = interrupted()?;
        let mut progress = io::stderr().is_terminal().then(Progress::new);
        while replay.advance(4096)? && !flag.load(Ordering::Relaxed) {
            if let Some(progress) = &mut progress {
                progress.show(&replay);
            }
        }
        if self.loads() {
            sandbox.enter_all()?;
        }
        if progress.is_some() {
            out::tell("\r\x1b[K");
        }
        printer.print(&replay.read()?.total(), None)?;
        for note in replay.notes() {
            say(&note);
        }
        replay.end()
    }
}

/// How far it is, for somebody who waits.
struct Progress {
    begun: Instant,
    shown: Instant,
}

impl Progress {
    fn new() -> Progress {
        let now = Instant::now();
        Progress { begun: now, shown: now }
    }

    /// Shows it, a few times a second.
    fn show(&mut self, replay: &feed::Replay) {
        let now = Instant::now();
        if now - self.shown > Duration::from_millis(200) {
            self.shown = now;
            let (at, size) = replay.position();
            let line = progress(replay.frames(), at, size, now - self.begun);
            out::tell(&format!("\r{line}\x1b[K"));
        }
    }
}

/// Frames, the share of the files or their bytes, frames a second, and the time that the rest takes.
fn progress(frames: u64, at: u64, size: Option<u64>, elapsed: Duration) -> String {
    let seconds = elapsed.as_secs_f64();
    let rate = if seconds > 0.0 { frames as f64 / seconds } else { 0.0 };
    let read = match size {
        Some(size) => units::percent(at, size),
        None => units::bytes(at, Base::Si).to_string(),
    };
    let mut line = format!("{frames} frames, {read}, {:.1} M/s", rate / 1e6);
    if let Some(size) = size
        && at > 0
    {
        let left = seconds * size.saturating_sub(at) as f64 / at as f64;
        let left = Duration::try_from_secs_f64(left.ceil()).unwrap_or(Duration::MAX);
        line += &format!(", {} left", units::duration(left));
    }
    line
}

#[cfg(all(test, feature = "live"))]
mod tests {
    use super::*;

    #[test]
    fn progress_says_how_much_how_fast_and_how_long() {
        let second = Duration::from_secs(1);
        assert_eq!(
            progress(12_500_000, 1 << 30, Some(4 << 30), second),
            "12500000 frames, 25.0 %, 12.5 M/s, 3 s left"
        );
        assert_eq!(progress(5, 2_000, None, second), "5 frames, 2.0 kB, 0.0 M/s");
        assert_eq!(progress(0, 0, Some(9), Duration::ZERO), "0 frames, 0 %, 0.0 M/s");
    }

    #[test]
    fn missed_readings_are_not_made_up_for() {
        let of = |elapsed, every| {
            let next = next_tick(Duration::from_millis(elapsed), Duration::from_millis(every));
            next.as_millis()
        };
        assert_eq!([of(0, 500), of(499, 500), of(500, 500), of(501, 500)], [500, 500, 1000, 1000]);
        assert_eq!(of(10_020, 500), 10_500, "one after ten seconds, not twenty");
        assert_eq!(next_tick(Duration::from_secs(1), LONGEST), LONGEST);
    }
}
