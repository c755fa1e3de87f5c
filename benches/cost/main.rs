// SPDX-License-Identifier: MIT OR Apache-2.0
//! What tmon costs, side by side with the ancestor's method and with an empty program.
//!
//! `cargo bench` (or `make bench`), as root, prints one table and writes it as JSON to
//! `target/cost.json`, and with KEEP=1 as a page in `docs/costs`. Words choose sections: `cargo
//! bench -- packets tables readers process captures path`. Absolute numbers depend on the machine;
//! the ratios matter.
//!
//! `instructions` is a section by itself: counts in a virtual machine, see `instructions.rs`.
//!
//! Packets go through BPF_PROG_TEST_RUN on one pinned CPU. In each round every program runs once,
//! for a millisecond or more; `net` is a program's time minus the empty program's in the same
//! round, and a ratio is the median of the rounds' ratios. Rounds that were preempted are repeated.
//! The object is the one that `tmon` itself loads, unchanged.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
#![allow(unsafe_code)]
use std::{
    env, fs,
    path::Path,
    process::{Command, ExitCode},
    time::SystemTime,
};

use anyhow::{Context, Result};
use model::units::timestamp;
use testkit::frames;

#[allow(warnings, clippy::all)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/ancestor.skel.rs"));
}
mod bench;
mod captures;
mod instructions;
mod packets;
mod path;
mod process;
mod readers;
mod report;
mod tables;
use report::{Machine, Report};

type Section = (&'static str, fn(&mut Report) -> Result<()>);

const SECTIONS: &[Section] = &[
    ("packets", packets::run),
    ("tables", tables::run),
    ("readers", readers::run),
    ("process", process::run),
    ("captures", captures::run),
    ("path", path::run),
];

fn measure() -> Result<()> {
    let words: Vec<String> = env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    if let [first, table @ ..] = words.as_slice()
        && first == "instructions"
    {
        return instructions::run(table.first().map(String::as_str));
    }
    let machine = Machine::here();
    println!("{}. {}", machine.name, machine.rest);
    let mut report = Report::default();
    for (name, run) in SECTIONS {
        if words.is_empty() || words.iter().any(|w| w == name) {
            run(&mut report).with_context(|| format!("measure {name}"))?;
        }
    }
    // .../target/release/deps/cost-...
    let program = env::current_exe().context("find target/")?;
    let file = program.ancestors().nth(3).context("find target/")?.join("cost.json");
    fs::write(&file, serde_json::to_vec_pretty(&report.lines)?)
        .with_context(|| format!("write {}", file.display()))?;
    if env::var_os("KEEP").is_some_and(|keep| !keep.is_empty()) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut git = Command::new("git");
        git.arg("-C").arg(folder).args(["rev-parse", "--short", "HEAD"]);
        let commit = git.output().map(|o| String::from_utf8_lossy(&o.stdout).trim().to_owned());
        let date = timestamp(SystemTime::now()).unwrap_or_default();
        let day = date.split('T').next().unwrap_or_default();
        let page = report.page(&machine, &commit.unwrap_or_default(), day);
        let file = folder.join("docs/costs").join(format!("{}.md", machine.word));
        fs::write(&file, page).with_context(|| format!("write {}", file.display()))?;
        println!("\nkept in {}", file.display());
    }
    let missed = report.lines.iter().filter(|l| l.met == Some(false)).count();
    println!(
        "\n{} of {} targets missed; {}",
        missed,
        report.lines.iter().filter(|l| l.met.is_some()).count(),
        file.display()
    );
    Ok(())
}

fn main() -> ExitCode {
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cost: {e:#}");
            ExitCode::FAILURE
        }
    }
}
