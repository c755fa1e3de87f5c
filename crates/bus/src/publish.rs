// SPDX-License-Identifier: MIT OR Apache-2.0
//! The publisher's side: requests from viewers, and what is sent. Reports that cannot be sent are
//! not kept: the next interval is longer instead.
use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use async_nats::{Client, connection::State};
use futures_util::StreamExt;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::{
    login::{Login, Sayings, or_refused, thread},
    subject::{HostPath, SubjectKind, Subjects},
    want::Leases,
};

/// How long saying goodbye may take.
const PARTING: Duration = Duration::from_secs(2);
/// How long to wait before connecting again, at first and at most.
const BACK_OFF: [Duration; 2] = [Duration::from_secs(1), Duration::from_secs(30)];

/// A publisher.
pub struct Publisher {
    shared: Arc<Shared>,
    queue: UnboundedSender<Out>,
    /// The number of connections at the last check.
    connects: u64,
    connected: bool,
}

/// What viewers request from a host at present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The interval of requested sums.
    pub sums: Option<Duration>,
    /// The interval of requested rows.
    pub rows: Option<Duration>,
    /// Whether the viewers that made the requests would receive a message sent now.
    pub is_heard: bool,
    /// Whether there is a connection, and earlier messages have been sent.
    pub is_free: bool,
    /// Whether a new viewer wants to know who is present.
    pub is_greeted: bool,
    /// The maximum size of a message.
    pub room: usize,
}

struct Shared {
    client: Mutex<Option<Client>>,
    leases: Mutex<Leases>,
    greeted: AtomicBool,
    /// Messages waiting for the connection.
    waiting: AtomicUsize,
    failed: Mutex<Option<String>>,
    sayings: Sayings,
}

enum Out {
    Message(String, Vec<u8>),
    Leave(String, Vec<u8>, mpsc::Sender<()>),
}

/// The maximum size of a message, even if the server allows more.
const ROOM: usize = 1 << 20;

impl Publisher {
    /// Starts publishing. Its thread calls `enter` before it talks to anybody.
    ///
    /// # Errors
    /// The thread cannot be started.
    pub fn start(
        login: Login,
        subjects: Subjects,
        host: &HostPath,
        (least, outer_only): (Duration, bool),
        enter: impl FnOnce() + Send + 'static,
    ) -> Result<Publisher> {
        let shared = Arc::new(Shared {
            client: Mutex::default(),
            leases: Mutex::new(Leases::new(least, outer_only)),
            greeted: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            failed: Mutex::default(),
            sayings: Sayings::default(),
        });
        let (queue, messages) = unbounded_channel();
        let wants = [
            subjects.subject(SubjectKind::Want, &"all"),
            subjects.subject(SubjectKind::Want, host),
        ];
        let (name, own) = (format!("tmon publish {host}"), Arc::clone(&shared));
        thread(enter, move || async move {
            if let Err(e) = talk(&login, &name, wants, &own, messages).await {
                *own.failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(format!("{e:#}"));
            }
        })?;
        Ok(Publisher { shared, queue, connects: 0, connected: false })
    }

    /// The present requests.
    ///
    /// # Errors
    /// There will be no connection.
    pub fn asked(&mut self, now: Instant) -> Result<Asked> {
        let shared = &self.shared;
        if let Some(why) = shared.failed.lock().unwrap_or_else(PoisonError::into_inner).take() {
            bail!(why);
        }
        let client = shared.client.lock().unwrap_or_else(PoisonError::into_inner);
        let connected = client.as_ref().is_some_and(|c| c.connection_state() == State::Connected);
        let connects =
            client.as_ref().map_or(0, |c| c.statistics().connects.load(Ordering::Relaxed));
        let room = client.as_ref().map_or(ROOM, |c| c.server_info().max_payload).min(ROOM);
        drop(client);
        let mut leases = shared.leases.lock().unwrap_or_else(PoisonError::into_inner);
        if !connected || connects != self.connects {
            leases.lost(now);
        }
        if connected && (!self.connected || connects != self.connects) {
            leases.back(now);
            if self.connects > 0 {
                shared.sayings.say("the bus is back");
            }
            self.connects = connects;
            shared.greeted.store(true, Ordering::Relaxed);
        }
        self.connected = connected;
        let [sums, rows] = leases.wanted(now);
        Ok(Asked {
            sums,
            rows,
            is_heard: connected && leases.is_heard(now),
            is_free: connected && shared.waiting.load(Ordering::Relaxed) == 0,
            is_greeted: connected && shared.greeted.swap(false, Ordering::Relaxed),
            room,
        })
    }

    /// Sends a message.
    pub fn send(&self, subject: String, bytes: Vec<u8>) {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        _ = self.queue.send(Out::Message(subject, bytes)); // `asked` reports if it has ended
    }

    /// Says goodbye, if there is a connection.
    pub fn leave(self, subject: String, bytes: Vec<u8>) {
        let (done, is_done) = mpsc::channel();
        if self.connected && self.queue.send(Out::Leave(subject, bytes, done)).is_ok() {
            _ = is_done.recv_timeout(PARTING);
        }
    }

    /// Pending notices, one line each.
    pub fn notices(&self) -> Vec<String> {
        self.shared.sayings.take()
    }
}

async fn talk(
    login: &Login,
    name: &str,
    wants: [String; 2],
    shared: &Arc<Shared>,
    mut messages: UnboundedReceiver<Out>,
) -> Result<()> {
    let [mut pause, longest] = BACK_OFF;
    let client = loop {
        let sayings = shared.sayings.clone();
        let gone = "the next interval will include this time";
        match login.connect(name, move |event| sayings.event(&event, gone)).await {
            Ok(client) => break client,
            Err(e) => {
                let why = or_refused(e)?;
                shared.sayings.say(&format!("cannot connect to {}: {why}", login.shown()));
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(longest);
    };
    for subject in wants {
        let mut wants = client.subscribe(subject).await?;
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            while let Some(want) = wants.next().await {
                let mut leases = shared.leases.lock().unwrap_or_else(PoisonError::into_inner);
                if leases.take(&want.payload, Instant::now()) {
                    shared.greeted.store(true, Ordering::Relaxed);
                }
            }
        });
    }
    client.flush().await?;
    *shared.client.lock().unwrap_or_else(PoisonError::into_inner) = Some(client.clone());
    while let Some(out) = messages.recv().await {
        match out {
            Out::Message(subject, bytes) => {
                let sent = async {
                    client.publish(subject, bytes.into()).await?;
                    client.flush().await?;
                    Ok::<_, async_nats::Error>(())
                };
                if let Err(e) = sent.await {
                    shared.sayings.say(&format!("cannot publish: {e}"));
                }
                shared.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            Out::Leave(subject, bytes, done) => {
                client.publish(subject, bytes.into()).await?;
                client.flush().await?;
                _ = done.send(());
                return Ok(());
            }
        }
    }
    Ok(())
}
