// SPDX-License-Identifier: MIT OR Apache-2.0
//! `tmon completions` and `tmon man`: from the same definition as the command line itself.
use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;

use super::*;

#[derive(Args, Debug)]
pub(super) struct Completions {
    /// The shell; bash reads them with `source <(tmon completions bash)`
    shell: Shell,
}

#[derive(Args, Debug)]
pub(super) struct ManPages {
    /// Write a page for each command into this folder, not only tmon(1) to standard output
    #[arg(long, value_name = "FOLDER")]
    dir: Option<PathBuf>,
}

impl Completions {
    pub(super) fn run(&self) -> Result<()> {
        // clap_complete panics where its output is closed.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "tmon", &mut script);
        Ok(io::stdout().write_all(&script)?)
    }
}

impl ManPages {
    pub(super) fn run(&self) -> Result<()> {
        let mut root = Cli::command();
        root.build();
        let Some(dir) = &self.dir else {
            let mut page = Vec::new();
            Man::new(root).render(&mut page)?;
            return Ok(io::stdout().write_all(&page)?);
        };
        write_pages(&root, "tmon", dir)
    }
}

/// One page for a command and for each below it: `tmon-lab-up.1`.
fn write_pages(command: &clap::Command, name: &str, dir: &std::path::Path) -> Result<()> {
    let mut page = Vec::new();
    Man::new(command.clone().name(name.to_owned())).render(&mut page)?;
    let path = dir.join(format!("{name}.1"));
    std::fs::write(&path, page).with_context(|| format!("write {}", path.display()))?;
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        write_pages(below, &format!("{name}-{}", below.get_name()), dir)?;
    }
    Ok(())
}
