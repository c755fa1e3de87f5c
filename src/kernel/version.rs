// SPDX-License-Identifier: MIT OR Apache-2.0
//! The kernel's version, and whether it is new enough.
use anyhow::{Result, bail};

use model::units::sanitize;

/// The oldest version with the required BPF instructions (atomics with a result).
const OLDEST: (u32, u32) = (5, 12);

/// How well a kernel is supported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Age {
    /// tmon is tested on such kernels.
    Known,
    /// Untested, but nothing suggests that it does not work; or the release is not a version.
    Untried,
    /// It cannot work.
    TooOld,
}

/// The running kernel's release: `6.18.15-amd64`.
pub fn release() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// `6.18.15-amd64` as (6, 18).
pub fn parse(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// How well the kernel of this release is supported.
pub fn age(release: &str) -> Age {
    match parse(release) {
        Some(v) if v >= (6, 1) => Age::Known,
        Some(v) if v < OLDEST => Age::TooOld,
        _ => Age::Untried,
    }
}

/// Whether programs can be loaded into the running kernel.
///
/// # Errors
/// It is too old: its version, and the oldest one supported.
pub fn suffices() -> Result<()> {
    let release = release();
    if age(&release) == Age::TooOld {
        bail!("this is Linux {}: tmon needs 6.1 or newer", sanitize(&release));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_parsed() {
        for (release, expected) in [
            ("7.3.4+deb13-amd64", Age::Known),
            ("6.1.0-40-amd64", Age::Known),
            ("5.15.0-91-generic", Age::Untried),
            ("5.14.0", Age::Untried),
            ("5.12.19", Age::Untried),
            ("5.11.22", Age::TooOld),
            ("5.10.0-39-amd64", Age::TooOld),
            ("4.19.0", Age::TooOld),
            ("", Age::Untried),
            ("\x1b[2J", Age::Untried),
        ] {
            assert_eq!(age(release), expected, "{release:?}");
        }
        assert_eq!(parse("6.18.15-amd64"), Some((6, 18)));
    }
}
