"""Which JSON any reader can take."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from attest_web.dstack.shown_json import MAX_DEPTH, checked_json

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters()), inner),
)


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_checked_json_depth_is_bounded() -> None:
    assert checked_json(nested(MAX_DEPTH)) == nested(MAX_DEPTH)
    with pytest.raises(ValueError, match="deeply"):
        checked_json(nested(MAX_DEPTH + 1))
    with pytest.raises(ValueError, match="deeply"):
        checked_json({"a": nested(5000)})


@pytest.mark.parametrize("value", ["\ud800", {"a": ["\udfff"]}, {"\ud800": 1}, float("nan"), [float("inf")]])
def test_checked_json_refuses_surrogates_and_non_finite_numbers(value: Any) -> None:
    with pytest.raises(ValueError, match=r"surrogates|compliant"):
        checked_json(value)


@given(JSON)
def test_checked_json_accepts_only_values_that_strict_parsers_read_unchanged(value: Any) -> None:
    try:
        checked_json(value)
    except ValueError:
        return

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = json.dumps(value, ensure_ascii=False).encode()
    assert json.loads(text, parse_constant=refuse) == value
