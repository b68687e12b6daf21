"""Makes the signature store that the settings name."""

from collections.abc import Callable

from attest_web.store_address import MemoryAddress, SqliteAddress, StoreAddress
from attest_web.stores.backend import Backend
from attest_web.stores.shared import Fault, SharedSignatureStore
from attest_web.stores.signature_store import MemorySignatureStore, SignatureStore
from attest_web.stores.sqlite_backend import SqliteBackend
from attest_web.stores.store_keys import StoreKeys


def open_store(
    address: StoreAddress,
    model_name: str,
    lifetime: float,
    conflict: Callable[[], object],
    fault: Callable[[Fault], object] = lambda _: None,
) -> SignatureStore:
    """Make a store. A backend that is down does not prevent the start.

    Args:
        address: The address of the store.
        model_name: First part of every key.
        lifetime: Seconds that a signature is kept.
        conflict: Called, in any thread, for every exchange whose id is already taken by another.
        fault: Called, in any thread, for every key whose value is unusable.
    """
    local = MemorySignatureStore(model_name, lifetime)
    if isinstance(address, MemoryAddress):
        return local
    backend: Backend
    if isinstance(address, SqliteAddress):
        backend = SqliteBackend(address.path)
    else:
        # Imported here, so that a proxy without Redis does not load its library.
        from attest_web.stores.redis_backend import RedisBackend  # noqa: PLC0415

        backend = RedisBackend(address)
    return SharedSignatureStore(local, backend, StoreKeys(model_name), lifetime, conflict=conflict, fault=fault)
