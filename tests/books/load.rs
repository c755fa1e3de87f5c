// SPDX-License-Identifier: MIT OR Apache-2.0
//! Full tables and busy rows: nothing is lost, nothing is counted twice, nothing goes backwards.
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, SystemTime},
};

use export::{Excerpt, Format, Writer, table};
use model::{
    filter::Filter,
    flow::{Count, Key},
    snapshot::Snapshot,
};
use ratatui::{buffer::Buffer, layout::Rect};
use testkit::cpu::stay_on;
use tmon::kernel::{attach::Want, bpf::Config};
use tui::{
    self,
    app::App,
    look::Look,
    stage::{Manner, Stage},
    start::Start,
    theme::Theme,
    update::{Msg, update},
};

use crate::ground::*;

/// The sum of all rows, by tunnel id.
fn ids(s: &Snapshot) -> BTreeMap<u32, Count> {
    let mut ids: BTreeMap<u32, Count> = BTreeMap::new();
    for f in s.rows.iter() {
        *ids.entry(f.key.outermost.id.unwrap_or(0)).or_default() += f.counters.total();
    }
    ids
}

/// Every counter of a reading, by row.
fn rows(s: &Snapshot) -> BTreeMap<(u16, Key), [[Count; 2]; 2]> {
    s.rows.merged().into_iter().map(|f| ((f.interface, f.key), f.counters.cells)).collect()
}

/// Asserts that no row and no book has decreased.
fn not_less(older: &Snapshot, newer: &Snapshot) {
    let now = rows(newer);
    for (key, before) in rows(older) {
        let after = now.get(&key).unwrap_or_else(|| panic!("a row is gone: {key:?}"));
        for (b, a) in before.iter().flatten().zip(after.iter().flatten()) {
            assert!(
                a.packets >= b.packets && a.bytes >= b.bytes,
                "{key:?} went from {before:?} to {after:?}"
            );
        }
    }
    for (b, a) in older.interfaces.iter().zip(&newer.interfaces) {
        for hook in [0, 1] {
            assert!(a.books.seen()[hook].packets >= b.books.seen()[hook].packets);
        }
    }
    let interval = newer.since(older);
    let least = |n: Count| n.packets < u64::MAX / 2 && n.bytes < u64::MAX / 2;
    assert!(interval.rows.iter().all(|f| least(f.counters.total())), "a difference below zero");
}

#[test]
fn a_flood_loses_nothing() {
    const ROWS: u32 = 512;
    let g = Ground::new();
    let mut live = g.watch(&Config { rows: ROWS, ..Config::default() }, Want::Best);
    let [near, far] = g.sockets(9);
    // The real traffic has its row before the flood begins, and continues through it.
    let each = send(&near, &far, 1);
    let ifindex = g.a.link("eth0").index;
    let flood = 10 * 2 * u64::from(ROWS); // a table holds twice what it is sized for
    let started = live.read().unwrap();
    let done = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let flooding = scope.spawn(|| {
            let raw = g.a.raw();
            let mut sent: BTreeMap<u32, Count> = BTreeMap::new();
            let mut random = 0x9e37_79b9_7f4a_7c15u64;
            for n in 0..flood {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let id = 1 + n as u32 % 4;
                let frame = vxlan(id, random as u32, (random >> 32) as u32);
                let times = inject(&raw, ifindex, &frame);
                *sent.entry(id).or_default() +=
                    Count { packets: times, bytes: times * frame.len() as u64 };
            }
            sent
        });
        let reading = scope.spawn(|| {
            let mut older = started;
            while !done.load(Ordering::Relaxed) {
                let newer = live.read().unwrap();
                not_less(&older, &newer);
                older = newer;
            }
        });
        let real = 1 + insist(&near, &far, 2000);
        let mut sent = flooding.join().unwrap();
        done.store(true, Ordering::Relaxed);
        reading.join().unwrap();
        sent.insert(VNI, Count { packets: real, bytes: real * each });
        sent
    });
    let (_, s) = at_rest(&mut live, &g.a, "eth0");
    assert_eq!(ids(&s), sent, "every id is exact");
    closed(&s);
    // The sum by hosts as well: there are only these two.
    let pair = s
        .rows
        .iter()
        .filter(|f| f.key.outer.is_some_and(|p| (p.first, p.second) == (outer(1), outer(2))));
    assert_eq!(
        pair.map(|f| f.counters.total()).sum::<Count>(),
        sent.values().copied().sum::<Count>()
    );
    // What found no room in the table is in the tunnels' `other` rows, and does not include the
    // real traffic.
    let others: Vec<_> = s.rows.merged().into_iter().filter(|f| f.key.other).collect();
    assert_eq!(
        others.iter().map(|f| f.key.outermost.id.unwrap()).collect::<Vec<_>>(),
        [1, 2, 3, 4]
    );
    let other: Count = others.iter().map(|f| f.counters.total()).sum();
    assert!(other.packets > flood / 2, "{other:?}");
    let real = s
        .rows
        .merged()
        .into_iter()
        .find(|f| f.key.outermost.id == Some(VNI) && !f.key.other)
        .unwrap();
    assert_eq!(real.counters.total(), sent[&VNI]);
    visible(&s, other);
}

/// Asserts that `other` is in JSON and on the screen.
fn visible(s: &Snapshot, other: Count) {
    let mut json = Vec::new();
    let total = s.total();
    Writer::new(&mut json, Format::Json, table::TableOptions::default())
        .write(&Excerpt::new("tmon", &total, &Filter::default()))
        .unwrap();
    let v: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let flows = v["flows"].as_array().unwrap();
    let shown: u64 =
        flows.iter().filter(|f| f["other"] == true).map(|f| f["tx_pkts"].as_u64().unwrap()).sum();
    assert_eq!(shown, other.packets);

    let mut app = App::new(Start::default()).unwrap();
    let empty =
        Snapshot { rows: Default::default(), taken: s.since, at: Duration::ZERO, ..s.clone() };
    for (t, mut snapshot) in [(0, empty), (1, s.clone())] {
        let at = Duration::from_secs(t);
        (snapshot.at, snapshot.since) = (at, SystemTime::UNIX_EPOCH);
        update(&mut app, Msg::Reading(Box::new(feed::Reading::from(snapshot)), at), at);
    }
    let area = Rect::new(0, 0, 140, 44);
    update(&mut app, Msg::Resize(area.width, area.height), Duration::from_secs(1));
    let mut buf = Buffer::empty(area);
    let manner = Manner { animate: false, ..Manner::default() };
    tui::compose(
        &app,
        &mut Look::new(Theme::default()),
        &mut Stage::default(),
        manner,
        Duration::from_secs(1),
        area,
        &mut buf,
    );
    let text: String = (0..area.height)
        .map(|y| (0..area.width).map(|x| buf[(x, y)].symbol()).collect::<String>() + "\n")
        .collect();
    let line = text
        .lines()
        .find(|l| l.contains("other "))
        .unwrap_or_else(|| panic!("no `other` on the screen:\n{text}"));
    assert!(line.contains('%'), "{line}");
}

/// The number of processors, at least two.
fn pin(n: usize) {
    stay_on(n % thread::available_parallelism().map_or(1, |n| n.get()));
}

#[test]
fn one_row_on_both_hooks_and_all_processors() {
    const EACH: u64 = 30_000;
    for want in wants() {
        let g = Ground::bare();
        let mut live = g.watch(&small(), want);
        // The same conversation in both directions: one row, four writers.
        let frames = [vxlan(7, 1, 2), answer(&vxlan(7, 1, 2))];
        let length = frames[0].len() as u64;
        let started = live.read().unwrap();
        let before = g.a.counted("eth0");
        let done = AtomicBool::new(false);
        let sent = thread::scope(|scope| {
            let writers: Vec<_> = (0..4)
                .map(|n| {
                    let (g, frame) = (&g, &frames[n / 2]);
                    scope.spawn(move || {
                        pin(n);
                        let (space, _) = g.ends()[n / 2];
                        let (raw, ifindex) = (space.raw(), space.link("eth0").index);
                        (0..EACH).map(|_| inject(&raw, ifindex, frame)).sum::<u64>()
                    })
                })
                .collect();
            let reader = scope.spawn(|| {
                let (mut older, mut readings) = (started, 0);
                while !done.load(Ordering::Relaxed) {
                    let newer = live.read().unwrap();
                    not_less(&older, &newer);
                    (older, readings) = (newer, readings + 1);
                }
                readings
            });
            let sent: Vec<u64> = writers.into_iter().map(|w| w.join().unwrap()).collect();
            done.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 1);
            sent[0] + sent[1]
        });
        // What was sent passed our hook, including what the other end had no room for; what arrived
        // is what the interface counts, once its queue is empty.
        let all = |packets| Count { packets, bytes: packets * length };
        assert_eq!(since(g.a.counted("eth0"), before)[1], all(2 * EACH));
        let arrived = since(g.a.counted("eth0"), before)[0];
        until("an empty queue", || live.read().unwrap().interfaces[0].books.counted[0] == arrived);
        let s = live.read().unwrap();
        let flows = s.rows.merged();
        assert_eq!(flows.len(), 1, "{flows:#?}");
        let c = flows[0].counters;
        assert_eq!((c.tx(), c.fwd()), (all(sent), all(sent)), "{want:?}");
        assert_eq!((c.rx(), c.rev()), (arrived, arrived), "{want:?}");
        assert!(arrived.packets > EACH, "{arrived:?}");
        closed(&s);
    }
}
