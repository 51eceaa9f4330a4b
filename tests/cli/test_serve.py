"""Serve through the real entry point: what is told, how it ends, what is refused."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import httpx2 as httpx
import pytest

from biddable.cli import main
from tests.conftest import ROOT


@contextmanager
def server(*options, **environment):
    command = [sys.executable, "-m", "biddable", "serve", "mimic", "--port", "0", *options]
    place = {**os.environ, "PYTHONPATH": str(ROOT / "src"), **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=place, text=True, **pipes) as process:
        try:
            told = "".join(process.stdout.readline() for _ in range(3))
            found = re.search(r"http://127\.0\.0\.1:\d+", told)
            assert found, told + process.stderr.read()
            yield found[0], process, told
        finally:
            process.kill()


def test_a_signal_lets_running_answers_end_and_then_the_server():
    asked = {"model": "mimic", "prompt": "The capital of France", "max_tokens": 400}
    with server("--template", "inst", BIDDABLE_API_KEY="k") as (url, process, told):
        assert f"curl {url}/v1/chat/completions" in told
        assert "Bearer" in told
        key = {"authorization": "Bearer k"}
        assert httpx.get(f"{url}/v1/models").status_code == 401
        streamed = {"json": {**asked, "stream": True}, "headers": key, "timeout": 60}
        with httpx.stream("POST", f"{url}/v1/completions", **streamed) as reply:
            lines = reply.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        last = json.loads(rest[-2].removeprefix("data: "))
        assert last["choices"][0]["finish_reason"] in ("stop", "length")
        assert process.wait(20) == 0
        assert process.stderr.read() == ""
        with pytest.raises(httpx.ConnectError):
            httpx.get(f"{url}/health")


def test_answers_are_given_up_when_the_grace_is_over():
    asked = {"model": "mimic", "prompt": "Once", "max_tokens": 1000, "n": 8, "temperature": 2}
    with server("--grace", "0.1") as (url, process, _):
        streamed = {"json": {**asked, "stream": True}, "timeout": 60}
        with httpx.stream("POST", f"{url}/v1/completions", **streamed) as reply:
            lines = reply.iter_lines()
            next(lines)
            started = time.monotonic()
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert "closing" in json.loads(rest[-1].removeprefix("data: "))["error"]["message"]
        assert process.wait(20) == 0
        assert time.monotonic() - started < 15


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["mimicc"], "neither a known name"),
        (["mimic", "--base", "mimic"], "it is the model itself"),
        (["mimic", "--api-key-file", "absent"], "absent: the key cannot be read"),
        (["mimic", "--api-key-file", "empty"], "empty: expected one key"),
        (["mimic", "--port", "70000"], "--port"),
        (["mimic", "--host", "256.0.0.1"], "cannot listen there"),
        (["mimic", "--template", "insd", "--port", "0"], 'Did you mean "inst"'),
    ],
)
def test_what_cannot_be_served_is_said(options, said, capsys, tmp_path):
    (tmp_path / "empty").write_text(" \n")
    assert main(["serve", *options]) in (1, 2)
    assert said in capsys.readouterr().err


def test_a_port_that_is_taken_is_told_before_anything_is_loaded(capsys):
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert main(["serve", "mimic", "--port", str(port)]) == 1
    assert f"127.0.0.1:{port}: cannot listen there" in capsys.readouterr().err
