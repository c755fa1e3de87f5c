// SPDX-License-Identifier: MIT OR Apache-2.0
//! The parser's callbacks: the memory of fragments, and, for a part, the log of what it did.
use std::{ffi::c_void, num::NonZeroUsize, ptr};

use contract::key6;
use lru::LruCache;

/// The number of fragmented packets remembered: as many as in the kernel's map.
const FRAGMENTS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// The sizes of the keys and values of fragments; checked against `native.c`.
pub(crate) const KEY: usize = 40;
pub(crate) const VALUE: usize = 84;

/// What identifies the fragments of a packet.
pub(crate) type FragmentKey = [u32; KEY / 4];
pub(crate) type FragmentRow = [u32; VALUE / 4];

/// An action of a part that the whole must know about; `frame` is the number in its run.
#[derive(Clone, Debug)]
pub enum LogEntry {
    /// A row was created.
    Row {
        /// By this frame.
        frame: u32,
        /// The row.
        key: key6,
    },
    /// A first fragment is remembered.
    First {
        /// This frame.
        frame: u32,
        /// What identifies its fragments.
        key: FragmentKey,
        /// Their row.
        row: Box<FragmentRow>,
    },
    /// The first fragment of a packet was found for a later one.
    Found {
        /// The later fragment.
        frame: u32,
        /// What identifies its fragments.
        key: FragmentKey,
    },
    /// A first fragment is in no row.
    Forgotten {
        /// This frame.
        frame: u32,
        /// What identifies its fragments.
        key: FragmentKey,
    },
    /// Something that depends on the order of frames is left for the whole to do.
    Left {
        /// For this frame.
        frame: u32,
        /// The kind of it: a `BESIDE_`.
        what: u32,
        /// Its arguments.
        noted: Box<[u64]>,
    },
    /// The whole must judge this frame.
    Deferred {
        /// Its number.
        frame: u32,
    },
}

impl LogEntry {
    pub(crate) fn frame(&self) -> u32 {
        match self {
            LogEntry::Row { frame, .. }
            | LogEntry::First { frame, .. }
            | LogEntry::Found { frame, .. }
            | LogEntry::Forgotten { frame, .. }
            | LogEntry::Left { frame, .. }
            | LogEntry::Deferred { frame } => *frame,
        }
    }
}

/// The state of the callbacks below.
pub(crate) struct Host {
    pub(crate) fragments: LruCache<FragmentKey, Box<FragmentRow>>,
    /// The log, if this is a part.
    pub(crate) log: Option<Vec<LogEntry>>,
}

impl Default for Host {
    fn default() -> Self {
        Host { fragments: LruCache::new(FRAGMENTS), log: None }
    }
}

impl Host {
    fn note(&mut self, event: impl FnOnce() -> LogEntry) {
        if let Some(log) = &mut self.log {
            log.push(event());
        }
    }
}

/// # Safety
/// `host` is a [`Host`] that nobody else uses.
unsafe fn host<'a>(host: *mut c_void) -> &'a mut Host {
    unsafe { &mut *host.cast() }
}

/// # Safety
/// As for [`host`]; `key` points at [`KEY`] bytes of words.
pub(crate) unsafe extern "C" fn find(
    at: *mut c_void,
    key: *const c_void,
    frame: u32,
) -> *mut c_void {
    let (host, key) = unsafe { (host(at), *key.cast::<FragmentKey>()) };
    let Host { fragments, log } = host;
    let Some(row) = fragments.get_mut(&key) else { return ptr::null_mut() };
    if let Some(log) = log {
        log.push(LogEntry::Found { frame, key });
    }
    row.as_mut_ptr().cast()
}

/// # Safety
/// As for [`find`]; `value` points at [`VALUE`] bytes of words.
pub(crate) unsafe extern "C" fn put(
    at: *mut c_void,
    key: *const c_void,
    value: *const c_void,
    frame: u32,
) {
    let (host, key, row) =
        unsafe { (host(at), *key.cast::<FragmentKey>(), Box::new(*value.cast::<FragmentRow>())) };
    host.note(|| LogEntry::First { frame, key, row: row.clone() });
    host.fragments.put(key, row);
}

/// # Safety
/// As for [`find`].
pub(crate) unsafe extern "C" fn forget(at: *mut c_void, key: *const c_void, frame: u32) {
    let (host, key) = unsafe { (host(at), *key.cast::<FragmentKey>()) };
    host.note(|| LogEntry::Forgotten { frame, key });
    host.fragments.pop(&key);
}

/// # Safety
/// As for [`host`]; `key` points at one.
pub(crate) unsafe extern "C" fn made(at: *mut c_void, key: *const c_void, frame: u32) {
    let (host, key) = unsafe { (host(at), *key.cast::<key6>()) };
    host.note(|| LogEntry::Row { frame, key });
}

/// # Safety
/// As for [`host`].
pub(crate) unsafe extern "C" fn defer(at: *mut c_void, frame: u32) {
    let Some(log) = (unsafe { &mut host(at).log }) else { return };
    // The whole judges this frame, so it does all of its work.
    while log.last().is_some_and(|event| event.frame() == frame) {
        log.pop();
    }
    log.push(LogEntry::Deferred { frame });
}

/// The number of words that are left to the whole, by kind; checked against `native.c`.
pub(crate) const NOTED: [usize; 3] = [7, 0, 9];

/// # Safety
/// As for [`host`]; `noted` points at as many words as [`NOTED`] says.
pub(crate) unsafe extern "C" fn left(at: *mut c_void, what: u32, noted: *const c_void, frame: u32) {
    let Some(words) = NOTED.get(what as usize) else { return };
    let (host, noted) =
        unsafe { (host(at), std::slice::from_raw_parts(noted.cast::<u64>(), *words).into()) };
    host.note(|| LogEntry::Left { frame, what, noted });
}
