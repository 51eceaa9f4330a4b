"""Mutated files: a clear error or the right rows, never a traceback, never a changed row.

Each case takes a whole file, changes some bytes of it, and reads it. Where lines part the rows,
every row whose line was not touched has to come out as it was, or the file has to be refused.
"""

from __future__ import annotations

import copy
import gzip
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
import zstandard

from biddable.config import RunConfig, load_config
from biddable.data.conversation import Conversation, Message
from biddable.data.convert import write_rows
from biddable.data.files import ENDINGS
from biddable.data.formats import FORMATS
from biddable.data.readers import ReadOptions, examine
from biddable.data.row_writing import write_row
from biddable.data.tables import plan_columns
from biddable.errors import ConfigError, DataError

CASES = 10_000
PIECES = [
    *(b'"', b"{", b"}", b"[", b"]", b",", b":", b"\\", b"\n", b"\r\n", b"\x00", b"\xff", b"\xc3"),
    *(b"null", b"NaN", b"1e999", b"-", b'"role":', b'"content":null,', b"\\ud800", b"\xef\xbb\xbf"),
    *(
        "\u2028é".encode(),
        b"[" * 3000,
        b"9" * 5000,
        b'"a":1,"a":2,',
        b";",
        b"\t",
        b"'",
        b"#",
        b"&a ",
    ),
]
CONVERSATIONS = [
    Conversation(
        (
            Message("system", "Be brief."),
            Message("user", f"Say {n}."),
            Message("assistant", f"{n} é"),
        ),
        category="count" if n % 2 else None,
        extra={"id": n, "note": [None, {"a": 1.5}]} if n % 3 else {},
    )
    for n in range(12)
]


def mutate(data: bytes, draws: random.Random) -> bytes:
    """Flip, insert, delete, repeat, swap or cut, once to four times."""
    changed = bytearray(data)
    for _ in range(draws.randint(1, 4)):
        at = draws.randrange(len(changed) + 1)
        length = draws.choice((1, 1, 1, 2, 8, 60))
        kind = draws.randrange(6)
        if kind == 0 and at < len(changed):
            changed[at] ^= 1 << draws.randrange(8)
        elif kind == 1:
            changed[at:at] = draws.choice(PIECES)
        elif kind == 2:
            del changed[at : at + length]
        elif kind == 3:
            changed[at:at] = changed[at : at + length]
        elif kind == 4:
            changed[at : at + length] = bytes(draws.randrange(256) for _ in range(length))
        elif draws.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def whole_files() -> dict[str, bytes]:
    """Write the conversations in every format and kind of file."""
    files = {}
    for form in FORMATS:
        rows: list[Any] = [write_row(conversation, form) for conversation in CONVERSATIONS]
        if form == "text":
            rows = [{"text": f"Once {n} é\n", "id": n} for n in range(12)]
        for ending in ENDINGS:
            path = Path(f"{form}{ending}")
            write_rows(path, rows, plan=plan_columns(rows, is_text=ending in (".csv", ".tsv")))
            files[path.name] = path.read_bytes()
            path.unlink()
    return files


def lines_left(before: bytes, after: bytes) -> dict[int, int]:
    """Map the lines of the changed file to those of the whole one that are the same, by content."""
    known = {line: number for number, line in enumerate(before.split(b"\n"), start=1) if line}
    return {
        number: known[line]
        for number, line in enumerate(after.split(b"\n"), start=1)
        if line in known
    }


def require_place(error: Exception, path: str) -> None:
    assert str(error).startswith(path), error


def check_case(name: str, data: bytes, draws: random.Random) -> str:
    """Read one mutated file; return what became of it."""
    changed = mutate(data, draws)
    compression = draws.choice(("", "", "", ".gz", ".zst")) if ".parquet" not in name else ""
    packed = changed
    if compression == ".gz":
        packed = gzip.compress(changed, 1)
    elif compression == ".zst":
        packed = zstandard.ZstdCompressor().compress(changed)
    if compression and draws.random() < 0.7:
        packed = mutate(packed, draws)
    path = Path(name + compression)
    path.write_bytes(packed)
    form = draws.choice((None, None, "mixed", name.partition(".")[0]))
    try:
        reading = examine(path, options=ReadOptions(form))
    except DataError as error:
        require_place(error, str(path))
        return "refused"
    for problem in reading.problems:
        assert problem.path == str(path)
        assert problem.line is not None
        assert problem.message
    is_lines = name.endswith("jsonl") and packed is changed
    if is_lines and form == name.partition(".")[0]:
        _require_rows_unchanged(name, data, changed, reading.conversations)
    return "problems" if reading.problems else "read"


def _require_rows_unchanged(
    name: str, data: bytes, changed: bytes, conversations: list[Conversation]
) -> None:
    Path("whole.jsonl").write_bytes(data)
    whole = {
        c.line: c
        for c in examine("whole.jsonl", options=ReadOptions(name.partition(".")[0])).conversations
    }
    found = {c.line: c for c in conversations}
    for line, original in lines_left(data, changed).items():
        assert line in found, (name, line)
        there, expected = found[line], whole[original]
        assert (there.messages, there.text, there.extra, there.tools, there.category) == (
            expected.messages,
            expected.text,
            expected.extra,
            expected.tools,
            expected.category,
        )


@pytest.mark.slow
def test_mutated_files_of_rows() -> None:
    draws = random.Random(0)
    files = whole_files()
    names = sorted(files)
    outcomes = {"refused": 0, "problems": 0, "read": 0}
    for number in range(CASES):
        name = names[number % len(names)]
        try:
            outcomes[check_case(name, files[name], draws)] += 1
        except BaseException:
            print(f"case {number}: {name}")
            raise
    assert min(outcomes.values()) > CASES / 100, outcomes


CONFIG: dict[str, Any] = {
    "model": "mimic",
    "data": {
        "train": ["a.jsonl", {"path": "b.jsonl", "weight": 0.5, "role_map": {"bot": "assistant"}}],
        "held_out_rows": 4,
        "format": "messages",
        "max_seq_len": 512,
    },
    "template": "inst",
    "method": {"name": "lora", "rank": 4, "target_modules": ["q_proj"]},
    "training": {"epochs": 0.5, "learning_rate": 1e-3, "batch_size": 8},
    "seed": 3,
    "output": "runs/a",
}


@pytest.mark.slow
@pytest.mark.parametrize("style", [True, False])
def test_mutated_configs(style: bool) -> None:
    draws = random.Random(1)
    whole = yaml.safe_dump(CONFIG, default_flow_style=style).encode()
    path = Path("run.yaml")
    outcomes = {"read": 0, "refused": 0}
    for number in range(CASES // 4):
        path.write_bytes(mutate(whole, draws))
        try:
            found = load_config(path)
        except ConfigError as error:
            require_place(error, "run.yaml")
            outcomes["refused"] += 1
        except BaseException:
            print(f"case {number}: {path.read_bytes()!r}")
            raise
        else:
            assert isinstance(found, RunConfig)
            outcomes["read"] += 1
    assert min(outcomes.values()) > CASES / 400, outcomes


@pytest.mark.slow
@pytest.mark.parametrize("make", [json.dumps, lambda value: json.dumps(value, indent=1)])
def test_values_put_in_the_place_of_others(make: Callable[[Any], str]) -> None:
    """Well-formed JSON of the wrong shape, at every depth."""
    draws = random.Random(2)
    odd = [None, True, 0, -1.5, "", " ", "x", [], [None], {}, {"a": 1}, [[]], "\ud800", 2**80]
    rows = [
        json.loads(json.dumps(write_row(c, form)))
        for form in FORMATS
        if form != "text"
        for c in CONVERSATIONS[:2]
    ]
    for _ in range(CASES // 10):
        given = json.loads(json.dumps(draws.sample(rows, 3)))
        for _ in range(draws.randint(1, 3)):
            _replace_somewhere(given, draws, copy.deepcopy(draws.choice(odd)))
        Path("a.json").write_text(make(given))
        for form in (None, "mixed", draws.choice(sorted(FORMATS))):
            try:
                examine("a.json", options=ReadOptions(form))
            except DataError as error:
                require_place(error, "a.json")


def _replace_somewhere(value: Any, draws: random.Random, odd: Any) -> None:
    while True:
        keys = list(value) if isinstance(value, dict) else list(range(len(value)))
        if not keys:
            return
        key = draws.choice(keys)
        inner = value[key]
        if not isinstance(inner, list | dict) or not inner or draws.random() < 0.25:
            value[key] = odd
            return
        value = inner
