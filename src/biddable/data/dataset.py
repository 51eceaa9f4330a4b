"""Offer the rows as a plain PyTorch dataset, for those who bring their own loop."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from biddable.counting import counted
from biddable.data.conversation import Message
from biddable.data.encoding import IGNORE_INDEX, encode_all, labels_from_mask
from biddable.data.readers import conversations_from_rows
from biddable.data.templates import get_template

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class InstructionDataset(Dataset[dict[str, Tensor]]):
    """Encode instructions and their responses; only the response and its stop are learned.

    Items are dicts of 1-D int64 tensors of equal length, without padding: ``input_ids``,
    ``attention_mask`` (all 1) and ``labels`` (not shifted, ``IGNORE_INDEX`` on the prompt).

    Attributes:
        examples: the rows as the trainer takes them.
        report: how many rows were kept and which were dropped, and why.
        tokenizer: encoded them.
        template: rendered them.
    """

    def __init__(
        self,
        examples: Sequence[Mapping[str, Any]],
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 512,
        *,
        template: str = "inst",
    ) -> None:
        """Encode all rows; one that is too long is dropped whole, with a warning, never cut.

        Args:
            examples: rows with ``instruction`` and ``response`` (or any format that
                ``read_conversations`` takes).
            tokenizer: of the model to be trained.
            max_length: ids a row may have.
            template: see ``get_template``.

        Raises:
            DataError: a row is malformed, or no row is left.
            TemplateError: the template is unknown or cannot show a row.
        """
        rows = [(number, dict(row)) for number, row in enumerate(examples, start=1)]
        self.tokenizer, self.template = tokenizer, get_template(template, tokenizer)
        self.examples, self.report = encode_all(
            conversations_from_rows(rows, path="examples"),
            self.template,
            tokenizer,
            max_seq_len=max_length,
        )
        if self.report.dropped:
            warnings.warn(
                f"{len(self.report.dropped)} of {counted(len(rows), 'row')} dropped; the first:"
                f" {self.report.dropped[0]} Shorten them, or raise max_length.",
                stacklevel=2,
            )
        pad_id = tokenizer.pad_token_id
        self._pad_id = int(pad_id if pad_id is not None else tokenizer.eos_token_id or 0)

    def __len__(self) -> int:
        """Count the rows that were kept."""
        return len(self.examples)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        """Give one row as 1-D tensors of length T."""
        example = self.examples[index]
        return {
            "input_ids": torch.tensor(example.input_ids),
            "attention_mask": torch.ones(len(example.input_ids), dtype=torch.long),
            "labels": torch.tensor(labels_from_mask(example.input_ids, example.loss_mask)),
        }

    def collate(self, items: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
        """Pad items on the right; give this to a ``DataLoader`` as ``collate_fn``.

        Args:
            items: B dicts as this dataset gives them.

        Returns:
            The same keys, tensors of (B, T); padding has attention 0 and is not learned.
        """
        fill = {"input_ids": self._pad_id, "attention_mask": 0, "labels": IGNORE_INDEX}
        return {
            key: pad_sequence([item[key] for item in items], batch_first=True, padding_value=value)
            for key, value in fill.items()
        }


def format_instruction_example(
    instruction: str, response: str, tokenizer: PreTrainedTokenizerBase, template: str = "inst"
) -> str:
    """Render prompt, answer and stop as the text that a model is trained on.

    A start token that encoding adds in front is left out, as many tokenizers add it themselves.

    Args:
        instruction: what is asked.
        response: the answer.
        tokenizer: gives the stop token.
        template: see ``get_template``.

    Returns:
        The text; with ``inst``, ``[INST] {instruction} [/INST] {response}`` and the stop.

    Raises:
        TemplateError: the template is unknown, or the tokenizer lacks what it needs.
    """
    form = get_template(template, tokenizer)
    segments = form.render([Message("user", instruction), Message("assistant", response)])
    return "".join(segment.text for segment in segments).removeprefix(form.bos_text)
