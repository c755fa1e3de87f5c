// SPDX-License-Identifier: MIT OR Apache-2.0
//! The BPF object: loading, configuring, reading, and running frames through it. The only place
//! that uses libbpf.
//!
//! One loaded object holds one interface's programs and tables, so nothing is ever keyed by an
//! ifindex that another network namespace uses as well. The tables are mapped into memory: a
//! reading costs no system call for the rows and one for the books.
#![allow(unsafe_code)]
use std::{
    cell::RefCell,
    collections::BTreeMap,
    ffi::c_void,
    fs::File,
    io,
    mem::{MaybeUninit, offset_of},
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    panic::resume_unwind,
    ptr,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{
    AsRawLibbpf, OpenObject,
    skel::{OpenSkel, SkelBuilder},
};
use memmap2::{MmapOptions, MmapRaw};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::time::TimeValLike,
    time::{ClockId, clock_getres},
};

use contract::{BEGIN_ETHERNET, BEGIN_IP, BEGIN_REPLAY, BEGIN_STATES, GROUP, cell_count};

use crate::kernel::{
    clock, lock,
    locked::Locked,
    privilege,
    probing::{Probes, map_array},
    timing::Timer,
};
use feed::{
    beside::{self, ClaimSlot, HandshakeSlot, NumberSlot, WaitingSlot},
    config::{port_kinds, random_seed, table_groups},
    packet::LONGEST_FRAME,
    table::Tables,
};
pub use feed::{
    config::{Config, L2tp, MAX_TPIDS, Port},
    packet::{LinkStart, Packet},
};
pub use model::cells::Cells;
use model::{
    beside::{Gathered, Numbered, Stream},
    flow::{Books, Hook},
    interface::Fill,
    rows::Rows,
    units::sanitize,
};

#[allow(warnings, clippy::all)]
mod entry_skel {
    include!(concat!(env!("OUT_DIR"), "/entry.skel.rs"));
}
use entry_skel::{EntrySkelBuilder, types};

#[allow(warnings, clippy::all)]
mod states_skel {
    include!(concat!(env!("OUT_DIR"), "/tmon.skel.rs"));
}
use states_skel::TmonSkelBuilder;

#[allow(warnings, clippy::all)]
mod probe_skel {
    include!(concat!(env!("OUT_DIR"), "/probe.skel.rs"));
}
use probe_skel::ProbeSkelBuilder;

#[allow(warnings, clippy::all)]
mod rtt_skel {
    include!(concat!(env!("OUT_DIR"), "/rtt.skel.rs"));
}
use rtt_skel::RttSkelBuilder;

const CELLS: usize = contract::CELLS as usize;
const BESIDES: usize = contract::BESIDES as usize;

// The programs are compiled for the contract that this was compiled for.
const _: () = assert!(size_of::<types::slot4>() == size_of::<contract::slot4>());
const _: () = assert!(size_of::<types::slot6>() == size_of::<contract::slot6>());
const _: () = assert!(offset_of!(types::cpu, books) == 0);
const _: () = assert!(offset_of!(types::cpu, beside) == size_of::<Cells>());

/// BPF_PROG_TEST_RUN rejects IPv6 frames shorter than 54 bytes, and anything shorter than an
/// Ethernet header.
const SHORTEST_FRAME: usize = 64;

/// How long a reader waits for an ager before it reads without the lock, which takes two passes.
const READER_PATIENCE: Duration = Duration::from_millis(100);
/// How long it then tries to read without the lock.
const LONGEST_READING: Duration = Duration::from_secs(1);

/// The layout of pinned tables; changes whenever another version could misread them.
pub const LAYOUT: u32 = contract::TMON_LAYOUT;

/// The objects to pin so that programs keep counting without a process, by name.
pub(crate) const OBJECTS: [&str; 24] = [
    "rows4",
    "rows4_tags",
    "rows4_more",
    "rows6",
    "rows6_tags",
    "rows6_more",
    "others",
    "others_tags",
    "others_more",
    "numbers",
    "claims",
    "handshakes",
    "waiting",
    "probes",
    "probe_rings",
    "probe_lenses",
    "probing",
    "cpus",
    "fragments",
    "ports",
    "states",
    "ingress",
    "egress",
    "now",
];

/// The programs and tables of one interface.
pub struct Program {
    ingress: OwnedFd,
    egress: OwnedFd,
    now: OwnedFd,
    /// Kept open: the kernel empties a program array that no process holds.
    states: OwnedFd,
    cpus: OwnedFd,
    /// The size of one CPU's record, which begins with the books.
    record: usize,
    fragments: OwnedFd,
    /// The programs' configuration, if known.
    config: Option<types::rodata>,
    /// Whether the programs for probers are loaded.
    has_probers: Mutex<bool>,
    numbers: Locked<NumberSlot>,
    /// The counts of forgotten streams, by tunnel.
    earlier: BTreeMap<Stream, Numbered>,
    claims: Locked<ClaimSlot>,
    handshakes: Locked<HandshakeSlot>,
    waiting: Locked<WaitingSlot>,
    /// The probed rows, and who probes them.
    pub(super) probes: Probes,
    /// The `BESIDE_` counters when the books were last read.
    besides: [AtomicU64; BESIDES],
    /// The maps of the tables: slots, tags and second counters of each.
    maps: [[OwnedFd; 3]; 3],
    pub(super) tables: Tables,
    ports: MmapRaw,
    ports_map: OwnedFd,
    /// The folder where these tables are pinned, if they are.
    folder: Option<File>,
    /// Whether another process held the folder's lock at the last reading.
    held: AtomicBool,
    age: Duration,
    swept: Instant,
}

pub(crate) fn dup(fd: BorrowedFd<'_>) -> Result<OwnedFd> {
    fd.try_clone_to_owned().context("duplicate a BPF descriptor")
}

/// Writes the meaning of a port into a mapped table of ports, while programs read it.
pub(crate) fn write_port(table: &MmapRaw, port: Port) {
    let table = table.as_mut_ptr().cast::<contract::ports>();
    for place in port.places_of_parameter() {
        // SAFETY: the mapping is as long as the table, and the place is inside it; the program
        // reads single bytes.
        unsafe { ptr::write_volatile(&raw mut (*table).parameter[place], port.parameter()) };
    }
    if let Some(place) = port.place() {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(&raw mut (*table).kind[place], port.entry()) };
    }
}

/// Copies the meaning of ports from a mapped table that others may be writing.
pub(crate) fn read_ports(table: &MmapRaw, to: &mut contract::ports) {
    let table = table.as_mut_ptr().cast::<contract::ports>();
    // SAFETY: the mapping is as long as the table, which is read and written byte by byte.
    let read = |at: *mut u8, to: &mut [u8]| unsafe {
        to.iter_mut().enumerate().for_each(|(i, to)| *to = ptr::read_volatile(at.add(i)));
    };
    // SAFETY: both are in the table.
    let (kind, parameter) = unsafe { (&raw mut (*table).kind, &raw mut (*table).parameter) };
    read(kind.cast(), &mut to.kind);
    read(parameter.cast(), &mut to.parameter);
}

pub(crate) fn port_table(map: BorrowedFd<'_>) -> Result<MmapRaw> {
    MmapOptions::new()
        .len(size_of::<contract::ports>())
        .map_raw(map.as_raw_fd())
        .context("map the port table")
}

/// Maps the tables of IPv4 rows, of all other rows, and of `other` rows.
fn map_tables(maps: &[[OwnedFd; 3]; 3]) -> Result<Tables> {
    let table = |[slots, tags, more]: &[OwnedFd; 3], slot| {
        Ok::<_, anyhow::Error>([
            map_array(slots.as_fd(), slot)?,
            map_array(tags.as_fd(), size_of::<u64>())?,
            map_array(more.as_fd(), size_of::<contract::more>())?,
        ])
    };
    let [rows4, rows6, others] = maps;
    let [small, large] = [size_of::<contract::slot4>(), size_of::<contract::slot6>()];
    Tables::of(&[table(rows4, small)?, table(rows6, large)?, table(others, large)?], false)
}

/// Copies the configuration of one object to another.
macro_rules! configure {
    ($open:ident, $own:expr) => {{
        let (cfg, own) = ($open.maps.rodata_data.as_deref_mut(), $own);
        let cfg = cfg.context("the BPF object has no configuration")?;
        (cfg.cfg_begin, cfg.cfg_replay, cfg.cfg_skb) = (own.cfg_begin, own.cfg_replay, own.cfg_skb);
        (cfg.cfg_plain, cfg.cfg_tpid) = (own.cfg_plain, own.cfg_tpid);
        (cfg.cfg_preempt, cfg.cfg_seed) = (own.cfg_preempt, own.cfg_seed);
        (cfg.cfg_mask4, cfg.cfg_mask6) = (own.cfg_mask4, own.cfg_mask6);
        (cfg.cfg_mask_others, cfg.cfg_loopback) = (own.cfg_mask_others, own.cfg_loopback);
    }};
}

/// Creates the maps of an object before its programs are loaded, so that other objects can share
/// them.
fn create_maps(object: &mut OpenObject) -> Result<Vec<(String, OwnedFd)>> {
    loading(|| {
        // SAFETY: the object is open and borrowed exclusively.
        match unsafe { libbpf_sys::bpf_object__prepare(object.as_libbpf_object().as_ptr()) } {
            0.. => Ok(()),
            e => Err(libbpf_rs::Error::from_raw_os_error(-e)),
        }
    })?;
    let fd = |map: libbpf_rs::OpenMap<'_>| {
        let name = map.name().to_string_lossy().trim_start_matches(".data.").to_owned();
        // SAFETY: the map belongs to the borrowed object.
        let fd = unsafe { libbpf_sys::bpf_map__fd(map.as_libbpf_object().as_ptr()) };
        ensure!(fd >= 0, "the map {name} was not created");
        // SAFETY: the borrowed object keeps the descriptor open.
        Ok((name, dup(unsafe { BorrowedFd::borrow_raw(fd) })?))
    };
    object.maps().map(fd).collect()
}

/// Lets an object that is not loaded yet share the maps of another, except its own.
fn share<'a>(
    object: &mut OpenObject,
    own: &[&str],
    maps: impl Fn(&str) -> Option<BorrowedFd<'a>>,
) -> Result<()> {
    for mut map in object.maps_mut() {
        let name = map.name().to_string_lossy().into_owned();
        if name.ends_with(".rodata") || own.contains(&name.as_str()) {
            continue;
        }
        let name = name.trim_start_matches(".data.");
        let shared = maps(name).with_context(|| format!("no map {name} to share"))?;
        map.reuse_fd(shared).with_context(|| format!("share the map {name}"))?;
    }
    Ok(())
}

/// Loads the states into the jump table of the entry programs, whose maps they share. Returns the
/// program that tells the time.
fn load_states(own: &types::rodata, maps: &[(String, OwnedFd)]) -> Result<OwnedFd> {
    let mut storage = MaybeUninit::uninit();
    let mut open = TmonSkelBuilder::default().open(&mut storage).context("open the BPF object")?;
    configure!(open, own);
    share(open.open_object_mut(), &[], |name| {
        maps.iter().find(|(known, _)| known == name).map(|(_, fd)| fd.as_fd())
    })?;
    let skel = loading(|| open.load())?;
    dup(skel.progs.tmon_now.as_fd())
}

/// Every CPU's record before the first packet: all zero except its number.
fn new_cpus(map: BorrowedFd<'_>) -> Result<()> {
    let cpus = libbpf_rs::num_possible_cpus().context("count the CPUs")?;
    let size = size_of::<types::cpu>().next_multiple_of(8);
    let mut values = vec![0u8; cpus * size];
    for (cpu, value) in (1u32..).zip(values.chunks_exact_mut(size)) {
        let at = offset_of!(types::cpu, number);
        value[at..at + 4].copy_from_slice(&cpu.to_ne_bytes());
    }
    let key = 0u32;
    // SAFETY: there is one value per possible CPU, each padded to 8 bytes.
    let e = unsafe {
        libbpf_sys::bpf_map_update_elem(
            map.as_raw_fd(),
            ptr::from_ref(&key).cast(),
            values.as_ptr().cast(),
            0,
        )
    };
    ensure!(e == 0, "reset the books: {}", io::Error::from_raw_os_error(-e));
    Ok(())
}

impl Program {
    /// Loads the programs. Fails without privilege, and if the kernel or its verifier refuses.
    pub fn load(config: &Config) -> Result<Program> {
        let mut storage = MaybeUninit::uninit();
        let mut open =
            EntrySkelBuilder::default().open(&mut storage).context("open the BPF object")?;
        let [rows, others] = table_groups(config);
        let seed = config.seed.map_or_else(random_seed, Ok)?;
        let cfg =
            open.maps.rodata_data.as_deref_mut().context("the BPF object has no configuration")?;
        // On PREEMPT_RT the books need atomic adds.
        let preempt =
            std::fs::read_to_string("/proc/version").is_ok_and(|v| v.contains("PREEMPT_RT"));
        cfg.cfg_begin = match config {
            Config { states: true, .. } => BEGIN_STATES,
            Config { replay: true, .. } => BEGIN_REPLAY,
            Config { l3: true, .. } => BEGIN_IP,
            _ => BEGIN_ETHERNET,
        } as u8;
        ensure!(config.replay || !config.states, "only frames of a capture go by the states alone");
        cfg.cfg_replay = config.replay.into();
        cfg.cfg_skb = config.skb.into();
        cfg.cfg_plain = config.plain.into();
        cfg.cfg_loopback = config.loopback.into();
        cfg.cfg_preempt = preempt.into();
        // Code compiled for the usual case does not read the configuration.
        let usual = cfg.cfg_begin == BEGIN_ETHERNET as u8
            && [cfg.cfg_replay, cfg.cfg_skb, cfg.cfg_plain, cfg.cfg_preempt] == [0; 4];
        let last = |groups: u32| groups * GROUP as u32 - 1;
        (cfg.cfg_mask4, cfg.cfg_mask6, cfg.cfg_mask_others) =
            (last(rows), last(rows), last(others));
        cfg.cfg_seed = seed;
        ensure!(
            config.tpids.len() <= MAX_TPIDS,
            "{} EtherTypes given for VLAN tags, but at most {MAX_TPIDS} are possible",
            config.tpids.len()
        );
        for (slot, tpid) in cfg.cfg_tpid.iter_mut().zip(&config.tpids) {
            *slot = *tpid;
        }
        let configured = *cfg;
        for (program, is_usual) in [
            (&mut open.progs.tmon_ingress, true),
            (&mut open.progs.tmon_egress, true),
            (&mut open.progs.tmon_in_any, false),
            (&mut open.progs.tmon_out_any, false),
        ] {
            program.set_autoload(is_usual == usual);
        }
        let table = &mut open
            .maps
            .data_ports_data
            .as_deref_mut()
            .context("the BPF object has no port table")?
            .ports;
        port_kinds(config, &mut table.kind, &mut table.parameter);
        // One group more than the programs use: for the interface's aged rows.
        let maps = &mut open.maps;
        let slots = |groups: u32| groups * GROUP as u32;
        for (map, elements) in [
            (&mut maps.rows4, slots(rows)),
            (&mut maps.rows4_more, slots(rows)),
            (&mut maps.rows4_tags, rows),
            (&mut maps.rows6, slots(rows)),
            (&mut maps.rows6_more, slots(rows)),
            (&mut maps.rows6_tags, rows),
            (&mut maps.others, slots(others + 1)),
            (&mut maps.others_more, slots(others + 1)),
            (&mut maps.others_tags, others + 1),
        ] {
            map.set_max_entries(elements).context("set the size of a flow table")?;
        }
        let created = create_maps(open.open_object_mut())?;
        // Verifying the states takes as long as verifying the entry programs.
        let (skel, now) = thread::scope(|scope| {
            let states = || load_states(&configured, &created);
            let beside = thread::Builder::new().spawn_scoped(scope, states);
            let skel = loading(|| open.load());
            let now = match beside {
                Ok(thread) => thread.join().unwrap_or_else(|panic| resume_unwind(panic)),
                Err(_) => states(), // no more threads may be started
            };
            (skel, now)
        });
        let (skel, now) = (skel?, now?);
        new_cpus(skel.maps.cpus.as_fd())?;
        let maps = &skel.maps;
        let three = |slots: BorrowedFd<'_>, tags: BorrowedFd<'_>, more: BorrowedFd<'_>| {
            Ok::<_, anyhow::Error>([dup(slots)?, dup(tags)?, dup(more)?])
        };
        let maps = [
            three(maps.rows4.as_fd(), maps.rows4_tags.as_fd(), maps.rows4_more.as_fd())?,
            three(maps.rows6.as_fd(), maps.rows6_tags.as_fd(), maps.rows6_more.as_fd())?,
            three(maps.others.as_fd(), maps.others_tags.as_fd(), maps.others_more.as_fd())?,
        ];
        let progs = &skel.progs;
        let [ingress, egress] = match usual {
            true => [&progs.tmon_ingress, &progs.tmon_egress],
            false => [&progs.tmon_in_any, &progs.tmon_out_any],
        };
        Ok(Program {
            ingress: dup(ingress.as_fd())?,
            egress: dup(egress.as_fd())?,
            now,
            states: dup(skel.maps.states.as_fd())?,
            cpus: dup(skel.maps.cpus.as_fd())?,
            record: size_of::<types::cpu>(),
            fragments: dup(skel.maps.fragments.as_fd())?,
            config: Some(configured),
            has_probers: Mutex::new(false),
            numbers: Locked::of(dup(skel.maps.numbers.as_fd())?),
            earlier: BTreeMap::new(),
            claims: Locked::of(dup(skel.maps.claims.as_fd())?),
            handshakes: Locked::of(dup(skel.maps.handshakes.as_fd())?),
            waiting: Locked::of(dup(skel.maps.waiting.as_fd())?),
            probes: Probes::of([
                dup(skel.maps.probes.as_fd())?,
                dup(skel.maps.probe_rings.as_fd())?,
                dup(skel.maps.probe_lenses.as_fd())?,
                dup(skel.maps.data_probing.as_fd())?,
            ])?,
            besides: Default::default(),
            tables: map_tables(&maps)?,
            maps,
            ports: port_table(skel.maps.data_ports.as_fd())?,
            ports_map: dup(skel.maps.data_ports.as_fd())?,
            folder: None,
            held: AtomicBool::new(false),
            age: config.age,
            swept: Instant::now(),
        })
    }

    /// Loads the programs that examine packets of probed rows, unless they are loaded already: see
    /// `bpf/probe.bpf.c`.
    pub(crate) fn load_probers(&self) -> Result<()> {
        let mut has_probers = self.has_probers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = self.config.as_ref().filter(|_| !*has_probers) else { return Ok(()) };
        let mut storage = MaybeUninit::uninit();
        let mut open =
            ProbeSkelBuilder::default().open(&mut storage).context("open the probers' programs")?;
        configure!(open, own);
        share(open.open_object_mut(), &[], |name| self.map(name))?;
        // This also enters them into the jump table.
        loading(|| open.load())?;
        *has_probers = true;
        Ok(())
    }

    /// Loads the program that times packets of probed rows, with tables of its own. `l3`: they have
    /// no link header.
    pub(super) fn load_timer(&self, l3: bool) -> Result<Timer> {
        let mut storage = MaybeUninit::uninit();
        let mut open =
            RttSkelBuilder::default().open(&mut storage).context("open the program for times")?;
        let cfg =
            open.maps.rodata_data.as_deref_mut().context("the program has no configuration")?;
        cfg.cfg_begin = if l3 { BEGIN_IP } else { BEGIN_ETHERNET } as u8;
        cfg.cfg_seed = random_seed()?;
        if let Some(own) = &self.config {
            (cfg.cfg_begin, cfg.cfg_tpid) = (own.cfg_begin, own.cfg_tpid);
        }
        let own = ["rtt_flows", "rtt_rows", "rtt_lost"];
        share(open.open_object_mut(), &own, |name| self.map(name))?;
        let skel = loading(|| open.load())?;
        let maps = &skel.maps;
        let (rows, lost) = (dup(maps.rtt_rows.as_fd())?, dup(maps.rtt_lost.as_fd())?);
        Ok(Timer::of(rows, lost, dup(self.states.as_fd())?))
    }

    /// The map of this name.
    fn map(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.objects().find(|(known, _)| *known == name).map(|(_, map)| map)
    }

    /// The objects that [`OBJECTS`] names.
    pub(crate) fn objects(&self) -> impl Iterator<Item = (&'static str, BorrowedFd<'_>)> {
        OBJECTS.into_iter().zip(self.maps.iter().flatten().map(OwnedFd::as_fd).chain([
            self.numbers.map(),
            self.claims.map(),
            self.handshakes.map(),
            self.waiting.map(),
            self.probes.places.map(),
            self.probes.rings.as_fd(),
            self.probes.lenses.as_fd(),
            self.probes.map.as_fd(),
            self.cpus.as_fd(),
            self.fragments.as_fd(),
            self.ports_map.as_fd(),
            self.states.as_fd(),
            self.ingress.as_fd(),
            self.egress.as_fd(),
            self.now.as_fd(),
        ]))
    }

    /// Makes a program of pinned objects.
    ///
    /// # Errors
    /// One is missing, or is not what this version expects.
    pub(crate) fn from_objects(get: impl Fn(&str) -> Result<OwnedFd>) -> Result<Program> {
        let table = |name: &str| {
            let beside = |what| get(&format!("{name}_{what}"));
            Ok::<_, anyhow::Error>([get(name)?, beside("tags")?, beside("more")?])
        };
        let tables = [table("rows4")?, table("rows6")?, table("others")?];
        let cpus = get("cpus")?;
        let mut info = libbpf_sys::bpf_map_info::default();
        let mut len = size_of_val(&info) as u32;
        // SAFETY: the kernel writes at most `len` bytes of plain numbers.
        let e =
            unsafe { libbpf_sys::bpf_map_get_info_by_fd(cpus.as_raw_fd(), &mut info, &mut len) };
        // After the books there is what the attached programs remember about a packet, which is
        // theirs alone.
        let (record, books) = (info.value_size as usize, size_of::<Cells>() + 8 * BESIDES);
        ensure!(e == 0 && record >= books, "the books have {record} bytes, not {books}");
        let ports_map = get("ports")?;
        Ok(Program {
            ingress: get("ingress")?,
            egress: get("egress")?,
            now: get("now")?,
            states: get("states")?,
            cpus,
            record,
            fragments: get("fragments")?,
            config: None,
            has_probers: Mutex::new(true),
            numbers: Locked::of(get("numbers")?),
            earlier: BTreeMap::new(),
            claims: Locked::of(get("claims")?),
            handshakes: Locked::of(get("handshakes")?),
            waiting: Locked::of(get("waiting")?),
            probes: Probes::of([
                get("probes")?,
                get("probe_rings")?,
                get("probe_lenses")?,
                get("probing")?,
            ])?,
            besides: Default::default(),
            tables: map_tables(&tables)?,
            maps: tables,
            ports: port_table(ports_map.as_fd())?,
            ports_map,
            folder: None,
            held: AtomicBool::new(false),
            age: Duration::ZERO,
            swept: Instant::now(),
        })
    }

    /// The same for tables that other processes read and age as well: each locks the folder in
    /// which they are pinned. The kernel releases the lock of a process that is killed.
    pub(crate) fn shared(self, folder: File) -> Program {
        Program { folder: Some(folder), ..self }
    }

    /// The same with rows that age after this time; see [`Config::age`].
    pub(crate) fn ageing(self, age: Duration) -> Program {
        Program { age, ..self }
    }

    /// Prevents others from ageing rows in pinned tables. `None` if another process holds the lock
    /// and does not release it soon, for example an ager that was stopped.
    fn lock(&self, folder: &File) -> io::Result<Option<Flock<File>>> {
        let patience =
            if self.held.load(Ordering::Relaxed) { Duration::ZERO } else { READER_PATIENCE };
        let lock = lock::take(folder.try_clone()?, FlockArg::LockSharedNonblock, patience)?;
        self.held.store(lock.is_none(), Ordering::Relaxed);
        Ok(lock)
    }

    /// The process that held the lock of pinned tables at the last reading, if that went without
    /// it.
    pub fn held_by(&self) -> Option<String> {
        let folder = self.folder.as_ref().filter(|_| self.held.load(Ordering::Relaxed))?;
        Some(lock::holder(folder))
    }

    /// The entry program of a hook.
    pub fn entry(&self, hook: Hook) -> BorrowedFd<'_> {
        match hook {
            Hook::Rx => self.ingress.as_fd(),
            Hook::Tx => self.egress.as_fd(),
        }
    }

    /// Makes this UDP port lead to that tunnel from now on.
    pub fn set_port(&self, port: Port) {
        write_port(&self.ports, port);
    }

    /// Copies the programs' current meaning of UDP ports.
    pub(crate) fn read_ports(&self, to: &mut contract::ports) {
        read_ports(&self.ports, to);
    }

    /// Runs one frame through a hook's entry program, which must have been loaded with
    /// [`Config::replay`]. Any frame is accepted: it is padded or truncated to what the kernel
    /// takes, and the program learns how much was really captured. Returns the program's return
    /// value.
    pub fn run(&self, hook: Hook, packet: &Packet<'_>) -> Result<i32> {
        self.run_at(hook, packet, 0)
    }

    /// The same for a packet with this time, on the clock of [`Program::age_at`].
    pub fn run_at(&self, hook: Hook, packet: &Packet<'_>, now: u32) -> Result<i32> {
        let least = if packet.start == LinkStart::Ethernet { 0 } else { 14 };
        let proto = packet.start.number();
        let caught = packet.caught();
        // Padding comes first: the end of the captured data is where the program sees the packet
        // end.
        let off = SHORTEST_FRAME.saturating_sub(caught).max(least);
        let mut buffer = [0u8; LONGEST_FRAME];
        buffer[off..off + caught].copy_from_slice(&packet.data[..caught]);
        // SAFETY: integers and null pointers. Zeroed as a whole, because the kernel rejects nonzero
        // padding.
        let mut skb: types::__sk_buff = unsafe { MaybeUninit::zeroed().assume_init() };
        skb.tstamp = packet.time;
        skb.gso_segs = packet.gso_segs.into();
        skb.gso_size = packet.gso_size.into();
        skb.cb = [
            packet.wire_len.saturating_add(packet.link_len),
            now,
            off as u32,
            proto,
            packet.wire_len,
        ];
        test_run(self.entry(hook), &buffer[..off + caught], Some(&mut skb), 1).map(|r| r.0)
    }

    /// Runs a frame unchanged `repeat` times. Returns the program's return value and its mean
    /// duration in nanoseconds.
    pub fn repeat(&self, hook: Hook, frame: &[u8], repeat: i32) -> Result<(i32, u32)> {
        test_run(self.entry(hook), frame, None, repeat)
    }

    /// Ages rows as [`Config::age`] says: only now and then, not at every call.
    ///
    /// # Errors
    /// Those of [`Program::age`]; rows do not age from then on, so it is reported once.
    pub fn sweep(&mut self) -> Result<()> {
        let pause = (self.age / 16).clamp(Duration::from_millis(500), Duration::from_secs(10));
        if self.age.is_zero() || self.swept.elapsed() < pause {
            return Ok(());
        }
        self.swept = Instant::now();
        let _alone = match &self.folder {
            None => None,
            Some(folder) => {
                let alone = folder.try_clone().and_then(|folder| {
                    lock::take(folder, FlockArg::LockExclusiveNonblock, Duration::ZERO)
                });
                let Ok(Some(alone)) = alone else { return Ok(()) };
                Some(alone)
            }
        };
        self.age(self.age).map(drop).inspect_err(|_| self.age = Duration::ZERO)
    }

    /// Moves the counts of rows that have been idle for `idle` to their tunnels' aged rows. Returns
    /// the number of these rows. Nobody else may read or age these tables meanwhile.
    ///
    /// # Errors
    /// The kernel has no way to wait for running programs: nothing has changed.
    pub fn age(&self, idle: Duration) -> Result<usize> {
        let (now, jiffy) = clock(self.now.as_fd())?;
        let jiffies = idle.as_nanos() / jiffy.as_nanos();
        self.tables.age(now, jiffies.min(i32::MAX as u128) as u32)
    }

    /// The same by the clock of a capture: for rows idle for more than `idle` ticks at `now`.
    ///
    /// # Errors
    /// As for [`Program::age`].
    pub fn age_at(&self, now: u32, idle: u32) -> Result<usize> {
        self.tables.age(now, idle)
    }

    /// Reads the books' counters and those beside them: a CPU's record begins with both.
    pub fn cells(&self) -> Result<Cells> {
        let cpus = libbpf_rs::num_possible_cpus().context("count the CPUs")?;
        let size = self.record.next_multiple_of(8);
        let mut values = vec![0u64; cpus * size / 8];
        let key = 0u32;
        // SAFETY: the kernel writes one value per possible CPU, each padded to 8 bytes.
        let e = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.cpus.as_raw_fd(),
                ptr::from_ref(&key).cast(),
                values.as_mut_ptr().cast::<c_void>(),
            )
        };
        if e != 0 {
            return Err(io::Error::from_raw_os_error(-e)).context("read the books");
        }
        let mut sum = [cell_count::default(); 2 * CELLS];
        let mut besides = [0u64; BESIDES];
        for cpu in values.chunks_exact(size / 8) {
            for (cell, words) in sum.iter_mut().zip(cpu.chunks_exact(2)) {
                cell.packets = cell.packets.wrapping_add(words[0]);
                cell.bytes = cell.bytes.wrapping_add(words[1]);
            }
            for (sum, word) in besides.iter_mut().zip(&cpu[size_of::<Cells>() / 8..]) {
                *sum = sum.wrapping_add(*word);
            }
        }
        for (last, sum) in self.besides.iter().zip(besides) {
            last.store(sum, Ordering::Relaxed);
        }
        Ok(Cells::new(sum))
    }

    /// Adds what is known beside the rows, for the interface with this `id`: as of when the books
    /// were last read.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn beside(&mut self, interface: u64, all: &mut Gathered) -> Result<()> {
        let of = |beside: contract::beside| self.besides[beside as usize].load(Ordering::Relaxed);
        let now = || clock(self.now.as_fd());
        for slot in self.numbers.read(of(contract::BESIDE_NUMBERED), now)? {
            let (stream, n) = beside::stream(interface, &slot.key, &slot.numbers);
            let tunnel = Stream { id: stream.tunnel_id(), interface: 0, ..stream };
            self.earlier.entry(tunnel).or_default().add(&Numbered { missing: 0, ..n });
        }
        self.claims.read(of(contract::BESIDE_CLAIMED), now)?;
        let streams = self.numbers.known.iter();
        all.add_streams(streams.map(|s| beside::stream(interface, &s.key, &s.numbers)));
        for (tunnel, n) in &self.earlier {
            all.earlier.entry(Stream { interface, ..*tunnel }).or_default().add(n);
        }
        let claims = self.claims.known.iter();
        all.add_claims(claims.map(|s| beside::claim(interface, &s.key, &s.claims)));
        all.unnumbered += of(contract::BESIDE_UNNUMBERED);
        all.unclaimed += of(contract::BESIDE_UNCLAIMED);
        self.handshakes_beside(interface, all)
    }

    /// The same for TCP handshakes. An entry that has been idle for so long that its slot is freed
    /// has no row to be shown with, since rows age.
    fn handshakes_beside(&mut self, interface: u64, all: &mut Gathered) -> Result<()> {
        let of = |beside: contract::beside| self.besides[beside as usize].load(Ordering::Relaxed);
        self.handshakes.read(of(contract::BESIDE_OPENINGS), || clock(self.now.as_fd()))?;
        let (now, known) = (all.now, self.handshakes.known.iter());
        all.add_handshakes(known.map(|s| beside::handshakes(interface, &s.key, &s.n, now)));
        all.unfollowed += of(contract::BESIDE_UNFOLLOWED);
        all.displaced += of(contract::BESIDE_DISPLACED);
        Ok(())
    }

    /// Makes room among the probes when it becomes scarce: to be called now and then.
    pub(super) fn free_probes(&mut self) -> Result<()> {
        let second = clock::host::packets() >> 30;
        let now = || clock(self.now.as_fd());
        self.probes.places.read(second, now).map(drop)
    }

    /// Packets of probed rows that were not examined because they had used up their tail calls.
    pub fn unprobed(&self) -> u64 {
        self.besides[contract::BESIDE_UNPROBED as usize].load(Ordering::Relaxed)
    }

    /// The books, summed over all CPUs.
    pub fn books(&self) -> Result<Books> {
        Ok(self.cells()?.books())
    }

    /// Appends every row, with `other` rows and the overflow row last, for interface `interface`.
    pub fn rows(&self, interface: u16, rows: &mut Rows) -> Result<Fill> {
        Ok(self.rows_beside(&self.cells()?, interface, rows).0)
    }

    /// The same if the books have been read already. Returns false if others were modifying the
    /// tables all the time, so that the rows may not add up.
    pub fn rows_beside(&self, cells: &Cells, interface: u16, rows: &mut Rows) -> (Fill, bool) {
        let lock = self.folder.as_ref().map(|folder| self.lock(folder));
        let exclusive = lock.as_ref().is_none_or(|lock| matches!(lock, Ok(Some(_))));
        let (began, start) = (Instant::now(), rows.position());
        let (fill, place, whole) = loop {
            let (fill, place, whole) = self.tables.read(interface, rows);
            if exclusive || whole || began.elapsed() > LONGEST_READING {
                break (fill, place, exclusive || whole);
            }
            rows.rewind(start);
        };
        cells.overflow(place, interface, rows);
        (fill, whole)
    }

    /// Resets all tables and books to zero and forgets all fragments. Nothing may be counting
    /// meanwhile.
    pub fn clear(&self) -> Result<()> {
        self.tables.clear();
        self.cells()?;
        let is_used =
            |beside: contract::beside| self.besides[beside as usize].load(Ordering::Relaxed) > 0;
        if is_used(contract::BESIDE_NUMBERED) {
            self.numbers.clear()?;
        }
        if is_used(contract::BESIDE_CLAIMED) {
            self.claims.clear()?;
        }
        if is_used(contract::BESIDE_OPENINGS) {
            self.handshakes.clear()?;
            self.waiting.clear()?;
        }
        self.probes.places.clear()?;
        new_cpus(self.cpus.as_fd())?;
        let mut key = [0u8; size_of::<types::fragment_key>()];
        let (fd, key) = (self.fragments.as_raw_fd(), key.as_mut_ptr().cast::<c_void>());
        // SAFETY: the key has the size of the map's.
        while unsafe {
            libbpf_sys::bpf_map_get_next_key(fd, ptr::null(), key) == 0
                && libbpf_sys::bpf_map_delete_elem(fd, key) == 0
        } {}
        Ok(())
    }
}

/// Whether a program is known to be gone. Only CAP_SYS_ADMIN may query it.
pub(crate) fn is_gone(id: u32) -> bool {
    // SAFETY: no pointers.
    match unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) } {
        // SAFETY: a descriptor that nobody else owns.
        fd if fd >= 0 => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
        e => return e == -libc::ENOENT,
    }
    false
}

fn test_run(
    program: BorrowedFd<'_>,
    data: &[u8],
    skb: Option<&mut types::__sk_buff>,
    repeat: i32,
) -> Result<(i32, u32)> {
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: data.as_ptr().cast(),
        data_size_in: data.len() as u32,
        repeat,
        ..Default::default()
    };
    if let Some(skb) = skb {
        opts.ctx_in = ptr::from_mut(skb).cast();
        opts.ctx_size_in = size_of::<types::__sk_buff>() as u32;
    }
    // SAFETY: the pointers in opts live until the call returns.
    let e = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut opts) };
    if e != 0 {
        return Err(io::Error::from_raw_os_error(-e))
            .context("run a frame through the BPF program");
    }
    Ok((opts.retval as i32, opts.duration))
}

/// The kernel's time in jiffies, and the length of a jiffy.
fn clock(now: BorrowedFd<'_>) -> Result<(u32, Duration)> {
    let jiffy = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)
        .context("get the length of a jiffy")?
        .num_nanoseconds()
        .unsigned_abs();
    let (now, _) = test_run(now, &[0; SHORTEST_FRAME], None, 1)?;
    Ok((now as u32, Duration::from_nanos(jiffy.max(1))))
}

thread_local! {
    /// libbpf's messages while this thread loaded programs; the verifier's log is among them.
    static SAID: RefCell<String> = const { RefCell::new(String::new()) };
}

fn overhear(_: libbpf_rs::PrintLevel, text: String) {
    SAID.with_borrow_mut(|said| {
        if said.len() < 4 << 20 {
            said.push_str(&text);
        }
    });
}

/// From now on libbpf prints nothing itself: callers report what went wrong.
pub(crate) fn quieten() {
    libbpf_rs::set_print(Some((libbpf_rs::PrintLevel::Warn, overhear)));
}

/// Loads an object; an error is one line that says what was wrong.
pub(crate) fn loading<T>(load: impl FnOnce() -> libbpf_rs::Result<T>) -> Result<T> {
    quieten();
    SAID.take();
    load().map_err(|e| load_error(&e, &SAID.take()))
}

fn load_error(e: &libbpf_rs::Error, said: &str) -> anyhow::Error {
    let missing = privilege::missing();
    if let Some(map) = uncreated(said).filter(|_| missing.is_empty()) {
        return anyhow::anyhow!(
            "the kernel cannot allocate the table `{map}` ({e}): the memory of this host, or the limit of the service, container or user (MemoryMax=, `ulimit -l`), is exhausted; use fewer --rows"
        );
    }
    match (refusal(said), e.kind()) {
        // The verifier's own refusals come with a log.
        (None, libbpf_rs::ErrorKind::PermissionDenied) => {
            anyhow::anyhow!("not allowed to load BPF programs: {}", privilege::advice(&missing))
        }
        (_, libbpf_rs::ErrorKind::PermissionDenied) if !missing.is_empty() => {
            anyhow::anyhow!("not allowed to load BPF programs: {}", privilege::advice(&missing))
        }
        (Some(why), _) => anyhow::anyhow!(
            "the kernel's verifier refused the BPF programs: {why}; `tmon check` shows what this kernel supports"
        ),
        (None, _) => anyhow::anyhow!(
            "the kernel refused the BPF programs ({e}): `tmon check` shows what this kernel supports"
        ),
    }
}

/// The map that could not be made.
fn uncreated(said: &str) -> Option<String> {
    let line = said.lines().find(|line| line.contains(": failed to create: "))?;
    Some(sanitize(line.split('\'').nth(1)?).into_owned())
}

/// The program that the verifier rejected, and its last message: the reason.
fn refusal(said: &str) -> Option<String> {
    let (before, log) = said.split_once("BEGIN PROG LOAD LOG")?;
    let name = before.rsplit("prog '").next()?.split('\'').next()?;
    let log = log.split("END PROG LOAD LOG").next()?;
    let is_reason = |line: &&str| {
        !line.is_empty() && !line.starts_with("--") && !line.starts_with("processed ")
    };
    let reason = log.lines().map(str::trim).rfind(is_reason)?;
    Some(format!("{name}: {}", sanitize(reason)))
}
