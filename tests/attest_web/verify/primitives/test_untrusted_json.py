"""Text of the checked party's making: what readers may take for different things is refused."""

import base64
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.untrusted_json import base64_bytes, hex_bytes, integer, parse_json, text


@pytest.mark.parametrize(
    "encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-le", "utf-8-sig", "latin-1"]
)
def test_json_other_than_utf_8_without_a_byte_order_mark_is_refused(encoding: str) -> None:
    content = '{"a":"\N{LATIN SMALL LETTER U WITH DIAERESIS}"}'
    assert parse_json(content.encode(), "it") == json.loads(content)
    with pytest.raises(FailedError, match="it is not JSON"):
        parse_json(content.encode(encoding), "it")


def test_json_with_an_encoded_lone_surrogate_is_refused() -> None:
    with pytest.raises(FailedError, match="not UTF-8"):
        parse_json(b'"\xed\xa0\x80"', "it")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "[1e400]", "01", "+1", "1_000"])
def test_json_number_that_is_invalid_or_too_large_is_refused(number: str) -> None:
    with pytest.raises(FailedError, match="it is not JSON"):
        parse_json(number, "it")


@pytest.mark.parametrize(
    "twice",
    ['{"a":1,"a":1}', '{"a":1,"\\u0061":2}', '[{"b":{"a":1,"a":2}}]', '{"":1,"":2}', '{"\\ud800":1,"\\ud800":2}'],
)
def test_json_duplicate_member_is_refused_in_any_spelling(twice: str) -> None:
    with pytest.raises(FailedError, match="more than one"):
        parse_json(twice, "it")


@pytest.mark.parametrize(
    "junk", ["", " ", "{}{}", "{} x", "{},", "'a'", "{'a':1}", "[1,]", "//\n1", "\x00", "\u00a01", '"\t"']
)
def test_json_that_is_malformed_or_has_trailing_text_is_refused(junk: str) -> None:
    with pytest.raises(FailedError, match="it is not JSON"):
        parse_json(junk, "it")


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),
    max_leaves=20,
)


@settings(deadline=None)
@given(VALUES)
def test_json_values_round_trip(value: Any) -> None:
    assert parse_json(json.dumps(value), "it") == value
    assert parse_json(json.dumps(value, ensure_ascii=False).encode(), "it") == value


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_json_of_any_bytes_is_one_value_or_refused(data: bytes) -> None:
    try:
        value = parse_json(data, "it")
    except FailedError:
        return
    assert value == json.loads(data.decode())


@pytest.mark.parametrize("value", [True, False, 1.0, 1e3, "1", None, [1]])
def test_integer_member_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(FailedError):
        integer({"n": value}, "n", "it")


@pytest.mark.parametrize("value", [b"a", 1, True, ["a"], "\ud800", "a\udfff"])
def test_text_member_of_another_type_or_with_a_surrogate_is_refused(value: object) -> None:
    with pytest.raises(FailedError):
        text({"n": value}, "n", "it")


@pytest.mark.parametrize(
    "digits", ["0x00", " 00", "00 ", "00\n", "0 0", "0", "0g", "\u0660\u0660", "\uff10\uff10", "00-00", "0_0"]
)
def test_hex_with_anything_but_hex_digits_is_refused(digits: str) -> None:
    with pytest.raises(FailedError, match="it is not hex"):
        hex_bytes(digits, "it")


@pytest.mark.parametrize(
    "digits",
    [
        "QR==",
        "QUJ=",
        "QQ",
        "QQ=",
        "QQ===",
        "QQ==QQ==",
        "Q Q==",
        "QQ==\n",
        "\nQQ==",
        "QQ!==",
        "QQ--",
        "Q__=",
        "=QQ=",
        "\uff31Q==",
    ],
)
def test_base64_in_a_non_canonical_spelling_is_refused(digits: str) -> None:
    with pytest.raises(FailedError, match="it is not base64"):
        base64_bytes(digits, "it")


@settings(deadline=None)
@given(st.binary(max_size=100))
def test_base64_round_trips(data: bytes) -> None:
    assert base64_bytes(base64.b64encode(data).decode(), "it") == data


@settings(deadline=None)
@given(st.text(alphabet="QRAg+/=- \n", max_size=12))
def test_base64_text_that_is_accepted_is_canonical(digits: str) -> None:
    try:
        data = base64_bytes(digits, "it")
    except FailedError:
        return
    assert base64.b64encode(data).decode() == digits
