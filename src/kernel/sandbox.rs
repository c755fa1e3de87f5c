// SPDX-License-Identifier: MIT OR Apache-2.0
//! Confinement of a reader before it reads untrusted input: Landlock restricts it to the files that
//! it needs later on, and a seccomp filter denies system calls that it never needs.
//!
//! Both are best effort: tmon also runs on a kernel without them, and `tmon check` reports it. Both
//! are inherited by children, so commands that the user names are started by
//! [`crate::kernel::runner::Runner`], which is forked before.
use std::{
    collections::BTreeMap,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result};
use landlock::{
    ABI, Access, AccessFs, LandlockStatus, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};

#[cfg(feature = "live")]
use crate::kernel::owner;
use crate::kernel::privilege;

/// The rights that are taken away; a kernel that does not know one leaves it.
const KNOWN: ABI = ABI::V5;

/// What is read after the start. Only single files of /etc: it also holds secrets, so a resolv.conf
/// that is replaced in /etc itself is not followed.
const READ: [&str; 30] = [
    // For interfaces and namespaces that come later: pins to join, and what loading reads from the
    // kernel.
    "/sys/fs/bpf",
    "/sys/kernel/btf",
    "/sys/devices/system/cpu",
    "/proc",
    "/run/netns",
    "/run/docker/netns",
    // Container runtimes' names for the addresses of pods.
    "/var/lib/cni",
    "/run/antrea/cni",
    // DNS by the system's own rules, whose modules are loaded at the first query.
    "/etc/resolv.conf",
    "/etc/nsswitch.conf",
    "/etc/hosts",
    "/etc/host.conf",
    "/etc/gai.conf",
    "/etc/services",
    "/etc/protocols",
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/run/systemd/resolve",
    "/run/resolvconf",
    "/run/NetworkManager",
    "/run/nscd",
    "/var/run/nscd",
    "/var/db/nscd",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/nix/store",
    "/gnu/store",
];

/// Folders in which only names of entries are read: their contents belong to the pods that wrote
/// them.
const LISTED: [&str; 1] = ["/var/log/pods"];

/// Devices that are also written to. The descriptors 0 to 2 are here for code that opens them
/// again.
const DEVICES: [&str; 5] =
    ["/dev/tty", "/dev/null", "/proc/self/fd/0", "/proc/self/fd/1", "/proc/self/fd/2"];

/// Restrictions for the threads of a reader. Clones share them.
#[derive(Clone, Debug)]
pub struct Sandbox {
    rules: Arc<Result<RulesetCreated, RulesetError>>,
    resolves: bool,
    talks: bool,
}

/// What this kernel enforces of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Force {
    /// The version of Landlock, if files are out of reach.
    pub landlock: Option<i32>,
    /// Whether system calls are denied.
    pub seccomp: bool,
}

impl Sandbox {
    /// Opens what a reader needs; `saves` is the folder in which it may create files. To be called
    /// with all privileges.
    pub fn new(saves: Option<&Path>) -> Sandbox {
        #[cfg(feature = "live")]
        owner::prepare();
        Sandbox { rules: Arc::new(rules(saves, None)), resolves: false, talks: false }
    }

    /// For readers that maintain files in a folder: create, read, replace and delete them.
    #[cfg(feature = "live")]
    pub fn keeping(folder: &Path) -> Sandbox {
        owner::prepare();
        Sandbox {
            rules: Arc::new(rules(Some(folder), Some(folder))),
            resolves: false,
            talks: false,
        }
    }

    /// For readers that look up names: all kinds of sockets stay allowed.
    pub fn resolving(self, resolves: bool) -> Sandbox {
        Sandbox { resolves, ..self }
    }

    /// For readers that connect to another host again and again: network sockets stay allowed.
    pub fn talking(self, talks: bool) -> Sandbox {
        Sandbox { talks, ..self }
    }

    /// Confines this thread and those that it starts to the files. If the kernel cannot, it
    /// continues without.
    pub fn confine(&self) -> Option<RestrictionStatus> {
        self.rules.as_ref().as_ref().ok()?.try_clone().ok()?.restrict_self().ok()
    }

    /// For threads that read untrusted input, and need no privilege for that.
    pub fn confine_strictly(&self) {
        let _ = privilege::give_up_all();
        self.confine();
    }

    /// The same, and gives up the privileges that a reader does not need.
    ///
    /// # Errors
    /// See [`privilege::give_up_the_rest`].
    pub fn enter(&self) -> Result<()> {
        privilege::give_up_the_rest()?;
        self.confine();
        Ok(())
    }

    /// The same, and denies system calls to all existing threads. Files and privileges are per
    /// thread: each of the others has to call [`Sandbox::enter`] itself.
    ///
    /// # Errors
    /// See [`privilege::give_up_the_rest`].
    pub fn enter_all(&self) -> Result<()> {
        self.enter()?;
        deny(if self.resolves { Sockets::Any } else { Sockets::NotUnix });
        Ok(())
    }

    /// The same for readers of captures: no privilege remains.
    ///
    /// # Errors
    /// See [`privilege::give_up_all`].
    pub fn enter_with_nothing(&self) -> Result<()> {
        privilege::give_up_all()?;
        self.confine();
        deny(match (self.resolves, self.talks) {
            (true, _) => Sockets::Any,
            (_, true) => Sockets::NotUnix,
            _ => Sockets::None,
        });
        Ok(())
    }
}

/// Denies system calls to all existing threads.
fn deny(sockets: Sockets) {
    if let Ok(filter) = filter(sockets) {
        // A kernel without seccomp offers less protection, but nothing else is wrong.
        let _ = seccompiler::apply_filter_all_threads(&filter);
    }
}

impl Force {
    /// Tries it on a thread that ends with the attempt.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn tried() -> Result<Force> {
        let attempt = || {
            let status = Sandbox::new(None).confine();
            let refused = File::open("/").is_err_and(|e| e.raw_os_error() == Some(libc::EACCES));
            let landlock = status.filter(|s| s.ruleset != RulesetStatus::NotEnforced && refused);
            let seccomp =
                filter(Sockets::None).is_ok_and(|f| seccompiler::apply_filter(&f).is_ok());
            Force {
                landlock: landlock.and_then(|s| match s.landlock {
                    LandlockStatus::Available { effective_abi, kernel_abi } => {
                        Some(kernel_abi.unwrap_or(effective_abi as i32))
                    }
                    _ => None,
                }),
                seccomp: seccomp && denies_exec(),
            }
        };
        thread::scope(|scope| {
            let thread = thread::Builder::new().spawn_scoped(scope, attempt).ok()?;
            thread.join().ok()
        })
        .context("start a thread")
    }
}

/// Executing a folder fails with a specific error, unless starting programs is denied.
#[allow(unsafe_code)]
fn denies_exec() -> bool {
    let none = [std::ptr::null()];
    // SAFETY: a path and two empty lists, which end with a null.
    unsafe { libc::execve(c"/".as_ptr(), none.as_ptr(), none.as_ptr()) };
    io::Error::last_os_error().raw_os_error() == Some(libc::EPERM)
}

fn rules(saves: Option<&Path>, keeps: Option<&Path>) -> Result<RulesetCreated, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let device = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::IoctlDev;
    // A file is created beside its target, and renamed. It is not opened for reading.
    let save = AccessFs::MakeReg | AccessFs::WriteFile | AccessFs::Truncate | AccessFs::RemoveFile;
    // Attaching and detaching are recorded there.
    #[cfg(feature = "live")]
    let owners = Some(owner::FOLDER);
    #[cfg(not(feature = "live"))]
    let owners: Option<&str> = None;
    // If resolv.conf is a link, its folder: it is replaced by creating a new file.
    let resolver = std::fs::canonicalize("/etc/resolv.conf")
        .ok()
        .and_then(|p| p.parent().map(Path::to_owned))
        .filter(|folder| folder.starts_with("/run"));
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(READ.iter().map(PathBuf::from).chain(resolver), read))?
        .add_rules(path_beneath_rules(LISTED, AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(terminals(), device))?
        .add_rules(path_beneath_rules(saves, save))?
        .add_rules(path_beneath_rules(keeps, read | save))?
        .add_rules(path_beneath_rules(owners, read | save))
}

/// Of descriptors, only those that are devices: writing to an open file needs no path.
fn terminals() -> impl Iterator<Item = &'static str> {
    use std::os::unix::fs::FileTypeExt;
    DEVICES
        .into_iter()
        .filter(|path| std::fs::metadata(path).is_ok_and(|m| m.file_type().is_char_device()))
}

/// The only mode that a created file may be given: that of a text file for node_exporter.
const PUBLIC: u64 = 0o644;

/// The sockets that may be created.
#[derive(Clone, Copy, Debug)]
enum Sockets {
    /// Names are looked up, by whatever means the system has.
    Any,
    /// All but Unix sockets, by which services on this host take requests.
    NotUnix,
    None,
}

/// System calls that no reader needs and that are useful to an intruder.
const DENIED: &[i64] = &[
    libc::SYS_execve,
    libc::SYS_execveat,
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_pidfd_getfd,
    libc::SYS_kcmp,
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_mount_setattr,
    467, // open_tree_attr
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_open_by_handle_at,
    libc::SYS_userfaultfd,
    libc::SYS_add_key,
    libc::SYS_request_key,
    libc::SYS_keyctl,
    // Landlock does not cover modes, owners and attributes, and root owns most files.
    libc::SYS_fchmodat,
    452, // fchmodat2
    libc::SYS_fchown,
    libc::SYS_fchownat,
    libc::SYS_setxattr,
    libc::SYS_lsetxattr,
    libc::SYS_fsetxattr,
    463, // setxattrat
    libc::SYS_removexattr,
    libc::SYS_lremovexattr,
    libc::SYS_fremovexattr,
    466, // removexattrat
    468, // file_setattr
    libc::SYS_utimensat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chmod,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_chown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_lchown,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utime,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_utimes,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_futimesat,
    // Nor, before its version 6, signals.
    libc::SYS_tkill,
    libc::SYS_pidfd_send_signal,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    // Operations submitted through its rings bypass the filter.
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
];

/// The numbers of those that differ in the x32 ABI, whose calls have this bit.
#[cfg(target_arch = "x86_64")]
const X32: (i64, [i64; 8]) = (0x4000_0000, [520, 521, 524, 528, 536, 539, 540, 545]);

/// The permitted arguments of some calls; all others are denied.
fn only(sockets: Sockets) -> Result<Vec<(i64, Vec<SeccompRule>)>> {
    let is =
        |argument, op, value| SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value);
    let other = |argument, value| {
        Ok::<_, anyhow::Error>(vec![SeccompRule::new(vec![is(
            argument,
            SeccompCmpOp::Ne,
            value,
        )?])?])
    };
    let own = u64::from(std::process::id());
    let user = libc::CLONE_NEWUSER as u64;
    let mut rules = vec![
        (libc::SYS_kill, other(0, own)?),
        (libc::SYS_tgkill, other(0, own)?), // raise(3) and abort(3)
        (libc::SYS_fchmod, other(1, PUBLIC)?),
        (
            libc::SYS_unshare,
            vec![SeccompRule::new(vec![is(0, SeccompCmpOp::MaskedEq(user), user)?])?],
        ),
    ];
    match sockets {
        Sockets::Any => {}
        Sockets::NotUnix => rules.push((
            libc::SYS_socket,
            vec![SeccompRule::new(vec![is(0, SeccompCmpOp::Eq, libc::AF_UNIX as u64)?])?],
        )),
        Sockets::None => rules.push((libc::SYS_socket, Vec::new())),
    }
    Ok(rules)
}

fn filter(sockets: Sockets) -> Result<BpfProgram> {
    let only = only(sockets)?;
    #[cfg(target_arch = "x86_64")]
    let in_x32 = only.iter().map(|(call, rules)| (call | X32.0, rules.clone())).collect::<Vec<_>>();
    let denied = DENIED.iter().copied();
    #[cfg(target_arch = "x86_64")]
    let denied = denied.chain(DENIED.iter().chain(&X32.1).map(|call| call | X32.0));
    let mut rules: BTreeMap<_, _> = denied.map(|call| (call, Vec::new())).chain(only).collect();
    #[cfg(target_arch = "x86_64")]
    rules.extend(in_x32);
    let deny = SeccompAction::Errno(libc::EPERM as u32);
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, deny, arch)?.try_into()?)
}
