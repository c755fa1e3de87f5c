// SPDX-License-Identifier: MIT OR Apache-2.0
//! Reverse DNS in the background: asking never waits, and what is not known yet has no name.
//!
//! A few threads ask the system's resolver, so nsswitch.conf and resolv.conf hold. Each address is
//! asked for once in a while; that it has no name is also remembered.
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
/// Questions that wait for a thread; what comes beyond is asked again when it is next looked at.
const QUEUE: usize = 1024;
/// An answer is good for so long.
const KEPT: Duration = Duration::from_secs(600);
/// Addresses that are remembered: on a busy mirror port there are more than anybody looks at.
const MOST: usize = 65_536;

type Lookup = fn(IpAddr) -> Option<String>;

/// What is known of an address.
#[derive(Clone, Debug)]
enum Known {
    Asked,
    Answered(Option<String>, Instant),
}

type Cache = Arc<Mutex<HashMap<IpAddr, Known>>>;

/// Asks for the names of addresses.
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
    /// One that asks the system's resolver. Its threads read what strangers send: each calls
    /// `confine` before the first question.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn new(confine: impl Fn() + Clone + Send + 'static) -> Result<Resolver> {
        Self::with(confine, |address| {
            let name = dns_lookup::lookup_addr(&address).ok()?;
            // Without a name it gives the address back.
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

    /// The name of an address, safe for a terminal, if it is known by now; else it is asked for.
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
            // An old answer is better than none while the new one is on its way.
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

    /// The addresses that have this name as far as is known, which is in lower case here.
    pub fn addresses(&self, name: &str) -> Vec<IpAddr> {
        let cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let has = |known: &Known| matches!(known, Known::Answered(Some(n), _) if n.to_lowercase() == name);
        cache.iter().filter(|(_, known)| has(known)).map(|(address, _)| *address).collect()
    }

    /// Whether answers are still awaited.
    pub fn is_waiting(&self) -> bool {
        self.cache
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .any(|k| matches!(k, Known::Asked))
    }
}

/// Answers one question; false when there will be no more.
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
    fn a_name_is_there_when_it_is() {
        let r = Resolver::with(
            || (),
            |a| (a != IpAddr::from([10, 0, 0, 2])).then(|| format!("Host\x1b-{a}.")),
        )
        .expect("threads");
        let (one, two) = (IpAddr::from([10, 0, 0, 1]), IpAddr::from([10, 0, 0, 2]));
        assert_eq!((r.name(one), r.name(two)), (None, None), "asked, not awaited");
        wait(&r);
        assert_eq!((r.name(one).as_deref(), r.name(two)), (Some("Host␛-10.0.0.1"), None));
        assert_eq!(r.addresses("host␛-10.0.0.1"), [one]);
    }

    #[test]
    fn a_slow_server_stops_nobody() {
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
        // More than all threads and the queue take: the rest is not even remembered as asked.
        for i in 0..(THREADS + QUEUE) as u32 * 2 {
            assert_eq!(r.name(std::net::Ipv4Addr::from_bits(i).into()), None);
        }
        assert!(r.cache.lock().expect("no panic").len() <= THREADS + QUEUE);
        drop(held);
        wait(&r);
    }
}
