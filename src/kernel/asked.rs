// SPDX-License-Identifier: MIT OR Apache-2.0
//! Names of addresses and tunnel ids known to services of this host, from their own sockets: Open
//! vSwitch (written there by OVN, Kube-OVN and Antrea), OVN, Cilium and FRR; Docker and a container
//! runtime (CRI) if the user says so.
//!
//! A separate process queries them: `tmon ask` connects, gives up all privileges, and prints the
//! answers. The reader, which may neither create sockets nor start anything, has its runner start
//! that process every minute, and never waits for it. Whatever a service answers, and even if it
//! never does, the query takes a bounded amount of time, bytes and names.
mod cilium;
mod cri;
mod docker;
mod frr;
mod line;
mod ovn;
mod ovs;
mod ovsdb;
mod said;

use std::{
    io::{self, Read},
    net::IpAddr,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use foldhash::{HashMap, HashMapExt, HashSet, HashSetExt};
use nix::poll::PollFlags;
use serde::{Deserialize, Serialize};

use crate::kernel::{
    hosted, pods,
    runner::{Runner, Running},
};
use feed::names::{HostName, NameSource, Names, ServiceNames};
use line::{Line, PATIENCE, reach, wait};
use model::{
    flow::{Kind, Tunnel},
    units::sanitize,
};
pub(crate) use ovs::{OVS, OvsTunnels, ovs_tunnels};
use said::{MOST_NAMES, Said};

/// Limit on the time for all answers together, limit on their bytes, the interval between queries,
/// and how soon a new or missing service is noticed.
const ALL: Duration = Duration::from_secs(10);
const MOST_ANSWERS: usize = 64 << 20;
const LATER: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(5);

/// The sources of names here, the most reliable first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize, Serialize)]
enum Service {
    Cni,
    HostLocal,
    Cri,
    Cilium,
    Ovn,
    Ovs,
    Docker,
    Frr,
}

impl Service {
    fn source(self) -> NameSource {
        match self {
            Service::Cni => NameSource::Cni,
            Service::HostLocal => NameSource::HostLocal,
            Service::Cri => NameSource::Cri,
            Service::Cilium => NameSource::Cilium,
            Service::Ovn => NameSource::Ovn,
            Service::Ovs => NameSource::Ovs,
            Service::Docker => NameSource::Docker,
            Service::Frr => NameSource::Frr,
        }
    }

    /// The kinds of tunnels whose ids it knows.
    fn kinds(self) -> &'static [Kind] {
        match self {
            Service::Ovn => &[Kind::Geneve, Kind::Vxlan],
            Service::Frr => &[Kind::Vxlan, Kind::VxlanGpe],
            _ => &[],
        }
    }
}

/// A question that a service answers.
type Question = fn(Line) -> io::Result<Said>;

/// The services that are queried if their sockets exist.
const ALWAYS: [(Service, &str, Question); 6] = [
    (Service::Cilium, "/run/cilium/cilium.sock", cilium::pods),
    (Service::Cilium, "/run/cilium/cilium.sock", cilium::nodes),
    (Service::Ovn, "/run/ovn/ovnsb_db.sock", ovn::southbound),
    (Service::Ovs, ovs::SOCKET, ovs::ports),
    (Service::Frr, "/run/frr/zebra.vty", frr::vnis),
    (Service::Frr, "/run/frr/bgpd.vty", frr::neighbours),
];

/// Stands for the socket of whichever container runtime is running.
pub const ANY_CRI: &str = "auto";

/// Which services and files to query.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Services {
    /// Docker's socket, or that of a compatible service.
    pub docker: Option<PathBuf>,
    /// The socket of a container runtime, or [`ANY_CRI`].
    pub cri: Option<PathBuf>,
    /// Folders with files of container runtimes that a reader cannot read itself, because they did
    /// not exist when it confined itself.
    pub files: Vec<PathBuf>,
}

/// Their answers, passed from one process to the other.
#[derive(Debug, Default, Deserialize, Serialize)]
pub struct Answers {
    told: Vec<(Service, Said)>,
    /// The services without an answer, and why.
    silent: Vec<String>,
    /// The size of the answers.
    #[serde(skip)]
    bytes: usize,
}

impl Services {
    /// The sockets and folders that exist now, and those named by the user even if they do not.
    fn there(&self) -> Vec<PathBuf> {
        let named = self.docker.iter().chain(&self.cri).cloned();
        let sockets = ALWAYS.iter().map(|(_, path, _)| PathBuf::from(path));
        let others = sockets.chain(self.files.iter().cloned());
        named.chain(others.filter(|path| path.exists())).collect()
    }

    /// Each question, and where to send it.
    fn questions(&self) -> Vec<(Service, PathBuf, Question)> {
        let there = ALWAYS.iter().filter(|(_, path, _)| Path::new(path).exists());
        let there = there.map(|(service, path, question)| (*service, path.into(), *question));
        let docker = self.docker.iter().cloned();
        let docker = docker.map(|path| (Service::Docker, path, docker::containers as Question));
        let cri = self.cri.iter().map(|path| {
            let default = || cri::SOCKETS.iter().find(|path| Path::new(path).exists());
            let default = || Path::new(default().unwrap_or(&cri::SOCKETS[0])).to_owned();
            let path = if path == Path::new(ANY_CRI) { default() } else { path.clone() };
            (Service::Cri, path, cri::pods as Question)
        });
        there.chain(docker).chain(cri).collect()
    }

    /// Connects to all of them; then `confine` gives up everything; then they are queried, all at
    /// the same time.
    ///
    /// # Errors
    /// That of `confine`.
    pub fn ask(&self, confine: impl FnOnce() -> Result<()>) -> Result<Answers> {
        let connect = |(service, path, question): (Service, PathBuf, Question)| {
            let line = reach(&path);
            (service, path, move || question(line?))
        };
        let lines: Vec<_> = self.questions().into_iter().map(connect).collect();
        confine()?;
        let mut answers = Answers::default();
        answers.read_files(&self.files);
        thread::scope(|scope| {
            let asked: Vec<_> = lines
                .into_iter()
                .map(|(service, path, ask)| {
                    let thread = thread::Builder::new().spawn_scoped(scope, ask);
                    (service, path, thread)
                })
                .collect();
            for (service, path, thread) in asked {
                let told = thread.and_then(|thread| {
                    thread.join().unwrap_or_else(|_| Err(io::Error::other("a bug of tmon")))
                });
                answers.add(service, &path, told);
            }
        });
        Ok(answers)
    }
}

impl Answers {
    /// Adds a service's answer, or why there is none.
    fn add(&mut self, service: Service, path: &Path, mut told: io::Result<Said>) {
        told.iter_mut().for_each(Said::cut);
        match told {
            // One service's names must not crowd out those of others.
            Ok(told) if self.bytes + told.bytes() > MOST_ANSWERS => {
                let name = service.source().name();
                let most = MOST_ANSWERS >> 20;
                self.silent.push(format!(
                    "{name} has no names: {}: all services together have more than {most} MB of them",
                    path.display()
                ));
            }
            Ok(told) => {
                self.bytes += told.bytes();
                self.told.push((service, told));
            }
            Err(e) => {
                let name = service.source().name();
                let why = match e.kind() {
                    io::ErrorKind::TimedOut => format!("no answer in {} s", PATIENCE.as_secs()),
                    io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
                    _ => e.to_string().chars().take(MOST_REASON).collect(),
                };
                self.silent.push(format!("{name} has no names: {}: {why}", path.display()));
            }
        }
    }

    fn read_files(&mut self, folders: &[PathBuf]) {
        let named = hosted::names(folders.iter().map(PathBuf::as_path), || {
            pods::containers(&HashSet::new()).by_container(Path::new(pods::LOGS))
        });
        for (service, from) in
            [(Service::Cni, NameSource::Cni), (Service::HostLocal, NameSource::HostLocal)]
        {
            let own = named.iter().filter(|(_, name)| name.from == from);
            self.told.push((service, Said::inner(own.map(|(a, name)| (*a, name.name.clone())))));
        }
    }

    /// The names as the reader keeps them: if several services know an address, that of the most
    /// reliable one. An address for which one service has two names is ambiguous and gets none from
    /// it.
    fn known(mut self) -> ServiceNames {
        self.told.sort_by_key(|(service, _)| *service);
        let mut known = ServiceNames::default();
        for same in self.told.chunk_by_mut(|a, b| a.0 == b.0) {
            let (mut inner, mut outer) = (Unambiguous::new(), Unambiguous::new());
            let Some(from) = same.first().map(|(service, _)| service.source()) else { continue };
            for (service, told) in same {
                note(&mut inner, std::mem::take(&mut told.inner));
                note(&mut outer, std::mem::take(&mut told.outer));
                for (id, called) in told.ids.drain(..).take(MOST_NAMES) {
                    let segment = called.segment();
                    for kind in service.kinds() {
                        let tunnel = Tunnel { kind: *kind, id: Some(id) };
                        known.ids.entry(tunnel).or_insert_with(|| (segment.clone(), from));
                    }
                }
            }
            merge(&mut known.inner, inner, from);
            merge(&mut known.outer, outer, from);
        }
        let safe = |line: String| sanitize(&line.replace('\n', " ")).into_owned();
        known.silent = self.silent.into_iter().map(safe).collect();
        known
    }
}

/// The maximum length of a reason, in characters.
const MOST_REASON: usize = 160;

/// Names by address; `None` for addresses with two names.
type Unambiguous = HashMap<IpAddr, Option<String>>;

fn note(all: &mut Unambiguous, named: Vec<(IpAddr, String)>) {
    for (address, name) in named.into_iter().take(MOST_NAMES) {
        let name = sanitize(&name).into_owned();
        all.entry(address).or_insert_with(|| Some(name.clone())).take_if(|known| *known != name);
    }
}

/// Adds names for addresses that have none yet.
fn merge(into: &mut HashMap<IpAddr, HostName>, all: Unambiguous, from: NameSource) {
    for (address, name) in all {
        if let Some(name) = name {
            into.entry(address).or_insert(HostName { name, from });
        }
    }
}

/// The process that queries services, on demand.
#[derive(Debug)]
pub struct Asker {
    runner: Runner,
    services: Services,
}

impl Asker {
    /// Prepares it, also for services that appear later. To be called before there are threads.
    pub fn start(services: Services) -> Option<Asker> {
        let mut command = vec![std::env::current_exe().ok()?.into(), "ask".into()];
        for (flag, path) in [("--docker", &services.docker), ("--cri", &services.cri)] {
            if let Some(path) = path {
                command.extend([flag.into(), path.into()]);
            }
        }
        for folder in &services.files {
            command.extend(["--files".into(), folder.into()]);
        }
        // If it cannot start, there are merely fewer names.
        let runner = Runner::start(vec![command]).ok()?;
        Some(Asker { runner, services })
    }

    /// Queries once, if there is anything to query.
    pub fn ask(&self) -> Option<ServiceNames> {
        if self.services.there().is_empty() {
            return None;
        }
        let until = Instant::now() + ALL;
        let mut running = self.runner.run(0).ok()?;
        let printed = whole(&mut running, until);
        let answers = printed.and_then(|text| serde_json::from_slice::<Answers>(&text).ok());
        let nothing = || ServiceNames {
            silent: vec!["services of this host have no names: `tmon ask` failed".to_owned()],
            ..ServiceNames::default()
        };
        Some(answers.map_or_else(nothing, Answers::known))
    }

    /// Queries again every minute, and soon after a service appears or disappears, until the
    /// program ends. Names that disappear are forgotten.
    pub fn follow(&self, names: &Names) {
        let (mut there, mut asked) = (self.services.there(), Instant::now());
        loop {
            thread::sleep(SOON);
            let now = self.services.there();
            if now != there || asked.elapsed() >= LATER {
                (there, asked) = (now, Instant::now());
                names.learn_asked(self.ask().unwrap_or_default());
            }
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
            // Twice as many: characters may be escaped.
            n if all.len() + n > 2 * MOST_ANSWERS => return None,
            n => all.extend_from_slice(&some[..n]),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read, Write},
        net::Ipv4Addr,
        os::unix::net::UnixStream,
    };

    use super::*;
    use crate::kernel::netlink::TunnelDevice;

    /// An answer of ovsdb-server 3.1: what Kube-OVN, OVN-Kubernetes and Antrea write, and a
    /// bridge's own port.
    const OVS: &str = r#"{"id":0,"result":[{"rows":[{"external_ids":["map",[]]},
        {"external_ids":["map",[["iface-id","web-0.default"],["ip","10.16.0.5"],["pod_name","web-1"],["pod_namespace","shop"]]]},
        {"external_ids":["map",[["attached_mac","0a:58:0a:f4:00:05"],["iface-id","default_web-0"],["ip_addresses","10.244.0.5/24,fd00::5/64"]]]},
        {"external_ids":["map",[["ip-address","10.10.0.2"],["pod-name","cart"],["pod-namespace","shop"]]]},
        {"external_ids":["map",[["iface-id","no-address"]]]}]}],"error":null}"#;
    /// Answers of zebra 8.4, and of bgpd once its peer has sent its name.
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
        Line::over(socket)
    }

    fn vty_says(text: &str) -> Line {
        service([text.as_bytes(), &[0; 4]].concat())
    }

    /// An HTTP service that closes the connection after its answer.
    fn http_says(body: &str) -> Line {
        http_answers("200 OK", body)
    }

    fn http_answers(status: &str, body: &str) -> Line {
        let (socket, mut theirs) = UnixStream::pair().expect("a pair");
        socket.set_nonblocking(true).expect("set");
        let answer = format!("HTTP/1.0 {status}\r\nContent-Type: application/json\r\n\r\n{body}");
        thread::spawn(move || {
            let _ = theirs.read(&mut [0; 4096]);
            let _ = theirs.write_all(answer.as_bytes());
        });
        Line::over(socket)
    }

    /// Answers like the agent of Cilium 1.14.
    const CILIUM: &str = r#"[{"cidr":"10.0.1.5/32","hostIP":"192.0.2.7","identity":4711,
        "metadata":{"name":"cart-0","namespace":"shop","source":"k8s"}},
        {"cidr":"fd00::1:5/128","identity":4711,"metadata":{"name":"cart-0","namespace":"shop","source":"k8s"}},
        {"cidr":"192.0.2.7/32","identity":6,"metadata":{"source":"custom-resource"}},
        {"cidr":"0.0.0.0/0","identity":2,"metadata":{"name":"x","namespace":"y","source":"generated"}},
        {"cidr":"10.0.1.9/32","identity":8}]"#;
    const NODES: &str = r#"{"client-id":7,"nodes-added":[{"name":"node-a","primary-address":{
        "ipv4":{"address-type":"InternalIP","alloc-range":"10.0.0.0/24","enabled":true,"ip":"192.0.2.1"},
        "ipv6":{"enabled":false}},"secondary-addresses":null},
        {"name":"east/node-b","primary-address":{"ipv4":{"ip":"192.0.2.7"}},"secondary-addresses":[{"ip":"192.0.2.8"}]},
        {"name":"bare"}],"nodes-removed":null,"self":"node-a"}"#;
    /// Answers like ovsdb-server for OVN 23.03: ports of Kube-OVN, OVN-Kubernetes and Neutron, and
    /// a router's.
    const OVN: &str = r#"{"id":0,"error":null,"result":[{"rows":[
        {"logical_port":"web-0.shop","mac":"0a:58:0a:10:00:05 10.16.0.5","external_ids":["map",[["ls","ovn-default"],["pod","shop/web-0"]]]},
        {"logical_port":"shop_cart-0","mac":["set",["0a:58:0a:f4:00:05 10.244.0.5 fd00::5","unknown"]],"external_ids":["map",[["namespace","shop"],["pod","true"]]]},
        {"logical_port":"9f3a","mac":["set",["fa:16:3e:00:00:01 10.5.0.9/24"]],"external_ids":["map",[["name","db"],["neutron:port_name","db"]]]},
        {"logical_port":"rtos-a","mac":"0a:58:0a:f4:00:01 10.244.0.1/24","external_ids":["map",[]]},
        {"logical_port":"stor-a","mac":["set",["router"]],"external_ids":["map",[]]},
        {"logical_port":"none","mac":["set",[]],"external_ids":["map",[]]}]},
        {"rows":[{"tunnel_key":3,"external_ids":["map",[["logical-switch","4e6f"],["name","neutron-4e6f"],["name2","blue"]]]},
        {"tunnel_key":4,"external_ids":["map",[["logical-router","5a"],["name","edge"]]]},
        {"tunnel_key":5,"external_ids":["map",[]]}]},
        {"rows":[{"name":"0a1b","hostname":"compute-1"},{"name":"2c3d","hostname":""}]},
        {"rows":[{"chassis_name":"0a1b","ip":"192.0.2.11"},{"chassis_name":"2c3d","ip":"192.0.2.12"}]}]}"#;

    /// All answers in order, as text.
    fn shown(answers: Answers) -> (Vec<String>, Vec<String>, Vec<String>) {
        // Pass them from one process to the other, as in reality.
        let bytes = serde_json::to_vec(&answers).expect("JSON");
        let answers: Answers = serde_json::from_slice(&bytes).expect("the same");
        let known = answers.known();
        let text = |all: &HashMap<IpAddr, HostName>| {
            let line = |(a, n): (&IpAddr, &HostName)| format!("{a} {} {}", n.name, n.from.name());
            let mut all: Vec<String> = all.iter().map(line).collect();
            all.sort();
            all
        };
        let mut ids: Vec<_> = known
            .ids
            .iter()
            .map(|(tunnel, (segment, from))| format!("{tunnel} {segment} {}", from.name()))
            .collect();
        ids.sort();
        (text(&known.inner), text(&known.outer), ids)
    }

    fn answers(told: impl IntoIterator<Item = (Service, io::Result<Said>)>) -> Answers {
        let mut answers = Answers::default();
        for (service, told) in told {
            answers.add(service, Path::new("/run/x.sock"), told);
        }
        answers
    }

    #[test]
    fn answers_of_real_services_are_understood() {
        let told = answers([
            (Service::Ovs, ovs::ports(service(OVS.into()))),
            (Service::Frr, frr::vnis(vty_says(ZEBRA))),
            (Service::Frr, frr::neighbours(vty_says(BGPD))),
            (Service::Docker, docker::containers(http_says(DOCKER))),
        ]);
        assert_eq!(told.silent, Vec::<String>::new());
        let (inner, outer, ids) = shown(told);
        assert_eq!(
            inner,
            [
                "10.0.1.7 web docker",
                "10.10.0.2 shop/cart ovs",
                "10.16.0.5 shop/web-1 ovs",
                "10.244.0.5 default_web-0 ovs",
                "172.17.0.2 web docker",
                "fd00::5 default_web-0 ovs",
                "fd01::7 web docker",
            ]
        );
        assert_eq!(outer, ["192.0.2.2 leaf-2 frr"]);
        let red = ["100 L2VNI in VRF red frr", "50 VRF red frr"];
        assert_eq!(ids, both(["vxlan", "vxlan-gpe"], red));
    }

    /// The ids of each of two kinds.
    fn both(kinds: [&str; 2], ids: [&str; 2]) -> Vec<String> {
        kinds.iter().flat_map(|kind| ids.map(|id| format!("{kind} {id}"))).collect()
    }

    #[test]
    fn services_of_a_cluster_know_pods_and_nodes_of_all_hosts() {
        let told = answers([
            (Service::Ovs, ovs::ports(service(OVS.into()))),
            (Service::Ovn, ovn::southbound(service(OVN.into()))),
            (Service::Cilium, cilium::pods(http_says(CILIUM))),
            (Service::Cilium, cilium::nodes(http_says(NODES))),
        ]);
        assert_eq!(told.silent, Vec::<String>::new());
        let (inner, outer, ids) = shown(told);
        assert_eq!(
            inner,
            [
                "10.0.1.5 shop/cart-0 cilium",
                "10.10.0.2 shop/cart ovs",
                "10.16.0.5 shop/web-0 ovn", // which takes precedence over Open vSwitch
                "10.244.0.1 rtos-a ovn",
                "10.244.0.5 shop/cart-0 ovn",
                "10.5.0.9 db ovn",
                "fd00::1:5 shop/cart-0 cilium",
                "fd00::5 shop/cart-0 ovn",
            ]
        );
        assert_eq!(
            outer,
            [
                "192.0.2.1 node-a cilium",
                "192.0.2.11 compute-1 ovn",
                "192.0.2.12 2c3d ovn",
                "192.0.2.7 east/node-b cilium",
                "192.0.2.8 east/node-b cilium",
            ]
        );
        assert_eq!(ids, both(["geneve", "vxlan"], ["3 bridge blue ovn", "4 VRF edge ovn"]));
    }

    /// An answer of ovsdb-server 3.1: a bridge with three tunnels, and one with the physical
    /// interface.
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
    fn tunnels_of_open_vswitch_are_found_with_their_underlays() {
        let OvsTunnels { tunnels, bridges } = ovs::tunnels(service(BRIDGES.into())).expect("OVS");
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

    /// Every question, sent to services that give this answer.
    fn each(says: &str) -> [(Service, io::Result<Said>); 8] {
        [
            (Service::Ovs, ovs::ports(service(says.into()))),
            (Service::Ovn, ovn::southbound(service(says.into()))),
            (Service::Frr, frr::vnis(vty_says(says))),
            (Service::Frr, frr::neighbours(vty_says(says))),
            (Service::Docker, docker::containers(http_says(says))),
            (Service::Cilium, cilium::pods(http_says(says))),
            (Service::Cilium, cilium::nodes(http_says(says))),
            (Service::Cri, cri::pods(service(says.into()))),
        ]
    }

    #[test]
    fn answers_cost_bounded_memory_and_errors_say_why() {
        let rows = "{},".repeat(300_000);
        let many = format!(r#"{{"result":[{{"rows":[{rows}{{}}]}}]}}"#);
        let e = ovn::southbound(service(many.into())).expect_err("too many").to_string();
        assert!(e.contains("at most 200000 elements of lists"), "{e}");
        // Not in one list each, nor in many.
        let table = format!(r#"{{"rows":[{}{{}}]}}"#, "{},".repeat(9_999));
        let many = format!(r#"{{"result":[{}{table}]}}"#, format!("{table},").repeat(30));
        let nodes = format!(r#"{{"nodes-added":[{}{{}}]}}"#, "{},".repeat(300_000));
        let [ovn, cilium] = thread::scope(|scope| {
            let ovn = scope.spawn(|| ovn::southbound(service(many.into())));
            let cilium = scope.spawn(|| cilium::nodes(http_says(&nodes)));
            [ovn, cilium].map(|thread| thread.join().expect("no panic"))
        });
        for e in [ovn, cilium].map(|told| told.expect_err("too many").to_string()) {
            assert!(e.contains("at most 200000 elements of lists"), "{e}");
        }
        let busy = http_answers("503 Service Unavailable", "\"agent not ready\"");
        let e = docker::containers(busy).expect_err("busy").to_string();
        assert_eq!(e, "503 Service Unavailable");
        // A service with too many names does not crowd out the others.
        let says = |n: u32, name: &str| {
            let of = |n: u32| (Ipv4Addr::from_bits(n).into(), name.to_owned());
            Said::inner((0..n).map(of))
        };
        let mut told = Answers::default();
        let path = Path::new("/run/x.sock");
        told.add(Service::Ovs, path, Ok(says(1, "web")));
        let long = "é".repeat(300);
        (0..2).for_each(|_| told.add(Service::Ovn, path, Ok(says(100_000, &long))));
        told.add(Service::Docker, path, Ok(says(2, "cart")));
        assert_eq!(told.told.len(), 3);
        assert!(told.told[1].1.inner[0].1.chars().count() == 255 && told.silent.len() == 1);
    }

    #[test]
    fn garbage_and_silence_cost_bounded_time_and_a_line() {
        let begun = Instant::now();
        let deep = "[".repeat(1 << 20);
        let all =
            ["", "\0\0\0\0", "{", "[[[[", "\u{1b}[2J", "null", "7", r#"{"result":null}"#, &deep];
        let all: Vec<_> = all
            .map(|says| {
                thread::spawn({
                    let says = says.to_owned();
                    move || {
                        assert!(ovs::tunnels(service(says.clone().into())).is_err());
                        each(&says)
                    }
                })
            })
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"))
            .collect();
        assert!(begun.elapsed() < 30 * PATIENCE, "each has its time");
        let told = answers(all);
        assert!(told.told.iter().all(|(_, told)| *told == Said::default()), "{told:?}");
        let silent = told.known().silent;
        assert!(silent.len() > 40, "{silent:?}");
        for line in silent {
            assert!(line.contains(" has no names: /run/x.sock: "), "{line}");
            assert!(line.len() < 250 && !line.contains(['\n', '\x1b']), "{line:?}");
        }
    }

    #[test]
    fn floods_and_escapes_cost_bounded_names() {
        let many =
            || (0..MOST_NAMES + 10).map(|i| (i, Ipv4Addr::from_bits(0x0a00_0000 + i as u32)));
        let row = |(i, address): (usize, Ipv4Addr)| {
            format!(
                r#"{{"external_ids":["map",[["iface-id","p{i}\u001b[31m"],["ip","{address}"]]]}}"#
            )
        };
        let rows: Vec<String> = many().map(row).collect();
        let flood = format!(r#"{{"id":0,"result":[{{"rows":[{}]}}]}}"#, rows.join(","));
        let entry = |(i, address): (usize, Ipv4Addr)| {
            format!(
                r#"{{"cidr":"{address}/32","metadata":{{"name":"p{i}\u001b[31m","namespace":""}}}}"#
            )
        };
        let entries: Vec<String> = many().map(entry).collect();
        let entries = format!("[{}]", entries.join(","));
        // As in the program, each answer is read by a thread of its own.
        let told = thread::scope(|scope| {
            let ovs = scope.spawn(|| ovs::ports(service(flood.into())));
            let cilium = scope.spawn(|| cilium::pods(http_says(&entries)));
            [(Service::Ovs, ovs), (Service::Cilium, cilium)]
                .map(|(service, thread)| (service, thread.join().expect("no panic")))
        });
        for (service, told) in told {
            let known = answers([(service, told)]).known().inner;
            assert_eq!(known.len(), MOST_NAMES);
            assert_eq!(known[&IpAddr::from([10, 0, 0, 7])].name, "p7␛[31m");
        }
    }

    #[test]
    fn an_address_with_two_names_has_none() {
        let address = IpAddr::from([10, 0, 0, 1]);
        let two = |a: &str, b: &str| {
            Ok(Said::inner([a, b].map(|name| (address, name.to_owned())).into_iter()))
        };
        assert!(answers([(Service::Ovs, two("a", "b"))]).known().inner.is_empty());
        // But a name of another service is used.
        let told = answers([(Service::Docker, two("c", "c")), (Service::Ovs, two("a", "b"))]);
        assert_eq!(told.known().inner[&address].name, "c");
    }
}
