"""Built-in pages are what they are said to be, and files of one's own are read or refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from biddable.data.builtin import create_instruction_dataset
from biddable.errors import DataError, EvaluationError
from biddable.evaluation.pages import Page, choose, read_pages


def test_english_pages_are_many_varied_and_of_a_page_each() -> None:
    pages = read_pages("english")
    assert len(pages) >= 30
    assert len({page.kind for page in pages}) >= 15
    assert {"encyclopaedic", "story", "news", "manual", "letter", "code", "dialogue", "poem"} <= {
        page.kind for page in pages
    }
    words = [len(page.text.split()) for page in pages]
    assert min(words) >= 150
    assert max(words) <= 400
    assert len({page.text for page in pages}) == len(pages)


@pytest.mark.parametrize("name", ["english", "mimic"])
def test_pages_answer_nothing(name: str) -> None:
    """No page has the marks of a question with its answer, or of a template."""
    marks = re.compile(
        r"^(Q|A|Question|Answer|User|Assistant|Human|Instruction)\s*:|\[INST\]|###", re.M
    )
    assert [page.text for page in read_pages(name) if marks.search(page.text)] == []


@pytest.mark.parametrize("name", ["english", "mimic"])
def test_no_page_is_in_the_instruction_data(name: str) -> None:
    rows = [
        row["response"]
        for data in ("mimic", "starter")
        for split in ("train", "held_out")
        for row in create_instruction_dataset(data, split)
    ]
    pages = {page.text for page in read_pages(name)}
    assert not pages & set(rows)
    long = {text for text in rows if len(text) > 200}
    assert not any(text in page for page in pages for text in long)


def test_plain_text_is_cut_at_empty_lines(tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    path.write_text("\n\n".join(["word " * 200] * 5), encoding="utf-8")
    pages = read_pages(path)
    assert [len(page.text) // 100 for page in pages] == [20, 20, 10]
    assert pages[0].kind == "text"


def test_a_text_without_empty_lines_is_cut_too(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_text("word " * 5_000)
    assert [len(page.text) for page in read_pages(path)] == [10_000, 10_000, 5_000]
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": "word " * 3_000, "kind": "code"}) + "\n")
    assert [page.kind for page in read_pages(rows)] == ["code", "code"]


def test_rows_of_text_are_read(tmp_path: Path) -> None:
    path = tmp_path / "pages.jsonl"
    path.write_text(json.dumps({"text": "a b", "kind": "poem"}) + "\n" + '{"text": "c"}\n')
    assert read_pages(path) == [Page("a b", "poem"), Page("c")]


def test_bad_texts_are_told_of(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match=r'no such text.*Did you mean "english"'):
        read_pages("englsh")
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "fine"}\n{"instruction": "x", "output": "y"}\n')
    with pytest.raises(EvaluationError, match=r'rows\.jsonl:2: has no "text"; every row is'):
        read_pages(path)
    empty = tmp_path / "empty.txt"
    empty.write_text(" \n\n ")
    with pytest.raises(EvaluationError, match="holds no text"):
        read_pages(empty)
    binary = tmp_path / "b.txt"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(EvaluationError, match="cannot be read as UTF-8"):
        read_pages(binary)
    broken = tmp_path / "c.jsonl"
    broken.write_text("{")
    with pytest.raises(DataError):
        read_pages(broken)


def test_a_long_text_is_read_in_places_from_all_over() -> None:
    pages = [Page(str(n) * 100) for n in range(10)]
    assert [page.text[0] for page in choose(pages, max_chars=500)] == ["0", "2", "4", "6", "8"]
    assert choose(pages) == pages
    assert len(choose(pages, max_chars=1)) == 1
