"""A graceful stop: on SIGTERM, new requests are rejected, and requests under way may finish within a time limit.

1. The port and idle connections are closed; `/ready` responds with 503; requests on the remaining connections get 503,
   except those for proof pages. HTTP/2 clients get GOAWAY, and open no new streams.
2. The requests under way are awaited. Those that are not complete in time are cut short, and are not signed.
3. For a short time after the last response, its client can fetch the signature, before the store closes: best at the
   side port, which accepts connections until then. Requests that arrive there meanwhile are awaited, too.

A second SIGTERM skips the remaining steps. SIGINT is handled by mitmproxy, and stops at once.

A proxy that is replaced by another one at the same port retires: it accepts no new connections, closes the open ones
as they become idle, and stops when none is left. Nothing waits for that, so its deadline is long.
"""

import asyncio
import logging
import signal
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mitmproxy import ctx, http
from mitmproxy.connection import Client

from addons.exchange.exchanges import Exchanges
from addons.exchange.route import Kind
from addons.lifecycle.connection_handlers import ConnectionHandlers
from addons.messages.responses import reject

logger = logging.getLogger(__name__)

LINGER = 2.0
"""Seconds for which signatures can still be fetched after the last response has ended."""

CLOSE_TIMEOUT = 2.0
"""Seconds that connections may take to be closed."""

_RETIRING_TICK = 0.25  # as long as streams may last

_TICK = 0.02  # seconds between polls, as no event reports that a connection's transport is closed


@dataclass(frozen=True)
class GracefulExit:
    """The options of a proxy's graceful exit.

    Attributes:
        steps: Functions that are called at its beginning.
        seconds: Time limit.
    """

    steps: Sequence[Callable[[], None]]
    seconds: float


class ManagementPort(Protocol):
    """The port of the management server, which accepts connections longer than the proxied port."""

    def accepted(self, client: Client) -> bool:
        """Whether a client's connection was accepted at this port."""

    def stop_accepting(self) -> None:
        """Accept no new connections."""


class Drain:
    """Stops the proxy when the process is asked to terminate."""

    def __init__(
        self,
        seconds: float,
        draining: threading.Event,
        exchanges: Exchanges,
        side_port: ManagementPort,
        handlers: ConnectionHandlers,
        *,
        retirement: GracefulExit | None = None,
        retire_http2: Callable[[], None] = lambda: None,
        goaway_timeout: float = 0.0,
    ) -> None:
        """Make the addon.

        Args:
            seconds: Time limit for the requests under way.
            draining: Set when the drain begins.
            exchanges: The records, which tell the requests under way and their routes.
            side_port: The side port, which stays open as long as signatures can be fetched.
            handlers: The handlers of the client connections.
            retirement: How this proxy retires; None if it does not.
            retire_http2: Sends GOAWAY to the HTTP/2 clients.
            goaway_timeout: Seconds for GOAWAY to be delivered if no request is under way.
        """
        self._retire_http2 = retire_http2
        self._goaway_timeout = goaway_timeout
        self._retirement = retirement
        self._seconds = seconds
        self._draining = draining
        self._exchanges = exchanges
        self._side_port = side_port
        self._handlers = handlers
        self._hurry = False
        self._task: asyncio.Task[None] | None = None

    def running(self) -> None:
        """Replace mitmproxy's handler of SIGTERM, which would stop at once."""
        try:
            asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._on_sigterm)
        except (NotImplementedError, RuntimeError):  # Windows, or not the main thread: then it stops at once
            logger.debug("SIGTERM cannot be taken over")

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Reject new requests once the drain has begun."""
        exchange = self._exchanges.of(flow)
        new_work = self._draining.is_set() and exchange.route.kind is not Kind.PROOF
        if new_work and flow.error is None and flow.response is None:
            headers = {"connection": "close", "retry-after": "1"}
            reject(flow, 503, "This server is about to stop. Send the request again, to another one.", headers)

    def done(self) -> None:
        """Cancel the drain."""
        if self._task is not None:
            self._task.cancel()

    def retire(self) -> None:
        """Stop accepting connections, and stop the proxy once all of them are closed."""
        if self._task is None and self._retirement is not None:
            self._task = asyncio.get_running_loop().create_task(self._retire(self._retirement))

    async def _retire(self, retirement: GracefulExit) -> None:
        ctx.options.update(server=False)
        for step in retirement.steps:
            step()
        logger.info("retiring: stopping when %d connections are done", len(self._handlers))
        await self._until(lambda: not self._handlers, retirement.seconds, _RETIRING_TICK)
        if not self._draining.is_set():
            ctx.master.shutdown()

    def terminate(self) -> None:
        """Stop as on SIGTERM."""
        if not self._draining.is_set():
            self._on_sigterm()

    def _on_sigterm(self) -> None:
        if self._draining.is_set():
            logger.warning("SIGTERM again: stopping at once")
            self._hurry = True
        else:
            self._draining.set()
            if self._task is not None:
                self._task.cancel()  # the deadline has passed
            self._task = asyncio.get_running_loop().create_task(self._drain())

    async def _drain(self) -> None:
        deadline = time.monotonic() + self._seconds
        try:
            ctx.options.update(server=False)
            under_way = self._under_way()
            logger.info("SIGTERM: stopping when %d requests are done, in %g s at most", len(under_way), self._seconds)
            at_side_port = {h.client.id for h in self._handlers if self._side_port.accepted(h.client)}
            self._retire_http2()
            await self._close({flow.client_conn.id for flow in under_way} | at_side_port | self._with_http2())
            if not under_way:
                await self._until(lambda: not self._with_http2(), min(self._seconds, self._goaway_timeout))
            else:
                await self._until(lambda: not self._under_way(), self._seconds)
                if cut := len(self._under_way()):
                    logger.warning("stopping, %d requests are cut", cut)
                else:
                    logger.info("stopping, all requests are done")
                if cut < len(under_way):
                    await self._until(lambda: False, LINGER)
            self._side_port.stop_accepting()
            await self._until(lambda: not self._under_way(), deadline - time.monotonic())
            await self._close(set())
        finally:
            ctx.master.shutdown()

    def _under_way(self) -> list[http.HTTPFlow]:
        return [flow for flow in self._exchanges.flows() if flow.live and flow.client_conn.id in self._handlers]

    def _with_http2(self) -> set[str]:
        return {handler.client.id for handler in self._handlers if handler.client.alpn == b"h2"}

    async def _close(self, spared: set[str]) -> None:
        """Close all connections but some, as mitmproxy closes those that have been idle for too long."""
        closing = [handler for handler in self._handlers if handler.client.id not in spared]
        for handler in closing:
            io = handler.transports.get(handler.client)
            if io is not None and io.handler is not None:
                io.handler.cancel("the proxy is stopping")
        ids = {handler.client.id for handler in closing}
        await self._until(lambda: not any(client_id in self._handlers for client_id in ids), CLOSE_TIMEOUT)

    async def _until(self, condition: Callable[[], bool], seconds: float, tick: float = _TICK) -> None:
        deadline = time.monotonic() + seconds
        while not condition() and not self._hurry and time.monotonic() < deadline:  # noqa: ASYNC110  # see _TICK
            await asyncio.sleep(tick)
