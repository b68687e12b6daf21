"""The side port: a second port for the proof pages, behind the same HTTP front as the port that clients use.

Its connections are handed to mitmproxy's connection handler, so the deadlines, the limits and the drain of the proxied
port hold for them, too. What is different there: it speaks plain HTTP alone, and every request is answered by the proof
pages (`addons.routing.routes`), none of them by the upstream.
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
    """An addon that accepts connections at a port of its own.

    Attributes:
        port: The port.
    """

    def __init__(self, listener: socket.socket) -> None:
        """Take a socket, without accepting yet.

        Args:
            listener: Listens already.
        """
        self.port: int = listener.getsockname()[1]
        self._listener = listener
        self._serving: asyncio.Task[asyncio.Server] | None = None

    def accepted(self, client: Client) -> bool:
        """Whether a client's connection came in at the side port."""
        return bool(client.sockname) and client.sockname[1] == self.port

    def running(self) -> None:
        """Begin to accept."""
        # Not a hook to be awaited: those cannot be, of a script that is loaded again.
        self._serving = asyncio.get_running_loop().create_task(self._serve())
        logger.info("proof pages on side port %d", self.port)

    async def _serve(self) -> asyncio.Server:
        # Never started itself: it listens at the other port. What is wanted is its way to handle a connection.
        instance: ServerInstance[Any] = ServerInstance.make(ctx.options.mode[0], ctx.master.addons.get("proxyserver"))
        return await asyncio.start_server(instance.handle_stream, sock=self._listener, backlog=BACKLOG)

    def server_connect(self, data: ServerConnectionHookData) -> None:
        """See to it that no request is proxied from here, whatever the routes say."""
        if self.accepted(data.client):
            data.server.error = "the side port has no upstream"

    def stop_accepting(self) -> None:
        """Leave new connections to others at the same port; go on with those that are there."""
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
