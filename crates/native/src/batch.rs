// SPDX-License-Identifier: MIT OR Apache-2.0
//! Frames waiting for the parser, in the parser's format, together with the memory that contains
//! them.
use std::{slice, sync::Arc};

use crate::{FfiFrame, NativeFrame};

/// The memory that contains frames. It is immutable while anybody holds it.
pub type Buffer = Arc<Vec<u8>>;

/// Frames by interface: interfaces are independent of each other.
#[derive(Default)]
pub struct Batch {
    buffers: Vec<Buffer>,
    frames: Vec<Vec<FfiFrame>>,
    length: usize,
}

// SAFETY: the pointers are into the buffers, which may be read from any thread.
unsafe impl Send for Batch {}

impl Batch {
    /// The number of frames.
    #[inline]
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The number of buffers held.
    pub fn buffers(&self) -> usize {
        self.buffers.len()
    }

    /// Returns an adder for frames of an interface that are in this buffer.
    #[inline]
    pub fn of(&mut self, interface: usize, buffer: &Buffer) -> Adder<'_> {
        // There is one per file, most often that of the previous frame.
        let known = self.buffers.iter().rposition(|b| Arc::ptr_eq(b, buffer));
        let at = known.unwrap_or_else(|| {
            self.buffers.push(Arc::clone(buffer));
            self.buffers.len() - 1
        });
        if self.frames.len() <= interface {
            self.frames.resize_with(interface + 1, Vec::new);
        }
        Adder {
            buffer: &self.buffers[at],
            frames: &mut self.frames[interface],
            length: &mut self.length,
        }
    }

    /// The frames, interface by interface.
    pub fn by_interface(&self) -> impl Iterator<Item = (usize, Frames<'_>)> {
        let all = self.frames.iter().enumerate().filter(|(_, frames)| !frames.is_empty());
        all.map(|(interface, frames)| (interface, Frames(frames)))
    }

    /// The frames of an interface.
    pub fn frames(&self, interface: usize) -> Frames<'_> {
        Frames(self.frames.get(interface).map_or(&[], Vec::as_slice))
    }

    /// Empties it for reuse.
    pub fn clear(&mut self) {
        self.buffers.clear();
        self.frames.iter_mut().for_each(Vec::clear);
        self.length = 0;
    }
}

/// See [`Batch::of`].
pub struct Adder<'b> {
    buffer: &'b Buffer,
    frames: &'b mut Vec<FfiFrame>,
    length: &'b mut usize,
}

impl Adder<'_> {
    /// Adds a frame. Data outside of the buffer are treated as empty.
    #[inline]
    pub fn push(&mut self, frame: &NativeFrame<'_>) {
        let (all, data) = (self.buffer.as_ptr_range(), frame.data.as_ptr_range());
        let inside = all.start <= data.start && data.end <= all.end;
        let data = if inside { frame.data } else { &[] };
        *self.length += 1;
        self.frames.push(FfiFrame::new(&NativeFrame { data, ..*frame }));
    }
}

/// Frames of one interface waiting for the parser.
#[derive(Clone, Copy)]
pub struct Frames<'b>(pub(crate) &'b [FfiFrame]);

impl<'b> Frames<'b> {
    /// The frame with this number, counted from 0.
    ///
    /// # Panics
    /// There are fewer frames.
    pub fn at(self, number: u32) -> NativeFrame<'b> {
        let frame = &self.0[number as usize];
        NativeFrame {
            // SAFETY: these were taken from a slice of a buffer that the batch holds.
            data: unsafe { slice::from_raw_parts(frame.data, frame.captured as usize) },
            length: frame.length,
            link: frame.link,
            begins: frame.begins,
            now: frame.now,
            time: frame.time,
            gso_segs: frame.gso_segs,
            gso_size: frame.gso_size,
            egress: frame.hook > 0,
        }
    }

    /// Iterates over them in order.
    pub fn iter(self) -> impl Iterator<Item = NativeFrame<'b>> {
        (0..self.0.len() as u32).map(move |n| self.at(n))
    }
}
