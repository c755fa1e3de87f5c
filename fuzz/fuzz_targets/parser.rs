// SPDX-License-Identifier: MIT OR Apache-2.0
//! Arbitrary bytes as frames, through the parser compiled for this host under AddressSanitizer:
//! nothing is read outside of a frame, every frame is in exactly one place of the books, the fast
//! path and the states agree, and two parts add up to the whole.
#![no_main]
use std::cell::RefCell;

use feed::{config::Config, judge::native_config};
use libfuzzer_sys::fuzz_target;
use native::{Batch, Buffer, Native, NativeConfig, NativeFrame, Shard};

/// How the input encodes the beginning of frames.
const BEGINS: [u32; 8] = [0x6558, 0x10000, 0x0800, 0x86dd, 0x8847, 0x8864, 0x8100, 0x0806];
/// More frames than this show nothing new.
const MOST: usize = 64;

fn config(plain: bool, states: bool) -> NativeConfig {
    let seed = Some([0x9e37_79b9_7f4a_7c15; 12]);
    native_config(&Config { rows: 64, plain, states, seed, ..Config::default() })
        .expect("it is one")
}

thread_local! {
    /// By `plain`: two parts.
    static PARTS: RefCell<[[Shard; 2]; 2]> = RefCell::new([false, true].map(|plain| {
        [0, 1].map(|_| Shard::new(&config(plain, false)).expect("memory"))
    }));
    /// By `plain`: the fast path, the states, and the whole of two parts.
    static NATIVES: RefCell<[[Native; 3]; 2]> = RefCell::new([false, true].map(|plain| {
        [false, true, false].map(|states| Native::new(&config(plain, states)).expect("memory"))
    }));
}

/// Whether slots and tags are equal.
fn same_tables(a: &Native, b: &Native) -> bool {
    let memory = |native: &Native| native.memory().clone().into_iter().flat_map(|[s, t, _]| [s, t]);
    memory(a).zip(memory(b)).all(|(a, b)| {
        // SAFETY: both mappings have this length, and nothing counts meanwhile.
        let [a, b] = [a, b].map(|m| unsafe { std::slice::from_raw_parts(m.as_ptr(), m.len()) });
        a == b
    })
}

fuzz_target!(|data: &[u8]| {
    let [flags, begins, rest @ ..] = data else { return };
    let mut rest: &[u8] = rest;
    let plain = flags & 1 != 0;
    let mut frames: Vec<(Buffer, u32)> = Vec::new();
    while let [low, high, more, tail @ ..] = rest
        && frames.len() < MOST
    {
        let length = usize::from(u16::from_le_bytes([*low, *high]) & 0x1ff).min(tail.len());
        // In separate memory, so that what follows it is not part of it.
        frames.push((Buffer::new(tail[..length].to_vec()), length as u32 + u32::from(*more)));
        rest = &tail[length..];
    }
    let batch = |frames: &[(Buffer, u32)]| {
        let mut batch = Batch::default();
        for (buffer, length) in frames {
            batch.of(0, buffer).push(&NativeFrame {
                data: buffer,
                length: *length,
                link: 0,
                begins: BEGINS[usize::from(begins & 7)],
                now: 1,
                time: 0,
                gso_segs: 0,
                gso_size: 0,
                egress: flags & 2 != 0,
            });
        }
        batch
    };
    NATIVES.with_borrow_mut(|natives| {
        PARTS.with_borrow_mut(|parts| {
            let parts = &mut parts[usize::from(plain)];
            let [quick, states, whole] = &mut natives[usize::from(plain)];
            quick.clear();
            let all = batch(&frames);
            quick.judge_all(all.frames(0));
            states.clear();
            states.judge_all(all.frames(0));

            whole.clear();
            parts.iter_mut().for_each(Shard::clear);
            let run = usize::from(begins >> 3) % 7 + 1;
            for (i, frames) in frames.chunks(run).enumerate() {
                let batch = batch(frames);
                let log = parts[i % 2].judge_all(batch.frames(0));
                whole.follow(log, batch.frames(0));
            }
            parts.iter().for_each(|part| whole.absorb(part));

            let cells = quick.cells().map(|c| (c.packets, c.bytes));
            assert_eq!(cells, states.cells().map(|c| (c.packets, c.bytes)), "the states' books");
            assert_eq!(cells, whole.cells().map(|c| (c.packets, c.bytes)), "the parts' books");
            let seen =
                |hook: usize| cells[16 * hook..16 * hook + 7].iter().map(|c| c.0).sum::<u64>();
            assert_eq!(seen(0) + seen(1), frames.len() as u64, "each frame is in one place");
            assert!(same_tables(quick, states), "the states' rows");
            assert!(same_tables(quick, whole), "the parts' rows");
            let beside = quick.beside();
            assert_eq!(beside, states.beside(), "what the states looked at");
            assert_eq!(beside, whole.beside(), "what the parts looked at");
        })
    });
});
