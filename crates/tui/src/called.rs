// SPDX-License-Identifier: MIT OR Apache-2.0
//! The names of addresses on the screen. Drawing only looks them up here: names that need a query
//! arrive as messages.
use std::{net::IpAddr, sync::Arc};

use foldhash::HashMap;

use feed::names::Names;
use model::{
    filter::{Filter, FilterError},
    flow::Tunnel,
    groups::Groups,
    matrix::{End, Level},
    text::shorten,
};

/// Names by address; the flag says whether the address is an inner one.
pub type Found = HashMap<(IpAddr, bool), String>;

/// The known names.
#[derive(Clone, Debug, Default)]
pub struct Called {
    names: Names,
    found: Found,
}

impl Called {
    /// Starts with the names from files; no query has been made yet.
    pub fn new(names: Names) -> Called {
        Called { names, found: Found::default() }
    }

    /// Adds names that a query has found.
    pub fn learn(&mut self, found: Found) {
        self.found = found;
    }

    /// Looks up the names of addresses; `None` if nothing new was found.
    pub fn ask(&self, addresses: Vec<(IpAddr, bool)>) -> Option<Found> {
        let name = |(a, inner): (IpAddr, bool)| Some(((a, inner), self.names.found(a, inner)?));
        let found: Found = addresses.into_iter().filter_map(name).collect();
        (found != self.found).then_some(found)
    }

    /// The names that the hosts of a fleet give themselves.
    pub fn hosts(&self) -> Arc<HashMap<IpAddr, String>> {
        self.names.hosts()
    }

    /// The name of a host, even if it is not on the screen.
    pub fn host(&self, address: IpAddr) -> Option<String> {
        self.names.address(address, false)
    }

    /// The name of an address.
    pub fn address(&self, address: IpAddr, inner: bool) -> Option<String> {
        self.names.written(address).or_else(|| self.found.get(&(address, inner)).cloned())
    }

    /// The name of the service at a port.
    pub fn service(&self, l4: u8, port: u16) -> Option<&str> {
        self.names.service(l4, port)
    }

    /// A tunnel with the name of its id: `vxlan blue`, `vxlan 10 (VRF red)`.
    pub fn tunnel(&self, tunnel: Tunnel) -> String {
        let name = self.names.shown_id(tunnel);
        name.map_or_else(|| tunnel.to_string(), |name| format!("{} {name}", tunnel.kind))
    }

    /// The name of an end at a level, of moderate length.
    pub fn end(&self, end: End, level: Level) -> Option<String> {
        const LONGEST: usize = 28;
        let End::Addr(a) = end else { return None };
        self.address(a, level == Level::Inner).map(|name| shorten(&name, LONGEST))
    }

    /// Parses a filter in which names stand for addresses and ids, of hosts in these groups.
    ///
    /// # Errors
    /// Those of [`Names::filter`].
    pub fn filter(&self, text: &str, groups: &Arc<Groups>) -> Result<Filter, FilterError> {
        self.names.filter(text, groups)
    }
}
