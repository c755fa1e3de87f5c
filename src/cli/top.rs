// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon top`.
use super::*;
use crate::{
    source::{Live, Replay},
    tui::theme::Scheme,
};

/// Instants of a capture that can be scrubbed to.
const MOST_READINGS: usize = 600;

#[derive(Args, Debug)]
pub(super) struct Top {
    #[command(flatten)]
    watch: Watch,
    #[command(flatten)]
    look: Look,
    /// Show this capture instead of an interface; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["interfaces", "netns"])]
    read: Option<PathBuf>,
}

/// How the dashboard begins.
#[derive(Args, Debug)]
pub(super) struct Look {
    /// How often the counters are read
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = duration)]
    interval: Duration,
    /// Only rows that match: `vni:10000-10003 host:10.0.0.0/8 !kind:gre`
    #[arg(long, value_name = "EXPR", default_value = "", value_parser = filter, hide_default_value = true)]
    filter: Filter,
    /// At most this many hosts on the chord and the matrix, the rest is `other` [default: by room]
    #[arg(long, value_name = "N")]
    top: Option<usize>,
    /// Colours: dark, light, colour-blind or mono
    #[arg(long, default_value = "dark", value_parser = PossibleScheme)]
    theme: Scheme,
    /// Changes jump instead of moving
    #[arg(long)]
    no_animation: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    no_mouse: bool,
}

#[derive(Clone)]
struct PossibleScheme;

impl clap::builder::TypedValueParser for PossibleScheme {
    type Value = Scheme;
    fn parse_ref(&self, cmd: &clap::Command, arg: Option<&clap::Arg>, value: &std::ffi::OsStr) -> Result<Scheme, clap::Error> {
        let known = |name: String| Scheme::ALL.iter().find(|s| s.1 == name).map(|s| s.0).ok_or("not a theme");
        clap::builder::StringValueParser::new().try_map(known).parse_ref(cmd, arg, value)
    }
    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(Scheme::ALL.iter().map(|s| PossibleValue::new(s.1))))
    }
}

impl Look {
    fn options(&self) -> tui::Options {
        let default = tui::Options::default();
        tui::Options {
            start: tui::app::Start { top: self.top, filter: self.filter.to_string(), ..default.start },
            interval: self.interval.max(Duration::from_millis(50)),
            scheme: self.theme,
            manner: tui::stage::Manner { animate: !self.no_animation, ..default.manner },
            mouse: !self.no_mouse,
            maker: tui::save::Maker { tool: TOOL.to_owned(), host: host() },
            ..default
        }
    }

    pub(super) fn show(&self, interfaces: &[String], netns: Option<&str>, config: &Config, want: Want) -> Result<()> {
        let mut live = Live::open(interfaces, netns, config, want)?;
        tui::run(self.options(), &mut || Ok(tui::Reading { snapshot: live.read()?, notices: live.notices() }))
    }
}

impl Top {
    pub(super) fn run(self) -> Result<()> {
        match &self.read {
            None => self.look.show(&self.watch.interfaces, self.watch.netns.as_deref(), &self.watch.count.config(), self.watch.want()),
            Some(file) => {
                let mut replay = Replay::open(file, &self.watch.count.config())?;
                let mut readings = vec![replay.read()?];
                let mut step = self.look.interval.max(Duration::from_millis(1));
                let mut next = step;
                let ended = loop {
                    let more = replay.run(|r| r.elapsed() >= next);
                    readings.push(replay.read()?);
                    if !matches!(more, Ok(true)) {
                        break more;
                    }
                    if readings.len() > MOST_READINGS {
                        // A long capture: coarser steps, so that memory stays bounded.
                        let mut place = 0..;
                        readings.retain(|_| place.next().is_some_and(|i| i % 2 == 0));
                        step *= 2;
                    }
                    next = replay.elapsed() + step;
                };
                tui::run_recorded(self.look.options(), readings)?;
                ended.map(drop)
            }
        }
    }
}
