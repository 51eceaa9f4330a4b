"""Run a model's code in this process, after giving up nearly everything that a process may do.

python_code starts this file alone, with no environment and in an empty folder. It knows the
expressions to evaluate and not what they should give, so that no code can report itself right.
Limits hold for CPU time, memory and files. An audit hook refuses files outside the standard
library, processes, threads, sockets and the ways around the hook; compiled modules that no event
tells of are not there. Whatever the code does in Python or below it, Linux itself refuses files
outside the library (Landlock, from 5.13 on) and, on x86-64, all the rest (seccomp).
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from types import ModuleType
from typing import Any

MAX_REPR = 100_000

# Modules in C, built in or not, that reach no file, process or terminal without an event. Others
# (readline, pwd, _ctypes, _sqlite3, _ssl, _curses, _tkinter, mmap, ...) are not there.
_COMPILED = frozenset((
    "_abc", "_ast", "_bisect", "_blake2", "_bz2", "_codecs", "_codecs_cn", "_codecs_hk",
    "_codecs_iso2022", "_codecs_jp", "_codecs_kr", "_codecs_tw", "_collections", "_contextvars",
    "_csv", "_datetime", "_decimal", "_elementtree", "_functools", "_heapq", "_hmac", "_imp", "_io",
    "_json", "_locale", "_lsprof", "_lzma", "_md5", "_multibytecodec", "_opcode", "_operator",
    "_pickle", "_queue", "_random", "_sha1", "_sha2", "_sha256", "_sha3", "_sha512", "_signal",
    "_socket", "_sre", "_stat", "_statistics", "_string", "_struct", "_suggestions", "_symtable",
    "_sysconfig", "_thread", "_tokenize", "_tracemalloc", "_types", "_typing", "_warnings",
    "_weakref", "_zoneinfo", "_zstd", "array", "atexit", "audioop", "binascii", "builtins", "cmath",
    "errno", "gc", "itertools", "marshal", "math", "nt", "posix", "pyexpat", "resource", "select",
    "sys", "time", "unicodedata", "zlib",
))  # fmt: skip
_LINKED = ("_bz2", "_decimal", "_lzma", "_zstd", "pyexpat", "zlib")  # to libraries of the system
# What no event tells of, of modules that code needs: it makes files, or reaches beyond the process.
_UNTOLD = (
    "activate_stack_trampoline", "bindtextdomain", "chroot", "clock_settime", "clock_settime_ns",
    "eventfd", "getgrouplist", "getlogin", "initgroups", "login_tty", "memfd_create", "mkfifo",
    "mknod", "openpty", "posix_openpt", "sched_setaffinity", "sched_setparam", "sched_setscheduler",
    "setns", "setpriority", "unshare",
)  # fmt: skip
_EVENTS = (
    "socket.", "subprocess.", "ctypes.", "shutil.", "tempfile.", "sqlite3.", "pty.", "signal.",
    "resource.", "gc.", "syslog.", "fcntl.", "cpython.run", "_thread.start", "os.system", "os.exec",
    "os.fork", "os.posix_spawn", "os.spawn", "os.kill", "os.remove", "os.rename", "os.mkdir",
    "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.putenv",
    "os.unsetenv", "os.utime", "os.setxattr", "os.removexattr", "os.lockf", "os.chflags",
    "os.startfile", "os.chdir", "os.fchdir", "os.getxattr", "os.listxattr", "mmap.", "sys.settrace",
    "sys.setprofile", "sys._current_frames", "sys.addaudithook", "sys.remote_exec",
)  # fmt: skip
# Numbers of system calls on x86-64 that make, change or reach what is not this process's own.
_REFUSED_CALLS = (
    29, 30, 41, 42, 43, 44, 46, 49, 50, 53, 56, 57, 58, 59, 62, 64, 66, 68, 69, 71, 76, 77, 80, 81,
    82, 83, 84, 85, 86, 87, 88, 90, 91, 92, 93, 94, 101, 109, 112, 132, 133, 135, 141, 142, 144,
    155, 159, 160, 161, 164, 165, 166, 170, 171, 188, 189, 190, 197, 198, 199, 200, 203, 227, 234,
    235, 240, 241, 248, 249, 250, 258, 259, 260, 261, 263, 264, 265, 266, 268, 272, 280, 285, 288,
    297, 298, 302, 304, 305, 307, 308, 310, 311, 314, 316, 319, 321, 322, 323, 424, 425, 428, 429,
    430, 431, 432, 433, 434, 435, 437, 438, 442,
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
    _load_modules()
    _restrict_files()
    _refuse_calls()
    _seal_modules()
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


def _library() -> list[str]:
    """Name the folders (and the archive) of Python's library, as written and as they are."""
    there = [path for path in sys.path if path and os.path.exists(path)]
    return list(dict.fromkeys([*there, *map(os.path.realpath, there)]))


def _load_modules() -> None:
    """Load the allowed modules that cannot be loaded once files and built-in ones are refused."""
    for name in (*sys.builtin_module_names, *_LINKED):
        if name in _COMPILED:
            with suppress(ImportError):
                __import__(name)


def _seal_modules() -> None:
    """Let no other built-in module be made, which no event tells of, and take away the untold."""
    import _imp

    def refuse(spec: Any) -> ModuleType:
        raise ImportError("not allowed here: " + spec.name)

    _imp.create_builtin = refuse
    refused = {"ctypes", "_ctypes", *sys.builtin_module_names} - _COMPILED
    for name in [name for name in sys.modules if name.partition(".")[0] in refused]:
        del sys.modules[name]
    listed = (os.supports_dir_fd, os.supports_effective_ids, os.supports_fd)
    for module in (os, sys.modules[os.name], sys.modules.get("_locale", sys), sys, time):
        for name in _UNTOLD:
            taken = vars(module).pop(name, None)
            for known in listed:
                known.discard(taken)
    os.__all__ = [name for name in os.__all__ if hasattr(os, name)]


def _refuse_events() -> None:
    """Add the hook; what it needs is bound to it, where no code can reach or replace it.

    It calls methods of plain strings and nothing of Python's library, which code could change.
    """
    sep, type_of, text = os.sep, type, str
    not_permitted, not_found = PermissionError, ImportError
    inside = tuple(path + sep for path in _library())
    reading = ("open", "os.listdir", "os.scandir")
    events, compiled, writing = _EVENTS, _COMPILED, _WRITING

    def is_in_library(path: Any) -> bool:
        return type_of(path) is text and ".." not in path and (path + sep).startswith(inside)

    def may_import(name: Any, path: Any) -> bool:
        if path is None:  # it is not yet found; ctypes, once loaded, is made again without a file
            return type_of(name) is text and name.partition(".")[0] not in ("ctypes", "_ctypes")
        return is_in_library(path) and path.split(sep)[-1].partition(".")[0] in compiled

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(events):
            raise not_permitted("not allowed here: " + event)
        if event == "import" and not may_import(*args[:2]):
            raise not_found("not allowed here: this module")
        if event not in reading:
            return
        if event == "open" and type_of(args[2]) is int and args[2] & writing:
            raise not_permitted("not allowed here: writing a file")
        if not is_in_library(args[0]):
            raise not_permitted("not allowed here: reading a file")

    sys.addaudithook(hook)


def _landlock_version() -> int:
    """Tell which version of Landlock the kernel has; 0 without any."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call_kernel(444, 0, 0, 1))


def _call_kernel(number: int, *values: int | bytes) -> int:
    """Make a system call of Linux; -1 if it was refused."""
    import ctypes

    call = ctypes.CDLL(None).syscall
    call.restype = ctypes.c_long
    given = [ctypes.c_long(value) if isinstance(value, int) else value for value in values]
    return int(call(ctypes.c_long(number), *given))


def _restrict_files() -> None:
    """Have the Linux kernel refuse all files but the library, all programs, TCP and signals."""
    version = _landlock_version()
    if version == 0:
        return
    create, add_rule, restrict, beneath, read_file, read_folder = 444, 445, 446, 1, 4, 8
    num_rights = 13 + (version >= 2) + (version >= 3) + (version >= 5)
    handled = ((1 << num_rights) - 1, 3 * (version >= 4), 3 * (version >= 6))
    rules = b"".join(rights.to_bytes(8, sys.byteorder) for rights in handled)
    ruleset = _call_kernel(create, rules, len(rules), 0)
    for path in _library():
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        rights = read_file | (read_folder if os.path.isdir(path) else 0)
        rule = rights.to_bytes(8, sys.byteorder) + descriptor.to_bytes(4, sys.byteorder)
        _call_kernel(add_rule, ruleset, beneath, rule, 0)
        os.close(descriptor)
    _forbid_new_privileges()
    _call_kernel(restrict, ruleset, 0)
    os.close(ruleset)


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
    set_seccomp, filter_mode = 22, 2
    _forbid_new_privileges()
    given = ctypes.byref(Program(len(program), program))
    ctypes.CDLL(None).prctl(set_seccomp, filter_mode, given, 0, 0)


def _forbid_new_privileges() -> None:
    """Give up what setuid programs would gain, as the kernel asks of whoever restricts itself."""
    import ctypes

    ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
