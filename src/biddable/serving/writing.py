"""Follow one answer while it is written: its ids, its text, where it ends, what is told of it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from biddable.data.answer_stream import AnswerStream, StopFinder
from biddable.models.drawing import Drawing
from biddable.serving.requests import Chosen, Ended, Piece, Reason, Ticket

_HALF_CHARACTER = "\ufffd"  # what bytes read as that are not a whole character


class TextStream:
    """Turn ids into text as they come, never half a character."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        """Take the tokenizer of the ids."""
        self._tokenizer = tokenizer
        self._ids: list[int] = []
        # a window of ids is read again, as what a token reads depends on the one before it
        self._start = self._read = 0

    def push(self, token_id: int) -> str:
        """Take one more id, and give the text that is whole by it."""
        self._ids.append(token_id)
        text = self._new_text()
        if text.endswith(_HALF_CHARACTER):
            return ""
        self._start, self._read = self._read, len(self._ids)
        return text

    def finish(self) -> str:
        """Give what is left, once nothing more comes."""
        text = self._new_text()
        self._start, self._read = self._read, len(self._ids)
        return text

    def _new_text(self) -> str:
        before = self._decode(self._ids[self._start : self._read])
        return self._decode(self._ids[self._start :])[len(before) :]

    def _decode(self, ids: list[int]) -> str:
        return str(
            self._tokenizer.decode(
                ids, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        )


class Writing:
    """Take the text of one answer as it is written, and tell its listener the text and the end."""

    def __init__(self, ticket: Ticket, *, limit: int) -> None:
        """Start an answer that has at most so many ids, its stop counted."""
        self.ticket, self._limit = ticket, limit
        self.num_tokens = 0
        self.has_ended = False
        asked = ticket.asked
        self._answer = None if asked.template is None else AnswerStream(asked.template)
        self._stops = StopFinder(asked.stops)
        self._tokens: list[Chosen] = []  # told with the text that they make

    def take(self, text: str, tokens: Sequence[Chosen] = (), *, num_tokens: int = 1) -> None:
        """Take more text, and the ids that it was written by, as far as they are to be told."""
        self.num_tokens += num_tokens
        self._tokens += tokens
        if self._answer is not None:
            text = self._answer.push(text)
        self._tell(self._stops.push(text))
        if self._stops.has_stopped:
            self.end("stop")
        elif self.num_tokens >= self._limit:
            self.end("length")

    def end(self, reason: Reason, message: str = "", *, rest: str = "") -> None:
        """Tell the text that was held back, and that the answer has ended.

        Args:
            reason: how.
            message: of an error.
            rest: text that was not taken yet.
        """
        if self.has_ended:
            return
        self.has_ended = True
        if reason in ("stop", "length"):
            if self._answer is not None:
                rest = self._answer.push(rest) + self._answer.finish()
            rest = self._stops.push(rest) + self._stops.finish()
            self._tell(rest, is_last=True)
            reason = "stop" if self._stops.has_stopped else reason
        self.ticket.listen(Ended(reason, self.num_tokens, message))

    def _tell(self, text: str, *, is_last: bool = False) -> None:
        if text or (is_last and self._tokens):
            self.ticket.listen(Piece(text, tuple(self._tokens)))
            self._tokens.clear()


class Row:
    """Hold one answer that an engine writes: its ids become text here."""

    def __init__(self, ticket: Ticket, tokenizer: PreTrainedTokenizerBase, *, limit: int) -> None:
        """Start an answer that has at most so many ids, its stop counted."""
        asked = ticket.asked
        self.asked, self.writing = asked, Writing(ticket, limit=limit)
        self.drawing = Drawing.seeded(
            asked.temperature, top_p=asked.top_p, seed=asked.seed, number=asked.number
        )
        self._tokenizer, self._limit = tokenizer, limit
        self._text = TextStream(tokenizer)
        self.ids = list(asked.ids)  # the prompt's, and those that were written

    def take(self, token_id: int, logits: Tensor) -> None:
        """Take the next id, chosen from logits (V,)."""
        if token_id in self.asked.stop_ids:
            self.writing.end("stop", rest=self._text.finish())
            return
        self.ids.append(token_id)
        tokens = []
        if self.asked.top_logprobs is not None:
            tokens.append(self._chosen(token_id, logits, self.asked.top_logprobs))
        text = self._text.push(token_id)
        if self.writing.num_tokens + 1 >= self._limit:
            text += self._text.finish()
        self.writing.take(text, tokens)

    def fail(self, error: Exception) -> None:
        """End it with what a model's code, or who reads the answer, has raised."""
        with suppress(Exception):  # one who cannot listen is not to harm the others
            self.writing.end("error", f"{type(error).__name__}: {error}")

    def _chosen(self, token_id: int, logits: Tensor, num_others: int) -> Chosen:
        scores = torch.log_softmax(logits.float(), dim=-1)
        likeliest = scores.topk(min(num_others, len(scores))).indices.tolist()
        others = tuple(Chosen(self._decode(n), float(scores[n])) for n in likeliest)
        return Chosen(self._decode(token_id), float(scores[token_id]), others)

    def _decode(self, token_id: int) -> str:
        return str(self._tokenizer.decode([token_id], clean_up_tokenization_spaces=False))
