from collections.abc import Callable

import pytest
from mitmproxy import http
from mitmproxy.test import tflow, tutils

from addons.exchange.exchanges import Exchanges
from addons.routing.routes import Router
from attest_web.metrics import Metrics
from attest_web.stores.signature_store import MemorySignatureStore

MakeFlow = Callable[..., http.HTTPFlow]


@pytest.fixture
def make_flow() -> MakeFlow:
    """Makes a flow with a request and without a response."""

    def make(
        body: bytes = b"", *, method: str = "POST", path: str = "/v1/chat/completions", **headers: str
    ) -> http.HTTPFlow:
        request = tutils.treq(method=method.encode(), path=path.encode(), headers=http.Headers(), content=body)
        request.headers["content-length"] = str(len(body))
        for name, value in headers.items():
            request.headers[name.replace("_", "-")] = value
        return tflow.tflow(req=request)

    return make


@pytest.fixture
def store() -> MemorySignatureStore:
    return MemorySignatureStore("demo", 60)


@pytest.fixture
def exchanges() -> Exchanges:
    return Exchanges(Router().route_of)


@pytest.fixture
def metrics() -> Metrics:
    return Metrics()


def head(status: int = 200, content_type: str = "application/json", **headers: str) -> http.Response:
    """An upstream response of which only the head has arrived."""
    response = tutils.tresp(status_code=status, headers=http.Headers(), content=None)
    response.headers["content-type"] = content_type
    response.headers["transfer-encoding"] = "chunked"
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response
