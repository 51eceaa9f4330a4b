"""Send whatever the server's own description allows, and what it does not: nothing breaks it."""

import pytest
import schemathesis
import torch
from hypothesis import HealthCheck, given, settings

from biddable.serving.house import ServerSettings
from tests.serving.served import running, served, tiny_loaded


@pytest.fixture(scope="module")
def described():
    model = served(tiny_loaded(dtype=torch.float32), "tiny", template="inst")
    with running([model], ServerSettings(max_new_tokens=4)) as url:
        yield schemathesis.openapi.from_url(f"{url}/openapi.json")


@pytest.mark.parametrize("num_examples", [15, pytest.param(400, marks=pytest.mark.slow)])
def test_nothing_breaks_the_server(described, num_examples):
    seen = set()
    for found in described.get_all_operations():
        operation = found.ok()
        quiet = {"suppress_health_check": list(HealthCheck), "derandomize": True}

        @settings(max_examples=num_examples, deadline=None, **quiet)
        @given(case=operation.as_strategy())
        def hold(case):
            if isinstance(case.body, dict) and "model" in case.body:
                case.body["model"] = "tiny"  # any other name is refused before all else
            response = case.call(timeout=60)
            seen.add((case.path, response.status_code))
            assert response.status_code < 500, response.text
            if response.status_code >= 400:
                assert response.json()["error"]["message"]

        hold()
    assert ("/v1/chat/completions", 400) in seen
    assert {path for path, status in seen if status == 200} >= {"/v1/models", "/health"}
