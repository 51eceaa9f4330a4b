"""The plan on paper: exact counts, formulas by hand, and what is no config of a model."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path

import pytest
import torch
from rich.console import Console
from transformers import BartConfig, BartForCausalLM

from biddable.config_training import MethodConfig, TrainingConfig
from biddable.errors import ConfigError
from biddable.training.costs import States
from biddable.training.method import apply_method
from biddable.training.paper import RESERVED, Hardware, plan_on_paper
from biddable.training.plan_table import paper_table, size_text
from biddable.training.spreading import Load
from tests.tiny import tiny_model

GB = 10**9
LLAMA_3_8B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "vocab_size": 128256,
    "max_position_embeddings": 8192,
    "rope_theta": 500000.0,
    "tie_word_embeddings": False,
}
NUM_PARAMETERS = 8_030_261_248
LAYER = 218_112_000
OUTSIDE = NUM_PARAMETERS - 32 * LAYER


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("llama") / "config.json"
    path.write_text(json.dumps(LLAMA_3_8B))
    return path


def planned(path, *, method=None, **asked):
    return planned_once(path, json.dumps(method or {}), **asked)


@cache
def planned_once(path, method, *, gpus=8, gpu_memory=80 * GB, tflops=None, sharding=None, **load):
    return plan_on_paper(
        path,
        MethodConfig(**json.loads(method)),
        hardware=Hardware(gpus, gpu_memory, tflops),
        load=Load(**{"precision": "float32", **load}),
        settings=sharding and TrainingConfig(sharding=sharding),
    )


def memory_of(plan, name):
    return next(spread.memory for spread in plan.spreads if spread.name == name)


def test_llama_3_8b_is_counted_exactly(llama):
    plan = planned(llama)
    assert plan.architecture == "LlamaForCausalLM"
    assert (plan.num_parameters, plan.num_trained) == (NUM_PARAMETERS, NUM_PARAMETERS)
    assert planned(llama.parent).num_parameters == NUM_PARAMETERS  # the folder does as well


def test_ddp_and_fsdp_by_hand(llama):
    plan = planned(llama)
    copied, sharded = memory_of(plan, "DDP"), memory_of(plan, "FSDP2")
    assert (copied.weights, copied.gradients) == (4 * NUM_PARAMETERS, 8 * NUM_PARAMETERS)
    assert copied.optimizer == 8 * NUM_PARAMETERS
    assert sharded.weights == NUM_PARAMETERS // 2 + 4 * (2 * LAYER + OUTSIDE)
    assert sharded.gradients == NUM_PARAMETERS // 2 + 4 * OUTSIDE
    assert sharded.optimizer == NUM_PARAMETERS
    assert copied.activations == sharded.activations > 40 * GB
    assert copied.peak > plan.usable == round(0.95 * (80 * GB - RESERVED))


def test_mixed_precision_keeps_float32_weights_and_passes_in_half(llama):
    plan = planned(llama, precision="mixed")
    assert memory_of(plan, "DDP").weights == (4 + 2) * NUM_PARAMETERS
    sharded = memory_of(plan, "FSDP2")
    gathered = 2 * LAYER + OUTSIDE
    assert sharded.weights == NUM_PARAMETERS // 2 + 4 * gathered + 2 * NUM_PARAMETERS
    again = memory_of(planned(llama, precision="mixed", recompute=True), "FSDP2")
    assert again.weights == NUM_PARAMETERS // 2 + (4 + 2) * gathered
    assert sharded.gradients == NUM_PARAMETERS // 2 + 4 * OUTSIDE
    assert sharded.optimizer == NUM_PARAMETERS
    assert 0.5 < sharded.activations / memory_of(planned(llama), "FSDP2").activations < 0.6
    assert memory_of(planned(llama, precision="bfloat16"), "DDP").weights == 2 * NUM_PARAMETERS


def test_adapters_and_frozen_layers(llama):
    adapted = planned(llama, method={"name": "lora", "rank": 8})
    assert (adapted.num_parameters, adapted.num_trained) == (NUM_PARAMETERS, 20_971_520)
    assert memory_of(adapted, "DDP").gradients == 8 * adapted.num_trained
    frozen = planned(llama, method={"name": "freeze", "num_frozen_layers": 16})
    assert NUM_PARAMETERS - frozen.num_trained == 16 * LAYER + 128256 * 4096
    full = memory_of(planned(llama), "DDP").activations
    assert memory_of(frozen, "DDP").activations == pytest.approx(full / 2, rel=0.01)


def test_the_largest_pass_fits_and_one_token_more_does_not(llama):
    (_, sharded) = planned(llama).spreads
    most = sharded.largest_micro_tokens
    assert not sharded.fits
    assert planned(llama, micro_tokens=most).fits
    assert not planned(llama, micro_tokens=most + 1).fits


def test_what_does_not_fit_is_told_what_would_help(llama):
    plan = planned(llama)
    assert not plan.fits
    by_change = {suggestion.change: suggestion for suggestion in plan.suggestions}
    helped = by_change["--checkpointing: about a third more time"]
    assert helped.fits
    assert helped.needed == memory_of(planned(llama, recompute=True), "FSDP2").peak
    lora = by_change["--method lora (rank 8)"]
    assert lora.needed == memory_of(planned(llama, method={"name": "lora"}), "FSDP2").peak
    (half,) = [s for s in plan.suggestions if s.change.startswith("--method freeze: ")]
    assert half.needed == memory_of(planned(llama, method={"name": "freeze"}), "FSDP2").peak
    assert planned(llama, gpus=16).suggestions == []
    (mixed,) = [s for s in plan.suggestions if s.change.startswith("--precision mixed: ")]
    assert mixed.needed == memory_of(planned(llama, precision="mixed"), "FSDP2").peak
    assert not any("bfloat16:" in s.change for s in plan.suggestions)  # which train has not
    mixed = planned(llama, precision="mixed", micro_tokens=256, gpu_memory=45 * GB)
    (single,) = [s for s in mixed.suggestions if s.change.startswith("--precision float32: ")]
    single_needed = planned(llama, micro_tokens=256, gpu_memory=45 * GB).needed
    assert (single.needed, single.fits) == (single_needed, True)


def test_what_is_not_said_is_as_train_has_it_on_a_gpu():
    assert Load().precision == "mixed"


def test_with_a_config_what_helps_is_named_by_its_keys(llama):
    plan = planned(llama, gpus=1, gpu_memory=36 * GB, sharding="none")
    keys = ["method: {name: lora, rank: 8}", "training.gradient_checkpointing: true: about"]
    keys += ["training.precision: mixed: passes", "method.quantize_base: int4"]
    for key in keys:
        assert any(key in suggestion.change for suggestion in plan.suggestions), key
    assert not any("--method" in suggestion.change for suggestion in plan.suggestions)


def test_a_cast_copy_of_a_weight_goes_with_its_layer_where_layers_are_computed_again(llama):
    again = planned(llama, precision="mixed", recompute=True)
    assert memory_of(again, "DDP").weights == 4 * NUM_PARAMETERS + 2 * (2 * LAYER + OUTSIDE)


@pytest.mark.parametrize("kind", ["int8", "int4"])
def test_frozen_layers_in_few_bits_take_what_they_do_in_a_model_that_is_there(kind, tmp_path):
    model = tiny_model()
    model.config.save_pretrained(tmp_path)
    method = {"name": "lora", "rank": 2, "quantize_base": kind}
    plan = planned(tmp_path, method=method, gpus=2)
    (copied,) = plan.spreads
    num_parameters = sum(p.numel() for p in model.parameters())
    apply_method(model, MethodConfig(**method))
    adapted = sum(p.numel() for p in model.parameters() if p.requires_grad)
    widest = max(m.weight.numel() for m in tiny_model().model.modules() if hasattr(m, "bias"))
    assert copied.memory.weights == States.of(model).weights - buffers(model) + 4 * widest
    assert copied.host == 4 * (num_parameters + adapted)
    assert copied.name == "DDP"
    with pytest.raises(ConfigError, match=r"Remove training.sharding, or method.quantize_base"):
        planned(tmp_path, method=method, gpus=2, sharding="full")
    alone = planned(tmp_path, method=method, gpus=1, gpu_memory=2 * GB, sharding="full")
    assert not alone.fits
    assert alone.suggestions
    assert not any("--gpus" in suggestion.change for suggestion in alone.suggestions)


def buffers(model):
    return sum(buffer.nbytes for buffer in model.buffers())


def test_where_no_change_is_enough_the_fewest_that_are_together_are_told_as_one(llama):
    plan = planned(llama, gpus=1, gpu_memory=36 * GB)
    together, *alone = plan.suggestions
    method = {"name": "lora", "quantize_base": "int4"}
    small = planned(llama, method=method, gpus=1, gpu_memory=36 * GB, micro_tokens=1024)
    settings = "--method lora (rank 8), --quantize-base int4 and --micro-tokens 1024"
    assert together.change.startswith(f"{settings}: frozen layers in 4 bits")
    assert together.needed == small.needed
    assert together.saves == plan.needed - together.needed
    assert together.fits
    assert small.fits
    assert not any(s.fits for s in alone)


def test_what_costs_only_time_is_combined_before_what_loses_digits_or_asks_for_gpus(llama):
    (together, *_) = planned(llama, gpus=1).suggestions
    assert together.change == "--method lora (rank 8) and --micro-tokens 1024"
    asked = {"gpus": 1, "method": {"name": "lora"}}
    assert together.needed == planned(llama, micro_tokens=1024, **asked).needed
    assert not planned(llama, **asked).fits


def test_nothing_is_combined_where_one_change_is_enough(llama):
    changes = [s.change for s in planned(llama).suggestions if s.fits]
    assert changes
    assert not [change for change in changes if " and --" in change]


def test_gpus_are_doubled_until_it_fits(llama):
    asked = {"gpu_memory": 22 * GB, "precision": "bfloat16", "micro_tokens": 256}
    plan = planned(llama, gpus=2, **asked)
    (more,) = [s for s in plan.suggestions if s.change == "--gpus 8"]
    assert more.needed == planned(llama, gpus=8, **asked).needed
    assert more.fits
    assert not planned(llama, gpus=4, **asked).fits


def test_gpus_are_added_where_nothing_else_is_enough(llama):
    asked = {"method": {"name": "lora"}, "gpu_memory": 12 * GB, "precision": "bfloat16"}
    together, *alone = planned(llama, gpus=2, sharding="full", **asked).suggestions
    assert together.change == "--micro-tokens 256 and --gpus 4"
    more = planned(llama, gpus=4, micro_tokens=256, sharding="full", **asked)
    assert together.needed == more.needed
    assert together.fits
    assert not any(s.fits for s in alone)


def test_where_all_together_is_too_little_it_is_said_what_is_needed_then(llama):
    plan = planned(llama, gpus=1, gpu_memory=4 * GB)
    (together, *alone) = plan.suggestions
    assert "--method lora (rank 8)" in together.change
    assert "--quantize-base int4" in together.change
    assert not any(s.fits for s in plan.suggestions)
    assert together.needed < min(s.needed for s in alone)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(paper_table(plan))
    (line,) = [each for each in console.export_text().splitlines() if "nothing is enough" in each]
    assert f"alone or together: {size_text(together.needed)} are needed" in line


def test_what_a_config_asks_for_is_what_has_to_fit(llama):
    most = planned(llama).spreads[1].largest_micro_tokens
    either = planned(llama, micro_tokens=most)
    copied = planned(llama, micro_tokens=most, sharding="none")
    divided = planned(llama, micro_tokens=most, sharding="full")
    assert (either.fits, copied.fits, divided.fits) == (True, False, True)
    assert [s.is_asked_for for s in copied.spreads] == [True, False]
    assert [s.is_asked_for for s in divided.spreads] == [False, True]
    (advice,) = [s for s in copied.suggestions if s.change == "training.sharding: full"]
    assert advice.fits
    assert advice.needed == memory_of(divided, "FSDP2").peak


def test_a_divided_model_is_whole_in_the_memory_of_one_cpu_alone(llama):
    plan = planned(llama, micro_tokens=1)
    assert [spread.host for spread in plan.spreads] == [0, 4 * NUM_PARAMETERS]
    assert [spread.host for spread in planned(llama, gpus=1).spreads] == [0]
    assert memory_of(plan, "FSDP2").weights == NUM_PARAMETERS // 2 + 4 * (2 * LAYER + OUTSIDE)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(paper_table(plan))
    (line,) = [each for each in console.export_text().splitlines() if "CPU memory" in each]
    assert line.split()[-3:] == ["-", *size_text(4 * NUM_PARAMETERS).split()]


def test_adapters_on_seventy_billion_parameters_fit_on_eight_gpus_of_80_gb(tmp_path):
    sizes = {"hidden_size": 8192, "intermediate_size": 28672, "num_hidden_layers": 80}
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**LLAMA_3_8B, **sizes, "num_attention_heads": 64}))
    plan = planned(path, method={"name": "lora"}, precision="bfloat16", recompute=True)
    assert plan.num_parameters == 70_553_706_496
    assert [spread.fits for spread in plan.spreads] == [False, True]
    assert memory_of(plan, "FSDP2").peak < 40 * GB
    assert planned(path, method={"name": "lora"}, precision="mixed", recompute=True).fits


def test_time_is_told_only_for_a_speed_that_is_given(llama):
    assert planned(llama).tokens_per_s is None
    plan = planned(llama, tflops=400)
    matrices = 32 * (LAYER - 2 * 4096) + 128256 * 4096
    assert plan.operations_per_token == 6 * matrices
    assert plan.tokens_per_s == 8 * 400e12 / (6 * matrices)


def test_one_gpu_has_one_way(llama):
    (alone,) = planned(llama, gpus=1, gpu_memory=200 * GB).spreads
    assert (alone.name, alone.fits) == ("one GPU", True)
    assert alone.memory.gradients == 4 * NUM_PARAMETERS


def test_a_gpu_too_small_for_anything(llama):
    plan = planned(llama, gpu_memory=GB)
    assert plan.usable == 0
    assert [spread.largest_micro_tokens for spread in plan.spreads] == [0, 0]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "No such file or directory"),
        ("{", "is no JSON"),
        ("[1]", 'has no "model_type"'),
        ('{"hidden_size": 8}', 'has no "model_type"'),
        ('{"model_type": "lama"}', r'model_type "lama" is not known .* Did you mean "llama"'),
        ('{"model_type": "llama", "hidden_size": 8}', "lacks num_hidden_layers, num_attention_h"),
        (json.dumps({**LLAMA_3_8B, "hidden_size": "wide"}), "hidden_size"),
        (json.dumps({**LLAMA_3_8B, "model_type": "vit"}), "no causal language model"),
    ],
)
def test_what_is_no_config_of_a_language_model(tmp_path, text, told):
    path = tmp_path / "other.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=told) as raised:
        planned(path)
    assert str(raised.value).startswith(str(path))


def test_sizes_under_their_older_names_are_seen(tmp_path):
    path = tmp_path / "config.json"
    values = {"model_type": "gpt2", "n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 300}
    path.write_text(json.dumps(values))
    assert planned(path, gpus=1).architecture == "GPT2LMHeadModel"


BART = {"model_type": "bart", "d_model": 64, "vocab_size": 300, "max_position_embeddings": 256}
BART |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "encoder_layers": 3}


@pytest.mark.parametrize("num_layers", [2, 3, 5])
def test_of_a_model_with_an_encoder_the_decoder_is_planned(num_layers, tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**BART, "decoder_layers": num_layers}))
    plan = planned(path, gpus=1, method={"name": "freeze", "num_frozen_layers": 1})
    assert plan.architecture == "BartForCausalLM"
    assert "1 of " + str(num_layers) in plan.method
    with torch.device("meta"):
        model = BartForCausalLM(BartConfig(**{**BART, "decoder_layers": num_layers}))
    assert plan.num_parameters == sum(p.numel() for p in model.parameters())


def test_a_pass_that_cannot_be_counted_is_told_in_a_line(tmp_path):
    path = tmp_path / "config.json"
    sizes = {"d_model": 32, "n_layer": 2, "n_head": 2, "d_inner": 64, "vocab_size": 300}
    path.write_text(json.dumps({"model_type": "xlnet", **sizes}))
    with pytest.raises(ConfigError, match=r"a pass of XLNetLMHeadModel cannot be counted") as told:
        planned(path, gpus=1, precision="mixed")
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)
