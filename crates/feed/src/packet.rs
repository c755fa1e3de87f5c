// SPDX-License-Identifier: MIT OR Apache-2.0
//! One frame in the parser's form, from a capture or a test.

/// The limit of BPF_PROG_TEST_RUN; headers never reach this far.
pub const LONGEST_FRAME: usize = 3500;

/// How a frame of [`Packet`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStart {
    /// With an Ethernet header.
    Ethernet,
    /// With an IP header, version by its nibble.
    Ip,
    /// With the header of this EtherType.
    EtherType(u16),
}

impl LinkStart {
    /// The start with this [`LinkStart::number`].
    pub fn from_number(number: u32) -> Self {
        match number {
            0x6558 => LinkStart::Ethernet,
            0x10000 => LinkStart::Ip,
            t => LinkStart::EtherType(t as u16),
        }
    }

    /// As in the programs: PAYLOAD_IP of bpf/wire.h, otherwise an EtherType.
    pub fn number(self) -> u32 {
        match self {
            LinkStart::Ethernet => 0x6558,
            LinkStart::Ip => 0x10000,
            LinkStart::EtherType(t) => t.into(),
        }
    }
}

/// A frame to be judged.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// The captured bytes.
    pub data: &'a [u8],
    /// The length on the wire.
    pub wire_len: u32,
    /// How they begin.
    pub start: LinkStart,
    /// The length of the link header before `data`, which counts, but is not parsed.
    pub link_len: u32,
    /// GSO segments, 0 for none.
    pub gso_segs: u16,
    /// Payload bytes in each of them.
    pub gso_size: u16,
    /// When it was seen, in nanoseconds on any clock.
    pub time: u64,
}

impl<'a> Packet<'a> {
    /// How much of it the programs see.
    pub fn caught(&self) -> usize {
        let most =
            if self.start == LinkStart::Ethernet { LONGEST_FRAME } else { LONGEST_FRAME - 14 };
        self.data.len().min(self.wire_len as usize).min(most)
    }

    /// A whole Ethernet frame.
    pub fn ethernet(data: &'a [u8]) -> Self {
        Packet {
            data,
            wire_len: data.len() as u32,
            start: LinkStart::Ethernet,
            link_len: 0,
            time: 0,
            gso_segs: 0,
            gso_size: 0,
        }
    }
}
