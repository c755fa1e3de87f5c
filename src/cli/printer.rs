// SPDX-License-Identifier: MIT OR Apache-2.0
//! Prints readings on standard output, in the requested format and with names.
use std::{
    io::{self, IsTerminal},
    net::IpAddr,
    sync::Arc,
    time::Duration,
};

use anyhow::Result;

use super::{Looking, Print, TOOL, Written};
use export::{Excerpt, Writer, table};
use feed::{names::Names, series::Series};
use model::{filter::Filter, groups::Groups, lens::Lens, snapshot::Interval, units::Base};

/// How long a reading waits for names that are being looked up.
const RESOLVE: Duration = Duration::from_secs(2);

/// Prints readings to standard output.
pub(super) struct Printer<'a> {
    writer: Writer<'a>,
    print: &'a Print,
    filter: Filter,
    names: Names,
    groups: Arc<Groups>,
    looking: Looking,
}

impl<'a> Printer<'a> {
    pub(super) fn new(out: &'a mut dyn io::Write, print: &'a Print, local: bool) -> Result<Self> {
        // A serial console reports zero columns.
        let columns = || {
            crossterm::terminal::size()
                .ok()
                .map(|s| usize::from(s.0))
                .filter(|w| *w > 0)
                .unwrap_or(80)
        };
        let width = io::stdout().is_terminal().then(columns);
        let options =
            table::TableOptions { width, base: if print.iec { Base::Iec } else { Base::Si } };
        let (names, mut looking) = print.naming.read(local)?;
        let groups = print.grouped.read()?.unwrap_or_default();
        let filter = print.filter.filter(&names, &groups, &mut looking)?;
        Ok(Printer {
            writer: Writer::new(out, print.format(), options),
            print,
            filter,
            names,
            groups,
            looking,
        })
    }

    /// The names of addresses; names found later are added to them.
    #[cfg(feature = "live")]
    pub(super) fn names(&self) -> Names {
        self.names.clone()
    }

    /// Resolves an expression.
    pub(super) fn filter(&mut self, written: &Written) -> Result<Filter> {
        written.filter(&self.names, &self.groups, &mut self.looking)
    }

    #[cfg(feature = "live")]
    pub(super) fn print(&mut self, interval: &Interval, findings: Option<&Series>) -> Result<()> {
        self.print_lens(interval, findings, None)
    }

    /// Prints a reading with what the packets of some rows contain.
    pub(super) fn print_lens(
        &mut self,
        interval: &Interval,
        findings: Option<&Series>,
        lens: Option<&Lens>,
    ) -> Result<()> {
        if self.filter.takes_names() {
            // Group membership by name decides which rows match.
            self.names.settle(hosts(interval).map(|host| (host, false)), RESOLVE);
            self.groups.learn(hosts(interval), |host| self.names.address(host, false));
            self.filter.learn(&self.groups);
        }
        let mut reading = Excerpt::new(TOOL, interval, &self.filter).looking(lens);
        if let Some(series) = findings {
            reading = reading.with(series.findings());
        }
        if !self.print.naming.numeric {
            self.looking.here();
            let outer = reading
                .flows
                .iter()
                .filter_map(|f| f.key.outer)
                .flat_map(|p| [(p.first, false), (p.second, false)]);
            let inner = reading
                .flows
                .iter()
                .filter_map(|f| f.key.inner.pair())
                .flat_map(|p| [(p.first, true), (p.second, true)]);
            self.names.settle(outer.chain(inner), RESOLVE);
            reading = reading.called(&self.names);
        }
        self.groups.learn(hosts(interval), |host| self.names.address(host, false));
        reading = reading.grouped(self.groups.clone());
        Ok(self.writer.write(&reading)?)
    }
}

/// The outer addresses of an interval's rows.
fn hosts(interval: &Interval) -> impl Iterator<Item = IpAddr> {
    let pairs = interval.rows.walk().filter_map(|row| row.outer());
    pairs.flat_map(|pair| [pair.first, pair.second])
}
