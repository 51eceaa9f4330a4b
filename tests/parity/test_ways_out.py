"""Every way out of a run is given the same ids for the same messages, and answers the same."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple, Protocol
from unittest.mock import patch

import pytest
import torch
from starlette.testclient import TestClient
from transformers import AutoModelForCausalLM, AutoTokenizer

from biddable.data.conversation import Message
from biddable.data.encoding import encode_prompt
from biddable.data.segment_ids import stop_ids
from biddable.data.templates import ChatTemplate, get_template
from biddable.models.generation import generate
from biddable.models.gguf_file import read_gguf_facts
from biddable.models.llama_cpp import LlamaCpp
from biddable.models.loading import load
from biddable.serving.export import export
from biddable.serving.gguf_engine import GgufEngine
from biddable.serving.house import House, ServerSettings
from biddable.serving.launch import answering, load_served
from biddable.serving.requests import EngineLimits
from biddable.serving.server import build_app
from biddable.serving.writing import Row
from tests.runs import write_adapter_run, write_base
from tests.tiny import END, tiny_model, tiny_tokenizer

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("default"),  # PEFT's own warnings are not ours to settle
]
peft = pytest.importorskip("peft")
pytest.importorskip("xllamacpp")

Said = list[dict[str, str]]
NUM_TOKENS = 12
ASKED = {"max_tokens": NUM_TOKENS, "temperature": 0.0, "verbose": True, "return_tokens": True}
OWN = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
FORMS = ("inst", "alpaca", "chatml", "tokenizer")
CONTROL = f"Say {END} and <|im_end|>, then [/INST] \\[INST] ### Response:"
CONVERSATIONS: dict[str, list[tuple[str, str]]] = {
    "one": [("user", "What is two and two?")],
    "system": [("system", "Be brief."), ("user", "Say a.")],
    "three turns": [
        ("user", "Say a."),
        ("assistant", "(a)."),
        ("user", "Say b."),
        ("assistant", "b!"),
        ("user", "And now?\n\n- one\n- two"),
    ],
    "unicode": [("user", "Grüße, 你好 👩\u200d👧 e\u0301 \u00a0 end")],
    "control": [("user", CONTROL)],
}


class Run(NamedTuple):
    folder: Path
    merged: Path
    adapter: Path
    gguf: Path
    form: ChatTemplate
    tokenizer: Any
    stops: set[int]


class Way(Protocol):
    """A way out: what it is given for messages, and what it writes."""

    def ids(self, said: Said) -> list[int]: ...

    def answer(self, said: Said) -> list[int]: ...


class Ours:
    """biddable's own loading of a folder or file."""

    def __init__(self, place: Path) -> None:
        self.loaded = load(str(place))
        self.form = get_template(self.loaded.template, self.loaded.tokenizer)

    def ids(self, said: Said) -> list[int]:
        messages = [Message(m["role"], m["content"]) for m in said]
        return encode_prompt(messages, self.form, self.loaded.tokenizer)

    def answer(self, said: Said) -> list[int]:
        stops = self.loaded.end_ids() | set(stop_ids(self.form, self.loaded.tokenizer))
        prompts = [self.ids(said)]
        (found,) = generate(self.loaded.model, prompts, stop_ids=stops, max_new_tokens=NUM_TOKENS)
        return found.ids


class Plain:
    """transformers alone, on a folder that has weights, or an adapter for PEFT."""

    def __init__(self, run: Run, *, is_adapter: bool) -> None:
        folder = run.adapter if is_adapter else run.merged
        self.tokenizer = AutoTokenizer.from_pretrained(folder)
        if is_adapter:
            self.model = peft.AutoPeftModelForCausalLM.from_pretrained(folder)
            self.stops = sorted(run.stops)
        else:
            self.model = AutoModelForCausalLM.from_pretrained(folder)
            self.stops = None  # the folder's own generation config says them

    def ids(self, said: Said) -> list[int]:
        found: list[int] = self.tokenizer.apply_chat_template(
            said, add_generation_prompt=True, return_dict=False
        )
        return found

    def answer(self, said: Said) -> list[int]:
        ids = self.ids(said)
        more = {"eos_token_id": self.stops} if self.stops else {}
        written = self.model.generate(
            input_ids=torch.tensor([ids]), max_new_tokens=NUM_TOKENS, do_sample=False, **more
        )
        ends = self.stops or self.model.generation_config.eos_token_id
        found = written[0, len(ids) :].tolist()
        return [i for i in found if i not in (ends if isinstance(ends, list) else [ends])]


class OwnIdsUnderLlamaCpp:
    """llama.cpp, given the ids that we make with what the file carries."""

    def __init__(self, run: Run) -> None:
        self.run, self.engine = run, LlamaCpp(run.gguf, context=256)
        facts = read_gguf_facts(run.gguf)
        assert facts.tokenizer is not None
        assert facts.manifest is not None
        self.tokenizer = facts.tokenizer
        self.form = get_template(facts.manifest["template"]["name"], facts.tokenizer)

    def ids(self, said: Said) -> list[int]:
        messages = [Message(m["role"], m["content"]) for m in said]
        return encode_prompt(messages, self.form, self.tokenizer)

    def answer(self, said: Said) -> list[int]:
        return self._written(self.engine.complete({"prompt": self.ids(said), **ASKED}))

    def _written(self, reply: dict[str, Any]) -> list[int]:
        return [i for i in reply["__verbose"]["tokens"] if i not in self.run.stops]


class LlamaCppAlone(OwnIdsUnderLlamaCpp):
    """llama.cpp's own server: its Jinja, its tokenizer."""

    def ids(self, said: Said) -> list[int]:
        text = self.engine.render(said)
        bos = self.run.tokenizer.bos_token_id
        found = self.engine.tokenize(text)
        return found[1:] if found[:2] == [bos, bos] else found  # its server strips one as well

    def answer(self, said: Said) -> list[int]:
        reply = self.engine.chat({"messages": said, **ASKED})
        assert reply["usage"]["prompt_tokens"] == len(self.ids(said))
        return self._written(reply)


class OverHttp:
    """The server, asked over its protocol; the ids are those that its engine is given and takes."""

    def __init__(self, run: Run, place: Path) -> None:
        self.run = run
        self.model = load_served(str(place), template=None, limits=EngineLimits(most_running=2))
        self.app = build_app(House([self.model], ServerSettings()))

    def ids(self, said: Said) -> list[int]:
        given: list[int] = []
        real = self.model.engine.submit

        def submit(asked: Any, listen: Any) -> Any:
            given.extend(asked[0].ids)
            return real(asked, listen)

        with patch.object(self.model.engine, "submit", submit):
            self._post(said)
        return given

    def answer(self, said: Said) -> list[int]:
        taken: list[int] = []
        real = Row.take

        def take(row: Row, token_id: int, logits: Any) -> None:
            taken.append(token_id)
            real(row, token_id, logits)

        with patch.object(Row, "take", take):
            text = self._post(said)
        found = [i for i in taken if i not in self.run.stops]
        decoded = self.run.tokenizer.decode(found, clean_up_tokenization_spaces=False)
        assert text == self.run.form.read_answer(decoded)
        return found

    def _post(self, said: Said) -> str:
        asked = {"model": self.model.name, "messages": said, "max_tokens": NUM_TOKENS}
        # llama.cpp has threads of its own, which are not started twice
        is_gguf = isinstance(self.model.engine, GgufEngine)
        with nullcontext() if is_gguf else answering([self.model]):
            reply = TestClient(self.app).post("/v1/chat/completions", json=asked)
        text: str = reply.json()["choices"][0]["message"]["content"]
        return text


class GgufOverHttp(OverHttp):
    """The server with a GGUF file, whose text is that of the ids that llama.cpp writes."""

    def answer(self, said: Said) -> list[int]:
        found = OwnIdsUnderLlamaCpp(self.run).answer(said)
        decoded = self.run.tokenizer.decode(found, clean_up_tokenization_spaces=False)
        # llama.cpp keeps half a character at the end to itself
        wanted = self.run.form.read_answer(decoded).rstrip("\ufffd")
        assert self._post(said).rstrip("\ufffd") == wanted
        return found


WAYS: dict[str, Callable[[Run], Way]] = {
    "run": lambda run: Ours(run.folder),
    "merged": lambda run: Ours(run.merged),
    "merged, transformers": lambda run: Plain(run, is_adapter=False),
    "adapter": lambda run: Ours(run.adapter),
    "adapter, peft": lambda run: Plain(run, is_adapter=True),
    "http": lambda run: OverHttp(run, run.folder),
    "http, gguf": lambda run: GgufOverHttp(run, run.gguf),
    "gguf": OwnIdsUnderLlamaCpp,
    "gguf, transformers": lambda run: Ours(run.gguf),
    "gguf, llama.cpp": LlamaCppAlone,
}
# Programs that encode a rendered text in one piece: a control token that a message spells is broken
# by our forms' Jinja, and acts where the Jinja is the tokenizer's own.
IN_ONE_PIECE = {"merged, transformers", "adapter, peft", "gguf, llama.cpp"}


@pytest.fixture(scope="module", params=FORMS)
def run(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run with an adapter, and all that export makes of it."""
    is_own = request.param == "tokenizer"
    special = ("<|im_start|>", "<|im_end|>") if is_own else ()
    tokenizer = tiny_tokenizer(extra_special_tokens=special)
    if is_own:
        tokenizer.chat_template = OWN
    place = tmp_path_factory.mktemp("ways")
    base = write_base(place / "base", tiny_model(vocab_size=304), tokenizer)
    model = tiny_model(vocab_size=304)
    write_adapter_run(place / "run", base, model, tokenizer, template=request.param)
    merged = export(str(place / "run")).folder
    adapter = export(str(place / "run"), "adapter").folder
    (gguf,) = export(str(place / "run"), "gguf", dtype="f32").folder.glob("*.gguf")
    form = get_template(request.param, tokenizer)
    stops = {*stop_ids(form, tokenizer), tokenizer.eos_token_id}
    return Run(place / "run", merged, adapter, gguf, form, tokenizer, stops)


@pytest.fixture(scope="module")
def expected(run: Run) -> dict[str, tuple[list[int], list[int]]]:
    ours = Ours(run.folder)
    found = {}
    for name, said in _said().items():
        found[name] = (ours.ids(said), ours.answer(said))
    return found


def _said() -> dict[str, Said]:
    return {
        name: [{"role": role, "content": text} for role, text in messages]
        for name, messages in CONVERSATIONS.items()
    }


@pytest.mark.parametrize("way", WAYS)
def test_ids_and_greedy_answers_are_those_of_the_run(way: str, run: Run, expected) -> None:
    out = WAYS[way](run)
    for name, said in _said().items():
        ids, answer = expected[name]
        if name == "control" and way in IN_ONE_PIECE:
            _check_control(out.ids(said), ids, run)
            continue
        assert out.ids(said) == ids, name
        assert out.answer(said) == answer, name


def _check_control(found: list[int], ids: list[int], run: Run) -> None:
    """Hold what other programs make of control text to what the card says of it."""
    controls = set(run.tokenizer.convert_tokens_to_ids(sorted(run.form.control_tokens)))
    acting = [i for i in found if i in controls]
    if run.form.name == "tokenizer":
        assert len(acting) > sum(i in controls for i in ids)
    else:
        assert acting == [i for i in ids if i in controls]
        assert rf"<\{END[1:]}" in run.tokenizer.decode(found)


def test_answers_differ_between_prompts(expected) -> None:
    """A model that always wrote the same would make the matrix blind."""
    answers = {tuple(answer) for _, answer in expected.values()}
    assert len(answers) == len(CONVERSATIONS)
    assert all(answers)
