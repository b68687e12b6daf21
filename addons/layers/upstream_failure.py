"""The event by which a connection to the upstream tells a stream that its attempt has failed, and how."""

from mitmproxy.proxy.layers.http._events import ErrorCode, ResponseProtocolError

from addons.exchange.attempt import AttemptOutcome


class UpstreamFailure(ResponseProtocolError):  # noqa: N818  # an event, not an exception
    """An attempt has failed on its connection.

    Attributes:
        outcome: How.
    """

    def __init__(self, stream_id: int, message: str, outcome: AttemptOutcome) -> None:
        """Make the event.

        Args:
            stream_id: Of the stream whose request was sent.
            message: For the log and the client; it quotes nothing of the response.
            outcome: How it has failed.
        """
        super().__init__(stream_id, message, ErrorCode.GENERIC_SERVER_ERROR)
        self.outcome = outcome


def outcome_of(event: ResponseProtocolError) -> AttemptOutcome:
    """What came of an attempt that has ended with an event, be it of this proxy's layers or of mitmproxy's."""
    if isinstance(event, UpstreamFailure):
        return event.outcome
    # mitmproxy's own are of connections that could not be made, and of flows that were killed here.
    return AttemptOutcome.CONNECT_FAILED if event.code is ErrorCode.CONNECT_FAILED else AttemptOutcome.ABANDONED
