"""Reads a response labelled `application/json`, which some servers call their event streams, too."""

from collections.abc import Sequence

from addons.bodies.end_detector import EndDetector
from addons.bodies.json_reader import JsonReader
from addons.bodies.stream_formats import Dialect
from addons.exchange.usage import Usage

_BEGINNINGS_OF_EVENTS = b"deir:"
"""How lines of event streams begin (`data`, `event`, `id`, `retry`, a comment), but no JSON text."""


class LabelledJsonReader:
    """Reads a body as JSON, or as server-sent events where its first byte that is not white space says so."""

    def __init__(self, dialect: Dialect) -> None:
        """Begin.

        Args:
            dialect: What events tell, where there are events.
        """
        self._dialect = dialect
        self._reader: JsonReader | EndDetector = JsonReader()
        self._has_begun = False

    @property
    def id(self) -> str | None:
        """The response id, once it has passed."""
        return self._reader.id

    @property
    def finished(self) -> bool:
        """Whether the last event of a stream has come."""
        return self._reader.finished

    @property
    def usage(self) -> Usage | None:
        """The tokens, when the message is complete, where it has told of them."""
        return self._reader.usage

    def feed(self, piece: bytes) -> bytes:
        """Take the next piece, of one byte or more; return what may be sent on now."""
        if not self._has_begun and (text := piece.lstrip()):
            self._has_begun = True
            if text[0] in _BEGINNINGS_OF_EVENTS:
                self._reader = EndDetector(self._dialect)
        return self._reader.feed(piece)

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, `feed` would return as they are, with nothing to note."""
        return self._reader.passing(pieces) if self._has_begun else 0

    def end(self) -> bytes:
        """Take note that the message is complete; return the rest."""
        return self._reader.end()
