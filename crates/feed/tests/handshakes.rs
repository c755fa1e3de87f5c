// SPDX-License-Identifier: MIT OR Apache-2.0
//! TCP connections inside tunnels, as the parser counts them: SYNs, answers, resets, and the time
//! until an answer.
use contract::EPOCH_BITS;
use feed::{
    config::Config,
    judge::{self, Judge},
    packet::Packet,
};
use model::{
    beside::{Gathered, Handshakes, Opener},
    flow::Hook,
    rows::Rows,
};
use testkit::frames::{Frame, Gre, Gtp, pkt};

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;
const SECOND: u64 = 1 << EPOCH_BITS;

/// A TCP segment with this much data.
fn tcp(ports: [u16; 2], [sequence, ack]: [u32; 2], flags: u8, data: usize) -> Vec<u8> {
    let mut bytes = ports.map(u16::to_be_bytes).concat();
    bytes.extend([sequence, ack].map(u32::to_be_bytes).concat());
    bytes.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    bytes.resize(20 + data, 7);
    bytes
}

/// A segment of a connection from port 1000 to port 80; `back` is the other direction.
fn segment(frame: Frame, back: bool, numbers: [u32; 2], flags: u8, data: usize) -> Frame {
    let (ends, ports) = match back {
        false => ("192.168.0.1 > 192.168.0.2", [1000, 80]),
        true => ("192.168.0.2 > 192.168.0.1", [80, 1000]),
    };
    frame.ip(ends).proto(6).payload(&tcp(ports, numbers, flags, data))
}

fn vxlan(back: bool, numbers: [u32; 2], flags: u8) -> Frame {
    let ends = if back { "10.0.0.2 > 10.0.0.1" } else { "10.0.0.1 > 10.0.0.2" };
    let outer = pkt().eth().ip(ends).udp(1, 4789).vxlan(7).eth();
    segment(outer, back, numbers, flags, 0)
}

struct Host {
    judge: Box<dyn Judge>,
    now: u64,
}

impl Host {
    fn new() -> Host {
        let config = Config { rows: 1024, ..Config::default() };
        Host { judge: judge::host(&config).expect("memory for the tables"), now: 1 << 50 }
    }

    fn see(&mut self, hook: Hook, frame: &Frame) {
        self.bytes(hook, &frame.bytes());
    }

    fn bytes(&mut self, hook: Hook, bytes: &[u8]) {
        let packet = Packet { time: self.now, ..Packet::ethernet(bytes) };
        self.judge.run(hook, &packet, 0).expect("a frame is judged");
    }

    fn all(&mut self) -> Gathered {
        let mut all = Gathered { now: self.now, ..Gathered::default() };
        self.judge.beside(0, &mut all).expect("what is beside the rows");
        for opener in all.handshakes.keys() {
            assert!(self.has(opener), "{opener:?} has no row");
        }
        all
    }

    fn has(&self, opener: &Opener) -> bool {
        let mut rows = Rows::default();
        self.judge.rows(0, &mut rows).expect("rows");
        rows.iter().any(|row| row.key == opener.key)
    }

    /// All rows together.
    fn sum(&mut self) -> Handshakes {
        let mut sum = Handshakes::default();
        self.all().handshakes.values().for_each(|n| sum.add(n));
        sum
    }
}

#[test]
fn a_connection_is_answered() {
    for hooks in [[Hook::Tx, Hook::Rx], [Hook::Rx, Hook::Tx], [Hook::Rx, Hook::Rx]] {
        let mut host = Host::new();
        host.see(hooks[0], &vxlan(false, [u32::MAX, 0], SYN)); // the next number is 0
        host.now += 1_234_567;
        host.see(hooks[1], &vxlan(true, [500, 0], SYN | ACK));
        host.see(hooks[1], &vxlan(true, [500, 0], SYN | ACK)); // again
        host.see(hooks[0], &vxlan(false, [0, 501], ACK));
        host.now += 9 * SECOND;
        let want =
            Handshakes { syns: 1, timed: 1, nanoseconds: 1_234_567, ..Handshakes::default() };
        assert_eq!(host.sum(), want, "{hooks:?}");
    }
}

#[test]
fn unanswered_connections_are_counted() {
    let mut host = Host::new();
    for wait in [0, 1, 2, 4] {
        host.now += wait * SECOND;
        host.see(Hook::Tx, &vxlan(false, [5, 0], SYN));
    }
    host.see(Hook::Tx, &vxlan(false, [77, 0], SYN)); // another attempt from the same port
    let want = Handshakes { syns: 5, retries: 3, unanswered: 1, ..Handshakes::default() };
    assert_eq!(host.sum(), want, "an answer to the last one may still come");
    host.now += 2 * SECOND;
    assert_eq!(host.sum(), Handshakes { unanswered: 2, ..want });
    // An answer to a retransmitted SYN is not timed.
    host.see(Hook::Rx, &vxlan(true, [1, 6], SYN | ACK));
    assert_eq!(host.sum(), Handshakes { unanswered: 1, ..want });
}

#[test]
fn a_reset_is_an_answer() {
    let mut host = Host::new();
    host.see(Hook::Tx, &vxlan(false, [5, 0], SYN));
    host.see(Hook::Rx, &vxlan(true, [0, 6], RST | ACK));
    host.see(Hook::Tx, &vxlan(false, [9, 0], RST)); // not one
    host.now += 2 * SECOND;
    let want = Handshakes { syns: 1, resets: [1, 1], ..Handshakes::default() };
    assert_eq!(host.sum(), want);
    // The row's order determines who resets, wherever it is seen.
    let mut host = Host::new();
    host.see(Hook::Rx, &vxlan(true, [0, 6], RST | ACK));
    host.see(Hook::Tx, &vxlan(true, [0, 6], RST));
    assert_eq!(host.sum(), Handshakes { resets: [0, 2], ..Handshakes::default() });
    assert_eq!(host.all().handshakes.len(), 2, "what each hook saw is kept apart");
}

#[test]
fn only_an_acknowledgement_of_the_syn_is_an_answer() {
    for (ack, flags, hook) in
        [(5, SYN | ACK, Hook::Rx), (7, SYN | ACK, Hook::Rx), (6, ACK, Hook::Rx)]
    {
        let mut host = Host::new();
        host.see(Hook::Tx, &vxlan(false, [5, 0], SYN));
        host.see(hook, &vxlan(true, [500, ack], flags));
        host.now += 2 * SECOND;
        assert_eq!(host.sum(), Handshakes { syns: 1, unanswered: 1, ..Handshakes::default() });
    }
}

#[test]
fn a_syn_with_data_is_answered_with_or_without_it() {
    for ack in [6, 106] {
        let mut host = Host::new();
        let outer = || pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(7).eth();
        host.see(Hook::Tx, &segment(outer(), false, [5, 0], SYN, 100));
        host.see(Hook::Rx, &vxlan(true, [500, ack], SYN | ACK));
        host.now += 2 * SECOND;
        assert_eq!(host.sum(), Handshakes { syns: 1, timed: 1, ..Handshakes::default() });
    }
}

#[test]
fn simultaneous_opens_are_answered() {
    let mut host = Host::new();
    host.see(Hook::Tx, &vxlan(false, [5, 0], SYN));
    host.see(Hook::Rx, &vxlan(true, [500, 0], SYN));
    host.see(Hook::Tx, &vxlan(false, [5, 501], SYN | ACK));
    host.see(Hook::Rx, &vxlan(true, [500, 6], SYN | ACK));
    host.now += 2 * SECOND;
    assert_eq!(host.sum(), Handshakes { syns: 2, timed: 2, ..Handshakes::default() });
}

#[test]
fn passing_both_hooks_is_not_a_retransmission() {
    let mut host = Host::new();
    for hook in [Hook::Rx, Hook::Tx] {
        host.see(hook, &vxlan(false, [5, 0], SYN));
    }
    for hook in [Hook::Rx, Hook::Tx] {
        host.see(hook, &vxlan(true, [500, 6], SYN | ACK));
    }
    host.now += 2 * SECOND;
    let all = host.all();
    let want = Handshakes { syns: 1, timed: 1, ..Handshakes::default() };
    assert_eq!(all.handshakes.into_values().collect::<Vec<_>>(), [want, want]);
}

#[test]
fn in_every_tunnel() {
    let gtp = |back: bool| {
        // an id for each direction: the answer is in another row
        let (ends, id) = if back { ("10.0.0.2 > 10.0.0.1", 8) } else { ("10.0.0.1 > 10.0.0.2", 7) };
        pkt().eth().ip(ends).udp(2152, 2152).gtpu(id, Gtp::default())
    };
    let v6 = |back: bool| {
        let ends = if back { "fd00::2 > fd00::1" } else { "fd00::1 > fd00::2" };
        pkt().eth().ip(ends).udp(1, 4789).vxlan(7).eth()
    };
    let gre = |back: bool| {
        let ends = if back { "10.0.0.2 > 10.0.0.1" } else { "10.0.0.1 > 10.0.0.2" };
        let numbered = Gre { sequence: Some(1 + u32::from(back)), ..Gre::default() };
        pkt().eth().ip(ends).gre(numbered)
    };
    let nested = |back: bool| v6(back).ip("10.1.0.1 > 10.1.0.2").udp(1, 6081).geneve(3).eth();
    let mirrored = |_: bool| pkt().eth().ip("10.0.0.9 > 10.0.0.8").udp(1, 4789).vxlan(7).eth();
    let ipip = |back: bool| {
        pkt().eth().ip(if back { "10.0.0.2 > 10.0.0.1" } else { "10.0.0.1 > 10.0.0.2" })
    };
    let tunnels: [(&str, &dyn Fn(bool) -> Frame); 6] = [
        ("GTP-U", &gtp),
        ("VXLAN over IPv6", &v6),
        ("GRE with numbers", &gre),
        ("Geneve in VXLAN", &nested),
        ("a mirror of both directions", &mirrored),
        ("IPIP", &ipip),
    ];
    for (what, outer) in tunnels {
        let mut host = Host::new();
        host.see(Hook::Tx, &segment(outer(false), false, [5, 0], SYN, 0));
        host.now += 100;
        host.see(Hook::Rx, &segment(outer(true), true, [9, 6], SYN | ACK, 0));
        host.see(Hook::Rx, &segment(outer(true), true, [10, 6], RST, 0));
        host.now += 2 * SECOND;
        let n = host.sum();
        assert_eq!((n.syns, n.timed, n.nanoseconds, n.unanswered), (1, 1, 100, 0), "{what}");
        assert_eq!(n.resets.iter().sum::<u64>(), 1, "{what}");
    }
}

#[test]
fn inner_ipv6() {
    let mut host = Host::new();
    let outer = || pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(7).eth();
    let syn = outer().ip("fd01::1 > fd01::2").proto(6).payload(&tcp([1, 2], [5, 0], SYN, 0));
    let ack = outer().ip("fd01::2 > fd01::1").proto(6).payload(&tcp([2, 1], [9, 6], SYN | ACK, 0));
    host.see(Hook::Rx, &syn);
    host.see(Hook::Rx, &ack);
    host.now += 2 * SECOND;
    assert_eq!(host.sum(), Handshakes { syns: 1, timed: 1, ..Handshakes::default() });
}

#[test]
fn only_complete_headers_inside_tunnels_count() {
    let mut host = Host::new();
    // outside of tunnels; cut before the flags; a later fragment
    host.see(Hook::Rx, &segment(pkt().eth(), false, [5, 0], SYN, 0));
    let syn = vxlan(false, [5, 0], SYN).bytes();
    host.bytes(Hook::Rx, &syn[..syn.len() - 8]);
    let outer = pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(7).eth();
    let later = outer.ip("192.168.0.1 > 192.168.0.2").proto(6).frag(1, 100, false);
    host.see(Hook::Rx, &later.payload(&tcp([1000, 80], [5, 0], SYN, 0)));
    assert_eq!(host.sum(), Handshakes::default());
    // With rows for plain traffic it counts there as well.
    let config = Config { rows: 64, plain: true, ..Config::default() };
    host.judge = judge::host(&config).expect("memory for the tables");
    host.see(Hook::Rx, &segment(pkt().eth(), false, [5, 0], SYN, 0));
    assert_eq!(host.sum().syns, 1);
}

#[test]
fn a_flood_is_bounded_and_reported() {
    let mut host = Host::new();
    let many = 40_000u32;
    for n in 0..many {
        let ends = format!("10.9.{}.{} > 192.168.0.2", n / 250 % 250, n % 250);
        let outer = pkt().eth().ip("10.0.0.1 > 10.0.0.2").udp(1, 4789).vxlan(7).eth();
        host.see(Hook::Rx, &outer.ip(&ends).proto(6).payload(&tcp([1024, 80], [n, 0], SYN, 0)));
    }
    host.now += 3 * SECOND;
    let all = host.all();
    let sum = host.sum();
    assert!(all.displaced > 5_000, "{} of {many} made room", all.displaced);
    assert_eq!(sum.syns + all.unfollowed, u64::from(many), "every SYN is accounted for");
    // For an evicted SYN it is unknown whether it was answered.
    assert_eq!(sum.unanswered + all.displaced + all.unfollowed, u64::from(many));
}
