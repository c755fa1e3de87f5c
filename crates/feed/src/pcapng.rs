// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes captures: pcapng (draft-ietf-opsawg-pcapng), one section, nanosecond timestamps.
//!
//! Blocks are collected and written in large pieces. If a write fails inside a block, the writer
//! knows how many of the bytes written are complete blocks.
//!
//! Existing pcapng writers allocate for each packet or round its timestamp.
use std::{
    io::{self, ErrorKind, Write},
    net::IpAddr,
};

use model::flow::Hook;

const SECTION: u32 = 0x0a0d_0d0a;
const BYTE_ORDER: u32 = 0x1a2b_3c4d;
const DESCRIPTION: u32 = 1;
const NAMES: u32 = 4;
const STATISTICS: u32 = 5;
const PACKET: u32 = 6;

// Option codes: those of all blocks, and those of the blocks written here.
const END: u16 = 0;
const COMMENT: u16 = 1;
const SHB_OS: u16 = 3;
const SHB_APPLICATION: u16 = 4;
const IF_NAME: u16 = 2;
const IF_DESCRIPTION: u16 = 3;
const IF_TSRESOL: u16 = 9;
const EPB_FLAGS: u16 = 2;
const EPB_DROPCOUNT: u16 = 4;
const ISB_IFRECV: u16 = 4;
const ISB_IFDROP: u16 = 5;
const ISB_FILTERACCEPT: u16 = 6;
const ISB_OSDROP: u16 = 7;
const ISB_USRDELIV: u16 = 8;

const NANOSECONDS: u8 = 9; // negative power of ten

/// How many bytes are collected before they are written.
const PIECE: usize = 256 << 10;
/// Limits on the records in a name resolution block and on the length of a name, well below those
/// of readers.
const NAMES_IN_BLOCK: usize = 1000;
const LONGEST_NAME: usize = 255;

/// An interface description block.
#[derive(Clone, Copy, Debug, Default)]
pub struct InterfaceBlock<'a> {
    /// Its name; empty for none.
    pub name: &'a str,
    /// More about it: the network namespace, the file; empty for none.
    pub description: &'a str,
    /// The link-layer header type of its frames, by number.
    pub link: u16,
    /// The snapshot length; 0: no limit.
    pub snaplen: u32,
}

/// An enhanced packet block.
#[derive(Clone, Copy, Debug, Default)]
pub struct PacketBlock<'a> {
    /// The number returned by [`PcapngWriter::interface`].
    pub interface: u32,
    /// Nanoseconds since 1970-01-01 UTC.
    pub time: u64,
    /// The captured bytes.
    pub data: &'a [u8],
    /// Its length on the wire.
    pub orig_len: u32,
    /// Its direction.
    pub direction: Option<Hook>,
    /// How many packets of this interface were lost since the previous one.
    pub dropped: u64,
    /// A comment; empty for none.
    pub comment: &'a str,
}

/// An interface statistics block.
#[derive(Clone, Copy, Debug, Default)]
pub struct StatisticsBlock {
    /// The number of the interface.
    pub interface: u32,
    /// When the counts were taken, in nanoseconds since 1970-01-01 UTC.
    pub time: u64,
    /// Packets that were examined.
    pub received: Option<u64>,
    /// Packets that were dropped because of a rate limit.
    pub dropped: Option<u64>,
    /// Packets that matched the filter.
    pub accepted: Option<u64>,
    /// Packets that were dropped for lack of room.
    pub os_dropped: Option<u64>,
    /// Packets that are in the file.
    pub delivered: Option<u64>,
}

/// Writes a pcapng capture.
pub struct PcapngWriter<W> {
    out: W,
    buffer: Vec<u8>,
    interfaces: u32,
    /// How many bytes of complete blocks have been written.
    whole: u64,
    /// A block was written partially, so nothing can follow it.
    broken: bool,
}

impl<W: Write> PcapngWriter<W> {
    /// Starts a capture; `application` is recorded as the program that wrote it. Nothing is written
    /// yet.
    pub fn new(out: W, application: &str) -> Self {
        let mut writer = PcapngWriter {
            out,
            buffer: Vec::with_capacity(PIECE + (64 << 10)),
            interfaces: 0,
            whole: 0,
            broken: false,
        };
        writer.block(SECTION, |b| {
            b.u32(BYTE_ORDER);
            b.u16(1); // version 1.0
            b.u16(0);
            b.u64(u64::MAX); // section length unspecified
            b.text(SHB_OS, std::env::consts::OS);
            b.text(SHB_APPLICATION, application);
            b.option(END, &[]);
        });
        writer
    }

    /// Describes an interface and returns its number.
    ///
    /// # Errors
    /// See [`PcapngWriter::flush`].
    pub fn interface(&mut self, on: &InterfaceBlock<'_>) -> io::Result<u32> {
        let number = self.interfaces;
        self.interfaces += 1;
        self.block(DESCRIPTION, |b| {
            b.u16(on.link);
            b.u16(0);
            b.u32(on.snaplen);
            b.text(IF_NAME, on.name);
            b.text(IF_DESCRIPTION, on.description);
            b.option(IF_TSRESOL, &[NANOSECONDS]);
            b.option(END, &[]);
        });
        self.flush_if_full()?;
        Ok(number)
    }

    /// Writes a packet of an interface described before.
    ///
    /// # Errors
    /// See [`PcapngWriter::flush`].
    pub fn packet(&mut self, packet: &PacketBlock<'_>) -> io::Result<()> {
        let orig_len = packet.orig_len.max(u32::try_from(packet.data.len()).unwrap_or(u32::MAX));
        self.block(PACKET, |b| {
            b.u32(packet.interface);
            b.time(packet.time);
            b.u32(packet.data.len() as u32);
            b.u32(orig_len);
            b.padded(packet.data);
            let way = packet.direction.map_or(0, |hook| 1 + hook as u32);
            let options = way > 0 || packet.dropped > 0 || !packet.comment.is_empty();
            b.text(COMMENT, packet.comment);
            if way > 0 {
                b.option(EPB_FLAGS, &way.to_le_bytes());
            }
            b.number(EPB_DROPCOUNT, Some(packet.dropped).filter(|n| *n > 0));
            if options {
                b.option(END, &[]);
            }
        });
        self.flush_if_full()
    }

    /// Writes the names of addresses.
    ///
    /// # Errors
    /// See [`PcapngWriter::flush`].
    pub fn names<'a>(
        &mut self,
        names: impl IntoIterator<Item = (IpAddr, &'a str)>,
    ) -> io::Result<()> {
        const OF_IPV4: u16 = 1;
        const OF_IPV6: u16 = 2;
        let fits = |name: &str| {
            !name.is_empty() && name.len() <= LONGEST_NAME && !name.contains(char::is_control)
        };
        let mut names = names.into_iter().filter(|(_, name)| fits(name)).peekable();
        while names.peek().is_some() {
            self.block(NAMES, |b| {
                for (address, name) in names.by_ref().take(NAMES_IN_BLOCK) {
                    let mut record = [0; 16 + LONGEST_NAME + 1];
                    let (kind, octets) = match &address {
                        IpAddr::V4(a) => (OF_IPV4, &a.octets()[..]),
                        IpAddr::V6(a) => (OF_IPV6, &a.octets()[..]),
                    };
                    let end = octets.len() + name.len();
                    record[..octets.len()].copy_from_slice(octets);
                    record[octets.len()..end].copy_from_slice(name.as_bytes());
                    b.option(kind, &record[..=end]); // with a zero after the name
                }
                b.option(END, &[]); // the end of the records; there are no options
            });
            self.flush_if_full()?;
        }
        Ok(())
    }

    /// Writes the statistics of an interface.
    ///
    /// # Errors
    /// See [`PcapngWriter::flush`].
    pub fn statistics(&mut self, s: &StatisticsBlock) -> io::Result<()> {
        self.block(STATISTICS, |b| {
            b.u32(s.interface);
            b.time(s.time);
            b.number(ISB_IFRECV, s.received);
            b.number(ISB_IFDROP, s.dropped);
            b.number(ISB_FILTERACCEPT, s.accepted);
            b.number(ISB_OSDROP, s.os_dropped);
            b.number(ISB_USRDELIV, s.delivered);
            b.option(END, &[]);
        });
        self.flush_if_full()
    }

    fn flush_if_full(&mut self) -> io::Result<()> {
        if self.buffer.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    /// Writes the collected bytes.
    ///
    /// # Errors
    /// Writing fails, or has failed before: see [`PcapngWriter::whole`].
    pub fn flush(&mut self) -> io::Result<()> {
        if self.broken {
            return Err(io::Error::other("an earlier write failed"));
        }
        let mut done = 0;
        while let Some(rest) = self.buffer.get(done..).filter(|rest| !rest.is_empty()) {
            let written = match self.out.write(rest) {
                Ok(0) => Err(ErrorKind::WriteZero.into()),
                Ok(n) => Ok(n),
                Err(e) if e.kind() == ErrorKind::Interrupted => Ok(0),
                Err(e) => Err(e),
            };
            match written {
                Ok(n) => done += n,
                Err(e) => {
                    self.whole += whole_blocks(&self.buffer, done) as u64;
                    self.broken = true;
                    return Err(e);
                }
            }
        }
        self.whole += done as u64;
        self.buffer.clear();
        self.out.flush()
    }

    /// How many bytes from the beginning are complete blocks. After a failed write, the file is to
    /// be truncated to this length.
    pub fn whole(&self) -> u64 {
        self.whole
    }

    /// The length so far, including bytes not written yet.
    pub fn length(&self) -> u64 {
        self.whole + self.buffer.len() as u64
    }

    /// The underlying writer.
    pub fn get_ref(&self) -> &W {
        &self.out
    }

    fn block(&mut self, kind: u32, body: impl FnOnce(&mut Block<'_>)) {
        let begin = self.buffer.len();
        let mut block = Block(&mut self.buffer);
        block.u32(kind);
        block.u32(0);
        body(&mut block);
        let length = (self.buffer.len() - begin + 4) as u32;
        self.buffer[begin + 4..begin + 8].copy_from_slice(&length.to_le_bytes());
        self.buffer.extend_from_slice(&length.to_le_bytes());
    }
}

/// How many of the first `written` bytes are complete blocks.
fn whole_blocks(buffer: &[u8], written: usize) -> usize {
    let mut whole = 0;
    while let Some(length) = buffer.get(whole + 4..).and_then(<[u8]>::first_chunk) {
        let next = whole + u32::from_le_bytes(*length) as usize;
        if next > written {
            break;
        }
        whole = next;
    }
    whole
}

/// A block under construction.
struct Block<'b>(&'b mut Vec<u8>);

impl Block<'_> {
    fn u16(&mut self, n: u16) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn u32(&mut self, n: u32) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn u64(&mut self, n: u64) {
        self.0.extend_from_slice(&n.to_le_bytes());
    }

    fn time(&mut self, nanoseconds: u64) {
        self.u32((nanoseconds >> 32) as u32);
        self.u32(nanoseconds as u32);
    }

    fn padded(&mut self, bytes: &[u8]) {
        let padding = bytes.len().next_multiple_of(4) - bytes.len();
        self.0.extend_from_slice(bytes);
        self.0.extend_from_slice(&[0; 3][..padding]);
    }

    /// Appends an option, or a name record, which has the same format.
    fn option(&mut self, code: u16, value: &[u8]) {
        let value = &value[..value.len().min(u16::MAX as usize)];
        self.u16(code);
        self.u16(value.len() as u16);
        self.padded(value);
    }

    /// Appends a text option, cut if it is too long; nothing for an empty text.
    fn text(&mut self, code: u16, text: &str) {
        if !text.is_empty() {
            let most = text.len().min(u16::MAX as usize);
            let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
            self.option(code, &text.as_bytes()[..end]);
        }
    }

    fn number(&mut self, code: u16, n: Option<u64>) {
        if let Some(n) = n {
            self.option(code, &n.to_le_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Cursor,
        process::{Command, Stdio},
        time::Duration,
    };

    use proptest::prelude::*;
    use testkit::frames::pkt;

    use super::*;
    use crate::pcap::Reader;

    const SECOND: u64 = 1_000_000_000;

    fn frame() -> Vec<u8> {
        let outer = pkt().eth().ip("172.16.1.100 > 172.16.1.101").udp(1, 4789).vxlan(10000);
        outer.eth().ip("192.168.0.1 > 192.168.0.2").udp(1, 2).data(50).bytes()
    }

    /// A capture with every kind of block and option.
    fn everything() -> Vec<u8> {
        let mut writer = PcapngWriter::new(Vec::new(), "tmon test");
        let eth = InterfaceBlock { name: "eth0", description: "netns blue", link: 1, snaplen: 96 };
        assert_eq!(writer.interface(&eth).unwrap(), 0);
        assert_eq!(writer.interface(&InterfaceBlock { link: 101, ..eth }).unwrap(), 1);
        let names = [("192.0.2.1", "one"), ("2001:db8::2", "two"), ("192.0.2.3", "")];
        writer.names(names.map(|(a, name)| (a.parse().unwrap(), name))).unwrap();
        let whole = frame();
        for (n, direction) in (0..).zip([None, Some(Hook::Rx), Some(Hook::Tx)]) {
            let packet = PacketBlock {
                interface: 0,
                time: 1_700_000_000 * SECOND + 123_456_789 + n,
                data: &whole[..whole.len().min(96)],
                orig_len: whole.len() as u32,
                direction,
                dropped: 7 * n,
                comment: if n == 1 { "vxlan 10000, é" } else { "" },
            };
            writer.packet(&packet).unwrap();
        }
        let ip = PacketBlock { interface: 1, data: &whole[14..], ..PacketBlock::default() };
        writer.packet(&PacketBlock { orig_len: whole.len() as u32 - 14, ..ip }).unwrap();
        for interface in 0..2 {
            let n = Some(5);
            let [received, dropped, accepted, os_dropped, delivered] = [n; 5];
            let time = 1_700_000_001 * SECOND;
            let s = StatisticsBlock {
                interface,
                time,
                received,
                dropped,
                accepted,
                os_dropped,
                delivered,
            };
            writer.statistics(&s).unwrap();
        }
        writer.flush().unwrap();
        assert_eq!(writer.whole(), writer.get_ref().len() as u64);
        writer.out
    }

    #[test]
    fn our_own_reader_reads_what_was_written() {
        let mut reader = Reader::new(Cursor::new(everything())).unwrap();
        let mut seen = Vec::new();
        while let Some(f) = reader.next_frame().unwrap() {
            seen.push((f.interface, f.name.to_owned(), f.direction, f.time, f.data.to_vec()));
        }
        let whole = frame();
        let begin = Duration::new(1_700_000_000, 123_456_789);
        for (n, direction) in [None, Some(Hook::Rx), Some(Hook::Tx)].into_iter().enumerate() {
            let time = Some(begin + Duration::from_nanos(n as u64));
            let data = whole[..whole.len().min(96)].to_vec();
            assert_eq!(seen[n], (0, "eth0".to_owned(), direction, time, data));
        }
        let last = (1, "eth0".to_owned(), None, Some(Duration::ZERO), whole[14..].to_vec());
        assert_eq!(seen[3..], [last]);
        assert_eq!(reader.contradictions(), 0);
    }

    /// Accepts this many bytes and then fails, as a full disk does.
    struct Disk(Vec<u8>, usize);

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let n = bytes.len().min(self.1 - self.0.len()).min(1000);
            self.0.extend_from_slice(&bytes[..n]);
            if n == 0 { Err(ErrorKind::StorageFull.into()) } else { Ok(n) }
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn whatever_fits_is_whole_blocks(room in 0..600_000usize) {
            let mut writer = PcapngWriter::new(Disk(Vec::new(), room), "tmon test");
            let data = [7; 999];
            let packet = PacketBlock { data: &data, orig_len: 999, ..PacketBlock::default() };
            let mut written = writer.interface(&InterfaceBlock::default()).map(drop);
            for _ in 0..700 {
                written = written.and_then(|()| writer.packet(&packet));
            }
            prop_assert!(written.and_then(|()| writer.flush()).is_err());
            prop_assert!(writer.flush().is_err(), "nothing follows half a block");
            let whole = writer.whole() as usize;
            let Disk(mut file, _) = writer.out;
            prop_assert!(whole <= file.len() && file.len() - whole < 1100);
            file.truncate(whole);
            if whole > 0 {
                let mut reader = Reader::new(Cursor::new(file)).unwrap();
                let mut packets = 0;
                while let Some(frame) = reader.next_frame().unwrap() {
                    prop_assert_eq!(frame.data, &data[..]);
                    packets += 1;
                }
                prop_assert!(packets * 1032 <= whole && whole < (packets + 1) * 1032);
            }
        }
    }

    /// The output of another program about the capture, which must not complain; `None` if it is
    /// not installed.
    fn told(program: &str, args: &[&str]) -> Option<String> {
        let file = tempfile::NamedTempFile::with_suffix(".pcapng").unwrap();
        std::fs::write(file.path(), everything()).unwrap();
        let mut command = Command::new(program);
        command.args(args).arg(file.path()).stdin(Stdio::null());
        let out = command.env("XDG_CONFIG_HOME", "/nonexistent").output().ok()?;
        let complaints = String::from_utf8_lossy(&out.stderr);
        let complaints: Vec<_> = complaints.lines().filter(|l| !l.contains("as user")).collect();
        assert!(out.status.success() && complaints.is_empty(), "{program}: {complaints:?}");
        Some(String::from_utf8_lossy(&out.stdout).into_owned())
    }

    #[test]
    fn wireshark_reads_every_field() {
        let Some(info) = told("capinfos", &["-M"]) else {
            return eprintln!("capinfos is not here: nothing was compared");
        };
        for line in [
            "Number of packets:   4",
            "Capture application: tmon test",
            "Name = eth0",
            "Description = netns blue",
            "Time precision = nanoseconds (9)",
            "Number of resolved IPv4 addresses in file: 1",
            "Number of resolved IPv6 addresses in file: 1",
        ] {
            assert!(info.contains(line), "{line}:\n{info}");
        }
        let fields = [
            "frame.time_epoch",
            "frame.interface_name",
            "frame.packet_flags_direction",
            "frame.drop_count",
            "frame.comment",
            "frame.len",
        ];
        let args: Vec<_> = fields.into_iter().flat_map(|f| ["-e", f]).collect();
        let args = [&["-T", "fields", "-E", "separator=;"][..], &args, &["-r"]].concat();
        let Some(packets) = told("tshark", &args) else {
            return eprintln!("tshark is not here: nothing was compared");
        };
        let lines: Vec<_> = packets.lines().collect();
        let length = frame().len();
        assert_eq!(lines[0], format!("1700000000.123456789;eth0;;;;{length}"));
        assert!(lines[1].starts_with("1700000000.123456790;eth0;"), "{}", lines[1]);
        assert!(lines[1].ends_with(&format!(";7;vxlan 10000, é;{length}")), "{}", lines[1]);
        assert!(lines[2].starts_with("1700000000.123456791;eth0;"), "{}", lines[2]);
        assert_eq!(lines[3], format!("0.000000000;eth0;;;;{}", length - 14));
    }
}
