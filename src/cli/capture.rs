// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon capture`: writes selected packets to a pcapng file.
use std::{
    fs::File,
    io::{self, IsTerminal, Write},
    path::PathBuf,
    sync::atomic::Ordering,
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::{
    Counting, Grouped, TOOL, Unpack, Usage, expression, interrupted, out, replay::Progress, say,
};
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
    after_help = "EXPR is a filter as for `--filter`, and may also match the innermost headers: `port:443`, `l4:tcp`, \
    `flags:syn+ack`, `dscp:ef`; see docs/CAPTURE.md. For Wireshark live: tmon capture ... -w - | wireshark -k -i -"
)]
pub(super) struct Capture {
    /// Interfaces, as for `tmon top`, and then the expression that selects packets: 'vni:10003
    /// inner:192.168.3.8'; '' selects all packets in tunnels
    #[arg(value_name = "IFACE... EXPR")]
    pub(super) words: Vec<String>,
    /// Read packets from this pcap or pcapng file instead of interfaces; may be repeated (merged in
    /// order of time); `-` is standard input
    #[arg(long, short, value_name = "FILE")]
    #[cfg_attr(not(feature = "live"), arg(required = true))]
    pub(super) read: Vec<PathBuf>,
    #[cfg(feature = "live")]
    #[command(flatten)]
    pub(super) live: Catching,
    /// The pcapng file to create, readable by you only; an existing file is not overwritten; `-` is
    /// standard output
    #[arg(long, short, value_name = "OUT")]
    pub(super) write: PathBuf,
    /// Also capture packets that could not be parsed: malformed, truncated, too deep, fragments of
    /// unknown packets, and packets with a tunnel's port but without its header
    #[arg(long)]
    pub(super) stops: bool,
    /// Remove the N outermost tunnels, for tools that cannot decode them (at most 4)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=4))]
    decap: Option<u8>,
    /// Capture at most this many bytes of each packet
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(1..=262_144))]
    pub(super) snaplen: Option<u32>,
    /// Stop after this many packets
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) count: Option<u64>,
    /// Read only packets from between two times, either of which may be omitted
    /// (2026-11-30T06:30:00Z..2026-11-30T07:00:00Z)
    #[arg(long, value_name = "FROM..UNTIL", requires = "read")]
    between: Option<Between>,
    /// File of names for addresses, networks and ids, for EXPR and for the capture's name records
    #[arg(long, value_name = "FILE")]
    pub(super) names: Option<PathBuf>,
    #[command(flatten)]
    grouped: Grouped,
    #[command(flatten)]
    pub(super) counting: Counting,
    #[command(flatten)]
    unpack: Unpack,
}

/// Options for captures from interfaces.
#[cfg(feature = "live")]
#[derive(Args, Debug)]
pub(super) struct Catching {
    /// Network namespace of the interfaces: a name, a path, or pid:PID
    #[arg(long, value_name = "NETNS", add = clap_complete::engine::ArgValueCandidates::new(super::values::namespaces), conflicts_with = "read")]
    pub(super) netns: Option<String>,
    /// Stop after this long
    #[arg(long = "for", value_name = "TIME", value_parser = duration, conflicts_with = "read")]
    pub(super) span: Option<Duration>,
    /// Capture the packets that the kernel drops, each with the drop reason, instead of those that
    /// pass; EXPR may be omitted
    #[arg(long, conflicts_with_all = ["read", "stops"])]
    pub(super) dropped: bool,
    /// Maximum number of packets per second at each interface; 0 for no limit [default: 100k]
    #[arg(long, value_name = "N/s", value_parser = rate, conflicts_with = "read")]
    pub(super) limit: Option<u64>,
    /// Memory for packets that have not been written yet, at most 1GiB [default: 64M]
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
        return Err("expected at most 1GiB".to_owned());
    }
    Ok(size.max(SMALLEST_RING).next_power_of_two() as u32)
}

/// Checks the syntax of an expression.
fn check(text: &str) -> Result<()> {
    let parse = |meanings: &Meanings<'_>| PacketFilter::parse_named(text, meanings).map(drop);
    expression(parse).map_err(|e: FilterError| Usage(e.to_string()).into())
}

/// Where a capture is written.
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
    /// After an error: cuts the file after the last complete packet, if possible. Returns a message
    /// about what is left.
    pub(super) fn cut(&self, whole: u64, shown: &str) -> Result<String> {
        match self {
            Target::File(file) => {
                file.set_len(whole).context("remove an incomplete packet")?;
                Ok(format!("{shown} ends after a complete packet"))
            }
            Target::Out => Ok("standard output may end inside a packet".to_owned()),
        }
    }
}

impl Capture {
    /// The command captures from interfaces.
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

    /// The number of outer tunnels to remove.
    pub(super) fn decap(&self) -> usize {
        self.decap.map_or(0, usize::from)
    }

    /// Creates the output file, if it is one. Returns it with its name, and with the words that the
    /// totals use for it.
    pub(super) fn target(&self) -> Result<(Target, String, String)> {
        let shown = sanitize(&self.write.to_string_lossy()).into_owned();
        if self.write.as_os_str() == "-" {
            ensure!(
                !io::stdout().is_terminal(),
                "a capture cannot be written to a terminal: name a file, or pipe it to another program"
            );
            return Ok((Target::Out, shown, String::new()));
        }
        let file = out::make(&self.write).with_context(|| format!("create {shown}"))?;
        let to = format!(" to {shown}");
        Ok((Target::File(file), shown, to))
    }

    /// Removes a file that has nothing in it.
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
            let what = "no packets are selected: give an expression, '' for all packets in tunnels, \
                        or --stops for packets that could not be parsed";
            bail!(Usage(what.to_owned()));
        }
        filter.map_or(Ok(()), check)?;
        #[cfg(feature = "live")]
        if self.loads() {
            return self.catch(interfaces, filter);
        }
        if let Some(one) = interfaces.first() {
            let one = sanitize(one);
            bail!(Usage(format!("--read takes one expression and no interface, but got {one}")));
        }
        self.extract(filter)
    }

    /// What an expression means.
    pub(super) fn meant(&self, text: Option<&str>, names: &Names) -> Result<Option<PacketFilter>> {
        let Some(text) = text else { return Ok(None) };
        let groups = self.grouped.read()?.unwrap_or_default();
        let filter = names.packet_filter(text, &groups).map_err(|e| Usage(e.to_string()))?;
        if filter.rows.takes_names() {
            let what = "`group:` works here only if groups are defined by addresses and networks \
                        alone: packets have no names";
            bail!(Usage(what.to_owned()));
        }
        Ok(Some(filter))
    }

    /// Extracts packets from capture files.
    fn extract(&self, filter: Option<&str>) -> Result<()> {
        let names = Names::read(self.names.as_deref())?;
        let selection = Selection {
            filter: self.meant(filter, &names)?,
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
        // Files are opened with all privileges and read without any.
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
                true => "the reader of the capture did not read all of it",
                false => "the reader of the capture has closed it",
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

/// The reader of the output has closed it, or has stopped reading.
pub(super) fn is_closed(e: &anyhow::Error) -> bool {
    let kind = e.chain().find_map(|c| c.downcast_ref::<io::Error>()).map(io::Error::kind);
    kind == Some(io::ErrorKind::BrokenPipe)
}

/// Keys end in a colon; interface names have none.
fn is_expression(word: &str) -> bool {
    word.trim().is_empty() || word.contains(':')
}

/// The totals in words.
fn totals(n: &Extracted, to: &str) -> String {
    let Extracted { frames, matched, written, no_inside, .. } = n;
    let mut text = format!("{frames} packets read, {matched} matched, {written} written{to}");
    if *no_inside > 0 {
        text += &format!(", {no_inside} without an inner packet that can be written by itself");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_account_for_every_packet() {
        let n = Extracted { frames: 9, matched: 5, written: 3, no_inside: 2, untimed: 0 };
        assert_eq!(
            totals(&n, " to x"),
            "9 packets read, 5 matched, 3 written to x, 2 without an inner packet that can be written by itself"
        );
    }

    #[cfg(feature = "live")]
    #[test]
    fn rates_and_ring_sizes_are_parsed() {
        assert_eq!(rate("100k/s"), Ok(100_000));
        assert_eq!(rate("0"), Ok(0));
        assert!(rate("many").unwrap_err().contains("100k/s"));
        assert_eq!(ring("64M"), Ok(64 << 20));
        assert_eq!(ring("1"), Ok(1 << 20));
        assert!(ring("2GiB").is_err());
    }
}
