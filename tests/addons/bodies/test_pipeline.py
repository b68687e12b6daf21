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


def test_without_transforms_every_piece_goes_on_as_the_object_that_came() -> None:
    pipeline = BodyPipeline()
    for piece in (BODY, b"x"):
        assert pipeline(piece) is piece
    assert not pipeline.complete
    assert pipeline(b"") == []
    assert pipeline.complete
    assert pipeline.digests == (sha256(BODY + b"x"),) * 2
    assert not pipeline.changes_length


@pytest.mark.parametrize("transformed", [False, True])
def test_digests_and_observer_see_both_sides_for_every_split(transformed: bool) -> None:
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


def test_what_a_transform_holds_back_goes_on_at_the_end_and_no_second_time() -> None:
    pipeline, observer = BodyPipeline([ToyJsonTransform()]), Observer()
    pipeline.observer = observer
    assert pipeline(b"\\") == []
    assert pipeline(b"") == b"\\"
    assert pipeline(b"") == []
    assert observer.endings == 1


def test_a_pipeline_that_signs_nothing_passes_nothing_unread_and_its_end_waits_for_nothing() -> None:
    pipeline = BodyPipeline()
    assert not pipeline.may_pass_unread
    assert pipeline.pass_unread([b"a"]) == 0
    assert pipeline.finish() is None
    assert (pipeline.durable, pipeline.is_left_open, pipeline.has_size, pipeline.hold_limit) == (False, False, False, 0)


def test_the_callback_for_the_last_event_is_let_go_with_the_end_of_the_body() -> None:
    pipeline = BodyPipeline()
    pipeline.when_finished = lambda: None
    pipeline(b"")
    assert pipeline.when_finished is None


@pytest.mark.parametrize("stream", [True, False, None, len])
def test_a_message_that_streams_through_anything_else_has_no_pipeline(stream: object) -> None:
    assert pipeline_in(stream) is None


def test_the_pipeline_of_a_message_is_what_it_streams_through() -> None:
    pipeline = BodyPipeline()
    assert pipeline_in(pipeline) is pipeline
