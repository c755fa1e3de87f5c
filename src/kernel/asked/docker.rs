// SPDX-License-Identifier: MIT OR Apache-2.0
//! Docker's containers, by its HTTP interface, which podman also provides.
use std::{io, net::IpAddr};

use foldhash::HashMap;
use serde::Deserialize;

use super::{
    line::{Line, few},
    said::Said,
};

/// A container of `/containers/json`.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    names: Option<Vec<String>>,
    network_settings: Option<Networked>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Networked {
    networks: Option<HashMap<String, Attached>>,
}

#[derive(Deserialize)]
struct Attached {
    #[serde(default, rename = "IPAddress")]
    v4: String,
    #[serde(default, rename = "GlobalIPv6Address")]
    v6: String,
}

#[derive(Deserialize)]
struct Containers(#[serde(deserialize_with = "few")] Vec<Container>);

impl Container {
    /// Its addresses, each with its first name.
    fn named(&self) -> impl Iterator<Item = (IpAddr, String)> {
        let name = self.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        let networks = self.network_settings.iter().filter_map(|s| s.networks.as_ref());
        let texts = networks.flat_map(HashMap::values).flat_map(|at| [&at.v4, &at.v6]);
        texts.filter_map(move |text| Some((text.parse().ok()?, name?.to_owned())))
    }
}

/// All containers.
pub(super) fn containers(line: Line) -> io::Result<Said> {
    let Containers(all) = line.get("/containers/json")?;
    Ok(Said::inner(all.iter().flat_map(Container::named)))
}
