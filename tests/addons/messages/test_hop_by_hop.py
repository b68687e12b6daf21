import pytest

from addons.messages.hop_by_hop import end_to_end, is_keep_alive

HOP_BY_HOP = ["Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "TE", "Trailer", "upgrade"]


@pytest.mark.parametrize("name", HOP_BY_HOP)
def test_end_to_end_removes_hop_by_hop_headers(name: str) -> None:
    kept = [(b"A", b"1"), (b"Transfer-Encoding", b"chunked"), (b"a", b"2")]
    fields = [kept[0], (name.encode(), b"x"), kept[1], kept[2]]
    assert end_to_end(fields) == tuple(kept)


def test_end_to_end_removes_headers_named_in_connection() -> None:
    fields = [(b"Connection", b"close, X-Foo"), (b"x-foo", b"1"), (b"X-Bar", b"2"), (b"connection", b" x-BAR ,,")]
    assert end_to_end([*fields, (b"X-Foobar", b"3")]) == ((b"X-Foobar", b"3"),)


def test_end_to_end_keeps_framing_and_host_headers_named_in_connection() -> None:
    kept = ((b"Host", b"x"), (b"Content-Length", b"5"), (b"Transfer-Encoding", b"chunked"))
    assert end_to_end([(b"Connection", b"host, content-length, Transfer-Encoding"), *kept]) == kept


@pytest.mark.parametrize(
    ("version", "connection", "kept"),
    [
        (b"HTTP/1.1", None, True),
        (b"HTTP/1.1", b"keep-alive", True),
        (b"HTTP/1.1", b"Keep-Alive, CLOSE", False),
        (b"HTTP/1.1", b"closed", True),
        (b"HTTP/1.0", None, False),
        (b"HTTP/1.0", b"keep-alive", False),
    ],
)
def test_is_keep_alive_follows_the_http_version_and_the_connection_header(
    version: bytes, connection: bytes | None, kept: bool
) -> None:
    fields = [] if connection is None else [(b"Connection", connection)]
    assert is_keep_alive(version, fields) is kept
