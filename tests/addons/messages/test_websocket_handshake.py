import pytest
from mitmproxy import http
from mitmproxy.test import tutils
from wsproto.utilities import generate_accept_token

from addons.messages.websocket_handshake import Handshake, response_problem
from tests.support.frames import KEY


def request(**headers: str) -> http.Request:
    given = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": KEY,
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [(name.encode(), value.encode()) for name, value in given.items()]
    return tutils.treq(method=b"GET", headers=http.Headers(fields), content=b"")


@pytest.mark.parametrize(
    ("offered", "token", "kept"),
    [
        ("realtime, openai-insecure-api-key.s3cret, other", b"Bearer s3cret", "realtime, other"),
        ("openai-insecure-api-key.s3cret", b"Bearer s3cret", None),
        ("openai-insecure-api-key.a,openai-insecure-api-key.a", b"", None),
        ("openai-insecure-api-key.,x", b"Bearer ", "x"),
        (" , realtime ,", b"", "realtime"),
        ("Openai-Insecure-Api-Key.s3cret", b"Bearer s3cret", None),
    ],
)
def test_websocket_handshake_takes_the_token_out_of_the_subprotocols(
    offered: str, token: bytes, kept: str | None
) -> None:
    handshake = Handshake.read(request(Sec_WebSocket_Protocol=offered))
    assert handshake is not None
    assert handshake.authorization == token
    assert handshake.problem is None
    forwarded = tutils.treq(headers=http.Headers())
    handshake.write(forwarded)
    assert forwarded.headers.get("sec-websocket-protocol") == kept
    assert "s3cret" not in repr(handshake)


def test_websocket_handshake_reads_subprotocols_from_several_headers() -> None:
    asked = request()
    asked.headers.set_all("Sec-WebSocket-Protocol", ["realtime", "openai-insecure-api-key.s3cret, other"])
    handshake = Handshake.read(asked)
    assert handshake is not None
    assert handshake.authorization == b"Bearer s3cret"
    forwarded = tutils.treq(headers=http.Headers())
    handshake.write(forwarded)
    assert forwarded.headers["sec-websocket-protocol"] == "realtime, other"


@pytest.mark.parametrize("name", ["Sec-WebSocket-Version", "Sec-WebSocket-Key"])
def test_websocket_handshake_duplicate_version_or_key_is_a_problem(name: str) -> None:
    asked = request()
    asked.headers.set_all(name, [asked.headers[name]] * 2)
    handshake = Handshake.read(asked)
    assert handshake is not None
    assert handshake.problem is not None


def accepted(**headers: str) -> http.Response:
    """An upstream's 101, with other headers or without those that are empty."""
    given = {
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Accept": generate_accept_token(KEY.encode()).decode(),
    } | {name.replace("_", "-"): value for name, value in headers.items()}
    fields = [(name.encode(), value.encode()) for name, value in given.items() if value]
    return tutils.tresp(status_code=101, headers=http.Headers(fields), content=b"")


@pytest.mark.parametrize("headers", [{}, {"Connection": "keep-alive, upgrade"}, {"Upgrade": "WebSocket"}])
def test_websocket_handshake_accepts_a_valid_101_response(headers: dict[str, str]) -> None:
    assert response_problem(request(), accepted(**headers)) is None


@pytest.mark.parametrize("extension", ["permessage-deflate", "permessage-deflate; client_no_context_takeover", "x"])
@pytest.mark.parametrize("offered", [None, "permessage-deflate"])
def test_websocket_handshake_refuses_an_upstream_extension(extension: str, offered: str | None) -> None:
    """Compressed, what a client decodes would be something else than what was hashed."""
    handshake = Handshake.read(request(**({"Sec_WebSocket_Extensions": offered} if offered else {})))
    assert handshake is not None
    forwarded = tutils.treq(headers=http.Headers())
    handshake.write(forwarded)
    assert "sec-websocket-extensions" not in forwarded.headers
    problem = response_problem(forwarded, accepted(Sec_WebSocket_Extensions=extension))
    assert problem == "the upstream uses an extension that was not offered"


@pytest.mark.parametrize(
    ("headers", "problem"),
    [
        ({"Upgrade": "h2c"}, "not changed to WebSocket"),
        ({"Upgrade": ""}, "not changed to WebSocket"),
        ({"Connection": "keep-alive"}, "not changed to WebSocket"),
        ({"Sec_WebSocket_Accept": ""}, "not understood the handshake"),
        ({"Sec_WebSocket_Accept": "s3pPLMBiTxaQ9kYGzzhZRbK+xO0="}, "not understood the handshake"),
        ({"Sec_WebSocket_Protocol": "other"}, "subprotocol that was not offered"),
        ({"Content_Length": "5"}, "has a body"),
        ({"Transfer_Encoding": "chunked"}, "has a body"),
    ],
)
def test_websocket_handshake_refuses_an_invalid_101_with_its_reason(headers: dict[str, str], problem: str) -> None:
    asked = request(Sec_WebSocket_Key="AAAAAAAAAAAAAAAAAAAAAA==", Sec_WebSocket_Protocol="realtime")
    right = {"Sec_WebSocket_Accept": generate_accept_token(b"AAAAAAAAAAAAAAAAAAAAAA==").decode()}
    assert response_problem(asked, accepted(**right, Sec_WebSocket_Protocol="realtime")) is None
    found = response_problem(asked, accepted(**(right | headers)))
    assert found is not None
    assert problem in found


def test_websocket_handshake_refuses_a_101_without_an_upgrade_request() -> None:
    asked = request()
    del asked.headers["upgrade"]
    assert response_problem(asked, accepted()) == "the upstream changed the protocol without a request to do so"
