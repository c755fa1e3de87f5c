// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon capture` from interfaces.
use std::{
    sync::atomic::Ordering,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};

use super::{
    TOOL, Usage,
    capture::{Capture, Target, is_closed},
    dump::tell,
    interrupted, out, say,
};
use crate::kernel::{
    attach::Want,
    catch::{Catch, CatchManner, LIMIT, RING},
    live::Live,
    probe::{Prober, Wish},
    sandbox::Sandbox,
};
use feed::{
    cutting::{Cutter, PacketCut},
    names::Names,
    pcapng::PcapngWriter,
};

/// How long a slow reader has at the end to read what has not been written yet.
const LATE: Duration = Duration::from_secs(5);
/// Bytes of headers that are captured in addition to the snapshot length.
const HEADERS: u32 = 1024;

impl Capture {
    /// Captures packets at interfaces.
    pub(super) fn catch(&self, interfaces: &[String], filter: Option<&str>) -> Result<()> {
        let names = Names::read(self.names.as_deref())?;
        let meant = self.meant(filter, &names)?;
        let cut = PacketCut::new(meant.as_ref(), self.decap());
        let limit = self.live.limit.unwrap_or(LIMIT);
        let dropped = self.live.dropped;
        if dropped && meant.as_ref().is_some_and(|filter| filter.rows.names_interfaces()) {
            let what = "`iface:` cannot select dropped packets, which may be dropped at any device: \
                        leave it out, and name an interface of the namespace instead";
            bail!(Usage(what.to_owned()));
        }
        if !dropped && meant.as_ref().is_some_and(|filter| filter.rows.is_empty()) {
            say(&match limit {
                0 => "capturing every packet in a tunnel, without a rate limit".to_owned(),
                n => format!("capturing every packet in a tunnel, at most {} per second", n),
            });
        }
        let snaplen = self.snaplen.unwrap_or(contract::SNAPLEN);
        let wish = Wish {
            no_rows: meant.is_none(),
            filter: meant.map(|filter| filter.rows).unwrap_or_default(),
            stops: self.stops,
            ring: Some(self.live.ring.unwrap_or(RING)),
            // To match on inner headers or strip outer ones, the headers must be captured as well.
            snaplen: if cut.looks() { snaplen.saturating_add(HEADERS) } else { snaplen },
            limit,
            lens: false,
            rtt: false,
        };
        let (target, shown, to) = self.target()?;
        let flag = interrupted()?;
        let config = self.counting.config();
        let begin = || {
            let cutter = cut.looks().then(|| Cutter::new(cut, &config)).transpose()?;
            let manner = CatchManner { names, cutter, snaplen, most: self.count, room: None };
            let writer = PcapngWriter::new(&target, TOOL);
            let open = || Live::open(interfaces, self.live.netns.as_deref(), &config, Want::Best);
            if dropped {
                let mut live = open()?;
                return Ok((Catch::begin_drops(&mut live, &wish, writer, manner)?, live));
            }
            let prober = Prober::new(wish)?;
            let mut live = open()?;
            Ok::<_, anyhow::Error>((Catch::begin(&mut live, prober, writer, manner)?, live))
        };
        let (mut catch, mut live) = begin().inspect_err(|_| self.discard(&target))?;
        live.enter(&Sandbox::new(None))?;
        tell(&mut live);
        say(&match dropped {
            true => format!("listening on {} for dropped packets", live.shown_interfaces()),
            false => format!("listening on {}", live.shown_interfaces()),
        });
        let end = self.live.span.and_then(|span| Instant::now().checked_add(span));
        let is_late = move |by| end.is_some_and(|end| Instant::now() >= end + by);
        // A reader may be slow, but must not block forever.
        out::until_it_is(move || is_late(LATE));
        let is_over = || flag.load(Ordering::Relaxed) || is_late(Duration::ZERO);
        let done = self.follow(&mut catch, &mut live, is_over);
        let done = done.and_then(|()| catch.end(&live));
        let totals = match done {
            Ok(totals) => totals,
            Err(e) if is_closed(&e) => {
                say(match is_over() {
                    true => "the reader of the capture did not read all of it",
                    false => "the reader of the capture has closed it",
                });
                catch.totals_unwritten(&live)
            }
            Err(e) => {
                let totals = catch.totals_unwritten(&live);
                catch.leave(&live);
                let kept = target.cut(catch.whole(), &shown)?;
                say(&format!("{}{to}", totals.words()));
                return Err(e).context(kept);
            }
        };
        catch.leave(&live);
        say(&format!("{}{to}", totals.words()));
        totals.remarks().iter().for_each(|remark| say(remark));
        Ok(())
    }

    fn follow(
        &self,
        catch: &mut Catch<&Target>,
        live: &mut Live,
        is_over: impl Fn() -> bool,
    ) -> Result<()> {
        const FOLLOWING: Duration = Duration::from_millis(250);
        const PAUSE: Duration = Duration::from_millis(5);
        let mut followed = Instant::now();
        while !is_over() {
            let before = catch.length();
            if !catch.step(live).context("write the capture")? {
                break;
            }
            if followed.elapsed() >= FOLLOWING {
                followed = Instant::now();
                live.follow();
                catch.follow(live);
                tell(live);
            }
            if catch.length() == before {
                thread::sleep(PAUSE);
            }
        }
        Ok(())
    }
}
