// SPDX-License-Identifier: MIT OR Apache-2.0
//! `mtu` and `unreachable`: what ICMP errors report about a tunnel's packets. An error is a claim
//! of its sender, who is named in the sentence; it is bad if a row matches, otherwise only a note.
use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use super::{Evidence, Severity, Sighting, Subject, Topic, Way};
use crate::{
    beside::{Claim, ClaimMessage, Claimed, Saying},
    flow::Kind,
};

/// How long the finding stays open after the last error.
const STAYS: Duration = Duration::from_secs(30);

/// Ends of rows' tunnels, in both orders.
type Rows = BTreeSet<(Kind, IpAddr, IpAddr)>;

pub(super) fn find(look: &Evidence<'_>) -> Vec<Sighting> {
    let claims = look.interval.beside.claims();
    if claims.is_empty() {
        return Vec::new();
    }
    let rows: Rows = look
        .interval
        .rows
        .iter()
        .filter_map(|flow| Some((flow.key.outermost.kind, flow.key.outer?)))
        .flat_map(|(kind, ends)| [(kind, ends.first, ends.second), (kind, ends.second, ends.first)])
        .collect();
    let errors = claims.iter().filter(|(claim, _)| matches!(claim.message, ClaimMessage::Icmp(_)));
    let mut found: Vec<Sighting> =
        errors.map(|(claim, n)| sighting(look, &rows, claim, *n)).collect();
    if look.interval.once().is_of_fleet() {
        // One error passes several hosts.
        let mut seen = BTreeSet::new();
        found.iter_mut().for_each(|s| s.place.interface = None);
        found.retain(|s| seen.insert(s.place.clone()));
    }
    found
}

/// If the quote does not reach the tunnel header, the kind is one of several that share a port or a
/// protocol.
fn is_row(rows: &Rows, claim: &Claim) -> bool {
    let kinds = match claim.tunnel.kind {
        Kind::Gre => &[Kind::Gre, Kind::Gretap, Kind::Erspan, Kind::Pptp, Kind::Eoip][..],
        _ => std::slice::from_ref(&claim.tunnel.kind),
    };
    kinds.iter().any(|kind| rows.contains(&(*kind, claim.from, claim.to)))
}

fn sighting(look: &Evidence<'_>, rows: &Rows, claim: &Claim, n: Claimed) -> Sighting {
    let (way, tunnel, who) = (Way(claim.from, claim.to), claim.tunnel, claim.who);
    let saying = claim.saying();
    let what = match (saying, n.mtu) {
        (Saying::TooBig, Some(mtu)) => format!("were too big: the MTU is {mtu} bytes"),
        (Saying::TooBig, None) => "were too big".to_owned(),
        (Saying::Prohibited, _) => "are prohibited".to_owned(),
        (Saying::NoPort, _) => "arrived at a port on which nothing listens".to_owned(),
        (Saying::TimeExceeded, _) => "exceeded their hop limit, perhaps in a loop".to_owned(),
        (Saying::Incomplete, _) => "came without some of their fragments".to_owned(),
        _ => "cannot be delivered".to_owned(),
    };
    let mut counts = BTreeMap::from([("icmp_pkts", n.packets)]);
    if let Some(mtu) = n.mtu {
        counts.insert("mtu", mtu.into());
    }
    Sighting {
        topic: if saying == Saying::TooBig { Topic::Mtu } else { Topic::Unreachable },
        severity: if is_row(rows, claim) { Severity::Bad } else { Severity::Note },
        place: Subject {
            interface: look.interval.name_of(claim.interface).map(str::to_owned),
            tunnel: Some(tunnel),
            outer_from: Some(claim.from),
            outer_to: Some(claim.to),
            reason: Some(format!("{} by {who}", saying.name())),
            ..Subject::default()
        },
        since: None,
        text: format!("{who} reports by ICMP ({{}}) that packets of {tunnel} from {way} {what}"),
        counts,
        stays: STAYS,
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            Severity, Topic,
            stage::{Stage, host, talk},
        },
        Claim, Claimed,
    };
    use crate::{
        beside::{Beside, ClaimMessage, Gathered},
        flow::{Hook, Kind, Tunnel},
    };

    fn said(error: [u8; 2], mtu: Option<u32>, to: u8) -> Beside {
        let claim = Claim {
            interface: 0,
            tunnel: Tunnel { kind: Kind::Vxlan, id: Some(7) },
            from: host(1),
            to: host(to),
            who: host(254),
            message: ClaimMessage::Icmp(error),
            hook: Hook::Rx,
        };
        let claims = [(claim, Claimed { packets: 3, mtu, ..Claimed::default() })].into();
        Beside::new(Gathered { claims, ..Gathered::default() })
    }

    #[test]
    fn icmp_errors_name_their_sender_and_tunnel() {
        let flow = talk(2, Some((1, 9)), 5, 5);
        for (error, mtu, topic, end) in [
            ([3, 4], Some(1400), Topic::Mtu, "were too big: the MTU is 1400 bytes"),
            ([3, 13], None, Topic::Unreachable, "are prohibited"),
            ([3, 3], None, Topic::Unreachable, "arrived at a port on which nothing listens"),
            ([3, 1], None, Topic::Unreachable, "cannot be delivered"),
            ([11, 0], None, Topic::Unreachable, "exceeded their hop limit, perhaps in a loop"),
        ] {
            let mut stage = Stage { beside: said(error, mtu, 2), ..Stage::default() };
            stage.second(&[flow]);
            let text = format!(
                "172.16.1.254 reports by ICMP (3 packets) that packets of vxlan 7 from 172.16.1.1 to 172.16.1.2 {end}"
            );
            assert_eq!(stage.open(), [(topic, Severity::Bad, text.as_str())]);
            stage.beside = Beside::default();
            stage.seconds(31, &[flow]);
            assert_eq!(stage.open(), []);
        }
    }

    #[test]
    fn a_claim_about_packets_that_nobody_sends_is_a_note() {
        let mut stage = Stage { beside: said([3, 4], Some(68), 77), ..Stage::default() };
        stage.second(&[talk(2, Some((1, 9)), 5, 5)]);
        assert_eq!(stage.open().iter().map(|f| f.1).collect::<Vec<_>>(), [Severity::Note]);
    }
}
