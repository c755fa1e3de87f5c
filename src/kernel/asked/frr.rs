// SPDX-License-Identifier: MIT OR Apache-2.0
//! FRR, by the sockets that vtysh(1) uses: the VRFs of ids, and the neighbours' names.
use std::io;

use foldhash::HashMap;
use serde::Deserialize;
use serde_json::Value;

use super::{
    line::{Line, json},
    said::{Called, Said},
};

/// zebra's type of an id that is bridged, in a VRF.
const L2VNI: &str = "L2VNI";

/// zebra's names for the default VRF, and for a missing one.
const NO_VRF: [&str; 3] = ["", "default", "Unknown"];

/// What zebra knows about an id (`show evpn vni json`).
#[derive(Deserialize)]
struct Vni {
    vni: u32,
    #[serde(rename = "type")]
    kind: String,
    #[serde(default, rename = "tenantVrf")]
    vrf: Option<String>,
}

/// The peers of `show bgp l2vpn evpn summary json`.
#[derive(Deserialize)]
struct Summary {
    #[serde(default)]
    peers: HashMap<String, Peer>,
}

#[derive(Deserialize)]
struct Peer {
    #[serde(default)]
    hostname: Option<String>,
}

/// What zebra's ids stand for.
pub(super) fn vnis(line: Line) -> io::Result<Said> {
    let all: HashMap<String, Value> = json(&vty(line, "show evpn vni json")?)?;
    let known = all.into_values().filter_map(|vni| serde_json::from_value::<Vni>(vni).ok());
    Ok(Said::ids(known.filter_map(|vni| {
        let vrf = vni.vrf.filter(|vrf| !NO_VRF.contains(&vrf.as_str()))?;
        let is_routed = vni.kind == "L3";
        let bridge = (!is_routed).then(|| L2VNI.to_owned());
        Some((vni.vni, Called { bridge, vrf: Some(vrf), is_routed }))
    })))
}

/// bgpd's neighbours, once they have announced their names.
pub(super) fn neighbours(line: Line) -> io::Result<Said> {
    let all: Summary = json(&vty(line, "show bgp l2vpn evpn summary json")?)?;
    Ok(Said::outer(all.peers.into_iter().filter_map(|(address, peer)| {
        Some((address.parse().ok()?, peer.hostname.filter(|name| !name.is_empty())?))
    })))
}

/// FRR's answer to a command on the socket that vtysh(1) uses: a text, three zeroes, a status.
fn vty(mut line: Line, command: &str) -> io::Result<Vec<u8>> {
    line.ask(&[command.as_bytes(), b"\0"].concat())?;
    let end = |all: &[u8]| all.len().checked_sub(4).filter(|at| all[*at..*at + 3] == [0; 3]);
    let mut answer = line.answer(|all| end(all).is_some())?;
    let text = end(&answer).ok_or(io::ErrorKind::UnexpectedEof)?;
    answer.truncate(text);
    Ok(answer)
}
