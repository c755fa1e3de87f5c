// SPDX-License-Identifier: MIT OR Apache-2.0
//! Folders that only their owner can change, and their contents, always by descriptor.
//!
//! A path is resolved anew at each use, and if others may write there, it leads elsewhere the next
//! time. So a folder is opened once, never through a link, and refused if somebody else could
//! change it; everything in it is done relative to its descriptor.
use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::MetadataExt,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail};
use caps::Capability;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, openat},
    sys::stat::{FileStat, Mode, SFlag, fchmod, fstat, fstatat, mkdirat},
    unistd::{UnlinkatFlags, geteuid, unlinkat},
};

use crate::kernel::privilege;

/// Only the owner may list or change it.
const PRIVATE: Mode = Mode::S_IRWXU;
const WRITABLE: u32 = 0o022;
const STICKY: u32 = 0o1000;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder {
    fd: File,
    /// Its path for display.
    path: PathBuf,
}

/// We are not permitted to look into a folder.
#[derive(Debug)]
pub(crate) struct Denied(PathBuf);

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "not allowed to read {}: {}", self.0.display(), advice())
    }
}

impl std::error::Error for Denied {}

/// What to do if the file system denies something that root may do.
fn advice() -> String {
    if geteuid().is_root() || privilege::in_user_namespace() {
        return privilege::advice(&privilege::missing_of(&[Capability::CAP_DAC_OVERRIDE]));
    }
    "run as root".to_owned()
}

/// The owner of something that is not ours, and what to do about it.
pub(crate) fn stranger(uid: u32) -> (String, &'static str) {
    // In a user namespace, users without a mapping have this number (user_namespaces(7)).
    let unmapped = fs::read_to_string("/proc/sys/kernel/overflowuid");
    let unmapped = unmapped.ok().and_then(|n| n.trim().parse().ok()).unwrap_or(65_534);
    if uid == unmapped && privilege::in_user_namespace() {
        let who = "a user unknown in this user namespace".to_owned();
        return (who, "run tmon outside of it");
    }
    (format!("user {uid}, who could put anything there"), "check what it is, and remove it")
}

fn is_ours(stat: &FileStat) -> bool {
    stat.st_uid == 0 || stat.st_uid == geteuid().as_raw()
}

/// Why a folder cannot be trusted, if it cannot.
fn refusal(stat: &FileStat, path: &Path, shared: bool) -> Option<String> {
    let shown = path.display();
    if !is_ours(stat) {
        let (who, advice) = stranger(stat.st_uid);
        return Some(format!("{shown} belongs to {who}: {advice}"));
    }
    let mode = stat.st_mode;
    if mode & WRITABLE != 0 && !(shared && mode & STICKY != 0) {
        return Some(format!(
            "{shown} is writable by others (mode {:04o}): check what is in it, then `chmod go-w {shown}`",
            mode & 0o7777
        ));
    }
    None
}

impl Folder {
    /// The folder that contains ours. Others may have folders there if they cannot rename ours.
    /// `None` if it does not exist.
    pub(crate) fn around(path: &Path) -> Result<Option<Folder>> {
        // O_PATH: a folder that may not be listed may still be traversed.
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let fd = match nix::fcntl::open(path, flags, Mode::empty()) {
            Ok(fd) => fd,
            Err(Errno::ENOENT | Errno::ENOTDIR) => return Ok(None),
            Err(Errno::EACCES) => return Err(Denied(path.to_owned()).into()),
            Err(e) => bail!("open {}: {}", path.display(), e.desc()),
        };
        Self::checked(fd, path.to_owned(), true).map(Some)
    }

    fn checked(fd: OwnedFd, path: PathBuf, shared: bool) -> Result<Folder> {
        let stat = fstat(&fd).map_err(|e| anyhow!("look at {}: {}", path.display(), e.desc()))?;
        match refusal(&stat, &path, shared) {
            Some(why) => bail!("{why}"),
            None => Ok(Folder { fd: fd.into(), path }),
        }
    }

    /// A folder in it; `None` if there is none.
    ///
    /// # Errors
    /// It is not ours alone, is a link or not a folder, or we may not look into it.
    pub(crate) fn open(&self, name: &str) -> Result<Option<Folder>> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        match openat(&self.fd, name, flags, Mode::empty()) {
            Ok(fd) => Self::checked(fd, path, false).map(Some),
            Err(Errno::ENOENT) => Ok(None),
            // Its owner matters more than our lack of permission.
            Err(Errno::EACCES) => match self.stat(name).and_then(|s| refusal(&s, &path, false)) {
                Some(why) => bail!("{why}"),
                None => Err(Denied(path).into()),
            },
            Err(Errno::ELOOP | Errno::ENOTDIR) => {
                bail!(
                    "{} is a symbolic link or not a folder: check what it is, and remove it",
                    path.display()
                )
            }
            Err(e) => bail!("open {}: {}", path.display(), e.desc()),
        }
    }

    /// A folder in it that only we may look into, and whether it had to be created.
    ///
    /// # Errors
    /// Those of [`Folder::open`], or it cannot be created.
    pub(crate) fn make(&self, name: &str) -> Result<(Folder, bool)> {
        loop {
            let made = match mkdirat(&self.fd, name, PRIVATE) {
                Ok(()) => true,
                Err(Errno::EEXIST) => false,
                Err(e @ (Errno::EACCES | Errno::EPERM)) => {
                    let shown = self.path.join(name);
                    bail!("cannot make {}: {}: {}", shown.display(), e.desc(), advice())
                }
                Err(e) => bail!("cannot make {}: {}", self.path.join(name).display(), e.desc()),
            };
            // The last user removes it.
            let Some(folder) = self.open(name)? else { continue };
            // Older versions created it such that everybody could list and lock it.
            if folder.fd.metadata().is_ok_and(|m| m.mode() & 0o077 != 0) {
                let _ = fchmod(&folder.fd, PRIVATE); // if root owns it, another user may not
            }
            return Ok((folder, made));
        }
    }

    fn stat(&self, name: &str) -> Option<FileStat> {
        fstatat(&self.fd, name, AtFlags::AT_SYMLINK_NOFOLLOW).ok()
    }

    /// When an entry was last modified.
    pub(crate) fn modified(&self, name: &str) -> Option<SystemTime> {
        let seconds = u64::try_from(self.stat(name)?.st_mtime).ok()?;
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
    }

    /// Whether this name in it still refers to that folder.
    pub(crate) fn has(&self, name: &str, folder: &Folder) -> bool {
        let of = |s: FileStat| (s.st_dev, s.st_ino);
        self.stat(name)
            .zip(fstat(&folder.fd).ok())
            .is_some_and(|(there, open)| of(there) == of(open))
    }

    /// Its entries: names, and whether each is a folder.
    pub(crate) fn list(&self) -> Result<Vec<(String, bool)>> {
        let shown = || format!("list {}", self.path.display());
        let entries = fs::read_dir(self.magic(".")).with_context(shown)?;
        let entry = |e: io::Result<fs::DirEntry>| {
            let e = e.ok()?;
            let name = e.file_name().into_string().ok()?;
            // No link is followed for this.
            let is_folder = e.file_type().is_ok_and(|t| t.is_dir());
            Some((name, is_folder))
        };
        Ok(entries.filter_map(entry).collect())
    }

    /// The folders in it, by name; names that are not text are left out.
    pub(crate) fn folders(&self) -> Result<Vec<String>> {
        Ok(self.list()?.into_iter().filter(|e| e.1).map(|e| e.0).collect())
    }

    /// A path to an entry through the descriptor, for calls that take no descriptor.
    pub(crate) fn magic(&self, name: &str) -> PathBuf {
        format!("/proc/self/fd/{}/{name}", self.fd.as_raw_fd()).into()
    }

    /// The path of an entry, for display.
    pub(crate) fn shown(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    pub(crate) fn contains(&self, name: &str) -> bool {
        self.stat(name).is_some()
    }

    /// Opens or creates a file in it that only we may read.
    pub(crate) fn file(&self, name: &str, flags: OFlag) -> io::Result<File> {
        let flags = flags | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
        Ok(openat(&self.fd, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?.into())
    }

    /// Removes an entry that is not a folder. It is fine if it does not exist.
    pub(crate) fn remove(&self, name: &str) -> io::Result<()> {
        gone(unlinkat(&self.fd, name, UnlinkatFlags::NoRemoveDir))
    }

    /// Removes an empty folder. It is fine if it does not exist.
    pub(crate) fn remove_folder(&self, name: &str) -> io::Result<()> {
        gone(unlinkat(&self.fd, name, UnlinkatFlags::RemoveDir))
    }

    /// Renames an entry, replacing any entry that has the new name.
    pub(crate) fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        Ok(nix::fcntl::renameat(&self.fd, from, &self.fd, to)?)
    }

    /// Its descriptor as a file, for locking.
    pub(crate) fn to_file(&self) -> io::Result<File> {
        self.fd.try_clone()
    }

    /// The number of the file system.
    pub(crate) fn device(&self) -> Option<u64> {
        fstat(&self.fd).ok().map(|s| s.st_dev)
    }

    pub(crate) fn is_file(&self, name: &str) -> bool {
        self.stat(name).is_some_and(|s| s.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFREG.bits())
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn gone(removed: nix::Result<()>) -> io::Result<()> {
    match removed {
        Err(Errno::ENOENT) => Ok(()),
        removed => Ok(removed?),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("chmod");
    }

    #[test]
    fn folders_that_others_can_change_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let around = Folder::around(dir.path()).expect("ours").expect("there");
        let refused = |name: &str| around.open(name).map(drop).expect_err(name).to_string();

        let (own, made) = around.make("own").expect("make");
        assert!(made && !around.make("own").expect("again").1);
        assert_eq!(own.fd.metadata().expect("stat").mode() & 0o7777, 0o700);
        assert!(around.open("none").expect("nothing is fine").is_none());

        for bad in [0o720, 0o702, 0o1777] {
            mode(&dir.path().join("own"), bad);
            assert!(refused("own").contains(&format!("(mode {bad:04o})")), "{}", refused("own"));
        }
        mode(&dir.path().join("own"), 0o755);
        around.make("own").expect("of an older version");
        assert_eq!(own.fd.metadata().expect("stat").mode() & 0o7777, 0o700, "closed to others");

        symlink("own", dir.path().join("link")).expect("a link");
        assert!(refused("link").contains("link"), "{}", refused("link"));
        fs::write(dir.path().join("file"), "").expect("a file");
        assert!(refused("file").contains("not a folder"), "{}", refused("file"));
        if geteuid().is_root() {
            std::os::unix::fs::chown(dir.path().join("own"), Some(65534), None).expect("chown");
            assert!(refused("own").contains("belongs to user 65534"), "{}", refused("own"));
        }

        mode(dir.path(), 0o1777);
        Folder::around(dir.path()).expect("nobody can rename ours there");
        mode(dir.path(), 0o777);
        Folder::around(dir.path()).expect_err("everybody can");
    }
}
