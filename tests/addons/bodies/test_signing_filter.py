"""The pipeline of a signed response: what is hashed, what is signed when, and which bytes wait for that."""

import hashlib
import json
from concurrent.futures import Future

import pytest

from addons.bodies.body_reader import BodyReader, RawBodyReader
from addons.bodies.end_detector import EndDetector
from addons.bodies.json_reader import JsonReader
from addons.bodies.signing_filter import SigningFilter
from addons.bodies.stream_formats import CHAT
from addons.bodies.transform import Transform
from addons.exchange.token_times import TokenTimes
from addons.exchange.usage import Usage
from tests.addons.bodies.toy_transforms import Change, ToyEventTransform, ToyJsonTransform, doubled, in_strings, swapped

JSON = json.dumps({"id": "chat-1", "choices": [{"text": "x z\\"}], "usage": {"prompt_tokens": 3}}).encode()
EVENT = b'data: {"id":"chat-1","text":"x z"}\n\n'
EVENTS = EVENT + b'data: {"usage":{"prompt_tokens":3}}\r\n\r\n' + b"data: [DONE]\n\n"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Response:
    """One response that passes the filter, and the results.

    Attributes:
        left: What has gone to the client.
        signed: The digests at both sides, each time that the response was signed.
    """

    def __init__(
        self,
        reader: BodyReader,
        size: int | None = None,
        times: TokenTimes | None = None,
        *,
        transforms: tuple[Transform, ...] = (),
        stored: Future[None] | None = None,
    ) -> None:
        self.left = b""
        self.signed: list[tuple[str, str]] = []
        self.left_when_signed = b""
        self._stored = stored
        self.filter = SigningFilter(reader, self._sign, size, times, transforms=transforms, durable=stored is not None)

    def _sign(self, body: SigningFilter) -> Future[None] | None:
        assert body is self.filter
        self.signed.append(body.digests)
        self.left_when_signed = self.left
        return self._stored

    def take(self, *pieces: bytes) -> "Response":
        for piece in pieces:
            out = self.filter(piece)
            assert out != b"" or not piece, "an empty piece would end a chunked body"
            self.left += out if isinstance(out, bytes) else b"".join(out)
        return self


def toy_transforms(body: bytes, change: Change) -> tuple[BodyReader, Transform]:
    if body is JSON:
        return JsonReader(), ToyJsonTransform(change, changes_length=change is doubled)
    return EndDetector(CHAT), ToyEventTransform(change, changes_length=change is doubled)


@pytest.mark.parametrize("change", [swapped, doubled])
@pytest.mark.parametrize("body", [JSON, EVENTS], ids=["JSON", "events"])
def test_signing_filter_signs_both_digests_of_a_transformed_response_before_its_end(
    body: bytes, change: Change
) -> None:
    expected = in_strings(change, body)
    held = b"}" if body is JSON else b"data: [DONE]\n\n"
    for at in range(1, len(body)):
        reader, transform = toy_transforms(body, change)
        response = Response(reader, transforms=(transform,)).take(body[:at], body[at:])
        assert response.signed == []
        assert response.left == expected.removesuffix(held)
        response.take(b"")
        assert response.signed == [(sha256(body), sha256(expected))]
        assert response.left_when_signed == expected.removesuffix(held)
        assert response.left == expected
        assert (reader.id, reader.usage) == ("chat-1", Usage(3, None))
        assert response.filter.changes_length is (change is doubled)


@pytest.mark.parametrize("change", [swapped, doubled])
def test_signing_filter_raw_body_holds_its_last_byte_only_if_the_length_is_unchanged(
    change: Change,
) -> None:
    expected = in_strings(change, JSON)
    for at in range(1, len(JSON)):
        transform = ToyJsonTransform(change, changes_length=change is doubled)
        response = Response(RawBodyReader(), len(JSON), transforms=(transform,)).take(JSON[:at], JSON[at:])
        assert response.left == (expected[:-1] if change is swapped else expected)
        assert response.signed == []
        assert response.filter.has_size
        assert response.take(b"").left == expected


def test_signing_filter_signs_bytes_held_by_a_transform_before_they_are_sent() -> None:
    response = Response(JsonReader(), transforms=(ToyJsonTransform(),)).take(b'{"id":"c"}', b"\\")
    assert response.left == b'{"id":"c"'
    response.take(b"")
    assert response.left_when_signed == b'{"id":"c"'
    assert response.signed == [(sha256(b'{"id":"c"}\\'),) * 2]
    assert response.left == b'{"id":"c"}\\'


def test_signing_filter_without_a_transform_has_equal_digests_and_copies_nothing() -> None:
    response = Response(EndDetector(CHAT)).take(EVENT)
    assert response.filter(EVENT) is EVENT
    response.take(b"")
    assert response.signed == [(sha256(EVENT + EVENT),) * 2]


def test_signing_filter_hashes_and_times_pieces_that_pass_unread() -> None:
    times = TokenTimes([1.0])
    response = Response(EndDetector(CHAT), times=times).take(EVENT)
    assert response.filter.may_pass_unread
    assert response.filter.pass_unread([EVENT, EVENT, EVENTS]) == 2
    assert response.filter.pass_unread([EVENT]) == 1
    assert response.filter.pass_unread([b"data: [DONE]\n\n", EVENT]) == 0
    response.take(b"")
    assert response.signed == [(sha256(4 * EVENT),) * 2]
    assert sum(times.counts) == 3, "intervals between four events"


@pytest.mark.parametrize(
    ("size", "transforms"), [(1000, ()), (None, (ToyEventTransform(),))], ids=["of known size", "transformed"]
)
def test_signing_filter_with_a_known_length_or_a_transform_passes_nothing_unread(
    size: int | None, transforms: tuple[Transform, ...]
) -> None:
    response = Response(EndDetector(CHAT), size, transforms=transforms).take(EVENT)
    assert not response.filter.may_pass_unread
    assert response.filter.pass_unread([EVENT]) == 0


def test_signing_filter_durable_response_holds_its_last_event_until_after_finish() -> None:
    stored: Future[None] = Future()
    response = Response(EndDetector(CHAT), stored=stored).take(EVENT, b"data: [DONE]\n\n")
    assert response.filter.durable
    assert response.filter.finish() is stored
    assert response.left == EVENT
    assert response.take(b"").left == EVENT + b"data: [DONE]\n\n"
    assert len(response.signed) == 1


def test_signing_filter_stream_is_left_open_from_its_last_event_to_its_end() -> None:
    response = Response(EndDetector(CHAT))
    told: list[bool] = []
    response.filter.when_finished = lambda: told.append(response.filter.is_left_open)
    response.take(EVENT)
    assert (response.filter.is_left_open, told) == (False, [])
    response.take(b"data: [DONE]\n\n", b"\n")
    assert (response.filter.is_left_open, told) == (True, [True])
    response.take(b"")
    assert not response.filter.is_left_open


def test_signing_filter_stream_that_continues_after_its_last_event_is_not_left_open() -> None:
    response = Response(EndDetector(CHAT)).take(EVENT, b"data: [DONE]\n\n")
    assert response.filter.is_left_open
    response.take(EVENT * 2000)
    assert not response.filter.is_left_open


def test_signing_filter_does_not_sign_an_incomplete_message() -> None:
    response = Response(JsonReader()).take(JSON)
    assert response.signed == []
    assert response.left == JSON[:-1]
