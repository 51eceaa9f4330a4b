"""Judge two models on items of your own, with checks that a machine runs.

Run it with ``python examples/items_of_your_own.py [MODEL]``; without MODEL it takes the run of
``biddable train examples/mimic_lora.yaml`` or of ``biddable demo``, if one is here.
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


RUNS = ("runs/mimic-lora", "runs/demo")
SIDES = {
    "base": "mimic, the bare prompt",
    "base_templated": "mimic, in the template",
    "base_fewshot": "mimic, three examples first",
}


def main(model: str | None = None) -> None:
    """Put the items to the embedded base, asked in three ways, and to a model; print the rates."""
    if model is None:
        model = next((run for run in RUNS if Path(run).is_dir()), "mimic")
    if model == "mimic":
        print("No tuned model was named and no run is here, so both are the base. First tune it:")
        print("  biddable train examples/mimic_lora.yaml")
    with tempfile.TemporaryDirectory() as folder:
        suite = Path(folder) / "items.jsonl"
        suite.write_text("".join(json.dumps(item) + "\n" for item in ITEMS), encoding="utf-8")
        found = compare("mimic", model, suite=suite, template="inst", max_new_tokens=32)
    for side, told in {**SIDES, "instruct": f"{model}, in the template"}.items():
        rate = found[side]["answer_correct"]
        low, high = rate["ci95"]
        print(f"{told}: {rate['rate']:.0%} of {rate['n']} right ({low:.0%} to {high:.0%})")


if __name__ == "__main__":
    main(*sys.argv[1:])
