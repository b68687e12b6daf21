"""What those who look at flows may know of an exchange: how it stands, and of its bodies their sizes and hashes."""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from addons.bodies.signing_filter import BodyReader
from addons.exchange.record import Exchange
from addons.exchange.usage import Usage

MAX_MODEL_READ = 1024 * 1024
"""Bytes of a request up to which it is read once more for the name of its model."""

_MODEL = re.compile(r"[\w./:@+~-]{1,128}")
"""Names of models. What looks otherwise may be anything, and is not shown."""


class Standing(StrEnum):
    """How an exchange stands, for those who look at it."""

    PENDING = "pending"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    FAILED = "failed"


class BodyFacts:
    """What is told of a body in its place, taken while it passes.

    Attributes:
        size: Bytes so far.
        complete: Whether that is all of it.
    """

    def __init__(self) -> None:
        self.size = 0
        self.complete = False
        self._sha256 = hashlib.sha256()

    def add(self, piece: bytes) -> None:
        """Take the next piece in."""
        self.size += len(piece)
        self._sha256.update(piece)

    @property
    def sha256(self) -> str:
        """The hash of what has passed so far, in lower-case hex."""
        return self._sha256.hexdigest()

    def describe(self) -> str:
        """Size and hash in words."""
        if self.complete:
            return f"{self.size} bytes, SHA-256 {self.sha256}"
        return f"{self.size} bytes so far"


@dataclass(eq=False)
class InspectedExchange:
    """An exchange, as it is shown.

    Attributes:
        exchange: What the addons know of it.
        route: Method and path.
        due: Whether it is to be signed at all.
        page: Whether it is one of the proof pages.
        status: Of the answer, when that is complete.
        made_here: Whether the answer is this proxy's own.
        error: What has gone wrong, sanitised.
        is_websocket: Whether it is a WebSocket. What passes then is not measured.
        model: The model that was asked for, where the request tells and that looks like the name of one.
        request: Of the request body, as the client sent it.
        response: Of the response body, as the client gets it.
        notices: What stands in place of the bodies in the flow, by the name of the message.
        comment: What has been written into the flow's comment.
        mark: What it has been marked with.
    """

    exchange: Exchange
    route: str
    due: bool
    page: bool = False
    status: int | None = None
    made_here: bool = False
    error: str | None = None
    is_websocket: bool = False
    model: str | None = None
    request: BodyFacts = field(default_factory=BodyFacts)
    response: BodyFacts = field(default_factory=BodyFacts)
    notices: dict[str, bytes] = field(default_factory=dict)
    comment: str = ""
    mark: str = ""

    def standing(self) -> tuple[Standing, str | None]:
        """How it stands, and why it is unsigned or has failed.

        An exchange that has been signed stays so: whoever has gone meanwhile, its signature can be fetched.
        """
        if self.exchange.state == "signed":
            return Standing.SIGNED, None
        if self.exchange.state == "failed":
            return Standing.FAILED, self.exchange.reason
        if self.error is not None:
            return Standing.FAILED, self.error
        if self.status is None or (self.is_websocket and not self.exchange.ended):
            return Standing.PENDING, None
        if self.page:
            return Standing.UNSIGNED, "a proof page"
        if self.made_here:
            return Standing.UNSIGNED, f"answered here with {self.status}"
        reason = self.exchange.reason or "this endpoint is not signed"
        if self.status < 400:
            return Standing.UNSIGNED, reason
        bad = self.due and self.status >= 500
        return Standing.FAILED if bad else Standing.UNSIGNED, f"{reason} ({self.status})"


class MeasuredStream:
    """A modifier that measures what passes a stream (`flow.request.stream`, `flow.response.stream`)."""

    def __init__(
        self, facts: BodyFacts, inner: Callable[[bytes], bytes | Iterable[bytes]] | None, *, as_it_came: bool = False
    ) -> None:
        """Make it.

        Args:
            facts: What is learnt.
            inner: The modifier that was there before, if any; what it lets pass is measured.
            as_it_came: Whether what comes to it is measured instead.
        """
        self._facts = facts
        self._inner = inner
        self._as_it_came = as_it_came

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Take a piece from mitmproxy, `b""` at the end of the message."""
        passing: bytes | Iterable[bytes] = piece if self._inner is None else self._inner(piece)
        if not isinstance(passing, bytes):
            passing = list(passing)
        measured = piece if self._as_it_came else passing
        for part in [measured] if isinstance(measured, bytes) else measured:
            self._facts.add(part)
        self._facts.complete = self._facts.complete or not piece
        return passing


class MeasuredReader:
    """Measures a body that is read by another reader.

    Attributes:
        id: As the other reader's.
        finished: As the other reader's.
    """

    def __init__(self, facts: BodyFacts, inner: BodyReader) -> None:
        """Make it.

        Args:
            facts: What is learnt.
            inner: Reads the body.
        """
        self.id = inner.id
        self.finished = inner.finished
        self._facts = facts
        self._inner = inner

    @property
    def usage(self) -> Usage | None:
        """See `BodyReader.usage`."""
        return self._inner.usage

    def feed(self, piece: bytes) -> bytes:
        """See `BodyReader.feed`."""
        self._facts.add(piece)
        released = self._inner.feed(piece)
        self.id, self.finished = self._inner.id, self._inner.finished
        return released

    def passing(self, pieces: Sequence[bytes]) -> int:
        """See `BodyReader.passing`. Whoever asks lets so many pass, unread."""
        taken = self._inner.passing(pieces)
        for piece in pieces[:taken]:
            self._facts.add(piece)
        return taken

    def end(self) -> bytes:
        """See `BodyReader.end`."""
        rest = self._inner.end()
        self.id, self.finished = self._inner.id, self._inner.finished
        self._facts.complete = True
        return rest


def model_of(body: bytes) -> str | None:
    """The model that a request asks for, where it tells so and that looks like the name of one."""
    if len(body) > MAX_MODEL_READ:
        return None
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and _MODEL.fullmatch(model) else None
