"""Short ways to make messages and to read a mask back as text, for tests of what is learned."""

from __future__ import annotations

from itertools import groupby

from transformers import PreTrainedTokenizerBase

from biddable.data.conversation import Conversation, Message
from biddable.data.encoding import Example


def user(content: str, *, input: str = "") -> Message:
    return Message("user", content, input=input)


def system(content: str) -> Message:
    return Message("system", content)


def assistant(content: str, *, learn: bool = True) -> Message:
    return Message("assistant", content, learn)


def talk(*messages: Message) -> Conversation:
    return Conversation(messages)


def learned_texts(example: Example, tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Decode each unbroken run of learned ids."""
    pairs = zip(example.input_ids, example.loss_mask, strict=True)
    return [
        tokenizer.decode([token_id for token_id, _ in run], clean_up_tokenization_spaces=False)
        for is_learned, run in groupby(pairs, key=lambda pair: pair[1])
        if is_learned
    ]
