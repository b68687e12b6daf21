"""The guest agent's endpoint in logs and errors, and the warning about a simulator's."""

import logging
import os
import re
from typing import Final

logger = logging.getLogger(__name__)

SIMULATOR_VARIABLE: Final = "DSTACK_SIMULATOR_ENDPOINT"
"""The environment variables in which `dstack-sdk` takes another endpoint than the guest's socket."""

_LIBRARIES: Final = ("dstack_sdk", "httpx", "httpcore")
"""Loggers of the agent's client. The first quotes the endpoint with its password; the others log a line a call."""


def shown_endpoint(endpoint: str) -> str:
    """An endpoint, a path or an address, in one line and without credentials (RFC 3986, 3.2.1)."""
    printable = "".join(character if character.isprintable() else "?" for character in endpoint)
    return re.sub("//.*@", "//", printable)


def quiet_libraries() -> None:
    """Set the libraries of the agent's client to log warnings and errors only, at every verbosity."""
    for name in _LIBRARIES:
        logging.getLogger(name).setLevel(logging.WARNING)


def warn_of_simulator(*, dev: bool) -> None:
    """Log a warning where keys that look genuine would come from a simulator.

    Args:
        dev: Whether the keys are random anyway (`DEV=1`).
    """
    endpoint = os.environ.get(SIMULATOR_VARIABLE)
    if endpoint is not None and not dev:
        logger.warning(
            "%s is set: keys and quotes come from %s in place of this machine's guest agent; those of a simulator "
            "prove nothing",
            SIMULATOR_VARIABLE,
            shown_endpoint(endpoint),
        )
