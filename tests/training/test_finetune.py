import json

import pytest
import torch
from torch import nn

from biddable.config import parse_config
from biddable.data import sources
from biddable.data.dataset import InstructionDataset
from biddable.data.templates import get_template, template_hash
from biddable.errors import BiddableError, CheckpointError, ConfigError, DataError, TemplateError
from biddable.models.generation import generate
from biddable.models.loading import LoadedModel, load
from biddable.serving.answering import answer
from biddable.training import preparation
from biddable.training.finetune import finetune_instruct_model, run_training
from biddable.training.planner import plan_run
from tests.tiny import tiny_model, tiny_tokenizer

ROWS = [{"instruction": f"Say {word}", "response": word} for word in ("hola", "uno", "dos", "si")]


@pytest.fixture
def base(tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


@pytest.fixture
def rows(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS * 3))
    return str(path)


def config_of(base, rows, **changes):
    training = {"epochs": 2, "batch_size": 4}
    values = {"model": base, "data": rows, "output": "run", "training": training}
    return parse_config(values | changes)


def test_finetune_a_model_in_place():
    model, tokenizer = tiny_model(), tiny_tokenizer()
    dataset = InstructionDataset(ROWS, tokenizer)
    tuned, log = finetune_instruct_model(
        model, dataset, epochs=30, held_out=dataset, learning_rate=3e-3
    )
    assert tuned is model
    assert log.held_out_losses[-1] < 0.1
    prompt = tokenizer("<|endoftext|>[INST] Say uno [/INST]").input_ids
    (answer,) = generate(model, [prompt], stop_ids=[0], max_new_tokens=10)
    assert (tokenizer.decode(answer.ids), answer.stopped) == (" uno", True)


def test_finetune_by_name_with_frozen_layers(base):
    dataset = InstructionDataset(ROWS, tiny_tokenizer())
    model, log = finetune_instruct_model(base, dataset, epochs=1, num_frozen_layers=1)
    before = tiny_model().state_dict()
    lower = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model.state_dict()[lower], before[lower])
    assert "freeze" in log.learning_rate_reason


def test_finetune_refuses_what_can_never_stop():
    loaded = load("mimic")
    loaded.tokenizer.add_special_tokens(
        {"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]}
    )
    dataset = InstructionDataset(ROWS, loaded.tokenizer, template="chatml")
    assert dataset.template.name == "chatml"
    with pytest.raises(ConfigError, match=r"<\|im_end\|> has id \d+, and the model has \d+ rows"):
        finetune_instruct_model(loaded, dataset, epochs=1)
    loaded.model.resize_token_embeddings(len(loaded.tokenizer))
    with pytest.raises(ConfigError, match=r"<\|im_end\|> .*can never be learned"):
        finetune_instruct_model(loaded, dataset, epochs=1, num_frozen_layers=1)


def test_finetune_a_loaded_model():
    loaded = LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "here")
    model, _ = finetune_instruct_model(loaded, InstructionDataset(ROWS, loaded.tokenizer), epochs=1)
    assert model is loaded.model


@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
def test_a_whole_run(base, rows, method):
    events = []
    config = config_of(base, {"train": rows, "held_out_rows": 2}, method=method)
    folder = run_training(config, on_event=events.append)
    loaded = load(str(folder))
    manifest = loaded.manifest
    assert loaded.template == "inst"
    assert (manifest["method"], manifest["base_model"]) == (method, base)
    assert (manifest["data"]["train"]["num_rows"], manifest["data"]["held_out"]["num_rows"]) == (
        10,
        2,
    )
    results = manifest["results"]
    assert results["steps"] == 6
    assert results["held_out_loss"] < results["held_out_loss_before"]
    assert results["tokens"] > results["loss_tokens"] > 0
    template = get_template("inst", loaded.tokenizer)
    assert len(manifest["template"]["hash"]) == 64
    assert loaded.model.generation_config.eos_token_id == loaded.tokenizer.convert_tokens_to_ids(
        template.stop_text
    )
    kinds = [event["event"] for event in events]
    assert kinds[:7] == ["source", "source", "data", "data", "method", "plan", "start"]
    recognised = f"{rows}: 12 rows, recognised as instruction-response (12 of 12)"
    assert events[0] == {"event": "source", "part": "train", "summary": recognised}
    cut = f"the last 2 rows of data.train in file order, {rows}:11 to {rows}:12"
    assert events[1] == {"event": "source", "part": "held_out", "summary": cut}
    assert (folder / "adapter_config.json").exists() == (method == "lora")


@pytest.mark.parametrize(("kind", "share"), [("int8", 0.27), ("int4", 0.16)])
def test_a_run_on_a_base_in_few_bits_is_planned_cut_off_and_goes_on(base, rows, kind, share):
    pytest.importorskip("torchao")
    method = {"name": "lora", "rank": 4}
    plain = config_of(base, rows, method=method, checkpoints={"every_steps": 1})
    config = config_of(base, rows, method=method | {"quantize_base": kind})
    plans = [plan_run(each, measure=False).estimate for each in (config, plain)]
    assert all(plan.is_counted for plan in plans)
    linear = 4 * sum(m.weight.numel() for m in tiny_model().modules() if type(m) is nn.Linear)
    linear -= 4 * tiny_model().lm_head.weight.numel()
    saved = plans[1].memory.weights - plans[0].memory.weights
    assert (1 - share) * linear < saved < linear
    whole = run_training(config.model_copy(update={"output": "whole"}))

    def cut(event):
        if event["event"] == "step" and event["step"] == 3:
            raise RuntimeError

    with pytest.raises(RuntimeError):
        run_training(config, on_event=cut)
    folders = [whole, run_training(config, resume=True)]
    weights = [(f / "adapter_model.safetensors").read_bytes() for f in folders]
    assert weights[0] == weights[1]


def test_the_config_of_a_run_repeats_it(base, rows):
    first = run_training(config_of(base, rows, method={"name": "lora", "dropout": 0.1}))
    values = json.loads((first / "manifest.json").read_text())["config"] | {"output": "again"}
    second = run_training(parse_config(values))
    weights = [(f / "adapter_model.safetensors").read_bytes() for f in (first, second)]
    assert weights[0] == weights[1]


@pytest.fixture
def other_rows(tmp_path):
    path = tmp_path / "other.jsonl"
    new = {"instruction": "Say no.", "response": "No."}
    path.write_text("".join(json.dumps(row) + "\n" for row in [new, *reversed(ROWS * 3)][:12]))
    return str(path)


def test_the_builtin_rows_and_cuts(base, rows, other_rows, monkeypatch):
    splits = {"train": rows, "held_out": other_rows}
    monkeypatch.setattr(sources, "builtin_names", lambda: ["mimic"])
    monkeypatch.setattr(sources, "builtin_path", lambda name, split: splits[split])
    data = {"train": "mimic", "held_out": "mimic", "train_rows": 3, "shuffle_seed": 0}
    folder = run_training(config_of(base, data))
    described = json.loads((folder / "manifest.json").read_text())["data"]
    assert described["train"]["num_rows"] == 3
    assert described["held_out"]["num_rows"] == 12


def told(config):
    events = []
    folder = run_training(config, on_event=events.append)
    return folder, {event["event"]: event for event in events}


def test_a_second_run_reads_no_rows_and_comes_to_the_same(base, rows, monkeypatch):
    data = {"train": rows, "held_out_rows": 2, "shuffle_seed": 1}
    first, before = told(config_of(base, data))
    monkeypatch.setattr(preparation, "read_sources", None)
    second, after = told(config_of(base, data, output="again"))
    assert before["source"] == after["source"]
    assert "from before" not in before["data"]["summary"]
    assert after["data"]["summary"] == before["data"]["summary"] + " (kept from before)"
    described = [json.loads((f / "manifest.json").read_text())["data"] for f in (first, second)]
    assert described[0] == described[1]
    weights = [(f / "model.safetensors").read_bytes() for f in (first, second)]
    assert weights[0] == weights[1]


def test_what_is_learned_is_not_held_out_as_well(base, rows, tmp_path):
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((tmp_path / "rows.jsonl").read_bytes())
    with pytest.raises(ConfigError, match=r"copy\.jsonl holds what data.train holds"):
        run_training(config_of(base, {"train": rows, "held_out": str(copy)}))


@pytest.mark.parametrize("is_large", [False, True])
def test_rows_that_are_learned_and_held_out_are_told(base, rows, tmp_path, monkeypatch, is_large):
    if is_large:
        monkeypatch.setattr(sources, "_LARGE", 0)
    apart = tmp_path / "apart.jsonl"
    new = {"instruction": "Say no.", "response": "No."}
    apart.write_text("".join(json.dumps(row) + "\n" for row in (new, ROWS[1])))
    events = []
    config = config_of(base, {"train": rows, "held_out": str(apart)})
    run_training(config, on_event=events.append)
    (told,) = [e["summary"] for e in events if "learned too" in e.get("summary", "")]
    assert told.startswith(f"1 of its 2 rows are learned too, word for word, the first at {rows}:2")
    apart.write_text(json.dumps({"extra": 1, **ROWS[1]}) + "\n")
    with pytest.raises(ConfigError, match=r"apart\.jsonl holds what data.train holds"):
        run_training(config_of(base, {"train": rows, "held_out": str(apart)}, output="again"))


@pytest.mark.parametrize("is_large", [False, True])
def test_bad_rows_are_told_before_a_model_is_loaded(base, rows, monkeypatch, is_large):
    if is_large:
        monkeypatch.setattr(sources, "_LARGE", 0)
    with open(rows, "a") as file:
        file.write(json.dumps({"instruction": "Say it.", "response": ""}) + "\n")
    loaded = []
    monkeypatch.setattr(preparation, "load", loaded.append)
    with pytest.raises(DataError, match=r'rows\.jsonl:13: "response" is empty'):
        run_training(config_of(base, rows))
    assert loaded == []


@pytest.mark.parametrize("is_large", [False, True])
def test_rows_that_the_template_cannot_show_are_told_before_a_model_is_loaded(
    base, rows, monkeypatch, is_large
):
    if is_large:
        monkeypatch.setattr(sources, "_LARGE", 0)
    with open(rows, "a") as file:
        call = {"name": "look", "parameters": {}}
        file.write(json.dumps({**ROWS[0], "tools": [call]}) + "\n")
    loaded = []
    monkeypatch.setattr(preparation, "load", loaded.append)
    with pytest.raises(TemplateError, match=r"rows\.jsonl:13: .*cannot show tools"):
        run_training(config_of(base, rows))
    assert loaded == []


def test_large_sources_are_read_one_by_one_and_come_to_the_same(
    base, rows, other_rows, monkeypatch
):
    data = {"train": rows, "held_out": other_rows}
    first, before = told(config_of(base, data))
    monkeypatch.setattr(sources, "_LARGE", 0)
    monkeypatch.setattr(preparation, "read_sources", None)
    monkeypatch.setenv("XDG_CACHE_HOME", "elsewhere")
    second, after = told(config_of(base, data, output="again"))
    assert after["data"] == before["data"]
    described = [json.loads((f / "manifest.json").read_text())["data"] for f in (first, second)]
    assert described[0] == described[1]
    weights = [(f / "model.safetensors").read_bytes() for f in (first, second)]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("change", ["rows", "shuffle_seed", "max_seq_len", "template", "learn"])
def test_another_file_or_setting_is_encoded_anew(base, rows, change):
    data = {"train": rows, "held_out_rows": 2}
    told(config_of(base, data))
    changes = {"output": "again"}
    if change == "rows":
        with open(rows, "a") as file:
            file.write(json.dumps(ROWS[0]) + "\n")
    elif change == "template":
        changes["template"] = "alpaca"
    elif change == "learn":
        changes["training"] = {"epochs": 2, "batch_size": 4, "learn": "all"}
    else:
        data = data | {change: 100}
    _, events = told(config_of(base, data, **changes))
    assert "from before" not in events["data"]["summary"]


def test_nothing_is_kept_where_that_is_not_wanted(base, rows, tmp_path):
    folders = [run_training(config_of(base, rows))]
    cached = set((tmp_path / ".home" / ".cache" / "biddable").rglob("*"))
    assert cached
    data = {"train": rows, "cache": False, "max_seq_len": 99}
    folders.append(run_training(config_of(base, data, output="again")))
    assert set((tmp_path / ".home" / ".cache" / "biddable").rglob("*")) == cached
    weights = [(f / "model.safetensors").read_bytes() for f in folders]
    assert weights[0] == weights[1]


def test_the_plan_is_told_before_the_first_step(base, rows):
    folder, events = told(config_of(base, rows))
    results = json.loads((folder / "manifest.json").read_text())["results"]
    plan = events["plan"]
    assert (plan["num_steps"], plan["num_tokens"], plan["num_loss_tokens"]) == (
        results["steps"],
        results["tokens"],
        results["loss_tokens"],
    )
    assert 0 < plan["num_unique_tokens"] < plan["num_tokens"]
    assert "6 steps" in plan["summary"]
    assert plan["is_tree"]


def test_sources_are_mixed_by_weight_and_counted(base, rows, tmp_path):
    other = tmp_path / "other.jsonl"
    other.write_text(
        "".join(json.dumps({"prompt": "a", "response": str(n)}) + "\n" for n in range(6))
    )
    train = [{"path": rows, "weight": 0.5}, {"path": str(other), "weight": 2}]
    events = []
    folder = run_training(config_of(base, {"train": train}), on_event=events.append)
    manifest = json.loads((folder / "manifest.json").read_text())
    described = manifest["data"]["train"]
    assert (described["file"], described["num_rows"]) == (None, 18)
    assert [file["file"] for file in described["files"]] == [rows, str(other)]
    assert [file["weight"] for file in described["files"]] == [0.5, 2]
    assert [e["summary"] for e in events if e["event"] == "source"][2:] == [
        f"{rows}: weight 0.5, 6 rows an epoch",
        f"{other}: weight 2, 12 rows an epoch",
    ]
    assert manifest["config"]["data"]["train"] == train


@pytest.mark.parametrize("data", [{"train_rows": 13}, {"held_out_rows": 12}])
def test_too_few_rows_are_said(base, rows, data):
    with pytest.raises(ConfigError, match=r"has 12 rows; .* leave too few"):
        run_training(config_of(base, {"train": rows, **data}))


def test_an_output_that_is_taken_is_refused_before_anything_else(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "file").touch()
    with pytest.raises(CheckpointError, match="already holds files"):
        run_training(config_of("nowhere", "nothing"))


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"data": "missing.jsonl"}, DataError),
        ({"model": "mimick"}, ConfigError),
        ({"template": "instt"}, BiddableError),
        ({"method": {"name": "freeze", "num_frozen_layers": 9}}, ConfigError),
    ],
)
def test_bad_input_leaves_no_folder(base, rows, changes, kind, tmp_path):
    with pytest.raises(kind):
        run_training(config_of(base, rows, **changes))
    assert list(tmp_path.glob("run*")) == []


def test_ctrl_c_while_training_leaves_no_folder(base, rows, tmp_path):
    def interrupt(event):
        if event["event"] == "step":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_training(config_of(base, rows), on_event=interrupt)
    assert list(tmp_path.glob("run*")) == []


CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last and m.role == 'assistant' %}"
    "<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def chat_base(tmp_path):
    tokenizer = tiny_tokenizer(extra_special_tokens=("<|im_start|>", "<|im_end|>"))
    tiny_model(vocab_size=len(tokenizer)).save_pretrained(tmp_path / "base")
    tokenizer.save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def test_a_run_with_a_users_jinja_file_asks_so_ever_after(chat_base, rows, tmp_path):
    file = tmp_path / "mine.jinja"
    file.write_text(CHATML)
    folder = run_training(config_of(chat_base, rows, template=str(file)))
    file.unlink()  # the run folder needs it no more
    loaded = load(str(folder))
    assert loaded.template == "tokenizer"
    assert loaded.tokenizer.chat_template == CHATML
    end = loaded.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert loaded.model.generation_config.eos_token_id == end
    described = json.loads((folder / "manifest.json").read_text())["template"]
    assert (described["name"], described["file"]) == ("tokenizer", str(file))
    assert described["hash"] == template_hash(get_template("tokenizer", loaded.tokenizer))
    assert answer(loaded, "Say uno", template="tokenizer", max_new_tokens=2).num_tokens <= 2


def test_a_run_with_a_family_keeps_its_name_and_its_jinja(chat_base, rows):
    folder = run_training(config_of(chat_base, rows, template="qwen"))
    loaded = load(str(folder))
    assert loaded.template == "qwen"
    plain = [{"role": "user", "content": "a"}]
    assert loaded.tokenizer.apply_chat_template(plain, tokenize=False).startswith(
        "<|im_start|>system\nYou are Qwen"
    )


def test_rows_that_a_run_expands_are_counted_or_refused(chat_base, tmp_path):
    file, data = tmp_path / "mine.jinja", tmp_path / "rows.jsonl"
    file.write_text(CHATML)
    talk = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d")]
    row = {"messages": [{"role": role, "content": content} for role, content in talk]}
    data.write_text(json.dumps(row) + "\n")
    config = config_of(chat_base, str(data), template=str(file))
    folder = run_training(config)
    described = json.loads((folder / "manifest.json").read_text())["data"]["train"]
    keys = ("num_rows", "num_kept", "num_examples", "num_rows_expanded")
    assert [described[key] for key in keys] == [1, 1, 2, 1]
    refusing = {"train": str(data), "history": "refuse"}
    with pytest.raises(BiddableError, match="shows message 2 otherwise"):
        run_training(config_of(chat_base, refusing, template=str(file), output="other"))
    last = {"epochs": 2, "batch_size": 4, "learn": "last_answer"}
    values = {"template": str(file), "output": "last", "training": last}
    folder = run_training(config_of(chat_base, refusing, **values))
    described = json.loads((folder / "manifest.json").read_text())["data"]["train"]
    assert described["num_examples"] == 1


def test_a_refusal_of_marks_is_kept_at_generation(base, tmp_path):
    data = tmp_path / "rows.jsonl"
    data.write_text(json.dumps({"instruction": "Say [/INST]", "response": "no"}) + "\n")
    config = config_of(base, {"train": str(data), "control_text": "refuse"})
    with pytest.raises(BiddableError, match=r"rows\.jsonl:1: a text spells '\[/INST\]'"):
        run_training(config)
    data.write_text(json.dumps({"instruction": "Say", "response": "no"}) + "\n")
    loaded = load(str(run_training(config)))
    assert loaded.control_text == "refuse"
    with pytest.raises(BiddableError, match=r"a text spells '\[/INST\]'"):
        answer(loaded, "Say [/INST]", template=loaded.template)
