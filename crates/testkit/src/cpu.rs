// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which CPU a test runs on. A row has a slot for each CPU that counts in it often: a test that
//! compares tables which have no room left must not be moved while it fills them.

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

/// Keeps this thread on that CPU.
pub fn stay_on(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu).expect("the number of a CPU");
    sched_setaffinity(Pid::from_raw(0), &one).expect("keep a thread on a CPU");
}

/// Keeps this thread on the CPU that it is on.
pub fn stay() {
    stay_on(sched_getcpu().expect("ask for the number of this CPU"));
}
