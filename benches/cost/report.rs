// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table: one line per measurement, its target and whether it is met; the same as JSON.
use std::{fmt, fs, sync::LazyLock};

use serde::Serialize;

/// The median and quartiles of a measurement.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Stat {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Stat {
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Stat {
        let mut v: Vec<f64> = values.into_iter().collect();
        v.sort_unstable_by(f64::total_cmp);
        let at = |part: usize| v.get(v.len() * part / 4).copied().unwrap_or(f64::NAN);
        Stat { median: at(2), low: at(1), high: at(3) }
    }

    pub(crate) fn exactly(value: f64) -> Stat {
        Stat { median: value, low: value, high: value }
    }
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) what: String,
    /// The unit of `ours`, `ancestor` and `floor`.
    pub(crate) unit: &'static str,
    /// The empty program (or nothing at all), gross.
    pub(crate) floor: Option<Stat>,
    /// The ancestor's method, without the floor.
    pub(crate) ancestor: Option<Stat>,
    /// The method of netobserv's agent, by the outer 5-tuple, without the floor.
    pub(crate) five_tuple: Option<Stat>,
    /// tmon, without the floor.
    pub(crate) ours: Stat,
    /// The median of the rounds' ratios, if there is something to compare with.
    pub(crate) ratio: Option<Stat>,
    /// The target: the maximum ratio, or the maximum of `ours` if there is no ratio.
    pub(crate) target: Option<f64>,
    /// Whether the target is met.
    pub(crate) met: Option<bool>,
}

impl Line {
    /// A cost without comparison.
    pub(crate) fn cost(what: impl Into<String>, unit: &'static str, ours: Stat) -> Line {
        Line {
            what: what.into(),
            unit,
            floor: None,
            ancestor: None,
            five_tuple: None,
            ours,
            ratio: None,
            target: None,
            met: None,
        }
    }

    /// Sets a maximum: for the ratio, or for the cost if there is no ratio.
    pub(crate) fn at_most(mut self, target: f64) -> Line {
        self.target = Some(target);
        self.met = Some(self.ratio.unwrap_or(self.ours).median <= target);
        self
    }

    /// Sets a minimum, relative to the value without us.
    pub(crate) fn at_least(mut self, target: f64) -> Line {
        self.target = Some(target);
        self.met = Some(self.ratio.unwrap_or(self.ours).median >= target);
        self
    }
}

/// Prints lines as they come and keeps them.
#[derive(Default)]
pub(crate) struct Report {
    pub(crate) lines: Vec<Line>,
    /// Where sections begin, and their names.
    headings: Vec<(usize, String)>,
}

fn number(n: f64) -> String {
    match n.abs() {
        x if x >= 1000.0 => format!("{n:.0}"),
        x if x >= 100.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let optional = |s: Option<Stat>| s.map_or("-".to_owned(), |s| number(s.median));
        let ratio = self
            .ratio
            .map_or("-".to_owned(), |r| format!("{:.3} ({:.3}-{:.3})", r.median, r.low, r.high));
        let verdict = match self.met {
            Some(true) => "met",
            Some(false) => "MISSED",
            None => "",
        };
        let target = self.target.map_or(String::new(), number);
        let [floor, ancestor, five_tuple] =
            [self.floor, self.ancestor, self.five_tuple].map(optional);
        let ours = number(self.ours.median);
        write!(
            f,
            "{:<50} {floor:>8} {ancestor:>9} {five_tuple:>8} {ours:>9} {:<7} {ratio:>22} {target:>8} {verdict}",
            self.what, self.unit
        )
    }
}

impl Report {
    pub(crate) fn heading(&mut self, title: &str) {
        println!(
            "\n{title}\n{:<50} {:>8} {:>9} {:>8} {:>9} {:<7} {:>22} {:>8}",
            "", "floor", "ancestor", "5-tuple", "tmon", "", "ratio (quartiles)", "target"
        );
        self.headings.push((self.lines.len(), title.to_owned()));
    }

    pub(crate) fn add(&mut self, line: Line) {
        println!("{line}");
        self.lines.push(line);
    }

    /// The table for docs/costs.
    pub(crate) fn page(&self, machine: &Machine, commit: &str, date: &str) -> String {
        let mut page = format!(
            "<!-- SPDX-License-Identifier: MIT OR Apache-2.0 -->\n# {}\n\n{}\n\n\
             Measured by `make bench KEEP=1` on {date}, commit {commit}. `ancestor` and `tmon` are without the \
             floor, medians of interleaved rounds on one CPU; what each line is: docs/COSTS.md.\n",
            machine.name, machine.rest
        );
        for (i, line) in self.lines.iter().enumerate() {
            if let Some((_, title)) = self.headings.iter().find(|(at, _)| *at == i) {
                page += &format!(
                    "\n## {title}\n\n| | floor | ancestor | 5-tuple | tmon | ratio (quartiles) | target |\n\
                     |---|---|---|---|---|---|---|\n"
                );
            }
            let optional = |s: Option<Stat>| s.map_or(String::new(), |s| number(s.median));
            let ratio = line
                .ratio
                .map_or(String::new(), |r| format!("{:.3} ({:.3}-{:.3})", r.median, r.low, r.high));
            let missed = if line.met == Some(false) { ", missed" } else { "" };
            let target = line.target.map_or(String::new(), |t| number(t) + missed);
            page += &format!(
                "| {} | {} | {} | {} | {} {} | {ratio} | {target} |\n",
                line.what,
                optional(line.floor),
                optional(line.ancestor),
                optional(line.five_tuple),
                number(line.ours.median),
                line.unit,
            );
        }
        page
    }
}

/// The machine used.
pub(crate) struct Machine {
    /// The CPU's name.
    pub(crate) name: String,
    /// Its family and model, the kernel, and the mitigations of both against speculation.
    pub(crate) rest: String,
    /// An identifier for file names.
    pub(crate) word: String,
    /// Whether indirect jumps, returns and helper calls are expensive: retpolines or SafeRET.
    pub(crate) is_dear: bool,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            let line = info.lines().find(|l| l.split(':').next().map(str::trim) == Some(name));
            line.and_then(|l| l.split(':').nth(1)).map_or("?", str::trim)
        };
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let mitigation = |name: &str| {
            let file = format!("/sys/devices/system/cpu/vulnerabilities/{name}");
            let text = fs::read_to_string(file).unwrap_or_default();
            text.split(';').next().unwrap_or_default().trim().replace("Mitigation: ", "")
        };
        let against =
            ["spectre_v2", "retbleed", "spec_rstack_overflow"].map(|name| (name, mitigation(name)));
        let is_dear = against.iter().any(|(_, what)| {
            (what.contains("Retpolines") && !what.contains("Enhanced")) || what.contains("Safe RET")
        });
        let name = field("model name").to_owned();
        let numbers = [field("cpu family"), field("model")];
        let rest = format!(
            "Family {}, model {}; Linux {}; {}. {}",
            numbers[0],
            numbers[1],
            kernel.trim(),
            against.map(|(name, what)| format!("{name}: {what}")).join("; "),
            match is_dear {
                true =>
                    "Indirect jumps and helper calls are expensive on it: targets are what a Zen 5 with SafeRET reached.",
                false =>
                    "Indirect jumps and helper calls are cheap on it: targets are those for Intel servers.",
            }
        );
        let word: String = format!("{name}-{}-{}", numbers[0], numbers[1])
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' })
            .collect();
        Machine { name, rest, word, is_dear }
    }
}

/// The maximum on CPUs where indirect jumps and helper calls are expensive, and on those where they
/// are cheap.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Goal(pub(crate) f64, pub(crate) f64);

impl Goal {
    pub(crate) fn here(self) -> f64 {
        static DEAR: LazyLock<bool> = LazyLock::new(|| Machine::here().is_dear);
        if *DEAR { self.0 } else { self.1 }
    }
}
