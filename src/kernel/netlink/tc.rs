// SPDX-License-Identifier: MIT OR Apache-2.0
//! Filters on a clsact qdisc (tc-bpf(8)): programs that run before ours, and our own.
use std::collections::BTreeMap;

use anyhow::Result;
use netlink_packet_core::{NetlinkBuffer, NlasIterator, parse_string, parse_u32};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcHandle, TcMessage},
};

use super::Netlink;
use model::flow::Hook;

/// linux/rtnetlink.h, linux/pkt_cls.h
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
const TCA_STATS_QUEUE: u16 = 3;
const TCA_BPF_NAME: u16 = 7;
const TCA_BPF_ID: u16 = 11;

/// A filter on one side of a clsact qdisc.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcFilter {
    /// The side.
    pub hook: Hook,
    /// The classifier's name: `bpf`, `flower` ...
    pub kind: String,
    /// Smaller ones run first.
    pub priority: u16,
    /// Its number within classifier and priority.
    pub handle: u32,
    /// The id of its BPF program, if it has one.
    pub program: Option<u32>,
    /// The name given by whoever attached it.
    pub name: String,
}

impl Netlink {
    /// The filters on both sides of an interface's clsact qdisc, in the order in which they run.
    pub fn filters(&mut self, ifindex: u32) -> Result<Vec<TcFilter>> {
        let mut filters = Vec::new();
        for (hook, minor) in [(Hook::Rx, TcHandle::MIN_INGRESS), (Hook::Tx, TcHandle::MIN_EGRESS)] {
            let mut m = TcMessage::default();
            m.header.index = i32::try_from(ifindex)?;
            m.header.parent = TcHandle { minor, ..TcHandle::CLSACT };
            self.dump(
                RouteNetlinkMessage::GetTrafficFilter(m),
                || format!("list the filters of interface {ifindex}"),
                |message| filters.extend(parse(message, hook)),
            )?;
        }
        Ok(filters)
    }

    /// What the queueing disciplines of each interface have dropped, by index: those at the root,
    /// which include the drops of those below them, and those on ingress.
    pub fn qdisc_drops(&mut self) -> Result<BTreeMap<u32, u64>> {
        let mut drops = BTreeMap::new();
        self.dump(
            RouteNetlinkMessage::GetQueueDiscipline(TcMessage::default()),
            || "list the qdiscs".to_owned(),
            |message| {
                let Some((ifindex, n)) = dropped(message) else { return };
                *drops.entry(ifindex).or_default() += n;
            },
        )?;
        Ok(drops)
    }

    /// Whether an interface has a clsact qdisc.
    pub fn has_clsact(&mut self, ifindex: u32) -> Result<bool> {
        self.has_qdisc(ifindex, "clsact")
    }

    /// Whether an interface has, in its place, the ingress qdisc that preceded clsact: it has no
    /// egress, and its filters run on ingress.
    pub fn has_ingress(&mut self, ifindex: u32) -> Result<bool> {
        self.has_qdisc(ifindex, "ingress")
    }

    fn has_qdisc(&mut self, ifindex: u32, kind: &str) -> Result<bool> {
        let mut m = TcMessage::default();
        m.header.index = i32::try_from(ifindex)?;
        let mut found = false;
        self.dump(
            RouteNetlinkMessage::GetQueueDiscipline(m),
            || format!("list the qdiscs of interface {ifindex}"),
            |message| found |= is_qdisc(message, ifindex, kind) == Some(true),
        )?;
        Ok(found)
    }

    /// Removes an interface's clsact qdisc, and every filter on it.
    pub fn delete_clsact(&mut self, ifindex: u32) -> Result<()> {
        let mut m = TcMessage::default();
        m.header.index = i32::try_from(ifindex)?;
        m.header.parent = TcHandle::CLSACT;
        self.change(RouteNetlinkMessage::DelQueueDiscipline(m), 0, || {
            format!("remove the clsact qdisc of interface {ifindex}")
        })
    }
}

/// Whether a qdisc is this interface's and of this kind; the kernel lists those of all interfaces.
fn is_qdisc(message: &[u8], ifindex: u32, of: &str) -> Option<bool> {
    let payload = NetlinkBuffer::new_checked(&message).ok()?.payload();
    let kind = NlasIterator::new(payload.get(20..)?)
        .map_while(|a| a.ok())
        .find(|a| a.kind() == TCA_KIND)?;
    let index = parse_u32(payload.get(4..8)?).ok()?;
    Some(index == ifindex && parse_string(kind.value()).ok()? == of)
}

/// The interface of a root qdisc, and what it dropped.
fn dropped(message: &[u8]) -> Option<(u32, u64)> {
    fn inside(attributes: &[u8], kind: u16) -> Option<&[u8]> {
        let mut all = NlasIterator::new(attributes).map_while(|a| a.ok());
        let found = all.find(|a| a.kind() & 0x3fff == kind)?;
        let length = found.value_length();
        found.into_inner().get(4..4 + length)
    }
    // struct tcmsg: family and padding, ifindex, handle, parent, info; then attributes.
    let payload = NetlinkBuffer::new_checked(&message).ok()?.payload();
    let word = |from: &[u8], at: usize| parse_u32(from.get(at..at + 4)?).ok();
    if word(payload, 12)? < u32::from(TcHandle::CLSACT) {
        return None;
    }
    let queue = inside(inside(payload.get(20..)?, TCA_STATS2)?, TCA_STATS_QUEUE)?;
    // struct gnet_stats_queue: qlen, backlog, drops ...
    Some((word(payload, 4)?, word(queue, 8)?.into()))
}

/// One filter; `None` for an entry that only stands for a classifier at a priority.
fn parse(message: &[u8], hook: Hook) -> Option<TcFilter> {
    // struct tcmsg: family and padding, ifindex, handle, parent, priority and protocol
    let payload = NetlinkBuffer::new_checked(&message).ok()?.payload();
    let word = |at: usize| payload.get(at..at + 4).and_then(|b| parse_u32(b).ok());
    let (handle, info) = (word(8)?, word(16)?);
    let mut filter = TcFilter {
        hook,
        kind: String::new(),
        priority: (info >> 16) as u16,
        handle,
        program: None,
        name: String::new(),
    };
    for attribute in NlasIterator::new(payload.get(20..)?).map_while(|a| a.ok()) {
        match attribute.kind() {
            TCA_KIND => filter.kind = parse_string(attribute.value()).ok()?,
            TCA_OPTIONS => {
                for inside in NlasIterator::new(attribute.value()).map_while(|a| a.ok()) {
                    match inside.kind() {
                        TCA_BPF_NAME => {
                            filter.name = parse_string(inside.value()).unwrap_or_default()
                        }
                        TCA_BPF_ID => filter.program = parse_u32(inside.value()).ok(),
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    (handle != 0).then_some(filter)
}
