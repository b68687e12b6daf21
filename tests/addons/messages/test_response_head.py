"""Which parts of an upstream response's head are sent to the client."""

import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from addons.messages.response_head import client_url, for_next_hop
from tests.addons.conftest import head

REQUEST = tutils.treq(host="vllm", port=8000, scheme=b"http", path=b"/tokenize?a=b", authority=b"")


def passed_on(answer: http.Response, request: http.Request = REQUEST) -> list[tuple[bytes, bytes]]:
    asked = client_url(tutils.treq(path=b"/v1/tokenize?a=b", headers=((b"host", b"proxy:1"),), authority=b""), "http")
    return list(for_next_hop(answer, request, asked).headers.fields)


@pytest.mark.parametrize("status", [200, 101, 404, 503])
@pytest.mark.parametrize("name", ["Alt-Svc", "alt-svc", "Set-Cookie", "SET-COOKIE2", "X-Receipt-Id"])
def test_response_head_drops_headers_that_are_not_for_clients(status: int, name: str) -> None:
    kept = [(b"Content-Type", b"application/json"), (b"x-request-id", b"r")]
    answer = http.Response.make(status, b"", [kept[0], (name.encode(), b"x"), (name.encode(), b"y"), kept[1]])
    came = answer.headers.fields
    assert [field for field in passed_on(answer) if field[0].lower() != b"content-length"] == kept
    assert answer.headers.fields == came, "the original is what the connection goes by"


def test_response_head_with_nothing_to_change_is_returned_as_the_same_object() -> None:
    answer = head(200, content_type="application/json")
    assert for_next_hop(answer, REQUEST, client_url(REQUEST, "http")) is answer


@pytest.mark.parametrize("status", [201, 307])
def test_response_head_location_and_content_location_are_rewritten_for_the_client(status: int) -> None:
    fields = [
        (b"Location", b"http://vllm:8000/tokenize/"),
        (b"X-Location", b"http://vllm:8000/x"),
        (b"content-LOCATION", b"//vllm:8000/x"),
        (b"Location", b"http://elsewhere/"),
        (b"Set-Cookie", b"a=b"),
    ]
    assert passed_on(http.Response.make(status, b"", fields))[:4] == [
        (b"Location", b"http://proxy:1/v1/tokenize/"),
        (b"X-Location", b"http://vllm:8000/x"),
        (b"content-LOCATION", b"http://proxy:1/x"),
        (b"Location", b"http://elsewhere/"),
    ]


@pytest.mark.parametrize(
    ("authority", "host", "expected"),
    [(b"", b"proxy:1", b"proxy:1"), (b"chat.example", b"proxy:1", b"chat.example"), (b"", None, b"")],
    ids=["Host", ":authority, or an absolute target", "neither"],
)
def test_response_head_client_address_is_the_authority_or_else_the_host(
    authority: bytes, host: bytes | None, expected: bytes
) -> None:
    headers = () if host is None else ((b"HOST", host),)
    request = tutils.treq(path=b"/v1/x?y", headers=headers, authority=authority)
    asked = client_url(request, "https")
    assert (asked.scheme, asked.authority, asked.path) == (b"https", expected, b"/v1/x")
