// SPDX-License-Identifier: MIT OR Apache-2.0
//! Who sends how much to whom in the lab. Pure tables and curves; time is an argument.
use std::{f64::consts::TAU, fmt, str::FromStr, time::Duration};

use super::plan::Plan;

/// The traffic to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scenario {
    /// Twelve echoes a second from host0, exactly those of DESIGN section 8.
    Ancestor,
    /// All hosts, all networks, changing: made for looking at.
    Demo,
    /// One client sends far more than the others, and has to be found.
    Culprit,
}

/// Every scenario with its name.
pub const SCENARIOS: &[(Scenario, &str)] =
    &[(Scenario::Ancestor, "ancestor"), (Scenario::Demo, "demo"), (Scenario::Culprit, "culprit")];

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(SCENARIOS.iter().find(|s| s.0 == *self).map_or("", |s| s.1))
    }
}

impl FromStr for Scenario {
    type Err = String;
    fn from_str(s: &str) -> Result<Self, String> {
        let names: Vec<&str> = SCENARIOS.iter().map(|s| s.1).collect();
        SCENARIOS
            .iter()
            .find(|n| n.1 == s)
            .map(|n| n.0)
            .ok_or_else(|| format!("'{s}' is not a scenario (one of: {})", names.join(", ")))
    }
}

/// The protocol of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// ICMP echo; the answer is the request.
    Echo,
    /// UDP; the answer has its own size.
    Udp,
}

/// One client that repeatedly sends requests to another; every request is answered.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Talk {
    /// The network, an index into the plan.
    pub network: u8,
    /// The requesting host.
    pub from: u8,
    /// The answering host.
    pub to: u8,
    /// ICMP or UDP.
    pub carrier: Carrier,
    /// Payload of a request, bytes (above the ICMP or UDP header).
    pub request: u16,
    /// Payload of an answer, bytes.
    pub answer: u16,
    /// The rate of requests.
    pub pace: Pace,
}

/// Requests per second, as a wave: from `base` down to `base * (1 - swing)` and back.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pace {
    /// The peak rate, in requests per second.
    pub base: f64,
    /// The depth of the trough: 0 is steady; less than 1.
    pub swing: f64,
    /// Length of the wave, seconds.
    pub period: f64,
    /// Its phase at the start, 0 to 1.
    pub phase: f64,
}

impl Pace {
    /// A constant rate.
    pub fn steady(per_second: f64) -> Self {
        Pace { base: per_second, swing: 0.0, period: 1.0, phase: 0.0 }
    }

    /// The time from the request at `t` (since the beginning) to the next one.
    pub fn gap(&self, t: Duration) -> Duration {
        let wave = 0.5 + 0.5 * (TAU * (t.as_secs_f64() / self.period + self.phase)).sin();
        Duration::from_secs_f64(1.0 / (self.base * (1.0 - self.swing * wave)))
    }
}

/// The culprit for a seed: (network, host).
pub fn culprit(plan: &Plan, seed: u64) -> (u8, u8) {
    let mut dice = Dice(seed);
    (dice.below(plan.options().networks), dice.below(plan.options().hosts))
}

/// All talks of a scenario in this lab. Only the culprit depends on the seed.
pub fn talks(scenario: Scenario, plan: &Plan, seed: u64) -> Vec<Talk> {
    match scenario {
        Scenario::Ancestor => ancestor(plan),
        Scenario::Demo => demo(plan),
        Scenario::Culprit => hidden_among(plan, culprit(plan, seed)),
    }
}

/// From host0, once a second: (network, host that answers, payload). DESIGN section 8.
const ANCESTOR: [(u8, u8, u16); 12] = [
    (0, 1, 128),
    (0, 2, 1024),
    (0, 3, 128),
    (0, 4, 128),
    (0, 5, 128),
    (1, 1, 128),
    (1, 3, 768),
    (2, 1, 128),
    (2, 1, 128),
    (2, 6, 1024),
    (3, 7, 768),
    (3, 8, 768),
];

/// In a lab smaller than the default one, the part of it that exists.
fn ancestor(plan: &Plan) -> Vec<Talk> {
    let there = |(network, to, _): &&(u8, u8, u16)| {
        *network < plan.options().networks && *to < plan.options().hosts
    };
    let talk = |&(network, to, size): &(u8, u8, u16)| Talk {
        network,
        from: 0,
        to,
        carrier: Carrier::Echo,
        request: size,
        answer: size,
        pace: Pace::steady(1.0),
    };
    ANCESTOR.iter().filter(there).map(talk).collect()
}

/// Every pair of hosts in one or two networks, a few of them much louder, each with its own slow
/// wave.
fn demo(plan: &Plan) -> Vec<Talk> {
    let (hosts, networks) = (plan.options().hosts, plan.options().networks);
    let mut dice = Dice(7);
    let mut talks = Vec::new();
    for a in 0..hosts {
        for b in a + 1..hosts {
            // Usually the requester sends less than it receives; so the ends of a ribbon differ.
            let (from, to) = if dice.below(2) == 0 { (a, b) } else { (b, a) };
            let loud = (u16::from(a) * u16::from(b) + u16::from(a) + u16::from(b)) % 5 == 3;
            talks.push(Talk {
                network: ((u16::from(a) * 3 + u16::from(b)) % u16::from(networks)) as u8,
                from,
                to,
                carrier: Carrier::Udp,
                request: 64 + dice.between(0, 400),
                answer: dice.between(200, 1300),
                pace: Pace {
                    base: if loud { 50.0 } else { 3.0 + f64::from(dice.between(0, 90)) / 10.0 },
                    swing: 0.75 + f64::from(dice.between(0, 20)) / 100.0,
                    period: f64::from(dice.between(11, 47)),
                    phase: f64::from(dice.between(0, 100)) / 100.0,
                },
            });
        }
        // In addition, somebody always pings a neighbour.
        talks.push(Talk {
            network: a % networks,
            from: a,
            to: (a + 1) % hosts,
            carrier: Carrier::Echo,
            request: 56,
            answer: 56,
            pace: Pace::steady(2.0),
        });
    }
    talks
}

/// Every client sends requests to two others now and then; the culprit floods.
fn hidden_among(plan: &Plan, (network, host): (u8, u8)) -> Vec<Talk> {
    let (hosts, networks) = (plan.options().hosts, plan.options().networks);
    let mut dice = Dice(11);
    let mut talks = Vec::new();
    for i in 0..networks {
        for k in 0..hosts {
            for hop in [1, 3] {
                let to = ((u16::from(k) + hop + u16::from(i)) % u16::from(hosts)) as u8;
                if to != k {
                    let pace = Pace {
                        base: 3.0,
                        swing: 0.5,
                        period: f64::from(dice.between(9, 31)),
                        phase: f64::from(dice.between(0, 100)) / 100.0,
                    };
                    let (request, answer) = (dice.between(64, 500), dice.between(64, 500));
                    talks.push(Talk {
                        network: i,
                        from: k,
                        to,
                        carrier: Carrier::Udp,
                        request,
                        answer,
                        pace,
                    });
                }
            }
        }
    }
    // Three targets; host0 is one (or the culprit), so that it is visible from there.
    let mut targets: Vec<u8> =
        [0, (host + 2) % hosts, (host + 5) % hosts].into_iter().filter(|t| *t != host).collect();
    targets.sort_unstable();
    targets.dedup();
    for to in targets {
        talks.push(Talk {
            network,
            from: host,
            to,
            carrier: Carrier::Udp,
            request: 1200,
            answer: 64,
            pace: Pace::steady(60.0),
        });
    }
    talks
}

/// A small reproducible random number generator (splitmix64, Steele, Lea and Flood 2014).
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// 0 to `n` - 1.
    fn below(&mut self, n: u8) -> u8 {
        (self.next() % u64::from(n.max(1))) as u8
    }

    /// `low` to `high`, both included.
    fn between(&mut self, low: u16, high: u16) -> u16 {
        low + (self.next() % (u64::from(high.saturating_sub(low)) + 1)) as u16
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashSet};

    use super::*;
    use crate::lab::plan::LabOptions;

    fn plan() -> Plan {
        Plan::new(&LabOptions::default()).expect("a plan")
    }

    #[test]
    fn ancestor_sizes_are_exact() {
        let p = plan();
        let talks = talks(Scenario::Ancestor, &p, 0);
        let (mut ids, mut peers) = (BTreeMap::new(), BTreeMap::new());
        for t in &talks {
            assert_eq!((t.from, t.carrier, t.request), (0, Carrier::Echo, t.answer));
            assert_eq!(t.pace.gap(Duration::from_secs(1234)), Duration::from_secs(1));
            *ids.entry(p.id(t.network)).or_insert(0) += t.request + 92;
            *peers.entry(p.underlay(t.to)[0].0.to_string()).or_insert(0) += t.request + 92;
        }
        assert_eq!(talks.len(), 12);
        assert_eq!(
            ids.into_iter().collect::<Vec<_>>(),
            [(10000, 1996), (10001, 1080), (10002, 1556), (10003, 1720)]
        );
        assert_eq!(
            peers.values().copied().collect::<Vec<_>>(),
            [880, 1116, 1080, 220, 220, 1116, 860, 860]
        );
        assert_eq!(peers.values().sum::<u16>(), 6352);
    }

    #[test]
    fn every_talk_fits_every_lab() {
        for (hosts, networks) in [(2, 1), (3, 2), (9, 4), (99, 99)] {
            let p = Plan::new(&LabOptions { hosts, networks, ..LabOptions::default() })
                .expect("a plan");
            for (scenario, _) in SCENARIOS {
                let talks = talks(*scenario, &p, 3);
                assert!(!talks.is_empty(), "{scenario} {hosts}");
                for t in talks {
                    assert!(
                        t.from != t.to && t.from < hosts && t.to < hosts && t.network < networks,
                        "{scenario} {t:?}"
                    );
                    assert!(
                        t.request >= 16 && t.answer >= 16 && t.request <= 1340 && t.answer <= 1340,
                        "{t:?}"
                    );
                    assert!(
                        t.pace.base > 0.0
                            && (0.0..1.0).contains(&t.pace.swing)
                            && t.pace.period > 0.0,
                        "{t:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_demo_is_lively_and_light() {
        let talks = talks(Scenario::Demo, &plan(), 0);
        let hosts: HashSet<u8> = talks.iter().flat_map(|t| [t.from, t.to]).collect();
        let networks: HashSet<u8> = talks.iter().map(|t| t.network).collect();
        assert_eq!((hosts.len(), networks.len()), (9, 4));
        let packets: f64 = talks.iter().map(|t| 2.0 * t.pace.base).sum();
        assert!((200.0..2000.0).contains(&packets), "{packets} packets/s at most");
        // a few dominate: the loudest quarter of the pairs sends most of the bytes
        let mut bytes: Vec<f64> =
            talks.iter().map(|t| t.pace.base * f64::from(t.request + t.answer)).collect();
        bytes.sort_by(|a, b| b.total_cmp(a));
        let quarter = bytes.len() / 4;
        assert!(bytes[..quarter].iter().sum::<f64>() > 0.5 * bytes.iter().sum::<f64>());
    }

    #[test]
    fn the_culprit_sends_most() {
        let p = plan();
        let mut seen = HashSet::new();
        for seed in 0..200 {
            let culprit = culprit(&p, seed);
            seen.insert(culprit);
            let mut sent: BTreeMap<(u8, u8), f64> = BTreeMap::new();
            let mut at_host0 = BTreeMap::new();
            for t in talks(Scenario::Culprit, &p, seed) {
                *sent.entry((t.network, t.from)).or_default() += t.pace.base * f64::from(t.request);
                *sent.entry((t.network, t.to)).or_default() += t.pace.base * f64::from(t.answer);
                if t.from == 0 || t.to == 0 {
                    *at_host0.entry((t.network, t.from)).or_insert(0.0) +=
                        t.pace.base * f64::from(t.request);
                }
            }
            for sent in [sent, at_host0] {
                let others =
                    sent.iter().filter(|s| *s.0 != culprit).map(|s| *s.1).fold(0.0, f64::max);
                assert!(
                    sent[&culprit] > 5.0 * others,
                    "seed {seed}: {} against {others}",
                    sent[&culprit]
                );
            }
        }
        assert!(seen.len() > 20, "the seed decides: {}", seen.len());
    }

    #[test]
    fn scenario_names_parse() {
        for (scenario, name) in SCENARIOS {
            assert_eq!((name.parse(), scenario.to_string().as_str()), (Ok(*scenario), *name));
        }
        assert!("Ancestor ".parse::<Scenario>().is_err());
    }

    #[test]
    fn a_wave_goes_down_and_comes_back() {
        let pace = Pace { base: 10.0, swing: 0.8, period: 8.0, phase: 0.0 };
        let rate = |s: f64| 1.0 / pace.gap(Duration::from_secs_f64(s)).as_secs_f64();
        assert!(
            (rate(2.0) - 2.0).abs() < 1e-6
                && (rate(6.0) - 10.0).abs() < 1e-6
                && (rate(14.0) - 10.0).abs() < 1e-6
        );
    }
}
