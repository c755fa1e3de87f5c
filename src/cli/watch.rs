// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon watch`.
use std::{
    collections::VecDeque,
    ffi::OsString,
    io::Write,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::{
    Configured, Dropping, Grouped, Ignoring, TOOL, Unpack, Usage, Watch, Written, dump, duration,
    interrupted, out,
    playback::Playback,
    remote::{Remotes, patience},
    saving::Saver,
    say,
};
use crate::kernel::{
    origin,
    probe::Wish,
    runner::{Runner, Running},
    sandbox::Sandbox,
};
use export::json;
use feed::{
    judge,
    names::Names,
    series::Series,
    {Capture, Captures, Recordings, Remote, Replay, Source},
};
use model::{
    detect::{Change, Finding, Known, Severity},
    filter::Filter,
    groups::Groups,
    units::{rfc3339, sanitize},
};

#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "Exit status: 3 if there was a bad finding that --ignore does not mute, 1 if tmon failed."
)]
pub(super) struct Watching {
    #[command(flatten)]
    _configured: Configured,
    #[command(flatten)]
    watch: Watch,
    /// Interval between readings of the counters
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    every: Duration,
    /// Stop after this long
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    span: Option<Duration>,
    /// Look for findings in this recording or capture; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "netns", "span", "from", "ssh"])]
    #[cfg_attr(feature = "nats", arg(conflicts_with = "nats"))]
    read: Vec<PathBuf>,
    #[command(flatten)]
    part: Playback,
    #[command(flatten)]
    remotes: Remotes,
    #[command(flatten)]
    unpack: Unpack,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Run this command with `sh -c` for each line, with its JSON object on standard input;
    /// commands run one at a time, at most one per second
    #[arg(long, value_name = "COMMAND")]
    exec: Option<OsString>,
    /// Save a recording to this folder for each bad finding, from 5 minutes before to 5 minutes
    /// after
    #[arg(long, value_name = "FOLDER", conflicts_with_all = ["read", "from", "ssh"])]
    #[cfg_attr(feature = "nats", arg(conflicts_with = "nats"))]
    save: Option<PathBuf>,
    /// Also look for what TCP retransmits again and again in rows that match, because it does not fit
    /// an MTU on the way
    #[arg(long, value_name = "EXPR", value_parser = super::filter, conflicts_with_all = ["from", "ssh"])]
    #[cfg_attr(feature = "nats", arg(conflicts_with = "nats"))]
    rtt: Option<Written>,
    #[command(flatten)]
    drops: Dropping,
    #[command(flatten)]
    ignoring: Ignoring,
    #[command(flatten)]
    grouped: Grouped,
    /// File of names for addresses, networks and ids, used by --ignore and --groups
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
}

/// Number of readings in a row without news from any host before that is reported.
const PATIENCE: u32 = 5;
/// Why `--rtt` does not work with recordings.
const NOT_RECORDED: &str =
    "recordings contain no packets for --rtt to measure: use it with interfaces or captures";
/// The exit status after a bad finding.
const BAD: u8 = 3;

impl Watching {
    /// The command reads files and needs no BPF programs.
    pub(super) fn reads_captures(&self) -> bool {
        !self.read.is_empty()
    }

    /// The command listens to remote hosts.
    pub(super) fn listens(&self) -> bool {
        self.remotes.any()
    }

    pub(super) fn run(self) -> Result<u8> {
        if self.listens() {
            self.watch.is_unused()?;
        }
        // Before any threads are started and any privileges dropped.
        let mut hook = self.exec.clone().map(Hook::start).transpose()?;
        let ready = if self.listens() { Some(self.remotes.prepare(self.every)?) } else { None };
        let names = Names::read(self.names.as_deref())?;
        let groups = self.grouped.read()?.unwrap_or_default();
        let known = self.ignoring.read(&names, &groups)?;
        let timed = self.rtt.as_ref().map(|expr| names.filter(&expr.0, &groups)).transpose();
        let timed = timed.map_err(|e| Usage(e.to_string()))?;
        let recordings = self.part.recordings(&self.read)?;
        if recordings.is_some() && timed.is_some() {
            return Err(Usage(NOT_RECORDED.to_owned()).into());
        }
        let captures = match recordings {
            None => Captures::open(&self.read)?,
            Some(_) => Captures::default(),
        };
        let flag = interrupted()?;
        let (json, host) = (self.json, origin::host());
        let mut told = Told { json, host, bad: false, names: names.clone(), groups };
        if let Some(ready) = ready {
            ready.enter(Sandbox::new(None))?;
            self.fleet(
                ready.listen(names)?.until(&flag).patient(patience(self.span)),
                known,
                &mut told,
                hook.as_mut(),
                &flag,
            )?;
        } else if self.read.is_empty() {
            self.live(known, timed, &mut told, hook.as_mut(), &flag)?;
        } else if let Some(recordings) = recordings {
            recorded(recordings, known, &mut told, hook.as_mut(), &flag)?;
        } else {
            self.captures((captures, timed), known, &mut told, hook.as_mut(), &flag)?;
        }
        if let Some(hook) = hook {
            hook.finish(&flag)?;
        }
        Ok(if told.bad { BAD } else { 0 })
    }

    fn live(
        &self,
        known: Known,
        timed: Option<Filter>,
        told: &mut Told,
        mut hook: Option<&mut Hook>,
        flag: &AtomicBool,
    ) -> Result<()> {
        let mut live = self.watch.open()?;
        self.drops.begin_or_say(&mut live);
        live.follow_configuration()?;
        let every = self.every.max(Duration::from_millis(50));
        let mut saver = self.save.clone().map(|folder| Saver::new(folder, every)).transpose()?;
        live.enter(&Sandbox::new(self.save.as_deref()))?;
        let wish = timed.map(|filter| Wish { filter, rtt: true, ..Wish::default() });
        let mut timer = wish.map(|wish| dump::look(&mut live, wish)).transpose()?;
        let start = Instant::now();
        let end = self.span.map(|span| start + span);
        let mut series = Series::new(0);
        series.look_for_findings(known);
        series.push(dump::read(&mut live)?);
        loop {
            let next = start + dump::next_tick(start.elapsed(), every);
            let rest = |until| dump::rest(&mut live, until, flag);
            if end.is_some_and(|end| next > end) || serving(next, hook.as_deref_mut(), rest) {
                return saver.map_or(Ok(()), |mut saver| saver.end());
            }
            let begun = Instant::now();
            let mut reading = dump::read(&mut live)?;
            if let Some(timer) = &mut timer {
                _ = live.probe(timer); // where that fails, a notice says so
                if let Some(timed) = timer.timed()? {
                    let snapshot = &mut reading.snapshot;
                    snapshot.beside = Arc::new(snapshot.beside.timed(timed));
                }
            }
            let (taken, overlay, took) =
                (reading.snapshot.taken, reading.overlay.clone(), begun.elapsed());
            series.push(reading);
            if let (Some(saver), Some(interval)) = (&mut saver, series.newest()) {
                let begins = |(f, change): (&Finding, Change)| {
                    f.severity == Severity::Bad && !f.muted && change != Change::Ended
                };
                saver.take(interval, overlay, took, series.changes().any(begins));
            }
            for (finding, change) in series.changes() {
                if flag.load(Ordering::Relaxed) {
                    break;
                }
                told.tell(taken, change, finding, hook.as_deref_mut())?;
            }
            if let Some(hook) = &mut hook {
                hook.step();
            }
        }
    }

    /// Findings in the readings of remote hosts. Hosts that are silent do not end the command.
    fn fleet(
        &self,
        mut remote: Remote,
        known: Known,
        told: &mut Told,
        mut hook: Option<&mut Hook>,
        flag: &AtomicBool,
    ) -> Result<()> {
        let every = self.every.max(Duration::from_millis(50));
        let start = Instant::now();
        let end = self.span.map(|span| start + span);
        let mut series = Series::new(0);
        series.look_for_findings(known);
        let mut failed = 0;
        let mut reading = Some(remote.read()?);
        loop {
            if let Some(reading) = reading.take() {
                reading.notices.iter().for_each(|notice| say(notice));
                told.host = reading.snapshot.origin.host.to_string();
                let taken = reading.snapshot.taken;
                series.push(reading);
                for (finding, change) in series.changes() {
                    if flag.load(Ordering::Relaxed) {
                        return Ok(());
                    }
                    told.tell(taken, change, finding, hook.as_deref_mut())?;
                }
            }
            if let Some(hook) = &mut hook {
                hook.step();
            }
            let next = start + dump::next_tick(start.elapsed(), every);
            let rest = |until| dump::wait(until, flag);
            if end.is_some_and(|end| next > end) || serving(next, hook.as_deref_mut(), rest) {
                return Ok(());
            }
            match remote.read() {
                Ok(new) => (reading, failed) = (Some(new), 0),
                Err(e) => {
                    failed += 1;
                    if failed == PATIENCE {
                        say(&format!("{e:#}"));
                    }
                }
            }
        }
    }

    fn captures(
        &self,
        (captures, timed): (Captures, Option<Filter>),
        known: Known,
        told: &mut Told,
        mut hook: Option<&mut Hook>,
        flag: &Arc<AtomicBool>,
    ) -> Result<()> {
        let (count, most) = (self.watch.count.of_capture(), self.unpack.max_size);
        let origin = origin::here();
        let captures = captures.until(flag);
        Sandbox::new(None).enter_with_nothing()?;
        let open = move || {
            let mut replay = Replay::of(captures, &count, judge::host, most)?;
            replay.set_origin(origin);
            if let Some(filter) = timed {
                replay.time(filter)?;
            }
            Ok(replay)
        };
        let mut capture = Capture::new(open, self.every, model::history::BYTES)?;
        let Some(reading) = capture.read_all(flag)? else { return Ok(()) };
        reading.notices.iter().for_each(|notice| say(notice));
        let mut series = Series::of_recording();
        series.look_for_findings(known);
        series.load(reading.past, reading.snapshot);
        let mut changes: Vec<(SystemTime, Change, &Finding)> = series
            .findings()
            .flat_map(|f| {
                let ended = f.until.map(|until| (until, Change::Ended, f));
                [Some((f.since, Change::Begun, f)), ended].into_iter().flatten()
            })
            .collect();
        changes.sort_by_key(|(at, ..)| *at);
        for (at, change, finding) in changes {
            if flag.load(Ordering::Relaxed) {
                return Ok(());
            }
            told.tell(at, change, finding, hook.as_deref_mut())?;
        }
        capture.end()
    }
}

/// Waits until then, and starts commands that are due meanwhile. Returns whether the program was
/// asked to end.
fn serving(
    until: Instant,
    mut hook: Option<&mut Hook>,
    mut rest: impl FnMut(Instant) -> bool,
) -> bool {
    const STEP: Duration = Duration::from_millis(250);
    loop {
        let next = match &hook {
            Some(_) => until.min(Instant::now() + STEP),
            None => until,
        };
        if rest(next) {
            return true;
        }
        if let Some(hook) = &mut hook {
            hook.step();
        }
        if next == until {
            return false;
        }
    }
}

/// Findings in recordings, as they were reported at the time.
fn recorded(
    mut recordings: Recordings,
    known: Known,
    told: &mut Told,
    mut hook: Option<&mut Hook>,
    flag: &AtomicBool,
) -> Result<()> {
    Sandbox::new(None).enter_with_nothing()?;
    let mut series = Series::new(0);
    series.look_for_findings(known);
    let mut any = false;
    while let Some(interval) = recordings.next_interval()? {
        let taken = interval.taken;
        any = true;
        told.host = interval.origin.host.to_string();
        series.step(interval);
        for (finding, change) in series.changes() {
            told.tell(taken, change, finding, hook.as_deref_mut())?;
        }
        // That nothing was found in a part does not mean that all is well.
        if flag.load(Ordering::Relaxed) {
            let at = rfc3339(taken);
            let part = format!("interrupted at {at}: what was recorded later has not been read");
            ensure!(told.bad, part);
            say(&part);
            return Ok(());
        }
    }
    recordings.notes().iter().for_each(|note| say(note));
    recordings.end()?;
    // Without any reading, nothing can be said about findings.
    ensure!(any, "the recordings contain no reading, or none between these times");
    Ok(())
}

/// Prints findings.
struct Told {
    json: bool,
    host: String,
    bad: bool,
    names: Names,
    groups: Arc<Groups>,
}

impl Told {
    fn tell(
        &mut self,
        at: SystemTime,
        change: Change,
        finding: &Finding,
        hook: Option<&mut Hook>,
    ) -> Result<()> {
        self.bad |= finding.severity == Severity::Bad && !finding.muted;
        let mut object = Vec::new();
        let hosts = [finding.place.outer_from, finding.place.outer_to].into_iter().flatten();
        self.groups.learn(hosts, |host| self.names.address(host, false));
        json::change(&mut object, (TOOL, &self.host), at, change, finding, &self.groups)?;
        if self.json {
            out::raw().write_all(&object)?;
        } else {
            let severity = if finding.muted { "muted" } else { finding.severity.name() };
            out::line(&format!(
                "{} {:<8} {severity:<5} {}: {}",
                rfc3339(at),
                change.name(),
                finding.topic.name(),
                sanitize(&finding.text)
            ))?;
        }
        if let (Some(hook), false) = (hook, finding.muted) {
            hook.give(object);
        }
        Ok(())
    }
}

/// The command of `--exec`.
struct Hook {
    runner: Runner,
    waiting: VecDeque<Vec<u8>>,
    running: Option<Running>,
    started: Option<Instant>,
    /// Lines that the running command has printed.
    lines: usize,
    /// Findings that were not passed to the command.
    left_out: u64,
    /// No command can be started any more.
    broken: bool,
}

impl Hook {
    /// Limit on the findings that wait for the command.
    const MOST: usize = 1000;
    /// The shortest time from one start to the next.
    const APART: Duration = Duration::from_secs(1);
    /// How long a command may run.
    const LONGEST: Duration = Duration::from_secs(60);
    /// Limits on the command's output that is shown: lines, and characters of each.
    const LINES: usize = 20;
    const CHARACTERS: usize = 200;
    /// How long to wait at the end for the commands of the last findings.
    const PARTING: Duration = Duration::from_secs(10);

    fn start(command: OsString) -> Result<Hook> {
        let runner = Runner::start(vec![vec!["sh".into(), "-c".into(), command]])?;
        Ok(Hook {
            runner,
            waiting: VecDeque::new(),
            running: None,
            started: None,
            lines: 0,
            left_out: 0,
            broken: false,
        })
    }

    fn give(&mut self, object: Vec<u8>) {
        if self.broken || self.waiting.len() >= Self::MOST {
            self.left_out += 1;
        } else {
            self.waiting.push_back(object);
        }
    }

    /// Looks after the command that runs, and starts the next one when it is time. Never waits.
    fn step(&mut self) {
        if !self.is_free() || self.broken {
            return;
        }
        let Some(object) = self.waiting.pop_front() else { return };
        self.started = Some(Instant::now());
        self.lines = 0;
        match self.runner.run(0) {
            Ok(mut running) => {
                // An object is far smaller than a pipe, so this does not wait for the command.
                if let Some(mut stdin) = running.stdin.take() {
                    let _ = stdin.write_all(&object); // it need not read it
                }
                self.running = Some(running);
            }
            Err(e) => {
                say(&format!("run the --exec command: {e:#}"));
                self.left_out += 1;
            }
        }
    }

    /// Whether another command may be started now.
    fn is_free(&mut self) -> bool {
        let age = self.started.map(|at| at.elapsed());
        if let Some(running) = &mut self.running {
            let ended = running.ended();
            let said = running.said();
            self.pass_on(&said);
            match ended {
                Ok(None) if age.is_none_or(|age| age < Self::LONGEST) => return false,
                Ok(None) => say(&format!(
                    "the --exec command has run for {} s and is being terminated",
                    Self::LONGEST.as_secs()
                )),
                Ok(Some(status)) if status.success() => {}
                Ok(Some(status)) => say(&format!("the --exec command failed: {status}")),
                Err(e) => {
                    say(&format!("cannot run the --exec command any more: {e:#}"));
                    self.broken = true;
                    self.left_out += self.waiting.drain(..).count() as u64;
                }
            }
            self.running = None;
        }
        age.is_none_or(|age| age >= Self::APART)
    }

    /// Prints the output of the command, up to a limit.
    fn pass_on(&mut self, said: &[u8]) {
        for line in String::from_utf8_lossy(said).lines() {
            self.lines += 1;
            match self.lines {
                ..=Self::LINES => {
                    let line: String = line.chars().take(Self::CHARACTERS).collect();
                    say(&format!("--exec: {line}"));
                }
                n if n == Self::LINES + 1 => say("--exec: further output is not shown"),
                _ => {}
            }
        }
    }

    /// Runs the remaining commands, within a limit of time and unless the flag is raised.
    fn finish(mut self, flag: &AtomicBool) -> Result<()> {
        let until = Instant::now() + Self::PARTING;
        while (self.running.is_some() || !self.waiting.is_empty()) && !self.broken {
            self.step();
            if dump::wait(until.min(Instant::now() + Duration::from_millis(20)), flag)
                || Instant::now() >= until
            {
                break;
            }
        }
        if self.running.is_some() && !self.broken {
            say("the --exec command is being terminated because tmon ends");
        }
        let left_out = self.left_out + self.waiting.len() as u64;
        if left_out > 0 {
            say(&format!("{left_out} findings were not passed to the --exec command"));
        }
        if self.broken {
            bail!("the process that runs the --exec command is gone");
        }
        Ok(())
    }
}
