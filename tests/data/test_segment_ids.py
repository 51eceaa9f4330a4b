"""Ids of segments beside those of the whole text, on vocabularies of several kinds."""

from __future__ import annotations

import pytest
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    trainers,
)
from transformers import PreTrainedTokenizerFast

from biddable.data.conversation import Conversation
from biddable.data.encoding import encode, encode_all, encode_prompt
from biddable.data.segment_ids import SegmentIds
from biddable.data.segments import Segment
from biddable.data.templates import get_template
from biddable.errors import TemplateError
from tests.masks import assistant, learned_texts, talk, user
from tests.odd_templates import WORKING
from tests.tiny import tiny_tokenizer

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
TEXTS = ["user assistant What is 2+2? It is four, I say. [INST] [/INST] x y z"]


def vocabulary(kind: str) -> PreTrainedTokenizerFast:
    """Build a small vocabulary that sets blanks, or writes letters, in its own way."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    if kind == "prepend":
        tokenizer.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
        tokenizer.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
        )
    elif kind == "lower":
        tokenizer.normalizer = normalizers.Lowercase()
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
        tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind)
        tokenizer.decoder = decoders.Metaspace(prepend_scheme=kind)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<unk>", "<s>", "</s>"],
        initial_alphabet=[*map(chr, range(32, 127)), "\n", "▁"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )
    fast.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
    return fast


@pytest.mark.parametrize("source", [CHATML, WORKING["brackets"]], ids=["chatml", "brackets"])
@pytest.mark.parametrize("kind", ["first", "always", "never", "prepend", "lower"])
def test_a_prompt_has_the_ids_of_the_whole_text(kind: str, source: str) -> None:
    tokenizer = vocabulary(kind)
    tokenizer.chat_template = source
    template = get_template("tokenizer", tokenizer)
    messages = [user("What is 2+2?"), assistant("It  is\nfour"), user(" x"), assistant("y z")]
    chat = [{"role": m.role, "content": m.content} for m in messages]
    example = encode(talk(*messages), template, tokenizer)
    public = tokenizer.apply_chat_template(
        chat[:1], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    assert encode_prompt(messages[:1], template, tokenizer) == public
    for end in (1, 3):
        prompt = encode_prompt(messages[:end], template, tokenizer)
        assert example.input_ids[: len(prompt)] == prompt
    learned = learned_texts(example, tokenizer)
    stop, blank = template.stop_text, template.answer_suffix
    expected = [f"It  is\nfour{blank}{stop}", f"y z{blank}{stop}"]
    assert [t.lstrip() for t in learned] == [t.lower() if kind == "lower" else t for t in expected]


def test_blanks_that_a_token_swallows_are_swallowed_in_the_prompt_alone() -> None:
    """Phi-3's role tokens take the newline after them."""
    tokenizer = tiny_tokenizer()
    tokens = [AddedToken(t, rstrip=True) for t in ("<|user|>", "<|assistant|>", "<|end|>")]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.chat_template = (
        "{% for m in messages %}<|{{ m.role }}|>\n{{ m.content }}<|end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )
    template = get_template("tokenizer", tokenizer)
    messages = [user("a"), assistant(" b"), user("c"), assistant("d")]
    chat = [{"role": m.role, "content": m.content} for m in messages[:3]]
    public = tokenizer.apply_chat_template(
        chat[:1], add_generation_prompt=True, tokenize=True, return_dict=False
    )
    example = encode(talk(*messages), template, tokenizer)
    assert example.input_ids[: len(public)] == public
    assert learned_texts(example, tokenizer) == [" b<|end|>", "d<|end|>"]


def test_a_sign_that_the_vocabulary_lacks_is_named_with_its_row() -> None:
    tokenizer = vocabulary("never")
    template = get_template("inst", tokenizer)
    rows = [
        Conversation((user(asked), assistant(answered)), "t.jsonl", line)
        for line, (asked, answered) in enumerate([("a", "日"), ("日", "b"), ("a", "é")], start=1)
    ]
    with pytest.raises(TemplateError) as caught:
        encode_all(rows, template, tokenizer, max_seq_len=None)
    lines = str(caught.value).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["t.jsonl:1", "t.jsonl:3"]
    assert "the vocabulary cannot write all of ' 日': a part became '<unk>'" in lines[0]
    assert encode(rows[1], template, tokenizer).input_ids  # in a prompt it is what it is
    with pytest.raises(TemplateError, match="the vocabulary cannot write all of"):
        encode(rows[0], template, tokenizer)


def test_a_text_that_ids_do_not_give_back_is_an_error() -> None:
    tokenizer = tiny_tokenizer()
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split("z", "removed"), backend.pre_tokenizer]
    )
    template = get_template("inst", tokenizer)
    with pytest.raises(TemplateError, match=r"^' fizz' reads ' fi' in this tokenizer's ids"):
        encode(talk(user("z"), assistant("fizz")), template, tokenizer)
    assert encode(talk(user("fizz"), assistant("b")), template, tokenizer).input_ids


def test_two_starts_are_refused() -> None:
    tokenizer = tiny_tokenizer()
    start = Segment("<|endoftext|>", learned=False, special=True)
    row = [start, start, Segment("a", learned=True)]
    ids = SegmentIds([row, row[1:]], tokenizer, control_tokens=frozenset({start.text}))
    ((number, problem),) = ids.problems().items()
    assert number == 0
    assert "opens with '<|endoftext|>' twice" in problem
