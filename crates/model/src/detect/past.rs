// SPDX-License-Identifier: MIT OR Apache-2.0
//! What detectors remember of earlier intervals: who talked with whom and when, the endpoint behind
//! which an inner address was seen, how much an id flooded. It takes one pass over the rows of an
//! interval; memory is bounded, and idle entries are forgotten.
use std::{
    net::IpAddr,
    time::{Duration, SystemTime},
};

use foldhash::{HashMap, HashSet};

use crate::{
    beside::Saying,
    ends::Ends,
    flow::{Hook, Inner, InnerProto, Kind, Pair, Tunnel},
    returns::is_one_way,
    snapshot::Interval,
    units::Rate,
};

/// Limit on the conversations and on the inner addresses remembered. Further ones are not judged.
const MOST: usize = 1 << 17;
/// Entries idle for this long are forgotten.
const IDLE: Duration = Duration::from_secs(600);
/// How often to look for entries to forget.
const SWEEP: Duration = Duration::from_secs(30);
/// The half-life of the weights in a mean.
const HALF: Duration = Duration::from_secs(30);

/// A time, both on the intervals' clock and on the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Moment {
    /// The sum of all intervals so far, which is monotonic.
    pub(super) clock: Duration,
    /// The wall-clock time.
    pub(super) time: SystemTime,
}

/// A conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Party {
    pub(super) outer: Pair,
    pub(super) tunnel: Tunnel,
    /// The inner pair or protocol; `None` for the whole tunnel.
    pub(super) inner: Option<Inner>,
}

impl Party {
    /// Whether its packets are of a kind that is answered: neither multicast nor address resolution
    /// for an address that nobody has.
    fn expects_answers(&self) -> bool {
        !is_for_many(self.outer.second)
            && match self.inner {
                Some(Inner::Pair(pair)) => !is_for_many(pair.first) && !is_for_many(pair.second),
                Some(Inner::Proto(proto)) => proto.0 > 0xffff,
                None => true,
            }
    }
}

/// One direction of a conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Course {
    /// When the last packet was seen.
    pub(super) last: Option<Moment>,
    /// The hooks that see packets: bit 0 ingress, bit 1 egress.
    pub(super) hooks: u8,
    /// Packets since the last one in the other direction.
    pub(super) unanswered: u64,
    /// When the first of these was seen.
    asking: Option<Moment>,
    /// The interface that saw the last of them.
    pub(super) interface: u16,
    /// Recent packets: a decaying mean.
    lately: f64,
    /// Its longest silence so far while the other direction was active.
    pause: Duration,
}

/// Both directions of a conversation, in the order of its row.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Talk {
    pub(super) ways: [Course; 2],
    /// When it was last answered, answers were common.
    pub(super) mutual: bool,
    /// SYNs that left this host unanswered since the last packet in the other direction.
    pub(super) syns: u64,
    /// The direction that is no longer answered, and since when.
    pub(super) silent: Option<(usize, Moment)>,
}

/// Where an inner address was seen as a sender.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Home {
    /// The endpoint that it is behind.
    pub(super) endpoint: IpAddr,
    /// When it was last seen there.
    pub(super) last: Moment,
    /// The previous endpoint, and when it was last seen there.
    pub(super) before: Option<(IpAddr, Moment)>,
    /// When it moved, the last few times.
    pub(super) changes: Vec<Moment>,
    /// All recent endpoints.
    pub(super) endpoints: Vec<(IpAddr, Moment)>,
}

/// Broadcast, unknown unicast and multicast of an id.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Flooding {
    /// Packets of the last ten seconds: a sum over seconds that decays.
    pub(super) recent: f64,
    /// Packets per second over a long time, without the last ten seconds.
    pub(super) usual: f64,
    /// How long it has been watched.
    pub(super) known: Duration,
    /// Packets in this interval.
    pub(super) now: u64,
    /// How long the rate has been far above the usual one, minus how long it has not.
    pub(super) above: Duration,
    /// The endpoint that sent most in this interval, and how much.
    pub(super) loudest: Option<(IpAddr, u64)>,
}

/// GTP-U echo requests from one endpoint to another.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Echo {
    /// Requests since the last answer.
    pub(super) unanswered: u64,
    /// When the first of these was seen.
    pub(super) since: Option<Moment>,
    /// When the last answer was seen.
    pub(super) answered: Option<Moment>,
    /// When the last request was seen.
    last: Option<Moment>,
    /// The interface that saw the last of them.
    pub(super) interface: u16,
}

/// Packets of one direction in an interval.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    packets: u64,
    hooks: u8,
    interface: u16,
}

impl Heard {
    fn add(&mut self, more: Heard) {
        if more.packets > 0 {
            self.packets = self.packets.saturating_add(more.packets);
            self.hooks |= more.hooks;
            self.interface = more.interface;
        }
    }
}

/// The same, by who saw them: in a fleet, packets count where they are sent, but their sender may
/// report on them much later than those who have received them.
#[derive(Clone, Copy, Debug, Default)]
struct Passed {
    counted: Heard,
    arrived: Heard,
}

impl Passed {
    fn heard(self) -> Heard {
        if self.counted.packets > 0 { self.counted } else { self.arrived }
    }
}

/// The detectors' memory.
#[derive(Clone, Debug, Default)]
pub struct Past {
    clock: Duration,
    time: Option<SystemTime>,
    pub(super) talks: HashMap<Party, Talk>,
    pub(super) homes: HashMap<(Tunnel, IpAddr), Home>,
    pub(super) floods: HashMap<Tunnel, Flooding>,
    /// The counts of both ends, in a fleet.
    pub(super) ends: Ends,
    pub(super) echoes: HashMap<(IpAddr, IpAddr), Echo>,
    swept: Duration,
}

/// RFC 7432, section 15.1: the period over which changes of an address are counted.
pub(super) const MOVES: Duration = Duration::from_secs(180);
/// Limit on the changes remembered.
const CHANGES: usize = 16;
/// Limit on the endpoints remembered for an address.
const ENDPOINTS: usize = 8;

/// Whether both ends use the same id for a network of its own with Ethernet inside: there, an inner
/// address belongs behind one endpoint.
pub(super) fn is_segment(tunnel: Tunnel) -> bool {
    tunnel.id.is_some()
        && matches!(tunnel.kind, Kind::Vxlan | Kind::VxlanGpe | Kind::Geneve | Kind::Gretap)
}

/// A tunnel including both of its directions.
fn whole(tunnel: Tunnel) -> Tunnel {
    match tunnel {
        Tunnel { kind, .. } if is_one_way(kind) => Tunnel { kind, id: None },
        tunnel => tunnel,
    }
}

/// Whether an address is broadcast or multicast.
pub(super) fn is_for_many(address: IpAddr) -> bool {
    address.is_multicast() || matches!(address, IpAddr::V4(a) if a.is_broadcast())
}

impl Past {
    /// The time, as the sum of all intervals.
    pub fn clock(&self) -> Duration {
        self.clock
    }

    pub(super) fn now(&self) -> Moment {
        let time = self.time.unwrap_or(SystemTime::UNIX_EPOCH);
        Moment { clock: self.clock, time }
    }

    /// How long ago a moment was.
    pub(super) fn ago(&self, moment: Moment) -> Duration {
        self.clock.saturating_sub(moment.clock)
    }

    /// Takes the next interval.
    pub(super) fn take(&mut self, interval: &Interval) {
        self.clock = self.clock.saturating_add(interval.elapsed);
        self.time = Some(interval.taken);
        let (now, decay) = (self.now(), decay(interval.elapsed, HALF));
        let mut active: HashMap<Party, [Passed; 2]> = HashMap::default();
        let mut flooded: HashMap<Tunnel, HashMap<IpAddr, u64>> = HashMap::default();
        for row in interval.rows.walk().filter(|r| !r.other() && interval.once().counts(r)) {
            let flow = row.flow();
            let (Some(outer), key, counters) = (flow.key.outer, &flow.key, &flow.counters) else {
                continue;
            };
            if key.depth == 0 {
                continue;
            }
            let [sent, back] = [counters.fwd().packets, counters.rev().packets];
            let hooks = |way: usize| {
                let at = |hook: usize| u8::from(counters.cells[hook][way].packets > 0) << hook;
                at(0) | at(1)
            };
            let tunnel = whole(key.outermost);
            for inner in [None, Some(key.inner)] {
                let party = Party { outer, tunnel, inner };
                if !self.talks.contains_key(&party) && self.talks.len() >= MOST {
                    continue;
                }
                let ways = active.entry(party).or_default();
                for (way, n) in [sent, back].into_iter().enumerate() {
                    let (hooks, interface) = (hooks(way), flow.interface);
                    ways[way].counted.add(Heard { packets: n, hooks, interface });
                    let packets = counters.cells[0][way].packets;
                    ways[way].arrived.add(Heard { packets, hooks, interface });
                }
            }
            let segment = key.innermost.unwrap_or(key.outermost);
            if is_segment(segment) {
                let many = match key.inner {
                    Inner::Pair(p) => is_for_many(p.first) || is_for_many(p.second),
                    Inner::Proto(proto) => proto == InnerProto(0x0806),
                } || is_for_many(outer.first)
                    || is_for_many(outer.second);
                let by = flooded.entry(segment).or_default();
                for (n, from) in [(sent, outer.first), (back, outer.second)] {
                    if many && n > 0 {
                        let sum: &mut u64 = by.entry(from).or_default();
                        *sum = sum.saturating_add(n);
                    }
                }
            }
            if let (Inner::Pair(inner), true) = (key.inner, is_segment(segment)) {
                for (n, address, endpoint) in
                    [(sent, inner.first, outer.first), (back, inner.second, outer.second)]
                {
                    if n > 0 && !address.is_unspecified() {
                        self.seen_behind((segment, address), endpoint, now);
                    }
                }
            }
        }
        for (party, ways) in active {
            self.talks.entry(party).or_default().hear(ways.map(Passed::heard), now, decay);
        }
        self.take_handshakes(interval);
        if interval.once().is_of_fleet() {
            self.ends.take(interval);
        }
        self.take_echoes(interval);
        self.judge();
        self.flood(&flooded, interval.elapsed);
        self.forget();
    }

    /// Connections requested by this host and not answered. An answer in another row counts as
    /// well.
    fn take_handshakes(&mut self, interval: &Interval) {
        let counts = |id| {
            let place = interval.interfaces.iter().position(|i| i.id == id);
            place.is_some_and(|i| interval.once().has(i as u16))
        };
        for (opener, n) in interval.beside.handshakes() {
            let (Some(outer), key) = (opener.key.outer, &opener.key) else { continue };
            if opener.hook != Hook::Tx || key.other || key.depth == 0 || !counts(opener.interface) {
                continue;
            }
            for inner in [None, Some(key.inner)] {
                let party = Party { outer, tunnel: whole(key.outermost), inner };
                if let Some(talk) = self.talks.get_mut(&party)
                    && talk.ways.iter().any(|way| way.unanswered > 0)
                {
                    let more = n.unanswered.saturating_add(n.retries);
                    talk.syns = talk.syns.saturating_add(more);
                }
            }
        }
    }

    /// Whether echo requests are answered. An answer counts for all requests of its interval.
    fn take_echoes(&mut self, interval: &Interval) {
        let now = self.now();
        let of = |saying| interval.beside.claims().iter().filter(move |c| c.0.saying() == saying);
        // One request passes several interfaces and hosts.
        let mut asked: HashMap<(IpAddr, IpAddr), (u64, u64)> = HashMap::default();
        for (claim, n) in of(Saying::EchoRequest) {
            let most = asked.entry((claim.from, claim.to)).or_default();
            *most = (*most).max((n.packets, claim.interface));
        }
        for (way, (packets, interface)) in asked {
            if !self.echoes.contains_key(&way) && self.echoes.len() >= MOST {
                continue;
            }
            let echo = self.echoes.entry(way).or_default();
            if echo.unanswered == 0 {
                echo.since = Some(now);
            }
            echo.unanswered = echo.unanswered.saturating_add(packets);
            echo.last = Some(now);
            let place = interval.interfaces.iter().position(|i| i.id == interface);
            echo.interface = place.map_or(u16::MAX, |place| place as u16);
        }
        for (claim, _) in of(Saying::EchoResponse) {
            if let Some(echo) = self.echoes.get_mut(&(claim.to, claim.from)) {
                (echo.unanswered, echo.answered) = (0, Some(now));
            }
        }
    }

    /// Which conversations fall silent, and with them which tunnels: a tunnel that has only ever
    /// carried address resolution for addresses that nobody has is not silent.
    fn judge(&mut self) {
        let clock = self.clock;
        let mut tunnels: HashSet<Party> = HashSet::default();
        for (party, talk) in self.talks.iter_mut().filter(|(party, _)| party.inner.is_some()) {
            talk.silent = talk.falls_silent(clock).filter(|_| party.expects_answers());
            if talk.silent.is_some() {
                tunnels.insert(Party { inner: None, ..*party });
            }
        }
        for (party, talk) in self.talks.iter_mut().filter(|(party, _)| party.inner.is_none()) {
            let falls = || talk.falls_silent(clock).filter(|_| tunnels.contains(party));
            talk.silent = talk.silent.filter(|s| talk.stays_silent(*s, clock)).or_else(falls);
        }
    }

    fn seen_behind(&mut self, who: (Tunnel, IpAddr), endpoint: IpAddr, now: Moment) {
        if !self.homes.contains_key(&who) && self.homes.len() >= MOST {
            return;
        }
        let home = self.homes.entry(who).or_insert_with(|| Home {
            endpoint,
            last: now,
            before: None,
            changes: Vec::new(),
            endpoints: Vec::new(),
        });
        home.endpoints.retain(|(_, last)| now.clock.saturating_sub(last.clock) <= MOVES);
        if let Some((_, last)) = home.endpoints.iter_mut().find(|(e, _)| *e == endpoint) {
            *last = now;
        } else if home.endpoints.len() < ENDPOINTS {
            home.endpoints.push((endpoint, now));
        }
        if home.endpoint != endpoint {
            // Behind two endpoints in one interval: that is one change, whatever the order.
            if home.changes.last().is_none_or(|last| last.clock < now.clock) {
                home.changes.push(now);
                if home.changes.len() > CHANGES {
                    home.changes.remove(0);
                }
            }
            home.before = Some((home.endpoint, home.last));
            home.endpoint = endpoint;
        }
        home.last = now;
    }

    fn flood(&mut self, now: &HashMap<Tunnel, HashMap<IpAddr, u64>>, elapsed: Duration) {
        const TEN: Duration = Duration::from_secs(10);
        for tunnel in now.keys() {
            if self.floods.len() < MOST {
                self.floods.entry(*tunnel).or_default();
            }
        }
        for (tunnel, flood) in &mut self.floods {
            let by = now.get(tunnel);
            let each = || by.into_iter().flatten().map(|(from, n)| (*from, *n));
            flood.now = each().fold(0, |sum, (_, n)| sum.saturating_add(n));
            flood.loudest = each().max_by_key(|(from, n)| (*n, *from));
            flood.known = flood.known.saturating_add(elapsed);
            let Some(rate) = Rate::of(flood.now, elapsed).into() else { continue };
            let short = decay(elapsed, TEN / 3);
            flood.recent = flood.recent * short + rate * (1.0 - short);
            if flood.is_above(rate) {
                flood.above = flood.above.saturating_add(elapsed).min(TEN);
            } else {
                flood.above = flood.above.saturating_sub(elapsed);
                // Use the plain mean until the time known is long enough for it to decay.
                let new = elapsed.as_secs_f64() / flood.known.as_secs_f64().max(1e-9);
                let weight = new.max(1.0 - decay(elapsed, 4 * HALF));
                flood.usual += (rate - flood.usual) * weight;
            }
        }
    }

    fn forget(&mut self) {
        if self.clock.saturating_sub(self.swept) < SWEEP {
            return;
        }
        self.swept = self.clock;
        let clock = self.clock;
        let fresh = |m: &Moment| clock.saturating_sub(m.clock) <= IDLE;
        self.talks.retain(|_, t| t.ways.iter().any(|w| w.last.as_ref().is_some_and(fresh)));
        self.homes.retain(|_, h| fresh(&h.last));
        self.echoes.retain(|_, e| e.last.as_ref().is_some_and(fresh));
        self.floods.retain(|_, f| f.recent >= 1e-3 || f.usual >= 1e-3);
    }
}

/// What remains of a mean after a time.
fn decay(elapsed: Duration, half: Duration) -> f64 {
    0.5f64.powf(elapsed.as_secs_f64() / half.as_secs_f64())
}

impl Flooding {
    /// The least rate in packets per second worth reporting, however quiet the id was before.
    const FLOOR: f64 = 100.0;
    /// The least multiple of the usual rate.
    const TIMES: f64 = 10.0;
    /// The least time to know an id before judging it.
    const PAST: Duration = Duration::from_secs(30);

    /// Whether a rate is far above the usual one.
    fn is_above(&self, rate: f64) -> bool {
        self.known >= Self::PAST && rate >= Self::FLOOR && rate >= Self::TIMES * self.usual
    }
}

impl Talk {
    /// Answers are rare if there is less than one per this many packets.
    const RARE: f64 = 8.0;
    /// A pause this long is silence, however rare answers were.
    const LONGEST: Duration = Duration::from_secs(120);
    /// The shortest pause that means anything.
    const SHORTEST: Duration = Duration::from_secs(10);

    fn hear(&mut self, now: [Heard; 2], moment: Moment, decay: f64) {
        for (way, Heard { packets, hooks, interface }) in now.into_iter().enumerate() {
            let patience = self.patience(way);
            let asked = self.ways[1 - way].unanswered > 0;
            let course = &mut self.ways[way];
            course.lately = course.lately * decay + packets as f64;
            if packets > 0 {
                if let (Some(last), true) = (course.last, asked) {
                    let pause = moment.clock.saturating_sub(last.clock);
                    if pause < patience {
                        course.pause = course.pause.max(pause);
                    }
                }
                (course.last, course.interface) = (Some(moment), interface);
                course.hooks |= hooks;
                self.ways[1 - way].unanswered = 0;
                if asked {
                    self.syns = 0;
                }
            }
        }
        for way in 0..2 {
            if now[way].packets > 0 && now[1 - way].packets == 0 {
                let course = &mut self.ways[way];
                if course.unanswered == 0 {
                    course.asking = Some(moment);
                }
                course.unanswered = course.unanswered.saturating_add(now[way].packets);
            }
        }
        if now.iter().all(|way| way.packets > 0) {
            let [a, b] = [self.ways[0].lately, self.ways[1].lately];
            self.mutual = a.min(b) * Self::RARE >= a.max(b);
        }
    }

    /// How long a direction may be silent while the other one is not.
    pub(super) fn patience(&self, way: usize) -> Duration {
        (self.ways[way].pause * 3).clamp(Self::SHORTEST, Self::LONGEST)
    }

    /// A client that is not answered gives up sooner or later, which does not end the silence: a
    /// tunnel's silence lasts until there is an answer, or until nothing has been sent for this
    /// long.
    const FORGOTTEN: Duration = Duration::from_secs(120);

    fn stays_silent(&self, (way, since): (usize, Moment), clock: Duration) -> bool {
        let asked = self.ways[way].last.map(|m| clock.saturating_sub(m.clock));
        self.ways[1 - way].last == Some(since) && asked.is_some_and(|a| a < Self::FORGOTTEN)
    }

    fn falls_silent(&self, clock: Duration) -> Option<(usize, Moment)> {
        const LEAST: u64 = 3;
        (0..2).find_map(|way| {
            let ([asks, answers], patience) =
                ([self.ways[way], self.ways[1 - way]], self.patience(1 - way));
            // A requested connection must be answered, even if nothing ever was.
            let never = !self.mutual && self.syns > 0 && asks.hooks & 2 != 0;
            let since = if never { asks.asking } else { answers.last };
            let (asked, answered) = (asks.last?, since?);
            let ago = |m: Moment| clock.saturating_sub(m.clock);
            // If answers went out through us and requests came in, it is this host that is silent,
            // which is for whoever watches the other end to report.
            let ours = asks.hooks == 1 && answers.hooks == 2;
            ((self.mutual || never)
                && !ours
                && asks.unanswered >= LEAST
                && ago(asked) < patience
                && ago(answered) >= patience)
                .then_some((way, answered))
        })
    }
}
