#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Holds the walls between the crates (docs/ARCHITECTURE.md): who may depend on whom, what stays out
of the crates that need no kernel, no circle of imports among the modules of one crate, and one meaning for each
name of a public type.

Asks cargo and reads the sources. Ends with 1 and one line for each wall that does not hold.
"""
import json
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent

# The crates of the workspace that each may name; tests may also name `testkit`.
BELOW = {
    "contract": set(),
    "generate": set(),
    "model": {"contract"},
    "native": {"contract"},
    "feed": {"contract", "model", "native"},
    "export": {"feed", "model"},
    "tui": {"export", "feed", "model"},
    "testkit": {"model", "tmon"},  # the latter for network namespaces, behind a feature
    "tmon": {"contract", "export", "feed", "model", "tui"},
}
# Who builds without clang, libelf and privilege, and what that excludes, however far down.
PURE = ["contract", "model", "native", "feed", "export", "tui", "testkit"]
KERNEL = re.compile(r"libbpf|netlink|bindgen|clang-sys")
SCREEN = re.compile(r"ratatui|crossterm|rustix")
# The model has no time of its own, and nothing outside this process.
OUTSIDE = re.compile(r"std::(fs|process|env|thread)\b|(Instant|SystemTime)::now|\bunsafe\b")


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], cwd=TOP, check=True, capture_output=True, text=True).stdout


def tree(*package: str) -> list[str]:
    """What is built for a package, however far down."""
    return cargo("tree", *package, "--edges=normal,build", "--prefix=none", "--format={p}").splitlines()


def without_tests(text: str) -> str:
    """Tests stand last in a file."""
    return re.split(r"#\[cfg\((?:all\()?test[^\n]*\nmod tests", text)[0]


def code(text: str) -> str:
    return re.sub(r"//[^\n]*", "", without_tests(text))


def modules(source: Path) -> dict[str, set[str]]:
    """The modules of a crate, each with those that it imports. Folders are one module."""
    files = [f for f in source.rglob("*.rs") if f.name not in ("lib.rs", "main.rs", "tests.rs")]
    name = lambda f: f.relative_to(source).parts[0].removesuffix(".rs")
    graph: dict[str, set[str]] = {name(f): set() for f in files}
    for file in files:
        text = code(file.read_text())
        paths = re.findall(r"\bcrate::(\w+)", text)
        for group in re.findall(r"use crate::\{(.*?)\};", text, re.S):
            while re.search(r"\{[^{}]*\}", group):
                group = re.sub(r"\{[^{}]*\}", "", group)
            paths += re.findall(r"(?:^|,)\s*(\w+)", group)
        if file.parent == source:
            paths += re.findall(r"\bsuper::(\w+)", text)
        graph[name(file)] |= {p for p in paths if p in graph and p != name(file)}
    return graph


def defined_twice(sources: list[Path]) -> list[str]:
    """One word per noun: no two public types of the same name. (Tests have their own builders.)"""
    places: dict[str, list[str]] = {}
    for source in sources:
        for file in sorted(source.rglob("*.rs")):
            for name in re.findall(r"^pub (?:struct|enum|trait|type|union) (\w+)", code(file.read_text()), re.M):
                places.setdefault(name, []).append(str(file.relative_to(TOP)))
    return [f"{name} is defined in {' and in '.join(at)}" for name, at in sorted(places.items()) if len(at) > 1]


def main() -> int:
    wrong = []
    packages = json.loads(cargo("metadata", "--format-version=1", "--no-deps"))["packages"]
    for package in packages:
        named = {d["name"] for d in package["dependencies"] if d.get("path") and d["kind"] != "dev"}
        if extra := named - BELOW[package["name"]]:
            wrong.append(f"{package['name']} depends on {', '.join(sorted(extra))}, which is not below it")
    for name in PURE:
        built = tree(f"--package={name}")
        wrong += [f"{name} needs {p}" for p in built if KERNEL.match(p)]
        wrong += [f"{name} needs {p}" for p in built if name != "tui" and SCREEN.match(p)]
    live = tree("--package=tmon", "--no-default-features")
    wrong += [f"tmon without `live` needs {p}" for p in live if KERNEL.match(p)]
    for file in sorted((TOP / "crates/model/src").rglob("*.rs")):
        if found := OUTSIDE.search(code(file.read_text())):
            wrong.append(f"{file.relative_to(TOP)}: {found[0]}, but the model is pure")
    sources = [TOP / "src", *sorted(TOP.glob("crates/*/src"))]
    for source in sources:
        try:
            TopologicalSorter(modules(source)).prepare()
        except CycleError as e:
            wrong.append(f"{source.relative_to(TOP)}: imports go round: {' -> '.join(reversed(e.args[1]))}")
        for file in sorted(source.rglob("*.rs")):
            if file.name != "tests.rs" and re.search(r"^ *(pub )?use super::\*", code(file.read_text()), re.M):
                wrong.append(f"{file.relative_to(TOP)}: use super::*")
    wrong += defined_twice([s for s in sources if s.parent.name not in ("testkit", "generate")])
    print("\n".join(wrong) or f"walls: {len(packages)} crates, {sum(len(modules(s)) for s in sources)} modules")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
