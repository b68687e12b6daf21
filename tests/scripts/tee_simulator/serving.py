"""A guest agent that serves within the test's own process."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from scripts.tee_simulator.agent import GuestAgent
from scripts.tee_simulator.guest import SimulatedGuest
from scripts.tee_simulator.server import Answer, SocketServer
from scripts.tee_simulator.tappd import Tappd


@dataclass(frozen=True)
class Serving:
    """An agent and where it is served.

    Attributes:
        guest: On whose behalf.
        path: dstack.sock.
        tappd_path: tappd.sock.
    """

    guest: SimulatedGuest
    path: Path
    tappd_path: Path

    def client(self, *, tappd: bool = False) -> httpx.Client:
        """An HTTP client of one of the sockets."""
        path = self.tappd_path if tappd else self.path
        return httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://dstack")

    def exchange(self, request: bytes) -> bytes:
        """Send bytes as they are; return all that comes back until the server closes."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(10)
            connection.connect(str(self.path))
            connection.sendall(request)
            received = b""
            while part := connection.recv(1 << 16):
                received += part
        return received


@contextmanager
def serving(where: Path, guest: SimulatedGuest) -> Iterator[Serving]:
    """Serve both sockets in a directory, for as long as the context lasts."""
    agent = GuestAgent(guest)
    paths = Serving(guest, where / "dstack.sock", where / "tappd.sock")
    with _served(paths.path, agent.answer, "/"), _served(paths.tappd_path, Tappd(guest, agent).answer, "/prpc/"):
        yield paths


@contextmanager
def _served(path: Path, answer: Answer, prefix: str) -> Iterator[None]:
    server = SocketServer(path, answer, prefix)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
