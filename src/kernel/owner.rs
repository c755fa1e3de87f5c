// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which programs are a tmon's, and whether it lives: a file for each attachment in a folder that
//! nobody else can look into.
//!
//! ```text
//! /run/tmon/1-2-17-18         netns cookie, ifindex, numbers of both programs; locked by the owner
//! /run/tmon/1-2-17-18-kept    the same of `tmon attach`, which ends before its programs do
//! /run/tmon/1-2-qdisc         a clsact qdisc is made here that has no filter yet
//! ```
//!
//! The kernel gives up the lock of a process that is killed. Where the folder cannot be had (another
//! user, another mount namespace) nobody's owner is known, and what is not known is left alone.
use std::{
    fs::File,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use nix::fcntl::{Flock, FlockArg, OFlag};

use crate::kernel::{
    bpf::is_gone,
    lock,
    netlink::Netlink,
    netns::{self, NetnsHandle},
    owned::Folder,
};

/// Made by the first who attaches.
pub(crate) const FOLDER: &str = "/run/tmon";
const RUN: &str = "/run";
const NAME: &str = "tmon";
/// How long to wait for others who attach or detach programs.
const PATIENCE: Duration = Duration::from_secs(2);
static HELD_UP: AtomicBool = AtomicBool::new(false);
/// What is said of a qdisc in a namespace that cannot be found is forgotten after a day.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
const QDISC: &str = "qdisc";
const KEPT: &str = "-kept";

/// What is known about the owners of one interface's programs. Others cannot change it, nor put
/// programs on interfaces or take them off, until this is dropped.
#[derive(Debug)]
pub(crate) struct Owners {
    folder: Folder,
    /// What names begin with.
    here: String,
    _lock: Option<Flock<File>>,
}

/// The programs of a living owner. Dropping it says that they are gone.
#[derive(Debug)]
pub(crate) struct Token {
    folder: Folder,
    name: String,
    kept: bool,
    _lock: Flock<File>,
}

fn open(make: bool) -> Option<Folder> {
    let run = Folder::around(Path::new(RUN)).ok()??;
    if make { run.make(NAME).ok().map(|made| made.0) } else { run.open(NAME).ok()? }
}

/// The numbers of programs in a name.
fn programs(name: &str) -> Option<[u32; 2]> {
    let mut parts = name.strip_suffix(KEPT).unwrap_or(name).split('-').skip(2);
    let both = [parts.next()?.parse().ok()?, parts.next()?.parse().ok()?];
    parts.next().is_none().then_some(both)
}

/// Whether a program is said to be a tmon's.
pub(crate) fn is_tmon(program: u32) -> bool {
    let names = open(false).and_then(|folder| folder.list().ok()).unwrap_or_default();
    names.iter().any(|(name, _)| programs(name).is_some_and(|ids| ids.contains(&program)))
}

/// The interface in a name that says a qdisc is being made: cookie of its namespace, and index.
fn begun(name: &str) -> Option<(u64, u32)> {
    let (cookie, ifindex) = name.strip_suffix(QDISC)?.strip_suffix('-')?.split_once('-')?;
    Some((cookie.parse().ok()?, ifindex.parse().ok()?))
}

/// Makes the folder, for those who may not later on; and forgets the qdiscs that somebody was killed
/// over and that are gone. The others are left to who attaches there.
pub(crate) fn prepare() {
    let Some(folder) = open(true) else { return }; // without it nobody's owner is known
    let lock = folder.to_file().ok().and_then(|folder| {
        lock::take(folder, FlockArg::LockExclusiveNonblock, Duration::ZERO).ok().flatten()
    });
    // Who is making one holds the lock.
    let Some(_lock) = lock else { return };
    for (name, _) in folder.list().unwrap_or_default() {
        let Some((cookie, ifindex)) = begun(&name) else { continue };
        let has_one = move || Netlink::open()?.has_clsact(ifindex);
        let is_there = match NetnsHandle::by_cookie(cookie) {
            Some(place) => place.run(has_one).and_then(|there| there).unwrap_or(true),
            // It is gone, has no name here, or may not be entered: an empty qdisc there hurts nobody.
            None => folder
                .modified(&name)
                .is_some_and(|at| at.elapsed().is_ok_and(|age| age < FORGOTTEN)),
        };
        if !is_there {
            let _ = folder.remove(&name); // the next one tries again
        }
    }
}

/// Forgets programs that no longer exist, here or in a namespace that is gone.
fn forget_gone(folder: &Folder) {
    for (name, _) in folder.list().unwrap_or_default() {
        if programs(&name).is_some_and(|ids| ids.into_iter().all(is_gone)) {
            let _ = folder.remove(&name); // the next one tries again
        }
    }
}

/// For who takes programs off: forgets all that are gone, in whatever namespace they were.
pub(crate) fn tidy() {
    let Some(folder) = open(false) else { return };
    let lock = folder.to_file().ok().and_then(|folder| {
        lock::take(folder, FlockArg::LockExclusiveNonblock, PATIENCE).ok().flatten()
    });
    if lock.is_some() {
        forget_gone(&folder);
    }
}

impl Owners {
    /// Those of an interface in the calling thread's network namespace.
    pub(crate) fn of(ifindex: u32) -> Option<Owners> {
        let cookie = netns::cookie().ok()?;
        let folder = open(true)?;
        // Who has waited in vain does not wait again for each interface.
        let patience = if HELD_UP.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
        let file = folder.to_file().ok()?;
        let lock = lock::take(file, FlockArg::LockExclusiveNonblock, patience).ok().flatten();
        HELD_UP.store(lock.is_none(), Ordering::Relaxed);
        if lock.is_some() {
            forget_gone(&folder);
        }
        Some(Owners { folder, here: format!("{cookie}-{ifindex}-"), _lock: lock })
    }

    /// The names of attachments here, and the numbers of their programs.
    fn names(&self) -> Vec<(String, [u32; 2])> {
        let all = self.folder.list().unwrap_or_default();
        let here = all.into_iter().filter(|(name, _)| name.starts_with(&self.here));
        here.filter_map(|(name, _)| programs(&name).map(|ids| (name, ids))).collect()
    }

    /// Whether the owner of what has this name was killed.
    fn was_killed(&self, name: &str) -> bool {
        let lock = |file| lock::take(file, FlockArg::LockSharedNonblock, Duration::ZERO);
        !name.ends_with(KEPT)
            && self
                .folder
                .file(name, OFlag::O_RDONLY)
                .and_then(lock)
                .is_ok_and(|lock| lock.is_some())
    }

    /// Whether a program is one that a tmon left which was killed.
    pub(crate) fn is_orphan(&self, program: u32) -> bool {
        self.names().iter().any(|(name, ids)| ids.contains(&program) && self.was_killed(name))
    }

    /// Forgets those who were killed: what they left is gone.
    pub(crate) fn forget_killed(&self) {
        for (name, _) in self.names() {
            if self.was_killed(&name) {
                let _ = self.folder.remove(&name); // it says nothing of anybody who lives
            }
        }
    }

    /// Forgets what `tmon attach` kept.
    pub(crate) fn forget_kept(&self) {
        for (name, _) in self.names() {
            if name.ends_with(KEPT) {
                let _ = self.folder.remove(&name); // as above
            }
        }
    }

    /// Says that these programs are ours, for as long as the token lives.
    pub(crate) fn sign(&self, programs: [u32; 2]) -> Option<Token> {
        let name = format!("{}{}-{}", self.here, programs[0], programs[1]);
        let file = self.folder.file(&name, OFlag::O_RDWR | OFlag::O_CREAT).ok()?;
        let lock = lock::take(file, FlockArg::LockExclusiveNonblock, Duration::ZERO).ok()??;
        Some(Token { folder: open(false)?, name, kept: false, _lock: lock })
    }

    fn qdisc(&self) -> String {
        format!("{}{QDISC}", self.here)
    }

    /// From here until [`Owners::qdisc_is_used`] a qdisc without filters is ours.
    pub(crate) fn makes_qdisc(&self) {
        drop(self.folder.file(&self.qdisc(), OFlag::O_RDWR | OFlag::O_CREAT));
    }

    pub(crate) fn qdisc_is_used(&self) {
        let _ = self.folder.remove(&self.qdisc()); // if it was there
    }

    /// Whether somebody was killed between a qdisc and its first filter.
    pub(crate) fn has_begun_qdisc(&self) -> bool {
        self.folder.contains(&self.qdisc())
    }
}

impl Token {
    /// The programs stay where they are when this process ends.
    pub(crate) fn keep(&mut self) {
        self.kept = self.folder.rename(&self.name, &format!("{}{KEPT}", self.name)).is_ok();
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.folder.remove(&self.name); // if it stays its lock is free
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_apart() {
        assert_eq!(programs("1-2-17-18"), Some([17, 18]));
        assert_eq!(programs("18446744073709551615-2-17-18-kept"), Some([17, 18]));
        for other in ["", "1-2-qdisc", "1-2-17", "1-2-17-18-19", "1-2-17-x", "1-2-17-18-kept-kept"]
        {
            assert_eq!(programs(other), None, "{other}");
        }
        assert_eq!(begun("18446744073709551615-2-qdisc"), Some((u64::MAX, 2)));
        for other in ["", "qdisc", "-qdisc", "1-qdisc", "1-2-17-18", "1-2-x-qdisc", "1-2qdisc"] {
            assert_eq!(begun(other), None, "{other}");
        }
    }
}
