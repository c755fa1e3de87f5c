// SPDX-License-Identifier: MIT OR Apache-2.0
//! One frame as the parser takes it, from a capture or a test.

/// BPF_PROG_TEST_RUN takes no more; headers never reach so far.
pub const LONGEST_FRAME: usize = 3500;

/// How a frame of [`Packet`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkStart {
    /// With an Ethernet header.
    Ethernet,
    /// With an IP header, version by its nibble.
    Ip,
    /// With what follows this EtherType.
    EtherType(u16),
}

impl LinkStart {
    /// What has this [`LinkStart::number`].
    pub fn from_number(number: u32) -> Self {
        match number {
            0x6558 => LinkStart::Ethernet,
            0x10000 => LinkStart::Ip,
            t => LinkStart::EtherType(t as u16),
        }
    }

    /// As the programs know it: PAYLOAD_IP of bpf/wire.h, else an EtherType.
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
    /// The bytes that were captured.
    pub data: &'a [u8],
    /// How many there were on the wire.
    pub wire_len: u32,
    /// How they begin.
    pub start: LinkStart,
    /// Bytes of a link header that stood before `data`; they weigh, but are not parsed.
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
