"""Start a server: load the models, listen, and end cleanly when told to."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import FrameType

import uvicorn

from biddable.errors import ConfigError
from biddable.models.gguf_file import read_gguf_facts
from biddable.models.llama_cpp import MAX_CONTEXT, LlamaCpp
from biddable.models.loading import load, resolve, template_of
from biddable.models.rows import matrix
from biddable.serving.engine import Engine, EngineThread
from biddable.serving.gguf_engine import GgufEngine, GgufTaught, LlamaPromptWriter
from biddable.serving.house import House, ServedModel, ServerSettings, WritesPrompts
from biddable.serving.playground import playground
from biddable.serving.prompts import PromptWriter
from biddable.serving.requests import EngineLimits
from biddable.serving.server import build_app

KEY_VARIABLE = "BIDDABLE_API_KEY"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
_MOST_OF_LLAMA = 8  # answers at once from a GGUF file, whose caches are made at the start
_LAST_WORDS_S = 5.0  # for telling clients that an answer was given up


@dataclass(frozen=True)
class Serving:
    """Say what is served, and where.

    Attributes:
        model: its name, as anywhere.
        base: of a second model, which is given bare text; None for none.
        template: how turns are written; None: as the model was trained.
        host: address to listen at.
        port: 0 takes any that is free.
        limits: of each model's engine.
        settings: of the server.
        grace_s: seconds that running answers are given when the server is told to end.
    """

    model: str
    base: str | None = None
    template: str | None = None
    host: str = "127.0.0.1"
    port: int = 8000
    limits: EngineLimits = field(default_factory=EngineLimits)
    settings: ServerSettings = field(default_factory=ServerSettings)
    grace_s: float = 30.0


def serve(serving: Serving, *, on_ready: Callable[[str, House], None]) -> None:
    """Serve until a signal ends it; answers that run are finished first.

    Args:
        serving: what and where.
        on_ready: called with the URL once requests are taken.

    Raises:
        ConfigError: a model's name leads nowhere, or the address cannot be had.
        CheckpointError: there is no whole model.
    """
    with closing(_listen(serving.host, serving.port)) as listening:  # told before models load
        names = [serving.model] if serving.base is None else [serving.model, serving.base]
        models = [
            load_served(name, template=serving.template, limits=serving.limits, is_base=number > 0)
            for number, name in enumerate(names)
        ]
        house = House(models, serving.settings)
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            build_app(house, routers=[playground(house)]),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(serving.grace_s + _LAST_WORDS_S),
        )
        server = _Server(config, house, grace_s=serving.grace_s)
        server.on_ready = lambda: on_ready(f"http://{shown}:{port}", house)
        with _noted_signals(), answering(models):
            server.run([listening])


@contextmanager
def answering(models: Sequence[ServedModel]) -> Iterator[None]:
    """Let the engines of models answer, until the end of the block."""
    engines = [model.engine for model in models]
    thread = EngineThread([engine for engine in engines if isinstance(engine, Engine)])
    try:
        yield
    finally:
        thread.close()
        for engine in engines:
            if isinstance(engine, GgufEngine):
                engine.close()


def load_served(
    name: str, *, template: str | None, limits: EngineLimits, is_base: bool = False
) -> ServedModel:
    """Load a model to be served; its engine answers inside of `answering`.

    Args:
        name: as anywhere; a GGUF file is run by llama.cpp.
        template: how turns are written; None: as the model was trained.
        limits: of its engine.
        is_base: whether it is given bare text, whatever it was taught.

    Raises:
        ConfigError: the name leads nowhere, or an extra is missing.
        CheckpointError: there is no whole model.
    """
    source = resolve(name)
    if source.kind == "gguf":
        return _load_gguf(name, source.place, template=template, limits=limits, is_base=is_base)
    loaded = load(name)
    form = None if is_base else template or loaded.template
    vocab_size = len(matrix(loaded.model.get_input_embeddings()))
    engine = Engine(loaded, limits=limits)
    writer = PromptWriter(loaded, form)
    base = str((loaded.manifest or {}).get("base_model", name))
    return ServedModel(served_name(name), engine, writer, vocab_size, base)


def _load_gguf(
    name: str, path: str, *, template: str | None, limits: EngineLimits, is_base: bool
) -> ServedModel:
    facts = read_gguf_facts(path)
    limits = replace(limits, most_running=min(limits.most_running, _MOST_OF_LLAMA))
    llama = LlamaCpp(
        path,
        context=min(MAX_CONTEXT // 2, facts.context or MAX_CONTEXT),
        num_parallel=limits.most_running,
    )
    engine = GgufEngine(llama, limits=limits)
    writer: WritesPrompts
    if facts.tokenizer is None:
        if template is not None:
            raise ConfigError(
                f"{path}: llama.cpp applies the template that the file carries; leave --template "
                "out."
            )
        bare = replace(facts, chat_template=None) if is_base else facts
        writer = LlamaPromptWriter(llama, bare)
    else:
        taught = GgufTaught(facts.tokenizer, facts.manifest)
        form = None if is_base else template or template_of(facts.manifest, facts.tokenizer)
        writer = PromptWriter(taught, form)
    return ServedModel(served_name(name), engine, writer, facts.num_ids)


def served_name(name: str) -> str:
    """Say what requests call a model.

    Example:
        >>> served_name("runs/demo/"), served_name("mimic")
        ('runs/demo', 'mimic')
    """
    return name.rstrip("/") or name


def read_key(path: str | None) -> str | None:
    """Read the key that requests have to bring, from a file or the environment.

    Raises:
        ConfigError: the file cannot be read, or there is no key in it.
    """
    if path is None:
        return os.environ.get(KEY_VARIABLE) or None
    try:
        key = Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: the key cannot be read: {error}.") from error
    if not key or not key.isascii() or any(sign.isspace() for sign in key):
        raise ConfigError(f"{path}: expected one key, of ASCII signs without spaces.")
    return key


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(128)
    except OSError as error:
        listening.close()
        raise ConfigError(
            f"{host}:{port}: cannot listen there: {error.strerror or error}. Choose another --port "
            "(0 takes any that is free) or --host."
        ) from error
    return listening


@contextmanager
def _noted_signals() -> Iterator[None]:
    """Let a signal, which uvicorn acts on and then raises again, not end us before our time."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, lambda *_: None) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)


class _Server(uvicorn.Server):
    """Let running answers end when a signal comes, but not for ever."""

    def __init__(self, config: uvicorn.Config, house: House, *, grace_s: float) -> None:
        super().__init__(config)
        self._house, self._grace_s = house, grace_s
        self.on_ready: Callable[[], None] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.on_ready()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._house.drain(self._grace_s)
        super().handle_exit(sig, frame)
