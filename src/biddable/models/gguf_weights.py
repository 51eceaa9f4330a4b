"""Turn a transformers model's weights and sizes into what llama.cpp reads, and back.

Four architectures are known here, each checked against llama.cpp's own answers. Names of tensors
and the small kinds of numbers are the ``gguf`` package's.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, GenerationConfig, PreTrainedModel

from biddable.errors import CheckpointError, ExportError

GgufKind = Literal["f32", "f16", "q8_0", "q4_0", "q4_1"]
GGUF_KINDS: tuple[GgufKind, ...] = ("f32", "f16", "q8_0", "q4_0", "q4_1")

ADVICE = (
    "llama.cpp's own convert_hf_to_gguf.py may know it: export it with --to merged, and run that on"
    " the folder."
)
# model type of transformers: architecture of llama.cpp
_ARCHITECTURES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3", "gpt2": "gpt2"}
_ACTIVATIONS = {"llama": "silu", "qwen2": "silu", "qwen3": "silu", "gpt2": "gelu_new"}
_BUFFERS = ("rotary_emb.inv_freq", ".attn.bias", ".attn.masked_bias")  # computed, not learned
# Tables of a small model are half of it, and every token goes through them: 8 bits there.
_TABLES = ("token_embd.weight", "output.weight", "position_embd.weight")


@dataclass(frozen=True)
class GgufWeight:
    """Hold one tensor as it is written.

    Attributes:
        name: llama.cpp's.
        data: the numbers, or the bytes of a small kind.
        kind: how they are kept, of ``gguf.GGMLQuantizationType``.
    """

    name: str
    data: NDArray[Any]
    kind: Any


def architecture_of(model: PreTrainedModel) -> str:
    """Name a model's architecture as llama.cpp does.

    Raises:
        ExportError: it is not known here, or differs from what llama.cpp computes.
    """
    config = model.config
    kind = str(config.model_type)
    if kind not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ExportError(f'gguf: the architecture "{kind}" is not known ({known}). {ADVICE}')
    found = [
        f"{name} is {getattr(config, name)!r}"
        for name, plain in _PLAIN.items()
        if getattr(config, name, plain) not in (plain, None)
    ]
    activation = getattr(config, "hidden_act", None) or getattr(config, "activation_function", None)
    if activation != _ACTIVATIONS[kind]:
        found.append(f"its activation is {activation!r}")
    if kind != "gpt2" and _rope(config)["rope_type"] not in ("default", "linear", "llama3"):
        found.append(f"its rope_type is {_rope(config)['rope_type']!r}")
    if any("full" not in layer for layer in getattr(config, "layer_types", None) or ()):
        found.append("some layers see a window only")
    if found:
        raise ExportError(f"gguf: {kind} is known, but here {found[0]}. {ADVICE}")
    return _ARCHITECTURES[kind]


# what a config may ask for and llama.cpp does not compute, and the value that asks for none of it
_PLAIN: dict[str, Any] = {
    "use_sliding_window": False,
    "scale_attn_by_inverse_layer_idx": False,
    "scale_attn_weights": True,
    "add_cross_attention": False,
    "pretraining_tp": 1,
}


def add_sizes(writer: Any, model: PreTrainedModel) -> None:
    """Write a model's sizes into a file's head.

    Args:
        writer: ``gguf.GGUFWriter`` of the model's architecture.
        model: see `architecture_of`.
    """
    import gguf

    config = model.config
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_head_count(config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)
    if config.model_type == "gpt2":
        writer.add_feed_forward_length(config.n_inner or 4 * config.hidden_size)
        writer.add_layer_norm_eps(config.layer_norm_epsilon)
        return
    head_dim = _head_dim(config)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_key_length(head_dim)
    writer.add_value_length(head_dim)
    writer.add_rope_dimension_count(head_dim)
    rope = _rope(config)
    writer.add_rope_freq_base(float(rope["rope_theta"]))
    if rope["rope_type"] == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(float(rope["factor"]))


def config_text(model: PreTrainedModel) -> str:
    """Write a model's own configs as a file keeps them for `read_gguf_model`."""
    own = {k: v for k, v in model.config.to_dict().items() if not k.startswith("_")}
    generation = getattr(model, "generation_config", None)
    return json.dumps(
        {"config": own, "generation": generation.to_diff_dict() if generation else {}}
    )


@torch.no_grad()
def read_gguf_model(
    path: str | Path, config: Mapping[str, Any], *, dtype: torch.dtype
) -> PreTrainedModel:
    """Rebuild the model of a file that this package wrote.

    Args:
        path: the file.
        config: as `config_text` wrote it, read.
        dtype: what the weights become.

    Raises:
        CheckpointError: a tensor is missing or of another shape.
    """
    import gguf
    from gguf.quants import dequantize

    own = dict(config["config"])
    made: Any = AutoConfig.for_model(own.pop("model_type"), **own)
    model: PreTrainedModel = AutoModelForCausalLM.from_config(made, dtype=dtype)
    model.generation_config = GenerationConfig(**config["generation"])
    there = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    for theirs, ours, name in _named(model):
        tensor = there.get(theirs)
        shape = _arranged(ours, name, model.config).shape
        if tensor is None or tuple(tensor.shape[::-1]) != tuple(shape):
            found = "is missing" if tensor is None else f"is {tuple(tensor.shape[::-1])}"
            raise CheckpointError(f"{path}: {theirs} {found}; expected {tuple(shape)}.")
        numbers = dequantize(tensor.data, tensor.tensor_type).reshape(tuple(shape))
        ours.copy_(_arranged_back(torch.from_numpy(numbers.copy()), name, model.config))
    return model


def gguf_weights(model: PreTrainedModel, kind: GgufKind) -> Iterator[GgufWeight]:
    """Give a model's tensors one by one, as llama.cpp has them.

    Args:
        model: its weights in any float type.
        kind: of the matrices; vectors stay float32, the tables of a 4-bit file take 8 bits, and a
            matrix whose rows do not fill whole blocks is kept in float16.

    Raises:
        ExportError: a tensor has no name there.
    """
    config = model.config
    for theirs, tensor, name in _named(model):
        yield _kept(theirs, _arranged(tensor, name, config).float().cpu().numpy(), kind)
    if config.model_type != "gpt2" and _rope(config)["rope_type"] == "llama3":
        yield _kept("rope_freqs.weight", _llama3_factors(config), "f32")


def _named(model: PreTrainedModel) -> Iterator[tuple[str, Tensor, str]]:
    """Give each tensor with llama.cpp's name for it and ours; a tied head once."""
    import gguf

    architecture, config = architecture_of(model), model.config
    names = gguf.get_tensor_name_map(
        gguf.MODEL_ARCH[architecture.upper()], config.num_hidden_layers
    )
    head = model.get_output_embeddings()
    is_tied = head is not None and head.weight is model.get_input_embeddings().weight
    for name, tensor in model.state_dict().items():
        if name.endswith(_BUFFERS) or (is_tied and name == "lm_head.weight"):
            continue
        theirs = names.get_name(name, try_suffixes=(".weight", ".bias"))
        if theirs is None:
            raise ExportError(f"gguf: {name} has no place in {architecture} of llama.cpp.")
        yield theirs, tensor.detach(), name


def _kept(name: str, numbers: NDArray[np.float32], kind: GgufKind) -> GgufWeight:
    """Put one tensor into the kind of numbers that suits it."""
    from gguf import GGML_QUANT_SIZES, GGMLQuantizationType
    from gguf.quants import quantize

    chosen: str = kind
    if numbers.ndim == 1 or name == "rope_freqs.weight":
        chosen = "f32"
    elif kind.startswith("q4") and name in _TABLES:
        chosen = "q8_0"
    if chosen.startswith("q") and numbers.shape[-1] % GGML_QUANT_SIZES[_type(chosen)][0]:
        chosen = "f16"
    if name == "position_embd.weight" and chosen != "f32":
        chosen = "f16"
    wanted = GGMLQuantizationType[chosen.upper()]
    return GgufWeight(name, quantize(np.ascontiguousarray(numbers), wanted), wanted)


def _type(kind: str) -> Any:
    from gguf import GGMLQuantizationType

    return GGMLQuantizationType[kind.upper()]


def _arranged_back(tensor: Tensor, name: str, config: Any) -> Tensor:
    """Undo `_arranged`: what follows is found by arranging the places themselves."""
    if config.model_type == "gpt2":
        return _arranged(tensor, name, config)  # turning twice is not turning
    places = torch.arange(tensor.shape[0])
    return tensor[torch.argsort(_arranged(places, name, config))]


def _arranged(tensor: Tensor, name: str, config: Any) -> Tensor:
    """Lay a tensor out as llama.cpp multiplies and rotates it."""
    if config.model_type == "gpt2":  # its layers keep (in, out)
        is_conv = ".attn.c_" in name or ".mlp.c_" in name
        return tensor.T if is_conv and tensor.dim() == 2 else tensor
    if config.model_type == "llama" and ".q_proj." in name:
        return _rotated(tensor, config.num_attention_heads)
    if config.model_type == "llama" and ".k_proj." in name:
        return _rotated(tensor, config.num_key_value_heads)
    return tensor


def _rotated(tensor: Tensor, num_heads: int) -> Tensor:
    """Order rows (or a bias) as llama.cpp pairs them in llama's rotation: neighbours, not halves.

    Example:
        >>> _rotated(torch.arange(4)[:, None], 1).flatten().tolist()
        [0, 2, 1, 3]
    """
    rows = tensor.shape[0]
    halves = tensor.reshape(num_heads, 2, rows // num_heads // 2, *tensor.shape[1:])
    return halves.swapaxes(1, 2).reshape(tensor.shape)


def _head_dim(config: Any) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def _rope(config: Any) -> dict[str, Any]:
    found = dict(getattr(config, "rope_parameters", None) or {})
    return {"rope_type": "default", "rope_theta": 10000.0, **found}


def _llama3_factors(config: Any) -> NDArray[np.float32]:
    """Give what divides each frequency of Llama 3.1's rotation: (head_dim / 2,).

    As ``rope_type: llama3`` of transformers: low frequencies are divided, high ones are not, and
    those between are blended.
    """
    rope, size = _rope(config), _head_dim(config)
    frequencies = rope["rope_theta"] ** -(torch.arange(0, size, 2).double() / size)
    length = rope["original_max_position_embeddings"]
    low, high = rope["low_freq_factor"], rope["high_freq_factor"]
    turns = length * frequencies / (2 * math.pi)  # within the length it was first trained on
    share = ((turns - low) / (high - low)).clamp(0, 1)
    scaled = (1 - share) / rope["factor"] + share
    factors: NDArray[np.float32] = (1 / scaled).float().numpy()
    return factors
