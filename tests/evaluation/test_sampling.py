"""Answers that are drawn: the same by seed, and counted by item however many there are of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from biddable.errors import EvaluationError
from biddable.evaluation import local_model
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.answer_pairs import read_two_sides
from biddable.evaluation.comparison import build_comparison, compare
from biddable.evaluation.finished import compare_finished
from biddable.evaluation.gates import failed_baseline
from biddable.evaluation.local_model import LocalModel
from biddable.evaluation.pairing import pairs_of
from biddable.evaluation.runner import Outcome, evaluate, judge_outputs
from biddable.evaluation.sampling import Sampling, decoding_facts, each_draw, first_draws
from biddable.evaluation.scores import scores
from biddable.evaluation.scoring import score
from biddable.evaluation.sides import Side, write_comparison
from biddable.evaluation.statistics import sign_flip, wilson, wilson_of_shares
from biddable.evaluation.terminal import caption
from biddable.models.loading import LoadedModel
from tests.evaluation.chat_server import serve_chat
from tests.evaluation.items import FRANCE, ITEMS, SUM, contains, item
from tests.tiny import tiny_model, tiny_tokenizer

WARM = Sampling(1.5, seeds=(0, 1, 2))


@pytest.fixture(scope="module")
def loaded() -> LoadedModel:
    model = tiny_model(dtype=torch.float64)
    return LoadedModel(model, tiny_tokenizer(), name="tiny", source="tiny")


def drawn(
    model: Any, sampling: Sampling | None = WARM, *, items: Any = ITEMS
) -> dict[tuple[str, int | None], str]:
    found = evaluate(model, items, prompt_form="bare", max_new_tokens=6, sampling=sampling)
    return {(o.sample.id, o.sample.seed): o.output for o in found}


def test_a_seed_draws_the_same_whatever_shares_its_batch(
    loaded: LoadedModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = drawn(loaded)
    assert list(whole) == [(s.id, seed) for s in ITEMS for seed in (0, 1, 2)]
    assert len(set(whole.values())) > 10  # of 15: seeds draw other answers
    for size in (1, 4):
        monkeypatch.setattr(local_model, "_BATCH_SIZE", size)
        assert drawn(loaded) == whole
    alone = drawn(loaded, Sampling(1.5, seeds=(2,)), items=[SUM, FRANCE])
    assert alone == {key: whole[key] for key in (("s", 2), ("f", 2))}
    assert drawn(loaded, Sampling(1e-6)) == {
        (name, 0): output for (name, _), output in drawn(loaded, None).items()
    }


def test_draws_are_kept_by_temperature_share_and_seed(loaded: LoadedModel, tmp_path: Path) -> None:
    def num_made(sampling: Sampling | None) -> int:
        cache = AnswerCache(tmp_path)
        kept = drawn(LocalModel(loaded, cache=cache), sampling, items=[FRANCE])
        assert kept == drawn(loaded, sampling, items=[FRANCE])
        return cache.num_computed

    assert num_made(None) == 2  # an answer and a loss
    assert num_made(WARM) == 3
    assert num_made(WARM) == 0
    assert num_made(Sampling(1.5, seeds=(2, 3))) == 1
    assert num_made(Sampling(1.4, seeds=(2,))) == 1
    assert num_made(Sampling(1.5, 0.5, seeds=(2,))) == 1
    assert num_made(None) == 0


def test_a_later_turn_follows_on_the_draw_of_its_own_seed(loaded: LoadedModel) -> None:
    turns = [FRANCE, item("again", "And why?", "", after="f")]
    first = drawn(loaded, items=[FRANCE])
    heard: list[tuple[int | None, str]] = []

    class Listening(LocalModel):
        def answer(self, samples: Any, *arguments: Any, **settings: Any) -> Any:
            heard.extend((s.seed, s.instruction) for s in samples if s.id == "again")
            return super().answer(samples, *arguments, **settings)

    drawn(Listening(loaded), items=turns)
    assert heard == [
        (seed, "\n\n".join([FRANCE.instruction, *filter(None, [first["f", seed]]), "And why?"]))
        for seed in (0, 1, 2)
    ]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"temperature": 0.0}, "temperature is 0.0; expected more than 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"temperature": 1.0, "top_p": 0.0}, "top_p is 0.0; expected more than 0 and at most 1"),
        ({"temperature": 1.0, "top_p": 1.1}, "top_p is 1.1"),
        ({"temperature": 1.0, "seeds": ()}, r"seeds are \[\]; expected one or more"),
        ({"temperature": 1.0, "seeds": (-1,)}, r"seeds are \[-1\]"),
        ({"temperature": 1.0, "seeds": (3, 3)}, r"seeds are \[3, 3\]; each must be another"),
    ],
)
def test_what_nothing_can_be_drawn_with_is_refused(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(EvaluationError, match=f"sampling: {told}"):
        Sampling(**settings)


def answered(*right: tuple[int, int, int], seeds: tuple[int, ...] = (0, 1, 2)) -> list[Outcome]:
    """Make outcomes of items whose answers are right where there is a 1."""
    items = [
        item(str(n), f"Say w{n}.", f"w{n}", category="ab"[n % 2], check=contains(f"w{n}"))
        for n in range(len(right))
    ]
    draws = each_draw(items, Sampling(1.0, seeds=seeds))
    flags = [flag for row in right for flag in row]
    outputs = [s.response if flag else "no" for s, flag in zip(draws, flags, strict=True)]
    return judge_outputs(draws, outputs, stopped=[True] * len(draws))


def test_a_rate_is_the_mean_over_items_of_the_mean_over_seeds() -> None:
    found = scores(answered((1, 1, 0), (0, 0, 0), (1, 1, 1), (1, 0, 0)))
    rate = found["answer_correct"]
    assert rate["rate"] == pytest.approx(0.5)
    assert (rate["n"], rate["answers"]) == (4, 12)
    assert rate["ci95"] == wilson_of_shares([2 / 3, 0, 1, 1 / 3], 12)
    assert found["by_category"]["a"]["rate"] == pytest.approx(5 / 6)
    assert found["by_category"]["a"]["n"] == 2


def test_answers_that_all_agree_prove_no_more_than_one_each() -> None:
    flags = [0.0, 1.0] * 50
    low, high = wilson_of_shares(flags, 800)
    assert (low, high) == pytest.approx(wilson(50, 100), abs=0.004)
    assert wilson_of_shares([0.5] * 100, 800) == pytest.approx(wilson(400, 800), abs=0.002)
    assert wilson_of_shares([1.0] * 100, 800)[0] == pytest.approx(wilson(100, 100)[0], abs=0.002)
    assert wilson_of_shares([0.25], 4)[0] > 0


@pytest.mark.parametrize(("a", "b"), [(1.0, 1.0), (0.2, 0.8), (9.0, 1.0), (50.0, 50.0)])
def test_the_interval_covers_the_rate_and_that_of_all_answers_does_not(a: float, b: float) -> None:
    """Items are of unlike difficulty: drawn from Beta(a, b), each answered eight times."""
    rng = np.random.default_rng(5)
    hits, plain = [], []
    for _ in range(300):
        shares = rng.binomial(8, rng.beta(a, b, size=40)) / 8
        for found, bounds in (
            (hits, wilson_of_shares(shares.tolist(), 320)),
            (plain, wilson(round(320 * shares.mean()), 320)),
        ):
            found.append(bounds[0] <= a / (a + b) <= bounds[1])
    assert np.mean(hits) >= 0.92  # 2.4 standard errors below 95 %
    if a + b <= 10:
        assert np.mean(plain) < np.mean(hits) - 0.05


def sides(before: list[Outcome], after: list[Outcome]) -> dict[str, Side]:
    decoding = decoding_facts(WARM) | {"max_new_tokens": 4}
    return {
        "base": Side("base", "bare", decoding, before),
        "instruct": Side("run", "template", decoding, after),
    }


def test_a_gain_on_every_item_does_not_hide_what_is_found() -> None:
    """Differences that are all alike have no spread, and a difference is found all the same."""
    given = sides(answered(*[(0, 0, 0)] * 20), answered(*[(1, 1, 1)] * 20))
    block = build_comparison(given, suite="s")["statistics"]
    assert block["power80"] == pytest.approx(block["power80_worst_case"], rel=0.05)


def test_sides_are_tested_by_the_differences_of_their_items() -> None:
    """Eight items better by one answer of three, one worse by two."""
    before = answered(*[(0, 1, 0)] * 8, (1, 1, 1), (0, 0, 0))
    after = answered(*[(1, 0, 1)] * 8, (0, 0, 1), (0, 0, 0))
    found = build_comparison(sides(before, after), suite="s")
    block = found["statistics"]
    assert found["n"] == block["n"] == 10
    assert (block["answers_per_item"], block["n_discordant"]) == (3, 9)
    assert block["difference"] == pytest.approx((8 - 2) / 30)
    assert (block["before"], block["after"]) == pytest.approx((11 / 30, 17 / 30))
    # all ways to flip 1 eight times and 2 once that are as far from their middle, 5, as 2 is
    assert block["p"] == pytest.approx(2 * (1 + 8 + 28 + 1) / 2**9)
    assert block["test"].startswith("exact test by flipping the signs")
    assert block["mde"] == pytest.approx(6 / 30)  # six items better by one answer each
    assert block["mde_at_discordance"] == pytest.approx(8 / 30)
    assert 0 < block["power80"] < 1
    assert block["clusters"]["difference_ci95"][0] < block["difference"]
    assert found["paired"] == {
        "fixed": 8, "broken": 1, "both": 0, "neither": 1, "mcnemar_p": pytest.approx(0.0390625),
    }  # fmt: skip
    assert {name: b["fixed"] for name, b in block["holm"].items()} == {"a": 4, "b": 4}
    assert "10 items answered 3 times each" in caption(found)
    assert "8 more often right, 1 less often" in caption(found)
    assert "once for each seed" in found["notes"][-1]


def test_false_alarms_stay_rare_where_answers_to_an_item_agree() -> None:
    """Two sides alike, each answering an item by its own luck three times over."""
    rng = np.random.default_rng(6)
    alarms = []
    for _ in range(100):
        luck = rng.integers(0, 2, size=(2, 30, 1)).repeat(3, axis=2)
        pairs = pairs_of(*(answered(*map(tuple, side.tolist())) for side in luck))
        alarms.append(sign_flip(pair.after - pair.before for pair in pairs) <= 0.05)
    assert np.mean(alarms) <= 0.05 + 0.05


def test_what_was_drawn_is_written_read_and_paired(loaded: LoadedModel, tmp_path: Path) -> None:
    rows = tmp_path / "items.jsonl"
    written = [
        {"instruction": s.instruction, "response": s.response, "check": s.check} for s in ITEMS
    ]
    rows.write_text("".join(json.dumps(row) + "\n" for row in written))
    asked: dict[str, Any] = {"suite": rows, "max_new_tokens": 4}
    for name, sampling in (("a", WARM), ("b", WARM), ("other", Sampling(1.5)), ("greedy", None)):
        told = score(loaded, prompt_form="bare", sampling=sampling, out=tmp_path / name, **asked)
        assert told["n"] == len(ITEMS)
    facts = json.loads((tmp_path / "a/scores.json").read_text())
    assert facts["decoding"] == {
        "method": "sampling", "temperature": 1.5, "top_p": 1.0, "seeds": [0, 1, 2],
        "max_new_tokens": 4, "run_code": False,
    }  # fmt: skip
    assert facts["scores"]["stopped"]["answers"] == 15
    found = compare_finished(tmp_path / "a", tmp_path / "b", out=tmp_path / "out")
    assert found["n"] == len(ITEMS)
    text = (tmp_path / "out/samples.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(row["id"], row["seed"]) for row in lines[:4]] == [
        ("1", 0),
        ("1", 1),
        ("1", 2),
        ("2", 0),
    ]
    assert len(first_draws(lines)) == len(ITEMS)
    pairs = read_two_sides(tmp_path / "out", before="base", after="instruct").pairs
    assert len(pairs) == len(ITEMS)
    for name in ("other", "greedy"):
        with pytest.raises(EvaluationError, match="evaluate both in the same way"):
            compare_finished(tmp_path / "a", tmp_path / name)
    whole = compare(loaded, loaded, sampling=WARM, forgetting_text=None, template="inst", **asked)
    assert whole["decoding"]["seeds"] == [0, 1, 2]
    assert whole["base"]["stopped"]["n"] == len(ITEMS)


def test_a_baseline_is_paired_draw_by_draw(tmp_path: Path) -> None:
    none = answered(*[(0, 0, 0)] * 8)
    for name, after in (("old", answered(*[(1, 1, 0)] * 8)), ("new", none)):
        given = sides(none, after)
        result = build_comparison(given, suite="s")
        write_comparison(result, given, out=tmp_path / name)
    new, old = tmp_path / "new/samples.jsonl", tmp_path / "old/comparison.json"
    assert "8 items lost and 0 gained (p = 0.0078)" in failed_baseline(result, new, baseline=old)[0]
    assert failed_baseline(result, new, baseline=tmp_path / "new/comparison.json") == []


def test_a_server_is_told_temperature_share_and_seed() -> None:
    with serve_chat(lambda messages: "Paris.") as server:
        warm = Sampling(0.7, 0.9, seeds=(4, 5))
        found = evaluate(server_source(server.url), [FRANCE], sampling=warm)
        evaluate(server_source(server.url), [FRANCE])
    assert [o.sample.seed for o in found] == [4, 5]
    told = [{k: r.get(k) for k in ("temperature", "top_p", "seed")} for r in server.requests]
    assert sorted(told[:2], key=lambda r: r["seed"]) == [
        {"temperature": 0.7, "top_p": 0.9, "seed": seed} for seed in (4, 5)
    ]
    assert told[2] == {"temperature": 0.0, "top_p": None, "seed": None}


def server_source(url: str) -> Any:
    from biddable.evaluation.url_model import UrlModel

    return UrlModel(url)


def test_llama_cpp_draws_by_the_seed_from_all_tokens(tmp_path: Path) -> None:
    pytest.importorskip("xllamacpp")
    from biddable.evaluation.sources import open_source
    from tests.tiny_gguf import write_tiny_gguf

    path = str(write_tiny_gguf(tmp_path / "plain.gguf"))
    hot = Sampling(5.0, seeds=tuple(range(6)))
    first = drawn(open_source(path), hot, items=[FRANCE])
    assert first == drawn(open_source(path), hot, items=[FRANCE])
    assert len(set(first.values())) == 6
    assert (
        drawn(open_source(path), Sampling(5.0, 1e-6), items=[FRANCE])["f", 0]
        == (drawn(open_source(path), None, items=[FRANCE])["f", None])
    )


def test_ready_responses_cannot_be_drawn(tmp_path: Path) -> None:
    from biddable.evaluation.responses import ReadyResponses

    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt": "Say a.", "response": "a"}) + "\n")
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"instruction": "Say a.", "response": "a"}) + "\n")
    with pytest.raises(
        EvaluationError, match="responses are ready, so nothing is asked; leave --temperature out"
    ):
        score(ReadyResponses(path), suite=rows, sampling=WARM)
    ready = evaluate(ReadyResponses(path), [item("a", "Say a.", "a")], sampling=WARM)
    assert [(o.sample.seed, o.output) for o in ready] == [(0, "a"), (1, "a"), (2, "a")]
    assert replace(ready[0].sample, seed=None) == item("a", "Say a.", "a")
