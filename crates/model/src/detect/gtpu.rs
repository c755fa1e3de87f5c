// SPDX-License-Identifier: MIT OR Apache-2.0
//! `gtpu_error`: what GTP-U's own messages report: an unknown tunnel, a tunnel that moves, or a
//! peer that no longer answers.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Evidence, Severity, Sighting, Subject, Topic, Way, past::Echo};
use crate::{
    beside::{Claim, Claimed, Saying},
    flow::{Kind, Tunnel},
    units::duration,
};

/// How long the finding stays open after the last message.
const STAYS: Duration = Duration::from_secs(30);
/// This many unanswered requests, over this long, are more than a late answer (3GPP TS 29.281,
/// section 12: three requests, some seconds apart).
const ASKED: u64 = 3;
const PATIENCE: Duration = Duration::from_secs(5);

/// Ends of rows' tunnels, in both orders.
type Ends = BTreeSet<(IpAddr, IpAddr)>;

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let claims = look.interval.beside.claims();
    let mut rows: Option<Ends> = None;
    let mut all: Vec<Sighting> = claims
        .iter()
        .filter(|(claim, _)| matches!(claim.saying(), Saying::ErrorIndication | Saying::EndMarker))
        .map(|(claim, n)| {
            let rows = rows.get_or_insert_with(|| ends(look));
            message(look, claim, *n, rows.contains(&(claim.from, claim.to)))
        })
        .collect();
    if look.interval.once().is_of_fleet() {
        // One message passes several hosts.
        let mut seen = BTreeSet::new();
        all.iter_mut().for_each(|s| s.place.interface = None);
        all.retain(|s| seen.insert(s.place.clone()));
    }
    let silent = look.past.echoes.iter().filter(|(_, echo)| {
        echo.unanswered >= ASKED && echo.since.is_some_and(|since| look.past.ago(since) >= PATIENCE)
    });
    all.extend(silent.map(|((from, to), echo)| unanswered(look, *from, *to, echo)));
    all
}

fn ends(look: &Evidence<'_>) -> Ends {
    let rows = look.interval.rows.iter().filter(|flow| flow.key.outermost.kind == Kind::Gtpu);
    let ends = rows.filter_map(|flow| flow.key.outer);
    ends.flat_map(|ends| [(ends.first, ends.second), (ends.second, ends.first)]).collect()
}

fn message(look: &Evidence<'_>, claim: &Claim, n: Claimed, is_row: bool) -> Sighting {
    let (who, tunnel, way) = (claim.who, claim.tunnel, Way(claim.from, claim.to));
    let (severity, counted, text) = match claim.saying() {
        Saying::EndMarker => (
            Severity::Note,
            "end_markers",
            format!("{tunnel} from {way} moves: {who} has sent an end marker"),
        ),
        // Anybody can send this: it is bad only if there is such traffic.
        _ => (
            if is_row { Severity::Bad } else { Severity::Note },
            "error_indication_pkts",
            format!(
                "{who} reports by error indications ({{}}) that it does not know {tunnel}, which {} sends to",
                claim.from
            ),
        ),
    };
    Sighting {
        topic: Topic::GtpuError,
        severity,
        place: Subject {
            interface: look.interval.name_of(claim.interface).map(str::to_owned),
            tunnel: Some(tunnel),
            outer_from: Some(claim.from),
            outer_to: Some(claim.to),
            reason: Some(claim.saying().name().to_owned()),
            ..Subject::default()
        },
        since: None,
        text,
        counts: BTreeMap::from([(counted, n.packets)]),
        stays: STAYS,
    }
}

/// Only if the peer ever answered is it certain that its answers would be seen here.
fn unanswered(look: &Evidence<'_>, from: IpAddr, to: IpAddr, echo: &Echo) -> Sighting {
    let before = match echo.answered {
        Some(at) => format!("the last answer came {} ago", duration(look.past.ago(at))),
        None => "none has been seen so far".to_owned(),
    };
    Sighting {
        topic: Topic::GtpuError,
        severity: if echo.answered.is_some() { Severity::Bad } else { Severity::Note },
        place: Subject {
            interface: look.interface(echo.interface),
            tunnel: Some(Tunnel { kind: Kind::Gtpu, id: None }),
            outer_from: Some(from),
            outer_to: Some(to),
            reason: Some("echo_unanswered".to_owned()),
            ..Subject::default()
        },
        since: echo.since.map(|since| since.time),
        text: format!(
            "{to} does not answer the GTP-U echo requests of {from}: {} in a row, {before}",
            echo.unanswered
        ),
        counts: BTreeMap::from([("unanswered_in_all", echo.unanswered)]),
        stays: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Severity, Topic,
            stage::{Stage, host, talk_in},
        },
        Claim, Claimed, Kind, Tunnel,
    };
    use crate::{
        beside::{Beside, ClaimMessage, Gathered},
        flow::{Flow, Hook},
    };

    const REQUEST: u8 = contract::GTPU_ECHO_REQUEST as u8;
    const RESPONSE: u8 = contract::GTPU_ECHO_RESPONSE as u8;

    fn said(messages: &[(u8, u8, u8, Option<u32>)]) -> Beside {
        let claim = |&(message, from, to, id): &(u8, u8, u8, Option<u32>)| {
            let claim = Claim {
                interface: 0,
                tunnel: Tunnel { kind: Kind::Gtpu, id },
                from: host(from),
                to: host(to),
                who: host(if u32::from(message) == contract::GTPU_ERROR { to } else { from }),
                message: ClaimMessage::Gtpu(message),
                hook: Hook::Rx,
            };
            (claim, Claimed { packets: 1, ..Claimed::default() })
        };
        let claims = messages.iter().map(claim).collect();
        Beside::new(Gathered { claims, ..Gathered::default() })
    }

    fn flow() -> Flow {
        talk_in(Tunnel { kind: Kind::Gtpu, id: Some(0x1234) }, 2, Some((1, 9)), 5, 0)
    }

    #[test]
    fn an_unknown_tunnel_with_traffic_is_bad_and_a_move_is_a_note() {
        let error = contract::GTPU_ERROR as u8;
        let indication = "172.16.1.2 reports by error indications (1 packet) that it does not know gtpu 4660, which 172.16.1.1 sends to";
        for (flows, severity) in [(&[flow()][..], Severity::Bad), (&[], Severity::Note)] {
            let beside = said(&[(error, 1, 2, Some(0x1234))]);
            let mut stage = Stage { beside, ..Stage::default() };
            stage.second(flows);
            assert_eq!(stage.open(), [(Topic::GtpuError, severity, indication)]);
            stage.beside = Beside::default();
            stage.seconds(31, flows);
            assert_eq!(stage.open(), []);
        }
        let end = contract::GTPU_END as u8;
        let mut stage = Stage { beside: said(&[(end, 1, 2, Some(7))]), ..Stage::default() };
        stage.second(&[flow()]);
        let moves = "gtpu 7 from 172.16.1.1 to 172.16.1.2 moves: 172.16.1.1 has sent an end marker";
        assert_eq!(stage.open(), [(Topic::GtpuError, Severity::Note, moves)]);
    }

    #[test]
    fn unanswered_echoes_are_found_until_one_is_answered() {
        let request = (REQUEST, 1, 2, None);
        for (answered, severity) in [(true, Severity::Bad), (false, Severity::Note)] {
            let mut stage = Stage::default();
            if answered {
                stage.beside = said(&[request, (RESPONSE, 2, 1, None)]);
                stage.seconds(60, &[]);
            }
            stage.beside = said(&[request]);
            stage.seconds(5, &[]);
            assert_eq!(stage.open(), [], "it may be late");
            stage.second(&[]);
            let [(topic, found, text)] = stage.open()[..] else { panic!("{:?}", stage.open()) };
            assert_eq!((topic, found), (Topic::GtpuError, severity), "{text}");
            assert!(
                text.starts_with(
                    "172.16.1.2 does not answer the GTP-U echo requests of 172.16.1.1: 6 in a row, "
                ),
                "{text}"
            );
            assert!(text.ends_with(if answered { "6 s ago" } else { "seen so far" }), "{text}");
            stage.beside = said(&[request, (RESPONSE, 2, 1, None)]);
            stage.second(&[]);
            assert_eq!(stage.open(), []);
        }
    }

    #[test]
    fn other_messages_are_not_findings() {
        let messages = [(contract::GTPU_EXTENSIONS as u8, 1, 2, None), (RESPONSE, 1, 2, None)];
        let mut stage = Stage { beside: said(&messages), ..Stage::default() };
        stage.seconds(60, &[flow()]);
        let found = stage.open();
        assert!(found.iter().all(|f| f.0 != Topic::GtpuError), "{found:?}");
    }
}
