// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures: packets of probed rows, and packets that the kernel drops, on their way to a pcapng
//! file.
use std::{
    collections::{HashSet, VecDeque},
    io::{self, Write},
    net::IpAddr,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use contract::{CAUGHT_ANY_ROW, CAUGHT_STOP, CAUGHT_SUSPECT, caught};

use crate::kernel::{
    clock::host,
    drop_watch::{DropRing, DroppedPacket},
    live::Live,
    probe::{Caught, Prober, Wish},
};
use feed::{
    cutting::{Cut, Cutter, LINK_ETHERNET, LINK_RAW},
    names::Names,
    packet::LinkStart,
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter, StatisticsBlock},
};
use model::flow::{Hook, Key, Stop};

/// The link type for packets without a link-layer header: its header only says what follows.
const LINUX_COOKED: u16 = 113;
/// That header: no known device, no address.
const COOKED: [u8; 14] = [0, 0, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// The default limit on the packets per second at each interface.
pub const LIMIT: u64 = 100_000;
/// The default memory for packets that have not been written yet.
pub const RING: u32 = 64 << 20;
/// How many packets are taken from the ring at once, so that other work is not delayed.
const AT_ONCE: u64 = 1 << 16;
/// How often to compare the wall clock with the packets' clock, and to write statistics.
const PAUSE: Duration = Duration::from_secs(10);
/// A larger change of the difference between the clocks, in nanoseconds, means that the wall clock
/// was set.
const STEP: u64 = 1_000_000;
/// Limit on the rows described in comments, and on the addresses named.
const MOST_TOLD: usize = 65_536;

/// Writes captured packets.
pub struct Catch<W: Write> {
    net: Net,
    book: Book<W>,
    /// When the clocks were last compared.
    asked: Instant,
    /// Limit on the packets written.
    most: u64,
    /// Limit on the bytes of the capture; 0 after a packet found no room.
    room: u64,
    totals: Totals,
}

/// The source of the packets.
enum Net {
    /// Packets of matching rows, as they pass.
    Rows(Box<Prober>),
    /// Packets that the kernel drops.
    Drops(DropRing),
}

impl Net {
    fn is_empty(&self) -> bool {
        match self {
            Net::Rows(prober) => prober.is_empty(),
            Net::Drops(ring) => ring.is_empty(),
        }
    }

    fn stop(&mut self) -> Result<()> {
        match self {
            Net::Rows(prober) => prober.stop(),
            Net::Drops(ring) => ring.stop(),
        }
    }
}

/// Options for writing packets.
pub struct CatchManner {
    /// The names of addresses.
    pub names: Names,
    /// Matches and cuts packets, if that is needed.
    pub cutter: Option<Cutter>,
    /// The snapshot length.
    pub snaplen: u32,
    /// Limit on the packets.
    pub most: Option<u64>,
    /// Limit on the bytes of the capture.
    pub room: Option<u64>,
}

/// The capture, and what has been written to it.
struct Book<W: Write> {
    writer: PcapngWriter<W>,
    names: Names,
    /// Matches and cuts packets, if that is needed.
    cutter: Option<Cutter>,
    snaplen: u32,
    places: Vec<Place>,
    told: HashSet<(u32, u32)>,
    named: HashSet<IpAddr>,
    /// The number of dropped packets lost so far.
    lost: u64,
    /// How far the packets' clock is behind the wall clock.
    behind: u64,
    /// The ring positions at which the packets end that have not been written yet.
    ends: VecDeque<u64>,
}

/// The origin of packets: the number of a watched interface, or the inode number of a namespace and
/// an interface index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whence {
    Watched(u32),
    Dropped(u32, u32),
}

/// An origin as it is written.
struct Place {
    whence: Whence,
    name: String,
    description: String,
    link: u16,
    /// The meaning of UDP ports on it, if packets are examined.
    ports: Option<Box<contract::ports>>,
    /// Its interface blocks, by link type.
    blocks: Vec<(u16, u32)>,
    lost: u64,
    written: u64,
    unwanted: u64,
}

/// A captured packet.
struct Found<'f> {
    bytes: &'f [u8],
    length: u32,
    link: u16,
    start: LinkStart,
    time: u64,
    /// Packets lost since the previous one.
    lost: u64,
    direction: Option<Hook>,
}

/// What happened to a captured packet.
enum Fate {
    Written,
    Unwanted,
    NoInside,
}

/// What happened to all packets of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// The kernel's counts; packets that went to the ring are in the capture or left over.
    pub caught: Caught,
    /// Whether the packets themselves were examined to select them.
    pub looked_into: bool,
    /// Packets in the capture.
    pub written: u64,
    /// Packets of matching rows that do not match themselves.
    pub unwanted: u64,
    /// Packets without an inner packet that can be written by itself.
    pub no_inside: u64,
    /// Packets beyond the limit on packets or bytes.
    pub left_over: u64,
    /// Packets that could not be written when writing failed.
    pub unwritten: u64,
    /// How often this process was stopped long enough to miss packets.
    pub lapses: u64,
    /// Packets that could not be examined, only counted.
    pub unprobed: u64,
    /// Packets that the kernel dropped while another was examined, so that they were missed.
    pub missed: u64,
}

impl Totals {
    /// The totals as one line.
    pub fn words(&self) -> String {
        let Caught { matched, ring_full, over_limit, .. } = self.caught;
        let written = self.written;
        let what = if self.looked_into { "packets of matching rows" } else { "packets matched" };
        let mut text = format!(
            "{matched} {what} = {written} written + {ring_full} ring-full + {over_limit} over-limit"
        );
        if self.looked_into {
            text += &format!(" + {} not matched", self.unwanted);
        }
        if self.no_inside > 0 {
            text += &format!(" + {} without an inner packet", self.no_inside);
        }
        if self.left_over > 0 {
            text += &format!(" + {} left over", self.left_over);
        }
        if self.unwritten > 0 {
            text += &format!(" + {} that could not be written", self.unwritten);
        }
        text
    }
}

impl Totals {
    /// Further remarks, one per line.
    pub fn remarks(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.lapses > 0 {
            all.push(format!(
                "this process was stopped {} times for more than three seconds, during which no packets were matched",
                self.lapses
            ));
        }
        if self.unprobed > 0 {
            all.push(format!(
                "{} packets had too many headers to be examined: they are counted but not captured",
                self.unprobed
            ));
        }
        if self.missed > 0 {
            all.push(format!(
                "{} packets of any row were dropped while another one was being examined: they are not captured",
                self.missed
            ));
        }
        all
    }
}

impl<W: Write> Catch<W> {
    /// Starts a capture at all watched interfaces.
    ///
    /// # Errors
    /// It cannot be started at any of them.
    pub fn begin(
        live: &mut Live,
        mut prober: Prober,
        writer: PcapngWriter<W>,
        manner: CatchManner,
    ) -> Result<Catch<W>> {
        live.probe(&mut prober)?;
        Ok(Catch::of(Net::Rows(Box::new(prober)), writer, manner))
    }

    /// Starts capturing packets that the kernel drops, in the watched namespaces and in those of
    /// their tunnel devices.
    ///
    /// # Errors
    /// Why this kernel, or these privileges, do not allow it.
    pub fn begin_drops(
        live: &mut Live,
        wish: &Wish,
        writer: PcapngWriter<W>,
        manner: CatchManner,
    ) -> Result<Catch<W>> {
        let ring = live.catch_drops(wish).context("capture what the kernel drops")?;
        Ok(Catch::of(Net::Drops(ring), writer, manner))
    }

    fn of(net: Net, writer: PcapngWriter<W>, manner: CatchManner) -> Catch<W> {
        let CatchManner { names, cutter, snaplen, most, room } = manner;
        let looked_into = cutter.as_ref().is_some_and(Cutter::chooses);
        let book = Book {
            writer,
            names,
            cutter,
            snaplen,
            places: Vec::new(),
            told: HashSet::new(),
            named: HashSet::new(),
            lost: 0,
            behind: host::zero(),
            ends: VecDeque::new(),
        };
        Catch {
            net,
            book,
            asked: Instant::now(),
            most: most.unwrap_or(u64::MAX),
            room: room.unwrap_or(u64::MAX),
            totals: Totals { looked_into, ..Totals::default() },
        }
    }

    /// Starts at interfaces that have appeared meanwhile, and learns the current meaning of ports; to
    /// be called a few times a second.
    pub fn follow(&mut self, live: &mut Live) {
        for place in &mut self.book.places {
            place.read_ports(live);
        }
        if let Net::Rows(prober) = &mut self.net {
            // Failures become notices, and everything else continues.
            let _ = live.probe(prober);
        }
    }

    /// Writes packets captured so far, up to a limit. Returns false once as many are written as are
    /// wanted.
    ///
    /// # Errors
    /// Writing fails.
    pub fn step(&mut self, live: &Live) -> io::Result<bool> {
        let zero = host::zero();
        if zero.abs_diff(self.book.behind) > STEP {
            self.book.behind = zero;
        }
        if self.asked.elapsed() >= PAUSE {
            (self.book.behind, self.asked) = (zero, Instant::now());
            self.statistics()?;
        }
        let Catch { net, book, most, room, totals, .. } = self;
        let mut done = Ok(());
        let mut left = AT_ONCE;
        let mut take = |size: usize, write: &mut dyn FnMut(&mut Book<W>) -> io::Result<Fate>| {
            left -= 1;
            let go_on = if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            // Leave room for the description of an interface, a row and a packet.
            if book.writer.length() + size as u64 + (8 << 10) > *room {
                *room = 0;
            }
            if totals.written >= *most || *room == 0 {
                totals.left_over += 1;
                return go_on;
            }
            match write(book) {
                Ok(Fate::Written) => totals.written += 1,
                Ok(Fate::Unwanted) => totals.unwanted += 1,
                Ok(Fate::NoInside) => totals.no_inside += 1,
                Err(e) => {
                    done = Err(e);
                    return ControlFlow::Break(());
                }
            }
            go_on
        };
        let taken = match net {
            Net::Rows(prober) => prober.drain(|about, bytes| {
                take(bytes.len(), &mut |book| book.write(live, about, bytes))
            }),
            Net::Drops(ring) => ring.drain(|packet| {
                take(packet.bytes.len(), &mut |book| book.write_dropped(live, packet))
            }),
        };
        done?;
        if taken == 0 {
            self.book.writer.flush()?; // so that a live reader need not wait
        }
        Ok(self.totals.written < self.most && self.room > 0)
    }

    /// Ends the capture: writes the rest of the ring and the statistics.
    ///
    /// # Errors
    /// Writing fails, or the kernel cannot wait for its programs.
    pub fn end(&mut self, live: &Live) -> Result<Totals> {
        self.net.stop()?;
        // The same function also discards packets beyond the limit.
        loop {
            self.step(live).context("write the capture")?;
            if self.net.is_empty() {
                break;
            }
        }
        self.statistics().and_then(|()| self.book.writer.flush()).context("write the capture")?;
        Ok(self.totals(live))
    }

    /// The totals so far.
    pub fn totals(&self, live: &Live) -> Totals {
        let mut totals = self.totals;
        match &self.net {
            Net::Rows(prober) => {
                totals.lapses = prober.lapses();
                for interface in prober.interfaces() {
                    totals.caught.add(&prober.caught(interface));
                    let program = live.probed_interface(interface).and_then(|i| i.program);
                    totals.unprobed += program.map_or(0, |p| p.unprobed());
                }
            }
            Net::Drops(ring) => (totals.caught, totals.missed) = (ring.caught(), ring.missed()),
        }
        totals
    }

    /// The totals after writing has failed: packets not written yet are not in the capture.
    pub fn totals_unwritten(&mut self, live: &Live) -> Totals {
        let _ = self.net.stop(); // if it fails, later packets are simply counted as well
        let whole = self.book.writer.whole();
        self.totals.written -= self.book.ends.iter().filter(|end| **end > whole).count() as u64;
        let mut totals = self.totals(live);
        let told = totals.written
            + totals.unwanted
            + totals.no_inside
            + totals.caught.lost()
            + totals.left_over;
        totals.unwritten = totals.caught.matched.saturating_sub(told);
        totals
    }

    /// Removes the prober.
    pub fn leave(&mut self, live: &Live) {
        if let Net::Rows(prober) = &mut self.net {
            live.end_probe(prober);
        }
    }

    /// How many bytes from the beginning are complete blocks.
    pub fn whole(&self) -> u64 {
        self.book.writer.whole()
    }

    /// The length of the capture, including bytes not written yet.
    pub fn length(&self) -> u64 {
        self.book.writer.length()
    }

    fn statistics(&mut self) -> io::Result<()> {
        let time = host::wall();
        // It is unknown where dropped packets were lost: they are attributed to the first place.
        let mut lost = match &self.net {
            Net::Rows(_) => None,
            Net::Drops(ring) => Some(ring.caught()),
        };
        for place in &self.book.places {
            // The statistics of an interface are written once, even if it has several blocks.
            let Some((_, block)) = place.blocks.first() else { continue };
            let mut s = StatisticsBlock {
                interface: *block,
                time,
                delivered: Some(place.written),
                ..StatisticsBlock::default()
            };
            let n = match (&self.net, place.whence) {
                (Net::Rows(prober), Whence::Watched(number)) => Some(prober.caught(number)),
                _ => lost.take(),
            };
            if let Some(n) = n {
                (s.dropped, s.os_dropped) = (Some(n.over_limit), Some(n.ring_full));
                s.accepted = Some(n.matched.saturating_sub(place.unwanted));
            }
            self.book.writer.statistics(&s)?;
        }
        Ok(())
    }
}

impl Place {
    /// Copies the current meaning of UDP ports there.
    fn read_ports(&mut self, live: &Live) {
        let Some(ports) = &mut self.ports else { return };
        match self.whence {
            Whence::Watched(number) => {
                let program = live.probed_interface(number).and_then(|i| i.program);
                program.into_iter().for_each(|program| program.read_ports(ports));
            }
            Whence::Dropped(..) => live.read_dropped_ports(ports),
        }
    }
}

impl<W: Write> Book<W> {
    fn write(&mut self, live: &Live, about: &caught, bytes: &[u8]) -> io::Result<Fate> {
        let at = self.place(live, Whence::Watched(about.interface), || {
            let interface = live.probed_interface(about.interface);
            let name = interface.as_ref().map_or("?", |i| i.name);
            let l3 = interface.as_ref().is_some_and(|i| i.l3);
            let link = if l3 { LINK_RAW } else { LINK_ETHERNET };
            (name.to_owned(), interface.and_then(|i| i.netns), link)
        });
        let place = &mut self.places[at];
        let found = Found {
            bytes,
            length: about.length,
            link: place.link,
            start: if place.link == LINK_RAW { LinkStart::Ip } else { LinkStart::Ethernet },
            time: about.time,
            lost: about.lost.saturating_sub(place.lost),
            direction: Some(if about.hook == 0 { Hook::Rx } else { Hook::Tx }),
        };
        place.lost = about.lost;
        let stopped = about.row & CAUGHT_STOP != 0;
        self.put(at, &found, !stopped, |book, block| {
            // Each packet that could not be parsed has a comment with the reason.
            let is_new =
                stopped || (book.told.len() < MOST_TOLD && book.told.insert((block, about.row)));
            if is_new { book.comment(live, about) } else { Ok(String::new()) }
        })
    }

    fn write_dropped(&mut self, live: &Live, packet: &DroppedPacket<'_>) -> io::Result<Fate> {
        let start = LinkStart::from_number(packet.begins);
        let mut cooked = Vec::new();
        let (mut bytes, mut length) = (packet.bytes, packet.length);
        let link = match start {
            LinkStart::Ethernet => LINK_ETHERNET,
            LinkStart::Ip => LINK_RAW,
            LinkStart::EtherType(number) => {
                cooked.extend_from_slice(&COOKED);
                cooked.extend_from_slice(&number.to_be_bytes());
                cooked.extend_from_slice(bytes);
                (bytes, length) = (&cooked, length.saturating_add(16));
                LINUX_COOKED
            }
        };
        let at = self.place(live, Whence::Dropped(packet.netns, packet.ifindex), || {
            let name = match (packet.ifindex, packet.device.as_str()) {
                (0, _) => "no device".to_owned(),
                (index, "") => format!("if{index}"),
                (_, name) => name.to_owned(),
            };
            (name, live.dropped_in(packet.netns), link)
        });
        let lost = packet.lost.saturating_sub(self.lost);
        self.lost = packet.lost;
        let found = Found { bytes, length, link, start, time: packet.time, lost, direction: None };
        self.put(at, &found, link != LINUX_COOKED, |book, _| {
            book.name_ends(&packet.row)?;
            let mut text = format!("dropped: {}: {}", packet.reason, packet.row);
            if packet.remains {
                text.push_str("; outer headers as the receiver left them");
            }
            if let Some(cutter) = &book.cutter {
                cutter.say_off(&mut text);
            }
            Ok(text)
        })
    }

    /// The index of a packet's origin; `describe` is called if it is new.
    fn place<'l>(
        &mut self,
        live: &Live,
        whence: Whence,
        describe: impl FnOnce() -> (String, Option<&'l str>, u16),
    ) -> usize {
        if let Some(at) = self.places.iter().position(|p| p.whence == whence) {
            return at;
        }
        let (name, netns, link) = describe();
        let description = netns.map_or(String::new(), |n| format!("network namespace {n}"));
        let (blocks, [lost, written, unwanted]) = (Vec::new(), [0; 3]);
        let mut place =
            Place { whence, name, description, link, ports: None, blocks, lost, written, unwanted };
        if self.cutter.is_some() {
            let (kind, parameter) = ([0; 1 << 16], [0; _]);
            place.ports = Some(Box::new(contract::ports { kind, parameter }));
            place.read_ports(live);
        }
        self.places.push(place);
        self.places.len() - 1
    }

    /// Writes a packet, or the part of it that is wanted, with a comment, which may be empty.
    fn put(
        &mut self,
        at: usize,
        found: &Found<'_>,
        is_cut: bool,
        comment: impl FnOnce(&mut Self, u32) -> io::Result<String>,
    ) -> io::Result<Fate> {
        let (mut data, mut orig_len, mut link) = (found.bytes, found.length, found.link);
        let (cutter, ports) = (self.cutter.as_mut(), self.places[at].ports.as_mut());
        let looked = cutter.zip(ports).filter(|_| is_cut);
        let cut = looked.map(|(c, p)| c.cut(found.bytes, found.length, found.start, p));
        match cut.unwrap_or(Cut::Whole) {
            Cut::Whole => {}
            Cut::Inside { data: inside, orig_len: length, link: begins } => {
                (data, orig_len, link) = (inside, length, begins);
            }
            Cut::NoInside => return Ok(Fate::NoInside),
            Cut::Unwanted => {
                self.places[at].unwanted += 1;
                return Ok(Fate::Unwanted);
            }
        }
        let block = self.block(at, link)?;
        let comment = comment(self, block)?;
        self.places[at].written += 1;
        self.writer.packet(&PacketBlock {
            interface: block,
            time: found.time.wrapping_add(self.behind),
            data: &data[..data.len().min(self.snaplen as usize)],
            orig_len,
            direction: found.direction,
            dropped: found.lost,
            comment: &comment,
        })?;
        let whole = self.writer.whole();
        while self.ends.front().is_some_and(|end| *end <= whole) {
            self.ends.pop_front();
        }
        self.ends.push_back(self.writer.length());
        Ok(Fate::Written)
    }

    /// The number of the interface block for packets of this link type.
    fn block(&mut self, at: usize, link: u16) -> io::Result<u32> {
        let place = &mut self.places[at];
        if let Some((_, block)) = place.blocks.iter().find(|(l, _)| *l == link) {
            return Ok(*block);
        }
        let block = self.writer.interface(&InterfaceBlock {
            name: &place.name,
            description: &place.description,
            link,
            snaplen: self.snaplen,
        })?;
        place.blocks.push((link, block));
        Ok(block)
    }

    /// The comment for the first packet of a row; names its addresses before that.
    fn comment(&mut self, live: &Live, about: &caught) -> io::Result<String> {
        if about.row & CAUGHT_STOP != 0 {
            let stop = Stop::ALL.get((about.row & 0xff) as usize).map_or("?", |s| s.name());
            let suspect = if about.row & CAUGHT_SUSPECT != 0 { ", suspect" } else { "" };
            return Ok(format!("{stop}{suspect}"));
        }
        let program = live.probed_interface(about.interface).and_then(|i| i.program);
        let row = program.filter(|_| about.row != CAUGHT_ANY_ROW);
        let Some(key) = row.and_then(|p| p.probed_row(about.row)) else {
            return Ok(String::new());
        };
        self.name_ends(&key)?;
        let mut text = key.to_string();
        if let Some(cutter) = &self.cutter {
            cutter.say_off(&mut text);
        }
        Ok(text)
    }

    /// Writes the names of the ends of a row, if they have not been written yet.
    fn name_ends(&mut self, key: &Key) -> io::Result<()> {
        let pairs = key.outer.into_iter().chain(key.inner.pair());
        let mut known = Vec::new();
        for address in pairs.flat_map(|p| [p.first, p.second]) {
            if self.named.len() < MOST_TOLD
                && self.named.insert(address)
                && let Some(name) = self.names.written(address)
            {
                known.push((address, name));
            }
        }
        self.writer.names(known.iter().map(|(a, n)| (*a, n.as_str())))
    }
}
