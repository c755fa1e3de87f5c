// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reverse DNS in the background: a query never waits, and an address without an answer yet has no
//! name.
//!
//! A few threads query the system's resolver, so nsswitch.conf and resolv.conf apply. Each address
//! is queried once in a while; negative answers are cached as well.
use std::{
    collections::hash_map::Entry,
    fmt,
    net::IpAddr,
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use foldhash::HashMap;

use model::units::sanitize;

/// Threads that wait for answers.
const THREADS: usize = 4;
/// Queries waiting for a thread; surplus ones are repeated when the address is next displayed.
const QUEUE: usize = 1024;
/// How long an answer is valid.
const KEPT: Duration = Duration::from_secs(600);
/// Limit on the cached addresses: on a busy mirror port there are more than anybody displays.
const MOST: usize = 65_536;

type Lookup = fn(IpAddr) -> Option<String>;

/// The cached state of an address.
#[derive(Clone, Debug)]
enum Known {
    Asked,
    Answered(Option<String>, Instant),
}

type Cache = Arc<Mutex<HashMap<IpAddr, Known>>>;

/// Looks up the names of addresses.
pub struct Resolver {
    cache: Cache,
    questions: SyncSender<IpAddr>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// A resolver that queries the system's. Its threads read untrusted input: each calls `confine`
    /// before the first query.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(confine: impl Fn() + Clone + Send + 'static) -> Result<Resolver> {
        Self::with(confine, |address| {
            let name = dns_lookup::lookup_addr(&address).ok()?;
            // Without a name it returns the address.
            (name.parse::<IpAddr>().is_err() && !name.is_empty()).then_some(name)
        })
    }

    fn with(confine: impl Fn() + Clone + Send + 'static, lookup: Lookup) -> Result<Resolver> {
        let cache: Cache = Arc::default();
        let (questions, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let (cache, queue) = (Arc::clone(&cache), Arc::clone(&queue));
            // They end with the resolver, whose end of the queue closes; nobody waits for them.
            let confine = confine.clone();
            let answer = move || {
                confine();
                while answer(&queue, &cache, lookup) {}
            };
            std::thread::Builder::new()
                .name("tmon-dns".to_owned())
                .spawn(answer)
                .context("start a thread")?;
        }
        Ok(Resolver { cache, questions })
    }

    /// The name of an address, safe for a terminal, if known by now; otherwise it is queried.
    pub fn name(&self, address: IpAddr) -> Option<String> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= MOST && !cache.contains_key(&address) {
            cache.retain(|_, known| matches!(known, Known::Asked));
        }
        let (name, stale) = match cache.entry(address) {
            Entry::Vacant(_) => (None, true),
            Entry::Occupied(known) => match known.get() {
                Known::Asked => (None, false),
                Known::Answered(name, at) => (name.clone(), at.elapsed() > KEPT),
            },
        };
        if stale && self.questions.try_send(address).is_ok() {
            // An old answer is better than none while the new one is pending.
            cache
                .entry(address)
                .and_modify(|k| {
                    if let Known::Answered(_, at) = k {
                        *at = Instant::now()
                    }
                })
                .or_insert(Known::Asked);
        }
        name
    }

    /// The known addresses with this name, which is in lower case here.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |known: &Known| matches!(known, Known::Answered(Some(n), _) if n.to_lowercase() == name);
        cache.iter().filter(|(_, known)| has(known)).map(|(address, _)| *address).collect()
    }

    /// Whether answers are pending.
    pub fn is_waiting(&self) -> bool {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .any(|k| matches!(k, Known::Asked))
    }
}

/// Answers one query; returns false when there will be no more.
fn answer(queue: &Mutex<Receiver<IpAddr>>, cache: &Cache, lookup: Lookup) -> bool {
    let question = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
    let Ok(address) = question else { return false };
    let name = lookup(address).map(|n| sanitize(n.trim_end_matches('.')).into_owned());
    cache
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .insert(address, Known::Answered(name, Instant::now()));
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wait(resolver: &Resolver) {
        while resolver.is_waiting() {
            std::thread::yield_now();
        }
    }

    #[test]
    fn names_arrive_once_resolved() {
        let r = Resolver::with(
            || (),
            |a| (a != IpAddr::from([10, 0, 0, 2])).then(|| format!("Host\x1b-{a}.")),
        )
        .expect("threads");
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!((r.name(one), r.name(two)), (None, None), "queried, but not awaited");
        wait(&r);
        assert_eq!((r.name(one).as_deref(), r.name(two)), (Some("Host␛-10.0.0.1"), None));
        assert_eq!(r.addresses("host␛-10.0.0.1"), [one]);
    }

    #[test]
    fn a_slow_server_delays_nobody() {
        static NEVER: Mutex<()> = Mutex::new(());
        let held = NEVER.lock().expect("no panic");
        let r = Resolver::with(
            || (),
            |_| {
                drop(NEVER.lock());
                None
            },
        )
        .expect("threads");
        // More than all threads and the queue take: the rest is not even recorded as queried.
        for i in 0..(THREADS + QUEUE) as u32 * 2 {
            assert_eq!(r.name(std::net::Ipv4Addr::from_bits(i).into()), None);
        }
        assert!(r.cache.lock().expect("no panic").len() <= THREADS + QUEUE);
        drop(held);
        wait(&r);
    }
}
