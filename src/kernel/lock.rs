// SPDX-License-Identifier: MIT OR Apache-2.0
//! File locks with a deadline, and who holds them.
use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
    sys::stat::{major, minor},
};

use model::units::sanitize;

/// How often to retry a lock that another process holds.
const PAUSE: Duration = Duration::from_millis(5);

/// Takes a lock, or returns `None` if others hold it for longer than `patience`. `how` is one of
/// the non-blocking operations.
///
/// # Errors
/// The file cannot be locked at all.
pub(crate) fn take(
    mut file: File,
    how: FlockArg,
    patience: Duration,
) -> io::Result<Option<Flock<File>>> {
    let start = Instant::now();
    loop {
        file = match Flock::lock(file, how) {
            Ok(lock) => return Ok(Some(lock)),
            Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
            Err((_, e)) => return Err(e.into()),
        };
        if start.elapsed() >= patience {
            return Ok(None);
        }
        thread::sleep(PAUSE);
    }
}

/// The holder of a file's lock, for display: `PID 4711 (tmon)`.
pub(crate) fn holder(file: &File) -> String {
    let pid = file.metadata().ok().and_then(|m| {
        let device = m.dev();
        // proc_locks(5): the device in hexadecimal, the inode in decimal
        let id = format!("{:02x}:{:02x}:{}", major(device), minor(device), m.ino());
        let locks = fs::read_to_string("/proc/locks").ok()?;
        locks.lines().find_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            // Waiters have an arrow where holders have the kind of their lock.
            let held = words.get(1) == Some(&"FLOCK") && words.get(5) == Some(&id.as_str());
            held.then(|| words[4].parse::<u32>().ok()).flatten().filter(|pid| *pid != 0)
        })
    });
    let Some(pid) = pid else { return "another process".to_owned() };
    match fs::read_to_string(format!("/proc/{pid}/comm")) {
        Ok(name) => format!("PID {pid} ({})", sanitize(name.trim_end())),
        Err(_) => format!("PID {pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_holder_is_named_and_not_waited_for() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let open = || File::open(file.path()).expect("the file");
        let take =
            |patience| take(open(), FlockArg::LockExclusiveNonblock, patience).expect("flock");
        let held = take(Duration::ZERO).expect("nobody has it");
        assert!(take(Duration::from_millis(20)).is_none());
        let who = holder(&open());
        assert!(who.starts_with(&format!("PID {} (", std::process::id())), "{who}");
        drop(held);
        assert!(take(Duration::from_secs(10)).is_some());
        assert_eq!(holder(&open()), "another process");
    }
}
