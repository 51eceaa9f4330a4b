"""Judge made files of the form in which others published the outputs of two models."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.published import FILES, WrongFileError, compare, main, measure

TASKS = [f"Name a town in {place}.\nOutput:" for place in ("Chad", "Peru", "Iran", "Oman")]
GOES_ON = "\n\nName a town in Mali.\nOutput:\n\nName a town in Laos.\nOutput:"


def _write(folder: Path, side: str, responses: list[str], prompts: list[str] = TASKS) -> None:
    rows = [
        {"prompt": one, "instruction": one, "input": "", "response": response, "target": ""}
        for one, response in zip(prompts, responses, strict=True)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / FILES[side]).write_text(text, encoding="utf-8")


def test_both_models_are_counted_and_compared(tmp_path: Path) -> None:
    late = " Sarh." + " It is a town in the south." + " " * 500 + GOES_ON
    _write(tmp_path, "base", [GOES_ON, GOES_ON, "Bam." + GOES_ON, late])
    _write(tmp_path, "instruct", [" Sarh.", GOES_ON, "", " Sur."])
    found = measure(tmp_path, 500)
    shares = {
        side: {name: part["rate"] * 4 for name, part in found[side].items()} for side in FILES
    }
    assert shares["base"] == {
        "mimicry": 2, "run_on": 1, "goes_on": 3, "repetition": 0, "empty": 0, "refusal": 0,
    }  # fmt: skip
    assert shares["instruct"]["mimicry"] == shares["instruct"]["empty"] == 1
    assert found["base_to_instruct"]["goes_on"]["ratio"] == pytest.approx(3)
    assert found["base_to_instruct"]["run_on"]["ratio"] is None
    assert found["base_to_instruct"]["refusal"] is None
    assert measure(tmp_path, 5000)["base"]["run_on"]["rate"] == 0.5


def test_bounds_of_the_ratio_hold_it() -> None:
    found = compare(30, 2)
    assert found is not None
    low, high = found["ci95"]
    assert found["ratio"] == pytest.approx(15)
    assert 1 < low < 15 < high
    assert compare(10, 0) == {"ratio": None, "ci95": [pytest.approx(2.603, abs=0.01), None]}


@pytest.mark.parametrize("fault", ["missing", "broken", "other prompts"])
def test_what_is_wrong_with_the_files_is_said(tmp_path: Path, fault: str) -> None:
    _write(tmp_path, "base", [GOES_ON] * 4)
    if fault == "broken":
        (tmp_path / FILES["instruct"]).write_text('{"prompt": "a"}\n', encoding="utf-8")
    if fault == "other prompts":
        _write(tmp_path, "instruct", [""], ["Name a town."])
    said = {"missing": "is not there", "broken": "line 1", "other prompts": "same prompts"}[fault]
    with pytest.raises(WrongFileError, match=said):
        measure(tmp_path, 500)


def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["published.py", str(tmp_path), "--cut", "300"])
    with pytest.raises(SystemExit, match=r"^error: .* is not there"):
        main()
    _write(tmp_path, "base", [GOES_ON] * 4)
    _write(tmp_path, "instruct", [" Sarh."] * 4)
    main()
    assert json.loads(capsys.readouterr().out)["base"]["mimicry"]["rate"] == 1
