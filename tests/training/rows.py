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


def questions_on_documents(num_documents: int, num_questions: int) -> list[Example]:
    """Make rows of 48 ids of a document and 6 of their own, no two of a document side by side."""
    rng = random.Random(0)
    documents = [[n, *(rng.randrange(300) for _ in range(47))] for n in range(num_documents)]
    return [
        Example(
            [*document, question, *(rng.randrange(300) for _ in range(5))],
            [False] * 50 + [True] * 4,
            f"rows.jsonl:{question}:{document[0]}",
        )
        for question in range(num_questions)
        for document in documents
    ]
