"""Say what the sides of a comparison are called, and how they came by their answers.

Two models go by their names, in columns as base and instruct. One model that stands on both sides
is told apart by how it was asked.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any

SIDES = (
    ("base", "base"),
    ("base_templated", "base, template"),
    ("base_fewshot", "base, 3 examples"),
    ("instruct", "instruct"),
)
_ASKED = {"bare": "bare", "template": "template", "fewshot": "3 examples", None: "responses"}
_LONGEST = 20  # characters of a model's name above a column


def names_of(comparison: Mapping[str, Any]) -> tuple[str, str]:
    """Give the names of base and instruct model, which differ even where the model is one.

    Example:
        >>> facts = {"base_model": "a", "prompt_form": {"base": "bare", "instruct": "template"}}
        >>> names_of(facts | {"instruct_model": "a"})
        ('a (bare)', 'a (template)')
        >>> names_of(facts | {"instruct_model": "b"})
        ('a', 'b')
    """
    names = [str(comparison[f"{side}_model"]) for side in ("base", "instruct")]
    if names[0] == names[1]:
        names = [f"{name} ({by})" for name, by in zip(names, _apart(comparison), strict=True)]
    return names[0], names[1]


def labels_of(comparison: Mapping[str, Any]) -> dict[str, str]:
    """Give what each side is called above a column: its part, or for one model what differs."""
    labels, model = dict(SIDES), comparison.get("base_model")
    if model is not None and model == comparison.get("instruct_model"):
        name = PurePath(str(model)).name
        name = name if len(name) <= _LONGEST else name[: _LONGEST - 1] + "…"
        own = [f"{name} ({by})" for by in _apart(comparison)]
        labels |= dict(zip(("base", "instruct"), own, strict=True))
    return labels | {name: name for name in comparison.get("extra_models") or {}}


def heading_of(label: str) -> str:
    r"""Break what a side is called into two lines, so that its column is narrow.

    Example:
        >>> heading_of("base, template"), heading_of("mimic (bare)")
        ('base,\ntemplate', 'mimic\n(bare)')
    """
    return label.replace(", ", ",\n").replace(" (", "\n(")


def _apart(comparison: Mapping[str, Any]) -> Sequence[str]:
    """Say how the two sides of one model differ; if not in how they were asked, by their part."""
    forms = comparison.get("prompt_form") or {}
    asked = [_ASKED[forms.get(side)] for side in ("base", "instruct")]
    return asked if asked[0] != asked[1] else ("as base", "as instruct")


def how_put(comparison: Mapping[str, Any]) -> str:
    """Say how the sides were asked and decoded, as the end of a sentence about the items.

    Example:
        >>> facts = {"base_model": "a", "instruct_model": "b", "decoding": {"max_new_tokens": 9}}
        >>> how_put(facts | {"prompt_form": {"base": "bare", "instruct": "template"}})
        'put to both with the same decoding, at most 9 new tokens each'
        >>> how_put(facts | {"prompt_form": {"base": None, "instruct": None}})
        'with responses to them that were ready; how these were decoded is not known'
    """
    ready, num_sides = ready_sides(comparison), 2 + len(comparison.get("extra_models") or {})
    if len(ready) == num_sides:
        return "with responses to them that were ready; how these were decoded is not known"
    longest = comparison["decoding"].get("max_new_tokens")
    limit = f", at most {longest} new tokens each" if longest else ""
    if not ready:
        return f"put to {'both' if num_sides == 2 else 'all'} with the same decoding{limit}"
    asked = "the other" if num_sides - len(ready) == 1 else "the others"
    return (
        f"put to {asked}{limit}; the responses of {' and '.join(ready)} were ready, and how these"
        " were decoded is not known"
    )


def ready_sides(comparison: Mapping[str, Any]) -> list[str]:
    """List the sides whose responses were ready, as columns call them."""
    pairs = comparison.get("pairs") or {}
    forms = comparison["prompt_form"] | {name: pair["prompt_form"] for name, pair in pairs.items()}
    labels = labels_of(comparison)
    return [labels[side] for side, form in forms.items() if form is None]
