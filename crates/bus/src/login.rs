// SPDX-License-Identifier: MIT OR Apache-2.0
//! The servers, the login, and the trusted authorities. All of it is read at the start: a process
//! that has confined itself reads no secrets.
use std::{
    fs::File,
    future::Future,
    io::Write,
    os::fd::AsRawFd,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use async_nats::{
    Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr,
    rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use base64::Engine;
use nix::sys::memfd::{MFdFlags, memfd_create};
use percent_encoding::percent_decode_str;
use tokio::runtime::{Builder, Runtime};

use model::units::sanitize;

/// How long connecting may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How many messages of one subscription are queued before they are read.
const CAPACITY: usize = 4096;
/// The same message is not repeated within this time.
const AGAIN: Duration = Duration::from_secs(60);

/// How to connect to a bus.
#[derive(Clone, Debug)]
pub struct Login {
    servers: Vec<ServerAddr>,
    user: Option<(String, String)>,
    credentials: Option<String>,
    seed: Option<String>,
    trusted: Option<Kept>,
    own: Option<[Kept; 2]>,
    needs_tls: bool,
}

/// Bytes in memory that can be read through a path: the client reads its certificates again
/// whenever it connects, and by then this process may not open files.
#[derive(Clone, Debug)]
struct Kept(Arc<File>);

impl Kept {
    fn new(bytes: &[u8]) -> Result<Kept> {
        let file = memfd_create(c"tmon", MFdFlags::MFD_CLOEXEC).context("keep a certificate")?;
        let mut file = File::from(file);
        file.write_all(bytes).context("keep a certificate")?;
        Ok(Kept(Arc::new(file)))
    }

    fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}", self.0.as_raw_fd()).into()
    }
}

impl Login {
    /// Connects to the first available of these servers, which are separated by commas. If one of
    /// them is for TLS, all are: a login never goes over TLS once, and in the clear another time.
    ///
    /// # Errors
    /// One of them is invalid.
    pub fn new(urls: &str) -> Result<Login> {
        let mut servers = Vec::new();
        for url in urls.split(',').map(str::trim) {
            // The text may contain a password.
            let wrong = "expected a server such as nats://HOST:4222 or tls://HOST:4222";
            let server: ServerAddr = url.parse().ok().context(wrong)?;
            let is_known = matches!(server.scheme(), "nats" | "tls");
            ensure!(is_known && !server.host().is_empty(), wrong);
            servers.push(server);
        }
        let decoded = |text: &str| percent_decode_str(text).decode_utf8_lossy().into_owned();
        let user = servers.iter().find_map(|s| {
            Some((decoded(s.username()?), decoded(s.password().unwrap_or_default())))
        });
        let (credentials, seed, trusted, own) = (None, None, None, None);
        let needs_tls = servers.iter().any(|server| server.scheme() == "tls");
        Ok(Login { servers, user, credentials, seed, trusted, own, needs_tls })
    }

    /// Whether it contains a password.
    pub fn has_password(&self) -> bool {
        self.user.is_some()
    }

    /// Adds the contents of a credentials file: a signed token, and the seed of its key.
    #[must_use]
    pub fn with_credentials(self, file: String) -> Login {
        Login { credentials: Some(file), ..self }
    }

    /// Adds the seed of a key.
    ///
    /// # Errors
    /// It is invalid.
    pub fn with_seed(self, file: &str) -> Result<Login> {
        // The file may contain comments, like those that `nsc` writes.
        let seed = file.lines().map(str::trim).find(|l| l.starts_with("SU"));
        let seed = seed.context("it contains no seed of a user nkey, which begins with SU")?;
        Ok(Login { seed: Some(seed.to_owned()), ..self })
    }

    /// Trusts these authorities instead of the system's, and presents a certificate with its key.
    /// From now on only TLS is used.
    ///
    /// # Errors
    /// They are invalid.
    pub fn with_tls(self, ca: Option<&[u8]>, own: Option<[&[u8]; 2]>) -> Result<Login> {
        let is_certificate = |pem: &[u8]| -> Result<()> {
            let all: Vec<_> = CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>()?;
            ensure!(!all.is_empty(), "it contains no certificate");
            Ok(())
        };
        let trusted = match ca {
            Some(pem) => {
                is_certificate(pem).context("read --tls-ca")?;
                Some(Kept::new(pem)?)
            }
            None => self.trusting_the_system()?.trusted,
        };
        let own = match own {
            Some([certificate, key]) => {
                is_certificate(certificate).context("read --tls-cert")?;
                PrivateKeyDer::from_pem_slice(key)
                    .ok()
                    .context("read --tls-key: it contains no private key")?;
                Some([Kept::new(certificate)?, Kept::new(key)?])
            }
            None => None,
        };
        Ok(Login { trusted, own, needs_tls: true, ..self })
    }

    /// Trusts the system's authorities, if a server requires TLS.
    ///
    /// # Errors
    /// There is not enough memory.
    pub fn trusting_the_system(&self) -> Result<Login> {
        let mut pem = String::new();
        for certificate in rustls_native_certs::load_native_certs().certs {
            let text = base64::engine::general_purpose::STANDARD.encode(certificate);
            pem.push_str("-----BEGIN CERTIFICATE-----\n");
            for line in text.as_bytes().chunks(64) {
                pem.extend(line.iter().copied().map(char::from));
                pem.push('\n');
            }
            pem.push_str("-----END CERTIFICATE-----\n");
        }
        Ok(Login { trusted: Some(Kept::new(pem.as_bytes())?), ..self.clone() })
    }

    /// The servers for display: without passwords.
    pub fn shown(&self) -> String {
        let one = |s: &ServerAddr| {
            let host =
                if s.host().contains(':') { format!("[{}]", s.host()) } else { s.host().into() };
            format!("{}://{host}:{}", s.scheme(), s.port())
        };
        let all: Vec<_> = self.servers.iter().map(one).collect();
        sanitize(&all.join(",")).into_owned()
    }

    pub(crate) async fn connect<F>(&self, name: &str, said: F) -> Result<Client>
    where
        F: Fn(Event) + Send + Sync + 'static,
    {
        let mut options = ConnectOptions::new()
            .name(name)
            .connection_timeout(PATIENCE)
            .ping_interval(Duration::from_secs(10))
            .max_reconnects(None)
            // What a server says before TLS may be anybody's: log in nowhere but where the user said.
            .ignore_discovered_servers()
            .subscription_capacity(CAPACITY)
            .event_callback(move |event| {
                said(event);
                std::future::ready(())
            });
        if let Some((user, password)) = &self.user {
            options = options.user_and_password(user.clone(), password.clone());
        }
        if let Some(file) = &self.credentials {
            options = options
                .credentials(file)
                .ok()
                .context("the file of --creds contains no credentials")?;
        }
        if let Some(seed) = &self.seed {
            options = options.nkey(seed.clone());
        }
        if let Some(trusted) = &self.trusted {
            options = options.add_root_certificates(trusted.path());
        }
        if let Some([certificate, key]) = &self.own {
            options = options.add_client_certificate(certificate.path(), key.path());
        }
        options = options.require_tls(self.needs_tls);
        options.connect(self.servers.clone()).await.map_err(|e| {
            let why = match e.kind() {
                ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
                    return anyhow!(Refused);
                }
                ConnectErrorKind::Dns => "its name cannot be resolved",
                ConnectErrorKind::TimedOut => "it does not answer",
                _ => return anyhow!("{e}"),
            };
            anyhow!(why)
        })
    }
}

/// The server rejects this user.
#[derive(Debug)]
pub(crate) struct Refused;

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the server rejects this login: check --creds, --nkey, or the user in the URL")
    }
}

impl std::error::Error for Refused {}

/// The runtime of one thread of the client.
pub(crate) fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_io().enable_time().build().context("start the bus client")
}

/// Runs a future on a separate thread, which first gives up what it does not need.
pub(crate) fn thread<F, R>(enter: impl FnOnce() + Send + 'static, run: R) -> Result<()>
where
    R: FnOnce() -> F + Send + 'static,
    F: Future<Output = ()>,
{
    let body = move || {
        enter();
        if let Ok(runtime) = runtime() {
            runtime.block_on(run());
        }
    };
    std::thread::Builder::new().name("bus".to_owned()).spawn(body).context("start a thread")?;
    Ok(())
}

/// Lines for the user, without repetitions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sayings(Arc<Mutex<Said>>);

#[derive(Debug, Default)]
struct Said {
    lines: Vec<String>,
    before: Vec<(String, Instant)>,
}

impl Sayings {
    pub(crate) fn say(&self, line: &str) {
        const MOST: usize = 32;
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.before.retain(|(_, at)| at.elapsed() < AGAIN);
        let line = sanitize(line).into_owned();
        if said.before.len() < MOST && !said.before.iter().any(|(l, _)| *l == line) {
            said.before.push((line.clone(), Instant::now()));
            said.lines.push(line);
        }
    }

    pub(crate) fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).lines)
    }

    /// Reports an event of an established connection.
    pub(crate) fn event(&self, event: &Event, gone: &str) {
        match event {
            Event::Disconnected => self.say(&format!("the bus is unreachable: {gone}")),
            Event::ServerError(e) => self.say(&format!("error from the bus: {e}")),
            _ => {}
        }
    }
}

/// The reason why an attempt failed, unless trying again is pointless.
pub(crate) fn or_refused(e: anyhow::Error) -> Result<String> {
    if e.is::<Refused>() { bail!(e) } else { Ok(format!("{e:#}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_shown_without_what_is_secret() {
        let login = Login::new("nats://me:s%40cret@bus-1:4333, tls://[2001:db8::1]").expect("two");
        assert_eq!(login.shown(), "nats://bus-1:4333,tls://[2001:db8::1]:4222");
        assert_eq!(login.user, Some(("me".to_owned(), "s@cret".to_owned())));
        assert!(login.needs_tls, "one server for TLS means TLS for all");
        assert!(!Login::new("nats://bus-1").expect("one").needs_tls);
        for wrong in ["", "http://x", "nats://", "nats://a,,b", "nats://me:secret@:99999"] {
            let said = Login::new(wrong).expect_err(wrong).to_string();
            assert!(!said.contains("secret") && said.contains("nats://HOST:4222"), "{said}");
        }
    }

    #[test]
    fn what_is_no_key_is_told_by_its_flag() {
        let login = Login::new("bus").expect("a server");
        assert!(login.clone().with_seed("nothing").is_err());
        let said = login.with_tls(Some(b"nothing"), None).expect_err("no certificate");
        assert!(format!("{said:#}").contains("--tls-ca"), "{said:#}");
    }

    #[test]
    fn the_same_is_not_said_again_and_again() {
        let sayings = Sayings::default();
        for _ in 0..5 {
            sayings.say("a\u{1b}[2J");
        }
        assert_eq!(sayings.take().len(), 1);
        assert!(sayings.take().is_empty());
    }
}
