// SPDX-License-Identifier: MIT OR Apache-2.0
//! Attaches the programs to an interface's hooks: tcx if the kernel has it, otherwise clsact.
//!
//! A tcx link goes away with the process that holds it. A clsact filter does not: its handle marks
//! it as tmon's, and `owner.rs` knows whether that process is alive. Leftovers of a killed process
//! are removed by the next start, and nothing that belongs to others. On both hooks we ask to run
//! first, except before another tmon: a program before us could consume the packet.
#![allow(unsafe_code)]
use std::{
    io, mem,
    os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
};

use anyhow::{Context, Result, anyhow};
use caps::Capability;

use crate::kernel::{
    bpf::Program,
    netlink::{self, Netlink},
    netns::NetnsHandle,
    owner::{self, Owners, Token},
    privilege,
};
use model::{
    flow::{Hook, HookKind},
    units::sanitize,
};

// linux/bpf.h
const BPF_F_BEFORE: u32 = 1 << 3;
const BPF_F_AFTER: u32 = 1 << 4;
const BPF_F_ID: u32 = 1 << 5;
/// The handles of our filters on a clsact qdisc: this number, a bit that says that we also created
/// the qdisc, and a number below [`OWNERS`], so that several tmon can watch one interface.
const HANDLES: u32 = 0x746d_7000;
const MADE_QDISC: u32 = 0x100;
/// In a handle: the filter stays without a process, and counts into pinned tables (see
/// [`crate::kernel::pin`]).
const LASTING: u32 = 0x200;
const OWNERS: u32 = 0x100;
/// The priorities tried on a clsact qdisc, first to last.
const PRIORITIES: std::ops::RangeInclusive<u16> = 1..=16;
/// How often attaching is retried when others remove what our program is attached to.
const ATTEMPTS: usize = 64;
/// The maximum number of programs that the kernel allows on one tcx hook (BPF_MPROG_MAX).
const MOST_PROGRAMS: usize = 64;

/// Which hook to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    /// tcx if the kernel has it, otherwise clsact.
    #[default]
    Best,
    /// This one only.
    Only(HookKind),
}

/// The state of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It is unchanged, except for programs that now run before ours and can hide packets from it:
    /// one line each.
    There(Vec<String>),
    /// It was detached or replaced by another program, or the interface is gone.
    Gone,
}

/// The programs on both hooks of one interface. Dropping it detaches them.
#[derive(Debug)]
pub struct Attachment {
    place: NetnsHandle,
    ifindex: u32,
    /// The ids of the programs, by hook.
    programs: [u32; 2],
    /// The ids of another tmon's programs, found while we were permitted to query them.
    friends: Vec<u32>,
    hooks: Hooks,
    /// Whether the programs stay attached when this is dropped.
    stays: bool,
    /// Marks the owner of the programs as alive; dropped after they are detached.
    token: Option<Token>,
}

#[derive(Debug)]
enum Hooks {
    /// The links: closing one detaches.
    Tcx([OwnedFd; 2]),
    Clsact(Clsact),
}

const HOOKS: [Hook; 2] = [Hook::Rx, Hook::Tx];

impl Attachment {
    /// Attaches to the interface with this index.
    ///
    /// # Errors
    /// There is no such interface, not enough privilege, or no hook. Nothing is left attached.
    pub fn new(
        program: &Program,
        ifindex: u32,
        place: &NetnsHandle,
        want: Want,
    ) -> Result<Attachment> {
        Self::make(program, ifindex, place, want, false)
    }

    /// The same for an attachment that stays, see [`Attachment::keep`]. Removes what an earlier one
    /// left.
    ///
    /// # Errors
    /// Those of [`Attachment::new`].
    pub fn lasting(
        program: &Program,
        ifindex: u32,
        place: &NetnsHandle,
        want: Want,
    ) -> Result<Attachment> {
        place.run(move || remove_lasting(ifindex))??;
        Self::make(program, ifindex, place, want, true)
    }

    fn make(
        program: &Program,
        ifindex: u32,
        place: &NetnsHandle,
        want: Want,
        lasting: bool,
    ) -> Result<Attachment> {
        let programs = numbers(program)?;
        let [rx, tx] = HOOKS.map(|h| program.entry(h).try_clone_to_owned());
        let entries = [rx?, tx?];
        let made = move || {
            // Before they are attached, so that anybody who sees them knows at once whose they are.
            let owners = Owners::of(ifindex);
            let token = owners.as_ref().and_then(|o| o.sign(programs));
            let hooks = attach(&entries, ifindex, want, lasting, owners.as_ref())?;
            Ok::<_, anyhow::Error>((hooks, token, friends(ifindex)))
        };
        let (hooks, token, friends) = place.run(made)??;
        Ok(Attachment {
            place: place.clone(),
            ifindex,
            programs,
            friends,
            hooks,
            stays: false,
            token,
        })
    }

    /// The links, for the caller to pin; a filter stays by itself.
    pub fn links(&self) -> Vec<BorrowedFd<'_>> {
        match &self.hooks {
            Hooks::Tcx(links) => links.iter().map(AsFd::as_fd).collect(),
            Hooks::Clsact(_) => Vec::new(),
        }
    }

    /// Leaves the programs attached when this process ends, once its links are pinned.
    pub fn keep(&mut self) {
        self.stays = true;
        if let Some(token) = &mut self.token {
            token.keep();
        }
    }

    /// The attachment that another process has kept, by its pinned links or, without them, its
    /// filters. It may be [`Standing::Gone`]. Dropping it changes nothing.
    ///
    /// # Errors
    /// The kernel gives no answer.
    pub fn found(
        program: &Program,
        ifindex: u32,
        place: &NetnsHandle,
        links: Option<[OwnedFd; 2]>,
    ) -> Result<Attachment> {
        let programs = numbers(program)?;
        let hooks = match links {
            Some(links) => Hooks::Tcx(links),
            None => {
                let all = Netlink::open_inside(place)?.filters(ifindex)?;
                let filters = HOOKS.map(|hook| {
                    let program = Some(programs[hook as usize]);
                    let found = all
                        .iter()
                        .find(|f| is_lasting(f) && (f.hook, f.program) == (hook, program));
                    // A missing filter equals no other.
                    found.map_or(Filter { hook, handle: 0, priority: 0, program }, Filter::of)
                });
                Hooks::Clsact(Clsact { filters: filters.into(), ..Clsact::default() })
            }
        };
        let friends = place.run(move || friends(ifindex))?;
        Ok(Attachment {
            place: place.clone(),
            ifindex,
            programs,
            friends,
            hooks,
            stays: true,
            token: None,
        })
    }

    /// The hook in use.
    pub fn kind(&self) -> HookKind {
        match self.hooks {
            Hooks::Tcx(_) => HookKind::Tcx,
            Hooks::Clsact(_) => HookKind::Clsact,
        }
    }

    /// Whether the programs are still attached as they were. `netlink` is of the interface's
    /// namespace.
    ///
    /// # Errors
    /// The kernel gives no answer.
    pub fn standing(&self, netlink: &mut Netlink) -> Result<Standing> {
        let mut before = match &self.hooks {
            Hooks::Tcx(links) if linked(self.programs, links)? => Vec::new(),
            Hooks::Tcx(_) => return Ok(Standing::Gone),
            Hooks::Clsact(own) => match own.rivals(&netlink.filters(self.ifindex)?) {
                Some(before) => before,
                None => return Ok(Standing::Gone),
            },
        };
        let ifindex = self.ifindex;
        for (hook, id) in HOOKS.into_iter().zip(self.programs) {
            // On a kernel without tcx there are none.
            let there = self.place.run(move || tcx_programs(hook, ifindex))?.unwrap_or_default();
            let rivals = there
                .iter()
                .take_while(|other| **other != id)
                .filter(|other| !self.friends.contains(other) && !is_tmon(**other));
            before.extend(rivals.map(|other| on_tcx(*other, hook)));
        }
        Ok(Standing::There(before))
    }

    /// The interface is gone with everything on it: there is nothing to detach. Its index may
    /// already belong to another one.
    pub fn forget(mut self) {
        if let Hooks::Clsact(own) = &mut self.hooks {
            own.filters.clear();
            own.made_qdisc = false;
        }
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        if self.stays {
            return;
        }
        match &mut self.hooks {
            // At once: a child that is being started may hold the links for a moment as well.
            Hooks::Tcx(links) => links.iter().for_each(|link| detach(link.as_fd())),
            Hooks::Clsact(own) => {
                let (own, ifindex) = (mem::take(own), self.ifindex);
                // It is as detached as it can be.
                let _ = self.place.run(move || own.remove(ifindex, Owners::of(ifindex).as_ref()));
            }
        }
    }
}

/// Detaches a link's program, whoever else holds the link open.
pub(crate) fn detach(link: BorrowedFd<'_>) {
    // SAFETY: a descriptor of a link, open until the call returns.
    unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) };
}

fn side(hook: Hook) -> &'static str {
    match hook {
        Hook::Rx => "ingress",
        Hook::Tx => "egress",
    }
}

fn attach(
    programs: &[OwnedFd; 2],
    ifindex: u32,
    want: Want,
    lasting: bool,
    owners: Option<&Owners>,
) -> Result<Hooks> {
    if want != Want::Only(HookKind::Clsact) {
        let [rx, tx] = HOOKS.map(|h| tcx(programs[h as usize].as_fd(), h, ifindex));
        match rx.and_then(|rx| Ok(Hooks::Tcx([rx, tx?]))) {
            Ok(links) => return Ok(links),
            // A kernel before 6.6 does not know the attach type.
            Err(e) if want == Want::Best && e.raw_os_error() == Some(libc::EINVAL) => {}
            Err(e) => return Err(refused("tcx", &e)),
        }
    }
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match Clsact::new(programs, ifindex, lasting, owners) {
            Ok(own) => return Ok(Hooks::Clsact(own)),
            // The qdisc was removed before our filter was on it.
            Err(Refusal::Filter(_)) if left > 0 && !has_clsact(ifindex)? => {}
            Err(Refusal::Filter(e)) => return Err(refused("clsact", &e)),
            Err(Refusal::Other(e)) => return Err(e),
        }
    }
}

fn refused(hook: &str, e: &io::Error) -> anyhow::Error {
    match e.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => anyhow!(
            "not allowed to attach to its {hook} hook: {}",
            privilege::advice(&privilege::missing_of(&[Capability::CAP_NET_ADMIN]))
        ),
        Some(libc::ENODEV) => anyhow!("the interface is gone: `ip link` lists those present"),
        Some(libc::ENOENT) if hook == "clsact" => {
            anyhow!("this kernel has no classifier for BPF: load or build its cls_bpf")
        }
        _ => anyhow!(
            "its {hook} hook refused the program ({e}): `tmon check` shows what this kernel supports"
        ),
    }
}

fn tcx_kind(hook: Hook) -> libbpf_sys::bpf_attach_type {
    match hook {
        Hook::Rx => libbpf_sys::BPF_TCX_INGRESS,
        Hook::Tx => libbpf_sys::BPF_TCX_EGRESS,
    }
}

fn tcx(program: BorrowedFd<'_>, hook: Hook, ifindex: u32) -> io::Result<OwnedFd> {
    let mut left = ATTEMPTS;
    loop {
        left -= 1;
        match tcx_beside(program, hook, ifindex) {
            // The program that ours should follow disappeared in between.
            Err(e) if left > 0 && e.raw_os_error() == Some(libc::ENOENT) => {}
            linked => return linked,
        }
    }
}

fn tcx_beside(program: BorrowedFd<'_>, hook: Hook, ifindex: u32) -> io::Result<OwnedFd> {
    let mut opts = libbpf_sys::bpf_link_create_opts {
        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
        flags: BPF_F_BEFORE, // relative to nothing: before all
        ..Default::default()
    };
    // After those that pass every packet as we do, so that none of us seems to hide packets.
    if let Some(last) = tcx_programs(hook, ifindex)
        .unwrap_or_default()
        .into_iter()
        .take_while(|id| is_tmon(*id))
        .last()
    {
        opts.flags = BPF_F_AFTER | BPF_F_ID;
        opts.__bindgen_anon_1.tcx.relative_id = last;
    }
    // SAFETY: opts lives until the call returns.
    let fd = unsafe {
        libbpf_sys::bpf_link_create(program.as_raw_fd(), ifindex as i32, tcx_kind(hook), &opts)
    };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The ids of the programs on a tcx hook, in the order in which they run.
pub fn tcx_programs(hook: Hook, ifindex: u32) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; MOST_PROGRAMS];
    let mut opts = libbpf_sys::bpf_prog_query_opts {
        sz: size_of::<libbpf_sys::bpf_prog_query_opts>() as _,
        prog_ids: ids.as_mut_ptr(),
        ..Default::default()
    };
    opts.__bindgen_anon_1.count = ids.len() as u32;
    // SAFETY: opts and what it points to live until the call returns, and opts states its length.
    let e = unsafe { libbpf_sys::bpf_prog_query_opts(ifindex as i32, tcx_kind(hook), &mut opts) };
    if e != 0 {
        return Err(io::Error::from_raw_os_error(-e));
    }
    // SAFETY: either name of the union is the same number.
    ids.truncate(unsafe { opts.__bindgen_anon_1.count } as usize);
    Ok(ids)
}

/// The ids of the programs on both tcx hooks that are known to be tmon's.
fn friends(ifindex: u32) -> Vec<u32> {
    HOOKS
        .into_iter()
        .flat_map(|hook| tcx_programs(hook, ifindex).unwrap_or_default())
        .filter(|id| is_tmon(*id))
        .collect()
}

/// The name of a program, by its id. Only CAP_SYS_ADMIN may query it.
fn name(id: u32) -> Option<String> {
    // SAFETY: no pointers.
    let fd = unsafe { libbpf_sys::bpf_prog_get_fd_by_id(id) };
    if fd < 0 {
        return None;
    }
    // SAFETY: a descriptor that nobody else owns.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let bytes: Vec<u8> =
        describe(fd.as_fd()).ok()?.name.iter().map(|c| *c as u8).take_while(|b| *b != 0).collect();
    String::from_utf8(bytes).ok().filter(|name| !name.is_empty())
}

/// Whether a program is certainly tmon's: by its name, or, if that may not be queried, by the
/// record of its owner.
pub fn is_tmon(id: u32) -> bool {
    name(id).map_or_else(|| owner::is_tmon(id), |name| name.starts_with("tmon_"))
}

/// A program for messages: by its name, if that may be queried, and id.
pub fn shown(id: u32) -> String {
    name(id).map_or_else(
        || format!("BPF program {id}"),
        |name| format!("BPF program {} ({id})", sanitize(&name)),
    )
}

/// A program on a tcx hook, for messages.
pub fn on_tcx(id: u32, hook: Hook) -> String {
    format!("{} on tcx {}", shown(id), side(hook))
}

/// A filter, for messages.
pub fn on_clsact(f: &netlink::TcFilter) -> String {
    let program = f.program.map_or(String::new(), |id| format!(", {},", shown(id)));
    let (kind, side) = (sanitize(&f.kind), side(f.hook));
    format!("a {kind} filter of priority {} on clsact {side}{program}", f.priority)
}

/// The kernel's information about a program.
pub(crate) fn describe(program: BorrowedFd<'_>) -> io::Result<libbpf_sys::bpf_prog_info> {
    let mut info = libbpf_sys::bpf_prog_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: info has the stated size; zeroed, so that the kernel copies nothing else out.
    let e =
        unsafe { libbpf_sys::bpf_prog_get_info_by_fd(program.as_raw_fd(), &mut info, &mut size) };
    if e != 0 { Err(io::Error::from_raw_os_error(-e)) } else { Ok(info) }
}

/// A program's id.
fn number(program: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(describe(program)?.id)
}

fn numbers(program: &Program) -> Result<[u32; 2]> {
    let [rx, tx] = HOOKS.map(|h| number(program.entry(h)).context("get the id of a program"));
    Ok([rx?, tx?])
}

/// The interface that a tcx link is attached to, by its index in the network namespace in which it is
/// now, and the id of the program there; `None` when it is attached to none.
pub(crate) fn linked_to(link: BorrowedFd<'_>) -> io::Result<Option<(u32, u32)>> {
    let mut info = libbpf_sys::bpf_link_info::default();
    let mut size = size_of_val(&info) as u32;
    // SAFETY: info has the stated size.
    let e = unsafe { libbpf_sys::bpf_link_get_info_by_fd(link.as_raw_fd(), &mut info, &mut size) };
    if e != 0 {
        return Err(io::Error::from_raw_os_error(-e));
    }
    // SAFETY: every part of the union is integers, and this one is that of a tcx link.
    let ifindex = unsafe { info.__bindgen_anon_1.tcx.ifindex };
    Ok((ifindex != 0).then_some((ifindex, info.prog_id)))
}

/// Whether tcx links are attached to an interface, with these programs.
fn linked(programs: [u32; 2], links: &[OwnedFd; 2]) -> Result<bool> {
    for (link, id) in links.iter().zip(programs) {
        let to = linked_to(link.as_fd()).context("get the state of a link")?;
        if to.is_none_or(|(_, program)| program != id) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the programs are attached by these links, in whatever network namespace.
///
/// # Errors
/// The kernel gives no answer.
pub fn is_linked(program: &Program, links: &[OwnedFd; 2]) -> Result<bool> {
    linked(numbers(program)?, links)
}

/// Our filters on a clsact qdisc.
#[derive(Debug, Default)]
struct Clsact {
    filters: Vec<Filter>,
    /// Whether to remove the qdisc as well once nobody else has anything on it.
    made_qdisc: bool,
}

/// Why filters could not be added to a clsact qdisc.
enum Refusal {
    /// The qdisc exists, or existed, and rejected the filter.
    Filter(io::Error),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Refusal {
    fn from(e: anyhow::Error) -> Refusal {
        Refusal::Other(e)
    }
}

fn has_clsact(ifindex: u32) -> Result<bool> {
    Netlink::open()?.has_clsact(ifindex)
}

#[derive(Debug)]
struct Filter {
    hook: Hook,
    handle: u32,
    priority: u16,
    program: Option<u32>,
}

impl Clsact {
    fn new(
        programs: &[OwnedFd; 2],
        ifindex: u32,
        lasting: bool,
        owners: Option<&Owners>,
    ) -> Result<Clsact, Refusal> {
        let mut own = Clsact::default();
        let mut netlink = Netlink::open()?;
        let mut taken = Vec::new();
        for f in netlink.filters(ifindex).unwrap_or_default().iter().filter(|f| is_ours(f)) {
            own.made_qdisc |= f.handle & MADE_QDISC != 0;
            let is_orphan = |id| owners.is_some_and(|o| o.is_orphan(id));
            if !is_lasting(f) && f.program.is_some_and(is_orphan) {
                Filter::of(f).remove(ifindex);
            } else {
                taken.push(f.handle & (OWNERS - 1));
            }
        }
        let there = netlink.has_clsact(ifindex)?;
        if !there && netlink.has_ingress(ifindex)? {
            let text = "it has an `ingress` qdisc instead of clsact, and so no egress hook: move its filters to a clsact qdisc, which has both hooks";
            return Err(anyhow!(text).into());
        }
        if let Some(owners) = owners {
            owners.forget_killed();
            // A qdisc without filters that a killed tmon created is ours now.
            own.made_qdisc |=
                there && owners.has_begun_qdisc() && netlink.filters(ifindex)?.is_empty();
            match there && !own.made_qdisc {
                true => owners.qdisc_is_used(),
                false => owners.makes_qdisc(),
            }
        }
        let point = point(ifindex, libbpf_sys::BPF_TC_INGRESS | libbpf_sys::BPF_TC_EGRESS);
        // SAFETY: point lives until the call returns.
        match -unsafe { libbpf_sys::bpf_tc_hook_create(&mut { point }) } {
            0 => own.made_qdisc = true,
            // Another classifier's qdisc is there.
            libc::EEXIST if !own.made_qdisc => drop(owners.inspect(|o| o.qdisc_is_used())),
            libc::EEXIST => {}
            e => {
                owners.inspect(|o| o.qdisc_is_used());
                return Err(refused("clsact", &io::Error::from_raw_os_error(e)).into());
            }
        }
        let first = HANDLES | if own.made_qdisc { MADE_QDISC } else { 0 };
        let handle = if lasting {
            first | LASTING
        } else {
            let number = (0..OWNERS).find(|n| !taken.contains(n));
            first + number.context("too many instances of tmon are already watching it")?
        };
        for hook in HOOKS {
            match Filter::new(programs[hook as usize].as_fd(), hook, ifindex, handle) {
                Ok(filter) => own.filters.push(filter),
                Err(e) => {
                    let _ = own.remove(ifindex, owners); // failing to attach is the error to report
                    return Err(Refusal::Filter(e));
                }
            }
        }
        owners.inspect(|o| o.qdisc_is_used());
        Ok(own)
    }

    /// The filters that run before ours, one line each; `None` if one of ours is missing.
    fn rivals(&self, all: &[netlink::TcFilter]) -> Option<Vec<String>> {
        let mut before = Vec::new();
        for own in &self.filters {
            let at = all.iter().position(|f| own.is(f))?;
            let rivals = all[..at].iter().filter(|f| f.hook == own.hook && !is_ours(f));
            before.extend(rivals.map(on_clsact));
        }
        Some(before)
    }

    /// Removes all, in the interface's namespace; it may be gone with the interface.
    fn remove(self, ifindex: u32, owners: Option<&Owners>) -> Result<()> {
        let mut netlink = Netlink::open()?;
        let all = netlink.filters(ifindex)?;
        for own in self.filters.iter().filter(|own| all.iter().any(|f| own.is(f))) {
            own.remove(ifindex);
        }
        let begun = owners.is_some_and(Owners::has_begun_qdisc) && netlink.has_clsact(ifindex)?;
        if (self.made_qdisc || begun) && netlink.filters(ifindex)?.is_empty() {
            netlink.delete_clsact(ifindex)?;
        }
        owners.inspect(|o| o.qdisc_is_used());
        Ok(())
    }
}

/// Whether a filter is some tmon's, by its handle, and has not been replaced.
pub fn is_ours(f: &netlink::TcFilter) -> bool {
    f.kind == "bpf"
        && f.name.starts_with("tmon_")
        && f.handle & !(LASTING | MADE_QDISC | (OWNERS - 1)) == HANDLES
}

fn is_lasting(f: &netlink::TcFilter) -> bool {
    is_ours(f) && f.handle & LASTING != 0
}

/// Removes the lasting filters from an interface of the calling thread's network namespace.
///
/// # Errors
/// The kernel does not list them.
pub fn remove_lasting(ifindex: u32) -> Result<()> {
    let filters: Vec<_> =
        Netlink::open()?.filters(ifindex)?.into_iter().filter(is_lasting).collect();
    let made_qdisc = filters.iter().any(|f| f.handle & MADE_QDISC != 0);
    let owners = Owners::of(ifindex);
    if let Some(owners) = &owners {
        owners.forget_kept();
    }
    Clsact { filters: filters.iter().map(Filter::of).collect(), made_qdisc }
        .remove(ifindex, owners.as_ref())
}

fn point(ifindex: u32, side: libbpf_sys::bpf_tc_attach_point) -> libbpf_sys::bpf_tc_hook {
    libbpf_sys::bpf_tc_hook {
        sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
        ifindex: ifindex as i32,
        attach_point: side,
        ..Default::default()
    }
}

impl Filter {
    fn of(f: &netlink::TcFilter) -> Filter {
        Filter { hook: f.hook, handle: f.handle, priority: f.priority, program: f.program }
    }

    fn point(&self, ifindex: u32) -> libbpf_sys::bpf_tc_hook {
        let side = match self.hook {
            Hook::Rx => libbpf_sys::BPF_TC_INGRESS,
            Hook::Tx => libbpf_sys::BPF_TC_EGRESS,
        };
        point(ifindex, side)
    }

    fn opts(&self) -> libbpf_sys::bpf_tc_opts {
        libbpf_sys::bpf_tc_opts {
            sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
            handle: self.handle,
            priority: self.priority.into(),
            ..Default::default()
        }
    }

    fn new(program: BorrowedFd<'_>, hook: Hook, ifindex: u32, handle: u32) -> io::Result<Filter> {
        let id = Some(number(program)?);
        let mut last = libc::EINVAL;
        for priority in PRIORITIES {
            let filter = Filter { hook, handle, priority, program: id };
            let mut opts =
                libbpf_sys::bpf_tc_opts { prog_fd: program.as_raw_fd(), ..filter.opts() };
            // SAFETY: both live until the call returns.
            match -unsafe { libbpf_sys::bpf_tc_attach(&filter.point(ifindex), &mut opts) } {
                0 => return Ok(filter),
                // Another kind of classifier has this priority.
                e @ (libc::EINVAL | libc::EEXIST | libc::ENOENT | libc::EOPNOTSUPP) => last = e,
                e => return Err(io::Error::from_raw_os_error(e)),
            }
        }
        Err(io::Error::from_raw_os_error(last))
    }

    /// Whether it is this filter, with our program in it.
    fn is(&self, f: &netlink::TcFilter) -> bool {
        (self.hook, self.handle, self.priority, self.program)
            == (f.hook, f.handle, f.priority, f.program)
    }

    fn remove(&self, ifindex: u32) {
        // SAFETY: both live until the call returns.
        unsafe { libbpf_sys::bpf_tc_detach(&self.point(ifindex), &self.opts()) };
    }
}
