"""Let llama.cpp answer items from a GGUF file, in this process.

A file that this package wrote carries the run's own tokenizer and template, and is given the very
ids that the run folder is given. To any other, llama.cpp applies the chat template that it carries.
A loss on given text it cannot tell.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from biddable.data.encoding import encode_prompt
from biddable.data.templates import ChatTemplate, get_template
from biddable.errors import EvaluationError
from biddable.evaluation.answer_cache import AnswerCache, fill, key_of
from biddable.evaluation.asking import Answered, Asking, PromptForm, Tell, plain_text
from biddable.evaluation.openai_form import read_choice, request_of
from biddable.evaluation.sample import Sample
from biddable.manifest import hash_file
from biddable.models.gguf_file import read_gguf_facts
from biddable.models.llama_cpp import MAX_CONTEXT, LlamaCpp
from biddable.models.loading import control_text_of, template_of


class GgufModel:
    """A GGUF file under llama.cpp as a source of answers; see ``AnswerSource``."""

    is_ready = False

    def __init__(self, path: Path, *, cache: AnswerCache | None = None) -> None:
        """Read what the file says of itself; its weights are loaded when it is first asked.

        Raises:
            ConfigError: the extra is not installed.
            CheckpointError: it is no GGUF file.
        """
        self.name = self.source = str(path)
        self.cache = cache
        facts = read_gguf_facts(path)
        self._engine = LlamaCpp(path, context=min(MAX_CONTEXT, facts.context or MAX_CONTEXT))
        self.manifest, self._tokenizer = facts.manifest, facts.tokenizer
        self.template: str | None = "gguf" if facts.chat_template else None
        self.taught: PromptForm | None = None
        if facts.tokenizer is not None:
            self.template = template_of(facts.manifest, facts.tokenizer)
            is_taught = bool((facts.manifest or {}).get("template"))
            self.taught = "template" if is_taught else None

    def answer(
        self, samples: Sequence[Sample], asking: Asking, *, tell: Tell
    ) -> list[Answered | None]:
        """Answer items one by one, so that no answer depends on its neighbours.

        Raises:
            CheckpointError: llama.cpp cannot load the file.
            EvaluationError: the file has no chat template, or a prompt is too long.
        """
        self._check(asking)
        tell("generate")
        form = self._form(asking)
        requests = [self._request(sample, asking, form) for sample in samples]
        known = {"version": self._engine.version, "context": self._engine.context}
        if self.cache:
            known["file"] = hash_file(self.source)

        def compute(places: list[int]) -> Iterator[tuple[int, Any]]:
            for n in places:
                reply = self._ask(requests[n])
                if "error" in reply:
                    where, said = samples[n].source or samples[n].id, reply["error"]
                    raise EvaluationError(f"{where}: llama.cpp refuses it: {_message(said)}")
                yield n, read_choice(reply)

        keys = [key_of(model=known, request=request) for request in requests]
        found = fill(self.cache, keys, compute)
        return [
            Answered(form.read_answer(row["text"]) if form else row["text"], row["stopped"])
            for row in found
        ]

    def _form(self, asking: Asking) -> ChatTemplate | None:
        """Make the template that is applied here; None where llama.cpp applies its own, or none."""
        if self._tokenizer is None or asking.prompt_form != "template":
            return None
        control_text = control_text_of(self.manifest)
        name = asking.template or self.template
        return get_template(name, self._tokenizer, control_text=control_text)

    def _request(self, sample: Sample, asking: Asking, form: ChatTemplate | None) -> dict[str, Any]:
        request = request_of(sample, asking)
        tokenizer = self._tokenizer
        if tokenizer is None:
            return request
        if form is not None:
            ids = encode_prompt(sample.messages, form, tokenizer)
        else:
            text = plain_text(sample.instruction, asking)
            plain = tokenizer(text, add_special_tokens=False, split_special_tokens=True)
            start = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
            ids = [*start, *plain["input_ids"]]
        said = ("max_tokens", "temperature", "top_p", "seed")
        return {"prompt": ids, **{name: request[name] for name in said if name in request}}

    def _check(self, asking: Asking) -> None:
        if self._tokenizer is None and asking.template not in (None, "gguf"):
            raise EvaluationError(
                f'{self.name}: template "{asking.template}" cannot be used; llama.cpp applies the '
                "one that the file carries. Leave --template out."
            )
        has_none = self.template is None and asking.template is None
        if asking.prompt_form == "template" and has_none:
            raise EvaluationError(
                f"{self.name}: carries no chat template; ask it with --prompt-form bare or fewshot."
            )

    def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        # by itself llama.cpp draws from the 40 likeliest tokens, and from none that is rare
        whole = {"seed": 0, **request, "top_k": 0, "min_p": 0.0, "stream": False}
        call = self._engine.chat if "messages" in request else self._engine.complete
        return call(whole)


def _message(error: object) -> str:
    return str(error.get("message", error)) if isinstance(error, dict) else str(error)
