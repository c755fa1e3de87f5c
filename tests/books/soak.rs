// SPDX-License-Identifier: MIT OR Apache-2.0
//! Everything at once and repeatedly: real traffic, floods of a small table, fragments, odd frames,
//! other tmon and other programs that come, go and are killed, interfaces that come and go; after
//! each round every packet is where it belongs. A few seconds here; `make soak SECONDS=600` for
//! longer.
use std::{
    env, thread,
    time::{Duration, Instant},
};

use model::{
    flow::{Count, Hook, HookKind},
    snapshot::Snapshot,
};
use tmon::kernel::{attach::Want, bpf::Config, live::Live, netlink::NewLink};

use super::{
    harmless::{Tmon, heard, listen, odd_frames},
    offloads::bulk,
};
use crate::ground::{
    rival::{self, Rival},
    *,
};

/// The name of a round, and its function.
type Round = (&'static str, fn(&mut Soak));

/// The rounds.
const ROUNDS: [Round; 12] = [
    ("real traffic", Soak::traffic),
    ("a flood", Soak::flood),
    ("bulk", Soak::bulk),
    ("fragments", Soak::fragments),
    ("odd frames", Soak::odd),
    ("another tmon", Soak::another),
    ("a kill", Soak::kill),
    ("another program", Soak::rival),
    ("no programs", Soak::taken_off),
    ("a new interface", Soak::recreate),
    ("a new name", Soak::rename),
    ("down and up", Soak::bounce),
];

struct Soak {
    g: Ground,
    /// As on the wire, with a small table whose rows age soon; and as the interface counts.
    wire: Live,
    skbs: Live,
    random: u64,
    /// What the interface counted in earlier lives, and its counters at the start of this one.
    earlier: [Count; 2],
    base: [Count; 2],
    /// Frames that we injected on the wire here.
    injected: u64,
    datagrams: u64,
    /// What passed our hook and was then dropped by the interface, which does not count it.
    dropped: Count,
}

impl Soak {
    fn new() -> Soak {
        let g = Ground::new();
        let config = Config { rows: 256, age: Duration::from_secs(1), ..Config::default() };
        let wire = g.watch(&config, Want::Best);
        let skbs = g.watch(&Config { skb: true, ..config }, Want::Best);
        let base = g.a.counted("eth0");
        Soak {
            g,
            wire,
            skbs,
            random: 0x9e37_79b9_7f4a_7c15,
            earlier: Default::default(),
            base,
            injected: 0,
            datagrams: 0,
            dropped: Count::default(),
        }
    }

    fn next(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn traffic(&mut self) {
        let [near, far] = self.g.sockets(9);
        reach(&near, &far);
        reach(&far, &near);
        let n = 100 + self.next(400);
        send(&near, &far, n);
        send(&far, &near, n / 2);
        self.datagrams += n + n / 2;
    }

    fn inject(&mut self, frames: &[Vec<u8>]) {
        let (raw, ifindex) = (self.g.a.raw(), self.g.a.link("eth0").index);
        let (ear, at) = (listen(&self.g.b, "eth0"), self.g.b.link("eth0").index as usize);
        let mark = vxlan(5, 5, 5);
        for some in frames.chunks(256) {
            for frame in some.iter().chain([&mark]) {
                // Those that the other end had no room for passed our hook, but the interface did
                // not count them.
                let again = inject(&raw, ifindex, frame) - 1;
                self.dropped += Count { packets: again, bytes: again * frame.len() as u64 };
                self.injected += 1;
            }
            // The next round must not find the other end's queue full.
            until("the other end", || heard(&ear, at).contains(&mark));
        }
    }

    /// Ten times what the table holds, while real traffic continues.
    fn flood(&mut self) {
        let frames: Vec<_> = (0..5120)
            .map(|i| {
                let pair = self.next(u64::MAX);
                vxlan(1 + i % 4, pair as u32, (pair >> 32) as u32)
            })
            .collect();
        let [near, far] = self.g.sockets(9);
        // Alternately: what the flood leaves in the other end's queue must not cost a datagram.
        for some in frames.chunks(256) {
            self.inject(some);
            send(&near, &far, 10);
            self.datagrams += 10;
        }
    }

    fn bulk(&mut self) {
        bulk(&self.g.a, &self.g.b, inner(2), 4 << 20);
        bulk(&self.g.b, &self.g.a, inner(1), 4 << 20);
    }

    /// Inner packets that do not fit into one outer packet.
    fn fragments(&mut self) {
        self.mtu(1500, "mtu lock 1500");
        let [near, far] = self.g.sockets(9);
        let (n, mut got) = (20 + self.next(80), [0; 2048]);
        for i in 0..n {
            for (from, to) in [(&near, &far), (&far, &near)] {
                from.send(&[i as u8; 1472]).unwrap();
                assert_eq!(to.recv(&mut got).unwrap(), 1472, "put together again");
            }
        }
        self.datagrams += 2 * n;
        self.mtu(1450, "");
    }

    /// Sets the MTU of both ends' tunnel; path MTU discovery does not notice the underlay's.
    fn mtu(&self, bytes: u32, lock: &str) {
        for (space, own) in self.g.ends() {
            space.netlink().set_mtu("t0", bytes).unwrap();
            space
                .run("ip", &format!("route replace 10.78.0.0/24 dev t0 src {} {lock}", inner(own)));
        }
    }

    fn odd(&mut self) {
        let frames = odd_frames(500 + self.next(500) as usize);
        self.inject(&frames);
    }

    fn another(&mut self) {
        let wants = [Want::Best, Want::Only(HookKind::Clsact)];
        let want = wants[self.next(2) as usize];
        let mut other = self.g.watch(&small(), want);
        self.traffic();
        closed(&other.read().unwrap());
    }

    fn kill(&mut self) {
        let kind = if self.next(2) == 0 { HookKind::Clsact } else { self.hook() };
        let child = Tmon::start(&self.g, kind);
        self.traffic();
        drop(child);
        self.traffic();
    }

    fn hook(&mut self) -> HookKind {
        self.wire.read().unwrap().interfaces[0].hook
    }

    /// Another program is placed before ours, and goes.
    fn rival(&mut self) {
        let (hook, kind) = ([Hook::Rx, Hook::Tx][self.next(2) as usize], self.hook());
        let rival = Rival::attach(&self.g.a, "eth0", hook, kind, rival::NEXT);
        told(&mut self.wire, "runs before tmon");
        self.traffic();
        assert!(rival.packets() >= 50, "it sees the packets");
        drop(rival);
        if kind == HookKind::Clsact {
            let side = if hook == Hook::Rx { "ingress" } else { "egress" };
            self.g.a.run("tc", &format!("filter del dev eth0 {side} prio 1 handle 1 bpf"));
        }
        told(&mut self.wire, "no program runs before tmon");
    }

    /// Our programs are detached by somebody else, and come back.
    fn taken_off(&mut self) {
        self.rest();
        match self.hook() {
            HookKind::Tcx => {
                assert!(detach_links(&self.g.a.tcx("eth0")) >= 4, "both hooks of both ends")
            }
            _ => drop(self.g.a.run("tc", "qdisc del dev eth0 clsact")),
        }
        for live in [&mut self.wire, &mut self.skbs] {
            told(live, "is watched again");
        }
        self.traffic();
    }

    fn recreate(&mut self) {
        self.rest();
        let now = since(self.g.a.counted("eth0"), self.base);
        for hook in [0, 1] {
            self.earlier[hook] += now[hook];
        }
        self.g.a.netlink().delete("eth0").unwrap();
        let quiet = |live: &mut Live| drop(told(live, "is gone"));
        quiet(&mut self.wire);
        quiet(&mut self.skbs);
        self.g
            .a
            .netlink()
            .create("eth0", None, &NewLink::Veth { peer: "eth0", netns: Some(&self.g.b.0) })
            .unwrap();
        for live in [&mut self.wire, &mut self.skbs] {
            told(live, "is back");
        }
        // Nothing has passed it yet.
        self.base = self.g.a.counted("eth0");
        assert_eq!(self.base, <[Count; 2]>::default());
        for (space, own) in self.g.ends() {
            address(space, "eth0", 1, own, outer);
        }
        self.traffic();
    }

    fn rename(&mut self) {
        for (from, to) in [("eth0", "wan\u{1b}[2J"), ("wan\u{1b}[2J", "eth0")] {
            for words in [
                &["link", "set", from, "down"][..],
                &["link", "set", from, "name", to],
                &["link", "set", to, "up"],
            ] {
                self.g.a.try_run("ip", words).unwrap();
            }
            for live in [&mut self.wire, &mut self.skbs] {
                told(live, "is now called");
            }
            self.g.a.netlink().add_neighbour(to, outer(2), mac(1, 2)).unwrap();
            self.traffic();
        }
    }

    fn bounce(&mut self) {
        self.g.a.netlink().set_down("eth0").unwrap();
        self.g.a.netlink().set_up("eth0").unwrap();
        self.g.a.netlink().add_neighbour("eth0", outer(2), mac(1, 2)).unwrap();
        self.traffic();
    }

    /// Waits until no packets are in flight, and reads both.
    fn rest(&mut self) -> [Snapshot; 2] {
        let (_, skbs) = at_rest(&mut self.skbs, &self.g.a, "eth0");
        let (_, wire) = at_rest(&mut self.wire, &self.g.a, "eth0");
        [wire, skbs]
    }

    /// The books of both: what is missing, and one line.
    fn close(&mut self) -> (i64, String) {
        let [wire, skbs] = self.rest();
        closed(&wire);
        closed(&skbs);
        let now = since(self.g.a.counted("eth0"), self.base);
        let passed: Count = self.earlier.iter().chain(&now).chain([&self.dropped]).copied().sum();
        let all = |s: &Snapshot, of: fn(&model::flow::Books) -> [Count; 2]| {
            s.interfaces.iter().flat_map(|i| of(&i.books)).sum::<Count>()
        };
        let seen = all(&skbs, |b| b.seen());
        let counted = all(&skbs, |b| b.counted);
        let stopped: Count =
            skbs.interfaces.iter().flat_map(|i| i.books.stops.into_iter().flatten()).sum();
        let on_wire = all(&wire, |b| b.seen());
        for s in [&wire, &skbs] {
            let by_tunnel: Count = s.rows.iter().map(|f| f.counters.in_fragments().total()).sum();
            assert_eq!(by_tunnel, all(s, |b| b.fragments), "every fragment is a tunnel's");
        }
        assert!(
            on_wire.packets >= seen.packets && passed.packets >= self.injected + self.datagrams,
            "{self}"
        );
        let difference = passed.packets as i64 - (counted.packets + stopped.packets) as i64;
        let bytes = passed.bytes as i64 - (counted.bytes + stopped.bytes) as i64;
        let line = format!(
            "sent {} packets, seen {}, counted {}, stopped {}, difference {difference} ({bytes} bytes); {} on the wire",
            passed.packets, seen.packets, counted.packets, stopped.packets, on_wire.packets
        );
        (difference.abs() + bytes.abs() + (seen.packets as i64 - passed.packets as i64).abs(), line)
    }
}

impl std::fmt::Display for Soak {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} frames and {} datagrams were sent", self.injected, self.datagrams)
    }
}

#[test]
fn soak() {
    let seconds =
        env::var("TMON_SOAK").map_or(10, |s| s.parse().expect("TMON_SOAK is a number of seconds"));
    let deadline = Instant::now() + Duration::from_secs(seconds);
    let mut soak = Soak::new();
    let mut minute = Instant::now();
    let (mut rounds, mut line) = (0, String::new());
    // Each once, then at random.
    while Instant::now() < deadline || rounds < ROUNDS.len() {
        let which =
            if rounds < ROUNDS.len() { rounds } else { soak.next(ROUNDS.len() as u64) as usize };
        let (name, round) = ROUNDS[which];
        round(&mut soak);
        // Packets may still be queued after the interface's counters, on a busy machine for a
        // while.
        let (mut wrong, mut said) = soak.close();
        let patience = Instant::now() + PATIENCE;
        while wrong != 0 && Instant::now() < patience {
            thread::sleep(Duration::from_millis(50));
            (wrong, said) = soak.close();
        }
        assert!(wrong == 0, "soak: after round {rounds}, {name}: {said}");
        (rounds, line) = (rounds + 1, said);
        if minute.elapsed() > Duration::from_secs(60) {
            minute = Instant::now();
            eprintln!("soak: {rounds} rounds: {line}");
        }
    }
    // The next start removes what the last kill left; then everything is as before.
    drop(soak.g.watch(&small(), Want::Only(HookKind::Clsact)));
    let Soak { g, wire, skbs, .. } = soak;
    drop((wire, skbs));
    assert_eq!(g.a.programs("eth0"), [0; 0], "{}", g.a.hooks("eth0"));
    assert!(!g.a.hooks("eth0").contains("clsact"), "{}", g.a.hooks("eth0"));
    println!("soak: {rounds} rounds in {seconds} s: {line}");
}
