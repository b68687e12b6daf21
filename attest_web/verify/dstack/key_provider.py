"""The provider of the guest's keys.

dstack's guest requests its keys from a KMS that the host names, and accepts any KMS. So a host can run a KMS of its own
and know the signing keys, while image and compose file are measured as usual. The key provider in the boot log reveals
this. It can be pinned by the verifier, or by the app itself: a guest whose compose document names a `key_provider_id`
rejects the keys of another provider.
"""

import hashlib
from collections.abc import Collection

from attest_web.verify.dstack.boot_log import KeyProvider, KeyProviderKind
from attest_web.verify.primitives.checks import FailedError, NotAskedError, NotMadeError
from attest_web.verify.primitives.untrusted_json import hex_bytes, parse_object, text

_COMPOSE = "app_compose"


def pinned_by_compose(app_compose: str) -> bytes | None:
    """The id of the key provider that a compose document requires; None where it requires none.

    Raises:
        FailedError: The document is not a JSON object, or the id is malformed.
    """
    source = parse_object(app_compose, _COMPOSE)
    if source.get("key_provider_id") in (None, ""):
        return None
    return hex_bytes(text(source, "key_provider_id", _COMPOSE), "key_provider_id of app_compose")


def check_key_provider(provider: KeyProvider, expected: Collection[bytes], pinned: bytes | None) -> str:
    """Check that the keys come from a known provider; return what was found.

    Args:
        provider: The provider in the boot log.
        expected: Accepted ids, or the SHA-256 of them; empty where the verifier pins none.
        pinned: The id that the measured compose document requires; None where it requires none.

    Raises:
        FailedError: They come from another provider, or from one that does not protect them from the host.
        NotMadeError: The provider is not pinned. For a KMS, pinning is optional: `NotAskedError`.
    """
    kind, digest = provider.kind, hashlib.sha256(provider.id).digest()
    shown = f"{kind} {digest.hex()} (SHA-256 of its id)" if provider.id else str(kind)
    if kind is KeyProviderKind.TPM:
        raise FailedError("keys are sealed to a TPM, which on plain TDX is a program of the host: it knows them all")
    if expected:
        if not provider.id or not {provider.id, digest} & set(expected):
            raise FailedError(f"the keys come from {shown}, which is not the expected provider")
        return f"{shown}, as expected"
    if pinned is not None:
        if pinned != provider.id:
            raise FailedError(f"the keys come from {shown}; the compose file requires {pinned.hex()}")
        return f"{shown}, which the compose file requires (key_provider_id)"
    if kind is KeyProviderKind.NONE:
        return "none: the guest generates random keys itself, and loses them when it stops"
    unknown = f"{shown}; the host may have chosen it, and may know its keys: --expect-key-provider pins it"
    raise NotAskedError(unknown) if kind is KeyProviderKind.KMS else NotMadeError(unknown)
