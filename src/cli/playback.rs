// SPDX-License-Identifier: MIT OR Apache-2.0
//! The recordings that `--read` names.
#[cfg(feature = "live")]
use std::fs::File;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use super::say;
use feed::{
    keep,
    recorded::{Between, Recordings, is_recording},
};
use model::units::sanitize;

/// The part of a recording to read.
#[derive(Args, Clone, Copy, Debug)]
pub(super) struct Playback {
    /// Read only what was recorded between two times, either of which may be omitted
    /// (2026-11-30T06:30:00Z..2026-11-30T07:00:00Z)
    #[arg(long, value_name = "FROM..UNTIL", requires = "read")]
    between: Option<Between>,
}

impl Playback {
    /// The part between two times.
    #[cfg(feature = "live")]
    pub(super) fn of(between: Option<Between>) -> Playback {
        Playback { between }
    }

    /// Opens files that must be recordings.
    ///
    /// # Errors
    /// A file is not a recording, or cannot be read.
    #[cfg(feature = "live")]
    pub(super) fn only_recordings(self, files: &[PathBuf]) -> Result<Recordings> {
        for file in files.iter().filter(|f| !f.is_dir()) {
            ensure!(
                file.as_os_str() != "-",
                "a recording cannot be read from standard input: use --from, as in --from 'cat FILE'"
            );
            let name = || sanitize(&file.to_string_lossy()).into_owned();
            let there = file.metadata().with_context(|| format!("read {}", name()))?;
            if there.is_file() {
                File::open(file).with_context(|| format!("read {}", name()))?;
            }
            ensure!(
                is_recording(file),
                "{} is not a recording made by `tmon record`; captures are read by `tmon replay` and `tmon top --read`",
                name()
            );
        }
        let recordings = self.recordings(files)?;
        recordings.context("there is no recording made by `tmon record`")
    }

    /// Opens these files if they are recordings; `None` if they are captures.
    ///
    /// # Errors
    /// They are a mix of both, or cannot be read.
    pub(super) fn recordings(self, files: &[PathBuf]) -> Result<Option<Recordings>> {
        let between = self.between.unwrap_or_default();
        let mut all = Vec::with_capacity(files.len());
        for file in files {
            if !file.is_dir() {
                all.push(file.clone());
                continue;
            }
            // A folder that `record --keep` maintains.
            let name = || sanitize(&file.to_string_lossy()).into_owned();
            let days = keep::files(file, between).with_context(|| format!("read {}", name()))?;
            let (days, others): (Vec<_>, Vec<_>) = days.into_iter().partition(|f| is_recording(f));
            for other in others.iter().filter(|f| f.metadata().is_ok_and(|m| m.len() > 0)) {
                let other = sanitize(&other.to_string_lossy()).into_owned();
                say(&format!("{other} is skipped: it is not a recording"));
            }
            ensure!(!days.is_empty(), "there is no recording of that time in {}", name());
            all.extend(days);
        }
        let files = all;
        match files.iter().filter(|f| is_recording(f)).count() {
            0 if self.between.is_some() => {
                bail!("--between works only with recordings made by `tmon record`")
            }
            0 => Ok(None),
            n if n < files.len() => bail!("captures and recordings cannot be read together"),
            _ => Recordings::open(&files, between).map(Some),
        }
    }
}
