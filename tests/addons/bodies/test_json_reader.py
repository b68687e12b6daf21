import json
import tracemalloc

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from addons.bodies.json_reader import MAX_KEPT, JsonReader
from attest_web.response_ids import usable_id
from tests.support.cutting import cut, cuts


def read(pieces: list[bytes]) -> tuple[JsonReader, list[bytes]]:
    reader = JsonReader()
    given_back = [reader.feed(piece) for piece in pieces]
    return reader, [*given_back, reader.end()]


keys = st.one_of(st.sampled_from(["id", "i", "ID", "id\\", '"id"', "object", "é"]), st.text(max_size=4))
values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.just("id")),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(keys, inner, max_size=4)),
    max_leaves=12,
)


@given(
    body=st.dictionaries(keys, values, max_size=6),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
    where=cuts,
)
@example(body={"choices": [{"id": "inner"}], "id": 'a"\\é'}, ascii_only=True, indent=None, where=list(range(60)))
def test_the_top_level_id_is_found_for_every_split(
    body: dict[str, object], ascii_only: bool, indent: int | None, where: list[int]
) -> None:
    raw = json.dumps(body, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")
    reader, given_back = read(cut(raw, where))
    assert reader.id == usable_id(body.get("id"))
    assert b"".join(given_back) == raw


@given(st.lists(st.binary(min_size=1, max_size=20)))
def test_any_bytes_are_released_without_an_error(pieces: list[bytes]) -> None:
    _, given_back = read(pieces)
    assert b"".join(given_back) == b"".join(pieces)


def test_all_bytes_but_the_end_of_the_text_are_released_at_once() -> None:
    pieces = [b"\n", b" \n", b'{"id":', b'"a]","x":[1]', b',"y":{}', b"}", b"\n", b" "]
    reader, given_back = read(pieces)
    assert given_back == [*pieces[:-3], b"", b"", b"", b"}\n "]
    assert not reader.finished


def test_the_elements_of_an_array_are_released_as_they_come() -> None:
    pieces = [b'[{"a":1}', b',\n{"b":"\\"]"}', b',\n{"c":[]}', b"\n]", b"\n"]
    _, given_back = read(pieces)
    assert given_back == [*pieces[:3], b"\n", b"", b"]\n"]


def test_of_several_texts_only_the_end_of_the_first_is_held_back() -> None:
    pieces = [b'{"a":1}\n', b'{"b":2}\n', b'{"c":3}\n']
    _, given_back = read(pieces)
    assert given_back == [b'{"a":1', b"}\n" + pieces[1], pieces[2], b""]


@given(
    body=st.one_of(st.lists(values, max_size=4), st.dictionaries(keys, values, max_size=4)),
    space=st.sampled_from([b"", b"\n", b" \r\n"]),
    where=cuts,
)
def test_the_whole_json_text_is_not_released_before_the_end_of_the_message(
    body: object, space: bytes, where: list[int]
) -> None:
    raw = json.dumps(body).encode("utf-8", "surrogatepass")
    _, given_back = read(cut(raw + space, where))
    assert len(b"".join(given_back[:-1])) < len(raw)


def test_white_space_after_the_text_is_released_above_the_limit() -> None:
    reader = JsonReader()
    out = [reader.feed(b"{}")]
    out += [reader.feed(b" " * 1000) for _ in range(1000)]
    assert len(reader._kept) <= MAX_KEPT
    assert b"".join([*out, reader.end()]) == b"{}" + b" " * 1_000_000


@pytest.mark.parametrize(
    "body",
    [
        b"[]",
        b'["id","x"]',
        b'"id"',
        b"7",
        b"",
        b'{"id":7}',
        b'{"id":{"id":"x"}}',
        b'{"id":"' + b"x" * 5000 + b'"}',
        b'{"id":""}',
    ],
)
def test_json_reader_without_a_usable_id_has_none(body: bytes) -> None:
    reader, _ = read([body] if body else [])
    assert reader.id is None


def test_json_reader_stops_searching_once_the_id_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    reader = JsonReader()
    reader.feed(b'{"id":"a",')

    def fail(*args: object) -> int:
        raise AssertionError

    monkeypatch.setattr(reader._members, "feed", fail)
    reader.feed(b'"x":{"id":"b"}}')
    assert reader.id == "a"


def test_json_reader_memory_does_not_grow_with_the_body() -> None:
    reader = JsonReader()
    tracemalloc.start()
    reader.feed(b'{"object":"list","x":"')
    for _ in range(100):
        reader.feed(b"y" * 10_000)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 100_000
    reader.feed(b'","id":"late"}')
    assert reader.id == "late"
