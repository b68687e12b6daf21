"""An HTTP/2 client for tests of frames: hyper-h2 over TLS, without its checks of what is sent.

A GOAWAY does not keep it from going on, with new streams, too, where it names no error.
"""

import socket
import ssl
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Self

import h2.config
import h2.events
import h2.exceptions
import h2.settings
from hyperframe.frame import Frame

from tests.e2e.support.processes import TOKEN
from tests.support.limits import Deadline, limit
from tests.support.patient_http2 import PatientConnection

Fields = list[tuple[str, str]]


@dataclass
class Answer:
    """What was received on a stream."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list, repr=False)
    ended: bool = False
    reset: int | None = None

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)


def fields(method: str = "POST", path: str = "/v1/chat/completions", *more: tuple[str, str]) -> Fields:
    """A request's header fields, with a token unless `more` has another authorization."""
    made = [(":method", method), (":scheme", "https"), (":authority", "proxy"), (":path", path)]
    if "authorization" not in dict(more):
        made.append(("authorization", f"Bearer {TOKEN}"))
    return [*made, *more]


class Http2Client:
    """A connection to the proxy.

    Attributes:
        answers: The responses, by stream.
        gone: The error code of the proxy's last GOAWAY; None while there is none.
        goaways: The last stream that each GOAWAY has named.
        closed: Whether the connection has ended.
        h2: The connection's state. Its frames are sent by `flush`.
    """

    def __init__(self, port: int, window: int | None = None) -> None:
        """Connect.

        Args:
            port: Where the proxy listens.
            window: Bytes that are received on a stream before its window is opened again; None opens it at once.
        """
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(["h2", "http/1.1"])
        plain = socket.create_connection(("127.0.0.1", port), timeout=limit())
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock = context.wrap_socket(plain)
        assert self.sock.selected_alpn_protocol() == "h2"
        config = h2.config.H2Configuration(
            header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = PatientConnection(config)
        self._acknowledges = window is None
        if window is not None:
            self.h2.local_settings.initial_window_size = window
            self.h2.local_settings.acknowledge()
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**30)
        self.answers: dict[int, Answer] = {}
        self.gone: int | None = None
        self.goaways: list[int] = []
        self.closed = False
        self._cannot_send = False
        self.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def flush(self) -> None:
        """Send hyper-h2's output. If the proxy has ended the connection, `wait` reports that."""
        self._send(self.h2.data_to_send())

    def send_frames(self, *frames: Frame) -> None:
        """Send frames unchecked."""
        self.flush()
        self._send(b"".join(frame.serialize() for frame in frames))

    def _send(self, data: bytes) -> None:
        if data and not self._cannot_send:
            try:
                self.sock.sendall(data)
            except (BrokenPipeError, ConnectionResetError, ssl.SSLError):
                self._cannot_send = True

    def begin(self, headers: Fields, *, end: bool = False) -> int:
        """Begin a request; return its stream. Nothing is sent if the proxy has ended the connection."""
        stream_id = self.h2.get_next_available_stream_id()
        self.answers[stream_id] = Answer()
        if not self.gone:
            self.h2.send_headers(stream_id, headers, end_stream=end)
            self.flush()
        return stream_id

    def send(self, stream_id: int, data: bytes, *, end: bool = False) -> None:
        """Send a piece of a body, in one frame."""
        self.h2.send_data(stream_id, data, end_stream=end)
        self.flush()

    def request(self, headers: Fields, body: bytes | Iterable[bytes] = b"") -> Answer:
        """Send a request and wait for its complete response."""
        stream_id = self.begin(headers, end=body == b"")
        if body != b"":
            for piece in [body] if isinstance(body, bytes) else body:
                self.send(stream_id, piece)
            self.send(stream_id, b"", end=True)
        return self.finish(stream_id)

    def finish(self, stream_id: int) -> Answer:
        """Wait for the end of a response, by its last frame, a reset, or the end of the connection."""
        answer = self.answers[stream_id]
        self.wait(lambda: answer.ended or answer.reset is not None or self.closed)
        return answer

    def open_windows(self) -> None:
        """Open all windows from now on."""
        self._acknowledges = True
        for stream_id, answer in self.answers.items():
            if not answer.ended:
                self.h2.increment_flow_control_window(2**30, stream_id)
        self.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 2**20})
        self.flush()

    def wait(self, condition: Callable[[], object]) -> None:
        """Read until a condition holds."""
        deadline = Deadline()
        while not condition():
            assert deadline.left > 0, f"it never came; there is {self.answers}"
            self._read()

    def wait_reset(self, stream_id: int) -> None:
        """Wait until the proxy resets a stream."""
        answer = self.answers[stream_id]
        self.wait(lambda: answer.reset is not None)

    def wait_closed(self) -> None:
        """Read until the proxy ends the connection."""
        self.wait(lambda: self.closed)

    def _read(self) -> None:
        assert not self.closed, f"the connection has ended; there is {self.answers}, and {self.gone}"
        try:
            data = self.sock.recv(65536)
        except (ConnectionResetError, ssl.SSLError):
            data = b""
        if not data:
            self.closed = True
            return
        try:
            received = self.h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise AssertionError(f"the proxy breaks the rules: {error}") from error
        for event in received:
            self._take(event)
        self.flush()

    def _take(self, event: h2.events.Event) -> None:
        if isinstance(event, h2.events.ConnectionTerminated):
            self.gone = int(event.error_code or 0)
            self.goaways.append(event.last_stream_id or 0)
        answer = self.answers.get(getattr(event, "stream_id", 0))
        if answer is None:
            return
        if isinstance(event, h2.events.ResponseReceived):
            answer.headers = {str(name): str(value) for name, value in event.headers or ()}
            answer.status = int(answer.headers.pop(":status"))
        elif isinstance(event, h2.events.DataReceived):
            answer.pieces.append(event.data or b"")
            if self._acknowledges:
                self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            answer.ended = True
        elif isinstance(event, h2.events.StreamReset):
            answer.reset = int(event.error_code)
