// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parser and its accounting, `bpf/`, compiled for the host: frames go in, the slots of the
//! flow tables and the books come out, as in the kernel. It needs no BPF.
//!
//! Readers of the tables (`crates/feed/src/table.rs`) find the same memory layout as in the maps.
#![allow(unsafe_code)]
use std::{ffi::c_void, ptr, sync::Arc};

use anyhow::{Context, Result};
use contract::{
    BESIDE_CLAIMED, BESIDE_NUMBERED, BESIDE_OPENINGS, BESIDES, CELLS, CLAIMS, GROUP, HANDSHAKES,
    HOOKS, MAX_TPIDS, NUMBERS, WAITING, cell_count, claim_key, claims, handshakes, key6, more,
    number_key, numbers, slot4, slot6,
};
use memmap2::{MmapOptions, MmapRaw};

mod batch;
mod host;
mod part;
mod rtt;
mod way;

pub use batch::{Adder, Batch, Buffer, Frames};
use host::Host;
pub use host::LogEntry;
pub use part::Shard;
pub use rtt::{RTT_BUCKETS, RTT_LEAST, RTT_PARTS_BITS, RTT_ROWS, RttLost, RttRow, RttTables, Rtts};
pub use way::{Answer, Guide, Payload, RowOf, Transport, WAY_LEVELS, Way, WayLevel};

/// How frames are parsed and counted; each field is the variable of that name in `bpf/`.
#[derive(Clone, Debug)]
pub struct NativeConfig {
    /// The number of groups of 8 slots in each of the two tables, and in that of `other` rows
    /// without the aged row's group: powers of two.
    pub groups: [u32; 2],
    /// The seed of the hash.
    pub seed: [u64; 12],
    /// EtherTypes of VLAN tags in addition to the usual ones.
    pub tpids: [u16; MAX_TPIDS as usize],
    /// Count skbs, not the packets on the wire.
    pub skb: bool,
    /// Make rows of packets without a tunnel.
    pub plain: bool,
    /// Whether to leave out the fast path; the result is the same.
    pub states: bool,
    /// The meaning of each UDP port, indexed by its number in network byte order.
    pub ports: Box<contract::ports>,
}

/// A frame of a capture.
#[derive(Clone, Copy, Debug)]
pub struct NativeFrame<'a> {
    /// The captured bytes.
    pub data: &'a [u8],
    /// Its length on the wire.
    pub length: u32,
    /// The length of the link header before it, which counts but is not read.
    pub link: u32,
    /// What the frame begins with: the payload of this EtherType, Ethernet (0x6558), or IP
    /// (0x10000).
    pub begins: u32,
    /// Its time, on the clock by which rows age.
    pub now: u32,
    /// Its time in nanoseconds, on any clock.
    pub time: u64,
    /// GSO segments, 0 for none.
    pub gso_segs: u16,
    /// Payload bytes in each of them.
    pub gso_size: u16,
    /// Whether it was seen on egress.
    pub egress: bool,
}

// native.h
#[repr(C)]
struct Ffi {
    rows4: *mut slot4,
    rows6: *mut slot6,
    others: *mut slot6,
    rows4_tags: *mut u64,
    rows6_tags: *mut u64,
    others_tags: *mut u64,
    rows4_more: *mut more,
    rows6_more: *mut more,
    others_more: *mut more,
    numbers: *mut c_void,
    claims: *mut c_void,
    handshakes: *mut c_void,
    waiting: *mut c_void,
    cpus: *mut c_void,
    ports: *mut contract::ports,
    host: *mut c_void,
    find: unsafe extern "C" fn(*mut c_void, *const c_void, u32) -> *mut c_void,
    put: unsafe extern "C" fn(*mut c_void, *const c_void, *const c_void, u32),
    forget: unsafe extern "C" fn(*mut c_void, *const c_void, u32),
    made: unsafe extern "C" fn(*mut c_void, *const c_void, u32),
    defer: unsafe extern "C" fn(*mut c_void, u32),
    left: unsafe extern "C" fn(*mut c_void, u32, *const c_void, u32),
    seed: [u64; 12],
    mask4: u32,
    mask6: u32,
    mask_others: u32,
    now: u32,
    tpid: [u16; MAX_TPIDS as usize],
    skb: u8,
    plain: u8,
    states: u8,
    part: u8,
    note: u8,
    asked: u8,
    frame: u32,
    books: [u64; 64],
    answer: u32,
    zero: u32,
    way: *mut Way,
    rtt_flows: *mut c_void,
    rtt_rows: *mut c_void,
    rtt_lost: *mut c_void,
}

// native.c
#[repr(C)]
struct FfiFrame {
    data: *const u8,
    captured: u32,
    length: u32,
    link: u32,
    begins: u32,
    now: u32,
    gso_segs: u16,
    gso_size: u16,
    hook: u32,
    time: u64,
}

impl FfiFrame {
    #[inline]
    fn new(frame: &NativeFrame<'_>) -> FfiFrame {
        FfiFrame {
            data: frame.data.as_ptr(),
            captured: frame.data.len() as u32,
            length: frame.length,
            link: frame.link,
            begins: frame.begins,
            now: frame.now,
            gso_segs: frame.gso_segs,
            gso_size: frame.gso_size,
            hook: frame.egress.into(),
            time: frame.time,
        }
    }
}

unsafe extern "C" {
    static tmon_native_cpu: [u64; 2];
    static tmon_native_fragment: [u64; 2];
    static tmon_native_beside: [u64; 6];
    fn tmon_native_judge(native: *mut Ffi, frames: *const FfiFrame, n: u32);
    fn tmon_native_add(
        native: *mut Ffi,
        key: *const key6,
        hook: u32,
        weight: *const [u64; 2],
        now: u32,
    );
    fn tmon_native_left(native: *mut Ffi, what: u32, noted: *const c_void, now: u32);
}

/// A slot of the sequence number streams, with the layout of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NumberSlot {
    lock: u32,
    /// Nonzero if the slot is used.
    pub tag: u32,
    /// The stream.
    pub key: number_key,
    /// Its state.
    pub numbers: numbers,
}

/// A slot of claims, with the layout of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimSlot {
    lock: u32,
    /// Nonzero if the slot is used.
    pub tag: u32,
    /// The claim: who reports what about which packets.
    pub key: claim_key,
    /// How often it was made.
    pub claims: claims,
}

/// A slot of TCP handshakes by row, with the layout of the programs.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HandshakeSlot {
    lock: u32,
    /// Nonzero if the slot is used.
    pub tag: u32,
    /// The row, without its direction, and with the hook as the shard.
    pub key: key6,
    /// The counts of one hook.
    pub n: handshakes,
}

/// A slot of a SYN awaiting its answer; opaque here except for whether it is used.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WaitingSlot {
    lock: u32,
    of: [u32; 3],
    since: u64,
    row: u64,
    more: u32,
    /// Nonzero if the slot is used.
    pub used: u32,
}

/// The memory of a table: its slots, their tags and second counters.
pub type Memory = [Arc<MmapRaw>; 3];

/// The tables and books in which frames are counted.
pub struct Native {
    ffi: Box<Ffi>,
    tables: [Memory; 3],
    numbers: Box<[NumberSlot]>,
    claims: Box<[ClaimSlot]>,
    handshakes: Box<[HandshakeSlot]>,
    waiting: Box<[WaitingSlot]>,
    cpu: Box<[u64]>,
    /// The target of the pointers.
    ports: Box<contract::ports>,
    host: Box<Host>,
}

// SAFETY: the pointers are into what it owns, or into memory that is accessed like the kernel's.
unsafe impl Send for Native {}

/// Tables of this size and above may use huge pages: most of their memory is used then.
const HUGE: usize = 64 << 20;

fn memory<S>(groups: u32) -> Result<Memory> {
    let map = |bytes: usize| {
        let memory = MmapOptions::new().len(bytes).map_anon().context("memory for a flow table")?;
        #[cfg(target_os = "linux")]
        if bytes >= HUGE {
            // With them, rows in random order cause half as many misses; without, it is only
            // slower.
            _ = memory.advise(memmap2::Advice::HugePage);
        }
        Ok::<_, anyhow::Error>(Arc::new(MmapRaw::from(memory)))
    };
    let slots = groups as usize * GROUP;
    Ok([map(slots * size_of::<S>())?, map(slots)?, map(slots * size_of::<more>())?])
}

impl Native {
    /// Empty tables.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(config: &NativeConfig) -> Result<Native> {
        let [rows, others] = config.groups.map(|n| n.max(1).next_power_of_two());
        // One group more than the programs use: for the interface's aged rows.
        let tables = [memory::<slot4>(rows)?, memory::<slot6>(rows)?, memory::<slot6>(others + 1)?];
        // SAFETY: constants.
        let ([size, number], fragment, beside) =
            unsafe { (tmon_native_cpu, tmon_native_fragment, tmon_native_beside) };
        assert_eq!(fragment, [host::KEY as u64, host::VALUE as u64]);
        let noted = host::NOTED.map(|words| words * 8);
        let sizes = [
            size_of::<NumberSlot>(),
            noted[0],
            size_of::<ClaimSlot>(),
            noted[2],
            size_of::<HandshakeSlot>(),
            size_of::<WaitingSlot>(),
        ];
        assert_eq!(beside, sizes.map(|n| n as u64));
        let mut claims = vec![ClaimSlot::default(); CLAIMS as usize].into_boxed_slice();
        let mut handshakes = vec![HandshakeSlot::default(); HANDSHAKES as usize].into_boxed_slice();
        let mut waiting = vec![WaitingSlot::default(); WAITING as usize].into_boxed_slice();
        let mut numbers = vec![NumberSlot::default(); NUMBERS as usize].into_boxed_slice();
        let mut cpu = vec![0u64; (size as usize).div_ceil(8)].into_boxed_slice();
        // SAFETY: it is in bounds and aligned: a u32 in a struct of u64s.
        unsafe { *cpu.as_mut_ptr().cast::<u8>().add(number as usize).cast::<u32>() = 1 };
        let mut ports = config.ports.clone();
        let mut host = Box::new(Host::default());
        let ffi = Box::new(Ffi {
            rows4: tables[0][0].as_mut_ptr().cast(),
            rows6: tables[1][0].as_mut_ptr().cast(),
            others: tables[2][0].as_mut_ptr().cast(),
            rows4_tags: tables[0][1].as_mut_ptr().cast(),
            rows6_tags: tables[1][1].as_mut_ptr().cast(),
            others_tags: tables[2][1].as_mut_ptr().cast(),
            rows4_more: tables[0][2].as_mut_ptr().cast(),
            rows6_more: tables[1][2].as_mut_ptr().cast(),
            others_more: tables[2][2].as_mut_ptr().cast(),
            numbers: numbers.as_mut_ptr().cast(),
            claims: claims.as_mut_ptr().cast(),
            handshakes: handshakes.as_mut_ptr().cast(),
            waiting: waiting.as_mut_ptr().cast(),
            cpus: cpu.as_mut_ptr().cast(),
            ports: &raw mut *ports,
            host: ptr::from_mut(&mut *host).cast(),
            find: host::find,
            put: host::put,
            forget: host::forget,
            made: host::made,
            defer: host::defer,
            left: host::left,
            seed: config.seed,
            mask4: rows * GROUP as u32 - 1,
            mask6: rows * GROUP as u32 - 1,
            mask_others: others * GROUP as u32 - 1,
            now: 0,
            tpid: config.tpids,
            skb: config.skb.into(),
            plain: config.plain.into(),
            states: config.states.into(),
            part: 0,
            note: 0,
            asked: 0,
            frame: 0,
            books: [0; 64],
            answer: 0,
            zero: 0,
            way: ptr::null_mut(),
            rtt_flows: ptr::null_mut(),
            rtt_rows: ptr::null_mut(),
            rtt_lost: ptr::null_mut(),
        });
        Ok(Native { ffi, tables, numbers, claims, handshakes, waiting, cpu, ports, host })
    }

    /// Counts a frame.
    pub fn judge(&mut self, frame: &NativeFrame<'_>) {
        self.judge_all(Frames(&[FfiFrame::new(frame)]));
    }

    /// Counts frames, one after another.
    pub fn judge_all(&mut self, frames: Frames<'_>) {
        // SAFETY: the tables are as large as their masks say and live as long as `self`; each frame
        // is read only within its bytes, which the batch holds.
        unsafe {
            tmon_native_judge(&mut *self.ffi, frames.0.as_ptr(), frames.0.len() as u32);
        }
    }

    /// The memory of the tables: of IPv4 rows, of all other rows, of `other` rows.
    pub fn memory(&self) -> &[Memory; 3] {
        &self.tables
    }

    /// The books' counters, ingress first.
    pub fn cells(&self) -> [cell_count; (HOOKS * CELLS) as usize] {
        let mut cells = [cell_count::default(); (HOOKS * CELLS) as usize];
        // They are the first field of `struct cpu`, as pairs of u64.
        for (cell, pair) in cells.iter_mut().zip(self.cpu.chunks_exact(2)) {
            (cell.packets, cell.bytes) = (pair[0], pair[1]);
        }
        cells
    }

    /// The sequence number streams.
    pub fn numbers(&self) -> impl Iterator<Item = &NumberSlot> {
        self.numbers.iter().filter(|slot| slot.tag != 0)
    }

    /// What ICMP errors report about tunnels' packets.
    pub fn claims(&self) -> impl Iterator<Item = &ClaimSlot> {
        self.claims.iter().filter(|slot| slot.tag != 0)
    }

    /// TCP handshakes by row.
    pub fn handshakes(&self) -> impl Iterator<Item = &HandshakeSlot> {
        self.handshakes.iter().filter(|slot| slot.tag != 0)
    }

    /// The counters of what is kept beside the rows, by `BESIDE_`.
    pub fn beside(&self) -> [u64; BESIDES as usize] {
        let books = self.cells().len() * 2;
        std::array::from_fn(|i| self.cpu[books + i])
    }

    /// Resets all tables and books to zero and forgets all fragments.
    pub fn clear(&mut self) {
        for table in self.tables.iter().flatten() {
            // SAFETY: this covers the whole mapping; a concurrent reader finds rows or none.
            unsafe { ptr::write_bytes(table.as_mut_ptr(), 0, table.len()) };
        }
        // These are large, and empty if nothing was counted in them.
        let seen = self.beside();
        let has = |what: u32| seen[what as usize] > 0;
        if has(BESIDE_NUMBERED) {
            self.numbers.fill(NumberSlot::default());
        }
        if has(BESIDE_CLAIMED) {
            self.claims.fill(ClaimSlot::default());
        }
        if has(BESIDE_OPENINGS) {
            self.handshakes.fill(HandshakeSlot::default());
            self.waiting.fill(WaitingSlot::default());
        }
        // As in `cells`.
        let words = self.cells().len() * 2 + BESIDES as usize;
        self.cpu[..words].fill(0);
        self.host.fragments.clear();
    }
}
