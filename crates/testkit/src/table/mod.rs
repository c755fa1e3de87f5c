// SPDX-License-Identifier: MIT OR Apache-2.0
//! The table: frames with the parser's expected results.
use std::net::IpAddr;

use model::flow::{Inner, InnerProto, Key, Kind, Pair, Stop, Tunnel};

use crate::frames::{Ends, Frame, ends};

mod chains;
mod kinds;
mod stops;
pub use chains::{CARRIERS, Carries, Over, deep};

/// Outermost, middle and innermost addresses.
pub const O4: &str = "172.16.1.100 > 172.16.1.101";
pub const O6: &str = "fd00::100 > fd00::101";
pub const M4: &str = "10.9.0.9 > 10.9.0.7";
pub const I4: &str = "192.168.0.1 > 192.168.0.2";
pub const I6: &str = "2001:db8::2 > 2001:db8::1";

/// Where parsing starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Ethernet,
    /// The IP version nibble decides.
    Ip,
    /// The header of this EtherType.
    EtherType(u16),
}

/// What the innermost tunnel of a row carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inside {
    /// The addresses of the innermost IP header.
    Ends(Ends),
    /// No pair, but this protocol or reason.
    Proto(InnerProto),
    /// No pair, and any protocol or reason.
    Null,
}

impl From<&str> for Inside {
    fn from(text: &str) -> Self {
        Inside::Ends(ends(text))
    }
}
impl From<u16> for Inside {
    fn from(ether_type: u16) -> Self {
        Inside::Proto(InnerProto(u32::from(ether_type)))
    }
}

/// A reason of [`InnerProto::REASONS`] by name.
pub fn reason(name: &str) -> Inside {
    let n = InnerProto::REASONS.iter().position(|r| *r == name).expect("a reason's name");
    Inside::Proto(InnerProto(InnerProto::REASON | n as u32))
}

/// A row as the packet shows it: not yet in the row's order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    pub outer: Ends,
    /// Every tunnel, outermost first, at most four.
    pub tunnels: Vec<Tunnel>,
    pub inside: Inside,
}

impl Answer {
    /// The row's key with this payload, and the direction of the packet in that row.
    pub fn key(&self, inside: Inner, swapped: bool) -> (Key, usize) {
        let key = Key {
            outer: Some(if swapped {
                pair((self.outer.1, self.outer.0))
            } else {
                pair(self.outer)
            }),
            outermost: self.tunnels[0],
            innermost: self.tunnels.get(1).map(|_| self.tunnels[self.tunnels.len() - 1]),
            depth: self.tunnels.len() as u8,
            inner: inside,
            other: false,
        };
        (key, usize::from(swapped))
    }

    /// The row's key, with `Inner::Proto(none)` if any payload is accepted, and the packet's
    /// direction.
    pub fn row(&self) -> (Key, usize) {
        let (inner, inner_order) = match self.inside {
            Inside::Ends(e) => (Some(e), e.0 > e.1),
            Inside::Proto(_) | Inside::Null => (None, false),
        };
        let swapped =
            if self.outer.0 == self.outer.1 { inner_order } else { self.outer.0 > self.outer.1 };
        let inner = match (inner, self.inside) {
            (Some(e), _) if swapped => Inner::Pair(pair((e.1, e.0))),
            (Some(e), _) => Inner::Pair(pair(e)),
            (None, Inside::Proto(p)) => Inner::Proto(p),
            (None, _) => Inner::Proto(InnerProto(InnerProto::REASON)),
        };
        self.key(inner, swapped)
    }
}

fn pair((first, second): (IpAddr, IpAddr)) -> Pair {
    Pair { first, second }
}

/// The expected result for a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Want {
    Row(Answer),
    Stop(Stop),
    /// `plain`, and also counted in `suspect`.
    Suspect,
}

/// One row of the table.
#[derive(Clone, Debug)]
pub struct Case {
    pub name: String,
    pub frame: Frame,
    pub begin: Begin,
    pub want: Want,
    /// The number of segments and their payload size.
    pub gso: Option<(u16, u16)>,
    /// Prefixes of the frame from this length on reveal its outermost tunnel; `usize::MAX`:
    /// unspecified.
    pub recognised: usize,
    /// Whether tshark would consider the frame well-formed.
    pub sound: bool,
}

impl Case {
    pub fn begin(mut self, begin: Begin) -> Self {
        self.begin = begin;
        self
    }
    pub fn gso(mut self, segments: u16, size: u16) -> Self {
        self.gso = Some((segments, size));
        self
    }
    /// Marks the frame as wrong on purpose, or as unreadable for tshark.
    pub fn odd(mut self) -> Self {
        self.sound = false;
        self
    }
}

fn case(name: impl Into<String>, frame: Frame, want: Want) -> Case {
    Case {
        name: name.into(),
        frame,
        begin: Begin::Ethernet,
        want,
        gso: None,
        recognised: usize::MAX,
        sound: true,
    }
}

/// A tunnel: kind and id.
pub fn tunnel(kind: Kind, id: impl Into<Option<u32>>) -> Tunnel {
    Tunnel { kind, id: id.into() }
}

/// A frame that is counted in a row.
pub fn row(
    name: impl Into<String>,
    frame: Frame,
    outer: &str,
    tunnels: &[Tunnel],
    inside: impl Into<Inside>,
) -> Case {
    let answer = Answer { outer: ends(outer), tunnels: tunnels.to_vec(), inside: inside.into() };
    case(name, frame, Want::Row(answer))
}

/// A frame that is counted in no row.
pub fn stop(name: impl Into<String>, frame: Frame, stop: Stop) -> Case {
    case(name, frame, Want::Stop(stop))
}

/// A frame that has a tunnel's port but not its header.
pub fn suspect(name: impl Into<String>, frame: Frame) -> Case {
    case(name, frame, Want::Suspect).odd()
}

/// The whole table.
pub fn cases() -> Vec<Case> {
    let all: Vec<Case> =
        [kinds::cases(), chains::cases(), stops::cases()].into_iter().flatten().collect();
    let mut names = std::collections::HashSet::new();
    for c in &all {
        assert!(names.insert(&c.name), "two rows of the table are called '{}'", c.name);
    }
    all
}
