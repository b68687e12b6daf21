import hashlib
from collections.abc import Sequence

import pytest

from addons.bodies.body_reader import RawBodyReader
from addons.bodies.pipeline import BodyPipeline
from addons.bodies.signing_filter import SigningFilter
from addons.exchange.body_digest import BodyDigest
from addons.inspection.inspected_flow import MeasuredBody, Modifier, model_of


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize(
    ("body", "model"),
    [
        (b'{"model":"Qwen/Qwen2.5-7B-Instruct"}', "Qwen/Qwen2.5-7B-Instruct"),
        (b'{"model":"org/m:tag@1+x"}', "org/m:tag@1+x"),
        (b'{"model":"tell me a secret"}', None),
        (b'{"model":"%s"}' % (b"m" * 129), None),
        (b'{"model":["m"]}', None),
        (b"[]", None),
        (b"no JSON", None),
        (b"[" * 100_000, None),
        (b'{"model":"m","x":"%s"}' % (b" " * 1024 * 1024), None),
    ],
)
def test_inspected_flow_shows_a_model_only_if_it_looks_like_a_model_name(body: bytes, model: str | None) -> None:
    assert model_of(body) == model


PIECES = (b"ab", b"c", b"")


@pytest.mark.parametrize("as_received", [True, False])
def test_measured_body_digest_covers_received_or_forwarded_bytes(as_received: bool) -> None:
    digest = BodyDigest()
    pipeline = BodyPipeline([Modifier(lambda piece: [piece.upper(), b"!"] if piece else b"END")])
    pipeline.observer = MeasuredBody(digest, as_received=as_received)
    for piece in PIECES:
        pipeline(piece)
        assert digest.complete == (not piece)
    expected = b"abc" if as_received else b"AB!C!END"
    assert (digest.size, digest.hex()) == (len(expected), sha256(expected))


class PassingReader(RawBodyReader):
    """Lets the first of several pieces pass unread, and reads the others."""

    def passing(self, pieces: Sequence[bytes]) -> int:
        return 1


def test_measured_body_of_a_signed_response_includes_bytes_passed_unread() -> None:
    digest = BodyDigest()
    pipeline = SigningFilter(PassingReader(), lambda _: None)
    pipeline.observer = MeasuredBody(digest, as_received=False)
    assert pipeline.pass_unread([b"ab", b"cd"]) == 1
    pipeline(b"cd")
    assert not digest.complete
    pipeline(b"")
    assert (digest.size, digest.hex()) == (4, sha256(b"abcd"))
    assert digest.complete


def test_modifier_of_another_addon_becomes_a_pipeline_transform() -> None:
    pipeline = BodyPipeline([Modifier(lambda piece: [piece, b"+"] if piece else b"end")])
    assert [pipeline(piece) for piece in PIECES] == [b"ab+", b"c+", b"end"]
    assert pipeline.digests == (sha256(b"abc"), sha256(b"ab+c+end"))
