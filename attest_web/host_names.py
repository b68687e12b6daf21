"""The names of a server in a certificate: host names and IP addresses."""

import ipaddress
import re
from collections.abc import Sequence
from typing import Final

MAX_COMMON_NAME: Final = 64
"""Longest common name of a certificate, in characters (X.520's ub-common-name; RFC 5280, appendix A.1)."""

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def is_host(name: str) -> bool:
    """Whether it is an IP address, or a host name (RFC 1123, 2.1), whose first label may be `*` (RFC 9525, 6.3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        is_name = re.fullmatch(rf"(\*\.)?({_LABEL}\.)*{_LABEL}", name) is not None
        return is_name and len(name) <= 253 and not name.rpartition(".")[2].isdigit()
    return True


def common_name(names: Sequence[str]) -> str:
    """The common name for a certificate; clients check only its alternative names (RFC 9525, 2).

    Args:
        names: The alternative names.

    Returns:
        The first of them that is short enough, or else `tee-signer`: a truncated host name would name another host.
    """
    return next((name for name in names if len(name) <= MAX_COMMON_NAME), "tee-signer")
