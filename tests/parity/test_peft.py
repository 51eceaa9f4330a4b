"""Hold our adapters and their files against PEFT's, in both directions."""

import pytest
import torch

from biddable.models.lora import apply_lora, load_adapter, lora_layers, save_adapter
from tests.tiny import tiny_model

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # PEFT's own warnings are not ours to settle
]
peft = pytest.importorskip("peft")

IDS = torch.tensor([[1, 2, 3, 4, 5]])
TARGETS = ["all-linear", ["q_proj", "v_proj"], ["layers.1.mlp.up_proj"]]


@pytest.mark.parametrize("targets", TARGETS, ids=["all", "attention", "one layer"])
def test_peft_loads_what_we_save(tmp_path, targets):
    model = tiny_model()
    apply_lora(model, rank=4, alpha=6.0, target_modules=targets)
    for layer in lora_layers(model).values():
        torch.nn.init.normal_(layer.lora_B, std=0.2)
    save_adapter(model, tmp_path, base_model="base")
    theirs = peft.PeftModel.from_pretrained(tiny_model(), tmp_path)
    torch.testing.assert_close(theirs(IDS).logits, model(IDS).logits)
    adapted = [m for m in theirs.modules() if isinstance(m, peft.tuners.lora.LoraLayer)]
    assert len(adapted) == len(lora_layers(model))


@pytest.mark.parametrize("targets", TARGETS, ids=["all", "attention", "one layer"])
def test_we_load_what_peft_saves(tmp_path, targets):
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=targets,
        task_type="CAUSAL_LM",
        init_lora_weights=False,
    )
    theirs = peft.get_peft_model(tiny_model(), config)
    theirs.save_pretrained(tmp_path)
    model = tiny_model()
    names = load_adapter(model, tmp_path)
    assert "lm_head" not in names
    theirs.eval()
    torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits)
