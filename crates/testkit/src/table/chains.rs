// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generated rows: every encapsulation over each underlay with each kind of inside, every nested
//! pair, and chains of four and five.
use model::flow::{Kind, Tunnel};

use super::{Case, I4, I6, Inside, M4, O4, O6, reason, row, tunnel};
use crate::frames::{CAPWAP_NATIVE, Ends, Frame, Gre, Gtp, L2tp, ends, pkt};

/// What an encapsulation needs below it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Over {
    Ip,
    V4,
    V6,
    /// An Ethernet header inside another tunnel.
    Ethernet,
}

/// What follows an encapsulation's header.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Carries {
    Ethernet,
    Ip,
    V4,
    V6,
    /// Nothing readable.
    Opaque,
}

/// An encapsulation that can be put into any other one that carries what it needs.
pub struct Carrier {
    pub name: &'static str,
    kind: Kind,
    id: Option<u32>,
    over: Over,
    carries: Carries,
    add: fn(Frame) -> Frame,
}

const fn carrier(
    name: &'static str,
    kind: Kind,
    id: Option<u32>,
    over: Over,
    carries: Carries,
    add: fn(Frame) -> Frame,
) -> Carrier {
    Carrier { name, kind, id, over, carries, add }
}

const KEY: Gre = Gre { checksum: false, key: Some(0x00be_ef01), sequence: None, routing: false };
const SEQ: Gre = Gre { checksum: false, key: None, sequence: Some(1), routing: false };
const ALL: Gre = Gre { checksum: true, key: Some(9), sequence: Some(1), routing: false };
const BARE: Gre = Gre { checksum: false, key: None, sequence: None, routing: false };

/// Every encapsulation, in one form each (two if the payload differs).
pub const CARRIERS: &[Carrier] = {
    use Carries::{Ethernet, Ip as AnyIp, Opaque, V4 as Ip4, V6 as Ip6};
    use Over::{Ip, V4, V6};
    &[
        carrier("vxlan", Kind::Vxlan, Some(0x0a_bcde), Ip, Ethernet, |f| {
            f.udp(54321, 4789).vxlan(0x0a_bcde)
        }),
        carrier("vxlan-8472", Kind::Vxlan, Some(1), Ip, Ethernet, |f| f.udp(54321, 8472).vxlan(1)),
        carrier("gpe-ip", Kind::VxlanGpe, Some(0xff_ffff), Ip, AnyIp, |f| {
            f.udp(54321, 4790).vxlan_gpe(0xff_ffff)
        }),
        carrier("gpe-eth", Kind::VxlanGpe, Some(2), Ip, Ethernet, |f| {
            f.udp(54321, 4790).vxlan_gpe(2)
        }),
        carrier("geneve-ip", Kind::Geneve, Some(3), Ip, AnyIp, |f| f.udp(54321, 6081).geneve(3)),
        carrier("geneve-eth", Kind::Geneve, Some(4), Ip, Ethernet, |f| {
            f.udp(54321, 6081).geneve_options(4, &[1, 1, 0x80, 1, 0, 0, 0, 7])
        }),
        carrier("gre", Kind::Gre, None, Ip, AnyIp, |f| f.gre(BARE)),
        carrier("gre-all", Kind::Gre, Some(9), Ip, AnyIp, |f| f.gre(ALL)),
        carrier("gre-ppp", Kind::Gre, None, Ip, AnyIp, |f| f.gre(BARE).ppp()),
        carrier("gretap", Kind::Gretap, None, Ip, Ethernet, |f| f.gre(BARE)),
        carrier("nvgre", Kind::Gretap, Some(0x00be_ef01), Ip, Ethernet, |f| f.gre(KEY)),
        carrier("erspan1", Kind::Erspan, None, Ip, Ethernet, |f| f.gre(BARE).erspan1()),
        carrier("erspan2", Kind::Erspan, Some(100), Ip, Ethernet, |f| f.gre(SEQ).erspan2(100)),
        carrier("erspan3", Kind::Erspan, Some(1023), Ip, Ethernet, |f| {
            f.gre(SEQ).erspan3(1023, 0, false)
        }),
        carrier("erspan3-ip", Kind::Erspan, Some(5), Ip, AnyIp, |f| f.gre(SEQ).erspan3(5, 2, true)),
        carrier("pptp", Kind::Pptp, Some(24), Ip, AnyIp, |f| {
            f.pptp(24, Some(7), Some(6)).ppp_hdlc()
        }),
        carrier("eoip", Kind::Eoip, Some(6400), Ip, Ethernet, |f| f.eoip(6400)),
        carrier("gre-udp", Kind::GreUdp, Some(0x00be_ef01), Ip, AnyIp, |f| {
            f.udp(54321, 4754).gre(KEY)
        }),
        carrier("gre-udp-eth", Kind::GreUdp, None, Ip, Ethernet, |f| f.udp(54321, 4754).gre(BARE)),
        carrier("ipip", Kind::Ipip, None, V4, Ip4, |f| f),
        carrier("6in4", Kind::SixInFour, None, V4, Ip6, |f| f),
        carrier("4in6", Kind::FourInSix, None, V6, Ip4, |f| f),
        carrier("6in6", Kind::SixInSix, None, V6, Ip6, |f| f),
        carrier("srv6", Kind::Srv6, None, V6, AnyIp, |f| f.srh(2, 1)),
        carrier("srv6-eth", Kind::Srv6, None, V6, Ethernet, |f| f.srh(1, 0)),
        carrier("ah", Kind::Ah, None, Ip, AnyIp, |f| f.ah(77)),
        carrier("gtpu", Kind::Gtpu, Some(0xdead_beef), Ip, AnyIp, |f| {
            f.udp(2152, 2152).gtpu(0xdead_beef, Gtp::default())
        }),
        carrier("gtpu-ext", Kind::Gtpu, Some(5), Ip, AnyIp, |f| {
            f.udp(2152, 2152).gtpu(
                5,
                Gtp {
                    sequence: Some(1),
                    npdu: None,
                    extensions: &[(0x85, &[0x10, 9]), (0xc0, &[0, 1])],
                },
            )
        }),
        carrier("mpls", Kind::Mpls, Some(1000), Ip, AnyIp, |f| f.mpls(&[1000, 16])),
        carrier("mpls-udp", Kind::MplsUdp, Some(2000), Ip, AnyIp, |f| {
            f.udp(54321, 6635).mpls(&[2000])
        }),
        // RFC 4380: Teredo's underlay is IPv4 and its payload IPv6
        carrier("teredo", Kind::Teredo, None, V4, Ip6, |f| f.udp(54321, 3544).teredo()),
        carrier("gue0", Kind::Gue, None, Ip, AnyIp, |f| f.udp(54321, 6080).gue(2)),
        carrier("gue1", Kind::Gue, None, Ip, AnyIp, |f| f.udp(54321, 6080)),
        carrier("l2tp", Kind::L2tp, Some(0x2222), Ip, AnyIp, |f| {
            f.udp(1701, 1701).l2tp(0x1111, 0x2222, L2tp::default()).ppp_hdlc()
        }),
        carrier("lisp", Kind::Lisp, Some(0x0a_0b0c), Ip, AnyIp, |f| {
            f.udp(54321, 4341).lisp(Some(0x0a_0b0c))
        }),
        carrier("etherip", Kind::EtherIp, None, Ip, Ethernet, |f| f.etherip()),
        carrier("ayiya", Kind::Ayiya, None, Ip, Ip6, |f| f.udp(54321, 5072).ayiya()),
        carrier("in-mpls", Kind::Mpls, Some(700), Over::Ethernet, AnyIp, |f| {
            f.mpls(&[700, 701, 702])
        }),
        carrier("in-nsh", Kind::Nsh, Some(0x77_7777), Over::Ethernet, AnyIp, |f| {
            f.nsh(0x77_7777, 255)
        }),
        carrier("in-nsh-eth", Kind::Nsh, Some(8), Over::Ethernet, Ethernet, |f| f.nsh(8, 3)),
        carrier("in-pppoe", Kind::Pppoe, Some(0x1234), Over::Ethernet, AnyIp, |f| {
            f.pppoe(0x1234).ppp()
        }),
        carrier("in-pbb", Kind::Pbb, Some(0x12_3456), Over::Ethernet, Ethernet, |f| {
            f.pbb(0x12_3456)
        }),
        carrier("esp", Kind::Esp, None, Ip, Opaque, |f| f.esp(0xfeed, 64)),
        carrier("capwap", Kind::Capwap, Some(3), Ip, Ethernet, |f| {
            f.udp(54321, 5247).capwap(3, 0, &[])
        }),
        carrier("capwap-11", Kind::Capwap, Some(1), Ip, AnyIp, |f| {
            f.udp(54321, 5247).capwap(1, CAPWAP_NATIVE, &[]).dot11([8, 1], &[]).snap()
        }),
        carrier("esp-udp", Kind::Esp, None, Ip, Opaque, |f| f.udp(4500, 4500).esp(0xfeed, 64)),
        carrier("wireguard", Kind::Wireguard, None, Ip, Opaque, |f| {
            f.udp(51820, 51820).wireguard(4, 64)
        }),
    ]
};

impl Carrier {
    /// Whether it is recognised by its payload: Teredo and GUE's variant 1 have no header of their
    /// own, and LISP's would match almost anything.
    fn by_inside(&self) -> bool {
        matches!(self.name, "teredo" | "gue1" | "lisp")
    }

    fn tunnel(&self) -> Tunnel {
        tunnel(self.kind, self.id)
    }

    /// Whether it can be put on an IP header of this version.
    fn over(&self, v6: bool) -> bool {
        match self.over {
            Over::Ip => true,
            Over::V4 => !v6,
            Over::V6 => v6,
            Over::Ethernet => false,
        }
    }

    /// Whether it can carry an IP header of this version.
    fn carries(&self, v6: bool) -> bool {
        match self.carries {
            Carries::Ethernet | Carries::Ip => true,
            Carries::V4 => !v6,
            Carries::V6 => v6,
            Carries::Opaque => false,
        }
    }
}

/// A chain of encapsulations, outermost first, with IP version `v6[0]` for the underlay, `v6[n]`
/// between the nth and the next (if there is IP at all) and `v6[len]` innermost. `None` if they do
/// not fit into each other this way.
fn chain(carriers: &[&Carrier], v6: &[bool]) -> Option<Case> {
    let ends_of = |level: usize| {
        // every level has its own addresses, and their order alternates from level to level
        let (a, b) = if level.is_multiple_of(2) { (1, 2) } else { (4, 3) };
        match (level, v6[level]) {
            (0, false) => O4.to_owned(),
            (0, true) => O6.to_owned(),
            (n, false) => format!("10.{n}.0.{a} > 10.{n}.0.{b}"),
            (n, true) => format!("fd{n:02x}::{a} > fd{n:02x}::{b}"),
        }
    };
    let mut frame = pkt().eth().ip(&ends_of(0));
    let mut carried: Option<&Carrier> = None; // None: an IP header
    let mut recognised = usize::MAX;
    for (level, c) in carriers.iter().enumerate() {
        match (carried, c.over) {
            (Some(below), Over::Ethernet) if below.carries == Carries::Ethernet => {
                frame = frame.eth()
            }
            (_, Over::Ethernet) => return None,
            (None, _) if c.over(v6[level]) => {}
            (Some(below), _) if below.carries(v6[level]) && c.over(v6[level]) => {
                frame = if below.carries == Carries::Ethernet { frame.eth() } else { frame };
                frame = frame.ip(&ends_of(level));
            }
            _ => return None,
        }
        frame = (c.add)(frame);
        if level == 0 && c.carries != Carries::Opaque {
            recognised = frame.bytes().len() + if c.by_inside() { 40 } else { 2 };
        }
        carried = Some(c);
    }
    let last = carriers.last()?;
    let mut tunnels: Vec<Tunnel> = carriers.iter().map(|c| c.tunnel()).collect();
    let innermost = ends_of(carriers.len());
    let inside = if last.carries == Carries::Opaque {
        // alone it is a tunnel whose inside cannot be read; within another one it is that tunnel's
        // payload
        if carriers.len() == 1 {
            reason("encrypted")
        } else {
            tunnels.pop();
            ends_of(carriers.len() - 1).as_str().into()
        }
    } else if last.carries(v6[carriers.len()]) {
        frame = if last.carries == Carries::Ethernet { frame.eth() } else { frame };
        frame = frame.ip(&innermost).tcp().data(9);
        innermost.as_str().into()
    } else {
        return None;
    };
    let inside = if tunnels.len() > 4 { reason("too_deep") } else { inside };
    tunnels.truncate(4);
    let mut name: Vec<String> = Vec::new();
    for (c, v6) in carriers.iter().zip(v6) {
        name.push(format!("{} over {}", c.name, if *v6 { "ip6" } else { "ip4" }));
    }
    let name =
        format!("{} with {}", name.join(", "), if v6[carriers.len()] { "ip6" } else { "ip4" });
    Some(Case { recognised, ..row(name, frame, &ends_of(0), &tunnels, inside) })
}

/// What may stand between an Ethernet header and the next header: any tag.
const TAGS: &[fn(Frame) -> Frame] = &[
    |f| f.vlan(5),
    |f| f.tag(0x88a8, 6),
    |f| f.tag(0x9100, 7),
    |f| f.link_tag(0x8926, &[0x80, 1, 0, 2]),
    |f| f.link_tag(0x893f, &[0, 0, 0x10, 1, 0, 0]),
    |f| f.link_tag(0xf1c1, &[0, 0, 0, 9]),
    |f| f.fabric_path().eth(),
];

/// A tunnel with more inside than any real packet has: levels of tunnels, each with tags and
/// extension headers up to and beyond the limits. `pick` returns a number below its argument.
/// Returns the frame, its outer ends and its outermost tunnel.
pub fn deep(pick: &mut dyn FnMut(usize) -> usize) -> (Frame, Ends, Tunnel) {
    let outer = [O4, O6][pick(2)];
    let mut frame = pkt().eth().ip(outer);
    let mut v6 = outer == O6;
    let mut first = None;
    let mut carried = None;
    for _ in 0..2 + pick(7) {
        let fits: Vec<&Carrier> = CARRIERS
            .iter()
            .filter(|c| c.carries != Carries::Opaque)
            .filter(|c| match (carried, c.over) {
                (Some(Carries::Ethernet), Over::Ethernet) => true,
                _ => c.over(v6),
            })
            .collect();
        let next = fits[pick(fits.len())];
        if let Some(below) = carried {
            if below == Carries::Ethernet {
                frame = frame.eth();
                for _ in 0..pick(10) {
                    frame = TAGS[pick(TAGS.len())](frame);
                }
            }
            if next.over != Over::Ethernet {
                frame = frame.ip(if v6 { I6 } else { I4 });
                for _ in 0..pick(if v6 { 10 } else { 1 }) {
                    frame = frame.dstopts(0);
                }
            }
        }
        frame = (next.add)(frame);
        first.get_or_insert_with(|| next.tunnel());
        carried = Some(next.carries);
        v6 = match next.carries {
            Carries::V4 => false,
            Carries::V6 => true,
            _ => pick(2) == 1,
        };
    }
    if carried == Some(Carries::Ethernet) {
        frame = frame.eth();
    }
    frame = frame.ip(if v6 { I6 } else { I4 }).tcp();
    (frame, ends(outer), first.expect("two levels at least"))
}

pub(super) fn cases() -> Vec<Case> {
    let mut all = Vec::new();
    let both = [false, true];
    for c in CARRIERS {
        for o in both {
            let insides = if c.carries == Carries::Opaque { &both[..1] } else { &both };
            all.extend(insides.iter().filter_map(|i| chain(&[c], &[o, *i])));
            if c.carries == Carries::Ethernet && c.over(o) {
                all.extend(ethernet_insides(c, o));
            }
        }
    }
    for a in CARRIERS {
        for b in CARRIERS {
            // the first and the last combination that works
            let mut ways: Vec<Case> = (0..8u8)
                .filter_map(|n| chain(&[a, b], &[n & 1 != 0, n & 2 != 0, n & 4 != 0]))
                .collect();
            ways.dedup_by(|x, y| x.frame.bytes() == y.frame.bytes());
            all.extend(ways.pop());
            all.extend((!ways.is_empty()).then(|| ways.swap_remove(0)));
        }
    }
    // from each encapsulation, with several strides through the list
    for stride in [1, 3, 7, 11] {
        for start in 0..CARRIERS.len() {
            let ring: Vec<&Carrier> =
                (0..5).map(|k| &CARRIERS[(start + k * stride) % CARRIERS.len()]).collect();
            for depth in [3, 4, 5] {
                let ways = (0..64u8).filter_map(|n| {
                    let v6: Vec<bool> = (0..=depth).map(|k| n >> k & 1 != 0).collect();
                    chain(&ring[..depth], &v6)
                });
                all.extend(ways.take(1));
            }
        }
    }
    let mut seen = std::collections::HashSet::new();
    all.retain(|c| seen.insert(c.name.clone()));
    all
}

/// What an inner Ethernet header can carry before or instead of IP.
fn ethernet_insides(c: &Carrier, v6: bool) -> Vec<Case> {
    let o = if v6 { O6 } else { O4 };
    let start = || (c.add)(pkt().eth().ip(o)).eth();
    let t = &[c.tunnel()];
    let name =
        |what: &str| format!("{} over {} with {what}", c.name, if v6 { "ip6" } else { "ip4" });
    vec![
        row(name("vlan ip4"), start().vlan(5).ip(I4).udp(1, 2).data(3), o, t, I4),
        row(name("qinq ip6"), start().tag(0x88a8, 5).vlan(6).ip(I6).udp(1, 2).data(3), o, t, I6),
        row(name("0x9100 vlan ip4"), start().tag(0x9100, 5).vlan(6).ip(M4).tcp(), o, t, M4),
        row(name("arp"), start().arp(), o, t, 0x0806),
        row(name("vlan arp"), start().vlan(9).arp(), o, t, 0x0806),
        row(
            name("lldp"),
            start()
                .ether_type(0x88cc)
                .payload(&[2, 7, 4, 2, 0, 0, 0, 0, 1, 4, 2, 7, 0x31, 6, 2, 0, 120, 0, 0]),
            o,
            t,
            0x88cc,
        ),
        row(name("llc"), start().llc(), o, t, reason("llc")),
        row(name("ip4 sctp"), start().ip(I4).sctp(), o, t, I4),
        row(name("ip6 echo"), start().ip(I6).echo().data(8), o, t, I6),
        row(name("ip4 without anything"), start().ip(I4), o, t, Inside::from(I4)).odd(),
    ]
}
