// SPDX-License-Identifier: MIT OR Apache-2.0
//! Network namespaces: creating, entering, listing, removing.
//!
//! Named namespaces are those of `ip netns`: a file in `/run/netns` on which the namespace is
//! mounted (ip-netns(8)). Others are identified by the path of such a file
//! (`/run/docker/netns/...`), or by a process in them (`pid:1234`). The caller's own namespace
//! never changes: whatever has to run inside another one runs on a separate thread, see
//! [`Netns::within`].
use std::{
    fs::{self, File, OpenOptions},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::fs::{MetadataExt, OpenOptionsExt},
    },
    panic,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    mount::{MntFlags, MsFlags, mount, umount2},
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns, unshare},
    sys::{
        socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket},
        statfs::{NSFS_MAGIC, fstatfs},
    },
};

/// The directory of named namespaces, as for `ip netns`.
pub const DIR: &str = "/run/netns";
/// The directory with those of Docker's containers and networks.
const DOCKER: &str = "/run/docker/netns";
/// ioctl_ns(2): which kind of namespace a file is.
const NS_GET_NSTYPE: libc::Ioctl = 0xb703;

/// An open network namespace. It lives at least as long as this value; its name is not removed on drop.
#[derive(Debug)]
pub struct Netns {
    name: String,
    file: File,
}

impl Netns {
    /// Creates a namespace with this name, with nothing in it but a `lo` that is down.
    ///
    /// Fails if the name is taken; on failure the name is not left behind.
    pub fn create(name: &str) -> Result<Self> {
        let path = path_of(name)?;
        share_dir().with_context(|| {
            format!(
                "make {DIR} a place for network namespaces (it needs CAP_SYS_ADMIN: try as root)"
            )
        })?;
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o444)
            .open(&path)
            .with_context(|| format!("create network namespace '{name}'"))?;
        let made = on_own_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            mount(
                Some("/proc/thread-self/ns/net"),
                &path,
                None::<&str>,
                MsFlags::MS_BIND,
                None::<&str>,
            )
        });
        let opened = made.and_then(|done| Ok(done?)).and_then(|()| Self::open(name));
        if opened.is_err() {
            // The error of creating it is the one to report; a name that cannot be removed is found
            // by `list`.
            let _ = delete(name);
        }
        opened.with_context(|| {
            format!("create network namespace '{name}' (it needs CAP_SYS_ADMIN: try as root)")
        })
    }

    /// Opens the namespace with this name, at this path, or of this process (`pid:1234`).
    pub fn open(name: &str) -> Result<Self> {
        let path = file_of(name)?;
        // Other files at the path, for example a pipe, must not block us.
        let open = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(&path);
        let file = match open {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => match name.strip_prefix("pid:") {
                Some(pid) if path.starts_with("/proc") => bail!("there is no process {pid}"),
                _ => bail!("there is no network namespace '{name}' (`ip netns list` lists them)"),
            },
            Err(e) => return Err(e).with_context(|| format!("open network namespace '{name}'")),
        };
        if fstatfs(&file).with_context(|| format!("look at {}", path.display()))?.filesystem_type()
            != NSFS_MAGIC
        {
            if path.parent() != Some(Path::new(DIR)) {
                bail!("{} is not a network namespace", path.display());
            }
            bail!(
                "{} is not a network namespace, only what is left of one (remove it: `ip netns delete {name}`)",
                path.display()
            );
        }
        // SAFETY: the request takes no argument.
        #[allow(unsafe_code)]
        let kind = unsafe { libc::ioctl(file.as_raw_fd(), NS_GET_NSTYPE) };
        if kind != libc::CLONE_NEWNET {
            bail!("{} is a namespace, but not a network namespace", path.display());
        }
        Ok(Netns { name: name.to_owned(), file })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its inode number, see [`NetnsHandle::inode`].
    ///
    /// # Errors
    /// The file cannot be queried.
    pub fn inode(&self) -> Result<u32> {
        Ok(u32::try_from(self.file.metadata()?.ino())?)
    }

    /// Runs `f` on a separate thread that has entered this namespace; the caller stays where it is.
    /// What `f` opens there (sockets) stays there. A panic in `f` continues in the caller.
    pub fn within<T: Send>(&self, f: impl FnOnce() -> T + Send) -> Result<T> {
        on_own_thread(|| setns(&self.file, CloneFlags::CLONE_NEWNET).map(|()| f()))?.with_context(
            || {
                format!(
                    "enter network namespace '{}' (it needs CAP_SYS_ADMIN: try as root)",
                    self.name
                )
            },
        )
    }
}

/// A network namespace in which functions can be run, now and later.
///
/// For a named one, a thread of this process has entered it once: the privilege to enter may be
/// given up afterwards. The thread keeps the namespace alive, so check its name with
/// [`NetnsHandle::is_there`] and drop the handle once that is gone.
#[derive(Clone, Debug)]
pub enum NetnsHandle {
    /// The caller's own.
    Here,
    /// A named one.
    Inside(Arc<Resident>),
}

/// The thread in a named network namespace. It leaves and ends on drop.
#[derive(Debug)]
pub struct Resident {
    name: String,
    /// Device and inode: the same name may later refer to another namespace.
    identity: (u64, u64),
    /// The process that identifies it, if any.
    process: Option<OwnedFd>,
    jobs: Option<mpsc::Sender<Job>>,
    thread: Option<thread::JoinHandle<()>>,
}

type Job = Box<dyn FnOnce() + Send>;

impl NetnsHandle {
    /// Enters the namespace with this name, or stays here for `None`.
    ///
    /// # Errors
    /// There is none with this name, or no privilege to enter it.
    pub fn open(netns: Option<&str>) -> Result<NetnsHandle> {
        let Some(name) = netns else { return Ok(NetnsHandle::Here) };
        let netns = Netns::open(name)?;
        let identity = netns
            .file
            .metadata()
            .map(|m| (m.dev(), m.ino()))
            .with_context(|| format!("look at network namespace '{name}'"))?;
        let process = process(name);
        let (jobs, queue) = mpsc::channel::<Job>();
        let (entered, outcome) = mpsc::channel();
        let thread = thread::Builder::new()
            .name("tmon-netns".to_owned())
            .spawn(move || {
                let done = setns(&netns.file, CloneFlags::CLONE_NEWNET);
                drop(netns);
                let stays = done.is_ok();
                if entered.send(done).is_ok() && stays {
                    queue.into_iter().for_each(|job| job());
                }
            })
            .context("start a thread")?;
        let resident = Resident {
            name: name.to_owned(),
            identity,
            process,
            jobs: Some(jobs),
            thread: Some(thread),
        };
        outcome.recv().unwrap_or(Err(Errno::ECHILD)).with_context(|| {
            format!("enter network namespace '{name}' (it needs CAP_SYS_ADMIN: try as root)")
        })?;
        Ok(NetnsHandle::Inside(Arc::new(resident)))
    }

    /// The name of the namespace; `None` for the caller's own.
    pub fn name(&self) -> Option<&str> {
        match self {
            NetnsHandle::Here => None,
            NetnsHandle::Inside(resident) => Some(&resident.name),
        }
    }

    /// Whether the name still refers to this namespace.
    pub fn is_there(&self) -> bool {
        match self {
            NetnsHandle::Here => true,
            // A process's namespace may not be queried any more after privileges were given up.
            NetnsHandle::Inside(r) => match &r.process {
                Some(process) => {
                    let mut fds = [PollFd::new(process.as_fd(), PollFlags::POLLIN)];
                    poll(&mut fds, PollTimeout::ZERO) == Ok(0)
                }
                None => file_of(&r.name)
                    .and_then(|path| Ok(fs::metadata(path)?))
                    .is_ok_and(|m| (m.dev(), m.ino()) == r.identity),
            },
        }
    }

    /// Runs `f` there and waits for it.
    ///
    /// # Errors
    /// `f` panicked, now or earlier.
    pub fn run<T: Send + 'static>(&self, f: impl FnOnce() -> T + Send + 'static) -> Result<T> {
        let resident = match self {
            NetnsHandle::Here => return Ok(f()),
            NetnsHandle::Inside(resident) => resident,
        };
        let (done, outcome) = mpsc::channel();
        let job = Box::new(move || drop(done.send(f())));
        resident
            .jobs
            .as_ref()
            .and_then(|jobs| jobs.send(job).ok())
            .and_then(|()| outcome.recv().ok())
            .with_context(|| {
                format!("the thread in network namespace '{}' has died", resident.name)
            })
    }
}

impl NetnsHandle {
    /// Its inode number, which the kernel's own structures contain.
    ///
    /// # Errors
    /// /proc cannot be read.
    pub fn inode(&self) -> Result<u32> {
        let inode = match self {
            NetnsHandle::Here => fs::metadata("/proc/thread-self/ns/net")
                .context("look at the network namespace")?
                .ino(),
            NetnsHandle::Inside(resident) => resident.identity.1,
        };
        Ok(u32::try_from(inode)?)
    }

    /// The namespace's cookie, which is unique for as long as the kernel runs (SO_NETNS_COOKIE).
    ///
    /// # Errors
    /// The kernel is older than 5.14.
    pub fn cookie(&self) -> Result<u64> {
        self.run(cookie)?.context("ask for the number of a network namespace (Linux 5.14 has it)")
    }

    /// The caller's or a named namespace with this cookie; `None` if it cannot be reached.
    pub fn by_cookie(cookie: u64) -> Option<NetnsHandle> {
        NetnsHandle::find(|place| place.cookie().is_ok_and(|c| c == cookie))
    }

    /// The first of the caller's and the named namespaces of which this is true.
    pub fn find(is_it: impl Fn(&NetnsHandle) -> bool) -> Option<NetnsHandle> {
        let names = names();
        let named = names.iter().filter_map(|name| NetnsHandle::open(Some(name)).ok());
        std::iter::once(NetnsHandle::Here).chain(named).find(is_it)
    }
}

/// The cookie of the calling thread's namespace.
#[allow(unsafe_code)]
pub(crate) fn cookie() -> io::Result<u64> {
    // A kind of socket that confined readers may create as well.
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkRoute,
    )?;
    let mut cookie = 0u64;
    let mut size = size_of_val(&cookie) as libc::socklen_t;
    // SAFETY: the kernel writes at most `size` bytes.
    let e = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut size,
        )
    };
    if e == 0 { Ok(cookie) } else { Err(io::Error::last_os_error()) }
}

/// Runs `f` in a network namespace of its own, with nothing but a `lo` in it, which ends with `f`.
///
/// # Errors
/// No privilege to create one (CAP_SYS_ADMIN).
pub fn scratch<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    on_own_thread(|| unshare(CloneFlags::CLONE_NEWNET).map(|()| f()))?
        .context("make a network namespace")
}

impl Drop for Resident {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic there has been reported by whoever waited for it
        }
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Removes a name; the namespace itself goes when nothing uses it any more. Returns false if there
/// was no such name.
pub fn delete(name: &str) -> Result<bool> {
    let path = path_of(name)?;
    match umount2(&path, MntFlags::MNT_DETACH) {
        // EINVAL: nothing is mounted there, the remains of an interrupted creation.
        Ok(()) | Err(Errno::EINVAL) => {}
        Err(Errno::ENOENT) => return Ok(false),
        Err(e) => return Err(e).with_context(|| format!("unmount network namespace '{name}'")),
    }
    match fs::remove_file(&path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e).with_context(|| format!("remove network namespace '{name}'")),
    }
}

/// The names that exist, sorted. A name may be such a remainder, which [`Netns::open`] refuses.
pub fn list() -> Result<Vec<String>> {
    let entries = match fs::read_dir(DIR) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("list {DIR}"))?,
    };
    let mut names: Vec<String> =
        entries.filter_map(|e| e.ok()?.file_name().into_string().ok()).collect();
    names.sort_unstable();
    Ok(names)
}

/// The names of `ip netns`, and the paths of Docker's namespaces.
fn names() -> Vec<String> {
    let mut names = list().unwrap_or_default();
    let docker = fs::read_dir(DOCKER).into_iter().flatten();
    let mut paths: Vec<String> =
        docker.filter_map(|e| e.ok()?.path().into_os_string().into_string().ok()).collect();
    paths.sort_unstable();
    names.append(&mut paths);
    names
}

/// Every network namespace except the caller's that has a name or belongs to Docker, each once, by
/// what [`Netns::open`] accepts; or why it cannot be opened.
pub fn others() -> Vec<(String, Result<Netns>)> {
    let identity = |m: fs::Metadata| (m.dev(), m.ino());
    let mut seen: Vec<_> =
        fs::metadata("/proc/thread-self/ns/net").ok().map(identity).into_iter().collect();
    let mut all = Vec::new();
    for name in names() {
        let opened = Netns::open(&name);
        if let Some(this) = opened.as_ref().ok().and_then(|n| n.file.metadata().ok()).map(identity)
        {
            if seen.contains(&this) {
                continue;
            }
            seen.push(this);
        }
        all.push((name, opened));
    }
    all
}

/// The file of a namespace, by name, path or process.
fn file_of(name: &str) -> Result<PathBuf> {
    if name.contains('/') {
        if !name.starts_with('/') || name.contains('\0') {
            bail!(
                "'{}' is neither the name of a network namespace nor an absolute path",
                short(name)
            );
        }
        return Ok(PathBuf::from(name));
    }
    let named = path_of(name)?;
    match name.strip_prefix("pid:") {
        Some(pid) if !named.exists() => match pid.parse::<u32>() {
            Ok(pid) if pid > 0 => Ok(PathBuf::from(format!("/proc/{pid}/ns/net"))),
            _ => bail!("'{}' is not the number of a process", short(pid)),
        },
        _ => Ok(named),
    }
}

/// The process that identifies a namespace: readable once that has ended. (Linux 5.3.)
#[allow(unsafe_code)]
fn process(name: &str) -> Option<OwnedFd> {
    let path = file_of(name).ok().filter(|path| path.starts_with("/proc"))?;
    let pid: libc::pid_t = path.iter().nth(2)?.to_str()?.parse().ok()?;
    // SAFETY: the call takes two numbers; its result is a descriptor of ours, or negative.
    unsafe {
        let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        (fd >= 0).then(|| OwnedFd::from_raw_fd(fd as i32))
    }
}

/// The user's text, shortened for a message.
fn short(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// The name of the caller's own namespace, if it has one.
pub fn name_of_own() -> Option<String> {
    let of = |m: fs::Metadata| (m.dev(), m.ino());
    let own = of(fs::metadata("/proc/thread-self/ns/net").ok()?);
    let is_own =
        |name: &String| fs::metadata(Path::new(DIR).join(name)).is_ok_and(|m| of(m) == own);
    list().ok()?.into_iter().find(is_own)
}

/// The file of a name, or why it cannot be a name.
fn path_of(name: &str) -> Result<PathBuf> {
    let shown = short(name);
    if name.is_empty()
        || name.len() > 255
        || name == "."
        || name == ".."
        || name.contains(['/', '\0'])
    {
        bail!(
            "'{shown}' cannot be the name of a network namespace (a file name of at most 255 bytes)"
        );
    }
    Ok(Path::new(DIR).join(name))
}

/// Makes [`DIR`] a shared mount as `ip netns` does, so that a name removed in one mount namespace is gone in all.
fn share_dir() -> Result<()> {
    fs::create_dir_all(DIR)?;
    let share = || {
        mount(None::<&str>, DIR, None::<&str>, MsFlags::MS_SHARED | MsFlags::MS_REC, None::<&str>)
    };
    match share() {
        // Not a mount point yet.
        Err(Errno::EINVAL) => {
            mount(Some(DIR), DIR, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)?;
            Ok(share()?)
        }
        shared => Ok(shared?),
    }
}

/// Runs `f` on a separate thread. Namespaces belong to threads: changes on it end with it.
fn on_own_thread<T: Send>(f: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, f).context("start a thread")?;
        thread.join().map_or_else(|panicked| panic::resume_unwind(panicked), Ok)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_leave_the_directory() {
        for bad in ["", ".", "..", "a/b", "../etc", "a\0b", &"x".repeat(256)] {
            assert!(path_of(bad).is_err(), "{bad:?}");
            assert!(
                Netns::open(bad).is_err() && Netns::create(bad).is_err() && delete(bad).is_err(),
                "{bad:?}"
            );
        }
        let long = format!("{:#}", path_of(&"\x1b".repeat(10_000)).expect_err("too long"));
        assert!(long.len() < 400 && !long.contains('\x1b'), "{long}");
        assert_eq!(path_of("a b").expect("a name"), Path::new("/run/netns/a b"));
    }

    #[test]
    fn a_namespace_is_identified_by_name_path_or_process() {
        let file = |name| file_of(name).expect("a file");
        assert_eq!(file("a"), Path::new("/run/netns/a"));
        assert_eq!(file("/run/docker/netns/1-x"), Path::new("/run/docker/netns/1-x"));
        assert_eq!(file("pid:12"), Path::new("/proc/12/ns/net"));
        for bad in ["pid:", "pid:0", "pid:-1", "pid:x", "pid:4294967296", "./a", "a/b", "/a\0b"] {
            assert!(file_of(bad).is_err(), "{bad:?}");
        }
        let refused = |name: &str| format!("{:#}", Netns::open(name).expect_err("none"));
        assert!(refused("/proc/self/ns/uts").contains("not a network namespace"));
        assert!(refused("/proc/self/status").ends_with("is not a network namespace"));
        assert_eq!(refused("pid:4294967295"), "there is no process 4294967295");
        let own = format!("pid:{}", std::process::id());
        assert!(Netns::open(&own).is_ok() && Netns::open("/proc/self/ns/net").is_ok());
    }
}
