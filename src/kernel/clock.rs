// SPDX-License-Identifier: MIT OR Apache-2.0
//! The accuracy of this host's clock, as reported by the kernel.
#![allow(unsafe_code)]
use std::{mem, time::Duration};

/// The clock's estimated error; `None` if it is not synchronised, see adjtimex(2).
pub fn error() -> Option<Duration> {
    // SAFETY: a struct of integers, all of which may be 0; with no mode set, nothing is changed.
    let (state, timex) = unsafe {
        let mut timex: libc::timex = mem::zeroed();
        (libc::adjtimex(&raw mut timex), timex)
    };
    let is_synchronised = state >= 0 && timex.status & libc::STA_UNSYNC == 0;
    let micros = u64::try_from(timex.esterror).ok().filter(|_| is_synchronised)?;
    Some(Duration::from_micros(micros))
}

/// CLOCK_MONOTONIC and CLOCK_BOOTTIME of the kernel's programs and the whole host, in nanoseconds:
/// without the offsets of this time namespace, time_namespaces(7).
#[cfg(feature = "live")]
pub(crate) mod host {
    use std::{fs, sync::LazyLock, time::Duration};

    use nix::time::{ClockId, clock_gettime};

    /// The programs' clock.
    pub(crate) fn packets() -> u64 {
        now(ClockId::CLOCK_MONOTONIC).saturating_add_signed(-OFFSETS[0])
    }

    /// The time since the host was started, which cannot be set.
    pub(crate) fn boot() -> u64 {
        now(ClockId::CLOCK_BOOTTIME).saturating_add_signed(-OFFSETS[1])
    }

    /// The wall-clock time at which the programs' clock was zero, according to both clocks now.
    pub(crate) fn zero() -> u64 {
        wall().wrapping_sub(packets())
    }

    /// The wall clock.
    pub(crate) fn wall() -> u64 {
        now(ClockId::CLOCK_REALTIME)
    }

    fn now(clock: ClockId) -> u64 {
        clock_gettime(clock).map_or(0, |t| Duration::from(t).as_nanos() as u64)
    }

    static OFFSETS: LazyLock<[i64; 2]> = LazyLock::new(|| {
        let all = fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
        ["monotonic", "boottime"].map(|clock| offset(&all, clock))
    });

    /// The offset of this clock in nanoseconds.
    fn offset(all: &str, clock: &str) -> i64 {
        let words = all.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = words.into_iter().find(|words| words.first() == Some(&clock));
        let number = |i: usize| line.as_ref()?.get(i)?.parse::<i64>().ok();
        let (seconds, nanoseconds) = (number(1).unwrap_or(0), number(2).unwrap_or(0));
        seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds)
    }

    #[cfg(test)]
    mod tests {
        use super::offset;

        #[test]
        fn offsets_of_a_time_namespace_are_read() {
            let all = "monotonic      100000         7\nboottime          -2 500000000\n";
            assert_eq!(offset(all, "monotonic"), 100_000_000_000_007);
            assert_eq!(offset(all, "boottime"), -1_500_000_000);
            assert_eq!(offset("", "monotonic"), 0);
            assert_eq!(offset("monotonic", "monotonic"), 0);
        }
    }
}
