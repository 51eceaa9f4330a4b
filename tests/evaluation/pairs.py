"""Make the folder of a finished comparison, as small as a judge or a voting page reads it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

COMPARISON = {
    "schema": 1,
    "base_model": "tiny-base",
    "instruct_model": "tiny-instruct",
    "suite": "s",
    "headline_rings": ["entity"],
}


def write_folder(folder: Path, answers: Sequence[tuple[str, str]], **facts: Any) -> Path:
    """Write what base and instruct said to one item each.

    Args:
        folder: is made.
        answers: of base and instruct.
        facts: keys of each row, changed.
    """
    folder.mkdir()
    rows = [
        {
            "id": f"i{n}",
            "category": "c",
            "ring": "entity",
            "instruction": f"Question {n}?",
            "cluster": f"item i{n}",
            "base": {"output": base},
            "instruct": {"output": instruct},
            **facts,
        }
        for n, (base, instruct) in enumerate(answers)
    ]
    (folder / "comparison.json").write_text(json.dumps(COMPARISON))
    (folder / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder
