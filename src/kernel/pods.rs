// SPDX-License-Identifier: MIT OR Apache-2.0
//! The pods and containers of this host by their processes: a process's control group names its pod
//! and its container, the folders of pods' logs name the pod, and its network namespace has the
//! addresses. No daemon is queried.
use std::{
    fs::{self, File},
    io::Read,
    os::unix::fs::MetadataExt,
    path::Path,
};

use foldhash::{HashMap, HashSet, HashSetExt};
use model::units::sanitize;

use crate::kernel::netns::Netns;
use feed::names::{HostName, NameSource};

/// The folders of pods' logs: `NAMESPACE_NAME_UID`.
pub const LOGS: &str = "/var/log/pods";

/// Limits: processes, folders, and the bytes of a file about a process.
const MOST: usize = 1 << 16;
const MOST_BYTES: u64 = 1 << 14;
/// Limit on namespaces that are kept open.
const MOST_NAMESPACES: usize = 256;
/// This much of a container's id identifies it, as in other tools.
const SHORT: usize = 12;

/// What the control group of a process says.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Cgroup {
    /// The container, by its id.
    container: String,
    /// The pod, by its uid.
    pod: Option<String>,
}

impl Cgroup {
    /// Parses /proc/PID/cgroup, for all versions of control groups and their drivers.
    fn read(text: &str) -> Option<Cgroup> {
        let paths = text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
        paths.filter_map(Cgroup::of).next()
    }

    /// Parses the path of a control group, such as
    /// `/kubepods.slice/kubepods-podUID.slice/cri-containerd-ID.scope` or `/kubepods/podUID/ID`.
    fn of(path: &str) -> Option<Cgroup> {
        let parts = || path.rsplit(['/', ':']);
        let container = parts().find_map(|part| {
            // conmon monitors a container from outside.
            let part = Some(part).filter(|part| !part.contains("conmon"))?;
            let part = part.strip_suffix(".scope").unwrap_or(part);
            let id = part.rsplit('-').next()?;
            let is_id = id.len() == 64 && id.bytes().all(|b| b.is_ascii_hexdigit());
            is_id.then(|| id.to_owned())
        })?;
        let pod = parts().find_map(|part| {
            let part = part.strip_suffix(".slice").unwrap_or(part);
            let uid = part.strip_prefix("pod").or_else(|| Some(part.rsplit_once("-pod")?.1))?;
            let uid = uid.replace('_', "-");
            let is_uid = uid.len() >= 32 && uid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
            is_uid.then_some(uid)
        });
        Some(Cgroup { container, pod })
    }
}

/// A process in a container.
#[derive(Debug)]
struct Contained {
    cgroup: Cgroup,
    /// The inode number of its namespace, unless that is this process's own.
    netns: Option<u32>,
    /// When it was started, in ticks since boot.
    started: u64,
}

/// Processes of containers, one for each.
#[derive(Debug, Default)]
pub struct Containers {
    all: Vec<Contained>,
    /// Namespaces found only here.
    spaces: Vec<Netns>,
}

/// Looks for processes in containers. Opens namespaces other than those in `known`, by inode
/// number.
pub fn containers(known: &HashSet<u32>) -> Containers {
    let inode = |pid: &str| {
        let file = fs::metadata(format!("/proc/{pid}/ns/net")).ok()?;
        u32::try_from(file.ino()).ok()
    };
    let own = ["1", "thread-self"].map(inode);
    let mut seen = HashSet::new();
    let mut found = Containers::default();
    let mut known = known.clone();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten().take(MOST) {
        let name = entry.file_name();
        let Some(pid) = name.to_str().filter(|name| name.bytes().all(|b| b.is_ascii_digit()))
        else {
            continue;
        };
        let Some(cgroup) = text(&entry.path().join("cgroup")).and_then(|t| Cgroup::read(&t)) else {
            continue;
        };
        if !seen.insert(cgroup.clone()) {
            continue;
        }
        let inode = inode(pid).filter(|inode| !own.contains(&Some(*inode)));
        if inode.is_some_and(|inode| found.spaces.len() < MOST_NAMESPACES && known.insert(inode)) {
            found.spaces.extend(Netns::open(&format!("pid:{pid}")));
        }
        let started =
            text(&entry.path().join("stat")).and_then(|t| started(&t)).unwrap_or(u64::MAX);
        found.all.push(Contained { cgroup, netns: inode, started });
    }
    found
}

/// When a process was started, by its `stat`. Its name, in parentheses, may contain anything.
fn started(stat: &str) -> Option<u64> {
    const AFTER_NAME: usize = 19;
    stat.rsplit_once(')')?.1.split_whitespace().nth(AFTER_NAME)?.parse().ok()
}

/// A file about a process, which may be gone.
fn text(path: &Path) -> Option<String> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// `NAMESPACE/NAME` of the pods with logs, by uid.
fn pods(logs: &Path) -> HashMap<String, String> {
    let named = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let mut parts = name.rsplitn(3, '_');
        let (uid, pod, namespace) = (parts.next()?, parts.next()?, parts.next()?);
        Some((uid.to_owned(), sanitize(&format!("{namespace}/{pod}")).into_owned()))
    };
    fs::read_dir(logs).into_iter().flatten().flatten().take(MOST).filter_map(named).collect()
}

impl Containers {
    /// The pods of containers, by the containers' ids.
    pub fn by_container(&self, logs: &Path) -> HashMap<String, String> {
        let pods = pods(logs);
        let named = |Contained { cgroup, .. }: &Contained| {
            let pod = pods.get(cgroup.pod.as_ref()?)?;
            Some((cgroup.container.clone(), pod.clone()))
        };
        self.all.iter().filter_map(named).collect()
    }

    /// The pods and containers that namespaces belong to, by inode number. Several containers may
    /// share one: the name of a pod says more than a container's, and the first that was started is
    /// the one that the others joined.
    pub fn by_space(&self, logs: &Path) -> HashMap<u32, HostName> {
        let pods = pods(logs);
        let mut found: HashMap<u32, (NameSource, u64, String)> = HashMap::default();
        for Contained { cgroup, netns, started } in &self.all {
            let Some(netns) = netns else { continue };
            let pod = cgroup.pod.as_ref().and_then(|uid| pods.get(uid)).cloned();
            let (from, name) = match pod {
                Some(name) => (NameSource::Pods, name),
                None => (NameSource::Cgroup, cgroup.container.chars().take(SHORT).collect()),
            };
            let this = (from, *started, name);
            let known = found.entry(*netns).or_insert_with(|| this.clone());
            if this < *known {
                *known = this;
            }
        }
        let named = |(netns, (from, _, name))| (netns, HostName { name, from });
        found.into_iter().map(named).collect()
    }

    /// Namespaces found only here.
    pub fn into_spaces(self) -> Vec<Netns> {
        self.spaces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0d5c9bb6ab8e2c1fd0c1a8a0f7d1d8b6a3d3f0c96a2b3b8a7f4b1c2d3e4f5a6b";
    const UID: &str = "8f0d2c3e-6a1b-4c5d-9e7f-0123456789ab";

    #[test]
    fn control_groups_name_containers_and_pods() {
        let slice = UID.replace('-', "_");
        for (path, pod) in [
            // systemd's driver, with containerd and CRI-O; a static pod; the other driver.
            (
                format!(
                    "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{slice}.slice/cri-containerd-{ID}.scope"
                ),
                Some(UID),
            ),
            (
                format!("/kubepods.slice/kubepods-pod{slice}.slice/crio-{ID}.scope/container"),
                Some(UID),
            ),
            (format!("/kubepods/besteffort/pod{UID}/{ID}"), Some(UID)),
            (
                format!("/kubepods/burstable/pod0123456789abcdef0123456789abcdef/{ID}"),
                Some("0123456789abcdef0123456789abcdef"),
            ),
            (
                format!(
                    "/system.slice/containerd.service/kubepods-pod{slice}.slice:cri-containerd:{ID}"
                ),
                Some(UID),
            ),
            // No pods.
            (format!("/system.slice/docker-{ID}.scope"), None),
            (format!("/docker/{ID}"), None),
            (format!("/machine.slice/libpod-{ID}.scope/init.scope"), None),
        ] {
            for text in
                [format!("0::{path}\n"), format!("5:devices:/\n4:pids:{path}\n1:name=systemd:/\n")]
            {
                let found = Cgroup::read(&text).expect(&text);
                assert_eq!((found.container.as_str(), found.pod.as_deref()), (ID, pod), "{text}");
            }
        }
        for other in [
            "",
            "0::/",
            "0::/user.slice/user-0.slice/session-1.scope",
            &format!("0::/machine.slice/libpod-conmon-{ID}.scope"),
            &format!("0::/docker/{}", &ID[1..]),
            "nonsense",
        ] {
            assert_eq!(Cgroup::read(other), None, "{other}");
        }
    }

    #[test]
    fn of_several_containers_in_a_namespace_the_pod_and_the_first_one_name_it() {
        let logs = tempfile::tempdir().expect("a folder");
        fs::create_dir(logs.path().join(format!("shop_cart-0_{UID}"))).expect("made");
        let contained = |container: &str, is_pod: bool, netns, started| Contained {
            cgroup: Cgroup { container: container.to_owned(), pod: is_pod.then(|| UID.to_owned()) },
            netns: Some(netns),
            started,
        };
        let all = vec![
            contained("later", false, 1, 20),
            contained("in-pod", true, 1, 30),
            contained("first", false, 1, 10),
            contained("joined", false, 2, 20),
            contained("owner", false, 2, 10),
            contained("debug", false, 2, 30),
        ];
        let found = Containers { all, ..Containers::default() }.by_space(logs.path());
        let name = |netns| (found[&netns].name.as_str(), found[&netns].from);
        assert_eq!(name(1), ("shop/cart-0", NameSource::Pods));
        assert_eq!(name(2), ("owner", NameSource::Cgroup));
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 9 10 11";
        assert_eq!((started(stat), started("7 (x")), (Some(4711), None));
    }

    #[test]
    fn folders_of_logs_name_pods() {
        let logs = tempfile::tempdir().expect("a folder");
        let folders = [
            format!("shop_cart-0_{UID}"),
            "kube-system_etcd-a_01ab".into(),
            "x_y".into(),
            "\u{1b}[2J_a_b".into(),
        ];
        for folder in folders {
            fs::create_dir(logs.path().join(folder)).expect("made");
        }
        let found = pods(logs.path());
        assert_eq!(found.len(), 3, "{found:?}");
        assert_eq!(found[UID], "shop/cart-0");
        assert_eq!(found["b"], "␛[2J/a");
        assert!(pods(Path::new("/nonexistent")).is_empty());
    }
}
