// SPDX-License-Identifier: MIT OR Apache-2.0
//! GTP-U's own messages: plain in the books, and the claims that they make about tunnels.
use std::net::IpAddr;

use feed::{
    config::Config,
    judge,
    packet::{LinkStart, Packet},
};
use model::{
    beside::{Claim, Claimed, Gathered, Saying},
    flow::{Hook, Kind, Stop},
};
use testkit::frames::{Frame, Gtp, pkt};

const WAY4: &str = "172.16.1.100 > 172.16.1.101";
const WAY6: &str = "2001:db8::100 > 2001:db8::101";

/// Judges frames that pass a hook at these times. Returns what is beside the rows, and the number
/// of plain packets.
fn judged<'a>(frames: impl Iterator<Item = (Hook, &'a [u8], u64)>) -> (Gathered, u64) {
    let config = Config { rows: 64, ..Config::default() };
    let mut judge = judge::host(&config).expect("memory for the tables");
    for (hook, data, time) in frames {
        let (start, wire_len) = (LinkStart::Ethernet, data.len() as u32);
        let packet = Packet { data, wire_len, start, link_len: 0, gso_segs: 0, gso_size: 0, time };
        judge.run(hook, &packet, 0).expect("a frame is judged");
    }
    let mut all = Gathered::default();
    judge.beside(0, &mut all).expect("what is beside the rows");
    (all, judge.books().expect("books").stop(Stop::Plain)[0].packets)
}

fn said(frames: &[Vec<u8>]) -> (Vec<(Claim, u64)>, u64) {
    let (all, plain) = judged(frames.iter().map(|data| (Hook::Rx, &**data, 0)));
    (all.claims.into_iter().map(|(claim, n)| (claim, n.packets)).collect(), plain)
}

/// A message with its sequence number, and what follows.
fn message(way: &str, kind: u8, id: u32, rest: &[u8]) -> Frame {
    let length = (4 + rest.len()) as u16;
    let header = [&[0x32, kind][..], &length.to_be_bytes(), &id.to_be_bytes(), &[0, 9, 0, 0]];
    pkt().eth().ip(way).udp(2152, 2152).payload(&[&header.concat(), rest].concat())
}

fn unknown(peer: IpAddr) -> Vec<u8> {
    let octets = match peer {
        IpAddr::V4(a) => a.octets().to_vec(),
        IpAddr::V6(a) => a.octets().to_vec(),
    };
    [&[16, 0, 0, 0x12, 0x34, 133, 0, octets.len() as u8][..], &octets].concat()
}

#[test]
fn every_message_makes_a_claim_about_its_ends() {
    for way in [WAY4, WAY6] {
        for (kind, saying, id) in [
            (1, Saying::EchoRequest, None),
            (2, Saying::EchoResponse, None),
            (31, Saying::ExtensionHeaders, None),
            (254, Saying::EndMarker, Some(7)),
        ] {
            let frame = message(way, kind, 7, &[14, 0]).bytes();
            let (all, plain) = said(&[frame.clone(), frame]);
            assert_eq!(plain, 2, "it is plain in the books");
            let [(claim, 2)] = all[..] else { panic!("{all:?}") };
            assert_eq!((claim.saying(), claim.tunnel.kind), (saying, Kind::Gtpu));
            assert_eq!(claim.tunnel.id, id);
            assert_eq!(format!("{} > {}", claim.from, claim.to), way);
            assert_eq!(claim.who, claim.from);
        }
    }
}

#[test]
fn an_error_indication_is_about_packets_the_other_way() {
    for (way, back, peer) in [
        (WAY4, "172.16.1.101 > 10.9.8.7", "10.9.8.7"),
        (WAY6, "2001:db8::101 > 2001:db8::99", "2001:db8::99"),
    ] {
        let peer: IpAddr = peer.parse().expect("an address");
        let frame = message(way, 26, 0, &unknown(peer)).bytes();
        let (all, _) = said(&[frame]);
        let [(claim, 1)] = all[..] else { panic!("{all:?}") };
        assert_eq!((claim.saying(), claim.tunnel.id), (Saying::ErrorIndication, Some(0x1234)));
        assert_eq!(format!("{} > {}", claim.from, claim.to), back);
        assert_eq!(Some(&*claim.who.to_string()), way.split(' ').next());

        // Without the peer's address, the sender's is used; without anything, the tunnel is
        // unknown.
        let short = message(way, 26, 0, &unknown(peer)[..5]).bytes();
        let none = message(way, 26, 0, &[]).bytes();
        let (all, plain) = said(&[short, none]);
        let mut ids: Vec<_> = all.iter().map(|(claim, _)| claim.tunnel.id).collect();
        ids.sort();
        assert_eq!((ids, plain), (vec![None, Some(0x1234)], 2));
        for (claim, _) in all {
            let (from, to) = way.split_once(" > ").expect("two ends");
            assert_eq!((&*claim.from.to_string(), &*claim.to.to_string()), (to, from));
        }
    }
}

#[test]
fn inner_truncated_and_other_messages_are_ignored() {
    let error = message(WAY4, 26, 0, &unknown([10, 9, 8, 7].into())).bytes();
    for cut in 42..error.len() {
        let (all, _) = said(&[error[..cut].to_vec()]);
        assert!(all.len() <= 1, "{cut}: {all:?}");
    }
    let inner = "192.168.0.1 > 192.168.0.2";
    let inside = pkt().eth().ip(WAY4).udp(2152, 2152).gtpu(12, Gtp::default()).ip(inner);
    let inside = inside.udp(2152, 2152).payload(&[0x30, 1, 0, 0, 0, 0, 0, 0]).bytes();
    let other = message(WAY4, 253, 7, &[]).bytes();
    let (all, _) = said(&[inside, other]);
    assert_eq!(all, []);
}

/// An echo request or response with a sequence number.
fn echo(way: &str, kind: u8, sequence: u8) -> Vec<u8> {
    let header = [0x32, kind, 0, 6, 0, 0, 0, 0, 0, sequence, 0, 0, 14, 0];
    pkt().eth().ip(way).udp(2152, 2152).payload(&header).bytes()
}

#[test]
fn echo_requests_are_timed_until_their_answer() {
    use Hook::{Rx, Tx};
    const BACK4: &str = "172.16.1.101 > 172.16.1.100";
    const BACK6: &str = "2001:db8::101 > 2001:db8::100";
    const MS: u64 = 1_000_000;
    for (way, back) in [(WAY4, BACK4), (WAY6, BACK6)] {
        let (ask, answer) = (|n| echo(way, 1, n), |n| echo(back, 2, n));
        let timed = |packets: &[(Hook, Vec<u8>, u64)]| {
            let (all, _) = judged(packets.iter().map(|(hook, data, time)| (*hook, &**data, *time)));
            let of = |(claim, n): (Claim, Claimed)| {
                (n.timed > 0).then(|| (claim.hook, claim.saying(), n.timed, n.nanoseconds / MS))
            };
            all.claims.into_iter().filter_map(of).collect::<Vec<_>>()
        };
        let asked = |hook, n, ms| vec![(hook, Saying::EchoRequest, n, ms)];
        // At the requester, at the responder, at a mirror port.
        for (out, home) in [(Tx, Rx), (Rx, Tx), (Rx, Rx)] {
            let all = [(out, ask(1), MS), (home, answer(1), 4 * MS)];
            assert_eq!(timed(&all), asked(out, 1, 3), "{way}");
        }
        // Two, of which the second is slower.
        let both = [
            (Tx, ask(1), MS),
            (Rx, answer(1), 2 * MS),
            (Tx, ask(2), 10 * MS),
            (Rx, answer(2), 15 * MS),
        ];
        assert_eq!(timed(&both), asked(Tx, 2, 6));
        // Sent twice: which of the two is answered is unknown. The next is timed again.
        let again = [(Tx, ask(1), MS), (Tx, ask(1), 2 * MS), (Rx, answer(1), 3 * MS)];
        assert_eq!(timed(&again), []);
        let next = [(Tx, ask(2), 10 * MS), (Rx, answer(2), 11 * MS), (Rx, answer(2), 12 * MS)];
        assert_eq!(timed(&[&again[..], &next].concat()), asked(Tx, 1, 1), "and answered once");
        // The answer to another request or from another sender, and a clock that went back.
        let wrong = [(Tx, ask(1), 5 * MS), (Rx, answer(2), 6 * MS), (Rx, echo(way, 2, 1), 7 * MS)];
        assert_eq!(timed(&wrong), []);
        assert_eq!(timed(&[(Tx, ask(1), 5 * MS), (Rx, answer(1), MS)]), []);
        // In transit, each hook has its own.
        let transit = [
            (Rx, ask(1), MS),
            (Tx, ask(1), 2 * MS),
            (Rx, answer(1), 6 * MS),
            (Tx, answer(1), 7 * MS),
        ];
        assert_eq!(
            timed(&transit),
            [(Rx, Saying::EchoRequest, 1, 6), (Tx, Saying::EchoRequest, 1, 4)]
        );
    }
}
