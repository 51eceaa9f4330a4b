"""Give every test the same start: a seed, an empty folder, a clean environment, no network."""

from __future__ import annotations

import os
import random
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

ROOT = Path(__file__).resolve().parents[1]
# Read before the environment is cleaned.
_TEST_DATA = Path(ROOT, os.environ.get("BIDDABLE_TEST_DATA", "../shared/data")).resolve()
_OURS_AND_THEIRS = ("BIDDABLE_", "HF_", "HUGGINGFACE_", "TRANSFORMERS_", "WANDB_")
_LOOPBACK = {"127.0.0.1", "::1", "localhost"}

# Workers of pytest-xdist share the cores; each takes one, or they wait for each other.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_configure(config: pytest.Config) -> None:
    """Hide GPUs from all tests but those made for one, which are run by themselves."""
    if config.option.markexpr != "gpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


# The same examples each run, and no limit that a busy machine would break.
settings.register_profile("biddable", derandomize=True, deadline=None)
settings.load_profile("biddable")


@pytest.fixture(autouse=True)
def _seed() -> None:
    random.seed(0)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(0)
    if "torch" in sys.modules:  # never loaded for a test that does without
        sys.modules["torch"].manual_seed(0)


@pytest.fixture(autouse=True)
def _clean_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Run in an empty folder, with nothing of the user's settings and caches in reach."""
    for name in list(os.environ):
        if name.startswith(_OURS_AND_THEIRS):
            monkeypatch.delenv(name)
    home = tmp_path / ".home"
    home.mkdir()
    for name, value in {
        "HOME": str(home),
        "XDG_CACHE_HOME": str(home / ".cache"),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "NO_COLOR": "1",
        "COLUMNS": "100",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.fixture(autouse=True)
def _only_loopback(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Refuse connections to anywhere but this machine."""
    if request.node.get_closest_marker("network"):
        return

    def guarded(connect: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: socket.socket, address: Any) -> Any:
            is_inet = self.family in (socket.AF_INET, socket.AF_INET6)
            if is_inet and address[0] not in _LOOPBACK:
                raise OSError(f"tests may reach 127.0.0.1 only, not {address[0]}")
            return connect(self, address)

        return call

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))


@pytest.fixture(scope="session")
def test_data() -> Callable[[str], Path]:
    """Find a file or folder of the test data, ``$BIDDABLE_TEST_DATA``; skip where it is absent."""

    def find(name: str) -> Path:
        path = _TEST_DATA / name
        if not path.exists():
            pytest.skip(f"no test data {name}; set BIDDABLE_TEST_DATA to the folder that holds it")
        return path

    return find
