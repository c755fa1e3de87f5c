// SPDX-License-Identifier: MIT OR Apache-2.0
//! Puts the programs on an interface's hooks: tcx where the kernel has it, else clsact.
//!
//! A tcx link goes away with the process that holds it. A clsact filter does not: it has our own
//! handle, so that it, and nothing of anybody else's, is removed on drop, or by the next start
//! after a kill. On both we ask to run first: a program before us could end the packet's way.
#![allow(unsafe_code)]
use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use anyhow::{Result, anyhow};

use crate::{bpf::Program, flow::Hook, netlink::Netlink, netns::Netns, snapshot::HookKind};

const BPF_F_BEFORE: u32 = 1 << 3;
/// "tmon": the handle of our filters on a clsact qdisc.
const HANDLE: u32 = 0x746d_6f6e;
/// The priorities tried on a clsact qdisc, first to last.
const PRIORITIES: std::ops::RangeInclusive<u32> = 1..=16;

/// Which hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// tcx where the kernel has it, else clsact.
    #[default]
    Best,
    /// That one or none.
    Only(HookKind),
}

/// Programs on both hooks of one interface. Dropping it takes them off.
#[derive(Debug)]
pub struct Attachment {
    hooks: Vec<Attached>,
    /// Where the interface is. Its name, so that we do not keep the namespace alive.
    netns: Option<String>,
}

#[derive(Debug)]
enum Attached {
    /// The link: closing it detaches.
    Tcx {
        _link: OwnedFd,
    },
    Clsact(Filter),
}

impl Attachment {
    /// Attaches to the interface with this index in the network namespace, or the caller's.
    ///
    /// # Errors
    /// There is no such interface, no privilege, or no hook. Nothing is left attached.
    pub fn new(program: &Program, ifindex: u32, netns: Option<&Netns>, want: Want) -> Result<Attachment> {
        let mut made = Attachment { hooks: Vec::with_capacity(2), netns: netns.map(|n| n.name().to_owned()) };
        for hook in [Hook::Rx, Hook::Tx] {
            let attach = || attach(program.entry(hook), hook, ifindex, want);
            made.hooks.push(match netns {
                Some(n) => n.within(attach)?,
                None => attach(),
            }?);
        }
        Ok(made)
    }

    /// The hook in use.
    pub fn kind(&self) -> HookKind {
        match self.hooks.first() {
            Some(Attached::Clsact(_)) => HookKind::Clsact,
            _ => HookKind::Tcx,
        }
    }
}

fn attach(program: BorrowedFd<'_>, hook: Hook, ifindex: u32, want: Want) -> Result<Attached> {
    if want != Want::Only(HookKind::Clsact) {
        match tcx(program, hook, ifindex) {
            Ok(link) => return Ok(Attached::Tcx { _link: link }),
            // A kernel before 6.6 does not know the attach type.
            Err(e) if want == Want::Best && e.raw_os_error() == Some(libc::EINVAL) => {}
            Err(e) => return Err(refused("tcx", &e)),
        }
    }
    Filter::new(program, hook, ifindex).map(Attached::Clsact).map_err(|e| refused("clsact", &e))
}

fn refused(hook: &str, e: &io::Error) -> anyhow::Error {
    match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => anyhow!("not allowed to attach to its {hook} hook: run as root, or give tmon CAP_NET_ADMIN"),
        Some(libc::ENODEV | libc::ENOENT) => anyhow!("the interface went away: `ip link` lists those there are"),
        _ => anyhow!("its {hook} hook does not take our program ({e}): `tmon check` says what this kernel has"),
    }
}

fn tcx(program: BorrowedFd<'_>, hook: Hook, ifindex: u32) -> io::Result<OwnedFd> {
    let kind = match hook {
        Hook::Rx => libbpf_sys::BPF_TCX_INGRESS,
        Hook::Tx => libbpf_sys::BPF_TCX_EGRESS,
    };
    let opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags: BPF_F_BEFORE, // relative to nothing: before all
        ..Default::default()
    };
    // SAFETY: opts lives until the call returns.
    let fd = unsafe { libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, kind, &opts) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

impl Drop for Attachment {
    fn drop(&mut self) {
        let remove = || {
            for hook in &self.hooks {
                if let Attached::Clsact(filter) = hook {
                    filter.remove();
                }
            }
            for hook in &self.hooks {
                // The qdisc goes, too, if it is ours and nobody else has put a filter on it meanwhile.
                if let Attached::Clsact(Filter { ifindex, made_qdisc: true, .. }) = hook
                    && let Ok(mut netlink) = Netlink::open()
                    && netlink.clsact_filters(*ifindex).is_ok_and(|n| n == 0)
                {
                    let _ = netlink.delete_clsact(*ifindex); // as gone as it can be
                }
            }
        };
        // Where the namespace is gone, so are the interface and its filters.
        match &self.netns {
            None => remove(),
            Some(_) if self.kind() == HookKind::Tcx => {}
            Some(name) => drop(Netns::open(name).and_then(|n| n.within(remove))),
        }
    }
}

/// Our filter on one side of a clsact qdisc.
#[derive(Debug)]
struct Filter {
    ifindex: u32,
    side: libbpf_sys::bpf_tc_attach_point,
    priority: u32,
    made_qdisc: bool,
}

impl Filter {
    fn point(ifindex: u32, side: libbpf_sys::bpf_tc_attach_point) -> libbpf_sys::bpf_tc_hook {
        libbpf_sys::bpf_tc_hook {
            sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
            ifindex: ifindex as i32,
            attach_point: side,
            ..Default::default()
        }
    }

    fn new(program: BorrowedFd<'_>, hook: Hook, ifindex: u32) -> io::Result<Filter> {
        let side = match hook {
            Hook::Rx => libbpf_sys::BPF_TC_INGRESS,
            Hook::Tx => libbpf_sys::BPF_TC_EGRESS,
        };
        let mut point = Self::point(ifindex, side);
        // SAFETY: point lives until the call returns.
        let e = unsafe { libbpf_sys::bpf_tc_hook_create(&mut point) };
        if e != 0 && -e != libc::EEXIST {
            return Err(io::Error::from_raw_os_error(-e));
        }
        let made_qdisc = e == 0;
        let mut last = libc::EINVAL;
        for priority in PRIORITIES {
            let mut opts = libbpf_sys::bpf_tc_opts {
                sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
                prog_fd: program.as_raw_fd(),
                flags: libbpf_sys::BPF_TC_F_REPLACE, // of what a killed tmon left under our handle
                handle: HANDLE,
                priority,
                ..Default::default()
            };
            // SAFETY: both live until the call returns.
            match -unsafe { libbpf_sys::bpf_tc_attach(&point, &mut opts) } {
                0 => return Ok(Filter { ifindex, side, priority, made_qdisc }),
                // Another kind of classifier has this priority.
                e @ (libc::EINVAL | libc::EEXIST | libc::ENOENT | libc::EOPNOTSUPP) => last = e,
                e => return Err(io::Error::from_raw_os_error(e)),
            }
        }
        Err(io::Error::from_raw_os_error(last))
    }

    /// Takes the filter off, in its interface's namespace; it may be gone with the interface.
    fn remove(&self) {
        let opts = libbpf_sys::bpf_tc_opts {
            sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
            handle: HANDLE,
            priority: self.priority,
            ..Default::default()
        };
        // SAFETY: both live until the call returns.
        unsafe { libbpf_sys::bpf_tc_detach(&Self::point(self.ifindex, self.side), &opts) };
    }
}
