import json
import time

import pytest
import torch

from biddable.errors import CheckpointError, ConfigError
from biddable.models import loading
from biddable.models.adapter import save_adapter
from biddable.models.loading import ModelSource, load, load_tokenizer, resolve
from biddable.models.lora import apply_lora, lora_layers
from tests.tiny import tiny_gpt2, tiny_model, tiny_tokenizer

IDS = torch.tensor([[1, 2, 3]])


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "model"
    tiny_model(seed=4).save_pretrained(path)
    tiny_tokenizer().save_pretrained(path)
    return path


def test_a_transformers_folder(folder):
    loaded = load(str(folder))
    torch.testing.assert_close(loaded.model(IDS).logits, tiny_model(seed=4)(IDS).logits)
    assert loaded.tokenizer.eos_token == "<|endoftext|>"
    assert (loaded.name, loaded.source) == (str(folder), str(folder))
    assert (loaded.template, loaded.manifest) == (None, None)
    assert not loaded.model.training


def test_half_precision_on_disk_becomes_what_is_asked(folder):
    tiny_model(seed=4, dtype=torch.float16).save_pretrained(folder)
    assert load(str(folder)).model.dtype == torch.float32
    assert load(str(folder), dtype=torch.bfloat16).model.dtype == torch.bfloat16


def test_a_run_folder_names_its_template(folder):
    manifest = {"template": {"name": "alpaca"}, "base_model": "mimic"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    loaded = load(str(folder))
    assert loaded.template == "alpaca"
    assert loaded.manifest == manifest


def test_a_tokenizers_own_template_is_known(folder):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ messages[0].content }}"
    tokenizer.save_pretrained(folder)
    assert load(str(folder)).template == "tokenizer"


def test_a_tokenizer_is_loaded_without_weights(folder, tmp_path, monkeypatch):
    model = tiny_model(seed=4)
    apply_lora(model, rank=2)
    adapter = tmp_path / "adapter"
    save_adapter(model, adapter, base_model=str(folder))
    monkeypatch.setattr(loading, "AutoModelForCausalLM", None)
    for name in (folder, adapter):  # the adapter has none of its own yet, so its base's is taken
        assert load_tokenizer(str(name)).eos_token == "<|endoftext|>"
    tokenizer = tiny_tokenizer(extra_special_tokens=("<|im_end|>",))
    tokenizer.save_pretrained(adapter)
    assert "<|im_end|>" in load_tokenizer(str(adapter)).get_vocab()
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        load_tokenizer(str(folder))


def test_an_adapter_folder_is_put_on_its_base_and_merged(folder, tmp_path):
    model = tiny_model(seed=4)
    apply_lora(model, rank=2, dropout=0.3)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B, std=0.2)
    save_adapter(model, tmp_path / "adapter", base_model=str(folder))
    loaded = load(str(tmp_path / "adapter"))
    assert not lora_layers(loaded.model)
    assert all(p.requires_grad for p in loaded.model.parameters())
    torch.testing.assert_close(loaded.model(IDS).logits, model(IDS).logits, atol=1e-4, rtol=1e-4)
    assert loaded.source == str(tmp_path / "adapter")


def test_where_names_lead(folder, tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    assert resolve(str(folder)).kind == "folder"
    assert resolve(str(tmp_path / "m.gguf")).kind == "gguf"
    assert resolve("org/name") == ModelSource("hub", "org/name")
    assert resolve("smollm2").kind == "smollm2"


def test_mimic_is_in_the_package(monkeypatch, folder):
    monkeypatch.setattr(loading, "_ASSETS", folder.parent)
    folder.rename(folder.parent / "mimic")
    assert load("mimic").name == "mimic"


@pytest.mark.parametrize("name", ["mimick", "./nowhere", "a/b/c", "/no/where"])
def test_a_name_that_leads_nowhere(name):
    with pytest.raises(ConfigError, match=r"neither a known name|there is no nowhere in") as caught:
        load(name)
    assert ('Did you mean "mimic"?' in str(caught.value)) == (name == "mimick")


def test_an_empty_folder(tmp_path):
    with pytest.raises(CheckpointError, match="no model in it"):
        load(str(tmp_path))


def test_an_unfinished_run(folder):
    partial = folder.rename(folder.with_name("run.partial"))
    with pytest.raises(CheckpointError, match="unfinished run"):
        load(str(partial))


def test_cut_weights(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be loaded as a causal language model"):
        load(str(folder))


def test_how_much_is_missing_is_told(folder):
    path = folder / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1234])
    with pytest.raises(CheckpointError, match=r"model.safetensors is cut off: 1,234 bytes are"):
        load(str(folder))
    path.write_bytes(whole[:20])
    with pytest.raises(CheckpointError, match=r"is cut off or damaged in its first bytes. Copy"):
        load(str(folder))


def test_a_cut_adapter_is_told(folder, tmp_path):
    model = load(str(folder)).model
    apply_lora(model, rank=2)
    save_adapter(model, tmp_path / "adapter", base_model=str(folder))
    path = tmp_path / "adapter" / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-7])
    with pytest.raises(CheckpointError, match=r"adapter_model.safetensors is cut off: 7 bytes"):
        load(str(tmp_path / "adapter"))


def test_a_folder_without_a_tokenizer_names_the_file(folder):
    (folder / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"it has no tokenizer.json; copy it from"):
        load(str(folder))


def test_an_empty_tokenizer_is_not_made_up_for_a_folder_without_one(tmp_path):
    tiny_gpt2().save_pretrained(tmp_path)  # its class makes one of no files, without a word
    with pytest.raises(CheckpointError, match=r"it has no tokenizer.json; copy it from"):
        load(str(tmp_path))


def test_missing_weights_are_no_reason_to_invent_them(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(CheckpointError, match="weights are missing"):
        load(str(folder))


def test_no_tokenizer(folder):
    for file in folder.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError):
        load(str(folder))


def test_a_broken_manifest(folder):
    (folder / "manifest.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"manifest\.json: cannot be read"):
        load(str(folder))


def test_an_adapter_that_is_its_own_base(tmp_path):
    model = tiny_model()
    apply_lora(model, rank=2)
    save_adapter(model, tmp_path / "a", base_model=str(tmp_path / "a"))
    with pytest.raises(CheckpointError, match="names no base model"):
        load(str(tmp_path / "a"))


def test_a_hub_that_is_not_there_is_one_quick_error(monkeypatch: pytest.MonkeyPatch, capfd) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    told = r"org/none: is no folder here.*127\.0\.0\.1:9 cannot be reached.*local folder.*smollm2"
    for find in (load, load_tokenizer):
        with pytest.raises(CheckpointError, match=told):
            find("org/none")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="HF_HUB_OFFLINE forbids"):
        load("org/none")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("lacks", [None, "model.safetensors", "tokenizer.json"])
def test_a_cached_model_needs_no_hub_and_what_it_lacks_is_not_asked_for_again_and_again(
    tmp_path, monkeypatch, lacks
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    cached = tmp_path / "models--org--some"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0123")
    tiny_model().save_pretrained(cached / "snapshots" / "0123")
    tiny_tokenizer().save_pretrained(cached / "snapshots" / "0123")
    start = time.monotonic()
    if lacks is None:
        assert load("org/some").source == "org/some"
    else:
        (cached / "snapshots" / "0123" / lacks).unlink()
        with pytest.raises(CheckpointError, match=r"org/some: .*127\.0\.0\.1:9 cannot be reached"):
            load("org/some")
    assert time.monotonic() - start < 10  # the hub's client goes on asking for 23 s
