// SPDX-License-Identifier: MIT OR Apache-2.0
//! The frames of a file, block by block. A block is verified before it is used; damaged blocks are
//! skipped and reported, and reading continues with the next one.
use std::{
    fs::File,
    io::{self, BufReader, Read},
    ops::Range,
    os::unix::fs::FileExt,
    sync::Arc,
    time::SystemTime,
};

use anyhow::{Result, bail, ensure};
use zstd::stream::read::Decoder;

use super::{
    Frame, FrameReader, MAGIC, MOST_BYTES, PER_BLOCK, ZSTD, decode, nanoseconds,
    stream::{SKIPPABLE, TRAILER, WINDOW},
};

/// The length of what follows a block.
const ALL: usize = 8 + TRAILER as usize;
/// Limit on damaged places: with more of them, a file is not a recording.
const MOST_DAMAGE: usize = 100;
/// How much of an incomplete block is decompressed at a time.
const PIECE: usize = 64;
/// How much is searched at a time for the next block.
const CHUNK: usize = 1 << 20;

/// A part of a file that could not be read.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// Its position.
    pub bytes: Range<u64>,
    /// How many readings it contained, if known.
    pub readings: Option<u64>,
    /// What is wrong with it.
    pub why: String,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Range { start, end } = self.bytes;
        write!(f, "bytes {start} to {end} cannot be read ({}): ", self.why)?;
        match self.readings {
            Some(1) => write!(f, "a reading is lost"),
            Some(n) => write!(f, "{n} readings are lost"),
            None => write!(f, "an unknown number of readings is lost"),
        }
    }
}

/// Reads a file from a position, in pieces of limited size.
struct From(Arc<File>, u64, usize);

impl Read for From {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let most = to.len().min(self.2);
        let n = self.0.read_at(&mut to[..most], self.1)?;
        self.1 += n as u64;
        Ok(n)
    }
}

/// A block that is being read.
struct Block {
    frames: FrameReader,
    /// Where it ends; `None` if its end is missing or not written yet.
    end: Option<u64>,
    read: u64,
}

/// The trailer that follows a block.
struct Trailer {
    at: u64,
    bytes: u64,
    frames: u64,
    last: u64,
}

/// The state of a block.
enum Look {
    Whole(u64),
    /// It extends to the end of the file, or is truncated there.
    Open,
    Damaged(String),
}

/// Reads the frames of a file.
pub struct FrameFile {
    file: Arc<File>,
    begin: u64,
    /// Where the current or the next block begins.
    at: u64,
    block: Option<Block>,
    frames: u64,
    is_cut: bool,
    damage: Vec<Damage>,
}

impl FrameFile {
    /// Starts with the block at this position.
    pub fn new(file: File, begin: u64) -> FrameFile {
        let file = Arc::new(file);
        FrameFile { file, begin, at: begin, block: None, frames: 0, is_cut: false, damage: vec![] }
    }

    /// The next frame; `None` at the end, or where the file is truncated: [`FrameFile::is_whole`]
    /// tells which.
    ///
    /// # Errors
    /// The file cannot be read, or is not a recording at all.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some(block) = &mut self.block else {
                if self.next_block()? {
                    continue;
                }
                if let (0, Some(first)) = (self.frames, self.damage.first()) {
                    bail!("none of it can be read: {}", first.why);
                }
                return Ok(None);
            };
            match (block.frames.raw(), block.end) {
                (Ok(Some(bytes)), end) => {
                    block.read += 1;
                    match decode::frame(&bytes) {
                        Ok(frame) => {
                            self.frames += 1;
                            return Ok(Some(frame));
                        }
                        // The position of the next block is known.
                        Err(e) => {
                            let end = end.map_or_else(|| self.size(), Ok)?;
                            self.lost(end, Some(1), format!("{e:#}"))?;
                        }
                    }
                }
                (Ok(None), Some(end)) => (self.at, self.block) = (end, None),
                (Ok(None), None) => (self.at, self.block) = (self.size()?, None),
                (Err(e), None) if is_end(&e) => {
                    self.is_cut = true;
                    (self.at, self.block) = (self.size()?, None);
                }
                (Err(e), _) => {
                    is_damage(&e)?;
                    self.skip(format!("{e:#}"))?;
                }
            }
        }
    }

    /// Whether it ended at the end of a block.
    pub fn is_whole(&self) -> bool {
        !self.is_cut
    }

    /// What was skipped so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// The number of bytes read.
    pub fn position(&self) -> u64 {
        self.at - self.begin
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Moves to the next block. Returns false at the end.
    fn next_block(&mut self) -> Result<bool> {
        loop {
            let mut head = [0; ALL];
            let read = read_at_most(&self.file, &mut head, self.at)?;
            if read == 0 {
                return Ok(false);
            }
            if is_trailer(&head) && read == ALL {
                self.at += ALL as u64;
                continue;
            }
            let look = match head {
                _ if head.starts_with(MAGIC) => Look::Open, // not compressed
                _ if head.starts_with(&ZSTD) => self.look()?,
                // The end may not have been written yet.
                _ if read < ALL && is_begin_of_trailer(&head[..read]) => {
                    self.at += read as u64;
                    self.is_cut = true;
                    return Ok(false);
                }
                _ => Look::Damaged("no block begins there".to_owned()),
            };
            let end = match look {
                Look::Whole(end) => Some(end),
                Look::Open => None,
                // It is unknown which of its numbers are right.
                Look::Damaged(why) if next_trailer(&self.file, self.at)?.is_some() => {
                    self.skip(why)?;
                    continue;
                }
                // The last block, whose end was never written: frames before the damage are read.
                Look::Damaged(_) if head.starts_with(&ZSTD) => None,
                Look::Damaged(why) => {
                    self.skip(why)?;
                    continue;
                }
            };
            // Damage spoils everything that is decompressed in the same step.
            let most = if end.is_some() { usize::MAX } else { PIECE };
            let from = From(Arc::clone(&self.file), self.at, most);
            let bytes = end.map_or(u64::MAX, |end| end - self.at);
            match FrameReader::new(from.take(bytes)) {
                Ok(frames) => {
                    self.block = Some(Block { frames, end, read: 0 });
                    return Ok(true);
                }
                Err(e) => {
                    is_damage(&e)?;
                    self.skip(format!("{e:#}"))?;
                }
            }
        }
    }

    /// Verifies a block that ends with a checksum.
    fn look(&self) -> Result<Look> {
        let from =
            BufReader::with_capacity(1 << 16, From(Arc::clone(&self.file), self.at, usize::MAX));
        let mut plain = Decoder::with_buffer(from)?.single_frame();
        plain.window_log_max(WINDOW)?;
        let most = (PER_BLOCK * (MOST_BYTES + 5) + MAGIC.len()) as u64;
        match io::copy(&mut plain.by_ref().take(most + 1), &mut io::sink()) {
            Ok(n) if n > most => Ok(Look::Damaged("it is too large when unpacked".to_owned())),
            Ok(_) => {
                let from = plain.finish();
                Ok(Look::Whole(from.get_ref().1 - from.buffer().len() as u64))
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(match next_trailer(&self.file, self.at)? {
                    Some(_) => Look::Damaged("its end is missing".to_owned()),
                    None => Look::Open,
                })
            }
            Err(e) if e.raw_os_error().is_some() => Err(e.into()),
            Err(e) => Ok(Look::Damaged(e.to_string())),
        }
    }

    /// Skips the rest of the current block, up to the next one.
    fn skip(&mut self, why: String) -> Result<()> {
        let read = self.block.take().map_or(0, |block| block.read);
        let begin = self.at;
        let (end, readings) = match next_trailer(&self.file, begin)? {
            None => (self.size()?, None),
            Some(trailer) => {
                let behind = trailer.at + ALL as u64;
                match trailer.at.checked_sub(trailer.bytes) {
                    Some(at) if at == begin => (behind, trailer.frames.checked_sub(read)),
                    // The trailer of the damaged block is damaged as well.
                    Some(at) if at > begin && is_block(&self.file, at)? => (at, None),
                    _ => (behind, None),
                }
            }
        };
        self.lost(end, readings, why)?;
        self.at = end;
        Ok(())
    }

    /// Records that the range from here to `end` was not read, or only partially.
    fn lost(&mut self, end: u64, readings: Option<u64>, why: String) -> Result<()> {
        let begin = self.at;
        match self.damage.last_mut() {
            Some(last) if last.bytes.end == begin || last.bytes.start == begin => {
                last.bytes.end = end;
                last.readings = last.readings.zip(readings).map(|(a, b)| a.saturating_add(b));
            }
            _ => self.damage.push(Damage { bytes: begin..end, readings, why }),
        }
        if let (Some(first), true) = (self.damage.first(), self.damage.len() > MOST_DAMAGE) {
            bail!("it is damaged in more than {MOST_DAMAGE} places: {first}");
        }
        Ok(())
    }
}

fn is_end(e: &anyhow::Error) -> bool {
    let kind = e.downcast_ref::<io::Error>().map(io::Error::kind);
    kind == Some(io::ErrorKind::UnexpectedEof)
}

/// # Errors
/// The error is not due to damage: the file cannot be read.
fn is_damage(e: &anyhow::Error) -> io::Result<()> {
    let errno = e.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error);
    errno.map_or(Ok(()), |errno| Err(io::Error::from_raw_os_error(errno)))
}

fn is_trailer(bytes: &[u8]) -> bool {
    bytes.starts_with(&head())
}

fn is_begin_of_trailer(bytes: &[u8]) -> bool {
    head().iter().zip(bytes).all(|(a, b)| a == b)
}

fn head() -> [u8; 8] {
    (u64::from(TRAILER) << 32 | u64::from(SKIPPABLE)).to_le_bytes()
}

fn is_block(file: &File, at: u64) -> io::Result<bool> {
    let mut head = [0; ZSTD.len()];
    Ok(read_at_most(file, &mut head, at)? == head.len() && head == ZSTD)
}

/// Reads as much as there is.
fn read_at_most(file: &File, to: &mut [u8], at: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < to.len() {
        match file.read_at(&mut to[read..], at + read as u64) {
            Ok(0) => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(read)
}

/// The trailer of the block that begins here, or of a later one.
fn next_trailer(file: &File, from: u64) -> io::Result<Option<Trailer>> {
    let mut bytes = vec![0; CHUNK];
    let mut at = from;
    loop {
        let read = read_at_most(file, &mut bytes, at)?;
        let places = bytes[..read].windows(ALL);
        if let Some(place) = places.clone().position(is_trailer) {
            return Ok(bytes.get(place..place + ALL).map(|b| trailer(at + place as u64, b)));
        }
        if read < CHUNK {
            return Ok(None);
        }
        at += (CHUNK - ALL + 1) as u64;
    }
}

fn trailer(at: u64, bytes: &[u8]) -> Trailer {
    let word = |at: usize| {
        let bytes = bytes.get(at..at + 8).and_then(|b| b.try_into().ok());
        bytes.map_or(0, u64::from_le_bytes)
    };
    Trailer { at, bytes: word(8), frames: word(16), last: word(32) }
}

/// Where to start reading for times after `time`: the first block that overlaps with them. It is
/// found with the trailers, from the end of the file; 0 if some are missing.
///
/// # Errors
/// The file cannot be read.
pub fn block_after(file: &File, time: SystemTime) -> io::Result<u64> {
    let time = nanoseconds(time);
    /// Limit on the blocks examined: more than a month of seconds.
    const BLOCKS: usize = 1 << 16;
    let mut end = last_trailer(file)?;
    let mut found = end;
    for _ in 0..BLOCKS {
        if end < ALL as u64 {
            break;
        }
        let mut bytes = [0; ALL];
        let at = end - ALL as u64;
        file.read_exact_at(&mut bytes, at)?;
        let trailer = trailer(at, &bytes);
        let begin = at.checked_sub(trailer.bytes);
        let (Some(begin), true) = (begin, is_trailer(&bytes)) else { return Ok(0) };
        if trailer.last > time {
            found = begin;
        }
        end = begin;
    }
    // If the clock was set back, blocks before one that is too old may not be.
    Ok(if end < ALL as u64 { found } else { 0 })
}

/// Where the last complete block ends; it may be followed by one that is incomplete.
fn last_trailer(file: &File) -> io::Result<u64> {
    /// Limit on the size of a block that is searched from its end.
    const MOST: u64 = 32 << 20;
    let size = file.metadata()?.len();
    let begin = size.saturating_sub(MOST);
    let mut bytes = vec![0; usize::try_from(size - begin).unwrap_or(0)];
    file.read_exact_at(&mut bytes, begin)?;
    let last = bytes.windows(ALL).rposition(is_trailer);
    Ok(last.map_or(0, |at| begin + at as u64 + ALL as u64))
}

/// Whether a file has frames, by its first bytes or else by the trailer of a block.
///
/// # Errors
/// The file cannot be read.
pub fn has_frames(file: &File, is_named_so: bool) -> Result<bool> {
    let mut begin = [0; 128];
    let read = read_at_most(file, &mut begin, 0)?;
    ensure!(read > 0, "it is empty");
    Ok(FrameReader::knows(&begin[..read]) || (is_named_so && last_trailer(file)? > 0))
}
