"""The messages between a supervisor and its workers, over a socket pair that the worker inherits.

So no key is on a disk, on a command line or in an environment. Each message is a packet:

- The supervisor sends `WorkerConfig` once, with the sockets to listen on and, if there is one, the file of the TLS key.
- The worker sends `Ready` once, when it listens and has its signing keys.
- The supervisor sends `Retire` when another worker has taken the slot.
- If the socket is closed, the other process has ended. A worker then stops as on SIGTERM.
"""

import json
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar

from pydantic import SecretStr

from attest_web.process.memory_file import MemoryFile

MAX_PACKET = 160 * 1024
"""Most bytes of a packet: a variable of the environment, such as TOKEN, has up to 128 KiB (execve(2))."""


@dataclass(frozen=True)
class Ready:
    """Message of a worker that serves.

    Attributes:
        addresses: Its signing addresses.
    """

    addresses: tuple[str, ...]

    def packet(self) -> bytes:
        """The message as a packet."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def read(cls, packet: bytes) -> "Ready":
        """Read the message from a packet.

        Raises:
            ValueError: The packet is another message.
        """
        try:
            return cls(tuple(json.loads(packet)["addresses"]))
        except (KeyError, TypeError) as error:
            raise ValueError("not what a worker says when it is ready") from error


@dataclass(frozen=True)
class Retire:
    """Message to a worker whose slot another worker has taken.

    Attributes:
        token: The current TOKEN. Later requests on the worker's open connections need one of these tokens.
    """

    token: SecretStr

    _BEGINNING: ClassVar = b"retire "

    def packet(self) -> bytes:
        """The message as a packet."""
        return self._BEGINNING + self.token.get_secret_value().encode()

    @classmethod
    def read(cls, packet: bytes) -> "Retire":
        """Read the message from a packet.

        Raises:
            ValueError: The packet is another message.
        """
        if not packet.startswith(cls._BEGINNING):
            raise ValueError("not what a supervisor says when a worker is to retire")
        return cls(SecretStr(packet[len(cls._BEGINNING) :].decode()))


@dataclass(frozen=True)
class WorkerConfig:
    """The configuration that a supervisor sends to a worker.

    Attributes:
        number: The worker's number, from 1.
        workers: Number of workers.
        store: Address of the store of signatures, used if the settings name none that processes can share.
        metrics: Directory in which all workers write their metrics.
        metrics_number: Number of this worker's files there.
        secrets: The ECDSA secret and the Ed25519 seed in hex; None if the worker gets its keys from dstack.
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
        """Send the configuration, with the open files of the worker.

        Args:
            channel: The channel to the worker.
            listeners: The sockets for the port that clients use and for the side port.
            tls_file: Key and chain of TLS.

        Raises:
            OSError: The worker has ended.
        """
        descriptors = [listener.fileno() for listener in listeners]
        if tls_file is not None:
            descriptors.append(tls_file.fileno())
        socket.send_fds(channel, [json.dumps(asdict(self)).encode()], descriptors)
