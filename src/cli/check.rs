// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon check`.
use std::{io::Write, path::PathBuf};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{TOOL, out};
use crate::kernel::{
    check::{self, CheckLine, Mark},
    discover::NetnsView,
    live::by_namespace,
    misfit::misfits,
    netlink::Netlink,
    netns::NetnsHandle,
    origin,
    pin::{BPFFS, Pins},
};
use export::json::{self, DocumentHead};
use model::units::sanitize;

#[derive(Args, Debug)]
pub(super) struct Check {
    /// Interfaces to check [default: underlays of the tunnel devices found, or the default route's
    /// interface]
    #[arg(value_name = "IFACE", add = clap_complete::engine::ArgValueCandidates::new(super::values::interfaces))]
    interfaces: Vec<String>,
    /// Network namespace of the interfaces: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS", add = clap_complete::engine::ArgValueCandidates::new(super::values::namespaces))]
    netns: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    /// Mount point of the bpffs
    #[arg(long, value_name = "FOLDER", default_value = BPFFS, hide = true)]
    bpffs: PathBuf,
}

/// What `--json` prints.
#[derive(Serialize)]
struct Report<'a> {
    #[serde(flatten)]
    head: DocumentHead<'static>,
    checks: Vec<Entry<'a>>,
    ok: usize,
    warn: usize,
    fail: usize,
}

#[derive(Serialize)]
struct Entry<'a> {
    /// Null if the check is about the host.
    interface: Option<&'a str>,
    about: &'static str,
    status: &'static str,
    what: &'a str,
    /// Null if there is nothing to do.
    advice: Option<&'a str>,
}

impl<'a> Entry<'a> {
    fn of(line: &'a CheckLine) -> Entry<'a> {
        let CheckLine { interface, about, mark, what, advice } = line;
        Entry {
            interface: interface.as_deref(),
            about,
            status: mark.name(),
            what,
            advice: advice.as_deref(),
        }
    }
}

impl Check {
    /// Returns exit status 1 if a check fails.
    pub(super) fn run(&self) -> Result<u8> {
        let pins = Pins::at(&self.bpffs);
        let mut lines = check::host(&pins);
        for (netns, names) in by_namespace(&self.interfaces, self.netns.as_deref())? {
            self.interfaces_in(netns, &names, &pins, &mut lines)?;
        }
        let count = |mark| lines.iter().filter(|l| l.mark == mark).count();
        let [ok, warn, fail] = [Mark::Ok, Mark::Warn, Mark::Fail].map(count);
        if self.json {
            let head = DocumentHead::new(TOOL, origin::host());
            let checks = lines.iter().map(Entry::of).collect();
            json::line(&mut out::raw(), &Report { head, checks, ok, warn, fail })?;
        } else {
            let mut out = out::people();
            for l in &lines {
                let subject = l.interface.as_deref().unwrap_or("host");
                writeln!(out, "{:<5} {subject:<10} {:<11} {}", l.mark.name(), l.about, l.what)?;
                if let Some(advice) = &l.advice {
                    writeln!(out, "{:<28} try: {advice}", "")?;
                }
            }
            writeln!(out, "{ok} ok, {warn} warn, {fail} fail")?;
        }
        Ok(u8::from(fail > 0))
    }

    fn interfaces_in(
        &self,
        netns: Option<&str>,
        names: &[String],
        pins: &Pins,
        lines: &mut Vec<CheckLine>,
    ) -> Result<()> {
        let place = NetnsHandle::open(netns)?;
        let words = place
            .name()
            .map_or(String::new(), |n| format!(" in network namespace {}", sanitize(n)));
        let mut netlink = Netlink::open_inside(&place)?;
        let scene = NetnsView::read_with_moved(&place, &mut netlink)?;
        let line = |mark, what: String, advice: Option<&str>| CheckLine {
            interface: None,
            about: "interfaces",
            mark,
            what,
            advice: advice.map(str::to_owned),
        };
        match scene.choose(names, &words) {
            Ok(choice) => {
                lines.extend(choice.notices.into_iter().map(|n| line(Mark::Ok, n, None)));
                for link in &choice.links {
                    lines.extend(check::interface(&scene, link, &place, &mut netlink, pins)?);
                }
                lines.extend(misfits(&scene, &place, &mut netlink)?);
            }
            // That there is nothing to watch is not a fault of the host; a name that does not exist
            // is an error of the caller.
            Err(e) if self.interfaces.is_empty() => {
                lines.push(line(Mark::Warn, format!("{e:#}"), Some("`tmon check IFACE`")))
            }
            Err(e) => return Err(e),
        }
        Ok(())
    }
}
