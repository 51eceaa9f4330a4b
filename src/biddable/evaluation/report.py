"""Write a comparison as one HTML page that opens anywhere, offline.

The page holds its data, styles and script; figures are drawn here. Nothing in it is computed anew:
it shows what comparison.json and samples.jsonl say.
"""

from __future__ import annotations

import io
import json
import os
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib import rc_context
from matplotlib.figure import Figure

from biddable.curves import curves_of, smooth
from biddable.errors import EvaluationError
from biddable.evaluation.cost_table import cost_caption, cost_rows
from biddable.evaluation.statistics import ALPHA
from biddable.evaluation.terminal import (
    FIGURES,
    SIDES,
    caption,
    further_lines,
    reach_in_a_sentence,
    said_in_a_sentence,
    summary_table,
    why_not,
)

__all__ = ["read_losses", "render_report", "summary_table", "write_text"]

LOG = "log.jsonl"
_HEIGHT = re.compile(r' height="[^"]*pt"')

_MEANINGS = {
    "instruction_following": "correct, ended by itself, and did not run on into another task",
    "answer_correct": "the item's own check passes on the output up to the first run-on",
    "mimicry": "went on as the prompt does (asked, ordered, repeated it) instead of answering",
    "run_on": "answered first, and then went on with another task",
    "stopped": "produced its stop token before the length limit",
    "refusal": "refused in full",
    "refusal_harmful": "of the items that should be refused",
    "refusal_benign": "of those that should not",
    "refusal_lookalike": "of harmless ones made to look harmful",
    "empty": "said nothing",
    "repetition": "went round in a loop",
    "wrong_language": "answered in another language than it was asked in",
    "prompt_strict": "all instructions of a prompt, as IFEval's program judges",
    "prompt_loose": "the same, with a first or last line or stars taken off",
    "instruction_strict": "each instruction by itself",
    "instruction_loose": "likewise, loosely",
}
_MORE = (
    ("empty", "empty"),
    ("repetition", "loops"),
    ("wrong_language", "wrong language"),
    ("prompt_strict", "IFEval prompts, strict"),
    ("prompt_loose", "IFEval prompts, loose"),
    ("instruction_strict", "IFEval instructions, strict"),
    ("instruction_loose", "IFEval instructions, loose"),
)
_KINDS = (
    ("harmful", "should be refused"),
    ("lookalike", "only look harmful"),
    ("benign", "harmless"),
)
_FORMS = {
    "bare": "the instruction and nothing else",
    "template": "a template",
    "fewshot": "three examples before it",
    None: "ready responses",
}
_RINGS = {
    "entity": "what is asked about was never instructed in training",
    "wording": "and is asked in words that training never used",
    "unanswered": "and no page of the base's pretraining answers a question about it",
}
# Colours that the page replaces by its own, which follow the reader's light or dark mode.
_INK, _FAINT, _TRAIN, _HELD = "#010101", "#020202", "#030303", "#040404"
_COLOURS = {_INK: "ink", _FAINT: "line", _TRAIN: "base", _HELD: "instruct"}


def render_report(
    comparison: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    *,
    losses: Mapping[str, Sequence[tuple[float, float]]] | None = None,
) -> str:
    """Render the page.

    Args:
        comparison: as comparison.json has it.
        rows: as samples.jsonl has them.
        losses: curves by name (``train``, ``held_out``), each of (step, nats per token).

    Returns:
        HTML that needs no other file.
    """
    environment = Environment(
        loader=PackageLoader("biddable.evaluation", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["pct"] = lambda share: f"{100 * share:.1f}"
    sides, blocks = _sides(comparison)
    statistics, paired = comparison.get("statistics"), comparison.get("paired")
    return environment.get_template("report.html.j2").render(
        c=comparison,
        sides=sides,
        blocks=blocks,
        figures=[
            (key, label, _MEANINGS[key])
            for key, label in (*FIGURES, *_MORE)
            if any(block.get(key) for block in blocks.values())
        ],
        rings=[(ring, text) for ring, text in _RINGS.items() if _has_ring(comparison, ring)],
        categories=_categories(comparison),
        verdict=said_in_a_sentence(statistics, ("base", "instruct"), paired)
        if statistics and paired
        else "",
        reach=reach_in_a_sentence(statistics) if statistics else "",
        further=further_lines(comparison),
        holm=_significant(statistics),
        refusals=_refusals(rows, [key for key, _, _ in sides]),
        costs=cost_rows(comparison),
        costs_of=cost_caption(comparison),
        caption=caption(comparison),
        loss_curve=draw_losses(losses) if losses else None,
        data=_as_script([_shown(row) for row in rows]),
    )


def _sides(
    comparison: Mapping[str, Any],
) -> tuple[list[tuple[str, str, str]], dict[str, Mapping[str, Any]]]:
    """Name the sides in the order they are shown, each with its label and form, and their blocks.

    A further model's key is its name.
    """
    order = sorted(SIDES, key=lambda side: side[0] not in ("base", "instruct"))
    forms = {"base_templated": "template", "base_fewshot": "fewshot"} | comparison["prompt_form"]
    sides = [(key, label, _FORMS[forms[key]]) for key, label in order if comparison.get(key)]
    blocks = {key: comparison[key] for key, _, _ in sides}
    extras = comparison.get("extra_models", {})
    asked = {name: comparison["pairs"][name]["prompt_form"] for name in extras}
    shown = [(name, name, _FORMS[form]) for name, form in asked.items()]
    return sides[:2] + shown + sides[2:], blocks | dict(extras)


def _significant(statistics: Mapping[str, Any] | None) -> dict[str, bool]:
    """Tell of each category whether the change in it stands after Holm's correction."""
    found = (statistics or {}).get("holm") or {}
    return {name: facts["p_holm"] < ALPHA for name, facts in found.items()}


def _refusals(rows: Sequence[Mapping[str, Any]], sides: Sequence[str]) -> list[dict[str, Any]]:
    """Count full and partial refusals by kind of item, for each side."""
    grid = []
    for kind, meaning in _KINDS:
        chosen = [row for row in rows if row.get("kind") == kind]
        counts = {
            side: Counter(told[side]["refusal"] for told in map(_by_side, chosen) if side in told)
            for side in sides
        }
        if chosen:
            grid.append({"kind": meaning, "n": len(chosen), "counts": counts})
    return grid if any(row.get("kind") in ("harmful", "lookalike") for row in rows) else []


def read_losses(run_folder: str | Path) -> dict[str, list[tuple[float, float]]]:
    """Read the loss curves of a run from its log; empty if it left none."""
    path = Path(run_folder) / LOG
    if not str(run_folder) or not path.is_file():
        return {}
    records = []
    for line in path.read_text(encoding="utf-8").splitlines():
        with suppress(ValueError):  # a log cut short still has its start
            records.append(json.loads(line))
    curves = curves_of(record for record in records if isinstance(record, dict))
    return {name: points for name, points in curves.items() if name != "lr"}


def draw_losses(losses: Mapping[str, Sequence[tuple[float, float]]]) -> str:
    """Draw the loss curves as an SVG whose colours are the page's."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "biddable", "font.size": 11}):
        figure = Figure(figsize=(8.4, 3.0), layout="constrained")
        axes = figure.subplots()
        train = losses.get("train", ())
        if train:
            axes.plot(*zip(*train, strict=True), color=_TRAIN, linewidth=0.8, alpha=0.4)
            axes.plot(*zip(*smooth(train), strict=True), color=_TRAIN, label="training")
        if losses.get("held_out"):
            points = list(zip(*losses["held_out"], strict=True))
            axes.plot(*points, color=_HELD, marker="o", markersize=5, label="held out")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("step", color=_INK)
        axes.set_ylabel("nats per answer token", color=_INK)
        axes.tick_params(colors=_INK, length=0)
        axes.grid(axis="y", color=_FAINT, linewidth=0.8)
        for side in axes.spines.values():
            side.set_visible(False)
        axes.legend(frameon=False, labelcolor=_INK)
        buffer = io.StringIO()
        figure.savefig(
            buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    for colour, name in _COLOURS.items():
        svg = svg.replace(colour, f"var(--{name})")
    return re.sub(r'^(<svg[^>]*?) width="[^"]*"', r"\1", _HEIGHT.sub("", svg, count=1))


def write_text(path: Path, text: str) -> None:
    """Write a text file whole, or leave what was there.

    Raises:
        EvaluationError: the disk refuses, as when it is full.
    """
    temporary = None
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".partial")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).chmod(0o644)
        os.replace(temporary, path)
        temporary = None
    except OSError as error:
        raise EvaluationError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)


def _has_ring(comparison: Mapping[str, Any], ring: str) -> bool:
    rings = {name for name, rate in comparison["instruct"]["by_ring"].items() if rate}
    return ring in rings and len(rings) > 1


def _categories(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    instruct, base = (comparison[side]["by_category"] for side in ("instruct", "base"))
    found = [
        {"name": name, "instruct": rate, "base": base[name]}
        for name, rate in instruct.items()
        if rate and base.get(name)
    ]
    return sorted(found, key=lambda entry: (-entry["instruct"]["rate"], entry["name"]))


def _by_side(row: Mapping[str, Any]) -> dict[str, Any]:
    """Give what each side made of an item; further models stand apart in a row, by any name."""
    own = {key: row[key] for key, _ in SIDES if key in row}
    return {**own, **row.get("extra_models", {})}


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("id", "category", "ring", "instruction", "reference")}
    return kept | {
        "change": row["change"],
        "sides": {key: _told(told) for key, told in _by_side(row).items()},
    }


def _told(told: Mapping[str, Any]) -> dict[str, Any]:
    output, answer = told["output"].strip(), told["answer"]
    is_clean = told["following"] or (told["following"] is None and not told["mimicry"])
    return {
        "answer": answer,
        "rest": output[len(answer) :] if output.startswith(answer) else output,
        "ok": told["following"],
        "why": "" if is_clean else why_not(told),
        "refusal": told["refusal"],
    }


def _as_script(value: object) -> str:
    """Write JSON that may stand in a script element: no text in it can close the element."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text
