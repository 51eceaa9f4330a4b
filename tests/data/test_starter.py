"""The starter set keeps what it promises: valid, right, in one voice, without repeats."""

from __future__ import annotations

import ast
import json
import math
import operator
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from typing import Any

import pytest

from biddable.data.builtin import builtin_path, create_instruction_dataset
from biddable.data.dataset import InstructionDataset
from biddable.data.readers import conversations_from_rows, read_conversations, read_rows
from biddable.evaluation.behaviour import judge
from biddable.evaluation.checks import run_checks
from biddable.evaluation.comparison import answer_limit
from biddable.evaluation.python_code import CodeTask, judge_code
from biddable.evaluation.refusal import find_refusal
from biddable.evaluation.suites import fewshot_examples, load_suite
from biddable.evaluation.words import words_of
from tests.tiny import tiny_tokenizer

TRAIN = create_instruction_dataset("starter")
HELD_OUT = create_instruction_dataset("starter", "held_out")
REFUSAL = "I'm sorry, but I can't help with that, as it could do harm to somebody."

KINDS = {"benign", "harmful", "lookalike"}
ROW_KEYS = ["category", "messages", "kind"]
EXTRA_KEYS = {"code_generation": "tests", "math": "math", "extraction": "json"}
ITEM_KEYS = ["id", "category", "instruction", "response", "kind", "check"]
MAY_KEYS = ("may_echo", "may_ask")

FILLER = (
    r"certainly[!,]|great question|good question|as an ai|hope (this|that) helps|feel free"
    r"|of course!|let me know if|(happy|glad) to (help|assist)|absolutely[!,]|^sure[!,]"
    r"|in conclusion|delve|it('s| is) important to (note|remember)|don't hesitate"
    r"|^here('s| is| are) (a|an|the|your) "
)
AMERICAN = (
    r"colors?|favor|favorite|flavor|neighbors?|honor|labor|center|theater|liters?"
    r"|gray|mom|traveling|traveled|canceled|organiz\w+|realiz\w+|recogniz\w+|apologiz\w+|analyz\w+"
    r"|aluminum|jewelry|defense|behavior"
)
EMOJI = re.compile("[\U0001f000-\U0001faff\u2600-\u27bf\ufe0f]")
FENCED = re.compile(r"```.*?```", re.DOTALL)
NUMERAL = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?|\d+(?:\.\d+)?")
GRAM, MOST_SHARED = 5, 0.2  # words; share of the shorter row's

OPERATORS: dict[type[ast.AST], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "round": round,
    "Fraction": Fraction,
    "sqrt": math.sqrt,
    "factorial": math.factorial,
}


def answers() -> Iterator[tuple[str, str, str]]:
    """Give category, request and answer of every row and item."""
    for row in [*TRAIN, *HELD_OUT]:
        messages = row.get("messages", ())
        for asked, given in pairwise(messages):
            if given["role"] == "assistant":
                yield row["category"], asked["content"], given["content"]
        if not messages:
            yield row["category"], row["instruction"], row["response"]


def test_it_is_large_and_wide_enough() -> None:
    assert len(TRAIN) >= 500
    assert len(HELD_OUT) >= 120
    assert len({row["category"] for row in TRAIN}) >= 12
    assert {row["category"] for row in HELD_OUT} <= {row["category"] for row in TRAIN}
    assert sum(len(row["messages"]) > 3 for row in TRAIN) >= 25
    assert sum(row["messages"][0]["role"] == "system" for row in TRAIN) >= 5
    for rows in (TRAIN, HELD_OUT):
        kinds = Counter(row["kind"] for row in rows)
        assert 0.05 <= kinds["harmful"] / len(rows) <= 0.08
        assert kinds["lookalike"] / len(rows) >= 0.04


def test_rows_have_their_keys_in_order_and_nothing_else() -> None:
    for _, row in read_rows(builtin_path("starter")):
        extra = EXTRA_KEYS.get(row["category"], "")
        keys = list(row)
        assert keys in (ROW_KEYS, [*ROW_KEYS, extra]), row
        assert extra in row or not extra or len(row["messages"]) > 2, row
        assert row["kind"] in KINDS
        assert all(list(message) == ["role", "content"] for message in row["messages"])
        assert all(m["content"] == m["content"].strip() for m in row["messages"]), row
    for _, item in read_rows(builtin_path("starter", "held_out")):
        assert [key for key in item if key not in MAY_KEYS] == ITEM_KEYS, item
        assert item["kind"] in KINDS
        assert re.fullmatch(rf"{item['category']}-\d{{3}}", item["id"])


def test_every_named_use_reads_it() -> None:
    read = read_conversations(builtin_path("starter"))
    in_memory = conversations_from_rows(list(enumerate(TRAIN, start=1)))
    assert [c.messages for c in read] == [c.messages for c in in_memory]
    assert [len(c.messages) for c in read] == [len(row["messages"]) for row in TRAIN]
    assert all(row["instruction"] and row["response"] for row in TRAIN)
    assert len(load_suite("starter")) == len(HELD_OUT)
    dataset = InstructionDataset(TRAIN, tiny_tokenizer(), max_length=1 << 14)
    assert len(dataset) == len(TRAIN)


def test_shots_are_whole_rows_that_are_answered() -> None:
    shots = fewshot_examples("starter")
    assert len(shots) == 3
    rows = {(row["instruction"], row["response"]): row for row in TRAIN}
    assert all(len(rows[shot]["messages"]) == 2 for shot in shots)
    assert all(rows[shot]["kind"] != "harmful" for shot in shots)


def test_its_answers_may_be_longer_than_those_of_mimic() -> None:
    assert answer_limit("starter") == answer_limit("my/items.jsonl") == 2 * answer_limit("mimic")


def test_references_pass_their_checks_and_behave() -> None:
    verdicts = run_checks([(r["check"], r["response"]) for r in HELD_OUT], run_code=True)
    failed = [(r["id"], v.reason) for r, v in zip(HELD_OUT, verdicts, strict=True) if not v.passed]
    assert not failed
    for row in HELD_OUT:
        may = {key: True for key in MAY_KEYS if row.get(key)}
        found = judge(row["instruction"], row["response"], **may)
        assert found.answer == row["response"], (row["id"], found.reasons)


@pytest.mark.parametrize("cheat", ["empty", "echo", "refusal", "assent"])
def test_who_does_not_do_the_task_fails(cheat: str) -> None:
    given: dict[str, Callable[[int], str]] = {
        "empty": lambda at: "",
        "echo": lambda at: HELD_OUT[at]["instruction"],
        "refusal": lambda at: REFUSAL if HELD_OUT[at]["kind"] != "harmful" else "",
        "assent": lambda at: "Yes, here is what you asked for.",
    }
    pairs = [(row["check"], given[cheat](at)) for at, row in enumerate(HELD_OUT)]
    verdicts = run_checks(pairs, run_code=True)
    assert [r["id"] for r, v in zip(HELD_OUT, verdicts, strict=True) if v.passed] == []


def test_an_answer_to_something_else_hardly_ever_passes() -> None:
    pairs = [
        (item["check"], other["response"])
        for item in HELD_OUT
        for other in HELD_OUT
        if item["category"] != other["category"]
    ]
    verdicts = run_checks(pairs, run_code=False)
    assert sum(v.passed for v in verdicts) / len(verdicts) <= 0.002


def test_code_runs_and_passes_its_tests() -> None:
    rows = [row for row in TRAIN if "tests" in row]
    tasks = [CodeTask(row["response"], "", _pairs(row["tests"])) for row in rows]
    found = judge_code(tasks, run_code=True)
    assert len(rows) >= 40
    assert all(len(row["tests"]) >= 3 for row in rows)
    failed = [(task.output, found[task][1]) for task in tasks if not found[task][0]]
    assert not failed


def test_numbers_in_worked_answers_are_right() -> None:
    rows = [row for row in TRAIN if "math" in row]
    assert len(rows) >= 40
    unexplained = {row["instruction"]: _unexplained(row) for row in rows}
    assert {asked: numbers for asked, numbers in unexplained.items() if numbers} == {}


def test_a_wrong_number_would_be_found() -> None:
    row = {"instruction": "What is a third of 100?", "math": ["100/3"]}
    assert _unexplained(row | {"response": "About 33.3, or 33.33."}) == []
    assert _unexplained(row | {"response": "About 33.4, or 34."}) == ["33.4", "34"]


def test_json_answers_are_their_objects() -> None:
    rows = [row for row in TRAIN if "json" in row]
    assert len(rows) >= 40
    for row in rows:
        assert json.loads(row["response"]) == row["json"], row["instruction"]


def test_only_what_is_harmful_is_refused() -> None:
    for row in [*TRAIN, *HELD_OUT]:
        assert (row["kind"] == "harmful") == (row["category"] == "safety"), row["instruction"]
        if row["kind"] != "harmful" and len(row.get("messages", ())) <= 3:
            assert find_refusal(row["response"])[0] == "none", row["instruction"]


def test_answers_keep_to_one_voice() -> None:
    for category, asked, given in answers():
        prose = FENCED.sub("", given)
        filler = re.search(FILLER, prose, re.IGNORECASE | re.MULTILINE)
        assert not filler, (filler, asked)
        assert not EMOJI.search(given), asked
        assert not re.search(r"\*\*|^#+ ", prose, re.MULTILINE), asked
        american = re.search(rf"\b(?:{AMERICAN})\b", prose, re.IGNORECASE)
        assert category == "translation" or not american, (american, asked)


def test_no_row_is_said_twice() -> None:
    """Nor is a held-out item one of the rows that are learned."""
    seen: dict[tuple[str, ...], list[int]] = {}
    grams = [_grams(row) for row in [*TRAIN, *HELD_OUT]]
    requests = Counter(" ".join(words_of(row["instruction"])) for row in [*TRAIN, *HELD_OUT])
    assert [asked for asked, times in requests.items() if times > 1] == []
    for number, own in enumerate(grams):
        shared = Counter(other for gram in own for other in seen.get(gram, ()))
        for other, times in shared.items():
            share = times / min(len(own), len(grams[other]))
            assert share <= MOST_SHARED, [[*TRAIN, *HELD_OUT][at] for at in (number, other)]
        for gram in own:
            seen.setdefault(gram, []).append(number)


def _pairs(tests: Sequence[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((expression, expected) for expression, expected in tests)


def _grams(row: dict[str, Any]) -> set[tuple[str, ...]]:
    """Cut what the user and the assistant say into runs of words."""
    texts = [m["content"] for m in row.get("messages", ())] or [row["instruction"], row["response"]]
    words = words_of("\n".join(texts))
    return {tuple(words[at : at + GRAM]) for at in range(max(1, len(words) - GRAM + 1))}


def _unexplained(row: dict[str, Any]) -> list[str]:
    """List the numbers of an answer that neither the request nor an expression gives."""
    known = [_number(numeral) for numeral in NUMERAL.findall(row["instruction"])]
    known += [float(_value(ast.parse(text, mode="eval").body)) for text in row["math"]]
    return [
        numeral
        for numeral in NUMERAL.findall(row["response"])
        if not any(abs(value - _number(numeral)) <= _tolerance(numeral) for value in known)
    ]


def _number(numeral: str) -> float:
    return float(numeral.replace(",", ""))


def _tolerance(numeral: str) -> float:
    """Half a unit of the last decimal; whole numbers have to be meant."""
    _, _, decimals = numeral.partition(".")
    return (0.5 * 10.0 ** -len(decimals) if decimals else 0.0) + 1e-9


def _value(node: ast.AST) -> Any:
    """Work out an expression; anything but arithmetic is refused."""
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return node.value
    if isinstance(node, ast.Name) and node.id == "pi":
        return math.pi
    if isinstance(node, ast.BinOp):
        return OPERATORS[type(node.op)](_value(node.left), _value(node.right))
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return FUNCTIONS[node.func.id](*map(_value, node.args))
    raise ValueError(f"not arithmetic: {ast.dump(node)}")
