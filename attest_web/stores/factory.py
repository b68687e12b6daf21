"""Makes the signature store that the settings ask for."""

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
    """Make a store. A backend that is down, or not there yet, does not stop the start.

    Args:
        address: Where the signatures go.
        model_name: First part of every key.
        lifetime: Seconds that a signature is kept.
        conflict: Called for every exchange whose id another exchange has used, in any thread.
        fault: Called for every key whose value is unusable, in any thread.
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
