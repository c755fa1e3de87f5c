// SPDX-License-Identifier: MIT OR Apache-2.0
//! Which row a frame is in, and where its headers are: asked of the parser, which counts nothing
//! then.
use std::ffi::c_void;

use anyhow::Result;
use contract::key6;

use crate::{Ffi, FfiFrame, Native, NativeConfig, NativeFrame, RttTables};

/// Levels of a frame: itself, and what each tunnel carries.
pub const WAY_LEVELS: usize = contract::MAX_DEPTH as usize + 1;

const NONE: u32 = u32::MAX;

// native.h
/// What a tunnel carries; the first level is the frame itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayLevel {
    tunnel: u64,
    /// Where its first header of Ethernet or IP begins.
    pub off: u32,
    /// The first byte that is not the level's any more, which may not have been captured.
    pub end: u32,
    payload: u32,
    ip: u32,
}

/// With what a level begins, for whoever knows no tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header.
    Ip,
}

impl WayLevel {
    /// The tunnel that carries it, by number, and its id.
    pub fn tunnel(&self) -> (u8, Option<u32>) {
        let has_id = self.tunnel >> 40 & u64::from(contract::ROW_ID) != 0;
        ((self.tunnel >> 32) as u8, has_id.then_some(self.tunnel as u32))
    }

    /// With what it begins, if with something that others know.
    pub fn payload(&self) -> Option<Payload> {
        match self.payload {
            0 => None,
            0x6558 => Some(Payload::Ethernet),
            _ => Some(Payload::Ip),
        }
    }

    /// Where its IP header begins.
    pub fn ip(&self) -> Option<usize> {
        (self.ip != NONE).then_some(self.ip as usize)
    }
}

/// Where the headers of a frame are, from its first byte.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Way {
    level: [WayLevel; WAY_LEVELS],
    depth: u32,
    transport: u32,
    end: u32,
    ip_proto: u32,
    later: u32,
    zero: u32,
}

/// What follows the last IP header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transport {
    /// Its IP protocol.
    pub ip_proto: u8,
    /// Where it begins.
    pub off: usize,
    /// The first byte behind it, which may not have been captured.
    pub end: usize,
    /// It begins in another packet: this one is a later fragment.
    pub later: bool,
}

impl Way {
    /// The frame itself, and what each of its tunnels carries.
    pub fn levels(&self) -> &[WayLevel] {
        &self.level[..=(self.depth as usize).min(WAY_LEVELS - 1)]
    }

    /// What follows the last IP header, if there was one.
    pub fn transport(&self) -> Option<Transport> {
        let ip_proto = u8::try_from(self.ip_proto).ok()?;
        let [off, end] = [self.transport, self.end].map(|n| n as usize);
        Some(Transport { ip_proto, off, end, later: self.later != 0 })
    }
}

/// The row of a frame.
#[derive(Clone, Copy, Debug)]
pub struct RowOf {
    /// Its key.
    pub key: key6,
    /// The frame was sent by the row's second end.
    pub reverse: bool,
}

/// What is said of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in a row, of which this was decided.
    Row(u32),
    /// It is in none, for this reason.
    Stop {
        /// A `STOP_`.
        reason: u32,
        /// It has a tunnel's port but not its header.
        suspect: bool,
    },
}

// native.c
#[repr(C)]
#[derive(Clone, Copy)]
struct Choice {
    key: key6,
    chosen: u32,
    known: u32,
}

unsafe extern "C" {
    static tmon_native_choices: [u64; 2];
    fn tmon_native_choose(
        native: *mut Ffi,
        choices: *mut Choice,
        frame: *const FfiFrame,
        decide: unsafe extern "C" fn(*mut c_void, *const key6) -> u32,
        decider: *mut c_void,
    ) -> u32;
    fn tmon_native_way(
        native: *mut Ffi,
        frame: *const FfiFrame,
        way: *mut Way,
        key: *mut key6,
        swapped: *mut u32,
    ) -> u32;
    fn tmon_native_time(native: *mut Ffi, frame: *const FfiFrame, place: u32);
}

/// The parser, asked about frames. It counts nothing, and remembers first fragments only.
pub struct Guide {
    native: Native,
    choices: Box<[Choice]>,
}

/// Called back by [`tmon_native_choose`].
///
/// # Safety
/// `decider` is a `D` that nobody else uses, `key` points at one.
unsafe extern "C" fn decide<D: FnMut(&key6) -> u32>(decider: *mut c_void, key: *const key6) -> u32 {
    // SAFETY: as of the whole.
    unsafe { (*decider.cast::<D>())(&*key) }
}

impl Guide {
    /// Whoever asks about frames of several interfaces asks one for each.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(config: &NativeConfig) -> Result<Guide> {
        let mut native = Native::new(&NativeConfig { groups: [1, 1], ..config.clone() })?;
        native.ffi.asked = 1;
        // SAFETY: a constant.
        let [size, choices] = unsafe { tmon_native_choices };
        assert_eq!(size, size_of::<Choice>() as u64);
        let none = Choice { key: key6::default(), chosen: 0, known: 0 };
        Ok(Guide { native, choices: vec![none; choices as usize].into_boxed_slice() })
    }

    /// Which row a frame is in, of which `decide` says what is to be known of it: a number below
    /// 2^31. It is asked for a row's key once, or a few times where there are very many rows, and may
    /// not panic.
    #[inline]
    pub fn choose<D: FnMut(&key6) -> u32>(
        &mut self,
        frame: &NativeFrame<'_>,
        decide_row: &mut D,
    ) -> Answer {
        const STOP: u32 = 1 << 31;
        const SUSPECT: u32 = 0x200;
        let frame = FfiFrame::new(frame);
        // SAFETY: the frame is read within its bytes, there are as many choices as the programs say,
        // and `decide` gets what it is for.
        let answer = unsafe {
            tmon_native_choose(
                &mut *self.native.ffi,
                self.choices.as_mut_ptr(),
                &frame,
                decide::<D>,
                std::ptr::from_mut(decide_row).cast(),
            )
        };
        match answer {
            answer if answer & STOP == 0 => Answer::Row(answer),
            stop => Answer::Stop { reason: stop & 0xff, suspect: stop & SUSPECT != 0 },
        }
    }

    /// Where the headers of a frame are, and its row, if it is in one.
    pub fn way(&mut self, frame: &NativeFrame<'_>) -> (Way, Option<RowOf>) {
        let (mut way, mut key, mut swapped) = (Way::default(), key6::default(), 0);
        let frame = FfiFrame::new(frame);
        // SAFETY: as of `choose`; the rest is written to.
        let found = unsafe {
            tmon_native_way(&mut *self.native.ffi, &frame, &mut way, &mut key, &mut swapped)
        };
        (way, (found != 0).then_some(RowOf { key, reverse: swapped & 1 != 0 }))
    }

    /// Measures round-trip times by a frame that was seen at this place, of whatever row it is in.
    pub fn time(&mut self, frame: &NativeFrame<'_>, place: u16, tables: &mut RttTables) {
        let frame = FfiFrame::new(frame);
        let ffi = &mut *self.native.ffi;
        (ffi.rtt_flows, ffi.rtt_rows, ffi.rtt_lost) = tables.pointers();
        // SAFETY: as of `choose`; the tables are as large as the programs say, and nobody else works
        // with them.
        unsafe { tmon_native_time(ffi, &frame, place.into()) };
    }

    /// What was decided of rows is asked for again.
    pub fn forget(&mut self) {
        self.choices.iter_mut().for_each(|c| c.known = 0);
    }
}
