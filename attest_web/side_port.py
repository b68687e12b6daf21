"""The side port: the proof pages served by waitress, in a thread that lives and dies with the proxy."""

import socket
import threading
from typing import TYPE_CHECKING

import waitress
from waitress import wasyncore
from waitress.channel import HTTPChannel
from waitress.task import ErrorTask

from attest_web.errors import error_body, error_headers
from attest_web.listening import listen

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIApplication

STOP_TIMEOUT = 5.0
"""Seconds that `stop` waits for the thread. It is a daemon, so it cannot hold the process up any longer than that."""


_MESSAGES = {
    413: "The request body is too large.",
    431: "The request's headers are too large.",
    500: "Something went wrong here; the log has more.",
    501: "This transfer encoding is not spoken here.",
}


class _JsonErrorTask(ErrorTask):  # type: ignore[misc]  # waitress has no types
    """Answers a request that waitress refuses by itself, in the shape of all other errors."""

    def execute(self) -> None:
        status = self.request.error.code
        body = error_body(status, _MESSAGES.get(status, "The request could not be read: it is not valid HTTP."))
        self.status = f"{status} {self.request.error.reason}"
        self.response_headers.extend(error_headers(status).items())
        self.set_close_on_finish()
        self.content_length = len(body)
        self.write(body)


class _Channel(HTTPChannel):  # type: ignore[misc]  # waitress has no types
    error_task_class = _JsonErrorTask


class SidePort:
    """A WSGI server on a port of its own."""

    def __init__(self, app: "WSGIApplication", host: str, port: int, listener: socket.socket | None = None) -> None:
        """Listen, without answering yet.

        Args:
            app: What to serve.
            host: Address to listen at; empty for all of this machine's, IPv4 and IPv6.
            port: Port to listen at; 0 takes a free one.
            listener: A socket that listens already, in place of one at that address.

        Raises:
            OSError: The port is taken or the address is not this machine's.
        """
        listener = listener or listen(host, port)
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
            clear_untrusted_proxy_headers=False,  # whose X-Forwarded-For is believed is decided by the limiter
        )
        self._server.channel_class = _Channel
        self._thread = threading.Thread(target=self._server.run, name="side port", daemon=True)

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop_accepting(self) -> None:
        """Leave new connections to others at the same port; go on with those that are there."""
        self._in_its_thread(lambda: wasyncore.dispatcher.close(self._server))

    def stop(self) -> None:
        """Stop answering, close every connection and end the thread."""
        if self._thread.is_alive():
            self._in_its_thread(self._close_sockets)
            # The trigger comes last: every worker that ends pulls it, and its descriptor must not be another file's.
            self._server.task_dispatcher.shutdown(timeout=STOP_TIMEOUT)
            self._in_its_thread(self._server.trigger.close)
            self._thread.join(STOP_TIMEOUT)  # its loop ends when its map of sockets is empty
        else:
            self._server.task_dispatcher.shutdown(timeout=STOP_TIMEOUT)
            self._server.close()

    def _close_sockets(self) -> None:
        for dispatcher in list(self._server._map.values()):
            if dispatcher is self._server:
                wasyncore.dispatcher.close(dispatcher)  # its own close would take the trigger along
            elif dispatcher is not self._server.trigger:
                dispatcher.close()

    def _in_its_thread(self, step: "Callable[[], None]") -> None:
        """Have the server's thread take a step: only it may touch its sockets.

        The step waits for the pull to be over: the thread may be awake already, and would close what is being pulled.
        """
        pulled, done = threading.Event(), threading.Event()

        def when_pulled() -> None:
            try:
                pulled.wait(STOP_TIMEOUT)
                step()
            finally:
                done.set()

        self._server.trigger.pull_trigger(when_pulled)
        pulled.set()
        done.wait(STOP_TIMEOUT)
