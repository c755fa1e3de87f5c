// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles `bpf/*.bpf.c` and generates their skeletons, from which all shared types come, as well
//! as the programs that `cargo bench` compares them with, which are in no other binary. Without the
//! feature `live` there are no programs, and there is nothing to compile.
#![allow(clippy::print_stdout, clippy::print_stderr)] // what cargo reads

#[cfg(not(feature = "live"))]
fn main() {}

#[cfg(feature = "live")]
fn main() -> anyhow::Result<()> {
    use std::{env, path::PathBuf};

    use anyhow::Context;
    use libbpf_cargo::SkeletonBuilder;

    let out = PathBuf::from(env::var_os("OUT_DIR").context("OUT_DIR is set by cargo")?);
    // Line information contains the paths of sources: nothing of this machine goes into the
    // program.
    let sources = format!("-ffile-prefix-map={}=tmon", env::var("CARGO_MANIFEST_DIR")?);
    // libbpf's headers from libbpf-sys: libbpf-cargo unpacks them into a folder with a different
    // name each time.
    let headers = env::var("DEP_BPF_INCLUDE").context("libbpf-sys says where its headers are")?;
    let libbpf = format!("-ffile-prefix-map={headers}=libbpf");
    for (source, skeleton) in [
        ("bpf/tmon.bpf.c", "tmon.skel.rs"),
        ("bpf/entry.bpf.c", "entry.skel.rs"),
        ("bpf/probe.bpf.c", "probe.skel.rs"),
        ("bpf/rtt.bpf.c", "rtt.skel.rs"),
        ("bpf/drops.bpf.c", "drops.skel.rs"),
        ("benches/cost/ancestor.bpf.c", "ancestor.skel.rs"),
    ] {
        SkeletonBuilder::new()
            .source(source)
            // The object by reference and unformatted: as text in the skeleton, there would be 14
            // MB to compile.
            .reference_obj(true)
            .rustfmt("cat")
            // Debian keeps asm/types.h in a per-architecture folder that `-target bpf` does not search.
            .clang_args([
                "-Wall",
                "-Wextra",
                "-Werror",
                "-mcpu=v3",
                &sources,
                &libbpf,
                "-I",
                &headers,
                "-idirafter",
                &format!("/usr/include/{}-linux-gnu", env::consts::ARCH),
            ])
            .build_and_generate(out.join(skeleton))
            .with_context(|| {
                format!("compile {source} (is clang installed? `make setup` installs it)")
            })?;
        println!("cargo:rerun-if-changed={source}");
    }
    println!("cargo:rerun-if-changed=bpf");
    Ok(())
}
