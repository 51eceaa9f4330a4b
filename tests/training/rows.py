"""Rows that a tiny model can learn, encoded without a template."""

from __future__ import annotations

import random

from biddable.data.encoding import Example


def random_examples(num_rows: int, *, seed: int = 0, vocab_size: int = 300) -> list[Example]:
    """Make rows of 4 to 20 ids, the later part of each learned."""
    rng = random.Random(seed)
    examples = []
    for number in range(num_rows):
        ids = [rng.randrange(vocab_size) for _ in range(rng.randint(4, 20))]
        prompt = rng.randint(1, len(ids) - 2)
        mask = [False] * prompt + [True] * (len(ids) - prompt)
        examples.append(Example(ids, mask, f"rows.jsonl:{number + 1}"))
    return examples


def countable_examples(num_rows: int) -> list[Example]:
    """Make rows that follow a rule: the answer counts on from the prompt's last id."""
    return [
        Example([n, n + 1, n + 2, n + 3, 0], [False, False, True, True, True], f"rows.jsonl:{n}")
        for n in range(1, num_rows + 1)
    ]
