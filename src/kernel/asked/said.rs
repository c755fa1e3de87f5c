// SPDX-License-Identifier: MIT OR Apache-2.0
//! The answer of a service.
use std::{borrow::Cow, net::IpAddr};

use feed::names;
use model::overlay::Segment;
use serde::{Deserialize, Serialize};

/// Limit on the names of a kind that are accepted from a service.
pub(super) const MOST_NAMES: usize = 100_000;

/// The names that a service knows, as they pass from one process to the other.
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Said {
    /// Names of addresses in tunnels.
    pub(super) inner: Vec<(IpAddr, String)>,
    /// Names of tunnel endpoints.
    pub(super) outer: Vec<(IpAddr, String)>,
    /// What tunnel ids stand for.
    pub(super) ids: Vec<(u32, Called)>,
}

/// What a tunnel id stands for, see [`Segment`].
#[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
pub(super) struct Called {
    pub(super) bridge: Option<String>,
    pub(super) vrf: Option<String>,
    pub(super) is_routed: bool,
}

impl Called {
    /// Converts it, with names made safe for a terminal.
    pub(super) fn segment(self) -> Segment {
        let safe = |name: String| model::units::sanitize(&name).into_owned();
        let Called { bridge, vrf, is_routed } = self;
        Segment { bridge: bridge.map(safe), vrf: vrf.map(safe), is_routed }
    }
}

impl Said {
    /// Cuts names that are too long.
    pub(super) fn cut(&mut self) {
        for (_, name) in self.inner.iter_mut().chain(&mut self.outer) {
            if let Cow::Owned(short) = names::cut(name) {
                *name = short;
            }
        }
    }

    /// The approximate size in bytes on its way to the other process.
    pub(super) fn bytes(&self) -> usize {
        const REST: usize = 64;
        let text = |name: &Option<String>| name.as_ref().map_or(0, String::len);
        let named = self.inner.iter().chain(&self.outer).map(|(_, name)| name.len() + REST);
        let called = self.ids.iter().map(|(_, c)| text(&c.bridge) + text(&c.vrf) + REST);
        named.chain(called).sum()
    }

    /// Names of inner addresses.
    pub(super) fn inner(named: impl Iterator<Item = (IpAddr, String)>) -> Said {
        Said { inner: named.take(MOST_NAMES).collect(), ..Said::default() }
    }

    /// Names of outer addresses.
    pub(super) fn outer(named: impl Iterator<Item = (IpAddr, String)>) -> Said {
        Said { outer: named.take(MOST_NAMES).collect(), ..Said::default() }
    }

    /// What ids stand for.
    pub(super) fn ids(known: impl Iterator<Item = (u32, Called)>) -> Said {
        Said { ids: known.take(MOST_NAMES).collect(), ..Said::default() }
    }

    /// Combines two answers.
    pub(super) fn and(mut self, other: Said) -> Said {
        self.inner.extend(other.inner);
        self.outer.extend(other.outer);
        self.ids.extend(other.ids);
        self
    }
}

/// `NAMESPACE/NAME`, or the name alone without a namespace.
pub(super) fn pod(namespace: &str, name: &str) -> Option<String> {
    match (namespace, name) {
        (_, "") => None,
        ("", name) => Some(name.to_owned()),
        (namespace, name) => Some(format!("{namespace}/{name}")),
    }
}
