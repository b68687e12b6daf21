"""Sockets to listen on."""

import os
import socket

BACKLOG = 1024
"""Connections that may wait to be accepted: as many as come while a worker is replaced."""


def listen(host: str, port: int, *, shared: bool = False) -> socket.socket:
    """Listen at a port.

    Args:
        host: Address; empty for all of this machine's, IPv4 and IPv6.
        port: Port; 0 takes a free one.
        shared: Whether other sockets of this user may listen at the same port (socket(7), SO_REUSEPORT). The kernel
            then gives each of them its share of the connections.

    Raises:
        OSError: The port is taken or the address is not this machine's.
    """
    try:
        if not host and socket.has_dualstack_ipv6():
            return socket.create_server(
                ("", port), family=socket.AF_INET6, dualstack_ipv6=True, reuse_port=shared, backlog=BACKLOG
            )
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, reuse_port=shared, backlog=BACKLOG)
    except socket.gaierror:
        raise
    except OSError as error:  # without the address, which the caller knows
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None


def listen_reuseport(host: str, port: int, how_many: int) -> list[socket.socket]:
    """Make sockets that share a port.

    Raises:
        OSError: The port is taken or the address is not this machine's.
    """
    # A socket that does not share the port comes first, so that any other process at the port is noticed.
    with listen(host, port) as first:
        port = first.getsockname()[1]
    return [listen(host, port, shared=True) for _ in range(how_many)]
