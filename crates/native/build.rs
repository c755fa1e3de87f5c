// SPDX-License-Identifier: MIT OR Apache-2.0
//! Compiles the parser, `bpf/`, for the host.

fn main() {
    let mut build = cc::Build::new();
    build
        .file("native.c")
        .include(".")
        .include("../../bpf")
        .define("TMON_NATIVE", None)
        .opt_level(2) // also in debug builds: captures are large
        .warnings(true)
        .warnings_into_errors(false)
        .flag_if_supported("-Wno-unknown-pragmas")
        .flag_if_supported("-Wno-enum-compare")
        // Like the kernel, the programs rely on this: they read words of a packet through pointers
        // of any type.
        .flag("-fno-strict-aliasing")
        .flag_if_supported("-fno-tree-vectorize")
        .flag_if_supported("-fvisibility=hidden");
    if std::env::var_os("CARGO_CFG_FUZZING").is_some() {
        // Clang's flags, which tell libFuzzer how far the parser gets; `make fuzz` links with them.
        build.compiler("clang").flag("-fsanitize=address,fuzzer-no-link");
        build.flag("-fno-omit-frame-pointer");
    }
    build.compile("tmon_native");
    for changed in ["native.c", "native.h", "../../bpf"] {
        println!("cargo:rerun-if-changed={changed}");
    }
}
