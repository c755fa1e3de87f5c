// SPDX-License-Identifier: MIT OR Apache-2.0
//! From the tables to the screen: reading, subtracting, grouping, drawing; and the memory of a row.
use std::{
    fs,
    hint::black_box,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, ensure};
use feed::Reading;
use model::{
    history::History,
    matrix::{Matrix, Measure, Scope, Tally},
    rows::Rows,
    snapshot::{Interval, Snapshot},
};
use ratatui::{buffer::Buffer, layout::Rect};
use tmon::kernel::bpf::Program;
use tui::{
    app::App,
    compose,
    look::Look,
    stage::{Manner, Stage},
    start::Start,
    theme::Theme,
    update::{Msg, update},
};

use crate::{
    bench::{Bench, Target, Varied, pin},
    frames::pkt,
    report::{Line, Report, Stat},
};

/// The number of hosts on each side: a row's outer pair is one of the first with one of the second.
const HOSTS: u32 = 16;
/// The number of ends in a chord.
const TOP: usize = 24;

/// Counts one packet in each of `rows` rows, the same rows each time.
fn traffic(bench: &mut Bench, rows: u32) -> Result<()> {
    let pairs = HOSTS * HOSTS;
    for pair in 0..pairs {
        let (a, b) = (pair / HOSTS, pair % HOSTS);
        let frame = pkt()
            .eth()
            .ip(&format!("172.16.0.{a} > 172.16.1.{b}"))
            .udp(54321, 4789)
            .vxlan(10_000 + pair % 4)
            .eth()
            .ip("10.0.0.1 > 10.1.0.0")
            .udp(1, 2)
            .data(64);
        let own = rows / pairs + u32::from(pair < rows % pairs);
        if own > 0 {
            bench.drive(Target::Ours, &Varied::new(frame, 72), own)?;
        }
    }
    Ok(())
}

fn read(program: &Program, at: u64) -> Result<Snapshot> {
    let mut rows = Rows::default();
    black_box(program.rows(0, &mut rows)?);
    black_box(program.books()?);
    let at = Duration::from_secs(at);
    Ok(Snapshot {
        origin: Default::default(),
        since: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH + at,
        at,
        interfaces: vec![],
        rows,
        drops: None,
        beside: Default::default(),
    })
}

fn timed<T>(f: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
    let begun = Instant::now();
    let value = f()?;
    Ok((value, begun.elapsed().as_secs_f64() * 1e3))
}

/// The anonymous memory of this process, in bytes.
fn anonymous() -> Result<f64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let line = status.lines().find_map(|l| l.strip_prefix("RssAnon:")).context("RssAnon")?;
    let kb: f64 = line.trim().trim_end_matches(" kB").parse().context("RssAnon")?;
    Ok(kb * 1024.0)
}

pub(crate) fn run(report: &mut Report) -> Result<()> {
    pin(1)?;
    report.heading("Reading");
    for (rows, table, n) in [(1u32 << 20, 1u32 << 20, 9), (10_000, 65_536, 41)] {
        let mut bench = Bench::new(table)?;
        bench.order(&(0..1 << 20).collect::<Vec<_>>())?;
        traffic(&mut bench, rows)?;
        let mut older = read(&bench.ours, 0)?;
        ensure!(older.rows.len() == rows as usize, "{} rows of {rows}", older.rows.len());
        let (mut reading, mut piping, mut all, mut past) = (vec![], vec![], vec![], vec![]);
        let mut history = History::default();
        for t in 1..=n {
            traffic(&mut bench, rows)?; // every row is live
            bench.order(&(0..1 << 20).collect::<Vec<_>>())?;
            let (newer, spent) = timed(|| read(&bench.ours, t))?;
            let (interval, piped): (Interval, f64) = timed(|| {
                let interval = newer.since(&older);
                let tally = Tally::of(&interval, &Scope::default());
                black_box(Matrix::new(&tally, Measure::Bytes, TOP));
                Ok(interval)
            })?;
            ensure!(interval.rows.len() == rows as usize, "{} rows were live", interval.rows.len());
            past.push(timed(|| Ok(history.push(&interval)))?.1);
            reading.push(spent);
            piping.push(piped);
            all.push(spent + piped);
            older = newer;
        }
        let name = if rows == 10_000 { "10,000" } else { "1,048,576" };
        let line = |what: &str, times: Vec<f64>| {
            Line::cost(format!("{what}, {name} rows"), "ms", Stat::of(times))
        };
        let [a, b, c] = [
            line("table -> Snapshot", reading),
            line("Snapshot -> Interval -> Matrix", piping),
            line("both", all),
        ];
        if rows == 10_000 {
            report.add(a);
            report.add(b);
            report.add(c.at_most(3.0));
        } else {
            report.add(a.at_most(150.0));
            report.add(b.at_most(150.0));
        }
        report.add(line("kept in the history", past));
    }
    weight(report)?;
    frames(report)
}

/// The memory of rows in a program that holds two readings and their difference.
fn weight(report: &mut Report) -> Result<()> {
    let rows = 1u32 << 20;
    let mut bench = Bench::new(rows)?;
    bench.order(&(0..rows).collect::<Vec<_>>())?;
    traffic(&mut bench, rows)?;
    let before = anonymous()?;
    let older = read(&bench.ours, 0)?;
    bench.order(&(0..rows).collect::<Vec<_>>())?;
    traffic(&mut bench, rows)?;
    let newer = read(&bench.ours, 1)?;
    let interval = newer.since(&older);
    let weight = anonymous()? - before;
    black_box((older, newer, interval));
    report.add(
        Line::cost(
            "user memory per row, two readings and interval",
            "bytes",
            Stat::exactly(weight / f64::from(rows)),
        )
        .at_most(200.0),
    );
    Ok(())
}

/// The dashboard at 10,000 live rows.
fn frames(report: &mut Report) -> Result<()> {
    let mut bench = Bench::new(65_536)?;
    let mut readings = Vec::new();
    for t in 0..32 {
        bench.order(&(0..1 << 20).collect::<Vec<_>>())?;
        traffic(&mut bench, 10_000)?;
        readings.push(read(&bench.ours, t)?);
    }
    for (view, key) in [("chord", '1'), ("matrix", '2'), ("table", '3')] {
        let mut app = App::new(Start::default())?;
        let press = crossterm::event::KeyEvent::new(
            crossterm::event::KeyCode::Char(key),
            crossterm::event::KeyModifiers::NONE,
        );
        update(&mut app, Msg::Resize(120, 40), Duration::ZERO);
        update(&mut app, Msg::Key(press), Duration::ZERO);
        let (mut look, mut stage) = (Look::new(Theme::default()), Stage::default());
        let area = Rect::new(0, 0, 120, 40);
        let (mut taken, mut drawn) = (vec![], vec![]);
        for (t, snapshot) in readings.iter().enumerate() {
            let now = Duration::from_secs(t as u64);
            let reading = Box::new(Reading::from(snapshot.clone()));
            taken.push(timed(|| Ok(update(&mut app, Msg::Reading(reading, now), now)))?.1);
            let manner = Manner { animate: false, ..Manner::default() };
            let frame = || {
                Ok(black_box(compose(
                    &app,
                    &mut look,
                    &mut stage,
                    manner,
                    now,
                    area,
                    &mut Buffer::empty(area),
                )))
            };
            drawn.push(timed(frame)?.1);
        }
        report.add(Line::cost(
            format!("a reading taken in, {view}, 10,000 rows"),
            "ms",
            Stat::of(taken),
        ));
        report.add(
            Line::cost(format!("a frame, {view}, 120x40, 10,000 rows"), "ms", Stat::of(drawn))
                .at_most(5.0),
        );
    }
    Ok(())
}
