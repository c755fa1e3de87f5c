// SPDX-License-Identifier: MIT OR Apache-2.0
//! Where snapshots come from: live, attached or a capture.
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};

use crate::{
    attach::{Attachment, Want},
    bpf::{Config, Packet, Program, Start},
    flow::Hook,
    netlink::Netlink,
    netns::Netns,
    pcap::{Body, Frame, LinkType, ReadError, Reader},
    snapshot::{HookKind, Interface, Rows, Snapshot},
    units::sanitize,
};

/// One interface being watched.
struct Watched {
    name: String,
    ifindex: u32,
    netns: Option<String>,
    program: Program,
    attachment: Option<Attachment>,
    hook: HookKind,
}

/// Interfaces that this process watches itself. Dropping it takes the programs off.
pub struct Live {
    watched: Vec<Watched>,
    since: SystemTime,
    start: Instant,
}

/// ARPHRD numbers of interfaces whose frames begin with an Ethernet header.
const ETHERNET: [u16; 2] = [1, 772];

impl Live {
    /// Loads and attaches to every interface named, in the named network namespace or the caller's;
    /// with none named, to those that carry tunnels, else to the default route's.
    ///
    /// # Errors
    /// One of them is not there, or not to be had: nothing stays attached.
    pub fn open(names: &[String], netns: Option<&str>, config: &Config, want: Want) -> Result<Live> {
        let space = netns.map(Netns::open).transpose()?;
        let found;
        let names = if names.is_empty() {
            found = underlays(space.as_ref())?;
            &found
        } else {
            names
        };
        let watched = names.iter().map(|name| watch(name, space.as_ref(), config, want)).collect::<Result<_>>()?;
        Ok(Live { watched, since: SystemTime::now(), start: Instant::now() })
    }

    /// Totals now.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn read(&mut self) -> Result<Snapshot> {
        let mut interfaces = Vec::with_capacity(self.watched.len());
        let mut rows = Rows::default();
        for (i, w) in self.watched.iter().enumerate() {
            let fill = w.program.rows(i as u16, &mut rows)?;
            interfaces.push(Interface {
                name: w.name.clone(),
                ifindex: w.ifindex,
                netns: w.netns.clone(),
                hook: w.hook,
                books: w.program.books().with_context(|| format!("read the counters of {}", sanitize(&w.name)))?,
                fill,
            });
        }
        Ok(Snapshot { since: self.since, taken: SystemTime::now(), at: self.start.elapsed(), interfaces, rows })
    }

    /// Takes the programs off; what was counted can still be read.
    pub fn detach(&mut self) {
        for w in &mut self.watched {
            w.attachment = None;
        }
    }
}

fn netlink(netns: Option<&Netns>) -> Result<Netlink> {
    match netns {
        Some(n) => Netlink::open_in(n),
        None => Netlink::open(),
    }
}

/// The interfaces below the tunnel devices that are up; where there are none, the default route's.
fn underlays(netns: Option<&Netns>) -> Result<Vec<String>> {
    let mut netlink = netlink(netns)?;
    let mut found = BTreeSet::new();
    for tunnel in netlink.tunnels()?.iter().filter(|t| t.up) {
        found.extend(netlink.underlay_of(tunnel)?);
    }
    if found.is_empty() {
        found.extend(netlink.default_route_interface()?);
    }
    let mut names = Vec::new();
    for index in found {
        names.extend(netlink.link_by_index(index)?.map(|l| l.name));
    }
    if names.is_empty() {
        bail!("there is no tunnel device and no default route here: name the interface to watch");
    }
    Ok(names)
}

fn watch(name: &str, netns: Option<&Netns>, config: &Config, want: Want) -> Result<Watched> {
    let shown = sanitize(name);
    let place = netns.map_or(String::new(), |n| format!(" in network namespace {}", sanitize(n.name())));
    let links = netlink(netns)?.links()?;
    let link = links.iter().find(|l| l.name == name).ok_or_else(|| {
        let known: Vec<_> = links.iter().map(|l| sanitize(&l.name).into_owned()).collect();
        anyhow!("there is no interface {shown}{place}: try one of {}", known.join(", "))
    })?;
    let config = Config { l3: !ETHERNET.contains(&link.arphrd), ..config.clone() };
    let ifindex = link.index;
    let program = Program::load(&config)?;
    let attachment = Attachment::new(&program, ifindex, netns, want).with_context(|| format!("cannot watch {shown}{place}"))?;
    Ok(Watched {
        name: name.to_owned(),
        ifindex,
        netns: netns.map(|n| n.name().to_owned()),
        hook: attachment.kind(),
        attachment: Some(attachment),
        program,
    })
}

/// A capture file, judged by the same BPF object.
pub struct Replay {
    program: Program,
    reader: Reader,
    name: String,
    first: Option<Duration>,
    last: Duration,
    frames: u64,
    /// Frames by link type that nobody here reads.
    unread: BTreeMap<u16, u64>,
}

impl Replay {
    /// Opens a capture, or standard input for `-`.
    ///
    /// # Errors
    /// It is not there or not a capture; the BPF object cannot be loaded.
    pub fn open(path: &Path, config: &Config) -> Result<Replay> {
        let shown = path.to_string_lossy();
        let reader = Reader::open(path).map_err(|e| broken(&shown, &e))?;
        let name = path.file_name().map_or(shown.as_ref().into(), |n| n.to_string_lossy()).into_owned();
        let program = Program::load(&Config { replay: true, ..config.clone() })?;
        Ok(Replay { program, reader, name, first: None, last: Duration::ZERO, frames: 0, unread: BTreeMap::new() })
    }

    /// Runs frames until the capture ends, or until `enough(self)` says so after a frame. Returns
    /// whether there is more.
    ///
    /// # Errors
    /// The capture cannot be read on; everything before that is counted.
    pub fn run(&mut self, mut enough: impl FnMut(&Replay) -> bool) -> Result<bool> {
        loop {
            match self.reader.next_frame() {
                Ok(Some(frame)) => {
                    self.program.run(Hook::Rx, &packet(&frame)).with_context(|| format!("frame {} of {}", self.frames + 1, self.name))?;
                    self.first.get_or_insert(frame.time);
                    self.last = self.last.max(frame.time);
                    self.frames += 1;
                    if let LinkType::Unknown(n) = frame.link {
                        *self.unread.entry(n).or_default() += 1;
                    }
                }
                Ok(None) => return Ok(false),
                Err(e) => return Err(broken(&self.name, &e)),
            }
            if enough(self) {
                return Ok(true);
            }
        }
    }

    /// What is to be said about the capture, a line each.
    pub fn notes(&self) -> Vec<String> {
        let name = sanitize(&self.name);
        let unread = self.unread.iter();
        let mut notes: Vec<_> = unread
            .map(|(link, n)| format!("{name}: {n} frames of link type {link}, which tmon does not read, are counted as non_ip"))
            .collect();
        match self.reader.contradictions() {
            0 => {}
            n => notes.push(format!("{name}: {n} frames say that they were shorter than what was captured; they count as captured")),
        }
        notes
    }

    /// Frames run so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// Bytes of the file read so far, and its size where it is known.
    pub fn position(&self) -> (u64, Option<u64>) {
        (self.reader.position(), self.reader.size())
    }

    /// The capture's own clock: from its first frame to its last so far.
    pub fn elapsed(&self) -> Duration {
        self.last.saturating_sub(self.first.unwrap_or_default())
    }

    /// Totals so far, in the capture's own time.
    ///
    /// # Errors
    /// A table cannot be read.
    pub fn read(&self) -> Result<Snapshot> {
        let mut rows = Rows::default();
        let fill = self.program.rows(0, &mut rows)?;
        let time = |t: Duration| SystemTime::UNIX_EPOCH.checked_add(t).unwrap_or(SystemTime::UNIX_EPOCH);
        let first = self.first.unwrap_or_default();
        Ok(Snapshot {
            since: time(first),
            taken: time(self.last.max(first)),
            at: self.elapsed(),
            interfaces: vec![Interface {
                name: self.name.clone(),
                ifindex: 0,
                netns: None,
                hook: HookKind::Replay,
                books: self.program.books()?,
                fill,
            }],
            rows,
        })
    }
}

fn broken(name: &str, e: &ReadError) -> anyhow::Error {
    anyhow!("{}: {e}", sanitize(name))
}

fn packet<'a>(frame: &Frame<'a>) -> Packet<'a> {
    let body = frame.body();
    let link_len = frame.link_header_len() as u32;
    let (data, start) = match body {
        Body::Ethernet(b) => (b, Start::Ethernet),
        Body::Ip(b) => (b, Start::Ip),
        Body::Typed { ethertype, payload } => (payload, Start::EtherType(ethertype)),
        Body::NonIp => (frame.data, Start::EtherType(0)),
        Body::Truncated => (&[][..], Start::Ethernet),
    };
    Packet { data, wire_len: frame.orig_len.saturating_sub(link_len), start, link_len, gso_segs: 0, gso_size: 0 }
}
