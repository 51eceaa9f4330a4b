"""Write a comparison as one HTML page that opens anywhere, offline, and as two Markdown texts.

Nothing in them is computed anew: they show what comparison.json and samples.jsonl say, and what
judge.json and vote.json do where these lie beside them and are about the same answers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from biddable.counting import counted
from biddable.data.readers import read_rows
from biddable.errors import EvaluationError
from biddable.evaluation.cluster_words import clusters_in_a_sentence
from biddable.evaluation.cost_table import cost_caption, cost_rows
from biddable.evaluation.diversity import describe_lengths
from biddable.evaluation.loss_words import loss_note
from biddable.evaluation.rates_compared import rates_in_a_sentence
from biddable.evaluation.report_facts import (
    Comparison,
    Row,
    Told,
    categories_of,
    figures_of,
    is_counted,
    limits_of,
    measured_lines,
    models_measured,
    preference_lines,
    refusal_grid,
    rings_of,
    sides_of,
    significant_categories,
    tiles_of,
    told_by_side,
)
from biddable.evaluation.report_items import BEHAVIOURS, behaviour_counts, items_of
from biddable.evaluation.report_markdown import card_text, pull_request_text
from biddable.evaluation.report_plots import (
    Mark,
    bin_edges,
    count_bins,
    draw_histogram,
    draw_key,
    draw_losses,
    draw_marks,
    round_up,
)
from biddable.evaluation.report_verdict import best_prompted, verdict_of
from biddable.evaluation.sampling import first_draws
from biddable.evaluation.side_names import how_put, names_of, ready_sides
from biddable.evaluation.terminal import further_lines, p_in_words, reach_in_a_sentence
from biddable.evaluation.words import words_of
from biddable.manifest import hash_file, write_text

COMPARISON, SAMPLES = "comparison.json", "samples.jsonl"
PAGE, FOR_REVIEW, FOR_CARD = "report.html", "report.md", "card.md"
PREFERENCES = ("judge.json", "vote.json")
_NUM_MOVED = 8
_CONTENTS = (
    ("rates", "Rates"),
    ("categories", "By category"),
    ("refusals", "Refusals"),
    ("lengths", "Lengths"),
    ("classes", "Tokens"),
    ("costs", "Cost"),
    ("loss_curves", "Training"),
    ("preferences", "Preferences"),
)
_PLACES = {"classes": "tokens", "costs": "cost", "loss_curves": "training"}  # ids on the page


def write_reports(folder: Path, comparison: Comparison, rows: Sequence[Row]) -> None:
    """Write report.html, report.md and card.md beside samples.jsonl, which is there.

    Raises:
        CheckpointError: the folder cannot be written.
    """
    rows = first_draws(rows)
    judge, vote = (_preferences(folder, name) for name in PREFERENCES)
    write_text(folder / PAGE, render_report(comparison, rows, judge=judge, vote=vote))
    text = pull_request_text(comparison, rows, judge=judge, vote=vote)
    write_text(folder / FOR_REVIEW, text)
    write_text(folder / FOR_CARD, card_text(comparison))


def rewrite_reports(folder: str | Path) -> bool:
    """Write the reports of a finished comparison again, as when a judge has been asked since.

    Args:
        folder: that ``compare`` wrote.

    Returns:
        Whether there was a whole comparison to write of; one of an older version stays as it is.

    Raises:
        DataError: samples.jsonl cannot be read.
        CheckpointError: the folder cannot be written.
    """
    place = Path(folder)
    comparison = _read_json(place / COMPARISON)
    if not comparison or "measured" not in comparison:
        return False
    write_reports(place, comparison, [row for _, row in read_rows(place / SAMPLES)])
    return True


def render_report(
    comparison: Comparison,
    rows: Sequence[Row],
    *,
    judge: Mapping[str, Any] | None = None,
    vote: Mapping[str, Any] | None = None,
) -> str:
    """Render the page.

    Args:
        comparison: as comparison.json has it.
        rows: as samples.jsonl has them.
        judge: of judge.json, if a judge was asked.
        vote: of vote.json, if people were.

    Returns:
        HTML that needs no other file, below 3 MB.
    """
    sides = sides_of(comparison)
    counts = _counts_by_place(rows, sides)
    parts = {
        "rates": _rates(sides),
        "categories": _categories(comparison, sides),
        "refusals": refusal_grid(rows, sides),
        "costs": cost_rows(comparison),
        "preferences": preference_lines(judge, vote),
        "loss_curves": _loss_curves(comparison),
        **_lengths(rows, sides),
        **_tokens(comparison),
    }
    contents = [(_PLACES.get(key, key), name) for key, name in _CONTENTS if parts[key]]
    return _environment().get_template("report.html.j2").render(
        c=comparison,
        **_opening(comparison),
        **parts,
        contents=[*contents, ("answers", "Answers"), ("measured", "How it was measured")],
        sides=sides,
        num_models=sum(not side.key.startswith("base_") for side in sides),
        keys=[draw_key(n) for n in range(len(sides))],
        rings=rings_of(comparison),
        costs_of=cost_caption(comparison),
        items=items_of(rows, sides),
        category_names=sorted({str(row["category"]) for row in rows}),
        ring_names=sorted({str(row["ring"]) for row in rows}),
        behaviours={name: word for name, word in BEHAVIOURS.items() if counts[""][name]},
        counts=_as_script(counts),
        models=models_measured(comparison, [s for s in sides if not s.key.startswith("base_")]),
        measured=list(measured_lines(comparison)),
        command=(comparison.get("measured") or {}).get("command"),
        limits=limits_of(comparison),
        num_apart=sum(not is_counted(row, comparison) for row in rows),
    )  # fmt: skip


def _opening(comparison: Comparison) -> dict[str, Any]:
    """Gather what the page opens with: what was compared, how, and what came of it."""
    block = comparison.get("statistics")
    return {
        "names": names_of(comparison),
        "put": how_put(comparison),
        "ready": ready_sides(comparison),
        "verdict": verdict_of(comparison),
        "prompted": best_prompted(comparison),
        "clustered": clusters_in_a_sentence(block) if block else "",
        "further": further_lines(comparison),
        "rates_told": rates_in_a_sentence(comparison),
        "loss_note": loss_note(comparison),
        "reach": reach_in_a_sentence(block) if block else "",
        "tiles": tiles_of(comparison),
        "p": p_in_words(block) if block else "",
        "has_holm": bool(block and block.get("holm")),
    }


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("biddable.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["counted"] = counted
    environment.filters["pct"] = lambda share: f"{100 * share:.1f}"
    environment.filters["visible"] = lambda text: text.replace("\n", "⏎").replace("\t", "⇥")
    return environment


def _rates(sides: Sequence[Told]) -> list[dict[str, Any]]:
    found = []
    for key, label, meaning in figures_of(sides):
        rates = {n: rate for n, side in enumerate(sides) if (rate := side.block.get(key))}
        own = {side.key: side.block.get(key) for side in sides[:2]}
        svg = draw_marks(label, [_mark(n, sides[n], rate) for n, rate in rates.items()])
        found.append({"key": key, "label": label, "meaning": meaning, "svg": svg, **own})
    return found


def _categories(comparison: Comparison, sides: Sequence[Told]) -> list[dict[str, Any]]:
    """Draw the models in each category; the base's other forms stand in the table of rates."""
    starred, found = significant_categories(comparison), []
    for name in categories_of(comparison):
        marks = [
            _mark(n, side, side.block["by_category"][name])
            for n, side in enumerate(sides)
            if not side.key.startswith("base_") and side.block["by_category"].get(name)
        ]
        own = {side.key: side.block["by_category"][name] for side in sides[:2]}
        svg = draw_marks(name, marks)
        found.append({"name": name, "svg": svg, "is_significant": name in starred, **own})
    return found


def _mark(place: int, side: Told, rate: Mapping[str, Any]) -> Mark:
    low, high = rate["ci95"]
    told = f"{side.label} {100 * rate['rate']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
    return Mark(place, told, rate["rate"], (low, high))


def _lengths(rows: Sequence[Row], sides: Sequence[Told]) -> dict[str, Any]:
    """Draw how many words the models' outputs have, all on one scale."""
    shown = [(n, s) for n, s in enumerate(sides) if not s.key.startswith("base_")]
    lengths = [
        [len(words_of(told[s.key]["output"])) for told in map(told_by_side, rows) if s.key in told]
        for _, s in shown
    ]
    if not any(map(any, lengths)):
        return {"lengths": [], "length_ticks": []}
    edges = bin_edges(lengths)
    most = max(max(count_bins(own, edges)) / len(own) for own in lengths if own)
    found = [
        {
            "label": side.label,
            "form": side.form,
            "median": f"{describe_lengths(own)['median']:.1f} words" if own else "-",
            "svg": draw_histogram(side.label, own, side=n, edges=edges, most=most),
        }
        for (n, side), own in zip(shown, lengths, strict=True)
    ]
    ticks = [str(round(edges[-1] * n / 4)) for n in range(4)]
    return {"lengths": found, "length_ticks": [*ticks, f"{edges[-1]} words"]}


def _tokens(comparison: Comparison) -> dict[str, Any]:
    """Draw the loss of each kind of token before and after, and list the tokens that moved most."""
    block = comparison.get("forgetting") or {}
    kinds = block.get("by_class") or {}
    if not kinds:
        return {"classes": [], "class_ticks": [], "moved": []}
    losses = [facts[f"{side}_nll"] for facts in kinds.values() for side in ("base", "instruct")]
    most = round_up(max(losses))
    found = []
    for name, facts in sorted(kinds.items(), key=lambda kind: -kind[1]["share_of_kl"]):
        values = [("base", facts["base_nll"]), ("instruct", facts["instruct_nll"])]
        marks = [Mark(n, f"{s} {nll:.3f} nats", nll / most) for n, (s, nll) in enumerate(values)]
        share = {"share": facts["share_of_kl"], "num_tokens": facts["num_tokens"]}
        found.append({"name": name, "svg": draw_marks(name, marks), **share})
    moved = block.get("moved") or {}
    tops = [
        row for way in ("less_likely", "more_likely") for row in moved.get(way, [])[:_NUM_MOVED]
    ]
    ticks = [f"{most * n / 4:.3g}" for n in range(5)]
    return {"classes": found, "class_ticks": [*ticks[:4], f"{ticks[4]} nats"], "moved": tops}


def _loss_curves(comparison: Comparison) -> list[tuple[str, str]]:
    losses = (comparison.get("training") or {}).get("losses") or {}
    if not losses:
        return []
    return [("wide", draw_losses(losses)), ("slim", draw_losses(losses, width=4.4))]


def _counts_by_place(rows: Sequence[Row], sides: Sequence[Told]) -> dict[str, dict[str, int]]:
    """Count behaviours under the places that the page's items and its list of sides use."""
    counts = behaviour_counts(rows, sides)
    return {"": counts[""]} | {str(n): counts[side.key] for n, side in enumerate(sides)}


def _preferences(folder: Path, name: str) -> dict[str, Any] | None:
    """Read what a judge or people said; None unless it is about these very answers."""
    found = _read_json(folder / name)
    if not found or found.get("samples_sha256") != hash_file(folder / SAMPLES):
        return None
    return found


def _read_json(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: cannot be read as JSON ({error}).") from error
    return found if isinstance(found, dict) else None


def _as_script(value: object) -> str:
    """Write JSON that may stand in a script element: no text in it can close the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
