"""Send whatever the server's own description allows, and what it does not: nothing breaks it."""

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, settings

from biddable.serving.house import ServerSettings
from tests.serving.served import running, served, tiny_loaded


@pytest.fixture(scope="module")
def described():
    model = served(tiny_loaded(dtype=torch.float32), "tiny", template="inst")
    with running([model], ServerSettings(max_new_tokens=4)) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


api = schemathesis.pytest.from_fixture("described")
QUIET = {"suppress_health_check": list(HealthCheck), "deadline": None, "derandomize": True}


@api.parametrize()
@settings(max_examples=20, **QUIET)
def test_nothing_breaks_the_server(case):
    hold(case)


@pytest.mark.slow
@api.parametrize()
@settings(max_examples=400, **QUIET)
def test_nothing_at_all_breaks_the_server(case):
    hold(case)


def hold(case):
    if isinstance(case.body, dict) and "model" in case.body:
        case.body["model"] = "tiny"  # any other name is refused before the rest is looked at
    response = case.call(timeout=60)
    assert response.status_code < 500, response.text
    if response.status_code >= 400:
        assert response.json()["error"]["message"]
