"""Which release this is, and which revision of the source."""

import subprocess
from importlib import metadata
from pathlib import Path


def release() -> str:
    """The installed release, e.g. `0.1.0`."""
    return metadata.version("tee-signer")


def checkout_revision() -> str | None:
    """The git revision that this code runs from, or None where it runs from no checkout."""
    root = Path(__file__).resolve().parent.parent
    if not (root / ".git").exists():
        return None
    try:
        answer = subprocess.run(  # noqa: S603  # every argument is ours
            ["git", "-C", str(root), "rev-parse", "HEAD"],  # noqa: S607  # git is where the operator has it
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
