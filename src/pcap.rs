// SPDX-License-Identifier: MIT OR Apache-2.0
//! Capture files as frames: pcap and pcapng, streaming, with bounded memory.
//!
//! The records are parsed by `pcap-parser`; their framing is done here. That crate's own readers
//! know no offsets, take a record that contradicts itself for one that is not complete yet, and
//! must hold blocks that nobody reads: none of which suits files that may be broken or hostile.
//!
//! Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
use std::{
    error, fmt,
    fs::File,
    io::{self, ErrorKind, Read},
    ops::Range,
    path::Path,
    time::Duration,
};

use pcap_parser::{
    BOM_MAGIC, EPB_MAGIC, IDB_MAGIC, LegacyPcapBlock, PcapError, SHB_MAGIC, SPB_MAGIC,
    nom::{self, IResult, Needed},
    parse_enhancedpacketblock_be, parse_enhancedpacketblock_le, parse_interfacedescriptionblock_be,
    parse_interfacedescriptionblock_le, parse_pcap_frame, parse_pcap_frame_be,
    parse_pcap_frame_modified, parse_pcap_header, parse_sectionheaderblock,
    parse_simplepacketblock_be, parse_simplepacketblock_le,
    traits::PcapNGPacketBlock,
};

mod link;

pub use link::{Body, LinkType};

/// No record that is read (not skipped) may be longer, so that no file can make the reader take more
/// memory: 64 times the greatest snapshot length of libpcap.
pub const MAX_RECORD: usize = 16 << 20;

/// No section may describe more interfaces, for the same reason.
pub const MAX_INTERFACES: usize = 1 << 16;

const FIRST_BUFFER: usize = 256 << 10;
const PCAP_HEADER: usize = 24;
const OBSOLETE_PACKET: u32 = 2; // block type of the first drafts, which pcap-parser does not know

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// How it begins.
    pub link: LinkType,
    /// What was captured of it, without the FCS.
    pub data: &'a [u8],
    /// How long it was on the wire, without the FCS; never less than `data` (see [`Reader::contradictions`]).
    pub orig_len: u32,
    /// When it was captured, since 1970-01-01 UTC. A simple packet block has no time: that of the frame before it.
    pub time: Duration,
    /// Where: counted from 0 through the whole file, also across its sections.
    pub interface: u32,
}

impl<'a> Frame<'a> {
    /// What it carries, in a form the parser has an entry for.
    pub fn body(&self) -> Body<'a> {
        self.link.body(self.data)
    }

    /// How many bytes of `data` lie before the slice that [`Frame::body`] gives: 0 where that is the
    /// whole frame, as for Ethernet, or where there is none.
    pub fn link_header_len(&self) -> usize {
        match self.body() {
            Body::NonIp | Body::Truncated => 0,
            body => self.data.len() - body.bytes().len(),
        }
    }
}

/// Why reading a capture ended before its end: one line with the place.
#[derive(Debug)]
pub struct ReadError {
    /// Where the record begins that could not be read, in bytes from the begin of the file.
    pub offset: u64,
    /// What is wrong with it, safe for a terminal.
    pub what: String,
    source: Option<io::Error>,
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at byte {}: {}", self.offset, self.what)
    }
}

impl error::Error for ReadError {
    fn source(&self) -> Option<&(dyn error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}

/// A capture being read.
pub struct Reader {
    window: Window,
    format: Format,
    size: Option<u64>,
    time: Duration,
    contradictions: u64,
    ended: bool,
}

enum Format {
    Classic(Classic),
    Ng(Section),
}

impl Reader {
    /// Opens a capture file, or standard input when the path is `-`, and reads its header.
    ///
    /// # Errors
    /// The file cannot be opened or read, or is not a capture.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        let path = path.as_ref();
        if path.as_os_str() == "-" {
            return Self::new(io::stdin());
        }
        let file = File::open(path).map_err(|e| unreadable(0, e))?;
        let size = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
        Ok(Reader { size, ..Self::new(file)? })
    }

    /// Reads a capture from anything, beginning with its header.
    ///
    /// # Errors
    /// It cannot be read, or is not a capture.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, ReadError> {
        let mut window = Window::new(Box::new(input));
        let begin = window.want(PCAP_HEADER)?;
        let format = if begin.starts_with(&SHB_MAGIC.to_le_bytes()) {
            Format::Ng(Section::default())
        } else {
            let classic = Classic::new(begin).map_err(|what| window.broken(what))?;
            window.consume(PCAP_HEADER);
            Format::Classic(classic)
        };
        Ok(Reader {
            window,
            format,
            size: None,
            time: Duration::ZERO,
            contradictions: 0,
            ended: false,
        })
    }

    /// The next frame; `None` at the end of the capture and after an error.
    ///
    /// # Errors
    /// The next record cannot be read; all frames before it were good.
    pub fn next_frame(&mut self) -> Result<Option<Frame<'_>>, ReadError> {
        if self.ended {
            return Ok(None);
        }
        let found = match &mut self.format {
            Format::Classic(classic) => classic.next_packet(&mut self.window),
            Format::Ng(section) => section.next_packet(&mut self.window),
        };
        let Some(packet) =
            found.inspect(|p| self.ended = p.is_none()).inspect_err(|_| self.ended = true)?
        else {
            return Ok(None);
        };
        let data = &self.window.buffer[packet.data];
        let captured = data.len() as u32; // at most MAX_RECORD
        if packet.orig_len < captured {
            self.contradictions += 1;
        }
        let orig_len = packet.orig_len.max(captured).saturating_sub(packet.on.fcs);
        self.time = packet.time.unwrap_or(self.time);
        Ok(Some(Frame {
            link: packet.on.link,
            data: &data[..captured.min(orig_len) as usize],
            orig_len,
            time: self.time,
            interface: packet.interface,
        }))
    }

    /// How many bytes of the file have been read as frames.
    pub fn position(&self) -> u64 {
        self.window.offset
    }

    /// How long the file is, where that is known: not for a pipe.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many frames so far claimed to be shorter on the wire than what was captured of them. For
    /// those the captured length is taken as the original one.
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }
}

/// What a file says about the interface that a packet was captured on.
#[derive(Clone, Copy, Debug)]
struct Interface {
    link: LinkType,
    fcs: u32,       // bytes at the end of each frame
    snaplen: u32,   // 0: no limit
    resolution: u8, // as in if_tsresol
    offset: i64,    // seconds to add to times
}

/// A packet, found in the window and consumed.
struct Packet {
    data: Range<usize>, // of the window's buffer
    orig_len: u32,
    time: Option<Duration>,
    interface: u32,
    on: Interface,
}

type ParseRecord =
    for<'a> fn(&'a [u8]) -> IResult<&'a [u8], LegacyPcapBlock<'a>, PcapError<&'a [u8]>>;

/// Classic pcap: a header, then records.
struct Classic {
    parse: ParseRecord,
    record_header: usize,
    nanoseconds: bool,
    on: Interface,
}

impl Classic {
    fn new(begin: &[u8]) -> Result<Self, String> {
        let header = match parse_pcap_header(begin) {
            Ok((_, header)) => header,
            Err(nom::Err::Incomplete(_)) if begin.is_empty() => {
                return Err("the file is empty".to_owned());
            }
            Err(nom::Err::Incomplete(_)) if begin.len() >= 4 => {
                return Err(cut(begin.len(), PCAP_HEADER));
            }
            Err(_) => return Err(not_a_capture(begin)),
        };
        if header.version_major != 2 {
            return Err(format!(
                "pcap version {}.{} is not known (2.4 is)",
                header.version_major, header.version_minor
            ));
        }
        // The field of the link type also says how long the FCS is, in units of 16 bits, if bit 26 is set.
        let network = header.network.0 as u32;
        let fcs = if network & 1 << 26 == 0 { 0 } else { (network >> 28) * 2 };
        let link = LinkType::from_number(network as u16);
        let (parse, record_header): (ParseRecord, _) =
            match (header.is_modified_format(), header.is_bigendian()) {
                (true, _) => (parse_pcap_frame_modified, 24),
                (false, true) => (parse_pcap_frame_be, 16),
                (false, false) => (parse_pcap_frame, 16),
            };
        Ok(Classic {
            parse,
            record_header,
            nanoseconds: header.is_nanosecond_precision(),
            on: Interface { link, fcs, snaplen: header.snaplen, resolution: 0, offset: 0 },
        })
    }

    fn next_packet(&mut self, window: &mut Window) -> Result<Option<Packet>, ReadError> {
        let mut want = self.record_header;
        loop {
            let have = window.want(want)?;
            if have.is_empty() {
                return Ok(None);
            }
            let what = match (self.parse)(have) {
                Ok((_, record)) => {
                    let fraction = u64::from(record.ts_usec);
                    let fraction = if self.nanoseconds {
                        Duration::from_nanos(fraction)
                    } else {
                        Duration::from_micros(fraction)
                    };
                    let time = Some(Duration::from_secs(record.ts_sec.into()) + fraction);
                    let (orig_len, length) = (record.origlen, record.data.len());
                    let data =
                        window.consume(self.record_header + length).start + self.record_header;
                    return Ok(Some(Packet {
                        data: data..data + length,
                        orig_len,
                        time,
                        interface: 0,
                        on: self.on,
                    }));
                }
                Err(nom::Err::Incomplete(Needed::Size(more))) => {
                    let whole = have.len().saturating_add(more.get());
                    if whole > MAX_RECORD {
                        too_long(whole)
                    } else if have.len() < want {
                        cut(have.len(), whole)
                    } else {
                        want = whole;
                        continue;
                    }
                }
                Err(_) => "the record cannot be read".to_owned(),
            };
            return Err(window.broken(what));
        }
    }
}

/// A section of a pcapng file: a header that tells the byte order, then blocks.
#[derive(Default)]
struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// The number, through the whole file, of the section's first interface.
    first: u32,
}

impl Section {
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        let b = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
        if self.big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
    }

    fn next_packet(&mut self, window: &mut Window) -> Result<Option<Packet>, ReadError> {
        loop {
            let head = window.want(12)?;
            match head.len() {
                0 => return Ok(None),
                n @ 1..12 => return Err(window.broken(cut(n, 12))),
                _ => {}
            }
            let is_header = head.starts_with(&SHB_MAGIC.to_le_bytes()); // reads the same in both byte orders
            if is_header {
                self.big_endian = match head[8..12].first_chunk().map(|b| u32::from_le_bytes(*b)) {
                    Some(BOM_MAGIC) => false,
                    Some(other) if other.swap_bytes() == BOM_MAGIC => true,
                    _ => {
                        return Err(
                            window.broken("the section header has no byte order mark".to_owned())
                        );
                    }
                };
            }
            let (kind, length) = (self.u32(head, 0), self.u32(head, 4) as usize);
            if length < 12 {
                return Err(window.broken(format!("a block cannot be {length} bytes long")));
            }
            if !is_header && ![IDB_MAGIC, EPB_MAGIC, SPB_MAGIC, OBSOLETE_PACKET].contains(&kind) {
                self.skip(window, length)?;
                continue;
            }
            if length > MAX_RECORD {
                return Err(window.broken(too_long(length)));
            }
            let have = window.want(length)?;
            if have.len() < length {
                let what = cut(have.len(), length);
                return Err(window.broken(what));
            }
            let block = &have[..length];
            let found = match self.u32(block, length - 4) as usize {
                trailer if trailer != length => Err(lengths_differ(length, trailer)),
                _ if is_header => self.begin(block).map(|()| None),
                _ if kind == IDB_MAGIC => self.describe(block).map(|()| None),
                _ => self.packet(kind, block).map(Some),
            };
            let found = found.map_err(|what| window.broken(what))?;
            let block = window.consume(length);
            if let Some(mut packet) = found {
                packet.data = block.start + packet.data.start..block.start + packet.data.end;
                return Ok(Some(packet));
            }
        }
    }

    /// Skips a block that nobody here reads, however long it is.
    fn skip(&self, window: &mut Window, length: usize) -> Result<(), ReadError> {
        let at = window.offset;
        let skipped = window.skip(length - 4)?;
        let tail = window.want(4)?;
        let what = match tail.len() {
            n @ 0..4 => cut(skipped + n, length),
            _ if self.u32(tail, 0) as usize != length => {
                lengths_differ(length, self.u32(tail, 0) as usize)
            }
            _ => {
                window.consume(4);
                return Ok(());
            }
        };
        Err(ReadError { offset: at, what, source: None })
    }

    fn begin(&mut self, block: &[u8]) -> Result<(), String> {
        let (_, header) =
            parse_sectionheaderblock(block).map_err(|_| "the section header cannot be read")?;
        if header.major_version != 1 {
            return Err(format!(
                "pcapng version {}.{} is not known (1.0 is)",
                header.major_version, header.minor_version
            ));
        }
        self.first = self.first.saturating_add(self.interfaces.len() as u32);
        self.interfaces.clear();
        Ok(())
    }

    fn describe(&mut self, block: &[u8]) -> Result<(), String> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces in one section"));
        }
        let parse = if self.big_endian {
            parse_interfacedescriptionblock_be
        } else {
            parse_interfacedescriptionblock_le
        };
        let (_, described) =
            parse(block).map_err(|_| "the interface description cannot be read")?;
        let mut on = Interface {
            link: LinkType::from_number(described.linktype.0 as u16),
            fcs: 0,
            snaplen: described.snaplen,
            resolution: 6, // microseconds
            offset: 0,
        };
        for option in &described.options {
            match (option.code.0, option.as_bytes().unwrap_or_default()) {
                (0, _) => break,
                (9, [resolution]) => on.resolution = *resolution,
                (14, value) => {
                    let b = value.try_into().unwrap_or_default();
                    on.offset =
                        if self.big_endian { i64::from_be_bytes(b) } else { i64::from_le_bytes(b) };
                }
                // The draft says bits but its example is 4: both are understood.
                (13, [fcs]) => {
                    on.fcs = if *fcs > 8 { u32::from(*fcs) / 8 } else { u32::from(*fcs) }
                }
                _ => {}
            }
        }
        self.interfaces.push(on);
        Ok(())
    }

    /// A packet of any of the three kinds of block; `data` is relative to the block.
    fn packet(&self, kind: u32, block: &[u8]) -> Result<Packet, String> {
        let misfit = "the packet does not fit into its block";
        let (interface, ticks, start, length, orig_len) = match kind {
            EPB_MAGIC => {
                let parse = if self.big_endian {
                    parse_enhancedpacketblock_be
                } else {
                    parse_enhancedpacketblock_le
                };
                let (_, b) = parse(block).map_err(|_| misfit)?;
                (b.if_id, Some(ticks(b.ts_high, b.ts_low)), 28, b.packet_data().len(), b.origlen)
            }
            SPB_MAGIC => {
                let parse = if self.big_endian {
                    parse_simplepacketblock_be
                } else {
                    parse_simplepacketblock_le
                };
                let (_, b) = parse(block).map_err(|_| misfit)?;
                let snaplen = self.interfaces.first().map_or(0, |on| on.snaplen);
                let most = if snaplen == 0 { usize::MAX } else { snaplen as usize };
                (0, None, 12, b.packet_data().len().min(most), b.origlen)
            }
            _ => {
                let length = self.u32(block, 20) as usize;
                if block.len() < 32 || length > block.len() - 32 {
                    return Err(misfit.to_owned());
                }
                let interface = self.u32(block, 8); // 16 bits of interface, 16 of drops
                let interface = if self.big_endian { interface >> 16 } else { interface & 0xffff };
                (
                    interface,
                    Some(ticks(self.u32(block, 12), self.u32(block, 16))),
                    28,
                    length,
                    self.u32(block, 24),
                )
            }
        };
        let Some(on) = self.interfaces.get(interface as usize) else {
            return Err(format!(
                "a packet of interface {interface}, but the section describes {}",
                self.interfaces.len()
            ));
        };
        Ok(Packet {
            data: start..start + length,
            orig_len,
            time: ticks.map(|t| time(t, on.resolution, on.offset)),
            interface: self.first.saturating_add(interface),
            on: *on,
        })
    }
}

fn ticks(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The time of a pcapng packet; `resolution` is a negative power of ten, or of two if its top bit is set.
fn time(ticks: u64, resolution: u8, offset: i64) -> Duration {
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let ticks = u128::from(ticks);
    // A resolution too fine for any tick to reach a nanosecond makes all times the offset.
    let (seconds, nanoseconds) = match base.checked_pow(u32::from(resolution & 0x7f)) {
        Some(per_second) => (ticks / per_second, ticks % per_second * 1_000_000_000 / per_second),
        None => (0, 0),
    };
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).saturating_add_signed(offset);
    Duration::new(seconds, nanoseconds as u32)
}

fn cut(have: usize, whole: usize) -> String {
    format!("the capture ends inside a record: {have} of {whole} bytes are there")
}

fn too_long(length: usize) -> String {
    format!("a record of {length} bytes is not believable (more than {MAX_RECORD})")
}

fn lengths_differ(length: usize, trailer: usize) -> String {
    format!("a block begins as one of {length} bytes and ends as one of {trailer}")
}

/// What a file probably is that is not a capture.
fn not_a_capture(begin: &[u8]) -> String {
    let packed =
        |how, tool| format!("not a capture but {how}; try: {tool} -dc FILE | tmon replay -");
    match begin {
        [0x1f, 0x8b, ..] => packed("gzip data", "gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => packed("Zstandard data", "zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => packed("XZ data", "xz"),
        [b'B', b'Z', b'h', ..] => packed("bzip2 data", "bzip2"),
        _ => "not a capture: neither pcap nor pcapng (try `editcap -F pcapng` on formats of other tools)".to_owned(),
    }
}

fn unreadable(offset: u64, e: io::Error) -> ReadError {
    ReadError { offset, what: format!("cannot be read: {e}"), source: Some(e) }
}

/// The part of the input that is looked at: a buffer that slides over it.
struct Window {
    input: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    held: Range<usize>, // of the buffer: read but not consumed
    offset: u64,        // in the file, of the begin of `held`
}

impl Window {
    fn new(input: Box<dyn Read + Send>) -> Self {
        Window { input, buffer: vec![0; FIRST_BUFFER], held: 0..0, offset: 0 }
    }

    /// What is held, after reading until it is at least `n` bytes or the input ends.
    fn want(&mut self, n: usize) -> Result<&[u8], ReadError> {
        if self.held.start + n > self.buffer.len() {
            self.buffer.copy_within(self.held.clone(), 0);
            self.held = 0..self.held.len();
        }
        while self.held.len() < n {
            if self.held.end == self.buffer.len() {
                // Grown as bytes arrive, not as a length field claims.
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            match self.input.read(&mut self.buffer[self.held.end..]) {
                Ok(0) => break,
                Ok(read) => self.held.end += read,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(self.offset + self.held.len() as u64, e)),
            }
        }
        Ok(&self.buffer[self.held.clone()])
    }

    /// Moves past `n` bytes that are held; gives their place in the buffer, good until the next `want`.
    fn consume(&mut self, n: usize) -> Range<usize> {
        let n = n.min(self.held.len());
        let start = self.held.start;
        self.held.start += n;
        self.offset += n as u64;
        start..start + n
    }

    /// Moves past `n` bytes, held or not; gives how many there were.
    fn skip(&mut self, n: usize) -> Result<usize, ReadError> {
        let mut skipped = 0;
        while skipped < n {
            let step = self.want((n - skipped).min(FIRST_BUFFER))?.len().min(n - skipped);
            if step == 0 {
                break;
            }
            self.consume(step);
            skipped += step;
        }
        Ok(skipped)
    }

    fn broken(&self, what: String) -> ReadError {
        ReadError { offset: self.offset, what, source: None }
    }
}

#[cfg(test)]
mod tests;
