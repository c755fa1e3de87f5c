// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probes: rows that somebody examines more closely. Which packets are caught, that every one is
//! accounted for, and that rows and books are not affected.
//!
//! Frames go through the loaded BPF object with BPF_PROG_TEST_RUN, so these tests need root
//! (CAP_BPF, CAP_NET_ADMIN); without it they fail and say so.
#![allow(clippy::unwrap_used)] // a test's panic is its report
#![cfg(feature = "live")]
use std::{
    collections::{BTreeMap, BTreeSet},
    ops::ControlFlow,
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, Instant},
};

use contract::PROBERS;
use feed::{
    Replay, judge,
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter},
};
use model::{
    filter::Filter,
    flow::{Count, Flow, Hook},
    lens::{LensEntry, TunnelMark},
    rows::Rows,
};
use testkit::{
    cpu::stay_on,
    frames::{Frame, Gre, Gtp, pkt},
    table::{self, Begin},
};
use tmon::kernel::{
    bpf::{Config, LinkStart, Packet, Program},
    probe::{Caught, Prober, Wish},
};

fn load(config: &Config) -> Program {
    Program::load(config).unwrap_or_else(|e| {
        panic!(
            "cannot load the BPF object; this test needs root (CAP_BPF and CAP_NET_ADMIN): {e:#}"
        )
    })
}

/// A VXLAN frame of a network and an inner host; `size` bytes are inside UDP.
fn frame(vni: u32, host: u8, size: usize) -> Vec<u8> {
    pkt()
        .eth()
        .ip("172.16.1.100 > 172.16.1.101")
        .udp(54321, 4789)
        .vxlan(vni)
        .eth()
        .ip(&format!("192.168.0.1 > 192.168.0.{host}"))
        .udp(5, 6)
        .data(size)
        .bytes()
}

fn wish(filter: &str) -> Wish {
    Wish {
        filter: filter.parse().unwrap(),
        ring: Some(1 << 20),
        snaplen: contract::SNAPLEN,
        limit: 0,
        ..Wish::default()
    }
}

fn send(program: &Program, frame: &[u8], times: i32) {
    for hook in [Hook::Rx, Hook::Tx] {
        program.repeat(hook, frame, times).unwrap();
    }
}

/// All packets in the ring buffer: interface, hook and bytes.
fn drain(prober: &mut Prober) -> Vec<(u32, u32, Vec<u8>)> {
    let mut all = Vec::new();
    prober.drain(|about, bytes| {
        assert_eq!((about.size, about.length), (bytes.len() as u32, bytes.len() as u32));
        all.push((about.interface, about.hook, bytes.to_vec()));
        ControlFlow::Continue(())
    });
    all
}

fn total(program: &Program) -> Count {
    let mut rows = Rows::default();
    program.rows(0, &mut rows).unwrap();
    let sum: Count = rows.iter().map(|f| f.counters.total()).sum();
    let books = program.books().unwrap();
    assert_eq!(books.counted.into_iter().sum::<Count>(), sum, "the books close");
    sum
}

#[test]
fn packets_of_matching_rows_old_and_new_are_caught_and_no_others() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let (ours, later) = (frame(7, 2, 20), frame(7, 3, 300));
    let (theirs, new) = (frame(8, 2, 20), frame(8, 3, 20));
    send(&program, &ours, 5);
    send(&program, &theirs, 5);
    let mut prober = Prober::new(wish("vni:7")).unwrap();
    assert!(prober.look(3, "eth0", &program).unwrap());
    assert!(program.probed() > 0);
    for frame in [&ours, &theirs, &later, &new] {
        send(&program, frame, 4);
    }
    let caught = drain(&mut prober);
    let of = |hook: u32, frame: &[u8]| {
        caught.iter().filter(|c| (c.0, c.1, c.2.as_slice()) == (3, hook, frame)).count()
    };
    for frame in [&ours, &later] {
        assert_eq!([of(0, frame), of(1, frame)], [4, 4], "every byte of every packet");
    }
    assert_eq!(caught.len(), 16, "and nothing else");
    assert_eq!(prober.caught(3), Caught { matched: 16, written: 16, ..Caught::default() });
    prober.stop().unwrap();
    send(&program, &ours, 1);
    assert!(drain(&mut prober).is_empty());
    prober.leave(3, &program);
    assert_eq!(program.probed(), 0, "rows are as they were before");
    send(&program, &ours, 1);
    assert_eq!(total(&program).packets, 2 * (5 + 5 + 4 * 4 + 1 + 1));
    assert_eq!(program.unprobed(), 0);
}

#[test]
fn the_kernel_implements_the_filter_language() {
    let program = load(&Config { replay: true, rows: 4096, ..Config::default() });
    let cases = table::cases();
    let packets: Vec<_> = cases
        .iter()
        .map(|case| {
            let bytes = case.frame.bytes();
            let start = match case.begin {
                Begin::Ethernet => LinkStart::Ethernet,
                Begin::Ip => LinkStart::Ip,
                Begin::EtherType(t) => LinkStart::EtherType(t),
            };
            (bytes, start)
        })
        .collect();
    let run = |program: &Program, (bytes, start): &(Vec<u8>, LinkStart)| {
        let packet = Packet { start: *start, ..Packet::ethernet(bytes) };
        program.run(Hook::Rx, &packet).unwrap();
    };
    // The row of a packet, if it is in one.
    let mut before = BTreeMap::new();
    let rows: Vec<Option<Flow>> = packets
        .iter()
        .map(|packet| {
            run(&program, packet);
            let mut rows = Rows::default();
            program.rows(0, &mut rows).unwrap();
            let grown = |f: &Flow| {
                let now = f.counters.total().packets;
                before.insert(format!("{:?}", f.key), now) != Some(now)
            };
            rows.merged().into_iter().find(grown)
        })
        .collect();
    let mut any = 0;
    for text in [
        "",
        "host:172.16.1.100",
        "host:172.16.0.0/15,fd00::/16",
        "!host:172.16.1.101",
        "host:0.0.0.0/0",
        "host:::/0",
        "inner:192.168.0.0/30 kind:vxlan,geneve",
        "inner:2001:db8::2",
        "!inner:0.0.0.0/0",
        "inner:::/0 !inner:2001:db8::1",
        "kind:gre",
        "!kind:gre,gtpu,vxlan",
        "vni:0-100",
        "vni:0-4294967295",
        "!vni:5000-20000000",
        "proto:ipv4",
        "proto:ipv6,arp",
        "!proto:ipv4 !proto:ipv6",
        "proto:truncated,malformed,encrypted",
        "iface:eth0",
        "iface:eth* kind:vxlan",
        "!iface:eth0",
        "iface:other",
    ] {
        let filter: Filter = text.parse().unwrap();
        let mut prober = Prober::new(wish(text)).unwrap();
        let looks = prober.look(0, "eth0", &program).unwrap();
        for (packet, row) in packets.iter().zip(&rows) {
            let before = prober.caught(0).matched;
            run(&program, packet);
            let is = prober.caught(0).matched - before;
            let expected = row.as_ref().is_some_and(|f| filter.matches(f, "eth0"));
            assert_eq!(is, u64::from(expected), "{text:?}: {row:?}");
            any += is;
        }
        assert!(looks || prober.caught(0).matched == 0, "{text:?}");
        prober.leave(0, &program);
    }
    assert!(any > 1000, "{any}");
    let long = (0..33).map(|n| n.to_string()).collect::<Vec<_>>().join(",");
    let mut prober = Prober::new(wish(&format!("vni:{long}"))).unwrap();
    let said = prober.look(0, "eth0", &program).unwrap_err().to_string();
    assert!(said.contains("33 values") && said.contains("32"), "{said}");
}

#[test]
fn every_matching_packet_is_written_or_accounted_for() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let mut small = Prober::new(Wish { ring: Some(1 << 16), ..wish("") }).unwrap();
    small.look(0, "eth0", &program).unwrap();
    send(&program, &frame(1, 1, 1000), 5_000);
    let full = small.caught(0);
    assert_eq!(full.matched, 10_000);
    assert_eq!(full.matched, full.written + full.ring_full + full.over_limit);
    assert!(full.written > 20 && full.ring_full > 9_000, "{full:?}");
    let (mut lost, mut read) = (0, 0);
    small.drain(|about, _| {
        assert!(about.lost >= lost);
        (lost, read) = (about.lost, read + 1);
        ControlFlow::Continue(())
    });
    assert_eq!(read, full.written, "what is written can be read");
    small.leave(0, &program);

    // The limit is so low that a second always ends with as many packets.
    let mut slow = Prober::new(Wish { limit: 7, ..wish("") }).unwrap();
    slow.look(0, "eth0", &program).unwrap();
    send(&program, &frame(1, 1, 1000), 500);
    let some = slow.caught(0);
    assert_eq!((some.matched, some.ring_full), (1000, 0));
    assert_eq!(some.matched, some.written + some.over_limit);
    assert!((7..100).contains(&some.written), "{some:?}");
    slow.leave(0, &program);
    assert_eq!(total(&program).packets, 11_000);
}

#[test]
fn a_packet_is_truncated_to_the_snaplen_and_keeps_its_length() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let frame = frame(1, 1, 1400);
    for snaplen in [1, 15, 16, 128, 129, 600, 9000] {
        let mut prober = Prober::new(Wish { snaplen, ..wish("") }).unwrap();
        prober.look(0, "eth0", &program).unwrap();
        program.repeat(Hook::Tx, &frame, 1).unwrap();
        let mut seen = 0;
        prober.drain(|about, bytes| {
            assert_eq!(bytes, &frame[..frame.len().min(snaplen as usize)]);
            assert_eq!((about.length as usize, about.hook), (frame.len(), 1));
            assert!(program.probed_row(about.row).is_some());
            seen += 1;
            ControlFlow::Continue(())
        });
        assert_eq!(seen, 1, "{snaplen}");
        prober.leave(0, &program);
    }
}

#[test]
fn unparsed_packets_are_caught_on_request() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let whole = frame(1, 1, 20);
    let mut malformed = whole.clone();
    malformed[14] = 0x43; // an IPv4 header of twelve bytes
    let mut suspect = whole.clone();
    suspect[42] = 0; // no VNI: no VXLAN header
    let arp = pkt().eth().arp().bytes();
    let mut prober = Prober::new(Wish { stops: true, no_rows: true, ..wish("") }).unwrap();
    prober.look(0, "eth0", &program).unwrap();
    for frame in [&whole, &malformed, &suspect, &arp] {
        send(&program, frame, 2);
    }
    let mut seen = BTreeMap::new();
    prober.drain(|about, bytes| {
        *seen.entry((about.row, bytes.to_vec())).or_insert(0) += 1;
        ControlFlow::Continue(())
    });
    let [stop, sus] = [contract::CAUGHT_STOP, contract::CAUGHT_SUSPECT];
    let expected = [
        ((stop | contract::STOP_MALFORMED, malformed), 4),
        ((stop | sus | contract::STOP_PLAIN, suspect), 4),
    ];
    assert_eq!(seen, BTreeMap::from(expected));
    assert_eq!(prober.caught(0).matched, 8);
    prober.leave(0, &program);
    send(&program, &whole, 1);
    assert_eq!(total(&program).packets, 6);
}

#[test]
fn the_kernel_and_captures_have_the_same_marks() {
    let outer = |ends: &str, port| pkt().eth().ip(ends).udp(54321, port);
    let [v4, v6] = ["172.16.1.100 > 172.16.1.101", "fd00::1 > fd00::2"];
    let udp = |outer: Frame| outer.ip("192.168.0.1 > 192.168.0.2").udp(53, 5353).data(20).bytes();
    let ovn: &[u8] = &[1, 2, 0x80, 1, 0x80, 3, 0, 5]; // the first bit is reserved
    let other = [&[1, 3, 0x80, 2, 0, 9, 0, 9, 0, 9, 0, 9][..], ovn].concat();
    let long = [&[0, 1, 0x80, 0].repeat(4)[..], ovn].concat();
    let flow = Gtp { extensions: &[(0x85, &[0, 0xc9])], ..Gtp::default() };
    let unlike = Gtp { extensions: &[(0x40, &[0, 9])], ..Gtp::default() };
    let numbered = |gtp| Gtp { sequence: Some(1), ..gtp };
    let gre = Gre { sequence: Some(1), ..Gre::default() };
    let group = |ends| outer(ends, 4789).vxlan(7).set(0, &[0x88]).set(2, &[1, 2]).eth();
    let geneve = |options: &[u8]| outer(v4, 6081).geneve_options(7, options).eth();
    let all = [
        (udp(group(v4)), Some(TunnelMark::Group(258))),
        (udp(group(v6)), Some(TunnelMark::Group(258))),
        (udp(outer(v4, 4789).vxlan(8).set(2, &[1, 2]).eth()), None),
        (udp(geneve(ovn)), Some(TunnelMark::Logical(3, 5))),
        (udp(geneve(&other)), Some(TunnelMark::Logical(3, 5))),
        (udp(geneve(&long)), None),
        (udp(geneve(&[1, 2, 0x80, 0])), None),
        (udp(geneve(&[])), None),
        (udp(outer(v4, 2152).gtpu(9, flow)), Some(TunnelMark::Qfi(9))),
        (udp(outer(v6, 2152).gtpu(9, unlike)), None),
        (udp(outer(v4, 2152).gtpu(9, Gtp::default())), None),
        // With sequence numbers.
        (udp(outer(v4, 2152).gtpu(10, numbered(flow))), Some(TunnelMark::Qfi(9))),
        (udp(outer(v6, 2152).gtpu(10, numbered(flow))), Some(TunnelMark::Qfi(9))),
        (udp(outer(v4, 2152).gtpu(11, numbered(Gtp::default()))), None),
        (udp(pkt().eth().ip(v4).gre(gre).eth()), None),
        (udp(pkt().eth().ip(v4).gre(Gre { key: Some(7), ..gre })), None),
        // Behind a VLAN tag.
        (
            udp(pkt().eth().vlan(5).ip(v4).udp(1, 4789).vxlan(7).set(0, &[0x88]).eth()),
            Some(TunnelMark::Group(0)),
        ),
    ];
    let program = load(&Config { rows: 1024, ..Config::default() });
    let mut prober = Prober::new(Wish { ring: None, lens: true, ..wish("") }).unwrap();
    prober.look(3, "eth0", &program).unwrap();
    for (frame, _) in &all {
        program.repeat(Hook::Tx, frame, 2).unwrap();
    }
    let mut writer = PcapngWriter::new(Vec::new(), "tmon test");
    writer.interface(&InterfaceBlock { name: "eth0", link: 1, ..Default::default() }).unwrap();
    for (frame, _) in all.iter().chain(&all) {
        let orig_len = frame.len() as u32;
        writer.packet(&PacketBlock { data: frame, orig_len, ..Default::default() }).unwrap();
    }
    writer.flush().unwrap();
    let file = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
    std::fs::write(file.path(), writer.get_ref()).unwrap();
    let config = feed::config::Config::default();
    let mut replay = Replay::open(&[file.path().to_owned()], &config, judge::host).unwrap();
    replay.look(Filter::default()).unwrap();
    while replay.advance(1000).unwrap() {}
    replay.read().unwrap();
    let sorted = |entries: Vec<LensEntry>| {
        let told = |e: &LensEntry| (e.mark, e.l4, e.ports, e.tos, e.ttl, e.size, e.count.packets);
        let mut told: Vec<_> = entries.iter().map(told).collect();
        told.sort();
        told
    };
    let kernel = sorted(prober.sums().unwrap().into_iter().map(|s| s.2).collect());
    let lens = replay.lens().unwrap();
    let capture = sorted(lens.rows.iter().flat_map(|row| row.entries.clone()).collect());
    assert_eq!(kernel, capture);
    let mut marks: BTreeMap<Option<TunnelMark>, u64> = BTreeMap::new();
    kernel.iter().for_each(|e| *marks.entry(e.0).or_default() += e.6);
    let mut expected = BTreeMap::new();
    all.iter().for_each(|(_, mark)| *expected.entry(*mark).or_default() += 2);
    assert_eq!(marks, expected);
}

#[test]
fn a_lens_separates_packet_contents_of_a_row() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let lens = |filter: &str| {
        let mut prober = Prober::new(Wish { ring: None, lens: true, ..wish(filter) }).unwrap();
        prober.look(3, "eth0", &program).unwrap();
        prober
    };
    let seen = |prober: &Prober| -> Vec<LensEntry> {
        let mut all: Vec<_> = prober.sums().unwrap().into_iter().map(|s| s.2).collect();
        all.sort_by_key(|e| (e.reverse, e.ports));
        all
    };
    let outer = || pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(54321, 4789).vxlan(7).eth();
    let tcp = |flags: u8| {
        let mut bytes = outer().ip("192.168.0.1 > 192.168.0.2").tcp().data(300).bytes();
        bytes[14 + 20 + 8 + 8 + 14 + 20 + 13] = flags;
        bytes
    };
    let (syn, ack) = (tcp(0x02), tcp(0x10));
    let dns = outer().ip("192.168.0.1 > 192.168.0.2").udp(53, 5353).data(20).bytes();
    let mut marked = dns.clone();
    marked[15] = 0xb9; // outer DSCP 46, ECN 1
    let prober = lens("vni:7");
    for (frame, times) in [(&syn, 1), (&ack, 5), (&dns, 3), (&marked, 2)] {
        program.repeat(Hook::Tx, frame, times).unwrap();
    }
    let all = seen(&prober);
    let of = |ports: [u16; 2], tos: u8| {
        let is = |e: &&LensEntry| e.ports == Some(ports) && e.tos[0] == Some(tos);
        all.iter().find(is).copied().unwrap_or_else(|| panic!("{ports:?} {tos}: {all:?}"))
    };
    let (web, name) = (of([8080, 49154], 0), of([53, 5353], 0));
    assert_eq!((web.l4, web.tcp, web.count.packets), (Some(6), 0x12, 6));
    assert_eq!(web.count.bytes, 6 * syn.len() as u64);
    assert_eq!((web.tos[1], web.ttl), (Some(0), [Some(64); 2]));
    assert_eq!((name.l4, name.tcp, name.count.packets), (Some(17), 0, 3));
    assert_eq!(of([53, 5353], 0xb9).count.packets, 2);
    assert!(web.size.0 < syn.len() as u32 && web.size.1 >= Some(syn.len() as u32));
    assert_eq!(all.len(), 3, "{all:?}");
    assert_eq!((prober.caught(3).looked_at, prober.caught(3).lens_lost), (11, 0));
    drop(prober);

    // For every encapsulation, the sums equal those of the rows.
    let program = load(&Config { rows: 4096, ..Config::default() });
    let mut prober = Prober::new(Wish { ring: None, lens: true, ..wish("") }).unwrap();
    prober.look(3, "eth0", &program).unwrap();
    let mut known = 0;
    for case in table::cases().iter().filter(|c| c.begin == Begin::Ethernet) {
        let frame = case.frame.bytes();
        if (64..=3500).contains(&frame.len()) {
            program.repeat(Hook::Rx, &frame, 1).unwrap();
        }
    }
    let sums = prober.sums().unwrap();
    let sum: Count = sums.iter().map(|s| s.2.count).sum();
    for (_, row, entry) in &sums {
        let Some(key) = program.probed_row(*row) else {
            assert_eq!(*row, contract::OWNER_ASK, "more rows than can be told apart");
            continue;
        };
        if key.inner.pair().is_some() && entry.l4.is_some() {
            known += 1;
        }
    }
    let caught = prober.caught(3);
    assert_eq!(sum.packets + caught.lens_lost, caught.looked_at);
    assert_eq!(sum, total(&program));
    assert!(known > 50, "{known} of {}", sums.len());
    prober.leave(3, &program);
}

#[test]
fn concurrent_probers_are_independent() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let mut all: Vec<Prober> =
        (0..PROBERS).map(|vni| Prober::new(wish(&format!("vni:{vni},99"))).unwrap()).collect();
    for prober in &mut all {
        prober.look(0, "eth0", &program).unwrap();
    }
    let mut one = Prober::new(wish("")).unwrap();
    let said = one.look(0, "eth0", &program).unwrap_err().to_string();
    assert!(said.contains("16 processes are already probing rows of eth0"), "{said}");
    for vni in (0..PROBERS).chain([99]) {
        send(&program, &frame(vni, 1, 20), 1);
    }
    for (vni, prober) in all.iter_mut().enumerate() {
        let vnis: BTreeSet<Vec<u8>> = drain(prober).into_iter().map(|c| c.2).collect();
        let expected = [frame(vni as u32, 1, 20), frame(99, 1, 20)];
        assert_eq!(vnis, expected.into_iter().collect());
        assert_eq!(prober.caught(0).matched, 4);
    }
    // A row stays probed as long as one prober wants it.
    for prober in all.drain(1..) {
        let mut prober = prober;
        prober.leave(0, &program);
    }
    send(&program, &frame(99, 1, 20), 1);
    send(&program, &frame(5, 1, 20), 1);
    assert_eq!(drain(&mut all[0]).len(), 2);
    assert!(one.look(0, "eth0", &program).unwrap());
    one.leave(0, &program);
    all[0].leave(0, &program);
    assert_eq!(program.probed(), 0);
}

#[test]
fn rows_recover_when_a_probers_lease_expires() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let frame = frame(1, 1, 20);
    send(&program, &frame, 1);
    let mut prober = Prober::new(wish("")).unwrap();
    prober.look(0, "eth0", &program).unwrap();
    send(&program, &frame, 1);
    assert_eq!(program.probed(), 2, "a slot for each direction");
    // As if the process had been killed.
    prober.die();
    let begin = Instant::now();
    while program.probed() > 0 {
        send(&program, &frame, 1);
        assert!(begin.elapsed() < Duration::from_secs(20), "a lease never ends");
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(begin.elapsed() > Duration::from_secs(2), "{:?}", begin.elapsed());
    let before = prober.caught(0);
    send(&program, &frame, 1);
    assert_eq!(prober.caught(0), before);
    // A prober that was only stopped continues, and knows that it missed packets.
    prober.look(0, "eth0", &program).unwrap();
    assert_eq!(prober.lapses(), 1);
    send(&program, &frame, 1);
    assert_eq!(prober.caught(0).matched, before.matched + 2);
    total(&program);
}

/// Rows that two CPUs count in, so often that each has a slot of its own, while probers come and
/// go.
#[test]
fn rows_and_books_are_exact_while_probers_come_and_go() {
    let program = load(&Config { rows: 1024, ..Config::default() });
    let frames: Vec<Vec<u8>> = (1..=3).map(|host| frame(1, host, 20)).collect();
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0)).unwrap();
    let mut cpus: Vec<usize> =
        (0..nix::sched::CpuSet::count()).filter(|n| set.is_set(*n).unwrap()).take(2).collect();
    cpus.resize(2, cpus[0]);
    let over = AtomicBool::new(false);
    let (sent, caught) = std::thread::scope(|scope| {
        let (frames, over, program) = (&frames, &over, &program);
        let senders: Vec<_> = cpus
            .iter()
            .map(|cpu| {
                scope.spawn(move || {
                    stay_on(*cpu);
                    let mut sent = 0;
                    while !over.load(Ordering::Relaxed) {
                        for frame in frames {
                            program.repeat(Hook::Rx, frame, 50).unwrap();
                            sent += 50;
                        }
                    }
                    sent
                })
            })
            .collect();
        let (mut sum, begin) = (Caught::default(), Instant::now());
        while begin.elapsed() < Duration::from_secs(3) {
            let mut prober = Prober::new(wish("inner:192.168.0.2")).unwrap();
            prober.look(0, "eth0", program).unwrap();
            std::thread::sleep(Duration::from_millis(30));
            prober.stop().unwrap();
            let read = drain(&mut prober).len() as u64;
            let now = prober.caught(0);
            assert_eq!(now.matched, now.written + now.ring_full + now.over_limit);
            assert_eq!(read, now.written);
            sum.add(&now);
            prober.leave(0, program);
        }
        over.store(true, Ordering::Relaxed);
        (senders.into_iter().map(|s| s.join().unwrap()).sum::<u64>(), sum)
    });
    assert!(caught.matched > 0);
    assert_eq!(total(&program).packets, sent, "{caught:?}");
}
