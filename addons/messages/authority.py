"""The authority of a URL (RFC 3986, 3.2): a host, and the port unless it is the scheme's default."""

_USUAL = {"http": 80, "https": 443}


def authority(scheme: str, host: str, port: int) -> str:
    """The value of `Host` (RFC 9110, 7.2), with an IPv6 address in brackets.

    Args:
        scheme: `http` or `https`.
        host: A name, or an address without brackets.
        port: The TCP port.
    """
    written = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return written if port == _USUAL.get(scheme) else f"{written}:{port}"
