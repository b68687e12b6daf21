"""The paths of the proof pages."""

from typing import Final

REPORT: Final = "/v1/attestation/report"
SIGNATURE_PREFIX: Final = "/v1/signature/"

PATHS: Final = frozenset({"/", "/version", "/health", "/ready", "/metrics", "/openapi.json", REPORT})
"""All of them but the signatures', whatever the method."""

SIGNATURE: Final = "/v1/signature/{id}"
"""What logs and metrics call the pages of the signatures, whose paths have ids in them."""


def page_name(path: str) -> str | None:
    """What logs and metrics call the page at a path; None where there is none."""
    if path.startswith(SIGNATURE_PREFIX):
        return SIGNATURE
    return path if path in PATHS else None
