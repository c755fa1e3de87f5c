// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon fleet`: lists the hosts of a fleet and their state.
use std::{
    ffi::OsString,
    path::PathBuf,
    sync::atomic::Ordering,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Result, bail, ensure};
use clap::Args;

use super::{dump, duration, interrupted, listing, out, playback::Playback, remote::Remotes, say};
use crate::kernel::sandbox::Sandbox;
use export::json;
use feed::{Source, names::Names};
use model::{
    flow::{Count, HookKind},
    interface::{Host, HostState, Interface},
    snapshot::Interval,
    units::{UNKNOWN, duration as spoken, percent, rfc3339, sanitize},
};

#[derive(Args, Debug)]
#[command(after_help = "Exit status: 3 if a host is not heard.")]
pub(super) struct Hosts {
    /// Read the output of this command, a `tmon stream` somewhere; may be repeated
    #[arg(long, value_name = "COMMAND")]
    from: Vec<OsString>,
    /// Run `tmon stream` on these hosts over ssh: a,b or @FILE with one host per line
    #[arg(long, value_name = "HOSTS", add = clap_complete::engine::ArgValueCandidates::new(super::values::hosts), value_delimiter = ',')]
    ssh: Vec<String>,
    /// The tmon command on those hosts, such as `sudo -n tmon`
    #[arg(long, value_name = "COMMAND", default_value = "tmon", requires = "ssh")]
    ssh_command: String,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    bus: super::nats::BusArgs,
    /// List the hosts in these recordings, or in a folder of recordings
    #[arg(long, value_name = "FILE", conflicts_with_all = ["from", "ssh", "span"])]
    #[cfg_attr(feature = "nats", arg(conflicts_with = "nats"))]
    read: Vec<PathBuf>,
    #[command(flatten)]
    part: Playback,
    /// How long to listen
    #[arg(long = "for", value_name = "TIME", default_value = "3s", value_parser = duration)]
    span: Duration,
    /// Print one JSON object per host
    #[arg(long)]
    json: bool,
}

/// The exit status if a host is not heard.
const UNHEARD: u8 = 3;

impl Hosts {
    pub(super) fn run(self) -> Result<u8> {
        let (mut unheard, mut incomplete) = (Vec::new(), None);
        let remotes = Remotes {
            #[cfg(feature = "nats")]
            bus: self.bus,
            ..Remotes::of(self.from, self.ssh, self.ssh_command)
        };
        let (interval, live) = if remotes.any() {
            let ready = remotes.prepare(Duration::from_secs(1))?;
            let flag = interrupted()?;
            ready.enter(Sandbox::new(None))?;
            let mut remote = ready.listen(Names::default())?.until(&flag).patient(self.span);
            let end = Instant::now() + self.span;
            remote.read()?;
            while Instant::now() < end
                && !dump::wait(Instant::now() + Duration::from_millis(500), &flag)
            {
                let _ = remote.read(); // hosts that are silent are in the list
            }
            unheard.extend(remote.unheard().map(|(name, why)| {
                let why = why.unwrap_or("no answer");
                (sanitize(name).into_owned(), sanitize(why).into_owned())
            }));
            (remote.known().total(), true)
        } else {
            let nobody = "name the hosts: --nats URL, --ssh a,b, --from 'COMMAND', \
                          or --read FILE of a recording";
            ensure!(!self.read.is_empty(), nobody);
            let mut recordings = self.part.only_recordings(&self.read)?;
            let flag = interrupted()?;
            Sandbox::new(None).enter_with_nothing()?;
            let mut sum: Option<Interval> = None;
            while let Some(interval) = recordings.next_interval()? {
                if flag.load(Ordering::Relaxed) {
                    let at = rfc3339(interval.taken);
                    bail!("interrupted at {at}: what was recorded later has not been read");
                }
                let of_one = "these are recordings of a single host: --read recordings of several";
                ensure!(interval.once().is_of_fleet(), of_one);
                sum = match &sum {
                    Some(sum) => Interval::sum([sum, &interval]),
                    None => Some(interval),
                };
            }
            recordings.notes().iter().for_each(|note| say(note));
            incomplete = recordings.end().err();
            let Some(sum) = sum else { bail!("the recordings contain no reading") };
            (sum, false)
        };
        if self.json {
            json::fleet(&mut out::raw(), &interval)?;
            unheard.iter().for_each(|(name, why)| say(&format!("{name} is not heard: {why}")));
        } else {
            print(&interval, live, &unheard)?;
        }
        let hosts = interval.interfaces.iter().filter(|i| i.hook == HookKind::Fleet);
        let all = unheard.is_empty() && (!live || hosts.clone().all(|i| i.live().is_some()));
        incomplete.map_or(Ok(if all { 0 } else { UNHEARD }), Err)
    }
}

fn print(interval: &Interval, live: bool, unheard: &[(String, String)]) -> Result<()> {
    let now = SystemTime::now();
    let mut rows: Vec<[String; 8]> =
        interval.interfaces.iter().filter_map(|i| row(i, live.then_some(now))).collect();
    for (name, why) in unheard {
        let unknown = || UNKNOWN.to_owned();
        rows.push([
            name.clone(),
            "not heard".to_owned(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            unknown(),
            why.clone(),
        ]);
    }
    let titles = ["HOST", "STATE", "AGE", "EVERY", "CLOCK", "COVERAGE", "TABLE", "VERSION"];
    let mut text = Vec::new();
    listing::write(&mut text, titles, &rows)?;
    Ok(std::io::Write::write_all(&mut out::raw(), &text)?)
}

fn row(i: &Interface, now: Option<SystemTime>) -> Option<[String; 8]> {
    let host = i.host.as_deref()?;
    let both = |c: [Count; 2]| c[0].packets.saturating_add(c[1].packets);
    let age = now.zip(host.taken).and_then(|(now, taken)| now.duration_since(taken).ok());
    Some([
        sanitize(&i.name).into_owned(),
        host.state.name().to_owned(),
        age.map_or(UNKNOWN.to_owned(), |age| format!("{:.1} s", age.as_secs_f64())),
        spoken(host.cadence),
        clock(host),
        match both(i.books.seen()) {
            0 => UNKNOWN.to_owned(),
            seen => percent(both(i.books.counted), seen),
        },
        percent(i.fill.used, i.fill.size),
        sanitize(&host.tool).into_owned(),
    ])
}

/// What is known about a host's clock.
fn clock(host: &Host) -> String {
    match host.off {
        Some(off) if host.state == HostState::Live => format!("{} ms off", off.as_millis()),
        _ if !host.synchronised => "not synchronised".to_owned(),
        _ => format!("±{:.1} ms", host.error.as_secs_f64() * 1000.0),
    }
}
