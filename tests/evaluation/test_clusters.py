"""Items that belong together are one cluster, and intervals over clusters are shown."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biddable.data.conversation import Message
from biddable.evaluation.checks import Verdict
from biddable.evaluation.cluster_words import clusters_in_a_sentence
from biddable.evaluation.clusters import clusters_of
from biddable.evaluation.comparison import build_comparison
from biddable.evaluation.ifeval.scoring import ifeval_scores
from biddable.evaluation.pairing import FOLLOWING, REFUSING, Pair, describe_pairs
from biddable.evaluation.report import render_report
from biddable.evaluation.report_markdown import card_text, pull_request_text
from biddable.evaluation.runner import judge_outputs
from biddable.evaluation.sample import Sample
from biddable.evaluation.scoring import score, score_table
from biddable.evaluation.sides import Side, sample_rows
from biddable.evaluation.suites import load_suite
from biddable.evaluation.terminal import caption, reach_in_a_sentence, summary_table
from tests.evaluation.items import contains, item
from tests.evaluation.test_comparison import DECODING


def talk(name: str, *messages: tuple[str, str], response: str = "", **facts: Any) -> Sample:
    """Give an item of messages, a role and a text each."""
    given = tuple(Message(role, text) for role, text in messages)
    return Sample(name, given[-1].text, response, "all", given, **facts)


def on(document: str, name: str, **facts: Any) -> Sample:
    return Sample(name, name, "", "all", (Message("user", name, input=document),), **facts)


def test_items_that_share_nothing_are_their_own() -> None:
    assert clusters_of([]) == []
    apart = [item("a", "Who?", "Ada."), item("b", "When?", "1843."), on("One.", "c"), on("", "d")]
    assert clusters_of(apart) == ["item a", "item b", "item c", "item d"]


def test_an_entity_or_a_document_is_one_cluster() -> None:
    about = [item(str(n), f"Q{n}", "A", entity="Peru") for n in range(2)]
    assert clusters_of(about) == ["entity Peru"] * 2
    document = "The river rose in May. "
    assert clusters_of([on(document, "a"), on("Else.", "b"), on(document.strip(), "c")]) == [
        "item a", "item b", "item a",
    ]  # fmt: skip
    joined = [on("One.", "a"), on("One.", "b", entity="Peru"), *about]
    assert clusters_of(joined) == ["item a"] * 4


def test_a_system_text_is_a_document_unless_most_items_are_asked_with_it() -> None:
    def asked(*texts: str) -> list[Sample]:
        return [talk(str(n), ("system", s), ("user", f"Q{n}")) for n, s in enumerate(texts)]

    assert clusters_of(asked("A", "A", "B", "B")) == ["item 0", "item 0", "item 2", "item 2"]
    assert clusters_of(asked("A", "A", "A", "B")) == ["item 0", "item 1", "item 2", "item 3"]
    assert clusters_of(asked("", "A", "", "B")) == ["item 0", "item 1", "item 2", "item 3"]


def test_turns_of_a_conversation_are_one_cluster() -> None:
    first, reply = ("user", "Hi."), ("assistant", "Hello!")
    grown = [
        talk("a", first, response="Hello!"),
        talk("b", first, reply, ("user", "Who are you?")),
        talk("c", first, reply, ("user", "Who are you?"), reply, ("user", "Why?")),
        talk("d", first, response="What is it?"),
    ]
    assert clusters_of(grown) == ["item a", "item a", "item a", "item d"]
    again = ("user", "And why?")
    turns = [
        talk("1-1", ("user", "A?")), talk("1-2", again, after="1-1"),
        talk("2-1", ("user", "B?")), talk("2-2", again, after="2-1"),
    ]  # fmt: skip
    assert clusters_of(turns) == ["item 1-1", "item 1-1", "item 2-1", "item 2-1"]


def test_files_have_the_clusters_that_their_rows_show(tmp_path: Path) -> None:
    path = tmp_path / "d.jsonl"
    rows = [{"instruction": f"Q{n}?", "input": "The river rose.", "output": "a"} for n in range(4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert clusters_of(load_suite(f"instructions:{path}")) == ["item 1"] * 4
    row = {"question_id": 81, "category": "writing", "turns": ["Write.", "Again."]}
    path.write_text(json.dumps(row) + "\n")
    assert clusters_of(load_suite(f"mt_bench:{path}")) == ["item 81-1"] * 2
    for name, num in (("mimic", 633), ("refusal", 50), ("general", 202)):
        assert len(set(clusters_of(load_suite(name)))) == num


def sides(num_each: int) -> dict[str, Side]:
    """Ask 24 items, so many on one document; a document's are right or wrong together."""
    items = [on(f"D{n // num_each}", str(n), check=contains("yes")) for n in range(24)]
    right = {"base": range(0, 4), "instruct": range(0, 16)}
    return {
        name: Side(name, form, DECODING, judge_outputs(
            items, ["yes" if n in found else "no" for n in range(24)], stopped=[True] * 24))
        for (name, found), form in zip(right.items(), ("bare", "template"), strict=True)
    }  # fmt: skip


def screen(comparison: dict[str, Any]) -> str:
    shown = io.StringIO()
    Console(file=shown, width=80).print(summary_table(comparison, width=80))
    return shown.getvalue()


def test_intervals_over_clusters_stand_beside_wilson_s() -> None:
    given = sides(4)
    result = build_comparison(given, suite="s")
    block = result["statistics"]["clusters"]
    for side, key in (("base", "before"), ("instruct", "after")):
        rate = result[side]["instruction_following"]
        assert rate["num_clusters"] == block["num"] == 6
        assert rate["clustered_ci95"] == block[f"{key}_ci95"]
        low, high = rate["clustered_ci95"]
        assert high - low > 1.3 * (rate["ci95"][1] - rate["ci95"][0])
    low, high = (
        100 * bound for bound in result["instruct"]["instruction_following"]["clustered_ci95"]
    )
    terminal = screen(result)
    row = next(line for line in terminal.splitlines() if line.startswith("over 6 clusters"))
    assert row.rstrip().endswith(f"({low:.0f}-{high:.0f})")
    assert max(map(len, terminal.splitlines())) <= 80
    least, most = (100 * bound for bound in block["difference_ci95"])
    points = f"{least:+.1f} to {most:+.1f} (of so few too narrow: the test goes before it)"
    told = f"over 6 clusters the 95 % interval of the difference, +50.0 points, is {points}."
    assert told in caption(result)
    page = render_report(result, sample_rows(given))
    assert told in page
    assert "McNemar&#39;s exact test, two-sided, p = 0.0005 (p = 0.2500 over 6 clusters)<" in page
    assert f'<span class="ci over">6 clusters: {low:.1f} – {high:.1f}</span>' in page
    for text in (pull_request_text(result, sample_rows(given)), card_text(result)):
        assert told in text
        assert "| %, and its 95 % Wilson interval; that over 6 clusters |" in text
        assert f"66.7 (47-82; {low:.0f}-{high:.0f}) |" in text


def test_what_clusters_do_not_prove_is_called_no_proof() -> None:
    told = caption(build_comparison(sides(4), suite="s"))
    assert "p = 0.0005 (p = 0.2500 over 6 clusters), which is no proof of a difference." in told


def test_what_items_can_show_is_told_of_their_clusters() -> None:
    own, some, few = (build_comparison(sides(n), suite="s")["statistics"] for n in (1, 2, 6))
    told = reach_in_a_sentence(some)
    assert told.startswith("With 24 items in 12 clusters the smallest difference")
    assert some["mde"] == own["mde"] == 6 / 24  # one item in each of six clusters
    for key in ("power80", "power80_worst_case"):
        assert 1.2 * own[key] < some[key] < 1.6 * own[key], key  # sqrt(2) for half as many
    assert some["mde_at_discordance"] > own["mde_at_discordance"]
    assert reach_in_a_sentence(few) == (
        "With 24 items in 4 clusters no difference could be significant."
    )
    assert few["power80"] is few["power80_worst_case"] is None
    uneven = [Pair(str(n), "c", str(min(n, 5)), 0, 1) for n in range(90)]
    assert (describe_pairs(uneven) or {})["power80"] is None  # not 200 points


def test_categories_and_kinds_are_tested_over_clusters_too() -> None:
    for key, figure in (("holm", FOLLOWING), ("kinds", REFUSING)):
        for name, is_proven in (("one", False), ("", True)):
            pairs = [Pair(str(n), "c", name or str(n), 0, 1) for n in range(9)]
            (found,) = (describe_pairs(pairs, figure=figure) or {})[key].values()
            assert found["is_significant"] is is_proven, (key, name)


def test_items_that_are_their_own_have_one_interval() -> None:
    given = sides(1)
    result = build_comparison(given, suite="s")
    assert result["instruct"]["instruction_following"].keys() == {"rate", "ci95", "n"}
    rows = sample_rows(given)
    texts = (screen(result), render_report(result, rows), pull_request_text(result, rows))
    assert [
        text for text in texts if "cluster" in text.replace("intervals over clusters have", "")
    ] == []


def test_items_on_a_single_document_prove_nothing_of_others() -> None:
    result = build_comparison(sides(24), suite="s")
    assert result["statistics"]["clusters"]["difference_ci95"] is None
    assert "are one cluster." in caption(result)
    assert result["statistics"]["clusters"]["p"] == 1.0


def test_an_interval_that_the_test_agrees_with_stands_alone() -> None:
    told = clusters_in_a_sentence(build_comparison(sides(2), suite="s")["statistics"])
    assert "over 12 clusters the 95 % interval" in told
    assert "narrow" not in told


def test_instructions_of_one_prompt_are_one_cluster() -> None:
    details = {"strict": [True, True], "loose": [True, True], "loose_passed": True}
    failed = {"strict": [False, False], "loose": [False, True], "loose_passed": False}
    verdicts = [Verdict(True, "", details)] * 3 + [Verdict(False, "", failed)] * 3
    found = ifeval_scores(verdicts)
    strict = found["instruction_strict"]
    assert strict is not None
    assert (strict["n"], strict["num_clusters"]) == (12, 6)
    assert "num_clusters" not in (found["prompt_strict"] or {})
    joined = ifeval_scores(verdicts, clusters=["a", "a", "a", "b", "b", "b"])
    assert [(rate or {})["num_clusters"] for rate in joined.values()] == [2] * 4


def test_an_evaluation_has_the_interval_over_clusters_too(tmp_path: Path) -> None:
    rows = [{"instruction": f"Q{n}", "response": "yes", "check": contains("yes"),
             "entity": f"e{n // 3}"} for n in range(9)]  # fmt: skip
    (tmp_path / "s.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    answers = [{"prompt": f"Q{n}", "response": "yes" if n < 6 else "no"} for n in range(9)]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in answers))
    score(str(tmp_path / "r.jsonl"), suite=tmp_path / "s.jsonl", out=tmp_path / "out")
    result = json.loads((tmp_path / "out/scores.json").read_text())
    rate = result["scores"]["answer_correct"]
    assert (rate["num_clusters"], rate["clustered_ci95"]) == (3, pytest.approx([0, 1]))
    shown = io.StringIO()
    Console(file=shown, width=80).print(score_table(result))
    assert "over 3 clusters" in shown.getvalue()
    assert "(0-100)" in next(x for x in shown.getvalue().splitlines() if "answer correct" in x)
    assert max(map(len, shown.getvalue().splitlines())) <= 80
