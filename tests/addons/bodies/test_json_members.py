import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.bodies.json_members import MAX_STRING, JsonMembers, Path
from tests.support.cutting import cut, cuts

PATHS: list[Path] = [("id",), ("type",), ("response", "id"), ("response", "x", "id")]

names = st.sampled_from(["id", "type", "response", "x", "é", "a:b", '"id"', ""])
values = st.recursive(
    st.one_of(st.none(), st.integers(), st.sampled_from(["id", "r-1", ":", '"', "\\", "{}[]", "é\u2028"])),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=15,
)


def at(value: Any, path: Path) -> str | None:
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, str) else None


def search(pieces: list[bytes]) -> JsonMembers:
    members = JsonMembers(PATHS)
    for piece in pieces:
        members.feed(piece)
    return members


@given(
    body=st.dictionaries(names, values, max_size=6),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    where=cuts,
)
def test_every_string_at_a_wanted_path_is_found_for_every_split(
    body: dict[str, Any], ascii_only: bool, indent: int | None, where: list[int]
) -> None:
    raw = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode()
    expected = {path: value for path in PATHS if (value := at(body, path)) is not None}
    assert search(cut(raw, where)).found == expected


@given(st.lists(st.binary(min_size=1, max_size=20)))
def test_any_bytes_are_read_without_an_error(pieces: list[bytes]) -> None:
    search(pieces)


@pytest.mark.parametrize("text", ["[]", '"id"', "7", '[{"id":"a"}]', '{"a":1}{"id":"a"}'])
def test_text_that_is_not_an_object_or_follows_one_has_no_members(text: str) -> None:
    members = search([text.encode()])
    assert members.found == {}
    assert members.done or text == "7"


def test_json_members_duplicate_name_takes_the_first_string() -> None:
    assert search([b'{"id":7,"id":"a","id":"b"}']).found == {("id",): "a"}


def test_json_members_ignores_a_string_over_the_length_limit() -> None:
    assert search([b'{"id":"', b"x" * (MAX_STRING + 1), b'","type":"t"}']).found == {("type",): "t"}


def test_json_members_is_done_once_every_path_is_found() -> None:
    members = JsonMembers([("id",)])
    members.feed(b'{"id":"a",')
    assert members.done


@pytest.mark.parametrize(
    "text",
    [
        b",",
        b":,",
        b'"a":1,',
        b'"",',
        b'"a":[],',
        b'"a":{"b":',
        b'"a":[[1,',
        b'"a":"\\n',
        b"[",
        b"]",
        b"[" * 9 + b"1,",
    ],
)
def test_the_search_is_bounded_for_any_text(text: bytes) -> None:
    members = JsonMembers(PATHS)
    began = time.process_time()
    for _ in range(20):
        members.feed(b'{"x":' + text * (64 * 1024 // len(text)))
    assert time.process_time() - began < 0.5


def test_a_member_after_many_whole_objects_is_found() -> None:
    results = b",".join(b'{"index":%d,"x":{"y":["]}",[%d]]}}' % (number, number) for number in range(100_000))
    body = b'{"results":[' + results + b'],"id":"a"}'
    for size in (1000, 64 * 1024):
        assert search([body[at : at + size] for at in range(0, len(body), size)]).found == {("id",): "a"}
