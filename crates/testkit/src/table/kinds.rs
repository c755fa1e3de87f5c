// SPDX-License-Identifier: MIT OR Apache-2.0
//! Explicit rows: the variants of each encapsulation, each with its expected result.
use model::flow::{InnerProto, Kind, Tunnel};

use super::{Begin, Case, I4, I6, Inside, M4, O4, O6, reason, row, tunnel};
use crate::frames::{
    CAPWAP_FRAGMENT, CAPWAP_MAC, CAPWAP_NATIVE, CAPWAP_WIRELESS, Frame, Gre, Gtp, L2tp, pkt,
};

const NO: Option<u32> = None;

fn udp(port: u16) -> Frame {
    pkt().eth().ip(O4).udp(54321, port)
}
fn ip4() -> Frame {
    pkt().eth().ip(O4)
}
fn ip6() -> Frame {
    pkt().eth().ip(O6)
}
/// An inner IP packet, and the same behind an Ethernet header.
fn inner() -> Frame {
    pkt().ip(I4).udp(1000, 2000).data(20)
}
fn inner_eth() -> Frame {
    pkt().eth().then(inner())
}
fn ppp(n: u32) -> Inside {
    Inside::Proto(InnerProto(InnerProto::PPP | n))
}
fn ip_proto(n: u32) -> Inside {
    Inside::Proto(InnerProto(InnerProto::IP_PROTO | n))
}

/// One tunnel over `O4` around `I4`, behind Ethernet.
fn one(name: &str, frame: Frame, t: Tunnel) -> Case {
    row(name, frame, O4, &[t], I4)
}

pub(super) fn cases() -> Vec<Case> {
    [
        link(),
        ip(),
        udp_tunnels(),
        gre(),
        guessed(),
        capwap(),
        l2tpv3(),
        opaque(),
        order(),
        layer3(),
        gso(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Tags other than VLAN tags: the EtherType, and what precedes the EtherType of what follows.
const VN_TAG: (u16, &[u8]) = (0x8926, &[0x80, 1, 0, 2]);
const E_TAG: (u16, &[u8]) = (0x893f, &[0, 0, 0x10, 1, 0, 0]);
const R_TAG: (u16, &[u8]) = (0xf1c1, &[0, 0, 0, 9]);
const METADATA: (u16, &[u8]) = (0x8909, &[1, 1, 0, 1, 0, 5]);
const HSR: (u16, &[u8]) = (0x892f, &[0, 60, 0, 9]);

fn tagged((protocol, tag): (u16, &[u8])) -> Frame {
    pkt().eth().link_tag(protocol, tag)
}
fn r_tag() -> Frame {
    pkt().link_tag(R_TAG.0, R_TAG.1)
}

/// An Ethernet header whose destination begins like an IP header.
fn eth_to(first: u8) -> Frame {
    pkt().eth().set(0, &[first, 0, 0x00, 0x54, 0x00, 0x30])
}

/// Below the first IP header: skipped.
fn link() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let tunnelled = || pkt().ip(O4).udp(54321, 4789).vxlan(7).then(inner_eth());
    let mut tags = pkt().eth();
    for id in 1..=8 {
        tags = tags.vlan(id);
    }
    vec![
        one("link: 802.1q", pkt().eth().vlan(5).then(tunnelled()), vx),
        one("link: 802.1ad and 802.1q", pkt().eth().tag(0x88a8, 5).vlan(6).then(tunnelled()), vx),
        one("link: 0x9100 and 802.1q", pkt().eth().tag(0x9100, 5).vlan(6).then(tunnelled()), vx),
        one(
            "link: five tags",
            pkt().eth().vlan(1).vlan(2).vlan(3).vlan(4).vlan(5).then(tunnelled()),
            vx,
        ),
        one("link: eight tags, the limit", tags.then(tunnelled()), vx),
        one("link: one label", pkt().eth().mpls(&[16]).then(tunnelled()), vx),
        one("link: three labels", pkt().eth().mpls(&[16, 17, 18]).then(tunnelled()), vx),
        one("link: vlan and label", pkt().eth().vlan(5).mpls(&[99]).then(tunnelled()), vx),
        row(
            "link: label over ip6",
            pkt().eth().mpls(&[3]).ip(O6).udp(1, 4789).vxlan(7).then(inner_eth()),
            O6,
            &[vx],
            I4,
        ),
        one("link: pppoe", pkt().eth().pppoe(0x11).ppp().then(tunnelled()), vx),
        one("link: vlan and pppoe", pkt().eth().vlan(7).pppoe(0x11).ppp().then(tunnelled()), vx),
        row(
            "link: pppoe ip6",
            pkt().eth().pppoe(1).ppp().ip(O6).udp(1, 4789).vxlan(7).then(inner_eth()),
            O6,
            &[vx],
            I4,
        ),
        one("link: pbb", pkt().eth().pbb(0x1234).eth().then(tunnelled()), vx),
        one(
            "link: backbone tag, pbb, customer tag",
            pkt().eth().tag(0x88a8, 9).pbb(5).eth().vlan(8).then(tunnelled()),
            vx,
        )
        .odd(),
        // the tags of 802.1BR port extenders, redundant rings, TrustSec, FabricPath
        one("link: vn-tag and 802.1q", tagged(VN_TAG).vlan(5).then(tunnelled()), vx),
        one("link: e-tag and 802.1q", tagged(E_TAG).vlan(5).then(tunnelled()), vx),
        one("link: 802.1q and r-tag", pkt().eth().vlan(5).then(r_tag()).then(tunnelled()), vx),
        one("link: cisco metadata", tagged(METADATA).then(tunnelled()), vx),
        one("link: hsr and 802.1q", tagged(HSR).vlan(5).then(tunnelled()), vx),
        // tshark takes the end of the fabric's payload for a checksum
        one("link: fabricpath", pkt().eth().fabric_path().eth().vlan(5).then(tunnelled()), vx)
            .odd(),
        row(
            "link: tags inside",
            udp(4789).vxlan(7).then(tagged(VN_TAG)).vlan(5).then(r_tag()).ip(I6).tcp(),
            O4,
            &[vx],
            I6,
        ),
        row(
            "link: fabricpath inside",
            udp(4789).vxlan(7).eth().fabric_path().eth().vlan(5).ip(I4).tcp(),
            O4,
            &[vx],
            I4,
        )
        .odd(),
        row(
            "link: arp behind a vn-tag inside",
            udp(4789).vxlan(7).then(tagged(VN_TAG)).arp(),
            O4,
            &[vx],
            0x0806,
        ),
        one("link: nsh", pkt().eth().nsh(100, 255).then(tunnelled()), vx),
        one(
            "link: nsh around ethernet",
            pkt().eth().nsh2(100, 254, &[]).eth().then(tunnelled()),
            vx,
        ),
    ]
}

/// IP in IP, and what may stand between an IP header and its payload.
fn ip() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let (ipip, v6v4) = (tunnel(Kind::Ipip, NO), tunnel(Kind::SixInFour, NO));
    let (v4v6, v6v6) = (tunnel(Kind::FourInSix, NO), tunnel(Kind::SixInSix, NO));
    let (srv6, ah) = (tunnel(Kind::Srv6, NO), tunnel(Kind::Ah, NO));
    let vxlan = || pkt().udp(54321, 4789).vxlan(7).then(inner_eth());
    let mut eight = ip6();
    for _ in 0..8 {
        eight = eight.dstopts(0);
    }
    let options: &[u8] = &[7, 7, 4, 0, 0, 0, 0, 0];
    vec![
        row("ip4: options, 4 bytes", ip4().ip_options(&[1, 1, 1, 0]).then(vxlan()), O4, &[vx], I4),
        row("ip4: options, 8 bytes", ip4().ip_options(options).then(vxlan()), O4, &[vx], I4),
        row("ip4: options, 40 bytes", ip4().ip_options(&[1; 40]).then(vxlan()), O4, &[vx], I4),
        row(
            "ip4: inner options",
            udp(4789).vxlan(7).eth().ip(I4).ip_options(&[1; 40]).tcp(),
            O4,
            &[vx],
            I4,
        ),
        row(
            "ip4: inner options and one more tunnel",
            ip4().ip(M4).ip_options(options).then(vxlan()),
            O4,
            &[ipip, vx],
            I4,
        ),
        // 0: segmentation offload captured before the NIC filled it in; it reaches to the end of
        // the frame
        row("ip4: total length 0", ip4().total_length(0).then(vxlan()), O4, &[vx], I4).odd(),
        row(
            "ip4: inner total length 0",
            udp(4789).vxlan(7).eth().ip(I4).total_length(0).tcp(),
            O4,
            &[vx],
            I4,
        )
        .odd(),
        row("ip4: ethernet padding is not payload", ip4().then(vxlan()).pad(20), O4, &[vx], I4),
        row(
            "ip4: don't fragment and reserved bit",
            ip4().set(6, &[0xc0, 0]).then(vxlan()),
            O4,
            &[vx],
            I4,
        ),
        row("ip6: hop-by-hop", ip6().hopopts(0).then(vxlan()), O6, &[vx], I4),
        row("ip6: destination options, long", ip6().dstopts(5).then(vxlan()), O6, &[vx], I4),
        row("ip6: routing type 0", ip6().routing(0, 0).then(vxlan()), O6, &[vx], I4),
        row("ip6: routing type 2", ip6().routing(2, 1).then(vxlan()), O6, &[vx], I4),
        row("ip6: routing type 3", ip6().routing(3, 0).then(vxlan()), O6, &[vx], I4).odd(),
        // segment routing without IP or Ethernet inside is an ordinary extension header
        row("ip6: segment routing around udp", ip6().srh(2, 1).then(vxlan()), O6, &[vx], I4),
        row("ip6: atomic fragment", ip6().atomic(9).then(vxlan()), O6, &[vx], I4),
        row(
            "ip6: hop-by-hop, destination, routing, atomic",
            ip6().hopopts(0).dstopts(0).routing(0, 0).atomic(1).then(vxlan()),
            O6,
            &[vx],
            I4,
        ),
        row("ip6: eight extension headers, the limit", eight.then(vxlan()), O6, &[vx], I4),
        row("ip6: ah in transport mode", ip6().ah(1).then(vxlan()), O6, &[vx], I4),
        row("ip4: ah in transport mode", ip4().ah(1).then(vxlan()), O4, &[vx], I4),
        row(
            "ip4: ah around gre",
            ip4().ah(1).gre(Gre::default()).then(inner()),
            O4,
            &[tunnel(Kind::Gre, NO)],
            I4,
        ),
        row(
            "ip6: inner hop-by-hop and destination options",
            udp(4789).vxlan(7).eth().ip(I6).hopopts(1).dstopts(0).tcp(),
            O4,
            &[vx],
            I6,
        ),
        row("ip6: inner ah", udp(4789).vxlan(7).eth().ip(I6).ah(5).tcp(), O4, &[vx], I6),
        row("ip6: payload length 0", ip6().set(4, &[0, 0]).then(vxlan()), O6, &[vx], I4).odd(),
        row("ip6: no next header inside", udp(4789).vxlan(7).eth().ip(I6).proto(59), O4, &[vx], I6),
        row(
            "ipip: behind destination options is still 6in6",
            ip6().dstopts(0).ip(I6).tcp(),
            O6,
            &[v6v6],
            I6,
        ),
        row("ipip: 4in6 behind hop-by-hop", ip6().hopopts(0).ip(I4).tcp(), O6, &[v4v6], I4),
        row("ipip: 6in6 behind routing type 0", ip6().routing(0, 1).ip(I6).tcp(), O6, &[v6v6], I6),
        row("ipip: outer options", ip4().ip_options(options).ip(I6).tcp(), O4, &[v6v4], I6),
        row("ipip: inner sctp", ip4().ip(I4).sctp(), O4, &[ipip], I4),
        row("srv6: behind hop-by-hop", ip6().hopopts(0).srh(3, 2).ip(I4).tcp(), O6, &[srv6], I4),
        row("srv6: ethernet with arp", ip6().srh(1, 0).eth().arp(), O6, &[srv6], 0x0806),
        row(
            "srv6: destination options between",
            ip6().srh(1, 0).dstopts(0).ip(I6).tcp(),
            O6,
            &[srv6],
            I6,
        ),
        row("ah: ip6 in ip4", ip4().ah(5).ip(I6).tcp(), O4, &[ah], I6),
        row("ah: twice is one tunnel", ip4().ah(5).ah(6).ip(I4).tcp(), O4, &[ah], I4),
        // the quote in an ICMP error is never a tunnel, even inside one
        row(
            "quote: inner icmp error",
            udp(4789)
                .vxlan(7)
                .eth()
                .ip(I4)
                .icmp_error()
                .ip(M4)
                .udp(1, 4789)
                .vxlan(8)
                .eth()
                .ip(I6)
                .tcp(),
            O4,
            &[vx],
            I4,
        ),
        row(
            "quote: inner icmpv6 error",
            udp(4789).vxlan(7).eth().ip(I6).icmp_error().ip(O6).gre(Gre::default()).ip(I4).tcp(),
            O4,
            &[vx],
            I6,
        ),
        row("etherip: arp", ip4().etherip().eth().arp(), O4, &[tunnel(Kind::EtherIp, NO)], 0x0806),
        // RFC 4023 section 3.1
        row(
            "mpls: directly in ip6",
            ip6().mpls(&[1, 2, 3]).ip(I6).tcp(),
            O6,
            &[tunnel(Kind::Mpls, 1)],
            I6,
        ),
        row(
            "mpls: pseudowire with control word",
            ip4().mpls(&[5]).payload(&[0; 4]).eth().ip(I4).tcp(),
            O4,
            &[tunnel(Kind::Mpls, 5)],
            Inside::Null,
        )
        .odd(),
    ]
}

fn udp_tunnels() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let gpe = tunnel(Kind::VxlanGpe, 7);
    let gnv = tunnel(Kind::Geneve, 7);
    let gtp = tunnel(Kind::Gtpu, 5);
    let tpdu = |o: Gtp| udp(2152).gtpu(5, o).then(inner());
    let l2 = tunnel(Kind::L2tp, 0x2222);
    let data = |o: L2tp| udp(1701).l2tp(0x1111, 0x2222, o);
    let (teredo, gue, ayiya) =
        (tunnel(Kind::Teredo, NO), tunnel(Kind::Gue, NO), tunnel(Kind::Ayiya, NO));
    let extensions: Vec<(u8, &[u8])> = vec![(0x85, &[0, 9]); 8];
    vec![
        // RFC 7348: reserved bits are ignored on receipt; group policy and others use them
        one(
            "vxlan: group policy bits",
            udp(4789).vxlan(7).set(0, &[0x88, 0x40, 0x12, 0x34]).then(inner_eth()),
            vx,
        ),
        one("vxlan: reserved byte set", udp(4789).vxlan(7).set(7, &[0xff]).then(inner_eth()), vx),
        one(
            "vxlan: no udp checksum",
            pkt().eth().ip(O4).udp(54321, 4789).set(6, &[0, 0]).vxlan(7).then(inner_eth()),
            vx,
        ),
        one("vxlan: vni 0", udp(4789).vxlan(0).then(inner_eth()), tunnel(Kind::Vxlan, 0)),
        one("vxlan: both ports", pkt().eth().ip(O4).udp(4789, 4789).vxlan(7).then(inner_eth()), vx),
        row("vxlan: unknown inner type", udp(4789).vxlan(7).eth().data(30), O4, &[vx], 0x88b5),
        row(
            "vxlan: broadcast address inside",
            udp(4789).vxlan(7).eth().ip("0.0.0.0 > 255.255.255.255").udp(68, 67).data(9),
            O4,
            &[vx],
            "0.0.0.0 > 255.255.255.255",
        )
        .odd(),
        row(
            "vxlan: group as destination",
            pkt().eth().ip("172.16.1.9 > 239.1.1.1").udp(5, 4789).vxlan(7).eth().arp(),
            "172.16.1.9 > 239.1.1.1",
            &[vx],
            0x0806,
        ),
        one("gpe: next protocol 1", udp(4790).vxlan_gpe(7).then(inner()), gpe),
        // without the P bit there is no next protocol: the payload is Ethernet, as in VXLAN
        one(
            "gpe: without next protocol bit",
            udp(4790).vxlan_gpe(7).set(0, &[0x08, 0, 0, 0]).then(inner_eth()),
            gpe,
        )
        .odd(),
        row(
            "gpe: nsh and ip",
            udp(4790).vxlan_gpe(7).nsh(9, 255).then(inner()),
            O4,
            &[gpe, tunnel(Kind::Nsh, 9)],
            I4,
        ),
        row(
            "gpe: nsh and ethernet",
            udp(4790).vxlan_gpe(7).nsh(9, 255).then(inner_eth()),
            O4,
            &[gpe, tunnel(Kind::Nsh, 9)],
            I4,
        ),
        row(
            "gpe: nsh type 2 with metadata",
            udp(4790).vxlan_gpe(7).nsh2(9, 1, &[0; 12]).then(inner()),
            O4,
            &[gpe, tunnel(Kind::Nsh, 9)],
            I4,
        )
        .odd(),
        row(
            "gpe: nsh in nsh",
            udp(4790).vxlan_gpe(7).nsh(9, 2).nsh(10, 1).then(inner()),
            O4,
            &[gpe, tunnel(Kind::Nsh, 10)],
            I4,
        )
        .three(tunnel(Kind::Nsh, 9)),
        row(
            "gpe: nsh and mpls",
            udp(4790).vxlan_gpe(7).nsh(9, 2).mpls(&[40]).then(inner()),
            O4,
            &[gpe, tunnel(Kind::Mpls, 40)],
            I4,
        )
        .three(tunnel(Kind::Nsh, 9)),
        row(
            "gpe: mpls",
            udp(4790).vxlan_gpe(7).mpls(&[40]).then(inner()),
            O4,
            &[gpe, tunnel(Kind::Mpls, 40)],
            I4,
        ),
        row(
            "gpe: unknown next protocol",
            udp(4790).vxlan_gpe(7).set(3, &[0x7f]).data(30),
            O4,
            &[gpe],
            Inside::Null,
        )
        .odd(),
        one(
            "geneve: 252 bytes of options",
            udp(6081).geneve_options(7, &[0; 252]).then(inner_eth()),
            gnv,
        )
        .odd(),
        one("geneve: oam", udp(6081).geneve(7).set(1, &[0x80]).then(inner_eth()), gnv),
        one(
            "geneve: critical option",
            udp(6081).geneve_options(7, &[0xff, 0xff, 0x81, 0]).set(1, &[0x40]).then(inner()),
            gnv,
        ),
        one(
            "geneve: oam and critical, reserved bits",
            udp(6081).geneve(7).set(1, &[0xff]).then(inner()),
            gnv,
        )
        .odd(),
        row(
            "geneve: unknown protocol",
            udp(6081).geneve(7).set(2, &[0x88, 0xcc]).data(20),
            O4,
            &[gnv],
            0x88cc,
        )
        .odd(),
        // below the minimum EtherType, but not an 802.3 length
        row("geneve: type 0", udp(6081).geneve(7).set(2, &[0, 0]).data(60), O4, &[gnv], 0).odd(),
        row("geneve: type 3", udp(6081).geneve(7).set(2, &[0, 3]).data(60), O4, &[gnv], 3).odd(),
        row(
            "geneve: type 0x5ff",
            udp(6081).geneve(7).set(2, &[5, 0xff]).data(60),
            O4,
            &[gnv],
            0x5ff,
        )
        .odd(),
        row(
            "geneve: mpls without ethernet",
            udp(6081).geneve(7).mpls(&[50]).then(inner()),
            O4,
            &[gnv, tunnel(Kind::Mpls, 50)],
            I4,
        ),
        one("gtpu: sequence number", tpdu(Gtp { sequence: Some(1), ..Gtp::default() }), gtp),
        one("gtpu: n-pdu number", tpdu(Gtp { npdu: Some(1), ..Gtp::default() }), gtp),
        one(
            "gtpu: pdu session container",
            tpdu(Gtp { extensions: &[(0x85, &[0x10, 9])], ..Gtp::default() }),
            gtp,
        ),
        one(
            "gtpu: long extension",
            tpdu(Gtp { extensions: &[(0x85, &[0; 14])], ..Gtp::default() }),
            gtp,
        )
        .odd(),
        one(
            "gtpu: eight extensions, the limit",
            tpdu(Gtp { extensions: &extensions, ..Gtp::default() }),
            gtp,
        ),
        one(
            "gtpu: from any port",
            pkt().eth().ip(O4).udp(1, 2152).gtpu(5, Gtp::default()).then(inner()),
            gtp,
        ),
        one("gtpu: teid 0", udp(2152).gtpu(0, Gtp::default()).then(inner()), tunnel(Kind::Gtpu, 0)),
        row("gtpu: nothing inside", udp(2152).gtpu(5, Gtp::default()), O4, &[gtp], reason("none"))
            .odd(),
        row(
            "gtpu: payload that is not ip",
            udp(2152).gtpu(5, Gtp::default()).payload(&[0; 30]),
            O4,
            &[gtp],
            Inside::Null,
        )
        .odd(),
        row(
            "mpls-udp: pseudowire",
            udp(6635).mpls(&[5]).payload(&[0; 4]).eth().ip(I4).tcp(),
            O4,
            &[tunnel(Kind::MplsUdp, 5)],
            Inside::Null,
        )
        .odd(),
        one(
            "mpls-udp: eight labels, the limit",
            udp(6635).mpls(&[9, 8, 7, 6, 5, 4, 3, 2]).then(inner()),
            tunnel(Kind::MplsUdp, 9),
        ),
        one(
            "mpls-udp: reserved label on top",
            udp(6635).mpls(&[0]).then(inner()),
            tunnel(Kind::MplsUdp, 0),
        ),
        row(
            "teredo: authentication",
            udp(3544).teredo().teredo_auth(&[], &[]).ip(I6).tcp(),
            O4,
            &[teredo],
            I6,
        ),
        row(
            "teredo: authentication with values",
            udp(3544).teredo().teredo_auth(&[1, 2, 3], &[4; 5]).ip(I6).tcp(),
            O4,
            &[teredo],
            I6,
        ),
        row("teredo: origin", udp(3544).teredo().teredo_origin().ip(I6).tcp(), O4, &[teredo], I6),
        row(
            "teredo: authentication and origin",
            udp(3544).teredo().teredo_auth(&[], &[]).teredo_origin().ip(I6).tcp(),
            O4,
            &[teredo],
            I6,
        ),
        row("teredo: bubble", udp(3544).teredo().ip(I6).proto(59), O4, &[teredo], I6),
        row(
            "teredo: from the server",
            pkt().eth().ip(O4).udp(3544, 50000).teredo().teredo_origin().ip(I6).tcp(),
            O4,
            &[teredo],
            I6,
        )
        .odd(),
        one("gue: variant 0 without fields", udp(6080).gue(0).then(inner()), gue).odd(),
        one("gue: variant 0 with 31 words", udp(6080).gue(31).then(inner()), gue).odd(),
        row(
            "gue: variant 0 around gre",
            udp(6080).gue(0).gre(Gre::default()).then(inner()),
            O4,
            &[gue, tunnel(Kind::Gre, NO)],
            I4,
        )
        .odd(),
        row(
            "gue: variant 0 around mpls",
            udp(6080).gue(0).mpls(&[6]).then(inner()),
            O4,
            &[gue, tunnel(Kind::Mpls, 6)],
            I4,
        )
        .odd(),
        row(
            "gue: unknown protocol",
            udp(6080).gue(0).set(1, &[200]).data(20),
            O4,
            &[gue],
            ip_proto(200),
        )
        .odd(),
        one("l2tp: length", data(L2tp { length: true, ..L2tp::default() }).ppp().then(inner()), l2),
        one(
            "l2tp: sequence",
            data(L2tp { sequence: true, ..L2tp::default() }).ppp().then(inner()),
            l2,
        ),
        one(
            "l2tp: offset 0",
            data(L2tp { offset: Some(0), ..L2tp::default() }).ppp_hdlc().then(inner()),
            l2,
        ),
        one(
            "l2tp: offset 4",
            data(L2tp { offset: Some(4), ..L2tp::default() }).ppp_hdlc().then(inner()),
            l2,
        ),
        one(
            "l2tp: priority",
            data(L2tp { priority: true, ..L2tp::default() }).ppp_hdlc().then(inner()),
            l2,
        ),
        one(
            "l2tp: everything",
            data(L2tp {
                length: true,
                sequence: true,
                offset: Some(2),
                priority: true,
                control: false,
            })
            .ppp_hdlc()
            .then(inner()),
            l2,
        ),
        one(
            "l2tp: compressed protocol field",
            data(L2tp::default()).ppp_compressed(0x21).then(inner()),
            l2,
        )
        .odd(),
        row(
            "l2tp: lcp",
            data(L2tp::default()).ppp_hdlc().payload(&[1, 1, 0, 4]),
            O4,
            &[l2],
            ppp(0xc021),
        ),
        row(
            "lisp: without instance id",
            udp(4341).lisp(None).then(inner()),
            O4,
            &[tunnel(Kind::Lisp, NO)],
            I4,
        ),
        row(
            "lisp: ip6 inside",
            udp(4341).lisp(Some(9)).ip(I6).tcp(),
            O4,
            &[tunnel(Kind::Lisp, 9)],
            I6,
        ),
        row(
            "ayiya: from the server",
            pkt().eth().ip(O4).udp(5072, 50000).ayiya().ip(I6).tcp(),
            O4,
            &[ayiya],
            I6,
        ),
        // draft-massar: a heartbeat has no payload, next header 59
        row("ayiya: heartbeat", udp(5072).ayiya(), O4, &[ayiya], Inside::Null).odd(),
    ]
}

fn gre() -> Vec<Case> {
    let none = Gre::default();
    let g = tunnel(Kind::Gre, NO);
    let k = tunnel(Kind::Gre, 9);
    let mut all = Vec::new();
    for bits in 0..8u8 {
        let o = Gre {
            checksum: bits & 1 != 0,
            key: (bits & 2 != 0).then_some(9),
            sequence: (bits & 4 != 0).then_some(1),
            routing: false,
        };
        let t = if o.key.is_some() { k } else { g };
        all.push(row(format!("gre: flags {bits:03b}"), ip4().gre(o).then(inner()), O4, &[t], I4));
        all.push(row(
            format!("gre: flags {bits:03b}, over ip6"),
            ip6().gre(o).ip(I6).tcp(),
            O6,
            &[t],
            I6,
        ));
        all.push(row(
            format!("gretap: flags {bits:03b}"),
            ip4().gre(o).then(inner_eth()),
            O4,
            &[Tunnel { kind: Kind::Gretap, id: o.key }],
            I4,
        ));
        // RFC 1701: source routes are skipped
        all.push(
            row(
                format!("gre: source route, flags {bits:03b}"),
                ip4().gre(Gre { routing: true, ..o }).then(inner()),
                O4,
                &[t],
                I4,
            )
            .odd(),
        );
    }
    let erspan = |id: u32| tunnel(Kind::Erspan, id);
    let seq = Gre { sequence: Some(1), ..none };
    all.extend([
        row("gre: arp", ip4().gre(none).arp(), O4, &[g], 0x0806),
        row(
            "gre: unknown protocol",
            ip4().gre(none).set(2, &[0x60, 0x07]).data(12),
            O4,
            &[g],
            0x6007,
        )
        .odd(),
        row("gre: keepalive, protocol 0", ip4().gre(none).set(2, &[0, 0]), O4, &[g], Inside::Null)
            .odd(),
        row("gre: nhrp", ip4().gre(none).set(2, &[0x20, 0x01]).data(28), O4, &[g], 0x2001).odd(),
        one("gre: wccp", ip4().gre(none).wccp().then(inner()), g).odd(),
        row(
            "gre: mpls",
            ip4().gre(none).mpls(&[5, 6]).then(inner()),
            O4,
            &[g, tunnel(Kind::Mpls, 5)],
            I4,
        ),
        row(
            "gre: multicast mpls",
            ip4().gre(none).set(2, &[0x88, 0x48]).mpls(&[5]).then(inner()),
            O4,
            &[g, tunnel(Kind::Mpls, 5)],
            I4,
        ),
        row(
            "gre: nsh",
            ip4().gre(none).nsh(4, 5).then(inner()),
            O4,
            &[g, tunnel(Kind::Nsh, 4)],
            I4,
        ),
        row("gre: ppp ip6", ip4().gre(none).ppp().ip(I6).tcp(), O4, &[g], I6),
        one("gre: ppp with address and control", ip4().gre(none).ppp_hdlc().then(inner()), g).odd(),
        row("gre: ppp lcp", ip4().gre(none).ppp().payload(&[1, 1, 0, 4]), O4, &[g], ppp(0xc021)),
        row(
            "gretap: mpls inside",
            ip4().gre(none).eth().mpls(&[5]).then(inner()),
            O4,
            &[tunnel(Kind::Gretap, NO), tunnel(Kind::Mpls, 5)],
            I4,
        ),
        row(
            "gretap: pppoe discovery inside",
            ip4().gre(none).eth().ether_type(0x8863).payload(&[0x11, 9, 0, 0, 0, 0]),
            O4,
            &[tunnel(Kind::Gretap, NO)],
            0x8863,
        )
        .odd(),
        row(
            "gretap: pppoe with lcp",
            ip4().gre(none).eth().pppoe(3).ppp().payload(&[1, 1, 0, 4]),
            O4,
            &[tunnel(Kind::Gretap, NO), tunnel(Kind::Pppoe, 3)],
            ppp(0xc021),
        ),
        one(
            "erspan2: vlan inside",
            ip4().gre(seq).erspan2(9).eth().vlan(5).then(inner()),
            erspan(9),
        ),
        row("erspan2: arp", ip4().gre(seq).erspan2(9).eth().arp(), O4, &[erspan(9)], 0x0806),
        one(
            "erspan2: with key",
            ip4().gre(Gre { key: Some(1), ..seq }).erspan2(9).then(inner_eth()),
            erspan(9),
        ),
        one(
            "erspan2: highest session",
            ip4().gre(seq).erspan2(1023).then(inner_eth()),
            erspan(1023),
        ),
        one(
            "erspan2: class and truncation bits",
            ip4().gre(seq).erspan2(9).set(2, &[0xfc]).then(inner_eth()),
            erspan(9),
        ),
        one(
            "erspan3: platform subheader",
            ip4().gre(seq).erspan3(9, 0, true).then(inner_eth()),
            erspan(9),
        ),
        one("erspan3: ip frame", ip4().gre(seq).erspan3(9, 2, false).then(inner()), erspan(9))
            .odd(),
        one(
            "pptp: sequence",
            ip4().pptp(24, Some(1), None).ppp_hdlc().then(inner()),
            tunnel(Kind::Pptp, 24),
        ),
        one(
            "pptp: compressed address and protocol",
            ip4().pptp(24, Some(1), None).ppp_compressed(0x21).then(inner()),
            tunnel(Kind::Pptp, 24),
        )
        .odd(),
        one(
            "pptp: without address and control",
            ip4().pptp(24, Some(1), None).ppp().then(inner()),
            tunnel(Kind::Pptp, 24),
        ),
        row(
            "pptp: only an acknowledgement",
            ip4().pptp(24, None, Some(5)),
            O4,
            &[tunnel(Kind::Pptp, 24)],
            reason("control"),
        ),
        row(
            "pptp: compressed data",
            ip4().pptp(24, Some(1), None).ppp_compressed(0xfd).data(20),
            O4,
            &[tunnel(Kind::Pptp, 24)],
            ppp(0xfd),
        )
        .odd(),
        row(
            "pptp: lcp",
            ip4().pptp(24, Some(1), None).ppp_hdlc().payload(&[1, 1, 0, 4]),
            O4,
            &[tunnel(Kind::Pptp, 24)],
            ppp(0xc021),
        ),
        row("eoip: arp", ip4().eoip(5).eth().arp(), O4, &[tunnel(Kind::Eoip, 5)], 0x0806),
        row("eoip: keepalive", ip4().eoip(5), O4, &[tunnel(Kind::Eoip, 5)], reason("none")).odd(),
        row(
            "gre-udp: mpls",
            udp(4754).gre(none).mpls(&[5]).then(inner()),
            O4,
            &[tunnel(Kind::GreUdp, NO), tunnel(Kind::Mpls, 5)],
            I4,
        ),
        row(
            "gre-udp: with everything",
            udp(4754)
                .gre(Gre { checksum: true, key: Some(9), sequence: Some(1), routing: false })
                .then(inner()),
            O4,
            &[tunnel(Kind::GreUdp, 9)],
            I4,
        ),
    ]);
    all
}

/// Payloads of unspecified type: IP if that can be verified, otherwise unknown.
fn guessed() -> Vec<Case> {
    let (gtp, udp_mpls) = (tunnel(Kind::Gtpu, 5), tunnel(Kind::MplsUdp, 1000));
    let gre_mpls = [tunnel(Kind::Gre, NO), tunnel(Kind::Mpls, 1000)];
    let tpdu = || udp(2152).gtpu(5, Gtp::default());
    let pdu_session = Gtp { extensions: &[(0x85, &[0x10, 9])], ..Gtp::default() };
    let wire = || udp(6635).mpls(&[1000]);
    let none = Gre::default();
    let mut all = Vec::new();
    // an Ethernet pseudowire without a control word: RFC 4928, 8469
    for first in [0x40, 0x45, 0x46, 0x48, 0x4f, 0x60, 0x6e] {
        let frame = || eth_to(first).then(inner());
        let name = |what: &str| format!("guessed: mac address {first:02x}.., {what}");
        let unknown = reason("unknown");
        all.extend([
            row(name("mpls-udp"), wire().then(frame()), O4, &[udp_mpls], unknown).odd(),
            row(name("gre"), ip4().gre(none).mpls(&[1000]).then(frame()), O4, &gre_mpls, unknown)
                .odd(),
            row(name("gtpu"), tpdu().then(frame()), O4, &[gtp], unknown).odd(),
            row(
                name("gtpu with a session container"),
                udp(2152).gtpu(5, pdu_session).then(frame()),
                O4,
                &[gtp],
                unknown,
            )
            .odd(),
            super::stop(
                name("below ip"),
                pkt().eth().mpls(&[16]).then(frame()),
                model::flow::Stop::NonIp,
            )
            .odd(),
        ]);
    }
    let unknown = |name: &str, frame: Frame| {
        row(format!("guessed: {name}"), frame, O4, &[gtp], reason("unknown")).odd()
    };
    all.extend([
        unknown("ip4, wrong checksum", tpdu().ip(I4).set(10, &[0xde, 0xad]).tcp()),
        unknown("ip4 longer than the packet", tpdu().ip(I4).total_length(400).tcp()),
        unknown("ip4 shorter than its header", tpdu().ip(I4).total_length(19).tcp()),
        unknown("ip4 options, wrong checksum", {
            tpdu().ip(I4).ip_options(&[1; 40]).set(10, &[0xde, 0xad]).tcp()
        }),
        unknown("ip4 options beyond the packet", tpdu().ip(I4).set(0, &[0x4f])),
        unknown(
            "less than an ip4 header",
            tpdu().payload(&[0x45, 0, 0, 12, 0, 0, 0, 0, 1, 2, 3, 4]),
        ),
        unknown("ip6 longer than the packet", tpdu().ip(I6).set(4, &[2, 0]).tcp()),
        unknown("ip6 far shorter than the packet", tpdu().ip(I6).set(4, &[0, 20]).tcp().data(90)),
        unknown("ip6 from a group", tpdu().payload(&pkt().ip("ff02::1 > fd00::1").tcp().bytes())),
        unknown("ip6 to nobody", tpdu().payload(&pkt().ip("fd00::1 > ::").tcp().bytes())),
        unknown("less than an ip6 header", tpdu().payload(&[0x60; 39])),
        unknown("ip4 and padding, no checksum", {
            tpdu().ip(I4).set(10, &[0, 0]).total_length(40).tcp().data(6)
        }),
        row("guessed: ip4, no checksum", tpdu().ip(I4).set(10, &[0, 0]).tcp(), O4, &[gtp], I4)
            .odd(),
        row("guessed: ip4 options", tpdu().ip(I4).ip_options(&[1; 40]).tcp(), O4, &[gtp], I4).odd(),
        row("guessed: ip4, length 0", tpdu().ip(I4).total_length(0).tcp(), O4, &[gtp], I4).odd(),
        row(
            "guessed: ip4 and padding",
            tpdu().ip(I4).total_length(40).tcp().data(6),
            O4,
            &[gtp],
            I4,
        )
        .odd(),
        row(
            "guessed: ip6 and padding",
            tpdu().ip(I6).set(4, &[0, 20]).tcp().data(6),
            O4,
            &[gtp],
            I6,
        )
        .odd(),
        row("guessed: ip6 without anything", tpdu().ip(I6).proto(59), O4, &[gtp], I6),
        // if a packet is known to be cut, its length cannot be verified
        row(
            "guessed: the outer packet is cut",
            pkt()
                .eth()
                .ip(O4)
                .total_length(900)
                .udp(1, 6635)
                .set(4, &[3, 0])
                .mpls(&[1000])
                .ip(I4)
                .total_length(756)
                .tcp(),
            O4,
            &[udp_mpls],
            I4,
        )
        .odd(),
        row(
            "guessed: the outer packet is cut, not ip",
            pkt()
                .eth()
                .ip(O4)
                .total_length(900)
                .udp(1, 6635)
                .set(4, &[3, 0])
                .mpls(&[1000])
                .then(eth_to(0x46))
                .then(inner()),
            O4,
            &[udp_mpls],
            reason("unknown"),
        )
        .odd(),
        row(
            "guessed: first fragment",
            pkt()
                .eth()
                .ip(O4)
                .frag(9, 0, true)
                .udp(1, 2152)
                .set(4, &[3, 0])
                .gtpu(5, Gtp::default())
                .set(2, &[2, 0x90])
                .ip(I6)
                .set(4, &[2, 0x68])
                .tcp(),
            O4,
            &[gtp],
            I6,
        )
        .odd(),
    ]);
    all
}

/// CAPWAP data, with 802.3 and 802.11 frames.
fn capwap() -> Vec<Case> {
    let ap = [tunnel(Kind::Capwap, 3)];
    let frame = |flags| udp(5247).capwap(3, flags, &[]);
    let native = || frame(CAPWAP_NATIVE);
    let inner = || pkt().ip(I4).tcp();
    let to = |name: &str, frame: Frame| row(format!("capwap: {name}"), frame, O4, &ap, I4);
    let says = |name: &str, frame: Frame, why: &str| {
        row(format!("capwap: {name}"), frame, O4, &ap, reason(why)).odd()
    };
    let radio = [6, 2, 0, 0, 0, 0, 9, 0];
    let both = [&radio[..], &[4, 0, 200, 0, 0, 0, 0, 0]].concat();
    let (mac, wireless) = (CAPWAP_MAC, CAPWAP_WIRELESS);
    vec![
        to("the answer", ip4().udp(5247, 61234).capwap(3, 0, &[]).eth().then(inner())),
        to("radio's address", udp(5247).capwap(3, mac, &radio).eth().then(inner())),
        to("address and wireless", {
            udp(5247).capwap(3, mac | wireless, &both).eth().then(inner())
        }),
        to("802.11 from the station", native().dot11([8, 1], &[]).snap().then(inner())),
        to("802.11 to the station", native().dot11([8, 2], &[]).snap().then(inner())),
        to("802.11 with QoS", native().dot11([0x88, 1], &[5, 0]).snap().then(inner())),
        to("802.11 with four addresses", native().dot11([8, 3], &[2; 6]).snap().then(inner())),
        to("802.11 with QoS and order", {
            native().dot11([0x88, 0x81], &[5, 0, 0, 0, 0, 0]).snap().then(inner())
        })
        .odd(),
        to("802.11 with swapped control", native().dot11([1, 8], &[]).snap().then(inner())).odd(),
        to("802.11, swapped, QoS", native().dot11([2, 0x88], &[5, 0]).snap().then(inner())).odd(),
        to("802.11, aggregated", {
            let first = pkt().eth().set(12, &[0, 48]).snap().then(inner());
            native().dot11([0x88, 1], &[0x80, 0]).then(first)
        })
        .odd(),
        to("first fragment", {
            frame(CAPWAP_FRAGMENT).eth().ip(I4).total_length(1400).tcp().data(9)
        })
        .odd(),
        says("later fragment", frame(CAPWAP_FRAGMENT).set(6, &[4, 0]).data(40), "fragment"),
        says("nothing", frame(0), "none"),
        says("management", native().dot11([0x40, 0], &[]).data(30), "control"),
        says("802.11, protected", native().dot11([8, 0x41], &[]).data(60), "encrypted"),
        says("802.11, no data", native().dot11([0x48, 1], &[]), "none"),
        says(
            "802.11, later fragment",
            native().dot11([8, 1], &[]).set(22, &[1]).data(40),
            "fragment",
        ),
        says("802.11, not SNAP", native().dot11([8, 1], &[]).data(40), "llc"),
        says("802.11, cut by the datagram", native().payload(&[8, 1, 0, 0]), "malformed"),
        says("another binding", native().set(2, &[0xc7]).data(40), "unknown"),
        row(
            "capwap: dtls",
            udp(5247).payload(&[&[1, 0, 0, 0, 23, 0xfe, 0xfd][..], &[0x5a; 40]].concat()),
            O4,
            &[tunnel(Kind::Capwap, NO)],
            reason("encrypted"),
        )
        .odd(),
    ]
}

/// L2TP version 3: without a parameter the start of its payload is unknown.
fn l2tpv3() -> Vec<Case> {
    let session = [tunnel(Kind::L2tpv3, 0xdead_beef)];
    let inner = || pkt().eth().ip(I4).tcp();
    let unread = |name: &str, frame: Frame| {
        row(format!("l2tpv3: {name}"), frame, O4, &session, reason("unknown")).odd()
    };
    vec![
        unread("in udp", udp(1701).l2tpv3(0xdead_beef, 8).then(inner())),
        unread("the answer", ip4().udp(1701, 61234).l2tpv3(0xdead_beef, 0).then(inner())),
        unread("in ip", ip4().l2tpv3_ip(0xdead_beef, 4).then(inner())),
        unread("nothing behind the session", ip4().l2tpv3_ip(0xdead_beef, 0)),
    ]
}

/// Tunnels with an unreadable payload.
fn opaque() -> Vec<Case> {
    let esp = tunnel(Kind::Esp, NO);
    let wg = tunnel(Kind::Wireguard, NO);
    let vx = tunnel(Kind::Vxlan, 7);
    let secret = reason("encrypted");
    vec![
        row(
            "esp: behind destination options",
            ip6().dstopts(0).esp(0xfeed, 40),
            O6,
            &[esp],
            secret,
        ),
        row("esp: behind ah", ip4().ah(1).esp(0xfeed, 40), O4, &[esp], secret),
        // RFC 3948: behind a NAT, either end may have another port
        row("esp-udp: least", udp(4500).esp(256, 4), O4, &[esp], secret),
        row(
            "esp-udp: from the port",
            ip4().udp(4500, 61234).esp(0xffff_ffff, 40),
            O4,
            &[esp],
            secret,
        ),
        row(
            "esp-udp: in vxlan",
            udp(4789).vxlan(7).eth().ip(I4).udp(4500, 4500).esp(0xfeed, 40),
            O4,
            &[vx],
            I4,
        ),
        row("wireguard: keepalive", udp(51820).wireguard(4, 0), O4, &[wg], secret),
        // padded to 16 bytes, but not beyond the MTU of 1420, and not by every implementation
        row("wireguard: a full packet", udp(51820).wireguard(4, 1420), O4, &[wg], secret),
        row("wireguard: a byte", udp(51820).wireguard(4, 1), O4, &[wg], secret),
        row("wireguard: initiation", udp(51820).wireguard(1, 0), O4, &[wg], secret),
        row("wireguard: response", udp(51820).wireguard(2, 0), O4, &[wg], secret),
        row("wireguard: cookie", udp(51820).wireguard(3, 0), O4, &[wg], secret),
        // inside another tunnel they end the stack: the pair that exchanges them is the inner pair
        row("esp: in vxlan", udp(4789).vxlan(7).eth().ip(I4).esp(0xfeed, 40), O4, &[vx], I4),
        row(
            "wireguard: in vxlan",
            udp(4789).vxlan(7).eth().ip(I6).udp(5, 51820).wireguard(4, 64),
            O4,
            &[vx],
            I6,
        ),
    ]
}

/// The order of the ends, whichever direction the packet travels.
fn order() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let build =
        |o: &str, i: &str| pkt().eth().ip(o).udp(54321, 4789).vxlan(7).eth().ip(i).tcp().data(1);
    let mut all = Vec::new();
    for (what, o, i) in [
        ("outer up, inner up", "10.0.0.1 > 10.0.0.2", "1.1.1.1 > 2.2.2.2"),
        ("outer up, inner down", "10.0.0.1 > 10.0.0.2", "2.2.2.2 > 1.1.1.1"),
        ("outer down, inner up", "10.0.0.2 > 10.0.0.1", "1.1.1.1 > 2.2.2.2"),
        ("outer down, inner down", "10.0.0.2 > 10.0.0.1", "2.2.2.2 > 1.1.1.1"),
        ("numbers, not bytes of a little-endian word", "10.0.1.2 > 10.2.0.1", "9.0.0.1 > 1.0.0.9"),
        ("high bit set", "127.0.0.1 > 200.0.0.1", "200.0.0.1 > 127.0.0.1"),
        ("equal outer, inner up", "10.0.0.1 > 10.0.0.1", "1.1.1.1 > 2.2.2.2"),
        ("equal outer, inner down", "10.0.0.1 > 10.0.0.1", "2.2.2.2 > 1.1.1.1"),
        ("all equal", "10.0.0.1 > 10.0.0.1", "2.2.2.2 > 2.2.2.2"),
        ("ip6, last word decides", "fd00::1 > fd00::2", "fd01::2 > fd01::1"),
        ("ip6, first word decides", "fd00::2 > fe00::1", "2001:db8:1::1 > 2001:db8::2"),
        ("ip6, words are numbers", "fd00::1:0:0:2 > fd00::2:0:0:1", "fd01::100 > fd01::1"),
        ("ip6 outer equal", "fd00::1 > fd00::1", "fd01::2 > fd01::1"),
        ("ip6 outer equal, ip4 inner down", "fd00::1 > fd00::1", "2.2.2.2 > 1.1.1.1"),
        ("ip4 outer equal, ip6 inner down", "10.0.0.1 > 10.0.0.1", "fd01::2 > fd01::1"),
        (
            "mapped addresses stay ip6",
            "::ffff:10.0.0.2 > ::ffff:10.0.0.1",
            "::ffff:1.1.1.1 > ::ffff:2.2.2.2",
        ),
    ] {
        all.push(row(format!("order: {what}"), build(o, i), o, &[vx], i));
    }
    all.push(row(
        "order: equal outer, arp inside",
        pkt().eth().ip("10.0.0.1 > 10.0.0.1").udp(1, 4789).vxlan(7).eth().arp(),
        "10.0.0.1 > 10.0.0.1",
        &[vx],
        0x0806,
    ));
    all.push(row(
        "order: outer down, arp inside",
        pkt().eth().ip("10.0.0.2 > 10.0.0.1").udp(1, 4789).vxlan(7).eth().arp(),
        "10.0.0.2 > 10.0.0.1",
        &[vx],
        0x0806,
    ));
    all
}

/// Interfaces without an Ethernet header.
fn layer3() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let vxlan = |o: &str| pkt().ip(o).udp(54321, 4789).vxlan(7).then(inner_eth());
    vec![
        row("layer 3: ip4 by its nibble", vxlan(O4), O4, &[vx], I4).begin(Begin::Ip),
        row("layer 3: ip6 by its nibble", vxlan(O6), O6, &[vx], I4).begin(Begin::Ip),
        row("layer 3: ip4 by its type", vxlan(O4), O4, &[vx], I4).begin(Begin::EtherType(0x0800)),
        row("layer 3: ip6 by its type", vxlan(O6), O6, &[vx], I4).begin(Begin::EtherType(0x86dd)),
        row("layer 3: 6in4", pkt().ip(O4).ip(I6).tcp(), O4, &[tunnel(Kind::SixInFour, NO)], I6)
            .begin(Begin::Ip),
        row(
            "layer 3: gre",
            pkt().ip(O6).gre(Gre::default()).then(inner()),
            O6,
            &[tunnel(Kind::Gre, NO)],
            I4,
        )
        .begin(Begin::Ip),
        row("layer 3: label by its type", pkt().mpls(&[5]).then(vxlan(O4)), O4, &[vx], I4)
            .begin(Begin::EtherType(0x8847)),
        row("layer 3: tag by its type", pkt().vlan(5).then(vxlan(O4)), O4, &[vx], I4)
            .begin(Begin::EtherType(0x8100)),
    ]
}

/// Super-packets: each segment on the wire has all headers of the first.
fn gso() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let big = |o: &str, i: &str| pkt().eth().ip(o).udp(54321, 4789).vxlan(7).eth().ip(i);
    vec![
        row("gso: tcp in vxlan", big(O4, I4).tcp().data(2500), O4, &[vx], I4).gso(3, 1000),
        row(
            "gso: tcp with options in vxlan over ip6",
            big(O6, I6).tcp().tcp_options(&[1; 12]).data(2000),
            O6,
            &[vx],
            I6,
        )
        .gso(2, 1000),
        row("gso: udp in vxlan", big(O4, I4).udp(5, 6).data(2100), O4, &[vx], I4).gso(7, 300),
        row(
            "gso: tcp in gre over vlan",
            pkt().eth().vlan(4).ip(O4).gre(Gre::default()).ip(I4).tcp().data(900),
            O4,
            &[tunnel(Kind::Gre, NO)],
            I4,
        )
        .gso(9, 100),
        row(
            "gso: tcp in ipip",
            ip4().ip(I6).tcp().data(900),
            O4,
            &[tunnel(Kind::SixInFour, NO)],
            I6,
        )
        .gso(9, 100),
        row(
            "gso: tcp in gtpu",
            udp(2152).gtpu(5, Gtp::default()).ip(I4).tcp().data(2000),
            O4,
            &[tunnel(Kind::Gtpu, 5)],
            I4,
        )
        .gso(2, 1000),
        row("gso: one segment is as none", big(O4, I4).tcp().data(50), O4, &[vx], I4).gso(1, 50),
    ]
}

impl Case {
    /// A row of three tunnels, of which the key contains the first and the last: this is the middle
    /// one.
    fn three(mut self, middle: Tunnel) -> Self {
        if let super::Want::Row(a) = &mut self.want {
            a.tunnels.insert(1, middle);
        }
        self
    }
}
