// SPDX-License-Identifier: MIT OR Apache-2.0
//! Interfaces that are watched, and some of whose packets are looked into or kept meanwhile.
use std::{
    fs::File,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow};

use crate::kernel::{
    catch::{Catch, CatchManner, LIMIT, RING, Totals},
    live::Live,
    probe::{Prober, Wish},
};
use feed::{CatchNews, Closer, Reading, Source, names::Names, pcapng::PcapngWriter};
use model::{
    filter::Filter,
    lens::Lens,
    units::{self, Base},
};

/// Limits on a capture that is made beside something else.
#[derive(Clone, Copy, Debug)]
pub struct CatchLimits {
    /// On its bytes.
    pub bytes: u64,
    /// And on the time that it takes.
    pub time: Duration,
}

impl Default for CatchLimits {
    fn default() -> CatchLimits {
        CatchLimits { bytes: 100_000_000, time: Duration::from_secs(60) }
    }
}

/// What is watched, and who looks closer.
pub struct LiveCloser {
    live: Live,
    names: Names,
    /// What captures say has made them.
    tool: String,
    lens: Option<Prober>,
    /// How often it was said that nothing was looked at for a while.
    told: u64,
    limits: CatchLimits,
    catch: Option<Catching>,
}

/// A capture that is being made.
struct Catching {
    catch: Catch<Arc<File>>,
    file: Arc<File>,
    name: String,
    /// `None`: a time that does not come.
    until: Option<Instant>,
}

impl LiveCloser {
    /// Nobody looks yet. Captures have these names, and say that this tool has made them.
    pub fn new(live: Live, names: Names, tool: &str) -> LiveCloser {
        let limits = CatchLimits::default();
        LiveCloser { live, names, tool: tool.to_owned(), lens: None, told: 0, limits, catch: None }
    }

    /// Limits on captures that are yet to be made.
    pub fn set_limits(&mut self, limits: CatchLimits) {
        self.limits = limits;
    }

    /// Ends a capture that is being made. A line about it.
    pub fn end(&mut self) -> Option<String> {
        let end = self.caught(true)?.end?;
        Some(end.unwrap_or_else(|e| e))
    }
}

impl Catching {
    fn step(&mut self, live: &Live, over: bool) -> CatchNews {
        let going = match self.catch.step(live) {
            Ok(true) => Ok(!over && self.until.is_none_or(|until| Instant::now() < until)),
            Ok(false) => Ok(false),
            Err(e) => Err(anyhow!(e).context("write the capture")),
        };
        let end = match going {
            Ok(true) => None,
            Ok(false) => Some(self.catch.end(live)),
            Err(e) => Some(Err(e)),
        };
        let totals = match end {
            Some(Err(_)) => self.catch.totals_unwritten(live),
            _ => self.catch.totals(live),
        };
        let end = end.map(|end| match end {
            Ok(totals) => Ok(self.line(&totals)),
            Err(e) => {
                let whole = self.file.set_len(self.catch.whole()).context("cut off half a packet");
                let kept = whole.map_or_else(|e| format!("{e:#}"), |()| "the rest is whole".into());
                Err(format!("{e:#}; {kept}: {}: {}", totals.words(), self.name))
            }
        });
        let (bytes, lost) = (self.catch.length(), totals.caught.lost());
        CatchNews { packets: totals.written, bytes, lost, end }
    }

    /// What there is to say in the end.
    fn line(&self, totals: &Totals) -> String {
        let bytes = units::bytes(self.catch.length(), Base::Si);
        let lost = totals.caught.lost();
        // What a narrow screen cuts off is the name.
        let counts = format!("{} packets, {bytes}, {lost} lost", totals.written);
        let line = format!("{counts}: {}: {}", self.name, totals.words());
        [line].into_iter().chain(totals.remarks()).collect::<Vec<_>>().join("; ")
    }
}

impl Source for LiveCloser {
    fn read(&mut self) -> Result<Reading> {
        Source::read(&mut self.live)
    }

    fn follow(&mut self) -> Vec<String> {
        let mut notices = Source::follow(&mut self.live);
        // Interfaces may have come, and what has lapsed begins again.
        if let Some(prober) = &mut self.lens {
            // Where he cannot is a notice.
            let _ = self.live.probe(prober);
            notices.extend(prober.untimed().map(|why| format!("no round-trip times: {why}")));
            if prober.lapses() > self.told {
                self.told = prober.lapses();
                let text = "this process was stopped for a while: no packet was looked into";
                notices.push(text.to_owned());
            }
        }
        if let Some(catching) = &mut self.catch {
            catching.catch.follow(&mut self.live);
        }
        notices.extend(self.live.notices());
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
            let wish = Wish { filter: rows.clone(), lens: true, rtt: true, ..Wish::default() };
            let mut prober = Prober::new(wish)?;
            self.live.probe(&mut prober)?;
            (self.lens, self.told) = (Some(prober), 0);
        }
        Ok(())
    }

    fn seen(&mut self) -> Result<Option<Lens>> {
        self.lens.as_ref().map(|prober| self.live.lens(prober)).transpose()
    }

    fn catch(
        &mut self,
        rows: &Filter,
        to: File,
        keep: &dyn Fn() -> Result<String>,
    ) -> Result<String> {
        self.caught(true);
        self.live.check_probe(rows)?;
        let wish = Wish {
            filter: rows.clone(),
            ring: Some(RING),
            snaplen: contract::SNAPLEN,
            limit: LIMIT,
            ..Wish::default()
        };
        let prober = Prober::new(wish)?;
        let file = Arc::new(to);
        let writer = PcapngWriter::new(Arc::clone(&file), &self.tool);
        let manner = CatchManner {
            names: self.names.clone(),
            cutter: None,
            snaplen: prober.snaplen(),
            most: None,
            room: Some(self.limits.bytes),
        };
        let mut catch = Catch::begin(&mut self.live, prober, writer, manner)?;
        // Only now: where nothing can be captured no file is left.
        let name = keep().inspect_err(|_| catch.leave(&self.live))?;
        let until = Instant::now().checked_add(self.limits.time);
        self.catch = Some(Catching { catch, file, name: name.clone(), until });
        Ok(name)
    }

    fn caught(&mut self, over: bool) -> Option<CatchNews> {
        let catching = self.catch.as_mut()?;
        let news = catching.step(&self.live, over);
        if news.end.is_some() {
            catching.catch.leave(&self.live);
            self.catch = None;
        }
        Some(news)
    }
}
