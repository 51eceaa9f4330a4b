"""A run folder is what preference tuning starts from: it loads in TRL's DPO trainer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from biddable.config import parse_config
from biddable.models.loading import load
from biddable.training.finetune import run_training
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # the warnings of other libraries are theirs to settle
]
datasets = pytest.importorskip("datasets")
peft = pytest.importorskip("peft")
trl = pytest.importorskip("trl")

CHATML = ["<|im_start|>", "<|im_end|>"]
PAIRS = [{"prompt": "Say uno", "chosen": " uno", "rejected": " dos"}] * 4


def run_of(folder: Path, method: object, template: str = "inst") -> Path:
    tiny_model().save_pretrained(folder / "base")
    tiny_tokenizer().save_pretrained(folder / "base")
    rows = [{"instruction": f"Say {word}", "response": word} for word in ("hola", "uno")]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    values = {
        "model": str(folder / "base"),
        "data": str(folder / "rows.jsonl"),
        "output": str(folder / "run"),
        "template": template,
        "method": method,
        "training": {"epochs": 1},
    }
    return run_training(parse_config(values))


def hashes(folder: Path) -> dict[str, str]:
    return {f.name: hashlib.sha256(f.read_bytes()).hexdigest() for f in folder.iterdir()}


def one_step(model: object, folder: Path) -> tuple[object, float]:
    """Train one step of DPO; give the trainer's model and its loss."""
    settings = trl.DPOConfig(
        output_dir=str(folder.parent / "dpo"),
        max_steps=1,
        per_device_train_batch_size=2,
        report_to=[],
        save_strategy="no",
        use_cpu=True,
        bf16=False,
        disable_tqdm=True,
    )
    trainer = trl.DPOTrainer(
        model=model,
        args=settings,
        train_dataset=datasets.Dataset.from_list(PAIRS),
        processing_class=AutoTokenizer.from_pretrained(folder),
    )
    return trainer.model, trainer.train().training_loss


@pytest.mark.parametrize("method", ["full", "freeze"])
def test_a_folder_of_weights_by_its_path(tmp_path, method):
    folder = run_of(tmp_path, method)
    before = hashes(folder)
    model, loss = one_step(str(folder), folder)
    assert loss == pytest.approx(0.6931, abs=1e-3)  # ln 2: the model is its own reference
    assert all(p.requires_grad for p in model.parameters())
    assert hashes(folder) == before


@pytest.mark.parametrize("kind", [{}, {"dora": True}, {"init": "pissa"}])
def test_an_adapter_goes_on_being_trained(tmp_path, kind):
    folder = run_of(tmp_path, {"name": "lora", "rank": 4, **kind})
    before = hashes(folder)
    adapted = peft.AutoPeftModelForCausalLM.from_pretrained(folder, is_trainable=True)
    model, loss = one_step(adapted, folder)
    assert loss == pytest.approx(0.6931, abs=1e-3)
    assert sum(p.requires_grad for p in model.parameters()) == (42 if "dora" in kind else 28)
    assert hashes(folder) == before


def test_an_adapter_with_trained_rows_goes_merged(tmp_path):
    """TRL reads the head's weight past PEFT's wrapper, so that rows must be in it."""
    folder = run_of(tmp_path, {"name": "lora", "new_tokens": CHATML}, "chatml")
    before = hashes(folder)
    loaded = load(str(folder))
    assert len(loaded.model.get_input_embeddings().weight) == len(loaded.tokenizer) == 302
    for part in (loaded.model, loaded.tokenizer):
        part.save_pretrained(tmp_path / "merged")
    _, loss = one_step(str(tmp_path / "merged"), folder)
    assert loss == pytest.approx(0.6931, abs=1e-3)
    assert hashes(folder) == before


def test_peft_makes_room_for_new_rows_by_itself(tmp_path):
    folder = run_of(tmp_path, {"name": "lora", "new_tokens": CHATML}, "chatml")
    theirs = peft.AutoPeftModelForCausalLM.from_pretrained(folder).eval()
    ours = load(str(folder))
    ids = ours.tokenizer("<|im_start|>user\nSay uno<|im_end|>", return_tensors="pt").input_ids
    expected = ours.model(ids).logits
    assert float((theirs(ids).logits - expected).detach().abs().max()) < 1e-4
