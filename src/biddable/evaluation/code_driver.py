"""Run a model's code in this process, after giving up nearly everything that a process may do.

python_code starts this file alone, with no environment and in an empty folder. It knows the
expressions to evaluate and not what they should give, so that no code can report itself right.
Limits hold for CPU time, memory and files; an audit hook refuses files outside the standard
library, processes, threads, sockets and the ways around the hook; on Linux on x86-64 the kernel
refuses the same (seccomp), whatever the code does in Python or below it.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any

MAX_REPR = 100_000

_MODULES = {"ctypes", "_ctypes", "_posixsubprocess", "_testcapi", "_testinternalcapi", "_xxsubinterpreters"}  # fmt: skip  # noqa: E501
_EVENTS = (
    "socket.", "subprocess.", "ctypes.", "shutil.", "tempfile.", "sqlite3.", "pty.", "signal.",
    "resource.", "gc.", "syslog.", "fcntl.", "cpython.run", "_thread.start", "os.system", "os.exec",
    "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.remove", "os.rename", "os.mkdir",
    "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.putenv",
    "os.unsetenv", "os.utime", "os.setxattr", "os.removexattr", "os.lockf", "os.chflags",
    "os.startfile", "sys.settrace", "sys.setprofile", "sys._current_frames", "sys.addaudithook",
)  # fmt: skip
# Numbers of system calls on x86-64 that make, change or reach what is not this process's own.
_REFUSED_CALLS = (
    29, 30, 41, 42, 43, 44, 46, 49, 50, 53, 56, 57, 58, 59, 62, 76, 77, 82, 83, 84, 85, 86, 87, 88,
    90, 91, 92, 93, 94, 101, 109, 112, 132, 133, 135, 155, 160, 161, 165, 166, 188, 189, 190, 197,
    198, 199, 200, 234, 235, 248, 249, 250, 258, 259, 260, 261, 263, 264, 265, 266, 268, 272, 280,
    285, 288, 297, 298, 302, 304, 307, 308, 310, 311, 316, 319, 321, 322, 323, 424, 425, 434, 435,
    437, 438,
)  # fmt: skip
_OPEN, _OPENAT = 2, 257
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def main() -> None:
    """Read a job from stdin, and write what its expressions gave, as JSON, to what was stdout."""
    job = json.load(sys.stdin)
    results = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    os.close(null)
    sys.argv = ["answer.py"]
    _limit(**job["limits"])
    _refuse_calls()
    _refuse_events()
    found = json.dumps(_evaluate(job["code"], job["alias"], job["expressions"])).encode()
    while found:
        found = found[os.write(results, found) :]
    os._exit(0)


def _evaluate(code: str, alias: Mapping[str, str], expressions: list[str]) -> list[list[str]]:
    """Give ``["value", repr]`` or ``["raised", name]`` of each expression, or of failing code."""
    module = sys.modules["answer"] = ModuleType("answer")  # dataclasses look theirs up
    space: dict[str, Any] = module.__dict__

    def run() -> str:
        exec(compile(code, "answer.py", "exec"), space)
        space.update({name: space[own] for name, own in alias.items()})
        return ""

    started = _attempt(run)
    if started[0] == "raised":
        return [started]
    return [_attempt(lambda text=text: repr(eval(text, space))) for text in expressions]  # type: ignore[misc]


def _attempt(run: Callable[[], str]) -> list[str]:
    try:
        return ["value", str(run())[:MAX_REPR]]
    except BaseException as error:
        return ["raised", str(type(error).__name__)[:80]]


def _limit(*, cpu: int, memory: int) -> None:
    try:
        import resource
    except ImportError:  # there is none on Windows
        return
    limits = {"CPU": cpu, "AS": memory, "FSIZE": 0, "CORE": 0, "NOFILE": 32, "NPROC": 0}
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (value, value))


def _refuse_events() -> None:
    """Add the hook; what it needs is bound to it, where no code can reach or replace it."""
    root = os.path.realpath(os.path.dirname(os.__file__)) + os.sep
    paths = (root, *(path for path in sys.path if path.endswith(".zip")))
    realpath, fsdecode, is_a = os.path.realpath, os.fsdecode, isinstance
    reading = ("open", "os.listdir", "os.scandir")
    events, modules, writing = _EVENTS, frozenset(_MODULES), _WRITING

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "import" and args[0] in modules:
            raise ImportError("not allowed here: " + args[0])
        if event.startswith(events):
            raise PermissionError("not allowed here: " + event)
        if event not in reading:
            return
        if event == "open" and is_a(args[2], int) and args[2] & writing:
            raise PermissionError("not allowed here: writing a file")
        path = args[0]
        if not is_a(path, (str, bytes)) or not (realpath(fsdecode(path)) + "/").startswith(paths):
            raise PermissionError("not allowed here: reading a file")

    sys.addaudithook(hook)
    for name in [name for name in sys.modules if name.partition(".")[0] in _MODULES]:
        del sys.modules[name]


def _refuse_calls() -> None:
    """Have the Linux kernel refuse the calls above, and opening for writing, as not permitted."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        return
    import ctypes

    class Filter(ctypes.Structure):
        _fields_ = [
            ("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte),
            ("k", ctypes.c_uint32),
        ]  # fmt: skip

    class Program(ctypes.Structure):
        _fields_ = [("len", ctypes.c_ushort), ("filter", ctypes.POINTER(Filter))]

    load, equal, above, any_of, answer = 0x20, 0x15, 0x35, 0x45, 0x06
    allow, refuse = (answer, 0, 0, 0x7FFF0000), (answer, 0, 0, 0x00050001)  # errno 1, EPERM
    rows = [
        (load, 0, 0, 4), (equal, 1, 0, 0xC000003E), refuse,  # another architecture's numbers
        (load, 0, 0, 0), (above, 0, 1, 0x40000000), refuse,
    ]  # fmt: skip
    for number in _REFUSED_CALLS:
        rows += [(equal, 0, 1, number), refuse]
    for number, flags_at in ((_OPEN, 24), (_OPENAT, 32)):
        rows += [
            (equal, 0, 4, number),
            (load, 0, 0, flags_at),
            (any_of, 0, 1, _WRITING),
            refuse,
            allow,
        ]
    program = (Filter * (len(rows) + 1))(*(Filter(*row) for row in (*rows, allow)))
    libc = ctypes.CDLL(None, use_errno=True)
    no_new_privileges, set_seccomp, filter_mode = 38, 22, 2
    libc.prctl(no_new_privileges, 1, 0, 0, 0)
    libc.prctl(set_seccomp, filter_mode, ctypes.byref(Program(len(program), program)), 0, 0)


if __name__ == "__main__":
    main()
