"""The app's compose document, which dstack started and whose hash it measured."""

import hashlib

from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.untrusted_json import parse_object


def check_compose(measured: bytes, app_compose: str | None, expected: bytes | None) -> str:
    """Check that the compose document is the one that was measured; return what was found.

    Args:
        measured: The compose hash of the boot log, 32 bytes.
        app_compose: The document, exactly as `tcb_info` has it; None where the evidence has none.
        expected: The SHA-256 that the verifier expects; None for any.

    Raises:
        FailedError: Another one was measured.
        NotMadeError: There is neither a document nor an expected hash.
    """
    if app_compose is not None:
        digest = hashlib.sha256(app_compose.encode()).digest()
        if digest != measured:
            raise FailedError(f"SHA-256 of app_compose is {digest.hex()}, but {measured.hex()} was measured")
    if expected is not None and measured != expected:
        raise FailedError(f"{measured.hex()} was measured, not the expected {expected.hex()}")
    if app_compose is None and expected is None:
        raise NotMadeError(f"{measured.hex()} was measured; --expect-compose-hash compares it with a known hash")
    return f"{measured.hex()} was measured" + (", as expected" if expected is not None else "")


def demands_acpi_check(app_compose: str) -> bool:
    """Whether a compose document requires the legacy variant, in which a verifier checks the ACPI tables.

    Raises:
        FailedError: It is not a JSON object.
    """
    requirements = parse_object(app_compose, "app_compose").get("requirements")
    return isinstance(requirements, dict) and requirements.get("tdx_measure_acpi_tables") is True
