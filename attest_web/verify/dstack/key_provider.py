"""The provider of the guest's keys.

dstack's guest asks a KMS that the host names, and takes any that answers: so a host can run a KMS of its own, and then
knows the signing keys, while image and compose file are measured as ever. What gives it away is the key provider in the
boot log. It can be pinned by the verifier, or by the app itself: a guest whose compose document names a
`key_provider_id` does not use the keys of another.
"""

import hashlib
from collections.abc import Collection

from attest_web.verify.dstack.boot_log import KeyProvider, KeyProviderKind
from attest_web.verify.primitives.checks import FailedError, NotAskedError, NotMadeError
from attest_web.verify.primitives.untrusted_json import hex_bytes, parse_object, text

_COMPOSE = "app_compose"


def pinned_by_compose(app_compose: str) -> bytes | None:
    """The id of the key provider that a compose document demands; None where it demands none.

    Raises:
        FailedError: It is no JSON object, or the id is malformed.
    """
    source = parse_object(app_compose, _COMPOSE)
    if source.get("key_provider_id") in (None, ""):
        return None
    return hex_bytes(text(source, "key_provider_id", _COMPOSE), "key_provider_id of app_compose")


def check_key_provider(provider: KeyProvider, expected: Collection[bytes], pinned: bytes | None) -> str:
    """Check that the keys come from a provider that is known; return what was found.

    Args:
        provider: The one in the boot log.
        expected: Ids that will do, or the SHA-256 of them; empty where the verifier knows none.
        pinned: The id that the measured compose document demands, if it does.

    Raises:
        FailedError: They come from another one, or from one that protects nothing from the host.
        NotMadeError: Nothing says whose provider it is. Of a KMS, that need not be said: `NotAskedError`.
    """
    kind, digest = provider.kind, hashlib.sha256(provider.id).digest()
    shown = f"{kind} {digest.hex()} (SHA-256 of its id)" if provider.id else str(kind)
    if kind is KeyProviderKind.TPM:
        raise FailedError("keys are sealed to a TPM, which on plain TDX is a program of the host's: it knows them all")
    if expected:
        if not provider.id or not {provider.id, digest} & set(expected):
            raise FailedError(f"the keys come from {shown}, which is not the expected provider")
        return f"{shown}, as expected"
    if pinned is not None:
        if pinned != provider.id:
            raise FailedError(f"the keys come from {shown}; the compose file demands {pinned.hex()}")
        return f"{shown}, which the compose file demands (key_provider_id)"
    if kind is KeyProviderKind.NONE:
        return "none: the guest has made its keys itself, at random, and loses them when it stops"
    unknown = f"{shown}; the host may have chosen it, and may know its keys: --expect-key-provider pins it"
    raise NotAskedError(unknown) if kind is KeyProviderKind.KMS else NotMadeError(unknown)
