"""What may stand in a certificate for a server: host names and IP addresses."""

import ipaddress
import re

_LABEL = "[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?"


def is_host(name: str) -> bool:
    """Whether it is an IP address, or a host name (RFC 1123, 2.1), whose first label may be `*` (RFC 9525, 6.3)."""
    try:
        ipaddress.ip_address(name)
    except ValueError:
        is_name = re.fullmatch(rf"(\*\.)?({_LABEL}\.)*{_LABEL}", name) is not None
        return is_name and len(name) <= 253 and not name.rpartition(".")[2].isdigit()
    return True
