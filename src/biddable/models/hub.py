"""Find out quickly whether the hub can be reached, so that a missing network is one clear error.

The hub's own client asks again for a minute, and tells every try.
"""

from __future__ import annotations

import os
from functools import cache

import requests

_ENDPOINT = "https://huggingface.co"
_TIMEOUT_S = 5


def hub_endpoint() -> str:
    """Name the hub's address: that of HF_ENDPOINT, if it is set."""
    return os.environ.get("HF_ENDPOINT") or _ENDPOINT


def hub_answers() -> bool:
    """Tell whether the hub may be asked and answers at all; it is tried once in a process."""
    from huggingface_hub import constants

    return not constants.HF_HUB_OFFLINE and _answers(hub_endpoint())


def is_cached(name: str) -> bool:
    """Tell whether something of a model is in the hub's cache on this machine."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(name, "config.json"), str)


def not_on_hub(name: str) -> str:
    """Say that a model is not here and the hub not to be asked, and what to do."""
    from huggingface_hub import constants

    why = (
        "HF_HUB_OFFLINE forbids asking it"
        if constants.HF_HUB_OFFLINE
        else f"{hub_endpoint()} cannot be reached"
    )
    return (
        f"{name}: is no folder here, nor whole in the hub's cache, and {why}. Check the connection"
        " (HF_ENDPOINT names a mirror), or name a local folder, or a model that needs no hub:"
        " mimic, smollm2."
    )


@cache
def _answers(endpoint: str) -> bool:
    try:
        requests.head(endpoint, timeout=_TIMEOUT_S)  # any answer will do; proxies are heeded
    except requests.RequestException:
        return False
    return True
