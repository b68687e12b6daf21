"""The paths of the proof pages."""

from typing import Final

REPORT: Final = "/v1/attestation/report"
SIGNATURE_PREFIX: Final = "/v1/signature/"

PATHS: Final = frozenset({"/", "/version", "/health", "/ready", "/metrics", "/openapi.json", REPORT})
"""All of them but the signatures' and the front page's files, whatever the method."""

SIGNATURE: Final = "/v1/signature/{id}"
"""What logs and metrics call the pages of the signatures, whose paths have ids in them."""

FILES_PREFIX: Final = "/proof-page/"
"""Where the front page's scripts and styles are."""

FILE: Final = "/proof-page/{name}"
"""What logs and metrics call these files."""


def page_name(path: str) -> str | None:
    """What logs and metrics call the page at a path; None where there is none."""
    if path.startswith(SIGNATURE_PREFIX):
        return SIGNATURE
    if path.startswith(FILES_PREFIX):
        return FILE
    return path if path in PATHS else None
