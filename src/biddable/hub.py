"""Find out quickly whether the hub can be reached, so that a missing network is one clear error.

The hub's own clients ask again for half a minute, and tell every try.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

_ENDPOINT = "https://huggingface.co"
_TIMEOUT_S = 5


def hub_endpoint() -> str:
    """Name the hub's address: that of HF_ENDPOINT, if it is set."""
    return os.environ.get("HF_ENDPOINT") or _ENDPOINT


def hub_answers() -> bool:
    """Tell whether the hub may be asked and answers at all; it is tried once in a process."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and _answers(hub_endpoint())


@contextmanager
def asked_if_it_answers() -> Iterator[None]:
    """Let the hub's clients look into their cache alone while the hub does not answer."""
    from huggingface_hub import constants

    was = constants.HF_HUB_OFFLINE
    constants.HF_HUB_OFFLINE = not hub_answers()
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = was


def is_cached(name: str) -> bool:
    """Tell whether something of a model is in the hub's cache on this machine."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def model_card(name: str) -> str | None:
    """Read the README of a model: out of the cache, else of the hub; None if neither has it."""
    from huggingface_hub import try_to_load_from_cache

    cached = try_to_load_from_cache(name, "README.md")
    if isinstance(cached, str):
        return Path(cached).read_text(encoding="utf-8")
    if not hub_answers():
        return None
    import requests

    try:
        reply = requests.get(f"{hub_endpoint()}/{name}/raw/main/README.md", timeout=_TIMEOUT_S)
    except requests.RequestException:
        return None
    return reply.text if reply.ok else None


def why_no_answer() -> str:
    """Say why ``hub_answers`` is False."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE forbids asking the hub"
    return f"{hub_endpoint()} cannot be reached"


def not_on_hub(name: str) -> str:
    """Say that a model is not here and the hub not to be asked, and what to do."""
    return (
        f"{name}: is no folder here, nor whole in the hub's cache, and {why_no_answer()}. Check the"
        " connection (HF_ENDPOINT names a mirror), or name a local folder, or a model that needs"
        " no hub: mimic, smollm2."
    )


@cache
def _answers(endpoint: str) -> bool:
    import requests  # not above: 10 MB, and most runs never ask

    try:
        requests.head(endpoint, timeout=_TIMEOUT_S)  # any answer will do; proxies are heeded
    except requests.RequestException:
        return False
    return True
