// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are complete before they become visible.
use std::{
    fmt::Debug,
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::{Builder, TempPath};

/// Creates files in the current directory, one at a time, for callers that are not permitted to do
/// so.
pub trait Files: Debug + Send + Sync {
    /// Creates a new file under a temporary name for writing. A previous one that was not kept is
    /// removed.
    ///
    /// # Errors
    /// The file cannot be created.
    fn begin(&self) -> io::Result<File>;

    /// Gives the new file its name, unless a file of that name exists.
    ///
    /// # Errors
    /// A file of that name exists, or the operation fails.
    fn keep(&self, name: &str) -> io::Result<()>;

    /// Removes the new file.
    fn discard(&self);
}

/// Creates them directly.
#[derive(Debug, Default)]
pub struct OwnFiles(Mutex<Option<TempPath>>);

impl OwnFiles {
    fn begun(&self) -> MutexGuard<'_, Option<TempPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The current directory itself: its path may lead to what was mounted over it since.
fn here() -> PathBuf {
    let itself = Path::new("/proc/thread-self/cwd");
    if itself.is_dir() { itself.to_owned() } else { PathBuf::from(".") }
}

impl Files for OwnFiles {
    fn begin(&self) -> io::Result<File> {
        self.discard();
        let (file, path) = Builder::new().prefix(".tmon-").tempfile_in(here())?.into_parts();
        *self.begun() = Some(path);
        Ok(file)
    }

    fn keep(&self, name: &str) -> io::Result<()> {
        let mut begun = self.begun();
        let path = begun.take().ok_or(io::ErrorKind::NotFound)?;
        path.persist_noclobber(here().join(name)).map_err(|e| {
            *begun = Some(e.path);
            e.error
        })
    }

    fn discard(&self) {
        self.begun().take();
    }
}
