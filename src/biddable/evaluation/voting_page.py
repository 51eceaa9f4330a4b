"""Write a page on which people choose between two answers without knowing whose they are.

One HTML file that loads nothing. It names answers by salted hashes; which side an answer is of
stands in a key file beside it, which is not given to those who vote.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from biddable.counting import counted
from biddable.errors import EvaluationError
from biddable.evaluation.answer_pairs import SAMPLES, AnswerPair, TwoSides
from biddable.manifest import hash_file, hash_text, write_json, write_text

PAGE, KEY = "vote.html", "vote-key.json"
NUM_ITEMS = 50

_LENGTH = 16  # hexadecimal digits of a name


def write_page(
    sides: TwoSides, *, num_items: int | None = NUM_ITEMS, seed: int = 0
) -> dict[str, Any]:
    """Write vote.html, and the key without which its votes cannot be counted.

    Items and sides are shuffled; each side stands left on half of the items. Items to which both
    sides said the same are left out and counted.

    Args:
        sides: of ``read_two_sides``.
        num_items: how many pairs are drawn; None for all.
        seed: of the draw and of the order.

    Returns:
        What the key says.

    Raises:
        EvaluationError: there is nothing to choose between.
        CheckpointError: the folder cannot be written.
    """
    drawn = sides.some(num_items, seed=seed)
    pairs = [pair for pair in drawn if not pair.is_same]
    if not pairs:
        raise EvaluationError(
            f"{sides.folder}: {sides.before} and {sides.after} gave the same answers to all of"
            f" {counted(len(drawn), 'item')}; there is nothing to vote on."
        )
    salt = secrets.token_hex(16)
    data, items = _shuffled(pairs, sides, salt=salt, seed=seed)
    key = {
        "schema": 1,
        "page": name_of(salt, "page"),
        "suite": sides.suite,
        "sides": {"before": sides.before, "after": sides.after},
        "models": sides.models,
        "seed": seed,
        "salt": salt,
        "samples_sha256": hash_file(sides.folder / SAMPLES),
        "num_identical": len(drawn) - len(pairs),
        "items": items,
    }
    # the key first: a page without it would collect votes that nobody can count
    write_json(sides.folder / KEY, key)
    write_text(sides.folder / PAGE, _render({"page": key["page"], "items": data}))
    return key


def name_of(salt: str, *parts: str) -> str:
    """Name something so that the name tells nothing without the salt.

    Example:
        >>> name_of("s", "item-1", "base") == name_of("s", "item-1", "instruct")
        False
    """
    return hash_text("\n".join((salt, *parts)))[:_LENGTH]


def _shuffled(
    pairs: Sequence[AnswerPair], sides: TwoSides, *, salt: str, seed: int
) -> tuple[list[dict[str, Any]], dict[str, dict[str, str]]]:
    """Give what the page shows, in its order, and what the key tells of each item."""
    draw = random.Random(seed)
    order = draw.sample(list(pairs), len(pairs))
    lefts = [sides.after, sides.before] * (len(pairs) // 2 + 1)
    draw.shuffle(lefts := lefts[: len(pairs)])
    data, items = [], {}
    for pair, left in zip(order, lefts, strict=True):
        texts = {sides.before: pair.before, sides.after: pair.after}
        shown = [
            {"answer": name_of(salt, pair.id, side), "text": texts[side]}
            for side in sorted(texts, key=lambda side: side != left)
        ]
        item = name_of(salt, pair.id)
        data.append(
            {"item": item, "instruction": pair.instruction, "left": shown[0], "right": shown[1]}
        )
        items[item] = {"id": pair.id, "cluster": pair.cluster, "left": left}
    return data, items


def _render(data: dict[str, Any]) -> str:
    environment = Environment(
        loader=PackageLoader("biddable.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    return environment.get_template("vote.html.j2").render(data=data)
