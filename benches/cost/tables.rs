// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rare cases: a new row, a full table, two CPUs on one row. And the memory of a table.
use std::{collections::BTreeMap, fs, sync::Barrier, thread};

use anyhow::{Context, Result, ensure};
use model::{flow::Hook, rows::Rows};

use crate::{
    bench::{Bench, Target, pin, rounds, shuffled, time},
    packets::vxlan44,
    report::{Goal, Line, Report, Stat},
};

const ROWS: u32 = 65_536;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    report.heading("Tables of 65,536 rows");
    pin(1)?;
    // 41 rounds of these fill half of the table.
    report.add(all_new(
        &mut Bench::new(ROWS)?,
        "a new row for every packet",
        512,
        Goal(0.55, 1.0),
    )?);
    let mut full = Bench::new(ROWS)?;
    fill(&mut full)?;
    let what = "a new row for every packet, table full";
    report.add(all_new(&mut full, what, 4096, Goal(0.32, 0.62))?);
    two_cpus(report)?;
    memory(report)
}

/// Every packet of every round belongs to a new row.
fn all_new(bench: &mut Bench, what: &str, packets: u32, goal: Goal) -> Result<Line> {
    let own = vxlan44();
    let fresh: Vec<u32> = (1 << 20..2 << 20).collect();
    bench.order(&fresh)?;
    let rounds = rounds(41, || {
        let floor = bench.drive(Target::Empty, &own, packets)?;
        let ancestor = bench.drive(Target::Ancestor, &own, packets)? - floor;
        Ok((floor, ancestor, bench.drive(Target::Ours, &own, packets)? - floor))
    })?;
    let over = |f: fn(&(f64, f64, f64)) -> f64| Stat::of(rounds.iter().map(f));
    Ok(Line {
        floor: Some(over(|r| r.0)),
        ancestor: Some(over(|r| r.1)),
        ratio: Some(over(|r| r.2 / r.1)),
        ..Line::cost(what, "ns", over(|r| r.2))
    }
    .at_most(goal.here()))
}

fn fill(bench: &mut Bench) -> Result<()> {
    bench.order(&shuffled(1 << 20, 1))?;
    for t in [Target::Ancestor, Target::Ours] {
        bench.drive(t, &vxlan44(), 1 << 20)?;
    }
    let mut rows = Rows::default();
    let fill = bench.ours.rows(0, &mut rows)?;
    ensure!(fill.used * 1000 > fill.size * 995, "the table is not full: {fill:?}");
    Ok(())
}

/// One row, counted by two CPUs at the same time, on one hook or on one each, without losing
/// anything; compared with a row that only one CPU counts.
fn two_cpus(report: &mut Report) -> Result<()> {
    const PACKETS: u32 = 400_000;
    const ROUNDS: u64 = 11;
    for (what, hooks) in [
        ("two CPUs on one row, each, to one alone", [Hook::Rx, Hook::Rx]),
        ("rx on one CPU, tx on another, each, to one alone", [Hook::Rx, Hook::Tx]),
    ] {
        let shared = vxlan44().bytes;
        let mut own = shared.clone();
        own[vxlan44().at] ^= 1;
        let bench = Bench::new(ROWS)?;
        let alone = |t: Target| time(bench.entry(t, Hook::Rx), &own, PACKETS);
        let both = |t: Target| -> Result<f64> {
            let barrier = Barrier::new(2);
            let run = |cpu: usize, hook| {
                pin(cpu)?;
                barrier.wait();
                time(bench.entry(t, hook), &shared, PACKETS)
            };
            thread::scope(|s| {
                let other = s.spawn(|| run(0, hooks[0]));
                let this = s.spawn(|| run(1, hooks[1]));
                let times = [this.join(), other.join()]
                    .map(|r| r.unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))));
                let [a, b] = times;
                Ok((a? + b?) / 2.0)
            })
        };
        let (mut ratios, mut single) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
        for _ in 0..ROUNDS {
            let floor = (alone(Target::Empty)?, both(Target::Empty)?);
            for (i, t) in [Target::Ours, Target::Ancestor].into_iter().enumerate() {
                let lone = alone(t)? - floor.0;
                single[i].push(lone);
                ratios[i].push((both(t)? - floor.1) / lone);
            }
        }
        let mut rows = Rows::default();
        bench.ours.rows(0, &mut rows)?;
        let counted: Vec<u64> = rows.merged().iter().map(|f| f.counters.total().packets).collect();
        let sent = [1, 2].map(|cpus| cpus * ROUNDS * u64::from(PACKETS));
        ensure!(
            counted.len() == 2 && sent.iter().all(|n| counted.contains(n)),
            "lost updates: {counted:?} of {sent:?}"
        );
        let line = |what: &str, i: usize| Line {
            ratio: Some(Stat::of(ratios[i].iter().copied())),
            ..Line::cost(what, "ns", Stat::of(single[i].iter().copied()))
        };
        report.add(line(what, 0).at_most(Goal(1.4, 1.3).here()));
        report.add(line("the same, the ancestor", 1));
    }
    Ok(())
}

/// The memory of this process's maps, as reported by the kernel.
fn memory(report: &mut Report) -> Result<()> {
    let _bench = Bench::new(ROWS)?;
    // Array maps by the size of their elements: the largest array of tags is that of a table of
    // rows.
    let mut largest = BTreeMap::<u64, u64>::new();
    for entry in fs::read_dir("/proc/self/fdinfo").context("read fdinfo")? {
        let text = fs::read_to_string(entry?.path()).unwrap_or_default();
        let field = |name: &str| {
            text.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(':')?.trim().parse().ok())
        };
        if let (Some(2), Some(element), Some(memory)) =
            (field("map_type"), field("value_size"), field("memlock"))
        {
            let most = largest.entry(element).or_default();
            *most = memory.max(*most);
        }
    }
    for (what, slot, target) in
        [("kernel memory per row, IPv4", 64, 220.0), ("kernel memory per row, others", 128, 340.0)]
    {
        // Slots, second counters, tags.
        let parts = [slot, 40, 8].map(|n| largest.get(&n).copied().unwrap_or_default());
        ensure!(parts.iter().all(|n| *n > 0), "no map has elements of {slot}, 40 or 8 bytes");
        let all: u64 = parts.iter().sum();
        report.add(
            Line::cost(what, "bytes", Stat::exactly(all as f64 / f64::from(ROWS))).at_most(target),
        );
    }
    Ok(())
}
