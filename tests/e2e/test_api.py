"""The whole API by its schema, as each role: no request causes an error, and no role exceeds its permissions.

API_CASES is the number of requests per role; `make api` sends ten thousand.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis import Case
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok
from starlette.testclient import TestClient

from clients import PASSWORD, add_accounts
from custodes.accounts.roles import Permission, Role
from harness import MonitorHarness, look_ups

CASES = int(os.environ.get("API_CASES", "300"))
NAME = "Wilhelmina"

pytestmark = pytest.mark.timeout(60 + CASES)


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitorHarness]:
    """A monitor with findings, accounts and an audit trail."""
    bench = MonitorHarness(tmp_path_factory.mktemp("api"))
    bench.feed(look_ups([NAME], [f"s{n}" for n in range(200)]))
    add_accounts(bench)
    yield bench
    bench.close()


@pytest.mark.parametrize("role", [*Role, None])
def test_any_request_is_answered_correctly(bench: MonitorHarness, role: Role | None) -> None:
    client = TestClient(bench.app, base_url="http://custodes")
    client.post("/sign-in", data={"name": "the-viewer", "password": PASSWORD})
    document = client.get("/api/v1/openapi.json").json()
    client.cookies.clear()
    if role is not None:
        client.post("/sign-in", data={"name": f"the-{role}", "password": PASSWORD})
    operations = [
        result.ok()
        for result in schemathesis.openapi.from_dict(document).get_all_operations()
        if isinstance(result, Ok)
    ]
    assert len(operations) == sum(len(each) for each in document["paths"].values())
    checks: Any = CHECKS.get_by_names(
        ["not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance"]
    )
    may_triage = role is not None and Permission.TRIAGE in role.permissions
    may_know = role is not None and Permission.REVEAL in role.permissions
    finding = bench.store.page().findings[0].id

    def send(case: Case[Any]) -> None:
        if "finding_id" in case.path_parameters and hash(str(case.query)) % 2:
            case.path_parameters["finding_id"] = finding
        arguments = case.as_transport_kwargs(base_url="http://custodes")
        arguments.pop("cookies", None)
        response = client.request(**arguments)
        case.validate_response(response, checks=checks)
        if role is None:
            assert response.status_code in {401, 404, 405}, response.status_code
        # Every role may have saved views.
        is_own = role is not None and case.path.startswith("/api/v1/views")
        if case.method in {"POST", "DELETE"} and not may_triage and not is_own:
            assert response.status_code >= 400
        if not may_know:
            assert NAME not in response.text

    for operation in operations:
        quietly = settings(
            max_examples=max(1, CASES // len(operations)), deadline=None, suppress_health_check=list(HealthCheck)
        )
        quietly(given(case=operation.as_strategy())(send))()
