// SPDX-License-Identifier: MIT OR Apache-2.0
//! An interface of captures and the judge of its frames.
use anyhow::Result;

use crate::{
    config::Config,
    judge::{Judge, MakeJudge},
};
use model::flow::{Books, Count, Stop};

/// An interface on which packets were captured.
pub(crate) struct Seen {
    pub(crate) judge: Box<dyn Judge>,
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// Frames that the judge cannot read, by hook.
    pub(crate) unread: [Count; 2],
}

impl Seen {
    pub(crate) fn new(config: &Config, make: MakeJudge) -> Result<Seen> {
        let judge = make(config)?;
        Ok(Seen { judge, name: String::new(), ifindex: 0, unread: Default::default() })
    }

    pub(crate) fn books(&self) -> Result<Books> {
        let mut books = self.judge.books()?;
        books.stops[Stop::Unread as usize] = self.unread;
        Ok(books)
    }
}
