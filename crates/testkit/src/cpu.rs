// SPDX-License-Identifier: MIT OR Apache-2.0
//! Pins tests to a CPU. A row has a slot for each CPU that counts in it often: a test that compares
//! tables which are full must not migrate while it fills them.

use nix::{
    sched::{CpuSet, sched_getcpu, sched_setaffinity},
    unistd::Pid,
};

/// Pins this thread to this CPU.
pub fn stay_on(cpu: usize) {
    let mut one = CpuSet::new();
    one.set(cpu).expect("the number of a CPU");
    sched_setaffinity(Pid::from_raw(0), &one).expect("keep a thread on a CPU");
}

/// Pins this thread to its current CPU.
pub fn stay() {
    stay_on(sched_getcpu().expect("ask for the number of this CPU"));
}
