// SPDX-License-Identifier: MIT OR Apache-2.0
//! Random changes of frames, reproducible by their seed.

/// splitmix64: the same numbers everywhere.
pub struct Random(pub u64);

impl Random {
    #[allow(clippy::should_implement_trait)] // the numbers never end
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Damages a frame in one to four places: flips bits, changes bytes or words, removes or duplicates
/// parts.
pub fn mutate(bytes: &mut Vec<u8>, random: &mut Random) {
    const BYTES: [u8; 10] = [0, 1, 4, 6, 17, 41, 47, 0x45, 0x60, 0xff];
    const WORDS: [u16; 16] = [
        0, 1, 7, 0x800, 0x86dd, 0x8100, 0x8847, 0x6558, 0x88be, 0x894f, 4789, 4790, 6081, 2152,
        0x7fff, 0xffff,
    ];
    for _ in 0..=random.below(4) {
        if bytes.is_empty() {
            return;
        }
        let at = random.below(bytes.len());
        match random.below(10) {
            0..=2 => bytes[at] ^= 1 << random.below(8),
            3 => bytes[at] = random.next() as u8,
            4 => bytes[at] = BYTES[random.below(BYTES.len())],
            5 | 6 if at + 1 < bytes.len() => {
                bytes[at..at + 2].copy_from_slice(&WORDS[random.below(WORDS.len())].to_be_bytes())
            }
            7 => bytes.truncate(at),
            8 => {
                let end = bytes.len().min(at + 1 + random.below(24));
                bytes.drain(at..end);
            }
            _ => {
                let end = bytes.len().min(at + 1 + random.below(60));
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
        }
    }
}
