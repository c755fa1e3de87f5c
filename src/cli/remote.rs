// SPDX-License-Identifier: MIT OR Apache-2.0
//! Remote hosts that send their readings: `--from`, `--ssh` and `--nats`.
use std::{
    ffi::OsString,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use crate::kernel::{
    origin,
    runner::{Runner, Running},
    sandbox::Sandbox,
};
use feed::{
    Remote, input,
    names::Names,
    remote::{self, Connect, Focus},
};
use model::{interface::Origin, units::sanitize};

/// The remote hosts to listen to.
#[derive(Args, Debug)]
pub(super) struct Remotes {
    /// Read the output of this command, a `tmon stream` somewhere (`kubectl exec node-a -- tmon
    /// stream`); may be repeated: several hosts make up a fleet
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["interfaces", "netns"])]
    pub(super) from: Vec<OsString>,
    /// Run `tmon stream` on these hosts over ssh: a,b or @FILE with one host per line
    #[arg(long, value_name = "HOSTS", add = clap_complete::engine::ArgValueCandidates::new(super::values::hosts), value_delimiter = ',', conflicts_with_all = ["interfaces", "netns"])]
    pub(super) ssh: Vec<String>,
    /// The tmon command on those hosts, such as `sudo -n tmon`
    #[arg(long, value_name = "COMMAND", default_value = "tmon", requires = "ssh")]
    pub(super) ssh_command: String,
    #[cfg(feature = "nats")]
    #[command(flatten)]
    pub(super) bus: super::nats::BusArgs,
    /// The interval to request from hosts reached by ssh.
    #[arg(skip)]
    pub(super) every: Option<Duration>,
}

/// How long to wait for the first reading if the listening time is limited: hosts have to log in
/// first.
#[cfg(feature = "live")]
pub(super) fn patience(span: Option<Duration>) -> Duration {
    span.map_or(Duration::from_secs(60), |span| span.max(Duration::from_secs(3)))
}

/// Limit on the number of hosts, each of which is a running command.
const MOST: usize = 64;
/// Limit on the size of a file of hosts.
const MOST_BYTES: u64 = 1 << 20;
/// How ssh is run; everything else is up to the user's own configuration.
const SSH: [&str; 10] = [
    "ssh",
    "-T",
    "-o",
    "BatchMode=yes",
    "-o",
    "ConnectTimeout=10",
    "-o",
    "ServerAliveInterval=5",
    "-o",
    "ServerAliveCountMax=3",
];

/// Commands that are ready to start, and their names.
pub(super) struct Ready {
    runner: Arc<Runner>,
    names: Vec<String>,
    bus: Option<(String, Connect)>,
    focus: Focus,
}

impl Remotes {
    /// These commands and hosts.
    #[cfg(feature = "live")]
    pub(super) fn of(from: Vec<OsString>, ssh: Vec<String>, ssh_command: String) -> Remotes {
        Remotes {
            from,
            ssh,
            ssh_command,
            #[cfg(feature = "nats")]
            bus: Default::default(),
            every: None,
        }
    }

    /// Also requests this interval from hosts reached by ssh; a forced command there takes
    /// precedence.
    #[cfg(feature = "live")]
    pub(super) fn tell_every(&mut self, every: Duration) {
        self.every = Some(every);
    }

    /// There are hosts to listen to.
    pub(super) fn any(&self) -> bool {
        #[cfg(feature = "nats")]
        if self.bus.any() {
            return true;
        }
        !self.from.is_empty() || !self.ssh.is_empty()
    }

    /// Prepares the commands; to be called before any threads are started and any privileges
    /// dropped. `every` is the interval to request from hosts on the bus.
    ///
    /// # Errors
    /// A host name is invalid, or a program cannot be found.
    pub(super) fn prepare(&self, every: Duration) -> Result<Ready> {
        let (mut names, mut commands) = (Vec::new(), Vec::new());
        for command in &self.from {
            let name = sanitize(&command.to_string_lossy()).chars().take(60).collect();
            names.push(name);
            commands.push(vec!["sh".into(), "-c".into(), command.clone()]);
        }
        for host in self.hosts()? {
            let every = self.every.map(|every| format!(" --every {}ms", every.as_millis()));
            let remote = format!("{} stream{}", self.ssh_command, every.unwrap_or_default());
            let words = SSH.iter().copied().chain([host.as_str(), "--", &remote]);
            commands.push(words.map(OsString::from).collect());
            names.push(host);
        }
        ensure!(
            names.len() <= MOST,
            "{} hosts given, but at most {MOST} are possible",
            names.len()
        );
        let runner = Arc::new(Runner::start(commands)?);
        #[cfg(feature = "nats")]
        let bus = self.bus.prepare(every)?;
        #[cfg(not(feature = "nats"))]
        let (bus, _) = (None, every);
        #[cfg(feature = "nats")]
        let focus = self.bus.focus.clone();
        #[cfg(not(feature = "nats"))]
        let focus = Focus::default();
        Ok(Ready { runner, names, bus, focus })
    }

    fn hosts(&self) -> Result<Vec<String>> {
        let mut hosts = Vec::new();
        for word in &self.ssh {
            let Some(file) = word.strip_prefix('@') else {
                hosts.push(word.trim().to_owned());
                continue;
            };
            let shown = || format!("read the hosts in {}", sanitize(file));
            let text = File::open(Path::new(file)).and_then(|f| input::text_of(f, MOST_BYTES));
            let text = text.with_context(shown)?;
            let lines = text.lines().map(|l| l.split('#').next().unwrap_or_default().trim());
            hosts.extend(lines.filter(|l| !l.is_empty()).map(str::to_owned));
        }
        for host in &hosts {
            // ssh would take it for an option, or a remote shell for several words.
            let is_one = !host.is_empty()
                && !host.starts_with('-')
                && !host.contains(|c: char| c.is_whitespace() || c.is_control());
            if !is_one {
                bail!("'{}' is not a host name for ssh", sanitize(host));
            }
        }
        Ok(hosts)
    }
}

impl Ready {
    /// The process that runs the commands.
    pub(super) fn runner(&self) -> Arc<Runner> {
        Arc::clone(&self.runner)
    }

    /// Confines this process to what listening needs.
    ///
    /// # Errors
    /// Privileges cannot be dropped.
    pub(super) fn enter(&self, sandbox: Sandbox) -> Result<()> {
        sandbox.talking(self.bus.is_some()).enter_with_nothing()
    }

    /// Starts all commands.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub(super) fn listen(self, names: Names) -> Result<Remote> {
        let own = commands(&self.runner, self.names.into_iter().enumerate());
        Ok(fleet_of(own.chain(self.bus).collect(), names)?.focusing(self.focus))
    }
}

/// Listens to some of the runner's commands, under these names.
///
/// # Errors
/// A thread cannot be started.
#[cfg(feature = "live")]
pub(super) fn listen(
    runner: &Arc<Runner>,
    some: impl Iterator<Item = (usize, String)>,
    names: Names,
) -> Result<Remote> {
    fleet_of(commands(runner, some).collect(), names)
}

fn fleet_of(connections: Vec<(String, Connect)>, names: Names) -> Result<Remote> {
    let origin = Origin { host: "fleet".into(), ..origin::here() };
    Remote::new(connections, origin, names)
}

fn commands(
    runner: &Arc<Runner>,
    some: impl Iterator<Item = (usize, String)>,
) -> impl Iterator<Item = (String, Connect)> {
    some.map(|(place, name)| -> (String, Connect) {
        let runner = Arc::clone(runner);
        (name, Box::new(move || remote::stream(Talk::begin(runner.run(place)?)?)))
    })
}

/// The output of a command. If the command fails, the last line of its standard error is the error.
struct Talk {
    running: Running,
    complaint: Arc<Mutex<String>>,
}

impl Talk {
    fn begin(running: Running) -> Result<Talk> {
        let complaint = Arc::<Mutex<String>>::default();
        let (errors, last) = (running.stderr.try_clone()?, Arc::clone(&complaint));
        let read = move || {
            // Long lines are cut: the beginning is enough.
            let mut errors = BufReader::new(errors);
            let mut line = Vec::new();
            while matches!(errors.by_ref().take(1000).read_until(b'\n', &mut line), Ok(1..)) {
                let text = String::from_utf8_lossy(&line).trim().to_owned();
                if !text.is_empty() {
                    *last.lock().unwrap_or_else(PoisonError::into_inner) = text;
                }
                line.clear();
            }
        };
        thread::Builder::new()
            .name("complaints".to_owned())
            .spawn(read)
            .context("start a thread")?;
        Ok(Talk { running, complaint })
    }
}

impl Read for Talk {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        const PATIENCE: Duration = Duration::from_secs(2);
        let n = self.running.stdout.read(to)?;
        if n > 0 || to.is_empty() {
            return Ok(n);
        }
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            match self.running.ended() {
                Ok(None) => thread::sleep(Duration::from_millis(20)),
                Ok(Some(status)) if status.success() => return Ok(0),
                Ok(Some(status)) => {
                    thread::sleep(Duration::from_millis(20)); // its last words
                    let said = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
                    let why = if said.is_empty() { status.to_string() } else { said.clone() };
                    return Err(io::Error::other(why));
                }
                Err(e) => return Err(io::Error::other(e)),
            }
        }
        Ok(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_that_ssh_would_take_for_options_are_refused() {
        let of = |ssh: &[&str]| {
            let ssh = ssh.iter().map(|s| (*s).to_owned()).collect();
            Remotes::of(vec![], ssh, "tmon".to_owned())
        };
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        io::Write::write_all(&mut file, b"# ours\nnode-a\n\n node-b # far\n").expect("written");
        let at = format!("@{}", file.path().display());
        assert_eq!(of(&["x", &at]).hosts().expect("hosts"), ["x", "node-a", "node-b"]);
        for wrong in ["-oProxyCommand=reboot", "", "a b", "a\nb"] {
            assert!(of(&[wrong]).hosts().is_err(), "{wrong:?}");
        }
        assert!(of(&["@/nowhere"]).hosts().expect_err("no file").to_string().contains("/nowhere"));
    }
}
