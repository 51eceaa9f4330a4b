"""Show a comparison in the terminal: the table of rates, and answers side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table
from rich.text import Text

from biddable.counting import counted
from biddable.data.readers import read_rows
from biddable.evaluation.cluster_words import (
    clusters_heading,
    clusters_in_a_sentence,
    compared_figure,
    over_clusters,
)
from biddable.evaluation.loss_words import loss_in_a_sentence, loss_rows
from biddable.evaluation.pairing import REFUSING
from biddable.evaluation.sampling import first_draws
from biddable.evaluation.side_names import SIDES, heading_of, labels_of, names_of
from biddable.evaluation.statistics import ALPHA
from biddable.evaluation.turns import conversations_of, in_turn

FIGURES = (
    ("instruction_following", "instruction following"),
    ("answer_correct", "answer correct"),
    ("mimicry", "mimicry"),
    ("run_on", "run-on"),
    ("stopped", "stopped by itself"),
    ("refusal", "refusal, all items"),
    ("refusal_harmful", "harmful items refused"),
    ("refusal_benign", "harmless items refused"),
    ("refusal_lookalike", "look-alikes refused"),
    ("refusal_right", "right about refusing"),
    ("prompt_strict", "IFEval, prompt strict"),
    ("prompt_loose", "IFEval, prompt loose"),
    ("instruction_strict", "IFEval, instruction strict"),
    ("instruction_loose", "IFEval, instruction loose"),
)
RARE = (  # shown where some side has it
    ("refusal_partial", "refusals in part"),
    ("empty", "empty answers"),
    ("repetition", "repetition"),
    ("wrong_language", "wrong language"),
)
_MAX_CHARS = 160
_SIDES_IN_A_LINE = 4
NARROW = 60  # columns of a terminal that holds no four sides


def summary_table(comparison: Mapping[str, Any], *, width: int = 80) -> Table:
    """Lay out the rates of a comparison, with their 95 % intervals.

    Args:
        comparison: as comparison.json has it.
        width: of the terminal; the base with other prompts is left out of a narrow one.
    """
    labels = labels_of(comparison)
    sides = [(key, labels[key], comparison[key]) for key, _ in SIDES if comparison.get(key)]
    sides += [(name, name, block) for name, block in comparison.get("extra_models", {}).items()]
    n = max(((block.get("mimicry") or {}).get("n", 0) for *_, block in sides), default=0)
    left = ""
    if len(sides) > _SIDES_IN_A_LINE or width < NARROW:
        kept = [side for side in sides if not side[0].startswith("base_")]
        left = " (the base with other prompts: report.html)" if len(kept) < len(sides) else ""
        sides = kept
    # else an interval goes below its rate
    is_whole = len(sides) <= _SIDES_IN_A_LINE and width >= NARROW
    table = Table(
        title=f"{' → '.join(names_of(comparison))}, {counted(n, 'item')}{left}",
        caption=caption(comparison),
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE,
        show_edge=False,
        padding=0,  # four sides whose rates are 100 % just fit 80 columns; fewer are wrapped
    )
    first: dict[str, Any] = {"min_width": 12} if is_whole else {"width": 12}  # a whole word
    table.add_column("%, and its 95 % interval", **first)
    for key, label, _ in sides:
        style = "bold" if key == "instruct" else ""
        table.add_column(heading_of(label), justify="right", style=style, overflow="fold")
    blocks = [block for *_, block in sides]
    compared = compared_figure(comparison)
    for figure, label in shown_figures(blocks):
        rates = [block.get(figure) for block in blocks]
        table.add_row(label, *map(percent, rates))
        if figure == compared and (heading := clusters_heading(rates)):
            table.add_row(heading, *map(over_clusters, rates))
    unanswered = [block["by_ring"].get("unanswered") for block in blocks]
    table.add_section()
    if any(unanswered):
        table.add_row("following, ring unanswered", *map(percent, unanswered))
    for label, shown in loss_rows(blocks, same_tokens=comparison.get("same_tokens")):
        table.add_row(label, *shown)
    return table


def shown_figures(blocks: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """List the rates that some side has, each with its name.

    Where all harmless items are look-alikes, their refusals are told once; what is rare, where it
    occurs.

    Args:
        blocks: of the sides, as `scores` gives them.
    """
    found = [(key, label) for key, label in FIGURES if any(block.get(key) for block in blocks)]
    found += [
        (key, label)
        for key, label in RARE
        if any((block.get(key) or {}).get("rate") for block in blocks)
    ]
    both = [(block.get("refusal_benign"), block.get("refusal_lookalike")) for block in blocks]
    is_twice = all(benign == lookalike for benign, lookalike in both)
    return [figure for figure in found if not (is_twice and figure[0] == "refusal_benign")]


def side_by_side(
    source: str | Path | Sequence[Mapping[str, Any]],
    *,
    limit: int = 6,
    names: Sequence[str] = ("base", "instruct"),
) -> Table:
    """Lay out what base and instruct model answered to a few items, of every category in turn.

    Args:
        source: rows of samples.jsonl, or that file.
        limit: most items shown; all turns of a conversation are one.
        names: what the two are called.
    """
    rows = [row for _, row in read_rows(source)] if isinstance(source, str | Path) else list(source)
    table = Table(show_lines=True, expand=True)
    for name, ratio in zip(("prompt", *names), (2, 3, 3), strict=True):
        table.add_column(name, ratio=ratio, overflow="fold")
    for turns in in_turn(conversations_of(first_draws(rows)))[:limit]:
        for n, row in enumerate(turns):
            answers = [_answer(row[side]) for side in ("base", "instruct")]
            asked = short(row["instruction"]) if n == 0 else f"then: {short(row['instruction'])}"
            table.add_row(Text(asked, style="bold"), *answers)
    return table


def percent(rate: Mapping[str, Any] | None) -> str:
    """Show a rate with its interval, whose ends are rounded: four of them fit 80 columns.

    Example:
        >>> percent({"rate": 0.95, "ci95": [0.888, 0.978], "n": 100})
        '95.0 (89-98)'
        >>> percent(None)
        '-'
    """
    if rate is None:
        return "-"
    low, high = rate["ci95"]
    return f"{100 * rate['rate']:.1f} ({100 * low:.0f}-{100 * high:.0f})"


def caption(comparison: Mapping[str, Any]) -> str:
    """Say what changed from base to instruct, how surely, and what so many items can show."""
    paired, block = comparison.get("paired"), comparison.get("statistics")
    if not paired or not block:
        return loss_in_a_sentence(comparison)
    labels = labels_of(comparison)
    told = said_in_a_sentence(block, (labels["base"], labels["instruct"]), paired)
    further = (kinds_in_a_sentence(block), clusters_in_a_sentence(block))
    return " ".join(filter(None, (told, *further, reach_in_a_sentence(block))))


def further_lines(comparison: Mapping[str, Any]) -> list[str]:
    """Say of each further model how it stands against the base and the instruct model."""
    found: list[str] = []
    proven: list[str] = []
    labels, num_tests = labels_of(comparison), 0
    for name, pair in comparison.get("pairs", {}).items():
        told = []
        for other in ("base", "instruct"):
            block, paired = pair[other]["statistics"], pair[other]["paired"]
            if block:
                share = f"{100 * block['after']:.1f} % of {asked_items(block)}"
                rate = f"{name} {does_right(block)} {share}"
                told.append(f"{_counts_in_words(block, paired)} against {labels[other]}")
                proven += [f"{name} against {labels[other]}"] * (block.get("p_holm", 1.0) <= ALPHA)
        num_tests += len(told)
        if told:  # without checks there is no rate
            found.append(f"{rate}: {'; '.join(told)}.")
    if found:
        found.append(
            f"Corrected for {num_tests} tests (Holm), a difference is proven"
            f" {'of ' + ', '.join(proven) if proven else 'nowhere'}."
        )
    return found


def said_in_a_sentence(
    block: Mapping[str, Any], names: tuple[str, str], paired: Mapping[str, Any]
) -> str:
    """Say what changed from one side to the other, and what this many items can show.

    Args:
        block: ``statistics`` of comparison.json.
        names: what the two sides are called.
        paired: ``paired`` of comparison.json.

    Example:
        >>> block = {"n": 8, "before": 0.0, "after": 1.0, "p": 0.0078125, "clusters": {"num": 8}}
        >>> block["clusters"]["p"] = block["p"]
        >>> block |= {"answers_per_item": 1, "figure": "instruction_following"}
        >>> counts = {"fixed": 8, "broken": 0, "both": 0, "neither": 0}
        >>> print(said_in_a_sentence(block, ("base", "instruct"), counts))
        instruct follows 100.0 % of 8 items, base 0.0 %: 8 fixed, 0 broken, p = 0.0078.
    """
    rates = (
        f"{names[1]} {does_right(block)} {100 * block['after']:.1f} % of {asked_items(block)},"
        f" {names[0]} {100 * block['before']:.1f} %"
    )
    return f"{rates}: {changes_in_words(block, paired)}."


def does_right(block: Mapping[str, Any]) -> str:
    """Say what a side does to the items that count as right for it, as a verb."""
    return "is right about refusing" if block["figure"] == REFUSING else "follows"


def kinds_in_a_sentence(block: Mapping[str, Any]) -> str:
    """Say what changed among harmful items and among look-alikes; empty without such kinds."""
    kinds = block.get("kinds") or {}
    told = [
        f"{name}: {_changes(block, facts)}, {shown_p(facts['p_holm'])}"
        for key, name in (("harmful", "harmful"), ("lookalike", "look-alikes"))
        if (facts := kinds.get(key))
    ]
    if len(told) < 2:
        return ""  # all has been said of them together
    sentence = f"{'; '.join(told)} (each kind by itself, corrected for two tests)."
    return sentence[0].upper() + sentence[1:]


def asked_items(block: Mapping[str, Any]) -> str:
    """Say how many items were judged, and how often each was asked if more than once."""
    answers = block["answers_per_item"]
    return counted(block["n"], "item") + ("" if answers == 1 else f" answered {answers} times each")


def changes_in_words(block: Mapping[str, Any], paired: Mapping[str, Any]) -> str:
    """Say how many items were fixed and broken, and whether chance explains it; see above."""
    told, p = _counts_in_words(block, paired), max(block["p"], block["clusters"]["p"])
    return told + (", which is no proof of a difference" if p > ALPHA else "")


def _counts_in_words(block: Mapping[str, Any], paired: Mapping[str, Any]) -> str:
    return f"{_changes(block, paired)}, {p_in_words(block)}"


def p_in_words(block: Mapping[str, Any]) -> str:
    """Show the p of a comparison, and beside it that over clusters if they are fewer than items.

    Example:
        >>> p_in_words({"n": 8, "p": 0.0078125, "clusters": {"num": 1, "p": 1.0}})
        'p = 0.0078 (p = 1.0000 over 1 cluster)'
    """
    told, clusters = shown_p(block["p"]), block["clusters"]
    if clusters["num"] < block["n"]:
        told += f" ({shown_p(clusters['p'])} over {counted(clusters['num'], 'cluster')})"
    return told


def _changes(block: Mapping[str, Any], counts: Mapping[str, Any]) -> str:
    words = ("fixed", "broken")
    if block["answers_per_item"] > 1:
        words = ("more often right", "less often")
    return f"{counts['fixed']} {words[0]}, {counts['broken']} {words[1]}"


def reach_in_a_sentence(block: Mapping[str, Any]) -> str:
    """Say which differences this many items can show, in as many clusters.

    Example:
        >>> block = {"n": 100, "mde": 0.06, "power80": 0.135, "clusters": {"num": 100}}
        >>> for part in reach_in_a_sentence(block).split("; "):
        ...     print(part)
        With 100 items the smallest difference that could be significant is 6.0 points
        one of 13.5, where as many items differ as here, is found 80 times in 100.
        >>> block = {"n": 9, "mde": None, "power80": None, "clusters": {"num": 5}}
        >>> print(reach_in_a_sentence(block))
        With 9 items in 5 clusters no difference could be significant.
    """
    asked, num = counted(block["n"], "item"), block["clusters"]["num"]
    if num < block["n"]:
        asked += f" in {counted(num, 'cluster')}"
    if block["mde"] is None:
        return f"With {asked} no difference could be significant."
    found = (
        "none is found 80 times in 100"
        if block["power80"] is None
        else f"one of {100 * block['power80']:.1f}, where as many items differ as here, is found"
        " 80 times in 100"
    )
    return (
        f"With {asked} the smallest difference that could be significant is "
        f"{100 * block['mde']:.1f} points; {found}."
    )


def shown_p(p: float) -> str:
    """Show a p-value; a small one as a bound.

    Example:
        >>> shown_p(0.03), shown_p(4e-9), shown_p(0.0)
        ('p = 0.0300', 'p < 1e-8', 'p < 1e-300')
    """
    if p >= 0.0001:
        return f"p = {p:.4f}"
    exponent = next(k for k in range(300, 3, -1) if p <= 10.0**-k or k == 4)
    return f"p < 1e-{exponent}"


def _answer(told: Mapping[str, Any]) -> Text:
    text = Text(short(told["output"]) or "(nothing)")
    is_right, words = judged_in_words(told)
    if is_right is not None:
        is_short = is_right or told["following"] is None  # what is cut stands in the output
        shown = words.partition(": ")[0] if is_short else words
        text.append("\n" + shown, style="green" if is_right else "red")
    return text


def judged_in_words(told: Mapping[str, Any]) -> tuple[bool | None, str]:
    """Say whether what a side wrote is right, and why; None where nothing tells that.

    Args:
        told: of a side, as a row of samples.jsonl has it.

    Example:
        >>> told = {"following": None, "refuses_rightly": False, "refusal": "full"}
        >>> judged_in_words(told | {"reasons": {"refusal": 'refuses: "No."'}})
        (False, '✗ harmless; refuses: "No."')
    """
    follows, rightly = told["following"], told.get("refuses_rightly")
    if follows is not None:
        return follows, f"✓ follows: {told['why']}" if follows else f"✗ {why_not(told)}"
    if rightly is None:
        return None, "not checked"
    kind = "harmful" if rightly == (told["refusal"] == "full") else "harmless"
    reason = (told.get("reasons") or {}).get("refusal", "no refusal")
    return rightly, f"{'✓' if rightly else '✗'} {kind}; {reason}"


def why_not(told: Mapping[str, Any]) -> str:
    """Say in a word or two why an output does not follow its instruction.

    Example:
        >>> why_not({"mimicry": True, "run_on": False, "correct": False, "stopped": False})
        'mimics the prompt'
    """
    if told["mimicry"]:
        return "mimics the prompt"
    if not told["correct"]:
        return f"wrong: {told['why']}"
    return "runs on" if told["run_on"] else "does not stop"


def short(text: str) -> str:
    """Show the beginning of a text, its empty lines left out."""
    text = "\n".join(line for line in text.strip().splitlines() if line.strip())
    return text if len(text) <= _MAX_CHARS else text[: _MAX_CHARS - 1] + "…"
