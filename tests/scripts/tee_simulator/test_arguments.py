"""Reading a call's arguments; messages as dstack's own agent has given them."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scripts.tee_simulator.arguments import ArgumentError, Arguments


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"f":"zz"}', "Invalid character 'z' at position 0 at line 1 column 10"),
        (b'{"f":"abc"}', "Odd number of digits at line 1 column 11"),
        (b'{"f":5}', "invalid type: integer `5`, expected a string at line 1 column 6"),
        (b'{"f": true}', "invalid type: boolean `true`, expected a string at line 1 column 10"),
        (b'{"f":null}', "invalid type: null, expected a string at line 1 column 9"),
        (b'{"f":[1]}', "invalid type: sequence, expected a string at line 1 column 5"),
        (b'{\n"f":{}}', "invalid type: map, expected a string at line 2 column 4"),
        (b"{bad", "key must be a string at line 1 column 2"),
        (b'{"f"}', "expected `:` at line 1 column 5"),
        (b'{"f":x}', "expected value at line 1 column 6"),
        (b'{"f":"a" "g":1}', "expected `,` or `}` at line 1 column 10"),
        (b'{"f":"aa"', "EOF while parsing an object at line 1 column 9"),
        (b'{"f":"aa"}}', "trailing characters at line 1 column 11"),
        (b"", "EOF while parsing a value at line 1 column 0"),
        (b"[]", "invalid type: sequence, expected an object at line 1 column 0"),
        (b'{"f":' + b"[" * 100_000, "recursion limit exceeded at line 1 column 5"),
        (b'{"f":"\\ud800"}', "lone leading surrogate in hex escape at line 1 column 13"),
        (b"\xff", "invalid unicode code point at line 1 column 0"),
    ],
)
def test_argument_errors_match_the_real_agents_messages(body: bytes, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        Arguments.from_json(body).binary("f")
    assert str(error.value) == message


def test_hex_argument_may_be_upper_case_or_prefixed() -> None:
    arguments = Arguments.from_json(b'{"a":"0xAB","b":"ab"}')
    assert arguments.binary("a") == arguments.binary("b") == b"\xab"


def test_fields_that_are_missing_have_defaults_and_unknown_ones_are_ignored() -> None:
    arguments = Arguments.from_json(b' { "unknown" : [ {} ] } ')
    assert (arguments.text("t"), arguments.binary("b"), arguments.flag("f")) == ("", b"", False)
    assert (arguments.texts("l"), arguments.number("n")) == ([], None)


def test_query_arguments_are_converted_to_every_type() -> None:
    arguments = Arguments.from_query("t=a%20b&b=0xff&f=true&g=false&n=12&l=x&l=y&m[]=z")
    assert (arguments.text("t"), arguments.binary("b"), arguments.number("n")) == ("a b", b"\xff", 12)
    assert (arguments.flag("f"), arguments.flag("g"), arguments.flag("h")) == (True, False, False)
    assert (arguments.texts("l"), arguments.texts("m")) == (["x", "y"], ["z"])
    with pytest.raises(ArgumentError, match=r"expected a boolean$"):
        arguments.flag("t")
    with pytest.raises(ArgumentError, match=r"^Odd number of digits$"):
        Arguments.from_query("b=f").binary("b")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"n":-1}', "invalid value: integer `-1`, expected u64"),
        (b'{"n":18446744073709551616}', "invalid value: integer `18446744073709551616`, expected u64"),
        (b'{"n":1.5}', "invalid type: floating point `1.5`, expected u64"),
        (b'{"n":true}', "invalid type: boolean `true`, expected u64"),
        (b'{"n":"1"}', 'invalid type: string "1", expected u64'),
    ],
)
def test_number_argument_must_be_an_unsigned_integer(body: bytes, message: str) -> None:
    with pytest.raises(ArgumentError) as error:
        Arguments.from_json(body).number("n")
    assert str(error.value).startswith(message)


def test_list_argument_must_hold_strings() -> None:
    with pytest.raises(ArgumentError, match="invalid type: integer `1`, expected a string"):
        Arguments.from_json(b'{"l":["a",1]}').texts("l")
    with pytest.raises(ArgumentError, match='invalid type: string "a", expected a sequence'):
        Arguments.from_json(b'{"l":"a"}').texts("l")


@given(body=st.binary() | st.text().map(str.encode))
def test_arguments_of_any_bytes_are_an_object_or_refused(body: bytes) -> None:
    try:
        Arguments.from_json(body)
    except ArgumentError:
        return
    assert isinstance(json.loads(body), dict)


@given(fields=st.dictionaries(st.text(st.characters(codec="utf-8")), st.text(st.characters(codec="utf-8"))))
def test_text_arguments_match_python_json_decoding(fields: dict[str, str]) -> None:
    for source in (json.dumps(fields), json.dumps(fields, ensure_ascii=False, indent=1)):
        arguments = Arguments.from_json(source.encode())
        assert {name: arguments.text(name) for name in fields} == fields
