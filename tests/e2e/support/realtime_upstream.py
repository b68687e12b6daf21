"""An upstream that sends OpenAI's realtime events over WebSockets, and has other behaviours by path."""

import json
import queue
import ssl
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve
from websockets.typing import Subprotocol

ANSWER = ["Hel", "lo, ", "wörld", "!"]


@dataclass(frozen=True)
class RealtimeUpstream:
    """A running realtime upstream.

    Attributes:
        url: Where it listens, for `--mode`.
        handshakes: The headers of every handshake that reached it, in order, by target.
        closings: The codes with which connections ended, as it saw it, by target; 1006 where no Close frame came.
        heard: What clients of the realtime API have said, by target.
    """

    url: str
    handshakes: "defaultdict[str, queue.Queue[Headers]]" = field(default_factory=lambda: defaultdict(queue.Queue))
    closings: "defaultdict[str, queue.Queue[int]]" = field(default_factory=lambda: defaultdict(queue.Queue))
    heard: defaultdict[str, bytes] = field(default_factory=lambda: defaultdict(bytes))


def _converse(connection: ServerConnection, heard: defaultdict[str, bytes]) -> None:
    """Respond as the path demands."""
    assert connection.request is not None
    match connection.request.path.partition("?")[0]:
        case "/v1/realtime":
            connection.send(json.dumps({"type": "session.created", "event_id": "e0"}))
            for message in connection:
                heard[connection.request.path] += message if isinstance(message, bytes) else message.encode()
                if json.loads(message)["type"] == "response.create":
                    for number, delta in enumerate(ANSWER):
                        event = {"type": "response.output_text.delta", "event_id": f"e{number}", "delta": delta}
                        connection.send(json.dumps(event))
                    connection.send(json.dumps({"type": "response.done", "event_id": "e9"}))
        case "/v1/echo":  # fragments in as many fragments
            while True:
                fragments = list(connection.recv_streaming())
                connection.send(iter(fragments) if len(fragments) > 1 else fragments[0])
        case "/v1/count":  # how much has come
            for message in connection:
                connection.send(str(len(message)))
        case "/v1/close":  # at the first message
            connection.recv()
            connection.close(4000, "enough")
        case "/v1/flood":
            size = int(connection.recv())
            connection.send(b"\0" * size)
            connection.recv()


@contextmanager
def running_realtime_upstream(tls: ssl.SSLContext | None = None) -> Iterator[RealtimeUpstream]:
    """A realtime server in a thread of this process, for as long as the context lasts."""

    def handle(connection: ServerConnection) -> None:
        assert connection.request is not None
        upstream.handshakes[connection.request.path].put(connection.request.headers)
        try:
            _converse(connection, upstream.heard)
        except ConnectionClosed:
            pass
        finally:
            connection.close()
            upstream.closings[connection.request.path].put(connection.protocol.close_code or 0)

    with serve(handle, "127.0.0.1", 0, ssl=tls, max_size=None, select_subprotocol=_first_of_theirs) as server:
        scheme = "http" if tls is None else "https"
        upstream = RealtimeUpstream(f"{scheme}://127.0.0.1:{server.socket.getsockname()[1]}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield upstream
        finally:
            server.shutdown()
            thread.join(10)


def _first_of_theirs(_: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None
