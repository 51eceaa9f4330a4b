"""What is written as GGUF is the same model under llama.cpp: ids of prompts, and greedy answers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from biddable.data.templates import get_template
from biddable.errors import ExportError
from biddable.models.generation import generate
from biddable.models.gguf_file import read_gguf_facts
from biddable.models.gguf_weights import gguf_weights
from biddable.models.loading import LoadedModel, load
from biddable.serving import gguf_vocabulary
from biddable.serving.gguf_export import check_gguf, write_gguf
from biddable.serving.gguf_vocabulary import pre_tokenizer_name
from tests.tiny import tiny_gpt2, tiny_model, tiny_tokenizer

pytest.importorskip("xllamacpp")
pytest.importorskip("gguf")
from biddable.models.llama_cpp import LlamaCpp

SIZES = {
    "vocab_size": 320,
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": None,
    "initializer_range": 0.1,
}
LLAMA3_ROPE = {
    "rope_type": "llama3",
    "rope_theta": 500.0,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 64,
}
CONFIGS = {
    "llama": LlamaConfig(**SIZES),
    "llama, tied, biased, wide heads": LlamaConfig(
        **SIZES, tie_word_embeddings=True, attention_bias=True, mlp_bias=True, head_dim=32
    ),
    "llama 3": LlamaConfig(**SIZES, rope_parameters=LLAMA3_ROPE),
    "llama, linear": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}
    ),
    "qwen2": Qwen2Config(**SIZES, tie_word_embeddings=True),
    "qwen3": Qwen3Config(**SIZES, head_dim=32),
}
TEXTS = [
    "The answer is 12345, isn't it?\n\n\t  No!  \r\n",
    "Grüße, 你好 👩\u200d👧 ﬁ e\u0301 \u00a0x",
    "def f(a):\n    return a  # it's 3.14\n\n\n",
    " leading, trailing ",
]


def _random(config) -> torch.nn.Module:
    """A model whose every weight is random, biases and norms too."""
    model = AutoModelForCausalLM.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


def _loaded(model, tokenizer=None) -> LoadedModel:
    return LoadedModel(model, tokenizer or tiny_tokenizer(), "tiny", "tiny")


def _write(path: Path, loaded: LoadedModel, kind="f32", template="inst") -> dict:
    form = get_template(template, loaded.tokenizer)
    loaded.tokenizer.chat_template = form.saved_source
    manifest = {"template": {"name": template}}
    write_gguf(path, loaded, kind=kind, form=form, manifest=manifest)
    return check_gguf(path, loaded, form=form)


@pytest.mark.parametrize("config", [*CONFIGS.values(), None], ids=[*CONFIGS, "gpt2"])
def test_every_architecture_answers_as_ours_does(tmp_path: Path, config) -> None:
    loaded = _loaded(tiny_gpt2() if config is None else _random(config))
    found = _write(tmp_path / "m.gguf", loaded)
    assert found["num_same_answers"] == found["num_probes"] == 3, found
    prompt = [5, 9, 200, 31, 7, 64] * 30  # long enough for a rotation to matter
    (ours,) = generate(loaded.model, [prompt], stop_ids=[0], max_new_tokens=20)
    engine = LlamaCpp(tmp_path / "m.gguf", context=256)
    asked = {"prompt": prompt, "max_tokens": 20, "temperature": 0.0, "verbose": True}
    reply = engine.complete({**asked, "return_tokens": True})
    assert reply["__verbose"]["tokens"] == ours.ids


@pytest.mark.parametrize("config", [*CONFIGS.values(), None], ids=[*CONFIGS, "gpt2"])
def test_the_same_weights_are_read_again(tmp_path: Path, config) -> None:
    loaded = _loaded(tiny_gpt2() if config is None else _random(config))
    _write(tmp_path / "m.gguf", loaded)
    again = load(str(tmp_path / "m.gguf"))
    ids = torch.tensor([[5, 9, 200, 31, 7, 64] * 20])
    torch.testing.assert_close(again.model(ids).logits, loaded.model(ids).logits, atol=1e-4, rtol=0)
    assert (again.template, again.end_ids()) == ("inst", {0})


KINDS = {"f16": 2e-3, "q8_0": 2e-2, "q4_0": 0.25, "q4_1": 0.25}


@pytest.mark.parametrize(("kind", "bound"), KINDS.items(), ids=KINDS)
def test_small_kinds_are_near_and_said_to_be_so(tmp_path: Path, kind, bound) -> None:
    loaded = _loaded(tiny_model())
    found = _write(tmp_path / "m.gguf", loaded, kind=kind)
    assert found["checked"]
    assert len(found["same_start"]) == len(found["num_tokens"]) == 3
    again = load(str(tmp_path / "m.gguf"))
    for name, weight in loaded.model.state_dict().items():
        difference = (again.model.state_dict()[name] - weight).abs().max() / weight.abs().max()
        assert difference <= bound, name
    wanted = {"q_proj": kind, "embed_tokens": "q8_0" if kind.startswith("q") else kind}
    kept = {w.name: w.kind.name.lower() for w in gguf_weights(loaded.model, kind)}
    assert kept["blk.0.attn_q.weight"] == wanted["q_proj"]
    assert kept["token_embd.weight"] == wanted["embed_tokens"]
    assert kept["blk.0.attn_norm.weight"] == "f32"


def _tokenizer(*steps, normalizer=None) -> PreTrainedTokenizerFast:
    """A vocabulary whose merges show where text was cut."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(list(steps))
    if normalizer:
        backend.normalizer = normalizer
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|endoftext|>", "<|im_start|>", "<|im_end|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(TEXTS * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<|endoftext|>",
        eos_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )


def _split(pattern: str, *, behavior: str = "isolated"):
    return pre_tokenizers.Split(Regex(pattern), behavior=behavior)


WHOLE, ONLY_BYTES = (
    pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=cut) for cut in (True, False)
)
WAYS = {
    "gpt-2": lambda: _tokenizer(WHOLE),
    "smollm": lambda: _tokenizer(pre_tokenizers.Digits(individual_digits=True), WHOLE),
    "llama-bpe": lambda: _tokenizer(_split(gguf_vocabulary._LLAMA3), ONLY_BYTES),
    "qwen2": lambda: _tokenizer(_split(gguf_vocabulary._QWEN2), ONLY_BYTES),
}


@pytest.mark.parametrize(("name", "make"), WAYS.items(), ids=WAYS)
def test_every_way_to_cut_text_gives_the_same_ids(tmp_path: Path, name, make) -> None:
    tokenizer = make()
    assert pre_tokenizer_name(tokenizer) == name
    loaded = _loaded(tiny_model(vocab_size=640), tokenizer)
    _write(tmp_path / "m.gguf", loaded, template="chatml")
    engine = LlamaCpp(tmp_path / "m.gguf", context=64)
    expected = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in TEXTS]
    assert [engine.tokenize(text, is_prompt=False) for text in TEXTS] == expected
    assert engine.tokenize("<|im_end|>", is_prompt=True)[-1] == 2
    others = [way() for other, way in WAYS.items() if other != name]
    cuts = [
        [backend.backend_tokenizer.pre_tokenizer.pre_tokenize_str(t) for t in TEXTS]
        for backend in (tokenizer, *others)
    ]
    assert all(cut != cuts[0] for cut in cuts[1:])  # so that a wrong name would be seen
    own = read_gguf_facts(tmp_path / "m.gguf").tokenizer
    assert own is not None
    spelled = [*TEXTS, "<|im_start|>user"]
    assert [own(t)["input_ids"] for t in spelled] == [tokenizer(t)["input_ids"] for t in spelled]
    assert own.chat_template == tokenizer.chat_template


STRANGE = {
    "another pattern": lambda: _tokenizer(_split(r"\w+|\s+"), ONLY_BYTES),
    "merged borders": lambda: _tokenizer(
        _split(gguf_vocabulary._QWEN2, behavior="removed"), ONLY_BYTES
    ),
    "a prefix": lambda: _tokenizer(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "lower case": lambda: _tokenizer(WHOLE, normalizer=normalizers.Lowercase()),
}


@pytest.mark.parametrize("make", STRANGE.values(), ids=STRANGE)
def test_other_ways_are_refused(make) -> None:
    with pytest.raises(ExportError, match=r"no name in llama.cpp.*convert_hf_to_gguf.py"):
        pre_tokenizer_name(make())


REFUSED = {
    'the architecture "gpt_neox" is not known': GPTNeoXConfig(
        vocab_size=300, hidden_size=32, num_hidden_layers=1, num_attention_heads=2
    ),
    "its rope_type is 'yarn'": LlamaConfig(
        **SIZES, rope_parameters={"rope_type": "yarn", "rope_theta": 1e4, "factor": 2.0}
    ),
    "its activation is 'gelu'": LlamaConfig(**SIZES, hidden_act="gelu"),
    "use_sliding_window is True": Qwen2Config(
        **SIZES, use_sliding_window=True, sliding_window=16, max_window_layers=1
    ),
}


@pytest.mark.parametrize(("match", "config"), REFUSED.items())
def test_what_llama_cpp_would_compute_otherwise_is_refused(tmp_path: Path, match, config) -> None:
    loaded = _loaded(_random(config))
    with pytest.raises(ExportError, match=f"{match}.*convert_hf_to_gguf.py"):
        _write(tmp_path / "m.gguf", loaded)
    assert list(tmp_path.glob("*.gguf")) == []


def test_stops_are_kept_and_too_many_refused(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer(extra_special_tokens=("<|im_start|>", "<|im_end|>", "<a>", "<b>"))
    loaded = _loaded(tiny_model(vocab_size=320), tokenizer)
    loaded.model.generation_config.eos_token_id = [301, 0, 302]
    _write(tmp_path / "m.gguf", loaded, template="chatml")
    import gguf

    fields = gguf.GGUFReader(tmp_path / "m.gguf").fields
    ends = [fields[f"tokenizer.ggml.{n}_token_id"].contents() for n in ("eos", "eot", "eom")]
    assert ends == [0, 301, 302]
    loaded.model.generation_config.eos_token_id = [301, 0, 302, 303]
    with pytest.raises(ExportError, match="4 tokens end an answer, and a file has room for 3"):
        _write(tmp_path / "n.gguf", loaded, template="chatml")


def test_a_check_sees_a_wrong_model(tmp_path: Path) -> None:
    """The comparison that stands before publishing is itself put to the test."""
    loaded = _loaded(tiny_model())
    _write(tmp_path / "m.gguf", loaded)
    other = _loaded(tiny_model(seed=1))
    form = get_template("inst", other.tokenizer)
    assert check_gguf(tmp_path / "m.gguf", other, form=form)["num_same_answers"] == 0
    with pytest.raises(ExportError, match=r"llama.cpp makes other ids of .* from the id at 1 on"):
        check_gguf(tmp_path / "m.gguf", other, form=get_template("alpaca", other.tokenizer))
