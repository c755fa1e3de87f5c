// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon diff`: compares what two hosts sent each other with what arrived.
use std::{
    collections::VecDeque,
    ffi::OsString,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use clap::Args;
use foldhash::HashMap;
use serde::Serialize;

use super::{
    TOOL, dump, duration, interrupted, listing, out, playback::Playback, remote::Remotes, say,
};
use crate::kernel::sandbox::Sandbox;
use export::json;
use feed::{Source, names::Names, recorded::Between};
use model::{
    ends::{LaneSum, lanes},
    lane::Balance,
    snapshot::Interval,
    units::{duration as spoken, packets, percent, rfc3339, sanitize},
};

#[derive(Args, Debug)]
#[command(
    after_help = "Exit status: 3 if the hosts differ by more than the error bounds of their counts."
)]
pub(super) struct Diff {
    /// A recording made by `tmon record`, or a host to reach by ssh
    #[arg(value_name = "A", required_unless_present = "from")]
    a: Option<OsString>,
    /// The recording or host to compare with; omit it if A is a recording of both hosts
    #[arg(value_name = "B")]
    b: Option<OsString>,
    /// Instead of A and B, read the output of this command, a `tmon stream` somewhere; give it
    /// twice
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["a", "b"])]
    from: Vec<OsString>,
    /// The tmon command on the hosts, such as `sudo -n tmon`
    #[arg(long, value_name = "COMMAND", default_value = "tmon")]
    ssh_command: String,
    /// How long to listen to the hosts
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = duration)]
    span: Duration,
    /// Compare only what was recorded between two times, either of which may be omitted
    #[arg(long, value_name = "FROM..UNTIL", conflicts_with = "from")]
    between: Option<Between>,
    /// Print one JSON object per tunnel and direction
    #[arg(long)]
    json: bool,
}

/// The exit status if the hosts differ.
const DIFFER: u8 = 3;
/// How long to wait until both hosts are heard.
const PATIENCE: Duration = Duration::from_secs(12);

/// Clocks are assumed to be no further apart than this.
const EDGE: Duration = Duration::from_secs(1);

/// The time in which both hosts were heard.
#[derive(Default)]
struct Both {
    sum: Option<Interval>,
    /// The time since both were last read at the same moment.
    open: Option<Interval>,
    /// The intervals at the beginning and at the end.
    head: Vec<Interval>,
    tail: VecDeque<Interval>,
    /// The time in which one of them reported nothing.
    left_out: Duration,
    /// Why the recordings could not be read to the end.
    incomplete: Option<anyhow::Error>,
}

impl Both {
    fn add(&mut self, interval: &Interval) {
        let beyond = interval.elapsed / 2;
        let longer = match &self.open {
            Some(open) => Interval::sum([open, interval]),
            None => Some(interval.clone()),
        };
        let Some(interval) = &longer else { return };
        let hosts: Vec<_> = interval.interfaces.iter().filter_map(|i| i.live()).collect();
        let [a, b] = hosts[..] else { return };
        let near = |apart: Option<Duration>| {
            apart.is_some_and(|apart| apart.saturating_sub(a.error + b.error) <= beyond)
        };
        if !near(a.apart(b)) {
            // A host that reports less often will report on this time later; but if both have
            // reported up to now, they did not begin at the same time.
            let seldom = a.cadence.max(b.cadence);
            if !near(a.apart_at_end(b)) && interval.elapsed < seldom + seldom / 2 {
                self.open = longer;
            } else {
                self.open = None;
                self.left_out = self.left_out.saturating_add(interval.elapsed);
            }
            return;
        }
        self.open = None;
        let long = |edge: &mut dyn Iterator<Item = &Interval>| {
            edge.map(|i| i.elapsed).sum::<Duration>() > EDGE
        };
        if !long(&mut self.head.iter()) {
            self.head.push(interval.clone());
        }
        self.tail.push_back(interval.clone());
        while long(&mut self.tail.iter().skip(1)) {
            self.tail.pop_front();
        }
        self.sum = match &self.sum {
            Some(sum) => Interval::sum([sum, interval]),
            None => Some(interval.clone()),
        };
    }
}

impl Diff {
    pub(super) fn run(self) -> Result<u8> {
        let flag = interrupted()?;
        let both = match (&self.a, &self.b) {
            (Some(a), None) => self.recorded(&[PathBuf::from(a)], &flag)?,
            (Some(a), Some(b)) => {
                let files = [a, b].map(PathBuf::from);
                if files.iter().any(|f| is_file(f)) {
                    self.recorded(&files, &flag)?
                } else {
                    let hosts = [a, b].map(|h| h.to_string_lossy().into_owned());
                    let ssh_command = self.ssh_command.clone();
                    self.listen(&Remotes::of(vec![], hosts.to_vec(), ssh_command), &flag)?
                }
            }
            _ => {
                ensure!(
                    self.from.len() == 2,
                    "--from must be given twice, once for each of the two hosts"
                );
                let (from, ssh_command) = (self.from.clone(), self.ssh_command.clone());
                self.listen(&Remotes::of(from, vec![], ssh_command), &flag)?
            }
        };
        let Some(sum) = both.sum else {
            bail!("there is no time for which both hosts have readings");
        };
        if both.left_out > Duration::ZERO {
            say(&format!(
                "left out {}, for which one of the hosts has no readings",
                spoken(both.left_out)
            ));
        }
        let edges = [both.head, both.tail.into()].concat();
        let status = self.print(&sum, &edges)?;
        both.incomplete.map_or(Ok(status), Err)
    }

    fn recorded(&self, files: &[PathBuf], flag: &AtomicBool) -> Result<Both> {
        let mut recordings = Playback::of(self.between).only_recordings(files)?;
        Sandbox::new(None).enter_with_nothing()?;
        let mut both = Both::default();
        let mut hosts = 0;
        while let Some(interval) = recordings.next_interval()?
            && !flag.load(Ordering::Relaxed)
        {
            ensure!(
                interval.once().is_of_fleet(),
                "{} of {} alone: name recordings of two hosts",
                if files.len() > 1 { "both recordings are" } else { "the recording is" },
                sanitize(&interval.origin.host)
            );
            hosts = interval.interfaces.len().max(hosts);
            both.add(&interval);
        }
        ensure!(
            hosts <= 2,
            "expected recordings of two hosts, but these are of {hosts}: `dump --read` shows them all"
        );
        recordings.notes().iter().for_each(|note| say(note));
        both.incomplete = recordings.end().err();
        Ok(both)
    }

    fn listen(&self, remotes: &Remotes, flag: &Arc<AtomicBool>) -> Result<Both> {
        ensure!(self.between.is_none(), "--between works only with recordings");
        let ready = remotes.prepare(Duration::from_secs(1))?;
        ready.enter(Sandbox::new(None))?;
        let mut remote = ready.listen(Names::default())?.until(flag).patient(PATIENCE);
        let (begun, mut end, mut before) = (Instant::now(), None, None);
        let mut both = Both::default();
        while end.is_none_or(|end| Instant::now() < end) && !flag.load(Ordering::Relaxed) {
            match remote.read() {
                Ok(reading) => {
                    reading.notices.iter().for_each(|notice| say(notice));
                    let now = reading.snapshot;
                    if let Some(before) = before.replace(now.clone()) {
                        both.add(&now.since(&before));
                    }
                    if end.is_none() && now.interfaces.len() > 1 {
                        end = Some(Instant::now() + self.span);
                    }
                }
                Err(e) if before.is_none() => return Err(e),
                Err(_) => {} // the hosts are late
            }
            if end.is_none() && begun.elapsed() > PATIENCE {
                bail!("only one host is heard: a comparison needs two with different names");
            }
            dump::wait(Instant::now() + Duration::from_millis(200), flag);
        }
        both.left_out = Duration::ZERO; // the hosts did not start at the same time
        Ok(both)
    }

    fn print(&self, interval: &Interval, edges: &[Interval]) -> Result<u8> {
        let (list, one_end) = lanes(interval, edges);
        let name = |place: u16| {
            let i = interval.interfaces.get(usize::from(place));
            i.map_or_else(String::new, |i| sanitize(&i.name).into_owned())
        };
        let differ = list.iter().any(|l| !l.unseen && l.balance() != Balance::Even);
        if self.json {
            for l in &list {
                json::line(
                    &mut out::raw(),
                    &LaneLine::new(interval, l, [name(l.from), name(l.to)]),
                )?;
            }
            return Ok(if differ { DIFFER } else { 0 });
        }
        let hosts: Vec<String> = (0..interval.interfaces.len()).map(|i| name(i as u16)).collect();
        out::line(&format!(
            "{}: {} until {}",
            hosts.join(" and "),
            spoken(interval.elapsed),
            rfc3339(interval.taken)
        ))?;
        let of = |l: &LaneSum| (l.lane.tunnel, l.from, l.to);
        let mut lines: HashMap<_, usize> = HashMap::default();
        list.iter().for_each(|l| *lines.entry(of(l)).or_default() += 1);
        // Show addresses where the names alone do not distinguish the lines.
        let ends = |l: &LaneSum| match lines.get(&of(l)) {
            Some(2..) => [(l.from, l.lane.from), (l.to, l.lane.to)]
                .map(|(host, address)| format!("{} {address}", name(host))),
            _ => [name(l.from), name(l.to)],
        };
        let rows: Vec<[String; 7]> = list.iter().map(|l| row(l, ends(l))).collect();
        out::line("")?;
        if rows.is_empty() {
            out::line("no tunnel connects these two hosts")?;
        } else {
            let titles = ["TUNNEL", "FROM", "TO", "SENT", "RECEIVED", "LOST", ""];
            let mut text = Vec::new();
            listing::write(&mut text, titles, &rows)?;
            std::io::Write::write_all(&mut out::raw(), &text)?;
        }
        if one_end > 0 {
            let s = if one_end == 1 { "" } else { "s" };
            out::line(&format!(
                "\n{one_end} direction{s} of tunnels to or from other hosts not shown"
            ))?;
        }
        Ok(if differ { DIFFER } else { 0 })
    }
}

/// Whether an argument names a file, which may be missing, rather than a host.
fn is_file(word: &Path) -> bool {
    word.exists()
        || word.extension().is_some_and(|e| e == "tmon")
        || word.as_os_str().as_bytes().contains(&b'/')
}

fn row(l: &LaneSum, [from, to]: [String; 2]) -> [String; 7] {
    let lost = l.sent.packets.saturating_sub(l.received.packets);
    let (number, words) = match l.balance() {
        Balance::Even => (0, String::new()),
        Balance::Lost(n) if l.unseen => {
            (n, "no packets seen to this address at all: another interface?".to_owned())
        }
        Balance::Lost(n) if l.received.is_zero() => (n, "nothing arrives".to_owned()),
        Balance::Lost(n) => (n, format!("{} lost", percent(lost, l.sent.packets))),
        Balance::Surplus(n) => (0, format!("{n} more than sent")),
    };
    [
        l.lane.tunnel.to_string(),
        from,
        to,
        packets(l.sent.packets).to_string(),
        packets(l.received.packets).to_string(),
        format!("{number} ±{}", l.bound),
        words,
    ]
}

/// A tunnel in one direction, in JSON (docs/schema/diff.json).
#[derive(Serialize)]
struct LaneLine {
    schema: u32,
    tool: &'static str,
    since: String,
    taken: String,
    interval_ns: u64,
    tunnel: String,
    vni: Option<u32>,
    from: String,
    to: String,
    outer_sip: std::net::IpAddr,
    outer_dip: std::net::IpAddr,
    sent_pkts: u64,
    received_pkts: u64,
    lost_pkts: u64,
    surplus_pkts: u64,
    lost_bound_pkts: u64,
    sent_bytes: u64,
    received_bytes: u64,
    verdict: &'static str,
}

impl LaneLine {
    fn new(interval: &Interval, l: &LaneSum, [from, to]: [String; 2]) -> LaneLine {
        LaneLine {
            schema: 1,
            tool: TOOL,
            since: rfc3339(interval.since),
            taken: rfc3339(interval.taken),
            interval_ns: u64::try_from(interval.elapsed.as_nanos()).unwrap_or(u64::MAX),
            tunnel: l.lane.tunnel.kind.to_string(),
            vni: l.lane.tunnel.id,
            from,
            to,
            outer_sip: l.lane.from,
            outer_dip: l.lane.to,
            sent_pkts: l.sent.packets,
            received_pkts: l.received.packets,
            lost_pkts: l.sent.packets.saturating_sub(l.received.packets),
            surplus_pkts: l.received.packets.saturating_sub(l.sent.packets),
            lost_bound_pkts: l.bound,
            sent_bytes: l.sent.bytes,
            received_bytes: l.received.bytes,
            verdict: match l.balance() {
                _ if l.unseen => "unseen",
                Balance::Even => "even",
                Balance::Lost(_) => "lost",
                Balance::Surplus(_) => "surplus",
            },
        }
    }
}
