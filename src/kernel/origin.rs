// SPDX-License-Identifier: MIT OR Apache-2.0
//! The host, namespace and process that readings come from.
use std::{
    fs,
    hash::{BuildHasher, RandomState},
    os::unix::fs::MetadataExt,
};

use model::interface::Origin;

/// This host's name.
pub fn host() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|h| h.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The origin of readings from now on, in this thread's namespace.
pub fn here() -> Origin {
    Origin {
        host: host().into(),
        netns: fs::metadata("/proc/thread-self/ns/net").map_or(0, |m| m.ino()),
        epoch: RandomState::new().hash_one(0), // its keys are random
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_start_is_an_origin_of_its_own() {
        let [a, b] = [here(), here()];
        assert_eq!((&a.host, a.netns), (&b.host, b.netns));
        assert_ne!(a.epoch, b.epoch);
        assert!(!a.host.is_empty() && a.netns != 0);
    }
}
