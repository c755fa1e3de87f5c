// SPDX-License-Identifier: MIT OR Apache-2.0
//! A small HTTP server for scrapers: one page, one request per connection, one thread each.
//!
//! Clients may be slow, silent or endless: a connection lives for at most [`PATIENCE`], there are
//! at most [`MOST`] of them, of which the oldest that is silent or slow makes room for the next, and
//! the counting loop never waits for any.
use std::{
    io::{self, Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::openmetrics::{Exposition, Metering};

/// How long one request may take, from its first byte to the last byte of the response.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Limit on the number of simultaneous connections.
pub const MOST: usize = 64;
/// A client that takes longer than this to be answered gives way to others.
const SLOW: Duration = Duration::from_secs(1);
/// Limit on the size of a request's head, and on its fields.
const HEAD: usize = 8192;
const FIELDS: usize = 64;
/// The stack size of a thread here, which needs little.
const STACK: usize = 256 << 10;

/// Serves scrapers from separate threads for as long as the process lives. These threads read
/// untrusted input: the first one calls `confine` before it accepts connections, and starts the
/// others.
///
/// # Errors
/// The thread cannot be started.
pub fn serve(
    listener: TcpListener,
    metrics: &Metering,
    confine: impl FnOnce() + Send + 'static,
) -> io::Result<()> {
    let metrics = metrics.clone();
    let accept = move || {
        confine();
        let open = Arc::<Guests>::default();
        loop {
            match listener.accept() {
                Ok((stream, _)) => attend(stream, &metrics, &open),
                // No descriptors are left: wait for some to be closed.
                Err(_) => thread::sleep(Duration::from_millis(100)),
            }
        }
    };
    thread::Builder::new().name("tmon-scrapes".to_owned()).stack_size(STACK).spawn(accept)?;
    Ok(())
}

/// A connection, since when, and whether it is being answered.
struct Guest {
    stream: TcpStream,
    begun: Instant,
    is_served: AtomicBool,
}

impl Guest {
    /// Whether it may be closed to make room for another connection.
    fn gives_way(&self) -> bool {
        !self.is_served.load(Ordering::Relaxed) || self.begun.elapsed() > SLOW
    }
}

/// Connections, the oldest first.
type Guests = Mutex<Vec<Arc<Guest>>>;

/// A connection in the list, until this is dropped.
struct Place(Arc<Guests>, Arc<Guest>);

impl Place {
    /// Makes room if necessary; `None` if all connections are being answered.
    fn take(open: &Arc<Guests>, guest: Guest) -> Result<Place, Guest> {
        let mut guests = open.lock().unwrap_or_else(PoisonError::into_inner);
        if guests.len() >= MOST {
            match guests.iter().position(|g| g.gives_way()) {
                // This ends its thread.
                Some(idle) => _ = guests.remove(idle).stream.shutdown(Shutdown::Both),
                None => return Err(guest),
            }
        }
        let guest = Arc::new(guest);
        guests.push(Arc::clone(&guest));
        drop(guests);
        Ok(Place(Arc::clone(open), guest))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut guests = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        guests.retain(|guest| !Arc::ptr_eq(guest, &self.1));
    }
}

fn attend(stream: TcpStream, metrics: &Metering, open: &Arc<Guests>) {
    let place = match Place::take(
        open,
        Guest { stream, begun: Instant::now(), is_served: AtomicBool::new(false) },
    ) {
        Ok(place) => place,
        Err(Guest { stream, .. }) => {
            // The client gets what fits into the socket's buffer; nobody waits for the rest.
            let _ = stream.set_nonblocking(true);
            let busy = answer("503 Service Unavailable", TEXT, "too many requests\n");
            let _ = (&stream).write_all(&busy);
            return;
        }
    };
    let metrics = metrics.clone();
    let one = move || {
        // Clients that are gone or too slow get nothing more.
        let _ = converse(&place.1, &metrics, Instant::now() + PATIENCE);
    };
    // If no thread can be started, the connection is closed.
    let _ = thread::Builder::new().name("tmon-scrape".to_owned()).stack_size(STACK).spawn(one);
}

const TEXT: &str = "text/plain; charset=utf-8";

/// The requested resource.
#[derive(Debug, PartialEq, Eq)]
enum Asked {
    Metrics(Exposition),
    Start,
    Nothing,
    NotReading,
    Nonsense,
}

fn converse(guest: &Guest, metrics: &Metering, end: Instant) -> io::Result<()> {
    let mut stream = &guest.stream;
    let Some((asked, head_only)) = request(stream, end)? else { return Ok(()) };
    guest.is_served.store(true, Ordering::Relaxed);
    let mut answer = match asked {
        Asked::Metrics(how) => answer("200 OK", how.content_type(), &metrics.text(how)),
        Asked::Start => answer("200 OK", TEXT, "tmon: the metrics are at /metrics\n"),
        Asked::Nothing => answer("404 Not Found", TEXT, "the metrics are at /metrics\n"),
        Asked::NotReading => {
            answer("405 Method Not Allowed", TEXT, "only GET and HEAD are supported\n")
        }
        Asked::Nonsense => answer("400 Bad Request", TEXT, "this is not an HTTP request\n"),
    };
    if head_only {
        let body = answer.windows(4).position(|w| w == b"\r\n\r\n").map_or(0, |at| at + 4);
        answer.truncate(body);
    }
    let mut rest = &answer[..];
    while !rest.is_empty() {
        stream.set_write_timeout(Some(left(end)?))?;
        match stream.write(&rest[..rest.len().min(16 << 10)]) {
            Ok(0) => return Ok(()),
            Ok(n) => rest = &rest[n..],
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    guest.is_served.store(false, Ordering::Relaxed);
    // Otherwise data that the client is still sending could cost it the end of the response.
    stream.shutdown(Shutdown::Write)?;
    let mut rest = [0; 512];
    while stream.read(&mut rest)? > 0 {
        stream.set_read_timeout(Some(left(end)?))?;
    }
    Ok(())
}

fn left(end: Instant) -> io::Result<Duration> {
    let left = end.saturating_duration_since(Instant::now());
    if left.is_zero() { Err(io::ErrorKind::TimedOut.into()) } else { Ok(left) }
}

fn answer(status: &str, kind: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    let mut all = format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\
         Connection: close\r\nX-Content-Type-Options: nosniff\r\n\r\n"
    );
    all.push_str(body);
    all.into_bytes()
}

/// Reads the head of a request, and whether it is a HEAD request; `None` if the client sends
/// nothing.
fn request(mut stream: &TcpStream, end: Instant) -> io::Result<Option<(Asked, bool)>> {
    let mut head = [0; HEAD];
    let mut length = 0;
    loop {
        stream.set_read_timeout(Some(left(end)?))?;
        match stream.read(&mut head[length..]) {
            Ok(0) if length == 0 => return Ok(None),
            Ok(0) => return Ok(Some((Asked::Nonsense, false))),
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
        if let Some(asked) = asked(&head[..length]) {
            return Ok(Some(asked));
        }
        if length == head.len() {
            return Ok(Some((Asked::Nonsense, false)));
        }
    }
}

/// The request in the bytes so far; `None` while it is incomplete.
fn asked(bytes: &[u8]) -> Option<(Asked, bool)> {
    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    match request.parse(bytes) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(_) => return Some((Asked::Nonsense, false)),
    }
    let head_only = request.method == Some("HEAD");
    let accept = request.headers.iter().filter(|h| h.name.eq_ignore_ascii_case("accept"));
    let accept: Vec<_> = accept.map(|h| String::from_utf8_lossy(h.value)).collect();
    let path = request.path.unwrap_or_default().split('?').next().unwrap_or_default();
    let asked = match (request.method, path) {
        (Some("GET" | "HEAD"), "/metrics") => {
            Asked::Metrics(Exposition::accepted(&accept.join(",")))
        }
        (Some("GET" | "HEAD"), "/") => Asked::Start,
        (Some("GET" | "HEAD"), _) => Asked::Nothing,
        _ => Asked::NotReading,
    };
    Some((asked, head_only))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::openmetrics::SeriesLimits;

    #[test]
    fn requests_are_parsed() {
        let is = |text: &str| asked(text.as_bytes()).map(|a| a.0);
        let open = Asked::Metrics(Exposition::OpenMetrics);
        for (text, wanted) in [
            ("GET /metrics HTTP/1.1\r\nHost: x\r\n", None),
            ("GET /metrics HTTP/1.1\r\n\r\n", Some(Asked::Metrics(Exposition::Classic))),
            (
                "GET /metrics?a=b HTTP/1.1\r\nACCEPT: application/openmetrics-text;q=0.5\r\n\r\n",
                Some(open),
            ),
            ("GET / HTTP/1.0\r\n\r\n", Some(Asked::Start)),
            ("GET /metricss HTTP/1.1\r\n\r\n", Some(Asked::Nothing)),
            ("POST /metrics HTTP/1.1\r\n\r\n", Some(Asked::NotReading)),
            ("\x16\x03\x01\x02\x00", Some(Asked::Nonsense)),
            ("GET /metrics HTTP/1.1\r\nbad header\r\n\r\n", Some(Asked::Nonsense)),
        ] {
            assert_eq!(is(text), wanted, "{text:?}");
        }
        let many = "x: y\r\n".repeat(FIELDS + 1);
        assert_eq!(is(&format!("GET / HTTP/1.1\r\n{many}\r\n")), Some(Asked::Nonsense));
    }

    /// Starts a server with some series on a loopback port.
    fn server() -> std::net::SocketAddr {
        let limits = SeriesLimits { tunnels: 1, peers: 0, age: Duration::ZERO };
        let metrics = Metering::new("1", limits);
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let at = listener.local_addr().expect("an address");
        serve(listener, &metrics, || {}).expect("a thread");
        at
    }

    fn get(at: std::net::SocketAddr, request: &str) -> String {
        let mut stream = TcpStream::connect(at).expect("it listens");
        stream.write_all(request.as_bytes()).expect("it reads");
        let mut all = String::new();
        stream.read_to_string(&mut all).expect("it answers");
        all
    }

    #[test]
    fn scrapers_get_a_format_they_accept() {
        let at = server();
        let classic = get(at, "GET /metrics HTTP/1.1\r\n\r\n");
        assert!(classic.starts_with("HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4"));
        assert!(classic.contains("\ntmon_build_info{version=\"1\"} 1\n"), "{classic}");
        let accept = "Accept: application/openmetrics-text;version=1.0.0,text/plain;q=0.3";
        let open = get(at, &format!("GET /metrics HTTP/1.1\r\n{accept}\r\n\r\n"));
        assert!(open.contains("\r\nContent-Type: application/openmetrics-text; version=1.0.0"));
        assert!(open.ends_with("# EOF\n"), "{open}");
        let head = get(at, "HEAD /metrics HTTP/1.1\r\n\r\n");
        assert!(head.ends_with("\r\n\r\n") && head.contains("Content-Length: "), "{head}");
        assert!(get(at, "GET /x HTTP/1.1\r\n\r\n").starts_with("HTTP/1.1 404 "));
        let long = format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(HEAD));
        assert!(get(at, &long).starts_with("HTTP/1.1 400 "));
    }

    /// Some clients send nothing, some read nothing: others are served, and surplus ones are
    /// refused.
    #[test]
    fn silent_scrapers_delay_nobody() {
        let at = server();
        let begun = Instant::now();
        let mut silent: Vec<TcpStream> = Vec::new();
        while silent.len() < 8 * MOST {
            silent.extend((0..MOST).map(|_| TcpStream::connect(at).expect("it listens")));
            let (half, asked) = (&silent[silent.len() - 1], &silent[silent.len() - 2]);
            (&*half).write_all(b"GET /metrics HTTP/1.1\r\nA: ").expect("sent"); // and no end
            (&*asked).write_all(b"GET / HTTP/1.1\r\n\r\n").expect("sent"); // and reads nothing
            assert!(get(at, "GET /metrics HTTP/1.1\r\n\r\n").contains("tmon_build_info"));
        }
        assert!(begun.elapsed() < PATIENCE * silent.len() as u32 / MOST as u32, "nobody waited");
        // They do not keep their connections for ever.
        for mut stream in silent {
            stream.set_read_timeout(Some(6 * PATIENCE)).expect("a timeout");
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert!(!rest.starts_with(b"HTTP/1.1 503"));
        }
        assert!(get(at, "GET /metrics HTTP/1.1\r\n\r\n").contains("tmon_build_info"));
    }
}
