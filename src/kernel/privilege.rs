// SPDX-License-Identifier: MIT OR Apache-2.0
//! What this process may do, what it needs, and how it gives up the rest.
//!
//! Loading takes CAP_BPF, CAP_PERFMON (without it the verifier rejects programs that add an unknown
//! number to a packet pointer, as skipping a header of variable length does) and CAP_NET_ADMIN;
//! attaching takes CAP_NET_ADMIN. CAP_SYS_ADMIN replaces all three with tcx, the first two with
//! clsact, and is required for entering another network namespace, which is done once, at startup.
//! None of them counts for bpf(2) in a user namespace.
use std::{fs, os::linux::fs::MetadataExt};

use anyhow::{Context, Result};
use caps::{CapSet, Capability, CapsHashSet};
use nix::{
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
    },
    unistd::geteuid,
};

/// What loading, attaching and reading need, and so what is kept.
const NEEDED: [Capability; 3] =
    [Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_NET_ADMIN];

/// The capabilities for loading programs and attaching them to tcx that are missing from a set (one
/// bit each, as in /proc/PID/status).
pub fn lacking(effective: u64) -> Vec<String> {
    let has = |c: Capability| effective & c.bitmask() != 0;
    let stands_in = enters_namespaces(effective);
    NEEDED.into_iter().filter(|c| !has(*c) && !stands_in).map(|c| c.to_string()).collect()
}

/// Whether a set of capabilities also suffices for clsact, which netlink guards.
pub fn attaches_by_netlink(effective: u64) -> bool {
    effective & Capability::CAP_NET_ADMIN.bitmask() != 0
}

/// Whether this process is in a user namespace of its own (user_namespaces(7)), in which it may
/// have all capabilities, but none that counts for bpf(2).
pub fn in_user_namespace() -> bool {
    /// PROC_USER_INIT_INO: the initial user namespace.
    const FIRST: u64 = 0xEFFF_FFFD;
    match fs::metadata("/proc/self/ns/user") {
        Ok(namespace) => namespace.st_ino() != FIRST,
        Err(_) => fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_whole(&map)),
    }
}

/// Whether a map of user ids is the complete identity.
fn is_whole(map: &str) -> bool {
    map.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Whether a set of capabilities suffices to enter another network namespace.
pub fn enters_namespaces(effective: u64) -> bool {
    effective & Capability::CAP_SYS_ADMIN.bitmask() != 0
}

/// The capabilities for loading and attaching programs that this thread lacks.
pub fn missing() -> Vec<String> {
    let has = caps::read(None, CapSet::Effective).unwrap_or_default();
    lacking(has.into_iter().fold(0, |bits, c| bits | c.bitmask()))
}

/// What to do about something that the kernel does not permit, for lack of capabilities or
/// otherwise: the advice depends on who asks.
pub fn advice(missing: &[String]) -> String {
    fitting(geteuid().is_root(), in_user_namespace(), missing)
}

fn fitting(root: bool, namespace: bool, missing: &[String]) -> String {
    let lacks = words(missing);
    match (root, missing) {
        _ if namespace => "this is a user namespace (rootless container, unprivileged LXC), whose \
            capabilities do not count for that: run tmon as the host's root"
            .to_owned(),
        (_, []) => {
            "a system call filter or a security module (container, lockdown) denies it: `tmon check` may show which"
                .to_owned()
        }
        (true, _) => format!(
            "root lacks {lacks} here: what started this process (container, service, setpriv) has to grant it"
        ),
        (false, _) => format!("run as root, or give tmon {lacks}"),
    }
}

/// Which of these capabilities this thread lacks.
pub fn missing_of(needed: &[Capability]) -> Vec<String> {
    let has = caps::read(None, CapSet::Effective).unwrap_or_default();
    needed.iter().filter(|c| !has.contains(c)).map(ToString::to_string).collect()
}

/// A list in words: "a, b and c".
pub fn words(names: &[String]) -> String {
    match names {
        [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
        names => names.concat(),
    }
}

/// Raises the soft limit of open descriptors to the hard limit: the usual 1,024, which exists for
/// select(2), are used up by some 60 interfaces.
pub fn raise_descriptors() {
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < hard
    {
        // If that is refused, there are fewer, which is reported when they run out.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
    }
}

/// Permanently gives up all privileges that this thread does not need. It and the threads that it
/// starts keep what loading, attaching and reading need, and nothing that they run ever gets more.
///
/// # Errors
/// The kernel refuses; what was given up stays so.
pub fn give_up_the_rest() -> Result<()> {
    keep(&kept(&caps::read(None, CapSet::Permitted)?))
}

/// Gives up for good all privileges of this thread.
///
/// # Errors
/// Those of [`give_up_the_rest`].
pub fn give_up_all() -> Result<()> {
    keep(&CapsHashSet::new())
}

fn keep(keep: &CapsHashSet) -> Result<()> {
    prctl::set_no_new_privs().context("give up gaining privileges")?;
    let give_up = || -> Result<(), caps::errors::CapsError> {
        // Changing the bounding set needs a capability, so it goes first.
        if caps::has_cap(None, CapSet::Effective, Capability::CAP_SETPCAP)? {
            for c in caps::read(None, CapSet::Bounding)?.difference(keep) {
                caps::drop(None, CapSet::Bounding, *c)?;
            }
        }
        caps::clear(None, CapSet::Ambient)?;
        caps::set(None, CapSet::Effective, keep)?;
        caps::set(None, CapSet::Permitted, keep)?;
        caps::clear(None, CapSet::Inheritable)
    };
    give_up().context("give up capabilities")
}

/// What remains of a set of capabilities.
fn kept(permitted: &CapsHashSet) -> CapsHashSet {
    let mut keep: CapsHashSet = NEEDED.into_iter().filter(|c| permitted.contains(c)).collect();
    // If it stands in for one of them, it is needed itself.
    if keep.len() < NEEDED.len() && permitted.contains(&Capability::CAP_SYS_ADMIN) {
        keep.insert(Capability::CAP_SYS_ADMIN);
    }
    keep
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_needed_is_kept() {
        let of = |names: &[Capability]| names.iter().copied().collect::<CapsHashSet>();
        assert_eq!(kept(&caps::all()), of(&NEEDED));
        assert_eq!(kept(&of(&[Capability::CAP_NET_RAW])), of(&[]));
        let old = [Capability::CAP_SYS_ADMIN, Capability::CAP_NET_ADMIN];
        assert_eq!(kept(&of(&old)), of(&old), "a substitute is kept");
    }

    #[test]
    fn one_capability_replaces_all() {
        let of = |c: &[Capability]| lacking(c.iter().fold(0, |bits, c| bits | c.bitmask())).len();
        assert_eq!([of(&[]), of(&[Capability::CAP_SYS_ADMIN]), of(&NEEDED)], [3, 0, 0]);
        assert_eq!(of(&[Capability::CAP_NET_ADMIN]), 2);
    }

    #[test]
    fn advice_depends_on_the_caller() {
        let bpf = ["CAP_BPF".to_owned()];
        assert_eq!(fitting(false, false, &bpf), "run as root, or give tmon CAP_BPF");
        for (root, namespace, missing, says) in [
            (true, false, &bpf[..], "root lacks CAP_BPF here"),
            (true, true, &bpf[..], "this is a user namespace"),
            (false, true, &[], "this is a user namespace"),
            (true, false, &[], "a system call filter"),
        ] {
            let advice = fitting(root, namespace, missing);
            assert!(advice.starts_with(says) && !advice.contains("run as root"), "{advice}");
        }
    }

    #[test]
    fn user_id_maps_are_parsed() {
        assert!(is_whole("         0          0 4294967295\n"));
        for part in ["0 1000 1\n", "0 100000 65536\n", "0 0 65536\n", ""] {
            assert!(!is_whole(part), "{part:?}");
        }
    }

    #[test]
    fn a_list_is_joined_in_words() {
        let of = |names: &[&str]| words(&names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>());
        assert_eq!(
            [of(&[]), of(&["a"]), of(&["a", "b"]), of(&["a", "b", "c"])],
            ["", "a", "a and b", "a, b and c"]
        );
    }
}
