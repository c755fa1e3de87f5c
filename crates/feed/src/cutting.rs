// SPDX-License-Identifier: MIT OR Apache-2.0
//! Whether packets of matching rows match as well, and which part of them is written.
use std::fmt::Write as _;

use anyhow::Result;
use native::{Guide, NativeFrame, Payload, Way, WayLevel};

use crate::{
    config::Config,
    innermost::inner_packet,
    judge::native_config,
    packet::{LONGEST_FRAME, LinkStart},
};
use model::{
    filter::PacketFilter,
    flow::{Kind, Tunnel},
};

/// The link types of the captures that are written.
pub const LINK_ETHERNET: u16 = 1;
/// The link type of packets that begin with their IP header.
pub const LINK_RAW: u16 = 101;

/// What to match and cut.
#[derive(Clone, Debug, Default)]
pub struct PacketCut {
    /// The filter for the packet itself, if it has terms that do not depend on the row alone.
    filter: Option<PacketFilter>,
    /// How many outer tunnels are removed.
    decap: usize,
}

/// The part of a packet that is written.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'f> {
    /// Nothing: the filter does not match.
    Unwanted,
    /// Nothing: its content is neither Ethernet nor IP, or is in another packet.
    NoInside,
    /// The whole packet.
    Whole,
    /// The content of a tunnel.
    Inside {
        /// The bytes that were captured.
        data: &'f [u8],
        /// Its original length.
        orig_len: u32,
        /// Its link-layer header type, by number.
        link: u16,
    },
}

impl PacketCut {
    /// Matches `filter`, and removes this many outer tunnels (all, if there are fewer).
    pub fn new(filter: Option<&PacketFilter>, decap: usize) -> PacketCut {
        PacketCut { filter: filter.filter(|f| !f.is_of_rows()).cloned(), decap }
    }

    /// Whether packets have to be examined.
    pub fn looks(&self) -> bool {
        self.filter.is_some() || self.decap > 0
    }

    /// Whether packets have to be examined to know if they match.
    pub fn chooses(&self) -> bool {
        self.filter.is_some()
    }

    /// The tunnels that are removed.
    fn off<'w>(&self, way: &'w Way) -> &'w [WayLevel] {
        let levels = way.levels();
        levels.get(1..levels.len().min(self.decap + 1)).unwrap_or_default()
    }

    /// The part of a frame to write. `way` says where its headers are; `bytes` are all that was
    /// captured.
    pub(crate) fn cut<'f>(&self, way: &Way, frame: &NativeFrame<'_>, bytes: &'f [u8]) -> Cut<'f> {
        if self.filter.as_ref().is_some_and(|f| !f.keeps(&inner_packet(way, frame.data))) {
            return Cut::Unwanted;
        }
        if self.decap == 0 {
            return Cut::Whole;
        }
        let Some(level) = self.off(way).last() else {
            // A later fragment: the content of its tunnel began in another packet.
            return if way.transport().is_none() { Cut::NoInside } else { Cut::Whole };
        };
        let (begin, end) = (level.off as usize, (level.end as usize).min(bytes.len()));
        let (Some(payload), Some(data)) = (level.payload(), bytes.get(begin..end)) else {
            return Cut::NoInside;
        };
        let link = match payload {
            Payload::Ethernet => LINK_ETHERNET,
            Payload::Ip => LINK_RAW,
        };
        Cut::Inside { data, orig_len: level.end.saturating_sub(level.off), link }
    }

    /// Appends to a comment which tunnels were removed.
    pub(crate) fn say_off(&self, way: &Way, comment: &mut String) {
        for (i, level) in self.off(way).iter().enumerate() {
            let (kind, id) = level.tunnel();
            let tunnel = Tunnel { kind: Kind::from_number(kind), id };
            _ = write!(comment, "{}{tunnel}", if i == 0 { "; without " } else { " and " });
        }
    }
}

/// Matches and cuts single packets, as they come from interfaces.
pub struct Cutter {
    cut: PacketCut,
    guide: Guide,
    way: Way,
}

impl Cutter {
    /// Parses packets as `config` says.
    ///
    /// # Errors
    /// Memory cannot be allocated.
    pub fn new(cut: PacketCut, config: &Config) -> Result<Cutter> {
        Ok(Cutter { cut, guide: Guide::new(&native_config(config)?)?, way: Way::default() })
    }

    /// Whether packets have to be examined to know if they match.
    pub fn chooses(&self) -> bool {
        self.cut.chooses()
    }

    /// The part to write of a packet with this original length, of which these bytes were captured,
    /// starting at this layer; `ports` is the meaning of UDP ports on its interface.
    pub fn cut<'f>(
        &mut self,
        bytes: &'f [u8],
        length: u32,
        start: LinkStart,
        ports: &mut Box<contract::ports>,
    ) -> Cut<'f> {
        let frame = NativeFrame {
            data: &bytes[..bytes.len().min(length as usize).min(LONGEST_FRAME)],
            length,
            link: 0,
            begins: start.number(),
            now: 0,
            time: 0,
            gso_segs: 0,
            gso_size: 0,
            egress: false,
        };
        self.guide.swap_ports(ports);
        (self.way, _) = self.guide.way(&frame);
        self.guide.swap_ports(ports);
        self.cut.cut(&self.way, &frame, bytes)
    }

    /// Appends to a comment which tunnels were removed from the previous packet.
    pub fn say_off(&self, comment: &mut String) {
        self.cut.say_off(&self.way, comment);
    }
}
