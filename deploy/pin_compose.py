#!/usr/bin/env python3
"""Writes docker-compose.yaml as dstack is to measure it: with every value in it that is no secret.

Whoever reads `app_compose` in a report sees what this prints. What an environment variable stood for would be in no
report, so images (by digest), the model and its revision (a commit) must be there. Secrets stay names.

  TEE_SIGNER_IMAGE=… PROMETHEUS_IMAGE=… GRAFANA_IMAGE=… MODEL_NAME=… MODEL_REVISION=… deploy/pin_compose.py > app.yaml
"""

import argparse
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

COMPOSE = Path(__file__).resolve().with_name("docker-compose.yaml")

_IMAGE = r"[a-z0-9][\w./:-]*@sha256:[0-9a-f]{64}"
PINNED = {
    "TEE_SIGNER_IMAGE": (_IMAGE, "an image by its digest: NAME@sha256:…"),
    "PROMETHEUS_IMAGE": (_IMAGE, "an image by its digest: NAME@sha256:…"),
    "GRAFANA_IMAGE": (_IMAGE, "an image by its digest: NAME@sha256:…"),
    "MODEL_NAME": (r"[A-Za-z0-9][\w./-]*", "the name of a model"),
    "MODEL_REVISION": (r"[0-9a-f]{40}", "the commit of the model's repository, 40 hex digits"),
}
"""What is written into the file: by name, its form, and what that is."""

SECRETS = ("TOKEN", "HF_TOKEN", "GRAFANA_PASSWORD")
"""What is not: dstack hands these in, encrypted to the app. They are its `allowed_envs`."""

_VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")


class PinError(Exception):
    """Something is missing or not as it should be; the message names it."""


def pinned(compose: str, environment: Mapping[str, str]) -> str:
    """A compose file with the values of `PINNED` in it.

    Args:
        compose: The file's text.
        environment: Where the values are.

    Raises:
        PinError: A value is missing or of another form, or the file has a variable that is neither pinned nor secret.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in SECRETS:
            return match[0]
        if name not in PINNED:
            raise PinError(f"{name} is neither a secret nor pinned")
        form, what = PINNED[name]
        given = environment.get(name, "")
        if not re.fullmatch(form, given, re.ASCII):
            raise PinError(f"{name} takes {what}")
        return given

    return _VARIABLE.sub(value, compose)


def main() -> None:
    """Print it."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    try:
        sys.stdout.write(pinned(COMPOSE.read_text(), os.environ))
    except PinError as error:
        sys.exit(f"pin_compose: {error}")


if __name__ == "__main__":
    main()
