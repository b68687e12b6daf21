"""The context of a worker: what it gets from its supervisor, and shares with the other workers."""

import socket
from dataclasses import dataclass, field

from attest_web.keys import SigningKeys
from attest_web.metrics import SharedFiles
from attest_web.process.memory_file import MemoryFile
from attest_web.store_address import StoreAddress


@dataclass(frozen=True)
class WorkerContext:
    """What a worker gets from its supervisor; by default nothing, as for a single process.

    Attributes:
        number: The worker's number, from 1; 0 for a single process.
        workers: How many workers there are. Limits for all clients together are divided by it.
        keys: The signing keys; None where this process gets its own.
        store: The shared store of signatures, where the settings name none.
        metrics: Where this worker writes its metrics.
        listener: Listens at the port that clients use.
        side_listener: Listens at the side port.
        tls_file: Key and chain of TLS, in PEM; None has them made, or served by other means.
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
        """This worker's share of a limit, 1 or more where there is one."""
        return -(-limit // self.workers)
