// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon lab` and `tmon demo`.
use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, builder::PossibleValue};

use super::{dump::wait, duration, interrupted, out, remote, top};
use crate::{
    kernel::{
        attach::Want,
        live::Live,
        runner::{Runner, Running},
    },
    lab::{self, Fault, LabOptions, Scenario, Traffic},
};
use feed::{Source, config::Config};

#[derive(Debug, Subcommand)]
pub(super) enum Lab {
    /// Create the lab; does nothing if it already exists
    Up(Shape),
    /// Generate traffic in the lab: ancestor, demo or culprit
    Traffic {
        /// Kind of traffic
        #[arg(value_parser = PossibleScenario)]
        scenario: Scenario,
        /// Run for this long [default: until interrupted]
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        span: Option<Duration>,
        /// Seed for choosing the culprit
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Reveal the culprit at the end
        #[arg(long)]
        reveal: bool,
        /// Send between the clients' IPv6 addresses
        #[arg(long)]
        ipv6: bool,
        #[command(flatten)]
        name: Name,
    },
    /// Stage a fault in the lab for you to find; without a name, list the faults
    Fault {
        /// Name of the fault
        #[arg(value_parser = PossibleFault, conflicts_with_all = ["surprise", "reveal", "clear"])]
        fault: Option<Fault>,
        /// Stage a random fault without naming it
        #[arg(long, conflicts_with_all = ["reveal", "clear"])]
        surprise: bool,
        /// Reveal which fault is staged, and what tmon should report
        #[arg(long, conflicts_with = "clear")]
        reveal: bool,
        /// Clear all faults
        #[arg(long)]
        clear: bool,
        /// Send the packets that make up the staged fault
        #[arg(long, requires = "fault", hide = true)]
        send: bool,
        /// Wait this long first
        #[arg(long, value_name = "TIME", value_parser = duration, hide = true)]
        after: Option<Duration>,
        #[command(flatten)]
        name: Name,
    },
    /// Show the state of the lab
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        name: Name,
    },
    /// Run a command in a host's network namespace
    Exec {
        /// host0, host1 ... or fabric
        host: String,
        /// The command and its arguments
        #[arg(required = true, last = true)]
        command: Vec<String>,
        #[command(flatten)]
        name: Name,
    },
    /// Remove the lab and everything it created
    Down(Name),
}

#[derive(Args, Debug)]
pub(super) struct Name {
    /// Prefix of the lab's namespace names
    #[arg(long, value_name = "NAME", default_value = lab::PREFIX, hide_default_value = true)]
    prefix: String,
}

#[derive(Args, Debug)]
pub(super) struct Shape {
    #[command(flatten)]
    name: Name,
    /// Number of hosts, 2 to 99
    #[arg(long, value_name = "N", default_value_t = 9)]
    hosts: u8,
    /// Number of virtual networks, 1 to 99
    #[arg(long, value_name = "N", default_value_t = 4)]
    networks: u8,
    /// Encapsulation: vxlan, geneve, gretap, gre or ipip, if the kernel has it
    #[arg(long, value_name = "KIND", default_value = "vxlan")]
    kind: model::flow::Kind,
    /// Use IPv6 in the underlay and the overlay
    #[arg(long)]
    ipv6: bool,
}

impl Shape {
    fn options(self) -> LabOptions {
        LabOptions {
            prefix: self.name.prefix,
            hosts: self.hosts,
            networks: self.networks,
            kind: self.kind,
            ipv6_underlay: self.ipv6,
            ipv6_clients: self.ipv6,
            ..LabOptions::default()
        }
    }
}

#[derive(Clone)]
struct PossibleScenario;

impl clap::builder::TypedValueParser for PossibleScenario {
    type Value = Scenario;
    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Scenario, clap::Error> {
        clap::builder::StringValueParser::new()
            .try_map(|s| s.parse::<Scenario>())
            .parse_ref(cmd, arg, value)
    }
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(lab::scenario::SCENARIOS.iter().map(|s| PossibleValue::new(s.1))))
    }
}

#[derive(Clone)]
struct PossibleFault;

impl clap::builder::TypedValueParser for PossibleFault {
    type Value = Fault;
    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Fault, clap::Error> {
        clap::builder::StringValueParser::new()
            .try_map(|s| s.parse::<Fault>())
            .parse_ref(cmd, arg, value)
    }
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(lab::fault::FAULTS.iter().map(|f| PossibleValue::new(f.1).help(f.2))))
    }
}

impl Lab {
    pub(super) fn run(self) -> Result<u8> {
        match self {
            Lab::Up(shape) => {
                let options = shape.options();
                let made = lab::up(&options)?;
                out::line(&format!(
                    "the lab {}: {} hosts, {} networks; `tmon lab traffic demo` generates traffic, `tmon top eth0 --netns {}-host0` shows it",
                    if made { "is up" } else { "was up already" },
                    options.hosts,
                    options.networks,
                    options.prefix
                ))?;
            }
            Lab::Traffic { scenario, span, seed, reveal, ipv6, name } => {
                let mut traffic = Traffic { duration: span, ipv6, ..Traffic::new(scenario) };
                traffic.seed = seed.unwrap_or(traffic.seed);
                let flag = interrupted()?;
                out::line(&lab::traffic(&name.prefix, &traffic, &flag)?.to_string())?;
                if reveal && let Some((inner, outer)) = traffic.culprit(&name.prefix)? {
                    out::line(&format!("the culprit was {inner} on {outer}"))?;
                }
            }
            Lab::Fault { fault: None, clear: true, name, .. } => {
                let faults = lab::fault::clear(&name.prefix)?;
                let names: Vec<String> = faults.iter().map(Fault::to_string).collect();
                out::line(&match names.is_empty() {
                    true => "no fault was staged".to_owned(),
                    false => format!("cleared: {}", names.join(", ")),
                })?;
            }
            Lab::Fault { fault: Some(fault), send: true, name, .. } => {
                lab::sender::send(&name.prefix, fault, &*interrupted()?)?;
            }
            Lab::Fault { fault: Some(fault), name, after, .. } => {
                let flag = interrupted()?;
                if after.is_some_and(|after| wait(Instant::now() + after, &flag)) {
                    return Ok(0);
                }
                if lab::fault::stage(&name.prefix, fault)? {
                    begin_to_send(&name.prefix, fault)?;
                }
                out::line(&format!("{fault} is staged; `tmon lab fault --clear` clears it"))?;
            }
            Lab::Fault { surprise: true, name, .. } => {
                let fault = lab::fault::surprise(&name.prefix)?;
                begin_to_send(&name.prefix, fault)?;
                out::line(&format!(
                    "something is wrong in the lab: `tmon top eth0 --netns {}-host{}` may show it, \
                     `tmon lab fault --reveal` tells what it is",
                    name.prefix,
                    lab::fault::HOST
                ))?;
            }
            Lab::Fault { reveal: true, name, .. } => {
                let staged = lab::fault::staged(&name.prefix)?;
                for (_, text, says) in lab::fault::FAULTS.iter().filter(|f| staged.contains(&f.0)) {
                    out::line(&format!("{text}: {says}"))?;
                }
                if staged.is_empty() {
                    out::line("nothing is wrong in the lab")?;
                }
            }
            Lab::Fault { fault: None, name, .. } => {
                for (_, text, says) in lab::fault::FAULTS {
                    out::line(&format!("{text:<15} {says}"))?;
                }
                let n = lab::fault::staged(&name.prefix)?.len();
                if n > 0 {
                    out::line(&format!("{n} staged: `tmon lab fault --reveal` tells which"))?;
                }
            }
            Lab::Status { json, name } => {
                let status = lab::status(&name.prefix)?;
                if json {
                    export::json::line(&mut out::raw(), &status)?;
                } else {
                    out::line(&status.to_string())?;
                }
            }
            Lab::Exec { host, command, name } => {
                let code = lab::exec(&name.prefix, &host, &command)?;
                return Ok(u8::try_from(code).unwrap_or(1));
            }
            Lab::Down(name) => {
                let n = lab::down(&name.prefix)?;
                out::line(&match n {
                    0 => "there was no lab".to_owned(),
                    n => format!("the lab is removed: {n} namespaces"),
                })?;
            }
        }
        Ok(0)
    }
}

/// Starts the sender of a fault that needs one: a separate process that ends with the fault or with
/// the lab.
fn begin_to_send(prefix: &str, fault: Fault) -> Result<()> {
    if !lab::sender::sends(fault) {
        return Ok(());
    }
    let name = fault.to_string();
    Command::new("/proc/self/exe")
        .args(["lab", "fault", &name, "--send", "--prefix", prefix])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .map(drop)
        .with_context(|| format!("start the sender for {name}"))
}

#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub(super) struct Demo {
    #[command(flatten)]
    look: top::Look,
    /// Kind of traffic
    #[arg(long, default_value = "demo", value_parser = PossibleScenario)]
    scenario: Scenario,
    /// Stage this fault at host1 after a while, and show that host
    #[arg(long, value_name = "FAULT", value_parser = PossibleFault)]
    fault: Option<Fault>,
    /// Show all nine hosts as a fleet, each with a stream of its own
    #[arg(long)]
    many: bool,
    /// Prefix of the lab's namespace names
    #[arg(long, value_name = "NAME", default_value = lab::PREFIX, hide = true)]
    prefix: String,
}

/// Commands that the parent runs for the dashboard, which has dropped the privileges for them.
const UP: usize = 0;
const TRAFFIC: usize = 1;
const DOWN: usize = 2;
const FAULT: usize = 3;
const CLEAR: usize = 4;
/// The streams of the hosts follow.
const STREAMS: usize = 5;

impl Demo {
    pub(super) fn run(self) -> Result<()> {
        let options = LabOptions { prefix: self.prefix, ..LabOptions::default() };
        let plan = lab::Plan::new(&options)?;
        let scenario = self.scenario.to_string();
        let fault = self.fault.map_or_else(String::new, |fault| fault.to_string());
        let well = self.fault.map_or(Duration::ZERO, Fault::after);
        let well = format!("{}s", well.as_secs());
        // Show the host where the fault is staged.
        let host = if self.fault.is_some() { lab::fault::HOST } else { 0 };
        let command = |words: &[&str]| {
            let words = [&["/proc/self/exe", "lab"], words, &["--prefix", &options.prefix]];
            words.concat().into_iter().map(OsString::from).collect::<Vec<_>>()
        };
        let mut commands = vec![
            command(&["up"]),
            command(&["traffic", &scenario]),
            command(&["down"]),
            command(&["fault", &fault, "--after", &well]),
            command(&["fault", "--clear"]),
        ];
        let hosts: Vec<u8> = if self.many { (0..options.hosts).collect() } else { vec![] };
        commands.extend(hosts.iter().map(|host| {
            let (name, netns) = (format!("host{host}"), plan.host(*host));
            let words = ["/proc/self/exe", "stream", "--as", &name, "--netns", &netns, "eth0"];
            words.map(OsString::from).to_vec()
        }));
        let runner = Arc::new(Runner::start(commands)?);
        let sandbox = top::sandbox(&self.look);
        out::tell("creating nine hosts and four networks ...\n");
        let look = self.look.options(!self.many, Arc::clone(&runner))?;
        let borrowed = lab::status(&options.prefix)?.complete;
        finish(runner.run(UP)?)?;
        let shown = runner.run(TRAFFIC).and_then(|traffic| {
            let staged = self.fault.map(|_| runner.run(FAULT)).transpose()?;
            let shown = if self.many {
                let streams = hosts.iter().map(|h| (STREAMS + usize::from(*h), format!("host{h}")));
                let names = look.start.names.clone();
                sandbox
                    .enter_with_nothing()
                    .and_then(|()| remote::listen(&runner, streams, names))
                    .and_then(|mut all| {
                        let first = all.read()?;
                        tui::run(look, Some(first), &mut all)
                    })
            } else {
                Live::open(
                    &["eth0".to_owned()],
                    Some(&plan.host(host)),
                    &Config::default(),
                    Want::Best,
                )
                .and_then(|mut live| {
                    live.watch_drops(false);
                    live.follow_configuration()?;
                    top::show(look, live, self.look.limits(), &sandbox)
                })
            };
            let staged = staged.map_or(Ok(()), |staged| complaint(staged.end()));
            let cleared = self.fault.map_or(Ok(()), |_| runner.run(CLEAR).and_then(finish));
            shown.and(staged).and(complaint(traffic.end())).and(cleared)
        });
        // A lab that existed before is not removed.
        shown.and(if borrowed { Ok(()) } else { runner.run(DOWN).and_then(finish) })
    }
}

/// Waits for a command that prints little.
fn finish(mut running: Running) -> Result<()> {
    let status = running.wait()?;
    complaint(running.stderr)?;
    ensure!(status.success(), "part of the demonstration failed: {status}");
    Ok(())
}

/// Waits until a command has ended, and fails with the first line it wrote to standard error.
fn complaint(stderr: File) -> Result<()> {
    let mut said = String::new();
    stderr.take(1 << 16).read_to_string(&mut said).context("read the errors of the lab")?;
    match said.lines().next() {
        None => Ok(()),
        Some(line) => bail!("{}", line.strip_prefix("tmon: ").unwrap_or(line)),
    }
}
