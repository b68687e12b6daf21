"""The side port: a second port for the pages, with the same connection handler as the proxied port.

So the deadlines, the limits and the drain of the proxied port apply to its connections, too. It serves only plain HTTP,
and every request is for the pages (`addons.routing.routes`), none for the upstream.
"""

import asyncio
import logging
import socket
from typing import Any

from mitmproxy import ctx
from mitmproxy.connection import Client
from mitmproxy.proxy.mode_servers import ServerInstance
from mitmproxy.proxy.server_hooks import ServerConnectionHookData

from attest_web.process.listening import BACKLOG

logger = logging.getLogger(__name__)


class ManagementServer:
    """An addon that accepts connections at the side port.

    Attributes:
        port: The port.
    """

    def __init__(self, listener: socket.socket) -> None:
        """Keep a listening socket, without accepting yet.

        Args:
            listener: A socket that listens already.
        """
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._serving: asyncio.Task[asyncio.Server] | None = None

    def accepted(self, client: Client) -> bool:
        """Whether a client's connection came in at the side port."""
        return bool(client.sockname) and client.sockname[1] == self.port

    def running(self) -> None:
        """Start to accept."""
        # A task, as mitmproxy does not await this hook of a script that is reloaded.
        self._serving = asyncio.get_running_loop().create_task(self._serve())
        logger.info("proof pages on side port %d", self.port)

    async def _serve(self) -> asyncio.Server:
        # Never started: it would listen at the proxied port. Only its connection handler is used.
        instance: ServerInstance[Any] = ServerInstance.make(ctx.options.mode[0], ctx.master.addons.get("proxyserver"))
        return await asyncio.start_server(instance.handle_stream, sock=self._listener, backlog=BACKLOG)

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """Reject upstream connections for the side port's clients, regardless of the route."""
        if self.accepted(data.client):
            data.server.error = "the side port has no upstream"

    def stop_accepting(self) -> None:
        """Stop accepting, so that other processes at the port get new connections; keep the open ones."""
        serving, self._serving = self._serving, None
        if serving is not None and serving.done():
            serving.result().close()
            return
        if serving is not None:
            serving.cancel()
        self._listener.close()

    def done(self) -> None:
        """Stop accepting. The connections end with the process."""
        self.stop_accepting()
