// SPDX-License-Identifier: MIT OR Apache-2.0
//! Counting without a process: programs, tables and links that stay in a bpffs.
//!
//! ```text
//! /sys/fs/bpf/tmon/v2/1-2-eth0/   layout, then netns cookie, ifindex and name of the interface
//!     rows4 rows6 others cpus fragments ports states   the maps; the kernel empties a program
//!                                                      array that neither process nor pin holds
//!     ingress egress                                   the entry programs
//!     rx tx                                            tcx links; a clsact filter stays by itself
//!     about                                            who created it, when and how, as JSON
//! ```
//!
//! The cookie distinguishes network namespaces for as long as the kernel runs; neither an ifindex
//! nor a name does. An interface may be renamed or moved to another namespace later, so its
//! attachment is found by the programs that are on it.
//!
//! `about` is written last: a folder without it was left by an attach that was killed. Adding and
//! removing folders requires a lock on the topmost one; reading tables requires one on their
//! folder, so that readers can let rows age.
//!
//! Everybody may know these names, and where a bpffs is mounted without a mode everybody may create
//! folders there. So all folders must be ours alone (see `owned.rs`), and only what we put there is
//! removed.
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
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, bail, ensure};
use libbpf_rs::{MapCore, MapFlags, MapHandle, MapType};
use nix::{
    fcntl::{Flock, FlockArg},
    sys::{
        stat::{major, minor},
        statfs::{BPF_FS_MAGIC, fstatfs},
    },
};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::kernel::{
    attach::{self, Attachment, Standing, Want},
    bpf::{Config, LAYOUT, OBJECTS, Port, Program},
    clock::host,
    lock,
    netlink::{Link, Netlink},
    netns::{self, NetnsHandle},
    owned::{Denied, Folder},
};
use model::{
    flow::{Hook, HookKind},
    units::{duration, sanitize},
};

/// Where a bpffs is mounted, as systemd does it.
pub const BPFFS: &str = "/sys/fs/bpf";
/// The topmost folder, in a bpffs.
const TOP: &str = "tmon";
/// Bytes of the map that holds [`About`].
const ABOUT_SIZE: usize = 8192;
/// What is pinned besides [`OBJECTS`]. The first says that everything is there.
const ABOUT: &str = "about";
const LINKS: [&str; 2] = ["rx", "tx"];
/// How long to wait for other processes that attach or detach.
const PATIENCE: Duration = Duration::from_secs(20);

/// All attachments.
#[derive(Clone, Debug)]
pub struct Pins {
    bpffs: PathBuf,
}

/// Prevents others from adding and removing pins until it is dropped.
#[derive(Debug)]
pub struct Lock {
    bpffs: Folder,
    top: Folder,
    _held: Flock<File>,
}

/// The pinned objects of one interface, possibly of another version.
#[derive(Clone, Debug)]
pub struct Pin {
    /// The folder of its layout, and the name of its own folder there.
    all: Arc<Folder>,
    folder: String,
    /// The layout of its tables: only [`LAYOUT`] can be read.
    pub layout: u32,
    /// The network namespace in which it was attached.
    pub cookie: u64,
    /// The interface in it.
    pub ifindex: u32,
    /// The interface's name at that time.
    pub name: String,
}

/// An interface as it can be found now.
#[derive(Clone, Debug)]
pub struct Located {
    /// Its network namespace.
    pub place: NetnsHandle,
    /// Its index in it.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
}

/// Where the interface of a [`Pin`] is now.
#[derive(Clone, Debug)]
pub enum Whereabouts {
    /// Found: the interface that the programs are on or, if they are detached, the one with its
    /// index.
    On(Located),
    /// The programs are attached in a network namespace that has no name here or may not be entered.
    Away {
        /// Whether that is certainly not the namespace in which they were attached.
        moved: bool,
    },
    /// It is no longer where it was attached, and the programs are on no other interface.
    Gone,
    /// The network namespace in which it was attached has no name here or may not be entered.
    Hidden,
}

/// The contents of `about`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// `tmon 0.1.0`
    pub tool: String,
    /// The named network namespace, unless it was the caller's.
    pub netns: Option<String>,
    /// `tcx` or `clsact`.
    pub hook: String,
    /// CLOCK_BOOTTIME, which cannot be set.
    pub since_ns: u64,
    /// How the programs were loaded: this applies to everybody who joins, whatever their options.
    #[serde(flatten)]
    pub config: Config,
}

/// The state of an attachment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Its programs are counting.
    Counting,
    /// The interface is gone, or its programs were detached. The counts can still be read.
    Off,
    /// It was left by an attach that was killed.
    Unfinished,
    /// Another version created it, and its tables must not be read.
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

/// How long the programs of an interface have run, if `kernel.bpf_stats_enabled` is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The total time.
    pub time: Duration,
    /// The number of packets (skbs) processed in that time.
    pub runs: u64,
}

/// Flags and their values.
fn flags(config: &Config) -> serde_json::Map<String, Value> {
    match serde_json::to_value(config) {
        Ok(Value::Object(flags)) => flags,
        _ => serde_json::Map::new(),
    }
}

/// A flag with its value as on the command line.
fn written(flag: &str, value: &Value) -> String {
    match value {
        Value::Bool(true) => format!("--{flag}"),
        Value::Bool(false) | Value::Null => format!("without --{flag}"),
        Value::String(text) => format!("--{flag} {}", sanitize(text)),
        Value::Array(values) if values.is_empty() => format!("without --{flag}"),
        Value::Array(values) => {
            values.iter().map(|value| written(flag, value)).collect::<Vec<_>>().join(" ")
        }
        value => format!("--{flag} {value}"),
    }
}

impl About {
    fn new(config: &Config, hook: HookKind, place: &NetnsHandle) -> Result<About> {
        Ok(About {
            tool: concat!("tmon ", env!("CARGO_PKG_VERSION")).to_owned(),
            netns: place.name().map(str::to_owned),
            hook: hook.name().to_owned(),
            since_ns: host::boot(),
            config: config.clone(),
        })
    }

    /// Which flags of an attachment differ from those requested: the ones in force, if any.
    pub fn differs(&self, config: &Config, want: Want) -> Option<String> {
        let [is, asked, default] = [&self.config, config, &Config::default()].map(flags);
        let other = is.iter().filter(|(flag, value)| {
            let asked = asked.get(*flag);
            asked != Some(*value) && asked != default.get(*flag)
        });
        let mut all: Vec<String> = other.map(|(flag, value)| written(flag, value)).collect();
        if matches!(want, Want::Only(kind) if kind.name() != self.hook) {
            all.push(format!("--hook {}", sanitize(&self.hook)));
        }
        (!all.is_empty()).then(|| all.join(", "))
    }

    /// When counting began, by the current wall clock.
    pub fn since(&self) -> SystemTime {
        let age = Duration::from_nanos(host::boot().saturating_sub(self.since_ns));
        SystemTime::now().checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)
    }
}

impl Pins {
    /// Attachments below the mount point of a bpffs, which is [`BPFFS`] by default.
    pub fn at(bpffs: &Path) -> Pins {
        Pins { bpffs: bpffs.to_owned() }
    }

    /// The command that mounts the bpffs; `None` if it is mounted.
    ///
    /// # Errors
    /// It is not visible, or everybody could change its contents.
    pub fn mount(&self) -> Result<Option<String>> {
        let is_bpffs = |f: &Folder| fstatfs(f).is_ok_and(|s| s.filesystem_type() == BPF_FS_MAGIC);
        Ok(match Folder::around(&self.bpffs)? {
            Some(folder) if is_bpffs(&folder) => None,
            there => {
                let path = self.bpffs.display();
                let make =
                    if there.is_none() { format!("mkdir -p {path} && ") } else { String::new() };
                Some(format!("{make}mount -t bpf -o mode=0700 bpf {path}"))
            }
        })
    }

    /// Checks that there is a bpffs.
    ///
    /// # Errors
    /// There is none: how to mount it.
    pub fn check(&self) -> Result<()> {
        let Some(command) = self.mount()? else { return Ok(()) };
        let outside = match own_mounts() {
            true => format!(
                ", but this mount namespace is not that of PID 1 and ends with its processes: {}",
                outside()
            ),
            false => String::new(),
        };
        bail!("no bpffs is mounted at {}: try `{command}`{outside}", self.bpffs.display())
    }

    /// A warning if the bpffs is only visible in a mount namespace that ends with its processes,
    /// and the attachments with it.
    pub fn passing(&self) -> Option<String> {
        let own = Folder::around(&self.bpffs).ok()??.device()?;
        let device = format!("{}:{}", major(own), minor(own));
        let elsewhere = mounts("1")?.iter().any(|(_, of)| *of == device);
        (!elsewhere && own_mounts()).then(|| {
            format!(
                "this mount namespace is not that of PID 1, and the bpffs at {} is only seen here: \
                 attachments end with its last process; {}",
                self.bpffs.display(),
                outside()
            )
        })
    }

    /// Prevents others from adding and removing until it is dropped. Creates the topmost folder.
    ///
    /// # Errors
    /// There is no bpffs, no privilege, or others have held the lock for too long.
    pub fn lock(&self) -> Result<Lock> {
        self.check()?;
        let bpffs = Folder::around(&self.bpffs)?.context("the bpffs has disappeared")?;
        loop {
            let (top, _) = bpffs.make(TOP)?;
            let shown = top.shown("");
            let shown = shown.display();
            let file = top.to_file().context("duplicate a descriptor")?;
            let held = lock::take(file, FlockArg::LockExclusiveNonblock, PATIENCE)
                .with_context(|| format!("lock {shown}"))?;
            let Some(held) = held else {
                bail!(
                    "{} has held the lock of {shown} for {}: try again when it has ended",
                    lock::holder(&top.to_file().context("duplicate a descriptor")?),
                    duration(PATIENCE)
                );
            };
            // The last detach removes the folder, so the locked one may no longer be the current
            // one.
            if bpffs.has(TOP, &top) {
                return Ok(Lock { bpffs, top, _held: held });
            }
        }
    }

    /// Checks that all attachments on this host are visible.
    ///
    /// # Errors
    /// They are not: why, and from where they are.
    pub fn can_tell(&self) -> Result<()> {
        let path = self.bpffs.display();
        match fs::read_dir(&self.bpffs) {
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied => {
                bail!("attachments are kept in {path}, which you may not read: try as root")
            }
            _ if self.mount()?.is_some() && (own_mounts() || mounts("1").is_none()) => bail!(
                "attachments cannot be seen here: no bpffs is mounted at {path} in this mount \
                 namespace, and it is not known to be that of PID 1; try outside of `ip netns exec`, \
                 `unshare` or a container"
            ),
            _ => Ok(()),
        }
    }

    /// All attachments, of every layout, by namespace and interface.
    ///
    /// # Errors
    /// The folders cannot be read, or others could change them. No folders is not an error.
    pub fn list(&self) -> Result<Vec<Pin>> {
        let mut found = Vec::new();
        let bpffs = Folder::around(&self.bpffs)?;
        let Some(top) = bpffs.map(|b| b.open(TOP)).transpose()?.flatten() else {
            return Ok(found);
        };
        for name in top.folders()? {
            let Some(layout) = layout_of(&name) else { continue };
            let Some(all) = top.open(&name)?.map(Arc::new) else { continue };
            found.extend(
                all.folders()?.into_iter().filter_map(|name| Pin::parse(&all, layout, name)),
            );
        }
        found.sort_by_key(|p: &Pin| (p.cookie, p.ifindex, p.layout));
        Ok(found)
    }

    /// The attachments of an interface, of every layout: those whose programs are on it, wherever
    /// and under whatever name they were attached, and those that were made for it and are
    /// detached.
    ///
    /// # Errors
    /// As [`Pins::list`].
    pub fn of(&self, place: &NetnsHandle, ifindex: u32) -> Result<Vec<Pin>> {
        let cookie = place.cookie()?;
        let on = programs_on(place, ifindex)?;
        let mut found = Vec::new();
        for pin in self.list()? {
            let own = (pin.cookie, pin.ifindex) == (cookie, ifindex);
            // Attachments of other interfaces matter only if there is a program here that may be
            // theirs.
            let is_of = (own || on.as_ref().is_some_and(|on| !on.is_empty()))
                && match (pin.linked()?, &on) {
                    (Some((at, id)), Some(on)) => at == ifindex && on.contains(&id),
                    (Some((at, _)), None) => own && at == ifindex,
                    (None, _) => own,
                };
            if is_of {
                found.push(pin);
            }
        }
        Ok(found)
    }

    /// Who attached to an interface, and how.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn about(&self, place: &NetnsHandle, ifindex: u32) -> Result<Option<About>> {
        let pins = self.of(place, ifindex)?;
        pins.iter().find(|p| p.layout == LAYOUT).map_or(Ok(None), Pin::about)
    }

    /// The programs already attached to this interface, if their tables are readable, with their
    /// attachment (dropping it changes nothing) and who made it. Rows age while they are read, as
    /// whoever attached them configured.
    ///
    /// # Errors
    /// There is something that cannot be read, and why.
    pub fn join(
        &self,
        place: &NetnsHandle,
        ifindex: u32,
    ) -> Result<Option<(Program, Attachment, About)>> {
        let pins = match self.of(place, ifindex) {
            // A caller who may not read the folders has nothing to join.
            Err(e) if e.is::<Denied>() => return Ok(None),
            pins => pins?,
        };
        for pin in pins {
            if pin.layout != LAYOUT {
                bail!("{}", pin.other_layout());
            }
            let Some(about) = pin.about()? else { continue };
            let program = pin.program()?;
            if let Some(attachment) = pin.attachment(&program, place, ifindex)? {
                return Ok(Some((program.ageing(about.config.age), attachment, about)));
            }
        }
        Ok(None)
    }

    /// Attaches to an interface permanently. `found` are the ports of the existing tunnel devices.
    /// Returns `None` if it is attached already. Needs the lock.
    ///
    /// # Errors
    /// It cannot be attached; nothing is left behind.
    pub fn attach(
        &self,
        lock: &Lock,
        place: &NetnsHandle,
        link: &Link,
        config: &Config,
        found: &[Port],
        want: Want,
    ) -> Result<Option<HookKind>> {
        let seat = Located { place: place.clone(), ifindex: link.index, name: link.name.clone() };
        let on = Whereabouts::On(seat.clone());
        for pin in self.of(place, link.index)? {
            match pin.state(&on)? {
                State::Counting => return Ok(None),
                State::OtherLayout => bail!("{}", pin.other_layout()),
                // Left by an earlier interface with this index, or by an attach that was killed.
                State::Off | State::Unfinished => drop(pin.remove(Some(&seat))?),
            }
        }
        let cookie = place.cookie()?;
        for other in self.list()? {
            let is_its_folder =
                (other.layout, other.cookie, other.ifindex) == (LAYOUT, cookie, link.index);
            ensure!(
                !is_its_folder || other.linked()?.is_none(),
                "the interface that had its index before was moved to another network namespace and is still attached: {} detaches it",
                other.command("detach")
            );
        }
        let (all, _) = lock.top.make(&format!("v{LAYOUT}"))?;
        let pin = Pin {
            all: Arc::new(all),
            folder: format!("{cookie}-{}-{}", link.index, file_name(&link.name)),
            layout: LAYOUT,
            cookie,
            ifindex: link.index,
            name: link.name.clone(),
        };
        let made = pin.make(place, config, found, want);
        if made.is_err() {
            lock.tidy();
        }
        made.map(Some)
    }

    /// Removes an attachment.
    ///
    /// # Errors
    /// Part of it remains.
    pub fn detach(&self, lock: &Lock, pin: &Pin) -> Result<()> {
        let strays = match pin.whereabouts()? {
            Whereabouts::On(seat) => pin.remove(Some(&seat))?,
            _ => pin.remove(None)?,
        };
        lock.tidy();
        ensure!(
            strays.is_empty(),
            "it is detached, but {} remains: tmon did not create {} in it; check that, and remove it",
            pin.shown("").display(),
            sanitize(&strays.join(", "))
        );
        Ok(())
    }
}

impl Lock {
    /// Removes empty folders.
    fn tidy(&self) {
        for name in self.top.folders().unwrap_or_default() {
            if layout_of(&name).is_some() {
                let _ = self.top.remove_folder(&name); // fails unless it is empty
            }
        }
    }
}

impl Drop for Lock {
    /// Taking the lock creates the topmost folder; remove it if it stayed empty.
    fn drop(&mut self) {
        let _ = self.bpffs.remove_folder(TOP); // fails unless it is empty
    }
}

/// The layout of the pins in a folder of this name.
fn layout_of(folder: &str) -> Option<u32> {
    folder.strip_prefix('v')?.parse().ok()
}

/// The mounts that a process sees: number and device of each. Unlike querying its mount namespace,
/// this needs no privilege.
fn mounts(pid: &str) -> Option<Vec<(String, String)>> {
    let text = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
    let mount = |line: &str| {
        let mut words = line.split(' ');
        Some((words.next()?.to_owned(), words.nth(1)?.to_owned()))
    };
    Some(text.lines().filter_map(mount).collect())
}

/// Whether this mount namespace is certainly not that of PID 1: different ones have no mount in
/// common.
fn own_mounts() -> bool {
    let (Some(own), Some(first)) = (mounts("self"), mounts("1")) else { return false };
    !own.iter().any(|(id, _)| first.iter().any(|(other, _)| id == other))
}

/// What to do about a mount namespace that ends with its processes.
fn outside() -> String {
    let netns = netns::name_of_own().map_or("NAME".into(), |n| sanitize(&n).into_owned());
    format!("`tmon attach IFACE --netns {netns}` outside of `ip netns exec` or `unshare` stays")
}

impl Pin {
    fn parse(all: &Arc<Folder>, layout: u32, folder: String) -> Option<Pin> {
        let mut parts = folder.splitn(3, '-');
        let (cookie, ifindex, name) =
            (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?);
        let name = plain_name(name)?;
        Some(Pin { all: Arc::clone(all), folder, layout, cookie, ifindex, name })
    }

    fn dir(&self) -> Result<Folder> {
        self.all
            .open(&self.folder)?
            .with_context(|| format!("{} has disappeared", self.shown("").display()))
    }

    fn shown(&self, name: &str) -> PathBuf {
        self.all.shown(&self.folder).join(name)
    }

    fn make(
        &self,
        place: &NetnsHandle,
        config: &Config,
        found: &[Port],
        want: Want,
    ) -> Result<HookKind> {
        let (dir, made) = self.all.make(&self.folder)?;
        let mut put = Vec::new();
        let filled = self.fill(&dir, &mut put, place, config, found, want);
        if filled.is_err() {
            // The error of creating it is the one to report.
            for name in put {
                if LINKS.contains(&name) {
                    unlink(&dir, name);
                }
                let _ = dir.remove(name);
            }
            if made {
                let _ = self.all.remove_folder(&self.folder);
            }
        }
        filled
    }

    /// Pins everything; `put` receives the names of what has been pinned.
    fn fill(
        &self,
        dir: &Folder,
        put: &mut Vec<&'static str>,
        place: &NetnsHandle,
        config: &Config,
        found: &[Port],
        want: Want,
    ) -> Result<HookKind> {
        let program = Program::load(config)?;
        // A later prober may not be allowed to load programs.
        program.load_probers()?;
        found.iter().for_each(|p| program.set_port(*p));
        let mut pin = |name, object: BorrowedFd<'_>| {
            pin(dir, name, object)?;
            put.push(name);
            anyhow::Ok(())
        };
        for (name, fd) in program.objects() {
            pin(name, fd)?;
        }
        let mut attachment = Attachment::lasting(&program, self.ifindex, place, want)?;
        let kind = attachment.kind();
        for (name, link) in LINKS.into_iter().zip(attachment.links()) {
            pin(name, link)?;
        }
        let about = serde_json::to_vec(&About::new(config, kind, place)?)?;
        ensure!(
            about.len() < ABOUT_SIZE,
            "the description of {} is too long",
            sanitize(&self.name)
        );
        let mut value = vec![0; ABOUT_SIZE];
        value[..about.len()].copy_from_slice(&about);
        let opts = libbpf_sys::bpf_map_create_opts {
            sz: size_of::<libbpf_sys::bpf_map_create_opts>() as _,
            ..Default::default()
        };
        let map = MapHandle::create(MapType::Array, Some(ABOUT), 4, ABOUT_SIZE as u32, 1, &opts)
            .context("make a map")?;
        map.update(&0u32.to_ne_bytes(), &value, MapFlags::ANY).context("write a map")?;
        pin(ABOUT, map.as_fd())?;
        attachment.keep();
        Ok(kind)
    }

    fn get(&self, name: &str) -> Result<OwnedFd> {
        get(&self.dir()?, name).with_context(|| format!("open {}", self.shown(name).display()))
    }

    /// Its description; `None` if the attach did not finish.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn about(&self) -> Result<Option<About>> {
        let dir = self.dir()?;
        if !dir.is_file(ABOUT) {
            return Ok(None);
        }
        let read = || -> Result<About> {
            let bytes = MapHandle::from_pinned_path(dir.magic(ABOUT))?
                .lookup(&0u32.to_ne_bytes(), MapFlags::ANY)?
                .context("it is empty")?;
            let end = bytes.iter().position(|b| *b == 0).unwrap_or(bytes.len());
            Ok(serde_json::from_slice(&bytes[..end])?)
        };
        read().map(Some).with_context(|| format!("read {}", self.shown(ABOUT).display()))
    }

    /// Its programs and tables.
    ///
    /// # Errors
    /// They are missing, or not those of this version.
    pub fn program(&self) -> Result<Program> {
        ensure!(self.layout == LAYOUT, "{}", self.other_layout());
        let dir = self.dir()?;
        let program = Program::from_objects(|name| {
            get(&dir, name).with_context(|| format!("open {}", self.shown(name).display()))
        })?;
        Ok(program.shared(dir.to_file().context("duplicate a descriptor")?))
    }

    /// Its tcx links, if it has any.
    fn links(&self) -> Result<Option<[OwnedFd; 2]>> {
        let dir = self.dir()?;
        match LINKS.map(|name| get(&dir, name)) {
            [Ok(rx), Ok(tx)] => Ok(Some([rx, tx])),
            [Err(e), _] | [_, Err(e)] if e.kind() != io::ErrorKind::NotFound => {
                Err(e).context("open a pinned link")
            }
            _ => Ok(None),
        }
    }

    /// Whether both are the same attachment.
    pub fn is(&self, other: &Pin) -> bool {
        (self.layout, &self.folder) == (other.layout, &other.folder)
    }

    /// The interface that its links are attached to, and the program there: see
    /// [`attach::linked_to`]. Also `None` if there are no links.
    fn linked(&self) -> Result<Option<(u32, u32)>> {
        let Some([link, _]) = self.links()? else { return Ok(None) };
        attach::linked_to(link.as_fd()).context("get the state of a link")
    }

    /// Where its interface is now, whatever has become of its name, index and network namespace.
    ///
    /// # Errors
    /// The kernel gives no answer.
    pub fn whereabouts(&self) -> Result<Whereabouts> {
        let seat = |place: NetnsHandle, ifindex: u32| -> Result<Option<Located>> {
            let link = Netlink::open_inside(&place)?.link_by_index(ifindex)?;
            Ok(link.map(|link| Located { place, ifindex, name: link.name }))
        };
        let home = NetnsHandle::by_cookie(self.cookie);
        let known = home.is_some();
        let there = home.map(|place| seat(place, self.ifindex)).transpose()?.flatten();
        let Some((ifindex, program)) = self.linked()? else {
            return Ok(match (there, known) {
                (Some(seat), _) => Whereabouts::On(seat),
                (None, true) => Whereabouts::Gone,
                (None, false) => Whereabouts::Hidden,
            });
        };
        if let Some(there) = there.filter(|there| there.ifindex == ifindex) {
            // If this may not be queried: the index is right, and it is in the right namespace.
            if programs_on(&there.place, ifindex)?.is_none_or(|on| on.contains(&program)) {
                return Ok(Whereabouts::On(there));
            }
        }
        let is_on =
            |on: Result<Option<Vec<u32>>>| matches!(on, Ok(Some(on)) if on.contains(&program));
        let place = NetnsHandle::find(|place| is_on(programs_on(place, ifindex)));
        let found = place.map(|place| seat(place, ifindex)).transpose()?.flatten();
        Ok(found.map_or(Whereabouts::Away { moved: known }, Whereabouts::On))
    }

    /// The interface's current name, or its name when attached if the current one is unknown.
    pub fn called(&self) -> String {
        match self.whereabouts() {
            Ok(Whereabouts::On(seat)) => seat.name,
            _ => self.name.clone(),
        }
    }

    /// Its attachment, if its programs are on this interface; `None` if they are detached. Dropping
    /// it changes nothing.
    fn attachment(
        &self,
        program: &Program,
        place: &NetnsHandle,
        ifindex: u32,
    ) -> Result<Option<Attachment>> {
        let found = Attachment::found(program, ifindex, place, self.links()?)?;
        let standing = found.standing(&mut Netlink::open_inside(place)?)?;
        Ok((standing != Standing::Gone).then_some(found))
    }

    /// The programs that run before its own, one line each; `None` if its own are detached.
    ///
    /// # Errors
    /// The kernel gives no answer.
    pub fn before(&self, seat: &Located) -> Result<Option<Vec<String>>> {
        let Located { place, ifindex, .. } = seat;
        let found = Attachment::found(&self.program()?, *ifindex, place, self.links()?)?;
        Ok(match found.standing(&mut Netlink::open_inside(place)?)? {
            Standing::There(before) => Some(before),
            Standing::Gone => None,
        })
    }

    /// The state of the attachment, given where its interface is.
    ///
    /// # Errors
    /// The kernel gives no answer.
    pub fn state(&self, at: &Whereabouts) -> Result<State> {
        if self.layout != LAYOUT {
            return Ok(State::OtherLayout);
        }
        if self.about()?.is_none() {
            return Ok(State::Unfinished);
        }
        let program = self.program()?;
        let attached = match (at, self.links()?) {
            (Whereabouts::On(Located { place, ifindex, .. }), _) => {
                self.attachment(&program, place, *ifindex)?.is_some()
            }
            (Whereabouts::Gone, _) => false,
            (_, Some(links)) => attach::is_linked(&program, &links)?,
            (_, None) => bail!(
                "its network namespace is gone, has no name here or may not be entered: {} removes the rest",
                self.command("detach")
            ),
        };
        Ok(if attached { State::Counting } else { State::Off })
    }

    /// What its programs have cost; `None` if the kernel does not measure it.
    ///
    /// # Errors
    /// They cannot be queried.
    pub fn cost(&self) -> Result<Option<Cost>> {
        let mut sum = Cost::default();
        for name in ["ingress", "egress"] {
            let info = attach::describe(self.get(name).context("open a pinned program")?.as_fd())?;
            sum.time += Duration::from_nanos(info.run_time_ns);
            sum.runs += info.run_cnt;
        }
        Ok((sum.runs > 0).then_some(sum))
    }

    /// Detaches it and removes its pins; `seat` is its interface, if that can be found. Returns the
    /// names in its folder that were never pinned there, which stay.
    fn remove(&self, seat: Option<&Located>) -> Result<Vec<String>> {
        let Some(dir) = self.all.open(&self.folder)? else { return Ok(Vec::new()) };
        LINKS.into_iter().for_each(|name| unlink(&dir, name));
        if let Some(Located { place, ifindex, .. }) = seat {
            let ifindex = *ifindex;
            place.run(move || attach::remove_lasting(ifindex))??;
        }
        // Without `about` it counts as unfinished, however far this gets.
        let names: Vec<String> = match self.layout {
            LAYOUT => [ABOUT].into_iter().chain(LINKS).chain(OBJECTS).map(str::to_owned).collect(),
            // The names that another version uses are unknown: everything that can be pinned.
            _ => dir.list()?.into_iter().map(|e| e.0).filter(|name| dir.is_file(name)).collect(),
        };
        for name in names.iter().filter(|name| dir.is_file(name)) {
            dir.remove(name).with_context(|| format!("remove {}", self.shown(name).display()))?;
        }
        match self.all.remove_folder(&self.folder) {
            Err(e) if e.kind() == io::ErrorKind::DirectoryNotEmpty => {
                Ok(dir.list()?.into_iter().map(|e| e.0).collect())
            }
            removed => {
                removed.with_context(|| format!("remove {}", self.shown("").display()))?;
                Ok(Vec::new())
            }
        }
    }

    /// The command that applies this verb (`detach`, `attach`) to it.
    pub fn command(&self, verb: &str) -> String {
        let (place, name) = match self.whereabouts() {
            Ok(Whereabouts::On(seat)) => (Some(seat.place), seat.name),
            _ => (NetnsHandle::by_cookie(self.cookie), self.name.clone()),
        };
        let was = || self.about().ok().flatten().and_then(|a| a.netns);
        let netns = place.map_or_else(was, |p| p.name().map(str::to_owned));
        let netns = netns.map_or(String::new(), |n| format!(" --netns {}", sanitize(&n)));
        format!("`tmon {verb} {}{netns}`", sanitize(&name))
    }

    /// Whether it belongs to this named namespace, which is gone.
    pub fn survives(&self, netns: &str) -> bool {
        NetnsHandle::by_cookie(self.cookie).is_none()
            && self.about().is_ok_and(|a| a.is_some_and(|a| a.netns.as_deref() == Some(netns)))
    }

    fn other_layout(&self) -> String {
        format!(
            "{} is attached by another version of tmon, whose tables (layout {}) this one (layout {LAYOUT}) cannot read: {} removes it, {} attaches it again",
            sanitize(&self.called()),
            self.layout,
            self.command("detach"),
            self.command("attach")
        )
    }
}

/// The ids of the programs on both tcx hooks of an interface; `None` if they may not be queried.
fn programs_on(place: &NetnsHandle, ifindex: u32) -> Result<Option<Vec<u32>>> {
    let ids = move || {
        let [rx, tx] = [Hook::Rx, Hook::Tx].map(|hook| attach::tcx_programs(hook, ifindex).ok());
        Some([rx?, tx?].concat())
    };
    place.run(ids)
}

fn pin(dir: &Folder, name: &str, object: BorrowedFd<'_>) -> Result<()> {
    let text = CString::new(dir.magic(name).as_os_str().as_bytes())?;
    // SAFETY: the text ends with a zero and lives until the call returns.
    let e = unsafe { libbpf_sys::bpf_obj_pin(object.as_raw_fd(), text.as_ptr()) };
    ensure!(e == 0, "pin {}: {}", dir.shown(name).display(), io::Error::from_raw_os_error(-e));
    Ok(())
}

/// Detaches a pinned link's program at once, even if a reader holds the link open.
fn unlink(dir: &Folder, name: &str) {
    if let Ok(link) = get(dir, name) {
        attach::detach(link.as_fd());
    }
}

fn get(dir: &Folder, name: &str) -> io::Result<OwnedFd> {
    let text = CString::new(dir.magic(name).as_os_str().as_bytes())?;
    // SAFETY: the text ends with a zero and lives until the call returns.
    let fd = unsafe { libbpf_sys::bpf_obj_get(text.as_ptr()) };
    if fd < 0 {
        return Err(io::Error::from_raw_os_error(-fd));
    }
    // SAFETY: a descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An interface's name as a file name in a bpffs, which allows no dots: `eth0.5` becomes
/// `eth0%2E5`.
fn file_name(name: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
    name.bytes()
        .map(|b| if safe(b) { char::from(b).to_string() } else { format!("%{b:02X}") })
        .collect()
}

/// The inverse; `None` for names that [`file_name`] does not produce.
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
    fn a_folder_identifies_its_interface() {
        let all = Arc::new(Folder::around(Path::new("/")).unwrap().unwrap());
        let parse = |folder: &str| {
            Pin::parse(&all, 3, folder.to_owned()).map(|p| (p.layout, p.cookie, p.ifindex, p.name))
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
    fn a_missing_bpffs_is_reported() {
        let dir = tempfile::tempdir().unwrap();
        let e = Pins::at(dir.path()).lock().expect_err("it is not one").to_string();
        assert!(e.contains("no bpffs is mounted") && e.contains("mount -t bpf"), "{e}");
        assert!(Pins::at(Path::new("/nowhere")).check().is_err());
        assert!(Pins::at(dir.path()).list().expect("no folder is not an error").is_empty());
    }

    proptest! {
        #[test]
        fn file_names_are_reversible(name in "\\PC{1,15}") {
            let file = file_name(&name);
            prop_assert!(!file.contains(['.', '/']) && !file.is_empty());
            prop_assert_eq!(plain_name(&file), Some(name));
        }
    }
}
