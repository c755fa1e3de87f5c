// SPDX-License-Identifier: MIT OR Apache-2.0
//! `watch --save`: what was read from some minutes before a bad finding to some minutes after it.
use std::{
    collections::VecDeque,
    fs::File,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context, Result, ensure};

use super::{out, record::Framing, say};
use feed::frame::{Frame, FrameWriter};
use model::{
    overlay::Overlay,
    snapshot::Interval,
    units::{rfc3339, sanitize},
};

/// How much is kept before, and after.
const AROUND: Duration = Duration::from_secs(300);
/// Limit on the bytes that are kept before there is anything to save.
const MOST: usize = 64 << 20;
/// Limit on the files of a run.
const FILES: u32 = 100;

/// Readings of late, and a file while there is something to be saved.
pub(super) struct Saver {
    folder: PathBuf,
    every: Duration,
    kept: VecDeque<Kept>,
    bytes: usize,
    file: Option<Open>,
    files: u32,
}

/// A reading, packed as a frame that does not say what the host is configured to do.
struct Kept {
    packed: Vec<u8>,
    overlay: Option<Arc<Overlay>>,
    taken: SystemTime,
    took: Duration,
}

struct Open {
    name: String,
    writer: FrameWriter<File>,
    framing: Framing,
    until: SystemTime,
}

impl Saver {
    /// Saves into a folder, readings that are so far apart.
    ///
    /// # Errors
    /// There is no such folder.
    pub(super) fn new(folder: PathBuf, every: Duration) -> Result<Saver> {
        let shown = sanitize(&folder.to_string_lossy()).into_owned();
        ensure!(folder.is_dir(), "save into {shown}: there is no such folder");
        let folder = std::path::absolute(&folder).with_context(|| format!("save into {shown}"))?;
        Ok(Saver { folder, every, kept: VecDeque::new(), bytes: 0, file: None, files: 0 })
    }

    /// The next reading, and whether something bad began with it. What cannot be saved is said, and ends
    /// nothing else.
    pub(super) fn take(
        &mut self,
        interval: &Interval,
        overlay: Option<Arc<Overlay>>,
        took: Duration,
        is_bad: bool,
    ) {
        if let Err(e) = self.save(interval, overlay, took, is_bad) {
            self.file = None;
            say(&format!("nothing is saved: {e:#}"));
        }
    }

    fn save(
        &mut self,
        interval: &Interval,
        overlay: Option<Arc<Overlay>>,
        took: Duration,
        is_bad: bool,
    ) -> Result<()> {
        let taken = interval.taken;
        if is_bad {
            match &mut self.file {
                Some(open) => open.until = taken + AROUND,
                None => self.begin(taken)?,
            }
        }
        if let Some(open) = &mut self.file {
            open.write(interval.clone(), overlay.clone(), took)?;
            if taken >= open.until {
                self.end()?;
            }
        }
        let plain = Framing::new(self.every, None).frame(interval.clone(), None, false, took);
        let packed = plain.packed();
        self.bytes += packed.len();
        self.kept.push_back(Kept { packed, overlay, taken, took });
        while let Some(first) = self.kept.front()
            && (self.bytes > MOST || first.taken + AROUND < taken)
        {
            self.bytes -= first.packed.len();
            self.kept.pop_front();
        }
        Ok(())
    }

    /// Begins a file with what is kept.
    fn begin(&mut self, taken: SystemTime) -> Result<()> {
        ensure!(self.files < FILES, "there are {FILES} recordings already");
        let time: String = rfc3339(taken).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let name = format!("tmon-bad-{time}.tmon");
        let file = out::make(&self.folder.join(&name)).with_context(|| format!("make {name}"))?;
        self.files += 1;
        let framing = Framing::new(self.every, None);
        let (writer, until) = (FrameWriter::new(file), taken + AROUND);
        let mut open = Open { name, writer, framing, until };
        for kept in &self.kept {
            let frame = Frame::decode(&kept.packed)?;
            open.write(frame.interval, kept.overlay.clone(), kept.took)?;
        }
        say(&format!("what happens around it is saved to {}", open.name));
        self.file = Some(open);
        Ok(())
    }

    /// Ends the file, if there is one.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn end(&mut self) -> Result<()> {
        let Some(mut open) = self.file.take() else { return Ok(()) };
        open.writer.end_block().with_context(|| format!("write {}", open.name))
    }
}

impl Open {
    fn write(
        &mut self,
        interval: Interval,
        overlay: Option<Arc<Overlay>>,
        took: Duration,
    ) -> Result<()> {
        let again = self.writer.is_between();
        let frame = self.framing.frame(interval, overlay, again, took);
        self.writer.write(&frame).with_context(|| format!("write {}", self.name))
    }
}
