// SPDX-License-Identifier: MIT OR Apache-2.0
//! The command line: types, dispatch, one-line errors, exit codes.
use std::{
    ffi::{OsStr, OsString},
    io::{self, IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::kernel::{privilege, sandbox::Sandbox};
use feed::{
    config::{self, Config, L2tp, Port},
    dns::Resolver,
    input,
    names::Names,
};
use model::{
    detect::Known,
    filter::{Filter, Ids, Meanings},
    groups::Groups,
    units::sanitize,
};
use tui::theme::Depth;

#[cfg(feature = "live")]
use crate::kernel::{
    asked::{self, Asker, Services},
    attach::Want,
    hosted,
    live::Live,
    local, version,
};
#[cfg(feature = "live")]
use model::flow::HookKind;
use signals::interrupted;

#[cfg(feature = "live")]
mod anonymous;
#[cfg(feature = "live")]
mod attach;
mod capture;
#[cfg(feature = "live")]
mod catching;
#[cfg(feature = "live")]
mod check;
#[cfg(feature = "live")]
mod diff;
#[cfg(feature = "live")]
mod dump;
#[cfg(feature = "live")]
mod exporting;
#[cfg(feature = "live")]
mod fleet;
#[cfg(feature = "live")]
mod lab;
mod listing;
#[cfg(feature = "live")]
mod naming;
#[cfg(feature = "nats")]
mod nats;
mod out;
mod playback;
mod printer;
#[cfg(all(feature = "live", feature = "nats"))]
mod publish;
#[cfg(feature = "live")]
mod record;
mod remote;
mod replay;
#[cfg(feature = "live")]
mod report;
#[cfg(feature = "live")]
mod saving;
mod settings;
mod shell;
mod signals;
mod top;
#[cfg(feature = "live")]
mod tunnels;
mod values;
#[cfg(feature = "live")]
mod watch;

/// `tmon 0.1.0`, as in JSON output.
pub const TOOL: &str = concat!("tmon ", env!("CARGO_PKG_VERSION"));

/// See inside overlay networks: who talks to whom in which tunnel, live.
///
/// A BPF program on the TC hooks of the underlay interface parses every packet across the
/// encapsulation boundary (VXLAN, Geneve, GRE, IPIP, GTP-U and more) and counts it per tunnel
/// endpoint, tunnel id and inner address. Nothing is dropped or changed.
#[derive(Debug, Parser)]
#[command(name = "tmon", version, max_term_width = 100, propagate_version = true)]
#[command(
    after_help = "Try `tmon demo` first: it builds a nine-host overlay network of its own and shows it.\n\
    Exit status: 0 success, 1 failure, 2 wrong usage."
)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Live dashboard: chord, matrix and table of what the tunnels carry
    Top(Box<top::Top>),
    #[cfg(feature = "live")]
    /// Print one reading, or one at regular intervals, as a table, JSON or CSV
    Dump(dump::Dump),
    /// Decode capture files with the same parser; needs no privileges and no kernel support
    Replay(Box<replay::Replay>),
    /// Capture packets selected by what is inside their tunnels, for Wireshark
    Capture(Box<capture::Capture>),
    /// Report problems and their causes: a line when a finding begins, changes severity, or ends
    #[cfg(feature = "live")]
    Watch(watch::Watching),
    #[cfg(feature = "live")]
    /// Export readings to other tools: Prometheus, IPFIX collectors
    #[command(subcommand)]
    Export(exporting::Export),
    #[cfg(feature = "live")]
    /// Record readings to a file, for `top`, `dump` and `watch --read`
    Record(record::Record),
    #[cfg(feature = "live")]
    /// Write readings to standard output as they are taken, for a tmon elsewhere or a file
    Stream(record::StreamOut),
    #[cfg(all(feature = "live", feature = "nats"))]
    /// Publish readings to a NATS server, for viewers on other hosts
    Publish(publish::Publish),
    #[cfg(feature = "live")]
    /// List the hosts of a fleet: state, clocks, coverage, versions
    Fleet(fleet::Hosts),
    #[cfg(feature = "live")]
    /// Write a report for a support ticket: what this host supports, tunnels, findings, readings
    Report(report::Report),
    #[cfg(feature = "live")]
    /// Compare what two hosts sent each other with what arrived, from recordings or over ssh
    Diff(diff::Diff),
    #[cfg(feature = "live")]
    /// Count in the kernel without a running process; top and dump join in
    Attach(attach::Attach),
    #[cfg(feature = "live")]
    /// Stop counting in the kernel and remove what `attach` installed
    Detach(attach::Detach),
    #[cfg(feature = "live")]
    /// Show what is attached, since when, and at what cost
    Status(attach::Status),
    #[cfg(feature = "live")]
    /// Check what this kernel, the privileges and the interfaces allow, and suggest fixes
    Check(check::Check),
    #[cfg(feature = "live")]
    /// List the tunnel devices of this host: ids, ports, endpoints, underlays
    Tunnels(tunnels::Tunnels),
    #[cfg(feature = "live")]
    /// List the names of addresses and tunnel ids on this host, and where each name comes from
    Names(naming::NamesOf),
    #[cfg(feature = "live")]
    /// Ask services of this host for names; tmon starts this process itself
    #[command(hide = true)]
    Ask(naming::Ask),
    #[cfg(feature = "live")]
    /// Run a simulated overlay: nine hosts and four networks in namespaces
    #[command(subcommand)]
    Lab(lab::Lab),
    #[cfg(feature = "live")]
    /// Start lab, traffic and dashboard: see in a minute what tmon shows
    Demo(lab::Demo),
    /// Print completions for a shell
    Completions(shell::Completions),
    /// Print the manual page, or write one for each command
    Man(shell::ManPages),
}

#[cfg(feature = "live")]
impl Command {
    /// The command needs BPF programs, which it loads or joins. (`check` reports what prevents
    /// that.)
    fn loads(&self) -> bool {
        match self {
            Command::Top(top) => !top.reads_captures() && !top.listens(),
            #[cfg(feature = "live")]
            Command::Watch(watch) => !watch.reads_captures() && !watch.listens(),
            Command::Replay(replay) => replay.loads(),
            Command::Capture(capture) => capture.loads(),
            Command::Dump(dump) => !dump.reads_recordings() && !dump.listens(),
            Command::Record(record) => !record.listens(),
            Command::Stream(_) => true,
            #[cfg(feature = "nats")]
            Command::Publish(_) => true,
            Command::Export(_) | Command::Attach(_) | Command::Demo(_) => true,
            _ => false,
        }
    }
}

/// Which interfaces are watched, and how packets are counted.
#[derive(Args, Debug)]
struct Watch {
    /// Interfaces to watch, by name, pattern (`veth*`) or NETNS/IFACE, at most 512 [default:
    /// underlays of the tunnel devices found, or the default route's interface]
    #[arg(value_name = "IFACE", add = clap_complete::engine::ArgValueCandidates::new(values::interfaces))]
    interfaces: Vec<String>,
    /// Network namespace of the interfaces: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS", add = clap_complete::engine::ArgValueCandidates::new(values::namespaces))]
    netns: Option<String>,
    #[command(flatten)]
    count: Counting,
    /// Attach only with this type of hook
    #[arg(long, value_enum, hide = true)]
    hook: Option<HookArg>,
}

impl Watch {
    /// Fails if interfaces were given: remote hosts choose their own.
    fn is_unused(&self) -> Result<()> {
        match self.interfaces.is_empty() && self.netns.is_none() {
            true => Ok(()),
            false => Err(Usage("remote hosts choose their own interfaces".to_owned()).into()),
        }
    }
}

#[cfg(feature = "live")]
impl Watch {
    fn want(&self) -> Want {
        match self.hook {
            None => Want::Best,
            Some(HookArg::Tcx) => Want::Only(HookKind::Tcx),
            Some(HookArg::Clsact) => Want::Only(HookKind::Clsact),
        }
    }

    /// Starts counting on the interfaces.
    fn open(&self) -> Result<Live> {
        let (interfaces, netns) = (&self.interfaces, self.netns.as_deref());
        Live::open(interfaces, netns, &self.count.config(), self.want())
    }
}

/// Whether drops are counted, and which ones.
#[derive(Args, Clone, Copy, Debug)]
struct Dropping {
    /// Do not count packets that the kernel drops
    #[arg(long)]
    #[cfg_attr(not(feature = "live"), allow(dead_code))]
    no_drops: bool,
    #[command(flatten)]
    #[cfg_attr(not(feature = "live"), allow(dead_code))]
    scope: DropScope,
}

#[cfg(feature = "live")]
impl Dropping {
    /// Starts counting drops unless that is turned off; returns why it cannot.
    fn begin(self, live: &mut Live) -> Option<Arc<str>> {
        if self.no_drops { None } else { live.watch_drops(self.scope.all_netns) }
    }

    /// The same, but prints the reason.
    fn begin_or_say(self, live: &mut Live) {
        if let Some(why) = self.begin(live) {
            say(&format!("drops are not counted: {why}"));
        }
    }
}

/// Which network namespaces' drops count.
#[derive(Args, Clone, Copy, Debug)]
struct DropScope {
    /// Include drops in all network namespaces, not only in the watched ones and those of their
    /// tunnel devices
    #[arg(long)]
    #[cfg_attr(not(feature = "live"), allow(dead_code))]
    all_netns: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum HookArg {
    Tcx,
    Clsact,
}

/// Limit on the unpacked size of a capture.
#[derive(Args, Debug)]
struct Unpack {
    /// Limit on the unpacked size of a compressed capture (gzip, Zstandard) [default: 1GB, or 100
    /// times its size]
    #[arg(long, value_name = "SIZE", value_parser = size)]
    max_size: Option<u64>,
}

/// How packets become rows.
#[derive(Args, Debug)]
struct Counting {
    /// Decode this UDP port as this kind of tunnel (vxlan=5789; l2tpv3=1701,cookie=8,sublayer=4);
    /// `none=PORT` stops decoding a port
    #[arg(long = "port", value_name = "KIND=PORT")]
    ports: Vec<Port>,
    /// Header lengths of L2TPv3 over IP protocol 115, in bytes (cookie=8,sublayer=4)
    #[arg(long = "l2tpv3", value_name = "BYTES")]
    l2tpv3: Option<L2tp>,
    /// Additional EtherType of VLAN tags, besides 0x8100, 0x88a8 and 0x9100 (up to four times)
    #[arg(long = "tpid", value_name = "TYPE", value_parser = config::tpid)]
    tpids: Vec<u16>,
    /// Capacity of each of the two tables, in rows: IPv4 in IPv4, and everything else
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u32).range(64..=16_777_216))]
    rows: u32,
    /// Fold rows that have been idle this long into their tunnel's `aged` row; 0s keeps them
    /// forever [default: 10m; 0s for captures]
    #[arg(long, value_name = "TIME", value_parser = duration)]
    age: Option<Duration>,
    /// Also create rows for packets outside tunnels
    #[arg(long)]
    plain: bool,
    /// Count socket buffers as they pass the hook, not packets on the wire
    #[arg(long)]
    skb: bool,
}

impl Counting {
    /// For captures: rows are kept unless --age says otherwise, so that the result has all of them.
    fn of_capture(&self) -> Config {
        Config { age: self.age.unwrap_or_default(), ..self.config() }
    }

    fn config(&self) -> Config {
        Config {
            rows: self.rows,
            plain: self.plain,
            skb: self.skb,
            age: self.age.unwrap_or(Config::default().age),
            ports: self.ports.clone(),
            l2tpv3: self.l2tpv3,
            tpids: self.tpids.clone(),
            ..Config::default()
        }
    }
}

/// How addresses are named.
#[derive(Args, Debug)]
struct Naming {
    /// File of names for addresses, networks and ids: lines as in hosts(5), and lines such as
    /// `10.1.0.0/16 site` or `vni:10000 blue`; names are cut at 255 characters
    #[arg(long, value_name = "FILE")]
    names: Option<PathBuf>,
    /// Look up names of addresses in DNS in the background
    #[arg(long)]
    resolve: bool,
    /// Show addresses instead of names
    #[arg(long, short)]
    numeric: bool,
    /// Do not collect names on this host from interfaces, processes, files of container runtimes, Cilium,
    /// OVN, Open vSwitch and FRR
    #[arg(long)]
    #[cfg_attr(not(feature = "live"), allow(dead_code))]
    no_host_names: bool,
    /// Also get container names from Docker, over this socket [default: /run/docker.sock]
    #[cfg(feature = "live")]
    #[arg(
        long,
        value_name = "SOCKET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/run/docker.sock",
        conflicts_with = "no_host_names"
    )]
    docker: Option<PathBuf>,
    /// Also get pod names from the container runtime, over this socket [default: that of containerd or
    /// CRI-O, whichever exists]
    #[cfg(feature = "live")]
    #[arg(
        long,
        value_name = "SOCKET",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = asked::ANY_CRI,
        conflicts_with = "no_host_names"
    )]
    cri: Option<PathBuf>,
}

/// The threads that collect names in the background.
#[derive(Default)]
struct Looking {
    /// From this host's interfaces and files.
    here: Option<JoinHandle<()>>,
    /// From its services, which may not answer.
    asked: Option<JoinHandle<()>>,
}

impl Looking {
    /// Waits for the lookups that finish soon. Names that were not found are left out.
    fn here(&mut self) {
        if let Some(thread) = self.here.take() {
            let _ = thread.join();
        }
    }

    /// Waits for all lookups, which takes seconds at most. Returns whether there were any.
    fn all(&mut self) -> bool {
        let all = [self.here.take(), self.asked.take()].into_iter().flatten();
        all.map(|thread| drop(thread.join())).count() > 0
    }
}

impl Naming {
    /// Names from files, of this host if `local`, and from DNS if requested. To be called before
    /// any threads are started.
    fn read(&self, local: bool) -> Result<(Names, Looking)> {
        #[cfg(feature = "live")]
        let asker = {
            // Files that do not exist yet are out of this process's reach later.
            let later = hosted::FOLDERS.iter().map(PathBuf::from).filter(|path| !path.exists());
            let (docker, cri) = (self.docker.clone(), self.cri.clone());
            let services = Services { docker, cri, files: later.collect() };
            if local && !self.no_host_names { Asker::start(services) } else { None }
        };
        let mut names = Names::read(self.names.as_deref())?;
        if self.resolve {
            let sandbox = Sandbox::new(None);
            names.resolve(Resolver::new(move || sandbox.confine_strictly())?);
        }
        #[cfg(feature = "live")]
        if local && !self.no_host_names {
            let asked = asker.and_then(|asker| local::ask_around(&names, asker));
            let looking = Looking { here: local::look_around(&names), asked };
            return Ok((names, looking));
        }
        let _ = local; // there are no interfaces
        Ok((names, Looking::default()))
    }
}

/// Groups of hosts.
#[derive(Args, Debug)]
struct Grouped {
    /// File of host groups: each line has addresses, networks or names, and their group
    /// (`172.16.0.0/16 node-*.eu eu/zone-a`)
    #[arg(long, value_name = "FILE")]
    groups: Option<PathBuf>,
}

impl Grouped {
    /// Reads the file, if there is one.
    fn read(&self) -> Result<Option<Arc<Groups>>> {
        const MOST: u64 = 64 << 20;
        let Some(file) = &self.groups else { return Ok(None) };
        let shown = sanitize(&file.display().to_string()).into_owned();
        let text = input::lossy_text(file, MOST).with_context(|| format!("read {shown}"))?;
        let groups = Groups::parse(&text);
        Ok(Some(Arc::new(groups.map_err(|e| anyhow::anyhow!("{shown}, {e}"))?)))
    }
}

/// Known findings, which are muted.
#[derive(Args, Debug)]
struct Ignoring {
    /// File of known findings to mute, one per line: kind, filter, and optionally `until` a day
    /// (`silent host:172.16.1.105 until 2026-12-24`)
    #[arg(long, value_name = "FILE")]
    ignore: Option<PathBuf>,
}

impl Ignoring {
    /// Reads the file, if there is one.
    fn read(&self, names: &Names, groups: &Arc<Groups>) -> Result<Known> {
        const MOST: u64 = 1 << 20;
        let Some(file) = &self.ignore else { return Ok(Known::default()) };
        let shown = || format!("read {}", sanitize(&file.display().to_string()));
        let text = input::text_of(std::fs::File::open(file).with_context(shown)?, MOST)
            .with_context(shown)?;
        let filter = |text: &str| {
            let filter = names.filter(text, groups).map_err(|e| e.to_string())?;
            match filter.takes_names() {
                true => Err(
                    "`group:` does not work here, because membership depends on names: use `host:`"
                        .to_owned(),
                ),
                false => Ok(filter),
            }
        };
        Known::parse(&text, filter).map_err(anyhow::Error::msg).with_context(shown)
    }
}

/// A filter as the user wrote it; the names in it are resolved later.
#[derive(Clone, Debug, Default)]
struct Written(String);

impl Written {
    /// Resolves the filter. If a name is unknown, waits for the lookups and tries once more.
    fn filter(&self, names: &Names, groups: &Arc<Groups>, looking: &mut Looking) -> Result<Filter> {
        let filter = || names.filter(&self.0, groups);
        let meant = filter().or_else(|e| if looking.all() { filter() } else { Err(e) });
        meant.map_err(|e| Usage(e.to_string()).into())
    }
}

/// Wrong usage that was only detected after parsing: exit status 2.
#[derive(Debug)]
struct Usage(String);

impl std::fmt::Display for Usage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Usage {}

/// How readings are printed.
#[derive(Args, Debug)]
struct Print {
    /// Print one JSON object per reading and line; with `--json=flows` one per row, with the time
    /// of the reading, for databases and pipelines
    #[arg(
        long,
        value_enum,
        value_name = "LINES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "readings",
        conflicts_with = "csv"
    )]
    json: Option<JsonLines>,
    /// Print CSV, one line per row; with `--csv=interfaces` one line per interface: packets seen,
    /// packets counted in rows, and the rest by reason
    #[arg(
        long,
        value_enum,
        value_name = "LINES",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "flows"
    )]
    csv: Option<CsvLines>,
    /// Print the chord diagram as an SVG picture
    #[arg(long, conflicts_with_all = ["json", "csv"])]
    svg: bool,
    /// Print a self-contained HTML page with the chord diagram, ids, levels and rows
    #[arg(long, conflicts_with_all = ["json", "csv", "svg"])]
    html: bool,
    /// Theme of the picture or page [default: dark; for a page, that of the reader's system]
    #[arg(long, value_enum, value_name = "THEME")]
    theme: Option<Paper>,
    /// Show at most this many hosts in the picture or page, and the rest as `other` [default: 24]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Draw inner addresses instead of hosts
    #[arg(long, requires = "svg")]
    inner: bool,
    /// Show only matching rows: `vni:10000-10003 host:10.0.0.0/8 !kind:gre`
    #[arg(long, value_name = "EXPR", add = clap_complete::engine::ArgValueCandidates::new(values::expressions), default_value = "", value_parser = filter, hide_default_value = true)]
    filter: Written,
    #[command(flatten)]
    naming: Naming,
    #[command(flatten)]
    grouped: Grouped,
    /// Use binary prefixes for bytes (KiB, MiB)
    #[arg(long)]
    iec: bool,
}

impl Print {
    /// Standard output for the format: those for programs are UTF-8 whatever the locale.
    fn out(&self) -> out::Out {
        if self.format() == export::Format::Table { out::table() } else { out::raw() }
    }

    /// The output includes findings.
    #[cfg(feature = "live")]
    fn has_findings(&self) -> bool {
        self.json == Some(JsonLines::Readings)
    }

    /// The output is a single picture, not a line or table per reading.
    #[cfg(feature = "live")]
    fn is_picture(&self) -> bool {
        self.svg || self.html
    }

    fn format(&self) -> export::Format {
        let light = self.theme.map(|t| t == Paper::Light);
        match (self.json, self.csv, self.svg, self.html) {
            (Some(JsonLines::Readings), ..) => export::Format::Json,
            (Some(JsonLines::Flows), ..) => export::Format::JsonFlows,
            (_, Some(CsvLines::Flows), ..) => export::Format::Csv,
            (_, Some(CsvLines::Interfaces), ..) => export::Format::CsvInterfaces,
            (_, _, true, _) => export::Format::Svg(export::svg::SvgOptions {
                light: light.unwrap_or(false),
                inner: self.inner,
                top: self.top,
            }),
            (.., true) => export::Format::Html(export::html::HtmlOptions {
                dark: light.map(|l| !l),
                top: self.top,
            }),
            _ => export::Format::Table,
        }
    }
}

/// What each line of JSON holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum JsonLines {
    /// A reading
    Readings,
    /// A row of a reading
    Flows,
}

/// What each line of CSV holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum CsvLines {
    /// A row of a reading
    Flows,
    /// An interface
    Interfaces,
}

/// The background of a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Paper {
    Dark,
    Light,
}

fn filter(text: &str) -> Result<Written, String> {
    expression(|meanings| Filter::parse_named(text, meanings).map(drop))
        .map_err(|e| e.to_string())?;
    Ok(Written(text.to_owned()))
}

/// Parses an expression before names are known.
fn expression<T>(read: impl FnOnce(&Meanings<'_>) -> T) -> T {
    // Anything with a letter may be a name.
    let nets = |name: &str| {
        if name.contains(char::is_alphabetic) {
            vec![ipnet::Ipv4Net::default().into()]
        } else {
            Vec::new()
        }
    };
    let ids = |name: &str| {
        let any = name.contains(char::is_alphabetic);
        any.then_some(Ids { kind: None, range: 0..=0 }).into_iter().collect()
    };
    read(&Meanings { nets: &nets, ids: &ids, groups: None })
}

/// Far below the range of clocks and nanosecond counters, with room for additions.
const LONGEST: Duration = Duration::from_secs(876_000 * 3600);

fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.trim_end_matches(char::is_alphabetic).len());
    let is_whole = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    let d = match text.parse::<jiff::SignedDuration>() {
        _ if is_whole && unit == "d" => {
            Duration::from_secs(number.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(24 * 3600))
        }
        Ok(d) => Duration::try_from(d).map_err(|_| "expected a duration that is not negative")?,
        // jiff accepts the unit but not the number: the number is too large.
        Err(_) if is_whole && format!("1{unit}").parse::<jiff::SignedDuration>().is_ok() => {
            Duration::MAX
        }
        Err(_) => return Err("expected a number and a unit: 500ms, 5s, 10m, 1h, 7d".to_owned()),
    };
    if d > LONGEST { Err("at most 100 years (36500d)".to_owned()) } else { Ok(d) }
}

/// A number of bytes: `64k`, `128MB`, `1GiB`.
fn size(text: &str) -> Result<u64, String> {
    let wrong =
        || "expected a number of bytes with k, M, G (1000) or Ki, Mi, Gi (1024): 128MB".to_owned();
    let (number, unit) =
        text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let unit = unit.trim_start().to_ascii_lowercase();
    let factor: u64 = match unit.strip_suffix('b').unwrap_or(&unit) {
        "" => 1,
        "k" => 1_000,
        "m" => 1_000_000,
        "g" => 1_000_000_000,
        "ki" => 1 << 10,
        "mi" => 1 << 20,
        "gi" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.parse::<u64>().ok().and_then(|n| n.checked_mul(factor)).ok_or_else(wrong)
}

/// Commands that run as services and read a config file.
const SERVICES: [&str; 6] =
    ["watch", "export prometheus", "export ipfix", "record", "attach", "publish"];

/// The config file of a service.
#[cfg(feature = "live")]
#[derive(Args, Debug)]
struct Configured {
    /// Read settings from this file, one flag per line (`every = "5s"`); the command line takes
    /// precedence
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Runs the command line. Errors are printed as one line.
pub fn run(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    signals::outgrow();
    let args: Vec<OsString> = args.into_iter().collect();
    if shell::completes(&args) {
        return ExitCode::SUCCESS;
    }
    let root = Cli::command();
    let merged = settings::merged(&root, &["top", "demo"], Some("top"), args, &mut say)
        .and_then(|args| settings::merged(&root, &SERVICES, None, args, &mut say));
    let args = match merged {
        Ok(args) => args,
        Err(e) => return code(Err(e)),
    };
    let parsed = Cli::command().try_get_matches_from(args).and_then(|m| {
        let mut command = Cli::command();
        command.build();
        no_empty_values(&mut command, &m)?;
        Ok((Cli::from_arg_matches(&m)?, m))
    });
    let (cli, matches) = match parsed {
        Ok(parsed) => parsed,
        Err(e) => {
            if e.use_stderr() {
                // The message quotes what was typed or pasted.
                e.to_string().lines().for_each(|l| out::tell(&format!("{}\n", sanitize(l))));
                return u8::try_from(e.exit_code()).unwrap_or(2).into();
            }
            let colours = io::stdout().is_terminal() && Depth::from_env() != Depth::Mono;
            let help = if colours { e.render().ansi().to_string() } else { e.to_string() };
            return code(out::people().write_all(help.as_bytes()).map(|()| 0).map_err(Into::into));
        }
    };
    if let Command::Top(top) = &cli.command
        && let Some(done) = top.settings(&matches)
    {
        return code(done.map(|()| 0));
    }
    #[cfg(feature = "live")]
    if cli.command.loads()
        && let Err(e) = version::suffices()
    {
        return code(Err(e));
    }
    privilege::raise_descriptors();
    #[cfg(feature = "live")]
    crate::kernel::bpf::quieten();
    let done = match cli.command {
        Command::Top(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Dump(c) => c.run(),
        Command::Replay(c) => c.run(),
        Command::Capture(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Watch(c) => return code(c.run()),
        #[cfg(feature = "live")]
        Command::Diff(c) => return code(c.run()),
        #[cfg(feature = "live")]
        Command::Fleet(c) => return code(c.run()),
        #[cfg(feature = "live")]
        Command::Report(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Export(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Record(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Stream(c) => c.run(),
        #[cfg(all(feature = "live", feature = "nats"))]
        Command::Publish(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Attach(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Detach(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Status(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Check(c) => return code(c.run()),
        #[cfg(feature = "live")]
        Command::Tunnels(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Names(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Ask(c) => c.run(),
        #[cfg(feature = "live")]
        Command::Lab(c) => return code(c.run()),
        #[cfg(feature = "live")]
        Command::Demo(c) => c.run(),
        Command::Completions(c) => c.run(),
        Command::Man(c) => c.run(),
    };
    code(done.map(|()| 0))
}

/// Rejects empty values: most likely a script's variable is not set. Only a filter may be empty; it
/// matches everything.
fn no_empty_values(
    command: &mut clap::Command,
    given: &clap::ArgMatches,
) -> Result<(), clap::Error> {
    const FILTERS: [&str; 4] = ["filter", "lens", "rtt", "words"];
    let is_empty = |arg: &&clap::Arg| {
        !FILTERS.contains(&arg.get_id().as_str())
            && given.get_raw(arg.get_id().as_str()).is_some_and(|mut all| all.any(OsStr::is_empty))
    };
    let empty = command.get_arguments().find(is_empty).map(ToString::to_string);
    if let Some(arg) = empty {
        let text = format!("a value is required for '{arg}', but it is empty");
        return Err(command.error(clap::error::ErrorKind::InvalidValue, text));
    }
    let Some((name, given)) = given.subcommand() else { return Ok(()) };
    command.find_subcommand_mut(name).map_or(Ok(()), |command| no_empty_values(command, given))
}

/// Prints one line on standard error, with control characters from names and arguments made
/// harmless.
fn say(text: &str) {
    out::tell(&format!("tmon: {}\n", sanitize(&text.replace('\n', " "))));
}

fn code(done: Result<u8>) -> ExitCode {
    match done {
        Ok(code) => code.into(),
        Err(e)
            if e.chain().any(|c| {
                c.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::BrokenPipe)
            }) =>
        {
            ExitCode::SUCCESS
        }
        Err(e) => {
            say(&format!("{e:#}"));
            if e.is::<Usage>() {
                return 2.into();
            }
            ExitCode::FAILURE
        }
    }
}
