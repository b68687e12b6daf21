"""Faults of upstreams, by name; and a script that responds with the fault that a request's `X-Fault` header names.

What must not be in any log has `CANARY` in it.
"""

import gzip
import time
from collections.abc import Callable, Mapping
from itertools import repeat

from tests.e2e.support.scripted_upstream import LAST_CHUNK, SSE_HEAD, Peer, chunk, json_response

CANARY = b"XCANARYX"
ID = b"chatcmpl-faulty"
BODY = b'{"id":"%s","choices":["%s"]}' % (ID, CANARY)
EVENT = b"data: " + BODY + b"\n\n"
ODD_BODY = b'{"id":"chatcmpl-odd","choices":["%s"]}' % CANARY
ODD_EVENT = b"data: " + ODD_BODY + b"\n\n"
DONE = b"data: [DONE]\n\n"

Act = Callable[[Peer], None]


def sending(data: bytes) -> Act:
    return lambda peer: peer.send(data)


def _head(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return b"\r\n".join([status, b"Content-Type: application/json", *lines, b"", b""])


def _sized(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK", body: bytes = BODY) -> bytes:
    return _head(b"Content-Length: %d" % len(body), *lines, status=status) + body


def _odd(*lines: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    return _sized(*lines, status=status, body=ODD_BODY)


def _json(body: bytes) -> bytes:
    return json_response(body)


def _sse(*pieces: bytes) -> bytes:
    return SSE_HEAD + b"".join(map(chunk, pieces)) + LAST_CHUNK


def _reset(data: bytes) -> Act:
    def act(peer: Peer) -> None:
        peer.send(data)
        peer.reset()

    return act


def _endless(beginning: bytes, more: bytes) -> Act:
    def act(peer: Peer) -> None:
        peer.send(beginning)
        peer.send_for_ever(more)

    return act


def _silent(peer: Peer) -> None:
    peer.wait_closed()


def _left_open(data: bytes) -> Act:
    def act(peer: Peer) -> None:
        peer.send(data)
        peer.wait_closed()

    return act


def _dripping(data: bytes, seconds: float) -> Act:
    def act(peer: Peer) -> None:
        for byte in data:
            time.sleep(seconds)
            try:
                peer.send(bytes([byte]))
            except ConnectionError:
                return

    return act


_CHUNKED = _head(b"Transfer-Encoding: chunked")
_BAD_STATUS = [b"abc", b"000", b"099", b"600", b"999", b"20", b"2000", b"+200", b"2_0", b""]

UNREADABLE: Mapping[str, Act] = {
    "nothing at all": sending(b""),
    "a reset": _reset(b""),
    "half a status line": sending(b"HTTP/1."),
    "half a head": sending(b"HTTP/1.1 200 OK\r\nX: " + CANARY),
    "half a head, reset": _reset(b"HTTP/1.1 200 OK\r\nX: " + CANARY),
    "garbage": sending(b"\x16\x03\x01\x00" + CANARY + b"\xff\r\n\r\n"),
    "an empty line first": sending(b"\r\n" + _sized()),
    "a body without a head": sending(BODY + b"\r\n\r\n"),
    "another protocol": sending(_sized(status=b"HTTP/2.0 200 OK")),
    "HTTP/0.9": sending(_sized(status=b"HTTP/0.9 200 OK")),
    "a version of two digits": sending(_sized(status=b"HTTP/1.11 200 OK")),
    **{f"status {bad.decode()!r}": sending(_sized(status=b"HTTP/1.1 %s Oh" % bad)) for bad in _BAD_STATUS},
    "a CR in the reason": sending(_sized(status=b"HTTP/1.1 200 O\rX-Injected: 1")),
    "a NUL in the reason": sending(_sized(status=b"HTTP/1.1 200 O\0")),
    "no colon": sending(_sized(CANARY)),
    "no name": sending(_sized(b": " + CANARY)),
    "white space before the colon": sending(_sized(b"X : " + CANARY)),
    "a CR in a field": sending(_sized(b"X: " + CANARY + b"\rX-Injected: 1")),
    "a NUL in a field": sending(_sized(b"X: " + CANARY + b"\0")),
    "a folded field": sending(_sized(b"X: " + CANARY, b" folded")),
    "a first field that is folded": sending(b"HTTP/1.1 200 OK\r\n X: " + CANARY + b"\r\n\r\n"),
    "length and chunked": sending(_sized(b"Transfer-Encoding: chunked")),
    "two lengths": sending(_sized(b"Content-Length: 1")),
    "the same length twice": sending(_sized(b"Content-Length: %d" % len(BODY))),
    "lengths in a list": sending(_head(b"Content-Length: 2, 2") + b"{}"),
    **{
        f"length {bad[:5].decode()}": sending(_head(b"Content-Length: " + bad) + BODY)
        for bad in (b"-1", b"+5", b"0x10", b"5 5", b"1e3", CANARY)
    },
    "two codings": sending(_head(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") + LAST_CHUNK),
    "an unknown coding": sending(_head(b"Transfer-Encoding: x" + CANARY) + LAST_CHUNK),
    "chunked before 1.1": sending(_head(b"Transfer-Encoding: chunked", status=b"HTTP/1.0 200 OK") + LAST_CHUNK),
    "a field without an end": _endless(b"HTTP/1.1 200 OK\r\nX: ", CANARY * 1000),
    "fields without an end": _endless(b"HTTP/1.1 200 OK\r\n", b"X: " + CANARY + b"\r\n"),
    "a large head": sending(_sized(b"X: " + CANARY * 10_000)),
    "a head of many lines": sending(_sized(*repeat(b"X: y", 300))),
    "interim answers without an end": _endless(b"", b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n"),
    "a change of protocol": sending(b"HTTP/1.1 101 Oh\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n" + CANARY),
}
"""Responses for which the client must get only a 502."""

LATE: Mapping[str, Act] = {
    "silence": _silent,
    "a head in drips": _dripping(_sized(), 0.1),
    "interim answers in drips": _dripping(b"HTTP/1.1 100 Continue\r\n\r\n" * 5, 0.1),
}
"""Responses that do not begin in time."""

BROKEN: Mapping[str, Act] = {
    "too few bytes": sending(_head(b"Content-Length: %d" % (len(BODY) + 1)) + BODY),
    "too few bytes, reset": _reset(_head(b"Content-Length: %d" % (len(BODY) + 1)) + BODY),
    "a gigabyte that does not come": sending(_head(b"Content-Length: 1000000000") + BODY),
    "no last chunk": sending(_CHUNKED + chunk(BODY)),
    "half a last chunk": sending(_CHUNKED + chunk(BODY) + b"0\r\n"),
    "half a chunk": sending(_CHUNKED + chunk(BODY)[:-5]),
    "a chunk size that is none": sending(_CHUNKED + chunk(BODY) + b"no " + CANARY + b"\r\n\r\n"),
    "a negative chunk size": sending(_CHUNKED + chunk(BODY) + b"-5\r\n" + CANARY),
    "a chunk size of 21 digits": sending(_CHUNKED + chunk(BODY) + b"0" * 20 + b"5\r\nhello\r\n" + LAST_CHUNK),
    "a chunk that is longer than its size": sending(_CHUNKED + b"5\r\n" + CANARY + b"\r\n" + LAST_CHUNK),
    "a chunk extension without an end": _endless(_CHUNKED + chunk(BODY) + b"5;", CANARY * 1000),
    "a chunk size without an end": _endless(_CHUNKED + chunk(BODY), b"0" * 1000),
    "trailers without an end": _endless(_CHUNKED + chunk(BODY) + b"0\r\n", b"X: " + CANARY + b"\r\n"),
    "a trailer that is none": sending(_CHUNKED + chunk(BODY) + b"0\r\n" + CANARY + b"\r\n\r\n"),
    "a stream that breaks off": sending(SSE_HEAD + chunk(EVENT)),
    "a stream that breaks off in an event": _reset(SSE_HEAD + chunk(EVENT)[:-9]),
    "a stream without its last chunk": sending(SSE_HEAD + chunk(EVENT) + chunk(DONE)),
    "a stream with garbage behind its end": sending(SSE_HEAD + chunk(EVENT) + chunk(DONE) + CANARY + b"\r\n\r\n"),
}
"""Responses that are cut short, and must be cut short for the client, too."""

_UNTIL_CLOSE = _head(b"Connection: close") + BODY
_GZIPPED = gzip.compress(BODY)

UNSIGNED: Mapping[str, tuple[Act, bytes]] = {
    "a body until the end of the connection": (sending(_UNTIL_CLOSE), BODY),
    "HTTP/1.0 until the end of the connection": (sending(_head(status=b"HTTP/1.0 200 OK") + BODY), BODY),
    "gzip though identity was asked for": (
        sending(_head(b"Content-Encoding: gzip", b"Content-Length: %d" % len(_GZIPPED)) + _GZIPPED),
        _GZIPPED,
    ),
    "a stream in gzip": (
        sending(_sse(gzip.compress(EVENT + DONE)).replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n", 1)),
        gzip.compress(EVENT + DONE),
    ),
    "a stream without its last event until the end of the connection": (
        sending(SSE_HEAD.replace(b"Transfer-Encoding: chunked", b"Connection: close") + EVENT),
        EVENT,
    ),
    "HTML": (sending(json_response(BODY).replace(b"application/json", b"text/html")), BODY),
    "an error in drips": (_dripping(json_response(BODY, "500 Oh"), 0.002), BODY),
}
"""Responses that are forwarded unchanged, and are not signed."""

_LONG = b"x" * 1_000_000
_DEEP = b"[" * 100_000 + b"]" * 100_000

SIGNED: Mapping[str, tuple[Act, bytes]] = {
    "interim answers": (sending(b"HTTP/1.1 100 Oh\r\n\r\nHTTP/1.1 103 Oh\r\nLink: x\r\n\r\n" + _odd()), ODD_BODY),
    "trailers": (sending(_CHUNKED + chunk(ODD_BODY) + b"0\r\nX-Trailer: %s\r\n\r\n" % CANARY), ODD_BODY),
    "no reason": (sending(_odd(status=b"HTTP/1.1 200")), ODD_BODY),
    "bare line feeds": (sending(_odd().replace(b"\r\n", b"\n")), ODD_BODY),
    "HTTP/1.0 with a length": (sending(_odd(status=b"HTTP/1.0 200 OK")), ODD_BODY),
    "chunk extensions": (sending(_CHUNKED + chunk(ODD_BODY).replace(b"\r\n", b";x=y\r\n", 1) + LAST_CHUNK), ODD_BODY),
    "too many bytes": (sending(_odd() + CANARY), ODD_BODY),
    "a second answer that nobody has asked for": (sending(_odd() * 2), ODD_BODY),
    "an id that is a number": (sending(_json(b'{"id":5}')), b'{"id":5}'),
    "an id that is empty": (sending(_json(b'{"id":""}')), b'{"id":""}'),
    "an id that is half a character": (sending(_json(rb'{"id":"\ud800"}')), rb'{"id":"\ud800"}'),
    "an id that is long": (sending(_json(b'{"id":"%s"}' % _LONG)), b'{"id":"%s"}' % _LONG),
    "an id in a stream that is long": (
        sending(_sse(b'data: {"id":"%s"}\n\n' % _LONG, DONE)),
        b'data: {"id":"%s"}\n\n' % _LONG + DONE,
    ),
    "JSON that is deep": (sending(_json(b'{"x":%s}' % _DEEP)), b'{"x":%s}' % _DEEP),
    "JSON in a stream that is deep": (
        sending(_sse(b'data: {"id":%s}\n\n' % _DEEP, DONE)),
        b'data: {"id":%s}\n\n' % _DEEP + DONE,
    ),
    "JSON that is none": (sending(_json(b'{"id":"\xff\0')), b'{"id":"\xff\0'),
    "a stream that is no UTF-8": (sending(_sse(b"data: \xff\xfe\0\n\n", DONE)), b"data: \xff\xfe\0\n\n" + DONE),
    "a stream without data": (sending(_sse(b": x\n\n\nid: 1\n\n", DONE)), b": x\n\n\nid: 1\n\n" + DONE),
    "a stream without its last event": (sending(_sse(ODD_EVENT)), ODD_EVENT),
    "a stream that goes on behind its last event": (
        sending(_sse(ODD_EVENT, DONE, EVENT * 2000)),
        ODD_EVENT + DONE + EVENT * 2000,
    ),
    "a stream that is left open behind its last event": (
        _left_open(SSE_HEAD + chunk(ODD_EVENT) + chunk(DONE)),
        ODD_EVENT + DONE,
    ),
    "a stream without anything": (sending(_sse()), b""),
    "a line without an end": (sending(_sse(_LONG, b"\n\n", DONE)), _LONG + b"\n\n" + DONE),
    "a stream until the end of the connection": (
        sending(SSE_HEAD.replace(b"Transfer-Encoding: chunked", b"Connection: close") + ODD_EVENT + DONE),
        ODD_EVENT + DONE,
    ),
}  # fmt: skip
"""Unusual but valid responses: they are forwarded unchanged, and are signed."""

EARLY: Mapping[str, bytes] = {
    "with a length": json_response(BODY, "413 Too Much"),
    "chunked": _CHUNKED + chunk(BODY) + LAST_CHUNK,
    "until the end of the connection": _head(status=b"HTTP/1.1 413 Too Much") + BODY,
}
"""Responses before the end of the request."""

_ACTS: dict[str, Act] = {
    **UNREADABLE,
    **LATE,
    **BROKEN,
    **{name: act for table in (UNSIGNED, SIGNED) for name, (act, _) in table.items()},
}


def faulty(peer: Peer) -> None:
    """Respond with the requested fault, and close; without one, respond properly to every request."""
    while (head := peer.read_head()) is not None:
        early = EARLY.get(head.header("x-early") or "")
        if early is not None:
            peer.send(early)
            if head.header("x-closes"):
                peer.finish()
            else:
                peer.wait_closed()
            return
        peer.read_body(head)
        if (wish := head.header("x-fault")) is not None:
            _ACTS[wish](peer)
            return
        peer.send(json_response(b'{"id":"fine"}'))
