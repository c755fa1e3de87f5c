// SPDX-License-Identifier: MIT OR Apache-2.0
// Written by `make contract` from bpf/tmon.h and bpf/kinds.h; do not edit.

pub const TMON_LAYOUT: u32 = 2;
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
pub const PARAMETER_COOKIE: u8 = 15;
pub const PARAMETER_SUBLAYER: u8 = 16;
pub const PARAMETER_KNOWN: u8 = 128;
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
pub const OWNER_CPU: u32 = 65535;
pub const OWNER_PROBE: u32 = 32768;
pub const OWNER_ASK: u32 = 32767;
pub const OWNER_CROWD: u32 = 65536;
pub const OWNER_BEFORE: u32 = 17;
pub const TURNS: u32 = 32;
pub const TURNS_BITS: u32 = 6;
pub const TAG_FREE: u8 = 0;
pub const TAG_BUSY: u8 = 1;
pub const TAG_AGEING: u8 = 3;
pub const TAG_ROW: u8 = 5;
pub const NUMBERS: u32 = 4096;
pub const CLAIMS: u32 = 1024;
pub const CLAIM_V6: u32 = 1;
pub const CLAIM_ID: u32 = 2;
pub const CLAIM_TX: u32 = 4;
pub const CLAIM_GTPU: u32 = 8;
pub const GTPU_ECHO_REQUEST: u32 = 1;
pub const GTPU_ECHO_RESPONSE: u32 = 2;
pub const GTPU_ERROR: u32 = 26;
pub const GTPU_EXTENSIONS: u32 = 31;
pub const GTPU_END: u32 = 254;
pub const ECHO_ONCE: u32 = 1;
pub const ECHO_AGAIN: u32 = 2;
pub const HANDSHAKES: u32 = 16384;
pub const WAITING: u32 = 32768;
pub const EPOCH_BITS: u32 = 30;
pub const PROBERS: u32 = 16;
pub const PROBES: u32 = 2048;
pub const PROBE_TESTS: u32 = 32;
pub const PROBE_LEASE: u32 = 3000000000;
pub const SNAPLEN: u32 = 262144;
pub const TEST_V6: u32 = 1;
pub const TEST_NOT: u32 = 2;
pub const TEST_LAST: u32 = 4;
pub const TEST_IPV4: u32 = 4294967284;
pub const TEST_IPV6: u32 = 4294967286;
pub const PROBE_CATCH: u32 = 1;
pub const PROBE_STOPS: u32 = 2;
pub const PROBE_LENS: u32 = 4;
pub const PROBE_RTT: u32 = 8;
pub const RTT_STATE: u32 = 84;
pub const CAUGHT_STOP: u32 = 2147483648;
pub const CAUGHT_SUSPECT: u32 = 256;
pub const CAUGHT_ANY_ROW: u32 = 2147483647;
pub const LENS: u32 = 65536;
pub const LENS_ROW: u32 = 65535;
pub const LENS_PORTS: u32 = 1;
pub const LENS_REVERSE: u32 = 2;
pub const LENS_OUTER: u32 = 4;
pub const LENS_INNER: u32 = 8;
pub const LENS_L4: u32 = 16;
pub const LENS_QFI: u32 = 32;
pub const LENS_GROUP: u32 = 64;
pub const LENS_LOGICAL: u32 = 128;
pub const LENS_SIZES: u32 = 8;
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
pub const KIND_CAPWAP: kind = 30;
pub const KIND_L2TPV3: kind = 31;
pub const KINDS: kind = 32;
pub type kind = u32;
pub const PLACE_NONE: _bindgen_ty_1 = 0;
pub const PLACE_VXLAN: _bindgen_ty_1 = 1;
pub const PLACE_VXLAN_GPE: _bindgen_ty_1 = 2;
pub const PLACE_GENEVE: _bindgen_ty_1 = 3;
pub const PLACE_GRE: _bindgen_ty_1 = 4;
pub const PLACE_GRETAP: _bindgen_ty_1 = 5;
pub const PLACE_ERSPAN: _bindgen_ty_1 = 6;
pub const PLACE_PPTP: _bindgen_ty_1 = 7;
pub const PLACE_EOIP: _bindgen_ty_1 = 8;
pub const PLACE_GRE_UDP: _bindgen_ty_1 = 9;
pub const PLACE_IPIP: _bindgen_ty_1 = 10;
pub const PLACE_6IN4: _bindgen_ty_1 = 11;
pub const PLACE_4IN6: _bindgen_ty_1 = 12;
pub const PLACE_6IN6: _bindgen_ty_1 = 13;
pub const PLACE_SRV6: _bindgen_ty_1 = 14;
pub const PLACE_AH: _bindgen_ty_1 = 15;
pub const PLACE_GTPU: _bindgen_ty_1 = 16;
pub const PLACE_MPLS: _bindgen_ty_1 = 17;
pub const PLACE_MPLS_UDP: _bindgen_ty_1 = 18;
pub const PLACE_TEREDO: _bindgen_ty_1 = 19;
pub const PLACE_GUE: _bindgen_ty_1 = 20;
pub const PLACE_L2TP: _bindgen_ty_1 = 21;
pub const PLACE_NSH: _bindgen_ty_1 = 22;
pub const PLACE_LISP: _bindgen_ty_1 = 23;
pub const PLACE_ETHERIP: _bindgen_ty_1 = 24;
pub const PLACE_AYIYA: _bindgen_ty_1 = 25;
pub const PLACE_PPPOE: _bindgen_ty_1 = 26;
pub const PLACE_PBB: _bindgen_ty_1 = 27;
pub const PLACE_ESP: _bindgen_ty_1 = 28;
pub const PLACE_WIREGUARD: _bindgen_ty_1 = 29;
pub const PLACE_CAPWAP: _bindgen_ty_1 = 30;
pub const PLACE_L2TPV3: _bindgen_ty_1 = 31;
pub type _bindgen_ty_1 = u32;
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
pub const BEGIN_ETHERNET: begin = 0;
pub const BEGIN_IP: begin = 1;
pub const BEGIN_REPLAY: begin = 2;
pub const BEGIN_STATES: begin = 3;
pub type begin = u32;
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
    pub owner: __u32,
    pub packets: [__u64; 2usize],
    pub bytes: [__u64; 2usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of slot4"][::core::mem::size_of::<slot4>() - 64usize];
    ["Alignment of slot4"][::core::mem::align_of::<slot4>() - 8usize];
    ["Offset of field: slot4::key"][::core::mem::offset_of!(slot4, key) - 0usize];
    ["Offset of field: slot4::seen"][::core::mem::offset_of!(slot4, seen) - 24usize];
    ["Offset of field: slot4::owner"][::core::mem::offset_of!(slot4, owner) - 28usize];
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
    pub owner: __u32,
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
    ["Offset of field: slot6::owner"][::core::mem::offset_of!(slot6, owner) - 84usize];
    ["Offset of field: slot6::zero"][::core::mem::offset_of!(slot6, zero) - 88usize];
    [
        "Offset of field: slot6::packets",
    ][::core::mem::offset_of!(slot6, packets) - 96usize];
    ["Offset of field: slot6::bytes"][::core::mem::offset_of!(slot6, bytes) - 112usize];
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
pub struct more {
    pub packets: [__u64; 2usize],
    pub bytes: [__u64; 2usize],
    pub turns: __u32,
    pub zero: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of more"][::core::mem::size_of::<more>() - 40usize];
    ["Alignment of more"][::core::mem::align_of::<more>() - 8usize];
    ["Offset of field: more::packets"][::core::mem::offset_of!(more, packets) - 0usize];
    ["Offset of field: more::bytes"][::core::mem::offset_of!(more, bytes) - 16usize];
    ["Offset of field: more::turns"][::core::mem::offset_of!(more, turns) - 32usize];
    ["Offset of field: more::zero"][::core::mem::offset_of!(more, zero) - 36usize];
};
pub const BESIDE_NUMBERED: beside = 0;
pub const BESIDE_UNNUMBERED: beside = 1;
pub const BESIDE_CLAIMED: beside = 2;
pub const BESIDE_UNCLAIMED: beside = 3;
pub const BESIDE_OPENINGS: beside = 4;
pub const BESIDE_UNFOLLOWED: beside = 5;
pub const BESIDE_DISPLACED: beside = 6;
pub const BESIDE_UNPROBED: beside = 7;
pub const BESIDES: beside = 8;
pub type beside = u32;
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
pub struct number_key {
    pub pair: [__u64; 4usize],
    pub id: __u32,
    pub kind: __u8,
    pub hook: __u8,
    pub v6: __u8,
    pub zero: __u8,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of number_key"][::core::mem::size_of::<number_key>() - 40usize];
    ["Alignment of number_key"][::core::mem::align_of::<number_key>() - 8usize];
    [
        "Offset of field: number_key::pair",
    ][::core::mem::offset_of!(number_key, pair) - 0usize];
    [
        "Offset of field: number_key::id",
    ][::core::mem::offset_of!(number_key, id) - 32usize];
    [
        "Offset of field: number_key::kind",
    ][::core::mem::offset_of!(number_key, kind) - 36usize];
    [
        "Offset of field: number_key::hook",
    ][::core::mem::offset_of!(number_key, hook) - 37usize];
    [
        "Offset of field: number_key::v6",
    ][::core::mem::offset_of!(number_key, v6) - 38usize];
    [
        "Offset of field: number_key::zero",
    ][::core::mem::offset_of!(number_key, zero) - 39usize];
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
pub struct numbers {
    pub highest: __u64,
    pub window: __u64,
    pub resume: __u64,
    pub packets: __u64,
    pub lost: __u64,
    pub late: __u64,
    pub duplicate: __u64,
    pub restarted: __u32,
    pub since: __u32,
    pub out_of_place: __u32,
    pub seen: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of numbers"][::core::mem::size_of::<numbers>() - 72usize];
    ["Alignment of numbers"][::core::mem::align_of::<numbers>() - 8usize];
    [
        "Offset of field: numbers::highest",
    ][::core::mem::offset_of!(numbers, highest) - 0usize];
    [
        "Offset of field: numbers::window",
    ][::core::mem::offset_of!(numbers, window) - 8usize];
    [
        "Offset of field: numbers::resume",
    ][::core::mem::offset_of!(numbers, resume) - 16usize];
    [
        "Offset of field: numbers::packets",
    ][::core::mem::offset_of!(numbers, packets) - 24usize];
    ["Offset of field: numbers::lost"][::core::mem::offset_of!(numbers, lost) - 32usize];
    ["Offset of field: numbers::late"][::core::mem::offset_of!(numbers, late) - 40usize];
    [
        "Offset of field: numbers::duplicate",
    ][::core::mem::offset_of!(numbers, duplicate) - 48usize];
    [
        "Offset of field: numbers::restarted",
    ][::core::mem::offset_of!(numbers, restarted) - 56usize];
    [
        "Offset of field: numbers::since",
    ][::core::mem::offset_of!(numbers, since) - 60usize];
    [
        "Offset of field: numbers::out_of_place",
    ][::core::mem::offset_of!(numbers, out_of_place) - 64usize];
    ["Offset of field: numbers::seen"][::core::mem::offset_of!(numbers, seen) - 68usize];
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
pub struct claim_key {
    pub pair: [__u64; 4usize],
    pub who: [__u64; 2usize],
    pub id: __u32,
    pub kind: __u8,
    pub flags: __u8,
    pub type_: __u8,
    pub code: __u8,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of claim_key"][::core::mem::size_of::<claim_key>() - 56usize];
    ["Alignment of claim_key"][::core::mem::align_of::<claim_key>() - 8usize];
    [
        "Offset of field: claim_key::pair",
    ][::core::mem::offset_of!(claim_key, pair) - 0usize];
    [
        "Offset of field: claim_key::who",
    ][::core::mem::offset_of!(claim_key, who) - 32usize];
    ["Offset of field: claim_key::id"][::core::mem::offset_of!(claim_key, id) - 48usize];
    [
        "Offset of field: claim_key::kind",
    ][::core::mem::offset_of!(claim_key, kind) - 52usize];
    [
        "Offset of field: claim_key::flags",
    ][::core::mem::offset_of!(claim_key, flags) - 53usize];
    [
        "Offset of field: claim_key::type_",
    ][::core::mem::offset_of!(claim_key, type_) - 54usize];
    [
        "Offset of field: claim_key::code",
    ][::core::mem::offset_of!(claim_key, code) - 55usize];
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
pub struct claims {
    pub packets: __u64,
    pub mtu: __u32,
    pub seen: __u32,
    pub sent: __u64,
    pub nanoseconds: __u64,
    pub timed: __u32,
    pub sequence: __u16,
    pub waits: __u8,
    pub zero: __u8,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of claims"][::core::mem::size_of::<claims>() - 40usize];
    ["Alignment of claims"][::core::mem::align_of::<claims>() - 8usize];
    [
        "Offset of field: claims::packets",
    ][::core::mem::offset_of!(claims, packets) - 0usize];
    ["Offset of field: claims::mtu"][::core::mem::offset_of!(claims, mtu) - 8usize];
    ["Offset of field: claims::seen"][::core::mem::offset_of!(claims, seen) - 12usize];
    ["Offset of field: claims::sent"][::core::mem::offset_of!(claims, sent) - 16usize];
    [
        "Offset of field: claims::nanoseconds",
    ][::core::mem::offset_of!(claims, nanoseconds) - 24usize];
    ["Offset of field: claims::timed"][::core::mem::offset_of!(claims, timed) - 32usize];
    [
        "Offset of field: claims::sequence",
    ][::core::mem::offset_of!(claims, sequence) - 36usize];
    ["Offset of field: claims::waits"][::core::mem::offset_of!(claims, waits) - 38usize];
    ["Offset of field: claims::zero"][::core::mem::offset_of!(claims, zero) - 39usize];
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
pub struct handshakes {
    pub syns: __u64,
    pub opened: __u64,
    pub retries: __u64,
    pub answered: __u64,
    pub displaced: __u64,
    pub resets: [__u64; 2usize],
    pub timed: __u64,
    pub nanoseconds: __u64,
    pub young: [__u32; 2usize],
    pub epoch: __u32,
    pub seen: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of handshakes"][::core::mem::size_of::<handshakes>() - 88usize];
    ["Alignment of handshakes"][::core::mem::align_of::<handshakes>() - 8usize];
    [
        "Offset of field: handshakes::syns",
    ][::core::mem::offset_of!(handshakes, syns) - 0usize];
    [
        "Offset of field: handshakes::opened",
    ][::core::mem::offset_of!(handshakes, opened) - 8usize];
    [
        "Offset of field: handshakes::retries",
    ][::core::mem::offset_of!(handshakes, retries) - 16usize];
    [
        "Offset of field: handshakes::answered",
    ][::core::mem::offset_of!(handshakes, answered) - 24usize];
    [
        "Offset of field: handshakes::displaced",
    ][::core::mem::offset_of!(handshakes, displaced) - 32usize];
    [
        "Offset of field: handshakes::resets",
    ][::core::mem::offset_of!(handshakes, resets) - 40usize];
    [
        "Offset of field: handshakes::timed",
    ][::core::mem::offset_of!(handshakes, timed) - 56usize];
    [
        "Offset of field: handshakes::nanoseconds",
    ][::core::mem::offset_of!(handshakes, nanoseconds) - 64usize];
    [
        "Offset of field: handshakes::young",
    ][::core::mem::offset_of!(handshakes, young) - 72usize];
    [
        "Offset of field: handshakes::epoch",
    ][::core::mem::offset_of!(handshakes, epoch) - 80usize];
    [
        "Offset of field: handshakes::seen",
    ][::core::mem::offset_of!(handshakes, seen) - 84usize];
};
pub const TEST_OUTER: test = 0;
pub const TEST_INNER: test = 1;
pub const TEST_ID: test = 2;
pub const TEST_KIND: test = 3;
pub const TEST_PROTO: test = 4;
pub type test = u32;
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
pub struct probe_test {
    pub what: __u8,
    pub flags: __u8,
    pub kind: __u16,
    pub low: __u32,
    pub high: __u32,
    pub net: [__be32; 4usize],
    pub mask: [__be32; 4usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of probe_test"][::core::mem::size_of::<probe_test>() - 44usize];
    ["Alignment of probe_test"][::core::mem::align_of::<probe_test>() - 4usize];
    [
        "Offset of field: probe_test::what",
    ][::core::mem::offset_of!(probe_test, what) - 0usize];
    [
        "Offset of field: probe_test::flags",
    ][::core::mem::offset_of!(probe_test, flags) - 1usize];
    [
        "Offset of field: probe_test::kind",
    ][::core::mem::offset_of!(probe_test, kind) - 2usize];
    [
        "Offset of field: probe_test::low",
    ][::core::mem::offset_of!(probe_test, low) - 4usize];
    [
        "Offset of field: probe_test::high",
    ][::core::mem::offset_of!(probe_test, high) - 8usize];
    [
        "Offset of field: probe_test::net",
    ][::core::mem::offset_of!(probe_test, net) - 12usize];
    [
        "Offset of field: probe_test::mask",
    ][::core::mem::offset_of!(probe_test, mask) - 28usize];
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
pub struct prober {
    pub lease: __u64,
    pub matched: __u64,
    pub written: __u64,
    pub full: __u64,
    pub over_limit: __u64,
    pub looked_at: __u64,
    pub lens_lost: __u64,
    pub limit: __u32,
    pub second: __u32,
    pub taken: __u32,
    pub snaplen: __u32,
    pub interface: __u32,
    pub what: __u32,
    pub tests: __u32,
    pub zero: __u32,
    pub test: [probe_test; 32usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of prober"][::core::mem::size_of::<prober>() - 1496usize];
    ["Alignment of prober"][::core::mem::align_of::<prober>() - 8usize];
    ["Offset of field: prober::lease"][::core::mem::offset_of!(prober, lease) - 0usize];
    [
        "Offset of field: prober::matched",
    ][::core::mem::offset_of!(prober, matched) - 8usize];
    [
        "Offset of field: prober::written",
    ][::core::mem::offset_of!(prober, written) - 16usize];
    ["Offset of field: prober::full"][::core::mem::offset_of!(prober, full) - 24usize];
    [
        "Offset of field: prober::over_limit",
    ][::core::mem::offset_of!(prober, over_limit) - 32usize];
    [
        "Offset of field: prober::looked_at",
    ][::core::mem::offset_of!(prober, looked_at) - 40usize];
    [
        "Offset of field: prober::lens_lost",
    ][::core::mem::offset_of!(prober, lens_lost) - 48usize];
    ["Offset of field: prober::limit"][::core::mem::offset_of!(prober, limit) - 56usize];
    [
        "Offset of field: prober::second",
    ][::core::mem::offset_of!(prober, second) - 60usize];
    ["Offset of field: prober::taken"][::core::mem::offset_of!(prober, taken) - 64usize];
    [
        "Offset of field: prober::snaplen",
    ][::core::mem::offset_of!(prober, snaplen) - 68usize];
    [
        "Offset of field: prober::interface",
    ][::core::mem::offset_of!(prober, interface) - 72usize];
    ["Offset of field: prober::what"][::core::mem::offset_of!(prober, what) - 76usize];
    ["Offset of field: prober::tests"][::core::mem::offset_of!(prober, tests) - 80usize];
    ["Offset of field: prober::zero"][::core::mem::offset_of!(prober, zero) - 84usize];
    ["Offset of field: prober::test"][::core::mem::offset_of!(prober, test) - 88usize];
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
pub struct probing {
    pub active: __u32,
    pub generation: __u32,
    pub stops: __u32,
    pub zero: __u32,
    pub prober: [prober; 16usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of probing"][::core::mem::size_of::<probing>() - 23952usize];
    ["Alignment of probing"][::core::mem::align_of::<probing>() - 8usize];
    [
        "Offset of field: probing::active",
    ][::core::mem::offset_of!(probing, active) - 0usize];
    [
        "Offset of field: probing::generation",
    ][::core::mem::offset_of!(probing, generation) - 4usize];
    [
        "Offset of field: probing::stops",
    ][::core::mem::offset_of!(probing, stops) - 8usize];
    ["Offset of field: probing::zero"][::core::mem::offset_of!(probing, zero) - 12usize];
    [
        "Offset of field: probing::prober",
    ][::core::mem::offset_of!(probing, prober) - 16usize];
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
pub struct probe {
    pub wanted: __u32,
    pub generation: __u32,
    pub seen: __u32,
    pub zero: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of probe"][::core::mem::size_of::<probe>() - 16usize];
    ["Alignment of probe"][::core::mem::align_of::<probe>() - 4usize];
    ["Offset of field: probe::wanted"][::core::mem::offset_of!(probe, wanted) - 0usize];
    [
        "Offset of field: probe::generation",
    ][::core::mem::offset_of!(probe, generation) - 4usize];
    ["Offset of field: probe::seen"][::core::mem::offset_of!(probe, seen) - 8usize];
    ["Offset of field: probe::zero"][::core::mem::offset_of!(probe, zero) - 12usize];
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
pub struct caught {
    pub time: __u64,
    pub lost: __u64,
    pub length: __u32,
    pub size: __u32,
    pub row: __u32,
    pub interface: __u32,
    pub cpu: __u32,
    pub hook: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of caught"][::core::mem::size_of::<caught>() - 40usize];
    ["Alignment of caught"][::core::mem::align_of::<caught>() - 8usize];
    ["Offset of field: caught::time"][::core::mem::offset_of!(caught, time) - 0usize];
    ["Offset of field: caught::lost"][::core::mem::offset_of!(caught, lost) - 8usize];
    [
        "Offset of field: caught::length",
    ][::core::mem::offset_of!(caught, length) - 16usize];
    ["Offset of field: caught::size"][::core::mem::offset_of!(caught, size) - 20usize];
    ["Offset of field: caught::row"][::core::mem::offset_of!(caught, row) - 24usize];
    [
        "Offset of field: caught::interface",
    ][::core::mem::offset_of!(caught, interface) - 28usize];
    ["Offset of field: caught::cpu"][::core::mem::offset_of!(caught, cpu) - 32usize];
    ["Offset of field: caught::hook"][::core::mem::offset_of!(caught, hook) - 36usize];
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
pub struct lens_key {
    pub row: __u32,
    pub port: [__u16; 2usize],
    pub proto: __u8,
    pub flags: __u8,
    pub tos: [__u8; 2usize],
    pub ttl: [__u8; 2usize],
    pub size: __u8,
    pub zero: __u8,
    pub mark: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of lens_key"][::core::mem::size_of::<lens_key>() - 20usize];
    ["Alignment of lens_key"][::core::mem::align_of::<lens_key>() - 4usize];
    ["Offset of field: lens_key::row"][::core::mem::offset_of!(lens_key, row) - 0usize];
    [
        "Offset of field: lens_key::port",
    ][::core::mem::offset_of!(lens_key, port) - 4usize];
    [
        "Offset of field: lens_key::proto",
    ][::core::mem::offset_of!(lens_key, proto) - 8usize];
    [
        "Offset of field: lens_key::flags",
    ][::core::mem::offset_of!(lens_key, flags) - 9usize];
    ["Offset of field: lens_key::tos"][::core::mem::offset_of!(lens_key, tos) - 10usize];
    ["Offset of field: lens_key::ttl"][::core::mem::offset_of!(lens_key, ttl) - 12usize];
    [
        "Offset of field: lens_key::size",
    ][::core::mem::offset_of!(lens_key, size) - 14usize];
    [
        "Offset of field: lens_key::zero",
    ][::core::mem::offset_of!(lens_key, zero) - 15usize];
    [
        "Offset of field: lens_key::mark",
    ][::core::mem::offset_of!(lens_key, mark) - 16usize];
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
pub struct lens {
    pub packets: __u64,
    pub bytes: __u64,
    pub tcp: __u32,
    pub zero: __u32,
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of lens"][::core::mem::size_of::<lens>() - 24usize];
    ["Alignment of lens"][::core::mem::align_of::<lens>() - 8usize];
    ["Offset of field: lens::packets"][::core::mem::offset_of!(lens, packets) - 0usize];
    ["Offset of field: lens::bytes"][::core::mem::offset_of!(lens, bytes) - 8usize];
    ["Offset of field: lens::tcp"][::core::mem::offset_of!(lens, tcp) - 16usize];
    ["Offset of field: lens::zero"][::core::mem::offset_of!(lens, zero) - 20usize];
};
#[repr(C)]
#[derive(
    Debug,
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
pub struct ports {
    pub kind: [__u8; 65536usize],
    pub parameter: [__u8; 65792usize],
}
#[allow(clippy::unnecessary_operation, clippy::identity_op)]
const _: () = {
    ["Size of ports"][::core::mem::size_of::<ports>() - 131328usize];
    ["Alignment of ports"][::core::mem::align_of::<ports>() - 1usize];
    ["Offset of field: ports::kind"][::core::mem::offset_of!(ports, kind) - 0usize];
    [
        "Offset of field: ports::parameter",
    ][::core::mem::offset_of!(ports, parameter) - 65536usize];
};
pub const REASON_NAMES: [&str; 12] = ["none", "truncated", "malformed", "too_deep", "encrypted", "llc", "fragment", "control", "unknown", "other", "overflow", "aged"];
pub const STOP_NAMES: [&str; 6] = ["plain", "non_ip", "fragment", "truncated", "malformed", "too_deep"];
pub const LAYOUT: &[&str] = &[
    "Size of cell_count: 16",
    "Alignment of cell_count: 8",
    "Offset of field: cell_count::packets: 0",
    "Offset of field: cell_count::bytes: 8",
    "Size of key4: 24",
    "Alignment of key4: 4",
    "Offset of field: key4::id: 0",
    "Offset of field: key4::kind: 4",
    "Offset of field: key4::flags: 5",
    "Offset of field: key4::shard: 6",
    "Offset of field: key4::outer: 8",
    "Offset of field: key4::inner: 16",
    "Size of key6: 80",
    "Alignment of key6: 4",
    "Offset of field: key6::id: 0",
    "Offset of field: key6::kind: 8",
    "Offset of field: key6::flags: 10",
    "Offset of field: key6::depth: 11",
    "Offset of field: key6::shard: 12",
    "Offset of field: key6::zero: 14",
    "Offset of field: key6::outer: 16",
    "Offset of field: key6::inner: 48",
    "Size of slot4: 64",
    "Alignment of slot4: 8",
    "Offset of field: slot4::key: 0",
    "Offset of field: slot4::seen: 24",
    "Offset of field: slot4::owner: 28",
    "Offset of field: slot4::packets: 32",
    "Offset of field: slot4::bytes: 48",
    "Size of slot6: 128",
    "Alignment of slot6: 8",
    "Offset of field: slot6::key: 0",
    "Offset of field: slot6::seen: 80",
    "Offset of field: slot6::owner: 84",
    "Offset of field: slot6::zero: 88",
    "Offset of field: slot6::packets: 96",
    "Offset of field: slot6::bytes: 112",
    "Size of more: 40",
    "Alignment of more: 8",
    "Offset of field: more::packets: 0",
    "Offset of field: more::bytes: 16",
    "Offset of field: more::turns: 32",
    "Offset of field: more::zero: 36",
    "Size of number_key: 40",
    "Alignment of number_key: 8",
    "Offset of field: number_key::pair: 0",
    "Offset of field: number_key::id: 32",
    "Offset of field: number_key::kind: 36",
    "Offset of field: number_key::hook: 37",
    "Offset of field: number_key::v6: 38",
    "Offset of field: number_key::zero: 39",
    "Size of numbers: 72",
    "Alignment of numbers: 8",
    "Offset of field: numbers::highest: 0",
    "Offset of field: numbers::window: 8",
    "Offset of field: numbers::resume: 16",
    "Offset of field: numbers::packets: 24",
    "Offset of field: numbers::lost: 32",
    "Offset of field: numbers::late: 40",
    "Offset of field: numbers::duplicate: 48",
    "Offset of field: numbers::restarted: 56",
    "Offset of field: numbers::since: 60",
    "Offset of field: numbers::out_of_place: 64",
    "Offset of field: numbers::seen: 68",
    "Size of claim_key: 56",
    "Alignment of claim_key: 8",
    "Offset of field: claim_key::pair: 0",
    "Offset of field: claim_key::who: 32",
    "Offset of field: claim_key::id: 48",
    "Offset of field: claim_key::kind: 52",
    "Offset of field: claim_key::flags: 53",
    "Offset of field: claim_key::type_: 54",
    "Offset of field: claim_key::code: 55",
    "Size of claims: 40",
    "Alignment of claims: 8",
    "Offset of field: claims::packets: 0",
    "Offset of field: claims::mtu: 8",
    "Offset of field: claims::seen: 12",
    "Offset of field: claims::sent: 16",
    "Offset of field: claims::nanoseconds: 24",
    "Offset of field: claims::timed: 32",
    "Offset of field: claims::sequence: 36",
    "Offset of field: claims::waits: 38",
    "Offset of field: claims::zero: 39",
    "Size of handshakes: 88",
    "Alignment of handshakes: 8",
    "Offset of field: handshakes::syns: 0",
    "Offset of field: handshakes::opened: 8",
    "Offset of field: handshakes::retries: 16",
    "Offset of field: handshakes::answered: 24",
    "Offset of field: handshakes::displaced: 32",
    "Offset of field: handshakes::resets: 40",
    "Offset of field: handshakes::timed: 56",
    "Offset of field: handshakes::nanoseconds: 64",
    "Offset of field: handshakes::young: 72",
    "Offset of field: handshakes::epoch: 80",
    "Offset of field: handshakes::seen: 84",
    "Size of probe_test: 44",
    "Alignment of probe_test: 4",
    "Offset of field: probe_test::what: 0",
    "Offset of field: probe_test::flags: 1",
    "Offset of field: probe_test::kind: 2",
    "Offset of field: probe_test::low: 4",
    "Offset of field: probe_test::high: 8",
    "Offset of field: probe_test::net: 12",
    "Offset of field: probe_test::mask: 28",
    "Size of prober: 1496",
    "Alignment of prober: 8",
    "Offset of field: prober::lease: 0",
    "Offset of field: prober::matched: 8",
    "Offset of field: prober::written: 16",
    "Offset of field: prober::full: 24",
    "Offset of field: prober::over_limit: 32",
    "Offset of field: prober::looked_at: 40",
    "Offset of field: prober::lens_lost: 48",
    "Offset of field: prober::limit: 56",
    "Offset of field: prober::second: 60",
    "Offset of field: prober::taken: 64",
    "Offset of field: prober::snaplen: 68",
    "Offset of field: prober::interface: 72",
    "Offset of field: prober::what: 76",
    "Offset of field: prober::tests: 80",
    "Offset of field: prober::zero: 84",
    "Offset of field: prober::test: 88",
    "Size of probing: 23952",
    "Alignment of probing: 8",
    "Offset of field: probing::active: 0",
    "Offset of field: probing::generation: 4",
    "Offset of field: probing::stops: 8",
    "Offset of field: probing::zero: 12",
    "Offset of field: probing::prober: 16",
    "Size of probe: 16",
    "Alignment of probe: 4",
    "Offset of field: probe::wanted: 0",
    "Offset of field: probe::generation: 4",
    "Offset of field: probe::seen: 8",
    "Offset of field: probe::zero: 12",
    "Size of caught: 40",
    "Alignment of caught: 8",
    "Offset of field: caught::time: 0",
    "Offset of field: caught::lost: 8",
    "Offset of field: caught::length: 16",
    "Offset of field: caught::size: 20",
    "Offset of field: caught::row: 24",
    "Offset of field: caught::interface: 28",
    "Offset of field: caught::cpu: 32",
    "Offset of field: caught::hook: 36",
    "Size of lens_key: 20",
    "Alignment of lens_key: 4",
    "Offset of field: lens_key::row: 0",
    "Offset of field: lens_key::port: 4",
    "Offset of field: lens_key::proto: 8",
    "Offset of field: lens_key::flags: 9",
    "Offset of field: lens_key::tos: 10",
    "Offset of field: lens_key::ttl: 12",
    "Offset of field: lens_key::size: 14",
    "Offset of field: lens_key::zero: 15",
    "Offset of field: lens_key::mark: 16",
    "Size of lens: 24",
    "Alignment of lens: 8",
    "Offset of field: lens::packets: 0",
    "Offset of field: lens::bytes: 8",
    "Offset of field: lens::tcp: 16",
    "Offset of field: lens::zero: 20",
    "Size of ports: 131328",
    "Alignment of ports: 1",
    "Offset of field: ports::kind: 0",
    "Offset of field: ports::parameter: 65536",
    "PORT_KIND 63",
    "PORT_FOU 64",
    "PORT_EITHER 128",
    "PARAMETER_COOKIE 15",
    "PARAMETER_SUBLAYER 16",
    "PARAMETER_KNOWN 128",
    "INNER_REASON 65536",
    "INNER_PPP 131072",
    "INNER_IP 196608",
    "ROW_DIR 1",
    "ROW_ID 2",
    "ROW_ID1 4",
    "ROW_NO_PAIR 8",
    "ROW_OUTER6 16",
    "ROW_INNER6 32",
    "ROW_OTHER 64",
    "ROW_NO_OUTER 128",
    "SHARD_FRAGMENT 32768",
    "SHARD_CPU 32767",
    "GROUP 8",
    "GROUPS 6",
    "OWNER_CPU 65535",
    "OWNER_PROBE 32768",
    "OWNER_ASK 32767",
    "OWNER_CROWD 65536",
    "OWNER_BEFORE 17",
    "TAG_FREE 0",
    "TAG_BUSY 1",
    "TAG_AGEING 3",
    "TAG_ROW 5",
    "KIND_NONE 0",
    "KIND_VXLAN 1",
    "KIND_VXLAN_GPE 2",
    "KIND_GENEVE 3",
    "KIND_GRE 4",
    "KIND_GRETAP 5",
    "KIND_ERSPAN 6",
    "KIND_PPTP 7",
    "KIND_EOIP 8",
    "KIND_GRE_UDP 9",
    "KIND_IPIP 10",
    "KIND_6IN4 11",
    "KIND_4IN6 12",
    "KIND_6IN6 13",
    "KIND_SRV6 14",
    "KIND_AH 15",
    "KIND_GTPU 16",
    "KIND_MPLS 17",
    "KIND_MPLS_UDP 18",
    "KIND_TEREDO 19",
    "KIND_GUE 20",
    "KIND_L2TP 21",
    "KIND_NSH 22",
    "KIND_LISP 23",
    "KIND_ETHERIP 24",
    "KIND_AYIYA 25",
    "KIND_PPPOE 26",
    "KIND_PBB 27",
    "KIND_ESP 28",
    "KIND_WIREGUARD 29",
    "KIND_CAPWAP 30",
    "KIND_L2TPV3 31",
    "STOP_PLAIN 0",
    "STOP_NON_IP 1",
    "STOP_FRAGMENT 2",
    "STOP_TRUNCATED 3",
    "STOP_MALFORMED 4",
    "STOP_TOO_DEEP 5",
    "REASON_NONE 0",
    "REASON_TRUNCATED 1",
    "REASON_MALFORMED 2",
    "REASON_TOO_DEEP 3",
    "REASON_ENCRYPTED 4",
    "REASON_LLC 5",
    "REASON_FRAGMENT 6",
    "REASON_CONTROL 7",
    "REASON_UNKNOWN 8",
    "REASON_OTHER 9",
    "REASON_OVERFLOW 10",
    "REASON_AGED 11",
    "CELL_COUNTED 0",
    "CELL_STOP 1",
    "CELL_SUSPECT 7",
    "CELL_OVERFLOW 8",
    "CELL_FRAGMENT 12",
    "CELLS 16",
    "HOOK_RX 0",
    "HOOK_TX 1",
    "HOOKS 2",
];

kinds! {
    None = 0, "none", None, TO, None, "", "", "No tunnel: rows made by `--plain`";
    Vxlan = 1, "vxlan", Some(&[4789, 8472]), TO, None, "VNI", "RFC 7348", "VXLAN";
    VxlanGpe = 2, "vxlan-gpe", Some(&[4790]), TO, None, "VNI", "draft-ietf-nvo3-vxlan-gpe", "VXLAN Generic Protocol Extension";
    Geneve = 3, "geneve", Some(&[6081]), TO, None, "VNI", "RFC 8926", "Geneve";
    Gre = 4, "gre", None, TO, Some(&[47]), "key", "RFC 2784, RFC 2890", "GRE with IP or an unknown payload";
    Gretap = 5, "gretap", None, TO, Some(&[47]), "key (NVGRE: VSID << 8)", "RFC 2784, RFC 7637", "GRE carrying Ethernet: TEB, NVGRE";
    Erspan = 6, "erspan", None, TO, Some(&[47]), "session; none in type I", "draft-foschiano-erspan", "ERSPAN types I, II and III, in GRE";
    Pptp = 7, "pptp", None, TO, Some(&[47]), "call", "RFC 2637", "PPTP data: GRE version 1 with PPP";
    Eoip = 8, "eoip", None, TO, Some(&[47]), "tunnel", "MikroTik", "Ethernet over IP: GRE version 1, type 0x6400";
    GreUdp = 9, "gre-udp", Some(&[4754]), TO, None, "key", "RFC 8086", "GRE in UDP";
    Ipip = 10, "ipip", None, TO, Some(&[4]), "", "RFC 2003", "IPv4 in IPv4";
    SixInFour = 11, "6in4", None, TO, Some(&[41]), "", "RFC 4213", "IPv6 in IPv4";
    FourInSix = 12, "4in6", None, TO, Some(&[4]), "", "RFC 2473", "IPv4 in IPv6";
    SixInSix = 13, "6in6", None, TO, Some(&[41]), "", "RFC 2473", "IPv6 in IPv6";
    Srv6 = 14, "srv6", None, TO, Some(&[43]), "", "RFC 8754", "IP or Ethernet behind an IPv6 segment routing header";
    Ah = 15, "ah", None, TO, Some(&[51]), "", "RFC 4302", "IPsec authentication header in tunnel mode";
    Gtpu = 16, "gtpu", Some(&[2152]), TO, None, "TEID", "3GPP TS 29.281", "GTP-U version 1, T-PDUs";
    Mpls = 17, "mpls", None, TO, Some(&[137]), "top label", "RFC 3032, RFC 4023", "MPLS label stack in another tunnel or in IP";
    MplsUdp = 18, "mpls-udp", Some(&[6635]), TO, None, "top label", "RFC 7510", "MPLS in UDP";
    Teredo = 19, "teredo", Some(&[3544]), EITHER, None, "", "RFC 4380", "Teredo";
    Gue = 20, "gue", Some(&[6080, 9886]), TO, None, "", "draft-ietf-intarea-gue", "Generic UDP Encapsulation; `fou` for foo-over-UDP";
    L2tp = 21, "l2tp", Some(&[1701]), EITHER, None, "session", "RFC 2661", "L2TP version 2, data";
    Nsh = 22, "nsh", None, TO, None, "service path", "RFC 8300", "Network service header in another tunnel";
    Lisp = 23, "lisp", Some(&[4341]), TO, None, "instance", "RFC 9300", "LISP data";
    EtherIp = 24, "etherip", None, TO, Some(&[97]), "", "RFC 3378", "Ethernet in IP";
    Ayiya = 25, "ayiya", Some(&[5072]), EITHER, None, "", "draft-massar-v6ops-ayiya", "Anything in anything";
    Pppoe = 26, "pppoe", None, TO, None, "session", "RFC 2516", "PPP over Ethernet in another tunnel";
    Pbb = 27, "pbb", None, TO, None, "I-SID", "IEEE 802.1ah", "Provider backbone bridging in another tunnel";
    Esp = 28, "esp", Some(&[4500]), EITHER, Some(&[50]), "", "RFC 4303, RFC 3948", "IPsec ESP: the inside is encrypted";
    Wireguard = 29, "wireguard", Some(&[51820]), EITHER, None, "", "wireguard.com/protocol", "WireGuard: the inside is encrypted";
    Capwap = 30, "capwap", Some(&[5247]), EITHER, None, "radio", "RFC 5415, RFC 5416", "CAPWAP data: 802.3 and 802.11 frames; DTLS is encrypted";
    L2tpv3 = 31, "l2tpv3", Some(&[]), EITHER, Some(&[115]), "session", "RFC 3931", "L2TP version 3, Ethernet; also on the ports of `l2tp`";
}
