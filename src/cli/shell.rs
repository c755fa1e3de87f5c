// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon completions` and `tmon man`, generated from the definition of the command line.
use std::{
    ffi::OsString,
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
};

use anyhow::{Context, Result};
use clap::{Args, CommandFactory};
use clap_complete::{
    Shell,
    env::{CompleteEnv, Shells},
};
use clap_mangen::Man;

use super::{Cli, TOOL, out};

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell. For bash: `source <(tmon completions bash)`. Interfaces, namespaces, ids and
    /// hosts are looked up at the time of completion
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManPages {
    /// Write a page for each command to this folder, instead of tmon(1) to standard output
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self) -> Result<()> {
        let mut script = Vec::new();
        if let Some(shell) = Shells::builtins().completer(&self.shell.to_string()) {
            shell.write_registration(VARIABLE, "tmon", "tmon", "tmon", &mut script)?;
        }
        Ok(out::raw().write_all(&script)?)
    }
}

/// The environment variable by which a shell's script requests completions.
const VARIABLE: &str = "TMON_COMPLETE";

/// Completes a command line, if a shell's script requests it. Returns whether it did.
pub(super) fn completes(args: &[OsString]) -> bool {
    let complete = CompleteEnv::with_factory(Cli::command).var(VARIABLE);
    !args.is_empty() && complete.try_complete(args.iter().cloned(), None).unwrap_or(true)
}

impl ManPages {
    pub(super) fn run(&self) -> Result<()> {
        let mut root = Cli::command();
        root.build();
        let Some(dir) = &self.dir else {
            return Ok(out::raw().write_all(page(root)?.as_bytes())?);
        };
        write_pages(&root, "tmon", dir)
    }
}

/// The manual page of a command.
fn page(command: clap::Command) -> Result<String> {
    let mut page = Vec::new();
    // Without `manual` the footer would lack its middle, and lint takes the source for the date.
    Man::new(command).date(released()).source(TOOL).manual("tmon").render(&mut page)?;
    // Breaks around an empty line do nothing, and mandoc warns of them.
    Ok(String::from_utf8(page)?.replace(".br\n\n.br\n", "\n"))
}

/// The date of this version in the change log, so that the pages of a release are reproducible.
fn released() -> &'static str {
    const CHANGES: &str = include_str!("../../CHANGELOG.md");
    let heading = CHANGES.lines().find_map(|l| l.strip_prefix("## ")).unwrap_or_default();
    let is_date = |word: &&str| word.parse::<jiff::civil::Date>().is_ok();
    heading.split([' ', ',', '(', ')']).find(is_date).unwrap_or_default()
}

/// Writes a page to a temporary file that then replaces an existing page.
fn write_page(dir: &std::path::Path, path: &std::path::Path, page: &str) -> io::Result<()> {
    let mut file = tempfile::Builder::new()
        .permissions(std::fs::Permissions::from_mode(0o666)) // less what umask takes away
        .tempfile_in(dir)?;
    file.write_all(page.as_bytes())?;
    file.persist(path).map(drop).map_err(|e| e.error)
}

/// Writes a page for a command and for each of its subcommands: `tmon-lab-up.1`.
fn write_pages(command: &clap::Command, name: &str, dir: &std::path::Path) -> Result<()> {
    let page = page(command.clone().name(name.to_owned()))?;
    let path = dir.join(format!("{name}.1"));
    write_page(dir, &path, &page).with_context(|| format!("write {}", path.display()))?;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        write_pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}
