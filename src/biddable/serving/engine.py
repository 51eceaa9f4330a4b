"""Answer many requests at once: they join the running batch between two ids, and leave when done.

An answer is what `generate` writes to the same prompt alone, whoever else is in the batch (up to
ties within rounding), and its draws are its own. One thread runs the models of a server by turns.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack

import torch
from torch import Tensor

from biddable.models.cpu_linear import fast_linears
from biddable.models.drawing import choose
from biddable.models.generation import longest_sequence
from biddable.models.loading import LoadedModel
from biddable.models.running_rows import RunningRows, pays_as_trees, takes_trees
from biddable.serving.long_prompts import LongPrompts, is_long
from biddable.serving.requests import Asked, Ended, EngineLimits, Listener, Ticket
from biddable.serving.writing import Row

_MOST_READ = 4096  # ids of prompts that are read between two steps: what running answers wait for


class Engine:
    """Answer the requests of one model; `submit` from any thread, `turn` from one."""

    def __init__(self, loaded: LoadedModel, *, limits: EngineLimits | None = None) -> None:
        """Take the model, which nobody else may run meanwhile."""
        self.loaded = loaded
        self.limits = limits or EngineLimits()
        self.longest = longest_sequence(loaded.model)
        self.wake = threading.Condition()
        self._waiting: deque[Ticket] = deque()
        self._batch = RunningRows(loaded.model)
        self._can_change = self._batch.can_change
        self._takes_trees: bool | None = None
        self._rows: list[Row] = []
        self._long = LongPrompts(loaded.model)
        self._logits: Tensor | None = None  # (B, V), after the last id of each row

    @property
    def num_running(self) -> int:
        """Count the answers that are being written."""
        return len(self._alive()) + len(self._long.rows)

    @property
    def num_waiting(self) -> int:
        """Count the answers that have not been begun."""
        return len(self._waiting)

    def submit(self, asked: Sequence[Asked], listen: Sequence[Listener]) -> list[Ticket]:
        """Put answers in the queue, all or none.

        Args:
            asked: what is wanted; the prompts leave room for an answer.
            listen: what each answer is told to, on the engine's thread; it must be quick.

        Raises:
            QueueFull: there is no room for all of them.
        """
        with self.wake:
            self.limits.require_room(
                len(asked), num_waiting=len(self._waiting), num_running=self.num_running
            )
            pairs = zip(asked, listen, strict=True)
            tickets = [Ticket(each, told, each.deadline) for each, told in pairs]
            self._waiting.extend(tickets)
            self.wake.notify_all()
        return tickets

    def hurry(self, deadline: float) -> None:
        """Give up at this time whatever has not ended by then."""
        with self.wake:
            begun = [row.writing.ticket for row in (*self._rows, *self._long.rows)]
            for ticket in (*self._waiting, *begun):
                ticket.hurry(deadline)

    @property
    def has_work(self) -> bool:
        """Tell whether a turn would do anything."""
        return bool(self._waiting or self._rows or self._long.rows)

    def turn(self) -> None:
        """Let rows leave and join, and write one more id of each."""
        try:
            self._change_rows()
            if self._long.rows and (whole := self._long.read_on()):
                row, batch, logits = whole
                self._join([row], batch, logits)
            if self._rows:
                self._write()
        except Exception as error:  # what a model's code raises must not take the server with it
            self._give_up(f"{type(error).__name__}: {error}")

    def _write(self) -> None:
        assert self._logits is not None
        next_ids = choose(self._logits, [row.drawing for row in self._rows])
        for number, (row, token_id) in enumerate(zip(self._rows, next_ids.tolist(), strict=True)):
            try:
                row.take(token_id, self._logits[number])
            except Exception as error:
                row.fail(error)
        if not self._alive():
            self._clear()
            return
        try:  # those that have just ended are dropped when others join, in one copy
            self._logits = self._batch.read_token(next_ids)
        except Exception:
            rows = [self._rows[n] for n in self._alive()]
            self._clear()
            self._read_apart(rows)

    def _read_apart(self, rows: Sequence[Row]) -> None:
        """Read what answers have so far each by itself: one that cannot be read ends, alone."""
        for row in rows:
            batch = RunningRows(self.loaded.model)
            try:
                logits = batch.read_prompts([row.ids])
            except Exception as error:
                row.fail(error)
            else:
                self._join([row], batch, logits)

    def _alive(self) -> list[int]:
        return [n for n, row in enumerate(self._rows) if not row.writing.has_ended]

    def _change_rows(self) -> None:
        for row in (*self._rows, *self._long.rows):
            if reason := row.writing.ticket.given_up():
                row.writing.end(reason)
        self._long.drop_ended()
        alive = self._alive()
        rows = [
            Row(ticket, self.loaded.tokenizer, limit=self._limit(ticket.asked))
            for ticket in self._next(alive)
        ]
        short = [row for row in rows if not (self._can_change and is_long(row.ids))]
        for row in rows:
            if row not in short:
                self._long.add(row)
        if short:
            self._admit(short)
        elif len(alive) < len(self._rows):
            self._drop(alive)

    def _drop(self, alive: list[int]) -> None:
        if not alive:
            self._clear()
            return
        rows = torch.tensor(alive, device=self.loaded.model.device)
        if self._logits is not None and self._batch.keep(rows):
            self._rows = [self._rows[n] for n in alive]
            self._logits = self._logits[rows]

    def _admit(self, rows: list[Row]) -> None:
        """Read the prompts of newcomers at once."""
        joining = RunningRows(self.loaded.model)
        try:
            logits = self._read(joining, [row.ids for row in rows])
        except Exception:
            self._drop(self._alive())
            self._read_apart(rows)
        else:
            self._join(rows, joining, logits)

    def _join(self, rows: list[Row], joining: RunningRows, logits: Tensor) -> None:
        """Put rows that were read behind those that go on."""
        alive = self._alive()
        if self._logits is None or not alive:
            self._batch, self._rows, self._logits = joining, [], logits
        else:
            keep = torch.tensor(alive, device=logits.device)
            self._batch.join(joining, keep=keep)
            self._rows = [self._rows[n] for n in alive]
            self._logits = torch.cat([self._logits[keep], logits])
        self._rows += rows

    def _read(self, rows: RunningRows, prompts: Sequence[Sequence[int]]) -> Tensor:
        model = self.loaded.model
        if not pays_as_trees(model, prompts):
            return rows.read_prompts(prompts)
        if self._takes_trees is None:
            self._takes_trees = takes_trees(model)
        return rows.read_tree(prompts) if self._takes_trees else rows.read_prompts(prompts)

    def _next(self, alive: Sequence[int]) -> list[Ticket]:
        """Take from the queue, in order, what may join the running rows."""
        taken: list[Ticket] = []
        begun = [*(self._rows[n] for n in alive), *self._long.rows]
        lengths = [self._most_places(row.asked) for row in begun]
        with self.wake:
            ended = [(ticket, ticket.given_up()) for ticket in self._waiting]
            self._waiting = deque(ticket for ticket, reason in ended if reason is None)
            while self._waiting and self._has_room(self._waiting[0], taken, lengths):
                lengths.append(self._most_places(self._waiting[0].asked))
                taken.append(self._waiting.popleft())
        for ticket, reason in ended:
            if reason is not None:
                ticket.listen(Ended(reason, 0))
        return taken

    def _has_room(self, ticket: Ticket, taken: Sequence[Ticket], lengths: Sequence[int]) -> bool:
        if not lengths:
            return True
        if not self._can_change or len(lengths) >= self.limits.most_running:
            return False
        num_read = sum(len(other.asked.ids) for other in taken) + len(ticket.asked.ids)
        if taken and num_read > _MOST_READ:
            return False
        longest = max(*lengths, self._most_places(ticket.asked))
        return longest * (len(lengths) + 1) <= self.limits.most_places

    def _limit(self, asked: Asked) -> int:
        room = self.longest - len(asked.ids)
        return room if asked.max_new_tokens is None else min(room, asked.max_new_tokens)

    def _most_places(self, asked: Asked) -> int:
        return len(asked.ids) + self._limit(asked)

    def _give_up(self, message: str) -> None:
        for row in (*self._rows, *self._long.rows):
            row.writing.end("error", message)
        self._long.drop_ended()
        self._clear()

    def _clear(self) -> None:
        self._rows, self._logits = [], None
        self._batch = RunningRows(self.loaded.model)


class EngineThread:
    """Run engines by turns on one thread, for as long as it is open."""

    def __init__(self, engines: Sequence[Engine]) -> None:
        """Take the engines, and start."""
        self._engines = list(engines)
        self._wake = threading.Condition()
        self._is_closing = False
        for engine in self._engines:
            engine.wake = self._wake
        self._thread = threading.Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float = 10.0) -> None:
        """Cancel what is left, and end the thread."""
        with self._wake:
            self._is_closing = True
            for engine in self._engines:
                engine.hurry(0.0)
            self._wake.notify_all()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        with ExitStack() as stack:
            stack.enter_context(torch.inference_mode())
            for engine in self._engines:
                stack.enter_context(fast_linears(engine.loaded.model))
            while True:
                with self._wake:
                    while not (self._is_closing or any(e.has_work for e in self._engines)):
                        self._wake.wait()
                    if self._is_closing and not any(e.has_work for e in self._engines):
                        return
                for engine in self._engines:
                    if engine.has_work:
                        engine.turn()
