// SPDX-License-Identifier: MIT OR Apache-2.0
//! Rows as IPFIX (RFC 7011) for flow collectors: one record per row and direction, or one biflow
//! (RFC 5103) per row. docs/EXPORTS.md says what each element contains and which collectors read
//! it.
//!
//! The inner pair is in the elements that every collector shows. The tunnel is in elements that
//! some collectors read: its far end as BGP next hop, its id as VRF and as layer-2 segment, and all
//! of it in the enterprise-specific elements that Open vSwitch and VMware send. No element is in a
//! template twice: collectors silently use the last one.
use std::{
    io,
    net::IpAddr,
    time::{Duration, SystemTime},
};

use model::{
    flow::{Count, Flow, Hook, Kind},
    overlay::Overlay,
    snapshot::Interval,
};

mod sender;
#[cfg(test)]
mod tests;

pub use sender::{IpfixSender, Target};

/// What to send.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IpfixOptions {
    /// One record with both directions per row.
    pub biflow: bool,
    /// Only what this host itself sent, so that a collector with many exporters receives every flow
    /// once.
    pub sent: bool,
}

/// Private enterprise numbers: VMware's, and the one that marks reverse elements (RFC 5103).
const VMWARE: u32 = 6876;
const REVERSE: u32 = 29_305;
const VERSION: u16 = 10;
const HEADER: usize = 16;
const TEMPLATE_SET: u16 = 2;
const FIRST_TEMPLATE: u16 = 256;

/// The address family of a pair in a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Family {
    None,
    V4,
    V6,
}

impl Family {
    const ALL: [Family; 3] = [Family::None, Family::V4, Family::V6];

    fn of(address: Option<IpAddr>) -> Family {
        match address {
            None => Family::None,
            Some(IpAddr::V4(_)) => Family::V4,
            Some(IpAddr::V6(_)) => Family::V6,
        }
    }

    /// One of two elements, by family, with its length.
    fn element(self, v4: u16, v6: u16, enterprise: u32) -> Option<Element> {
        match self {
            Family::None => None,
            Family::V4 => Some(Element { number: v4, length: 4, enterprise }),
            Family::V6 => Some(Element { number: v6, length: 16, enterprise }),
        }
    }
}

/// The families of a record's outer and inner addresses: each combination has its own template.
type Shape = [Family; 2];

fn template([outer, inner]: Shape) -> u16 {
    FIRST_TEMPLATE + 3 * outer as u16 + inner as u16
}

/// An element of a template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Element {
    number: u16,
    length: u16,
    enterprise: u32,
}

/// An IANA element.
const fn element(number: u16, length: u16) -> Option<Element> {
    Some(Element { number, length, enterprise: 0 })
}

const fn of_vmware(number: u16, length: u16) -> Option<Element> {
    Some(Element { number, length, enterprise: VMWARE })
}

const fn reverse(number: u16, length: u16) -> Option<Element> {
    Some(Element { number, length, enterprise: REVERSE })
}

/// The elements of a shape, in the order in which [`Record::write`] writes their values.
fn elements([outer, inner]: Shape, biflow: bool) -> impl Iterator<Item = Element> {
    [
        element(152, 8), // flowStartMilliseconds
        element(153, 8), // flowEndMilliseconds
        inner.element(8, 27, 0),
        inner.element(12, 28, 0),
        outer.element(18, 63, 0), // bgpNextHop
        element(234, 4),          // ingressVRFID
        element(351, 8),          // layer2SegmentId
        element(4, 1),            // protocolIdentifier
        element(10, 4),           // ingressInterface
        element(14, 4),           // egressInterface
        // flowDirection; biflowDirection
        if biflow { element(239, 1) } else { element(61, 1) },
        of_vmware(891, 1),               // tunnelType
        of_vmware(892, 4),               // tunnelKey
        outer.element(893, 893, VMWARE), // tunnelSource
        outer.element(894, 894, VMWARE), // tunnelDestination
        of_vmware(895, 1),               // tunnelProtocolIdentifier
        element(1, 8),                   // octetDeltaCount
        element(2, 8),                   // packetDeltaCount
        reverse(1, 8).filter(|_| biflow),
        reverse(2, 8).filter(|_| biflow),
    ]
    .into_iter()
    .flatten()
}

/// Open vSwitch's number for a tunnel type.
fn tunnel_type(kind: Kind) -> u8 {
    match kind {
        Kind::Vxlan | Kind::VxlanGpe => 1,
        Kind::Gre | Kind::Gretap | Kind::Erspan | Kind::GreUdp => 2,
        Kind::Lisp => 3,
        Kind::Geneve => 7,
        _ => 0,
    }
}

/// The id of a layer-2 segment (RFC 7133): its type in the upper part, the number in the lower; 0
/// if it is none.
fn segment(kind: Kind, id: Option<u32>) -> u64 {
    let (kind, number) = match (kind, id) {
        (Kind::Vxlan | Kind::VxlanGpe, Some(vni)) => (1, vni),
        (Kind::Gretap, Some(key)) => (2, key >> 8), // NVGRE: the lower bits are a flow id
        _ => return 0,
    };
    kind << 56 | u64::from(number)
}

/// The IP protocol that carries the tunnel.
fn protocol(kind: Kind) -> u8 {
    const UDP: u8 = 17;
    let facts = kind.facts();
    let in_ip = facts.and_then(|f| f.protocols).and_then(|p| p.first().copied());
    in_ip.unwrap_or(if kind.in_udp() { UDP } else { 0 })
}

/// The contents of a record.
#[derive(Clone, Copy, Debug)]
struct Record<'a> {
    flow: &'a Flow,
    /// The direction: from the first end to the second, or back.
    way: usize,
    /// The hook that saw it; both hooks for a biflow.
    hook: Option<Hook>,
    interface: u32,
    start: u64,
    end: u64,
    count: Count,
    /// The count of the other direction.
    back: Count,
}

impl Record<'_> {
    fn shape(&self) -> Shape {
        let key = &self.flow.key;
        [key.outer, key.inner.pair()].map(|pair| Family::of(pair.map(|p| p.first)))
    }

    fn write(&self, out: &mut Vec<u8>) {
        let key = &self.flow.key;
        let ends = |pair: Option<model::flow::Pair>| {
            let ends = pair.map(|p| [p.first, p.second]);
            ends.map(|[a, b]| if self.way == 0 { [a, b] } else { [b, a] })
        };
        let address = |out: &mut Vec<u8>, address: IpAddr| match address {
            IpAddr::V4(a) => out.extend(a.octets()),
            IpAddr::V6(a) => out.extend(a.octets()),
        };
        let (outer, inner) = (ends(key.outer), ends(key.inner.pair()));
        let (kind, id) = (key.outermost.kind, key.outermost.id);
        out.extend(self.start.to_be_bytes());
        out.extend(self.end.to_be_bytes());
        inner.into_iter().flatten().for_each(|a| address(out, a));
        outer.into_iter().for_each(|[_, to]| address(out, to));
        out.extend(id.unwrap_or_default().to_be_bytes());
        out.extend(segment(kind, id).to_be_bytes());
        out.push(0); // a row covers all inner protocols
        let at = |hook| if self.hook.is_none_or(|own| own == hook) { self.interface } else { 0 };
        out.extend(at(Hook::Rx).to_be_bytes());
        out.extend(at(Hook::Tx).to_be_bytes());
        // The initiator of a biflow is unknown: 0 is "arbitrary".
        out.push(self.hook.map_or(0, |hook| hook as u8));
        out.push(tunnel_type(kind));
        out.extend(id.unwrap_or_default().to_be_bytes());
        outer.into_iter().flatten().for_each(|a| address(out, a));
        out.push(protocol(kind));
        let counts = [Some(self.count), self.hook.is_none().then_some(self.back)];
        for count in counts.into_iter().flatten() {
            out.extend(count.bytes.to_be_bytes());
            out.extend(count.packets.to_be_bytes());
        }
    }
}

/// The records of a row, each packet once: the interval has decided which interface counts it.
fn records<'a>(
    interval: &Interval,
    overlay: Option<&Overlay>,
    flow: &'a Flow,
    options: IpfixOptions,
) -> Vec<Record<'a>> {
    let counters = interval.once().share(flow);
    let own = interval.interfaces.get(usize::from(flow.interface));
    let span = own.map_or(interval.elapsed, |i| i.span);
    let end = milliseconds(interval.taken);
    let all = Record {
        flow,
        way: 0,
        hook: None,
        interface: own.map_or(0, |i| i.ifindex),
        start: end.saturating_sub(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        end,
        count: counters.fwd(),
        back: counters.rev(),
    };
    if options.biflow {
        return if counters.total().is_zero() { Vec::new() } else { vec![all] };
    }
    let mut records = Vec::new();
    for (hook, cells) in [Hook::Rx, Hook::Tx].into_iter().zip(counters.cells) {
        for (way, count) in cells.into_iter().enumerate() {
            let from = flow.key.outer.map(|p| if way == 0 { p.first } else { p.second });
            let is_own = from.zip(overlay).is_some_and(|(from, overlay)| overlay.is_own(from));
            let left_out = (hook == Hook::Rx && counters.egress_only[way])
                || (options.sent && !(hook == Hook::Tx && is_own));
            if !count.is_zero() && !left_out {
                records.push(Record { way, hook: Some(hook), count, ..all });
            }
        }
    }
    records
}

fn milliseconds(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Builds the messages of one transport session.
#[derive(Clone, Debug)]
struct Encoder {
    options: IpfixOptions,
    /// Limit on the size of a message.
    most: usize,
    /// Data records so far.
    sequence: u32,
}

/// The only observation domain.
const DOMAIN: u32 = 1;

impl Encoder {
    fn new(options: IpfixOptions, most: usize) -> Encoder {
        Encoder { options, most: most.min(usize::from(u16::MAX)), sequence: 0 }
    }

    /// Writes everything before the sets; the length is filled in at the end.
    fn begin(&self, at: SystemTime, message: &mut Vec<u8>) {
        message.clear();
        message.extend(VERSION.to_be_bytes());
        message.extend([0; 2]);
        message.extend(((milliseconds(at) / 1000) as u32).to_be_bytes());
        message.extend(self.sequence.to_be_bytes());
        message.extend(DOMAIN.to_be_bytes());
    }

    /// The message with all templates.
    fn templates(&self, at: SystemTime) -> Vec<u8> {
        let mut message = Vec::new();
        self.begin(at, &mut message);
        message.extend(TEMPLATE_SET.to_be_bytes());
        message.extend([0; 2]);
        for shape in Family::ALL.into_iter().flat_map(|o| Family::ALL.map(|i| [o, i])) {
            let elements: Vec<Element> = elements(shape, self.options.biflow).collect();
            message.extend(template(shape).to_be_bytes());
            message.extend((elements.len() as u16).to_be_bytes());
            for e in elements {
                let private = if e.enterprise == 0 { 0 } else { 0x8000 };
                message.extend((e.number | private).to_be_bytes());
                message.extend(e.length.to_be_bytes());
                if e.enterprise != 0 {
                    message.extend(e.enterprise.to_be_bytes());
                }
            }
        }
        close(&mut message, HEADER);
        finish(&mut message);
        message
    }

    /// Encodes an interval as a series of messages. Returns the number of records.
    ///
    /// # Errors
    /// Those of `send`, which gets each message.
    fn interval(
        &mut self,
        interval: &Interval,
        overlay: Option<&Overlay>,
        send: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<u64> {
        let flows = interval.rows.merged();
        let all = flows.iter().flat_map(|flow| records(interval, overlay, flow, self.options));
        let mut all: Vec<Record<'_>> = all.collect();
        all.sort_by_key(Record::shape); // stable: still by interface and key
        let (mut message, mut record) = (Vec::new(), Vec::new());
        // The start and shape of the open set, and the number of records in the message.
        let mut open: Option<(usize, Shape)> = None;
        let mut inside: u32 = 0;
        for r in &all {
            record.clear();
            r.write(&mut record);
            let set = if open.is_some_and(|(_, shape)| shape == r.shape()) { 0 } else { 4 };
            if inside > 0 && message.len() + set + record.len() > self.most {
                self.end(&mut message, open.take(), &mut inside, send)?;
            }
            if inside == 0 {
                self.begin(interval.taken, &mut message);
            }
            if open.is_none_or(|(_, shape)| shape != r.shape()) {
                if let Some((begin, _)) = open {
                    close(&mut message, begin);
                }
                open = Some((message.len(), r.shape()));
                message.extend(template(r.shape()).to_be_bytes());
                message.extend([0; 2]);
            }
            message.extend(&record);
            inside += 1;
        }
        if inside > 0 {
            self.end(&mut message, open, &mut inside, send)?;
        }
        Ok(all.len() as u64)
    }

    fn end(
        &mut self,
        message: &mut [u8],
        open: Option<(usize, Shape)>,
        inside: &mut u32,
        send: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<()> {
        if let Some((begin, _)) = open {
            close(message, begin);
        }
        finish(message);
        self.sequence = self.sequence.wrapping_add(std::mem::take(inside));
        send(message)
    }
}

/// Fills in the length of the set that begins there.
fn close(message: &mut [u8], begin: usize) {
    let length = (message.len() - begin) as u16;
    message[begin + 2..begin + 4].copy_from_slice(&length.to_be_bytes());
}

/// Fills in the length of the message.
fn finish(message: &mut [u8]) {
    let length = message.len() as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
}
