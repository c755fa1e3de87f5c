// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dashboard as drawn: whole screens at fixed sizes from a fixed app, and its keys.
use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use feed::{CatchNews, Reading, names::Names, series::At};
use model::{
    beside::{Beside, Gathered, Handshakes, Opener},
    drops::{DeviceDrops, DropKey, Dropped, Drops, Victim},
    flow::{Books, Count, Flow, Hook, HookKind, Inner, InnerProto, Key, Kind, Pair, Stop, Tunnel},
    groups::{Group, Groups},
    interface::{Fill, Interface},
    lens::{Lens, LensEntry, LensRow},
    lines::Column,
    matrix::{End, Pick},
    overlay::{Event, Overlay},
    rows::Rows,
    rtt::{RoundTrips, Timed, Times},
    snapshot::Snapshot,
};
use ratatui::{buffer::Buffer, layout::Rect};
use tui::{
    app::App,
    compose,
    hits::{Hit, Hits},
    look::Look,
    stage::{Manner, Stage},
    start::Start,
    theme::{Depth, Scheme, Theme},
    update::{Msg, update},
    words::{Effect, Form, Notice, Unit, View},
};

const SIZES: [(u16, u16); 9] =
    [(0, 0), (1, 1), (2, 5), (9, 3), (40, 12), (80, 24), (120, 40), (200, 60), (300, 90)];
const STILL: Manner = Manner {
    animate: false,
    blocks: model::raster::Blocks::Quadrant,
    charset: model::charset::Charset::Unicode,
    aspect: 0.5,
    pixels: None,
    interval: Duration::from_secs(1),
};

fn v4(n: u32) -> IpAddr {
    Ipv4Addr::from_bits(n).into()
}

fn host(n: u32) -> IpAddr {
    v4(0xac10_0164 + n)
}

fn flow(a: u32, b: u32, net: u32, scale: u64, t: u64) -> Flow {
    let c = |bytes: u64| Count { packets: bytes.div_ceil(700), bytes };
    let client = |n| v4(0xc0a8_0001 + net * 256 + n);
    Flow {
        interface: 0,
        key: Key {
            outer: Some(Pair { first: host(a), second: host(b) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(10000 + net) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: client(a), second: client(b) }),
            other: false,
        },
        counters: model::flow::Counters {
            cells: [
                [Count::default(), c(scale * t * 300)],
                [c(scale * t * 1000), Count::default()],
            ],
            ..Default::default()
        },
    }
}

/// Nine hosts, four networks, and one of everything that a row can contain.
fn many(t: u64) -> Vec<Flow> {
    let mut flows: Vec<Flow> = (1..9).map(|b| flow(0, b, b % 4, 7 * u64::from(b * b), t)).collect();
    flows.extend([
        flow(1, 5, 1, 300, t),
        flow(2, 7, 2, 40, t),
        flow(3, 4, 3, 900, t),
        flow(6, 8, 0, 3, t),
    ]);
    let mut arp = flow(0, 1, 0, 1, t);
    arp.key.inner = Inner::Proto(InnerProto(0x0806));
    let mut nested = flow(2, 3, 1, 50, t);
    nested.key.innermost = Some(Tunnel { kind: Kind::Gtpu, id: Some(77) });
    nested.key.depth = 2;
    let mut other = flow(0, 2, 2, 2, t);
    other.key.inner = Inner::Proto(InnerProto(InnerProto::REASON + 9));
    other.key.other = true;
    flows.extend([arp, nested, other]);
    flows
}

/// Seven senders whose packets do not fit into the underlay's MTU, one of them remote.
fn fragmented(t: u64) -> Vec<Flow> {
    let mut flows = many(t);
    let far = |n: u16| IpAddr::from([0x2001, 0xdb8, 0x1234, 0x5678, 0x9abc, 0xdef0, 0x1234, n]);
    flows[4].key.outer = Some(Pair { first: far(1), second: far(2) });
    for f in &mut flows[2..9] {
        let sent = f.counters.cells[1][0];
        f.counters.fragments[1][0] =
            Count { packets: sent.packets * 2 / 3, bytes: sent.bytes * 2 / 3 };
    }
    flows
}

fn one(t: u64) -> Vec<Flow> {
    vec![flow(0, 1, 0, 10, t)]
}

fn largest(t: u64) -> Vec<Flow> {
    let mut flows = many(t);
    for f in &mut flows {
        f.counters.cells = [[Count { packets: u64::MAX / 20 * t, bytes: u64::MAX / 20 * t }; 2]; 2];
    }
    flows
}

fn nothing(_: u64) -> Vec<Flow> {
    vec![]
}

fn reading(t: u64, flows: Vec<Flow>) -> Reading {
    let mut rows = Rows::default();
    let mut books = Books::default();
    for (i, f) in flows.iter().enumerate() {
        rows.push_flow(i as u32, f);
        books.counted[0] += f.counters.rx();
        books.counted[1] += f.counters.tx();
        books.fragments[1] += f.counters.in_fragments().tx();
    }
    books.stops[Stop::Plain as usize] = [Count { packets: 30 * t, bytes: 4000 * t }; 2];
    books.stops[Stop::Malformed as usize][0] = Count { packets: t, bytes: 60 * t };
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let at = Duration::from_secs(t);
    let interface = Interface {
        ifindex: 3,
        hook: HookKind::Tcx,
        books,
        span: at,
        fill: Fill { used: rows.len() as u64, size: 64 },
        ..Interface::new(0, "eth\u{1b}[31m0")
    };
    Snapshot {
        origin: Default::default(),
        since,
        taken: since + at,
        at,
        interfaces: vec![interface],
        rows,
        drops: None,
        beside: Default::default(),
    }
    .into()
}

/// The same with drops: of three tunnels' packets, of others, and undetermined ones.
fn dropping(t: u64) -> Reading {
    let flows = many(t);
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let drops = |reason: &str, victim, packets: [u64; 2]| {
        let key = DropKey {
            reason: reason.into(),
            netns: None,
            elsewhere: false,
            device: Some("eth0".into()),
            victim,
        };
        let counts = packets.map(|n| Count { packets: n, bytes: 134 * n });
        (key, Dropped { counts, first: since, last: since + Duration::from_secs(t) })
    };
    let of = |n: usize| Victim::Tunnel(flows[n].key);
    let mut all = Drops::new([
        drops("VXLAN_VNI_NOT_FOUND", of(0), [5 * t, 0]),
        drops("NETFILTER_DROP", of(0), [t, 2 * t]),
        drops("NETFILTER_DROP", of(3), [0, 3 * t]),
        drops("NETFILTER_DROP", Victim::Plain, [4 * t, 0]),
        drops("IP_RPFILTER", of(6), [12_345 * t, 0]),
        drops("FRAG_REASM_TIMEOUT", Victim::Unknown, [t, 0]),
        drops("NO_SOCKET", Victim::Plain, [40 * t, 0]),
    ]);
    (all.elsewhere, all.missed) = (7 * t, 0);
    let device = DeviceDrops { rx_dropped: 3 * t, rx_missed: 0, tx_dropped: 0, qdisc: t };
    all.devices.insert((None, "eth0".into()), device);
    let mut reading = reading(t, flows);
    reading.snapshot.drops = Some(Arc::new(all));
    reading
}

/// The same with TCP connections: those of one row are answered, some of another are not.
fn opening(t: u64) -> Reading {
    let flows = many(t);
    let mut read = Gathered::default();
    for (n, unanswered) in [(1, 0), (3, 2 * t)] {
        let opener = Opener { interface: 0, key: flows[n].key, hook: Hook::Tx };
        let counts = Handshakes { syns: 30 * t, unanswered, ..Handshakes::default() };
        read.add_handshakes([(opener, counts)]);
    }
    let mut reading = reading(t, flows);
    reading.snapshot.beside = Arc::new(Beside::new(read));
    reading
}

fn app_of(reading: fn(u64) -> Reading) -> App {
    let mut app =
        App::new(Start { title: "lab".to_owned(), ..Start::default() }).expect("no filter");
    for t in 1..=8 {
        let at = Duration::from_secs(t);
        update(&mut app, Msg::Reading(Box::new(reading(t)), at), at);
    }
    app
}

fn app(data: fn(u64) -> Vec<Flow>) -> App {
    let mut app =
        App::new(Start { title: "lab".to_owned(), ..Start::default() }).expect("no filter");
    for t in 1..=8 {
        feed(&mut app, t, data);
    }
    app
}

fn feed(app: &mut App, t: u64, data: fn(u64) -> Vec<Flow>) {
    // the peak is in the fifth interval
    let extra = if t >= 5 { 3 } else { 0 };
    update(
        app,
        Msg::Reading(Box::new(reading(t, data(t + extra))), Duration::from_secs(t)),
        Duration::from_secs(t),
    );
}

fn draw_with(app: &mut App, theme: Theme, (w, h): (u16, u16)) -> (Buffer, Hits) {
    let area = Rect::new(0, 0, w, h);
    update(app, Msg::Resize(w, h), NOW);
    let mut buf = Buffer::empty(area);
    let hits =
        compose(app, &mut Look::new(theme), &mut Stage::default(), STILL, NOW, area, &mut buf);
    (buf, hits)
}

const NOW: Duration = Duration::from_millis(8300);

fn text(buf: &Buffer) -> String {
    let line = |y| {
        (0..buf.area.width).map(|x| buf[(x, y)].symbol()).collect::<String>().trim_end().to_owned()
    };
    (0..buf.area.height).map(line).collect::<Vec<_>>().join("\n")
}

fn screen(app: &mut App, size: (u16, u16)) -> String {
    text(&draw_with(app, Theme::default(), size).0)
}

/// The screen without the inside of the chord, which has tests of its own.
fn frame(app: &mut App, (w, h): (u16, u16)) -> String {
    let area = Rect::new(0, 0, w, h);
    update(app, Msg::Resize(w, h), NOW);
    let mut look = Look::new(Theme::default());
    look.learn(&app.picture.matrix.ends);
    let mut buf = Buffer::empty(area);
    let mut sheets = tui::sheets::Sheets::default();
    sheets.write(app, &look, area);
    tui::screen::draw(app, &look, &sheets, NOW, area, &mut buf);
    text(&buf)
}

/// Presses keys: words are key names, other letters stand for themselves.
fn press(app: &mut App, keys: &str) -> Option<Effect> {
    let mut effect = None;
    for word in keys.split(' ').filter(|w| !w.is_empty()) {
        let code = match word {
            "Enter" => KeyCode::Enter,
            "Esc" => KeyCode::Esc,
            "Tab" => KeyCode::Tab,
            "Up" => KeyCode::Up,
            "Down" => KeyCode::Down,
            "Left" => KeyCode::Left,
            "Right" => KeyCode::Right,
            "Space" => KeyCode::Char(' '),
            "Back" => KeyCode::Backspace,
            word => {
                for c in word.chars() {
                    effect = update(
                        app,
                        Msg::Key(KeyEvent::new(KeyCode::Char(c), KeyModifiers::NONE)),
                        NOW,
                    );
                }
                continue;
            }
        };
        effect = update(app, Msg::Key(KeyEvent::new(code, KeyModifiers::NONE)), NOW);
    }
    effect
}

#[test]
fn every_view_at_every_size_with_every_data_and_theme() {
    for data in [nothing as fn(u64) -> Vec<Flow>, one, many, largest] {
        for keys in [
            "",
            "j l",
            "Tab",
            "Tab j l l",
            "3",
            "3 j j",
            "4",
            "?",
            "4 j j j",
            "Enter",
            "Enter j Enter",
            "/ host:1",
            "t",
            "b b",
            "t 3",
            "p",
            "m j m c",
        ] {
            let mut app = app(data);
            press(&mut app, keys);
            for size in SIZES {
                let few = [
                    Theme::new(Scheme::Light, Depth::Ansi16),
                    Theme::new(Scheme::Mono, Depth::Mono),
                ];
                let few = if size.0 <= 80 { &few[..] } else { &[] };
                for theme in [Theme::default()].iter().chain(few) {
                    let (buf, _) = draw_with(&mut app, *theme, size);
                    assert!(!text(&buf).contains('\u{1b}'), "an escape reached the screen");
                }
            }
        }
    }
    // before anything was read, and after one reading
    let mut empty = App::new(Start::default()).expect("no filter");
    for size in SIZES {
        draw_with(&mut empty, Theme::default(), size);
    }
    feed(&mut empty, 1, many);
    assert!(screen(&mut empty, (80, 24)).contains("counting the first interval"));
}

#[test]
fn whole_screens() {
    for (name, keys) in [
        ("chord", ""),
        ("ribbon", "j l"),
        ("matrix", "2"),
        ("cell", "2 j j l l"),
        ("table", "3"),
        ("row", "3 j"),
        ("health", "4"),
        ("help", "?"),
    ] {
        for size in [(40, 12), (80, 24), (120, 40)] {
            let mut app = app(many);
            press(&mut app, keys);
            insta::assert_snapshot!(format!("{name}-{}x{}", size.0, size.1), frame(&mut app, size));
        }
    }
}

#[test]
fn drops_are_shown_in_every_view() {
    for (name, keys) in [
        ("chord", "1"),
        ("matrix", "2"),
        ("table", "3"),
        ("table-totals", "3 r"),
        ("health", "4"),
        ("pair", "2 j j l l"),
    ] {
        for size in [(40, 12), (80, 24), (120, 40)] {
            let mut app = app_of(dropping);
            press(&mut app, keys);
            let name = format!("drops-{name}-{}x{}", size.0, size.1);
            insta::assert_snapshot!(name, frame(&mut app, size));
        }
    }
}

/// A reading of a host whose configuration changed in the third second, and twice in the sixth.
fn changing(t: u64) -> Reading {
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let event = |at: f64, text: &str| Event {
        at: since + Duration::from_secs_f64(at),
        text: text.to_owned(),
        address: None,
        device: None,
    };
    let mut events = vec![
        event(0.5, "before the first reading"),
        event(2.5, "vxlan0 forwards 02:00:00:00:00:09 to 172.16.1.250"),
        event(5.2, "eth0 is down\u{1b}"),
        event(5.9, "there is no route to 10.0.0.0/8 by eth0"),
    ];
    events.retain(|e| e.at <= since + Duration::from_secs(t));
    let overlay = Overlay { events, ..Overlay::default() };
    Reading { overlay: Some(Arc::new(overlay)), ..reading(t, many(t)) }
}

#[test]
fn changes_of_the_host_are_marked_in_the_timeline_and_can_be_read() {
    let mut app = app_of(changing);
    for size in [(80, 24), (120, 40)] {
        let live = screen(&mut app, size);
        let marks = live.lines().filter(|l| l.contains("peak")).map(|l| l.matches('▾').count());
        assert_eq!(marks.sum::<usize>(), 2, "{live}");
        assert!(!live.contains("vxlan0 forwards"), "{live}");
    }
    press(&mut app, "x");
    assert_eq!(app.series.number(), app.series.events().last().map(|e| e.0));
    let held = screen(&mut app, (80, 24));
    assert!(held.contains("eth0 is down") && held.contains("and 1 more change"), "{held}");
    press(&mut app, "x");
    let held = screen(&mut app, (80, 24));
    assert!(held.contains("vxlan0 forwards 02:00:00:00:00:09 to 172.16.1.250"), "{held}");
    press(&mut app, "x");
    assert!(screen(&mut app, (80, 24)).contains("nothing changed on the host before this"));
    // All of them, the newest first; those up to the time shown if the picture is held.
    press(&mut app, "5");
    let listed = screen(&mut app, (80, 24));
    assert!(listed.contains("02:00:00:00:00:09") && !listed.contains("no route"), "{listed}");
    press(&mut app, "Space");
    insta::assert_snapshot!("events-findings-80x24", screen(&mut app, (80, 24)));
}

#[test]
fn unknown_drops_are_not_shown_as_none() {
    let unknown = |t| {
        let mut reading = dropping(t);
        let mut drops = Drops::default();
        drops.unavailable = Some("this kernel has no type information of itself".into());
        reading.snapshot.drops = Some(Arc::new(drops));
        reading
    };
    let mut app = app_of(unknown);
    press(&mut app, "3");
    app.sort = Column::Dropped;
    assert!(app.picture.lines.list.iter().all(|l| l.dropped.is_none()));
    press(&mut app, "4");
    assert!(frame(&mut app, (80, 24)).contains("not known by reason: this kernel has no type"));
    let mut quiet = app_of(|t| {
        let mut reading = dropping(t);
        reading.snapshot.drops = Some(Arc::default());
        reading
    });
    press(&mut quiet, "3");
    let lines = &quiet.picture.lines.list;
    assert!(lines.iter().all(|l| l.dropped == Some(Count::default())));
}

#[test]
fn the_table_can_be_sorted_by_drops() {
    let mut app = app_of(dropping);
    press(&mut app, "3");
    while app.sort != Column::Dropped {
        press(&mut app, "s");
    }
    let dropped = |l: &model::lines::Line| l.dropped.expect("known").packets;
    let first: Vec<u64> = app.picture.lines.list.iter().take(4).map(dropped).collect();
    assert_eq!(first, [12_345, 8, 3, 0], "per second");
}

#[test]
fn unanswered_connections_fit_in_the_table() {
    for size in [(80, 24), (120, 40)] {
        let mut app = app_of(opening);
        press(&mut app, "3");
        insta::assert_snapshot!(format!("syn-{}x{}", size.0, size.1), frame(&mut app, size));
    }
}

#[test]
fn health_shows_which_tunnels_are_fragmented() {
    for size in [(80, 24), (120, 40)] {
        let mut app = app(fragmented);
        press(&mut app, "4");
        insta::assert_snapshot!(format!("fragments-{}x{}", size.0, size.1), frame(&mut app, size));
    }
    // the picture shows one network, and the inside of one host
    let mut app = app(fragmented);
    press(&mut app, "4 i");
    let (of, n) = (app.tunnel.expect("one network"), app.picture.fragmented.len());
    assert!(n > 0 && app.picture.fragmented.iter().all(|f| f.tunnel == of));
    press(&mut app, "3");
    assert!(app.picture.fragmented.is_empty(), "only made for the view that shows it");
}

#[test]
fn wide_screens() {
    for (name, keys) in [("chord", "j"), ("matrix", "2"), ("table", "3 j")] {
        let mut app = app(many);
        press(&mut app, keys);
        insta::assert_snapshot!(format!("{name}-200x60"), frame(&mut app, (200, 60)));
    }
}

#[test]
fn addresses_of_a_named_network_can_be_told_apart() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "172.16.1.0/24 rack\n").unwrap();
    let names = Names::read(Some(file.path())).unwrap();
    let mut app = App::new(Start { names, ..Start::default() }).expect("no filter");
    for t in 1..=3 {
        feed(&mut app, t, many);
    }
    for keys in ["1", "3"] {
        press(&mut app, keys);
        let shown = screen(&mut app, (120, 40));
        assert!(
            shown.contains("rack.100") && shown.contains("rack.101") && !shown.contains("172.16.1"),
            "{shown}"
        );
    }
    press(&mut app, "n");
    assert!(screen(&mut app, (120, 40)).contains("172.16.1.100"));
    // The breadcrumb is rewritten as well: it stores what was entered, not its label.
    press(&mut app, "1 n Enter");
    let path = |app: &mut App| {
        screen(app, (120, 40)).lines().find(|l| l.contains("hosts › ")).map(str::to_owned)
    };
    assert!(path(&mut app).is_some_and(|l| l.contains("rack.100")));
    press(&mut app, "n");
    assert!(path(&mut app).is_some_and(|l| l.contains("172.16.1.100")));
}

#[test]
fn names_that_are_found_later_come_in_as_messages() {
    let mut app = app(many);
    for (keys, asked) in [("1", (host(0), false)), ("3", (v4(0xc0a8_0001), true))] {
        press(&mut app, keys);
        assert!(app.addresses().contains(&asked), "{keys}");
        assert!(!screen(&mut app, (120, 40)).contains("node-a"));
        update(&mut app, Msg::Named([(asked, "node-a".to_owned())].into_iter().collect()), NOW);
        assert!(screen(&mut app, (120, 40)).contains("node-a"), "{keys}");
        update(&mut app, Msg::Named(Default::default()), NOW);
    }
    press(&mut app, "n");
    assert!(app.addresses().is_empty(), "names are requested only for what is shown");
}

#[test]
fn the_largest_numbers_fit() {
    for (name, keys) in [("matrix", "2"), ("table", "3"), ("health", "4 t")] {
        let mut app = app(largest);
        press(&mut app, keys);
        insta::assert_snapshot!(format!("largest-{name}-80x24"), screen(&mut app, (80, 24)));
    }
}

#[test]
fn the_mouse_acts_on_what_is_under_it() {
    let mut app = app(many);
    press(&mut app, "2");
    let (buf, hits) = draw_with(&mut app, Theme::default(), (120, 40));
    let text = text(&buf);
    let find = |word: &str| {
        let (y, line) =
            text.lines().enumerate().find(|(_, l)| l.contains(word)).expect("it is on the screen");
        (line[..line.find(word).expect("it is there")].chars().count() as u16, y as u16)
    };
    let at = |word| {
        let (x, y) = find(word);
        hits.at(x, y)
    };
    assert_eq!(at("table"), Some(Hit::Key(tui::keys::Action::Table)));
    assert_eq!(
        at("vxlan 10003"),
        Some(Hit::Tunnel(Some(Tunnel { kind: Kind::Vxlan, id: Some(10003) })))
    );
    assert_eq!(at("172.16.1.104"), Some(Hit::Pick(Pick::End(End::Addr(host(4))))));
    for hit in
        (0..120).flat_map(|x| (0..40).map(move |y| (x, y))).filter_map(|(x, y)| hits.at(x, y))
    {
        let mut app = app.clone();
        update(&mut app, Msg::Click(hit), NOW);
        update(&mut app, Msg::Click(hit), NOW);
        draw_with(&mut app, Theme::default(), (120, 40));
    }
}

#[test]
fn keys_change_the_app() {
    type Check = fn(&App) -> bool;
    let rows: &[(&str, Check)] = &[
        ("", |a| {
            a.view == View::Chord
                && a.pick.is_none()
                && a.series.at() == At::Live
                && a.rate
                && a.unit == Unit::Bits
        }),
        ("Tab", |a| a.view == View::Matrix),
        ("Tab Tab Tab Tab Tab", |a| a.view == View::Chord),
        ("3", |a| a.view == View::Table && a.picture.lines.list.len() == 15),
        ("H", |a| a.view == View::Health),
        ("?", |a| a.help),
        ("? Esc", |a| !a.help),
        ("? ?", |a| !a.help),
        ("b", |a| a.unit == Unit::Bytes),
        ("b b b", |a| a.unit == Unit::Bits),
        ("t", |a| !a.rate && a.sort == Column::Total),
        ("t t", |a| a.rate && a.sort == Column::Rate),
        // the cursor
        ("j", |a| a.pick == Some(Pick::End(a.picture.matrix.ends[0]))),
        ("j j", |a| a.pick == Some(Pick::End(a.picture.matrix.ends[1]))),
        ("G", |a| a.pick == Some(Pick::End(a.picture.matrix.ends[0]))),
        ("j G", |a| a.pick == a.picture.matrix.ends.last().map(|e| Pick::End(*e))),
        ("j G g", |a| a.pick == Some(Pick::End(a.picture.matrix.ends[0]))),
        ("j k k", |a| a.pick == Some(Pick::End(a.picture.matrix.ends[0]))),
        (
            "j l",
            |a| matches!(a.pick, Some(Pick::Pair(x, y)) if a.picture.matrix.partners(x, a.unit.measure())[0] == y),
        ),
        ("j l h", |a| matches!(a.pick, Some(Pick::End(_)))),
        (
            "j h",
            |a| matches!(a.pick, Some(Pick::Pair(x, y)) if a.picture.matrix.partners(x, a.unit.measure()).last() == Some(&y)),
        ),
        ("j Esc", |a| a.pick.is_none()),
        ("2 j l", |a| {
            a.pick == Some(Pick::Pair(a.picture.matrix.ends[0], a.picture.matrix.ends[0]))
        }),
        ("2 j l l j", |a| {
            a.pick == Some(Pick::Pair(a.picture.matrix.ends[1], a.picture.matrix.ends[1]))
        }),
        ("3 j", |a| a.row.is_some() && matches!(a.pick, Some(Pick::Pair(..)))),
        // the selection is the same in all views
        ("j l 3", |a| {
            a.row.is_some_and(|(_, k)| {
                let p = k.outer.expect("it has one");
                a.pick.is_some_and(|pick| pick.includes(End::Addr(p.first), End::Addr(p.second)))
            })
        }),
        // deeper and back
        ("j Enter", |a| {
            a.crumbs.len() == 1
                && a.pick.is_none()
                && a.picture.matrix.ends.iter().all(|e| {
                    e.to_string().starts_with("192.168")
                        || matches!(e, End::Inside(..) | End::Other)
                })
        }),
        ("j Enter Esc", |a| {
            a.crumbs.is_empty() && a.pick == Some(Pick::End(a.picture.matrix.ends[0]))
        }),
        ("j Enter j Enter", |a| a.crumbs.len() == 2 && a.view == View::Table),
        ("j Enter j Enter Esc Esc", |a| a.crumbs.len() == 1 && a.view == View::Chord),
        ("j Enter j Enter j Enter", |a| a.crumbs.len() == 2 && a.notices.len() == 1),
        ("Enter", |a| a.crumbs.len() == 1),
        ("m", |a| a.marks.len() == 1),
        ("m m", |a| a.marks.is_empty()),
        ("j m j m Enter", |a| {
            a.crumbs.len() == 1 && a.crumb(0).ends_with("+1") && a.marks.is_empty()
        }),
        ("j m j m Enter Esc", |a| a.crumbs.is_empty() && a.marks.len() == 2),
        ("j m c", |a| a.marks.is_empty()),
        // tunnels, by kind and id
        ("i", |a| a.tunnel == Some(Tunnel { kind: Kind::Vxlan, id: Some(10000) })),
        ("i i i i", |a| a.tunnel == Some(Tunnel { kind: Kind::Vxlan, id: Some(10003) })),
        ("i i i i i", |a| a.tunnel.is_none()),
        ("I", |a| a.tunnel == Some(Tunnel { kind: Kind::Vxlan, id: Some(10003) })),
        ("i", |a| a.picture.tally.total < a.picture.tally.everything),
        // filters
        ("/ host:172.16.1.101 Enter", |a| {
            a.filter_text == "host:172.16.1.101"
                && a.picture.matrix.index(End::Addr(host(2))).is_none()
        }),
        ("/ host:172.16.1.101", |a| a.editing.is_some() && a.picture.matrix.len() == 3),
        ("/ host:172.16.1.101 Esc", |a| {
            a.editing.is_none() && a.filter.is_empty() && a.picture.matrix.len() > 3
        }),
        ("/ nonsense", |a| {
            a.editing.as_ref().is_some_and(|e| e.error.is_some()) && a.filter.is_empty()
        }),
        ("/ nonsense Enter", |a| a.editing.is_some()),
        ("/ vni:10001 Back Back Back Back Back Back Back Back Back Enter", |a| {
            a.filter.is_empty() && a.editing.is_none()
        }),
        ("/ q", |a| a.editing.as_ref().is_some_and(|e| e.text == "q")),
        // time
        ("Space", |a| a.series.at() == At::Past(6)),
        ("Space Space", |a| a.series.at() == At::Live),
        ("[", |a| a.series.at() == At::Past(5) && a.picture.number == Some(5)),
        ("[ ]", |a| a.series.at() == At::Past(6)),
        ("[ ] ]", |a| a.series.at() == At::Live),
        ("{ {", |a| a.series.at() == At::Past(0)),
        ("{ }", |a| a.series.at() == At::Live),
        ("]", |a| a.series.at() == At::Live),
        ("p", |a| a.series.at() == At::Past(3)),
        ("p t", |a| a.picture.elapsed == Duration::from_secs(4)),
        // order and number
        ("s", |a| a.by_name && a.picture.matrix.ends.is_sorted()),
        ("3 s", |a| a.sort == Column::Total),
        ("3 s s", |a| a.sort == Column::Interface),
        ("3 S", |a| a.reversed),
        ("- - -", |a| a.picture.matrix.folded > 0),
        ("- - - +", |a| a.picture.matrix.folded < 9),
    ];
    for (keys, check) in rows {
        let mut app = app(many);
        press(&mut app, keys);
        assert!(
            check(&app),
            "after '{keys}': {:?} {:?} {:?} {:?}",
            app.view,
            app.pick,
            app.series.at(),
            app.tunnel
        );
    }
    for (keys, effect) in [
        ("q", Effect::Quit),
        ("e", Effect::Save(Form::Picture)),
        ("E", Effect::Save(Form::Page)),
        ("? q", Effect::Quit),
        ("T", Effect::Theme),
        ("j w", Effect::Catch(Some("host:172.16.1.100".parse().expect("a filter")))),
        ("j L", Effect::Look(Some("host:172.16.1.100".parse().expect("a filter")))),
    ] {
        assert_eq!(press(&mut app(many), keys), Some(effect), "{keys}");
    }
}

/// The nine hosts in zones and racks, except the last.
const ZONES: &str = "172.16.1.100 eu/zone-a/rack-1\n172.16.1.101 eu/zone-a/rack-2\n\
        172.16.1.102 172.16.1.103 eu/zone-b\nnode-* us\n172.16.1.106 us/zone-c\n";

/// They are in these groups, and some have names.
fn in_groups(file: &str) -> App {
    let names = "172.16.1.104 node-4\n172.16.1.105 node-5\n172.16.1.107 db\n";
    let mut book = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut book, names.as_bytes()).expect("written");
    let mut app = App::new(Start {
        title: "lab".to_owned(),
        names: Names::read(Some(book.path())).expect("names"),
        groups: Some(Arc::new(Groups::parse(file).expect("groups"))),
        ..Start::default()
    })
    .expect("no filter");
    for t in 1..=8 {
        feed(&mut app, t, many);
    }
    app
}

/// A UE: uplink and downlink have an id each.
fn of_a_ue(t: u64) -> Vec<Flow> {
    let way = |id: u32, hook: usize, way: usize| {
        let mut flow = flow(0, 1, 0, 10, t);
        flow.key.outermost = Tunnel { kind: Kind::Gtpu, id: Some(id) };
        let sent = flow.counters.cells[1][0];
        flow.counters.cells = Default::default();
        flow.counters.cells[hook][way] = sent;
        flow
    };
    vec![way(u32::MAX, 1, 0), way(u32::MAX - 1, 0, 1)]
}

#[test]
fn the_ids_of_a_ue_are_never_cut_and_its_endpoints_are_shown_if_there_is_room() {
    for size in [(80, 24), (120, 40)] {
        let mut app = app(of_a_ue);
        press(&mut app, "j Enter j");
        let shown = screen(&mut app, size);
        let ids = ["sends gtpu 4294967295", "receives gtpu 4294967294"];
        let wide = size.0 >= 120;
        let ends = [" to 172.16.1.101", " from 172.16.1.101"].into_iter().filter(|_| wide);
        for words in ids.into_iter().chain(ends) {
            assert!(shown.contains(words), "{words} at {size:?}:\n{shown}");
        }
    }
}

#[test]
fn groups_are_entered_down_to_their_rows() {
    let called = |app: &App| {
        let mut all: Vec<String> =
            app.picture.matrix.ends.iter().map(|end| app.called(*end)).collect();
        all.sort();
        all.join(" ")
    };
    let path = |app: &App| {
        let crumbs = (0..app.crumbs.len()).map(|i| app.crumb(i));
        std::iter::once(app.root().to_owned()).chain(crumbs).collect::<Vec<_>>().join(" > ")
    };
    let mut app = in_groups(ZONES);
    let total = app.picture.tally.total;
    assert_eq!(called(&app), "172.16.1.108 db eu us");
    insta::assert_snapshot!("groups-80x24", frame(&mut app, (80, 24)));
    insta::assert_snapshot!("groups-120x40", frame(&mut app, (120, 40)));
    // Into the largest: its hosts, as these fit, and the other ends of its groups' traffic.
    press(&mut app, "j Enter");
    assert_eq!(path(&app), "groups > eu");
    assert_eq!(
        called(&app),
        "172.16.1.100 172.16.1.101 172.16.1.102 172.16.1.103 172.16.1.108 db us"
    );
    insta::assert_snapshot!("groups-entered-80x24", frame(&mut app, (80, 24)));
    press(&mut app, "j j Enter");
    assert!(path(&app).starts_with("groups > eu > 172.16.1.10"), "{}", path(&app));
    assert!(called(&app).contains("192.168."), "{}", called(&app));
    press(&mut app, "j Enter");
    assert_eq!((app.crumbs.len(), app.view), (3, View::Table));
    press(&mut app, "j Enter");
    assert_eq!(app.crumbs.len(), 3, "nothing is inside rows");
    for _ in 0..8 {
        press(&mut app, "Esc");
    }
    assert!(app.crumbs.is_empty());
    // Finer groups everywhere, the hosts, the coarsest again: no traffic is ever lost.
    for all in [
        "172.16.1.108 db eu/zone-a eu/zone-b node-4 node-5 us/zone-c",
        "172.16.1.102 172.16.1.103 172.16.1.106 172.16.1.108 db eu/zone-a/rack-1 eu/zone-a/rack-2 \
         node-4 node-5",
    ] {
        press(&mut app, "z");
        assert_eq!(called(&app), all);
        assert_eq!(app.picture.tally.total, total);
    }
    press(&mut app, "z");
    assert_eq!(app.root(), "hosts");
    press(&mut app, "z");
    assert_eq!(called(&app), "172.16.1.108 db eu us");
    // If not all hosts fit, the groups within a group come first.
    app.top = Some(4);
    press(&mut app, "j Enter");
    assert_eq!(called(&app), "172.16.1.108 db eu/zone-a eu/zone-b us");
    press(&mut app, "m j m j Enter");
    assert_eq!(app.crumbs.len(), 2, "{}", path(&app));
}

#[test]
fn a_single_top_group_is_expanded_at_the_start() {
    let file = "172.16.1.100 172.16.1.101 eu/zone-a/rack-1\n172.16.1.102 eu/zone-a/rack-2\n\
        172.16.1.0/24 eu/zone-b/rack-3\n";
    let mut app = in_groups(file);
    let called = |app: &App| {
        let mut all: Vec<String> =
            app.picture.matrix.ends.iter().map(|end| app.called(*end)).collect();
        all.sort();
        all.join(" ")
    };
    assert_eq!((app.root(), called(&app).as_str()), ("groups", "eu/zone-a eu/zone-b"));
    press(&mut app, "z");
    assert_eq!(called(&app), "eu/zone-a/rack-1 eu/zone-a/rack-2 eu/zone-b/rack-3");
    press(&mut app, "z");
    assert_eq!(app.root(), "hosts");
    press(&mut app, "z");
    assert_eq!(called(&app), "eu/zone-a eu/zone-b", "a single arc would show nothing");
    // If there is only one group in all, it is shown.
    let one = in_groups("172.16.0.0/16 eu\n");
    assert_eq!((one.root(), called(&one).as_str()), ("groups", "eu"));
}

#[test]
fn a_selection_of_groups_is_an_expression() {
    let file = "172.16.1.100 172.16.1.101 eu/a\n172.16.1.102 eu/b\n172.16.1.0/24 us\n";
    for (keys, meant) in [
        ("j L", "group:us"),
        ("j j L", "group:eu"),
        ("j Enter L", "group:us"),
        ("j Enter j L", "group:us group:eu"), // the traffic between them
    ] {
        match press(&mut in_groups(file), keys) {
            Some(Effect::Look(Some(filter))) => assert_eq!(filter.to_string(), meant, "{keys}"),
            other => panic!("{keys}: {other:?}"),
        }
    }
}

#[test]
fn the_table_has_groups_and_is_sorted_by_them() {
    let mut app = in_groups(ZONES);
    press(&mut app, "3");
    let groups = |app: &App| -> Vec<String> {
        let path = |group: Option<Group>| group.map_or("-", |group| app.group_path(group));
        let both = app.picture.lines.list.iter().map(|line| line.groups.map(path).join(" "));
        both.collect()
    };
    while app.sort != Column::Groups {
        press(&mut app, "s");
    }
    insta::assert_snapshot!("groups-table-160x20", frame(&mut app, (160, 20)));
    insta::assert_snapshot!("groups-table-80x24", frame(&mut app, (80, 24)));
    let least = |both: &String| {
        both.split(' ').map(|path| path.replace('-', "~")).min().expect("two of them")
    };
    let sorted = groups(&app);
    assert!(sorted.is_sorted_by_key(least), "{sorted:?}");
    assert!(sorted[0].contains("eu/zone-a/rack-1") && sorted.len() > 10, "{sorted:?}");
    press(&mut app, "S");
    assert!(!groups(&app).is_sorted_by_key(least));
    // Rows of a group, and of those below it.
    let rows = app.picture.lines.list.len();
    press(&mut app, "/ g r o u p : u s Enter");
    assert!(app.filter_text == "group:us" && app.editing.is_none());
    let kept = groups(&app);
    assert!(kept.len() < rows && kept.iter().all(|both| both.contains("us")), "{kept:?}");
    press(&mut app, "/ x");
    let error = app.editing.as_ref().and_then(|e| e.error.clone()).expect("no such group");
    assert!(
        error.to_string().contains("'usx' is not a group of hosts; try one of eu, "),
        "{error}"
    );
}

#[test]
fn a_fleet_of_more_hosts_than_fit_has_groups_by_their_names() {
    let names = Names::default();
    let mut app = App::new(Start { names: names.clone(), ..Start::default() }).expect("no filter");
    let called = |n: u32| (host(n), format!("{}.rack.node-{n}", if n < 4 { "eu" } else { "us" }));
    names.learn_hosts((0..9).map(called).collect());
    feed(&mut app, 1, many);
    feed(&mut app, 2, many);
    assert_eq!((app.root(), app.picture.matrix.len()), ("hosts", 9), "they fit");
    app.top = Some(6);
    feed(&mut app, 3, many);
    let ends: Vec<String> = app.picture.matrix.ends.iter().map(|e| app.called(*e)).collect();
    assert_eq!((app.root(), ends.len()), ("groups", 2), "{ends:?}");
    press(&mut app, "j Enter");
    assert!(app.crumb(0).ends_with("/rack") || app.crumb(0).len() == 2, "{}", app.crumb(0));
}

#[test]
fn hosts_that_are_entered_or_filtered_in_a_fleet_are_looked_into() {
    let of = |keys: &str, hook: HookKind| {
        let mut app = App::new(Start::default()).expect("no filter");
        for t in 1..=3 {
            let mut told = reading(t, many(t));
            told.snapshot.interfaces.iter_mut().for_each(|i| i.hook = hook);
            let at = Duration::from_secs(t);
            update(&mut app, Msg::Reading(Box::new(told), at), at);
        }
        press(&mut app, keys);
        let mut hosts = app.looked_into();
        hosts.sort();
        hosts.dedup();
        hosts
    };
    assert!(of("", HookKind::Fleet).is_empty(), "sums are enough");
    let filtered = of("/ v n i : 1 0 0 0 0 Enter", HookKind::Fleet);
    assert!(!filtered.is_empty() && filtered.len() < 9, "{filtered:?}");
    let entered = of("j Enter", HookKind::Fleet);
    assert!(entered.len() > 1, "with the other ends: {entered:?}");
    assert!(of("j Enter", HookKind::Tcx).is_empty(), "a single host has all rows");
}

#[test]
fn other_cannot_be_entered_and_says_why() {
    let mut app = app(many);
    press(&mut app, "- - - j G Enter");
    assert!(app.crumbs.is_empty());
    assert!(screen(&mut app, (80, 24)).contains("press + to see more"));
}

/// The packet contents of one row: some of everything.
fn seen(rows: usize) -> Lens {
    let entry = |reverse, l4, ports, tcp, size, packets| LensEntry {
        mark: None,
        reverse,
        l4: Some(l4),
        ports,
        tos: [Some(0), Some(if reverse { 0xb8 } else { 0 })],
        ttl: [Some(64), Some(63)],
        size,
        tcp,
        count: Count { packets, bytes: packets * 700 },
    };
    let mut entries = vec![
        entry(false, 6, Some([443, 51034]), 0x1a, (1024, Some(2048)), 12_345),
        entry(true, 6, Some([443, 51034]), 0x10, (64, Some(128)), 6_001),
        entry(false, 6, Some([22, 40022]), 0x18, (128, Some(256)), 12),
        entry(true, 17, Some([53, 40022]), 0, (64, Some(128)), 3),
        entry(false, 1, None, 0, (64, Some(128)), 2),
    ];
    for port in 0..9 {
        entries.push(entry(false, 17, Some([9000 + port, 40_000]), 0, (0, Some(64)), 1));
    }
    let looked_at = rows as u64 * entries.iter().map(|e| e.count.packets).sum::<u64>() + 7;
    let row = |n: usize| LensRow {
        interface: "eth0".to_owned(),
        key: many(1).get(n).map(|f| f.key),
        entries: entries.clone(),
    };
    Lens {
        filter: "host:172.16.1.100 host:172.16.1.101 \u{1b}[31m".to_owned(),
        rows: (0..rows).map(row).collect(),
        looked_at,
        lost: 7,
        timed: None,
    }
}

/// Round-trip times of the same row: most of the time is spent on the side of the second end.
fn timed(t: u32) -> Timed {
    let way = |bucket: usize, samples| {
        let mut buckets = vec![0; 224];
        buckets[bucket] = samples;
        let times = Times { buckets: buckets.into(), least: 10, parts_bits: 3 };
        let (least, most) = (1 << (bucket / 8 + 10), 2 << (bucket / 8 + 10));
        let retransmitted = if bucket > 50 { 3 } else { 0 };
        let samples = u64::from(samples);
        RoundTrips { samples, least, most, times, retransmitted, ..RoundTrips::default() }
    };
    let rows = [((0, many(1)[0].key), [way(80, 200 * t), way(36, 90)])];
    Timed { rows: rows.into_iter().collect(), ..Timed::default() }
}

#[test]
fn packet_contents_are_below_the_view() {
    let mut app = app(many);
    press(&mut app, "j");
    update(&mut app, Msg::Seen(Some(Lens::default())), NOW);
    assert!(screen(&mut app, (80, 24)).contains("no packet of these rows has passed"));
    update(&mut app, Msg::Seen(Some(seen(1))), NOW);
    insta::assert_snapshot!("lens_80x24", frame(&mut app, (80, 24)));
    insta::assert_snapshot!("lens_120x40", frame(&mut app, (120, 40)));
    let timed = Lens { timed: Some(timed(3)), ..seen(1) };
    update(&mut app, Msg::Seen(Some(timed)), NOW);
    insta::assert_snapshot!("rtt_80x24", frame(&mut app, (80, 24)));
    insta::assert_snapshot!("rtt_120x40", frame(&mut app, (120, 40)));
    press(&mut app, "3");
    let table = screen(&mut app, (120, 40));
    assert!(table.contains("7 lens-lost") && table.contains("more with"), "{table}");
    // Round-trip times are in the table if there is room, and it can be sorted by them.
    let wide = screen(&mut app, (200, 40));
    let title = wide.lines().find(|line| line.contains("← sent")).expect("a headline");
    assert!(title.contains(" rtt "), "{title}");
    while app.sort != Column::Rtt {
        press(&mut app, "s");
    }
    assert_eq!(app.picture.lines.list[0].key, many(1)[0].key);
    let times: Vec<bool> = app.picture.lines.list.iter().map(|l| l.rtt.is_some()).collect();
    assert_eq!(times.iter().filter(|timed| **timed).count(), 1, "{times:?}");
    for size in SIZES {
        screen(&mut app, size);
    }
    update(&mut app, Msg::Seen(Some(seen(2))), NOW);
    let hosts_differ = screen(&mut app, (120, 40));
    assert!(!hosts_differ.contains(" ←  "), "no direction is shown: {hosts_differ}");
    assert_eq!(press(&mut app, "L"), Some(Effect::Look(None)), "again ends it");
    assert_eq!(press(&mut app, "Esc"), Some(Effect::Look(None)), "and so does Esc");
    update(&mut app, Msg::Seen(None), NOW);
    assert!(!screen(&mut app, (120, 40)).contains("lens-lost"));
}

#[test]
fn the_rows_of_a_finding_can_be_examined() {
    for (keys, captures) in [("5 L", false), ("5 w", true)] {
        let mut app = app_of(dropping);
        press(&mut app, "5");
        let place = app.found.chosen().expect("a finding").first.place.clone();
        let effect = press(&mut app, keys);
        let (Some(Effect::Look(Some(rows)) | Effect::Catch(Some(rows))), View::Table) =
            (&effect, app.view)
        else {
            panic!("{effect:?}")
        };
        assert_eq!(matches!(effect, Some(Effect::Catch(_))), captures);
        let flows = many(8);
        let kept: Vec<_> = flows.iter().filter(|flow| rows.matches(flow, "eth0")).collect();
        let outer = [place.outer_from, place.outer_to].map(|end| end.expect("both ends"));
        let is_between = |flow: &&Flow| {
            flow.key.outer.is_some_and(|p| [p.first, p.second].iter().all(|a| outer.contains(a)))
        };
        assert!(!kept.is_empty() && kept.iter().all(is_between), "{rows}");
    }
}

#[test]
fn capture_progress_is_shown_while_it_runs() {
    let mut app = app(many);
    press(&mut app, "j");
    let news = CatchNews { packets: 1234, bytes: 56_700, lost: 8, end: None };
    update(&mut app, Msg::Caught(news.clone()), NOW);
    let later = NOW + Duration::from_secs(2);
    update(&mut app, Msg::Caught(CatchNews { packets: 1300, ..news.clone() }), later);
    let shown = screen(&mut app, (80, 24));
    assert!(shown.contains("● 1300 packets, 56.7 kB, 8 lost in "), "{shown}");
    assert_eq!(press(&mut app, "w"), Some(Effect::Catch(None)), "again ends it");
    let end = Some(Ok("tmon-1.pcapng: 56.7 kB, 1308 packets matched".to_owned()));
    update(&mut app, Msg::Caught(CatchNews { end, ..news }), later);
    let shown = screen(&mut app, (80, 24));
    assert!(shown.contains("tmon-1.pcapng: 56.7 kB") && !shown.contains("8 lost"), "{shown}");
    press(&mut app, "Esc");
    assert_eq!(press(&mut app, "w"), None);
    assert!(screen(&mut app, (80, 24)).contains("select a row"));
}

#[test]
fn the_selection_is_an_expression() {
    let meant = |keys: &str| {
        let mut app = app(many);
        press(&mut app, keys);
        app.meant().map(|filter| filter.to_string())
    };
    let of = |text: &str| Ok(text.to_owned());
    assert_eq!(meant("j"), of("host:172.16.1.100"));
    assert_eq!(meant("j m j j m Esc"), of("host:172.16.1.100,172.16.1.104"));
    assert_eq!(meant("j l"), of("host:172.16.1.100 host:172.16.1.108"));
    assert_eq!(meant("i"), of("kind:vxlan vni:10000"));
    assert_eq!(meant("j Enter"), of("host:172.16.1.100"), "what was entered");
    assert_eq!(meant("j Enter j"), of("host:172.16.1.100 inner:192.168.0.1"));
    let row = "kind:vxlan vni:10003 host:172.16.1.103 host:172.16.1.104 inner:192.168.3.4 inner:192.168.3.5";
    assert_eq!(meant("3 j"), of(row));
    assert!(meant("").expect_err("nothing is selected").contains("select a row"));
    assert!(meant("- - - j G").expect_err("no hosts").contains("not told apart"));
}

#[test]
fn a_held_picture_stays_while_readings_come() {
    let mut app = app(many);
    press(&mut app, "Space");
    let before = app.picture.matrix.clone();
    for t in 9..12 {
        feed(&mut app, t, largest);
    }
    assert_eq!(app.picture.matrix, before);
    assert!(screen(&mut app, (80, 24)).contains("❚❚"), "the screen says that it is frozen");
    press(&mut app, "Space");
    assert_ne!(app.picture.matrix, before);
}

#[test]
fn a_failed_reading_keeps_the_picture_and_says_so() {
    let mut app = app(many);
    let before = app.picture.matrix.clone();
    update(
        &mut app,
        Msg::Failed("read the table of eth0: \u{1b}[2J no such device".to_owned(), NOW),
        NOW,
    );
    assert_eq!(app.picture.matrix, before);
    let text = screen(&mut app, (120, 40));
    assert!(text.contains("cannot read: read the table of eth0"), "{text}");
    assert!(text.contains("last reading 0.3 s ago"), "{text}");
    assert!(text.contains("stale"));
    feed(&mut app, 9, many);
    assert!(!screen(&mut app, (120, 40)).contains("cannot read: "), "it is over");
    press(&mut app, "H");
    assert!(screen(&mut app, (120, 40)).contains("last error"));
}

#[test]
fn an_unreadable_interface_is_reported_while_it_lasts() {
    let mut app = app(many);
    let plain =
        |text: &str| text.lines().find(|l| l.starts_with("   plain ")).map(|l| l[..35].to_owned());
    press(&mut app, "4");
    let before = plain(&screen(&mut app, (120, 40)));
    assert!(before.as_ref().is_some_and(|l| l.ends_with("30.0/s  32.0 kb/s")), "{before:?}");
    let mut stale = reading(9, many(9));
    let eth0 = &mut stale.snapshot.interfaces[0];
    let read = &app.latest().expect("it has been read").interfaces[0];
    (eth0.stale, eth0.books, eth0.span) = (true, read.books, read.span);
    update(&mut app, Msg::Reading(Box::new(stale), NOW), NOW);
    for size in [(80, 24), (120, 40)] {
        let text = screen(&mut app, size);
        assert!(
            text.lines().nth_back(1).is_some_and(|l| l.starts_with(" eth␛[31m0 not read · ")),
            "{text}"
        );
        assert!(text.contains("not read    its counters could not be read"), "{text}");
    }
    assert!(
        screen(&mut app, (120, 40))
            .contains("last error  0.0 s ago: the counters of eth␛[31m0 could not be read")
    );
    feed(&mut app, 10, many);
    let text = screen(&mut app, (120, 40));
    assert_eq!(plain(&text), before, "the books of two intervals, by the time of two");
    assert!(
        !text.contains("not read") && text.contains("could not be read"),
        "it is over, but was: {text}"
    );
}

#[test]
fn notices_are_shown_for_a_while() {
    let mut app = app(many);
    update(&mut app, Msg::Say(Notice { at: NOW, text: "eth1 is gone".to_owned(), bad: true }), NOW);
    assert!(screen(&mut app, (80, 24)).contains("eth1 is gone"));
    assert!(app.news(NOW + Duration::from_secs(60)).is_none());
}

#[test]
fn a_capture_is_scrubbed_and_played() {
    let mut app =
        App::new(Start { recorded: true, totals: true, ..Start::default() }).expect("no filter");
    let readings: Vec<_> =
        (0..6).map(|t| reading(t, if t == 0 { vec![] } else { many(t) }).snapshot).collect();
    let intervals = readings.windows(2).map(|w| w[1].since(&w[0])).collect();
    app.load(intervals, readings[5].clone());
    assert_eq!((app.series.history().len(), app.series.at()), (5, At::Live));
    let all = app.picture.tally.total;
    assert_eq!(
        all,
        reading(5, many(5)).snapshot.rows.iter().map(|f| f.counters.total()).sum::<Count>()
    );
    press(&mut app, "[ [");
    assert_eq!(app.series.at(), At::Past(2));
    press(&mut app, "t");
    press(&mut app, "] ] Space");
    assert!(app.playing && app.series.at() == At::Past(0));
    for _ in 0..4 {
        update(&mut app, Msg::Step, NOW);
    }
    assert!(!app.playing && app.series.at() == At::Live, "it stops at the end");
    screen(&mut app, (80, 24));
}

#[test]
fn a_capture_plays_ten_and_a_hundred_times_as_fast() {
    let mut app = App::new(Start { recorded: true, ..Start::default() }).expect("no filter");
    let readings: Vec<_> = (0..30).map(|t| reading(t, many(t)).snapshot).collect();
    let intervals: Vec<_> = readings.windows(2).map(|w| w[1].since(&w[0])).collect();
    app.load(intervals.clone(), readings[29].clone());
    for (key, speed, step) in
        [("", 1, 1), (">", 10, 1), (">", 100, 10), (">", 100, 10), ("<", 10, 1), ("<", 1, 1)]
    {
        press(&mut app, key);
        assert_eq!(app.speed.times(), speed);
        app.series.go_to(5);
        press(&mut app, "Space");
        assert!(app.playing);
        assert_eq!(screen(&mut app, (120, 24)).contains(&format!("▶ {speed}x")), speed > 1);
        update(&mut app, Msg::Step, NOW);
        assert_eq!(app.series.at(), At::Past(5 + step));
        press(&mut app, "Space");
    }
    // the view stays in place while more is read
    app.series.go_to(7);
    let since = app.interval().expect("it is there").since;
    update(&mut app, Msg::Progress(Some("34.0 %".to_owned())), NOW);
    assert!(screen(&mut app, (120, 24)).contains("34.0 % read · ❚❚ "));
    app.load(intervals[3..].to_vec(), readings[29].clone());
    assert_eq!((app.series.number(), app.interval().expect("it is there").since), (Some(4), since));
    // a live source has only one speed
    let mut live = self::app(many);
    press(&mut live, ">");
    assert_eq!(live.speed.times(), 1);
    assert!(screen(&mut live, (80, 24)).contains("only captures can be played faster"));
}

#[test]
fn a_long_recording_has_a_line_of_peaks_and_findings() {
    let mut app = App::new(Start { recorded: true, ..Start::default() }).expect("no filter");
    // Two hours with two peaks; packets are dropped once.
    let readings: Vec<_> = (0..=240)
        .map(|t| {
            let sum = t + if t > 60 { 30 } else { 0 } + if t > 181 { 9 } else { 0 };
            let drops = dropping(1).snapshot.drops.filter(|_| t > 121);
            Snapshot { drops, ..reading(30 * t, many(sum)).snapshot }
        })
        .collect();
    let intervals: Vec<_> = readings.windows(2).map(|w| w[1].since(&w[0])).collect();
    app.load(intervals, readings[240].clone());
    let screen_of = |app: &mut App| screen(app, (120, 40));
    let text = screen_of(&mut app);
    assert!(text.contains("by 2 min") && text.contains("09:00"), "{text}");
    app.series.go_to(239);
    for (place, said) in [(181, "peak 2: "), (121, "packets"), (60, "peak 1: ")] {
        press(&mut app, "(");
        assert_eq!(app.series.at(), At::Past(place));
        let text = screen_of(&mut app);
        assert!(text.contains(said), "{said}: {text}");
    }
    press(&mut app, ") )");
    assert_eq!(app.series.at(), At::Past(181));
    press(&mut app, ")");
    assert_eq!(app.series.at(), At::Past(181));
    assert!(screen_of(&mut app).contains("there is no later peak or finding"));
    // A capture that fits on the timeline needs no second line.
    screen(&mut app, (300, 90));
    assert!(!screen(&mut app, (300, 90)).contains("by 2 min"));
}

#[test]
fn a_capture_opens_on_the_last_interval_with_traffic() {
    let mut app = App::new(Start { recorded: true, ..Start::default() }).expect("no filter");
    let readings: Vec<_> =
        [0, 1, 2, 2, 2].map(|t| reading(t, if t == 0 { vec![] } else { many(t) }).snapshot).into();
    app.load(readings.windows(2).map(|w| w[1].since(&w[0])).collect(), readings[4].clone());
    assert_eq!((app.series.history().len(), app.series.at()), (4, At::Past(1)));
    assert!(screen(&mut app, (80, 24)).contains("172.16.1.104"));
}

#[test]
fn rates_cover_the_whole_time_since_the_last_reading() {
    let mut app = app(many);
    // nothing was read for a minute
    update(&mut app, Msg::Reading(Box::new(reading(68, many(68))), NOW), NOW);
    assert_eq!(app.picture.elapsed, Duration::from_secs(60));
    assert!(screen(&mut app, (80, 24)).contains("1 m 00 s drawn"));
}

#[test]
fn the_saved_picture_matches_the_screen() {
    let mut app = app(many);
    press(&mut app, "i");
    let mut look = Look::new(Theme::default());
    look.learn(&app.picture.matrix.ends);
    let mut out = Vec::new();
    tui::save::write(&app, &look, &mut out).expect("a vector takes everything");
    let svg = String::from_utf8(out).expect("it is text");
    assert!(svg.contains("<svg") && svg.contains("172.16.1.104") && svg.contains("vxlan 10000"));
    assert!(!svg.contains('\u{1b}'), "the interface's name is made safe");
}
