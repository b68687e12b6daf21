"""The corrected framing of requests, and which requests count as changed."""

from collections.abc import Callable

import pytest
from mitmproxy import http

from addons.bodies.pipeline import BodyPipeline
from addons.layers.stream.request_framing import RequestFraming

BODY = b'{"model":"m"}'


def received(*fields: tuple[bytes, bytes], body: bytes | None = BODY) -> tuple[RequestFraming, http.Request]:
    """A complete request."""
    request = http.Request.make("POST", "http://upstream:9000/v1/chat/completions", b"", http.Headers(fields))
    request.headers.fields = fields
    framing = RequestFraming()
    framing.head_came(request)
    framing.request_came(request)
    framing.body_came(body)
    request.data.content = body
    return framing, request


def test_a_request_that_was_not_touched_is_framed_as_it_came_and_has_not_changed() -> None:
    fields = ((b"Host", b"x"), (b"content-length", b"%d" % len(BODY)), (b"Content-Type", b"application/json"))
    framing, request = received(*fields)
    assert not framing.frame(request, streams=False)
    assert request.headers.fields == fields


def test_a_body_that_was_changed_gets_its_length_and_is_another_request() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    request.data.content = BODY + b" "
    assert framing.frame(request, streams=False)
    assert request.headers["content-length"] == str(len(BODY) + 1)


def set_path(request: http.Request) -> None:
    request.path = "/v1/embeddings"


def set_method(request: http.Request) -> None:
    request.method = "PUT"


def set_content_type(request: http.Request) -> None:
    request.headers["content-type"] = "text/plain"


def set_content_encoding(request: http.Request) -> None:
    request.headers["content-encoding"] = "gzip"


@pytest.mark.parametrize("change", [set_path, set_method, set_content_type, set_content_encoding])
def test_a_head_that_says_otherwise_where_it_goes_or_what_it_carries_is_another_request(
    change: Callable[[http.Request], None],
) -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    change(request)
    assert framing.frame(request, streams=False)


def test_another_field_is_no_other_request() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    request.headers["x-rule"] = "1"
    assert not framing.frame(request, streams=False)


def test_a_body_that_streams_is_framed_as_it_came_whatever_the_head_has_become() -> None:
    framing, request = received((b"Transfer-Encoding", b"chunked"), (b"Host", b"x"))
    request.headers["content-length"] = "7"
    del request.headers["transfer-encoding"]
    assert not framing.frame(request, streams=True)
    assert request.headers.fields == ((b"Host", b"x"), (b"Transfer-Encoding", b"chunked"))


def test_a_second_attempt_is_framed_as_the_first() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    request.data.content = BODY + b" "
    assert framing.frame(request, streams=False)
    request.data.content = None
    assert not framing.frame(request, streams=False)
    assert request.headers["content-length"] == str(len(BODY) + 1)


def test_a_body_that_streams_through_a_pipeline_that_changes_its_length_goes_in_chunks() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)), (b"Host", b"x"))
    pipeline = BodyPipeline()
    pipeline.changes_length = True
    request.stream = pipeline
    assert not framing.frame(request, streams=True)
    assert "content-length" not in request.headers
    assert request.headers["transfer-encoding"] == "chunked"
