"""The plain PyTorch dataset, as someone with their own loop uses it."""

from __future__ import annotations

import pytest
import torch
from torch.utils.data import DataLoader

from biddable.data.batching import collate
from biddable.data.dataset import InstructionDataset, format_instruction_example
from biddable.errors import DataError, TemplateError
from tests.tiny import END, tiny_tokenizer

ROWS = [
    {"instruction": "What is 2+2?", "response": "4"},
    {"instruction": "Translate 'hello' to Spanish", "response": "hola", "category": "translation"},
    {"instruction": "Name three colours", "response": "red, green, blue"},
]


def test_items_are_unpadded_and_learn_the_response_only() -> None:
    tokenizer = tiny_tokenizer()
    dataset = InstructionDataset(ROWS, tokenizer)
    assert len(dataset) == 3
    for item, row in zip(dataset, ROWS, strict=True):
        assert {tensor.dtype for tensor in item.values()} == {torch.int64}
        assert {tensor.dim() for tensor in item.values()} == {1}
        assert len({len(tensor) for tensor in item.values()}) == 1
        assert item["attention_mask"].all()
        learned = item["labels"][item["labels"] != -100]
        assert tokenizer.decode(learned) == f" {row['response']}{END}"
        shown = tokenizer.decode(item["input_ids"])
        assert shown == f"{END}[INST] {row['instruction']} [/INST] {row['response']}{END}"


@pytest.mark.parametrize("pad_token", [None, END])
def test_under_a_plain_dataloader(pad_token: str | None) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = pad_token
    dataset = InstructionDataset(ROWS, tokenizer)
    (batch,) = DataLoader(dataset, batch_size=3, collate_fn=dataset.collate)
    expected = collate(dataset.examples, pad_id=tokenizer.eos_token_id)
    assert torch.equal(batch["input_ids"], expected.input_ids)
    assert torch.equal(batch["attention_mask"], expected.attention_mask)
    assert torch.equal(batch["labels"], expected.labels)
    assert (batch["labels"][batch["attention_mask"] == 0] == -100).all()


def test_long_rows_are_dropped_with_a_count_and_a_warning() -> None:
    long = {"instruction": "Go on", "response": "and on " * 100}
    with pytest.warns(UserWarning, match=r"1 of 4 rows dropped; the first: examples:2: \d+ tokens"):
        dataset = InstructionDataset([ROWS[0], long, *ROWS[1:]], tiny_tokenizer(), max_length=64)
    assert len(dataset) == dataset.report.num_kept == 3


def test_nothing_left_or_a_bad_row_is_an_error() -> None:
    with pytest.raises(DataError, match="no row is left"):
        InstructionDataset(ROWS, tiny_tokenizer(), max_length=4)
    with pytest.raises(DataError, match=r'^examples:2: "response" is empty'):
        InstructionDataset([ROWS[0], {"instruction": "a", "response": ""}], tiny_tokenizer())
    with pytest.raises(DataError, match="there are no rows"):
        InstructionDataset([], tiny_tokenizer())


def test_other_templates() -> None:
    tokenizer = tiny_tokenizer()
    dataset = InstructionDataset(ROWS, tokenizer, template="alpaca")
    assert "### Response:\n4" in tokenizer.decode(dataset[0]["input_ids"])
    with pytest.raises(TemplateError, match='Did you mean "alpaca"'):
        InstructionDataset(ROWS, tokenizer, template="alpacca")


def test_format_instruction_example() -> None:
    tokenizer = tiny_tokenizer()
    assert format_instruction_example("Say hi", "Hi!", tokenizer) == (
        f"[INST] Say hi [/INST] Hi!{END}"
    )
    text = format_instruction_example("Say hi", "Hi!", tokenizer, template="alpaca")
    assert text.startswith("Below is an instruction")
    assert text.endswith(f"### Instruction:\nSay hi\n\n### Response:\nHi!{END}")
