// SPDX-License-Identifier: MIT OR Apache-2.0
//! Tunnels with a separate id for each direction, such as the uplink and the downlink of a UE in
//! GTP-U: a conversation then has two rows, one for each direction, which are joined here.
use std::{collections::BTreeSet, net::IpAddr};

use foldhash::HashMap;

use crate::{
    flow::{Count, Flow, Inner, Key, Kind, Pair, Tunnel},
    matrix::{Pick, Scope},
    snapshot::Interval,
};

/// Whether the ids of a kind differ by direction.
pub fn is_one_way(kind: Kind) -> bool {
    matches!(kind, Kind::Gtpu | Kind::L2tp | Kind::L2tpv3 | Kind::Pptp | Kind::Mpls | Kind::MplsUdp)
}

/// Limit on the return ids of a conversation: if there are more, they belong to many conversations.
const MOST_IDS: usize = 16;

/// A conversation, regardless of the id of its outermost tunnel.
type Talk = (u16, Kind, Option<Tunnel>, u8, Pair, Pair);

fn talk(interface: u16, key: &Key) -> Option<Talk> {
    let (Some(outer), Inner::Pair(inner)) = (key.outer, key.inner) else { return None };
    let kind = key.outermost.kind;
    let is_one = is_one_way(kind) && key.outermost.id.is_some() && !key.other;
    is_one.then_some((interface, kind, key.innermost, key.depth, outer, inner))
}

/// The ids of every conversation, by direction.
#[derive(Clone, Debug, Default)]
pub struct Returns(HashMap<Talk, [BTreeSet<u32>; 2]>);

impl Returns {
    /// Finds them in rows.
    pub fn of(rows: impl IntoIterator<Item = Flow>) -> Returns {
        let mut all: HashMap<Talk, [BTreeSet<u32>; 2]> = HashMap::default();
        for flow in rows {
            let Some((talk, id)) = talk(flow.interface, &flow.key).zip(flow.key.outermost.id)
            else {
                continue;
            };
            let ids = all.entry(talk).or_default();
            let [fwd, rev] = [flow.counters.fwd(), flow.counters.rev()];
            for (ids, count) in ids.iter_mut().zip([fwd, rev]) {
                if !count.is_zero() {
                    ids.insert(id);
                }
            }
        }
        Returns(all)
    }

    /// The ids by which packets return if this row holds only the other direction; none if it holds
    /// both. If several conversations have the same addresses, these are the ids of all of them, or
    /// none if there are more than 16.
    pub fn ids(&self, flow: &Flow) -> impl Iterator<Item = u32> {
        let ids = talk(flow.interface, &flow.key).and_then(|talk| self.0.get(&talk));
        let [fwd, rev] = [flow.counters.fwd(), flow.counters.rev()].map(Count::is_zero);
        let back = ids.and_then(|[to_second, to_first]| match (fwd, rev) {
            (false, true) => Some(to_first),
            (true, false) => Some(to_second),
            _ => None,
        });
        back.filter(|ids| ids.len() <= MOST_IDS).into_iter().flatten().copied()
    }
}

/// What travels in one direction through the tunnels of a kind between two endpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    /// Whether the selected end sends it; of a pair, the first one.
    pub sends: bool,
    /// The kind of the tunnels.
    pub kind: Kind,
    /// The endpoints: sender and receiver.
    pub ends: (IpAddr, IpAddr),
    /// The ids.
    pub ids: BTreeSet<u32>,
    /// The packets.
    pub count: Count,
}

/// What the tunnels with an id for each direction carry for the selection in a scope, most packets
/// first.
pub fn carried(interval: &Interval, scope: &Scope, pick: Pick) -> Vec<Carried> {
    let mut all: Vec<Carried> = Vec::new();
    let mut places = HashMap::default();
    for row in scope.rows(interval).filter(|row| is_one_way(row.outermost().kind)) {
        let flow = row.flow();
        let (a, b) = scope.shown(&flow);
        let (Some(outer), Some(id), true) =
            (flow.key.outer, flow.key.outermost.id, pick.includes(a, b) && !flow.key.other)
        else {
            continue;
        };
        let is_first = match pick {
            Pick::End(end) | Pick::Pair(end, _) => end == a,
        };
        let (kind, [fwd, rev]) = (flow.key.outermost.kind, row.sent());
        for (count, sends, ends) in [
            (fwd, is_first, (outer.first, outer.second)),
            (rev, !is_first, (outer.second, outer.first)),
        ] {
            if count.is_zero() {
                continue;
            }
            let place = *places.entry((sends, kind, ends)).or_insert(all.len());
            if place == all.len() {
                let (ids, count) = Default::default();
                all.push(Carried { sends, kind, ends, ids, count });
            }
            if let Some(carried) = all.get_mut(place) {
                carried.ids.insert(id);
                carried.count += count;
            }
        }
    }
    all.sort_by_key(|c| (std::cmp::Reverse(c.count.packets), c.ends));
    all
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::{
        flow::{Counters, HookKind},
        interface::Interface,
        matrix::{End, Level},
        rows::Rows,
    };

    /// A row of a UE behind 10.0.0.1 whose packets go to the second end, or come back.
    fn row(kind: Kind, id: u32, ue: u8, fwd: u64, rev: u64) -> Flow {
        let count = |packets| Count { packets, bytes: packets * 100 };
        let pair = |a: [u8; 4], b: [u8; 4]| Pair { first: a.into(), second: b.into() };
        Flow {
            interface: 0,
            key: Key {
                outer: Some(pair([10, 0, 0, 1], [10, 0, 0, 2])),
                outermost: Tunnel { kind, id: Some(id) },
                innermost: None,
                depth: 1,
                inner: Inner::Pair(pair([100, 64, 0, ue], [8, 8, 8, 8])),
                other: false,
            },
            counters: Counters {
                cells: [[Count::default(), count(rev)], [count(fwd), Count::default()]],
                ..Counters::default()
            },
        }
    }

    #[test]
    fn the_two_rows_of_a_ue_are_joined() {
        let up = row(Kind::Gtpu, 4660, 1, 5, 0);
        let down = row(Kind::Gtpu, 17, 1, 0, 9);
        let other = row(Kind::Gtpu, 4661, 2, 5, 0);
        let both = row(Kind::Gtpu, 99, 3, 5, 5);
        let vxlan = [row(Kind::Vxlan, 1, 1, 5, 0), row(Kind::Vxlan, 2, 1, 0, 5)];
        let all = [up, down, other, both, vxlan[0], vxlan[1]];
        let returns = Returns::of(all.iter().copied());
        let ids = all.map(|flow| returns.ids(&flow).collect::<Vec<_>>());
        assert_eq!(ids, [vec![17], vec![4660], vec![], vec![], vec![], vec![]]);
        // After a handover there are two.
        let returns = Returns::of([up, down, row(Kind::Gtpu, 18, 1, 0, 1)]);
        assert_eq!(returns.ids(&up).collect::<Vec<_>>(), [17, 18]);
    }

    #[test]
    fn both_directions_of_a_selected_ue_have_their_ids() {
        let mut rows = Rows::default();
        for (flow, place) in [
            row(Kind::Gtpu, 4660, 1, 5, 0),
            row(Kind::Gtpu, 17, 1, 0, 9),
            row(Kind::Gtpu, 18, 1, 0, 1),
            row(Kind::Gtpu, 4661, 2, 5, 0),
        ]
        .iter()
        .zip(0..)
        {
            rows.push_flow(place, flow);
        }
        let second = Duration::from_secs(1);
        let interface = Interface { hook: HookKind::Tcx, ..Interface::new(0, "n3") };
        let start = SystemTime::UNIX_EPOCH;
        let interval = Interval::new(start, start + second, second, vec![interface], rows);
        let scope = Scope { level: Level::Inner, ..Scope::default() };
        let [ue, server] = [[100, 64, 0, 1], [8, 8, 8, 8]].map(|a: [u8; 4]| End::Addr(a.into()));
        let told = |pick| {
            let all = carried(&interval, &scope, pick).into_iter();
            let of = |c: Carried| {
                (c.sends, c.ends.0.to_string(), Vec::from_iter(c.ids), c.count.packets)
            };
            all.map(of).collect::<Vec<_>>()
        };
        let down = |sends| (sends, "10.0.0.2".to_owned(), vec![17, 18], 10);
        let up = |sends| (sends, "10.0.0.1".to_owned(), vec![4660], 5);
        assert_eq!(told(Pick::End(ue)), [down(false), up(true)]);
        assert_eq!(told(Pick::Pair(ue, server)), [down(false), up(true)]);
        assert_eq!(told(Pick::Pair(server, ue)), [down(true), up(false)]);
    }
}
