"""Measure how long and how varied a model's answers are.

distinct-n is the number of different n-grams over the number of words (Li et al. 2016, A
Diversity-Promoting Objective Function, arXiv 1510.03055). It falls as text grows longer, whoever
writes it: words repeat. So it is told a second time over as many words of each side.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from biddable.evaluation.words import words_of

ORDERS = (1, 2, 3)
NUM_DRAWS = 20


def measure_diversity(outputs: Mapping[str, Sequence[str]]) -> dict[str, Any] | None:
    """Describe the outputs of several sides to the same prompts.

    Args:
        outputs: of each side, by its name.

    Returns:
        For each side its ``words`` and ``distinct``; ``distinct_same_length`` is over
        ``same_length_words`` words of each, the mean of 20 draws. None if no side wrote a word.
    """
    sides = {name: [words_of(text) for text in texts] for name, texts in outputs.items()}
    totals = {name: sum(map(len, answers)) for name, answers in sides.items()}
    common = min((total for total in totals.values() if total), default=0)
    if not common:
        return None
    block: dict[str, Any] = {"same_length_words": common}
    for name, answers in sides.items():
        block[name] = {
            "words": describe_lengths([len(words) for words in answers]),
            "distinct": distinct(answers),
            "distinct_same_length": distinct_of_length(answers, common),
        }
    return block


def describe_lengths(lengths: Sequence[int]) -> dict[str, float]:
    """Describe how many words answers have, for the report's every mention of it.

    Args:
        lengths: words of each, one or more.

    Example:
        >>> describe_lengths([1, 8])["median"]
        4.5
    """
    return {
        "total": sum(lengths),
        "mean": float(np.mean(lengths)),
        "median": float(np.median(lengths)),
        "p95": float(np.quantile(lengths, 0.95)),
    }


def distinct(answers: Sequence[Sequence[str]]) -> dict[str, float] | None:
    """Count different n-grams for n = 1, 2, 3, over the number of words; none spans two answers.

    Args:
        answers: words of each.

    Returns:
        By n, as text; None without words.

    Example:
        >>> distinct([["a", "b"], ["a", "b"]])
        {'1': 0.5, '2': 0.25, '3': 0.0}
    """
    num_words = sum(map(len, answers))
    if not num_words:
        return None
    return {
        str(n): len(
            {tuple(words[k : k + n]) for words in answers for k in range(len(words) - n + 1)}
        )
        / num_words
        for n in ORDERS
    }


def distinct_of_length(answers: Sequence[Sequence[str]], num_words: int) -> dict[str, float] | None:
    """Count as ``distinct`` does, over so many words of answers in a random order.

    Args:
        answers: words of each.
        num_words: where the text is cut; less is there if the answers are shorter.

    Returns:
        The mean of 20 seeded orders; None without words.
    """
    draws = random.Random(0)
    found = []
    for _ in range(NUM_DRAWS):
        order, left, taken = list(answers), num_words, []
        draws.shuffle(order)
        for words in order:
            taken.append(words[:left])
            left -= len(taken[-1])
        found.append(distinct(taken))
    known = [one for one in found if one is not None]
    return {key: float(np.mean([one[key] for one in known])) for key in known[0]} if known else None
