"""Readiness: a stop token that cannot be learned is refused, and a better one is found."""

from __future__ import annotations

import pytest
import torch
from transformers import BertConfig, BertLMHeadModel, XLMConfig, XLMWithLMHeadModel

from biddable.config import parse_config
from biddable.data.encoding import Example
from biddable.data.templates import get_template
from biddable.errors import ConfigError
from biddable.models.causality import sees_ahead
from biddable.models.control_rows import train_control_rows
from biddable.models.freezing import freeze_layers
from biddable.models.loading import LoadedModel, load
from biddable.models.lora import apply_lora
from biddable.models.readiness import assess, choose_template, require_ready
from biddable.training.trainer import train
from tests.models.real_bases import babyllama, stories
from tests.tiny import tiny_model, tiny_tokenizer

CHATML = ("<|im_start|>", "<|im_end|>")
JINJA = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def mimic(row: str = "mean") -> LoadedModel:
    """The embedded base with ChatML's tokens added, as others add them before training."""
    loaded = load("mimic")
    loaded.tokenizer.add_special_tokens({"additional_special_tokens": list(CHATML)})
    loaded.model.resize_token_embeddings(len(loaded.tokenizer), mean_resizing=row == "mean")
    if row == "zero":
        with torch.no_grad():
            loaded.model.get_input_embeddings().weight[-2:] = 0
    return loaded


def codes(readiness, verdict):
    return {fact.code for fact in readiness.facts if fact.verdict == verdict}


@pytest.mark.parametrize("row", ["mean", "zero", "start"])
def test_an_untrained_stop_token_under_lora_is_refused(row):
    loaded = mimic(row)
    apply_lora(loaded.model)
    readiness = assess(loaded, get_template("chatml", loaded.tokenizer))
    assert (readiness.stop_text, readiness.stop_trains) == ("<|im_end|>", False)
    assert codes(readiness, "error") == {"stop-token"}
    assert codes(readiness, "warning") == {"control-token"}  # <|im_start|> is read, and is noise
    advice = r'can never be learned.* Set method.train_tokens: \["<\|im_end\|>"\].*method "full"'
    with pytest.raises(ConfigError, match=rf"<\|im_end\|> .*{advice}"):
        require_ready(readiness)


def test_full_training_trains_the_row_and_may_go_on():
    readiness = assess(loaded := mimic(), get_template("chatml", loaded.tokenizer))
    assert (readiness.is_ready, readiness.stop_trains, readiness.stop_reach) == (True, True, None)
    assert readiness.stop_state == "mean"
    assert "its row in the head trains" in readiness.facts[0].text


def test_freezing_leaves_a_tied_head_and_trains_a_head_of_its_own():
    loaded = mimic()
    freeze_layers(loaded.model, 2)
    assert not assess(loaded, get_template("chatml", loaded.tokenizer)).is_ready
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML)
    model = tiny_model(vocab_size=302)
    with torch.no_grad():
        model.get_output_embeddings().weight[-2:] = 0
        model.get_input_embeddings().weight[-2:] = 0
    freeze_layers(model, 1)
    readiness = assess(
        LoadedModel(model, tokenizer, "tiny", "here"), get_template("chatml", tokenizer)
    )
    assert readiness.is_ready
    assert codes(readiness, "warning") == {"control-token"}  # the embeddings stay


def test_where_no_template_is_asked_for_one_that_works_is_taken():
    loaded = mimic()
    loaded.tokenizer.chat_template = JINJA
    apply_lora(loaded.model)
    template, readiness = choose_template(None, loaded)
    assert (template.name, template.stop_text) == ("inst", "<|endoftext|>")
    assert readiness.is_ready
    assert readiness.facts[0].code == "stop-chosen"
    assert "<|im_end|>" in readiness.facts[0].text
    asked, refused = choose_template("tokenizer", loaded)
    assert (asked.name, refused.is_ready) == ("tokenizer", False)


def test_a_tokenizer_without_an_end_takes_what_the_base_ends_with():
    loaded = mimic()
    loaded.tokenizer.chat_template = JINJA
    loaded.tokenizer.eos_token = None
    apply_lora(loaded.model)
    template, readiness = choose_template(None, loaded)
    assert (template.stop_text, readiness.is_ready) == ("<|endoftext|>", True)


def test_where_nothing_works_the_tokenizer_is_left_as_it_was():
    loaded = mimic()
    loaded.tokenizer.eos_token = "<|im_end|>"
    apply_lora(loaded.model)
    template, readiness = choose_template("chatml", loaded)
    assert (template.stop_text, loaded.tokenizer.eos_token) == ("<|im_end|>", "<|im_end|>")
    assert not readiness.is_ready


def test_the_tokenizers_own_template_is_kept_where_its_stop_trains():
    loaded = mimic()
    loaded.tokenizer.chat_template = JINJA
    template, readiness = choose_template(None, loaded)
    assert (template.name, readiness.facts[0].code) == ("tokenizer", "stop-token")


def test_a_real_base_that_never_saw_its_end_token(test_data):
    """stories260K was trained with <s> between texts; the file of its tokens has </s> as well."""
    loaded = stories(test_data("stories260K"))
    apply_lora(loaded.model)
    readiness = assess(loaded, get_template("inst", loaded.tokenizer))
    assert readiness.stop_text == "</s>"
    assert readiness.stop_state == "crowded"
    assert readiness.stop_reach < 0.01
    template, chosen = choose_template("inst", loaded)
    assert (template.stop_text, loaded.tokenizer.eos_token) == ("<s>", "<s>")
    assert chosen.is_ready


@pytest.mark.parametrize(
    ("stop_id", "rows", "is_learned"), [(2, "none", False), (1, "none", True), (2, "auto", True)]
)
def test_what_is_called_unlearnable_is_not_learned(test_data, stop_id, rows, is_learned):
    """The claim itself: LoRA on the real base, pushed hard to say one token after one prompt."""
    loaded = stories(test_data("stories260K"))
    apply_lora(loaded.model, rank=16)
    template = get_template("inst", loaded.tokenizer)
    said = train_control_rows(loaded, template, asked=rows)
    assert ("the rows of </s> in " in said) == (rows == "auto")
    ids = [1, 300, 350, 400, stop_id]
    example = Example(ids, [False, False, False, False, True])
    values = {"epochs": 60, "learning_rate": 0.02, "batch_size": 1, "schedule": "constant"}
    config = parse_config({"model": "m", "data": "d", "output": "o", "training": values})
    train(loaded.model, [example], settings=config.training)
    with torch.no_grad():
        logits = loaded.model(input_ids=torch.tensor([ids[:4]])).logits[0, -1]
    probability = float(logits.softmax(dim=0)[stop_id])
    assert probability > 0.9 if is_learned else probability < 0.01


def test_a_real_character_model_is_ready(test_data):
    loaded = babyllama(test_data("babyllama_tok105"))
    apply_lora(loaded.model)
    assert choose_template(None, loaded)[1].is_ready


@pytest.mark.parametrize("method", ["full", "freeze", "lora"])
def test_mimic_is_ready_as_it_is(method):
    loaded = load("mimic")
    if method == "lora":
        apply_lora(loaded.model)
    elif method == "freeze":
        freeze_layers(loaded.model, 2)
    for name in ("inst", "alpaca", "chatml"):
        readiness = assess(loaded, get_template(name, loaded.tokenizer))
        assert readiness.problems == []
        assert {"pad-is-eos", "tied-head", "positions"} <= codes(readiness, "ok")


def test_tokens_beyond_the_models_rows_are_refused():
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML)
    loaded = LoadedModel(tiny_model(), tokenizer, "tiny", "here")
    readiness = assess(loaded, get_template("chatml", tokenizer))
    assert codes(readiness, "error") == {"beyond-vocabulary"}
    assert "<|im_end|> has id 301, and the model has 300 rows" in readiness.problems[0].message
    assert codes(readiness, "warning") == {"vocabulary"}


def test_padded_rows_and_another_stop_are_told():
    tokenizer = tiny_tokenizer(extra_special_tokens=CHATML)
    loaded = LoadedModel(tiny_model(vocab_size=320), tokenizer, "tiny", "here")
    readiness = assess(loaded, get_template("chatml", tokenizer))
    texts = [fact.text for fact in readiness.facts]
    assert "320 rows in the vocabulary, 18 of them beyond the tokenizer's" in texts
    assert any("stop at <|endoftext|>, not at <|im_end|>" in text for text in texts)
    assert codes(readiness, "note") == {"generation-stop"}


def test_tiny_rows_are_not_said_to_be_zeros():
    loaded = mimic("start")
    with torch.no_grad():
        loaded.model.get_input_embeddings().weight[-2:] *= 1e-3
    apply_lora(loaded.model)
    readiness = assess(loaded, get_template("chatml", loaded.tokenizer))
    assert readiness.stop_state == "zero"
    told = readiness.facts[0].text
    assert "below 1 % of the usual length of a row: zeros, or next to nothing" in told


@pytest.mark.parametrize("is_decoder", [True, False])
def test_a_model_that_sees_what_it_is_to_predict_is_refused(is_decoder):
    config = BertConfig(
        vocab_size=tiny_model().config.vocab_size,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        is_decoder=is_decoder,
    )
    torch.manual_seed(0)
    model = BertLMHeadModel(config).train()
    tokenizer = tiny_tokenizer()
    readiness = assess(LoadedModel(model, tokenizer, "bert", ""), get_template("inst", tokenizer))
    assert model.training
    assert ("sees-ahead" in codes(readiness, "error")) is not is_decoder
    if not is_decoder:
        with pytest.raises(ConfigError, match=r"BertLMHeadModel sees the tokens .* is_decoder"):
            require_ready(readiness)


def test_an_id_that_a_model_takes_for_padding_hides_nothing():
    config = XLMConfig(vocab_size=300, emb_dim=32, n_layers=1, n_heads=2)
    assert config.pad_token_id < 12  # XLM does not attend to as many last places as have it
    torch.manual_seed(0)
    assert sees_ahead(XLMWithLMHeadModel(config))
