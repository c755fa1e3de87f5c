// SPDX-License-Identifier: MIT OR Apache-2.0
//! The sequence of readings of one source: the only owner of the last two readings, of the history,
//! and of the interval that is shown while time goes on.
//!
//! Everything that shows or writes intervals gets them from here.
use std::{
    cell::OnceCell,
    collections::VecDeque,
    rc::Rc,
    sync::Arc,
    time::{Duration, SystemTime},
};

use model::{
    detect::{Change, Detectors, Finding, Known},
    history::{History, PastInterval},
    overlay::{Event, Overlay},
    rows::Rows,
    snapshot::{Interval, Snapshot},
};

use crate::Reading;

/// Which interval is shown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum At {
    /// Always the newest.
    #[default]
    Live,
    /// The one with this number.
    Past(u64),
}

/// An interval and the totals at its end.
#[derive(Clone, Debug)]
struct Held {
    number: u64,
    interval: Rc<Interval>,
    totals: Rc<Snapshot>,
}

/// Readings in order of time.
#[derive(Clone, Debug, Default)]
pub struct Series {
    history: History,
    at: At,
    /// Known findings, for when a recording is loaded again.
    known: Known,
    /// The source has ended: no more readings will come.
    ends: bool,
    latest: Option<Rc<Snapshot>>,
    total: OnceCell<Interval>,
    newest: Option<(u64, Rc<Interval>)>,
    /// The interval that was the newest when it was first shown, kept in full even if the history
    /// drops it.
    held: Option<Held>,
    /// The detectors, if findings are looked for, and what the last reading changed about findings.
    detectors: Option<Detectors>,
    changes: Vec<(u64, Change)>,
    /// Changes of the host's configuration and the number of their interval, oldest first.
    events: VecDeque<(u64, Event)>,
}

/// Limit on the changes of the configuration that are kept.
const EVENTS: usize = 1000;

impl Series {
    /// A series whose history takes at most this many bytes; 0 for no history.
    pub fn new(bytes: usize) -> Series {
        Series { history: History::within(bytes), ..Series::default() }
    }

    /// A series that is loaded from a recording.
    pub fn of_recording() -> Series {
        Series { history: History::unlimited(), ends: true, ..Series::default() }
    }

    /// Takes the next reading. Returns the interval since the previous one; `None` for the first.
    pub fn push(&mut self, reading: impl Into<Reading>) -> Option<&Interval> {
        let Reading { mut snapshot, overlay, .. } = reading.into();
        if let Some(older) = &self.latest {
            snapshot.keep_stale(older);
        }
        let interval = self.latest.take().map(|older| snapshot.since(&older));
        self.changes.clear();
        if let Some(interval) = &interval {
            self.detect(interval, overlay.as_ref());
        }
        self.newest = interval.map(|i| (self.history.push(&i), Rc::new(i)));
        self.note_events(overlay.as_deref());
        (self.latest, self.total) = (Some(Rc::new(snapshot)), OnceCell::new());
        // The interval shown may have been dropped from the history.
        if let (At::Past(n), Some(oldest)) = (self.at, self.history.oldest())
            && n < oldest.number
            && self.held().is_none()
        {
            self.at = At::Past(oldest.number);
        }
        self.newest()
    }

    /// Loads a recording, or as much of it as there is by now: its intervals, oldest first, and the
    /// totals. First shows the last interval that has any traffic; when more arrives, keeps showing
    /// the same time.
    pub fn load(&mut self, intervals: Vec<Interval>, total: Snapshot) {
        let before =
            self.latest.is_some().then(|| (self.at, self.past().map(|f| f.interval.since)));
        let mut last = None;
        self.changes.clear();
        (self.history, self.held) = (History::unlimited(), None);
        if self.detectors.is_some() {
            self.look_for_findings(self.known.clone());
        }
        for interval in intervals {
            self.detect(&interval, None);
            let number = self.history.push(&interval);
            if !interval.rows.is_empty() {
                last = Some(number);
            }
            self.newest = Some((number, Rc::new(interval)));
        }
        (self.latest, self.total) = (Some(Rc::new(total)), OnceCell::new());
        match before {
            Some((At::Past(_), Some(time))) => {
                let holds = |f: &&PastInterval| f.interval.since <= time;
                let number = self.history.iter().rev().find(holds).map(|f| f.number);
                self.go_to(number.unwrap_or(0));
            }
            Some(_) => {}
            None => {
                if let Some(number) = last {
                    self.go_to(number);
                }
            }
        }
    }

    /// Looks for findings in readings from now on, except for the known ones.
    pub fn look_for_findings(&mut self, known: Known) {
        let kept = if self.ends { Duration::MAX } else { Detectors::KEPT };
        self.detectors = Some(Detectors::keeping(kept).knowing(known.clone()));
        self.known = known;
    }

    /// Takes the next interval of a recording as if it happened now; [`Series::changes`] has what
    /// it changes about findings.
    pub fn step(&mut self, interval: Interval) {
        self.changes.clear();
        self.detect(&interval, None);
        self.newest = Some((self.history.push(&interval), Rc::new(interval)));
    }

    fn detect(&mut self, interval: &Interval, overlay: Option<&Arc<Overlay>>) {
        let overlay = overlay.or(interval.overlay.as_ref());
        if let Some(detectors) = &mut self.detectors {
            let changes = detectors.step(interval, overlay.map(AsRef::as_ref));
            self.changes.extend(changes);
        }
    }

    fn note_events(&mut self, overlay: Option<&Overlay>) {
        let (Some(overlay), Some((number, interval))) = (overlay, &self.newest) else { return };
        let then = |e: &&Event| e.at > interval.since && e.at <= interval.taken;
        // The newest events are last.
        let new = overlay.events.iter().rev().take_while(|e| e.at > interval.since).filter(then);
        let new: Vec<_> = new.map(|e| (*number, e.clone())).collect();
        self.events.extend(new.into_iter().rev());
        let oldest = self.history.oldest().map_or(0, |f| f.number);
        while self.events.front().is_some_and(|e| e.0 < oldest) || self.events.len() > EVENTS {
            self.events.pop_front();
        }
    }

    /// Changes of the host's configuration and the number of their interval, oldest first; as far
    /// back as the history reaches.
    pub fn events(&self) -> impl DoubleEndedIterator<Item = &(u64, Event)> {
        self.events.iter()
    }

    /// The findings, in the order in which they began; none if they are not looked for.
    pub fn findings(&self) -> impl DoubleEndedIterator<Item = &Finding> {
        self.detectors.iter().flat_map(Detectors::findings)
    }

    /// What the last reading changed about findings, with each finding as it is now.
    pub fn changes(&self) -> impl Iterator<Item = (&Finding, Change)> {
        let of = |(n, change): &(u64, Change)| Some((self.detectors.as_ref()?.get(*n)?, *change));
        self.changes.iter().filter_map(of)
    }

    /// Whether the source has ended.
    pub fn ends(&self) -> bool {
        self.ends
    }

    /// The history, as far as it is kept.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The interval that ends with the newest reading.
    pub fn newest(&self) -> Option<&Interval> {
        self.newest.as_ref().map(|(_, i)| i.as_ref())
    }

    /// The newest reading: totals since counting began.
    pub fn latest(&self) -> Option<&Snapshot> {
        self.latest.as_deref()
    }

    /// The totals of the newest reading as an interval.
    pub fn total(&self) -> Option<&Interval> {
        let latest = self.latest.as_ref()?;
        Some(self.total.get_or_init(|| latest.total()))
    }

    /// Which interval is shown.
    pub fn at(&self) -> At {
        self.at
    }

    /// The number of the interval shown.
    pub fn number(&self) -> Option<u64> {
        match self.at {
            At::Past(n) => Some(n),
            At::Live => self.history.newest().map(|f| f.number),
        }
    }

    /// The number of the first interval in the history that ends after this time.
    pub fn number_at(&self, time: SystemTime) -> Option<u64> {
        self.history.iter().find(|f| f.interval.taken > time).map(|f| f.number)
    }

    /// Shows the interval with this number, or the nearest one in the history. A number beyond the
    /// newest means to follow the newest.
    pub fn go_to(&mut self, number: u64) {
        let (Some(oldest), Some(newest)) = (self.history.oldest(), self.history.newest()) else {
            return;
        };
        self.at = match number {
            n if n > newest.number || (n == newest.number && self.ends) => At::Live,
            n => At::Past(n.max(oldest.number)),
        };
        match (self.at, &self.newest, &self.latest) {
            (At::Live, ..) => self.held = None,
            (At::Past(n), Some((number, interval)), Some(totals)) if n == *number => {
                let (interval, totals) = (Rc::clone(interval), Rc::clone(totals));
                self.held = Some(Held { number: n, interval, totals });
            }
            _ => {}
        }
    }

    /// Holds the newest interval; if one is already held, follows the newest again.
    pub fn hold(&mut self) {
        let newest = self.history.newest().map(|f| f.number).filter(|_| self.at == At::Live);
        self.go_to(newest.unwrap_or(u64::MAX));
    }

    fn held(&self) -> Option<&Held> {
        self.held.as_ref().filter(|h| self.at == At::Past(h.number))
    }

    fn past(&self) -> Option<&PastInterval> {
        match self.at {
            At::Past(n) => self.history.get(n),
            At::Live => None,
        }
    }

    /// What is shown, with all rows: the interval, or the totals at its end. `None` if there is
    /// nothing yet, or no longer.
    pub fn shown(&self, rate: bool) -> Option<Interval> {
        match (self.at, rate, self.held()) {
            (At::Live, true, _) => self.newest().cloned(),
            (At::Live, false, _) => self.total().cloned(),
            (At::Past(_), true, Some(held)) => Some(held.interval.as_ref().clone()),
            (At::Past(_), false, Some(held)) => Some(held.totals.total()),
            (At::Past(_), true, None) => self.past().map(|f| f.interval.clone()),
            (At::Past(n), false, None) => self.history.total_until(n),
        }
    }

    /// The rows of the other view, if known: totals when rates are shown, rates when totals are.
    pub fn beside(&self, rate: bool) -> Option<&Rows> {
        match (self.at, rate) {
            (At::Live, true) => self.latest().map(|s| &s.rows),
            (At::Live, false) => self.newest().map(|i| &i.rows),
            (At::Past(_), true) => self.held().map(|h| &h.totals.rows),
            (At::Past(_), false) => self.past().map(|f| &f.interval.rows),
        }
    }

    /// The length of the interval shown.
    pub fn elapsed(&self) -> Duration {
        match self.at {
            At::Live => self.newest().map_or(Duration::ZERO, |i| i.elapsed),
            At::Past(_) => self.past().map_or(Duration::ZERO, |f| f.interval.elapsed),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::sample;
    use model::flow::{Count, Counters, Flow};

    fn reading(t: u64) -> Snapshot {
        let sent = Count { packets: 10 * t, bytes: 1000 * t };
        let cells = [[sent, Count::default()], [Count::default(); 2]];
        let counters = Counters { cells, ..Counters::default() };
        let mut rows = Rows::default();
        rows.push_flow(0, &Flow { interface: 0, key: sample::key(7), counters });
        let (since, at) = (SystemTime::UNIX_EPOCH, Duration::from_secs(t));
        Snapshot {
            origin: Default::default(),
            since,
            taken: since + at,
            at,
            interfaces: vec![],
            rows,
            drops: None,
            beside: Default::default(),
        }
    }

    fn packets(i: Option<&Interval>) -> Option<u64> {
        i.map(|i| i.rows.walk().map(|r| r.total().packets).sum())
    }

    #[test]
    fn every_reading_but_the_first_ends_an_interval() {
        let mut series = Series::new(1 << 20);
        assert_eq!(packets(series.push(reading(1))), None);
        assert_eq!(packets(series.push(reading(3))), Some(20));
        assert_eq!((packets(series.total()), series.elapsed().as_secs()), (Some(30), 2));
        assert_eq!(packets(series.push(reading(4))), Some(10));
        assert_eq!((packets(series.total()), series.history().len()), (Some(40), 2));
    }

    #[test]
    fn the_shown_interval_stays_while_new_ones_arrive() {
        let mut series = Series::new(1 << 20);
        for t in 1..=3 {
            series.push(reading(t));
        }
        series.go_to(1);
        assert_eq!((series.at(), series.number()), (At::Past(1), Some(1)));
        for t in 4..=9 {
            series.push(reading(t));
        }
        let totals = |s: &Series| packets(s.shown(false).as_ref());
        assert_eq!(totals(&series), Some(30), "it was the newest: all of it is held");
        assert_eq!(packets(series.shown(true).as_ref()), Some(10));
        series.go_to(0);
        assert_eq!(totals(&series), Some(10), "of the intervals that are kept");
        series.go_to(u64::MAX);
        assert_eq!((series.at(), totals(&series)), (At::Live, Some(90)));
    }

    #[test]
    fn a_series_without_history_still_has_intervals() {
        let mut series = Series::new(0);
        for t in 1..=3 {
            series.push(reading(t));
        }
        assert_eq!(packets(series.newest()), Some(10));
        assert!(series.history().is_empty());
        series.go_to(0);
        assert_eq!(series.at(), At::Live);
    }
}
