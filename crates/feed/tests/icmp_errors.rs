// SPDX-License-Identifier: MIT OR Apache-2.0
//! ICMP errors that quote a tunnel's packet: who reports what about which tunnel, however much is
//! quoted.
use feed::{
    config::Config,
    judge::{self, Judge},
    packet::{LinkStart, Packet},
};
use model::{
    beside::{Claim, Gathered, Saying},
    flow::{Hook, Kind, Stop, Tunnel},
};
use testkit::frames::{Frame, Gre, Gtp, pkt};

const WAY4: &str = "172.16.1.100 > 172.16.1.101";
const WAY6: &str = "2001:db8::100 > 2001:db8::101";

fn run(judge: &mut dyn Judge, data: &[u8], wire_len: usize) {
    let (start, wire_len) = (LinkStart::Ethernet, wire_len as u32);
    let packet = Packet { data, wire_len, start, link_len: 0, gso_segs: 0, gso_size: 0, time: 0 };
    judge.run(Hook::Rx, &packet, 0).expect("a frame is judged");
}

fn host() -> Box<dyn Judge> {
    let config = Config { rows: 64, ..Config::default() };
    judge::host(&config).expect("memory for the tables")
}

fn said(judge: &mut dyn Judge) -> Vec<(Claim, u64, Option<u32>)> {
    let mut all = Gathered::default();
    judge.beside(0, &mut all).expect("what is beside the rows");
    assert_eq!(all.unclaimed, 0);
    all.claims.into_iter().map(|(claim, n)| (claim, n.packets, n.mtu)).collect()
}

/// A router's error about a packet, quoting this many bytes of it.
fn error(packet: &Frame, quoted: usize, v6: bool) -> Frame {
    let way = if v6 { "2001:db8::fe > 2001:db8::100" } else { "172.16.1.254 > 172.16.1.100" };
    let bytes = packet.bytes();
    pkt().eth().ip(way).icmp_error().payload(&bytes[..quoted.min(bytes.len())])
}

fn inside(frame: Frame) -> Frame {
    frame.ip("192.168.0.1 > 192.168.0.2").udp(1000, 2000).data(200)
}

/// Tunnels' packets, and what is known about them from their first 28 or 48 bytes, and from all.
fn packets() -> Vec<(Frame, bool, Option<Tunnel>, Tunnel)> {
    let t = |kind, id| Tunnel { kind, id };
    let vxlan = |way: &str| inside(pkt().ip(way).udp(54321, 4789).vxlan(7).eth());
    let gre = Gre { key: Some(9), ..Gre::default() };
    let esp = [&[0, 0, 0x10, 0, 0, 0, 0, 1][..], &[0xc3; 100]].concat();
    vec![
        (vxlan(WAY4), false, Some(t(Kind::Vxlan, None)), t(Kind::Vxlan, Some(7))),
        (vxlan(WAY6), true, Some(t(Kind::Vxlan, None)), t(Kind::Vxlan, Some(7))),
        (
            inside(pkt().ip(WAY4).udp(54321, 6081).geneve(8).eth()),
            false,
            Some(t(Kind::Geneve, None)),
            t(Kind::Geneve, Some(8)),
        ),
        (
            inside(pkt().ip(WAY4).udp(2152, 2152).gtpu(12, Gtp::default())),
            false,
            Some(t(Kind::Gtpu, None)),
            t(Kind::Gtpu, Some(12)),
        ),
        (
            inside(pkt().ip(WAY4).gre(gre)),
            false,
            Some(t(Kind::Gre, Some(9))),
            t(Kind::Gre, Some(9)),
        ),
        (inside(pkt().ip(WAY4)), false, Some(t(Kind::Ipip, None)), t(Kind::Ipip, None)),
        (
            pkt().ip(WAY4).proto(50).payload(&esp),
            false,
            Some(t(Kind::Esp, None)),
            t(Kind::Esp, None),
        ),
        (
            pkt().ip(WAY4).udp(51820, 51820).wireguard(4, 100),
            false,
            Some(t(Kind::Wireguard, None)),
            t(Kind::Wireguard, None),
        ),
    ]
}

#[test]
fn a_quote_names_the_tunnel_as_far_as_it_reaches() {
    for (packet, v6, least, most) in packets() {
        let header = if v6 { 40 } else { 20 };
        for (quoted, want) in [(header + 8, least), (usize::MAX, Some(most))] {
            let mut judge = host();
            let frame = error(&packet, quoted, v6).bytes();
            run(&mut *judge, &frame, frame.len());
            run(&mut *judge, &frame, frame.len());
            let books = judge.books().expect("books");
            assert_eq!(books.stop(Stop::Plain)[0].packets, 2, "they are plain in the books");
            let all = said(&mut *judge);
            let got = all.iter().map(|(claim, packets, mtu)| (claim.tunnel, *packets, *mtu));
            assert_eq!(got.collect::<Vec<_>>(), [(want.expect("a tunnel"), 2, Some(1500))]);
            let claim = all[0].0;
            let ends = format!("{} > {}", claim.from, claim.to);
            assert_eq!(ends, if v6 { WAY6 } else { WAY4 });
            assert_eq!(claim.who.to_string(), if v6 { "2001:db8::fe" } else { "172.16.1.254" });
            assert_eq!(claim.saying(), Saying::TooBig);
        }
    }
}

#[test]
fn errors_without_a_tunnels_packet_are_ignored() {
    let vxlan = || inside(pkt().ip(WAY4).udp(54321, 4789).vxlan(7).eth());
    let whole = error(&vxlan(), usize::MAX, false).bytes();
    let later = vxlan().fragments(0, 64, 7).remove(1);
    for (what, frame) in [
        ("TCP", error(&pkt().ip(WAY4).tcp().data(50), usize::MAX, false).bytes()),
        ("UDP", error(&pkt().ip(WAY4).udp(53, 53).data(50), usize::MAX, false).bytes()),
        ("nothing is quoted", error(&vxlan(), 0, false).bytes()),
        ("half an IP header", error(&vxlan(), 12, false).bytes()),
        ("another version", error(&vxlan(), usize::MAX, true).bytes()),
        ("a later fragment", error(&later, usize::MAX, false).bytes()),
        ("rubbish", error(&pkt().payload(&[0xff; 100]), usize::MAX, false).bytes()),
        ("an echo", {
            let mut frame = whole.clone();
            frame[34] = 8;
            frame
        }),
    ] {
        let mut judge = host();
        run(&mut *judge, &frame, frame.len());
        assert_eq!(said(&mut *judge), [], "{what}");
    }
    // Truncated anywhere, it is attributed to the right ends or not at all; and nothing is counted
    // twice.
    for n in 0..whole.len() {
        let mut judge = host();
        run(&mut *judge, &whole[..n], whole.len());
        run(&mut *judge, &whole[..n], n);
        for (claim, packets, _) in said(&mut *judge) {
            assert_eq!(format!("{} > {}", claim.from, claim.to), WAY4);
            assert!(packets <= 2 && claim.tunnel.kind == Kind::Vxlan);
        }
        let seen = judge.books().expect("books").seen();
        assert_eq!(seen[0].packets, 2, "cut to {n} bytes");
    }
}

#[test]
fn thousands_of_forged_errors_stay_bounded() {
    let mut judge = host();
    let packet = inside(pkt().ip(WAY4).udp(54321, 4789).vxlan(7).eth());
    let frame = error(&packet, usize::MAX, false).bytes();
    for n in 0..5000u32 {
        let mut frame = frame.clone();
        frame[26..30].copy_from_slice(&(0x0a00_0000 + n).to_be_bytes());
        run(&mut *judge, &frame, frame.len());
    }
    let mut all = Gathered::default();
    judge.beside(0, &mut all).expect("what is beside the rows");
    assert!(all.claims.len() > 700, "{}", all.claims.len());
    assert_eq!(all.claims.len() as u64 + all.unclaimed, 5000);
}
