"""mitmproxy's messages at less cost: their interface behaves as mitmproxy's."""

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mitmproxy import http
from mitmproxy.net.http.http1 import read

from addons.messages.parsed_messages import (
    IndexedHeaders,
    ParsedRequest,
    ParsedResponse,
    read_request_head,
    read_response_head,
)

NAMES = st.sampled_from([b"Accept", b"accept", b"ACCEPT", b"x-a", b"X-B", b"cookie"])
FIELDS = st.lists(st.tuples(NAMES, st.binary(max_size=6)), max_size=8).map(tuple)
ASKED: list[Any] = ["accept", "Accept", b"ACCEPT", "x-a", "X-b", "nobody", "\udcff"]
REQUEST = [b"POST /v1/x?y HTTP/1.1", b"Host: a", b"X-A: 1", b"x-a:  2 "]
RESPONSE = [b"HTTP/1.1 200 OK then", b"Content-Length: 2", b"X-A: 1", b"x-a:  2 "]


def seen(headers: http.Headers) -> list[object]:
    found: list[object] = [headers.fields, bytes(headers), list(headers), list(headers.items(multi=True)), len(headers)]
    for name in ASKED:
        found += [name in headers, headers.get(name), headers.get(name, "none"), headers.get_all(name)]
        try:
            found.append(headers[name])
        except KeyError:
            found.append(KeyError)
    return found


def _set(headers: http.Headers, name: str) -> None:
    headers[name] = "new"


def _delete(headers: http.Headers, name: str) -> None:
    headers.pop(name, None)


def _add(headers: http.Headers, name: str) -> None:
    headers.add(name, "more")


def _set_all(headers: http.Headers, name: str) -> None:
    headers.set_all(name, ["1", "2"])


def _replace(headers: http.Headers, name: str) -> None:
    headers.fields = ((name.encode(), b"alone"),)


@given(
    FIELDS,
    st.lists(st.tuples(st.sampled_from([_set, _delete, _add, _set_all, _replace]), st.sampled_from(["accept", "X-A"]))),
)
def test_indexed_headers_equal_mitmproxys_after_any_changes(
    fields: tuple[tuple[bytes, bytes], ...], changes: list[tuple[Callable[[http.Headers, str], None], str]]
) -> None:
    ours, theirs = IndexedHeaders(fields), http.Headers(fields)
    assert seen(ours) == seen(theirs)
    for change, name in changes:
        change(ours, name)
        change(theirs, name)
        assert seen(ours) == seen(theirs)
    assert ours == theirs
    assert seen(ours.copy()) == seen(theirs)


def without_times(message: http.Message) -> dict[str, Any]:
    state: dict[str, Any] = message.get_state()
    return {name: value for name, value in state.items() if not name.startswith("timestamp")}


def test_a_request_head_is_read_as_mitmproxy_reads_it() -> None:
    ours, theirs = read_request_head(REQUEST), read.read_request_head(REQUEST)
    assert without_times(ours) == without_times(theirs)
    assert isinstance(ours, http.Request)
    assert ours.headers["x-a"] == "1, 2"


def test_a_response_head_is_read_as_mitmproxy_reads_it() -> None:
    ours, theirs = read_response_head(RESPONSE), read.read_response_head(RESPONSE)
    assert without_times(ours) == without_times(theirs)
    assert isinstance(ours, http.Response)
    assert ours.reason == "OK then"


@pytest.mark.parametrize(
    ("message", "kind"), [(read_request_head(REQUEST), ParsedRequest), (read_response_head(RESPONSE), ParsedResponse)]
)
def test_parsed_message_copy_is_equal_and_independent(message: http.Message, kind: type) -> None:
    trailers = message.trailers = http.Headers(a="b")
    copy = message.copy()
    assert type(copy) is kind
    assert copy.get_state() == message.get_state()
    copy.headers["x-a"] = "changed"
    assert copy.trailers is not None
    copy.trailers["a"] = "changed"
    assert (message.headers["x-a"], trailers["a"]) == ("1, 2", "b")


def test_parsed_request_state_survives_a_round_trip() -> None:
    request = read_request_head(REQUEST)
    assert http.Request.from_state(request.get_state()).get_state() == request.get_state()
