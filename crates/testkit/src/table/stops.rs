// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets that are in no row, and why; false friends; and the same errors after a tunnel header,
//! where the packet belongs to the tunnel.
use model::flow::{Kind, Stop};

use super::{Begin, Case, I4, I6, M4, O4, O6, reason, row, stop, suspect, tunnel};
use crate::frames::{CAPWAP_KEEPALIVE, CAPWAP_MAC, Frame, Gre, Gtp, L2tp, pkt};

fn udp(port: u16) -> Frame {
    pkt().eth().ip(O4).udp(54321, port)
}

pub(super) fn cases() -> Vec<Case> {
    [non_ip(), plain(), false_friends(), malformed(), too_deep(), inside()]
        .into_iter()
        .flatten()
        .collect()
}

fn non_ip() -> Vec<Case> {
    let label = |name: &str, frame: Frame| stop(format!("non-ip: {name}"), frame, Stop::NonIp);
    vec![
        label("arp", pkt().eth().arp().pad(18)),
        label("arp behind a tag", pkt().eth().vlan(5).arp()),
        label(
            "lldp",
            pkt()
                .eth()
                .ether_type(0x88cc)
                .payload(&[2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 2, 7, 0x31, 6, 2, 0, 120, 0, 0]),
        ),
        label("spanning tree", pkt().eth().llc().pad(8)),
        label("llc behind a tag", pkt().eth().vlan(5).llc()),
        label("experimental type", pkt().eth().data(46)),
        label("pppoe discovery", pkt().eth().ether_type(0x8863).payload(&[0x11, 9, 0, 0, 0, 0]))
            .odd(),
        label("lcp in pppoe", pkt().eth().pppoe(5).ppp().payload(&[1, 1, 0, 4])),
        label("mpls pseudowire", pkt().eth().mpls(&[16]).payload(&[0; 4]).eth().ip(O4).tcp()).odd(),
        label("arp behind a vn-tag", pkt().eth().link_tag(0x8926, &[0, 1, 0, 2]).arp()),
        label("supervision of a ring", pkt().eth().ether_type(0x88fb).data(40)).odd(),
        label("arp in pbb", pkt().eth().pbb(5).eth().arp()),
        label("arp in nsh", pkt().eth().nsh(5, 5).eth().arp()),
        label("layer 3, version 0", pkt().payload(&[0; 60])).begin(Begin::Ip),
        label("layer 3, version 15", pkt().payload(&[0xff; 60])).begin(Begin::Ip),
        label("by its type, layer 3", pkt().arp()).begin(Begin::EtherType(0x0806)),
    ]
}

fn plain() -> Vec<Case> {
    let label = |name: &str, frame: Frame| stop(format!("plain: {name}"), frame, Stop::Plain);
    // four zero bytes, then an IKEv2 request without payloads
    let ike =
        [&[0; 4][..], &[0x5a; 8], &[0; 8], &[0, 0x20, 37, 8], &[0; 4], &[0, 0, 0, 28]].concat();
    let ip4 = || pkt().eth().ip(O4);
    let ip6 = || pkt().eth().ip(O6);
    vec![
        label("tcp", ip4().tcp().data(10)),
        label("tcp over ip6", ip6().tcp().data(10)),
        label("udp", ip4().udp(5, 53).data(10)).odd(),
        label("udp without payload", ip4().udp(5, 6)),
        label("tcp on a tunnel's port number", ip4().tcp().set(2, &4789u16.to_be_bytes()).data(30)),
        label("echo", ip4().echo().data(56)),
        label("echo over ip6", ip6().echo().data(56)),
        label("sctp", ip4().sctp()),
        label("options and tcp", ip4().ip_options(&[1; 12]).tcp()),
        label("extension headers and tcp", ip6().hopopts(0).dstopts(0).tcp()),
        label("ah in transport mode and tcp", ip4().ah(1).tcp()),
        label("unknown protocol", ip4().data(20)).odd(),
        label("no next header", ip6().proto(59)),
        label(
            "mobility header",
            ip6().proto(135).payload(&[59, 1, 5, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
        )
        .odd(),
        label("tag and tcp", pkt().eth().vlan(5).ip(O4).tcp()),
        label("label and tcp", pkt().eth().mpls(&[16]).ip(O6).tcp()),
        label("pppoe and tcp", pkt().eth().pppoe(5).ppp().ip(O4).tcp()),
        label("layer 3 tcp", pkt().ip(O4).tcp()).begin(Begin::Ip),
        label("super-packet", ip4().tcp().data(3000)).gso(3, 1000),
        label("ip6 super-packet with options", ip6().tcp().tcp_options(&[1; 20]).data(3000))
            .gso(30, 100),
        // quoted headers are never tunnels
        label(
            "icmp error quoting vxlan",
            ip4().icmp_error().ip(O4).udp(1, 4789).vxlan(7).eth().ip(I4).tcp(),
        )
        .odd(),
        label("icmp error quoting ipip", ip4().icmp_error().ip(O4).ip(I4).tcp()),
        label("icmp error quoting gre", ip4().icmp_error().ip(O4).gre(Gre::default()).ip(I4).tcp()),
        label(
            "icmpv6 error quoting geneve",
            ip6().icmp_error().ip(O6).udp(1, 6081).geneve(7).eth().ip(I4).tcp(),
        )
        .odd(),
        label("icmpv6 error quoting 6in6", ip6().icmp_error().ip(O6).ip(I6).tcp()),
        // only the destination port starts these tunnels: a client may send from 4789, 6081, 2152
        // or 6635
        label(
            "vxlan by source port only",
            pkt().eth().ip(O4).udp(4789, 54321).vxlan(7).eth().ip(I4).tcp(),
        )
        .odd(),
        label(
            "geneve by source port only",
            pkt().eth().ip(O4).udp(6081, 54321).geneve(7).eth().ip(I4).tcp(),
        )
        .odd(),
        label(
            "gtpu by source port only",
            pkt().eth().ip(O4).udp(2152, 54321).gtpu(7, Gtp::default()).ip(I4).tcp(),
        )
        .odd(),
        label("user traffic from 2152", pkt().eth().ip(O4).udp(2152, 443).data(60)).odd(),
        // the tunnel protocols' own messages have the right header: plain, not suspect
        label(
            "gtpu echo request",
            udp(2152).gtp(1, 0, Gtp { sequence: Some(1), ..Gtp::default() }),
        ),
        label(
            "gtpu error indication",
            udp(2152)
                .gtp(26, 0, Gtp { sequence: Some(1), ..Gtp::default() })
                .payload(&[16, 0, 0, 0, 5, 133, 0, 4, 172, 16, 1, 1]),
        ),
        label("gtpu end marker", udp(2152).gtp(254, 5, Gtp::default())),
        // RFC 3931, section 3.2.1: session 0
        label("l2tpv3 control in ip", ip4().l2tpv3_ip(0, 20)).odd(),
        label("l2tpv3 control", udp(1701).l2tpv3(9, 20).set(0, &[0xc8])).odd(),
        // RFC 5415, section 4.4.1: a session id
        label(
            "capwap keepalive",
            udp(5247).capwap(0, CAPWAP_KEEPALIVE, &[]).payload(&[0, 35, 0, 16]).data(16),
        )
        .odd(),
        // RFC 3948, sections 2.2 and 2.3
        label("ike behind a nat", udp(4500).payload(&ike)),
        label("esp-udp keepalive", udp(4500).payload(&[0xff])),
        label("gue control", udp(6080).gue(0).set(0, &[0x20, 1]).data(20)).odd(),
        label(
            "l2tp control",
            udp(1701).l2tp(
                1,
                2,
                L2tp { control: true, length: true, sequence: true, ..L2tp::default() },
            ),
        ),
    ]
}

/// The right port, but the wrong header.
fn false_friends() -> Vec<Case> {
    let dns = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
    let quic = [&[0x40, 0xc3][..], &[0x5a; 60]].concat();
    let mut all = Vec::new();
    for (port, what) in [
        (4789, "vxlan"),
        (8472, "vxlan"),
        (6081, "geneve"),
        (2152, "gtpu"),
        (4754, "gre-udp"),
        (3544, "teredo"),
        (6080, "gue"),
        (1701, "l2tp"),
        (4341, "lisp"),
        (5072, "ayiya"),
        (51820, "wireguard"),
        (5247, "capwap"),
    ] {
        // looks like L2TP version 0, GRE version 4, GTP version 2, LISP with an unknown payload ...
        all.push(suspect(
            format!("false friend: quic on {port}, {what}"),
            udp(port).payload(&quic),
        ));
        if !matches!(port, 4754 | 6081 | 8472) {
            all.push(suspect(
                format!("false friend: dns over ip6 on {port}, {what}"),
                pkt().eth().ip(O6).udp(1, port).payload(dns),
            ));
        }
    }
    let gtp = || udp(2152).gtpu(5, Gtp::default());
    let capwap = |options: &[u8]| udp(5247).capwap(1, 0, options);
    let inner = || pkt().ip(I4).tcp();
    all.extend([
        suspect("false vxlan: I flag unset", udp(4789).vxlan(7).set(0, &[0]).eth().then(inner())),
        suspect("false gpe: version 1", udp(4790).vxlan_gpe(7).set(0, &[0x1c]).then(inner())),
        suspect("false geneve: version 1", udp(6081).geneve(7).set(0, &[0x40]).eth().then(inner())),
        suspect(
            "false geneve: options beyond the datagram",
            udp(6081).geneve(7).set(0, &[0x3f]).eth().then(inner()),
        ),
        suspect("false gtpu: version 2", gtp().set(0, &[0x48]).then(inner())),
        suspect("false gtpu: gtp'", gtp().set(0, &[0x20]).then(inner())),
        suspect("false gtpu: longer than the datagram", gtp().set(2, &[0x40, 0]).then(inner())),
        suspect(
            "false gre-udp: version 1",
            udp(4754).gre(Gre::default()).set(1, &[1]).then(inner()),
        ),
        suspect(
            "false l2tp: version 3",
            udp(1701).l2tp(1, 2, L2tp::default()).set(1, &[3]).ppp().then(inner()),
        ),
        suspect("false teredo: ip4 inside", udp(3544).teredo().then(inner())),
        suspect("false gue: variant 3", udp(6080).gue(0).set(0, &[0xc0]).then(inner())),
        suspect("false wireguard: type 5", udp(51820).wireguard(4, 32).set(0, &[5])),
        suspect("false wireguard: reserved bytes", udp(51820).wireguard(4, 32).set(2, &[1])),
        suspect(
            "false wireguard: initiation of another length",
            udp(51820).wireguard(1, 0).data(1),
        ),
        suspect(
            "false wireguard: data of 31 bytes",
            udp(51820).payload(&[&[4, 0, 0, 0][..], &[0xc3; 27]].concat()),
        ),
        // the payload of GUE's variant 1 and of LISP is recognised by its own contents only
        suspect("false gue: ip4 with a wrong checksum", {
            udp(6080).ip(I4).set(10, &[0xde, 0xad]).tcp()
        }),
        suspect("false gue: ip4 longer than the datagram", {
            udp(6080).ip(I4).total_length(200).tcp()
        }),
        suspect("false gue: ip6 longer than the datagram", {
            udp(6080).ip(I6).set(4, &[2, 0]).tcp()
        }),
        suspect("false lisp: ip4 with a wrong checksum", {
            udp(4341).lisp(Some(9)).ip(I4).set(10, &[0xde, 0xad]).tcp()
        }),
        suspect("false l2tpv3: reserved word", udp(1701).l2tpv3(9, 0).set(3, &[1]).data(40)),
        suspect("false l2tpv3: session 0", udp(1701).l2tpv3(0, 0).data(40)),
        suspect("false l2tpv3: no session", udp(1701).payload(&[0, 3, 0, 0, 0, 0])),
        suspect("false capwap: version 1", capwap(&[]).set(0, &[0x10]).eth().then(inner())),
        suspect("false capwap: header of a word", capwap(&[]).set(1, &[8]).eth().then(inner())),
        suspect("false capwap: header beyond the datagram", {
            capwap(&[]).set(1, &[0xf8]).payload(&[0; 60])
        }),
        suspect("false capwap: offset, but no fragment", {
            capwap(&[]).set(6, &[0, 8]).eth().then(inner())
        }),
        suspect("false capwap: radio address of 5 bytes", {
            udp(5247).capwap(1, CAPWAP_MAC, &[5, 2, 0, 0, 0, 0, 0, 9]).eth().then(inner())
        }),
        suspect("false capwap: radio address beyond the header", {
            udp(5247).capwap(1, CAPWAP_MAC, &[6, 2, 0, 0]).eth().then(inner())
        }),
        suspect("false capwap: dtls without a record", {
            udp(5247).payload(&[1, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4])
        }),
        suspect("false esp-udp: reserved spi", udp(4500).esp(255, 40)),
        suspect("false esp-udp: not whole words", udp(4500).esp(0xfeed, 41)),
        suspect("false esp-udp: nothing encrypted", udp(4500).esp(0xfeed, 0)),
        suspect("false esp-udp: a byte", udp(4500).data(1)),
        suspect("empty datagram to 4789", udp(4789)),
        suspect("empty datagram to 2152", udp(2152)),
        suspect("four bytes to 4789", udp(4789).data(4)),
        // Ethernet padding does not complete a header that the datagram does not hold
        suspect("four bytes to 4789, padded", udp(4789).payload(&[8, 0, 0, 0]).pad(40)),
    ]);
    all
}

/// A header before any tunnel is inconsistent.
fn malformed() -> Vec<Case> {
    let label =
        |name: &str, frame: Frame| stop(format!("malformed: {name}"), frame, Stop::Malformed).odd();
    let ip4 = || pkt().eth().ip(O4);
    let ip6 = || pkt().eth().ip(O6);
    vec![
        label("version 5 in 0x0800", ip4().set(0, &[0x55]).tcp()),
        label("ip6 in 0x0800", pkt().eth().ether_type(0x0800).ip(O6).tcp()),
        label("ip4 in 0x86dd", pkt().eth().ether_type(0x86dd).ip(O4).tcp().data(40)),
        label("ihl 4", ip4().set(0, &[0x44]).tcp()),
        label("ihl 0", ip4().set(0, &[0x40]).tcp()),
        label("total length below the header", ip4().total_length(19).tcp()),
        label("total length below the options", ip4().ip_options(&[1; 8]).total_length(24).tcp()),
        // the length fields leave no room for a required header
        label(
            "total length cuts udp",
            ip4().total_length(24).udp(5, 4789).vxlan(7).eth().ip(I4).tcp(),
        ),
        label(
            "payload length cuts udp",
            ip6().set(4, &[0, 4]).udp(5, 4789).vxlan(7).eth().ip(I4).tcp(),
        ),
        label(
            "payload length cuts an extension header",
            ip6().set(4, &[0, 4]).hopopts(0).udp(5, 4789).vxlan(7).eth().ip(I4).tcp(),
        ),
        label("udp length 7", ip4().udp(5, 4789).set(4, &[0, 7]).vxlan(7).eth().ip(I4).tcp()),
        label("gre version 2", ip4().gre(Gre::default()).set(1, &[2]).ip(I4).tcp()),
        label("gre version 7", ip4().gre(Gre::default()).set(1, &[7]).ip(I4).tcp()),
        label(
            "gre version 1 around ip",
            ip4().gre(Gre::default()).set(0, &[0x20, 1]).payload(&[0; 4]).ip(I4).tcp(),
        ),
        label("etherip version 4", ip4().etherip().set(0, &[0x40]).eth().ip(I4).tcp()),
    ]
}

/// One of the parser's limits (`bpf/tmon.h`) before any tunnel.
fn too_deep() -> Vec<Case> {
    let mut tags = pkt().eth();
    for id in 1..=12 {
        tags = tags.vlan(id);
    }
    let mut extensions = pkt().eth().ip(O6);
    for _ in 0..12 {
        extensions = extensions.dstopts(0);
    }
    let rings = (0..9).fold(pkt().eth(), |f, _| f.link_tag(0x892f, &[0, 60, 0, 9]));
    let fabrics = (0..5).fold(pkt().eth(), |f, _| f.fabric_path().eth());
    let links = pkt().eth().pbb(1).eth().pbb(2).eth().pbb(3).eth().pbb(4).eth().pbb(5).eth();
    vec![
        stop("too deep: twelve tags", tags.ip(O4).tcp(), Stop::TooDeep),
        stop("too deep: twelve extension headers", extensions.tcp(), Stop::TooDeep),
        stop(
            "too deep: nine labels",
            pkt().eth().mpls(&[1, 2, 3, 4, 5, 6, 7, 8, 9]).ip(O4).tcp(),
            Stop::TooDeep,
        )
        .odd(),
        stop("too deep: nine tags of a ring", rings.ip(O4).tcp(), Stop::TooDeep),
        stop("too deep: five fabrics", fabrics.ip(O4).tcp(), Stop::TooDeep).odd(),
        stop("too deep: five backbones", links.ip(O4).tcp(), Stop::TooDeep),
    ]
}

/// The same errors after a tunnel header: the packet belongs to the tunnel.
fn inside() -> Vec<Case> {
    let vx = tunnel(Kind::Vxlan, 7);
    let gre = tunnel(Kind::Gre, None);
    let eth = || udp(4789).vxlan(7).eth();
    let mut tags = eth();
    for id in 1..=12 {
        tags = tags.vlan(id);
    }
    let mut extensions = eth().ip(I6);
    for _ in 0..12 {
        extensions = extensions.dstopts(0);
    }
    let levels = |n: usize| {
        let level = |f: Frame, _| {
            let f = f.eth().vlan(1).vlan(2).vlan(3).ip(I6).dstopts(0);
            f.udp(5, 4789).vxlan(7)
        };
        (0..n).fold(udp(4789).vxlan(7), level).eth().ip(M4).tcp()
    };
    let bad = reason("malformed");
    let deep = reason("too_deep");
    vec![
        row("inside: version 5", eth().ip(I4).set(0, &[0x55]).tcp(), O4, &[vx], bad).odd(),
        row("inside: ihl 3", eth().ip(I4).set(0, &[0x43]).tcp(), O4, &[vx], bad).odd(),
        row(
            "inside: total length below the header",
            eth().ip(I4).total_length(8).tcp(),
            O4,
            &[vx],
            bad,
        )
        .odd(),
        row(
            "inside: ip4 in 0x86dd",
            eth().ether_type(0x86dd).ip(I4).tcp().data(40),
            O4,
            &[vx],
            bad,
        )
        .odd(),
        row(
            "inside: version 7 in gre",
            pkt().eth().ip(O4).gre(Gre::default()).ip(I4).set(0, &[0x75]).tcp(),
            O4,
            &[gre],
            bad,
        )
        .odd(),
        row("inside: twelve tags", tags.ip(I4).tcp(), O4, &[vx], deep),
        row("inside: twelve extension headers", extensions.tcp(), O4, &[vx], deep),
        // more headers than the kernel's limit on tail calls
        row("inside: three levels with tags and options", levels(3), O4, &[vx; 4], M4),
        row("inside: five levels with tags and options", levels(5), O4, &[vx; 4], deep),
        // a false friend inside a tunnel is simply the inside of that tunnel
        row(
            "inside: user traffic on 2152",
            eth().ip(I4).udp(5, 2152).payload(&[0x40; 30]),
            O4,
            &[vx],
            I4,
        )
        .odd(),
        row(
            "inside: user traffic on 4789",
            eth().ip(I4).udp(5, 4789).payload(&[0; 30]),
            O4,
            &[vx],
            I4,
        )
        .odd(),
        row(
            "inside: gtpu echo",
            eth().ip(I4).udp(5, 2152).gtp(1, 0, Gtp { sequence: Some(1), ..Gtp::default() }),
            O4,
            &[vx],
            I4,
        ),
        row(
            "inside: later fragment of anything",
            eth().ip(I4).proto(17).frag(9, 100, false).data(40),
            O4,
            &[vx],
            I4,
        ),
        row(
            "inside: later fragment of gre",
            eth().ip(I4).proto(47).frag(9, 100, true).data(40),
            O4,
            &[vx],
            I4,
        ),
        row(
            "inside: later fragment, ip6",
            eth().ip(I6).frag6(17, 9, 100, false).data(40),
            O4,
            &[vx],
            I6,
        ),
        // a first fragment is read like a whole packet; its UDP length is that of the whole
        row(
            "inside: first fragment of vxlan",
            eth()
                .ip(I4)
                .frag(77, 0, true)
                .udp(5, 4789)
                .set(4, &[9, 0])
                .vxlan(8)
                .eth()
                .ip(M4)
                .total_length(2000)
                .tcp()
                .data(200),
            O4,
            &[vx, tunnel(Kind::Vxlan, 8)],
            M4,
        )
        .odd(),
        row(
            "inside: first fragment, ip6",
            eth()
                .ip(I6)
                .frag6(17, 77, 0, true)
                .udp(5, 6081)
                .set(4, &[9, 0])
                .geneve(8)
                .ip(M4)
                .total_length(2000)
                .tcp()
                .data(200),
            O4,
            &[vx, tunnel(Kind::Geneve, 8)],
            M4,
        )
        .odd(),
    ]
}
