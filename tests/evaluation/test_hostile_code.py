"""Code that means harm is refused, stopped or left without effect, and never passes."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from biddable.evaluation import code_driver, python_code
from biddable.evaluation.python_code import CodeTask, judge_code, same_code

REFERENCE = "def secret(n):\n    return n * 7919 + 31\n"
TESTS = (("secret(3)", "23788"), ("secret(-2)", "-15807"))
IS_FILTERED = sys.platform.startswith("linux") and os.uname().machine == "x86_64"


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_code, "CPU_LIMIT_S", 1)


def judged(code: str) -> tuple[bool, str]:
    task = CodeTask(code, REFERENCE, TESTS)
    return judge_code([task], run_code=True)[task]


def body(*lines: str) -> str:
    return "def secret(n):\n" + "".join(f"    {line}\n" for line in lines)


HOSTILE = {
    "infinite loop": body("while True: pass"),
    "loop that catches everything": body("while True:", "    try:", "        while True: pass",
                                         "    except BaseException: pass"),
    "regex that never ends": body("import re", "return re.match('(a+)+$', 'a' * 60 + 'b')"),
    "huge power": body("return 9 ** 9 ** 9"),
    "huge power folded by the compiler": body("return (1 << 30) ** (1 << 30)"),
    "memory bomb": body("hoard = []", "while True: hoard.append(bytearray(1 << 24))"),
    "endless recursion": body("return secret(n)"),
    "fork bomb": body("import os", "while True: os.fork()"),
    "fork bomb that catches everything": body("import os", "while True:", "    try: os.fork()",
                                              "    except BaseException: pass"),
    "processes": body("import multiprocessing", "multiprocessing.Process(target=int).start()"),
    "raw fork": body("import _posixsubprocess as p", "return p.fork_exec"),
    "shell": body("import os", "return os.popen('id').read()"),
    "exec": body("import os", "os.execv('/bin/sh', ['sh', '-c', 'echo []'])"),
    "subprocess": body("import subprocess", "return subprocess.check_output(['id'])"),
    "thread": body("import threading", "threading.Thread(target=int).start()", "return 0"),
    "kill the parent": body("import os", "os.kill(os.getppid(), 9)"),
    "kill the group": body("import os", "os.killpg(0, 9)"),
    "signal handlers": body("import signal", "signal.signal(signal.SIGXCPU, signal.SIG_IGN)",
                            "while True: pass"),
    "raise the limits": body("import resource", "resource.setrlimit(resource.RLIMIT_AS, (-1, -1))"),
    "sys.exit": "import sys\nsys.exit(0)\n" + body("return 0"),
    "os._exit": body("import os", "os._exit(0)"),
    "ctypes": body("import ctypes", "return ctypes.string_at(0)"),
    "ctypes left in memory": body(
        "kinds = [k for k in object.__subclasses__() if k.__name__ == 'CDLL']",
        "return kinds[0](None).getpid()"),
    "tracing": body("import sys", "sys.settrace(lambda *a: None)"),
    "objects of the collector": body("import gc", "return len(gc.get_objects())"),
    "socket": body("import socket", "return socket.create_connection(('127.0.0.1', 9))"),
    "url": body("from urllib.request import urlopen", "return urlopen('http://127.0.0.1:9').read()"),
    "password file": body("return open('/etc/passwd').read()"),
    "password file by number": body("import os", "return os.open('/etc/passwd', os.O_RDONLY)"),
    "parent's environment": body("import os",
        "return open(f'/proc/{os.getppid()}/environ').read()"),
    "listing": body("import os", "return os.listdir('/')"),
    "climbing out of the library": body("import os",
        "return open(os.path.dirname(os.__file__) + '/../../../../etc/passwd').read()"),
}  # fmt: skip

FAKES = {
    "printed verdict": "print('[]')\nprint('true')\n" + body("return 0"),
    "verdict on every descriptor": body(
        "import os", "for fd in range(64):", "    try: os.write(fd, b'[]')",
        "    except OSError: pass", "os._exit(0)"),
    "claimed values on every descriptor": body(
        "import os", "text = b'[[\"value\", \"0\"], [\"value\", \"0\"]]'", "for fd in range(64):",
        "    try: os.write(fd, text)", "    except OSError: pass", "os._exit(0)"),
    "not even a list": body(
        "import os", "for fd in range(64):", "    try: os.write(fd, b'{\"a\": [1]}')",
        "    except OSError: pass", "os._exit(0)"),
    "equal to everything": "class Any(int):\n    def __eq__(self, other): return True\n"
    "    __hash__ = int.__hash__\n" + body("return Any(0)"),
    "built-ins replaced": "import builtins\nbuiltins.repr = lambda v: '23788'\n" + body("return 0"),
    "driver replaced": "import __main__\n__main__._attempt = lambda run: ['value', '23788']\n"
    "__main__._evaluate = lambda *a: []\n" + body("return 0"),
    "json replaced": "import json\njson.dumps = lambda value: '[]'\n" + body("return 0"),
    "frames searched for the answer": body(
        "import sys", "frame = sys._getframe()", "while frame:",
        "    for value in frame.f_locals.values():",
        "        if '23788' in str(value): return 23788", "    frame = frame.f_back", "return 0"),
    "exception named as the answer": "class E(BaseException): pass\nE.__name__ = '23788'\n"
    + body("raise E"),
    "exception that fights back": "class E(BaseException):\n    def __str__(self): raise self\n"
    + body("raise E"),
    "repr that never ends": "class R:\n    def __repr__(self):\n        while True: pass\n"
    + body("return R()"),
    "repr that is huge": "class R:\n    def __repr__(self): return 'x' * 50_000_000\n"
    + body("return R()"),
    "nested deeper than can be read": "class R:\n    def __repr__(self): return '[' * 90_000\n"
    + body("return R()"),
    "huge output": body("import os", "while True:", "    for fd in range(3, 32):",
                        "        try: os.write(fd, b'x' * 65536)", "        except OSError: pass"),
}  # fmt: skip


# Each of these takes the second of processor time that it is given, as another one here does too.
SLOW = ("infinite loop", "huge power", "fork bomb that catches everything", "signal handlers")


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in [*HOSTILE, *FAKES]
    ],
)
def test_hostile_code_never_passes_and_ends_soon(name: str) -> None:
    started = time.monotonic()
    passed, reason = judged((HOSTILE | FAKES)[name])
    assert not passed
    assert reason.startswith("was run, and ")
    assert len(reason) < 400
    assert time.monotonic() - started < python_code.WALL_LIMIT_S / 2


def test_right_code_that_imports_and_prints_passes() -> None:
    code = (
        "import collections, math, re, itertools, functools, json, random, datetime, decimal\n"
        "print('working')\n" + body("print(n, flush=True)", "return n * 7919 + math.prod([31])")
    )
    assert judged(code) == (True, "was run, and passed its 2 tests")


def test_the_hook_cannot_be_weakened_by_what_it_uses(tmp_path: Path) -> None:
    target = tmp_path / "made"
    code = (
        "import __main__, builtins, os, posixpath\n"
        "__main__._EVENTS = (); __main__._WRITING = 0; __main__._MODULES.clear()\n"
        "builtins.isinstance = lambda *a: False\n"
        "builtins.PermissionError = builtins.ImportError = type('Quiet', (Exception,), {})\n"
        "os.path.realpath = posixpath.realpath = lambda p: os.path.dirname(os.__file__) + '/x'\n"
    ) + body(f"open({str(target)!r}, 'w').write('x')", "return 0")
    assert not judged(code)[0]
    assert not target.exists()


def test_files_are_neither_made_nor_changed_nor_removed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("as it was", encoding="utf-8")
    tries = (
        "open(KEPT, 'w')", "open(KEPT, 'a')", "open(KEPT, 'r+')", "open(NEW, 'x')",
        "__import__('os').open(NEW, 66)", "__import__('os').remove(KEPT)",
        "__import__('os').rename(KEPT, NEW)", "__import__('os').mkdir(NEW)",
        "__import__('os').symlink(KEPT, NEW)", "__import__('os').mkfifo(NEW)",
        "__import__('os').truncate(KEPT, 0)", "__import__('shutil').rmtree(FOLDER)",
        "__import__('pathlib').Path(NEW).touch()", "__import__('os').chmod(KEPT, 0)",
        "__import__('sqlite3').connect(NEW)", "__import__('tempfile').mkdtemp(dir=FOLDER)",
    )  # fmt: skip
    names = {"KEPT": str(kept), "NEW": str(tmp_path / "new"), "FOLDER": str(tmp_path)}
    setup = "".join(f"{name} = {path!r}\n" for name, path in names.items())
    lines = [part for one in tries for part in (f"try: {one}", "except BaseException: pass")]
    if not IS_FILTERED:  # no event tells of a pipe that is made
        lines = [line for line in lines if "mkfifo" not in line]
    before = {path: path.stat().st_mode for path in tmp_path.iterdir()}
    assert not judged(setup + body(*lines, "return 0"))[0]
    assert {path: path.stat().st_mode for path in tmp_path.iterdir()} == before
    assert kept.read_text(encoding="utf-8") == "as it was"


def test_secrets_of_the_environment_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIDDABLE_TEST_SECRET", "23788")
    code = body("import os", "found = os.environ.get('BIDDABLE_TEST_SECRET')", "return found or 5")
    assert judged(code)[1] == "was run, and secret(3) gave 5, not 23788"


def test_no_connection_arrives() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        place = server.getsockname()
        code = body("import socket", f"socket.create_connection({place!r}).send(b'x')", "return 0")
        assert "PermissionError" in judged(code)[1]
        with pytest.raises(TimeoutError):
            server.accept()


def test_nothing_is_left_running(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_code, "WALL_LIMIT_S", 1)
    code = body("import os, time", "os.setsid() if os.getpid() != os.getsid(0) else 0",
                "for fd in range(3, 32):", "    try: os.close(fd)", "    except OSError: pass",
                "time.sleep(60)")  # fmt: skip
    started = time.monotonic()
    assert not judged(code)[0]
    assert time.monotonic() - started < 10
    children = psutil.Process().children(recursive=True)
    assert not any("code_driver.py" in " ".join(child.cmdline()) for child in children)


@pytest.mark.skipif(not IS_FILTERED, reason="the kernel's filter is for Linux on x86-64")
@pytest.mark.parametrize(
    "attempt",
    [
        "os.fork()", "os.execv('/bin/true', ['true'])", "os.kill(os.getpid(), 0)",
        "socket.socket()", "socket.socketpair()", "open('made', 'w')", "os.mkdir('made')",
        "os.open('made', os.O_CREAT)", "os.unlink(__file__)", "os.rename(__file__, 'made')",
        "os.mkfifo('made')",
        "os.symlink('a', 'made')", "os.chmod(__file__, 0)", "os.truncate(__file__, 0)",
        "os.memfd_create('made')", "os.setsid()", "os.utime(__file__)",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (9, 9))",
        "_posixsubprocess and subprocess.run(['true'])",
        "threading.Thread(target=int).start()",
    ],
)  # fmt: skip
def test_the_kernel_refuses_it_below_python_too(attempt: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import importlib.util, os, resource, socket, subprocess, sys, threading\n"
        "import _posixsubprocess\n"
        "spec = importlib.util.spec_from_file_location('driver', sys.argv[1])\n"
        "driver = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(driver)\n"
        "if sys.argv[2] == 'filtered': driver._refuse_calls()\n"
        f"try:\n    {attempt}\nexcept (OSError, RuntimeError, ValueError) as error:\n"
        "    os.write(1, type(error).__name__.encode())\nos._exit(0)\n",
        encoding="utf-8",
    )
    found = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(code_driver.__file__), "filtered"],
        capture_output=True,
        cwd=tmp_path,
        check=True,
    )
    assert found.stdout.decode() in ("PermissionError", "RuntimeError", "ValueError"), found.stderr
    assert [path.name for path in tmp_path.iterdir() if path.name == "made"] == []


@pytest.mark.skipif(not IS_FILTERED, reason="the kernel's filter is for Linux on x86-64")
def test_what_the_kernel_refuses_would_work_else(tmp_path: Path) -> None:
    test = "import os, socket; socket.socketpair(); os.mkdir('made'); os.mkfifo('pipe'); os.fork()"
    subprocess.run([sys.executable, "-c", test], cwd=tmp_path, check=True)
    assert sorted(path.name for path in tmp_path.iterdir() if path.name != ".home") == [
        "made",
        "pipe",
    ]


def test_code_nested_too_deep_to_walk_is_not_the_reference() -> None:
    deep = "def f(x):\n    return " + "-" * 3000 + "x"
    assert not same_code(deep, deep)
