"""Real base models that somebody else trained, read from llama2.c's first file format."""

from __future__ import annotations

import struct
from pathlib import Path

import torch
from tokenizers import Tokenizer, models
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from biddable.models.loading import LoadedModel


def read_llama2c(path: Path, tokens: list[str]) -> LoadedModel:
    """Make a Llama of a llama2.c file: seven int32, then float32 weights, each kind in a row."""
    data = path.read_bytes()
    dim, hidden, num_layers, num_heads, num_kv_heads, num_rows, longest = struct.unpack(
        "7i", data[:28]
    )
    weights = torch.frombuffer(bytearray(data[28:]), dtype=torch.float32)
    kv_dim = dim // num_heads * num_kv_heads
    kinds = {
        "model.embed_tokens": (num_rows, dim),
        "input_layernorm": (num_layers, dim),
        "self_attn.q_proj": (num_layers, dim, dim),
        "self_attn.k_proj": (num_layers, kv_dim, dim),
        "self_attn.v_proj": (num_layers, kv_dim, dim),
        "self_attn.o_proj": (num_layers, dim, dim),
        "post_attention_layernorm": (num_layers, dim),
        "mlp.gate_proj": (num_layers, hidden, dim),
        "mlp.down_proj": (num_layers, dim, hidden),
        "mlp.up_proj": (num_layers, hidden, dim),
        "model.norm": (dim,),
    }
    state, start = {}, 0
    for name, shape in kinds.items():
        size = torch.Size(shape).numel()
        block = weights[start : start + size].view(shape)
        start += size
        if name.startswith("model."):
            state[f"{name}.weight"] = block
            continue
        for layer in range(num_layers):
            heads = {"self_attn.q_proj": num_heads, "self_attn.k_proj": num_kv_heads}.get(name)
            weight = block[layer] if heads is None else _halves(block[layer], heads)
            state[f"model.layers.{layer}.{name}.weight"] = weight
    config = LlamaConfig(
        vocab_size=num_rows,
        hidden_size=dim,
        intermediate_size=hidden,
        num_hidden_layers=num_layers,
        num_attention_heads=num_heads,
        num_key_value_heads=num_kv_heads,
        max_position_embeddings=longest,
        rms_norm_eps=1e-5,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(config)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return LoadedModel(model.eval(), _tokenizer(tokens), path.stem, str(path))


def stories(folder: Path) -> LoadedModel:
    """Load stories260K: `<s>` parts its texts; `</s>` and most bytes are in none."""
    return read_llama2c(folder / "stories260K.bin", tok_bin(folder / "tok512.bin", 512))


def babyllama(folder: Path) -> LoadedModel:
    """Load BabyLlama: one token a character, 105 in all."""
    lines = (folder / "tok105.vocab").read_text(encoding="utf-8").split("\n")
    return read_llama2c(folder / "model5000.bin", [line.split("\t")[0] for line in lines[:105]])


def tok_bin(path: Path, num_tokens: int) -> list[str]:
    """Read the tokens of a llama2.c tokenizer file: a score, a length and bytes for each."""
    data, tokens, start = path.read_bytes(), [], 4
    for _ in range(num_tokens):
        (length,) = struct.unpack("i", data[start + 4 : start + 8])
        tokens.append(data[start + 8 : start + 8 + length].decode("utf-8", "replace").strip("\n"))
        start += 8 + length
    return tokens


def _halves(weight: torch.Tensor, num_heads: int) -> torch.Tensor:
    """Reorder from rotating neighbours, as llama2.c does, to rotating halves."""
    out, dim = weight.shape
    return weight.view(num_heads, out // num_heads // 2, 2, dim).transpose(1, 2).reshape(out, dim)


def _tokenizer(tokens: list[str]) -> PreTrainedTokenizerFast:
    """Give every text the ids of its characters: enough to render with, not how it was trained."""
    vocabulary = {token: number for number, token in enumerate(tokens)}
    model = models.BPE(vocab=vocabulary, merges=[], unk_token=tokens[0])
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(model),
        unk_token=tokens[0],
        bos_token=tokens[1],
        eos_token=tokens[2],
    )
