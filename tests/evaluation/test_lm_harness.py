"""A task of lm-evaluation-harness runs on our models from a local file, offline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from biddable.errors import EvaluationError
from biddable.models.loading import LoadedModel
from tests.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("lm_eval")
from biddable.evaluation.lm_harness import harness_scores, harness_table

# the harness and what it brings warn of their own affairs
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.slow]

TASK = """
task: tiny_capitals
dataset_path: json
dataset_kwargs:
  data_files:
    test: {file}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_choice: ["Paris", "Lima"]
doc_to_target: "{{{{answer}}}}"
metric_list:
  - metric: acc
"""


@pytest.fixture
def task(tmp_path: Path) -> Path:
    rows = [{"question": f"Say {n}:", "answer": n % 2} for n in range(4)]
    file = tmp_path / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    path = tmp_path / "tiny_capitals.yaml"
    path.write_text(TASK.format(file=file))
    return path


def test_a_local_task_is_run(task: Path, capfd: pytest.CaptureFixture[str]) -> None:
    loaded = LoadedModel(tiny_model(), tiny_tokenizer(), name="tiny", source="tiny")
    found = harness_scores(loaded, [str(task)])
    (accuracy,) = (v for k, v in found["results"]["tiny_capitals"].items() if k == "acc,none")
    assert accuracy in (0.0, 0.25, 0.5, 0.75, 1.0)
    assert found["chat_template"] is False
    assert "fatal" not in capfd.readouterr().err  # git, asked in a folder without a repository
    table = harness_table(found)
    assert table.row_count == 1
    error = found["results"]["tiny_capitals"]["acc_stderr,none"]
    (interval,) = table.columns[-1].cells
    assert interval == f"{accuracy - 1.96 * error:.4f} to {accuracy + 1.96 * error:.4f}"
    with pytest.raises(EvaluationError, match='no task "no_such_task" in lm-eval'):
        harness_scores(loaded, ["no_such_task"])


def test_files_that_are_no_task_are_named(tmp_path: Path) -> None:
    loaded = LoadedModel(tiny_model(), tiny_tokenizer(), name="tiny", source="tiny")
    path = tmp_path / "a.yaml"
    with pytest.raises(EvaluationError, match=r"a.yaml: No such file"):
        harness_scores(loaded, [str(path)])
    path.write_text("tusk: x\n")
    with pytest.raises(EvaluationError, match='lacks "task"'):
        harness_scores(loaded, [str(path)])
