"""Run a GGUF file under llama.cpp, in this process.

The package ``xllamacpp`` brings llama.cpp's own server. It is called without a socket; it listens
on a free port of this machine's loopback all the same, which `tokenize` uses.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import requests

from biddable.errors import CheckpointError, ConfigError, how_to_install

MAX_CONTEXT = 8192  # ids; a model may allow 128k, whose cache no laptop holds
_TIMEOUT_S = 60


class LlamaCpp:
    """A GGUF file that answers.

    Attributes:
        path: the file.
        context: ids that it takes at once.
    """

    def __init__(
        self, path: str | Path, *, context: int = MAX_CONTEXT, num_parallel: int = 1
    ) -> None:
        """Find llama.cpp; the weights are loaded by the first call.

        A server that was never asked cannot end, so it is not made earlier.

        Args:
            path: the file.
            context: ids of a prompt and its answer together, at most.
            num_parallel: answers that are made at once, each within that context.

        Raises:
            ConfigError: the extra is not installed.
        """
        try:
            import xllamacpp
        except ImportError as error:
            raise ConfigError(
                f"{path}: running GGUF needs packages: {how_to_install('gguf')}."
            ) from error
        self.path, self.context = str(path), context
        self._library: Any = xllamacpp
        self._num_parallel = num_parallel
        self._server: Any = None

    @property
    def version(self) -> str:
        """Name the version of the package that runs."""
        return str(self._library.__version__)

    @property
    def server(self) -> Any:
        """Give the library's own server, its weights loaded.

        Raises:
            CheckpointError: llama.cpp cannot load the file.
        """
        if self._server is None:
            try:
                self._server = self._library.Server(self._settings())
            except Exception as error:  # the library raises what it likes
                raise CheckpointError(f"{self.path}: llama.cpp cannot load it: {error}") from error
        return self._server

    def chat(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer messages, the file's own chat template applied; OpenAI's form, both ways."""
        reply: dict[str, Any] = self.server.handle_chat_completions(dict(request))
        return reply

    def complete(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Continue a ``prompt``, a text or ids; OpenAI's form, both ways."""
        reply: dict[str, Any] = self.server.handle_completions(dict(request))
        return reply

    def tokenize(self, text: str, *, is_prompt: bool = True) -> list[int]:
        """Give the ids that llama.cpp reads in a text.

        Args:
            text: any text.
            is_prompt: as of a whole prompt: control tokens in it act, and a start token is put
                before it if the file says so. Else as of plain text in its middle.
        """
        asked = {"content": text, "add_special": is_prompt, "parse_special": is_prompt}
        reply = self._post("/tokenize", asked)
        return [int(token_id) for token_id in reply["tokens"]]

    def render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """Give the text that the file's chat template makes of messages."""
        return str(self._post("/apply-template", {"messages": list(messages)})["prompt"])

    def _post(self, path: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        address = self.server.listening_address
        with requests.Session() as session:
            session.trust_env = False  # no proxy stands between this process and itself
            reply = session.post(address + path, json=dict(asked), timeout=_TIMEOUT_S)
        if reply.status_code != requests.codes.ok:
            raise CheckpointError(f"{self.path}: llama.cpp refuses {path}: {reply.text[:200]}")
        found: dict[str, Any] = reply.json()
        return found

    def _settings(self) -> Any:
        library = self._library
        found = library.CommonParams()
        found.model.path = self.path
        found.n_ctx = self.context * self._num_parallel
        found.n_parallel = self._num_parallel
        found.warmup = False
        found.verbosity = -1
        found.ctx_shift = False  # what does not fit is refused, never cut
        none = library.common_reasoning_format.COMMON_REASONING_FORMAT_NONE
        found.reasoning_format = none
        found.cpuparams.n_threads = int(os.environ.get("OMP_NUM_THREADS") or _num_cores())
        return found


def _num_cores() -> int:
    """Count the cores that this process may use; more threads than that wait for each other."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
