"""The side port: the proof pages served by waitress, in a thread that lives and dies with the proxy."""

import socket
import threading
from typing import TYPE_CHECKING

import waitress
from waitress import wasyncore

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIApplication

STOP_TIMEOUT = 5.0
"""Seconds that `stop` waits for the thread. It is a daemon, so it cannot hold the process up any longer than that."""


class SidePort:
    """A WSGI server on a port of its own."""

    def __init__(self, app: "WSGIApplication", host: str, port: int) -> None:
        """Listen, without answering yet.

        Args:
            app: What to serve.
            host: Address to listen at; empty for all of this machine's, IPv4 and IPv6.
            port: Port to listen at; 0 takes a free one.

        Raises:
            OSError: The port is taken or the address is not this machine's.
        """
        listener = _listen(host, port)
        self.port: int = listener.getsockname()[1]
        self._server = waitress.create_server(
            app,
            sockets=[listener],
            threads=32,  # enough for every report that may be waited for, and for signatures beside them
            ident="",
            connection_limit=200,
            channel_timeout=30,
            max_request_header_size=16 * 1024,
            max_request_body_size=64 * 1024,
            clear_untrusted_proxy_headers=True,
        )
        self._thread = threading.Thread(target=self._server.run, name="side port", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering, close every connection and end the thread."""
        if self._thread.is_alive():
            # The server's loop ends when its map of sockets is empty, and only its own thread may empty it.
            self._server.trigger.pull_trigger(lambda: wasyncore.close_all(self._server._map))
            self._thread.join(STOP_TIMEOUT)
        else:
            self._server.close()
        self._server.task_dispatcher.shutdown(timeout=STOP_TIMEOUT)


def _listen(host: str, port: int) -> socket.socket:
    if not host and socket.has_dualstack_ipv6():
        return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family)
