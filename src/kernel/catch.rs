// SPDX-License-Identifier: MIT OR Apache-2.0
//! Packets of rows that are looked at more closely, on their way into a capture.
use std::{
    collections::{HashSet, VecDeque},
    io::{self, Write},
    net::IpAddr,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use contract::{CAUGHT_ANY_ROW, CAUGHT_STOP, CAUGHT_SUSPECT, caught};
use nix::time::{ClockId, clock_gettime};

use crate::kernel::{
    live::Live,
    probe::{Caught, Prober},
};
use feed::{
    names::Names,
    pcapng::{InterfaceBlock, PacketBlock, PcapngWriter, StatisticsBlock},
};
use model::flow::{Hook, Stop};

/// The link types of a capture's interfaces.
const ETHERNET: u16 = 1;
const RAW_IP: u16 = 101;
/// Limit on the packets of one second, at each interface, unless told otherwise.
pub const LIMIT: u64 = 100_000;
/// Memory for packets that are not written yet, unless told otherwise.
pub const RING: u32 = 64 << 20;
/// So many packets are taken at once: somebody else may wait meanwhile.
const AT_ONCE: u64 = 1 << 16;
/// How often it is asked how far the wall clock is from the packets', and said how many there were.
const PAUSE: Duration = Duration::from_secs(10);
/// Rows that a comment tells of, and addresses that are named, at most.
const MOST_TOLD: usize = 65_536;

/// Writes what a prober catches.
pub struct Catch<W: Write> {
    prober: Prober,
    book: Book<W>,
    /// When it was asked how far the clocks are apart.
    asked: Instant,
    /// Limit on the packets that are written.
    most: u64,
    /// Limit on the bytes of the capture; 0 when a packet had no room any more.
    room: u64,
    totals: Totals,
}

/// The capture, and what is in it already.
struct Book<W: Write> {
    writer: PcapngWriter<W>,
    names: Names,
    snaplen: u32,
    places: Vec<Place>,
    told: HashSet<(u32, u32)>,
    named: HashSet<IpAddr>,
    /// What the packets' clock is behind the wall clock.
    behind: u64,
    /// Where packets end that are not written yet.
    ends: VecDeque<u64>,
}

/// An interface that packets came from.
struct Place {
    number: u32,
    block: u32,
    lost: u64,
    written: u64,
}

/// What became of the packets of a capture.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// As the kernel has them; what went to the ring is in the capture or left over.
    pub caught: Caught,
    /// In the capture.
    pub written: u64,
    /// More than were wanted, by their number or the bytes of the capture.
    pub left_over: u64,
    /// What could not be written when it ended.
    pub unwritten: u64,
    /// How often it was not looked for a while, because this process was stopped.
    pub lapses: u64,
    /// Of these packets nobody could see more than that they are there.
    pub unprobed: u64,
}

impl Totals {
    /// What became of them, in a line.
    pub fn words(&self) -> String {
        let Caught { matched, ring_full, over_limit, .. } = self.caught;
        let written = self.written;
        let mut text = format!(
            "{matched} packets matched = {written} written + {ring_full} ring-full + {over_limit} over-limit"
        );
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
        all
    }
}

/// Now, by the wall clock and by the packets', in nanoseconds.
fn clocks() -> [u64; 2] {
    let now = |clock| clock_gettime(clock).map_or(0, |t| Duration::from(t).as_nanos() as u64);
    [now(ClockId::CLOCK_REALTIME), now(ClockId::CLOCK_MONOTONIC)]
}

fn difference() -> u64 {
    let [wall, packets] = clocks();
    wall.wrapping_sub(packets)
}

impl<W: Write> Catch<W> {
    /// Begins, at everything that is watched. Limits are on the packets that are written, and on the
    /// bytes of the capture.
    ///
    /// # Errors
    /// It cannot be begun anywhere.
    pub fn begin(
        live: &mut Live,
        mut prober: Prober,
        writer: PcapngWriter<W>,
        names: Names,
        [most, room]: [Option<u64>; 2],
    ) -> Result<Catch<W>> {
        live.probe(&mut prober)?;
        let book = Book {
            writer,
            names,
            snaplen: prober.snaplen(),
            places: Vec::new(),
            told: HashSet::new(),
            named: HashSet::new(),
            behind: difference(),
            ends: VecDeque::new(),
        };
        Ok(Catch {
            prober,
            book,
            asked: Instant::now(),
            most: most.unwrap_or(u64::MAX),
            room: room.unwrap_or(u64::MAX),
            totals: Totals::default(),
        })
    }

    /// Begins at interfaces that have come meanwhile: to be called a few times a second.
    pub fn follow(&mut self, live: &mut Live) {
        // Where it cannot be is a notice, and all else goes on.
        let _ = live.probe(&mut self.prober);
    }

    /// Writes what was caught so far, or a part of that. False when as many are written as are wanted.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn step(&mut self, live: &Live) -> io::Result<bool> {
        if self.asked.elapsed() >= PAUSE {
            (self.book.behind, self.asked) = (difference(), Instant::now());
            self.statistics()?;
        }
        let Catch { prober, book, most, room, totals, .. } = self;
        let mut done = Ok(());
        let mut left = AT_ONCE;
        let taken = prober.drain(|about, bytes| {
            left -= 1;
            let go_on = if left > 0 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) };
            // With what is said of an interface, a row and a packet.
            if book.writer.length() + bytes.len() as u64 + (8 << 10) > *room {
                *room = 0;
            }
            if totals.written >= *most || *room == 0 {
                totals.left_over += 1;
                return go_on;
            }
            done = book.write(live, about, bytes);
            if done.is_err() {
                return ControlFlow::Break(());
            }
            totals.written += 1;
            go_on
        });
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
        self.prober.stop()?;
        // More than are wanted are taken out by the same function.
        loop {
            self.step(live).context("write the capture")?;
            if self.prober.is_empty() {
                break;
            }
        }
        self.statistics().and_then(|()| self.book.writer.flush()).context("write the capture")?;
        Ok(self.totals(live))
    }

    /// What became of the packets so far.
    pub fn totals(&self, live: &Live) -> Totals {
        let mut totals = Totals { lapses: self.prober.lapses(), ..self.totals };
        for interface in self.prober.interfaces() {
            totals.caught.add(&self.prober.caught(interface));
            let program = live.probed_interface(interface).and_then(|i| i.program);
            totals.unprobed += program.map_or(0, |p| p.unprobed());
        }
        totals
    }

    /// What became of them where writing has failed: what was not written yet is not in the capture.
    pub fn totals_unwritten(&mut self, live: &Live) -> Totals {
        let _ = self.prober.stop(); // it was stopped already, or what comes is counted, too
        let whole = self.book.writer.whole();
        self.totals.written -= self.book.ends.iter().filter(|end| **end > whole).count() as u64;
        let mut totals = self.totals(live);
        let told = totals.written + totals.caught.lost() + totals.left_over;
        totals.unwritten = totals.caught.matched.saturating_sub(told);
        totals
    }

    /// Takes the prober away again.
    pub fn leave(&mut self, live: &Live) {
        live.end_probe(&mut self.prober);
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
        let [time, _] = clocks();
        for place in &self.book.places {
            let n = self.prober.caught(place.number);
            self.book.writer.statistics(&StatisticsBlock {
                interface: place.block,
                time,
                received: None,
                dropped: Some(n.over_limit),
                accepted: Some(n.matched),
                os_dropped: Some(n.ring_full),
                delivered: Some(place.written),
            })?;
        }
        Ok(())
    }
}

impl<W: Write> Book<W> {
    fn write(&mut self, live: &Live, about: &caught, bytes: &[u8]) -> io::Result<()> {
        let at = match self.places.iter().position(|p| p.number == about.interface) {
            Some(at) => at,
            None => {
                let place = self.describe(live, about.interface)?;
                self.places.push(place);
                self.places.len() - 1
            }
        };
        // Of what could not be parsed each says why.
        let is_new = about.row & CAUGHT_STOP != 0
            || (self.told.len() < MOST_TOLD && self.told.insert((about.interface, about.row)));
        let comment = if is_new { self.comment(live, about)? } else { String::new() };
        let place = &mut self.places[at];
        let dropped = about.lost.saturating_sub(place.lost);
        (place.lost, place.written) = (about.lost, place.written + 1);
        self.writer.packet(&PacketBlock {
            interface: place.block,
            time: about.time.wrapping_add(self.behind),
            data: bytes,
            orig_len: about.length,
            direction: Some(if about.hook == 0 { Hook::Rx } else { Hook::Tx }),
            dropped,
            comment: &comment,
        })?;
        let whole = self.writer.whole();
        while self.ends.front().is_some_and(|end| *end <= whole) {
            self.ends.pop_front();
        }
        self.ends.push_back(self.writer.length());
        Ok(())
    }

    /// Describes an interface.
    fn describe(&mut self, live: &Live, number: u32) -> io::Result<Place> {
        let interface = live.probed_interface(number);
        let netns = interface.as_ref().and_then(|i| i.netns);
        let block = self.writer.interface(&InterfaceBlock {
            name: interface.as_ref().map_or("?", |i| i.name),
            description: &netns.map_or(String::new(), |n| format!("network namespace {n}")),
            link: if interface.as_ref().is_some_and(|i| i.l3) { RAW_IP } else { ETHERNET },
            snaplen: self.snaplen,
        })?;
        Ok(Place { number, block, lost: 0, written: 0 })
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
        self.writer.names(known.iter().map(|(a, n)| (*a, n.as_str())))?;
        Ok(key.to_string())
    }
}
