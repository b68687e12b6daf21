"""Pydantic's own texts, and the forms in which servers send them."""

import json
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, field_validator

from addons.upstream.validation_text import CUT, end_of_literal, without_input

SECRET = "XSECRETX"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Invalid input: temperature must be at most 2",
        "input: too long",
        "the prompt has 9000 input tokens",
        "Input should be a valid string; ctx: none",
        "input_type=str",
        "an 'input' that is \"input\"",
        "my_input=5",
    ],
)
def test_validation_text_without_quoted_input_is_kept(text: str) -> None:
    assert without_input(text) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "[{'msg': 'one', 'input': {'a': (1, -2.5e3), 'b': \"it's\"}}, {'msg': 'two', 'input': None, 'url': 'u'}]",
            "[{'msg': 'one' …}, {'msg': 'two' …, 'url': 'u'}]",
        ),
        ("{'msg': 'one', 'input': 'a', 'ctx': {'error': ValueError('b')}}", "{'msg': 'one' …}"),
        ("{'ctx': {'url': Url(host='x', port=1), 'at': datetime.date(2020, 1, 1)}, 'msg': 'm'}", " …, 'msg': 'm'}"),
        ('{"msg":"one","input":{"a":[true,null,"\\"}"]},"loc":["x"]}', '{"msg":"one" …,"loc":["x"]}'),
        (
            "2 errors\na\n  bad [type=x, input_value='\\n', input_type=str]\nb\n  bad [type=y, input_value=1]",
            "2 errors\na\n  bad [type=x …, input_type=str]\nb\n  bad [type=y …",
        ),
        ("x [type=y, input_value=', input_type=z]', input_type=str]\nmore", "x [type=y …, input_type=str]\nmore"),
        ("{'msg': 'm', 'input': <Upload 'a'>, 'loc': 'x'}", "{'msg': 'm' …"),
        ("{'msg': 'm', 'input': 'cut sh", "{'msg': 'm' …"),
        ("{'msg': 'm', 'input': ['cut', {'sh", "{'msg': 'm' …"),
        ("{'msg': 'm', 'input': ", "{'msg': 'm' …"),
        (r'{\"msg\": \"m\", \"input\": \"a\", \"b\": 1}', r'{\"msg\": \"m\" …'),
    ],
)  # fmt: skip
def test_validation_text_quoted_input_is_removed_up_to_its_certain_end(text: str, expected: str) -> None:
    assert without_input(text) == expected


class Model(BaseModel):
    n: int
    kind: Literal["a"]
    texts: list[str]
    checked: str = ""

    @field_validator("checked")
    @classmethod
    def _check(cls, value: str) -> str:
        if value:
            raise ValueError("it is not empty")
        return value


odd = st.text(st.sampled_from("'\"\\\n\r,:=[]{}() aé\u2028\ud800x"), max_size=12)
texts = st.builds(lambda before, behind: before + SECRET + behind, odd, odd)
values = st.recursive(
    st.one_of(texts, st.integers(), st.floats(), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(texts, inner, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from(["n", "kind", "texts", "checked"]), values))
def test_validation_text_of_pydantic_keeps_nothing_of_the_input(request: dict[str, Any]) -> None:
    try:
        Model.model_validate(request)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        # A key of the input's in a place, and what a message itself quotes, are no part of what is meant here.
        for text in (str(error), str(problems), json.dumps(problems, default=repr)):
            left = without_input(text)
            assert SECRET not in left
            assert left.startswith(text[:2])


@given(st.text(), st.integers(0, 5))
def test_validation_text_of_any_kind_is_processed_without_an_error(text: str, at: int) -> None:
    end = end_of_literal(text, at)
    assert end is None or at < end <= len(text)
    assert len(without_input(text)) <= len(text) + len(CUT)


@pytest.mark.parametrize("piece", ["'input': '", "'input': [", "input_value=", "'input': 1 ", "(", "'input': ("])
def test_validation_text_is_processed_in_linear_time(piece: str) -> None:
    """Linear: 64 KiB are some milliseconds, and a quadratic search would take minutes."""
    without_input(piece * (64 * 1024 // len(piece)))
