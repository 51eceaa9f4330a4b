"""Make processes that run the command line, quickly: what is slow to import is imported once.

Started as a program. It says 0 when it is ready. For each line of JSON it forks and says the
process's id; after one more line it waits for its end and says the exit code (negative: a signal).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

# Each is what the disk sees of a save; a process is killed right before the call.
_CALLS = ("mkdir", "open", "fsync", "replace", "chmod", "rmdir", "unlink")


def main() -> None:
    import biddable.training.finetune  # noqa: F401

    _say(0)
    while line := sys.stdin.readline():
        wish = json.loads(line)
        child = os.fork()
        if child == 0:
            os._exit(_run(wish))
        _say(child)
        sys.stdin.readline()  # its id is not given to another process before
        _, status = os.waitpid(child, 0)
        _say(os.waitstatus_to_exitcode(status))


def _run(wish: dict[str, Any]) -> int:
    from biddable.cli import main as command

    os.chdir(wish["folder"])
    os.environ["HOME"] = wish["folder"]
    for name in (1, 2):
        handle = os.open(f"told.{name}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(handle, name)
    if wish["point"] is not None:
        _kill_at(wish["point"], within=wish["within"])
    code = command(wish["arguments"])
    sys.stdout.flush()
    sys.stderr.flush()
    return code


def _kill_at(point: int, *, within: str) -> None:
    """Kill this process at the n-th call that touches a path in some folder, or any file there."""
    left = [point]

    def wrap(call: Callable[..., Any]) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if arguments and _place(arguments[0]).find(within) >= 0:
                left[0] -= 1
                if left[0] < 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments, **options)

        return wrapped

    for name in _CALLS:
        setattr(os, name, wrap(getattr(os, name)))
    from biddable.training import checkpoints

    write = checkpoints.save_file

    def write_by_halves(tensors: Any, path: Any, **options: Any) -> None:
        write(tensors, path, **options)
        if left[0] == 0:  # as a process leaves it that is killed while writing
            os.truncate(path, os.path.getsize(path) // 2)
        os.unlink(path) if left[0] < 0 else os.chmod(path, 0o644)

    checkpoints.save_file = write_by_halves


def _place(target: Any) -> str:
    if isinstance(target, int):
        try:
            return os.readlink(f"/proc/self/fd/{target}")
        except OSError:
            return ""
    return os.path.abspath(os.fspath(target))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
