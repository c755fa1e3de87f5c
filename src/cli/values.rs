// SPDX-License-Identifier: MIT OR Apache-2.0
//! Values found on this host, for shell completion. If none can be found, none are offered.
use std::{env, ffi::OsString, fs, path::Path};

use clap_complete::engine::CompletionCandidate;

use feed::input;
use model::groups::Groups;

/// Limits on the values offered, and on the size of files read for them.
const MOST: usize = 4096;
const MOST_BYTES: u64 = 1 << 20;

fn offered(all: impl Iterator<Item = String>) -> Vec<CompletionCandidate> {
    // A shell inserts the value as it is, and would execute what is in it.
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._@:+-/".contains(c);
    let is_word = |name: &String| name.chars().all(is_plain) && !name.starts_with('-');
    let mut all: Vec<String> = all.filter(is_word).take(MOST).collect();
    all.sort_unstable();
    all.dedup();
    all.into_iter().map(CompletionCandidate::new).collect()
}

/// The names of the entries of a folder.
fn names_in(folder: &str) -> impl Iterator<Item = String> + use<> {
    let entries = fs::read_dir(folder).into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok())
}

/// Interfaces.
pub(super) fn interfaces() -> Vec<CompletionCandidate> {
    offered(
        names_in("/sys/class/net").filter(|name| Path::new("/sys/class/net").join(name).is_dir()),
    )
}

/// Named network namespaces.
pub(super) fn namespaces() -> Vec<CompletionCandidate> {
    offered(names_in("/run/netns"))
}

/// Hosts named in the user's ssh configuration.
pub(super) fn hosts() -> Vec<CompletionCandidate> {
    let Some(home) = env::var_os("HOME") else { return Vec::new() };
    let Ok(text) = input::read(&Path::new(&home).join(".ssh/config"), MOST_BYTES) else {
        return Vec::new();
    };
    offered(hosts_in(&String::from_utf8_lossy(&text)))
}

fn hosts_in(config: &str) -> impl Iterator<Item = String> {
    let lines = config.lines().filter_map(|line| {
        let (key, names) = line.trim().split_once([' ', '\t', '='])?;
        key.eq_ignore_ascii_case("host").then_some(names)
    });
    let words = lines.flat_map(|names| names.split([' ', '\t', '=']));
    let plain = |name: &&str| !name.is_empty() && !name.contains(['*', '?', '!', '"']);
    words.filter(plain).map(str::to_owned)
}

/// Beginnings of an expression: its keys, ids of this host's tunnel devices, and groups of the file
/// given on the command line.
pub(super) fn expressions() -> Vec<CompletionCandidate> {
    const KEYS: [&str; 7] = ["host:", "inner:", "vni:", "kind:", "iface:", "proto:", "group:"];
    let ids = ids().into_iter().map(|id| format!("vni:{id}"));
    let groups = groups_in(env::args_os()).into_iter().map(|path| format!("group:{path}"));
    offered(KEYS.map(str::to_owned).into_iter().chain(ids).chain(groups))
}

/// The groups of the file given on the command line.
fn groups_in(words: impl Iterator<Item = OsString>) -> Vec<String> {
    let mut words = words.skip_while(|word| word != "--groups").skip(1);
    let text = words.next().and_then(|file| input::read(Path::new(&file), MOST_BYTES).ok());
    let groups = text.and_then(|text| Groups::parse(&String::from_utf8_lossy(&text)).ok());
    let all = groups.iter().flat_map(Groups::all_paths).filter(|path| !path.contains(','));
    all.map(str::to_owned).collect()
}

#[cfg(feature = "live")]
fn ids() -> Vec<u32> {
    use crate::kernel::netlink::Netlink;
    let found = Netlink::open().and_then(|mut netlink| {
        let links = netlink.links()?;
        Ok(netlink.tunnels_among(&links))
    });
    found.into_iter().flatten().filter_map(|tunnel| tunnel.id).collect()
}

#[cfg(not(feature = "live"))]
fn ids() -> Vec<u32> {
    Vec::new()
}

/// Interfaces on which `tmon attach` counts.
#[cfg(feature = "live")]
pub(super) fn attached() -> Vec<CompletionCandidate> {
    use crate::kernel::pin::{BPFFS, Pins};
    let pins = Pins::at(Path::new(BPFFS)).list().unwrap_or_default();
    offered(pins.into_iter().map(|pin| pin.called()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_come_from_the_file_on_the_command_line() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), "10.0.0.1 eu/a\n10.0.0.2 a,b\n").expect("written");
        let path = file.path().to_str().expect("a path");
        let words = |words: &[&str]| groups_in(words.iter().map(OsString::from));
        assert_eq!(words(&["tmon", "top", "--groups", path, "--filter", "gr"]), ["eu", "eu/a"]);
        for none in [&["tmon", "top", "--filter"][..], &["--groups"], &["--groups", "/nowhere"]] {
            assert!(words(none).is_empty());
        }
    }

    #[test]
    fn only_plain_host_names_are_offered() {
        let config =
            "Host a b.example *.lab !c\n  HostName 10.0.0.1\nhost=d\nMatch host x\n#Host e\n";
        assert_eq!(hosts_in(config).collect::<Vec<_>>(), ["a", "b.example", "d"]);
        let bad = ["a\u{1b}[31m", "$(id)", "x;y", "a b", "*", "`id`", "é", "-x"];
        let names = bad.into_iter().chain(["b", "b", "vni:7", "eth0.5@x"]);
        let offered = offered(names.map(str::to_owned));
        assert_eq!(offered.len(), 3, "{offered:?}");
    }
}
