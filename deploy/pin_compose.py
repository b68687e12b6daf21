#!/usr/bin/env python3
"""Writes docker-compose.yaml as dstack is to measure it: with all values in it that are not secret.

A verifier sees this output as `app_compose` in a report. The values of environment variables are in no report, so the
images (by digest), the model and its revision (a commit) must be given. TLS_FROM_DSTACK and TLS_ALT_NAMES are optional,
with the defaults 0 and localhost. Secrets stay variables.

  TEE_SIGNER_IMAGE=… PROMETHEUS_IMAGE=… GRAFANA_IMAGE=… MODEL_NAME=… MODEL_REVISION=… deploy/pin_compose.py > app.yaml

With --app-compose, it writes all of app-compose.json, for dstack 0.6 or newer. Its SHA-256 is the compose hash.

  … KEY_PROVIDER_ID=… GPU_COUNT=… deploy/pin_compose.py --app-compose > app-compose.json
"""

import argparse
import json
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path

COMPOSE = Path(__file__).resolve().with_name("docker-compose.yaml")

_IMAGE = r"[a-z0-9][\w./:-]*@sha256:[0-9a-f]{64}"
_NAME = r"((\*\.)?[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*)"
PINNED = {
    "TEE_SIGNER_IMAGE": (_IMAGE, "an image by its digest: NAME@sha256:…"),
    "PROMETHEUS_IMAGE": (_IMAGE, "an image by its digest: NAME@sha256:…"),
    "GRAFANA_IMAGE": (_IMAGE, "an image by its digest: NAME@sha256:…"),
    "MODEL_NAME": (r"[A-Za-z0-9][\w./-]*", "the name of a model"),
    "MODEL_REVISION": (r"[0-9a-f]{40}", "the commit of the model's repository, 40 hex digits"),
    "TLS_FROM_DSTACK": (r"[01]", "0 or 1: whether dstack makes the TLS key"),
    "TLS_ALT_NAMES": (rf"{_NAME}(,{_NAME})*", "host names and IP addresses, separated by commas, without spaces"),
}
"""The variables that are replaced by their values: by name, the pattern of a value, and its description."""

DEFAULTS = {"TLS_FROM_DSTACK": "0", "TLS_ALT_NAMES": "localhost"}
"""Values of variables that are not given; the same as the defaults in the file."""

APP_PINNED = {
    "KEY_PROVIDER_ID": (
        "3059301306072a8648ce3d020106082a8648ce3d03010703420004[0-9a-f]{128}",
        "the KMS's CA key: a SubjectPublicKeyInfo on P-256 in DER, as 182 hex digits in lower case",
    ),
    "GPU_COUNT": (r"[1-8]", "how many GPUs the app must have, 1 to 8"),
}
"""Further values for app-compose.json, in the same format."""

APP_NAME = "tee-signer"
OS_VERSION = ">=0.6.0"
"""The dstack images that enforce `requirements`, as a requirement of semantic versions."""

PLATFORM = "dstack-tdx"
"""dstack's name for the platform of the proxy's quotes."""

SECRETS = ("TOKEN", "HF_TOKEN", "GRAFANA_PASSWORD")
"""The variables that are not replaced: dstack sets them, encrypted to the app. They are its `allowed_envs`."""

_VARIABLE = re.compile(r"\$\{(\w+)[^}]*\}")


class PinError(Exception):
    """A value is missing or invalid; the message names it."""


def pinned(compose: str, environment: Mapping[str, str]) -> str:
    """Replace the variables of `PINNED` in a compose file by their values.

    Args:
        compose: The file's text.
        environment: The values, by variable.

    Returns:
        The text with the values in it.

    Raises:
        PinError: A value is missing or invalid, or the file has a variable that is neither pinned nor secret.
    """

    def value(match: re.Match[str]) -> str:
        name = match[1]
        if name in SECRETS:
            return match[0]
        if name not in PINNED:
            raise PinError(f"{name} is neither a secret nor pinned")
        return _value(name, PINNED, environment)

    return _VARIABLE.sub(value, compose)


def app_compose(compose: str, environment: Mapping[str, str]) -> str:
    """Make app-compose.json (`AppCompose` of dstack 0.6): the compose file, and requirements for guest and KMS.

    Args:
        compose: The compose file's text, as it is in the repository.
        environment: The values of `PINNED` and `APP_PINNED`, by variable.

    Returns:
        JSON in the format of dstack's `vmm-cli.py`, so that writing it again does not change its hash: an indentation
        of four, and no line end after it.

    Raises:
        PinError: As `pinned` does, and for the values of `APP_PINNED`.
    """
    document = {
        # Guests before 0.6 accept only numbers, so they reject this string instead of ignoring `requirements`.
        "manifest_version": "3",
        "name": APP_NAME,
        "runner": "docker-compose",
        "docker_compose_file": pinned(compose, environment),
        "kms_enabled": True,
        "key_provider": "kms",
        "key_provider_id": _value("KEY_PROVIDER_ID", APP_PINNED, environment),
        "gateway_enabled": False,
        "public_logs": False,
        "public_sysinfo": False,
        "public_tcbinfo": True,
        "allowed_envs": list(SECRETS),
        "no_instance_id": False,
        "secure_time": True,
        "requirements": {
            "os_version": OS_VERSION,
            "platforms": [PLATFORM],
            "tdx_measure_acpi_tables": False,
            "gpu_policy": {"rego": gpu_policy(int(_value("GPU_COUNT", APP_PINNED, environment)))},
        },
    }
    return json.dumps(document, indent=4, ensure_ascii=False)


def gpu_policy(gpus: int) -> str:
    """Make a policy in Rego v0 that lets a guest boot only with this number of attested GPUs.

    Args:
        gpus: The number of GPUs.

    Returns:
        The policy. Its input is the list of NVIDIA's claims, one for each attested GPU.
    """
    return f"package policy\n\ndefault nv_match = false\n\nnv_match {{\n  count(input) == {gpus}\n}}\n"


def _value(name: str, pins: Mapping[str, tuple[str, str]], environment: Mapping[str, str]) -> str:
    form, what = pins[name]
    given = environment.get(name) or DEFAULTS.get(name, "")
    if not re.fullmatch(form, given, re.ASCII):
        raise PinError(f"{name} takes {what}")
    return given


def main() -> None:
    """Print the compose file or app-compose.json."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--app-compose", action="store_true", help="write app-compose.json in place of the compose file"
    )
    write = app_compose if parser.parse_args().app_compose else pinned
    try:
        sys.stdout.write(write(COMPOSE.read_text(), os.environ))
    except PinError as error:
        sys.exit(f"pin_compose: {error}")


if __name__ == "__main__":
    main()
