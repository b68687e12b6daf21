"""The description, held against the pages by schemathesis: it asks all that is allowed, and more."""

from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from flask.testing import FlaskClient
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import negative_data_rejection

from attest_web.page_paths import FILES_PREFIX
from attest_web.pages.openapi import description
from tests.attest_web.conftest import AUTHORIZED

MakeClient = Callable[..., FlaskClient]
PATHS = description("1", attestation_public=False)["paths"]
POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
CASES = [
    (path, public, mode)
    for path, public in [*((path, False) for path in PATHS), ("/v1/attestation/report", True)]
    for mode in (POSITIVE, NEGATIVE)
    if mode is POSITIVE or "parameters" in PATHS[path]["get"]  # without, there is nothing to get wrong
]


def described(client: FlaskClient) -> schemathesis.BaseSchema:
    return schemathesis.openapi.from_wsgi("/openapi.json", client.application)


@pytest.mark.parametrize(("path", "public", "mode"), CASES)
def test_routes_match_their_openapi_description(
    make_client: MakeClient, path: str, public: bool, mode: GenerationMode
) -> None:
    operation = described(make_client(public=public))[path]["GET"]

    @given(case=operation.as_strategy(generation_mode=mode))
    @settings(
        max_examples=60,
        deadline=None,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case[Any]) -> None:
        # Parameters that no page knows are let pass; that wrong ones are not is tested in test_app.
        case.call_and_validate(headers=None if public else AUTHORIZED, excluded_checks=[negative_data_rejection])

    ask()


def test_openapi_describes_every_route(client: FlaskClient) -> None:
    pages = {str(rule) for rule in client.application.url_map.iter_rules()} - {FILES_PREFIX + "<name>"}
    assert {path.replace("{id}", "<anything:chat_id>") for path in PATHS} == pages


@pytest.mark.parametrize("query", ["", "?signing_algo=ecdsa", "?signing_algo=ed25519"])
def test_signature_responses_match_their_openapi_description(client: FlaskClient, query: str) -> None:
    """Which ids are known cannot be guessed from a description."""
    answer = client.get("/v1/signature/chatcmpl-123" + query, headers=AUTHORIZED)
    assert answer.status_code == 200
    described(client)["/v1/signature/{id}"]["GET"].validate_response(answer)
