"""Sides are told apart, and what is said of how they were asked is true."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.report import render_report
from biddable.evaluation.report_markdown import pull_request_text
from biddable.evaluation.report_verdict import verdict_of
from biddable.evaluation.side_names import labels_of, names_of, ready_sides
from biddable.evaluation.sides import Side, sample_rows
from biddable.evaluation.terminal import summary_table
from tests.evaluation.test_comparison import sides

READY = {"method": None, "temperature": None, "max_new_tokens": None, "run_code": False}


def one_model(name: str = "smol") -> dict[str, Side]:
    return {key: replace(side, model=name) for key, side in sides().items()}


def test_one_model_in_two_forms_is_told_apart_everywhere() -> None:
    given = one_model()
    found, rows = build_comparison(given, suite="s"), sample_rows(given)
    assert verdict_of(found).headline.startswith(
        "smol (template) follows 75.0 % of the instructions, smol (bare) 0.0 %"
    )
    page, text = render_report(found, rows), pull_request_text(found, rows)
    assert "<title>smol (bare) → smol (template)</title>" in page
    assert 'class="n0">smol (bare)<span class="form">the instruction and nothing else<' in page
    assert "<h4>smol (template)</h4>" in page
    assert "The instruct model, smol (template), was given: a template." in page
    assert text.startswith("## smol (bare) → smol (template)")
    assert "| smol (bare), the instruction and nothing else | smol (template), a template |" in text
    shown = io.StringIO()
    Console(file=shown, width=80).print(summary_table(found, width=80))
    assert "smol (bare) → smol (template), 4 items" in shown.getvalue()
    assert "(template)" in shown.getvalue().partition("─")[0].splitlines()[-1]


def test_two_models_go_by_their_own_names() -> None:
    found = build_comparison(sides(), suite="s")
    assert names_of(found) == ("mimic", "run")
    assert (labels_of(found)["base"], labels_of(found)["instruct"]) == ("base", "instruct")
    assert "| base (the instruction and nothing else) | instruct (a template) |" in (
        pull_request_text(found, [])
    )


def test_one_model_in_one_form_is_told_apart_by_its_part() -> None:
    given = {key: replace(side, prompt_form="bare") for key, side in one_model("runs/a").items()}
    found = build_comparison(given, suite="s")
    assert names_of(found) == ("runs/a (as base)", "runs/a (as instruct)")
    assert labels_of(found)["instruct"] == "a (as instruct)"


@pytest.mark.parametrize("width", [80, 59, 40])
def test_a_long_name_leaves_the_rates_whole(width: int) -> None:
    given = one_model("some-hub/A-Model-Whose-Name-Goes-On-135M")
    given |= {"base_templated": given["base"], "base_fewshot": given["base"]}
    shown = io.StringIO()
    found = build_comparison(given, suite="s")
    Console(file=shown, width=width).print(summary_table(found, width=width))
    text = shown.getvalue()
    assert max(map(len, text.splitlines())) <= width
    assert [part for part in ("75.0", "(30-95)", "0.0", "(0-49)") if part not in text] == []


def ready(*names: str) -> dict[str, Any]:
    """Make sides of which some have responses that were ready."""
    given = sides() | {"also": sides()["instruct"]}
    decoding = READY if len(names) == len(given) else given["base"].decoding
    return {
        key: replace(side, decoding=decoding, prompt_form=None if key in names else "template")
        for key, side in given.items()
    }


def test_responses_that_were_ready_are_not_said_to_have_been_decoded_alike() -> None:
    given = ready("base", "instruct", "also")
    found = build_comparison(given, suite="s")
    page, text = render_report(found, sample_rows(given)), pull_request_text(found, [])
    assert "with responses to them that were ready; how these were decoded is not known." in page
    assert "same decoding" not in page
    assert "was given:" not in page
    assert "- Decoding: not known; the responses were ready" in text
    assert "- base: mimic, ready responses; not known" in text


def test_ready_responses_beside_a_model_are_named() -> None:
    given = ready("base")
    found = build_comparison(given, suite="s")
    assert ready_sides(found) == ["base"]
    page = render_report(found, sample_rows(given))
    assert (
        "put to the others, at most 8 new tokens each; the responses of base were ready, and how"
        " these were decoded is not known. \nThe instruct model was given: a template."
    ).replace(" \n", "\n") in page
