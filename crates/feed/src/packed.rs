// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compressed captures: gzip and Zstandard, unpacked while they are read, in bounded memory.
use std::{
    io::{self, BufRead, BufReader, Cursor, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use flate2::bufread::GzDecoder;

/// How many bytes any file may unpack to, however small it is.
const FREE: u64 = 1_000_000_000;
/// Beyond that, the maximum ratio of unpacked to compressed size.
const RATIO: u64 = 100;
/// The largest window that Zstandard data may require, as a power of two: `zstd` itself accepts
/// 2^27 by default; its default levels need 2^23 at most.
const WINDOW: u32 = 25;

/// The number of compressed bytes read.
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

/// Unpacked data, up to a limit: a few kilobytes can become as many petabytes.
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

/// Gzip data, in one or several members (RFC 1952, section 2.2), and zeros after them, with which
/// blocks of tapes and pages of memory are filled up: gzip also ignores those.
struct Members<R> {
    of: Option<GzDecoder<R>>,
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        while let Some(member) = &mut self.of {
            let n = member.read(to)?;
            if n > 0 || to.is_empty() {
                return Ok(n);
            }
            let Some(mut input) = self.of.take().map(GzDecoder::into_inner) else { break };
            let mut zeros = false;
            let next = loop {
                let bytes = input.fill_buf()?;
                let n = bytes.iter().take_while(|b| **b == 0).count();
                if let Some(next) = bytes.get(n) {
                    break Some(*next);
                }
                if n == 0 {
                    break None;
                }
                zeros = true;
                input.consume(n);
            };
            match next {
                None => {}
                Some(0x1f) if !zeros => self.of = Some(GzDecoder::new(input)),
                Some(_) => {
                    let what = "the data after its gzip stream is not gzip";
                    return Err(io::Error::new(io::ErrorKind::InvalidData, what));
                }
            }
        }
        Ok(0)
    }
}

/// The input as it is or, if it begins like compressed data, unpacked, with the count of compressed
/// bytes. It may unpack to `most` bytes, by default to a multiple of its own size.
pub(crate) fn unpacked(
    mut input: Box<dyn Read + Send>,
    most: Option<u64>,
) -> io::Result<(Box<dyn Read + Send>, Option<Packed>)> {
    let mut begin = Vec::new();
    input.by_ref().take(4).read_to_end(&mut begin)?;
    let gzip = begin.starts_with(&[0x1f, 0x8b]);
    // Or a skippable frame (RFC 8878 section 3.1.2), with which pzstd begins.
    let zstd = matches!(begin[..], [0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]);
    let input = Cursor::new(begin).chain(input);
    if !gzip && !zstd {
        return Ok((Box::new(input), None));
    }
    let packed = Packed::default();
    let input = BufReader::with_capacity(64 << 10, Counted { input, read: Arc::clone(&packed) });
    let unpacked: Box<dyn Read + Send> = if gzip {
        Box::new(Members { of: Some(GzDecoder::new(input)) })
    } else {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(input)?;
        decoder.window_log_max(WINDOW)?;
        Box::new(decoder)
    };
    let limited = Limited { input: unpacked, unpacked: 0, packed: Arc::clone(&packed), most };
    Ok((Box::new(limited), Some(packed)))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};

    use super::*;

    fn gzip(text: &str) -> Vec<u8> {
        let mut to = GzEncoder::new(Vec::new(), Compression::fast());
        to.write_all(text.as_bytes()).expect("memory");
        to.finish().expect("memory")
    }

    #[test]
    fn only_gzip_data_or_zeros_may_follow_gzip_data() {
        let read = |bytes: Vec<u8>| {
            let (mut input, _) = unpacked(Box::new(Cursor::new(bytes)), None).expect("it is begun");
            let mut text = String::new();
            let read = input.read_to_string(&mut text).map_err(|e| e.to_string());
            (text, read.map(drop))
        };
        let all = || ("one two".to_owned(), Ok(()));
        assert_eq!(read([gzip("one "), gzip("two")].concat()), all());
        assert_eq!(read([gzip("one two"), vec![0; 200_000]].concat()), all());
        for behind in [&b"more"[..], &[0, 0, 0x1f, 0x8b], &[0x1f, 1]] {
            let (text, end) = read([&gzip("one two")[..], behind].concat());
            assert_eq!(text, "one two");
            assert!(end.is_err(), "{behind:?}");
        }
    }
}
