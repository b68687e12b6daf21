"""The event with which an upstream connection notifies a stream of a failed attempt and its outcome."""

from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError

from addons.exchange.attempt import AttemptOutcome


class UpstreamFailure(ResponseProtocolError):  # noqa: N818  # an event, not an exception
    """An attempt has failed on its connection.

    Attributes:
        outcome: The outcome of the attempt.
    """

    def __init__(self, stream_id: int, message: str, outcome: AttemptOutcome) -> None:
        """Make the event.

        Args:
            stream_id: Id of the stream whose request was sent.
            message: Message for the log and the client; it quotes nothing of the response.
            outcome: The outcome of the attempt.
        """
        super().__init__(stream_id, message, ErrorCode.GENERIC_SERVER_ERROR)
        self.outcome = outcome


def outcome_of(event: ResponseProtocolError) -> AttemptOutcome:
    """The outcome of an attempt that has ended with an event of this proxy's layers or of mitmproxy's."""
    if isinstance(event, UpstreamFailure):
        return event.outcome
    # mitmproxy's own events are for connections that could not be made, and for flows that were killed.
    return AttemptOutcome.CONNECT_FAILED if event.code is ErrorCode.CONNECT_FAILED else AttemptOutcome.ABANDONED
