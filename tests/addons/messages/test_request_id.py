import re

import pytest
from mitmproxy import http

from addons.messages.request_id import return_request_id, settle_request_id


def request(*given: bytes) -> http.Request:
    made = http.Request.make("GET", "http://x/")
    made.headers.fields = ((b"A", b"b"), *((b"x-Request-ID", value) for value in given))
    return made


def returned(of: http.Request | None) -> str:
    response = http.Response.make(200, b"", {"x-request-id": "of the upstream"})
    return_request_id(of, response)
    [found] = response.headers.get_all("x-request-id")
    return found


@pytest.mark.parametrize("given", [b"a", b"!" * 200, b'"~'])
def test_request_id_of_the_client_is_kept_if_valid(given: bytes) -> None:
    settled = request(given)
    before = settled.headers.fields
    settle_request_id(settled)
    assert settled.headers.fields == before
    assert returned(settled) == given.decode()


@pytest.mark.parametrize("given", [[], [b""], [b"a b"], [b"\xe9"], [b"a" * 201], [b"a", b"b"], [b"a\tb"]])
def test_request_id_missing_or_invalid_is_replaced(given: list[bytes]) -> None:
    settled = request(*given)
    settle_request_id(settled)
    [made] = settled.headers.get_all("x-request-id")
    assert re.fullmatch(r"[0-9a-f]{32}", made)
    assert settled.headers["a"] == "b"
    assert returned(settled) == made


def test_request_id_is_generated_for_the_response_to_an_unreadable_request() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", returned(None))
    assert returned(None) != returned(None)
