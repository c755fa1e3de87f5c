// SPDX-License-Identifier: MIT OR Apache-2.0
//! Capture files as frames: pcap and pcapng, streaming, with bounded memory.
//!
//! A frame costs a few nanoseconds and no allocation. Crates that read captures support fewer
//! variants (byte orders, versions), provide no offsets, and buffer unused blocks, none of which
//! suits files that are large, broken or hostile.
//!
//! Formats: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng; libpcap's sf-pcap.c for versions below 2.4.
use std::{
    error, fmt,
    fs::File,
    io::{self, ErrorKind, Read},
    mem,
    num::NonZero,
    ops::Range,
    os::fd::{AsFd, AsRawFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use crate::packed::{Packed, unpacked};
use model::flow::Hook;
use native::Buffer;

mod link;

pub use link::{Body, LinkType};

/// The maximum length of a record that is read (not skipped), so that no file can make the reader
/// use more memory: 64 times libpcap's maximum snapshot length.
pub const MAX_RECORD: usize = 16 << 20;

/// The maximum number of interfaces in a section, for the same reason.
pub const MAX_INTERFACES: usize = 1 << 16;

const FIRST_BUFFER: usize = 256 << 10;
const PCAP_HEADER: usize = 24;
const ETHERNET_HEADER: usize = 14;
/// The maximum length of an interface's name: more than any system allows.
const MAX_NAME: usize = 64;

// Block types of pcapng
const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const DESCRIPTION: u32 = 1;
const OBSOLETE_PACKET: u32 = 2; // of the first drafts
const SIMPLE_PACKET: u32 = 3;
const ENHANCED_PACKET: u32 = 6;

/// Outgoing, as Linux marks a packet socket's packet (PACKET_OUTGOING).
const OUTGOING: u8 = 4;

/// One captured frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CapturedFrame<'a> {
    /// Its link type.
    pub link: LinkType,
    /// The file's number for that.
    pub link_number: u16,
    /// The captured bytes, without the FCS.
    pub data: &'a [u8],
    /// Its length on the wire, without the FCS; never less than `data` (see
    /// [`Reader::contradictions`]).
    pub orig_len: u32,
    /// When it was captured, since 1970-01-01 UTC; a simple packet block has no time.
    pub time: Option<Duration>,
    /// The interface: counted from 0 through the whole file, across its sections.
    pub interface: u32,
    /// The name of that interface in the file; empty if it has none.
    pub name: &'a str,
    /// Its index on the host that captured it, if each frame contains that.
    pub ifindex: Option<u32>,
    /// Its direction there, if the file contains that.
    pub direction: Option<Hook>,
}

impl<'a> CapturedFrame<'a> {
    /// Its payload, in a form that the parser can start from.
    pub fn body(&self) -> Body<'a> {
        self.link.body(self.data)
    }

    /// How many bytes of `data` precede the slice that [`CapturedFrame::body`] returns: 0 if that
    /// is the whole frame, as for Ethernet, or if there is none.
    pub fn link_header_len(&self) -> usize {
        match self.body() {
            Body::NonIp | Body::Unread | Body::Truncated => 0,
            body => self.data.len() - body.bytes().len(),
        }
    }
}

/// What [`Reader::each`] passes on.
#[derive(Clone, Copy, Debug)]
pub enum Next<'a> {
    /// Any frame.
    Any(CapturedFrame<'a>),
    /// A plain frame of the usual interface.
    Plain(PlainFrame<'a>),
}

/// A plain frame: Ethernet with its header, no shorter on the wire than captured, with a known
/// time.
#[derive(Clone, Copy, Debug)]
pub struct PlainFrame<'a> {
    /// The captured bytes.
    pub data: &'a [u8],
    /// Its length on the wire.
    pub orig_len: u32,
    /// Its time, in nanoseconds since 1970-01-01 UTC; not 0.
    pub time: u64,
}

impl<'a> PlainFrame<'a> {
    #[inline]
    fn new(data: &'a [u8], orig_len: u32, time: u64) -> Option<Self> {
        let whole = data.len() >= ETHERNET_HEADER && orig_len as usize >= data.len();
        (whole && time > 0).then_some(PlainFrame { data, orig_len, time })
    }
}

/// Why reading a capture ended early: one line with the position.
#[derive(Debug)]
pub struct ReadError {
    /// The offset of the record that could not be read, in bytes from the beginning of the file.
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

impl ReadError {
    /// Whether there is nothing to read now, but may be later.
    fn is_waiting(&self) -> bool {
        self.source.as_ref().is_some_and(|e| e.kind() == ErrorKind::WouldBlock)
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
    /// The number of compressed bytes read.
    packed: Option<Packed>,
    packet: Option<Packet>,
    size: Option<u64>,
    contradictions: u64,
    ended: bool,
    waits: bool,
    stop: Option<Arc<AtomicBool>>,
    /// Whether a pipe is not waited for.
    hurried: Arc<AtomicBool>,
}

enum Format {
    Classic(Classic),
    Ng(Section),
}

impl Format {
    /// The record at the beginning of the held data, and its length, if it is a plain frame of this
    /// interface.
    #[inline]
    fn plain<'a>(&self, have: &'a [u8], interface: u32) -> Option<(PlainFrame<'a>, usize)> {
        match self {
            Format::Classic(classic) => classic.plain(have),
            Format::Ng(section) => section.plain(have, interface),
        }
    }

    #[inline]
    fn frame<'a>(&'a self, packet: &Packet, buffer: &'a [u8]) -> CapturedFrame<'a> {
        let (on, interface) = match self {
            Format::Classic(classic) => (&classic.on, 0),
            Format::Ng(section) => (
                &section.interfaces[packet.interface as usize],
                section.first.saturating_add(packet.interface),
            ),
        };
        let data = &buffer[packet.data.clone()];
        let captured = data.len() as u32; // at most MAX_RECORD
        let fcs = packet.fcs.unwrap_or(on.fcs);
        let orig_len = packet.orig_len.max(captured).saturating_sub(fcs);
        let data = &data[..captured.min(orig_len) as usize];
        let (ifindex, direction) = match on.link {
            LinkType::Ethernet => (None, None),
            link => link.origin(data),
        };
        CapturedFrame {
            link: on.link,
            link_number: on.link_number,
            data,
            orig_len,
            time: packet.time,
            interface,
            name: &on.name,
            ifindex: packet.ifindex.or(ifindex),
            direction: packet.direction.or(direction),
        }
    }
}

/// A capture that has been opened but not read.
pub struct Opened {
    file: File,
    /// `None` if it is not a regular file, and may keep a reader waiting.
    size: Option<u64>,
    stop: Option<Arc<AtomicBool>>,
}

impl Opened {
    /// Opens a file; `-` is standard input.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Opened, ReadError> {
        let path = path.as_ref();
        if path.as_os_str() == "-" {
            let own = io::stdin().as_fd().try_clone_to_owned().map_err(|e| unreadable(0, e))?;
            return Ok(Opened { file: own.into(), size: None, stop: None });
        }
        let file = File::open(path).map_err(|e| unreadable(0, e))?;
        let size = file.metadata().ok().filter(|m| m.is_file()).map(|m| m.len());
        Ok(Opened { file, size, stop: None })
    }

    /// Opens the same file again, with an independent position; `None` if it is a pipe, or cannot be
    /// opened again.
    pub(crate) fn again(&self) -> Option<Opened> {
        self.size?;
        let file = File::open(format!("/proc/self/fd/{}", self.file.as_raw_fd())).ok()?;
        Some(Opened { file, size: self.size, stop: self.stop.clone() })
    }

    /// The same file, rewound; the position is shared with all copies of it.
    pub(crate) fn rewound(&self) -> Result<Opened, ReadError> {
        let mut file = self.file.try_clone().map_err(|e| unreadable(0, e))?;
        io::Seek::rewind(&mut file).map_err(|e| unreadable(0, e))?;
        Ok(Opened { file, size: self.size, stop: self.stop.clone() })
    }

    /// The same file; reading ends when the flag is raised.
    #[must_use]
    pub fn until(self, stop: &Arc<AtomicBool>) -> Opened {
        Opened { stop: Some(Arc::clone(stop)), ..self }
    }

    /// Reads it, beginning with its header. If it is compressed, it may unpack to at most this many
    /// bytes, by default to 1 GB or a hundred times its size.
    ///
    /// # Errors
    /// It cannot be read, or is not a capture.
    pub fn reader(self, most: Option<u64>) -> Result<Reader, ReadError> {
        let Opened { file, size, stop } = self;
        let hurried = Arc::<AtomicBool>::default();
        let input =
            Input { file, pipe: size.is_none(), stop: stop.clone(), hurried: Arc::clone(&hurried) };
        let is_told = || stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed));
        let reader = Reader::of(Box::new(input), most, stop.clone()).map_err(|e| {
            let nothing = "interrupted before any data could be read";
            if is_told() { ReadError { what: nothing.to_owned(), ..e } } else { e }
        })?;
        Ok(Reader { size, hurried, ..reader })
    }
}

/// A file, or a pipe, which is only read when data is available.
struct Input {
    file: File,
    pipe: bool,
    stop: Option<Arc<AtomicBool>>,
    hurried: Arc<AtomicBool>,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        const STEP: i32 = 100; // milliseconds
        while !self.stop.as_ref().is_some_and(|stop| stop.load(Ordering::Relaxed)) {
            if !self.pipe {
                return self.file.read(buffer);
            }
            let mut ready =
                libc::pollfd { fd: self.file.as_raw_fd(), events: libc::POLLIN, revents: 0 };
            // SAFETY: one descriptor, which stays open.
            #[allow(unsafe_code)]
            let n = unsafe { libc::poll(&mut ready, 1, STEP) };
            match n {
                0 if self.hurried.load(Ordering::Relaxed) => {
                    return Err(ErrorKind::WouldBlock.into());
                }
                0 => {}
                1.. => return self.file.read(buffer),
                _ => {
                    let e = io::Error::last_os_error();
                    if e.kind() != ErrorKind::Interrupted {
                        return Err(e);
                    }
                }
            }
        }
        Ok(0)
    }
}

impl Reader {
    /// Opens a capture file, or standard input when the path is `-`, and reads its header.
    ///
    /// # Errors
    /// The file cannot be opened or read, or is not a capture.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, ReadError> {
        Opened::open(path)?.reader(None)
    }

    /// Reads a capture from anything, beginning with its header.
    ///
    /// # Errors
    /// It cannot be read, or is not a capture.
    pub fn new(input: impl Read + Send + 'static) -> Result<Self, ReadError> {
        Reader::of(Box::new(input), None, None)
    }

    fn of(
        input: Box<dyn Read + Send>,
        most: Option<u64>,
        stop: Option<Arc<AtomicBool>>,
    ) -> Result<Self, ReadError> {
        let (input, packed) = unpacked(input, most).map_err(|e| unreadable(0, e))?;
        let mut window = Window::new(input);
        let begin = window.want(PCAP_HEADER)?;
        let format = if begin.starts_with(&SECTION.to_le_bytes()) {
            Format::Ng(Section::default())
        } else {
            let classic = Classic::new(begin).map_err(|what| window.broken(what))?;
            window.consume(PCAP_HEADER);
            Format::Classic(classic)
        };
        Ok(Reader {
            window,
            format,
            packed,
            packet: None,
            size: None,
            contradictions: 0,
            ended: false,
            waits: false,
            stop,
            hurried: Arc::default(),
        })
    }

    /// The next frame; `None` at the end of the capture and after an error.
    ///
    /// # Errors
    /// The next record cannot be read; all frames before it were good.
    pub fn next_frame(&mut self) -> Result<Option<CapturedFrame<'_>>, ReadError> {
        Ok(if self.advance()? { self.frame() } else { None })
    }

    /// Moves to the next frame, if there is one.
    ///
    /// # Errors
    /// Those of [`Reader::next_frame`].
    pub fn advance(&mut self) -> Result<bool, ReadError> {
        (self.packet, self.waits) = (None, false);
        if self.ended {
            return Ok(false);
        }
        let found = match &mut self.format {
            Format::Classic(classic) => classic.next_packet(&mut self.window),
            Format::Ng(section) => section.next_packet(&mut self.window),
        };
        self.packet = match found {
            Ok(packet) => {
                self.ended = packet.is_none();
                packet
            }
            Err(e) if e.is_waiting() => {
                self.waits = true;
                None
            }
            Err(e) => {
                self.ended = true;
                // Stopping in the middle of a record does not mean that it is truncated.
                if self.stop.as_ref().is_none_or(|stop| !stop.load(Ordering::Relaxed)) {
                    return Err(e);
                }
                None
            }
        };
        if let Some(packet) = &self.packet
            && (packet.orig_len as usize) < packet.data.len()
        {
            self.contradictions += 1;
        }
        Ok(self.packet.is_some())
    }

    /// The frame that [`Reader::advance`] moved to.
    pub fn frame(&self) -> Option<CapturedFrame<'_>> {
        Some(self.format.frame(self.packet.as_ref()?, &self.window.buffer))
    }

    /// Passes the frame that [`Reader::advance`] moved to, and those after it that have already
    /// been read, to `take` as long as that accepts them; plain ones of interface `usual` as such.
    /// Returns true if reading continues with [`Reader::advance`], false if the current frame was
    /// not accepted.
    ///
    /// This is equivalent to frame by frame, but without leaving the loop for each.
    #[inline]
    pub fn each(&mut self, usual: Option<u32>, mut take: impl FnMut(Next<'_>) -> bool) -> bool {
        let Some(mut packet) = self.packet.take() else { return true };
        loop {
            if !take(Next::Any(self.format.frame(&packet, &self.window.buffer))) {
                self.packet = Some(packet);
                return false;
            }
            if let Some(usual) = usual {
                let have = &self.window.buffer[self.window.held.clone()];
                let (mut at, mut wanted) = (0, true);
                while let Some((frame, whole)) = self.format.plain(&have[at..], usual) {
                    wanted = take(Next::Plain(frame));
                    if !wanted {
                        break;
                    }
                    at += whole;
                }
                self.window.consume(at);
                if !wanted {
                    return true;
                }
            }
            let have = &self.window.buffer[self.window.held.clone()];
            let next = match &self.format {
                Format::Classic(classic) => classic.held(have),
                Format::Ng(section) => section.held(have),
            };
            let Some((next, whole)) = next else { return true };
            packet = next.at(self.window.consume(whole).start);
            self.contradictions += u64::from((packet.orig_len as usize) < packet.data.len());
        }
    }

    /// The time of the frame that [`Reader::advance`] moved to.
    pub fn time(&self) -> Option<Duration> {
        self.packet.as_ref()?.time
    }

    /// The buffer that contains the frame's data, until the next frame is requested. It is
    /// immutable while anybody holds it.
    pub fn buffer(&self) -> &Buffer {
        &self.window.buffer
    }

    /// From now on [`Reader::advance`] does not wait for a pipe: see [`Reader::waits`].
    pub fn hurry(&mut self) {
        self.hurried.store(true, Ordering::Relaxed);
    }

    /// Whether [`Reader::advance`] found no frame because there was nothing to read; it may be
    /// called again.
    pub fn waits(&self) -> bool {
        self.waits
    }

    /// How often data was read.
    pub fn reads(&self) -> u64 {
        self.window.reads
    }

    /// Reads in steps of this many bytes from the next buffer on.
    pub fn set_step(&mut self, bytes: usize) {
        self.window.size = bytes.max(FIRST_BUFFER);
    }

    /// How many bytes of the file have been read as frames; for a compressed file, how many have
    /// been taken for unpacking.
    pub fn position(&self) -> u64 {
        self.packed.as_ref().map_or(self.window.offset, |p| p.load(Ordering::Relaxed))
    }

    /// The size of the file, if known: not for a pipe.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// How many frames so far claimed to be shorter on the wire than captured. For these, the
    /// captured length is used as the original one.
    pub fn contradictions(&self) -> u64 {
        self.contradictions
    }
}

/// What a file says about the interface on which a packet was captured.
#[derive(Clone, Debug)]
struct Interface {
    link: LinkType,
    link_number: u16,
    name: Box<str>,
    fcs: u32,       // bytes at the end of each frame
    snaplen: u32,   // 0: no limit
    resolution: u8, // as in if_tsresol
    offset: i64,    // seconds to add to times
    is_plain: bool, // Ethernet without an FCS
    /// The length of a tick, if it is a whole number of nanoseconds and there is no offset.
    nanoseconds: Option<NonZero<u64>>,
}

impl Interface {
    fn new(link: u16, snaplen: u32) -> Interface {
        Interface {
            link: LinkType::from_number(link),
            link_number: link,
            name: "".into(),
            fcs: 0,
            snaplen,
            resolution: 6, // microseconds
            offset: 0,
            is_plain: false,
            nanoseconds: None,
        }
    }

    /// Adds what follows from the file's description.
    fn described(self) -> Interface {
        let power = match (self.resolution, self.offset) {
            (resolution @ 0..=9, 0) => Some(9 - u32::from(resolution)),
            _ => None,
        };
        let nanoseconds = power.and_then(|power| NonZero::new(10_u64.pow(power)));
        let is_plain = self.link == LinkType::Ethernet && self.fcs == 0;
        Interface { is_plain, nanoseconds, ..self }
    }
}

/// A packet that was found in the window and consumed.
struct Packet {
    data: Range<usize>, // of the window's buffer
    orig_len: u32,
    time: Option<Duration>,
    interface: u32, // of the section
    fcs: Option<u32>,
    ifindex: Option<u32>,
    direction: Option<Hook>,
}

impl Packet {
    /// The same in the window's buffer, where its record begins at `begin`.
    fn at(self, begin: usize) -> Packet {
        Packet { data: begin + self.data.start..begin + self.data.end, ..self }
    }
}

/// The number at `at`, which the caller has checked to be in bounds.
#[inline]
fn u32_at(bytes: &[u8], at: usize, big_endian: bool) -> u32 {
    let b = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    if big_endian { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) }
}

fn u16_at(bytes: &[u8], at: usize, big_endian: bool) -> u16 {
    let b = bytes.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
    if big_endian { u16::from_be_bytes(b) } else { u16::from_le_bytes(b) }
}

/// The order of a record's two lengths.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lengths {
    CapturedFirst,
    /// Before version 2.3.
    OriginalFirst,
    /// Version 2.3 was written in both orders: the smaller one is the captured length.
    LesserIsCaptured,
}

/// Classic pcap: a header, then records.
struct Classic {
    big_endian: bool,
    /// Alexey Kuznetzov's variant: records with interface, protocol and packet type.
    modified: bool,
    lengths: Lengths,
    fraction: u32, // nanoseconds in a unit of the second time field
    on: Interface,
}

impl Classic {
    fn new(begin: &[u8]) -> Result<Self, String> {
        let magic = match begin {
            [] => return Err("the file is empty".to_owned()),
            [a, b, c, d, ..] => u32::from_be_bytes([*a, *b, *c, *d]),
            _ => return Err(not_a_capture(begin)),
        };
        let (big_endian, fraction, modified) = match magic {
            0xa1b2_c3d4 => (true, 1000, false),
            0xd4c3_b2a1 => (false, 1000, false),
            0xa1b2_3c4d => (true, 1, false),
            0x4d3c_b2a1 => (false, 1, false),
            0xa1b2_cd34 => (true, 1000, true),
            0x34cd_b2a1 => (false, 1000, true),
            _ => return Err(not_a_capture(begin)),
        };
        if begin.len() < PCAP_HEADER {
            return Err(cut(begin.len(), PCAP_HEADER));
        }
        let lengths = match [4, 6].map(|at| u16_at(begin, at, big_endian)) {
            [2, 0..3] => Lengths::OriginalFirst,
            [2, 3] => Lengths::LesserIsCaptured,
            [2, _] => Lengths::CapturedFirst,
            [major, minor] => {
                return Err(format!("pcap version {major}.{minor} is not supported (only 2.4)"));
            }
        };
        // The link type field also contains the length of the FCS, in units of 16 bits, if bit 26
        // is set.
        let network = u32_at(begin, 20, big_endian);
        Ok(Classic {
            big_endian,
            modified,
            lengths,
            fraction,
            on: Interface {
                fcs: if network & 1 << 26 == 0 { 0 } else { (network >> 28) * 2 },
                ..Interface::new(network as u16, 0)
            }
            .described(),
        })
    }

    /// The length of a record's header.
    fn header(&self) -> usize {
        if self.modified { 24 } else { 16 }
    }

    /// The captured and the original length in a record's header.
    #[inline]
    fn lengths(&self, head: &[u8]) -> (u32, u32) {
        let [first, second] = [8, 12].map(|at| u32_at(head, at, self.big_endian));
        let swapped = match self.lengths {
            Lengths::CapturedFirst => false,
            Lengths::OriginalFirst => true,
            Lengths::LesserIsCaptured => first > second,
        };
        if swapped { (second, first) } else { (first, second) }
    }

    /// The record at the beginning of the held data, and its length, if it is complete.
    #[inline]
    fn held(&self, have: &[u8]) -> Option<(Packet, usize)> {
        let header = self.header();
        let head = have.get(..header)?;
        let (captured, orig_len) = self.lengths(head);
        let whole = header + captured as usize;
        if whole > have.len() || whole > MAX_RECORD {
            return None;
        }
        let [seconds, fraction] = [0, 4].map(|at| u32_at(head, at, self.big_endian));
        let (ifindex, direction) = if self.modified {
            let ifindex = u32_at(head, 16, self.big_endian);
            ((ifindex > 0).then_some(ifindex), (head[22] == OUTGOING).then_some(Hook::Tx))
        } else {
            (None, None)
        };
        let packet = Packet {
            data: header..whole,
            orig_len,
            time: Some(
                Duration::from_secs(seconds.into())
                    + Duration::from_nanos(u64::from(fraction) * u64::from(self.fraction)),
            ),
            interface: 0,
            fcs: None,
            ifindex,
            direction,
        };
        Some((packet, whole))
    }

    /// See [`Format::plain`].
    #[inline]
    fn plain<'a>(&self, have: &'a [u8]) -> Option<(PlainFrame<'a>, usize)> {
        if self.modified || self.lengths != Lengths::CapturedFirst || !self.on.is_plain {
            return None;
        }
        let head = have.first_chunk::<16>()?;
        let word = |at: usize| u32_at(head, at, self.big_endian);
        let whole = head.len() + word(8) as usize;
        if whole > MAX_RECORD {
            return None;
        }
        let data = have.get(head.len()..whole)?;
        let time =
            u64::from(word(0)) * 1_000_000_000 + u64::from(word(4)) * u64::from(self.fraction);
        Some((PlainFrame::new(data, word(12), time)?, whole))
    }

    fn next_packet(&mut self, window: &mut Window) -> Result<Option<Packet>, ReadError> {
        let header = self.header();
        let have = window.want(header)?;
        if have.is_empty() {
            return Ok(None);
        }
        if have.len() < header {
            let what = cut(have.len(), header);
            return Err(window.broken(what));
        }
        let whole = header.saturating_add(self.lengths(have).0 as usize);
        if whole > MAX_RECORD {
            return Err(window.broken(too_long(whole)));
        }
        let have = window.want(whole)?;
        match self.held(have) {
            Some((packet, whole)) => Ok(Some(packet.at(window.consume(whole).start))),
            None => {
                let what = cut(have.len(), whole);
                Err(window.broken(what))
            }
        }
    }
}

/// A section of a pcapng file: a header that determines the byte order, then blocks.
#[derive(Default)]
struct Section {
    big_endian: bool,
    interfaces: Vec<Interface>,
    /// The number of the section's first interface, counted through the whole file.
    first: u32,
}

/// The options of a block, up to the end or to invalid ones.
struct Options<'a> {
    rest: &'a [u8],
    big_endian: bool,
}

impl<'a> Iterator for Options<'a> {
    type Item = (u16, &'a [u8]);
    fn next(&mut self) -> Option<Self::Item> {
        let (head, rest) = self.rest.split_at_checked(4)?;
        let (code, length) = (u16_at(head, 0, self.big_endian), u16_at(head, 2, self.big_endian));
        let value = rest.get(..length.into())?;
        self.rest = rest.get(usize::from(length).next_multiple_of(4)..).unwrap_or_default();
        (code != 0).then_some((code, value))
    }
}

impl Section {
    fn u32(&self, bytes: &[u8], at: usize) -> u32 {
        u32_at(bytes, at, self.big_endian)
    }

    fn options<'a>(&self, rest: &'a [u8]) -> Options<'a> {
        Options { rest, big_endian: self.big_endian }
    }

    fn next_packet(&mut self, window: &mut Window) -> Result<Option<Packet>, ReadError> {
        loop {
            let head = window.want(12)?;
            match head.len() {
                0 => return Ok(None),
                n @ 1..12 => return Err(window.broken(cut(n, 12))),
                _ => {}
            }
            let is_header = head.starts_with(&SECTION.to_le_bytes()); // reads the same in both byte orders
            if is_header {
                self.big_endian = match head[8..12].first_chunk().map(|b| u32::from_le_bytes(*b)) {
                    Some(BYTE_ORDER) => false,
                    Some(other) if other.swap_bytes() == BYTE_ORDER => true,
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
            if !is_header
                && !matches!(kind, DESCRIPTION | ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET)
            {
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
                _ if kind == DESCRIPTION => self.describe(block).map(|()| None),
                _ => self.packet(kind, block).map(Some),
            };
            let found = found.map_err(|what| window.broken(what))?;
            let block = window.consume(length);
            if let Some(packet) = found {
                return Ok(Some(packet.at(block.start)));
            }
        }
    }

    /// The packet block at the beginning of the held data, and its length, if it is valid and
    /// complete.
    #[inline]
    fn held(&self, have: &[u8]) -> Option<(Packet, usize)> {
        let head = have.first_chunk::<8>()?;
        let (kind, length) = (self.u32(head, 0), self.u32(head, 4) as usize);
        if !matches!(kind, ENHANCED_PACKET | SIMPLE_PACKET | OBSOLETE_PACKET)
            || !(12..=MAX_RECORD).contains(&length)
        {
            return None;
        }
        let block = have.get(..length)?;
        if self.u32(block, length - 4) as usize != length {
            return None;
        }
        Some((self.packet(kind, block).ok()?, length))
    }

    /// See [`Format::plain`]: an enhanced packet block without options.
    #[inline]
    fn plain<'a>(&self, have: &'a [u8], interface: u32) -> Option<(PlainFrame<'a>, usize)> {
        let head = have.first_chunk::<28>()?;
        let word = |at: usize| self.u32(head, at);
        let (on, length) = (self.interfaces.get(word(8) as usize)?, word(4) as usize);
        let captured = word(20) as usize;
        if word(0) != ENHANCED_PACKET
            || self.first.saturating_add(word(8)) != interface
            || !on.is_plain
            || length > MAX_RECORD
            || captured > length
            || length != head.len() + captured.next_multiple_of(4) + 4
            || self.u32(have.get(..length)?, length - 4) as usize != length
        {
            return None;
        }
        let time = ticks(word(12), word(16)).checked_mul(on.nanoseconds?.get())?;
        let data = &have[head.len()..head.len() + captured];
        Some((PlainFrame::new(data, word(24), time)?, length))
    }

    /// Skips a block that is not needed, however long it is.
    fn skip(&self, window: &mut Window, length: usize) -> Result<(), ReadError> {
        let at = window.offset;
        let skipped = window.skip(length - 4)?;
        let tail = window.wait_for(4)?;
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
        if block.len() < 28 {
            return Err("the section header cannot be read".to_owned());
        }
        let [major, minor] = [12, 14].map(|at| u16_at(block, at, self.big_endian));
        if major != 1 {
            return Err(format!("pcapng version {major}.{minor} is not supported (only 1.0)"));
        }
        self.first = self.first.saturating_add(self.interfaces.len() as u32);
        self.interfaces.clear();
        Ok(())
    }

    fn describe(&mut self, block: &[u8]) -> Result<(), String> {
        if self.interfaces.len() >= MAX_INTERFACES {
            return Err(format!("more than {MAX_INTERFACES} interfaces in one section"));
        }
        if block.len() < 20 {
            return Err("the interface description cannot be read".to_owned());
        }
        let link = u16_at(block, 8, self.big_endian);
        let mut on = Interface::new(link, self.u32(block, 12));
        for option in self.options(&block[16..block.len() - 4]) {
            match option {
                (2, name) => {
                    let name = name.split(|b| *b == 0).next().unwrap_or_default();
                    let name = String::from_utf8_lossy(name);
                    on.name = name.chars().take(MAX_NAME).collect::<String>().into();
                }
                (9, [resolution]) => on.resolution = *resolution,
                (14, value) => {
                    let b = value.try_into().unwrap_or_default();
                    on.offset =
                        if self.big_endian { i64::from_be_bytes(b) } else { i64::from_le_bytes(b) };
                }
                // The draft specifies bits but its example is 4: both are accepted.
                (13, [fcs]) => {
                    on.fcs = if *fcs > 8 { u32::from(*fcs) / 8 } else { u32::from(*fcs) }
                }
                _ => {}
            }
        }
        self.interfaces.push(on.described());
        Ok(())
    }

    /// Parses a packet of any of the three kinds of block; `data` is relative to the block.
    fn packet(&self, kind: u32, block: &[u8]) -> Result<Packet, String> {
        let misfit = || "the packet does not fit into its block".to_owned();
        let body = block.len() - 4; // the trailer
        let start = if kind == SIMPLE_PACKET { 12 } else { 28 };
        let room = body.checked_sub(start).ok_or_else(misfit)?;
        let on = |interface: u32| {
            self.interfaces.get(interface as usize).ok_or_else(|| {
                format!(
                    "a packet of interface {interface}, but the section describes only {}",
                    self.interfaces.len()
                )
            })
        };
        let mut packet = Packet {
            data: start..start,
            orig_len: 0,
            time: None,
            interface: 0,
            fcs: None,
            ifindex: None,
            direction: None,
        };
        if kind == SIMPLE_PACKET {
            let orig_len = self.u32(block, 8);
            let most = match on(0)?.snaplen {
                0 => u32::MAX,
                snaplen => snaplen,
            };
            packet.orig_len = orig_len;
            packet.data = start..start + room.min(orig_len.min(most) as usize);
            return Ok(packet);
        }
        packet.interface = match self.u32(block, 8) {
            n if kind == ENHANCED_PACKET => n,
            // 16 bits of interface, 16 of drops
            n if self.big_endian => n >> 16,
            n => n & 0xffff,
        };
        let length = self.u32(block, 20) as usize;
        if length > room {
            return Err(misfit());
        }
        let on = on(packet.interface)?;
        packet.orig_len = self.u32(block, 24);
        packet.data = start..start + length;
        let ticks = ticks(self.u32(block, 12), self.u32(block, 16));
        let usual = on.nanoseconds.and_then(|n| ticks.checked_mul(n.get()));
        let unusual = || time(ticks, on.resolution, on.offset);
        packet.time = Some(usual.map_or_else(unusual, Duration::from_nanos));
        let options = (start + length).next_multiple_of(4).min(body);
        for option in self.options(&block[options..body]) {
            if let (2, [_, _, _, _]) = option {
                let flags = self.u32(option.1, 0);
                packet.fcs = Some(flags >> 5 & 15).filter(|fcs| *fcs > 0);
                packet.direction = match flags & 3 {
                    1 => Some(Hook::Rx),
                    2 => Some(Hook::Tx),
                    _ => None,
                };
            }
        }
        Ok(packet)
    }
}

fn ticks(high: u32, low: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

/// The time of a pcapng packet; `resolution` is a negative power of ten, or of two if its top bit is set.
fn time(ticks: u64, resolution: u8, offset: i64) -> Duration {
    let base: u128 = if resolution & 0x80 == 0 { 10 } else { 2 };
    let ticks = u128::from(ticks);
    // If the resolution is so fine that no tick reaches a nanosecond, all times are the offset.
    let (seconds, nanoseconds) = match base.checked_pow(u32::from(resolution & 0x7f)) {
        Some(per_second) => (ticks / per_second, ticks % per_second * 1_000_000_000 / per_second),
        None => (0, 0),
    };
    let seconds = u64::try_from(seconds).unwrap_or(u64::MAX).saturating_add_signed(offset);
    Duration::new(seconds, nanoseconds as u32)
}

fn cut(have: usize, whole: usize) -> String {
    format!("the capture ends inside a record: {have} of {whole} bytes are present")
}

fn too_long(length: usize) -> String {
    format!("a record of {length} bytes is implausible (more than {MAX_RECORD})")
}

fn lengths_differ(length: usize, trailer: usize) -> String {
    format!("a block has length {length} at its start and {trailer} at its end")
}

/// What a file that is not a capture probably is.
fn not_a_capture(begin: &[u8]) -> String {
    let packed =
        |how, tool| format!("not a capture but {how}; try: {tool} -dc FILE | tmon replay -");
    match begin {
        // in data that has been unpacked already
        [0x1f, 0x8b, ..] => packed("gzip data once more", "gzip"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => packed("Zstandard data once more", "zstd"),
        [0xfd, b'7', b'z', b'X', b'Z', ..] => packed("XZ data", "xz"),
        [b'B', b'Z', b'h', ..] => packed("bzip2 data", "bzip2"),
        _ => "not a capture: neither pcap nor pcapng (try `editcap -F pcapng` on formats of other tools)".to_owned(),
    }
}

fn unreadable(offset: u64, e: io::Error) -> ReadError {
    ReadError { offset, what: format!("cannot be read: {e}"), source: Some(e) }
}

/// A sliding window on the input: a buffer that moves over it. If somebody holds the buffer,
/// another one takes over.
///
/// The file is read, not mapped: reading into a buffer that stays in the CPU's cache costs no more
/// than the page faults of a mapping, and a file that is truncated meanwhile simply ends, where a
/// mapping would raise a signal.
struct Window {
    input: Box<dyn Read + Send>,
    buffer: Buffer,
    /// Buffers that were held, for reuse.
    others: Vec<Buffer>,
    /// The size of a new one.
    size: usize,
    reads: u64,
    held: Range<usize>, // of the buffer: read but not consumed
    offset: u64,        // in the file, of the begin of `held`
}

impl Window {
    fn new(input: Box<dyn Read + Send>) -> Self {
        Window {
            input,
            buffer: Arc::new(vec![0; FIRST_BUFFER]),
            others: Vec::new(),
            size: FIRST_BUFFER,
            reads: 0,
            held: 0..0,
            offset: 0,
        }
    }

    /// The held data, after reading until it is at least `n` bytes or the input ends.
    #[inline]
    fn want(&mut self, n: usize) -> Result<&[u8], ReadError> {
        if self.held.len() < n {
            self.fill(n)?;
        }
        Ok(&self.buffer[self.held.clone()])
    }

    #[cold]
    fn fill(&mut self, n: usize) -> Result<(), ReadError> {
        while self.held.len() < n {
            self.make_room(n);
            let buffer = Arc::make_mut(&mut self.buffer); // which nobody else has now
            match self.input.read(&mut buffer[self.held.end..]) {
                Ok(0) => break,
                Ok(read) => {
                    self.held.end += read;
                    self.reads += 1;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(unreadable(self.offset + self.held.len() as u64, e)),
            }
        }
        Ok(())
    }

    /// Obtains a buffer that nobody else holds, moves the held data to its beginning if `n` bytes
    /// would not fit after it, and makes room for more.
    fn make_room(&mut self, n: usize) {
        let (held, length) = (self.held.clone(), self.buffer.len());
        // Grown as bytes arrive, not as a length field claims.
        let longer = if held.len() == length { 2 * length } else { 0 };
        match Arc::get_mut(&mut self.buffer) {
            Some(buffer) => {
                if held.end == length || held.start + n > length {
                    buffer.copy_within(held, 0);
                    self.held = 0..self.held.len();
                }
                if longer > 0 {
                    buffer.resize(longer, 0);
                }
            }
            None => {
                let size = longer.max(self.size).max(2 * held.len());
                let free = |b: &mut Buffer| b.len() >= size && Arc::get_mut(b).is_some();
                let mut next = match self.others.iter_mut().position(free) {
                    Some(i) => self.others.swap_remove(i),
                    None => Arc::new(vec![0; size]),
                };
                Arc::make_mut(&mut next)[..held.len()].copy_from_slice(&self.buffer[held.clone()]);
                self.held = 0..held.len();
                let before = mem::replace(&mut self.buffer, next);
                if before.len() == self.size {
                    self.others.push(before);
                }
            }
        }
    }

    /// Moves past `n` held bytes; returns their range in the buffer, valid until the next `want`.
    #[inline]
    fn consume(&mut self, n: usize) -> Range<usize> {
        let n = n.min(self.held.len());
        let start = self.held.start;
        self.held.start += n;
        self.offset += n as u64;
        start..start + n
    }

    /// Like [`Window::want`], but waits: for callers that have consumed a part of a record.
    fn wait_for(&mut self, n: usize) -> Result<&[u8], ReadError> {
        while self.held.len() < n {
            match self.fill(n) {
                Err(e) if e.is_waiting() => {}
                filled => {
                    filled?;
                    break;
                }
            }
        }
        Ok(&self.buffer[self.held.clone()])
    }

    /// Moves past `n` bytes, held or not; returns how many there were.
    fn skip(&mut self, n: usize) -> Result<usize, ReadError> {
        let mut skipped = 0;
        while skipped < n {
            let step = self.wait_for((n - skipped).min(FIRST_BUFFER))?.len().min(n - skipped);
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
