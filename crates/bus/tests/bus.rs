// SPDX-License-Identifier: MIT OR Apache-2.0
//! Publishers and a viewer on a minimal bus: what is requested, what is reported, and what happens
//! when something goes wrong.
#![allow(clippy::unwrap_used)] // a test's panic is its report
use std::{
    thread,
    time::{Duration, Instant, SystemTime},
};

use bus::{Asked, HostPath, LEAST, Listening, Login, Publisher, SubjectKind, Subjects, listen};
use feed::{
    frame::{Frame, FrameKind},
    remote::{Focus, Messenger, News},
};
use model::{
    flow::{Count, Hook, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    interface::{Interface, Origin},
    rows::{Part, Rows},
    snapshot::Interval,
};
use testkit::nats::NatsServer;

fn subjects() -> Subjects {
    Subjects::of("prod").unwrap()
}

fn subject(topic: SubjectKind, host: &str) -> String {
    subjects().subject(topic, &HostPath::new(host))
}

/// What a host reports for one second.
fn frame(host: &str, epoch: u64, kind: FrameKind, seq: u64, second: u64) -> Frame {
    let t = |n| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + n);
    let key = Key {
        outer: Some(Pair { first: [10, 0, 0, 1].into(), second: [10, 0, 0, 2].into() }),
        outermost: Tunnel { kind: Kind::Vxlan, id: Some(7) },
        innermost: None,
        depth: 1,
        inner: Inner::Proto(InnerProto(0x0806)),
        other: false,
    };
    let mut rows = Rows::default();
    let (mut interfaces, long) = (Vec::new(), Duration::from_secs(1));
    if matches!(kind, FrameKind::Sum | FrameKind::Rows) {
        let counts = [Count::default(), Count { packets: 5, bytes: 500 }];
        rows.push(0, 0, &key, counts, Part { swapped: false, fragments: false });
        interfaces.push(Interface::new(0, "eth0"));
    }
    let mut interval = Interval::new(t(second), t(second + 1), long, interfaces, rows);
    interval.origin = Origin { host: host.into(), netns: 1, epoch };
    Frame {
        kind,
        seq,
        reading: Duration::ZERO,
        held: Duration::ZERO,
        heard: None,
        clock: None,
        cadence: long,
        local: vec![[10, 0, 0, 1].into()],
        tool: String::new(),
        interval,
    }
}

fn viewer(server: &NatsServer, only: Option<&str>) -> Box<dyn Messenger> {
    let only = only.map(str::to_owned);
    let focus = Focus::default();
    let listening = Listening { subjects: subjects(), only, every: LEAST, focus };
    let viewer = listen(Login::new(&server.url()).unwrap(), listening, || {})().unwrap();
    until("it listens", || server.is_listened_to("tmon.v1.prod.rows.eu.a"));
    viewer
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !holds() {
        assert!(begun.elapsed() < Duration::from_secs(60), "in vain: {what}");
        thread::sleep(Duration::from_millis(10));
    }
}

fn next_frame(viewer: &mut dyn Messenger) -> Frame {
    loop {
        match viewer.next().unwrap().unwrap() {
            News::Frame(frame, _) => return *frame,
            News::Notice(_) | News::Nobody(_) => {}
        }
    }
}

fn next_notice(viewer: &mut dyn Messenger) -> String {
    loop {
        match viewer.next().unwrap().unwrap() {
            News::Notice(text) => return text,
            News::Frame(..) | News::Nobody(_) => {}
        }
    }
}

fn publisher(server: &NatsServer, host: &str) -> Publisher {
    let login = Login::new(&server.url()).unwrap();
    Publisher::start(login, subjects(), &HostPath::new(host), (LEAST, false), || {}).unwrap()
}

/// Waits until the requests are as expected.
fn asked(publisher: &mut Publisher, mut holds: impl FnMut(&Asked) -> bool) -> Asked {
    let mut last = Asked::default();
    until("it is asked", || {
        last = publisher.asked(Instant::now()).unwrap();
        holds(&last)
    });
    last
}

#[test]
fn requested_hosts_publish_and_viewers_receive() {
    let server = NatsServer::start();
    let mut host = publisher(&server, "eu.a");
    let quiet = asked(&mut host, |a| a.is_greeted);
    assert_eq!((quiet.sums, quiet.rows), (None, None), "nobody has asked");
    let mut viewer = viewer(&server, None);
    asked(&mut host, |a| a.is_greeted && a.is_free);
    let send = |host: &Publisher, topic, frame: Frame| {
        host.send(subject(topic, "eu.a"), frame.packed());
    };
    send(&host, SubjectKind::Hello, frame("eu.a", 1, FrameKind::Hello, 1, 0));
    assert_eq!(next_frame(&mut *viewer).kind, FrameKind::Hello);
    let wants = asked(&mut host, |a| a.rows.is_some() && a.is_heard);
    assert_eq!((wants.rows, wants.sums), (Some(LEAST), None));
    send(&host, SubjectKind::Rows, frame("eu.a", 1, FrameKind::Rows, 0, 1));
    let told = next_frame(&mut *viewer);
    assert_eq!((&*told.interval.origin.host, told.kind), ("eu.a", FrameKind::Rows));
    let sent = told.interval.rows.walk().flat_map(|r| r.counters().cells[Hook::Tx as usize]);
    let sent = sent.map(|n| n.packets);
    assert_eq!(sent.sum::<u64>(), 5);
    host.leave(
        subject(SubjectKind::Hello, "eu.a"),
        frame("eu.a", 1, FrameKind::End, 2, 2).packed(),
    );
    assert_eq!(next_frame(&mut *viewer).kind, FrameKind::End);
}

#[test]
fn nothing_is_sent_during_an_outage_or_before_a_viewer_is_back() {
    let server = NatsServer::start();
    let mut host = publisher(&server, "eu.a");
    let _viewer = viewer(&server, None);
    asked(&mut host, |a| a.rows.is_some() && a.is_heard);
    server.kill();
    let gone = asked(&mut host, |a| !a.is_free);
    assert_eq!((gone.is_heard, gone.rows), (false, Some(LEAST)), "what was asked does not end");
    assert!(host.notices().concat().contains("unreachable"));
    server.start_again();
    let back = asked(&mut host, |a| a.is_free);
    assert_eq!(back.rows, Some(LEAST));
    asked(&mut host, |a| a.is_heard);
    let viewers = server.is_listened_to("tmon.v1.prod.rows.eu.a");
    assert!(viewers, "the viewer was back before");
}

#[test]
fn a_host_with_invalid_frames_is_reported_and_the_others_continue() {
    let server = NatsServer::start();
    let mut viewer = viewer(&server, None);
    let give = |topic, at: &str, bytes: Vec<u8>| server.publish(&subject(topic, at), &bytes);
    give(SubjectKind::Hello, "bad", b"\x08\x01nonsense".to_vec());
    assert!(next_notice(&mut *viewer).starts_with("bad sends invalid frames"));
    // With the permissions of `bad`, in the name of another.
    give(SubjectKind::Hello, "bad", frame("a", 1, FrameKind::Hello, 1, 0).packed());
    assert!(next_notice(&mut *viewer).contains("names another host, a"));
    give(SubjectKind::Sum, "bad", frame("bad", 1, FrameKind::Rows, 1, 0).packed());
    assert!(next_notice(&mut *viewer).contains("does not match its subject"));
    give(SubjectKind::Hello, "bad", Vec::new());
    give(SubjectKind::Rows, "bad", vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0]);
    give(SubjectKind::Hello, "a", frame("a", 1, FrameKind::Hello, 1, 0).packed());
    give(SubjectKind::Rows, "a", frame("a", 1, FrameKind::Rows, 0, 1).packed());
    assert_eq!(next_frame(&mut *viewer).kind, FrameKind::Hello);
    assert_eq!(&*next_frame(&mut *viewer).interval.origin.host, "a");
}

#[test]
fn gaps_are_numbered_and_nothing_counts_twice() {
    let server = NatsServer::start();
    let mut viewer = viewer(&server, None);
    let give = |kind: FrameKind, epoch, seq, second| {
        let topic = match kind {
            FrameKind::Sum => SubjectKind::Sum,
            FrameKind::Rows => SubjectKind::Rows,
            _ => SubjectKind::Hello,
        };
        server.publish(&subject(topic, "a"), &frame("a", epoch, kind, seq, second).packed());
    };
    let mut heard = |n: usize| -> Vec<(FrameKind, u64)> {
        (0..n).map(|_| next_frame(&mut *viewer)).map(|f| (f.kind, f.seq)).collect()
    };
    let (hello, rows, sum) = (FrameKind::Hello, FrameKind::Rows, FrameKind::Sum);
    give(hello, 1, 1, 0);
    assert_eq!(heard(1), [(hello, 0)]);
    give(rows, 1, 10, 1);
    give(rows, 1, 13, 4);
    give(rows, 1, 13, 4); // again
    assert_eq!(heard(2), [(rows, 1), (rows, 4)]);
    give(sum, 1, 0, 3); // what was told by row
    give(sum, 1, 1, 5); // and what was not
    assert_eq!(heard(1), [(sum, 5)]);
    give(rows, 1, 14, 6); // of a host that is looked into, rows come before sums
    give(sum, 1, 2, 6);
    give(rows, 1, 15, 7);
    assert_eq!(heard(2), [(rows, 6), (rows, 7)]);
    // It is restarted, and then there are two with the same name.
    give(hello, 2, 1, 6);
    give(rows, 2, 0, 6);
    assert_eq!(heard(2), [(hello, 0), (rows, 1)]);
    for seq in 16..21 {
        give(rows, 1, seq, seq);
        thread::sleep(Duration::from_millis(300)); // long enough to be on its way
    }
    let said = next_notice(&mut *viewer);
    assert!(said.contains("two hosts publish under this name"), "{said}");
}

#[test]
fn only_selected_hosts_are_asked() {
    let server = NatsServer::start();
    let mut host = publisher(&server, "eu.a");
    let mut other = publisher(&server, "us.b");
    let mut viewer = viewer(&server, Some("eu.>"));
    asked(&mut host, |a| a.is_greeted && a.is_free);
    for name in ["eu.a", "us.b"] {
        let hello = frame(name, 1, FrameKind::Hello, 1, 0);
        server.publish(&subject(SubjectKind::Hello, name), &hello.packed());
    }
    assert_eq!(&*next_frame(&mut *viewer).interval.origin.host, "eu.a");
    asked(&mut host, |a| a.rows.is_some());
    assert_eq!(other.asked(Instant::now()).unwrap().rows, None);
    assert_eq!(server.heard("want.us.b"), 0);
}

#[test]
fn rows_of_a_large_fleet_are_requested_only_from_hosts_that_are_looked_into() {
    let server = NatsServer::start();
    let (mut near, mut far) = (publisher(&server, "eu.a"), publisher(&server, "us.b"));
    let focus = Focus::default();
    let listening =
        Listening { subjects: subjects(), only: None, every: LEAST, focus: focus.clone() };
    let mut viewer = listen(Login::new(&server.url()).unwrap(), listening, || {})().unwrap();
    until("it listens", || server.is_listened_to("tmon.v1.prod.rows.eu.a"));
    let others = (0..1000).map(|n| format!("node-{n}"));
    for name in ["eu.a", "us.b"].map(str::to_owned).into_iter().chain(others) {
        let hello = frame(&name, 1, FrameKind::Hello, 1, 0);
        server.publish(&subject(SubjectKind::Hello, &name), &hello.packed());
        assert_eq!(next_frame(&mut *viewer).kind, FrameKind::Hello);
    }
    for host in [&mut near, &mut far] {
        asked(host, |a| a.sums.is_some() && a.rows.is_none());
    }
    focus.set(["eu.a".into()]);
    let wants = asked(&mut near, |a| a.rows.is_some());
    assert_eq!((wants.rows, wants.sums), (Some(LEAST), Some(LEAST)));
    assert_eq!(far.asked(Instant::now()).unwrap().rows, None);
    assert_eq!(server.heard("want.us.b"), 0);
    focus.set((0..1000).map(|n| format!("node-{n}").into()));
    assert!(next_notice(&mut *viewer).starts_with("the rows of 1000 hosts are too much"));
    assert_eq!(server.heard("want.node-7"), 0);
}

#[test]
fn a_flooding_host_takes_no_room_from_the_others() {
    let server = NatsServer::start();
    let mut viewer = viewer(&server, None);
    for name in ["a", "flood"] {
        let hello = frame(name, 1, FrameKind::Hello, 1, 0);
        server.publish(&subject(SubjectKind::Hello, name), &hello.packed());
    }
    for n in 0..10_000 {
        let row = frame("flood", 1, FrameKind::Rows, n, n);
        server.publish(&subject(SubjectKind::Rows, "flood"), &row.packed());
    }
    server
        .publish(&subject(SubjectKind::Rows, "a"), &frame("a", 1, FrameKind::Rows, 0, 1).packed());
    let begun = Instant::now();
    let mut before = 0;
    loop {
        assert!(begun.elapsed() < Duration::from_secs(60), "the other is heard");
        let frame = next_frame(&mut *viewer);
        if &*frame.interval.origin.host == "a" && frame.kind == FrameKind::Rows {
            break;
        }
        before += 1;
    }
    assert!(before < 100, "a few of its messages wait: {before}");
}

#[test]
fn a_missing_server_is_one_line() {
    let server = NatsServer::start();
    let login = Login::new(&server.url()).unwrap();
    server.kill();
    let focus = Focus::default();
    let listening = Listening { subjects: subjects(), only: None, every: LEAST, focus };
    let said = listen(login.clone(), listening, || {})().err().unwrap().to_string();
    assert!(!said.is_empty() && !said.contains('\n'), "{said}");
    let host = HostPath::new("a");
    let mut one = Publisher::start(login, subjects(), &host, (LEAST, false), || {}).unwrap();
    let mut said = Vec::new();
    until("it says so", || {
        said.extend(one.notices());
        !said.is_empty()
    });
    assert!(said[0].contains(&server.url()), "{said:?}");
    assert!(!one.asked(Instant::now()).unwrap().is_free);
    server.start_again();
    asked(&mut one, |a| a.is_free);
}

#[test]
fn servers_that_a_server_tells_of_get_no_login() {
    use std::{
        io::{ErrorKind, Read as _, Write as _},
        net::TcpListener,
    };
    let [own, other] = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    let elsewhere = other.local_addr().unwrap();
    let login = Login::new(&format!("nats://{}", own.local_addr().unwrap())).unwrap();
    // It tells of another server, lets the client in, and hangs up.
    let server = thread::spawn(move || {
        for _ in 0..3 {
            let (mut stream, _) = own.accept().unwrap();
            let info = format!(
                r#"{{"server_id":"x","server_name":"x","version":"2.10.0","go":"","host":"127.0.0.1","port":1,"headers":true,"max_payload":1048576,"proto":1,"client_id":1,"connect_urls":["{elsewhere}"]}}"#
            );
            let _ = stream.write_all(format!("INFO {info}\r\n").as_bytes());
            let mut text = Vec::new();
            let mut part = [0; 1024];
            while !text.windows(4).any(|w| w == b"PING") {
                match stream.read(&mut part) {
                    Ok(n) if n > 0 => text.extend_from_slice(&part[..n]),
                    _ => break,
                }
            }
            let _ = stream.write_all(b"PONG\r\n");
        }
    });
    let host = HostPath::new("a");
    let one = Publisher::start(login, subjects(), &host, (LEAST, false), || {}).unwrap();
    until("it has come three times", || server.is_finished());
    other.set_nonblocking(true).unwrap();
    assert_eq!(other.accept().expect_err("nobody comes").kind(), ErrorKind::WouldBlock);
    drop(one);
}
