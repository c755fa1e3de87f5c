// SPDX-License-Identifier: MIT OR Apache-2.0
//! Two ends of a tunnel, with a bridge between them that can drop what they send.
use super::{Space, address, inject, mac, outer};
use crate::frames::pkt;

/// Two hosts and a bridge between them, each in a namespace of its own.
pub struct TwoHosts {
    /// The sender.
    pub a: Space,
    /// The receiver.
    pub b: Space,
    fabric: Space,
}

#[allow(clippy::new_without_default)] // it creates namespaces
impl TwoHosts {
    /// Creates them.
    pub fn new() -> TwoHosts {
        let w = TwoHosts { a: Space::new("a"), b: Space::new("b"), fabric: Space::new("f") };
        w.fabric.ip("link add br0 type bridge\nlink set br0 up");
        for (space, port) in [(&w.a, "p1"), (&w.b, "p2")] {
            let name = space.name();
            w.fabric.ip(&format!(
                "link add {port} type veth peer name eth0 netns {name}\n\
                 link set {port} master br0 up"
            ));
        }
        address(&w.a, "eth0", 1, 1, outer);
        address(&w.b, "eth0", 1, 2, outer);
        [&w.a, &w.b, &w.fabric].iter().for_each(|s| s.settle());
        w
    }

    /// Makes the bridge drop one packet in ten, and count them.
    pub fn drop_some(&self) {
        self.fabric.run("nft", "add table bridge t");
        let chain = "add chain bridge t c { type filter hook forward priority 0 ; }";
        self.fabric.run("nft", chain);
        self.fabric
            .run("nft", "add rule bridge t c udp dport 4789 numgen inc mod 10 0 counter drop");
    }

    /// How many packets it has dropped.
    pub fn dropped(&self) -> u64 {
        let rules = self.fabric.run("nft", "list table bridge t");
        let words: Vec<&str> = rules.split_whitespace().collect();
        let at = words.iter().position(|w| *w == "packets").unwrap();
        words[at + 1].parse().unwrap()
    }

    /// Sends this many packets through a tunnel from the first host to the second, and returns the
    /// number.
    pub fn send(&self, n: u64) -> u64 {
        let ends = format!("{} > {}", outer(1), outer(2));
        let inside = pkt().eth().ip("10.9.0.1 > 10.9.0.2").udp(1, 2).data(40);
        let eth = pkt().eth().set(0, &mac(1, 2)).set(6, &mac(1, 1));
        let frame = eth.ip(&ends).udp(50_000, 4789).vxlan(99).then(inside).bytes();
        let (raw, index) = (self.a.raw(), self.a.link("eth0").index);
        (0..n).map(|_| inject(&raw, index, &frame)).sum()
    }
}
