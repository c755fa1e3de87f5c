// SPDX-License-Identifier: MIT OR Apache-2.0
//! A stream of frames, as in pipes and files: [`MAGIC`], then frames, each preceded by its length,
//! all of it compressed with Zstandard.
//!
//! The stream consists of blocks with at most [`PER_BLOCK`] readings. Each block is a Zstandard
//! frame that begins with the magic, ends with a checksum, and is flushed after every reading, so
//! everything flushed survives truncation. After each block, a skippable frame describes it and
//! says where it began, so that a file can be read backwards. `zstd -d` gives the uncompressed
//! stream.
use std::{
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Frame, MOST_BYTES, ZSTD, decode, nanoseconds};

/// The beginning of the uncompressed stream, and of each of its blocks.
pub const MAGIC: &[u8; 6] = b"tmon1\n";
/// Limit on the readings of a block.
pub const PER_BLOCK: usize = 60;
/// A block is ended beyond this size, so that its trailer can be found from the end of the file.
const BLOCK: u64 = 8 << 20;
/// The largest window accepted, as a power of two.
pub(super) const WINDOW: u32 = 23;
/// Limit on what may precede the magic: output of a login shell.
const GREETING: usize = 4096;
/// The compression level: zstd's default.
const LEVEL: i32 = 3;
/// A skippable frame (RFC 8878, section 3.1.2): its magic. The contents are the length of the
/// block, the number of frames, and the times of the first and the last one.
pub(super) const SKIPPABLE: u32 = 0x184d_2a50;
pub(super) const TRAILER: u32 = 32;

/// Writes frames.
pub struct FrameWriter<W: Write> {
    to: To<W>,
    readings: usize,
    frames: u64,
    /// The times of the first and the last frame with counts.
    span: Option<[SystemTime; 2]>,
}

/// The state: between two blocks, within one, or after an error.
enum To<W: Write> {
    Block(zstd::stream::write::Encoder<'static, Metered<W>>),
    Between(Metered<W>),
    Failed,
}

/// Counts the bytes of a block.
struct Metered<W> {
    to: W,
    bytes: u64,
}

impl<W: Write> Write for Metered<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n = self.to.write(bytes)?;
        self.bytes += n as u64;
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

impl<W: Write> FrameWriter<W> {
    /// Writes to `to`.
    pub fn new(to: W) -> FrameWriter<W> {
        FrameWriter {
            to: To::Between(Metered { to, bytes: 0 }),
            readings: 0,
            frames: 0,
            span: None,
        }
    }

    /// Whether the next frame begins a block, so that the configuration must be repeated.
    pub fn is_between(&self) -> bool {
        matches!(self.to, To::Between(_))
    }

    /// Writes a reading of one host.
    ///
    /// # Errors
    /// Writing fails; all later writes fail as well.
    pub fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.write_all([frame])
    }

    /// Writes a reading of several hosts at one moment.
    ///
    /// # Errors
    /// Writing fails; all later writes fail as well.
    pub fn write_all<'a>(
        &mut self,
        reading: impl IntoIterator<Item = &'a Frame>,
    ) -> io::Result<()> {
        let mut block = match std::mem::replace(&mut self.to, To::Failed) {
            To::Block(block) => block,
            To::Between(mut to) => {
                to.bytes = 0;
                let mut block = zstd::stream::write::Encoder::new(to, LEVEL)?;
                block.include_checksum(true)?;
                block.write_all(MAGIC)?;
                block.flush()?; // so that the first bytes of a file identify it
                block
            }
            To::Failed => return Err(io::Error::other("an earlier write failed")),
        };
        for frame in reading {
            let bytes = frame.encode();
            let mut length = Vec::new();
            prost::encoding::encode_varint(bytes.len() as u64, &mut length);
            block.write_all(&length)?;
            block.write_all(&bytes)?;
            self.frames += 1;
            if frame.told().counts {
                let taken = frame.interval.taken;
                let [first, last] = self.span.unwrap_or([taken; 2]);
                self.span = Some([first.min(taken), last.max(taken)]);
            }
        }
        block.flush()?;
        self.readings += 1;
        let is_long = block.get_ref().bytes >= BLOCK;
        self.to = To::Block(block);
        if self.readings >= PER_BLOCK || is_long { self.end_block() } else { Ok(()) }
    }

    /// Ends the current block, if there is one, so that the file is complete.
    ///
    /// # Errors
    /// Writing fails.
    pub fn end_block(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.to, To::Failed) {
            To::Block(block) => {
                let mut to = block.finish()?;
                let [first, last] = self.span.take().unwrap_or([SystemTime::UNIX_EPOCH; 2]);
                let mut trailer = Vec::with_capacity(8 + TRAILER as usize);
                for word in [SKIPPABLE, TRAILER] {
                    trailer.extend(word.to_le_bytes());
                }
                let says = [to.bytes, self.frames, nanoseconds(first), nanoseconds(last)];
                says.iter().for_each(|n| trailer.extend(n.to_le_bytes()));
                to.write_all(&trailer)?;
                to.flush()?;
                (self.readings, self.frames, self.to) = (0, 0, To::Between(to));
            }
            between => self.to = between,
        }
        Ok(())
    }
}

/// Reads frames.
pub struct FrameReader {
    plain: Box<dyn BufRead + Send>,
    begun: bool,
    whole: bool,
}

impl FrameReader {
    /// Reads from `from`. Up to a few kilobytes before the stream are skipped.
    ///
    /// # Errors
    /// Reading fails, or there is no stream.
    pub fn new(mut from: impl Read + Send + 'static) -> Result<FrameReader> {
        let mut seen = Vec::new();
        let mut byte = [0];
        loop {
            if seen.ends_with(&ZSTD) || seen.ends_with(MAGIC) {
                break;
            }
            ensure!(seen.len() < GREETING, "it does not begin like a tmon stream");
            match from.read(&mut byte) {
                Ok(0) => bail!("it ends before a tmon stream begins{}", said(&seen)),
                Ok(_) => seen.push(byte[0]),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        let is_packed = seen.ends_with(&ZSTD);
        let magic = if is_packed { &ZSTD[..] } else { &MAGIC[..] };
        let all = BufReader::with_capacity(1 << 16, Cursor::new(magic.to_vec()).chain(from));
        let plain: Box<dyn BufRead + Send> = if is_packed {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(all)?;
            decoder.window_log_max(WINDOW)?;
            Box::new(BufReader::new(decoder))
        } else {
            Box::new(all)
        };
        Ok(FrameReader { plain, begun: false, whole: false })
    }

    /// Whether this is the beginning of a stream; for a file, `begin` should be its first hundred
    /// bytes or more, if it has as many.
    pub fn knows(begin: &[u8]) -> bool {
        if !begin.starts_with(&ZSTD) {
            return begin.starts_with(MAGIC);
        }
        let mut plain = [0; MAGIC.len()];
        let decoder = zstd::stream::read::Decoder::with_buffer(begin);
        let read = decoder.and_then(|mut d| d.read_exact(&mut plain));
        read.is_ok() && plain == *MAGIC
    }

    /// The next frame; `None` at the end, or where the stream is truncated:
    /// [`FrameReader::is_whole`] tells which.
    ///
    /// # Errors
    /// Reading fails, or a frame is invalid.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        match self.raw() {
            Ok(None) => Ok(None),
            Ok(Some(bytes)) => decode::frame(&bytes).map(Some),
            Err(e) => match e.downcast_ref::<io::Error>().map(io::Error::kind) {
                Some(io::ErrorKind::UnexpectedEof) => Ok(None),
                _ => Err(e),
            },
        }
    }

    /// Whether it ended at the end of a block.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.plain.read_exact(&mut byte).map(|()| byte[0])
    }

    /// The bytes of the next frame; `None` at the end.
    ///
    /// # Errors
    /// See [`FrameReader::next_frame`]; also if the stream is truncated.
    pub(super) fn raw(&mut self) -> Result<Option<Vec<u8>>> {
        loop {
            if self.plain.fill_buf()?.is_empty() {
                self.whole = true;
                return Ok(None);
            }
            let (mut length, mut shift) = (0u64, 0);
            loop {
                let byte = self.byte()?;
                length |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte & 0x80 == 0 {
                    break;
                }
                ensure!(shift < 28, "a frame of more than {MOST_BYTES} bytes");
            }
            let next = self.byte()?;
            if length == u64::from(MAGIC[0]) && next == MAGIC[1] {
                let mut rest = [0; MAGIC.len() - 2];
                self.plain.read_exact(&mut rest)?;
                ensure!(rest[..] == MAGIC[2..], "it does not begin like a tmon stream");
                self.begun = true;
                continue;
            }
            ensure!(self.begun, "it does not begin like a tmon stream");
            ensure!(length <= MOST_BYTES as u64, "a frame of more than {MOST_BYTES} bytes");
            let left = length.checked_sub(1).context("an empty frame")?;
            let mut bytes = vec![next];
            self.plain.by_ref().take(left).read_to_end(&mut bytes)?;
            if (bytes.len() as u64) < length {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            return Ok(Some(bytes));
        }
    }
}

/// The last line of the output that came instead of a stream.
fn said(seen: &[u8]) -> String {
    let text = String::from_utf8_lossy(seen);
    let line = text.lines().rev().find(|l| !l.trim().is_empty());
    line.map_or_else(String::new, |l| format!(": {}", l.chars().take(200).collect::<String>()))
}
