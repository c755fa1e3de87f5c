// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames one after another, as a pipe and a file carry them: [`MAGIC`], then each frame behind its
//! length, all of it in Zstandard.
//!
//! It comes in blocks of at most [`PER_BLOCK`] readings, each a Zstandard frame of its own that begins
//! with the magic, ends with a checksum, and is flushed behind every reading: whatever is cut off, what
//! was flushed can be read. Behind each block a skippable frame says what is in it and where it began, so that a file can
//! be walked backwards. `zstd -d` gives the plain stream.
use std::{
    io::{self, BufRead, BufReader, Cursor, Read, Write},
    time::SystemTime,
};

use anyhow::{Context, Result, bail, ensure};

use super::{Frame, MOST_BYTES, ZSTD, decode, nanoseconds};

/// How the plain stream begins, and each of its blocks.
pub const MAGIC: &[u8; 6] = b"tmon1\n";
/// Limit on the readings of a block.
pub const PER_BLOCK: usize = 60;
/// A block that has so many bytes ends, so that what stands behind it is found from the end.
const BLOCK: u64 = 8 << 20;
/// The largest window that may be asked for, as a power of two.
pub(super) const WINDOW: u32 = 23;
/// What may come before the magic: a login shell's greetings.
const GREETING: usize = 4096;
/// How hard to compress: zstd's own default.
const LEVEL: i32 = 3;
/// A skippable frame (RFC 8878, section 3.1.2): its magic, and what ours says: bytes of the block,
/// frames, when the first and the last were taken.
pub(super) const SKIPPABLE: u32 = 0x184d_2a50;
pub(super) const TRAILER: u32 = 32;

/// Writes frames.
pub struct FrameWriter<W: Write> {
    to: To<W>,
    readings: usize,
    frames: u64,
    /// When what counts was taken, at first and at last.
    span: Option<[SystemTime; 2]>,
}

/// Between two blocks, within one, or after an error.
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
    /// Writes there.
    pub fn new(to: W) -> FrameWriter<W> {
        FrameWriter {
            to: To::Between(Metered { to, bytes: 0 }),
            readings: 0,
            frames: 0,
            span: None,
        }
    }

    /// The next frame would begin a block: what was said before is to be said again.
    pub fn is_between(&self) -> bool {
        matches!(self.to, To::Between(_))
    }

    /// Writes a reading of one host, all of it.
    ///
    /// # Errors
    /// It cannot be written. Nothing can any more.
    pub fn write(&mut self, frame: &Frame) -> io::Result<()> {
        self.write_all([frame])
    }

    /// Writes a reading, what several hosts tell of one moment.
    ///
    /// # Errors
    /// It cannot be written. Nothing can any more.
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
                block.flush()?; // so that the first bytes of a file say what it is
                block
            }
            To::Failed => return Err(io::Error::other("it could not be written to before")),
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

    /// Ends a block, if there is one, so that the file is whole.
    ///
    /// # Errors
    /// It cannot be written.
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
    /// Reads from there. What comes before the stream is skipped, a few kilobytes of it.
    ///
    /// # Errors
    /// It cannot be read, or there is no such stream.
    pub fn new(mut from: impl Read + Send + 'static) -> Result<FrameReader> {
        let mut seen = Vec::new();
        let mut byte = [0];
        loop {
            if seen.ends_with(&ZSTD) || seen.ends_with(MAGIC) {
                break;
            }
            ensure!(seen.len() < GREETING, "it does not begin as a stream of tmon's does");
            match from.read(&mut byte) {
                Ok(0) => bail!("it ends before a stream of tmon's begins{}", said(&seen)),
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

    /// What begins here is a stream of tmon's: of a file, its first bytes, at least a hundred where
    /// there are so many.
    pub fn knows(begin: &[u8]) -> bool {
        if !begin.starts_with(&ZSTD) {
            return begin.starts_with(MAGIC);
        }
        let mut plain = [0; MAGIC.len()];
        let decoder = zstd::stream::read::Decoder::with_buffer(begin);
        let read = decoder.and_then(|mut d| d.read_exact(&mut plain));
        read.is_ok() && plain == *MAGIC
    }

    /// The next frame; `None` at the end, and where the stream is cut off: [`FrameReader::is_whole`]
    /// tells which.
    ///
    /// # Errors
    /// It cannot be read, or what comes is no frame.
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

    /// It ended where a block ends.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    fn byte(&mut self) -> io::Result<u8> {
        let mut byte = [0];
        self.plain.read_exact(&mut byte).map(|()| byte[0])
    }

    /// The bytes of the next frame; `None` at the end of what is there.
    ///
    /// # Errors
    /// As [`FrameReader::next_frame`]; and it is cut off.
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
                ensure!(rest[..] == MAGIC[2..], "it does not begin as a stream of tmon's does");
                self.begun = true;
                continue;
            }
            ensure!(self.begun, "it does not begin as a stream of tmon's does");
            ensure!(length <= MOST_BYTES as u64, "a frame of more than {MOST_BYTES} bytes");
            let left = length.checked_sub(1).context("a frame without a byte")?;
            let mut bytes = vec![next];
            self.plain.by_ref().take(left).read_to_end(&mut bytes)?;
            if (bytes.len() as u64) < length {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
            return Ok(Some(bytes));
        }
    }
}

/// The last line of what came instead.
fn said(seen: &[u8]) -> String {
    let text = String::from_utf8_lossy(seen);
    let line = text.lines().rev().find(|l| !l.trim().is_empty());
    line.map_or_else(String::new, |l| format!(": {}", l.chars().take(200).collect::<String>()))
}
