import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.signatures import NotSigned, SignedExchange
from attest_web.stores.stored_json import ForeignValueError, reason_of, signature_of, to_json

MEMBERS = tuple(SignedExchange.__annotations__)
LIMIT = 4096


def test_stored_json_signatures_and_reasons_round_trip(first: SignedExchange) -> None:
    assert signature_of(to_json(first), LIMIT) == first
    assert reason_of(to_json(NotSigned("the exchange was cut short")), LIMIT) == "the exchange was cut short"


def test_stored_json_ignores_members_of_newer_versions(first: SignedExchange) -> None:
    assert signature_of(json.dumps({**first, "receipt": {"a": [1]}}).encode(), LIMIT) == first


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"nonsense",
        b"[]",
        b"null",
        b'"text"',
        b"\xff",
        b"[" * 4000,
        b'{"text":' * 400,
        json.dumps(dict.fromkeys(MEMBERS[1:], "x")).encode(),
        json.dumps({**dict.fromkeys(MEMBERS, "x"), "text": 1}).encode(),
        json.dumps({**dict.fromkeys(MEMBERS, "x"), "text": ["x"]}).encode(),
        json.dumps({**dict.fromkeys(MEMBERS, "x"), "text": "\ud800"}).encode(),
        json.dumps(dict.fromkeys(MEMBERS, "x" * 1000)).encode(),
    ],
)
def test_stored_json_that_is_no_signature_is_refused(value: bytes) -> None:
    with pytest.raises(ForeignValueError):
        signature_of(value, LIMIT)


@pytest.mark.parametrize("reason", ["", "x" * 201, "line\nbreak", "b\u00f6se", 1, None, ["a"]])
def test_stored_json_that_is_no_reason_is_refused(reason: object) -> None:
    with pytest.raises(ForeignValueError):
        reason_of(json.dumps({"not_signed": reason}).encode(), LIMIT)


@given(
    st.binary(max_size=200)
    | st.text().map(str.encode)
    | st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*MEMBERS, "not_signed"]), inner),
    ).map(lambda found: json.dumps(found).encode())
)
def test_stored_json_of_any_bytes_is_read_or_refused(value: bytes) -> None:
    for read in (signature_of, reason_of):
        try:
            read(value, LIMIT)
        except ForeignValueError:
            continue
