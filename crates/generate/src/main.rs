// SPDX-License-Identifier: MIT OR Apache-2.0
//! Generates the contract in Rust from the contract in C: `make contract`. With `--check`, it
//! reports whether the checked-in files are up to date.
use std::{
    cell::RefCell,
    env, fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    rc::Rc,
};

use anyhow::{Context, Result, ensure};
use bindgen::callbacks::{DeriveInfo, EnumVariantValue, IntKind, ParseCallbacks, TypeKind};

/// Bindgen's options for the header, and its output.
#[derive(Debug, Default)]
struct Header {
    /// Enumerations and the names of their numbers, in the header's order.
    names: Rc<RefCell<Vec<(String, String)>>>,
}

impl ParseCallbacks for Header {
    /// The header's macros have no type: this gives their size.
    fn int_macro(&self, name: &str, _: i64) -> Option<IntKind> {
        let family = name.split('_').next()?;
        match (name, family) {
            (_, "ROW" | "TAG" | "PORT" | "PARAMETER") => Some(IntKind::U8),
            (_, "SHARD") => Some(IntKind::U16),
            ("GROUP" | "GROUPS", _) => Some(IntKind::Custom { name: "usize", is_signed: false }),
            _ => Some(IntKind::U32),
        }
    }

    fn add_derives(&self, info: &DeriveInfo<'_>) -> Vec<String> {
        match info.kind {
            TypeKind::Struct => ["FromBytes", "IntoBytes", "Immutable", "KnownLayout"]
                .map(|name| format!("zerocopy::{name}"))
                .to_vec(),
            _ => Vec::new(),
        }
    }

    fn enum_variant_name(
        &self,
        of: Option<&str>,
        name: &str,
        _: EnumVariantValue,
    ) -> Option<String> {
        if let Some(of) = of.and_then(|of| of.strip_prefix("enum ")) {
            self.names.borrow_mut().push((of.to_owned(), name.to_owned()));
        }
        None
    }
}

/// The output of the C preprocessor for this text, with the headers of `bpf/`.
fn preprocess(root: &Path, text: &str) -> Result<String> {
    let mut clang = Command::new("clang")
        .args(["-E", "-P", "-x", "c", "-I"])
        .arg(root.join("bpf"))
        .arg("-")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("run clang (`make setup` installs it)")?;
    clang.stdin.take().context("clang reads")?.write_all(text.as_bytes())?;
    let output = clang.wait_with_output()?;
    ensure!(output.status.success(), "clang cannot read bpf/kinds.h");
    Ok(String::from_utf8(output.stdout)?)
}

/// The rows of `bpf/kinds.h` as Rust: an invocation of the contract's macro `kinds`.
fn kinds(root: &Path) -> Result<String> {
    let rows = preprocess(
        root,
        r#"#include "kinds.h"
#define NO_PORTS None
#define PORTS(...) Some(&[__VA_ARGS__])
#define KIND(NAME, variant, number, name, ports, whose, protocols, id, state, reference, title) \
    ROW variant = number, name, ports, whose, protocols, id, reference, title;
KINDS_OF(KIND)"#,
    )?;
    let rows: String =
        rows.split("ROW ").skip(1).map(|row| format!("    {}\n", row.trim())).collect();
    Ok(format!("\nkinds! {{\n{rows}}}\n"))
}

/// The names of an enumeration's numbers in lower case without its prefix, as users see them.
fn words(names: &[(String, String)], of: &str) -> String {
    let prefix = format!("{}_", of.to_uppercase());
    let words: Vec<_> = names
        .iter()
        .filter(|(kind, _)| kind == of)
        .filter_map(|(_, name)| Some(format!("{:?}", name.strip_prefix(&prefix)?.to_lowercase())))
        .collect();
    let (name, list) = (of.to_uppercase(), words.join(", "));
    format!("pub const {name}_NAMES: [&str; {}] = [{list}];\n", words.len())
}

/// What another version of the program must agree on to read pinned tables.
fn layout(rust: &str) -> String {
    const MEANT: &[&str] = &[
        "CELL",
        "GROUP",
        "HOOK",
        "INNER_",
        "KIND_",
        "OWNER_",
        "PARAMETER_",
        "PORT_",
        "REASON_",
        "ROW_",
        "SHARD_",
        "STOP_",
        "TAG_",
    ];
    let constant = |line: &str| {
        let (name, rest) = line.strip_prefix("pub const ")?.split_once(':')?;
        let (_, value) = rest.split_once(" = ")?;
        MEANT
            .iter()
            .any(|m| name.starts_with(m))
            .then(|| format!("{name} {}", value.trim_end_matches(';')))
    };
    // bindgen's assertions: ["Size of T"][size_of::<T>() - 8usize]
    let flat: String = rust.lines().map(str::trim).collect();
    let facts = flat.split("[\"").skip(1).filter_map(|fact| {
        let (what, rest) = fact.split_once('"')?;
        let (_, n) = rest.split_once(" - ")?;
        Some(format!("{what}: {}", n.split_once("usize")?.0))
    });
    let lines: Vec<_> = facts.chain(rust.lines().filter_map(constant)).collect();
    let lines: String = lines.iter().map(|l| format!("    {l:?},\n")).collect();
    format!("pub const LAYOUT: &[&str] = &[\n{lines}];\n")
}

/// The types and numbers of the header.
fn contract(root: &Path) -> Result<String> {
    let header = Header::default();
    let names = Rc::clone(&header.names);
    let bindings = bindgen::builder()
        .header(root.join("bpf/tmon.h").to_str().context("a path that is not UTF-8")?)
        .clang_arg(format!("-I/usr/include/{}-linux-gnu", env::consts::ARCH))
        .allowlist_file(".*/bpf/[^/]*[.]h")
        .blocklist_item("TMON_[A-Z]*H|PLACE_.*")
        .raw_line("// SPDX-License-Identifier: MIT OR Apache-2.0")
        .raw_line("// Written by `make contract` from bpf/tmon.h and bpf/kinds.h; do not edit.")
        .disable_header_comment()
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .translate_enum_integer_types(true)
        .derive_default(true)
        .derive_eq(true)
        .derive_hash(true)
        .no_default("ports") // arrays this long have none
        .use_core()
        .rust_target(bindgen::RustTarget::stable(88, 0).map_err(|e| anyhow::anyhow!("{e}"))?)
        .rust_edition(bindgen::RustEdition::Edition2024)
        .formatter(bindgen::Formatter::Prettyplease)
        .parse_callbacks(Box::new(header))
        .generate()
        .context("read bpf/tmon.h (is clang installed? `make setup` installs it)")?;
    let rust = bindings.to_string();
    let names = names.borrow();
    let words = words(&names, "reason") + &words(&names, "stop");
    Ok(rust.clone() + &words + &layout(&rust) + &kinds(root)?)
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
            eprintln!(
                "generate: {name} is not what bpf/tmon.h and bpf/kinds.h say: run `make contract`"
            );
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
