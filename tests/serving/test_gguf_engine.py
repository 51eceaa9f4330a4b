from dataclasses import replace

import openai
import pytest

from biddable.errors import ConfigError
from biddable.models.loading import LoadedModel
from biddable.serving.answering import answer
from biddable.serving.launch import load_served
from biddable.serving.requests import EngineLimits
from tests.serving.served import running
from tests.tiny import tiny_model, tiny_tokenizer

pytest.importorskip("xllamacpp")
from tests.tiny_gguf import write_tiny_gguf

TEXTS = ["What is the capital of France?", "é 你好 🙂 hola", "Translate"]
CHAT = "{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}\n{% endfor %}[answer]"


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    path = write_tiny_gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf", chat_template=CHAT)
    limits = EngineLimits(most_running=3, most_waiting=20)
    model = load_served(str(path), template=None, limits=limits)
    with (
        running([model]) as url,
        openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made,
    ):
        made.model = str(path)
        yield made


def expected(text, limit):
    """Answer by the weights themselves; llama.cpp leaves out half a character at the end."""
    loaded = LoadedModel(tiny_model(), tiny_tokenizer(), "tiny", "tiny")
    found = answer(loaded, text, template=None, max_new_tokens=limit)
    return replace(found, text=found.text.rstrip("\ufffd"))


@pytest.mark.parametrize("text", TEXTS)
def test_llama_cpp_writes_what_the_weights_do(client, text):
    how = {"model": client.model, "prompt": text, "max_tokens": 12}
    whole = client.completions.create(**how)
    wanted = expected(text, 12)
    assert whole.choices[0].text.rstrip("\ufffd") == wanted.text
    assert whole.usage.completion_tokens == wanted.num_tokens
    assert whole.choices[0].finish_reason == ("stop" if wanted.stopped else "length")
    stream = client.completions.create(**how, stream=True, logprobs=2)
    chunks = [chunk.choices[0] for chunk in stream]
    assert "".join(chunk.text for chunk in chunks).rstrip("\ufffd") == wanted.text
    assert all(p <= 0 for c in chunks if c.logprobs for p in c.logprobs.token_logprobs)


def test_its_own_template_is_applied_and_stops_cut(client):
    asked = {"role": "user", "content": TEXTS[0]}
    reply = client.chat.completions.create(model=client.model, messages=[asked], max_tokens=10)
    text = f"[user] {TEXTS[0]}\n[answer]"
    by_hand = client.completions.create(model=client.model, prompt=text, max_tokens=10)
    assert reply.choices[0].message.content == by_hand.choices[0].text
    stop = by_hand.choices[0].text[3:6]
    cut = client.completions.create(model=client.model, prompt=text, max_tokens=10, stop=stop)
    assert cut.choices[0].text == by_hand.choices[0].text.partition(stop)[0]
    assert cut.choices[0].finish_reason == "stop"


def test_several_answers_at_once_are_each_their_own(client):
    reply = client.completions.create(model=client.model, prompt=TEXTS * 3, max_tokens=8)
    assert [choice.text.rstrip("\ufffd") for choice in reply.choices] == [
        expected(text, 8).text for text in TEXTS * 3
    ]


def test_what_it_cannot_do_is_said(client):
    with pytest.raises(openai.BadRequestError, match="the model takes 255"):
        client.completions.create(model=client.model, prompt="word " * 300)
    with pytest.raises(openai.BadRequestError, match="id 300 is not known"):
        client.completions.create(model=client.model, prompt=[300])
    with pytest.raises(ConfigError, match="leave --template out"):
        load_served(client.model, template="inst", limits=EngineLimits())
