"""Measure how much of a reference's wording an answer shares."""

from __future__ import annotations

from typing import Any

from biddable.evaluation.extras import measuring


def rouge_l(text: str, reference: str) -> float:
    """Give ROUGE-L, the F1 of the longest common subsequence of words (Lin, 2004), from 0 to 1.

    Words are folded to lower case and not stemmed, as the package rouge-score does it.

    Example:
        >>> round(rouge_l("The cat sat there.", "The cat sat on the mat."), 2)
        0.6
    """
    scorer: Any = measuring("rouge_score.rouge_scorer", needed_for="likeness to a reference")
    return float(scorer.RougeScorer(["rougeL"]).score(reference, text)["rougeL"].fmeasure)
