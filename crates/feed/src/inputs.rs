// SPDX-License-Identifier: MIT OR Apache-2.0
//! Capture files that are read together, with their frames merged in order of time.
use std::{
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use anyhow::{Result, anyhow};

use crate::pcap::{CapturedFrame, Opened, ReadError, Reader};
use model::units::sanitize;

/// Capture files that have been opened but not read: opening may need more privileges than reading
/// untrusted contents should have.
#[derive(Default)]
pub struct Captures(Vec<(PathBuf, Opened)>);

impl Captures {
    /// Opens them; `-` is standard input.
    ///
    /// # Errors
    /// One cannot be opened.
    pub fn open(paths: &[PathBuf]) -> Result<Captures> {
        let open = |path: &PathBuf| {
            let opened = Opened::open(path).map_err(|e| broken(&path.to_string_lossy(), &e))?;
            Ok((path.clone(), opened))
        };
        paths.iter().map(open).collect::<Result<_>>().map(Captures)
    }

    /// Opens the same files again, with independent positions; `None` if one is a pipe, or cannot
    /// be opened again.
    pub fn again(&self) -> Option<Captures> {
        let again = |(path, opened): &(PathBuf, Opened)| Some((path.clone(), opened.again()?));
        self.0.iter().map(again).collect::<Option<_>>().map(Captures)
    }

    /// The same files from the beginning; they must not be read elsewhere meanwhile.
    pub(crate) fn rewound(&self) -> Result<Captures> {
        let rewound = |(path, opened): &(PathBuf, Opened)| {
            let opened = opened.rewound().map_err(|e| broken(&path.to_string_lossy(), &e))?;
            Ok((path.clone(), opened))
        };
        self.0.iter().map(rewound).collect::<Result<_>>().map(Captures)
    }

    /// The same files; reading pipes ends when the flag is raised.
    #[must_use]
    pub fn until(self, stop: &Arc<AtomicBool>) -> Captures {
        Captures(self.0.into_iter().map(|(path, opened)| (path, opened.until(stop))).collect())
    }
}

/// One file.
pub(crate) struct Input {
    pub(crate) reader: Reader,
    pub(crate) name: String,
    /// The time of its next frame, or that of the previous frame if it has none.
    next: Option<Duration>,
}

/// The files, and which of them has the next frame.
pub(crate) struct Inputs {
    pub(crate) all: Vec<Input>,
    next: Option<usize>,
    failed: Vec<anyhow::Error>,
}

impl Inputs {
    /// Reads the headers, and goes to the first frame of each; compressed files unpack to at most
    /// `most` bytes, see [`Opened::reader`].
    pub(crate) fn of(captures: Captures, most: Option<u64>) -> Result<Inputs> {
        let read = |(path, opened): (PathBuf, Opened)| {
            let reader = opened.reader(most).map_err(|e| broken(&path.to_string_lossy(), &e))?;
            Ok(Input { reader, name: name(&path), next: None })
        };
        let all = captures.0.into_iter().map(read).collect::<Result<Vec<_>>>()?;
        let mut inputs = Inputs { all, next: None, failed: Vec::new() };
        for i in 0..inputs.all.len() {
            inputs.fetch(i);
        }
        inputs.choose();
        Ok(inputs)
    }

    /// The input with the next frame.
    #[inline]
    pub(crate) fn next(&self) -> Option<usize> {
        self.next
    }

    /// The next frame, if there is one.
    #[inline]
    pub(crate) fn peek(&self) -> Option<CapturedFrame<'_>> {
        self.all.get(self.next?)?.reader.frame()
    }

    /// Moves past the current frame of an input.
    #[inline]
    pub(crate) fn pass(&mut self, i: usize) {
        self.fetch(i);
        self.choose();
    }

    /// The current frame of an input has changed.
    pub(crate) fn moved(&mut self, i: usize) {
        let Input { reader, next, .. } = &mut self.all[i];
        *next = reader.time().or(*next);
        self.choose();
    }

    /// Reads the next frame of an input. A read error ends the input, and is reported at the end.
    fn fetch(&mut self, i: usize) {
        let Input { reader, name, next } = &mut self.all[i];
        *next = match reader.advance() {
            Ok(true) => reader.time().or(*next).or(Some(Duration::ZERO)),
            Ok(false) => None,
            Err(e) => {
                self.failed.push(broken(name, &e));
                None
            }
        };
    }

    fn choose(&mut self) {
        if self.waits() {
            self.next = None; // it may have the earliest one
            return;
        }
        if let [only] = &self.all[..] {
            self.next = only.next.map(|_| 0);
            return;
        }
        let waiting = self.all.iter().enumerate();
        self.next = waiting.filter_map(|(i, f)| Some((f.next?, i))).min().map(|(_, i)| i);
    }

    /// From now on pipes are not waited for: see [`Inputs::waits`].
    pub(crate) fn hurry(&mut self) {
        self.readers_mut().for_each(Reader::hurry);
    }

    /// Whether there is no next frame now, but may be later.
    pub(crate) fn waits(&self) -> bool {
        self.readers().any(Reader::waits)
    }

    /// Checks whether there is a next frame now.
    pub(crate) fn look_again(&mut self) {
        for i in 0..self.all.len() {
            if self.all[i].reader.waits() {
                self.fetch(i);
            }
        }
        self.choose();
    }

    pub(crate) fn readers(&self) -> impl Iterator<Item = &Reader> {
        self.all.iter().map(|i| &i.reader)
    }

    pub(crate) fn readers_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.all.iter_mut().map(|i| &mut i.reader)
    }

    /// The bytes of the files read so far, and their total size if known.
    pub(crate) fn position(&self) -> (u64, Option<u64>) {
        (self.readers().map(Reader::position).sum(), self.readers().map(Reader::size).sum())
    }

    /// The name of a frame's interface: from the file, by its index, or the name of the file
    /// itself.
    pub(crate) fn label(&self, input: usize, frame: &CapturedFrame<'_>) -> String {
        let name = &self.all[input].name;
        let own = match (frame.ifindex, frame.name) {
            (Some(n), _) => format!("if{n}"),
            (None, "") if frame.interface == 0 => return name.clone(),
            (None, "") => return format!("{name}#{}", frame.interface),
            (None, name) => name.to_owned(),
        };
        if self.all.len() > 1 { format!("{name}:{own}") } else { own }
    }

    /// Frames with impossible values, one line per file.
    pub(crate) fn contradictions(&self) -> impl Iterator<Item = String> {
        let said = self.all.iter().filter(|input| input.reader.contradictions() > 0);
        said.map(|input| {
            format!(
                "{}: {} frames have an original length below the captured length, which counts instead",
                sanitize(&input.name),
                input.reader.contradictions()
            )
        })
    }

    /// Read errors, after the end.
    pub(crate) fn end(&mut self) -> Result<()> {
        let failed: Vec<_> = self.failed.drain(..).map(|e| format!("{e:#}")).collect();
        if failed.is_empty() { Ok(()) } else { Err(anyhow!("{}", failed.join("; "))) }
    }
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(|| path.to_string_lossy(), |n| n.to_string_lossy()).into_owned()
}

fn broken(name: &str, e: &ReadError) -> anyhow::Error {
    anyhow!("{}: {e}", sanitize(name))
}
