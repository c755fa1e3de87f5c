#!/usr/bin/env python3
# SPDX-License-Identifier: MIT OR Apache-2.0
"""grafana.py DASHBOARD: reads a dashboard into the models of Grafana's foundation SDK, and back.

What the models do not know they drop, so whatever does not come back is no part of a dashboard.
"""
import json
import sys

from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import Dashboard


def lost(before, after, at="$"):
    """The paths in `before` that are missing or different in `after`."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key, value in before.items():
            if key not in after:
                yield f"{at}.{key}"
            else:
                yield from lost(value, after[key], f"{at}.{key}")
    elif isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        for i, (a, b) in enumerate(zip(before, after)):
            yield from lost(a, b, f"{at}[{i}]")
    elif before != after:
        yield at


text = open(sys.argv[1], encoding="utf-8").read()
read = Dashboard.from_json(json.loads(text))
written = json.loads(JSONEncoder(sort_keys=True).encode(read))
places = list(lost(json.loads(text), written))
print(*places, sep="\n")
sys.exit(1 if places else 0)
