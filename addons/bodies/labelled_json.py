"""Reads a response of type `application/json`, which some servers also give as the type of event streams."""

from collections.abc import Sequence

from addons.bodies.end_detector import EndDetector
from addons.bodies.json_reader import JsonReader
from addons.bodies.stream_formats import EventFormat
from addons.exchange.usage import Usage

_BEGINNINGS_OF_EVENTS = b"deir:"
"""First bytes of lines of event streams (`data`, `event`, `id`, `retry`, a comment); no JSON text begins with them."""


class LabelledJsonReader:
    """Reads a body as JSON, or as server-sent events, by its first byte that is not white space."""

    def __init__(self, event_format: EventFormat) -> None:
        """Begin.

        Args:
            event_format: How events are read, if the body is an event stream.
        """
        self._event_format = event_format
        self._reader: JsonReader | EndDetector = JsonReader()
        self._has_begun = False

    @property
    def id(self) -> str | None:
        """The response id, once it has passed; None if the body has none."""
        return self._reader.id

    @property
    def finished(self) -> bool:
        """Whether the last event of a stream has arrived."""
        return self._reader.finished

    @property
    def usage(self) -> Usage | None:
        """The token usage, when the message is complete; None if the body reports none."""
        return self._reader.usage

    def feed(self, piece: bytes) -> bytes:
        """Read the next piece, of one byte or more; return what may be sent on now."""
        if not self._has_begun and (text := piece.lstrip()):
            self._has_begun = True
            if text[0] in _BEGINNINGS_OF_EVENTS:
                self._reader = EndDetector(self._event_format)
        return self._reader.feed(piece)

    def passing(self, pieces: Sequence[bytes]) -> int:
        """How many of the next pieces, from the first on, `feed` would return unchanged and without any effect."""
        return self._reader.passing(pieces) if self._has_begun else 0

    def end(self) -> bytes:
        """Note that the message is complete; return the rest."""
        return self._reader.end()
