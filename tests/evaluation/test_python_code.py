"""Code is found, compared up to names, and run only when asked, within limits."""

from __future__ import annotations

import pytest

from biddable.evaluation import python_code
from biddable.evaluation.python_code import CodeTask, extract_code, judge_code, same_code

REVERSE = "def reverse_string(text):\n    return text[::-1]\n"
TESTS = (("reverse_string('abc')", "'cba'"), ("reverse_string('')", "''"))


def judged(output: str, *, run_code: bool = True, tests: tuple = TESTS) -> tuple[bool, str]:
    task = CodeTask(output, REVERSE, tests)
    return judge_code([task], run_code=run_code)[task]


@pytest.mark.parametrize(
    "output",
    [
        REVERSE,
        "# reverse a string\n" + REVERSE,
        "Sure, here it is:\n\n" + REVERSE + "\nIt slices the text.",
        "```python\n" + REVERSE + "```\nIt slices.",
        "```\n" + REVERSE,
        "def rev(s: str) -> str:\n    '''Reverse it.'''\n    return s[::-1]\n\nprint(rev('a'))",
        "def f(x):\n    return x[::-1]\n\nif __name__ == '__main__':\n    f('a')",
    ],
)
def test_the_reference_up_to_names_passes_unrun(output: str) -> None:
    assert judged(output, run_code=False) == (True, "is the reference, up to names")


def test_names_are_compared_as_a_program_would() -> None:
    assert same_code("def f(a, b):\n    return a - b", "def g(x, y):\n    return x - y")
    assert not same_code("def f(a, b):\n    return b - a", "def g(x, y):\n    return x - y")
    assert not same_code("def f(a):\n    return len(a)", "def f(a):\n    return max(a)")
    assert same_code(
        "def fac(n):\n    return 1 if n < 2 else n * fac(n - 1)",
        "def f(k):\n    return 1 if k < 2 else k * f(k - 1)",
    )
    assert same_code("class A:\n    def m(self):\n        return 1", "class B:\n    def m(s):\n        return 1")  # fmt: skip  # noqa: E501


def test_other_code_is_run_only_when_asked() -> None:
    other = "def back(s):\n    return ''.join(reversed(s))"
    assert judged(other, run_code=False) == (False, "differs from the reference, and was not run")
    assert judged(other) == (True, "was run, and passed its 2 tests")
    assert "no tests" in judged(other, tests=())[1]


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("Just slice it.", "holds no Python that parses"),
        ("```python\nreverse string\n```", "holds no Python that parses"),
        ("def f(s):\n    return s", "reverse_string('abc') gave 'abc', not 'cba'"),
        ("def f(s):\n    return s[", "holds no Python that parses"),
        ("import nothing_of_that_name\ndef f(s):\n    return 1", "raised ModuleNotFoundError"),
        ("def f(s):\n    return undefined", "raised NameError"),
        ("def f(s):\n    open('x', 'w')", "raised PermissionError"),
        ("import os\ndef f(s):\n    os.system('true')", "raised PermissionError"),
        ("import socket\ndef f(s):\n    socket.socket()", "raised PermissionError"),
        ("def f(s):\n    return 'x' * 10 ** 10", "raised MemoryError"),
        ("import os\nos._exit(0)\ndef f(s):\n    return 1", "ended before its tests did"),
        ("print('{}')\ndef f(s):\n    return 2", "gave 2, not 'cba'"),
    ],
)
def test_wrong_and_wild_code_fails_with_the_reason(output: str, reason: str) -> None:
    passed, found = judged(output)
    assert not passed
    assert reason in found


def test_endless_code_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(python_code, "WALL_LIMIT_S", 1)
    passed, reason = judged("import time\ndef f(s):\n    time.sleep(60)")
    assert not passed
    assert reason == "was run, and took longer than 1 s"


def test_values_are_compared_by_repr_or_as_literals() -> None:
    task = CodeTask("def f():\n    return {2, 1}", "def g():\n    return 0", (("g()", "{2, 1}"),))
    assert judge_code([task], run_code=True)[task][0]


def test_what_defines_nothing_is_no_code() -> None:
    assert extract_code("# just a heading") is None
    assert extract_code("import this, that") is None
