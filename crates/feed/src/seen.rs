// SPDX-License-Identifier: MIT OR Apache-2.0
//! An interface of captures, and what judges its frames.
use anyhow::Result;

use crate::{
    config::Config,
    judge::{Judge, MakeJudge},
};
use model::flow::{Books, Count, Stop};

/// An interface that packets were seen at.
pub(crate) struct Seen {
    pub(crate) judge: Box<dyn Judge>,
    pub(crate) name: String,
    pub(crate) ifindex: u32,
    /// What is not given to the judge, by hook.
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
