// SPDX-License-Identifier: MIT OR Apache-2.0
//! The `tmon` command; see the library for everything it does.
use std::process::ExitCode;

fn main() -> ExitCode {
    tmon::cli::run(std::env::args_os())
}
