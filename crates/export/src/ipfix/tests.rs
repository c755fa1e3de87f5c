// SPDX-License-Identifier: MIT OR Apache-2.0
//! Messages are decoded by an independent reader that knows only RFC 7011.
use std::{
    collections::BTreeMap,
    io::Read,
    net::{Ipv4Addr, Ipv6Addr, TcpListener, UdpSocket},
    sync::{Arc, Mutex},
    time::Instant,
};

use super::*;
use model::{
    flow::{Counters, Inner, InnerProto, Key, Pair, Tunnel},
    interface::Interface,
    rows::Rows,
};

/// Element and enterprise.
type Name = (u16, u32);
type Values = BTreeMap<Name, Vec<u8>>;

/// Reads messages of one session.
#[derive(Default)]
struct Reader {
    templates: BTreeMap<u16, Vec<(Name, usize)>>,
    records: Vec<Values>,
    next: Option<u32>,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) << 16 | u32::from(u16_at(bytes, at + 2))
}

impl Reader {
    fn message(&mut self, bytes: &[u8]) {
        assert_eq!((u16_at(bytes, 0), usize::from(u16_at(bytes, 2))), (10, bytes.len()));
        let sequence = u32_at(bytes, 8);
        assert_eq!(*self.next.get_or_insert(sequence), sequence, "no record is missing");
        let before = self.records.len();
        let mut sets = &bytes[16..];
        while !sets.is_empty() {
            let (set, length) = (u16_at(sets, 0), usize::from(u16_at(sets, 2)));
            assert!(length > 4, "a set has something in it");
            match set {
                2 => self.template_set(&sets[4..length]),
                set => self.data_set(set, &sets[4..length]),
            }
            sets = &sets[length..];
        }
        let new = (self.records.len() - before) as u32;
        self.next = Some(sequence.wrapping_add(new));
    }

    fn template_set(&mut self, mut set: &[u8]) {
        while !set.is_empty() {
            let (template, count) = (u16_at(set, 0), u16_at(set, 2));
            let mut fields: Vec<(Name, usize)> = Vec::new();
            set = &set[4..];
            for _ in 0..count {
                let (number, length) = (u16_at(set, 0), usize::from(u16_at(set, 2)));
                let private = number & 0x8000 != 0;
                let enterprise = if private { u32_at(set, 4) } else { 0 };
                let name = (number & 0x7fff, enterprise);
                assert!(fields.iter().all(|f| f.0 != name), "{name:?} is there twice");
                fields.push((name, length));
                set = &set[if private { 8 } else { 4 }..];
            }
            self.templates.insert(template, fields);
        }
    }

    fn data_set(&mut self, template: u16, mut set: &[u8]) {
        let fields = &self.templates[&template];
        while !set.is_empty() {
            let mut record = Values::new();
            for (name, length) in fields {
                record.insert(*name, set[..*length].to_vec());
                set = &set[*length..];
            }
            self.records.push(record);
        }
    }
}

fn number(record: &Values, name: Name) -> u64 {
    record[&name].iter().fold(0, |n, byte| n << 8 | u64::from(*byte))
}

fn address(record: &Values, v4: Name, v6: Name) -> Option<IpAddr> {
    let v4 = record.get(&v4).and_then(|b| <[u8; 4]>::try_from(&b[..]).ok());
    let v6 = record.get(&v6).and_then(|b| <[u8; 16]>::try_from(&b[..]).ok());
    v4.map(|b| Ipv4Addr::from(b).into()).or(v6.map(|b| Ipv6Addr::from(b).into()))
}

fn pair(v6: bool, net: u8, a: u8, b: u8) -> Pair {
    let ip = |n: u8| match v6 {
        true => IpAddr::from([0xfd00, 0, 0, u16::from(net), 0, 0, 0, u16::from(n)]),
        false => [10, net, 0, n].into(),
    };
    Pair { first: ip(a), second: ip(b) }
}

fn row(
    kind: Kind,
    id: Option<u32>,
    outer: Option<Pair>,
    inner: Inner,
    cells: [[u64; 2]; 2],
) -> Flow {
    let count = |packets| Count { packets, bytes: packets * 150 };
    Flow {
        interface: 0,
        key: Key {
            outer,
            outermost: Tunnel { kind, id },
            innermost: None,
            depth: 1,
            inner,
            other: false,
        },
        counters: Counters { cells: cells.map(|c| c.map(count)), ..Counters::default() },
    }
}

/// Rows of all shapes.
fn rows() -> Vec<Flow> {
    let mut flows = Vec::new();
    for (n, (v6_out, v6_in)) in
        [(false, false), (false, true), (true, false), (true, true)].into_iter().enumerate()
    {
        let outer = Some(pair(v6_out, 77, 1, 2 + n as u8));
        let inner = Inner::Pair(pair(v6_in, 78, 1, 2 + n as u8));
        flows.push(row(Kind::Vxlan, Some(10_000), outer, inner, [[0, 5], [7, 0]]));
        flows.push(row(Kind::Gretap, Some(0x1234_5678), outer, inner, [[1, 2], [3, 4]]));
        let arp = Inner::Proto(InnerProto(0x0806));
        flows.push(row(Kind::Ipip, None, outer, arp, [[0, 9], [0, 0]]));
    }
    let rest = Inner::Proto(InnerProto::AGED);
    flows.push(Flow { key: Key::AGED, ..row(Kind::None, None, None, rest, [[0, 1], [1, 0]]) });
    flows
}

const TAKEN: Duration = Duration::from_millis(1_800_000_000_123);

fn interval(flows: &[Flow]) -> Interval {
    let mut rows = Rows::default();
    flows.iter().zip(0..).for_each(|(flow, place)| rows.push_flow(place, flow));
    let (taken, elapsed) = (SystemTime::UNIX_EPOCH + TAKEN, Duration::from_secs(60));
    let eth0 = Interface { ifindex: 4, span: elapsed, ..Interface::new(0, "eth0") };
    Interval::new(taken - elapsed, taken, elapsed, vec![eth0], rows)
}

fn read(options: IpfixOptions, most: usize, flows: &[Flow], overlay: Option<&Overlay>) -> Reader {
    let mut encoder = Encoder::new(options, most);
    let mut reader = Reader::default();
    reader.message(&encoder.templates(SystemTime::UNIX_EPOCH + TAKEN));
    let mut messages = 0;
    let records = encoder.interval(&interval(flows), overlay, &mut |message| {
        assert!(message.len() <= most, "{} bytes", message.len());
        messages += 1;
        reader.message(message);
        Ok(())
    });
    assert_eq!(records.expect("sent"), reader.records.len() as u64);
    assert_eq!(messages > 0, !reader.records.is_empty());
    reader
}

const IN: Name = (10, 0);
const OUT: Name = (14, 0);
const DIRECTION: Name = (61, 0);

#[test]
fn every_row_survives_encoding() {
    let flows = rows();
    let reader = read(IpfixOptions::default(), 1400, &flows, None);
    let mut found = 0;
    for flow in &flows {
        for (hook, cells) in flow.counters.cells.iter().enumerate() {
            for (way, count) in cells.iter().enumerate().filter(|(_, n)| !n.is_zero()) {
                let ends =
                    |p: Pair| if way == 0 { [p.first, p.second] } else { [p.second, p.first] };
                let (inner, outer) = (flow.key.inner.pair().map(ends), flow.key.outer.map(ends));
                let is = |r: &&Values| {
                    address(r, (8, 0), (27, 0)) == inner.map(|e| e[0])
                        && address(r, (12, 0), (28, 0)) == inner.map(|e| e[1])
                        && address(r, (18, 0), (63, 0)) == outer.map(|e| e[1])
                        && address(r, (893, VMWARE), (893, VMWARE)) == outer.map(|e| e[0])
                        && address(r, (894, VMWARE), (894, VMWARE)) == outer.map(|e| e[1])
                        && number(r, (234, 0)) == u64::from(flow.key.outermost.id.unwrap_or(0))
                        && number(r, DIRECTION) == hook as u64
                        && number(r, (891, VMWARE))
                            == u64::from(tunnel_type(flow.key.outermost.kind))
                };
                let all: Vec<_> = reader.records.iter().filter(is).collect();
                assert_eq!(all.len(), 1, "{flow:?} {hook} {way}");
                let r = all[0];
                assert_eq!((number(r, (2, 0)), number(r, (1, 0))), (count.packets, count.bytes));
                let (end, start) = (number(r, (153, 0)), number(r, (152, 0)));
                assert_eq!((u128::from(end), end - start), (TAKEN.as_millis(), 60_000));
                let (here, nowhere) = if hook == 0 { (IN, OUT) } else { (OUT, IN) };
                assert_eq!((number(r, here), number(r, nowhere)), (4, 0));
                found += 1;
            }
        }
    }
    assert_eq!(found, reader.records.len());
    let of =
        |kind: u64| reader.records.iter().find(|r| number(r, (891, VMWARE)) == kind).expect("one");
    assert_eq!(number(of(1), (351, 0)), 1 << 56 | 10_000);
    assert_eq!(number(of(2), (351, 0)), 2 << 56 | 0x12_3456);
    assert_eq!([number(of(1), (895, VMWARE)), number(of(2), (895, VMWARE))], [17, 47]);
    assert!(reader.records.iter().all(|r| number(r, (4, 0)) == 0));
}

#[test]
fn a_biflow_has_both_directions() {
    let options = IpfixOptions { biflow: true, ..Default::default() };
    let flows = rows();
    let reader = read(options, 1400, &flows, None);
    assert_eq!(reader.records.len(), flows.len());
    let sum = |name| reader.records.iter().map(|r| number(r, name)).sum::<u64>();
    let fwd: Count = flows.iter().map(|f| f.counters.fwd()).sum();
    let rev: Count = flows.iter().map(|f| f.counters.rev()).sum();
    assert_eq!((sum((2, 0)), sum((1, 0))), (fwd.packets, fwd.bytes));
    assert_eq!((sum((2, REVERSE)), sum((1, REVERSE))), (rev.packets, rev.bytes));
    assert!(
        reader.records.iter().all(|r| r.contains_key(&(239, 0)) && !r.contains_key(&DIRECTION))
    );
}

#[test]
fn sent_means_from_this_hosts_own_addresses() {
    let flows = rows();
    let mut overlay = Overlay::default();
    overlay.addresses.insert(pair(false, 77, 1, 2).first, vec![None]);
    let options = IpfixOptions { sent: true, ..Default::default() };
    let reader = read(options, 1400, &flows, Some(&overlay));
    // To two peers over IPv4, VXLAN and GRE from the first end; not what the other end forwards.
    assert_eq!(reader.records.len(), 4);
    for r in &reader.records {
        assert_eq!(number(r, DIRECTION), 1);
        assert_eq!(address(r, (893, VMWARE), (0, 0)), Some([10, 77, 0, 1].into()));
    }
    assert!(read(options, 1400, &flows, None).records.is_empty(), "no own address is known");
}

#[test]
fn each_packet_is_exported_once() {
    let outer = Some(pair(false, 77, 1, 2));
    let inner = Inner::Pair(pair(false, 78, 1, 2));
    let seen =
        |interface, cells| Flow { interface, ..row(Kind::Vxlan, Some(7), outer, inner, cells) };
    // A bridge with two watched ports.
    let flows = [seen(0, [[10, 0], [0, 4]]), seen(1, [[0, 4], [10, 0]])];
    let mut both = interval(&flows);
    both.interfaces.push(Interface::new(1, "eth1"));
    let both = Interval::new(both.since, both.taken, both.elapsed, both.interfaces, both.rows);
    let records: Vec<_> = flows
        .iter()
        .flat_map(|f| records(&both, None, f, IpfixOptions::default()))
        .map(|r| r.count.packets)
        .collect();
    assert_eq!(records.iter().sum::<u64>(), 14);
}

#[test]
fn messages_fit_at_any_number_of_rows() {
    let flows: Vec<Flow> = (0..1000)
        .map(|n: u32| {
            let outer = Some(pair(n.is_multiple_of(3), (n / 256) as u8, 1, n as u8));
            let inner = match n % 5 {
                0 => Inner::Proto(InnerProto(0x0806)),
                _ => Inner::Pair(pair(n.is_multiple_of(2), (n / 256) as u8, 1, n as u8)),
            };
            row(Kind::Geneve, Some(n), outer, inner, [[0, u64::from(n)], [1, 0]])
        })
        .collect();
    for biflow in [false, true] {
        let options = IpfixOptions { biflow, ..Default::default() };
        for most in [300, 1400, 16_000, usize::MAX] {
            let encoder = Encoder::new(options, most);
            assert!(encoder.templates(SystemTime::UNIX_EPOCH).len() <= 1400, "in one datagram");
            let mut reader = Reader::default();
            reader.message(&encoder.templates(SystemTime::UNIX_EPOCH));
            let mut encoder = Encoder { sequence: u32::MAX - 7, ..encoder };
            reader.next = None;
            let sent = encoder.interval(&interval(&flows), None, &mut |m| {
                assert!(m.len() <= encoder_limit(most));
                reader.message(m);
                Ok(())
            });
            assert_eq!(sent.expect("sent"), reader.records.len() as u64);
            let packets: u64 = reader.records.iter().map(|r| number(r, (2, 0))).sum();
            let back: u64 =
                reader.records.iter().filter(|_| biflow).map(|r| number(r, (2, REVERSE))).sum();
            assert_eq!(packets + back, 1000 + 999 * 1000 / 2);
        }
    }
    assert!(read(IpfixOptions::default(), 1400, &[], None).records.is_empty());
}

fn encoder_limit(most: usize) -> usize {
    most.min(usize::from(u16::MAX))
}

/// What a sender reports.
type Told = Arc<Mutex<Vec<String>>>;

fn sender(port: u16, tcp: bool) -> (IpfixSender, Told) {
    let told = Told::default();
    let tell = Arc::clone(&told);
    let target = Target { host: "127.0.0.1".to_owned(), port, tcp };
    let say = move |line: &str| tell.lock().expect("no panic").push(line.to_owned());
    (IpfixSender::start(target, IpfixOptions::default(), || {}, say).expect("a thread"), told)
}

fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn datagrams_arrive() {
    let socket = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(60))).expect("a timeout");
    let (sender, told) = sender(socket.local_addr().expect("an address").port(), false);
    until("it is ready", || sender.is_ready());
    sender.send(interval(&rows()), None);
    assert!(sender.finish());
    let (mut reader, mut bytes) = (Reader::default(), [0; 2000]);
    while reader.records.len() < 30 {
        let n = socket.recv(&mut bytes).expect("a message");
        reader.message(&bytes[..n]);
    }
    assert_eq!(reader.records.len(), 4 * (2 + 4 + 1) + 2);
    assert!(told.lock().expect("no panic").is_empty());
}

#[test]
fn a_missing_udp_collector_is_tolerated() {
    let free = UdpSocket::bind(("127.0.0.1", 0)).expect("a port");
    let port = free.local_addr().expect("an address").port();
    drop(free);
    let (sender, told) = sender(port, false);
    for _ in 0..3 {
        until("it is ready", || sender.is_ready());
        sender.send(interval(&rows()), None);
    }
    assert!(sender.finish());
    assert!(told.lock().expect("no panic").is_empty(), "{told:?}");
}

#[test]
fn a_broken_connection_is_reported_and_reopened() {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let at = listener.local_addr().expect("an address");
    let (sender, told) = sender(at.port(), true);
    let (first, _) = listener.accept().expect("it connects");
    until("it is ready", || sender.is_ready());
    // The collector goes away, and comes back.
    drop((first, listener));
    until("it has noticed", || !sender.is_ready());
    until("it is told", || {
        told.lock().expect("no panic").iter().any(|t| t.contains("is unreachable"))
    });
    let listener = TcpListener::bind(at).expect("the port again");
    let (mut second, _) = listener.accept().expect("it connects again");
    until("it is ready", || sender.is_ready());
    sender.send(interval(&rows()), None);
    assert!(sender.finish());
    let mut bytes = Vec::new();
    second.read_to_end(&mut bytes).expect("all of it");
    let (mut reader, mut rest) = (Reader::default(), &bytes[..]);
    while !rest.is_empty() {
        let length = usize::from(u16_at(rest, 2));
        reader.message(&rest[..length]);
        rest = &rest[length..];
    }
    assert_eq!(reader.records.len(), 30, "templates first, and all records");
    let told = told.lock().expect("no panic");
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[1].contains("is back after"), "{told:?}");
}
