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


def test_request_framing_of_an_unmodified_request_is_kept_and_reports_no_change() -> None:
    fields = ((b"Host", b"x"), (b"content-length", b"%d" % len(BODY)), (b"Content-Type", b"application/json"))
    framing, request = received(*fields)
    assert not framing.frame(request, streams=False)
    assert request.headers.fields == fields


def test_request_framing_modified_body_gets_its_length_and_reports_a_change() -> None:
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
def test_request_framing_modified_target_method_or_content_header_reports_a_change(
    change: Callable[[http.Request], None],
) -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    change(request)
    assert framing.frame(request, streams=False)


def test_request_framing_other_added_header_reports_no_change() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    request.headers["x-rule"] = "1"
    assert not framing.frame(request, streams=False)


def test_request_framing_streamed_body_keeps_the_framing_received() -> None:
    framing, request = received((b"Transfer-Encoding", b"chunked"), (b"Host", b"x"))
    request.headers["content-length"] = "7"
    del request.headers["transfer-encoding"]
    assert not framing.frame(request, streams=True)
    assert request.headers.fields == ((b"Host", b"x"), (b"Transfer-Encoding", b"chunked"))


def test_request_framing_of_a_retry_equals_that_of_the_first_attempt() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)))
    request.data.content = BODY + b" "
    assert framing.frame(request, streams=False)
    request.data.content = None
    assert not framing.frame(request, streams=False)
    assert request.headers["content-length"] == str(len(BODY) + 1)


def test_request_framing_length_changing_pipeline_is_framed_by_chunks() -> None:
    framing, request = received((b"Content-Length", b"%d" % len(BODY)), (b"Host", b"x"))
    pipeline = BodyPipeline()
    pipeline.changes_length = True
    request.stream = pipeline
    assert not framing.frame(request, streams=True)
    assert "content-length" not in request.headers
    assert request.headers["transfer-encoding"] == "chunked"
