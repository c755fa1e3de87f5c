// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces that are watched, and some of whose packets are looked into meanwhile.
use anyhow::Result;

use crate::kernel::{
    live::Live,
    probe::{Prober, Wish},
};
use feed::{Closer, Reading, Source};
use model::{filter::Filter, lens::Lens};

/// What is watched, and who looks closer.
pub struct LiveCloser {
    live: Live,
    lens: Option<Prober>,
    /// How often it was said that nothing was looked at for a while.
    told: u64,
}

impl LiveCloser {
    /// Nobody looks yet.
    pub fn new(live: Live) -> LiveCloser {
        LiveCloser { live, lens: None, told: 0 }
    }
}

impl Source for LiveCloser {
    fn read(&mut self) -> Result<Reading> {
        Source::read(&mut self.live)
    }

    fn follow(&mut self) -> Vec<String> {
        let mut notices = Source::follow(&mut self.live);
        if let Some(prober) = &mut self.lens {
            // Interfaces may have come, and what has lapsed begins again.
            self.live.probe(prober);
            notices.extend(self.live.notices());
            if prober.lapses() > self.told {
                self.told = prober.lapses();
                notices.push("this process was stopped for a while: no packet was looked into".into());
            }
        }
        notices
    }

    fn closer(&mut self) -> Result<&mut dyn Closer> {
        Ok(self)
    }
}

impl Closer for LiveCloser {
    fn look(&mut self, rows: Option<&Filter>) -> Result<()> {
        if let Some(mut before) = self.lens.take() {
            self.live.end_probe(&mut before);
        }
        if let Some(rows) = rows {
            self.live.check_probe(rows)?;
            let mut prober =
                Prober::new(Wish { filter: rows.clone(), lens: true, ..Wish::default() })?;
            self.live.probe(&mut prober);
            (self.lens, self.told) = (Some(prober), 0);
        }
        Ok(())
    }

    fn seen(&mut self) -> Result<Option<Lens>> {
        self.lens.as_ref().map(|prober| self.live.lens(prober)).transpose()
    }
}
