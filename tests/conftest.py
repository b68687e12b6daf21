import json
from pathlib import Path
from typing import Any

import pytest

from attest_web.keys import SigningKeys

VECTORS = Path(__file__).with_name("vectors.json")
DSTACK_VECTORS = Path(__file__).with_name("dstack-vectors.json")


@pytest.fixture(scope="session")
def vectors() -> dict[str, str]:
    """The wire contract's test vectors."""
    loaded: dict[str, str] = json.loads(VECTORS.read_text())
    return loaded


@pytest.fixture(scope="session")
def dstack_vectors() -> dict[str, Any]:
    """What dstack's own programs and real guests have answered, and attacks on their event logs."""
    loaded: dict[str, Any] = json.loads(DSTACK_VECTORS.read_text())
    return loaded


@pytest.fixture(scope="session")
def keys(vectors: dict[str, str]) -> SigningKeys:
    """The keys of the test vectors."""
    return SigningKeys.from_secrets(bytes.fromhex(vectors["ecdsa_secret"]), bytes.fromhex(vectors["ed25519_seed"]))
