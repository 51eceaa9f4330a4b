"""Hold our adapters and their files against PEFT's, in both directions."""

import pytest
import torch

from biddable.models.adapter import load_adapter, save_adapter
from biddable.models.lora import LoRAKind, apply_lora, lora_layers
from biddable.models.token_rows import token_rows, train_token_rows
from tests.tiny import tiny_gpt2, tiny_model

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


BASES = {
    "linear": tiny_model,
    "tied": lambda: tiny_model(tie=True),
    "conv1d": tiny_gpt2,
}
KINDS = {
    "plain": LoRAKind(),
    "rslora": LoRAKind(rslora=True),
    "dora": LoRAKind(dora=True),
    "pissa": LoRAKind(init="pissa"),
    "all": LoRAKind(rslora=True, dora=True, init="pissa"),
}
each_base = pytest.mark.parametrize("base", BASES.values(), ids=BASES)


def shaken(model):
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    return model


@each_base
@pytest.mark.parametrize("rows", [(), (3, 5)], ids=["layers", "rows too"])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_kind_goes_to_peft(tmp_path, base, kind, rows):
    model = base()
    apply_lora(model, rank=4, alpha=6.0, kind=kind)
    if rows:
        train_token_rows(model, rows)
    expected = shaken(model)(IDS).logits
    assert (expected - base()(IDS).logits).abs().max() > 0.01
    save_adapter(model, tmp_path, base_model="base")
    theirs = peft.PeftModel.from_pretrained(base(), tmp_path)
    torch.testing.assert_close(theirs(IDS).logits, expected, rtol=1e-4, atol=1e-5)


@each_base
@pytest.mark.parametrize("rows", ["none", "embeddings", "both"])
@pytest.mark.parametrize(
    "options",
    [{}, {"use_rslora": True}, {"use_dora": True}, {"use_rslora": True, "use_dora": True}],
)
def test_every_kind_comes_from_peft(tmp_path, base, rows, options):
    target_modules = ["c_attn", "c_fc"] if base is tiny_gpt2 else ["q_proj", "down_proj"]
    names = ["wte" if base is tiny_gpt2 else "embed_tokens", "lm_head"]
    indices = {"none": None, "embeddings": [3, 5], "both": {name: [3, 5] for name in names}}
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=target_modules,
        fan_in_fan_out=base is tiny_gpt2,
        task_type="CAUSAL_LM",
        trainable_token_indices=indices[rows],
        **options,
    )
    theirs = shaken(peft.get_peft_model(base(), config)).eval()
    theirs.save_pretrained(tmp_path)
    model = base()
    load_adapter(model, tmp_path)
    torch.testing.assert_close(model(IDS).logits, theirs(IDS).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rslora", [False, True])
def test_pissa_that_peft_has_made_plain_comes_from_it(tmp_path, rslora):
    config = peft.LoraConfig(
        r=4,
        lora_alpha=6,
        target_modules=["q_proj", "down_proj"],
        init_lora_weights="pissa",
        use_rslora=rslora,
        task_type="CAUSAL_LM",
    )
    theirs = peft.get_peft_model(tiny_model(), config)
    made = theirs.peft_config["default"]
    made.init_lora_weights = True  # as PEFT's documentation keeps the start for the conversion
    theirs.save_pretrained(tmp_path / "start")
    made.init_lora_weights = "pissa"
    expected = shaken(theirs).eval()(IDS).logits
    theirs.save_pretrained(
        tmp_path / "out", path_initial_model_for_weight_conversion=str(tmp_path / "start")
    )
    model = tiny_model()
    load_adapter(model, tmp_path / "out")
    torch.testing.assert_close(model(IDS).logits, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", [LoRAKind(), LoRAKind(rslora=True), LoRAKind(dora=True)])
def test_gradients_are_pefts(tmp_path, kind):
    model = tiny_model(dtype=torch.float64)
    apply_lora(model, rank=4, alpha=6.0, kind=kind)
    train_token_rows(model, [3, 5])
    shaken(model)
    save_adapter(model, tmp_path, base_model="base")
    base = tiny_model(dtype=torch.float64)
    theirs = peft.PeftModel.from_pretrained(base, tmp_path, is_trainable=True)
    theirs = theirs.to(torch.float64).eval()
    for each in (model, theirs):
        each(IDS, labels=IDS).loss.backward()
    found = dict(theirs.named_parameters())
    prefix = "base_model.model."
    for name, layer in lora_layers(model).items():
        for letter, parameter in (("A", layer.lora_A), ("B", layer.lora_B)):
            expected = found[f"{prefix}{name}.lora_{letter}.default.weight"].grad
            torch.testing.assert_close(parameter.grad.T, expected)
        if layer.magnitude is not None:
            expected = found[f"{prefix}{name}.lora_magnitude_vector.default.weight"].grad
            torch.testing.assert_close(layer.magnitude.grad, expected)
    for name, (_, rows) in token_rows(model).items():
        key = f"{prefix}{name}.token_adapter.trainable_tokens_delta.default"
        torch.testing.assert_close(rows.grad, found[key].grad)
