"""The context of a worker: what it receives from its supervisor, and shares with the other workers."""

import socket
from dataclasses import dataclass, field

from attest_web.keys import SigningKeys
from attest_web.metrics import SharedFiles
from attest_web.process.memory_file import MemoryFile
from attest_web.store_address import StoreAddress


@dataclass(frozen=True)
class WorkerContext:
    """What a worker receives from its supervisor; the defaults are those of a single process.

    Attributes:
        number: The worker's number, from 1; 0 for a single process.
        workers: Number of workers, by which limits for all clients together are divided.
        keys: The signing keys; None if this process gets them from dstack or makes random ones.
        store: The shared store of signatures, if the settings name none.
        metrics: The files in which this worker writes its metrics.
        listener: Socket that listens at the port that clients use.
        side_listener: Socket that listens at the side port.
        tls_file: Key and chain of TLS, in PEM, from dstack; None if there are none from the supervisor.
    """

    number: int = 0
    workers: int = 1
    keys: SigningKeys | None = field(default=None, repr=False)
    store: StoreAddress | None = None
    metrics: SharedFiles | None = None
    listener: socket.socket | None = None
    side_listener: socket.socket | None = None
    tls_file: MemoryFile | None = None

    def share_of(self, limit: int) -> int:
        """This worker's share of a limit, rounded up."""
        return -(-limit // self.workers)
