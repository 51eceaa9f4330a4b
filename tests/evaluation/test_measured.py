"""What is told of how figures were measured can be checked, and changes with what it is of."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from biddable.evaluation.local_model import LocalModel
from biddable.evaluation.measured import hash_items, how_measured, identity_of
from biddable.evaluation.responses import ReadyResponses
from biddable.manifest import hash_file
from biddable.models.loading import LoadedModel, load
from tests.evaluation.items import ITEMS
from tests.tiny import tiny_model, tiny_tokenizer


def test_a_model_is_known_by_its_weights_in_memory_and_by_its_files(tmp_path: Path) -> None:
    tiny_model().save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    first, second = (LocalModel(load(str(tmp_path))) for _ in range(2))
    known = identity_of(first)
    assert known == identity_of(second)
    assert known["files"] == {"model.safetensors": hash_file(tmp_path / "model.safetensors")}
    assert (known["sha256_of"], known["dtype"]) == ("weights in memory", "float32")
    assert known["num_parameters"] == sum(p.numel() for p in first.loaded.model.parameters())
    with torch.no_grad():
        next(second.loaded.model.parameters()).view(-1)[0] += 1  # trained on, in this process
    assert identity_of(second)["sha256"] != known["sha256"]
    unsaved = LocalModel(LoadedModel(tiny_model(), tiny_tokenizer(), name="t", source=""))
    assert identity_of(unsaved)["files"] == {}


def test_responses_are_known_by_their_file(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(json.dumps({"prompt": "a", "response": "b"}) + "\n")
    known = identity_of(ReadyResponses(path))
    assert (known["sha256"], known["sha256_of"]) == (hash_file(path), "file r.jsonl")


def test_items_are_known_by_what_they_ask_wherever_they_lie() -> None:
    moved = [replace(item, source="elsewhere.jsonl:1") for item in ITEMS]
    assert hash_items(ITEMS) == hash_items(moved)
    other = [*ITEMS[:-1], replace(ITEMS[-1], check={"kind": "number", "value": 5})]
    assert hash_items(ITEMS) != hash_items(other)


def test_the_block_says_when_with_what_and_by_which_command() -> None:
    block = how_measured(ITEMS, {"base": {"name": "a"}, "base_fewshot": None}, command="biddable x")
    assert block["command"] == "biddable x"
    assert block["models"] == {"base": {"name": "a"}}
    assert {"python", "torch", "transformers", "biddable"} <= block["versions"].keys()
    assert block["date"].endswith("+00:00")
    json.dumps(block, allow_nan=False)
