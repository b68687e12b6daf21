"""The app's compose document: what dstack started, and measured by its hash."""

import hashlib

from attest_web.verify.primitives.checks import FailedError, NotMadeError
from attest_web.verify.primitives.untrusted_json import parse_object


def check_compose(measured: bytes, app_compose: str | None, expected: bytes | None) -> str:
    """Check that the compose document is the one that was measured; return what was found.

    Args:
        measured: The compose hash of the boot log, 32 bytes.
        app_compose: The document, exactly as `tcb_info` has it; None where it is not shown.
        expected: Its SHA-256 where the verifier knows it.

    Raises:
        FailedError: Another one was measured.
        NotMadeError: It is not shown, and the verifier knows none.
    """
    if app_compose is not None:
        digest = hashlib.sha256(app_compose.encode()).digest()
        if digest != measured:
            raise FailedError(f"SHA-256 of app_compose is {digest.hex()}, but {measured.hex()} was measured")
    if expected is not None and measured != expected:
        raise FailedError(f"{measured.hex()} was measured, not the expected {expected.hex()}")
    if app_compose is None and expected is None:
        raise NotMadeError(f"{measured.hex()} was measured; --expect-compose-hash says whether that will do")
    return f"{measured.hex()} was measured" + (", as expected" if expected is not None else "")


def demands_acpi_check(app_compose: str) -> bool:
    """Whether a compose document demands the legacy variant, in which a verifier checks the ACPI tables.

    Raises:
        FailedError: It is not a JSON object.
    """
    requirements = parse_object(app_compose, "app_compose").get("requirements")
    return isinstance(requirements, dict) and requirements.get("tdx_measure_acpi_tables") is True
