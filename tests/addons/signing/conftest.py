from collections.abc import Callable
from typing import Any

import pytest

from addons.exchange.exchanges import Exchanges
from addons.signing.signer import Signer, SigningRules
from attest_web.keys import SigningKeys
from attest_web.metrics import Metrics
from attest_web.stores.signature_store import MemorySignatureStore, SignatureStore


@pytest.fixture
def make_signer(
    keys: SigningKeys, store: MemorySignatureStore, exchanges: Exchanges, metrics: Metrics
) -> Callable[..., Signer]:
    def make(other_store: SignatureStore | None = None, **rules: Any) -> Signer:
        return Signer(
            keys,
            store if other_store is None else other_store,
            SigningRules(**rules),
            exchanges=exchanges,
            metrics=metrics,
        )

    return make


@pytest.fixture
def signer(make_signer: Callable[..., Signer]) -> Signer:
    return make_signer()
