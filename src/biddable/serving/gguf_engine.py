"""Answer requests from a GGUF file: llama.cpp writes, and all around it is as with any model.

A file that this package wrote is given the very ids that its run folder is given. To any other,
llama.cpp's own rendering and ids are given, which may read control tokens in what a user says.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from transformers import PreTrainedTokenizerBase

from biddable.data.conversation import Message
from biddable.data.segments import ControlText
from biddable.models.gguf_file import GgufFacts
from biddable.models.llama_cpp import LlamaCpp
from biddable.models.loading import control_text_of
from biddable.serving.prompts import Prompt
from biddable.serving.requests import Asked, Chosen, EngineLimits, Listener, Ticket
from biddable.serving.writing import Writing

_SEEDS = 1 << 32


class GgufEngine:
    """Answer the requests of one file, as `Engine` does those of a model."""

    def __init__(self, llama: LlamaCpp, *, limits: EngineLimits) -> None:
        """Take llama.cpp, made for as many answers at once as the limits say; it is loaded here.

        Raises:
            CheckpointError: llama.cpp cannot load the file.
        """
        self.longest, self.limits = llama.context, limits
        self._llama = llama
        llama.complete({"prompt": [0], "max_tokens": 1})  # a server never asked cannot end
        self._lock = threading.Lock()
        self._waiting: set[Ticket] = set()
        self._running: set[Ticket] = set()
        self._threads = ThreadPoolExecutor(limits.most_running, thread_name_prefix="llama.cpp")

    @property
    def num_running(self) -> int:
        """Count the answers that are being written."""
        return len(self._running)

    @property
    def num_waiting(self) -> int:
        """Count the answers that have not been begun."""
        return len(self._waiting)

    def submit(self, asked: Sequence[Asked], listen: Sequence[Listener]) -> list[Ticket]:
        """Put answers in the queue, all or none; see ``Engine.submit``.

        Raises:
            QueueFull: there is no room for all of them.
        """
        pairs = zip(asked, listen, strict=True)
        tickets = [Ticket(each, told, each.deadline) for each, told in pairs]
        with self._lock:
            self.limits.require_room(
                len(tickets), num_waiting=self.num_waiting, num_running=self.num_running
            )
            self._waiting.update(tickets)
        for ticket in tickets:
            self._threads.submit(self._answer, ticket)
        return tickets

    def hurry(self, deadline: float) -> None:
        """Give up at this time whatever has not ended by then."""
        with self._lock:
            for ticket in self._waiting | self._running:
                ticket.hurry(deadline)

    def close(self) -> None:
        """Give up what is left, and end the threads."""
        self.hurry(0.0)
        self._threads.shutdown()

    def _answer(self, ticket: Ticket) -> None:
        asked = ticket.asked
        room = self.longest - len(asked.ids)
        limit = room if asked.max_new_tokens is None else min(room, asked.max_new_tokens)
        writing = Writing(ticket, limit=limit)
        with self._lock:
            self._waiting.discard(ticket)
            self._running.add(ticket)
        try:
            if reason := ticket.given_up():
                writing.end(reason)
            else:
                request = _request(asked, limit)
                self._llama.server.handle_completions(request, lambda c: _take(c, writing))
                writing.end("error", "llama.cpp ended without an answer")
        except Exception as error:  # the library raises what it likes
            writing.end("error", f"{type(error).__name__}: {error}")
        finally:
            with self._lock:
                self._running.discard(ticket)


@dataclass(frozen=True)
class GgufTaught:
    """Hold what prompts are written with for a file that carries its run's own tokenizer."""

    tokenizer: PreTrainedTokenizerBase
    manifest: Mapping[str, Any] | None

    @property
    def control_text(self) -> ControlText:
        """Say what becomes of texts that spell a mark of the template, as in the training."""
        return control_text_of(self.manifest)

    def end_ids(self) -> set[int]:
        """Name the tokenizer's end; llama.cpp itself stops at what the file calls one."""
        end = self.tokenizer.eos_token_id
        return set() if end is None else {int(end)}


class LlamaPromptWriter:
    """Let llama.cpp turn messages and text into ids, for a file of somebody else's."""

    def __init__(self, llama: LlamaCpp, facts: GgufFacts) -> None:
        """Take llama.cpp, and what the file says of itself."""
        self._llama, self._has_template = llama, facts.chat_template is not None

    def chat(self, messages: Sequence[Message]) -> Prompt:
        """Write messages in the file's own template; without one, what they say."""
        if not self._has_template:
            return self.text("\n\n".join(message.text for message in messages))
        said = [{"role": m.role, "content": m.text} for m in messages]
        return self.ids(self._llama.tokenize(self._llama.render(said)))

    def text(self, text: str) -> Prompt:
        """Write a text that is to be continued, with nothing but its start token before it."""
        start = self._llama.tokenize("")
        return self.ids(start + self._llama.tokenize(text, is_prompt=False))

    def ids(self, ids: Sequence[int]) -> Prompt:
        """Take a prompt that is given as ids already."""
        return Prompt(list(ids), frozenset(), None)


def _request(asked: Asked, limit: int) -> dict[str, Any]:
    return {
        "prompt": list(asked.ids),
        "max_tokens": limit,
        "stream": True,
        "temperature": asked.temperature,
        "top_p": asked.top_p,
        "samplers": ["temperature", "top_p"],  # in our order, and none of its own beside them
        "seed": (asked.seed * 1_000_003 + asked.number) % _SEEDS,
        # ids come with their probabilities only, and stops of a template are known by their ids
        "n_probs": max(1, asked.top_logprobs or 0),
        "post_sampling_probs": False,
    }


def _take(chunk: Mapping[str, Any], writing: Writing) -> bool:
    """Take a piece of a stream, and say whether that is enough."""
    if "error" in chunk:
        said = chunk["error"]
        message = said.get("message", said) if isinstance(said, dict) else said
        writing.end("error", f"llama.cpp refuses it: {message}")
    elif reason := writing.ticket.given_up():
        writing.end(reason)
    else:
        _take_choice(chunk, writing)
    return writing.has_ended


def _take_choice(chunk: Mapping[str, Any], writing: Writing) -> None:
    asked, choice = writing.ticket.asked, chunk["choices"][0]
    tokens = (choice.get("logprobs") or {}).get("content") or []
    if any(token["id"] in asked.stop_ids for token in tokens):
        writing.end("stop")
        return
    told = []
    if asked.top_logprobs is not None:
        told = [_chosen(token, asked.top_logprobs) for token in tokens]
    if choice["text"] or tokens:
        writing.take(choice["text"], told, num_tokens=len(tokens))
    if choice["finish_reason"] and not writing.has_ended:
        # ids that only made half a character were not told one by one
        by_itself = choice["finish_reason"] != "length"
        writing.num_tokens = int(chunk["usage"]["completion_tokens"]) - by_itself
        writing.end("stop" if by_itself else "length")


def _chosen(token: Mapping[str, Any], num_others: int) -> Chosen:
    others = [
        Chosen(other["token"], float(other["logprob"]))
        for other in token["top_logprobs"][:num_others]
    ]
    return Chosen(token["token"], float(token["logprob"]), tuple(others))
