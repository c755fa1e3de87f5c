// SPDX-License-Identifier: MIT OR Apache-2.0
//! Files named by a user, read up to a limit.
use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

/// Reads a whole file, but no more than `most` bytes of it. A device or a pipe has no size to check
/// beforehand, and may never end.
///
/// # Errors
/// It cannot be read, or is larger.
pub fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    of(File::open(path)?, most)
}

/// The same for an open file.
///
/// # Errors
/// Those of [`read`].
pub fn of(file: File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most.saturating_add(1)).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        let why = format!("it is larger than the limit of {most} bytes");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    Ok(bytes)
}

/// Reads a text from an open file, and converts all line ends (LF, CR LF or CR) to LF.
///
/// # Errors
/// Those of [`read`]; or it is not UTF-8.
pub fn text_of(file: File, most: u64) -> io::Result<String> {
    let text = String::from_utf8(of(file, most)?)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8 text"))?;
    Ok(lines(text))
}

/// Reads a text, replacing bytes that are not UTF-8.
///
/// # Errors
/// See [`read`].
pub fn lossy_text(path: &Path, most: u64) -> io::Result<String> {
    read(path, most).map(|bytes| lines(String::from_utf8_lossy(&bytes).into_owned()))
}

fn lines(text: String) -> String {
    if text.contains('\r') { text.replace("\r\n", "\n").replace('\r', "\n") } else { text }
}

#[cfg(test)]
mod tests {
    use std::io::{Seek, Write};

    use super::*;

    #[test]
    fn any_line_ending_is_accepted() {
        for end in ["\n", "\r\n", "\r"] {
            let mut file = tempfile::tempfile().expect("a file");
            file.write_all(["a 1", "b 2", ""].join(end).as_bytes()).expect("it is written");
            file.rewind().expect("a file");
            assert_eq!(text_of(file, 100).expect("a text"), "a 1\nb 2\n", "{end:?}");
        }
    }
}
