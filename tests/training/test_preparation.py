"""What trains, settled by the config: methods, and the rows of control tokens beside them."""

from __future__ import annotations

import json

import pytest
import torch

from biddable.config import parse_config
from biddable.data.templates import template_hash
from biddable.errors import ConfigError
from biddable.models.loading import load
from biddable.training.finetune import run_training
from biddable.training.preparation import (
    encode_parts,
    prepare,
    receive_prepared,
    without_base,
)
from tests.tiny import tiny_model, tiny_tokenizer

CHATML = ["<|im_start|>", "<|im_end|>"]
ROWS = [{"instruction": f"Say {word}", "response": word} for word in ("hola", "uno", "dos", "si")]


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def base(tmp_path, request):
    """A base whose tokenizer has ChatML's tokens; their rows were never trained."""
    model = tiny_model(vocab_size=302, tie=request.param)
    with torch.no_grad():
        for module in (model.get_input_embeddings(), model.get_output_embeddings()):
            module.weight[-2:] = module.weight[:-2].mean(dim=0)
    model.save_pretrained(tmp_path / "base")
    tiny_tokenizer(extra_special_tokens=CHATML).save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.fixture
def plain(tmp_path):
    tiny_model().save_pretrained(tmp_path / "plain")
    tiny_tokenizer().save_pretrained(tmp_path / "plain")
    return str(tmp_path / "plain")


def config_of(base, method, **changes):
    with open("rows.jsonl", "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in ROWS)
    values = {"model": base, "data": "rows.jsonl", "output": "run", "template": "chatml"}
    training = {"epochs": 80, "batch_size": 4, "learning_rate": 1e-2}
    return parse_config(values | {"method": method, "training": training} | changes)


def stop_probability(folder):
    """How sure a run's model is to stop after an answer that it learned."""
    loaded = load(str(folder))
    text = "<|im_start|>user\nSay uno<|im_end|>\n<|im_start|>assistant\nuno"
    ids = torch.tensor([loaded.tokenizer(text).input_ids])
    stop = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    with torch.no_grad():
        return float(loaded.model(ids).logits[0, -1].softmax(dim=0)[stop])


@pytest.mark.parametrize("name", ["lora", "freeze"])
def test_untrained_control_tokens_train_by_default_and_the_model_stops(base, name):
    config = config_of(base, name)
    prepared = prepare(config)
    assert prepared.readiness.is_ready
    assert "the rows of <|im_start|>, <|im_end|> in model.embed_tokens" in prepared.method
    assert prepared.method.endswith("train too (they were untrained)")
    assert not [f for f in prepared.readiness.facts if f.verdict in ("warning", "error")]
    events = []
    folder = run_training(config, on_event=events.append)
    assert any("they were untrained" in str(e.get("summary")) for e in events)
    assert stop_probability(folder) > 0.9
    before = load(base).model.get_input_embeddings().weight
    after = load(str(folder)).model.get_input_embeddings().weight
    assert torch.equal(after[:300], before[:300])
    assert (after[300:] - before[300:]).abs().max() > 0.01


@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
def test_new_tokens_are_added_and_learned(plain, method):
    folder = run_training(config_of(plain, {"name": method, "new_tokens": CHATML}))
    assert stop_probability(folder) > 0.9
    loaded = load(str(folder))
    assert len(loaded.tokenizer) == len(loaded.model.get_input_embeddings().weight) == 302


def test_a_family_is_usable_once_its_tokens_are_there(plain):
    tokens = ["<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
    config = config_of(plain, {"name": "lora", "new_tokens": tokens}, template="llama-3")
    prepared = prepare(config)
    assert (prepared.template.stop_text, prepared.readiness.is_ready) == ("<|eot_id|>", True)
    assert "<|eot_id|> are new to the vocabulary" in prepared.method


def test_rows_that_are_trained_stay_and_named_ones_train(plain):
    config = config_of(plain, "lora", template="inst")
    assert "rows" not in prepare(config).method
    method = {"name": "lora", "train_tokens": ["<|endoftext|>"]}
    said = prepare(config_of(plain, method, template="inst")).method
    assert said.endswith("the rows of <|endoftext|> in model.embed_tokens and lm_head train too")


def test_full_training_has_no_need_of_it(base):
    assert prepare(config_of(base, "full")).method == "all parameters train"


def test_a_token_that_is_none_is_named(base):
    with pytest.raises(ConfigError, match=r'no token "<\|im_stop\|>".*mean "<\|im_st'):
        prepare(config_of(base, {"name": "lora", "train_tokens": ["<|im_stop|>"]}))


@pytest.mark.parametrize(
    ("method", "said"),
    [
        ({"name": "lora", "rslora": True, "alpha": 4.0, "rank": 4}, "rsLoRA of rank 4 and scale 2"),
        ({"name": "lora", "dora": True, "lora_plus_ratio": 4.0}, "DoRA of rank 8 and scale 1 on"),
        ({"name": "lora", "init": "pissa"}, "own largest directions (PiSSA)"),
        ({"name": "freeze", "freeze": ["*.mlp.*"]}, "what is called *.mlp.* is frozen; "),
        (
            {"name": "freeze", "freeze": ["model.norm"], "num_frozen_layers": 1},
            "1 of 2 layers are frozen; what is called model.norm is frozen; ",
        ),
    ],
)
def test_each_method_says_what_trains_and_leaves_a_folder(plain, method, said):
    config = config_of(plain, method, template="inst")
    assert said in prepare(config).method
    folder = run_training(config)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["results"]["steps"] == 80
    assert load(str(folder)).template == "inst"


def test_rows_that_train_are_not_kept_from_before(base):
    """The lower layers' output is only kept where no row of the embeddings trains."""
    told = []
    for train_tokens in ("auto", "none"):
        method = {"name": "freeze", "num_frozen_layers": 1, "train_tokens": train_tokens}
        events = []
        config = config_of(base, method, template="inst" if train_tokens == "none" else "chatml")
        folder = run_training(config, on_event=events.append)
        folder.rename(f"run-{train_tokens}")
        told.append([e["text"] for e in events if e["event"] == "activations"])
    assert told[0] == []
    assert "are run once and kept" in told[1][0]


@pytest.mark.parametrize("template", ["chatml", None])
def test_another_process_has_all_of_a_run_but_its_numbers(base, template):
    config = config_of(base, {"name": "lora", "rank": 2}, template=template)
    prepared = prepare(config)
    given = without_base(prepared)
    model = prepared.loaded.model
    assert len(given) < sum(p.nbytes for p in model.parameters())
    found = receive_prepared(given, config)

    def shown(model):
        named = model.named_parameters(remove_duplicate=False)
        return [(name, p.shape, p.dtype, p.requires_grad) for name, p in named]

    received = found.loaded.model
    assert shown(received) == shown(model)
    assert all(p.is_meta for p in received.parameters())
    assert not any(p.is_meta for p in model.parameters())
    assert len(list(received.parameters())) == len(list(model.parameters()))  # ties are kept
    buffers = dict(received.named_buffers())
    for name, buffer in model.named_buffers():
        assert buffers[name].is_meta
        assert (buffers[name].shape, buffers[name].dtype) == (buffer.shape, buffer.dtype)
    assert found.loaded.end_ids() == prepared.loaded.end_ids()
    assert template_hash(found.template) == template_hash(prepared.template)
    rows, wanted = (encode_parts(made).parts["train"] for made in (found, prepared))
    assert [rows[n] for n in range(len(rows))] == [wanted[n] for n in range(len(wanted))]
