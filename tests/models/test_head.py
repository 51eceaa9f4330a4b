"""The part below the head is the one that the model calls, or the model is run whole."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from biddable.data.batching import Batch, collate
from biddable.data.encoding import IGNORE_INDEX
from biddable.data.trees import build_tree
from biddable.models.attention import why_no_trees
from biddable.models.head import Body
from biddable.models.lora import apply_lora
from biddable.models.loss import accumulate_gradient, batch_loss
from biddable.training.shadow import without_numbers
from tests.models.test_attention import (
    GROUPED,
    SIZES,
    V,
    build,
    gradients,
    one_by_one,
    rows_with_common_starts,
)
from tests.tiny import in_exact_doubles, tiny_model

NO_DROPOUT = {"dropout": 0.0, "attention_dropout": 0.0, "activation_dropout": 0.0}
DECODER = {
    **NO_DROPOUT,
    "vocab_size": V,
    "d_model": 32,
    "decoder_layers": 2,
    "decoder_attention_heads": 4,
    "decoder_ffn_dim": 48,
    "max_position_embeddings": 128,
}
OPT = {**SIZES, **NO_DROPOUT, "ffn_dim": 48, "word_embed_proj_dim": 32}
MODERNBERT = {**SIZES, "attention_dropout": 0.0, "mlp_dropout": 0.0, "embedding_dropout": 0.0}
TOKENS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1}
# What is below the head, by its class, and where that stands; of some it is not `base_model`.
PARTS: dict[str, tuple[dict[str, Any], str, str]] = {
    "opt": (OPT, "OPTDecoder", "model.decoder"),
    "bart": (DECODER, "BartDecoder", "model.decoder"),
    "pegasus": (DECODER, "PegasusDecoder", "model.decoder"),
    "llama4_text": (
        {**GROUPED, "head_dim": 8, "num_local_experts": 2, "intermediate_size_mlp": 48},
        "Llama4TextModel",
        "model",
    ),
    "modernbert-decoder": (
        {**MODERNBERT, **TOKENS, "sep_token_id": 2},
        "ModernBertDecoderModel",
        "model",
    ),
    "bloom": (
        {"vocab_size": V, "hidden_size": 32, "n_layer": 1, "n_head": 4},
        "BloomModel",
        "transformer",
    ),
}


class ReadsIds(LlamaForCausalLM):
    """Its head reads more than the states below it."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.own = nn.Embedding(config.vocab_size, config.vocab_size)

    def forward(self, input_ids: Tensor, **given: Any) -> CausalLMOutputWithPast:
        found = super().forward(input_ids, **given)
        found.logits = found.logits + self.own(input_ids)
        return found


class Elsewhere(LlamaForCausalLM):
    """It calls nothing of its `base_model`, and no model at all."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.below = nn.Embedding(config.vocab_size, config.hidden_size)

    def forward(self, input_ids: Tensor, **_: Any) -> CausalLMOutputWithPast:
        return CausalLMOutputWithPast(logits=self.lm_head(self.below(input_ids)))


MADE_UP = {
    ReadsIds: "run by itself the head gives other logits (by ",
    Elsewhere: "what is below it is no model of its own",
}


def made_up(kind: type[LlamaForCausalLM]) -> LlamaForCausalLM:
    model = kind(tiny_model().config)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.double()


def whole_loss(model: PreTrainedModel, batch: Batch) -> tuple[float, list[Tensor]]:
    """Take loss and gradient from the model itself and torch's cross-entropy."""
    output = model(batch.input_ids, attention_mask=batch.attention_mask)
    loss = nn.functional.cross_entropy(
        output.logits[:, :-1].flatten(0, 1),
        batch.labels[:, 1:].flatten(),
        ignore_index=IGNORE_INDEX,
        reduction="sum",
    )
    loss.backward()
    return loss.item(), gradients(model)


def require_exact(model: PreTrainedModel) -> None:
    batch = collate(list(rows_with_common_starts()))
    expected_loss, expected = whole_loss(model, batch)
    assert batch_loss(model, batch)[0].item() == pytest.approx(expected_loss, abs=1e-10)
    loss = accumulate_gradient(model, batch, num_loss_tokens=1)
    assert loss.item() == pytest.approx(expected_loss, abs=1e-10)
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", PARTS)
def test_what_the_model_calls_is_found_and_the_loss_is_its_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, kind, place = PARTS[name]
    model = build(name, settings).double().eval()
    in_exact_doubles(monkeypatch)
    body = Body(model)
    assert (type(body.decoder).__name__, body.why_whole) == (kind, "")
    assert body.decoder is model.get_submodule(place)
    inside = {*map(id, body.decoder.parameters())}
    beside = {id(p) for module in body.beside for p in module.parameters()}
    assert beside | inside == {*map(id, model.parameters())}
    assert model.get_output_embeddings() in body.beside
    assert not any(body.decoder in [*module.modules()] for module in body.beside)
    require_exact(model)


@pytest.mark.parametrize("adapts", [False, True])
def test_a_tree_of_opt_is_exact(adapts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build("opt", OPT)
    if adapts:
        apply_lora(model, rank=2)
        for name, parameter in model.named_parameters():
            if name.endswith("lora_B"):
                nn.init.normal_(parameter)
    model.double()
    in_exact_doubles(monkeypatch)
    assert why_no_trees(model) is None
    rows = rows_with_common_starts()
    expected_loss, expected = one_by_one(model, rows)
    loss = accumulate_gradient(model, build_tree(rows, range(len(rows))), num_loss_tokens=1)
    assert loss.item() == pytest.approx(expected_loss, abs=1e-10)
    torch.testing.assert_close(gradients(model), expected, rtol=0, atol=1e-10)


def test_trees_that_bart_does_not_take_are_told() -> None:
    why = why_no_trees(build("bart", DECODER))
    assert why is not None
    assert why.startswith("BartForCausalLM gives other logits for them")


def test_a_tree_that_only_the_parts_cannot_take_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(body: Body, states: Tensor) -> Tensor:
        raise IndexError("index 3 is out of bounds")

    model = tiny_model()
    assert why_no_trees(model) is None
    monkeypatch.setattr(Body, "logits", fail)
    assert why_no_trees(model) == "LlamaForCausalLM does not take them (IndexError)"


@pytest.mark.parametrize("kind", MADE_UP)
def test_a_model_whose_parts_do_not_stand_for_it_is_run_whole_and_says_so(
    kind: type[LlamaForCausalLM], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made_up(kind)
    in_exact_doubles(monkeypatch)
    body = Body(model)
    assert body.decoder is None
    why = f"{kind.__name__} is run whole, its head at all places: {MADE_UP[kind]}"
    assert body.why_whole.startswith(why)
    require_exact(model)


def test_a_head_that_fails_by_itself_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(body: Body, states: Tensor) -> Tensor:
        raise IndexError("index 3 is out of bounds")

    monkeypatch.setattr(Body, "logits", fail)
    why = Body(tiny_model()).why_whole
    assert why.endswith("run by itself the head fails (IndexError)")


def test_memory_that_runs_out_says_nothing_about_the_parts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def run_out(body: Body, states: Tensor) -> Tensor:
        raise torch.OutOfMemoryError("out of memory")

    model = tiny_model()
    with monkeypatch.context() as patch:
        patch.setattr(Body, "logits", run_out)
        with pytest.raises(torch.OutOfMemoryError):
            Body(model)
    assert Body(model).decoder is model.model


def test_a_model_is_tried_once_and_left_as_it_was() -> None:
    model, calls = tiny_model().train(), []
    model.model.layers[1].train(False)
    model.register_forward_hook(lambda module, given, out: calls.append(out.logits.shape))
    modes = [module.training for module in model.modules()]
    before = torch.random.get_rng_state()
    Body(model)
    assert calls == [(2, 4, 300), (1, 4, 300)]
    assert Body(model).decoder is model.model
    copied = copy.deepcopy(model)
    assert Body(copied).decoder is copied.model
    assert len(calls) == 2
    assert modes == [module.training for module in model.modules()]
    assert torch.equal(before, torch.random.get_rng_state())
    assert not any(module._forward_pre_hooks for module in model.modules())


@pytest.mark.parametrize("name", ["opt", "bart"])
def test_a_model_without_numbers_has_the_same_parts(name: str) -> None:
    settings, _, place = PARTS[name]
    with torch.device("meta"):
        model = build(name, settings)
    assert Body(model).decoder is model.get_submodule(place)


def test_a_copy_without_numbers_is_divided_as_its_model() -> None:
    for model, place in ((made_up(ReadsIds), None), (build("opt", OPT), "model.decoder")):
        assert Body(model).model is model
        shadow = without_numbers(model)
        expected = None if place is None else shadow.get_submodule(place)
        assert Body(shadow).decoder is expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_rounding_is_no_reason_to_run_a_model_whole(dtype: torch.dtype) -> None:
    for name in ("opt", "llama4_text"):
        assert Body(build(name, PARTS[name][0]).to(dtype)).why_whole == ""
    for kind in MADE_UP:
        assert Body(made_up(kind).to(dtype)).decoder is None


def test_weights_in_few_bits_are_divided_too() -> None:
    pytest.importorskip("torchao")
    from biddable.models.quantized import quantize_linears

    model = build("opt", OPT).eval()
    quantize_linears(model, "int8")
    assert Body(model).decoder is model.model.decoder
