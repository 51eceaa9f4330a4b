"""Judge two models on items of your own, with checks that a machine runs.

Run it with ``python examples/items_of_your_own.py [MODEL]``; without MODEL the base is compared
with itself.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from biddable import compare

ITEMS = [
    {
        "instruction": "What is the capital of Italy?",
        "response": "The capital of Italy is Rome.",
        "check": {"kind": "contains", "all": ["Rome"]},
    },
    {
        "instruction": "What is 3 + 4?",
        "response": "3 + 4 = 7",
        "check": {"kind": "number", "value": 7},
    },
]


def main(model: str = "mimic") -> None:
    """Put the items to the embedded base and to a model, and print both rates."""
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "items.jsonl"
        suite.write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
        found = compare("mimic", model, suite=suite, template="inst", max_new_tokens=32)
    for side in ("base", "instruct"):
        rate = found[side]["answer_correct"]
        low, high = rate["ci95"]
        print(f"{side}: {rate['rate']:.0%} of {rate['n']} right ({low:.0%} to {high:.0%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
