// SPDX-License-Identifier: MIT OR Apache-2.0
//! The requests of viewers. A lease expires by itself, so a viewer that is killed costs half a
//! minute of frames. Requests are bounded, whoever makes them: rows once a second for half a
//! minute.
use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use prost::Message;

use feed::frame::FrameKind;

/// The shortest interval that can be requested.
pub const LEAST: Duration = Duration::from_secs(1);
/// The longest duration of a lease.
pub const LONGEST: Duration = Duration::from_secs(30);
/// The longest interval that can be requested.
const SELDOM: Duration = Duration::from_secs(3600);
/// Limit on the known viewers.
const VIEWERS: usize = 64;
/// How long to wait, after an outage, for viewers that made requests before it.
const RETURN: Duration = Duration::from_secs(10);

/// A request as transmitted: `Want` in `tmon.proto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct WantMessage {
    #[prost(fixed64, tag = "1")]
    pub(crate) viewer: u64,
    #[prost(uint32, tag = "2")]
    pub(crate) what: u32,
    #[prost(uint32, tag = "3")]
    pub(crate) every_ms: u32,
    #[prost(uint32, tag = "4")]
    pub(crate) lease_ms: u32,
}

/// The numbers of kinds in `tmon.proto`.
pub(crate) const HELLO: u32 = 1;

fn number(kind: FrameKind) -> u32 {
    match kind {
        FrameKind::Hello => HELLO,
        FrameKind::Sum => 2,
        FrameKind::Rows => 3,
        FrameKind::End => 4,
    }
}

/// Encodes a viewer's request.
pub(crate) fn want(viewer: u64, what: FrameKind, every: Duration, lease: Duration) -> Vec<u8> {
    let millis = |d: Duration| u32::try_from(d.as_millis()).unwrap_or(u32::MAX);
    let (every_ms, lease_ms) = (millis(every), millis(lease));
    WantMessage { viewer, what: number(what), every_ms, lease_ms }.encode_to_vec()
}

/// The requests to this host, by all viewers together.
#[derive(Debug)]
pub(crate) struct Leases {
    /// The shortest interval of its reports.
    least: Duration,
    /// Whether it reports no inner addresses: requests for rows are answered with sums.
    outer_only: bool,
    /// By interval, when they expire: for sums and for rows.
    until: [BTreeMap<Duration, Instant>; 2],
    /// Recent viewers, and whether each has made a request since the last outage.
    viewers: VecDeque<(u64, bool)>,
    /// Since when no requests can arrive.
    outage: Option<Instant>,
    /// When to stop waiting for viewers from before the last outage.
    patience: Option<Instant>,
}

impl Leases {
    pub(crate) fn new(least: Duration, outer_only: bool) -> Leases {
        Leases {
            least: least.clamp(LEAST, SELDOM),
            outer_only,
            until: Default::default(),
            viewers: VecDeque::new(),
            outage: None,
            patience: None,
        }
    }

    /// Takes a request. Returns whether it is the first of its viewer.
    pub(crate) fn take(&mut self, bytes: &[u8], now: Instant) -> bool {
        let Ok(want) = WantMessage::decode(bytes) else { return false };
        let is_new = match self.viewers.iter_mut().find(|(viewer, _)| *viewer == want.viewer) {
            Some((_, returned)) => {
                *returned = true;
                false
            }
            None => {
                if self.viewers.len() >= VIEWERS {
                    self.viewers.pop_front();
                }
                self.viewers.push_back((want.viewer, true));
                true
            }
        };
        let kind = match want.what {
            2 => 0,
            3 if self.outer_only => 0,
            3 => 1,
            _ => return is_new,
        };
        // In whole seconds, which limits the number of different intervals.
        let every = Duration::from_secs(u64::from(want.every_ms).div_ceil(1000));
        let until = now + Duration::from_millis(want.lease_ms.into()).min(LONGEST);
        let lease = self.until[kind].entry(every.clamp(self.least, SELDOM)).or_insert(until);
        *lease = until.max(*lease);
        is_new
    }

    /// The requested intervals of sums and of rows.
    pub(crate) fn wanted(&mut self, now: Instant) -> [Option<Duration>; 2] {
        if self.outage.is_none() {
            self.until.iter_mut().for_each(|all| all.retain(|_, until| *until > now));
        }
        [0, 1].map(|kind| self.until[kind].keys().next().copied())
    }

    /// No requests can arrive from now on, and no lease expires.
    pub(crate) fn lost(&mut self, now: Instant) {
        self.outage.get_or_insert(now);
    }

    /// Requests can arrive again. Earlier viewers come back, each in its own time.
    pub(crate) fn back(&mut self, now: Instant) {
        let outage = self.outage.take().map_or(Duration::ZERO, |since| now.duration_since(since));
        self.until.iter_mut().flat_map(BTreeMap::values_mut).for_each(|until| *until += outage);
        self.viewers.iter_mut().for_each(|(_, returned)| *returned = false);
        self.patience = Some(now + RETURN);
    }

    /// Whether the viewers from before the last outage are back and would receive a message, or are
    /// not waited for any longer.
    pub(crate) fn is_heard(&mut self, now: Instant) -> bool {
        if self.outage.is_some() {
            return false;
        }
        match self.patience {
            Some(until) if now < until => self.viewers.iter().all(|(_, returned)| *returned),
            Some(_) => {
                self.patience = None;
                self.viewers.retain(|(_, returned)| *returned);
                true
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn ask(leases: &mut Leases, viewer: u64, what: FrameKind, every_ms: u64, now: Instant) -> bool {
        let every = Duration::from_millis(every_ms);
        leases.take(&want(viewer, what, every, seconds(15)), now)
    }

    #[test]
    fn the_shortest_that_is_asked_holds_until_its_lease_ends() {
        let (mut leases, t) = (Leases::new(seconds(2), false), Instant::now());
        assert_eq!(leases.wanted(t), [None, None], "nobody asks");
        assert!(ask(&mut leases, 1, FrameKind::Sum, 10_000, t));
        assert!(ask(&mut leases, 2, FrameKind::Sum, 5_000, t + seconds(5)));
        assert!(!ask(&mut leases, 2, FrameKind::Rows, 1, t + seconds(5)), "it has asked before");
        assert_eq!(leases.wanted(t + seconds(5)), [Some(seconds(5)), Some(seconds(2))]);
        assert!(!ask(&mut leases, 1, FrameKind::Sum, 10_000, t + seconds(14)));
        assert_eq!(leases.wanted(t + seconds(21)), [Some(seconds(10)), None]);
        assert_eq!(leases.wanted(t + seconds(30)), [None, None]);
    }

    #[test]
    fn whatever_is_asked_it_is_a_row_a_second_for_half_a_minute_in_bounded_memory() {
        let (mut leases, t) = (Leases::new(Duration::ZERO, false), Instant::now());
        for n in 0..10_000u64 {
            let greedy = WantMessage {
                viewer: n,
                what: 2 + (n % 2) as u32,
                every_ms: (n as u32).wrapping_mul(1_000_003),
                lease_ms: u32::MAX,
            };
            leases.take(&greedy.encode_to_vec(), t);
        }
        let wanted = leases.wanted(t).map(|w| w.is_some_and(|w| w >= LEAST));
        assert_eq!(wanted, [true; 2]);
        assert!(leases.viewers.len() <= VIEWERS);
        assert!(leases.until.iter().all(|all| all.len() <= 3600));
        assert_eq!(leases.wanted(t + LONGEST), [None, None]);
        leases.take(&[0xff; 100], t);
        leases.take(&[], t);
        assert_eq!(leases.wanted(t), [None, None], "that was no question");
    }

    #[test]
    fn inner_addresses_that_stay_on_a_host_cannot_be_asked_for() {
        let (mut leases, t) = (Leases::new(LEAST, true), Instant::now());
        ask(&mut leases, 1, FrameKind::Rows, 1_000, t);
        assert_eq!(leases.wanted(t), [Some(LEAST), None]);
    }

    #[test]
    fn an_outage_ends_no_lease_and_who_comes_back_is_waited_for() {
        let (mut leases, t) = (Leases::new(LEAST, false), Instant::now());
        ask(&mut leases, 1, FrameKind::Rows, 1_000, t);
        ask(&mut leases, 2, FrameKind::Rows, 5_000, t);
        leases.lost(t + seconds(1));
        let later = t + seconds(3600);
        assert!(!leases.is_heard(later));
        assert_eq!(leases.wanted(later), [None, Some(LEAST)]);
        leases.back(later);
        assert!(!leases.is_heard(later), "nobody would hear it");
        ask(&mut leases, 1, FrameKind::Rows, 1_000, later + seconds(1));
        assert!(!leases.is_heard(later + seconds(1)), "one of two would");
        ask(&mut leases, 2, FrameKind::Rows, 5_000, later + seconds(2));
        assert!(leases.is_heard(later + seconds(2)));
        leases.back(later + seconds(3));
        assert!(leases.is_heard(later + seconds(3) + RETURN), "they may have gone");
        assert_eq!(leases.wanted(later + seconds(18)), [None, None]);
    }
}
