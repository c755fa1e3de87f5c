// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files that a user names, read to a limit.
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// The whole of a file, but no more than `most` bytes of it. A device or a pipe has no size to look
/// at beforehand, and may have no end.
///
/// # Errors
/// It cannot be read, or there is more.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    of(File::open(path)?, most)
}

/// The same of an open file.
///
/// # Errors
/// As [`read`].
pub fn of(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it has more than the {most} bytes that are read");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// The same of a text in an open file.
///
/// # Errors
/// As [`read`]; and it is not UTF-8.
pub fn text_of(file: File, most: u64) -> io::Result<String> {
    String::from_utf8(of(file, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))
}
