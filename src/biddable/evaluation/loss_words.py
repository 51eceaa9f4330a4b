"""Put the loss on reference answers into words and rows, for the terminal and the reports alike.

Nats per token have one unit only where both sides count the same tokens; elsewhere sides are set
against each other by bits per byte of the answers, and nats are shown side by side.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from biddable.counting import counted

_FIGURES = (
    ("answer_loss", "answer loss, nats per token"),
    ("answer_bits_per_byte", "answer loss, bits per byte"),
)


def loss_in_a_sentence(comparison: Mapping[str, Any]) -> str:
    """Say how the loss on reference answers changed; empty where it is not known.

    Example:
        >>> change = {"from": "base", "before": 1.405, "after": 1.133, "n": 12}
        >>> change |= {"difference": -0.272, "ci95": [-0.4, -0.1]}
        >>> for part in loss_in_a_sentence({"answer_loss_change": change}).split(": "):
        ...     print(part)
        The loss on 12 reference answers went from 1.405 (base) to 1.133 nats per token
        -0.272, 95 % interval -0.400 to -0.100, paired by item.
    """
    change = comparison.get("answer_loss_change")
    if not change:
        return ""
    form = ", in the same template" if change["from"] == "base_templated" else ""
    unit = "nats per token"
    if change.get("same_tokens") is False:
        change, unit = change["bits_per_byte"], "bits per byte"
    interval = "no interval can be told"
    if change["ci95"]:
        low, high = change["ci95"]
        interval = f"95 % interval {low:+.3f} to {high:+.3f}, paired by item"
        if change.get("num_clusters", change["n"]) < change["n"]:
            interval += f" and over {counted(change['num_clusters'], 'cluster')}"
        if low <= 0 <= high:
            interval += ", which is no proof of a difference"
    answers = counted(change["n"], "reference answer")
    return (
        f"The loss on {answers} went from {change['before']:.3f} (base{form}) to"
        f" {change['after']:.3f} {unit}: {change['difference']:+.3f}, {interval}."
    )


def loss_note(comparison: Mapping[str, Any]) -> str:
    """Say what the answer loss must not be held against; empty where nothing is near.

    That is another side's nats per token, if its tokens are others, and the held-out loss that
    training printed.
    """
    told = []
    change = comparison.get("answer_loss_change") or {}
    if change.get("same_tokens") is False:
        told.append(
            "Each side counts tokens of its own in the reference answers, so nats per token"
            f" ({change['before']:.3f} and {change['after']:.3f}) cannot be set against each other;"
            " bits per byte can."
        )
    elif comparison.get("same_tokens") is False:
        told.append(
            "A further model counts other tokens in the reference answers, so its nats per token"
            " cannot be set against the others'; bits per byte can."
        )
    training = comparison.get("training") or {}
    before, after = (training.get(key) for key in ("held_out_loss_before", "held_out_loss"))
    if None not in (before, after, comparison["instruct"].get("answer_loss")):
        told.append(
            "The answer loss leaves out the token that ends an answer. Training's held-out loss,"
            f" {before:.3f} to {after:.3f} on the rows held out, counts it; so the two differ."
        )
    return " ".join(told)


def loss_rows(
    blocks: Sequence[Mapping[str, Any]], *, same_tokens: bool | None
) -> list[tuple[str, list[str]]]:
    """List the answer loss of sides, as rows of a table: its name, and a cell a side.

    Args:
        blocks: of the sides, as `scores` gives them.
        same_tokens: of all sides; where it is false, bits per byte follow.

    Example:
        >>> loss_rows([{"answer_loss": 1.25, "answer_bits_per_byte": 0.5}, {}], same_tokens=True)
        [('answer loss, nats per token', ['1.250', '-'])]
    """
    figures = _FIGURES if same_tokens is False else _FIGURES[:1]
    rows = [(label, [block.get(key) for block in blocks]) for key, label in figures]
    return [
        (label, ["-" if loss is None else f"{loss:.3f}" for loss in losses])
        for label, losses in rows
        if any(loss is not None for loss in losses)
    ]
