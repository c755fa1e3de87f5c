// SPDX-License-Identifier: MIT OR Apache-2.0
//! Another program on the same hook: it counts packets, and passes or drops them.
#![allow(unsafe_code)]
use std::{
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    ptr,
};

use libbpf_sys::{BPF_MAP_TYPE_ARRAY, BPF_PROG_TYPE_SCHED_CLS, BPF_TC_EGRESS, BPF_TC_INGRESS};
use model::flow::{Hook, HookKind};

use super::Space;

/// TC_ACT_UNSPEC: continue with the next program. TC_ACT_SHOT: drop.
pub const NEXT: i32 = -1;
pub const DROP: i32 = 2;

/// The program, attached to one hook until dropped.
pub struct Rival {
    map: OwnedFd,
    _program: OwnedFd,
    /// The tcx link.
    _link: Option<OwnedFd>,
}

fn owned(fd: i32) -> OwnedFd {
    assert!(fd >= 0, "{}", std::io::Error::from_raw_os_error(-fd));
    // SAFETY: a descriptor that nobody else owns.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

impl Rival {
    /// Attaches it before everything that is on the hook at this time.
    pub fn attach(space: &Space, link: &str, hook: Hook, kind: HookKind, verdict: i32) -> Rival {
        Rival::at(space, link, hook, kind, verdict, (1, 1))
    }

    /// Replaces what is there: our own filter, with its handle and priority.
    pub fn replace(space: &Space, link: &str, hook: Hook) -> Rival {
        let filters = space.netlink().filters(space.link(link).index).unwrap();
        let f = filters
            .iter()
            .find(|f| f.hook == hook && f.name.starts_with("tmon_"))
            .expect("a filter of ours");
        Rival::at(space, link, hook, HookKind::Clsact, NEXT, (f.handle, f.priority.into()))
    }

    fn at(
        space: &Space,
        link: &str,
        hook: Hook,
        kind: HookKind,
        verdict: i32,
        (handle, priority): (u32, u32),
    ) -> Rival {
        let ifindex = space.link(link).index as i32;
        // SAFETY: no options.
        let map = owned(unsafe {
            libbpf_sys::bpf_map_create(BPF_MAP_TYPE_ARRAY, c"rival".as_ptr(), 4, 8, 1, ptr::null())
        });
        let insn = |opcode: u64, dst: u64, src: u64, imm: i32| {
            opcode | dst << 8 | src << 12 | u64::from(imm as u32) << 32
        };
        let code = [
            insn(0x18, 1, 2, map.as_raw_fd()), // r1 = the map's value
            0,
            insn(0xb7, 2, 0, 1), // r2 = 1
            insn(0xdb, 1, 2, 0), // lock *r1 += r2
            insn(0xb7, 0, 0, verdict),
            insn(0x95, 0, 0, 0),
        ];
        // SAFETY: the code has the stated length.
        let program = owned(unsafe {
            libbpf_sys::bpf_prog_load(
                BPF_PROG_TYPE_SCHED_CLS,
                c"rival".as_ptr(),
                c"GPL".as_ptr(),
                code.as_ptr().cast(),
                code.len() as _,
                ptr::null_mut(),
            )
        });
        let fd = program.as_raw_fd();
        let link = match kind {
            HookKind::Tcx => {
                let attach = move || {
                    let opts = libbpf_sys::bpf_link_create_opts {
                        sz: size_of::<libbpf_sys::bpf_link_create_opts>() as _,
                        flags: 1 << 3, // BPF_F_BEFORE
                        ..Default::default()
                    };
                    let at = if hook == Hook::Rx {
                        libbpf_sys::BPF_TCX_INGRESS
                    } else {
                        libbpf_sys::BPF_TCX_EGRESS
                    };
                    // SAFETY: opts lives until the call returns.
                    unsafe { libbpf_sys::bpf_link_create(fd, ifindex, at, &opts) }
                };
                Some(owned(space.0.within(attach).unwrap()))
            }
            _ => {
                let attach = move || {
                    let point = libbpf_sys::bpf_tc_hook {
                        sz: size_of::<libbpf_sys::bpf_tc_hook>() as _,
                        ifindex,
                        attach_point: if hook == Hook::Rx { BPF_TC_INGRESS } else { BPF_TC_EGRESS },
                        ..Default::default()
                    };
                    let mut opts = libbpf_sys::bpf_tc_opts {
                        sz: size_of::<libbpf_sys::bpf_tc_opts>() as _,
                        prog_fd: fd,
                        handle,
                        priority,
                        flags: libbpf_sys::BPF_TC_F_REPLACE,
                        ..Default::default()
                    };
                    // SAFETY: both live until the calls return.
                    unsafe {
                        libbpf_sys::bpf_tc_hook_create(&mut { point }); // it may exist already
                        libbpf_sys::bpf_tc_attach(&point, &mut opts)
                    }
                };
                assert_eq!(space.0.within(attach).unwrap(), 0);
                None
            }
        };
        Rival { map, _program: program, _link: link }
    }

    /// The number of packets that it has seen.
    pub fn packets(&self) -> u64 {
        let (key, mut value) = (0u32, 0u64);
        // SAFETY: key and value have the sizes of the map.
        let e = unsafe {
            libbpf_sys::bpf_map_lookup_elem(
                self.map.as_raw_fd(),
                (&raw const key).cast(),
                (&raw mut value).cast(),
            )
        };
        assert_eq!(e, 0);
        value
    }
}
