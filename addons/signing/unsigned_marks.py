"""Stores why an exchange was not signed, for clients that request its signature."""

import logging

from addons.exchange.summary import Summary
from attest_web.stores.signature_store import SignatureStore

logger = logging.getLogger(__name__)


class UnsignedMarks:
    """Marks exchanges that have ended unsigned; a listener of `addons.observability.observer`."""

    def __init__(self, store: SignatureStore) -> None:
        self._store = store

    def tell(self, summary: Summary) -> None:
        """Mark an exchange that has ids and no signature; a request that was rejected by its headers has no id."""
        exchange = summary.exchange
        ids = [one for one in (exchange.receipt_id, exchange.chat_id) if one is not None]
        if exchange.state not in ("unsigned", "failed") or exchange.reason is None or not ids:
            return
        try:
            self._store.mark_unsigned(ids, exchange.reason, exchange.credential)
        except Exception as error:
            logger.error("a reason could not be stored: %s", type(error).__name__, exc_info=error)
