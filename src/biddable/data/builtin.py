"""Give the instruction data that comes with the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from biddable.data.readers import read_rows
from biddable.errors import ConfigError, nearest

SPLITS = ("train", "held_out")
_FOLDER = Path(__file__).parents[1] / "assets" / "data"


def create_instruction_dataset(name: str = "mimic", split: str = "train") -> list[dict[str, Any]]:
    """Read built-in examples.

    Args:
        name: ``mimic``, about the world that the embedded base knows, or ``starter``, a small
            general set for real models, written row by row.
        split: ``train``, or ``held_out``, which shares no entity with it.

    Returns:
        Rows with ``instruction``, ``response`` and ``category``; held-out ones carry their check.
        Those to train on in ``starter`` have ``messages`` as well, which hold all turns; the
        instruction and the response are the last two.

    Raises:
        ConfigError: there is no such data.
    """
    return [_with_last_turns(row) for _, row in read_rows(builtin_path(name, split))]


def builtin_path(name: str, split: str = "train") -> Path:
    """Find the file of built-in examples.

    Raises:
        ConfigError: there is no such data.
    """
    if split not in SPLITS:
        raise ConfigError(
            f'no split "{split}"; known: {", ".join(SPLITS)}.{nearest(split, SPLITS)}'
        )
    names = builtin_names(split)
    if name not in names:
        use = "to train on" if split == "train" else "to judge models on"
        raise ConfigError(
            f'no built-in data "{name}" {use}; known: {", ".join(names)}.{nearest(name, names)}'
            " Your own file is read by read_conversations."
        )
    return _FOLDER / f"{name}_{split}.jsonl"


def builtin_names(split: str = "train") -> list[str]:
    """List the names of the built-in data that have a split, sorted.

    A suite that nothing is trained on has ``held_out`` alone.
    """
    ending = f"_{split}.jsonl"
    return sorted(path.name.removesuffix(ending) for path in _FOLDER.glob(f"*{ending}"))


def _with_last_turns(row: dict[str, Any]) -> dict[str, Any]:
    """Name the last turns of a conversation as those of a row of one turn are named."""
    if "messages" not in row:
        return row
    asked, answered = (message["content"] for message in row["messages"][-2:])
    return {"category": row["category"], "instruction": asked, "response": answered, **row}
