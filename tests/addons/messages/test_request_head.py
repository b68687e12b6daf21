import re

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons.messages.request_head import MAX_HEAD, MAX_HEADER_LINES, InvalidRequestHead, head_size

GOOD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nX-Y:  a b\t\xe9 \r\n\r\n"


@pytest.mark.parametrize("behind", [b"", b"hello", b"\r\n\r\n", b"\n\n", b"\0"])
def test_request_head_ends_at_its_first_empty_line(behind: bytes) -> None:
    assert head_size(GOOD + behind) == len(GOOD)


def test_request_head_received_byte_by_byte_is_complete_at_its_last_byte() -> None:
    assert [head_size(GOOD[:size]) for size in range(len(GOOD))] == [0] * len(GOOD)


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET /?a=%2e%2e&b=;'\"\\^ HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET //a/../b HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        b"GET http://example.com:81/a HTTP/1.1\r\nHost: example.com:81\r\n\r\n",
        b"GET http://example.com HTTP/1.1\r\nHost: example.com\r\n\r\n",
        b"M-SEARCH / HTTP/1.1\r\nhOST: x\r\ntransfer-encoding:Chunked\t \r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999999999\r\n\r\n",
    ],
)
def test_request_head_in_a_valid_form_is_accepted(head: bytes) -> None:
    assert head_size(head) == len(head)


def with_lines(*lines: bytes, first: bytes = b"POST / HTTP/1.1\r\nHost: x") -> bytes:
    return b"\r\n".join([first, *lines, b"", b""])


@pytest.mark.parametrize(
    "head",
    [
        with_lines(b"Content-Length: 1", b"Transfer-Encoding: chunked"),
        with_lines(b"Content-Length: 1", b"content-length: 1"),
        with_lines(b"Content-Length: ", b"content-length: "),
        with_lines(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"),
        with_lines(b"Host: x"),
        with_lines(b"Content-Length: 1", first=b"POST / HTTP/1.1"),
        with_lines(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0\r\nHost: x"),
        *[with_lines(b"Content-Length: " + length) for length in (b"", b"+5", b"-5", b"5,5", b"0x5", b"05", b"5 5")],
        with_lines(b"Content-Length: " + b"9" * 19),
        *[
            with_lines(b"Transfer-Encoding: " + coding)
            for coding in (b"", b"xchunked", b"chunked, chunked", b"gzip, chunked", b"gzip", b"identity", b"chunked;a")
        ],
        with_lines(b"Transfer-Encoding: chunked\x0b"),
        with_lines(b"Transfer-Encoding : chunked"),
        with_lines(b" Transfer-Encoding: chunked"),
        with_lines(b"\tTransfer-Encoding: chunked"),
        with_lines(b"X: a", b" folded"),
        with_lines(b"X: a\nTransfer-Encoding: chunked"),
        with_lines(b"X: a\rTransfer-Encoding: chunked"),
        *[with_lines(b"X: a%cb" % control) for control in (0, 1, 8, 11, 12, 27, 127)],
        *[with_lines(b"X%cY: a" % control) for control in (0, 9, 32, 40, 127, 233)],
        with_lines(b": a"),
        with_lines(b"no colon"),
        *[
            with_lines(first=line + b"\r\nHost: x")
            for line in (
                b"get / HTTP/1.1",
                b"GET  / HTTP/1.1",
                b"GET /  HTTP/1.1",
                b"GET\t/ HTTP/1.1",
                b"GET / HTTP/1.1 ",
                b" GET / HTTP/1.1",
                b"GET /a b HTTP/1.1",
                b"GET  HTTP/1.1",
                b"GET /#a HTTP/1.1",
                b"GET /\0 HTTP/1.1",
                b"GET /\xe9 HTTP/1.1",
                b"GET a HTTP/1.1",
                b"GET * HTTP/1.1",
                b"OPTIONS * HTTP/1.1",
                b"CONNECT x:1 HTTP/1.1",
                b"GET x:1 HTTP/1.1",
                b"GET ftp://x/ HTTP/1.1",
                b"GET http://a@x/ HTTP/1.1",
                b"GET http://x?/health HTTP/1.1",
                b"GET http:///health HTTP/1.1",
                b"GET / HTTP/1.2",
                b"GET / HTTP/2.0",
                b"GET / http/1.1",
                b"GET /",
                b"GET",
                b"",
            )
        ],
        *[with_lines(first=b"GET / HTTP/1.1\r\nHost: " + host) for host in (b"a b", b"a/b", b"a@b", b"a,b", b"\xe9")],
        b"GET / HTTP/1.1\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\n\n",
        b"GET / HTTP/1.1\r\nHost: x\n",
        b"GET /\r\n",
        b"PRI * HTTP/2.0\r\n",
    ],
)
def test_request_head_in_an_invalid_or_ambiguous_form_is_refused(head: bytes) -> None:
    with pytest.raises(InvalidRequestHead) as refused:
        head_size(head)
    assert refused.value.status == 400


def status_of(received: bytes) -> int | None:
    try:
        head_size(received)
    except InvalidRequestHead as bad:
        return bad.status
    return None


def test_request_head_over_the_size_or_line_limit_gets_431() -> None:
    start = b"GET / HTTP/1.1\r\nHost: x\r\nX: "
    longest = start + b"a" * (MAX_HEAD - len(start) - 4) + b"\r\n\r\n"
    assert head_size(longest + b"body" * MAX_HEAD) == len(longest) == MAX_HEAD
    assert status_of(longest.replace(b": a", b": aa")) == 431
    assert status_of(b"G" * MAX_HEAD) is None
    assert status_of(b"G" * (MAX_HEAD + 1)) == 431
    most = [b"X: %d" % number for number in range(MAX_HEADER_LINES - 1)]
    assert status_of(with_lines(*most)) is None
    assert status_of(with_lines(*most, b"Y: y")) == 431


HOSTILE = st.sampled_from(
    [b"\r", b"\n", b"\r\n", b" ", b"\t", b":", b"\0", b"\x0b", b",", b"chunked", b"5", b"Host: y\r\n"]
)


@given(st.lists(st.tuples(st.integers(0, len(GOOD)), HOSTILE | st.binary(max_size=3), st.integers(0, 3)), max_size=4))
@example([])
def test_request_head_accepted_is_read_alike_by_h11(mutations: list[tuple[int, bytes, int]]) -> None:
    head = GOOD
    for at, inserted, removed in mutations:
        head = head[:at] + inserted + head[at + removed :]
    if status_of(head) is not None or (size := head_size(head)) == 0:
        return
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(head[:size])
    request = reader.next_event()
    assert isinstance(request, h11.Request)
    lines = re.split(rb"\r\n", head[:size])
    assert lines[0] == request.method + b" " + request.target + b" HTTP/" + request.http_version
    assert [value for _, value in request.headers] == [line.partition(b":")[2].strip(b" \t") for line in lines[1:-2]]
