// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames: one interval of one host, as protobuf in columns (`proto/tmon.proto`). Pipes, files and
//! the bus carry the same.
//!
//! Columns rather than messages: 1,000 busy rows take 16 kB, and a third less when compressed.
//! Counts of the interval rather than totals, which take half as much again; what could not be sent
//! is part of the next, longer interval. Every number, index, count and text of a frame is checked
//! when it is read, because it comes from another host.
mod decode;
mod encode;
mod file;
mod stream;
mod sums;
mod wire;

use std::{
    io::Read,
    net::IpAddr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result, ensure};

pub use self::{
    file::{Damage, FrameFile, block_after, has_frames},
    stream::{FrameReader, FrameWriter, MAGIC, PER_BLOCK},
    sums::{bounded, sums},
};
use model::{
    fleet::Told,
    snapshot::{Interval, unknown_time},
};

/// The version of the meaning of frames.
const SCHEMA: u32 = 1;
/// Limit on the bytes of an uncompressed frame.
pub const MOST_BYTES: usize = 16 << 20;
/// Limit on its rows.
pub const MOST_ROWS: usize = 200_000;
/// Limit on the messages within it, besides the columns.
const MOST_MESSAGES: usize = 200_000;
/// Limit on its interfaces.
const MOST_INTERFACES: usize = 4096;
/// Limit on a host's own addresses.
const MOST_LOCAL: usize = 4096;
/// Limit on the characters of a name or a text.
const MOST_CHARACTERS: usize = 255;
/// The size from which compressing a single frame pays.
const COMPRESSED: usize = 1024;
/// The first bytes of Zstandard data.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The kinds of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FrameKind {
    /// A greeting: the host is there; no rows.
    Hello,
    /// Rows without inner addresses.
    Sum,
    /// Rows.
    #[default]
    Rows,
    /// The host leaves.
    End,
}

/// One interval of one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Its kind.
    pub kind: FrameKind,
    /// Counts up by one with each frame of a sender.
    pub seq: u64,
    /// How long the reading took.
    pub reading: Duration,
    /// How long it was held back after the reading, so that not all hosts send at the same time.
    pub held: Duration,
    /// When it was received, in recordings of several hosts.
    pub heard: Option<SystemTime>,
    /// The estimated error of the host's clock; `None` if it is not synchronised.
    pub clock: Option<Duration>,
    /// The interval between frames.
    pub cadence: Duration,
    /// The host's own addresses; empty if they are unchanged.
    pub local: Vec<IpAddr>,
    /// The program that wrote it: `tmon 0.2.0`.
    pub tool: String,
    /// The interval, with its origin.
    pub interval: Interval,
}

impl Frame {
    /// Its contents as a message to a fleet.
    pub fn told(&self) -> Told<'_> {
        Told {
            interval: &self.interval,
            counts: matches!(self.kind, FrameKind::Rows | FrameKind::Sum),
            local: &self.local,
            seq: self.seq,
            cadence: self.cadence,
            clock: self.clock,
            reading: self.reading,
            tool: &self.tool,
            leaves: self.kind == FrameKind::End,
        }
    }

    /// Encodes it for a pipe or a file, within the limits of readers: if there are too many rows,
    /// small ones are added up by tunnel; if that is not enough, the data beside rows is left out.
    pub fn encode(&self) -> Vec<u8> {
        let fewer = |interval: Interval| Frame { interval, ..self.clone() };
        if self.interval.rows.len() > MOST_ROWS {
            return fewer(sums::within(self.interval.clone(), MOST_ROWS / 4 * 3)).encode();
        }
        let bytes = encode::frame(self);
        if decode::is_read(&bytes) {
            return bytes;
        }
        let mut least = bounded(self.interval.clone());
        (least.beside, least.drops, least.overlay) = Default::default();
        encode::frame(&fewer(least))
    }

    /// Encodes it for the bus: compressed by itself, if that pays.
    pub fn packed(&self) -> Vec<u8> {
        let raw = self.encode();
        if raw.len() < COMPRESSED {
            return raw;
        }
        zstd::bulk::compress(&raw, 3).ok().filter(|p| p.len() < raw.len()).unwrap_or(raw)
    }

    /// Decodes a frame, compressed or not.
    ///
    /// # Errors
    /// It is not a frame, has a later schema, exceeds a limit, or is inconsistent.
    pub fn decode(bytes: &[u8]) -> Result<Frame> {
        if !bytes.starts_with(&ZSTD) {
            return decode::frame(bytes);
        }
        let mut raw = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(bytes)?;
        decoder.window_log_max(stream::WINDOW)?;
        let most = MOST_BYTES as u64 + 1;
        decoder.take(most).read_to_end(&mut raw).context("unpack a frame")?;
        ensure!(raw.len() <= MOST_BYTES, "a frame unpacks to more than {MOST_BYTES} bytes");
        decode::frame(&raw)
    }
}

/// Nanoseconds since 1970; 0 for an unknown time.
fn nanoseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}

fn time(nanoseconds: u64) -> SystemTime {
    match nanoseconds {
        0 => unknown_time(),
        n => UNIX_EPOCH.checked_add(Duration::from_nanos(n)).unwrap_or_else(unknown_time),
    }
}

fn millis(d: Duration) -> u32 {
    u32::try_from(d.as_millis()).unwrap_or(u32::MAX)
}

fn micros(d: Duration) -> u32 {
    u32::try_from(d.as_micros()).unwrap_or(u32::MAX)
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
