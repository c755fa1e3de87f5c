// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the kernel drops, by drop reason: loads `bpf/drops.bpf.c` and reads its tables.
//!
//! This is a separate object, and its failure affects nothing else: see [`Drops::unavailable`].
#![allow(unsafe_code)]
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ffi::c_void,
    io,
    mem::{MaybeUninit, size_of, transmute},
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    path::Path,
    ptr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use contract::{ROW_DIR, key6, prober};
use libbpf_rs::{
    MapCore,
    btf::{Btf, types::Enum},
    skel::{OpenSkel, SkelBuilder},
};
use memmap2::{MmapOptions, MmapRaw};

use crate::kernel::{
    bpf::{Config, Port, dup, loading, port_table, read_ports, write_port},
    clock::host,
    probe::{Caught, Wish},
    probing::map_array,
    ring::Ring,
};
use feed::{config::port_kinds, table::grace_period};
use model::{
    drops::{DeviceDrops, DropKey, Dropped, Drops, Victim},
    flow::{Count, Key, Kind},
    rows::{Rows, decoded},
    units::sanitize,
};

#[allow(warnings, clippy::all)]
mod skel {
    include!(concat!(env!("OUT_DIR"), "/drops.skel.rs"));
}
use skel::{DropsSkelBuilder, types};

const _: () = assert!(size_of::<types::key6>() == size_of::<key6>());
const _: () = assert!(size_of::<types::prober>() == size_of::<prober>());

/// The path of the kernel's type information.
const BTF: &str = "/sys/kernel/btf/vmlinux";
/// The number of reasons that are counted if the table is full, see `bpf/drops.h`: the kernel's
/// own, then those of subsystems.
const CORE_REASONS: u32 = 512;
const SUBSYSTEMS: u32 = 8;
const SUBSYSTEM_REASONS: u32 = 64;
const SLOTS: u32 = CORE_REASONS + SUBSYSTEMS * SUBSYSTEM_REASONS;

/// A namespace and a tunnel device in it (0: the namespace itself): inode number and index.
pub(crate) type Scope = (u32, u32);

/// A device: the name of its namespace, and its own name.
pub(crate) type Device = (Option<Arc<str>>, Arc<str>);

/// A namespace for display.
#[derive(Clone, Debug, Default)]
pub(crate) struct Space {
    /// Its name; `None` for the caller's own.
    pub(crate) name: Option<Arc<str>>,
    /// Whether it is not one of the watched ones.
    pub(crate) elsewhere: bool,
}

impl Space {
    /// A namespace without a known name.
    pub(crate) fn unnamed(inode: u32) -> Space {
        Space { name: Some(format!("net:[{inode}]").into()), elsewhere: true }
    }
}

/// Counts the kernel's drops until it is dropped itself.
pub struct DropWatch {
    /// The attached program, unless it also captures packets.
    link: Option<OwnedFd>,
    program: OwnedFd,
    drops: OwnedFd,
    /// The number of keys in the table.
    most: usize,
    others: MmapRaw,
    _others_map: OwnedFd,
    works: OwnedFd,
    scopes: OwnedFd,
    _ports_map: OwnedFd,
    ports: MmapRaw,
    reasons: Arc<Reasons>,
    /// The wall-clock time at which the kernel's clock was zero.
    origin: SystemTime,
    /// The namespaces and devices that are watched.
    looked: BTreeMap<Scope, Option<(Kind, Option<u32>)>>,
    /// Whether there is a row for the key given by headers that were removed.
    rows: HashMap<Key, bool>,
    /// The number of drops at the last reading that found no change.
    settled: Option<u64>,
    before: u64,
    latest: Arc<Drops>,
}

/// The contents of the tables.
pub(crate) struct Counted {
    rows: Vec<(types::drop_key, types::drop_value)>,
    /// The counts without a row, by slot and `enum drop_of`.
    others: Vec<(u32, types::drop_count)>,
    elsewhere: u64,
    missed: u64,
}

impl Counted {
    /// The inode numbers of the namespaces in which packets were dropped.
    pub(crate) fn namespaces(&self) -> BTreeSet<u32> {
        self.rows.iter().map(|(key, _)| key.netns).collect()
    }
}

impl DropWatch {
    /// Loads and attaches the program; `all`: for all network namespaces. Otherwise none are
    /// watched yet.
    ///
    /// # Errors
    /// Why this kernel, or these privileges, do not allow it: one line.
    pub fn open(all: bool, config: &Config) -> Result<DropWatch> {
        Ok(DropWatch::load(all, config, None)?.0)
    }

    /// The same, but also captures some of the packets.
    ///
    /// # Errors
    /// As above; also, the filter is too long or there is no memory for the ring.
    pub(crate) fn catching(config: &Config, wish: &Wish) -> Result<(DropWatch, DropRing)> {
        let (mut watch, ring) = DropWatch::load(false, config, Some(wish))?;
        let mut ring = ring.context("it has no ring")?;
        ring.link = watch.link.take();
        Ok((watch, ring))
    }

    fn load(
        all: bool,
        config: &Config,
        wish: Option<&Wish>,
    ) -> Result<(DropWatch, Option<DropRing>)> {
        ensure!(
            Path::new(BTF).exists(),
            "this kernel has no type information (CONFIG_DEBUG_INFO_BTF)"
        );
        let reasons = Arc::new(Reasons::read()?);
        let mut storage = MaybeUninit::uninit();
        let mut open = DropsSkelBuilder::default().open(&mut storage).context("open the object")?;
        let cfg = open.maps.rodata_data.as_deref_mut().context("it has no configuration")?;
        (cfg.cfg_all, cfg.cfg_skb) = (all.into(), config.skb.into());
        for (slot, tpid) in cfg.cfg_tpid.iter_mut().zip(&config.tpids) {
            *slot = *tpid;
        }
        let table = &mut open.maps.data_ports_data.as_deref_mut().context("it has no ports")?.ports;
        port_kinds(config, &mut table.kind, &mut table.parameter);
        let size = wish.and_then(|w| w.ring);
        if let Some(size) = size {
            cfg.cfg_catch = 1;
            open.maps.drop_ring.set_max_entries(size).context("set the size of the ring")?;
        }
        let skel = loading(|| open.load())?;
        let program = dup(skel.progs.tmon_drop.as_fd())?;
        let ring = match wish.zip(size) {
            None => None,
            Some((wish, size)) => {
                let map = dup(skel.maps.drop_ring.as_fd())?;
                let ring = Ring::of(map.as_fd(), size as usize)?;
                let catcher = map_array(skel.maps.catcher.as_fd(), size_of::<prober>())?;
                let tests = wish.filter.tests("").map_err(anyhow::Error::msg)?;
                let all = wish.prober(&tests.unwrap_or_default());
                // SAFETY: inside the mapping, and no program runs yet.
                unsafe { ptr::write_volatile(catcher.as_mut_ptr().cast(), all) };
                Some(DropRing {
                    link: None,
                    program: dup(program.as_fd())?,
                    ring,
                    _map: map,
                    catcher,
                    reasons: Arc::clone(&reasons),
                })
            }
        };
        // SAFETY: no name is passed: the program itself says where it attaches.
        let link = unsafe { libbpf_sys::bpf_raw_tracepoint_open(ptr::null(), program.as_raw_fd()) };
        if link < 0 {
            return Err(io::Error::from_raw_os_error(-link))
                .context("attach to the kernel's tracepoint kfree_skb");
        }
        let maps = &skel.maps;
        let watch = DropWatch {
            // SAFETY: a descriptor that nothing else owns.
            link: Some(unsafe { OwnedFd::from_raw_fd(link) }),
            program,
            drops: dup(maps.drops.as_fd())?,
            most: maps.drops.max_entries() as usize,
            others: MmapOptions::new()
                .len((SLOTS * DROPS_OF) as usize * size_of::<types::drop_count>())
                .map_raw_read_only(maps.others.as_fd().as_raw_fd())
                .context("map the drops that have no row")?,
            _others_map: dup(maps.others.as_fd())?,
            works: dup(maps.works.as_fd())?,
            scopes: dup(maps.scopes.as_fd())?,
            ports: port_table(maps.data_ports.as_fd())?,
            _ports_map: dup(maps.data_ports.as_fd())?,
            reasons,
            origin: SystemTime::UNIX_EPOCH,
            looked: BTreeMap::new(),
            rows: HashMap::new(),
            settled: None,
            before: 0,
            latest: Arc::default(),
        };
        Ok((watch, ring))
    }

    /// The number of drop reasons with names in this kernel.
    pub fn reasons(&self) -> usize {
        self.reasons.0.len()
    }

    /// Whether this kernel has a reason with this name.
    pub fn knows(&self, reason: &str) -> bool {
        self.reasons.0.values().any(|name| **name == *reason)
    }

    /// Decodes this UDP port as that tunnel from now on.
    pub(crate) fn set_port(&self, port: Port) {
        write_port(&self.ports, port);
    }

    /// Copies the current meaning of UDP ports.
    pub(crate) fn read_ports(&self, to: &mut contract::ports) {
        read_ports(&self.ports, to);
    }

    /// Watches these namespaces and tunnel devices from now on, and no others.
    ///
    /// # Errors
    /// The kernel rejects one, because there are too many.
    pub(crate) fn look_at(
        &mut self,
        scopes: BTreeMap<Scope, Option<(Kind, Option<u32>)>>,
    ) -> Result<()> {
        if scopes == self.looked {
            return Ok(());
        }
        let key = |(netns, ifindex): Scope| types::scope_key { netns, ifindex };
        let fd = self.scopes.as_raw_fd();
        for gone in self.looked.keys().filter(|k| !scopes.contains_key(k)) {
            let key = key(*gone);
            // SAFETY: the key is as long as the map's.
            unsafe { libbpf_sys::bpf_map_delete_elem(fd, ptr::from_ref(&key).cast()) };
        }
        for (at, device) in &scopes {
            let (kind, id) = device.unwrap_or((Kind::None, None));
            let scope = types::scope {
                id: id.unwrap_or_default(),
                kind: kind.number(),
                flags: if id.is_some() { contract::ROW_ID } else { 0 },
                zero: 0,
            };
            // SAFETY: key and value are as long as the map's.
            let e = unsafe {
                libbpf_sys::bpf_map_update_elem(
                    fd,
                    ptr::from_ref(&key(*at)).cast(),
                    ptr::from_ref(&scope).cast(),
                    0,
                )
            };
            if e != 0 {
                return Err(io::Error::from_raw_os_error(-e))
                    .context("set the namespaces whose drops to count");
            }
        }
        self.looked = scopes;
        Ok(())
    }

    /// Reads the tables; `None` if nothing has happened since the last time.
    pub(crate) fn read(&mut self) -> Result<Option<Counted>> {
        // Computed anew each time, because the wall clock may have been set.
        self.origin = SystemTime::UNIX_EPOCH + Duration::from_nanos(host::zero());
        let (seen, elsewhere) = self.books()?;
        let missed = missed(self.program.as_fd())?;
        let all = seen.wrapping_add(missed);
        // A drop is counted in the books a moment before it is counted in its row.
        if self.settled == Some(all) {
            return Ok(None);
        }
        self.settled = (self.before == all).then_some(all);
        self.before = all;
        Ok(Some(Counted { rows: self.table()?, others: self.others(), elsewhere, missed }))
    }

    /// Converts the counts. `rows` are from a later reading; `space` gives the namespace with an
    /// inode number.
    pub(crate) fn told(
        &mut self,
        counted: Option<Counted>,
        rows: &Rows,
        devices: BTreeMap<Device, DeviceDrops>,
        space: impl Fn(u32) -> Space,
    ) -> Arc<Drops> {
        let Some(counted) = counted else {
            if self.latest.devices != devices {
                let mut latest = (*self.latest).clone();
                latest.devices = devices;
                self.latest = Arc::new(latest);
            }
            return Arc::clone(&self.latest);
        };
        self.look_up(&counted, rows);
        let single = counted.rows.iter().map(|(key, value)| self.row(key, value, &space));
        let full = counted.others.iter().map(|(index, count)| self.other(*index, count));
        let mut drops = Drops::new(single.chain(full));
        (drops.elsewhere, drops.missed) = (counted.elsewhere, counted.missed);
        drops.devices = devices;
        self.latest = Arc::new(drops);
        Arc::clone(&self.latest)
    }

    /// Looks up which keys from removed headers have rows: the bytes in front of a packet may also
    /// be left over from another packet in the same memory. A packet that a receiver took out of a
    /// tunnel was counted before, so its row exists.
    fn look_up(&mut self, counted: &Counted, rows: &Rows) {
        let remains = counted.rows.iter().filter(|(key, _)| key.of == types::drop_of::DROP_REMAINS);
        let mut unknown: BTreeSet<Key> =
            remains.map(|(key, _)| key_of(key)).filter(|k| !self.rows.contains_key(k)).collect();
        if unknown.is_empty() {
            return;
        }
        for flow in rows.iter() {
            if unknown.remove(&flow.key) {
                self.rows.insert(flow.key, true);
            }
        }
        self.rows.extend(unknown.into_iter().map(|key| (key, false)));
    }

    fn row(
        &self,
        key: &types::drop_key,
        value: &types::drop_value,
        space: impl Fn(u32) -> Space,
    ) -> (DropKey, Dropped) {
        let Space { name, elsewhere } = space(key.netns);
        let device = match (key.ifindex, name_of(&value.device)) {
            (0, _) => None,
            (index, name) if name.is_empty() => Some(format!("if{index}").into()),
            (_, name) => Some(name.into()),
        };
        let victim = match key.of {
            types::drop_of::DROP_TUNNEL => Victim::Tunnel(key_of(key)),
            types::drop_of::DROP_REMAINS => match key_of(key) {
                row if self.rows.get(&row) == Some(&true) => Victim::Tunnel(row),
                _ => Victim::Unknown,
            },
            types::drop_of::DROP_PLAIN => Victim::Plain,
            _ => Victim::Unknown,
        };
        let swapped = u32::from(key.row.flags) & u32::from(ROW_DIR) != 0;
        let reason = self.reasons.name(key.reason);
        (
            DropKey { reason, netns: name, elsewhere, device, victim },
            self.dropped(&value.count, swapped && victim.key().is_some()),
        )
    }

    /// Drops for which the table had no room.
    fn other(&self, index: u32, count: &types::drop_count) -> (DropKey, Dropped) {
        let (slot, of) = (index / DROPS_OF, index % DROPS_OF);
        let reason = match slot.checked_sub(CORE_REASONS) {
            None => slot,
            Some(n) => ((n / SUBSYSTEM_REASONS) << 16) | (n % SUBSYSTEM_REASONS),
        };
        let reason = if reason == 0 { "other".into() } else { self.reasons.name(reason) };
        let victim = match types::drop_of(of) {
            types::drop_of::DROP_TUNNEL => Victim::OTHER,
            types::drop_of::DROP_PLAIN => Victim::Plain,
            _ => Victim::Unknown,
        };
        let key = DropKey { reason, netns: None, elsewhere: false, device: None, victim };
        (key, self.dropped(count, false))
    }

    fn dropped(&self, count: &types::drop_count, swapped: bool) -> Dropped {
        let time = |ns| self.origin + Duration::from_nanos(ns);
        let mut counts = [Count::default(); 2];
        counts[usize::from(swapped)] = Count { packets: count.packets, bytes: count.bytes };
        Dropped { counts, first: time(count.first), last: time(count.last) }
    }

    /// How many drops the program saw, and how many of these were in other namespaces.
    fn books(&self) -> Result<(u64, u64)> {
        let cpus = libbpf_rs::num_possible_cpus().context("count the CPUs")?;
        let size = size_of::<types::work>().next_multiple_of(8);
        let mut values = vec![0u64; cpus * size / 8];
        lookup(self.works.as_fd(), 0, values.as_mut_ptr().cast()).context("read the drops")?;
        // struct drop_books, the first field: seen, elsewhere.
        let sum = |at: usize| {
            values.chunks_exact(size / 8).fold(0u64, |sum, cpu| sum.wrapping_add(cpu[at]))
        };
        Ok((sum(0), sum(1)))
    }

    fn table(&self) -> Result<Vec<(types::drop_key, types::drop_value)>> {
        let (mut keys, mut values) = (
            vec![MaybeUninit::<types::drop_key>::zeroed(); self.most],
            vec![MaybeUninit::<types::drop_value>::zeroed(); self.most],
        );
        let mut place = 0u32;
        let mut started = false;
        let mut rows = Vec::new();
        loop {
            let mut count = self.most as u32;
            let mut next = 0u32;
            let from = if started { ptr::from_mut(&mut place).cast() } else { ptr::null_mut() };
            // SAFETY: both arrays have room for the requested number of elements.
            let e = unsafe {
                libbpf_sys::bpf_map_lookup_batch(
                    self.drops.as_raw_fd(),
                    from,
                    ptr::from_mut(&mut next).cast(),
                    keys.as_mut_ptr().cast(),
                    values.as_mut_ptr().cast(),
                    &mut count,
                    ptr::null(),
                )
            };
            let end = e == -libc::ENOENT;
            ensure!(e == 0 || end, "read the table of drops: {}", io::Error::from_raw_os_error(-e));
            let all = keys.iter().zip(&values).take(count as usize);
            // SAFETY: plain integers, zero or written by the kernel.
            rows.extend(
                all.map(|(key, value)| unsafe { (key.assume_init(), value.assume_init()) }),
            );
            if end {
                return Ok(rows);
            }
            (place, started) = (next, true);
        }
    }

    fn others(&self) -> Vec<(u32, types::drop_count)> {
        let slots = self.others.as_ptr().cast::<types::drop_count>();
        let read = |index: u32| {
            // SAFETY: inside the mapping, aligned; integers that the program adds to.
            (index, unsafe { ptr::read_volatile(slots.add(index as usize)) })
        };
        (0..SLOTS * DROPS_OF).map(read).filter(|(_, count)| count.packets > 0).collect()
    }
}

const DROPS_OF: u32 = types::drop_of::DROPS_OF.0;

/// The key of the row, without the direction.
fn key_of(key: &types::drop_key) -> Key {
    // SAFETY: the same type, compiled twice.
    decoded(&unsafe { transmute::<types::key6, key6>(key.row) })
}

/// Drops for which the kernel did not run the program, because it was already running.
fn missed(program: BorrowedFd<'_>) -> Result<u64> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut len = size_of_val(&info) as u32;
    // SAFETY: the kernel writes at most `len` bytes of plain numbers.
    let e =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut len) };
    ensure!(e == 0, "ask for the program that counts drops");
    Ok(info.recursion_misses)
}

/// Dropped packets that were captured. No more are added once it is stopped.
pub(crate) struct DropRing {
    link: Option<OwnedFd>,
    program: OwnedFd,
    ring: Ring,
    _map: OwnedFd,
    catcher: Arc<MmapRaw>,
    reasons: Arc<Reasons>,
}

/// A dropped packet.
pub(crate) struct DroppedPacket<'r> {
    /// The captured bytes, from its Ethernet header or from what follows that.
    pub(crate) bytes: &'r [u8],
    /// Its original length.
    pub(crate) length: u32,
    /// The layer at which it begins, as numbered by [`feed::packet::LinkStart`].
    pub(crate) begins: u32,
    /// When it was dropped, on the packets' clock.
    pub(crate) time: u64,
    /// How many matching packets were lost before it.
    pub(crate) lost: u64,
    /// The inode number of its namespace, and the index and the name of its device there.
    pub(crate) netns: u32,
    pub(crate) ifindex: u32,
    pub(crate) device: String,
    /// The drop reason.
    pub(crate) reason: Arc<str>,
    /// The row that it belongs to.
    pub(crate) row: Key,
    /// Whether the row is known from headers that a receiver had removed.
    pub(crate) remains: bool,
}

impl DropRing {
    /// Takes packets until `take` breaks off; that packet counts as taken. Returns how many were
    /// taken.
    pub(crate) fn drain(
        &mut self,
        mut take: impl FnMut(&DroppedPacket<'_>) -> ControlFlow<()>,
    ) -> u64 {
        let DropRing { ring, reasons, .. } = self;
        ring.drain(|record| {
            let head = size_of::<types::drop_caught>();
            let Some((head, bytes)) = record.split_at_checked(head) else {
                return ControlFlow::Continue(());
            };
            // SAFETY: the size matches, and the program has written all of it, as integers.
            let n = unsafe { head.as_ptr().cast::<types::drop_caught>().read_unaligned() };
            take(&DroppedPacket {
                bytes: &bytes[..bytes.len().min(n.size as usize)],
                length: n.length,
                begins: n.begins,
                time: n.time,
                lost: n.lost,
                netns: n.what.netns,
                ifindex: n.what.ifindex,
                device: name_of(&n.device),
                reason: reasons.name(n.what.reason),
                row: key_of(&n.what),
                remains: n.what.of == types::drop_of::DROP_REMAINS,
            })
        })
    }

    /// The counts of matching packets.
    pub(crate) fn caught(&self) -> Caught {
        // SAFETY: the mapping holds one of them.
        unsafe { Caught::at(self.catcher.as_mut_ptr().cast()) }
    }

    /// How many matching packets were missed, because another one was being examined.
    pub(crate) fn missed(&self) -> u64 {
        missed(self.program.as_fd()).unwrap_or(0)
    }

    /// Stops capturing: the ring gets no more packets.
    ///
    /// # Errors
    /// The kernel cannot wait for running programs.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.link = None;
        grace_period().context("wait for the programs that are running")
    }

    /// Whether the ring is empty.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty()
    }
}

/// A device's name as stored by the kernel; empty for none.
fn name_of(name: &[std::ffi::c_char; 16]) -> String {
    let name: Vec<u8> = name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&name).into_owned()
}

fn lookup(map: BorrowedFd<'_>, key: u32, value: *mut c_void) -> io::Result<()> {
    // SAFETY: the value has the size of the map's, as callers ensure.
    let e = unsafe {
        libbpf_sys::bpf_map_lookup_elem(map.as_raw_fd(), ptr::from_ref(&key).cast(), value)
    };
    if e == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-e)) }
}

/// The names of this kernel's reasons.
struct Reasons(HashMap<u32, Arc<str>>);

impl Reasons {
    /// Reads them from the kernel's type information, because the numbers differ between kernels.
    fn read() -> Result<Reasons> {
        let btf = Btf::from_vmlinux().context("read the kernel's type information")?;
        let mut names = HashMap::new();
        named(&btf, "skb_drop_reason", "SKB_DROP_REASON_", &mut names);
        if names.is_empty() {
            bail!("this kernel reports no drop reasons (Linux 5.17 and newer do)");
        }
        // The first number of each subsystem with reasons of its own.
        let mut parts = HashMap::new();
        named(&btf, "skb_drop_reason_subsys", "SKB_DROP_REASON_SUBSYS_", &mut parts);
        // Those of Open vSwitch, if it is not a module.
        named(&btf, "ovs_drop_reason", "OVS_", &mut names);
        for (part, name) in parts.into_iter().filter(|(part, _)| *part > 0) {
            for n in 0..SUBSYSTEM_REASONS {
                names.entry(part << 16 | n).or_insert_with(|| format!("{name}_{n}").into());
            }
        }
        Ok(Reasons(names))
    }

    fn name(&self, reason: u32) -> Arc<str> {
        self.0.get(&reason).cloned().unwrap_or_else(|| format!("REASON_{reason}").into())
    }
}

fn named(btf: &Btf<'_>, of: &str, prefix: &str, names: &mut HashMap<u32, Arc<str>>) {
    let Some(numbers) = btf.type_by_name::<Enum<'_>>(of) else { return };
    for member in numbers.iter() {
        let Some(name) = member.name.and_then(|n| n.to_str()) else { continue };
        let short = name.strip_prefix(prefix).unwrap_or(name);
        if let Ok(number) = u32::try_from(member.value) {
            names.entry(number).or_insert_with(|| sanitize(short).as_ref().into());
        }
    }
}
