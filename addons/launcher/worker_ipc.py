"""What a supervisor and its workers say to each other, over a socket that both have held from the beginning.

So no key is on a disk, on a command line or in an environment. What is said, a packet each:

- The supervisor says once what the worker inherits (`WorkerConfig`), and hands it the sockets to listen on and, if it
  has one, the file of the TLS key.
- The worker says `Ready` once, when it listens and its signing keys are there.
- The supervisor says `Retire` when another worker has taken this one's place.
- The end of the other's socket says that it is gone. A worker then stops as on SIGTERM.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from pydantic import SecretStr

from attest_web.process.memory_file import MemoryFile

MAX_PACKET = 160 * 1024
"""Bytes of a packet at most: a variable of the environment, as TOKEN is, has up to 128 KiB (execve(2))."""


@dataclass(frozen=True)
class Ready:
    """A worker serves.

    Attributes:
        addresses: By what verifiers know its keys.
    """

    addresses: tuple[str, ...]

    def packet(self) -> bytes:
        """As it is sent."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, packet: bytes) -> "Ready":
        """From what was sent.

        Raises:
            ValueError: It is something else.
        """
        try:
            return cls(tuple(json.loads(packet)["addresses"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not what a worker says when it is ready") from error


@dataclass(frozen=True)
class Retire:
    """Another worker has this one's place.

    Attributes:
        token: What TOKEN is by now. What the worker is still asked on connections that it has needs one of these.
    """

    token: SecretStr

    _BEGINNING: ClassVar = b"retire "

    def packet(self) -> bytes:
        """As it is sent."""
        return self._BEGINNING + self.token.get_secret_value().encode()

    @classmethod
    def read(cls, packet: bytes) -> "Retire":
        """From what was sent.

        Raises:
            ValueError: It is something else.
        """
        if not packet.startswith(cls._BEGINNING):
            raise ValueError("not what a supervisor says when a worker is to retire")
        return cls(SecretStr(packet[len(cls._BEGINNING) :].decode()))


@dataclass(frozen=True)
class WorkerConfig:
    """What a supervisor leaves to a worker, but for the sockets.

    Attributes:
        number: Which worker it is, from 1 on.
        workers: How many there are.
        store: Where the signatures are, if the settings name no place that processes can share.
        metrics: Directory in which all workers write their metrics.
        metrics_number: Number of this worker's files there.
        secrets: The ECDSA secret and the Ed25519 seed in hex; None has the worker ask for its keys.
    """

    number: int
    workers: int
    store: str
    metrics: str
    metrics_number: int
    secrets: tuple[str, str] | None

    def __repr__(self) -> str:
        return f"WorkerConfig(number={self.number}, workers={self.workers})"

    def send(
        self, channel: socket.socket, listeners: Sequence[socket.socket], tls_file: MemoryFile | None = None
    ) -> None:
        """Send it, and what the worker is to have open.

        Args:
            channel: To the worker.
            listeners: The sockets for the port that clients use and for the side port.
            tls_file: Key and chain of TLS.

        Raises:
            OSError: The worker is gone.
        """
        descriptors = [listener.fileno() for listener in listeners]
        if tls_file is not None:
            descriptors.append(tls_file.fileno())
        socket.send_fds(channel, [json.dumps(asdict(self)).encode()], descriptors)
