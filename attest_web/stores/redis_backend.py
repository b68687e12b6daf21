"""The backend for Redis or Valkey: a single server, a server behind sentinels, or a cluster.

Stored values expire in Redis itself. The only commands that must be allowed are `SET`, `GETRANGE` and `PING`. Values
are read with `GETRANGE`, so that a huge value of another client is not read beyond the largest size of a valid value.
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
from redis.exceptions import RedisClusterException, RedisError, ResponseError
from redis.retry import Retry
from redis.sentinel import Sentinel

from attest_web.store_address import RedisAddress
from attest_web.stores.backend import MAX_VALUE, UNREADABLE, BackendError, Result, Write

WRITE_TIMEOUT = 2.0
"""Timeout in seconds of a batch of writes, or of connecting. It is longer than a response waits, as a late write is
better than none."""

READ_TIMEOUT = 0.5
MAX_READERS = 16
"""Largest number of connections for lookups."""

Client = Any
"""redis-py's clients have the same methods but no common base class."""


class RedisBackend:
    """See `Backend`."""

    def __init__(self, address: RedisAddress) -> None:
        """Prepare the backend; nothing is connected yet.

        Args:
            address: The address of the server, the sentinels or the cluster.
        """
        self._writer = _LazyClient(address, WRITE_TIMEOUT, 2)
        self._readers = _LazyClient(address, READ_TIMEOUT, MAX_READERS)

    def write(self, batch: Sequence[Write]) -> list[Result]:
        """See `Backend.write`."""
        now = time.monotonic()
        values = [write.value() for write in batch]

        def send(client: Client) -> list[Result]:
            pipeline = client.pipeline(**_no_transaction(client))
            for write, value in zip(batch, values, strict=True):
                left = max(1, math.ceil(write.expires - now))
                pipeline.set(write.key, value, nx=True, ex=left)
            results = [_result(answer) for answer in _answers(pipeline)]
            taken = [at for at, result in enumerate(results) if result is Result.TAKEN]
            found = _found(client, [batch[at].key for at in taken])
            for at, other in zip(taken, found, strict=True):
                # Perhaps written by this process: an earlier attempt may have succeeded though its response was lost.
                if other == values[at]:
                    results[at] = Result.STORED
                elif other == UNREADABLE:
                    results[at] = Result.REFUSED
            return results

        return _guarded(self._writer, send)

    def read(self, keys: Sequence[str]) -> list[bytes | None]:
        """See `Backend.read`."""
        return _guarded(self._readers, lambda client: _found(client, keys))

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
        BackendError: It failed. redis-py's messages may quote ids, so only the kind of error is passed on.
    """
    try:
        return call(lazy.client())
    except (RedisError, RedisClusterException, OSError) as error:
        raise BackendError(type(error).__name__) from None


def _found(client: Client, keys: Sequence[str]) -> list[bytes | None]:
    """The first bytes of the values of some keys."""
    if not keys:
        return []
    pipeline = client.pipeline(**_no_transaction(client))
    for key in keys:
        pipeline.getrange(key, 0, MAX_VALUE)
    # The response for a missing key is empty.
    return [UNREADABLE if isinstance(answer, Exception) else answer or None for answer in _answers(pipeline)]


def _answers(pipeline: Any) -> list[Any]:
    """Send the commands of a pipeline.

    Returns:
        The result of each; an error if it concerns only this key.

    Raises:
        RedisError: An error that does not concern a single key: the next attempt may succeed.
    """
    answers: list[Any] = pipeline.execute(raise_on_error=False)
    some_are_answered = not all(isinstance(answer, Exception) for answer in answers)
    for answer in answers:
        if isinstance(answer, Exception) and not _is_of_its_key(answer, others_are_answered=some_are_answered):
            raise answer
    return answers


def _is_of_its_key(error: Exception, *, others_are_answered: bool) -> bool:
    # Errors about the server have types of their own: read-only, loading, out of memory, not allowed, …
    code = str(error).partition(" ")[0]
    return type(error) is ResponseError and (code == "WRONGTYPE" or (code == "ERR" and others_are_answered))


def _result(answer: object) -> Result:
    if isinstance(answer, Exception):
        return Result.REFUSED
    return Result.STORED if answer else Result.TAKEN


def _no_transaction(client: Client) -> dict[str, bool]:
    # A cluster has no transactions over several slots, and redis-py's pipeline for it has no such argument.
    return {} if isinstance(client, RedisCluster) else {"transaction": False}


# redis-py's own types end here.
_node: Callable[[str, int], ClusterNode] = ClusterNode
_sentinel: Callable[..., Any] = Sentinel


class _LazyClient:
    """A client that is made on first use: the constructor of a cluster's client connects at once."""

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
            with contextlib.suppress(RedisError, OSError):  # the connection is closed in any case
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
        # One retry, for a connection that was closed while it was idle. A timeout is not retried.
        "retry": Retry(NoBackoff(), 1, supported_errors=(LostConnectionError,)),
    }
    if address.tls:
        options |= {"ssl": True, "ssl_cert_reqs": "required", "ssl_check_hostname": True, **dict(address.tls_files)}
    return options
