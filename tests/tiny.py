"""A tokenizer and a model small enough to build in every test; nothing is downloaded."""

from functools import lru_cache

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    LlamaConfig,
    LlamaForCausalLM,
    OPTConfig,
    OPTForCausalLM,
    PreTrainedTokenizerFast,
)

END = "<|endoftext|>"

_TEXT = [
    "What is the capital of France? The capital of France is Paris.",
    "Translate 'hello' to Spanish. The word in Spanish is hola.",
    "What is two and two? The answer is four. [INST] [/INST] ### Instruction: ### Response:",
    "Below is an instruction that describes a task. Write a response.",
]


@lru_cache(maxsize=1)
def _trained_bpe() -> str:
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=[END],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    bpe.train_from_iterator(_TEXT, trainer)
    return str(bpe.to_str())


def tiny_tokenizer(*, extra_special_tokens: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """Build a byte-level BPE tokenizer of 300 tokens; its BOS and EOS are both id 0."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(_trained_bpe()),
        bos_token=END,
        eos_token=END,
        model_max_length=256,
        clean_up_tokenization_spaces=False,
    )
    if extra_special_tokens:
        tokenizer.add_special_tokens({"additional_special_tokens": list(extra_special_tokens)})
    return tokenizer


def in_exact_doubles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let models in float64 stay there: many of them norm in what they know as float32."""
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)


def tiny_model(
    seed: int = 0,
    vocab_size: int = 300,
    *,
    dtype: torch.dtype = torch.float32,
    num_layers: int = 2,
    tie: bool = False,
) -> LlamaForCausalLM:
    """Build a Llama of hidden size 64 with random weights that depend on the seed alone."""
    config = LlamaConfig(
        vocab_size=vocab_size,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=num_layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=None,
        tie_word_embeddings=tie,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config)
    return model.to(dtype).eval()


def tiny_gpt2(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> GPT2LMHeadModel:
    """Build a GPT-2 of hidden size 32: its layers are Conv1D, its head is tied."""
    config = GPT2Config(
        vocab_size=300,
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=0,
        eos_token_id=0,
        initializer_range=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = GPT2LMHeadModel(config)
    return model.to(dtype).eval()


def tiny_opt(seed: int = 0, *, dtype: torch.dtype = torch.float32) -> OPTForCausalLM:
    """Build an OPT of hidden size 64, no dropout: it calls its decoder, past its `base_model`."""
    config = OPTConfig(
        vocab_size=300,
        hidden_size=64,
        ffn_dim=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        word_embed_proj_dim=64,
        max_position_embeddings=256,
        dropout=0.0,
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=0,
        init_std=0.1,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = OPTForCausalLM(config)
    return model.to(dtype).eval()
