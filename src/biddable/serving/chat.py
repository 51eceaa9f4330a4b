"""Hold a conversation with a model: what was said, what of it still fits, what becomes of it.

Nothing here prints or reads a key; chat_terminal.py does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from biddable.data.answer_stream import AnswerStream
from biddable.data.conversation import Conversation, Message
from biddable.data.problems import Problem
from biddable.data.row_writing import write_row
from biddable.data.writing import rows_as_text, write_files
from biddable.errors import DataError
from biddable.models.adapter import ADAPTER_CONFIG, read_adapter_config
from biddable.models.generation import longest_sequence
from biddable.models.loading import LoadedModel
from biddable.serving.prompts import Prompt, PromptWriter
from biddable.serving.streaming import Sampling, TokenStream
from biddable.serving.writing import TextStream

WhenFull = Literal["drop", "refuse"]


class Speech:
    """An answer while it is written: iterate over it for the pieces of its text.

    Attributes:
        ids: written so far, without a stop.
        stopped: whether it ended by itself.
    """

    def __init__(
        self, tokens: Iterator[int], writer: PromptWriter, *, stop_ids: Collection[int]
    ) -> None:
        """Take the ids as they come, and what they answer."""
        self._tokens, self._writer, self._stop_ids = tokens, writer, stop_ids
        self.ids: list[int] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """What is written so far."""
        text = str(self._writer.tokenizer.decode(self.ids, clean_up_tokenization_spaces=False))
        form = self._writer.template
        return text if form is None else form.read_answer(text)

    def __iter__(self) -> Iterator[str]:
        """Give what each token adds, which may be nothing; joined, it is the text."""
        read, form = TextStream(self._writer.tokenizer), self._writer.template
        answer = None if form is None else AnswerStream(form)
        for token_id in self._tokens:
            if token_id in self._stop_ids:
                self.stopped = True
                break
            self.ids.append(token_id)
            text = read.push(token_id)
            yield text if answer is None else answer.push(text)
        text = read.finish()
        yield text if answer is None else answer.push(text) + answer.finish()


class Voice:
    """A loaded model that answers messages in one form.

    Attributes:
        name: of the model.
        model: itself.
        writer: writes its prompts.
        longest: ids that it reads at once, those of its answer counted.
    """

    def __init__(self, loaded: LoadedModel, template: str | None) -> None:
        """Take the model.

        Args:
            loaded: the model.
            template: how turns are written; None gives it the bare text of the last message.
        """
        self.name, self.model = loaded.name, loaded.model
        self.writer = PromptWriter(loaded, template)
        self.longest = longest_sequence(loaded.model)
        self._stream = TokenStream(loaded.model)

    @property
    def is_bare(self) -> bool:
        """Whether it is given bare text, of the last message alone."""
        return self.writer.template is None

    def prompt(self, messages: Sequence[Message]) -> Prompt:
        """Write the prompt of an answer.

        Raises:
            TemplateError: the template cannot show one of the messages.
        """
        if self.is_bare:
            return self.writer.text(messages[-1].text)
        return self.writer.chat(messages)

    def answer(self, prompt: Prompt, sampling: Sampling) -> Speech:
        """Answer a prompt, token by token."""
        tokens = self._tokens(prompt, sampling)
        return Speech(tokens, self.writer, stop_ids=prompt.stop_ids)

    def _tokens(self, prompt: Prompt, sampling: Sampling) -> Iterator[int]:
        return self._stream.write(prompt.ids, stop_ids=prompt.stop_ids, sampling=sampling)


@dataclass(frozen=True, slots=True)
class Turn:
    """Hold a question and its answer.

    Attributes:
        question: of the user.
        answer: what the model wrote.
        is_whole: whether the answer ended by itself; one that was stopped is not learned from.
        system: the system prompt that it was given under.
    """

    question: str
    answer: str
    is_whole: bool
    system: str = ""


class Chat:
    """A conversation with one model.

    Attributes:
        system: the system prompt; empty for none.
        sampling: how answers are drawn.
        turns: all that was said.
        num_forgotten: turns, counted from the first, that no longer fit the model.
    """

    def __init__(
        self,
        voice: Voice,
        *,
        sampling: Sampling | None = None,
        when_full: WhenFull = "drop",
    ) -> None:
        """Open it.

        Args:
            voice: who answers.
            sampling: see the attributes.
            when_full: whether the oldest turns are left out once the model cannot read all, or
                the next question is refused.
        """
        self._voice, self._when_full = voice, when_full
        self.system, self.sampling = "", sampling or Sampling()
        self.turns: list[Turn] = []
        self.num_forgotten = 0
        self._num_retries = 0
        self._unanswered: str | None = None  # asked last, and stopped before a word was said
        self._written_as: dict[Path, str] = {}  # what of this conversation a file has

    @property
    def model_name(self) -> str:
        """Name who answers."""
        return self._voice.name

    @property
    def last_question(self) -> str:
        """Give what /retry asks again; empty if nothing was asked."""
        if self._unanswered is not None:
            return self._unanswered
        return self.turns[-1].question if self.turns else ""

    def prompt(self, question: str) -> Prompt:
        """Write what the model is given for the next question.

        Turns that do not fit are forgotten, or refused.

        Raises:
            TemplateError: the template cannot show the messages.
            DataError: it does not fit, and that is to be refused or nothing is left to forget.
        """
        limit, forgotten = self._voice.longest, self.num_forgotten
        # half of what the model reads is enough for any answer
        room = min(self.sampling.max_new_tokens, limit // 2)
        while True:
            prompt = self._voice.prompt(self._messages(question, start=forgotten))
            num_ids, is_alone = len(prompt.ids), forgotten == len(self.turns) or self._voice.is_bare
            if num_ids + room <= limit or (is_alone and num_ids < limit):
                self.num_forgotten = forgotten
                return prompt
            if is_alone or self._when_full == "refuse":
                what = "question" if is_alone else "conversation"
                advice = "shorten it" if is_alone else "/reset begins anew"
                raise DataError(
                    f"the {what} has {num_ids:,} tokens as it is sent; the model reads {limit:,},"
                    f" its answer counted: {advice}."
                )
            forgotten += 1

    @contextmanager
    def ask(self, question: str) -> Iterator[Speech]:
        """Ask something; iterate over what this gives.

        However it is left, as by Ctrl-C, what was written by then stays in the conversation;
        an error leaves the conversation as it was.

        Raises:
            TemplateError: the template cannot show the messages.
            DataError: they do not fit the model.
        """
        prompt = self.prompt(question)
        self._num_retries = 0
        with self._noting(question, self._voice.answer(prompt, self.sampling)) as speech:
            yield speech

    @contextmanager
    def retry(self) -> Iterator[Speech]:
        """Ask the last question again, drawing otherwise.

        Raises:
            DataError: nothing was asked yet.
        """
        if self._unanswered is not None:
            with self.ask(self._unanswered) as speech:
                yield speech
            return
        if not self.turns:
            raise DataError("nothing was asked yet; /retry answers the last question again.")
        last = self.turns.pop()
        try:
            self.num_forgotten = min(self.num_forgotten, len(self.turns))
            prompt = self.prompt(last.question)
        except BaseException:
            self.turns.append(last)
            raise
        self._num_retries += 1
        sampling = replace(self.sampling, seed=self.sampling.seed + self._num_retries)
        speech = self._voice.answer(prompt, sampling)
        with self._noting(last.question, speech, otherwise=last):
            yield speech

    def set_system(self, text: str) -> None:
        """Change the system prompt that further answers are given under; empty takes it away.

        Raises:
            TemplateError: the template has no place for it.
            DataError: the model is given bare text.
        """
        if text and self._voice.is_bare:
            raise DataError(
                f"{self._voice.name} is given bare text, where a system prompt has no place;"
                " --template names a form that has one."
            )
        if text:
            self._voice.prompt([Message("system", text), Message("user", "?")])
        self.system = text

    def reset(self) -> None:
        """Forget all that was said; the system prompt stays."""
        self.turns, self.num_forgotten, self._written_as = [], 0, {}
        self._unanswered = None

    def rows(self) -> list[Conversation]:
        """Give the conversation as rows to learn from; turns without an answer are left out.

        Forgotten turns become a row of their own, since later answers were made without them, and
        so do the answers under each system prompt; what was said before is context in it. An
        answer that did not end by itself is context and is not learned.
        """
        return [
            Conversation(tuple(_as_messages(turns, turns[-1].system, learned_from=start)))
            for turns, start in self._learned()
        ]

    @property
    def num_left_out(self) -> int:
        """Count the turns that are in none of the rows."""
        return len(self.turns) - len({id(turn) for turns, _ in self._learned() for turn in turns})

    def _learned(self) -> Iterator[tuple[list[Turn], int]]:
        """Give the turns of each row, and the first of them that is learned."""
        for part in (self.turns[: self.num_forgotten], self.turns[self.num_forgotten :]):
            turns, start = [turn for turn in part if turn.answer.strip()], 0
            for _, under in groupby(turns, key=lambda turn: turn.system):
                following = end = start + len(list(under))
                while end > start and not turns[end - 1].is_whole:
                    end -= 1  # context that nothing follows
                if end > start:
                    yield turns[:end], start
                start = following

    def save(self, path: Path) -> int:
        """Add the conversation to a file of rows, in place of what of it is there already.

        Args:
            path: a .jsonl file; made if it is not there.

        Returns:
            The number of rows it became.

        Raises:
            DataError: there is nothing to learn from, or the file is no JSONL or cannot be written.
        """
        rows = []
        for conversation in self.rows():
            row = write_row(conversation, "messages")
            if isinstance(row, Problem):
                raise DataError(row.message, path=path)
            rows.append(row)
        if not rows:
            raise DataError("no answer has ended by itself yet, so there is nothing to learn from.")
        before = _rows_in(path)
        mine = self._written_as.get(path.resolve(), "")
        if mine and before.endswith(mine):
            before = before[: -len(mine)]
        text = rows_as_text(rows)
        write_files({path: before + text}, replace=True)
        self._written_as[path.resolve()] = text
        return len(rows)

    @contextmanager
    def _noting(
        self, question: str, speech: Speech, *, otherwise: Turn | None = None
    ) -> Iterator[Speech]:
        """Put the turn into the conversation once its answer is over."""
        kept, self._unanswered = otherwise, None
        try:
            yield speech
        except Exception:
            speech.ids, speech.stopped = [], False  # an error's answer is none
            raise
        finally:
            if speech.stopped or speech.text.strip():
                kept = Turn(question, speech.text, speech.stopped, self.system)
            if kept is None:
                self._unanswered = question
            else:
                self.turns.append(kept)

    def _messages(self, question: str, *, start: int) -> list[Message]:
        said = _as_messages(self.turns[start:], self.system)
        return [*said, Message("user", question)]


def _as_messages(turns: Sequence[Turn], system: str, *, learned_from: int = 0) -> Iterator[Message]:
    """Write turns as a conversation; answers before a place in it are not learned."""
    if system:
        yield Message("system", system)
    for number, turn in enumerate(turns):
        yield Message("user", turn.question)
        yield Message("assistant", turn.answer, learn=turn.is_whole and number >= learned_from)


def _rows_in(path: Path) -> str:
    """Read a file that a row is added to, and refuse one that holds something else."""
    if path.suffix not in (".jsonl", ".ndjson"):
        raise DataError('rows are saved as JSON lines; name the file "....jsonl".', path=path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot be read, so no row is added to it: {error}.", path=path) from error
    last = text.rstrip().rpartition("\n")[2]
    try:
        is_row = not last or isinstance(json.loads(last), dict)
    except ValueError:
        is_row = False
    if not is_row:
        raise DataError("its last line is no JSON object, so no row is added to it.", path=path)
    return text if not text or text.endswith("\n") else text + "\n"


def base_of(loaded: LoadedModel) -> str | None:
    """Name the base that a model was made from, as far as its run or its adapter tells."""
    described: dict[str, Any] = (loaded.manifest or {}).get("model") or {}
    if described.get("name"):
        return str(described["name"])
    folder = Path(loaded.source)
    if (folder / ADAPTER_CONFIG).is_file():
        return str(read_adapter_config(folder).get("base_model_name_or_path") or "") or None
    return None
