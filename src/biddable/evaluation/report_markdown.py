"""Write a comparison as Markdown: a text for a pull request, and a section for a model card.

Figures are those of comparison.json. What models wrote stands in code blocks that it cannot close,
and every other text is escaped, so that no output becomes a link, an image or a tag.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from biddable.evaluation.cluster_words import (
    clusters_heading,
    clusters_in_a_sentence,
    over_clusters,
)
from biddable.evaluation.cost_table import cost_caption, cost_rows
from biddable.evaluation.loss_words import loss_note, loss_rows
from biddable.evaluation.rates_compared import rates_in_a_sentence
from biddable.evaluation.report_facts import (
    Comparison,
    Row,
    Told,
    change_in,
    figures_of,
    is_counted,
    limits_of,
    measured_lines,
    models_measured,
    preference_lines,
    sides_of,
)
from biddable.evaluation.report_items import cut
from biddable.evaluation.report_verdict import best_prompted, verdict_of
from biddable.evaluation.side_names import labels_of, names_of
from biddable.evaluation.terminal import (
    further_lines,
    judged_in_words,
    percent,
    reach_in_a_sentence,
)
from biddable.evaluation.turns import conversations_of, in_turn, unit_of

NUM_EXAMPLES = 3
_MAX_CHARS = 600
_SPECIAL = re.compile(r"([\\`*_{}\[\]|~#])")


def pull_request_text(
    comparison: Comparison,
    rows: Sequence[Row],
    *,
    judge: Mapping[str, Any] | None = None,
    vote: Mapping[str, Any] | None = None,
) -> str:
    """Write what a reviewer wants to see: the verdict, rates, the test, the cost, some examples.

    Args:
        comparison: as comparison.json has it.
        rows: as samples.jsonl has them.
        judge: of judge.json, if a judge was asked.
        vote: of vote.json, if people were.
    """
    verdict = verdict_of(comparison)
    blocks = [f"## {plain(' → '.join(names_of(comparison)))}", f"**{plain(verdict.headline)}**"]
    blocks += [plain(line) for line in _said(comparison) if line]
    blocks += [_rates(comparison), *_costs(comparison)]
    blocks += [plain(line) for line in preference_lines(judge, vote)]
    blocks += _examples(comparison, rows)
    blocks.append(_details("How it was measured", "\n".join(_measured(comparison))))
    blocks.append("All answers: report.html and samples.jsonl beside this file.")
    return "\n\n".join(blocks) + "\n"


def card_text(comparison: Comparison) -> str:
    """Write a model card's section on results, its headings of level 2 and below.

    Args:
        comparison: as comparison.json has it.
    """
    verdict = verdict_of(comparison)
    blocks = ["## Results", plain(verdict.headline)]
    blocks += [plain(line) for line in _said(comparison) if line]
    blocks += [_rates(comparison), *_costs(comparison)]
    blocks += ["### How it was measured", "\n".join(_measured(comparison))]
    notes = [*comparison.get("notes", ()), *comparison.get("cost_notes", ())]
    limits = [*limits_of(comparison), *notes]
    blocks += ["### Limits of these figures", "\n".join(f"- {plain(line)}" for line in limits)]
    return "\n\n".join(blocks) + "\n"


def plain(text: object) -> str:
    r"""Escape a text so that Markdown shows it as it is, on one line.

    Example:
        >>> plain("a_b <c> | d")
        'a\\_b &lt;c&gt; \\| d'
    """
    one_line = " ".join(str(text).split())
    return _SPECIAL.sub(r"\\\1", html.escape(one_line, quote=False))


def fenced(text: str) -> str:
    r"""Put a text into a code block whose fence is longer than any in it.

    Example:
        >>> fenced("a ```` b").splitlines()[0]
        '`````text'
    """
    kept, num_cut = cut(text.strip(), _MAX_CHARS)
    longest = max((len(run) for run in re.findall(r"`+", kept)), default=0)
    fence = "`" * max(3, longest + 1)
    more = f"\n\n… {num_cut:,} characters more" if num_cut else ""
    return f"{fence}text\n{kept or '(nothing)'}\n{fence}{more}"


def _said(comparison: Comparison) -> Iterator[str]:
    verdict, block = verdict_of(comparison), comparison.get("statistics")
    yield verdict.detail
    yield best_prompted(comparison)
    yield from further_lines(comparison)
    if block:
        yield clusters_in_a_sentence(block)
        yield reach_in_a_sentence(block)


def _rates(comparison: Comparison) -> str:
    sides = sides_of(comparison)
    blocks = [side.block for side in sides]
    rates = [(label, [block.get(key) for block in blocks]) for key, label, _ in figures_of(sides)]
    figures = [(label, [_both_intervals(rate) for rate in found]) for label, found in rates]
    figures += loss_rows(blocks, same_tokens=comparison.get("same_tokens"))
    over = clusters_heading(rate for _, found in rates for rate in found)
    told = f"%, and its 95 % Wilson interval{over and f'; that {over}'}"
    heads = (told, *map(_head, sides))
    table = "\n".join(_table(heads, figures))
    notes = filter(None, (rates_in_a_sentence(comparison), loss_note(comparison)))
    return "\n\n".join((table, *map(plain, notes)))


def _both_intervals(rate: Mapping[str, Any] | None) -> str:
    told, clustered = percent(rate), over_clusters(rate)
    return told if clustered == "-" else f"{told.removesuffix(')')}; {clustered.removeprefix('(')}"


def _head(side: Told) -> str:
    if side.label.endswith(")"):
        return f"{side.label}, {side.form}"
    return f"{side.label.partition(',')[0]} ({side.form})"


def _table(heads: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> Iterator[str]:
    yield "| " + " | ".join(map(plain, heads)) + " |"
    yield "|---|" + "---:|" * (len(heads) - 1)
    for label, cells in rows:
        yield "| " + " | ".join(map(plain, (label, *cells))) + " |"


def _costs(comparison: Comparison) -> Iterator[str]:
    rows = cost_rows(comparison)
    if rows:
        yield "### What tuning cost"
        labels = labels_of(comparison)
        heads = ("", labels["base"], labels["instruct"], "change, or references")
        yield "\n".join(_table(heads, [(name, cells) for name, *cells in rows]))
        if caption := cost_caption(comparison):
            yield plain(caption)


def _measured(comparison: Comparison) -> Iterator[str]:
    sides = [side for side in sides_of(comparison) if not side.key.startswith("base_")]
    for facts in models_measured(comparison, sides):
        weights = f"SHA-256 of {facts['sha256_of']} {facts['sha256']}"
        known = weights if facts["sha256"] else "weights not known"
        told = f"{facts['model']}, {facts['given']}; {facts['size']}; {known}"
        yield f"- {plain(facts['label'])}: {plain(told)}"
    for word, text in measured_lines(comparison):
        yield f"- {plain(word)}: {plain(text)}"
    command = (comparison.get("measured") or {}).get("command")
    yield "- Command: " + (_code(command) if command else "none; called from Python")


def _code(command: str) -> str:
    """Show a command as it is typed, whatever backticks it has."""
    longest = max((len(run) for run in re.findall(r"`+", command)), default=0)
    mark = "`" * (longest + 1)
    return f"{mark}{' '.join(command.split())}{mark}"


def _examples(comparison: Comparison, rows: Sequence[Row]) -> Iterator[str]:
    """Show some of each change, of every category in turn; where nothing is checked, of all."""
    cards = conversations_of(row for row in rows if is_counted(row, comparison))
    unit = f"{unit_of(cards)}s"
    is_checked = not cards or any(change_in(turns) for turns in cards)
    kinds = [("fixed", "fixed"), ("broken", "broken")] if is_checked else [(None, "unchecked")]
    for change, word in kinds:
        chosen = [turns for turns in cards if change_in(turns) == change]
        some = f"{min(NUM_EXAMPLES, len(chosen))} of {len(chosen)} {word} {unit}"
        yield f"### {some}" if chosen else f"### No {unit} {word}"
        for turns in in_turn(chosen)[:NUM_EXAMPLES]:
            yield _example(turns, labels_of(comparison))


def _example(turns: Sequence[Row], labels: Mapping[str, str]) -> str:
    parts = []
    for n, row in enumerate(turns, 1):
        parts += [f"Turn {n}"] * (len(turns) > 1) + [fenced(row["instruction"])]
        for side in ("base", "instruct"):
            told = row[side]
            _, verdict = judged_in_words(told)
            parts += [plain(f"{labels[side]}, {verdict}"), fenced(told["output"])]
    asked = " ".join(turns[0]["instruction"].split())
    heading = f"{turns[0]['category']}: {asked if len(asked) <= 90 else asked[:89] + '…'}"
    return _details(heading, "\n\n".join(parts))


def _details(heading: str, text: str) -> str:
    # no backslash escapes in HTML, and some readers take Markdown in it
    shown = html.escape(" ".join(heading.split()), quote=False)
    shown = shown.replace("[", "&#91;").replace("`", "&#96;")
    return f"<details><summary>{shown}</summary>\n\n{text}\n\n</details>"
