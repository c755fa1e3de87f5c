// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon capture`: packets that are selected, as a capture.
use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::atomic::Ordering,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::{Counting, TOOL, Unpack, Usage, expression, interrupted, out, replay::Progress, say};
#[cfg(feature = "live")]
use std::time::Duration;

#[cfg(feature = "live")]
use super::{duration, size};
use crate::kernel::sandbox::Sandbox;
use feed::{
    Captures, Extract, Extracted, Selection, names::Names, pcapng::PcapngWriter, recorded::Between,
};
use model::{
    filter::{FilterError, Meanings, PacketFilter},
    units::sanitize,
};

#[derive(Args, Debug)]
#[command(
    after_help = "EXPR is what `--filter` takes, and `port:443`, `l4:tcp`, `flags:syn+ack`, `dscp:ef`, of what is \
    innermost; see docs/CAPTURE.md. Wireshark reads it live: tmon capture ... -w - | wireshark -k -i -"
)]
pub(super) struct Capture {
    /// Interfaces, as for `tmon top`; and last which packets: 'vni:10003 inner:192.168.3.8'; '' is
    /// all that are in a tunnel
    #[arg(value_name = "IFACE... EXPR")]
    pub(super) words: Vec<String>,
    /// Take the packets of this capture, pcap or pcapng (may be repeated: merged in the order of
    /// time), instead of what passes an interface; `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    #[cfg_attr(not(feature = "live"), arg(required = true))]
    pub(super) read: Vec<PathBuf>,
    #[cfg(feature = "live")]
    #[command(flatten)]
    pub(super) live: Catching,
    /// The pcapng file to make, which only you may read; one that is there is not touched; `-` is
    /// standard output
    #[arg(long, short, value_name = "OUT")]
    pub(super) write: PathBuf,
    /// Also take what could not be parsed: malformed, truncated, too deep, fragments of unknown
    /// packets, a tunnel's port without its header
    #[arg(long)]
    pub(super) stops: bool,
    /// Write what is inside of the outer N tunnels, for tools that know none (at most 4)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    decap: Option<u8>,
    /// Write at most so many bytes of a packet
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=262_144))]
    pub(super) snaplen: Option<u32>,
    /// Stop after so many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Take only packets of a time, of which one end may be left out
    /// (2026-11-30T06:30:00Z..2026-11-30T07:00:00Z)
    #[arg(long, value_name = "FROM..UNTIL", requires = "read")]
    between: Option<Between>,
    /// File with names of addresses, networks and ids, for EXPR and for the capture
    #[arg(long, value_name = "FILE")]
    pub(super) names: Option<PathBuf>,
    #[command(flatten)]
    pub(super) counting: Counting,
    #[command(flatten)]
    unpack: Unpack,
}

/// Of what passes interfaces.
#[cfg(feature = "live")]
#[derive(Args, Debug)]
pub(super) struct Catching {
    /// The network namespace that the interfaces are in: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS", add = clap_complete::engine::ArgValueCandidates::new(super::values::namespaces), conflicts_with = "read")]
    pub(super) netns: Option<String>,
    /// Stop after this time
    #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "read")]
    pub(super) span: Option<Duration>,
    /// Take the packets that the kernel drops, instead of those that pass: each with the reason; EXPR
    /// may be left out
    #[arg(long, conflicts_with_all = ["read", "stops"])]
    pub(super) dropped: bool,
    /// Limit on the packets of one second, at each interface; 0 for none [default: 100k]
    #[arg(long, value_name = "N/s", value_parser = rate, conflicts_with = "read")]
    pub(super) limit: Option<u64>,
    /// Memory for packets that are not written yet, at most 1GiB [default: 64M]
    #[arg(long, value_name = "SIZE", value_parser = ring, conflicts_with = "read")]
    pub(super) ring: Option<u32>,
}

#[cfg(feature = "live")]
const SMALLEST_RING: u64 = 1 << 20; // holds the longest packet
#[cfg(feature = "live")]
const LARGEST_RING: u64 = 1 << 30;

/// `100k/s`, or `100k`.
#[cfg(feature = "live")]
fn rate(text: &str) -> Result<u64, String> {
    size(text.strip_suffix("/s").unwrap_or(text))
        .map_err(|_| "expected a number of packets, such as 500, 100k/s, or 0 for all".to_owned())
}

#[cfg(feature = "live")]
fn ring(text: &str) -> Result<u32, String> {
    let size = size(text)?;
    if size > LARGEST_RING {
        return Err("at most 1GiB".to_owned());
    }
    Ok(size.max(SMALLEST_RING).next_power_of_two() as u32)
}

/// Whether a text is an expression.
fn check(text: &str) -> Result<()> {
    let parse = |meanings: &Meanings<'_>| PacketFilter::parse_named(text, meanings).map(drop);
    expression(parse).map_err(|e: FilterError| Usage(e.to_string()).into())
}

/// Where a capture is written to.
pub(super) enum Target {
    File(File),
    /// Standard output.
    Out,
}

impl Write for &Target {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Target::File(file) => (&*file).write(bytes),
            Target::Out => out::raw().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Target {
    /// After an error: leaves what was written and is whole, as far as that can be done. What to say of
    /// it.
    pub(super) fn cut(&self, whole: u64, shown: &str) -> Result<String> {
        match self {
            Target::File(file) => {
                file.set_len(whole).context("cut off half a packet")?;
                Ok(format!("what is in {shown} is whole"))
            }
            Target::Out => Ok("standard output may end inside a packet".to_owned()),
        }
    }
}

impl Capture {
    /// It takes packets of interfaces.
    #[cfg(feature = "live")]
    pub(super) fn loads(&self) -> bool {
        self.read.is_empty()
    }

    /// The interfaces, and the expression if there is one.
    fn split(&self) -> (&[String], Option<&str>) {
        match self.words.split_last() {
            Some((last, rest)) if !self.read.is_empty() || is_expression(last) => {
                (rest, Some(last))
            }
            _ => (&self.words, None),
        }
    }

    /// So many outer tunnels are taken off.
    pub(super) fn decap(&self) -> usize {
        self.decap.map_or(0, usize::from)
    }

    /// Makes the file, if it is one; what it is called, and how the totals name it.
    pub(super) fn target(&self) -> Result<(Target, String, String)> {
        let shown = sanitize(&self.write.to_string_lossy()).into_owned();
        if self.write.as_os_str() == "-" {
            ensure!(
                !io::stdout().is_terminal(),
                "a capture is not for a terminal: name a file, or give it to another program"
            );
            return Ok((Target::Out, shown, String::new()));
        }
        let file = out::make(&self.write).with_context(|| format!("make {shown}"))?;
        let to = format!(" to {shown}");
        Ok((Target::File(file), shown, to))
    }

    /// Leaves no file with nothing in it.
    pub(super) fn discard(&self, target: &Target) {
        if let Target::File(_) = target {
            _ = std::fs::remove_file(&self.write);
        }
    }

    pub(super) fn run(self) -> Result<()> {
        let (interfaces, filter) = self.split();
        #[cfg(feature = "live")]
        let dropped = self.live.dropped;
        #[cfg(not(feature = "live"))]
        let dropped = false;
        if filter.is_none() && !self.stops && !dropped {
            let what = "say which packets: an expression, or '' for all that are in a tunnel, \
                        or --stops for what could not be parsed";
            bail!(Usage(what.to_owned()));
        }
        filter.map_or(Ok(()), check)?;
        #[cfg(feature = "live")]
        if self.loads() {
            return self.catch(interfaces, filter);
        }
        if let Some(one) = interfaces.first() {
            let one = sanitize(one);
            bail!(Usage(format!("with --read there is one expression and no interface {one}")));
        }
        self.extract(filter)
    }

    /// Takes packets out of captures.
    fn extract(&self, filter: Option<&str>) -> Result<()> {
        let names = Names::read(self.names.as_deref())?;
        let filter = filter.map(|text| names.packet_filter(text));
        let selection = Selection {
            filter: filter.transpose().map_err(|e| Usage(e.to_string()))?,
            stops: self.stops,
            between: self.between.unwrap_or_default(),
            count: self.count,
            snaplen: self.snaplen,
            decap: self.decap(),
        };
        let captures = Captures::open(&self.read)?;
        let (target, shown, to) = self.target()?;
        let flag = interrupted()?;
        let captures = captures.until(&flag);
        // Opened with all rights, read with none.
        Sandbox::new(None).enter_with_nothing()?;
        let writer = PcapngWriter::new(&target, TOOL);
        let config = self.counting.of_capture();
        let extract = Extract::of(captures, &config, self.unpack.max_size, selection, writer);
        let mut extract = extract.inspect_err(|_| self.discard(&target))?;
        extract.set_names(names);
        let mut progress = io::stderr().is_terminal().then(Progress::new);
        let mut done = Ok(true);
        while matches!(done, Ok(true)) && !flag.load(Ordering::Relaxed) {
            done = extract.advance(1 << 16);
            if let Some(progress) = &mut progress {
                progress.show(extract.extracted().frames, extract.position());
            }
        }
        if progress.is_some() {
            out::tell("\r\x1b[K");
        }
        match done.and_then(|_| extract.finish()) {
            Err(e) if is_closed(&e) => say(match flag.load(Ordering::Relaxed) {
                true => "whoever reads the capture has not read all of it",
                false => "whoever read the capture has gone",
            }),
            Err(e) if extract.extracted().written == 0 => {
                self.discard(&target);
                return Err(e);
            }
            Err(e) => return Err(e).context(target.cut(extract.whole(), &shown)?),
            Ok(_) => {}
        }
        let said = extract.extracted();
        say(&totals(&said, &to));
        extract.notes().iter().for_each(|note| say(note));
        extract.end()
    }
}

/// Who read what was written has gone, or reads no more.
pub(super) fn is_closed(e: &anyhow::Error) -> bool {
    let kind = e.chain().find_map(|c| c.downcast_ref::<io::Error>()).map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Keys are followed by a colon; a name of an interface has none.
fn is_expression(word: &str) -> bool {
    word.trim().is_empty() || word.contains(':')
}

/// What became of the packets.
fn totals(n: &Extracted, to: &str) -> String {
    let Extracted { frames, matched, written, no_inside, .. } = n;
    let mut text = format!("{frames} packets read, {matched} matched, {written} written{to}");
    if *no_inside > 0 {
        text += &format!(", {no_inside} have nothing inside that can be written alone");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_say_what_became_of_every_packet() {
        let n = Extracted { frames: 9, matched: 5, written: 3, no_inside: 2, untimed: 0 };
        assert_eq!(
            totals(&n, " to x"),
            "9 packets read, 5 matched, 3 written to x, 2 have nothing inside that can be written alone"
        );
    }

    #[cfg(feature = "live")]
    #[test]
    fn rates_and_rings_are_read() {
        assert_eq!(rate("100k/s"), Ok(100_000));
        assert_eq!(rate("0"), Ok(0));
        assert!(rate("many").unwrap_err().contains("100k/s"));
        assert_eq!(ring("64M"), Ok(64 << 20));
        assert_eq!(ring("1"), Ok(1 << 20));
        assert!(ring("2GiB").is_err());
    }
}
