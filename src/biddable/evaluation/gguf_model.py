"""Let llama.cpp answer items from a GGUF file, in this process.

The package ``xllamacpp`` brings llama.cpp's own server, which is called without a socket. It
applies the chat template that the file carries. A loss on given text it cannot tell.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from biddable.errors import CheckpointError, ConfigError, EvaluationError
from biddable.evaluation.answer_cache import AnswerCache, fill, key_of
from biddable.evaluation.asking import Answered, Asking, PromptForm, Tell
from biddable.evaluation.openai_form import read_choice, request_of
from biddable.evaluation.sample import Sample
from biddable.manifest import hash_file

_MAX_CONTEXT = 8192  # ids; a model may allow 128k, whose cache no laptop holds


class GgufModel:
    """A GGUF file under llama.cpp as a source of answers; see ``AnswerSource``."""

    manifest: dict[str, Any] | None = None
    taught: PromptForm | None = None
    is_ready = False

    def __init__(self, path: Path, *, cache: AnswerCache | None = None) -> None:
        """Read what the file says of itself; its weights are loaded when it is first asked.

        Raises:
            ConfigError: the extra is not installed.
            CheckpointError: it is no GGUF file.
        """
        self.name = self.source = str(path)
        self.cache = cache
        try:
            import gguf
            import xllamacpp
        except ImportError as error:
            raise ConfigError(
                f"{path}: running GGUF needs packages: pip install 'biddable[gguf]'."
            ) from error
        self._library: Any = xllamacpp
        self._server: Any = None
        try:
            fields = gguf.GGUFReader(path).fields
            trained = [f for name, f in fields.items() if name.endswith(".context_length")]
            context = min([_MAX_CONTEXT, *(int(field.contents()) for field in trained)])
            self.template = "gguf" if "tokenizer.chat_template" in fields else None
        except Exception as error:  # whatever a damaged file makes the reader stumble over
            raise CheckpointError(f"{path}: cannot be read as GGUF: {error}") from error
        self._context = context

    def answer(
        self, samples: Sequence[Sample], asking: Asking, *, tell: Tell
    ) -> list[Answered | None]:
        """Answer items one by one, so that no answer depends on its neighbours.

        Raises:
            CheckpointError: llama.cpp cannot load the file.
            EvaluationError: the file has no chat template, or a prompt is too long.
        """
        self._check(asking)
        tell("generate")
        requests = [request_of(sample, asking) for sample in samples]
        known = {"version": str(self._library.__version__), "context": self._context}
        if self.cache:
            known["file"] = hash_file(self.source)

        def compute(places: list[int]) -> Iterator[tuple[int, Any]]:
            for n in places:
                reply = self._ask(requests[n])
                if "error" in reply:
                    where, said = samples[n].source or samples[n].id, reply["error"]
                    raise EvaluationError(f"{where}: llama.cpp refuses it: {_message(said)}")
                yield n, read_choice(reply)

        keys = [key_of(model=known, request=request) for request in requests]
        found = fill(self.cache, keys, compute)
        return [Answered(row["text"], row["stopped"]) for row in found]

    def _check(self, asking: Asking) -> None:
        if asking.template not in (None, "gguf"):
            raise EvaluationError(
                f'{self.name}: template "{asking.template}" cannot be used; llama.cpp applies the '
                "one that the file carries. Leave --template out."
            )
        if asking.prompt_form == "template" and self.template is None:
            raise EvaluationError(
                f"{self.name}: carries no chat template; ask it with --prompt-form bare or fewshot."
            )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        # by itself llama.cpp draws from the 40 likeliest tokens, and from none that is rare
        whole = {"seed": 0, **request, "top_k": 0, "min_p": 0.0}
        is_chat = "messages" in request
        server = self._started()
        call = server.handle_chat_completions if is_chat else server.handle_completions
        reply: dict[str, Any] = call(whole)
        return reply

    def _started(self) -> Any:
        """Load the weights once there is something to ask; a server never asked cannot end."""
        if self._server is None:
            settings = _parameters(self._library, Path(self.source), self._context)
            try:
                self._server = self._library.Server(settings)
            except Exception as error:  # the library raises what it likes
                raise CheckpointError(f"{self.name}: llama.cpp cannot load it: {error}") from error
        return self._server


def _parameters(xllamacpp: Any, path: Path, context: int) -> Any:
    found = xllamacpp.CommonParams()
    found.model.path = str(path)
    found.n_ctx = context
    found.n_parallel = 1
    found.warmup = False
    found.verbosity = -1
    found.ctx_shift = False  # what does not fit is refused, never cut
    found.reasoning_format = xllamacpp.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
    found.cpuparams.n_threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
    return found


def _message(error: object) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
