"""What those who look at flows may know of an exchange: how it stands, and of its bodies their sizes and hashes."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

from addons.bodies.signing_filter import BodyReader
from addons.exchange.body_digest import BodyDigest
from addons.exchange.flow_facts import FlowFacts
from addons.exchange.record import Exchange
from addons.exchange.route import Kind
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


@dataclass(frozen=True, slots=True)
class InspectedFlow:
    """What is known of a flow that is shown.

    Attributes:
        exchange: What all addons know of it.
        facts: What is kept of it to be shown.
    """

    exchange: Exchange
    facts: FlowFacts

    @property
    def due(self) -> bool:
        """Whether it is to be signed at all."""
        return self.exchange.route.kind is Kind.SIGNED

    def standing(self) -> tuple[Standing, str | None]:
        """How it stands, and why it is unsigned or has failed.

        An exchange that has been signed stays so: whoever has gone meanwhile, its signature can be fetched.
        """
        exchange, status = self.exchange, self.exchange.status
        if exchange.state == "signed":
            return Standing.SIGNED, None
        if exchange.state == "failed":
            return Standing.FAILED, exchange.reason
        if self.facts.error is not None:
            return Standing.FAILED, self.facts.error
        if status is None or not self.facts.ended or (exchange.is_websocket and not exchange.ended):
            return Standing.PENDING, None
        if exchange.route.kind is Kind.PROOF:
            return Standing.UNSIGNED, "a proof page"
        if exchange.made_here:
            return Standing.UNSIGNED, f"answered here with {status}"
        reason = exchange.reason or "this endpoint is not signed"
        if status < 400:
            return Standing.UNSIGNED, reason
        return Standing.FAILED if self.due and status >= 500 else Standing.UNSIGNED, f"{reason} ({status})"


class MeasuredStream:
    """A modifier that measures what passes a stream (`flow.request.stream`, `flow.response.stream`)."""

    def __init__(
        self, digest: BodyDigest, inner: Callable[[bytes], bytes | Iterable[bytes]] | None, *, as_it_came: bool = False
    ) -> None:
        """Make it.

        Args:
            digest: Of what is measured.
            inner: The modifier that was there before, if any; what it lets pass is measured.
            as_it_came: Whether what comes to it is measured instead.
        """
        self._digest = digest
        self._inner = inner
        self._as_it_came = as_it_came

    def __call__(self, piece: bytes) -> bytes | Iterable[bytes]:
        """Take a piece from mitmproxy, `b""` at the end of the message."""
        passing: bytes | Iterable[bytes] = piece if self._inner is None else self._inner(piece)
        if not isinstance(passing, bytes):
            passing = list(passing)
        measured = piece if self._as_it_came else passing
        for part in [measured] if isinstance(measured, bytes) else measured:
            self._digest.add(part)
        if not piece:
            self._digest.end()
        return passing


class MeasuredReader:
    """Measures a body that is read by another reader.

    Attributes:
        id: As the other reader's.
        finished: As the other reader's.
    """

    def __init__(self, digest: BodyDigest, inner: BodyReader) -> None:
        """Make it.

        Args:
            digest: Of what is measured.
            inner: Reads the body.
        """
        self.id = inner.id
        self.finished = inner.finished
        self._digest = digest
        self._inner = inner

    @property
    def usage(self) -> Usage | None:
        """See `BodyReader.usage`."""
        return self._inner.usage

    def feed(self, piece: bytes) -> bytes:
        """See `BodyReader.feed`."""
        self._digest.add(piece)
        released = self._inner.feed(piece)
        self.id, self.finished = self._inner.id, self._inner.finished
        return released

    def passing(self, pieces: Sequence[bytes]) -> int:
        """See `BodyReader.passing`. Whoever asks lets so many pass, unread."""
        taken = self._inner.passing(pieces)
        for piece in pieces[:taken]:
            self._digest.add(piece)
        return taken

    def end(self) -> bytes:
        """See `BodyReader.end`."""
        rest = self._inner.end()
        self.id, self.finished = self._inner.id, self._inner.finished
        self._digest.end()
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
