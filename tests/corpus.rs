// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon replay` against packets that others captured and five other decoders read: the conformance
//! captures in `../shared/corpus` (or `TMON_CORPUS`), judged by the `compare.py` that comes with
//! them. Every tunnel packet must be right, except for the lines of `corpus-exceptions.txt`.
//!
//! A program of its own (`harness = false`), so that its table is shown on every run, and so that a
//! clone without the captures reports that nothing was judged instead of passing silently. In that
//! case the table of `parser.rs` is the judge. Needs python3, and root for comparing with the
//! kernel's results.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use feed::{Replay, config::Config, judge};
use model::flow::{Books, Flow};
use tmon::kernel::loaded;

/// One line of `compare.py`'s mismatches, or of the exceptions: what, how many packets, in which
/// capture.
type Mismatch = (String, u32, String);

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    if arguments.iter().any(|a| a == "--list") {
        println!("corpus: test");
        return ExitCode::SUCCESS;
    }
    let filter = arguments.iter().find(|a| !a.starts_with('-'));
    if filter.is_some_and(|f| !"corpus".contains(f.as_str()))
        || arguments.iter().any(|a| a == "--ignored")
    {
        return ExitCode::SUCCESS;
    }
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let said = env::var_os("TMON_CORPUS").map(PathBuf::from);
    let corpus = said.clone().unwrap_or_else(|| repository.join("../shared/corpus"));
    if !corpus.join("compare.py").exists() {
        if said.is_some() && env::var("CI").is_ok_and(|ci| ci == "true") {
            eprintln!(
                "corpus: FAILED: there is nothing in {}, which is TMON_CORPUS",
                corpus.display()
            );
            return ExitCode::FAILURE;
        }
        println!(
            "\ncorpus: NOT JUDGED, natively, by threads and by the kernel: there are no captures in {} (set TMON_CORPUS); the table of tests/parser.rs is the judge",
            corpus.display()
        );
        return ExitCode::SUCCESS;
    }
    let verdict = judge(&corpus, &repository.join("tests/corpus-exceptions.txt"));
    match verdict.and_then(|()| alike(&corpus)) {
        Ok(what) => {
            println!("corpus: {what}");
            ExitCode::SUCCESS
        }
        Err(why) => {
            eprintln!("corpus: FAILED: {why}");
            ExitCode::FAILURE
        }
    }
}

fn judge(corpus: &Path, exceptions: &Path) -> Result<(), String> {
    let listed = parse_exceptions(
        &fs::read_to_string(exceptions).map_err(|e| format!("{}: {e}", exceptions.display()))?,
    )?;
    let tmon = env!("CARGO_BIN_EXE_tmon");
    // compare.py does not survive a tool that fails: report the failure first
    let one = fs::read_dir(corpus.join("pcaps"))
        .map_err(|e| format!("{}: {e}", corpus.display()))?
        .flatten()
        .map(|e| e.path())
        .min();
    let one = one.ok_or("no captures")?;
    let probe = Command::new(tmon)
        .args(["replay", "--json"])
        .arg(&one)
        .output()
        .map_err(|e| format!("{tmon}: {e}"))?;
    if !probe.status.success() {
        let why = String::from_utf8_lossy(&probe.stderr);
        return Err(format!("tmon replay {} --json: {}", one.display(), why.trim()));
    }
    let output = Command::new("python3")
        .arg(corpus.join("compare.py"))
        .arg(corpus.join("expected"))
        .arg("--pcaps")
        .arg(corpus.join("pcaps"))
        .args([
            "--run",
            &format!("'{tmon}' replay '{{pcap}}' --json"),
            "--verbose",
            "--max",
            "100000",
        ])
        .output()
        .map_err(|e| format!("python3: {e} (it runs the judge, compare.py)"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{}", text.trim_end());
    if !output.status.success() {
        return Err(format!(
            "compare.py ended with {}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        ));
    }
    let found = parse_verdict(&text)?;
    let new: Vec<&Mismatch> = found.keys().filter(|m| !listed.contains_key(*m)).collect();
    let stale: Vec<&Mismatch> = listed.keys().filter(|m| !found.contains_key(*m)).collect();
    for (mismatch, reason) in listed.iter().filter(|(m, _)| found.contains_key(*m)) {
        println!("accepted: {} {} {}  # {reason}", mismatch.0, mismatch.1, mismatch.2);
    }
    match (new.len(), stale.len()) {
        (0, 0) => Ok(()),
        (n, 0) => Err(format!("{n} mismatches that {} does not explain", exceptions.display())),
        (_, s) => Err(format!(
            "{s} exceptions that do not happen (any more): {stale:?}; {} mismatches without one",
            new.len()
        )),
    }
}

/// The result for a capture: the interfaces with their books, and the rows.
type Seen = (Vec<(String, Books)>, Vec<Flow>);

fn replay(path: &Path, config: &Config, kernel: bool, threads: usize) -> Result<Seen, String> {
    let say = |e: anyhow::Error| format!("{}: {e:#}", path.display());
    let judge = if kernel { loaded::kernel } else { judge::host };
    let mut replay = Replay::open(&[path.to_owned()], config, judge).map_err(say)?;
    replay.set_threads(threads);
    if threads > 1 {
        replay.set_batch(3); // many jobs, however small the capture
    }
    while replay.advance(u64::MAX).map_err(say)? {}
    let total = replay.read().map_err(say)?;
    let interfaces = total.interfaces.iter().map(|i| (i.name.clone(), i.books)).collect();
    Ok((interfaces, total.rows.merged()))
}

/// Every capture through the native parser, by one thread and by several, and through the loaded
/// BPF programs, with equal results. Returns what was judged.
fn alike(corpus: &Path) -> Result<String, String> {
    let pcaps = fs::read_dir(corpus.join("pcaps")).map_err(|e| e.to_string())?;
    let mut pcaps: Vec<PathBuf> = pcaps.flatten().map(|e| e.path()).collect();
    pcaps.sort();
    let seed = Some([0x9e37_79b9_7f4a_7c15; 12]);
    let config = Config { rows: 1024, plain: true, seed, ..Config::default() };
    for pcap in &pcaps {
        let native = replay(pcap, &config, false, 1)?;
        for threads in [2, 3, 7] {
            if replay(pcap, &config, false, threads)? != native {
                return Err(format!("{}: {threads} threads see differently", pcap.display()));
            }
        }
    }
    let n = pcaps.len();
    if !nix::unistd::geteuid().is_root() {
        return Ok(format!(
            "{n} captures judged alike by 1, 2, 3 and 7 threads; NOT JUDGED by the kernel, which takes root"
        ));
    }
    for pcap in &pcaps {
        if replay(pcap, &config, true, 1)? != replay(pcap, &config, false, 1)? {
            return Err(format!("{}: the kernel and the native parser differ", pcap.display()));
        }
    }
    Ok(format!("{n} captures judged alike by the kernel and by 1, 2, 3 and 7 threads"))
}

/// The mismatches in the output of `compare.py`: its lines under "Mismatches"; an error if it did
/// not run.
fn parse_verdict(text: &str) -> Result<BTreeMap<Mismatch, String>, String> {
    if let Some(line) = text.lines().find(|l| l.starts_with("NO RESULT")) {
        return Err(line.to_owned());
    }
    let total = text.lines().find_map(|l| {
        l.strip_prefix("tunnel packets right: ")?.split(' ').nth(2)?.parse::<u32>().ok()
    });
    if total.is_none_or(|n| n == 0) {
        return Err("compare.py judged no packet".to_owned());
    }
    let lines = text.lines().skip_while(|l| *l != "Mismatches").skip(1);
    lines.map(|line| Ok((parse_mismatch(line)?, line.to_owned()))).collect()
}

/// `what N pkt capture ...` of `compare.py`, or `what N pkt capture` of the exceptions.
fn parse_mismatch(line: &str) -> Result<Mismatch, String> {
    let mut words = line.split_whitespace();
    match (words.next(), words.next().map(str::parse), words.next(), words.next()) {
        (Some(what), Some(Ok(n)), Some("pkt"), Some(capture)) => {
            Ok((what.to_owned(), n, capture.to_owned()))
        }
        _ => Err(format!("not 'what N pkt capture': {line}")),
    }
}

/// Lines `what N pkt capture  # reason`; empty lines and comments are skipped.
fn parse_exceptions(text: &str) -> Result<BTreeMap<Mismatch, String>, String> {
    let lines = text.lines().filter(|l| !l.trim().is_empty() && !l.starts_with('#'));
    lines
        .map(|line| match line.split_once(" # ") {
            Some((mismatch, reason)) if !reason.trim().is_empty() => {
                Ok((parse_mismatch(mismatch)?, reason.trim().to_owned()))
            }
            _ => Err(format!("corpus-exceptions.txt: no reason given: {line}")),
        })
        .collect()
}
