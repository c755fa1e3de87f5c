// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who sends a tunnel's packets in fragments, because the underlay's MTU leaves no room for the
//! encapsulation.
use std::cmp::Reverse;

use foldhash::{HashMap, HashMapExt, HashSet};

use crate::{
    flow::{Count, Tunnel},
    matrix::{End, Level, Scope},
    rows::Row,
    snapshot::Interval,
};

/// What one host sends to another in one tunnel, if some of it is in fragments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fragmented {
    /// The sender.
    pub from: End,
    /// The receiver.
    pub to: End,
    /// The outermost tunnel.
    pub tunnel: Tunnel,
    /// Fragments of outer packets.
    pub fragments: Count,
    /// All packets, including fragments.
    pub all: Count,
}

/// The fragmented traffic in a scope, most fragments first.
pub fn fragmented(interval: &Interval, scope: &Scope) -> Vec<Fragmented> {
    let mut sums: HashMap<(Tunnel, End, End), [Count; 2]> = HashMap::new();
    let ways = |row: &Row<'_>| {
        let ((a, b), tunnel, [fwd, rev]) =
            (Scope::ends(Level::Hosts, &row.flow()), row.outermost(), row.sent());
        [((tunnel, a, b), fwd), ((tunnel, b, a), rev)].into_iter().filter(|(_, n)| !n.is_zero())
    };
    for row in scope.rows(interval).filter(|r| r.fragments()) {
        for (way, n) in ways(&row) {
            sums.entry(way).or_default()[0] += n;
        }
    }
    if sums.is_empty() {
        return Vec::new();
    }
    let tunnels: HashSet<Tunnel> = sums.keys().map(|(tunnel, ..)| *tunnel).collect();
    for row in scope.rows(interval).filter(|r| tunnels.contains(&r.outermost())) {
        for (way, n) in ways(&row) {
            if let Some(sum) = sums.get_mut(&way) {
                sum[1] += n;
            }
        }
    }
    let list = sums.into_iter().map(|((tunnel, from, to), [fragments, all])| Fragmented {
        from,
        to,
        tunnel,
        fragments,
        all,
    });
    let mut list: Vec<Fragmented> = list.collect();
    list.sort_unstable_by_key(|f| (Reverse(f.fragments.packets), f.tunnel, f.from, f.to));
    list
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::{
        flow::{Counters, Flow, Inner, InnerProto, Key, Kind, Pair},
        rows::Rows,
    };

    #[test]
    fn fragments_and_packets_are_summed_by_sender_and_tunnel() {
        let host = |n| -> IpAddr { [172, 16, 1, n].into() };
        let count = |packets| Count { packets, bytes: packets * 1000 };
        // the number of fragmented packets among those that the first end sent, and among those
        // that the second sent
        let flow = |id, proto, sent: [u64; 2], fragments: [u64; 2]| Flow {
            interface: 0,
            key: Key {
                outer: Some(Pair { first: host(1), second: host(2) }),
                outermost: Tunnel { kind: Kind::Vxlan, id: Some(id) },
                innermost: None,
                depth: 1,
                inner: Inner::Proto(InnerProto(proto)),
                other: false,
            },
            counters: Counters {
                cells: [[Count::default(); 2], sent.map(count)],
                fragments: [[Count::default(); 2], fragments.map(count)],
                ..Counters::default()
            },
        };
        let flows = [
            flow(7, 1, [10, 9], [4, 0]),
            flow(7, 2, [5, 1], [2, 0]),
            flow(7, 3, [1, 1], [0, 0]),
            flow(8, 1, [3, 7], [0, 7]),
            flow(9, 1, [100, 100], [0, 0]),
        ];
        let mut rows = Rows::default();
        for (place, f) in flows.iter().enumerate() {
            rows.push_flow(place as u32, f);
        }
        let all = Interval::of(rows);
        let of = |from, to, id, fragments, all| Fragmented {
            from: End::Addr(host(from)),
            to: End::Addr(host(to)),
            tunnel: Tunnel { kind: Kind::Vxlan, id: Some(id) },
            fragments: count(fragments),
            all: count(all),
        };
        assert_eq!(fragmented(&all, &Scope::default()), [of(2, 1, 8, 7, 7), of(1, 2, 7, 6, 16)]);
        let only =
            Scope { tunnel: Some(Tunnel { kind: Kind::Vxlan, id: Some(7) }), ..Scope::default() };
        assert_eq!(fragmented(&all, &only), [of(1, 2, 7, 6, 16)]);
        assert_eq!(fragmented(&Interval::of(Rows::default()), &Scope::default()), []);
        // and nothing was lost on the way
        assert_eq!(all.rows.merged(), flows);
    }
}
