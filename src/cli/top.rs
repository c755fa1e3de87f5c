// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon top`.
use std::{
    io::Write,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};
use clap::{Args, CommandFactory, builder::PossibleValue};

use super::{
    Cli, Dropping, Grouped, Ignoring, Naming, TOOL, Unpack, Watch, Written, duration, filter, out,
    playback::Playback, remote::Remotes, settings, size,
};
#[cfg(feature = "live")]
use crate::kernel::closer::CatchLimits;
use crate::kernel::{origin, runner::Runner, sandbox::Sandbox};
use feed::{Again, Capture, Captures, Replay, Source, judge, recorded};
use model::{
    charset::Charset,
    raster::Blocks,
    units::{Base, sanitize},
};
use tui::{
    graphics::Choice,
    theme::{Depth, Scheme},
    words::{Unit, View},
};

#[derive(Args, Debug)]
#[command(args_override_self = true)]
pub(super) struct Top {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    look: Look,
    #[command(flatten)]
    #[cfg_attr(not(feature = "live"), allow(dead_code))]
    drops: Dropping,
    /// Show this recording or capture instead of interfaces; may be repeated (merged in order of
    /// time); `-` is a capture on standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "netns", "from", "ssh"])]
    #[cfg_attr(feature = "nats", arg(conflicts_with = "nats"))]
    read: Vec<PathBuf>,
    #[command(flatten)]
    part: Playback,
    /// Start at this time in the recording or capture (2026-11-30T06:30:00Z)
    #[arg(long, value_name = "TIME", value_parser = recorded::time, requires = "read")]
    at: Option<SystemTime>,
    #[command(flatten)]
    remotes: Remotes,
    #[command(flatten)]
    unpack: Unpack,
    /// Memory for the history to scrub through; more rows mean fewer intervals
    #[arg(long, value_name = "SIZE", default_value = "128MB", value_parser = size)]
    history: u64,
    /// Print the effective settings (command line and config file) as a config file, and exit
    #[arg(long)]
    print_config: bool,
    /// Write the effective settings to the config file, and exit
    #[arg(long, conflicts_with = "print_config")]
    save_config: bool,
}

/// How the dashboard starts.
#[derive(Args, Debug)]
pub(super) struct Look {
    /// Interval between readings of the counters
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Show only matching rows: `vni:10000-10003 host:10.0.0.0/8 !kind:gre`
    #[arg(long, value_name = "EXPR", add = clap_complete::engine::ArgValueCandidates::new(super::values::expressions), default_value = "", value_parser = filter, hide_default_value = true)]
    filter: Written,
    #[command(flatten)]
    naming: Naming,
    #[command(flatten)]
    grouped: Grouped,
    #[command(flatten)]
    ignoring: Ignoring,
    /// Show at most this many hosts in the chord diagram and matrix, and the rest as `other`
    /// [default: as many as fit]
    #[arg(long, value_name = "N", value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1000))]
    top: Option<usize>,
    /// View to start with
    #[arg(long, value_name = "VIEW", default_value = "chord", value_parser = Named(&VIEWS))]
    view: View,
    /// Unit of values; rates are in bits per second by default
    #[arg(long, value_name = "UNIT", default_value = "bits", value_parser = Named(&UNITS))]
    units: Unit,
    /// Use binary prefixes for bytes (KiB, MiB)
    #[arg(long)]
    iec: bool,
    /// Show totals since counting began instead of rates
    #[arg(long)]
    totals: bool,
    /// Colour scheme
    #[arg(long, default_value = "dark", value_parser = Named(&Scheme::ALL))]
    theme: Scheme,
    /// Colour depth [default: from COLORTERM, TERM and NO_COLOR]
    #[arg(long, value_name = "DEPTH", value_parser = Named(&Depth::ALL))]
    colours: Option<Depth>,
    /// Characters for drawing the chord diagram; sextants and octants need a font that has them,
    /// ascii applies to the whole screen [default: quadrant, or what locale and terminal support]
    #[arg(long, value_name = "BLOCKS", value_parser = Named(&Blocks::ALL))]
    cells: Option<Blocks>,
    /// Draw the chord diagram with real pixels, if the terminal supports it
    #[arg(long, value_name = "PROTOCOL", default_value = "auto", value_parser = Named(&Choice::ALL))]
    graphics: Choice,
    /// Disable animation
    #[arg(long, alias = "no-animation")]
    no_motion: bool,
    /// Do not capture the mouse, so that the terminal can select text
    #[arg(long)]
    no_mouse: bool,
    /// Size limit of captures started with `w`
    #[cfg(feature = "live")]
    #[arg(long, value_name = "SIZE", default_value = "100MB", value_parser = size)]
    capture_size: u64,
    /// Time limit of captures started with `w`
    #[cfg(feature = "live")]
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    capture_for: Duration,
    /// Read settings from this file [default: ~/.config/tmon/config.toml, or as $XDG_CONFIG_HOME
    /// says]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

const VIEWS: [(View, &str); 5] = [
    (View::Chord, "chord"),
    (View::Matrix, "matrix"),
    (View::Table, "table"),
    (View::Health, "health"),
    (View::Findings, "findings"),
];
const UNITS: [(Unit, &str); 3] =
    [(Unit::Bits, "bits"), (Unit::Bytes, "bytes"), (Unit::Packets, "packets")];

/// Values by name.
#[derive(Clone)]
struct Named<T: 'static>(&'static [(T, &'static str)]);

impl<T: Copy + Send + Sync + 'static> clap::builder::TypedValueParser for Named<T> {
    type Value = T;
    fn parse_ref(
        &self,
        cmd: &clap::Command,
        arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<T, clap::Error> {
        let names = clap::builder::PossibleValuesParser::new(self.0.iter().map(|n| n.1));
        let known =
            |name: String| self.0.iter().find(|n| n.1 == name).map(|n| n.0).ok_or("not a name");
        names.try_map(known).parse_ref(cmd, arg, value)
    }
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.0.iter().map(|n| PossibleValue::new(n.1))))
    }
}

impl Look {
    /// Limits on captures.
    #[cfg(feature = "live")]
    pub(super) fn limits(&self) -> CatchLimits {
        CatchLimits { bytes: self.capture_size, time: self.capture_for }
    }

    /// `local`: this host's interfaces are watched, so their names apply. `files` creates the files
    /// that are saved.
    pub(super) fn options(&self, local: bool, files: Arc<Runner>) -> Result<tui::TuiOptions> {
        let (names, mut looking) = self.naming.read(local)?;
        let groups = self.grouped.read()?;
        let known_groups = groups.clone().unwrap_or_default();
        self.filter.filter(&names, &known_groups, &mut looking)?;
        let known = self.ignoring.read(&names, &known_groups)?;
        let default = tui::TuiOptions::default();
        let charset = default.manner.charset;
        Ok(tui::TuiOptions {
            start: tui::start::Start {
                view: self.view,
                unit: self.units,
                base: if self.iec { Base::Iec } else { Base::Si },
                totals: self.totals,
                top: self.top,
                filter: self.filter.0.clone(),
                known,
                groups,
                names,
                numeric: self.naming.numeric,
                ..default.start
            },
            interval: self.interval.max(Duration::from_millis(50)),
            scheme: self.theme,
            depth: self.colours.unwrap_or(default.depth),
            manner: tui::stage::Manner {
                animate: !self.no_motion,
                blocks: self.cells.unwrap_or(Blocks::of(charset)),
                charset: match self.cells {
                    None => charset,
                    Some(Blocks::Ascii) => Charset::Ascii,
                    // a user who asks for more than was detected knows better
                    Some(Blocks::Half) => charset.max(Charset::Console),
                    Some(_) => Charset::Unicode,
                },
                ..default.manner
            },
            graphics: self.graphics,
            mouse: !self.no_mouse,
            tool: TOOL.to_owned(),
            files,
        })
    }
}

/// The sandbox of a dashboard; to be made before privileges are dropped.
pub(super) fn sandbox(look: &Look) -> Sandbox {
    Sandbox::new(None).resolving(look.naming.resolve)
}

#[cfg(feature = "live")]
/// Shows the live dashboard until the user leaves, confined to what it needs.
pub(super) fn show(
    options: tui::TuiOptions,
    live: crate::kernel::live::Live,
    limits: CatchLimits,
    sandbox: &Sandbox,
) -> Result<()> {
    live.enter(sandbox)?;
    let names = options.start.names.clone();
    let mut source = crate::kernel::closer::LiveCloser::new(live, names, TOOL);
    source.set_limits(limits);
    let shown = tui::run(options, None, &mut source);
    if let Some(line) = source.end() {
        super::say(&line);
    }
    shown
}

impl Top {
    /// Handles `--print-config` and `--save-config`; `None` if neither is given.
    pub(super) fn settings(&self, matches: &clap::ArgMatches) -> Option<Result<()>> {
        if !self.print_config && !self.save_config {
            return None;
        }
        let command = Cli::command();
        let (name, matches) = matches.subcommand()?;
        let text = settings::text(command.find_subcommand(name)?, matches);
        if self.print_config {
            return Some(out::raw().write_all(text.as_bytes()).map_err(Into::into));
        }
        let file = settings::chosen(self.look.config.as_deref());
        Some(
            file.context(
                "there is no home directory to keep settings in: name a file with --config",
            )
            .and_then(|file| {
                settings::save(&file, &text)?;
                Ok(out::line(&format!("saved to {}", sanitize(&file.display().to_string())))?)
            }),
        )
    }

    /// The command reads files and needs no BPF programs.
    #[cfg(feature = "live")]
    pub(super) fn reads_captures(&self) -> bool {
        !self.read.is_empty()
    }

    /// The command listens to remote hosts.
    #[cfg(feature = "live")]
    pub(super) fn listens(&self) -> bool {
        self.remotes.any()
    }

    pub(super) fn run(self) -> Result<()> {
        if self.remotes.any() {
            self.watch.is_unused()?;
            let ready = self.remotes.prepare(self.look.interval)?;
            let options = self.options(false, ready.runner())?;
            ready.enter(sandbox(&self.look))?;
            // Slower hosts are waited for on the screen, where the user can press keys.
            const PATIENCE: Duration = Duration::from_secs(3);
            let mut remote = ready.listen(options.start.names.clone())?.patient(PATIENCE);
            let first = match remote.read() {
                Err(e) if remote.has_failed() => return Err(e),
                first => first.ok(),
            };
            return tui::run(options, first, &mut remote);
        }
        let runner = Arc::new(Runner::start(Vec::new())?);
        let sandbox = sandbox(&self.look);
        #[cfg(feature = "live")]
        if self.read.is_empty() {
            let options = self.options(true, runner)?;
            let mut live = self.watch.open()?;
            self.drops.begin(&mut live); // the screen shows why, if it fails
            live.follow_configuration()?;
            return show(options, live, self.look.limits(), &sandbox);
        }
        ensure!(
            !self.read.is_empty(),
            "this tmon is built without the feature `live` and can only show captures (--read FILE)"
        );
        let options = self.options(false, runner)?;
        if let Some(recordings) = self.part.recordings(&self.read)? {
            sandbox.enter_with_nothing()?;
            let (names, history) = (options.start.names.clone(), options.start.history);
            let mut source = Capture::of_recordings(recordings, names, history)?;
            let all = source.read()?;
            tui::run(options, Some(all), &mut source)?;
            return source.end();
        }
        let (count, most) = (self.watch.count.of_capture(), self.unpack.max_size);
        let origin = origin::here();
        let captures = Captures::open(&self.read)?;
        let again = captures.again().map(|captures| Again::new(captures, &count, most));
        sandbox.enter_with_nothing()?;
        let open = move || {
            let mut replay = Replay::of(captures, &count, judge::host, most)?;
            replay.set_origin(origin);
            Ok(replay)
        };
        let mut capture = Capture::new(open, self.look.interval, options.start.history)?;
        capture.set_again(again);
        let all = capture.read()?;
        tui::run(options, Some(all), &mut capture)?;
        capture.end()
    }

    fn options(&self, local: bool, files: Arc<Runner>) -> Result<tui::TuiOptions> {
        let mut options = self.look.options(local, files)?;
        options.start.history = usize::try_from(self.history).unwrap_or(usize::MAX);
        options.start.at = self.at;
        Ok(options)
    }
}
