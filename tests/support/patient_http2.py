"""hyper-h2's client, changed to continue its streams after a GOAWAY (RFC 9113, 6.8); hyper-h2 itself would end."""

from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event
from hyperframe.frame import Frame, GoAwayFrame


class PatientConnection(H2Connection):
    """A client's connection that no GOAWAY closes; each is still reported as an event."""

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code = frame.error_code
        event.last_stream_id = frame.last_stream_id
        event.additional_data = frame.additional_data or None
        return [], [event]
