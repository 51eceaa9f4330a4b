"""Forgetting is what plain arithmetic says it is, on shared tokens and on tokens of their own."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

from biddable.evaluation import forgetting
from biddable.evaluation.forgetting import measure_forgetting, page_interval
from biddable.evaluation.pages import Page
from biddable.models.loading import LoadedModel
from tests.tiny import END, tiny_model, tiny_tokenizer

PAGES = [
    Page("What is the capital of France?\nThe capital is Paris, not 2 towns."),
    Page("def two():\n    return 2", "code"),
    Page("hello <|endoftext|> world: is it the end of it?"),
]


def tiny(seed: int) -> LoadedModel:
    return LoadedModel(tiny_model(seed), tiny_tokenizer(), name=f"tiny{seed}", source="")


def plain_nll(loaded: LoadedModel, text: str) -> tuple[float, int]:
    """Score a page in one piece, its start token before it."""
    tokenizer = loaded.tokenizer
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    row = torch.tensor([[tokenizer.bos_token_id, *ids]])
    with torch.no_grad():
        scores = loaded.model(input_ids=row).logits[0, :-1].log_softmax(dim=-1)
    return -float(scores.gather(1, row[0, 1:, None]).sum()), len(ids)


def test_losses_are_sums_over_pages_divided_once() -> None:
    base, instruct = tiny(0), tiny(1)
    found = measure_forgetting(base, instruct, PAGES, stop_ids=[0, 9_999])
    for side, loaded in (("base", base), ("instruct", instruct)):
        nlls, counts = zip(*(plain_nll(loaded, page.text) for page in PAGES), strict=True)
        assert found["num_tokens"] == sum(counts)
        assert found[f"{side}_nll"] == pytest.approx(sum(nlls) / sum(counts), rel=1e-5)
        num_bytes = sum(len(page.text.encode()) for page in PAGES)
        bits = sum(nlls) / math.log(2) / num_bytes
        assert found[f"{side}_bits_per_byte"] == pytest.approx(bits, rel=1e-5)
    low, high = found["nll_change"]["ci95"]
    assert low <= found["instruct_nll"] - found["base_nll"] <= high
    assert found["kl_to_base"] > 0
    assert found["same_tokens"] is True
    assert 0 < found["stop_probability"]["base"] < 1
    assert found["by_kind"].keys() == {"text", "code"}
    by_class = found["by_class"]
    assert sum(row["num_tokens"] for row in by_class.values()) == found["num_tokens"]
    assert sum(row["share_of_kl"] for row in by_class.values()) == pytest.approx(1)
    assert by_class["code"]["num_tokens"] > 10
    assert by_class["digits"]["num_tokens"] == 1  # the 2 of the prose; that of the code is code
    json.dumps(found, allow_nan=False)


def test_a_text_that_spells_a_control_token_is_read_as_text() -> None:
    ids, spans = forgetting.encode_page(f"a{END}b", tiny_tokenizer())
    assert ids[0] == 0
    assert 0 not in ids[1:]
    assert len(spans) == len(ids) - 1


def test_a_model_forgets_nothing_beside_itself() -> None:
    model = tiny(0)
    found = measure_forgetting(model, model, PAGES)
    assert found["nll_change"] == {"mean": 0.0, "ci95": [0.0, 0.0]}
    assert found["kl_to_base"] == 0
    assert found["moved"] == {"less_likely": [], "likelier": []}


def test_a_page_longer_than_a_row_is_scored_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = measure_forgetting(tiny(0), tiny(1), PAGES)
    monkeypatch.setattr(forgetting, "_LONGEST_ROW", 8)
    cut = measure_forgetting(tiny(0), tiny(1), PAGES)
    assert cut["num_tokens"] == whole["num_tokens"]
    assert cut["by_class"].keys() == whole["by_class"].keys()
    assert cut["base_nll"] != whole["base_nll"]  # less context is worth something


def test_tokens_that_moved_are_named_with_a_case() -> None:
    """A model whose head is turned against one id finds it less likely, and that is said."""
    base, instruct = tiny(0), tiny(0)
    (comma,) = base.tokenizer(",", add_special_tokens=False)["input_ids"]
    bias = torch.zeros(300)
    bias[comma] = -20.0
    instruct.model.lm_head.register_forward_hook(lambda _, __, logits: logits + bias)
    pages = [Page("one, two, and three"), Page("four of them")]
    (worst, *_) = measure_forgetting(base, instruct, pages)["moved"]["less_likely"]
    assert (worst["token"], worst["class"], worst["times"]) == (",", "punctuation", 2)
    assert worst["nll_change"] == pytest.approx(40, rel=0.05)
    assert worst["example"]["before"].endswith(("one", "two"))
    assert worst["example"]["base_probability"] > worst["example"]["instruct_probability"]
    assert worst["example"]["instruct_likeliest"] != ","


def test_what_stopping_costs_is_told_apart() -> None:
    """Where only the stop grew likelier, all of the change is the cost of not stopping."""
    base, instruct = tiny(0), tiny(0)
    bias = torch.zeros(300)
    bias[0] = 6.0
    instruct.model.lm_head.register_forward_hook(lambda _, __, logits: logits + bias)
    found = measure_forgetting(base, instruct, PAGES, stop_ids=[0])
    stopping = found["stop_probability"]
    assert stopping["instruct"] > 10 * stopping["base"]
    assert stopping["nll_change"] == pytest.approx(found["nll_change"]["mean"], rel=1e-3)


def test_other_tokens_leave_bytes_to_compare() -> None:
    base, instruct = tiny(0), tiny(1)
    merges_nothing = tiny_tokenizer()
    merges_nothing.add_tokens(["capital"])  # one id where the base reads several
    instruct = LoadedModel(tiny_model(1, vocab_size=301), merges_nothing, name="i", source="")
    found = measure_forgetting(base, instruct, PAGES)
    assert found["same_tokens"] is False
    assert found["num_instruct_tokens"] < found["num_tokens"]
    for key in ("kl_to_base", "nll_change", "by_class", "moved", "stop_probability"):
        assert found[key] is None
    assert found["instruct_bits_per_byte"] > 0
    assert found["bits_per_byte_change"]["ci95"] is not None


def test_without_a_start_token_the_first_is_read_and_not_counted() -> None:
    loaded = tiny(0)
    loaded.tokenizer.bos_token = None
    found = measure_forgetting(loaded, loaded, [Page("hello")])
    ids = loaded.tokenizer("hello", add_special_tokens=False)["input_ids"]
    assert found["num_tokens"] == len(ids) - 1
    first = loaded.tokenizer.decode(ids[:1])
    assert found["num_bytes"] == len("hello") - len(first)


def test_the_interval_draws_whole_pages() -> None:
    """Tokens of a page go together: many equal ones in few pages say little."""
    values, counts = np.array([0.0, 100.0, 0.0, 100.0]), np.array([100, 100, 100, 100])
    interval = page_interval(values, counts)
    assert interval is not None
    assert interval[0] <= 0.1
    assert interval[1] >= 0.9
    assert page_interval(values[:1], counts[:1]) is None
