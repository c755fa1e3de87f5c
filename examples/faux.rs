// SPDX-License-Identifier: MIT OR Apache-2.0
//! The dashboard with made-up numbers: for looking at it without a network, without privileges, and
//! at any size.
//!
//! `cargo run --release --example faux -- [HOSTS] [NETWORKS] [INNER PAIRS PER HOST PAIR] [INTERVAL ms] [THEME] [DEPTH]`
use std::{
    net::{IpAddr, Ipv4Addr},
    time::{Duration, Instant, SystemTime},
};

use feed::Reading;
use model::{
    flow::{Books, Count, Flow, HookKind, Inner, InnerProto, Key, Kind, Pair, Stop, Tunnel},
    interface::{Fill, Interface},
    rows::Rows,
    snapshot::Snapshot,
};
use tui::{self, TuiOptions, start::Start, theme::Depth};

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |i: usize, default: u32| args.get(i).and_then(|a| a.parse().ok()).unwrap_or(default);
    let (hosts, networks, inner) = (number(0, 9), number(1, 4), number(2, 1));
    let opts = TuiOptions {
        start: Start { title: "faux".to_owned(), ..Start::default() },
        interval: Duration::from_millis(u64::from(number(3, 1000))),
        scheme: args.get(4).and_then(|s| s.parse().ok()).unwrap_or_default(),
        depth: args.get(5).and_then(|s| s.parse().ok()).unwrap_or_else(Depth::from_env),
        ..TuiOptions::default()
    };
    let since = SystemTime::now();
    let begun = Instant::now();
    let mut flows = flows(hosts, networks, inner);
    let mut books = Books::default();
    let mut before = 0.0;
    let mut read = || -> anyhow::Result<Reading> {
        let at = begun.elapsed();
        let now = at.as_secs_f64();
        let mut rows = Rows::default();
        for (place, (flow, weight, phase)) in flows.iter_mut().enumerate() {
            let wave = (now / 17.0 + *phase).sin().max(-0.8) + 0.9;
            let bytes = (*weight * wave * (now - before)) as u64;
            let reply = bytes / (3 + place as u64 % 5);
            let sent = [
                Count { packets: bytes / 900 + 1, bytes },
                Count { packets: reply / 300 + 1, bytes: reply },
            ];
            flow.counters.cells[1][0] += sent[0];
            flow.counters.cells[0][1] += sent[1];
            books.counted[1] += sent[0];
            books.counted[0] += sent[1];
            rows.push_flow(place as u32, flow);
        }
        let plain = ((now - before) * 40.0) as u64;
        for hook in &mut books.stops[Stop::Plain as usize] {
            *hook += Count { packets: plain, bytes: plain * 120 };
        }
        before = now;
        let interface = Interface {
            ifindex: 2,
            hook: HookKind::Tcx,
            books,
            span: at,
            fill: Fill { used: rows.len() as u64, size: 65536 },
            ..Interface::new(0, "eth0")
        };
        let snapshot = Snapshot {
            origin: Default::default(),
            since,
            taken: since + at,
            at,
            interfaces: vec![interface],
            rows,
            drops: None,
            beside: Default::default(),
        };
        Ok(Reading::from(snapshot))
    };
    tui::run(opts, None, &mut read)
}

/// Rows with the maximum number of bytes per second of each, and its phase.
fn flows(hosts: u32, networks: u32, inner: u32) -> Vec<(Flow, f64, f64)> {
    let host = |n: u32| IpAddr::from(Ipv4Addr::from_bits(0xac10_0164 + n));
    let client = |net: u32, n: u32| IpAddr::from(Ipv4Addr::from_bits(0xc0a8_0001 + net * 256 + n));
    let mut seed = 42u64;
    let mut random = move |below: u64| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) % below
    };
    let mut flows = Vec::new();
    for a in 0..hosts {
        for b in a + 1..hosts {
            if a > 0 && random(3) > 0 && hosts < 100 {
                continue;
            }
            for i in 0..inner {
                let net = random(u64::from(networks)) as u32;
                let inner = match random(20) {
                    0 => Inner::Proto(InnerProto(0x0806)),
                    _ => {
                        Inner::Pair(Pair { first: client(net, a + i), second: client(net, b + i) })
                    }
                };
                let key = Key {
                    outer: Some(Pair { first: host(a), second: host(b) }),
                    outermost: Tunnel { kind: Kind::Vxlan, id: Some(10000 + net) },
                    innermost: None,
                    depth: 1,
                    inner,
                    other: false,
                };
                let weight = 10f64.powf(3.0 + random(35) as f64 / 10.0);
                let flow = Flow { interface: 0, key, counters: Default::default() };
                flows.push((flow, weight, random(628) as f64 / 100.0));
            }
        }
    }
    flows
}
