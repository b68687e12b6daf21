from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING
from wsgiref.validate import validator

import pytest
from mitmproxy import http

from addons.pages import wsgi
from tests.addons.conftest import MakeFlow

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIEnvironment


def test_wsgi_environ_follows_pep_3333(make_flow: MakeFlow) -> None:
    request = make_flow(b"body", path="/a%2Fb%C3%BC?x=%20&y", content_type="text/plain", x_one="1").request
    request.headers.add("x-two", "a")
    request.headers.add("x-two", "b")
    request.headers["content-length"] = "999"
    request.headers["x_one"] = "spoofed"
    environ = wsgi.environ_of(request, "10.0.0.1")
    assert environ["PATH_INFO"] == "/a/b\xc3\xbc"  # bytes as Latin-1
    assert environ["QUERY_STRING"] == "x=%20&y"
    assert (environ["CONTENT_LENGTH"], environ["CONTENT_TYPE"]) == ("4", "text/plain")
    assert environ["HTTP_X_TWO"] == "a,b"
    assert environ["HTTP_X_ONE"] == "1"
    assert environ["REMOTE_ADDR"] == "10.0.0.1"
    assert environ["wsgi.input"].read() == b"body"
    assert "HTTP_CONTENT_LENGTH" not in environ


class Parts:
    closed = False

    def __iter__(self) -> Iterator[bytes]:
        yield b"one "
        yield b"two"

    def close(self) -> None:
        Parts.closed = True


def test_wsgi_call_passes_the_wsgiref_validator(make_flow: MakeFlow) -> None:
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("418 I'm a teapot", [("Content-Type", "text/plain"), ("X-A", "\xe9")])
        return [b"one ", b"two"]

    request = make_flow(path="/x", method="GET").request
    request.headers.pop("content-length")
    response = wsgi.call(validator(app), wsgi.environ_of(request, "10.0.0.1"))
    assert (response.status_code, response.content) == (418, b"one two")
    assert response.headers.fields == ((b"Content-Type", b"text/plain"), (b"X-A", b"\xe9"))


def test_wsgi_call_closes_the_returned_iterable(make_flow: MakeFlow) -> None:
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        start_response("200 OK", [])
        return Parts()

    response = wsgi.call(app, wsgi.environ_of(make_flow().request, ""))
    assert isinstance(response, http.Response)
    assert response.content == b"one two"
    assert Parts.closed


def test_wsgi_call_propagates_an_application_error(make_flow: MakeFlow) -> None:
    def app(environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        raise RuntimeError("oh")

    with pytest.raises(RuntimeError):
        wsgi.call(app, wsgi.environ_of(make_flow().request, ""))
