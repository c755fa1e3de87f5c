// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon dump`.
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use clap::Args;

use super::{
    DropScope, Print, Usage, Watch,
    anonymous::Mask,
    duration, interrupted, out,
    playback::Playback,
    printer::Printer,
    remote::{Ready, Remotes, patience},
    replay::round_trips,
    say,
};
use crate::kernel::{
    live::Live,
    probe::{Prober, Wish},
    sandbox::Sandbox,
};
use feed::{
    recorded::Recordings,
    series::Series,
    {self, Source},
};
use model::{
    detect::Known,
    snapshot::{Interval, Snapshot},
};

#[derive(Args, Debug)]
pub(super) struct Dump {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    print: Print,
    /// Also count packets that the kernel drops meanwhile: per row, and with --json by reason
    #[arg(long)]
    drops: bool,
    #[command(flatten)]
    scope: DropScope,
    /// Also show what the packets of matching rows contain: protocols, ports, DSCP and ECN, TTL,
    /// TCP flags, sizes (`vni:10003 inner:192.168.3.8`)
    #[arg(long, value_name = "EXPR", value_parser = super::filter, conflicts_with_all = ["csv", "svg", "html", "every"])]
    lens: Option<super::Written>,
    /// Also show round-trip times and retransmissions of TCP, and round-trip times of echo
    /// requests, in matching rows: for each end, from a packet it sent until the answer passed here
    #[arg(long, value_name = "EXPR", value_parser = super::filter, conflicts_with_all = ["csv", "svg", "html", "every"])]
    rtt: Option<super::Written>,
    /// Count for this long, then print [default: 5s; the totals so far where `tmon attach` counts]
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
    /// Print one reading per interval of this length, until interrupted or until --for has passed
    #[arg(long = "watch", value_name = "TIME", value_parser = duration, conflicts_with_all = ["svg", "html"])]
    every: Option<Duration>,
    /// Print these recordings instead of counting, as a whole or in intervals of --watch; may be
    /// repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "netns", "span", "drops", "from", "ssh"])]
    #[cfg_attr(feature = "nats", arg(conflicts_with = "nats"))]
    read: Vec<PathBuf>,
    #[command(flatten)]
    part: Playback,
    #[command(flatten)]
    remotes: Remotes,
    /// Replace addresses and names of hosts and namespaces: equal ones stay equal, and addresses
    /// that share a prefix still do; each run uses a new key, and --filter applies to the
    /// replacements
    #[arg(long, conflicts_with_all = ["names", "resolve", "groups", "lens", "rtt"])]
    anonymize: bool,
}

/// How often to look for findings.
const SECOND: Duration = Duration::from_secs(1);

impl Dump {
    /// The command reads recordings and needs no BPF programs.
    pub(super) fn reads_recordings(&self) -> bool {
        !self.read.is_empty()
    }

    fn sandbox(&self) -> Sandbox {
        Sandbox::new(None).resolving(self.print.naming.resolve)
    }

    /// The command listens to remote hosts.
    pub(super) fn listens(&self) -> bool {
        self.remotes.any()
    }

    pub(super) fn run(mut self) -> Result<()> {
        let mask = self.anonymize.then(Mask::new).transpose()?;
        let mask = mask.as_ref();
        self.print.naming.numeric |= self.anonymize;
        let probes = [(&self.lens, "--lens"), (&self.rtt, "--rtt")];
        if let Some((_, flag)) = probes.into_iter().find(|(expr, _)| expr.is_some())
            && (self.listens() || self.reads_recordings())
        {
            let why = "needs packets, but other hosts and recordings provide only counts";
            let instead = "run `tmon dump` with it on the host where they pass";
            return Err(Usage(format!("{flag} {why}: {instead}")).into());
        }
        if self.listens() {
            self.watch.is_unused()?;
        }
        let ready = if self.listens() {
            Some(self.remotes.prepare(self.every.unwrap_or(SECOND))?)
        } else {
            None
        };
        let mut out = self.print.out();
        if let Some(ready) = ready {
            let printer = Printer::new(&mut out, &self.print, false)?;
            let flag = interrupted()?;
            return self.fleet(ready, printer, mask, &flag);
        }
        if self.reads_recordings() {
            let printer = Printer::new(&mut out, &self.print, false)?;
            let recordings = self.part.only_recordings(&self.read)?;
            let flag = interrupted()?;
            return self.recorded(recordings, printer, mask, &flag);
        }
        let mut printer = Printer::new(&mut out, &self.print, true)?;
        let flag = interrupted()?;
        let mut live = self.watch.open()?;
        if self.drops
            && let Some(why) = live.watch_drops(self.scope.all_netns)
        {
            say(&format!("drops are not shown: {why}"));
        }
        let findings = self.print.has_findings();
        if findings {
            live.follow_configuration()?;
        }
        live.enter(&self.sandbox())?;
        let mut prober = |expr: &Option<super::Written>, wish: Wish| match expr {
            Some(expr) => {
                let filter = printer.filter(expr)?;
                look(&mut live, Wish { filter, ..wish }).map(Some)
            }
            None => Ok(None),
        };
        let mut lens = prober(&self.lens, Wish { lens: true, ..Wish::default() })?;
        let mut timer = prober(&self.rtt, Wish { rtt: true, ..Wish::default() })?;
        let start = Instant::now();
        let mut series = Series::new(0);
        if findings {
            series.look_for_findings(Known::default());
        }
        let Some(every) = self.every else {
            if live.is_attached() && self.span.is_none() && lens.is_none() && timer.is_none() {
                tell(&mut live);
                return printer.print(&hidden(live.read()?, mask).into_total(), None);
            }
            // What others have counted before is not part of the interval.
            let before = if live.joins() { Some(hidden(live.read()?, mask)) } else { None };
            let end = start + self.span.unwrap_or(Duration::from_secs(5));
            if findings {
                series.push(masked(read(&mut live)?, mask));
            }
            // Findings need a reading every second.
            let next = || if findings { end.min(Instant::now() + SECOND) } else { end };
            while !rest(&mut live, next(), &flag) && Instant::now() < end {
                series.push(masked(read(&mut live)?, mask));
            }
            for prober in lens.iter().chain(&timer) {
                prober.stop()?;
            }
            let seen = lens.as_ref().map(|prober| live.lens(prober)).transpose()?;
            let timed = timer.as_ref().map(Prober::timed).transpose()?.flatten();
            for prober in lens.iter_mut().chain(&mut timer) {
                live.end_probe(prober);
            }
            live.detach();
            let last = masked(read(&mut live)?, mask);
            let mut interval =
                before.map_or_else(|| last.snapshot.total(), |b| last.snapshot.since(&b));
            if let Some(timed) = timed {
                interval.beside = Arc::new(interval.beside.timed(timed));
            }
            series.push(last);
            printer.print_lens(&interval, findings.then_some(&series), seen.as_ref())?;
            if timer.is_some() && self.print.format() == export::Format::Table {
                round_trips(&mut out::people(), &interval.beside)?;
            }
            return Ok(());
        };
        let every = every.max(Duration::from_millis(10));
        let end = self.span.map(|s| start + s);
        series.push(masked(read(&mut live)?, mask));
        loop {
            let next = start + next_tick(start.elapsed(), every);
            let over = end.is_some_and(|end| next > end);
            if over || rest(&mut live, next, &flag) {
                break;
            }
            series.push(masked(read(&mut live)?, mask));
            if let Some(interval) = series.newest() {
                printer.print(interval, findings.then_some(&series))?;
            }
        }
        Ok(())
    }
}

impl Dump {
    /// Prints the readings of remote hosts.
    fn fleet(
        &self,
        ready: Ready,
        mut printer: Printer<'_>,
        mask: Option<&Mask>,
        flag: &Arc<AtomicBool>,
    ) -> Result<()> {
        ready.enter(self.sandbox())?;
        let mut remote = ready.listen(printer.names())?.until(flag).patient(patience(self.span));
        let (mut heard, mut silent) = (false, false);
        // Hosts that are silent for a while do not end the command.
        let mut read = || match remote.read() {
            Err(e) if !heard => Err(e),
            Err(e) => {
                if !std::mem::replace(&mut silent, true) {
                    say(&format!("{e:#}"));
                }
                Ok(None)
            }
            Ok(reading) => {
                (heard, silent) = (true, false);
                reading.notices.iter().for_each(|notice| say(notice));
                Ok(Some(masked(reading, mask)))
            }
        };
        let findings = self.print.has_findings();
        let mut series = Series::new(0);
        if findings {
            series.look_for_findings(Known::default());
        }
        let Some(first) = read()? else { return Ok(()) };
        let (mut before, mut last) = (first.snapshot.clone(), first.snapshot.clone());
        series.push(first);
        let start = Instant::now();
        let span = self.span.or(self.every.is_none().then_some(Duration::from_secs(5)));
        let end = span.map(|span| start + span);
        let every = self.every.map(|every| every.max(SECOND));
        loop {
            let next = every.map(|every| start + next_tick(start.elapsed(), every));
            let until = [next, end].into_iter().flatten().min().unwrap_or(start);
            // Keep reading, for hosts keep sending, and findings need a reading every second.
            while until > Instant::now() + SECOND && !wait(Instant::now() + SECOND, flag) {
                if let Some(now) = read()? {
                    last = now.snapshot.clone();
                    series.push(now);
                }
            }
            let over = wait(until, flag) || end.is_some_and(|end| Instant::now() >= end);
            if every.is_none() || !over {
                if let Some(now) = read()? {
                    last = now.snapshot.clone();
                    series.push(now);
                }
                let nothing = "no host sent anything after its first reading";
                ensure!(every.is_some() || last.taken > before.taken, nothing);
                if last.taken > before.taken {
                    printer.print(&last.since(&before), findings.then_some(&series))?;
                    before = last.clone();
                }
            }
            if over {
                return Ok(());
            }
        }
    }

    /// Prints recordings: as a whole, or in intervals of at least --watch.
    fn recorded(
        &self,
        mut recordings: Recordings,
        mut printer: Printer<'_>,
        mask: Option<&Mask>,
        flag: &AtomicBool,
    ) -> Result<()> {
        self.sandbox().enter_with_nothing()?;
        let mut series = Series::new(0);
        if self.print.has_findings() {
            series.look_for_findings(Known::default());
        }
        let mut sum: Option<Interval> = None;
        let mut any = false;
        while let Some(interval) = recordings.next_interval()?
            && !flag.load(Ordering::Relaxed)
        {
            any = true;
            let interval = match mask {
                Some(mask) => interval.under(mask),
                None => interval,
            };
            if self.print.has_findings() {
                series.step(interval.clone());
            }
            let near = interval.elapsed / 2;
            // A gap ends a reading, so that traffic of hours apart is not shown as one moment.
            let is_apart = |s: &Interval| {
                let is_gap = interval.since > s.taken + near;
                is_gap && self.every.is_some_and(|e| interval.taken > s.since + e + near)
            };
            // A picture shows everything, even of several starts of the recorder.
            let is_one = self.print.is_picture();
            let longer = match &sum {
                Some(sum) if !is_apart(sum) && (is_one || sum.origin == interval.origin) => {
                    Interval::sum([sum, &interval])
                }
                Some(sum) => {
                    printer.print(sum, self.print.has_findings().then_some(&series))?;
                    None
                }
                None => None,
            };
            // The names are those of this interval: what came before is printed.
            if mask.is_none() {
                let overlay = interval.overlay.iter();
                overlay.for_each(|o| printer.names().learn_recorded(&interval.origin.host, o));
                printer.names().learn_hosts(recordings.names());
            }
            sum = Some(longer.unwrap_or(interval));
            // The next interval would end further from the requested length than this one.
            let is_long = |s: &mut Interval| self.every.is_some_and(|e| s.elapsed + near >= e);
            if let Some(done) = sum.take_if(is_long) {
                printer.print(&done, self.print.has_findings().then_some(&series))?;
            }
        }
        ensure!(any, "the recordings contain no reading, or none between these times");
        if let Some(rest) = sum {
            printer.print(&rest, self.print.has_findings().then_some(&series))?;
        }
        recordings.notes().iter().for_each(|note| say(note));
        recordings.end()
    }
}

/// The snapshot, with addresses and names replaced if there is a mask.
fn hidden(snapshot: Snapshot, mask: Option<&Mask>) -> Snapshot {
    match mask {
        Some(mask) => snapshot.under(mask),
        None => snapshot,
    }
}

/// The same for a whole reading.
fn masked(reading: feed::Reading, mask: Option<&Mask>) -> feed::Reading {
    let Some(mask) = mask else { return reading };
    let overlay = reading.overlay.map(|overlay| Arc::new(overlay.under(mask)));
    feed::Reading { snapshot: reading.snapshot.under(mask), overlay, ..reading }
}

/// Starts examining the packets of some rows.
pub(super) fn look(live: &mut Live, wish: Wish) -> Result<Prober> {
    let mut prober = Prober::new(wish)?;
    live.probe(&mut prober)?;
    tell(live);
    Ok(prober)
}

/// Takes a reading, and prints what has happened to the interfaces.
pub(super) fn read(live: &mut Live) -> Result<feed::Reading> {
    let reading = Source::read(live)?;
    reading.notices.iter().for_each(|notice| say(notice));
    Ok(reading)
}

/// When the next reading is due. Readings that were missed, because tmon was stopped or the machine
/// was busy, are not made up for: the interval is longer instead.
pub(super) fn next_tick(elapsed: Duration, every: Duration) -> Duration {
    let into = elapsed.as_nanos() % every.as_nanos().max(1);
    elapsed + every - Duration::from_nanos(into as u64) // `every` fits LONGEST
}

/// Waits until then, or until the flag is raised, and follows changes of the interfaces meanwhile.
/// Returns whether the flag was raised.
pub(super) fn rest(live: &mut Live, until: Instant, flag: &AtomicBool) -> bool {
    const STEP: Duration = Duration::from_millis(250);
    loop {
        live.follow();
        tell(live);
        let now = Instant::now();
        let step = if live.is_behind() { Duration::from_millis(1) } else { STEP };
        if wait(until.min(now + step), flag) {
            return true;
        }
        if now + step >= until {
            return false;
        }
    }
}

/// Waits until then, or until the flag is raised. Returns whether it was.
pub(super) fn wait(until: Instant, flag: &AtomicBool) -> bool {
    const STEP: Duration = Duration::from_millis(50);
    while !flag.load(Ordering::Relaxed) {
        match until.checked_duration_since(Instant::now()) {
            None | Some(Duration::ZERO) => return false,
            Some(left) => std::thread::sleep(left.min(STEP)),
        }
    }
    true
}

/// Prints what has happened to the interfaces on standard error, apart from the readings.
pub(super) fn tell(live: &mut Live) {
    for notice in live.notices() {
        say(&notice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::LONGEST;

    #[test]
    fn missed_readings_are_not_caught_up() {
        let of = |elapsed, every| {
            let next = next_tick(Duration::from_millis(elapsed), Duration::from_millis(every));
            next.as_millis()
        };
        assert_eq!([of(0, 500), of(499, 500), of(500, 500), of(501, 500)], [500, 500, 1000, 1000]);
        assert_eq!(of(10_020, 500), 10_500, "one reading after ten seconds, not twenty");
        assert_eq!(next_tick(Duration::from_secs(1), LONGEST), LONGEST);
    }
}
