// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of rows that are looked at more closely, and packets that the kernel drops, on their way
//! into a capture.
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

/// The link type of packets whose link header is not there: one that says what follows.
const LINUX_COOKED: u16 = 113;
/// And that header: of no device that is known, without an address.
const COOKED: [u8; 14] = [0, 0, 0xff, 0xfe, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// Limit on the packets of one second, at each interface, unless told otherwise.
pub const LIMIT: u64 = 100_000;
/// Memory for packets that are not written yet, unless told otherwise.
pub const RING: u32 = 64 << 20;
/// So many packets are taken at once: somebody else may wait meanwhile.
const AT_ONCE: u64 = 1 << 16;
/// How often it is asked how far the wall clock is from the packets', and said how many there were.
const PAUSE: Duration = Duration::from_secs(10);
/// The wall clock was set if it is this much further from the packets' than it was, in nanoseconds.
const STEP: u64 = 1_000_000;
/// Rows that a comment tells of, and addresses that are named, at most.
const MOST_TOLD: usize = 65_536;

/// Writes what is caught.
pub struct Catch<W: Write> {
    net: Net,
    book: Book<W>,
    /// When it was asked how far the clocks are apart.
    asked: Instant,
    /// Limit on the packets that are written.
    most: u64,
    /// Limit on the bytes of the capture; 0 when a packet had no room any more.
    room: u64,
    totals: Totals,
}

/// What catches packets.
enum Net {
    /// Of rows, as they pass.
    Rows(Box<Prober>),
    /// As the kernel drops them.
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

/// How packets are written.
pub struct CatchManner {
    /// What their addresses are called.
    pub names: Names,
    /// What looks into them.
    pub cutter: Option<Cutter>,
    /// So much of each.
    pub snaplen: u32,
    /// So many at most.
    pub most: Option<u64>,
    /// So many bytes of a capture at most.
    pub room: Option<u64>,
}

/// The capture, and what is in it already.
struct Book<W: Write> {
    writer: PcapngWriter<W>,
    names: Names,
    /// What looks into packets.
    cutter: Option<Cutter>,
    snaplen: u32,
    places: Vec<Place>,
    told: HashSet<(u32, u32)>,
    named: HashSet<IpAddr>,
    /// How many dropped packets were lost so far.
    lost: u64,
    /// What the packets' clock is behind the wall clock.
    behind: u64,
    /// Where packets end that are not written yet.
    ends: VecDeque<u64>,
}

/// An interface that packets came from: of those that are watched, by number; or by the inode number
/// of a namespace and an index there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whence {
    Watched(u32),
    Dropped(u32, u32),
}

/// The same as it is written.
struct Place {
    whence: Whence,
    name: String,
    description: String,
    link: u16,
    /// Its blocks, by link type.
    blocks: Vec<(u16, u32)>,
    lost: u64,
    written: u64,
    unwanted: u64,
}

/// A packet as it was caught.
struct Found<'f> {
    bytes: &'f [u8],
    length: u32,
    link: u16,
    start: LinkStart,
    time: u64,
    /// Since the one before.
    lost: u64,
    direction: Option<Hook>,
}

/// What became of a packet that was caught.
enum Fate {
    Written,
    Unwanted,
    NoInside,
}

/// What became of the packets of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// As the kernel has them; what went to the ring is in the capture or left over.
    pub caught: Caught,
    /// It was looked into packets to know which are wanted.
    pub looked_into: bool,
    /// In the capture.
    pub written: u64,
    /// Not wanted for what is in them.
    pub unwanted: u64,
    /// With nothing inside that can be written alone.
    pub no_inside: u64,
    /// More than were wanted, by their number or the bytes of the capture.
    pub left_over: u64,
    /// What could not be written when it ended.
    pub unwritten: u64,
    /// How often it was not looked for a while, because this process was stopped.
    pub lapses: u64,
    /// Of these packets nobody could see more than that they are there.
    pub unprobed: u64,
    /// The kernel dropped these while it was looked at others, and told nobody.
    pub missed: u64,
}

impl Totals {
    /// What became of them, in a line.
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
            text += &format!(" + {} with nothing inside to be written alone", self.no_inside);
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
    /// What else there is to say.
    pub fn remarks(&self) -> Vec<String> {
        let mut all = Vec::new();
        if self.lapses > 0 {
            all.push(format!(
                "this process was stopped {} times for more than three seconds: nothing was matched then",
                self.lapses
            ));
        }
        if self.unprobed > 0 {
            all.push(format!(
                "{} packets had too many headers to be looked at: they are counted, and not captured",
                self.unprobed
            ));
        }
        if self.missed > 0 {
            all.push(format!(
                "{} packets were dropped, of any row, while another was looked at: they are not captured",
                self.missed
            ));
        }
        all
    }
}

impl<W: Write> Catch<W> {
    /// Begins, at everything that is watched.
    ///
    /// # Errors
    /// It cannot be begun anywhere.
    pub fn begin(
        live: &mut Live,
        mut prober: Prober,
        writer: PcapngWriter<W>,
        manner: CatchManner,
    ) -> Result<Catch<W>> {
        live.probe(&mut prober)?;
        Ok(Catch::of(Net::Rows(Box::new(prober)), writer, manner))
    }

    /// Begins with what the kernel drops, in the namespaces that are watched and in those that their
    /// tunnel devices are in.
    ///
    /// # Errors
    /// Why this kernel, or with these privileges nobody, says what it drops.
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

    /// Begins at interfaces that have come meanwhile: to be called a few times a second.
    pub fn follow(&mut self, live: &mut Live) {
        if let Net::Rows(prober) = &mut self.net {
            // Where it cannot be is a notice, and all else goes on.
            let _ = live.probe(prober);
        }
    }

    /// Writes what was caught so far, or a part of that. False when as many are written as are wanted.
    ///
    /// # Errors
    /// It cannot be written.
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
            // With what is said of an interface, a row and a packet.
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
            self.book.writer.flush()?; // whoever reads it as it is written does not wait
        }
        Ok(self.totals.written < self.most && self.room > 0)
    }

    /// Ends: writes what is still in the ring, and what became of all packets.
    ///
    /// # Errors
    /// It cannot be written, or the kernel has no way to wait for its programs.
    pub fn end(&mut self, live: &Live) -> Result<Totals> {
        self.net.stop()?;
        // More than are wanted are taken out by the same function.
        loop {
            self.step(live).context("write the capture")?;
            if self.net.is_empty() {
                break;
            }
        }
        self.statistics().and_then(|()| self.book.writer.flush()).context("write the capture")?;
        Ok(self.totals(live))
    }

    /// What became of the packets so far.
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

    /// What became of them where writing has failed: what was not written yet is not in the capture.
    pub fn totals_unwritten(&mut self, live: &Live) -> Totals {
        let _ = self.net.stop(); // it was stopped already, or what comes is counted, too
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

    /// Takes the prober away again.
    pub fn leave(&mut self, live: &Live) {
        if let Net::Rows(prober) = &mut self.net {
            live.end_probe(prober);
        }
    }

    /// How many bytes are written and whole blocks.
    pub fn whole(&self) -> u64 {
        self.book.writer.whole()
    }

    /// How long the capture is, with what is not written yet.
    pub fn length(&self) -> u64 {
        self.book.writer.length()
    }

    fn statistics(&mut self) -> io::Result<()> {
        let time = host::wall();
        // Of dropped packets it is not known where those were lost: it is said of the first place.
        let mut lost = match &self.net {
            Net::Rows(_) => None,
            Net::Drops(ring) => Some(ring.caught()),
        };
        for place in &self.book.places {
            // What is known of an interface is said once, where it has several blocks.
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

impl<W: Write> Book<W> {
    fn write(&mut self, live: &Live, about: &caught, bytes: &[u8]) -> io::Result<Fate> {
        let at = self.place(Whence::Watched(about.interface), || {
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
            // Of what could not be parsed each says why.
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
        let at = self.place(Whence::Dropped(packet.netns, packet.ifindex), || {
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

    /// Where an interface is among those that there are packets of; how it is described, if it is new.
    fn place<'l>(
        &mut self,
        whence: Whence,
        describe: impl FnOnce() -> (String, Option<&'l str>, u16),
    ) -> usize {
        if let Some(at) = self.places.iter().position(|p| p.whence == whence) {
            return at;
        }
        let (name, netns, link) = describe();
        let description = netns.map_or(String::new(), |n| format!("network namespace {n}"));
        let (blocks, [lost, written, unwanted]) = (Vec::new(), [0; 3]);
        self.places.push(Place {
            whence,
            name,
            description,
            link,
            blocks,
            lost,
            written,
            unwanted,
        });
        self.places.len() - 1
    }

    /// Writes a packet, or what of it is wanted; with a comment, which may be empty.
    fn put(
        &mut self,
        at: usize,
        found: &Found<'_>,
        is_cut: bool,
        comment: impl FnOnce(&mut Self, u32) -> io::Result<String>,
    ) -> io::Result<Fate> {
        let (mut data, mut orig_len, mut link) = (found.bytes, found.length, found.link);
        let cutter = self.cutter.as_mut().filter(|_| is_cut);
        match cutter.map_or(Cut::Whole, |c| c.cut(found.bytes, found.length, found.start)) {
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

    /// The number of an interface's block for packets that begin like this.
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

    /// What is said of a row's first packet; its addresses are named before it.
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

    /// Writes what the ends of a row are called, where that was not written before.
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
