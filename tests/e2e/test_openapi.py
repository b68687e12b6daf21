"""The description of the proof pages, held against both ports of a real proxy, with all that lies before the pages."""

from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from tests.e2e.support.processes import TOKEN, Proxy


@pytest.mark.parametrize("side", [False, True])
@pytest.mark.parametrize("path", ["/", "/ready", "/v1/signature/{id}"])
def test_proof_pages_on_both_ports_conform_to_the_openapi_description(proxy: Proxy, path: str, side: bool) -> None:
    base = proxy.side_url if side else proxy.url
    operation = schemathesis.openapi.from_url(f"{base}/openapi.json")[path]["GET"]

    @given(case=operation.as_strategy(generation_mode=GenerationMode.POSITIVE))
    @settings(
        max_examples=15,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        headers = {"Authorization": f"Bearer {TOKEN}"}
        case.call_and_validate(headers=headers, excluded_checks=[negative_data_rejection])

    ask()
