// SPDX-License-Identifier: MIT OR Apache-2.0
//! Of packets whose rows are selected: whether what is in them is, too, and what of them is written.
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

/// The link types that captures are written with.
pub const LINK_ETHERNET: u16 = 1;
/// The same of packets that begin with their IP header.
pub const LINK_RAW: u16 = 101;

/// What is asked of a packet.
#[derive(Clone, Debug, Default)]
pub struct PacketCut {
    /// What is in it, where the row does not say that.
    filter: Option<PacketFilter>,
    /// So many outer tunnels are taken off.
    decap: usize,
}

/// What is written of a packet.
#[derive(Debug, PartialEq, Eq)]
pub enum Cut<'f> {
    /// Nothing: the filter does not mean it.
    Unwanted,
    /// Nothing: its inside is neither Ethernet nor IP, or not in this packet.
    NoInside,
    /// The packet as it is.
    Whole,
    /// What a tunnel carries.
    Inside {
        /// What there is of it.
        data: &'f [u8],
        /// How long it is.
        orig_len: u32,
        /// How it begins, by the number of a capture's link type.
        link: u16,
    },
}

impl PacketCut {
    /// Keeps what the filter keeps, without so many outer tunnels (of packets with fewer: without all).
    pub fn new(filter: Option<&PacketFilter>, decap: usize) -> PacketCut {
        PacketCut { filter: filter.filter(|f| !f.is_of_rows()).cloned(), decap }
    }

    /// It takes a look into packets.
    pub fn looks(&self) -> bool {
        self.filter.is_some() || self.decap > 0
    }

    /// It takes a look to know whether they are wanted.
    pub fn chooses(&self) -> bool {
        self.filter.is_some()
    }

    /// The tunnels that are taken off.
    fn off<'w>(&self, way: &'w Way) -> &'w [WayLevel] {
        let levels = way.levels();
        levels.get(1..levels.len().min(self.decap + 1)).unwrap_or_default()
    }

    /// What is written of a frame whose headers are where `way` says; `bytes` are all there are of it.
    pub(crate) fn cut<'f>(&self, way: &Way, frame: &NativeFrame<'_>, bytes: &'f [u8]) -> Cut<'f> {
        if self.filter.as_ref().is_some_and(|f| !f.keeps(&inner_packet(way, frame.data))) {
            return Cut::Unwanted;
        }
        if self.decap == 0 {
            return Cut::Whole;
        }
        let Some(level) = self.off(way).last() else {
            // A later fragment: what its tunnel carries began in another packet.
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

    /// Adds to a comment which tunnels were taken off.
    pub(crate) fn say_off(&self, way: &Way, comment: &mut String) {
        for (i, level) in self.off(way).iter().enumerate() {
            let (kind, id) = level.tunnel();
            let tunnel = Tunnel { kind: Kind::from_number(kind), id };
            _ = write!(comment, "{}{tunnel}", if i == 0 { "; without " } else { " and " });
        }
    }
}

/// The same for packets one by one, as interfaces have them.
pub struct Cutter {
    cut: PacketCut,
    guide: Guide,
    way: Way,
}

impl Cutter {
    /// Reads packets as `config` says.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(cut: PacketCut, config: &Config) -> Result<Cutter> {
        Ok(Cutter { cut, guide: Guide::new(&native_config(config)?)?, way: Way::default() })
    }

    /// It takes a look to know whether packets are wanted.
    pub fn chooses(&self) -> bool {
        self.cut.chooses()
    }

    /// What is written of a packet of this length, of which there are these bytes, beginning like
    /// this.
    pub fn cut<'f>(&mut self, bytes: &'f [u8], length: u32, start: LinkStart) -> Cut<'f> {
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
        (self.way, _) = self.guide.way(&frame);
        self.cut.cut(&self.way, &frame, bytes)
    }

    /// Adds to a comment which tunnels were taken off the packet before.
    pub fn say_off(&self, comment: &mut String) {
        self.cut.say_off(&self.way, comment);
    }
}
