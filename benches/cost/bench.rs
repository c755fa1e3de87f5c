// SPDX-License-Identifier: MIT OR Apache-2.0
//! The loaded programs, and timing them.
use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsFd, AsRawFd, BorrowedFd},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use libbpf_rs::{
    MapCore, MapFlags,
    skel::{OpenSkel, SkelBuilder},
};
use model::flow::Hook;
use tmon::kernel::bpf::{Config, Program};

use crate::skel::{AncestorSkel, AncestorSkelBuilder};

/// The programs, numbered like the drivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    Empty,
    Ancestor,
    Ours,
    /// By the outer 5-tuple, as netobserv's agent does.
    FiveTuple,
}

/// A frame, and the eight bytes of it that distinguish its rows: an IPv4 pair whose addresses are
/// each other's complement, so that every row has the same checksum; or the lower half of an IPv6
/// address.
#[derive(Clone, Debug)]
pub(crate) struct Varied {
    pub(crate) bytes: Vec<u8>,
    pub(crate) at: usize,
}

impl Varied {
    /// `from_end`: bytes between the eight bytes and the end of the frame.
    pub(crate) fn new(frame: crate::frames::Frame, from_end: usize) -> Varied {
        let bytes = frame.bytes();
        let at = bytes.len() - from_end - 8;
        Varied { bytes, at }
    }
}

/// Everything needed to compare one case.
pub(crate) struct Bench {
    skel: AncestorSkel<'static>,
    pub(crate) ours: Program,
}

/// Every row once, in a random order; another seed gives another order.
pub(crate) fn shuffled(rows: usize, seed: u64) -> Vec<u32> {
    let mut order: Vec<u32> = (0..rows as u32).collect();
    let mut random = Random(seed);
    for i in (1..rows).rev() {
        order.swap(i, random.below(i as u64 + 1) as usize);
    }
    order
}

/// The same rows in the way that the kernel delivers packets: in trains of eight per row.
pub(crate) fn trains(rows: usize) -> Vec<u32> {
    shuffled(rows, 2).into_iter().flat_map(|row| [row; 8]).collect()
}

/// `n` draws from `rows` rows, the k-th row 1/k as often as the first.
pub(crate) fn zipf(rows: usize, n: usize) -> Vec<u32> {
    let mut sum = 0.0;
    let sums: Vec<f64> = (1..=rows)
        .map(|k| {
            sum += 1.0 / k as f64;
            sum
        })
        .collect();
    let mut random = Random(2);
    (0..n)
        .map(|_| {
            let x = random.below(1 << 53) as f64 / (1u64 << 53) as f64 * sum;
            sums.partition_point(|s| *s <= x) as u32
        })
        .collect()
}

/// xorshift64*: the same numbers in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        ((u128::from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)) * u128::from(n)) >> 64) as u64
    }
}

impl Bench {
    /// Loads all of them, with tables sized for `rows` rows.
    pub(crate) fn new(rows: u32) -> Result<Bench> {
        Bench::with(&Config { rows, ..Config::default() })
    }

    /// The same with a hash seed that is the same in every run.
    pub(crate) fn seeded(rows: u32) -> Result<Bench> {
        let mut random = Random(3);
        let seed = Some(std::array::from_fn(|_| random.below(u64::MAX)));
        Bench::with(&Config { rows, seed, ..Config::default() })
    }

    fn with(config: &Config) -> Result<Bench> {
        let (rows, ours) = (config.rows, Program::load(config)?);
        let storage = Box::leak(Box::new(MaybeUninit::uninit())); // a few bytes per case
        let mut open = AncestorSkelBuilder::default().open(storage).context("open the ancestor")?;
        open.maps.stats.set_max_entries(rows).context("size the ancestor's table")?;
        open.maps.flows.set_max_entries(rows).context("size the table of flows")?;
        let skel = open.load().context("load the ancestor")?;
        for (slot, fd) in [
            (0u32, skel.progs.empty.as_fd()),
            (1, skel.progs.ancestor_ingress.as_fd()),
            (2, ours.entry(Hook::Rx)),
            (3, skel.progs.five_tuple.as_fd()),
        ] {
            let (slot, fd) = (slot.to_ne_bytes(), fd.as_raw_fd().to_ne_bytes());
            skel.maps
                .targets
                .update(&slot, &fd, MapFlags::ANY)
                .context("join driver and target")?;
        }
        Ok(Bench { skel, ours })
    }

    /// The entry program of a target, without the driver.
    pub(crate) fn entry(&self, target: Target, hook: Hook) -> BorrowedFd<'_> {
        match (target, hook) {
            (Target::Empty, _) => self.skel.progs.empty.as_fd(),
            (Target::Ancestor, Hook::Rx) => self.skel.progs.ancestor_ingress.as_fd(),
            (Target::Ancestor, Hook::Tx) => self.skel.progs.ancestor_egress.as_fd(),
            (Target::Ours, _) => self.ours.entry(hook),
            (Target::FiveTuple, _) => self.skel.progs.five_tuple.as_fd(),
        }
    }

    /// Sets the sequence of rows from now on, which repeats; its length is a power of two.
    pub(crate) fn order(&mut self, order: &[u32]) -> Result<()> {
        ensure!(order.len().is_power_of_two(), "an order of {} rows", order.len());
        let all = &mut self.skel.maps.data_order_data.as_deref_mut().context("the order")?.order;
        all[..order.len()].copy_from_slice(order);
        let drive = &mut self.skel.maps.data_drive_data.as_deref_mut().context("the driver")?.drive;
        drive.mask = order.len() as u32 - 1;
        drive.next = [0; 4];
        Ok(())
    }

    /// Runs `packets` packets, each of another row, through a program: nanoseconds per packet.
    pub(crate) fn drive(&mut self, target: Target, frame: &Varied, packets: u32) -> Result<f64> {
        let drive = &mut self.skel.maps.data_drive_data.as_deref_mut().context("the driver")?.drive;
        drive.at = frame.at as u32;
        let program = match target {
            Target::Empty => self.skel.progs.drive_0.as_fd(),
            Target::Ancestor => self.skel.progs.drive_1.as_fd(),
            Target::Ours => self.skel.progs.drive_2.as_fd(),
            Target::FiveTuple => self.skel.progs.drive_3.as_fd(),
        };
        time(program, &frame.bytes, packets)
    }
}

/// Runs a frame `repeat` times through a program: nanoseconds each, of this thread's CPU time.
pub(crate) fn time(program: BorrowedFd<'_>, frame: &[u8], repeat: u32) -> Result<f64> {
    let mut opts = libbpf_sys::bpf_test_run_opts {
        sz: size_of::<libbpf_sys::bpf_test_run_opts>() as _,
        data_in: frame.as_ptr().cast(),
        data_size_in: frame.len() as u32,
        repeat: repeat as i32,
        ..Default::default()
    };
    let before = cpu_time();
    // SAFETY: the pointers in opts live until the call returns.
    let e = unsafe { libbpf_sys::bpf_prog_test_run_opts(program.as_raw_fd(), &mut opts) };
    let spent = cpu_time() - before;
    if e != 0 {
        return Err(io::Error::from_raw_os_error(-e)).context("run a frame (are you root?)");
    }
    ensure!(opts.retval as i32 == -1, "the program returned {}", opts.retval as i32);
    Ok(spent.as_secs_f64() * 1e9 / f64::from(repeat))
}

fn cpu_time() -> Duration {
    let mut t = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: t is a timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut t) };
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// How often this thread was preempted.
fn preemptions() -> i64 {
    // SAFETY: integers.
    let mut usage: libc::rusage = unsafe { MaybeUninit::zeroed().assume_init() };
    // SAFETY: usage is a rusage.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &mut usage) };
    usage.ru_nivcsw
}

/// Pins this thread to that CPU.
pub(crate) fn pin(cpu: usize) -> Result<()> {
    let mut set = nix::sched::CpuSet::new();
    set.set(cpu).context("choose a CPU")?;
    nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set).context("stay on one CPU")
}

/// The rounds of a measurement; one that was preempted is repeated, up to twice as many in total.
pub(crate) fn rounds<T>(n: usize, mut round: impl FnMut() -> Result<T>) -> Result<Vec<T>> {
    let mut kept = Vec::with_capacity(n);
    let mut again = n;
    while kept.len() < n {
        let before = preemptions();
        let value = round()?;
        if again == 0 || preemptions() == before {
            kept.push(value);
        } else {
            again -= 1;
        }
    }
    Ok(kept)
}
