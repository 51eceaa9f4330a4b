"""Make small models ready to be served, and a server that runs beside the tests."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import uvicorn

from biddable.models.loading import LoadedModel
from biddable.serving.engine import Engine, EngineLimits, EngineThread
from biddable.serving.house import House, ServedModel, ServerSettings
from biddable.serving.prompts import PromptWriter
from biddable.serving.server import build_app
from tests.tiny import tiny_model, tiny_tokenizer


def tiny_loaded(seed: int = 3, *, dtype: torch.dtype = torch.float64, model=None) -> LoadedModel:
    """Take the tiny model, or another of its vocabulary, as one that was taught ``inst``."""
    model = tiny_model(seed, dtype=dtype) if model is None else model
    return LoadedModel(model, tiny_tokenizer(), "tiny", "tiny", template="inst")


def served(
    loaded: LoadedModel, name: str, *, template: str | None, limits: EngineLimits | None = None
) -> ServedModel:
    engine = Engine(loaded, limits=limits)
    vocab_size = loaded.model.config.vocab_size
    return ServedModel(name, engine, PromptWriter(loaded, template), vocab_size)


@contextmanager
def running(models: list[ServedModel], settings: ServerSettings | None = None) -> Iterator[str]:
    """Serve models at a free port of this machine, and give the URL."""
    house = House(models, settings or ServerSettings())
    thread = EngineThread([model.engine for model in models])
    config = uvicorn.Config(build_app(house), port=0, log_level="critical")
    server = uvicorn.Server(config)
    serving = threading.Thread(target=server.run)
    serving.start()
    while not server.started:
        assert serving.is_alive()
        threading.Event().wait(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        serving.join()
        thread.close()
