"""Answers outlive the process, are never made twice, and are never another model's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from biddable.errors import CheckpointError
from biddable.evaluation import local_model
from biddable.evaluation.answer_cache import FILE_NAME, AnswerCache, hash_weights, key_of
from biddable.evaluation.local_model import LocalModel
from biddable.evaluation.runner import evaluate
from biddable.models.loading import LoadedModel
from tests.evaluation.items import FRANCE, ITEMS, SUM
from tests.tiny import tiny_model, tiny_tokenizer

ROOT = Path(__file__).resolve().parents[2]


def tiny(seed: int = 0) -> LoadedModel:
    return LoadedModel(tiny_model(seed), tiny_tokenizer(), name="tiny", source="tiny")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """The prompts that were really put to a model."""
    seen: list[tuple[int, ...]] = []
    generate_each = local_model.generate_each

    def counted(model: Any, prompts: Any, **settings: Any) -> Any:
        seen.extend(tuple(prompt) for prompt in prompts)
        return generate_each(model, prompts, **settings)

    monkeypatch.setattr(local_model, "generate_each", counted)
    return seen


def run(cache: AnswerCache | None, items: Any = ITEMS, *, seed: int = 0, limit: int = 4) -> Any:
    source = LocalModel(tiny(seed), cache=cache)
    return evaluate(source, items, prompt_form="bare", max_new_tokens=limit)


def test_nothing_is_generated_twice(tmp_path: Path, asked: list[Any]) -> None:
    fresh = run(None)
    asked.clear()
    first = run(AnswerCache(tmp_path), [*ITEMS, ITEMS[0]])  # asked twice in one suite too
    assert len(asked) == len(set(asked)) == len(ITEMS)
    again = AnswerCache(tmp_path)
    second = run(again)
    assert len(asked) == len(ITEMS)
    assert second == fresh == first[:-1]
    assert (again.num_reused, again.num_computed) == (2 * len(ITEMS), 0)  # answers and losses


def test_another_model_limit_or_prompt_is_asked_anew(tmp_path: Path, asked: list[Any]) -> None:
    for times, settings in enumerate(({}, {"seed": 1}, {"limit": 5}, {}), start=1):
        run(AnswerCache(tmp_path), [FRANCE], **settings)
        assert len(asked) == min(times, 3)
    run(AnswerCache(tmp_path), [FRANCE, SUM])
    assert len(asked) == 4


def test_a_changed_weight_changes_the_hash() -> None:
    model = tiny_model()
    before = hash_weights(model, facts={})
    assert before == hash_weights(tiny_model(), facts={})
    assert before != hash_weights(model, facts={"device": "cuda"})
    assert before != hash_weights(tiny_model(dtype=torch.bfloat16), facts={})
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] += 1e-6
    assert before != hash_weights(model, facts={})


def test_what_was_computed_before_a_failure_is_kept(tmp_path: Path) -> None:
    def fails(places: list[int]) -> Iterator[tuple[int, Any]]:
        yield places[0], "kept"
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        AnswerCache(tmp_path).fill(["a", "b"], fails)
    found = AnswerCache(tmp_path).fill(["a", "b"], lambda places: ((n, "new") for n in places))
    assert found == ["kept", "new"]


def test_the_file_is_kept_under_its_size(tmp_path: Path) -> None:
    keys = [f"{n:064d}" for n in range(100)]
    AnswerCache(tmp_path).fill(keys, lambda places: ((n, "x" * 1000) for n in places))
    AnswerCache(tmp_path, max_bytes=20_000)
    seen: list[int] = []

    def compute(places: list[int]) -> Iterator[tuple[int, Any]]:
        seen.extend(places)
        return iter([(n, "y") for n in places])

    AnswerCache(tmp_path).fill(keys, compute)
    assert 80 <= len(seen) < 95
    assert 99 not in seen  # what was used last stays


def test_old_values_may_be_too_old(tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    for age, expected in ((None, "first"), (1000.0, "first"), (0.0, "third")):
        value = {None: "first", 1000.0: "second", 0.0: "third"}[age]
        time.sleep(0.01)
        found = cache.fill(["a"], lambda places, v=value: ((n, v) for n in places), max_age_s=age)
        assert found == [expected]


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).write_text("no database at all, but a text of some length" * 50)
    with pytest.raises(CheckpointError, match=r"answers.sqlite: .*--no-cache"):
        AnswerCache(tmp_path)


def test_keys_do_not_depend_on_the_order_of_facts() -> None:
    assert key_of(a=1, b=[2]) == key_of(b=[2], a=1) != key_of(a=1, b=[3])


# Stops between two ids of a batch once an answer is in the file.
KILLED = """
import sqlite3, sys, time
from pathlib import Path
from biddable.evaluation.answer_cache import FILE_NAME, AnswerCache
from biddable.models.running_rows import RunningRows
from tests.evaluation.test_answer_cache import run
folder = Path(sys.argv[1])
cache = AnswerCache(folder)
read_token = RunningRows.read_token
def stopping(self, next_ids):
    (kept,) = sqlite3.connect(folder / FILE_NAME).execute("SELECT COUNT(*) FROM answers").fetchone()
    if kept:
        print(kept, flush=True)
        time.sleep(60)
    return read_token(self, next_ids)
RunningRows.read_token = stopping
run(cache, limit=12)
"""


def test_a_killed_evaluation_goes_on_within_its_batch(tmp_path: Path, asked: list[Any]) -> None:
    """SIGKILL when one of a batch's five answers has ended: that one is there, and only that."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "1\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    whole = run(None, limit=12)
    assert len(asked) == len(ITEMS) < local_model._BATCH_SIZE
    every = set(asked)
    asked.clear()
    assert run(AnswerCache(tmp_path), limit=12) == whole
    (kept,) = every - set(asked)
    assert len(asked) == len(ITEMS) - 1
    assert tiny_tokenizer().decode(kept).endswith(SUM.instruction)  # the one that stops by itself
