"""Judge Python that a model wrote: the same as the reference up to names, else by running it.

Code is run only when asked, each piece in a process of its own with little time and memory, an
empty folder, no environment, and no way to write files, start programs or open connections. That
holds off accidents; it is not a wall against an attacker.
"""

from __future__ import annotations

import ast
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

CPU_LIMIT_S = 2
WALL_LIMIT_S = 60  # for code that sleeps; on a busy machine right code may wait long for its turn
MEMORY_LIMIT_BYTES = 1 << 29

_FENCE = re.compile(r"```[ \t]*(?:python3?|py)?[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
_CODE_START = re.compile(r"(?:def|async def|class|import|from|@)\b|@|#")


@dataclass(frozen=True, slots=True)
class CodeTask:
    """Hold an output with what it is held against.

    Attributes:
        output: the model's answer, prose and fences included.
        reference: code that is right.
        tests: pairs of an expression and the repr of its value.
    """

    output: str
    reference: str
    tests: tuple[tuple[str, str], ...] = ()


def judge_code(tasks: Iterable[CodeTask], *, run_code: bool) -> dict[CodeTask, tuple[bool, str]]:
    """Judge pieces of code, those that need to be run side by side.

    Args:
        tasks: outputs with their references.
        run_code: whether code that differs from its reference may be run.

    Returns:
        Whether each is right, and why.
    """
    found: dict[CodeTask, tuple[bool, str]] = {}
    to_run: list[tuple[CodeTask, str]] = []
    for task in dict.fromkeys(tasks):
        code = extract_code(task.output)
        if code is None:
            found[task] = False, "holds no Python that parses"
        elif same_code(code, task.reference):
            found[task] = True, "is the reference, up to names"
        elif not task.tests:
            found[task] = False, "differs from the reference, and there are no tests to run"
        elif not run_code:
            found[task] = False, "differs from the reference, and was not run"
        else:
            to_run.append((task, code))
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        results = pool.map(lambda pair: _run_tests(*pair), to_run)
        found |= {task: result for (task, _), result in zip(to_run, results, strict=True)}
    return found


@lru_cache(maxsize=4096)
def extract_code(output: str) -> str | None:
    r"""Find the code in an answer: in its fences if there are any, else the lines that parse.

    Returns:
        Code that parses and defines something; None if there is none.

    Example:
        >>> extract_code("Sure!\ndef f(x):\n    return x\n\nIt returns x.")
        'def f(x):\n    return x'
    """
    fenced = _FENCE.findall(output)
    if fenced:
        code = "\n".join(textwrap.dedent(block) for block in fenced)
        return code if _parse(code) else None
    lines = output.strip("\n").split("\n")
    starts = [n for n, line in enumerate(lines) if _CODE_START.match(line)]
    for start in starts:
        for end in range(len(lines), start, -1):
            code = "\n".join(lines[start:end]).rstrip()
            tree = _parse(code)
            if tree and any(isinstance(node, ast.FunctionDef | ast.ClassDef) for node in tree.body):
                return code
    return None


def same_code(code: str, reference: str) -> bool:
    r"""Tell whether two pieces of code are one program but for the names that they bind.

    Comments, docstrings, annotations and example calls do not count.

    Example:
        >>> same_code("def f(s):\n    return s[::-1]", "def rev(text):\n    return text[::-1]")
        True
        >>> same_code("def f(s):\n    return s[::2]", "def rev(text):\n    return text[::-1]")
        False
    """
    return _canonical(code) == _canonical(reference)


@lru_cache(maxsize=4096)
def _canonical(code: str) -> str | None:
    tree = _parse(code)
    if tree is None:
        return None
    tree = _Bare().visit(tree)
    tree.body = [node for node in tree.body if not isinstance(node, ast.Expr | ast.If)]
    bound = {name for node in ast.walk(tree) for name in _bound_names(node)}
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        for field in ("id", "arg", "name"):
            name = getattr(node, field, None)
            is_name = isinstance(node, ast.Name | ast.arg | ast.FunctionDef | ast.ClassDef)
            if is_name and name in bound:
                setattr(node, field, names.setdefault(name, f"name{len(names)}"))
    return ast.dump(tree)


def _bound_names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.arg):
        return [node.arg]
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    return [node.id] if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) else []


class _Bare(ast.NodeTransformer):
    """Take away what does not change what a function computes."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        self.generic_visit(node)
        node.returns = None
        if ast.get_docstring(node, clean=False) is not None and len(node.body) > 1:
            node.body = node.body[1:]
        return node

    def visit_arg(self, node: ast.arg) -> ast.AST:
        node.annotation = None
        return node


def _parse(code: str) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a bad escape in a model's string is its own matter
            return ast.parse(code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _run_tests(task: CodeTask, code: str) -> tuple[bool, str]:
    """Run the tests of one piece of code in a limited process."""
    defined = [n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef)]
    expected = [n.name for n in ast.parse(task.reference).body if isinstance(n, ast.FunctionDef)]
    alias = {}
    if defined and expected and expected[-1] not in defined:
        alias = {expected[-1]: defined[-1]}
    limits = {"cpu": CPU_LIMIT_S, "memory": MEMORY_LIMIT_BYTES}
    job = json.dumps({"code": code, "tests": task.tests, "alias": alias, "limits": limits})
    with tempfile.TemporaryDirectory(prefix="biddable-code-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _DRIVER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        try:
            output, _ = process.communicate(job.encode(), timeout=WALL_LIMIT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
            return False, f"was run, and took longer than {WALL_LIMIT_S} s"
    try:
        problem = json.loads(output)
    except ValueError:
        return False, "was run, and ended before its tests did (time, memory or exit)"
    if problem:
        return False, f"was run, and {problem}"
    return True, f"was run, and passed its {len(task.tests)} tests"


# Runs inside the limited process. Results leave by a copy of stdout that the code does not see.
_DRIVER = r"""
import ast, json, os, sys
job = json.load(sys.stdin)
results = os.fdopen(os.dup(1), "w")
null = os.open(os.devnull, os.O_RDWR)
for fd in (0, 1, 2):
    os.dup2(null, fd)
sys.argv = ["answer.py"]
try:
    import resource
    cpu, memory = job["limits"]["cpu"], job["limits"]["memory"]
    limits = {"RLIMIT_CPU": cpu, "RLIMIT_AS": memory, "RLIMIT_FSIZE": 0, "RLIMIT_CORE": 0,
              "RLIMIT_NOFILE": 32}
    for name, value in limits.items():
        resource.setrlimit(getattr(resource, name), (value, value))
except ImportError:
    pass
forbidden = ("socket.", "subprocess.", "ctypes.", "shutil.", "os.system", "os.exec", "os.fork",
             "os.posix_spawn", "os.spawn", "os.kill", "os.remove", "os.rename", "os.mkdir",
             "os.rmdir", "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate",
             "os.putenv", "pty.", "signal.", "resource.")
def guard(event, args):
    writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT
    writes = event == "open" and (
        set(args[1]) & set("wax+") if isinstance(args[1], str) else args[2] & writing)
    if writes or event.startswith(forbidden):
        raise PermissionError("not allowed here: " + event)
sys.addaudithook(guard)
def equals(value, expected):
    try:
        wanted = ast.literal_eval(expected)
    except (ValueError, SyntaxError):
        return False
    return type(value) is type(wanted) and value == wanted
def judge():
    space = {"__name__": "answer"}
    try:
        exec(compile(job["code"], "answer.py", "exec"), space)
        for name, own in job["alias"].items():
            space[name] = space[own]
    except BaseException as error:
        return "raised " + type(error).__name__
    for expression, expected in job["tests"]:
        try:
            value = eval(expression, space)
            if repr(value) == expected:
                continue
            if equals(value, expected):
                continue
        except BaseException as error:
            return expression + " raised " + type(error).__name__
        return expression + " gave " + repr(value)[:80] + ", not " + expected
    return ""
problem = judge()
results.write(json.dumps(problem))
results.flush()
os._exit(0)
"""
