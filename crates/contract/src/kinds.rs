// SPDX-License-Identifier: MIT OR Apache-2.0
//! The tunnel kinds, by the rows of `bpf/kinds.h`.
use std::{fmt, str::FromStr};

/// Which end's UDP port identifies the contents of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The receiver's.
    To,
    /// Either end's: servers answer from the port.
    Either,
}

/// The declarations of a kind in `bpf/kinds.h`.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    /// Its name in JSON, filters and flags.
    pub name: &'static str,
    /// Its default UDP ports; `None` if it does not travel in UDP.
    pub ports: Option<&'static [u16]>,
    /// Which end's port identifies it.
    pub whose: Whose,
    /// The IP protocols that carry it; `None` if IP does not carry it directly.
    pub protocols: Option<&'static [u8]>,
    /// What its id is; empty for a kind that has none.
    pub id: &'static str,
    /// The document that defines it.
    pub reference: &'static str,
    /// Its full name.
    pub title: &'static str,
}

macro_rules! kinds {
    ($($kind:ident = $number:literal, $name:literal, $ports:expr, $whose:ident, $protocols:expr,
       $id:literal, $reference:literal, $title:literal;)*) => {
        /// The encapsulation of a tunnel.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[non_exhaustive]
        pub enum Kind {
            $(#[doc = concat!($title, " (`", $name, "`).")] $kind,)*
            /// A number unknown to this version, from newer programs.
            Unknown(u8),
        }

        impl Kind {
            /// Every kind that this version knows, by number.
            pub const ALL: &[Kind] = &[$(Kind::$kind),*];

            /// The kind with this number in the programs.
            pub const fn from_number(number: u8) -> Self {
                match number {
                    $($number => Kind::$kind,)*
                    unknown => Kind::Unknown(unknown),
                }
            }

            /// Its number in the programs.
            pub const fn number(self) -> u8 {
                match self {
                    $(Kind::$kind => $number,)*
                    Kind::Unknown(number) => number,
                }
            }

            /// The declarations of it; `None` for a number without a name.
            pub const fn facts(self) -> Option<&'static Facts> {
                match self {
                    $(Kind::$kind => Some(&Facts {
                        name: $name,
                        ports: $ports,
                        whose: whose!($whose),
                        protocols: $protocols,
                        id: $id,
                        reference: $reference,
                        title: $title,
                    }),)*
                    Kind::Unknown(_) => None,
                }
            }
        }
    };
}

macro_rules! whose {
    (TO) => {
        Whose::To
    };
    (EITHER) => {
        Whose::Either
    };
}

pub(crate) use {kinds, whose};

use crate::Kind;

impl Kind {
    /// Its name in JSON, filters and flags; `None` for a number without a name.
    pub fn name(self) -> Option<&'static str> {
        self.facts().map(|f| f.name)
    }

    /// Whether a UDP port can lead to it.
    pub fn in_udp(self) -> bool {
        self.facts().is_some_and(|f| f.ports.is_some())
    }

    /// Whether its servers answer from their port, so that a datagram's source port identifies it
    /// as well.
    pub fn answers_from_its_port(self) -> bool {
        self.facts().is_some_and(|f| f.whose == Whose::Either)
    }

    /// Every kind with its default UDP ports.
    pub fn default_ports() -> impl Iterator<Item = (Kind, u16)> {
        Kind::ALL.iter().flat_map(|kind| {
            let ports = kind.facts().and_then(|f| f.ports).unwrap_or_default();
            ports.iter().map(|port| (*kind, *port))
        })
    }

    /// The names of all kinds, comma separated, for help and error texts.
    pub fn names() -> String {
        Kind::ALL.iter().map(Kind::to_string).collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.name(), self) {
            (Some(name), _) => f.pad(name),
            (None, kind) => f.pad(&format!("kind-{}", kind.number())),
        }
    }
}

impl FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let named = |kind: &&Kind| kind.name().is_some_and(|n| n.eq_ignore_ascii_case(text));
        let found = Kind::ALL.iter().find(named).copied();
        found.ok_or_else(|| format!("'{text}' is not a tunnel kind (one of: {})", Kind::names()))
    }
}
