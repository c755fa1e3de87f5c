// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures built by hand in every flavour, whole, cut, contradictory and mutated.
use std::{
    collections::VecDeque,
    io::{Cursor, Write},
    num::NonZeroU8,
};

use proptest::prelude::*;

use super::*;

/// Writes numbers in either byte order.
#[derive(Clone, Default)]
struct Bytes {
    big_endian: bool,
    bytes: Vec<u8>,
}

impl Bytes {
    fn new(big_endian: bool) -> Self {
        Bytes { big_endian, bytes: Vec::new() }
    }
    fn u16(mut self, n: u16) -> Self {
        self.bytes.extend(if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() });
        self
    }
    fn u32(mut self, n: u32) -> Self {
        self.bytes.extend(if self.big_endian { n.to_be_bytes() } else { n.to_le_bytes() });
        self
    }
    fn raw(mut self, b: &[u8]) -> Self {
        self.bytes.extend(b);
        self
    }
    fn padded(self, b: &[u8]) -> Self {
        self.raw(b).raw(&[0; 3][..b.len().wrapping_neg() % 4])
    }
    /// A pcapng block around `body`.
    fn block(self, kind: u32, body: impl Fn(Self) -> Self) -> Self {
        let body = body(Bytes::new(self.big_endian)).bytes;
        let length = body.len() as u32 + 12;
        self.u32(kind).u32(length).raw(&body).u32(length)
    }
    fn section(self) -> Self {
        self.block(SECTION, |b| b.u32(BYTE_ORDER).u16(1).u16(0).u32(u32::MAX).u32(u32::MAX))
    }
    fn described(self, link: u16, snaplen: u32, options: &[(u16, &[u8])]) -> Self {
        self.block(DESCRIPTION, |b| {
            let b = b.u16(link).u16(0).u32(snaplen);
            options
                .iter()
                .fold(b, |b, (code, value)| b.u16(*code).u16(value.len() as u16).padded(value))
        })
    }
    fn enhanced(self, interface: u32, ticks: u64, data: &[u8], orig_len: u32) -> Self {
        self.block(ENHANCED_PACKET, |b| {
            let b = b
                .u32(interface)
                .u32((ticks >> 32) as u32)
                .u32(ticks as u32)
                .u32(data.len() as u32)
                .u32(orig_len)
                .padded(data);
            b.u16(1).u16(5).padded(b"\x1b[2J!").u16(0).u16(0) // a comment that would clear a terminal
        })
    }
    fn simple(self, data: &[u8], orig_len: u32) -> Self {
        self.block(SIMPLE_PACKET, |b| b.u32(orig_len).padded(data))
    }
    fn obsolete(self, interface: u16, ticks: u64, data: &[u8], orig_len: u32) -> Self {
        self.block(OBSOLETE_PACKET, |b| {
            let b = b.u16(interface).u16(77).u32((ticks >> 32) as u32).u32(ticks as u32);
            b.u32(data.len() as u32).u32(orig_len).padded(data)
        })
    }
    /// A classic file header.
    fn classic(self, magic: u32, network: u32) -> Self {
        self.u32(magic).u16(2).u16(4).u32(0).u32(0).u32(262_144).u32(network)
    }
    fn record(self, seconds: u32, fraction: u32, data: &[u8], orig_len: u32) -> Self {
        self.u32(seconds).u32(fraction).u32(data.len() as u32).u32(orig_len).raw(data)
    }
}

/// A frame that outlives the reader.
#[derive(Clone, Debug, PartialEq)]
struct Owned {
    link: LinkType,
    data: Vec<u8>,
    orig_len: u32,
    time: Option<Duration>,
    interface: u32,
}

/// All frames, and the error at the end if there is one.
fn read(input: impl Read + Send + 'static) -> (Vec<Owned>, Option<ReadError>) {
    let mut reader = match Reader::new(input) {
        Ok(reader) => reader,
        Err(e) => return (vec![], Some(e)),
    };
    let mut frames = vec![];
    let end = loop {
        let before = reader.position();
        match reader.next_frame() {
            Ok(Some(CapturedFrame { link, data, orig_len, time, interface, .. })) => {
                frames.push(Owned { link, data: data.to_vec(), orig_len, time, interface });
            }
            Ok(None) => break None,
            Err(e) => break Some(e),
        }
        assert!(reader.position() > before);
    };
    assert!(reader.window.buffer.len() <= 2 * MAX_RECORD);
    assert!(matches!(reader.next_frame(), Ok(None)), "after its end a capture stays ended");
    (frames, end)
}

fn whole(file: Bytes) -> Vec<Owned> {
    let (frames, error) = read(Cursor::new(file.bytes));
    assert!(error.is_none(), "{error:?}");
    frames
}

fn error(file: Bytes) -> ReadError {
    read(Cursor::new(file.bytes)).1.expect("an error")
}

fn owned(link: u16, data: &[u8], orig_len: u32, time: Duration, interface: u32) -> Owned {
    let time = Some(time);
    Owned { link: LinkType::from_number(link), data: data.to_vec(), orig_len, time, interface }
}

const A: &[u8] = b"0123456789abcdef";
const B: &[u8] = b"xyz";

#[test]
fn classic_files_of_every_flavour_read_the_same() {
    let second = Duration::from_secs(1_700_000_000);
    for (big_endian, magic, unit) in [
        (false, 0xa1b2_c3d4, 1000),
        (true, 0xa1b2_c3d4, 1000),
        (false, 0xa1b2_3c4d, 1),
        (true, 0xa1b2_3c4d, 1),
    ] {
        let file = Bytes::new(big_endian)
            .classic(magic, 101)
            .record(1_700_000_000, 5, A, 16)
            .record(1_700_000_000, 999_999, B, 1500);
        let at = |n: u64| second + Duration::from_nanos(n * unit);
        let expected = [owned(101, A, 16, at(5), 0), owned(101, B, 1500, at(999_999), 0)];
        assert_eq!(whole(file), expected, "big endian: {big_endian}, magic {magic:x}");
    }
}

#[test]
fn modified_pcap_has_interface_and_direction_in_either_byte_order() {
    for big_endian in [false, true] {
        let record = |file: Bytes, packet: u8| {
            file.u32(7).u32(0).u32(3).u32(3).u32(5).u16(0x0800).raw(&[packet, 0]).raw(B)
        };
        let file = record(record(Bytes::new(big_endian).classic(0xa1b2_cd34, 1), 0), OUTGOING);
        assert_eq!(whole(file.clone()), vec![owned(1, B, 3, Duration::from_secs(7), 0); 2]);
        let mut reader = Reader::new(Cursor::new(file.bytes)).unwrap();
        for direction in [None, Some(Hook::Tx)] {
            let frame = reader.next_frame().unwrap().unwrap();
            assert_eq!((frame.ifindex, frame.direction), (Some(5), direction));
        }
    }
}

#[test]
fn lengths_are_swapped_before_version_2_3() {
    let file = |big_endian, minor: u16| {
        Bytes::new(big_endian).u32(0xa1b2_c3d4).u16(2).u16(minor).raw(&[0; 8]).u32(0xffff).u32(1)
    };
    let zero = Duration::ZERO;
    for big_endian in [false, true] {
        for (minor, lengths) in [(2, [100, 16]), (3, [100, 16]), (3, [16, 100]), (4, [16, 100])] {
            let file = file(big_endian, minor).u32(0).u32(0).u32(lengths[0]).u32(lengths[1]).raw(A);
            assert_eq!(whole(file), [owned(1, A, 100, zero, 0)], "2.{minor} {lengths:?}");
        }
    }
}

#[test]
fn packet_blocks_have_direction_and_fcs_and_interfaces_have_names() {
    for big_endian in [false, true] {
        let packet = |file: Bytes, flags: u32| {
            file.block(ENHANCED_PACKET, |b| {
                b.u32(0).u32(0).u32(0).u32(16).u32(16).raw(A).u16(2).u16(4).u32(flags)
            })
        };
        let mut file =
            Bytes::new(big_endian).section().described(1, 0, &[(2, b"bond0\0junk"), (13, &[2])]);
        for flags in [0, 1, 2, 3, 4 << 5 | 1] {
            file = packet(file, flags);
        }
        let mut reader = Reader::new(Cursor::new(file.bytes)).unwrap();
        for (direction, length) in [
            (None, 14),
            (Some(Hook::Rx), 14),
            (Some(Hook::Tx), 14),
            (None, 14),
            (Some(Hook::Rx), 12),
        ] {
            let frame = reader.next_frame().unwrap().unwrap();
            assert_eq!((frame.name, frame.direction), ("bond0", direction));
            assert_eq!((frame.orig_len, frame.data), (length, &A[..length as usize]));
        }
    }
    let long = "größe".repeat(50);
    let file =
        Bytes::new(false).section().described(1, 0, &[(2, long.as_bytes())]).enhanced(0, 0, A, 16);
    let mut reader = Reader::new(Cursor::new(file.bytes)).unwrap();
    assert_eq!(reader.next_frame().unwrap().unwrap().name.chars().count(), MAX_NAME);
}

#[test]
fn a_frame_check_sequence_is_not_counted() {
    let file = Bytes::new(true)
        .classic(0xa1b2_c3d4, 2 << 28 | 1 << 26 | 1)
        .record(0, 0, A, 16)
        .record(0, 0, B, 100)
        .record(0, 0, B, 3);
    let z = Duration::ZERO;
    assert_eq!(
        whole(file),
        [owned(1, &A[..12], 12, z, 0), owned(1, B, 96, z, 0), owned(1, b"", 0, z, 0)]
    );
    for fcslen in [4, 32] {
        let file =
            Bytes::new(false).section().described(1, 0, &[(13, &[fcslen])]).enhanced(0, 0, A, 16);
        assert_eq!(whole(file), [owned(1, &A[..12], 12, z, 0)]);
    }
}

/// Every kind of packet block, several interfaces, and a second section in the other byte order.
fn every_block(big_endian: bool) -> Bytes {
    let offset = 10i64;
    let offset = if big_endian { offset.to_be_bytes() } else { offset.to_le_bytes() };
    let first = Bytes::new(big_endian)
        .section()
        .described(1, 8, &[])
        .described(113, 0, &[(2, b"eth0"), (9, &[9]), (14, &offset), (0, b"")])
        .block(0x0bad, |b| b.u32(32473).raw(b"anything")) // a custom block
        .enhanced(1, 1_500_000_001, A, 16)
        .simple(&A[..8], 60)
        .obsolete(0, 2_000_000, B, 40)
        .enhanced(0, 1 << 33, B, 3);
    let second = Bytes::new(!big_endian)
        .section()
        .described(276, 0, &[(9, &[0x80 | 10])])
        .enhanced(0, 1024 * 3 + 512, A, 16)
        .simple(B, 3);
    first.raw(&second.bytes)
}

#[test]
fn pcapng_in_both_byte_orders_with_every_packet_block() {
    let s = Duration::from_secs;
    for big_endian in [false, true] {
        let simple = |frame: Owned| Owned { time: None, ..frame };
        let expected = [
            owned(113, A, 16, s(11) + Duration::from_nanos(500_000_001), 1),
            simple(owned(1, &A[..8], 60, s(0), 0)), // cut at the snaplen
            owned(1, B, 40, s(2), 0),
            owned(1, B, 3, Duration::from_micros(1 << 33), 0),
            owned(276, A, 16, Duration::from_millis(3500), 2),
            simple(owned(276, B, 3, s(0), 2)),
        ];
        assert_eq!(whole(every_block(big_endian)), expected, "big endian: {big_endian}");
    }
}

#[test]
fn any_time_resolution_is_understood() {
    let s = Duration::from_secs;
    for (ticks, resolution, offset, expected) in [
        (5, 0, 0, s(5)),
        (5, 0, -3, s(2)),
        (5, 0, -9, s(0)),
        (u64::MAX, 0, i64::MAX, s(u64::MAX)),
        (u64::MAX, 19, 0, s(1) + Duration::from_nanos(844_674_407)),
        (u64::MAX, 38, 0, s(0)),
        (u64::MAX, 127, 7, s(7)),
        (u64::MAX, 0x80 | 64, 0, Duration::from_nanos(999_999_999)),
        (u64::MAX, 0xff, 0, s(0)),
        (3, 0x80, 0, s(3)),
    ] {
        assert_eq!(time(ticks, resolution, offset), expected, "{ticks} {resolution:#x} {offset}");
    }
}

#[test]
fn truncation_at_any_byte_keeps_earlier_frames_and_reports_the_position() {
    let classic = |big| {
        Bytes::new(big)
            .classic(0xa1b2_c3d4, 1)
            .record(1, 2, A, 16)
            .record(3, 4, B, 60)
            .record(5, 6, b"", 0)
    };
    for file in [classic(false), classic(true), every_block(false), every_block(true)] {
        let frames = whole(file.clone());
        let mut boundaries = vec![];
        let mut cuts = 0;
        for n in 0..=file.bytes.len() {
            let (some, error) = read(Cursor::new(file.bytes[..n].to_vec()));
            assert_eq!(some, frames[..some.len()]);
            match error {
                None => boundaries.push(n),
                // The place is the begin of the record that was cut.
                Some(e) => {
                    assert_eq!(
                        e.offset,
                        *boundaries.last().unwrap_or(&0) as u64,
                        "cut at {n}: {e}"
                    );
                    cuts += usize::from(e.what.contains("inside a record"));
                }
            }
        }
        assert_eq!(boundaries.last(), Some(&file.bytes.len()));
        assert!(boundaries.len() >= frames.len());
        assert!(cuts > file.bytes.len() / 2);
    }
}

/// Gives few bytes at a time, and an interruption before each.
struct Drip(VecDeque<u8>, NonZeroU8, bool);

impl Read for Drip {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.2 = !self.2;
        if self.2 {
            return Err(ErrorKind::Interrupted.into());
        }
        let n = buffer.len().min(self.1.get().into());
        self.0.read(&mut buffer[..n])
    }
}

#[test]
fn a_slow_pipe_reads_like_a_file() {
    for file in [
        every_block(true),
        Bytes::new(false).classic(0xa1b2_c3d4, 1).record(1, 2, A, 16).record(3, 4, B, 60),
    ] {
        for step in [1, 3, 64] {
            let (frames, error) =
                read(Drip(file.bytes.clone().into(), NonZeroU8::new(step).unwrap(), false));
            assert!(error.is_none());
            assert_eq!(frames, whole(file.clone()));
        }
    }
}

#[test]
fn records_and_skipped_blocks_may_exceed_the_buffer() {
    let long: Vec<u8> = (0..3 * FIRST_BUFFER).map(|i| (i / 251) as u8).collect();
    let file = Bytes::new(false)
        .classic(0xa1b2_c3d4, 1)
        .record(0, 0, A, 16)
        .record(0, 0, &long, 1 << 20)
        .record(0, 0, B, 3);
    assert_eq!(whole(file).iter().map(|f| f.data.len()).collect::<Vec<_>>(), [16, long.len(), 3]);

    let skipped = vec![7; MAX_RECORD + 4];
    let file = Bytes::new(true)
        .section()
        .described(1, 0, &[])
        .block(5, |b| b.raw(&skipped))
        .enhanced(0, 0, &long, 1 << 20);
    let frames = whole(file);
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].data, long);
}

#[test]
fn a_captured_length_above_the_original_is_reported_and_used() {
    let file = Bytes::new(false)
        .classic(0xa1b2_c3d4, 1)
        .record(0, 0, A, 4)
        .record(0, 0, A, 0)
        .record(0, 0, B, 3);
    let mut reader = Reader::new(Cursor::new(file.bytes)).unwrap();
    assert_eq!(reader.next_frame().unwrap().unwrap().orig_len, 16);
    assert_eq!(reader.contradictions(), 1);
    assert_eq!(reader.next_frame().unwrap().unwrap().orig_len, 16);
    assert_eq!(reader.next_frame().unwrap().unwrap().orig_len, 3);
    assert_eq!(reader.contradictions(), 2);
}

#[test]
fn errors_say_where_and_why() {
    let raw = |b: &[u8]| Bytes::default().raw(b);
    let ng = || Bytes::new(false).section().described(1, 0, &[]); // 28 + 20 bytes
    let classic = || Bytes::new(false).classic(0xa1b2_c3d4, 1);
    let mut bad_trailer = ng().enhanced(0, 0, A, 16);
    *bad_trailer.bytes.last_mut().unwrap() = 1;
    let mut bad_skipped_trailer = ng().block(99, |b| b.u32(0));
    *bad_skipped_trailer.bytes.last_mut().unwrap() = 1;
    for (file, offset, what) in [
        (raw(b""), 0, "the file is empty"),
        (raw(b"hello, this is no capture"), 0, "neither pcap nor pcapng"),
        (raw(b"\x1b["), 0, "neither pcap nor pcapng"),
        (raw(b"\x1f\x8b\x08\x00and so on, long enough to be one"), 0, "cannot be read: "),
        (raw(b"\x28\xb5\x2f\xfd"), 0, "cannot be read: "),
        (raw(b"\xfd7zXZ\x00"), 0, "xz -dc FILE | tmon replay -"),
        (raw(b"BZh9"), 0, "bzip2 -dc FILE | tmon replay -"),
        (raw(&gzip(&gzip(b"hello, this is no capture"))), 0, "gzip -dc FILE | tmon replay -"),
        (classic().u32(1), 24, "4 of 16 bytes are present"),
        (
            classic().record(0, 0, A, 16).u32(0).u32(0).u32(u32::MAX).u32(9),
            56,
            "a record of 4294967311 bytes is implausible",
        ),
        (Bytes::new(false).u32(0xa1b2_c3d4).u16(3).raw(&[0; 18]), 0, "pcap version 3.0"),
        (Bytes::new(false).u32(0xa1b2_c3d4).u16(2), 0, "6 of 24 bytes"),
        (Bytes::new(false).u32(SECTION).u32(28).u32(5), 0, "no byte order mark"),
        (
            Bytes::new(false).block(SECTION, |b| b.u32(BYTE_ORDER).u16(2).u16(0).raw(&[0xff; 8])),
            0,
            "pcapng version 2.0",
        ),
        (
            Bytes::new(false).block(SECTION, |b| b.u32(BYTE_ORDER)),
            0,
            "section header cannot be read",
        ),
        (ng().u32(ENHANCED_PACKET).u32(11).u32(0), 48, "cannot be 11 bytes long"),
        (ng().u32(ENHANCED_PACKET).u32(0xffff_fff0).u32(0), 48, "implausible"),
        (bad_trailer, 48, "has length 64 at its start and 1"),
        (bad_skipped_trailer, 48, "has length 16 at its start and"),
        (ng().u32(99).u32(1 << 30).u32(0), 48, "12 of 1073741824 bytes"),
        (
            ng().enhanced(1, 0, A, 16),
            48,
            "a packet of interface 1, but the section describes only 1",
        ),
        (
            Bytes::new(true).section().simple(A, 16),
            28,
            "a packet of interface 0, but the section describes only 0",
        ),
        (
            ng().block(ENHANCED_PACKET, |b| b.raw(&[0; 12]).u32(60).u32(60).raw(A)),
            48,
            "does not fit into its block",
        ),
        (
            ng().block(ENHANCED_PACKET, |b| b.raw(&[0; 12]).u32(u32::MAX).u32(60).raw(A)),
            48,
            "does not fit into its block",
        ),
        (
            ng().block(OBSOLETE_PACKET, |b| b.raw(&[0; 12]).u32(17).u32(60).raw(A)),
            48,
            "does not fit into its block",
        ),
        (ng().block(OBSOLETE_PACKET, |b| b.u32(0)), 48, "does not fit into its block"),
        (ng().block(DESCRIPTION, |b| b), 48, "interface description cannot be read"),
    ] {
        let e = error(file);
        assert_eq!(e.offset, offset, "{e}");
        assert!(e.what.contains(what), "{e} has no '{what}'");
        assert_eq!(e.to_string(), format!("at byte {offset}: {}", e.what));
    }
}

#[test]
fn too_many_interfaces_are_refused() {
    let mut file = Bytes::new(false).section();
    let one = Bytes::new(false).described(1, 0, &[]).bytes;
    file.bytes.extend(one.repeat(MAX_INTERFACES));
    assert!(whole(file.clone()).is_empty());
    file.bytes.extend(one);
    assert!(error(file).what.contains("interfaces in one section"));
}

#[test]
fn a_claimed_length_alone_takes_no_memory() {
    let file = Bytes::new(false)
        .classic(0xa1b2_c3d4, 1)
        .u32(0)
        .u32(0)
        .u32(MAX_RECORD as u32 - 16)
        .u32(9)
        .raw(A);
    let mut reader = Reader::new(Cursor::new(file.bytes)).unwrap();
    assert!(reader.next_frame().is_err());
    assert_eq!(reader.window.buffer.len(), FIRST_BUFFER);
}

#[test]
fn files_are_opened_and_failures_explained() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcap");
    std::fs::write(&path, Bytes::new(false).classic(0xa1b2_c3d4, 1).record(1, 2, A, 16).bytes)
        .unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!((reader.size(), reader.position()), (Some(56), 24));
    assert_eq!(reader.next_frame().unwrap().unwrap().data, A);
    assert_eq!(reader.position(), 56);
    let e = Reader::open(dir.path()).err().unwrap();
    assert!(e.to_string().starts_with("at byte 0: cannot be read: Is a directory"), "{e}");
    let e = Reader::open(dir.path().join("none")).err().unwrap();
    assert!(e.what.contains("No such file"), "{e}");
}

#[test]
fn the_body_begins_after_the_link_header() {
    let data = [&[0, 0, 0, 1, 0, 6, 2, 0, 0, 0, 0, 1, 0, 0, 8, 0], A].concat();
    let file = Bytes::new(false).classic(0xa1b2_c3d4, 113).record(0, 0, &data, 100).record(
        0,
        0,
        &data[..9],
        100,
    );
    let mut reader = Reader::new(Cursor::new(file.bytes)).unwrap();
    let frame = reader.next_frame().unwrap().unwrap();
    assert_eq!(
        (frame.body(), frame.link_header_len()),
        (Body::Typed { ethertype: 0x0800, payload: A }, 16)
    );
    let frame = reader.next_frame().unwrap().unwrap();
    assert_eq!((frame.body(), frame.link_header_len()), (Body::Truncated, 0));
}

proptest! {
    // A longer run: PROPTEST_CASES=1000000 cargo test --release --lib pcap
    #![proptest_config(ProptestConfig::with_cases(ProptestConfig::default().cases.max(2000)))]

    /// Whatever is changed in a good file: it ends, nothing panics, memory is bounded (see [`read`]).
    #[test]
    fn mutated_files_end_in_frames_or_an_error(
        which in 0..3usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<prop::sample::Index>(),
    ) {
        let files = [every_block(false), every_block(true), Bytes::new(true).classic(0xa1b2_3c4d, 113).record(1, 2, A, 16).record(3, 4, B, 60)];
        let mut bytes = files[which].bytes.clone();
        for (at, value) in changes {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes.truncate(cut.index(bytes.len() * 4).max(24)); // mostly whole
        let length = bytes.len() as u64;
        let (frames, error) = read(Cursor::new(bytes));
        prop_assert!(frames.iter().all(|f| f.data.len() <= f.orig_len as usize));
        prop_assert!(error.is_none_or(|e| e.offset <= length && !e.to_string().contains(char::is_control)));
    }

    #[test]
    fn any_bytes_after_a_good_header_end_as_well(big_endian: bool, ng: bool, tail in prop::collection::vec(any::<u8>(), 0..200)) {
        let begin = Bytes::new(big_endian);
        let begin = if ng { begin.section().described(1, 0, &[]) } else { begin.classic(0xa1b2_c3d4, 1) };
        read(Cursor::new(begin.raw(&tail).bytes));
    }

    #[test]
    fn any_frame_of_any_link_type_has_a_body_within(link: u16, common in 0..300u16, data in prop::collection::vec(any::<u8>(), 0..40)) {
        for link in [link, common] {
            let frame = CapturedFrame { link: LinkType::from_number(link), link_number: link, data: &data, orig_len: 40, time: None, interface: 0, name: "", ifindex: None, direction: None };
            let body = frame.body().bytes();
            prop_assert!(body.is_empty() || body == &data[frame.link_header_len()..]);
        }
    }
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    to.write_all(bytes).unwrap();
    to.finish().unwrap()
}

fn zstandard(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// How many frames there are, and why no more.
fn count(bytes: Vec<u8>, most: Option<u64>) -> (u64, Option<String>) {
    let mut reader = match Reader::of(Box::new(Cursor::new(bytes)), most, None) {
        Ok(reader) => reader,
        Err(e) => return (0, Some(e.to_string())),
    };
    let mut frames = 0;
    loop {
        match reader.next_frame() {
            Ok(Some(_)) => frames += 1,
            Ok(None) => return (frames, None),
            Err(e) => return (frames, Some(e.to_string())),
        }
    }
}

#[test]
fn compressed_files_are_unpacked_while_they_are_read() {
    let mut file = Bytes::new(false).classic(0xa1b2_c3d4, 1);
    for _ in 0..100_000 {
        file = file.record(0, 0, A, 16);
    }
    let plain = file.bytes;
    let halves = [gzip(&plain[..1000]), gzip(&plain[1000..])].concat();
    // As pzstd writes it: what a reader is to skip comes first.
    let skipped =
        [&[0x50, 0x2a, 0x4d, 0x18, 4, 0, 0, 0, 1, 2, 3, 4][..], &zstandard(&plain)].concat();
    for packed in [gzip(&plain), zstandard(&plain), halves, skipped] {
        assert_eq!(count(packed.clone(), None), (100_000, None));
        let (frames, why) = count(packed[..packed.len() / 2].to_vec(), None);
        assert!(frames > 0 && frames < 100_000 && why.is_some(), "cut: {frames} {why:?}");
        let (frames, why) = count(packed.clone(), Some(plain.len() as u64 / 2));
        let why = why.expect("it is more than half");
        assert!(frames > 1000 && frames < 50_001, "{frames}");
        assert!(why.contains("--max-size SIZE allows more"), "{why}");
        assert_eq!(count(packed, Some(plain.len() as u64)), (100_000, None));
    }
}

#[test]
fn a_decompression_bomb_ends_with_one_line() {
    let head = zstandard(&Bytes::new(false).classic(0xa1b2_c3d4, 1).bytes);
    let record = Bytes::new(false).u32(0).u32(0).u32(1 << 20).u32(1 << 20).raw(&vec![0; 1 << 20]);
    let records = zstandard(&record.bytes.repeat(32));
    assert!(records.len() < 32 << 10);
    let (frames, why) = count([head, records.repeat(32)].concat(), None);
    assert!(why.is_some_and(|w| w.contains("more than 1000000000;")), "{frames} frames");
    assert!((950..=953).contains(&frames), "{frames}");
}
