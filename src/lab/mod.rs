// SPDX-License-Identifier: MIT OR Apache-2.0
//! The simulated multi-host overlay (DESIGN section 8): nine hosts and four networks by default,
//! each host a network namespace, all of it created by netlink and removed without a trace.
//!
//! The parameters of a lab are kept only in the lab: its last step notes them in the switch's
//! alias.
pub mod fault;
pub mod plan;
mod run;
pub mod scenario;
pub mod sender;
mod status;
mod traffic;

use std::{os::unix::process::ExitStatusExt, process::Command};

use anyhow::{Context, Result, bail};

pub use self::{
    fault::Fault,
    plan::{Interrupt, LabOptions, PREFIX, Plan, SWITCH, UNDERLAY},
    run::{down, standing, up},
    scenario::Scenario,
    status::{HostStatus, LabStatus, status},
    traffic::{PORT, Summary, Traffic, traffic},
};
use crate::kernel::netns::Netns;

/// Runs a command in a host's namespace, with this process's terminal, and waits for it.
///
/// `host` is `host0`, `0`, or `fabric`. The exit code is the command's, or 128 plus the signal that ended it.
pub fn exec(prefix: &str, host: &str, argv: &[String]) -> Result<i32> {
    plan::check_prefix(prefix)?;
    let Some((program, args)) = argv.split_first() else {
        bail!("there is no command to run in '{host}'")
    };
    let name = if !host.is_empty() && host.bytes().all(|b| b.is_ascii_digit()) {
        format!("{prefix}-host{host}")
    } else {
        format!("{prefix}-{host}")
    };
    if !plan::owns(prefix, &name) {
        bail!("'{}' is not a host of the lab (host0, host1 ... or fabric)", host.escape_debug());
    }
    if !run::traces(prefix)?.contains(&name) {
        bail!("the lab has no {host} now: `tmon lab status` shows its hosts");
    }
    // A child starts in the namespace of the thread that starts it.
    let status = Netns::open(&name)?
        .within(|| Command::new(program).args(args).status())?
        .with_context(|| format!("run '{program}' in {name}"))?;
    Ok(status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)))
}

/// A lab that is removed when this is dropped; for tests and demonstrations.
#[derive(Debug)]
pub struct Lab {
    plan: Plan,
    made: bool,
}

impl Lab {
    /// Creates a lab, or borrows the existing one, which is not removed.
    pub fn up(options: &LabOptions) -> Result<Self> {
        Ok(Lab { made: up(options)?, plan: Plan::new(options)? })
    }

    /// Its names and addresses.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Opens the namespace of host `k`.
    pub fn host(&self, k: u8) -> Result<Netns> {
        Netns::open(&self.plan.host(k))
    }

    /// Removes it and reports errors; does nothing for a borrowed lab.
    pub fn down(mut self) -> Result<()> {
        if std::mem::take(&mut self.made) {
            down(&self.plan.options().prefix).map(drop)
        } else {
            Ok(())
        }
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if self.made {
            // Nobody is left to report to; `tmon lab status` shows what remains.
            let _ = down(&self.plan.options().prefix);
        }
    }
}
