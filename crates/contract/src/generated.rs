// SPDX-License-Identifier: MIT OR Apache-2.0
//! Written by `make contract` from bpf/tmon.h; do not edit.

pub const TMON_LAYOUT: u32 = 1;
pub const MAX_DEPTH: u32 = 4;
pub const MAX_TAGS: u32 = 8;
pub const MAX_LINKS: u32 = 4;
pub const MAX_EXTS: u32 = 8;
pub const MAX_TPIDS: u32 = 4;
pub const MAX_LABELS: u32 = 8;
pub const MAX_GTP_EXTS: u32 = 8;
pub const MAX_ROUTES: u32 = 8;
pub const MAX_PULLS: u32 = 4;
pub const MAX_HEADERS: u32 = 16383;
pub const PORT_KIND: u8 = 63;
pub const PORT_FOU: u8 = 64;
pub const PORT_EITHER: u8 = 128;
pub const INNER_REASON: u32 = 65536;
pub const INNER_PPP: u32 = 131072;
pub const INNER_IP: u32 = 196608;
pub const ROW_DIR: u8 = 1;
pub const ROW_ID: u8 = 2;
pub const ROW_ID1: u8 = 4;
pub const ROW_NO_PAIR: u8 = 8;
pub const ROW_OUTER6: u8 = 16;
pub const ROW_INNER6: u8 = 32;
pub const ROW_OTHER: u8 = 64;
pub const ROW_NO_OUTER: u8 = 128;
pub const SHARD_FRAGMENT: u16 = 32768;
pub const SHARD_CPU: u16 = 32767;
pub const GROUP: usize = 8;
pub const GROUPS: usize = 6;
pub const TURNS: u32 = 32;
pub const TAG_FREE: u8 = 0;
pub const TAG_BUSY: u8 = 1;
pub const TAG_AGEING: u8 = 3;
pub const TAG_ROW: u8 = 5;
pub type __u8 = ::core::ffi::c_uchar;
pub type __u16 = ::core::ffi::c_ushort;
pub type __u32 = ::core::ffi::c_uint;
pub type __u64 = ::core::ffi::c_ulonglong;
pub type __be32 = __u32;
pub const KIND_NONE: kind = 0;
pub const KIND_VXLAN: kind = 1;
pub const KIND_VXLAN_GPE: kind = 2;
pub const KIND_GENEVE: kind = 3;
pub const KIND_GRE: kind = 4;
pub const KIND_GRETAP: kind = 5;
pub const KIND_ERSPAN: kind = 6;
pub const KIND_PPTP: kind = 7;
pub const KIND_EOIP: kind = 8;
pub const KIND_GRE_UDP: kind = 9;
pub const KIND_IPIP: kind = 10;
pub const KIND_6IN4: kind = 11;
pub const KIND_4IN6: kind = 12;
pub const KIND_6IN6: kind = 13;
pub const KIND_SRV6: kind = 14;
pub const KIND_AH: kind = 15;
pub const KIND_GTPU: kind = 16;
pub const KIND_MPLS: kind = 17;
pub const KIND_MPLS_UDP: kind = 18;
pub const KIND_TEREDO: kind = 19;
pub const KIND_GUE: kind = 20;
pub const KIND_L2TP: kind = 21;
pub const KIND_NSH: kind = 22;
pub const KIND_LISP: kind = 23;
pub const KIND_ETHERIP: kind = 24;
pub const KIND_AYIYA: kind = 25;
pub const KIND_PPPOE: kind = 26;
pub const KIND_PBB: kind = 27;
pub const KIND_ESP: kind = 28;
pub const KIND_WIREGUARD: kind = 29;
pub const KINDS: kind = 30;
pub type kind = u32;
pub const STOP_PLAIN: stop = 0;
pub const STOP_NON_IP: stop = 1;
pub const STOP_FRAGMENT: stop = 2;
pub const STOP_TRUNCATED: stop = 3;
pub const STOP_MALFORMED: stop = 4;
pub const STOP_TOO_DEEP: stop = 5;
pub const STOPS: stop = 6;
pub type stop = u32;
pub const REASON_NONE: reason = 0;
pub const REASON_TRUNCATED: reason = 1;
pub const REASON_MALFORMED: reason = 2;
pub const REASON_TOO_DEEP: reason = 3;
pub const REASON_ENCRYPTED: reason = 4;
pub const REASON_LLC: reason = 5;
pub const REASON_FRAGMENT: reason = 6;
pub const REASON_CONTROL: reason = 7;
pub const REASON_UNKNOWN: reason = 8;
pub const REASON_OTHER: reason = 9;
pub const REASON_OVERFLOW: reason = 10;
pub const REASON_AGED: reason = 11;
pub type reason = u32;
pub const CELL_COUNTED: cell = 0;
pub const CELL_STOP: cell = 1;
pub const CELL_SUSPECT: cell = 7;
pub const CELL_OVERFLOW: cell = 8;
pub const CELL_FRAGMENT: cell = 12;
pub const CELLS: cell = 16;
pub type cell = u32;
pub const HOOK_RX: hook = 0;
pub const HOOK_TX: hook = 1;
pub const HOOKS: hook = 2;
pub type hook = u32;
#[repr(C)]
#[derive(
    Debug,
    Default,
    Copy,
    Clone,
    Hash,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout
)]
pub struct cell_count {
    pub packets: __u64,
    pub bytes: __u64,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of cell_count"][::core::mem::size_of::<cell_count>() - 16usize];
    ["Alignment of cell_count"][::core::mem::align_of::<cell_count>() - 8usize];
    [
        "Offset of field: cell_count::packets",
    ][::core::mem::offset_of!(cell_count, packets) - 0usize];
    [
        "Offset of field: cell_count::bytes",
    ][::core::mem::offset_of!(cell_count, bytes) - 8usize];
};
#[repr(C)]
#[derive(
    Debug,
    Default,
    Copy,
    Clone,
    Hash,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout
)]
pub struct key4 {
    pub id: __u32,
    pub kind: __u8,
    pub flags: __u8,
    pub shard: __u16,
    pub outer: [__be32; 2usize],
    pub inner: [__be32; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of key4"][::core::mem::size_of::<key4>() - 24usize];
    ["Alignment of key4"][::core::mem::align_of::<key4>() - 4usize];
    ["Offset of field: key4::id"][::core::mem::offset_of!(key4, id) - 0usize];
    ["Offset of field: key4::kind"][::core::mem::offset_of!(key4, kind) - 4usize];
    ["Offset of field: key4::flags"][::core::mem::offset_of!(key4, flags) - 5usize];
    ["Offset of field: key4::shard"][::core::mem::offset_of!(key4, shard) - 6usize];
    ["Offset of field: key4::outer"][::core::mem::offset_of!(key4, outer) - 8usize];
    ["Offset of field: key4::inner"][::core::mem::offset_of!(key4, inner) - 16usize];
};
#[repr(C)]
#[derive(
    Debug,
    Default,
    Copy,
    Clone,
    Hash,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout
)]
pub struct key6 {
    pub id: [__u32; 2usize],
    pub kind: [__u8; 2usize],
    pub flags: __u8,
    pub depth: __u8,
    pub shard: __u16,
    pub zero: __u16,
    pub outer: [[__be32; 4usize]; 2usize],
    pub inner: [[__be32; 4usize]; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of key6"][::core::mem::size_of::<key6>() - 80usize];
    ["Alignment of key6"][::core::mem::align_of::<key6>() - 4usize];
    ["Offset of field: key6::id"][::core::mem::offset_of!(key6, id) - 0usize];
    ["Offset of field: key6::kind"][::core::mem::offset_of!(key6, kind) - 8usize];
    ["Offset of field: key6::flags"][::core::mem::offset_of!(key6, flags) - 10usize];
    ["Offset of field: key6::depth"][::core::mem::offset_of!(key6, depth) - 11usize];
    ["Offset of field: key6::shard"][::core::mem::offset_of!(key6, shard) - 12usize];
    ["Offset of field: key6::zero"][::core::mem::offset_of!(key6, zero) - 14usize];
    ["Offset of field: key6::outer"][::core::mem::offset_of!(key6, outer) - 16usize];
    ["Offset of field: key6::inner"][::core::mem::offset_of!(key6, inner) - 48usize];
};
#[repr(C)]
#[derive(
    Debug,
    Default,
    Copy,
    Clone,
    Hash,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout
)]
pub struct slot4 {
    pub key: key4,
    pub seen: __u32,
    pub turns: __u32,
    pub packets: [__u64; 2usize],
    pub bytes: [__u64; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of slot4"][::core::mem::size_of::<slot4>() - 64usize];
    ["Alignment of slot4"][::core::mem::align_of::<slot4>() - 8usize];
    ["Offset of field: slot4::key"][::core::mem::offset_of!(slot4, key) - 0usize];
    ["Offset of field: slot4::seen"][::core::mem::offset_of!(slot4, seen) - 24usize];
    ["Offset of field: slot4::turns"][::core::mem::offset_of!(slot4, turns) - 28usize];
    [
        "Offset of field: slot4::packets",
    ][::core::mem::offset_of!(slot4, packets) - 32usize];
    ["Offset of field: slot4::bytes"][::core::mem::offset_of!(slot4, bytes) - 48usize];
};
#[repr(C)]
#[derive(
    Debug,
    Default,
    Copy,
    Clone,
    Hash,
    PartialEq,
    Eq,
    zerocopy::FromBytes,
    zerocopy::IntoBytes,
    zerocopy::Immutable,
    zerocopy::KnownLayout
)]
pub struct slot6 {
    pub key: key6,
    pub seen: __u32,
    pub turns: __u32,
    pub zero: __u64,
    pub packets: [__u64; 2usize],
    pub bytes: [__u64; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of slot6"][::core::mem::size_of::<slot6>() - 128usize];
    ["Alignment of slot6"][::core::mem::align_of::<slot6>() - 8usize];
    ["Offset of field: slot6::key"][::core::mem::offset_of!(slot6, key) - 0usize];
    ["Offset of field: slot6::seen"][::core::mem::offset_of!(slot6, seen) - 80usize];
    ["Offset of field: slot6::turns"][::core::mem::offset_of!(slot6, turns) - 84usize];
    ["Offset of field: slot6::zero"][::core::mem::offset_of!(slot6, zero) - 88usize];
    [
        "Offset of field: slot6::packets",
    ][::core::mem::offset_of!(slot6, packets) - 96usize];
    ["Offset of field: slot6::bytes"][::core::mem::offset_of!(slot6, bytes) - 112usize];
};
