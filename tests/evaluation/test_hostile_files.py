"""Code reads no file but Python's library: by the hook alone, by the kernel alone, by both."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from biddable.evaluation import code_driver

SECRET = "hidden-23788"
IS_FILTERED = sys.platform.startswith("linux") and os.uname().machine == "x86_64"
IS_LANDLOCKED = code_driver._landlock_version() > 0
KERNEL = ("_restrict_files", "_refuse_calls")
HOOK = ("_seal_modules", "_refuse_events")

# Runs the driver without some of what it refuses by.
DRIVER = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("driver", sys.argv[1])
driver = importlib.util.module_from_spec(spec)
spec.loader.exec_module(driver)
for name in sys.argv[2:]:
    assert callable(getattr(driver, name))
    setattr(driver, name, lambda: None)
driver.main()
"""

SETUP = """
import importlib, importlib.machinery as machinery, importlib.util, os, sys
def library(name):  # the file of a module in C
    return importlib.util.find_spec(name).origin
def made(name, origin=None):
    spec = machinery.ModuleSpec(name, None, origin=origin)
    return sys.modules["_imp"].create_builtin(spec) if origin is None else (
        sys.modules["_imp"].create_dynamic(spec))
def history(readline):
    readline.read_history_file(FILE)
    return readline.get_history_item(1)
class Liar(str):
    def startswith(self, *given): return True
    def __contains__(self, part): return False
    def __add__(self, other): return os.__file__
def lie_of_paths():
    import posixpath
    posixpath._joinrealpath = lambda *given: (os.__file__, True)
    os.path.realpath = posixpath.realpath = lambda path, **given: os.__file__
    os.fsdecode = os.fspath = lambda path: os.__file__
    return open(FILE).read()
def unblocked(path):
    with os.fdopen(os.open(path, os.O_RDONLY)) as file:
        return file.read()
def context():
    import ssl
    made = ssl.create_default_context()
    made.load_verify_locations(FILE)
    return SECRET
def terminal():
    import curses
    curses.setupterm("xterm", 1)
    return SECRET
def mapped():
    import mmap
    return mmap.mmap(os.open(FILE, os.O_RDONLY), 0, access=mmap.ACCESS_READ)[:]
def hook_frame():  # what the hook raises by must not be code of ours
    import builtins
    frames = []
    builtins.PermissionError = lambda text: frames.append(sys._getframe(1)) or OSError(text)
    try: open(FILE)
    except OSError: pass
    return frames[0].f_locals
def set_clock():
    import time
    time.clock_settime(time.CLOCK_REALTIME, time.time())
def by_ctypes():
    import ctypes
    text = ctypes.create_string_buffer(99)
    ctypes.CDLL(None).read(ctypes.CDLL(None).open(FILE.encode(), 0), text, 99)
    return text.value
"""

# Each gives what is in the file, or something else that code should not have, if it works.
READING = {
    "open": "open(FILE).read()",
    "bytes": "open(FILE.encode()).read()",
    "descriptor": "unblocked(FILE)",
    "lying path": "open(Liar(FILE)).read()",
    "changed library": "lie_of_paths()",
    "climbing": "open(os.path.dirname(os.__file__) + '/' + '../' * 20 + FILE[1:]).read()",
    "code": "importlib.machinery.SourceFileLoader('a', FILE).get_data(FILE)",
    "readline": "history(__import__('readline'))",
    "readline by importlib": "history(importlib.import_module('readline'))",
    "readline named as math": "history(made('math.readline', library('readline')))",
    "users": "__import__('pwd').getpwall()",
    "users by importlib": "importlib.import_module('pwd').getpwall()",
    "users by the loader": "machinery.BuiltinImporter.load_module('pwd').getpwall()",
    "users by hand": "made('pwd').getpwall()",
    "groups": "importlib.import_module('grp').getgrall()",
    "shadow": "importlib.import_module('spwd').getspall()",
    "home": "SECRET if os.path.expanduser('~nobody') != '~nobody' else 1 / 0",
    "mmap": "mapped()",
    "ctypes": "by_ctypes()",
    "parent": "open(f'/proc/{os.getppid()}/environ').read() or SECRET",
    "memory": "open('/proc/self/mem', 'rb').read(0) or SECRET",
}  # fmt: skip
# These tell of the file without its text, or make a new one.
REACHING = {
    "ctypes below": "__import__('_ctypes')",
    "certificates": "context()",
    "terminals": "terminal()",
    "database": "importlib.import_module('sqlite3').connect(FILE)",
    "database by hand": "importlib.import_module('_sqlite3').connect(FILE)",
    "dbm": "importlib.import_module('dbm.ndbm').open(FILE)",
    "tcl": "importlib.import_module('_tkinter').create().eval('open ' + FILE)",
    "yellow pages": "importlib.import_module('nis').maps()",
    "frame of the hook": "hook_frame()",
    "listing": "os.listdir(FOLDER)",
    "listing here": "os.listdir()",
    "scanning": "list(os.scandir(FOLDER))",
    "changing the folder": "os.chdir(FOLDER)",
    "changing the folder by number": "os.fchdir(0)",
    "history written": "__import__('readline').write_history_file(NEW)",
    "pipe": "os.mkfifo(NEW)",
    "node": "os.mknod(NEW)",
    "shared memory": "importlib.import_module('_posixshmem').shm_open(NEW, 66)",
    "terminal": "os.openpty()",
    "clock": "set_clock()",
    "catalogue": "importlib.import_module('_locale').bindtextdomain('a', FOLDER)",
}  # fmt: skip

# Nothing that also says of a call which went through that it failed.
REFUSALS = (
    "PermissionError", "ImportError", "ModuleNotFoundError", "AttributeError", "IndexError",
    "ZeroDivisionError",
)  # fmt: skip


@pytest.fixture
def secret(tmp_path: Path) -> Path:
    folder = tmp_path / "private"
    folder.mkdir()
    (folder / "secret").write_text(SECRET + "\n", encoding="utf-8")
    return folder / "secret"


def tried(expression: str, file: Path, *, without: tuple[str, ...] = ()) -> list[str]:
    """Evaluate an expression in the driver; give ``["value", repr]`` or ``["raised", name]``."""
    names = {"FILE": str(file), "FOLDER": str(file.parent), "NEW": str(file.parent / "new")}
    code = f"SECRET = {SECRET!r}\n" + "".join(f"{n} = {v!r}\n" for n, v in names.items()) + SETUP
    limits = {"cpu": 2, "memory": 1 << 29}
    job = {"code": code, "expressions": [expression], "alias": {}, "limits": limits}
    (file.parent / "empty").mkdir(exist_ok=True)
    found = subprocess.run(
        [sys.executable, "-I", "-S", "-c", DRIVER, str(code_driver.__file__), *without],
        input=json.dumps(job).encode(),
        capture_output=True,
        cwd=file.parent / "empty",
        env={"LC_ALL": "C.UTF-8"},
        check=True,
    )
    (result,) = json.loads(found.stdout)
    return list(result)


@pytest.mark.parametrize("name", [*READING, *REACHING])
@pytest.mark.parametrize("without", [(), KERNEL], ids=["whole", "hook"])
def test_no_file_is_reached(name: str, without: tuple[str, ...], secret: Path) -> None:
    what, text = tried((READING | REACHING)[name], secret, without=without)
    assert what == "raised", text
    assert text in REFUSALS
    assert not (secret.parent / "new").exists()


@pytest.mark.skipif(not IS_LANDLOCKED, reason="the kernel has no Landlock")
@pytest.mark.parametrize("name", [*READING, "listing", "scanning", "history written", "pipe"])
def test_landlock_refuses_it_by_itself(name: str, secret: Path) -> None:
    without = (*HOOK, "_refuse_calls")
    what, text = tried((READING | REACHING)[name], secret, without=without)
    assert what == "raised" or text in ("[]", "None", "b''"), text  # ctypes tells of no error
    assert not (secret.parent / "new").exists()


@pytest.mark.skipif(not IS_FILTERED, reason="the kernel's filter is for Linux on x86-64")
@pytest.mark.parametrize(
    "call",
    [
        "os.chdir('/')", "os.fchdir(0)", "os.nice(1)",
        "os.sched_setaffinity(0, {0})", "set_clock()",
        "importlib.import_module('socket').sethostname(os.uname().nodename)",
    ],
)  # fmt: skip
def test_the_filter_refuses_it_by_itself(call: str, secret: Path) -> None:
    assert tried(call, secret, without=HOOK) == ["raised", "PermissionError"]


@pytest.mark.parametrize("name", ["open", "descriptor", "readline", "ctypes", "mmap", "pipe"])
def test_what_is_refused_would_work_else(name: str, secret: Path) -> None:
    if name in ("readline", "ctypes", "mmap"):
        pytest.importorskip(name)
    expression = f"({(READING | REACHING)[name]}, open(FILE).read())"
    what, text = tried(expression, secret, without=KERNEL + HOOK)
    assert what == "value"
    assert SECRET in text
    assert (secret.parent / "new").exists() == (name == "pipe")


HONEST = {
    "__import__('hashlib').sha256(b'a').hexdigest()[:8]": "ca978112",
    "__import__('hashlib').md5(b'a').hexdigest()[:8]": "0cc175b9",
    "__import__('hmac').new(b'k', b'a', 'sha1').hexdigest()[:4]": "40e7",
    "str(__import__('decimal').Decimal('0.1') * 3)": "0.3",
    "__import__('zlib').decompress(__import__('zlib').compress(b'a'))": b"a",
    "__import__('lzma').decompress(__import__('lzma').compress(b'a'))": b"a",
    "__import__('bz2').decompress(__import__('bz2').compress(b'a'))": b"a",
    "__import__('datetime').datetime.strptime('2024-02-29', '%Y-%m-%d').weekday()": 3,
    "__import__('calendar').month(2024, 2).split()[0]": "February",
    "__import__('statistics').NormalDist(1, 2).cdf(1)": 0.5,
    "__import__('random').Random(1).randint(1, 6)": 2,
    "importlib.import_module('xml.etree.ElementTree').fromstring('<a/>').tag": "a",
    "__import__('unicodedata').name('a')": "LATIN SMALL LETTER A",
    "'ü'.encode('idna')": b"xn--tda",
    "'日'.encode('euc_jp')": b"\xc6\xfc",
    "len(str(__import__('uuid').uuid4()))": 36,
    "list(__import__('csv').reader(['a,b']))": [["a", "b"]],
    "__import__('typing').get_type_hints(int)": {},
    "__import__('time').localtime(0).tm_year in (1969, 1970)": True,
    "__import__('pathlib').Path('/a/b').suffix or __import__('os').path.basename('a/b')": "b",
}  # fmt: skip
IMPORTED = (
    "abc", "argparse", "array", "base64", "bisect", "cmath", "collections.abc", "colorsys",
    "contextlib", "copy", "dataclasses", "difflib", "enum", "fractions", "functools", "getpass",
    "glob", "heapq", "html", "inspect", "io", "ipaddress", "itertools", "json", "keyword",
    "logging", "math", "numbers", "operator", "os.path", "pathlib", "pickle", "platform", "pprint",
    "queue", "re", "sched", "secrets", "shutil", "socket", "string", "struct", "tempfile",
    "textwrap", "threading", "timeit", "tokenize", "traceback", "types", "unittest",
    "urllib.request", "warnings", "weakref", "zipfile", "zoneinfo",
)  # fmt: skip


@pytest.mark.parametrize("without", [(), KERNEL], ids=["whole", "hook"])
def test_honest_code_finds_what_it_imports(without: tuple[str, ...], secret: Path) -> None:
    names = f"[importlib.import_module(name).__name__ for name in {IMPORTED}]"
    expression = f"({names}, exec('from os import *'), [{', '.join(HONEST)}])"
    what, text = tried(expression, secret, without=without)
    assert what == "value", text
    imported, _, found = ast.literal_eval(text)
    assert len(imported) == len(IMPORTED)
    assert found == list(HONEST.values())
