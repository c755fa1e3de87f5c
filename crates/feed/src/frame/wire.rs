// SPDX-License-Identifier: MIT OR Apache-2.0
//! The messages of `proto/tmon.proto`, field by field; a test holds the two together by `protoc`.
use prost::Message;

/// The number of a frame's last field, and its size in bytes.
pub(super) const CHECKSUM: u32 = 15;
pub(super) const CHECKSUM_BYTES: usize = 5;

#[derive(Clone, PartialEq, Message)]
pub(super) struct FrameMessage {
    #[prost(uint32, tag = "1")]
    pub(super) schema: u32,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
    #[prost(string, tag = "3")]
    pub(super) host: String,
    #[prost(fixed64, tag = "4")]
    pub(super) epoch: u64,
    #[prost(uint64, tag = "5")]
    pub(super) seq: u64,
    #[prost(fixed64, tag = "6")]
    pub(super) since_ns: u64,
    #[prost(fixed64, tag = "7")]
    pub(super) taken_ns: u64,
    #[prost(uint64, tag = "8")]
    pub(super) elapsed_ns: u64,
    #[prost(uint32, tag = "9")]
    pub(super) read_us: u32,
    #[prost(uint32, optional, tag = "10")]
    pub(super) clock_us: Option<u32>,
    #[prost(uint32, tag = "11")]
    pub(super) cadence_ms: u32,
    #[prost(string, tag = "12")]
    pub(super) realm: String,
    #[prost(message, repeated, tag = "13")]
    pub(super) interfaces: Vec<InterfaceMessage>,
    #[prost(uint32, repeated, tag = "14")]
    pub(super) local: Vec<u32>,
    #[prost(fixed32, optional, tag = "15")]
    pub(super) checksum: Option<u32>,
    #[prost(uint64, tag = "16")]
    pub(super) netns: u64,
    #[prost(string, tag = "17")]
    pub(super) tool: String,
    #[prost(uint32, tag = "18")]
    pub(super) held_ms: u32,
    #[prost(fixed64, tag = "19")]
    pub(super) heard_ns: u64,
    #[prost(uint32, repeated, tag = "20")]
    pub(super) v4: Vec<u32>,
    #[prost(bytes = "vec", tag = "21")]
    pub(super) v6: Vec<u8>,
    #[prost(uint32, repeated, tag = "22")]
    pub(super) tunnel_interface: Vec<u32>,
    #[prost(sint32, repeated, tag = "23")]
    pub(super) tunnel_first: Vec<i32>,
    #[prost(sint32, repeated, tag = "24")]
    pub(super) tunnel_second: Vec<i32>,
    #[prost(uint32, repeated, tag = "25")]
    pub(super) tunnel_kind: Vec<u32>,
    #[prost(uint64, repeated, tag = "26")]
    pub(super) tunnel_id: Vec<u64>,
    #[prost(uint32, repeated, tag = "27")]
    pub(super) tunnel_inner_kind: Vec<u32>,
    #[prost(uint64, repeated, tag = "28")]
    pub(super) tunnel_inner_id: Vec<u64>,
    #[prost(uint32, repeated, tag = "29")]
    pub(super) tunnel_depth: Vec<u32>,
    #[prost(uint32, repeated, tag = "30")]
    pub(super) row_tunnel: Vec<u32>,
    #[prost(sint32, repeated, tag = "31")]
    pub(super) row_inner_a: Vec<i32>,
    #[prost(sint32, repeated, tag = "32")]
    pub(super) row_inner_b: Vec<i32>,
    #[prost(uint64, repeated, tag = "33")]
    pub(super) row_proto: Vec<u64>,
    #[prost(uint32, repeated, tag = "34")]
    pub(super) row_part: Vec<u32>,
    #[prost(uint64, repeated, tag = "35")]
    pub(super) row_rx_pkts: Vec<u64>,
    #[prost(uint64, repeated, tag = "36")]
    pub(super) row_rx_bytes: Vec<u64>,
    #[prost(uint64, repeated, tag = "37")]
    pub(super) row_tx_pkts: Vec<u64>,
    #[prost(uint64, repeated, tag = "38")]
    pub(super) row_tx_bytes: Vec<u64>,
    #[prost(message, optional, tag = "40")]
    pub(super) drops: Option<DropsMessage>,
    #[prost(message, optional, tag = "41")]
    pub(super) beside: Option<BesideMessage>,
    #[prost(message, optional, tag = "42")]
    pub(super) overlay: Option<OverlayMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct InterfaceMessage {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(uint64, tag = "2")]
    pub(super) id: u64,
    #[prost(uint32, tag = "3")]
    pub(super) ifindex: u32,
    #[prost(string, optional, tag = "4")]
    pub(super) netns: Option<String>,
    #[prost(uint32, tag = "5")]
    pub(super) hook: u32,
    #[prost(bool, tag = "6")]
    pub(super) loopback: bool,
    #[prost(bool, tag = "7")]
    pub(super) stale: bool,
    #[prost(string, optional, tag = "8")]
    pub(super) counted_on: Option<String>,
    #[prost(fixed64, tag = "9")]
    pub(super) attached_ns: u64,
    #[prost(uint64, repeated, tag = "10")]
    pub(super) counted: Vec<u64>,
    #[prost(uint64, repeated, tag = "11")]
    pub(super) stops: Vec<u64>,
    #[prost(uint64, repeated, tag = "12")]
    pub(super) suspect: Vec<u64>,
    #[prost(uint64, repeated, tag = "13")]
    pub(super) fragments: Vec<u64>,
    #[prost(uint64, tag = "14")]
    pub(super) span_ns: u64,
    #[prost(uint64, tag = "15")]
    pub(super) used: u64,
    #[prost(uint64, tag = "16")]
    pub(super) size: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DropsMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) unavailable: Option<String>,
    #[prost(message, repeated, tag = "2")]
    pub(super) rows: Vec<DropMessage>,
    #[prost(uint64, tag = "3")]
    pub(super) elsewhere: u64,
    #[prost(uint64, tag = "4")]
    pub(super) missed: u64,
    #[prost(message, repeated, tag = "5")]
    pub(super) devices: Vec<DeviceDropsMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DropMessage {
    #[prost(string, tag = "1")]
    pub(super) reason: String,
    #[prost(string, optional, tag = "2")]
    pub(super) netns: Option<String>,
    #[prost(bool, tag = "3")]
    pub(super) elsewhere: bool,
    #[prost(string, optional, tag = "4")]
    pub(super) device: Option<String>,
    #[prost(uint32, tag = "5")]
    pub(super) victim: u32,
    #[prost(uint32, tag = "6")]
    pub(super) tunnel: u32,
    #[prost(uint32, tag = "7")]
    pub(super) inner_a: u32,
    #[prost(uint32, tag = "8")]
    pub(super) inner_b: u32,
    #[prost(uint64, tag = "9")]
    pub(super) proto: u64,
    #[prost(bool, tag = "10")]
    pub(super) other: bool,
    #[prost(uint64, repeated, tag = "11")]
    pub(super) counts: Vec<u64>,
    #[prost(fixed64, tag = "12")]
    pub(super) first_ns: u64,
    #[prost(fixed64, tag = "13")]
    pub(super) last_ns: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeviceDropsMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) netns: Option<String>,
    #[prost(string, tag = "2")]
    pub(super) device: String,
    #[prost(uint64, repeated, tag = "3")]
    pub(super) counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BesideMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) numbers: Vec<NumbersMessage>,
    #[prost(uint64, tag = "2")]
    pub(super) unnumbered: u64,
    #[prost(message, repeated, tag = "3")]
    pub(super) claims: Vec<SaidMessage>,
    #[prost(uint64, tag = "4")]
    pub(super) unclaimed: u64,
    #[prost(message, repeated, tag = "5")]
    pub(super) handshakes: Vec<HandshakesMessage>,
    #[prost(uint64, tag = "6")]
    pub(super) unfollowed: u64,
    #[prost(uint64, tag = "7")]
    pub(super) displaced: u64,
    #[prost(uint64, tag = "8")]
    pub(super) now_ns: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct HandshakesMessage {
    #[prost(uint64, tag = "1")]
    pub(super) interface: u64,
    #[prost(uint32, tag = "2")]
    pub(super) tunnel: u32,
    #[prost(uint32, tag = "3")]
    pub(super) inner_a: u32,
    #[prost(uint32, tag = "4")]
    pub(super) inner_b: u32,
    #[prost(uint64, tag = "5")]
    pub(super) proto: u64,
    #[prost(bool, tag = "6")]
    pub(super) other: bool,
    #[prost(bool, tag = "7")]
    pub(super) tx: bool,
    #[prost(uint64, repeated, tag = "8")]
    pub(super) counts: Vec<u64>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NumbersMessage {
    #[prost(uint64, tag = "1")]
    pub(super) interface: u64,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
    #[prost(uint32, tag = "3")]
    pub(super) from: u32,
    #[prost(uint32, tag = "4")]
    pub(super) to: u32,
    #[prost(uint32, tag = "5")]
    pub(super) id: u32,
    #[prost(bool, tag = "6")]
    pub(super) tx: bool,
    #[prost(uint64, repeated, tag = "7")]
    pub(super) counts: Vec<u64>,
}

/// In `SaidMessage::error`: what is below is the type of a GTP-U message.
pub(super) const GTPU: u32 = 1 << 16;

#[derive(Clone, PartialEq, Message)]
pub(super) struct SaidMessage {
    #[prost(uint64, tag = "1")]
    pub(super) interface: u64,
    #[prost(uint32, tag = "2")]
    pub(super) kind: u32,
    #[prost(uint64, tag = "3")]
    pub(super) id: u64,
    #[prost(uint32, tag = "4")]
    pub(super) from: u32,
    #[prost(uint32, tag = "5")]
    pub(super) to: u32,
    #[prost(uint32, tag = "6")]
    pub(super) who: u32,
    #[prost(uint32, tag = "7")]
    pub(super) error: u32,
    #[prost(bool, tag = "8")]
    pub(super) tx: bool,
    #[prost(uint64, tag = "9")]
    pub(super) packets: u64,
    #[prost(uint32, optional, tag = "10")]
    pub(super) mtu: Option<u32>,
    #[prost(uint64, tag = "11")]
    pub(super) timed: u64,
    #[prost(uint64, tag = "12")]
    pub(super) nanoseconds: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OverlayMessage {
    #[prost(message, repeated, tag = "1")]
    pub(super) devices: Vec<DeviceMessage>,
    #[prost(message, repeated, tag = "2")]
    pub(super) narrow: Vec<NarrowMessage>,
    #[prost(message, repeated, tag = "3")]
    pub(super) addresses: Vec<OwnMessage>,
    #[prost(message, repeated, tag = "4")]
    pub(super) entries: Vec<EntryMessage>,
    #[prost(message, repeated, tag = "5")]
    pub(super) neighbours: Vec<NeighbourMessage>,
    #[prost(message, repeated, tag = "6")]
    pub(super) events: Vec<EventMessage>,
    #[prost(message, repeated, tag = "7")]
    pub(super) segments: Vec<SegmentMessage>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SegmentMessage {
    #[prost(uint32, tag = "1")]
    pub(super) kind: u32,
    #[prost(uint64, tag = "2")]
    pub(super) id: u64,
    #[prost(string, optional, tag = "3")]
    pub(super) bridge: Option<String>,
    #[prost(string, optional, tag = "4")]
    pub(super) vrf: Option<String>,
    #[prost(bool, tag = "5")]
    pub(super) routed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct DeviceMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) netns: Option<String>,
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(uint32, tag = "3")]
    pub(super) kind: u32,
    #[prost(uint64, tag = "4")]
    pub(super) id: u64,
    #[prost(uint32, optional, tag = "5")]
    pub(super) port: Option<u32>,
    #[prost(bool, tag = "6")]
    pub(super) up: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NarrowMessage {
    #[prost(string, optional, tag = "1")]
    pub(super) netns: Option<String>,
    #[prost(string, tag = "2")]
    pub(super) device: String,
    #[prost(uint32, tag = "3")]
    pub(super) mtu: u32,
    #[prost(string, tag = "4")]
    pub(super) tunnel: String,
    #[prost(uint32, tag = "5")]
    pub(super) needs: u32,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct OwnMessage {
    #[prost(uint32, tag = "1")]
    pub(super) address: u32,
    #[prost(string, optional, tag = "2")]
    pub(super) netns: Option<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EntryMessage {
    #[prost(uint64, tag = "1")]
    pub(super) mac: u64,
    #[prost(string, tag = "2")]
    pub(super) device: String,
    #[prost(uint64, tag = "3")]
    pub(super) id: u64,
    #[prost(uint32, tag = "4")]
    pub(super) endpoint: u32,
    #[prost(bool, tag = "5")]
    pub(super) fixed: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NeighbourMessage {
    #[prost(uint32, tag = "1")]
    pub(super) address: u32,
    #[prost(uint64, tag = "2")]
    pub(super) mac: u64,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct EventMessage {
    #[prost(fixed64, tag = "1")]
    pub(super) at_ns: u64,
    #[prost(string, tag = "2")]
    pub(super) text: String,
    #[prost(uint32, tag = "3")]
    pub(super) address: u32,
    #[prost(string, optional, tag = "4")]
    pub(super) device: Option<String>,
}
