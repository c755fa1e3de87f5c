// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames of a file, block by block. A block is looked through before anything of it is used; one that
//! is damaged is left out and named, and reading goes on at the next.
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

/// Bytes of what stands behind a block.
const ALL: usize = 8 + TRAILER as usize;
/// Limit on damaged places: behind them a file is no recording any more.
const MOST_DAMAGE: usize = 100;
/// What is unpacked at once of a block that was not ended.
const PIECE: usize = 64;
/// What is searched for the next block at once.
const CHUNK: usize = 1 << 20;

/// What of a file was not read.
#[derive(Debug, PartialEq, Eq)]
pub struct Damage {
    /// Where it is.
    pub bytes: Range<u64>,
    /// How many readings were in it, where that is known.
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
            None => write!(f, "it is not known how many readings are lost"),
        }
    }
}

/// A file that is read from some place on, so much at once at most.
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
    /// Where it ends; `None` if it has no end yet, or none any more.
    end: Option<u64>,
    read: u64,
}

/// What stands behind a block.
struct Trailer {
    at: u64,
    bytes: u64,
    frames: u64,
    last: u64,
}

/// What a block is found to be.
enum Look {
    Whole(u64),
    /// It goes on to the end of the file, or breaks off in it.
    Open,
    Damaged(String),
}

/// Reads the frames of a file.
pub struct FrameFile {
    file: Arc<File>,
    begin: u64,
    /// Where the block begins that is read, or the next.
    at: u64,
    block: Option<Block>,
    frames: u64,
    is_cut: bool,
    damage: Vec<Damage>,
}

impl FrameFile {
    /// Reads from the block on that begins there.
    pub fn new(file: File, begin: u64) -> FrameFile {
        let file = Arc::new(file);
        FrameFile { file, begin, at: begin, block: None, frames: 0, is_cut: false, damage: vec![] }
    }

    /// The next frame; `None` at the end, and where the file was cut off: [`FrameFile::is_whole`]
    /// tells which.
    ///
    /// # Errors
    /// It cannot be read, or nothing of it is a recording.
    pub fn next_frame(&mut self) -> Result<Option<Frame>> {
        loop {
            let Some(block) = &mut self.block else {
                if self.next_block()? {
                    continue;
                }
                if let (0, Some(first)) = (self.frames, self.damage.first()) {
                    bail!("nothing of it can be read: {}", first.why);
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
                        // Where the next one begins is known.
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

    /// It ended where a block ends.
    pub fn is_whole(&self) -> bool {
        !self.is_cut
    }

    /// What was left out so far.
    pub fn damage(&self) -> &[Damage] {
        &self.damage
    }

    /// Bytes that were read.
    pub fn position(&self) -> u64 {
        self.at - self.begin
    }

    fn size(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Goes to the next block. False at the end.
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
                _ if head.starts_with(MAGIC) => Look::Open, // not packed
                _ if head.starts_with(&ZSTD) => self.look()?,
                // The end may not be written yet.
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
                // Nothing tells which of its numbers are right.
                Look::Damaged(why) if next_trailer(&self.file, self.at)?.is_some() => {
                    self.skip(why)?;
                    continue;
                }
                // The last one, whose end was not written any more: what comes before the damage is read.
                Look::Damaged(_) if head.starts_with(&ZSTD) => None,
                Look::Damaged(why) => {
                    self.skip(why)?;
                    continue;
                }
            };
            // Of what is unpacked at once nothing comes if there is damage in it.
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

    /// Looks through the block, which ends with a checksum.
    fn look(&self) -> Result<Look> {
        let from =
            BufReader::with_capacity(1 << 16, From(Arc::clone(&self.file), self.at, usize::MAX));
        let mut plain = Decoder::with_buffer(from)?.single_frame();
        plain.window_log_max(WINDOW)?;
        let most = (PER_BLOCK * (MOST_BYTES + 5) + MAGIC.len()) as u64;
        match io::copy(&mut plain.by_ref().take(most + 1), &mut io::sink()) {
            Ok(n) if n > most => Ok(Look::Damaged("it unpacks to too much".to_owned())),
            Ok(_) => {
                let from = plain.finish();
                Ok(Look::Whole(from.get_ref().1 - from.buffer().len() as u64))
            }
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                Ok(match next_trailer(&self.file, self.at)? {
                    Some(_) => Look::Damaged("it has no end".to_owned()),
                    None => Look::Open,
                })
            }
            Err(e) if e.raw_os_error().is_some() => Err(e.into()),
            Err(e) => Ok(Look::Damaged(e.to_string())),
        }
    }

    /// Leaves out the rest of what begins here, to where the next block begins.
    fn skip(&mut self, why: String) -> Result<()> {
        let read = self.block.take().map_or(0, |block| block.read);
        let begin = self.at;
        let (end, readings) = match next_trailer(&self.file, begin)? {
            None => (self.size()?, None),
            Some(trailer) => {
                let behind = trailer.at + ALL as u64;
                match trailer.at.checked_sub(trailer.bytes) {
                    Some(at) if at == begin => (behind, trailer.frames.checked_sub(read)),
                    // What stood behind the damaged one is damaged, too.
                    Some(at) if at > begin && is_block(&self.file, at)? => (at, None),
                    _ => (behind, None),
                }
            }
        };
        self.lost(end, readings, why)?;
        self.at = end;
        Ok(())
    }

    /// What begins here, to there, was not read, or not all of it.
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
/// It is none: the file cannot be read.
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

/// As much as there is.
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

/// What stands behind the block that begins here, or behind a later one.
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

/// Where to begin to read a file for what was taken after a time: the first block that has something of
/// it. It is found by what stands behind each block, from the end on; 0 where that is not all there.
///
/// # Errors
/// It cannot be read.
pub fn block_after(file: &File, time: SystemTime) -> io::Result<u64> {
    let time = nanoseconds(time);
    /// So many blocks are walked, a month of seconds and more.
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
    // The clock may have been set back: what comes before a block that is too old may not be.
    Ok(if end < ALL as u64 { found } else { 0 })
}

/// Where the last whole block ends: behind it there may be one that is being written, or was cut off.
fn last_trailer(file: &File) -> io::Result<u64> {
    /// So much a block may be, if it is to be looked behind.
    const MOST: u64 = 32 << 20;
    let size = file.metadata()?.len();
    let begin = size.saturating_sub(MOST);
    let mut bytes = vec![0; usize::try_from(size - begin).unwrap_or(0)];
    file.read_exact_at(&mut bytes, begin)?;
    let last = bytes.windows(ALL).rposition(is_trailer);
    Ok(last.map_or(0, |at| begin + at as u64 + ALL as u64))
}

/// Checks that it is a file of frames, by what it begins with, or else by what stands behind a block of it.
///
/// # Errors
/// It cannot be read.
pub fn has_frames(file: &File, is_named_so: bool) -> Result<bool> {
    let mut begin = [0; 128];
    let read = read_at_most(file, &mut begin, 0)?;
    ensure!(read > 0, "it is empty");
    Ok(FrameReader::knows(&begin[..read]) || (is_named_so && last_trailer(file)? > 0))
}
