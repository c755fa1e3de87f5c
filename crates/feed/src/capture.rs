// SPDX-License-Identifier: MIT OR Apache-2.0
//! Captures as a source: one reading, with everything that happened before it as intervals.
use std::time::Duration;

use anyhow::Result;

use crate::{
    recording::Recording,
    replay::Replay,
    source::{Due, Reading, Source},
};

/// Captures that are read to their end, then looked at.
pub struct Capture {
    replay: Replay,
    step: Duration,
    bytes: usize,
    is_read: bool,
}

impl Capture {
    /// Captures in intervals of this length, or longer ones where these take more bytes than that.
    pub fn new(replay: Replay, step: Duration, bytes: usize) -> Capture {
        Capture { replay, step, bytes, is_read: false }
    }

    /// Why a capture could not be read to its end, if that is so.
    ///
    /// # Errors
    /// That is the error.
    pub fn end(&mut self) -> Result<()> {
        self.replay.end()
    }
}

impl Source for Capture {
    fn read(&mut self) -> Result<Reading> {
        let replay = &mut self.replay;
        let mut recording = Recording::new(self.step, self.bytes, replay.read()?);
        while let Some(time) = replay.peek().map(|f| f.time) {
            if recording.turns(time)
                && let Some(time) = time
            {
                recording.turn(replay.read()?, time);
            }
            replay.step()?;
        }
        self.is_read = true;
        let (past, snapshot) = recording.finish(replay.read()?, replay.span());
        Ok(Reading { past, notices: replay.notes(), ..Reading::from(snapshot) })
    }

    fn due(&self) -> Due {
        if self.is_read { Due::Never } else { Due::Always }
    }
}
