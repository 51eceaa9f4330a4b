"""The preview: learned text is marked with and without colour, and a page holds no row's HTML."""

from __future__ import annotations

import io
from html.parser import HTMLParser

import pytest
from rich.console import Console
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from biddable.data.conversation import Conversation
from biddable.data.encoding import Example, encode_all
from biddable.data.preview import SPELLED, find_rows, pieces, preview, preview_page
from biddable.data.templates import get_template
from tests.jinja_tokenizer import tokenizer_for
from tests.masks import assistant, user
from tests.odd_templates import WORKING
from tests.tiny import END, tiny_tokenizer


def encoded(conversations: list[Conversation]):
    tokenizer = tiny_tokenizer()
    template = get_template("inst", tokenizer)
    return *encode_all(conversations, template, tokenizer, max_seq_len=None), tokenizer


def show(
    conversations: list[Conversation], *, limit: int, colour: bool = False, borders: bool = False
) -> str:
    examples, report, tokenizer = encoded(conversations)
    out = io.StringIO()
    system = "standard" if colour else None
    console = Console(file=out, width=120, color_system=system, force_terminal=colour)
    console.print(preview(examples, report, tokenizer, limit=limit, borders=borders))
    return out.getvalue()


ROWS = [
    Conversation((user(f"say {word} [b]é"), assistant(f"{word}é")), "t.jsonl", line)
    for line, word in enumerate(["uno", "dos", "tres"], start=1)
]


def test_learned_text_is_in_brackets_and_rows_are_named() -> None:
    text = show(ROWS, limit=2)
    assert f"{END}[INST] say uno [b]é [/INST]⟦ unoé{END}⟧" in text
    assert "t.jsonl:2" in text
    assert "tres" not in text
    assert "2 of 3 rows shown. All: 3 of 3 rows kept" in text
    assert "learned (" in text


def test_learned_text_is_coloured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR")
    text = show(ROWS, limit=1, colour=True)
    assert "\x1b[1;4;32m⟦ uno" in text


def test_rows_that_teach_nothing_are_named() -> None:
    silent = Conversation((user("a"), assistant("b", learn=False)), "t.jsonl", 9)
    assert "t.jsonl:9: nothing in it is learned." in show([*ROWS, silent], limit=1)


def test_borders_stand_between_tokens_and_not_in_a_character() -> None:
    text = show(
        [Conversation((user("日本 🎉"), assistant("né")), "t.jsonl", 1)], limit=1, borders=True
    )
    assert "日│本│" in text
    assert "│🎉│" in text
    assert f"│é│{END}⟧" in text
    assert "\ufffd" not in text


@pytest.mark.parametrize("text", ["plain", "é日本🎉👩‍👩‍👧", "a\n\n b\t ", "\ufffd", "e\u0301"])
def test_pieces_read_as_the_whole_and_hold_every_id(text: str) -> None:
    (example,), _, tokenizer = encoded([Conversation((user(text), assistant(text)), "t", 1)])
    found = pieces(example, tokenizer)
    assert "".join(piece.text for piece in found) == tokenizer.decode(example.input_ids)
    assert [token_id for piece in found for token_id in piece.ids] == example.input_ids
    assert [p.learned for p in found for _ in p.ids] == example.loss_mask
    assert [piece.text for piece in found if piece.special] == [END, END]


def test_a_tokenizer_that_drops_the_first_space_keeps_the_others() -> None:
    letters = {token: number for number, token in enumerate(["</s>", "▁", "a", "b"])}
    core = Tokenizer(models.BPE(vocab=letters, merges=[]))
    core.decoder = decoders.Metaspace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="</s>")
    example = Example([1, 2, 1, 1, 3, 0], [False, False, False, True, True, True])
    texts = [piece.text for piece in pieces(example, tokenizer)]
    assert texts == ["", "a", " ", " ", "b", "</s>"]
    assert "".join(texts) == tokenizer.decode(example.input_ids)


def test_rows_are_found_by_text_and_place() -> None:
    examples, _, tokenizer = encoded(ROWS)
    sources = [row.source for row in find_rows(examples, tokenizer, search="SAY", start=2)]
    assert sources == ["t.jsonl:2", "t.jsonl:3"]
    assert find_rows(examples, tokenizer, search="tres")[0].source == "t.jsonl:3"
    assert find_rows(examples, tokenizer, search="quatro") == []
    assert find_rows(examples, tokenizer, start=9) == []


class _Page(HTMLParser):
    """Collect the elements of a page, and the texts of its rows."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[str] = []
        self.learned: list[str] = []
        self._open: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "input", "img"):
            self._open.append(tag)
        if tag == "pre":
            self.rows.append("")
            self.learned.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "pre" in self._open:
            self.rows[-1] += data
        if "pre" in self._open and "mark" in self._open:
            self.learned[-1] += data


def page_of(conversations: list[Conversation], *, limit: int = 10, title: str = "rows") -> str:
    examples, report, tokenizer = encoded(conversations)
    return preview_page(examples, report, tokenizer, limit=limit, title=title)


def test_the_page_shows_every_token_and_marks_the_learned_ones() -> None:
    page = _Page(page_of(ROWS))
    assert page.rows[0].strip() == f"{END}[INST] say uno [b]é [/INST] unoé{END}"
    assert page.learned == [f" {word}é{END}" for word in ("uno", "dos", "tres")]
    titles = [attrs["title"] for tag, attrs in page.tags if tag == "span" and "title" in attrs]
    examples, _, _ = encoded(ROWS)
    ids = [token_id for example in examples for token_id in example.input_ids]
    assert " ".join(map(str, titles)) == " ".join(map(str, ids))
    specials = [attrs for _, attrs in page.tags if attrs.get("class") == "s" and "title" in attrs]
    assert len(specials) == 6


def test_what_a_row_holds_is_never_taken_for_html() -> None:
    evil = "</pre></script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&amp;"
    rows = [Conversation((user(evil), assistant(evil)), "<b>t.jsonl", 1)]
    text = page_of(rows, title=evil)
    page = _Page(text)
    assert page.rows[0].count(evil) == 2
    assert [tag for tag, _ in page.tags].count("script") == 1
    assert "img" not in [tag for tag, _ in page.tags]
    assert all(not name.startswith("on") for _, attrs in page.tags for name in attrs)
    assert "http" not in text.replace("<!doctype html>", "")


def test_a_page_with_a_limit_says_what_it_leaves_out() -> None:
    text = page_of(ROWS, limit=1)
    assert len(_Page(text).rows) == 1
    assert "2 more are not on this page" in text


def test_the_page_names_dropped_rows() -> None:
    silent = Conversation((user("a"), assistant("b", learn=False)), "<t>.jsonl", 9)
    text = page_of([*ROWS, silent])
    assert "1 row dropped" in text
    assert "&lt;t&gt;.jsonl:9: nothing in it is learned." in text


def test_a_row_that_becomes_several_shows_each() -> None:
    tokenizer = tokenizer_for(WORKING["thoughts lost"])
    template = get_template("tokenizer", tokenizer)
    row = Conversation((user("a"), assistant("b"), user("c"), assistant("d")), "t.jsonl", 1)
    console = Console(width=200, record=True, file=io.StringIO())
    examples, report = encode_all([row], template, tokenizer, max_seq_len=None)
    console.print(preview(examples, report, tokenizer, limit=5))
    shown = console.export_text()
    assert shown.count("t.jsonl:1") == 2
    assert "⟦<think>\n\n</think>\n\nb<|im_end|>⟧" in shown
    assert "2 examples in all" in shown
    assert "1 row became one for each answer" in shown


def test_text_that_spells_a_control_token_does_not_read_as_one() -> None:
    row = Conversation((user(f"say {END} now"), assistant("no")), "t.jsonl", 1)
    text = show([row], limit=1)
    assert f"{END}[INST] say {SPELLED}{END} now [/INST]⟦ no{END}⟧" in text
    assert f"After {SPELLED} stands text that only spells a control token." in text
    assert SPELLED not in show(ROWS, limit=3)
