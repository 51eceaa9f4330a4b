import asyncio
import inspect
import json
import socket
import time
from contextlib import contextmanager

import httpx2 as httpx
import openai
import pytest
import torch

from biddable.data.conversation import Message
from biddable.models.generation import generate
from biddable.serving.answering import answer
from biddable.serving.house import ServerSettings
from biddable.serving.prompts import PromptWriter
from biddable.serving.requests import EngineLimits
from biddable.serving.server_guard import Guarding
from tests.serving.served import running, served, tiny_loaded

ASKED = [
    "What is the capital of France?",
    "Say <|endoftext|> and [/INST] é 你好 🙂",
    "Translate 'hello'.",
    "x",
]
USER = {"role": "user", "content": ASKED[0]}


@pytest.fixture(scope="module")
def loaded():
    return tiny_loaded(dtype=torch.float32)


@pytest.fixture(scope="module")
def url(loaded, tmp_path_factory):
    page = tmp_path_factory.mktemp("run") / "report.html"
    page.write_text("<title>report</title>")
    base = tiny_loaded(5, dtype=torch.float32)
    models = [served(loaded, "tiny", template="inst"), served(base, "base", template=None)]
    settings = ServerSettings(Guarding(max_body=20_000), max_new_tokens=200, report=page)
    with running(models, settings) as found:
        yield found


@pytest.fixture
def client(url):
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as made:
        yield made


def post(url, body, path="/v1/chat/completions"):
    content = body if isinstance(body, bytes) else json.dumps(body)
    headers = {"content-type": "application/json"}
    return httpx.post(url + path, content=content, headers=headers, timeout=60)


def alone(loaded, messages, **how):
    prompt = PromptWriter(loaded, "inst").chat(messages)
    (found,) = generate(loaded.model, [prompt.ids], stop_ids=prompt.stop_ids, **how)
    text = loaded.tokenizer.decode(found.ids, clean_up_tokenization_spaces=False)
    return prompt.template.read_answer(text), found, prompt


@pytest.mark.parametrize("asked", ASKED)
def test_an_answer_is_what_generate_writes(client, loaded, asked):
    reply = client.chat.completions.create(
        model="tiny", messages=[{"role": "user", "content": asked}], max_tokens=24
    )
    expected = answer(loaded, asked, template="inst", max_new_tokens=24)
    (choice,) = reply.choices
    assert choice.message.content == expected.text
    assert choice.finish_reason == ("stop" if expected.stopped else "length")
    assert reply.usage.completion_tokens == expected.num_tokens


def test_a_conversation_is_given_as_in_training(client, loaded):
    turns = [
        ("system", "Be short."),
        ("user", "What?"),
        ("assistant", "This."),
        ("user", "Why [INST]?"),
    ]
    messages = [{"role": role, "content": content} for role, content in turns]
    messages[0]["role"] = "developer"
    messages[1]["content"] = [{"type": "text", "text": "Wh"}, {"type": "text", "text": "at?"}]
    reply = client.chat.completions.create(model="tiny", messages=messages, max_tokens=16)
    text, found, prompt = alone(loaded, [Message(*turn) for turn in turns], max_new_tokens=16)
    assert reply.choices[0].message.content == text
    assert reply.usage.prompt_tokens == len(prompt.ids)
    assert reply.usage.total_tokens == len(prompt.ids) + len(found.ids)


@pytest.mark.parametrize("asked", ASKED)
def test_a_stream_holds_the_same_answer(client, asked):
    how = {"model": "tiny", "messages": [{"role": "user", "content": asked}], "max_tokens": 40}
    whole = client.chat.completions.create(**how, n=2, temperature=1.5, seed=3)
    stream = client.chat.completions.create(
        **how, n=2, temperature=1.5, seed=3, stream=True, stream_options={"include_usage": True}
    )
    texts, reasons, pieces = ["", ""], [None, None], 0
    *chunks, last = list(stream)
    for chunk in chunks:
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        pieces += bool(choice.delta.content)
        reasons[choice.index] = choice.finish_reason or reasons[choice.index]
    assert texts == [choice.message.content for choice in whole.choices]
    assert reasons == [choice.finish_reason for choice in whole.choices]
    assert last.choices == []
    assert last.usage == whole.usage
    assert pieces > 8
    assert texts[0] != texts[1]


def test_many_clients_each_get_their_own_answer(url, loaded):
    asked = [f"{question} {n}" for n in range(6) for question in ASKED]
    expected = [answer(loaded, text, template="inst", max_new_tokens=20).text for text in asked]

    async def ask_all():
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key="none") as client:
            return await asyncio.gather(*(ask(client, n, text) for n, text in enumerate(asked)))

    async def ask(client, number, text):
        await asyncio.sleep(0.01 * (number % 7))
        how = {"model": "tiny", "messages": [{"role": "user", "content": text}], "max_tokens": 20}
        if number % 2:
            reply = await client.chat.completions.create(**how)
            return reply.choices[0].message.content
        stream = await client.chat.completions.create(**how, stream=True)
        return "".join([chunk.choices[0].delta.content or "" async for chunk in stream])

    assert asyncio.run(ask_all()) == expected


def test_completions_continue_the_bare_text_and_ids(client, loaded):
    text = "The capital of France"
    reply = client.completions.create(model="tiny", prompt=text)
    expected = answer(loaded, text, template=None, max_new_tokens=16)
    assert reply.choices[0].text == expected.text
    ids = [0, *loaded.tokenizer(text, add_special_tokens=False)["input_ids"]]
    several = client.completions.create(model="tiny", prompt=[ids, ids[:3]], n=2, max_tokens=5)
    assert [choice.index for choice in several.choices] == [0, 1, 2, 3]
    texts = [choice.text for choice in several.choices]
    assert texts[0] == texts[1]
    assert expected.text.startswith(texts[0])
    assert several.usage.prompt_tokens == len(ids) + 3


def test_the_base_is_given_the_bare_text(client):
    reply = client.chat.completions.create(model="base", messages=[USER], max_tokens=12)
    base = tiny_loaded(5, dtype=torch.float32)
    expected = answer(base, ASKED[0], template=None, max_new_tokens=12)
    assert reply.choices[0].message.content == expected.text
    assert [model.id for model in client.models.list()] == ["tiny", "base"]
    assert client.models.retrieve("base").id == "base"


def test_probabilities_are_told_as_openai_does(client):
    how = {"model": "tiny", "messages": [USER], "max_tokens": 6, "logprobs": True}
    whole = client.chat.completions.create(**how, top_logprobs=2).choices[0]
    content = whole.logprobs.content
    assert len(content) == 6
    assert all(token.logprob == token.top_logprobs[0].logprob < 0 for token in content)
    streamed = [
        token
        for chunk in client.chat.completions.create(**how, top_logprobs=2, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert [token.token for token in streamed] == [token.token for token in content]
    plain = client.completions.create(model="tiny", prompt="A", max_tokens=4, logprobs=1)
    told = plain.choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.text_offset) == 4
    assert told.text_offset[0] == 0


def test_stops_cut_an_answer(client):
    how = {"model": "tiny", "messages": [USER], "max_tokens": 30}
    whole = client.chat.completions.create(**how).choices[0].message.content
    stop = whole[7:10]
    cut = client.chat.completions.create(**how, stop=["nowhere", stop]).choices[0]
    assert cut.message.content == whole[: whole.index(stop)]
    assert cut.finish_reason == "stop"


@pytest.mark.parametrize(
    ("change", "status", "said"),
    [
        ({"model": "tinny"}, 404, 'model "tinny" is not served here; these are: tiny, base.'),
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "bot", "content": "x"}]}, 400, "messages.0.role"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}, 400, "messages"),
        ({"messages": [USER, {"role": "assistant", "content": "x"}]}, 400, "last message"),
        ({"messages": [{"role": "system", "content": "x"}]}, 400, "needs a message of the user"),
        ({"messages": [{**USER, "content": "x" * 3000}]}, 400, "the model takes 255"),
        ({"messages": [{**USER, "content": "\ud800"}]}, 400, "messages"),
        ({"temperature": 3}, 400, "temperature"),
        ({"temperature": "warm"}, 400, "temperature"),
        ({"top_p": 0}, 400, "top_p"),
        ({"n": 99}, 400, "n"),
        ({"max_tokens": 201}, 400, "at most 200"),
        ({"max_tokens": 5, "max_completion_tokens": 6}, 400, "differ"),
        ({"top_logprobs": 2}, 400, "needs logprobs"),
        ({"stop": [""]}, 400, "stop"),
        ({"stream_options": {"include_usage": True}}, 400, "stream: true"),
        ({"tools": []}, 400, "tools: not a parameter that is served"),
        ({"frequency_penalty": 0.5}, 400, "frequency_penalty"),
        ({"response_format": {"type": "json_object"}}, 400, "response_format"),
    ],
)
def test_what_cannot_be_done_is_refused_and_said(url, change, status, said):
    reply = post(url, {"model": "tiny", "messages": [USER], "max_tokens": 4, **change})
    error = reply.json()["error"]
    assert reply.status_code == status
    assert said in error["message"]
    assert set(error) == {"message", "type", "param", "code"}


def test_what_changes_nothing_is_taken(url):
    neutral = {"frequency_penalty": 0, "presence_penalty": None, "logit_bias": {}, "user": "me"}
    body = {"model": "tiny", "messages": [USER], "max_tokens": 2, "stop": None, **neutral}
    assert post(url, body).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/v1/nothing", None, 404),
        ("GET", "/v1/models/nothing", None, 404),
        ("GET", "/v1/chat/completions", None, 405),
        ("POST", "/v1/chat/completions", b"{", 400),
        ("POST", "/v1/chat/completions", b"[]", 400),
        ("POST", "/v1/chat/completions", b"[" * 15_000, 400),
        ("POST", "/v1/chat/completions", b'{"model": NaN, "seed": 1' + b"0" * 5000, 400),
        ("POST", "/v1/chat/completions", b"x" * 20_001, 413),
        ("POST", "/v1/completions", b'{"model": "tiny", "prompt": [300]}', 400),
        ("POST", "/v1/completions", b'{"model": "tiny", "prompt": "x", "echo": true}', 400),
        ("POST", "/v1/completions", b'{"\\ud800": 1}', 400),
    ],
)
def test_every_error_has_openais_form(url, method, path, body, status):
    headers = {"content-type": "application/json"}
    reply = httpx.request(method, url + path, content=body, headers=headers)
    assert reply.status_code == status
    assert reply.json()["error"]["message"]


def test_openais_client_raises_its_own_errors(client):
    with pytest.raises(openai.NotFoundError, match="is not served here"):
        client.chat.completions.create(model="gpt", messages=[USER])
    with pytest.raises(openai.BadRequestError, match="temperature") as caught:
        client.chat.completions.create(model="tiny", messages=[USER], temperature=9)
    assert caught.value.param == "temperature"


def test_nothing_is_offered_to_pages_of_other_places(url):
    origin = {"origin": "https://example.com", "access-control-request-method": "POST"}
    reply = httpx.options(f"{url}/v1/chat/completions", headers=origin)
    assert "access-control-allow-origin" not in reply.headers
    plain = httpx.get(f"{url}/v1/models", headers=origin)
    assert "access-control-allow-origin" not in plain.headers


def test_report_health_and_counts(url):
    assert httpx.get(f"{url}/report").text == "<title>report</title>"
    broken = httpx.post(
        f"{url}/v1/completions", content=b'{"model"', headers={"content-type": "application/json"}
    ).json()["error"]
    assert broken["message"].startswith("body: is no JSON, at character ")
    assert broken["param"] is None
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    post(url, {"model": "tiny", "messages": [USER], "max_tokens": 4})
    httpx.get(f"{url}/v1/made-up")
    counts = dict(
        line.rsplit(" ", 1)
        for line in httpx.get(f"{url}/metrics").text.splitlines()
        if not line.startswith("#")
    )
    chats = 'biddable_requests_total{path="/v1/chat/completions",status="200"}'
    assert float(counts[chats]) >= 1
    assert float(counts['biddable_answer_tokens_total{model="tiny"}']) >= 4
    assert float(counts['biddable_running{model="tiny"}']) == 0
    assert not any("made-up" in name for name in counts)


def slow_model(monkeypatch, loaded, seconds=0.05):
    forward = loaded.model.forward

    def slowly(*args, **inputs):
        time.sleep(seconds)
        return forward(*args, **inputs)

    slowly.__signature__ = inspect.signature(forward)
    monkeypatch.setattr(loaded.model, "forward", slowly)


def counted(url, name):
    lines = httpx.get(f"{url}/metrics").text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def wait_until(holds, seconds=20):
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@contextmanager
def narrow(monkeypatch, *, timeout_s):
    """Serve one answer at a time, slow and without an end, with room for one that waits."""
    loaded = tiny_loaded()
    slow_model(monkeypatch, loaded)
    limits = EngineLimits(most_running=1, most_waiting=1)
    model = served(loaded, "tiny", template="inst", limits=limits)
    monkeypatch.setattr(model.writer, "_template_ends", frozenset())
    with running([model], ServerSettings(timeout_s=timeout_s)) as url:
        yield url, model


LONG = {"model": "tiny", "messages": [{"role": "user", "content": "What"}], "max_tokens": 200}


def drop(url, body):
    """Send a request and go away without reading the reply."""
    host, port = url.removeprefix("http://").split(":")
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {host}:{port}\r\n"
    head += f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    connection = socket.create_connection((host, int(port)))
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize("stream", [False, True])
def test_who_goes_away_makes_room(monkeypatch, stream):
    with narrow(monkeypatch, timeout_s=60) as (url, model):
        first = drop(url, {**LONG, "stream": stream})
        wait_until(lambda: model.engine.num_running == 1)
        second = drop(url, {**LONG, "stream": stream})
        wait_until(lambda: model.engine.num_waiting == 1)
        full = post(url, LONG)
        assert full.status_code == 429
        assert full.json()["error"]["code"] == "queue_full"
        assert full.headers["retry-after"] == "1"
        first.close()
        second.close()
        wait_until(lambda: not model.engine.has_work)
        assert counted(url, "biddable_answers_total") == 0
        assert post(url, {**LONG, "max_tokens": 2}).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(monkeypatch):
    asked = {**LONG, "stream": True}
    with narrow(monkeypatch, timeout_s=1) as (url, model):
        with httpx.stream("POST", f"{url}/v1/chat/completions", json=asked) as reply:
            late = post(url, LONG)
            lines = [line for line in reply.iter_lines() if line]
        deadline = time.monotonic() + 10
        while model.engine.has_work:  # it is given up between two ids, after it was told
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert late.status_code == 504
    assert late.json()["error"]["code"] == "timeout"
    assert "more than 1 seconds" in json.loads(lines[-1].removeprefix("data: "))["error"]["message"]


def test_a_key_and_the_servers_name_are_asked_for():
    loaded = tiny_loaded()
    guarding = Guarding(api_key="s3cret", hosts=frozenset({"127.0.0.1"}))
    models = [served(loaded, "tiny", template="inst")]
    with running(models, ServerSettings(guarding)) as url:
        for key in ("", "Bearer", "Bearer s3cre", "Basic s3cret", "Bearer \xff"):
            reply = httpx.get(f"{url}/v1/models", headers={"authorization": key.encode("latin-1")})
            assert reply.status_code == 401
            assert reply.json()["error"]["code"] == "invalid_api_key"
        for path in ("/metrics", "/report", "/openapi.json", "/v1/nothing"):
            assert httpx.get(url + path).status_code == 401
        assert httpx.get(f"{url}/health").status_code == 200
        with openai.OpenAI(base_url=f"{url}/v1", api_key="s3cret") as client:
            assert client.models.list().data[0].id == "tiny"
        with (
            openai.OpenAI(base_url=f"{url}/v1", api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError),
        ):
            client.models.list()
        missing = httpx.get(f"{url}/report", headers={"authorization": "Bearer s3cret"})
        assert missing.status_code == 404
        told = missing.json()["error"]["message"]
        assert told.startswith("no report is served: `biddable compare BASE RUN --out RUN` puts")
        elsewhere = httpx.get(f"{url}/health", headers={"host": "evil.example"})
        assert elsewhere.status_code == 403
