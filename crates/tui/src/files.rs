// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that are whole before anybody sees them.
use std::{
    fmt::Debug,
    fs::File,
    io,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tempfile::{Builder, TempPath};

/// Makes files in the current directory, for who may not do that itself: one at a time.
pub trait Files: Debug + Send + Sync {
    /// A new file under a name that nobody looks for, to write to. What the last one was and nobody
    /// has kept is removed.
    ///
    /// # Errors
    /// It cannot be made.
    fn begin(&self) -> io::Result<File>;

    /// Gives the new file its name, if there is no file of that name.
    ///
    /// # Errors
    /// There is one, or it cannot be done.
    fn keep(&self, name: &str) -> io::Result<()>;

    /// Removes the new file.
    fn discard(&self);
}

/// Makes them itself.
#[derive(Debug, Default)]
pub struct OwnFiles(Mutex<Option<TempPath>>);

impl OwnFiles {
    fn begun(&self) -> MutexGuard<'_, Option<TempPath>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Files for OwnFiles {
    fn begin(&self) -> io::Result<File> {
        self.discard();
        let (file, path) = Builder::new().prefix(".tmon-").tempfile_in(".")?.into_parts();
        *self.begun() = Some(path);
        Ok(file)
    }

    fn keep(&self, name: &str) -> io::Result<()> {
        let mut begun = self.begun();
        let path = begun.take().ok_or(io::ErrorKind::NotFound)?;
        path.persist_noclobber(name).map_err(|e| {
            *begun = Some(e.path);
            e.error
        })
    }

    fn discard(&self) {
        self.begun().take();
    }
}
