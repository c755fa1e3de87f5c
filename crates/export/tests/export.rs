// SPDX-License-Identifier: MIT OR Apache-2.0
//! The exact output for readings: `tests/golden/` holds the expected texts. After an intended
//! change, `TMON_BLESS=1 cargo test --test export` rewrites them; review the diff.
#![allow(clippy::unwrap_used)] // a panic is this program's report
use std::{
    env, fs,
    io::{self, Write},
    net::IpAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use export::{Excerpt, Format, Writer, svg, table};
use feed::names::Names;
use model::{
    beside::{Beside, Gathered},
    filter::Filter,
    flow::{Books, Count, Counters, Flow, HookKind, Inner, InnerProto, Key, Kind, Pair, Tunnel},
    interface::{Fill, Interface},
    rows::Rows,
    rtt::RoundTrips,
    snapshot::Interval,
    units::{Base, sanitize},
};

fn count(packets: u64, bytes: u64) -> Count {
    Count { packets, bytes }
}

fn pair(a: &str, b: &str) -> Pair {
    let ip = |s: &str| s.parse::<IpAddr>().unwrap();
    Pair { first: ip(a), second: ip(b) }
}

fn flow(outer: Pair, outermost: (Kind, Option<u32>), inner: Inner, cells: [[Count; 2]; 2]) -> Flow {
    let (kind, id) = outermost;
    let key = Key {
        outer: Some(outer),
        outermost: Tunnel { kind, id },
        innermost: None,
        depth: 1,
        inner,
        other: false,
    };
    Flow { interface: 0, key, counters: Counters { cells, ..Default::default() } }
}

/// One row of each kind: plain IPv4, both nestings, a missing id, no inner pair, other, overflow,
/// no tunnel.
fn flows() -> Vec<Flow> {
    let zero = Count::default();
    let hosts = pair("172.16.1.100", "172.16.1.101");
    let inner = Inner::Pair(pair("192.168.0.1", "192.168.0.2"));
    let six =
        pair("2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff");

    let vxlan = flow(
        hosts,
        (Kind::Vxlan, Some(10000)),
        inner,
        [[zero, count(4, 880)], [count(5, 1100), zero]],
    );
    let mut nested = flow(
        six,
        (Kind::Vxlan, Some(10001)),
        Inner::Pair(six),
        [[count(1_000_000, 1_500_000_000), zero], [zero; 2]],
    );
    nested.key.innermost = Some(Tunnel { kind: Kind::Gtpu, id: Some(7) });
    nested.key.depth = 2;
    let mut deep =
        flow(hosts, (Kind::Geneve, Some(5)), inner, [[count(1, 200), count(1, 300)], [zero; 2]]);
    deep.key.innermost = Some(Tunnel { kind: Kind::Ipip, id: None });
    deep.key.depth = 3;
    deep.interface = 1;
    let arp = flow(
        hosts,
        (Kind::Gre, None),
        Inner::Proto(InnerProto(0x0806)),
        [[count(1, 92), zero], [zero; 2]],
    );
    let mut other = flow(
        hosts,
        (Kind::Vxlan, Some(10000)),
        Inner::Proto(InnerProto(InnerProto::REASON | 9)),
        [[count(900, 90_000), zero], [zero; 2]],
    );
    other.key.other = true;
    let mut overflow = flow(
        hosts,
        (Kind::None, None),
        Inner::Proto(InnerProto(InnerProto::REASON | 10)),
        [[count(3, 300), zero], [zero; 2]],
    );
    overflow.key = Key { outer: None, depth: 0, other: true, ..overflow.key };
    let mut plain = flow(
        hosts,
        (Kind::None, None),
        Inner::Proto(InnerProto(InnerProto::REASON)),
        [[count(2, 120), zero], [zero; 2]],
    );
    plain.key.depth = 0;
    let greatest = flow(
        pair("10.0.0.1", "10.0.0.2"),
        (Kind::Wireguard, None),
        Inner::Proto(InnerProto(InnerProto::REASON | 4)),
        [[zero, count(u64::MAX, u64::MAX)], [zero; 2]],
    );
    vec![vxlan, nested, deep, arp, other, overflow, plain, greatest]
}

fn interval(flows: &[Flow]) -> Interval {
    let mut rows = Rows::default();
    for (place, flow) in flows.iter().enumerate() {
        rows.push_flow(place as u32, flow);
    }
    let books = Books {
        counted: [count(12_000, 1_200_000), count(200, 20_000)],
        stops: [
            [count(96, 9_600), Count::default()],
            [count(10, 600), count(4, 240)],
            [Count::default(); 2],
            [count(1, 60), Count::default()],
            [Count::default(); 2],
            [Count::default(); 2],
            [Count::default(); 2],
        ],
        suspect: [count(3, 300), Count::default()],
        ..Books::default()
    };
    let since = SystemTime::UNIX_EPOCH + Duration::from_secs(1_763_831_100);
    let elapsed = Duration::from_millis(5001);
    let eth0 = Interface {
        ifindex: 5,
        hook: HookKind::Tcx,
        books,
        span: elapsed,
        fill: Fill { used: 655, size: 65_536 },
        ..Interface::new(0, "eth0")
    };
    let evil = Interface {
        ifindex: 7,
        netns: Some("blue\n".into()),
        hook: HookKind::Clsact,
        span: elapsed,
        ..Interface::new(1, "e\x1b[2J\u{9b}\u{202e}1")
    };
    let mut interval = Interval::new(since, since + elapsed, elapsed, vec![eth0, evil], rows);
    interval.origin.host = "node-a".into();
    interval
}

fn text(
    interval: &Interval,
    filter: &str,
    format: Format,
    width: Option<usize>,
    readings: usize,
) -> String {
    let filter = Filter::parse(filter).unwrap();
    let reading = Excerpt::new("tmon 0.1.0", interval, &filter);
    let mut out = vec![];
    let mut writer = Writer::new(&mut out, format, table::TableOptions { width, base: Base::Si });
    for _ in 0..readings {
        writer.write(&reading).unwrap();
    }
    String::from_utf8(out).unwrap()
}

/// Compares with the file of this name, or writes it when blessing.
fn golden(name: &str, actual: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if env::var_os("TMON_BLESS").is_some() {
        fs::write(&path, actual).unwrap();
    }
    let expected = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    assert!(actual == expected, "{name} differs; now it is:\n{actual}");
}

#[test]
fn json_is_schema_1() {
    golden("reading.json", &text(&interval(&flows()), "", Format::Json, None, 1));
}

#[test]
fn json_keys_have_the_order_of_the_contract() {
    const CONTRACT: &str = "schema tool host since taken interval_ns interfaces \
        name ifindex netns hook seen FOUR counted FOUR \
        stops plain FOUR non_ip FOUR fragment FOUR truncated FOUR malformed FOUR too_deep FOUR \
        unread FOUR suspect FOUR \
        flows interface tunnel vni tunnels kind id depth outer_sip outer_dip inner_sip inner_dip inner_proto other \
        rx_pkts rx_bytes tx_pkts tx_bytes fwd_pkts fwd_bytes rev_pkts rev_bytes";
    let mut one = interval(&flows()[..1]);
    one.interfaces.truncate(1);
    let json = text(&one, "", Format::Json, None, 1);
    // Every second piece between quotes is inside them; a key is one followed by a colon.
    let pieces: Vec<&str> = json.split('"').collect();
    let keys: Vec<&str> = pieces
        .iter()
        .zip(pieces.iter().skip(1))
        .filter(|(_, next)| next.starts_with(':'))
        .map(|(key, _)| *key)
        .collect();
    assert_eq!(
        keys.join(" "),
        CONTRACT
            .replace("FOUR", "rx_pkts rx_bytes tx_pkts tx_bytes")
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    );
}

#[test]
fn fragments_and_failures_are_reported_if_any() {
    let mut flows = flows();
    flows[0].counters.fragments[1][0] = count(2, 440);
    let mut interval = interval(&flows);
    interval.interfaces[0].books.fragments[1] = count(2, 440);
    (interval.interfaces[0].stale, interval.interfaces[0].span) = (true, Duration::ZERO);
    let v: serde_json::Value =
        serde_json::from_str(&text(&interval, "", Format::Json, None, 1)).unwrap();
    let four = serde_json::json!({"rx_pkts": 0, "rx_bytes": 0, "tx_pkts": 2, "tx_bytes": 440});
    assert_eq!(v["interfaces"][0]["fragments"], four);
    assert!(v["interfaces"][1].get("fragments").is_none());
    let with: Vec<_> =
        v["flows"].as_array().unwrap().iter().filter(|f| f.get("fragments").is_some()).collect();
    assert_eq!(with.len(), 1);
    assert_eq!(
        with[0]["fragments"],
        serde_json::json!({"fwd_pkts": 2, "fwd_bytes": 440, "rev_pkts": 0, "rev_bytes": 0})
    );
    assert_eq!(
        (&with[0]["vni"], &with[0]["tx_pkts"], &with[0]["tx_bytes"]),
        (&10000.into(), &5.into(), &1100.into())
    );
    let table = text(&interval, "", Format::Table, None, 1);
    assert!(
        table.contains(
            "header); 2 fragments of outer packets; could not be read: last known counts; table"
        ),
        "{table}"
    );
    assert_eq!(
        (&v["interfaces"][0]["stale"], v["interfaces"][1].get("stale")),
        (&true.into(), None)
    );
    assert_eq!(
        (&v["interfaces"][0]["interval_ns"], v["interfaces"][1].get("interval_ns")),
        (&0.into(), None)
    );
}

#[test]
fn json_is_one_valid_line_per_reading_and_keeps_every_value() {
    let json = text(&interval(&flows()), "", Format::Json, None, 3);
    assert_eq!(json.lines().count(), 3);
    assert!(
        !json.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
        "raw control character"
    );
    for line in json.lines() {
        let v: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(v["interfaces"][1]["name"], "e\x1b[2J\u{9b}\u{202e}1");
        assert_eq!(v["interval_ns"], 5_001_000_000u64);
        let flows = v["flows"].as_array().unwrap();
        assert_eq!(flows.len(), 8);
        let overflow = flows.iter().find(|f| f["inner_proto"] == "overflow").unwrap();
        assert!(
            overflow["outer_sip"].is_null()
                && overflow["tunnel"].is_null()
                && overflow["vni"].is_null()
        );
        assert_eq!(
            (&overflow["tunnels"], &overflow["depth"], &overflow["other"]),
            (&serde_json::json!([]), &0.into(), &true.into())
        );
        assert_eq!(
            flows.iter().find(|f| f["tunnel"] == "wireguard").unwrap()["rx_bytes"],
            u64::MAX
        );
        let sums =
            |kind: &str| flows.iter().map(|f| u128::from(f[kind].as_u64().unwrap())).sum::<u128>();
        assert_eq!(sums("rx_bytes") + sums("tx_bytes"), sums("fwd_bytes") + sums("rev_bytes"));
        assert_eq!(sums("rx_pkts") + sums("tx_pkts"), sums("fwd_pkts") + sums("rev_pkts"));
    }
}

/// Each element of a reading's `flows` is written as one line, with the reading's time.
#[test]
fn json_flows_match_the_reading() {
    let interval = interval(&flows());
    let reading: serde_json::Value =
        serde_json::from_str(&text(&interval, "", Format::Json, None, 1)).unwrap();
    let lines = text(&interval, "", Format::JsonFlows, None, 2);
    let rows = reading["flows"].as_array().unwrap();
    assert_eq!(lines.lines().count(), 2 * rows.len(), "one after the other");
    for (line, row) in lines.lines().zip(rows.iter().chain(rows)) {
        let mut line: serde_json::Value = serde_json::from_str(line).unwrap();
        let line = line.as_object_mut().unwrap();
        for name in ["schema", "host", "since", "taken"] {
            assert_eq!(line.remove(name).unwrap(), reading[name], "{name}");
        }
        assert!(line.remove("interval_ns").unwrap().is_u64());
        assert_eq!(line, row.as_object().unwrap());
    }
}

/// Every output matches its schema in docs/schema, and a modified one does not.
#[test]
fn outputs_match_their_schemas() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/schema");
    let mut schemas = boon::Schemas::new();
    let mut compiler = boon::Compiler::new();
    let mut compiled = |name: &str| {
        let path = folder.join(name);
        compiler.compile(path.to_str().unwrap(), &mut schemas).unwrap_or_else(|e| panic!("{e:#}"))
    };
    let (reading, flow) = (compiled("reading.json"), compiled("flow.json"));
    let mut interval = interval(&flows());
    let timed =
        RoundTrips { samples: 1, least: 5, most: 5, nanoseconds: 5, ..RoundTrips::default() };
    let round_trips = [((0, flows()[0].key), [timed, RoundTrips::default()])].into();
    let gathered = Gathered { round_trips, untimed: 1, untracked: 2, ..Gathered::default() };
    interval.beside = std::sync::Arc::new(Beside::new(gathered));
    for (format, schema) in [(Format::Json, reading), (Format::JsonFlows, flow)] {
        let written = text(&interval, "", format, None, 1);
        assert!(!written.is_empty());
        for line in written.lines() {
            let mut value: serde_json::Value = serde_json::from_str(line).unwrap();
            schemas.validate(&value, schema).unwrap_or_else(|e| panic!("{line}: {e:#}"));
            let object = value.as_object_mut().unwrap();
            object.insert("unheard_of".to_owned(), 1.into());
            assert!(schemas.validate(&value, schema).is_err(), "all fields are in the schema");
            let object = value.as_object_mut().unwrap();
            object.remove("unheard_of");
            object.insert("interval_ns".to_owned(), "1".into());
            assert!(schemas.validate(&value, schema).is_err(), "counters are integers");
        }
    }
}

#[test]
fn csv_has_its_header_once() {
    let one = text(&interval(&flows()), "", Format::Csv, None, 1);
    golden("reading.csv", &one);
    let two = text(&interval(&flows()), "", Format::Csv, None, 2);
    let body = one.split_once('\n').unwrap().1;
    assert_eq!(two, format!("{one}{body}"));
    assert_eq!(text(&interval(&[]), "", Format::Csv, None, 1).lines().count(), 1);
}

#[test]
fn csv_of_interfaces_has_their_books() {
    let interval = interval(&flows());
    let one = text(&interval, "vni:1", Format::CsvInterfaces, None, 1);
    let mut lines = csv::Reader::from_reader(one.as_bytes());
    let columns = lines.headers().unwrap().clone();
    let records: Vec<csv::StringRecord> = lines.records().map(Result::unwrap).collect();
    assert_eq!(records.len(), interval.interfaces.len());
    let json: serde_json::Value =
        serde_json::from_str(&text(&interval, "", Format::Json, None, 1)).unwrap();
    for (record, interface) in records.iter().zip(json["interfaces"].as_array().unwrap()) {
        let field =
            |name: &str| record.get(columns.iter().position(|c| c == name).expect(name)).unwrap();
        let name = sanitize(interface["name"].as_str().unwrap()).into_owned();
        assert_eq!(field("interface"), name);
        for way in ["rx_pkts", "rx_bytes", "tx_pkts", "tx_bytes"] {
            let number = |what: &str| field(&format!("{what}_{way}")).parse::<u64>().unwrap();
            for what in ["seen", "counted", "suspect"] {
                assert_eq!(number(what), interface[what][way].as_u64().unwrap(), "{what} {way}");
            }
            let mut all = number("counted");
            for (stop, counts) in interface["stops"].as_object().unwrap() {
                let n = number(&format!("stop_{stop}"));
                assert_eq!(n, counts[way].as_u64().unwrap(), "{stop} {way}");
                all += n;
            }
            assert_eq!(all, number("seen"), "{way}");
        }
    }
    let two = text(&interval, "", Format::CsvInterfaces, None, 2);
    assert_eq!(two.lines().count(), 1 + 2 * records.len(), "the header once");
}

#[test]
fn csv_and_json_have_the_same_columns_and_values() {
    let interval = interval(&flows());
    let json: serde_json::Value =
        serde_json::from_str(&text(&interval, "!iface:eth1", Format::Json, None, 1)).unwrap();
    let csv = text(&interval, "", Format::Csv, None, 1);
    let mut lines = csv::Reader::from_reader(csv.as_bytes());
    let columns = lines.headers().unwrap().clone();
    let flows = json["flows"].as_array().unwrap();
    // JSON has the time once for all rows, and some fields only if there is something to report.
    let here = |column: &str| flows.iter().any(|f| !f[column].is_null());
    let always = flows[0].as_object().unwrap().keys();
    assert_eq!(always.filter(|k| !columns.iter().any(|c| c == *k)).count(), 0, "{columns:?}");
    let optional =
        ["counted_on", "outer_sname", "outer_dname", "inner_sname", "inner_dname", "vni_name"];
    assert!(optional.iter().all(|o| columns.iter().any(|c| c == *o) && !here(o)), "{columns:?}");
    for (record, flow) in lines.records().map(Result::unwrap).zip(flows) {
        for (column, field) in columns.iter().zip(&record) {
            match &flow[column] {
                _ if ["since", "taken", "interval_ns"].contains(&column) => {
                    assert_eq!(field, json[column].to_string().trim_matches('"'), "{column}")
                }
                _ if column.starts_with("fragments_") => {
                    let value = &flow["fragments"][column.trim_start_matches("fragments_")];
                    assert_eq!(field, if value.is_null() { "".into() } else { value.to_string() });
                }
                serde_json::Value::Null => assert_eq!(field, "", "{column}"),
                serde_json::Value::String(s) if column != "interface" => {
                    assert_eq!(field, s, "{column}")
                }
                serde_json::Value::Array(tunnels) => {
                    assert_eq!(field.split('/').filter(|t| !t.is_empty()).count(), tunnels.len())
                }
                serde_json::Value::String(_) => {}
                number_or_bool => assert_eq!(field, number_or_bool.to_string(), "{column}"),
            }
        }
    }
}

#[test]
fn csv_has_the_optional_fields_of_json() {
    let mut cut = flows().remove(0);
    let whole = Flow { interface: 1, ..cut };
    cut.counters.fragments[0] = [count(2, 200), count(1, 100)];
    let names = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&names, "172.16.1.100 node-a\n192.168.0.2 client\nvni:10000 blue\n").unwrap();
    let names = feed::names::Names::read(Some(names.path())).unwrap();
    let interval = interval(&[cut, whole]);
    let reading = Excerpt::new("tmon", &interval, &Filter::default()).called(&names);
    let mut out = Vec::new();
    export::csv::write(&mut out, &reading, export::csv::Header::Yes).unwrap();
    let mut rows = csv::Reader::from_reader(&out[..]);
    let columns = rows.headers().unwrap().clone();
    let rows: Vec<_> = rows.records().map(Result::unwrap).collect();
    let of = |row: usize, column: &str| {
        rows[row][columns.iter().position(|c| c == column).unwrap()].to_owned()
    };
    assert_eq!(
        ["outer_sname", "outer_dname", "inner_dname", "vni_name"].map(|c| of(0, c)),
        ["node-a", "", "client", "blue"]
    );
    let fragments = ["fwd_pkts", "fwd_bytes", "rev_pkts", "rev_bytes"];
    let fragments = fragments.map(|c| format!("fragments_{c}"));
    assert_eq!(fragments.clone().map(|c| of(0, &c)), ["2", "200", "1", "100"]);
    assert_eq!(fragments.map(|c| of(1, &c)), [""; 4]);
}

#[test]
fn tables_of_every_width() {
    let interval = interval(&flows());
    golden("table.txt", &text(&interval, "", Format::Table, None, 1));
    golden("table-120.txt", &text(&interval, "", Format::Table, Some(120), 1));
    golden("table-80.txt", &text(&interval, "", Format::Table, Some(80), 1));
    golden(
        "table-filtered.txt",
        &text(&interval, "kind:vxlan !host:2001:db8::/32", Format::Table, Some(100), 2),
    );
    golden("table-nothing.txt", &text(&interval, "host:1.2.3.4", Format::Table, None, 1));
}

#[test]
fn no_row_is_wider_than_the_terminal() {
    use unicode_width::UnicodeWidthStr;
    let interval = interval(&flows());
    for width in 0..200 {
        let table = text(&interval, "", Format::Table, Some(width), 1);
        // The rows are between the first two empty lines; sentences around them may wrap.
        for line in table.split("\n\n").nth(1).unwrap_or_default().lines() {
            assert!(line.width() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn a_table_is_sorted_by_bytes_and_adds_up() {
    let flows: Vec<Flow> =
        flows().into_iter().filter(|f| f.key.outermost.kind != Kind::Wireguard).collect();
    let table = text(&interval(&flows), "", Format::Table, None, 1);
    let shares: Vec<&str> = table
        .lines()
        .filter_map(|l| l.split_once(" %").map(|(l, _)| l.rsplit(' ').next().unwrap()))
        .collect();
    assert_eq!(shares, ["99.9", "<0.1", "<0.1", "<0.1", "<0.1", "<0.1", "<0.1", "100", "99.1"]); // the last is the coverage
    assert!(
        table.lines().any(|l| l.trim_start().starts_with("total  ")
            && l.contains("7 rows")
            && l.contains("1.5 GB")),
        "{table}"
    );
}

/// A packet enters by one interface and leaves by another: both show it, and one has the share.
#[test]
fn transit_traffic_adds_once() {
    let vxlan = |cells| {
        let inner = Inner::Pair(pair("192.168.0.1", "192.168.0.2"));
        flow(pair("172.16.1.100", "172.16.1.101"), (Kind::Vxlan, Some(10_000)), inner, cells)
    };
    let (there, back, zero) = (count(5, 1100), count(4, 880), Count::default());
    let enters = vxlan([[there, zero], [zero, back]]);
    let leaves = Flow { interface: 1, ..vxlan([[zero, back], [there, zero]]) };
    let interval = interval(&[enters, leaves]);
    let table = text(&interval, "", Format::Table, None, 1);
    let shares = |share: &str| {
        table.lines().filter(|l| l.contains("vxlan 10000") && l.contains(share)).count()
    };
    assert_eq!((shares("100 %"), shares("   -  ")), (1, 1), "{table}");
    assert!(table.contains("passing through: 1 row has no share"), "{table}");
    let json: serde_json::Value =
        serde_json::from_str(&text(&interval, "", Format::Json, None, 1)).unwrap();
    assert_eq!([0, 1].map(|i| json["flows"][i]["counted_on"].as_str()), [None, Some("eth0")]);
    let csv = text(&interval, "", Format::Csv, None, 1);
    let mut rows = csv::Reader::from_reader(csv.as_bytes());
    let place = rows.headers().unwrap().iter().position(|c| c == "counted_on").unwrap();
    assert_eq!(
        rows.records().map(|r| r.unwrap()[place].to_owned()).collect::<Vec<_>>(),
        ["", "eth0"]
    );
    let reading =
        |filter: &str| Excerpt::new("tmon", &interval, &Filter::parse(filter).unwrap()).total();
    assert_eq!((reading("").packets, reading("iface:eth0").packets), (9, 9));
}

#[test]
fn a_picture_shows_what_was_requested() {
    let picture = |options| {
        let svg = text(&interval(&flows()[..5]), "", Format::Svg(options), None, 1);
        assert!(!svg.chars().any(|c| c.is_control() && c != '\n'), "raw control character");
        let doc = roxmltree::Document::parse(&svg).unwrap();
        let words = doc
            .descendants()
            .filter(|n| n.has_tag_name("text"))
            .filter_map(|n| n.text())
            .collect::<Vec<_>>()
            .join("\n");
        (svg.contains("#ffffff"), words)
    };
    let (light, hosts) = picture(svg::SvgOptions::default());
    assert!(
        !light
            && hosts.contains("172.16.1.101")
            && hosts.contains("node-a")
            && hosts.contains("total 1.5 GB"),
        "{hosts}"
    );
    let (light, inner) = picture(svg::SvgOptions { light: true, inner: true, top: None });
    assert!(light && inner.contains("192.168.0.2") && !inner.contains("172.16.1.101\n"), "{inner}");
    let (_, few) = picture(svg::SvgOptions { top: Some(1), ..svg::SvgOptions::default() });
    assert!(few.contains("3 others"), "{few}");
}

/// In output for people, addresses of one named network stay distinguishable; JSON has the name
/// alone.
#[test]
fn a_name_of_a_network_is_followed_by_the_rest_of_the_address() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "172.16.1.0/24 rack\n192.168.0.0/24 blue\n").unwrap();
    let names = Names::read(Some(file.path())).unwrap();
    let interval = interval(&flows()[..1]);
    let reading = Excerpt::new("tmon 0.1.0", &interval, &Filter::default()).called(&names);
    let written = |format| {
        let mut out = Vec::new();
        Writer::new(&mut out, format, table::TableOptions::default()).write(&reading).unwrap();
        String::from_utf8(out).unwrap()
    };
    let json: serde_json::Value = serde_json::from_str(&written(Format::Json)).unwrap();
    assert_eq!(
        (&json["flows"][0]["outer_sname"], &json["flows"][0]["inner_dname"]),
        (&"rack".into(), &"blue".into())
    );
    let table = written(Format::Table);
    let picture =
        |inner| written(Format::Svg(svg::SvgOptions { inner, ..svg::SvgOptions::default() }));
    for (text, has) in [
        (&table, ["rack.100", "rack.101"]),
        (&table, ["blue.1", "blue.2"]),
        (&picture(false), ["rack.100 received from rack.101", "rack.101 received from rack.100"]),
        (&picture(true), ["blue.1 received from blue.2", "blue.2 received from blue.1"]),
    ] {
        assert!(has.iter().all(|has| text.contains(has)), "{has:?}: {text}");
    }
}

#[test]
fn untrusted_text_is_made_safe_for_any_terminal() {
    for format in [Format::Table, Format::Json, Format::JsonFlows, Format::Csv] {
        let out = text(&interval(&flows()), "", format, None, 1);
        assert!(
            !out.chars().any(|c| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{format:?}: {out}"
        );
    }
}

/// A stream that accepts some bytes and is then closed.
struct Closing(usize);

impl Write for Closing {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.0 == 0 {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let n = buffer.len().min(self.0);
        self.0 -= n;
        Ok(n)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_closed_pipe_is_reported_as_such() {
    let many: Vec<Flow> = flows()
        .into_iter()
        .cycle()
        .take(2000)
        .enumerate()
        .map(|(i, mut f)| {
            f.key.outermost.id = Some(i as u32);
            f
        })
        .collect();
    let interval = interval(&many);
    let reading = Excerpt::new("tmon 0.1.0", &interval, &Filter::default());
    for format in [Format::Table, Format::Json, Format::JsonFlows, Format::Csv] {
        for accepted in [0, 1, 100, 100_000] {
            let mut out = Closing(accepted);
            let error = Writer::new(&mut out, format, table::TableOptions::default())
                .write(&reading)
                .unwrap_err();
            assert_eq!(
                error.kind(),
                io::ErrorKind::BrokenPipe,
                "{format:?} after {accepted} bytes: {error}"
            );
        }
    }
}
