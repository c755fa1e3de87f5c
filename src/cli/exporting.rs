// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon export`: readings for other tools.
use std::{
    fs::{self, File, Permissions},
    io::Write,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::{
    Configured, Dropping, Grouped, Ignoring, Watch, dump, duration, interrupted, out, say,
};
use crate::kernel::sandbox::Sandbox;
use export::{
    ipfix::{IpfixOptions, IpfixSender, Target},
    openmetrics::{Exposition, Metering, SeriesLimits},
    scrapes,
};
use feed::{names::Names, series::Series};
use model::{
    groups::Groups,
    snapshot::Interval,
    units::{self, sanitize},
};
use tempfile::NamedTempFile;

#[derive(Debug, Subcommand)]
pub(super) enum Export {
    /// Export metrics for Prometheus, over HTTP or in a file for node_exporter
    Prometheus(Prometheus),
    /// Send flow records with inner and outer addresses to an IPFIX collector
    Ipfix(Ipfix),
}

impl Export {
    pub(super) fn run(self) -> Result<()> {
        match self {
            Export::Prometheus(prometheus) => prometheus.run(),
            Export::Ipfix(ipfix) => ipfix.run(),
        }
    }
}

/// How often to take a reading: findings need one every second.
const SECOND: Duration = Duration::from_secs(1);

#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "For metrics, labels, limits, alert rules and a dashboard see docs/EXPORTS.md. Inner addresses are never exported."
)]
pub(super) struct Prometheus {
    #[command(flatten)]
    _configured: Configured,
    #[command(flatten)]
    watch: Watch,
    /// Serve /metrics at this address; a port alone is on 127.0.0.1
    #[arg(
        long,
        value_name = "[ADDR:]PORT",
        default_value = "127.0.0.1:9469",
        conflicts_with = "textfile"
    )]
    listen: String,
    /// Write the metrics to this file instead, for node_exporter's textfile collector (`*.prom`)
    #[arg(long, value_name = "FILE")]
    textfile: Option<PathBuf>,
    /// How often to write the file
    #[arg(long, value_name = "TIME", default_value = "15s", value_parser = duration, requires = "textfile")]
    every: Duration,
    /// Number of tunnel ids with series of their own, four for each; the others are counted as
    /// `other`
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    series: u32,
    /// Number of peers per tunnel id with series of their own, four for each; the others are
    /// counted as `other`
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    peers: u32,
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

impl Prometheus {
    fn run(self) -> Result<()> {
        let names = Names::read(self.names.as_deref())?;
        let mut groups = self.grouped.read()?;
        let known = self.ignoring.read(&names, &groups.clone().unwrap_or_default())?;
        let flag = interrupted()?;
        let metrics = Metering::new(
            env!("CARGO_PKG_VERSION"),
            SeriesLimits {
                tunnels: self.series as usize,
                peers: self.peers as usize,
                age: self.watch.count.config().age,
            },
        );
        // Fail before counting starts: errors should show up immediately.
        let mut textfile = self.textfile.as_deref().map(Textfile::new).transpose()?;
        let listener = textfile.is_none().then(|| listen(&self.listen)).transpose()?;
        let mut live = self.watch.open()?;
        self.drops.begin_or_say(&mut live);
        live.follow_configuration()?;
        live.enter(&Sandbox::new(textfile.as_ref().map(|t| t.folder.as_path())))?;

        let mut series = Series::new(0);
        series.look_for_findings(known);
        series.push(dump::read(&mut live)?);
        if let Some(first) = series.latest() {
            // Includes what `tmon attach` has counted before.
            let total = first.total();
            metrics.add(&total, series.findings());
            add_groups(&metrics, &total, &mut groups, &names);
        }
        if let Some(listener) = listener {
            let at = listener.local_addr().context("listen")?;
            let sandbox = Sandbox::new(None);
            scrapes::serve(listener, &metrics, move || sandbox.confine_strictly())
                .context("start a thread")?;
            out::line(&format!("metrics are at http://{at}/metrics"))?;
        }
        let start = Instant::now();
        let mut due = start;
        loop {
            if let Some(textfile) = textfile.as_mut().filter(|_| Instant::now() >= due) {
                textfile.write(&metrics.text(Exposition::Classic));
                due = start + dump::next_tick(start.elapsed(), self.every.max(SECOND));
            }
            if dump::rest(&mut live, start + dump::next_tick(start.elapsed(), SECOND), &flag) {
                break;
            }
            series.push(dump::read(&mut live)?);
            if let Some(interval) = series.newest() {
                metrics.add(interval, series.findings());
                add_groups(&metrics, interval, &mut groups, &names);
            }
        }
        textfile.map_or(Ok(()), Textfile::remove)
    }
}

/// Adds the traffic between groups, if there are any.
fn add_groups(
    metrics: &Metering,
    interval: &Interval,
    groups: &mut Option<Arc<Groups>>,
    names: &Names,
) {
    let Some(groups) = groups else { return };
    let pairs = interval.rows.walk().filter_map(|row| row.outer());
    let hosts = pairs.flat_map(|pair| [pair.first, pair.second]);
    groups.learn(hosts, |host| names.address(host, false));
    metrics.add_groups(interval, groups);
}

#[derive(Args, Debug)]
#[command(
    args_override_self = true,
    after_help = "For the information elements, and what collectors do with them, see docs/EXPORTS.md."
)]
pub(super) struct Ipfix {
    #[command(flatten)]
    _configured: Configured,
    /// Host name or address of the collector [default port: 4739]
    #[arg(value_name = "HOST[:PORT]", value_parser = collector)]
    collector: (String, u16),
    #[command(flatten)]
    watch: Watch,
    /// Send over TCP instead of UDP
    #[arg(long)]
    tcp: bool,
    /// Send one record per row with both directions (RFC 5103), instead of one per direction
    #[arg(long, conflicts_with = "sent")]
    biflow: bool,
    /// Send only traffic that this host sent, for a collector with many exporters
    #[arg(long)]
    sent: bool,
    /// How often to send records
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    every: Duration,
}

/// Parses a host and port: `HOST`, `HOST:PORT`, `[ADDR]:PORT`.
fn collector(text: &str) -> Result<(String, u16), String> {
    const PORT: u16 = 4739;
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok((address.to_string(), PORT));
    }
    if let Ok(at) = text.parse::<SocketAddr>() {
        return Ok((at.ip().to_string(), at.port()));
    }
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, port.parse().ok()),
        None => (text, Some(PORT)),
    };
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    match port {
        Some(port) if port > 0 && !host.is_empty() && host.chars().all(plain) => {
            Ok((host.to_owned(), port))
        }
        _ => {
            Err("expected a host, and a port unless it is 4739: collector.example:4739".to_owned())
        }
    }
}

impl Ipfix {
    fn run(self) -> Result<()> {
        let flag = interrupted()?;
        let (host, port) = self.collector;
        let target = Target { host, port, tcp: self.tcp };
        // A name is resolved again for every connection.
        let is_name = target.host.parse::<IpAddr>().is_err();
        // A collector that is not up yet may come up; a name that does not resolve is an error.
        target.addresses().with_context(|| format!("send to {target}"))?;
        let mut live = self.watch.open()?;
        if self.sent {
            live.follow_configuration()?; // to know this host's addresses
        }
        live.enter(&Sandbox::new(None).resolving(is_name))?;
        let mut series = Series::new(0);
        series.push(dump::read(&mut live)?);
        let shown = target.to_string();
        let options = IpfixOptions { biflow: self.biflow, sent: self.sent };
        let sandbox = Sandbox::new(None);
        let confine = move || sandbox.confine_strictly();
        let sender = IpfixSender::start(target, options, confine, say).context("start a thread")?;
        let (start, every) = (Instant::now(), self.every.max(SECOND));
        out::line(&format!("records go to {shown}, every {}", units::duration(every)))?;
        loop {
            let next = start + dump::next_tick(start.elapsed(), every);
            let over = dump::rest(&mut live, next, &flag);
            let reading = dump::read(&mut live)?;
            // While the collector is unreachable the interval grows, so nothing is lost.
            if sender.is_ready() {
                let overlay = reading.overlay.clone();
                if let Some(interval) = series.push(reading) {
                    sender.send(interval.clone(), overlay);
                }
            } else if over {
                say("the collector is unreachable: the last interval was not sent");
            }
            if over {
                break;
            }
        }
        if !sender.finish() {
            say("the collector is too slow: part of the last interval was not sent");
        }
        Ok(())
    }
}

/// Listens for scrapers. On an address other than loopback, everybody who reaches it can read the
/// metrics.
fn listen(at: &str) -> Result<TcpListener> {
    let shown = sanitize(at);
    let at: Vec<SocketAddr> = match at.parse::<u16>() {
        Ok(port) => vec![(Ipv4Addr::LOCALHOST, port).into()],
        Err(_) => at
            .to_socket_addrs()
            .with_context(|| format!("listen on {shown}: try 127.0.0.1:9469, or [::1]:9469"))?
            .collect(),
    };
    let listener = TcpListener::bind(&at[..]).map_err(|e| {
        let advice = match e.kind() {
            std::io::ErrorKind::AddrInUse => "another program has this port; try --listen 9470",
            std::io::ErrorKind::AddrNotAvailable => "no interface has this address",
            _ => "try --listen 127.0.0.1:9469",
        };
        anyhow::anyhow!("listen on {shown}: {e}: {advice}")
    })?;
    let bound = listener.local_addr().context("listen")?;
    if !bound.ip().is_loopback() {
        say(&format!(
            "everybody who can reach {bound} can read the metrics, which are not encrypted: to avoid that, \
             listen on 127.0.0.1 behind a proxy"
        ));
    }
    Ok(listener)
}

/// A metrics file that is rewritten while others read it.
struct Textfile {
    path: PathBuf,
    folder: PathBuf,
    /// The last write failed; repeated failures are reported only once.
    failed: bool,
}

impl Textfile {
    /// World-readable: node_exporter runs as another user.
    const MODE: u32 = 0o644;

    fn new(path: &Path) -> Result<Textfile> {
        let shown = sanitize(&path.display().to_string()).into_owned();
        let Some(name) = path.file_name() else {
            bail!("write {shown}: this is not the name of a file")
        };
        let parent = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = fs::canonicalize(parent.unwrap_or(Path::new(".")))
            .with_context(|| format!("write {shown}: its folder"))?;
        let path = folder.join(name);
        if path.is_dir() {
            bail!("write {shown}: this is a folder; name a file in it, such as tmon.prom");
        }
        // A device or a pipe must not be replaced: others use it. A symbolic link is replaced, not
        // followed.
        if path.symlink_metadata().is_ok_and(|there| !there.is_file() && !there.is_symlink()) {
            bail!("write {shown}: it exists and is not a regular file; name another one");
        }
        if path.extension().is_none_or(|e| e != "prom") {
            say(&format!("node_exporter reads files whose names end in .prom, unlike {shown}"));
        }
        let file = Textfile { path, folder, failed: false };
        // Check now whether the file can be written, not at the first write.
        file.beside().with_context(|| format!("write {shown}"))?;
        Ok(file)
    }

    /// A temporary file that replaces the metrics file once it is complete. It is opened for
    /// writing only, because the sandbox allows no reading here.
    fn beside(&self) -> Result<NamedTempFile<File>> {
        let make = |path: &Path| {
            File::options().write(true).create_new(true).mode(Textfile::MODE).open(path)
        };
        let file = tempfile::Builder::new().prefix(".tmon-").make_in(&self.folder, make)?;
        file.as_file().set_permissions(Permissions::from_mode(Textfile::MODE))?;
        Ok(file)
    }

    /// Replaces the file in one step, so that nobody reads half of it.
    fn put(&self, text: &str) -> Result<()> {
        let mut file = self.beside()?;
        file.write_all(text.as_bytes())?;
        file.persist(&self.path)?;
        Ok(())
    }

    fn write(&mut self, text: &str) {
        let failed = self.put(text);
        match &failed {
            Err(e) if !self.failed => {
                say(&format!("write {}: {e:#}", sanitize(&self.path.display().to_string())));
            }
            _ => {}
        }
        self.failed = failed.is_err();
    }

    /// Removes the file: stale metrics would look like traffic that has stopped.
    fn remove(self) -> Result<()> {
        let shown = sanitize(&self.path.display().to_string()).into_owned();
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                Err(e).context(format!("remove {shown}"))
            }
            _ => Ok(()),
        }
    }
}
