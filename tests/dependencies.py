#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""Holds every crate that tmon is built from to the licences and sources of deny.toml, without cargo-deny.

Asks cargo, so it needs no network beyond what the build needs. Ends with 1 and one line for
each crate that does not fit.
"""
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

TOP = Path(__file__).resolve().parent.parent


def permitted(expression: str, allowed: set[str]) -> bool:
    """Whether an SPDX expression can be met by the allowed licences alone; `/` is an old form of OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))

    def alternatives() -> bool:
        met = conjunction()
        while tokens and tokens[0] == "OR":
            tokens.pop(0)
            met = conjunction() or met
        return met

    def conjunction() -> bool:
        met = term()
        while tokens and tokens[0] == "AND":
            tokens.pop(0)
            met = term() and met
        return met

    def term() -> bool:
        token = tokens.pop(0)
        if token == "(":
            met = alternatives()
            tokens.pop(0)
            return met
        if tokens and tokens[0] == "WITH":  # an exception only adds permissions
            del tokens[:2]
        return token in allowed

    met = alternatives()
    return met and not tokens


def main() -> int:
    rules = tomllib.loads((TOP / "deny.toml").read_text())
    allowed = set(rules["licenses"]["allow"])
    registries = tuple("registry+" + r for r in rules["sources"]["allow-registry"])

    def cargo(*arguments: str) -> str:
        return subprocess.run(["cargo", *arguments], cwd=TOP, check=True, capture_output=True, text=True).stdout

    # Metadata also lists optional crates that nobody enables; the tree has what can be built.
    tree = cargo("tree", "--workspace", "--all-features", "--target=all", "--prefix=none", "--format={p}")
    built = {tuple(line.split()[:2]) for line in tree.splitlines() if line}
    packages = json.loads(cargo("metadata", "--format-version=1", "--locked", "--all-features"))["packages"]
    packages = [p for p in packages if (p["name"], "v" + p["version"]) in built]
    wrong = []
    for package in packages:
        name = f"{package['name']} {package['version']}"
        if package["source"] is not None and not package["source"].startswith(registries):
            wrong.append(f"{name}: from {package['source']}, which deny.toml does not allow")
        licence = package["license"]
        if not licence:
            wrong.append(f"{name}: says no licence (Cargo.toml's `license`)")
        elif not permitted(licence, allowed):
            wrong.append(f"{name}: {licence}, which deny.toml does not allow")
    print("\n".join(wrong) or f"dependencies: {len(packages)} crates, licences and sources as in deny.toml")
    return 1 if wrong else 0


if __name__ == "__main__":
    assert permitted("MIT OR GPL-3.0", {"MIT"}) and not permitted("MIT AND GPL-3.0", {"MIT"})
    assert permitted("(MIT OR GPL-3.0) AND Zlib", {"MIT", "Zlib"}) and permitted("MIT/Apache-2.0", {"MIT"})
    sys.exit(main())
