"""Judge Python that a model wrote: the same as the reference up to names, else by running it.

Code is run only when asked, each piece in a process of its own with little time and memory, an
empty folder, no environment, and no way to write files, start programs or open connections
(code_driver). What its tests should give stays here: it can claim values, and no verdict.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import warnings
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

CPU_LIMIT_S = 2
WALL_LIMIT_S = 60  # for code that sleeps; on a busy machine right code may wait long for its turn
MEMORY_LIMIT_BYTES = 1 << 29
OUTPUT_LIMIT_BYTES = 1 << 22

_DRIVER = Path(__file__).with_name("code_driver.py")

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
    canonical = _canonical(code)
    return canonical is not None and canonical == _canonical(reference)


@lru_cache(maxsize=4096)
def _canonical(code: str) -> str | None:
    tree = _parse(code)
    try:
        return None if tree is None else _without_names(tree)
    except RecursionError:  # nested deeper than can be walked
        return None


def _without_names(tree: ast.Module) -> str:
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
    """Run the tests of one piece of code in a limited process, and judge what they gave."""
    defined = [n.name for n in ast.parse(code).body if isinstance(n, ast.FunctionDef)]
    expected = [n.name for n in ast.parse(task.reference).body if isinstance(n, ast.FunctionDef)]
    alias = {}
    if defined and expected and expected[-1] not in defined:
        alias = {expected[-1]: defined[-1]}
    limits = {"cpu": CPU_LIMIT_S, "memory": MEMORY_LIMIT_BYTES}
    expressions = [expression for expression, _ in task.tests]
    job = {"code": code, "expressions": expressions, "alias": alias, "limits": limits}
    output, is_late = _run_limited(json.dumps(job).encode())
    if is_late:
        return False, f"was run, and took longer than {WALL_LIMIT_S} s"
    problem = _problem(output, task.tests)
    return not problem, f"was run, and {problem or f'passed its {len(task.tests)} tests'}"


def _run_limited(job: bytes) -> tuple[bytes, bool]:
    """Run a job; give what it wrote, up to a limit, and whether it took too long."""
    is_late = threading.Event()
    with tempfile.TemporaryDirectory(prefix="biddable-code-") as folder:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(_DRIVER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"LC_ALL": "C.UTF-8"},
            start_new_session=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None

        def stop() -> None:
            is_late.set()
            _kill(process)

        timer = threading.Timer(WALL_LIMIT_S, stop)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(job)
            output = process.stdout.read(OUTPUT_LIMIT_BYTES)
        finally:
            timer.cancel()
            _kill(process)
            process.wait()
            process.stdout.close()
    return output, is_late.is_set()


def _kill(process: subprocess.Popen[bytes]) -> None:
    """End the process and its group; nobody waited for it yet, so the id is still its own."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.kill()


def _problem(output: bytes, tests: Sequence[tuple[str, str]]) -> str:
    """Say what is wrong with the answers of a process; they are not trusted to have any form."""
    ended_early = "ended before its tests did (time, memory or exit)"
    try:
        answers = json.loads(output)
    except (ValueError, RecursionError):
        return ended_early
    pairs = answers if isinstance(answers, list) else []
    if not all(
        isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) for p in pair)
        for pair in pairs
    ):
        return ended_early
    if len(pairs) == 1 and pairs[0][0] == "raised" and len(tests) > 1:
        return f"raised {pairs[0][1]}"
    if len(pairs) != len(tests):
        return ended_early
    for (expression, expected), (what, text) in zip(tests, pairs, strict=True):
        if what != "value":
            return f"{expression} raised {text}"
        if not _same_value(text, expected):
            return f"{expression} gave {text[:80]}, not {expected}"
    return ""


def _same_value(found: str, expected: str) -> bool:
    """Tell whether two reprs are of equal values of one type."""
    if found == expected:
        return True
    try:
        value, wanted = ast.literal_eval(found), ast.literal_eval(expected)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        return False
    return type(value) is type(wanted) and bool(value == wanted)
