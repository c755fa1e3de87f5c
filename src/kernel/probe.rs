// SPDX-License-Identifier: MIT OR Apache-2.0
//! Probes of rows: the user-space side of `bpf/probe.h`.
//!
//! A prober has a seat at each interface, which holds its expression, its options, and its lease. A
//! thread renews the lease, so the probe continues however busy the rest of the process is, and
//! ends when the process does.
#![allow(unsafe_code)]
use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    ops::ControlFlow,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    ptr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail};
use contract::{
    LENS, LENS_ROW, PROBE_CATCH, PROBE_LEASE, PROBE_LENS, PROBE_RTT, PROBE_STOPS, PROBERS,
    TEST_KIND, TEST_LAST, caught, lens, lens_key, probe_test, prober, probing,
};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use memmap2::MmapRaw;

use crate::kernel::{bpf::Program, clock::host::packets, privilege, ring::Ring, timing::Timer};
use feed::table::grace_period;
use model::{filter::Filter, flow::Flow, lens::LensEntry, rows, rtt::Timed};

/// How often a lease is renewed.
const RENEWAL: Duration = Duration::from_millis(500);

/// The seats of one interface.
#[derive(Clone)]
struct Table(Arc<MmapRaw>);

impl Table {
    fn at(&self) -> *mut probing {
        self.0.as_mut_ptr().cast()
    }

    fn seat(&self, number: usize) -> *mut prober {
        assert!(number < PROBERS as usize);
        // SAFETY: inside the mapping, whose length was compared.
        unsafe { (&raw mut (*self.at()).prober[number]).cast() }
    }

    fn active(&self) -> &AtomicU32 {
        // SAFETY: inside the mapping and aligned; shared with the programs, so atomics only.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.at()).active) }
    }

    fn stops(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.at()).stops) }
    }

    /// Makes the programs compare all rows again.
    fn compare_again(&self) {
        // SAFETY: as above.
        let generation = unsafe { AtomicU32::from_ptr(&raw mut (*self.at()).generation) };
        generation.fetch_add(1, Ordering::AcqRel);
    }

    fn lease(&self, number: usize) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.seat(number)).lease) }
    }

    /// Whether an active prober measures round-trip times.
    fn times(&self, now: u64) -> bool {
        (0..PROBERS as usize).any(|number| {
            let lease = self.lease(number).load(Ordering::Acquire);
            // SAFETY: inside the mapping and aligned; shared, so atomics only.
            let what = unsafe { AtomicU32::from_ptr(&raw mut (*self.seat(number)).what) };
            let is_active = self.active().load(Ordering::Acquire) >> number & 1 != 0;
            is_active
                && what.load(Ordering::Acquire) & PROBE_RTT != 0
                && now.saturating_sub(lease) <= u64::from(PROBE_LEASE)
        })
    }

    /// Takes a seat that is free, or whose lease has expired.
    fn take(&self, now: u64) -> Option<usize> {
        (0..PROBERS as usize).find(|number| {
            let lease = self.lease(*number);
            let before = lease.load(Ordering::Acquire);
            let is_free = before == 0 || now.saturating_sub(before) > u64::from(PROBE_LEASE);
            is_free
                && lease.compare_exchange(before, now, Ordering::AcqRel, Ordering::Acquire).is_ok()
        })
    }
}

/// What a prober wants from matching rows.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Which rows match.
    pub filter: Filter,
    /// Copy packets to a ring of this many bytes, a power of two.
    pub ring: Option<u32>,
    /// The snapshot length.
    pub snaplen: u32,
    /// Limit on the packets per second at each interface; 0: none.
    pub limit: u64,
    /// Match no rows, whatever the filter says.
    pub no_rows: bool,
    /// Also take packets that could not be parsed.
    pub stops: bool,
    /// Summarise the contents of packets.
    pub lens: bool,
    /// Measure round-trip times.
    pub rtt: bool,
}

impl Wish {
    /// In the form that the programs read; `tests` are those of the filter.
    pub(super) fn prober(&self, tests: &[probe_test]) -> prober {
        let mut all = prober {
            limit: per_turn(self.limit),
            snaplen: self.snaplen.clamp(1, contract::SNAPLEN),
            what: if self.ring.is_some() { PROBE_CATCH } else { 0 },
            tests: tests.len() as u32,
            ..prober::default()
        };
        if self.stops {
            all.what |= PROBE_STOPS;
        }
        if self.lens {
            all.what |= PROBE_LENS;
        }
        if self.rtt {
            all.what |= PROBE_RTT;
        }
        all.test[..tests.len()].copy_from_slice(tests);
        all
    }
}

/// The kernel's counts of a prober's packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Packets of matching rows.
    pub matched: u64,
    /// Packets written to the ring.
    pub written: u64,
    /// Packets for which the ring had no room.
    pub ring_full: u64,
    /// Packets beyond the limit.
    pub over_limit: u64,
    /// Packets on the wire that the lens examined.
    pub looked_at: u64,
    /// Packets for which the lens had no room.
    pub lens_lost: u64,
}

impl Caught {
    /// Reads the counts of a seat.
    ///
    /// # Safety
    /// `seat` points to one, inside a mapping.
    pub(super) unsafe fn at(seat: *mut prober) -> Caught {
        // SAFETY: aligned; shared with the programs, so atomics only.
        let read = |word| unsafe { AtomicU64::from_ptr(word) }.load(Ordering::Acquire);
        // SAFETY: only addresses are taken.
        unsafe {
            Caught {
                matched: read(&raw mut (*seat).matched),
                written: read(&raw mut (*seat).written),
                ring_full: read(&raw mut (*seat).full),
                over_limit: read(&raw mut (*seat).over_limit),
                looked_at: read(&raw mut (*seat).looked_at),
                lens_lost: read(&raw mut (*seat).lens_lost),
            }
        }
    }

    /// Packets of matching rows that are not in the ring.
    pub fn lost(&self) -> u64 {
        self.ring_full + self.over_limit
    }

    /// Adds the counts of another interface.
    pub fn add(&mut self, o: &Caught) {
        self.matched += o.matched;
        self.written += o.written;
        self.ring_full += o.ring_full;
        self.over_limit += o.over_limit;
        self.looked_at += o.looked_at;
        self.lens_lost += o.lens_lost;
    }
}

/// A limit per second in the unit of the programs, whose second has 2^30 ns; 0 is none.
fn per_turn(limit: u64) -> u32 {
    let all = limit.saturating_mul(1 << 30) / 1_000_000_000;
    u32::try_from(all.max(limit.min(1))).unwrap_or(u32::MAX)
}

/// The error for a map that could not be created.
fn not_made(e: &libbpf_rs::Error, what: &str) -> anyhow::Error {
    match (e.kind(), privilege::missing()) {
        (libbpf_rs::ErrorKind::PermissionDenied, missing) if !missing.is_empty() => {
            anyhow!("not allowed to {what}: {}", privilege::advice(&missing))
        }
        _ => anyhow!("{what}: {e}"),
    }
}

/// A seat at one interface; given up on drop.
struct Seat {
    /// The prober's number for the interface.
    interface: u32,
    table: Table,
    number: usize,
    /// The lease as last written; 0 if another prober has taken the seat.
    lease: AtomicU64,
}

impl Seat {
    /// Renews the lease, unless another prober has taken the seat.
    fn renew(&self) {
        let (before, now) = (self.lease.load(Ordering::Acquire), packets());
        let lease = self.table.lease(self.number);
        let renewed =
            lease.compare_exchange(before, now, Ordering::AcqRel, Ordering::Acquire).is_ok();
        self.lease.store(if renewed { now } else { 0 }, Ordering::Release);
    }

    fn is_ours(&self) -> bool {
        self.lease.load(Ordering::Acquire) != 0
    }

    fn bit(&self) -> u32 {
        1 << self.number
    }

    /// Whether the programs compare the expression.
    fn is_active(&self) -> bool {
        self.table.active().load(Ordering::Acquire) & self.bit() != 0
    }

    fn activate(&self, stops: bool) {
        if stops {
            self.table.stops().fetch_or(self.bit(), Ordering::AcqRel);
        }
        self.table.active().fetch_or(self.bit(), Ordering::AcqRel);
        self.table.compare_again();
    }

    fn deactivate(&self) {
        if self.is_ours() {
            self.table.stops().fetch_and(!self.bit(), Ordering::AcqRel);
            self.table.active().fetch_and(!self.bit(), Ordering::AcqRel);
            self.table.compare_again();
        }
    }

    fn caught(&self) -> Caught {
        // SAFETY: inside the mapping and aligned.
        unsafe { Caught::at(self.table.seat(self.number)) }
    }

    /// Writes the expression and the options. The programs do not compare it yet.
    fn write(&self, wish: &Wish, tests: &[probe_test]) {
        let seat = self.table.seat(self.number);
        let all = prober {
            lease: self.lease.load(Ordering::Acquire),
            interface: self.interface,
            ..wish.prober(tests)
        };
        // SAFETY: inside the mapping and aligned; programs read it only once it is active, and the
        // lease, which others read, is unchanged.
        unsafe { ptr::write_volatile(seat, all) };
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.deactivate();
        if self.is_ours() {
            let before = self.lease.load(Ordering::Acquire);
            let lease = self.table.lease(self.number);
            let _ = lease.compare_exchange(before, 0, Ordering::AcqRel, Ordering::Acquire);
        }
    }
}

/// The seats, and whether the thread that renews their leases must end.
#[derive(Default)]
struct Shared {
    seats: Mutex<Vec<Seat>>,
    over: AtomicBool,
}

impl Shared {
    fn seats(&self) -> std::sync::MutexGuard<'_, Vec<Seat>> {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A prober of rows, at any number of interfaces.
pub struct Prober {
    wish: Wish,
    ring: Option<(MapHandle, Ring)>,
    sums: Option<MapHandle>,
    /// The measurements of times, by interface.
    timers: BTreeMap<u32, Timer>,
    /// Why an interface has no measurement of times, until that has been reported.
    untimed: Option<String>,
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    /// The counts of seats that were given up.
    before: Vec<(u32, Caught)>,
    lapses: u64,
}

fn update(outer: BorrowedFd<'_>, number: usize, inner: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (number as u32, inner.as_raw_fd());
    // SAFETY: key and value have the sizes of the map's.
    let e = unsafe {
        libbpf_sys::bpf_map_update_elem(
            outer.as_raw_fd(),
            ptr::from_ref(&key).cast(),
            ptr::from_ref(&value).cast(),
            0,
        )
    };
    if e == 0 { Ok(()) } else { Err(io::Error::from_raw_os_error(-e)) }
}

fn delete(outer: BorrowedFd<'_>, number: usize) {
    let key = number as u32;
    // SAFETY: the key has the size of the map's. A missing entry is not an error.
    unsafe { libbpf_sys::bpf_map_delete_elem(outer.as_raw_fd(), ptr::from_ref(&key).cast()) };
}

impl Prober {
    /// A prober that is not active anywhere yet.
    ///
    /// # Errors
    /// The kernel has no memory for the ring.
    pub fn new(wish: Wish) -> Result<Prober> {
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let make = |size| {
            let map = MapHandle::create(MapType::RingBuf, Some("tmon_ring"), 0, 0, size, &opts)
                .map_err(|e| not_made(&e, &format!("make a ring of {size} bytes for packets")))?;
            let ring = Ring::of(map.as_fd(), size as usize)?;
            Ok::<_, anyhow::Error>((map, ring))
        };
        let ring = wish.ring.map(make).transpose()?;
        let make = || {
            let [key, value] = [size_of::<lens_key>(), size_of::<lens>()].map(|n| n as u32);
            MapHandle::create(MapType::Hash, Some("tmon_lens"), key, value, LENS, &opts)
                .map_err(|e| not_made(&e, "make a table for what is in packets"))
        };
        let sums = wish.lens.then(make).transpose()?;
        let shared = Arc::new(Shared::default());
        let seats = Arc::clone(&shared);
        let keeper = thread::Builder::new()
            .name("probe".to_owned())
            .spawn(move || {
                while !seats.over.load(Ordering::Acquire) {
                    for seat in seats.seats().iter() {
                        seat.renew();
                    }
                    thread::park_timeout(RENEWAL);
                }
            })
            .context("start a thread")?;
        Ok(Prober {
            wish,
            ring,
            sums,
            timers: BTreeMap::new(),
            untimed: None,
            shared,
            keeper: Some(keeper),
            before: Vec::new(),
            lapses: 0,
        })
    }

    /// Takes the packets in the ring until `take` breaks off; that packet counts as taken. Returns
    /// how many were taken.
    pub fn drain(&mut self, take: impl FnMut(&caught, &[u8]) -> ControlFlow<()>) -> u64 {
        let mut take = take;
        let each = |record: &[u8]| {
            let Some((head, bytes)) = record.split_at_checked(size_of::<caught>()) else {
                return ControlFlow::Continue(());
            };
            // SAFETY: the size matches; integers only.
            let about = unsafe { head.as_ptr().cast::<caught>().read_unaligned() };
            take(&about, &bytes[..bytes.len().min(about.size as usize)])
        };
        self.ring.as_mut().map_or(0, |(_, ring)| ring.drain(each))
    }

    /// Starts probing rows of an interface, including rows that appear later. Returns false if the
    /// filter matches none there. To be called again now and then: probes that have lapsed start
    /// again.
    ///
    /// # Errors
    /// There are too many probers, or the filter is too long.
    pub fn look(&mut self, interface: u32, name: &str, program: &Program) -> Result<bool> {
        self.look_at(interface, name, false, program)
    }

    /// The same for an interface whose packets may have no link-layer header.
    ///
    /// # Errors
    /// See [`Prober::look`]; for round-trip times, also if another process measures them or the
    /// kernel rejects the program.
    pub(super) fn look_at(
        &mut self,
        interface: u32,
        name: &str,
        l3: bool,
        program: &Program,
    ) -> Result<bool> {
        let tests = match self.wish.no_rows {
            true => None,
            false => self.wish.filter.tests(name).map_err(anyhow::Error::msg)?,
        };
        if tests.is_none() && !self.wish.stops {
            return Ok(false);
        }
        // An empty range, which no kind is in.
        let none = || probe_test {
            what: TEST_KIND as u8,
            flags: TEST_LAST as u8,
            low: 1,
            ..Default::default()
        };
        let tests = tests.unwrap_or_else(|| vec![none()]);
        program.load_probers()?;
        let table = Table(Arc::clone(&program.probes.memory));
        let mut seats = self.shared.seats();
        let place = seats.iter().position(|s| s.interface == interface);
        let goes_on = |s: &&Seat| Arc::ptr_eq(&s.table.0, &table.0) && s.is_ours();
        if let Some(seat) = place.map(|i| &seats[i]).filter(goes_on) {
            if !seat.is_active() {
                self.lapses += 1;
                seat.renew();
                begin(seat, name, &self.wish, program)?;
            }
            return Ok(true);
        }
        if let Some(seat) = place.map(|i| seats.swap_remove(i)) {
            self.before.push((interface, seat.caught()));
            self.lapses += u64::from(!seat.is_ours());
        }
        let now = packets();
        self.timers.remove(&interface);
        if self.wish.rtt {
            let timer = match table.times(now) {
                false => program.load_timer(l3),
                true => Err(anyhow!(
                    "another process is measuring round-trip times at {name}: try again when it has ended"
                )),
            };
            match timer {
                Ok(timer) => drop(self.timers.insert(interface, timer)),
                // The lens works without times.
                Err(e) if self.wish.lens => self.untimed = Some(format!("{e:#}")),
                Err(e) => return Err(e),
            }
        }
        let Some(number) = table.take(now) else {
            bail!(
                "{PROBERS} processes are already probing rows of {name}: try again when one has ended"
            );
        };
        let seat = Seat { interface, table, number, lease: AtomicU64::new(now) };
        let rtt = self.timers.contains_key(&interface);
        seat.write(&Wish { rtt, ..self.wish.clone() }, &tests);
        match &self.ring {
            Some((ring, _)) => update(program.probes.rings.as_fd(), number, ring.as_fd())
                .with_context(|| format!("examine packets of {name}"))?,
            None => delete(program.probes.rings.as_fd(), number),
        }
        match &self.sums {
            Some(sums) => update(program.probes.lenses.as_fd(), number, sums.as_fd())
                .with_context(|| format!("examine packets of {name}"))?,
            None => delete(program.probes.lenses.as_fd(), number),
        }
        begin(&seat, name, &self.wish, program)?;
        seats.push(seat);
        Ok(true)
    }

    /// Stops renewing leases, as if the process had been killed: for tests.
    #[doc(hidden)]
    pub fn die(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            let _ = keeper.join();
        }
    }

    /// How often this process was stopped long enough for its leases to expire.
    pub fn lapses(&self) -> u64 {
        self.lapses
    }

    /// The contents of packets so far: interface, number of the row among its probes, and packets
    /// with equal contents.
    ///
    /// # Errors
    /// The kernel returns an error.
    pub fn sums(&self) -> Result<Vec<(u32, u32, LensEntry)>> {
        const AT_ONCE: u32 = 4096;
        let Some(sums) = &self.sums else { return Ok(Vec::new()) };
        let all = sums
            .lookup_batch(AT_ONCE, MapFlags::ANY, MapFlags::ANY)
            .context("read what is in packets")?;
        Ok(all
            .filter_map(|(key, sum)| {
                let sizes = [size_of::<lens_key>(), size_of::<lens>()];
                if [key.len(), sum.len()] != sizes {
                    return None;
                }
                // SAFETY: the sizes match; integers only.
                let (key, sum) = unsafe {
                    let (key, sum) = (key.as_ptr().cast::<lens_key>(), sum.as_ptr());
                    (key.read_unaligned(), sum.cast::<lens>().read_unaligned())
                };
                Some((key.row >> 16, key.row & LENS_ROW, LensEntry::of(&key, &sum)))
            })
            .collect())
    }

    /// The round-trip times so far; `None` if they are not measured.
    ///
    /// # Errors
    /// The kernel returns an error.
    pub fn timed(&self) -> Result<Option<Timed>> {
        let mut all = Timed::default();
        for (interface, timer) in &self.timers {
            timer.tell(u64::from(*interface), &mut all)?;
        }
        Ok(Some(all).filter(|_| !self.timers.is_empty()))
    }

    /// Why round-trip times are not measured at an interface; reported once.
    pub fn untimed(&mut self) -> Option<String> {
        self.untimed.take()
    }

    /// The filter.
    pub fn filter(&self) -> &Filter {
        &self.wish.filter
    }

    /// The snapshot length.
    pub fn snaplen(&self) -> u32 {
        self.wish.snaplen
    }

    /// Whether the ring is empty.
    pub fn is_empty(&self) -> bool {
        self.ring.as_ref().is_none_or(|(_, ring)| ring.is_empty())
    }

    /// The interfaces that are or were probed.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        let seats = self.shared.seats();
        let now = seats.iter().map(|s| s.interface);
        now.chain(self.before.iter().map(|(i, _)| *i)).collect()
    }

    /// The counts of an interface so far.
    pub fn caught(&self, interface: u32) -> Caught {
        let mut sum = Caught::default();
        self.before.iter().filter(|(i, _)| *i == interface).for_each(|(_, c)| sum.add(c));
        for seat in self.shared.seats().iter().filter(|s| s.interface == interface) {
            sum.add(&seat.caught());
        }
        sum
    }

    /// Stops probing: the ring gets no more packets, and the counts no longer change.
    ///
    /// # Errors
    /// The kernel cannot wait for running programs.
    pub fn stop(&self) -> Result<()> {
        self.shared.seats().iter().for_each(Seat::deactivate);
        grace_period().context("wait for the programs that are running")
    }

    /// Gives up the seat at an interface with these programs; its rows are no longer probed.
    pub fn leave(&mut self, interface: u32, program: &Program) {
        let mut seats = self.shared.seats();
        let Some(i) = seats.iter().position(|s| s.interface == interface) else { return };
        let seat = seats.swap_remove(i);
        self.before.push((interface, seat.caught()));
        seat.deactivate();
        if seat.is_ours() && Arc::ptr_eq(&seat.table.0, &program.probes.memory) {
            delete(program.probes.rings.as_fd(), seat.number);
            delete(program.probes.lenses.as_fd(), seat.number);
        }
        if seat.table.active().load(Ordering::Acquire) == 0 {
            program.tables.unask();
        }
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.die();
        self.shared.seats().clear();
    }
}

/// Has the expression compared with new rows, and only then with the existing ones, so that none is
/// missed.
fn begin(seat: &Seat, name: &str, wish: &Wish, program: &Program) -> Result<()> {
    seat.activate(wish.stops);
    grace_period().context("wait for the programs that are running")?;
    program.tables.ask(|key| {
        if wish.no_rows {
            return false;
        }
        let flow = Flow { interface: 0, key: rows::decoded(key), counters: Default::default() };
        wish.filter.matches(&flow, name)
    });
    Ok(())
}

impl Program {
    /// The row of a probe, by its number in captured packets.
    pub fn probed_row(&self, row: u32) -> Option<model::flow::Key> {
        self.probes.places.at(row).map(|slot| rows::decoded(&slot.key))
    }

    /// The number of slots that are probed, or marked for comparison; their packets do not take the
    /// fast path.
    pub fn probed(&self) -> usize {
        self.tables.probed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_not_exceeded_or_rounded_to_none() {
        assert_eq!([0, 1, 2, 100_000, u64::MAX].map(per_turn), [0, 1, 2, 107_374, 4_294_967_295]);
    }
}
