// SPDX-License-Identifier: MIT OR Apache-2.0
//! What the parser asks of whoever called it: the fragments that are remembered, and, of a part, the
//! log of what it did.
use std::{ffi::c_void, num::NonZeroUsize, ptr};

use contract::key6;
use lru::LruCache;

/// Fragmented packets that are remembered: as many as the kernel's map.
const FRAGMENTS: NonZeroUsize = NonZeroUsize::new(8192).expect("not zero");

/// Sizes of the keys and values of fragments; `native.c` is asked whether they are right.
pub(crate) const KEY: usize = 40;
pub(crate) const VALUE: usize = 84;

/// What tells a packet's fragments, and where they go.
pub(crate) type FragmentKey = [u32; KEY / 4];
pub(crate) type FragmentRow = [u32; VALUE / 4];

/// What a part did that the whole has to know of; `frame` is the number in its run.
#[derive(Clone, Debug)]
pub enum LogEntry {
    /// A row was made.
    Row {
        /// At this one.
        frame: u32,
        /// The row.
        key: key6,
    },
    /// A first fragment is remembered.
    First {
        /// This one.
        frame: u32,
        /// What tells its fragments.
        key: FragmentKey,
        /// Their row.
        row: Box<FragmentRow>,
    },
    /// A later fragment's first one was found.
    Found {
        /// The later one.
        frame: u32,
        /// What tells its fragments.
        key: FragmentKey,
    },
    /// A first fragment is in no row.
    Forgotten {
        /// This one.
        frame: u32,
        /// What tells its fragments.
        key: FragmentKey,
    },
    /// Something that depends on the order of frames is left to the whole.
    Left {
        /// Of this one.
        frame: u32,
        /// What it is for: a `BESIDE_`.
        what: u32,
        /// All there is to know of it.
        noted: Box<[u64]>,
    },
    /// The whole has to judge this frame.
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

/// What the functions below work with.
pub(crate) struct Host {
    pub(crate) fragments: LruCache<FragmentKey, Box<FragmentRow>>,
    /// What happened, if anybody wants to know.
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
/// As [`host`]; `key` points at [`KEY`] bytes of words.
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
/// As [`find`]; `value` points at [`VALUE`] bytes of words.
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
/// As [`find`].
pub(crate) unsafe extern "C" fn forget(at: *mut c_void, key: *const c_void, frame: u32) {
    let (host, key) = unsafe { (host(at), *key.cast::<FragmentKey>()) };
    host.note(|| LogEntry::Forgotten { frame, key });
    host.fragments.pop(&key);
}

/// # Safety
/// As [`host`]; `key` points at one.
pub(crate) unsafe extern "C" fn made(at: *mut c_void, key: *const c_void, frame: u32) {
    let (host, key) = unsafe { (host(at), *key.cast::<key6>()) };
    host.note(|| LogEntry::Row { frame, key });
}

/// # Safety
/// As [`host`].
pub(crate) unsafe extern "C" fn defer(at: *mut c_void, frame: u32) {
    let Some(log) = (unsafe { &mut host(at).log }) else { return };
    // Whoever judges the frame does all of it.
    while log.last().is_some_and(|event| event.frame() == frame) {
        log.pop();
    }
    log.push(LogEntry::Deferred { frame });
}

/// Words of what is left to the whole, by what it is for; `native.c` is asked whether they are right.
pub(crate) const NOTED: [usize; 3] = [7, 0, 8];

/// # Safety
/// As [`host`]; `noted` points at as many words as [`NOTED`] says.
pub(crate) unsafe extern "C" fn left(at: *mut c_void, what: u32, noted: *const c_void, frame: u32) {
    let Some(words) = NOTED.get(what as usize) else { return };
    let (host, noted) =
        unsafe { (host(at), std::slice::from_raw_parts(noted.cast::<u64>(), *words).into()) };
    host.note(|| LogEntry::Left { frame, what, noted });
}
