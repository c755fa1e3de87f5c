// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which programs belong to a tmon, and whether that is alive: a file for each attachment in a
//! folder that nobody else can look into.
//!
//! ```text
//! /run/tmon/1-2-17-18         netns cookie, ifindex, numbers of both programs; locked by the owner
//! /run/tmon/1-2-17-18-kept    the same for `tmon attach`, which ends before its programs do
//! /run/tmon/1-2-qdisc         a clsact qdisc is being created here and has no filter yet
//! ```
//!
//! The kernel releases the lock of a process that is killed. If the folder is not available
//! (another user, another mount namespace), no owner is known, and unknown programs are left alone.
use std::{
    fs::File,
    path::Path,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
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

/// Created by the first process that attaches.
pub(crate) const FOLDER: &str = "/run/tmon";
const RUN: &str = "/run";
const NAME: &str = "tmon";
/// How long to wait for others that attach or detach programs.
const PATIENCE: Duration = Duration::from_secs(2);
static HELD_UP: AtomicBool = AtomicBool::new(false);
static HOLDER: Mutex<Option<String>> = Mutex::new(None);
/// A record of a qdisc in a namespace that cannot be found is forgotten after a day.
const FORGOTTEN: Duration = Duration::from_secs(24 * 3600);
const QDISC: &str = "qdisc";
const KEPT: &str = "-kept";

/// What is known about the owners of one interface's programs. Until this is dropped, other
/// processes can neither change it nor attach or detach programs.
#[derive(Debug)]
pub(crate) struct Owners {
    folder: Folder,
    /// The common prefix of the names.
    here: String,
    _lock: Option<Flock<File>>,
}

/// The programs of a living owner. Dropping it records that they are gone.
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

/// The program ids in a name.
fn programs(name: &str) -> Option<[u32; 2]> {
    let mut parts = name.strip_suffix(KEPT).unwrap_or(name).split('-').skip(2);
    let both = [parts.next()?.parse().ok()?, parts.next()?.parse().ok()?];
    parts.next().is_none().then_some(both)
}

/// Whether a program is recorded as tmon's.
pub(crate) fn is_tmon(program: u32) -> bool {
    let names = open(false).and_then(|folder| folder.list().ok()).unwrap_or_default();
    names.iter().any(|(name, _)| programs(name).is_some_and(|ids| ids.contains(&program)))
}

/// The interface in a name that records the creation of a qdisc: the cookie of its namespace, and
/// its index.
fn begun(name: &str) -> Option<(u64, u32)> {
    let (cookie, ifindex) = name.strip_suffix(QDISC)?.strip_suffix('-')?.split_once('-')?;
    Some((cookie.parse().ok()?, ifindex.parse().ok()?))
}

/// Creates the folder, for threads that may not later on; and forgets interrupted qdiscs that are
/// gone. The others are left to whoever attaches there.
pub(crate) fn prepare() {
    let Some(folder) = open(true) else { return }; // without it no owner is known
    let lock = folder.to_file().ok().and_then(|folder| {
        lock::take(folder, FlockArg::LockExclusiveNonblock, Duration::ZERO).ok().flatten()
    });
    // Whoever is creating one holds the lock.
    let Some(_lock) = lock else { return };
    for (name, _) in folder.list().unwrap_or_default() {
        let Some((cookie, ifindex)) = begun(&name) else { continue };
        let has_one = move || Netlink::open()?.has_clsact(ifindex);
        let is_there = match NetnsHandle::by_cookie(cookie) {
            Some(place) => place.run(has_one).and_then(|there| there).unwrap_or(true),
            // It is gone, has no name here, or may not be entered: an empty qdisc there does no
            // harm.
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

/// For detaching: forgets all programs that are gone, in whatever namespace they were.
pub(crate) fn tidy() {
    let Some(folder) = open(false) else { return };
    let lock = folder.to_file().ok().and_then(|folder| {
        lock::take(folder, FlockArg::LockExclusiveNonblock, PATIENCE).ok().flatten()
    });
    if lock.is_some() {
        forget_gone(&folder);
    }
}

/// A line about who has held up this process since the last call, if somebody has.
pub(crate) fn holder() -> Option<String> {
    let who = HOLDER.lock().unwrap_or_else(PoisonError::into_inner).take()?;
    Some(format!(
        "{who} holds the lock of {FOLDER}: leftovers of a killed tmon on interfaces are not removed"
    ))
}

impl Owners {
    /// The owners of an interface in the calling thread's network namespace.
    pub(crate) fn of(ifindex: u32) -> Option<Owners> {
        let cookie = netns::cookie().ok()?;
        let folder = open(true)?;
        // After waiting in vain once, it does not wait again for each interface.
        let patience = if HELD_UP.load(Ordering::Relaxed) { Duration::ZERO } else { PATIENCE };
        let file = folder.to_file().ok()?;
        let lock = lock::take(file, FlockArg::LockExclusiveNonblock, patience).ok().flatten();
        if lock.is_none() && !HELD_UP.swap(true, Ordering::Relaxed) {
            let who = folder
                .to_file()
                .map_or_else(|_| "another process".to_owned(), |f| lock::holder(&f));
            *HOLDER.lock().unwrap_or_else(PoisonError::into_inner) = Some(who);
        } else if lock.is_some() {
            HELD_UP.store(false, Ordering::Relaxed);
        }
        if lock.is_some() {
            forget_gone(&folder);
        }
        Some(Owners { folder, here: format!("{cookie}-{ifindex}-"), _lock: lock })
    }

    /// The names of attachments here, and the ids of their programs.
    fn names(&self) -> Vec<(String, [u32; 2])> {
        let all = self.folder.list().unwrap_or_default();
        let here = all.into_iter().filter(|(name, _)| name.starts_with(&self.here));
        here.filter_map(|(name, _)| programs(&name).map(|ids| (name, ids))).collect()
    }

    /// Whether the owner of this name was killed.
    fn was_killed(&self, name: &str) -> bool {
        let lock = |file| lock::take(file, FlockArg::LockSharedNonblock, Duration::ZERO);
        !name.ends_with(KEPT)
            && self
                .folder
                .file(name, OFlag::O_RDONLY)
                .and_then(lock)
                .is_ok_and(|lock| lock.is_some())
    }

    /// Whether a program was left by a tmon that was killed.
    pub(crate) fn is_orphan(&self, program: u32) -> bool {
        self.names().iter().any(|(name, ids)| ids.contains(&program) && self.was_killed(name))
    }

    /// Forgets owners that were killed: what they left is gone.
    pub(crate) fn forget_killed(&self) {
        for (name, _) in self.names() {
            if self.was_killed(&name) {
                let _ = self.folder.remove(&name); // it belongs to no living process
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

    /// Records that these programs are ours, for as long as the token lives.
    pub(crate) fn sign(&self, programs: [u32; 2]) -> Option<Token> {
        let name = format!("{}{}-{}", self.here, programs[0], programs[1]);
        let file = self.folder.file(&name, OFlag::O_RDWR | OFlag::O_CREAT).ok()?;
        let lock = lock::take(file, FlockArg::LockExclusiveNonblock, Duration::ZERO).ok()??;
        Some(Token { folder: open(false)?, name, kept: false, _lock: lock })
    }

    fn qdisc(&self) -> String {
        format!("{}{QDISC}", self.here)
    }

    /// From now until [`Owners::qdisc_is_used`], a qdisc without filters is ours.
    pub(crate) fn makes_qdisc(&self) {
        drop(self.folder.file(&self.qdisc(), OFlag::O_RDWR | OFlag::O_CREAT));
    }

    pub(crate) fn qdisc_is_used(&self) {
        let _ = self.folder.remove(&self.qdisc()); // if it exists
    }

    /// Whether a tmon was killed between creating a qdisc and adding its first filter.
    pub(crate) fn has_begun_qdisc(&self) -> bool {
        self.folder.contains(&self.qdisc())
    }
}

impl Token {
    /// The programs stay attached when this process ends.
    pub(crate) fn keep(&mut self) {
        self.kept = self.folder.rename(&self.name, &format!("{}{KEPT}", self.name)).is_ok();
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        if !self.kept {
            let _ = self.folder.remove(&self.name); // if it stays, its lock is free
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_names_are_parsed() {
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
