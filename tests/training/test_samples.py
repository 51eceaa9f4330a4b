import json

import pytest
import torch

from biddable.config import parse_config
from biddable.config_training import TrainingConfig
from biddable.config_watch import WatchConfig
from biddable.data.templates import get_template
from biddable.errors import DataError
from biddable.models.loading import LoadedModel, load
from biddable.models.lora import apply_lora
from biddable.serving.answering import answer
from biddable.training.finetune import run_training
from biddable.training.samples import SampleAnswers
from biddable.training.trainer import train
from biddable.training.venue import Venue
from tests.tiny import tiny_model, tiny_tokenizer
from tests.training.rows import random_examples

SETTINGS = TrainingConfig(epochs=2, batch_size=2)
PROMPTS = ("Say hola", "What is two and two?")


@pytest.fixture
def base(tmp_path):
    tiny_model().save_pretrained(tmp_path / "base")
    tiny_tokenizer().save_pretrained(tmp_path / "base")
    return str(tmp_path / "base")


def sampler(model, **settings):
    tokenizer = tiny_tokenizer()
    loaded = LoadedModel(model, tokenizer, name="tiny", source="tiny")
    values = {"prompts": PROMPTS, "max_new_tokens": 5} | settings
    return SampleAnswers(WatchConfig(**values), loaded, get_template("inst", tokenizer))


def trained(*, samples):
    torch.manual_seed(1)
    model = tiny_model()
    apply_lora(model, rank=2, dropout=0.3)  # what draws from the random state
    log = train(
        model,
        random_examples(8),
        settings=SETTINGS,
        seed=7,
        venue=Venue(samples=sampler(model, every=3) if samples else None),
    )
    return model, log


def test_a_prompt_that_is_too_long_is_refused_before_any_step():
    model = tiny_model()
    model.config.max_position_embeddings = 16
    with pytest.raises(DataError, match="the model takes 1 to 15"):
        sampler(model, prompts=("one two three " * 9,))


def test_the_result_is_the_same_bits_with_and_without():
    (with_them, log), (without, plain) = trained(samples=True), trained(samples=False)
    assert [r["step"] for r in log.records if r["event"] == "sample"] == [0, 0, 3, 3, 6, 6]
    untimed = [
        [
            {key: value for key, value in r.items() if key not in ("seconds", "memory_bytes")}
            for r in records
            if r["event"] != "sample"
        ]
        for records in (log.records, plain.records)
    ]
    assert untimed[0] == untimed[1]
    pairs = zip(with_them.parameters(), without.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)


def test_answers_are_those_of_the_finished_run(base, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(json.dumps({"instruction": f"Say {w}", "response": w}) + "\n" for w in "abcd")
    )
    values = {"model": base, "data": str(rows), "output": "run", "template": "inst"}
    values["training"] = {"epochs": 2, "batch_size": 2}
    values["watch"] = {"prompts": "Say a", "max_new_tokens": 6}
    events = []
    folder = run_training(parse_config(values), on_event=events.append)
    told = [event for event in events if event["event"] == "sample"]
    assert [event["step"] for event in told] == [0, 2, 4]
    found = answer(load(str(folder)), "Say a", template="inst", max_new_tokens=6)
    last = told[-1]
    assert (last["prompt"], last["answer"]) == ("Say a", found.text)
    assert (last["num_tokens"], last["stopped"]) == (found.num_tokens, found.stopped)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    assert [record for record in log if record["event"] == "sample"] == told


def test_without_prompts_nothing_is_asked():
    assert sampler(tiny_model(), prompts=())(4, True) == []


def test_a_prompt_that_is_too_long_is_refused_before_the_first_step():
    model = tiny_model()
    with pytest.raises(DataError, match="prompt 1 has"):
        train(
            model,
            random_examples(2),
            settings=SETTINGS,
            venue=Venue(samples=sampler(model, prompts=("word " * 300,))),
        )
    assert all(
        torch.equal(a, b)
        for a, b in zip(model.parameters(), tiny_model().parameters(), strict=True)
    )
