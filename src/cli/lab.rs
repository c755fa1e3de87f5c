// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon lab` and `tmon demo`.
use std::{
    ffi::OsString,
    fs::File,
    io::Read,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand, builder::PossibleValue};

use super::{dump::wait, duration, interrupted, out, top};
use crate::{
    kernel::{
        attach::Want,
        live::Live,
        runner::{Runner, Running},
    },
    lab::{self, Fault, LabOptions, Scenario, Traffic},
};
use feed::config::Config;

#[derive(Debug, Subcommand)]
pub(super) enum Lab {
    /// Create the lab; does nothing if it already exists
    Up(Shape),
    /// Generate traffic in the lab: ancestor, demo or culprit
    Traffic {
        /// Which traffic
        #[arg(value_parser = PossibleScenario)]
        scenario: Scenario,
        /// How long [default: until interrupted]
        #[arg(long = "for", value_name = "TIME", value_parser = duration)]
        span: Option<Duration>,
        /// Who the culprit is depends on this number
        #[arg(long, value_name = "N")]
        seed: Option<u64>,
        /// Say at the end who the culprit was
        #[arg(long)]
        reveal: bool,
        /// Between the clients' IPv6 addresses
        #[arg(long)]
        ipv6: bool,
        #[command(flatten)]
        name: Name,
    },
    /// Let something go wrong in it, to be found; without a name, list what can
    Fault {
        /// Which fault
        #[arg(value_parser = PossibleFault, conflicts_with = "clear")]
        fault: Option<Fault>,
        /// End all faults
        #[arg(long)]
        clear: bool,
        /// Not at once
        #[arg(long, value_name = "TIME", value_parser = duration, hide = true)]
        after: Option<Duration>,
        #[command(flatten)]
        name: Name,
    },
    /// Show the state of the lab
    Status {
        /// As one JSON object
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
    /// What the names of its namespaces begin with
    #[arg(long, value_name = "NAME", default_value = lab::PREFIX, hide_default_value = true)]
    prefix: String,
}

#[derive(Args, Debug)]
pub(super) struct Shape {
    #[command(flatten)]
    name: Name,
    /// Hosts, 2 to 99
    #[arg(long, value_name = "N", default_value_t = 9)]
    hosts: u8,
    /// Virtual networks, 1 to 99
    #[arg(long, value_name = "N", default_value_t = 4)]
    networks: u8,
    /// Encapsulation: vxlan, geneve, gretap, gre or ipip, where the kernel has it
    #[arg(long, value_name = "KIND", default_value = "vxlan")]
    kind: model::flow::Kind,
    /// IPv6 outside and inside
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
                    "the lab {}: {} hosts, {} networks; `tmon lab traffic demo` makes traffic, `tmon top eth0 --netns {}-host0` shows it",
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
                    true => "there was no fault".to_owned(),
                    false => format!("ended: {}", names.join(", ")),
                })?;
            }
            Lab::Fault { fault: Some(fault), name, after, .. } => {
                let flag = interrupted()?;
                if after.is_some_and(|after| wait(Instant::now() + after, &flag)) {
                    return Ok(0);
                }
                lab::fault::stage(&name.prefix, fault)?;
                out::line(&format!("{fault} stands; `tmon lab fault --clear` ends it"))?;
            }
            Lab::Fault { fault: None, clear: false, name, .. } => {
                let staged = lab::fault::staged(&name.prefix)?;
                for (fault, text, says) in lab::fault::FAULTS {
                    let sign = if staged.contains(fault) { "*" } else { " " };
                    out::line(&format!("{sign} {text:<15} {says}"))?;
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
                    n => format!("the lab is gone: {n} namespaces removed"),
                })?;
            }
        }
        Ok(0)
    }
}

#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub(super) struct Demo {
    #[command(flatten)]
    look: top::Look,
    /// Which traffic
    #[arg(long, default_value = "demo", value_parser = PossibleScenario)]
    scenario: Scenario,
    /// Let this go wrong at host1 after a while, and watch that host
    #[arg(long, value_name = "FAULT", value_parser = PossibleFault)]
    fault: Option<Fault>,
    /// What the names of the lab's namespaces begin with
    #[arg(long, value_name = "NAME", default_value = lab::PREFIX, hide = true)]
    prefix: String,
}

/// What others do for the dashboard, which has given up the privileges for it.
const UP: usize = 0;
const TRAFFIC: usize = 1;
const DOWN: usize = 2;
const FAULT: usize = 3;
const CLEAR: usize = 4;
/// So long everything is well: hosts know each other by then.
const WELL: &str = "4s";

impl Demo {
    pub(super) fn run(self) -> Result<()> {
        let options = LabOptions { prefix: self.prefix, ..LabOptions::default() };
        let plan = lab::Plan::new(&options)?;
        let scenario = self.scenario.to_string();
        let fault = self.fault.map_or_else(String::new, |fault| fault.to_string());
        // What goes wrong is seen where it happens.
        let host = if self.fault.is_some() { lab::fault::HOST } else { 0 };
        let command = |words: &[&str]| {
            let words = [&["/proc/self/exe", "lab"], words, &["--prefix", &options.prefix]];
            words.concat().into_iter().map(OsString::from).collect::<Vec<_>>()
        };
        let runner = Runner::start(vec![
            command(&["up"]),
            command(&["traffic", &scenario]),
            command(&["down"]),
            command(&["fault", &fault, "--after", WELL]),
            command(&["fault", "--clear"]),
        ])?;
        let sandbox = top::sandbox();
        out::tell("making nine hosts and four networks ...\n");
        let look = self.look.options(true)?;
        let borrowed = lab::status(&options.prefix)?.complete;
        finish(runner.run(UP)?)?;
        let shown = runner.run(TRAFFIC).and_then(|traffic| {
            let staged = self.fault.map(|_| runner.run(FAULT)).transpose()?;
            let shown = Live::open(
                &["eth0".to_owned()],
                Some(&plan.host(host)),
                &Config::default(),
                Want::Best,
            )
            .and_then(|mut live| {
                live.watch_drops(false);
                live.follow_configuration()?;
                top::show(look, live, &sandbox)
            });
            let staged = staged.map_or(Ok(()), |staged| complaint(staged.end()));
            let cleared = self.fault.map_or(Ok(()), |_| runner.run(CLEAR).and_then(finish));
            shown.and(staged).and(complaint(traffic.end())).and(cleared)
        });
        // What was there before is not taken down.
        shown.and(if borrowed { Ok(()) } else { runner.run(DOWN).and_then(finish) })
    }
}

/// Waits for a command that says little.
fn finish(mut running: Running) -> Result<()> {
    let status = running.wait()?;
    complaint(running.stderr)?;
    ensure!(status.success(), "a part of the demonstration ended with {status}");
    Ok(())
}

/// Waits until a command has ended, and fails with what it complained about.
fn complaint(stderr: File) -> Result<()> {
    let mut said = String::new();
    stderr.take(1 << 16).read_to_string(&mut said).context("hear what the lab says")?;
    match said.lines().next() {
        None => Ok(()),
        Some(line) => bail!("{}", line.strip_prefix("tmon: ").unwrap_or(line)),
    }
}
