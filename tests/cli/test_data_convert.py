"""The verb that writes rows in another format."""

from __future__ import annotations

import json
from pathlib import Path

from biddable.data.readers import read_rows
from tests.cli.conftest import Cli


def test_convert_says_what_it_recognised_and_wrote(cli: Cli, rows: Path) -> None:
    ran = cli("data", "convert", rows, "out.parquet", "--to", "messages")
    assert (ran.code, ran.out) == (0, "out.parquet: 12 rows written as messages\n")
    assert ran.err == (
        "biddable: rows.jsonl: 12 rows, recognised as instruction-response (12 of 12)\n"
    )
    ran = cli("data", "convert", "out.parquet", "back.jsonl.gz", "--to", "instruction-response")
    assert ran.code == 0
    assert [row for _, row in read_rows("back.jsonl.gz")] == [row for _, row in read_rows(rows)]


def test_convert_as_json(cli: Cli, rows: Path) -> None:
    ran = cli("data", "convert", rows, "out.jsonl", "--json")
    found = json.loads(ran.out)
    assert (ran.err, found["target"], found["format"], found["num_rows"]) == (
        "",
        "out.jsonl",
        "messages",
        12,
    )
    assert found["files"][0]["format"] == "instruction-response"


def test_convert_the_builtin_rows(cli: Cli) -> None:
    assert cli("data", "convert", "mimic", "out.csv", "--to", "alpaca").code == 0


def test_convert_maps_roles_and_takes_a_format(cli: Cli) -> None:
    row = {
        "messages": [{"role": "me", "content": "a"}, {"role": "bot", "content": "b"}],
        "text": "c",
    }
    Path("a.jsonl").write_text(json.dumps(row) + "\n")
    ran = cli(
        "data", "convert", "a.jsonl", "b.jsonl", "--role", "me=user", "--role", "bot=assistant"
    )
    assert ran.code == 0
    ((_, found),) = read_rows("b.jsonl")
    assert [message["role"] for message in found["messages"]] == ["user", "assistant"]
    ran = cli("data", "convert", "a.jsonl", "c.jsonl", "--from", "alpaca")
    assert (ran.code, ran.err.startswith("biddable: a.jsonl:1: has keys ")) == (1, True)


def test_convert_refuses_what_it_cannot_do(cli: Cli, rows: Path) -> None:
    ran = cli("data", "convert", rows, rows)
    expected = "rows.jsonl: is there already; choose another name, or add --replace.\n"
    assert (ran.code, ran.err) == (1, f"biddable: {expected}")
    ran = cli("data", "convert", rows, "a.jsonl", "--role", "bot")
    assert ran.err.startswith("biddable: --role bot: write it as bot=ROLE, of system, user,")
    ran = cli("data", "convert", rows, "a.jsonl", "--to", "text")
    assert ran.err.startswith("biddable: rows.jsonl:1: cannot be written as text: it has turns")
    assert not Path("a.jsonl").exists()
    Path("old.jsonl").write_text("x")
    assert cli("data", "convert", rows, "old.jsonl", "--to", "alpaca", "--replace").code == 0
    assert read_rows("old.jsonl")[0][1] == {
        "instruction": "Say 0.",
        "input": "",
        "output": "0 it is.",
    }


def test_convert_never_writes_over_what_it_reads(cli: Cli, rows: Path) -> None:
    before = rows.read_bytes()
    Path("link.jsonl").symlink_to(rows)
    Path("folder").mkdir()
    Path("folder", "a.jsonl").write_bytes(before)
    for source, target in ((rows, rows), (rows, "link.jsonl"), ("folder", "folder/a.jsonl")):
        ran = cli("data", "convert", source, target, "--replace")
        expected = f"{target}: is what is read; choose another name for what is written."
        assert (ran.code, ran.err) == (1, f"biddable: {expected}\n")
    assert rows.read_bytes() == before
