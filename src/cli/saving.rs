// SPDX-License-Identifier: MIT OR Apache-2.0
//! `watch --save`: records the readings from some minutes before a bad finding to some minutes
//! after.
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

/// How much time to keep before the finding, and after it.
const AROUND: Duration = Duration::from_secs(300);
/// Limit on the bytes kept in memory before a finding.
const MOST: usize = 64 << 20;
/// Limit on the files per run.
const FILES: u32 = 100;

/// Recent readings, and a file while a finding is being recorded.
pub(super) struct Saver {
    folder: PathBuf,
    every: Duration,
    kept: VecDeque<Kept>,
    bytes: usize,
    file: Option<Open>,
    files: u32,
}

/// A reading as a packed frame, without the host's configuration.
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
    /// Saves to a folder; readings are this far apart.
    ///
    /// # Errors
    /// The folder does not exist.
    pub(super) fn new(folder: PathBuf, every: Duration) -> Result<Saver> {
        let shown = sanitize(&folder.to_string_lossy()).into_owned();
        ensure!(folder.is_dir(), "save to {shown}: there is no such folder");
        let folder = std::path::absolute(&folder).with_context(|| format!("save to {shown}"))?;
        Ok(Saver { folder, every, kept: VecDeque::new(), bytes: 0, file: None, files: 0 })
    }

    /// Takes the next reading; `is_bad` if a bad finding began with it. Failures to save are
    /// reported, but do not end the command.
    pub(super) fn take(
        &mut self,
        interval: &Interval,
        overlay: Option<Arc<Overlay>>,
        took: Duration,
        is_bad: bool,
    ) {
        if let Err(e) = self.save(interval, overlay, took, is_bad) {
            self.file = None;
            say(&format!("cannot save: {e:#}"));
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

    /// Starts a file with the readings that were kept.
    fn begin(&mut self, taken: SystemTime) -> Result<()> {
        ensure!(self.files < FILES, "the limit of {FILES} recordings is reached");
        let time: String = rfc3339(taken).chars().filter(|c| c.is_ascii_alphanumeric()).collect();
        let name = format!("tmon-bad-{time}.tmon");
        let file = out::make(&self.folder.join(&name)).with_context(|| format!("create {name}"))?;
        self.files += 1;
        let framing = Framing::new(self.every, None);
        let (writer, until) = (FrameWriter::new(file), taken + AROUND);
        let mut open = Open { name, writer, framing, until };
        for kept in &self.kept {
            let frame = Frame::decode(&kept.packed)?;
            open.write(frame.interval, kept.overlay.clone(), kept.took)?;
        }
        say(&format!("saving readings around the finding to {}", open.name));
        self.file = Some(open);
        Ok(())
    }

    /// Completes the file, if there is one.
    ///
    /// # Errors
    /// The file cannot be written.
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
