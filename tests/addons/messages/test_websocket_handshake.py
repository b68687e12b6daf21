import pytest
from mitmproxy import http
from mitmproxy.test import tutils

from addons.messages.websocket_handshake import Handshake
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
def test_the_token_is_told_from_the_subprotocols(offered: str, token: bytes, kept: str | None) -> None:
    handshake = Handshake.read(request(Sec_WebSocket_Protocol=offered))
    assert handshake is not None
    assert handshake.authorization == token
    assert handshake.problem is None
    forwarded = tutils.treq(headers=http.Headers())
    handshake.write(forwarded)
    assert forwarded.headers.get("sec-websocket-protocol") == kept
    assert "s3cret" not in repr(handshake)


def test_subprotocols_may_come_in_several_headers() -> None:
    asked = request()
    asked.headers.set_all("Sec-WebSocket-Protocol", ["realtime", "openai-insecure-api-key.s3cret, other"])
    handshake = Handshake.read(asked)
    assert handshake is not None
    assert handshake.authorization == b"Bearer s3cret"
    forwarded = tutils.treq(headers=http.Headers())
    handshake.write(forwarded)
    assert forwarded.headers["sec-websocket-protocol"] == "realtime, other"


@pytest.mark.parametrize("name", ["Sec-WebSocket-Version", "Sec-WebSocket-Key"])
def test_what_must_be_there_once_may_not_be_there_twice(name: str) -> None:
    asked = request()
    asked.headers.set_all(name, [asked.headers[name]] * 2)
    handshake = Handshake.read(asked)
    assert handshake is not None
    assert handshake.problem is not None
