"""Requests that the interface's own description allows, and others that it forbids: none of them breaks the server."""

from __future__ import annotations

import os
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable

from openvalle.server.errors import ErrorBody

CASES = int(os.environ.get("OPENVALLE_FUZZ", "2000"))  # `make fuzz` has 10,000


@pytest.mark.slow
def test_no_request_that_is_made_up_breaks_the_server(served) -> None:
    schemathesis = pytest.importorskip("schemathesis")
    described = schemathesis.openapi.from_url(f"{served.url}/openapi.json")
    operations = [found.ok() for found in described.get_all_operations()]
    assert len(operations) > 20
    statuses: dict[str, set[int]] = {}
    count = 0
    for operation in operations:
        for mode in schemathesis.GenerationMode:
            examples = -(-CASES // (2 * len(operations)))
            if not operation.body and not list(operation.iter_parameters()):
                examples = 1  # nothing in it can differ

            @settings(
                max_examples=examples,
                deadline=None,
                database=None,
                derandomize=True,
                suppress_health_check=list(HealthCheck),
            )
            @given(case=operation.as_strategy(mode))
            def check(case) -> None:
                nonlocal count
                count += 1
                answer = case.call(base_url=served.url, timeout=120)
                statuses.setdefault(case.operation.label, set()).add(answer.status_code)
                assert answer.status_code < 500, (case.as_curl_command(), answer.text)
                if answer.status_code >= 400:
                    assert set(answer.json()) == {"error"}
                    ErrorBody.model_validate(answer.json())

            with suppress(Unsatisfiable):  # of some addresses nothing can be wrong
                check()
    assert count >= CASES / 2
    assert 200 in statuses["POST /v1/audio/speech"] and 400 in statuses["POST /v1/audio/speech"]
    assert served.http().get("/ready").status_code == 200
