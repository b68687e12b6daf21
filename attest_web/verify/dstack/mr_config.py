"""MRCONFIGID: 48 bytes that the host chose when it made the TD; with dstack, they state what is to run in it.

The first byte is the version, and 15 zeros end it:

    00  unset: all bytes are zero
    01  ‖ compose hash
    02  ‖ keccak256(compose hash ‖ app id ‖ kind of the key provider, a byte ‖ its id)
    03  ‖ sha256("dstack-mr-config-v3:" ‖ 00 ‖ document), a JSON document that names these and more

The hardware signs it, and no event can change it. But the host chooses it: it is compared with what the guest has
measured, and where it is unset, it proves nothing.
"""

import hashlib
from collections.abc import Callable
from typing import Any

from attest_web.keys import keccak256
from attest_web.verify.dstack.boot_log import BootLog, KeyProviderKind
from attest_web.verify.primitives.checks import FailedError
from attest_web.verify.primitives.quote import REGISTER_BYTES, TdxQuote
from attest_web.verify.primitives.untrusted_json import JsonObject, hex_bytes, integer, parse_object, text

_DOMAIN = b"dstack-mr-config-v3:\0"
_KIND_BYTES = {
    KeyProviderKind.NONE: 0,
    KeyProviderKind.LOCAL_SGX: 1,
    KeyProviderKind.KMS: 2,
    KeyProviderKind.TPM: 3,
}
_DOCUMENT_NAMES = {kind: str(kind) for kind in KeyProviderKind} | {KeyProviderKind.LOCAL_SGX: "local"}
"""Names of the kinds in documents and in compose documents; the boot log's names are the same except for one."""

_WHAT = "the document of MRCONFIGID"


def is_unset(quote: TdxQuote) -> bool:
    """Whether MRCONFIGID is unset."""
    return not any(quote.mr_config_id)


def check_mr_config_id(quote: TdxQuote, boot: BootLog, document: str | None) -> str:
    """Check that MRCONFIGID states what the guest has measured; return what was found.

    Args:
        quote: The quote.
        boot: Its boot log.
        document: The exact text of the document of version 3, `mr_config` of the report's `vm_config`, or None.

    Raises:
        FailedError: It is unset, of an unknown form, or states something else.
    """
    value = quote.mr_config_id
    if is_unset(quote):
        raise FailedError("it is unset: the host has not stated what is to run in this TD")
    version, digest = value[0], value[1:33]
    if any(value[33:]):
        raise FailedError(f"it is {value.hex()}, which is not of dstack's form")
    if version == 1:
        if digest != boot.compose_hash:
            raise FailedError(f"it names the compose file {digest.hex()}, {boot.compose_hash.hex()} was measured")
        return f"version 1, {value.hex()}: the compose file that was measured"
    if version == 2:
        kind = bytes([_KIND_BYTES[boot.key_provider.kind]])
        if keccak256(boot.compose_hash + boot.app_id + kind + boot.key_provider.id) != digest:
            raise FailedError("it is not made of the compose file, the app id and the key provider that were measured")
        return f"version 2, {value.hex()}: the compose file, the app id and the key provider that were measured"
    if version == 3:
        return f"version 3, {value.hex()}: {_check_document(digest, boot, document)}"
    raise FailedError(f"it is of version {version}, and 1 to 3 are known")


def mr_config_id_v3(document: str) -> bytes:
    """The 48 bytes of MRCONFIGID for a document of version 3."""
    return (b"\3" + hashlib.sha256(_DOMAIN + document.encode()).digest()).ljust(REGISTER_BYTES, b"\0")


def _check_document(digest: bytes, boot: BootLog, document: str | None) -> str:
    if document is None:
        raise FailedError("it is the hash of a document, and the report's vm_config has none (mr_config)")
    if mr_config_id_v3(document)[1:33] != digest:
        raise FailedError("it is not the hash of the document in the report's vm_config (mr_config)")
    source = parse_object(document, _WHAT)
    measured: dict[str, tuple[Callable[[JsonObject, str], Any], Any]] = {
        "version": (_integer, 3),
        "app_id": (_hex, boot.app_id),
        "compose_hash": (_hex, boot.compose_hash),
        "key_provider": (_text, _DOCUMENT_NAMES[boot.key_provider.kind]),
        "key_provider_id": (_hex, boot.key_provider.id),
        "instance_id": (_hex, boot.instance_id),
        "gpu_policy_hash": (_hex, boot.gpu_policy_hash),
        "init_script_hashes": (_hex_list, list(boot.init_script_hashes)),
    }
    if not {"compose_hash", "key_provider"} <= set(source) <= set(measured):
        raise FailedError(f"{_WHAT} has other members than dstack's: {', '.join(sorted(source))}")
    for name in source:
        read, value = measured[name]
        if read(source, name) != value:
            raise FailedError(f"{name!r} in {_WHAT} is not what was measured")
    return f"a document that has {', '.join(sorted(source))} as they were measured"


def _integer(source: JsonObject, name: str) -> int:
    return integer(source, name, _WHAT)


def _text(source: JsonObject, name: str) -> str:
    return text(source, name, _WHAT)


def _hex(source: JsonObject, name: str) -> bytes:
    return hex_bytes(text(source, name, _WHAT), f"{name!r} in {_WHAT}")


def _hex_list(source: JsonObject, name: str) -> list[bytes]:
    value = source[name]
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise FailedError(f"{name!r} in {_WHAT} is not a list of hashes")
    return [hex_bytes(each, f"one of {name!r} in {_WHAT}") for each in value]
