"""Write a tokenizer as llama.cpp reads it.

llama.cpp knows a vocabulary's way to cut text into words by a name, and computes it itself. A
tokenizer whose way has no name here is refused: another's would give other ids in silence.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from typing import Any

from transformers import PreTrainedTokenizerBase

from biddable.errors import ExportError
from biddable.models.gguf_file import TOKENIZER_CONFIG_KEY, TOKENIZER_KEY
from biddable.models.gguf_weights import ADVICE

_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SPLITS = {_LLAMA3: "llama-bpe", _QWEN2: "qwen2"}
_MAX_STOPS = 3  # llama.cpp has a name for the end of text, of a turn and of a message


def pre_tokenizer_name(tokenizer: PreTrainedTokenizerBase) -> str:
    """Name a tokenizer's way to cut text into words, as llama.cpp does.

    Raises:
        ExportError: it is no byte-level BPE, or its way has no name here.
    """
    backend = json.loads(_backend(tokenizer))
    if backend["model"]["type"] != "BPE" or backend["model"].get("byte_fallback"):
        raise ExportError(
            f"gguf: the tokenizer is {backend['model']['type']}, and only byte-level BPE (GPT-2,"
            f" Llama 3, Qwen, SmolLM2) is written here. {ADVICE}"
        )
    found = _cuts(backend.get("pre_tokenizer"))
    kind = (backend.get("normalizer") or {}).get("type")
    is_plain = kind is None or (kind == "NFC" and found == "qwen2")
    # llama.cpp takes a whole word that is a token as it is under one of the names only
    takes_words = backend["model"].get("ignore_merges") and found != "llama-bpe"
    if found is None or not is_plain or takes_words or _is_odd(backend["model"]):
        raise ExportError(
            "gguf: the tokenizer cuts text in a way that has no name in llama.cpp that is known"
            f" here (GPT-2's, SmolLM2's, Llama 3's and Qwen2's are). {ADVICE}"
        )
    return found


def add_vocabulary(
    writer: Any,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_rows: int,
    stop_ids: Sequence[int],
    opens_with_bos: bool,
) -> None:
    """Write the vocabulary into a file's head, the run's own tokenizer beside it.

    Args:
        writer: ``gguf.GGUFWriter``.
        tokenizer: a byte-level BPE.
        num_rows: rows of the embeddings; those without a token are named as unused.
        stop_ids: what ends an answer, that of a plain one first.
        opens_with_bos: whether a prompt opens with the start token.

    Raises:
        ExportError: see `pre_tokenizer_name`; or there are too many stops.
    """
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(pre_tokenizer_name(tokenizer))
    tokens, kinds = _tokens(tokenizer, num_rows, stop_ids)
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    merges = json.loads(_backend(tokenizer))["model"]["merges"]
    writer.add_token_merges([" ".join(pair) if isinstance(pair, list) else pair for pair in merges])
    if tokenizer.bos_token_id is not None:
        writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_add_bos_token(opens_with_bos)
    if tokenizer.pad_token_id is not None:
        writer.add_pad_token_id(tokenizer.pad_token_id)
    _add_stops(writer, tokenizer, stop_ids)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": name, "template": text} for name, text in template.items()]
    if template:
        writer.add_chat_template(template)
    writer.add_string(TOKENIZER_KEY, _backend(tokenizer))
    writer.add_string(TOKENIZER_CONFIG_KEY, json.dumps(_own_config(tokenizer)))


def _add_stops(writer: Any, tokenizer: PreTrainedTokenizerBase, stop_ids: Sequence[int]) -> None:
    ends = list(dict.fromkeys(stop_ids))
    if tokenizer.eos_token_id in ends:  # the end of a text stays what it is called
        ends.remove(tokenizer.eos_token_id)
        ends.insert(0, tokenizer.eos_token_id)
    if len(ends) > _MAX_STOPS:
        raise ExportError(
            f"gguf: {len(ends)} tokens end an answer, and a file has room for {_MAX_STOPS}:"
            f" {tokenizer.convert_ids_to_tokens(ends)}. Leave some out of generation_config.json."
        )
    writers = (writer.add_eos_token_id, writer.add_eot_token_id, writer.add_eom_token_id)
    for add, end in zip(writers, ends, strict=False):
        add(end)


def _tokens(
    tokenizer: PreTrainedTokenizerBase, num_rows: int, stop_ids: Collection[int]
) -> tuple[list[str], list[Any]]:
    """List the tokens by their ids, and the kind of each."""
    from gguf import TokenType

    by_id = {number: token for token, number in tokenizer.get_vocab().items()}
    if by_id and max(by_id) >= num_rows:
        raise ExportError(
            f"gguf: the tokenizer has {max(by_id) + 1} tokens and the model {num_rows} rows."
        )
    added = tokenizer.added_tokens_decoder
    tokens, kinds = [], []
    for number in range(num_rows):
        token = by_id.get(number)
        if token is None:
            tokens.append(f"[PAD{number}]")
            kinds.append(TokenType.UNUSED)
            continue
        tokens.append(token)
        is_control = number in stop_ids or (number in added and added[number].special)
        kind = TokenType.USER_DEFINED if number in added else TokenType.NORMAL
        kinds.append(TokenType.CONTROL if is_control else kind)
    return tokens, kinds


def _cuts(pre: dict[str, Any] | None) -> str | None:
    """Name a pre-tokenizer by what it does."""
    if pre is None:
        return None
    steps = pre["pretokenizers"] if pre["type"] == "Sequence" else [pre]
    kinds = [step["type"] for step in steps]
    last = steps[-1]
    if kinds[-1] != "ByteLevel" or last.get("add_prefix_space"):
        return None
    cuts_itself = last.get("use_regex", True)
    if kinds == ["ByteLevel"]:
        return "gpt-2" if cuts_itself else None
    if kinds == ["Digits", "ByteLevel"] and cuts_itself and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not cuts_itself:
        is_isolated = steps[0]["behavior"] == "Isolated" and not steps[0].get("invert")
        return _SPLITS.get(steps[0]["pattern"].get("Regex", "")) if is_isolated else None
    return None


def _is_odd(model: dict[str, Any]) -> bool:
    keys = ("dropout", "continuing_subword_prefix", "end_of_word_suffix")
    return any(model.get(key) for key in keys)


def _backend(tokenizer: PreTrainedTokenizerBase) -> str:
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise ExportError(
            "gguf: the tokenizer is none of the fast ones (tokenizer.json), and only those are"
            " written here."
        )
    return str(backend.to_str())


def _own_config(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """Give what the run's tokenizer is besides its vocabulary, no path of this machine in it."""
    names = ("bos_token", "eos_token", "pad_token", "unk_token")
    tokens = {name: str(token) for name in names if (token := getattr(tokenizer, name, None))}
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "model_max_length": tokenizer.model_max_length,
        **tokens,
    }
