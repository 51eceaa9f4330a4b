"""What training takes by the formulas: sums made by hand, and what autograd really keeps."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig

from biddable.data.batching import BatchPlan, collate
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example
from biddable.data.trees import build_tree
from biddable.models.attention import tree_attention
from biddable.models.freezing import freeze_layers
from biddable.models.head import Body
from biddable.models.lean_layers import fast_layers
from biddable.models.lora import apply_lora, quantize_frozen
from biddable.models.quantized import plain_parts
from biddable.training import shadow as shadow_module
from biddable.training.costs import (
    Memory,
    MicroBatch,
    States,
    Work,
    kept_per_token,
    micro_batches_of,
    recomputed,
)
from biddable.training.layout import PADDED, Layout
from biddable.training.shadow import KeptStates, Shadow, without_numbers
from tests.tiny import tiny_model
from tests.training.rows import random_examples

ROWS = EncodedRows.of(random_examples(12))
TREE = Layout(True, "")

# the tiny Llama: width 64, inner 128, 2 layers, 4 heads of 16, 2 of keys, 300 tokens, untied
LAYER = 64 * 64 + 2 * 64 * 32 + 64 * 64 + 3 * 64 * 128
HEAD = 300 * 64
NORMS = 2 * 2 * 64 + 64


def kept_by_autograd(model, batch):
    """Add up what autograd keeps in a real pass, weights apart."""
    parts = [part for p in model.parameters() for part in plain_parts(p)]
    weights = {part.untyped_storage().data_ptr() for part in parts}
    found = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            found[storage.data_ptr()] = storage
        return tensor

    body = Body(model)
    model.train(True)
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with fast_layers(model), hooks:
        if hasattr(batch, "branches"):
            with tree_attention(model, batch):
                body.states(**batch.inputs())
        else:
            body.states(input_ids=batch.input_ids)
    return sum(storage.nbytes() for storage in found.values())


def lora(model):
    apply_lora(model, rank=4)


def qlora(model):
    pytest.importorskip("torchao")
    apply_lora(model, rank=4)
    quantize_frozen(model, "int8")


def freeze(model):
    freeze_layers(model, 1)


@pytest.mark.parametrize("method", [lambda model: None, lora, qlora, freeze])
def test_what_is_kept_is_counted_without_numbers_as_autograd_keeps_it(method):
    model = tiny_model()
    method(model)
    padded = collate([ROWS[n] for n in range(12)])
    assert Shadow(model).kept_by(padded) == kept_by_autograd(model, padded)
    tree = build_tree(ROWS, range(12))
    assert Shadow(model).kept_by(tree) == pytest.approx(kept_by_autograd(model, tree), rel=0.05)


def test_the_formula_of_a_llama_is_what_is_counted(monkeypatch):
    monkeypatch.setattr(shadow_module, "fast_layers", lambda *_, **__: nullcontext())
    model = tiny_model()
    shadow = Shadow(model)
    counted = (shadow.kept(1, 200) - shadow.kept(1, 100)) / 100
    assert kept_per_token(model.config) == pytest.approx(counted, rel=0.02)


def test_other_architectures_are_counted_too():
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=300, n_positions=64)
    config.attn_pdrop = config.resid_pdrop = config.embd_pdrop = 0.0
    model = GPT2LMHeadModel(config)
    batch = collate([Example(list(range(20)), [True] * 20)])
    kept = KeptStates(model, PADDED)
    assert kept.is_counted
    assert kept.of(EncodedRows.of([Example(list(range(20)), [True] * 20)]), [0]) == pytest.approx(
        kept_by_autograd(model, batch), rel=0.05
    )


def test_a_model_that_cannot_be_run_without_numbers_is_sized_by_the_formula(monkeypatch):
    monkeypatch.setattr(Shadow, "kept", lambda *_: 1 / 0)
    model = tiny_model()
    kept = KeptStates(model, PADDED)
    assert not kept.is_counted
    num_tokens = 2 * max(len(ROWS[n].input_ids) for n in (0, 1))
    assert kept.of(ROWS, [0, 1]) == num_tokens * kept_per_token(model.config)


def test_a_shadow_holds_no_numbers_and_leaves_the_model_alone():
    model = tiny_model(tie=True)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    copy = without_numbers(model)
    assert {p.device.type for p in copy.parameters()} == {"meta"}
    assert copy.get_output_embeddings().weight is copy.get_input_embeddings().weight
    Shadow(model).kept(2, 8)
    assert not model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_layers_that_are_computed_again_keep_their_inputs_and_one_layer():
    model = tiny_model()
    assert recomputed(1_000_000, 100, model=model) == 2 * 100 * 64 * 4 + 500_000
    plain = KeptStates(model, PADDED).of(ROWS, [0, 1])
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            module.gradient_checkpointing = True  # as transformers turns it on
    assert KeptStates(model, PADDED).of(ROWS, [0, 1]) < plain


def test_operations_of_all_weights_by_hand():
    work = Work.of(tiny_model())
    assert work.forward_token == 2 * 2 * LAYER
    assert work.train_token == 3 * work.forward_token
    assert (work.forward_place, work.train_place) == (2 * HEAD, 6 * HEAD)
    assert (work.forward_pair, work.train_pair) == (2 * 4 * 64, 3 * 2 * 4 * 64)


def test_operations_where_less_trains_by_hand():
    model = tiny_model()
    freeze_layers(model, 1)
    work = Work.of(model)
    assert work.train_token == 2 * (2 + 1 + 1) * LAYER  # forward of both, both gradients of one
    assert work.train_pair == 4 * 64 * (2 + 2)
    assert Work.of(model, num_skipped=1).train_token == 2 * 3 * LAYER
    adapted = tiny_model()
    apply_lora(adapted, rank=4)
    adapters = sum(p.numel() for p in adapted.parameters() if p.requires_grad) // 2
    found = Work.of(adapted).train_token
    # the frozen first layer's inputs have a gradient by its own adapters
    assert found == 2 * 2 * (2 * (LAYER + adapters) + adapters)


def test_states_of_all_weights_by_hand():
    states = States.of(tiny_model())
    num_weights = 2 * LAYER + 2 * HEAD + NORMS
    assert states.trained == 4 * num_weights
    assert states.optimizer == 2 * states.trained
    assert 0 <= states.weights - states.trained < 1000  # the frequencies of rotations
    assert states.logits(10) == 2 * 10 * 300 * 4 + 4 * HEAD


def test_gradients_and_activations_meet_only_from_the_second_micro_batch_on():
    states = States(
        weights=100, trained=100, head_trained=0, vocabulary=10, itemsize=4, logits_at_once=2**22
    )
    first = MicroBatch((0,), 1, 1, 1, num_places=0)
    later = MicroBatch((0,), 1, 1, 1, num_places=0, has_gradients=True)
    assert states.peak(first, activations=1000, program=7).peak == 7 + 100 + 200 + 1000
    assert states.peak(later, activations=1000, program=7).peak == 7 + 100 + 100 + 200 + 1000
    # few activations: the peak is at the optimizer's step
    assert states.peak(first, activations=10, program=7).peak == 7 + 100 + 100 + 200


def test_a_mapped_file_is_in_the_peak_and_gives_way():
    memory = Memory(1, 2, 3, 4, 5, 6, cache=100)
    assert (memory.peak, memory.needed) == (121, 21)


def test_micro_batches_add_up_to_the_plan():
    start = [7] * 20
    rows = EncodedRows.of(
        [Example([*start, *e.input_ids], [False] * 20 + e.loss_mask) for e in ROWS]
    )
    plan = BatchPlan(rows, batch_size=4, micro_batch_size=2, is_tree=True)
    assert plan[0].trunk >= 20
    batches = [b for step in micro_batches_of(rows, plan, is_tree=True) for b in step]
    assert sum(batch.num_tokens for batch in batches) == plan.num_unique_tokens
    assert [batch.has_gradients for batch in batches[:3]] == [False, True, False]


def test_a_trunk_is_kept_beside_each_micro_batch():
    start = list(range(100, 130))
    rows = EncodedRows.of([Example([*start, n], [False] * 30 + [True]) for n in range(4)])
    kept = KeptStates(tiny_model(), TREE)
    assert kept.of(rows, [0, 1], trunk=30) == pytest.approx(kept.of(rows, [0, 1]), rel=0.1)


def test_the_formula_takes_a_llama_of_any_size():
    config = LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
    )
    layer = 4 * (6 * 4096 + 2 * 4096 + 2 * 1024 + 4 * 14336) + 4 * (32 + 2)
    assert kept_per_token(config) == 32 * layer + 2 * 4096 * 4 + 4
