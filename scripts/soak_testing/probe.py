"""A mitmproxy addon for the soak test: reports tasks, connections and flows of the process over a Unix socket."""

import asyncio
import ctypes
import gc
import json
import os

from mitmproxy import ctx, http

SOCKET = "SOAK_PROBE"
"""Environment variable with the path of the Unix socket."""


class SoakProbe:
    """Collects garbage, gives free memory back to the kernel, counts, answers."""

    def __init__(self) -> None:
        self._server: asyncio.Server | None = None

    async def running(self) -> None:
        """Open the socket."""
        if self._server is None:
            self._server = await asyncio.start_unix_server(self._answer, os.environ[SOCKET])

    def done(self) -> None:
        """Close the socket."""
        if self._server is not None:
            self._server.close()

    async def _answer(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)
        counts = {
            "tasks": len(asyncio.all_tasks()),
            "connections": ctx.master.commands.call("proxyserver.active_connections"),
            "flows": sum(isinstance(one, http.HTTPFlow) for one in gc.get_objects()),
        }
        writer.write(json.dumps(counts).encode())
        writer.close()
        await writer.wait_closed()


addons = [SoakProbe()]
