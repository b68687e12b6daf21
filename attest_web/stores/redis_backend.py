"""Redis or Valkey, alone, behind sentinels or as a cluster.

Keys are `{MODEL_NAME}:chat:{id}`, values JSON, and an expiry of Redis's own ends them. All that has to be allowed there
is `SET`, `GET` and `PING`.
"""

import contextlib
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis, RedisCluster
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.exceptions import ConnectionError as LostConnectionError
from redis.exceptions import RedisClusterException, RedisError
from redis.retry import Retry
from redis.sentinel import Sentinel

from attest_web.signatures import SignedExchange
from attest_web.stores.address import RedisAddress
from attest_web.stores.backend import BackendError, Write, from_json, to_json

WRITE_TIMEOUT = 2.0
"""Seconds that Redis may take for a batch, or to be connected to. More than a chat waits: slow is better than not."""

READ_TIMEOUT = 0.5
MAX_READERS = 16
"""Connections for lookups at most."""

Client = Any
"""redis-py's clients have the same methods and no base in common."""


class RedisBackend:
    """See `Backend`."""

    def __init__(self, address: RedisAddress, model_name: str) -> None:
        """Connect to nothing yet.

        Args:
            address: Where it is.
            model_name: First part of every key.
        """
        self._prefix = f"{model_name}:chat:"
        self._writer = _LazyClient(address, WRITE_TIMEOUT, 2)
        self._readers = _LazyClient(address, READ_TIMEOUT, MAX_READERS)

    def write(self, batch: Sequence[Write]) -> list[bool]:
        """See `Backend.write`."""
        now = time.monotonic()
        values = [to_json(write.signed) for write in batch]

        def send(client: Client) -> list[bool]:
            pipeline = client.pipeline(**_no_transaction(client))
            for write, value in zip(batch, values, strict=True):
                left = max(1, math.ceil(write.expires - now))
                pipeline.set(self._prefix + write.chat_id, value, nx=True, ex=left)
            stored = [bool(answer) for answer in pipeline.execute()]
            for at, write in enumerate(batch):
                if not stored[at]:
                    # Ours, perhaps: an earlier attempt may have arrived though its answer did not.
                    stored[at] = client.get(self._prefix + write.chat_id) == values[at].encode()
            return stored

        return _guarded(self._writer, send)

    def read(self, chat_id: str) -> SignedExchange | None:
        """See `Backend.read`."""
        found = _guarded(self._readers, lambda client: client.get(self._prefix + chat_id))
        return None if found is None else from_json(found)

    def check(self) -> None:
        """See `Backend.check`. Redis cleans up by itself."""
        _guarded(self._writer, lambda client: client.ping())

    def close(self) -> None:
        """See `Backend.close`."""
        self._writer.close()
        self._readers.close()


def _guarded[T](lazy: "_LazyClient", call: Callable[[Client], T]) -> T:
    """Make a call.

    Raises:
        BackendError: It failed. What redis-py says may quote ids, so only the kind of error is passed on.
    """
    try:
        return call(lazy.client())
    except (RedisError, RedisClusterException, OSError) as error:
        raise BackendError(type(error).__name__) from None


def _no_transaction(client: Client) -> dict[str, bool]:
    # A cluster cannot have one over several slots, and redis-py's pipeline for it takes no such argument.
    return {} if isinstance(client, RedisCluster) else {"transaction": False}


# redis-py's own types end here.
_node: Callable[[str, int], ClusterNode] = ClusterNode
_sentinel: Callable[..., Any] = Sentinel


class _LazyClient:
    """A client that is made when it is needed: that of a cluster asks the cluster at once."""

    def __init__(self, address: RedisAddress, timeout: float, connections: int) -> None:
        self._address = address
        self._options = _connection_options(address, timeout)
        self._connections = connections
        self._lock = threading.Lock()
        self._client: Client = None

    def client(self) -> Client:
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def close(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            with contextlib.suppress(RedisError, OSError):  # it is gone either way
                client.close()

    def _make(self) -> Client:
        address, options = self._address, self._options
        login: dict[str, Any] = {"username": address.username, "password": address.password}
        if address.kind == "cluster":
            nodes = [_node(host, port) for host, port in address.hosts]
            return RedisCluster(startup_nodes=nodes, max_connections=self._connections, **login, **options)
        login["db"] = address.database
        if address.kind == "sentinel":
            sentinels = _sentinel(
                list(address.hosts),
                sentinel_kwargs={"password": address.sentinel_password, **options},
                **login,
                **options,
            )
            return sentinels.master_for(address.service, max_connections=self._connections)
        ((host, port),) = address.hosts
        return Redis(host=host, port=port, max_connections=self._connections, **login, **options)


def _connection_options(address: RedisAddress, timeout: float) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_timeout": timeout,
        "socket_connect_timeout": timeout,
        "protocol": 2,
        # Once, for a connection that went away while it was idle. What takes too long is not tried again.
        "retry": Retry(NoBackoff(), 1, supported_errors=(LostConnectionError,)),
    }
    if address.tls:
        options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **dict(address.tls_files)}
    return options
