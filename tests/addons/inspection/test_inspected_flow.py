import hashlib
from collections.abc import Sequence

import pytest

from addons.exchange.body_digest import BodyDigest
from addons.exchange.usage import Usage
from addons.inspection.inspected_flow import MeasuredReader, MeasuredStream, model_of


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
def test_a_model_is_shown_where_it_looks_like_the_name_of_one(body: bytes, model: str | None) -> None:
    assert model_of(body) == model


@pytest.mark.parametrize("modified", [False, True])
def test_what_passes_a_stream_is_measured_and_not_what_comes(modified: bool) -> None:
    digest = BodyDigest()
    stream = MeasuredStream(digest, (lambda piece: [piece.upper(), b"!"] if piece else b"END") if modified else None)
    left = b""
    for piece in (b"ab", b"c", b""):
        passing = stream(piece)
        left += passing if isinstance(passing, bytes) else b"".join(passing)
        assert digest.complete == (not piece)
    assert left == (b"AB!C!END" if modified else b"abc")
    assert (digest.size, digest.hex()) == (len(left), sha256(left))


class PassingReader:
    """Lets the first piece pass, and reads the others."""

    id: str | None = None
    finished = False
    usage: Usage | None = None

    def feed(self, piece: bytes) -> bytes:
        self.id = "c-1"
        return piece

    def passing(self, pieces: Sequence[bytes]) -> int:
        return 1

    def end(self) -> bytes:
        self.finished = True
        self.usage = Usage(1, 2)
        return b"rest"


def test_a_measured_reader_counts_what_is_read_and_what_passes_and_says_what_the_other_says() -> None:
    digest = BodyDigest()
    reader = MeasuredReader(digest, PassingReader())
    assert reader.passing([b"ab", b"cd"]) == 1
    assert reader.feed(b"cd") == b"cd"
    assert (reader.id, reader.finished) == ("c-1", False)
    assert not digest.complete
    assert reader.end() == b"rest"
    assert (reader.finished, reader.usage) == (True, Usage(1, 2))
    assert (digest.size, digest.hex()) == (4, sha256(b"abcd"))
    assert digest.complete
