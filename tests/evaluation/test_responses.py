"""Ready responses find their items, and what does not belong is refused by file and line."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from biddable.errors import EvaluationError
from biddable.evaluation.comparison import compare
from biddable.evaluation.finished import compare_finished
from biddable.evaluation.responses import ReadyResponses
from biddable.evaluation.scoring import score, score_table
from biddable.evaluation.terminal import percent
from tests.evaluation.items import contains

ITEMS = [
    {"instruction": "Capital of France?", "response": "Paris", "check": contains("Paris")},
    {"instruction": "Capital of Peru?", "response": "Lima", "check": contains("Lima")},
]


def write(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    return write(tmp_path / "items.jsonl", *ITEMS)


def judge(tmp_path: Path, suite: Path, *rows: Any) -> dict[str, Any]:
    source = ReadyResponses(write(tmp_path / "r.jsonl", *rows))
    return score(source, suite=suite, out=tmp_path / "out")


def test_order_is_free_and_what_is_not_known_is_null(tmp_path: Path, suite: Path) -> None:
    result = judge(
        tmp_path, suite,
        {"prompt": "Capital of Peru?", "response": "Quito."},
        {"prompt": " Capital of  France?\n", "response": "Paris."},
    )  # fmt: skip
    found = result["scores"]
    assert (result["n"], result["missing"], result["prompt_form"]) == (2, [], None)
    assert found["instruction_following"]["rate"] == 0.5
    assert (found["stopped"], found["answer_loss"]) == (None, None)
    assert result["decoding"]["method"] is None
    samples = [
        json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()
    ]
    assert [sample["output"] for sample in samples] == ["Paris.", "Quito."]
    assert json.loads((tmp_path / "out/scores.json").read_text()) == result


def test_ready_responses_are_compared_as_they_are_judged(tmp_path: Path, suite: Path) -> None:
    answers = {name: [{"prompt": row["instruction"], "response": name} for row in ITEMS]
               for name in ("Lima", "Paris")}  # fmt: skip
    files = [write(tmp_path / f"{name}.jsonl", *rows) for name, rows in answers.items()]
    found = compare(*map(str, files), suite=suite, forgetting_text=None)
    assert found["decoding"] == {
        "method": None, "temperature": None, "max_new_tokens": None, "run_code": False,
    }  # fmt: skip
    for file in files:
        score(ReadyResponses(file), suite=suite, out=tmp_path / file.stem)
    finished = compare_finished(tmp_path / "Lima", tmp_path / "Paris")
    for key in ("decoding", "paired", "rates_compared"):
        assert finished[key] == found[key], key
    strange = {"prompt": "Capital of Chad?", "response": "?"}
    files[1] = write(tmp_path / "more.jsonl", *answers["Paris"], strange)
    with pytest.raises(EvaluationError, match=r'more\.jsonl:3: no item of the suite asks "Cap'):
        compare(*map(str, files), suite=suite, forgetting_text=None)


def test_responses_to_fewer_items_are_refused_before_the_other_side_is_asked(
    tmp_path: Path, suite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lima = {"prompt": "Capital of Peru?", "response": "Lima."}
    few = str(write(tmp_path / "few.jsonl", lima))
    monkeypatch.setattr("biddable.evaluation.comparison.evaluate", None)
    told = rf"few\.jsonl: has no response to 1 item that another side .*{suite.name}:1; add it"
    for pair, also in (
        ((few, "mimic"), None),
        (("mimic", few), None),
        (("mimic", "mimic"), {"ready": few}),
        ((few, few), {"a model": "mimic"}),
    ):
        with pytest.raises(EvaluationError, match=told):
            compare(*pair, also=also, suite=suite, forgetting_text=None, cache=None)


def test_code_that_is_not_run_is_told_of_what_is_answered(tmp_path: Path) -> None:
    code = "def f(x):\n    return x"
    check = {"kind": "python", "reference": code, "tests": [["f(1)", "1"]]}
    items = [{"instruction": f"Write f{n}.", "response": code, "check": check} for n in range(3)]
    suite = write(tmp_path / "code.jsonl", *items)
    files = [
        str(write(tmp_path / f"{name}.jsonl", {"prompt": "Write f1.", "response": name}))
        for name in "ab"
    ]
    notes: list[str] = []
    found = compare(
        *files, suite=suite, forgetting_text=None,
        on_event=lambda event: notes.append(str(event.get("note", ""))),
    )  # fmt: skip
    assert found["n"] == 1
    assert "".join(notes).startswith("1 of 1 item asks for Python")


def test_a_finish_reason_tells_whether_it_stopped(tmp_path: Path, suite: Path) -> None:
    result = judge(
        tmp_path, suite,
        {"prompt": "Capital of France?", "response": "Paris.", "finish_reason": "length"},
        {"prompt": "Capital of Peru?", "response": "Lima.", "finish_reason": "stop"},
    )  # fmt: skip
    assert result["scores"]["stopped"]["rate"] == 0.5
    assert result["scores"]["answer_correct"]["rate"] == 1.0
    assert result["scores"]["instruction_following"]["rate"] == 0.5


def test_items_without_a_response_are_left_out_and_named(tmp_path: Path, suite: Path) -> None:
    result = judge(tmp_path, suite, {"prompt": "Capital of Peru?", "response": "Lima."})
    assert (result["n"], result["missing"]) == (1, [f"{suite}:1"])


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        (
            [{"prompt": "Capital of Frances?", "response": "a"}],
            'r.jsonl:1: no item of the suite asks "Capital of Frances?".'
            ' Did you mean "Capital of France?"?',
        ),
        (
            [{"prompt": "Capital of Peru?", "response": x} for x in "ab"],
            'r.jsonl:1: the prompt "Capital of Peru?" stands in 2 lines (1, 2)',
        ),
        ([{"prompt": "Capital of Peru?", "respons": "a"}], 'r.jsonl:1: lacks "response"'),
        (
            [{"prompt": "Capital of Peru?", "response": "a\ud83d"}],
            'r.jsonl:1: "response" has half of a surrogate pair',
        ),
        ([{"prompt": 3, "response": "a"}], "\"prompt\" is '3'; expected a text"),
        (
            [{"prompt": "Capital of Peru?", "response": "a", "finish_reason": "eos"}],
            'r.jsonl:1: "finish_reason" is "eos"; expected "stop" (it ended by itself)',
        ),
        (
            [{"prompt": "Capital of Peru?", "response": "a", "finish_reason": 1}],
            '"finish_reason" is 1',
        ),
    ],
)
def test_what_does_not_belong_is_refused(
    tmp_path: Path, suite: Path, rows: list[Any], problem: str
) -> None:
    with pytest.raises(EvaluationError) as found:
        judge(tmp_path, suite, *rows)
    assert problem in str(found.value)


def test_the_same_question_twice_takes_one_response_or_two(tmp_path: Path) -> None:
    suite = write(tmp_path / "twice.jsonl", ITEMS[0], ITEMS[0])
    one = {"prompt": "Capital of France?", "response": "Paris."}
    assert judge(tmp_path, suite, one)["scores"]["answer_correct"]["rate"] == 1.0
    two = judge(tmp_path, suite, one, one | {"response": "Lyon."})
    assert two["scores"]["answer_correct"]["rate"] == 0.5


def test_nothing_is_asked_of_what_is_ready(tmp_path: Path, suite: Path) -> None:
    source = ReadyResponses(write(tmp_path / "r.jsonl", {"prompt": "a", "response": "b"}))
    with pytest.raises(EvaluationError, match="leave --prompt-form out"):
        score(source, suite=suite, prompt_form="bare")


def test_second_turns_are_found_by_their_own_text(tmp_path: Path) -> None:
    suite = write(tmp_path / "q.jsonl", {"question_id": 1, "turns": ["Write.", "Shorter."]})
    source = ReadyResponses(
        write(
            tmp_path / "r.jsonl",
            {"prompt": "Shorter.", "response": "Hm."},
            {"prompt": "Write.", "response": "A long text."},
        )
    )
    result = score(source, suite=f"mt_bench:{suite}", out=tmp_path / "out")
    samples = [
        json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()
    ]
    assert [sample["output"] for sample in samples] == ["A long text.", "Hm."]
    assert result["missing"] == []


def test_copies_of_training_answers_are_counted_and_shown(tmp_path: Path, suite: Path) -> None:
    rows = [
        {"prompt": "Capital of France?", "response": "Paris!"},
        {"prompt": "Capital of Peru?", "response": "It is Quito."},
    ]
    trained = write(tmp_path / "train.jsonl", {"instruction": "Q", "output": "paris"})
    source = ReadyResponses(write(tmp_path / "r.jsonl", *rows))
    result = score(source, suite=suite, training_data=[trained])
    memory = result["memorisation"]
    assert memory["num_training_answers"] == 1
    assert memory["model"]["exact_copies"]["rate"] == 0.5
    assert memory["references"]["exact_copies"]["rate"] == 0.5
    shown = io.StringIO()
    Console(file=shown, width=80).print(score_table(result))
    assert "exact copies of training answers, %" in shown.getvalue()
    assert shown.getvalue().count(percent(memory["model"]["exact_copies"])) >= 2
    assert judge(tmp_path, suite, *rows)["memorisation"] is None


def test_the_path_of_a_suite_is_not_broken_by_a_narrow_table(tmp_path: Path) -> None:
    path = tmp_path / "a_suite_whose_name_is_wider_than_the_table_of_its_rates.jsonl"
    write(path, {"id": "1", "instruction": "Capital of France?", "response": "Paris"})
    ready = ReadyResponses(
        write(tmp_path / "r.jsonl", {"prompt": "Capital of France?", "response": "Paris"})
    )
    shown = io.StringIO()
    Console(file=shown, width=80 + len(str(path))).print(score_table(score(ready, suite=path)))
    assert str(path) in shown.getvalue()


def test_ifeval_is_judged_on_the_whole_response(tmp_path: Path) -> None:
    """A run-on would hide the comma from our own reading; the official program sees it."""
    pytest.importorskip("nltk")
    asked = {"instruction_id_list": ["punctuation:no_comma"], "kwargs": [{}]}
    prompts = ["Name a river.", "Name a sea."]
    rows = [{"key": n, "prompt": text} | asked for n, text in enumerate(prompts)]
    suite = write(tmp_path / "input_data.jsonl", *rows)
    answers = ("The Nile.\nName a lake, and a hill.", "The Baltic.")
    ready = [{"prompt": p, "response": r} for p, r in zip(prompts, answers, strict=True)]
    source = ReadyResponses(write(tmp_path / "r.jsonl", *ready))
    found = score(source, suite=f"ifeval:{suite}")["scores"]
    figures = ("prompt_strict", "prompt_loose", "instruction_strict", "instruction_loose")
    # loose also tries the response without its last line, where the comma stands
    assert [found[figure]["rate"] for figure in figures] == [0.5, 1.0, 0.5, 1.0]
