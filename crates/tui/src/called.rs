// SPDX-License-Identifier: MIT OR Apache-2.0
//! What addresses are called on the screen. Drawing only looks here: names that have to be asked for
//! come in as messages.
use std::{net::IpAddr, sync::Arc};

use foldhash::HashMap;

use feed::names::Names;
use model::{
    filter::{Filter, FilterError},
    flow::Tunnel,
    matrix::{End, Level},
    text::shorten,
};

/// Names by address; the second part says that it is an inner one.
pub type Found = HashMap<(IpAddr, bool), String>;

/// Names that are known.
#[derive(Clone, Debug, Default)]
pub struct Called {
    names: Names,
    found: Found,
}

impl Called {
    /// Those that files say, and none that was asked for.
    pub fn new(names: Names) -> Called {
        Called { names, found: Found::default() }
    }

    /// Names that were asked for have been found.
    pub fn learn(&mut self, found: Found) {
        self.found = found;
    }

    /// Asks for names of addresses; `None` where all that is found is known.
    pub fn ask(&self, addresses: Vec<(IpAddr, bool)>) -> Option<Found> {
        let name = |(a, inner): (IpAddr, bool)| Some(((a, inner), self.names.found(a, inner)?));
        let found: Found = addresses.into_iter().filter_map(name).collect();
        (found != self.found).then_some(found)
    }

    /// What the hosts of a fleet call themselves.
    pub fn hosts(&self) -> Arc<HashMap<IpAddr, String>> {
        self.names.hosts()
    }

    /// What a host is called, also if it is not on the screen.
    pub fn host(&self, address: IpAddr) -> Option<String> {
        self.names.address(address, false)
    }

    /// The name of an address.
    pub fn address(&self, address: IpAddr, inner: bool) -> Option<String> {
        self.names.written(address).or_else(|| self.found.get(&(address, inner)).cloned())
    }

    /// What the service at a port is called.
    pub fn service(&self, l4: u8, port: u16) -> Option<&str> {
        self.names.service(l4, port)
    }

    /// A tunnel with what its id is called: `vxlan blue`, `vxlan 10 (VRF red)`.
    pub fn tunnel(&self, tunnel: Tunnel) -> String {
        let name = tunnel.id.and_then(|id| self.names.shown_id(id));
        name.map_or_else(|| tunnel.to_string(), |name| format!("{} {name}", tunnel.kind))
    }

    /// The name of an end of a level, in a moderate length.
    pub fn end(&self, end: End, level: Level) -> Option<String> {
        const LONGEST: usize = 28;
        let End::Addr(a) = end else { return None };
        self.address(a, level == Level::Inner).map(|name| shorten(&name, LONGEST))
    }

    /// Reads a filter in which names stand for addresses and ids.
    ///
    /// # Errors
    /// As [`Names::filter`].
    pub fn filter(&self, text: &str) -> Result<Filter, FilterError> {
        self.names.filter(text)
    }
}
