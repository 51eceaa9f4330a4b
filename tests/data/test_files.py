"""Reading files: every kind, in flat memory, under limits, damage named."""

from __future__ import annotations

import csv
import gzip
import json
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from biddable.data.files import data_files, iter_file
from biddable.data.json_rows import Limits
from biddable.data.problems import Problem
from biddable.data.readers import (
    ReadOptions,
    examine,
    iter_conversations,
    read_conversations,
    read_rows,
)
from biddable.errors import DataError

ROWS = [{"prompt": f"Say {n}.", "response": f"{n} \u2028 é"} for n in range(5)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
FIRST = LINES.split("\n")[0]


def refused(path: str, data: bytes | str, *, limits: Limits = Limits()) -> str:
    Path(path).write_bytes(data.encode() if isinstance(data, str) else data)
    with pytest.raises(DataError) as caught:
        read_conversations(path, options=ReadOptions(limits=limits))
    return str(caught.value)


def write_table(path: str, rows: list[dict[str, Any]]) -> None:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def packed(name: str) -> bytes:
    data = LINES.encode() if "json" in name else b""
    if ".json" in name and "jsonl" not in name:
        data = json.dumps(ROWS).encode()
    if "csv" in name:
        lines = [f'"{row["prompt"]}";"{row["response"]}"\r\n' for row in ROWS]
        data = ("\ufeffprompt;response\r\n" + "".join(lines)).encode()
    if name.endswith(".gz"):
        return gzip.compress(data)
    return zstandard.ZstdCompressor().compress(data) if name.endswith(".zst") else data


@pytest.mark.parametrize("kind", ["jsonl", "json", "csv"])
@pytest.mark.parametrize("compression", ["", ".gz", ".zst"])
def test_every_kind_of_file_gives_the_same_rows(kind: str, compression: str) -> None:
    path = f"rows.{kind}{compression}"
    Path(path).write_bytes(packed(path))
    assert [row for _, row in read_rows(path)] == ROWS
    first = 2 if kind == "csv" else 1
    lines = [1] * 5 if kind == "json" else list(range(first, first + 5))
    assert [line for line, _ in read_rows(path)] == lines


def test_parquet_rows_are_numbered_and_their_nulls_left_out() -> None:
    table = [{"prompt": "a", "response": "b", "id": 3}, *ROWS]
    write_table("rows.parquet", table)
    rows = read_rows("rows.parquet")
    assert [row for _, row in rows] == table
    assert [line for line, _ in rows] == [1, 2, 3, 4, 5, 6]


def test_parquet_structs_lose_the_keys_that_arrow_added() -> None:
    call = {"role": "assistant", "tool_calls": [{"id": "1"}]}
    write_table("a.parquet", [{"messages": [{"role": "user", "content": "a"}, call]}])
    assert read_rows("a.parquet")[0][1]["messages"] == [{"role": "user", "content": "a"}, call]


@pytest.mark.parametrize("name", ["rows", "rows.txt", "rows.jsonl"])
def test_a_compressed_file_is_known_by_its_first_bytes(name: str) -> None:
    for compression in (".gz", ".zst"):
        Path(name).write_bytes(packed("a.jsonl" + compression))
        assert [row for _, row in read_rows(name)] == ROWS
    Path(name).unlink()
    write_table(name, ROWS)
    assert [row for _, row in read_rows(name)] == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_delimiters_and_quotes(delimiter: str) -> None:
    cells = [
        ["instruction", "input", "output"],
        ["a,b;c\td", "", 'say "x"\nand y'],
        ["e", "f", "g"],
    ]
    with Path("a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, delimiter=delimiter).writerows(cells)
    assert [dict(zip(cells[0], row, strict=True)) for row in cells[1:]] == [
        row for _, row in read_rows("a.csv")
    ]
    assert [line for line, _ in read_rows("a.csv")] == [2, 4]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("prompt,response\na,b\nc\n", "a.csv:3: has 1 cells; the header has 2. Quote a cell"),
        ("prompt,prompt\na,b\n", 'a.csv:1: the header has the column "prompt" twice'),
        ('prompt,response\na,"b\n', "a.csv:2: no CSV that can be read (unexpected end of data)"),
        ('prompt,response\na,"b"c\n', "a.csv:2: no CSV that can be read"),
        (b"prompt,response\na,b\nc,\xe9\n", "a.csv:3: byte 0xe9 is not UTF-8; save the file"),
        ("prompt,response\n", "a.csv: has no rows"),
        ("prompt:json,response\n{,b\n", 'a.csv:2: the column "prompt:json" holds text that is not'),
    ],
)
def test_bad_csv(content: str | bytes, expected: str) -> None:
    assert refused("a.csv", content).startswith(expected)


def test_a_folder_is_read_file_by_file() -> None:
    folder = Path("data/more")
    folder.mkdir(parents=True)
    for name in ("b.jsonl", "a.csv.gz", "more/c.json.zst", "README.md", ".hidden.jsonl"):
        Path("data", name).write_bytes(packed(name) or b"text")
    reading = examine("data")
    assert [file.path for file in reading.files] == [
        "data/a.csv.gz",
        "data/b.jsonl",
        "data/more/c.json.zst",
    ]
    assert (len(reading.conversations), reading.num_rows) == (15, 15)
    assert reading.conversations[0].source == "data/a.csv.gz:2"
    assert reading.passed_over == ("data/README.md",)
    assert reading.summary().splitlines()[-1] == "not data, passed over: data/README.md"


def test_a_folder_without_data_is_refused() -> None:
    Path("none").mkdir()
    with pytest.raises(DataError, match=r"^none: the folder holds no data file; expected names"):
        data_files(Path("none"))


@pytest.mark.parametrize("compression", [".gz", ".zst"])
@pytest.mark.parametrize("cut", [1, 20])
def test_a_compressed_file_cut_short_is_refused(compression: str, cut: int) -> None:
    data = packed("a.jsonl" + compression)[:-cut]
    message = refused("a.jsonl" + compression, data)
    assert message.startswith(f"a.jsonl{compression}: is no whole compressed file (")


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_a_compressed_file_that_is_none(compression: str) -> None:
    assert "is no whole compressed file" in refused("a.jsonl" + compression, LINES)


def test_a_parquet_file_that_is_none() -> None:
    assert refused("a.parquet", b"PAR1 no more").startswith("a.parquet: no Parquet file that can")
    assert refused("a.parquet.gz", gzip.compress(b"x")).endswith("unpack the file.")


@pytest.mark.parametrize("compression", [".gz", ".zst"])
def test_a_bomb_is_refused_and_the_limit_can_be_raised(compression: str) -> None:
    data = (b"\n" * 2**20) + LINES.encode()
    name = "bomb.jsonl" + compression
    packed_data = (
        gzip.compress(data) if compression == ".gz" else zstandard.ZstdCompressor().compress(data)
    )
    message = refused(name, packed_data, limits=Limits(max_file_bytes=2**20))
    assert message == (
        f"{name}: unpacks to more than 1,048,576 bytes; raise max_file_bytes if that is meant."
    )
    assert len(read_conversations(name)) == 5


def test_a_file_that_grows_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("biddable.data.files._NOTICED_BYTES", 2**20)
    data = gzip.compress(b"\n" * 2**22 + LINES.encode())
    assert "more than 200 times its size, as made-up files do; raise max_ratio" in refused(
        "a.jsonl.gz", data
    )
    assert (
        len(read_conversations("a.jsonl.gz", options=ReadOptions(limits=Limits(max_ratio=2000))))
        == 5
    )


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv"])
def test_a_row_that_is_too_long_is_refused_and_the_limit_can_be_raised(name: str) -> None:
    rows = [*ROWS, {"prompt": "long", "response": "x" * 3_000_000}]
    content = {
        "a.jsonl": "".join(json.dumps(row) + "\n" for row in rows),
        "a.json": json.dumps(rows, indent=0),
        "a.csv": "prompt,response\n" + "".join(f"{r['prompt']},{r['response']}\n" for r in rows),
    }[name]
    line = {"a.jsonl": 6, "a.json": 22, "a.csv": 7}[name]
    assert refused(name, content, limits=Limits(max_line_bytes=1_000_000)) == (
        f"{name}:{line}: a row is longer than 1,000,000 bytes; split it, or raise max_line_bytes."
    )
    assert len(read_conversations(name)) == 6


def test_a_parquet_file_over_the_limit_is_refused_before_it_is_read() -> None:
    write_table("a.parquet", ROWS * 1000)
    with pytest.raises(DataError, match=r"^a\.parquet: unpacks to [\d,]+ bytes, more than 1,000;"):
        read_conversations("a.parquet", options=ReadOptions(limits=Limits(max_file_bytes=1000)))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ('{"prompt": "a", "prompt": "b", "response": "c"}', 'the key "prompt" is given twice'),
        ('{"prompt": "a", "response": "c", "n": NaN}', "NaN is no JSON value; write null"),
        ('{"prompt": "a", "response": "c", "n": -Infinity}', "-Infinity is no JSON value"),
        ('{"prompt": "a", "response": "c", "n": 1e999}', "the number 1e999 is too large"),
        ('{"prompt": "a", "response": "c", "n": %s}' % ("9" * 5000), "a whole number has more"),
        ('{"prompt": "a", "response": "c", "n": %s}' % ("[" * 100_000), "nested too deeply"),
    ],
)
@pytest.mark.parametrize("is_array", [False, True])
def test_json_that_has_no_one_meaning(line: str, expected: str, is_array: bool) -> None:
    content = f"[{FIRST},\n{line}]" if is_array else f"{FIRST}\n{line}"
    message = refused("a.json", content)
    assert message.startswith("a.json:2: ")
    assert expected in message


def test_an_array_goes_on_after_a_row_that_has_no_one_meaning() -> None:
    Path("a.json").write_text('[{"a": 1, "a": 2},\n{"prompt": "a", "response": "b"}]')
    reading = examine("a.json")
    assert ([p.line for p in reading.problems], [c.line for c in reading.conversations]) == (
        [1],
        [2],
    )


def test_each_line_that_is_not_utf8_is_named() -> None:
    Path("a.jsonl").write_bytes(b'{"prompt": "\xe9"}\n' + LINES.encode() + b'{"prompt": "\xff"}\n')
    reading = examine("a.jsonl")
    assert [(p.code, p.line) for p in reading.problems] == [("not-utf8", 1), ("not-utf8", 7)]
    assert len(reading.conversations) == 5


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@pytest.mark.parametrize("encoding", ["UTF-16", "UTF-32"])
def test_a_file_that_says_it_is_other_unicode_is_told_how_to_be_utf8(
    name: str, encoding: str
) -> None:
    assert refused(name, LINES.encode(encoding)) == (
        f"{name}: is {encoding}, as its first bytes say; expected UTF-8. Save it as UTF-8:"
        f" iconv -f {encoding} -t UTF-8 OLD > NEW"
    )


def test_csv_under_another_name_is_recognised() -> None:
    told = "a.jsonl:1: looks like CSV: its first line is a header"
    assert refused("a.jsonl", "instruction,output\nHi?,Yes.\nHo?,No.\n").startswith(told)
    broken = refused("a.jsonl", "well, here they are\n" + LINES)  # only its first line is wrong
    assert "CSV" not in broken


def test_an_array_that_is_not_utf8_names_the_line() -> None:
    assert refused("a.json", b'[{"prompt": "a",\n"response": "\xe9"}]').startswith(
        "a.json:2: byte 0xe9 is not UTF-8"
    )


@pytest.mark.parametrize("indent", [None, 1])
def test_an_array_is_read_through_many_windows(
    indent: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the window's size, the rows, their lines and a later problem's column stay."""
    rows = [{"n": n, "text": "é\n" * (n % 7), "more": [True, None, -1.5e3]} for n in range(60)]
    text = json.dumps([*rows, 17, -2.25], indent=indent, ensure_ascii=False)
    Path("a.json").write_text(text, encoding="utf-8")
    Path("b.json").write_text(text[:-1] + " x]", encoding="utf-8")
    found = []
    for size in (1, 2, 3, 7, 64, 2**20):
        monkeypatch.setattr("biddable.data.json_rows._CHUNK", size)
        found.append(
            [list(iter_file(Path(name), limits=Limits())) for name in ("a.json", "b.json")]
        )
    assert all(other == found[0] for other in found)
    values = [entry.row for entry in found[0][0] if not isinstance(entry, Problem)]
    assert values == rows
    assert [entry.message for entry in found[0][0][60:]] == [
        "a number instead of a row; expected an object {...}."
    ] * 2


def test_reading_lazily_keeps_memory_flat() -> None:
    row = json.dumps({"prompt": "p" * 200, "response": "r" * 800}) + "\n"
    Path("a.jsonl").write_text(row * 10_000)
    Path("a.json").write_text("[" + row.strip() + ("," + row.strip()) * 9_999 + "]")
    for name in ("a.jsonl", "a.json"):
        tracemalloc.start()
        assert sum(1 for _ in iter_conversations(name)) == 10_000
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 9 * 2**20, name


def test_the_lazy_reader_raises_with_the_bad_rows_that_follow() -> None:
    Path("a.jsonl").write_text(LINES + '{"prompt": "a"}\n' + LINES + '{"prompt": "a"}\n')
    found = []
    with pytest.raises(DataError) as caught:
        found += iter_conversations("a.jsonl")
    assert caught.value.line == 6
    assert "So is 1 more row: line 12" in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["line.jsonl", "line.csv", "bomb.jsonl.gz", "bomb.json.zst"])
def test_a_line_of_a_gigabyte_is_refused_in_little_memory(name: str) -> None:
    path, size = Path(name), 2**30
    if name.startswith("line"):
        with path.open("wb") as file:
            file.truncate(size)
    else:
        packer = zstandard.ZstdCompressor() if name.endswith("zst") else None
        with packer.stream_writer(path.open("wb")) if packer else gzip.open(path, "wb") as file:
            file.write(b'[{"prompt": "' if "json." in name else b'{"prompt": "')
            for _ in range(size // 2**20):
                file.write(b" " * 2**20)
    tracemalloc.start()
    with pytest.raises(
        DataError, match="longer than 67,108,864 bytes; split it, or raise max_line"
    ):
        read_conversations(name)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 700 * 2**20


def test_a_pipe_is_refused() -> None:
    os.mkfifo("pipe")
    with pytest.raises(DataError, match=r"^pipe: is no regular file; write its rows to one first"):
        read_conversations("pipe")


def test_zstandard_is_asked_for_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    assert "pip install -c constraints.txt -e '.[zstd]'" in refused(
        "a.jsonl.zst", packed("a.jsonl.zst")
    )


def test_small_files_load_no_heavy_library(run_python: Callable[[str], str]) -> None:
    Path("a.jsonl").write_text(LINES, encoding="utf-8")
    code = (
        "import sys; from biddable import read_conversations; read_conversations('a.jsonl');"
        "print(sorted({'torch', 'datasets', 'pyarrow', 'zstandard', 'pandas'} & set(sys.modules)))"
    )
    assert run_python(code) == "[]"


@pytest.fixture
def run_python() -> Callable[[str], str]:
    source = Path(__file__).resolve().parents[2] / "src"

    def run(code: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONPATH": str(source)},
        )
        return ran.stdout.strip()

    return run
