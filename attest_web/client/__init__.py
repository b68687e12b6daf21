"""An openai client that verifies every response.

It comes with `pip install 'tee-signer[client]'`; see docs/clients.md.
"""

try:
    import anyio  # noqa: F401
    import httpx2  # noqa: F401
    import openai  # noqa: F401
except ImportError as error:
    raise ImportError(f"attest_web.client needs {error.name}: pip install 'tee-signer[client]'") from error

from attest_web.client.openai_client import (
    VerifiedAsyncOpenAI,
    VerifiedOpenAI,
    proof_of,
    verified_async_openai,
    verified_openai,
)
from attest_web.client.policy_options import attestation_policy
from attest_web.client.proving.errors import MismatchError, ProofError, UnprovenError
from attest_web.client.proving.proof import Proof

__all__ = [
    "MismatchError",
    "Proof",
    "ProofError",
    "UnprovenError",
    "VerifiedAsyncOpenAI",
    "VerifiedOpenAI",
    "attestation_policy",
    "proof_of",
    "verified_async_openai",
    "verified_openai",
]
