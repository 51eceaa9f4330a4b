"""Encoded rows kept between runs: the same ones, whoever makes them, and never damaged ones."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from biddable.data import cache, shards
from biddable.data.cache import cache_folder, cache_key, encode_rows, open_rows
from biddable.data.conversation import Conversation, Message
from biddable.data.encoded import EncodedRows
from biddable.data.encoding import Example, encode_all, encode_chunk
from biddable.data.templates import get_template
from biddable.errors import DataError, TemplateError
from tests.tiny import tiny_tokenizer

OPTIONS = {"max_seq_len": 40, "overflow": "drop", "learn": "answers"}
FILES = ["input_ids", "loss_mask", "offsets", "loss_tokens", "lines", "places", "index.json"]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch):
    monkeypatch.setattr(shards, "ROWS_PER_SHARD", 10)


def conversations(num=45, *, path="rows.jsonl"):
    """Make rows of many lengths; each seventh is too long."""
    for n in range(1, num + 1):
        answer = "word " * (n % 7) + "é" * (30 if n % 7 == 0 else 1)
        messages = (Message("user", f"Say {n}", input="x" * (n % 3)), Message("assistant", answer))
        yield Conversation(messages, path, n if path else None)


def encoded(rows=None, *, key="key", num_workers=1, options=OPTIONS, about=lambda: None):
    tokenizer = tiny_tokenizer()
    template = get_template("inst", tokenizer)
    encode = partial(encode_chunk, template=template, tokenizer=tokenizer, **options)
    rows = conversations() if rows is None else rows
    return encode_rows(rows, key, encode=encode, about=about, num_workers=num_workers)


def never():
    raise AssertionError("rows were read")
    yield


def of_encode_all(rows):
    tokenizer = tiny_tokenizer()
    return encode_all(list(rows), get_template("inst", tokenizer), tokenizer, **OPTIONS)


def content(key):
    return {name: (cache_folder() / key / name).read_bytes() for name in FILES}


@pytest.mark.parametrize("num", [1, 10, 11, 45])
def test_what_comes_back_is_what_encode_all_gives(num):
    examples, report = of_encode_all(conversations(num))
    made = encoded(conversations(num))
    kept = encoded(never())
    assert (made.was_kept, kept.was_kept) == (False, True)
    for found in (made, kept):
        assert list(found.rows) == examples
        assert found.report == report
        assert found.rows[-1] == examples[-1]
        assert found.rows[:3] == examples[:3]
        found.rows.forget()
        assert list(found.rows) == examples
        assert found.rows.sources[:2] == [example.source for example in examples[:2]]
    assert sorted(path.name for path in (cache_folder() / "key").iterdir()) == sorted(FILES)


def test_any_number_of_workers_makes_the_same_files():
    for num_workers in (1, 2, 3):
        encoded(key=f"by-{num_workers}", num_workers=num_workers)
    assert content("by-1") == content("by-2") == content("by-3")
    assert os.environ["TOKENIZERS_PARALLELISM"] == "false"  # as the tests have set it


def test_rows_from_no_file_are_numbered_through_all_shards():
    examples, report = of_encode_all(conversations(path=None))
    found = encoded(conversations(path=None))
    assert (list(found.rows), found.report) == (examples, report)
    assert found.rows.sources[-1] == "row 45"


@pytest.mark.parametrize(
    "source", ["a:007", "no number", "a:12 (answer 2)", "row 5", "a:" + "9" * 30, ""]
)
def test_sources_of_any_form_come_back(source):
    before, line, after = cache._split_source(source)
    found = cache._Sources(np.array([line]), np.array([0]), [[before, after]])
    assert list(found) == [source]


def test_what_is_kept_beside_the_rows_comes_back():
    told = []
    made = encoded(about=lambda: told.append("now") or {"files": ["a", None]})
    kept = encoded(never(), about=never)
    assert made.about == kept.about == {"files": ["a", None]}
    assert told == ["now"]


def test_no_rows_are_an_empty_entry():
    found = encoded([])
    assert (len(found.rows), found.report.num_rows, list(found.rows)) == (0, 0, [])
    assert encoded(never()).was_kept


def test_rows_that_are_all_dropped_leave_a_report():
    found = encoded(options=OPTIONS | {"max_seq_len": 2})
    assert (len(found.rows), len(found.report.dropped)) == (0, 45)
    with pytest.raises(DataError, match="no row is left to learn from"):
        found.report.require_kept()


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_a_damaged_entry_is_made_anew(name, damage):
    encoded()
    before = content("key")
    path = cache_folder() / "key" / name
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    if damage == "missing":
        path.unlink()
    else:
        path.write_bytes(data if damage == "changed" else data[:-1])
    if damage == "cut" and name == "index.json":
        path.write_bytes(data[:-9])  # its last sign is a line's end
    assert open_rows("key") is None
    assert not encoded().was_kept
    assert content("key") == before


@pytest.mark.parametrize("num_workers", [1, 2])
def test_an_error_names_the_first_rows_and_leaves_nothing(num_workers):
    rows = list(conversations())
    for n in (14, 33):
        rows[n] = Conversation((Message("tool", "x"), Message("assistant", "y")), "f", n)
    with pytest.raises(TemplateError, match=r'^f:14: .*role "tool"'):
        encoded(rows, num_workers=num_workers)
    assert [p.name for p in cache_folder().iterdir() if p.suffix != ".lock"] == []


@pytest.mark.parametrize("num_workers", [1, 2])
def test_a_row_that_cannot_be_read_comes_after_those_before_it(num_workers):
    def rows(bad):
        yield from conversations(25)
        if bad:
            yield Conversation((Message("tool", "x"), Message("assistant", "y")), "f", 26)
        yield from conversations(10)
        raise DataError("not JSON", path="f", line=36)

    with pytest.raises(DataError, match="f:36: not JSON"):
        encoded(rows(bad=False), num_workers=num_workers)
    with pytest.raises(TemplateError, match="f:26"):
        encoded(rows(bad=True), num_workers=num_workers)


def test_a_long_row_can_be_an_error():
    with pytest.raises(DataError, match=r"rows.jsonl:7: \d+ tokens; the limit is 40"):
        encoded(options=OPTIONS | {"overflow": "error"})


@pytest.mark.parametrize("num_workers", [1, 2])
def test_what_was_interrupted_goes_on(num_workers, monkeypatch):
    def interrupted():
        for n, conversation in enumerate(conversations()):
            if n == 35:
                raise KeyboardInterrupt
            yield conversation

    encoded(key="whole")
    with pytest.raises(KeyboardInterrupt):
        encoded(interrupted(), num_workers=num_workers)
    assert open_rows("key") is None
    partial = cache_folder() / "key.partial"
    there = sorted(partial.glob("*.npz"))
    assert there
    there[-1].write_bytes(there[-1].read_bytes()[:-40])  # a damaged shard is made again
    (partial / "000099.partial").write_bytes(b"rest")
    made = []
    write = shards._write_shard
    monkeypatch.setattr(shards, "_write_shard", lambda p, e: made.append(p.name) or write(p, e))
    encoded()
    assert len(made) == 5 - len(there) + 1
    assert content("key") == content("whole")
    assert not partial.exists()
    assert sorted(path.name for path in (cache_folder() / "key").iterdir()) == sorted(FILES)


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_process_leaves_no_half_entry_and_no_workers(by):
    reader, writer = os.pipe()

    def slow():
        for n, conversation in enumerate(conversations()):
            if n == 35:
                os.write(writer, b".")
                time.sleep(60)
            yield conversation

    process = multiprocessing.get_context("fork").Process(
        target=encoded, args=(slow(),), kwargs={"num_workers": 2}
    )
    process.start()
    os.close(writer)
    assert os.read(reader, 1) == b"."
    while not (cache_folder() / "key.partial" / "000000.npz").exists():
        time.sleep(0.02)
    os.kill(process.pid, by)
    assert os.read(reader, 1) == b""  # its workers hold the pipe too: the last of them has ended
    os.close(reader)
    process.join()
    assert process.exitcode not in (0, None)
    assert open_rows("key") is None
    assert not (cache_folder() / "key").exists()
    encoded(key="whole")
    encoded()
    assert content("key") == content("whole")


def test_a_worker_that_was_killed_is_said(monkeypatch):
    monkeypatch.setattr(shards, "_work", _end)
    with pytest.raises(DataError, match=r"ended from outside.* it goes on where it stopped"):
        encoded(num_workers=2)


def _end(*_: object) -> None:
    os._exit(9)


def test_two_that_start_together_make_an_entry_once():
    def slow():
        time.sleep(0.3)
        yield from conversations()

    with ThreadPoolExecutor(2) as pool:
        made = [pool.submit(encoded, slow()) for _ in range(2)]
    assert sorted(future.result().was_kept for future in made) == [False, True]


def test_a_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(DataError, match=r"file.*cannot be written.*XDG_CACHE_HOME.*data.cache"):
        encoded()


def test_the_folder_follows_the_environment(monkeypatch, tmp_path):
    assert cache_folder() == Path(os.environ["XDG_CACHE_HOME"]) / "biddable" / "encoded"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path.home() / ".cache" / "biddable" / "encoded"


def test_the_key_tells_apart_all_that_matters(monkeypatch):
    def key(sources=("hash",), template="inst", tokenizer=None, **options):
        tokenizer = tokenizer or tiny_tokenizer()
        form = get_template(template, tokenizer)
        return cache_key(sources, form, tokenizer=tokenizer, options=OPTIONS | options)

    other = tiny_tokenizer(extra_special_tokens=("<x>",))
    keys = [
        key(),
        key(sources=("other",)),
        key(template="alpaca"),
        key(tokenizer=other),
        key(learn="all"),
        key(max_seq_len=None),
    ]
    monkeypatch.setattr(cache, "_code_hash", lambda: "other code")
    keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == key()


def test_a_tokenizer_that_cannot_be_told_from_another_has_no_key():
    class Slow:
        backend_tokenizer = None

    template = get_template("inst", tiny_tokenizer())
    assert cache_key(["hash"], template, tokenizer=Slow(), options={}) is None


def test_flat_rows_are_a_sequence_of_examples():
    examples = [Example([1, 2], [True, True], "a"), Example([], []), Example([3], [False], "b")]
    rows = EncodedRows.of(examples)
    assert list(rows) == examples
    assert EncodedRows.of(rows) is rows
    assert rows.lengths.tolist() == [2, 0, 1]
    assert rows.loss_tokens.tolist() == [1, 0, 0]
    with pytest.raises(IndexError):
        rows[3]
    assert list(EncodedRows.of([])) == []
