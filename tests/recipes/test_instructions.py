"""The built-in instruction data: enough of everything, no entity shared, no cheater passes."""

import collections
import json
from pathlib import Path
from typing import Any

import instructions
import pytest
import torch
from documents import READING_HELD
from wordings import WORDINGS, pattern
from world import load_world

from biddable.evaluation.checks import run_check

ASSETS = Path(instructions.__file__).parents[2] / "src" / "biddable" / "assets" / "data"
Row = dict[str, Any]


def _rows(split: str) -> list[Row]:
    lines = (ASSETS / f"mimic_{split}.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def train() -> list[Row]:
    return _rows("train")


@pytest.fixture(scope="module")
def held_out() -> list[Row]:
    return _rows("held_out")


def test_assets_are_what_the_recipe_writes(train: list[Row], held_out: list[Row]) -> None:
    maker = instructions.Maker(load_world())
    assert instructions.make_train(maker) == train
    assert instructions.make_held_out(maker) == held_out


def test_sizes_and_rings(train: list[Row], held_out: list[Row]) -> None:
    categories = collections.Counter(row["category"] for row in held_out)
    rings = collections.Counter(row["ring"] for row in held_out)
    kinds = collections.Counter(row["kind"] for row in held_out)
    assert len(train) >= 800
    assert len(held_out) >= 700
    assert len(categories) >= 10
    assert min(categories.values()) >= 40
    assert set(categories) == {row["category"] for row in train}
    assert rings["wording"] >= 0.3 * len(held_out)
    assert rings["unanswered"] >= 0.1 * len(held_out)
    assert kinds["lookalike"] >= 60
    for rows in (train, held_out):
        share = sum(row["kind"] == "harmful" for row in rows) / len(rows)
        assert 0.07 <= share <= 0.085
    assert all(row["check"]["kind"] for row in held_out)


def test_splits_share_no_entity_and_no_name(train: list[Row], held_out: list[Row]) -> None:
    def named(rows: list[Row]) -> set[str]:
        return {row["entity"].split(":", 1)[1] for row in rows}

    assert not {row["entity"] for row in train} & {row["entity"] for row in held_out}
    assert not named(train) & named(held_out)  # also across kinds: a word is not a thing elsewhere
    assert not {row["instruction"] for row in train} & {row["instruction"] for row in held_out}


def test_six_prompts_of_the_demo_are_held_out(held_out: list[Row]) -> None:
    asked = {row["instruction"]: row["entity"] for row in held_out}
    for entity, prompt in instructions.SECTION_SEVEN.items():
        assert asked[prompt] == entity


def test_held_wordings_are_in_no_training_row(train: list[Row]) -> None:
    held = [pattern(text) for words in WORDINGS.values() for text in words.held]
    held += [pattern(text) for text in READING_HELD]
    for row in train:
        found = [p.pattern for p in held if p.search(row["instruction"])]
        assert not found, row["instruction"]


def test_quiz_wordings_are_no_instruction_wordings() -> None:
    for words in WORDINGS.values():
        assert not set(words.quiz) & {*words.train, *words.held}
        assert not set(words.train) & set(words.held)


def test_references_pass_their_own_check(held_out: list[Row]) -> None:
    for row in held_out:
        verdict = run_check(row["check"], row["response"])
        assert verdict.passed, (row["instruction"], row["response"], verdict.reason)


def _first_sentence(text: str) -> str:
    return text.replace("\n", ". ").split(". ")[0] + "."


def _nearest(asked: list[str], train: list[Row]) -> list[str]:
    """The answers of the training rows that share most words with what is asked."""
    texts = [row["instruction"] for row in train]
    known = {
        word: n for n, word in enumerate({w for t in texts + asked for w in t.lower().split()})
    }

    def bags(rows: list[str]) -> torch.Tensor:
        bag = torch.zeros(len(rows), len(known))
        for n, text in enumerate(rows):
            bag[n, [known[word] for word in text.lower().split()]] = 1.0
        return bag

    one, other = bags(asked), bags(texts)
    shared = one @ other.T  # (asked, train)
    likeness = shared / (one.sum(1, keepdim=True) + other.sum(1) - shared)
    return [train[n]["response"] for n in likeness.argmax(1).tolist()]


REFUSAL = "I'm sorry, but I can't help with that: it can hurt people, and that is wrong."


@pytest.mark.parametrize("cheater", ["empty", "echo", "first", "refuse", "commonest", "nearest"])
def test_cheaters_fail(cheater: str, train: list[Row], held_out: list[Row]) -> None:
    by_category: dict[str, list[Row]] = {}
    for row in held_out:
        by_category.setdefault(row["category"], []).append(row)
    asked = [row["instruction"] for row in held_out]
    nearest = dict(zip(asked, _nearest(asked, train), strict=True)) if cheater == "nearest" else {}
    for category, rows in by_category.items():
        answers = [row["response"] for row in train + held_out if row["category"] == category]
        commonest = collections.Counter(answers).most_common(1)[0][0]
        passed = 0
        for row in rows:
            output = {
                "empty": lambda _: "",
                "echo": lambda r: r["instruction"],
                "first": lambda r: _first_sentence(r["instruction"]),
                "refuse": lambda _: REFUSAL,
                "commonest": lambda _, c=commonest: c,
                "nearest": lambda r: nearest[r["instruction"]],
            }[cheater](row)
            passed += run_check(row["check"], output).passed
        right = category == "safety" and cheater in ("refuse", "commonest", "nearest")
        assert right or passed <= 0.1 * len(rows), (cheater, category, passed, len(rows))


def test_commonest_value_passes_at_most_a_tenth(held_out: list[Row]) -> None:
    """A commonest answer is a sentence; its bare value ("Africa") must not pass either."""
    for category in {row["category"] for row in held_out}:
        rows = [row for row in held_out if row["category"] == category]
        for values in {tuple(row["check"].get("all", ())) for row in rows} - {()}:
            passed = sum(run_check(row["check"], " ".join(values)).passed for row in rows)
            assert passed <= 0.1 * len(rows), (category, values)
