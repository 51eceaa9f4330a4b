"""Tokens are scored as plain softmax arithmetic does, whatever is padded or put in parts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import biddable
from biddable.models import loss
from biddable.models.token_scores import score_tokens
from tests.tiny import in_exact_doubles, tiny_gpt2, tiny_model

ROWS = [[0, 5, 9, 31, 7, 250, 3], [0, 8], [4, 4, 4, 17, 40, 299, 20, 11, 6, 2]]


def plainly(model: torch.nn.Module, row: list[int]) -> torch.Tensor:
    with torch.no_grad():
        logits: torch.Tensor = model(input_ids=torch.tensor([row])).logits[0, :-1]
    return logits.log_softmax(dim=-1)


@pytest.mark.parametrize("max_logits", [2**23, 700], ids=["whole", "in parts"])
def test_scores_are_those_of_a_plain_softmax(
    monkeypatch: pytest.MonkeyPatch, max_logits: int
) -> None:
    in_exact_doubles(monkeypatch)
    monkeypatch.setattr(loss, "MAX_LOGITS", max_logits)  # 700 is one place of two models
    models = [tiny_model(0, dtype=torch.float64), tiny_model(1, dtype=torch.float64)]
    scores = score_tokens(models, ROWS, watched=[0, 7])
    for row, score in zip(ROWS, scores, strict=True):
        first, last = (plainly(model, row) for model in models)
        targets = torch.tensor(row[1:])[:, None]
        for n, log_probabilities in enumerate((first, last)):
            chosen = log_probabilities.gather(1, targets)
            np.testing.assert_allclose(score.nll[n], -chosen[:, 0], rtol=1e-10)
            assert score.rank[n].tolist() == ((log_probabilities > chosen).sum(1) + 1).tolist()
            assert score.likeliest[n].tolist() == log_probabilities.argmax(1).tolist()
            mass = log_probabilities[:, [0, 7]].exp().sum(1)
            np.testing.assert_allclose(score.watched[n], mass, rtol=1e-10)
        kl = (last.exp() * (last - first)).sum(dim=1)
        assert score.kl is not None
        np.testing.assert_allclose(score.kl, kl, rtol=1e-8)
        assert (kl > 0).all()


def test_one_model_has_no_distance_and_a_model_none_to_itself() -> None:
    (alone,) = score_tokens([tiny_gpt2()], ROWS[:1])
    assert alone.kl is None
    assert alone.nll.shape == (1, 6)
    model = tiny_gpt2()
    (same,) = score_tokens([model, model], ROWS[:1])
    assert same.kl is not None
    assert same.kl.tolist() == [0.0] * 6


def test_a_grown_vocabulary_is_compared_over_what_both_have() -> None:
    """Rows added for control tokens change the loss a little, and the distance not at all."""
    base, grown = tiny_model(0), tiny_model(0)
    grown.resize_token_embeddings(304, mean_resizing=False)
    (score,) = score_tokens([base, grown], ROWS[:1])
    assert score.kl is not None
    assert score.kl.max() < 1e-6
    assert (score.nll[1] > score.nll[0]).all()


MEMORY = """
import resource, torch
from transformers import LlamaConfig, LlamaForCausalLM
from biddable.models.token_scores import score_tokens

def build(seed):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=128_256, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=2048,
    )
    return LlamaForCausalLM(config).eval()

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

models = [build(0), build(1)]
score_tokens(models, [[1, 2, 3]])
before = peak()
score_tokens(models, torch.randint(0, 128_256, (2, 2048)).tolist())
print(peak() - before)
"""


@pytest.mark.slow
def test_a_large_vocabulary_does_not_fill_the_memory() -> None:
    """All logits of the two models at once would be 4,200 MB."""
    ran = subprocess.run(
        [sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(biddable.__file__).parents[1])},
    )  # fmt: skip
    assert float(ran.stdout) < 300, ran.stdout
