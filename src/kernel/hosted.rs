// SPDX-License-Identifier: MIT OR Apache-2.0
//! The container runtimes' names for the addresses of this host's pods, from the files that they
//! leave: the cache of libcni (containerd, CRI-O, podman), and the allocations of CNI's host-local
//! plugin. No daemon is queried, and nothing is ever waited for.
//!
//! The contents of these files are under the control of others: what is read of each is bounded,
//! and what is not understood is skipped.
use std::{
    cell::LazyCell,
    collections::hash_map::Entry,
    fs::{self, File},
    io,
    net::IpAddr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::SystemTime,
};

use feed::{
    input,
    names::{HostName, NameSource},
};
use foldhash::{HashMap, HashMapExt};
use model::units::sanitize;
use serde::Deserialize;

/// The folders with these files: CNI's own, cri-dockerd's, and Antrea's.
pub const FOLDERS: [&str; 3] = ["/var/lib/cni", "/var/lib/cni/cache", "/run/antrea/cni"];
/// What is in each of them.
const RESULTS: &str = "results";
const NETWORKS: &str = "networks";

/// Limits: the number of files, and the bytes of each.
const MOST_FILES: usize = 1 << 16;
const MOST_BYTES: u64 = 1 << 18;
/// This much of a container's id identifies it, as in other tools.
const SHORT: usize = 12;

/// A result in libcni's cache: `/var/lib/cni/results/NETWORK-CONTAINER-INTERFACE`.
#[derive(Deserialize)]
struct Cached {
    #[serde(default, rename = "containerId")]
    container: String,
    #[serde(default, rename = "cniArgs")]
    args: Option<Vec<(String, String)>>,
    #[serde(default)]
    result: Given,
}

/// The addresses in it; `ip4` and `ip6` before version 0.3 of the specification.
#[derive(Default, Deserialize)]
struct Given {
    #[serde(default)]
    ips: Option<Vec<GivenAddress>>,
    ip4: Option<OldAddress>,
    ip6: Option<OldAddress>,
}

#[derive(Deserialize)]
struct GivenAddress {
    address: String,
}

#[derive(Deserialize)]
struct OldAddress {
    ip: String,
}

impl Cached {
    /// `NAMESPACE/POD` if the runtime recorded it, otherwise the beginning of the container's id.
    fn name(&self) -> Option<String> {
        let arg = |name: &str| {
            let args = self.args.iter().flatten();
            args.filter(|(key, _)| key == name).map(|(_, value)| value.as_str()).next_back()
        };
        let pod = arg("K8S_POD_NAME").filter(|name| !name.is_empty());
        let name = match (arg("K8S_POD_NAMESPACE").filter(|n| !n.is_empty()), pod) {
            (Some(namespace), Some(pod)) => format!("{namespace}/{pod}"),
            (None, Some(pod)) => pod.to_owned(),
            (_, None) if self.container.is_empty() => return None,
            (_, None) => self.container.chars().take(SHORT).collect(),
        };
        Some(sanitize(&name).into_owned())
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let new = self.result.ips.iter().flatten().map(|ip| ip.address.as_str());
        let old = [&self.result.ip4, &self.result.ip6].into_iter().flatten();
        let address = |text: &str| text.split('/').next().and_then(|a| a.parse().ok());
        let all = new.chain(old.map(|ip| ip.ip.as_str())).filter_map(address);
        // Every pod has a result of the loopback plugin as well.
        all.filter(|address: &IpAddr| !address.is_loopback())
    }
}

/// Names, and when they were assigned.
type GivenNames = HashMap<IpAddr, (SystemTime, HostName)>;

/// All names in folders such as [`FOLDERS`]. `pods` gives pods by the ids of their containers, for
/// files that contain only the id.
pub fn names<'a>(
    folders: impl Iterator<Item = &'a Path>,
    pods: impl FnOnce() -> HashMap<String, String>,
) -> HashMap<IpAddr, HostName> {
    let mut found = GivenNames::new();
    let mut containers: HashMap<String, String> = HashMap::new();
    let mut left = MOST_FILES;
    let folders: Vec<&Path> = folders.collect();
    for folder in &folders {
        for path in files(&folder.join(RESULTS), &mut left) {
            let Ok((text, at)) = text(&path) else { continue };
            let Ok(cached) = serde_json::from_slice::<Cached>(&text) else { continue };
            let Some(name) = cached.name() else { continue };
            for address in cached.addresses() {
                let from = NameSource::Cni;
                add(&mut found, address, at, HostName { name: name.clone(), from });
            }
            containers.insert(cached.container, name);
        }
    }
    let pods = LazyCell::new(pods);
    for folder in &folders {
        for network in files(&folder.join(NETWORKS), &mut left) {
            for path in files(&network, &mut left) {
                // The files are named after the addresses that they reserve.
                let address = path.file_name().and_then(|n| n.to_str()).map(str::parse::<IpAddr>);
                let Some(Ok(address)) = address else { continue };
                // Most of them are already known from the runtime's files.
                if found.get(&address).is_some_and(|(_, known)| known.from == NameSource::Cni) {
                    continue;
                }
                let Ok((text, at)) = text(&path) else { continue };
                let text = String::from_utf8_lossy(&text);
                let Some(id) = text.lines().next().map(str::trim).filter(|id| !id.is_empty())
                else {
                    continue;
                };
                let short = || sanitize(&id.chars().take(SHORT).collect::<String>()).into_owned();
                let named = || containers.get(id).or_else(|| pods.get(id)).cloned();
                let name = named().unwrap_or_else(short);
                add(&mut found, address, at, HostName { name, from: NameSource::HostLocal });
            }
        }
    }
    found.into_iter().map(|(address, (_, name))| (address, name)).collect()
}

/// If an address was given to two containers, the older one is gone without a trace.
fn add(found: &mut GivenNames, address: IpAddr, at: SystemTime, name: HostName) {
    match found.entry(address) {
        Entry::Occupied(mut known) if known.get().1.from == name.from && known.get().0 < at => {
            known.insert((at, name));
        }
        Entry::Occupied(_) => {}
        Entry::Vacant(place) => {
            place.insert((at, name));
        }
    }
}

/// The folders to watch, if they exist: the results, and each network.
pub fn watched<'a>(folders: impl Iterator<Item = &'a Path>) -> Vec<PathBuf> {
    const MOST: usize = 256;
    let mut all = Vec::new();
    for folder in folders {
        all.extend([folder.join(RESULTS), folder.join(NETWORKS)]);
        all.extend(files(&folder.join(NETWORKS), &mut MOST.clone()));
    }
    all.retain(|path| path.is_dir());
    all.truncate(MOST);
    all
}

/// The entries of a folder, up to the limit.
fn files(folder: &Path, left: &mut usize) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let found: Vec<PathBuf> =
        entries.take(*left).filter_map(|entry| Some(entry.ok()?.path())).collect();
    *left -= found.len();
    found
}

/// The contents of a file, and its modification time. Neither waits for a pipe in its place nor
/// follows a link.
fn text(path: &Path) -> io::Result<(Vec<u8>, SystemTime)> {
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let about = file.metadata()?;
    if !about.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let at = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
    Ok((input::of(file, MOST_BYTES)?, at))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    /// As containerd's libcni writes it.
    fn result(container: &str, args: &str, addresses: &str) -> String {
        format!(
            r#"{{"kind":"cniCacheV1","containerId":"{container}","config":"eyJjbmlWZXJzaW9uIjoi","ifName":"eth0",
            "networkName":"k8s-pod-network","netns":"/var/run/netns/cni-7f1f2a86","cniArgs":{args},
            "capabilityArgs":{{"dns":{{"Servers":["10.96.0.10"]}}}},
            "result":{{"cniVersion":"1.0.0","dns":{{}},"interfaces":[{{"name":"eth0","mac":"ea:62:1e:52:9e:7c",
            "sandbox":"/var/run/netns/cni-7f1f2a86"}}],"ips":{addresses},"routes":[{{"dst":"0.0.0.0/0"}}]}}}}"#
        )
    }

    const ID: &str = "0d5c9bb6ab8e2c1fd0c1a8a0f7d1d8b6a3d3f0c96a2b3b8a7f4b1c2d3e4f5a6b";

    fn pod(name: &str) -> String {
        format!(
            r#"[["IgnoreUnknown","1"],["K8S_POD_NAMESPACE","shop"],["K8S_POD_NAME","{name}"],["K8S_POD_INFRA_CONTAINER_ID","{ID}"]]"#
        )
    }

    fn laid_out() -> tempfile::TempDir {
        let root = tempfile::tempdir().expect("a folder");
        let write = |path: &str, text: &str| {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, text).expect("written");
        };
        let both = r#"[{"interface":1,"address":"10.244.0.5/24","gateway":"10.244.0.1"},{"address":"fd00:10::5/64"}]"#;
        write(&format!("results/k8s-{ID}-eth0"), &result(ID, &pod("cart-0"), both));
        write(
            "results/old",
            r#"{"containerId":"abc","result":{"cniVersion":"0.2.0","ip4":{"ip":"10.88.0.9/16"}}}"#,
        );
        let loopback = r#"[{"interface":0,"address":"127.0.0.1/8"},{"address":"::1/128"}]"#;
        write(&format!("results/cni-loopback-{ID}-lo"), &result(ID, &pod("cart-0"), loopback));
        // host-local's files, and other files beside them.
        write("networks/cbr0/10.244.0.5", &format!("{ID}\r\neth0"));
        write("networks/cbr0/10.244.0.6", "feedfacefeedfacefeed\r\neth0");
        write("networks/cbr0/10.244.0.7", "cafe\r\neth0");
        write("networks/cbr0/last_reserved_ip.0", "10.244.0.6");
        write("networks/cbr0/lock", "");
        root
    }

    #[test]
    fn pods_have_their_runtimes_names() {
        let root = laid_out();
        let pods = || [("cafe".to_owned(), "shop/tea".to_owned())].into_iter().collect();
        let found = names([root.path(), Path::new("/nonexistent")].into_iter(), pods);
        let name = |address| found.get(&ip(address)).map(|n| (n.name.as_str(), n.from));
        assert_eq!(name("10.244.0.5"), Some(("shop/cart-0", NameSource::Cni)));
        assert_eq!(name("fd00:10::5"), Some(("shop/cart-0", NameSource::Cni)));
        assert_eq!(name("10.88.0.9"), Some(("abc", NameSource::Cni)), "before version 0.3");
        assert_eq!(name("10.244.0.6"), Some(("feedfacefeed", NameSource::HostLocal)));
        assert_eq!(name("10.244.0.7"), Some(("shop/tea", NameSource::HostLocal)), "by its process");
        assert_eq!(found.len(), 5, "{found:?}");
    }

    #[test]
    fn other_files_are_skipped() {
        let root = laid_out();
        let results = root.path().join("results");
        let good = result("x", &pod("ok"), r#"[{"address":"10.0.0.1/8"}]"#);
        for (name, text) in [
            ("half", good[..good.len() / 2].to_owned()),
            ("empty", String::new()),
            ("list", "[".repeat(100_000)),
            ("null", r#"{"containerId":"c","cniArgs":null,"result":{"ips":null}}"#.to_owned()),
            ("address", result("y", "null", r#"[{"address":"10.0.0.300/8"},{"address":""}]"#)),
            ("huge", good.replace("eth0", &"x".repeat(1 << 20))),
            ("escape", result("z", &pod(r"\u001b[31m\u202e"), r#"[{"address":"10.0.0.2/8"}]"#)),
        ] {
            fs::write(results.join(name), text).expect("written");
        }
        nix::unistd::mkfifo(&results.join("fifo"), nix::sys::stat::Mode::S_IRWXU).expect("a pipe");
        std::os::unix::fs::symlink("/dev/zero", results.join("zero")).expect("a link");
        std::os::unix::fs::symlink("/dev/zero", root.path().join("networks/cbr0/10.0.0.3"))
            .expect("a link");
        fs::create_dir(root.path().join("networks/cbr0/10.0.0.4")).expect("a folder");
        let found = names([root.path()].into_iter(), HashMap::new);
        assert_eq!(found.len(), 6, "{found:?}");
        assert_eq!(found[&ip("10.0.0.2")].name, "shop/␛[31m\u{fffd}");
    }

    #[test]
    fn an_address_belongs_to_its_latest_owner() {
        let root = laid_out();
        let give = |file: &str, name: &str, seconds: u64| {
            let path = root.path().join("results").join(file);
            fs::write(&path, result(file, &pod(name), r#"[{"address":"10.0.0.1/8"}]"#))
                .expect("written");
            let at = SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(seconds);
            File::options().write(true).open(&path).expect("it").set_modified(at).expect("set");
        };
        give("a", "gone", 1_000);
        give("b", "here", 3_000);
        give("c", "gone-too", 2_000);
        let found = names([root.path()].into_iter(), HashMap::new);
        assert_eq!(found[&ip("10.0.0.1")].name, "shop/here");
    }

    #[test]
    fn a_hundred_thousand_files_are_read_up_to_the_limit() {
        let root = tempfile::tempdir().expect("a folder");
        let network = root.path().join("networks/n");
        fs::create_dir_all(&network).expect("made");
        let mut left = 10;
        for i in 0..20u8 {
            fs::write(network.join(format!("10.0.0.{i}")), "id").expect("written");
        }
        assert_eq!(files(&network, &mut left).len(), 10);
        assert_eq!((left, files(&network, &mut left).len()), (0, 0));
    }
}
