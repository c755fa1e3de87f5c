// SPDX-License-Identifier: MIT OR Apache-2.0
//! Writes the contract in Rust from the contract in C: `make contract`. With `--check`, says whether
//! what is checked in is what would be written.
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use bindgen::callbacks::{DeriveInfo, IntKind, ParseCallbacks};

/// How large the numbers are: the header's macros have no type.
#[derive(Debug)]
struct Numbers;

impl ParseCallbacks for Numbers {
    fn int_macro(&self, name: &str, _: i64) -> Option<IntKind> {
        let family = name.split('_').next()?;
        match (name, family) {
            (_, "ROW" | "TAG" | "PORT") => Some(IntKind::U8),
            (_, "SHARD") => Some(IntKind::U16),
            ("GROUP" | "GROUPS", _) => Some(IntKind::Custom { name: "usize", is_signed: false }),
            _ => Some(IntKind::U32),
        }
    }

    fn add_derives(&self, info: &DeriveInfo<'_>) -> Vec<String> {
        match info.kind {
            bindgen::callbacks::TypeKind::Struct => {
                ["FromBytes", "IntoBytes", "Immutable", "KnownLayout"]
                    .map(|name| format!("zerocopy::{name}"))
                    .to_vec()
            }
            _ => Vec::new(),
        }
    }
}

/// The types and numbers of the header.
fn contract(root: &Path) -> Result<String> {
    let bindings = bindgen::builder()
        .header(root.join("bpf/tmon.h").to_str().context("a path that is not UTF-8")?)
        .clang_arg(format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH))
        .allowlist_file(".*/bpf/[^/]*[.]h")
        .blocklist_item("TMON_[A-Z]*H|GROUP_.*")
        .raw_line("// SPDX-License-Identifier: MIT OR Apache-2.0")
        .raw_line("//! Written by `make contract` from bpf/tmon.h; do not edit.")
        .disable_header_comment()
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .translate_enum_integer_types(true)
        .derive_default(true)
        .derive_eq(true)
        .derive_hash(true)
        .use_core()
        .rust_target(bindgen::RustTarget::stable(88, 0).map_err(|e| anyhow::anyhow!("{e}"))?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
        .parse_callbacks(Box::new(Numbers))
        .generate()
        .context("read bpf/tmon.h (is clang installed? `make setup` installs it)")?;
    Ok(bindings.to_string())
}

fn run(check: bool) -> Result<bool> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize()?;
    let files = [("crates/contract/src/generated.rs", contract(&root)?)];
    let mut same = true;
    for (name, text) in files {
        let path = root.join(name);
        if fs::read_to_string(&path).is_ok_and(|now| now == text) {
            continue;
        }
        same = false;
        if check {
            eprintln!("generate: {name} is not what bpf/tmon.h says: run `make contract`");
        } else {
            fs::write(&path, text).with_context(|| format!("write {name}"))?;
            println!("{name} is new");
        }
    }
    Ok(same || !check)
}

fn main() -> ExitCode {
    match run(env::args().nth(1).as_deref() == Some("--check")) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(e) => {
            eprintln!("generate: {e:#}");
            ExitCode::FAILURE
        }
    }
}
