// SPDX-License-Identifier: MIT OR Apache-2.0
//! `lost`: packets that are missing according to the tunnel's sequence numbers.
use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use super::{Evidence, Severity, Sighting, Subject, Topic, Way, packets};
use crate::{
    beside::{Numbered, Stream},
    flow::{Hook, Tunnel},
    units::percent,
};

/// How long the finding stays open after the last missing packet.
const STAYS: Duration = Duration::from_secs(30);
/// Loss of this fraction or more is bad: one in a hundred, if that is more than a few packets.
const BAD: u64 = 100;
const FEW: u64 = 10;

/// Whether that many packets lost of all are bad.
pub(super) fn is_much(lost: u64, all: u64) -> bool {
    lost >= FEW && lost.saturating_mul(BAD) >= all
}

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    // A rekeyed tunnel is still the same tunnel.
    let mut tunnels: BTreeMap<Stream, Numbered> = BTreeMap::new();
    for (stream, n) in look.interval.beside.numbers() {
        match tunnels.entry(Stream { id: stream.tunnel_id(), ..*stream }) {
            Entry::Occupied(mut sum) => sum.get_mut().add(n),
            Entry::Vacant(none) => drop(none.insert(*n)),
        }
    }
    tunnels.into_iter().filter(|(_, n)| n.lost > 0).map(|(at, n)| sighting(look, &at, n)).collect()
}

fn sighting(look: &Evidence<'_>, at: &Stream, n: Numbered) -> Sighting {
    let interface = look.interval.name_of(at.interface).map(str::to_owned);
    let has_id = !Stream::is_rekeyed(at.kind);
    let tunnel = Tunnel { kind: at.kind, id: Some(at.id).filter(|id| has_id && *id > 0) };
    let all = n.packets.saturating_add(n.lost);
    let share = percent(n.lost, all);
    let mut also: Vec<String> = Vec::new();
    for (n, what) in [(n.late, "late"), (n.duplicate, "twice")] {
        if n > 0 {
            also.push(format!("{} came {what}", packets(n)));
        }
    }
    let also = if also.is_empty() { String::new() } else { format!(" ({})", also.join(", ")) };
    let here = look.here(interface.as_deref());
    let where_to = match at.hook {
        Hook::Rx => format!("before they got {here}"),
        Hook::Tx => "before they left".to_owned(),
    };
    let way = Way(at.from, at.to);
    let bad = is_much(n.lost, all);
    Sighting {
        topic: Topic::Lost,
        severity: if bad { Severity::Bad } else { Severity::Note },
        place: Subject {
            interface,
            tunnel: Some(tunnel),
            outer_from: Some(at.from),
            outer_to: Some(at.to),
            ..Subject::default()
        },
        since: None,
        text: format!(
            "{{}} of {tunnel} from {way} are missing by sequence number (recently {share}): lost {where_to}{also}"
        ),
        counts: BTreeMap::from([
            ("duplicates", n.duplicate),
            ("late", n.late),
            ("lost_pkts", n.lost),
            ("numbered", n.packets),
            ("restarts", n.restarted),
        ]),
        stays: STAYS,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Severity, Topic,
            stage::{Stage, host, talk_in},
        },
        Hook, Numbered, Stream, Tunnel,
    };
    use crate::{
        beside::{Beside, Gathered},
        flow::Kind,
    };

    fn of(streams: &[(u32, Numbered)]) -> Beside {
        let stream = |(id, n): &(u32, Numbered)| {
            let (from, to) = (host(2), host(1));
            (Stream { interface: 0, kind: Kind::Esp, from, to, id: *id, hook: Hook::Rx }, *n)
        };
        Beside::new(Gathered {
            numbers: streams.iter().map(stream).collect(),
            ..Gathered::default()
        })
    }

    fn numbered(packets: u64, lost: u64) -> Numbered {
        Numbered { packets, lost, ..Numbered::default() }
    }

    #[test]
    fn missing_sequence_numbers_are_losses() {
        let esp = talk_in(Tunnel { kind: Kind::Esp, id: None }, 2, None, 0, 90);
        let late = Numbered { late: 2, duplicate: 1, ..numbered(50, 6) };
        let mut stage =
            Stage { beside: of(&[(1, late), (2, numbered(40, 4))]), ..Stage::default() };
        stage.second(&[esp]);
        let text = "10 packets of esp from 172.16.1.2 to 172.16.1.1 are missing by sequence number \
                    (recently 10.0 %): lost before they got here (2 packets came late, 1 packet came twice)";
        assert_eq!(stage.open(), [(Topic::Lost, Severity::Bad, text)]);
        stage.beside = of(&[(2, numbered(40, 0)), (3, numbered(10, 0))]);
        stage.seconds(31, &[esp]);
        assert_eq!(stage.open(), [], "a new key is no loss");
    }

    #[test]
    fn late_duplicate_and_restarted_numbers_are_not_losses() {
        let n = Numbered { late: 9, duplicate: 9, restarted: 1, ..numbered(50, 0) };
        let mut stage = Stage { beside: of(&[(1, n)]), ..Stage::default() };
        stage.seconds(5, &[]);
        assert_eq!(stage.open(), []);
        stage.beside = of(&[(1, numbered(5000, 3))]);
        stage.second(&[]);
        assert_eq!(stage.open().iter().map(|f| f.1).collect::<Vec<_>>(), [Severity::Note]);
    }
}
