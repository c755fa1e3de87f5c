// SPDX-License-Identifier: MIT OR Apache-2.0
//! `silent`: packets go out, and nothing comes back any more although it used to.
//!
//! A conversation counts as answered only if answers were common in it, and it may pause for three
//! times its longest pause so far. Traffic in one direction is therefore not silence, whatever else
//! passes between the two hosts.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::{Evidence, Severity, Sighting, Subject, Topic, Way, past::Party};
use crate::flow::{Inner, Pair};

/// How long the finding stays open after the last unanswered packet.
const STAYS: Duration = Duration::from_secs(10);

const UNANSWERED: &str = "unanswered_pkts_in_all";
const SECONDS: &str = "silent_seconds";
const SYNS: &str = "unanswered_syns_in_all";

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let silent = look.past.talks.iter().filter(|(_, talk)| talk.silent.is_some());
    let (tunnels, mut conversations): (BTreeSet<&Party>, BTreeSet<&Party>) =
        silent.map(|(party, _)| party).partition(|party| party.inner.is_none());
    // The whole tunnel, if nothing in it is answered.
    conversations.retain(|p| !tunnels.contains(&Party { inner: None, ..**p }));
    // The whole peer, if none of its tunnels is answered.
    let mut peers: BTreeMap<Pair, Vec<&Party>> = BTreeMap::new();
    for party in tunnels {
        peers.entry(party.outer).or_default().push(party);
    }
    let others: BTreeSet<Pair> = look
        .past
        .talks
        .iter()
        .filter(|(p, t)| {
            let answered = |way: usize| {
                t.ways[way].last.is_some_and(|m| look.past.ago(m) < Duration::from_secs(10))
            };
            p.inner.is_none() && peers.contains_key(&p.outer) && answered(0) && answered(1)
        })
        .map(|(p, _)| p.outer)
        .collect();
    let mut found = Vec::new();
    for (outer, parties) in peers {
        if parties.len() > 1 && !others.contains(&outer) {
            let whole = parties.iter().filter_map(|p| sighting(look, p)).reduce(|a, b| Sighting {
                since: a.since.max(b.since),
                counts: BTreeMap::from([
                    (UNANSWERED, a.counts[UNANSWERED].saturating_add(b.counts[UNANSWERED])),
                    (SECONDS, a.counts[SECONDS].min(b.counts[SECONDS])),
                ]),
                ..a
            });
            found.extend(whole.map(|mut s| {
                s.place.tunnel = None;
                said(&mut s, "");
                s
            }));
        } else {
            found.extend(parties.iter().filter_map(|p| sighting(look, p)));
        }
    }
    found.extend(conversations.into_iter().filter_map(|p| sighting(look, p)));
    found
}

fn sighting(look: &Evidence<'_>, party: &Party) -> Option<Sighting> {
    let talk = look.past.talks.get(party)?;
    let (way, since) = talk.silent?;
    let turn = |p: Pair| if way == 0 { (p.first, p.second) } else { (p.second, p.first) };
    let outer = turn(party.outer);
    let inner = party.inner.and_then(|i| i.pair()).map(turn);
    let place = Subject {
        interface: look.interface(talk.ways[way].interface),
        tunnel: Some(party.tunnel),
        outer_from: Some(outer.0),
        outer_to: Some(outer.1),
        inner_from: inner.map(|i| i.0),
        inner_to: inner.map(|i| i.1),
        reason: match party.inner {
            Some(Inner::Proto(proto)) => Some(proto.to_string()),
            _ => None,
        },
    };
    let mut sighting = Sighting {
        topic: Topic::Silent,
        // A single conversation may simply be over for one side; a tunnel is not.
        severity: if party.inner.is_some() { Severity::Note } else { Severity::Bad },
        place,
        since: Some(since.time),
        text: String::new(),
        counts: BTreeMap::from([
            (UNANSWERED, talk.ways[way].unanswered),
            (SECONDS, look.past.ago(since).as_secs()),
        ]),
        stays: STAYS,
    };
    if talk.syns > 0 {
        sighting.counts.insert(SYNS, talk.syns);
    }
    said(&mut sighting, &party.tunnel.to_string());
    Some(sighting)
}

/// Writes the sentence of a sighting.
fn said(s: &mut Sighting, tunnel: &str) {
    let (Some(from), Some(to)) = (s.place.outer_from, s.place.outer_to) else { return };
    let [packets, seconds] = [UNANSWERED, SECONDS].map(|name| s.counts[name]);
    let inner = match (s.place.inner_from, s.place.inner_to, &s.place.reason) {
        (Some(a), Some(b), _) => format!(" for {}", Way(a, b)),
        (_, _, Some(proto)) => format!(" for {proto}"),
        _ => String::new(),
    };
    let tunnel = if tunnel.is_empty() { String::new() } else { format!(" by {tunnel}") };
    let syns = match s.counts.get(SYNS) {
        Some(n) => format!(", including {n} unanswered SYNs"),
        None => String::new(),
    };
    s.text = format!(
        "nothing has come back from {to}{tunnel}{inner} for {seconds} s, and {} went there from {from}{syns}",
        super::packets(packets)
    );
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Change,
            stage::{Stage, talk, talk_in},
        },
        Severity, Topic,
    };
    use crate::{
        beside::{Beside, Gathered, Handshakes, Opener},
        flow::{Flow, Hook, Kind, Tunnel},
    };

    fn asked(flow: &Flow, hook: Hook, syns: u64, unanswered: u64) -> Beside {
        let opener = Opener { interface: 0, key: flow.key, hook };
        let n =
            Handshakes { syns, retries: syns - unanswered, unanswered, ..Handshakes::default() };
        Beside::new(Gathered { handshakes: [(opener, n)].into(), ..Gathered::default() })
    }

    #[test]
    fn an_unanswered_connection_needs_no_past() {
        let mut stage = Stage::default();
        let syn = talk(2, Some((1, 2)), 1, 0);
        for second in 0..16 {
            let sent = [0, 1, 3, 7, 15].contains(&second);
            stage.beside = match second {
                0 | 2 => Beside::default(),
                1 => asked(&syn, Hook::Tx, 1, 0),
                3 => asked(&syn, Hook::Tx, 2, 1),
                _ if sent => asked(&syn, Hook::Tx, 1, 0),
                _ => Beside::default(),
            };
            assert!(second > 10 || stage.open().is_empty(), "an answer may still come");
            stage.second(if sent { std::slice::from_ref(&syn) } else { &[] });
        }
        let text = "nothing has come back from 172.16.1.2 by vxlan 7 for 15 s, and 5 packets went there \
                    from 172.16.1.1, including 5 unanswered SYNs";
        assert_eq!(stage.open(), [(Topic::Silent, Severity::Bad, text)]);
    }

    #[test]
    fn seeing_one_direction_of_connections_is_not_silence() {
        // They arrive here and the answers take another path, or come in another row.
        for (hook, unanswered) in [(Hook::Rx, 1), (Hook::Tx, 0)] {
            let mut stage = Stage::default();
            let mut syn = talk(2, Some((1, 2)), 1, 0);
            if hook == Hook::Rx {
                syn.counters.cells.reverse();
            }
            stage.beside = asked(&syn, hook, unanswered, unanswered);
            stage.seconds(60, std::slice::from_ref(&syn));
            assert_eq!(stage.open(), [], "{hook:?}");
        }
    }

    #[test]
    fn a_tunnel_that_stops_answering_is_silent() {
        let mut stage = Stage::default();
        stage.seconds(5, &[talk(2, Some((1, 2)), 1, 1), talk(2, None, 1, 1)]);
        let lost = [talk(2, Some((1, 2)), 1, 0), talk(2, None, 1, 0)];
        stage.seconds(9, &lost);
        assert_eq!(stage.open(), []);
        assert_eq!(stage.second(&lost), [(Topic::Silent, Change::Begun)]);
        assert_eq!(
            stage.open(),
            [(
                Topic::Silent,
                Severity::Bad,
                "nothing has come back from 172.16.1.2 by vxlan 7 for 10 s, and 20 packets went there from 172.16.1.1"
            )]
        );
        let since = stage.detectors.findings().next().map(|f| f.since);
        assert_eq!(since, Some(stage.now() - std::time::Duration::from_secs(10)));
        // It ends with an answer, and the sentence stays as of when it was last silent.
        stage.seconds(11, &[talk(2, Some((1, 2)), 1, 1), talk(2, None, 1, 1)]);
        assert_eq!(stage.open(), []);
    }

    #[test]
    fn giving_up_is_not_an_answer() {
        let mut stage = Stage::default();
        stage.seconds(5, &[talk(2, Some((1, 2)), 1, 1)]);
        stage.seconds(11, &[talk(2, Some((1, 2)), 1, 0)]);
        stage.seconds(100, &[]);
        assert_eq!(stage.open().len(), 1);
        stage.second(&[talk(2, Some((1, 2)), 0, 1)]);
        stage.seconds(11, &[]);
        assert_eq!(stage.open(), [], "any answer counts");
        let mut stage = Stage::default();
        stage.seconds(5, &[talk(2, Some((1, 2)), 1, 1)]);
        stage.seconds(11, &[talk(2, Some((1, 2)), 1, 0)]);
        stage.seconds(140, &[]);
        assert_eq!(stage.open(), [], "nothing is sent any more");
    }

    #[test]
    fn one_conversation_of_a_tunnel_that_works_is_a_note() {
        let mut stage = Stage::default();
        let works = talk(2, Some((1, 9)), 1, 1);
        stage.seconds(5, &[talk(2, Some((1, 2)), 1, 1), works]);
        stage.seconds(10, &[talk(2, Some((1, 2)), 1, 0), works]);
        assert_eq!(
            stage.open(),
            [(
                Topic::Silent,
                Severity::Note,
                "nothing has come back from 172.16.1.2 by vxlan 7 for 192.168.0.1 to 192.168.0.2 for 10 s, and 10 packets went there from 172.16.1.1"
            )]
        );
    }

    #[test]
    fn a_peer_is_silent_when_all_its_tunnels_are() {
        let mut stage = Stage::default();
        let both = |back| {
            [7, 8].map(|id| {
                let tunnel = Tunnel { kind: Kind::Vxlan, id: Some(id) };
                talk_in(tunnel, 2, Some((1, 2)), 2, back)
            })
        };
        stage.seconds(5, &both(2));
        stage.seconds(10, &both(0));
        assert_eq!(
            stage.open(),
            [(
                Topic::Silent,
                Severity::Bad,
                "nothing has come back from 172.16.1.2 for 10 s, and 40 packets went there from 172.16.1.1"
            )]
        );
    }

    #[test]
    fn traffic_in_one_direction_is_not_silence() {
        let mut stage = Stage::default();
        // Logs go one way; the address is resolved now and then, and answered.
        for second in 0..600 {
            let asked = u64::from(second % 40 == 0);
            stage.second(&[talk(2, Some((1, 2)), 50, 0), talk(2, None, asked, asked)]);
            assert_eq!(stage.open(), [], "second {second}");
        }
        // Multicast is never answered, and a host that only listens is not asked.
        stage.seconds(60, &[talk(239, Some((1, 2)), 1, 0), talk(3, Some((1, 3)), 0, 5)]);
        assert_eq!(stage.open(), []);
    }

    #[test]
    fn a_peer_with_long_pauses_is_given_time() {
        let mut stage = Stage::default();
        for second in 0..120 {
            let answers = u64::from(second % 8 == 0);
            stage.second(&[talk(2, Some((1, 2)), 1, answers)]);
        }
        stage.seconds(16, &[talk(2, Some((1, 2)), 1, 0)]);
        assert_eq!(stage.open(), []);
        stage.seconds(1, &[talk(2, Some((1, 2)), 1, 0)]);
        assert_eq!(stage.open().len(), 1);
    }
}
