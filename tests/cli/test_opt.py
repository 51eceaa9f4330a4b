"""Train a model whose head is not above its `base_model`, and hold the log against the model."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from transformers import BartConfig, BartForCausalLM, OPTForCausalLM, PreTrainedModel

from biddable.data.batching import collate
from biddable.data.encoding import encode_all
from biddable.data.readers import read_conversations
from biddable.data.templates import get_template
from biddable.models.loss import next_token_loss
from tests.cli.conftest import Cli
from tests.tiny import tiny_opt, tiny_tokenizer

Config = Callable[..., Path]


def tiny_bart() -> BartForCausalLM:
    config = BartConfig(
        vocab_size=300,
        d_model=64,
        decoder_layers=2,
        decoder_attention_heads=4,
        decoder_ffn_dim=128,
        max_position_embeddings=256,
        dropout=0.0,
        init_std=0.1,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=0,
        forced_eos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return BartForCausalLM(config)


def own_loss(model: PreTrainedModel, rows: Path) -> float:
    """Take the mean loss of a file's rows from all logits of a model."""
    tokenizer = tiny_tokenizer()
    template = get_template("inst", tokenizer)
    examples, _ = encode_all(read_conversations(rows), template, tokenizer, max_seq_len=None)
    batch = collate(examples)
    with torch.no_grad():
        logits = model.eval()(batch.input_ids, attention_mask=batch.attention_mask).logits
    loss_sum, count = next_token_loss(logits, batch.labels)
    return float(loss_sum / count)


@pytest.mark.parametrize("kind", [OPTForCausalLM, BartForCausalLM])
def test_train_logs_the_loss_of_the_model_itself(
    cli: Cli, config: Config, rows: Path, kind: type[PreTrainedModel]
) -> None:
    made = tiny_opt() if kind is OPTForCausalLM else tiny_bart()
    made.save_pretrained("base")
    tiny_tokenizer().save_pretrained("base")
    held_out = Path("held_out.jsonl")
    held_out.write_text(rows.read_text().replace("Say 1", "Say 2").replace("1 it is", "2 it is"))
    data = {"train": str(rows), "held_out": str(held_out)}
    ran = cli("train", config(model="base", data=data))
    assert ran.code == 0, ran.err
    log = [json.loads(line) for line in Path("runs/tiny/log.jsonl").read_text().splitlines()]
    measured = [record["loss"] for record in log if record["event"] == "held_out"]
    trained = kind.from_pretrained("runs/tiny")
    assert measured[0] == pytest.approx(own_loss(made, held_out), rel=1e-5)
    assert measured[-1] == pytest.approx(own_loss(trained, held_out), rel=1e-5)
    assert measured[-1] < measured[0]
    assert "run whole" not in ran.err
    is_padded = "rows are padded, not laid out as trees: BartForCausalLM gives other" in ran.err
    assert is_padded == (kind is BartForCausalLM)
