// SPDX-License-Identifier: MIT OR Apache-2.0
//! The number of instructions per packet. If the clock advances one nanosecond with each
//! instruction (`tests/vm.sh -i`), a duration is that number, the same in every run and on every
//! machine; so the table is checked in, and a change that makes a packet more expensive shows.
use std::{collections::BTreeMap, fmt::Write as _, fs};

use anyhow::{Context, Result, bail, ensure};
use model::flow::Hook;

use crate::{
    bench::{Bench, Target, pin, time},
    packets::{kinds, plain, vxlan44, watched},
};

/// The tolerated increase over the table.
const TOLERANCE: f64 = 0.01;
const TITLE: &str = "\
# Instructions that tmon adds to a packet: `make bench-instructions` writes this table, and
# `make check-costs` fails where one has become dearer by more than 1 %.
# Without what an empty program costs; one row, counted in by one CPU alone, unless it says more.
";

/// Without arguments, prints the table. With a file, compares with its contents.
pub(crate) fn run(table: Option<&str>) -> Result<()> {
    let counts = measure()?;
    let mut text = TITLE.to_owned();
    for (what, n) in &counts {
        writeln!(text, "{what:<44} {n:>6.0}")?;
    }
    print!("{text}");
    let Some(file) = table else { return Ok(()) };
    let known = parse(&fs::read_to_string(file).with_context(|| format!("read {file}"))?)?;
    let mut dearer = Vec::new();
    for (what, n) in &counts {
        match known.get(what.as_str()) {
            None => dearer.push(format!("{what}: not in the table")),
            Some(was) if *n > was * (1.0 + TOLERANCE) + 0.5 => {
                dearer.push(format!("{what}: {was:.0} before, {n:.0} now"));
            }
            Some(was) if *n < was * (1.0 - TOLERANCE) - 0.5 => {
                eprintln!("{what}: {was:.0} before, {n:.0} now: cheaper, the table can say so");
            }
            Some(_) => {}
        }
    }
    ensure!(
        dearer.is_empty(),
        "packets take more instructions than {file} says; if that is meant, write it anew with \
         `make bench-instructions`:\n  {}",
        dearer.join("\n  ")
    );
    Ok(())
}

fn parse(text: &str) -> Result<BTreeMap<String, f64>> {
    let lines = text.lines().filter(|l| !l.starts_with('#') && !l.trim().is_empty());
    lines
        .map(|line| {
            let (what, n) = line.trim().rsplit_once(' ').context("a line has no number")?;
            Ok((what.trim().to_owned(), n.parse().with_context(|| format!("no number: {line}"))?))
        })
        .collect()
}

/// The minimum of several runs: some of them include the timer's interrupts.
fn least(mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    (0..7).try_fold(f64::INFINITY, |least, _| Ok(run()?.min(least)))
}

/// For one frame, repeated; without the cost of a test run itself.
fn each(bench: &Bench, target: Target, hook: Hook, frame: &[u8]) -> Result<f64> {
    const PACKETS: u32 = 500;
    let all = |n: u32| least(|| Ok(time(bench.entry(target, hook), frame, n)? * f64::from(n)));
    Ok((all(3 * PACKETS)? - all(PACKETS)?) / f64::from(2 * PACKETS))
}

fn net(bench: &Bench, frame: &[u8]) -> Result<f64> {
    Ok(each(bench, Target::Ours, Hook::Rx, frame)? - each(bench, Target::Empty, Hook::Rx, frame)?)
}

fn measure() -> Result<Vec<(String, f64)>> {
    let mut bench = Bench::seeded(1024)?;
    pin(1)?;
    let floor = || each(&bench, Target::Empty, Hook::Rx, &vxlan44().bytes);
    let (once, again) = (floor()?, floor()?);
    if (once - again).abs() > 0.5 {
        bail!(
            "an empty program takes {once:.1} or {again:.1}: this clock does not count \
             instructions, run it with `make bench-instructions`"
        );
    }
    let mut counts = Vec::new();
    let mut add = |what: &str, n: f64| counts.push((what.to_owned(), n));
    let all = [("VXLAN v4/v4", vxlan44())]
        .into_iter()
        .chain(kinds().into_iter().map(|(what, frame, _)| (what, frame)));
    for (what, frame) in all {
        add(what, net(&bench, &frame.bytes)?);
    }
    for (what, frame) in watched() {
        add(what, net(&bench, &frame)?);
    }
    for (what, frame) in plain() {
        add(what, net(&bench, &frame)?);
    }

    // Created by a CPU other than the one that then counts in it, far more often than alternately.
    let mut of_two = vxlan44();
    of_two.bytes[of_two.at] ^= 1;
    pin(0)?;
    time(bench.entry(Target::Ours, Hook::Rx), &of_two.bytes, 1)?;
    pin(1)?;
    time(bench.entry(Target::Ours, Hook::Rx), &of_two.bytes, 1000)?;
    add("VXLAN v4/v4, a row that two CPUs count in", net(&bench, &of_two.bytes)?);

    let own = vxlan44();
    add("the ancestor's method, VXLAN v4/v4", {
        each(&bench, Target::Ancestor, Hook::Rx, &own.bytes)?
            - each(&bench, Target::Empty, Hook::Rx, &own.bytes)?
    });

    // Each round uses rows that have never been used.
    let fresh: Vec<u32> = (1 << 14..2 << 14).collect();
    let new_rows = |bench: &mut Bench, packets: u32| {
        bench.order(&fresh)?;
        let floor = least(|| bench.drive(Target::Empty, &own, packets))?;
        Ok::<_, anyhow::Error>(least(|| bench.drive(Target::Ours, &own, packets))? - floor)
    };
    let mut roomy = Bench::seeded(16_384)?;
    add("VXLAN v4/v4, a new row", new_rows(&mut roomy, 256)?);
    bench.order(&(0..1 << 14).collect::<Vec<u32>>())?;
    bench.drive(Target::Ours, &own, 1 << 14)?;
    add("VXLAN v4/v4, a new row, table full", new_rows(&mut bench, 256)?);
    Ok(counts)
}
