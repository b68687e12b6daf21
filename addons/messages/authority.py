"""The authority of a URL (RFC 3986, 3.2): a host, and the port where it is not the usual one."""

_USUAL = {"http": 80, "https": 443}


def authority(scheme: str, host: str, port: int) -> str:
    """What `Host` says (RFC 9110, 7.2); an IPv6 address stands in brackets there.

    Args:
        scheme: `http` or `https`.
        host: A name or an address, which has no brackets.
        port: As it is connected to.
    """
    written = f"[{host}]" if ":" in host and not host.startswith("[") else host
    return written if port == _USUAL.get(scheme) else f"{written}:{port}"
