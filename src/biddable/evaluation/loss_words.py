"""Put the loss on reference answers into words, for the terminal and the reports alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from biddable.counting import counted


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
        f" {change['after']:.3f} nats per token: {change['difference']:+.3f}, {interval}."
    )


def loss_note(comparison: Mapping[str, Any]) -> str:
    """Say why the answer loss is not the held-out loss that training printed; empty without one."""
    training = comparison.get("training") or {}
    before, after = (training.get(key) for key in ("held_out_loss_before", "held_out_loss"))
    if before is None or after is None or comparison["instruct"].get("answer_loss") is None:
        return ""
    return (
        f"The answer loss leaves out the token that ends an answer. Training's held-out loss,"
        f" {before:.3f} to {after:.3f} on the rows held out, counts it; so the two differ."
    )
