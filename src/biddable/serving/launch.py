"""Start a server: load the models, listen, and end cleanly when told to."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import uvicorn

from biddable.errors import ConfigError
from biddable.models.loading import load
from biddable.serving.engine import Engine, EngineLimits, EngineThread
from biddable.serving.house import House, ServedModel, ServerSettings
from biddable.serving.prompts import PromptWriter
from biddable.serving.server import build_app

KEY_VARIABLE = "BIDDABLE_API_KEY"
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
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
        thread = EngineThread([m.engine for m in models if isinstance(m.engine, Engine)])
        host, port = listening.getsockname()[:2]
        shown = f"[{host}]" if ":" in host else host
        config = uvicorn.Config(
            build_app(house),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=int(serving.grace_s + _LAST_WORDS_S),
        )
        server = _Server(config, house, grace_s=serving.grace_s)
        server.on_ready = lambda: on_ready(f"http://{shown}:{port}", house)
        with _noted_signals():
            try:
                server.run([listening])
            finally:
                thread.close()


def load_served(
    name: str, *, template: str | None, limits: EngineLimits, is_base: bool = False
) -> ServedModel:
    """Load a model to be served; its engine runs on an `EngineThread`.

    Args:
        name: as anywhere.
        template: how turns are written; None: as the model was trained.
        limits: of its engine.
        is_base: whether it is given bare text, whatever it was taught.

    Raises:
        ConfigError: the name leads nowhere.
        CheckpointError: there is no whole model.
    """
    loaded = load(name)
    form = None if is_base else template or loaded.template
    engine = Engine(loaded, limits=limits)
    vocab_size = int(loaded.model.get_input_embeddings().weight.shape[0])
    return ServedModel(served_name(name), engine, PromptWriter(loaded, form), vocab_size)


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
