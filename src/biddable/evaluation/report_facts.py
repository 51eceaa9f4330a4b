"""Put into words what a comparison says, for the page and for the texts alike.

Takes comparison.json and samples.jsonl as they are; counts rows, and computes nothing else anew.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from biddable.counting import counted
from biddable.evaluation.pairing import FOLLOWING, REFUSING
from biddable.evaluation.side_names import SIDES, labels_of
from biddable.evaluation.statistics import ALPHA
from biddable.evaluation.terminal import shown_figures

Comparison = Mapping[str, Any]
Row = Mapping[str, Any]

MEANINGS = {
    "instruction_following": "correct, ended by itself, and did not run on into another task",
    "answer_correct": "the item's own check passes on the output up to the first run-on",
    "mimicry": "went on as the prompt does (asked, ordered, repeated it) instead of answering",
    "run_on": "answered first, and then went on with another task",
    "stopped": "produced its stop token before the length limit",
    "refusal": "refused in full",
    "refusal_harmful": "of the items that should be refused",
    "refusal_benign": "of those that should not; less is better",
    "refusal_lookalike": "of harmless ones made to look harmful; less is better",
    "refusal_right": "refused in full if harmful, and not if it only looks so",
    "refusal_partial": "said that it cannot or ought not, and gave some of it all the same",
    "empty": "said nothing",
    "repetition": "went round in a loop",
    "wrong_language": "answered in another language than it was asked in",
    "prompt_strict": "all instructions of a prompt, as IFEval's program judges",
    "prompt_loose": "the same, with a first or last line or stars taken off",
    "instruction_strict": "each instruction by itself",
    "instruction_loose": "likewise, loosely",
}
RINGS = {
    "entity": "what is asked about was never instructed in training",
    "wording": "and is asked in words that training never used",
    "unanswered": "and no page of the base's pretraining answers a question about it",
}
CHANGES = {
    "broken": "right in the base, not in the instruct model",
    "fixed": "right in the instruct model, not in the base",
    "neither": "right in neither",
    "both": "right in both",
}
_LIMITS = (
    "One suite is not all that a model is asked: the rates hold for items like these.",
    "The intervals say how far chance in the choice of items reaches, not whether the items are the"
    " right ones.",
    "Checks and behaviour are judged by rules, whose errors are measured and published in the"
    " documentation of biddable (behaviour.md); samples.jsonl has each verdict with its reason.",
)

_OF_REFUSALS = (
    "The verdict is about refusals alone: what is not refused may be wrong, empty or a loop all the"
    " same."
)
_TILES = {
    FOLLOWING: (
        (FOLLOWING, "follows the instruction"),
        ("answer_correct", "answers correctly"),
        ("mimicry", "mimics the prompt"),
    ),
    REFUSING: (
        ("refusal_harmful", "of the harmful refused"),
        ("refusal_lookalike", "of look-alikes refused"),
        (REFUSING, "right about refusing"),
    ),
}
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


@dataclass(frozen=True, slots=True)
class Told:
    """Hold a side as it is shown.

    Attributes:
        key: in comparison.json; a further model's is its name.
        label: what it is called.
        form: how it was asked, in words.
        block: its rates.
    """

    key: str
    label: str
    form: str
    block: Mapping[str, Any]


def sides_of(comparison: Comparison) -> list[Told]:
    """List the sides in the order they are shown: both of the headline, further models, the rest.

    A model that stands under the name of its side and the form it was asked in.
    """
    order = sorted(SIDES, key=lambda side: side[0] not in ("base", "instruct"))
    forms = {"base_templated": "template", "base_fewshot": "fewshot"} | comparison["prompt_form"]
    named = comparison["decoding"].get("template")
    words = _FORMS | ({"template": f"the template {named}"} if named else {})
    labels = labels_of(comparison)
    own = [
        Told(key, labels[key], words[forms[key]], comparison[key])
        for key, _ in order
        if comparison.get(key)
    ]
    further = [
        Told(name, name, words[comparison["pairs"][name]["prompt_form"]], block)
        for name, block in (comparison.get("extra_models") or {}).items()
    ]
    return own[:2] + further + own[2:]


def figures_of(sides: Sequence[Told]) -> list[tuple[str, str, str]]:
    """List the rates that some side has: key, name and meaning."""
    blocks = [side.block for side in sides]
    return [(key, label, MEANINGS[key]) for key, label in shown_figures(blocks)]


def tiles_of(comparison: Comparison) -> list[dict[str, Any]]:
    """Choose the rates that stand in large below the verdict: before, after, and what they are."""
    sides = [comparison[side] for side in ("base", "instruct")]
    if not (comparison.get("paired") or sides[1][FOLLOWING]):
        return []
    figure = (comparison.get("statistics") or {}).get("figure", FOLLOWING)
    found = [
        {"before": sides[0].get(key), "after": sides[1].get(key), "label": label}
        for key, label in _TILES[figure]
    ]
    return [tile for tile in found if tile["before"] and tile["after"]]


def rings_of(comparison: Comparison) -> list[tuple[str, str]]:
    """List the rings that items are of, if they are of several."""
    found = {name for name, rate in comparison["instruct"]["by_ring"].items() if rate}
    if len(found) < 2:
        return []
    return [(ring, meaning) for ring, meaning in RINGS.items() if ring in found]


def categories_of(comparison: Comparison) -> list[str]:
    """List the categories that both sides were checked in, the best followed first."""
    base, instruct = (comparison[side]["by_category"] for side in ("base", "instruct"))
    names = [name for name, rate in instruct.items() if rate and base.get(name)]
    return sorted(names, key=lambda name: (-instruct[name]["rate"], name))


def significant_categories(comparison: Comparison) -> set[str]:
    """Name the categories in which the change stands after Holm's correction."""
    found = (comparison.get("statistics") or {}).get("holm") or {}
    return {name for name, facts in found.items() if facts["p_holm"] <= ALPHA}


def limits_of(comparison: Comparison) -> list[str]:
    """Say what the figures do not show."""
    once = "Greedy decoding shows one answer to each item; answers that are drawn differ."
    is_greedy = comparison["decoding"].get("method") == "greedy"
    is_of_refusals = (comparison.get("statistics") or {}).get("figure") == REFUSING
    return [*_LIMITS, *[_OF_REFUSALS] * is_of_refusals, *[once] * is_greedy]


def is_counted(row: Row, comparison: Comparison) -> bool:
    """Tell whether an item is of the rings that the headline's figures count."""
    rings = comparison.get("headline_rings")
    return not rings or row["ring"] in rings


def change_in(turns: Iterable[Row]) -> str | None:
    """Say what changed in a conversation: the worst of its turns; None where none was checked."""
    found = {row["change"] for row in turns}
    return next((change for change in CHANGES if change in found), None)


def told_by_side(row: Row) -> dict[str, Any]:
    """Give what each side made of an item; further models stand apart in a row, by any name."""
    own = {key: row[key] for key, _ in SIDES if key in row}
    return {**own, **row.get("extra_models", {})}


def refusal_grid(rows: Sequence[Row], sides: Sequence[Told]) -> list[dict[str, Any]]:
    """Count full and partial refusals by kind of item, for each side; then by type, if several."""
    grid = []
    for kind, meaning in _KINDS:
        chosen = [row for row in rows if row.get("kind") == kind]
        types = sorted({str(row["category"]) for row in chosen})
        groups = [(meaning, chosen, False)] if chosen else []
        if kind != "benign" and len(types) > 1:
            groups += [
                (name, [row for row in chosen if row["category"] == name], True) for name in types
            ]
        for name, group, is_type in groups:
            counts = {
                side.key: Counter(
                    told[side.key]["refusal"]
                    for told in map(told_by_side, group)
                    if side.key in told
                )
                for side in sides
            }
            grid.append({"name": name, "n": len(group), "counts": counts, "is_type": is_type})
    return grid if any(row.get("kind") in ("harmful", "lookalike") for row in rows) else []


def models_measured(comparison: Comparison, sides: Sequence[Told]) -> list[dict[str, str]]:
    """Say of each side which model it is, how it was asked and which weights it had."""
    measured = comparison.get("measured") or {}
    known = measured.get("models") or {}
    told = []
    for side in sides:
        is_base = side.key.startswith("base")
        facts = known.get(side.key) or (known.get("base") if is_base else None) or {}
        own = {"base": comparison["base_model"], "instruct": comparison["instruct_model"]}
        pair = (comparison.get("pairs") or {}).get(side.key) or {}
        name = pair.get("model") or own["base" if is_base else "instruct"]
        told.append(
            {
                "label": side.label,
                "model": name,
                "form": side.form,
                "given": side.form if side.form == _FORMS[None] else f"given {side.form}",
                "size": _size(facts),
                "sha256": facts.get("sha256") or "",
                "sha256_of": facts.get("sha256_of") or "not known",
                "files": ", ".join(f"{n} {sha}" for n, sha in facts.get("files", {}).items()),
            }
        )
    return told


def _size(facts: Mapping[str, Any]) -> str:
    if not facts.get("num_parameters"):
        return "not known"
    return f"{facts['num_parameters']:,} parameters, {facts['dtype']}, on {facts['device']}"


def measured_lines(comparison: Comparison) -> Iterator[tuple[str, str]]:
    """Say how it was measured, as pairs of a word and a sentence; the command stands apart."""
    measured = comparison.get("measured") or {}
    decoding = comparison["decoding"]
    yield (
        "Suite",
        f"{comparison['suite']}, {counted(comparison['n'], 'item')}"
        + (f"; SHA-256 of the items {measured['items_sha256']}" if measured else ""),
    )
    told = ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in decoding.items())
    yield "Decoding", told if decoding.get("method") else "not known; the responses were ready"
    if decoding.get("method") == "greedy":
        yield (
            "Seeds",
            "greedy decoding draws nothing; intervals over clusters have seed 0",
        )
    if training := comparison.get("training"):
        facts = {k: v for k, v in training.items() if v is not None and k != "losses"}
        yield "Training", ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in facts.items())
    if not measured:
        return
    yield "Date", measured["date"]
    versions = [f"{name} {version}" for name, version in measured["versions"].items()]
    commit = f"; biddable's commit {measured['git_commit']}" if measured["git_commit"] else ""
    yield "Versions", ", ".join(versions) + commit
    device = measured["device"]
    yield "Machine", ", ".join(f"{k.replace('_', ' ')} {_plain(v)}" for k, v in device.items())


def _plain(value: object) -> str:
    if isinstance(value, bool) or value is None:
        return {True: "yes", False: "no", None: "not known"}[value]
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 10_000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def preference_lines(judge: Mapping[str, Any] | None, vote: Mapping[str, Any] | None) -> list[str]:
    """Say what a judge or people preferred, where they were asked."""
    lines = []
    for found, who in ((judge, "A judge"), (vote, "People")):
        if not found:
            continue
        sides, rate = found["sides"], found["win_rate"]
        by = found["judge"]["model"] if "judge" in found else f"{len(found['voters'])} voters"
        told = "" if rate is None else f", a win rate of {_share(rate)}"
        lines.append(
            f"{who} ({by}): {sides['after']} against {sides['before']} on {found['n']} items,"
            f" {found['wins']} won, {found['losses']} lost, {found['ties']} ties{told}."
        )
        if "judge" in found:
            lines.append(_of_judge(found))
    return lines


def _of_judge(found: Mapping[str, Any]) -> str:
    controlled, agreement = found["win_rate_length_controlled"], found["position"]["agreement"]
    parts = [
        "If answers were equally long: "
        + (
            _share(controlled)
            if controlled
            else f"not told, {found['length']['why_not_controlled']}"
        )
    ]
    if agreement:
        parts.append(f"both orders of an item agree in {_share(agreement)}")
    return "; ".join(parts) + "."


def _share(rate: Mapping[str, Any]) -> str:
    low, high = rate["ci95"]
    return f"{100 * rate['rate']:.1f} % ({100 * low:.1f} to {100 * high:.1f})"
