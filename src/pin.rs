// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting with no process: programs, tables and links that stay in a bpffs.
//!
//! ```text
//! /sys/fs/bpf/tmon/v2/1-2-eth0/   layout, then netns cookie, ifindex and name of the interface
//!     rows4 rows6 others cpus fragments ports states   the maps; the kernel empties a program
//!                                                      array that neither process nor pin holds
//!     ingress egress                                   the entry programs
//!     rx tx                                            tcx links; a clsact filter stays by itself
//!     about                                            who made it, when and how, as JSON
//! ```
//!
//! The cookie tells network namespaces apart for as long as the kernel runs; neither an ifindex
//! nor a name does. `about` is written last: a folder without it was left by an attach that was
//! killed. Whoever adds or removes folders holds a lock on the topmost one; who reads the
//! tables one on their folder, so that readers can let rows age.
#![allow(unsafe_code)]
use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    time::{ClockId, clock_gettime},
};
use serde::{Deserialize, Serialize};

use crate::{
    attach::{self, Attachment, Standing, Want},
    bpf::{Config, LAYOUT, Port, Program},
    flow::HookKind,
    netlink::{Link, Netlink},
    netns::Place,
    units::sanitize,
};

/// Where a bpffs is mounted, as systemd does it.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Bytes of the map that holds [`About`].
const ABOUT_SIZE: usize = 8192;

/// All that is pinned.
#[derive(Clone, Debug)]
pub struct Pins {
    folder: PathBuf,
}

/// What is pinned of one interface; perhaps by another version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    path: PathBuf,
    /// The layout of its tables: only [`LAYOUT`] can be read.
    pub layout: u32,
    /// The network namespace.
    pub cookie: u64,
    /// The interface in it.
    pub ifindex: u32,
    /// What it was called.
    pub name: String,
}

/// What `about` says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `tmon 0.1.0`
    pub tool: String,
    /// The named network namespace, if it was not that of the caller.
    pub netns: Option<String>,
    /// `tcx` or `clsact`.
    pub hook: String,
    /// CLOCK_BOOTTIME, which nobody sets.
    pub since_ns: u64,
    /// As [`Config`] has them.
    pub rows: u32,
    /// As [`Config`] has it.
    pub plain: bool,
    /// As [`Config`] has it.
    pub skb: bool,
    /// UDP ports whose meaning `--port` has settled, whatever devices there are.
    #[serde(default)]
    pub ports: Vec<u16>,
}

/// What has become of what was attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It counts.
    Counting,
    /// The interface is gone, or somebody took the programs off it. What was counted can be read.
    Off,
    /// It was left by an attach that was killed.
    Unfinished,
    /// Another version made it; its tables are not to be read.
    OtherLayout,
}

impl State {
    /// Its name in JSON and on the screen.
    pub fn name(self) -> &'static str {
        match self {
            State::Counting => "counting",
            State::Off => "off",
            State::Unfinished => "unfinished",
            State::OtherLayout => "other-layout",
        }
    }
}

/// How long the programs of an interface have run, where `kernel.bpf_stats_enabled` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Nanoseconds in all.
    pub time: Duration,
    /// Packets (skbs) that they took it for.
    pub runs: u64,
}

fn boot_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_BOOTTIME).context("ask for the time since boot")?.into())
}

impl About {
    fn new(config: &Config, hook: HookKind, place: &Place) -> Result<About> {
        Ok(About {
            tool: concat!("tmon ", env!("CARGO_PKG_VERSION")).to_owned(),
            netns: place.name().map(str::to_owned),
            hook: hook.name().to_owned(),
            since_ns: u64::try_from(boot_time()?.as_nanos())?,
            rows: config.rows,
            plain: config.plain,
            skb: config.skb,
            ports: config.chosen(),
        })
    }

    /// What of a configuration is not as it was attached, if anything.
    pub fn differs(&self, config: &Config) -> Option<String> {
        let default = Config::default();
        let mut all = Vec::new();
        if config.rows != self.rows && config.rows != default.rows {
            all.push(format!("--rows {}", self.rows));
        }
        for (flag, asked, is) in
            [("--plain", config.plain, self.plain), ("--skb", config.skb, self.skb)]
        {
            if asked && !is {
                all.push(format!("without {flag}"));
            }
        }
        if !config.ports.is_empty() {
            all.push("with its own --port list".to_owned());
        }
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// When counting began, by today's clock.
    pub fn since(&self) -> SystemTime {
        let age = boot_time()
            .map_or(Duration::ZERO, |now| now.saturating_sub(Duration::from_nanos(self.since_ns)));
        SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Pins {
    /// Those below a mount of a bpffs; [`BPFFS`] is where it is looked for by default.
    pub fn at(bpffs: &Path) -> Pins {
        Pins { folder: bpffs.join("tmon") }
    }

    fn bpffs(&self) -> &Path {
        self.folder.parent().unwrap_or(Path::new("/"))
    }

    /// The command that mounts the bpffs; `None` where it is mounted.
    ///
    /// # Errors
    /// It is not to be seen.
    pub fn mount(&self) -> Result<Option<String>> {
        let at = self.bpffs().display();
        match statfs(self.bpffs()) {
            Ok(s) if s.filesystem_type() == BPF_FS_MAGIC => Ok(None),
            Ok(_) | Err(Errno::ENOENT) => Ok(Some(format!("mount -t bpf bpf {at}"))),
            Err(e) => bail!("cannot look at {at}: {e}"),
        }
    }

    /// Whether there is a bpffs.
    ///
    /// # Errors
    /// There is none: how to mount it.
    pub fn check(&self) -> Result<()> {
        match self.mount()? {
            Some(command) => {
                bail!("no bpffs is mounted at {}: try `{command}`", self.bpffs().display())
            }
            None => Ok(()),
        }
    }

    /// Keeps others from adding and removing until it is dropped. Makes the topmost folder.
    ///
    /// # Errors
    /// There is no bpffs, or no privilege.
    pub fn lock(&self) -> Result<Flock<File>> {
        self.check()?;
        let shown = self.folder.display();
        loop {
            match fs::create_dir(&self.folder) {
                Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(anyhow!(
                        "cannot make {shown} ({e}): run as root, or where {} is writable",
                        self.bpffs().display()
                    ));
                }
                _ => {}
            }
            let folder = match File::open(&self.folder) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
                folder => folder.with_context(|| format!("open {shown}"))?,
            };
            let held = Flock::lock(folder, FlockArg::LockExclusive)
                .map_err(|(_, e)| anyhow!("lock {shown}: {e}"))?;
            // The last detach removes it; what was locked then is not what is there now.
            if same_file(&held, &self.folder) {
                return Ok(held);
            }
        }
    }

    /// Everything that is pinned, of every layout, by namespace and interface.
    ///
    /// # Errors
    /// The folders cannot be read. That there are none is no error.
    pub fn list(&self) -> Result<Vec<Pin>> {
        let mut found = Vec::new();
        for (path, name) in folders(&self.folder)? {
            let Some(layout) = name.strip_prefix('v').and_then(|n| n.parse().ok()) else {
                continue;
            };
            for (path, name) in folders(&path)? {
                found.extend(Pin::parse(path, layout, &name));
            }
        }
        found.sort_by_key(|p: &Pin| (p.cookie, p.ifindex, p.layout));
        Ok(found)
    }

    /// What is pinned of an interface, of every layout.
    ///
    /// # Errors
    /// As [`Pins::list`].
    pub fn of(&self, place: &Place, ifindex: u32) -> Result<Vec<Pin>> {
        let cookie = place.cookie()?;
        Ok(self
            .list()?
            .into_iter()
            .filter(|p| (p.cookie, p.ifindex) == (cookie, ifindex))
            .collect())
    }

    /// What counts an interface already and can be read: its programs, their attachment (dropping
    /// it changes nothing) and who made it. Rows that are idle for `age` go while it is read.
    ///
    /// # Errors
    /// There is something that cannot be read, and why.
    pub fn join(
        &self,
        place: &Place,
        ifindex: u32,
        age: Duration,
    ) -> Result<Option<(Program, Attachment, About)>> {
        // Who may not look there has nothing to join.
        for pin in self.of(place, ifindex).unwrap_or_default() {
            if pin.layout != LAYOUT {
                bail!("{}", pin.other_layout());
            }
            let Some(about) = pin.about()? else { continue };
            let program = pin.program()?;
            if let Some(attachment) = pin.attachment(&program, place)? {
                let folder = File::open(&pin.path)
                    .with_context(|| format!("open {}", pin.path.display()))?;
                return Ok(Some((program.shared(folder, age), attachment, about)));
            }
        }
        Ok(None)
    }

    /// Attaches to an interface for good. `found` are the ports of the tunnel devices that there are.
    /// `None` when that is done already. Needs the lock.
    ///
    /// # Errors
    /// It cannot be attached; nothing stays.
    pub fn attach(
        &self,
        _lock: &Flock<File>,
        place: &Place,
        link: &Link,
        config: &Config,
        found: &[Port],
        want: Want,
    ) -> Result<Option<HookKind>> {
        for pin in self.of(place, link.index)? {
            match pin.state(Some(place))? {
                State::Counting => return Ok(None),
                State::OtherLayout => bail!("{}", pin.other_layout()),
                // Of an interface that had this index, or of an attach that was killed.
                State::Off | State::Unfinished => pin.remove(Some(place))?,
            }
        }
        let pin = Pin {
            path: PathBuf::new(),
            layout: LAYOUT,
            cookie: place.cookie()?,
            ifindex: link.index,
            name: link.name.clone(),
        };
        let pin =
            Pin { path: self.folder.join(format!("v{LAYOUT}")).join(pin.folder_name()), ..pin };
        let made = pin.make(place, config, found, want);
        if made.is_err() {
            // The error of making it is the one to tell.
            let _ = pin.remove(Some(place));
            self.tidy();
        }
        made.map(Some)
    }

    /// Takes one off. Needs the lock.
    ///
    /// # Errors
    /// Something of it stays.
    pub fn detach(&self, _lock: &Flock<File>, pin: &Pin) -> Result<()> {
        let place = Place::by_cookie(pin.cookie);
        pin.remove(place.as_ref())?;
        self.tidy();
        Ok(())
    }

    /// Removes the folders that nothing is in any more.
    fn tidy(&self) {
        for (path, _) in folders(&self.folder).unwrap_or_default() {
            let _ = fs::remove_dir(path); // not empty, not removed
        }
        let _ = fs::remove_dir(&self.folder);
    }
}

impl Pin {
    fn parse(path: PathBuf, layout: u32, folder: &str) -> Option<Pin> {
        let mut parts = folder.splitn(3, '-');
        let (cookie, ifindex, name) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        Some(Pin { path, layout, cookie, ifindex, name: plain_name(name)? })
    }

    fn folder_name(&self) -> String {
        format!("{}-{}-{}", self.cookie, self.ifindex, file_name(&self.name))
    }

    fn make(&self, place: &Place, config: &Config, found: &[Port], want: Want) -> Result<HookKind> {
        fs::create_dir_all(&self.path).with_context(|| format!("make {}", self.path.display()))?;
        let program = Program::load(config)?;
        found.iter().for_each(|p| program.set_port(*p));
        for (name, fd) in program.objects() {
            self.put(name, fd)?;
        }
        let attachment = Attachment::lasting(&program, self.ifindex, place, want)?;
        let kind = attachment.kind();
        attachment.keep(|name, link| self.put(name, link))?;
        let about = serde_json::to_vec(&About::new(config, kind, place)?)?;
        ensure!(about.len() < ABOUT_SIZE, "too much to say about {}", sanitize(&self.name));
        let mut value = vec![0; ABOUT_SIZE];
        value[..about.len()].copy_from_slice(&about);
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let map = MapHandle::create(MapType::Array, Some("about"), 4, ABOUT_SIZE as u32, 1, &opts)
            .context("make a map")?;
        map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY).context("write a map")?;
        self.put("about", map.as_fd())?;
        Ok(kind)
    }

    fn put(&self, name: &str, object: BorrowedFd<'_>) -> Result<()> {
        let path = self.path.join(name);
        let text = CString::new(path.as_os_str().as_bytes())?;
        // SAFETY: the text ends with a zero and lives until the call returns.
        let e = unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), text.as_ptr()) };
        ensure!(e == 0, "pin {}: {}", path.display(), io::Error::from_raw_os_error(-e));
        Ok(())
    }

    fn get(&self, name: &str) -> io::Result<OwnedFd> {
        let text = CString::new(self.path.join(name).as_os_str().as_bytes())?;
        // SAFETY: the text ends with a zero and lives until the call returns.
        let fd = unsafe { libbpf_sys::bpf_obj_get(text.as_ptr()) };
        if fd < 0 {
            return Err(io::Error::from_raw_os_error(-fd));
        }
        // SAFETY: a descriptor that nobody else owns.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    /// Who made it; `None` when that was not finished.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn about(&self) -> Result<Option<About>> {
        let path = self.path.join("about");
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> Result<About> {
            let bytes = MapHandle::from_pinned_path(&path)?
                .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?
                .context("it is empty")?;
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            Ok(serde_json::from_slice(&bytes[..end])?)
        };
        read().map(Some).with_context(|| format!("read {}", path.display()))
    }

    /// Its programs and tables.
    ///
    /// # Errors
    /// They are not there or not those of this version.
    pub fn program(&self) -> Result<Program> {
        ensure!(self.layout == LAYOUT, "{}", self.other_layout());
        Program::from_objects(|name| {
            self.get(name).with_context(|| format!("open {}", self.path.join(name).display()))
        })
    }

    /// Its tcx links, if it has any.
    fn links(&self) -> Result<Option<[OwnedFd; 2]>> {
        match (self.get("rx"), self.get("tx")) {
            (Ok(rx), Ok(tx)) => Ok(Some([rx, tx])),
            (Err(e), _) | (_, Err(e)) if e.kind() != io::ErrorKind::NotFound => {
                Err(e).context("open a pinned link")
            }
            _ => Ok(None),
        }
    }

    /// Where its programs are; `None` when they are off. Dropping it changes nothing.
    fn attachment(&self, program: &Program, place: &Place) -> Result<Option<Attachment>> {
        let found = Attachment::found(program, self.ifindex, place, self.links()?)?;
        let standing = found.standing(&mut Netlink::open_inside(place)?)?;
        Ok((standing != Standing::Gone).then_some(found))
    }

    /// What has become of it; `place` is its network namespace, where that can be found.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn state(&self, place: Option<&Place>) -> Result<State> {
        if self.layout != LAYOUT {
            return Ok(State::OtherLayout);
        }
        if self.about()?.is_none() {
            return Ok(State::Unfinished);
        }
        let program = self.program()?;
        let attached = match (place, self.links()?) {
            (Some(place), _) => self.attachment(&program, place)?.is_some(),
            (None, Some(links)) => attach::is_linked(&program, &links)?,
            (None, None) => bail!(
                "its network namespace is gone, has no name here or may not be entered: {} clears what is left",
                self.command("detach")
            ),
        };
        Ok(if attached { State::Counting } else { State::Off })
    }

    /// What its programs have cost; `None` where the kernel does not measure.
    ///
    /// # Errors
    /// They cannot be asked.
    pub fn cost(&self) -> Result<Option<Cost>> {
        let mut sum = Cost::default();
        for name in ["ingress", "egress"] {
            let info = attach::describe(self.get(name).context("open a pinned program")?.as_fd())?;
            sum.time += Duration::from_nanos(info.run_time_ns);
            sum.runs += info.run_cnt;
        }
        Ok((sum.runs > 0).then_some(sum))
    }

    /// Removes every trace; `place` is its network namespace, where that can be found.
    fn remove(&self, place: Option<&Place>) -> Result<()> {
        for name in ["rx", "tx"] {
            if let Ok(link) = self.get(name) {
                // At once, though a reader may hold the link open.
                // SAFETY: a descriptor of a link, open until the call returns.
                unsafe { libbpf_sys::bpf_link_detach(link.as_raw_fd()) };
            }
        }
        if let Some(place) = place {
            let ifindex = self.ifindex;
            place.run(move || attach::remove_lasting(ifindex))??;
        }
        let entries = match fs::read_dir(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            entries => entries.with_context(|| format!("list {}", self.path.display()))?,
        };
        for entry in entries {
            let path = entry?.path();
            fs::remove_file(&path).with_context(|| format!("remove {}", path.display()))?;
        }
        fs::remove_dir(&self.path).with_context(|| format!("remove {}", self.path.display()))
    }

    /// The command that does this (`detach`, `attach`) to it.
    pub fn command(&self, verb: &str) -> String {
        let place = Place::by_cookie(self.cookie);
        let was = || self.about().ok().flatten().and_then(|a| a.netns);
        let netns = place.map_or_else(was, |p| p.name().map(str::to_owned));
        let netns = netns.map_or(String::new(), |n| format!(" --netns {}", sanitize(&n)));
        format!("`tmon {verb} {}{netns}`", sanitize(&self.name))
    }

    /// Whether it is of this named namespace, which is gone.
    pub fn survives(&self, netns: &str) -> bool {
        Place::by_cookie(self.cookie).is_none()
            && self.about().is_ok_and(|a| a.is_some_and(|a| a.netns.as_deref() == Some(netns)))
    }

    fn other_layout(&self) -> String {
        format!(
            "{} is attached by another version of tmon, whose tables (layout {}) this one (layout {LAYOUT}) does not read: \
             {} ends that, {} begins anew",
            sanitize(&self.name),
            self.layout,
            self.command("detach"),
            self.command("attach")
        )
    }
}

fn same_file(open: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let of = |m: &fs::Metadata| (m.dev(), m.ino());
    matches!((&open.metadata(), &fs::metadata(path)), (Ok(a), Ok(b)) if of(a) == of(b))
}

/// The folders in a folder; none where it is not there.
fn folders(path: &Path) -> Result<Vec<(PathBuf, String)>> {
    let entries = match fs::read_dir(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
            bail!("not allowed to look into {}: run as root", path.display())
        }
        entries => entries.with_context(|| format!("list {}", path.display()))?,
    };
    let folder = |e: io::Result<fs::DirEntry>| {
        let e = e.ok().filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))?;
        Some((e.path(), e.file_name().into_string().ok()?))
    };
    Ok(entries.filter_map(folder).collect())
}

/// An interface's name as a name in a bpffs, which takes no dots: `eth0.5` is `eth0%2E5`.
fn file_name(name: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    name.bytes()
        .map(|b| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The inverse; `None` for what [`file_name`] does not make.
fn plain_name(file: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = file;
    while let Some(c) = rest.bytes().next() {
        let taken = if c == b'%' {
            bytes.push(u8::from_str_radix(rest.get(1..3)?, 16).ok()?);
            3
        } else {
            bytes.push(c);
            1
        };
        rest = rest.get(taken..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn odd_names_stay_in_their_folder() {
        for (name, file) in [
            ("eth0", "eth0"),
            ("eth0.5", "eth0%2E5"),
            ("..", "%2E%2E"),
            ("a%b", "a%25b"),
            ("ü", "%C3%BC"),
        ] {
            assert_eq!(file_name(name), file);
            assert_eq!(plain_name(file).as_deref(), Some(name));
        }
        for bad in ["%", "%2", "%zz", "%FF", "%é"] {
            assert_eq!(plain_name(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_folder_says_what_it_is_of() {
        let parse = |folder: &str| {
            Pin::parse(PathBuf::new(), 3, folder).map(|p| (p.layout, p.cookie, p.ifindex, p.name))
        };
        assert_eq!(parse("1-2-eth0"), Some((3, 1, 2, "eth0".to_owned())));
        assert_eq!(
            parse("18446744073709551615-7-a-b%2E1"),
            Some((3, u64::MAX, 7, "a-b.1".to_owned()))
        );
        for bad in ["", "1", "1-2", "x-2-eth0", "1--1-eth0", "1-99999999999-eth0"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn no_bpffs_is_said() {
        let dir = tempfile::tempdir().unwrap();
        let e = Pins::at(dir.path()).lock().expect_err("it is not one").to_string();
        assert!(e.contains("no bpffs is mounted") && e.contains("mount -t bpf"), "{e}");
        assert!(Pins::at(Path::new("/nowhere")).check().is_err());
        assert_eq!(Pins::at(dir.path()).list().expect("nothing is fine"), []);
    }

    proptest! {
        #[test]
        fn every_name_comes_back(name in "\\PC{1,15}") {
            let file = file_name(&name);
            prop_assert!(!file.contains(['.', '/']) && !file.is_empty());
            prop_assert_eq!(plain_name(&file), Some(name));
        }
    }
}
