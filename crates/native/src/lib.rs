// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parser and its accounting, `bpf/`, compiled for the host: frames go in, the slots of the
//! flow tables and the books come out, as they do in the kernel. Nothing of BPF is needed for it.
//!
//! Whoever reads the tables (`crates/feed/src/table.rs` does) finds the same memory as that of the maps.
#![allow(unsafe_code)]
use std::{ffi::c_void, num::NonZeroUsize, ptr, slice, sync::Arc};

use anyhow::{Context, Result};
use contract::{CELLS, GROUP, HOOKS, MAX_TPIDS, cell_count, more, slot4, slot6};
use lru::LruCache;
use memmap2::{MmapOptions, MmapRaw};

/// Fragmented packets that are remembered: as many as the kernel's map.
const FRAGMENTS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// How frames are judged; each field is the variable of that name in `bpf/`.
#[derive(Clone, Debug)]
pub struct Config {
    /// Groups of 8 slots in the two tables, and in that of `other` rows without the aged row's
    /// group: powers of two.
    pub groups: [u32; 2],
    /// Of the hash.
    pub seed: [u64; 12],
    /// EtherTypes of VLAN tags beside the usual ones.
    pub tpids: [u16; MAX_TPIDS as usize],
    /// Count skbs, not the packets on the wire.
    pub skb: bool,
    /// Make rows of packets without a tunnel.
    pub plain: bool,
    /// Leave out the fast path: the result is the same.
    pub states: bool,
    /// What each UDP port means, at the place of its number as on the wire.
    pub ports: Box<contract::ports>,
}

/// A frame of a capture.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What was captured of it.
    pub data: &'a [u8],
    /// How long it was on the wire.
    pub length: u32,
    /// How long the link header before it was, which weighs but is not read.
    pub link: u32,
    /// What it begins with: the payload of this EtherType, or Ethernet (0x6558), or IP (0x10000).
    pub begins: u32,
    /// When, on the clock that rows age by.
    pub now: u32,
    /// GSO segments, 0 for none.
    pub gso_segs: u16,
    /// Payload bytes in each of them.
    pub gso_size: u16,
    /// It was seen on egress.
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
    cpus: *mut c_void,
    ports: *mut contract::ports,
    fragments: *mut c_void,
    find: unsafe extern "C" fn(*mut c_void, *const c_void) -> *mut c_void,
    put: unsafe extern "C" fn(*mut c_void, *const c_void, *const c_void),
    forget: unsafe extern "C" fn(*mut c_void, *const c_void),
    seed: [u64; 12],
    mask4: u32,
    mask6: u32,
    mask_others: u32,
    now: u32,
    tpid: [u16; MAX_TPIDS as usize],
    skb: u8,
    plain: u8,
    states: u8,
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
}

unsafe extern "C" {
    static tmon_native_cpu: [u64; 2];
    static tmon_native_fragment: [u64; 2];
    fn tmon_native_judge(native: *mut Ffi, frame: *const FfiFrame);
}

/// Sizes of the keys and values of [`Fragments`]; `native.c` is asked whether they are right.
const KEY: usize = 40;
const VALUE: usize = 84;

/// Packets that were fragmented, by what tells their fragments.
struct Fragments(LruCache<[u8; KEY], Box<[u32; VALUE / 4]>>);

/// # Safety
/// `fragments` is a [`Fragments`] that nobody else uses, `key` points at [`KEY`] bytes.
unsafe extern "C" fn find(fragments: *mut c_void, key: *const c_void) -> *mut c_void {
    let (fragments, key) =
        unsafe { (&mut *fragments.cast::<Fragments>(), &*key.cast::<[u8; KEY]>()) };
    fragments.0.get_mut(key).map_or(ptr::null_mut(), |row| row.as_mut_ptr().cast())
}

/// # Safety
/// As [`find`]; `value` points at [`VALUE`] bytes.
unsafe extern "C" fn put(fragments: *mut c_void, key: *const c_void, value: *const c_void) {
    let (fragments, key, value) = unsafe {
        (
            &mut *fragments.cast::<Fragments>(),
            *key.cast::<[u8; KEY]>(),
            *value.cast::<[u32; VALUE / 4]>(),
        )
    };
    fragments.0.put(key, Box::new(value));
}

/// # Safety
/// As [`find`].
unsafe extern "C" fn forget(fragments: *mut c_void, key: *const c_void) {
    let (fragments, key) =
        unsafe { (&mut *fragments.cast::<Fragments>(), &*key.cast::<[u8; KEY]>()) };
    fragments.0.pop(key);
}

/// The memory of a table: its slots, their tags and second counters.
pub type Memory = [Arc<MmapRaw>; 3];

/// Tables and books that frames are counted in.
pub struct Native {
    ffi: Box<Ffi>,
    tables: [Memory; 3],
    cpu: Box<[u64]>,
    /// What the pointer is to.
    _ports: Box<contract::ports>,
    fragments: Box<Fragments>,
}

// SAFETY: the pointers are into what it owns, or into memory that is accessed like the kernel's.
unsafe impl Send for Native {}

fn memory<S>(groups: u32) -> Result<Memory> {
    let map = |bytes: usize| {
        let memory = MmapOptions::new().len(bytes).map_anon().context("memory for a flow table")?;
        Ok::<_, anyhow::Error>(Arc::new(MmapRaw::from(memory)))
    };
    let slots = groups as usize * GROUP;
    Ok([map(slots * size_of::<S>())?, map(slots)?, map(slots * size_of::<more>())?])
}

impl Native {
    /// Empty tables.
    ///
    /// # Errors
    /// There is no memory for them.
    pub fn new(config: &Config) -> Result<Native> {
        let [rows, others] = config.groups.map(|n| n.max(1).next_power_of_two());
        // One group more than the programs use: the interface's aged rows.
        let tables = [memory::<slot4>(rows)?, memory::<slot6>(rows)?, memory::<slot6>(others + 1)?];
        // SAFETY: constants.
        let ([size, number], fragment) = unsafe { (tmon_native_cpu, tmon_native_fragment) };
        assert_eq!(fragment, [KEY as u64, VALUE as u64]);
        let mut cpu = vec![0u64; (size as usize).div_ceil(8)].into_boxed_slice();
        // SAFETY: inside, and aligned: it is a u32's place in a struct of u64s.
        unsafe { *cpu.as_mut_ptr().cast::<u8>().add(number as usize).cast::<u32>() = 1 };
        let mut ports = config.ports.clone();
        let mut fragments = Box::new(Fragments(LruCache::new(FRAGMENTS)));
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
            cpus: cpu.as_mut_ptr().cast(),
            ports: &raw mut *ports,
            fragments: ptr::from_mut(&mut *fragments).cast(),
            find,
            put,
            forget,
            seed: config.seed,
            mask4: rows * GROUP as u32 - 1,
            mask6: rows * GROUP as u32 - 1,
            mask_others: others * GROUP as u32 - 1,
            now: 0,
            tpid: config.tpids,
            skb: config.skb.into(),
            plain: config.plain.into(),
            states: config.states.into(),
        });
        Ok(Native { ffi, tables, cpu, _ports: ports, fragments })
    }

    /// Counts a frame.
    pub fn judge(&mut self, frame: &Frame<'_>) {
        let frame = FfiFrame {
            data: frame.data.as_ptr(),
            captured: frame.data.len() as u32,
            length: frame.length,
            link: frame.link,
            begins: frame.begins,
            now: frame.now,
            gso_segs: frame.gso_segs,
            gso_size: frame.gso_size,
            hook: frame.egress.into(),
        };
        // SAFETY: the tables are as large as their masks say, and live as long as this; the frame is
        // read within its bytes.
        unsafe { tmon_native_judge(&mut *self.ffi, &frame) };
    }

    /// The memory of the tables: of IPv4 rows, of all other rows, of `other` rows.
    pub fn memory(&self) -> &[Memory; 3] {
        &self.tables
    }

    /// The books' counters, ingress first.
    pub fn cells(&self) -> [cell_count; (HOOKS * CELLS) as usize] {
        let mut cells = [cell_count::default(); (HOOKS * CELLS) as usize];
        // SAFETY: they are the first field of `struct cpu`, pairs of u64.
        let words = unsafe { slice::from_raw_parts(self.cpu.as_ptr(), 2 * cells.len()) };
        for (cell, pair) in cells.iter_mut().zip(words.chunks_exact(2)) {
            (cell.packets, cell.bytes) = (pair[0], pair[1]);
        }
        cells
    }

    /// All tables and books to zero, fragments forgotten.
    pub fn clear(&mut self) {
        for table in self.tables.iter().flatten() {
            // SAFETY: the whole mapping; whoever reads it meanwhile finds rows or none.
            unsafe { ptr::write_bytes(table.as_mut_ptr(), 0, table.len()) };
        }
        // SAFETY: as in `cells`.
        let words = self.cells().len() * 2;
        self.cpu[..words].fill(0);
        self.fragments.0.clear();
    }
}
