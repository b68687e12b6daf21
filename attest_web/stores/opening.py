"""Makes the signature store that the settings ask for."""

from collections.abc import Callable

from attest_web.store import MemorySignatureStore, SignatureStore
from attest_web.stores.address import MemoryAddress, SqliteAddress, StoreAddress
from attest_web.stores.shared import SharedSignatureStore
from attest_web.stores.sqlite_backend import SqliteBackend


def open_store(
    address: StoreAddress, model_name: str, lifetime: float, conflict: Callable[[], object]
) -> SignatureStore:
    """Make a store. One that is down, or not there yet, is no reason not to start.

    Args:
        address: Where the signatures go.
        model_name: First part of every key.
        lifetime: Seconds that a signature is kept.
        conflict: Called for every exchange whose id somebody else turns out to have used, in any thread.
    """
    local = MemorySignatureStore(model_name, lifetime)
    if isinstance(address, MemoryAddress):
        return local
    if isinstance(address, SqliteAddress):
        return SharedSignatureStore(local, SqliteBackend(address.path, model_name), lifetime, conflict)
    # Here and not above: who does without Redis shall not carry its library.
    from attest_web.stores.redis_backend import RedisBackend  # noqa: PLC0415

    return SharedSignatureStore(local, RedisBackend(address, model_name), lifetime, conflict)
