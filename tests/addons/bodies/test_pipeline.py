"""A pipeline as mitmproxy calls it: what is sent on, its attributes, and what its observer gets."""

import gzip
import hashlib

import pytest

from addons.bodies.pipeline import BodyPipeline, pipeline_in
from tests.addons.bodies.toy_transforms import ToyJsonTransform, doubled, in_strings

BODY = b'{"messages":[{"content":"a z\\\\"}]}'


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Observer:
    """Notes what it is shown."""

    def __init__(self) -> None:
        self.received = self.sent = b""
        self.endings = 0

    def passed(self, received: bytes, sent: bytes) -> None:
        self.received += received
        self.sent += sent

    def ended(self) -> None:
        self.endings += 1


def passed(pipeline: BodyPipeline, pieces: list[bytes]) -> bytes:
    """What goes on of a body, as mitmproxy would send it."""
    sent = b""
    for piece in [*pieces, b""]:
        out = pipeline(piece)
        assert out != b"", "an empty piece would end a chunked body"
        sent += out if isinstance(out, bytes) else b"".join(out)
    return sent


def test_pipeline_without_transforms_forwards_each_piece_uncopied() -> None:
    pipeline = BodyPipeline()
    for piece in (BODY, b"x"):
        assert pipeline(piece) is piece
    assert not pipeline.complete
    assert pipeline(b"") == []
    assert pipeline.complete
    assert pipeline.digests == (sha256(BODY + b"x"),) * 2
    assert not pipeline.changes_length


@pytest.mark.parametrize("transformed", [False, True])
def test_pipeline_digests_and_observer_cover_both_sides_for_every_split(transformed: bool) -> None:
    expected = in_strings(doubled, BODY) if transformed else BODY
    for at in range(1, len(BODY)):
        transforms = [ToyJsonTransform(doubled, changes_length=True)] if transformed else []
        pipeline, observer = BodyPipeline(transforms), Observer()
        pipeline.observer = observer
        assert passed(pipeline, [BODY[:at], BODY[at:]]) == expected
        assert pipeline.digests == (sha256(BODY), sha256(expected))
        assert (observer.received, observer.sent, observer.endings) == (BODY, expected, 1)
        assert pipeline.changes_length is transformed


def test_an_encoded_body_goes_on_and_is_hashed_as_the_bytes_that_came() -> None:
    encoded = gzip.compress(BODY)
    pipeline = BodyPipeline()
    assert passed(pipeline, [encoded]) == encoded
    assert pipeline.digests == (sha256(encoded),) * 2


def test_pipeline_releases_bytes_held_by_a_transform_once_at_the_end() -> None:
    pipeline, observer = BodyPipeline([ToyJsonTransform()]), Observer()
    pipeline.observer = observer
    assert pipeline(b"\\") == []
    assert pipeline(b"") == b"\\"
    assert pipeline(b"") == []
    assert observer.endings == 1


def test_pipeline_without_signing_passes_nothing_unread_and_waits_for_nothing() -> None:
    pipeline = BodyPipeline()
    assert not pipeline.may_pass_unread
    assert pipeline.pass_unread([b"a"]) == 0
    assert pipeline.finish() is None
    assert (pipeline.durable, pipeline.is_left_open, pipeline.has_size, pipeline.hold_limit) == (False, False, False, 0)


def test_pipeline_drops_the_when_finished_callback_at_the_end_of_the_body() -> None:
    pipeline = BodyPipeline()
    pipeline.when_finished = lambda: None
    pipeline(b"")
    assert pipeline.when_finished is None


@pytest.mark.parametrize("stream", [True, False, None, len])
def test_pipeline_in_returns_none_for_any_other_stream(stream: object) -> None:
    assert pipeline_in(stream) is None


def test_pipeline_in_returns_the_pipeline_that_a_message_streams_through() -> None:
    pipeline = BodyPipeline()
    assert pipeline_in(pipeline) is pipeline
