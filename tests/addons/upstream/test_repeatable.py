"""Which requests may be sent a second time."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.routing.routes import find_route
from addons.upstream.repeatable import MAX_LOOKED_INTO, is_repeatable, stores
from tests.addons.conftest import MakeFlow


@pytest.mark.parametrize(
    ("method", "path", "body", "may_repeat"),
    [
        ("GET", "/v1/models", b"", True),
        ("GET", "/v1/files/x", b"", True),
        ("HEAD", "/v1/files/x", b"", True),
        ("DELETE", "/v1/files/x", b"", False),
        ("PUT", "/v1/files/x", b"", False),
        ("POST", "/v1/chat/completions", b'{"messages":[]}', True),
        ("POST", "/v1/chat/completions", b'{"store":true}', False),
        ("POST", "/v1/chat/completions", b'{"store":false}', True),
        ("POST", "/v1/completions", b"{}", True),
        ("POST", "/v1/embeddings", b"{}", True),
        ("POST", "/v1/rerank", b"{}", True),
        ("POST", "/v1/score", b"{}", True),
        ("POST", "/v1/tokenize", b"{}", True),
        ("POST", "/v1/responses", b"{}", False),
        ("POST", "/v1/responses", b'{"store":true}', False),
        ("POST", "/v1/responses", b'{"store":null}', False),
        ("POST", "/v1/responses", b'{"store":false}', True),
        ("POST", "/v1/messages", b"{}", False),
        ("POST", "/v1/images/generations", b"{}", False),
        ("POST", "/v1/images/edits", b"", False),
        ("POST", "/v1/audio/transcriptions", b"", False),
        ("POST", "/v1/files", b"{}", False),
        ("POST", "/v1/batches", b"{}", False),
        ("POST", "/v1/chat/completions/", b"{}", False),
        ("post", "/v1/chat/completions", b"{}", False),
    ],
)
def test_request_may_be_repeated_only_without_side_effects(
    make_flow: MakeFlow, method: str, path: str, body: bytes, may_repeat: bool
) -> None:
    request = make_flow(method=method, path=path).request
    assert is_repeatable(request, find_route(request), body) is may_repeat


@given(st.dictionaries(st.sampled_from(["store", "a", "input"]), st.sampled_from([True, False, None, 0, "false", []])))
def test_stores_finds_the_store_member_in_any_json_form(request: dict[str, Any]) -> None:
    for by_default in (True, False):
        given_ = request.get("store")
        expected = by_default if given_ is None else given_ is not False
        escaped = json.dumps(request).replace('"store"', r'"st\u006fre"').encode()
        for body in (json.dumps(request).encode(), json.dumps(request, indent=3).encode(), escaped):
            assert stores(body, by_default=by_default) is expected


@given(st.binary(max_size=60))
def test_stores_accepts_any_bytes_without_an_error(body: bytes) -> None:
    assert {stores(body, by_default=True), stores(body, by_default=False)} <= {True, False}


@pytest.mark.parametrize("by_default", [True, False])
def test_stores_counts_a_long_body_that_may_name_store_as_storing(by_default: bool) -> None:
    body = b'{"store":false,"input":"%s"}' % (b"x" * MAX_LOOKED_INTO)
    assert stores(body, by_default=by_default)
    assert not stores(b'{"input":"%s"}' % (b"x" * MAX_LOOKED_INTO), by_default=False)
    assert stores(b"[" * 60_000, by_default=True)
