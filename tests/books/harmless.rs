// SPDX-License-Identifier: MIT OR Apache-2.0
//! tmon goes unnoticed: by packets, by other programs, and in the configuration, even when it is
//! killed.
use std::{
    os::fd::{AsRawFd, OwnedFd},
    process::{Child, Command, Stdio},
};

use model::{
    flow::{Hook, HookKind},
    snapshot::Snapshot,
};
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt::RcvBufForce,
};
use tmon::kernel::{attach::Want, live::Live};

use crate::ground::{
    rival::{self, Rival},
    *,
};

/// Frames in which every header may be wrong, of every length.
pub(crate) fn odd_frames(n: usize) -> Vec<Vec<u8>> {
    let mut random = 0x2545_f491_4f6c_dd1du64;
    let mut next = move || {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize
    };
    (0..n)
        .map(|i| {
            let mut frame = vxlan(i as u32, next() as u32, next() as u32);
            frame.resize(60 + next() % 1400, 9);
            for _ in 0..next() % 4 {
                // After the type: the receiver uses that to recognise the frames.
                let at = 14 + next() % (frame.len() - 14).min(100);
                frame[at] = next() as u8;
            }
            frame
        })
        .collect()
}

/// Receives everything that arrives on an interface, complete.
pub(crate) fn listen(space: &Space, name: &str) -> OwnedFd {
    let ifindex = space.link(name).index as usize;
    let open = || {
        socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC,
            SockProtocol::EthAll,
        )
    };
    let fd = space.0.within(open).unwrap().unwrap();
    setsockopt(&fd, RcvBufForce, &(8 << 20)).unwrap();
    // The namespace has no other interface on which anything arrives.
    assert!(ifindex > 1);
    fd
}

pub(crate) fn heard(fd: &OwnedFd, ifindex: usize) -> Vec<Vec<u8>> {
    let mut frames = Vec::new();
    let mut frame = vec![0; 1 << 16];
    while let Ok((length, from)) = recvfrom::<LinkAddr>(fd.as_raw_fd(), &mut frame) {
        let from = from.unwrap();
        // PACKET_OUTGOING is what this end sends itself.
        if from.ifindex() == ifindex && from.pkttype() != 4 {
            frames.push(frame[..length].to_vec());
        }
    }
    frames
}

#[test]
fn packets_and_other_programs_are_unaffected() {
    for want in wants() {
        let Want::Only(kind) = want else { unreachable!() };
        let g = Ground::bare();
        // Other programs on all four hooks that the packets pass.
        let rivals: Vec<Rival> = [(&g.a, Hook::Tx), (&g.b, Hook::Rx)]
            .into_iter()
            .flat_map(|(space, hook)| {
                [HookKind::Tcx, HookKind::Clsact].map(|kind| (space, hook, kind))
            })
            .filter(|(.., of)| *of == kind || kind == HookKind::Tcx)
            .map(|(space, hook, of)| Rival::attach(space, "eth0", hook, of, rival::NEXT))
            .collect();
        let state = || [g.a.hooks("eth0"), g.b.hooks("eth0")];
        let before = state();

        let mut live = Live::open(
            &[format!("{}/eth0", g.a.name()), format!("{}/eth0", g.b.name())],
            None,
            &small(),
            want,
        )
        .unwrap();
        assert_ne!(state(), before);
        let (sent, ear) = (odd_frames(3000), listen(&g.b, "eth0"));
        let (raw, ifindex) = (g.a.raw(), g.a.link("eth0").index);
        let at = g.b.link("eth0").index as usize;
        let mut arrived = Vec::new();
        let mut tries = 0;
        for frame in &sent {
            tries += inject(&raw, ifindex, frame);
            arrived.extend(heard(&ear, at));
        }
        until("the last frame", || {
            arrived.extend(heard(&ear, at));
            arrived.len() >= sent.len()
        });
        assert!(arrived == sent, "{want:?}: something arrived changed");
        // The receiver listens before the hooks.
        let seen = |s: &Snapshot| {
            [s.interfaces[0].books.seen()[1].packets, s.interfaces[1].books.seen()[0].packets]
        };
        until("all at the hooks", || seen(&live.read().unwrap()) == [tries, 3000]);
        let (near, far) = rivals.split_at(rivals.len() / 2);
        until(&format!("{want:?}: every program to see all"), || {
            near.iter().all(|r| r.packets() == tries) && far.iter().all(|r| r.packets() == 3000)
        });
        let s = live.read().unwrap();
        closed(&s);
        drop(live);
        assert_eq!(state(), before, "{want:?}");
    }
}

/// A separate tmon process, watching `eth0` until it is killed.
pub(crate) struct Tmon(Child);

impl Tmon {
    pub(crate) fn start(g: &Ground, kind: HookKind) -> Tmon {
        let before = g.a.programs("eth0");
        let child = Command::new(env!("CARGO_BIN_EXE_tmon"))
            .args([
                "dump",
                "eth0",
                "--netns",
                g.a.name(),
                "--hook",
                kind.name(),
                "--rows",
                "1024",
                "--for",
                "10m",
            ])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let child = Tmon(child);
        until("both its programs", || {
            g.a.programs("eth0").iter().filter(|id| !before.contains(id)).count() == 2
        });
        child
    }
}

impl Drop for Tmon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_kill_leaves_nothing_on_tcx() {
    if wants().len() < 2 {
        return println!("this kernel has no tcx");
    }
    let g = Ground::new();
    let before = g.a.hooks("eth0");
    drop(Tmon::start(&g, HookKind::Tcx));
    // The kernel closes a dead process's links by itself, though not at once.
    until("the links are gone", || g.a.hooks("eth0") == before);
}

#[test]
fn the_next_start_removes_what_a_kill_left_and_nothing_else() {
    for foreign in [false, true] {
        let g = Ground::new();
        // Another program's filter, and so its qdisc.
        let rival =
            foreign.then(|| Rival::attach(&g.a, "eth0", Hook::Rx, HookKind::Clsact, rival::NEXT));
        let before = g.a.hooks("eth0");
        for _ in 0..3 {
            drop(Tmon::start(&g, HookKind::Clsact));
        }
        // What the last one left; each start has removed what it found.
        assert_eq!(g.a.programs("eth0").len(), 2 + usize::from(foreign), "{}", g.a.hooks("eth0"));

        // A living one is not mistaken for a leftover.
        let mut living = g.watch(&small(), Want::Only(HookKind::Clsact));
        let after = g.watch(&small(), Want::Only(HookKind::Clsact));
        let [near, far] = g.sockets(9);
        let each = send(&near, &far, 5);
        let books = living.read().unwrap().interfaces[0].books;
        assert_eq!(books.counted[1].bytes, 5 * each);
        if let Some(rival) = &rival {
            send(&far, &near, 5);
            assert_eq!(rival.packets(), 5);
        }
        drop(living);
        drop(after);
        assert_eq!(g.a.hooks("eth0"), before, "foreign: {foreign}");
    }
}

#[test]
fn a_signal_detaches_everything() {
    for want in wants() {
        let Want::Only(kind) = want else { unreachable!() };
        let g = Ground::new();
        let before = g.a.hooks("eth0");
        let mut child = Tmon::start(&g, kind);
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(child.0.id() as i32),
            nix::sys::signal::Signal::SIGTERM,
        )
        .unwrap();
        assert!(child.0.wait().unwrap().success(), "interrupted is done");
        assert_eq!(g.a.hooks("eth0"), before);
    }
}
