"""An exported folder is the same model for programs that know nothing of us, or it is not there."""

from __future__ import annotations

import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM, AutoTokenizer

from biddable.errors import CheckpointError, ConfigError, ExportError
from biddable.models.loading import load
from biddable.models.lora import LoRAKind
from biddable.serving import export as export_module
from biddable.serving import folder_export
from biddable.serving.export import Exported, export
from biddable.serving.model_card import CardDetails
from tests.runs import write_adapter_run, write_base
from tests.tiny import END, tiny_gpt2, tiny_model, tiny_tokenizer

IDS = torch.tensor([[0, 5, 9, 200, 31, 7, 64, 12]])


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", tiny_model(), tiny_tokenizer())


@pytest.fixture
def run(tmp_path: Path, base: Path) -> Path:
    write_adapter_run(tmp_path / "run", base, tiny_model(), tiny_tokenizer())
    return tmp_path / "run"


KINDS = {
    "lora": {},
    "rslora": {"kind": LoRAKind(rslora=True)},
    "dora": {"kind": LoRAKind(dora=True)},
    "pissa": {"kind": LoRAKind(init="pissa")},
    "token rows": {"rows": (3, 5)},
}
BASES = {"linear": tiny_model, "tied": lambda: tiny_model(tie=True), "conv1d": tiny_gpt2}


@pytest.mark.parametrize("make", BASES.values(), ids=BASES)
@pytest.mark.parametrize("options", KINDS.values(), ids=KINDS)
def test_a_merged_folder_is_the_live_model(tmp_path: Path, make, options) -> None:
    base = write_base(tmp_path / "base", make(), tiny_tokenizer())
    live = write_adapter_run(tmp_path / "run", base, make(), tiny_tokenizer(), **options)
    found = export(str(tmp_path / "run"))
    assert found.folder == tmp_path / "run-merged"
    plain = AutoModelForCausalLM.from_pretrained(found.folder)
    with torch.no_grad():
        difference = (plain(IDS).logits - live.eval()(IDS).logits).abs().max()
        assert difference < 1e-5
        assert (plain(IDS).logits - make()(IDS).logits).abs().max() > 0.01
    assert folder_export.is_tied(plain) == folder_export.is_tied(make())
    assert found.checks["max_logit_difference"] <= folder_export.LOGITS_BOUND


def test_a_full_run_and_a_base_are_exported_too(tmp_path: Path, base: Path) -> None:
    found = export(str(base), out=tmp_path / "out")
    assert "no template is known" in found.notes[0]
    assert torch.equal(load(str(tmp_path / "out")).model(IDS).logits, tiny_model()(IDS).logits)
    assert load(str(tmp_path / "out")).template is None
    manifest = {"template": {"name": "alpaca"}, "base_model": "org/base", "method": "full"}
    (base / "manifest.json").write_text(json.dumps(manifest))
    found = export(str(base))
    again = load(str(found.folder))
    assert (again.template, again.tokenizer.chat_template is None) == ("alpaca", False)
    card = (found.folder / "README.md").read_text()
    assert yaml.safe_load(card.split("---\n")[1])["base_model"] == "org/base"


@pytest.mark.parametrize(("dtype", "bound"), [("bfloat16", 0.1), ("float16", 0.01)])
def test_a_smaller_type_is_written_and_its_cost_told(run: Path, dtype: str, bound: float) -> None:
    found = export(str(run), dtype=dtype)
    plain = AutoModelForCausalLM.from_pretrained(found.folder)
    assert plain.dtype == getattr(torch, dtype)
    assert 0 < found.checks["max_live_difference"] < bound
    assert found.checks["max_logit_difference"] == 0
    assert f"Weights: {dtype}." in (found.folder / "README.md").read_text()


def test_a_large_one_is_cut_into_files(run: Path) -> None:
    found = export(str(run), max_shard_size="100KB")
    assert "model.safetensors.index.json" in found.files
    assert len([name for name in found.files if name.endswith(".safetensors")]) > 2
    assert torch.equal(load(str(found.folder)).model(IDS).logits, load(str(run)).model(IDS).logits)


def test_stops_and_template_are_inside(run: Path) -> None:
    model = AutoModelForCausalLM.from_pretrained(export(str(run)).folder)
    assert model.generation_config.eos_token_id == 0
    special = ("<|im_start|>", "<|im_end|>")
    tokenizer = tiny_tokenizer(extra_special_tokens=special)
    place = run.parent
    base = write_base(place / "b", tiny_model(vocab_size=304), tokenizer)
    live = tiny_model(vocab_size=304)
    write_adapter_run(place / "chat", base, live, tokenizer, template="chatml")
    folder = export(str(place / "chat")).folder
    model = AutoModelForCausalLM.from_pretrained(folder)
    stops = AutoTokenizer.from_pretrained(folder).convert_tokens_to_ids(["<|im_end|>", END])
    assert model.generation_config.eos_token_id == stops


def test_what_is_shown_to_everybody_names_no_place_of_this_machine(run: Path) -> None:
    for form in ("merged", "adapter"):
        folder = export(str(run), form).folder
        for name in ("manifest.json", "README.md"):
            text = (folder / name).read_text()
            assert "/home/me" not in text
            assert str(run.parent) not in text
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["template"] == {"name": "inst"}
    assert manifest["data"] == {"train": {"num_rows": 12, "num_kept": 11}}
    assert manifest["base_model"] == "base"


def test_an_adapter_folder_names_a_base_that_peft_finds(run: Path, base: Path) -> None:
    found = export(str(run), "adapter")
    config = json.loads((found.folder / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(base.resolve())
    assert (found.folder / "chat_template.jinja").is_file()
    assert torch.equal(load(str(found.folder)).model(IDS).logits, load(str(run)).model(IDS).logits)


def test_the_base_of_a_quantised_run_is_said(tmp_path: Path, base: Path) -> None:
    method = {"quantize_base": "int4"}
    write_adapter_run(tmp_path / "q", base, tiny_model(), tiny_tokenizer(), method=method)
    found = export(str(tmp_path / "q"))
    assert "learned on the base in int4" in found.notes[0]


@pytest.mark.parametrize("form", ["merged", "adapter"])
@pytest.mark.filterwarnings("default")
def test_the_example_of_the_card_runs(run: Path, base: Path, capsys, form: str) -> None:
    folder = export(str(run), form).folder
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    code = code.replace("PATH", str(folder)).replace("BASE", str(base))
    exec(code.replace("max_new_tokens=256", "max_new_tokens=4"), {})
    assert capsys.readouterr().out.strip()


def test_the_card_has_the_figures_of_a_comparison(run: Path, tmp_path: Path) -> None:
    text = (export(str(run), out=tmp_path / "bare").folder / "README.md").read_text()
    assert "None was measured" in text
    compared = tmp_path / "compared"
    compared.mkdir()
    with pytest.raises(ExportError, match=r"--comparison .*compared: has no card.md"):
        export(str(run), card=CardDetails(comparison=compared))
    (compared / "comparison.json").write_text("{}")
    with pytest.raises(ExportError, match=r"holds a comparison but no card\.md"):
        export(str(run), card=CardDetails(comparison=compared))
    (compared / "card.md").write_text("## Results\n\nIt obeys.\n\n| a |\n")
    text = (
        export(str(run), card=CardDetails(comparison=compared)).folder / "README.md"
    ).read_text()
    assert "\n\n## Results\n\nIt obeys.\n\n| a |\n" in text
    assert text.count("## Results") == 1
    assert "None was measured" not in text
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["library_name"] == "transformers"
    assert metadata["tags"] == ["biddable", "sft", "lora"]
    assert "license" not in metadata
    assert "The base's licence is not known here" in text
    assert "nothing here says `base_model` (`--base-model`), `license` (`--license`)" in text
    assert "pypi.org" not in text


def test_the_licence_of_the_base_is_carried_over(run: Path, base: Path) -> None:
    (base / "README.md").write_text("---\nlicense: mit\nlanguage: [en]\n---\n# b\n")
    text = (export(str(run)).folder / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["license"], metadata["language"]) == ("mit", ["en"])
    assert "Licence: `mit`, that of the base" in text
    assert "nothing here says `base_model` (`--base-model`). " in text


def test_licence_and_language_of_a_base_that_is_named_are_read_on_the_hub(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hub(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None: ...

        def do_GET(self) -> None:
            self.send_response(200 if self.path == "/org/base/raw/main/README.md" else 404)
            self.end_headers()
            self.wfile.write(b"---\nlicense: mit\nlanguage: [en]\n---\n# b\n")

        do_HEAD = do_GET

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        threading.Thread(target=server.serve_forever).start()
        monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_address[1]}")
        told = export(str(run), out="nothing").notes[-1]
        assert told.endswith("license and language are read from that model's card on the hub")
        found = export(str(run), card=CardDetails(base_model="org/base"), out="named")
        other = export(str(run), card=CardDetails(base_model="org/other"), out="other")
        server.shutdown()
    metadata = yaml.safe_load((found.folder / "README.md").read_text().split("---\n")[1])
    assert (metadata["license"], metadata["language"]) == ("mit", ["en"])
    assert not any("the card cannot say" in note for note in found.notes)
    assert "the card cannot say license, language" in other.notes[-1]


def test_what_the_user_gives_fills_the_card(run: Path) -> None:
    card = CardDetails(base_model="org/base", license="apache-2.0", language=("en", "de"))
    found = export(str(run), "adapter", card=card)
    assert not any("the card cannot say" in note for note in found.notes)
    text = (found.folder / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert (metadata["base_model"], metadata["base_model_relation"]) == ("org/base", "adapter")
    assert (metadata["license"], metadata["language"]) == ("apache-2.0", ["en", "de"])
    assert "Before this is published" not in text
    assert "resize_token_embeddings" not in text  # the base has as many rows
    assert "BASE the base, org/base." in text
    assert f"(as `{END}`)" in text


def test_the_card_names_the_files_and_the_hub(tmp_path: Path, base: Path) -> None:
    cached = "/home/me/.cache/huggingface/hub/models--org--the--base/snapshots/0a1b"
    file = {"file": "/home/me/parts/train.jsonl", "num_rows": 98, "sha256": "16ab"}
    data = {"train": {"files": [file], "num_rows": 98}}
    sources = ["parts/train.jsonl", "org/rows:train", {"path": "org/more/en:train"}]
    manifest = {"base_model": cached, "method": "full", "data": data}
    (base / "manifest.json").write_text(
        json.dumps({**manifest, "config": {"data": {"train": sources}}})
    )
    text = (export(str(base), out=tmp_path / "out").folder / "README.md").read_text()
    metadata = yaml.safe_load(text.split("---\n")[1])
    assert metadata["base_model"] == "org/the--base"
    assert metadata["datasets"] == ["org/rows", "org/more"]
    assert "- train: `train.jsonl`, 98 rows, SHA-256 `16ab`" in text


BAD = [
    ({"dtype": "bf16"}, ExportError, 'found "bf16"; --to merged takes float32, bfloat16, float16'),
    ({"to": "gguf", "dtype": "q4_K"}, ExportError, r'found "q4_K"; .*Did you mean "q4_'),
    ({"to": "gptq"}, ExportError, '--to: found "gptq"; allowed: merged, gguf, adapter'),
    ({"to": "adapter", "dtype": "float16"}, ExportError, "an adapter is written as it was trained"),
]


@pytest.mark.parametrize(("options", "error", "match"), BAD)
def test_bad_options_are_told_at_once(run: Path, options, error, match) -> None:
    with pytest.raises(error, match=match):
        export(str(run), **options)
    assert not list(run.parent.glob("run-*"))


def test_what_cannot_be_exported_is_told(run: Path, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"has no adapter.*--to merged or --to gguf"):
        export(str(base), "adapter")
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    with pytest.raises(ExportError, match="is a GGUF file, whose weights may have lost bits"):
        export(str(tmp_path / "x.gguf"))
    with pytest.raises(ConfigError, match="is neither a known name"):
        export("nothing/is/here")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(CheckpointError, match="already holds files"):
        export(str(run), out=tmp_path / "taken")


def test_a_folder_that_is_not_the_same_is_not_left(run: Path, monkeypatch) -> None:
    """Break each thing that is checked; nothing with the final name, or beside it, stays."""

    def shaken(folder: Path, loaded, **options) -> None:
        real(folder, loaded, **options)
        other = AutoModelForCausalLM.from_pretrained(folder)
        other.get_output_embeddings().weight.data[5] += 1e-3
        other.save_pretrained(folder)

    def other_template(folder: Path, loaded, **options) -> None:
        real(folder, loaded, **options)
        source = (folder / "chat_template.jinja").read_text()
        (folder / "chat_template.jinja").write_text(source.replace("[/INST]", "[/INST] "))

    real = export_module.write_merged
    for broken, match in ((shaken, "its logits are .* off"), (other_template, "makes other ids")):
        monkeypatch.setattr(export_module, "write_merged", broken)
        with pytest.raises(ExportError, match=match):
            export(str(run))
        assert not list(run.parent.glob("run-*"))


@pytest.mark.parametrize(("num_same", "told"), [(2, "come of rounded weights"), (3, "")])
def test_answers_that_differ_are_explained(num_same: int, told: str) -> None:
    counts = {"num_same_answers": num_same, "num_probes": 3}
    starts = {"same_start": [7, 0, 9][:3], "num_tokens": [7, 9, 9]}
    found = Exported(Path("a"), (), "", {"checked": True, **counts, **starts})
    assert (len(found.told()) == 2) == bool(told)
    assert told in found.told()[-1]
