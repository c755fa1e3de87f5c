// SPDX-License-Identifier: MIT OR Apache-2.0
//! The cost of a frame: taking in a reading, and drawing it, by view, rows and size.
//!
//! `cargo bench --bench frame [-- ROWS]`: medians in milliseconds on this machine, in all colours
//! and, at the largest size, in 256. `ROWS` restricts it to one number of rows. Views of groups
//! show the same hosts, each in one of sixteen groups.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
use std::{
    hint::black_box,
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use feed::Reading;
use model::{
    flow::{Count, Counters, Flow, Inner, Key, Kind, Pair, Tunnel},
    groups::Groups,
    lines::Column,
    rows::Rows,
    snapshot::Snapshot,
};
use ratatui::{buffer::Buffer, layout::Rect};
use tui::{
    app::App,
    compose,
    look::Look,
    stage::{Manner, Stage},
    start::Start,
    theme::{Depth, Scheme, Theme},
    update::{Msg, update},
};

/// `rows` conversations among `hosts` hosts, after `t` seconds.
fn snapshot(hosts: u32, rows: u32, t: u64) -> Snapshot {
    let mut out = Rows::default();
    let host = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0x0a00_0000 + n % hosts));
    for i in 0..rows {
        let (a, b) = (i % hosts, i.wrapping_mul(2_654_435_761) >> 7);
        let (a, b) = (host(a).min(host(b)), host(a).max(host(b)));
        let bytes = t * (100 + u64::from(i.wrapping_mul(40_503) % 100_000));
        let sent = Count { packets: bytes / 100, bytes };
        let client = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0xc0a8_0000 + n));
        let key = Key {
            outer: Some(Pair { first: a, second: b }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(10_000 + i % 4) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: client(i), second: client(i / 2) }),
            other: false,
        };
        out.push_flow(
            i,
            &Flow {
                interface: 0,
                key,
                counters: Counters {
                    cells: [[Count::default(), sent], [sent, Count::default()]],
                    ..Default::default()
                },
            },
        );
    }
    let at = Duration::from_secs(t);
    Snapshot {
        origin: Default::default(),
        since: SystemTime::UNIX_EPOCH,
        taken: SystemTime::UNIX_EPOCH + at,
        at,
        interfaces: vec![],
        rows: out,
        drops: None,
        beside: Default::default(),
    }
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times.get(times.len() / 2).map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

fn main() {
    let only: Option<u32> = std::env::args().find_map(|a| a.parse().ok());
    println!(
        "{:>9} {:>6} {:>8} {:>9} {:>8} {:>12} {:>12} {:>12}",
        "rows", "hosts", "view", "size", "colours", "reading ms", "frame ms", "key ms"
    );
    for (hosts, rows, rounds) in [(9, 40, 30u64), (300, 10_000, 30), (300, 1_000_000, 4)] {
        if only.is_some_and(|n| n != rows) {
            continue;
        }
        let file = (0..16).map(|i| format!("10.0.{}.{}/28 g/{i}\n", i / 16, i % 16 * 16));
        let file: String = file.chain(["10.0.0.0/8 g/rest\n".to_owned()]).collect();
        let Ok(groups) = Groups::parse(&file) else { return };
        let groups = Some(Arc::new(groups));
        for (view, key, groups) in [
            ("chord", '1', None),
            ("matrix", '2', None),
            ("table", '3', None),
            ("groups", '1', groups.clone()),
            ("by group", '3', groups),
        ] {
            for (size, depth) in [
                ((80, 24), Depth::TrueColor),
                ((120, 40), Depth::TrueColor),
                ((300, 90), Depth::TrueColor),
                ((300, 90), Depth::Ansi256),
            ] {
                let start = Start { groups: groups.clone(), ..Start::default() };
                let Ok(mut app) = App::new(start) else { return };
                let press = |app: &mut App, c| {
                    update(
                        app,
                        Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)),
                        Duration::ZERO,
                    )
                };
                update(&mut app, Msg::Resize(size.0, size.1), Duration::ZERO);
                press(&mut app, key);
                if view == "by group" {
                    app.sort = Column::Groups;
                }
                let (mut look, mut stage) =
                    (Look::new(Theme::new(Scheme::Dark, depth)), Stage::default());
                let manner = Manner { animate: false, ..Manner::default() };
                let area = Rect::new(0, 0, size.0, size.1);
                let (mut reading, mut frame, mut keys) = (vec![], vec![], vec![]);
                for t in 1..=rounds {
                    let r = Box::new(Reading::from(snapshot(hosts, rows, t)));
                    let now = Duration::from_secs(t);
                    let mut draw = |app: &App| {
                        let begun = Instant::now();
                        let mut buf = Buffer::empty(area);
                        black_box(compose(app, &mut look, &mut stage, manner, now, area, &mut buf));
                        begun.elapsed()
                    };
                    let begun = Instant::now();
                    update(&mut app, Msg::Reading(r, now), now);
                    reading.push(begun.elapsed());
                    frame.push(draw(&app));
                    let begun = Instant::now();
                    press(&mut app, 'j');
                    keys.push(begun.elapsed() + draw(&app));
                }
                println!(
                    "{rows:>9} {hosts:>6} {view:>8} {:>9} {:>8} {:>12.2} {:>12.2} {:>12.2}",
                    format!("{}x{}", size.0, size.1),
                    if depth == Depth::TrueColor { "all" } else { "256" },
                    median(reading),
                    median(frame),
                    median(keys)
                );
            }
        }
    }
}
