// SPDX-License-Identifier: MIT OR Apache-2.0
//! Snapshots of a capture file.
use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow};

use crate::{
    bpf::{Config, Packet, Program, Start},
    flow::{Hook, HookKind},
    pcap::{Body, Frame, LinkType, ReadError, Reader},
    snapshot::{Interface, Rows, Snapshot},
    units::sanitize,
};

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
        let name =
            path.file_name().map_or(shown.as_ref().into(), |n| n.to_string_lossy()).into_owned();
        let program = Program::load(&Config { replay: true, ..config.clone() })?;
        Ok(Replay {
            program,
            reader,
            name,
            first: None,
            last: Duration::ZERO,
            frames: 0,
            unread: BTreeMap::new(),
        })
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
                    self.program
                        .run(Hook::Rx, &packet(&frame))
                        .with_context(|| format!("frame {} of {}", self.frames + 1, self.name))?;
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
        let time =
            |t: Duration| SystemTime::UNIX_EPOCH.checked_add(t).unwrap_or(SystemTime::UNIX_EPOCH);
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
                counted_on: None,
                stale: false,
                attached: None,
                books: self.program.books()?,
                span: self.elapsed(),
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
    Packet {
        data,
        wire_len: frame.orig_len.saturating_sub(link_len),
        start,
        link_len,
        gso_segs: 0,
        gso_size: 0,
    }
}
