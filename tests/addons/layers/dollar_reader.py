"""A body reader for tests of the layers: a dollar sign ends the stream."""

from collections.abc import Sequence


class DollarReader:
    """Passes everything but the dollar sign that ends the stream, which it holds back."""

    id: str | None = None
    finished = False
    usage = None

    def feed(self, piece: bytes) -> bytes:
        self.finished = piece.endswith(b"$")
        return piece.removesuffix(b"$")

    def passing(self, pieces: Sequence[bytes]) -> int:
        return 0

    def end(self) -> bytes:
        return b"$"
