"""Pieces put together: always the tokenizer's own ids, whatever the text and the tokenizer."""

from __future__ import annotations

import gc
import random
from collections import defaultdict
from weakref import WeakKeyDictionary

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from biddable.data import pieces
from biddable.data.id_lists import IdLists
from biddable.data.pieces import decode_lists, encode_texts
from tests.tiny import tiny_tokenizer

SIGNS = list("ab Z  \n\t1234'st.,!é\u0301\u00a0\u2003中\x1c\x85🙂ſ")
SIGNS += [
    "  ",
    ' "',
    "a.",
    'b!"',
    "word:\n",
    "'ll",
    " 's",
    "<|endoftext|>",
    " a",
    " 5",
    "the word is ",
]


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

    def note(owner, name):
        ask = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: texts.append(given[-1]) or ask(*given))

    note(pieces._Pieces, "_ask_backend")
    ask = pieces._ask
    monkeypatch.setattr(pieces, "_ask", lambda given, tk: texts.append(given) or ask(given, tk))
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


def with_marks_in_its_vocabulary():
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(['a?! b." c... d!? e., ?! ." ... !? .,\n'] * 9, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe)


digits = pre_tokenizers.Sequence(
    [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False),
    ]
)
HELPED = {
    "gpt-2": tokenizer_with(),
    "marks": with_marks_in_its_vocabulary(),
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
        assert list(encode_texts(texts, tokenizer)) == plainly(texts, tokenizer)

    holds()


def test_many_texts_of_one_kind(monkeypatch):
    """What is seen again comes from what was kept, also after all of it was thrown away."""
    monkeypatch.setattr(pieces, "_MAX_KEPT", 50)
    draw = random.Random(0)
    for _ in range(20):
        texts = ["".join(draw.choices(SIGNS, k=40)) for _ in range(30)]
        assert list(encode_texts(texts, HELPED["gpt-2"])) == plainly(texts, HELPED["gpt-2"])


def test_a_piece_is_asked_for_once(asked):
    tokenizer = tiny_tokenizer()
    first = encode_texts(["What is it? It is " + "x" * 100], tokenizer)
    again = encode_texts(["What is it? It is " + "x" * 100], tokenizer)
    assert list(first) == list(again)
    assert [texts for texts in asked if texts not in ([""], [])] == [
        ["What", " is", " it", "?", " It", " " + "x" * 100]
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
        AddedToken("x.y", special=False),
        AddedToken("y.", special=False),
    ],
)
def test_added_tokens_and_those_added_later(token):
    tokenizer = tiny_tokenizer()
    texts = ["v w x y <t> z", "a <t> b <t>", "v x.y. w y."]
    assert list(encode_texts(texts, tokenizer)) == plainly(texts, tokenizer)
    tokenizer.add_tokens([token], special_tokens=token.special)
    assert list(encode_texts(texts, tokenizer)) == plainly(texts, tokenizer)


def test_a_model_that_draws_is_left_alone(asked):
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.model.dropout = 0.5
    encode_texts(["some text"], tokenizer)
    assert asked == [["some text"]]


def with_decoder(decoder):
    tokenizer = tiny_tokenizer()
    tokenizer.backend_tokenizer.decoder = decoder
    return tokenizer


DECODED = {
    "byte level": tiny_tokenizer(),
    "another decoder": with_decoder(
        decoders.Sequence([decoders.ByteLevel(), decoders.Replace("ab", "x")])
    ),
    "none": with_decoder(decoders.Fuse()),
}


@pytest.mark.parametrize("name", DECODED)
def test_texts_are_the_tokenizers_own(name):
    """Ids in any order, so that bytes of no sign and of parts of one stand beside each other."""
    backend = DECODED[name].backend_tokenizer
    every_id = st.integers(0, backend.get_vocab_size() + 2)
    of_signs = st.sampled_from(sorted({i for s in SIGNS for i in backend.encode(s).ids}))
    a, b = (backend.token_to_id(sign) for sign in "ab")

    @example(lists=[[a, b]])
    @given(lists=st.lists(st.lists(every_id | of_signs, max_size=12), min_size=1))
    def holds(lists):
        read = decode_lists(IdLists.of(lists), DECODED[name])
        assert read == backend.decode_batch(lists, skip_special_tokens=False)

    holds()


def test_a_sign_of_several_tokens_is_decoded_as_a_whole():
    tokenizer = tiny_tokenizer()
    first, second, third = tokenizer("日", add_special_tokens=False)["input_ids"]
    lists = [[first, second, third], [first, second], [second, third], [first]]
    read = decode_lists(IdLists.of(lists), tokenizer)
    assert read == ["日", "\ufffd", "\ufffd\ufffd", "\ufffd"]


def test_plain_words_are_asked_for_in_one_text_and_told_apart_again(monkeypatch):
    """Also where the tokenizer gives a word no token of its own at its start."""
    words = [f" w{n}" for n in range(200)]
    texts = ["".join(words), *words, " w1 <t> w2"]
    for tokenizer in HELPED.values():
        monkeypatch.setattr(pieces, "_PIECES", WeakKeyDictionary())
        assert list(encode_texts(texts, tokenizer)) == plainly(texts, tokenizer)
    other = tiny_tokenizer()
    monkeypatch.setattr(pieces._Readings, "__missing__", lambda self, token_id: "")
    assert list(encode_texts(texts, other)) == plainly(texts, other)


def test_a_call_that_fails_leaves_nothing_half_known(monkeypatch):
    tokenizer = tiny_tokenizer()
    with monkeypatch.context() as broken:
        broken.setattr(pieces._Pieces, "_ask_backend", interrupt)
        with pytest.raises(KeyboardInterrupt):
            encode_texts(["one two"], tokenizer)
    texts = ["three two", "one four"]
    assert list(encode_texts(texts, tokenizer)) == plainly(texts, tokenizer)


def interrupt(*_):
    raise KeyboardInterrupt


def test_what_is_thrown_away_is_gone_at_once(monkeypatch):
    """Processes that encode collect no garbage, so that a cycle would stay for good."""
    monkeypatch.setattr(pieces, "_MAX_KEPT", 0)
    tokenizer = tiny_tokenizer()
    gc.disable()
    try:
        for text in ("a rare one", "another"):
            encode_texts([text], tokenizer)
        kept = [held for held in gc.get_objects() if type(held) is defaultdict]
    finally:
        gc.enable()
    assert any(" another" in held for held in kept)
    assert not any("rare" in held or " rare" in held for held in kept)
