// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnels created by the kernel itself: two network namespaces, a veth between them, one device of
//! each kind over it, UDP echoes through it, and what tmon counts on both the underlay and the
//! tunnel device. Needs root.
//!
//! It prints one line per kind and a summary; a kind for which this kernel has no device is named
//! in both, and is a failure if `TMON_TUNNELS=all` is set. VXLAN must always be available.
//! Arguments choose kinds.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
use std::{
    env, fs,
    io::{ErrorKind, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsRawFd,
    process::{Command, ExitCode, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use model::flow::{Count, Flow, HookKind, Inner, InnerProto, Kind, Pair, Tunnel};
use netlink_sys::{
    Socket,
    protocols::{NETLINK_GENERIC, NETLINK_ROUTE},
};
use nix::errno::Errno;
use tmon::kernel::{
    attach::Want,
    bpf::{Config, L2tp, Port},
    discover::NetnsView,
    live::Live,
    netlink::{self, Netlink, NewLink, NewTunnel},
    netns::{self, Netns, NetnsHandle},
};

/// Echoes per kind; each is one packet of PACKET bytes, IP header included, in each direction.
const ECHOES: u64 = 25;
/// Anything that has not happened by then, even on a busy machine, never will.
const PATIENCE: Duration = Duration::from_secs(60);
const PACKET: u64 = 160;
const DEVICE: &str = "t0";
const TEID: u32 = 0x7700;

/// How one end's device is created.
enum Make {
    /// By tmon's own netlink code: kind and id.
    Netlink(Kind, Option<u32>),
    /// By lines for `ip -batch`: {own} and {peer} are the underlay's addresses.
    Ip(&'static str),
    Wireguard,
    Gtp,
}
use Make::{Gtp, Ip, Wireguard};

/// What tmon should show on the underlay.
enum Show {
    /// A row of these tunnels, outermost first, with the inner pair.
    Row(&'static [(Kind, Option<u32>)]),
    /// A row whose inside is encrypted.
    Opaque(Kind),
    /// A row like `Row`, with given header parameters: no device provides them.
    Told(&'static [(Kind, Option<u32>)]),
}
use Show::{Opaque, Row, Told};

struct Case {
    name: &'static str,
    make: Make,
    /// IPv6 outside, inside.
    v6: [bool; 2],
    show: Show,
    /// Bytes of a frame on the underlay before (and after) the inner IP packet.
    overhead: u64,
}

const fn own(
    name: &'static str,
    v6: [bool; 2],
    show: &'static [(Kind, Option<u32>)],
    overhead: u64,
) -> Case {
    Case { name, make: Make::Netlink(show[0].0, show[0].1), v6, show: Row(show), overhead }
}

const FOU_PORT: u16 = 5555;
const ETH: u64 = 14;
const IP4: u64 = ETH + 20;
/// With the destination option of RFC 2473, section 5.1, that the kernel adds.
const IP6: u64 = ETH + 40 + 8;
const UDP: u64 = 8;

const CASES: &[Case] = &[
    own("vxlan", [false, false], &[(Kind::Vxlan, Some(7700))], IP4 + UDP + 8 + ETH),
    own("vxlan6", [true, true], &[(Kind::Vxlan, Some(7701))], ETH + 40 + UDP + 8 + ETH),
    own("geneve", [false, false], &[(Kind::Geneve, Some(7702))], IP4 + UDP + 8 + ETH),
    own("gre", [false, false], &[(Kind::Gre, Some(7703))], IP4 + 8),
    own("gretap", [false, false], &[(Kind::Gretap, Some(7704))], IP4 + 8 + ETH),
    own("ip6gre", [true, false], &[(Kind::Gre, Some(7705))], IP6 + 8),
    own("ip6gretap", [true, true], &[(Kind::Gretap, Some(7706))], IP6 + 8 + ETH),
    own("ipip", [false, false], &[(Kind::Ipip, None)], IP4),
    own("sit", [false, true], &[(Kind::SixInFour, None)], IP4),
    own("ip6tnl-4in6", [true, false], &[(Kind::FourInSix, None)], IP6),
    own("ip6tnl-6in6", [true, true], &[(Kind::SixInSix, None)], IP6),
    Case {
        name: "erspan",
        make: Ip(
            "link add t0 type erspan seq key 77 local {own} remote {peer} erspan_ver 1 erspan 5",
        ),
        v6: [false, false],
        show: Row(&[(Kind::Erspan, Some(77))]),
        overhead: IP4 + 8 + 8 + ETH,
    },
    Case {
        name: "fou",
        make: Ip("fou add port 5555 ipproto 4\n\
                  link add t0 type ipip local {own} remote {peer} ttl 64 encap fou encap-sport auto encap-dport 5555"),
        v6: [false, false],
        show: Row(&[(Kind::Gue, None)]),
        overhead: IP4 + UDP,
    },
    Case {
        name: "gue",
        make: Ip("fou add port 6080 gue\n\
                  link add t0 type ipip local {own} remote {peer} ttl 64 encap gue encap-sport auto encap-dport 6080"),
        v6: [false, false],
        show: Row(&[(Kind::Gue, None)]),
        overhead: IP4 + UDP + 4,
    },
    Case {
        name: "gue+gre",
        make: Ip("fou add port 6080 gue\n\
                  link add t0 type gre key 78 local {own} remote {peer} ttl 64 encap gue encap-sport auto encap-dport 6080"),
        v6: [false, false],
        show: Row(&[(Kind::Gue, None), (Kind::Gre, Some(78))]),
        overhead: IP4 + UDP + 4 + 8,
    },
    Case {
        name: "gtp",
        make: Gtp,
        v6: [false, false],
        show: Row(&[(Kind::Gtpu, Some(TEID))]),
        overhead: IP4 + UDP + 8,
    },
    // Data message: 16 bytes before the packet and 16 after it; PACKET needs no padding.
    Case {
        name: "wireguard",
        make: Wireguard,
        v6: [false, false],
        show: Opaque(Kind::Wireguard),
        overhead: IP4 + UDP + 32,
    },
    // Version 3, on the port of version 2, with the sublayer that the kernel adds by default.
    Case {
        name: "l2tpv3",
        make: Ip(
            "l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap udp local {own} remote {peer} udp_sport 1701 udp_dport 1701\n\
                  l2tp add session name t0 tunnel_id 1 session_id 1 peer_session_id 1",
        ),
        v6: [false, false],
        show: Told(&[(Kind::L2tpv3, Some(1))]),
        overhead: IP4 + UDP + 12 + ETH,
    },
    Case {
        name: "l2tpv3-ip",
        make: Ip(
            "l2tp add tunnel tunnel_id 1 peer_tunnel_id 1 encap ip local {own} remote {peer}\n\
                  l2tp add session name t0 tunnel_id 1 session_id 1 peer_session_id 1 \
                  cookie 0011223344556677 peer_cookie 0011223344556677",
        ),
        v6: [false, false],
        show: Told(&[(Kind::L2tpv3, Some(1))]),
        overhead: IP4 + 16 + ETH,
    },
];

/// Why a kind was not tried.
struct Absent(String);

/// One of the two namespaces, removed when dropped.
struct End {
    netns: Netns,
    /// Underlay and tunnel addresses by family.
    outer: [IpAddr; 2],
    inner: [IpAddr; 2],
    /// Sockets that keep a device alive.
    held: Vec<UdpSocket>,
}

impl Drop for End {
    fn drop(&mut self) {
        if let Err(e) = netns::delete(self.netns.name()) {
            eprintln!("{e:#}");
        }
    }
}

impl End {
    fn new(name: &str, number: u8) -> Result<End> {
        let v6 = |net: u16| IpAddr::from(Ipv6Addr::new(0xfd00, net, 0, 0, 0, 0, 0, number.into()));
        Ok(End {
            netns: Netns::create(name)?,
            outer: [Ipv4Addr::new(10, 77, 0, number).into(), v6(1)],
            inner: [Ipv4Addr::new(10, 78, 0, number).into(), v6(2)],
            held: Vec::new(),
        })
    }

    /// Brings an interface up with addresses, and with the other end's if it needs neighbours, so
    /// that there is no address resolution, neither at the start nor later.
    fn address(&self, link: &str, own: [IpAddr; 2], peer: [IpAddr; 2]) -> Result<()> {
        const ETHERNET: u16 = 1;
        let mac = |of: IpAddr| match of {
            IpAddr::V4(a) => [2, 0, 0, a.octets()[1], 0, a.octets()[3]],
            IpAddr::V6(_) => [0; 6],
        };
        let mut netlink = Netlink::open_in(&self.netns)?;
        let ethernet = netlink.link(link)?.context("the interface")?.arphrd == ETHERNET;
        if ethernet {
            netlink.set_mac(link, mac(own[0]))?;
        }
        netlink.set_up(link)?;
        netlink.add_address(link, own[0], 24)?;
        netlink.add_address(link, own[1], 64)?;
        if ethernet {
            for address in peer {
                netlink.add_neighbour(link, address, mac(peer[0]))?;
            }
        }
        Ok(())
    }

    /// Waits until the underlay carries packets: until the kernel has noticed the carrier, which
    /// takes long on a busy machine, it drops them.
    fn settle(&self) -> Result<()> {
        let deadline = Instant::now() + PATIENCE;
        let show = || Command::new("ip").args(["-o", "link", "show", "eth0"]).output();
        loop {
            let out = self.netns.within(show)??;
            if String::from_utf8_lossy(&out.stdout).contains(" state UP ") {
                return Ok(());
            }
            ensure!(Instant::now() < deadline, "the underlay carries no packets");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Received and sent, as the interface itself counts.
    fn interface(&self, name: &str) -> Result<[Count; 2]> {
        let s = Netlink::open_in(&self.netns)?.link(name)?.context("the interface")?.stats;
        Ok([
            Count { packets: s.rx_packets, bytes: s.rx_bytes },
            Count { packets: s.tx_packets, bytes: s.tx_bytes },
        ])
    }

    /// Creates the device; an absent one is not an error.
    fn make(&mut self, case: &Case, peer: &End) -> Result<Option<Absent>> {
        let [own, to] = [self, peer].map(|e| e.outer[usize::from(case.v6[0])]);
        let made = match &case.make {
            Make::Netlink(kind, id) => {
                let new = NewTunnel {
                    kind: *kind,
                    id: *id,
                    port: (*kind == Kind::Vxlan).then_some(4789),
                    local: (*kind != Kind::Geneve).then_some(own),
                    remote: Some(to),
                    underlay: None,
                    learning: false,
                };
                Netlink::open_in(&self.netns)?.create(DEVICE, None, &NewLink::Tunnel(new))
            }
            Ip(lines) => self.netns.within(|| {
                ip(&lines.replace("{own}", &own.to_string()).replace("{peer}", &to.to_string()))
            })?,
            Gtp => match self.netns.within(|| gtp_device(u32::from(own < to)))? {
                Ok(sockets) => {
                    self.held = sockets;
                    Ok(())
                }
                Err(e) => Err(e),
            },
            Wireguard => self.netns.within(|| new_link("wireguard", &[]))?,
        };
        match made {
            Ok(()) => Ok(None),
            Err(e) => {
                let text = format!("{e:#}");
                let no_device = netlink::errno(&e) == Some(Errno::EOPNOTSUPP)
                    || e.downcast_ref() == Some(&Errno::EOPNOTSUPP);
                let no_module =
                    ["Unknown device type", "Operation not supported", "No such file or directory"]
                        .iter()
                        .any(|t| text.contains(t));
                if no_device || no_module {
                    Ok(Some(Absent(text)))
                } else {
                    Err(e.context(format!("make {}", case.name)))
                }
            }
        }
    }
}

/// Runs lines through iproute2, in this thread's namespace.
fn ip(lines: &str) -> Result<()> {
    if lines.starts_with("fou ") {
        // The kernel does not load this module by itself; if it does not exist, `ip` reports it.
        let _ = Command::new("modprobe").arg("fou").stderr(Stdio::null()).status();
    }
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("run ip")?;
    child.stdin.take().context("a pipe")?.write_all(lines.as_bytes())?;
    let out = child.wait_with_output()?;
    ensure!(
        out.status.success(),
        "ip: {}",
        String::from_utf8_lossy(&out.stderr).trim().replace('\n', "; ")
    );
    Ok(())
}

/// An attribute: struct nlattr, the value, padding.
fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut a = [(4 + value.len() as u16).to_ne_bytes(), kind.to_ne_bytes()].concat();
    a.extend_from_slice(value);
    a.resize(a.len().next_multiple_of(4), 0);
    a
}

fn nested(kind: u16, inside: &[Vec<u8>]) -> Vec<u8> {
    attribute(kind | 0x8000, &inside.concat())
}

/// The attributes of a message, one level.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let u16_at = |at: usize| Some(u16::from_ne_bytes(rest.get(at..at + 2)?.try_into().ok()?));
        let (length, kind) = (usize::from(u16_at(0)?), u16_at(2)?);
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind & 0x3fff, value))
    })
}

/// One request with an ack; the body of the first answer that is not an ack.
fn request(protocol: isize, kind: u16, flags: u16, body: &[u8]) -> Result<Vec<u8>> {
    let mut socket = Socket::new(protocol)?;
    socket.bind_auto()?;
    let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
    message.extend([kind, flags | 5].map(u16::to_ne_bytes).concat()); // REQUEST, ACK
    message.extend([0; 8]);
    message.extend(body);
    socket.send(&message, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    let error = i32::from_ne_bytes(answer.get(16..20).context("an answer")?.try_into()?);
    if answer[4..6] == 2u16.to_ne_bytes() && error != 0 {
        return Err(Errno::from_raw(-error).into());
    }
    Ok(answer[16..].to_vec())
}

/// A device of this type, with these attributes of its type.
fn new_link(device: &str, data: &[Vec<u8>]) -> Result<()> {
    let name = attribute(3, format!("{DEVICE}\0").as_bytes());
    let info = nested(18, &[attribute(1, device.as_bytes()), nested(2, data)]);
    request(NETLINK_ROUTE, 16, 0x600, &[vec![0; 16], name, info].concat()).map(drop) // RTM_NEWLINK, CREATE, EXCL
}

/// A command of a generic netlink family; the answer's attributes.
fn generic(family: &str, command: u8, flags: u16, body: &[Vec<u8>]) -> Result<Vec<u8>> {
    let name = attribute(2, format!("{family}\0").as_bytes());
    let found = request(NETLINK_GENERIC, 16, 0, &[vec![3, 1, 0, 0], name].concat())?; // CTRL_CMD_GETFAMILY
    let id = attributes(&found[4..]).find(|a| a.0 == 1).context("the family's number")?.1;
    let message = [vec![command, u8::from(family == "wireguard"), 0, 0], body.concat()].concat();
    let answer = request(NETLINK_GENERIC, u16::from_ne_bytes(id.try_into()?), flags, &message)?;
    Ok(answer.get(4..).unwrap_or_default().to_vec())
}

/// linux/gtp.h; role 0 is the gateway's end, 1 the access network's.
fn gtp_device(role: u32) -> Result<Vec<UdpSocket>> {
    let sockets = [3386, 2152].map(|port| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port)));
    let sockets: Vec<UdpSocket> = sockets.into_iter().collect::<Result<_, _>>()?;
    let fd = |i: usize| (sockets[i].as_raw_fd() as u32).to_ne_bytes();
    let data = [
        attribute(1, &fd(0)),
        attribute(2, &fd(1)),
        attribute(3, &64u32.to_ne_bytes()),
        attribute(4, &role.to_ne_bytes()),
    ];
    new_link("gtp", &data)?;
    Ok(sockets)
}

/// Configuration that needs both devices; `port` is WireGuard's.
fn introduce(case: &Case, ends: &[End; 2], port: u16) -> Result<()> {
    let index = |e: &End| -> Result<Vec<u8>> {
        let link = Netlink::open_in(&e.netns)?.link(DEVICE)?.context("the device")?;
        Ok(attribute(1, &link.index.to_ne_bytes()))
    };
    let v4 = |a: IpAddr| match a {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(_) => [0; 4],
    };
    match case.make {
        Gtp => {
            // The mobile subscriber is at the first end.
            let subscriber = v4(ends[0].inner[0]);
            for (own, peer) in [(0, 1), (1, 0)] {
                let teid = TEID.to_ne_bytes();
                let body = [
                    index(&ends[own])?,
                    attribute(2, &1u32.to_ne_bytes()),
                    attribute(4, &v4(ends[peer].outer[0])),
                    attribute(5, &subscriber),
                    attribute(8, &teid),
                    attribute(9, &teid),
                ];
                ends[own].netns.within(|| generic("gtp", 0, 0x400, &body))??;
            }
        }
        Wireguard => {
            let mut public = Vec::new();
            for (i, e) in ends.iter().enumerate() {
                let of = index(e)?;
                let device = [
                    of.clone(),
                    attribute(3, &[i as u8 + 1; 32]),
                    attribute(6, &port.to_ne_bytes()),
                ];
                public.push(e.netns.within(|| {
                    generic("wireguard", 1, 0, &device)?;
                    let all = generic("wireguard", 0, 0x300, &[of])?;
                    anyhow::Ok(
                        attributes(&all).find(|a| a.0 == 4).context("a public key")?.1.to_vec(),
                    )
                })??);
            }
            for (own, peer) in [(0, 1), (1, 0)] {
                let family = libc::AF_INET as u16;
                let endpoint = [
                    &family.to_ne_bytes()[..],
                    &port.to_be_bytes(),
                    &v4(ends[peer].outer[0]),
                    &[0; 8],
                ]
                .concat();
                let any = [
                    attribute(1, &family.to_ne_bytes()),
                    attribute(2, &[0; 4]),
                    attribute(3, &[0]),
                ];
                let one = [
                    attribute(1, &public[peer]),
                    attribute(4, &endpoint),
                    nested(9, &[nested(0, &any)]),
                ];
                let body = [index(&ends[own])?, nested(8, &[nested(0, &one)])];
                ends[own].netns.within(|| generic("wireguard", 1, 0, &body))??;
            }
        }
        _ => {}
    }
    Ok(())
}

/// What is discovered automatically: the encapsulation of the device's packets, their port and
/// interface, and their size.
fn discovered(case: &Case, end: &End) -> Result<()> {
    let (kind, id) = match case.show {
        Row(tunnels) => tunnels[0],
        Opaque(kind) => (kind, None),
        Told(_) => return Ok(()), // no device of a type that is one of the tunnels
    };
    let scene = NetnsView::read(&mut Netlink::open_in(&end.netns)?)?;
    let found =
        scene.tunnels.iter().find(|t| t.device.name == DEVICE).context("it is not discovered")?;
    let (t, eth0) =
        (&found.device, scene.links.iter().find(|l| l.name == "eth0").context("the underlay")?);
    ensure!(t.kind == kind && t.up, "discovered as {}", t.kind);
    // A key inside GUE is not the outermost tunnel's; a TEID is a subscriber's, not the device's.
    ensure!(
        kind == Kind::Gue || t.id == id.filter(|_| kind != Kind::Gtpu),
        "discovered with the id {:?}",
        t.id
    );
    let udp = matches!(kind, Kind::Vxlan | Kind::Geneve | Kind::Gue | Kind::Gtpu | Kind::Wireguard);
    ensure!(found.port().is_some() == udp, "discovered with the port {:?}", t.port);
    let by = if kind == Kind::Gtpu { None } else { Some(eth0.index) };
    ensure!(found.underlay == by, "discovered over {:?}", found.underlay);
    ensure!(
        u64::from(t.overhead()) == case.overhead - ETH,
        "discovered to add {} bytes",
        t.overhead()
    );
    Ok(())
}

fn request_of(n: u64, payload: usize) -> Vec<u8> {
    let mut sent = vec![n as u8; payload];
    sent[..8].copy_from_slice(&n.to_be_bytes());
    sent
}

/// A request of one packet and its answer, this many times.
fn echo(socket: &UdpSocket, to: IpAddr, payload: usize) -> Result<()> {
    let mut got = vec![0; 2048];
    for n in 0..ECHOES {
        let sent = request_of(n, payload);
        socket.send_to(&sent, (to, 7)).with_context(|| format!("send echo {n}"))?;
        let deadline = Instant::now() + PATIENCE;
        while !socket.recv_from(&mut got).is_ok_and(|(length, _)| got[..length] == sent[..]) {
            ensure!(Instant::now() < deadline, "echo {n} was not answered");
        }
    }
    Ok(())
}

/// The first packets, which may be lost: keys and modules take their time. Afterwards nothing is in
/// flight any more.
fn meet(socket: &UdpSocket, to: IpAddr, payload: usize) -> Result<()> {
    let (mut asked, mut answered) = (0, 0);
    let mut got = vec![0; 2048];
    let deadline = Instant::now() + PATIENCE;
    while answered == 0 {
        ensure!(Instant::now() < deadline, "{asked} echoes were not answered");
        asked += u64::from(socket.send_to(&request_of(u64::MAX, payload), (to, 7)).is_ok());
        answered += u64::from(socket.recv_from(&mut got).is_ok());
    }
    // The others were lost, or their answers are still to come.
    while answered < asked && socket.recv_from(&mut got).is_ok() {
        answered += 1;
    }
    Ok(())
}

fn run(case: &Case, want: Want) -> Result<Result<HookKind, Absent>> {
    let name = |end| format!("tmon-u{}-{end}", std::process::id());
    let mut ends = [End::new(&name("a"), 1)?, End::new(&name("b"), 2)?];
    Netlink::open_in(&ends[0].netns)?.create(
        "eth0",
        None,
        &NewLink::Veth { peer: "eth0", netns: Some(&ends[1].netns) },
    )?;
    for (e, peer) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        e.address("eth0", e.outer, peer.outer)?;
    }
    ends.iter().try_for_each(End::settle)?;
    let [a, b] = &mut ends;
    if let Some(absent) = [a.make(case, b)?, b.make(case, a)?].into_iter().flatten().next() {
        return Ok(Err(absent));
    }
    introduce(case, &ends, 51820)?;
    for (e, peer) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        e.address(DEVICE, e.inner, peer.inner)?;
    }
    discovered(case, &ends[0])?;

    let [a, b] = &ends;
    let family = usize::from(case.v6[1]);
    let socket = |e: &End, port: u16| -> Result<UdpSocket> {
        let s = e.netns.within(|| UdpSocket::bind((e.inner[family], port)))??;
        s.set_read_timeout(Some(Duration::from_millis(500)))?;
        Ok(s)
    };
    let (near, far) = (socket(a, 0)?, socket(b, 7)?);
    let payload = (PACKET - if case.v6[1] { 48 } else { 28 }) as usize;
    let (done, to) = (AtomicBool::new(false), b.inner[family]);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut packet = vec![0; 2048];
            while !done.load(Ordering::Relaxed) {
                if let Ok((length, from)) = far.recv_from(&mut packet) {
                    // A missing answer is reported by the other side.
                    let _ = far.send_to(&packet[..length], from);
                }
            }
        });
        let watched =
            watch(case, want, a, b, || meet(&near, to, payload), || echo(&near, to, payload));
        done.store(true, Ordering::Relaxed);
        watched.map(Ok)
    })
}

/// Sends with tmon on both the underlay and the tunnel device; checks what it shows.
fn watch(
    case: &Case,
    want: Want,
    a: &End,
    b: &End,
    meet: impl FnOnce() -> Result<()>,
    send: impl FnOnce() -> Result<()>,
) -> Result<HookKind> {
    // Neighbours, keys and modules: once, before counting.
    meet().context("the first packet")?;
    let l2tp = |cookie| Some(L2tp { cookie, sublayer: true });
    let ports = match case.name {
        "fou" => vec![Port { fou: true, ..Port::of(Kind::Gue, FOU_PORT) }],
        "l2tpv3" => vec![Port { l2tp: l2tp(0), ..Port::of(Kind::L2tpv3, 1701) }],
        _ => Vec::new(),
    };
    let config = Config { rows: 4096, plain: true, ports, l2tpv3: l2tp(8), ..Config::default() };
    let outside = a.interface("eth0")?;
    let mut live =
        Live::open(&["eth0".to_owned(), DEVICE.to_owned()], Some(a.netns.name()), &config, want)?;
    let before = a.interface("eth0")?;
    send()?;
    let after = a.interface("eth0")?;
    live.detach();
    let beyond = a.interface("eth0")?;
    let s = live.read()?;

    // The books: at least what the interface counted while the programs were certainly attached,
    // and at most what it counted while they may have been.
    let books = s.interfaces[0].books;
    for hook in [0, 1] {
        let (seen, least, most) = (
            books.seen()[hook],
            after[hook].since(before[hook]),
            beyond[hook].since(outside[hook]),
        );
        ensure!(
            (least.packets..=most.packets).contains(&seen.packets)
                && (least.bytes..=most.bytes).contains(&seen.bytes),
            "seen {seen:?} on hook {hook}, the interface counted {least:?} to {most:?}"
        );
    }

    let rows = s.rows.merged();
    let pair = |addresses: fn(&End) -> [IpAddr; 2], v6: bool| {
        let [first, second] = [a, b].map(|e| addresses(e)[usize::from(v6)]);
        Pair { first, second }
    };
    let (outer, inner) = (pair(|e| e.outer, case.v6[0]), pair(|e| e.inner, case.v6[1]));
    let the = |wanted: &dyn Fn(&Flow) -> bool, what: &str| -> Result<Flow> {
        let found: Vec<&Flow> = rows.iter().filter(|f| wanted(f)).collect();
        ensure!(found.len() == 1, "{what}: {} rows instead of one in {rows:#?}", found.len());
        Ok(*found[0])
    };
    let exact = |f: Flow, frame: u64| -> Result<()> {
        let each = Count { packets: ECHOES, bytes: ECHOES * frame };
        let c = f.counters;
        // The first end is ours: what it sends is forward, and leaves.
        ensure!([c.fwd(), c.tx(), c.rev(), c.rx()] == [each; 4], "not {each:?} each way: {f:#?}");
        Ok(())
    };
    match case.show {
        Row(tunnels) | Told(tunnels) => {
            let f = the(
                &|f| f.interface == 0 && f.key.depth > 0 && f.key.inner == Inner::Pair(inner),
                "the underlay",
            )?;
            let seen: Vec<Tunnel> =
                [Some(f.key.outermost), f.key.innermost].into_iter().flatten().collect();
            let wanted: Vec<Tunnel> =
                tunnels.iter().map(|&(kind, id)| Tunnel { kind, id }).collect();
            ensure!(
                seen == wanted && f.key.outer == Some(outer) && !f.key.other,
                "not {wanted:?} between {outer:?}: {f:#?}"
            );
            ensure!(usize::from(f.key.depth) == tunnels.len(), "{f:#?}");
            exact(f, PACKET + case.overhead)?;
        }
        Opaque(kind) => {
            let f = the(&|f| f.interface == 0 && f.key.outermost.kind == kind, "the underlay")?;
            let encrypted = Inner::Proto(InnerProto(InnerProto::REASON | 4));
            ensure!(
                f.key.outer == Some(outer) && f.key.inner == encrypted && f.key.depth == 1,
                "{f:#?}"
            );
            exact(f, PACKET + case.overhead)?;
        }
    }
    // The device itself shows what passes through it, with or without an Ethernet header.
    let ethernet = Netlink::open_in(&a.netns)?.link(DEVICE)?.context("the device")?.arphrd == 1;
    let f = the(&|f| f.interface == 1 && f.key.outer == Some(inner), "the tunnel device")?;
    ensure!(f.key.depth == 0 && f.key.outermost.kind == Kind::None, "{f:#?}");
    exact(f, PACKET + if ethernet { ETH } else { 0 })?;
    Ok(s.interfaces[0].hook)
}

/// A tun device contains no tunnel: this only tests that frames without an Ethernet header are read
/// from their first byte. Nobody reads the packets, so they only leave.
fn tun() -> Result<Result<HookKind, Absent>> {
    let end = End::new(&format!("tmon-u{}-t", std::process::id()), 1)?;
    match end.netns.within(|| ip("tuntap add dev t0 mode tun"))? {
        Err(e) if e.to_string().contains("open: No such") => return Ok(Err(Absent(e.to_string()))),
        made => made?,
    }
    end.address(DEVICE, end.inner, end.inner)?;
    let config = Config { rows: 4096, plain: true, ..Config::default() };
    let mut live = Live::open(&[DEVICE.to_owned()], Some(end.netns.name()), &config, Want::Best)?;
    let to = [IpAddr::from([10, 78, 0, 2]), IpAddr::from([0xfd00, 2, 0, 0, 0, 0, 0, 2])];
    for (own, to) in end.inner.into_iter().zip(to) {
        let socket = end.netns.within(|| UdpSocket::bind((own, 0)))??;
        for _ in 0..ECHOES {
            match socket.send_to(&[0; 100], (to, 7)) {
                Err(e) if e.kind() != ErrorKind::ConnectionRefused => bail!("send to {to}: {e}"),
                _ => {}
            }
        }
        let s = live.read()?;
        let pair = Some(Pair { first: own, second: to });
        let f = s
            .rows
            .merged()
            .into_iter()
            .find(|f| f.key.outer == pair)
            .with_context(|| format!("no row of {to} in {s:#?}"))?;
        let bytes = ECHOES * if own.is_ipv6() { 148 } else { 128 };
        ensure!(
            f.counters.fwd() == Count { packets: ECHOES, bytes }
                && f.counters.fwd() == f.counters.tx(),
            "{f:#?}"
        );
    }
    Ok(Ok(live.read()?.interfaces[0].hook))
}

/// A WireGuard device that was moved to another namespace: its packets travel where it was created,
/// on a port that only the device reveals.
fn moved() -> Result<Result<HookKind, Absent>> {
    const PORT: u16 = 41820;
    let case = CASES.iter().find(|c| c.name == "wireguard").context("the case")?;
    let name = |end| format!("tmon-u{}-{end}", std::process::id());
    let mut ends = [End::new(&name("a"), 1)?, End::new(&name("b"), 2)?];
    let inside = End::new(&name("c"), 1)?;
    let veth = NewLink::Veth { peer: "eth0", netns: Some(&ends[1].netns) };
    Netlink::open_in(&ends[0].netns)?.create("eth0", None, &veth)?;
    for (e, peer) in [(&ends[0], &ends[1]), (&ends[1], &ends[0])] {
        e.address("eth0", e.outer, peer.outer)?;
    }
    ends.iter().try_for_each(End::settle)?;
    let [a, b] = &mut ends;
    if let Some(absent) = [a.make(case, b)?, b.make(case, a)?].into_iter().flatten().next() {
        return Ok(Err(absent));
    }
    introduce(case, &ends, PORT)?;
    let [a, b] = &ends;
    Netlink::open_in(&a.netns)?.move_to(DEVICE, &inside.netns)?;
    inside.address(DEVICE, a.inner, b.inner)?;
    b.address(DEVICE, b.inner, a.inner)?;

    let place = NetnsHandle::open(Some(a.netns.name()))?;
    let scene = NetnsView::read_with_moved(&place, &mut Netlink::open_inside(&place)?)?;
    let found: Vec<_> = scene.moved().map(|t| (t.device.port, t.underlay)).collect();
    let eth0 = scene.links.iter().find(|l| l.name == "eth0").context("the underlay")?.index;
    ensure!(found == [(Some(PORT), Some(eth0))], "discovered as {found:?}");
    let place = NetnsHandle::open(Some(inside.netns.name()))?;
    let scene = NetnsView::read_with_moved(&place, &mut Netlink::open_inside(&place)?)?;
    ensure!(scene.moved().next().is_none(), "its packets do not travel where it is");

    // No interface or port is named.
    let config = Config { rows: 4096, ..Config::default() };
    let mut live = Live::open(&[], Some(a.netns.name()), &config, Want::Best)?;
    let near = inside.netns.within(|| UdpSocket::bind((a.inner[0], 0)))??;
    near.set_read_timeout(Some(Duration::from_millis(500)))?;
    let far = b.netns.within(|| UdpSocket::bind((b.inner[0], 7)))??;
    far.set_read_timeout(Some(Duration::from_millis(500)))?;
    let deadline = Instant::now() + PATIENCE;
    let mut got = [0; 64];
    loop {
        let _ = near.send_to(&[7; 32], (b.inner[0], 7)); // the first ones wait for keys
        if far.recv(&mut got).is_ok() {
            break;
        }
        ensure!(Instant::now() < deadline, "nothing arrives");
    }
    let s = live.read()?;
    ensure!(
        s.rows.merged().iter().any(|f| f.key.outermost.kind == Kind::Wireguard),
        "no row in {s:#?}"
    );
    Ok(Ok(s.interfaces[0].hook))
}

fn main() -> ExitCode {
    assert!(
        nix::unistd::geteuid().is_root(),
        "these tests need root (BPF, network namespaces): run them with sudo"
    );
    // Arguments that `cargo test` and the like pass on are not for us.
    let chosen: Vec<String> =
        env::args().skip(1).filter(|a| !a.starts_with('-') && a.parse::<u32>().is_err()).collect();
    let all = env::var_os("TMON_TUNNELS").is_some_and(|v| v == "all");
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let (mut passed, mut failed, mut absent, mut best) = (Vec::new(), Vec::new(), Vec::new(), None);
    let mut report =
        |name: &'static str, started: Instant, outcome: Result<Result<HookKind, Absent>>| {
            let seconds = started.elapsed().as_secs_f64();
            match outcome {
                Ok(Ok(hook)) => {
                    println!("{name:<16} ok, {} ({seconds:.1} s)", hook.name());
                    best.get_or_insert(hook);
                    passed.push(name);
                }
                Ok(Err(Absent(why))) if name != "vxlan" => {
                    println!("{name:<16} not on this kernel: {why}");
                    absent.push(name);
                }
                Ok(Err(Absent(why))) => {
                    println!("{name:<16} FAILED: this one has to be there: {why}");
                    failed.push(name);
                }
                Err(e) => {
                    println!("{name:<16} FAILED: {e:#}");
                    failed.push(name);
                }
            }
        };
    let is_chosen = |name: &str| chosen.is_empty() || chosen.iter().any(|c| c == name);
    for case in CASES.iter().filter(|c| is_chosen(c.name)) {
        report(case.name, Instant::now(), run(case, Want::Best));
    }
    // The other hook sees the same.
    for (name, of) in [("vxlan by clsact", "vxlan"), ("ipip by clsact", "ipip")] {
        for case in CASES.iter().filter(|c| c.name == of && is_chosen(of)) {
            report(name, Instant::now(), run(case, Want::Only(HookKind::Clsact)));
        }
    }
    if is_chosen("tun") {
        report("tun", Instant::now(), tun());
    }
    if is_chosen("wireguard") {
        report("wireguard moved", Instant::now(), moved());
    }
    let list = |names: &[&str]| if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    println!(
        "tunnels: kernel {}, hook {}: {} passed, {} failed ({}), {} not on this kernel ({})",
        kernel.trim(),
        best.map_or("none", HookKind::name),
        passed.len(),
        failed.len(),
        list(&failed),
        absent.len(),
        list(&absent)
    );
    if failed.is_empty() && (!all || absent.is_empty()) && !passed.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
