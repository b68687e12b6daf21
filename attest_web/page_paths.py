"""The paths of the proof pages."""

from typing import Final

REPORT: Final = "/v1/attestation/report"
SIGNATURE_PREFIX: Final = "/v1/signature/"

PATHS: Final = frozenset({"/", "/version", "/health", "/ready", "/metrics", "/openapi.json", REPORT})
"""All paths except those of signatures and of the front page's files, for any method."""

SIGNATURE: Final = "/v1/signature/{id}"
"""Name of the signature pages in logs and metrics, as their paths contain ids."""

FILES_PREFIX: Final = "/proof-page/"
"""Path prefix of the front page's scripts and styles."""

FILE: Final = "/proof-page/{name}"
"""Name of these files in logs and metrics."""


def page_name(path: str) -> str | None:
    """Name in logs and metrics of the page at a path; None if there is no page."""
    if path.startswith(SIGNATURE_PREFIX):
        return SIGNATURE
    if path.startswith(FILES_PREFIX):
        return FILE
    return path if path in PATHS else None
