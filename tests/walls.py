#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Holds the walls between the crates (docs/ARCHITECTURE.md): who may depend on whom, what stays out
of the crates that need no kernel, no circle of imports among the modules of a crate or of a folder of the
program, and one meaning for each name of a public type.

Asks cargo and reads the sources. Ends with 1 and one line for each wall that does not hold.
"""
import json
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent

# The crates of the workspace that each crate may use; tests may also use `testkit`.
BELOW = {
    "contract": set(),
    "generate": set(),
    "model": {"contract"},
    "native": {"contract"},
    "feed": {"contract", "model", "native"},
    "bus": {"feed", "model"},
    "export": {"feed", "model"},
    "tui": {"export", "feed", "model"},
    "testkit": {"model", "tmon"},  # the latter for network namespaces, behind a feature
    "tmon": {"bus", "contract", "export", "feed", "model", "tui"},
}
# Crates that build without clang, libelf and privileges, and what that excludes, transitively.
PURE = ["contract", "model", "native", "feed", "bus", "export", "tui", "testkit"]
KERNEL = re.compile(r"libbpf|netlink|bindgen|clang-sys")
SCREEN = re.compile(r"ratatui|crossterm|rustix")
# Folders of the program whose modules are checked individually.
ROOMS = ["kernel", "cli", "lab"]
# The model has no clock of its own, and uses nothing outside this process.
OUTSIDE = re.compile(r"std::(fs|process|env|thread)\b|(Instant|SystemTime)::now|\bunsafe\b")


def cargo(*arguments: str) -> str:
    return subprocess.run(["cargo", *arguments], cwd=TOP, check=True, capture_output=True, text=True).stdout


def tree(*package: str) -> list[str]:
    """All packages that are built for a package, transitively."""
    return cargo("tree", *package, "--edges=normal,build", "--prefix=none", "--format={p}").splitlines()


def without_tests(text: str) -> str:
    """The code without its tests, which are last in a file."""
    return re.split(r"#\[cfg\((?:all\()?test[^\n]*\nmod tests", text)[0]


def code(text: str) -> str:
    return re.sub(r"//[^\n]*", "", without_tests(text))


def split(group: str) -> list[str]:
    """The parts of a group of imports, at its commas and not at those of groups inside."""
    parts, depth = [""], 0
    for c in group:
        depth += {"{": 1, "}": -1}.get(c, 0)
        if c == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += c
    return [p.strip() for p in parts if p.strip()]


def expanded(tree: str) -> list[str]:
    """The paths of an import, each by itself."""
    head, brace, group = tree.partition("{")
    if not brace:
        return [tree]
    return [head + path for part in split(group[: group.rindex("}")]) for path in expanded(part)]


def paths(file: Path, source: Path) -> set[str]:
    """The paths within its own crate that a file names, from the crate's root."""
    text = code(file.read_text())
    here = list(file.relative_to(source).with_suffix("").parts)
    here = here[:-1] if here[-1] in ("mod", "lib") else here
    found = set(re.findall(r"\b((?:crate|super)(?:::\w+)+)", text))
    for tree in re.findall(r"\buse ((?:crate|super)::[^;]*);", text):
        found |= set(expanded(re.sub(r"\s+", "", tree)))
    absolute = set()
    for path in found:
        words = path.split("::")
        base = here[: len(here) - words.count("super")] if words[0] == "super" else []
        absolute.add("::".join(base + [w for w in words if w not in ("crate", "super", "self")]))
    return absolute


def modules(room: Path, source: Path) -> dict[str, set[str]]:
    """The modules in a folder of a crate, each with those that it imports. A folder below is one module."""
    files = [f for f in room.rglob("*.rs") if f.name != "tests.rs"]
    files = [f for f in files if f.parent != room or f.name not in ("lib.rs", "main.rs", "mod.rs")]
    name = lambda f: f.relative_to(room).parts[0].removesuffix(".rs")
    prefix = "".join(f"{part}::" for part in room.relative_to(source).parts)
    graph: dict[str, set[str]] = {name(f): set() for f in files}
    for file in files:
        named = [p.removeprefix(prefix).split("::")[0] for p in paths(file, source) if p.startswith(prefix)]
        graph[name(file)] |= {n for n in named if n in graph and n != name(file)}
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
    rooms = [(s, s) for s in sources] + [(TOP / "src" / r, TOP / "src") for r in ROOMS]
    graphs = {room: modules(room, source) for room, source in rooms}
    for room, graph in graphs.items():
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as e:
            wrong.append(f"{room.relative_to(TOP)}: imports go round: {' -> '.join(reversed(e.args[1]))}")
    for source in sources:
        for file in sorted(source.rglob("*.rs")):
            if file.name != "tests.rs" and re.search(r"^ *(pub )?use super::\*", code(file.read_text()), re.M):
                wrong.append(f"{file.relative_to(TOP)}: use super::*")
    wrong += defined_twice([s for s in sources if s.parent.name not in ("testkit", "generate")])
    print("\n".join(wrong) or f"walls: {len(packages)} crates, {sum(map(len, graphs.values()))} modules")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
