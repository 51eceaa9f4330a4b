import errno
import json

import pytest
import torch
import yaml

from biddable import whole_folder
from biddable.errors import CheckpointError
from biddable.models.loading import load
from biddable.models.lora import apply_lora
from biddable.training import checkpoint
from biddable.training.checkpoint import RunRecord, save_run
from biddable.whole_folder import require_free
from tests.tiny import tiny_model, tiny_tokenizer

RECORD = RunRecord(
    config={"model": "mimic", "seed": 1},
    manifest={"base_model": "mimic", "template": {"name": "inst"}},
    log=[{"event": "step", "loss": 1.0}, {"event": "held_out", "loss": 2.0}],
)


def save(folder, model=None):
    model = model or tiny_model()
    return save_run(folder, model=model, tokenizer=tiny_tokenizer(), record=RECORD)


def test_a_run_folder_holds_all_and_loads(tmp_path):
    folder = save(tmp_path / "deep" / "run")
    loaded = load(str(folder))
    assert loaded.template == "inst"
    ids = torch.tensor([[1, 2]])
    torch.testing.assert_close(loaded.model(ids).logits, tiny_model()(ids).logits)
    assert yaml.safe_load((folder / "config.yaml").read_text()) == RECORD.config
    lines = (folder / "log.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == RECORD.log
    assert json.loads((folder / "manifest.json").read_text()) == RECORD.manifest
    assert [p.name for p in folder.parent.iterdir()] == ["run"]


@pytest.mark.parametrize("is_there", [True, False])
def test_an_adapter_run_names_its_base_so_that_it_is_found(tmp_path, monkeypatch, is_there):
    base = tmp_path / "base"
    if is_there:
        base.mkdir()
    model = tiny_model()
    apply_lora(model, rank=2)
    record = RunRecord({}, {"base_model": "base"}, [])
    save_run(tmp_path / "run", model=model, tokenizer=tiny_tokenizer(), record=record)
    config = json.loads((tmp_path / "run" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == (str(base) if is_there else "base")
    assert not (tmp_path / "run" / "model.safetensors").exists()


def test_an_empty_folder_is_free_and_is_replaced(tmp_path):
    (tmp_path / "run").mkdir()
    save(tmp_path / "run")
    assert (tmp_path / "run" / "model.safetensors").is_file()


def test_a_folder_that_holds_something_is_refused(tmp_path):
    save(tmp_path / "run")
    with pytest.raises(CheckpointError, match="already holds a run"):
        require_free(tmp_path / "run")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").touch()
    with pytest.raises(CheckpointError, match="already holds files"):
        save(tmp_path / "other")
    assert (tmp_path / "other" / "notes.txt").exists()


def test_places_that_cannot_be_are_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        require_free(tmp_path / "file")
    with pytest.raises(CheckpointError, match="cannot be made"):
        require_free(tmp_path / "file" / "run")


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), CheckpointError),
        (KeyboardInterrupt(), KeyboardInterrupt),
    ],
)
@pytest.mark.parametrize("moment", ["write_json", "_sync"])
def test_what_goes_wrong_leaves_nothing(tmp_path, monkeypatch, error, shown, moment):
    def fail(*args):
        raise error

    place = whole_folder if moment == "_sync" else checkpoint
    monkeypatch.setattr(place, moment, fail)
    with pytest.raises(shown):
        save(tmp_path / "run")
    assert list(tmp_path.glob("run*")) == []


def test_a_partial_folder_of_a_killed_run_is_replaced(tmp_path):
    (tmp_path / "run.partial").mkdir()
    (tmp_path / "run.partial" / "junk").touch()
    folder = save(tmp_path / "run")
    assert not (folder / "junk").exists()
    assert not (tmp_path / "run.partial").exists()
