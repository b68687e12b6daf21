"""What is shown of an exchange: its status, and the sizes and hashes of its bodies."""

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum

from addons.exchange.body_digest import BodyDigest
from addons.exchange.flow_facts import FlowFacts
from addons.exchange.record import Exchange
from addons.exchange.route import Kind

MAX_MODEL_READ = 1024 * 1024
"""Bytes of a request up to which it is read once more for the name of its model."""

_MODEL = re.compile(r"[\w./:@+~-]{1,128}")
"""Names of models. Other text could be a part of a prompt, and is not shown."""


class Standing(StrEnum):
    """The status of an exchange, as it is shown."""

    PENDING = "pending"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class InspectedFlow:
    """A flow that is shown.

    Attributes:
        exchange: The record of its exchange.
        facts: What the inspection records of it.
    """

    exchange: Exchange
    facts: FlowFacts

    @property
    def due(self) -> bool:
        """Whether it is to be signed at all."""
        return self.exchange.route.kind is Kind.SIGNED

    def standing(self) -> tuple[Standing, str | None]:
        """Its status, and why it is unsigned or has failed.

        A signed exchange stays signed, even if the client has disconnected: its signature can be fetched.
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


class MeasuredBody:
    """Takes the digest of a body at one side of its pipeline, which it observes."""

    def __init__(self, digest: BodyDigest, *, as_received: bool) -> None:
        """Make it.

        Args:
            digest: Updated with the body.
            as_received: Whether the body is measured as received, and not as sent on.
        """
        self._digest = digest
        self._as_received = as_received

    def passed(self, received: bytes, sent: bytes) -> None:
        """Hash the bytes of the measured side."""
        self._digest.add(received if self._as_received else sent)

    def ended(self) -> None:
        """Note that the whole body has passed."""
        self._digest.end()


class Modifier:
    """A transform that another addon has put into a message as its modifier (`stream`), which may do anything.

    Attributes:
        changes_length: False: the other addon has to keep the message's head consistent.
    """

    def __init__(self, modify: Callable[[bytes], bytes | Iterable[bytes]]) -> None:
        self.changes_length = False
        self._modify = modify

    def feed(self, piece: bytes) -> bytes:
        """Modify the next piece; return what is sent on."""
        modified = self._modify(piece)
        return modified if isinstance(modified, bytes) else b"".join(modified)

    def end(self) -> bytes:
        """Note that the body is complete; return the rest."""
        return self.feed(b"")


def model_of(body: bytes) -> str | None:
    """The model that a request names, if that is a plausible name."""
    if len(body) > MAX_MODEL_READ:
        return None
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        return None
    model = request.get("model") if isinstance(request, dict) else None
    return model if isinstance(model, str) and _MODEL.fullmatch(model) else None
