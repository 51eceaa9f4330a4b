"""Hold what conftest promises to every test."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path

import pytest


def test_only_this_machine_can_be_reached() -> None:
    with socket.socket() as outside, pytest.raises(OSError, match=r"127\.0\.0\.1 only"):
        outside.connect(("192.0.2.1", 80))
    with socket.socket() as server, socket.socket() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        client.connect(server.getsockname())


def test_the_place_is_empty_and_the_environment_clean(tmp_path: Path) -> None:
    assert Path.cwd() == tmp_path
    assert [entry.name for entry in Path().iterdir()] == [".home"]
    assert os.environ["HOME"].startswith(str(tmp_path))
    assert not any(name.startswith("BIDDABLE_") for name in os.environ)


def test_absent_test_data_skips(test_data: Callable[[str], Path]) -> None:
    with pytest.raises(pytest.skip.Exception, match="BIDDABLE_TEST_DATA"):
        test_data("no_such_set")
