// SPDX-License-Identifier: MIT OR Apache-2.0
//! Looking more closely at some rows: what `bpf/probe.h` does for us, and how it is told.
//!
//! A prober has a seat at each interface. There is his expression, what he wants of the rows that it
//! means, and his lease, which a thread renews: whatever keeps the rest of the process busy does not
//! end the probe, and whatever ends the process does.
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

/// The seats at one interface.
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

    /// What was compared before is compared again.
    fn compare_again(&self) {
        // SAFETY: as above.
        let generation = unsafe { AtomicU32::from_ptr(&raw mut (*self.at()).generation) };
        generation.fetch_add(1, Ordering::AcqRel);
    }

    fn lease(&self, number: usize) -> &AtomicU64 {
        // SAFETY: as above.
        unsafe { AtomicU64::from_ptr(&raw mut (*self.seat(number)).lease) }
    }

    /// Somebody who is there measures round-trip times.
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

    /// Takes a seat that nobody has, or whose prober has not been heard of for too long.
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

/// What is wanted of the rows that are meant.
#[derive(Clone, Debug, Default)]
pub struct Wish {
    /// Which rows.
    pub filter: Filter,
    /// Packets go to a ring of so many bytes, which is a power of two.
    pub ring: Option<u32>,
    /// So much of each.
    pub snaplen: u32,
    /// Limit on how many in a second, at each interface; 0: none.
    pub limit: u64,
    /// No rows, whatever the filter says.
    pub no_rows: bool,
    /// What could not be parsed, too.
    pub stops: bool,
    /// What is in the packets is told apart and summed up.
    pub lens: bool,
    /// It is measured how long they take to be answered.
    pub rtt: bool,
}

impl Wish {
    /// As the programs read it; `tests` are the filter's.
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

/// What became of a prober's packets, as the kernel has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Caught {
    /// Of the rows that are meant.
    pub matched: u64,
    /// Of these, what went to the ring.
    pub written: u64,
    /// What had no room there.
    pub ring_full: u64,
    /// What was more than the limit allows.
    pub over_limit: u64,
    /// Packets on the wire that the lens saw.
    pub looked_at: u64,
    /// Of these, what had no room there.
    pub lens_lost: u64,
}

impl Caught {
    /// As a program has it.
    ///
    /// # Safety
    /// It is there.
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

    /// Of the rows that are meant, and not in the ring.
    pub fn lost(&self) -> u64 {
        self.ring_full + self.over_limit
    }

    /// Adds another interface's.
    pub fn add(&mut self, o: &Caught) {
        self.matched += o.matched;
        self.written += o.written;
        self.ring_full += o.ring_full;
        self.over_limit += o.over_limit;
        self.looked_at += o.looked_at;
        self.lens_lost += o.lens_lost;
    }
}

/// A limit on the packets of a second as the programs have it, whose second is 2^30 ns; 0 is none.
fn per_turn(limit: u64) -> u32 {
    let all = limit.saturating_mul(1 << 30) / 1_000_000_000;
    u32::try_from(all.max(limit.min(1))).unwrap_or(u32::MAX)
}

/// Why a map was not made.
fn not_made(e: &libbpf_rs::Error, what: &str) -> anyhow::Error {
    match (e.kind(), privilege::missing()) {
        (libbpf_rs::ErrorKind::PermissionDenied, missing) if !missing.is_empty() => {
            anyhow!("not allowed to {what}: {}", privilege::advice(&missing))
        }
        _ => anyhow!("{what}: {e}"),
    }
}

/// A place at one interface; it is given up when dropped.
struct Seat {
    /// The interface, as the prober calls it.
    interface: u32,
    table: Table,
    number: usize,
    /// The lease as it was written last; 0 when somebody else has the seat.
    lease: AtomicU64,
}

impl Seat {
    /// Shows that the prober is there, unless somebody else has his seat by now.
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

    /// The packet path compares the expression.
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

    /// Says what is wanted here. Nobody compares the expression yet.
    fn write(&self, wish: &Wish, tests: &[probe_test]) {
        let seat = self.table.seat(self.number);
        let all = prober {
            lease: self.lease.load(Ordering::Acquire),
            interface: self.interface,
            ..wish.prober(tests)
        };
        // SAFETY: inside the mapping and aligned; no program reads it before it is active, and the
        // lease, which others read, is what it was.
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

/// The seats, and whether the thread that renews their leases is to end.
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

/// Somebody who looks at some rows more closely, at any number of interfaces.
pub struct Prober {
    wish: Wish,
    ring: Option<(MapHandle, Ring)>,
    sums: Option<MapHandle>,
    /// By interface.
    timers: BTreeMap<u32, Timer>,
    /// Why nothing is timed somewhere, and that was not told.
    untimed: Option<String>,
    shared: Arc<Shared>,
    keeper: Option<JoinHandle<()>>,
    /// What was caught at seats that were given up.
    before: Vec<(u32, Caught)>,
    lapses: u64,
}

fn update(outer: BorrowedFd<'_>, number: usize, inner: BorrowedFd<'_>) -> io::Result<()> {
    let (key, value) = (number as u32, inner.as_raw_fd());
    // SAFETY: key and value are as long as the map's.
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
    // SAFETY: the key is as long as the map's. That there is nothing is no error.
    unsafe { libbpf_sys::bpf_map_delete_elem(outer.as_raw_fd(), ptr::from_ref(&key).cast()) };
}

impl Prober {
    /// Somebody with this wish, who looks nowhere yet.
    ///
    /// # Errors
    /// The kernel has no room for the ring.
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

    /// Takes the packets that are in the ring, until `take` breaks off: that one is taken, too.
    /// Returns how many.
    pub fn drain(&mut self, take: impl FnMut(&caught, &[u8]) -> ControlFlow<()>) -> u64 {
        let mut take = take;
        let each = |record: &[u8]| {
            let Some((head, bytes)) = record.split_at_checked(size_of::<caught>()) else {
                return ControlFlow::Continue(());
            };
            // SAFETY: so many bytes of integers.
            let about = unsafe { head.as_ptr().cast::<caught>().read_unaligned() };
            take(&about, &bytes[..bytes.len().min(about.size as usize)])
        };
        self.ring.as_mut().map_or(0, |(_, ring)| ring.drain(each))
    }

    /// Looks at an interface's rows, too: from now on, and at all that are yet to come. False where
    /// the filter means none there. To be called again, now and then: what has lapsed is begun again.
    ///
    /// # Errors
    /// There are too many probers already, or the filter is too long.
    pub fn look(&mut self, interface: u32, name: &str, program: &Program) -> Result<bool> {
        self.look_at(interface, name, false, program)
    }

    /// The same where packets may have no link header.
    ///
    /// # Errors
    /// As of [`Prober::look`]; and where times are wanted: somebody else measures them, or the kernel
    /// does not take the program that does.
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
        // An empty range: no row has such a kind.
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
                // What is in packets can be seen all the same.
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

    /// Shows no sign of life any more, as if the process had been killed: for tests.
    #[doc(hidden)]
    pub fn die(&mut self) {
        self.shared.over.store(true, Ordering::Release);
        if let Some(keeper) = self.keeper.take() {
            keeper.thread().unpark();
            let _ = keeper.join();
        }
    }

    /// How often it was not looked for a while, because this process was stopped.
    pub fn lapses(&self) -> u64 {
        self.lapses
    }

    /// What was in the packets so far: interface, place of the row among its probes, and the packets
    /// with the same in them.
    ///
    /// # Errors
    /// The kernel does not give it.
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
                // SAFETY: so many bytes of integers.
                let (key, sum) = unsafe {
                    let (key, sum) = (key.as_ptr().cast::<lens_key>(), sum.as_ptr());
                    (key.read_unaligned(), sum.cast::<lens>().read_unaligned())
                };
                Some((key.row >> 16, key.row & LENS_ROW, LensEntry::of(&key, &sum)))
            })
            .collect())
    }

    /// What was timed so far; `None` where nothing is.
    ///
    /// # Errors
    /// The kernel does not give it.
    pub fn timed(&self) -> Result<Option<Timed>> {
        let mut all = Timed::default();
        for (interface, timer) in &self.timers {
            timer.tell(u64::from(*interface), &mut all)?;
        }
        Ok(Some(all).filter(|_| !self.timers.is_empty()))
    }

    /// Why it is not measured at some interface how long packets take, once.
    pub fn untimed(&mut self) -> Option<String> {
        self.untimed.take()
    }

    /// Which rows he means.
    pub fn filter(&self) -> &Filter {
        &self.wish.filter
    }

    /// So much of a packet is caught.
    pub fn snaplen(&self) -> u32 {
        self.wish.snaplen
    }

    /// Nothing is in the ring.
    pub fn is_empty(&self) -> bool {
        self.ring.as_ref().is_none_or(|(_, ring)| ring.is_empty())
    }

    /// Where he looks, or looked.
    pub fn interfaces(&self) -> BTreeSet<u32> {
        let seats = self.shared.seats();
        let now = seats.iter().map(|s| s.interface);
        now.chain(self.before.iter().map(|(i, _)| *i)).collect()
    }

    /// What became of an interface's packets so far.
    pub fn caught(&self, interface: u32) -> Caught {
        let mut sum = Caught::default();
        self.before.iter().filter(|(i, _)| *i == interface).for_each(|(_, c)| sum.add(c));
        for seat in self.shared.seats().iter().filter(|s| s.interface == interface) {
            sum.add(&seat.caught());
        }
        sum
    }

    /// Nothing is looked at any more: what is in the ring now is all there is, and the counts stay.
    ///
    /// # Errors
    /// The kernel has no way to wait for the programs that are running.
    pub fn stop(&self) -> Result<()> {
        self.shared.seats().iter().for_each(Seat::deactivate);
        grace_period().context("wait for the programs that are running")
    }

    /// Gives up the seat at an interface, whose programs these are; its rows are as they were.
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

/// The expression is compared with new rows; and then with those that there are, which nobody makes
/// meanwhile without a look at it.
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
    /// Which row a probe is of, by its number in what was caught.
    pub fn probed_row(&self, row: u32) -> Option<model::flow::Key> {
        self.probes.places.at(row).map(|slot| rows::decoded(&slot.key))
    }

    /// How many slots are probed, or may be: their packets do not take the shortest way.
    pub fn probed(&self) -> usize {
        self.tables.probed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_never_exceeded_and_never_none_by_rounding() {
        assert_eq!([0, 1, 2, 100_000, u64::MAX].map(per_turn), [0, 1, 2, 107_374, 4_294_967_295]);
    }
}
