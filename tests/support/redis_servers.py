"""Real Redis (or Valkey) servers, and a forwarder to one that can be cut or slowed down."""

import contextlib
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from tests.support.limits import Deadline, limit
from tests.support.tools import REDIS, needs

needs_redis = needs(REDIS)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class RedisServer:
    """A server that can be stopped and started. It keeps nothing on disk by default."""

    def __init__(
        self, directory: Path, *arguments: str, password: str = "", port: int = 0, sentinel: Path | None = None
    ) -> None:
        self._sentinel = sentinel
        self.port = port or free_port()
        self.password = password
        self._directory = directory
        self._arguments = [*arguments, *(["--requirepass", password] if password else [])]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        login = f":{self.password}@" if self.password else ""
        return f"redis://{login}127.0.0.1:{self.port}"

    def client(self) -> "Redis":
        return Redis(port=self.port, password=self.password or None, socket_timeout=limit())

    def start(self) -> None:
        listening = [] if "--tls-port" in self._arguments else ["--port", str(self.port)]
        sentinel = [str(self._sentinel)] if self._sentinel else []
        command = [REDIS.require(), *sentinel, *listening, "--bind", "127.0.0.1", "--dir", str(self._directory)]
        command += ["--sentinel"] if sentinel else ["--save", ""]
        self._process = subprocess.Popen(
            [*command, *self._arguments], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        deadline = Deadline()
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
                return
            except OSError:
                assert self._process.poll() is None
                assert deadline.left > 0
                time.sleep(0.01)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(limit())
            self._process = None


@contextmanager
def running_redis(
    directory: Path, *arguments: str, password: str = "", port: int = 0, sentinel: Path | None = None
) -> Iterator[RedisServer]:
    """A server, for as long as the context lasts; a sentinel if its configuration is given."""
    server = RedisServer(directory, *arguments, password=password, port=port, sentinel=sentinel)
    try:
        server.start()
        yield server
    finally:
        server.stop()


def flushed(server: RedisServer) -> RedisServer:
    with server.client() as client, contextlib.suppress(RedisError):
        client.flushall()
    return server


class Wire:
    """Forwards bytes to a port. While it is `dead`, it forwards nothing and reports no error."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self._alive = threading.Event()
        self._alive.set()
        self._ended = False
        self.delay = 0.0
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def die(self) -> None:
        self._alive.clear()

    def revive(self) -> None:
        self._alive.set()

    def close(self) -> None:
        self._ended = True
        self._alive.set()
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _accept(self) -> None:
        while not self._ended:
            try:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target), timeout=limit())
            except OSError:
                continue
            self._sockets += [client, server]
            threading.Thread(target=self._pass, args=(client, server), daemon=True).start()

    def _pass(self, client: socket.socket, server: socket.socket) -> None:
        try:
            while not self._ended:
                for readable in select.select([client, server], [], [], 0.5)[0]:
                    data = readable.recv(65536)
                    self._alive.wait()
                    if readable is client and self.delay:
                        time.sleep(self.delay)
                    (server if readable is client else client).sendall(data)
                    if not data:
                        return
        except (OSError, ValueError):
            pass
        finally:
            client.close()
            server.close()


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()
