"""Fit the tiny tokenizer to a Jinja chat template: the control tokens that it writes are added."""

from __future__ import annotations

import re

from transformers import PreTrainedTokenizerFast

from tests.tiny import tiny_tokenizer

_TOKENS = re.compile(
    r"<[|｜][^<>{}\s'\"|｜]+[|｜]?>|<[a-z_/]+[|]>|</?s>|\[gMASK\]"
    r"|<(?:start_of_turn|end_of_turn|end_of_utterance|sop|/?arg_key|/?arg_value)>"
)
# Public vocabularies hold these as added tokens that are not special.
_ORDINARY = re.compile(r"</?(?:think|tool_call|tool_response)>")
_STARTS = ("<|begin_of_text|>", "<s>", "<｜begin▁of▁sentence｜>")


def tokenizer_for(source: str, *extra: str) -> PreTrainedTokenizerFast:
    """Build a tokenizer that knows what a template writes, and has the template as its own."""
    tokenizer = tiny_tokenizer()
    special = sorted({*_TOKENS.findall(source), *extra})
    tokenizer.add_special_tokens({"additional_special_tokens": special})
    tokenizer.add_tokens(sorted(set(_ORDINARY.findall(source))))
    start = next((token for token in _STARTS if token in source), None)
    if start is None and "bos_token" in source:
        start = "<s>"
    if start is None:
        tokenizer.bos_token = None
    else:
        tokenizer.add_special_tokens({"bos_token": start})
    tokenizer.chat_template = source
    return tokenizer
