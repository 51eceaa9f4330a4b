"""A server that speaks OpenAI's protocol answers; its failures are told plainly."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from biddable.errors import ConfigError, EvaluationError
from biddable.evaluation import url_model
from biddable.evaluation.answer_cache import AnswerCache
from biddable.evaluation.runner import evaluate
from biddable.evaluation.scoring import score
from biddable.evaluation.url_model import UrlModel
from tests.evaluation.items import FRANCE, ITEMS, item


class StandIn:
    """What the server is to do, and what it was asked."""

    def __init__(self) -> None:
        self.models: Any = ["tiny"]
        self.failures: list[int] = []  # statuses to answer before it works
        self.body: bytes | None = None
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.keys: set[str | None] = set()
        self.url = ""

    def reply(self, path: str, request: dict[str, Any]) -> dict[str, Any]:
        if path == "/v1/models":
            return {"data": [{"id": name, "created": 1} for name in self.models]}
        if path == "/v1/chat/completions":
            said = " | ".join(m["content"] for m in request["messages"])
            message = {"role": "assistant", "content": f"heard {said}"}
            return {"choices": [{"message": message, "finish_reason": "stop"}]}
        return {"choices": [{"text": f"saw {request['prompt']}", "finish_reason": "length"}]}


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    monkeypatch.setattr(url_model, "_BACKOFF_S", 0.001)
    stand_in = StandIn()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.do_POST()

        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            request = json.loads(self.rfile.read(size) or b"{}")
            stand_in.requests.append((self.path, request))
            stand_in.keys.add(self.headers.get("Authorization"))
            status = stand_in.failures.pop(0) if stand_in.failures else 200
            found = json.dumps(stand_in.reply(self.path, request)).encode()
            body = found if stand_in.body is None or "models" in self.path else stand_in.body
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None: ...

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,))
    thread.start()
    stand_in.url = f"http://127.0.0.1:{httpd.server_port}/v1"
    yield stand_in
    httpd.shutdown()
    thread.join()
    httpd.server_close()


def outputs(model: UrlModel, **settings: Any) -> list[str]:
    return [o.output for o in evaluate(model, ITEMS[:2], max_new_tokens=9, **settings)]


def test_each_form_is_asked_in_its_own_way(server: StandIn) -> None:
    model = UrlModel(server.url)
    assert model.name == f"{server.url}#tiny"
    assert outputs(model) == [f"heard {sample.instruction}" for sample in ITEMS[:2]]
    path, request = server.requests[-1]
    assert path == "/v1/chat/completions"
    assert (request["model"], request["max_tokens"], request["temperature"]) == ("tiny", 9, 0.0)
    assert outputs(model, prompt_form="bare")[0] == f"saw {FRANCE.instruction}"
    shown = outputs(model, prompt_form="fewshot", shots=[("Say a.", "a")])[0]
    assert shown.startswith("saw Instruction: Say a.\nResponse: a\n\nInstruction: What is")


def test_figures_of_a_server(server: StandIn, tmp_path: Path) -> None:
    suite = tmp_path / "q.jsonl"
    suite.write_text(json.dumps({"question_id": 5, "turns": ["Write.", "Shorter."]}) + "\n")
    result = score(UrlModel(server.url), suite=f"mt_bench:{suite}", prompt_form="template",
                   out=tmp_path / "out")  # fmt: skip
    assert result["scores"]["answer_loss"] is None
    assert result["scores"]["stopped"]["rate"] == 1.0
    samples = [json.loads(s) for s in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    assert samples[1]["output"] == "heard Write. | heard Write. | Shorter."  # its own first answer
    assert samples[1]["sample"]["instruction"] == "Shorter."


def test_one_of_several_models_is_chosen(server: StandIn) -> None:
    server.models = ["a", "b"]
    with pytest.raises(ConfigError, match=r"lists 2 models \(a, b\); choose one with --model-name"):
        UrlModel(server.url)
    assert UrlModel(server.url, model_name="b").name == f"{server.url}#b"
    assert UrlModel(f"{server.url}#unlisted").name == f"{server.url}#unlisted"


def test_what_passes_is_tried_again(server: StandIn) -> None:
    model = UrlModel(server.url)
    server.failures = [503, 429]
    assert len(outputs(model)) == 2
    assert not server.failures


def test_what_does_not_pass_is_told(server: StandIn) -> None:
    model = UrlModel(server.url)
    server.failures = [503] * 50
    with pytest.raises(EvaluationError, match="chat/completions: answered 503"):
        outputs(model)
    server.failures = [400] * 2
    with pytest.raises(EvaluationError, match="answered 400"):
        outputs(model)
    server.failures = [401] * 2
    with pytest.raises(EvaluationError, match=r"access refused \(401\); put the key in BIDDABLE"):
        outputs(model)
    server.failures = []
    for body, problem in ((b"<html>", "no JSON object"), (b'{"choices": []}', "no choices")):
        server.body = body
        with pytest.raises(EvaluationError, match=problem):
            outputs(model)
    with pytest.raises(EvaluationError, match='template "inst" cannot be used'):
        outputs(model, template="inst")


def test_nobody_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(url_model, "_BACKOFF_S", 0.001)
    with pytest.raises(EvaluationError, match=r"127.0.0.1:9/v1/models: no answer .* running there"):
        UrlModel("http://127.0.0.1:9/v1")


def test_the_key_comes_from_the_environment_and_is_not_shown(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    UrlModel(server.url)
    assert server.keys == {None}
    monkeypatch.setenv("BIDDABLE_API_KEY", "s3cret")
    cache = AnswerCache(tmp_path)
    outputs(UrlModel(server.url, cache=cache))
    assert "Bearer s3cret" in server.keys
    cache.close()
    assert b"s3cret" not in (tmp_path / "answers.sqlite").read_bytes()
    with pytest.raises(ConfigError, match="would go over plain HTTP") as found:
        UrlModel("http://example.org/v1")
    assert "s3cret" not in str(found.value)


def test_answers_are_kept_for_a_day(
    server: StandIn, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    cache = AnswerCache(tmp_path)

    def asked() -> int:
        before = len(server.requests)
        outputs(UrlModel(server.url, cache=cache))
        return len(server.requests) - before - 1  # the list of models

    assert [asked(), asked()] == [2, 0]
    monkeypatch.setattr(url_model, "_KEPT_S", 0.0)
    assert asked() == 2


def test_what_was_answered_before_a_failure_is_kept(server: StandIn, tmp_path: Path) -> None:
    cache = AnswerCache(tmp_path)
    many = [item(str(n), f"Say {n}.", "") for n in range(12)]
    reply, count = server.reply, iter(range(1000))

    def failing(path: str, request: dict[str, Any]) -> dict[str, Any]:
        return {} if "models" not in path and next(count) >= 6 else reply(path, request)

    server.reply = failing  # type: ignore[method-assign]
    with pytest.raises(EvaluationError, match="no choices"):
        evaluate(UrlModel(server.url, cache=cache), many, prompt_form="bare")
    kept = cache.num_computed
    assert 1 <= kept <= 6
    server.reply = reply  # type: ignore[method-assign]
    evaluate(UrlModel(server.url, cache=cache), many, prompt_form="bare")
    assert cache.num_reused == kept
