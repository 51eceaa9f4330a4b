"""The page is whole, escapes what models wrote, and shows the same figures as the terminal."""

from __future__ import annotations

import io
import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biddable.curves import read_losses
from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.diversity import measure_diversity
from biddable.evaluation.loss_words import loss_note
from biddable.evaluation.report import render_report, rewrite_reports
from biddable.evaluation.report_facts import RINGS, sides_of
from biddable.evaluation.report_items import MAX_BYTES, items_of
from biddable.evaluation.report_markdown import pull_request_text
from biddable.evaluation.report_verdict import verdict_of
from biddable.evaluation.runner import judge_outputs
from biddable.evaluation.sides import Side, sample_rows, write_comparison
from biddable.evaluation.terminal import (
    caption,
    percent,
    side_by_side,
    summary_table,
    why_not,
)
from biddable.manifest import hash_file
from tests.evaluation.items import ITEMS
from tests.evaluation.test_comparison import sides

VOID = {"meta", "link", "input", "br"}


class Balanced(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag


def page(**losses: Any) -> str:
    given = sides()
    manifest = {"method": "lora", "results": {}}
    result = build_comparison(given, suite="mimic", manifest=manifest, notes=["a <note>"])
    result["training"]["losses"] = losses
    return render_report(result, sample_rows(given))


def test_the_page_is_whole_and_needs_nothing_else() -> None:
    html = page(train=[[1, 2.0], [2, 1.0]], held_out=[[0, 2.5], [2, 1.1]])
    parser = Balanced()
    parser.feed(html)
    assert parser.open == []
    assert not re.search(r'(?:src|href)="(?!#|data:,)', html.replace('xlink:href="#', 'x="'))
    assert "@import" not in html
    assert "a &lt;note&gt;" in html
    curve = html[html.index('id="training"') :].partition("</figure>")[0]
    assert curve.count("<svg") == 2  # one for a wide screen, one for a phone
    ids = re.findall(r'\bid="([^"]*)"', html)
    assert len(ids) == len(set(ids))
    assert "var(--s1)" in curve
    assert "unanswered" in html


def test_without_a_log_there_is_no_curve() -> None:
    assert 'id="training"' not in page()


def test_rates_are_drawn_with_their_intervals_and_read_out() -> None:
    html = page()
    labels = re.findall(r'role="img" aria-label="([^"]*)"', html)
    assert (
        "instruction following: base 0.0 % (0.0 to 49.0); instruct 75.0 % (30.1 to 95.4)" in labels
    )
    assert "facts: base 0.0 % (0.0 to 79.3); instruct 100.0 % (20.7 to 100.0)" in labels
    assert "base: words an answer, median 11" in labels


def test_rings_are_told_in_words_and_which_of_them_the_figures_count() -> None:
    text = unescape(" ".join(page().split()))
    for ring, meaning in RINGS.items():
        assert f'<span class="what">{meaning}</span>' in text
        apart = f'<th scope="row">{ring} <span class="soft">(not in the figures above)</span>'
        assert (apart in text) == (ring == "unanswered")
        assert f'<option value="{ring}">' in text
    assert "5 items of the suite mimic (4 of them count in the rates; the others are of" in text
    assert "1 of these items is of a ring that the rates above do not count." in text


def test_a_ring_that_all_items_share_is_not_told() -> None:
    result, rows = build_comparison(sides(), suite="s"), sample_rows(sides())
    told = sides_of(result)

    def captions(of: Any) -> str:
        return " ".join(re.findall(r'<span class="w">(.*?)</span>', "".join(
            group.html for group in items_of(of, told).groups
        )))  # fmt: skip

    assert "wording" in captions(rows)
    alike = [row for row in rows if row["ring"] == "entity"]
    assert len(alike) > 1
    assert "entity" not in captions(alike)


def test_every_text_colour_has_contrast_enough() -> None:
    css = page().partition("</style>")[0]
    light, dark = re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    for block in (light, dark):
        colours = dict(re.findall(r"--(\w+): (#\w{6})", block))
        texts = [name for name in colours if name not in ("page", "card", "line", "grid", "tint")]
        assert len(texts) == 13
        low = {
            (name, ground): contrast(colours[name], colours[ground])
            for name in texts
            for ground in ("page", "card")
            if contrast(colours[name], colours[ground]) < 4.5
        }
        assert low == {}


def contrast(one: str, other: str) -> float:
    """Of two colours, as WCAG 2.1 defines it."""

    def luminance(colour: str) -> float:
        parts = [int(colour[n : n + 2], 16) / 255 for n in (1, 3, 5)]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return sum(w * p for w, p in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_the_verdict_claims_no_more_than_was_found() -> None:
    given = sides()
    result = build_comparison(given, suite="s")
    unproven = verdict_of(result)
    assert unproven.tone == "unproven"  # 3 of 3 discordant items are no proof
    assert unproven.headline == (
        "run follows 75.0 % of the instructions, mimic 0.0 %: no difference is proven."
    )
    block = result["statistics"] | {"p": 0.01, "clusters": {"num": 4, "p": 0.01}}
    better = verdict_of(result | {"statistics": block})
    assert better.tone == "better"
    assert better.detail.startswith("Of 4 items: ")  # the headline has said the rates
    assert verdict_of(result | {"statistics": block | {"difference": -0.5}}).tone == "worse"
    clustered = block | {"clusters": {"num": 2, "p": 0.5}}
    assert verdict_of(result | {"statistics": clustered}).tone == "unproven"


def test_without_checks_or_items_the_report_says_so() -> None:
    unchecked = {
        name: replace(
            side,
            outcomes=[
                replace(o, verdict=None, correct=None, following=None, answer_loss_sum=None)
                for o in side.outcomes
            ],
        )
        for name, side in sides().items()
    }
    result = build_comparison(unchecked, suite="s")
    assert verdict_of(result).headline.startswith("No verdict: none of the 5 items has a check")
    assert "The base mimicked 75.0 % of the prompts" in verdict_of(result).detail
    html = render_report(result, sample_rows(unchecked))
    assert "Not checked" in html
    one = {name: replace(side, outcomes=side.outcomes[:1]) for name, side in unchecked.items()}
    told = verdict_of(build_comparison(one, suite="s"))
    assert told.headline.startswith("No verdict: the only item has no check that both")
    empty = {name: replace(side, outcomes=[]) for name, side in sides().items()}
    result = build_comparison(empty, suite="s")
    assert verdict_of(result).headline == "Nothing was compared: the suite has no items."
    html = render_report(result, [])
    assert "No rate could be told." in html


def test_of_the_ring_unanswered_alone_the_verdict_says_why_there_is_none() -> None:
    last = {
        name: replace(side, outcomes=[replace(o, answer_loss_sum=None) for o in side.outcomes[-1:]])
        for name, side in sides().items()
    }
    told = verdict_of(build_comparison(last, suite="s"))
    assert told.headline == (
        "No verdict: the only item with a check is of the ring unanswered, which no verdict counts."
    )
    assert told.detail == (
        "run follows 0.0 % of 1 item, mimic 0.0 %; that is not tested."
        ' Leave "ring" out of items that are to count.'
    )
    two = {
        name: replace(side, outcomes=[replace(o, sample=s) for o in side.outcomes for s in samples])
        for name, side in last.items()
        for samples in [[replace(side.outcomes[0].sample, id=key) for key in "ab"]]
    }
    told = verdict_of(build_comparison(two, suite="s"))
    assert told.headline.startswith("No verdict: all 2 items with a check are of the ring")


def test_a_filter_is_offered_for_each_behaviour_that_an_item_has() -> None:
    given = sides()
    words = {"refusal": "refuses", "mimicry": "mimics", "run_on": "runs on"}
    assert dict(chips(given)) == words
    outputs = ["", "to and fro " * 30, *(o.output for o in given["base"].outcomes[2:])]
    asked = [outcome.sample for outcome in given["base"].outcomes]
    given["base"] = replace(given["base"], outcomes=judge_outputs(asked, outputs))
    del words["run_on"]  # that output went
    assert dict(chips(given)) == words | {"empty": "says nothing", "repetition": "loops"}
    html = render_report(build_comparison(given, suite="s"), sample_rows(given))
    assert 'data-b="0:empty"' in html
    assert '"0":{"refusal":0,"mimicry":3,"run_on":0,"empty":1,"repetition":1' in html


def chips(given: dict[str, Side]) -> list[tuple[str, str]]:
    html = render_report(build_comparison(given, suite="s"), sample_rows(given))
    return re.findall(r'data-behaviour="(\w+)" data-word="([^"]*)"', html)


def test_what_models_write_cannot_leave_its_element() -> None:
    given = sides()
    evil = "</script><script>alert(1)</script><!--"
    outcomes = [replace(given["base"].outcomes[0], output=evil), *given["base"].outcomes[1:]]
    given["base"] = replace(given["base"], outcomes=outcomes)
    html = render_report(build_comparison(given, suite=evil), sample_rows(given))
    assert evil not in html
    assert "&lt;/script&gt;&lt;script&gt;alert(1)" in html


def test_a_name_cannot_leave_its_attribute() -> None:
    evil = '" onclick="alert(1)'
    samples = [replace(sample, category=evil, id=evil) for sample in ITEMS]
    given = {
        name: replace(
            side,
            outcomes=[replace(o, sample=s) for o, s in zip(side.outcomes, samples, strict=True)],
        )
        for name, side in sides().items()
    }
    html = render_report(build_comparison(given, suite="s"), sample_rows(given))
    assert 'onclick="' not in html


def test_losses_are_read_as_far_as_the_log_goes(tmp_path: Path) -> None:
    records = [{"event": "held_out", "step": 0, "loss": 3.0}, {"event": "start"}]
    records += [{"event": "step", "step": 1, "loss": 2.0}]
    text = "".join(json.dumps(record) + "\n" for record in records) + '{"event": "st'
    (tmp_path / "log.jsonl").write_text(text)
    assert read_losses(tmp_path) == {"held_out": [[0.0, 3.0]], "train": [[1.0, 2.0]]}
    assert read_losses(tmp_path / "nowhere") == {}
    assert read_losses("") == {}


def many(num: int, output: str) -> list[dict[str, Any]]:
    """Rows of samples.jsonl with long outputs, a tenth of them broken."""
    rows = sample_rows(sides())
    made = []
    for n in range(num):
        row = json.loads(json.dumps(rows[n % len(rows)]))
        row |= {"id": f"item-{n}", "change": "broken" if n % 10 == 0 else "both"}
        for side in ("base", "instruct"):
            row[side] |= {"output": output, "answer": output}
        row["extra_models"] = {f"m{k}": row["instruct"] for k in range(4)}
        made.append(row)
    return made


def six_models() -> dict[str, Any]:
    given = sides()
    given |= {f"m{k}": given["instruct"] for k in range(4)}
    return build_comparison(given, suite="mimic")


def test_a_thousand_items_of_six_models_stay_under_three_megabytes() -> None:
    rows = many(1000, "Some words & marks <b> of a long answer. " * 60)
    html = render_report(six_models(), rows)
    assert len(html.encode()) < 3_000_000
    assert html.count('class="it"') == 1000
    assert "characters more</em>" in html
    assert "Long texts are cut here" in html
    short = render_report(six_models(), many(20, "A short answer."))
    assert "Long texts are cut here" not in short


def test_where_items_find_no_room_the_right_ones_go_first_and_are_counted() -> None:
    rows = many(400, "words " * 400)
    found = items_of(rows, sides_of(six_models()), max_bytes=MAX_BYTES // 10)
    assert (found.groups[0].key, found.groups[0].num_items) == ("broken", 40)
    assert sum(group.num_items for group in found.groups) == 400 - found.num_left_out
    assert 0 < found.num_left_out < 360
    size = sum(len(group.html.encode()) for group in found.groups)
    assert size <= MAX_BYTES // 10 + 3 * len(" open") * 2


def test_two_to_six_models_stand_side_by_side() -> None:
    html = render_report(six_models(), many(3, "An answer."))
    assert [name for name in ("m0", "m1", "m2", "m3") if f">{name}<" not in html] == []
    labels = re.findall(r'role="img" aria-label="mimicry: ([^"]*)"', html)
    assert labels[0].count("%") == 6
    assert html.count("<h4>m3</h4>") == 3


def test_a_judge_and_voters_are_shown_apart_and_only_for_these_answers(tmp_path: Path) -> None:
    write_comparison(build_comparison(sides(), suite="mimic"), sides(), out=tmp_path)
    before = (tmp_path / "report.html").read_text()
    rate = {"rate": 0.75, "ci95": [0.4, 0.9], "n": 4}
    counts = {"n": 4, "wins": 3, "losses": 1, "ties": 0, "win_rate": rate}
    sha = {"samples_sha256": hash_file(tmp_path / "samples.jsonl")}
    named = {"sides": {"before": "base", "after": "instruct"}, **counts, **sha}
    told = {
        "judge": {"model": "arbiter"},
        "win_rate_length_controlled": None,
        "length": {"why_not_controlled": "length alone decided"},
        "position": {"agreement": rate},
    }
    (tmp_path / "judge.json").write_text(json.dumps(named | told))
    (tmp_path / "vote.json").write_text(json.dumps(named | {"voters": [{}, {}]}))
    assert rewrite_reports(tmp_path)
    after = (tmp_path / "report.html").read_text()
    assert "A judge (arbiter): instruct against base on 4 items, 3 won, 1 lost" in after
    assert "not told, length alone decided" in after
    assert "People (2 voters)" in after
    headline = re.compile(r"<header>.*?</header>", re.DOTALL)
    assert headline.findall(before) == headline.findall(after)  # neither enters the verdict
    assert "A judge (arbiter)" in (tmp_path / "report.md").read_text()
    (tmp_path / "judge.json").write_text(json.dumps(named | told | {"samples_sha256": "other"}))
    assert rewrite_reports(tmp_path)
    assert "arbiter" not in (tmp_path / "report.html").read_text()
    (tmp_path / "comparison.json").write_text('{"schema": 1}')
    assert not rewrite_reports(tmp_path)


def test_the_terminal_shows_the_same_figures(capsys: pytest.CaptureFixture[str]) -> None:
    given = sides()
    result = build_comparison(given, suite="mimic")
    console = Console(width=120)
    console.print(summary_table(result))
    console.print(side_by_side(sample_rows(given), limit=2))
    shown = capsys.readouterr().out
    assert percent(result["instruct"]["instruction_following"]) in shown
    assert "following, ring unanswered" in shown
    assert "3 fixed, 0 broken" in " ".join(shown.split())
    assert "✗ mimics the prompt" in shown
    assert "✓ follows" in shown


@pytest.mark.parametrize("num_further", [0, 1, 4])
def test_the_terminal_cuts_nothing_off(
    capsys: pytest.CaptureFixture[str], num_further: int
) -> None:
    given = sides()
    given |= {"base_templated": given["base"], "base_fewshot": given["base"]}
    given |= {f"lora-{k}": given["instruct"] for k in range(num_further)}
    result = build_comparison(given, suite="mimic")
    for width in (80, 120):
        Console(width=width).print(summary_table(result, width=width))
        shown = capsys.readouterr().out
        assert max(map(len, shown.splitlines())) <= width
        assert " ".join(caption(result).split()) in " ".join(shown.split())
        rate = percent(result["instruct"]["instruction_following"])
        parts = rate.split() if num_further > 1 and width == 80 else [rate]
        names = [f"lora-{k}" for k in range(num_further)]
        assert [part for part in (*parts, *names, "instruction") if part not in shown] == []


@pytest.mark.parametrize("width", [59, 40])
def test_a_narrow_terminal_cuts_nothing_off_either(width: int) -> None:
    given = sides()
    given |= {"base_templated": given["base"], "base_fewshot": given["base"]}
    result = build_comparison(given, suite="mimic")
    shown = io.StringIO()
    Console(file=shown, width=width).print(summary_table(result, width=width))
    parts = [*percent(result["instruct"]["instruction_following"]).split(), "report.html)"]
    assert [part for part in ("instruct", *parts) if part not in shown.getvalue()] == []
    assert " ".join(caption(result).split()) in " ".join(shown.getvalue().split())


def test_four_sides_of_the_widest_rates_fit_80_columns() -> None:
    given = sides()
    given |= {"base_templated": given["base"], "base_fewshot": given["base"]}
    result = build_comparison(given, suite="mimic")
    full = {"rate": 1.0, "ci95": [0.757, 1.0], "n": 12}
    for key in ("base", "base_templated", "base_fewshot", "instruct"):
        result[key] = result[key] | {"stopped": full, "answer_loss": 1.133}
    shown = io.StringIO()
    Console(file=shown, width=80).print(summary_table(result))
    assert shown.getvalue().count("100.0 (76-100)") == 4
    assert shown.getvalue().count("1.133") == 4


def test_strict_and_loose_stand_in_the_terminal_too() -> None:
    result = build_comparison(sides(), suite="ifeval:input_data.jsonl")
    for n, key in enumerate(("prompt_strict", "prompt_loose", "instruction_strict")):
        result["instruct"][key] = {"rate": n / 10, "ci95": [n / 20, n / 5], "n": 9}
    shown = io.StringIO()
    Console(file=shown, width=80).print(summary_table(result))
    rows = {" ".join(line.split()) for line in shown.getvalue().splitlines()}
    assert {"IFEval, prompt strict - 0.0 (0-0)", "IFEval, prompt loose - 10.0 (5-20)"} <= rows
    assert "IFEval, instruction strict - 20.0 (10-40)" in rows
    assert "instruction loose" not in shown.getvalue()  # nothing of it is known


def test_rows_without_checks_are_told_by_their_loss_and_training_s_loss_is_explained() -> None:
    unchecked = {
        name: replace(
            side,
            outcomes=[
                replace(
                    o,
                    verdict=None,
                    correct=None,
                    following=None,
                    answer_loss_sum=(3.0 if name == "base" else 2.0) + n / 10,
                    num_loss_tokens=2,
                )
                for n, o in enumerate(side.outcomes)
            ],
        )
        for name, side in sides().items()
    }
    losses = {"held_out_loss_before": 1.367, "held_out_loss": 1.038}
    manifest = {"method": "lora", "results": losses}
    result = build_comparison(unchecked, suite="s", manifest=manifest)
    change = result["answer_loss_change"]
    assert change["from"] == "base"
    assert change["difference"] == pytest.approx(-0.5)
    assert change["ci95"] == pytest.approx([-0.5, -0.5])
    verdict = verdict_of(result)
    assert verdict.headline.startswith("The loss on ")
    assert "nats per token: -0.500, 95 % interval" in verdict.headline
    assert 'Give items a "check"' in verdict.detail
    assert caption(result) == verdict.headline
    note = "1.367 to 1.038 on the rows held out, counts it"
    page = render_report(result, sample_rows(unchecked))
    assert note in page
    assert note in pull_request_text(result, sample_rows(unchecked))
    assert note in loss_note(result)


def test_lengths_have_one_median_everywhere() -> None:
    given = sides()
    result = build_comparison(given, suite="s")
    outputs = {name: [o.output for o in given[name].outcomes] for name in ("base", "instruct")}
    result["diversity"] = measure_diversity(outputs)
    page = render_report(result, sample_rows(given))
    for side in ("base", "instruct"):
        assert f"median {result['diversity'][side]['words']['median']:.1f} words" in page


def test_side_by_side_reads_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in sample_rows(sides())))
    assert side_by_side(path, limit=3).row_count == 3


def test_why_not_says_the_first_thing_that_is_wrong() -> None:
    fine = {"mimicry": False, "run_on": False, "correct": True, "stopped": False, "why": "named"}
    assert why_not(fine) == "does not stop"
    assert why_not(fine | {"run_on": True}) == "runs on"
    assert why_not(fine | {"correct": False}) == "wrong: named"


def test_a_reason_that_the_check_gives_too_is_told_once() -> None:
    given = sides()
    html = unescape(render_report(build_comparison(given, suite="s"), sample_rows(given)))
    assert 'follows: refuses: "I can\'t help with that: it can kill people."</p>' in html


def test_a_further_model_is_shown_with_its_answers_and_refusals() -> None:
    given = sides()
    outcomes = [
        replace(
            outcome,
            output="I say lora.",
            sample=replace(outcome.sample, kind="harmful"),
            behaviour=replace(outcome.behaviour, answer="I say lora.", refusal="full"),
        )
        for outcome in given["instruct"].outcomes
    ]
    asked = [outcome.sample for outcome in outcomes]
    harmful = {
        name: replace(
            side,
            outcomes=[replace(o, sample=s) for o, s in zip(side.outcomes, asked, strict=True)],
        )
        for name, side in given.items()
    }
    harmful["id"] = replace(given["instruct"], outcomes=outcomes)  # a name that a row has, too
    result = build_comparison(harmful, suite="mimic")
    html = render_report(result, sample_rows(harmful))
    assert html.count("I say lora.") == len(outcomes)
    grid = html[html.index("Refusals, by what an item is") :].split("</tbody>")[0]
    assert f">{len(outcomes)}<span" in grid
    assert [
        name for name in ("facts", "math", "safety") if f'class="sub">{name}<' not in grid
    ] == []
