// SPDX-License-Identifier: MIT OR Apache-2.0
//! Live interfaces as a source whose packets can be examined and captured.
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

/// Limits on a capture made from the dashboard.
#[derive(Clone, Copy, Debug)]
pub struct CatchLimits {
    /// The maximum number of bytes.
    pub bytes: u64,
    /// The maximum duration.
    pub time: Duration,
}

impl Default for CatchLimits {
    fn default() -> CatchLimits {
        CatchLimits { bytes: 100_000_000, time: Duration::from_secs(60) }
    }
}

/// The live source, and what examines its packets.
pub struct LiveCloser {
    live: Live,
    names: Names,
    /// The program that captures name as their writer.
    tool: String,
    lens: Option<Prober>,
    /// How many lapses of examination have been reported.
    told: u64,
    limits: CatchLimits,
    catch: Option<Catching>,
}

/// A capture in progress.
struct Catching {
    catch: Catch<Arc<File>>,
    file: Arc<File>,
    name: String,
    /// The deadline; `None` if it is too far away to represent.
    until: Option<Instant>,
}

impl LiveCloser {
    /// Nothing is examined yet. Captures contain these names, and `tool` as their writer.
    pub fn new(live: Live, names: Names, tool: &str) -> LiveCloser {
        let limits = CatchLimits::default();
        LiveCloser { live, names, tool: tool.to_owned(), lens: None, told: 0, limits, catch: None }
    }

    /// Sets the limits for later captures.
    pub fn set_limits(&mut self, limits: CatchLimits) {
        self.limits = limits;
    }

    /// Ends a capture in progress, and returns a line about it.
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
                let whole =
                    self.file.set_len(self.catch.whole()).context("remove an incomplete packet");
                let kept =
                    whole.map_or_else(|e| format!("{e:#}"), |()| "the rest is complete".into());
                Err(format!("{e:#}; {kept}: {}: {}", totals.words(), self.name))
            }
        });
        let (bytes, lost) = (self.catch.length(), totals.caught.lost());
        CatchNews { packets: totals.written, bytes, lost, end }
    }

    /// The line about a capture that has ended.
    fn line(&self, totals: &Totals) -> String {
        let bytes = units::bytes(self.catch.length(), Base::Si);
        let lost = totals.caught.lost();
        // The name comes last, because a narrow screen cuts off the end.
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
        // Interfaces may have appeared, and probes that have lapsed start again.
        if let Some(prober) = &mut self.lens {
            // Failures become notices.
            let _ = self.live.probe(prober);
            notices.extend(prober.untimed().map(|why| format!("no round-trip times: {why}")));
            if prober.lapses() > self.told {
                self.told = prober.lapses();
                let text =
                    "this process was stopped for a while, during which no packets were examined";
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
        // Only now, so that no file is left if nothing can be captured.
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
