"""The view of an exchange that has ended, for the log and for traces: times, tokens and ids, without any content."""

from dataclasses import dataclass
from typing import Any

from addons.exchange.record import Exchange


@dataclass(frozen=True, slots=True)
class Summary:
    """A request that has ended.

    Attributes:
        event: The kind of the event that is logged.
        request_id: The `X-Request-Id` of the request and its response; an id of this proxy's own if it has none.
        method: Method of the request; `other` if it is not a standard one.
        status: Status of the response; 499 if the client disconnected before it.
        seconds: From the first byte of the request to the last of the response.
        first_token_seconds: From the first byte of the request to the first event of a streamed response.
        exchange: The record of the exchange.
    """

    request_id: str
    method: str
    status: int
    seconds: float
    first_token_seconds: float | None
    exchange: Exchange
    event: str = "request"

    @property
    def route(self) -> str:
        """The name of its row in the table of endpoints."""
        return self.exchange.route.name

    def fields(self) -> dict[str, Any]:
        """The known fields by name; times in seconds."""
        exchange = self.exchange
        usage = exchange.usage
        between = exchange.times.mean() if exchange.times is not None else None
        fields = {
            "request_id": self.request_id,
            "method": self.method,
            "route": self.route,
            "status": self.status,
            "duration_seconds": round(self.seconds, 6),
            "time_to_first_token_seconds": _rounded(self.first_token_seconds),
            "time_between_tokens_seconds": _rounded(between),
            "input_tokens": usage.input if usage is not None else None,
            "output_tokens": usage.output if usage is not None else None,
            "receipt_id": exchange.receipt_id,
            "signature": exchange.state,
            "reason": exchange.reason,
            "upstream_status": exchange.upstream_status,
            "upstream_error": exchange.upstream_error,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def __str__(self) -> str:
        """The same as a readable line."""
        exchange = self.exchange
        parts = [f"{self.method} {self.route} {self.status} in {self.seconds:.3f} s"]
        if self.first_token_seconds is not None:
            parts.append(f"first token after {self.first_token_seconds:.3f} s")
        if exchange.usage is not None:
            told = zip(exchange.usage, ("in", "out"), strict=True)
            parts.append("tokens " + " ".join(f"{count} {way}" for count, way in told if count is not None))
        if exchange.state == "signed":
            parts.append(f"signed {exchange.receipt_id}")
        elif exchange.state is not None:
            parts.append(f"not signed: {exchange.reason}")
        if exchange.upstream_error is not None:
            parts.append(f"the model server says {exchange.upstream_error}")
        parts.append(f"request {self.request_id}")
        return ", ".join(parts)


def _rounded(seconds: float | None) -> float | None:
    return round(seconds, 6) if seconds is not None else None
