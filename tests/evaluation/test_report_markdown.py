"""The texts for a pull request and a model card have the figures, and nothing escapes its place."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.report_markdown import card_text, fenced, plain, pull_request_text
from biddable.evaluation.sides import sample_rows
from biddable.evaluation.terminal import percent
from tests.evaluation.test_comparison import sides

COST = {
    "text": "english",
    "num_pages": 40,
    "num_tokens": 9000,
    "base_bits_per_byte": 0.9,
    "instruct_bits_per_byte": 1.0,
    "bits_per_byte_change": {"mean": 0.1, "ci95": [0.05, 0.15]},
    "nll_change": None,
}


def compared(**facts: Any) -> dict[str, Any]:
    given = sides()
    return build_comparison(given, suite="mimic", **facts) | {"forgetting": COST}


def test_a_reviewer_finds_verdict_rates_test_cost_and_examples() -> None:
    result = compared(command="biddable compare `a` b")
    text = pull_request_text(result, sample_rows(sides()))
    assert text.startswith("## mimic → run\n\n**run follows 75.0 % of the instructions")
    assert "3 fixed, 0 broken, p = 0.2500, which is no proof of a difference" in text
    following = percent(result["instruct"]["instruction_following"])
    assert f"| instruction following | 0.0 (0-49) | {following} |" in text
    assert "| plain text, bits per byte | 0.900 | 1.000 | +0.100 (+0.050 to +0.150) |" in text
    assert text.count("<details>") == text.count("</details>") == 4  # three fixed, how measured
    assert "### 3 of 3 fixed items" in text
    assert "### No items broken" in text
    assert "- Command: ``biddable compare `a` b``" in text


def test_two_held_out_losses_are_told_apart_under_the_figures() -> None:
    losses = {"held_out_loss_before": 1.367, "held_out_loss": 1.038}
    facts = compared() | {"training": losses}
    facts["instruct"]["answer_loss"] = 1.133
    table, _, after = pull_request_text(facts, []).partition("| answer loss, nats per token |")
    assert table
    _, rates, losses = after.split("\n\n")[:3]
    assert "other rates, corrected for as many tests" in rates
    assert "1.367 to 1.038" in losses
    assert "leaves out" not in pull_request_text(compared(), [])


def test_rings_that_the_headline_leaves_out_give_no_examples() -> None:
    rows = [row | {"ring": "unanswered"} for row in sample_rows(sides())]
    assert "### No items fixed" in pull_request_text(compared(), rows)


def test_examples_are_of_every_category_in_turn() -> None:
    first = sample_rows(sides())[0] | {"change": "fixed"}
    rows = [first | {"id": str(n), "category": name} for n, name in enumerate("aaaab")]
    shown = re.findall(r"<summary>(\w): ", pull_request_text(compared(), rows))
    assert shown == ["a", "b", "a"]


def test_a_card_has_no_heading_above_the_second_level_and_says_its_limits() -> None:
    text = card_text(compared(notes=["base_fewshot was left out: too long"]))
    levels = {len(marks) for marks in re.findall(r"^(#+) ", text, re.MULTILINE)}
    assert levels == {2, 3}
    assert text.startswith("## Results\n")
    limits = text.partition("### Limits of these figures")[2]
    assert "One suite is not all that a model is asked" in limits
    assert r"base\_fewshot was left out: too long" in limits
    assert "SHA-256 of the items" in text
    assert "- Command: none; called from Python" in text


@pytest.mark.parametrize(
    "evil",
    [
        "```\n# Heading\n[link](http://x.example)",
        "````````text\n<img src=x onerror=alert(1)>",
        "</details><h1>big</h1>",
    ],
)
def test_what_models_wrote_stays_in_its_block(evil: str) -> None:
    given = sides()
    for name, side in given.items():
        samples = [replace(o.sample, instruction=evil, category=evil) for o in side.outcomes]
        outcomes = [
            replace(o, sample=s, output=evil) for o, s in zip(side.outcomes, samples, strict=True)
        ]
        given[name] = replace(side, outcomes=outcomes)
    text = pull_request_text(build_comparison(given, suite="s"), sample_rows(given))
    outside, fence = [], ""
    for line in text.splitlines():
        opened = re.match(r"(`{3,})text$", line)
        if not fence and opened:
            fence = opened[1]
        elif fence and line == fence:
            fence = ""
        elif not fence:
            outside.append(line)
    assert fence == ""
    left = "\n".join(outside)
    assert [part for part in ("<img", "<h1", "# Heading\n") if part in left] == []
    assert not re.search(r"(?<!\\)\[.*\]\(http", left)


def test_names_and_figures_are_escaped() -> None:
    assert plain("a|b\n[c](d) <e> # f") == r"a\|b \[c\](d) &lt;e&gt; \# f"
    assert fenced("x" * 700).endswith("… 100 characters more") is False  # too few to be cut
    assert fenced("x" * 900).endswith("… 300 characters more")
