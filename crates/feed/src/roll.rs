// SPDX-License-Identifier: MIT OR Apache-2.0
//! The hosts in a recording of several. Each block of the recording starts with a greeting of every
//! host, which has what the host last said about itself, so that blocks can be read independently.
use std::sync::Arc;

use foldhash::HashMap;

use crate::frame::{Frame, FrameKind};
use model::{fleet::MOST_HOSTS, rows::Rows, snapshot::Interval};

/// The hosts, each as the greeting it would send now.
#[derive(Debug, Default)]
pub struct Roll {
    hosts: HashMap<Arc<str>, Frame>,
}

impl Roll {
    /// Takes a frame of a host. Returns false if a recording need not contain it.
    pub fn take(&mut self, frame: &Frame) -> bool {
        let host = &frame.interval.origin.host;
        if frame.kind == FrameKind::End {
            return self.hosts.remove(host).is_some();
        }
        let known = self.hosts.get(host);
        if known.is_none() && self.hosts.len() >= MOST_HOSTS {
            return false;
        }
        let same = known.filter(|k| k.interval.origin.epoch == frame.interval.origin.epoch);
        let of_late = |new: bool| if new { None } else { known };
        let is_news = frame.kind != FrameKind::Hello
            || same.is_none_or(|k| !frame.local.is_empty() && k.local != frame.local)
            || frame.interval.overlay.is_some();
        let local = of_late(!frame.local.is_empty()).map_or(&frame.local, |k| &k.local).clone();
        let overlay = of_late(frame.interval.overlay.is_some())
            .map_or(&frame.interval.overlay, |k| &k.interval.overlay)
            .clone();
        let i = &frame.interval;
        let mut interval = Interval::new(i.taken, i.taken, i.elapsed, Vec::new(), Rows::default());
        (interval.origin, interval.overlay) = (i.origin.clone(), overlay);
        let greeting =
            Frame { kind: FrameKind::Hello, local, interval, tool: frame.tool.clone(), ..*frame };
        self.hosts.insert(Arc::clone(host), greeting);
        is_news
    }

    /// The greetings of all hosts, by name.
    pub fn call(&self) -> Vec<&Frame> {
        let mut all: Vec<_> = self.hosts.values().collect();
        all.sort_unstable_by(|a, b| a.interval.origin.host.cmp(&b.interval.origin.host));
        all
    }
}
