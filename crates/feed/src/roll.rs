// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosts in a recording of several. Each block of the recording starts with a greeting of every
//! host, with the latest that the host reported about itself, so that blocks can be read
//! independently.
use std::sync::Arc;

use foldhash::HashMap;

use crate::{
    frame::{Frame, FrameKind},
    recorded::MOST_SAID,
};
use model::{fleet::MOST_HOSTS, rows::Rows, snapshot::Interval};

/// The hosts, each as the greeting it would send now.
#[derive(Debug, Default)]
pub struct Roll {
    hosts: HashMap<Arc<str>, Frame>,
    size: usize,
    is_overfull: bool,
    is_told: bool,
}

/// The size of what a host has reported about itself.
fn size(frame: &Frame) -> usize {
    frame.local.len() + frame.interval.overlay.as_ref().map_or(0, |o| o.size())
}

impl Roll {
    /// Takes a frame of a host. Returns false if a recording need not contain it.
    pub fn take(&mut self, frame: &Frame) -> bool {
        let host = &frame.interval.origin.host;
        if frame.kind == FrameKind::End {
            let left = self.hosts.remove(host);
            self.size -= left.as_ref().map_or(0, size);
            return left.is_some();
        }
        let known = self.hosts.get(host);
        if known.is_none() && self.hosts.len() >= MOST_HOSTS {
            return false;
        }
        let same = known.filter(|k| k.interval.origin.epoch == frame.interval.origin.epoch);
        let of_late = |new: bool| if new { None } else { known };
        let is_news =
            frame.kind != FrameKind::Hello
                || same.is_none_or(|k| !frame.local.is_empty() && k.local != frame.local)
                || frame.interval.overlay.as_ref().is_some_and(|new| {
                    known.and_then(|k| k.interval.overlay.as_ref()) != Some(new)
                });
        let local = of_late(!frame.local.is_empty()).map_or(&frame.local, |k| &k.local).clone();
        let overlay = of_late(frame.interval.overlay.is_some())
            .map_or(&frame.interval.overlay, |k| &k.interval.overlay)
            .clone();
        let i = &frame.interval;
        let mut interval = Interval::new(i.taken, i.taken, i.elapsed, Vec::new(), Rows::default());
        (interval.origin, interval.overlay) = (i.origin.clone(), overlay);
        let mut greeting =
            Frame { kind: FrameKind::Hello, local, interval, tool: frame.tool.clone(), ..*frame };
        self.size -= known.map_or(0, size);
        if self.size + size(&greeting) > MOST_SAID {
            self.is_overfull = true;
            (greeting.local, greeting.interval.overlay) = (Vec::new(), None);
        }
        self.size += size(&greeting);
        self.hosts.insert(Arc::clone(host), greeting);
        is_news
    }

    /// Whether hosts have reported more about themselves than is remembered. Returns true only
    /// once.
    pub fn overflows(&mut self) -> bool {
        std::mem::take(&mut self.is_overfull) && !std::mem::replace(&mut self.is_told, true)
    }

    /// The greetings of all hosts, by name.
    pub fn call(&self) -> Vec<&Frame> {
        let mut all: Vec<_> = self.hosts.values().collect();
        all.sort_unstable_by(|a, b| a.interval.origin.host.cmp(&b.interval.origin.host));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use model::interface::Origin;

    #[test]
    fn what_hosts_report_about_themselves_is_limited_in_total() {
        let mut roll = Roll::default();
        let most = MOST_SAID / 4096;
        for n in 0..most as u32 + 8 {
            let now = SystemTime::UNIX_EPOCH;
            let none = Rows::default();
            let mut interval = Interval::new(now, now, Duration::ZERO, Vec::new(), none);
            interval.origin = Origin { host: format!("h{n}").into(), netns: 1, epoch: 1 };
            let local = (0..4096u32).map(|a| (n << 12 | a).to_be_bytes().into()).collect();
            assert!(roll.take(&Frame {
                kind: FrameKind::Rows,
                seq: 1,
                reading: Duration::ZERO,
                held: Duration::ZERO,
                heard: None,
                clock: None,
                cadence: Duration::ZERO,
                local,
                tool: String::new(),
                interval,
            }));
        }
        let told = roll.call().iter().map(|frame| frame.local.len()).sum::<usize>();
        assert_eq!((roll.call().len(), told), (most + 8, MOST_SAID));
        assert!(roll.overflows() && !roll.overflows(), "it is reported once");
    }
}
