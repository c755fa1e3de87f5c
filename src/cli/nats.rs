// SPDX-License-Identifier: MIT OR Apache-2.0
//! How to reach a NATS server and log in to it: `--nats` and related options.
use std::{
    fs::File,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use clap::Args;

use bus::{Listening, Login, Subjects};
use feed::{
    input,
    remote::{Connect, Focus},
};
use model::units::sanitize;

/// Limit on a file with a secret or certificates.
const MOST_BYTES: u64 = 1 << 20;

/// Which hosts on the bus to listen to.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct BusArgs {
    /// Listen to the hosts that publish to this NATS server: nats://SERVER:4222 or
    /// tls://SERVER:4222, several separated by commas; `env` reads the URL from NATS_URL, @FILE
    /// from a file, which keeps a password off the command line
    #[arg(long, value_name = "URL")]
    nats: Option<String>,
    /// Name of the fleet on the server
    #[arg(long, value_name = "NAME", default_value = "prod", requires = "nats")]
    fleet: String,
    /// Listen only to these hosts: a name, with `*` for one part of it and `>` for all that follow
    /// (`eu.>`)
    #[arg(long, value_name = "HOSTS", value_parser = bus::pattern, requires = "nats")]
    only: Option<String>,
    #[command(flatten)]
    login: LoginArgs,
    /// The hosts that the user looks into.
    #[arg(skip)]
    pub(super) focus: Focus,
}

/// How to log in to the bus.
#[derive(Args, Clone, Debug, Default)]
pub(super) struct LoginArgs {
    /// Log in to the NATS server with this credentials file
    #[arg(long, value_name = "FILE")]
    creds: Option<PathBuf>,
    /// Log in with the user's nkey seed in this file
    #[arg(long, value_name = "FILE", conflicts_with = "creds")]
    nkey: Option<PathBuf>,
    /// Trust only the CA certificates in this PEM file for the NATS server [default: the system's]
    #[arg(long, value_name = "FILE")]
    tls_ca: Option<PathBuf>,
    /// Client certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the client certificate, a PEM file
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

impl BusArgs {
    /// There is a bus to listen to.
    pub(super) fn any(&self) -> bool {
        self.nats.is_some()
    }

    /// How to connect, and the name to show for the bus. Files are read now.
    pub(super) fn prepare(&self, every: Duration) -> Result<Option<(String, Connect)>> {
        let Some(url) = &self.nats else { return Ok(None) };
        let login = self.login.login(url)?;
        let (subjects, only) = (Subjects::of(&self.fleet)?, self.only.clone());
        let listening = Listening { subjects, only, every, focus: self.focus.clone() };
        Ok(Some((login.shown(), bus::listen(login, listening, || {}))))
    }
}

impl LoginArgs {
    /// Reads the server's URL, and the files to log in with.
    pub(super) fn login(&self, url: &str) -> Result<Login> {
        let (urls, seen) = match url.strip_prefix('@') {
            Some(file) => (text(Path::new(file))?, false),
            None if url == "env" => {
                let named = std::env::var("NATS_URL").ok();
                (named.context("NATS_URL is not set")?, false)
            }
            None => (url.to_owned(), true),
        };
        let mut login = Login::new(urls.trim())?;
        ensure!(
            !(seen && login.has_password()),
            "a password on the command line is visible to everybody on this host: put the URL into \
             NATS_URL (`--nats env`) or into a file (`--nats @FILE`)"
        );
        if let Some(file) = &self.creds {
            login = login.with_credentials(text(file)?);
        }
        if let Some(file) = &self.nkey {
            login = login.with_seed(&text(file)?)?;
        }
        let read = |file: &Option<PathBuf>| file.as_deref().map(text).transpose();
        let [ca, own, key] = [read(&self.tls_ca)?, read(&self.tls_cert)?, read(&self.tls_key)?];
        if ca.is_some() || own.is_some() {
            let own = own.as_ref().zip(key.as_ref()).map(|(o, k)| [o.as_bytes(), k.as_bytes()]);
            return login.with_tls(ca.as_deref().map(str::as_bytes), own);
        }
        login.trusting_the_system()
    }
}

fn text(file: &Path) -> Result<String> {
    let shown = || format!("read {}", sanitize(&file.display().to_string()));
    File::open(file).and_then(|f| input::text_of(f, MOST_BYTES)).with_context(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_on_the_command_line_is_refused() {
        let none = LoginArgs::default();
        let said = none.login("nats://me:secret@bus").expect_err("it is refused").to_string();
        assert!(said.contains("NATS_URL") && !said.contains("secret"), "{said}");
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, b"nats://me:secret@bus\n").expect("written");
        let login = none.login(&format!("@{}", file.path().display())).expect("a login");
        assert_eq!(login.shown(), "nats://bus:4222");
        assert!(none.login("@/nowhere").expect_err("no file").to_string().contains("/nowhere"));
    }
}
