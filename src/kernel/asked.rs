// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of addresses and tunnel ids known to services of this host, from their own sockets: Open
//! vSwitch (written there by OVN, Kube-OVN and Antrea), FRR, and Docker if the user says so.
//!
//! A separate process queries them: `tmon ask`, which connects, gives up everything, and prints the
//! answers. The reader, which may neither create sockets nor start anything, has its runner start
//! it every minute, and never waits. Whatever a service answers, or if it never does, it costs that
//! process a bounded amount of time, bytes and names.
use std::{
    io::{self, Read, Write},
    net::IpAddr,
    os::{fd::OwnedFd, unix::net::UnixStream},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use foldhash::{HashMap, HashMapExt};
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::kernel::{
    netlink::TunnelDevice,
    runner::{Runner, Running},
};
use feed::names::{HostName, NameSource, Names, ServiceNames};
use model::{flow::Kind, overlay::Segment, units::sanitize};

/// The paths of the sockets.
const OVSDB: &str = "/run/openvswitch/db.sock";
const ZEBRA: &str = "/run/frr/zebra.vty";
const BGPD: &str = "/run/frr/bgpd.vty";

/// Limits on one answer: its time, its bytes, and the number of names accepted from it.
const PATIENCE: Duration = Duration::from_secs(2);
const MOST_BYTES: usize = 64 << 20;
const MOST_NAMES: usize = 100_000;
/// Limit on all answers together, and the interval between queries.
const ALL: Duration = Duration::from_secs(10);
const LATER: Duration = Duration::from_secs(60);

/// The services to query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Docker's socket, or that of a compatible service.
    pub docker: Option<PathBuf>,
}

/// Their answers, passed from one process to the other.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Answers {
    /// Addresses.
    #[serde(default)]
    addresses: Vec<(IpAddr, String, Service)>,
    /// Tunnel ids: the bridge, the VRF, and whether it carries routed traffic.
    #[serde(default)]
    ids: Vec<(u32, Option<String>, Option<String>, bool)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
enum Service {
    Ovs,
    Frr,
    Docker,
}

impl Services {
    /// Whether there is any service to query.
    pub fn any(&self) -> bool {
        self.docker.is_some() || [OVSDB, ZEBRA, BGPD].iter().any(|path| Path::new(path).exists())
    }

    /// Connects to all of them; then `confine` gives up everything; then they are queried.
    ///
    /// # Errors
    /// That of `confine`.
    pub fn ask(&self, confine: impl FnOnce() -> Result<()>) -> Result<Answers> {
        let [ovsdb, zebra, bgpd] = [OVSDB, ZEBRA, BGPD].map(|path| reach(Path::new(path)));
        let docker = self.docker.as_deref().map(reach);
        confine()?;
        let mut told = Answers::default();
        // A missing answer only means fewer names.
        let _ = ovsdb.and_then(|line| told.of_ovs(line));
        let _ = zebra.and_then(|line| told.of_zebra(line));
        let _ = bgpd.and_then(|line| told.of_bgpd(line));
        if let Some(docker) = docker {
            let _ = docker.and_then(|line| told.of_docker(line));
        }
        Ok(told)
    }
}

/// A connection to a service, with a deadline.
struct Line {
    socket: UnixStream,
    until: Option<Instant>,
}

/// Connects, without waiting for a service whose queue is full.
fn reach(path: &Path) -> io::Result<Line> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let made: OwnedFd = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    connect(std::os::fd::AsRawFd::as_raw_fd(&made), &UnixAddr::new(path)?)?;
    Ok(Line { socket: UnixStream::from(made), until: None })
}

impl Line {
    /// Sends a question, and starts the time limit for its answer.
    fn ask(&mut self, question: &[u8]) -> io::Result<()> {
        self.until = Some(Instant::now() + PATIENCE);
        self.write_all(question)
    }

    /// Waits until it is ready.
    fn ready(&self, what: PollFlags) -> io::Result<()> {
        let until = self.until.unwrap_or_else(Instant::now);
        wait(&self.socket, what, until)
    }

    /// Reads until `ends` recognises the end of the answer, or the service hangs up.
    fn answer(&mut self, ends: impl Fn(&[u8]) -> bool) -> io::Result<Vec<u8>> {
        let (mut all, mut some) = (Vec::new(), [0; 1 << 16]);
        while !ends(&all) {
            match self.read(&mut some)? {
                0 => break,
                n if all.len() + n > MOST_BYTES => {
                    return Err(io::Error::other("an answer without end"));
                }
                n => all.extend_from_slice(&some[..n]),
            }
        }
        Ok(all)
    }
}

/// Waits until a descriptor is ready, but no longer than the deadline.
fn wait(file: &impl std::os::fd::AsFd, what: PollFlags, until: Instant) -> io::Result<()> {
    let mut ready = [PollFd::new(file.as_fd(), what)];
    let left = until.saturating_duration_since(Instant::now());
    match poll(&mut ready, PollTimeout::try_from(left).unwrap_or(PollTimeout::ZERO)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Err(e) if e != nix::errno::Errno::EINTR => Err(e.into()),
        _ => Ok(()),
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            self.ready(PollFlags::POLLIN)?;
            match self.socket.read(into) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        loop {
            self.ready(PollFlags::POLLOUT)?;
            match self.socket.write(from) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn json<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    serde_json::from_slice(bytes).map_err(io::Error::other)
}

/// OVSDB's answer to some `select` (RFC 7047): a result for each.
#[derive(Deserialize)]
struct Selected<T> {
    result: Vec<Table<T>>,
}

#[derive(Deserialize)]
struct Table<T> {
    #[serde(default = "Vec::new")]
    rows: Vec<T>,
}

/// `["map", [[KEY, VALUE], ...]]`.
#[derive(Default, Deserialize)]
struct OvsMap(#[allow(dead_code)] String, Vec<(String, String)>);

impl OvsMap {
    /// What the first of these keys says.
    fn get(&self, keys: [&str; 2]) -> Option<&str> {
        let all = &self.1;
        let found = keys.iter().find_map(|key| all.iter().find(|(k, v)| k == key && !v.is_empty()));
        found.map(|(_, value)| value.as_str())
    }
}

/// Asks OVSDB for columns of tables.
fn select<T: DeserializeOwned>(mut line: Line, tables: &[(&str, &[&str])]) -> io::Result<Vec<T>> {
    let selects = tables.iter().map(|(table, columns)| {
        serde_json::json!({ "op": "select", "table": table, "where": [], "columns": columns })
    });
    let words: Vec<Value> = std::iter::once("Open_vSwitch".into()).chain(selects).collect();
    let question = serde_json::json!({ "method": "transact", "id": 0, "params": words });
    line.ask(question.to_string().as_bytes())?;
    // One JSON text, after which the connection stays open.
    let from = io::BufReader::new(line.take(MOST_BYTES as u64));
    let mut texts = serde_json::Deserializer::from_reader(from).into_iter::<Selected<T>>();
    let answer = texts.next().ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)?;
    Ok(answer.result.into_iter().flat_map(|table| table.rows).collect())
}

/// What the names of an interface are in.
#[derive(Deserialize)]
struct Row {
    external_ids: OvsMap,
}

impl Row {
    fn id(&self, keys: [&str; 2]) -> Option<&str> {
        self.external_ids.get(keys)
    }

    /// `NAMESPACE/POD`, or else the name of the port.
    fn name(&self) -> Option<String> {
        let pod = self.id(["pod_name", "pod-name"]); // Kube-OVN, Antrea
        match (self.id(["pod_namespace", "pod-namespace"]), pod) {
            (Some(namespace), Some(pod)) => Some(format!("{namespace}/{pod}")),
            (None, Some(pod)) => Some(pod.to_owned()),
            (_, None) => self.id(["iface-id", "vm-id"]).map(str::to_owned),
        }
    }

    /// Its addresses, whichever of the programs wrote them.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        const KEYS: [[&str; 2]; 2] = [["ip_addresses", "ip-address"], ["ip", "ip_address"]];
        let lists = KEYS.into_iter().filter_map(|keys| self.id(keys)).take(1);
        let words = lists.flat_map(|list| list.split([',', ' ']));
        words.filter_map(|word| word.split('/').next()?.parse().ok())
    }
}

/// zebra's type of an id that is bridged, in a VRF.
const L2VNI: &str = "L2VNI";

/// zebra's names for the default VRF, and for a missing one.
const NO_VRF: [&str; 3] = ["", "default", "Unknown"];

/// What zebra knows of an id (`show evpn vni json`).
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

/// A container of Docker's `/containers/json`.
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

impl Container {
    /// Its addresses with its first name.
    fn named(&self) -> impl Iterator<Item = (IpAddr, String)> {
        let name = self.names.iter().flatten().next().map(|name| name.trim_start_matches('/'));
        let networks = self.network_settings.iter().filter_map(|s| s.networks.as_ref());
        let texts = networks.flat_map(HashMap::values).flat_map(|at| [&at.v4, &at.v6]);
        texts.filter_map(move |text| Some((text.parse().ok()?, name?.to_owned())))
    }
}

impl Answers {
    /// Adds the names of one service, up to the limit.
    fn add(&mut self, from: Service, named: impl Iterator<Item = (IpAddr, String)>) {
        let all = named.take(MOST_NAMES).map(|(address, name)| (address, name, from));
        self.addresses.extend(all);
    }

    fn of_ovs(&mut self, line: Line) -> io::Result<()> {
        let rows: Vec<Row> = select(line, &[("Interface", &["external_ids"])])?;
        let rows = rows.iter();
        let of = |(name, row): (String, &Row)| {
            row.addresses().map(move |address| (address, name.clone())).collect::<Vec<_>>()
        };
        self.add(Service::Ovs, rows.filter_map(|row| Some((row.name()?, row))).flat_map(of));
        Ok(())
    }

    fn of_zebra(&mut self, line: Line) -> io::Result<()> {
        let all: HashMap<String, Value> = json(&vty(line, "show evpn vni json")?)?;
        let known = all.into_values().filter_map(|vni| serde_json::from_value::<Vni>(vni).ok());
        self.ids.extend(known.take(MOST_NAMES).filter_map(|vni| {
            let vrf = vni.vrf.filter(|vrf| !NO_VRF.contains(&vrf.as_str()))?;
            let is_routed = vni.kind == "L3";
            Some((vni.vni, (!is_routed).then(|| L2VNI.to_owned()), Some(vrf), is_routed))
        }));
        Ok(())
    }

    fn of_bgpd(&mut self, line: Line) -> io::Result<()> {
        let all: Summary = json(&vty(line, "show bgp l2vpn evpn summary json")?)?;
        let named = all.peers.into_iter().filter_map(|(address, peer)| {
            Some((address.parse().ok()?, peer.hostname.filter(|name| !name.is_empty())?))
        });
        self.add(Service::Frr, named);
        Ok(())
    }

    fn of_docker(&mut self, mut line: Line) -> io::Result<()> {
        // HTTP/1.0, so that the service closes the connection after an unchunked answer.
        line.ask(b"GET /containers/json HTTP/1.0\r\nHost: docker\r\n\r\n")?;
        let answer = line.answer(|_| false)?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
        let body = end.map_or(&[][..], |end| &answer[end + 4..]);
        let all: Vec<Container> = json(body)?;
        self.add(Service::Docker, all.iter().flat_map(Container::named));
        Ok(())
    }

    /// As the reader keeps them. An address with two names is ambiguous and left out.
    fn known(self) -> ServiceNames {
        let mut addresses: HashMap<IpAddr, Option<HostName>> = HashMap::new();
        for (address, name, service) in self.addresses {
            let from = match service {
                Service::Ovs => NameSource::Ovs,
                Service::Frr => NameSource::Frr,
                Service::Docker => NameSource::Docker,
            };
            let name = HostName { name: sanitize(&name).into_owned(), from };
            let known = addresses.entry(address).or_insert_with(|| Some(name.clone()));
            known.take_if(|known| *known != name);
        }
        let addresses =
            addresses.into_iter().filter_map(|(address, name)| Some((address, name?))).collect();
        let safe = |name: Option<String>| name.map(|name| sanitize(&name).into_owned());
        let segment = |(id, bridge, vrf, is_routed)| {
            (id, Segment { bridge: safe(bridge), vrf: safe(vrf), is_routed })
        };
        ServiceNames { addresses, ids: self.ids.into_iter().map(segment).collect() }
    }
}

/// What OVS calls the types of tunnels, what they are on the wire, and their port where none is said.
const OVS_TUNNELS: [(&str, Kind, Option<u16>); 6] = [
    ("vxlan", Kind::Vxlan, Some(4789)),
    ("geneve", Kind::Geneve, Some(6081)),
    ("gre", Kind::Gretap, None),
    ("ip6gre", Kind::Gretap, None),
    ("erspan", Kind::Erspan, None),
    ("gtpu", Kind::Gtpu, Some(2152)),
];
/// What the device of such a tunnel is called, with its type: there is none in the kernel.
pub(crate) const OVS: &str = "ovs";

/// Of any of the tables that tunnels are in.
#[derive(Deserialize)]
struct Part {
    #[serde(rename = "_uuid")]
    uuid: Value,
    name: String,
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    options: OvsMap,
    /// Ports of a bridge.
    ports: Option<Value>,
    /// Interfaces of a port.
    interfaces: Option<Value>,
}

/// The ids in `["uuid", ID]`, or in a set of those.
fn ids(value: &Value) -> Vec<&str> {
    match value.as_array().map(Vec::as_slice) {
        Some([Value::String(what), Value::String(id)]) if what == "uuid" => vec![id],
        Some([Value::String(what), Value::Array(all)]) if what == "set" => {
            all.iter().filter_map(|v| v.get(1)?.as_str()).collect()
        }
        _ => Vec::new(),
    }
}

/// What Open vSwitch has.
#[derive(Debug, Default)]
pub(crate) struct OvsTunnels {
    /// Its tunnels, as devices that are up.
    pub(crate) tunnels: Vec<TunnelDevice>,
    /// Its bridges, which have the addresses that these tunnels send from, and the interfaces by which
    /// their packets leave.
    pub(crate) bridges: HashMap<String, Vec<String>>,
}

/// Asks for it.
///
/// # Errors
/// Nobody is there, or says nothing that is understood in time.
pub(crate) fn ovs_tunnels() -> io::Result<OvsTunnels> {
    of_ovsdb(reach(Path::new(OVSDB))?)
}

fn of_ovsdb(line: Line) -> io::Result<OvsTunnels> {
    const MOST_TUNNELS: usize = 1000;
    let parts: Vec<Part> = select(
        line,
        &[
            ("Bridge", &["_uuid", "name", "ports"]),
            ("Port", &["_uuid", "name", "interfaces"]),
            ("Interface", &["_uuid", "name", "type", "options"]),
        ],
    )?;
    let by_id: HashMap<&str, &Part> =
        parts.iter().filter_map(|p| Some((*ids(&p.uuid).first()?, p))).collect();
    let within = |of: Option<&Value>| {
        let all = of.map(ids).unwrap_or_default();
        all.into_iter().filter_map(|id| by_id.get(id).copied()).collect::<Vec<_>>()
    };
    let bridges = parts.iter().filter(|p| p.ports.is_some()).map(|bridge| {
        let ports = within(bridge.ports.as_ref());
        let interfaces = ports.into_iter().flat_map(|port| within(port.interfaces.as_ref()));
        let outside = interfaces.filter(|i| matches!(i.kind.as_str(), "" | "system" | "afxdp"));
        (bridge.name.clone(), outside.map(|i| i.name.clone()).collect())
    });
    let tunnel = |part: &Part| {
        let (name, kind, port) = *OVS_TUNNELS.iter().find(|known| known.0 == part.kind)?;
        let says = |keys| part.options.get(keys);
        // Without this option GRE packets have no key; the other kinds send 0.
        let none = if kind == Kind::Gretap { "" } else { "0" };
        let key = says(["out_key", "key"]).unwrap_or(none);
        let id =
            key.strip_prefix("0x").map_or_else(|| key.parse(), |hex| u32::from_str_radix(hex, 16));
        let remote = says(["remote_ip", "remote_ip"]);
        Some(TunnelDevice {
            ifindex: 0,
            name: part.name.clone(),
            device: format!("{OVS} {name}"),
            kind,
            id: id.ok(),
            port: says(["dst_port", "dst_port"]).and_then(|p| p.parse().ok()).or(port),
            fou: false,
            local: says(["local_ip", "local_ip"]).and_then(|a| a.parse().ok()),
            remote: remote.and_then(|a| a.parse().ok()),
            underlay: None,
            underlay_netnsid: None,
            netnsid: None,
            optional: 0,
            collect_metadata: key == "flow" || remote == Some("flow"),
            mtu: 0,
            up: true,
            master: None,
        })
    };
    let tunnels = parts.iter().filter_map(tunnel).take(MOST_TUNNELS).collect();
    Ok(OvsTunnels { tunnels, bridges: bridges.collect() })
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

/// The process that queries services, on demand.
#[derive(Debug)]
pub struct Asker(Runner);

impl Asker {
    /// Prepares it, if there is any service to query. To be called before there are threads.
    pub fn start(services: &Services) -> Option<Asker> {
        if !services.any() {
            return None;
        }
        let mut command = vec![std::env::current_exe().ok()?.into(), "ask".into()];
        if let Some(docker) = &services.docker {
            command.extend(["--docker".into(), docker.into()]);
        }
        // Without it there are only fewer names.
        Runner::start(vec![command]).ok().map(Asker)
    }

    /// Asks once.
    pub fn ask(&self) -> Option<ServiceNames> {
        let until = Instant::now() + ALL;
        let mut running = self.0.run(0).ok()?;
        let told: Answers = serde_json::from_slice(&whole(&mut running, until)?).ok()?;
        Some(told.known())
    }

    /// Queries again every minute, until the program ends. Names that disappear are forgotten.
    pub fn follow(&self, names: &Names) {
        loop {
            thread::sleep(LATER);
            names.learn_asked(self.ask().unwrap_or_default());
        }
    }
}

/// Everything that a command prints, if it finishes in time.
fn whole(running: &mut Running, until: Instant) -> Option<Vec<u8>> {
    let (mut all, mut some) = (Vec::new(), [0; 1 << 16]);
    loop {
        wait(&running.stdout, PollFlags::POLLIN, until).ok()?;
        match running.stdout.read(&mut some).ok()? {
            0 => return Some(all),
            n if all.len() + n > MOST_BYTES => return None,
            n => all.extend_from_slice(&some[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As ovsdb-server 3.1 answers: what Kube-OVN, OVN-Kubernetes and Antrea write, and a bridge's own port.
    const OVS: &str = r#"{"id":0,"result":[{"rows":[{"external_ids":["map",[]]},
        {"external_ids":["map",[["iface-id","web-0.default"],["ip","10.16.0.5"],["pod_name","web-1"],["pod_namespace","shop"]]]},
        {"external_ids":["map",[["attached_mac","0a:58:0a:f4:00:05"],["iface-id","default_web-0"],["ip_addresses","10.244.0.5/24,fd00::5/64"]]]},
        {"external_ids":["map",[["ip-address","10.10.0.2"],["pod-name","cart"],["pod-namespace","shop"]]]},
        {"external_ids":["map",[["iface-id","no-address"]]]}]}],"error":null}"#;
    /// As zebra 8.4 does, and bgpd once its peer has told its name.
    const ZEBRA: &str = r#"{"100":{"vni":100,"type":"L2","vxlanIf":"vx100","numMacs":0,"numRemoteVteps":0,"tenantVrf":"red"},
        "50":{"vni":50,"vxlanIf":"vx50","numRemoteVteps":"n/a","type":"L3","tenantVrf":"red"},
        "60":{"vni":60,"type":"L3","tenantVrf":"Unknown"},"70":{"vni":70,"type":"L2","tenantVrf":"default"},"80":7}"#;
    const BGPD: &str = r#"{"routerId":"192.0.2.1","as":65000,"peers":{"192.0.2.2":{"hostname":"leaf-2","remoteAs":65000,
        "state":"Established"},"192.0.2.3":{"remoteAs":65000,"state":"Active"},"swp1":{"hostname":"spine"}}}"#;
    const DOCKER: &str = r#"[{"Id":"8dfafdbc3a40","Names":["/web","/other/web"],"HostConfig":{"NetworkMode":"default"},
        "NetworkSettings":{"Networks":{"bridge":{"IPAddress":"172.17.0.2","GlobalIPv6Address":""},
        "blue":{"IPAddress":"10.0.1.7","GlobalIPv6Address":"fd01::7"}}}},
        {"Id":"9cd87474be90","Names":["/host"],"NetworkSettings":{"Networks":{"host":{"IPAddress":""}}}},
        {"Id":"none","Names":null,"NetworkSettings":null}]"#;

    /// A service that gives this answer to every question, and keeps the connection open.
    fn service(answer: Vec<u8>) -> Line {
        let (socket, theirs) = UnixStream::pair().expect("a pair");
        socket.set_nonblocking(true).expect("set");
        thread::spawn(move || {
            let mut theirs = theirs;
            let mut question = [0; 4096];
            let _ = theirs.read(&mut question);
            let _ = theirs.write_all(&answer);
            let _ = theirs.read(&mut question); // until the other side closes
        });
        Line { socket, until: None }
    }

    fn vty_says(text: &str) -> Line {
        service([text.as_bytes(), &[0; 4]].concat())
    }

    /// Docker hangs up behind its answer.
    fn docker_says(body: &str) -> Line {
        let (socket, mut theirs) = UnixStream::pair().expect("a pair");
        socket.set_nonblocking(true).expect("set");
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{body}");
        thread::spawn(move || {
            let _ = theirs.read(&mut [0; 4096]);
            let _ = theirs.write_all(answer.as_bytes());
        });
        Line { socket, until: None }
    }

    #[test]
    fn answers_of_real_services_are_understood() {
        let mut told = Answers::default();
        told.of_ovs(service(OVS.into())).expect("OVS");
        told.of_zebra(vty_says(ZEBRA)).expect("zebra");
        told.of_bgpd(vty_says(BGPD)).expect("bgpd");
        told.of_docker(docker_says(DOCKER)).expect("Docker");
        // From one process to the other.
        let told: Answers = json(&serde_json::to_vec(&told).expect("JSON")).expect("the same");
        let known = told.known();
        let mut all: Vec<String> = known
            .addresses
            .iter()
            .map(|(address, n)| format!("{address} {} {}", n.name, n.from.name()))
            .collect();
        all.sort();
        assert_eq!(
            all,
            [
                "10.0.1.7 web docker",
                "10.10.0.2 shop/cart ovs",
                "10.16.0.5 shop/web-1 ovs",
                "10.244.0.5 default_web-0 ovs",
                "172.17.0.2 web docker",
                "192.0.2.2 leaf-2 frr",
                "fd00::5 default_web-0 ovs",
                "fd01::7 web docker",
            ]
        );
        let mut ids: Vec<_> =
            known.ids.iter().map(|(id, segment)| (*id, segment.to_string())).collect();
        ids.sort();
        assert_eq!(ids, [(50, "VRF red".to_owned()), (100, "L2VNI in VRF red".to_owned())]);
    }

    /// As ovsdb-server 3.1 answers: a bridge with three tunnels, and one that the physical interface is in.
    const BRIDGES: &str = r#"{"id":0,"result":[
        {"rows":[{"_uuid":["uuid","b1"],"name":"br-int","ports":["set",[["uuid","p1"],["uuid","p2"],["uuid","p3"],["uuid","p4"]]]},
                 {"_uuid":["uuid","b2"],"name":"br-phy","ports":["set",[["uuid","p5"],["uuid","p6"]]]}]},
        {"rows":[{"_uuid":["uuid","p1"],"name":"br-int","interfaces":["uuid","i1"]},
                 {"_uuid":["uuid","p2"],"name":"vx1","interfaces":["uuid","i2"]},
                 {"_uuid":["uuid","p3"],"name":"gnv","interfaces":["uuid","i3"]},
                 {"_uuid":["uuid","p4"],"name":"gre1","interfaces":["uuid","i4"]},
                 {"_uuid":["uuid","p5"],"name":"br-phy","interfaces":["uuid","i5"]},
                 {"_uuid":["uuid","p6"],"name":"eth0","interfaces":["uuid","i6"]}]},
        {"rows":[{"_uuid":["uuid","i1"],"name":"br-int","type":"internal","options":["map",[]]},
                 {"_uuid":["uuid","i2"],"name":"vx1","type":"vxlan","options":["map",[["dst_port","5789"],["key","42"],["remote_ip","192.0.2.7"]]]},
                 {"_uuid":["uuid","i3"],"name":"gnv","type":"geneve","options":["map",[["key","flow"],["local_ip","192.0.2.1"],["remote_ip","flow"]]]},
                 {"_uuid":["uuid","i4"],"name":"gre1","type":"gre","options":["map",[["out_key","0x2a"],["remote_ip","2001:db8::7"]]]},
                 {"_uuid":["uuid","i5"],"name":"br-phy","type":"internal","options":["map",[]]},
                 {"_uuid":["uuid","i6"],"name":"eth0","type":"","options":["map",[]]}]}],"error":null}"#;

    #[test]
    fn tunnels_of_open_vswitch_are_found_with_what_they_leave_by() {
        let OvsTunnels { tunnels, bridges } = of_ovsdb(service(BRIDGES.into())).expect("OVS");
        let text = |t: &TunnelDevice| {
            let or = |a: Option<IpAddr>| a.map_or("-".to_owned(), |a| a.to_string());
            let (id, port) = (t.id.unwrap_or_default(), t.port.unwrap_or_default());
            let ends = format!("{} {}", or(t.local), or(t.remote));
            format!("{} {} {id} {port} {ends} {}", t.name, t.device, t.collect_metadata)
        };
        assert_eq!(
            tunnels.iter().map(text).collect::<Vec<_>>(),
            [
                "vx1 ovs vxlan 42 5789 - 192.0.2.7 false",
                "gnv ovs geneve 0 6081 192.0.2.1 - true",
                "gre1 ovs gre 42 0 - 2001:db8::7 false",
            ]
        );
        assert_eq!(bridges["br-phy"], ["eth0"]);
        assert!(bridges["br-int"].is_empty());
    }

    #[test]
    fn garbage_silence_and_floods_cost_bounded_time_and_names() {
        let begun = Instant::now();
        let mut told = Answers::default();
        for garbage in
            ["", "\0\0\0\0", "{", "[[[[", "\u{1b}[2J", "null", "[]", r#"{"result":null}"#]
        {
            let _ = told.of_ovs(service(garbage.into()));
            assert!(of_ovsdb(service(garbage.into())).is_err());
            let _ = told.of_zebra(vty_says(garbage));
            let _ = told.of_bgpd(vty_says(garbage));
            let _ = told.of_docker(docker_says(garbage));
        }
        let deep = "[".repeat(1 << 20);
        assert!(told.of_ovs(service(deep.clone().into())).is_err());
        assert!(told.of_docker(docker_says(&deep)).is_err());
        assert!(told.addresses.is_empty() && told.ids.is_empty());
        assert!(begun.elapsed() < 40 * PATIENCE, "each has its time");
        // More names than are taken, and one that a terminal would act on.
        let rows: Vec<String> = (0..MOST_NAMES + 10)
            .map(|i| {
                let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + i as u32);
                format!(
                    r#"{{"external_ids":["map",[["iface-id","p{i}\u001b[31m"],["ip","{address}"]]]}}"#
                )
            })
            .collect();
        let flood = format!(r#"{{"id":0,"result":[{{"rows":[{}]}}]}}"#, rows.join(","));
        told.of_ovs(service(flood.into())).expect("some of it");
        let known = told.known().addresses;
        assert_eq!(known.len(), MOST_NAMES);
        assert_eq!(known[&IpAddr::from([10, 0, 0, 7])].name, "p7␛[31m");
    }

    #[test]
    fn an_address_with_two_names_has_none() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let two = [("a", Service::Ovs), ("b", Service::Ovs)];
        let addresses = two.map(|(name, service)| (address, name.to_owned(), service)).to_vec();
        let told = Answers { addresses, ids: Vec::new() };
        assert!(told.known().addresses.is_empty());
    }
}
