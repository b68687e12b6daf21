"""What a worker has from its supervisor, and shares with the other workers."""

import socket
from dataclasses import dataclass, field

from attest_web.keys import SigningKeys
from attest_web.metrics import SharedFiles
from attest_web.process.memory_file import MemoryFile
from attest_web.store_address import StoreAddress


@dataclass(frozen=True)
class WorkerContext:
    """What a worker has from its supervisor; by default nothing, as for a proxy that is alone.

    Attributes:
        number: Which worker this is; 0 for a proxy that is alone.
        workers: How many workers there are. Limits for all clients together are divided by it.
        keys: What to sign with; None has them made or asked for.
        store: Where signatures go, if the settings name no place that processes can share.
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
        """This worker's part of a limit, 1 or more where there is one."""
        return -(-limit // self.workers)
