// SPDX-License-Identifier: MIT OR Apache-2.0
//! The test bed for the books: two network namespaces, a veth between their `eth0`s, a tunnel over
//! it, and no other traffic.
#![allow(clippy::print_stdout, clippy::print_stderr)] // its output is its report
pub mod rival;
mod two_hosts;

pub use two_hosts::TwoHosts;

use std::{
    fs,
    io::Write,
    net::{IpAddr, Ipv4Addr, UdpSocket},
    os::fd::{AsRawFd, OwnedFd},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

use model::{
    flow::{Books, Count, Hook, HookKind},
    snapshot::Snapshot,
};
use netlink_sys::{Socket, protocols::NETLINK_ROUTE};
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrLike, sendto,
    socket,
};
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
};
use tmon::kernel::{
    attach::{Want, tcx_programs},
    bpf::Config,
    live::Live,
    netlink::{Link, Netlink, NewLink, NewTunnel},
    netns::{self, Netns},
    pin::BPFFS,
};

/// Mounts a bpffs in the usual place, but only for this thread and the processes that it starts. It
/// disappears with them and with everything in it, however a test ends; the machine's own bpffs, if
/// there is one, is neither seen nor touched. Names of network namespaces, in contrast, are shared
/// by all tests.
pub fn own_bpffs() {
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/sys", None::<&str>, private, None::<&str>).unwrap();
    mount(Some("bpf"), BPFFS, Some("bpf"), MsFlags::empty(), None::<&str>).unwrap();
}

/// The tunnel's id.
pub const VNI: u32 = 7700;
/// The bytes of a frame before the inner Ethernet header: Ethernet, IPv4, UDP, VXLAN.
pub const ENCAPSULATION: u64 = 14 + 20 + 8 + 8;

/// Anything that has not happened by then, even on a busy machine, never will.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A network namespace, removed when dropped.
pub struct Space(pub Netns);

impl Space {
    /// Creates one whose name begins with `tmon-b` and contains its purpose.
    pub fn new(what: &str) -> Space {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests need root (BPF, network namespaces): run them with sudo"
        );
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name =
            format!("tmon-b{}-{}{what}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let space = Space(Netns::create(&name).unwrap());
        // No traffic but the test's: no IPv6 autoconfiguration.
        for which in ["default", "all"] {
            space.set(&format!("net/ipv6/conf/{which}/disable_ipv6"), "1");
        }
        space
    }

    pub fn name(&self) -> &str {
        self.0.name()
    }

    pub fn netlink(&self) -> Netlink {
        Netlink::open_in(&self.0).unwrap()
    }

    pub fn link(&self, name: &str) -> Link {
        self.netlink().link(name).unwrap().unwrap_or_else(|| panic!("no {name} in {}", self.name()))
    }

    /// Writes a sysctl below /proc/sys.
    pub fn set(&self, key: &str, value: &str) {
        let path = format!("/proc/sys/{key}");
        self.0
            .within(|| fs::write(&path, value))
            .unwrap()
            .unwrap_or_else(|e| panic!("{path}: {e}"));
    }

    /// Runs a program in the namespace; returns its standard output, or its error output.
    pub fn try_run(&self, program: &str, args: &[&str]) -> Result<String, String> {
        let run = || Command::new(program).args(args).stdin(Stdio::null()).output();
        let out = self.0.within(run).unwrap().unwrap_or_else(|e| panic!("{program}: {e}"));
        match out.status.success() {
            true => Ok(String::from_utf8_lossy(&out.stdout).into_owned()),
            false => {
                Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&out.stderr).trim()))
            }
        }
    }

    pub fn run(&self, program: &str, args: &str) -> String {
        self.try_run(program, &args.split_whitespace().collect::<Vec<_>>())
            .unwrap_or_else(|e| panic!("{e}"))
    }

    /// Sets an interface's offloads: pairs of a name and on or off. Features that a device lacks
    /// stay unchanged.
    pub fn ethtool(&self, name: &str, features: &str) {
        let words: Vec<&str> = features.split_whitespace().collect();
        let done = words
            .chunks(2)
            .filter(|w| self.try_run("ethtool", &["-K", name, w[0], w[1]]).is_ok())
            .count();
        assert!(done > 0, "ethtool could not set any of {features} of {name}");
    }

    /// Lets an interface send and receive super-packets of up to this many bytes, in both families.
    /// This uses netlink because older versions of iproute2 cannot set it for IPv4. Returns false
    /// if the interface does not support it.
    pub fn largest(&self, name: &str, bytes: u32) -> bool {
        let attribute = |kind: u16| {
            [8u16.to_ne_bytes(), kind.to_ne_bytes()].concat().into_iter().chain(bytes.to_ne_bytes())
        };
        // IFLA_GSO_MAX_SIZE, IFLA_GRO_MAX_SIZE, and the same for IPv4
        let attributes: Vec<u8> = [41, 58, 63, 64].into_iter().flat_map(attribute).collect();
        let body =
            [&[0; 4][..], &self.link(name).index.to_ne_bytes(), &[0; 8], &attributes].concat();
        let mut message = (16 + body.len() as u32).to_ne_bytes().to_vec();
        message.extend([16u16, 5].map(u16::to_ne_bytes).concat()); // RTM_NEWLINK; REQUEST, ACK
        message.extend([0; 8]);
        message.extend(body);
        let ask = || {
            let mut socket = Socket::new(NETLINK_ROUTE)?;
            socket.bind_auto()?;
            socket.send(&message, 0)?;
            socket.recv_from_full()
        };
        let (answer, _) = self.0.within(ask).unwrap().unwrap();
        let error = i32::from_ne_bytes(answer[16..20].try_into().unwrap());
        assert!(
            [0, -libc::EINVAL].contains(&error),
            "{name}: {}",
            std::io::Error::from_raw_os_error(-error)
        );
        error == 0
    }

    /// Runs lines with `ip -batch`.
    pub fn ip(&self, lines: &str) {
        let start = || {
            Command::new("ip")
                .args(["-batch", "-"])
                .stdin(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
        };
        let mut child = self.0.within(start).unwrap().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        let out = child.wait_with_output().unwrap();
        assert!(out.status.success(), "{lines}: {}", String::from_utf8_lossy(&out.stderr));
    }

    /// Received and sent, by the interface's own counters.
    pub fn counted(&self, name: &str) -> [Count; 2] {
        let s = self.link(name).stats;
        [
            Count { packets: s.rx_packets, bytes: s.rx_bytes },
            Count { packets: s.tx_packets, bytes: s.tx_bytes },
        ]
    }

    pub fn udp(&self, at: (IpAddr, u16)) -> UdpSocket {
        self.0.within(|| UdpSocket::bind(at)).unwrap().unwrap()
    }

    /// Waits until interfaces that are up also carry packets. The kernel notices a carrier later,
    /// on a busy machine much later, and until then drops every packet; meanwhile a new interface
    /// is IFF_RUNNING, because nothing is known about it yet.
    pub fn settle(&self) {
        for kind in ["veth", "bridge"] {
            until(&format!("{kind} interfaces to carry packets"), || {
                let links = self.run("ip", &format!("-o link show up type {kind}"));
                links.lines().all(|l| l.contains(" state UP "))
            });
        }
    }

    /// A socket for whole frames.
    pub fn raw(&self) -> OwnedFd {
        self.0
            .within(|| {
                socket(
                    AddressFamily::Packet,
                    SockType::Raw,
                    SockFlag::SOCK_CLOEXEC,
                    None::<SockProtocol>,
                )
            })
            .unwrap()
            .unwrap()
    }

    /// Everything about traffic control and BPF on an interface: qdiscs, filters, programs on tcx.
    pub fn hooks(&self, name: &str) -> String {
        let mut text = self.run("tc", &format!("-s -d qdisc show dev {name}"));
        // Packet counters are not state.
        text = text
            .lines()
            .filter(|l| !l.trim_start().starts_with("Sent") && !l.contains("backlog"))
            .collect::<Vec<_>>()
            .join("\n");
        for side in ["ingress", "egress"] {
            text += &self.try_run("tc", &["filter", "show", "dev", name, side]).unwrap_or_default();
        }
        text + &format!("\ntcx: {:?}", self.tcx(name))
    }

    /// The ids of all programs on an interface's hooks.
    pub fn programs(&self, name: &str) -> Vec<u32> {
        let filters = self.netlink().filters(self.link(name).index).unwrap();
        filters.iter().filter_map(|f| f.program).chain(self.tcx(name)).collect()
    }

    /// The ids of the programs on both tcx hooks of an interface.
    pub fn tcx(&self, name: &str) -> Vec<u32> {
        let ifindex = self.link(name).index;
        let ids =
            || [Hook::Rx, Hook::Tx].map(|hook| tcx_programs(hook, ifindex).unwrap_or_default());
        self.0.within(ids).unwrap().concat()
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        if let Err(e) = netns::delete(self.0.name()) {
            eprintln!("{e:#}");
        }
    }
}

/// Both ends.
pub struct Ground {
    pub a: Space,
    pub b: Space,
}

/// The underlay and overlay addresses of an end, which is 1 or 2.
pub fn outer(end: u8) -> IpAddr {
    Ipv4Addr::new(10, 77, 0, end).into()
}

pub fn inner(end: u8) -> IpAddr {
    Ipv4Addr::new(10, 78, 0, end).into()
}

/// The link-layer address given to an end's interface.
pub fn mac(net: u8, end: u8) -> [u8; 6] {
    [2, 0, 0, 0, net, end]
}

impl Ground {
    /// The veth, with addresses and static neighbours, so that no address resolution is needed.
    pub fn bare() -> Ground {
        let g = Ground { a: Space::new("a"), b: Space::new("b") };
        g.a.netlink()
            .create("eth0", None, &NewLink::Veth { peer: "eth0", netns: Some(&g.b.0) })
            .unwrap();
        for (space, own) in g.ends() {
            address(space, "eth0", 1, own, outer);
        }
        g.settle();
        g
    }

    /// The same with a VXLAN device over it, `t0`.
    #[allow(clippy::new_without_default)] // it needs root, and creates namespaces
    pub fn new() -> Ground {
        let g = Ground::bare();
        g.tunnel("t0", VNI);
        g
    }

    /// A VXLAN device at both ends with the overlay's addresses.
    pub fn tunnel(&self, name: &str, id: u32) {
        self.tunnel_at(name, id, 4789);
    }

    /// The same with another UDP port.
    pub fn tunnel_at(&self, name: &str, id: u32, port: u16) {
        for (space, own) in self.ends() {
            let tunnel = NewTunnel {
                kind: model::flow::Kind::Vxlan,
                id: Some(id),
                port: Some(port),
                local: Some(outer(own)),
                remote: Some(outer(3 - own)),
                underlay: None,
                learning: false,
            };
            space.netlink().create(name, Some(1450), &NewLink::Tunnel(tunnel)).unwrap();
            address(space, name, 2, own, inner);
        }
    }

    pub fn ends(&self) -> [(&Space, u8); 2] {
        [(&self.a, 1), (&self.b, 2)]
    }

    /// See [`Space::settle`].
    pub fn settle(&self) {
        self.ends().iter().for_each(|(space, _)| space.settle());
    }

    /// UDP sockets through the tunnel, each connected to the other.
    pub fn sockets(&self, port: u16) -> [UdpSocket; 2] {
        self.settle();
        self.ends().map(|(space, own)| {
            let socket = space.udp((inner(own), port));
            socket.connect((inner(3 - own), port)).unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    }

    /// Watches `eth0` of the first end.
    pub fn watch(&self, config: &Config, want: Want) -> Live {
        Live::open(&["eth0".to_owned()], Some(self.a.name()), config, want).unwrap()
    }
}

/// Brings an interface up with a known link-layer address, an address, and the other end as its neighbour.
pub fn address(space: &Space, name: &str, net: u8, own: u8, of: impl Fn(u8) -> IpAddr) {
    let mut netlink = space.netlink();
    netlink.set_mac(name, mac(net, own)).unwrap();
    netlink.set_up(name).unwrap();
    netlink.add_address(name, of(own), 24).unwrap();
    netlink.add_neighbour(name, of(3 - own), mac(net, 3 - own)).unwrap();
}

/// The kinds of hooks that this kernel has.
pub fn wants() -> Vec<Want> {
    let g = Ground::bare();
    let tcx =
        Live::open(&["eth0".to_owned()], Some(g.a.name()), &small(), Want::Only(HookKind::Tcx))
            .is_ok();
    let kinds = if tcx { vec![HookKind::Tcx, HookKind::Clsact] } else { vec![HookKind::Clsact] };
    kinds.into_iter().map(Want::Only).collect()
}

/// Small tables, which are created quickly.
pub fn small() -> Config {
    Config { rows: 1024, ..Config::default() }
}

/// The size of the datagrams that `reach` sends.
const PROBE: usize = 1;

/// Waits until a datagram arrives: the first ones after a change of interfaces may be lost to stale
/// state in the kernel. For tests that do not count what they send.
pub fn reach(from: &UdpSocket, to: &UdpSocket) {
    to.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    until("a datagram to arrive", || {
        from.send(&[0; PROBE]).unwrap();
        to.recv(&mut [0; PROBE]).is_ok()
    });
    to.set_read_timeout(Some(PATIENCE)).unwrap();
}

/// Sends this many datagrams and receives them at the other end. Returns the outer size of one.
pub fn send(from: &UdpSocket, to: &UdpSocket, packets: u64) -> u64 {
    const PAYLOAD: usize = 100;
    let mut got = [0; 2048];
    for n in 0..packets {
        let mut sent = [n as u8; PAYLOAD];
        sent[..8].copy_from_slice(&n.to_be_bytes());
        from.send(&sent).unwrap();
        let length = loop {
            match to.recv(&mut got).unwrap_or_else(|e| panic!("datagram {n}: {e}")) {
                PROBE => continue, // sent by `reach`, late
                length => break length,
            }
        };
        assert_eq!(got[..length], sent, "it arrives as it was sent");
    }
    ENCAPSULATION + 14 + 28 + PAYLOAD as u64
}

/// Waits until a condition holds; `what` names it in the failure message.
pub fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a notice that contains these words; returns all notices that arrived.
pub fn told(live: &mut Live, words: &str) -> Vec<String> {
    let mut notices = Vec::new();
    until(words, || {
        live.follow();
        notices.extend(live.notices());
        notices.iter().any(|n| n.contains(words))
    });
    notices
}

/// An interface's counters and a consistent reading: no packet passed in between.
pub fn at_rest(live: &mut Live, space: &Space, name: &str) -> ([Count; 2], Snapshot) {
    for _ in 0..100 {
        let before = space.counted(name);
        let snapshot = live.read().unwrap();
        if space.counted(name) == before {
            return (before, snapshot);
        }
    }
    panic!("{name} in {} does not come to rest", space.name());
}

/// Asserts that the sum of an interface's rows equals what was counted.
pub fn closed(s: &Snapshot) {
    for (i, interface) in s.interfaces.iter().enumerate() {
        let rows: Count = s
            .rows
            .iter()
            .filter(|f| usize::from(f.interface) == i)
            .map(|f| f.counters.total())
            .sum();
        let Books { counted, .. } = interface.books;
        assert_eq!(
            rows,
            counted[0] + counted[1],
            "the rows of {} are what was counted",
            interface.name
        );
    }
}

/// Detaches the tcx links of these programs. Returns how many.
#[allow(unsafe_code)]
pub fn detach_links(programs: &[u32]) -> usize {
    let (mut id, mut detached) = (0, 0);
    // SAFETY: id, info and size live until the calls return, and size is the length of info.
    unsafe {
        while libbpf_sys::bpf_link_get_next_id(id, &mut id) == 0 {
            let fd = libbpf_sys::bpf_link_get_fd_by_id(id);
            if fd < 0 {
                continue;
            }
            let mut info = libbpf_sys::bpf_link_info::default();
            let mut size = size_of_val(&info) as u32;
            let known = libbpf_sys::bpf_link_get_info_by_fd(fd, &mut info, &mut size) == 0;
            if known
                && info.type_ == libbpf_sys::BPF_LINK_TYPE_TCX
                && programs.contains(&info.prog_id)
            {
                detached += usize::from(libbpf_sys::bpf_link_detach(fd) == 0);
            }
            libc::close(fd);
        }
    }
    detached
}

/// A whole VXLAN frame from the first end to the second, with a UDP packet between two inner addresses.
pub fn vxlan(id: u32, from: u32, to: u32) -> Vec<u8> {
    let octets = |a: IpAddr| match a {
        IpAddr::V4(a) => a.octets(),
        IpAddr::V6(_) => unreachable!("these are IPv4"),
    };
    // IP header and UDP header; the checksums do not matter here.
    let ip_udp = |from: [u8; 4], to: [u8; 4], ports: [u16; 2], length: u16| {
        let [ip, udp] = [length, length - 20].map(u16::to_be_bytes);
        let ports = ports.map(u16::to_be_bytes).concat();
        [&[0x45, 0][..], &ip, &[0, 0, 0x40, 0, 64, 17, 0, 0], &from, &to, &ports, &udp, &[0, 0]]
            .concat()
    };
    let inside =
        [&ip_udp(from.to_be_bytes(), to.to_be_bytes(), [1, 2], 28 + 40)[..], &[7; 40]].concat();
    let ether = |net| [&mac(net, 2)[..], &mac(net, 1), &[8, 0]].concat();
    let outside = ip_udp(
        octets(outer(1)),
        octets(outer(2)),
        [50_000, 4789],
        28 + 8 + 14 + inside.len() as u16,
    );
    let vxlan = [&[8, 0, 0, 0][..], &(id << 8).to_be_bytes()].concat();
    [ether(1), outside, vxlan, ether(2), inside].concat()
}

/// The same frame in the other direction.
pub fn answer(frame: &[u8]) -> Vec<u8> {
    let mut f = frame.to_vec();
    for (at, length) in [(0, 6), (26, 4), (26 + ENCAPSULATION as usize, 4)] {
        let (from, to) = f[at..at + 2 * length].split_at_mut(length);
        from.swap_with_slice(to);
    }
    f
}

/// Sends this many datagrams during a flood, in which one may be lost after our hook and is sent
/// again. Returns how many were sent.
pub fn insist(from: &UdpSocket, to: &UdpSocket, packets: u64) -> u64 {
    to.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut got = [0; 2048];
    let mut sent = 0;
    for n in 0..packets {
        let mut datagram = [n as u8; 100];
        datagram[..8].copy_from_slice(&n.to_be_bytes());
        until("a datagram", || {
            from.send(&datagram).unwrap();
            sent += 1;
            std::iter::from_fn(|| to.recv(&mut got).ok().map(|length| got[..length] == datagram))
                .any(|this| this)
        });
    }
    sent
}

/// Sends a frame on an interface's egress. Returns how often: a veth whose peer does not keep up
/// drops it after our hook, and it is sent again.
#[allow(unsafe_code)]
pub fn inject(socket: &OwnedFd, ifindex: u32, frame: &[u8]) -> u64 {
    // SAFETY: integers only.
    let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    to.sll_family = libc::AF_PACKET as u16;
    to.sll_ifindex = ifindex as i32;
    // SAFETY: the address is of the family that it states and has the stated length.
    let to = unsafe { LinkAddr::from_raw((&raw const to).cast(), Some(size_of_val(&to) as u32)) }
        .unwrap();
    let mut times = 1;
    while let Err(e) = sendto(socket.as_raw_fd(), frame, &to, MsgFlags::empty()) {
        assert_eq!(e, nix::errno::Errno::ENOBUFS, "send a frame");
        times += 1;
        std::thread::yield_now();
    }
    times
}

/// Newer minus older, by hook.
pub fn since(newer: [Count; 2], older: [Count; 2]) -> [Count; 2] {
    [0, 1].map(|i| newer[i].since(older[i]))
}
