"""Calls a WSGI application (PEP 3333) with a request that mitmproxy has read."""

import io
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_to_bytes

from mitmproxy import http
from werkzeug.test import run_wsgi_app

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication


def environ_of(request: http.Request, client_host: str) -> dict[str, Any]:
    """The environment of a request.

    Args:
        request: The request with its whole body.
        client_host: Address of the client.
    """
    path, _, query = request.data.path.partition(b"?")
    body = request.raw_content or b""
    environ: dict[str, Any] = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(path).decode("latin-1"),
        "QUERY_STRING": query.decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "CONTENT_TYPE": request.headers.get("content-type", ""),
        "REMOTE_ADDR": client_host,
        "SERVER_NAME": request.host,
        "SERVER_PORT": str(request.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    for name, value in request.headers.fields:
        key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        # A name with an underscore would be confused with another header; servers drop such headers.
        if b"_" not in name and key not in ("HTTP_CONTENT_LENGTH", "HTTP_CONTENT_TYPE"):
            text = value.decode("latin-1")
            environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def call(app: "WSGIApplication", environ: dict[str, Any]) -> http.Response:
    """Run the application to its end; return its response.

    Args:
        app: The application. Its exceptions are passed through.
        environ: The environment of the request.
    """
    parts, status, headers = run_wsgi_app(app, environ, buffered=True)
    response = http.Response.make(int(status.split(" ", 1)[0]), b"".join(parts))
    response.headers = http.Headers([(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers])
    return response
