// SPDX-License-Identifier: MIT OR Apache-2.0
//! Asks the parser which row a frame belongs to and where its headers are, without counting it.
use std::ffi::c_void;

use anyhow::Result;
use contract::key6;

use crate::{Ffi, FfiFrame, Native, NativeConfig, NativeFrame, RttTables};

/// The levels of a frame: itself, and the payload of each tunnel.
pub const WAY_LEVELS: usize = contract::MAX_DEPTH as usize + 1;

const NONE: u32 = u32::MAX;

// native.h
/// The payload of a tunnel; the first level is the frame itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WayLevel {
    tunnel: u64,
    /// The offset of its first Ethernet or IP header.
    pub off: u32,
    /// The end of the level (exclusive), which may lie beyond the captured bytes.
    pub end: u32,
    payload: u32,
    ip: u32,
}

/// What a level begins with, for programs that do not know tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// An Ethernet header.
    Ethernet,
    /// An IPv4 or IPv6 header.
    Ip,
}

impl WayLevel {
    /// The number of the kind of the tunnel that carries it, and its id.
    pub fn tunnel(&self) -> (u8, Option<u32>) {
        let has_id = self.tunnel >> 40 & u64::from(contract::ROW_ID) != 0;
        ((self.tunnel >> 32) as u8, has_id.then_some(self.tunnel as u32))
    }

    /// What it begins with, if other programs know that.
    pub fn payload(&self) -> Option<Payload> {
        match self.payload {
            0 => None,
            0x6558 => Some(Payload::Ethernet),
            _ => Some(Payload::Ip),
        }
    }

    /// The offset of its IP header.
    pub fn ip(&self) -> Option<usize> {
        (self.ip != NONE).then_some(self.ip as usize)
    }
}

/// The offsets of a frame's headers, from its first byte.
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
    /// Its offset.
    pub off: usize,
    /// Its end (exclusive), which may lie beyond the captured bytes.
    pub end: usize,
    /// Whether the frame is a later fragment, so that it begins in another packet.
    pub later: bool,
}

impl Way {
    /// The frame itself, and what each of its tunnels carries.
    pub fn levels(&self) -> &[WayLevel] {
        &self.level[..=(self.depth as usize).min(WAY_LEVELS - 1)]
    }

    /// What follows the last IP header, if there is one.
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
    /// Whether the frame was sent by the row's second end.
    pub reverse: bool,
}

/// The parser's answer about a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is in a row, with the number that was decided for it.
    Row(u32),
    /// It is in no row, for this reason.
    Stop {
        /// A `STOP_`.
        reason: u32,
        /// Whether it has a tunnel's port but not its header.
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

/// A parser for asking about frames. It counts nothing, and remembers only first fragments.
pub struct Guide {
    native: Native,
    choices: Box<[Choice]>,
}

/// Called back by [`tmon_native_choose`].
///
/// # Safety
/// `decider` is a `D` that nobody else uses, `key` points at one.
unsafe extern "C" fn decide<D: FnMut(&key6) -> u32>(decider: *mut c_void, key: *const key6) -> u32 {
    // SAFETY: as for the function.
    unsafe { (*decider.cast::<D>())(&*key) }
}

impl Guide {
    /// Create one for each interface.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn new(config: &NativeConfig) -> Result<Guide> {
        let mut native = Native::new(&NativeConfig { groups: [1, 1], ..config.clone() })?;
        native.ffi.asked = 1;
        // SAFETY: it is a constant.
        let [size, choices] = unsafe { tmon_native_choices };
        assert_eq!(size, size_of::<Choice>() as u64);
        let none = Choice { key: key6::default(), chosen: 0, known: 0 };
        Ok(Guide { native, choices: vec![none; choices as usize].into_boxed_slice() })
    }

    /// Exchanges the meaning of UDP ports, so that several interfaces can share a guide.
    pub fn swap_ports(&mut self, ports: &mut Box<contract::ports>) {
        std::mem::swap(&mut self.native.ports, ports);
        self.native.ffi.ports = &raw mut *self.native.ports;
    }

    /// Finds the row of a frame, for which `decide` chooses a number below 2^31. It is called once
    /// for a row's key, or a few times if there are very many rows, and must not panic.
    #[inline]
    pub fn choose<D: FnMut(&key6) -> u32>(
        &mut self,
        frame: &NativeFrame<'_>,
        decide_row: &mut D,
    ) -> Answer {
        const STOP: u32 = 1 << 31;
        const SUSPECT: u32 = 0x200;
        let frame = FfiFrame::new(frame);
        // SAFETY: the frame is read only within its bytes, there are as many choices as the
        // programs say, and `decide` gets the decider that it is for.
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

    /// Finds the headers of a frame, and its row, if it is in one.
    pub fn way(&mut self, frame: &NativeFrame<'_>) -> (Way, Option<RowOf>) {
        let (mut way, mut key, mut swapped) = (Way::default(), key6::default(), 0);
        let frame = FfiFrame::new(frame);
        // SAFETY: as in `choose`; the other arguments are written to.
        let found = unsafe {
            tmon_native_way(&mut *self.native.ffi, &frame, &mut way, &mut key, &mut swapped)
        };
        (way, (found != 0).then_some(RowOf { key, reverse: swapped & 1 != 0 }))
    }

    /// Updates round-trip times with a frame that was seen at this place, whatever its row.
    pub fn time(&mut self, frame: &NativeFrame<'_>, place: u16, tables: &mut RttTables) {
        let frame = FfiFrame::new(frame);
        let ffi = &mut *self.native.ffi;
        (ffi.rtt_flows, ffi.rtt_rows, ffi.rtt_lost) = tables.pointers();
        // SAFETY: as in `choose`; the tables are as large as the programs say, and nothing else
        // uses them.
        unsafe { tmon_native_time(ffi, &frame, place.into()) };
    }

    /// Forgets the decisions about rows, so that they are made again.
    pub fn forget(&mut self) {
        self.choices.iter_mut().for_each(|c| c.known = 0);
    }
}
