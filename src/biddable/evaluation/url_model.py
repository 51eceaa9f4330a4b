"""Let a server that speaks OpenAI's protocol answer items.

Which weights a server holds, nobody can tell from here; so its answers are kept for a day only. The
key is read from the environment, never shown, and sent over plain HTTP to this machine alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from biddable.errors import ConfigError, EvaluationError
from biddable.evaluation.answer_cache import AnswerCache, fill, key_of
from biddable.evaluation.asking import Answered, Asking, PromptForm, Tell
from biddable.evaluation.openai_form import read_choice, request_of
from biddable.evaluation.sample import Sample

KEY_VARIABLE = "BIDDABLE_API_KEY"
_CONNECT_S = 10.0
_REPLY_S = 300.0
_RETRIES = 4
_BACKOFF_S = 0.5
_RETRIED = (429, 500, 502, 503, 504)
_PARALLEL = 4
_KEPT_S = 24 * 3600.0
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class UrlModel:
    """A server's model as a source of answers; see ``AnswerSource``."""

    manifest: dict[str, Any] | None = None
    taught: PromptForm | None = None
    is_ready = False
    template: str | None = "server"

    def __init__(
        self,
        url: str,
        *,
        model_name: str | None = None,
        cache: AnswerCache | None = None,
        timeout_s: float = _REPLY_S,
    ) -> None:
        """Reach the server and find its model.

        Args:
            url: up to and with ``/v1``; ``#name`` at its end names the model.
            model_name: says the same; None for the server's only model.
            cache: where answers are kept; None keeps none.
            timeout_s: longest wait between two pieces of a reply, before it is asked again.

        Raises:
            ConfigError: the URL or the name of the model is not usable.
            EvaluationError: the server cannot be reached, or refuses.
        """
        address, _, named = url.partition("#")
        parts = urlsplit(address)
        if not parts.hostname or parts.username or parts.password:
            raise ConfigError(f"{parts.scheme}://...: expected http://HOST:PORT/v1 without a user.")
        self.url = address.rstrip("/")
        self.cache = cache
        self._timeout_s = timeout_s
        self._session = _session(is_here=parts.hostname in _LOOPBACK)
        key = os.environ.get(KEY_VARIABLE)
        if key:
            if parts.scheme != "https" and parts.hostname not in _LOOPBACK:
                raise ConfigError(
                    f"{self.url}: the key in {KEY_VARIABLE} would go over plain HTTP; use https, "
                    f"or unset {KEY_VARIABLE}."
                )
            self._session.headers["Authorization"] = f"Bearer {key}"
        self.described = self._find_model(model_name or named or None)
        self.name = self.source = f"{self.url}#{self.described['id']}"

    def answer(
        self, samples: Sequence[Sample], asking: Asking, *, tell: Tell
    ) -> list[Answered | None]:
        """Answer items, a few at a time.

        Raises:
            EvaluationError: the server does not answer, or refuses.
        """
        if asking.template not in (None, self.template):
            raise EvaluationError(
                f'{self.name}: template "{asking.template}" cannot be used; a server applies its '
                "own. Leave --template out."
            )
        tell("generate")
        named = {"model": self.described["id"]}
        payloads = [request_of(sample, asking) | named for sample in samples]

        def compute(places: list[int]) -> Iterator[tuple[int, Any]]:
            with ThreadPoolExecutor(_PARALLEL) as pool:
                replies = pool.map(lambda n: self.complete(payloads[n]), places)
                try:
                    yield from zip(places, replies, strict=True)
                finally:
                    pool.shutdown(cancel_futures=True)

        keys = [key_of(url=self.url, model=self.described, request=p) for p in payloads]
        found = fill(self.cache, keys, compute, max_age_s=_KEPT_S)
        return [Answered(row["text"], row["stopped"]) for row in found]

    def complete(self, payload: dict[str, Any]) -> dict[str, Any]:
        """Send one request and read its reply, keeping nothing.

        Args:
            payload: with ``messages`` for a chat, or ``prompt`` for a completion.

        Returns:
            ``text`` and ``stopped``.

        Raises:
            EvaluationError: the server does not answer, or refuses.
        """
        verb = "chat/completions" if "messages" in payload else "completions"
        return read_choice(self._call("POST", verb, payload))

    def _find_model(self, wanted: str | None) -> dict[str, Any]:
        """Ask which models there are; one that was named need not be listed."""
        listed = self._call("GET", "models", None, may_lack=wanted is not None).get("data")
        models = [m for m in listed or [] if isinstance(m, dict) and isinstance(m.get("id"), str)]
        ids = [m["id"] for m in models]
        if wanted is None and len(models) != 1:
            shown = ", ".join(ids[:20]) or "none"
            raise ConfigError(
                f"{self.url}: lists {len(models)} models ({shown}); choose one with --model-name."
            )
        found: dict[str, Any] = next(
            (m for m in models if wanted in (None, m["id"])), {"id": wanted}
        )
        # "created" of many servers is the time of the request
        return {name: value for name, value in found.items() if name != "created"}

    def _call(
        self, method: str, verb: str, payload: dict[str, Any] | None, *, may_lack: bool = False
    ) -> dict[str, Any]:
        where = f"{self.url}/{verb}"
        try:
            reply = self._session.request(
                method,
                where,
                json=payload,
                timeout=(_CONNECT_S, self._timeout_s),
                allow_redirects=False,
            )
        except requests.RequestException as error:
            raise EvaluationError(
                f"{where}: no answer ({_reason(error)}); is the server running there? "
                "Evaluate again and it goes on where it was."
            ) from error
        if may_lack and reply.status_code in (404, 405, 501):
            return {}
        if reply.status_code in (401, 403):
            raise EvaluationError(
                f"{where}: access refused ({reply.status_code}); put the key in {KEY_VARIABLE}."
            )
        if reply.status_code != 200:
            raise EvaluationError(
                f"{where}: answered {reply.status_code}: {reply.text[:300].strip()}"
            )
        try:
            found = reply.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise EvaluationError(
                f"{where}: no JSON object in the reply; expected a server of OpenAI's protocol, "
                "its URL up to and with /v1."
            )
        return found


def _session(*, is_here: bool) -> requests.Session:
    session = requests.Session()
    session.trust_env = not is_here  # no proxy stands before this machine
    retry = Retry(
        total=_RETRIES,
        backoff_factor=_BACKOFF_S,
        status_forcelist=_RETRIED,
        allowed_methods=None,
        raise_on_status=False,
        respect_retry_after_header=True,
    )
    for scheme in ("http://", "https://"):
        session.mount(scheme, HTTPAdapter(max_retries=retry, pool_maxsize=_PARALLEL))
    return session


def _reason(error: Exception) -> str:
    inner = error.args[0] if error.args else error
    inner = getattr(inner, "reason", inner)
    return f"{type(inner).__name__}: {inner}"[:200]
