"""Pieces put together: always the tokenizer's own ids, whatever the text and the tokenizer."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, normalizers, pre_tokenizers

from biddable.data import pieces
from biddable.data.pieces import encode_texts
from tests.tiny import tiny_tokenizer

SIGNS = list("ab Z  \n\t1234'st.,!é\u0301\u00a0\u2003中\x1c\x85🙂ſ")
SIGNS += ["  ", ' "', "'ll", " 's", "<|endoftext|>", " a", " 5", "the word is "]


def plainly(texts, tokenizer):
    encoded = tokenizer(texts, add_special_tokens=False, split_special_tokens=True)
    return encoded["input_ids"]


@pytest.fixture(autouse=True)
def _few_are_enough(monkeypatch):
    monkeypatch.setattr(pieces, "_MIN_TEXTS", 1)


@pytest.fixture
def asked(monkeypatch):
    """Note which texts the tokenizer itself is given."""
    texts = []
    for name in ("_ask", "_ask_short"):
        ask = getattr(pieces, name)
        monkeypatch.setattr(pieces, name, lambda t, tk, ask=ask: texts.append(t) or ask(t, tk))
    return texts


def split_by(pattern, **settings):
    return pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(pattern), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False, **settings),
        ]
    )


def tokenizer_with(pre_tokenizer=None, normalizer=None):
    tokenizer = tiny_tokenizer()
    if pre_tokenizer is not None:
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizer
    if normalizer is not None:
        tokenizer.backend_tokenizer.normalizer = normalizer
    return tokenizer


digits = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
)
HELPED = {
    "gpt-2": tokenizer_with(),
    "digits": tokenizer_with(digits),
    "nfc": tokenizer_with(normalizer=normalizers.NFC()),
    **{
        f"split {n}": tokenizer_with(split_by(pattern))
        for n, pattern in enumerate(sorted(pieces._KNOWN_PATTERNS))
    },
}
NOT_HELPED = {
    "prefix space": tokenizer_with(pre_tokenizers.ByteLevel(add_prefix_space=True)),
    "no words": tokenizer_with(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)),
    "unknown pattern": tokenizer_with(split_by(r"[a-z ]+")),
    "metaspace": tokenizer_with(pre_tokenizers.Metaspace()),
    "nfkc": tokenizer_with(normalizer=normalizers.NFKC()),
}


@pytest.mark.parametrize("name", [*HELPED, *NOT_HELPED])
def test_the_ids_are_the_tokenizers_own(name):
    tokenizer = (HELPED | NOT_HELPED)[name]

    @given(texts=st.lists(st.lists(st.sampled_from(SIGNS), max_size=30).map("".join), min_size=1))
    def holds(texts):
        assert encode_texts(texts, tokenizer) == plainly(texts, tokenizer)

    holds()


def test_many_texts_of_one_kind(monkeypatch):
    """What is seen again comes from what was kept, also after all of it was thrown away."""
    monkeypatch.setattr(pieces, "_MAX_KEPT", 50)
    draw = random.Random(0)
    for _ in range(20):
        texts = ["".join(draw.choices(SIGNS, k=40)) for _ in range(30)]
        assert encode_texts(texts, HELPED["gpt-2"]) == plainly(texts, HELPED["gpt-2"])


def test_a_piece_is_asked_for_once(asked):
    tokenizer = tiny_tokenizer()
    first = encode_texts(["What is it? It is " + "x" * 100], tokenizer)
    again = encode_texts(["What is it? It is " + "x" * 100], tokenizer)
    assert first == again
    assert [sorted(texts) for texts in asked if texts != [""]] == [
        sorted(["What", " is", " it?", " It", " " + "x" * 100]),
        [" " + "x" * 100],  # too long to be kept
    ]


@pytest.mark.parametrize("name", NOT_HELPED)
def test_other_tokenizers_are_asked_for_whole_texts(name, asked):
    encode_texts(["some text"], NOT_HELPED[name])
    assert asked == [["some text"]]


def test_few_texts_are_not_worth_it(asked, monkeypatch):
    monkeypatch.setattr(pieces, "_MIN_TEXTS", 2)
    encode_texts(["some text"], tiny_tokenizer())
    assert asked == [["some text"]]


@pytest.mark.parametrize(
    "token",
    [
        AddedToken("w x", special=False),
        AddedToken("<t>", lstrip=True, special=False),
        AddedToken("<t>", rstrip=True, special=False),
        AddedToken("<t>", special=False),
        AddedToken("<t> ", special=True),
    ],
)
def test_added_tokens_and_those_added_later(token):
    tokenizer = tiny_tokenizer()
    texts = ["v w x y <t> z", "a <t> b <t>"]
    assert encode_texts(texts, tokenizer) == plainly(texts, tokenizer)
    tokenizer.add_tokens([token], special_tokens=token.special)
    assert encode_texts(texts, tokenizer) == plainly(texts, tokenizer)


def test_a_model_that_draws_is_left_alone(asked):
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.model.dropout = 0.5
    encode_texts(["some text"], tokenizer)
    assert asked == [["some text"]]
