// SPDX-License-Identifier: MIT OR Apache-2.0
//! A minimal NATS server on a loopback port, with the part of the protocol that readings need. It
//! can be killed and restarted. Real servers are for `make test-tools`.
use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// A subscription of a client: the pattern, and the client's number for it.
type Subscription = (String, String);

#[derive(Default)]
struct Clients {
    all: Vec<(u64, TcpStream, Vec<Subscription>)>,
    next: u64,
    /// The subjects of all messages received.
    heard: Vec<String>,
}

/// A server.
pub struct NatsServer {
    at: SocketAddr,
    clients: Arc<Mutex<Clients>>,
    is_up: Arc<AtomicBool>,
}

fn lock(clients: &Mutex<Clients>) -> MutexGuard<'_, Clients> {
    clients.lock().unwrap_or_else(PoisonError::into_inner)
}

impl NatsServer {
    /// Starts one on any free port.
    ///
    /// # Panics
    /// There is no free port.
    pub fn start() -> NatsServer {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = listener.local_addr().expect("an address");
        let server = NatsServer { at, clients: Arc::default(), is_up: Arc::default() };
        server.serve(listener);
        server
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("nats://{}", self.at)
    }

    /// Kills it: all clients are disconnected.
    pub fn kill(&self) {
        self.is_up.store(false, Ordering::SeqCst);
        _ = TcpStream::connect(self.at); // to wake it up
        let mut clients = lock(&self.clients);
        clients.all.drain(..).for_each(|(_, stream, _)| _ = stream.shutdown(Shutdown::Both));
    }

    /// Starts it again, at the same address.
    ///
    /// # Panics
    /// The address has been taken.
    pub fn start_again(&self) {
        // Its port may still be in use by closing connections.
        for _ in 0..100 {
            if let Ok(listener) = TcpListener::bind(self.at) {
                return self.serve(listener);
            }
            thread::sleep(Duration::from_millis(100));
        }
        panic!("{} is taken", self.at);
    }

    /// The number of messages received on subjects that contain this text.
    pub fn heard(&self, of: &str) -> usize {
        lock(&self.clients).heard.iter().filter(|s| s.contains(of)).count()
    }

    /// Publishes a message to its subscribers.
    pub fn publish(&self, subject: &str, payload: &[u8]) {
        give(&mut lock(&self.clients), subject, payload);
    }

    /// Whether anybody subscribes to this subject.
    pub fn is_listened_to(&self, subject: &str) -> bool {
        let clients = lock(&self.clients);
        clients.all.iter().flat_map(|c| &c.2).any(|(pattern, _)| fits(pattern, subject))
    }

    fn serve(&self, listener: TcpListener) {
        self.is_up.store(true, Ordering::SeqCst);
        let (clients, is_up) = (Arc::clone(&self.clients), Arc::clone(&self.is_up));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(stream) = stream else { return };
                if !is_up.load(Ordering::SeqCst) {
                    return;
                }
                let clients = Arc::clone(&clients);
                thread::spawn(move || {
                    _ = talk(&stream, &clients);
                    _ = stream.shutdown(Shutdown::Both);
                });
            }
        });
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn talk(stream: &TcpStream, clients: &Mutex<Clients>) -> io::Result<()> {
    let info =
        r#"{"server_id":"T","version":"2.9.10","proto":1,"headers":true,"max_payload":1048576}"#;
    (&mut &*stream).write_all(format!("INFO {info}\r\n").as_bytes())?;
    let own = {
        let mut clients = lock(clients);
        clients.next += 1;
        let number = clients.next;
        clients.all.push((number, stream.try_clone()?, Vec::new()));
        number
    };
    let mut from = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words.as_slice() {
            ["PING"] => (&mut &*stream).write_all(b"PONG\r\n")?,
            ["SUB", pattern, .., number] => {
                let mut clients = lock(clients);
                let client = clients.all.iter_mut().find(|c| c.0 == own);
                client.into_iter().for_each(|c| c.2.push((pattern.into(), number.into())));
            }
            ["PUB", subject, .., length] => {
                let length: u64 = length.parse().map_err(io::Error::other)?;
                let mut payload = Vec::new();
                from.by_ref().take(length + 2).read_to_end(&mut payload)?;
                payload.truncate(length as usize);
                give(&mut lock(clients), subject, &payload);
            }
            _ => {}
        }
    }
}

fn give(clients: &mut Clients, subject: &str, payload: &[u8]) {
    clients.heard.push(subject.to_owned());
    for (_, stream, subscriptions) in &mut clients.all {
        for (_, number) in subscriptions.iter().filter(|(pattern, _)| fits(pattern, subject)) {
            let head = format!("MSG {subject} {number} {}\r\n", payload.len());
            _ = stream.write_all(&[head.as_bytes(), payload, b"\r\n"].concat());
        }
    }
}

fn fits(pattern: &str, subject: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('.'), subject.split('.'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(">"), Some(_)) => return true,
            (Some(w), Some(g)) if w == "*" || w == g => {}
            _ => return false,
        }
    }
}
