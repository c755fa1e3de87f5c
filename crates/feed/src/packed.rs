// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compressed captures: gzip and Zstandard, unpacked while they are read, in bounded memory.
use std::{
    io::{self, BufReader, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// So much a file may unpack to, however small it is.
const FREE: u64 = 1_000_000_000;
/// Beyond that it may become so many times as large as it is.
const RATIO: u64 = 100;
/// The largest window that Zstandard data may ask for, as a power of two: what `zstd` itself unpacks
/// without being asked is 2^27; its default levels need 2^23 at most.
const WINDOW: u32 = 25;

/// The compressed bytes of an input that were read.
pub(crate) type Packed = Arc<AtomicU64>;

struct Counted<R> {
    input: R,
    read: Packed,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let n = self.input.read(to)?;
        self.read.fetch_add(n as u64, Ordering::Relaxed);
        Ok(n)
    }
}

/// What is unpacked, up to a limit: a few kilobytes can become as many petabytes.
struct Limited<R> {
    input: R,
    unpacked: u64,
    packed: Packed,
    most: Option<u64>,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let packed = self.packed.load(Ordering::Relaxed);
        let most = self.most.unwrap_or_else(|| FREE.max(packed.saturating_mul(RATIO)));
        let left = most.saturating_sub(self.unpacked).saturating_add(1);
        let room = to.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let n = self.input.read(&mut to[..room])?;
        self.unpacked += n as u64;
        if self.unpacked > most {
            return Err(io::Error::other(format!(
                "{packed} bytes unpack to more than {most}; --max-size SIZE allows more"
            )));
        }
        Ok(n)
    }
}

/// The input as it is, or unpacked if it begins as compressed data does: then with the count of
/// compressed bytes. It may unpack to `most` bytes, or else to a multiple of its own size.
pub(crate) fn unpacked(
    mut input: Box<dyn Read + Send>,
    most: Option<u64>,
) -> io::Result<(Box<dyn Read + Send>, Option<Packed>)> {
    let mut begin = Vec::new();
    input.by_ref().take(4).read_to_end(&mut begin)?;
    let gzip = begin.starts_with(&[0x1f, 0x8b]);
    // Or a frame to skip (RFC 8878 section 3.1.2), as pzstd begins with.
    let zstd = matches!(begin[..], [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
    let input = Cursor::new(begin).chain(input);
    if !gzip && !zstd {
        return Ok((Box::new(input), None));
    }
    let packed = Packed::default();
    let input = BufReader::with_capacity(64 << 10, Counted { input, read: Arc::clone(&packed) });
    let unpacked: Box<dyn Read + Send> = if gzip {
        Box::new(flate2::bufread::MultiGzDecoder::new(input))
    } else {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW)?;
        Box::new(decoder)
    };
    let limited = Limited { input: unpacked, unpacked: 0, packed: Arc::clone(&packed), most };
    Ok((Box::new(limited), Some(packed)))
}
