"""Transforms of bodies in a chain, for every split, and how many bytes are hashed for the digests at both sides."""

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from addons.bodies.transform import MAX_LAG, Transform, TransformChain
from tests.addons.bodies.toy_transforms import Change, ToyEventTransform, ToyJsonTransform, doubled, in_strings, swapped
from tests.support.cutting import cut, cuts

JSON = json.dumps({"id": "x-1", "y": ["z\\z", 'x"y', "\u00e9\u2028", {"xyz": 17, "empty": ""}]}).encode()
EVENTS = (
    b'\xef\xbb\xbfdata: {"id":"xy"}\r\n\r\n: x\ndata: {"a":"xzx\\"y"}\rdata: {"z":"zz"}\n\nevent: x\ndata:"y"\r\n\r'
)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def passed(chain: TransformChain, pieces: list[bytes]) -> bytes:
    return b"".join([*map(chain.feed, pieces), chain.end()])


def chain_of(*transforms: Transform) -> TransformChain:
    return TransformChain(transforms, hashlib.sha256())


def splits(body: bytes) -> list[list[bytes]]:
    """Whole, in two at every place, and byte by byte."""
    halves = [[body[:at], body[at:]] for at in range(1, len(body))]
    return [[body], *halves, [body[at : at + 1] for at in range(len(body))]]


@pytest.mark.parametrize("change", [swapped, doubled])
def test_transform_changes_a_json_body_alike_for_every_split(change: Change) -> None:
    expected = in_strings(change, JSON)
    assert json.loads(expected) != json.loads(JSON)
    for pieces in splits(JSON):
        chain = chain_of(ToyJsonTransform(change))
        assert passed(chain, pieces) == expected
        assert chain.digests == (sha256(JSON), sha256(expected))


@pytest.mark.parametrize("change", [swapped, doubled])
def test_transform_changes_event_data_alike_for_every_split(change: Change) -> None:
    expected = passed(chain_of(ToyEventTransform(change)), [EVENTS])
    assert expected.translate(None, b"xyz") == EVENTS.translate(None, b"xyz")
    assert expected != EVENTS
    assert b"\n: x\n" in expected, "a comment has no data"
    for pieces in splits(EVENTS):
        chain = chain_of(ToyEventTransform(change))
        assert passed(chain, pieces) == expected
        assert chain.digests == (sha256(EVENTS), sha256(expected))


def test_transform_chain_applies_transforms_in_order_including_held_bytes() -> None:
    body = b'{"a":"zx\\\\"}\\'
    expected = swapped(doubled(body))
    for pieces in splits(body):
        chain = chain_of(ToyJsonTransform(doubled), ToyJsonTransform(swapped))
        assert passed(chain, pieces) == expected


class Lagging:
    """Lets everything pass, up to so many bytes later; and drops or adds something at the end."""

    changes_length = True

    def __init__(self, lag: int, end: bytes | None = None) -> None:
        self._lag = lag
        self._end = end
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        came = self._kept + piece
        passing = came[: max(0, len(came) - self._lag)]
        self._kept = came[len(passing) :]
        return passing

    def end(self) -> bytes:
        return self._kept if self._end is None else self._end


class CountingHash:
    """A hash that counts the bytes that it and its copies are given."""

    def __init__(self, count: list[int], inner: "hashlib._Hash | None" = None) -> None:
        self._count = count
        self._inner = inner or hashlib.sha256()

    def update(self, data: bytes) -> None:
        self._count[0] += len(data)
        self._inner.update(data)

    def copy(self) -> "CountingHash":
        return CountingHash(self._count, self._inner.copy())

    def hexdigest(self) -> str:
        return self._inner.hexdigest()


@given(st.binary(max_size=300), cuts, st.integers(0, 20))
def test_transform_chain_hashes_unchanged_bytes_once_at_any_lag(body: bytes, where: list[int], lag: int) -> None:
    count = [0]
    chain = TransformChain([Lagging(lag)], CountingHash(count))  # type: ignore[arg-type]
    assert passed(chain, cut(body, where)) == body
    assert count == [len(body)]
    assert chain.digests == (sha256(body), sha256(body))


@given(st.binary(max_size=300), cuts, st.integers(0, 20), st.sampled_from([b"", b"x", b"\x00" * 30]))
def test_transform_chain_digests_cover_both_sides_of_a_changed_end(
    body: bytes, where: list[int], lag: int, end: bytes
) -> None:
    chain = chain_of(Lagging(lag, end))
    sent = passed(chain, cut(body, where))
    assert chain.digests == (sha256(body), sha256(sent))


def test_transform_chain_digests_mid_body_cover_received_and_sent_bytes() -> None:
    chain = chain_of(Lagging(3))
    assert chain.feed(b"abcde") == b"ab"
    assert chain.digests == (sha256(b"abcde"), sha256(b"ab"))


def test_transform_chain_over_the_lag_limit_hashes_each_side_without_buffering() -> None:
    body = bytes(range(256)) * 1024
    chain = chain_of(Lagging(2 * MAX_LAG))
    left = b""
    for at in range(0, len(body), 1000):
        left += chain.feed(body[at : at + 1000])
        assert len(chain._lag) <= MAX_LAG
    assert left + chain.end() == body
    assert chain.digests == (sha256(body), sha256(body))


@pytest.mark.parametrize("changes", [[False, False], [False, True], [True, False]])
def test_transform_chain_changes_the_length_if_any_transform_does(changes: list[bool]) -> None:
    chain = chain_of(*(ToyJsonTransform(changes_length=change) for change in changes))
    assert chain.changes_length is any(changes)
