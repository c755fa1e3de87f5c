// SPDX-License-Identifier: MIT OR Apache-2.0
//! The HTML page, clicked through in headless Chromium: `tests/page.py` contains the clicks. `make
//! test-page` installs the browser and runs this.
#![allow(clippy::unwrap_used)] // a panic is this program's report
use std::{
    fs::File,
    io::BufWriter,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::Command,
    sync::Arc,
    time::{Duration, SystemTime},
};

use export::{Excerpt, Format, Writer, html, table};
use model::{
    filter::Filter,
    flow::{
        Books, Count, Counters, Flow, HookKind, Inner, InnerProto, Key, Kind, Pair, Stop, Tunnel,
    },
    groups::Groups,
    interface::Interface,
    rows::Rows,
    snapshot::Interval,
};

/// What host `a` and its client sent to `b` and its client, and back.
fn flow(a: u8, b: u8, net: u8, bytes: [u64; 2]) -> Flow {
    let count = |bytes: u64| Count { packets: bytes / 100, bytes };
    let host = |n: u8| IpAddr::from(Ipv4Addr::new(172, 16, 1, 100 + n));
    let client = |n: u8| IpAddr::from(Ipv4Addr::new(192, 168, net, 1 + n));
    Flow {
        interface: 0,
        key: Key {
            outer: Some(Pair { first: host(a), second: host(b) }),
            outermost: Tunnel { kind: Kind::Vxlan, id: Some(10_000 + u32::from(net)) },
            innermost: None,
            depth: 1,
            inner: Inner::Pair(Pair { first: client(a), second: client(b) }),
            other: false,
        },
        counters: Counters {
            cells: [[Count::default(), count(bytes[1])], [count(bytes[0]), Count::default()]],
            ..Default::default()
        },
    }
}

/// Writes the page of an interval.
fn write(file: &Path, interval: &Interval, groups: &str) {
    let mut out = BufWriter::new(File::create(file).unwrap());
    let format = Format::Html(html::HtmlOptions { dark: Some(true), top: None });
    let reading = Excerpt::new("tmon 0", interval, &Filter::default())
        .grouped(Arc::new(Groups::parse(groups).unwrap()));
    Writer::new(&mut out, format, table::TableOptions::default()).write(&reading).unwrap();
}

#[test]
#[ignore = "needs chromium, chromium-driver and python3-selenium: make test-page"]
fn everything_is_reachable() {
    let mut arp = flow(0, 1, 0, [500, 500]);
    arp.key.inner = Inner::Proto(InnerProto(0x0806));
    let flows = [
        flow(0, 1, 0, [60_000, 20_000]),
        flow(0, 2, 1, [5_000, 5_000]),
        flow(1, 2, 0, [1_000, 3_000]),
        flow(0, 1, 1, [4_000, 1_000]),
        arp,
    ];
    let mut rows = Rows::default();
    for (flow, place) in flows.iter().zip(0..) {
        rows.push_flow(place, flow);
    }
    let mut books = Books {
        counted: [Count { packets: 990, bytes: 99_000 }, Count::default()],
        ..Books::default()
    };
    books.stops[Stop::Plain as usize][0] = Count { packets: 10, bytes: 1_000 };
    let hostile = "</script><img src=x onerror=document.title='owned'>";
    let (since, elapsed) = (SystemTime::UNIX_EPOCH, Duration::from_secs(10));
    let interface = Interface {
        ifindex: 1,
        hook: HookKind::Tcx,
        books,
        span: elapsed,
        ..Interface::new(0, hostile)
    };
    let mut interval = Interval::new(since, since + elapsed, elapsed, vec![interface], rows);
    interval.origin.host = "node-a".into();

    let dir = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let [file, grouped] = ["page.html", "page-groups.html"].map(|name| dir.join(name));
    write(&file, &interval, "");
    let groups = "172.16.1.100 172.16.1.101 eu/<b>zone-a\n172.16.1.102 eu/zone-b/rack-1\n";
    write(&grouped, &interval, groups);

    // Debian's own python has Debian's selenium
    let python =
        if Path::new("/usr/bin/python3").exists() { "/usr/bin/python3" } else { "python3" };
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page.py");
    let done = Command::new(python).arg(script).args([&file, &grouped]).arg(dir).status().unwrap();
    assert!(done.success(), "see above; pictures are in {}", dir.display());
}
