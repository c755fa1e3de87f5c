// SPDX-License-Identifier: MIT OR Apache-2.0
//! Extracts selected packets from captures: whole frames, or the contents of their tunnels.
//!
//! The filter is evaluated once per row. A frame costs what the parser needs to find its row, and
//! no more unless it is selected.
use std::{
    collections::hash_map::Entry,
    fmt::Write as _,
    io::{self, Write},
    net::IpAddr,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Context, Result};
use contract::{ROW_DIR, STOP_NAMES, key6};
use foldhash::{HashMap, HashMapExt, HashSet};
use native::{Answer, Guide, NativeConfig, NativeFrame, Way};

use crate::{
    config::Config,
    cutting::{Cut, LINK_ETHERNET, PacketCut},
    inputs::{Captures, Inputs},
    judge::{Given, native_config},
    names::Names,
    packet::{LONGEST_FRAME, LinkStart},
    pcap::{CapturedFrame, Next},
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter, StatisticsBlock},
    recorded::Between,
    replay::{nanoseconds, packet},
};
use model::{
    filter::PacketFilter,
    flow::{Counters, Flow, Hook, Key, Stop},
    rows,
};

/// How many interfaces have separate memories of fragments; further ones share the last.
const MOST_GUIDES: usize = 64;
/// Limit on the rows described in comments.
const MOST_COMMENTS: usize = 1 << 16;
/// Limit on the addresses whose names are written.
const MOST_NAMED: usize = 1 << 16;

/// What to extract.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// The filter for packets in rows; `None` selects none of them.
    pub filter: Option<PacketFilter>,
    /// Also packets that could not be parsed.
    pub stops: bool,
    /// Only packets from this time.
    pub between: Between,
    /// Limit on the packets.
    pub count: Option<u64>,
    /// The snapshot length.
    pub snaplen: Option<u32>,
    /// How many outer tunnels to remove (all, if there are fewer).
    pub decap: usize,
}

/// The counts of frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extracted {
    /// Frames read.
    pub frames: u64,
    /// Frames selected.
    pub matched: u64,
    /// Frames written: all selected ones except the following.
    pub written: u64,
    /// Frames whose content is neither Ethernet nor IP, or is in another packet.
    pub no_inside: u64,
    /// Frames written without a time, because the capture has none.
    pub untimed: u64,
}

/// An extraction in progress.
pub struct Extract<W: Write> {
    inputs: Inputs,
    sink: Sink<W>,
    guides: Vec<Guide>,
    known: HashMap<Place, usize>,
    /// The origin of the previous frame (input, interface, index there), and its place.
    last: Option<(usize, u32, Option<u32>, usize)>,
    config: NativeConfig,
}

/// An interface of a file, and its index if the frames have it.
type Place = (usize, u32, Option<u32>);

/// An interface of the captures.
struct Origin {
    /// Its name in filters.
    label: String,
    name: String,
    file: String,
    /// Its blocks, by link type.
    blocks: Vec<(u16, u32)>,
    received: u64,
    matched: u64,
    written: u64,
    latest: u64,
}

/// Matches and writes frames.
struct Sink<W: Write> {
    selection: Selection,
    cut: PacketCut,
    writer: PcapngWriter<W>,
    origins: Vec<Origin>,
    rows: Chosen,
    told: HashSet<(usize, u32)>,
    named: HashSet<IpAddr>,
    names: Names,
    extracted: Extracted,
    range: (u64, u64),
    comment: String,
}

/// The selected rows, by number from 2 on; 1 stands for all rows without room.
#[derive(Default)]
struct Chosen {
    numbers: HashMap<(usize, key6), u32>,
    keys: Vec<key6>,
}

impl Chosen {
    fn number(&mut self, origin: usize, key: &key6) -> u32 {
        let key = key6 { flags: key.flags & !ROW_DIR, shard: 0, ..*key };
        let next = self.keys.len() as u32 + 2;
        match self.numbers.entry((origin, key)) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(_) if self.keys.len() >= MOST_COMMENTS => 1,
            Entry::Vacant(entry) => {
                self.keys.push(key);
                *entry.insert(next)
            }
        }
    }

    fn key(&self, number: u32) -> Option<Key> {
        Some(rows::decoded(self.keys.get((number as usize).checked_sub(2)?)?))
    }
}

/// A frame to write.
struct Taken<'f> {
    data: &'f [u8],
    orig_len: u32,
    link: u16,
    time: Option<u64>,
    direction: Option<Hook>,
}

impl<W: Write> Extract<W> {
    /// Reads the headers of open captures. `most` limits the size of compressed ones.
    ///
    /// # Errors
    /// A file is not a capture, or memory cannot be allocated.
    pub fn of(
        captures: Captures,
        config: &Config,
        most: Option<u64>,
        selection: Selection,
        writer: PcapngWriter<W>,
    ) -> Result<Self> {
        let config = native_config(config)?;
        let guides = vec![Guide::new(&config)?];
        let inputs = Inputs::of(captures, most)?;
        let time = |t: Option<SystemTime>| {
            t.map(|t| t.duration_since(UNIX_EPOCH).unwrap_or_default())
                .map(|t| u64::try_from(t.as_nanos()).unwrap_or(u64::MAX))
        };
        let Between { from, until } = selection.between;
        let sink = Sink {
            range: (time(from).unwrap_or(0), time(until).unwrap_or(u64::MAX)),
            cut: PacketCut::new(selection.filter.as_ref(), selection.decap),
            selection,
            writer,
            origins: Vec::new(),
            rows: Chosen::default(),
            told: HashSet::default(),
            named: HashSet::default(),
            names: Names::default(),
            extracted: Extracted::default(),
            comment: String::new(),
        };
        Ok(Extract { inputs, sink, guides, known: HashMap::new(), last: None, config })
    }

    /// Also writes the names of addresses, as given by files.
    pub fn set_names(&mut self, names: Names) {
        self.sink.names = names;
    }

    /// Takes up to this many frames. Returns whether there are more, and more are wanted.
    ///
    /// # Errors
    /// Writing fails.
    pub fn advance(&mut self, most: u64) -> Result<bool> {
        let until = self.sink.extracted.frames.saturating_add(most);
        while let Some(i) = self.inputs.next() {
            if self.sink.is_full() {
                return Ok(false);
            }
            if self.sink.extracted.frames >= until {
                return Ok(true);
            }
            self.run(i, until)?;
        }
        Ok(false)
    }

    /// Takes the current frame and those after it, while they come from the same interface.
    fn run(&mut self, input: usize, until: u64) -> Result<()> {
        let Some(frame) = self.inputs.peek() else { return Ok(()) };
        let of = (input, frame.interface, frame.ifindex);
        let origin = match self.last {
            Some((i, interface, ifindex, origin)) if (i, interface, ifindex) == of => origin,
            _ => self.origin(input)?,
        };
        let alone = self.inputs.all.len() == 1;
        let (sink, guide) = (&mut self.sink, &mut self.guides[origin.min(MOST_GUIDES - 1)]);
        let usual = (alone && of.2.is_none()).then_some(of.1);
        let (mut written, mut first) = (Ok(()), true);
        let at_end = self.inputs.all[input].reader.each(usual, |next| {
            if written.is_err() || sink.extracted.frames >= until || sink.is_full() {
                return false;
            }
            match next {
                Next::Plain(frame) => written = sink.take_plain(guide, origin, &frame),
                Next::Any(frame) => {
                    let same = (input, frame.interface, frame.ifindex) == of;
                    if !same || !(alone || first) {
                        return false;
                    }
                    written = sink.take(guide, origin, &frame);
                }
            }
            first = false;
            true
        });
        if at_end {
            self.inputs.pass(input);
        } else {
            self.inputs.moved(input);
        }
        written.context("write")
    }

    /// The place of the interface of an input's current frame.
    #[cold]
    fn origin(&mut self, input: usize) -> Result<usize> {
        let Some(frame) = self.inputs.peek() else { return Ok(0) };
        let place = (input, frame.interface, frame.ifindex);
        let (name, label) = (frame.name.to_owned(), self.inputs.label(input, &frame));
        let origin = match self.known.entry(place) {
            Entry::Occupied(entry) => *entry.get(),
            Entry::Vacant(entry) => {
                let file = self.inputs.all[input].name.clone();
                self.sink.origins.push(Origin {
                    label,
                    name,
                    file,
                    blocks: Vec::new(),
                    received: 0,
                    matched: 0,
                    written: 0,
                    latest: 0,
                });
                *entry.insert(self.sink.origins.len() - 1)
            }
        };
        while self.guides.len() <= origin.min(MOST_GUIDES - 1) {
            self.guides.push(Guide::new(&self.config)?);
        }
        if origin >= MOST_GUIDES - 1 {
            self.guides[MOST_GUIDES - 1].forget(); // it remembers fragments of another interface
        }
        self.last = Some((place.0, place.1, place.2, origin));
        Ok(origin)
    }

    /// Writes the statistics of each interface.
    ///
    /// # Errors
    /// Writing fails.
    pub fn finish(&mut self) -> Result<Extracted> {
        self.sink.finish().context("write")?;
        Ok(self.sink.extracted)
    }

    /// Returns the errors of reading, after the end.
    ///
    /// # Errors
    /// The first error, followed by the others.
    pub fn end(&mut self) -> Result<()> {
        self.inputs.end()
    }

    /// Remarks about the captures, one per line.
    pub fn notes(&self) -> Vec<String> {
        let mut notes: Vec<_> = self.inputs.contradictions().collect();
        if self.sink.extracted.untimed > 0 {
            notes.push(format!(
                "{} packets have no timestamp in the capture: they are written with the time 0 (1970)",
                self.sink.extracted.untimed
            ));
        }
        notes
    }

    /// The counts so far.
    pub fn extracted(&self) -> Extracted {
        self.sink.extracted
    }

    /// The number of bytes read so far, and the size of the files if known.
    pub fn position(&self) -> (u64, Option<u64>) {
        self.inputs.position()
    }

    /// How many bytes of the output are complete blocks: see [`PcapngWriter::whole`].
    pub fn whole(&self) -> u64 {
        self.sink.writer.whole()
    }

    /// The underlying writer.
    pub fn output(&self) -> &W {
        self.sink.writer.get_ref()
    }
}

impl<W: Write> Sink<W> {
    /// Whether as many packets were written as requested.
    #[inline]
    fn is_full(&self) -> bool {
        self.selection.count.is_some_and(|most| self.extracted.written >= most)
    }

    #[inline]
    fn take_plain(
        &mut self,
        guide: &mut Guide,
        origin: usize,
        frame: &crate::pcap::PlainFrame<'_>,
    ) -> io::Result<()> {
        let native = NativeFrame {
            data: &frame.data[..frame.data.len().min(LONGEST_FRAME)],
            length: frame.orig_len,
            link: 0,
            begins: LinkStart::Ethernet.number(),
            now: 0,
            time: frame.time,
            gso_segs: 0,
            gso_size: 0,
            egress: false,
        };
        let taken = Taken {
            data: frame.data,
            orig_len: frame.orig_len,
            link: LINK_ETHERNET,
            time: Some(frame.time),
            direction: None,
        };
        self.judge(guide, origin, Some((&native, frame.data)), &taken)
    }

    fn take(
        &mut self,
        guide: &mut Guide,
        origin: usize,
        frame: &CapturedFrame<'_>,
    ) -> io::Result<()> {
        let taken = Taken {
            data: frame.data,
            orig_len: frame.orig_len,
            link: frame.link_number,
            time: frame.time.map(|t| nanoseconds(Some(t))),
            direction: frame.direction,
        };
        let packet = packet(frame);
        let hook = frame.direction.unwrap_or(Hook::Rx);
        let native = packet.map(|packet| (Given { hook, packet, now: 0 }.native(), packet.data));
        self.judge(guide, origin, native.as_ref().map(|(n, data)| (n, *data)), &taken)
    }

    /// Handles a frame; `native` is its form for the parser, with all bytes, if its link type is
    /// supported.
    #[inline]
    fn judge(
        &mut self,
        guide: &mut Guide,
        origin: usize,
        native: Option<(&NativeFrame<'_>, &[u8])>,
        taken: &Taken<'_>,
    ) -> io::Result<()> {
        self.extracted.frames += 1;
        let at = &mut self.origins[origin];
        at.received += 1;
        let time = taken.time.unwrap_or(0);
        at.latest = at.latest.max(time);
        let wanted = self.range.0 <= time && time <= self.range.1;
        let Some((frame, bytes)) = native else {
            return match self.selection.stops && wanted {
                true => self.matched(origin, taken, None, Why::Stop(Stop::Unread, false)),
                false => Ok(()),
            };
        };
        let (filter, rows) = (self.selection.filter.as_ref(), &mut self.rows);
        let label = at.label.as_str();
        let mut decide = |key: &key6| {
            let flow =
                Flow { interface: 0, key: rows::decoded(key), counters: Counters::default() };
            match filter {
                Some(filter) if filter.rows.matches(&flow, label) => rows.number(origin, key),
                _ => 0,
            }
        };
        // A packet that does not match may be the first fragment of one that does.
        match guide.choose(frame, &mut decide) {
            Answer::Row(0) => Ok(()),
            _ if !wanted => Ok(()),
            Answer::Row(number) => self.chosen(guide, origin, frame, bytes, taken, number),
            Answer::Stop { reason, suspect } => {
                let stop = Stop::ALL[(reason as usize).min(STOP_NAMES.len() - 1)];
                let unparsed = suspect || !matches!(stop, Stop::Plain | Stop::NonIp);
                if !self.selection.stops || !unparsed {
                    return Ok(());
                }
                self.matched(origin, taken, None, Why::Stop(stop, suspect))
            }
        }
    }

    /// Handles a frame of a selected row.
    fn chosen(
        &mut self,
        guide: &mut Guide,
        origin: usize,
        frame: &NativeFrame<'_>,
        bytes: &[u8],
        taken: &Taken<'_>,
        number: u32,
    ) -> io::Result<()> {
        if !self.cut.looks() {
            return self.matched(origin, taken, None, Why::Row(number));
        }
        let (way, _) = guide.way(frame);
        match self.cut.cut(&way, frame, bytes) {
            Cut::Unwanted => Ok(()),
            cut => self.matched(origin, taken, Some((&way, cut)), Why::Row(number)),
        }
    }

    /// Handles a selected frame.
    fn matched(
        &mut self,
        origin: usize,
        taken: &Taken<'_>,
        look: Option<(&Way, Cut<'_>)>,
        why: Why,
    ) -> io::Result<()> {
        self.extracted.matched += 1;
        self.origins[origin].matched += 1;
        let (mut data, mut orig_len, mut link) = (taken.data, taken.orig_len, taken.link);
        let way = look.as_ref().map(|(way, _)| *way);
        match look.map(|(_, cut)| cut) {
            Some(Cut::NoInside) => {
                self.extracted.no_inside += 1;
                return Ok(());
            }
            Some(Cut::Inside { data: inside, orig_len: length, link: begins }) => {
                (data, orig_len, link) = (inside, length, begins);
            }
            Some(Cut::Whole | Cut::Unwanted) | None => {}
        }
        if let Some(snaplen) = self.selection.snaplen {
            data = &data[..data.len().min(snaplen as usize)];
        }
        let interface = self.block(origin, link)?;
        self.comment.clear();
        self.say(interface, why, way)?;
        self.extracted.untimed += u64::from(taken.time.is_none());
        let packet = PacketBlock {
            interface,
            time: taken.time.unwrap_or(0),
            data,
            orig_len,
            direction: taken.direction,
            dropped: 0,
            comment: &self.comment,
        };
        self.writer.packet(&packet)?;
        self.origins[origin].written += 1;
        self.extracted.written += 1;
        Ok(())
    }

    /// The number of the interface block for frames of this link type.
    #[inline]
    fn block(&mut self, origin: usize, link: u16) -> io::Result<u32> {
        let at = &mut self.origins[origin];
        if let Some((_, number)) = at.blocks.iter().find(|(l, _)| *l == link) {
            return Ok(*number);
        }
        let block = InterfaceBlock {
            name: if at.name.is_empty() { &at.label } else { &at.name },
            description: &at.file,
            link,
            snaplen: self.selection.snaplen.unwrap_or(0),
        };
        let number = self.writer.interface(&block)?;
        at.blocks.push((link, number));
        Ok(number)
    }

    /// Writes the comment for the first packet of a row, or for a packet that could not be parsed.
    fn say(&mut self, interface: u32, why: Why, way: Option<&Way>) -> io::Result<()> {
        let text = &mut self.comment;
        match why {
            Why::Stop(stop, suspect) => {
                text.push_str(stop.name());
                text.push_str(if suspect { ", suspect" } else { "" });
                Ok(())
            }
            Why::Row(number) => {
                let Some(key) = self.rows.key(number) else { return Ok(()) };
                if !self.told.insert((number as usize, interface)) {
                    return Ok(());
                }
                _ = write!(text, "{key}");
                if let Some(way) = way {
                    self.cut.say_off(way, text);
                }
                let pairs = key.outer.into_iter().chain(key.inner.pair());
                let ends: Vec<_> = pairs.flat_map(|p| [p.first, p.second]).collect();
                self.name(&ends)
            }
        }
    }

    /// Writes the names of addresses that were not written before.
    fn name(&mut self, addresses: &[IpAddr]) -> io::Result<()> {
        let mut named = Vec::new();
        for address in addresses {
            if self.named.len() < MOST_NAMED
                && self.named.insert(*address)
                && let Some(name) = self.names.written(*address)
            {
                named.push((*address, name));
            }
        }
        self.writer.names(named.iter().map(|(a, n)| (*a, n.as_str())))
    }

    fn finish(&mut self) -> io::Result<()> {
        for at in &self.origins {
            // The statistics of an interface are written once, even if it has several blocks.
            if let Some((_, interface)) = at.blocks.first() {
                self.writer.statistics(&StatisticsBlock {
                    interface: *interface,
                    time: at.latest,
                    received: Some(at.received),
                    accepted: Some(at.matched),
                    delivered: Some(at.written),
                    ..StatisticsBlock::default()
                })?;
            }
        }
        self.writer.flush()
    }
}

/// Why a frame is selected.
#[derive(Clone, Copy, Debug)]
enum Why {
    /// Its row is selected.
    Row(u32),
    /// It could not be parsed; whether it has a tunnel's port without its header.
    Stop(Stop, bool),
}
